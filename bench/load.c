/*
 * load.c - a load generator for SMTP servers: many sessions from one epoll loop, with the latency of each message.
 *
 * By default it behaves as smtp-source does: no PIPELINING, one recipient, the content in one write. A message's latency
 * goes from writing MAIL to the reply to its content. One line of JSON on standard output.
 *
 *   load [-p] -P port -s sessions [-m messages] [-t seconds] [-k messages a connection] [-l octets]
 *   load -i   -P port -s clients [-n connections opened at once]
 *
 * With -i the clients stay after the reply to EHLO: it prints a line, waits for end of file on standard input and prints
 * how many are still connected.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SESSIONS_MAX 20000
#define MESSAGES_MAX 4000000
#define SIZE_MAX_OCTETS (64 * 1024 * 1024)
#define REPLY_MAX 4096
#define EVENTS_MAX 256
#define ERRORS_MAX 1000		/* then the run is over: the server is not serving */
#define GRACE_US (20 * INT64_C(1000000))	/* for the messages under way when the time is up */

enum step { GREETING, EHLO, MAIL, RCPT, DATA, CONTENT, QUIT, IDLE, STEP__MAX };

static const struct {
	const char	*name;
	int		 code;		/* the reply that lets the dialogue go on */
	const char	*line;		/* what is written on entering the step */
} steps[STEP__MAX] = {
	[GREETING] = { "greeting", 220, "" },
	[EHLO] =     { "EHLO",     250, "EHLO load.example.test\r\n" },
	[MAIL] =     { "MAIL",     250, "MAIL FROM:<load@example.org>\r\n" },
	[RCPT] =     { "RCPT",     250, "RCPT TO:<user@example.test>\r\n" },
	[DATA] =     { "DATA",     354, "DATA\r\n" },
	[CONTENT] =  { "content",  250, NULL },		/* the message */
	[QUIT] =     { "QUIT",     221, "QUIT\r\n" },
	[IDLE] =     { "idle",       0, "" },
};

static const char pipelined[] =
	"MAIL FROM:<load@example.org>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n";

struct conn {
	int		 fd;		/* owned; -1: not connected */
	enum step	 step;
	uint64_t	 left;		/* messages on this connection */
	int64_t		 mail_at;
	const char	*out;		/* borrowed: static, or the message */
	size_t		 out_len;
	bool		 wants_write;	/* registered for EPOLLOUT */
	size_t		 in_len;
	char		 in[REPLY_MAX];
};

static struct {
	uint64_t	 port, sessions, messages, seconds, per_conn, size, at_once;
	bool		 idle, pipelining;
} opt = { .sessions = 1, .messages = MESSAGES_MAX, .seconds = 0, .per_conn = 1, .size = 1024, .at_once = 100 };

static struct conn	*conns;
static char		*message;	/* with its final dot */
static size_t		 message_len;
static uint32_t		*latency;	/* microseconds, one each message */
static uint64_t		 started, done, errors, active, next_idle, idle, dropped;
static int64_t		 stop_at = INT64_MAX, last_at;
static char		 error_text[200];
static int		 ep;

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void
message_make(size_t size)
{
	static const char head[] = "From: <load@example.org>\r\nTo: <user@example.test>\r\nSubject: load\r\n"
	    "Date: Thu, 01 Jan 1970 00:00:00 +0000\r\nMessage-ID: <1@load.example.test>\r\n\r\n";
	size_t n = sizeof(head) - 1;

	if (size < n + 2)
		size = n + 2;
	message = malloc(size + 3);
	if (message == NULL) {
		perror("load: message");
		exit(1);
	}
	memcpy(message, head, n);
	for (size_t column = 0; n < size; n++, column = (column + 1) % 78)
		message[n] = column == 76 ? '\r' : column == 77 ? '\n' : 'x';
	if (message[size - 3] == '\r')	/* else a bare CR before the last line's end */
		message[size - 3] = 'x';
	memcpy(message + size - 2, "\r\n.\r\n", 5);
	message_len = size + 3;
}

static bool
has_more(void)
{
	return started < opt.messages && errors < ERRORS_MAX && now_us() < stop_at;
}

static void
conn_close(struct conn *c)
{
	if (c->fd == -1)
		return;
	close(c->fd);		/* takes it out of epoll, too */
	c->fd = -1;
	active--;
}

static void
conn_fail(struct conn *c, const char *what, size_t what_len)
{
	errors++;
	if (error_text[0] == '\0') {
		char *p = error_text;

		snprintf(error_text, sizeof(error_text), "%s: %.*s", steps[c->step].name, (int)what_len, what);
		for (; *p != '\0'; p++)		/* it goes into JSON */
			if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\')
				*p = *p == '\r' || *p == '\n' ? ' ' : '?';
	}
	conn_close(c);
}

static void
conn_write(struct conn *c)
{
	bool wants;

	while (c->out_len > 0) {
		ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && errno == EAGAIN)
			break;
		if (n == -1) {
			const char *why = strerror(errno);

			conn_fail(c, why, strlen(why));
			return;
		}
		c->out += n;
		c->out_len -= (size_t)n;
	}
	wants = c->out_len > 0;
	if (wants != c->wants_write) {
		struct epoll_event ev = { .events = EPOLLIN | (wants ? EPOLLOUT : 0U), .data.ptr = c };

		epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
		c->wants_write = wants;
	}
}

static void
conn_enter(struct conn *c, enum step step)
{
	c->step = step;
	if (step == CONTENT) {
		c->out = message;
		c->out_len = message_len;
	} else if (opt.pipelining && (step == RCPT || step == DATA)) {
		return;		/* written with MAIL */
	} else {
		c->out = opt.pipelining && step == MAIL ? pipelined : steps[step].line;
		c->out_len = strlen(c->out);
	}
	if (step == MAIL) {
		started++;
		c->left--;
		c->mail_at = now_us();
	}
	if (c->out_len > 0)
		conn_write(c);
}

static void
conn_open(struct conn *c)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port) };
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
	int on = 1;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->step = GREETING;
	c->left = opt.per_conn;
	c->in_len = c->out_len = 0;
	c->wants_write = false;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	active += c->fd != -1;
	if (c->fd == -1 || setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1 ||
	    (connect(c->fd, (struct sockaddr *)&sin, sizeof(sin)) == -1 && errno != EINPROGRESS) ||
	    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) == -1) {
		const char *why = strerror(errno);

		conn_fail(c, why, strlen(why));
	}
}

/* A whole reply came: on to the next step. */
static void
conn_reply(struct conn *c, int code, const char *line, size_t len)
{
	if (code != steps[c->step].code) {
		conn_fail(c, line, len);
		return;
	}
	switch (c->step) {
	case GREETING:
		conn_enter(c, EHLO);
		break;
	case EHLO:
		if (opt.idle) {
			idle++;
			c->step = IDLE;
			break;
		}
		conn_enter(c, has_more() ? MAIL : QUIT);
		break;
	case MAIL:
		conn_enter(c, RCPT);
		break;
	case RCPT:
		conn_enter(c, DATA);
		break;
	case DATA:
		conn_enter(c, CONTENT);
		break;
	case CONTENT:
		last_at = now_us();
		latency[done++] = (uint32_t)(last_at - c->mail_at);
		conn_enter(c, c->left > 0 && has_more() ? MAIL : QUIT);
		break;
	case QUIT:
		conn_close(c);
		break;
	case IDLE:
	case STEP__MAX:
		break;
	}
}

static void
conn_lines(struct conn *c)
{
	size_t at = 0;

	while (c->fd != -1) {
		const char *line = c->in + at, *end = memchr(line, '\n', c->in_len - at);
		size_t len;

		if (end == NULL)
			break;
		len = (size_t)(end - line);
		at += len + 1;
		if (len > 3 && line[3] == '-')
			continue;
		if (len < 3) {
			conn_fail(c, line, len);
			return;
		}
		conn_reply(c, (line[0] - '0') * 100 + (line[1] - '0') * 10 + line[2] - '0', line, len);
	}
	if (c->fd == -1)
		return;
	memmove(c->in, c->in + at, c->in_len - at);
	c->in_len -= at;
	if (c->in_len == sizeof(c->in))
		conn_fail(c, "line too long", 13);
}

static void
conn_read(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, 0);

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (c->step == IDLE && n <= 0) {
		dropped++;
		conn_close(c);
		return;
	}
	if (n == 0) {
		conn_fail(c, "connection closed", 17);
		return;
	}
	if (n == -1) {
		const char *why = strerror(errno);

		conn_fail(c, why, strlen(why));
		return;
	}
	c->in_len += (size_t)n;
	conn_lines(c);
}

/* Keep the sessions busy: each that ended begins anew while there is something to send. */
static void
open_more(struct conn *ended)
{
	if (!opt.idle) {
		if (ended->fd == -1 && has_more())
			conn_open(ended);
		return;
	}
	while (next_idle < opt.sessions && next_idle - idle - errors < opt.at_once && errors < ERRORS_MAX)
		conn_open(&conns[next_idle++]);
}

static void
turn(int64_t deadline)
{
	struct epoll_event ev[EVENTS_MAX];
	int64_t wait = (deadline - now_us()) / 1000 + 1;
	int n = epoll_wait(ep, ev, EVENTS_MAX, wait < 0 ? 0 : wait > 1000 ? 1000 : (int)wait);

	for (int i = 0; i < n; i++) {
		struct conn *c = ev[i].data.ptr;

		if (c == NULL) {	/* standard input */
			char drain[64];

			if (read(STDIN_FILENO, drain, sizeof(drain)) <= 0)
				next_idle = UINT64_MAX;
			continue;
		}
		if (ev[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
			conn_read(c);
		if (c->fd != -1 && (ev[i].events & EPOLLOUT) != 0)
			conn_write(c);
		open_more(c);
	}
}

static int
latency_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static uint32_t
percentile(unsigned percent)
{
	return done == 0 ? 0 : latency[(done - 1) * percent / 100];
}

/* The time is up: whoever has no message under way is done. Returns how many had not been greeted yet. */
static uint64_t
close_waiting(void)
{
	uint64_t waiting = 0;

	for (uint64_t i = 0; i < opt.sessions; i++) {
		enum step step = conns[i].step;

		if (conns[i].fd == -1 || (step >= MAIL && step <= CONTENT))
			continue;
		waiting += step == GREETING || step == EHLO;
		conn_close(&conns[i]);
	}
	return waiting;
}

static void
run_messages(void)
{
	uint64_t waiting;
	struct rusage ru;
	int64_t begin = now_us(), deadline;
	double seconds;

	last_at = begin;
	if (opt.seconds > 0)
		stop_at = begin + (int64_t)opt.seconds * 1000000;
	deadline = opt.seconds > 0 ? stop_at + GRACE_US : begin + 30 * GRACE_US;
	for (uint64_t i = 0; i < opt.sessions && has_more(); i++)
		conn_open(&conns[i]);
	while (active > 0 && now_us() < (stop_at < deadline ? stop_at : deadline))
		turn(stop_at < deadline ? stop_at : deadline);
	waiting = close_waiting();
	while (active > 0 && now_us() < deadline)
		turn(deadline);
	for (uint64_t i = 0; i < opt.sessions; i++)
		if (conns[i].fd != -1)
			conn_fail(&conns[i], "no answer", 9);
	qsort(latency, done, sizeof(*latency), latency_cmp);
	getrusage(RUSAGE_SELF, &ru);
	seconds = (double)(last_at - begin) / 1e6;
	printf("{\"messages\": %llu, \"seconds\": %.6f, \"rate\": %.2f, \"p50_us\": %u, \"p99_us\": %u, \"max_us\": %u, "
	    "\"errors\": %llu, \"error\": \"%s\", \"waiting\": %llu, \"load_cpu_s\": %.4f}\n", (unsigned long long)done, seconds,
	    seconds > 0 ? (double)done / seconds : 0, percentile(50), percentile(99), percentile(100),
	    (unsigned long long)errors, error_text, (unsigned long long)waiting,
	    (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) + (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6);
}

static void
run_idle(void)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };
	int64_t deadline = now_us() + 3 * GRACE_US;

	if (epoll_ctl(ep, EPOLL_CTL_ADD, STDIN_FILENO, &ev) == -1) {
		perror("load: standard input");
		exit(1);
	}
	open_more(NULL);
	while (idle + errors < opt.sessions && errors < ERRORS_MAX && next_idle != UINT64_MAX && now_us() < deadline)
		turn(deadline);
	printf("{\"idle\": %llu, \"errors\": %llu, \"error\": \"%s\"}\n", (unsigned long long)idle,
	    (unsigned long long)errors, error_text);
	fflush(stdout);
	if (next_idle != UINT64_MAX)
		next_idle = opt.sessions;	/* no more are opened */
	while (next_idle != UINT64_MAX)
		turn(INT64_MAX);
	printf("{\"idle\": %llu}\n", (unsigned long long)(idle - dropped));
}

static uint64_t
number(const char *s, uint64_t min, uint64_t max)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(s, &end, 10);
	if (*s < '0' || *s > '9' || *end != '\0' || errno != 0 || n < min || n > max) {
		fprintf(stderr, "load: %s: not a number from %llu to %llu\n", s, (unsigned long long)min, (unsigned long long)max);
		exit(2);
	}
	return n;
}

int
main(int argc, char **argv)
{
	int o;

	while ((o = getopt(argc, argv, "ipP:s:m:t:k:l:n:")) != -1) {
		switch (o) {
		case 'i': opt.idle = true; break;
		case 'p': opt.pipelining = true; break;
		case 'P': opt.port = number(optarg, 1, UINT16_MAX); break;
		case 's': opt.sessions = number(optarg, 1, SESSIONS_MAX); break;
		case 'm': opt.messages = number(optarg, 1, MESSAGES_MAX); break;
		case 't': opt.seconds = number(optarg, 1, 3600); break;
		case 'k': opt.per_conn = number(optarg, 1, MESSAGES_MAX); break;
		case 'l': opt.size = number(optarg, 1, SIZE_MAX_OCTETS); break;
		case 'n': opt.at_once = number(optarg, 1, SESSIONS_MAX); break;
		default: return 2;
		}
	}
	if (opt.port == 0 || optind != argc) {
		fprintf(stderr, "usage: load [-ip] -P port [-s sessions] [-m messages] [-t seconds] [-k messages] [-l octets] [-n connections]\n");
		return 2;
	}
	message_make(opt.size);
	conns = calloc(opt.sessions, sizeof(*conns));
	latency = calloc(opt.messages, sizeof(*latency));
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (conns == NULL || latency == NULL || ep == -1) {
		perror("load");
		return 1;
	}
	for (uint64_t i = 0; i < opt.sessions; i++)
		conns[i].fd = -1;
	if (opt.idle)
		run_idle();
	else
		run_messages();
	return 0;
}
