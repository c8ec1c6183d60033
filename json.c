/*
 * json.c - strict JSON: the grammar is checked here, jsmn then cuts the text into tokens.
 *
 * jsmn alone takes much that RFC 8259 does not (names without values, any word that begins like a number, wrong escapes), but
 * cuts whatever the grammar allows exactly. No recursion; time is linear in the text but for sorting the names.
 */
#include "json.h"

#include <math.h>
#include <stdlib.h>

#define JSMN_STATIC
#define JSMN_STRICT
#define JSMN_PARENT_LINKS	/* without them, closing a container looks through all tokens before it */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include "jsmn.h"
#pragma GCC diagnostic pop

struct json_token {
	jsmntok_t	t;	/* the only member: an array of these is an array of jsmn's */
};

/* ---- the grammar ---- */

enum expect {
	EX_ROOT,	/* an object or array */
	EX_VALUE,
	EX_VALUE_OR_END,	/* after [ */
	EX_NAME,
	EX_NAME_OR_END,	/* after { */
	EX_COLON,
	EX_COMMA_OR_END,
	EX_NOTHING,	/* the root is complete */
};

struct grammar {
	struct span	 s;
	size_t		 at;
	size_t		 values;
	size_t		 depth;
	char		 closing[JSON_DEPTH_MAX];	/* what ends each open container: } or ] */
	const char	*why;
};

static bool
fail(struct grammar *g, const char *why)
{
	g->why = why;
	return false;
}

/* The octet at the cursor; NUL at the end, which is no octet of JSON. */
static char
peek(const struct grammar *g)
{
	return g->at < g->s.len ? g->s.p[g->at] : '\0';
}

static bool
take(struct grammar *g, char c)
{
	if (peek(g) != c || g->at == g->s.len)
		return false;
	g->at++;
	return true;
}

/* The value of four hex digits, or -1. */
static int
hex4(struct span s)
{
	int v = 0;

	if (s.len < 4)
		return -1;
	for (size_t i = 0; i < 4; i++) {
		char c = text_lower(s.p[i]);

		if (!is_class(c, C_HEX))
			return -1;
		v = v << 4 | (is_digit(c) ? c - '0' : c - 'a' + 10);
	}
	return v;
}

static bool
is_high(int unit)
{
	return unit >= 0xd800 && unit <= 0xdbff;
}

static bool
is_low(int unit)
{
	return unit >= 0xdc00 && unit <= 0xdfff;
}

/* Behind a backslash. */
static bool
check_escape(struct grammar *g)
{
	int unit;

	if (g->at == g->s.len)
		return fail(g, "string without an end");
	if (!take(g, 'u')) {
		if (peek(g) == '\0' || strchr("\"\\/bfnrt", peek(g)) == NULL)
			return fail(g, "escape");
		g->at++;
		return true;
	}
	unit = hex4(text_sub(g->s, g->at, g->s.len));
	if (unit <= 0 || is_low(unit))	/* U+0000 would end strings of ours early */
		return fail(g, "escape");
	g->at += 4;
	if (!is_high(unit))
		return true;
	if (!take(g, '\\') || !take(g, 'u') || !is_low(hex4(text_sub(g->s, g->at, g->s.len))))
		return fail(g, "lone surrogate");
	g->at += 4;
	return true;
}

/* Behind the opening quote. That it is UTF-8 is known. */
static bool
check_string(struct grammar *g)
{
	const char *p = g->s.p;

	for (size_t i = g->at; i < g->s.len; i++) {
		if ((unsigned char)p[i] >= ' ' && p[i] != '"' && p[i] != '\\')
			continue;
		g->at = i + 1;
		if (p[i] == '"')
			return true;
		if (p[i] != '\\')
			return fail(g, "control octet in a string");
		if (!check_escape(g))
			return false;
		i = g->at - 1;
	}
	return fail(g, "string without an end");
}

static bool
check_digits(struct grammar *g)
{
	size_t from = g->at;

	while (is_digit(peek(g)))
		g->at++;
	return g->at > from || fail(g, "number");
}

/* RFC 8259 6. What comes behind it is seen by who expects a comma. */
static bool
check_number(struct grammar *g)
{
	(void)take(g, '-');
	if (!take(g, '0') && !check_digits(g))
		return false;
	if (take(g, '.') && !check_digits(g))
		return false;
	if (take(g, 'e') || take(g, 'E')) {
		if (!take(g, '+'))
			(void)take(g, '-');
		return check_digits(g);
	}
	return true;
}

static bool
check_word(struct grammar *g)
{
	static const char *const words[] = { "null", "false", "true" };

	for (size_t i = 0; i < COUNT(words); i++) {
		size_t n = strlen(words[i]);

		if (text_is(text_sub(g->s, g->at, g->at + n), words[i])) {
			g->at += n;
			return true;
		}
	}
	return fail(g, "syntax");
}

/* One token, which is not white space, and what must follow it. */
static bool
check_token(struct grammar *g, enum expect *expect)
{
	bool may_end = *expect == EX_VALUE_OR_END || *expect == EX_NAME_OR_END || *expect == EX_COMMA_OR_END;
	char c = peek(g);

	if (may_end && g->depth > 0 && c == g->closing[g->depth - 1]) {
		g->at++;
		g->depth--;
		*expect = g->depth == 0 ? EX_NOTHING : EX_COMMA_OR_END;
		return true;
	}
	switch (*expect) {
	case EX_NOTHING:
		return fail(g, "something behind the end");
	case EX_COMMA_OR_END:
		if (!take(g, ','))
			return fail(g, "syntax");
		*expect = g->closing[g->depth - 1] == '}' ? EX_NAME : EX_VALUE;
		return true;
	case EX_COLON:
		*expect = EX_VALUE;
		return take(g, ':') || fail(g, "syntax");
	case EX_NAME:
	case EX_NAME_OR_END:
		g->values++;
		*expect = EX_COLON;
		return take(g, '"') ? check_string(g) : fail(g, "syntax");
	case EX_ROOT:
		if (c != '{' && c != '[')
			return fail(g, "neither object nor array");
		/* FALLTHROUGH */
	case EX_VALUE:
	case EX_VALUE_OR_END:
		break;
	}
	g->values++;
	if (c == '{' || c == '[') {
		if (g->depth == JSON_DEPTH_MAX)
			return fail(g, "too deep");
		g->at++;
		g->closing[g->depth++] = c == '{' ? '}' : ']';
		*expect = c == '{' ? EX_NAME_OR_END : EX_VALUE_OR_END;
		return true;
	}
	*expect = EX_COMMA_OR_END;
	if (take(g, '"'))
		return check_string(g);
	return c == '-' || is_digit(c) ? check_number(g) : check_word(g);
}

static bool
check_grammar(struct grammar *g, size_t values_max)
{
	enum expect expect = EX_ROOT;

	if (g->s.len > INT32_MAX)	/* jsmn counts in int */
		return fail(g, "too large");
	if (!text_is_utf8(g->s))
		return fail(g, "not UTF-8");
	for (;;) {
		while (peek(g) == ' ' || peek(g) == '\t' || peek(g) == '\r' || peek(g) == '\n')
			g->at++;
		if (g->at == g->s.len)
			return expect == EX_NOTHING || fail(g, "no end");
		if (!check_token(g, &expect))
			return false;
		if (g->values > values_max)
			return fail(g, "too many values");
	}
}

/* ---- strings ---- */

/* The octets that a string means, one after another; its escapes are known to be good. */
struct octets {
	struct span	rest;
	uint8_t		escaped[4];	/* of one escape, in UTF-8 */
	unsigned	n, i;
};

static void
put_utf8(struct octets *o, unsigned c)
{
	static const uint8_t lead[] = { 0, 0xc0, 0xe0, 0xf0 };
	unsigned tail = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;

	o->i = 0;
	o->n = tail + 1;
	o->escaped[0] = (uint8_t)(lead[tail] | c >> 6 * tail);
	for (unsigned k = 1; k <= tail; k++)
		o->escaped[k] = (uint8_t)(0x80 | (c >> 6 * (tail - k) & 0x3f));
}

/* The next octet, or -1 at the end. */
static int
next_octet(struct octets *o)
{
	static const char letters[] = "bfnrt", means[] = "\b\f\n\r\t";
	const char *letter;
	char c;

	if (o->i < o->n)
		return o->escaped[o->i++];
	if (o->rest.len == 0)
		return -1;
	c = o->rest.p[0];
	if (c != '\\') {
		o->rest.p++;
		o->rest.len--;
		return (unsigned char)c;
	}
	c = o->rest.p[1];
	if (c == 'u') {
		int unit = hex4(text_sub(o->rest, 2, 6));
		unsigned point = (unsigned)unit;

		if (is_high(unit))
			point = 0x10000 + ((point & 0x3ff) << 10) + ((unsigned)hex4(text_sub(o->rest, 8, 12)) & 0x3ff);
		put_utf8(o, point);
		o->rest = text_sub(o->rest, is_high(unit) ? 12 : 6, o->rest.len);
		return o->escaped[o->i++];
	}
	o->rest = text_sub(o->rest, 2, o->rest.len);
	letter = strchr(letters, c);
	return letter == NULL ? c : means[letter - letters];
}

static bool
means(struct span text, struct span s)
{
	struct octets o = { .rest = text };

	for (size_t i = 0; i < s.len; i++)
		if (next_octet(&o) != (unsigned char)s.p[i])
			return false;
	return next_octet(&o) == -1;
}

/* Its length, or -1: there is no room for it and a NUL; then dst is the empty string. */
static long
unescape(struct span text, char *dst, size_t size)
{
	struct octets o = { .rest = text };
	size_t n = 0;
	int c;

	while ((c = next_octet(&o)) != -1 && n < size)
		dst[n++] = (char)c;
	if (n < size) {
		dst[n] = '\0';
		return (long)n;
	}
	if (size > 0)
		dst[0] = '\0';
	return -1;
}

/* ---- tokens ---- */

static bool
is_there(const struct json *j, int value)
{
	return value >= 0 && (size_t)value < j->n;
}

static const jsmntok_t *
token(const struct json *j, int value)
{
	return &j->tokens[value].t;
}

static struct span
token_text(const struct json *j, int value)
{
	return (struct span){ j->text.p + token(j, value)->start, (size_t)(token(j, value)->end - token(j, value)->start) };
}

/* A name is a string with the one value that belongs to it. */
static bool
is_name(const struct json *j, int value)
{
	return token(j, value)->type == JSMN_STRING && token(j, value)->size == 1;
}

struct name {
	int		object;
	struct span	text;		/* as it is meant */
};

static int
compare_names(const void *a, const void *b)
{
	const struct name *x = a, *y = b;
	int order;

	if (x->object != y->object)
		return x->object < y->object ? -1 : 1;
	order = memcmp(x->text.p, y->text.p, x->text.len < y->text.len ? x->text.len : y->text.len);
	return order != 0 ? order : (x->text.len > y->text.len) - (x->text.len < y->text.len);
}

/* Sorted, names that are the same lie side by side. NULL, or why not. */
static const char *
check_names(const struct json *j)
{
	struct name *names = malloc(j->n * sizeof(*names));
	char *memory = malloc(j->text.len);	/* of names with escapes: decoded once, and not at each comparison */
	const char *why = names == NULL || memory == NULL ? "no memory" : NULL;
	size_t n = 0, used = 0;

	for (size_t i = 0; i < j->n && why == NULL; i++) {
		struct span text = token_text(j, (int)i);

		if (!is_name(j, (int)i))
			continue;
		if (text_find(text, '\\') != SIZE_MAX) {
			text.len = (size_t)unescape(text, memory + used, j->text.len - used);	/* it gets shorter: there is room */
			text.p = memory + used;
			used += text.len;
		}
		names[n++] = (struct name){ token(j, (int)i)->parent, text };
	}
	if (why == NULL)
		qsort(names, n, sizeof(*names), compare_names);
	for (size_t i = 1; i < n && why == NULL; i++)
		if (compare_names(&names[i - 1], &names[i]) == 0)
			why = "name given twice";
	free(names);
	free(memory);
	return why;
}

int
json_parse(struct json *j, struct span text, size_t values_max, const char **why)
{
	struct grammar g = { .s = text };
	jsmn_parser parser;

	*j = (struct json){ 0 };
	if (!check_grammar(&g, values_max)) {
		*why = g.why;
		return -1;
	}
	*why = "no memory";
	j->tokens = calloc(g.values, sizeof(*j->tokens));
	if (j->tokens == NULL)
		return -1;
	j->text = text;
	j->n = g.values;
	jsmn_init(&parser);
	*why = jsmn_parse(&parser, text.p, text.len, &j->tokens->t, (unsigned)j->n) == (int)j->n ? check_names(j) : "syntax";
	if (*why != NULL) {
		json_clear(j);
		return -1;
	}
	*why = "";
	return 0;
}

/* Behind "\\u", in a string: octets up to what is behind this character; one that may not be becomes U+FFFD. */
static size_t
mend_unicode(char *p, size_t len)
{
	struct span s = { p, len };
	int unit = hex4(s);

	if (unit == -1)
		return 0;
	if (is_high(unit) && len >= 10 && p[4] == '\\' && p[5] == 'u' && is_low(hex4(text_sub(s, 6, 10))))
		return 10;
	if (unit == 0 || is_high(unit) || is_low(unit))
		memcpy(p, "fffd", 4);
	return 4;
}

void
json_mend(char *p, size_t len)
{
	bool quoted = false;

	for (size_t i = 0; i < len;) {
		size_t n = text_utf8_len((struct span){ p + i, len - i });

		if (n == 0 || (quoted && (unsigned char)p[i] < ' '))
			p[i] = '?';
		else if (p[i] == '"')
			quoted = !quoted;
		i += n == 0 ? 1 : n;
		if (!quoted || p[i - 1] != '\\' || i == len)
			continue;
		i++;
		if (p[i - 1] == 'u')
			i += mend_unicode(p + i, len - i);
	}
}

void
json_clear(struct json *j)
{
	free(j->tokens);
	*j = (struct json){ 0 };
}

enum json_type
json_type(const struct json *j, int value)
{
	if (!is_there(j, value))
		return JSON_ABSENT;
	switch (token(j, value)->type) {
	case JSMN_OBJECT:
		return JSON_OBJECT;
	case JSMN_ARRAY:
		return JSON_ARRAY;
	case JSMN_STRING:
		return JSON_STRING;
	case JSMN_PRIMITIVE:
	case JSMN_UNDEFINED:
		break;
	}
	switch (token_text(j, value).p[0]) {
	case 'n':
		return JSON_NULL;
	case 'f':
		return JSON_FALSE;
	case 't':
		return JSON_TRUE;
	default:
		return JSON_NUMBER;
	}
}

int
json_get(const struct json *j, int object, struct span name)
{
	if (json_type(j, object) != JSON_OBJECT)
		return -1;
	for (int v = -1; (v = json_next(j, object, v)) != -1;)
		if (means(token_text(j, v - 1), name))
			return v;
	return -1;
}

int
json_next(const struct json *j, int container, int previous)
{
	enum json_type type = json_type(j, container);
	int next = container + 1, end;

	if (type != JSON_OBJECT && type != JSON_ARRAY)
		return -1;
	if (is_there(j, previous))	/* behind it and all that it holds */
		for (next = previous + 1, end = token(j, previous)->end; is_there(j, next) && token(j, next)->start < end;)
			next++;
	if (!is_there(j, next) || token(j, next)->start >= token(j, container)->end)
		return -1;
	return type == JSON_OBJECT ? next + 1 : next;
}

long
json_string(const struct json *j, int value, char *dst, size_t size)
{
	if (json_type(j, value) == JSON_STRING)
		return unescape(token_text(j, value), dst, size);
	if (size > 0)
		dst[0] = '\0';
	return -1;
}

long
json_name(const struct json *j, int value, char *dst, size_t size)
{
	if (is_there(j, value) && value > 0 && is_name(j, value - 1) && token(j, value)->parent == value - 1)
		return unescape(token_text(j, value - 1), dst, size);
	if (size > 0)
		dst[0] = '\0';
	return -1;
}

long
json_start(const struct json *j, int value, char *dst, size_t size)
{
	struct octets o = { 0 };
	size_t n = 0, at = 0;
	int c;

	dst[0] = '\0';
	if (json_type(j, value) != JSON_STRING)
		return -1;
	o.rest = token_text(j, value);
	while ((c = next_octet(&o)) != -1) {
		if (!is_8bit((char)c) || (c & 0xc0) == 0xc0)
			at = n;		/* of the character that this octet belongs to */
		if (n + 1 == size) {
			dst[at] = '\0';
			return (long)at;
		}
		dst[n++] = (char)c;
	}
	dst[n] = '\0';
	return (long)n;
}

void
json_printable(const struct json *j, int value, char *dst, size_t size)
{
	struct octets o = { 0 };
	size_t n = 0;
	int c;

	if (json_type(j, value) == JSON_STRING)
		o.rest = token_text(j, value);
	while (n + 1 < size && (c = next_octet(&o)) != -1)
		dst[n++] = is_vchar((char)c) || c == ' ' ? (char)c : '?';
	if (size > 0)
		dst[n] = '\0';
}

bool
json_is(const struct json *j, int value, struct span s)
{
	return json_type(j, value) == JSON_STRING && means(token_text(j, value), s);
}

int
json_double(const struct json *j, int value, double *n)
{
	double d;

	if (json_type(j, value) != JSON_NUMBER)
		return -1;
	/* ends at what follows the number, and something does: a number is never the root. Our locale is always "C". */
	d = strtod(token_text(j, value).p, NULL);
	if (!isfinite(d))
		return -1;
	*n = d;
	return 0;
}

int
json_i64(const struct json *j, int value, int64_t *n)
{
	double d;

	if (json_double(j, value, &d) == -1 || d < (double)-JSON_INTEGER_MAX || d > (double)JSON_INTEGER_MAX)
		return -1;
	*n = (int64_t)d;
	return 0;
}
