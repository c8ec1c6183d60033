/*
 * test_text.c - spans, classes, numbers, UTF-8, base64.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text.h"

static void
test_every_octet_has_its_classes(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < 256; i++) {
		char c = (char)i;
		bool digit = i >= '0' && i <= '9';
		bool upper = i >= 'A' && i <= 'Z', lower = i >= 'a' && i <= 'z';
		bool hex = digit || (i >= 'A' && i <= 'F') || (i >= 'a' && i <= 'f');
		bool atext = digit || upper || lower || (i > 0 && i < 128 && strchr("!#$%&'*+-/=?^_`{|}~", (int)i) != NULL);

		print_message("  %02x\n", i);
		assert_int_equal(is_digit(c), digit);
		assert_int_equal(is_class(c, C_ALPHA), upper || lower);
		assert_int_equal(is_alnum(c), digit || upper || lower);
		assert_int_equal(is_class(c, C_HEX), hex);
		assert_int_equal(is_atext(c), atext);
		assert_int_equal(is_vchar(c), i > 32 && i < 127);
		assert_int_equal(is_class(c, C_CNTRL), i < 32 || i == 127);
		assert_int_equal(is_class(c, C_WSP), i == 32 || i == 9);
		assert_int_equal(is_8bit(c), i > 127);
		assert_int_equal((unsigned char)text_lower(c), upper ? i + 32 : i);
	}
}

static void
test_spans(void **unused)
{
	struct span s = SPAN(" a\tb \t"), empty = text_span(NULL);

	(void)unused;
	assert_int_equal(empty.len, 0);
	assert_true(text_is(text_trim(s), "a\tb"));
	assert_true(text_is(text_trim(SPAN(" \t ")), ""));
	assert_int_equal(text_trim(empty).len, 0);
	assert_true(text_is(text_sub(SPAN("abc"), 1, 2), "b"));
	assert_true(text_is(text_sub(SPAN("abc"), 1, SIZE_MAX), "bc"));
	assert_true(text_is(text_sub(SPAN("abc"), 2, 1), ""));
	assert_true(text_is(text_sub(SPAN("abc"), SIZE_MAX, SIZE_MAX), ""));
	assert_null(text_sub(empty, 0, 1).p);
	assert_true(text_eq(empty, SPAN("")));
	assert_false(text_eq(SPAN("a\0b"), SPAN("a\0c")));
	assert_true(text_eq_nocase(SPAN("aZ\xdf"), SPAN("Az\xdf")));
	assert_false(text_eq_nocase(SPAN("\xc0"), SPAN("\xe0")));
	assert_false(text_eq_nocase(SPAN("["), SPAN("{")));
	assert_false(text_eq_nocase(SPAN("@"), SPAN("`")));
	assert_false(text_is(SPAN("ab\0"), "ab"));
	assert_true(text_is_nocase(SPAN("EHLO"), "ehlo"));
	assert_true(text_starts_nocase(SPAN("FROM:x"), "from:"));
	assert_false(text_starts_nocase(SPAN("FROM"), "from:"));
	assert_true(text_starts_nocase(empty, ""));
	assert_int_equal(text_find(SPAN("abc"), 'c'), 2);
	assert_int_equal(text_find(SPAN("a\0c"), '\0'), 1);
	assert_int_equal(text_find(SPAN("abc"), 'd'), SIZE_MAX);
	assert_int_equal(text_find(empty, 'a'), SIZE_MAX);
	assert_true(text_has(SPAN("ab\x7f"), C_CNTRL));
	assert_false(text_has(SPAN("ab\x80"), C_CNTRL | C_WSP));
	assert_false(text_has(empty, 0xff));
}

static const struct {
	struct span	 in;
	const char	*separators, *words;	/* joined by "|" */
} token_rows[] = {
	{ SPAN("a b"), " ", "a|b|" },
	{ SPAN("a  b"), " ", "a||b|" },
	{ SPAN(" a "), " ", "|a|" },
	{ SPAN("a,b;c"), ",;", "a|b|c|" },
	{ SPAN("abc"), ",", "abc|" },
	{ SPAN("abc"), "", "abc|" },
	{ SPAN(","), ",", "|" },
	{ SPAN(""), ",", "" },
};

static void
test_tokens(void **unused)
{
	struct span rest = SPAN("a\0b c"), word;

	(void)unused;
	for (size_t i = 0; i < COUNT(token_rows); i++) {
		char joined[32];
		size_t n = 0;

		print_message("  \"%.*s\"\n", (int)token_rows[i].in.len, token_rows[i].in.p);
		rest = token_rows[i].in;
		while (text_token(&rest, token_rows[i].separators, &word)) {
			assert_true(word.len < sizeof(joined) - 1 - n);
			memcpy(joined + n, word.p, word.len);
			n += word.len;
			joined[n++] = '|';
		}
		joined[n] = '\0';
		assert_string_equal(joined, token_rows[i].words);
	}
	rest = SPAN("a\0b c");	/* a NUL is no separator */
	assert_true(text_token(&rest, " ", &word));
	assert_int_equal(word.len, 3);
}

static const struct {
	struct span	in;
	uint64_t	max;
	int		want;
	uint64_t	n;
} number_rows[] = {
	{ SPAN("0"), UINT64_MAX, 0, 0 },
	{ SPAN("007"), UINT64_MAX, 0, 7 },
	{ SPAN("18446744073709551615"), UINT64_MAX, 0, UINT64_MAX },
	{ SPAN("18446744073709551616"), UINT64_MAX, -1, 0 },
	{ SPAN("99999999999999999999"), UINT64_MAX, -1, 0 },
	{ SPAN("184467440737095516150"), UINT64_MAX, -1, 0 },
	{ SPAN("9223372036854775807"), INT64_MAX, 0, INT64_MAX },
	{ SPAN("9223372036854775808"), INT64_MAX, -1, 0 },
	{ SPAN("255"), 255, 0, 255 },
	{ SPAN("256"), 255, -1, 0 },
	{ SPAN("0"), 0, 0, 0 },
	{ SPAN("1"), 0, -1, 0 },
	{ SPAN("0000000000000000000000000000000000001"), 1, 0, 1 },
	{ SPAN(""), UINT64_MAX, -1, 0 },
	{ SPAN("-1"), UINT64_MAX, -1, 0 },
	{ SPAN("+1"), UINT64_MAX, -1, 0 },
	{ SPAN(" 1"), UINT64_MAX, -1, 0 },
	{ SPAN("1 "), UINT64_MAX, -1, 0 },
	{ SPAN("1\0"), UINT64_MAX, -1, 0 },
	{ SPAN("0x1"), UINT64_MAX, -1, 0 },
	{ SPAN("1e3"), UINT64_MAX, -1, 0 },
};

static void
test_numbers(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(number_rows); i++) {
		uint64_t n = 4711;

		print_message("  \"%.*s\"\n", (int)number_rows[i].in.len, number_rows[i].in.p);
		assert_int_equal(text_u64(number_rows[i].in, number_rows[i].max, &n), number_rows[i].want);
		assert_true(n == (number_rows[i].want == 0 ? number_rows[i].n : 4711));
	}
}

static void
test_copy(void **unused)
{
	char dst[4] = "xyz";

	(void)unused;
	assert_int_equal(text_copy(dst, sizeof(dst), SPAN("abc")), 0);
	assert_string_equal(dst, "abc");
	assert_int_equal(text_copy(dst, sizeof(dst), SPAN("abcd")), -1);
	assert_string_equal(dst, "");
	assert_int_equal(text_copy(dst, sizeof(dst), SPAN("a\0b")), -1);
	assert_string_equal(dst, "");
	assert_int_equal(text_copy(dst, sizeof(dst), text_span(NULL)), 0);
	assert_string_equal(dst, "");
	assert_int_equal(text_copy(dst, 0, SPAN("")), -1);
	assert_int_equal(text_copy(NULL, 0, SPAN("a")), -1);
}

static const struct {
	struct span	in;
	size_t		first;	/* text_utf8_len() */
	bool		good;
} utf8_rows[] = {	/* case 5.15, RFC 3629 4 */
	{ SPAN("a"), 1, true },
	{ SPAN("\0"), 1, true },
	{ SPAN("\x7f"), 1, true },
	{ SPAN("\xc2\x80"), 2, true },
	{ SPAN("\xdf\xbf" "a"), 2, true },
	{ SPAN("\xe0\xa0\x80"), 3, true },
	{ SPAN("\xed\x9f\xbf"), 3, true },
	{ SPAN("\xee\x80\x80"), 3, true },
	{ SPAN("\xef\xbf\xbf"), 3, true },
	{ SPAN("\xf0\x90\x80\x80"), 4, true },
	{ SPAN("\xf4\x8f\xbf\xbf"), 4, true },
	{ SPAN("a\x80"), 1, false },
	{ SPAN("\x80"), 0, false },
	{ SPAN("\xbf"), 0, false },
	{ SPAN("\xc0\xaf"), 0, false },
	{ SPAN("\xc1\xbf"), 0, false },
	{ SPAN("\xc2"), 0, false },
	{ SPAN("\xc2" "a"), 0, false },
	{ SPAN("\xc2\xc2"), 0, false },
	{ SPAN("\xe0\x9f\xbf"), 0, false },
	{ SPAN("\xe0\xa0"), 0, false },
	{ SPAN("\xe1\x80" "a"), 0, false },
	{ SPAN("\xed\xa0\x80"), 0, false },
	{ SPAN("\xf0\x8f\xbf\xbf"), 0, false },
	{ SPAN("\xf0\x90\x80"), 0, false },
	{ SPAN("\xf1\x80\x80" "a"), 0, false },
	{ SPAN("\xf4\x90\x80\x80"), 0, false },
	{ SPAN("\xf5\x80\x80\x80"), 0, false },
	{ SPAN("\xff"), 0, false },
};

static void
test_utf8(void **unused)
{
	(void)unused;
	assert_true(text_is_utf8(text_span(NULL)));
	for (size_t i = 0; i < COUNT(utf8_rows); i++) {
		print_message("  row %zu\n", i);
		assert_int_equal(text_utf8_len(utf8_rows[i].in), utf8_rows[i].first);
		assert_int_equal(text_is_utf8(utf8_rows[i].in), utf8_rows[i].good);
	}
}

static void
test_distance(void **unused)
{
	static const char w65[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

	(void)unused;
	assert_int_equal(text_distance("", ""), 0);
	assert_int_equal(text_distance("", "abc"), 3);
	assert_int_equal(text_distance("abc", ""), 3);
	assert_int_equal(text_distance("hostname", "HostName"), 0);
	assert_int_equal(text_distance("hostname", "hostnam"), 1);
	assert_int_equal(text_distance("kitten", "sitting"), 3);
	assert_int_equal(text_distance(w65 + 1, w65 + 1), 0);
	assert_int_equal(text_distance(w65, "b"), 65);
}

static const struct {
	struct span	 in;
	const char	*out;	/* NULL: not base64 */
	size_t		 len;
} base64_rows[] = {	/* case 7.5 */
	{ SPAN(""), "", 0 },
	{ SPAN("Zg=="), "f", 1 },
	{ SPAN("Zm8="), "fo", 2 },
	{ SPAN("Zm9v"), "foo", 3 },
	{ SPAN("Zm9vYmFy"), "foobar", 6 },
	{ SPAN("AAAA"), "\0\0\0", 3 },
	{ SPAN("+/+/"), "\xfb\xff\xbf", 3 },
	{ SPAN("Z"), NULL, 0 },
	{ SPAN("Zg"), NULL, 0 },
	{ SPAN("Zm8"), NULL, 0 },
	{ SPAN("Zm9vY"), NULL, 0 },
	{ SPAN("===="), NULL, 0 },
	{ SPAN("Z==="), NULL, 0 },
	{ SPAN("Zg=v"), NULL, 0 },
	{ SPAN("Zg==Zg=="), NULL, 0 },
	{ SPAN("Zh=="), NULL, 0 },
	{ SPAN("Zm9="), NULL, 0 },
	{ SPAN("Zm 9"), NULL, 0 },
	{ SPAN("Zm9v\r\n=="), NULL, 0 },
	{ SPAN("-_-_"), NULL, 0 },
	{ SPAN("Zm\0v"), NULL, 0 },
	{ SPAN("\xff\xff\xff\xff"), NULL, 0 },
};

static void
test_base64(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(base64_rows); i++) {
		char out[8], back[16];
		long n;

		print_message("  \"%.*s\"\n", (int)base64_rows[i].in.len, base64_rows[i].in.p);
		n = text_base64_decode(base64_rows[i].in, out, sizeof(out));
		if (base64_rows[i].out == NULL) {
			assert_int_equal(n, -1);
			continue;
		}
		assert_int_equal(n, base64_rows[i].len);
		assert_memory_equal(out, base64_rows[i].out, base64_rows[i].len);
		if (n > 0)
			assert_int_equal(text_base64_decode(base64_rows[i].in, out, (size_t)n - 1), -1);
		assert_int_equal(text_base64_encode((struct span){ out, (size_t)n }, back, base64_rows[i].in.len + 1),
		    base64_rows[i].in.len);
		assert_true(text_is(base64_rows[i].in, back));
		assert_int_equal(text_base64_encode((struct span){ out, (size_t)n }, back, base64_rows[i].in.len), -1);
	}
}

static const struct {
	struct span	 in;
	const char	*out;	/* NULL: not base64url without padding */
	long		 len;
} base64url_rows[] = {	/* case 8.27 */
	{ SPAN(""), "", 0 },
	{ SPAN("Zg"), "f", 1 },
	{ SPAN("Zm8"), "fo", 2 },
	{ SPAN("Zm9v"), "foo", 3 },
	{ SPAN("Zm9vYg"), "foob", 4 },
	{ SPAN("AAAA"), "\0\0\0", 3 },
	{ SPAN("-_-_"), "\xfb\xff\xbf", 3 },
	{ SPAN("Z"), NULL, -1 },
	{ SPAN("Zm9vY"), NULL, -1 },
	{ SPAN("Zh"), NULL, -1 },	/* bits left over */
	{ SPAN("Zm9"), NULL, -1 },
	{ SPAN("Zm9vZ-"), NULL, -1 },
	{ SPAN("Zg=="), NULL, -1 },
	{ SPAN("Zm8="), NULL, -1 },
	{ SPAN("="), NULL, -1 },
	{ SPAN("===="), NULL, -1 },
	{ SPAN("+/+/"), NULL, -1 },
	{ SPAN("Zm%3"), NULL, -1 },
	{ SPAN("Zm.v"), NULL, -1 },
	{ SPAN(" Zm9v"), NULL, -1 },
	{ SPAN("Zm9v\n"), NULL, -1 },
	{ SPAN("Zm\0v"), NULL, -1 },
	{ SPAN("\xff\xff\xff\xff"), NULL, -1 },
};

static void
test_base64url(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(base64url_rows); i++) {
		char out[8];

		print_message("  \"%.*s\"\n", (int)base64url_rows[i].in.len, base64url_rows[i].in.p);
		assert_int_equal(text_base64url_decode(base64url_rows[i].in, out, sizeof(out)), base64url_rows[i].len);
		if (base64url_rows[i].len <= 0)
			continue;
		assert_memory_equal(out, base64url_rows[i].out, (size_t)base64url_rows[i].len);
		assert_int_equal(text_base64url_decode(base64url_rows[i].in, out, (size_t)base64url_rows[i].len - 1), -1);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_octet_has_its_classes),
		cmocka_unit_test(test_spans),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_distance),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_base64url),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
