/*
 * peer_http.h - an HTTP server for tests, well and ill behaved: a process on a port of loopback, one child per connection.
 */
#ifndef PEER_HTTP_H
#define PEER_HTTP_H

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "text.h"

#define PEER_PAGES 4
#define PEER_BODY_MAX (512 * 1024)

/* What a test lets it say: shared with the test's process, that may change it while nothing is asked for. */
struct peer_page {
	char	 path[64];
	int	 status;
	char	 head[256];		/* more header fields, each with CR LF */
	char	 body[PEER_BODY_MAX];
};

struct peer {
	pid_t	 pid;
	int	 port;
	unsigned requests;		/* their heads read, changed atomically */
	unsigned connections;
	bool	 deaf;			/* each connection is closed at once */
	struct peer_page pages[PEER_PAGES];
};

static void
peer_send(int fd, const void *p, size_t n)
{
	const char *at = p;

	while (n > 0) {
		ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);

		if (sent <= 0)
			_exit(0);	/* the client has gone */
		at += sent;
		n -= (size_t)sent;
	}
}

static void
peer_say(int fd, const char *s)
{
	peer_send(fd, s, strlen(s));
}

/* Read what comes and throw it away, until the client has closed. */
static void
peer_drain(int fd)
{
	char data[65536];

	while (read(fd, data, sizeof(data)) > 0)
		continue;
}

/* One request's head into head[size]; false: the client has closed. Octets of its body that came with it stay in the socket. */
static bool
peer_head(int fd, char *head, size_t size)
{
	for (size_t n = 0; n + 1 < size; n++) {
		if (read(fd, head + n, 1) != 1)
			return false;
		head[n + 1] = '\0';
		if (n >= 3 && strcmp(head + n - 3, "\r\n\r\n") == 0)
			return true;
	}
	return false;
}

static size_t
peer_body_len(const char *head)
{
	const char *p = strstr(head, "\r\nContent-Length: ");

	return p == NULL ? 0 : (size_t)strtoul(p + 18, NULL, 10);
}

/* The body of a request; it may not be larger than this. */
static const char *
peer_body(int fd, size_t len)
{
	static char data[4 << 20];

	for (size_t n = 0; n < len;) {
		ssize_t got = n < sizeof(data) ? read(fd, data + n, len - n < sizeof(data) - n ? len - n : sizeof(data) - n) : -1;

		if (got <= 0)
			_exit(0);
		n += (size_t)got;
	}
	return data;
}

/* All of the request back: its head and its body. */
static void
peer_echo(int fd, const char *head, size_t body_len)
{
	char line[128];
	size_t n = strlen(head);
	const char *body = peer_body(fd, body_len);

	(void)snprintf(line, sizeof(line), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n + body_len);
	peer_say(fd, line);
	peer_send(fd, head, n);
	peer_send(fd, body, body_len);
}

/* The same again and again, until the client has gone; a pause of pause_ms between two. */
static void
peer_repeat(int fd, const char *start, const char *s, int pause_ms)
{
	peer_say(fd, start);
	for (;;) {
		peer_say(fd, s);
		if (pause_ms > 0)
			(void)poll(NULL, 0, pause_ms);
	}
}

static void
peer_page(int fd, const struct peer_page *p)
{
	char line[512];

	(void)snprintf(line, sizeof(line), "HTTP/1.1 %d Page\r\n%sContent-Length: %zu\r\n\r\n", p->status, p->head, strlen(p->body));
	peer_say(fd, line);
	peer_say(fd, p->body);
}

#define PEER_OK "HTTP/1.1 200 OK\r\n"
#define PEER_LINE "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct { const char *path, *text; bool stay; } peer_answers[] = {
	{ "/good", PEER_OK "Content-Type: application/json; charset=utf-8\r\nCache-Control: public, max-age=300\r\n"
	    "Content-Length: 5\r\n\r\nhello", true },
	{ "/empty", PEER_OK "Content-Length: 0\r\n\r\n", true },
	{ "/chunked", PEER_OK "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", true },
	{ "/trailer", PEER_OK "Transfer-Encoding: chunked\r\nContent-Type: a/b\r\n\r\n5\r\nhello\r\n0\r\n"
	    "Content-Type: evil/x\r\nCache-Control: max-age=1\r\n\r\n", true },
	{ "/informed", "HTTP/1.1 103 Early Hints\r\nCache-Control: max-age=1\r\nContent-Type: evil/x\r\n\r\n"
	    PEER_OK "Content-Type: a/b\r\nContent-Length: 5\r\n\r\nhello", true },
	{ "/caches", PEER_OK "Cache-Control: max-age=300\r\ncache-control: private, max-age=200\r\nContent-Length: 5\r\n\r\nhello", true },
	{ "/no-store", PEER_OK "Cache-Control: no-store\r\nContent-Length: 5\r\n\r\nhello", true },
	{ "/404", "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", true },
	{ "/500", "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno", true },
	{ "/redirect", "HTTP/1.1 302 Found\r\nLocation: /good\r\nContent-Length: 0\r\n\r\n", true },
	{ "/gzip", PEER_OK "Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", true },
	{ "/by-close", PEER_OK "\r\nhello", false },
	{ "/once", PEER_OK "Content-Length: 5\r\n\r\nhello", false },
	{ "/short", PEER_OK "Content-Length: 10\r\n\r\nhello", false },
	{ "/half-head", PEER_OK "Content-Length: 0\r\n", false },
	{ "/half-head-again", "HTTP/1.1 103 Hints\r\n\r\n" PEER_OK "Content-L", false },
	{ "/no-end", PEER_OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false },
	{ "/bad-chunk", PEER_OK "Transfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n", false },
	{ "/coded", PEER_OK "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false },
	{ "/garbage", "\x01\x02 garbage \xff\xfe\r\n\r\n", false },
	{ "/old", "hello\n", false },
	{ "/silent", "", false },
	{ "/huge", PEER_OK "Content-Length: 104857600\r\n\r\nhello", true },
	{ "/negative", PEER_OK "Content-Length: -5\r\n\r\nhello", false },
	{ "/two-lengths", PEER_OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", false },
};

static void
peer_serve(struct peer *p, int fd)
{
	static char head[65536];
	const char *dies = NULL;

	while (peer_head(fd, head, sizeof(head))) {
		const char *from = strchr(head, ' '), *to = from == NULL ? NULL : strchr(from + 1, ' ');
		struct span path = to == NULL ? SPAN("") : (struct span){ from + 1, (size_t)(to - from - 1) };
		bool found = false;

		__atomic_add_fetch(&p->requests, 1, __ATOMIC_SEQ_CST);
		if (dies != NULL) {	/* when the client asks a second time */
			peer_say(fd, dies);
			_exit(0);
		}
		for (size_t i = 0; i < PEER_PAGES && !found; i++) {
			found = p->pages[i].path[0] != '\0' && text_is(path, p->pages[i].path);
			if (found)
				peer_page(fd, &p->pages[i]);
		}
		for (size_t i = 0; i < COUNT(peer_answers) && !found; i++) {
			found = text_is(path, peer_answers[i].path);
			if (found)
				peer_say(fd, peer_answers[i].text);
			if (found && !peer_answers[i].stay)
				return;
		}
		if (found)
			continue;
		if (text_is(path, "/echo")) {
			peer_echo(fd, head, peer_body_len(head));
		} else if (text_is(path, "/echo-once")) {	/* it is gone when asked again on this connection */
			peer_echo(fd, head, peer_body_len(head));
			dies = "";
		} else if (text_is(path, "/echo-half")) {	/* the same, but it begins to answer */
			peer_echo(fd, head, peer_body_len(head));
			dies = PEER_OK "Content-L";
		} else if (text_is(path, "/drip")) {
			peer_repeat(fd, PEER_OK "Content-Length: 100000\r\n\r\n", "x", 5);
		} else if (text_is(path, "/endless")) {
			peer_repeat(fd, PEER_OK "\r\n", PEER_LINE, 0);
		} else if (text_is(path, "/endless-chunks")) {
			peer_repeat(fd, PEER_OK "Transfer-Encoding: chunked\r\n\r\n", "40\r\n" PEER_LINE "\r\n", 0);
		} else if (text_is(path, "/endless-head")) {
			peer_repeat(fd, PEER_OK, "X-Field: " PEER_LINE "\r\n", 0);
		} else if (text_is(path, "/endless-line")) {
			peer_repeat(fd, PEER_OK "X-Field: ", PEER_LINE, 0);
		} else if (text_is(path, "/endless-hints")) {
			peer_repeat(fd, "", "HTTP/1.1 103 Hints\r\n\r\n", 0);
		} else if (text_is(path, "/early")) {		/* it answers before it has read the body (case 11.5) */
			peer_say(fd, "HTTP/1.1 413 Too large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
			(void)shutdown(fd, SHUT_WR);
			peer_drain(fd);
			return;
		} else if (text_is(path, "/early-good")) {	/* and then it reads what comes */
			peer_say(fd, PEER_OK "Content-Length: 5\r\n\r\nhello");
			(void)peer_body(fd, peer_body_len(head));
		} else if (text_is(path, "/early-empty")) {
			peer_say(fd, PEER_OK "Content-Length: 0\r\n\r\n");
			(void)peer_body(fd, peer_body_len(head));
		} else if (text_is(path, "/early-close")) {
			peer_say(fd, PEER_OK "Content-Length: 5\r\nConnection: close\r\n\r\nhello");
			(void)shutdown(fd, SHUT_WR);
			peer_drain(fd);
			return;
		} else if (text_is(path, "/stops")) {		/* in the middle of the body (case 11.4) */
			return;
		} else {
			peer_drain(fd);				/* "/hang", and what there is not */
			return;
		}
	}
}

static void
peer_main(struct peer *p, int listen_fd)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int fd = accept(listen_fd, NULL, NULL);

		if (fd == -1)
			continue;
		__atomic_add_fetch(&p->connections, 1, __ATOMIC_SEQ_CST);
		if (!p->deaf && fork() == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			peer_serve(p, fd);
			_exit(0);
		}
		close(fd);
	}
}

/* Any port, or that of a peer that was stopped. NULL: it cannot be started. */
static struct peer *
peer_start(int port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) }, .sin_port = htons((uint16_t)port) };
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	struct peer *p = mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	if (fd == -1 || p == MAP_FAILED || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == -1 ||
	    bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == -1 || listen(fd, 128) == -1 ||
	    getsockname(fd, (struct sockaddr *)&sin, &len) == -1 || (pid = fork()) == -1)
		return NULL;
	if (pid == 0)
		peer_main(p, fd);
	close(fd);
	p->pid = pid;
	p->port = ntohs(sin.sin_port);
	return p;
}

/* Its connections end with it. */
static void
peer_stop(struct peer *p)
{
	(void)kill(p->pid, SIGKILL);
	(void)waitpid(p->pid, NULL, 0);
	(void)munmap(p, sizeof(*p));
}

#endif
