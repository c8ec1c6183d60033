/*
 * agent_envelope.c - a client and its envelope: who may connect, send, and to whom.
 */
#include "agent_envelope.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <time.h>

#include "agent_auth.h"
#include "agent_story.h"
#include "deliver.h"
#include "filters.h"
#include "policy.h"

#define SPOOL_RESERVE (1024 * 1024)	/* free octets that spool_dir keeps */
#define NO_SPACE_LOG_MS INT64_C(60000)
#define RCPTS_OCTETS_MAX 60000		/* of a message: in a job of a Maildir writer, and in a command's RECIPIENTS (128 KiB) */

/* The filters of an event of the envelope have spoken; w ends with the client. Returns false then. */
static bool
hooked(struct work *w, const struct filters_story *s, const char *event)
{
	w->busy = false;
	if (w->tx.abandoned) {
		work_free(w);
		return false;
	}
	if (s->verdict.code != 0) {
		log_info(w->tx.session, "filter_refused", LF_STR("at", event), LF_STR("client", w->address), LF_INT("code", s->verdict.code),
		    LF_STR("text", s->verdict.text), LF_STR("detail", s->detail));
		story_refused(w->agent, w->listener_slot, w->rcpt.domain, s->reason);
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
	answer_verdict(w->front, w->slot, w->tx.session, &v, -1);
	w->front->clients[w->slot].work = NULL;
	work_free(w);
}

/* Who is at the other end; false: nobody any more, or it cannot be known. */
static bool
see_client(struct client *c, int fd)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	if (fd == -1 || getpeername(fd, (struct sockaddr *)&ss, &len) == -1)
		return false;
	c->port = (uint16_t)endpoint_peer(&ss, c->address);
	len = sizeof(ss);
	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		(void)endpoint_peer(&ss, c->own_address);
	return c->address[0] != '\0';
}

void
request_connect(struct front *f, const struct request *q, int fd)
{
	struct client *c = &f->clients[q->slot];
	struct verdict v = { 0 };
	struct work *w;
	bool seen;

	work_forget(c);
	exchange_forget(c);
	*c = (struct client){ .session = q->session };
	seen = see_client(c, fd);
	c->trusted = seen && policy_is_trusted(f->listener, c->address);
	/* a front cannot make this up: it has not the key of the ticket */
	if (q->login != NULL && auth_ticket_is_good(f->agent->args.key, q->session, q->login->user, q->login->expires_time,
	    q->login->ticket)) {
		memcpy(f->users[q->slot], q->login->user, sizeof(f->users[q->slot]));
		c->logged_in = true;
		c->expires_time = q->login->expires_time;
	}
	if (q->resumed)
		return;
	if (!seen) {
		verdict_set(&v, 421, "4.3.2", "Too busy, try again later");
		answer_verdict(f, q->slot, q->session, &v, -1);
		return;
	}
	if (filters_want(f->agent->filters, HOOK_CONNECT)) {
		w = work_new(f, q);
		if (w == NULL) {
			verdict_set(&v, 421, "4.3.0", "Out of memory");
			answer_verdict(f, q->slot, q->session, &v, -1);
			return;
		}
		c->work = w;
		w->busy = true;
		filters_envelope(f->agent->filters, HOOK_CONNECT, &w->tx, NULL, connect_hooked, w);
		return;
	}
	verdict_set(&v, 220, "", "Ready");
	answer_verdict(f, q->slot, q->session, &v, -1);
}

/* Whether a message of so many octets can be stored at all now. */
static bool
has_room(const struct agent *a, uint64_t size)
{
	struct statvfs fs;

	if (a->config->spool_dir[0] == '\0') {
		uint64_t used = limits_spool_used(a->args.limits) + a->left_octets, max = a->config->max_spool_memory;

		return used <= max && size <= max - used;
	}
	if (statvfs(a->config->spool_dir, &fs) == -1)
		return false;
	return fs.f_bavail * fs.f_frsize >= size + SPOOL_RESERVE;
}

/* Once in a while, however many clients are turned away (case 13.5). */
static void
log_no_space(struct agent *a, const struct request *q)
{
	const char *dir = a->config->spool_dir;
	char why[512];

	if (a->no_space_at != 0 && a->loop.now_ms - a->no_space_at < NO_SPACE_LOG_MS)
		return;
	a->no_space_at = a->loop.now_ms;
	(void)snprintf(why, sizeof(why), "not enough space in %s", dir[0] == '\0' ? "max_spool_memory" : dir);
	log_error(q->session, "spool_full", LF_STR("spool_dir", dir), LF_INT("size", q->size), LF_STR("error", why));
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
	answer_verdict(w->front, w->slot, w->tx.session, &v, -1);
	if (v.code == 250)
		return;
	w->front->clients[w->slot].work = NULL;
	work_free(w);
}

void
request_mail(struct front *f, const struct request *q)
{
	struct agent *a = f->agent;
	struct client *c = &f->clients[q->slot];
	struct verdict v = { 0 };
	struct work *w;

	work_forget(c);
	if (c->address[0] == '\0') {	/* its CONNECT came without its socket */
		verdict_set(&v, 421, "4.3.2", "Too busy, try again later");
		answer_verdict(f, q->slot, q->session, &v, -1);
		return;
	}
	if (a->left_n >= a->config->max_connections) {
		metrics_add(a->args.metrics, M_LIMIT_HITS, MH_MAX_CONNECTIONS, 0, 0, 1);
		story_refused(a, f->listener_slot, "", MR_LIMIT);
		verdict_set(&v, 451, "4.3.2", "Too busy, try again later");
		answer_verdict(f, q->slot, q->session, &v, -1);
		return;
	}
	if (needs_login(f->listener) && !c->logged_in && !c->trusted) {
		story_refused(a, f->listener_slot, "", MR_AUTH);
		verdict_set(&v, 530, "5.7.0", "Authentication required");
		answer_verdict(f, q->slot, q->session, &v, -1);
		return;
	}
	if (c->logged_in && time(NULL) >= c->expires_time) {	/* case 8.29 */
		log_info(q->session, "auth_expired", LF_STR("user", f->users[q->slot]));
		story_refused(a, f->listener_slot, "", MR_AUTH);
		verdict_set(&v, 530, "5.7.0", "Authentication has expired");
		answer_verdict(f, q->slot, q->session, &v, -1);
		return;
	}
	if (!has_room(a, q->size)) {
		log_no_space(a, q);
		if (a->config->spool_dir[0] == '\0')
			metrics_add(a->args.metrics, M_LIMIT_HITS, MH_MAX_SPOOL_MEMORY, 0, 0, 1);
		story_refused(a, f->listener_slot, "", MR_STORAGE);
		verdict_set(&v, 452, "4.3.1", "Insufficient system storage");
		answer_verdict(f, q->slot, q->session, &v, -1);
		return;
	}
	w = work_new(f, q);
	if (w == NULL) {
		verdict_set(&v, 451, "4.3.0", "Out of memory");
		answer_verdict(f, q->slot, q->session, &v, -1);
		return;
	}
	w->tx.declared_size = q->size;
	if (q->path[0] != '\0' && smtp_mailbox(text_span(q->path), q->utf8, &w->tx.sender) != SMTP_PATH_OK) {
		work_free(w);
		story_refused(a, f->listener_slot, "", MR_SYNTAX);
		verdict_set(&v, 501, "5.1.7", "Syntax error in sender address");
		answer_verdict(f, q->slot, q->session, &v, -1);
		return;
	}
	if (c->logged_in && q->path[0] != '\0' && !senders_allow(a->senders, w->auth_user, &w->tx.sender, a->loop.now_ms)) {
		log_info(q->session, "sender_refused", LF_STR("user", w->auth_user), LF_STR("from", q->path));
		work_free(w);
		story_refused(a, f->listener_slot, "", MR_FROM);
		verdict_set(&v, 550, "5.7.1", "Not allowed to send as this address");
		answer_verdict(f, q->slot, q->session, &v, -1);
		return;
	}
	c->work = w;
	filters_expect(a->filters, c->address);
	if (filters_want(a->filters, HOOK_MAIL)) {
		w->busy = true;
		filters_envelope(a->filters, HOOK_MAIL, &w->tx, NULL, mail_hooked, w);
		return;
	}
	verdict_set(&v, 250, "2.1.0", "Sender ok");
	answer_verdict(f, q->slot, q->session, &v, -1);
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

static size_t
mailbox_octets(const struct mailbox *m)
{
	return strlen(m->local) + strlen(m->domain) + 2;
}

/* The last word on a recipient. */
static void
rcpt_answer(struct work *w, const struct verdict *said)
{
	struct verdict v = *said;

	if (v.code / 100 == 2 && add_recipient(&w->tx, &w->rcpt) == -1)
		verdict_set(&v, 451, "4.3.0", "Out of memory");
	w->rcpts_octets += v.code / 100 == 2 ? mailbox_octets(&w->rcpt) : 0;
	w->unknown_n += v.code / 100 == 2 && w->rcpt_unknown;
	answer_verdict(w->front, w->slot, w->tx.session, &v, -1);
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
	if (w->tx.abandoned) {
		work_free(w);
		return;
	}
	if (verdict_is_unknown(&v) && w->tx.config->recipient_rejection == REJECT_AT_DATA) {
		w->rcpt_unknown = true;
		verdict_set(&v, 250, "2.1.5", "Recipient ok");
	}
	if (v.code / 100 != 2) {
		smtp_mailbox_print(&w->rcpt, address);
		log_info(w->tx.session, "rcpt_refused", LF_STR("id", w->tx.id), LF_STR("rcpt", address), LF_INT("code", v.code),
		    LF_STR("text", v.text), LF_STR("detail", detail));
		story_refused(w->agent, w->listener_slot, w->rcpt.domain, v.code / 100 == 5 ? MR_UNKNOWN_RECIPIENT : MR_DELIVERY);
	} else if (filters_want(w->agent->filters, HOOK_RCPT)) {
		w->busy = true;
		filters_envelope(w->agent->filters, HOOK_RCPT, &w->tx, &w->rcpt, rcpt_hooked, w);
		return;
	}
	rcpt_answer(w, &v);
}

void
request_rcpt(struct front *f, const struct request *q)
{
	struct agent *a = f->agent;
	struct work *w = f->clients[q->slot].work;
	struct verdict v = { 0 };
	struct mailbox *m;
	bool foreign;

	if (w == NULL || w->busy || w->tx.fd != -1) {
		verdict_set(&v, 451, "4.3.0", "Temporary failure, try again");
		answer_verdict(f, q->slot, q->session, &v, -1);
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
	foreign = !config_is_ours(a->config, m->domain);
	if (v.code == 0 && foreign && (!w->relays || a->config->relay_command.n == 0)) {
		char address[SMTP_ADDRESS_MAX + 1];

		smtp_mailbox_print(m, address);
		log_info(q->session, "rcpt_refused", LF_STR("id", w->tx.id), LF_STR("rcpt", address), LF_INT("code", 550),
		    LF_STR("text", "Relay denied"));
		story_refused(a, f->listener_slot, m->domain, MR_RELAY_DENIED);
		verdict_set(&v, 550, "5.7.1", "Relay denied");
	} else if (v.code == 0 && has_recipient(&w->tx, m)) {
		verdict_set(&v, 250, "2.1.5", "Recipient ok");
	} else if (v.code == 0 && w->tx.rcpts_n > 0 && foreign != w->tx.foreign) {	/* one reply is one outcome, of one delivery */
		verdict_set(&v, 452, "4.5.3", "Recipients of our domains and of others one after the other");
	} else if (v.code == 0 && w->tx.rcpts_n > 0 && (foreign ? a->config->relay_per_recipient : a->config->per_recipient)) {
		verdict_set(&v, 452, "4.5.3", "One recipient at a time");
	} else if (v.code == 0 && (w->tx.rcpts_n >= a->config->max_recipients || w->rcpts_octets + mailbox_octets(m) > RCPTS_OCTETS_MAX)) {
		metrics_add(a->args.metrics, M_LIMIT_HITS, MH_MAX_RECIPIENTS, 0, 0, 1);
		story_refused(a, f->listener_slot, m->domain, MR_LIMIT);
		verdict_set(&v, 452, "4.5.3", "Too many recipients");
	}
	if (v.code != 0) {
		answer_verdict(f, q->slot, q->session, &v, -1);
		return;
	}
	w->tx.foreign = foreign;
	w->rcpt_unknown = false;
	w->busy = true;
	deliver_check(a->deliver, &w->tx, m, rcpt_done, w);
}

void
request_reset(struct front *f, const struct request *q)
{
	struct client *c = &f->clients[q->slot];

	if (c->work != NULL && !c->work->busy && q->verdict.code / 100 >= 4) {
		c->work->data_ms = q->data_ms;
		story_tell(c->work, &q->verdict, "");
	}
	work_forget(c);
}

void
request_close(struct front *f, const struct request *q)
{
	struct client *c = &f->clients[q->slot];

	work_forget(c);
	exchange_forget(c);
	*c = (struct client){ 0 };
}
