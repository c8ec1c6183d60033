/*
 * smtp.c - the grammar of SMTP as pure functions: mailboxes, domains, parameters.
 *
 * RFC 5321 4.1.2, 4.1.3; 6531 3.3 (UTF-8); 1870, 3030, 6152 (parameters); 3492 (A-labels); 3463 (status codes). Each
 * function reads its input once and writes into bounded fields only; what it does not know it refuses.
 */
#include "smtp.h"

#include <arpa/inet.h>
#include <stdio.h>

#define LABEL_MAX 63		/* RFC 1035 2.3.4 */
#define SIZE_DIGITS_MAX 20	/* RFC 1870 4 */

/* ---- domains ---- */

/* The code point of the well-formed sequence of n octets at p (text_utf8_len() has checked it). */
static uint32_t
utf8_point(const char *p, size_t n)
{
	uint32_t c = (unsigned char)p[0];

	if (n > 1)
		c &= 0x7fu >> n;
	for (size_t i = 1; i < n; i++)
		c = c << 6 | ((unsigned char)p[i] & 0x3f);
	return c;
}

/*
 * Code points that are in no U-label (RFC 5892 2.6, 2.8) and that a reader cannot see or takes for something else: controls,
 * spaces, zero width, bidirectional, the other full stops of IDNA2003, full-width forms, private use, non-characters.
 */
static const struct {
	uint32_t first, last;
} refused_points[] = {
	{ 0x0080, 0x00a0 }, { 0x00ad, 0x00ad }, { 0x034f, 0x034f }, { 0x061c, 0x061c }, { 0x115f, 0x1160 }, { 0x1680, 0x1680 },
	{ 0x17b4, 0x17b5 }, { 0x180b, 0x180f }, { 0x2000, 0x200f }, { 0x2024, 0x202f }, { 0x205f, 0x206f }, { 0x3000, 0x3002 },
	{ 0x3164, 0x3164 }, { 0xe000, 0xf8ff }, { 0xfdd0, 0xfdef }, { 0xfe00, 0xfe0f }, { 0xfeff, 0xfeff }, { 0xff00, 0xffef },
	{ 0xfff0, 0xffff }, { 0xe0000, 0x10ffff },
};

static bool
is_refused(uint32_t c)
{
	for (size_t i = 0; i < COUNT(refused_points); i++)
		if (c <= refused_points[i].last)
			return c >= refused_points[i].first;
	return false;
}

/* Only what is one to one and beyond doubt; any other capital makes another domain than its small letter (case 5.16). */
static uint32_t
lower_point(uint32_t c)
{
	if (c < 0x80)
		return (unsigned char)text_lower((char)c);
	if ((c >= 0xc0 && c <= 0xde && c != 0xd7) || (c >= 0x391 && c <= 0x3ab && c != 0x3a2) || (c >= 0x410 && c <= 0x42f))
		return c + 0x20;
	if (c >= 0x400 && c <= 0x40f)
		return c + 0x50;
	return c;
}

static bool
is_label_octet(char c)
{
	return is_alnum(c) || c == '-' || c == '_';
}

/* RFC 3492 6.1 */
static uint32_t
punycode_adapt(uint32_t delta, uint32_t points, bool first)
{
	uint32_t k = 0;

	delta = first ? delta / 700 : delta / 2;
	delta += delta / points;
	for (; delta > 35 * 26 / 2; k += 36)
		delta /= 35;
	return k + 36 * delta / (delta + 38);
}

/*
 * RFC 3492 6.3: cp[n], n <= LABEL_MAX, into out[LABEL_MAX]. Returns the length, 0 when it does not fit. No overflow check is
 * needed: delta stays under 0x110000 * (LABEL_MAX + 1).
 */
static size_t
punycode(const uint32_t *cp, size_t n, char *out)
{
	uint32_t next = 0x80, delta = 0, bias = 72, done = 0;
	size_t len = 0;
	bool first = true;

	for (size_t i = 0; i < n; i++)
		if (cp[i] < 0x80)
			out[len++] = (char)cp[i];
	done = (uint32_t)len;
	if (len > 0) {
		if (len == LABEL_MAX)
			return 0;
		out[len++] = '-';
	}
	while (done < n) {
		uint32_t least = UINT32_MAX;

		for (size_t i = 0; i < n; i++)
			if (cp[i] >= next && cp[i] < least)
				least = cp[i];
		delta += (least - next) * (done + 1);
		next = least;
		for (size_t i = 0; i < n; i++) {
			uint32_t q = delta, k = 36;

			delta += cp[i] < next;
			if (cp[i] != next)
				continue;
			for (;; k += 36) {
				uint32_t t = k <= bias ? 1 : k >= bias + 26 ? 26 : k - bias;
				uint32_t digit = q < t ? q : t + (q - t) % (36 - t);

				if (len == LABEL_MAX)
					return 0;
				out[len++] = (char)(digit < 26 ? 'a' + digit : '0' + (digit - 26));
				if (q < t)
					break;
				q = (q - t) / (36 - t);
			}
			bias = punycode_adapt(delta, done + 1, first);
			first = false;
			delta = 0;
			done++;
		}
		delta++;
		next++;
	}
	return len;
}

/* A label with octets over 127 as an A-label in out[LABEL_MAX]. */
static enum smtp_path
encode_label(struct span label, bool utf8, char *out, size_t *len)
{
	uint32_t cp[LABEL_MAX] = { 0 };
	char coded[LABEL_MAX];
	size_t n = 0, k;

	while (label.len > 0) {
		size_t octets = text_utf8_len(label);

		if (octets != 1 && !utf8)
			return SMTP_PATH_NOT_ASCII;
		if (octets == 0)
			return SMTP_PATH_BAD_UTF8;
		if (n == COUNT(cp) || (octets == 1 && !is_label_octet(label.p[0])))	/* each costs an octet at least */
			return SMTP_PATH_SYNTAX;
		cp[n] = lower_point(utf8_point(label.p, octets));
		if (is_refused(cp[n++]))
			return SMTP_PATH_SYNTAX;
		label = text_sub(label, octets, label.len);
	}
	if (n >= 4 && cp[2] == '-' && cp[3] == '-')	/* RFC 5891 4.2.3.1: xn-- and its like are no U-labels */
		return SMTP_PATH_SYNTAX;
	k = punycode(cp, n, coded);
	if (k == 0 || k > LABEL_MAX - 4)
		return SMTP_PATH_SYNTAX;
	memcpy(out, "xn--", 4);
	memcpy(out + 4, coded, k);
	*len = k + 4;
	return SMTP_PATH_OK;
}

static enum smtp_path
parse_label(struct span label, bool utf8, char *out, size_t *len)
{
	if (label.len == 0 || label.p[0] == '-' || label.p[label.len - 1] == '-')
		return SMTP_PATH_SYNTAX;
	for (size_t i = 0; i < label.len; i++) {
		if (is_8bit(label.p[i]))
			return encode_label(label, utf8, out, len);
		if (!is_label_octet(label.p[i]))
			return SMTP_PATH_SYNTAX;
		if (i < LABEL_MAX)
			out[i] = text_lower(label.p[i]);
	}
	*len = label.len;
	return label.len > LABEL_MAX ? SMTP_PATH_SYNTAX : SMTP_PATH_OK;
}

/* dst[SMTP_DOMAIN_MAX + 1] is the empty string unless this is SMTP_PATH_OK. */
static enum smtp_path
parse_domain(struct span s, bool utf8, char *dst)
{
	struct span label;
	size_t n = 0;
	enum smtp_path why = SMTP_PATH_SYNTAX;

	while (text_token(&s, ".", &label)) {	/* it takes a last dot with it */
		char out[LABEL_MAX];
		size_t len = 0;

		why = parse_label(label, utf8, out, &len);
		if (why == SMTP_PATH_OK && len + (n > 0) > SMTP_DOMAIN_MAX - n)
			why = SMTP_PATH_TOO_LONG;
		if (why != SMTP_PATH_OK)
			break;
		if (n > 0)
			dst[n++] = '.';
		memcpy(dst + n, out, len);
		n += len;
	}
	dst[why == SMTP_PATH_OK ? n : 0] = '\0';
	return why;
}

/* What follows the @: a domain or an address literal. */
static enum smtp_path
parse_host(struct span s, bool utf8, char *dst)
{
	if (s.len > 0 && s.p[0] == '[')
		return smtp_literal(s, dst) ? SMTP_PATH_OK : SMTP_PATH_SYNTAX;
	return parse_domain(s, utf8, dst);
}

/* ---- paths ---- */

/* One character inside a local-part: the octets it takes, or 0 with the reason. s is not empty. */
static size_t
local_char(struct span s, bool quoted, bool utf8, enum smtp_path *why)
{
	size_t n = 1;

	*why = SMTP_PATH_SYNTAX;
	if (is_8bit(s.p[0])) {
		*why = utf8 ? SMTP_PATH_BAD_UTF8 : SMTP_PATH_NOT_ASCII;
		n = utf8 ? text_utf8_len(s) : 0;
	} else if (quoted ? !is_vchar(s.p[0]) && s.p[0] != ' ' : !is_atext(s.p[0]) && s.p[0] != '.') {
		n = 0;
	}
	return n;
}

/* Whether s is a Dot-string as far as its dots go. */
static bool
dots_are_good(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] == '.' && (i == 0 || i + 1 == s.len || s.p[i - 1] == '.'))
			return false;
	return s.len > 0;
}

/*
 * The local-part at the start of *rest, which is left at what follows it, unquoted into dst[SMTP_LOCAL_MAX + 1] (cases 5.7, 5.8).
 * A length is passed only by what is no syntax error.
 */
static enum smtp_path
parse_local(struct span *rest, bool utf8, char *dst)
{
	struct span s = *rest;
	bool quoted = s.len > 0 && s.p[0] == '"';
	enum smtp_path why;
	size_t n = 0, at = quoted;

	while (at < s.len && s.p[at] != (quoted ? '"' : '@')) {
		size_t octets;

		if (quoted && s.p[at] == '\\' && (++at == s.len || is_8bit(s.p[at])))	/* RFC 6531 3.3 quotes no UTF-8 */
			return SMTP_PATH_SYNTAX;
		octets = local_char(text_sub(s, at, s.len), quoted, utf8, &why);
		if (octets == 0)
			return why;
		if (n <= SMTP_LOCAL_MAX && octets <= SMTP_LOCAL_MAX - n)
			memcpy(dst + n, s.p + at, octets);
		n += octets;
		at += octets;
	}
	if (quoted ? n == 0 || at == s.len : !dots_are_good(text_sub(s, 0, at)))
		return SMTP_PATH_SYNTAX;
	*rest = text_sub(s, at + quoted, s.len);
	if (n > SMTP_LOCAL_MAX)
		return SMTP_PATH_TOO_LONG;
	dst[n] = '\0';
	return SMTP_PATH_OK;
}

/* RFC 5321 4.1.2 A-d-l: "@a,@b:" is checked and dropped (case 5.3), *rest is left after the colon. */
static enum smtp_path
drop_route(struct span *rest, bool utf8)
{
	size_t colon = text_find(*rest, ':');
	struct span route = text_sub(*rest, 0, colon), hop;

	if (colon == SIZE_MAX || route.p[colon - 1] == ',')	/* it begins with an @ */
		return SMTP_PATH_SYNTAX;
	while (text_token(&route, ",", &hop)) {
		char domain[SMTP_DOMAIN_MAX + 1];
		enum smtp_path why = SMTP_PATH_SYNTAX;

		if (hop.len > 0 && hop.p[0] == '@')
			why = parse_domain(text_sub(hop, 1, hop.len), utf8, domain);
		if (why != SMTP_PATH_OK)
			return why;
	}
	*rest = text_sub(*rest, colon + 1, rest->len);
	return SMTP_PATH_OK;
}

/* The mailbox at the start of *rest, up to a ">" (path) or the end; *rest is left there. */
static enum smtp_path
parse_mailbox(struct span *rest, bool path, bool utf8, struct mailbox *m)
{
	enum smtp_path why = parse_local(rest, utf8, m->local), why_domain;
	size_t end;

	if (why != SMTP_PATH_OK && why != SMTP_PATH_TOO_LONG)
		return why;
	if (rest->len == 0 || rest->p[0] != '@')
		return SMTP_PATH_SYNTAX;
	end = path ? text_find(*rest, '>') : rest->len;
	if (end == SIZE_MAX)
		return SMTP_PATH_SYNTAX;
	why_domain = parse_host(text_sub(*rest, 1, end), utf8, m->domain);
	*rest = text_sub(*rest, end, rest->len);
	return why_domain != SMTP_PATH_OK ? why_domain : why;
}

static bool
take(struct span *s, const char *what)
{
	size_t n = strlen(what);

	if (!text_starts_nocase(*s, what))
		return false;
	*s = text_sub(*s, n, s->len);
	return true;
}

enum smtp_path
smtp_path(struct span *rest, bool utf8, bool postmaster, struct mailbox *m)
{
	struct span s = *rest;
	enum smtp_path why = SMTP_PATH_OK;

	*m = (struct mailbox){ 0 };
	take(&s, " ");	/* case 4.6 */
	if (!take(&s, "<"))
		return SMTP_PATH_SYNTAX;
	if (take(&s, ">")) {
		*rest = s;
		return SMTP_PATH_NULL;
	}
	if (postmaster && take(&s, "postmaster>")) {	/* RFC 5321 4.5.1 */
		(void)text_copy(m->local, sizeof(m->local), SPAN("postmaster"));
		*rest = s;
		return SMTP_PATH_OK;
	}
	if (s.len > 0 && s.p[0] == '@')
		why = drop_route(&s, utf8);
	if (why == SMTP_PATH_OK)
		why = parse_mailbox(&s, true, utf8, m);
	if (why == SMTP_PATH_OK && take(&s, ">"))
		*rest = s;
	else
		*m = (struct mailbox){ 0 };
	return why;
}

enum smtp_path
smtp_mailbox(struct span s, bool utf8, struct mailbox *m)
{
	enum smtp_path why;

	*m = (struct mailbox){ 0 };
	why = parse_mailbox(&s, false, utf8, m);
	if (why != SMTP_PATH_OK)
		*m = (struct mailbox){ 0 };
	return why;
}

void
smtp_mailbox_print(const struct mailbox *m, char *dst)
{
	struct span local = text_span(m->local);
	bool bare = dots_are_good(local);
	size_t n = 0;

	for (size_t i = 0; i < local.len; i++)
		bare = bare && (is_atext(local.p[i]) || local.p[i] == '.' || is_8bit(local.p[i]));
	if (local.len > 0 && !bare)
		dst[n++] = '"';
	for (size_t i = 0; i < local.len; i++) {	/* 2 * SMTP_LOCAL_MAX at most */
		if (!bare && (local.p[i] == '"' || local.p[i] == '\\'))
			dst[n++] = '\\';
		dst[n++] = local.p[i];
	}
	if (local.len > 0 && !bare)
		dst[n++] = '"';
	if (m->domain[0] != '\0') {
		size_t len = strlen(m->domain);

		dst[n++] = '@';
		memcpy(dst + n, m->domain, len);
		n += len;
	}
	dst[n] = '\0';
}

void
smtp_mailbox_key(const struct mailbox *m, char *key)
{
	size_t n = 0, len = strlen(m->domain);

	for (const char *p = m->local; *p != '\0'; p++)
		key[n++] = text_lower(*p);
	key[n++] = '@';
	memcpy(key + n, m->domain, len + 1);
}

bool
smtp_pattern_key(struct span s, char *key)
{
	struct mailbox m = { 0 };

	if (s.len > 0 && s.p[0] == '@' ? !smtp_domain(text_sub(s, 1, s.len), true, m.domain) :
	    smtp_mailbox(s, true, &m) != SMTP_PATH_OK)
		return false;
	smtp_mailbox_key(&m, key);
	return true;
}

bool
smtp_domain(struct span s, bool utf8, char *dst)
{
	return parse_domain(s, utf8, dst) == SMTP_PATH_OK;
}

bool
smtp_literal(struct span s, char *dst)
{
	char text[INET6_ADDRSTRLEN], canonical[INET6_ADDRSTRLEN];
	unsigned char address[16];
	struct span inner = text_sub(s, 1, s.len == 0 ? 0 : s.len - 1);
	int family = AF_INET;

	dst[0] = '\0';
	if (s.len < 2 || s.p[0] != '[' || s.p[s.len - 1] != ']')
		return false;
	if (take(&inner, "IPv6:"))
		family = AF_INET6;
	if (text_copy(text, sizeof(text), inner) == -1 || inet_pton(family, text, address) != 1 ||
	    inet_ntop(family, address, canonical, sizeof(canonical)) == NULL)
		return false;
	(void)snprintf(dst, SMTP_DOMAIN_MAX + 1, "[%s%s]", family == AF_INET6 ? "IPv6:" : "", canonical);
	return true;
}

bool
smtp_helo(struct span s)
{
	char literal[SMTP_DOMAIN_MAX + 1];
	bool named = false;

	if (s.len == 0 || s.len > SMTP_DOMAIN_MAX)
		return false;
	if (s.p[0] == '[')
		return smtp_literal(s, literal);
	/* only data: that labels are too long or begin with a hyphen is no reason to lose mail */
	for (size_t i = 0; i < s.len; i++) {
		if (!is_label_octet(s.p[i]) && s.p[i] != '.')
			return false;
		if (s.p[i] == '.' && (i == 0 || s.p[i - 1] == '.'))
			return false;
		named = named || is_alnum(s.p[i]);
	}
	return named;
}

/* ---- parameters ---- */

struct param {
	struct span	keyword, value;
	bool		has_value;
};

/* The next parameter of *rest, whose spaces at the end are gone. false: none left. */
static bool
next_param(struct span *rest, struct param *p)
{
	struct span word;
	size_t equals;

	do {
		if (!text_token(rest, " ", &word))
			return false;
	} while (word.len == 0);
	equals = text_find(word, '=');
	p->has_value = equals != SIZE_MAX;
	p->keyword = text_sub(word, 0, equals);
	p->value = p->has_value ? text_sub(word, equals + 1, word.len) : SPAN("");
	return true;
}

/* RFC 5321 4.1.2 esmtp-keyword, esmtp-value; an empty value is for the parameter to judge (case 3.15: NOTIFY= is unknown). */
static bool
param_is_good(const struct param *p)
{
	if (p->keyword.len == 0 || !is_alnum(p->keyword.p[0]))
		return false;
	for (size_t i = 0; i < p->keyword.len; i++)
		if (!is_alnum(p->keyword.p[i]) && p->keyword.p[i] != '-')
			return false;
	for (size_t i = 0; i < p->value.len; i++)
		if (!is_vchar(p->value.p[i]) || p->value.p[i] == '=')
			return false;
	return true;
}

/* Digits, saturated; false: others, or more than digits_max of them. */
static bool
parse_size(struct span s, size_t digits_max, uint64_t *size)
{
	if (s.len == 0 || s.len > digits_max)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!is_digit(s.p[i]))
			return false;
	if (text_u64(s, INT64_MAX, size) == -1)
		*size = INT64_MAX;
	return true;
}

static bool
param_size(const struct param *p, struct mail_params *out)
{
	return p->has_value && parse_size(p->value, SIZE_DIGITS_MAX, &out->size);
}

static bool
param_body(const struct param *p, struct mail_params *out)
{
	if (text_is_nocase(p->value, "8BITMIME"))
		out->body = SMTP_BODY_8BITMIME;
	else if (!text_is_nocase(p->value, "7BIT"))	/* BINARYMIME too: not announced (case 2.16) */
		return false;
	return true;
}

static bool
param_smtputf8(const struct param *p, struct mail_params *out)
{
	out->utf8 = true;
	return !p->has_value;	/* RFC 6531 3.4 */
}

/* An upper-case hexadecimal digit's value, or -1. */
static int
hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* RFC 3461 4: any octet may be written as "+" and two digits; here only what is printable (case 5.14). */
static bool
is_xtext(struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		int high, low;

		if (s.p[i] != '+')
			continue;
		if (s.len - i < 3)
			return false;
		high = hex_value(s.p[i + 1]);
		low = hex_value(s.p[i + 2]);
		if (high < 2 || high > 7 || low == -1 || (high == 7 && low == 15))
			return false;
		i += 2;
	}
	return true;
}

/* RFC 4954 5: <>, or an address as xtext. Clients that pass on others' mail send it, since they were offered AUTH. */
static bool
param_auth(const struct param *p, struct mail_params *out)
{
	out->auth = true;
	return p->value.len > 0 && is_xtext(p->value);
}

static const struct {
	const char	*keyword;
	bool		(*run)(const struct param *p, struct mail_params *out);
} mail_keywords[] = {
	{ "SIZE", param_size },
	{ "BODY", param_body },
	{ "SMTPUTF8", param_smtputf8 },
	{ "AUTH", param_auth },
};

static bool
starts_with_space(struct span s)
{
	return s.len == 0 || is_class(s.p[0], C_WSP);
}

enum smtp_param
smtp_mail_params(struct span s, struct mail_params *out)
{
	struct param p;
	unsigned seen = 0;

	*out = (struct mail_params){ 0 };
	if (!starts_with_space(s))
		return SMTP_PARAM_SYNTAX;
	s = text_trim(s);
	while (next_param(&s, &p)) {
		size_t i = 0;

		if (!param_is_good(&p))
			return SMTP_PARAM_SYNTAX;
		while (i < COUNT(mail_keywords) && !text_is_nocase(p.keyword, mail_keywords[i].keyword))
			i++;
		if (i == COUNT(mail_keywords))
			return SMTP_PARAM_UNKNOWN;
		if ((seen & 1u << i) != 0 || !mail_keywords[i].run(&p, out))
			return SMTP_PARAM_SYNTAX;
		seen |= 1u << i;
	}
	return SMTP_PARAM_OK;
}

enum smtp_param
smtp_rcpt_params(struct span s)
{
	struct param p;

	if (!starts_with_space(s))
		return SMTP_PARAM_SYNTAX;
	s = text_trim(s);
	if (!next_param(&s, &p))
		return SMTP_PARAM_OK;
	return param_is_good(&p) ? SMTP_PARAM_UNKNOWN : SMTP_PARAM_SYNTAX;
}

bool
smtp_bdat(struct span s, uint64_t *size, bool *last)
{
	struct span number, word;

	s = text_trim(s);
	*last = false;
	if (!text_token(&s, " ", &number) || !parse_size(number, SIZE_MAX, size))
		return false;
	if (s.len == 0)
		return true;
	*last = text_token(&s, " ", &word) && text_is_nocase(word, "LAST");
	return *last && s.len == 0;	/* case 2.4 */
}

/* ---- status lines ---- */

/* RFC 3463 2: one to three digits, no leading zero. */
static bool
is_status_number(struct span s)
{
	uint64_t n;

	return s.len <= 3 && text_u64(s, 999, &n) == 0 && (s.len == 1 || s.p[0] != '0');
}

bool
smtp_status_line(struct span s, char *esc, char *text, size_t size)
{
	struct span code, rest, class, subject;
	size_t n = 0;

	esc[0] = '\0';
	if (size > 0)
		text[0] = '\0';
	while (s.len > 0 && is_class(s.p[s.len - 1], C_WSP | C_CNTRL))
		s.len--;
	if (!text_token(&s, " ", &code))
		return false;
	rest = code;
	if (!text_token(&rest, ".", &class) || !text_token(&rest, ".", &subject) || class.len != 1 ||
	    (class.p[0] != '4' && class.p[0] != '5') || !is_status_number(subject) || !is_status_number(rest))
		return false;
	memcpy(esc, code.p, code.len);	/* 9 octets at most */
	esc[code.len] = '\0';
	s = text_trim(s);
	for (; n < s.len && n + 1 < size; n++)
		text[n] = (char)(is_vchar(s.p[n]) || s.p[n] == ' ' ? s.p[n] : '?');
	if (size > 0)
		text[n] = '\0';
	return true;
}
