/*
 * agent_auth.c - AUTH: a client's credentials, and the agent's word on them.
 *
 * sasl.c reads the response, auth.c finds out whether it is good; who may try at all, what is counted and what the front gets is here.
 */
#include "agent_auth.h"

#include <stdlib.h>

#include "sasl.h"

/* A SASL exchange whose credentials are being checked. It outlives the session. */
struct exchange {
	struct front	*front;		/* NULL: the session or its front is gone */
	struct agent	*agent;
	uint32_t	 slot;
	uint64_t	 session;
	enum sasl_mechanism mechanism;
	int64_t		 started_us;
	char		 address[ENDPOINT_IP_MAX + 1];
	char		 response[IPC_RESPONSE_MAX];	/* what the credentials point into; wiped */
	size_t		 response_len;
};

/* What the client is told of a check; the log gets the reason. */
static void
auth_verdict(const struct exchange *x, const struct auth_result *r, struct verdict *v)
{
	static const char *const outcomes[] = { [AUTH_GOOD] = "good", [AUTH_BAD] = "bad", [AUTH_UNABLE] = "unable", [AUTH_OUT] = "out" };
	static const enum metrics_auth results[] = { [AUTH_GOOD] = MA_SUCCESS, [AUTH_BAD] = MA_FAILURE, [AUTH_UNABLE] = MA_ERROR,
	    [AUTH_OUT] = MA_FAILURE };

	switch (r->outcome) {
	case AUTH_GOOD:
		verdict_set(v, 235, "2.7.0", "Authentication successful");
		break;
	case AUTH_BAD:
		verdict_set(v, 535, "5.7.8", "Authentication credentials invalid");
		break;
	case AUTH_UNABLE:
		verdict_set(v, 454, "4.7.0", "Temporary authentication failure");
		break;
	case AUTH_OUT:
		verdict_set(v, 421, "4.7.0", "Too many failed authentication attempts, try again later");
		break;
	}
	metrics_add(x->agent->args.metrics, M_AUTH_ATTEMPTS,
	    metrics_find(x->agent->args.metrics, ML_MECHANISM, text_span(sasl_name(x->mechanism))), results[r->outcome], 0, 1);
	if (r->outcome == AUTH_OUT)
		metrics_add(x->agent->args.metrics, M_LIMIT_HITS, MH_AUTH_FAILURES_PER_IP, 0, 0, 1);
	log_fields(r->outcome == AUTH_UNABLE ? LOG_ERROR : LOG_INFO, x->session, "auth", LF_STR("client", x->address),
	    LF_STR("mechanism", sasl_name(x->mechanism)), LF_STR("user", r->user), LF_STR("result", outcomes[r->outcome]),
	    LF_STR("reason", r->reason), LF_STR("kid", r->kid), LF_STR("token", r->token),
	    LF_US("took_ms", loop_clock_us() - x->started_us));
}

static void
exchange_free(struct exchange *x)
{
	explicit_bzero(x->response, x->response_len);
	free(x);
}

static void
auth_checked(void *arg, const struct auth_result *r)
{
	struct exchange *x = arg;
	struct agent *a = x->agent;
	struct front *f = x->front;
	struct answer reply = { .slot = x->slot, .session = x->session, .fd = -1 };
	unsigned per_ip = a->config->auth_failures_per_ip;
	struct client *c;

	auth_verdict(x, r, &reply.verdict);
	if (r->outcome == AUTH_BAD)
		limits_auth_failed(a->args.limits, x->address, r->user, per_ip, a->loop.now_ms);
	else if (r->outcome == AUTH_GOOD)
		limits_auth_good(a->args.limits, x->address, r->user);
	if (f == NULL) {	/* the client has left meanwhile */
		exchange_free(x);
		return;
	}
	c = &f->clients[x->slot];
	c->exchange = NULL;
	if (r->outcome == AUTH_GOOD && text_copy(reply.login.user, sizeof(reply.login.user), text_span(r->user)) == 0) {
		memcpy(f->users[x->slot], reply.login.user, sizeof(reply.login.user));
		c->logged_in = true;
		c->expires_time = reply.login.expires_time = r->expires_time;
		auth_ticket(a->args.key, x->session, reply.login.user, r->expires_time, reply.login.ticket);
	}
	answer_send(f, &reply);
	exchange_free(x);
}

/* Whether it may not even try (case 7.9): its address has failed too often, or has as this user. */
static bool
is_out(const struct exchange *x, const struct credentials *cred)
{
	const struct config *c = x->agent->config;
	char user[SMTP_ADDRESS_MAX + 1];

	(void)auth_user_name(c, cred->authcid, user);	/* a token's user is not known yet */
	return limits_auth_is_out(x->agent->args.limits, x->address, user, c->auth_failures_per_ip, x->agent->loop.now_ms);
}

void
request_auth(struct front *f, const struct request *q)
{
	struct agent *a = f->agent;
	struct client *c = &f->clients[q->slot];
	struct credentials cred;
	struct exchange *x;
	struct verdict v = { 0 };
	const char *why;

	if (c->logged_in || c->exchange != NULL || f->listener->auth == AUTH_OFF || q->mechanism >= SASL__MAX) {
		verdict_set(&v, 503, "5.5.1", "Bad sequence of commands");
		answer_verdict(f, q->slot, q->session, &v, -1);
		return;
	}
	if (c->address[0] == '\0') {	/* its CONNECT came without its socket: nobody could count its failures */
		verdict_set(&v, 421, "4.3.2", "Too busy, try again later");
		answer_verdict(f, q->slot, q->session, &v, -1);
		return;
	}
	x = calloc(1, sizeof(*x));
	if (x == NULL) {
		verdict_set(&v, 454, "4.7.0", "Temporary authentication failure");
		answer_verdict(f, q->slot, q->session, &v, -1);
		return;
	}
	*x = (struct exchange){ .front = f, .agent = a, .slot = q->slot, .session = q->session, .started_us = loop_clock_us(),
	    .mechanism = (enum sasl_mechanism)q->mechanism, .response_len = q->response.len };
	memcpy(x->address, c->address, sizeof(x->address));
	memcpy(x->response, q->response.p, q->response.len);
	c->exchange = x;
	if (sasl_parse(x->mechanism, x->response, x->response_len, &cred, &why) == -1)
		auth_checked(x, &(struct auth_result){ .outcome = AUTH_BAD, .user = "", .reason = why, .kid = "", .token = "" });
	else if (is_out(x, &cred))
		auth_checked(x, &(struct auth_result){ .outcome = AUTH_OUT, .user = "", .reason = "too many failures", .kid = "", .token = "" });
	else
		auth_check(a->auth, x->session, &cred, x->address, auth_checked, x);
}

void
exchange_forget(struct client *c)
{
	if (c->exchange != NULL)
		c->exchange->front = NULL;
	c->exchange = NULL;
}
