/*
 * config_value.h - the values of keys: what is read from text, printed as text, and freed. Internal to config*.c.
 */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include "config.h"

#define CONFIG_VALUE_MAX 7000	/* octets of a value as config_print() writes it: a line of the file with its key and origin */
#define SECRET_MAX 1024		/* octets of a secret */
#define MEANT_MAX 64		/* octets of a name that may be a slip: what text_distance() compares */
#define ARG(s) (int)((s).len < 100 ? (s).len : 100), (s).p	/* "%.*s": the offending text */

struct type;

/* One row of the table. */
struct key {
	const char		*section, *name;
	const struct type	*type;
	size_t			 offset;	/* of the field in struct config, or in an element of a group */
	const char		*dflt;
	uint64_t		 lo, hi;	/* of numbers, octets, milliseconds; lo: of a word's length, the first choice of an enumeration */
	const char *const	*choices;	/* of an enumeration; NULL ends them */
	const char		*sample;	/* the sample file's value; NULL: the default, commented out; "#...": this, commented out */
	const char		*help;
};

struct type {
	/* false with *why: what is wrong with s and what to write; then the field is as it was. */
	bool	(*parse)(const struct key *k, struct span s, void *field, struct buf *why);
	void	(*print)(const struct key *k, const void *field, struct buf *out);
	void	(*clear)(void *field);	/* NULL: nothing to free */
};

/* Enumerations are stored as unsigned. */
extern const struct type type_hostname, type_user, type_path, type_address, type_command, type_domains, type_paths, type_texts,
    type_word, type_url, type_service, type_milter, type_secret, type_networks, type_enum, type_bool, type_number, type_size, type_time;

#endif
