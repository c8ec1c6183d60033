/*
 * milter.c - milters: the mail server's side of the Sendmail milter protocol, versions 2 to 6.
 *
 * A check walks through the stages of a message (milter_say.h). At each it says what the milter wants to hear and waits for the reply that
 * is due; what a milter does not reply to goes out in one go. All octets from a milter are a stranger's: what breaks the protocol is
 * trouble, and ends the connection.
 */
#include "milter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "milter_change.h"
#include "milter_say.h"

#define KEPT_MAX 16		/* connections that wait for what comes next in a transaction, or for another message */
#define KEPT_MS 60000
#define READ_SIZE 16384
#define IN_MAX (MILTER_LENGTH + MILTER_PACKET_MAX + READ_SIZE)	/* a packet but its last octet, and one read */
#define OUT_MAX (4 * 65536)
#define OUT_FULL 65536		/* nothing is added to as much */
#define OPENING_MAX 4096	/* what is said of a client */
#define ENVELOPE_MAX 65536	/* what is said of an envelope; a longer one is said again with its message */

enum reuse {
	REUSE_NOT,
	REUSE_OPEN,	/* for what comes next in the same transaction; for another of the session it is aborted */
	REUSE_SESSION,	/* for another message of the same session: MAIL comes next */
	REUSE_ANY,	/* also for another client: QUIT_NC, then CONNECT */
};

/* A connection to the milter, of a check or kept for the next. */
struct conn {
	struct milter		*milter;
	struct milter_check	*check;		/* NULL: it is kept */
	int			 fd;		/* owned; -1: there is none */
	struct loop_slot	 slot;
	struct buf		 in, out;
	struct milter_options	 options;	/* agreed on */
	bool			 connecting;
	int64_t			 connect_at;	/* until then it may */
	bool			 broken;	/* nothing can be written any more; it may still say why */
	bool			 was_kept;	/* it has served another message */
	bool			 answered;	/* an octet has come for this message */
	bool			 quit_nc;	/* this message began with QUIT_NC */
	uint64_t		 session;	/* that it was last used for */
	enum reuse		 reuse;
	struct buf		 opening;	/* what the milter was told of the client */
	struct buf		 envelope;	/* and of the transaction that is open, when it is kept (REUSE_OPEN) */
};

/* Checks, in the order in which they came. */
struct checks {
	struct milter_check	*head;
	struct milter_check	**end;		/* where the next one is put */
};

struct milter {
	struct loop		*loop;		/* borrowed until milter_free() */
	const struct milter_config *config;	/* borrowed until milter_free() */
	struct sockaddr_storage	 address;
	socklen_t		 address_len;
	struct loop_slot	 waker;		/* when one that waits may begin, or has waited too long */
	struct checks		 running, waiting;	/* owned */
	size_t			 running_n;
	struct conn		*kept[KEPT_MAX];	/* owned; the oldest first, NULL after the last */
	bool			 no_nc;		/* it did not live up to QUIT_NC */
	bool			 no_rcpt;	/* it does not want to hear of recipients */
};

struct milter_check {
	struct milter		*milter;
	struct milter_check	*next;
	bool			 listed;	/* in one of the milter's lists */
	struct tx		*tx;		/* borrowed until done */
	struct content		*content;	/* borrowed until done; NULL: the check is of a recipient */
	const struct mailbox	*rcpt;		/* borrowed until done; NULL: the check is of a message */
	struct milter_words	 words;		/* of them */
	filter_done		*done;
	void			*arg;
	struct conn		*conn;		/* owned; NULL: it waits until it may begin */
	const char		*failed;	/* it could not even begin; NULL: it has */
	int64_t			 begin_at;	/* until then it waits */
	int64_t			 total_at;	/* no progress makes it last longer (case 11.51) */
	enum milter_at		 stage;
	bool			 waiting;	/* for a reply */
	struct milter_changes	 changes;
};

/* ---- connections ---- */

/* A command that has no reply and is sent at once, when nothing else is on its way. */
static bool
send_now(struct conn *c, char command)
{
	char packet[] = { 0, 0, 0, 1, command };

	return !c->broken && send(c->fd, packet, sizeof(packet), MSG_NOSIGNAL) == (ssize_t)sizeof(packet);
}

static void
conn_free(struct conn *c)
{
	if (c == NULL)
		return;
	loop_remove(&c->slot);
	if (c->fd != -1) {
		/* that it goes is a courtesy: a milter also takes an end of file for it */
		if (!c->connecting && buf_len(&c->out) == 0)
			(void)send_now(c, 'Q');
		(void)close(c->fd);	/* nothing that could be lost */
	}
	buf_clear(&c->in);
	buf_clear(&c->out);
	buf_clear(&c->opening);
	buf_clear(&c->envelope);
	free(c);
}

static void	conn_ready(void *arg, short revents);

static int
dial(struct conn *c)
{
	struct milter *m = c->milter;

	return loop_connect(m->loop, &c->slot, c->fd, (struct sockaddr *)&m->address, m->address_len, c->connect_at, conn_ready, c);
}

/* A new connection, on its way; *why is set when it cannot even begin. NULL with errno. */
static struct conn *
conn_new(struct milter *m, const char **why)
{
	struct conn *c = calloc(1, sizeof(*c));
	int one = 1;

	if (c == NULL)
		return NULL;
	c->milter = m;
	buf_init(&c->in, IN_MAX);
	buf_init(&c->out, OUT_MAX);
	buf_init(&c->opening, OPENING_MAX);
	buf_init(&c->envelope, ENVELOPE_MAX);
	c->connecting = true;
	c->connect_at = m->loop->now_ms + m->config->connect_ms;
	c->fd = socket(m->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd != -1 && m->address.ss_family != AF_UNIX)	/* without it: slower, no worse */
		(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (c->fd != -1 && dial(c) == 0)
		return c;
	*why = "it cannot be connected to";
	if (loop_add(m->loop, &c->slot, -1, 0, conn_ready, c) == -1) {
		conn_free(c);
		return NULL;
	}
	return c;
}

/* The one of an index is not kept any more. */
static struct conn *
take_kept(struct milter *m, size_t i)
{
	struct conn *c = m->kept[i];

	memmove(&m->kept[i], &m->kept[i + 1], (KEPT_MAX - 1 - i) * sizeof(c));
	m->kept[KEPT_MAX - 1] = NULL;
	return c;
}

static void
drop_kept(struct conn *c)
{
	struct milter *m = c->milter;

	for (size_t i = 0; i < KEPT_MAX; i++)
		if (m->kept[i] == c)
			conn_free(take_kept(m, i));
}

static void
keep(struct conn *c)
{
	struct milter *m = c->milter;
	size_t n = 0;

	if (m->kept[KEPT_MAX - 1] != NULL)
		conn_free(take_kept(m, 0));
	while (m->kept[n] != NULL)
		n++;
	m->kept[n] = c;
	c->check = NULL;
	c->was_kept = true;
	buf_clear(&c->in);	/* memory that an idle one does not need */
	buf_clear(&c->out);
	buf_init(&c->in, IN_MAX);
	buf_init(&c->out, OUT_MAX);
	loop_events(&c->slot, POLLIN);
	loop_deadline(&c->slot, m->loop->now_ms + KEPT_MS);
}

/* What the milter was told on this connection is the transaction as it stands now: sender, and recipients that were accepted. */
static bool
is_told(const struct conn *c, const struct tx *tx)
{
	struct buf b;
	bool same;

	buf_init(&b, ENVELOPE_MAX);
	milter_put_envelope((struct milter_words){ .tx = tx, .rcpts = tx->rcpts, .rcpts_n = tx->rcpts_n }, true, &b);
	same = !b.failed && text_eq(buf_span(&c->envelope), buf_span(&b));
	buf_clear(&b);
	return same;
}

/* A recipient that the milter has been told of, behind what it was told before. false: that is too much to be kept. */
static bool
note_told(const struct milter_check *k)
{
	struct buf *b = &k->conn->envelope;

	milter_put_envelope((struct milter_words){ .tx = k->tx, .rcpts = k->rcpt, .rcpts_n = 1 }, buf_len(b) == 0, b);
	return !b->failed;
}

static void
forget_told(struct conn *c)
{
	buf_clear(&c->envelope);
	buf_init(&c->envelope, ENVELOPE_MAX);
}

/* A kept connection for this check; *stage: what comes next on it; opening may be taken. NULL: there is none. */
static struct conn *
find_kept(struct milter_check *k, struct buf *opening, enum milter_at *stage)
{
	struct milter *m = k->milter;
	struct conn *c;

	for (size_t i = 0; i < KEPT_MAX && (c = m->kept[i]) != NULL; i++) {
		if (c->session == k->tx->session && c->session != 0 && text_eq(buf_span(&c->opening), buf_span(opening))) {
			*stage = MILTER_AT_MAIL;
			c->quit_nc = false;
			if (c->reuse == REUSE_OPEN && is_told(c, k->tx)) {
				*stage = k->rcpt != NULL ? MILTER_AT_RCPT : MILTER_AT_DATA;
			} else if (c->reuse == REUSE_OPEN) {
				milter_add_command(&c->out, 'A');
				forget_told(c);
			}
			return take_kept(m, i);
		}
	}
	for (size_t i = 0; i < KEPT_MAX && !m->no_nc && (c = m->kept[i]) != NULL; i++) {
		if (c->reuse == REUSE_ANY) {
			*stage = MILTER_AT_CONNECT;
			c->quit_nc = true;
			milter_add_command(&c->out, 'K');
			buf_clear(&c->opening);
			c->opening = *opening;
			*opening = (struct buf){ 0 };
			return take_kept(m, i);
		}
	}
	return NULL;
}

/* ---- the end of a check ---- */

static void
put(struct checks *s, struct milter_check *k)
{
	k->next = NULL;
	k->listed = true;
	*s->end = k;
	s->end = &k->next;
}

/* The first one, which is in no list then; NULL: there is none. */
static struct milter_check *
pop(struct checks *s)
{
	struct milter_check *k = s->head;

	if (k == NULL)
		return NULL;
	s->head = k->next;
	k->listed = false;
	if (s->head == NULL)
		s->end = &s->head;
	return k;
}

/* Out of the list that it is in, if it is in one. */
static void
take(struct checks *s, const struct milter_check *k)
{
	for (struct milter_check **at = &s->head; *at != NULL; at = &(*at)->next) {
		if (*at != k)
			continue;
		*at = k->next;
		if (*at == NULL)
			s->end = at;
		return;
	}
}

/* The memory of a check ends; its connection, if it has one, does not. The next one may begin, from the loop. */
static struct conn *
release(struct milter_check *k)
{
	struct milter *m = k->milter;
	struct conn *c = k->conn;

	if (k->listed)
		take(c == NULL ? &m->waiting : &m->running, k);
	if (c != NULL)
		m->running_n--;
	if (m->waiting.head != NULL)
		loop_deadline(&m->waker, m->loop->now_ms);
	free(k);
	return c;
}

static void
add_detail(const struct milter_check *k, struct filter_report *r, const char *what)
{
	struct buf b;

	buf_fixed(&b, r->detail, sizeof(r->detail) - 1);
	buf_add_str(&b, what);
	if (k->conn != NULL)
		buf_printf(&b, " at %s", milter_stages[k->stage].name);
	if (k->changes.quarantine)
		buf_printf(&b, ", quarantine: %s", k->changes.reason);
	if (k->changes.ignored > 0)
		buf_printf(&b, ", %zu changes of the envelope ignored", k->changes.ignored);
	if (k->changes.left_out > 0)
		buf_printf(&b, ", %zu changes left out", k->changes.left_out);
}

/* Report and end. done() may start another check. */
static void
finish(struct milter_check *k, struct filter_report *r, enum reuse reuse)
{
	filter_done *done = k->done;
	void *arg = k->arg;
	bool abort_first = k->stage < MILTER_AT_EOM && reuse != REUSE_OPEN;
	uint64_t session = k->tx->session;
	struct conn *c = release(k);

	if (c != NULL) {
		c->session = session;
		c->reuse = reuse;
		if (reuse != REUSE_OPEN)
			forget_told(c);
	}
	if (c == NULL || reuse == REUSE_NOT || c->broken || buf_len(&c->in) > 0 || buf_len(&c->out) > 0 || (abort_first && !send_now(c, 'A')))
		conn_free(c);
	else
		keep(c);
	done(arg, r);
	edits_clear(&r->edits);
}

/* It cannot be asked, or has not kept to the protocol: the configuration decides, unless the message has been changed in part. */
static void
trouble(struct milter_check *k, const char *why)
{
	struct filter_report r = { .action = FILTER_TEMPFAIL, .esc = "4.7.1" };
	const struct milter_config *config = k->milter->config;

	log_warn(k->tx->session, "milter", LF_STR("name", config->name), LF_STR("id", k->tx->id), LF_STR("stage", milter_stages[k->stage].name),
	    LF_STR("error", why));
	if (config->default_action == MILTER_ACCEPT && !k->changes.begun) {
		r = (struct filter_report){ .action = FILTER_ACCEPT };
	} else if (config->default_action == MILTER_REJECT && !k->changes.begun) {
		r = (struct filter_report){ .action = FILTER_REJECT, .esc = "5.7.1" };
	}
	r.failed = true;
	add_detail(k, &r, why);
	if (k->conn != NULL)
		k->conn->broken = true;
	finish(k, &r, REUSE_NOT);
}

/* What it decides, by its last reply. Without a reply of its own, the usual is said. */
static void
decide(struct milter_check *k, const struct milter_reply *reply)
{
	static const struct { enum filter_action action; const char *what; } rows[ANSWER__MAX] = {
		[ANSWER_CONTINUE] = { FILTER_ACCEPT, "continue" },
		[ANSWER_ACCEPT] = { FILTER_ACCEPT, "accept" },
		[ANSWER_REJECT] = { FILTER_REJECT, "reject" },
		[ANSWER_TEMPFAIL] = { FILTER_TEMPFAIL, "tempfail" },
		[ANSWER_DISCARD] = { FILTER_DISCARD, "discard" },
		[ANSWER_CODE] = { FILTER_REJECT, "reply" },
		[ANSWER_SHUTDOWN] = { FILTER_TEMPFAIL, "shutdown" },
		[ANSWER_CONN_FAIL] = { FILTER_TEMPFAIL, "connection failure" },
	};
	struct filter_report r = { .action = rows[reply->answer].action };
	enum reuse reuse = REUSE_SESSION;

	r.code = reply->code == 421 ? 451 : reply->code;	/* 421 would promise that the connection closes */
	memcpy(r.esc, reply->esc, sizeof(r.esc));
	memcpy(r.text, reply->text, sizeof(r.text));
	if (reply->answer == ANSWER_CODE && reply->esc[0] == '4')
		r.action = FILTER_TEMPFAIL;
	if (r.action == FILTER_ACCEPT && k->rcpt == NULL && k->tx->rcpts_n == 0)	/* it has removed all */
		r.action = FILTER_DISCARD;
	else if (r.action == FILTER_ACCEPT && k->changes.quarantine)
		r.action = FILTER_QUARANTINE;
	add_detail(k, &r, rows[reply->answer].what);
	/*
	 * What was said of the client is final for its connection. libmilter knows QUIT_NC, but only where a message has ended with CONTINUE;
	 * after anything else it does not hear it, and then waits for MAIL.
	 */
	if (k->stage < MILTER_AT_MAIL || reply->answer == ANSWER_SHUTDOWN || reply->answer == ANSWER_CONN_FAIL)
		reuse = REUSE_NOT;
	else if (reply->answer == ANSWER_CONTINUE && k->rcpt != NULL && note_told(k))
		reuse = REUSE_OPEN;
	else if (reply->answer == ANSWER_CONTINUE && k->rcpt == NULL && k->conn->options.version >= MILTER_VERSION)
		reuse = REUSE_ANY;
	finish(k, &r, reuse);
}

/* ---- the stages, one after the other ---- */

/* A packet has come or all has gone: the wait begins anew, up to the end of all waits. Connecting and agreeing are one wait. */
static void
begin_wait(struct milter_check *k)
{
	const struct milter_config *c = k->milter->config;
	int64_t at = k->milter->loop->now_ms + (k->stage < MILTER_AT_HEADER ? c->command_ms : c->content_ms);

	if (k->stage != MILTER_AT_OPTIONS)
		loop_deadline(&k->conn->slot, at < k->total_at ? at : k->total_at);
}

static void
next_stage(struct milter_check *k)
{
	k->stage++;
	k->words.index = 0;
}

/* Whether there is something (more) to say at this stage. */
static bool
has_more(const struct milter_check *k)
{
	switch (k->stage) {
	case MILTER_AT_RCPT:
		return k->words.index < k->words.rcpts_n;
	case MILTER_AT_HEADER:
		return k->words.index < k->content->fields_n;
	case MILTER_AT_BODY:
		return k->words.body_said < k->content->body_len;
	case MILTER_AT_OPTIONS: case MILTER_AT_CONNECT: case MILTER_AT_HELO: case MILTER_AT_MAIL: case MILTER_AT_DATA: case MILTER_AT_EOH: case MILTER_AT_EOM:
	case MILTER_AT__MAX:
		break;
	}
	return k->words.index == 0;
}

/* No milter can be told of such a field; were that trouble, who sends it would choose the default action. */
static const char too_long[] = "a header field is too long for it";

static void
refuse_too_long(struct milter_check *k)
{
	struct filter_report r = { .action = FILTER_REJECT, .code = 550, .esc = "5.6.0", .text = "Header field too long to be checked" };

	add_detail(k, &r, too_long);
	finish(k, &r, REUSE_NOT);
}

/* One packet, after its macros, which a milter gets of each stage. NULL, or why the message cannot be said. */
static const char *
say(struct milter_check *k)
{
	const struct milter_stage *row = &milter_stages[k->stage];
	struct conn *c = k->conn;
	const struct content_field *field = k->stage == MILTER_AT_HEADER ? &k->content->fields[k->words.index] : NULL;
	size_t field_len = field == NULL ? 0 : field->name.len + field->value.len + 2;
	bool unwanted = (c->options.steps & row->unwanted) != 0 || (k->stage == MILTER_AT_DATA && c->options.version < row->macros_since);

	if (row->macros != NULL && c->options.version >= row->macros_since)
		milter_put_macros(&k->words, k->stage, &c->out);
	if (unwanted && row->macros == NULL) {
		next_stage(k);
		return NULL;
	}
	if (!unwanted && k->stage == MILTER_AT_BODY) {
		if (milter_put_body(&k->words, &c->out) == -1)
			return "the message cannot be read";
	} else if (!unwanted) {
		milter_put_stage(&k->words, k->stage, &c->out);
	}
	k->words.index++;
	k->waiting = !unwanted && (c->options.steps & row->silent) == 0;
	if (!c->out.failed)
		return NULL;
	return k->stage == MILTER_AT_HEADER && field_len > MILTER_CHUNK_MAX ? too_long : "no memory for what is to be said";
}

/* Write what waits to be written. What cannot be written shows itself as the end of what can be read. */
static void
flush(struct milter_check *k)
{
	struct conn *c = k->conn;

	while (buf_len(&c->out) > 0 && !c->broken) {
		struct span s = buf_span(&c->out);
		ssize_t n = send(c->fd, s.p, s.len, MSG_NOSIGNAL);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && errno == EAGAIN)
			break;
		if (n == -1) {
			c->broken = true;
			break;
		}
		buf_drop(&c->out, (size_t)n);
		if (buf_len(&c->out) == 0)
			begin_wait(k);
	}
	loop_events(&c->slot, (short)(POLLIN | (buf_len(&c->out) > 0 && !c->broken ? POLLOUT : 0)));
}

/* A recipient has been said: what comes behind it is said with the message. */
static bool
is_asked(const struct milter_check *k)
{
	return k->rcpt != NULL && k->stage > MILTER_AT_RCPT;
}

/* Go on until a reply is due, or as much as is good waits to be written. false: the check has ended. */
static bool
advance(struct milter_check *k)
{
	static const struct milter_reply go_on = { .answer = ANSWER_CONTINUE };
	const char *why = NULL;

	do {
		while (why == NULL && !k->waiting && !is_asked(k) && buf_len(&k->conn->out) < OUT_FULL && k->conn->out.rpos == 0) {
			if (has_more(k))
				why = say(k);
			else
				next_stage(k);
		}
		if (why == too_long) {
			refuse_too_long(k);
			return false;
		}
		if (why != NULL) {
			trouble(k, why);
			return false;
		}
		flush(k);
		if (is_asked(k) && buf_len(&k->conn->out) == 0) {
			decide(k, &go_on);
			return false;
		}
	} while (!k->waiting && buf_len(&k->conn->out) == 0);
	return true;
}

/* ---- replies ---- */

static const char *
take_options(struct milter_check *k, char command, struct span data)
{
	const char *why = milter_read_options(command, data, &k->conn->options);

	k->words.leading_space = (k->conn->options.steps & MILTER_HDR_LEADSPC) != 0;
	k->milter->no_rcpt = (k->conn->options.steps & MILTER_NORCPT) != 0;
	k->waiting = false;
	next_stage(k);
	return why;
}

/* One packet. false: the check has ended. */
static bool
take_packet(struct milter_check *k, char command, struct span data)
{
	struct milter_reply r;
	const char *why = NULL;

	if (!k->waiting) {
		trouble(k, "a reply that is not due");
		return false;
	}
	if (k->stage == MILTER_AT_OPTIONS) {
		why = take_options(k, command, data);
	} else {
		milter_read_reply(command, data, &r);
		switch (r.answer) {
		case ANSWER_CONTINUE:
			if (k->stage == MILTER_AT_EOM) {
				decide(k, &r);
				return false;
			}
			k->waiting = false;
			break;
		case ANSWER_ACCEPT: case ANSWER_REJECT: case ANSWER_TEMPFAIL: case ANSWER_DISCARD: case ANSWER_CODE: case ANSWER_SHUTDOWN:
		case ANSWER_CONN_FAIL:
			decide(k, &r);
			return false;
		case ANSWER_SKIP:	/* the rest of what this stage has to say */
			if (k->stage != MILTER_AT_RCPT && k->stage != MILTER_AT_HEADER && k->stage != MILTER_AT_BODY) {
				why = "a reply that does not belong here";
				break;
			}
			k->waiting = false;
			next_stage(k);
			break;
		case ANSWER_PROGRESS:
			break;
		case ANSWER_ADDHEADER: case ANSWER_INSHEADER: case ANSWER_CHGHEADER: case ANSWER_REPLBODY: case ANSWER_ADDRCPT:
		case ANSWER_DELRCPT: case ANSWER_CHGFROM: case ANSWER_QUARANTINE:
			if (k->stage != MILTER_AT_EOM || (k->conn->options.actions & r.action) == 0)
				why = "a change of the message that was not agreed on";
			else
				why = milter_change(&k->changes, &r);
			break;
		case ANSWER_BAD: case ANSWER__MAX:
			why = "a reply that cannot be understood";
			break;
		}
	}
	if (why != NULL) {
		trouble(k, why);
		return false;
	}
	begin_wait(k);
	return true;
}

/* All packets that are there. A check that goes on has its next words written. */
static void
take_packets(struct milter_check *k)
{
	struct conn *c = k->conn;
	enum milter_frame frame;
	struct span data;
	char command;
	size_t len;

	while ((frame = milter_frame(buf_span(&c->in), &command, &data, &len)) == FRAME_WHOLE) {
		buf_drop(&c->in, len);	/* data is still there */
		if (!take_packet(k, command, data))
			return;
		if (k->waiting)
			continue;
		if (buf_len(&c->in) > 0) {	/* what came with it answers something that has not been said */
			trouble(k, "a reply that is not due");
			return;
		}
		if (!advance(k))
			return;
	}
	if (frame == FRAME_BAD) {
		trouble(k, "a packet of a length that there is not");
		return;
	}
	buf_compact(&c->in);
}

/* ---- the loop ---- */

static void	start_over(struct milter_check *k);

/* A kept connection that ended before it said anything was dead before (case 11.9). */
static void
lost(struct milter_check *k)
{
	if (k->conn->was_kept && !k->conn->answered)
		start_over(k);
	else
		trouble(k, "the connection was lost");
}

static void
read_more(struct milter_check *k)
{
	struct conn *c = k->conn;
	char octets[READ_SIZE];
	int one = 1;
	ssize_t n = recv(c->fd, octets, sizeof(octets), 0);

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		lost(k);
		return;
	}
	c->answered = true;
	/* Else what a milter says in several packets waits for our delayed acknowledgement: 40 ms a message. If it fails, it is slow. */
	if (k->stage == MILTER_AT_EOM && k->milter->address.ss_family != AF_UNIX)
		(void)setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
	if (buf_add(&c->in, octets, (size_t)n) == -1)	/* the bound is never passed: no memory */
		trouble(k, "no memory for its reply");
	else
		take_packets(k);
}

/* Connected, or not. */
static void
connected(struct milter_check *k)
{
	struct conn *c = k->conn;
	socklen_t len = sizeof(int);
	int error = 0;
	size_t at;

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1 || error != 0) {
		trouble(k, "it cannot be connected to");
		return;
	}
	c->connecting = false;
	at = milter_begin(&c->out, 'O');
	milter_add_u32(&c->out, MILTER_VERSION);
	milter_add_u32(&c->out, MILTER_ACTIONS);
	milter_add_u32(&c->out, MILTER_STEPS);
	milter_end(&c->out, at);
	k->waiting = true;
	flush(k);
}

static void
conn_ready(void *arg, short revents)
{
	struct conn *c = arg;
	struct milter_check *k = c->check;

	if (k == NULL) {	/* a kept one: its time is over, or it has gone */
		drop_kept(c);
	} else if (k->failed != NULL) {
		trouble(k, k->failed);
	} else if (revents == 0 && c->connecting && k->milter->loop->now_ms < c->connect_at) {
		if (dial(c) == -1)
			trouble(k, "it cannot be connected to");
	} else if (revents == 0) {
		k->milter->no_nc = k->milter->no_nc || (c->quit_nc && !c->answered);
		trouble(k, c->connecting ? "timeout of the connection" : "timeout");
	} else if (c->connecting) {
		connected(k);
	} else if ((revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
		read_more(k);
	} else {
		flush(k);
		if (!k->waiting && buf_len(&c->out) == 0)
			(void)advance(k);	/* whether it has ended or not, nothing is left to do here */
	}
}

/* The check begins on this connection. */
static void
begin_on(struct milter_check *k, struct conn *c, enum milter_at stage)
{
	k->conn = c;
	c->check = k;
	c->answered = false;
	k->stage = stage;
	k->words = (struct milter_words){ .tx = k->tx, .content = k->content, .rcpts = k->rcpt != NULL ? k->rcpt : k->tx->rcpts,
	    .rcpts_n = k->rcpt != NULL ? 1 : k->tx->rcpts_n, .leading_space = (c->options.steps & MILTER_HDR_LEADSPC) != 0 };
	k->waiting = false;
}

/* On a new connection. 0, or -1: there is no memory, or no room in the loop. */
static int
begin_new(struct milter_check *k)
{
	struct milter *m = k->milter;
	const char *why = NULL;
	struct conn *c = conn_new(m, &why);

	if (c == NULL)
		return -1;
	begin_on(k, c, MILTER_AT_OPTIONS);
	milter_put_opening(&k->words, &c->opening);
	k->failed = why != NULL ? why : c->opening.failed ? "what is to be said of the client is too long" : NULL;
	if (k->failed != NULL)
		loop_deadline(&c->slot, m->loop->now_ms);
	return 0;
}

static void
start_over(struct milter_check *k)
{
	struct conn *old = k->conn;

	if (begin_new(k) == -1) {
		trouble(k, "no memory for a connection");
		return;
	}
	old->broken = true;
	conn_free(old);
}

/* ---- the address ---- */

/* inet:host:port, inet6:[host]:port, unix:/path. Hosts are numbers, or localhost: no name is looked up in the loop (case 11.8). */
static bool
read_socket(const char *address, struct sockaddr_storage *ss, socklen_t *len)
{
	struct span s = text_span(address), host, port;
	struct sockaddr_un *un = (struct sockaddr_un *)ss;
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	bool v6 = text_starts_nocase(s, "inet6:");
	char name[INET6_ADDRSTRLEN];
	size_t colon;
	uint64_t n;

	memset(ss, 0, sizeof(*ss));
	if (text_starts_nocase(s, "unix:/")) {
		un->sun_family = AF_UNIX;
		*len = sizeof(*un);
		return text_copy(un->sun_path, sizeof(un->sun_path), text_sub(s, 5, s.len)) == 0;
	}
	if (!v6 && !text_starts_nocase(s, "inet:"))
		return false;
	s = text_sub(s, v6 ? 6 : 5, s.len);
	for (colon = s.len; colon > 0 && s.p[colon - 1] != ':'; colon--)
		continue;
	if (colon == 0)
		return false;
	host = text_sub(s, 0, colon - 1);
	port = text_sub(s, colon, s.len);
	if (host.len > 1 && host.p[0] == '[' && host.p[host.len - 1] == ']')
		host = text_sub(host, 1, host.len - 1);
	if (text_u64(port, UINT16_MAX, &n) == -1 || n == 0 || text_copy(name, sizeof(name), host) == -1)
		return false;
	if (text_is_nocase(host, "localhost"))
		memcpy(name, v6 ? "::1" : "127.0.0.1", v6 ? sizeof("::1") : sizeof("127.0.0.1"));
	if (v6) {
		*len = sizeof(*in6);
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)n);
		return inet_pton(AF_INET6, name, &in6->sin6_addr) == 1;
	}
	*len = sizeof(*in);
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)n);
	return inet_pton(AF_INET, name, &in->sin_addr) == 1;
}

/* ---- a check ---- */

/* On a kept connection or on a new one. 0, or -1: there is no memory, or no room in the loop. */
static int
begin(struct milter_check *k)
{
	struct milter *m = k->milter;
	const struct milter_config *config = m->config;
	struct buf opening;
	struct conn *c;
	enum milter_at stage;

	k->words = (struct milter_words){ .tx = k->tx };
	k->total_at = m->loop->now_ms + config->connect_ms + config->command_ms + config->content_ms;
	buf_init(&opening, OPENING_MAX);
	milter_put_opening(&k->words, &opening);
	c = find_kept(k, &opening, &stage);
	buf_clear(&opening);
	if (c == NULL)
		return begin_new(k);
	begin_on(k, c, stage);
	/* words are written from the loop, so that done is called from there alone */
	loop_events(&c->slot, POLLIN | POLLOUT);
	begin_wait(k);
	return 0;
}

/* Begin what may begin, and give up what has waited too long. */
static void
wake(void *arg, short revents)
{
	struct milter *m = arg;
	struct milter_check *k;

	(void)revents;
	while ((k = m->waiting.head) != NULL && (m->running_n < m->config->max_checks || k->begin_at <= m->loop->now_ms)) {
		(void)pop(&m->waiting);
		if (k->tx->abandoned) {		/* it takes nobody's place */
			finish(k, &(struct filter_report){ .action = FILTER_TEMPFAIL }, REUSE_NOT);
		} else if (m->running_n >= m->config->max_checks) {
			trouble(k, "too many checks at once");
		} else if (begin(k) == -1) {
			trouble(k, "no memory for a connection");
		} else {
			put(&m->running, k);
			m->running_n++;
		}
	}
	loop_deadline(&m->waker, k == NULL ? LOOP_NEVER : k->begin_at);
}

static struct milter_check *
start(struct milter *m, struct milter_check like, filter_done *done, void *arg)
{
	struct milter_check *k = malloc(sizeof(*k));

	if (k == NULL)
		return NULL;
	*k = like;
	k->milter = m;
	k->done = done;
	k->arg = arg;
	k->begin_at = m->loop->now_ms + m->config->command_ms;
	if (m->waiting.head != NULL || m->running_n >= m->config->max_checks) {
		put(&m->waiting, k);
		if (k->begin_at < m->waker.deadline_at)
			loop_deadline(&m->waker, k->begin_at);
		return k;
	}
	if (begin(k) == -1) {
		free(k);
		errno = ENOMEM;
		return NULL;
	}
	put(&m->running, k);
	m->running_n++;
	return k;
}

bool
milter_wants_recipients(const struct milter *m)
{
	return !m->no_rcpt;
}

struct milter_check *
milter_start_recipient(struct milter *m, struct tx *tx, const struct mailbox *rcpt, filter_done *done, void *arg)
{
	return start(m, (struct milter_check){ .tx = tx, .rcpt = rcpt }, done, arg);
}

struct milter_check *
milter_start(struct milter *m, struct tx *tx, struct content *content, filter_done *done, void *arg)
{
	return start(m, (struct milter_check){ .tx = tx, .content = content, .changes = { .tx = tx, .content = content,
	    .envelope = m->config->envelope, .above = content->added } }, done, arg);
}

void
milter_cancel(struct milter_check *k)
{
	struct conn *c;

	if (k == NULL)
		return;
	c = release(k);
	if (c != NULL)
		c->broken = true;
	conn_free(c);
}

/* ---- a milter ---- */

size_t
milter_slots(const struct milter_config *c)
{
	return 2 * c->max_checks + KEPT_MAX + 1;	/* a check that starts over has two for a moment */
}

struct milter *
milter_new(struct loop *l, const struct milter_config *c)
{
	struct milter *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return NULL;
	m->loop = l;
	m->config = c;
	m->running.end = &m->running.head;
	m->waiting.end = &m->waiting.head;
	if (!read_socket(c->address, &m->address, &m->address_len)) {
		free(m);
		errno = EINVAL;
		return NULL;
	}
	if (loop_add(l, &m->waker, -1, 0, wake, m) == -1) {
		free(m);
		return NULL;
	}
	return m;
}

void
milter_free(struct milter *m)
{
	struct milter_check *k;

	if (m == NULL)
		return;
	while ((k = pop(&m->waiting)) != NULL)
		milter_cancel(k);
	while ((k = pop(&m->running)) != NULL)
		milter_cancel(k);
	while (m->kept[0] != NULL)
		drop_kept(m->kept[0]);
	loop_remove(&m->waker);
	free(m);
}
