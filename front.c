/*
 * front.c - a listener's poll loop: socket to session, requests to the agent and verdicts back.
 *
 * What a client may cost is laid out before it connects: a slot of struct conn, and from pools a block for input that cannot be used
 * yet, one for replies that cannot be sent yet, one for a SASL response that the agent cannot take yet, and for TLS an engine and a
 * buffer. The blocks are touched, and so cost memory, only while they hold something; an idle client holds an engine at most.
 */
#include "front.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc.h"
#include "loop.h"
#include "sandbox.h"
#include "session.h"
#include "stream.h"

#define IN_SIZE 16384		/* read at once, and kept of one client */
#define OUT_SIZE 4096		/* replies kept of one client */
#define BODY_SIZE (IN_SIZE + 16)	/* a body is never longer than what it came from, but for an octet held back */
#define ACCEPT_MAX 64		/* clients taken in one turn, so that those inside get theirs */
#define ACCEPT_PAUSE_MS 100	/* out of descriptors or memory */
#define LINGER_MS 2000		/* after our last reply, for the client to read it: closing on unread input would destroy it */
#define LINGER_MAX (256 * 1024)
#define BODY_RATE 500		/* octets a second that a message must come with, on average */
#define BODY_GRACE_MS 60000	/* before that is asked for */
#define AGENT_PATIENCE_MS 10000	/* without an agent; the master needs a moment to start one */
#define FDS_RESERVE 32		/* descriptors that are not clients' */
#define FDS_LAST 4		/* nor for message files: for a new agent */

enum owes {			/* datagrams that the agent must still get, in this order */
	OWES_RESET = 1,
	OWES_REQUEST = 2,
	OWES_CLOSE = 4,		/* and then the slot is free */
};

struct conn {
	struct stream	 stream;	/* owned; its fd is -1 when there is no client */
	int		 file;		/* the message file, owned; -1: none */
	struct front	*front;
	struct conn	*next;		/* of the free list, or of those that owe the agent something */
	struct loop_slot slot;
	struct session	 session;
	char		*in, *out;	/* blocks of the pools, or NULL */
	char		*secret;	/* as these: the response of an AUTH that has not been sent yet */
	uint32_t	 in_len, out_len, secret_len;
	uint32_t	 number;	/* this slot's */
	uint32_t	 spool;		/* steps counted for the message file */
	uint32_t	 lingered;	/* octets thrown away since our last reply */
	uint8_t		 owes;		/* of enum owes */
	bool		 queued;	/* in front->owing */
	bool		 known;		/* the agent has heard of this session */
	bool		 sent;		/* what the session waits for has been sent */
	bool		 lingering;
	bool		 eof;		/* the client has sent all that it will send */
	bool		 logged_in;	/* front->logins has it */
	uint32_t	 reset_ms;	/* how long the body of the transaction to forget took */
	uint64_t	 file_len;	/* octets of the body written */
	int64_t		 line_at;	/* when the unfinished line began; 0: there is none */
	int64_t		 body_at;	/* when the body, or a chunk that is thrown away, began to come; 0: there is none */
	uint64_t	 body_octets;	/* of it, read since */
	int64_t		 pause_at;	/* until then nothing is read; 0: no pause */
	int64_t		 handshake_at;	/* when TLS began; 0: no handshake is under way, or the session knows of its end */
	int64_t		 asked_us;	/* when the agent began to be waited for; 0: it is not */
};

struct front {
	struct front_args args;
	struct loop	 loop;
	struct loop_slot listen, control, agent;
	int		 agent_fd;	/* owned; -1: none at present */
	struct conn	*conns;		/* max_conns of them */
	struct login	*logins;	/* as many, for an agent that takes over; touched by those that log in */
	struct conn	*free;		/* slots that are free again */
	size_t		 fresh;		/* the first slot that was never used: nothing behind it has been touched */
	struct conn	*owing, **owing_end;
	size_t		 fds;		/* how many descriptors there can be */
	size_t		 max_conns, used;	/* slots in use, those that only owe a CLOSE included */
	struct pool	 in_pool, out_pool, secret_pool;
	struct streams	 streams;
	struct session_io io;
	struct session_counts counts;
	unsigned	 listener_slot, command_slots[SESSION_COMMANDS], request_slots[REQ__MAX];	/* of metrics */
	uint64_t	 serial;	/* of the last session */
	bool		 draining, stopping;
	bool		 abandoned;	/* no agent came */
	int64_t		 stop_at;	/* when stopping: the end of all patience */
	struct buf	 out, body, secret;	/* of the connection at work; empty between two */
	char		 in[IN_SIZE];	/* of the connection at work */
	char		 out_memory[OUT_SIZE];
	char		 body_memory[BODY_SIZE];
	char		 secret_memory[SASL_RESPONSE_MAX];
};

static void	conn_work(struct conn *c);

/* ---- what is counted ---- */

static const struct {
	enum canned		reply;
	enum metrics_limit	limit;
} limit_replies[] = {
	{ R_TOO_MANY_ERRORS, MH_MAX_ERRORS }, { R_TOO_MANY_RCPTS, MH_MAX_RECIPIENTS }, { R_TOO_BIG, MH_MAX_MESSAGE_SIZE },
	{ R_NO_SPACE, MH_MAX_SPOOL_MEMORY }, { R_AUTH_MANY, MH_MAX_AUTH_FAILURES },
};

/* Why a MAIL was refused; those that are not here are errors of syntax. */
static const struct {
	enum canned		reply;
	enum metrics_reason	reason;
} mail_replies[] = { { R_TOO_BIG, MR_SIZE }, { R_TLS_NEEDED, MR_TLS } };

/* The command that a request's duration is counted for; of DATA and BDAT it is the end of data. */
static const char *const request_commands[REQ__MAX] = {
	[REQ_AUTH] = "AUTH", [REQ_MAIL] = "MAIL", [REQ_RCPT] = "RCPT", [REQ_MESSAGE] = "DATA"
};

static enum metrics_reason
mail_reason(enum canned reply)
{
	for (size_t i = 0; i < COUNT(mail_replies); i++)
		if (mail_replies[i].reply == reply)
			return mail_replies[i].reason;
	return MR_SYNTAX;
}

/* Hand on what the sessions have done. */
static void
count_sessions(struct front *f)
{
	struct session_counts *n = &f->counts;
	struct metrics *m = f->args.metrics;

	if (!n->any)
		return;
	for (size_t i = 0; i < SESSION_COMMANDS; i++)
		if (n->commands[i] > 0)
			metrics_add(m, M_COMMANDS, f->command_slots[i], 0, 0, n->commands[i]);
	for (size_t i = 0; i < COUNT(limit_replies); i++)
		metrics_add(m, M_LIMIT_HITS, limit_replies[i].limit, 0, 0, n->canned[limit_replies[i].reply]);
	for (enum canned r = R_NONE; r < R__MAX; r++)
		metrics_add(m, M_MESSAGES_REJECTED, f->listener_slot, 0, mail_reason(r), n->mail_refused[r]);
	*n = (struct session_counts){ 0 };
}

static void
count_answer(struct front *f, enum request_kind kind, int64_t took_us)
{
	if (request_commands[kind] != NULL)
		metrics_observe(f->args.metrics, M_COMMAND_DURATION, f->request_slots[kind], took_us);
}

static void
count_tls(struct front *f, unsigned version)
{
	static const enum metrics_tls versions[] = { MT_1_0, MT_1_1, MT_1_2, MT_1_3 };
	unsigned minor = version - 0x0301;	/* as on the wire */

	metrics_add(f->args.metrics, M_TLS_CONNECTIONS, f->listener_slot, minor < COUNT(versions) ? versions[minor] : MT_OTHER, 0, 1);
}

static void
count_init(struct front *f)
{
	const struct metrics *m = f->args.metrics;

	f->listener_slot = metrics_find(m, ML_LISTENER, text_span(f->args.listener->name));
	for (size_t i = 1; session_command_name(i) != NULL; i++)
		f->command_slots[i] = metrics_find(m, ML_COMMAND, text_span(session_command_name(i)));
	for (size_t i = 0; i < REQ__MAX; i++)
		f->request_slots[i] = metrics_find(m, ML_COMMAND, text_span(request_commands[i]));
}

/* ---- the agent's side ---- */

static void
agent_queue(struct conn *c, uint8_t owes)
{
	struct front *f = c->front;

	c->owes |= owes;
	if (c->queued)
		return;
	c->queued = true;
	c->next = NULL;
	*f->owing_end = c;
	f->owing_end = &c->next;
}

static int
agent_send(struct conn *c, struct request *q)
{
	char datagram[IPC_MAX];
	int n;

	q->slot = c->number;
	n = ipc_pack_request(q, datagram);
	if (n != -1)
		n = ipc_send(c->front->agent_fd, datagram, (size_t)n, -1);
	if (q->kind == REQ_AUTH)
		explicit_bzero(datagram, sizeof(datagram));	/* keeps errno */
	return n;
}

/* An agent that has not seen this session's CONNECT must hear of it first. */
static int
agent_introduce(struct conn *c)
{
	struct request q = { .kind = REQ_CONNECT, .session = c->session.id, .resumed = true };

	if (c->known || c->session.waits_for == REQ_CONNECT)
		return 0;
	memcpy(q.address, c->session.address, sizeof(q.address));
	if (c->logged_in)
		q.login = &c->front->logins[c->number];
	if (agent_send(c, &q) == -1)
		return -1;
	c->known = true;
	return 0;
}

/* What the session does not know of its request. */
static void
complete_request(const struct conn *c, struct request *q)
{
	const struct tls *tls = c->stream.tls;

	if (c->body_at != 0)
		q->data_ms = (uint32_t)(c->front->loop.now_ms - c->body_at);
	if (q->kind == REQ_AUTH)
		q->response = c->secret != NULL ? (struct span){ c->secret, c->secret_len } : buf_span(&c->front->secret);
	if (q->kind == REQ_MAIL && tls != NULL) {
		q->tls_version = tls_version(tls);
		q->tls_suite = tls_suite(tls);
		/* cannot fail: a name is no longer than there is room */
		(void)text_copy(q->tls_name, sizeof(q->tls_name), text_span(tls_server_name(tls)));
	}
}

static void
secret_drop(struct conn *c)
{
	if (c->secret != NULL) {
		explicit_bzero(c->secret, c->secret_len);
		pool_give(&c->front->secret_pool, c->secret);
	}
	c->secret = NULL;
	c->secret_len = 0;
}

static void
conn_free(struct conn *c)
{
	struct front *f = c->front;

	c->next = f->free;
	f->free = c;
	f->used--;
}

/* Send what is owed; -1 with errno when the socket takes no more. */
static int
agent_settle(struct conn *c)
{
	if ((c->owes & OWES_RESET) != 0) {
		struct request q;

		session_reset_request(&c->session, &q);
		q.data_ms = c->reset_ms;
		if (c->known && agent_send(c, &q) == -1)
			return -1;
		c->owes &= (uint8_t)~OWES_RESET;
	}
	if ((c->owes & OWES_REQUEST) != 0 && c->session.waits_for != REQ_NONE) {
		struct request q;

		session_request(&c->session, &q);
		complete_request(c, &q);
		if (agent_introduce(c) == -1 || agent_send(c, &q) == -1)
			return -1;
		c->known = c->sent = true;
		secret_drop(c);
	}
	c->owes &= (uint8_t)~OWES_REQUEST;
	if ((c->owes & OWES_CLOSE) != 0) {
		struct request q = { .kind = REQ_CLOSE, .session = c->session.id };

		if (c->known && agent_send(c, &q) == -1)
			return -1;
		c->owes = 0;
	}
	return 0;
}

static void
agent_flush(struct front *f)
{
	while (f->owing != NULL && f->agent_fd != -1) {
		struct conn *c = f->owing;
		bool closing = (c->owes & OWES_CLOSE) != 0;

		if (agent_settle(c) == -1) {
			if (errno != EAGAIN && errno != ENOBUFS)
				return;		/* a dead agent: its end of file follows */
			loop_events(&f->agent, POLLIN | POLLOUT);
			return;
		}
		f->owing = c->next;
		if (f->owing == NULL)
			f->owing_end = &f->owing;
		c->queued = false;
		if (closing)
			conn_free(c);
	}
	if (f->agent_fd != -1)
		loop_events(&f->agent, POLLIN);
}

/* ---- one connection ---- */

static void
file_close(struct conn *c)
{
	struct front *f = c->front;

	if (c->file != -1)
		close(c->file);
	c->file = -1;
	c->file_len = 0;
	c->body_at = 0;
	if (c->spool > 0)
		limits_unspool(f->args.limits, f->args.row, c->spool);
	c->spool = 0;
}

static void
in_drop(struct conn *c)
{
	if (c->in != NULL) {
		explicit_bzero(c->in, c->in_len);	/* it may have been a password, as in front->in */
		pool_give(&c->front->in_pool, c->in);
	}
	c->in = NULL;
	c->in_len = 0;
}

static void
out_drop(struct conn *c)
{
	if (c->out != NULL)
		pool_give(&c->front->out_pool, c->out);
	c->out = NULL;
	c->out_len = 0;
}

/* The client is gone or was told all; the agent hears of it, and then the slot is free again. */
static void
conn_close(struct conn *c)
{
	struct front *f = c->front;

	log_debug(c->session.id, "disconnect", LF_INT("commands", c->session.commands),
	    LF_INT("messages", c->session.messages));
	loop_remove(&c->slot);
	stream_close(&f->streams, &c->stream);
	file_close(c);
	in_drop(c);
	out_drop(c);
	buf_reset(&f->out);	/* what it can no longer be told is for nobody else */
	secret_drop(c);
	limits_disconnect(f->args.limits, f->args.row);
	agent_queue(c, OWES_CLOSE);
	agent_flush(f);
	/* a descriptor is free again */
	if (!f->draining && f->listen.loop != NULL)
		loop_events(&f->listen, POLLIN);
}

/* Write the body that the session has left to the message file. */
static void
body_flush(struct conn *c)
{
	struct front *f = c->front;
	struct span body = buf_span(&f->body);
	bool spools = f->args.config->spool_dir[0] == '\0';

	while (body.len > 0) {
		ssize_t n = -1;

		if (spools && (uint64_t)c->spool * LIMITS_SPOOL_STEP < c->file_len + body.len) {
			if (!limits_spool(f->args.limits, f->args.row, f->args.config->max_spool_memory)) {
				log_warn(c->session.id, "spool_full", LF_STR("help", "see max_spool_memory"));
				break;
			}
			c->spool++;
			continue;
		}
		n = pwrite(c->file, body.p, body.len, (off_t)(MESSAGE_ROOM + c->file_len));
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0) {
			log_error(c->session.id, "spool_write", LF_ERRNO(errno), LF_STR("help", "not enough space for messages in flight"),
			    LF_STR("spool_dir", f->args.config->spool_dir));
			break;
		}
		c->file_len += (uint64_t)n;
		body = text_sub(body, (size_t)n, body.len);
	}
	if (body.len > 0)
		session_body_failed(&c->session);
	buf_reset(&f->body);
}

/* After each call into the session: body, then what the agent must hear. */
static void
conn_carry_out(struct conn *c)
{
	struct front *f = c->front;

	if (buf_len(&f->body) > 0)
		body_flush(c);
	if (c->session.reset_due) {
		c->session.reset_due = false;
		c->reset_ms = c->body_at == 0 ? 0 : (uint32_t)(f->loop.now_ms - c->body_at);
		agent_queue(c, OWES_RESET);
	}
	if (c->file != -1 && c->session.waits_for != REQ_MESSAGE && c->session.state != ST_DATA && c->session.state != ST_BDAT)
		file_close(c);
	if (c->session.waits_for != REQ_NONE && !c->sent) {
		if (c->asked_us == 0)
			c->asked_us = loop_clock_us();
		agent_queue(c, OWES_REQUEST);
	}
	if (c->queued)
		agent_flush(f);
	if (buf_len(&f->secret) == 0)
		return;
	if (!c->sent && c->session.waits_for == REQ_AUTH) {	/* the agent's socket is full */
		c->secret = pool_take(&f->secret_pool);
		c->secret_len = (uint32_t)buf_len(&f->secret);
		memcpy(c->secret, f->secret.data, c->secret_len);
	}
	explicit_bzero(f->secret.data, buf_len(&f->secret));
	buf_reset(&f->secret);
}

/* Replies of a group leave in one write (RFC 2920 3.2): not while the group's next answer is only a moment away. */
static bool
holds_replies(const struct conn *c)
{
	enum request_kind k = c->session.waits_for;

	return (k == REQ_MAIL || k == REQ_RCPT || k == REQ_DATA) && buf_room(&c->front->out) >= SESSION_OUT_ROOM;
}

/* Send what is in front->out; the rest is kept. -1: the connection is dead. */
static int
out_flush(struct conn *c)
{
	struct front *f = c->front;

	while (buf_len(&f->out) > 0 && !holds_replies(c) && c->handshake_at == 0) {
		long n = stream_send(&f->streams, &c->stream, f->out.data + f->out.rpos, buf_len(&f->out));

		if (n == -1 && errno == EAGAIN)
			break;
		if (n == -1)
			return -1;
		buf_drop(&f->out, (size_t)n);
	}
	if (buf_len(&f->out) > 0) {
		if (c->out == NULL)
			c->out = pool_take(&f->out_pool);
		c->out_len = (uint32_t)buf_len(&f->out);
		memcpy(c->out, f->out.data + f->out.rpos, c->out_len);
	} else {
		out_drop(c);
	}
	buf_reset(&f->out);
	return 0;
}

static void
out_load(struct conn *c)
{
	if (c->out_len > 0)
		buf_add(&c->front->out, c->out, c->out_len);
	c->out_len = 0;
}

/*
 * Let the session have the n octets of front->in, and keep what it cannot take yet.
 */
static void
conn_feed(struct conn *c, size_t n)
{
	struct front *f = c->front;
	size_t taken = 0;
	unsigned commands = c->session.commands;

	while (taken < n) {
		size_t now = session_feed(&c->session, f->in + taken, n - taken);

		taken += now;
		conn_carry_out(c);
		if (now == 0 || c->session.waits_for != REQ_NONE || c->session.state == ST_CLOSING || c->session.penalty_ms != 0)
			break;
		if (buf_room(&f->out) < SESSION_OUT_ROOM)
			break;
	}
	n -= taken;
	if (n == 0 || c->session.state == ST_CLOSING) {
		in_drop(c);
	} else {
		if (c->in == NULL)
			c->in = pool_take(&f->in_pool);
		else
			explicit_bzero(c->in, c->in_len);
		memcpy(c->in, f->in + taken, n);
		c->in_len = (uint32_t)n;
	}
	if (f->args.mechanisms != 0)
		explicit_bzero(f->in, taken + n);
	/* the deadline of a line is for the whole of it, however it trickles in (case 13.1) */
	if (c->session.commands != commands || (c->in_len == 0 && c->session.skipped == 0))
		c->line_at = 0;
	if (c->line_at == 0 && (c->in_len > 0 || c->session.skipped > 0))
		c->line_at = f->loop.now_ms;
}

/* Our last reply is out: let the client read it before the connection goes. */
static void
conn_linger(struct conn *c)
{
	if (stream_shut(&c->front->streams, &c->stream) == -1 || c->eof) {
		conn_close(c);
		return;
	}
	c->lingering = true;
	loop_events(&c->slot, POLLIN);
	loop_deadline(&c->slot, c->front->loop.now_ms + LINGER_MS);
}

static void
conn_drain(struct conn *c)
{
	struct front *f = c->front;
	ssize_t n = recv(c->stream.fd, f->in, sizeof(f->in), MSG_DONTWAIT);	/* records too: nobody reads them any more */

	if (n > 0)
		c->lingered += (uint32_t)n;
	if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR) || c->lingered > LINGER_MAX)
		conn_close(c);
}

/* A message that trickles in: its average since the first minute is too low. */
static bool
body_too_slow(const struct conn *c)
{
	int64_t took = c->front->loop.now_ms - c->body_at;

	return took > BODY_GRACE_MS && (int64_t)(c->body_octets / BODY_RATE) < took / 1000;
}

/* Replies are there that its socket does not take now. */
static bool
conn_is_blocked(const struct conn *c)
{
	return (c->out_len > 0 && !holds_replies(c)) || stream_has_output(&c->stream);
}

/* What the connection waits for now, and for how long. */
static void
conn_wait(struct conn *c)
{
	struct front *f = c->front;
	const struct config *cfg = f->args.config;
	int64_t wait_ms = cfg->connection_ms, from = f->loop.now_ms;
	short events = POLLIN;

	if (c->handshake_at != 0) {
		events = stream_has_output(&c->stream) ? POLLOUT : POLLIN;	/* nothing is read while it cannot be answered */
		wait_ms = cfg->handshake_ms;
		from = c->handshake_at;
	} else if (conn_is_blocked(c)) {
		events = POLLOUT;
		wait_ms = cfg->command_ms;
	} else if (c->session.waits_for != REQ_NONE) {
		/* the agent keeps its own time; this is for one that does not answer at all */
		events = 0;
		wait_ms = 3 * cfg->delivery_ms + cfg->command_ms;
	} else if (c->pause_at != 0) {
		events = 0;
		wait_ms = c->pause_at - from;
	} else if (session_in_body(&c->session)) {
		wait_ms = cfg->command_ms;
	} else if (c->line_at != 0) {
		wait_ms = cfg->command_ms;
		from = c->line_at;
	}
	loop_events(&c->slot, events);
	loop_deadline(&c->slot, from + wait_ms);
	stream_rest(&f->streams, &c->stream);
}

/* Whether it could be begun. What came in clear behind STARTTLS, the session has refused. */
static bool
conn_start_tls(struct conn *c)
{
	struct front *f = c->front;

	if (stream_start_tls(&f->streams, &c->stream) == -1) {
		log_error(c->session.id, "tls_start", LF_STR("reason", "no entropy"));
		conn_close(c);
		return false;
	}
	c->handshake_at = f->loop.now_ms;
	return true;
}

/*
 * One step's end: replies go out, and it is decided what is waited for. front->out holds the replies. Returns whether the
 * connection can go on at once (its replies are gone and input is left).
 */
static bool
conn_settle(struct conn *c)
{
	struct front *f = c->front;

	count_sessions(f);
	if (c->session.penalty_ms != 0 && c->pause_at == 0)
		c->pause_at = f->loop.now_ms + c->session.penalty_ms;
	if (out_flush(c) == -1) {
		conn_close(c);
		return false;
	}
	if (c->session.state == ST_TLS && c->out_len == 0 && c->stream.tls == NULL && !conn_start_tls(c))
		return false;
	if (c->session.state == ST_CLOSING && c->out_len == 0 && !conn_is_blocked(c)) {
		conn_linger(c);
		return false;
	}
	if (f->stopping && session_is_idle(&c->session) && c->session.state != ST_CLOSING && c->out_len == 0) {
		session_end(&c->session, R_SHUTDOWN);
		return conn_settle(c);
	}
	if (c->eof && c->session.waits_for == REQ_NONE && c->out_len == 0 && c->pause_at == 0) {
		conn_close(c);
		return false;
	}
	conn_wait(c);
	return (c->in_len > 0 || stream_has_input(&c->stream)) && c->out_len == 0 && c->session.waits_for == REQ_NONE &&
	    c->pause_at == 0 && !conn_is_blocked(c);
}

static void
tls_done(struct conn *c)
{
	const struct tls *t = c->stream.tls;

	log_debug(c->session.id, "tls", LF_STR("version", tls_version_name(tls_version(t))),
	    LF_STR("cipher", tls_suite_name(tls_suite(t))), LF_STR("name", tls_server_name(t)), LF_INT("resumed", tls_is_resumed(t)),
	    LF_INT("took_ms", c->front->loop.now_ms - c->handshake_at));
	c->handshake_at = 0;
	count_tls(c->front, tls_version(t));
	session_tls(&c->session);
}

/* The stream is no more. tls: by a fault of TLS, or before its handshake was done, which is worth a line. */
static void
conn_broken(struct conn *c, bool tls, const char *why)
{
	if (tls) {
		log_info(c->session.id, "tls_failed", LF_STR("client", c->session.address), LF_STR("reason", why));
		metrics_add(c->front->args.metrics, M_TLS_FAILURES, c->front->listener_slot, 0, 0, 1);
	}
	conn_close(c);
}

/* Read once, and let the session have it. Returns as conn_settle(). */
static bool
conn_read(struct conn *c)
{
	struct front *f = c->front;
	size_t had = c->in_len;
	bool shaking = c->handshake_at != 0;
	long n;

	if (had > 0)
		memcpy(f->in, c->in, had);
	n = stream_recv(&f->streams, &c->stream, f->in + had, sizeof(f->in) - had);
	if (n == -1 && errno != EAGAIN) {
		conn_broken(c, shaking || errno == EPROTO, errno == EPROTO ? tls_error(c->stream.tls) : strerror(errno));
		return false;
	}
	if (n == 0 && shaking && tls_version(c->stream.tls) == 0) {
		conn_broken(c, true, "close_notify");
		return false;
	}
	if (shaking && !stream_in_handshake(&c->stream))
		tls_done(c);
	if (n <= 0) {
		int64_t deadline_at = c->slot.deadline_at;
		bool go_on;

		if (n == 0)
			c->eof = true;
		out_load(c);	/* what had to wait for the end of the handshake */
		go_on = conn_settle(c);
		/* a record that trickles in, or has nothing in it, is no sign of life (case 6.16) */
		if (!shaking && c->stream.fd != -1 && !c->lingering && deadline_at < c->slot.deadline_at)
			loop_deadline(&c->slot, deadline_at);
		return go_on;
	}
	if (session_in_body(&c->session)) {
		if (c->body_at == 0) {
			c->body_at = f->loop.now_ms;
			c->body_octets = 0;
		}
		c->body_octets += (uint64_t)n;
		if (body_too_slow(c)) {
			session_end(&c->session, R_TOO_SLOW);
			return conn_settle(c);
		}
	} else if (c->file == -1) {
		c->body_at = 0;
	}
	out_load(c);
	conn_feed(c, had + (size_t)n);
	return conn_settle(c);
}

/* Go on with input that was kept, here or in the stream, as far as it goes. */
static void
conn_work(struct conn *c)
{
	struct front *f = c->front;
	bool go_on;

	do {
		size_t before = c->in_len;

		out_load(c);
		if (before > 0) {
			memcpy(f->in, c->in, before);
			conn_feed(c, before);
		}
		go_on = conn_settle(c);
		if (go_on && c->in_len == before)	/* an unfinished line, or nothing */
			go_on = stream_has_input(&c->stream) && conn_read(c);
	} while (go_on);
}

static void
conn_go_on(struct conn *c)
{
	if (conn_read(c))
		conn_work(c);
}

static void
conn_deadline(struct conn *c)
{
	if (c->lingering) {
		conn_close(c);
		return;
	}
	if (c->handshake_at != 0) {
		conn_broken(c, true, "timeout");
		return;
	}
	if (conn_is_blocked(c)) {	/* it does not read */
		conn_close(c);
		return;
	}
	if (c->pause_at != 0) {
		c->pause_at = 0;
		c->session.penalty_ms = 0;
		conn_work(c);
		return;
	}
	out_load(c);
	if (c->session.waits_for != REQ_NONE)
		log_error(c->session.id, "agent_timeout", LF_INT("request", c->session.waits_for));
	session_end(&c->session, R_TIMEOUT);
	log_info(c->session.id, "timeout", LF_STR("client", c->session.address));
	(void)conn_settle(c);
}

static void
conn_ready(void *arg, short revents)
{
	struct conn *c = arg;

	if (revents == 0)
		conn_deadline(c);
	else if (c->lingering)
		conn_drain(c);
	else if ((revents & POLLOUT) != 0 && stream_flush(&c->stream) == -1 && errno != EAGAIN)
		conn_broken(c, c->handshake_at != 0, strerror(errno));
	else if ((revents & POLLOUT) != 0 && c->handshake_at == 0)
		conn_work(c);
	else if ((revents & (POLLIN | POLLOUT)) != 0)
		conn_go_on(c);
	else	/* POLLERR, POLLHUP while we wait for the agent: it will not hear the reply */
		conn_close(c);
}

/* ---- new clients ---- */

/* An address as text; IPv4 mapped into IPv6 is IPv4. */
static void
peer_text(const struct sockaddr_storage *ss, char *dst, socklen_t size)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)ss;
	const char *ok;

	if (ss->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
		ok = inet_ntop(AF_INET, in6->sin6_addr.s6_addr + 12, dst, size);
	else if (ss->ss_family == AF_INET6)
		ok = inet_ntop(AF_INET6, &in6->sin6_addr, dst, size);
	else
		ok = inet_ntop(AF_INET, &in4->sin_addr, dst, size);
	if (ok == NULL)
		dst[0] = '\0';
}

static uint16_t
peer_port(const struct sockaddr_storage *ss)
{
	struct sockaddr_in in4;		/* IPv6 has it at the same place */

	memcpy(&in4, ss, sizeof(in4));
	return ntohs(in4.sin_port);
}

/* 421 and close, without a slot (RFC 5321 3.8); a client that cannot take so much at once, or would want TLS first, does not get it. */
static void
turn_away(const struct front *f, int fd, const char *address)
{
	static const char text[] = "421 4.3.2 Too many connections\r\n";

	if (f->args.listener->mode != MODE_SMTPS)
		(void)send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)shutdown(fd, SHUT_WR);
	close(fd);
	log_info(0, "refused", LF_STR("client", address), LF_STR("reason", "max_connections"));
	metrics_add(f->args.metrics, M_LIMIT_HITS, MH_MAX_CONNECTIONS, 0, 0, 1);
}

static void
conn_open(struct front *f, int fd, const char *address, uint16_t port)
{
	struct conn *c = f->free != NULL ? f->free : f->fresh < f->max_conns ? &f->conns[f->fresh] : NULL;

	if (c == NULL || !limits_connect(f->args.limits, f->args.row, f->args.config->max_connections)) {
		turn_away(f, fd, address);
		return;
	}
	if (c == f->free)
		f->free = c->next;
	else
		f->fresh++;
	f->used++;
	*c = (struct conn){ .stream = { .fd = fd }, .file = -1, .front = f, .number = (uint32_t)(c - f->conns) };
	session_init(&c->session, &f->io, (uint64_t)f->args.number << 32 | ++f->serial, address);
	c->session.port = port;
	/* cannot fail: the loop has a slot for each connection */
	(void)loop_add(&f->loop, &c->slot, fd, 0, conn_ready, c);
	metrics_add(f->args.metrics, M_CONNECTIONS, f->listener_slot, 0, 0, 1);
	log_debug(c->session.id, "connect", LF_STR("client", address), LF_STR("listener", f->args.listener->name));
	if (f->args.listener->mode == MODE_SMTPS && !conn_start_tls(c))
		return;
	conn_carry_out(c);
	conn_wait(c);
}

static void
listen_ready(void *arg, short revents)
{
	struct front *f = arg;

	if (revents == 0) {	/* the pause is over */
		loop_events(&f->listen, POLLIN);
		return;
	}
	for (int i = 0; i < ACCEPT_MAX; i++) {
		char address[INET6_ADDRSTRLEN];
		struct sockaddr_storage ss = { 0 };
		socklen_t len = sizeof(ss);
		int fd = accept4(f->args.listen_fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd == -1) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			if (errno == EAGAIN)
				return;
			/* EMFILE, ENFILE, ENOBUFS, ENOMEM and what a network may bring: not now, but not for ever */
			log_warn(0, "accept", LF_ERRNO(errno));
			loop_events(&f->listen, 0);
			loop_deadline(&f->listen, f->loop.now_ms + ACCEPT_PAUSE_MS);
			return;
		}
		peer_text(&ss, address, sizeof(address));
		conn_open(f, fd, address, peer_port(&ss));
	}
}

/* ---- the agent's answers ---- */

static bool
spoke_early(const struct conn *c)
{
	char octet;

	return recv(c->stream.fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static void
take_answer(struct front *f, struct answer *a)
{
	struct conn *c = a->slot < f->fresh ? &f->conns[a->slot] : NULL;

	if (c == NULL || c->stream.fd == -1 || c->session.id != a->session || c->session.waits_for == REQ_NONE || !c->sent) {
		if (a->fd != -1)
			close(a->fd);
		return;		/* the client has left meanwhile */
	}
	c->sent = false;
	count_answer(f, c->session.waits_for, loop_clock_us() - c->asked_us);
	c->asked_us = 0;
	if (a->fd != -1 && (size_t)a->fd + FDS_LAST >= f->fds) {	/* case 13.3 */
		log_warn(c->session.id, "no_descriptors", LF_STR("help", "raise the limit of open files (ulimit -n)"));
		close(a->fd);
		a->fd = -1;
	}
	if (a->verdict.code == 235) {
		f->logins[c->number] = a->login;
		c->logged_in = true;
	}
	if (c->session.waits_for == REQ_DATA && a->fd != -1) {
		c->file = a->fd;
		c->file_len = 0;
		c->body_at = f->loop.now_ms;
		c->body_octets = 0;
	} else if (a->fd != -1) {
		close(a->fd);
	}
	out_load(c);
	session_verdict(&c->session, &a->verdict, c->file != -1,
	    c->session.waits_for == REQ_CONNECT && spoke_early(c));
	conn_carry_out(c);
	/* the rest of its group first, so that the replies leave together */
	if (c->in_len > 0 && c->session.waits_for == REQ_NONE) {
		memcpy(f->in, c->in, c->in_len);
		conn_feed(c, c->in_len);
	}
	if (conn_settle(c))
		conn_work(c);
}

/* Nobody to ask, and nobody is coming: a front that starts afresh gets an agent. */
static void
agent_missing(void *arg, short revents)
{
	struct front *f = arg;

	(void)revents;
	log_error(0, "no_agent");
	f->abandoned = true;
}

/* The agent is gone: what it was asked will not be answered, and its transactions are lost. */
static void
agent_lost(struct front *f)
{
	log_warn(0, "agent_lost", LF_INT("sessions", f->used));
	loop_remove(&f->agent);
	close(f->agent_fd);
	f->agent_fd = -1;
	/* cannot fail: its slot has just become free */
	(void)loop_add(&f->loop, &f->agent, -1, 0, agent_missing, f);
	loop_deadline(&f->agent, f->loop.now_ms + AGENT_PATIENCE_MS);
	for (size_t i = 0; i < f->fresh; i++) {
		struct conn *c = &f->conns[i];
		bool sent = c->sent;

		c->known = c->sent = false;
		c->asked_us = 0;
		c->owes &= (uint8_t)~OWES_RESET;
		secret_drop(c);		/* its AUTH gets a 454 */
		if (c->stream.fd == -1 || c->lingering)
			continue;
		out_load(c);
		session_agent_lost(&c->session, sent);
		conn_carry_out(c);
		if (conn_settle(c))
			conn_work(c);
	}
}

static void
agent_ready(void *arg, short revents)
{
	struct front *f = arg;
	char datagram[IPC_MAX];

	if ((revents & POLLOUT) != 0)
		agent_flush(f);
	while (f->agent_fd != -1) {
		struct answer a;
		int fd;
		long n = ipc_recv(f->agent_fd, datagram, sizeof(datagram), &fd);

		if (n == -1 && errno == EAGAIN)
			return;
		if (n <= 0 || ipc_unpack_answer(&a, datagram, (size_t)n) == -1) {
			if (fd != -1)
				close(fd);
			if (n != 0)
				log_error(0, "agent_answer", LF_ERRNO(errno));
			agent_lost(f);
			return;
		}
		a.fd = fd;
		take_answer(f, &a);
	}
}

/* ---- the master's word ---- */

static void
drain(struct front *f)
{
	if (f->draining)
		return;
	f->draining = true;
	loop_remove(&f->listen);
	close(f->args.listen_fd);
	f->args.listen_fd = -1;
}

static void
stop(struct front *f)
{
	drain(f);
	if (f->stopping)
		return;
	f->stopping = true;
	f->stop_at = f->loop.now_ms + f->args.config->shutdown_ms;
	for (size_t i = 0; i < f->fresh; i++) {
		struct conn *c = &f->conns[i];

		if (c->stream.fd == -1 || c->lingering || !session_is_idle(&c->session))
			continue;
		out_load(c);
		session_end(&c->session, R_SHUTDOWN);
		(void)conn_settle(c);
	}
}

/* The patience of a shutdown is over. */
static void
stop_all(struct front *f)
{
	for (size_t i = 0; i < f->fresh; i++) {
		struct conn *c = &f->conns[i];

		if (c->stream.fd == -1)
			continue;
		out_load(c);
		session_end(&c->session, R_SHUTDOWN);
		if (out_flush(c) == 0)
			(void)stream_shut(&f->streams, &c->stream);
		conn_close(c);
	}
}

static void
take_agent(struct front *f, int fd)
{
	if (f->agent_fd != -1)
		agent_lost(f);
	loop_remove(&f->agent);
	f->agent_fd = fd;
	/* cannot fail: the loop has a slot for it */
	(void)loop_add(&f->loop, &f->agent, fd, POLLIN, agent_ready, f);
	agent_flush(f);
}

static void
control_ready(void *arg, short revents)
{
	struct front *f = arg;

	(void)revents;
	for (;;) {
		enum control what;
		uint32_t number;
		int fd, n = ipc_recv_control(f->args.control_fd, &what, &number, &fd);

		if (n == -1 && errno == EAGAIN)
			return;
		if (n <= 0) {		/* the master is gone, so nobody would start us again: end in good order */
			loop_remove(&f->control);
			stop(f);
			return;
		}
		if (what == CTL_AGENT && fd != -1)
			take_agent(f, fd);
		else if (fd != -1)
			close(fd);
		if (what == CTL_DRAIN)
			drain(f);
		else if (what == CTL_STOP)
			stop(f);
	}
}

/* ---- start ---- */

static int
front_init(struct front *f, const struct front_args *args)
{
	size_t max = args->config->max_connections, fds = sandbox_max_fds();

	*f = (struct front){ .args = *args, .agent_fd = -1, .fds = fds };
	f->owing_end = &f->owing;
	if (fds < 2 * max + FDS_RESERVE) {	/* a client in the middle of a message has two */
		size_t fits = fds > 2 * FDS_RESERVE ? (fds - FDS_RESERVE) / 2 : FDS_RESERVE / 2;

		log_warn(0, "few_descriptors", LF_INT("max_connections", max), LF_INT("possible_with_messages", fits),
		    LF_STR("help", "raise the limit of open files (ulimit -n)"));
		if (fds > FDS_RESERVE && fds - FDS_RESERVE < max)
			max = fds - FDS_RESERVE;
	}
	f->conns = pool_reserve(max * sizeof(*f->conns));
	f->logins = pool_reserve(max * sizeof(*f->logins));
	if (f->conns == NULL || f->logins == NULL || loop_init(&f->loop, max + 3) == -1)
		return -1;
	f->max_conns = max;
	buf_fixed(&f->out, f->out_memory, sizeof(f->out_memory));
	buf_fixed(&f->body, f->body_memory, sizeof(f->body_memory));
	buf_fixed(&f->secret, f->secret_memory, sizeof(f->secret_memory));
	if (pool_init(&f->in_pool, IN_SIZE, max) == -1 || pool_init(&f->out_pool, OUT_SIZE, max) == -1 ||
	    pool_init(&f->secret_pool, SASL_RESPONSE_MAX, max) == -1 ||
	    streams_init(&f->streams, args->certs, args->cache, args->config->tls_min_version, max) == -1)
		return -1;
	f->io = (struct session_io){ .config = args->config, .listener = args->listener, .out = &f->out, .body = &f->body,
	    .secret = &f->secret, .counts = &f->counts, .has_tls = streams_have_tls(&f->streams), .mechanisms = args->mechanisms };
	count_init(f);
	if (loop_add(&f->loop, &f->listen, args->listen_fd, POLLIN, listen_ready, f) == -1 ||
	    loop_add(&f->loop, &f->control, args->control_fd, POLLIN, control_ready, f) == -1)
		return -1;
	return 0;
}

static bool
front_is_done(const struct front *f)
{
	return f->draining && f->used == 0;
}

int
front_run(const struct front_args *args)
{
	static struct front front;	/* large, and one a process */
	struct front *f = &front;

	if (front_init(f, args) == -1)
		fatal("front", "cannot start: %s", strerror(errno));
	if (args->sandbox)
		sandbox_front(args->config->user);
	while (!front_is_done(f) && !f->abandoned) {
		if (loop_turn(&f->loop, f->stopping ? f->stop_at - loop_clock_ms() : -1) == -1)
			fatal("front", "poll: %s", strerror(errno));
		metrics_log_lines(args->metrics);
		if (f->stopping && f->loop.now_ms >= f->stop_at)
			stop_all(f);
		/* an agent that is gone too will not hear of those that have left */
		if (f->stopping && f->agent_fd == -1 && f->loop.now_ms >= f->stop_at)
			break;
	}
	loop_clear(&f->loop);
	return f->abandoned ? 1 : 0;
}
