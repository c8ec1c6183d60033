/*
 * stream.c - the octets of a client: its socket, in clear or through TLS.
 *
 * The order that TLS asks for is kept here: records go out before anything else is done, what has come is read before more is
 * received, and the engine's state is looked at anew after every step.
 */
#include "stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS_MAX 16	/* reads in one call: a stream of empty records is no reason to forget the other clients (case 6.16) */

int
streams_init(struct streams *e, const struct tls_certs *certs, struct tls_cache *cache, enum tls_min min_version, size_t max)
{
	*e = (struct streams){ .certs = certs, .cache = cache, .min_version = min_version };
	if (!streams_have_tls(e))
		return 0;
	return pool_init(&e->engines, tls_size(), max) == -1 || pool_init(&e->buffers, TLS_BUFFER_SIZE, max) == -1 ? -1 : 0;
}

bool
streams_have_tls(const struct streams *e)
{
	return e->certs != NULL && tls_certs_n(e->certs) > 0;
}

static void
borrow(struct streams *e, struct stream *s)
{
	if (s->buffer != NULL)
		return;
	s->buffer = pool_take(&e->buffers);
	tls_lend_buffer(s->tls, s->buffer);
}

void
stream_rest(struct streams *e, struct stream *s)
{
	if (s->tls == NULL || s->buffer == NULL || tls_return_buffer(s->tls) == NULL)
		return;
	pool_give(&e->buffers, s->buffer);
	s->buffer = NULL;
}

static void
end_tls(struct streams *e, struct stream *s)
{
	if (s->tls == NULL)
		return;
	tls_clear(s->tls);
	pool_give(&e->engines, s->tls);
	s->tls = NULL;
	if (s->buffer != NULL) {	/* it holds clear text of this client's */
		explicit_bzero(s->buffer, TLS_BUFFER_SIZE);
		pool_give(&e->buffers, s->buffer);
	}
	s->buffer = NULL;
}

int
stream_start_tls(struct streams *e, struct stream *s)
{
	s->tls = pool_take(&e->engines);
	if (tls_accept(s->tls, e->certs, e->cache, e->min_version) == -1) {
		end_tls(e, s);
		return -1;
	}
	borrow(e, s);
	return 0;
}

static long
socket_send(const struct stream *s, const void *p, size_t n)
{
	ssize_t sent;

	do
		sent = send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent == -1 && errno == EINTR);
	if (sent == -1 && errno == ENOBUFS)
		errno = EAGAIN;
	return sent;
}

static long
socket_recv(const struct stream *s, void *dst, size_t n)
{
	ssize_t got;

	do
		got = recv(s->fd, dst, n, MSG_DONTWAIT);
	while (got == -1 && errno == EINTR);
	return got;
}

int
stream_flush(struct stream *s)
{
	struct span out;

	while (s->buffer != NULL && (out = tls_to_send(s->tls)).len > 0) {
		long n = socket_send(s, out.p, out.len);

		if (n == -1)
			return -1;
		tls_sent(s->tls, (size_t)n);
	}
	return 0;
}

/* Clear text that is there already, as much as fits. */
static size_t
take_clear_text(struct stream *s, char *dst, size_t n)
{
	size_t taken = 0;
	struct span in;

	while (taken < n && (in = tls_clear_text(s->tls)).len > 0) {
		size_t now = in.len < n - taken ? in.len : n - taken;

		memcpy(dst + taken, in.p, now);
		tls_taken(s->tls, now);
		taken += now;
	}
	return taken;
}

/* Why there is no more clear text: 0, or -1 with errno. */
static long
tls_ended(const struct stream *s)
{
	switch (tls_status(s->tls)) {
	case TLS_CLOSED:
		return 0;
	case TLS_FAILED:
		errno = EPROTO;
		return -1;
	case TLS_HANDSHAKE:
	case TLS_OPEN:
		break;
	}
	errno = EAGAIN;
	return -1;
}

long
stream_recv(struct streams *e, struct stream *s, void *dst, size_t n)
{
	size_t taken;

	if (s->tls == NULL)
		return socket_recv(s, dst, n);
	borrow(e, s);
	/* what was left over comes alone: whoever sends as fast as we read does not keep us from the others */
	taken = take_clear_text(s, dst, n);
	for (int round = 0; taken == 0 && round < ROUNDS_MAX; round++) {
		size_t room;
		char *in;
		long got;

		if (stream_flush(s) == -1)
			return -1;
		in = tls_receive_room(s->tls, &room);
		if (room == 0)
			return tls_ended(s);
		got = socket_recv(s, in, room);
		if (got == 0)	/* not the peer's word: somebody may have cut it off (case 6.9) */
			errno = ECONNRESET;
		if (got <= 0)
			return -1;
		tls_received(s->tls, (size_t)got);
		taken = take_clear_text(s, dst, n);
	}
	errno = EAGAIN;		/* the rest is still in the socket, which poll(2) tells of */
	return taken > 0 ? (long)taken : -1;
}

long
stream_send(struct streams *e, struct stream *s, const void *p, size_t n)
{
	size_t taken;

	if (s->tls == NULL)
		return socket_send(s, p, n);
	borrow(e, s);
	if (stream_flush(s) == -1)
		return -1;
	taken = tls_status(s->tls) == TLS_OPEN ? tls_write(s->tls, p, n) : 0;
	if (taken == 0) {
		long ended = tls_ended(s);

		if (ended == 0)
			errno = EPIPE;
		return -1;
	}
	tls_flush(s->tls);
	if (stream_flush(s) == -1 && errno != EAGAIN)
		return -1;
	return (long)taken;
}

bool
stream_has_input(const struct stream *s)
{
	return s->buffer != NULL && tls_clear_text(s->tls).len > 0;
}

bool
stream_has_output(const struct stream *s)
{
	return s->buffer != NULL && tls_to_send(s->tls).len > 0;
}

bool
stream_in_handshake(const struct stream *s)
{
	return s->tls != NULL && tls_status(s->tls) == TLS_HANDSHAKE;
}

int
stream_shut(struct streams *e, struct stream *s)
{
	if (s->tls != NULL) {
		borrow(e, s);
		tls_close(s->tls);
		if (stream_flush(s) == -1)
			return -1;
	}
	return shutdown(s->fd, SHUT_WR);
}

void
stream_close(struct streams *e, struct stream *s)
{
	end_tls(e, s);
	close(s->fd);
	s->fd = -1;
}
