/*
 * healthcheck.c - smtpd healthcheck: is the server that has this configuration ready?
 */
#include "healthcheck.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "loop.h"

#define PATIENCE_MS 3000

/* Whether fd is ready for events before end_at. */
static bool
wait_for(int fd, short events, int64_t end_at)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = events };
		int64_t left = end_at - loop_clock_ms();
		int n = left <= 0 ? 0 : poll(&p, 1, (int)left);

		if (n == 0 || (n == -1 && errno != EINTR))
			return false;
		if (n == 1)
			return true;
	}
}

/* Read until the answer begins with good or cannot any more. */
static bool
begins_with(int fd, struct span good, int64_t end_at)
{
	char text[64];
	size_t len = 0;

	while (len < good.len) {
		ssize_t n;

		if (!wait_for(fd, POLLIN, end_at))
			return false;
		n = recv(fd, text + len, sizeof(text) - len, 0);
		if (n <= 0)
			return false;
		len += (size_t)n;
	}
	return text_eq(text_sub((struct span){ text, len }, 0, good.len), good);
}

static const char *
ask(int fd, const struct sockaddr *address, socklen_t len, enum healthcheck how, int64_t end_at)
{
	static const char request[] = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
	int error = 0;
	socklen_t size = sizeof(error);

	if (connect(fd, address, len) == -1 && errno != EINPROGRESS)
		return "it cannot be reached";
	if (!wait_for(fd, POLLOUT, end_at))
		return "it does not answer";
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == -1 || error != 0)
		return "it cannot be reached";
	switch (how) {
	case HEALTH_CONNECT:
		return NULL;
	case HEALTH_SMTP:
		return begins_with(fd, SPAN("220 "), end_at) ? NULL : "it does not greet with 220";
	case HEALTH_HTTP:
		/* a fresh socket has room for all of it */
		if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != (ssize_t)(sizeof(request) - 1))
			return "it cannot be asked";
		return begins_with(fd, SPAN("HTTP/1.1 200 "), end_at) ? NULL : "it is not ready";
	}
	return "it cannot be asked so";
}

const char *
healthcheck(const struct sockaddr *address, socklen_t len, enum healthcheck how)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const char *why;

	if (fd == -1)
		return "there is no socket";
	why = ask(fd, address, len, how, loop_clock_ms() + PATIENCE_MS);
	close(fd);
	return why;
}
