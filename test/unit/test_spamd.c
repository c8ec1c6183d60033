/*
 * test_spamd.c - spamd's replies, and a spamd of every kind (SECURITY-CASES 11.1 to 11.10, 11.40 to 11.42): one report for each check,
 * in time, and nothing left.
 */
#include "spamd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "waits.h"

#define STR(s) ((char *)(uintptr_t)(s))
#define OK "SPAMD/1.1 0 EX_OK\r\n"
#define HAM OK "Content-length: 10\r\nSpam: False ; 1.5 / 5.0\r\n\r\nTOY_HEADER"
#define SPAM OK "Spam: True ; 15.0 / 5.0\r\n\r\n"

/* ---- replies ---- */

static const struct row {
	const char	*reply;
	enum filter_action action;
	bool		 is_spam;
	double		 score, required;
	const char	*detail;
} rows[] = {
	{ SPAM, FILTER_ACCEPT, true, 15, 5, "" },	/* case 11.40 */
	{ HAM, FILTER_ACCEPT, false, 1.5, 5, "TOY_HEADER" },
	{ OK "Spam: Yes ; 5.0 / 5.0\r\n\r\nA,B\r\n", FILTER_ACCEPT, true, 5, 5, "A,B" },
	{ OK "Spam: yes ; 5.0 / 5.0\r\n\r\n", FILTER_ACCEPT, true, 5, 5, "" },
	{ OK "Spam: No ; 0.0 / 5.0\r\n\r\n", FILTER_ACCEPT, false, 0, 5, "" },
	{ OK "Spam: False ; -0.0 / 5\r\n\r\n", FILTER_ACCEPT, false, 0, 5, "" },
	{ OK "Spam: False ; -100 / 5.0\r\n\r\n", FILTER_ACCEPT, false, -100, 5, "" },
	{ OK "SPAM:FALSE;-1.25/0.5\r\n\r\n", FILTER_ACCEPT, false, -1.25, 0.5, "" },
	{ OK "Spam: True ; 999999999.999999999 / 5.0\r\n\r\n", FILTER_ACCEPT, true, 1e9, 5, "" },
	{ "SPAMD/1.5 0 EX_OK\r\nDidSet: x\r\nSpam: True ; 7.0 / 5.0\r\n\r\n", FILTER_ACCEPT, true, 7, 5, "" },
	{ "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 7.0 / 5.0\r\ncontent-LENGTH: 0\r\n\r\n", FILTER_ACCEPT, true, 7, 5, "" },
	{ OK "Spam: True ; 7.0 / 5.0\r\n\r\nA\x1b[1m\xff\nB", FILTER_ACCEPT, true, 7, 5, "A?[1m??B" },
	/* case 11.41 */
	{ OK "Spam: yes\r\n\r\n", FILTER_TROUBLE, false, 0, 0, "cannot be understood: Spam: yes" },
	{ OK "Spam: False\r\n\r\n", FILTER_TROUBLE, false, 0, 0, "cannot be understood: Spam: False" },
	{ OK "Spam: True ; 15,0 / 5,0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, "cannot be understood: Spam: True ; 15,0 / 5,0" },
	{ OK "Spam: True ; nan / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam: True ; 1e9 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam: True ; inf / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam: True ; 1. / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam: True ; .5 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam: True ; --1 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam: True ; - / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam: True ; 1000000000 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam: True ; 1.0000000000 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam: True ; 15.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam: True ; 15.0 / \r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam: True ; 15.0 / 5.0 / 1.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam: Maybe ; 15.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam: True ; 15.0 / 5.0\r\nSpam: False ; 0.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Spam:\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ OK "Content-length: 0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, "no Spam field" },
	{ OK "\r\n", FILTER_TROUBLE, false, 0, 0, "no Spam field" },
	{ OK "\r\nSpam: True ; 15.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, "no Spam field" },
	{ OK "no field\r\nSpam: True ; 15.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, "no header field: no field" },
	{ OK "Content-length: 9\r\nSpam: True ; 1.0 / 5.0\r\n\r\nTOY_HEADER", FILTER_TROUBLE, false, 0, 0, "Content-length is wrong" },
	{ OK "Content-length: 11\r\nSpam: True ; 1.0 / 5.0\r\n\r\nTOY_HEADER", FILTER_TROUBLE, false, 0, 0, "Content-length is wrong" },
	{ OK "Content-length: -1\r\nSpam: True ; 1.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, "Content-length is wrong" },
	{ OK "Content-length: 0\r\nContent-length: 0\r\nSpam: True ; 1.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, "Content-length is wrong" },
	{ OK "Content-length: 99999999999999999999\r\nSpam: True ; 1.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, "Content-length is wrong" },
	{ "SPAMD/1.0 76 Bad header line: (EX_PROTOCOL)\r\n", FILTER_TROUBLE, false, 0, 0, "SPAMD/1.0 76 Bad header line: (EX_PROTOCOL)" },
	{ "SPAMD/1.1 1 EX_X\r\nSpam: False ; 1.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, "SPAMD/1.1 1 EX_X" },
	{ "SPAMD/9.9 0 EX_OK\r\nSpam: False ; 1.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, "no reply of spamd's: SPAMD/9.9 0 EX_OK" },
	{ "SPAMD/1. 0 EX_OK\r\nSpam: False ; 1.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ "SPAMD/1.1  EX_OK\r\nSpam: False ; 1.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ "SPAMD/1.1 256 EX_OK\r\nSpam: False ; 1.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ "SPAMD/1.1\r\nSpam: False ; 1.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, NULL },
	{ "HTTP/1.1 200 OK\r\nSpam: False ; 1.0 / 5.0\r\n\r\n", FILTER_TROUBLE, false, 0, 0, "no reply of spamd's: HTTP/1.1 200 OK" },
	{ "\x1b]0;x\a\r\n", FILTER_TROUBLE, false, 0, 0, "no reply of spamd's: ?]0;x?" },
	{ "\r\n\r\n", FILTER_TROUBLE, false, 0, 0, "no reply of spamd's: " },
	{ "", FILTER_TROUBLE, false, 0, 0, "no reply" },
};

static void
check_row(const struct row *row, const struct filter_report *r)
{
	print_message("%.60s -> %d (%s)\n", row->reply, (int)r->action, r->detail);
	assert_int_equal(r->action, row->action);
	assert_int_equal(r->is_spam, row->is_spam);
	assert_int_equal(r->has_score, row->action == FILTER_ACCEPT);
	assert_true(r->score - row->score < 1e-6 && row->score - r->score < 1e-6);
	assert_true(r->required - row->required < 1e-9 && row->required - r->required < 1e-9);
	if (row->detail != NULL)
		assert_string_equal(r->detail, row->detail);
	assert_string_equal(r->esc, "");
}

static void
replies(void **state)
{
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct filter_report r = { 0 };

		spamd_read(text_span(rows[i].reply), &r);
		check_row(&rows[i], &r);
	}
}

/* Cut anywhere in front of the empty line's end, and where Content-length tells in the body as well, it is no verdict. */
static void
a_reply_cut_short_is_none(void **state)
{
	static const struct {
		const char	*reply;
		size_t		 whole;
	} cuts[] = { { SPAM, sizeof(SPAM) - 1 }, { HAM, sizeof(HAM) - 1 } };

	for (size_t i = 0; i < COUNT(cuts); i++)
		for (size_t cut = 0; cut <= cuts[i].whole; cut++) {
			struct filter_report r = { 0 };

			spamd_read((struct span){ cuts[i].reply, cut }, &r);
			assert_int_equal(r.action, cut == cuts[i].whole ? FILTER_ACCEPT : FILTER_TROUBLE);
		}
}

static void
many_symbols_are_cut(void **state)
{
	char reply[5000];
	struct filter_report r = { 0 };
	int n = snprintf(reply, sizeof(reply), OK "Spam: True ; 7.0 / 5.0\r\n\r\n");

	memset(reply + n, 'A', sizeof(reply) - (size_t)n);
	spamd_read((struct span){ reply, sizeof(reply) }, &r);
	assert_int_equal(r.action, FILTER_ACCEPT);
	assert_int_equal(strlen(r.detail), sizeof(r.detail) - 1);
	assert_int_equal(strspn(r.detail, "A"), sizeof(r.detail) - 1);
}

/* ---- a spamd ---- */

enum mode {
	ANSWER,		/* as spamd does */
	KEEP,		/* and the connection stays open */
	LATE,		/* longer than a connection may take */
	CUT,		/* one octet of the reply after the other */
	DRIP,		/* so slowly that the time does not suffice */
	EARLY,		/* before reading anything */
	EARLY_CLOSE,	/* and closes, so that our body meets a reset */
	DEAF,		/* accepts and does nothing */
	SLOW_READER,	/* a few octets of ours, then nothing */
	CLOSE_AT_ONCE, CLOSE_AFTER_HEADER, CLOSE_IN_BODY, CLOSE_IN_REPLY,
	ENDLESS,	/* the reply again and again, whether we read or not */
};

/* Shared with the server's process; changed while no check is under way. */
static struct shared {
	enum mode	 mode;
	size_t		 request_len;
	bool		 half_closed;	/* the client said that nothing follows */
	char		 reply[4096];
	char		 request[8 * 1024 * 1024];
} *peer;

static pid_t server;
static int port;
static char socket_path[64];

static void
say(int fd, const void *p, size_t n)
{
	for (const char *at = p; n > 0;) {
		ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);

		if (sent <= 0)
			_exit(0);
		at += sent;
		n -= (size_t)sent;
	}
}

/* The request into peer->request until it ends, or max octets of it. */
static void
listen_to(int fd, size_t max)
{
	ssize_t n;

	peer->request_len = 0;
	peer->half_closed = false;
	while (peer->request_len < max) {
		n = read(fd, peer->request + peer->request_len, max - peer->request_len);
		if (n <= 0) {
			peer->half_closed = n == 0;
			return;
		}
		peer->request_len += (size_t)n;
	}
}

static void
serve(int fd)
{
	size_t len = strlen(peer->reply);
	struct linger reset = { .l_onoff = 1 };

	switch (peer->mode) {
	case ANSWER:
	case KEEP:
	case LATE:
		listen_to(fd, sizeof(peer->request));
		(void)poll(NULL, 0, peer->mode == LATE ? 2200 : 0);
		say(fd, peer->reply, len);
		break;
	case CUT:
	case DRIP:
		listen_to(fd, sizeof(peer->request));
		for (size_t i = 0; i < len; i++) {
			say(fd, peer->reply + i, 1);
			(void)poll(NULL, 0, peer->mode == CUT ? 1 : 100);
		}
		break;
	case EARLY:
	case EARLY_CLOSE:
		say(fd, peer->reply, len);
		break;
	case DEAF:
		break;
	case SLOW_READER:
		listen_to(fd, 100);
		break;
	case CLOSE_AT_ONCE:
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		break;
	case CLOSE_AFTER_HEADER:
		listen_to(fd, 20);
		break;
	case CLOSE_IN_BODY:
		listen_to(fd, 3000);
		break;
	case CLOSE_IN_REPLY:
		listen_to(fd, sizeof(peer->request));
		say(fd, peer->reply, len / 2);
		break;
	case ENDLESS:
		for (;;)
			say(fd, peer->reply, len);
	}
	if (peer->mode == KEEP || peer->mode == EARLY || peer->mode == DEAF || peer->mode == SLOW_READER)
		for (;;)
			(void)pause();
	_exit(0);
}

static void
run_server(const int *sockets, size_t n)
{
	struct pollfd fds[2];

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGCHLD, SIG_IGN);
	for (size_t i = 0; i < n; i++)
		fds[i] = (struct pollfd){ .fd = sockets[i], .events = POLLIN };
	for (;;) {
		(void)poll(fds, n, -1);
		for (size_t i = 0; i < n; i++) {
			int fd = fds[i].revents == 0 ? -1 : accept(fds[i].fd, NULL, NULL);

			if (fd == -1)
				continue;
			if (fork() == 0) {
				(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
				serve(fd);
			}
			close(fd);
		}
	}
}

static int
listen_tcp(int backlog, int *number)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd != -1);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	if (backlog >= 0)
		assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	*number = ntohs(in.sin_port);
	return fd;
}

static int
start_server(void **state)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int sockets[2];

	peer = mmap(NULL, sizeof(*peer), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(peer != MAP_FAILED);
	sockets[0] = listen_tcp(64, &port);
	(void)snprintf(socket_path, sizeof(socket_path), "/tmp/test_spamd.%d", (int)getpid());
	memcpy(un.sun_path, socket_path, strlen(socket_path));
	sockets[1] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(sockets[1], (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(sockets[1], 64), 0);
	server = fork();
	if (server == 0)
		run_server(sockets, 2);
	close(sockets[0]);
	close(sockets[1]);
	return server == -1 ? -1 : 0;
}

static int
end_server(void **state)
{
	assert_int_equal(kill(server, SIGKILL), 0);
	assert_int_equal(waitpid(server, NULL, 0), server);
	assert_int_equal(unlink(socket_path), 0);
	return munmap(peer, sizeof(*peer));
}

/* ---- checks ---- */

static struct loop loop;
static size_t loop_own;		/* slots that the loop has of itself */
static struct config config = { .hostname = STR("mx.test") };
static struct checker checker;
static struct spamd *spamd;
static struct tx tx;
static char url[128];
static int fds_before;

struct outcome {
	unsigned		 calls;
	struct filter_report	 r;
};

static void
note(void *arg, const struct filter_report *r)
{
	struct outcome *o = arg;

	o->calls++;
	o->r = *r;
	for (const char *p = r->detail; *p != '\0'; p++)
		assert_true(is_vchar(*p) || *p == ' ');
}

static int
setup(void **state)
{
	fds_before = count_fds();
	assert_int_equal(loop_init(&loop, 200), 0);
	loop_own = loop.n;
	(void)snprintf(url, sizeof(url), "127.0.0.1:%d", port);
	checker = (struct checker){ .name = "sa", .type = CHECKER_SPAMASSASSIN, .url = url, .user = STR(""), .timeout_ms = 10000,
	    .max_checks = 50, .max_size = 10000000 };
	tx = (struct tx){ .id = "0123456789abcdef0123", .session = 1, .config = &config, .client_address = "192.0.2.1", .helo = "h.test",
	    .auth_user = "", .tls_version = "", .tls_cipher = "", .esmtp = true, .sender = { "a", "a.test" }, .fd = -1 };
	spamd = NULL;
	return 0;
}

static int
teardown(void **state)
{
	spamd_free(spamd);
	if (tx.fd != -1)
		close(tx.fd);
	assert_int_equal(loop.n, loop_own);
	loop_clear(&loop);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static void
message(size_t len)
{
	char *body = malloc(len + 1);

	assert_non_null(body);
	for (size_t i = 0; i < len; i++)
		body[i] = i % 64 == 63 ? '\n' : (char)('0' + i % 64);
	tx.fd = message_open("");
	assert_int_equal(pwrite(tx.fd, body, len, MESSAGE_ROOM), (ssize_t)len);
	tx.size = MESSAGE_ROOM + len;
	free(body);
}

static struct outcome
ask(enum mode mode, const char *reply)
{
	struct outcome o = { 0 };

	peer->mode = mode;
	(void)snprintf(peer->reply, sizeof(peer->reply), "%s", reply);
	if (spamd == NULL)
		spamd = spamd_new(&loop, &checker);
	assert_non_null(spamd);
	assert_non_null(spamd_start(spamd, &tx, checker.timeout_ms, note, &o));
	assert_int_equal(o.calls, 0);	/* never from inside */
	wait_for(&o);
	return o;
}

static void
expect_trouble(const struct outcome *o, const char *detail)
{
	print_message("-> %d (%s)\n", (int)o->r.action, o->r.detail);
	assert_int_equal(o->r.action, FILTER_TROUBLE);
	if (detail != NULL)
		assert_string_equal(o->r.detail, detail);
}

static void
every_reply_over_the_wire(void **state)
{
	message(100);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct outcome o = ask(ANSWER, rows[i].reply);

		check_row(&rows[i], &o.r);
	}
}

static void
the_request(void **state)
{
	static const char *const users[] = { "", "debian-spamd" };
	static const size_t lengths[] = { 0, 1, 100, 16384, 16385, 5000000 };
	struct outcome o;

	for (size_t u = 0; u < COUNT(users); u++) {
		checker.user = STR(users[u]);
		for (size_t i = 0; i < COUNT(lengths); i++) {
			size_t len = lengths[i];
			char head[MESSAGE_TRACE_MAX + 200], memory[MESSAGE_TRACE_MAX];
			struct buf trace;
			int n;

			buf_fixed(&trace, memory, sizeof(memory));
			message_trace_fields(&tx, time(NULL), &trace);
			n = snprintf(head, sizeof(head), "SYMBOLS SPAMC/1.5\r\n%s%s%sContent-length: %zu\r\n\r\n%.*s", u == 0 ? "" : "User: ",
			    users[u], u == 0 ? "" : "\r\n", buf_len(&trace) + len, (int)buf_len(&trace), memory);
			print_message("user '%s', %zu octets\n", users[u], len);
			message(len);
			o = ask(ANSWER, HAM);
			assert_int_equal(o.r.action, FILTER_ACCEPT);
			assert_true(peer->half_closed);
			assert_int_equal(peer->request_len, (size_t)n + len);
			assert_memory_equal(peer->request, head, (size_t)n - sizeof("00:00:00 +0000"));
			assert_memory_equal(peer->request + n - 7, " +0000\n", 7);
			for (size_t k = 0; k < len; k++)
				if (peer->request[(size_t)n + k] != (k % 64 == 63 ? '\n' : (char)('0' + k % 64)))
					fail_msg("octet %zu is another one", k);
			close(tx.fd);
			tx.fd = -1;
		}
	}
}

static void
a_unix_socket(void **state)
{
	struct outcome o;

	(void)snprintf(url, sizeof(url), "unix:%s", socket_path);
	message(1000000);
	o = ask(ANSWER, SPAM);
	assert_int_equal(o.r.action, FILTER_ACCEPT);
	assert_true(o.r.is_spam);
	spamd_free(spamd);
	spamd = NULL;
	(void)snprintf(url, sizeof(url), "localhost:%d", port);
	o = ask(ANSWER, HAM);
	assert_int_equal(o.r.action, FILTER_ACCEPT);
	assert_false(o.r.is_spam);
}

/* Cases 11.2 to 11.7: what it says, and that it is said in time. */
static void
faulty_peers(void **state)
{
	static const struct peer_row {
		enum mode	 mode;
		const char	*reply;
		size_t		 len;
		enum filter_action action;
		const char	*detail;
	} peers[] = {
		{ ANSWER, HAM, 5000000, FILTER_ACCEPT, "TOY_HEADER" },
		{ KEEP, HAM, 100, FILTER_ACCEPT, "TOY_HEADER" },
		{ KEEP, SPAM, 100, FILTER_ACCEPT, "" },
		{ KEEP, OK "Content-length: 11\r\nSpam: True ; 1.0 / 5.0\r\n\r\nTOY_HEADER", 100, FILTER_TROUBLE, "timeout: reply" },
		{ KEEP, OK "Content-length: x\r\nSpam: True ; 1.0 / 5.0\r\n\r\nTOY", 100, FILTER_TROUBLE, "Content-length is wrong" },
		{ CUT, HAM, 100, FILTER_ACCEPT, "TOY_HEADER" },
		{ DRIP, HAM, 100, FILTER_TROUBLE, "timeout: reply" },
		{ EARLY, HAM, 5000000, FILTER_TROUBLE, "it answered before it had the message" },
		{ EARLY_CLOSE, HAM, 5000000, FILTER_TROUBLE, NULL },
		{ DEAF, HAM, 100, FILTER_TROUBLE, "timeout: reply" },
		{ DEAF, HAM, 8000000, FILTER_TROUBLE, "timeout: message" },
		{ SLOW_READER, HAM, 8000000, FILTER_TROUBLE, "timeout: message" },
		{ CLOSE_AT_ONCE, HAM, 5000000, FILTER_TROUBLE, NULL },
		{ CLOSE_AFTER_HEADER, HAM, 5000000, FILTER_TROUBLE, NULL },
		{ CLOSE_IN_BODY, HAM, 5000000, FILTER_TROUBLE, NULL },
		{ CLOSE_IN_REPLY, HAM, 100, FILTER_TROUBLE, "the reply ends in its header" },
		{ ENDLESS, "garbage ", 100, FILTER_TROUBLE, "the reply is too long" },
		{ ENDLESS, "\r\n\r\n", 100, FILTER_TROUBLE, NULL },
		{ ANSWER, "HTTP/1.1 400 Bad Request\r\n\r\n", 100, FILTER_TROUBLE, "no reply of spamd's: HTTP/1.1 400 Bad Request" },
	};

	checker.timeout_ms = 1000;
	for (size_t i = 0; i < 2 * COUNT(peers); i++) {
		const struct peer_row *row = &peers[i % COUNT(peers)];
		int64_t began = loop_clock_ms();
		struct outcome o;

		if (i == COUNT(peers)) {	/* whoever writes there when nobody reads gets SIGPIPE */
			spamd_free(spamd);
			spamd = NULL;
			(void)snprintf(url, sizeof(url), "unix:%s", socket_path);
		}
		print_message("row %zu: mode %d\n", i, (int)row->mode);
		message(row->len);
		o = ask(row->mode, row->reply);
		print_message("-> %d (%s) after %lld ms\n", (int)o.r.action, o.r.detail, (long long)(loop_clock_ms() - began));
		assert_int_equal(o.r.action, row->action);
		if (row->detail != NULL)
			assert_string_equal(o.r.detail, row->detail);
		assert_int_equal(o.r.timed_out, text_starts_nocase(text_span(o.r.detail), "timeout"));
		assert_true(loop_clock_ms() - began < 3000);
		close(tx.fd);
		tx.fd = -1;
	}
}

/* A header that goes on for 64 KiB is over the bound; one that ends below it is read. */
static void
a_long_header_line(void **state)
{
	static char reply[70000];
	struct filter_report r = { 0 };
	int n = snprintf(reply, sizeof(reply), OK "X: ");

	message(10);
	checker.timeout_ms = 2000;
	memset(reply + n, 'x', 60000);
	(void)snprintf(reply + n + 60000, 100, "\r\nSpam: True ; 7.0 / 5.0\r\n\r\n");
	spamd_read(text_span(reply), &r);
	assert_int_equal(r.action, FILTER_ACCEPT);
	/* the server's own reply is short: it repeats it */
	(void)snprintf(reply, sizeof(reply), "%s", OK "X: ");
	memset(reply + n, 'x', 4000);
	reply[n + 4000] = '\0';
	{
		struct outcome o = ask(ENDLESS, reply + n);

		expect_trouble(&o, "the reply is too long");
	}
}

static void
an_answer_that_takes_its_time(void **state)
{
	struct outcome o;

	message(100);
	o = ask(LATE, HAM);
	assert_int_equal(o.r.action, FILTER_ACCEPT);
}

static void
nobody_listens(void **state)	/* case 11.1 */
{
	struct outcome o = { 0 };
	int closed, fd = listen_tcp(-1, &closed);

	message(100);
	(void)snprintf(url, sizeof(url), "127.0.0.1:%d", closed);
	spamd = spamd_new(&loop, &checker);
	assert_non_null(spamd);
	assert_non_null(spamd_start(spamd, &tx, checker.timeout_ms, note, &o));
	wait_for(&o);
	expect_trouble(&o, "cannot connect: Connection refused");
	close(fd);
	spamd_free(spamd);
	(void)snprintf(url, sizeof(url), "unix:/nonexistent/spamd.sock");
	spamd = spamd_new(&loop, &checker);
	assert_non_null(spamd);
	o = (struct outcome){ 0 };
	assert_null(spamd_start(spamd, &tx, checker.timeout_ms, note, &o));
	assert_int_equal(errno, ENOENT);
	assert_int_equal(o.calls, 0);
}

/* The queue of those not accepted is full: the kernel lets a connection hang. */
static void
a_connection_that_hangs(void **state)
{
	struct outcome o = { 0 };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int number, fd = listen_tcp(0, &number), fill = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int64_t began;

	in.sin_port = htons((uint16_t)number);
	assert_int_equal(connect(fill, (struct sockaddr *)&in, sizeof(in)), 0);
	message(100);
	(void)snprintf(url, sizeof(url), "127.0.0.1:%d", number);
	checker.timeout_ms = 30000;
	spamd = spamd_new(&loop, &checker);
	assert_non_null(spamd);
	began = loop_clock_ms();
	assert_non_null(spamd_start(spamd, &tx, checker.timeout_ms, note, &o));
	wait_for(&o);
	expect_trouble(&o, "timeout: connect");
	assert_true(o.r.timed_out);
	assert_true(loop_clock_ms() - began >= 1990 && loop_clock_ms() - began < 4000);
	close(fill);
	close(fd);
}

/* The kernel lets nobody wait for a place in a unix socket's queue that is full: that is no spamd that is gone. */
static void
a_unix_socket_with_a_full_queue(void **state)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fill = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct outcome o = { 0 };
	char folder[] = "/tmp/test_spamd.XXXXXX";
	int64_t began;

	assert_non_null(mkdtemp(folder));
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/s", folder);
	(void)snprintf(url, sizeof(url), "unix:%s/s", folder);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(connect(fill, (struct sockaddr *)&un, sizeof(un)), 0);
	message(100);
	spamd = spamd_new(&loop, &checker);
	assert_non_null(spamd);
	began = loop_clock_ms();
	assert_non_null(spamd_start(spamd, &tx, checker.timeout_ms, note, &o));
	wait_for(&o);
	expect_trouble(&o, "timeout: connect");
	assert_true(o.r.timed_out && loop_clock_ms() - began >= 1990);
	o = (struct outcome){ 0 };
	assert_non_null(spamd_start(spamd, &tx, checker.timeout_ms, note, &o));
	assert_int_equal(loop_turn(&loop, 20), 0);
	assert_int_equal(close(accept(fd, NULL, NULL)), 0);	/* a place is free */
	while (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) == 0) {
		assert_int_equal(o.calls, 0);
		assert_int_equal(loop_turn(&loop, 20), 0);
	}
	assert_int_equal(close(accept(fd, NULL, NULL)), 0);
	wait_for(&o);
	expect_trouble(&o, NULL);
	assert_false(o.r.timed_out);
	close(fill);
	close(fd);
	assert_int_equal(unlink(un.sun_path), 0);
	assert_int_equal(rmdir(folder), 0);
}

static void
so_many_at_once(void **state)	/* case 11.10 */
{
	static struct outcome o[4];
	struct spamd_check *k[4];

	memset(o, 0, sizeof(o));
	message(100);
	checker.max_checks = 3;
	checker.timeout_ms = 500;
	peer->mode = DEAF;
	spamd = spamd_new(&loop, &checker);
	assert_non_null(spamd);
	for (size_t i = 0; i < 3; i++)
		assert_non_null(k[i] = spamd_start(spamd, &tx, checker.timeout_ms, note, &o[i]));
	assert_null(spamd_start(spamd, &tx, checker.timeout_ms, note, &o[3]));
	assert_int_equal(errno, EAGAIN);
	spamd_cancel(k[1]);
	assert_non_null(spamd_start(spamd, &tx, checker.timeout_ms, note, &o[3]));	/* in its place */
	wait_for(&o[0]);
	wait_for(&o[2]);
	wait_for(&o[3]);
	assert_int_equal(o[1].calls, 0);
	for (size_t i = 0; i < 3; i++)
		assert_non_null(spamd_start(spamd, &tx, checker.timeout_ms, note, &o[i]));
	spamd_free(spamd);	/* ends them without a word */
	spamd = NULL;
	assert_int_equal(o[1].calls, 0);
}

static void
a_large_message_is_skipped(void **state)	/* case 11.42 */
{
	struct outcome o;

	(void)snprintf(url, sizeof(url), "unix:/nonexistent/spamd.sock");	/* who connects gets an error */
	checker.max_size = 1000;
	checker.max_checks = 0;			/* no connection, so no place is taken */
	spamd = spamd_new(&loop, &checker);
	assert_non_null(spamd);
	message(1001);
	assert_null(spamd_start(spamd, &tx, checker.timeout_ms, note, &o));
	assert_int_equal(errno, EFBIG);
	close(tx.fd);
	checker.max_checks = 1;
	message(1000);
	assert_null(spamd_start(spamd, &tx, checker.timeout_ms, note, &o));
	assert_int_equal(errno, ENOENT);
}

static void
a_message_that_is_gone(void **state)
{
	struct outcome o;

	message(100);
	tx.size += 1;	/* the file is shorter than that */
	o = ask(ANSWER, HAM);
	expect_trouble(&o, "the message cannot be read");
}

static void
addresses(void **state)
{
	static const struct {
		const char	*url, *user;
		bool		 good;
	} tries[] = {
		{ "127.0.0.1:783", "", true }, { "127.0.0.1", "", true }, { "[::1]:783", "", true }, { "[::1]", "", true },
		{ "localhost:783", "", true }, { "LOCALHOST", "", true }, { "unix:/run/spamd.sock", "a", true },
		{ "127.0.0.1:65535", "", true }, { "127.0.0.1:65536", "", false }, { "127.0.0.1:0", "", false }, { "127.0.0.1:", "", false },
		{ "127.0.0.1:x", "", false }, { "spamd.example.com:783", "", false }, { "", "", false }, { ":783", "", false },
		{ "[::1", "", false }, { "[::1]783", "", false }, { "::1", "", false }, { "[]", "", false }, { "unix:", "", false },
		{ "unix:run/spamd.sock", "", false }, { "[127.0.0.1]:783", "", false }, { "127.0.0.1:783", "a\r\nb", false },
		{ "unix:/12345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567", "", false },
	};

	for (size_t i = 0; i < COUNT(tries); i++) {
		struct spamd *s;

		print_message("%s\n", tries[i].url);
		checker.url = STR(tries[i].url);
		checker.user = STR(tries[i].user);
		s = spamd_new(&loop, &checker);
		assert_int_equal(s != NULL, tries[i].good);
		spamd_free(s);
	}
	spamd_free(NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replies), cmocka_unit_test(a_reply_cut_short_is_none), cmocka_unit_test(many_symbols_are_cut),
		T(every_reply_over_the_wire), T(the_request), T(a_unix_socket), T(faulty_peers), T(a_long_header_line), T(an_answer_that_takes_its_time), T(nobody_listens),
		T(a_connection_that_hangs), T(a_unix_socket_with_a_full_queue), T(so_many_at_once), T(a_large_message_is_skipped), T(a_message_that_is_gone), T(addresses),
	};

	log_init(LOG_WARN, LOG_LOGFMT, "test");
	return cmocka_run_group_tests_name("spamd", tests, start_server, end_server);
}
