/*
 * http.c - HTTP requests over libcurl's multi interface, inside a poll loop.
 *
 * libcurl names the sockets that it waits for (socket_wanted), each a slot of the loop, and is told when one is ready or its time
 * has come. Calls that have ended are reported when it has returned: functions of others never run inside it.
 */
#include "http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SOCKETS_PER_CALL 4		/* two addresses tried at once, the resolver's, one that is closing */
#define SPARE_MAX 4			/* handles kept for the next calls, with their buffers: without them a check costs 0.82 ms of CPU, not 0.60 */
#define MAX_AGE_MAX INT64_C(2147483648)	/* RFC 9111 1.2.2: what is larger counts as this */

struct http_call {
	struct http	*http;
	CURL		*easy;		/* owned */
	struct curl_slist *headers;	/* owned */
	struct buf	 body;		/* of the answer */
	int		 body_fd;	/* borrowed until done */
	uint64_t	 body_at, body_len, sent;
	bool		 early;		/* the answer began before all of ours was sent */
	bool		 headed;	/* its header is all there */
	const char	*failed;	/* why we have ended it, where libcurl does not know that; NULL: we have not */
	int64_t		 started_us;
	bool		 unhurried;
	http_done	*done;
	void		*arg;
	char		 error[CURL_ERROR_SIZE];
};

struct http_socket {
	struct http	*http;
	int		 fd;		/* libcurl's */
	struct loop_slot slot;		/* in no loop: the place is free */
};

struct http {
	struct loop	*loop;		/* borrowed until http_free() */
	CURLM		*multi;		/* owned */
	struct loop_slot timer;		/* when libcurl wants to be called without a socket */
	struct http_call **calls;	/* owned; NULL: the place is free */
	struct http_socket *sockets;	/* owned */
	CURL		*spare[SPARE_MAX];	/* owned: those of calls that ended */
	size_t		 spare_n, running, unhurried, max, sockets_max;
};

/* What TLS trusts without a ca_file: where Debian, Fedora, Alpine and the BSDs, and SUSE keep it. */
static const char *const bundles[] = {
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem",
};

/* ---- one call ---- */

/* Its place is free. */
static void
leave(struct http_call *c)
{
	struct http *h = c->http;

	for (size_t i = 0; i < h->max; i++) {
		if (h->calls[i] == c) {
			h->calls[i] = NULL;
			h->running--;
			h->unhurried -= c->unhurried;
		}
	}
}

/* The one place where a call's memory ends. */
static void
end(struct http_call *c)
{
	struct http *h = c->http;

	leave(c);
	if (c->easy != NULL) {
		/* cannot fail: it is in this multi handle or in none */
		(void)curl_multi_remove_handle(h->multi, c->easy);
		curl_easy_reset(c->easy);
		if (h->spare_n < SPARE_MAX)
			h->spare[h->spare_n++] = c->easy;
		else
			curl_easy_cleanup(c->easy);
	}
	curl_slist_free_all(c->headers);
	buf_clear(&c->body);
	free(c);
}

/* Cache-Control of an answer, all its fields; the shortest time said. */
static int64_t
answer_max_age(CURL *easy)
{
	struct curl_header *field;
	int64_t max_age_s = -1;

	for (size_t i = 0; curl_easy_header(easy, "Cache-Control", i, CURLH_HEADER, -1, &field) == CURLHE_OK; i++) {
		int64_t n = http_max_age(text_span(field->value));

		if (n != -1 && (max_age_s == -1 || n < max_age_s))
			max_age_s = n;
	}
	return max_age_s;
}

/* libcurl's words may hold what the server said. Built without the texts of curl_easy_strerror(), it may also have none. */
static const char *
error_text(struct http_call *c, CURLcode result)
{
	if (c->error[0] == '\0')
		(void)snprintf(c->error, sizeof(c->error), "libcurl error %d", (int)result);
	for (char *p = c->error; *p != '\0'; p++)
		if (!is_vchar(*p) && *p != ' ')
			*p = '?';
	return c->error;
}

/* Report and end. done() finds the place free: it may start another call. */
static void
finish(struct http_call *c, CURLcode result)
{
	struct http_answer a = { .error = "", .content_type = "", .max_age_s = -1 };
	char *type = NULL;
	long status = 0;

	a.took_us = loop_clock_us() - c->started_us;
	if (c->failed == NULL && result == CURLE_OK && curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK &&
	    status / 100 == 2 && (c->early || c->sent < c->body_len))	/* case 11.5: it cannot know what it speaks of */
		c->failed = "it answered before it had all that was sent";
	if (c->failed == NULL && status > 0 && !c->headed)	/* for libcurl it has no body then */
		c->failed = "the answer ends in its header";
	if (c->failed == NULL && result == CURLE_OK && status > 0) {
		a.status = (int)status;
		a.body = buf_span(&c->body);
		if (curl_easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &type) == CURLE_OK && type != NULL)
			a.content_type = type;
		a.max_age_s = answer_max_age(c->easy);
	} else {
		a.timed_out = c->failed == NULL && result == CURLE_OPERATION_TIMEDOUT;
		a.error = c->failed != NULL ? c->failed : error_text(c, result);
	}
	leave(c);
	c->done(c->arg, &a);
	end(c);
}

/* ---- libcurl's callbacks ---- */

static size_t
body_wanted(char *p, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	uint64_t left = c->body_len - c->sent;
	size_t want = size * n;		/* room in p, which exists: no overflow */
	ssize_t got;

	if (want > left)
		want = (size_t)left;
	if (want == 0)
		return 0;
	got = pread(c->body_fd, p, want, (off_t)(c->body_at + c->sent));
	if (got <= 0) {
		c->failed = got == 0 ? "the body to send is shorter than it was" : "the body to send cannot be read";
		return CURL_READFUNC_ABORT;
	}
	c->sent += (uint64_t)got;
	return (size_t)got;
}

/* The request is sent again when a kept connection turned out to be dead (case 11.9). */
static int
body_again(void *arg, curl_off_t offset, int origin)
{
	struct http_call *c = arg;

	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > c->body_len)
		return CURL_SEEKFUNC_FAIL;
	c->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* A line of the answer's header, or of one before it (1xx), or of what is behind the body. */
static size_t
head_came(char *p, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	struct span line = { p, size * n };

	if (text_starts_nocase(line, "HTTP/")) {
		c->headed = false;
		c->early = c->sent < c->body_len;
	} else if (text_is(line, "\r\n") || text_is(line, "\n")) {
		c->headed = true;
	}
	return line.len;
}

static size_t
answer_came(char *p, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;

	if (buf_add(&c->body, p, size * n) == 0)
		return size * n;
	c->failed = "the answer is too long";
	return CURL_WRITEFUNC_ERROR;
}

static void	call_curl(struct http *h, curl_socket_t fd, int what);

static void
socket_ready(void *arg, short revents)
{
	struct http_socket *s = arg;

	call_curl(s->http, s->fd, ((revents & POLLIN) != 0 ? CURL_CSELECT_IN : 0) | ((revents & POLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
	    ((revents & (POLLERR | POLLHUP | POLLNVAL)) != 0 ? CURL_CSELECT_ERR : 0));
}

/* A slot for a socket, or NULL: it will not be polled, so the call ends. */
static struct http_socket *
socket_add(struct http *h, CURL *easy, int fd)
{
	struct http_socket *s = NULL;
	struct http_call *c = NULL;

	for (size_t i = 0; i < h->sockets_max && s == NULL; i++)
		if (h->sockets[i].slot.loop == NULL)
			s = &h->sockets[i];
	if (s != NULL && loop_add(h->loop, &s->slot, fd, 0, socket_ready, s) == 0) {
		s->http = h;
		s->fd = fd;
		if (curl_multi_assign(h->multi, fd, s) == CURLM_OK)
			return s;
		loop_remove(&s->slot);
	}
	/* a handle of libcurl's own, which closes connections, has none */
	if (curl_easy_getinfo(easy, CURLINFO_PRIVATE, &c) == CURLE_OK && c != NULL)
		c->failed = "too many sockets";
	return NULL;
}

static int
socket_wanted(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct http_socket *s = known;

	if (what == CURL_POLL_REMOVE) {
		if (s != NULL)
			loop_remove(&s->slot);
		return 0;
	}
	if (s == NULL)
		s = socket_add(arg, easy, fd);
	if (s != NULL)
		loop_events(&s->slot, (short)(((what & CURL_POLL_IN) != 0 ? POLLIN : 0) | ((what & CURL_POLL_OUT) != 0 ? POLLOUT : 0)));
	return 0;	/* -1 would end all calls, not this one */
}

/* ---- the loop ---- */

/* When to call libcurl again. It is asked each time, so that one who comes a moment too early comes again. */
static void
set_timer(struct http *h)
{
	long ms = -1;

	/* cannot fail: the handle is good */
	(void)curl_multi_timeout(h->multi, &ms);
	for (size_t i = 0; i < h->max; i++)
		if (h->calls[i] != NULL && h->calls[i]->failed != NULL)
			ms = 0;
	/* at once is in this turn still */
	loop_deadline(&h->timer, ms < 0 ? LOOP_NEVER : ms == 0 ? h->loop->now_ms : loop_clock_ms() + ms);
}

static void
call_curl(struct http *h, curl_socket_t fd, int what)
{
	CURLMsg *m;
	int running, left;

	/* what fails is a call, and that has its message */
	(void)curl_multi_socket_action(h->multi, fd, what, &running);
	while ((m = curl_multi_info_read(h->multi, &left)) != NULL) {
		CURLcode result = m->data.result;
		struct http_call *c = NULL;

		if (m->msg == CURLMSG_DONE && curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c) == CURLE_OK && c != NULL)
			finish(c, result);
	}
	for (size_t i = 0; i < h->max; i++)
		if (h->calls[i] != NULL && h->calls[i]->failed != NULL)
			finish(h->calls[i], CURLE_OK);
	set_timer(h);
}

static void
timer_fired(void *arg, short revents)
{
	(void)revents;
	call_curl(arg, CURL_SOCKET_TIMEOUT, 0);
}

struct http *
http_new(struct loop *l, size_t max)
{
	struct http *h;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		errno = ENOMEM;
		return NULL;
	}
	h = calloc(1, sizeof(*h));
	if (h == NULL)
		goto fail;
	*h = (struct http){ .loop = l, .max = max, .sockets_max = SOCKETS_PER_CALL * max };
	h->calls = calloc(h->max, sizeof(struct http_call *));
	h->sockets = calloc(h->sockets_max, sizeof(*h->sockets));
	h->multi = curl_multi_init();
	if (h->calls == NULL || h->sockets == NULL || h->multi == NULL ||
	    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, socket_wanted) != CURLM_OK ||
	    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h) != CURLM_OK ||
	    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)max) != CURLM_OK ||
	    /* those that close as well: a peer that does not answer close_notify would hold them for two seconds each */
	    curl_multi_setopt(h->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)(2 * max)) != CURLM_OK ||
	    loop_add(l, &h->timer, -1, 0, timer_fired, h) == -1)
		goto fail;
	return h;
fail:
	if (h != NULL) {
		(void)curl_multi_cleanup(h->multi);
		free(h->calls);
		free(h->sockets);
	}
	free(h);
	curl_global_cleanup();
	errno = ENOMEM;
	return NULL;
}

void
http_free(struct http *h)
{
	if (h == NULL)
		return;
	for (size_t i = 0; i < h->max; i++)
		if (h->calls[i] != NULL)
			end(h->calls[i]);
	while (h->spare_n > 0)
		curl_easy_cleanup(h->spare[--h->spare_n]);
	/* cannot fail: they are its calls no more */
	(void)curl_multi_cleanup(h->multi);
	for (size_t i = 0; i < h->sockets_max; i++)
		loop_remove(&h->sockets[i].slot);
	loop_remove(&h->timer);
	free(h->calls);
	free(h->sockets);
	free(h);
	curl_global_cleanup();
}

/* ---- a request ---- */

/* One URL, with nothing in it that could end it or the line of the request. */
static bool
url_is_sound(const char *url)
{
	struct span s = text_span(url);

	return (text_starts_nocase(s, "http://") || text_starts_nocase(s, "https://")) && !text_has(s, C_CNTRL | C_WSP);
}

/* "Name: value". A line end in a value would begin a field of somebody else's (case 11.26). */
static bool
header_is_sound(const char *line)
{
	struct span s = text_span(line);
	size_t colon = text_find(s, ':');

	if (colon == SIZE_MAX || colon == 0)
		return false;
	for (size_t i = 0; i < colon; i++)
		if (!is_alnum(s.p[i]) && s.p[i] != '-')
			return false;
	return !text_has(s, C_CNTRL);
}

static bool
is_sound(const struct http_request *q)
{
	bool ok = url_is_sound(q->url) && q->connect_ms > 0 && q->total_ms > 0;

	for (size_t i = 0; ok && q->headers != NULL && q->headers[i] != NULL; i++)
		ok = header_is_sound(q->headers[i]);
	return ok && q->body_at <= INT64_MAX && q->body_len <= INT64_MAX - q->body_at;
}

static int
add_header(struct http_call *c, const char *line)
{
	struct curl_slist *more = curl_slist_append(c->headers, line);

	if (more == NULL)
		return -1;
	c->headers = more;
	return 0;
}

static int
set_headers(struct http_call *c, const struct http_request *q)
{
	for (size_t i = 0; q->headers != NULL && q->headers[i] != NULL; i++)
		if (add_header(c, q->headers[i]) == -1)
			return -1;
	/* Without a value: libcurl leaves out its own, a wait of a second for 100 and the type of a web form. */
	if (add_header(c, "Expect:") == -1 || add_header(c, "Content-Type:") == -1 ||
	    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers) != CURLE_OK)
		return -1;
	return 0;
}

static int
set_body(struct http_call *c, const struct http_request *q)
{
	CURL *e = c->easy;

	if (!q->post && q->body_fd == -1)
		return 0;
	c->body_fd = q->body_fd;
	c->body_at = q->body_at;
	c->body_len = q->body_fd == -1 ? 0 : q->body_len;
	if (curl_easy_setopt(e, CURLOPT_POST, 1L) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body_len) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_READFUNCTION, body_wanted) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_READDATA, c) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, body_again) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_SEEKDATA, c) != CURLE_OK)
		return -1;
	return 0;
}

/*
 * Server and name are checked by default. Which bundle there is may change while we run: it is looked for each time. libcurl reads
 * it at each new connection, which takes 40 ms for the 140 certificates of a system, and nothing for a ca_file with the one needed.
 */
static int
set_tls(struct http_call *c, const struct http_request *q)
{
	const char *file = q->ca_file;

	if (!text_starts_nocase(text_span(q->url), "https:"))
		return 0;
	for (size_t i = 0; i < COUNT(bundles) && (file == NULL || *file == '\0'); i++)
		if (access(bundles[i], R_OK) == 0)
			file = bundles[i];
	if (file == NULL || *file == '\0')
		c->failed = "no bundle of CA certificates is on this system, a ca_file is needed";
	if (curl_easy_setopt(c->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_CAINFO, file) != CURLE_OK)
		return -1;
	return 0;
}

static long
clamp_ms(int64_t ms)
{
	return ms > INT32_MAX ? INT32_MAX : (long)ms;
}

static int
set_options(struct http_call *c, const struct http_request *q)
{
	CURL *e = c->easy;

	if (curl_easy_setopt(e, CURLOPT_URL, q->url) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L) != CURLE_OK ||	/* else ending a call waits for its DNS look-up */
	    curl_easy_setopt(e, CURLOPT_USERAGENT, "smtpd") != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, clamp_ms(q->connect_ms)) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, clamp_ms(q->total_ms)) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, q->unix_socket) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, head_came) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_HEADERDATA, c) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, answer_came) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_WRITEDATA, c) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->error) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_PRIVATE, c) != CURLE_OK)
		return -1;
	return 0;
}

struct http_call *
http_start(struct http *h, const struct http_request *q, http_done *done, void *arg)
{
	struct http_call *c;
	size_t i = 0;

	if (!is_sound(q)) {
		errno = EINVAL;
		return NULL;
	}
	while (i < h->max && h->calls[i] != NULL)
		i++;
	if (i == h->max || (q->unhurried && h->unhurried == HTTP_UNHURRIED_MAX)) {
		errno = EAGAIN;
		return NULL;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return NULL;
	*c = (struct http_call){ .http = h, .easy = h->spare_n > 0 ? h->spare[--h->spare_n] : curl_easy_init(), .started_us = loop_clock_us(),
	    .unhurried = q->unhurried, .done = done, .arg = arg };
	h->calls[i] = c;
	h->running++;
	h->unhurried += c->unhurried;
	buf_init(&c->body, q->answer_max);
	if (c->easy == NULL || set_options(c, q) == -1 || set_tls(c, q) == -1 || set_headers(c, q) == -1 || set_body(c, q) == -1 ||
	    (c->failed == NULL && curl_multi_add_handle(h->multi, c->easy) != CURLM_OK)) {
		end(c);
		errno = ENOMEM;
		return NULL;
	}
	set_timer(h);
	return c;
}

void
http_cancel(struct http_call *c)
{
	if (c != NULL)
		end(c);
}

size_t
http_running(const struct http *h)
{
	return h->running;
}

/* ---- Cache-Control ---- */

/* The next directive, up to a comma that is not inside quotes; false when *rest was empty. */
static bool
next_directive(struct span *rest, struct span *directive)
{
	bool quoted = false;
	size_t i = 0;

	if (rest->len == 0)
		return false;
	for (; i < rest->len && (quoted || rest->p[i] != ','); i++) {
		if (rest->p[i] == '"')
			quoted = !quoted;
		else if (quoted && rest->p[i] == '\\')
			i++;
	}
	*directive = text_trim(text_sub(*rest, 0, i));
	*rest = text_sub(*rest, i + 1, rest->len);
	return true;
}

/* RFC 9111 5.2: also in quotes; 4.2.1: what is no number counts as stale. */
static int64_t
age(struct span s)
{
	uint64_t n;

	if (s.len >= 2 && s.p[0] == '"' && s.p[s.len - 1] == '"')
		s = text_sub(s, 1, s.len - 1);
	if (text_u64(s, (uint64_t)MAX_AGE_MAX, &n) == 0)
		return (int64_t)n;
	for (size_t i = 0; i < s.len; i++)
		if (!is_digit(s.p[i]))
			return 0;
	return s.len == 0 ? 0 : MAX_AGE_MAX;
}

int64_t
http_max_age(struct span cache_control)
{
	int64_t max_age_s = -1;
	struct span d;

	while (next_directive(&cache_control, &d)) {
		size_t equals = text_find(d, '=');
		struct span name = text_sub(d, 0, equals);
		int64_t n = max_age_s;

		if (text_is_nocase(name, "no-store") || text_is_nocase(name, "no-cache"))
			n = 0;
		else if (text_is_nocase(name, "max-age"))
			n = equals == SIZE_MAX ? 0 : age(text_sub(d, equals + 1, d.len));
		if (max_age_s == -1 || n < max_age_s)
			max_age_s = n;
	}
	return max_age_s;
}
