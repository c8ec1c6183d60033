/*
 * config_keys.h - the table of keys, and where the value of each is. Internal to config*.c.
 */
#ifndef CONFIG_KEYS_H
#define CONFIG_KEYS_H

#include "config_value.h"

/* Sections that more than one row or a check names. */
#define LISTENER "smtpd.listener"
#define OAUTH "smtpd.auth.oauth"
#define DELIVERY "smtpd.delivery"
#define RELAY "smtpd.relay"
#define TLS "server.tls"
#define AUTH "smtpd.auth"
#define METRICS "smtpd.metrics"
#define LIMITS "smtpd.limits"
#define TIMEOUTS "smtpd.timeouts"
#define SPAMCHECK "spamcheck"
#define CHECKER "spamcheck.checker"
#define MILTER "smtpd.milter"
#define HOOK "smtpd.hook"
#define SPAMTRAP "smtpd.spamtrap"

#define GROUP_MAX 16	/* elements of any group */

/* Sections of which there may be several, [section NAME], each an element of an array in struct config. */
struct group {
	const char	*section;
	const char	*what;		/* an element, as errors call it */
	const char	*example;	/* a NAME to write; NULL: one of them may be without */
	size_t		 offset, n_offset;	/* of the array, and of how many are in use */
	size_t		 size, max;
};

extern const struct key config_keys[];		/* those of one section side by side; a secret, then the key of the file that holds it */
extern const size_t config_keys_n;
extern const struct group config_groups[];
extern const size_t config_groups_n;

const struct key	*key_find(const char *section, const char *name);
/* The field of key k, of element i where it is a group's. */
void			*key_field(const struct config *c, const struct key *k, size_t i);

/* NULL: there is one such section, without a name. */
const struct group	*group_find(const char *section);
size_t			*group_n(const struct config *c, const struct group *g);
/* An element, which begins with its name. */
char			*group_element(const struct config *c, const struct group *g, size_t i);

/* The next different section of the table after s (NULL: the first); NULL at its end. */
const char		*section_next(const char *s);
/* How many there are of a section of the table. */
size_t			 section_count(const struct config *c, const char *section);
/* The NAME of a section; "": it has none. */
const char		*section_name(const struct config *c, const char *section, size_t i);

#endif
