/*
 * session_auth.c - AUTH: the exchange with the client (RFC 4954). What the responses say is the agent's matter.
 */
#include "session_auth.h"

#define PENALTY_DOUBLINGS 3	/* of failed logins: 1, 2, 4, 8 seconds (case 7.9) */

bool
session_auth_is_offered(const struct session *s)
{
	return s->io->mechanisms != 0 && (s->tls || s->loopback);
}

void
session_auth_list(struct session *s)
{
	char text[64];
	struct buf b;

	buf_fixed(&b, text, sizeof(text));
	buf_add_str(&b, "AUTH");
	for (int m = SASL_NONE + 1; m < SASL__MAX; m++)
		if ((s->io->mechanisms & 1u << m) != 0)
			buf_printf(&b, " %s", sasl_name((enum sasl_mechanism)m));
	reply_line(s, true, 250, NULL, "%s", buf_str(&b));
}

/* The exchange is over without a login. */
static void
auth_end(struct session *s, enum canned which)
{
	s->state = ST_READY;
	s->auth.refused = false;
	reply_canned(s, which);
}

void
session_auth_failed(struct session *s)
{
	unsigned doublings = s->auth.failures < PENALTY_DOUBLINGS ? s->auth.failures : PENALTY_DOUBLINGS;

	if (++s->auth.failures >= s->config->max_auth_failures) {
		reply_and_close(s, R_AUTH_MANY);
		return;
	}
	auth_end(s, R_AUTH_FAILED);
	s->penalty_ms = (unsigned)PENALTY_MS << doublings;
}

/* A response, in base64 as it came on the line ("=" for an empty initial one is the caller's matter). */
static void
auth_response(struct session *s, struct span base64)
{
	char response[SASL_RESPONSE_MAX];
	long n = text_base64_decode(base64, response, sizeof(response));

	buf_reset(s->io->secret);
	if (n == -1)
		auth_end(s, R_AUTH_BASE64);
	else if (buf_add(s->io->secret, response, (size_t)n) == -1)
		auth_end(s, R_AUTH_UNABLE);
	else
		s->waits_for = REQ_AUTH;
	explicit_bzero(response, sizeof(response));
}

void
session_auth_line(struct session *s, struct span line)
{
	if (s->auth.refused)
		session_auth_failed(s);
	else if (text_is(line, "*"))
		auth_end(s, R_AUTH_CANCELLED);
	else
		auth_response(s, line);
}

void
session_auth_command(struct session *s, struct span arg)
{
	struct span name, initial, rest = arg;
	enum sasl_mechanism m;

	if (s->io->mechanisms == 0 || s->auth.done || !s->hello.esmtp) {
		reply_canned(s, R_BAD_SEQUENCE);
		return;
	}
	if (!text_token(&rest, " ", &name)) {
		reply_canned(s, R_ARGUMENT);
		return;
	}
	initial = text_trim(rest);
	m = sasl_find(name);
	if (text_find(initial, ' ') != SIZE_MAX) {
		reply_canned(s, R_ARGUMENT);
	} else if (m == SASL_NONE || (s->io->mechanisms & 1u << m) == 0) {
		reply_canned(s, R_AUTH_MECHANISM);
	} else if (!s->tls && !s->loopback) {	/* what came with it is not looked at (case 7.1) */
		reply_canned(s, R_AUTH_ENCRYPT);
	} else {
		s->auth.mechanism = m;
		s->state = ST_AUTH;
		if (initial.len == 0)
			reply(s, 334, NULL, "%s", "");
		else
			auth_response(s, text_is(initial, "=") ? text_sub(initial, 1, 1) : initial);
	}
}

void
session_auth_verdict(struct session *s, const struct verdict *v)
{
	char challenge[REPLY_MAX];

	if (v->code == 235) {
		s->auth.done = true;
		s->auth.failures = 0;
		s->state = ST_READY;
		reply_verdict(s, v);
	} else if (v->code != 535) {
		s->state = ST_READY;
		reply_verdict(s, v);
	} else if (sasl_is_bearer(s->auth.mechanism) &&
	    sasl_failure(s->auth.mechanism, s->config->issuers[0].required_scope, challenge, sizeof(challenge) - 4) != -1) {
		s->auth.refused = true;
		reply(s, 334, NULL, "%s", challenge);
	} else {
		session_auth_failed(s);
	}
}
