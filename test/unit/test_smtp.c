/*
 * test_smtp.c - the grammar: paths, domains, literals, parameters, status lines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rows.h"
#include "smtp.h"

#define A10 "aaaaaaaaaa"
#define A50 A10 A10 A10 A10 A10
#define A63 A50 A10 "aaa"
#define A64 A63 "a"
#define D191 A63 "." A63 "." A63
#define D255 D191 "." A63

#define OK SMTP_PATH_OK
#define BAD SMTP_PATH_SYNTAX
#define LONG SMTP_PATH_TOO_LONG

static const char *const path_names[] = { "ok", "null", "syntax", "too long", "not ascii", "bad utf8" };

struct path_row {
	struct span	 in;
	enum smtp_path	 want;
	const char	*local, *domain, *rest;
	bool		 utf8, postmaster;
};

#define P(in_, ...) { .in = { "" in_, sizeof(in_) - 1 }, __VA_ARGS__ }
#define GOOD(in_, l, d) P(in_, .want = OK, .local = l, .domain = d)
#define GOOD8(in_, l, d) P(in_, .want = OK, .local = l, .domain = d, .utf8 = true)
#define WRONG(in_) P(in_, .want = BAD)
#define WRONG8(in_) P(in_, .want = BAD, .utf8 = true)

static const struct path_row path_rows[] = {
	GOOD("<bob@local.test>", "bob", "local.test"),
	GOOD(" <bob@local.test>", "bob", "local.test"),	/* case 4.6 */
	WRONG("  <bob@local.test>"), WRONG("\t<bob@local.test>"), WRONG("bob@local.test"), WRONG("<bob@local.test"),
	WRONG(""), WRONG(" "), WRONG("<"), WRONG(">"), WRONG("< >"), WRONG("<bob@local.test >"), WRONG("< bob@local.test>"),
	P("<bob@local.test>x", .want = OK, .local = "bob", .domain = "local.test", .rest = "x"),
	P("<bob@local.test> SIZE=1", .want = OK, .local = "bob", .domain = "local.test", .rest = " SIZE=1"),
	P("<> SIZE=1", .want = SMTP_PATH_NULL, .rest = " SIZE=1"),
	P("<>", .want = SMTP_PATH_NULL),
	P(" <>", .want = SMTP_PATH_NULL),
	P("<>", .want = SMTP_PATH_NULL, .postmaster = true),
	/* case 5.2 */
	WRONG("<postmaster>"),
	P("<postmaster>", .want = OK, .local = "postmaster", .domain = "", .postmaster = true),
	P("<PostMaster>", .want = OK, .local = "postmaster", .domain = "", .postmaster = true),
	P("<postmaster> X", .want = OK, .local = "postmaster", .domain = "", .postmaster = true, .rest = " X"),
	P("<Postmaster@local.test>", .want = OK, .local = "Postmaster", .domain = "local.test", .postmaster = true),
	P("<postmaste>", .want = BAD, .postmaster = true), P("<postmasters>", .want = BAD, .postmaster = true),
	P("<@a.test:postmaster>", .want = BAD, .postmaster = true), P("<\"postmaster\">", .want = BAD, .postmaster = true),
	P("<postmaster", .want = BAD, .postmaster = true),
	/* cases 5.3, 5.4 */
	GOOD("<@a.test,@b.test:bob@local.test>", "bob", "local.test"),
	GOOD("<@local.test:bob@evil.test>", "bob", "evil.test"),
	WRONG("<@a.test>"), WRONG("<@a.test:>"), WRONG("<@:bob@local.test>"), WRONG("<@a.test,:bob@local.test>"),
	WRONG("<@a.test,b.test:bob@local.test>"), WRONG("<@a.test,,@b.test:bob@local.test>"), WRONG("<,@a.test:bob@local.test>"),
	WRONG("<@-a.test:bob@local.test>"), WRONG("<@a.test: bob@local.test>"), WRONG("<@a.test:@b.test:bob@local.test>"),
	WRONG("<@a.test> X:bob@local.test>"),
	/* cases 5.5, 5.6 */
	GOOD("<bob%evil.test@local.test>", "bob%evil.test", "local.test"),
	GOOD("<evil.test!bob@local.test>", "evil.test!bob", "local.test"),
	GOOD("<\"bob@evil.test\"@local.test>", "bob@evil.test", "local.test"),
	GOOD("<bob@[127.0.0.1]>", "bob", "[127.0.0.1]"), GOOD("<bob@[IPv6:::1]>", "bob", "[IPv6:::1]"),
	GOOD("<bob@127.0.0.1>", "bob", "127.0.0.1"),
	WRONG("<bob@[127.0.0.1>"), WRONG("<bob@[127.0.0.1].test>"), WRONG("<bob@[]>"), WRONG("<bob@[>"),
	/* cases 5.7, 5.8 */
	GOOD("<\"bob\"@local.test>", "bob", "local.test"), GOOD("<\"b\\ob\"@local.test>", "bob", "local.test"),
	GOOD("<\"b ob\"@local.test>", "b ob", "local.test"), GOOD("<\"b\\\"o\\\\b\"@local.test>", "b\"o\\b", "local.test"),
	GOOD("<\"a>b\"@local.test>", "a>b", "local.test"), GOOD("<\"\\ \"@local.test>", " ", "local.test"),
	WRONG("<\"\">"), WRONG("<\"\"@local.test>"), WRONG("<\"bob@local.test>"), WRONG("<\"bob\\\"@local.test>"), WRONG("<\""),
	WRONG("<\"\\"), WRONG("<\"bob\"local.test>"), WRONG("<\"bob\".x@local.test>"), WRONG("<x.\"bob\"@local.test>"),
	WRONG("<\"a\"\"b\"@local.test>"), WRONG("<b\\ob@local.test>"),
	/* case 5.9 */
	GOOD("<\"..\\..\\x\"@local.test>", "....x", "local.test"), WRONG("<a/../x@local.test>"),
	WRONG("<../../x@local.test>"), WRONG("<.bob@local.test>"), WRONG("<bob.@local.test>"), WRONG("<b..b@local.test>"),
	WRONG("<.@local.test>"), GOOD("<b.o.b@local.test>", "b.o.b", "local.test"),
	/* case 5.10 */
	GOOD("<" A64 "@local.test>", A64, "local.test"), P("<a" A64 "@local.test>", .want = LONG),
	GOOD("<\"" A64 "\"@local.test>", A64, "local.test"), P("<\"a" A64 "\"@local.test>", .want = LONG),
	GOOD("<" A64 "@" D255 ">", A64, D255), GOOD("<" A64 "@" D255 ".>", A64, D255), P("<a@" D255 ".a>", .want = LONG),
	P("<a" A64 "@" D255 ">", .want = LONG), P("<" A64 A64 A64 A64 A64 A64 "@x.test>", .want = LONG),
	WRONG("<a" A64 "@>"), WRONG("<a" A64 ".@x.test>"),
	WRONG("<bob@a" A63 ".test>"), GOOD("<bob@" A63 ">", "bob", A63),
	/* cases 5.11, 5.12 */
	GOOD("<bob@local.test.>", "bob", "local.test"), GOOD("<BOB@LOCAL.TEST>", "BOB", "local.test"),
	GOOD("<bob@a_b.test>", "bob", "a_b.test"), GOOD("<bob@_x>", "bob", "_x"),
	WRONG("<bob@-a.test>"), WRONG("<bob@a-.test>"), WRONG("<bob@a..test>"), WRONG("<bob@>"), WRONG("<bob@.>"), WRONG("<@>"),
	WRONG("<@local.test>"), WRONG("<bob>"), WRONG("<bob@@local.test>"), WRONG("<bob@.local.test>"), WRONG("<bob@local.test..>"),
	WRONG("<bob@local test>"), WRONG("<bob@local.test<>"), WRONG("<<bob@local.test>>"),
	/* case 5.13 */
	WRONG("<\"a\r\nRCPT TO:<x>\"@local.test>"), WRONG("<\"a\0b\"@local.test>"), WRONG("<\"a\\\0b\"@local.test>"),
	WRONG("<\"a\tb\"@local.test>"), WRONG("<\"a\\\tb\"@local.test>"), WRONG("<\"a\x7f\"@local.test>"), WRONG("<a\0b@local.test>"),
	WRONG("<a@local\0.test>"), WRONG("<a@local.test\0>"), WRONG("<a\x1b@local.test>"),
	/* case 5.15 */
	P("<b\xf6" "b@local.test>", .want = SMTP_PATH_NOT_ASCII), P("<\"\xc3\xbc\"@local.test>", .want = SMTP_PATH_NOT_ASCII),
	P("<bob@b\xc3\xbc" "cher.test>", .want = SMTP_PATH_NOT_ASCII), P("<@\xc3\xbc:bob@local.test>", .want = SMTP_PATH_NOT_ASCII),
	P("<b\xf6" "b@local.test>", .want = SMTP_PATH_BAD_UTF8, .utf8 = true),
	P("<\xc0\xaf@local.test>", .want = SMTP_PATH_BAD_UTF8, .utf8 = true),
	P("<\xed\xa0\x80@local.test>", .want = SMTP_PATH_BAD_UTF8, .utf8 = true),
	P("<\xf4\x90\x80\x80@local.test>", .want = SMTP_PATH_BAD_UTF8, .utf8 = true),
	P("<\"\xc3\"@local.test>", .want = SMTP_PATH_BAD_UTF8, .utf8 = true),
	P("<bob@\xc3.test>", .want = SMTP_PATH_BAD_UTF8, .utf8 = true), P("<\xc3", .want = SMTP_PATH_BAD_UTF8, .utf8 = true),
	GOOD8("<\xc3\xbc@local.test>", "\xc3\xbc", "local.test"), GOOD8("<\"\xc3\xbc b\"@local.test>", "\xc3\xbc b", "local.test"),
	GOOD8("<bob@b\xc3\xbc" "cher.test>", "bob", "xn--bcher-kva.test"), WRONG8("<\"\\\xc3\xbc\"@local.test>"),
	GOOD8("<@b\xc3\xbc" "cher.test:bob@local.test>", "bob", "local.test"),
	P("<" A63 "\xc3\xbc@local.test>", .want = LONG, .utf8 = true),
	GOOD8("<" A50 A10 "aa\xc3\xbc@local.test>", A50 A10 "aa\xc3\xbc", "local.test"),
	/* case 5.16: never equal to admin */
	GOOD8("<\xd0\xb0" "dmin@local.test>", "\xd0\xb0" "dmin", "local.test"),
	GOOD8("<a\xe2\x80\x8b" "dmin@local.test>", "a\xe2\x80\x8b" "dmin", "local.test"),
	GOOD8("<\xe2\x80\xae" "dmin@local.test>", "\xe2\x80\xae" "dmin", "local.test"),
	GOOD8("<a\xef\xbc\xa0" "b@local.test>", "a\xef\xbc\xa0" "b", "local.test"),
	/* cases 5.21, 5.22, 5.23, 5.24 */
	WRONG("<;sleep 66;>"), WRONG("<;for i in 0 1 2 3 4 5 6 7 8 9 a b c d;do read r;done;sh;exit 0;>"),
	WRONG("<${run{touch pwned}}@localhost>"), WRONG("<${run{\\x2Fbin\\x2Fsh\\x20-c}}@localhost>"),
	GOOD("<${run}@localhost>", "${run}", "localhost"), GOOD("<-oQpwned@local.test>", "-oQpwned", "local.test"),
	GOOD("<\"() { :;}; touch pwned\"@x.test>", "() { :;}; touch pwned", "x.test"),
};

static void
check_round_trip(const struct mailbox *m)
{
	char printed[SMTP_ADDRESS_MAX + 1];
	struct mailbox again;
	struct span copy;

	smtp_mailbox_print(m, printed);
	assert_true(strlen(printed) <= SMTP_ADDRESS_MAX);
	if (m->domain[0] == '\0') {
		assert_string_equal(printed, m->local);
		return;
	}
	copy = exact(text_span(printed));
	assert_int_equal(smtp_mailbox(copy, true, &again), OK);
	assert_memory_equal(&again, m, sizeof(again));
	release(copy);
}

static void
try_path(const struct path_row *row)
{
	struct span in = exact(row->in), rest = in;
	struct mailbox m, zero = { 0 };
	enum smtp_path got;

	print_row(row->in);
	memset(&m, 'x', sizeof(m));
	got = smtp_path(&rest, row->utf8, row->postmaster, &m);
	if (got != row->want)
		fail_msg("%s, not %s", path_names[got], path_names[row->want]);
	if (got == OK || got == SMTP_PATH_NULL)
		assert_true(text_is(rest, row->rest == NULL ? "" : row->rest));
	else
		assert_true(rest.p == in.p && rest.len == in.len);
	if (got == OK) {
		assert_string_equal(m.local, row->local);
		assert_string_equal(m.domain, row->domain);
		check_round_trip(&m);
	} else {
		assert_memory_equal(&m, &zero, sizeof(m));
	}
	release(in);
}

static void
test_path(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(path_rows); i++)
		try_path(&path_rows[i]);
}

static void
test_a_path_cut_short_is_a_syntax_error(void **unused)
{
	static const struct span in = SPAN(" <@a.test,@b.test:\"b \\\"ob\"@[IPv6:2001:db8::1]>");

	(void)unused;
	for (size_t cut = 0; cut < in.len; cut++)
		try_path(&(struct path_row){ .in = text_sub(in, 0, cut), .want = BAD });
	try_path(&(struct path_row){ .in = in, .want = OK, .local = "b \"ob", .domain = "[IPv6:2001:db8::1]" });
}

/* Every octet in every place of a path: it is part of the result as it is, or the path is refused. */
static void
test_every_octet_in_a_local_part(void **unused)
{
	(void)unused;
	for (unsigned c = 0; c < 256; c++) {
		char bare[] = "<a?b@x.test>", quoted[] = "<\"a?b\"@x.test>", escaped[] = "<\"a\\?b\"@x.test>";
		bool control = c < 32 || c == 127;
		struct span s;
		struct mailbox m;

		print_message("  %02x\n", c);
		bare[2] = quoted[3] = escaped[4] = (char)c;
		s = (struct span){ bare, sizeof(bare) - 1 };
		assert_int_equal(smtp_path(&s, false, false, &m) == OK, c < 128 && (is_atext((char)c) || c == '.'));
		s = (struct span){ quoted, sizeof(quoted) - 1 };
		assert_int_equal(smtp_path(&s, false, false, &m) == OK, c < 128 && !control && c != '"');	/* "a\b" is ab */
		s = (struct span){ escaped, sizeof(escaped) - 1 };
		assert_int_equal(smtp_path(&s, false, false, &m) == OK, c < 128 && !control);
		if (c < 128 && !control) {
			assert_int_equal((unsigned char)m.local[1], c);
			check_round_trip(&m);
		}
	}
}

static const struct {
	struct span	 in;
	const char	*want;		/* as printed; NULL: refused */
} mailbox_rows[] = {
	{ SPAN("bob@local.test"), "bob@local.test" },
	{ SPAN("\"bob\"@Local.TEST."), "bob@local.test" },
	{ SPAN("\"b ob\"@local.test"), "\"b ob\"@local.test" },
	{ SPAN("\"b\\\"ob\\\\\"@local.test"), "\"b\\\"ob\\\\\"@local.test" },
	{ SPAN("\".bob\"@local.test"), "\".bob\"@local.test" },
	{ SPAN("\"a..b\"@local.test"), "\"a..b\"@local.test" },
	{ SPAN("\"a@b\"@local.test"), "\"a@b\"@local.test" },
	{ SPAN("a@[IPV6:2001:DB8:0:0:0:0:0:1]"), "a@[IPv6:2001:db8::1]" },
	{ SPAN("<bob@local.test>"), NULL },
	{ SPAN("bob@local.test>"), NULL },
	{ SPAN(" bob@local.test"), NULL },
	{ SPAN("bob@local.test "), NULL },
	{ SPAN("@a.test:bob@local.test"), NULL },
	{ SPAN("bob"), NULL },
	{ SPAN("postmaster"), NULL },
	{ SPAN(""), NULL },
};

static void
test_mailbox(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(mailbox_rows); i++) {
		char printed[SMTP_ADDRESS_MAX + 1];
		struct span in = exact(mailbox_rows[i].in);
		struct mailbox m, zero = { 0 };

		print_row(in);
		assert_int_equal(smtp_mailbox(in, false, &m) == OK, mailbox_rows[i].want != NULL);
		release(in);
		smtp_mailbox_print(&m, printed);
		assert_string_equal(printed, mailbox_rows[i].want == NULL ? "" : mailbox_rows[i].want);
		if (mailbox_rows[i].want == NULL)
			assert_memory_equal(&m, &zero, sizeof(m));
	}
}

static void
test_the_longest_mailbox_prints_and_reads_back(void **unused)
{
	char printed[SMTP_ADDRESS_MAX + 1];
	struct mailbox m = { .domain = D255 };

	(void)unused;
	memset(m.local, '"', SMTP_LOCAL_MAX);
	smtp_mailbox_print(&m, printed);
	assert_int_equal(strlen(printed), SMTP_ADDRESS_MAX);
	check_round_trip(&m);
}

static void
test_a_key_folds_ascii_letters_alone(void **unused)
{
	static const struct mailbox m = { "B@ob \xc3\x9c[", "local.test" }, none = { 0 };
	struct mailbox longest = { .domain = D255 };
	char key[SMTP_PATH_MAX + 1];

	(void)unused;
	smtp_mailbox_key(&m, key);
	assert_string_equal(key, "b@ob \xc3\x9c[@local.test");
	smtp_mailbox_key(&none, key);
	assert_string_equal(key, "@");
	memset(longest.local, 'Z', SMTP_LOCAL_MAX);
	smtp_mailbox_key(&longest, key);
	assert_int_equal(strlen(key), SMTP_PATH_MAX);
}

static void
test_patterns(void **unused)
{
	static const struct {
		struct span	 in;
		const char	*key;
	} rows[] = {
		{ SPAN("Bob@Local.TEST."), "bob@local.test" }, { SPAN("\"bob\"@local.test"), "bob@local.test" },
		{ SPAN("@Local.TEST."), "@local.test" }, { SPAN("@b\xc3\xbc" "cher.test"), "@xn--bcher-kva.test" },
		{ SPAN("\xc3\xbc@local.test"), "\xc3\xbc@local.test" }, { SPAN("a@[192.0.2.1]"), "a@[192.0.2.1]" },
		{ SPAN(""), NULL }, { SPAN("@"), NULL }, { SPAN("bob"), NULL }, { SPAN("bob@"), NULL }, { SPAN("@@a"), NULL },
		{ SPAN("@a@b"), NULL }, { SPAN("@[192.0.2.1]"), NULL }, { SPAN("@a b"), NULL },
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char key[SMTP_PATH_MAX + 1];
		struct span in = exact(rows[i].in);

		print_row(in);
		assert_int_equal(smtp_pattern_key(in, key), rows[i].key != NULL);
		if (rows[i].key != NULL)
			assert_string_equal(key, rows[i].key);
		release(in);
	}
}

static const struct {
	struct span	 in;
	bool		 utf8;
	const char	*want;		/* NULL: refused */
} domain_rows[] = {
	{ SPAN("a"), false, "a" },
	{ SPAN("LoCal.Test"), false, "local.test" },
	{ SPAN("local.test."), false, "local.test" },
	{ SPAN("1.2"), false, "1.2" },
	{ SPAN("a-b.c--d"), false, "a-b.c--d" },
	{ SPAN(A63 "." A63), false, A63 "." A63 },
	{ SPAN(A64), false, NULL },
	{ SPAN(D255), false, D255 },
	{ SPAN(D255 "."), false, D255 },
	{ SPAN("a." D255), false, NULL },
	{ SPAN(""), false, NULL },
	{ SPAN("."), false, NULL },
	{ SPAN(".."), false, NULL },
	{ SPAN(".a"), false, NULL },
	{ SPAN("a.."), false, NULL },
	{ SPAN("a..b"), false, NULL },
	{ SPAN("-a"), false, NULL },
	{ SPAN("a-"), false, NULL },
	{ SPAN("a-."), false, NULL },
	{ SPAN("a b"), false, NULL },
	{ SPAN("a\0b"), false, NULL },
	{ SPAN("a\0"), false, NULL },
	{ SPAN("[127.0.0.1]"), false, NULL },
	/* case 5.17 */
	{ SPAN("b\xc3\xbc" "cher.test"), true, "xn--bcher-kva.test" },
	{ SPAN("B\xc3\x9c" "CHER.TEST"), true, "xn--bcher-kva.test" },
	{ SPAN("XN--BCHER-KVA.TEST"), true, "xn--bcher-kva.test" },
	{ SPAN("b\xc3\xbc" "cher.test"), false, NULL },
	{ SPAN("\xc3\xbc"), true, "xn--tda" },
	{ SPAN("\xd0\x9f\xd0\xa0\xd0\x98\xd0\x9c\xd0\x95\xd0\xa0"), true, "xn--e1afmkfd" },	/* Russian, in capitals */
	{ SPAN("\xd0\x81"), true, "xn--61a" },	/* capital and small io */
	{ SPAN("\xd1\x91"), true, "xn--61a" },
	{ SPAN("\xce\xa0\xce\xb1"), true, "xn--mxa3a" },	/* Greek, mixed case */
	{ SPAN("\xcf\x80\xce\xb1"), true, "xn--mxa3a" },
	/* RFC 3492 7.1 (A), (B) in lower case, and a dot between two U-labels */
	{ SPAN("\xd9\x84\xd9\x8a\xd9\x87\xd9\x85\xd8\xa7\xd8\xa8\xd8\xaa\xd9\x83\xd9\x84\xd9\x85\xd9\x88\xd8\xb4"
	    "\xd8\xb9\xd8\xb1\xd8\xa8\xd9\x8a\xd8\x9f"), true,
	    "xn--egbpdaj6bu4bxfgehfvwxn" },
	{ SPAN("\xe4\xbb\x96\xe4\xbb\xac\xe4\xb8\xba\xe4\xbb\x80\xe4\xb9\x88\xe4\xb8\x8d\xe8\xaf\xb4\xe4\xb8\xad"
	    "\xe6\x96\x87.\xc3\xbc."), true,
	    "xn--ihqwcrb4cv8a8dqg056pqjye.xn--tda" },
	{ SPAN("3\xe5\xb9\xb4" "B\xe7\xb5\x84\xe9\x87\x91\xe5\x85\xab\xe5\x85\x88\xe7\x94\x9f"), true,
	    "xn--3b-ww4c5e180e575a65lsy2b" },
	{ SPAN("a\xcc\x80\xf0\x90\x8d\x88"), true, "xn--a-vbb8397q" },	/* over the basic plane */
	{ SPAN("-\xc3\xbc"), true, NULL },
	{ SPAN("\xc3\xbc-"), true, NULL },
	{ SPAN("xn--\xc3\xbc"), true, NULL },
	{ SPAN("\xc3\xbc b"), true, NULL },
	{ SPAN("\xc3"), true, NULL },
	{ SPAN("a.\xc3."), true, NULL },
	{ SPAN("\xc2\x80"), true, NULL },
	{ SPAN("\xc2\x9f"), true, NULL },
	{ SPAN("a\xe2\x80\x8b" "b"), true, NULL },	/* zero width space */
	{ SPAN("a\xe2\x80\x8f" "b"), true, NULL },
	{ SPAN("a\xe2\x80\xae" "b"), true, NULL },	/* right to left override */
	{ SPAN("a\xe2\x81\xa0" "b"), true, NULL },
	{ SPAN("a\xef\xbb\xbf"), true, NULL },
	{ SPAN("\xef\xbd\x81"), true, NULL },	/* full-width a: neither folded nor kept */
	{ SPAN("a\xe3\x80\x82test"), true, NULL },	/* ideographic full stop */
	/* an A-label of 63 octets, and one of 64 */
	{ SPAN("\xc3\xbc" A50 "aaaaa"), true, "xn--" A50 "aaaaa-oxf" },
	{ SPAN("\xc3\xbc" A50 "aaaaaa"), true, NULL },
	{ SPAN("\xc3\xbc" A50 A10 "a"), true, NULL },
	{ SPAN("\xc3\xbc" A64 A64), true, NULL },
};

static void
test_domain(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(domain_rows); i++) {
		char dst[SMTP_DOMAIN_MAX + 1] = "x", again[SMTP_DOMAIN_MAX + 1];
		struct span in = exact(domain_rows[i].in);

		print_row(in);
		assert_int_equal(smtp_domain(in, domain_rows[i].utf8, dst), domain_rows[i].want != NULL);
		assert_string_equal(dst, domain_rows[i].want == NULL ? "" : domain_rows[i].want);
		release(in);
		if (domain_rows[i].want == NULL)
			continue;
		assert_true(smtp_domain(text_span(dst), false, again));
		assert_string_equal(again, dst);
	}
}

static const struct {
	struct span	 in;
	const char	*want;
} literal_rows[] = {
	{ SPAN("[192.0.2.1]"), "[192.0.2.1]" },
	{ SPAN("[0.0.0.0]"), "[0.0.0.0]" },
	{ SPAN("[255.255.255.255]"), "[255.255.255.255]" },
	{ SPAN("[IPv6:::1]"), "[IPv6:::1]" },
	{ SPAN("[ipv6:::]"), "[IPv6:::]" },
	{ SPAN("[IPv6:2001:DB8::1]"), "[IPv6:2001:db8::1]" },
	{ SPAN("[IPv6:2001:db8:1:2:3:4:5:6]"), "[IPv6:2001:db8:1:2:3:4:5:6]" },
	{ SPAN("[IPv6:::ffff:192.0.2.1]"), "[IPv6:::ffff:192.0.2.1]" },
	{ SPAN("[256.0.0.1]"), NULL },
	{ SPAN("[192.0.2.01]"), NULL },
	{ SPAN("[192.0.2]"), NULL },
	{ SPAN("[192.0.2.1.]"), NULL },
	{ SPAN("[192.0.2.1.1]"), NULL },
	{ SPAN("[ 192.0.2.1]"), NULL },
	{ SPAN("[192.0.2.1"), NULL },
	{ SPAN("192.0.2.1]"), NULL },
	{ SPAN("192.0.2.1"), NULL },
	{ SPAN("[192.0.2.1\0]"), NULL },
	{ SPAN("[0x7f.0.0.1]"), NULL },
	{ SPAN("[1]"), NULL },
	{ SPAN("[IPv6:::g]"), NULL },
	{ SPAN("[IPv6:]"), NULL },
	{ SPAN("[IPv6:1]"), NULL },
	{ SPAN("[IPv6:fe80::1%eth0]"), NULL },
	{ SPAN("[IPv6:1::2::3]"), NULL },
	{ SPAN("[IPv6:192.0.2.1]"), NULL },
	{ SPAN("[::1]"), NULL },
	{ SPAN("[x-tag:y]"), NULL },
	{ SPAN("[]"), NULL },
	{ SPAN("["), NULL },
	{ SPAN("]"), NULL },
	{ SPAN(""), NULL },
	{ SPAN("[" A64 A64 "]"), NULL },
};

static void
test_literal(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(literal_rows); i++) {
		char dst[SMTP_DOMAIN_MAX + 1] = "x";
		struct span in = exact(literal_rows[i].in);

		print_row(in);
		assert_int_equal(smtp_literal(in, dst), literal_rows[i].want != NULL);
		assert_string_equal(dst, literal_rows[i].want == NULL ? "" : literal_rows[i].want);
		release(in);
	}
}

static const struct {
	struct span	in;
	bool		want;
} helo_rows[] = {	/* cases 4.3, 4.4 */
	{ SPAN("t.test"), true },
	{ SPAN("t"), true },
	{ SPAN("a_b.test"), true },
	{ SPAN("12345"), true },
	{ SPAN("192.0.2.1"), true },
	{ SPAN("localhost.localdomain."), true },
	{ SPAN("[192.0.2.1]"), true },
	{ SPAN("[IPv6:2001:db8::1]"), true },
	{ SPAN(A50 A50 A50 A50 A50 "aaaaa"), true },
	{ SPAN(A50 A50 A50 A50 A50 "aaaaaa"), false },
	{ SPAN(D255), true },
	{ SPAN("a" D255), false },
	{ SPAN("() { :;}; id"), false },
	{ SPAN("a b"), false },
	{ SPAN("`id`"), false },
	{ SPAN("$(id)"), false },
	{ SPAN("a<b>"), false },
	{ SPAN("a\tb"), false },
	{ SPAN("a\0b"), false },
	{ SPAN("\xc3\xbc.test"), false },
	{ SPAN("[1.2.3]"), false },
	{ SPAN("[IPv6:::g]"), false },
	{ SPAN("["), false },
	{ SPAN("."), false },
	{ SPAN("-"), false },
	{ SPAN(""), false },
};

static void
test_helo(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(helo_rows); i++) {
		struct span in = exact(helo_rows[i].in);

		print_row(in);
		assert_int_equal(smtp_helo(in), helo_rows[i].want);
		release(in);
	}
}

#define GOOD_P SMTP_PARAM_OK
#define BAD_P SMTP_PARAM_SYNTAX
#define NEW_P SMTP_PARAM_UNKNOWN
#define NONE_P { 0, SMTP_BODY_7BIT, false, false }
#define AUTH_P { 0, SMTP_BODY_7BIT, false, true }

static const struct {
	struct span		in;
	enum smtp_param		mail, rcpt;
	struct mail_params	want;	/* of MAIL, when it is good */
} param_rows[] = {	/* cases 3.14, 3.15, 2.16, 5.14 */
	{ SPAN(""), GOOD_P, GOOD_P, NONE_P },
	{ SPAN(" "), GOOD_P, GOOD_P, NONE_P },
	{ SPAN(" \t "), GOOD_P, GOOD_P, NONE_P },
	{ SPAN(" SIZE=0"), GOOD_P, NEW_P, NONE_P },
	{ SPAN(" size=1000 "), GOOD_P, NEW_P, { 1000, SMTP_BODY_7BIT, false, false } },
	{ SPAN(" SIZE=1  BODY=8bitmime smtputf8  "), GOOD_P, NEW_P, { 1, SMTP_BODY_8BITMIME, true, false } },
	{ SPAN(" BODY=7BIT"), GOOD_P, NEW_P, NONE_P },
	{ SPAN(" SIZE=9223372036854775807"), GOOD_P, NEW_P, { INT64_MAX, SMTP_BODY_7BIT, false, false } },
	{ SPAN(" SIZE=9223372036854775808"), GOOD_P, NEW_P, { INT64_MAX, SMTP_BODY_7BIT, false, false } },
	{ SPAN(" SIZE=99999999999999999999"), GOOD_P, NEW_P, { INT64_MAX, SMTP_BODY_7BIT, false, false } },
	{ SPAN(" SIZE=00000000000000000001"), GOOD_P, NEW_P, { 1, SMTP_BODY_7BIT, false, false } },
	{ SPAN(" SIZE=000000000000000000001"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" SIZE=100000000000000000000000000000"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" SIZE=abc"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" SIZE=-1"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" SIZE=+1"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" SIZE=0x1"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" SIZE="), BAD_P, NEW_P, NONE_P },
	{ SPAN(" SIZE"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" SIZE=1 SIZE=1"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" SIZE=1 size=1"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" BODY=BINARYMIME"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" BODY=x"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" BODY="), BAD_P, NEW_P, NONE_P },
	{ SPAN(" BODY"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" BODY=7BIT BODY=7BIT"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" SMTPUTF8=1"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" SMTPUTF8="), BAD_P, NEW_P, NONE_P },
	{ SPAN(" SMTPUTF8 SMTPUTF8"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" FOO=BAR"), NEW_P, NEW_P, NONE_P },
	{ SPAN(" FOO"), NEW_P, NEW_P, NONE_P },
	{ SPAN(" F-1=x"), NEW_P, NEW_P, NONE_P },
	{ SPAN(" SIZ=1"), NEW_P, NEW_P, NONE_P },
	{ SPAN(" SIZES=1"), NEW_P, NEW_P, NONE_P },
	{ SPAN(" NOTIFY="), NEW_P, NEW_P, NONE_P },
	{ SPAN(" NOTIFY=NEVER"), NEW_P, NEW_P, NONE_P },
	{ SPAN(" AUTH=<>"), GOOD_P, NEW_P, AUTH_P },
	{ SPAN(" auth=bob@x.test"), GOOD_P, NEW_P, AUTH_P },
	{ SPAN(" AUTH=b+20+3D+2B+7Eb@x.test"), GOOD_P, NEW_P, AUTH_P },
	{ SPAN(" AUTH=<> SIZE=1"), GOOD_P, NEW_P, { 1, SMTP_BODY_7BIT, false, true } },
	{ SPAN(" AUTH=<> AUTH=<>"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" AUTH"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" AUTH="), BAD_P, NEW_P, NONE_P },
	{ SPAN(" AUTH=x+0Aevil"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" AUTH=x+1F"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" AUTH=x+7F"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" AUTH=x+80"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" AUTH=x+2"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" AUTH=x+"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" AUTH=x+2b"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" AUTH=x+/0"), BAD_P, NEW_P, NONE_P },
	{ SPAN(" AUTH=a=b"), BAD_P, BAD_P, NONE_P },
	{ SPAN(" AUTH=\xc3\xbc"), BAD_P, BAD_P, NONE_P },
	{ SPAN(" SIZE=1 FOO=BAR"), NEW_P, NEW_P, NONE_P },
	{ SPAN(" ="), BAD_P, BAD_P, NONE_P },
	{ SPAN(" =\""), BAD_P, BAD_P, NONE_P },
	{ SPAN(" \"="), BAD_P, BAD_P, NONE_P },
	{ SPAN(" -A=x"), BAD_P, BAD_P, NONE_P },
	{ SPAN(" F_O=x"), BAD_P, BAD_P, NONE_P },
	{ SPAN(" FOO=a=b"), BAD_P, BAD_P, NONE_P },
	{ SPAN(" FOO=\xc3\xbc"), BAD_P, BAD_P, NONE_P },
	{ SPAN(" FOO=\x01"), BAD_P, BAD_P, NONE_P },
	{ SPAN(" FOO=a\0b"), BAD_P, BAD_P, NONE_P },
	{ SPAN(" FOO\0"), BAD_P, BAD_P, NONE_P },
	{ SPAN(" \0"), BAD_P, BAD_P, NONE_P },
	{ SPAN("SIZE=1"), BAD_P, BAD_P, NONE_P },
	{ SPAN("x"), BAD_P, BAD_P, NONE_P },
};

static void
test_params(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(param_rows); i++) {
		struct span in = exact(param_rows[i].in);
		struct mail_params p;

		print_row(in);
		assert_int_equal(smtp_mail_params(in, &p), param_rows[i].mail);
		assert_int_equal(smtp_rcpt_params(in), param_rows[i].rcpt);
		release(in);
		if (param_rows[i].mail != SMTP_PARAM_OK)
			continue;
		assert_int_equal(p.size, param_rows[i].want.size);
		assert_int_equal(p.body, param_rows[i].want.body);
		assert_int_equal(p.utf8, param_rows[i].want.utf8);
		assert_int_equal(p.auth, param_rows[i].want.auth);
	}
}

static const struct {
	struct span	in;
	bool		good;
	uint64_t	size;
	bool		last;
} bdat_rows[] = {	/* cases 2.4, 2.5 */
	{ SPAN("5"), true, 5, false },
	{ SPAN("5 LAST"), true, 5, true },
	{ SPAN("0 last "), true, 0, true },
	{ SPAN("0005"), true, 5, false },
	{ SPAN("4294967296"), true, UINT64_C(4294967296), false },
	{ SPAN("9223372036854775807"), true, INT64_MAX, false },
	{ SPAN("9223372036854775808"), true, INT64_MAX, false },
	{ SPAN("18446744073709551615"), true, INT64_MAX, false },
	{ SPAN("18446744073709551616 LAST"), true, INT64_MAX, true },
	{ SPAN("9999999999999999999999999999999999999999"), true, INT64_MAX, false },
	{ SPAN(""), false, 0, false },
	{ SPAN(" "), false, 0, false },
	{ SPAN("x"), false, 0, false },
	{ SPAN("LAST"), false, 0, false },
	{ SPAN("-1"), false, 0, false },
	{ SPAN("+5"), false, 0, false },
	{ SPAN("0x10"), false, 0, false },
	{ SPAN("5 FIRST"), false, 0, false },
	{ SPAN("5 LAST x"), false, 0, false },
	{ SPAN("5  LAST"), false, 0, false },
	{ SPAN("5LAST"), false, 0, false },
	{ SPAN("5 LASTING"), false, 0, false },
	{ SPAN("5\tLAST"), false, 0, false },
	{ SPAN("5\0"), false, 0, false },
	{ SPAN("1e3"), false, 0, false },
};

static void
test_bdat(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(bdat_rows); i++) {
		struct span in = exact(bdat_rows[i].in);
		uint64_t size;
		bool last, good;

		print_row(in);
		good = smtp_bdat(in, &size, &last);
		release(in);
		assert_int_equal(good, bdat_rows[i].good);
		if (!good)
			continue;
		assert_int_equal(size, bdat_rows[i].size);
		assert_int_equal(last, bdat_rows[i].last);
	}
}

static const struct {
	struct span	 in;
	const char	*esc, *text;	/* NULL: no status line */
} status_rows[] = {	/* cases 11.23, 12.7 */
	{ SPAN("5.1.1 No such user"), "5.1.1", "No such user" },
	{ SPAN("4.2.2 Full\r"), "4.2.2", "Full" },
	{ SPAN("5.999.999 x"), "5.999.999", "x" },
	{ SPAN("5.0.0   two  spaces \r\n"), "5.0.0", "two  spaces" },
	{ SPAN("5.7.1 a\r\n250 fake"), "5.7.1", "a??250 fake" },
	{ SPAN("5.7.1 \x1b[31m\xc3\xbc\0x"), "5.7.1", "?[31m???x" },
	{ SPAN("5.7.1 0123456789012345678901234"), "5.7.1", "0123456789012345678" },
	{ SPAN("5.7.1"), "5.7.1", "" },
	{ SPAN("2.0.0 Ok"), NULL, NULL },
	{ SPAN("3.0.0 x"), NULL, NULL },
	{ SPAN("5.1 x"), NULL, NULL },
	{ SPAN("5.1.1.1 x"), NULL, NULL },
	{ SPAN("5.1. x"), NULL, NULL },
	{ SPAN("5..1 x"), NULL, NULL },
	{ SPAN(".1.1 x"), NULL, NULL },
	{ SPAN("55.1.1 x"), NULL, NULL },
	{ SPAN("5.1000.1 x"), NULL, NULL },
	{ SPAN("5.1.1000 x"), NULL, NULL },
	{ SPAN("5.01.1 x"), NULL, NULL },
	{ SPAN("5.1.1x"), NULL, NULL },
	{ SPAN("5.1.1\tx"), NULL, NULL },
	{ SPAN(" 5.1.1 x"), NULL, NULL },
	{ SPAN("550 5.1.1 x"), NULL, NULL },
	{ SPAN("5.1.-1 x"), NULL, NULL },
	{ SPAN(""), NULL, NULL },
	{ SPAN("\r\n"), NULL, NULL },
};

static void
test_status_line(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < COUNT(status_rows); i++) {
		struct span in = exact(status_rows[i].in);
		char esc[12] = "x", text[20] = "x";

		print_row(in);
		assert_int_equal(smtp_status_line(in, esc, text, sizeof(text)), status_rows[i].esc != NULL);
		assert_string_equal(esc, status_rows[i].esc == NULL ? "" : status_rows[i].esc);
		assert_string_equal(text, status_rows[i].text == NULL ? "" : status_rows[i].text);
		release(in);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_a_path_cut_short_is_a_syntax_error),
		cmocka_unit_test(test_every_octet_in_a_local_part),
		cmocka_unit_test(test_mailbox),
		cmocka_unit_test(test_the_longest_mailbox_prints_and_reads_back),
		cmocka_unit_test(test_a_key_folds_ascii_letters_alone),
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_domain),
		cmocka_unit_test(test_literal),
		cmocka_unit_test(test_helo),
		cmocka_unit_test(test_params),
		cmocka_unit_test(test_bdat),
		cmocka_unit_test(test_status_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
