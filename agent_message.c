/*
 * agent_message.c - the end of data: from the message file to the verdict, by way of policy, filters and delivery.
 */
#include "agent_message.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "agent_story.h"
#include "deliver.h"
#include "filters.h"
#include "policy.h"
#include "rspamd.h"

#define TRAP_MS (3600 * 1000)

void
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
	answer_verdict(f, q->slot, q->session, &v, v.code == 354 ? w->tx.fd : -1);
}

/* The end of a message: log its line, tell the client if it is still there, forget it. */
static void
message_done(void *arg, const struct verdict *v, const char *detail)
{
	struct work *w = arg;
	struct front *f = w->front;

	w->busy = false;
	if (w->tx.abandoned) {
		/* the client left before its reply: it will send the message again, and the command may know its id */
		log_warn(w->tx.session, "client_gone", LF_STR("id", w->tx.id));
		story_tell(w, v, detail);
		work_free(w);
		return;
	}
	story_tell(w, v, detail);
	answer_verdict(f, w->slot, w->tx.session, v, -1);
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

/* Whether clients of this address's network may teach once more in this hour. */
static bool
may_teach(struct agent *a, const char *address)
{
	struct trap *t = &a->traps[0], *oldest = t;
	uint8_t network[16];

	if (!limits_network(address, network))
		return false;
	for (; t < a->traps + TRAPS_MAX && (t->n == 0 || memcmp(t->network, network, sizeof(network)) != 0); t++)
		if (t->since_at < oldest->since_at)
			oldest = t;
	if (t == a->traps + TRAPS_MAX) {
		t = oldest;
		*t = (struct trap){ .since_at = a->loop.now_ms };
		memcpy(t->network, network, sizeof(network));
	} else if (a->loop.now_ms - t->since_at > TRAP_MS) {
		t->since_at = a->loop.now_ms;
		t->n = 0;
	}
	return t->n++ < a->config->trap_max_per_ip;
}

/* A message for nobody who is there is spam, if anything is: what is learned is the message as it came (case 11.28). */
static void
keep_for_trap(struct work *w)
{
	if (w->agent->config->trap_url[0] == '\0' || w->auth_user[0] != '\0' || w->unknown_n < w->tx.rcpts_n)
		return;
	w->trap_fd = fcntl(w->tx.fd, F_DUPFD_CLOEXEC, 0);
	w->trap_size = w->tx.size;
	if (w->trap_fd == -1)
		log_warn(w->tx.session, "spamtrap", LF_STR("id", w->tx.id), LF_ERRNO(errno));
}

/* Nobody waits for the lesson. */
static void
teach(struct work *w)
{
	struct agent *a = w->agent;
	struct tx came = w->tx;

	if (w->trap_fd == -1 || !may_teach(a, w->address))
		return;
	came.fd = w->trap_fd;
	came.size = w->trap_size;
	if (rspamd_learn(a->http, a->config->trap_url, a->config->trap_password, &came) == -1)
		log_warn(w->tx.session, "spamtrap", LF_STR("id", w->tx.id), LF_ERRNO(errno));
}

/* Nothing is against the message, or nothing but that nobody is there to get it. */
static void
message_deliver(struct work *w)
{
	struct verdict v = { 0 };

	if (w->unknown_n > 0) {
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
	uint64_t begins_at = w->tx.header_at;
	time_t now = time(NULL);
	struct verdict v = { 0 };
	const char *why;

	if (message_seal(&w->tx, now) == 0)
		return true;
	if (errno == EBUSY) {	/* a copy cannot be written to; what no filter has put in front is put there anew */
		bool filtered = begins_at < MESSAGE_ROOM - 1;

		w->tx.header_at = filtered ? begins_at : MESSAGE_ROOM;
		if (message_private(&w->tx) == 0 && (filtered || message_begin(&w->tx) == 0) && message_trace(&w->tx, now) == 0)
			return true;
	}
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
		if (config_is_ours(c, tx->rcpts[i].domain) == tx->foreign)
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
	if (w->tx.abandoned) {	/* before anything was promised or done: the client will come again */
		w->busy = false;
		log_warn(w->tx.session, "client_gone", LF_STR("id", w->tx.id));
		work_free(w);
		return;
	}
	w->discarded = s->discarded;
	if (s->discarded)
		verdict_set(&v, 250, "2.0.0", "Ok: %s", w->tx.id);
	else if (v.code == 0 && !can_be_delivered(&w->tx))
		verdict_set(&v, 451, "4.3.5", "Filters are not configured properly");
	if (v.code != 0) {
		w->reason = s->verdict.code != 0 ? s->reason : MR_FILTER;
		message_done(w, &v, s->discarded ? "discarded" : "filter");
		return;
	}
	if (message_finish(w))
		message_deliver(w);
}

void
request_message(struct front *f, const struct request *q)
{
	struct agent *a = f->agent;
	struct work *w = f->clients[q->slot].work;
	struct verdict v = { 0 };
	bool filters = filters_want_message(a->filters), shared = !filters && a->config->spool_dir[0] == '\0', clean;
	uint64_t begins_at;
	const char *why;

	if (w == NULL || w->busy || w->tx.fd == -1) {
		verdict_set(&v, 451, "4.3.0", "Temporary failure, try again");
		answer_verdict(f, q->slot, q->session, &v, -1);
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
	/* what is looked at is what is delivered, whatever the front does meanwhile with its descriptor; a memory file is sealed first */
	if ((!shared && message_private(&w->tx) == -1) || message_begin(&w->tx) == -1) {
		why = strerror(errno);
		verdict_set(&v, 452, "4.3.1", "Insufficient system storage");
		message_done(w, &v, why);
		return;
	}
	begins_at = w->tx.header_at;
	keep_for_trap(w);
	if (!filters && !message_finish(w))
		return;
	if (!policy_header(&w->tx, a->senders, a->args.metrics, a->loop.now_ms, &clean, &v, &why)) {
		message_done(w, &v, why);
		return;
	}
	if (!clean) {	/* into a new file, which has no trace fields yet */
		w->tx.header_at = begins_at;
		if (!policy_clean(&w->tx, &v, &why)) {
			message_done(w, &v, why);
			return;
		}
		if (!filters && !message_finish(w))
			return;
	}
	if (filters) {
		w->filters_us = loop_clock_us();
		filters_message(a->filters, &w->tx, message_filtered, w);
	} else {
		message_deliver(w);
	}
}
