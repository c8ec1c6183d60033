/*
 * spamd.c - a spam checker: SpamAssassin's spamd over the SPAMC protocol (1.5), by TCP or a unix socket.
 *
 * SECURITY-CASES 11.1 to 11.10, 11.40 to 11.42. One connection a check, as spamd wants it: SYMBOLS, the message, and its answer. The
 * message goes as it lies in its file, with LF, which spamd takes like CRLF. Our trace fields come first, as they will be delivered: the
 * topmost Received is how SpamAssassin knows the client's address. spamd only classifies, so a report never refuses by itself: "Spam: True"
 * is ACCEPT with is_spam, and score and required are for the thresholds.
 */
#include "spamd.h"

#include <errno.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_MS 2000
#define PORT 783			/* where the address has none */
#define REPLY_MAX 65536			/* octets of a reply, its symbols included */
#define SEND_SIZE 16384
#define SENDS 8				/* in one go: other sessions have their turn */
#define NUMBER_DIGITS 9			/* before the point of a score, and behind it */
#define END "\r\n\r\n"			/* of the reply's header */

enum stage { STAGE_CONNECT, STAGE_HEADER, STAGE_MESSAGE, STAGE_REPLY };

struct spamd {
	struct loop	*loop;		/* borrowed */
	const struct checker *checker;	/* borrowed */
	struct sockaddr_storage address;
	socklen_t	 address_len;
	struct spamd_check *checks;	/* those under way */
	size_t		 running;	/* of them, with a connection */
};

struct spamd_check {
	struct spamd_check *next;
	struct spamd	*spamd;
	enum stage	 stage;
	int		 fd;		/* owned; -1: there is none */
	struct loop_slot slot;
	int64_t		 connect_at, until_at;
	struct buf	 header;	/* of the request, to be sent, with the trace fields */
	int		 message_fd;	/* borrowed, the transaction's */
	uint64_t	 at, end;	/* of the message, to be sent */
	struct buf	 reply;
	size_t		 complete_at;	/* octets of the reply; 0: its header is not all there */
	filter_done	*done;
	void		*arg;
};

/* ---- a reply ---- */

static void
trouble(struct filter_report *r, const char *what, struct span of)
{
	size_t n = strlen(what);

	*r = (struct filter_report){ .action = FILTER_TROUBLE };
	(void)text_copy(r->detail, sizeof(r->detail), text_span(what));
	for (size_t i = 0; i < of.len && n + 1 < sizeof(r->detail); i++, n++)
		r->detail[n] = (char)(is_vchar(of.p[i]) || of.p[i] == ' ' ? of.p[i] : '?');
	r->detail[n] = '\0';
}

/* The next line of *rest, which ends in CRLF; false: there is none. */
static bool
next_line(struct span *rest, struct span *line)
{
	const char *p = rest->p == NULL ? NULL : memmem(rest->p, rest->len, "\r\n", 2);

	if (p == NULL)
		return false;
	*line = text_sub(*rest, 0, (size_t)(p - rest->p));
	*rest = text_sub(*rest, line->len + 2, rest->len);
	return true;
}

/* The length of the reply's header with the empty line, which is looked for from an offset on; 0: it is not there. */
static size_t
find_head(struct span reply, size_t from)
{
	const char *p = reply.p == NULL ? NULL : memmem(reply.p + from, reply.len - from, END, sizeof(END) - 1);

	return p == NULL ? 0 : (size_t)(p - reply.p) + sizeof(END) - 1;
}

/* "SPAMD/1.1 0 EX_OK": the code; false: it is no such line, or of another version (case 11.41). */
static bool
read_status(struct span line, uint64_t *code)
{
	struct span word, minor;
	uint64_t n;

	if (!text_token(&line, " ", &word) || !text_starts_nocase(word, "SPAMD/1."))
		return false;
	minor = text_sub(word, sizeof("SPAMD/1.") - 1, word.len);
	return text_u64(minor, 99, &n) == 0 && text_token(&line, " ", &word) && text_u64(word, 255, code) == 0;
}

/* "-12.5": a sign, digits, a point and digits, and nothing that a locale could change. */
static bool
read_number(struct span s, double *n)
{
	struct span whole, fraction;
	uint64_t w, f = 0;
	double scale = 1;
	bool negative = s.len > 0 && s.p[0] == '-';
	size_t point;

	s = text_sub(s, negative ? 1 : 0, s.len);
	point = text_find(s, '.');
	whole = text_sub(s, 0, point);
	fraction = point == SIZE_MAX ? SPAN("0") : text_sub(s, point + 1, s.len);
	if (whole.len > NUMBER_DIGITS || fraction.len > NUMBER_DIGITS || text_u64(whole, UINT64_MAX, &w) == -1 ||
	    text_u64(fraction, UINT64_MAX, &f) == -1)
		return false;
	for (size_t i = 0; i < fraction.len; i++)
		scale *= 10;
	*n = (double)w + (double)f / scale;
	if (negative && *n > 0)	/* spamd says "-0.0", too */
		*n = -*n;
	return true;
}

/* "True ; 15.0 / 5.0" */
static bool
read_spam(struct span s, struct filter_report *r)
{
	struct span word, score;

	if (!text_token(&s, ";", &word) || !text_token(&s, "/", &score))
		return false;
	word = text_trim(word);
	r->is_spam = text_is_nocase(word, "True") || text_is_nocase(word, "Yes");
	r->has_score = true;
	return (r->is_spam || text_is_nocase(word, "False") || text_is_nocase(word, "No")) &&
	    read_number(text_trim(score), &r->score) && read_number(text_trim(s), &r->required);
}

/* One field of the reply's header; false: it is none. */
static bool
read_field(struct span line, struct span *name, struct span *value)
{
	size_t colon = text_find(line, ':');

	if (colon == SIZE_MAX)
		return false;
	*name = text_trim(text_sub(line, 0, colon));
	*value = text_trim(text_sub(line, colon + 1, line.len));
	return true;
}

/* Content-length in these lines: 0, or -1 when it is no such number, or there are two. *has: there is one. */
static int
read_content_length(struct span lines, uint64_t *n, bool *has)
{
	struct span line, name, value;

	*has = false;
	while (next_line(&lines, &line)) {
		if (!read_field(line, &name, &value) || !text_is_nocase(name, "Content-length"))
			continue;
		if (*has || text_u64(value, REPLY_MAX, n) == -1)
			return -1;
		*has = true;
	}
	return 0;
}

/* The symbols, for the log: one line of printable octets, cut. */
static void
keep_symbols(struct span body, struct filter_report *r)
{
	size_t n = 0;

	while (body.len > 0 && is_class(body.p[body.len - 1], C_CNTRL | C_WSP))
		body.len--;
	for (; n < body.len && n + 1 < sizeof(r->detail); n++)
		r->detail[n] = (char)(is_vchar(body.p[n]) ? body.p[n] : '?');
	r->detail[n] = '\0';
}

void
spamd_read(struct span reply, struct filter_report *r)
{
	struct span head, body = reply, status, line, name, value;
	size_t head_len = find_head(reply, 0);
	uint64_t code, len;
	bool has_len, has_spam = false;

	if (reply.len == 0) {
		trouble(r, "no reply", (struct span){ 0 });
		return;
	}
	if (!next_line(&body, &status) || !read_status(status, &code)) {
		trouble(r, "no reply of spamd's: ", text_sub(reply, 0, text_find(reply, '\r')));
		return;
	}
	if (code != 0) {	/* such a reply may end here */
		trouble(r, "", status);
		return;
	}
	if (head_len == 0) {
		trouble(r, "the reply ends in its header", (struct span){ 0 });
		return;
	}
	head = text_sub(reply, status.len + 2, head_len - 2);	/* the fields, each with its CRLF */
	body = text_sub(reply, head_len, reply.len);
	if (read_content_length(head, &len, &has_len) == -1 || (has_len && len != body.len)) {
		trouble(r, "Content-length is wrong", (struct span){ 0 });
		return;
	}
	while (next_line(&head, &line)) {
		if (!read_field(line, &name, &value)) {
			trouble(r, "no header field: ", line);
			return;
		}
		if (!text_is_nocase(name, "Spam"))
			continue;
		if (has_spam || !read_spam(value, r)) {
			trouble(r, "cannot be understood: ", line);
			return;
		}
		has_spam = true;
	}
	if (!has_spam) {
		trouble(r, "no Spam field", (struct span){ 0 });
		return;
	}
	r->action = FILTER_ACCEPT;
	keep_symbols(body, r);
}

/* ---- one check ---- */

/* Out of the loop and the list, and its memory. */
static void
end(struct spamd_check *k)
{
	struct spamd_check **at = &k->spamd->checks;

	while (*at != k)
		at = &(*at)->next;
	*at = k->next;
	loop_remove(&k->slot);
	if (k->fd != -1) {
		close(k->fd);
		k->spamd->running--;
	}
	buf_clear(&k->header);
	buf_clear(&k->reply);
	free(k);
}

static void
report(struct spamd_check *k, const struct filter_report *r)
{
	filter_done *done = k->done;
	void *arg = k->arg;

	end(k);
	done(arg, r);
}

/* what: a constant; error: an errno, or 0. */
static void
fail(struct spamd_check *k, const char *what, int error)
{
	struct filter_report r;

	trouble(&r, what, text_span(error == 0 ? NULL : strerror(error)));
	report(k, &r);
}

/* All that is to come has come. */
static void
finish(struct spamd_check *k)
{
	struct filter_report r = { 0 };

	spamd_read(buf_span(&k->reply), &r);
	if (r.action != FILTER_TROUBLE && k->stage != STAGE_REPLY)	/* case 11.5: it cannot know what it speaks of */
		trouble(&r, "it answered before it had the message", (struct span){ 0 });
	report(k, &r);
}

/* Whether the reply is complete, so that nobody waits for the connection's end (case 11.7). before: what was there last time. */
static bool
is_complete(struct spamd_check *k, size_t before)
{
	struct span reply = buf_span(&k->reply);
	size_t head_len;
	uint64_t len;
	bool has_len;

	if (k->complete_at == 0) {
		head_len = find_head(reply, before < sizeof(END) ? 0 : before - sizeof(END));
		if (head_len == 0)
			return false;
		k->complete_at = head_len;
		/* without one, as spamd answers CHECK, or with a wrong one nothing is to come that would change the verdict */
		if (read_content_length(text_sub(reply, 0, head_len), &len, &has_len) == 0 && has_len)
			k->complete_at += (size_t)len;
	}
	return reply.len >= k->complete_at;
}

/* false: k has ended. */
static bool
receive(struct spamd_check *k)
{
	char data[SEND_SIZE];
	size_t before = buf_len(&k->reply);
	ssize_t n = recv(k->fd, data, sizeof(data), 0);

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n == -1) {
		fail(k, "connection lost: ", errno);
	} else if (n == 0) {
		finish(k);
	} else if (buf_add(&k->reply, data, (size_t)n) == -1) {
		fail(k, "the reply is too long", 0);
	} else if (is_complete(k, before)) {
		finish(k);
	} else {
		return true;
	}
	return false;
}

/* What is to be sent next, in data[SEND_SIZE] or in the header: its length, 0 when all is sent, -1 when the message cannot be read. */
static ssize_t
next_octets(struct spamd_check *k, char *data, const char **p)
{
	uint64_t left = k->end - k->at;

	if (k->stage == STAGE_HEADER) {
		*p = buf_span(&k->header).p;
		return (ssize_t)buf_len(&k->header);
	}
	*p = data;
	if (left == 0)
		return 0;
	left = left < SEND_SIZE ? left : SEND_SIZE;
	return pread(k->message_fd, data, (size_t)left, (off_t)k->at) == (ssize_t)left ? (ssize_t)left : -1;
}

static void
transmit(struct spamd_check *k)
{
	char data[SEND_SIZE];

	for (int i = 0; i < SENDS; i++) {
		const char *p;
		ssize_t n = next_octets(k, data, &p), sent;

		if (n == -1) {
			fail(k, "the message cannot be read", 0);
			return;
		}
		if (n == 0) {
			/* fails when spamd has gone, which the reply's end will tell */
			(void)shutdown(k->fd, SHUT_WR);
			k->stage = STAGE_REPLY;
			loop_events(&k->slot, POLLIN);
			return;
		}
		sent = send(k->fd, p, (size_t)n, MSG_NOSIGNAL);
		if (sent == -1 && (errno == EAGAIN || errno == EINTR))
			return;
		if (sent == -1) {
			/* it may have said why (case 11.4) */
			loop_events(&k->slot, POLLIN);
			return;
		}
		if (k->stage == STAGE_MESSAGE) {
			k->at += (uint64_t)sent;
			continue;
		}
		buf_drop(&k->header, (size_t)sent);
		if (buf_len(&k->header) == 0)
			k->stage = STAGE_MESSAGE;
	}
}

/* false: k has ended. */
static bool
connected(struct spamd_check *k)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(k->fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1)
		error = errno;
	if (error != 0) {
		fail(k, "cannot connect: ", error);
		return false;
	}
	k->stage = STAGE_HEADER;
	loop_deadline(&k->slot, k->until_at);
	loop_events(&k->slot, POLLIN | POLLOUT);
	return true;
}

static void
too_late(struct spamd_check *k)
{
	static const char *const texts[] = {
		[STAGE_CONNECT] = "timeout: connect", [STAGE_HEADER] = "timeout: request", [STAGE_MESSAGE] = "timeout: message",
		[STAGE_REPLY] = "timeout: reply",
	};
	struct filter_report r;

	trouble(&r, texts[k->stage], (struct span){ 0 });
	r.timed_out = true;
	report(k, &r);
}

static void	ready(void *arg, short revents);

static int
dial(struct spamd_check *k)
{
	struct spamd *s = k->spamd;

	return loop_connect(s->loop, &k->slot, k->fd, (const struct sockaddr *)&s->address, s->address_len, k->connect_at, ready, k);
}

static void
ready(void *arg, short revents)
{
	struct spamd_check *k = arg;

	if (revents == 0) {
		if (k->stage != STAGE_CONNECT || k->spamd->loop->now_ms >= k->connect_at)
			too_late(k);
		else if (dial(k) == -1)
			fail(k, "cannot connect: ", errno);
		return;
	}
	if (k->stage == STAGE_CONNECT && !connected(k))
		return;
	if ((revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !receive(k))
		return;
	if ((revents & POLLOUT) != 0 && k->stage != STAGE_REPLY)
		transmit(k);
}

/* ---- the interface ---- */

/* "127.0.0.1:783", "[::1]:783", "localhost:783", the port being optional, or "unix:/path". Names would have to be looked up. */
static bool
parse_address(struct span s, struct spamd *d)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&d->address;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&d->address;
	struct sockaddr_in *in4 = (struct sockaddr_in *)&d->address;
	bool brackets = s.len > 0 && s.p[0] == '[';
	size_t host_len = brackets ? text_find(s, ']') : text_find(s, ':');
	struct span port;
	uint64_t n = PORT;
	char host[INET6_ADDRSTRLEN];

	if (text_starts_nocase(s, "unix:")) {
		un->sun_family = AF_UNIX;
		d->address_len = sizeof(*un);
		s = text_sub(s, sizeof("unix:") - 1, s.len);
		return s.len > 0 && s.p[0] == '/' && text_copy(un->sun_path, sizeof(un->sun_path), s) == 0;
	}
	if (brackets && host_len == SIZE_MAX)
		return false;
	port = text_sub(s, brackets ? host_len + 1 : host_len, s.len);
	if (port.len > 0 && (port.p[0] != ':' || text_u64(text_sub(port, 1, port.len), UINT16_MAX, &n) == -1 || n == 0))
		return false;
	if (text_copy(host, sizeof(host), text_sub(s, brackets, host_len)) == -1)
		return false;
	if (brackets) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)n);
		d->address_len = sizeof(*in6);
		return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1;
	}
	in4->sin_family = AF_INET;
	in4->sin_port = htons((uint16_t)n);
	d->address_len = sizeof(*in4);
	return inet_pton(AF_INET, text_is_nocase(text_span(host), "localhost") ? "127.0.0.1" : host, &in4->sin_addr) == 1;
}

struct spamd *
spamd_new(struct loop *l, const struct checker *c)
{
	struct spamd *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->loop = l;
	s->checker = c;
	if (!parse_address(text_span(c->url), s) || text_has(text_span(c->user), C_CNTRL)) {
		free(s);
		errno = EINVAL;
		return NULL;
	}
	return s;
}

void
spamd_free(struct spamd *s)
{
	if (s == NULL)
		return;
	while (s->checks != NULL)
		end(s->checks);
	free(s);
}

/* Its connection is on the way, and the request is there to be sent. 0, or -1 with errno. */
static int
begin(struct spamd_check *k, const struct tx *tx)
{
	struct spamd *s = k->spamd;
	char memory[MESSAGE_TRACE_MAX];
	struct buf trace;

	if (s->running >= s->checker->max_checks) {
		errno = EAGAIN;
		return -1;
	}
	buf_fixed(&trace, memory, sizeof(memory));
	message_trace_fields(tx, time(NULL), &trace);
	buf_printf(&k->header, "SYMBOLS SPAMC/1.5\r\n");
	if (s->checker->user[0] != '\0')
		buf_printf(&k->header, "User: %s\r\n", s->checker->user);
	buf_printf(&k->header, "Content-length: %llu\r\n\r\n", (unsigned long long)buf_len(&trace) + (k->end - k->at));
	buf_add_span(&k->header, buf_span(&trace));
	if (k->header.failed || trace.failed) {
		errno = ENOMEM;
		return -1;
	}
	k->fd = socket(s->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (k->fd == -1)
		return -1;
	s->running++;	/* end() takes it back */
	k->stage = STAGE_CONNECT;
	k->connect_at = s->loop->now_ms + CONNECT_MS;
	if (k->connect_at > k->until_at)
		k->connect_at = k->until_at;
	return dial(k);
}

struct spamd_check *
spamd_start(struct spamd *s, const struct tx *tx, int64_t timeout_ms, filter_done *done, void *arg)
{
	uint64_t at = message_at(tx);
	struct spamd_check *k;
	int error;

	if (tx->size > at && tx->size - at > s->checker->max_size) {
		errno = EFBIG;
		return NULL;
	}
	k = calloc(1, sizeof(*k));
	if (k == NULL)
		return NULL;
	k->spamd = s;
	k->fd = -1;
	k->message_fd = tx->fd;
	k->at = at;
	k->end = tx->size < at ? at : tx->size;
	k->done = done;
	k->arg = arg;
	k->until_at = loop_clock_ms() + timeout_ms;
	buf_init(&k->header, 1024 + strlen(s->checker->user) + MESSAGE_TRACE_MAX);
	buf_init(&k->reply, REPLY_MAX);
	k->next = s->checks;
	s->checks = k;
	if (begin(k, tx) == 0)
		return k;
	error = errno;
	end(k);
	errno = error;
	return NULL;
}

void
spamd_cancel(struct spamd_check *k)
{
	end(k);
}
