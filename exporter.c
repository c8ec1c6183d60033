/*
 * exporter.c - the metrics listener's process: HTTP for Prometheus and for whoever asks whether we live and are ready.
 *
 * RFC 9110, 9112: GET and HEAD, keep-alive, one request after the other. An answer is made in pieces of what the socket takes, so
 * that its length costs no memory. Clients are few and have a place each; when all are taken, a new one gets the place of whoever
 * has been silent longest (case 13.7): a scraper comes through a thousand slow clients.
 */
#include "exporter.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ipc.h"
#include "loop.h"
#include "sandbox.h"

#define CLIENTS_MAX 32
#define OUT_SIZE 16384
#define REQUEST_MS 5000		/* for a request to come, and for an answer to be read */
#define IDLE_MS 120000		/* between requests: scrapes are a minute apart at most, as a rule */
#define LINGER_MS 2000		/* after the last answer, for the client to read it: closing on unread input would destroy it */
#define LINGER_MAX (256 * 1024)
#define ACCEPT_MAX 16
#define ACCEPT_PAUSE_MS 100
#define CHUNK_HEAD 6		/* "3fe0", CR LF */
#define CHUNK_TAIL 7		/* CR LF, and the last chunk */

struct client {
	int		 fd;		/* owned; -1: the place is free */
	struct loop_slot slot;
	int64_t		 since_at;	/* when its request began to be waited for, or its answer to be sent */
	bool		 served;	/* it has had an answer */
	bool		 printing;	/* the metrics' text is not all in out yet */
	bool		 chunked;	/* which is sent so */
	bool		 closing;	/* no more requests */
	bool		 lingering;
	struct metrics_cursor at;
	size_t		 in_len, out_len, out_sent, lingered;
	char		 in[EXPORTER_HEAD_MAX];
	char		 out[OUT_SIZE];
};

static struct exporter {	/* one a process */
	struct exporter_args args;
	struct loop	 loop;
	struct loop_slot listen, control;
	bool		 draining;
	struct client	 clients[CLIENTS_MAX];
} exporter;

/* ---- requests ---- */

/* RFC 9110 5.6.2 */
static bool
is_token(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] != '.' && (!is_atext(s.p[i]) || text_find(SPAN("/=?{}"), s.p[i]) != SIZE_MAX))
			return false;
	return s.len > 0;
}

/* The next line without its CR LF, which has no other control octet than tabs. */
static enum exporter_parse
next_line(struct span *rest, struct span *line)
{
	size_t n = text_find(*rest, '\n');

	if (n == SIZE_MAX)
		return EXPORTER_MORE;
	if (n == 0 || rest->p[n - 1] != '\r')
		return EXPORTER_BAD;
	*line = text_sub(*rest, 0, n - 1);
	*rest = text_sub(*rest, n + 1, rest->len);
	for (size_t i = 0; i < line->len; i++)
		if (is_class(line->p[i], C_CNTRL) && line->p[i] != '\t')
			return EXPORTER_BAD;
	return EXPORTER_REQUEST;
}

/* What follows the octet at n; SIZE_MAX: nothing. */
static struct span
after(struct span s, size_t n)
{
	return text_sub(s, n == SIZE_MAX ? s.len : n + 1, s.len);
}

/* method SP target SP version (RFC 9112 3). A target is a path, or a URL as a proxy would be asked for (3.2.2). */
static bool
request_line(struct span line, struct exporter_request *q)
{
	struct span target, version;
	size_t n = text_find(line, ' ');

	q->method = text_sub(line, 0, n);
	target = after(line, n);
	n = text_find(target, ' ');
	version = after(target, n);
	target = text_sub(target, 0, n);
	if (!is_token(q->method) || (!text_is(version, "HTTP/1.1") && !text_is(version, "HTTP/1.0")))
		return false;
	q->http_1_0 = text_is(version, "HTTP/1.0");
	for (size_t i = 0; i < target.len; i++)
		if (!is_vchar(target.p[i]))
			return false;
	if (text_starts_nocase(target, "http://")) {
		target = text_sub(target, 7, target.len);
		n = text_find(target, '/');
		target = n == SIZE_MAX ? SPAN("/") : text_sub(target, n, target.len);
	}
	q->path = text_sub(target, 0, text_find(target, '?'));
	return text_is(q->path, "*") || (q->path.len > 0 && q->path.p[0] == '/');
}

/* A weight (RFC 9110 12.4.2) in thousandths; what is none is 0. */
static unsigned
weight(struct span s)
{
	unsigned w = 0, digits = 0;

	for (size_t i = 0; i < s.len; i++) {
		if (i == 1 && s.p[i] == '.')
			continue;
		if (!is_digit(s.p[i]) || i > 4 || (i == 1))
			return 0;
		w = 10 * w + (unsigned)(s.p[i] - '0');
		digits++;
	}
	for (; digits > 0 && digits < 4; digits++)
		w *= 10;
	return w <= 1000 ? w : 0;
}

/* How much each format is wanted, by an Accept field (RFC 9110 12.5.1): the most that any of its ranges says. */
static void
accept_field(struct span field, unsigned *openmetrics, unsigned *text)
{
	struct span range, part;

	while (text_token(&field, ",", &range)) {
		unsigned w = 1000;
		bool version = true, is_open, is_text;

		if (!text_token(&range, ";", &part))
			continue;
		part = text_trim(part);
		is_open = text_is_nocase(part, "application/openmetrics-text");
		is_text = text_is_nocase(part, "text/plain") || text_is_nocase(part, "text/*") || text_is(part, "*/*");
		while (text_token(&range, ";", &part)) {
			part = text_trim(part);
			if (text_starts_nocase(part, "q="))
				w = weight(text_sub(part, 2, part.len));
			else if (text_starts_nocase(part, "version="))
				version = text_is(part, "version=1.0.0") || text_is(part, "version=\"1.0.0\"");
		}
		if (is_open && version && w > *openmetrics)
			*openmetrics = w;
		if (is_text && w > *text)
			*text = w;
	}
}

static bool
has_word(struct span list, const char *word)
{
	struct span item;

	while (text_token(&list, ",", &item))
		if (text_is_nocase(text_trim(item), word))
			return true;
	return false;
}

enum exporter_parse
exporter_parse(struct span in, struct exporter_request *q)
{
	struct span rest = text_sub(in, 0, EXPORTER_HEAD_MAX), line = { 0 };
	unsigned hosts = 0, openmetrics = 0, text = 0;
	enum exporter_parse r;
	struct exporter_request found = { 0 };
	bool first = true;

	*q = found;
	if (text_is(text_sub(rest, 0, 2), "\r\n"))	/* left over from an earlier request (RFC 9112 2.2) */
		rest = text_sub(rest, 2, rest.len);
	while ((r = next_line(&rest, &line)) == EXPORTER_REQUEST && (line.len > 0 || first)) {
		size_t colon = text_find(line, ':');
		struct span name = text_sub(line, 0, colon), value;

		if (first && !request_line(line, &found))
			return EXPORTER_BAD;
		if (!first && (colon == SIZE_MAX || !is_token(name)))	/* neither folded nor with a space in front of the colon (5.1, 5.2) */
			return EXPORTER_BAD;
		if (first) {
			first = false;
			continue;
		}
		value = text_trim(after(line, colon));
		if (text_is_nocase(name, "Host"))
			hosts++;
		else if (text_is_nocase(name, "Accept"))
			accept_field(value, &openmetrics, &text);
		else if (text_is_nocase(name, "Transfer-Encoding") || (text_is_nocase(name, "Content-Length") && !text_is(value, "0")) ||
		    (text_is_nocase(name, "Connection") && has_word(value, "close")))
			found.close = true;
	}
	if (r == EXPORTER_MORE)
		return in.len < EXPORTER_HEAD_MAX ? EXPORTER_MORE : EXPORTER_TOO_LARGE;
	if (r == EXPORTER_BAD || hosts > 1 || (hosts == 0 && !found.http_1_0))
		return EXPORTER_BAD;
	found.len = (size_t)(rest.p - in.p);
	found.close = found.close || found.http_1_0;
	found.openmetrics = openmetrics > 0 && openmetrics >= text;
	*q = found;
	return EXPORTER_REQUEST;
}

/* ---- answers ---- */

static const struct {
	unsigned	 reason;	/* a bit of enum metrics_unready */
	const char	*text;
} unready[] = {
	{ UNREADY_STARTING, "starting" },
	{ UNREADY_STOPPING, "stopping" },
	{ UNREADY_AGENT, "no agent" },
	{ UNREADY_FRONT, "a listener without a front" },
};

/* The head of an answer up to what says how long it is. */
static void
begin(const struct client *c, struct buf *out, const char *status, const char *type)
{
	time_t now = time(NULL);
	struct tm tm;
	char date[64] = "";

	/* cannot fail: there is room, and the year is one of the next millions */
	if (gmtime_r(&now, &tm) != NULL)
		(void)strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	buf_printf(out, "HTTP/1.1 %s\r\nDate: %s\r\nContent-Type: %s\r\n", status, date, type);
	if (c->closing)
		buf_add_str(out, "Connection: close\r\n");
}

/* more: further fields. The whole of it fits: all texts are ours, and short. */
static void
answer(struct client *c, bool head, const char *status, const char *more, struct span text)
{
	struct buf out;

	buf_fixed(&out, c->out, sizeof(c->out));
	begin(c, &out, status, "text/plain; charset=utf-8");
	buf_printf(&out, "%sContent-Length: %zu\r\n\r\n", more, text.len);
	if (!head)
		buf_add_span(&out, text);
	c->out_len = buf_len(&out);
}

static void
answer_ready(struct client *c, bool head)
{
	unsigned reasons = metrics_reasons(exporter.args.metrics);
	char text[256];
	struct buf b;

	buf_fixed(&b, text, sizeof(text));
	for (size_t i = 0; i < COUNT(unready); i++)
		if ((reasons & unready[i].reason) != 0)
			buf_printf(&b, "%s\n", unready[i].text);
	if (reasons == 0)
		answer(c, head, "200 OK", "", SPAN("ready\n"));
	else
		answer(c, head, "503 Service Unavailable", "", buf_span(&b));
}

/* Clients connected now, from the fronts' own rows: what a front that died had counted is gone with it. */
static void
count_active(uint32_t active[METRICS_LISTENERS])
{
	for (int i = 0; i < LIMITS_ROWS; i++) {
		const struct limits_row *row = &exporter.args.limits->rows[i];
		uint32_t listener = row->listener;

		if (row->taken != 0)
			active[listener < METRICS_LISTENERS ? listener : 0] += row->connections;
	}
}

static void
answer_metrics(struct client *c, const struct exporter_request *q, bool head)
{
	struct buf out;

	buf_fixed(&out, c->out, sizeof(c->out));
	begin(c, &out, "200 OK", q->openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8" :
	    "text/plain; version=0.0.4; charset=utf-8");
	/* HTTP/1.0 does not know chunks: there the end of the connection is the text's */
	buf_add_str(&out, q->http_1_0 ? "\r\n" : "Transfer-Encoding: chunked\r\n\r\n");
	c->out_len = buf_len(&out);
	c->chunked = !q->http_1_0;
	c->printing = !head;
	c->at = (struct metrics_cursor){ .openmetrics = q->openmetrics };
	count_active(c->at.active);
}

/* More of the text into out, which is empty. */
static void
print(struct client *c)
{
	size_t head = c->chunked ? CHUNK_HEAD : 0;
	char size[CHUNK_HEAD + 1];
	struct buf out;

	buf_fixed(&out, c->out + head, sizeof(c->out) - head - CHUNK_TAIL);
	c->printing = !metrics_print(exporter.args.metrics, &c->at, &out);
	c->out_len = head + buf_len(&out);
	if (!c->chunked)
		return;
	if (buf_len(&out) == 0) {	/* an empty chunk would be the last one */
		c->out_len = 0;
	} else {
		(void)snprintf(size, sizeof(size), "%04x\r\n", (unsigned)buf_len(&out));
		memcpy(c->out, size, CHUNK_HEAD);
		memcpy(c->out + c->out_len, "\r\n", 2);
		c->out_len += 2;
	}
	if (!c->printing) {
		memcpy(c->out + c->out_len, "0\r\n\r\n", 5);
		c->out_len += 5;
	}
}

static void
answer_request(struct client *c, const struct exporter_request *q)
{
	bool head = text_is(q->method, "HEAD");

	c->closing = c->closing || q->close || exporter.draining;
	if (!head && !text_is(q->method, "GET"))
		answer(c, false, "405 Method Not Allowed", "Allow: GET, HEAD\r\n", SPAN("GET and HEAD only\n"));
	else if (text_is(q->path, exporter.args.config->metrics_path))
		answer_metrics(c, q, head);
	else if (text_is(q->path, "/health") || text_is(q->path, "/healthz"))
		answer(c, head, "200 OK", "", SPAN("ok\n"));
	else if (text_is(q->path, "/readyz"))
		answer_ready(c, head);
	else
		answer(c, head, "404 Not Found", "", SPAN("not found\n"));
}

/* ---- clients ---- */

static void
client_close(struct client *c)
{
	loop_remove(&c->slot);
	close(c->fd);
	c->fd = -1;
}

static void
client_linger(struct client *c)
{
	if (shutdown(c->fd, SHUT_WR) == -1) {
		client_close(c);
		return;
	}
	c->lingering = true;
	loop_events(&c->slot, POLLIN);
	loop_deadline(&c->slot, exporter.loop.now_ms + LINGER_MS);
}

static bool
is_idle(const struct client *c)
{
	return c->served && c->in_len == 0;
}

/* Whether all is sent; if not, it is waited for, or the client is gone. */
static bool
client_flush(struct client *c)
{
	while (c->out_sent < c->out_len) {
		ssize_t n = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && errno == EAGAIN) {
			loop_events(&c->slot, POLLOUT);
			loop_deadline(&c->slot, c->since_at + REQUEST_MS);
			return false;
		}
		if (n == -1) {
			client_close(c);
			return false;
		}
		c->out_sent += (size_t)n;
	}
	c->out_len = c->out_sent = 0;
	return true;
}

/* Take the request that is there. false: none is there whole. */
static bool
client_request(struct client *c)
{
	struct exporter_request q;

	switch (exporter_parse((struct span){ c->in, c->in_len }, &q)) {
	case EXPORTER_MORE:
		return false;
	case EXPORTER_BAD:
		c->closing = true;
		answer(c, false, "400 Bad Request", "", SPAN("bad request\n"));
		break;
	case EXPORTER_TOO_LARGE:
		c->closing = true;
		answer(c, false, "431 Request Header Fields Too Large", "", SPAN("request too large\n"));
		break;
	case EXPORTER_REQUEST:
		answer_request(c, &q);
		c->in_len -= q.len;
		memmove(c->in, c->in + q.len, c->in_len);
		break;
	}
	c->served = true;
	c->since_at = exporter.loop.now_ms;
	return true;
}

/* As far as it goes without waiting. */
static void
client_work(struct client *c)
{
	while (client_flush(c)) {
		if (c->printing) {
			print(c);
		} else if (c->closing) {
			client_linger(c);
			return;
		} else if (!client_request(c)) {
			loop_events(&c->slot, POLLIN);
			loop_deadline(&c->slot, c->since_at + (is_idle(c) ? IDLE_MS : REQUEST_MS));
			return;
		}
	}
}

static void
client_drain(struct client *c)
{
	ssize_t n = recv(c->fd, c->in, sizeof(c->in), MSG_DONTWAIT);

	if (n > 0)
		c->lingered += (size_t)n;
	if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR) || c->lingered > LINGER_MAX)
		client_close(c);
}

static void
client_read(struct client *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {	/* a client that has sent its last request may still read: but all that was whole has been answered */
		client_close(c);
		return;
	}
	if (is_idle(c))
		c->since_at = exporter.loop.now_ms;
	c->in_len += (size_t)n;
	client_work(c);
}

static void
client_ready(void *arg, short revents)
{
	struct client *c = arg;

	if (revents == 0)
		client_close(c);
	else if (c->lingering)
		client_drain(c);
	else if (c->out_len > 0)
		client_work(c);
	else
		client_read(c);
}

/* A place for a new client; NULL: all are taken by clients that read their answers. */
static struct client *
client_place(void)
{
	struct client *first = NULL;

	for (struct client *c = exporter.clients; c < exporter.clients + CLIENTS_MAX; c++) {
		if (c->fd == -1)
			return c;
		if ((c->lingering || c->out_len == 0) && (first == NULL || c->since_at < first->since_at))
			first = c;
	}
	if (first != NULL)
		client_close(first);
	return first;
}

static void
client_open(int fd)
{
	struct client *c = client_place();

	if (c == NULL) {
		close(fd);
		return;
	}
	c->fd = fd;
	c->since_at = exporter.loop.now_ms;
	c->served = c->printing = c->chunked = c->closing = c->lingering = false;
	c->in_len = c->out_len = c->out_sent = c->lingered = 0;
	/* cannot fail: the loop has a slot for each client */
	(void)loop_add(&exporter.loop, &c->slot, fd, POLLIN, client_ready, c);
	loop_deadline(&c->slot, c->since_at + REQUEST_MS);
	client_read(c);		/* before others could take its place: its request is often there already */
}

static void
listen_ready(void *arg, short revents)
{
	(void)arg;
	if (revents == 0) {	/* the pause is over */
		loop_events(&exporter.listen, POLLIN);
		return;
	}
	for (int i = 0; i < ACCEPT_MAX; i++) {
		int fd = accept4(exporter.args.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd == -1 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd == -1 && errno == EAGAIN)
			return;
		if (fd == -1) {		/* out of descriptors or memory: not now, but not for ever */
			log_warn(0, "accept", LF_ERRNO(errno));
			loop_events(&exporter.listen, 0);
			loop_deadline(&exporter.listen, exporter.loop.now_ms + ACCEPT_PAUSE_MS);
			return;
		}
		client_open(fd);
	}
}

/* ---- the master's word ---- */

/* A new process listens: answers that are being sent are sent to their ends. */
static void
drain(void)
{
	exporter.draining = true;
	loop_remove(&exporter.listen);
	for (struct client *c = exporter.clients; c < exporter.clients + CLIENTS_MAX; c++) {
		if (c->fd != -1 && is_idle(c) && c->out_len == 0)
			client_close(c);
		else
			c->closing = c->closing || c->out_len > 0;
	}
}

static void
control_ready(void *arg, short revents)
{
	(void)arg;
	(void)revents;
	for (;;) {
		enum control what;
		uint32_t number;
		int fd, n = ipc_recv_control(exporter.args.control_fd, &what, &number, &fd);

		if (n == -1 && errno == EAGAIN)
			return;
		if (fd != -1)
			close(fd);
		if (n <= 0 || what == CTL_STOP) {
			exporter.loop.stop = true;
			return;
		}
		if (what == CTL_DRAIN && !exporter.draining)
			drain();
	}
}

static bool
is_done(void)
{
	for (const struct client *c = exporter.clients; c < exporter.clients + CLIENTS_MAX; c++)
		if (c->fd != -1)
			return false;
	return exporter.draining;
}

int
exporter_run(const struct exporter_args *args)
{
	exporter.args = *args;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		exporter.clients[i].fd = -1;
	if (loop_init(&exporter.loop, CLIENTS_MAX + 2) == -1 ||
	    loop_add(&exporter.loop, &exporter.listen, args->listen_fd, POLLIN, listen_ready, NULL) == -1 ||
	    loop_add(&exporter.loop, &exporter.control, args->control_fd, POLLIN, control_ready, NULL) == -1)
		fatal("exporter", "cannot start: %s", strerror(errno));
	/* it reads, and has nothing to write */
	metrics_lock(args->metrics, true);
	limits_lock(args->limits);
	if (args->sandbox)
		sandbox_front(args->config->user);
	while (!is_done() && !exporter.loop.stop)
		if (loop_turn(&exporter.loop, -1) == -1)
			fatal("exporter", "poll: %s", strerror(errno));
	loop_clear(&exporter.loop);
	return 0;
}
