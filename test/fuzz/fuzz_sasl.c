/*
 * fuzz_sasl.c - a response, whatever its octets, gives credentials that keep their promises.
 *
 * The first octet chooses the mechanism, the rest is the response. Good credentials lie inside it, have no control octet but in a
 * password, a token of a token's octets, and say the same again when a response is written from them.
 */
#include <stdint.h>
#include <stdlib.h>

#include "buf.h"
#include "must.h"
#include "sasl.h"
#include "smtp.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_inside(struct span s, const char *p, size_t len)
{
	must(s.len == 0 || (s.p >= p && s.len <= len && (size_t)(s.p - p) <= len - s.len));
}

static void
check_name(struct span s)
{
	must(s.len <= SMTP_ADDRESS_MAX && !text_has(s, C_CNTRL) && text_is_utf8(s));
}

static void
write_response(struct buf *b, const struct credentials *c)
{
	switch (c->mechanism) {
	case SASL_PLAIN:
		buf_add_span(b, c->authzid);
		buf_add_char(b, '\0');
		buf_add_span(b, c->authcid);
		buf_add_char(b, '\0');
		buf_add_span(b, c->secret);
		return;
	case SASL_OAUTHBEARER:
		buf_add_str(b, c->authzid.len > 0 ? "n,a=" : "n,");
		for (size_t i = 0; i < c->authzid.len; i++) {
			char o = c->authzid.p[i];

			if (o == ',' || o == '=')
				buf_add_str(b, o == ',' ? "=2C" : "=3D");
			else
				buf_add_char(b, o);
		}
		buf_add_str(b, ",\x01" "auth=Bearer ");
		break;
	case SASL_XOAUTH2:
		buf_add_str(b, "user=");
		buf_add_span(b, c->authzid);
		buf_add_str(b, "\x01" "auth=Bearer ");
		break;
	case SASL_NONE:
	case SASL__MAX:
		abort();
	}
	buf_add_span(b, c->secret);
	buf_add_str(b, "\x01\x01");
}

static void
check(const struct credentials *c, enum sasl_mechanism m, const char *p, size_t len)
{
	char again[SASL_RESPONSE_MAX + 64];
	struct credentials second;
	const char *why;
	struct buf b;

	must(c->mechanism == m && c->secret.len > 0 && len <= SASL_RESPONSE_MAX);
	check_inside(c->authzid, p, len);
	check_inside(c->authcid, p, len);
	check_inside(c->secret, p, len);
	check_name(c->authzid);
	check_name(c->authcid);
	must((c->authcid.len > 0) == (m == SASL_PLAIN));
	for (size_t i = 0; i < c->secret.len; i++)
		must(m == SASL_PLAIN ? c->secret.p[i] != '\0' :
		    is_alnum(c->secret.p[i]) || strchr("-._~+/=", c->secret.p[i]) != NULL);
	buf_fixed(&b, again, sizeof(again));
	write_response(&b, c);
	must(!b.failed);
	if (buf_len(&b) > SASL_RESPONSE_MAX)	/* a lot of =2C that was not needed, and the like */
		return;
	must(sasl_parse(m, again, buf_len(&b), &second, &why) == 0);
	must(text_eq(second.authzid, c->authzid) && text_eq(second.authcid, c->authcid) && text_eq(second.secret, c->secret));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum sasl_mechanism m;
	struct credentials c;
	const char *why = NULL;
	char *p, challenge[8192];

	if (size == 0)
		return 0;
	m = (enum sasl_mechanism)(data[0] % SASL__MAX);
	p = malloc(size);	/* one octet more than the response: for a scope's NUL */
	must(p != NULL);
	memcpy(p, data + 1, size - 1);
	if (sasl_parse(m, p, size - 1, &c, &why) == 0)
		check(&c, m, p, size - 1);
	else
		must(why != NULL && why[0] != '\0' && c.authzid.len == 0 && c.authcid.len == 0 && c.secret.len == 0);
	p[size - 1] = '\0';
	if (sasl_failure(m, p, challenge, sizeof(challenge)) != -1) {
		char json[6144];
		long n = text_base64_decode(text_span(challenge), json, sizeof(json));
		struct span s = { json, (size_t)n };

		must(sasl_is_bearer(m) && n > 0 && s.p[0] == '{' && s.p[s.len - 1] == '}');
		must(text_is_utf8(s) && !text_has(s, C_CNTRL));
	}
	free(p);
	return 0;
}
