/*
 * fuzz_jwks.c - any octets as a key set: it is refused for a reason or holds a bounded number of keys, and none of them verifies a
 * token of keys that it was never given: only the one key that the token needs, whole, does.
 */
#include <stdlib.h>

#include "../unit/data/jwt_vectors.h"
#include "jwt.h"
#include "must.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *audiences[] = { (char *)"mx.toy", NULL };
static const struct issuer policy = { .issuer = (char *)"https://idp.test", .audience = { audiences, 1 }, .username_claim = (char *)"email",
    .required_scope = (char *)"" };

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct {
		const char	*token, *x;	/* x: of the EC key that it needs */
	} rows[] = {
		{ MINTED_ES256, MINTED_X256 }, { MINTED_ES384, MINTED_X384 }, { MINTED_RS256, "" }, { MINTED_ODD_PS256, "" },
		{ BAD_CUBE_FORGED, NULL },
	};
	unsigned skipped = 0;
	const char *why = NULL;
	struct jwks *set = jwks_parse((struct span){ (const char *)data, size }, &skipped, &why);
	struct jwt out;

	must(why != NULL && (why[0] == '\0') == (set != NULL));
	if (set == NULL)
		return 0;
	must(jwks_n(set) + skipped <= JWKS_KEYS_MAX);
	for (size_t i = 0; i < COUNT(rows); i++) {
		if (jwt_verify(set, &policy, "default.test", text_span(rows[i].token), 1700000000, &out, &why) != JWT_GOOD)
			continue;
		must(jwks_n(set) > 0 && rows[i].x != NULL);
		/* base64url has one way to write it; an escape would be another */
		must(memchr(data, '\\', size) != NULL || memmem(data, size, rows[i].x, strlen(rows[i].x)) != NULL);
	}
	jwks_free(set);
	return 0;
}
