/*
 * config_load.h - values on their way into the configuration: where they come from, sections, errors. Internal to config*.c.
 */
#ifndef CONFIG_LOAD_H
#define CONFIG_LOAD_H

#include "config_keys.h"

enum from { FROM_DEFAULT, FROM_FILE, FROM_ENV, FROM_FLAG };
enum section { SEC_OURS, SEC_SHARED, SEC_UNKNOWN, SEC_FOREIGN, SEC_NONE };

struct origin {
	enum from	from;
	unsigned	line;
	bool		bad;	/* reported already, so what depends on it is not checked */
};

struct config_origins {
	char		*file;	/* owned; NULL: none */
	struct origin	 at[][GROUP_MAX];	/* one row for each of config_keys */
};

struct loader {
	struct config	*c;
	struct buf	*errors;
	const char	*file;		/* as errors name it */
	char *const	*environ;
	char		 where[640];	/* what is being read: file:line, a variable, a flag */
	bool		 bad, full;	/* an error was reported; there was no room for one */
	enum from	 from;
	unsigned	 line;
	enum section	 section;	/* of the file's keys to come; SEC_NONE: before the first */
	const char	*known;		/* its name in the table */
	size_t		 i;		/* which element, where it is a group's */
};

/* Where the value of a key came from. i: which element's of a group, else 0; so in all that follows. */
struct origin		*key_origin(const struct config *c, const struct key *k, size_t i);
/* Whether its value was reported already, so that what depends on it is not checked. */
bool			 key_is_bad(const struct config *c, const struct key *k, size_t i);
/* Whether it was set anywhere. */
bool			 key_is_given(const struct config *c, const struct key *k, size_t i);
/* One line to errors, with the place that its value came from. */
void			 key_error(struct loader *l, const struct key *k, size_t i, const char *fmt, ...) PRINTF_LIKE(4, 5);
void			 key_warning(struct loader *l, const struct key *k, size_t i, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* An error of the whole file. */
void			 config_error(struct loader *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The variable of a key: [smtpd.limits] max_errors is SMTPD_LIMITS_MAX_ERRORS. name: its section's NAME, or "". */
const char		*key_env_name(struct buf *out, const struct key *k, const char *name);

/* One line to errors: l->where, what; what it quotes cannot break the line. */
void			 load_error(struct loader *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* From now on errors are of this line; 0: of the whole file. */
void			 load_at_line(struct loader *l, unsigned line);
/* NULL if a value may have these octets, so that it can be written in a file: printable, tab, UTF-8; else what is wrong. */
const char		*load_bad_octets(struct span s);

/*
 * Whose a section is. *known is the table's name of it, or the nearest one of another; *name is what follows a group's word.
 * A near miss begins with the same letter, or its first two are swapped: [imapd] is another daemon's.
 */
enum section		 section_kind(struct span s, const char **known, struct span *name);
/* Keys to come are of section s, as a file or a flag has it. */
void			 load_section(struct loader *l, struct span s);
/* Keys to come are of this section of the table, and of the element with this name where it is a group's. */
void			 load_section_of(struct loader *l, const char *section, struct span name);
/* Which element of the group has this name, one being made if there is none; SIZE_MAX: reported. */
size_t			 load_element(struct loader *l, const struct group *g, struct span name);

/* One value, from where l is; what is wrong with it is reported. */
void			 load_value(struct loader *l, const struct key *k, size_t i, struct span value);
/* Every key of element i of a group gets its default, or with NULL every key that is in none. */
void			 load_defaults(struct loader *l, const struct group *g, size_t i);
/* An unknown key of our section, element i of it: what to write instead. */
void			 load_unknown(struct loader *l, const char *section, size_t i, struct span name);

#endif
