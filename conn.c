/*
 * conn.c - one client's connection: its octets to the session, what the session leaves to the client, the file and the agent.
 *
 * What a client may cost is laid out before it connects: a slot of struct conn, and from pools a block for input that cannot be used
 * yet, one for replies that cannot be sent yet, one for a SASL response that the agent cannot take yet, and for TLS an engine and a
 * buffer. The blocks are touched, and so cost memory, only while they hold something; an idle client holds an engine at most.
 */
#include "conn.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "front_agent.h"
#include "front_count.h"

#define LINGER_MS 2000		/* after our last reply, for the client to read it: closing on unread input would destroy it */
#define LINGER_MAX (256 * 1024)
#define BODY_RATE 500		/* octets a second that a message must come with, on average */
#define BODY_GRACE_MS 60000	/* before that is asked for */
#define FDS_LAST 4		/* descriptors that are not for message files: for a new agent */

static void	conn_work(struct conn *c);

/* ---- what it holds ---- */

void
conn_drop_secret(struct conn *c)
{
	if (c->secret != NULL) {
		explicit_bzero(c->secret, c->secret_len);
		pool_give(&c->front->secret_pool, c->secret);
	}
	c->secret = NULL;
	c->secret_len = 0;
}

void
conn_free(struct conn *c)
{
	struct front *f = c->front;

	c->next = f->free;
	f->free = c;
	f->used--;
}

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
	conn_drop_secret(c);
	limits_disconnect(f->args.limits, f->args.row);
	front_agent_owe(c, OWES_CLOSE);
	front_agent_flush(f);
	/* a descriptor is free again */
	if (!f->draining && f->listen.loop != NULL)
		loop_events(&f->listen, POLLIN);
}

/* ---- what the session leaves ---- */

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
				metrics_add(f->args.metrics, M_LIMIT_HITS, MH_MAX_SPOOL_MEMORY, 0, 0, 1);
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
		front_agent_owe(c, OWES_RESET);
	}
	if (c->file != -1 && c->session.waits_for != REQ_MESSAGE && c->session.state != ST_DATA && c->session.state != ST_BDAT)
		file_close(c);
	if (c->session.waits_for != REQ_NONE && !c->sent) {
		if (c->asked_us == 0)
			c->asked_us = loop_clock_us();
		front_agent_owe(c, OWES_REQUEST);
	}
	if (c->queued)
		front_agent_flush(f);
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

/* ---- its steps ---- */

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

	front_count_sessions(f);
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
	front_count_tls(c->front, tls_version(t));
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

/* ---- what others do with it ---- */

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

void
conn_open(struct front *f, int fd, const char *address)
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
	/* cannot fail: the loop has a slot for each connection */
	(void)loop_add(&f->loop, &c->slot, fd, 0, conn_ready, c);
	metrics_add(f->args.metrics, M_CONNECTIONS, f->listener_slot, 0, 0, 1);
	log_debug(c->session.id, "connect", LF_STR("client", address), LF_STR("listener", f->args.listener->name));
	if (f->args.listener->mode == MODE_SMTPS && !conn_start_tls(c))
		return;
	conn_carry_out(c);
	conn_wait(c);
}

static bool
spoke_early(const struct conn *c)
{
	char octet;

	return recv(c->stream.fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void
conn_answer(struct conn *c, struct answer *a)
{
	struct front *f = c->front;

	c->sent = false;
	front_count_answer(f, c->session.waits_for, loop_clock_us() - c->asked_us);
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

void
conn_agent_lost(struct conn *c)
{
	bool sent = c->sent;

	c->known = c->sent = false;
	c->asked_us = 0;
	c->owes &= (uint8_t)~OWES_RESET;
	conn_drop_secret(c);		/* its AUTH gets a 454 */
	if (c->stream.fd == -1 || c->lingering)
		return;
	out_load(c);
	session_agent_lost(&c->session, sent);
	conn_carry_out(c);
	if (conn_settle(c))
		conn_work(c);
}

void
conn_stop(struct conn *c)
{
	if (c->stream.fd == -1 || c->lingering || !session_is_idle(&c->session))
		return;
	out_load(c);
	session_end(&c->session, R_SHUTDOWN);
	(void)conn_settle(c);
}

void
conn_stop_now(struct conn *c)
{
	if (c->stream.fd == -1)
		return;
	out_load(c);
	session_end(&c->session, R_SHUTDOWN);
	if (out_flush(c) == 0)
		(void)stream_shut(&c->front->streams, &c->stream);
	conn_close(c);
}
