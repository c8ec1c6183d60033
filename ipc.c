/*
 * ipc.c - the datagrams between front and agent, and between the master and its children.
 *
 * Numbers are in the machine's own order: both ends are the same program on the same machine.
 */
#include "ipc.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define SOCKET_BUFFER (1024 * 1024)	/* asked for; the kernel gives what net.core.wmem_max allows */

/* A cursor over a datagram that is read; it remembers its first failure. */
struct reader {
	struct span	in;
	bool		failed;
};

static void
read_octets(struct reader *r, void *dst, size_t n)
{
	if (r->failed || n > r->in.len) {
		r->failed = true;
		memset(dst, 0, n);
		return;
	}
	memcpy(dst, r->in.p, n);
	r->in = text_sub(r->in, n, r->in.len);
}

static uint8_t
read_u8(struct reader *r, uint8_t max)
{
	uint8_t n;

	read_octets(r, &n, sizeof(n));
	if (n > max) {
		r->failed = true;
		n = 0;
	}
	return n;
}

static uint16_t
read_u16(struct reader *r)
{
	uint16_t n;

	read_octets(r, &n, sizeof(n));
	return n;
}

static uint32_t
read_u32(struct reader *r)
{
	uint32_t n;

	read_octets(r, &n, sizeof(n));
	return n;
}

static uint64_t
read_u64(struct reader *r)
{
	uint64_t n;

	read_octets(r, &n, sizeof(n));
	return n;
}

/* A counted string into dst[size]; control octets do not belong into any of ours. */
static void
read_text(struct reader *r, char *dst, size_t size)
{
	size_t n = read_u16(r);

	dst[0] = '\0';
	if (r->failed || n > r->in.len || text_has(text_sub(r->in, 0, n), C_CNTRL) ||
	    text_copy(dst, size, text_sub(r->in, 0, n)) == -1) {
		r->failed = true;
		return;
	}
	r->in = text_sub(r->in, n, r->in.len);
}

/* Counted octets, left where they are. */
static struct span
read_span(struct reader *r, size_t max)
{
	size_t n = read_u16(r);
	struct span s = { 0 };

	if (r->failed || n > max || n > r->in.len) {
		r->failed = true;
		return s;
	}
	s = text_sub(r->in, 0, n);
	r->in = text_sub(r->in, n, r->in.len);
	return s;
}

static void
read_login(struct reader *r, struct login *l)
{
	read_text(r, l->user, sizeof(l->user));
	l->expires_time = (int64_t)read_u64(r);
	read_octets(r, l->ticket, sizeof(l->ticket));
}

static int
read_end(const struct reader *r)
{
	if (!r->failed && r->in.len == 0)
		return 0;
	errno = EBADMSG;
	return -1;
}

static void
add_u8(struct buf *b, unsigned n)
{
	buf_add_char(b, (char)n);
}

static void
add_u16(struct buf *b, size_t n)
{
	uint16_t v = (uint16_t)n;

	buf_add(b, &v, sizeof(v));
}

static void
add_u32(struct buf *b, uint32_t n)
{
	buf_add(b, &n, sizeof(n));
}

static void
add_u64(struct buf *b, uint64_t n)
{
	buf_add(b, &n, sizeof(n));
}

static void
add_text(struct buf *b, const char *s)
{
	size_t n = strlen(s);

	add_u16(b, n);
	buf_add(b, s, n);
}

static void
add_span(struct buf *b, struct span s)
{
	add_u16(b, s.len);
	buf_add_span(b, s);
}

static void
add_login(struct buf *b, const struct login *l)
{
	add_text(b, l->user);
	add_u64(b, (uint64_t)l->expires_time);
	buf_add(b, l->ticket, sizeof(l->ticket));
}

static void
add_verdict(struct buf *b, const struct verdict *v)
{
	add_u16(b, (size_t)v->code);
	add_text(b, v->esc);
	add_text(b, v->text);
}

static void
read_verdict(struct reader *r, struct verdict *v)
{
	v->code = read_u16(r);
	read_text(r, v->esc, sizeof(v->esc));
	read_text(r, v->text, sizeof(v->text));
	if (v->code > 599)
		r->failed = true;
}

static int
packed(const struct buf *b)
{
	if (!b->failed)
		return (int)buf_len(b);
	errno = EMSGSIZE;
	return -1;
}

int
ipc_pack_request(const struct request *q, void *dst)
{
	struct buf b;

	buf_fixed(&b, dst, IPC_MAX);
	add_u8(&b, q->kind);
	add_u32(&b, q->slot);
	add_u64(&b, q->session);
	switch (q->kind) {
	case REQ_CONNECT:
		add_u8(&b, q->resumed);
		add_u8(&b, q->login != NULL);
		if (q->login != NULL)
			add_login(&b, q->login);
		break;
	case REQ_AUTH:
		add_u8(&b, q->mechanism);
		add_span(&b, q->response);
		break;
	case REQ_MAIL:
		add_text(&b, q->helo);
		add_u8(&b, q->mechanism);
		add_u8(&b, q->esmtp);
		add_u8(&b, q->utf8);
		add_u16(&b, q->tls_version);
		add_u16(&b, q->tls_suite);
		add_text(&b, q->tls_name);
		add_u8(&b, q->body);
		add_text(&b, q->path);
		add_u64(&b, q->size);
		break;
	case REQ_RCPT:
		add_text(&b, q->path);
		break;
	case REQ_MESSAGE:
		add_u64(&b, q->size);
		add_u32(&b, q->data_ms);
		break;
	case REQ_RESET:
		add_u32(&b, q->data_ms);
		add_verdict(&b, &q->verdict);
		break;
	case REQ_DATA:
	case REQ_CLOSE:
	case REQ_NONE:
	case REQ__MAX:
		break;
	}
	return packed(&b);
}

int
ipc_unpack_request(struct request *q, struct login *login, const void *p, size_t len)
{
	struct reader r = { { p, len }, false };

	*q = (struct request){ .kind = (enum request_kind)read_u8(&r, REQ__MAX - 1) };
	q->slot = read_u32(&r);
	q->session = read_u64(&r);
	switch (q->kind) {
	case REQ_CONNECT:
		q->resumed = read_u8(&r, 1);
		if (read_u8(&r, 1) == 1) {
			read_login(&r, login);
			q->login = login;
		}
		break;
	case REQ_AUTH:
		q->mechanism = read_u8(&r, 15);
		q->response = read_span(&r, IPC_RESPONSE_MAX);
		break;
	case REQ_MAIL:
		read_text(&r, q->helo, sizeof(q->helo));
		q->mechanism = read_u8(&r, 15);
		q->esmtp = read_u8(&r, 1);
		q->utf8 = read_u8(&r, 1);
		q->tls_version = read_u16(&r);
		q->tls_suite = read_u16(&r);
		read_text(&r, q->tls_name, sizeof(q->tls_name));
		q->body = (enum smtp_body)read_u8(&r, SMTP_BODY__MAX - 1);
		read_text(&r, q->path, sizeof(q->path));
		q->size = read_u64(&r);
		break;
	case REQ_RCPT:
		read_text(&r, q->path, sizeof(q->path));
		break;
	case REQ_MESSAGE:
		q->size = read_u64(&r);
		q->data_ms = read_u32(&r);
		break;
	case REQ_RESET:
		q->data_ms = read_u32(&r);
		read_verdict(&r, &q->verdict);
		break;
	case REQ_DATA:
	case REQ_CLOSE:
		break;
	case REQ_NONE:
	case REQ__MAX:
		r.failed = true;
		break;
	}
	return read_end(&r);
}

int
ipc_pack_answer(const struct answer *a, void *dst)
{
	struct buf b;

	buf_fixed(&b, dst, IPC_MAX);
	add_u32(&b, a->slot);
	add_u64(&b, a->session);
	add_verdict(&b, &a->verdict);
	if (a->verdict.code == 235)
		add_login(&b, &a->login);
	return packed(&b);
}

int
ipc_unpack_answer(struct answer *a, const void *p, size_t len)
{
	struct reader r = { { p, len }, false };

	*a = (struct answer){ .slot = read_u32(&r), .fd = -1 };
	a->session = read_u64(&r);
	read_verdict(&r, &a->verdict);
	if (a->verdict.code == 235)
		read_login(&r, &a->login);
	return read_end(&r);
}

int
ipc_send(int sock, const void *p, size_t len, int fd)
{
	union {
		struct cmsghdr	align;
		char		octets[CMSG_SPACE(sizeof(int))];
	} control = { .octets = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)p, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd != -1) {
		struct cmsghdr *c;

		m.msg_control = control.octets;
		m.msg_controllen = sizeof(control.octets);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	for (;;) {
		if (sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL) != -1)
			return 0;
		if (errno != EINTR)
			return -1;
	}
}

/* Take the one descriptor that a datagram may bring; those over it are closed and make the datagram a bad one. */
static int
take_descriptors(struct msghdr *m, int *fd)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(m);	/* there is room for one only */
	/* without any: we are out of descriptors, which is not the sender's fault */
	bool bad = (m->msg_flags & MSG_TRUNC) != 0 || ((m->msg_flags & MSG_CTRUNC) != 0 && c != NULL);

	if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n; i++) {
			int got;

			memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (*fd == -1) {
				*fd = got;
			} else {
				close(got);
				bad = true;
			}
		}
	}
	if (!bad)
		return 0;
	if (*fd != -1)
		close(*fd);
	*fd = -1;
	errno = EBADMSG;
	return -1;
}

long
ipc_recv(int sock, void *dst, size_t size, int *fd)
{
	union {
		struct cmsghdr	align;
		char		octets[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec iov = { dst, size };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.octets,
	    .msg_controllen = sizeof(control.octets) };
	ssize_t n;

	*fd = -1;
	do
		n = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n == -1 && errno == EINTR);
	if (n == -1)
		return errno == ECONNRESET ? 0 : -1;
	return take_descriptors(&m, fd) == -1 ? -1 : (long)n;
}

int
ipc_pair(int sv[2])
{
	int size = SOCKET_BUFFER;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) == -1)
		return -1;
	/* a smaller buffer is only slower */
	for (int i = 0; i < 2; i++)
		(void)setsockopt(sv[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return 0;
}

int
ipc_send_control(int sock, enum control c, uint32_t number, int fd)
{
	char octets[5] = { (char)c };

	memcpy(octets + 1, &number, sizeof(number));
	return ipc_send(sock, octets, sizeof(octets), fd);
}

int
ipc_recv_control(int sock, enum control *c, uint32_t *number, int *fd)
{
	char octets[5];
	long n = ipc_recv(sock, octets, sizeof(octets), fd);

	if (n <= 0)
		return (int)n;
	if (n != (long)sizeof(octets) || octets[0] < 0 || octets[0] >= CTL__MAX) {
		if (*fd != -1)
			close(*fd);
		*fd = -1;
		errno = EBADMSG;
		return -1;
	}
	*c = (enum control)octets[0];
	memcpy(number, octets + 1, sizeof(*number));
	return 1;
}
