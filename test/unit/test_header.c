/*
 * test_header.c - header fields, the address of From, and whose Authentication-Results are (SECURITY-CASES 9.1 to 9.12; RFC 5322
 * appendix A, 8601 appendix B).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "rows.h"
#include "header.h"

#define A10 "aaaaaaaaaa"
#define A64 A10 A10 A10 A10 A10 A10 "aaaa"

/* ---- fields ---- */

static const struct {
	struct span	in;
	struct span	fields[4];	/* name, value, name, value */
	size_t		n, left;
} field_rows[] = {
	{ SPAN(""), { { 0 } }, 0, 0 },
	{ SPAN("\n"), { { 0 } }, 0, 1 },
	{ SPAN("a:"), { SPAN("a"), SPAN("") }, 1, 0 },
	{ SPAN("a:\n"), { SPAN("a"), SPAN("") }, 1, 0 },
	{ SPAN("a: b"), { SPAN("a"), SPAN(" b") }, 1, 0 },
	{ SPAN("a: b\n\nc: d\n"), { SPAN("a"), SPAN(" b") }, 1, 6 },
	{ SPAN("a:b:c\nd: e\n"), { SPAN("a"), SPAN("b:c"), SPAN("d"), SPAN(" e") }, 2, 0 },
	{ SPAN("!#~: b\n"), { SPAN("!#~"), SPAN(" b") }, 1, 0 },
	{ SPAN("a\t : b\n"), { SPAN("a"), SPAN(" b") }, 1, 0 },
	{ SPAN("a: b\n c\n\td\ne: f\n"), { SPAN("a"), SPAN(" b\n c\n\td"), SPAN("e"), SPAN(" f") }, 2, 0 },
	{ SPAN("a:\n b\n"), { SPAN("a"), SPAN("\n b") }, 1, 0 },
	{ SPAN("a: b\n \nc: d"), { SPAN("a"), SPAN(" b\n "), SPAN("c"), SPAN(" d") }, 2, 0 },
	{ SPAN("a: b\n "), { SPAN("a"), SPAN(" b\n ") }, 1, 0 },
	{ SPAN("a: b\n \n"), { SPAN("a"), SPAN(" b\n ") }, 1, 0 },
	{ SPAN("a: b\n\t"), { SPAN("a"), SPAN(" b\n\t") }, 1, 0 },
	{ SPAN("a: b\0\xff\n"), { SPAN("a"), SPAN(" b\0\xff") }, 1, 0 },
	/* no fields */
	{ SPAN(":"), { { 0 } }, 0, 1 },
	{ SPAN(": a\n"), { { 0 } }, 0, 4 },
	{ SPAN(" : a\n"), { { 0 } }, 0, 5 },
	{ SPAN("a"), { { 0 } }, 0, 1 },
	{ SPAN("a "), { { 0 } }, 0, 2 },
	{ SPAN("a\n: b\n"), { { 0 } }, 0, 6 },
	{ SPAN("a\n : b\n"), { { 0 } }, 0, 7 },
	{ SPAN("a b: c\n"), { { 0 } }, 0, 7 },
	{ SPAN(" a: b\n"), { { 0 } }, 0, 6 },
	{ SPAN("\ta: b\n"), { { 0 } }, 0, 6 },
	{ SPAN(" \na: b\n"), { { 0 } }, 0, 7 },
	{ SPAN("a: b\nc\nd: e\n"), { SPAN("a"), SPAN(" b") }, 1, 7 },
	{ SPAN("From a@x.test Mon Jan  1 00:00:00 2024\nFrom: a@x.test\n"), { { 0 } }, 0, 54 },	/* case 9.8 */
	{ SPAN(">From a@x.test\nFrom: a@x.test\n"), { { 0 } }, 0, 30 },
	{ SPAN(">From: a@x.test\n"), { SPAN(">From"), SPAN(" a@x.test") }, 1, 0 },
	{ SPAN("Fr\0m: a\n"), { { 0 } }, 0, 8 },	/* case 9.3 */
	{ SPAN("From\0: a\n"), { { 0 } }, 0, 9 },
	{ SPAN("From\r: a\n"), { { 0 } }, 0, 9 },
	{ SPAN("Fr\xc3\xb6m: a\n"), { { 0 } }, 0, 9 },
	{ SPAN("From\x7f: a\n"), { { 0 } }, 0, 9 },
	{ SPAN("From\xc2\xa0: a\n"), { { 0 } }, 0, 10 },
};

static void
fields(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(field_rows); i++) {
		struct span in = exact(field_rows[i].in), rest = in;
		struct header_field f;
		size_t n = 0;

		print_row(in);
		for (; header_next(&rest, &f); n++) {
			assert_true(n < field_rows[i].n);
			assert_true(text_eq(f.name, field_rows[i].fields[2 * n]));
			assert_true(text_eq(f.value, field_rows[i].fields[2 * n + 1]));
		}
		assert_int_equal(n, field_rows[i].n);
		assert_int_equal(rest.len, field_rows[i].left);
		assert_int_equal(header_len(in), in.len - field_rows[i].left);
		for (size_t cut = 0; cut <= in.len; cut++)	/* a start that is not cut says how long the header block is */
			assert_true(header_is_cut(text_sub(in, 0, cut)) || header_len(text_sub(in, 0, cut)) == header_len(in));
		assert_true(header_is_cut(in) || rest.len > 0);
		release(in);
	}
	assert_false(header_is_cut(SPAN("a: b\n\nc")));
	assert_false(header_is_cut(SPAN("a: b\nc d")));
	assert_true(header_is_cut(SPAN("a: b\n")));
	assert_true(header_is_cut(SPAN("a: b\nc ")));
}

static void
every_octet_in_a_name(void **unused)
{
	(void)unused;
	for (unsigned c = 0; c < 256; c++) {
		char text[] = "a?b: c\n";
		struct span rest = { text, sizeof(text) - 1 };
		struct header_field f;

		print_message("  %02x\n", c);
		text[1] = (char)c;
		assert_int_equal(header_next(&rest, &f), c > 32 && c < 127);
		if (c == ':')
			assert_true(text_is(f.name, "a") && text_is(f.value, "b: c"));
	}
}

/* ---- From ---- */

struct from_row {
	struct span	 in;
	enum header_from want;
	const char	*address;	/* as printed */
	bool		 utf8;
};

#define F(value, ...) { .in = { "From: " value "\n\nbody\n", sizeof("From: " value "\n\nbody\n") - 1 }, __VA_ARGS__ }
#define W(message, r) { .in = { "" message, sizeof(message) - 1 }, .want = (r) }
#define M(message, a) { .in = { "" message, sizeof(message) - 1 }, .want = FROM_OK, .address = a }
#define GOOD(value, a) F(value, .want = FROM_OK, .address = a)
#define GOOD8(value, a) F(value, .want = FROM_OK, .address = a, .utf8 = true)
#define BAD(value) F(value, .want = FROM_SYNTAX)
#define BAD8(value) F(value, .want = FROM_SYNTAX, .utf8 = true)
#define MANY(value) F(value, .want = FROM_SEVERAL)
#define U "user@local.test"
#define NEST10 "(((((((((("
#define NEST100 NEST10 NEST10 NEST10 NEST10 NEST10 NEST10 NEST10 NEST10 NEST10 NEST10
#define UNNEST10 "))))))))))"
#define UNNEST100 UNNEST10 UNNEST10 UNNEST10 UNNEST10 UNNEST10 UNNEST10 UNNEST10 UNNEST10 UNNEST10 UNNEST10

static const struct from_row from_rows[] = {
	/* plain */
	GOOD(U, U), GOOD("<" U ">", U), GOOD("User <" U ">", U), GOOD("User<" U ">", U), GOOD("\"User\"<" U ">", U),
	GOOD("  " U "  ", U), GOOD("\t" U "\t", U), M("From:" U "\n", U), M("From:" U, U), M("from:" U "\n\n", U),
	GOOD("John Q. Public <" U ">", U), GOOD("J.Q.P. <" U ">", U), GOOD("\"Public, John Q.\" <" U ">", U),
	GOOD("\"a\" b \"c\"\"d\" <" U ">", U), GOOD("\"\" <" U ">", U), GOOD("\"a\\\"b\\\\\" <" U ">", U),
	GOOD("=?utf-8?Q?J=C3=B6rg?= <" U ">", U), GOOD("=?utf-8?B?SsO2cmc=?=\n =?utf-8?B?SsO2cmc=?= <" U ">", U),
	GOOD("\"=?utf-8?Q?J=C3=B6rg?=\" <" U ">", U),
	GOOD("USER@LOCAL.TEST", "USER@local.test"), GOOD("<user@local.test.>", U), GOOD("user+tag@local.test", "user+tag@local.test"),
	GOOD("a.b.c@local.test", "a.b.c@local.test"), GOOD("< " U "\t>", U), GOOD("x <\n " U "\n >", U),
	/* case 9.1 */
	W("From: " U "\nFrom: " U "\n\n", FROM_TWICE), W("From: " U "\nX: y\nfrom : " U "\n\n", FROM_TWICE),
	W("From: \"x\nFROM\t:y\n\n", FROM_TWICE), W("From: " U "\nFrom: ceo@bank.test\n\n", FROM_TWICE),
	M("From: " U "\n\nFrom: ceo@bank.test\n", U),
	MANY("a@x.test, b@x.test"), MANY("a@x.test,b@x.test"), MANY("<a@x.test>, <b@x.test>"), MANY("a@x.test; b@x.test"),
	MANY("a@x.test,"), MANY("a@x.test ,"), MANY("<a@x.test>,"), MANY(", a@x.test"), MANY(",a@x.test"), MANY("a@x.test;"),
	MANY("Doe, John <" U ">"), MANY("a, <" U ">"), MANY(",,"), MANY("(c),a@x.test"), MANY("<a@x.test> (c) , b@x.test"),
	MANY("g: a@x.test;"), MANY("g:a@x.test,b@x.test;"), MANY("g:;"), MANY("\"g\": a@x.test;"), MANY("g (c) : a@x.test;"),
	MANY("undisclosed-recipients:;"), MANY(": a@x.test"), MANY("a:<" U ">"),
	BAD(""), BAD(" "), BAD("\n "), BAD("()"), BAD("(" U ")"), BAD("\"\""), BAD("\"" U "\""), BAD("user"), BAD("User Name"),
	BAD("<>"), BAD("< >"), BAD("User <>"), W("From:", FROM_SYNTAX), W("From:\n", FROM_SYNTAX), W("From:\n\n", FROM_SYNTAX),
	W("", FROM_ABSENT), W("\n", FROM_ABSENT), W("To: " U "\n\n", FROM_ABSENT), W("Subject: s\n\nFrom: " U "\n", FROM_ABSENT),
	/* case 9.2 */
	GOOD("\"ceo@bank.test\" <" U ">", U), GOOD("\"ceo@bank.test,\" <" U ">", U), GOOD("=?utf-8?Q?ceo=40bank.test?= <" U ">", U),
	GOOD("ceo@bank.test (" U ")", "ceo@bank.test"), GOOD("(" U ") ceo@bank.test", "ceo@bank.test"),
	GOOD("(" U ") <ceo@bank.test>", "ceo@bank.test"), GOOD("\"" U "\" <ceo@bank.test>", "ceo@bank.test"),
	BAD("user@local.test <ceo@bank.test>"), BAD("ceo@bank.test <user@local.test>"), BAD("user@local.test<ceo@bank.test>"),
	BAD("User user@local.test"), BAD("User user@local.test <ceo@bank.test>"), BAD("a@b c <" U ">"), BAD("@ <" U ">"),
	BAD("<user@local.test> ceo@bank.test"), BAD("<user@local.test> <ceo@bank.test>"), BAD("<user@local.test><ceo@bank.test>"),
	BAD("<user@local.test> x"), BAD("user@local.test ceo@bank.test"), BAD("user@local.test x"), BAD("user@local.test."" ."),
	BAD("<user@local.test>."), BAD("<user@local.test>>"), BAD("<<user@local.test>"), BAD("<<user@local.test>>"),
	BAD("a <b <user@local.test>>"), BAD("user@local.test>"), BAD("<user@local.test"), BAD("user@local.test@bank.test"),
	BAD("\"<ceo@bank.test>\" <" U ">"), BAD("(<ceo@bank.test>) " U), BAD("<" U "> (<ceo@bank.test>)"), BAD("\"a\\<b\" <" U ">"),
	BAD("(a\\>b) <" U ">"), BAD("[x] <" U ">"), BAD("x) <" U ">"), BAD("x \\y <" U ">"),
	/* case 9.3 */
	M("From:\n " U "\n\n", U), M("From:\n\t" U "\n\n", U), M("From:\n User\n\t<" U ">\n\n", U), M("From : " U "\n\n", U),
	M("FROM\t:" U "\n\n", U), M("fRoM \t : " U "\n\n", U), M("From: " U "\n (c)\n\n", U), M("From: \"Joe\n User\" <" U ">\n\n", U),
	W("Fr\0om: " U "\n\n", FROM_ABSENT), W("From\0: " U "\n\n", FROM_ABSENT), W("Fr\xc3\xb6m: " U "\n\n", FROM_ABSENT),
	W("\xef\xbb\xbf" "From: " U "\n\n", FROM_ABSENT), W("From: " U "\nFrom\0: ceo@bank.test\n\n", FROM_SYNTAX),
	W("From: " U "\nFrom\xc2\xa0: ceo@bank.test\n\n", FROM_SYNTAX), W("From: user\n @local.test\n\n", FROM_SYNTAX),
	W("From: user@\n local.test\n\n", FROM_SYNTAX), W("From: user@local\n .test\n\n", FROM_SYNTAX),
	BAD("a\rb <" U ">"), BAD("a\0b <" U ">"), BAD("\"a\0\" <" U ">"), BAD("(\0) " U), BAD(U "\0"), BAD("\x1b <" U ">"),
	BAD("(\x7f) " U), BAD("\"\\\0\" <" U ">"),
	/* case 9.4 */
	BAD("=?utf-8?q?user?=@local.test"), BAD("<=?utf-8?q?user?=@local.test>"), BAD("\"=?utf-8?q?ceo=40bank.test?=\"@local.test"),
	BAD("x <=?utf-8?q?user=40local.test?=>"), BAD("=?utf-8?q?user=40local.test?="), BAD("=?utf-8?q?=3Cuser=40local.test=3E?="),
	BAD("=?\?=@local.test"), GOOD("=?=@local.test", "=?=@local.test"), GOOD("?==?@local.test", "?==?@local.test"),
	GOOD("\"user\"@local.test", U), GOOD("<\"user\"@local.test>", U), GOOD("x <\"us\\er\"@local.test>", U),
	GOOD("\"b ob\"@local.test", "\"b ob\"@local.test"), GOOD("\"ceo@bank.test\"@local.test", "\"ceo@bank.test\"@local.test"),
	GOOD("\"a,b\"@local.test", "\"a,b\"@local.test"), GOOD("\"a;b:c(\"@local.test", "\"a;b:c(\"@local.test"),
	BAD("\"a\nb\"@local.test"), BAD("\"a\n b\"@local.test"), BAD("\"a\tb\"@local.test"), BAD("\"\"@local.test"),
	BAD("\"user@local.test"), BAD("\"user\\\"@local.test"), BAD("\"user\\"), BAD("\"user"), BAD("\"a\"\"b\"@local.test"),
	BAD("\"a\"b@local.test"), BAD("a\"b\"@local.test"), BAD("\"a\".b@local.test"), BAD("\"a\" @local.test"),
	BAD("\"a>b\"@local.test"), BAD("<\"a>b\"@local.test>"), BAD("<\"a<b\"@local.test>"),
	GOOD("(a(b)c)" U "(d)", U), GOOD("(\\)) " U, U), GOOD("(\\() <" U ">", U), GOOD("((a) (b)) " U " () ()", U), GOOD("(\") " U, U),
	GOOD("\"(\" <" U ">", U), GOOD("(\xff) " U, U), GOOD("a (b) c (d) <" U ">(e)", U), GOOD(NEST100 UNNEST100 U, U),
	BAD(NEST100 "()" UNNEST100 U), BAD("(" U), BAD(U " ("), BAD("(()" U), BAD(U "(\\"), BAD(U "(\\)"), BAD("()) " U), BAD(U ")"),
	BAD("user(c)@local.test"), BAD("user@(c)local.test"), BAD("user@local(c).test"), BAD("user @local.test"),
	BAD("user@ local.test"), BAD("user . x@local.test"), BAD("user@local. test"), BAD("user@local .test"),
	BAD("<user(c)@local.test>"), BAD("<(c)user@local.test>"), BAD("<user@local.test(c)>"), BAD("<user @local.test>"),
	BAD("<user@ local.test>"), BAD("(c)user(c)@local.test"),
	BAD("<@a.test:user@local.test>"), BAD("<@a.test,@b.test:user@local.test>"), BAD("@a.test:user@local.test"),
	BAD("x <@local.test:ceo@bank.test>"), BAD("<@a.test>"), BAD("<@>"), BAD("@"), BAD("@local.test"), BAD("user@"), BAD("<user@>"),
	BAD("<user>"), BAD(".user@local.test"), BAD("user.@local.test"), BAD("us..er@local.test"), BAD("user@local..test"),
	BAD("user@-a.test"), MANY("mailto:user@local.test"), BAD("<mailto:user@local.test>"), BAD("user@local.test/x"),
	GOOD("user@[192.0.2.1]", "user@[192.0.2.1]"), GOOD("<user@[IPV6:2001:DB8::1]>", "user@[IPv6:2001:db8::1]"),
	GOOD("user@[IPv6:::1]", "user@[IPv6:::1]"), BAD("user@[ 192.0.2.1 ]"), BAD("user@[192.0.2.1"), BAD("user@[x]"), BAD("user@[)]"),
	GOOD(A64 "@local.test", A64 "@local.test"), BAD("a" A64 "@local.test"),
	GOOD8("user@b\xc3\xbc" "cher.test", "user@xn--bcher-kva.test"), GOOD8("user@xn--bcher-kva.test", "user@xn--bcher-kva.test"),
	GOOD8("<user@B\xc3\x9c" "CHER.test>", "user@xn--bcher-kva.test"), GOOD("user@xn--bcher-kva.test", "user@xn--bcher-kva.test"),
	GOOD8("b\xc3\xbc" "cher@local.test", "b\xc3\xbc" "cher@local.test"), GOOD8("\"\xc3\xbc b\"@local.test", "\"\xc3\xbc b\"@local.test"),
	BAD("user@b\xc3\xbc" "cher.test"), BAD("b\xc3\xbc" "cher@local.test"), BAD("<b\xf6" "b@local.test>"), BAD8("b\xf6" "b@local.test"),
	BAD8("<b\xf6" "b@local.test>"), BAD8("user@local.test\xe2\x80\x8b"), BAD8("user@local.test\xc2\xa0"), BAD8("\xc0\xaf@local.test"),
	GOOD("J\xc3\xb6rg <" U ">", U), GOOD8("J\xc3\xb6rg <" U ">", U), GOOD("J\xf6rg <" U ">", U), GOOD("\"J\xf6rg\" <" U ">", U),
	GOOD(U " (J\xf6rg)", U), GOOD8("J\xf6rg <" U ">", U), BAD("\xc3\xb6 " U), BAD8("\xef\xbc\x9c" U "\xef\xbc\x9e"),
	/* case 9.5 */
	W("Sender: " U "\nResent-From: " U "\n\n", FROM_ABSENT), M("Sender: " U "\nFrom: ceo@bank.test\nResent-From: " U "\n\n", "ceo@bank.test"),
	M("X-From: a@x.test\nFrom: " U "\nFrom-X: b@x.test\nFrome: c@x.test\nFro: d@x.test\n\n", U),
	/* cases 9.8, 9.9 */
	W("From " U " Mon Jan  1 00:00:00 2024\nFrom: " U "\n\n", FROM_ABSENT), W(">From " U "\nFrom: " U "\n\n", FROM_ABSENT),
	W("\nFrom: " U "\n\n", FROM_ABSENT), W(" \nFrom: " U "\n\n", FROM_ABSENT), W("\t\nFrom: " U "\n\n", FROM_ABSENT),
	W("no header at all\n", FROM_ABSENT), W("no header at all", FROM_ABSENT), W(" x\nFrom: " U "\n\n", FROM_ABSENT),
	W("From: " U "\nFrom user Mon\nFrom: ceo@bank.test\n\n", FROM_SYNTAX), W("From: " U "\nx\nFrom: ceo@bank.test\n\n", FROM_SYNTAX),
	W("From: " U "\nbody\n", FROM_SYNTAX), W("x: y\nbody\nFrom: " U "\n\n", FROM_ABSENT), W("From: " U "\n: x\n\n", FROM_SYNTAX),
	W("From: " U "\n \n\n", FROM_SYNTAX), W("From: " U "\n \t", FROM_SYNTAX), W("From: x\n \n <" U ">\n\n", FROM_SYNTAX),
	W("From:\n\t\n " U "\n\n", FROM_SYNTAX), W("X: y\n \nFrom: " U "\n\n", FROM_SYNTAX), W("X:\n \nFrom: " U "\n\n", FROM_SYNTAX),
	W("X: y\n z\n  \t\nFrom: " U "\n\n", FROM_SYNTAX), W("X: y\n \t\n z\nFrom: " U "\n\n", FROM_SYNTAX),
	M("From: " U "\nSubject: s\n \n\n", U), W("From: " U "\nSubject: s\n \nFrom: ceo@bank.test\n\n", FROM_TWICE),
	M("X: y \n z\n a\nFrom: " U "\n\n", U), M("X: \nFrom: " U "\n\n", U),
	/* RFC 5322 A.1 */
	M("From: John Doe <jdoe@machine.example>\nTo: Mary Smith <mary@example.net>\nSubject: Saying Hello\n"
	    "Date: Fri, 21 Nov 1997 09:55:06 -0600\nMessage-ID: <1234@local.machine.example>\n\nHello.\n", "jdoe@machine.example"),
	M("From: John Doe <jdoe@machine.example>\nSender: Michael Jones <mjones@machine.example>\n\n", "jdoe@machine.example"),
	M("From: \"Joe Q. Public\" <john.q.public@example.com>\nTo: Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>\n"
	    "Cc: <boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>\n\n", "john.q.public@example.com"),
	GOOD("Who? <one@y.test>", "one@y.test"), GOOD("<boss@nil.test>", "boss@nil.test"),
	GOOD("\"Giant; \\\"Big\\\" Box\" <sysservices@example.net>", "sysservices@example.net"),
	/* A.1.3 */
	GOOD("Pete <pete@silly.example>", "pete@silly.example"), MANY("A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;"),
	/* A.3, A.4 */
	M("Resent-From: Mary Smith <mary@example.net>\nResent-To: Jane Brown <j-brown@other.example>\n"
	    "From: John Doe <jdoe@machine.example>\n\n", "jdoe@machine.example"),
	M("Received: from x.y.test\n  by example.net\n  via TCP\n  for <mary@example.net>;  21 Nov 1997 10:05:43 -0600\n"
	    "From: John Doe <jdoe@node.example>\n\n", "jdoe@node.example"),
	/* A.5: comments inside the address are refused */
	BAD("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>"), GOOD("Pete(A nice \\) chap) <pete@silly.test>", "pete@silly.test"),
	MANY("A Group(Some people)\n     :Chris Jones <c@(Chris's host.)public.example>,\n         joe@example.org;"),
	MANY("(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;"),
	/* A.6 */
	GOOD("Joe Q. Public <john.q.public@example.com>", "john.q.public@example.com"), BAD("Mary Smith <@node.test:mary@example.net>"),
	MANY(", , jdoe@example.org"), W("From  : John Doe <jdoe@machine(comment).  example>\n\n", FROM_SYNTAX),
	M("From  : John Doe <jdoe@machine.example>\nTo    : Mary Smith\n  \n          <mary@example.net>\n\n", "jdoe@machine.example"),
};

static void
try_from(const struct from_row *row)
{
	struct span in = exact(row->in);
	char printed[SMTP_ADDRESS_MAX + 1];
	struct mailbox m, zero = { 0 };
	enum header_from got;

	print_row(row->in);
	memset(&m, 'x', sizeof(m));
	got = header_from(in, row->utf8, &m);
	release(in);
	if (got != row->want)
		fail_msg("%s, not %s", header_from_text(got), header_from_text(row->want));
	smtp_mailbox_print(&m, printed);
	if (got == FROM_OK)
		assert_string_equal(printed, row->address);
	else
		assert_memory_equal(&m, &zero, sizeof(m));
}

static void
from(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(from_rows); i++)
		try_from(&from_rows[i]);
}

static void
a_field_cut_short_is_never_another_address(void **unused)
{
	static const struct span in = SPAN("From: \"Joe \\\" (User)\" (a (b) \\)) <\"user\"@local.test> (c)");

	(void)unused;
	for (size_t cut = 0; cut <= in.len; cut++) {
		bool good = cut == in.len || cut == in.len - 4 || cut == in.len - 3;	/* without the last comment */

		try_from(&(struct from_row){ .in = text_sub(in, 0, cut), .want = cut < 5 ? FROM_ABSENT : good ? FROM_OK : FROM_SYNTAX,
		    .address = U });
	}
}

static void
every_octet_in_an_address(void **unused)
{
	(void)unused;
	for (unsigned c = 0; c < 256; c++) {
		char bare[] = "From: a?b@x.test\n\n", angle[] = "From: <a?b@x.test>\n\n", phrase[] = "From: a?b <a@x.test>\n\n";
		bool in_atom = c < 128 && (is_atext((char)c) || c == '.');
		struct span s;
		struct mailbox m;

		print_message("  %02x\n", c);
		bare[7] = angle[8] = phrase[7] = (char)c;
		s = (struct span){ bare, sizeof(bare) - 1 };
		assert_int_equal(header_from(s, false, &m) == FROM_OK, in_atom);
		s = (struct span){ angle, sizeof(angle) - 1 };
		assert_int_equal(header_from(s, false, &m) == FROM_OK, in_atom);
		s = (struct span){ phrase, sizeof(phrase) - 1 };
		assert_int_equal(header_from(s, false, &m) == FROM_OK, in_atom || c >= 128 || c == ' ' || c == '\t');
	}
}

static void
every_answer_has_a_text(void **unused)
{
	(void)unused;
	for (int r = FROM_OK; r <= FROM_TOO_MANY; r++)
		for (int other = FROM_OK; other < r; other++)
			assert_string_not_equal(header_from_text((enum header_from)r), header_from_text((enum header_from)other));
}

/* ---- Authentication-Results ---- */

#define OURS(value_) { SPAN(value_), true }
#define THEIRS(value_) { SPAN(value_), false }

static const struct {
	struct span	value;
	bool		ours;	/* mx.xn--bcher-kva.test */
} authserv_rows[] = {
	OURS(" mx.xn--bcher-kva.test; none"), OURS("mx.xn--bcher-kva.test;none"), OURS(" MX.XN--BCHER-KVA.TEST; none"),
	OURS(" mx.xn--bcher-kva.test"), OURS(" mx.xn--bcher-kva.test 1; none"), OURS(" mx.xn--bcher-kva.test/1; none"),
	OURS(" mx.xn--bcher-kva.test\n 1; none"), OURS("\n mx.xn--bcher-kva.test\n\t; none"), OURS(" \t\n \n\tmx.xn--bcher-kva.test; none"),
	OURS(" (a (b) \\) c)\n (d)mx.xn--bcher-kva.test(e) (f) 1 (g); none"), OURS(" (other.test) mx.xn--bcher-kva.test; none"),
	OURS(" \"mx.xn--bcher-kva.test\"; none"), OURS(" (x) \"MX.xn--bcher-kva.test\" 1; none"), OURS(" \"mx\\.xn--bcher-kv\\a.test\"; none"),
	OURS(" mx.b\xc3\xbc" "cher.test; none"), OURS(" \"mx.B\xc3\x9c" "CHER.test\"; none"), OURS(" mx.xn--bcher-kva.test.; none"),
	/* others, and what is as long */
	THEIRS(" other.test; none"), THEIRS(" other.test 1; dkim=pass (mx.xn--bcher-kva.test) header.d=mx.xn--bcher-kva.test"),
	THEIRS(" (mx.xn--bcher-kva.test) other.test; none"), THEIRS(" \"other.test\"; none"), THEIRS(" mx.xn--bcher-kva.test2; none"),
	THEIRS(" xmx.xn--bcher-kva.test; none"), THEIRS(" x.mx.xn--bcher-kva.test; none"), THEIRS(" xn--bcher-kva.test; none"),
	THEIRS(" mx.b\xc3\xb6" "cher.test; none"), THEIRS(" mx-xn--bcher-kva.test; none"), THEIRS(" \"mx .xn--bcher-kva.test\"; none"),
	THEIRS(" spf=none (sender IP is 192.0.2.1) smtp.mailfrom=x.test; dkim=none"),	/* what has no id at all */
	/* appendix B */
	THEIRS(" example.org 1; none"), THEIRS(" example.com;\n  spf=pass smtp.mailfrom=example.net"),
	THEIRS(" foo.example.net (foobar) 1 (baz);\n   dkim (Because I like it) / 1 (One yay) = (wait for it) fail\n"
	    "     policy (A dot can go here) . (like that) expired\n     (this surprised me) = (as I wasn't expecting it) 1362471462"),
	/* nobody's */
	OURS(""), OURS(" "), OURS(" ;"), OURS("; mx.xn--bcher-kva.test; none"), OURS(" \"\"; none"), OURS(" (mx.xn--bcher-kva.test"),
	OURS(" (a (b) other.test; none"), OURS(" (\\"), OURS(" \"mx.xn--bcher-kva.test"), OURS(" \"other.test; none"), OURS(" \"\\"),
	OURS(" =?utf-8?q?mx.xn--bcher-kva.test?=; none"), OURS(" <mx.xn--bcher-kva.test>; none"),
};

static void
whose_results(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(authserv_rows); i++) {
		struct span value = exact(authserv_rows[i].value);

		print_row(value);
		assert_int_equal(header_authserv_is(value, "mx.xn--bcher-kva.test"), authserv_rows[i].ours);
		release(value);
	}
}

/* ---- bounds ---- */

/* prefix, n times unit, suffix; to be freed. */
static struct span
repeat(const char *prefix, const char *unit, size_t n, const char *suffix)
{
	size_t a = strlen(prefix), u = strlen(unit), z = strlen(suffix);
	char *p = malloc(a + n * u + z + 1);

	assert_non_null(p);
	memcpy(p, prefix, a);
	for (size_t i = 0; i < n; i++)
		memcpy(p + a + i * u, unit, u);
	memcpy(p + a + n * u, suffix, z);
	return (struct span){ p, a + n * u + z };
}

static void
a_thousand_fields_and_one_more(void **unused)	/* case 9.7 */
{
	struct span s = repeat("", "a: b\n", HEADER_FIELDS_MAX - 1, "From: " U "\n\n");

	(void)unused;
	try_from(&(struct from_row){ .in = s, .want = FROM_OK, .address = U });
	release(s);
	s = repeat("From: " U "\n", "a: b\n", HEADER_FIELDS_MAX, "\n");
	try_from(&(struct from_row){ .in = s, .want = FROM_TOO_MANY });
	assert_int_equal(header_len(s), s.len - 1);
	release(s);
}

/* 4 MiB of each in a time that no square of it would keep to: cases 9.4, 9.8. */
static void
large_and_linear(void **unused)
{
	static const struct {
		const char	*prefix, *unit, *suffix;
		enum header_from want;
	} rows[] = {
		{ "", "From a@x.test\n", "", FROM_ABSENT }, { "From: " U "\n", ">From a\n", "", FROM_SYNTAX }, { "", "\n", "", FROM_ABSENT },
		{ "", " \n", "", FROM_ABSENT }, { "From: " U "\nX:", "\n ", "", FROM_OK }, { "X:", "\n y", "\nFrom: " U "\n", FROM_OK },
		{ "X:", "\n \t", "\nFrom: " U "\n", FROM_SYNTAX }, { "From:", "\n \n ", U "\n\n", FROM_SYNTAX },
		{ "From:", "\n  x", "<" U ">\n\n", FROM_OK }, { "From:", "(", "", FROM_SYNTAX }, { "From:", "()", U "\n\n", FROM_OK },
		{ "From:", "(\n ()", "", FROM_SYNTAX }, { "From:", "\"\" ", "<" U ">\n", FROM_OK }, { "From:", "\"\\", "", FROM_SYNTAX },
		{ "From:", "a@x.test,", "", FROM_SEVERAL }, { "From:", "<", "", FROM_SYNTAX }, { "From:", "<>", "", FROM_SYNTAX },
		{ "From:", "@", "", FROM_SYNTAX }, { "From:x@", "a.", "\n", FROM_SYNTAX }, { "From:", "a.", "a@x.test\n", FROM_SYNTAX },
		{ "From:<", " \t", U ">\n", FROM_OK }, { "From:<", "x", "\n", FROM_SYNTAX }, { "", "x", "", FROM_ABSENT },
		{ "From", " ", ":" U "\n", FROM_OK }, { "From", " ", U "\n", FROM_ABSENT }, { "", "a:\n", "", FROM_TOO_MANY },
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct span s = repeat(rows[i].prefix, rows[i].unit, 4 * 1024 * 1024 / strlen(rows[i].unit), rows[i].suffix);
		clock_t start = clock();
		double seconds;

		(void)header_len(s);
		try_from(&(struct from_row){ .in = s, .want = rows[i].want, .address = U });
		seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
		print_message("    %.2f s\n", seconds);
		assert_true(seconds < 20);
		release(s);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields), cmocka_unit_test(every_octet_in_a_name), cmocka_unit_test(from),
		cmocka_unit_test(a_field_cut_short_is_never_another_address), cmocka_unit_test(every_octet_in_an_address),
		cmocka_unit_test(every_answer_has_a_text), cmocka_unit_test(whose_results), cmocka_unit_test(a_thousand_fields_and_one_more),
		cmocka_unit_test(large_and_linear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
