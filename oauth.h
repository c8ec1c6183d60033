/*
 * oauth.h - bearer tokens of the configured issuers: their key sets, fetched and kept fresh, and the verdict on a token.
 *
 * OpenID Connect Discovery 1.0 4; RFC 7517; SECURITY-CASES 8.40 to 8.46.
 */
#ifndef OAUTH_H
#define OAUTH_H

#include "auth.h"
#include "http.h"

/*
 * Starts to fetch what is to be fetched. loop, http and c are borrowed until oauth_free(). NULL with errno. Without an issuer in c it
 * does nothing, and is not needed.
 */
struct oauth	*oauth_new(struct loop *l, struct http *http, const struct config *c);
/* Checks that still wait end without done. Before http_free(). */
void		 oauth_free(struct oauth *o);
/*
 * Check a token: done is called exactly once, from the loop or from inside this call, and no later than wait_ms from now. A token
 * whose key is not known waits for one fetch at most; no key set at all, or a clock that is not set, is AUTH_UNABLE.
 */
void		 oauth_check(struct oauth *o, uint64_t session, struct span token, int64_t wait_ms, auth_done *done, void *arg);
size_t		 oauth_pending(const struct oauth *o);

#endif
