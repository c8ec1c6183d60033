/*
 * agent.c - the agent's poll loop and the way of one message: envelope, message file, delivery, verdict.
 *
 * It takes every datagram of a front as hostile: whatever a front sends, it gains nothing but the mail that it sees.
 */
#include "agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "deliver.h"
#include "filters.h"
#include "hook.h"
#include "ipc.h"
#include "loop.h"
#include "oauth.h"
#include "policy.h"
#include "pool.h"
#include "rspamd.h"
#include "sandbox.h"
#include "tls.h"

#define FRONTS_MAX (CONFIG_LISTENERS_MAX * CONFIG_WORKERS_MAX)
#define LOOP_OTHERS 256		/* loop slots that are neither fronts nor children: Maildir writers, HTTP calls, timers */
#define SPOOL_RESERVE (1024 * 1024)	/* free octets that spool_dir keeps */
#define FETCHES_MAX 16		/* HTTP calls at once, those of checkers aside */
#define TRAPS_MAX 256		/* addresses whose lessons are counted */
#define TRAP_MS (3600 * 1000)

/* A mail transaction of a session. It outlives the session while its message is being delivered. */
struct work {
	struct tx	 tx;
	struct agent	*agent;
	struct front	*front;		/* NULL: the session or its front is gone */
	uint32_t	 slot;
	char		 address[IPC_ADDRESS_MAX + 1];
	char		 helo[SMTP_DOMAIN_MAX + 1];
	char		 auth_user[SMTP_ADDRESS_MAX + 1];
	char		 tls_name[SMTP_DOMAIN_MAX + 1];
	bool		 relays;	/* the client may send to domains that are not ours */
	bool		 busy;		/* deliver_check(), deliver_start() or the filters have it */
	bool		 forgotten;	/* RESET or CLOSE came meanwhile */
	bool		 filtered;	/* refused by a filter */
	char		 score[24];	/* of the spam checkers, for the log; "": none */
	char		 filters[256];	/* what they had to say */
	bool		 unknown;	/* a recipient was unknown, and is told at the end of data */
	bool		 delivering;	/* deliver_start() has been called */
	unsigned	 listener_slot;	/* of metrics */
	struct mailbox	 rcpt;		/* that is being checked */
	int64_t		 started_us, filters_us, delivery_us;	/* when each began; filters_us: how long they took */
	uint32_t	 data_ms;
};

/* A SASL exchange whose credentials are being checked. It outlives the session. */
struct exchange {
	struct front	*front;		/* NULL: the session or its front is gone */
	struct agent	*agent;
	uint32_t	 slot;
	uint64_t	 session;
	enum sasl_mechanism mechanism;
	int64_t		 started_us;
	char		 address[IPC_ADDRESS_MAX + 1];
	char		 response[IPC_RESPONSE_MAX];	/* what the credentials point into; wiped */
	size_t		 response_len;
};

struct client {
	uint64_t	 session;	/* 0: the slot is free */
	struct work	*work;		/* owned, unless busy and forgotten; NULL: no transaction */
	struct exchange	*exchange;	/* auth_check()'s until it is done; NULL: none */
	bool		 trusted;	/* it relays without AUTH */
	bool		 logged_in;	/* as front->users has it */
	int64_t		 expires_time;	/* of the login */
	char		 address[IPC_ADDRESS_MAX + 1];
};

struct front {
	struct agent	*agent;		/* NULL: the place is free */
	struct loop_slot slot;
	int		 fd;		/* owned */
	const struct listener *listener;
	unsigned	 listener_slot;	/* of metrics */
	struct client	*clients;	/* max_connections, mapped */
	char		(*users)[SMTP_ADDRESS_MAX + 1];	/* as many, mapped: who has logged in; touched by those that do */
	struct buf	 queue;		/* answers that its socket had no room for: length and datagram, one after the other */
};

/* How many messages of an address were learned from in this hour (case 11.28). */
struct trap {
	char		 address[IPC_ADDRESS_MAX + 1];
	unsigned	 n;
	int64_t		 since_at;
};

struct agent {
	struct agent_args args;
	const struct config *config;
	struct loop	 loop;
	struct loop_slot control;
	struct children	*children;
	struct deliver	*deliver;
	struct http	*http;		/* NULL: nothing needs it */
	struct oauth	*oauth;		/* NULL: no issuer is configured */
	struct auth	*auth;
	struct senders	*senders;
	struct filters	*filters;
	struct trap	 traps[TRAPS_MAX];
	struct front	 fronts[FRONTS_MAX];
	size_t		 fronts_n;
	uint32_t	 serial;	/* of the last message's id */
	bool		 draining;
};

/* ---- answers ---- */

static void
answer_send(struct front *f, const struct answer *a)
{
	char datagram[IPC_MAX];
	uint16_t len;
	int n = ipc_pack_answer(a, datagram);

	if (n == -1)
		return;
	if (buf_len(&f->queue) == 0 && ipc_send(f->fd, datagram, (size_t)n, a->fd) == 0)
		return;
	/* full: the order is kept; the descriptor of a 354 is found again by its slot. A front that takes nothing loses it. */
	len = (uint16_t)n;
	if (buf_len(&f->queue) == 0)
		buf_reset(&f->queue);
	buf_add(&f->queue, &len, sizeof(len));
	buf_add(&f->queue, datagram, (size_t)n);
	loop_events(&f->slot, POLLIN | POLLOUT);
}

static void
answer(struct front *f, uint32_t slot, uint64_t session, const struct verdict *v, int fd)
{
	struct answer a = { .slot = slot, .session = session, .verdict = *v, .fd = fd };

	answer_send(f, &a);
}

static void
answer_flush(struct front *f)
{
	while (buf_len(&f->queue) > 0) {
		struct span all = buf_span(&f->queue);
		struct answer a;
		uint16_t len;
		int fd = -1;

		memcpy(&len, f->queue.data + f->queue.rpos, sizeof(len));
		if (ipc_unpack_answer(&a, all.p + sizeof(len), len) == 0 && a.verdict.code == 354) {
			const struct client *c = &f->clients[a.slot];

			if (c->session == a.session && c->work != NULL)
				fd = c->work->tx.fd;
		}
		if (ipc_send(f->fd, all.p + sizeof(len), len, fd) == -1)
			return;
		buf_drop(&f->queue, sizeof(len) + len);
	}
	loop_events(&f->slot, POLLIN);
}

/* ---- a transaction ---- */

static int64_t
real_time_us(void)
{
	struct timespec ts;

	/* cannot fail: the clock exists */
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Unique on this machine: second, process, count. */
static void
make_id(struct agent *a, char *id)
{
	a->serial = (a->serial + 1) & 0xffffff;
	(void)snprintf(id, MESSAGE_ID_LEN + 1, "%08x%06x%06x", (unsigned)(real_time_us() / 1000000 & 0xffffffff),
	    (unsigned)getpid() & 0xffffff, a->serial);
}

static void
work_free(struct work *w)
{
	if (w->tx.fd != -1)
		close(w->tx.fd);
	free(w->tx.rcpts);
	free(w);
}

/* The client's transaction ends; what deliver has is freed when deliver is done with it. */
static void
work_forget(struct client *c)
{
	struct work *w = c->work;

	c->work = NULL;
	if (w == NULL)
		return;
	if (w->busy) {
		w->forgotten = true;
		w->front = NULL;
	} else {
		work_free(w);
	}
}

/* A recipient's domain is told if it is ours. */
static void
count_rejected(const struct agent *a, unsigned listener_slot, const char *domain, enum metrics_reason why)
{
	struct metrics *m = a->args.metrics;

	metrics_add(m, M_MESSAGES_REJECTED, listener_slot, metrics_find(m, ML_DOMAIN, text_span(domain)), why, 1);
}

/* Why a message was refused, by what its client was told, before a delivery was tried. */
static const struct {
	const char		*esc;
	enum metrics_reason	 reason;
} reasons[] = {
	{ "5.3.4", MR_SIZE }, { "5.5.2", MR_NEWLINE }, { "5.6.0", MR_SYNTAX }, { "5.4.6", MR_POLICY }, { "5.7.1", MR_FROM },
	{ "5.1.1", MR_UNKNOWN_RECIPIENT }, { "4.3.1", MR_STORAGE },
};

static void
count_message(const struct work *w, const struct verdict *v)
{
	struct metrics *m = w->agent->args.metrics;
	const char *domain = w->tx.rcpts_n == 0 ? "" : w->tx.rcpts[0].domain;
	enum metrics_reason why = w->delivering ? MR_DELIVERY : w->filtered ? MR_SPAM : MR_OTHER;
	unsigned result = v->code / 100 == 2 ? MD_SUCCESS : v->code / 100 == 4 ? MD_TEMPFAIL : MD_REJECT;

	if (w->delivering) {
		metrics_add(m, M_DELIVERIES, metrics_find(m, ML_AGENT, text_span(deliver_agent_name(w->agent->deliver, &w->tx))), result, 0, 1);
		metrics_observe(m, M_DELIVERY_DURATION, result, loop_clock_us() - w->delivery_us);
	}
	if (v->code / 100 == 2) {
		metrics_add(m, M_MESSAGES_RECEIVED, w->listener_slot, metrics_find(m, ML_DOMAIN, text_span(domain)), 0, 1);
		metrics_observe(m, M_MESSAGES_SIZE, 0, (int64_t)(w->tx.size - w->tx.header_at));
		return;
	}
	for (size_t i = 0; i < COUNT(reasons) && !w->delivering && !w->filtered; i++)
		if (strcmp(reasons[i].esc, v->esc) == 0)
			why = reasons[i].reason;
	count_rejected(w->agent, w->listener_slot, domain, why);
}

/* Count a message, and write the line that tells its whole story. */
static void
log_message(const struct work *w, const struct verdict *v, const char *detail)
{
	const struct tx *tx = &w->tx;
	char from[SMTP_ADDRESS_MAX + 1], to[LOG_VALUE_MAX + SMTP_ADDRESS_MAX], reply[512];
	int64_t now = loop_clock_us();
	struct buf b;

	count_message(w, v);
	smtp_mailbox_print(&tx->sender, from);
	buf_fixed(&b, to, sizeof(to));
	for (size_t i = 0; i < tx->rcpts_n && buf_len(&b) < LOG_VALUE_MAX; i++) {
		char one[SMTP_ADDRESS_MAX + 1];

		smtp_mailbox_print(&tx->rcpts[i], one);
		buf_printf(&b, "%s%s", i == 0 ? "" : ",", one);
	}
	(void)snprintf(reply, sizeof(reply), "%d %s %s", v->code, v->esc, v->text);
	log_info(tx->session, "message", LF_STR("id", tx->id), LF_STR("listener", tx->listener->name),
	    LF_STR("client", w->address), LF_STR("helo", w->helo), LF_STR("user", w->auth_user), LF_STR("tls", tx->tls_version),
	    LF_STR("cipher", tx->tls_cipher), LF_STR("from", from), LF_SPAN("to", buf_span(&b)),
	    LF_INT("rcpts", tx->rcpts_n), LF_INT("size", tx->size == 0 ? 0 : tx->size - tx->header_at),
	    LF_STR("agent", deliver_agent_name(w->agent->deliver, tx)),
	    LF_STR("result", v->code / 100 == 2 ? "delivered" : v->code / 100 == 4 ? "deferred" : "rejected"),
	    LF_STR("reply", reply), LF_STR("detail", detail), LF_STR("spam_score", w->score), LF_STR("filters", w->filters),
	    LF_INT("data_ms", w->data_ms), LF_US("filters_ms", w->filters_us),
	    LF_US("delivery_ms", w->delivery_us == 0 ? 0 : now - w->delivery_us), LF_US("total_ms", now - w->started_us));
}

/* ---- requests ---- */

/* The exchange ends unanswered. */
static void
exchange_forget(struct client *c)
{
	if (c->exchange != NULL)
		c->exchange->front = NULL;
	c->exchange = NULL;
}

/* What is known of a client and its next transaction. NULL: no memory. */
static struct work *
work_new(struct front *f, const struct request *q)
{
	const struct client *c = &f->clients[q->slot];
	struct work *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	memcpy(w->address, c->address, sizeof(w->address));
	memcpy(w->helo, q->helo, sizeof(w->helo));
	if (c->logged_in)
		memcpy(w->auth_user, f->users[q->slot], sizeof(w->auth_user));
	memcpy(w->tls_name, q->tls_name, sizeof(w->tls_name));
	w->relays = c->logged_in || c->trusted;
	w->agent = f->agent;
	w->front = f;
	w->slot = q->slot;
	w->listener_slot = f->listener_slot;
	w->started_us = loop_clock_us();
	w->tx = (struct tx){ .session = q->session, .config = f->agent->config, .listener = f->listener, .client_address = w->address,
	    .client_port = q->port, .helo = w->helo, .auth_user = w->auth_user,
	    .auth_type = c->logged_in && q->mechanism < SASL__MAX ? sasl_name((enum sasl_mechanism)q->mechanism) : "",
	    .tls_version = tls_version_name(q->tls_version),
	    .tls_cipher = tls_suite_name(q->tls_suite), .tls_name = w->tls_name, .esmtp = q->esmtp, .body = q->body, .utf8 = q->utf8,
	    .fd = -1 };
	make_id(f->agent, w->tx.id);
	return w;
}

/* A hook at an event of the envelope has spoken; w is forgotten with the client. Returns false then. */
static bool
hooked(struct work *w, const struct filters_story *s, const char *event)
{
	w->busy = false;
	if (w->forgotten) {
		work_free(w);
		return false;
	}
	if (s->verdict.code != 0) {
		log_info(w->tx.session, "hook_refused", LF_STR("at", event), LF_STR("client", w->address), LF_INT("code", s->verdict.code),
		    LF_STR("text", s->verdict.text), LF_STR("detail", s->detail));
		count_rejected(w->agent, w->listener_slot, w->rcpt.domain, MR_POLICY);
	}
	return true;
}

static void
connect_hooked(void *arg, const struct filters_story *s)
{
	struct work *w = arg;
	struct verdict v = { 0 };

	if (!hooked(w, s, "connect"))
		return;
	if (s->verdict.code == 0)
		verdict_set(&v, 220, "", "Ready");
	else	/* RFC 5321 3.1, 3.8 */
		verdict_set(&v, s->verdict.code / 100 == 5 ? 554 : 421, s->verdict.esc, "%s", s->verdict.text);
	answer(w->front, w->slot, w->tx.session, &v, -1);
	w->front->clients[w->slot].work = NULL;
	work_free(w);
}

static void
request_connect(struct front *f, const struct request *q)
{
	struct client *c = &f->clients[q->slot];
	struct verdict v = { 0 };
	struct work *w;

	work_forget(c);
	exchange_forget(c);
	*c = (struct client){ .session = q->session };
	memcpy(c->address, q->address, sizeof(c->address));
	c->trusted = policy_is_trusted(f->listener, c->address);
	/* a front cannot make this up: it has not the key of the ticket */
	if (q->login != NULL && auth_ticket_is_good(f->agent->args.key, q->session, q->login->user, q->login->expires_time,
	    q->login->ticket)) {
		memcpy(f->users[q->slot], q->login->user, sizeof(f->users[q->slot]));
		c->logged_in = true;
		c->expires_time = q->login->expires_time;
	}
	if (q->resumed)
		return;
	if (filters_want(f->agent->filters, HOOK_CONNECT) && (w = work_new(f, q)) != NULL) {
		c->work = w;
		w->busy = true;
		filters_envelope(f->agent->filters, HOOK_CONNECT, &w->tx, NULL, connect_hooked, w);
		return;
	}
	verdict_set(&v, 220, "", "Ready");
	answer(f, q->slot, q->session, &v, -1);
}

/* ---- AUTH ---- */

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

static void
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
		answer(f, q->slot, q->session, &v, -1);
		return;
	}
	x = calloc(1, sizeof(*x));
	if (x == NULL) {
		verdict_set(&v, 454, "4.7.0", "Temporary authentication failure");
		answer(f, q->slot, q->session, &v, -1);
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

/* ---- the envelope ---- */

/* Whether a message of so many octets can be stored at all now. */
static bool
has_room(const struct agent *a, uint64_t size)
{
	struct statvfs fs;

	if (a->config->spool_dir[0] == '\0') {
		uint64_t used = limits_spool_used(a->args.limits), max = a->config->max_spool_memory;

		return used <= max && size <= max - used;
	}
	if (statvfs(a->config->spool_dir, &fs) == -1)
		return false;
	return fs.f_bavail * fs.f_frsize >= size + SPOOL_RESERVE;
}

/* Submission is for those we know, whether or not there is a way to log in. */
static bool
needs_login(const struct listener *l)
{
	return l->auth == AUTH_REQUIRED || l->mode == MODE_SUBMISSION || l->mode == MODE_SMTPS;
}

static void
mail_hooked(void *arg, const struct filters_story *s)
{
	struct work *w = arg;
	struct verdict v = s->verdict;

	if (!hooked(w, s, "mail"))
		return;
	if (v.code == 0)
		verdict_set(&v, 250, "2.1.0", "Sender ok");
	answer(w->front, w->slot, w->tx.session, &v, -1);
	if (v.code == 250)
		return;
	w->front->clients[w->slot].work = NULL;
	work_free(w);
}

static void
request_mail(struct front *f, const struct request *q)
{
	struct agent *a = f->agent;
	struct client *c = &f->clients[q->slot];
	struct verdict v = { 0 };
	struct work *w;

	work_forget(c);
	if (needs_login(f->listener) && !c->logged_in && !c->trusted) {
		count_rejected(a, f->listener_slot, "", MR_AUTH);
		verdict_set(&v, 530, "5.7.0", "Authentication required");
		answer(f, q->slot, q->session, &v, -1);
		return;
	}
	if (c->logged_in && real_time_us() / 1000000 > c->expires_time) {	/* case 8.29 */
		log_info(q->session, "auth_expired", LF_STR("user", f->users[q->slot]));
		count_rejected(a, f->listener_slot, "", MR_AUTH);
		verdict_set(&v, 530, "5.7.0", "Authentication has expired");
		answer(f, q->slot, q->session, &v, -1);
		return;
	}
	if (!has_room(a, q->size)) {
		log_error(q->session, "spool_full", LF_STR("spool_dir", a->config->spool_dir), LF_INT("size", q->size),
		    LF_STR("help", "not enough space for messages in flight"));
		count_rejected(a, f->listener_slot, "", MR_STORAGE);
		verdict_set(&v, 452, "4.3.1", "Insufficient system storage");
		answer(f, q->slot, q->session, &v, -1);
		return;
	}
	w = work_new(f, q);
	if (w == NULL) {
		verdict_set(&v, 451, "4.3.0", "Out of memory");
		answer(f, q->slot, q->session, &v, -1);
		return;
	}
	if (q->path[0] != '\0' && smtp_mailbox(text_span(q->path), q->utf8, &w->tx.sender) != SMTP_PATH_OK) {
		work_free(w);
		count_rejected(a, f->listener_slot, "", MR_SYNTAX);
		verdict_set(&v, 501, "5.1.7", "Syntax error in sender address");
		answer(f, q->slot, q->session, &v, -1);
		return;
	}
	if (c->logged_in && q->path[0] != '\0' && !senders_allow(a->senders, w->auth_user, &w->tx.sender, a->loop.now_ms)) {
		log_info(q->session, "sender_refused", LF_STR("user", w->auth_user), LF_STR("from", q->path));
		work_free(w);
		count_rejected(a, f->listener_slot, "", MR_FROM);
		verdict_set(&v, 550, "5.7.1", "Not allowed to send as this address");
		answer(f, q->slot, q->session, &v, -1);
		return;
	}
	c->work = w;
	if (filters_want(a->filters, HOOK_MAIL)) {
		w->busy = true;
		filters_envelope(a->filters, HOOK_MAIL, &w->tx, NULL, mail_hooked, w);
		return;
	}
	verdict_set(&v, 250, "2.1.0", "Sender ok");
	answer(f, q->slot, q->session, &v, -1);
}

static bool
is_our_domain(const struct config *c, const char *domain)
{
	for (size_t i = 0; i < c->domains.n; i++)
		if (strcmp(c->domains.v[i], domain) == 0)
			return true;
	return false;
}

static bool
has_recipient(const struct tx *tx, const struct mailbox *m)
{
	for (size_t i = 0; i < tx->rcpts_n; i++)
		if (strcmp(tx->rcpts[i].domain, m->domain) == 0 &&
		    text_eq_nocase(text_span(tx->rcpts[i].local), text_span(m->local)))
			return true;
	return false;
}

static int
add_recipient(struct tx *tx, const struct mailbox *m)
{
	if (tx->rcpts_n == tx->rcpts_max) {
		size_t max = tx->rcpts_max == 0 ? 1 : 2 * tx->rcpts_max;
		struct mailbox *more = realloc(tx->rcpts, max * sizeof(*more));

		if (more == NULL)
			return -1;
		tx->rcpts = more;
		tx->rcpts_max = max;
	}
	tx->rcpts[tx->rcpts_n++] = *m;
	return 0;
}

/* The last word on a recipient. */
static void
rcpt_answer(struct work *w, const struct verdict *said)
{
	struct verdict v = *said;

	if (v.code / 100 == 2 && add_recipient(&w->tx, &w->rcpt) == -1)
		verdict_set(&v, 451, "4.3.0", "Out of memory");
	answer(w->front, w->slot, w->tx.session, &v, -1);
}

static void
rcpt_hooked(void *arg, const struct filters_story *s)
{
	struct work *w = arg;
	struct verdict v = s->verdict;

	if (!hooked(w, s, "rcpt"))
		return;
	if (v.code == 0)
		verdict_set(&v, 250, "2.1.5", "Recipient ok");
	rcpt_answer(w, &v);
}

/* The delivery agent's word on a recipient. */
static void
rcpt_done(void *arg, const struct verdict *known, const char *detail)
{
	struct work *w = arg;
	struct verdict v = *known;
	char address[SMTP_ADDRESS_MAX + 1];

	w->busy = false;
	if (w->forgotten) {
		work_free(w);
		return;
	}
	if (v.code / 100 == 5 && w->tx.config->recipient_rejection == REJECT_AT_DATA) {
		w->unknown = true;
		verdict_set(&v, 250, "2.1.5", "Recipient ok");
	}
	if (v.code / 100 != 2) {
		smtp_mailbox_print(&w->rcpt, address);
		log_info(w->tx.session, "rcpt_refused", LF_STR("id", w->tx.id), LF_STR("rcpt", address), LF_INT("code", v.code),
		    LF_STR("text", v.text), LF_STR("detail", detail));
		count_rejected(w->agent, w->listener_slot, w->rcpt.domain, v.code / 100 == 5 ? MR_UNKNOWN_RECIPIENT : MR_DELIVERY);
	} else if (filters_want(w->agent->filters, HOOK_RCPT)) {
		w->busy = true;
		filters_envelope(w->agent->filters, HOOK_RCPT, &w->tx, &w->rcpt, rcpt_hooked, w);
		return;
	}
	rcpt_answer(w, &v);
}

static void
request_rcpt(struct front *f, const struct request *q)
{
	struct agent *a = f->agent;
	struct work *w = f->clients[q->slot].work;
	struct verdict v = { 0 };
	struct mailbox *m;
	bool foreign;

	if (w == NULL || w->busy || w->tx.fd != -1) {
		verdict_set(&v, 451, "4.3.0", "Temporary failure, try again");
		answer(f, q->slot, q->session, &v, -1);
		return;
	}
	m = &w->rcpt;
	if (text_is_nocase(text_span(q->path), "postmaster")) {	/* RFC 5321 4.5.1 */
		*m = (struct mailbox){ .local = "postmaster" };
		/* cannot fail: both are as long */
		(void)text_copy(m->domain, sizeof(m->domain), text_span(config_default_domain(a->config)));
	} else if (smtp_mailbox(text_span(q->path), w->tx.utf8, m) != SMTP_PATH_OK) {
		verdict_set(&v, 501, "5.1.3", "Syntax error in recipient address");
	}
	foreign = !is_our_domain(a->config, m->domain);
	if (v.code == 0 && foreign && (!w->relays || a->config->relay_command.n == 0)) {
		char address[SMTP_ADDRESS_MAX + 1];

		smtp_mailbox_print(m, address);
		log_info(q->session, "rcpt_refused", LF_STR("id", w->tx.id), LF_STR("rcpt", address), LF_INT("code", 550),
		    LF_STR("text", "Relay denied"));
		count_rejected(a, f->listener_slot, m->domain, MR_RELAY_DENIED);
		verdict_set(&v, 550, "5.7.1", "Relay denied");
	} else if (v.code == 0 && has_recipient(&w->tx, m)) {
		verdict_set(&v, 250, "2.1.5", "Recipient ok");
	} else if (v.code == 0 && w->tx.rcpts_n > 0 && foreign != w->tx.foreign) {	/* one reply is one outcome, of one delivery */
		verdict_set(&v, 452, "4.5.3", "Recipients of our domains and of others one after the other");
	} else if (v.code == 0 && w->tx.rcpts_n > 0 && (foreign ? a->config->relay_per_recipient : a->config->per_recipient)) {
		verdict_set(&v, 452, "4.5.3", "One recipient at a time");
	} else if (v.code == 0 && w->tx.rcpts_n >= a->config->max_recipients) {
		metrics_add(a->args.metrics, M_LIMIT_HITS, MH_MAX_RECIPIENTS, 0, 0, 1);
		verdict_set(&v, 452, "4.5.3", "Too many recipients");
	}
	if (v.code != 0) {
		answer(f, q->slot, q->session, &v, -1);
		return;
	}
	w->tx.foreign = foreign;
	w->busy = true;
	deliver_check(a->deliver, &w->tx, m, rcpt_done, w);
}

static void
request_data(struct front *f, const struct request *q)
{
	struct agent *a = f->agent;
	struct work *w = f->clients[q->slot].work;
	struct verdict v = { 0 };

	if (w == NULL || w->busy || w->tx.rcpts_n == 0 || w->tx.fd != -1) {
		verdict_set(&v, 451, "4.3.0", "Temporary failure, try again");
	} else if ((w->tx.fd = message_open(a->config->spool_dir)) == -1) {
		log_error(q->session, "spool", LF_STR("id", w->tx.id), LF_ERRNO(errno), LF_STR("spool_dir", a->config->spool_dir));
		verdict_set(&v, 452, "4.3.1", "Insufficient system storage");
	} else {
		verdict_set(&v, 354, "", "Go on");
	}
	answer(f, q->slot, q->session, &v, v.code == 354 ? w->tx.fd : -1);
}

/* The end of a message: log its line, tell the client if it is still there, forget it. */
static void
message_done(void *arg, const struct verdict *v, const char *detail)
{
	struct work *w = arg;
	struct front *f = w->front;

	w->busy = false;
	if (w->forgotten) {
		/* the client left before its reply: it will send the message again, and the command may know its id */
		log_warn(w->tx.session, "client_gone", LF_STR("id", w->tx.id));
		log_message(w, v, detail);
		work_free(w);
		return;
	}
	log_message(w, v, detail);
	answer(f, w->slot, w->tx.session, v, -1);
	f->clients[w->slot].work = NULL;
	work_free(w);
}

/* The message file holds what the front says that it does. */
static bool
file_is_whole(const struct tx *tx, uint64_t body)
{
	struct stat st;

	return fstat(tx->fd, &st) == 0 && body <= tx->config->max_message_size &&
	    (uint64_t)st.st_size == (body == 0 ? 0 : MESSAGE_ROOM + body);
}

/* Whether this address may teach once more in this hour. */
static bool
may_teach(struct agent *a, const char *address)
{
	struct trap *t = &a->traps[0], *oldest = t;

	for (; t < a->traps + TRAPS_MAX && strcmp(t->address, address) != 0; t++)
		if (t->since_at < oldest->since_at)
			oldest = t;
	if (t == a->traps + TRAPS_MAX) {
		*oldest = (struct trap){ .since_at = a->loop.now_ms };
		memcpy(oldest->address, address, strlen(address) + 1);
		t = oldest;
	}
	if (a->loop.now_ms - t->since_at > TRAP_MS)
		*t = (struct trap){ .since_at = a->loop.now_ms };
	return t->n++ < a->config->trap_max_per_ip;
}

/* A message for somebody who is not there: spam, if anything is. Nobody waits for the lesson. */
static void
teach(struct work *w)
{
	struct agent *a = w->agent;
	const struct config *c = a->config;

	if (c->trap_url[0] == '\0' || w->auth_user[0] != '\0' || !may_teach(a, w->address))
		return;
	if (rspamd_learn(a->http, c->trap_url, c->trap_password, &w->tx) == -1)
		log_warn(w->tx.session, "spamtrap", LF_STR("id", w->tx.id), LF_ERRNO(errno));
}

/* Nothing is against the message, or nothing but that nobody is there to get it. */
static void
message_deliver(struct work *w)
{
	struct verdict v = { 0 };

	if (w->unknown) {
		teach(w);
		verdict_set(&v, 550, "5.1.1", "No such recipient");
		message_done(w, &v, "unknown recipient");
		return;
	}
	w->delivery_us = loop_clock_us();
	w->delivering = true;
	deliver_start(w->agent->deliver, &w->tx, message_done, w);
}

/* The trace fields, and then nobody changes the file any more. */
static bool
message_finish(struct work *w)
{
	struct verdict v = { 0 };
	const char *why;

	if (message_trace(&w->tx, (time_t)(real_time_us() / 1000000)) == 0 && message_seal(&w->tx) == 0)
		return true;
	why = strerror(errno);
	verdict_set(&v, 452, "4.3.1", "Insufficient system storage");
	message_done(w, &v, why);
	return false;
}

/* A milter that may change the envelope may not make of it what no delivery can keep: one reply is one outcome. */
static bool
can_be_delivered(const struct tx *tx)
{
	const struct config *c = tx->config;

	for (size_t i = 0; i < tx->rcpts_n; i++)
		if (is_our_domain(c, tx->rcpts[i].domain) == tx->foreign)
			return false;
	return tx->rcpts_n == 1 || !(tx->foreign ? c->relay_per_recipient : c->per_recipient);
}

static void
message_filtered(void *arg, const struct filters_story *s)
{
	struct work *w = arg;
	struct verdict v = s->verdict;

	w->filters_us = loop_clock_us() - w->filters_us;
	if (s->has_score)
		(void)snprintf(w->score, sizeof(w->score), "%.2f", s->score);
	(void)text_copy(w->filters, sizeof(w->filters), text_sub(text_span(s->detail), 0, sizeof(w->filters) - 1));
	if (w->forgotten) {	/* before anything was promised or done: the client will come again */
		w->busy = false;
		log_warn(w->tx.session, "client_gone", LF_STR("id", w->tx.id));
		work_free(w);
		return;
	}
	if (s->discarded)
		verdict_set(&v, 250, "2.0.0", "Ok: %s", w->tx.id);
	else if (v.code == 0 && !can_be_delivered(&w->tx))
		verdict_set(&v, 451, "4.3.5", "Filters are not configured properly");
	if (v.code != 0) {
		w->filtered = true;
		message_done(w, &v, s->discarded ? "discarded" : "filter");
		return;
	}
	if (message_finish(w))
		message_deliver(w);
}

static void
request_message(struct front *f, const struct request *q)
{
	struct agent *a = f->agent;
	struct work *w = f->clients[q->slot].work;
	struct verdict v = { 0 };
	bool filters = filters_want_message(a->filters);
	const char *why;

	if (w == NULL || w->busy || w->tx.fd == -1) {
		verdict_set(&v, 451, "4.3.0", "Temporary failure, try again");
		answer(f, q->slot, q->session, &v, -1);
		return;
	}
	w->busy = true;
	w->data_ms = q->data_ms;
	if (!file_is_whole(&w->tx, q->size)) {
		verdict_set(&v, 451, "4.3.0", "Temporary failure, try again");
		message_done(w, &v, "the message file is not as the front says");
		return;
	}
	w->tx.size = MESSAGE_ROOM + q->size;
	/* what is looked at is what is delivered, whatever the front does meanwhile with its descriptor */
	if (filters && message_private(&w->tx) == -1) {
		why = strerror(errno);
		verdict_set(&v, 452, "4.3.1", "Insufficient system storage");
		message_done(w, &v, why);
		return;
	}
	if (!filters && !message_finish(w))
		return;
	if (!policy_header(&w->tx, a->senders, a->loop.now_ms, &v, &why)) {
		message_done(w, &v, why);
	} else if (filters) {
		w->filters_us = loop_clock_us();
		filters_message(a->filters, &w->tx, message_filtered, w);
	} else {
		message_deliver(w);
	}
}

static void
request_reset(struct front *f, const struct request *q)
{
	struct client *c = &f->clients[q->slot];

	if (c->work != NULL && !c->work->busy && q->verdict.code != 0) {
		c->work->data_ms = q->data_ms;
		log_message(c->work, &q->verdict, "");
	}
	work_forget(c);
}

static void
request_close(struct front *f, const struct request *q)
{
	struct client *c = &f->clients[q->slot];

	work_forget(c);
	exchange_forget(c);
	*c = (struct client){ 0 };
}

/* Each request; a session that is not the slot's is answered by nothing: its front knows that it has ended. */
static int
take_request(struct front *f, const struct request *q)
{
	if (q->slot >= f->agent->config->max_connections || q->session == 0)
		return -1;
	if (q->kind != REQ_CONNECT && f->clients[q->slot].session != q->session)
		return -1;
	switch (q->kind) {
	case REQ_CONNECT:
		request_connect(f, q);
		break;
	case REQ_AUTH:
		request_auth(f, q);
		break;
	case REQ_MAIL:
		request_mail(f, q);
		break;
	case REQ_RCPT:
		request_rcpt(f, q);
		break;
	case REQ_DATA:
		request_data(f, q);
		break;
	case REQ_MESSAGE:
		request_message(f, q);
		break;
	case REQ_RESET:
		request_reset(f, q);
		break;
	case REQ_CLOSE:
		request_close(f, q);
		break;
	case REQ_NONE:
	case REQ__MAX:
		return -1;
	}
	return 0;
}

/* ---- fronts ---- */

static void
front_unmap(const struct front *f)
{
	size_t max = f->agent->config->max_connections;

	if (f->clients != NULL)
		(void)munmap(f->clients, max * sizeof(*f->clients));
	if (f->users != NULL)
		(void)munmap(f->users, max * sizeof(*f->users));
}

static void
front_gone(struct front *f)
{
	struct agent *a = f->agent;

	for (size_t i = 0; i < a->config->max_connections; i++) {
		work_forget(&f->clients[i]);
		exchange_forget(&f->clients[i]);
	}
	front_unmap(f);
	loop_remove(&f->slot);
	close(f->fd);
	buf_clear(&f->queue);
	*f = (struct front){ .fd = -1 };
	a->fronts_n--;
}

static void
front_ready(void *arg, short revents)
{
	struct front *f = arg;
	char datagram[IPC_MAX];

	if ((revents & POLLOUT) != 0)
		answer_flush(f);
	for (;;) {
		struct request q;
		struct login login;
		bool good;
		int fd;
		long n = ipc_recv(f->fd, datagram, sizeof(datagram), &fd);

		if (n == -1 && errno == EAGAIN)
			return;
		if (fd != -1) {		/* a front has no descriptor to give */
			close(fd);
			n = -1;
			errno = EBADMSG;
		}
		good = n > 0 && ipc_unpack_request(&q, &login, datagram, (size_t)n) == 0 && take_request(f, &q) == 0 && !f->queue.failed;
		if (n > 0 && datagram[0] == REQ_AUTH)	/* what is forked later has this memory too */
			explicit_bzero(datagram, (size_t)n);
		if (!good) {
			if (n != 0)
				log_error(0, "front_request", LF_STR("listener", f->listener->name), LF_ERRNO(n == -1 ? errno : EBADMSG));
			front_gone(f);
			return;
		}
	}
}

static int
front_add(struct agent *a, uint32_t listener, int fd)
{
	size_t max = a->config->max_connections;
	struct front *f = NULL;

	for (size_t i = 0; i < FRONTS_MAX && f == NULL; i++)
		if (a->fronts[i].agent == NULL)
			f = &a->fronts[i];
	if (f == NULL || listener >= a->config->listeners_n)
		return -1;
	*f = (struct front){ .agent = a, .fd = fd, .listener = &a->config->listeners[listener],
		    .listener_slot = metrics_find(a->args.metrics, ML_LISTENER, text_span(a->config->listeners[listener].name)),
	    .clients = pool_reserve(max * sizeof(*f->clients)), .users = pool_reserve(max * sizeof(*f->users)) };
	buf_init(&f->queue, max * 1024);
	if (f->clients == NULL || f->users == NULL || loop_add(&a->loop, &f->slot, fd, POLLIN, front_ready, f) == -1) {
		front_unmap(f);
		*f = (struct front){ .fd = -1 };
		return -1;
	}
	a->fronts_n++;
	return 0;
}

static void
control_ready(void *arg, short revents)
{
	struct agent *a = arg;

	(void)revents;
	for (;;) {
		enum control what;
		uint32_t number;
		int fd, n = ipc_recv_control(a->args.control_fd, &what, &number, &fd);

		if (n == -1 && errno == EAGAIN)
			return;
		if (n <= 0) {	/* the master is gone: the fronts end by themselves, and we after them */
			loop_remove(&a->control);
			a->draining = true;
			return;
		}
		if (what == CTL_DRAIN)
			a->draining = true;
		else if (what == CTL_STOP)
			a->loop.stop = true;
		if (fd != -1 && (what != CTL_FRONT || front_add(a, number, fd) == -1)) {
			log_error(0, "front_add", LF_INT("listener", number), LF_ERRNO(errno));
			close(fd);
		}
	}
}

/* What checks credentials and senders; the order of making is that of their uses. */
static int
agent_init(struct agent *a)
{
	const struct config *c = a->config;
	size_t children = c->max_deliveries + DELIVER_CHECKS_MAX + c->max_auths + HOOKS_MAX, calls = FETCHES_MAX;

	for (size_t i = 0; i < c->checkers_n; i++)
		calls += c->checkers[i].max_checks;
	if (loop_init(&a->loop, FRONTS_MAX + LOOP_OTHERS + children + filters_slots(c)) == -1 ||
	    loop_add(&a->loop, &a->control, a->args.control_fd, POLLIN, control_ready, a) == -1)
		return -1;
	a->children = children_new(&a->loop, children);
	if (a->children == NULL || (a->deliver = deliver_new(&a->loop, c, a->children)) == NULL)
		return -1;
	sandbox_agent(c->user, c->delivery_user[0] != '\0' && strcmp(c->delivery_user, c->user) != 0);
	if ((c->issuers_n > 0 || c->checkers_n > 0 || c->trap_url[0] != '\0') && (a->http = http_new(&a->loop, calls)) == NULL)
		return -1;
	if (c->issuers_n > 0 && (a->oauth = oauth_new(&a->loop, a->http, c)) == NULL)
		return -1;
	a->auth = auth_new(&a->loop, c, a->children, a->oauth);
	a->senders = senders_new(c);
	a->filters = filters_new(&a->loop, c, a->http, a->children, a->args.metrics);
	return a->auth == NULL || a->senders == NULL || a->filters == NULL ? -1 : 0;
}

static void
agent_clear(struct agent *a)
{
	children_end(a->children);
	filters_free(a->filters);
	oauth_free(a->oauth);
	auth_free(a->auth);
	http_free(a->http);
	senders_free(a->senders);
	deliver_free(a->deliver);
	children_free(a->children);
	loop_clear(&a->loop);
}

/* Whether something is at work that a client has yet to hear of. */
static bool
is_busy(const struct agent *a)
{
	return a->fronts_n > 0 || deliver_pending(a->deliver) > 0 || filters_pending(a->filters) > 0;
}

int
agent_run(const struct agent_args *args)
{
	static struct agent agent;	/* large, and one a process */
	struct agent *a = &agent;

	a->args = *args;
	a->config = args->config;
	(void)sandbox_max_fds();
	if (agent_init(a) == -1)
		fatal("agent", "cannot start: %s", strerror(errno));
	/* its own end comes when no front is left that could ask, and what they asked for is done */
	while (!a->loop.stop && (!a->draining || is_busy(a))) {
		if (loop_turn(&a->loop, a->draining ? 1000 : -1) == -1)
			fatal("agent", "poll: %s", strerror(errno));
		metrics_log_lines(args->metrics);
	}
	agent_clear(a);
	return 0;
}
