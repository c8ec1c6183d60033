/*
 * sasl.c - SASL mechanisms: what a client's response says. No I/O, no policy.
 *
 * RFC 4616 2 (PLAIN), 5801 4 (the GS2 header), 6750 2.1 (tokens), 7628 3.1 and 3.2.2 (OAUTHBEARER); SECURITY-CASES 7.6, 8.1 to 8.3.
 */
#include "sasl.h"

#include "buf.h"
#include "smtp.h"

#define NAME_LEN_MAX SMTP_ADDRESS_MAX	/* octets of an authzid or authcid: no user has more */
#define JSON_MAX 2048
#define KVSEP "\x01"

static const char *const names[SASL__MAX] = {
	[SASL_NONE] = "",
	[SASL_PLAIN] = "PLAIN",
	[SASL_OAUTHBEARER] = "OAUTHBEARER",
	[SASL_XOAUTH2] = "XOAUTH2",
};

/* What a failure's "status" is; NULL: the mechanism has no such challenge. */
static const char *const statuses[SASL__MAX] = {
	[SASL_OAUTHBEARER] = "invalid_token",
	[SASL_XOAUTH2] = "401",
};

static bool
is_name(struct span s)
{
	return s.len <= NAME_LEN_MAX && !text_has(s, C_CNTRL) && text_is_utf8(s);
}

/* RFC 4616 2: [authzid] NUL authcid NUL passwd. A password is octets here: what it was hashed from need not be UTF-8. */
static int
parse_plain(struct span s, struct credentials *c, const char **why)
{
	size_t first = text_find(s, '\0');
	struct span rest = text_sub(s, first, s.len);
	size_t second;

	*why = "not two NULs";
	if (rest.len == 0)
		return -1;
	rest = text_sub(rest, 1, rest.len);
	second = text_find(rest, '\0');
	if (second == SIZE_MAX)
		return -1;
	c->authzid = text_sub(s, 0, first);
	c->authcid = text_sub(rest, 0, second);
	c->secret = text_sub(rest, second + 1, rest.len);
	if (text_find(c->secret, '\0') != SIZE_MAX)
		return -1;
	*why = "empty user or password";
	if (c->authcid.len == 0 || c->secret.len == 0)
		return -1;
	*why = "bad user";
	return is_name(c->authzid) && is_name(c->authcid) ? 0 : -1;
}

/* RFC 6750 2.1: b64token. */
static bool
is_token(struct span s)
{
	size_t i = 0;

	while (i < s.len && (is_alnum(s.p[i]) || memchr("-._~+/", s.p[i], 6) != NULL))
		i++;
	if (i == 0)
		return false;
	while (i < s.len && s.p[i] == '=')
		i++;
	return i == s.len;
}

/* RFC 7235 2.1: scheme 1*SP token. */
static int
parse_authorization(struct span value, struct span *token, const char **why)
{
	struct span scheme = text_sub(value, 0, text_find(value, ' '));
	struct span rest = text_sub(value, scheme.len, value.len);

	while (rest.len > 0 && rest.p[0] == ' ')
		rest = text_sub(rest, 1, rest.len);
	*why = "empty token";	/* RFC 7628 4.3: it wants to be told what the server takes */
	if (value.len == 0 || (text_is_nocase(scheme, "Bearer") && rest.len == 0))
		return -1;
	*why = "not a bearer token";
	if (!text_is_nocase(scheme, "Bearer"))
		return -1;
	*why = "bad token";
	if (!is_token(rest))
		return -1;
	*token = rest;
	return 0;
}

/* A value's octets; UTF-8 as well, for XOAUTH2's user. */
static bool
is_value(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_vchar(s.p[i]) && !is_8bit(s.p[i]) && memchr(" \t\r\n", s.p[i], 4) == NULL)
			return false;
	return true;
}

/*
 * RFC 7628 3.1: *(key "=" value kvsep) kvsep. Keys that nobody here knows are skipped. user: NULL where it is none of ours.
 */
static int
parse_pairs(struct span s, struct credentials *c, struct span *user, const char **why)
{
	bool has_auth = false, has_user = false;

	*why = "bad framing";
	while (s.len > 0 && s.p[0] != KVSEP[0]) {
		size_t end = text_find(s, KVSEP[0]);
		struct span pair, key, value;

		if (end == SIZE_MAX)
			return -1;
		pair = text_sub(s, 0, end);
		s = text_sub(s, end + 1, s.len);
		key = text_sub(pair, 0, text_find(pair, '='));
		if (key.len == pair.len || key.len == 0)
			return -1;
		value = text_sub(pair, key.len + 1, pair.len);
		for (size_t i = 0; i < key.len; i++)
			if (!is_class(key.p[i], C_ALPHA))
				return -1;
		if (!is_value(value))
			return -1;
		if (text_is_nocase(key, "auth")) {
			*why = "two tokens";
			if (has_auth || parse_authorization(value, &c->secret, why) == -1)
				return -1;
			has_auth = true;
		} else if (user != NULL && text_is_nocase(key, "user")) {
			*why = "bad user";
			if (has_user || !is_name(value))
				return -1;
			has_user = true;
			*user = value;
		}
		*why = "bad framing";
	}
	if (s.len != 1)		/* the last kvsep, and nothing after it */
		return -1;
	*why = "no token";
	if (!has_auth)
		return -1;
	*why = "no user";
	return user == NULL || has_user ? 0 : -1;
}

/* RFC 5801 4: a saslname, "," and "=" written as =2C and =3D; decoded in place. */
static int
decode_saslname(char *p, size_t *len)
{
	size_t out = 0;

	for (size_t in = 0; in < *len; in++) {
		char c = p[in];

		if (c == '=') {
			if (*len - in < 3 || p[in + 1] < '2' || p[in + 1] > '3' || p[in + 2] != (p[in + 1] == '2' ? 'C' : 'D'))
				return -1;
			c = p[in + 1] == '2' ? ',' : '=';
			in += 2;
		}
		p[out++] = c;
	}
	*len = out;
	return 0;
}

/* RFC 5801 4: gs2-cb-flag "," ["a=" saslname] ",", then a kvsep; *s is left behind it. There is no channel binding here. */
static int
parse_gs2(char *response, struct span *s, struct credentials *c, const char **why)
{
	size_t end, len;

	*why = "channel binding";
	if (s->len >= 2 && s->p[0] == 'p' && s->p[1] == '=')
		return -1;
	*why = "bad GS2 header";
	if (s->len < 2 || (s->p[0] != 'n' && s->p[0] != 'y') || s->p[1] != ',')
		return -1;
	*s = text_sub(*s, 2, s->len);
	end = text_find(*s, ',');
	if (end == SIZE_MAX)
		return -1;
	if (end > 0) {
		char *name = response + 4;	/* behind "n,a=" */

		if (end < 3 || s->p[0] != 'a' || s->p[1] != '=')
			return -1;
		len = end - 2;
		if (decode_saslname(name, &len) == -1)
			return -1;
		c->authzid = (struct span){ name, len };
		if (!is_name(c->authzid))
			return -1;
	}
	*s = text_sub(*s, end + 1, s->len);
	if (s->len == 0 || s->p[0] != KVSEP[0])
		return -1;
	*s = text_sub(*s, 1, s->len);
	return 0;
}

enum sasl_mechanism
sasl_find(struct span name)
{
	for (unsigned m = SASL_NONE + 1; m < SASL__MAX; m++)
		if (text_is_nocase(name, names[m]))
			return (enum sasl_mechanism)m;
	return SASL_NONE;
}

const char *
sasl_name(enum sasl_mechanism m)
{
	return names[m];
}

bool
sasl_is_bearer(enum sasl_mechanism m)
{
	return m == SASL_OAUTHBEARER || m == SASL_XOAUTH2;
}

int
sasl_parse(enum sasl_mechanism m, char *response, size_t len, struct credentials *c, const char **why)
{
	struct span s = { response, len };
	int result = -1;

	*c = (struct credentials){ .mechanism = m };
	*why = "too long";
	if (len > SASL_RESPONSE_MAX)
		m = SASL__MAX;
	switch (m) {
	case SASL_PLAIN:
		result = parse_plain(s, c, why);
		break;
	case SASL_OAUTHBEARER:
		if (parse_gs2(response, &s, c, why) == 0)
			result = parse_pairs(s, c, NULL, why);
		break;
	case SASL_XOAUTH2:
		result = parse_pairs(s, c, &c->authzid, why);
		break;
	case SASL_NONE:
		*why = "no mechanism";
		break;
	case SASL__MAX:
		break;
	}
	if (result == -1)
		*c = (struct credentials){ 0 };
	return result;
}

/* The inside of a JSON string (RFC 8259 7); what is no UTF-8 becomes U+FFFD. */
static void
add_json(struct buf *b, struct span s)
{
	while (s.len > 0) {
		size_t n = text_utf8_len(s);

		if (n == 0)
			buf_add_str(b, "\\ufffd");
		else if (s.p[0] == '"' || s.p[0] == '\\')
			buf_printf(b, "\\%c", s.p[0]);
		else if (is_class(s.p[0], C_CNTRL))
			buf_printf(b, "\\u%04x", (unsigned char)s.p[0]);
		else
			buf_add(b, s.p, n);
		s = text_sub(s, n == 0 ? 1 : n, s.len);
	}
}

long
sasl_failure(enum sasl_mechanism m, const char *scope, char *dst, size_t size)
{
	char json[JSON_MAX];
	struct buf b;

	if (statuses[m] == NULL)
		return -1;
	buf_fixed(&b, json, sizeof(json));
	buf_printf(&b, "{\"status\":\"%s\",\"schemes\":\"bearer\",\"scope\":\"", statuses[m]);
	add_json(&b, text_span(scope));
	buf_add_str(&b, "\"}");
	return b.failed ? -1 : text_base64_encode(buf_span(&b), dst, size);
}
