/*
 * text.h - spans of octets, ASCII classes, numbers, base64.
 *
 * A span is octets that someone else owns: not NUL-terminated, never freed through the span.
 */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct span {
	const char	*p;
	size_t		 len;
};

#define SPAN(literal) ((struct span){ "" literal, sizeof(literal) - 1 })

/* The classes of an octet, one bit each; text_class[] has a row for each of the 256. */
enum {
	C_DIGIT = 1,	/* 0-9 */
	C_ALPHA = 2,	/* A-Z a-z */
	C_ATEXT = 4,	/* RFC 5322 3.2.3 */
	C_VCHAR = 8,	/* 33-126 */
	C_HEX = 16,	/* 0-9 A-F a-f */
	C_CNTRL = 32,	/* 0-31, 127 */
	C_WSP = 64,	/* space, tab */
};

extern const uint8_t text_class[256];

static inline bool
is_class(char c, unsigned classes)
{
	return (text_class[(unsigned char)c] & classes) != 0;
}

static inline bool
is_digit(char c)
{
	return is_class(c, C_DIGIT);
}

static inline bool
is_alnum(char c)
{
	return is_class(c, C_DIGIT | C_ALPHA);
}

static inline bool
is_atext(char c)
{
	return is_class(c, C_ATEXT);
}

static inline bool
is_vchar(char c)
{
	return is_class(c, C_VCHAR);
}

static inline bool
is_8bit(char c)
{
	return ((unsigned char)c & 0x80) != 0;
}

static inline char
text_lower(char c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* The span of a NUL-terminated string; NULL is the empty span. */
struct span	text_span(const char *s);
/* Octets from..to of s, to excluded; both are cut to s's length. */
struct span	text_sub(struct span s, size_t from, size_t to);
/* s without leading and trailing spaces and tabs. */
struct span	text_trim(struct span s);
/* The next word of *rest up to one of the separators (a set of octets), which is skipped; false when *rest was empty. */
bool		text_token(struct span *rest, const char *separators, struct span *token);

bool		text_eq(struct span a, struct span b);
/* Equal with ASCII letters folded, other octets as they are. */
bool		text_eq_nocase(struct span a, struct span b);
bool		text_is(struct span a, const char *s);
bool		text_is_nocase(struct span a, const char *s);
bool		text_starts(struct span a, const char *prefix);
bool		text_starts_nocase(struct span a, const char *prefix);
/* The position of c, or SIZE_MAX. */
size_t		text_find(struct span s, char c);
/* Whether any octet is of one of the classes. */
bool		text_has(struct span s, unsigned classes);

/*
 * A decimal number without sign, spaces or other octets: 0..max.
 * Returns 0, or -1 when s is no such number or is larger than max (then *n is not touched).
 */
int		text_u64(struct span s, uint64_t max, uint64_t *n);
/* Copy s and a NUL into dst[size]; -1 when it does not fit (dst is then the empty string) or holds a NUL. */
int		text_copy(char *dst, size_t size, struct span s);
/* Whether s is well-formed UTF-8 (RFC 3629: no surrogates, nothing over U+10FFFF, shortest forms). */
bool		text_is_utf8(struct span s);

/*
 * The next octets of s as UTF-8 would have them: the length of the well-formed sequence it begins with (1 to 4), or 0
 * when it begins with none. s is not empty.
 */
size_t		text_utf8_len(struct span s);

/* The edit distance (Levenshtein) of two short ASCII words, at most 64 octets each; larger words: their length. For "did you mean". */
unsigned	text_distance(const char *a, const char *b);

/*
 * Base64 (RFC 4648 4), padded, no other octets, unused bits zero.
 * Returns the number of octets decoded into dst[size], or -1 (not base64, or more than size).
 */
long		text_base64_decode(struct span s, char *dst, size_t size);
/* The same of base64url (RFC 4648 5) without padding, as RFC 7515 2 has it. */
long		text_base64url_decode(struct span s, char *dst, size_t size);
/* Encode with padding into dst[size] with a NUL; returns the length, or -1 when it does not fit. */
long		text_base64_encode(struct span s, char *dst, size_t size);

#endif
