/*
 * test_sasl.c - what a response says: PLAIN, OAUTHBEARER, XOAUTH2, and the challenge of a failure (cases 7.6, 8.1 to 8.3).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rows.h"
#include "sasl.h"
#include "smtp.h"

#define A "\x01"

struct row {
	struct span	 in;
	const char	*why;		/* NULL: it is good */
	struct span	 authzid, authcid, secret;
};

#define GOOD(in, authzid, authcid, secret) { SPAN(in), NULL, SPAN(authzid), SPAN(authcid), SPAN(secret) }
#define BAD(in, why) { SPAN(in), why, { 0 }, { 0 }, { 0 } }

static const struct row plain[] = {
	GOOD("\0bob\0secret", "", "bob", "secret"),
	GOOD("\0b\0s", "", "b", "s"),
	GOOD("bob\0bob@local.test\0secret", "bob", "bob@local.test", "secret"),
	GOOD("\0b\xc3\xb6" "b\0gr\xc3\xbc\xc3\x9f", "", "b\xc3\xb6" "b", "gr\xc3\xbc\xc3\x9f"),
	GOOD("\0bob\0\x01\x7f\r\n:\xff", "", "bob", "\x01\x7f\r\n:\xff"),	/* a password is octets */
	BAD("", "not two NULs"),
	BAD("bob", "not two NULs"),
	BAD("\0", "not two NULs"),
	BAD("\0bob", "not two NULs"),
	BAD("bob\0secret", "not two NULs"),
	BAD("\0bob\0secret\0", "not two NULs"),
	BAD("\0bob\0sec\0ret", "not two NULs"),
	BAD("\0\0", "empty user or password"),
	BAD("\0\0secret", "empty user or password"),
	BAD("\0bob\0", "empty user or password"),
	BAD("bob\0\0secret", "empty user or password"),
	BAD("\0bob\n\0secret", "bad user"),
	BAD("\0\rbob\0secret", "bad user"),
	BAD("\0bob\x7f\0secret", "bad user"),
	BAD("\0bob\xff\0secret", "bad user"),
	BAD("\0bob\xc3\0secret", "bad user"),
	BAD("al\nice\0bob\0secret", "bad user"),
	BAD("\xed\xa0\x80\0bob\0secret", "bad user"),	/* a surrogate */
};

static const struct row oauthbearer[] = {
	GOOD("n,," A "auth=Bearer tok" A A, "", "", "tok"),
	GOOD("y,," A "auth=Bearer tok" A A, "", "", "tok"),
	GOOD("n,a=user@local.test," A "host=mx" A "port=587" A "auth=Bearer abc.def-_~+/==" A A, "user@local.test", "",
	    "abc.def-_~+/=="),
	GOOD("n,a=u," A "AUTH=bEARER  t" A "host=mx" A A, "u", "", "t"),
	GOOD("n,a=a=2Cb=3Dc=2C," A "auth=Bearer t" A A, "a,b=c,", "", "t"),
	GOOD("n,a=\xc3\xb6," A "auth=Bearer t" A A, "\xc3\xb6", "", "t"),
	GOOD("n,," A "x=" A "auth=Bearer t" A "y=a b\tc\r\n=d" A A, "", "", "t"),
	GOOD("n,," A "user=eve" A "auth=Bearer t" A A, "", "", "t"),	/* XOAUTH2's key says nothing here */
	/* the header */
	BAD("", "bad GS2 header"),
	BAD("n", "bad GS2 header"),
	BAD("n,", "bad GS2 header"),
	BAD("n,,", "bad GS2 header"),
	BAD("n,,auth=Bearer t" A A, "bad GS2 header"),
	BAD("p=tls-unique,," A "auth=Bearer t" A A, "channel binding"),
	BAD("p,," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("F,n,," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("N,," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("nn,," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,a=," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,b=u," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,u," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,a=u,x" A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,a=u" A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,a==2c," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,a==3C," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,a==2D," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,a==20," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,a=u=," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,a=u=2," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,a=u\0," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,a=u\n," A "auth=Bearer t" A A, "bad GS2 header"),
	BAD("n,a=\xff," A "auth=Bearer t" A A, "bad GS2 header"),
	/* the pairs */
	BAD("n,," A, "bad framing"),
	BAD("n,," A A, "no token"),
	BAD("n,," A A A, "bad framing"),
	BAD("n,," A "auth=Bearer t", "bad framing"),
	BAD("n,," A "auth=Bearer t" A, "bad framing"),
	BAD("n,," A "auth=Bearer t" A A A, "bad framing"),
	BAD("n,," A "auth=Bearer t" A A "x", "bad framing"),
	BAD("n,," A "auth=Bearer t" A A "host=mx" A A, "bad framing"),
	BAD("n,," A "host" A "auth=Bearer t" A A, "bad framing"),
	BAD("n,," A "=x" A "auth=Bearer t" A A, "bad framing"),
	BAD("n,," A "ho-st=x" A "auth=Bearer t" A A, "bad framing"),
	BAD("n,," A "host=\0" A "auth=Bearer t" A A, "bad framing"),
	BAD("n,," A "host=\x02" A "auth=Bearer t" A A, "bad framing"),
	BAD("n,," A "host=\x7f" A "auth=Bearer t" A A, "bad framing"),
	BAD("n,," A "host=mx" A A, "no token"),
	BAD("n,," A "auth=Bearer t" A "auth=Bearer t" A A, "two tokens"),
	BAD("n,," A "auth=Bearer t" A "Auth=Bearer u" A A, "two tokens"),
	BAD("n,," A "auth=" A A, "empty token"),
	BAD("n,," A "auth=Bearer" A A, "empty token"),
	BAD("n,," A "auth=Bearer  " A A, "empty token"),
	BAD("n,," A "auth=Basic dDp0" A A, "not a bearer token"),
	BAD("n,," A "auth= Bearer t" A A, "not a bearer token"),
	BAD("n,," A "auth=Bearert" A A, "not a bearer token"),
	BAD("n,," A "auth=Bearer\tt" A A, "not a bearer token"),
	BAD("n,," A "auth=Bearer t u" A A, "bad token"),
	BAD("n,," A "auth=Bearer t " A A, "bad token"),
	BAD("n,," A "auth=Bearer =" A A, "bad token"),
	BAD("n,," A "auth=Bearer a=b" A A, "bad token"),
	BAD("n,," A "auth=Bearer a,b" A A, "bad token"),
	BAD("n,," A "auth=Bearer \xc3\xb6" A A, "bad token"),
};

static const struct row xoauth2[] = {
	GOOD("user=bob@local.test" A "auth=Bearer tok" A A, "bob@local.test", "", "tok"),
	GOOD("auth=Bearer tok" A "user=bob" A A, "bob", "", "tok"),
	GOOD("user=" A "auth=bearer tok" A A, "", "", "tok"),
	GOOD("user=a=2Cb" A "auth=bearer tok" A A, "a=2Cb", "", "tok"),	/* no such thing here */
	GOOD("user=b\xc3\xb6" "b" A "auth=Bearer t" A "x=y" A A, "b\xc3\xb6" "b", "", "t"),
	BAD("", "bad framing"),
	BAD(A, "no token"),
	BAD("auth=Bearer t" A A, "no user"),
	BAD("user=bob" A A, "no token"),
	BAD("user=bob" A "user=bob" A "auth=Bearer t" A A, "bad user"),
	BAD("user=b\xff" A "auth=Bearer t" A A, "bad user"),
	BAD("user=b\nb" A "auth=Bearer t" A A, "bad user"),
	BAD("user=b\0b" A "auth=Bearer t" A A, "bad framing"),
	BAD("user=bob" A "auth=Bearer t" A, "bad framing"),
	BAD("user=bob" A "auth=Bearer " A A, "empty token"),
	BAD("n,," A "auth=Bearer t" A A, "bad framing"),
};

/* Parsed in memory that ends where it ends, so that a sanitizer sees a read past the end. */
static void
try(enum sasl_mechanism m, const struct row *row, size_t cut)
{
	size_t len = row->in.len - cut;
	char *p = malloc(len + (len == 0));
	const char *why = NULL;
	struct credentials c;

	assert_non_null(p);
	memcpy(p, row->in.p, len);
	if (cut > 0) {	/* cut short it may be good (PLAIN), but never without a reason if it is not */
		if (sasl_parse(m, p, len, &c, &why) == -1)
			assert_non_null(why);
		else
			assert_int_equal(m, SASL_PLAIN);
	} else if (row->why != NULL) {
		assert_int_equal(sasl_parse(m, p, len, &c, &why), -1);
		assert_string_equal(why, row->why);
		assert_true(c.authzid.len == 0 && c.authcid.len == 0 && c.secret.len == 0);
	} else {
		assert_int_equal(sasl_parse(m, p, len, &c, &why), 0);
		assert_int_equal(c.mechanism, m);
		assert_true(text_eq(c.authzid, row->authzid));
		assert_true(text_eq(c.authcid, row->authcid));
		assert_true(text_eq(c.secret, row->secret));
	}
	free(p);
}

static void
try_all(enum sasl_mechanism m, const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		print_row(rows[i].in);
		for (size_t cut = 0; cut <= (rows[i].why == NULL ? rows[i].in.len : 0); cut++)
			try(m, &rows[i], cut);
	}
}

static void
plain_responses(void **state)	/* case 7.6 */
{
	try_all(SASL_PLAIN, plain, COUNT(plain));
}

static void
oauthbearer_responses(void **state)	/* cases 8.1 to 8.3 */
{
	try_all(SASL_OAUTHBEARER, oauthbearer, COUNT(oauthbearer));
}

static void
xoauth2_responses(void **state)
{
	try_all(SASL_XOAUTH2, xoauth2, COUNT(xoauth2));
}

/* "\0" and a user and "\0" and a password of so many octets each. */
static int
parse_sizes(size_t authzid_len, size_t authcid_len, size_t secret_len)
{
	size_t len = authzid_len + 1 + authcid_len + 1 + secret_len;
	char *p = malloc(len);
	const char *why;
	struct credentials c;
	int result;

	assert_non_null(p);
	memset(p, 'x', len);
	p[authzid_len] = '\0';
	p[authzid_len + 1 + authcid_len] = '\0';
	result = sasl_parse(SASL_PLAIN, p, len, &c, &why);
	if (result == 0) {
		assert_int_equal(c.authzid.len, authzid_len);
		assert_int_equal(c.authcid.len, authcid_len);
		assert_int_equal(c.secret.len, secret_len);
	}
	free(p);
	return result;
}

static void
lengths(void **state)
{
	assert_int_equal(parse_sizes(0, 1, 1), 0);
	assert_int_equal(parse_sizes(SMTP_ADDRESS_MAX, SMTP_ADDRESS_MAX, 255), 0);
	assert_int_equal(parse_sizes(SMTP_ADDRESS_MAX + 1, 3, 3), -1);
	assert_int_equal(parse_sizes(3, SMTP_ADDRESS_MAX + 1, 3), -1);
	assert_int_equal(parse_sizes(0, 3, 4096), 0);
	assert_int_equal(parse_sizes(0, 3, SASL_RESPONSE_MAX - 5), 0);
	assert_int_equal(parse_sizes(0, 3, SASL_RESPONSE_MAX - 4), -1);
	assert_int_equal(parse_sizes(0, 3, 65536), -1);
}

static void
mechanisms(void **state)
{
	static const struct {
		const char		*name;
		enum sasl_mechanism	 m;
	} rows[] = {
		{ "PLAIN", SASL_PLAIN }, { "plain", SASL_PLAIN }, { "OAuthBearer", SASL_OAUTHBEARER }, { "XOAUTH2", SASL_XOAUTH2 },
		{ "", SASL_NONE }, { "PLAI", SASL_NONE }, { "PLAINX", SASL_NONE }, { "LOGIN", SASL_NONE }, { "CRAM-MD5", SASL_NONE },
		{ "EXTERNAL", SASL_NONE },
	};
	char nothing[1] = "";
	struct credentials c;
	const char *why = NULL;

	for (size_t i = 0; i < COUNT(rows); i++) {
		print_message("  \"%s\"\n", rows[i].name);
		assert_int_equal(sasl_find(text_span(rows[i].name)), rows[i].m);
		if (rows[i].m != SASL_NONE)
			assert_true(text_is_nocase(text_span(rows[i].name), sasl_name(rows[i].m)));
	}
	for (unsigned m = 0; m < SASL__MAX; m++) {
		enum sasl_mechanism found = sasl_find(text_span(sasl_name((enum sasl_mechanism)m)));
		char dst[512];

		assert_int_equal(found, m);
		/* a mechanism with tokens is one that tells their failure */
		assert_int_equal(sasl_failure(found, "", dst, sizeof(dst)) > 0, sasl_is_bearer(found));
	}
	assert_string_equal(sasl_name(SASL_NONE), "");
	assert_int_equal(sasl_parse(SASL_NONE, nothing, 0, &c, &why), -1);
	assert_string_equal(why, "no mechanism");
}

static void
failures(void **state)
{
	static const struct {
		enum sasl_mechanism	 m;
		const char		*scope, *json;
	} rows[] = {
		{ SASL_OAUTHBEARER, "mail", "{\"status\":\"invalid_token\",\"schemes\":\"bearer\",\"scope\":\"mail\"}" },
		{ SASL_XOAUTH2, "mail", "{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":\"mail\"}" },
		{ SASL_OAUTHBEARER, "", "{\"status\":\"invalid_token\",\"schemes\":\"bearer\",\"scope\":\"\"}" },
		{ SASL_XOAUTH2, "a\"b\\c\x01\n\x7f\xc3\xb6\xff",
		    "{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":\"a\\\"b\\\\c\\u0001\\u000a\\u007f\xc3\xb6\\ufffd\"}" },
	};
	static char scope[4096];
	char dst[512], json[512];
	long len, n;

	for (size_t i = 0; i < COUNT(rows); i++) {
		print_message("  %s\n", rows[i].json);
		len = sasl_failure(rows[i].m, rows[i].scope, dst, sizeof(dst));
		assert_int_equal(len, strlen(dst));
		n = text_base64_decode(text_span(dst), json, sizeof(json));
		assert_true(text_is((struct span){ json, (size_t)n }, rows[i].json));
		assert_int_equal(sasl_failure(rows[i].m, rows[i].scope, dst, (size_t)len + 1), len);
		assert_int_equal(sasl_failure(rows[i].m, rows[i].scope, dst, (size_t)len), -1);
	}
	memset(scope, 'x', sizeof(scope) - 1);
	assert_int_equal(sasl_failure(SASL_XOAUTH2, scope, dst, sizeof(dst)), -1);
	assert_int_equal(sasl_failure(SASL_PLAIN, "", dst, sizeof(dst)), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_responses),
		cmocka_unit_test(oauthbearer_responses),
		cmocka_unit_test(xoauth2_responses),
		cmocka_unit_test(lengths),
		cmocka_unit_test(mechanisms),
		cmocka_unit_test(failures),
	};

	return cmocka_run_group_tests_name("sasl", tests, NULL, NULL);
}
