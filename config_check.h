/*
 * config_check.h - what config.c, which reads values one by one, and config_check.c, which compares them, share. Internal to config*.c.
 */
#ifndef CONFIG_CHECK_H
#define CONFIG_CHECK_H

#include "config_keys.h"

enum from { FROM_DEFAULT, FROM_FILE, FROM_ENV, FROM_FLAG };
enum section { SEC_OURS, SEC_SHARED, SEC_UNKNOWN, SEC_FOREIGN, SEC_NONE };

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

/* Whether its value was reported already, so that what depends on it is not checked. i: which element's of a group, else 0. */
bool			 key_is_bad(const struct config *c, const struct key *k, size_t i);
/* Whether it was set anywhere. */
bool			 key_is_given(const struct config *c, const struct key *k, size_t i);
/* One line to errors, with the place that its value came from. */
void			 key_error(struct loader *l, const struct key *k, size_t i, const char *fmt, ...) PRINTF_LIKE(4, 5);
void			 key_warning(struct loader *l, const struct key *k, size_t i, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* An error of the whole file. */
void			 config_error(struct loader *l, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* What depends on two keys, or on the system; and what is derived from values. */
void			 config_check(struct loader *l);

#endif
