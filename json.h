/*
 * json.h - JSON (RFC 8259) of others, read strictly: one object or array, within bounds, and nothing else.
 *
 * What is taken has one meaning: UTF-8 without a byte order mark, no name twice in an object (at any level, compared as the strings
 * they mean), no lone surrogate, no U+0000, nothing but white space around it. A value is named by a number, the root is 0, and -1
 * is the value that is not there: every function takes it, so that look-ups can be chained.
 */
#ifndef JSON_H
#define JSON_H

#include "text.h"

#define JSON_DEPTH_MAX 16	/* objects and arrays around a value */
#define JSON_ROOT 0
#define JSON_INTEGER_MAX (INT64_C(1) << 53)	/* up to here every integer is a double */

enum json_type { JSON_ABSENT, JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* All zero is empty: it has no values. */
struct json {
	struct span		 text;		/* borrowed until json_clear() */
	struct json_token	*tokens;	/* owned */
	size_t			 n;
};

/*
 * Read text, which stays in use. values_max: of values and names together. 0, or -1 with *why, a constant; then j is empty.
 * json_clear() ends it.
 */
int		json_parse(struct json *j, struct span text, size_t values_max, const char **why);
void		json_clear(struct json *j);
/*
 * In a text that repeats octets of strangers: in strings, what json_parse() would not take becomes "?" (octets that are no UTF-8, control
 * octets) or U+FFFD (U+0000, lone surrogates), each in its place. All else stays.
 */
void		json_mend(char *text, size_t len);

enum json_type	json_type(const struct json *j, int value);
/* The member of an object; -1: it has none of that name, or is no object. */
int		json_get(const struct json *j, int object, struct span name);
/* The value after previous (-1: the first) in an array or object; -1: there is none, or it is neither. */
int		json_next(const struct json *j, int container, int previous);

/* A string into dst[size] with a NUL: its length, or -1 (then dst is the empty string): it is none, or does not fit. */
long		json_string(const struct json *j, int value, char *dst, size_t size);
/* The same for the name of an object's value, as json_next() found it. */
long		json_name(const struct json *j, int value, char *dst, size_t size);
/* As much of a string as fits, whole characters: its length, or -1: it is none. */
long		json_start(const struct json *j, int value, char *dst, size_t size);
/* A string for the log: cut to size - 1 octets, "?" for what is not printable ASCII; "" when it is none. */
void		json_printable(const struct json *j, int value, char *dst, size_t size);
/* Whether it is a string, and equal to s. */
bool		json_is(const struct json *j, int value, struct span s);
/* A number, as near as a double comes: 0, or -1 (then *n is not touched): it is none, or too large for a double. */
int		json_double(const struct json *j, int value, double *n);
/* A number with its fraction cut off: 0, or -1 (then *n is not touched): it is none, or not within +-JSON_INTEGER_MAX. */
int		json_i64(const struct json *j, int value, int64_t *n);

#endif
