/*
 * test_file.c - a file of lines that is read again when it has changed; sets of keys.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/test_file.XXXXXX", path[64];

/* As an editor does: another file takes the name. */
static void
put(const char *text)
{
	char other[80];
	int fd;

	(void)snprintf(other, sizeof(other), "%s.new", path);
	fd = open(other, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd != -1);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	assert_int_equal(rename(other, path), 0);
}

static void
look(struct file *f, int64_t now_ms, enum file_news want, const char *want_text)
{
	struct buf text;
	enum file_news news = file_look(f, now_ms, &text);

	print_message("  at %d: %d\n", (int)now_ms, (int)news);
	assert_int_equal(news, want);
	assert_true(text_is(buf_span(&text), want_text));
	assert_int_equal(f->loaded, !f->failed);
	buf_clear(&text);
}

static void
looks(void **state)
{
	struct file f = { .key = "test", .path = path, .max = 10 };

	(void)state;
	put("one\n");
	look(&f, 5, FILE_READ, "one\n");
	put("two");
	look(&f, 1004, FILE_SAME, "");	/* not looked at */
	look(&f, 1005, FILE_READ, "two");
	look(&f, 2005, FILE_SAME, "");
	file_fail(&f, ENOMEM);
	look(&f, 2006, FILE_SAME, "");
	look(&f, 3005, FILE_READ, "two");
	assert_int_equal(unlink(path), 0);
	look(&f, 4005, FILE_GONE, "");
	look(&f, 4006, FILE_SAME, "");
	look(&f, 5005, FILE_GONE, "");
	put("");
	look(&f, 6005, FILE_READ, "");
	put("0123456789");
	look(&f, 7005, FILE_READ, "0123456789");
	put("0123456789a");
	look(&f, 8005, FILE_GONE, "");
	put("x");
	look(&f, 9005, FILE_READ, "x");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);	/* neither blocks nor is a file */
	look(&f, 10005, FILE_GONE, "");
	assert_int_equal(unlink(path), 0);
	f.path = folder;
	look(&f, 11005, FILE_GONE, "");
}

static void
lines(void **state)
{
	static const struct {
		const char	*text;
		const char	*lines[4];
		size_t		 numbers[4], last;
	} rows[] = {
		{ "", { 0 }, { 0 }, 0 },
		{ "\n", { 0 }, { 0 }, 1 },
		{ "a", { "a" }, { 1 }, 1 },
		{ "a\n", { "a" }, { 1 }, 1 },
		{ "\r\n \t\n#\n  # x\n b c \t# d\r\n\te\r\nf", { "b c", "e", "f" }, { 5, 6, 7 }, 7 },
		{ "a\r\r\nb\rc\n", { "a\r", "b\rc" }, { 1, 2 }, 2 },
		{ "a#b##c\n##\n", { "a" }, { 1 }, 2 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct span rest = text_span(rows[i].text), line;
		size_t number = 0, n = 0;

		print_message("  row %zu\n", i);
		for (; file_line(&rest, &number, &line); n++) {
			assert_non_null(rows[i].lines[n]);
			assert_true(text_is(line, rows[i].lines[n]));
			assert_int_equal(number, rows[i].numbers[n]);
		}
		assert_null(rows[i].lines[n]);
		assert_int_equal(number, rows[i].last);
	}
}

static void
keys(void **state)
{
	static const char *const in[] = { "b", "", "a b", "b", "@x", "aa" }, *const out[] = { "a", "bb", "@", "a  b", "x" };
	struct keys k = { 0 };

	(void)state;
	assert_false(keys_has(&k, ""));
	keys_clear(&k);
	keys_init(&k, 15);	/* the octets of all of in[], with their NULs */
	assert_int_equal(keys_sort(&k), 0);
	assert_false(keys_has(&k, ""));
	keys_clear(&k);
	keys_init(&k, 15);
	for (size_t i = 0; i < COUNT(in); i++)
		keys_add(&k, in[i]);
	assert_int_equal(keys_sort(&k), 0);
	for (size_t i = 0; i < COUNT(in); i++)
		assert_true(keys_has(&k, in[i]));
	for (size_t i = 0; i < COUNT(out); i++)
		assert_false(keys_has(&k, out[i]));
	keys_clear(&k);
	assert_int_equal(k.n, 0);
	keys_init(&k, 14);
	for (size_t i = 0; i < COUNT(in); i++)
		keys_add(&k, in[i]);
	assert_int_equal(keys_sort(&k), -1);
	assert_int_equal(errno, ENOMEM);
	assert_false(keys_has(&k, "b"));
	keys_clear(&k);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(looks), cmocka_unit_test(lines), cmocka_unit_test(keys) };
	int failed;

	if (mkdtemp(folder) == NULL)
		return 1;
	(void)snprintf(path, sizeof(path), "%s/f", folder);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	return failed != 0 || rmdir(folder) != 0;
}
