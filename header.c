/*
 * header.c - a message's header block: its fields, the address of From, who has made Authentication-Results.
 *
 * RFC 5322 2.2 (fields), 3.2 and 3.4 (addresses), 4 (obsolete forms); 8601 2.2. Each octet is looked at a bounded number of times; nothing
 * is nested but comments, which are counted. Neither NUL nor CR gets into a message of ours (cases 1.11, 1.31).
 */
#include "header.h"

#define COMMENT_DEPTH_MAX 100	/* case 9.4 */

/* ---- fields ---- */

/* The position of the first LF at or after from, or the end. */
static size_t
line_end(struct span s, size_t from)
{
	size_t n = text_find(text_sub(s, from, s.len), '\n');

	return n == SIZE_MAX ? s.len : from + n;
}

bool
header_next(struct span *rest, struct header_field *f)
{
	size_t name = 0, colon, end;

	while (name < rest->len && is_vchar(rest->p[name]) && rest->p[name] != ':')
		name++;
	for (colon = name; colon < rest->len && is_class(rest->p[colon], C_WSP); colon++)	/* RFC 5322 4.5: "From :" */
		;
	if (name == 0 || colon == rest->len || rest->p[colon] != ':')
		return false;
	end = line_end(*rest, colon);
	/* a line of white space alone is a fold too (4.2), so that what follows it is not missed */
	while (end + 1 < rest->len && is_class(rest->p[end + 1], C_WSP))
		end = line_end(*rest, end + 1);
	f->name = text_sub(*rest, 0, name);
	f->value = text_sub(*rest, colon + 1, end);
	*rest = text_sub(*rest, end + 1, rest->len);
	return true;
}

size_t
header_len(struct span message)
{
	struct span rest = message;
	struct header_field f;

	while (header_next(&rest, &f))
		;
	return message.len - rest.len;
}

bool
header_is_cut(struct span start)
{
	struct span rest = text_sub(start, header_len(start), start.len);
	size_t n = 0;

	while (n < rest.len && is_vchar(rest.p[n]) && rest.p[n] != ':')
		n++;
	while (n < rest.len && is_class(rest.p[n], C_WSP))
		n++;
	return n == rest.len;	/* nothing, or what a colon makes a field */
}

/* Whether a line of a folded value is white space alone: some readers end the header block there (case 9.9). */
static bool
has_blank_line(struct span value)
{
	for (size_t i = line_end(value, 0); i < value.len; i = line_end(value, i)) {
		do
			i++;
		while (i < value.len && is_class(value.p[i], C_WSP));
		if (i == value.len || value.p[i] == '\n')
			return true;
	}
	return false;
}

/* ---- one address ---- */

static bool
is_fws(char c)
{
	return is_class(c, C_WSP) || c == '\n';
}

static void
skip(struct span *s, size_t n)
{
	*s = text_sub(*s, n, s->len);
}

/*
 * Over the comment or quoted string that *s begins with. false: it does not end, is nested too deep, or holds an angle bracket,
 * which a reader that looks for nothing else would take for the address.
 */
static bool
skip_quoted(struct span *s, char open, char close)
{
	unsigned depth = 0;

	for (size_t i = 0; i < s->len; i++) {
		bool pair = s->p[i] == '\\' && i + 1 < s->len;
		char c = s->p[pair ? ++i : i];

		if (c == '<' || c == '>')
			return false;
		if (pair)
			continue;
		if (c == close && depth > 0)
			depth--;
		else if (c == open)
			depth++;
		if (depth == 0) {
			skip(s, i + 1);
			return true;
		}
		if (depth > COMMENT_DEPTH_MAX)
			return false;
	}
	return false;
}

static bool
skip_cfws(struct span *s)
{
	while (s->len > 0) {
		if (is_fws(s->p[0]))
			skip(s, 1);
		else if (s->p[0] != '(')
			break;
		else if (!skip_quoted(s, '(', ')'))
			return false;
	}
	return true;
}

/*
 * Over words and what is between them: atoms, dots (obsolete in a phrase, but "John Q. Public" is everywhere), quoted strings,
 * encoded words, raw 8-bit octets.
 */
static bool
skip_words(struct span *s)
{
	while (s->len > 0) {
		char c = s->p[0];

		if (c == '"') {
			if (!skip_quoted(s, '"', '"'))
				return false;
		} else if (is_fws(c) || c == '(') {
			if (!skip_cfws(s))
				return false;
		} else if (is_atext(c) || c == '.' || is_8bit(c)) {
			skip(s, 1);
		} else {
			break;
		}
	}
	return true;
}

/* The text between the angle brackets that *s begins with, and over it. They quote no others: see skip_quoted(). */
static bool
take_angle(struct span *s, struct span *address)
{
	size_t end = text_find(*s, '>');

	if (end == SIZE_MAX)
		return false;
	*address = text_sub(*s, 1, end);
	if (text_find(*address, '<') != SIZE_MAX)
		return false;
	while (address->len > 0 && is_fws(address->p[0]))
		skip(address, 1);
	while (address->len > 0 && is_fws(address->p[address->len - 1]))
		address->len--;
	skip(s, end + 1);
	return true;
}

/*
 * Over the mailbox at the start of *s; its address is left for smtp_mailbox(), the one parser of envelope and header (case 9.4).
 * That leaves no room for comments and white space inside an address, nor for a route: RFC 5322 has them (3.4.1, 4.4), but
 * readers disagree on what they show, and no client writes them.
 */
static enum header_from
take_mailbox(struct span *s, struct span *address)
{
	struct span start = *s;
	size_t end = 0;

	if (!skip_words(s) || s->len == 0)
		return FROM_SYNTAX;
	switch (s->p[0]) {
	case ',':
	case ';':
	case ':':	/* of a group */
		return FROM_SEVERAL;
	case '<':
		return take_angle(s, address) ? FROM_OK : FROM_SYNTAX;
	case '@':	/* the words are a local-part; what of them is none is refused with it */
		while (end < s->len && !is_fws(s->p[end]) && s->p[end] != '(' && s->p[end] != ',' && s->p[end] != ';')
			end++;
		*address = text_sub(start, 0, start.len - s->len + end);
		skip(s, end);
		return FROM_OK;
	default:
		return FROM_SYNTAX;
	}
}

/* Readers differ in whether they decode it there (RFC 2047 5 forbids it). */
static bool
has_encoded_word(const char *local)
{
	const char *p = strstr(local, "=?");

	return p != NULL && strstr(p + 2, "?=") != NULL;
}

static enum header_from
parse_from(struct span s, bool utf8, struct mailbox *m)
{
	struct span address;
	enum header_from r;

	for (size_t i = 0; i < s.len; i++)
		if (is_class(s.p[i], C_CNTRL) && !is_fws(s.p[i]))
			return FROM_SYNTAX;
	if (!skip_cfws(&s))
		return FROM_SYNTAX;
	r = take_mailbox(&s, &address);
	if (r != FROM_OK)
		return r;
	if (!skip_cfws(&s))
		return FROM_SYNTAX;
	if (s.len > 0)
		return s.p[0] == ',' || s.p[0] == ';' ? FROM_SEVERAL : FROM_SYNTAX;
	if (smtp_mailbox(address, utf8, m) == SMTP_PATH_OK && !has_encoded_word(m->local))
		return FROM_OK;
	*m = (struct mailbox){ 0 };
	return FROM_SYNTAX;
}

enum header_from
header_from(struct span message, bool utf8, struct mailbox *m)
{
	struct header_field f, from = { 0 };
	unsigned fields = 0, froms = 0;
	bool blank = false;

	*m = (struct mailbox){ 0 };
	while (header_next(&message, &f)) {
		if (++fields > HEADER_FIELDS_MAX)
			return FROM_TOO_MANY;
		blank = blank || (froms == 0 && has_blank_line(f.value));
		if (text_is_nocase(f.name, "From")) {
			from = f;
			froms++;
		}
	}
	if (froms != 1)
		return froms == 0 ? FROM_ABSENT : FROM_TWICE;
	/* behind a line that is no field some readers go on, and see another From there */
	if (blank || (message.len > 0 && message.p[0] != '\n'))
		return FROM_SYNTAX;
	return parse_from(from.value, utf8, m);
}

const char *
header_from_text(enum header_from r)
{
	static const char *const texts[] = {
		[FROM_OK] = "ok",
		[FROM_ABSENT] = "no From field",
		[FROM_TWICE] = "more than one From field",
		[FROM_SEVERAL] = "more than one address in From",
		[FROM_SYNTAX] = "From is not one well-formed address",
		[FROM_TOO_MANY] = "too many header fields",
	};

	return texts[r];
}

/* ---- Authentication-Results ---- */

/* RFC 2045 5.1; 6532 3.2 for octets of UTF-8. */
static bool
is_token(char c)
{
	return is_8bit(c) || (is_vchar(c) && strchr("()<>@,;:\\\"/[]?=", c) == NULL);
}

/* The token or quoted string that s begins with, without what quotes it; false: it is none, or longer than any domain. */
static bool
take_value(struct span s, char *value, size_t size, size_t *len)
{
	bool quoted = s.len > 0 && s.p[0] == '"';
	size_t n = 0, i = quoted;

	for (; i < s.len && (quoted ? s.p[i] != '"' : is_token(s.p[i])); i++) {
		if (quoted && s.p[i] == '\\' && i + 1 < s.len)
			i++;
		if (n == size)
			return false;
		value[n++] = s.p[i];
	}
	*len = n;
	return n > 0 && !(quoted && i == s.len);
}

bool
header_authserv_is(struct span value, const char *domain)
{
	char id[4 * SMTP_DOMAIN_MAX], got[SMTP_DOMAIN_MAX + 1];	/* U-labels may be longer than their A-labels */
	size_t len;

	if (!skip_cfws(&value) || !take_value(value, id, sizeof(id), &len))
		return true;
	return smtp_domain((struct span){ id, len }, true, got) && strcmp(got, domain) == 0;
}
