/*
 * fuzz_jwt.c - no octets are a good token but those of the few that are known, however near they come.
 *
 * The first octet says what the rest is: a token; a header or a payload of a token whose other parts are of the good one; or a
 * payload behind a signature that is good, which is how the claims are reached.
 */
#include <stdlib.h>

#include <bearssl_ec.h>
#include <bearssl_hash.h>

#include "../unit/data/jwt_vectors.h"
#include "jwt.h"
#include "must.h"

#define NOW 1700000000
#define TOKEN_SIZE (4 * JWT_TOKEN_MAX)

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *audiences[] = { (char *)"mx.toy", NULL };
static char *domains[] = { (char *)"example.com", (char *)"default.test", NULL };
static const struct issuer policy = { .issuer = (char *)"https://idp.test", .audience = { audiences, 1 }, .username_claim = (char *)"email",
    .required_scope = (char *)"smtp.send", .allowed_domains = { domains, 2 }, .leeway_ms = 60000 };
static const br_ec_private_key private_key = { BR_EC_secp256r1, (unsigned char *)"0123456789abcdefghijklmnopqrstuv", 32 };

static void
add_base64url(struct buf *b, struct span s)
{
	static char text[TOKEN_SIZE];

	must(text_base64_encode(s, text, sizeof(text)) >= 0);
	for (const char *p = text; *p != '\0' && *p != '='; p++)
		buf_add_char(b, *p == '+' ? '-' : *p == '/' ? '_' : *p);
}

static struct jwks *
own_key(void)
{
	unsigned char point[BR_EC_KBUF_PUB_MAX_SIZE];
	const char *why;
	struct jwks *set;
	br_ec_public_key pk;
	struct buf b;

	buf_init(&b, 1024);
	must(br_ec_compute_pub(br_ec_get_default(), &pk, point, &private_key) == 65);
	buf_add_str(&b, "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"");
	add_base64url(&b, (struct span){ (const char *)point + 1, 32 });
	buf_add_str(&b, "\",\"y\":\"");
	add_base64url(&b, (struct span){ (const char *)point + 33, 32 });
	buf_add_str(&b, "\"}]}");
	set = jwks_parse(buf_span(&b), NULL, &why);
	must(set != NULL && jwks_n(set) == 1);
	buf_clear(&b);
	return set;
}

static void
add_signature(struct buf *b)
{
	unsigned char hash[br_sha256_SIZE], signature[64];
	br_sha256_context c;

	br_sha256_init(&c);
	br_sha256_update(&c, buf_span(b).p, buf_len(b));
	br_sha256_out(&c, hash);
	must(br_ecdsa_sign_raw_get_default()(br_ec_get_default(), &br_sha256_vtable, hash, &private_key, signature) == 64);
	buf_add_char(b, '.');
	add_base64url(b, (struct span){ (const char *)signature, sizeof(signature) });
}

static enum jwt_outcome
verify(const struct jwks *set, struct span token)
{
	static const struct jwt zero;
	struct mailbox again;
	char user[SMTP_ADDRESS_MAX + 1], issuer[64];
	const char *why = NULL;
	enum jwt_outcome outcome;
	struct jwt out;

	outcome = jwt_verify(set, &policy, "default.test", token, NOW, &out, &why);
	must(why != NULL && (why[0] == '\0') == (outcome == JWT_GOOD));
	must(!text_has(text_span(out.kid), C_CNTRL) && !text_has(text_span(out.subject), C_CNTRL));
	if (outcome == JWT_GOOD) {
		must(out.expires_time > NOW);
		smtp_mailbox_print(&out.user, user);
		must(smtp_mailbox(text_span(user), true, &again) == SMTP_PATH_OK);
		must(strcmp(again.local, out.user.local) == 0 && strcmp(again.domain, out.user.domain) == 0);
		must(strcmp(out.user.domain, "example.com") == 0 || strcmp(out.user.domain, "default.test") == 0);
		for (const char *p = out.user.local; *p != '\0'; p++)
			must(*p == text_lower(*p));
		must(jwt_issuer(token, issuer, sizeof(issuer), &why) && strcmp(issuer, policy.issuer) == 0);
	} else if (strcmp(why, "signature") == 0 || outcome == JWT_NO_KEY) {	/* what is not signed leaves no trace but kid */
		must(memcmp(&out.user, &zero.user, sizeof(zero.user)) == 0 && out.subject[0] == '\0' && out.expires_time == 0);
	}
	if (!jwt_issuer(token, issuer, sizeof(issuer), &why))
		must(issuer[0] == '\0' && why[0] != '\0');
	return outcome;
}

static bool
is_known(struct span token)
{
	return text_is(token, MINTED_ES256) || text_is(token, MINTED_RS256) || text_is(token, MINTED_PS256);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct jwks *own, *minted;
	struct span good = SPAN(MINTED_ES256), in = { (const char *)data + 1, size - 1 }, token;
	size_t first = text_find(good, '.'), second = first + 1 + text_find(text_sub(good, first + 1, good.len), '.');
	const char *why;
	struct buf b;

	if (size == 0 || size > JWT_TOKEN_MAX)
		return 0;
	if (own == NULL) {
		own = own_key();
		minted = jwks_parse(SPAN(MINTED_JWKS), NULL, &why);
		must(minted != NULL && verify(minted, good) == JWT_GOOD);
	}
	buf_init(&b, TOKEN_SIZE);
	switch (data[0]) {
	case 't':
		buf_add_span(&b, in);
		break;
	case 'h':
		add_base64url(&b, in);
		buf_add_span(&b, text_sub(good, first, good.len));
		break;
	case 'p':
		buf_add_span(&b, text_sub(good, 0, first + 1));
		add_base64url(&b, in);
		buf_add_span(&b, text_sub(good, second, good.len));
		break;
	case 's':
		buf_add_str(&b, "eyJhbGciOiJFUzI1NiJ9.");	/* {"alg":"ES256"} */
		add_base64url(&b, in);
		add_signature(&b);
		break;
	case 'H':	/* a header of any kind, signed */
		add_base64url(&b, in);
		buf_add_span(&b, text_sub(good, first, second));
		add_signature(&b);
		break;
	default:
		break;
	}
	must(!b.failed);
	token = buf_span(&b);
	if (verify(minted, token) == JWT_GOOD)
		must(is_known(token));
	if (verify(own, token) == JWT_GOOD)
		must(data[0] == 's' || data[0] == 'H');
	buf_clear(&b);
	return 0;
}
