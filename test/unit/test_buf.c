/*
 * test_buf.c - bounded queues of octets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "buf.h"

static void
test_all_zero_is_empty_and_takes_nothing(void **unused)
{
	struct buf b = { 0 };

	(void)unused;
	assert_int_equal(buf_len(&b), 0);
	assert_int_equal(buf_span(&b).len, 0);
	assert_int_equal(buf_add(&b, "", 0), 0);
	assert_int_equal(buf_add(&b, "a", 1), -1);
	assert_true(b.failed);
	buf_drop(&b, 0);
	buf_clear(&b);
}

/* max, what is added one after another, and what is then in the queue. */
static const struct {
	size_t		 max;
	const char	*parts[4];
	const char	*want;
	bool		 failed;
} add_rows[] = {
	{ 3, { "a", "bc" }, "abc", false },
	{ 3, { "abc" }, "abc", false },
	{ 3, { "abcd" }, "", true },
	{ 3, { "ab", "cd", "e" }, "ab", true },		/* nothing after a failure */
	{ 3, { "abc", "" }, "abc", false },
	{ 0, { "" }, "", false },
	{ 0, { "a" }, "", true },
	{ 100, { "0123456789012345678901234567890123456789012345678901234567890123", "4", "5" },
	    "012345678901234567890123456789012345678901234567890123456789012345", false },
};

static void
test_add(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(add_rows); i++) {
		char memory[100];
		struct buf heap, fixed;

		print_message("  row %zu\n", i);
		buf_init(&heap, add_rows[i].max);
		buf_fixed(&fixed, memory, add_rows[i].max);
		for (size_t k = 0; k < 4 && add_rows[i].parts[k] != NULL; k++)
			assert_int_equal(buf_add_str(&heap, add_rows[i].parts[k]), buf_add_str(&fixed, add_rows[i].parts[k]));
		assert_true(text_is(buf_span(&heap), add_rows[i].want));
		assert_true(text_is(buf_span(&fixed), add_rows[i].want));
		assert_int_equal(heap.failed, add_rows[i].failed);
		assert_int_equal(fixed.failed, add_rows[i].failed);
		assert_true(heap.size <= add_rows[i].max);
		buf_clear(&heap);
		buf_clear(&fixed);
	}
}

static void
test_reset_forgets_a_failure(void **unused)
{
	struct buf b;

	(void)unused;
	buf_init(&b, 2);
	assert_int_equal(buf_add_str(&b, "abc"), -1);
	assert_int_equal(buf_add_char(&b, 'a'), -1);
	buf_reset(&b);
	assert_int_equal(buf_add_str(&b, "ab"), 0);
	assert_true(text_is(buf_span(&b), "ab"));
	assert_int_equal(buf_room(&b), 0);
	buf_clear(&b);
	assert_null(b.data);
}

static void
test_drop(void **unused)
{
	struct buf b;

	(void)unused;
	buf_init(&b, 4);
	buf_add_str(&b, "abcd");
	buf_drop(&b, 3);
	assert_true(text_is(buf_span(&b), "d"));
	assert_int_equal(buf_add_char(&b, 'e'), -1);	/* room comes back when it is empty */
	buf_reset(&b);
	buf_add_str(&b, "abcd");
	buf_drop(&b, 4);
	assert_int_equal(buf_room(&b), 4);
	assert_int_equal(buf_add_str(&b, "efgh"), 0);
	assert_true(text_is(buf_span(&b), "efgh"));
	buf_clear(&b);
}

static void
test_str_is_terminated_and_not_counted(void **unused)
{
	char memory[3];
	struct buf b;

	(void)unused;
	buf_fixed(&b, memory, sizeof(memory));
	buf_add_str(&b, "ab");
	assert_string_equal(buf_str(&b), "ab");
	assert_int_equal(buf_len(&b), 2);
	buf_add_char(&b, 'c');
	assert_null(buf_str(&b));
}

static void
test_printf(void **unused)
{
	char large[1001], memory[16];
	struct buf b;

	(void)unused;
	memset(large, 'x', 1000);
	large[1000] = '\0';
	buf_init(&b, 4096);
	assert_int_equal(buf_printf(&b, "%d-%s", 5, "a"), 0);
	assert_true(text_is(buf_span(&b), "5-a"));
	assert_int_equal(buf_printf(&b, "%s", large), 0);	/* more than the small buffer */
	assert_int_equal(buf_len(&b), 1003);
	assert_memory_equal(buf_span(&b).p + 3, large, 1000);
	assert_int_equal(buf_printf(&b, "%s%s%s%s", large, large, large, large), -1);
	assert_int_equal(buf_len(&b), 1003);
	assert_true(b.failed);
	buf_clear(&b);
	buf_fixed(&b, memory, sizeof(memory));
	assert_int_equal(buf_printf(&b, "%s", "0123456789abcdef"), 0);
	assert_int_equal(buf_printf(&b, "%s", ""), 0);
	assert_int_equal(buf_printf(&b, "%s", "g"), -1);
	assert_true(text_is(buf_span(&b), "0123456789abcdef"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_zero_is_empty_and_takes_nothing),
		cmocka_unit_test(test_add),
		cmocka_unit_test(test_reset_forgets_a_failure),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_str_is_terminated_and_not_counted),
		cmocka_unit_test(test_printf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
