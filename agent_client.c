/*
 * agent_client.c - what the agent knows of its fronts, their clients and the transactions of those, and how they are answered.
 */
#include "agent_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tls.h"

/* ---- answers ---- */

/* 0, or -1: its socket is full. */
static int
send_one(const struct front *f, const char *datagram, size_t len, int fd)
{
	int r = ipc_send(f->fd, datagram, len, fd);

	if (r == -1 && errno == ETOOMANYREFS)	/* too many files are on their way, unix(7): without its file a 354 becomes a 452 */
		r = ipc_send(f->fd, datagram, len, -1);
	return r;
}

void
answer_send(struct front *f, const struct answer *a)
{
	char entry[sizeof(uint16_t) + IPC_MAX], *datagram = entry + sizeof(uint16_t);
	int n = ipc_pack_answer(a, datagram);
	uint16_t len = (uint16_t)n;

	if (n == -1 || f->queue.failed)
		return;
	if (buf_len(&f->queue) == 0 && send_one(f, datagram, len, a->fd) == 0)
		return;
	/*
	 * Full: the order is kept; the descriptor of a 354 is found again by its slot. A front that does not take its answers loses us, and
	 * is started anew: front_ready() sees that the queue has failed.
	 */
	memcpy(entry, &len, sizeof(len));
	if (buf_room(&f->queue) < sizeof(len) + len)
		buf_compact(&f->queue);
	(void)buf_add(&f->queue, entry, sizeof(len) + len);
	loop_events(&f->slot, POLLIN | POLLOUT);
}

void
answer_verdict(struct front *f, uint32_t slot, uint64_t session, const struct verdict *v, int fd)
{
	struct answer a = { .slot = slot, .session = session, .verdict = *v, .fd = fd };

	answer_send(f, &a);
}

void
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

			/* at work, the file is no longer the front's to write */
			if (c->session == a.session && c->work != NULL && !c->work->busy)
				fd = c->work->tx.fd;
		}
		if (send_one(f, all.p + sizeof(len), len, fd) == -1)
			return;
		buf_drop(&f->queue, sizeof(len) + len);
	}
	loop_events(&f->slot, POLLIN);
}

/* ---- a transaction ---- */

/* Unique on this machine: second, process, count. */
static void
make_id(struct agent *a, char *id)
{
	a->serial = (a->serial + 1) & 0xffffff;
	(void)snprintf(id, MESSAGE_ID_LEN + 1, "%08x%06x%06x", (unsigned)(time(NULL) & 0xffffffff),
	    (unsigned)getpid() & 0xffffff, a->serial);
}

void
work_free(struct work *w)
{
	if (w->tx.abandoned) {
		w->agent->left_n--;
		w->agent->left_octets -= w->left_octets;
	}
	if (w->tx.fd != -1)
		close(w->tx.fd);
	if (w->trap_fd != -1)
		close(w->trap_fd);
	free(w->tx.rcpts);
	free(w);
}

void
work_forget(struct client *c)
{
	struct work *w = c->work;

	c->work = NULL;
	if (w == NULL)
		return;
	if (w->busy) {
		w->tx.abandoned = true;
		w->front = NULL;
		w->left_octets = w->tx.fd == -1 ? 0 : w->tx.size;
		w->agent->left_n++;
		w->agent->left_octets += w->left_octets;
	} else {
		work_free(w);
	}
}

struct work *
work_new(struct front *f, const struct request *q)
{
	const struct client *c = &f->clients[q->slot];
	struct work *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	memcpy(w->address, c->address, sizeof(w->address));
	memcpy(w->own_address, c->own_address, sizeof(w->own_address));
	memcpy(w->helo, q->helo, sizeof(w->helo));
	if (c->logged_in)
		memcpy(w->auth_user, f->users[q->slot], sizeof(w->auth_user));
	memcpy(w->tls_name, q->tls_name, sizeof(w->tls_name));
	w->relays = c->logged_in || c->trusted;
	w->agent = f->agent;
	w->front = f;
	w->slot = q->slot;
	w->listener_slot = f->listener_slot;
	w->trap_fd = -1;
	w->started_us = loop_clock_us();
	w->tx = (struct tx){ .session = q->session, .config = f->agent->config, .listener = f->listener, .client_address = w->address,
	    .client_port = c->port, .own_address = w->own_address, .helo = w->helo, .auth_user = w->auth_user,
	    .auth_type = c->logged_in && q->mechanism < SASL__MAX ? sasl_name((enum sasl_mechanism)q->mechanism) : "",
	    .tls_version = tls_version_name(q->tls_version),
	    .tls_cipher = tls_suite_name(q->tls_suite), .tls_name = w->tls_name, .esmtp = q->esmtp, .body = q->body, .utf8 = q->utf8,
	    .fd = -1 };
	make_id(f->agent, w->tx.id);
	return w;
}
