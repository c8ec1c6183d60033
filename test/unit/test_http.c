/*
 * test_http.c - HTTP against a server of every kind (cases 8.42, 11.1 to 11.10): one outcome for each call, in time, and nothing left.
 */
#include "http.h"

#include <fcntl.h>
#include <netdb.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/un.h>

#include <cmocka.h>

#include "waits.h"
#include "peer_http.h"

#define MAX 20

static struct loop loop;
static struct http *http;
static struct peer *peer;

/* What libcurl's thread asks for a name: it hangs until the test lets it go (case 11.8), or knows nothing. */
static sem_t resolver_gate, resolver_asked;

int
getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
    struct addrinfo **restrict res)
{
	if (node != NULL && strcmp(node, "slow.test") == 0) {
		sem_post(&resolver_asked);
		while (sem_wait(&resolver_gate) == -1)
			continue;
	}
	return EAI_NONAME;
}

/* What a call has reported. */
struct report {
	unsigned	 calls;
	int		 status;
	char		 error[256], type[128];
	char		*body;		/* owned; with a NUL */
	size_t		 body_len;
	int64_t		 max_age_s, took_us;
};

static void
note(void *arg, const struct http_answer *a)
{
	struct report *r = arg;

	r->calls++;
	r->status = a->status;
	r->max_age_s = a->max_age_s;
	r->took_us = a->took_us;
	assert_int_equal(text_copy(r->error, sizeof(r->error), text_span(a->error)), 0);
	assert_int_equal(text_copy(r->type, sizeof(r->type), text_span(a->content_type)), 0);
	assert_true((a->status == 0) == (a->error[0] != '\0'));
	assert_int_equal(a->timed_out, strstr(a->error, "timed out") != NULL);
	for (const char *p = a->error; *p != '\0'; p++)
		assert_true(is_vchar(*p) || *p == ' ');
	r->body = malloc(a->body.len + 1);
	assert_non_null(r->body);
	if (a->body.len > 0)
		memcpy(r->body, a->body.p, a->body.len);
	r->body[a->body.len] = '\0';
	r->body_len = a->body.len;
}

static void
forget(struct report *r)
{
	free(r->body);
	*r = (struct report){ 0 };
}

static const char *
url_at(const struct peer *p, const char *path, char *dst, size_t size)
{
	(void)snprintf(dst, size, "http://127.0.0.1:%d%s", p->port, path);
	return dst;
}

static const char *
url_of(const char *path, char *dst, size_t size)
{
	return url_at(peer, path, dst, size);
}

/* A GET with bounds that no good answer reaches; the test changes what it is about. */
static struct http_request
request(const char *url)
{
	return (struct http_request){ .url = url, .body_fd = -1, .answer_max = 4096, .connect_ms = 5000, .total_ms = 10000 };
}

static struct http_call *
start(struct report *r, const struct http_request *q)
{
	struct http_call *c;

	*r = (struct report){ 0 };
	c = http_start(http, q, note, r);
	assert_int_equal(r->calls, 0);		/* never from inside */
	return c;
}

static void
run(struct report *r, const struct http_request *q)
{
	assert_non_null(start(r, q));
	wait_for(r);
}

static int
setup(void **state)
{
	peer = peer_start(0);
	if (peer == NULL || loop_init(&loop, 200) == -1)
		return -1;
	http = http_new(&loop, MAX);
	return http == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	http_free(http);
	loop_clear(&loop);
	peer_stop(peer);
	return 0;
}

struct row {
	const char	*path;
	int		 status;	/* 0: a failure, with part of its text */
	const char	*text;		/* the body, or part of the error */
	const char	*type;
	int64_t		 max_age_s;
	size_t		 answer_max;	/* 0: as usual */
	int64_t		 total_ms;	/* 0: as usual */
};

static const struct row rows[] = {
	{ "/good", 200, "hello", "application/json; charset=utf-8", 300, 0, 0 },
	{ "/good", 200, "hello", "application/json; charset=utf-8", 300, 5, 0 },
	{ "/good", 0, "too long", NULL, 0, 4, 0 },
	{ "/empty", 200, "", "", -1, 0, 0 },
	{ "/chunked", 200, "hello", "", -1, 0, 0 },
	{ "/chunked", 200, "hello", "", -1, 5, 0 },
	{ "/chunked", 0, "too long", NULL, 0, 4, 0 },
	{ "/trailer", 200, "hello", "a/b", -1, 0, 0 },
	{ "/informed", 200, "hello", "a/b", -1, 0, 0 },
	{ "/caches", 200, "hello", "", 200, 0, 0 },
	{ "/no-store", 200, "hello", "", 0, 0, 0 },
	{ "/404", 404, "no", "", -1, 0, 0 },
	{ "/500", 500, "no", "", -1, 0, 0 },
	{ "/redirect", 302, "", "", -1, 0, 0 },	/* and it goes nowhere */
	{ "/gzip", 200, "hello", "", -1, 0, 0 },	/* as it is */
	{ "/by-close", 200, "hello", "", -1, 0, 0 },
	{ "/once", 200, "hello", "", -1, 0, 0 },
	{ "/once", 200, "hello", "", -1, 0, 0 },
	{ "/short", 0, "", NULL, 0, 0, 0 },
	{ "/half-head", 0, "ends in its header", NULL, 0, 0, 0 },
	{ "/half-head-again", 0, "ends in its header", NULL, 0, 0, 0 },
	{ "/no-end", 0, "", NULL, 0, 0, 0 },
	{ "/bad-chunk", 0, "", NULL, 0, 0, 0 },
	{ "/coded", 0, "", NULL, 0, 0, 0 },
	{ "/garbage", 0, "HTTP/0.9", NULL, 0, 0, 0 },
	{ "/old", 0, "HTTP/0.9", NULL, 0, 0, 0 },
	{ "/silent", 0, "Empty reply", NULL, 0, 0, 0 },
	{ "/negative", 0, "Content-Length", NULL, 0, 0, 0 },
	{ "/huge", 0, "too long", NULL, 0, 4, 0 },
	{ "/huge", 0, "timed out", NULL, 0, 0, 200 },
	{ "/drip", 0, "too long", NULL, 0, 10, 0 },
	{ "/drip", 0, "timed out", NULL, 0, 0, 200 },
	{ "/endless", 0, "too long", NULL, 0, 0, 0 },
	{ "/endless-chunks", 0, "too long", NULL, 0, 0, 0 },
	{ "/endless-head", 0, "", NULL, 0, 0, 0 },
	{ "/endless-line", 0, "", NULL, 0, 0, 0 },
	{ "/endless-hints", 0, "", NULL, 0, 0, 0 },
	{ "/hang", 0, "timed out", NULL, 0, 0, 100 },
	{ "/good", 200, "hello", "application/json; charset=utf-8", 300, 0, 0 },
};

static void
test_answers(void **state)
{
	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct row *row = &rows[i];
		char url[128];
		struct http_request q = request(url_of(row->path, url, sizeof(url)));
		struct report r;

		print_message("  %s answer_max %zu total_ms %d\n", row->path, row->answer_max, (int)row->total_ms);
		if (row->answer_max > 0)
			q.answer_max = row->answer_max;
		if (row->total_ms > 0)
			q.total_ms = row->total_ms;
		run(&r, &q);
		print_message("    %d \"%.60s\" %s\n", r.status, r.body, r.error);
		assert_int_equal(r.status, row->status);
		assert_true(r.took_us + 5000 >= row->total_ms * 1000);	/* libcurl counts in milliseconds */
		if (row->status == 0) {
			assert_non_null(strstr(r.error, row->text));
			assert_int_equal(r.body_len, 0);
		} else {
			assert_string_equal(r.body, row->text);
			assert_string_equal(r.type, row->type);
			assert_int_equal(r.max_age_s, row->max_age_s);
		}
		forget(&r);
		assert_int_equal(http_running(http), 0);
	}
}

/* The head is what we have asked for and no more: nothing of a proxy, of cookies, of codings. */
static void
test_request_head(void **state)
{
	static const char *const headers[] = { "X-One: 1", "X-Two: a, b", "Content-Type: text/plain", NULL };
	char url[128], want[256];
	struct http_request q = request(url_of("/echo", url, sizeof(url)));
	struct report r;

	assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1/", 1), 0);
	run(&r, &q);
	(void)snprintf(want, sizeof(want), "GET /echo HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: smtpd\r\nAccept: */*\r\n\r\n", peer->port);
	assert_string_equal(r.body, want);
	forget(&r);
	q.post = true;
	q.headers = headers;
	run(&r, &q);
	(void)snprintf(want, sizeof(want), "POST /echo HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: smtpd\r\nAccept: */*\r\n"
	    "X-One: 1\r\nX-Two: a, b\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n", peer->port);
	assert_string_equal(r.body, want);
	forget(&r);
	assert_int_equal(unsetenv("http_proxy"), 0);
}

/* A file of len octets, each telling its place. */
static int
body_file(size_t len)
{
	int fd = memfd_create("body", MFD_CLOEXEC);
	char *data = malloc(len + 1);

	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		data[i] = (char)('a' + i % 23);
	assert_true(fd != -1 && write(fd, data, len) == (ssize_t)len);
	free(data);
	return fd;
}

static void
assert_body(const struct report *r, uint64_t at, uint64_t len)
{
	const char *p = r->body + (r->body_len - len);

	assert_int_equal(r->status, 200);
	assert_true(r->body_len > len);
	for (uint64_t i = 0; i < len; i++)
		if (p[i] != (char)('a' + (at + i) % 23))
			fail_msg("octet %d is another", (int)i);
}

static void
test_body_is_sent_from_its_place(void **state)
{
	static const struct { uint64_t at, len; } bodies[] = {
		{ 0, 0 }, { 0, 1 }, { 65536, 1 }, { 65536, 65536 }, { 1, 1 << 20 }, { 7, (3 << 20) - 7 },
	};
	int fd = body_file(3 << 20);

	for (size_t i = 0; i < COUNT(bodies); i++) {
		char url[128];
		struct http_request q = request(url_of("/echo", url, sizeof(url)));
		struct report r;

		print_message("  at %d len %d\n", (int)bodies[i].at, (int)bodies[i].len);
		q.post = true;
		q.body_fd = fd;
		q.body_at = bodies[i].at;
		q.body_len = bodies[i].len;
		q.answer_max = 4 << 20;
		run(&r, &q);
		assert_body(&r, bodies[i].at, bodies[i].len);
		assert_null(strstr(r.body, "Expect:"));
		forget(&r);
		q.body_len = (3 << 20) - q.body_at + 1;		/* one octet more than there is */
		run(&r, &q);
		assert_int_equal(r.status, 0);
		assert_non_null(strstr(r.error, "shorter"));
		forget(&r);
		q.body_fd = 1023;				/* that is open nowhere */
		run(&r, &q);
		assert_int_equal(r.status, 0);
		assert_non_null(strstr(r.error, "cannot be read"));
		forget(&r);
	}
	close(fd);
}

/* Case 11.9: the kept connection is dead, which shows only when the request is on its way. */
static void
test_dead_kept_connection_is_tried_again(void **state)
{
	int fd = body_file(100000);
	struct peer *own = peer_start(0);	/* that has counted nothing */

	assert_non_null(own);
	for (int i = 0; i < 3; i++) {
		char url[128];
		struct http_request q = request(url_at(own, "/echo-once", url, sizeof(url)));
		struct report r;

		q.post = true;
		q.body_fd = fd;
		q.body_at = 3;
		q.body_len = 90000;
		q.answer_max = 1 << 20;
		run(&r, &q);
		assert_body(&r, 3, 90000);
		forget(&r);
	}
	assert_int_equal(own->connections, 3);
	assert_int_equal(own->requests, 5);	/* two of them in vain */
	peer_stop(own);
	close(fd);
}

/* Case 11.9: it has begun to answer, so it may have done what it was asked to. Less than a line of it libcurl takes for nothing. */
static void
test_begun_answer_is_not_asked_for_again(void **state)
{
	struct peer *own = peer_start(0);
	char url[128];
	struct http_request q;
	struct report r;

	assert_non_null(own);
	q = request(url_at(own, "/echo-half", url, sizeof(url)));
	q.post = true;
	run(&r, &q);
	assert_int_equal(r.status, 200);
	forget(&r);
	run(&r, &q);
	print_message("  %d %s\n", r.status, r.error);
	assert_string_equal(r.error, "the answer ends in its header");
	forget(&r);
	assert_int_equal(own->connections, 1);
	assert_int_equal(own->requests, 2);
	peer_stop(own);
}

static void
test_connection_is_kept(void **state)
{
	struct peer *own = peer_start(0);

	assert_non_null(own);
	for (int i = 0; i < 5; i++) {
		char url[128];
		struct http_request q = request(url_at(own, i % 2 == 0 ? "/good" : "/404", url, sizeof(url)));
		struct report r;

		run(&r, &q);
		assert_true(r.status > 0);
		forget(&r);
	}
	assert_int_equal(own->connections, 1);
	assert_int_equal(own->requests, 5);
	peer_stop(own);
}

/* Cases 11.4 and 11.5. */
static void
test_server_that_does_not_read_the_body(void **state)
{
	const size_t large = 64 << 20;	/* more than both sockets take */
	static const char *const early[] = { "/early-good", "/early-empty", "/early-close" };
	int fd = body_file(large);
	char url[128];
	struct http_request q = request(url_of("/early", url, sizeof(url)));
	struct report r;

	q.post = true;
	q.body_fd = fd;
	q.body_len = large;
	run(&r, &q);
	assert_int_equal(r.status, 413);
	assert_string_equal(r.body, "no");
	forget(&r);
	for (size_t i = 0; i < COUNT(early); i++) {
		print_message("  %s\n", early[i]);
		q.url = url_of(early[i], url, sizeof(url));
		run(&r, &q);
		print_message("    %d \"%.60s\" %s\n", r.status, r.body, r.error);
		assert_int_equal(r.status, 0);
		assert_true(r.error[0] != '\0');	/* that it answered too early, or that the connection was reset, whichever is seen first */
		forget(&r);
	}
	q.url = url_of("/stops", url, sizeof(url));
	run(&r, &q);
	assert_int_equal(r.status, 0);
	forget(&r);
	q.url = url_of("/hang", url, sizeof(url));
	q.total_ms = 100;
	run(&r, &q);
	assert_non_null(strstr(r.error, "timed out"));
	forget(&r);
	close(fd);
}

/* Cases 11.1 and 11.4: nobody listens; each connection is closed at once. */
static void
test_no_server(void **state)
{
	char url[128];
	struct http_request q = request("http://127.0.0.1:1/");
	struct report r;
	struct peer *deaf = peer_start(0);

	run(&r, &q);
	assert_int_equal(r.status, 0);
	assert_non_null(strstr(r.error, "onnect"));
	forget(&r);
	assert_non_null(deaf);
	deaf->deaf = true;
	q.url = url_at(deaf, "/good", url, sizeof(url));
	for (int i = 0; i < 3; i++) {
		run(&r, &q);
		assert_int_equal(r.status, 0);
		assert_null(strstr(r.error, "timed out"));
		forget(&r);
	}
	peer_stop(deaf);
	q.url = "http://nowhere.test/";
	run(&r, &q);
	assert_non_null(strstr(r.error, "resolve"));
	forget(&r);
	q.url = "http://[::1]:1/";
	run(&r, &q);
	assert_int_equal(r.status, 0);
	forget(&r);
}

/* Case 11.1: the queue of those not accepted is full, the kernel lets a connection hang. */
static void
test_connection_that_hangs(void **state)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fill = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct http_request q;
	struct report r;
	char url[128];

	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	assert_int_equal(connect(fill, (struct sockaddr *)&in, sizeof(in)), 0);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/", ntohs(in.sin_port));
	q = request(url);
	q.connect_ms = 200;
	run(&r, &q);
	assert_int_equal(r.status, 0);
	assert_non_null(strstr(r.error, "timed out"));
	assert_true(r.took_us >= 195000 && r.took_us < 2000000);
	forget(&r);
	close(fill);
	close(fd);
}

/* Case 11.8: neither a time that is over nor a cancelled call waits for the look-up of a name. */
static void
test_slow_name(void **state)
{
	struct http_request q = request("http://slow.test/");
	struct report r, cancelled;
	struct http_call *c;

	q.total_ms = 200;
	run(&r, &q);
	assert_non_null(strstr(r.error, "timed out"));
	forget(&r);
	q.connect_ms = q.total_ms = 60000;
	c = start(&cancelled, &q);
	assert_non_null(c);
	q.connect_ms = 100;
	run(&r, &q);
	assert_non_null(strstr(r.error, "timed out"));
	forget(&r);
	http_cancel(c);
	assert_int_equal(cancelled.calls, 0);
	assert_int_equal(http_running(http), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(sem_wait(&resolver_asked), 0);
		assert_int_equal(sem_post(&resolver_gate), 0);
	}
}

static void
test_what_is_refused(void **state)
{
	static const char *const urls[] = {
		"", "127.0.0.1/", "ftp://127.0.0.1/", "file:///etc/passwd", "smtp://127.0.0.1/", "http:/x", "//x/", "http://x/\r\nA: b",
		"http://x/a b", "http://x/\n", "http://x/\x7f", " http://x/", "http://x/\t",
	};
	static const char *const lines[] = {
		"", ":", ": x", "X", "X y: z", "X: y\r\nZ: a", "X: y\n", "X: y\r", "X\r\n: y", "X: \x01", "X: a\tb", "X\x80: y",
	};
	struct http_request q = request("http://127.0.0.1:1/");
	struct report r;

	for (size_t i = 0; i < COUNT(urls); i++) {
		struct http_request bad = request(urls[i]);

		print_message("  %s\n", urls[i]);
		errno = 0;
		assert_null(start(&r, &bad));
		assert_int_equal(errno, EINVAL);
	}
	for (size_t i = 0; i < COUNT(lines); i++) {
		const char *const headers[] = { "Good: 1", lines[i], NULL };

		print_message("  %s\n", lines[i]);
		q.headers = headers;
		errno = 0;
		assert_null(start(&r, &q));
		assert_int_equal(errno, EINVAL);
	}
	assert_int_equal(http_running(http), 0);
}

static void
test_ca_file(void **state)
{
	struct http_request q = request("");
	char url[128];
	struct report r;

	(void)snprintf(url, sizeof(url), "https://127.0.0.1:%d/good", peer->port);
	q.url = url;
	q.ca_file = "/nonexistent/ca.pem";
	run(&r, &q);
	print_message("  %s\n", r.error);
	assert_int_equal(r.status, 0);
	assert_non_null(strstr(r.error, "/nonexistent/ca.pem"));
	forget(&r);
	/* it is no TLS server: whatever is said, it is no answer */
	q.ca_file = NULL;
	q.total_ms = 200;
	run(&r, &q);
	assert_int_equal(r.status, 0);
	forget(&r);
}

static void
test_unix_socket(void **state)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char dir[] = "/tmp/test_http.XXXXXX";
	struct http_request q = request("http://any.test/page");
	struct report r;
	pid_t pid;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_non_null(mkdtemp(dir));
	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/s", dir);
	assert_true(fd != -1 && bind(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0 && listen(fd, 1) == 0);
	pid = fork();
	if (pid == 0)
		peer_main(peer, fd);
	close(fd);
	strncpy(peer->pages[0].path, "/page", sizeof(peer->pages[0].path) - 1);
	strncpy(peer->pages[0].body, "here", sizeof(peer->pages[0].body) - 1);
	peer->pages[0].status = 200;
	q.unix_socket = sun.sun_path;
	run(&r, &q);
	assert_int_equal(r.status, 200);
	assert_string_equal(r.body, "here");
	forget(&r);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(unlink(sun.sun_path), 0);
	assert_int_equal(rmdir(dir), 0);
	run(&r, &q);
	assert_int_equal(r.status, 0);
	forget(&r);
}

/* As many as are allowed, at once: some end, some are cancelled, one more is refused. */
static void
test_many_at_once(void **state)
{
	static const char *const paths[] = { "/good", "/hang", "/chunked", "/drip" };
	struct report r[MAX], more;
	struct http_call *c[MAX];
	char url[128];

	for (size_t i = 0; i < MAX; i++) {
		struct http_request q = request(url_of(paths[i % COUNT(paths)], url, sizeof(url)));

		q.total_ms = 60000;
		c[i] = start(&r[i], &q);
		assert_non_null(c[i]);
	}
	assert_int_equal(http_running(http), MAX);
	{
		struct http_request q = request(url_of("/good", url, sizeof(url)));

		errno = 0;
		assert_null(start(&more, &q));
		assert_int_equal(errno, EAGAIN);
	}
	for (size_t i = 0; i < MAX; i += 2) {
		wait_for(&r[i]);
		assert_int_equal(r[i].status, 200);
		forget(&r[i]);
	}
	assert_int_equal(http_running(http), MAX / 2);
	for (size_t i = 1; i < MAX; i += 2) {
		assert_int_equal(r[i].calls, 0);
		http_cancel(c[i]);
	}
	assert_int_equal(http_running(http), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(loop_turn(&loop, 10), 0);
	for (size_t i = 1; i < MAX; i += 2)
		assert_int_equal(r[i].calls, 0);
}

/* What nobody waits for leaves places to the others (case 11.10). */
static void
test_few_are_unhurried(void **state)
{
	struct report r[HTTP_UNHURRIED_MAX], more;
	struct http_call *c[HTTP_UNHURRIED_MAX], *other;
	char url[128];
	struct http_request q = request(url_of("/hang", url, sizeof(url)));

	q.unhurried = true;
	for (size_t i = 0; i < HTTP_UNHURRIED_MAX; i++)
		assert_non_null(c[i] = start(&r[i], &q));
	errno = 0;
	assert_null(start(&more, &q));
	assert_int_equal(errno, EAGAIN);
	q.unhurried = false;
	other = start(&more, &q);
	assert_non_null(other);
	http_cancel(other);
	http_cancel(c[0]);
	q.unhurried = true;
	q.total_ms = 100;
	run(&r[0], &q);
	assert_int_equal(r[0].status, 0);
	forget(&r[0]);
	run(&r[0], &q);		/* also in the place of one that has ended by itself */
	forget(&r[0]);
	for (size_t i = 1; i < HTTP_UNHURRIED_MAX; i++)
		http_cancel(c[i]);
	assert_int_equal(http_running(http), 0);
}

/* A done that starts the next call, in the place that it leaves, and ends another. */
struct chain {
	struct report	 last;
	struct http_call *other;
	int		 left;
	char		 url[128];
};

static void
next(void *arg, const struct http_answer *a)
{
	struct chain *chain = arg;
	struct http_request q = request(chain->url);

	assert_int_equal(a->status, 200);
	http_cancel(chain->other);
	chain->other = NULL;
	if (chain->left-- > 0)
		assert_non_null(http_start(http, &q, next, chain));
	else
		note(&chain->last, a);
}

static void
test_done_may_start_and_cancel(void **state)
{
	struct chain chain = { .left = 3 };
	char url[128];
	struct http_request q = request(url_of("/hang", url, sizeof(url)));
	struct report hanging;

	(void)url_of("/good", chain.url, sizeof(chain.url));
	chain.other = start(&hanging, &q);
	assert_non_null(chain.other);
	q.url = chain.url;
	assert_non_null(http_start(http, &q, next, &chain));
	wait_for(&chain.last);
	assert_int_equal(hanging.calls, 0);
	forget(&chain.last);
}

/* No slot in the loop is the failure of one call. Nothing is left when all is freed, under way or not. */
static void
test_full_loop_and_free(void **state)
{
	int fds = count_fds();
	struct loop small;
	struct http *h;
	struct report r[3];
	char url[128];
	struct http_request q = request(url_of("/hang", url, sizeof(url)));

	assert_int_equal(loop_init(&small, 3), 0);
	h = http_new(&small, 3);
	assert_non_null(h);
	for (size_t i = 0; i < COUNT(r); i++) {
		r[i] = (struct report){ 0 };
		assert_non_null(http_start(h, &q, note, &r[i]));
	}
	for (int64_t end = loop_clock_ms() + 5000; http_running(h) == 3 && loop_clock_ms() < end;)
		assert_int_equal(loop_turn(&small, 100), 0);
	assert_int_equal(http_running(h), 2);
	for (size_t i = 0; i < COUNT(r); i++) {
		if (r[i].calls == 1)
			assert_string_equal(r[i].error, "too many sockets");
		forget(&r[i]);
	}
	http_free(h);
	assert_int_equal(small.n, 1);		/* its own */
	loop_clear(&small);
	assert_int_equal(count_fds(), fds);
	http_free(NULL);
}

static void
test_max_age(void **state)
{
	static const struct { const char *in; int64_t want; } ages[] = {
		{ "", -1 }, { "max-age=0", 0 }, { "max-age=300", 300 }, { "MAX-AGE=300", 300 }, { "public, max-age=300", 300 },
		{ "max-age=300,max-age=200", 200 }, { "max-age=200, max-age=300", 200 }, { "max-age=\"300\"", 300 }, { "\tmax-age=300 ", 300 },
		{ "public", -1 }, { "max-age", 0 }, { "max-age=", 0 }, { "max-age=\"\"", 0 }, { "max-age=\"", 0 }, { "max-age=-1", 0 },
		{ "max-age=1.5", 0 }, { "max-age=x", 0 }, { "max-age =5", -1 }, { "max-age= 5", 0 }, { "s-maxage=5", -1 },
		{ "max-age=2147483648", 2147483648 }, { "max-age=2147483649", 2147483648 }, { "max-age=99999999999999999999999", 2147483648 },
		{ "no-store", 0 }, { "no-cache", 0 }, { "No-Store", 0 }, { "max-age=300, no-store", 0 }, { "no-cache, max-age=300", 0 },
		{ "no-cache=\"a, b\", max-age=300", 0 }, { "x=\"max-age=1, no-store\", max-age=300", 300 }, { "no-storex", -1 },
		{ "x=\"a\\\", no-store\", max-age=7", 7 }, { "x=\"", -1 }, { "x=\"\\", -1 }, { "x=\"a, max-age=5", -1 }, { ",,,max-age=5,,", 5 },
		{ "must-revalidate, no-transform, max-age=3600", 3600 },
	};

	for (size_t i = 0; i < COUNT(ages); i++) {
		print_message("  %s\n", ages[i].in);
		assert_int_equal(http_max_age(text_span(ages[i].in)), ages[i].want);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers), cmocka_unit_test(test_request_head), cmocka_unit_test(test_body_is_sent_from_its_place),
		cmocka_unit_test(test_dead_kept_connection_is_tried_again), cmocka_unit_test(test_begun_answer_is_not_asked_for_again),
		cmocka_unit_test(test_connection_is_kept),
		cmocka_unit_test(test_server_that_does_not_read_the_body), cmocka_unit_test(test_no_server), cmocka_unit_test(test_connection_that_hangs),
		cmocka_unit_test(test_slow_name),
		cmocka_unit_test(test_what_is_refused), cmocka_unit_test(test_ca_file), cmocka_unit_test(test_unix_socket),
		cmocka_unit_test(test_many_at_once), cmocka_unit_test(test_few_are_unhurried), cmocka_unit_test(test_done_may_start_and_cancel),
		cmocka_unit_test(test_full_loop_and_free), cmocka_unit_test(test_max_age),
	};

	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sem_init(&resolver_gate, 0, 0) == -1 || sem_init(&resolver_asked, 0, 0) == -1)
		return 1;
	return cmocka_run_group_tests(tests, setup, teardown);
}
