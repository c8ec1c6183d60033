/*
 * test_json.c - JSON: what is refused and why, look-ups, strings, numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rows.h"
#include "buf.h"
#include "json.h"

static const char syntax[] = "syntax", root[] = "neither object nor array", behind[] = "something behind the end", open[] = "no end",
    utf8[] = "not UTF-8", unclosed[] = "string without an end", control[] = "control octet in a string", escape[] = "escape",
    surrogate[] = "lone surrogate", number[] = "number", twice[] = "name given twice", deep[] = "too deep", many[] = "too many values";

#define VALUES_MAX 12
#define OPEN_15 "[[[[[[[[[[[[[[["
#define CLOSE_15 "]]]]]]]]]]]]]]]"

static const struct {
	struct span	 in;
	const char	*why;	/* "": it is taken */
	size_t		 n;	/* and has so many values */
} parse_rows[] = {
	{ SPAN("{}"), "", 1 },
	{ SPAN("[]"), "", 1 },
	{ SPAN(" \t\r\n{ \t\r\n} \t\r\n"), "", 1 },
	{ SPAN("{\"\":\"\"}"), "", 3 },
	{ SPAN("{ \"a\" : 1 , \"b\" : [ true , false , null ] }"), "", 8 },
	{ SPAN("[\"\x7f\xc3\xbc\xf0\x9f\x98\x80\"]"), "", 2 },
	{ SPAN("[1,2,3,4,5,6,7,8,9,10,11]"), "", 12 },
	{ SPAN("[1,2,3,4,5,6,7,8,9,10,11,12]"), many, 0 },
	{ SPAN("{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6}"), many, 0 },
	/* one value, and what is around it */
	{ SPAN(""), open, 0 },
	{ SPAN("  "), open, 0 },
	{ SPAN("1 "), root, 0 },
	{ SPAN("\"a\""), root, 0 },
	{ SPAN("null"), root, 0 },
	{ SPAN("x"), root, 0 },
	{ SPAN("]"), root, 0 },
	{ SPAN("\xef\xbb\xbf{}"), root, 0 },	/* case 8.19: BOM */
	{ SPAN("\0{}"), root, 0 },
	{ SPAN("\x0b{}"), root, 0 },
	{ SPAN("\xc2\xa0{}"), root, 0 },
	{ SPAN("{}x"), behind, 0 },
	{ SPAN("{}{}"), behind, 0 },
	{ SPAN("{},"), behind, 0 },
	{ SPAN("[]]"), behind, 0 },
	{ SPAN("{}\0"), behind, 0 },
	{ SPAN("{} // x"), behind, 0 },
	/* structure */
	{ SPAN("["), open, 0 },
	{ SPAN("[1"), open, 0 },
	{ SPAN("[1,"), open, 0 },
	{ SPAN("{\"a\""), open, 0 },
	{ SPAN("{\"a\":"), open, 0 },
	{ SPAN("{\"a\":1"), open, 0 },
	{ SPAN("[}"), syntax, 0 },
	{ SPAN("{]"), syntax, 0 },
	{ SPAN("[{]}"), syntax, 0 },
	{ SPAN("[1}"), syntax, 0 },
	{ SPAN("{\"a\":1]"), syntax, 0 },
	{ SPAN("[,]"), syntax, 0 },
	{ SPAN("[1,]"), syntax, 0 },
	{ SPAN("[,1]"), syntax, 0 },
	{ SPAN("[1,,2]"), syntax, 0 },
	{ SPAN("[1 2]"), syntax, 0 },
	{ SPAN("[1:2]"), syntax, 0 },
	{ SPAN("[\"a\" \"b\"]"), syntax, 0 },
	{ SPAN("[\"a\":1]"), syntax, 0 },
	{ SPAN("[[] []]"), syntax, 0 },
	{ SPAN("{,}"), syntax, 0 },
	{ SPAN("{\"a\"}"), syntax, 0 },
	{ SPAN("{\"a\",\"b\"}"), syntax, 0 },
	{ SPAN("{\"a\" 1}"), syntax, 0 },
	{ SPAN("{\"a\":}"), syntax, 0 },
	{ SPAN("{\"a\"::1}"), syntax, 0 },
	{ SPAN("{\"a\":1:2}"), syntax, 0 },
	{ SPAN("{\"a\":1,}"), syntax, 0 },
	{ SPAN("{\"a\":1 \"b\":2}"), syntax, 0 },
	{ SPAN("{\"a\":1,,\"b\":2}"), syntax, 0 },
	{ SPAN("{1:2}"), syntax, 0 },
	{ SPAN("{a:1}"), syntax, 0 },
	{ SPAN("{null:1}"), syntax, 0 },
	{ SPAN("{[]:1}"), syntax, 0 },
	{ SPAN("{'a':1}"), syntax, 0 },
	{ SPAN("['a']"), syntax, 0 },
	{ SPAN("[/**/1]"), syntax, 0 },
	{ SPAN("[1\0]"), syntax, 0 },
	{ SPAN("[\0]"), syntax, 0 },
	{ SPAN("[\x0c" "1]"), syntax, 0 },
	/* words */
	{ SPAN("[true,false,null]"), "", 4 },
	{ SPAN("[tru]"), syntax, 0 },
	{ SPAN("[truex]"), syntax, 0 },
	{ SPAN("[True]"), syntax, 0 },
	{ SPAN("[nul]"), syntax, 0 },
	{ SPAN("[nullnull]"), syntax, 0 },
	{ SPAN("[NaN]"), syntax, 0 },
	{ SPAN("[Infinity]"), syntax, 0 },
	{ SPAN("[t"), syntax, 0 },
	{ SPAN("[undefined]"), syntax, 0 },
	/* numbers, RFC 8259 6 */
	{ SPAN("[0,-0,10,-1,0.5,1.25,1e3,1E+3,1e-3,-1.5e10,1e400]"), "", 12 },
	{ SPAN("[01]"), syntax, 0 },
	{ SPAN("[-01]"), syntax, 0 },
	{ SPAN("[00]"), syntax, 0 },
	{ SPAN("[0x1]"), syntax, 0 },
	{ SPAN("[1x]"), syntax, 0 },
	{ SPAN("[1.5.2]"), syntax, 0 },
	{ SPAN("[1e3e3]"), syntax, 0 },
	{ SPAN("[1e3.5]"), syntax, 0 },
	{ SPAN("[1_000]"), syntax, 0 },
	{ SPAN("[1-1]"), syntax, 0 },
	{ SPAN("[+1]"), syntax, 0 },
	{ SPAN("[.5]"), syntax, 0 },
	{ SPAN("[-]"), number, 0 },
	{ SPAN("[--1]"), number, 0 },
	{ SPAN("[-a]"), number, 0 },
	{ SPAN("[-Infinity]"), number, 0 },
	{ SPAN("[1.]"), number, 0 },
	{ SPAN("[1.e3]"), number, 0 },
	{ SPAN("[-.5]"), number, 0 },
	{ SPAN("[1e]"), number, 0 },
	{ SPAN("[1e+]"), number, 0 },
	{ SPAN("[1e+-3]"), number, 0 },
	{ SPAN("[1E"), number, 0 },
	{ SPAN("[-"), number, 0 },
	{ SPAN("[1."), number, 0 },
	{ SPAN("[\xef\xbc\x91]"), syntax, 0 },	/* a digit, but not ASCII */
	/* strings */
	{ SPAN("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u00E9\"]"), "", 2 },
	{ SPAN("[\"\\ud83d\\ude00\\uD83D\\uDE00\\ue000\\ud7ff\\uffff\\u0001\"]"), "", 2 },
	{ SPAN("[\""), unclosed, 0 },
	{ SPAN("[\"a"), unclosed, 0 },
	{ SPAN("[\"a]"), unclosed, 0 },
	{ SPAN("[\"a\\"), unclosed, 0 },
	{ SPAN("[\"a\\\"]"), unclosed, 0 },
	{ SPAN("{\"a"), unclosed, 0 },
	{ SPAN("[\"a\nb\"]"), control, 0 },
	{ SPAN("[\"a\tb\"]"), control, 0 },
	{ SPAN("[\"a\0b\"]"), control, 0 },
	{ SPAN("[\"\x1f\"]"), control, 0 },
	{ SPAN("[\"\\a\"]"), escape, 0 },
	{ SPAN("[\"\\'\"]"), escape, 0 },
	{ SPAN("[\"\\x41\"]"), escape, 0 },
	{ SPAN("[\"\\0\"]"), escape, 0 },
	{ SPAN("[\"\\\0\"]"), escape, 0 },
	{ SPAN("[\"\\U0041\"]"), escape, 0 },
	{ SPAN("[\"\\u\"]"), escape, 0 },
	{ SPAN("[\"\\u004\"]"), escape, 0 },
	{ SPAN("[\"\\u004g\"]"), escape, 0 },
	{ SPAN("[\"\\u+041\"]"), escape, 0 },
	{ SPAN("[\"\\u00"), escape, 0 },
	{ SPAN("[\"\\u0000\"]"), escape, 0 },	/* case 8.15 */
	{ SPAN("[\"\\udc00\"]"), escape, 0 },
	{ SPAN("[\"\\ude00\\ud83d\"]"), escape, 0 },
	{ SPAN("[\"\\ud83d\"]"), surrogate, 0 },
	{ SPAN("[\"\\ud83dx\"]"), surrogate, 0 },
	{ SPAN("[\"\\ud83d\\n\"]"), surrogate, 0 },
	{ SPAN("[\"\\ud83d\\u0041\"]"), surrogate, 0 },
	{ SPAN("[\"\\ud83d\\ud83d\"]"), surrogate, 0 },
	{ SPAN("[\"\\ud83d\\ue000\"]"), surrogate, 0 },
	{ SPAN("[\"\\ud83d\\u"), surrogate, 0 },
	{ SPAN("[\"\xff\"]"), utf8, 0 },
	{ SPAN("[\"\xc0\xaf\"]"), utf8, 0 },
	{ SPAN("[\"\xed\xa0\x80\"]"), utf8, 0 },
	{ SPAN("[\"\xf4\x90\x80\x80\"]"), utf8, 0 },
	{ SPAN("[\"\xc3\"]"), utf8, 0 },
	{ SPAN("\xfe\xff\0{\0}"), utf8, 0 },
	/* names, case 8.18 */
	{ SPAN("{\"a\":1,\"b\":{\"a\":1},\"A\":2}"), "", 9 },
	{ SPAN("[{\"a\":1},{\"a\":1}]"), "", 7 },
	{ SPAN("{\"a\":{\"a\":{\"a\":\"a\"}},\"b\":\"a\"}"), "", 9 },
	{ SPAN("{\"a\":1,\"ab\":1,\"\":1,\"aa\":2}"), "", 9 },
	{ SPAN("{\"a\":1,\"a\":1}"), twice, 0 },
	{ SPAN("{\"\":1,\"\":1}"), twice, 0 },
	{ SPAN("{\"a\":1,\"b\":2,\"\\u0061\":1}"), twice, 0 },
	{ SPAN("{\"\\n\":1,\"\\u000a\":2}"), twice, 0 },
	{ SPAN("{\"/\":1,\"\\/\":2}"), twice, 0 },
	{ SPAN("{\"\xc3\xbc\":1,\"\\u00FC\":2}"), twice, 0 },
	{ SPAN("{\"\xe2\x82\xac\":1,\"\\u20ac\":2}"), twice, 0 },
	{ SPAN("{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":2}"), twice, 0 },
	{ SPAN("[[{\"x\":{\"a\":1,\"b\":{},\"a\":[]}}]]"), twice, 0 },
	{ SPAN("{\"a\":{},\"b\":[],\"a\":{}}"), twice, 0 },
	/* case 8.19: depth */
	{ SPAN(OPEN_15 CLOSE_15), many, 0 },
	{ SPAN("[[[[[[[[[[[[]]]]]]]]]]]]"), "", 12 },
};

static void
test_parse(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(parse_rows); i++) {
		struct span in = exact(parse_rows[i].in);
		const char *why = NULL;
		struct json j;

		print_row(in);
		assert_int_equal(json_parse(&j, in, VALUES_MAX, &why), parse_rows[i].why[0] == '\0' ? 0 : -1);
		assert_string_equal(why, parse_rows[i].why);
		assert_int_equal(j.n, parse_rows[i].n);
		json_clear(&j);
		json_clear(&j);
		release(in);
	}
}

/* What is cut short anywhere is refused, and not read past its end. */
static void
test_every_cut(void **unused)
{
	struct span whole = SPAN("{\"a\":[1.5e+3,true,null,\"\\ud83d\\ude00\\n\xc3\xbc\"],\"b\":{\"c\":{}}}");
	const char *why;
	struct json j;

	(void)unused;
	for (size_t cut = 0; cut <= whole.len; cut++) {
		struct span in = exact(text_sub(whole, 0, cut));

		print_row(in);
		assert_int_equal(json_parse(&j, in, 100, &why), cut == whole.len ? 0 : -1);
		json_clear(&j);
		release(in);
	}
}

static void
nest(struct buf *b, const char *open_with, const char *close_with, size_t depth)
{
	buf_reset(b);
	for (size_t i = 0; i < depth; i++)
		buf_add_str(b, open_with);
	for (size_t i = 0; i < depth; i++)
		buf_add_str(b, close_with);
}

static void
test_depth(void **unused)
{
	const char *why;
	struct json j;
	struct buf b;

	(void)unused;
	buf_init(&b, 1 << 20);
	nest(&b, "[", "]", JSON_DEPTH_MAX);
	assert_int_equal(json_parse(&j, buf_span(&b), 100, &why), 0);
	json_clear(&j);
	nest(&b, "[", "]", JSON_DEPTH_MAX + 1);
	assert_int_equal(json_parse(&j, buf_span(&b), 100, &why), -1);
	assert_string_equal(why, deep);
	nest(&b, "{\"a\":", "}", 2000);
	assert_int_equal(json_parse(&j, buf_span(&b), 10000, &why), -1);
	assert_string_equal(why, deep);
	nest(&b, "[", "", 500000);
	assert_int_equal(json_parse(&j, buf_span(&b), 1000000, &why), -1);
	assert_string_equal(why, deep);
	buf_clear(&b);
}

/* Names whose order, length or likeness is meant to make it slow, and texts of the largest size: each ends at once. */
static void
test_large(void **unused)
{
	const char *why;
	struct json j;
	struct buf b;

	(void)unused;
	buf_init(&b, 4 << 20);
	buf_add_str(&b, "{");
	for (unsigned i = 0; i < 20000; i++)
		buf_printf(&b, "%s\"\\u0061%05u\":%u", i == 0 ? "" : ",", i, i);
	assert_int_equal(json_parse(&j, buf_span(&b), 50000, &why), -1);
	assert_string_equal(why, "no end");
	buf_add_str(&b, "}");
	assert_int_equal(json_parse(&j, buf_span(&b), 40001, &why), 0);
	assert_int_equal(j.n, 40001);
	assert_true(json_get(&j, JSON_ROOT, SPAN("a19999")) == 40000);
	json_clear(&j);
	assert_int_equal(json_parse(&j, buf_span(&b), 40000, &why), -1);
	assert_string_equal(why, many);
	b.wpos--;
	buf_add_str(&b, ",\"a\\u00300000\":0}");
	assert_int_equal(json_parse(&j, buf_span(&b), 50000, &why), -1);
	assert_string_equal(why, twice);

	buf_reset(&b);
	for (unsigned i = 0; i < (1 << 20); i++)
		buf_add_char(&b, ' ');
	assert_int_equal(json_parse(&j, buf_span(&b), 100, &why), -1);
	assert_string_equal(why, open);
	buf_add_str(&b, "[]");
	assert_int_equal(json_parse(&j, buf_span(&b), 100, &why), 0);
	json_clear(&j);
	buf_clear(&b);
}

#define BOOK "{\"s\":\"a\\u0062\\n\xc3\xbc\\ud83d\\ude00\",\"e\":\"\",\"n\":-1.5,\"t\":true,\"f\":false,\"z\":null," \
	"\"o\":{\"p\":{\"q\":[\"x\"]},\"r\":7},\"l\":[[],{},[1,[2]],\"y\"],\"\\u0065\\/\":3,\"v\":{}}"

static struct json
book(void)
{
	const char *why;
	struct json j;

	assert_int_equal(json_parse(&j, SPAN(BOOK), 100, &why), 0);
	assert_string_equal(why, "");
	return j;
}

static void
test_look_ups(void **unused)
{
	static const struct {
		const char	*name;
		enum json_type	 type;
	} rows[] = {
		{ "s", JSON_STRING }, { "e", JSON_STRING }, { "n", JSON_NUMBER }, { "t", JSON_TRUE }, { "f", JSON_FALSE }, { "z", JSON_NULL },
		{ "o", JSON_OBJECT }, { "l", JSON_ARRAY }, { "e/", JSON_NUMBER }, { "v", JSON_OBJECT }, { "p", JSON_ABSENT },
		{ "", JSON_ABSENT }, { "so", JSON_ABSENT }, { "S", JSON_ABSENT }, { "a", JSON_ABSENT }, { "x", JSON_ABSENT },
	};
	struct json j = book(), empty = { 0 };
	int o;

	(void)unused;
	for (size_t i = 0; i < COUNT(rows); i++) {
		print_message("  %s\n", rows[i].name);
		assert_int_equal(json_type(&j, json_get(&j, JSON_ROOT, text_span(rows[i].name))), rows[i].type);
	}
	o = json_get(&j, JSON_ROOT, SPAN("o"));
	assert_int_equal(json_type(&j, json_get(&j, json_get(&j, o, SPAN("p")), SPAN("q"))), JSON_ARRAY);
	assert_int_equal(json_type(&j, json_get(&j, o, SPAN("r"))), JSON_NUMBER);
	assert_int_equal(json_get(&j, o, SPAN("q")), -1);
	assert_int_equal(json_get(&j, json_get(&j, -1, SPAN("a")), SPAN("b")), -1);
	assert_int_equal(json_get(&j, json_get(&j, JSON_ROOT, SPAN("l")), SPAN("y")), -1);
	assert_int_equal(json_get(&j, json_get(&j, JSON_ROOT, SPAN("v")), SPAN("v")), -1);
	assert_int_equal(json_type(&j, 1000), JSON_ABSENT);
	assert_int_equal(json_get(&empty, JSON_ROOT, SPAN("a")), -1);
	assert_int_equal(json_next(&empty, JSON_ROOT, -1), -1);
	json_clear(&j);
}

static void
test_walk(void **unused)
{
	static const char *const names[] = { "s", "e", "n", "t", "f", "z", "o", "l", "e/", "v" };
	static const enum json_type types[] = { JSON_ARRAY, JSON_OBJECT, JSON_ARRAY, JSON_STRING };
	struct json j = book();
	char name[8];
	size_t n = 0;
	int l = json_get(&j, JSON_ROOT, SPAN("l"));

	(void)unused;
	for (int v = -1; (v = json_next(&j, JSON_ROOT, v)) != -1; n++) {
		assert_true(n < COUNT(names));
		print_message("  %s\n", names[n]);
		assert_int_equal(json_name(&j, v, name, sizeof(name)), strlen(names[n]));
		assert_string_equal(name, names[n]);
		assert_int_equal(v, json_get(&j, JSON_ROOT, text_span(names[n])));
	}
	assert_int_equal(n, COUNT(names));
	n = 0;
	for (int v = -1; (v = json_next(&j, l, v)) != -1; n++) {
		assert_true(n < COUNT(types));
		assert_int_equal(json_type(&j, v), types[n]);
		assert_int_equal(json_name(&j, v, name, sizeof(name)), -1);
		assert_string_equal(name, "");
	}
	assert_int_equal(n, COUNT(types));
	assert_int_equal(json_next(&j, json_next(&j, l, -1), -1), -1);	/* [] */
	assert_int_equal(json_next(&j, json_get(&j, JSON_ROOT, SPAN("v")), -1), -1);
	assert_int_equal(json_next(&j, json_get(&j, JSON_ROOT, SPAN("s")), -1), -1);
	assert_int_equal(json_next(&j, -1, -1), -1);
	assert_int_equal(json_name(&j, JSON_ROOT, name, sizeof(name)), -1);
	assert_int_equal(json_name(&j, l - 1, name, sizeof(name)), -1);	/* a name has none */
	json_clear(&j);
}

static void
test_strings(void **unused)
{
	struct json j = book();
	int s = json_get(&j, JSON_ROOT, SPAN("s")), e = json_get(&j, JSON_ROOT, SPAN("e")), n = json_get(&j, JSON_ROOT, SPAN("n"));
	char dst[10];

	(void)unused;
	assert_int_equal(json_string(&j, s, dst, sizeof(dst)), 9);
	assert_string_equal(dst, "ab\n\xc3\xbc\xf0\x9f\x98\x80");
	for (size_t size = 0; size < sizeof(dst); size++) {
		memset(dst, 'x', sizeof(dst));
		assert_int_equal(json_string(&j, s, dst, size), -1);
		assert_true(dst[0] == (size == 0 ? 'x' : '\0') && dst[size] == 'x');
	}
	assert_int_equal(json_string(&j, e, dst, sizeof(dst)), 0);
	assert_string_equal(dst, "");
	assert_int_equal(json_string(&j, e, dst, 1), 0);
	dst[0] = 'x';
	assert_int_equal(json_string(&j, n, dst, sizeof(dst)), -1);
	assert_string_equal(dst, "");
	assert_int_equal(json_string(&j, -1, dst, sizeof(dst)), -1);

	json_printable(&j, s, dst, sizeof(dst));
	assert_string_equal(dst, "ab???????");
	json_printable(&j, s, dst, 3);
	assert_string_equal(dst, "ab");
	json_printable(&j, s, dst, 1);
	assert_string_equal(dst, "");
	json_printable(&j, n, dst, sizeof(dst));
	assert_string_equal(dst, "");

	assert_true(json_is(&j, s, SPAN("ab\n\xc3\xbc\xf0\x9f\x98\x80")));
	assert_false(json_is(&j, s, SPAN("ab\n\xc3\xbc\xf0\x9f\x98")));
	assert_false(json_is(&j, s, SPAN("ab\n\xc3\xbc\xf0\x9f\x98\x80 ")));
	assert_false(json_is(&j, s, SPAN("a\\u0062\\n")));
	assert_true(json_is(&j, e, SPAN("")));
	assert_false(json_is(&j, e, SPAN("\0")));
	assert_false(json_is(&j, n, SPAN("-1.5")));
	assert_false(json_is(&j, JSON_ROOT, SPAN("")));
	assert_false(json_is(&j, -1, SPAN("")));
	json_clear(&j);
}

static const struct {
	struct span	in;
	int		d_ret, i_ret;
	double		d;
	int64_t		i;
} number_rows[] = {
	{ SPAN("0"), 0, 0, 0, 0 },
	{ SPAN("-0"), 0, 0, 0, 0 },
	{ SPAN("15"), 0, 0, 15, 15 },
	{ SPAN("-15"), 0, 0, -15, -15 },
	{ SPAN("1500.5"), 0, 0, 1500.5, 1500 },
	{ SPAN("-1500.5"), 0, 0, -1500.5, -1500 },
	{ SPAN("1.5e3"), 0, 0, 1500, 1500 },
	{ SPAN("15e-1"), 0, 0, 1.5, 1 },
	{ SPAN("1700000000.5"), 0, 0, 1700000000.5, 1700000000 },
	{ SPAN("1e-400"), 0, 0, 0, 0 },
	{ SPAN("0e99999999999999999999"), 0, 0, 0, 0 },
	{ SPAN("9007199254740992"), 0, 0, 9007199254740992.0, INT64_C(9007199254740992) },
	{ SPAN("-9007199254740992"), 0, 0, -9007199254740992.0, INT64_C(-9007199254740992) },
	{ SPAN("9007199254740994"), 0, -1, 9007199254740994.0, 0 },
	{ SPAN("-9007199254740994"), 0, -1, -9007199254740994.0, 0 },
	{ SPAN("9223372036854775808"), 0, -1, 9223372036854775808.0, 0 },
	{ SPAN("9999999999999999999"), 0, -1, 1e19, 0 },
	{ SPAN("1e308"), 0, -1, 1e308, 0 },
	{ SPAN("1e309"), -1, -1, 0, 0 },
	{ SPAN("-1e400"), -1, -1, 0, 0 },
	{ SPAN("1e99999999999999999999"), -1, -1, 0, 0 },
	{ SPAN("\"1\""), -1, -1, 0, 0 },
	{ SPAN("true"), -1, -1, 0, 0 },
	{ SPAN("null"), -1, -1, 0, 0 },
	{ SPAN("[1]"), -1, -1, 0, 0 },
	{ SPAN("{}"), -1, -1, 0, 0 },
};

static void
test_numbers(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(number_rows); i++) {
		char text[64] = "[";
		struct span in = { text, number_rows[i].in.len + 2 };
		const char *why;
		struct json j;
		double d = 4711;
		int64_t n = 4711;

		print_row(number_rows[i].in);
		memcpy(text + 1, number_rows[i].in.p, number_rows[i].in.len);
		text[in.len - 1] = ']';
		in = exact(in);
		assert_int_equal(json_parse(&j, in, 100, &why), 0);
		assert_int_equal(json_double(&j, 1, &d), number_rows[i].d_ret);
		assert_true(d == (number_rows[i].d_ret == 0 ? number_rows[i].d : 4711));
		assert_int_equal(json_i64(&j, 1, &n), number_rows[i].i_ret);
		assert_true(n == (number_rows[i].i_ret == 0 ? number_rows[i].i : 4711));
		json_clear(&j);
		release(in);
	}
}

static void
test_mend(void **state)
{
	static const struct { struct span in, want; bool taken; } mend_rows[] = {
		{ SPAN("{\"a\":[\"b\\u0001\\\"\\\\\", 1]}"), SPAN("{\"a\":[\"b\\u0001\\\"\\\\\", 1]}"), true },
		{ SPAN("[\"a\\u0000b\"]"), SPAN("[\"a\\ufffdb\"]"), true },
		{ SPAN("[\"\\\\u0000\"]"), SPAN("[\"\\\\u0000\"]"), true },	/* a backslash, and then text */
		{ SPAN("[\"\\\\\\u0000\"]"), SPAN("[\"\\\\\\ufffd\"]"), true },
		{ SPAN("[\"\\ud83d\\uDE00\"]"), SPAN("[\"\\ud83d\\uDE00\"]"), true },
		{ SPAN("[\"\\ud83d\\ud83d\\ude00\"]"), SPAN("[\"\\ufffd\\ud83d\\ude00\"]"), true },
		{ SPAN("[\"\\uD83D\"]"), SPAN("[\"\\ufffd\"]"), true },
		{ SPAN("[\"\\ude00\"]"), SPAN("[\"\\ufffd\"]"), true },
		{ SPAN("[\"\\ud83d\\u0000\"]"), SPAN("[\"\\ufffd\\ufffd\"]"), true },
		{ SPAN("[\"\\ud83d\\n\"]"), SPAN("[\"\\ufffd\\n\"]"), true },
		{ SPAN("\n[\t\"a\nb\0\t\x1f\"\r]"), SPAN("\n[\t\"a?b???\"\r]"), true },
		{ SPAN("[\"\xff\xc3\",\"\xc3\xbc\"]"), SPAN("[\"??\",\"\xc3\xbc\"]"), true },
		/* what is no text of that kind is not made one */
		{ SPAN("[\xff]"), SPAN("[?]"), false },
		{ SPAN("[\\u0000]"), SPAN("[\\u0000]"), false },
		{ SPAN("[\"\\x\"]"), SPAN("[\"\\x\"]"), false },
		{ SPAN("[\"\\u00"), SPAN("[\"\\u00"), false },
		{ SPAN("[\"\\u"), SPAN("[\"\\u"), false },
		{ SPAN("[\"\\"), SPAN("[\"\\"), false },
		{ SPAN("[\"\\u00\"]"), SPAN("[\"\\u00\"]"), false },
		{ SPAN("[\"\\ud83d\\u"), SPAN("[\"\\ufffd\\u"), false },
		{ SPAN(""), SPAN(""), false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(mend_rows); i++) {
		struct span in = mend_rows[i].in;
		char *text = malloc(in.len == 0 ? 1 : in.len);	/* nothing behind it, for the sanitizer */
		const char *why;
		struct json j;

		print_message("  %zu\n", i);
		assert_non_null(text);
		memcpy(text, in.p, in.len);
		json_mend(text, in.len);
		assert_int_equal(in.len, mend_rows[i].want.len);
		assert_memory_equal(text, mend_rows[i].want.p, in.len);
		assert_int_equal(json_parse(&j, (struct span){ text, in.len }, VALUES_MAX, &why), mend_rows[i].taken ? 0 : -1);
		json_clear(&j);
		free(text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_every_cut), cmocka_unit_test(test_mend),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_look_ups),
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
