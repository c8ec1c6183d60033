/*
 * test_jwt.c - tokens and key sets: the RFCs' examples, another implementation's, and the hostile rows of 8.10 to 8.44.
 *
 * Rows about header and claims are signed here with a key of the test's own, so that nothing but the row is wrong with them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <bearssl_ec.h>
#include <bearssl_hash.h>
#include <cmocka.h>

#include "data/jwt_vectors.h"
#include "jwt.h"

#define NOW 1700000000
#define TOKEN_SIZE (4 * JWT_TOKEN_MAX)

static char *audiences[] = { (char *)"other", (char *)"mx.toy", NULL };
static char *domains[] = { (char *)"example.org", (char *)"example.com", NULL };

static struct issuer
policy(void)
{
	return (struct issuer){ .issuer = (char *)"https://idp.test", .audience = { audiences, 2 }, .username_claim = (char *)"email",
	    .required_scope = (char *)"", .leeway_ms = 60 * 1000 };
}

static const br_ec_private_key private_key = { BR_EC_secp256r1, (unsigned char *)"0123456789abcdefghijklmnopqrstuv", 32 };

static void
add_base64url(struct buf *b, struct span s)
{
	static char text[TOKEN_SIZE];

	assert_true(text_base64_encode(s, text, sizeof(text)) >= 0);
	for (const char *p = text; *p != '\0' && *p != '='; p++)
		buf_add_char(b, *p == '+' ? '-' : *p == '/' ? '_' : *p);
}

static void
sign(struct span data, unsigned char signature[64])
{
	unsigned char hash[br_sha256_SIZE];
	br_sha256_context c;

	br_sha256_init(&c);
	br_sha256_update(&c, data.p, data.len);
	br_sha256_out(&c, hash);
	assert_int_equal(br_ecdsa_sign_raw_get_default()(br_ec_get_default(), &br_sha256_vtable, hash, &private_key, signature), 64);
}

/* header.payload, signed. b is emptied first. */
static struct span
mint(struct buf *b, struct span header, struct span payload)
{
	unsigned char signature[64];

	buf_reset(b);
	add_base64url(b, header);
	buf_add_char(b, '.');
	add_base64url(b, payload);
	sign(buf_span(b), signature);
	buf_add_char(b, '.');
	add_base64url(b, (struct span){ (const char *)signature, sizeof(signature) });
	assert_false(b->failed);
	return buf_span(b);
}

/* The members crv, x, y of the test's key. */
static void
add_public_key(struct buf *b)
{
	unsigned char point[BR_EC_KBUF_PUB_MAX_SIZE];
	br_ec_public_key pk;

	assert_int_equal(br_ec_compute_pub(br_ec_get_default(), &pk, point, &private_key), 65);
	buf_add_str(b, "\"crv\":\"P-256\",\"x\":\"");
	add_base64url(b, (struct span){ (const char *)point + 1, 32 });
	buf_add_str(b, "\",\"y\":\"");
	add_base64url(b, (struct span){ (const char *)point + 33, 32 });
	buf_add_str(b, "\"");
}

static struct jwks *
load(struct span json, size_t want_n, unsigned want_skipped)
{
	unsigned skipped = 4711;
	const char *why = NULL;
	struct jwks *set = jwks_parse(json, &skipped, &why);

	assert_non_null(set);
	assert_string_equal(why, "");
	assert_int_equal(jwks_n(set), want_n);
	assert_int_equal(skipped, want_skipped);
	return set;
}

/* The test's key with kid k1, and others that are not meant. */
static struct jwks *
own_keys(void)
{
	struct jwks *set;
	struct buf b;

	buf_init(&b, 1 << 16);
	buf_add_str(&b, "{\"keys\":[{\"kty\":\"EC\",\"kid\":\"k1\",");
	add_public_key(&b);
	buf_add_str(&b, "},");
	buf_add(&b, MINTED_JWKS + 9, sizeof(MINTED_JWKS) - 10);	/* behind {"keys":[ */
	set = load(buf_span(&b), 8, 0);
	buf_clear(&b);
	return set;
}

static void
expect(const struct jwks *set, const struct issuer *p, struct span token, enum jwt_outcome want, const char *want_why, struct jwt *out)
{
	char *copy = malloc(token.len + 1);	/* ends where it ends, for the sanitizer */
	const char *why = NULL;
	enum jwt_outcome outcome;

	assert_non_null(copy);
	memcpy(copy, token.p, token.len);
	copy = realloc(copy, token.len + (token.len == 0));
	assert_non_null(copy);
	outcome = jwt_verify(set, p, "default.test", (struct span){ copy, token.len }, NOW, out, &why);
	free(copy);
	assert_non_null(why);
	assert_string_equal(why, want_why);
	assert_int_equal(outcome, want);
}

/* ---- signatures ---- */

static const struct {
	const char	*name, *token, *why;
} rfc_rows[] = {	/* none of them is for us: why says how far each came */
	{ "RFC 7515 A.2", RFC7515_A2, "issuer" },
	{ "RFC 7515 A.3", RFC7515_A3, "issuer" },
	{ "RFC 7515 A.4", RFC7515_A4, "payload" },
	{ "RFC 7520 4.1", RFC7520_41, "payload" },
	{ "RFC 7520 4.2", RFC7520_42, "payload" },
	{ "RFC 7520 4.3", RFC7520_43, "payload" },
};

/* Octet at of a token that is for base64url: another one of its alphabet. */
static char
another(char c)
{
	return c == 'A' ? 'B' : 'A';
}

static void
test_rfc_examples(void **unused)
{
	struct jwks *set = load(SPAN(RFC_JWKS), 5, 0);
	struct issuer p = policy(), joe = policy();
	struct jwt out;

	(void)unused;
	for (size_t i = 0; i < COUNT(rfc_rows); i++) {
		struct span token = text_span(rfc_rows[i].token);
		char *copy = strdup(rfc_rows[i].token);
		size_t at[3] = { text_find(token, '.') + 3, text_find(token, '.') + 9, token.len - 50 };

		print_message("  %s\n", rfc_rows[i].name);
		assert_non_null(copy);
		expect(set, &p, token, JWT_BAD, rfc_rows[i].why, &out);
		for (size_t k = 0; k < COUNT(at); k++) {
			copy[at[k]] = another(token.p[at[k]]);
			expect(set, &p, (struct span){ copy, token.len }, JWT_BAD, "signature", &out);
			copy[at[k]] = token.p[at[k]];
		}
		free(copy);
	}
	joe.issuer = (char *)"joe";
	expect(set, &joe, SPAN(RFC7515_A2), JWT_BAD, "audience", &out);
	assert_true(out.expires_time == 1300819380 + 60);
	jwks_free(set);
}

#define GOOD(name) { #name, MINTED_##name, JWT_GOOD, "" }

static const struct {
	const char	*name, *token;
	enum jwt_outcome want;
	const char	*why;
} minted_rows[] = {
	GOOD(RS256), GOOD(RS384), GOOD(RS512), GOOD(PS256), GOOD(PS384), GOOD(PS512), GOOD(ES256), GOOD(ES384), GOOD(ES512),
	GOOD(ODD_RS256), GOOD(ODD_PS256), GOOD(ODD_PS384), GOOD(ODD_PS512), GOOD(CUBE), GOOD(LARGE),
	GOOD(RAW_RS), GOOD(RAW_PS), GOOD(RAW_ODD_PS),	/* so the hostile ones fail for what they are */
	{ "LARGE_RS256", MINTED_LARGE_RS256, JWT_BAD, "key is not for the algorithm" },
};

static const struct {
	const char	*name, *token;
} bad_rows[] = { BAD_TOKENS };	/* cases 8.24 to 8.26 and RFC 8017 9.1.2 */

static void
test_minted_tokens(void **unused)
{
	struct jwks *set = load(SPAN(MINTED_JWKS), 7, 0);
	struct issuer p = policy();
	struct jwt out;

	(void)unused;
	p.required_scope = (char *)"smtp.send";
	for (size_t i = 0; i < COUNT(minted_rows); i++) {
		print_message("  %s\n", minted_rows[i].name);
		expect(set, &p, text_span(minted_rows[i].token), minted_rows[i].want, minted_rows[i].why, &out);
		assert_string_equal(out.user.local, minted_rows[i].want == JWT_GOOD ? "alice" : "");
		assert_string_equal(out.user.domain, minted_rows[i].want == JWT_GOOD ? "example.com" : "");
		assert_string_equal(out.subject, minted_rows[i].want == JWT_GOOD ? "alice-1" : "");
		assert_true(out.expires_time == (minted_rows[i].want == JWT_GOOD ? 1700003600 + 60 : 0));
		assert_true(out.kid[0] != '\0');
	}
	for (size_t i = 0; i < COUNT(bad_rows); i++) {
		print_message("  %s\n", bad_rows[i].name);
		expect(set, &p, text_span(bad_rows[i].token), JWT_BAD, "signature", &out);
		assert_string_equal(out.user.local, "");
		assert_string_equal(out.subject, "");
	}
	jwks_free(set);
}

/* Any octet of a good token changed, and any cut, is refused. */
static void
test_every_octet_counts(void **unused)
{
	static const char *const tokens[] = { MINTED_ES256, MINTED_PS256 };
	struct jwks *set = load(SPAN(MINTED_JWKS), 7, 0);
	struct issuer p = policy();
	const char *why;
	struct jwt out;

	(void)unused;
	for (size_t i = 0; i < COUNT(tokens); i++) {
		struct span token = text_span(tokens[i]);
		char *copy = strdup(tokens[i]);

		assert_non_null(copy);
		for (size_t at = 0; at < token.len; at++) {
			copy[at] = another(token.p[at]);
			assert_int_not_equal(jwt_verify(set, &p, "d", (struct span){ copy, token.len }, NOW, &out, &why), JWT_GOOD);
			copy[at] = token.p[at];
			assert_int_not_equal(jwt_verify(set, &p, "d", text_sub(token, 0, at), NOW, &out, &why), JWT_GOOD);
		}
		expect(set, &p, (struct span){ copy, token.len }, JWT_GOOD, "", &out);
		free(copy);
	}
	jwks_free(set);
}

#define N256 "\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51"
#define N256_1 "\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x52"
#define ZERO "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define ONE "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
#define ONES "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"

static const struct span ecdsa_rows[] = {	/* case 8.24 */
	SPAN(ZERO ZERO), SPAN(ZERO ONE), SPAN(ONE ZERO), SPAN(ONE ONE), SPAN(N256 N256), SPAN(N256 ONE), SPAN(ONE N256), SPAN(N256_1 ONE),
	SPAN(ONE N256_1), SPAN(ONES ONES), SPAN(ONES ONE), SPAN(ZERO N256), SPAN(N256 ZERO), SPAN("\x30\x06\x02\x01\x01\x02\x01\x01"), SPAN(""),
	SPAN("\x01\x01"),
};

#define KID1 "{\"alg\":\"ES256\",\"kid\":\"k1\"}"
#define ISS "\"iss\":\"https://idp.test\""
#define AUD "\"aud\":\"mx.toy\""
#define EXP "\"exp\":1700000100"
#define MAIL "\"email\":\"alice@example.com\""
#define ALL "{" ISS "," AUD "," EXP "," MAIL "}"

static void
test_ecdsa_numbers(void **unused)
{
	struct jwks *set = own_keys();
	struct issuer p = policy();
	unsigned char signature[66] = { 0 };
	struct span signed_part;
	struct jwt out;
	struct buf b;

	(void)unused;
	buf_init(&b, TOKEN_SIZE);
	for (size_t i = 0; i < COUNT(ecdsa_rows); i++) {
		print_message("  row %zu\n", i);
		mint(&b, SPAN(KID1), SPAN(ALL));
		while (b.data[b.wpos - 1] != '.')
			b.wpos--;
		add_base64url(&b, ecdsa_rows[i]);
		expect(set, &p, buf_span(&b), JWT_BAD, "signature", &out);
	}
	mint(&b, SPAN(KID1), SPAN(ALL));
	while (b.data[b.wpos - 1] != '.')
		b.wpos--;
	signed_part = buf_span(&b);
	signed_part.len--;
	sign(signed_part, signature);
	add_base64url(&b, (struct span){ (const char *)signature, 63 });
	expect(set, &p, buf_span(&b), JWT_BAD, "signature", &out);
	b.wpos = signed_part.len + 1;
	add_base64url(&b, (struct span){ (const char *)signature, 65 });
	expect(set, &p, buf_span(&b), JWT_BAD, "signature", &out);
	b.wpos = signed_part.len + 1;
	add_base64url(&b, (struct span){ (const char *)signature, 64 });
	expect(set, &p, buf_span(&b), JWT_GOOD, "", &out);
	memmove(signature + 34, signature + 32, 32);	/* the same numbers, each with a zero in front */
	memmove(signature + 1, signature, 32);
	signature[0] = signature[33] = 0;
	b.wpos = signed_part.len + 1;
	add_base64url(&b, (struct span){ (const char *)signature, 66 });
	expect(set, &p, buf_span(&b), JWT_BAD, "signature", &out);
	buf_clear(&b);
	jwks_free(set);
}

/* ---- the form, and the header ---- */

static const struct {
	const char	*header;
	enum jwt_outcome want;
	const char	*why;
} header_rows[] = {
	{ KID1, JWT_GOOD, "" },
	{ "{\"alg\":\"ES256\"}", JWT_GOOD, "" },	/* without kid each key of its type is tried */
	{ " { \"kid\" : \"\\u006b1\" , \"\\u0061lg\" : \"ES256\" } ", JWT_GOOD, "" },
	/* case 8.11 */
	{ "{\"alg\":\"none\",\"kid\":\"k1\"}", JWT_BAD, "algorithm" },
	{ "{\"alg\":\"None\"}", JWT_BAD, "algorithm" },
	{ "{\"alg\":\"nOnE\"}", JWT_BAD, "algorithm" },
	{ "{\"alg\":\"\"}", JWT_BAD, "algorithm" },
	{ "{\"alg\":1}", JWT_BAD, "algorithm" },
	{ "{\"alg\":null}", JWT_BAD, "algorithm" },
	{ "{\"alg\":[\"ES256\"]}", JWT_BAD, "algorithm" },
	{ "{}", JWT_BAD, "algorithm" },
	{ "{\"kid\":\"k1\"}", JWT_BAD, "algorithm" },
	{ "{\"alg\":\"es256\",\"kid\":\"k1\"}", JWT_BAD, "algorithm" },
	{ "{\"alg\":\"ES256 \",\"kid\":\"k1\"}", JWT_BAD, "algorithm" },
	{ "{\"alg\":\"ES256K\",\"kid\":\"k1\"}", JWT_BAD, "algorithm" },
	{ "{\"alg\":\"EdDSA\",\"kid\":\"k1\"}", JWT_BAD, "algorithm" },
	/* case 8.12 */
	{ "{\"alg\":\"HS256\",\"kid\":\"k1\"}", JWT_BAD, "algorithm" },
	{ "{\"alg\":\"HS384\"}", JWT_BAD, "algorithm" },
	{ "{\"alg\":\"HS512\"}", JWT_BAD, "algorithm" },
	/* case 8.13 */
	{ "{\"alg\":\"RS256\",\"kid\":\"k1\"}", JWT_BAD, "key is not for the algorithm" },
	{ "{\"alg\":\"PS512\",\"kid\":\"es256\"}", JWT_BAD, "key is not for the algorithm" },
	{ "{\"alg\":\"ES384\",\"kid\":\"k1\"}", JWT_BAD, "key is not for the algorithm" },
	{ "{\"alg\":\"ES256\",\"kid\":\"es384\"}", JWT_BAD, "key is not for the algorithm" },
	{ "{\"alg\":\"ES256\",\"kid\":\"rsa\"}", JWT_BAD, "key is not for the algorithm" },
	{ "{\"alg\":\"RS256\",\"kid\":\"rsa\"}", JWT_BAD, "signature" },
	{ "{\"alg\":\"ES256\",\"kid\":\"es256\"}", JWT_BAD, "signature" },
	{ "{\"alg\":\"ES384\"}", JWT_BAD, "signature" },
	{ "{\"alg\":\"RS256\"}", JWT_BAD, "signature" },
	/* case 8.14 */
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"jwk\":{\"kty\":\"RSA\"},\"jku\":\"https://evil.test/\",\"x5u\":\"https://evil.test/\",\"x5c\":[\"AA==\"]}",
	    JWT_GOOD, "" },
	{ "{\"alg\":\"ES256\",\"kid\":\"evil\",\"jku\":\"https://evil.test/keys\"}", JWT_NO_KEY, "no such key" },
	/* case 8.15 */
	{ "{\"alg\":\"ES256\",\"kid\":\"k2\"}", JWT_NO_KEY, "no such key" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k\"}", JWT_NO_KEY, "no such key" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k11\"}", JWT_NO_KEY, "no such key" },
	{ "{\"alg\":\"ES256\",\"kid\":\"K1\"}", JWT_NO_KEY, "no such key" },
	{ "{\"alg\":\"ES256\",\"kid\":\"\"}", JWT_NO_KEY, "no such key" },
	{ "{\"alg\":\"ES256\",\"kid\":\"../../x\"}", JWT_NO_KEY, "no such key" },
	{ "{\"alg\":\"ES256\",\"kid\":\"' OR 1=1\"}", JWT_NO_KEY, "no such key" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\\u0000\"}", JWT_BAD, "header" },
	{ "{\"alg\":\"ES256\",\"kid\":1}", JWT_BAD, "kid" },
	{ "{\"alg\":\"ES256\",\"kid\":[\"k1\"]}", JWT_BAD, "kid" },
	{ "{\"alg\":\"ES256\",\"kid\":null}", JWT_BAD, "kid" },
	/* case 8.16 */
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"crit\":[\"exp\"]}", JWT_BAD, "critical extension" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"crit\":[\"b64\"],\"b64\":true}", JWT_BAD, "critical extension" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"crit\":[]}", JWT_BAD, "critical extension" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"crit\":null}", JWT_BAD, "critical extension" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"b64\":false}", JWT_BAD, "critical extension" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"b64\":true}", JWT_BAD, "critical extension" },
	/* case 8.17 */
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":\"JWT\"}", JWT_GOOD, "" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":\"jwt\"}", JWT_GOOD, "" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":\"at+jwt\"}", JWT_GOOD, "" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":\"AT+JWT\"}", JWT_GOOD, "" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":\"application/at+jwt\"}", JWT_GOOD, "" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":\"JWE\"}", JWT_BAD, "type" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":\"\"}", JWT_BAD, "type" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":\"dpop+jwt\"}", JWT_BAD, "type" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":\"application/at+jwt; charset=utf-8\"}", JWT_BAD, "type" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":1}", JWT_BAD, "type" },
	/* cases 8.18, 8.19 */
	{ "{\"alg\":\"none\",\"alg\":\"ES256\",\"kid\":\"k1\"}", JWT_BAD, "header" },
	{ "{\"alg\":\"ES256\",\"\\u0061lg\":\"ES256\",\"kid\":\"k1\"}", JWT_BAD, "header" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"x\":{\"a\":1,\"a\":1}}", JWT_BAD, "header" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"x\":\"\\ud800\"}", JWT_BAD, "header" },
	{ "{\"alg\":\"ES256\",\"kid\":\"k1\",\"x\":\"\xff\"}", JWT_BAD, "header" },
	{ "\xef\xbb\xbf" KID1, JWT_BAD, "header" },
	{ KID1 "x", JWT_BAD, "header" },
	{ KID1 KID1, JWT_BAD, "header" },
	{ "[" KID1 "]", JWT_BAD, "header" },
	{ "\"ES256\"", JWT_BAD, "header" },
	{ "", JWT_BAD, "header" },
	{ "{", JWT_BAD, "header" },
};

static void
test_headers(void **unused)
{
	struct jwks *set = own_keys();
	struct issuer p = policy();
	char kid[JWT_TOKEN_MAX], header[JWT_TOKEN_MAX + 64];
	struct jwt out;
	struct buf b;

	(void)unused;
	buf_init(&b, TOKEN_SIZE);
	for (size_t i = 0; i < COUNT(header_rows); i++) {
		print_message("  %s\n", header_rows[i].header);
		expect(set, &p, mint(&b, text_span(header_rows[i].header), SPAN(ALL)), header_rows[i].want, header_rows[i].why, &out);
		assert_string_equal(out.user.local, header_rows[i].want == JWT_GOOD ? "alice" : "");
	}
	memset(kid, 'k', sizeof(kid));
	kid[4096] = '\0';
	(void)snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"kid\":\"%s\"}", kid);
	expect(set, &p, mint(&b, text_span(header), SPAN(ALL)), JWT_NO_KEY, "no such key", &out);
	assert_int_equal(strlen(out.kid), JWT_KID_MAX);
	expect(set, &p, mint(&b, SPAN("{\"alg\":\"ES256\",\"kid\":\"a\\nb\xc3\xbc\"}"), SPAN(ALL)), JWT_NO_KEY, "no such key", &out);
	assert_string_equal(out.kid, "a?b??");
	kid[4096] = 'k';
	kid[sizeof(kid) - 1] = '\0';
	(void)snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"kid\":\"%s\"}", kid);
	expect(set, &p, mint(&b, text_span(header), SPAN(ALL)), JWT_BAD, "too long", &out);
	buf_clear(&b);
	jwks_free(set);
}

/* How a good token is bent: parts are written as %1 %2 %3. */
static const struct {
	const char	*form, *why;
} form_rows[] = {
	{ "%1.%2.%3", "" },
	{ "%1.%2.", "signature" },	/* case 8.11: an empty signature */
	{ "%1.%2", "form" },
	{ "%1", "form" },
	{ "", "form" },
	{ ".", "form" },
	{ "..", "header" },
	{ "....", "form" },
	{ "%1.%2.%3.", "form" },
	{ "%1.%2.%3.%1", "form" },
	{ "%1.%2.%3.%1.%2", "form" },
	{ ".%1.%2.%3", "form" },
	{ ".%2.%3", "header" },
	{ "%1..%3", "signature" },
	{ " %1.%2.%3", "header" },
	{ "%1.%2.%3 ", "signature" },
	{ "%1.%2.%3\n", "signature" },
	{ "%1 .%2.%3", "header" },
	{ "%1. %2.%3", "signature" },
	/* case 8.27 */
	{ "%1=.%2.%3", "header" },
	{ "%1.%2=.%3", "signature" },
	{ "%1.%2.%3==", "signature" },
	{ "%1.%2.%3A", "signature" },
	{ "%1A.%2.%3", "header" },
	{ "%%1.%2.%3", "header" },
	{ "+%1.%2.%3", "header" },
	{ "/%1.%2.%3", "header" },
	{ "%2.%1.%3", "algorithm" },
	{ "{\"alg\":\"ES256\"}.%2.%3", "header" },
};

static void
test_forms(void **unused)
{
	struct jwks *set = own_keys();
	struct issuer p = policy();
	struct span parts[3], rest;
	struct buf good, b;
	struct jwt out;

	(void)unused;
	buf_init(&good, TOKEN_SIZE);
	buf_init(&b, TOKEN_SIZE);
	rest = mint(&good, SPAN(KID1), SPAN(ALL));
	for (size_t k = 0; k < COUNT(parts); k++)
		assert_true(text_token(&rest, ".", &parts[k]));
	for (size_t i = 0; i < COUNT(form_rows); i++) {
		print_message("  %s\n", form_rows[i].form);
		buf_reset(&b);
		for (const char *f = form_rows[i].form; *f != '\0'; f++) {
			if (f[0] == '%' && f[1] >= '1' && f[1] <= '3')
				buf_add_span(&b, parts[*++f - '1']);
			else
				buf_add_char(&b, *f);
		}
		expect(set, &p, buf_span(&b), form_rows[i].why[0] == '\0' ? JWT_GOOD : JWT_BAD, form_rows[i].why, &out);
	}
	buf_reset(&b);
	buf_add_span(&b, buf_span(&good));
	while (b.wpos < JWT_TOKEN_MAX)
		buf_add_char(&b, 'A');
	expect(set, &p, buf_span(&b), JWT_BAD, "signature", &out);
	buf_add_char(&b, 'A');
	expect(set, &p, buf_span(&b), JWT_BAD, "too long", &out);
	buf_clear(&good);
	buf_clear(&b);
	jwks_free(set);
}

/* ---- claims ---- */

#define TIMES(...) "{" ISS "," AUD "," MAIL "," __VA_ARGS__ "}"
#define ISSUER(i) "{\"iss\":" i "," AUD "," EXP "," MAIL "}"
#define AUDIENCE(a) "{" ISS ",\"aud\":" a "," EXP "," MAIL "}"
#define USER(...) "{" ISS "," AUD "," EXP "," __VA_ARGS__ "}"
#define MORE(...) "{" ISS "," AUD "," EXP "," MAIL "," __VA_ARGS__ "}"

struct claims_row {
	const char	*payload;
	const char	*why;		/* "": good */
	const char	*user;		/* NULL: alice@example.com, when good */
	const char	*scope, *claim;	/* of the policy, when not NULL */
	bool		 domains;
};

static const struct claims_row claims_rows[] = {
	{ ALL, .why = "" },
	{ TIMES(EXP), .why = "" },
	/* the payload as JSON, cases 8.18, 8.19 */
	{ "", .why = "payload" },
	{ "[" ALL "]", .why = "payload" },
	{ ALL "x", .why = "payload" },
	{ "\xef\xbb\xbf" ALL, .why = "payload" },
	{ MORE("\"iss\":\"https://idp.test\""), .why = "payload" },
	{ MORE("\"email\":\"bob@example.com\""), .why = "payload" },
	{ MORE("\"\\u0065mail\":\"bob@example.com\""), .why = "payload" },
	{ MORE("\"a\":\"\\udead\""), .why = "payload" },
	{ MORE("\"a\":[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]"), .why = "" },
	{ MORE("\"a\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]"), .why = "payload" },
	/* case 8.20 */
	{ TIMES("\"iat\":1"), .why = "exp" },
	{ TIMES("\"exp\":\"1700000100\""), .why = "exp" },
	{ TIMES("\"exp\":null"), .why = "exp" },
	{ TIMES("\"exp\":[1700000100]"), .why = "exp" },
	{ TIMES("\"exp\":1e400"), .why = "exp" },
	{ TIMES("\"exp\":1e100"), .why = "exp" },
	{ TIMES("\"exp\":-1"), .why = "exp" },
	{ TIMES("\"exp\":-1700000100"), .why = "exp" },
	{ TIMES("\"exp\":9999999999999999999"), .why = "exp" },
	{ TIMES("\"exp\":9223372036854775807"), .why = "exp" },
	{ TIMES("\"exp\":18446744075409551716"), .why = "exp" },
	{ TIMES("\"exp\":9007199254740992"), .why = "" },
	{ TIMES("\"exp\":0"), .why = "expired" },
	{ TIMES("\"exp\":1699999939"), .why = "expired" },
	{ TIMES("\"exp\":1699999940"), .why = "expired" },
	{ TIMES("\"exp\":1699999940.9"), .why = "expired" },
	{ TIMES("\"exp\":1699999941"), .why = "" },
	{ TIMES("\"exp\":1700000060.5"), .why = "" },
	{ TIMES("\"exp\":17000000605e-1"), .why = "" },
	{ TIMES("\"exp\":1.7000001e9"), .why = "" },
	{ TIMES(EXP ",\"nbf\":1700000059"), .why = "" },
	{ TIMES(EXP ",\"nbf\":1700000060"), .why = "" },
	{ TIMES(EXP ",\"nbf\":1700000061"), .why = "not yet valid" },
	{ TIMES(EXP ",\"nbf\":9007199254740992"), .why = "not yet valid" },
	{ TIMES(EXP ",\"nbf\":\"1\""), .why = "nbf" },
	{ TIMES(EXP ",\"nbf\":-1"), .why = "nbf" },
	{ TIMES(EXP ",\"nbf\":1e400"), .why = "nbf" },
	{ TIMES(EXP ",\"nbf\":null"), .why = "nbf" },
	{ TIMES(EXP ",\"iat\":1700000059"), .why = "" },
	{ TIMES(EXP ",\"iat\":1700000061"), .why = "issued in the future" },
	{ TIMES(EXP ",\"iat\":true"), .why = "iat" },
	{ TIMES(EXP ",\"iat\":-0.5"), .why = "" },
	/* case 8.21 */
	{ ISSUER("\"https://other.test\""), .why = "issuer" },
	{ ISSUER("\"https://idp.test/\""), .why = "issuer" },
	{ ISSUER("\"https://idp.tes\""), .why = "issuer" },
	{ ISSUER("\"https://idp.test.evil.test\""), .why = "issuer" },
	{ ISSUER("\"https://IDP.test\""), .why = "issuer" },
	{ ISSUER("\"https://{tenant}.test\""), .why = "issuer" },
	{ ISSUER("\"\""), .why = "issuer" },
	{ ISSUER("null"), .why = "issuer" },
	{ ISSUER("[\"https://idp.test\"]"), .why = "issuer" },
	{ ISSUER("\"https:\\/\\/idp.test\""), .why = "" },
	{ "{" AUD "," EXP "," MAIL "}", .why = "issuer" },
	/* cases 8.22, 8.28 */
	{ AUDIENCE("\"other\""), .why = "" },
	{ AUDIENCE("[\"a\",\"mx.toy\",\"b\"]"), .why = "" },
	{ AUDIENCE("[\"mx.toy\"]"), .why = "" },
	{ AUDIENCE("\"app\""), .why = "audience" },
	{ AUDIENCE("\"MX.toy\""), .why = "audience" },
	{ AUDIENCE("\"mx.toy \""), .why = "audience" },
	{ AUDIENCE("\"\""), .why = "audience" },
	{ AUDIENCE("[\"a\",\"b\"]"), .why = "audience" },
	{ AUDIENCE("[]"), .why = "audience" },
	{ AUDIENCE("[[\"mx.toy\"]]"), .why = "audience" },
	{ AUDIENCE("[\"mx.toy\",1]"), .why = "audience" },
	{ AUDIENCE("{\"mx.toy\":\"mx.toy\"}"), .why = "audience" },
	{ AUDIENCE("null"), .why = "audience" },
	{ "{" ISS "," EXP "," MAIL "}", .why = "audience" },
	/* case 8.28 */
	{ MORE("\"scope\":\"openid smtp.send mail\""), .why = "", .scope = "smtp.send" },
	{ MORE("\"scope\":\"smtp.send\""), .why = "", .scope = "smtp.send" },
	{ MORE("\"scp\":\"a smtp.send\""), .why = "", .scope = "smtp.send" },
	{ MORE("\"scp\":[\"a\",\"smtp.send\"]"), .why = "", .scope = "smtp.send" },
	{ MORE("\"scope\":\"a\",\"scp\":[\"smtp.send\"]"), .why = "", .scope = "smtp.send" },
	{ ALL, .why = "scope", .scope = "smtp.send" },
	{ MORE("\"scope\":\"\""), .why = "scope", .scope = "smtp.send" },
	{ MORE("\"scope\":\"smtp.sender\""), .why = "scope", .scope = "smtp.send" },
	{ MORE("\"scope\":\"smtp\""), .why = "scope", .scope = "smtp.send" },
	{ MORE("\"scope\":\"SMTP.send\""), .why = "scope", .scope = "smtp.send" },
	{ MORE("\"scope\":\"a,smtp.send\""), .why = "scope", .scope = "smtp.send" },
	{ MORE("\"scp\":[\"a smtp.send\"]"), .why = "scope", .scope = "smtp.send" },
	{ MORE("\"scp\":{\"smtp.send\":\"smtp.send\"}"), .why = "scope", .scope = "smtp.send" },
	{ MORE("\"scp\":[\"smtp.send\",null]"), .why = "scope", .scope = "smtp.send" },
	/* case 8.23 */
	{ USER("\"sub\":\"alice@example.com\""), .why = "user" },
	{ USER("\"email\":\"\""), .why = "user" },
	{ USER("\"email\":null"), .why = "user" },
	{ USER("\"email\":1"), .why = "user" },
	{ USER("\"email\":[\"alice@example.com\"]"), .why = "user" },
	{ USER("\"email\":{\"x\":\"alice@example.com\"}"), .why = "user" },
	{ USER("\"email\":\"alice@example.com\\nbob@example.com\""), .why = "user" },
	{ USER("\"email\":\"a\\u0001@example.com\""), .why = "user" },
	{ USER("\"email\":\"a b@example.com\""), .why = "user" },
	{ USER("\"email\":\"<alice@example.com>\""), .why = "user" },
	{ USER("\"email\":\"alice@example.com,bob@example.com\""), .why = "user" },
	{ USER("\"email\":\"@example.com\""), .why = "user" },
	{ USER("\"email\":\"alice@\""), .why = "user" },
	{ USER("\"email\":\"alice@@example.com\""), .why = "user" },
	{ USER("\"email\":\"alice@example..com\""), .why = "user" },
	{ USER("\"email\":\"alice\""), .why = "", .user = "alice@default.test" },
	{ USER("\"email\":\"ALICE\""), .why = "", .user = "alice@default.test" },
	{ USER("\"email\":\"a b\""), .why = "user" },
	{ USER("\"email\":\"ALICE@EXAMPLE.Com\""), .why = "" },
	{ USER("\"email\":\"alice@b\\u00fccher.test\""), .why = "", .user = "alice@xn--bcher-kva.test" },
	{ USER("\"email\":\"alice@example.org\""), .why = "", .user = "alice@example.org", .domains = true },
	{ ALL, .why = "", .domains = true },
	{ USER("\"email\":\"ALICE@EXAMPLE.COM\""), .why = "", .domains = true },
	{ USER("\"email\":\"alice@sub.example.com\""), .why = "domain", .domains = true },
	{ USER("\"email\":\"alice@example.co\""), .why = "domain", .domains = true },
	{ USER("\"email\":\"alice\""), .why = "domain", .domains = true },
	{ MORE("\"email_verified\":true"), .why = "" },
	{ MORE("\"email_verified\":\"true\""), .why = "" },
	{ MORE("\"email_verified\":false"), .why = "email is not verified" },
	{ MORE("\"email_verified\":\"false\""), .why = "email is not verified" },
	{ MORE("\"email_verified\":null"), .why = "email is not verified" },
	{ MORE("\"email_verified\":0"), .why = "email is not verified" },
	{ MORE("\"email_verified\":1"), .why = "email is not verified" },
	/* the claim's name */
	{ MORE("\"upn\":\"bob@example.com\",\"email_verified\":false"), .why = "", .user = "bob@example.com", .claim = "upn" },
	{ MORE("\"realm\":{\"user\":\"bob@example.com\"}"), .why = "", .user = "bob@example.com", .claim = "realm.user" },
	{ MORE("\"a\":{\"b\":{\"c\":\"bob\"}}"), .why = "", .user = "bob@default.test", .claim = "a.b.c" },
	{ MORE("\"a\":{\"email\":\"bob\"},\"email_verified\":false"), .why = "", .user = "bob@default.test", .claim = "a.email" },
	{ MORE("\"a\":{\"email\":\"bob\",\"email_verified\":false}"), .why = "email is not verified", .claim = "a.email" },
	{ MORE("\"realm.user\":\"bob@example.com\""), .why = "user", .claim = "realm.user" },
	{ MORE("\"realm\":\"bob@example.com\""), .why = "user", .claim = "realm.user" },
	{ MORE("\"realm\":[{\"user\":\"bob\"}]"), .why = "user", .claim = "realm.user" },
	{ MORE("\"realm\":{\"user\":{\"x\":\"bob\"}}"), .why = "user", .claim = "realm.user" },
	{ MORE("\"https://idp.test/email\":\"bob@example.com\""), .why = "", .user = "bob@example.com", .claim = "https://idp.test/email" },
	{ ALL, .why = "user", .claim = "" },
	{ ALL, .why = "user", .claim = "." },
};

static void
test_claims(void **unused)
{
	struct jwks *set = own_keys();
	struct buf b;

	(void)unused;
	buf_init(&b, TOKEN_SIZE);
	for (size_t i = 0; i < COUNT(claims_rows); i++) {
		const struct claims_row *r = &claims_rows[i];
		struct issuer p = policy();
		char user[SMTP_ADDRESS_MAX + 1];
		struct jwt out;

		print_message("  %s %s\n", r->payload, r->claim == NULL ? "" : r->claim);
		if (r->scope != NULL)
			p.required_scope = (char *)(uintptr_t)r->scope;
		if (r->claim != NULL)
			p.username_claim = (char *)(uintptr_t)r->claim;
		if (r->domains)
			p.allowed_domains = (struct words){ domains, 2 };
		expect(set, &p, mint(&b, SPAN(KID1), text_span(r->payload)), r->why[0] == '\0' ? JWT_GOOD : JWT_BAD, r->why, &out);
		assert_string_equal(out.kid, "k1");
		if (r->why[0] != '\0')
			continue;
		smtp_mailbox_print(&out.user, user);
		assert_string_equal(user, r->user == NULL ? "alice@example.com" : r->user);
	}
	buf_clear(&b);
	jwks_free(set);
}

static void
test_many_audiences_and_long_users(void **unused)
{
	struct jwks *set = own_keys();
	struct issuer p = policy(), none = policy();
	struct buf b, payload;
	struct jwt out;

	(void)unused;
	buf_init(&b, TOKEN_SIZE);
	buf_init(&payload, TOKEN_SIZE);
	buf_add_str(&payload, "{" ISS "," EXP "," MAIL ",\"aud\":[");	/* case 8.22: 1000 of them */
	for (unsigned i = 0; i < 1000; i++)
		buf_printf(&payload, "\"%u\",", i % 10);
	buf_add_str(&payload, "\"mx.toy\"]}");
	expect(set, &p, mint(&b, SPAN(KID1), buf_span(&payload)), JWT_GOOD, "", &out);
	none.audience.n = 0;
	expect(set, &none, buf_span(&b), JWT_BAD, "audience", &out);

	buf_reset(&payload);
	buf_add_str(&payload, "{" ISS "," AUD "," EXP ",\"email\":\"");
	for (unsigned i = 0; i < 3000; i++)
		buf_add_char(&payload, 'a');
	buf_add_str(&payload, "\",\"sub\":\"\\u0007\xc3\xbc\"}");
	expect(set, &p, mint(&b, SPAN(KID1), buf_span(&payload)), JWT_BAD, "user", &out);
	assert_string_equal(out.subject, "???");
	buf_clear(&b);
	buf_clear(&payload);
	jwks_free(set);
}

static const struct {
	struct span	 token;
	const char	*issuer, *why;
} issuer_rows[] = {
	{ SPAN(MINTED_RS256), "https://idp.test", "" },
	{ SPAN(RFC7515_A2), "joe", "" },
	{ SPAN("x.eyJpc3MiOiJhIn0.y"), "a", "" },		/* {"iss":"a"} */
	{ SPAN("x.eyJpc3MiOiIifQ.y"), "", "issuer" },		/* "" */
	{ SPAN("x.eyJpc3MiOjF9.y"), "", "issuer" },		/* 1 */
	{ SPAN("x.e30.y"), "", "issuer" },			/* {} */
	{ SPAN("x.W10.y"), "", "payload" },			/* [] */
	{ SPAN("x.e30=.y"), "", "payload" },
	{ SPAN("x..y"), "", "payload" },
	{ SPAN(RFC7515_A4), "", "payload" },
	{ SPAN("x.e30"), "", "form" },
	{ SPAN(""), "", "form" },
};

static void
test_issuer(void **unused)
{
	char dst[17], *large = malloc(JWT_TOKEN_MAX + 1);
	const char *why;

	(void)unused;
	for (size_t i = 0; i < COUNT(issuer_rows); i++) {
		print_message("  %.*s\n", (int)issuer_rows[i].token.len, issuer_rows[i].token.p);
		assert_int_equal(jwt_issuer(issuer_rows[i].token, dst, sizeof(dst), &why), issuer_rows[i].why[0] == '\0');
		assert_string_equal(why, issuer_rows[i].why);
		assert_string_equal(dst, issuer_rows[i].issuer);
	}
	assert_false(jwt_issuer(SPAN(MINTED_RS256), dst, 16, &why));
	assert_string_equal(dst, "");
	assert_non_null(large);
	memset(large, '.', JWT_TOKEN_MAX + 1);
	assert_false(jwt_issuer((struct span){ large, JWT_TOKEN_MAX + 1 }, dst, sizeof(dst), &why));
	assert_string_equal(why, "too long");
	free(large);
}

/* ---- key sets ---- */

#define X256 "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\""
#define Y256 "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\""
#define EC256 "\"kty\":\"EC\",\"crv\":\"P-256\"," X256 "," Y256

static const struct {
	const char	*key;
	bool		 good;
} key_rows[] = {
	{ "{" EC256 "}", true },
	{ "{" EC256 ",\"kid\":\"a\",\"alg\":\"ES256\",\"use\":\"sig\",\"key_ops\":[\"verify\"],\"x5t\":\"zzz\",\"ext\":true}", true },
	{ "{" EC256 ",\"key_ops\":[\"sign\",\"verify\"]}", true },
	/* case 8.13 */
	{ "{" EC256 ",\"use\":\"enc\"}", false },
	{ "{" EC256 ",\"use\":\"\"}", false },
	{ "{" EC256 ",\"use\":1}", false },
	{ "{" EC256 ",\"use\":null}", false },
	{ "{" EC256 ",\"key_ops\":[\"sign\"]}", false },
	{ "{" EC256 ",\"key_ops\":[]}", false },
	{ "{" EC256 ",\"key_ops\":\"verify\"}", false },
	{ "{" EC256 ",\"key_ops\":{\"a\":\"verify\"}}", false },
	{ "{" EC256 ",\"key_ops\":[\"verify\",1]}", false },
	{ "{" EC256 ",\"alg\":\"RS256\"}", false },
	{ "{" EC256 ",\"alg\":\"ES384\"}", false },
	{ "{" EC256 ",\"alg\":\"HS256\"}", false },
	{ "{" EC256 ",\"alg\":\"ECDH-ES\"}", false },
	{ "{" EC256 ",\"alg\":\"\"}", false },
	{ "{" EC256 ",\"alg\":null}", false },
	{ "{" EC256 ",\"kid\":\"\"}", false },
	{ "{" EC256 ",\"kid\":1}", false },
	/* case 8.43 */
	{ "{" EC256 ",\"d\":\"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI\"}", false },
	{ "{" EC256 ",\"d\":null}", false },
	{ "{" EC256 ",\"k\":\"AA\"}", false },
	{ "{\"kty\":\"oct\",\"k\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}", false },
	{ "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}", false },
	{ "{\"kty\":\"EC\",\"crv\":\"P-256\"," X256 "}", false },
	{ "{\"kty\":\"EC\",\"crv\":\"P-256\"," Y256 "}", false },
	{ "{\"kty\":\"EC\"," X256 "," Y256 "}", false },
	{ "{\"kty\":\"EC\",\"crv\":\"P-384\"," X256 "," Y256 "}", false },
	{ "{\"kty\":\"EC\",\"crv\":\"p-256\"," X256 "," Y256 "}", false },
	{ "{\"kty\":\"EC\",\"crv\":\"secp256k1\"," X256 "," Y256 "}", false },
	{ "{\"kty\":\"ec\",\"crv\":\"P-256\"," X256 "," Y256 "}", false },
	{ "{\"kty\":[\"EC\"],\"crv\":\"P-256\"," X256 "," Y256 "}", false },
	{ "{\"crv\":\"P-256\"," X256 "," Y256 "}", false },
	/* not on the curve: x and y changed round, a bit changed, zero, all ones */
	{ "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\","
	    "\"y\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}", false },
	{ "{\"kty\":\"EC\",\"crv\":\"P-256\"," X256 ",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5aw\"}", false },
	{ "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\","
	    "\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}", false },
	{ "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"__________________________________________8\","
	    "\"y\":\"__________________________________________8\"}", false },
	{ "{\"kty\":\"EC\",\"crv\":\"P-521\",\"x\":\"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk\","
	    "\"y\":\"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj3\"}", false },
	/* an octet too few, one too many, not base64url */
	{ "{\"kty\":\"EC\",\"crv\":\"P-256\"," X256 ",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5Q\"}", false },
	{ "{\"kty\":\"EC\",\"crv\":\"P-256\"," X256 ",\"y\":\"AMfxRM0bvZt-hyzf7bnuufSzaV1uqQskrYpGIyiFiOWt\"}", false },
	{ "{\"kty\":\"EC\",\"crv\":\"P-256\"," X256 ",\"y\":\"x/FEzRu9m36HLN/tue659LNpXW6pCyStikYjKIWI5a0\"}", false },
	{ "{\"kty\":\"EC\",\"crv\":\"P-256\"," X256 ",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0=\"}", false },
	{ "{\"kty\":\"EC\",\"crv\":\"P-256\"," X256 ",\"y\":1}", false },
	{ "1", false }, { "null", false }, { "[]", false }, { "{}", false }, { "\"RSA\"", false },
};

static void
test_keys(void **unused)
{
	struct buf b;

	(void)unused;
	buf_init(&b, 1 << 16);
	for (size_t i = 0; i < COUNT(key_rows); i++) {
		print_message("  %s\n", key_rows[i].key);
		buf_reset(&b);
		buf_printf(&b, "{\"keys\":[%s]}", key_rows[i].key);
		jwks_free(load(buf_span(&b), key_rows[i].good, !key_rows[i].good));
	}
	for (size_t len = 255; len <= 258; len++) {	/* kid: 256 octets at most */
		buf_reset(&b);
		buf_add_str(&b, "{\"keys\":[{" EC256 ",\"kid\":\"");
		for (size_t i = 0; i < len; i++)
			buf_add_char(&b, 'k');
		buf_add_str(&b, "\"}]}");
		jwks_free(load(buf_span(&b), len <= 256, len > 256));
	}
	buf_clear(&b);
}

static const struct {
	size_t		 octets;	/* of the modulus */
	unsigned char	 first, last;
	const char	*e;
	bool		 good;
} rsa_rows[] = {	/* case 8.25 */
	{ 256, 0x80, 0x01, "AQAB", true },
	{ 256, 0xff, 0xff, "AQAB", true },
	{ 256, 0x7f, 0x01, "AQAB", false },	/* 2047 bits */
	{ 257, 0x01, 0x01, "AQAB", true },
	{ 257, 0x00, 0x01, "AQAB", false },	/* 0, and then 2047 bits of 0x55 */
	{ 258, 0x01, 0x01, "AQAB", true },
	{ 512, 0xff, 0x01, "AQAB", true },
	{ 513, 0x00, 0x01, "AQAB", true },	/* the zero in front that some write */
	{ 513, 0x01, 0x01, "AQAB", false },	/* 4097 bits */
	{ 514, 0x00, 0x01, "AQAB", false },
	{ 255, 0xff, 0x01, "AQAB", false },
	{ 128, 0xff, 0x01, "AQAB", false },
	{ 64, 0xff, 0x01, "AQAB", false },
	{ 2048, 0xff, 0x01, "AQAB", false },	/* 16384 bits */
	{ 1, 0xff, 0x01, "AQAB", false },
	{ 0, 0, 0, "AQAB", false },
	{ 256, 0x80, 0x00, "AQAB", false },	/* even */
	{ 256, 0x80, 0xfe, "AQAB", false },
	{ 256, 0x80, 0x01, "Aw", true },	/* 3 */
	{ 256, 0x80, 0x01, "AQ", false },	/* 1 */
	{ 256, 0x80, 0x01, "AAAB", false },	/* 1 */
	{ 256, 0x80, 0x01, "AAEAAQ", true },	/* 65537 with a zero in front */
	{ 256, 0x80, 0x01, "AA", false },	/* 0 */
	{ 256, 0x80, 0x01, "Ag", false },	/* 2 */
	{ 256, 0x80, 0x01, "AQAA", false },	/* 65536 */
	{ 256, 0x80, 0x01, "_____w", true },	/* 2^32 - 1 */
	{ 256, 0x80, 0x01, "AQAAAAE", false },	/* 2^32 + 1 */
	{ 256, 0x80, 0x01, "", false },
	{ 256, 0x80, 0x01, "AQAB=", false },
	{ 256, 0x80, 0x01, "!", false },
};

static void
test_rsa_keys(void **unused)
{
	unsigned char n[2048];
	struct buf b;

	(void)unused;
	buf_init(&b, 1 << 16);
	for (size_t i = 0; i < COUNT(rsa_rows); i++) {
		size_t len = rsa_rows[i].octets;

		print_message("  %zu octets, %02x..%02x, e %s\n", len, rsa_rows[i].first, rsa_rows[i].last, rsa_rows[i].e);
		memset(n, 0x55, sizeof(n));
		if (len > 0) {
			n[0] = rsa_rows[i].first;
			n[len - 1] = rsa_rows[i].last;
		}
		buf_reset(&b);
		buf_printf(&b, "{\"keys\":[{\"kty\":\"RSA\",\"e\":\"%s\",\"n\":\"", rsa_rows[i].e);
		add_base64url(&b, (struct span){ (const char *)n, len });
		buf_add_str(&b, "\"}]}");
		jwks_free(load(buf_span(&b), rsa_rows[i].good, !rsa_rows[i].good));
	}
	buf_clear(&b);
}

static const struct {
	const char	*json, *why;	/* "": it is a set */
	size_t		 n;
	unsigned	 skipped;
} set_rows[] = {
	{ "{\"keys\":[]}", "", 0, 0 },	/* case 8.42: what to make of it is the caller's matter */
	{ "{\"keys\":[],\"x\":1}", "", 0, 0 },
	{ "{\"keys\":[{" EC256 "},{" EC256 "}]}", "", 2, 0 },
	/* case 8.43: the same kid twice, of one type and of two */
	{ "{\"keys\":[{" EC256 ",\"kid\":\"a\"},{" EC256 ",\"kid\":\"a\"},{" EC256 ",\"kid\":\"\\u0061\"},{" EC256 ",\"kid\":\"b\"}]}", "", 2, 2 },
	{ "{\"keys\":[{\"kty\":\"?\",\"kid\":\"a\"},{" EC256 ",\"kid\":\"a\"}]}", "", 1, 1 },
	{ "", "no end", 0, 0 },
	{ "<html>", "neither object nor array", 0, 0 },
	{ "{}", "no keys", 0, 0 },
	{ "[]", "no keys", 0, 0 },
	{ "[{" EC256 "}]", "no keys", 0, 0 },
	{ "{" EC256 "}", "no keys", 0, 0 },
	{ "{\"keys\":{}}", "no keys", 0, 0 },
	{ "{\"keys\":{\"a\":{" EC256 "}}}", "no keys", 0, 0 },
	{ "{\"keys\":null}", "no keys", 0, 0 },
	{ "{\"Keys\":[]}", "no keys", 0, 0 },
	{ "{\"keys\":[{" EC256 "}],\"keys\":[]}", "name given twice", 0, 0 },
	{ "{\"keys\":[{" EC256 "," X256 "}]}", "name given twice", 0, 0 },
	{ "{\"keys\":[{" EC256 "}]", "no end", 0, 0 },
	{ "{\"keys\":[{" EC256 "}]}x", "something behind the end", 0, 0 },
};

static void
test_sets(void **unused)
{
	const char *why;
	unsigned skipped;
	struct buf b;

	(void)unused;
	for (size_t i = 0; i < COUNT(set_rows); i++) {
		print_message("  %s\n", set_rows[i].json);
		if (set_rows[i].why[0] == '\0') {
			jwks_free(load(text_span(set_rows[i].json), set_rows[i].n, set_rows[i].skipped));
			continue;
		}
		why = NULL;
		assert_null(jwks_parse(text_span(set_rows[i].json), NULL, &why));
		assert_string_equal(why, set_rows[i].why);
	}
	buf_init(&b, 1 << 20);
	for (unsigned n = JWKS_KEYS_MAX; n <= 10000; n = n == JWKS_KEYS_MAX ? n + 1 : n * 2) {
		buf_reset(&b);
		buf_add_str(&b, "{\"keys\":[");
		for (unsigned i = 0; i < n; i++)
			buf_printf(&b, "%s{%s}", i == 0 ? "" : ",", n <= JWKS_KEYS_MAX + 1 ? EC256 : "");
		buf_add_str(&b, "]}");
		if (n == JWKS_KEYS_MAX) {
			jwks_free(load(buf_span(&b), n, 0));
			continue;
		}
		assert_null(jwks_parse(buf_span(&b), &skipped, &why));
		print_message("  %u: %s\n", n, why);
		assert_string_equal(why, n < 8192 ? "too many keys" : "too many values");
	}
	buf_reset(&b);
	buf_add_str(&b, "{\"keys\":[]}");
	while (b.wpos < JWKS_MAX)
		buf_add_char(&b, ' ');
	jwks_free(load(buf_span(&b), 0, 0));
	buf_add_char(&b, ' ');
	assert_null(jwks_parse(buf_span(&b), NULL, &why));
	assert_string_equal(why, "too large");
	buf_clear(&b);
	jwks_free(NULL);
}

/* A token without kid: keys of its type are tried, eight at most; a key of another type costs none of them. One with a kid: keys without never are. */
static void
test_tries(void **unused)
{
	struct issuer p = policy();
	struct jwks *empty;
	struct buf b, token;
	struct jwt out;

	(void)unused;
	buf_init(&b, 1 << 16);
	buf_init(&token, TOKEN_SIZE);
	for (unsigned before = 1; before <= 8; before++) {
		struct jwks *set;

		print_message("  %u before ours\n", before);
		buf_reset(&b);
		buf_add_str(&b, "{\"keys\":[");
		buf_add(&b, MINTED_JWKS + 9, sizeof(MINTED_JWKS) - 12);	/* one of them is ES256 too */
		for (unsigned i = 1; i < before; i++)
			buf_add_str(&b, ",{" EC256 "}");
		buf_add_str(&b, ",{\"kty\":\"EC\",");
		add_public_key(&b);
		buf_add_str(&b, "}]}");
		set = load(buf_span(&b), 7 + before, 0);
		expect(set, &p, mint(&token, SPAN("{\"alg\":\"ES256\"}"), SPAN(ALL)), before < 8 ? JWT_GOOD : JWT_BAD,
		    before < 8 ? "" : "signature", &out);
		expect(set, &p, mint(&token, SPAN(KID1), SPAN(ALL)), JWT_NO_KEY, "no such key", &out);
		expect(set, &p, mint(&token, SPAN("{\"alg\":\"ES256\",\"kid\":\"\"}"), SPAN(ALL)), JWT_NO_KEY, "no such key", &out);
		jwks_free(set);
	}
	buf_reset(&b);
	buf_add_str(&b, "{\"keys\":[]}");
	empty = load(buf_span(&b), 0, 0);
	expect(empty, &p, mint(&token, SPAN("{\"alg\":\"ES256\"}"), SPAN(ALL)), JWT_NO_KEY, "no such key", &out);
	expect(empty, &p, mint(&token, SPAN(KID1), SPAN(ALL)), JWT_NO_KEY, "no such key", &out);
	jwks_free(empty);
	buf_clear(&b);
	buf_clear(&token);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc_examples),
		cmocka_unit_test(test_minted_tokens),
		cmocka_unit_test(test_every_octet_counts),
		cmocka_unit_test(test_ecdsa_numbers),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_many_audiences_and_long_users),
		cmocka_unit_test(test_issuer),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_rsa_keys),
		cmocka_unit_test(test_sets),
		cmocka_unit_test(test_tries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
