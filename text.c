/*
 * text.c - spans of octets, ASCII classes, numbers, base64.
 */
#include "text.h"

#define DG (C_DIGIT | C_ATEXT | C_VCHAR | C_HEX)
#define HX (C_ALPHA | C_ATEXT | C_VCHAR | C_HEX)
#define AL (C_ALPHA | C_ATEXT | C_VCHAR)
#define AT (C_ATEXT | C_VCHAR)
#define VC C_VCHAR
#define CT C_CNTRL

const uint8_t text_class[256] = {
	CT, CT, CT, CT, CT, CT, CT, CT, CT, CT | C_WSP, CT, CT, CT, CT, CT, CT,
	CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT,
	/* space ! " # $ % & ' ( ) * + , - . / */
	C_WSP, AT, VC, AT, AT, AT, AT, AT, VC, VC, AT, AT, VC, AT, VC, AT,
	DG, DG, DG, DG, DG, DG, DG, DG, DG, DG,
	/* : ; < = > ? @ */
	VC, VC, VC, AT, VC, AT, VC,
	HX, HX, HX, HX, HX, HX, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL,
	/* [ \ ] ^ _ ` */
	VC, VC, VC, AT, AT, AT,
	HX, HX, HX, HX, HX, HX, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL, AL,
	/* { | } ~ DEL; the rest is 0: 8-bit octets are of no class */
	AT, AT, AT, AT, CT,
};

struct span
text_span(const char *s)
{
	return (struct span){ s, s == NULL ? 0 : strlen(s) };
}

struct span
text_sub(struct span s, size_t from, size_t to)
{
	if (to > s.len)
		to = s.len;
	if (from > to)
		from = to;
	return (struct span){ s.p == NULL ? NULL : s.p + from, to - from };
}

struct span
text_trim(struct span s)
{
	while (s.len > 0 && is_class(s.p[0], C_WSP)) {
		s.p++;
		s.len--;
	}
	while (s.len > 0 && is_class(s.p[s.len - 1], C_WSP))
		s.len--;
	return s;
}

bool
text_token(struct span *rest, const char *separators, struct span *token)
{
	size_t n = 0;

	if (rest->len == 0)
		return false;
	while (n < rest->len && (rest->p[n] == '\0' || strchr(separators, rest->p[n]) == NULL))
		n++;
	*token = text_sub(*rest, 0, n);
	*rest = text_sub(*rest, n + 1, rest->len);
	return true;
}

bool
text_eq(struct span a, struct span b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

bool
text_eq_nocase(struct span a, struct span b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		if (text_lower(a.p[i]) != text_lower(b.p[i]))
			return false;
	return true;
}

bool
text_is(struct span a, const char *s)
{
	return text_eq(a, text_span(s));
}

bool
text_is_nocase(struct span a, const char *s)
{
	return text_eq_nocase(a, text_span(s));
}

bool
text_starts(struct span a, const char *prefix)
{
	size_t n = strlen(prefix);

	return a.len >= n && (n == 0 || memcmp(a.p, prefix, n) == 0);
}

bool
text_starts_nocase(struct span a, const char *prefix)
{
	size_t n = strlen(prefix);

	return a.len >= n && text_eq_nocase(text_sub(a, 0, n), text_span(prefix));
}

size_t
text_find(struct span s, char c)
{
	const char *p = s.len == 0 ? NULL : memchr(s.p, c, s.len);

	return p == NULL ? SIZE_MAX : (size_t)(p - s.p);
}

bool
text_has(struct span s, unsigned classes)
{
	for (size_t i = 0; i < s.len; i++)
		if (is_class(s.p[i], classes))
			return true;
	return false;
}

int
text_u64(struct span s, uint64_t max, uint64_t *n)
{
	uint64_t v = 0;

	if (s.len == 0)
		return -1;
	for (size_t i = 0; i < s.len; i++) {
		unsigned digit;

		if (!is_digit(s.p[i]))
			return -1;
		digit = (unsigned)(s.p[i] - '0');
		if (v > max / 10 || (v == max / 10 && digit > max % 10))
			return -1;
		v = v * 10 + digit;
	}
	*n = v;
	return 0;
}

int
text_copy(char *dst, size_t size, struct span s)
{
	if (s.len >= size || text_find(s, '\0') != SIZE_MAX) {
		if (size > 0)
			dst[0] = '\0';
		return -1;
	}
	if (s.len > 0)
		memcpy(dst, s.p, s.len);
	dst[s.len] = '\0';
	return 0;
}

size_t
text_utf8_len(struct span s)
{
	const unsigned char *u = (const unsigned char *)s.p;
	unsigned char lo = 0x80, hi = 0xbf;	/* the bounds of the second octet, RFC 3629 4 */
	size_t n;

	if (u[0] < 0x80)
		return 1;
	if (u[0] < 0xc2 || u[0] > 0xf4)
		return 0;
	n = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
	if (u[0] == 0xe0)
		lo = 0xa0;
	else if (u[0] == 0xed)
		hi = 0x9f;
	else if (u[0] == 0xf0)
		lo = 0x90;
	else if (u[0] == 0xf4)
		hi = 0x8f;
	if (s.len < n || u[1] < lo || u[1] > hi)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

bool
text_is_utf8(struct span s)
{
	for (size_t i = 0, n; i < s.len; i += n) {
		n = (unsigned char)s.p[i] < 0x80 ? 1 : text_utf8_len(text_sub(s, i, s.len));
		if (n == 0)
			return false;
	}
	return true;
}

unsigned
text_distance(const char *a, const char *b)
{
	unsigned row[65];
	size_t na = strlen(a), nb = strlen(b);

	if (na > 64 || nb > 64)
		return (unsigned)(na > nb ? na : nb);
	for (size_t j = 0; j <= nb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			unsigned best = diagonal + (text_lower(a[i - 1]) != text_lower(b[j - 1]));

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[nb];
}

static const char base64_alphabet[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* c62, c63: the two digits in which the alphabets of RFC 4648 4 and 5 differ. */
static int
base64_value(char c, char c62, char c63)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == c62 ? 62 : c == c63 ? 63 : -1;
}

/* Digits alone, without padding. */
static long
base64_decode(struct span s, char c62, char c63, char *dst, size_t size)
{
	size_t out = 0;

	for (size_t i = 0; i < s.len; i += 4) {
		size_t have = s.len - i < 4 ? s.len - i : 4;
		uint32_t v = 0;

		for (size_t k = 0; k < 4; k++) {
			int d = k < have ? base64_value(s.p[i + k], c62, c63) : 0;

			if (d == -1)
				return -1;
			v = v << 6 | (uint32_t)d;
		}
		if (have == 1 || (v & (have == 3 ? 0xffu : have == 2 ? 0xffffu : 0)) != 0)
			return -1;
		for (size_t k = 0; k + 1 < have; k++) {
			if (out == size)
				return -1;
			dst[out++] = (char)(v >> (16 - 8 * k) & 0xff);
		}
	}
	return (long)out;
}

long
text_base64_decode(struct span s, char *dst, size_t size)
{
	unsigned pad = 0;

	if (s.len % 4 != 0)
		return -1;
	while (pad < 2 && pad < s.len && s.p[s.len - 1 - pad] == '=')
		pad++;
	return base64_decode(text_sub(s, 0, s.len - pad), '+', '/', dst, size);
}

long
text_base64url_decode(struct span s, char *dst, size_t size)
{
	return base64_decode(s, '-', '_', dst, size);
}

long
text_base64_encode(struct span s, char *dst, size_t size)
{
	size_t out = 0;

	if (size == 0 || s.len / 3 + (s.len % 3 != 0) > (size - 1) / 4)
		return -1;
	for (size_t i = 0; i < s.len; i += 3) {
		size_t have = s.len - i < 3 ? s.len - i : 3;
		uint32_t v = 0;

		for (size_t k = 0; k < 3; k++)
			v = v << 8 | (k < have ? (unsigned char)s.p[i + k] : 0u);
		for (size_t k = 0; k < 4; k++)
			dst[out++] = k <= have ? base64_alphabet[v >> (18 - 6 * k) & 63] : '=';
	}
	dst[out] = '\0';
	return (long)out;
}
