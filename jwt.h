/*
 * jwt.h - JSON Web Tokens: signature and claims checked against a set of keys. No I/O; the time is a parameter.
 *
 * RFC 7515 (JWS, compact form only), 7517 (JWK), 7518 (RS*, PS*, ES* with 256, 384, 512), 7519 (JWT), 8725 (what to be careful with).
 */
#ifndef JWT_H
#define JWT_H

#include "config.h"

#define JWT_TOKEN_MAX 8192	/* octets of a token */
#define JWT_KID_MAX 128		/* octets of a kid kept for the log */
#define JWT_FINGERPRINT_LEN 8
#define JWKS_MAX (256 * 1024)	/* octets of a key set */
#define JWKS_KEYS_MAX 64

struct jwks;	/* a set of public keys */

/*
 * Read a key set. Keys that we cannot use (kty, use, size, missing members) are left out; skipped (may be NULL) counts them.
 * The result may be empty. NULL with *why (a constant): it is no key set.
 */
struct jwks	*jwks_parse(struct span json, unsigned *skipped, const char **why);
void		 jwks_free(struct jwks *k);
size_t		 jwks_n(const struct jwks *k);

enum jwt_outcome {
	JWT_GOOD,
	JWT_BAD,
	JWT_NO_KEY,	/* its kid is not in the set: fetching the set again may help */
};

/* What a token says; nothing of it is to be trusted but after JWT_GOOD. */
struct jwt {
	struct mailbox	user;			/* username_claim, in the one form that a user has */
	char		kid[JWT_KID_MAX + 1];	/* printable, cut */
	char		subject[JWT_KID_MAX + 1];	/* sub, printable, cut; for the log */
	int64_t		expires_time;		/* exp and the leeway, real time, seconds */
};

/* The issuer that a token names, unchecked, so that its keys can be looked for: into dst[size]; false: it is no token, *why. */
bool		 jwt_issuer(struct span token, char *dst, size_t size, const char **why);
/*
 * Check everything: form, header, signature, iss, aud, exp, nbf, iat, scope, user. now: real time, seconds. default_domain: of a
 * user claim without one. *why: a constant, for the log ("expired", "audience", ...); "" when good.
 */
enum jwt_outcome jwt_verify(const struct jwks *keys, const struct issuer *policy, const char *default_domain, struct span token,
		    int64_t now, struct jwt *out, const char **why);
/* What the log calls a token: the first hex digits of its SHA-256. Any octets have one. */
void		 jwt_fingerprint(struct span token, char dst[JWT_FINGERPRINT_LEN + 1]);

#endif
