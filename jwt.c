/*
 * jwt.c - JSON Web Tokens over BearSSL.
 *
 * RFC 7515, 7517, 7518, 7519; RFC 8017 9.1.2 (EMSA-PSS); RFC 8725. A key says by itself which algorithms it may verify, keys in
 * a token or behind its addresses are never looked at, and nothing symmetric exists (cases 8.11 to 8.14).
 */
#include "jwt.h"

#include <bearssl_ec.h>
#include <bearssl_hash.h>
#include <bearssl_rsa.h>
#include <stdio.h>
#include <stdlib.h>

#include "json.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 4096
#define RSA_MAX (RSA_BITS_MAX / 8)
#define RSA_E_MAX 4		/* octets of a public exponent: it is what a verification costs */
#define HASH_MAX br_sha512_SIZE
#define KID_MAX 256
#define KEYS_TRIED_MAX 8	/* for a token without kid, case 8.15 */
#define DECODED_MAX (JWT_TOKEN_MAX / 4 * 3)
#define TOKEN_VALUES_MAX 4096
#define JWKS_VALUES_MAX 8192

enum scheme { PKCS1, PSS, ECDSA };

static const struct alg {	/* RFC 7518 3.1 */
	const char		*name;
	enum scheme		 scheme;
	int			 curve;	/* 0: RSA */
	const br_hash_class	*hash;
	const unsigned char	*oid;	/* of the hash, for PKCS1 */
} algs[] = {
	{ "RS256", PKCS1, 0, &br_sha256_vtable, BR_HASH_OID_SHA256 },
	{ "RS384", PKCS1, 0, &br_sha384_vtable, BR_HASH_OID_SHA384 },
	{ "RS512", PKCS1, 0, &br_sha512_vtable, BR_HASH_OID_SHA512 },
	{ "PS256", PSS, 0, &br_sha256_vtable, NULL },
	{ "PS384", PSS, 0, &br_sha384_vtable, NULL },
	{ "PS512", PSS, 0, &br_sha512_vtable, NULL },
	{ "ES256", ECDSA, BR_EC_secp256r1, &br_sha256_vtable, NULL },
	{ "ES384", ECDSA, BR_EC_secp384r1, &br_sha384_vtable, NULL },
	{ "ES512", ECDSA, BR_EC_secp521r1, &br_sha512_vtable, NULL },
};

static const struct curve {	/* RFC 7518 6.2.1.1 */
	const char	*name;
	int		 id;
	size_t		 len;	/* octets of a coordinate */
} curves[] = {
	{ "P-256", BR_EC_secp256r1, 32 },
	{ "P-384", BR_EC_secp384r1, 48 },
	{ "P-521", BR_EC_secp521r1, 66 },
};

struct jwk {
	char			 kid[KID_MAX + 1];	/* "": it has none */
	const struct alg	*alg;			/* the only one it may verify; NULL: any of its type */
	int			 curve;			/* 0: RSA */
	uint8_t			 octets[RSA_MAX];	/* the modulus, or 4, x, y */
	size_t			 len;
	uint8_t			 e[RSA_E_MAX];
	size_t			 e_len;
};

struct jwks {
	struct jwk	*keys;		/* owned */
	size_t		 n;
};

/* ---- keys ---- */

static const struct alg *
find_alg(const struct json *j, int name)
{
	for (size_t i = 0; i < COUNT(algs); i++)
		if (json_is(j, name, text_span(algs[i].name)))
			return &algs[i];
	return NULL;
}

/* Whether it is an array of strings, one of them s. */
static bool
array_has(const struct json *j, int array, struct span s)
{
	bool has = false;

	if (json_type(j, array) != JSON_ARRAY)
		return false;
	for (int v = -1; (v = json_next(j, array, v)) != -1;) {
		if (json_type(j, v) != JSON_STRING)
			return false;
		has = has || json_is(j, v, s);
	}
	return has;
}

/* A base64url member: its octets, or -1. */
static long
member_octets(const struct json *j, int key, const char *name, uint8_t *dst, size_t size)
{
	char text[(RSA_MAX + 1) * 4 / 3 + 2];	/* one octet more: some put a zero in front */
	long n = json_string(j, json_get(j, key, text_span(name)), text, sizeof(text));

	return n == -1 ? -1 : text_base64url_decode((struct span){ text, (size_t)n }, (char *)dst, size);
}

/* A member that is a number: its octets without leading zeros, 0 when there is none. */
static size_t
member_number(const struct json *j, int key, const char *name, uint8_t *dst, size_t size)
{
	uint8_t octets[RSA_MAX + 1];
	long n = member_octets(j, key, name, octets, sizeof(octets));
	size_t zeros = 0, len;

	if (n == -1)
		return 0;
	while (zeros < (size_t)n && octets[zeros] == 0)
		zeros++;
	len = (size_t)n - zeros;
	if (len > size)
		return 0;
	memcpy(dst, octets + zeros, len);
	return len;
}

static size_t
modulus_bits(const struct jwk *k)
{
	size_t bits = 8 * k->len;

	for (unsigned top = k->octets[0]; top < 0x80; top <<= 1)	/* not zero: its leading zeros are off */
		bits--;
	return bits;
}

/* Case 8.25. */
static bool
read_rsa(const struct json *j, int key, struct jwk *k)
{
	k->len = member_number(j, key, "n", k->octets, sizeof(k->octets));
	k->e_len = member_number(j, key, "e", k->e, sizeof(k->e));
	if (k->len == 0 || modulus_bits(k) < RSA_BITS_MIN || k->octets[k->len - 1] % 2 == 0)	/* RSA_BITS_MAX is all that fits */
		return false;
	return k->e_len > 0 && k->e[k->e_len - 1] % 2 == 1 && (k->e_len > 1 || k->e[0] >= 3);
}

static bool
read_ec(const struct json *j, int key, struct jwk *k)
{
	int crv = json_get(j, key, SPAN("crv"));
	uint8_t point[sizeof(k->octets)];
	const struct curve *c = NULL;

	for (size_t i = 0; i < COUNT(curves); i++)
		if (json_is(j, crv, text_span(curves[i].name)))
			c = &curves[i];
	if (c == NULL)
		return false;
	k->curve = c->id;
	k->len = 1 + 2 * c->len;
	k->octets[0] = 4;	/* uncompressed, SEC 1 2.3.3 */
	if (member_octets(j, key, "x", k->octets + 1, c->len) != (long)c->len ||
	    member_octets(j, key, "y", k->octets + 1 + c->len, c->len) != (long)c->len)
		return false;
	memcpy(point, k->octets, k->len);	/* once itself: fails for what is not on the curve */
	return br_ec_get_default()->mul(point, k->len, (const uint8_t[]){ 1 }, 1, c->id) == 1;
}

/* RFC 7517 4.2, 4.3; a key with its private half in public is nobody's (case 8.43). */
static bool
may_verify(const struct json *j, int key)
{
	static const char *const private[] = { "d", "p", "q", "dp", "dq", "qi", "oth", "k" };
	int use = json_get(j, key, SPAN("use")), ops = json_get(j, key, SPAN("key_ops"));

	for (size_t i = 0; i < COUNT(private); i++)
		if (json_get(j, key, text_span(private[i])) != -1)
			return false;
	return (use == -1 || json_is(j, use, SPAN("sig"))) && (ops == -1 || array_has(j, ops, SPAN("verify")));
}

static bool
read_key(const struct json *j, int key, struct jwk *k)
{
	int kty = json_get(j, key, SPAN("kty")), kid = json_get(j, key, SPAN("kid")), alg = json_get(j, key, SPAN("alg"));

	*k = (struct jwk){ 0 };
	if (!may_verify(j, key))
		return false;
	if (kid != -1 && json_string(j, kid, k->kid, sizeof(k->kid)) <= 0)
		return false;
	if (!(json_is(j, kty, SPAN("RSA")) ? read_rsa(j, key, k) : json_is(j, kty, SPAN("EC")) && read_ec(j, key, k)))
		return false;
	k->alg = find_alg(j, alg);
	return alg == -1 || (k->alg != NULL && k->alg->curve == k->curve);
}

/* The same kid again: only of another type. */
static bool
is_known(const struct jwks *set, const struct jwk *k)
{
	for (size_t i = 0; i < set->n; i++)
		if (k->kid[0] != '\0' && strcmp(set->keys[i].kid, k->kid) == 0 && (set->keys[i].curve == 0) == (k->curve == 0))
			return true;
	return false;
}

static const char *
read_keys(struct jwks *set, const struct json *j, unsigned *skipped)
{
	int keys = json_get(j, JSON_ROOT, SPAN("keys"));
	size_t n = 0;

	if (json_type(j, keys) != JSON_ARRAY)
		return "no keys";
	for (int v = -1; (v = json_next(j, keys, v)) != -1;)
		n++;
	if (n > JWKS_KEYS_MAX)
		return "too many keys";
	set->keys = calloc(n + 1, sizeof(*set->keys));
	if (set->keys == NULL)
		return "no memory";
	for (int v = -1; (v = json_next(j, keys, v)) != -1;) {
		struct jwk *k = &set->keys[set->n];

		if (read_key(j, v, k) && !is_known(set, k))
			set->n++;
		else
			(*skipped)++;
	}
	return NULL;
}

struct jwks *
jwks_parse(struct span json, unsigned *skipped, const char **why)
{
	unsigned unused;
	struct jwks *set;
	struct json j;

	if (skipped == NULL)
		skipped = &unused;
	*skipped = 0;
	*why = "too large";
	if (json.len > JWKS_MAX || json_parse(&j, json, JWKS_VALUES_MAX, why) == -1)
		return NULL;
	set = calloc(1, sizeof(*set));
	*why = set == NULL ? "no memory" : read_keys(set, &j, skipped);
	json_clear(&j);
	if (*why != NULL) {
		jwks_free(set);
		return NULL;
	}
	*why = "";
	return set;
}

void
jwks_free(struct jwks *k)
{
	if (k != NULL)
		free(k->keys);
	free(k);
}

size_t
jwks_n(const struct jwks *k)
{
	return k->n;
}

/* ---- signatures ---- */

static size_t
hash_len(const br_hash_class *h)
{
	return h->desc >> BR_HASHDESC_OUT_OFF & BR_HASHDESC_OUT_MASK;
}

static void
hash_parts(const br_hash_class *h, const struct span *parts, size_t n, uint8_t *out)
{
	br_hash_compat_context c;

	h->init(&c.vtable);
	for (size_t i = 0; i < n; i++)
		h->update(&c.vtable, parts[i].p, parts[i].len);
	h->out(&c.vtable, out);
}

static struct span
octets(const uint8_t *p, size_t n)
{
	return (struct span){ (const char *)p, n };
}

/* MGF1 of seed, xored into db (RFC 8017 B.2.1). */
static void
unmask(const br_hash_class *h, struct span seed, uint8_t *db, size_t len)
{
	uint8_t mask[HASH_MAX], counter[4] = { 0 };	/* 512 octets of db are 16 rounds at most: the last octet counts alone */

	for (size_t at = 0; at < len; counter[3]++) {
		const struct span parts[] = { seed, octets(counter, sizeof(counter)) };

		hash_parts(h, parts, COUNT(parts), mask);
		for (size_t i = 0; i < hash_len(h) && at < len; i++)
			db[at++] ^= mask[i];
	}
}

/* EMSA-PSS-VERIFY, RFC 8017 9.1.2, MGF1 and salt as RFC 7518 3.5 has them: the same hash, and as long as it. em is of bits bits. */
static bool
pss_is_good(const br_hash_class *h, const uint8_t *hash, uint8_t *em, size_t bits)
{
	static const uint8_t zeros[8];
	size_t len = (bits + 7) / 8, n = hash_len(h), db_len = len - n - 1, zeros_len = db_len - n - 1;
	uint8_t top = (uint8_t)(0xff >> (8 * len - bits)), again[HASH_MAX];
	const struct span parts[] = { octets(zeros, sizeof(zeros)), octets(hash, n), octets(em + zeros_len + 1, n) };

	if (em[len - 1] != 0xbc || (em[0] & ~top) != 0)
		return false;
	unmask(h, octets(em + db_len, n), em, db_len);
	em[0] &= top;
	for (size_t i = 0; i < zeros_len; i++)
		if (em[i] != 0)
			return false;
	if (em[zeros_len] != 1)
		return false;
	hash_parts(h, parts, COUNT(parts), again);
	return memcmp(again, em + db_len, n) == 0;
}

static bool
rsa_is_good(const struct jwk *k, const struct alg *a, const uint8_t *hash, struct span sig)
{
	const br_rsa_public_key pk = { (uint8_t *)k->octets, k->len, (uint8_t *)k->e, k->e_len };	/* BearSSL only reads them */
	uint8_t em[RSA_MAX], signed_hash[HASH_MAX];
	size_t bits = modulus_bits(k) - 1;

	if (sig.len != k->len)	/* RFC 8017 8.1.2, 8.2.2; case 8.26 */
		return false;
	if (a->scheme == PKCS1)
		return br_rsa_pkcs1_vrfy_get_default()((const uint8_t *)sig.p, sig.len, a->oid, hash_len(a->hash), &pk, signed_hash) == 1 &&
		    memcmp(signed_hash, hash, hash_len(a->hash)) == 0;
	memcpy(em, sig.p, sig.len);
	if (br_rsa_public_get_default()(em, sig.len, &pk) != 1)
		return false;
	if (bits % 8 == 0)	/* the modulus is an octet longer than what was encoded */
		return em[0] == 0 && pss_is_good(a->hash, hash, em + 1, bits);
	return pss_is_good(a->hash, hash, em, bits);
}

static bool
is_zero(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] != 0)
			return false;
	return true;
}

static bool
ecdsa_is_good(const struct jwk *k, const struct alg *a, const uint8_t *hash, struct span sig)
{
	const br_ec_public_key pk = { k->curve, (uint8_t *)k->octets, k->len };		/* BearSSL only reads them */
	size_t half = (k->len - 1) / 2;

	if (sig.len != 2 * half)	/* RFC 7518 3.4 */
		return false;
	/* BearSSL refuses s = 0 and what is not below n; r it leaves to the arithmetic (case 8.24, CVE-2022-21449) */
	if (is_zero(text_sub(sig, 0, half)))
		return false;
	return br_ecdsa_vrfy_raw_get_default()(br_ec_get_default(), hash, hash_len(a->hash), &pk, sig.p, sig.len) == 1;
}

/* ---- tokens ---- */

struct token {
	struct span	header, payload, signature;	/* as they came, in base64url */
	struct span	signed_part;			/* header.payload */
};

/* RFC 7515 7.1: exactly three parts. */
static const char *
split(struct span s, struct token *t)
{
	size_t first = text_find(s, '.'), second;

	if (s.len > JWT_TOKEN_MAX)
		return "too long";
	if (first == SIZE_MAX)
		return "form";
	second = text_find(text_sub(s, first + 1, s.len), '.');
	if (second == SIZE_MAX)
		return "form";
	second += first + 1;
	t->header = text_sub(s, 0, first);
	t->payload = text_sub(s, first + 1, second);
	t->signature = text_sub(s, second + 1, s.len);
	t->signed_part = text_sub(s, 0, second);
	return text_find(t->signature, '.') == SIZE_MAX ? NULL : "form";
}

/* A part that is an object, its JSON kept in text[DECODED_MAX]. On false there is nothing to clear. */
static bool
open_part(struct span part, char *text, struct json *j)
{
	long n = text_base64url_decode(part, text, DECODED_MAX);
	const char *why;

	if (n == -1 || json_parse(j, (struct span){ text, (size_t)n }, TOKEN_VALUES_MAX, &why) == -1)
		return false;
	if (json_type(j, JSON_ROOT) == JSON_OBJECT)
		return true;
	json_clear(j);
	return false;
}

static bool
is_one_of_nocase(const struct json *j, int v, const char *const *words, size_t n)
{
	char s[32];
	long len = json_string(j, v, s, sizeof(s));

	for (size_t i = 0; i < n; i++)
		if (len > 0 && text_is_nocase(text_span(s), words[i]))
			return true;
	return false;
}

/* RFC 7515 4.1; jwk, jku, x5c and x5u are not looked at. NULL, or why not. */
static const char *
check_header(const struct json *h, const struct alg **alg)
{
	static const char *const types[] = { "JWT", "at+jwt", "application/at+jwt" };	/* RFC 7519 5.1, 9068 2.1 */
	int typ = json_get(h, JSON_ROOT, SPAN("typ")), kid = json_get(h, JSON_ROOT, SPAN("kid"));

	*alg = find_alg(h, json_get(h, JSON_ROOT, SPAN("alg")));
	if (*alg == NULL)
		return "algorithm";
	/* we know no extension, and b64 is one that must be in crit (RFC 7797 6) */
	if (json_get(h, JSON_ROOT, SPAN("crit")) != -1 || json_get(h, JSON_ROOT, SPAN("b64")) != -1)
		return "critical extension";
	if (typ != -1 && !is_one_of_nocase(h, typ, types, COUNT(types)))
		return "type";
	return kid == -1 || json_type(h, kid) == JSON_STRING ? NULL : "kid";
}

static enum jwt_outcome
check_signature(const struct jwks *set, const struct json *h, const struct alg *a, const struct token *t, const char **why)
{
	int kid = json_get(h, JSON_ROOT, SPAN("kid"));
	char signature[RSA_MAX];
	long n = text_base64url_decode(t->signature, signature, sizeof(signature));
	struct span sig = { signature, n == -1 ? 0 : (size_t)n };
	bool good = false, misfit = false;
	uint8_t hash[HASH_MAX];
	unsigned tried = 0;

	hash_parts(a->hash, &t->signed_part, 1, hash);
	for (size_t i = 0; i < set->n && !good && tried < KEYS_TRIED_MAX; i++) {
		const struct jwk *k = &set->keys[i];

		if (kid != -1 && (k->kid[0] == '\0' || !json_is(h, kid, text_span(k->kid))))
			continue;
		if (k->curve != a->curve || (k->alg != NULL && k->alg != a)) {
			misfit = kid != -1;
			continue;
		}
		tried++;
		good = a->scheme == ECDSA ? ecdsa_is_good(k, a, hash, sig) : rsa_is_good(k, a, hash, sig);
	}
	explicit_bzero(signature, sizeof(signature));	/* the rest of a token without it opens nothing */
	*why = good ? NULL : tried > 0 ? "signature" : misfit ? "key is not for the algorithm" : "no such key";
	return good ? JWT_GOOD : tried > 0 || misfit ? JWT_BAD : JWT_NO_KEY;
}

/* ---- claims, RFC 7519 4.1 ---- */

/* NumericDate: 0, or -1 when it is there and no time. Absent it is not touched. */
static int
read_time(const struct json *c, struct span name, int64_t *time)
{
	int v = json_get(c, JSON_ROOT, name);
	int64_t n;

	if (v == -1)
		return 0;
	if (json_i64(c, v, &n) == -1 || n < 0)
		return -1;
	*time = n;
	return 0;
}

/* Case 8.20. Times are below 2^53: no sum of them overflows. */
static const char *
check_times(const struct json *c, int64_t leeway, int64_t now, int64_t *expires)
{
	int64_t exp = -1, nbf = 0, iat = 0;

	if (read_time(c, SPAN("exp"), &exp) == -1 || exp == -1)
		return "exp";
	*expires = exp + leeway;
	if (read_time(c, SPAN("nbf"), &nbf) == -1)
		return "nbf";
	if (read_time(c, SPAN("iat"), &iat) == -1)
		return "iat";
	if (now >= exp + leeway)
		return "expired";
	if (nbf > now + leeway)
		return "not yet valid";
	return iat > now + leeway ? "issued in the future" : NULL;
}

static bool
audience_is_ours(const struct json *c, const struct words *audience)
{
	int aud = json_get(c, JSON_ROOT, SPAN("aud"));

	for (size_t i = 0; i < audience->n; i++)
		if (json_is(c, aud, text_span(audience->v[i])) || array_has(c, aud, text_span(audience->v[i])))
			return true;
	return false;
}

static bool
claim_has_scope(const struct json *c, int claim, struct span want)
{
	char text[DECODED_MAX];
	struct span rest, scope;
	long n = json_string(c, claim, text, sizeof(text));

	if (n == -1)
		return array_has(c, claim, want);
	rest = (struct span){ text, (size_t)n };
	while (text_token(&rest, " ", &scope))
		if (text_eq(scope, want))
			return true;
	return false;
}

/* RFC 8693 4.2 and what others call it: words in a string, or an array. */
static bool
scope_is_there(const struct json *c, const char *required)
{
	return required[0] == '\0' || claim_has_scope(c, json_get(c, JSON_ROOT, SPAN("scope")), text_span(required)) ||
	    claim_has_scope(c, json_get(c, JSON_ROOT, SPAN("scp")), text_span(required));
}

/* The claim a dotted path leads to, and the object that it is in. A name with a colon is a URI (RFC 7519 2) and no path. */
static int
find_claim(const struct json *c, struct span path, int *object, struct span *name)
{
	const char *dot = text_find(path, ':') == SIZE_MAX ? "." : "";
	int v = JSON_ROOT;

	*object = -1;
	while (text_token(&path, dot, name)) {
		*object = v;
		v = json_get(c, v, *name);
	}
	return *object == -1 ? -1 : v;
}

/* Case 8.23. NULL, or why there is no user. */
static const char *
read_user(const struct json *c, const struct issuer *policy, const char *default_domain, struct mailbox *user)
{
	char claim[SMTP_ADDRESS_MAX + 1], address[SMTP_ADDRESS_MAX + SMTP_DOMAIN_MAX + 2];
	const char *at;
	int object, v, verified;
	struct span name;

	v = find_claim(c, text_span(policy->username_claim), &object, &name);
	if (v == -1 || json_string(c, v, claim, sizeof(claim)) <= 0)
		return "user";
	verified = text_is(name, "email") ? json_get(c, object, SPAN("email_verified")) : -1;
	if (verified != -1 && json_type(c, verified) != JSON_TRUE && !json_is(c, verified, SPAN("true")))	/* some write it as a string */
		return "email is not verified";
	at = strchr(claim, '@') == NULL ? "@" : "";
	(void)snprintf(address, sizeof(address), "%s%s%s", claim, at, at[0] == '\0' ? "" : default_domain);
	if (smtp_mailbox(text_span(address), true, user) != SMTP_PATH_OK)
		return "user";
	for (char *p = user->local; *p != '\0'; p++)
		*p = text_lower(*p);
	for (size_t i = 0; i < policy->allowed_domains.n; i++)
		if (text_is_nocase(text_span(user->domain), policy->allowed_domains.v[i]))
			return NULL;
	return policy->allowed_domains.n == 0 ? NULL : "domain";
}

/* NULL, or why not. What the log wants to know of a token that is refused comes first. */
static const char *
check_claims(const struct json *c, const struct issuer *policy, const char *default_domain, int64_t now, struct jwt *out)
{
	const char *user_why = read_user(c, policy, default_domain, &out->user);
	const char *times_why = check_times(c, policy->leeway_ms / 1000, now, &out->expires_time);

	json_printable(c, json_get(c, JSON_ROOT, SPAN("sub")), out->subject, sizeof(out->subject));
	if (!json_is(c, json_get(c, JSON_ROOT, SPAN("iss")), text_span(policy->issuer)))
		return "issuer";
	if (!audience_is_ours(c, &policy->audience))
		return "audience";
	if (times_why != NULL)
		return times_why;
	if (!scope_is_there(c, policy->required_scope))
		return "scope";
	return user_why;
}

bool
jwt_issuer(struct span token, char *dst, size_t size, const char **why)
{
	char text[DECODED_MAX];
	struct token t;
	struct json j;
	bool found;

	if (size > 0)
		dst[0] = '\0';
	*why = split(token, &t);
	if (*why != NULL)
		return false;
	*why = "payload";
	if (!open_part(t.payload, text, &j))
		return false;
	found = json_string(&j, json_get(&j, JSON_ROOT, SPAN("iss")), dst, size) > 0;
	json_clear(&j);
	*why = found ? "" : "issuer";
	return found;
}

enum jwt_outcome
jwt_verify(const struct jwks *keys, const struct issuer *policy, const char *default_domain, struct span token, int64_t now,
    struct jwt *out, const char **why)
{
	char text[DECODED_MAX];
	enum jwt_outcome outcome;
	const struct alg *alg;
	struct token t;
	struct json j;

	*out = (struct jwt){ 0 };
	*why = split(token, &t);
	if (*why != NULL)
		return JWT_BAD;
	*why = "header";
	if (!open_part(t.header, text, &j))
		return JWT_BAD;
	json_printable(&j, json_get(&j, JSON_ROOT, SPAN("kid")), out->kid, sizeof(out->kid));
	*why = check_header(&j, &alg);
	outcome = *why != NULL ? JWT_BAD : check_signature(keys, &j, alg, &t, why);
	json_clear(&j);
	if (outcome != JWT_GOOD)
		return outcome;
	*why = "payload";	/* read only now that it is the issuer's */
	if (!open_part(t.payload, text, &j))
		return JWT_BAD;
	*why = check_claims(&j, policy, default_domain, now, out);
	json_clear(&j);
	if (*why != NULL)
		return JWT_BAD;
	*why = "";
	return JWT_GOOD;
}

void
jwt_fingerprint(struct span token, char dst[JWT_FINGERPRINT_LEN + 1])
{
	uint8_t hash[br_sha256_SIZE];
	br_sha256_context c;

	br_sha256_init(&c);
	br_sha256_update(&c, token.p, token.len);
	br_sha256_out(&c, hash);
	for (size_t i = 0; i < JWT_FINGERPRINT_LEN; i++)
		dst[i] = "0123456789abcdef"[i % 2 == 0 ? hash[i / 2] >> 4 : hash[i / 2] & 15];
	dst[JWT_FINGERPRINT_LEN] = '\0';
}
