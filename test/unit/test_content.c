/*
 * test_content.c - a message is loaded, changed by field and by body, and written back (cases 9.11, 9.13, 11.24, 11.25, 11.54).
 */
#include "content.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "header.h"

static struct config config;
static char nowhere[] = "", hostname[] = "mx.test";

static void
make_tx(struct tx *tx, struct span message)
{
	config = (struct config){ .spool_dir = nowhere, .hostname = hostname, .max_header_size = 4096,
	    .max_message_size = 1024 * 1024 };
	*tx = (struct tx){ .id = "ID", .config = &config, .client_address = "192.0.2.1", .helo = "h.test", .auth_user = "", .auth_type = "", .tls_version = "",
	    .tls_cipher = "", .fd = message_open(""), .size = MESSAGE_ROOM + message.len };
	assert_true(tx->fd != -1);
	assert_int_equal(pwrite(tx->fd, message.p, message.len, MESSAGE_ROOM), (ssize_t)message.len);
}

/* What would be delivered, with a NUL; to be freed. */
static char *
delivered(const struct tx *tx, size_t *len)
{
	uint64_t at = tx->header_at == 0 ? MESSAGE_ROOM : tx->header_at;
	char *p;

	*len = (size_t)(tx->size - at);
	p = malloc(*len + 1);
	assert_non_null(p);
	assert_int_equal(pread(tx->fd, p, *len + 1, (off_t)at), (ssize_t)*len);
	p[*len] = '\0';
	return p;
}

static void
assert_delivered(const struct tx *tx, struct span want)
{
	size_t len;
	char *p = delivered(tx, &len);

	if (len != want.len || memcmp(p, want.p, len) != 0)
		print_message("    got  \"%s\"\n    want \"%.*s\"\n", p, (int)want.len, want.p);
	assert_int_equal(len, want.len);
	assert_memory_equal(p, want.p, len);
	free(p);
}

static void
assert_field(const struct content *c, size_t i, const char *name, const char *value)
{
	assert_true(i < c->fields_n);
	assert_true(text_is(c->fields[i].name, name));
	assert_true(text_is(c->fields[i].value, value));
}

/* ---- load ---- */

static void
loads(void **state)
{
	static const struct { const char *text; size_t fields; bool has_body; size_t body_at, body_len; } rows[] = {
		{ "", 0, false, 0, 0 },
		{ "\n", 0, true, 1, 0 },
		{ "\n\nbody\n", 0, true, 1, 6 },
		{ "A: 1\n", 1, false, 5, 0 },
		{ "A: 1", 1, false, 4, 0 },
		{ "A:\n", 1, false, 3, 0 },
		{ "A: 1\n\n", 1, true, 6, 0 },
		{ "A: 1\nB : 2\n\t3\n\nbody\n\nmore\n", 2, true, 15, 11 },
		{ "A: 1\nno field\nB: 2\n\nbody\n", 1, false, 5, 20 },
		{ " folded nothing\nA: 1\n\nb\n", 0, false, 0, 24 },
		{ "From user Mon Jan 1\nA: 1\n\nb\n", 0, false, 0, 28 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct content c;
		struct tx tx;

		print_message("  %zu\n", i);
		make_tx(&tx, text_span(rows[i].text));
		assert_int_equal(content_load(&c, &tx), 0);
		assert_int_equal(c.fields_n, rows[i].fields);
		assert_int_equal(c.has_body, rows[i].has_body);
		assert_int_equal(c.body_at, MESSAGE_ROOM + rows[i].body_at);
		assert_int_equal(c.body_len, rows[i].body_len);
		assert_int_equal(content_write(&c, &tx), 0);
		assert_int_equal(tx.header_at, 0);
		assert_delivered(&tx, text_span(rows[i].text));
		content_clear(&c);
		content_clear(&c);
		close(tx.fd);
	}
}

/* len octets of header: fields of one letter and x, the last as long as is needed. */
static char *
header_of(size_t len, size_t fields)
{
	char *p = malloc(len + 1);
	size_t n = 0;

	assert_non_null(p);
	for (size_t i = 1; i < fields; i++, n += 4)
		memcpy(p + n, "A:x\n", 4);
	memset(p + n, 'x', len - n);
	memcpy(p + n, "B:", 2);
	p[len - 1] = '\n';
	p[len] = '\0';
	return p;
}

static void
bounds_of_load(void **state)
{
	static char long_line[6000] = "<html> ";
	static const struct { size_t max, len, fields; const char *rest; int want; } rows[] = {
		{ 4096, 4096, 10, "\nbody\n", 0 },
		{ 4096, 4097, 10, "\nbody\n", EFBIG },
		{ 4096, 4096, 10, "", 0 },
		{ 4096, 4097, 10, "", EFBIG },
		{ 4096, 4096, 10, "no field\n", EFBIG },	/* whether it is one cannot be known from 4097 octets */
		{ 4096, 4000, 10, "no field\n", 0 },
		{ 4096, 4000, 10, long_line, 0 },		/* it is none, wherever it ends */
		{ 100000, 16383, 10, "\nbody\n", 0 },		/* the empty line is cut by the first read */
		{ 100000, 16384, 10, "\nbody\n", 0 },
		{ 100000, 16385, 10, "\nbody\n", 0 },
		{ 100000, 100000, 10, "\nbody\n", 0 },
		{ 100000, 100001, 10, "\nbody\n", EFBIG },
		{ 100000, 5000, HEADER_FIELDS_MAX, "\nbody\n", 0 },
		{ 100000, 5000, HEADER_FIELDS_MAX + 1, "\nbody\n", EFBIG },
	};

	(void)state;
	memset(long_line + 7, 'x', sizeof(long_line) - 8);
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *header = header_of(rows[i].len, rows[i].fields), *text;
		struct content c;
		struct tx tx;
		int n = asprintf(&text, "%s%s", header, rows[i].rest);

		print_message("  %zu of %zu, %zu fields\n", rows[i].len, rows[i].max, rows[i].fields);
		assert_true(n > 0);
		make_tx(&tx, (struct span){ text, (size_t)n });
		config.max_header_size = rows[i].max;
		errno = 0;
		assert_int_equal(content_load(&c, &tx), rows[i].want == 0 ? 0 : -1);
		assert_int_equal(errno, rows[i].want);
		assert_int_equal(c.fields_n, rows[i].want == 0 ? rows[i].fields : 0);
		content_clear(&c);
		close(tx.fd);
		free(text);
		free(header);
	}
}

static void
a_file_that_is_shorter_than_said_is_an_error(void **state)
{
	struct content c;
	struct tx tx;

	(void)state;
	make_tx(&tx, SPAN("A: 1\n\nbody\n"));
	tx.size++;
	assert_int_equal(content_load(&c, &tx), -1);
	assert_int_equal(errno, EIO);
	tx.size = MESSAGE_ROOM - 1;
	assert_int_equal(content_load(&c, &tx), -1);
	assert_int_equal(errno, EINVAL);
	close(tx.fd);
}

/* ---- what a field may be ---- */

#define V(in_, want_) { { "" in_, sizeof(in_) - 1 }, want_, 0 }

static void
values(void **state)
{
	static const struct { struct span in; const char *want; int error; } rows[] = {
		V("", " "), V("1", " 1"), V(" 1", " 1"), V("\t1", "\t1"), V("  1 ", "  1 "), V("\xc3\xbc \xff", " \xc3\xbc \xff"),
		V("a\r\n\tb", " a\n\tb"), V("a\n b", " a\n b"), V("a\r b", " a\n b"), V("a\r\n b\r\tc\n d", " a\n b\n\tc\n d"),
		V("a\r\nBcc: x", " a Bcc: x"), V("a\nb", " a b"), V("a\rb", " a b"), V("a\n\rb", " a b"), V("a\r\r\n b", " a\n b"),
		V("a\r\n\r\nbody", " a body"), V("a\n", " a"), V("a\r\n", " a"), V("a\r", " a"), V("\r\n", " "), V("\n\n\n", " "),
		V("a\r\n \r\n b", " a\n b"), V("a\n \t\nb", " a b"), V("a\n ", " a"), V("a\n \x01\n b", " a\n b"),
		V("\r\n\tb", " \n\tb"), V(" \n b", " \n b"), V("a\x01\x0b\x0c\x7f" "b", " a    b"),
		{ { "a\0b", 3 }, NULL, EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char want[64];
		struct content c;
		struct tx tx;

		print_message("  value %zu\n", i);
		make_tx(&tx, SPAN("B: 2\n\nbody\n"));
		assert_int_equal(content_load(&c, &tx), 0);
		assert_int_equal(content_insert(&c, 0, SPAN("A"), rows[i].in), rows[i].error == 0 ? 0 : -1);
		if (rows[i].error == 0) {
			assert_field(&c, 0, "A", rows[i].want);
			assert_int_equal(content_change(&c, 1, rows[i].in), 0);
			assert_field(&c, 1, "B", rows[i].want);
			assert_int_equal(content_write(&c, &tx), 0);
			(void)snprintf(want, sizeof(want), "A:%s\nB:%s\n\nbody\n", rows[i].want, rows[i].want);
			assert_delivered(&tx, text_span(want));
		} else {
			assert_int_equal(errno, rows[i].error);
			assert_int_equal(c.fields_n, 1);
			assert_false(c.changed);
		}
		content_clear(&c);
		close(tx.fd);
	}
}

static void
names(void **state)
{
#define N64 "X23456789012345678901234567890123456789012345678901234567890-234"
	static const struct { struct span in; bool ok; } rows[] = {
		{ { "A", 1 }, true }, { { "X-\"!~", 5 }, true }, { { N64, 64 }, true }, { { N64 "5", 65 }, false }, { { "", 0 }, false },
		{ { "A:", 2 }, false }, { { "A B", 3 }, false }, { { "A\n", 2 }, false }, { { "A\r\nB", 4 }, false }, { { "A\0", 2 }, false },
		{ { "\xc3\xbc", 2 }, false }, { { "\t", 1 }, false }, { { "A\x7f", 2 }, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct content c;
		struct tx tx;

		print_message("  name %zu\n", i);
		make_tx(&tx, SPAN("B: 2\n\nbody\n"));
		assert_int_equal(content_load(&c, &tx), 0);
		assert_int_equal(content_insert(&c, 1, rows[i].in, SPAN("x")), rows[i].ok ? 0 : -1);
		assert_int_equal(c.fields_n, rows[i].ok ? 2 : 1);
		content_clear(&c);
		close(tx.fd);
	}
}

static void
long_lines_are_folded_at_blanks(void **state)
{
	static const struct { size_t word, words; int error; } rows[] = {
		{ 995, 1, 0 }, { 996, 1, 0 }, { 997, 1, 0 }, { 998, 1, EINVAL }, { 400, 2, 0 }, { 400, 40, 0 }, { 997, 16, 0 }, { 998, 2, EINVAL },
		{ 1, 8192, 0 }, { 16383, 1, EINVAL }, { 16384, 1, E2BIG }, { 1, 8193, E2BIG },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *value = malloc(2 * CONTENT_VALUE_MAX);
		struct content c;
		struct span line, rest;
		size_t n = 0, seen = 0;
		struct tx tx;

		print_message("  %zu of %zu\n", rows[i].words, rows[i].word);
		assert_non_null(value);
		for (size_t w = 0; w < rows[i].words; w++) {
			value[n++] = ' ';
			memset(value + n, 'x', rows[i].word);
			n += rows[i].word;
		}
		make_tx(&tx, SPAN("\nbody\n"));
		config.max_header_size = 65536;
		assert_int_equal(content_load(&c, &tx), 0);
		assert_int_equal(content_insert(&c, 0, SPAN("A"), (struct span){ value, n }), rows[i].error == 0 ? 0 : -1);
		if (rows[i].error != 0) {
			assert_int_equal(errno, rows[i].error);
		} else {
			rest = (struct span){ c.fields[0].name.p, 2 + c.fields[0].value.len };
			for (bool first = true; text_token(&rest, "\n", &line); first = false) {
				assert_true(line.len <= 998);
				assert_true(first || line.p[0] == ' ');
				seen += line.len;
			}
			assert_int_equal(seen, 2 + n);	/* no octet is lost */
		}
		free(value);
		content_clear(&c);
		close(tx.fd);
	}
}

static void
a_header_grows_to_twice_its_bound(void **state)
{
	struct content c;
	struct tx tx;
	size_t n = 1;

	(void)state;
	make_tx(&tx, SPAN("B:2\n\nbody\n"));
	config.max_header_size = 50;
	assert_int_equal(content_load(&c, &tx), 0);
	while (content_insert(&c, 0, SPAN("A"), SPAN("x")) == 0)
		n++;
	assert_int_equal(errno, E2BIG);
	assert_int_equal(n, 1 + 96 / 5);
	assert_int_equal(content_change(&c, 0, SPAN("xx")), 0);
	assert_int_equal(content_change(&c, 0, SPAN("xxx")), -1);
	assert_int_equal(errno, E2BIG);
	content_delete(&c, 1);
	assert_int_equal(content_change(&c, 0, SPAN("xxxxxxxx")), -1);
	assert_int_equal(content_change(&c, 0, SPAN("xxxxxxx")), 0);
	content_clear(&c);
	close(tx.fd);
	make_tx(&tx, SPAN("B:2\n\nbody\n"));
	config.max_header_size = 65536;
	assert_int_equal(content_load(&c, &tx), 0);
	for (n = 1; content_insert(&c, 0, SPAN("A"), SPAN("x")) == 0;)
		n++;
	assert_int_equal(n, 2 * HEADER_FIELDS_MAX);
	content_clear(&c);
	close(tx.fd);
}

/* ---- changes ---- */

#define MESSAGE "A: 1\nb : 2\n 3\nA: 4\nC: 5\n\nbody\n\n.\n"

struct change {
	char		 what;	/* t e: add at the top, at the end; c r: change, remove nth; B: body */
	int		 nth;
	const char	*name, *value;
};

static void
changes(void **state)
{
	static const struct {
		struct change	 changes[4];
		const char	*want;
		bool		 in_front;
		size_t		 failed;
		const char	*message;	/* NULL: MESSAGE */
	} rows[] = {
		{ { { 't', 0, "X", "y" } }, "X: y\n" MESSAGE, true, 0, NULL },
		{ { { 't', 0, "X", "y" }, { 't', 0, "Y", "z\r\n\tz" } }, "Y: z\n\tz\nX: y\n" MESSAGE, true, 0, NULL },
		{ { { 't', 0, "X", "y" }, { 'c', 1, "x", "z" } }, "X: z\n" MESSAGE, true, 0, NULL },
		{ { { 't', 0, "X", "y" }, { 't', 0, "Y", "z" }, { 'r', 1, "X", "" } }, "Y: z\n" MESSAGE, true, 0, NULL },
		{ { { 't', 0, "X", "y" }, { 'r', 0, "X", "" } }, MESSAGE, true, 0, NULL },
		{ { { 'e', 0, "X", "y" } }, "A: 1\nb : 2\n 3\nA: 4\nC: 5\nX: y\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 'c', 1, "a", "y" } }, "A: y\nb : 2\n 3\nA: 4\nC: 5\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 'c', 2, "a", "y" } }, "A: 1\nb : 2\n 3\nA: y\nC: 5\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 'c', -1, "a", "y" } }, "A: 1\nb : 2\n 3\nA: y\nC: 5\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 'c', -2, "a", "y" } }, "A: y\nb : 2\n 3\nA: 4\nC: 5\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 'c', 0, "a", "y" } }, "A: y\nb : 2\n 3\nA: y\nC: 5\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 'c', 3, "a", "y" } }, "A: 1\nb : 2\n 3\nA: 4\nC: 5\na: y\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 'c', -3, "a", "y" } }, "A: 1\nb : 2\n 3\nA: 4\nC: 5\na: y\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 'c', 0, "X", "y" } }, "A: 1\nb : 2\n 3\nA: 4\nC: 5\nX: y\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 'c', 1, "B", "y" } }, "A: 1\nb: y\nA: 4\nC: 5\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 'r', 0, "A", "" } }, "b : 2\n 3\nC: 5\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 'r', 1, "A", "" } }, "b : 2\n 3\nA: 4\nC: 5\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 'r', -1, "A", "" } }, "A: 1\nb : 2\n 3\nC: 5\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 'r', 3, "A", "" }, { 'r', -3, "A", "" }, { 'r', 0, "X", "" }, { 'r', INT32_MIN, "A", "" } }, MESSAGE, true, 0, NULL },
		{ { { 'r', 0, "A", "" }, { 'r', 0, "B", "" }, { 'r', 0, "C", "" } }, "\nbody\n\n.\n", false, 0, NULL },
		{ { { 't', 0, "X", "y" }, { 'e', 0, "X", "z" } }, "X: y\nA: 1\nb : 2\n 3\nA: 4\nC: 5\nX: z\n\nbody\n\n.\n", false, 0, NULL },
		{ { { 't', 0, "X Y", "y" }, { 'e', 0, "X:", "z" }, { 'c', 0, "X\n", "z" } }, MESSAGE, true, 3, NULL },
		{ { { 'B', 0, "", "new\r\nbody\r" } }, "A: 1\nb : 2\n 3\nA: 4\nC: 5\n\nnew\nbody\n", false, 0, NULL },
		{ { { 'B', 0, "", "one" }, { 'B', 0, "", "" } }, "A: 1\nb : 2\n 3\nA: 4\nC: 5\n\n", false, 0, NULL },
		{ { { 't', 0, "X", "y" }, { 'B', 0, "", "new" } }, "X: y\nA: 1\nb : 2\n 3\nA: 4\nC: 5\n\nnew", false, 0, NULL },
		/* no empty line, no field, no end of a line */
		{ { { 't', 0, "X", "y" } }, "X: y\n", true, 0, "" },
		{ { { 'e', 0, "X", "y" } }, "X: y\n\nbody\n", true, 0, "\nbody\n" },
		{ { { 't', 0, "X", "y" } }, "X: y\nA: 1", true, 0, "A: 1" },
		{ { { 'e', 0, "X", "y" } }, "A: 1\nX: y\n", false, 0, "A: 1" },
		{ { { 't', 0, "X", "y" } }, "X: y\n\n folded?\nB: 1\n", false, 0, " folded?\nB: 1\n" },
		{ { { 't', 0, "X", "y" } }, "X: y\nA: 1\n\nno field\nB: 1\n", false, 0, "A: 1\nno field\nB: 1\n" },
		{ { { 'B', 0, "", "new" } }, "A: 1\n\nnew", false, 0, "A: 1\nno field\nB: 1\n" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		const char *message = rows[i].message == NULL ? MESSAGE : rows[i].message;
		struct edits e = { 0 };
		struct content c;
		size_t failed = 0, len;
		struct stat before, after;
		struct tx tx;
		char *text;

		print_message("  changes %zu\n", i);
		make_tx(&tx, text_span(message));
		assert_int_equal(fstat(tx.fd, &before), 0);
		assert_int_equal(content_load(&c, &tx), 0);
		for (size_t k = 0; k < 4 && rows[i].changes[k].what != '\0'; k++) {
			const struct change *h = &rows[i].changes[k];
			static const char kinds[] = "tecr";

			if (h->what != 'B') {
				edits_add(&e, (enum edit_kind)(strchr(kinds, h->what) - kinds), h->nth, text_span(h->name), text_span(h->value));
				continue;
			}
			assert_int_equal(content_body_new(&c), 0);
			for (size_t o = 0; h->value[o] != '\0'; o++)	/* each octet for itself */
				assert_int_equal(content_body_add(&c, h->value + o, 1), 0);
		}
		failed = content_apply(&c, &e);
		assert_int_equal(e.left_out, 0);
		assert_int_equal(failed, rows[i].failed);
		assert_int_equal(content_write(&c, &tx), 0);
		assert_delivered(&tx, text_span(rows[i].want));
		assert_int_equal(fstat(tx.fd, &after), 0);
		assert_int_equal(before.st_ino == after.st_ino, rows[i].in_front);
		/* once more, nothing happens; the trace fields go in front */
		assert_int_equal(content_write(&c, &tx), 0);
		assert_delivered(&tx, text_span(rows[i].want));
		assert_int_equal(message_trace(&tx, 0), 0);
		text = delivered(&tx, &len);
		assert_true(text_starts_nocase((struct span){ text, len }, "Return-Path: <>\nReceived: from h.test ([192.0.2.1])\n\tby "));
		assert_string_equal(strchr(strstr(text, "1970"), '\n') + 1, rows[i].want);
		free(text);
		edits_clear(&e);
		edits_clear(&e);
		content_clear(&c);
		close(tx.fd);
	}
}

/* A message that begins with a blank has an empty line in front of it, in the room for what is added. */
static void
a_message_that_begins_with_a_blank(void **state)
{
	struct content c;
	struct tx tx;

	(void)state;
	make_tx(&tx, SPAN(" x\nB: 1\n"));
	assert_int_equal(message_begin(&tx), 0);
	assert_int_equal(content_load(&c, &tx), 0);
	assert_int_equal(c.fields_n, 0);
	assert_true(c.has_body && c.body_at == MESSAGE_ROOM && c.body_len == 8);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(content_insert(&c, 0, SPAN("X"), SPAN("1")), 0);
		assert_int_equal(content_write(&c, &tx), 0);
		assert_delivered(&tx, i == 0 ? SPAN("X: 1\n\n x\nB: 1\n") : SPAN("X: 1\nX: 1\n\n x\nB: 1\n"));
	}
	content_delete(&c, 0);
	assert_int_equal(content_body_new(&c), 0);
	assert_int_equal(content_write(&c, &tx), 0);
	assert_delivered(&tx, SPAN("X: 1\n\n"));
	content_clear(&c);
	close(tx.fd);
}

/* Written, then changed and written again: what is behind another filter sees the same message as its recipient. */
static void
changes_after_a_write(void **state)
{
	struct content c;
	struct tx tx;

	(void)state;
	make_tx(&tx, SPAN("A: 1\n\nbody\n"));
	assert_int_equal(content_load(&c, &tx), 0);
	assert_int_equal(content_insert(&c, 0, SPAN("X"), SPAN("1")), 0);
	assert_int_equal(content_write(&c, &tx), 0);
	assert_int_equal(content_insert(&c, 0, SPAN("Y"), SPAN("2")), 0);
	assert_int_equal(content_write(&c, &tx), 0);
	assert_delivered(&tx, SPAN("Y: 2\nX: 1\nA: 1\n\nbody\n"));
	content_delete(&c, 2);
	assert_int_equal(content_body_new(&c), 0);
	assert_int_equal(content_body_add(&c, "new\n", 4), 0);
	assert_int_equal(content_write(&c, &tx), 0);
	assert_delivered(&tx, SPAN("Y: 2\nX: 1\n\nnew\n"));
	assert_int_equal(content_insert(&c, 0, SPAN("Z"), SPAN("3")), 0);
	assert_int_equal(content_write(&c, &tx), 0);
	assert_true(tx.header_at > 0);
	assert_delivered(&tx, SPAN("Z: 3\nY: 2\nX: 1\n\nnew\n"));
	content_clear(&c);
	close(tx.fd);
}

static void
header_for_the_wire(void **state)
{
	struct content c;
	struct tx tx;
	struct buf b;
	char memory[64];

	(void)state;
	make_tx(&tx, SPAN("A: 1\nb : 2\n 3\n\nbody\n"));
	assert_int_equal(content_load(&c, &tx), 0);
	assert_int_equal(content_insert(&c, 2, SPAN("X"), SPAN("y\n z")), 0);
	buf_fixed(&b, memory, sizeof(memory));
	assert_int_equal(content_header(&c, "\r\n", &b), 0);
	assert_true(text_is(buf_span(&b), "A: 1\r\nb : 2\r\n 3\r\nX: y\r\n z\r\n"));
	buf_fixed(&b, memory, 27);
	assert_int_equal(content_header(&c, "\r\n", &b), 0);
	buf_fixed(&b, memory, 26);
	assert_int_equal(content_header(&c, "\r\n", &b), -1);
	content_clear(&c);
	close(tx.fd);
}

static void
finds(void **state)
{
	struct content c;
	struct tx tx;

	(void)state;
	make_tx(&tx, SPAN(MESSAGE));
	assert_int_equal(content_load(&c, &tx), 0);
	assert_int_equal(content_find(&c, "a", 1), 0);
	assert_int_equal(content_find(&c, "A", 2), 2);
	assert_int_equal(content_find(&c, "B", 1), 1);
	assert_true(content_find(&c, "A", 3) == SIZE_MAX && content_find(&c, "A", 0) == SIZE_MAX && content_find(&c, "AB", 1) == SIZE_MAX);
	assert_field(&c, 1, "b", " 2\n 3");
	assert_int_equal(content_insert(&c, 5, SPAN("X"), SPAN("y")), -1);
	assert_int_equal(content_change(&c, 4, SPAN("y")), -1);
	content_delete(&c, 4);
	assert_int_equal(c.fields_n, 4);
	assert_false(c.changed);
	content_clear(&c);
	close(tx.fd);
}

static void
structural_fields(void **state)
{
	static const char *const yes[] = { "From", "from", "TO", "Date", "Received", "Content-Type", "content-", "Resent-From", "Sender",
	    "Return-Path", "MIME-Version" };
	static const char *const no[] = { "Subject", "X-From", "Fro", "Froms", "Content", "DKIM-Signature", "Authentication-Results", "" };

	(void)state;
	for (size_t i = 0; i < COUNT(yes); i++)
		assert_true(content_is_structural(text_span(yes[i])));
	for (size_t i = 0; i < COUNT(no); i++)
		assert_false(content_is_structural(text_span(no[i])));
}

/* ---- sizes ---- */

/* The room in front of the body ends where the trace fields need theirs; a large body is copied whole. */
static void
more_than_the_room(void **state)
{
	size_t want_len = 300000, len;
	char *body = malloc(want_len), *text;

	(void)state;
	assert_non_null(body);
	memset(body, 'x', want_len);
	memcpy(body, "A:\n\n", 4);
	for (size_t extra = 0; extra < 2; extra++) {
		size_t front = MESSAGE_ROOM - MESSAGE_TRACE_MAX + extra;
		struct content c;
		struct stat before, after;
		struct tx tx;

		print_message("  %zu in front\n", front);
		make_tx(&tx, (struct span){ body, want_len });
		config.max_header_size = 65536;
		assert_int_equal(fstat(tx.fd, &before), 0);
		assert_int_equal(content_load(&c, &tx), 0);
		for (size_t left = front; left > 0;) {
			char value[960];
			size_t n = left < 2 * sizeof(value) ? left : sizeof(value);	/* with name, colon, blank and LF */

			if (n > sizeof(value))
				n = left / 2;
			memset(value, 'v', sizeof(value));
			assert_int_equal(content_insert(&c, 0, SPAN("X"), (struct span){ value, n - 4 }), 0);
			left -= n;
		}
		assert_int_equal(content_write(&c, &tx), 0);
		assert_int_equal(fstat(tx.fd, &after), 0);
		assert_int_equal(before.st_ino == after.st_ino, extra == 0);
		assert_int_equal(tx.header_at, extra == 0 ? MESSAGE_TRACE_MAX : 0);
		text = delivered(&tx, &len);
		assert_int_equal(len, front + want_len);
		assert_memory_equal(text + front, body, want_len);
		assert_int_equal(message_trace(&tx, 0), 0);
		free(text);
		content_clear(&c);
		close(tx.fd);
	}
	free(body);
}

static void
a_message_grows_by_so_much(void **state)
{
	struct content c;
	struct tx tx;
	char data[1000];

	(void)state;
	memset(data, 'x', sizeof(data));
	for (size_t over = 0; over < 2; over++) {
		make_tx(&tx, SPAN("A: 1\n\nbody\n"));
		config.max_message_size = 1000;
		assert_int_equal(content_load(&c, &tx), 0);
		assert_int_equal(content_body_add(&c, "x", 1), -1);
		assert_int_equal(errno, EINVAL);
		assert_int_equal(content_body_new(&c), 0);
		for (size_t n = 6, max = 1000 + CONTENT_GROWTH_MAX + over; n < max;) {	/* 6: of the header and the empty line */
			size_t more = max - n < sizeof(data) ? max - n : sizeof(data);

			assert_int_equal(content_body_add(&c, data, more), 0);
			n += more;
		}
		assert_int_equal(content_write(&c, &tx), over == 0 ? 0 : -1);
		assert_int_equal(tx.size, MESSAGE_ROOM + (over == 0 ? 1000 + CONTENT_GROWTH_MAX : 11));
		if (over == 0) {
			assert_int_equal(content_body_new(&c), 0);
			for (size_t n = 0; n + sizeof(data) <= 1000 + CONTENT_GROWTH_MAX; n += sizeof(data))
				assert_int_equal(content_body_add(&c, data, sizeof(data)), 0);
			assert_int_equal(content_body_add(&c, data, sizeof(data)), -1);
		}
		assert_int_equal(errno, E2BIG);
		content_clear(&c);
		close(tx.fd);
	}
}

/* There is room for one of them: the first has it. */
static void
the_first_of_many_is_changed(void **state)
{
	static char value[900];
	struct edits e = { 0 };
	struct content c;
	struct tx tx;

	(void)state;
	memset(value, 'v', sizeof(value));
	make_tx(&tx, SPAN("Subject: a\nsubject: b\nSubject: c\n\n"));
	config.max_header_size = 1100;	/* twice that, less what is kept for our own fields */
	assert_int_equal(content_load(&c, &tx), 0);
	edits_add(&e, EDIT_CHANGE, 0, SPAN("Subject"), (struct span){ value, sizeof(value) });
	assert_int_equal(content_apply(&c, &e), 1);
	assert_int_equal(c.fields_n, 3);
	assert_int_equal(c.fields[0].value.len, 1 + sizeof(value));
	assert_true(text_is(c.fields[1].value, " b") && text_is(c.fields[2].value, " c"));
	edits_clear(&e);
	edits_add(&e, EDIT_REMOVE, 2, SPAN("Subject"), (struct span){ 0 });
	edits_add(&e, EDIT_REMOVE, -1, SPAN("Subject"), (struct span){ 0 });
	assert_int_equal(content_apply(&c, &e), 0);
	assert_int_equal(c.fields_n, 1);
	assert_int_equal(c.fields[0].value.len, 1 + sizeof(value));
	edits_clear(&e);
	for (int i = 0; i < 100; i++)	/* all room that there is for others */
		edits_add(&e, EDIT_ADD_END, 0, SPAN("X"), SPAN("12345678901234567890"));
	assert_true(content_apply(&c, &e) > 0);
	assert_int_equal(content_insert(&c, 0, SPAN("X-Spam-Flag"), SPAN("YES")), 0);
	edits_clear(&e);
	content_clear(&c);
	close(tx.fd);
}

static void
edits_are_bounded(void **state)
{
	static char value[CONTENT_VALUE_MAX + 1];
	struct edits e = { 0 };

	(void)state;
	memset(value, 'x', sizeof(value));
	edits_add(&e, EDIT_ADD_TOP, 0, SPAN(""), SPAN("x"));
	edits_add(&e, EDIT_ADD_TOP, 0, SPAN(N64 "5"), SPAN("x"));
	edits_add(&e, EDIT_ADD_TOP, 0, SPAN("A"), (struct span){ value, sizeof(value) });
	assert_int_equal(e.left_out, 3);
	for (size_t i = 0; i < CONTENT_EDITS_MAX + 2; i++)
		edits_add(&e, EDIT_ADD_TOP, 0, SPAN("A"), SPAN("x"));
	assert_int_equal(e.n, CONTENT_EDITS_MAX);
	assert_int_equal(e.left_out, 5);
	edits_clear(&e);
	for (size_t i = 0; i < 40; i++)
		edits_add(&e, EDIT_ADD_TOP, 0, SPAN("A"), (struct span){ value, CONTENT_VALUE_MAX });
	assert_int_equal(e.n, 31);	/* of 16385 in 512 KiB */
	assert_int_equal(e.left_out, 9);
	edits_add(&e, EDIT_ADD_TOP, 0, SPAN("A"), SPAN("x"));
	assert_int_equal(e.n, 32);
	edits_clear(&e);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads),
		cmocka_unit_test(bounds_of_load),
		cmocka_unit_test(a_file_that_is_shorter_than_said_is_an_error),
		cmocka_unit_test(values),
		cmocka_unit_test(names),
		cmocka_unit_test(long_lines_are_folded_at_blanks),
		cmocka_unit_test(a_header_grows_to_twice_its_bound),
		cmocka_unit_test(changes),
		cmocka_unit_test(a_message_that_begins_with_a_blank), cmocka_unit_test(changes_after_a_write),
		cmocka_unit_test(header_for_the_wire),
		cmocka_unit_test(finds),
		cmocka_unit_test(structural_fields),
		cmocka_unit_test(more_than_the_room),
		cmocka_unit_test(a_message_grows_by_so_much),
		cmocka_unit_test(the_first_of_many_is_changed), cmocka_unit_test(edits_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
