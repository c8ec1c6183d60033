/*
 * test_session.c - the session as a table of dialogues: octets in, replies out, whatever the cuts between them.
 */
#include "session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define REPLIES_MAX 512

/* An agent that accepts everything but unknown@, and remembers what was complete. */
struct drive {
	struct session	 s;
	struct session_io io;
	struct buf	 out, body, message, delivered, secret;
	char		 secret_memory[SASL_RESPONSE_MAX];
	unsigned	 deliveries;
	bool		 no_file;	/* message files are lost on their way */
};

static struct config config;
static struct listener listeners[] = {
	{ .name = "mx", .mode = MODE_SMTP, .bare_newline = NEWLINE_REJECT },
	{ .name = "lan", .mode = MODE_ALT, .bare_newline = NEWLINE_NORMALIZE },
	{ .name = "sub", .mode = MODE_SUBMISSION, .bare_newline = NEWLINE_REJECT, .require_tls = true },	/* TLS and AUTH offered */
	{ .name = "loop", .mode = MODE_SUBMISSION, .bare_newline = NEWLINE_REJECT, .require_tls = true },	/* the same, on loopback */
};
#define ALL_MECHANISMS (1u << SASL_PLAIN | 1u << SASL_OAUTHBEARER | 1u << SASL_XOAUTH2)

static void
config_reset(void)
{
	static char hostname[] = "mx.test", scope[] = "mail";

	config = (struct config){ .hostname = hostname, .max_message_size = 1000, .max_recipients = 3, .max_errors = 20,
	    .max_auth_failures = 3, .issuers = { { .required_scope = scope } } };
}

static void
take_body(struct drive *d)
{
	buf_add_span(&d->message, buf_span(&d->body));
	buf_reset(&d->body);
}

static void
answer(struct drive *d)
{
	while (d->s.waits_for != REQ_NONE) {
		struct verdict v = { 0 };
		struct request q;

		session_request(&d->s, &q);
		switch (q.kind) {
		case REQ_CONNECT:
			verdict_set(&v, 220, "", "Ready");
			break;
		case REQ_AUTH:
			verdict_set(&v, 535, "5.7.8", "No");
			if (text_eq(buf_span(&d->secret), SPAN("\0bob\0secret")) || text_eq(buf_span(&d->secret), SPAN("good token")))
				verdict_set(&v, 235, "2.7.0", "Yes");
			else if (text_eq(buf_span(&d->secret), SPAN("\0bob\0down")))
				verdict_set(&v, 454, "4.7.0", "Later");
			else if (text_eq(buf_span(&d->secret), SPAN("\0bob\0out")))
				verdict_set(&v, 421, "4.7.0", "Too many");
			buf_reset(&d->secret);
			break;
		case REQ_MAIL:
			verdict_set(&v, 250, "2.1.0", "Sender ok");
			break;
		case REQ_RCPT:
			if (text_starts_nocase(text_span(q.path), "unknown@"))
				verdict_set(&v, 550, "5.1.1", "Unknown");
			else
				verdict_set(&v, 250, "2.1.5", "Recipient ok");
			break;
		case REQ_DATA:
			buf_reset(&d->message);
			verdict_set(&v, 354, "", "Go on");
			break;
		case REQ_MESSAGE:
			take_body(d);
			assert_int_equal(q.size, buf_len(&d->message));
			d->deliveries++;
			buf_add_span(&d->delivered, buf_span(&d->message));
			buf_add_char(&d->delivered, '|');
			verdict_set(&v, 250, "2.0.0", "Ok");
			break;
		default:
			fail_msg("request %d", q.kind);
		}
		session_verdict(&d->s, &v, q.kind == REQ_DATA && !d->no_file, false);
	}
	if (d->s.state == ST_TLS)	/* the handshake is done at once */
		session_tls(&d->s);
	d->s.reset_due = false;
	d->s.penalty_ms = 0;
}

static void
drive_init(struct drive *d, const struct listener *l)
{
	memset(d, 0, sizeof(*d));
	buf_init(&d->out, 1 << 20);
	buf_init(&d->body, 1 << 20);
	buf_init(&d->message, 1 << 20);
	buf_init(&d->delivered, 1 << 20);
	buf_fixed(&d->secret, d->secret_memory, sizeof(d->secret_memory));
	d->io = (struct session_io){ .config = &config, .listener = l, .out = &d->out, .body = &d->body, .secret = &d->secret,
	    .has_tls = l >= &listeners[2], .mechanisms = l >= &listeners[2] ? ALL_MECHANISMS : 0 };
	session_init(&d->s, &d->io, 1, l == &listeners[3] ? "127.0.0.1" : "192.0.2.1");
	answer(d);
}

static void
drive_clear(struct drive *d)
{
	buf_clear(&d->out);
	buf_clear(&d->body);
	buf_clear(&d->message);
	buf_clear(&d->delivered);
}

/* As the front does it: what is not taken comes again, with what follows it. */
static size_t
feed(struct drive *d, const char *p, size_t n)
{
	size_t taken = 0;

	while (taken < n) {
		size_t now = session_feed(&d->s, p + taken, n - taken);

		take_body(d);
		taken += now;
		if (now == 0 && d->s.waits_for == REQ_NONE && d->s.penalty_ms == 0)
			break;
		answer(d);
	}
	return taken;
}

/* The codes of all replies, one line each, "250 2.1.0"; the last line of a reply counts. */
static void
codes(const struct drive *d, char *dst, size_t size)
{
	struct span all = buf_span(&d->out), line;
	size_t n = 0;

	dst[0] = '\0';
	while (text_token(&all, "\n", &line)) {
		assert_true(line.len >= 4 && line.p[line.len - 1] == '\r');
		assert_true(line.len <= 511);
		if (line.p[3] == '-')
			continue;
		n += (size_t)snprintf(dst + n, size - n, "%s%.3s", n == 0 ? "" : " ", line.p);
		assert_true(n < size);
	}
}

struct dialogue {
	const char	*name;
	int		 listener;
	struct span	 in;
	const char	*want;		/* codes */
	const char	*delivered;	/* each message and "|" */
};

#define HELLO "EHLO t.test\r\n"
#define MAIL "MAIL FROM:<a@x.test>\r\n"
#define RCPT "RCPT TO:<bob@local.test>\r\n"
#define P HELLO MAIL RCPT "DATA\r\n"
#define EVIL "MAIL FROM:<admin@local.test>\r\n" RCPT "DATA\r\n"
#define D(n, l, text, want, delivered) { n, l, { text, sizeof(text) - 1 }, want, delivered }
#define GOOD "AGJvYgBzZWNyZXQ="
#define BAD "AGJvYgB3cm9uZw=="
#define DOWN "AGJvYgBkb3du"
#define OUT "AGJvYgBvdXQ="
#define TLS HELLO "STARTTLS\r\n" HELLO
#define IN_TLS "220 250 220 250"
#define START "220 250 250 250 354 "

/* In these the client waits for the 354: the marker splits them into what is sent before it and after. */
static const struct dialogue dialogues[] = {
	D("nothing", 0, "", "220", ""),
	D("a message", 0, P "Subject: s\r\n\r\nx\r\n.\r\nQUIT\r\n", START "250 221", "Subject: s\n\nx\n|"),
	D("two messages", 0, P "a\r\n.\r\n" MAIL RCPT "DATA\r\nb\r\n.\r\n", START "250 250 250 354 250", "a\n|b\n|"),
	D("1.23 the empty message", 0, P ".\r\n", START "250", "|"),
	D("1.17 dot stuffing", 0, P "..\r\n..x\r\n.y\r\n.\r\n", START "250", ".\n.x\ny\n|"),
	D("1.1 lf dot lf", 0, P "body\n.\nx\r\n.\r\n", START "550", ""),
	D("1.2 lf dot crlf", 0, P "body\n.\r\nx\r\n.\r\n", START "550", ""),
	D("1.3 crlf dot lf", 0, P "body\r\n.\nx\r\n.\r\n", START "550", ""),
	D("1.4 cr dot cr", 0, P "body\r.\rx\r\n.\r\n", START "550", ""),
	D("1.5 cr dot lf", 0, P "body\r.\nx\r\n.\r\n", START "550", ""),
	D("1.7 cr dot crlf", 0, P "body\r.\r\nx\r\n.\r\n", START "550", ""),
	D("1.8 crlf dot cr x", 0, P "body\r\n.\rx\r\n.\r\n", START "550", ""),
	D("1.9 crlf dot cr crlf", 0, P "body\r\n.\r\r\nx\r\n.\r\n", START "550", ""),
	D("1.11 cr crlf dot crlf ends", 0, P "body\r\r\n.\r\nNOOP\r\n", START "550 250", ""),
	D("1.12 lf crlf dot crlf ends", 0, P "body\n\r\n.\r\nNOOP\r\n", START "550 250", ""),
	D("1.13 NUL before the dot", 0, P "body\r\n\0.\r\nx\r\n.\r\n", START "550", ""),
	D("1.14 NUL after the dot", 0, P "body\r\n.\0\r\nx\r\n.\r\n", START "550", ""),
	D("1.22 a second dot is a command", 0, P "a\r\n.\r\n.\r\n", START "250 500", "a\n|"),
	D("1.19 dots with blanks", 0, P " .\r\n. \r\n.\t\r\n.\r\n", START "250", " .\n \n\t\n|"),
	D("normalize lf dot lf", 1, P "body\n.\nx\r\n.\r\n", START "250", "body\nx\n|"),
	D("normalize lf dot crlf", 1, P "body\n.\r\nx\r\n.\r\n", START "250", "body\nx\n|"),
	D("normalize crlf dot lf", 1, P "body\r\n.\nx\r\n.\r\n", START "250", "body\nx\n|"),
	D("normalize cr", 1, P "a\rb\r\n.\r\n", START "250", "a b\n|"),
	D("normalize keeps a dot behind a bare lf", 1, P "a\n.b\r\n.\r\n", START "250", "a\n.b\n|"),
	D("after a refused message nothing is left", 0, P "a\nb\r\n.\r\n" RCPT "DATA\r\n" MAIL, START "550 503 503 250", ""),
	D("sequence", 0, HELLO RCPT "DATA\r\n" MAIL MAIL "RSET\r\n" RCPT, "220 250 503 503 250 503 250 503", ""),
	D("before hello", 0, MAIL RCPT "NOOP\r\n", "220 503 503 250", ""),
	D("all recipients refused", 0, HELLO MAIL "RCPT TO:<unknown@local.test>\r\nDATA\r\n", "220 250 250 550 554", ""),
	D("too many recipients", 0, HELLO MAIL RCPT RCPT RCPT RCPT "NOOP\r\n", "220 250 250 250 250 250 452 250", ""),
	D("bare lf ends nothing", 0, "EHLO t\nNOOP\r\n", "220 500", ""),
	D("bare cr", 0, "NOOP\rRSET\r\nNOOP\r\n", "220 500 250", ""),
	D("NUL", 0, "HELO a\0b\r\n", "220 500", ""),
	D("another protocol", 0, "GET / HTTP/1.1\r\nNOOP\r\n", "220 421", ""),
	D("a header field", 0, "Host: x\r\nNOOP\r\n", "220 421", ""),
	D("not implemented", 0, "VRFY x\r\nEXPN x\r\nHELP\r\nTURN\r\n", "220 502 502 502 502", ""),
	D("unknown", 0, "FOO\r\n NOOP\r\nNOOPX\r\n\r\n", "220 500 500 500 500", ""),
	D("arguments", 0, "RSET x\r\nNOOP x\r\nEHLO\r\nEHLO a b\r\n", "220 501 250 501 501", ""),
	D("size", 0, HELLO "MAIL FROM:<a@x.test> SIZE=1001\r\nMAIL FROM:<a@x.test> SIZE=x\r\n", "220 250 552 501", ""),
	D("parameters", 0, HELLO "MAIL FROM:<a@x.test> FOO=1\r\nMAIL FROM:<a@x.test> BODY=8BITMIME SMTPUTF8\r\n", "220 250 555 250", ""),
	D("a path in parts", 0, HELLO "MAIL FROM: <a@x.test>\r\nRCPT TO:bob@x\r\nRCPT TO:<>\r\n", "220 250 250 501 501", ""),
	D("utf-8 unasked", 0, HELLO "MAIL FROM:<\xc3\xbc@x.test>\r\n" RCPT, "220 250 553 503", ""),
	D("utf-8", 0, HELLO "MAIL FROM:<\xc3\xbc@x.test> SMTPUTF8\r\nRCPT TO:<\xc3\xbc@x.test>\r\n", "220 250 250 250", ""),
	D("2.1 BDAT", 0, HELLO MAIL RCPT "BDAT 5\r\nhelloBDAT 0 LAST\r\n", "220 250 250 250 250 250", "hello|"),
	D("2.2 BDAT keeps dots", 0, HELLO MAIL RCPT "BDAT 11 LAST\r\na\r\n.\r\n..b\r\nNOOP\r\n", "220 250 250 250 250 250", "a\n.\n..b\n|"),
	D("2.3 BDAT without a transaction", 0, HELLO "BDAT 6\r\nQUIT\r\nNOOP\r\n", "220 250 503 250", ""),
	D("2.4 BDAT without a size", 0, HELLO MAIL RCPT "BDAT x\r\nNOOP\r\n", "220 250 250 250 501", ""),
	D("2.5 BDAT of all numbers", 0, HELLO MAIL RCPT "BDAT 18446744073709551615\r\nNOOP\r\n", "220 250 250 250 552", ""),
	D("2.9 BDAT then DATA", 0, HELLO MAIL RCPT "BDAT 1\r\nxDATA\r\nRSET\r\n", "220 250 250 250 250 503 250", ""),
	D("2.10 BDAT then MAIL", 0, HELLO MAIL RCPT "BDAT 1\r\nx" MAIL RCPT "BDAT 1 LAST\r\ny", "220 250 250 250 250 503 503 250", "xy|"),
	D("2.15 BDAT with a bare lf", 0, HELLO MAIL RCPT "BDAT 3 LAST\r\na\nb" MAIL, "220 250 250 250 550 250", ""),
	D("BDAT that ends in CR", 0, HELLO MAIL RCPT "BDAT 2 LAST\r\na\r" MAIL, "220 250 250 250 550 250", ""),
	D("BDAT with CRLF across chunks", 0, HELLO MAIL RCPT "BDAT 2\r\na\rBDAT 2 LAST\r\n\nb", "220 250 250 250 250 250", "a\nb|"),
	D("quit", 0, "QUIT\r\nNOOP\r\n", "220 221", ""),
	D("hello again forgets", 0, HELLO MAIL HELLO RCPT, "220 250 250 250 503", ""),
	D("6.5 no certificate", 0, "STARTTLS\r\n" HELLO "STARTTLS\r\nSTARTTLS x\r\n", "220 503 250 454 501", ""),
	D("7.2 no AUTH", 0, HELLO "AUTH PLAIN " GOOD "\r\n", "220 250 503", ""),
	D("6.4 STARTTLS forgets", 2, HELLO "STARTTLS\r\n" MAIL HELLO "STARTTLS\r\n" MAIL, "220 250 220 503 250 503 250", ""),
	D("6.6 not in clear", 2, HELLO MAIL "AUTH PLAIN " GOOD "\r\nAUTH PLAIN\r\n", "220 250 530 538 538", ""),
	D("3.9 STARTTLS inside a transaction", 3, HELLO MAIL "STARTTLS\r\n" RCPT, "220 250 250 503 250", ""),
	D("AUTH= where AUTH is offered", 3, HELLO "MAIL FROM:<a@x.test> AUTH=<>\r\n" RCPT "RSET\r\nMAIL FROM:<a@x.test> AUTH=b@x.test SIZE=1\r\n",
	    "220 250 250 250 250 250", ""),
	D("AUTH= where it is not", 0, HELLO "MAIL FROM:<a@x.test> AUTH=<>\r\nMAIL FROM:<a@x.test> AUTH=+00\r\n", "220 250 555 501", ""),
	D("PLAIN at once", 2, TLS "AUTH PLAIN " GOOD "\r\n" MAIL, IN_TLS " 235 250", ""),
	D("PLAIN asked for", 3, HELLO "auth plain\r\n" GOOD "\r\n", "220 250 334 235", ""),
	D("7.4 cancelled", 3, HELLO "AUTH PLAIN\r\n*\r\nNOOP\r\n", "220 250 334 501 250", ""),
	D("7.4 an empty response", 3, HELLO "AUTH PLAIN =\r\nAUTH PLAIN\r\n\r\n", "220 250 535 334 535", ""),
	D("7.3 arguments", 3, HELLO "AUTH\r\nAUTH FOO\r\nAUTH PLAIN a b\r\nAUTH LOGIN\r\nAUTH CRAM-MD5\r\n",
	    "220 250 501 504 501 504 504", ""),
	D("7.5 base64", 3, HELLO "AUTH PLAIN AGJvYg\r\nAUTH PLAIN\r\nA=JvYg==\r\nAUTH PLAIN ====\r\n", "220 250 501 334 501 501", ""),
	D("3.9 AUTH twice, in a transaction, before EHLO", 3, "AUTH PLAIN " GOOD "\r\n" HELLO MAIL "AUTH PLAIN " GOOD "\r\nRSET\r\n"
	    "AUTH PLAIN " GOOD "\r\nAUTH PLAIN " GOOD "\r\n", "220 503 250 250 503 250 235 503", ""),
	D("AUTH is for EHLO", 3, "HELO t\r\nAUTH PLAIN " GOOD "\r\n", "220 250 503", ""),
	D("3.9 STARTTLS after AUTH", 3, HELLO "AUTH PLAIN " GOOD "\r\nSTARTTLS\r\n", "220 250 235 503", ""),
	D("3.13 AUTH stays after RSET and EHLO", 3, HELLO "AUTH PLAIN " GOOD "\r\nRSET\r\n" HELLO "AUTH PLAIN " GOOD "\r\n",
	    "220 250 235 250 250 503", ""),
	D("7.9 three failures", 3, HELLO "AUTH PLAIN " BAD "\r\nAUTH PLAIN " BAD "\r\nAUTH PLAIN " BAD "\r\n" MAIL,
	    "220 250 535 535 421", ""),
	D("7.10 unable is no failure", 3, HELLO "AUTH PLAIN " DOWN "\r\nAUTH PLAIN " DOWN "\r\nAUTH PLAIN " DOWN "\r\nAUTH PLAIN " GOOD
	    "\r\n", "220 250 454 454 454 235", ""),
	D("out", 3, HELLO "AUTH PLAIN " OUT "\r\n" MAIL, "220 250 421", ""),
	D("8 a token", 3, HELLO "AUTH OAUTHBEARER Z29vZCB0b2tlbg==\r\n" MAIL, "220 250 235 250", ""),
	D("8 a bad token", 3, HELLO "AUTH OAUTHBEARER YmFk\r\nAQ==\r\nAUTH XOAUTH2\r\nYmFk\r\n\r\nNOOP\r\n", "220 250 334 535 334 334 535 250", ""),
	D("8 a bad token, cancelled", 3, HELLO "AUTH OAUTHBEARER YmFk\r\n*\r\n" MAIL, "220 250 334 535 250", ""),
};

/* What a front would do: content never comes before 354, so a step ends behind each DATA line. EHLO ends a group, too. */
static size_t
step_len(struct span in)
{
	static const char *const ends[] = { "DATA\r\n", "EHLO t.test\r\n", "STARTTLS\r\n" };
	size_t best = in.len;

	for (size_t i = 0; i < COUNT(ends); i++) {
		const char *p = in.len == 0 ? NULL : memmem(in.p, in.len, ends[i], strlen(ends[i]));

		if (p != NULL && (size_t)(p - in.p) + strlen(ends[i]) < best)
			best = (size_t)(p - in.p) + strlen(ends[i]);
	}
	return best;
}

/* In pieces of one size, within the steps; rest that was not taken is given again. */
static void
play(struct drive *d, const struct dialogue *t, size_t piece)
{
	struct span in = t->in;
	struct buf kept;

	drive_init(d, &listeners[t->listener]);
	buf_init(&kept, 1 << 20);
	while (in.len > 0 && d->s.state != ST_CLOSING) {
		size_t step = step_len(in);

		for (size_t n; step > 0; step -= n) {
			n = step < piece ? step : piece;
			buf_add(&kept, in.p, n);
			in = text_sub(in, n, in.len);
			buf_drop(&kept, feed(d, kept.data + kept.rpos, buf_len(&kept)));
		}
	}
	buf_clear(&kept);
}

static void
test_dialogues_with_every_cut(void **unused)
{
	(void)unused;
	config_reset();
	for (size_t i = 0; i < COUNT(dialogues); i++) {
		const struct dialogue *t = &dialogues[i];
		char got[REPLIES_MAX];

		for (size_t piece = t->in.len == 0 ? 1 : t->in.len; piece > 0; piece--) {
			struct drive d;

			play(&d, t, piece);
			codes(&d, got, sizeof(got));
			if (strcmp(got, t->want) != 0)
				fail_msg("%s, in pieces of %zu: want %s, got %s", t->name, piece, t->want, got);
			buf_add_char(&d.delivered, '\0');
			if (strcmp(d.delivered.data, t->delivered) != 0)
				fail_msg("%s, in pieces of %zu: want %s, got %s", t->name, piece, t->delivered, d.delivered.data);
			drive_clear(&d);
		}
	}
}

static void
assert_codes(struct drive *d, const char *want)
{
	char got[8192];

	codes(d, got, sizeof(got));
	assert_string_equal(got, want);
}

static void
test_content_before_354_is_refused(void **unused)
{
	struct drive d;

	(void)unused;
	config_reset();
	drive_init(&d, &listeners[0]);
	feed(&d, HELLO, sizeof(HELLO) - 1);
	feed(&d, MAIL RCPT "DATA\r\nx\r\n.\r\n", sizeof(MAIL RCPT "DATA\r\nx\r\n.\r\n") - 1);
	assert_codes(&d, "220 250 250 250 554");
	assert_int_equal(d.deliveries, 0);
	assert_int_equal(d.s.state, ST_CLOSING);
	drive_clear(&d);
}

static void
test_ehlo_ends_a_group_in_mode_smtp_only(void **unused)
{
	struct drive d;

	(void)unused;
	config_reset();
	drive_init(&d, &listeners[0]);
	feed(&d, HELLO MAIL, sizeof(HELLO MAIL) - 1);
	assert_codes(&d, "220 554");
	drive_clear(&d);
	drive_init(&d, &listeners[1]);
	feed(&d, HELLO MAIL, sizeof(HELLO MAIL) - 1);
	assert_codes(&d, "220 250 250");
	drive_clear(&d);
}

static void
test_a_message_over_the_limit_is_read_to_its_end(void **unused)
{
	struct drive d;

	(void)unused;
	config_reset();
	for (int i = 0; i < 2; i++) {
		char line[102];

		drive_init(&d, &listeners[0]);
		feed(&d, HELLO, sizeof(HELLO) - 1);
		feed(&d, MAIL RCPT "DATA\r\n", sizeof(MAIL RCPT "DATA\r\n") - 1);
		memset(line, 'x', 98);
		memcpy(line + 98, "\r\n", 2);
		for (int k = 0; k < 10 + i; k++)	/* 1000 octets, as RFC 1870 counts them: at the limit, and one line over */
			feed(&d, line, 100);
		feed(&d, ".\r\nNOOP\r\n", 9);
		assert_codes(&d, i == 0 ? START "250 250" : START "552 250");
		assert_int_equal(d.deliveries, i == 0);
		drive_clear(&d);
	}
}

static void
test_lines_at_their_bounds(void **unused)
{
	static const struct { const char *start; size_t len; const char *want; } rows[] = {
		{ "NOOP ", 512, "220 250" }, { "NOOP ", 513, "220 500" }, { "MAIL FROM:<a@x> ", 2048, "220 503" },
		{ "MAIL FROM:<a@x> ", 2049, "220 500" }, { "EHLO ", 513, "220 501" }, { "EHLO ", 10000, "220 501" },
	};

	(void)unused;
	config_reset();
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *line = malloc(rows[i].len + 1);
		struct drive d;

		assert_non_null(line);
		printf("%s of %zu\n", rows[i].start, rows[i].len);
		memset(line, 'x', rows[i].len);
		memcpy(line, rows[i].start, strlen(rows[i].start));
		memcpy(line + rows[i].len - 2, "\r\n", 2);
		drive_init(&d, &listeners[0]);
		feed(&d, line, rows[i].len);
		assert_codes(&d, rows[i].want);
		drive_clear(&d);
		free(line);
	}
}

static void
test_a_line_without_end_closes(void **unused)
{
	struct drive d;
	char octets[4096];

	(void)unused;
	config_reset();
	memset(octets, 'x', sizeof(octets));
	drive_init(&d, &listeners[0]);
	for (int i = 0; i < 20; i++)
		feed(&d, octets, sizeof(octets));
	assert_int_equal(d.s.state, ST_CLOSING);
	assert_codes(&d, "220 500");
	drive_clear(&d);
}

/* Whatever the client says to the challenge of a refused token, it gets its 535, and nothing of it is left for the next exchange. */
static void
test_a_long_line_ends_a_refused_exchange(void **unused)
{
	static const char refused[] = "AUTH OAUTHBEARER YmFk\r\n", next[] = "AUTH PLAIN\r\n" GOOD "\r\n";
	struct drive d;
	char octets[SASL_LINE_MAX + 1];

	(void)unused;
	config_reset();
	memset(octets, 'x', sizeof(octets));
	drive_init(&d, &listeners[3]);
	feed(&d, HELLO, strlen(HELLO));
	feed(&d, refused, sizeof(refused) - 1);
	feed(&d, octets, sizeof(octets));
	feed(&d, "\r\n", 2);
	assert_int_equal(d.s.auth.failures, 1);
	feed(&d, next, sizeof(next) - 1);
	assert_codes(&d, "220 250 334 535 334 235");
	drive_clear(&d);
}

static void
test_errors_and_junk_end_the_session(void **unused)
{
	static const struct { const char *line; int fits; } rows[] = { { "FOO\r\n", 20 }, { "NOOP\r\n", 101 } };

	(void)unused;
	config_reset();
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct drive d;
		int n = 0;

		drive_init(&d, &listeners[0]);
		for (; n < 1000 && d.s.state != ST_CLOSING; n++)
			feed(&d, rows[i].line, strlen(rows[i].line));
		assert_int_equal(n, rows[i].fits);
		drive_clear(&d);
	}
}

static void
test_a_lost_agent_costs_the_transaction(void **unused)
{
	struct drive d;

	(void)unused;
	config_reset();
	drive_init(&d, &listeners[0]);
	feed(&d, HELLO MAIL RCPT, sizeof(HELLO) - 1);
	feed(&d, MAIL RCPT, sizeof(MAIL RCPT) - 1);
	session_agent_lost(&d.s, false);
	feed(&d, RCPT "DATA\r\n", sizeof(RCPT "DATA\r\n") - 1);
	feed(&d, MAIL RCPT "DATA\r\n", sizeof(MAIL RCPT "DATA\r\n") - 1);
	session_agent_lost(&d.s, false);	/* in the middle of the body: read to its end, refused for now */
	feed(&d, "x\r\n.\r\n" MAIL, sizeof("x\r\n.\r\n" MAIL) - 1);
	assert_codes(&d, "220 250 250 250 451 451 250 250 354 451 250");
	assert_int_equal(d.deliveries, 0);
	drive_clear(&d);
}

static void
test_a_lost_file_costs_the_message(void **unused)	/* case 13.3 */
{
	static const char data[] = MAIL RCPT "DATA\r\n", chunk[] = MAIL RCPT "BDAT 6\r\nQUIT\r\nBDAT 0 LAST\r\nRSET\r\n",
	    body[] = "x\r\n.\r\n";
	struct drive d;

	(void)unused;
	config_reset();
	drive_init(&d, &listeners[0]);
	d.no_file = true;
	feed(&d, HELLO, sizeof(HELLO) - 1);
	feed(&d, data, sizeof(data) - 1);
	feed(&d, chunk, sizeof(chunk) - 1);
	d.no_file = false;
	feed(&d, data, sizeof(data) - 1);
	feed(&d, body, sizeof(body) - 1);
	assert_codes(&d, "220 250 250 250 452 250 250 452 503 250 250 250 354 250");
	assert_int_equal(d.deliveries, 1);
	drive_clear(&d);
}

static void
test_a_full_disk_costs_the_message(void **unused)
{
	struct drive d;

	(void)unused;
	config_reset();
	drive_init(&d, &listeners[0]);
	feed(&d, HELLO, sizeof(HELLO) - 1);
	feed(&d, MAIL RCPT "DATA\r\n", sizeof(MAIL RCPT "DATA\r\n") - 1);
	feed(&d, "x", 1);
	session_body_failed(&d.s);
	feed(&d, "\r\n.\r\n" MAIL, sizeof("\r\n.\r\n" MAIL) - 1);
	assert_codes(&d, START "452 250");
	drive_clear(&d);
}

static void
test_data_behind_starttls_closes(void **unused)
{
	struct drive d;

	(void)unused;
	config_reset();
	drive_init(&d, &listeners[2]);
	feed(&d, HELLO, sizeof(HELLO) - 1);
	feed(&d, "STARTTLS\r\n" HELLO MAIL, sizeof("STARTTLS\r\n" HELLO MAIL) - 1);
	assert_codes(&d, "220 250 554");
	assert_int_equal(d.s.state, ST_CLOSING);
	assert_false(d.s.tls);
	drive_clear(&d);
}

/* Case 6.3: whatever ends it between the 220 and the handshake. */
static void
test_nothing_in_clear_follows_starttls(void **unused)
{
	struct drive d;
	size_t before;

	(void)unused;
	config_reset();
	drive_init(&d, &listeners[2]);
	feed(&d, HELLO, sizeof(HELLO) - 1);
	assert_int_equal(session_feed(&d.s, "STARTTLS\r\n", 10), 10);
	assert_int_equal(d.s.state, ST_TLS);
	before = buf_len(&d.out);
	assert_int_equal(session_feed(&d.s, "NOOP\r\n", 6), 0);
	session_end(&d.s, R_TIMEOUT);
	assert_int_equal(d.s.state, ST_CLOSING);
	assert_int_equal(buf_len(&d.out), before);
	drive_clear(&d);
}

/* What EHLO offers in clear, in TLS, and on loopback (case 7.1). */
static void
test_what_is_offered(void **unused)
{
	static const struct { int listener; bool tls; const char *has, *has_not; } rows[] = {
		{ 0, false, "250-SIZE 1000\r\n", "STARTTLS" }, { 0, false, "PIPELINING", "AUTH" },
		{ 2, false, "250-STARTTLS\r\n", "AUTH" }, { 2, true, "250-AUTH PLAIN OAUTHBEARER XOAUTH2\r\n", "STARTTLS" },
		{ 3, false, "250-AUTH PLAIN OAUTHBEARER XOAUTH2\r\n", "TURN" }, { 3, false, "250-STARTTLS\r\n", "TURN" },
	};

	(void)unused;
	config_reset();
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct drive d;

		printf("%zu\n", i);
		drive_init(&d, &listeners[rows[i].listener]);
		if (rows[i].tls)
			session_tls(&d.s);
		buf_reset(&d.out);
		feed(&d, HELLO, sizeof(HELLO) - 1);
		buf_add_char(&d.out, '\0');
		assert_non_null(strstr(d.out.data, rows[i].has));
		assert_null(strstr(d.out.data, rows[i].has_not));
		drive_clear(&d);
	}
}

static void
test_canned_replies_are_of_one_class(void **unused)
{
	(void)unused;
	for (int i = R_NONE + 1; i < R__MAX; i++) {
		struct verdict v;

		canned_verdict((enum canned)i, &v);
		assert_true(v.code >= 400 && v.code <= 599);
		assert_int_equal(v.esc[0] - '0', v.code / 100);
		assert_true(strlen(v.text) > 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dialogues_with_every_cut),
		cmocka_unit_test(test_content_before_354_is_refused),
		cmocka_unit_test(test_ehlo_ends_a_group_in_mode_smtp_only),
		cmocka_unit_test(test_a_message_over_the_limit_is_read_to_its_end),
		cmocka_unit_test(test_lines_at_their_bounds),
		cmocka_unit_test(test_a_line_without_end_closes),
		cmocka_unit_test(test_a_long_line_ends_a_refused_exchange),
		cmocka_unit_test(test_errors_and_junk_end_the_session),
		cmocka_unit_test(test_a_lost_agent_costs_the_transaction),
		cmocka_unit_test(test_a_lost_file_costs_the_message),
		cmocka_unit_test(test_a_full_disk_costs_the_message),
		cmocka_unit_test(test_data_behind_starttls_closes),
		cmocka_unit_test(test_nothing_in_clear_follows_starttls),
		cmocka_unit_test(test_what_is_offered),
		cmocka_unit_test(test_canned_replies_are_of_one_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
