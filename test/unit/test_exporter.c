/*
 * test_exporter.c - requests to the metrics listener: what is one, and what it asks for (case 13.7); whether we are ready (case 14.1).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "exporter.h"

#define HOST "\r\nHost: a\r\n"
#define OPEN "Accept: application/openmetrics-text"

static const struct row {
	const char		*in;
	enum exporter_parse	 r;
	const char		*method, *path;
	bool			 close, openmetrics;
} rows[] = {
	{ "GET /metrics HTTP/1.1" HOST "\r\n", EXPORTER_REQUEST, "GET", "/metrics", false, false },
	{ "\r\nGET / HTTP/1.1" HOST "\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "HEAD /a?b=c HTTP/1.0\r\n\r\n", EXPORTER_REQUEST, "HEAD", "/a", true, false },
	{ "X-Y.z* /a HTTP/1.1" HOST "\r\n", EXPORTER_REQUEST, "X-Y.z*", "/a", false, false },
	{ "OPTIONS * HTTP/1.1" HOST "\r\n", EXPORTER_REQUEST, "OPTIONS", "*", false, false },
	{ "GET HTTP://a HTTP/1.1" HOST "\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "GET http://a/b/c?d HTTP/1.1" HOST "\r\n", EXPORTER_REQUEST, "GET", "/b/c", false, false },
	{ "GET / HTTP/1.1\r\nhOsT:\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "GET / HTTP/1.1" HOST "Connection: a, CLOSE\r\n\r\n", EXPORTER_REQUEST, "GET", "/", true, false },
	{ "GET / HTTP/1.1" HOST "Connection: closed\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", EXPORTER_REQUEST, "GET", "/", true, false },
	{ "GET / HTTP/1.1" HOST "Content-Length: 0\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "GET / HTTP/1.1" HOST "Content-Length: 1\r\n\r\n", EXPORTER_REQUEST, "GET", "/", true, false },
	{ "GET / HTTP/1.1" HOST "transfer-encoding: chunked\r\n\r\n", EXPORTER_REQUEST, "GET", "/", true, false },
	{ "GET / HTTP/1.1" HOST OPEN "\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, true },
	{ "GET / HTTP/1.1" HOST OPEN "; version=1.0.0; charset=utf-8\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, true },
	{ "GET / HTTP/1.1" HOST OPEN ";version=\"1.0.0\";q=0.001\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, true },
	{ "GET / HTTP/1.1" HOST OPEN ";version=0.0.1\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "GET / HTTP/1.1" HOST OPEN ";q=0\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "GET / HTTP/1.1" HOST OPEN ";q=0.000\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "GET / HTTP/1.1" HOST OPEN ";q=1.001\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "GET / HTTP/1.1" HOST OPEN ";q=0.0001\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "GET / HTTP/1.1" HOST OPEN ";q=05\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "GET / HTTP/1.1" HOST OPEN ";q=0.5, text/plain;q=0.5\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, true },
	{ "GET / HTTP/1.1" HOST OPEN ";q=0.5, text/plain;q=0.51\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "GET / HTTP/1.1" HOST OPEN ";q=0.5\r\nAccept: */*;q=0.6\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "GET / HTTP/1.1" HOST "Accept: ,;,a/b;,\r\n\r\n", EXPORTER_REQUEST, "GET", "/", false, false },
	{ "GET /metrics\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET /metrics\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.1\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "\r\n\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.1\r\nHost: a\n\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.1\r\nHost: a\r\n\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.2" HOST "\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.1 " HOST "\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / http/1.1" HOST "\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET  / HTTP/1.1" HOST "\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ " / HTTP/1.1" HOST "\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "G@T / HTTP/1.1" HOST "\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET a HTTP/1.1" HOST "\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET ?a HTTP/1.1" HOST "\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET https://a/ HTTP/1.1" HOST "\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET /\t HTTP/1.1" HOST "\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET /\x80 HTTP/1.1" HOST "\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.1\r\n\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.1" HOST "Host: a\r\n\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.0" HOST "Host: a\r\n\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.1" HOST "a b: c\r\n\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.1" HOST "a : c\r\n\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.1" HOST ": c\r\n\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.1" HOST "abc\r\n\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.1" HOST " abc\r\n\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.1" HOST "a: b\rc\r\n\r\n", EXPORTER_BAD, NULL, NULL, false, false },
	{ "GET / HTTP/1.1" HOST, EXPORTER_MORE, NULL, NULL, false, false },
	{ "", EXPORTER_MORE, NULL, NULL, false, false },
	{ "\r", EXPORTER_MORE, NULL, NULL, false, false },
};

static void
requests(void **state)
{
	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct row *row = &rows[i];
		struct span in = text_span(row->in);
		struct exporter_request q;

		print_message("%s\n", row->in);
		assert_int_equal(exporter_parse(in, &q), row->r);
		assert_int_equal(q.len, row->r == EXPORTER_REQUEST ? in.len : 0);
		assert_true(text_is(q.method, row->method == NULL ? "" : row->method));
		assert_true(text_is(q.path, row->path == NULL ? "" : row->path));
		assert_int_equal(q.close, row->close);
		assert_int_equal(q.openmetrics, row->openmetrics);
		/* cut anywhere it is the same, or not whole yet */
		for (size_t cut = 0; cut < in.len; cut++) {
			enum exporter_parse r = exporter_parse(text_sub(in, 0, cut), &q);

			assert_true(r == EXPORTER_MORE || (r == EXPORTER_BAD && row->r == EXPORTER_BAD));
		}
	}
}

/* At the bound, and one past it; whole or not. */
static void
size(void **state)
{
	static const char begin[] = "GET / HTTP/1.1" HOST "a: ";
	char text[EXPORTER_HEAD_MAX + 100];
	struct exporter_request q;

	for (size_t len = EXPORTER_HEAD_MAX - 2; len <= EXPORTER_HEAD_MAX + 2; len++) {
		print_message("%zu\n", len);
		memset(text, 'x', sizeof(text));
		memcpy(text, begin, sizeof(begin) - 1);
		assert_int_equal(exporter_parse((struct span){ text, len }, &q), len < EXPORTER_HEAD_MAX ? EXPORTER_MORE : EXPORTER_TOO_LARGE);
		memcpy(text + len - 4, "\r\n\r\n", 4);
		assert_int_equal(exporter_parse((struct span){ text, len }, &q), len <= EXPORTER_HEAD_MAX ? EXPORTER_REQUEST : EXPORTER_TOO_LARGE);
		assert_int_equal(q.len, len <= EXPORTER_HEAD_MAX ? len : 0);
	}
	memset(text, 'x', sizeof(text));	/* no line at all */
	assert_int_equal(exporter_parse((struct span){ text, sizeof(text) }, &q), EXPORTER_TOO_LARGE);
}

/* What follows a request is the next one's. */
static void
pipelined(void **state)
{
	static const char two[] = "GET /a HTTP/1.1" HOST "\r\nGET /b HTTP/1.1" HOST "\r\n";
	struct span in = { two, sizeof(two) - 1 };
	struct exporter_request q;

	assert_int_equal(exporter_parse(in, &q), EXPORTER_REQUEST);
	assert_true(text_is(q.path, "/a") && q.len == in.len / 2);
	in = text_sub(in, q.len, in.len);
	assert_int_equal(exporter_parse(in, &q), EXPORTER_REQUEST);
	assert_true(text_is(q.path, "/b") && q.len == in.len);
}

/* ---- readiness ---- */

static const struct {
	unsigned	 reasons;
	const char	*status, *text;
} states[] = {
	{ UNREADY_STARTING, " 503 ", "starting\n" },	/* without a word from the master */
	{ UNREADY_FRONT, " 503 ", "a listener without a front\n" },
	{ UNREADY_AGENT | UNREADY_FRONT, " 503 ", "no agent\na listener without a front\n" },
	{ UNREADY_STOPPING, " 503 ", "stopping\n" },
	{ 0, " 200 ", "ready\n" },
};

/* What GET /readyz is answered, up to the end of the connection. */
static void
ask(const struct sockaddr_un *address, socklen_t len, char text[1024])
{
	static const char request[] = "GET /readyz HTTP/1.1" HOST "Connection: close\r\n\r\n";
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	size_t have = 0;
	ssize_t n;

	assert_int_equal(connect(fd, (const struct sockaddr *)address, len), 0);
	assert_int_equal(send(fd, request, sizeof(request) - 1, 0), sizeof(request) - 1);
	while ((n = recv(fd, text + have, 1023 - have, 0)) > 0)
		have += (size_t)n;
	text[have] = '\0';
	close(fd);
}

static void
readiness(void **state)
{
	static char path[] = "/metrics";
	const struct config config = { .metrics_path = path };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(address.sun_family);	/* the kernel gives it a name */
	static struct exporter_args args;	/* nothing frees limits */
	int control[2], status;
	char text[1024];
	pid_t pid;

	args = (struct exporter_args){ .config = &config, .limits = limits_new(), .metrics = metrics_new(),
	    .listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0) };
	assert_non_null(args.limits);
	assert_non_null(args.metrics);
	assert_int_equal(bind(args.listen_fd, (struct sockaddr *)&address, len), 0);
	len = sizeof(address);
	assert_int_equal(getsockname(args.listen_fd, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(listen(args.listen_fd, 8), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, control), 0);
	args.control_fd = control[1];
	pid = fork();
	if (pid == 0) {
		close(control[0]);
		_exit(exporter_run(&args));
	}
	close(control[1]);
	for (size_t i = 0; i < COUNT(states); i++) {
		if (i > 0)
			metrics_unready(args.metrics, states[i].reasons);
		assert_int_equal(metrics_reasons(args.metrics), states[i].reasons);
		ask(&address, len, text);
		print_message("%s\n", text);
		assert_true(strncmp(text + strlen("HTTP/1.1"), states[i].status, strlen(states[i].status)) == 0);
		assert_non_null(strstr(text, "\r\n\r\n"));
		assert_string_equal(strstr(text, "\r\n\r\n") + 4, states[i].text);
	}
	close(control[0]);	/* the master is gone: it ends */
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(args.listen_fd);
	metrics_free(args.metrics);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(requests), cmocka_unit_test(size), cmocka_unit_test(pipelined),
	    cmocka_unit_test(readiness) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
