/*
 * fuzz_session.c - any octets in any split: the same replies, the same messages, within bounds.
 *
 * The first octet of the input chooses the listener and the size of the pieces of the second run; the rest is what the client sends.
 */
#include <stdio.h>
#include <stdlib.h>

#include "session.h"

#define OUT_MAX (1 << 22)

struct run {
	struct buf	out, message, delivered;
};

static char hostname[] = "mx.test", scope[] = "mail";
static struct config config = { .hostname = hostname, .log_level = LOG_ERROR, .max_message_size = 3000, .max_recipients = 3,
    .max_errors = 20, .max_auth_failures = 3, .issuers = { { .required_scope = scope } } };
static const struct listener listeners[2] = {
	{ .name = "a", .mode = MODE_ALT, .bare_newline = NEWLINE_REJECT },
	{ .name = "b", .mode = MODE_SUBMISSION, .bare_newline = NEWLINE_NORMALIZE, .require_tls = true },
};

static void
check(bool good, const char *what)
{
	if (good)
		return;
	(void)fprintf(stderr, "broken: %s\n", what);
	abort();
}

static void
answer(struct session *s, struct run *r, struct buf *body)
{
	while (s->waits_for != REQ_NONE) {
		struct verdict v = { 0 };
		struct request q;
		char datagram[IPC_MAX];
		struct request again;
		struct login login;
		int n;

		session_request(s, &q);
		if (q.kind == REQ_AUTH)
			q.response = buf_span(s->io->secret);
		n = ipc_pack_request(&q, datagram);
		check(n > 0 && ipc_unpack_request(&again, &login, datagram, (size_t)n) == 0, "a request survives its datagram");
		if (q.kind == REQ_AUTH) {
			check(s->tls || s->loopback, "no credentials in clear");
			verdict_set(&v, q.response.len % 2 == 0 ? 235 : 535, q.response.len % 2 == 0 ? "2.7.0" : "5.7.8", "Well");
		} else if (q.kind == REQ_DATA) {
			buf_reset(&r->message);
			verdict_set(&v, 354, "", "Go on");
		} else if (q.kind == REQ_MESSAGE) {
			check(q.size == buf_len(&r->message), "the size is what was written");
			check(q.size <= config.max_message_size, "no message over the limit");
			check(text_find(buf_span(&r->message), '\r') == SIZE_MAX, "no CR in a message");
			check(text_find(buf_span(&r->message), '\0') == SIZE_MAX, "no NUL in a message");
			buf_add_span(&r->delivered, buf_span(&r->message));
			buf_add_char(&r->delivered, '|');
			verdict_set(&v, 250, "2.0.0", "Ok");
		} else {
			verdict_set(&v, q.kind == REQ_CONNECT ? 220 : 250, "2.1.0", "Ok");
		}
		session_verdict(s, &v, q.kind == REQ_DATA, false);
	}
	(void)body;
	if (s->state == ST_TLS) {
		session_tls(s);
		check(s->hello.name[0] == '\0' && !s->auth.done, "nothing is known any more");
	}
	s->reset_due = false;
	s->penalty_ms = 0;
}

static void
play(struct run *r, const struct listener *l, const char *p, size_t n, size_t piece)
{
	char secret[SASL_RESPONSE_MAX];
	struct session s;
	struct session_io io = { .config = &config, .listener = l, .out = &r->out, .has_tls = true, .mechanisms = 14 };
	struct buf body, kept, response;

	buf_init(&r->out, OUT_MAX);
	buf_init(&r->message, OUT_MAX);
	buf_init(&r->delivered, OUT_MAX);
	buf_init(&body, OUT_MAX);
	buf_init(&kept, OUT_MAX);
	buf_fixed(&response, secret, sizeof(secret));
	io.body = &body;
	io.secret = &response;
	session_init(&s, &io, 1, l->mode == MODE_ALT ? "127.0.0.1" : "192.0.2.1");
	answer(&s, r, &body);
	while (n > 0 && s.state != ST_CLOSING) {
		size_t now = n < piece ? n : piece, taken;

		buf_add(&kept, p, now);
		p += now;
		n -= now;
		do {
			/* content before 354 depends on the cut, and so must not: a group ends behind DATA (case 3.3) */
			taken = session_feed(&s, kept.data + kept.rpos, buf_len(&kept));
			buf_add_span(&r->message, buf_span(&body));
			buf_reset(&body);
			buf_drop(&kept, taken);
			answer(&s, r, &body);
		} while (taken > 0 && buf_len(&kept) > 0);
		check(buf_len(&kept) <= SESSION_INPUT_MIN || s.state == ST_CLOSING, "an unfinished line is bounded");
	}
	buf_clear(&body);
	buf_clear(&kept);
}

static void
run_clear(struct run *r)
{
	buf_clear(&r->out);
	buf_clear(&r->message);
	buf_clear(&r->delivered);
}

/* Lines that end in CRLF and begin with a code; a reply's lines have one code. */
static void
check_replies(struct span out)
{
	struct span line;

	while (text_token(&out, "\n", &line)) {
		check(line.len >= 4 && line.len <= 511 && line.p[line.len - 1] == '\r', "a reply is a line of at most 512");
		check(is_digit(line.p[0]) && is_digit(line.p[1]) && is_digit(line.p[2]), "it begins with a code");
		check(!text_has(text_sub(line, 0, line.len - 1), C_CNTRL), "and has no control octet");
	}
}

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct listener *l;
	struct run whole, pieces;
	bool early;

	if (size == 0)
		return 0;
	l = &listeners[data[0] & 1];
	play(&whole, l, (const char *)data + 1, size - 1, size);
	play(&pieces, l, (const char *)data + 1, size - 1, 1 + (data[0] >> 1) % 64);
	check_replies(buf_span(&whole.out));
	check_replies(buf_span(&pieces.out));
	/* only what comes with its DATA or STARTTLS line tells the two apart: it is refused with 554 5.5.0 */
	early = whole.out.data != NULL && memmem(whole.out.data, buf_len(&whole.out), "554 5.5.0", 9) != NULL;
	early = early || (pieces.out.data != NULL && memmem(pieces.out.data, buf_len(&pieces.out), "554 5.5.0", 9) != NULL);
	check(early || text_eq(buf_span(&whole.out), buf_span(&pieces.out)), "the replies do not depend on the cuts");
	check(early || text_eq(buf_span(&whole.delivered), buf_span(&pieces.delivered)), "nor do the messages");
	run_clear(&whole);
	run_clear(&pieces);
	return 0;
}
