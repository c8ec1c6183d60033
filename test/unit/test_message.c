/*
 * test_message.c - the message file: the trace fields, octet by octet, and where a message begins (cases 9.9, 9.10).
 */
#include "message.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "buf.h"

static char hostname[] = "mx.test", hostname_40[] = "mail.a-domain-with-many-letters.corp.test", spool_dir[] = "";
static struct config config = { .hostname = hostname, .spool_dir = spool_dir };

static struct tx
make_tx(void)
{
	return (struct tx){ .id = "0123456789abcdef0123", .config = &config, .client_address = "192.0.2.1", .helo = "h.test", .auth_user = "",
	    .auth_type = "", .tls_version = "", .tls_cipher = "", .tls_name = "", .esmtp = true, .sender = { "a", "a.test" }, .fd = -1 };
}

/* ---- trace fields ---- */

#define TLS .tls_version = "TLSv1.2", .tls_cipher = "ECDHE-X"
#define BY "\n\tby mx.test with "
#define ID " id 0123456789abcdef0123"
#define USED ID "\n\t(TLSv1.2 ECDHE-X);"
#define EPOCH "\n\tThu, 1 Jan 1970 00:00:00 +0000\n"

static const struct row {
	const char	*name;
	bool		 helo, utf8;
	const char	*tls_version, *tls_cipher, *auth_user, *client_address, *client_helo;
	time_t		 now;
	const char	*want;		/* of Received */
} rows[] = {
	{ .name = "HELO", .helo = true, .want = "h.test ([192.0.2.1])" BY "SMTP" ID ";" EPOCH },
	{ .name = "HELO, TLS", .helo = true, TLS, .want = "h.test ([192.0.2.1])" BY "SMTP" USED EPOCH },
	{ .name = "EHLO", .want = "h.test ([192.0.2.1])" BY "ESMTP" ID ";" EPOCH },
	{ .name = "EHLO, login", .auth_user = "bob", .want = "submission (hidden)" BY "ESMTPA" ID ";" EPOCH },
	{ .name = "EHLO, TLS", TLS, .want = "h.test ([192.0.2.1])" BY "ESMTPS" USED EPOCH },
	{ .name = "EHLO, TLS, login", TLS, .auth_user = "bob", .want = "submission (hidden)" BY "ESMTPSA" USED EPOCH },
	{ .name = "SMTPUTF8", .utf8 = true, .want = "h.test ([192.0.2.1])" BY "UTF8SMTP" ID ";" EPOCH },
	{ .name = "SMTPUTF8, login", .utf8 = true, .auth_user = "bob", .want = "submission (hidden)" BY "UTF8SMTPA" ID ";" EPOCH },
	{ .name = "SMTPUTF8, TLS", .utf8 = true, TLS, .want = "h.test ([192.0.2.1])" BY "UTF8SMTPS" USED EPOCH },
	{ .name = "SMTPUTF8, TLS, login", .utf8 = true, TLS, .auth_user = "bob", .want = "submission (hidden)" BY "UTF8SMTPSA" USED EPOCH },
	{ .name = "IPv6", .client_address = "2001:db8::1", .want = "h.test ([IPv6:2001:db8::1])" BY "ESMTP" ID ";" EPOCH },
	{ .name = "it did not say who it is", .client_helo = "", .want = "unknown ([192.0.2.1])" BY "ESMTP" ID ";" EPOCH },
	{ .name = "a leap day", .now = 1709251199, .want = "h.test ([192.0.2.1])" BY "ESMTP" ID ";\n\tThu, 29 Feb 2024 23:59:59 +0000\n" },
	{ .name = "a day of two digits", .now = 1798761599, .want = "h.test ([192.0.2.1])" BY "ESMTP" ID ";\n\tThu, 31 Dec 2026 23:59:59 +0000\n" },
	{ .name = "no such time", .now = INT64_MAX, .want = "h.test ([192.0.2.1])" BY "ESMTP" ID ";" EPOCH },
};

static void
received(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct row *r = &rows[i];
		struct tx tx = make_tx();
		char memory[MESSAGE_TRACE_MAX], want[1024];
		struct buf b;

		print_message("  %s\n", r->name);
		tx.esmtp = !r->helo;
		tx.utf8 = r->utf8;
		tx.tls_version = r->tls_version != NULL ? r->tls_version : "";
		tx.tls_cipher = r->tls_cipher != NULL ? r->tls_cipher : "";
		tx.auth_user = r->auth_user != NULL ? r->auth_user : "";
		tx.client_address = r->client_address != NULL ? r->client_address : tx.client_address;
		tx.helo = r->client_helo != NULL ? r->client_helo : tx.helo;
		(void)snprintf(want, sizeof(want), "Return-Path: <a@a.test>\nReceived: from %s", r->want);
		buf_fixed(&b, memory, sizeof(memory));
		message_trace_fields(&tx, r->now, &b);
		assert_string_equal(buf_str(&b), want);
	}
}

static void
recipients(void **state)
{
	struct mailbox rcpts[2] = { { "bob", "local.test" }, { "a b", "local.test" } };
	struct tx tx = make_tx();
	char memory[MESSAGE_TRACE_MAX];
	struct buf b;

	(void)state;
	tx.sender = (struct mailbox){ .local = "" };
	tx.rcpts = rcpts;
	tx.rcpts_n = 1;
	buf_fixed(&b, memory, sizeof(memory));
	message_trace_fields(&tx, 0, &b);
	assert_string_equal(buf_str(&b), "Return-Path: <>\nDelivered-To: bob@local.test\nReceived: from h.test ([192.0.2.1])" BY "ESMTP" ID
	    "\n\tfor <bob@local.test>;" EPOCH);
	tx.rcpts_n = 2;		/* none may know of the other */
	buf_fixed(&b, memory, sizeof(memory));
	message_trace_fields(&tx, 0, &b);
	assert_string_equal(buf_str(&b), "Return-Path: <>\nReceived: from h.test ([192.0.2.1])" BY "ESMTP" ID ";" EPOCH);
	buf_fixed(&b, memory, sizeof(memory));
	message_delivered_to(&rcpts[1], &b);
	assert_string_equal(buf_str(&b), "Delivered-To: \"a b\"@local.test\n");
}

/* Of any length of the name that the client gives: the lines are below 78 octets as long as that alone does not pass them. */
static void
lines_are_short(void **state)
{
	char name[SMTP_DOMAIN_MAX + 1], memory[MESSAGE_TRACE_MAX];

	(void)state;
	config.hostname = hostname_40;
	for (size_t len = 1; len <= SMTP_DOMAIN_MAX; len++) {
		struct tx tx = make_tx();
		struct span rest, line;
		struct buf b;

		memset(name, 'x', len);
		name[len] = '\0';
		tx.helo = name;
		tx.client_address = "2001:db8:1111:2222:3333:4444:5555:6666";
		tx.tls_version = "TLSv1.2";
		tx.tls_cipher = "ECDHE-ECDSA-CHACHA20-POLY1305";
		tx.utf8 = true;
		buf_fixed(&b, memory, sizeof(memory));
		message_trace_fields(&tx, 0, &b);
		rest = buf_span(&b);
		while (text_token(&rest, "\n", &line))
			assert_true(line.len < 78 || (text_starts_nocase(line, "Received: from x") && line.len == strlen("Received: from ") + len));
	}
	config.hostname = hostname;
}

/* ---- where a message begins ---- */

static void
begins(void **state)
{
	static const struct { const char *text, *want; } texts[] = {
		{ "", "" }, { "A: 1\n\nx\n", "A: 1\n\nx\n" }, { "\nx\n", "\nx\n" }, { "x\n", "x\n" }, { "From u Mon\nA: 1\n", "From u Mon\nA: 1\n" },
		{ " x\n", "\n x\n" }, { "\tx\n", "\n\tx\n" }, { " \nA: 1\n", "\n \nA: 1\n" }, { " ", "\n " },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct tx tx = make_tx();
		size_t len = strlen(texts[i].text);
		char got[1024] = "", want[1024], memory[MESSAGE_TRACE_MAX];
		struct buf b;

		print_message("  %zu\n", i);
		tx.fd = message_open("");
		tx.size = MESSAGE_ROOM + len;
		assert_int_equal(pwrite(tx.fd, texts[i].text, len, MESSAGE_ROOM), (ssize_t)len);
		assert_int_equal(message_at(&tx), MESSAGE_ROOM);
		assert_int_equal(message_begin(&tx), 0);
		assert_int_equal(tx.size - message_at(&tx), strlen(texts[i].want));
		assert_int_equal(message_trace(&tx, 0), 0);
		buf_fixed(&b, memory, sizeof(memory));
		message_trace_fields(&tx, 0, &b);
		(void)snprintf(want, sizeof(want), "%s%s", buf_str(&b), texts[i].want);
		assert_int_equal(pread(tx.fd, got, sizeof(got) - 1, (off_t)message_at(&tx)), (ssize_t)strlen(want));
		assert_string_equal(got, want);
		close(tx.fd);
	}
}

static void
no_place_to_begin(void **state)
{
	struct tx tx = make_tx();

	(void)state;
	tx.size = MESSAGE_ROOM + 1;
	assert_int_equal(message_begin(&tx), -1);
	tx.fd = message_open("");
	assert_int_equal(pwrite(tx.fd, " ", 1, MESSAGE_ROOM), 1);
	assert_int_equal(message_seal(&tx, 0), -1);	/* it would continue our trace fields; sealed it is all the same */
	assert_int_equal(errno, EBUSY);
	assert_int_equal(message_begin(&tx), -1);
	close(tx.fd);
}

/* ---- somebody who still has the descriptor ---- */

struct writer {
	int		 fd;
	const char	*octets;
	size_t		 len;
	off_t		 at;
	atomic_bool	 wrote, stop;
};

static void *
writes(void *arg)
{
	struct writer *w = arg;

	while (!w->stop && pwrite(w->fd, w->octets, w->len, w->at) != -1)	/* until it is sealed */
		w->wrote = true;
	return NULL;
}

/* What is sealed begins with our trace fields and a line that does not continue them, or it is not sealed (case 9.9). */
static void
a_front_that_writes_to_the_end(void **state)
{
	static const struct { const char *octets; size_t before; } hands[] = { { "X-Forged: yes\n", 100 }, { " with ESMTPSA", 0 } };
	struct tx tx = make_tx();
	char trace[MESSAGE_TRACE_MAX], got[MESSAGE_TRACE_MAX];
	unsigned sealed = 0, refused = 0;
	struct buf b;

	(void)state;
	buf_fixed(&b, trace, sizeof(trace));
	message_trace_fields(&tx, 0, &b);
	for (size_t i = 0; i < 400; i++) {
		struct writer w = { .octets = hands[i % 2].octets, .len = strlen(hands[i % 2].octets),
		    .at = (off_t)(MESSAGE_ROOM - hands[i % 2].before) };
		size_t len = buf_len(&b);
		pthread_t thread;

		tx.fd = w.fd = message_open("");
		tx.header_at = 0;
		tx.size = MESSAGE_ROOM + 20;
		assert_int_equal(pwrite(tx.fd, "Subject: a message\n\n", 20, MESSAGE_ROOM), 20);
		assert_int_equal(message_begin(&tx), 0);
		assert_int_equal(pthread_create(&thread, NULL, writes, &w), 0);
		while (!w.wrote)
			sched_yield();
		if (message_seal(&tx, 0) == 0) {
			sealed++;
			assert_int_equal(pread(tx.fd, got, len + 1, (off_t)tx.header_at), (ssize_t)len + 1);
			assert_memory_equal(got, trace, len);
			assert_false(is_class(got[len], C_WSP));
		} else {
			assert_int_equal(errno, EBUSY);
			refused++;
		}
		w.stop = true;
		assert_int_equal(pthread_join(thread, NULL), 0);
		close(tx.fd);
	}
	print_message("  %u sealed, %u refused\n", sealed, refused);
}

/* Between what we look at and the seal. */
static void
a_front_that_writes_before_the_seal(void **state)
{
	static const struct { const char *body, *put; uint64_t at; int error; } fronts[] = {
		{ "Subject: s\n\nx\n", "", 0, 0 }, { " : x\n", "", 0, 0 },
		{ "Subject: s\n\nx\n", "more", MESSAGE_ROOM + 14, EBUSY },	/* nobody has read it */
		{ " : x\n", "A", MESSAGE_ROOM - 1, EBUSY },	/* a field, of what was none */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(fronts); i++) {
		size_t len = strlen(fronts[i].body), put_len = strlen(fronts[i].put);
		struct tx tx = make_tx();

		print_message("  row %zu\n", i);
		tx.fd = message_open("");
		tx.size = MESSAGE_ROOM + len;
		assert_int_equal(pwrite(tx.fd, fronts[i].body, len, MESSAGE_ROOM), (ssize_t)len);
		assert_int_equal(message_begin(&tx), 0);
		assert_int_equal(pwrite(tx.fd, fronts[i].put, put_len, (off_t)fronts[i].at), (ssize_t)put_len);
		errno = 0;
		assert_int_equal(message_seal(&tx, 0), fronts[i].error == 0 ? 0 : -1);
		assert_int_equal(errno, fronts[i].error);
		close(tx.fd);
	}
}

static void
unknown_recipients(void **state)
{
	static const char *const yes[] = { "5.1.1", "5.1.2", "5.1.3", "5.1.4", "5.1.6", "5.1.10" },
	    *const no[] = { "", "2.1.5", "4.1.1", "5.1.0", "5.1.7", "5.1.8", "5.1.9", "5.2.1", "5.7.1", "5.1.11" };
	struct verdict v;

	(void)state;
	for (size_t i = 0; i < COUNT(yes); i++) {
		verdict_set(&v, 550, yes[i], "no");
		assert_true(verdict_is_unknown(&v));
	}
	for (size_t i = 0; i < COUNT(no); i++) {
		verdict_set(&v, 550, no[i], "no");
		assert_false(verdict_is_unknown(&v));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(received), cmocka_unit_test(recipients), cmocka_unit_test(lines_are_short), cmocka_unit_test(begins),
		cmocka_unit_test(no_place_to_begin), cmocka_unit_test(a_front_that_writes_to_the_end),
		cmocka_unit_test(a_front_that_writes_before_the_seal), cmocka_unit_test(unknown_recipients),
	};

	return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
