/*
 * front_agent.c - the agent's side of a front: what it is asked, and what it answers.
 */
#include "front_agent.h"

#include <errno.h>
#include <unistd.h>

#define AGENT_PATIENCE_MS 10000	/* without an agent; the master needs a moment to start one */

/* ---- requests ---- */

void
front_agent_owe(struct conn *c, uint8_t owes)
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

/* With CONNECT goes the client's socket: who it is, the agent does not take our word for. */
static int
agent_send(struct conn *c, struct request *q)
{
	char datagram[IPC_MAX];
	int n, r;

	q->slot = c->number;
	n = ipc_pack_request(q, datagram);
	if (n == -1)
		return -1;
	r = ipc_send(c->front->agent_fd, datagram, (size_t)n, q->kind == REQ_CONNECT ? c->stream.fd : -1);
	if (r == -1 && errno == ETOOMANYREFS)	/* too many sockets are on their way, unix(7): the agent turns this one away */
		r = ipc_send(c->front->agent_fd, datagram, (size_t)n, -1);
	if (q->kind == REQ_AUTH)
		explicit_bzero(datagram, sizeof(datagram));	/* keeps errno */
	return r;
}

/* An agent that has not seen this session's CONNECT must hear of it first. */
static int
agent_introduce(struct conn *c)
{
	struct request q = { .kind = REQ_CONNECT, .session = c->session.id, .resumed = true };

	if (c->known || c->session.waits_for == REQ_CONNECT)
		return 0;
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
		conn_drop_secret(c);
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

void
front_agent_flush(struct front *f)
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

/* ---- answers ---- */

static void
take_answer(struct front *f, struct answer *a)
{
	struct conn *c = a->slot < f->fresh ? &f->conns[a->slot] : NULL;

	if (c == NULL || c->stream.fd == -1 || c->session.id != a->session || c->session.waits_for == REQ_NONE || !c->sent) {
		if (a->fd != -1)
			close(a->fd);
		return;		/* the client has left meanwhile */
	}
	conn_answer(c, a);
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
	for (size_t i = 0; i < f->fresh; i++)
		conn_agent_lost(&f->conns[i]);
}

static void
agent_ready(void *arg, short revents)
{
	struct front *f = arg;
	char datagram[IPC_MAX];

	if ((revents & POLLOUT) != 0)
		front_agent_flush(f);
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

void
front_agent_take(struct front *f, int fd)
{
	if (f->agent_fd != -1)
		agent_lost(f);
	loop_remove(&f->agent);
	f->agent_fd = fd;
	/* cannot fail: the loop has a slot for it */
	(void)loop_add(&f->loop, &f->agent, fd, POLLIN, agent_ready, f);
	front_agent_flush(f);
}
