/*
 * sasl.h - SASL mechanisms: what a client's response says. No I/O, no policy.
 *
 * RFC 4616 PLAIN, 7628 OAUTHBEARER, and XOAUTH2 as clients speak it. The session takes the base64 off (RFC 4954), the agent reads
 * the response.
 */
#ifndef SASL_H
#define SASL_H

#include "text.h"

#define SASL_LINE_MAX 12288		/* octets of an AUTH line or a response's, CRLF included (RFC 4954 4.9) */
#define SASL_RESPONSE_MAX 9216		/* the same without base64 */

enum sasl_mechanism { SASL_NONE, SASL_PLAIN, SASL_OAUTHBEARER, SASL_XOAUTH2, SASL__MAX };

/* What a response holds: spans into it. */
struct credentials {
	enum sasl_mechanism mechanism;
	struct span	authzid;	/* whom to act as; empty: whoever authcid or the token says */
	struct span	authcid;	/* PLAIN: who */
	struct span	secret;		/* password, or token */
};

/* The mechanism named so, in any case; SASL_NONE: none of ours. */
enum sasl_mechanism sasl_find(struct span name);
/* "PLAIN", ...; "" for SASL_NONE. */
const char	*sasl_name(enum sasl_mechanism m);
/* Whether the secret is a token. */
bool		 sasl_is_bearer(enum sasl_mechanism m);
/*
 * Read a whole response (base64 taken off); it is changed in place (=2C, =3D in a=). 0, or -1 with *why (a constant, for the log):
 * it is none. An empty token is none too: a client that asks for the server's configuration (RFC 7628 4.3).
 */
int		 sasl_parse(enum sasl_mechanism m, char *response, size_t len, struct credentials *c, const char **why);
/*
 * The challenge that tells a bearer token's failure, as base64 into dst[size]; the length, or -1: it does not fit. scope: as
 * configured, may be "". The client answers it with anything, and then gets its 535.
 */
long		 sasl_failure(enum sasl_mechanism m, const char *scope, char *dst, size_t size);

#endif
