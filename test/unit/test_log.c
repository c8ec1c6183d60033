/*
 * test_log.c - log lines: what they look like, and that a reader who stands still stops nobody.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "buf.h"
#include "log.h"

#define NOW INT64_C(1795496400123456)	/* 2026-11-24T05:00:00.123456Z */
#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A511 A64 A64 A64 A64 A64 A64 A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define MARK "\xe2\x80\xa6"

/* ---- lines ---- */

static struct span
format_line(char *memory, enum log_format format, int64_t now, uint64_t session, const struct log_field *fields)
{
	struct buf out;

	buf_fixed(&out, memory, LOG_LINE_MAX);
	log_format_line(&out, format, now, LOG_INFO, "front", session, "test", fields);
	assert_false(out.failed);
	return buf_span(&out);
}

#define HEAD "time=2026-11-24T05:00:00.123456Z level=info process=front event=test v="
#define JSON_HEAD "{\"time\":\"2026-11-24T05:00:00.123456Z\",\"level\":\"info\",\"process\":\"front\",\"event\":\"test\",\"v\":"

static const struct {
	struct log_field	 field;
	const char		*logfmt, *json;
} value_rows[] = {	/* case 15.1 */
#define V(in) { .name = "v", .type = LOG_F_SPAN, .span = { "" in, sizeof(in) - 1 } }
#define N(t, v) { .name = "v", .type = t, .n = v }
	{ V("bob@local.test"), "bob@local.test", "\"bob@local.test\"" },
	{ V("a._:@/<>+-,%[]Z9"), "a._:@/<>+-,%[]Z9", "\"a._:@/<>+-,%[]Z9\"" },
	{ V(""), "\"\"", "\"\"" },
	{ V("a b"), "\"a b\"", "\"a b\"" },
	{ V("a=b"), "\"a=b\"", "\"a=b\"" },
	{ V("a\"b\\c"), "\"a\\\"b\\\\c\"", "\"a\\\"b\\\\c\"" },
	{ V("a\r\nb\tc"), "\"a\\r\\nb\\tc\"", "\"a\\r\\nb\\tc\"" },
	{ V("\0\x01\x1b[31m\x7f"), "\"\\x00\\x01\\x1b[31m\\x7f\"", "\"\\u0000\\u0001\\u001b[31m\\u007f\"" },
	{ V("\xc3\xbc"), "\"\xc3\xbc\"", "\"\xc3\xbc\"" },
	{ V("\xf0\x9f\x98\x80"), "\"\xf0\x9f\x98\x80\"", "\"\xf0\x9f\x98\x80\"" },
	{ V("b\xf6" "b\xc3"), "\"b\\xf6b\\xc3\"", "\"b\\ufffdb\\ufffd\"" },
	{ V("\xed\xa0\x80"), "\"\\xed\\xa0\\x80\"", "\"\\ufffd\\ufffd\\ufffd\"" },
	{ V("a\xe2\x80\x8b" "b\xe2\x80\xae"), "\"a\\u{200b}b\\u{202e}\"", "\"a\\u200bb\\u202e\"" },
	{ V("\xe2\x81\xa6\xef\xbb\xbf"), "\"\\u{2066}\\u{feff}\"", "\"\\u2066\\ufeff\"" },
	{ V("\xc2\x85\xc2\x9b"), "\"\\u{85}\\u{9b}\"", "\"\\u0085\\u009b\"" },	/* next line, the one-octet CSI */
	{ V("\xd8\x9c"), "\"\\u{61c}\"", "\"\\u061c\"" },
	{ V(A511 "b"), A511 "b", "\"" A511 "b\"" },
	{ V(A511 "bc"), "\"" A511 "b" MARK "\"", "\"" A511 "b" MARK "\"" },
	{ V(A511 "\xc3\xbc"), "\"" A511 MARK "\"", "\"" A511 MARK "\"" },	/* never half a character */
	{ V(A511 "\n"), "\"" A511 MARK "\"", "\"" A511 MARK "\"" },
	{ V(A511 A511), "\"" A511 "a" MARK "\"", "\"" A511 "a" MARK "\"" },
	{ N(LOG_F_INT, 0), "0", "0" },
	{ N(LOG_F_INT, -1), "-1", "-1" },
	{ N(LOG_F_INT, INT64_MAX), "9223372036854775807", "9223372036854775807" },
	{ N(LOG_F_INT, INT64_MIN), "-9223372036854775808", "-9223372036854775808" },
	{ N(LOG_F_MS, 0), "0.000", "0.000" },
	{ N(LOG_F_MS, 7), "0.007", "0.007" },
	{ N(LOG_F_MS, 1234567), "1234.567", "1234.567" },
	{ N(LOG_F_MS, -1500), "-1.500", "-1.500" },
	{ N(LOG_F_MS, INT64_MIN), "-9223372036854775.808", "-9223372036854775.808" },
};

static void
test_values(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(value_rows); i++) {
		char memory[LOG_LINE_MAX], want[LOG_LINE_MAX];
		struct log_field fields[] = { value_rows[i].field, { 0 } };

		print_message("  row %zu: %.60s\n", i, value_rows[i].logfmt);
		(void)snprintf(want, sizeof(want), HEAD "%s\n", value_rows[i].logfmt);
		assert_true(text_is(format_line(memory, LOG_LOGFMT, NOW, 0, fields), want));
		(void)snprintf(want, sizeof(want), JSON_HEAD "%s}\n", value_rows[i].json);
		assert_true(text_is(format_line(memory, LOG_JSON, NOW, 0, fields), want));
	}
}

static const struct {
	int64_t		 at;	/* microseconds */
	const char	*want;
} time_rows[] = {
	{ 0, "1970-01-01T00:00:00.000000Z" },
	{ -5, "1970-01-01T00:00:00.000000Z" },
	{ INT64_C(951782399999999), "2000-02-28T23:59:59.999999Z" },
	{ INT64_C(951782400000000), "2000-02-29T00:00:00.000000Z" },
	{ INT64_C(951868800000001), "2000-03-01T00:00:00.000001Z" },
	{ INT64_C(1798761599000000), "2026-12-31T23:59:59.000000Z" },
	{ INT64_C(1798761600000000), "2027-01-01T00:00:00.000000Z" },
	{ INT64_C(4107542399000000), "2100-02-28T23:59:59.000000Z" },
	{ INT64_C(4107542400000000), "2100-03-01T00:00:00.000000Z" },
};

static void
test_times(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(time_rows); i++) {
		char memory[LOG_LINE_MAX];
		struct span line = format_line(memory, LOG_LOGFMT, time_rows[i].at, 0, (const struct log_field[]){ { 0 } });

		print_message("  %s\n", time_rows[i].want);
		assert_true(text_is(text_sub(line, 5, 32), time_rows[i].want));
	}
}

static const struct {
	uint64_t	 session;
	const char	*logfmt, *json;
} session_rows[] = {
	{ 0, "front event=", "\"front\",\"event\"" },
	{ 1, "front session=1 event=", "\"front\",\"session\":\"1\",\"event\"" },
	{ 0x1a2b, "session=1a2b event=", "\"session\":\"1a2b\",\"event\"" },
	{ UINT64_MAX, "session=ffffffffffffffff event=", "\"session\":\"ffffffffffffffff\",\"event\"" },
	{ UINT64_C(0x1000000000000000), "session=1000000000000000 ", "\"session\":\"1000000000000000\"" },
};

static void
test_sessions(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(session_rows); i++) {
		char memory[LOG_LINE_MAX + 1];
		struct span line;

		print_message("  %s\n", session_rows[i].logfmt);
		line = format_line(memory, LOG_LOGFMT, NOW, session_rows[i].session, (const struct log_field[]){ { 0 } });
		memory[line.len] = '\0';
		assert_non_null(strstr(memory, session_rows[i].logfmt));
		line = format_line(memory, LOG_JSON, NOW, session_rows[i].session, (const struct log_field[]){ { 0 } });
		memory[line.len] = '\0';
		assert_non_null(strstr(memory, session_rows[i].json));
	}
}

/* Values of every length up to the end of the line: it is whole, or ends at a field's end and says so. */
static void
test_a_line_too_long_is_cut_between_fields(void **unused)
{
	char value[LOG_VALUE_MAX], memory[LOG_LINE_MAX];

	(void)unused;
	memset(value, 'a', sizeof(value));
	for (size_t extra = 0; extra <= sizeof(value); extra++) {
		struct log_field fields[10] = { { 0 } };
		bool cut;

		for (size_t i = 0; i < 8; i++)
			fields[i] = LF_SPAN("f", ((struct span){ value, i == 0 ? extra : sizeof(value) }));
		fields[8] = LF_STR("last", "z");
		for (int format = 0; format < LOG_FORMAT__MAX; format++) {
			struct span line = format_line(memory, (enum log_format)format, NOW, 1, fields);
			const char *end = format == LOG_JSON ? "\"cut\":1}\n" : " cut=1\n";
			const char *full = format == LOG_JSON ? "\"last\":\"z\"}\n" : " last=z\n";

			assert_true(line.len <= LOG_LINE_MAX);
			cut = text_is(text_sub(line, line.len - strlen(end), line.len), end);
			assert_true(cut != text_is(text_sub(line, line.len - strlen(full), line.len), full));
			if (cut)	/* no sooner than it must */
				assert_true(line.len > LOG_LINE_MAX - LOG_VALUE_MAX - 64);
			if (extra == sizeof(value))
				assert_true(cut);
			if (extra == 0)
				assert_false(cut);
			assert_int_equal(text_find(line, '\n'), line.len - 1);
		}
	}
}

/* ---- output ---- */

/* Run in a child whose standard error is fd: log_init() looks at it once only. */
static pid_t
in_child(int fd, void (*run)(int go, int ready), int *go, int *ready)
{
	int to[2], from[2];
	pid_t pid;

	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	pid = fork();
	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		alarm(10);	/* a write that waits would wait for ever */
		if (fd == -1)
			close(STDERR_FILENO);
		else
			dup2(fd, STDERR_FILENO);
		close(to[1]);
		close(from[0]);
		log_init(LOG_INFO, LOG_LOGFMT, "first");
		log_init(LOG_INFO, LOG_LOGFMT, "child");
		run(to[0], from[1]);
		_exit(0);
	}
	close(to[0]);
	close(from[1]);
	*go = to[1];
	*ready = from[0];
	return pid;
}

static void
expect_exit(pid_t pid, int want)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), want);
}

/* What is there to be read, as a string. */
static size_t
drain(int fd, char *dst, size_t size)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t n = 0;

	while (n + 1 < size && poll(&p, 1, 100) == 1) {
		ssize_t got = read(fd, dst + n, size - 1 - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	dst[n] = '\0';
	return n;
}

static char text[1 << 20];

/* Log until nothing fits, say so, and once there is room again log one more. */
static void
flood(int go, int ready)
{
	uint64_t dropped;
	char c;

	errno = ENOENT;
	log_debug(1, "never");
	for (int i = 0; i < 20000 && log_dropped() < 5; i++)
		log_info(7, "line", LF_INT("i", i));
	if (errno != ENOENT || log_dropped() != 5 || (fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK) != 0)
		_exit(2);
	if (write(ready, "r", 1) != 1 || read(go, &c, 1) != 1)
		_exit(3);
	dropped = log_dropped();
	log_info(7, "after", LF_INT("dropped", dropped));
	log_info(7, "last");
	if (log_dropped() != dropped)
		_exit(4);
}

static void
check_flood(int writer, int reader)
{
	int go, ready;
	char c;
	pid_t pid = in_child(writer, flood, &go, &ready);
	const char *end;

	assert_int_equal(read(ready, &c, 1), 1);
	assert_true(drain(reader, text, sizeof(text)) > 0);
	assert_non_null(strstr(text, "process=child session=7 event=line i=0\n"));
	assert_null(strstr(text, "never"));
	assert_null(strstr(text, "log_dropped"));
	assert_int_equal(write(go, "g", 1), 1);
	expect_exit(pid, 0);
	drain(reader, text, sizeof(text));
	end = strstr(text, "level=warn process=child event=log_dropped count=5\n");
	assert_non_null(end);
	assert_non_null(strstr(end, "event=after dropped=5\n"));
	assert_non_null(strstr(end, "event=last\n"));
	assert_null(strstr(strstr(end, "count="), "log_dropped"));
	close(go);
	close(ready);
	close(reader);
	close(writer);
}

static void
test_a_full_pipe_drops_and_counts(void **unused)
{
	int p[2];

	(void)unused;
	assert_int_equal(pipe(p), 0);
	check_flood(p[1], p[0]);
}

static void
test_a_full_socket_drops_and_counts(void **unused)
{
	int p[2];

	(void)unused;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	check_flood(p[1], p[0]);
}

static void
test_a_full_datagram_socket_drops_and_counts(void **unused)
{
	int p[2];

	(void)unused;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p), 0);
	check_flood(p[1], p[0]);
}

static void
three_lines(int go, int ready)
{
	(void)go;
	(void)ready;
	for (int i = 0; i < 3; i++)
		log_warn(0, "line", LF_INT("i", i), LF_STR("v", "a\nb"));
	_exit((int)log_dropped());
}

static void
test_lines_are_appended_to_a_file(void **unused)
{
	char name[] = "/tmp/test_log.XXXXXX";
	int fd = mkstemp(name), go, ready;
	ssize_t n;

	(void)unused;
	assert_int_not_equal(fd, -1);
	unlink(name);
	assert_int_equal(write(fd, "before\n", 7), 7);
	lseek(fd, 0, SEEK_SET);
	expect_exit(in_child(fd, three_lines, &go, &ready), 0);
	n = pread(fd, text, sizeof(text) - 1, 0);
	assert_true(n > 7);
	text[n] = '\0';
	assert_memory_equal(text, "before\ntime=", 12);
	assert_non_null(strstr(text, "level=warn process=child event=line i=2 v=\"a\\nb\"\n"));
	close(fd);
	close(go);
	close(ready);
}

static void
test_a_reader_that_is_gone_counts_as_dropped(void **unused)
{
	int p[2], go, ready;

	(void)unused;
	sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);	/* as the program does */
	assert_int_equal(pipe(p), 0);
	close(p[0]);
	expect_exit(in_child(p[1], three_lines, &go, &ready), 3);
	close(p[1]);
	close(go);
	close(ready);
}

static void
a_descriptor_of_others(int go, int ready)
{
	if (dup2(ready, STDERR_FILENO) == -1)
		_exit(9);
	three_lines(go, ready);
}

static void
test_without_standard_error_nothing_is_written_to_what_gets_its_number(void **unused)
{
	int go, ready;
	char c;

	(void)unused;
	expect_exit(in_child(-1, a_descriptor_of_others, &go, &ready), 3);
	assert_int_equal(read(ready, &c, 1), 0);
	close(go);
	close(ready);
}

static void
die(int go, int ready)
{
	(void)go;
	(void)ready;
	fatal("config", "line %d: %s", 7, "bad \"key\"");
}

static void
test_fatal_logs_and_exits_1(void **unused)
{
	int p[2], go, ready;

	(void)unused;
	assert_int_equal(pipe(p), 0);
	expect_exit(in_child(p[1], die, &go, &ready), 1);
	drain(p[0], text, sizeof(text));
	assert_non_null(strstr(text, "level=error process=child event=config text=\"line 7: bad \\\"key\\\"\"\n"));
	close(p[0]);
	close(p[1]);
	close(go);
	close(ready);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_sessions),
		cmocka_unit_test(test_a_line_too_long_is_cut_between_fields),
		cmocka_unit_test(test_a_full_pipe_drops_and_counts),
		cmocka_unit_test(test_a_full_socket_drops_and_counts),
		cmocka_unit_test(test_a_full_datagram_socket_drops_and_counts),
		cmocka_unit_test(test_lines_are_appended_to_a_file),
		cmocka_unit_test(test_a_reader_that_is_gone_counts_as_dropped),
		cmocka_unit_test(test_without_standard_error_nothing_is_written_to_what_gets_its_number),
		cmocka_unit_test(test_fatal_logs_and_exits_1),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
