/*
 * test_rspamd.c - what rspamd is asked, and what is made of its answers (cases 11.5 to 11.28). HTTP itself is test_http's matter.
 */
#include "rspamd.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- in place of http.c: what was asked, and an answer when the test wants it ---- */

struct http_call {
	http_done	*done;
	void		*arg;
	bool		 running;
};

static struct {
	struct http_call calls[4];
	size_t		 n;
	int		 error;		/* of the next start */
	char		 url[256], unix_socket[256], ca_file[256], headers[80000];
	struct http_request q;
} asked;

struct http_call *
http_start(struct http *h, const struct http_request *q, http_done *done, void *arg)
{
	struct http_call *c = &asked.calls[asked.n];
	size_t n = 0;

	if (asked.error != 0) {
		errno = asked.error;
		return NULL;
	}
	assert_true(asked.n < COUNT(asked.calls));
	asked.n++;
	*c = (struct http_call){ done, arg, true };
	asked.q = *q;
	asked.headers[0] = '\0';
	(void)snprintf(asked.url, sizeof(asked.url), "%s", q->url);
	(void)snprintf(asked.unix_socket, sizeof(asked.unix_socket), "%s", q->unix_socket == NULL ? "" : q->unix_socket);
	(void)snprintf(asked.ca_file, sizeof(asked.ca_file), "%s", q->ca_file == NULL ? "" : q->ca_file);
	for (size_t i = 0; q->headers[i] != NULL; i++)
		n += (size_t)snprintf(asked.headers + n, sizeof(asked.headers) - n, "%s\n", q->headers[i]);
	return c;
}

void
http_cancel(struct http_call *c)
{
	assert_true(c->running);
	c->running = false;
}

static void
answer(size_t call, int status, const char *error, const char *body)
{
	struct http_answer a = { .status = status, .error = error, .body = text_span(body), .content_type = "", .max_age_s = -1 };
	struct http_call *c = &asked.calls[call];

	assert_true(c->running);
	c->running = false;
	c->done(c->arg, &a);
}

/* ---- answers ---- */

static const char *const action_names[] = { "accept", "reject", "tempfail", "discard", "quarantine", "skipped", "trouble" };

#define A(action_, more) "{\"action\":\"" action_ "\"" more "}"
#define MESSAGE(text) ",\"messages\":{\"smtp_message\":" text "}"
#define A50 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A400 A50 A50 A50 A50 A50 A50 A50 A50

static const struct {
	const char	*json;
	enum filter_action want;
	bool		 is_spam;
	const char	*esc, *text, *detail;
} answer_rows[] = {
	{ A("no action", ""), FILTER_ACCEPT, false, "", "", "no action" },
	{ A("greylist", ""), FILTER_ACCEPT, false, "", "", "greylist" },
	{ A("add header", ""), FILTER_ACCEPT, true, "", "", "add header" },
	{ A("rewrite subject", ",\"subject\":\"x\""), FILTER_ACCEPT, true, "", "", "rewrite subject" },
	{ A("rewrite subject", ""), FILTER_ACCEPT, true, "", "", "rewrite subject, 1 changes ignored" },
	{ A("soft reject", ""), FILTER_TEMPFAIL, false, "4.7.1", "", "soft reject" },
	{ A("reject", ""), FILTER_REJECT, true, "5.7.1", "", "reject" },
	{ A("quarantine", ""), FILTER_QUARANTINE, true, "", "", "quarantine" },
	{ A("discard", ""), FILTER_DISCARD, true, "", "", "discard" },
	{ A("no action", ",\"is_skipped\":true"), FILTER_ACCEPT, false, "", "", "no action" },
	/* what is no action */
	{ "{}", FILTER_TROUBLE, false, "", "", "unknown action: " },
	{ "[]", FILTER_TROUBLE, false, "", "", "unknown action: " },
	{ "[\"no action\"]", FILTER_TROUBLE, false, "", "", "unknown action: " },
	{ A("", ""), FILTER_TROUBLE, false, "", "", "unknown action: " },
	{ A("No action", ""), FILTER_TROUBLE, false, "", "", "unknown action: No action" },
	{ A("a\\r\\nb", ""), FILTER_TROUBLE, false, "", "", "unknown action: a??b" },
	{ "{\"action\":null}", FILTER_TROUBLE, false, "", "", "unknown action: " },
	{ "{\"action\":0}", FILTER_TROUBLE, false, "", "", "unknown action: " },
	{ "{\"action\":[\"no action\"]}", FILTER_TROUBLE, false, "", "", "unknown action: " },
	{ "{\"default\":{\"action\":\"no action\"}}", FILTER_TROUBLE, false, "", "", "unknown action: " },
	{ A("no action", ",\"action\":\"reject\""), FILTER_TROUBLE, false, "", "", "answer: name given twice" },
	/* errors, and what is no answer */
	{ "{\"error\":\"no\\nway\",\"error_domain\":\"task-quark\"}", FILTER_TROUBLE, false, "", "", "error: no?way" },
	{ A("no action", ",\"error\":null"), FILTER_TROUBLE, false, "", "", "error: " },
	{ "", FILTER_TROUBLE, false, "", "", "answer: no end" },
	{ "{\"action\":\"no action\"", FILTER_TROUBLE, false, "", "", "answer: no end" },
	{ "\"no action\"", FILTER_TROUBLE, false, "", "", "answer: neither object nor array" },
	{ "\x1f\x8b\x08\x00", FILTER_TROUBLE, false, "", "", "answer: neither object nor array" },
	{ "<html>", FILTER_TROUBLE, false, "", "", "answer: neither object nor array" },
	{ A("no action", "") "x", FILTER_TROUBLE, false, "", "", "answer: something behind the end" },
	{ A("no action", ",\"x\":NaN"), FILTER_TROUBLE, false, "", "", "answer: syntax" },
	/* octets that are no UTF-8, where they do not matter */
	{ A("no action", ",\"emails\":[\"a\xff\xfe@x\", \"\xc3\"]"), FILTER_ACCEPT, false, "", "", "no action" },
	{ A("reject", MESSAGE("\"a\xff" "b\"")), FILTER_REJECT, true, "5.7.1", "a?b", "reject" },
	/* characters that no string of ours may have: rspamd decodes "http://exa%00mple.com/" */
	{ A("reject", ",\"urls\":[\"exa\\u0000mple.com\"]"), FILTER_REJECT, true, "5.7.1", "", "reject" },
	{ A("reject", MESSAGE("\"a\\u0000\\ud800b\"")), FILTER_REJECT, true, "5.7.1", "a??????b", "reject" },
	{ A("reject\\u0000", ""), FILTER_TROUBLE, false, "", "", "unknown action: reject???" },
	{ A("no action", "") "\xff", FILTER_TROUBLE, false, "", "", "answer: something behind the end" },
	/* its words to the client (case 11.23) */
	{ A("reject", MESSAGE("\"Go away\"")), FILTER_REJECT, true, "5.7.1", "Go away", "reject" },
	{ A("soft reject", MESSAGE("\"Later\"")), FILTER_TEMPFAIL, false, "4.7.1", "Later", "soft reject" },
	{ A("reject", MESSAGE("\"5.7.0 Go away\"")), FILTER_REJECT, true, "5.7.0", "Go away", "reject" },
	{ A("reject", MESSAGE("\"5.7.0\"")), FILTER_REJECT, true, "5.7.0", "", "reject" },
	{ A("reject", MESSAGE("\"4.7.0 Later\"")), FILTER_REJECT, true, "5.7.1", "4.7.0 Later", "reject" },
	{ A("soft reject", MESSAGE("\"5.7.0 Go\"")), FILTER_TEMPFAIL, false, "4.7.1", "5.7.0 Go", "soft reject" },
	{ A("soft reject", MESSAGE("\"4.2.1 Later\"")), FILTER_TEMPFAIL, false, "4.2.1", "Later", "soft reject" },
	{ A("reject", MESSAGE("\"2.0.0 Ok\"")), FILTER_REJECT, true, "5.7.1", "2.0.0 Ok", "reject" },
	{ A("reject", MESSAGE("\"250 Ok\"")), FILTER_REJECT, true, "5.7.1", "250 Ok", "reject" },
	{ A("reject", MESSAGE("\"no\\r\\n250 2.0.0 Ok\"")), FILTER_REJECT, true, "5.7.1", "no??250 2.0.0 Ok", "reject" },
	{ A("reject", MESSAGE("\"5.7.0 a\\r\\nb\\u00fc\"")), FILTER_REJECT, true, "5.7.0", "a??b??", "reject" },
	{ A("reject", MESSAGE("\"" A400 A400 "\"")), FILTER_REJECT, true, "5.7.1", NULL, "reject" },
	{ A("reject", MESSAGE("17")), FILTER_REJECT, true, "5.7.1", "", "reject" },
	{ A("reject", ",\"messages\":\"smtp_message\""), FILTER_REJECT, true, "5.7.1", "", "reject" },
	{ A("no action", MESSAGE("\"5.7.0 Go away\"")), FILTER_ACCEPT, false, "", "", "no action" },
	{ A("quarantine", MESSAGE("\"Go away\"")), FILTER_QUARANTINE, true, "", "", "quarantine" },
	/* rules that change what an action means (case 11.24) */
	{ A("reject", ",\"milter\":{\"reject\":\"discard\"}" MESSAGE("\"no\"")), FILTER_DISCARD, true, "", "", "reject" },
	{ A("reject", ",\"milter\":{\"reject\":\"quarantine\"}"), FILTER_QUARANTINE, true, "", "", "reject" },
	{ A("reject", ",\"milter\":{\"reject\":\"accept\"}"), FILTER_REJECT, true, "5.7.1", "", "reject" },
	{ A("no action", ",\"milter\":{\"reject\":\"discard\"}"), FILTER_ACCEPT, false, "", "", "no action" },
	{ A("reject", ",\"milter\":{\"no_action\":true}" MESSAGE("\"no\"")), FILTER_ACCEPT, false, "", "", "reject" },
	{ A("reject", ",\"milter\":{\"no_action\":false}"), FILTER_REJECT, true, "5.7.1", "", "reject" },
	{ A("reject", ",\"milter\":{\"no_action\":1}"), FILTER_REJECT, true, "5.7.1", "", "reject" },
};

static void
answers(void **state)
{
	for (size_t i = 0; i < COUNT(answer_rows); i++) {
		struct filter_report r = { .action = FILTER_ACCEPT };
		struct span json = text_span(answer_rows[i].json);

		print_message("  %zu %s: %s\n", i, action_names[answer_rows[i].want], answer_rows[i].detail);
		rspamd_read(json, &r);
		assert_int_equal(r.action, answer_rows[i].want);
		assert_int_equal(r.is_spam, answer_rows[i].is_spam);
		assert_string_equal(r.esc, answer_rows[i].esc);
		assert_string_equal(r.text, answer_rows[i].text == NULL ? A50 A50 A50 A50 A50 A50 A50 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" :
		    answer_rows[i].text);
		assert_string_equal(r.detail, answer_rows[i].detail);
		assert_false(r.has_score);
		edits_clear(&r.edits);
	}
}

/* An answer cut anywhere is none. */
static void
cut_short(void **state)
{
	static const char json[] = A("reject", ",\"score\":15.5,\"milter\":{\"add_headers\":{\"X-A\":\"b\"}},\"dkim-signature\":\"v=1\"");

	for (size_t n = 0; n < sizeof(json); n++) {
		struct filter_report r = { .action = FILTER_ACCEPT };
		char *p = malloc(n + 1);	/* so that a sanitizer sees a read past the end */

		assert_non_null(p);
		memcpy(p, json, n);
		rspamd_read((struct span){ p, n }, &r);
		assert_int_equal(r.action, n == sizeof(json) - 1 ? FILTER_REJECT : FILTER_TROUBLE);
		assert_int_equal(r.edits.n, n == sizeof(json) - 1 ? 2 : 0);
		edits_clear(&r.edits);
		free(p);
	}
}

static void
scores(void **state)
{
	static const struct { const char *json; bool has; double score, required; } rows[] = {
		{ ",\"score\":7.25,\"required_score\":15", true, 7.25, 15 },
		{ ",\"score\":-3,\"required_score\":-1.5", true, -3, -1.5 },
		{ ",\"score\":0,\"required_score\":0", true, 0, 0 },
		{ ",\"score\":7", true, 7, 0 },
		{ ",\"required_score\":15", false, 0, 0 },
		{ ",\"score\":\"7\",\"required_score\":15", false, 0, 0 },
		{ ",\"score\":\"nan\"", false, 0, 0 },
		{ ",\"score\":1e999", false, 0, 0 },
		{ ",\"score\":-1e999", false, 0, 0 },
		{ ",\"score\":null", false, 0, 0 },
		{ ",\"score\":[7]", false, 0, 0 },
		{ ",\"score\":7,\"required_score\":1e999", true, 7, 0 },
		{ ",\"score\":7,\"required_score\":\"15\"", true, 7, 0 },
		{ ",\"score\":1e308", true, 1e308, 0 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct filter_report r = { .action = FILTER_TROUBLE };
		char json[256];

		print_message("  %s\n", rows[i].json);
		(void)snprintf(json, sizeof(json), "{\"action\":\"no action\"%s}", rows[i].json);
		rspamd_read(text_span(json), &r);
		assert_int_equal(r.action, FILTER_ACCEPT);
		assert_int_equal(r.has_score, rows[i].has);
		assert_true(r.score >= rows[i].score && r.score <= rows[i].score);
		assert_true(r.required >= rows[i].required && r.required <= rows[i].required);
		edits_clear(&r.edits);
	}
}

/* Each edit as "kind nth name:value", in brackets. */
static void
print_edits(const struct edits *e, struct buf *out)
{
	static const char *const kinds[] = { "top", "end", "change", "remove" };

	for (size_t i = 0; i < e->n; i++)
		buf_printf(out, "[%s %d %.*s:%.*s]", kinds[e->v[i].kind], e->v[i].nth, (int)e->v[i].name_len, e->text.data + e->v[i].name_at,
		    (int)e->v[i].value_len, e->text.data + e->v[i].value_at);
}

#define ADD(more) ",\"milter\":{\"add_headers\":{" more "}}"
#define REMOVE(more) ",\"milter\":{\"remove_headers\":{" more "}}"
#define N64 "X23456789012345678901234567890123456789012345678901234567890-234"

static void
edits(void **state)
{
	static const struct { const char *json, *want; unsigned ignored; } rows[] = {
		{ "", "", 0 },
		{ ADD("\"X-A\":\"b\""), "[end 0 X-A:b]", 0 },
		{ ADD("\"X-A\":{\"value\":\"b\"}"), "[end 0 X-A:b]", 0 },
		{ ADD("\"X-A\":{\"value\":\"b\",\"order\":0}"), "[top 0 X-A:b]", 0 },
		{ ADD("\"X-A\":{\"value\":\"b\",\"order\":1}"), "[top 0 X-A:b]", 0 },
		{ ADD("\"X-A\":{\"index\":5,\"value\":\"b\"}"), "[top 0 X-A:b]", 0 },
		{ ADD("\"X-A\":{\"value\":\"b\",\"order\":-1}"), "[end 0 X-A:b]", 0 },
		{ ADD("\"X-A\":{\"value\":\"b\",\"order\":\"0\"}"), "[end 0 X-A:b]", 0 },
		{ ADD("\"X-A\":{\"value\":\"b\",\"order\":1e300}"), "[end 0 X-A:b]", 0 },
		{ ADD("\"X-A\":[\"b\",{\"value\":\"c\",\"order\":0},\"d\"]"), "[end 0 X-A:b][top 0 X-A:c][end 0 X-A:d]", 0 },
		{ ADD("\"X-A\":[]"), "", 0 },
		{ ADD("\"X-A\":[[\"b\"],1,null,{},{\"value\":2},{\"value\":[\"b\"]},\"c\"]"), "[end 0 X-A:c]", 6 },
		{ ADD("\"X-A\":5"), "", 1 },
		{ ADD("\"X-A\":\"\""), "[end 0 X-A:]", 0 },
		{ ADD("\"Authentication-Results\":\"mx;\\r\\n\\tnone\""), "[top 0 Authentication-Results:mx;\r\n\tnone]", 0 },
		{ ADD("\"Authentication-Results\":{\"value\":\"mx\",\"order\":-1}"), "[end 0 Authentication-Results:mx]", 0 },
		/* content_apply() refuses what is no field; here only what may not be */
		{ ADD("\"From\":\"b\",\"content-type\":\"b\",\"Received\":[\"a\",\"b\"],\"X-A\":\"b\""), "[end 0 X-A:b]", 3 },
		{ ADD("\"" N64 "\":\"b\""), "[end 0 " N64 ":b]", 0 },
		{ ADD("\"" N64 "5\":\"b\""), "", 1 },
		{ ADD("\"\":\"b\""), "", 1 },
		{ ",\"milter\":{\"add_headers\":[\"X-A\",{\"value\":\"b\"}]}", "", 0 },
		{ ",\"milter\":[1]", "", 0 },
		{ REMOVE("\"X-A\":0,\"X-B\":1,\"X-C\":-2,\"X-D\":1000"), "[remove 0 X-A:][remove 1 X-B:][remove -2 X-C:][remove 1000 X-D:]", 0 },
		{ REMOVE("\"X-A\":1001,\"X-B\":-1001,\"X-C\":\"0\",\"X-D\":null,\"X-E\":[1],\"X-F\":1e99"), "", 6 },
		{ REMOVE("\"From\":0,\"date\":1,\"Subject\":0"), "[remove 0 Subject:]", 2 },
		{ ",\"milter\":{\"change_from\":\"a@b\",\"add_rcpt\":[\"c@d\"],\"del_rcpt\":[\"e@f\"],\"spam_header\":\"Yes\"}", "", 4 },
		{ ",\"milter\":{\"add_headers\":{\"X-A\":\"b\"},\"remove_headers\":{\"X-A\":0}}", "[remove 0 X-A:][end 0 X-A:b]", 0 },
		{ ",\"milter\":{\"no_action\":true}", "[end 0 X-Rspamd-Action:no action]", 0 },
		{ ",\"dkim-signature\":\"v=1; a=b;\\r\\tc=d\"", "[top 0 DKIM-Signature:v=1; a=b;\r\tc=d]", 0 },
		{ ",\"dkim-signature\":[\"v=1\",\"v=2\"]", "[top 0 DKIM-Signature:v=1][top 0 DKIM-Signature:v=2]", 0 },
		{ ",\"dkim-signature\":[\"v=1\",3]", "[top 0 DKIM-Signature:v=1]", 1 },
		{ ",\"dkim-signature\":[]", "", 0 },
		{ ",\"dkim-signature\":{\"a\":\"b\"}", "", 1 },
		{ ",\"dkim-signature\":null", "", 1 },
		{ ",\"subject\":\"***SPAM***\"", "", 0 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct filter_report r = { .action = FILTER_TROUBLE };
		char json[512], memory[512], detail[64];
		struct buf got;

		print_message("  %s\n", rows[i].json);
		buf_fixed(&got, memory, sizeof(memory));
		(void)snprintf(json, sizeof(json), "{\"action\":\"no action\"%s}", rows[i].json);
		rspamd_read(text_span(json), &r);
		assert_int_equal(r.action, FILTER_ACCEPT);
		print_edits(&r.edits, &got);
		assert_string_equal(buf_str(&got), rows[i].want);
		(void)snprintf(detail, sizeof(detail), rows[i].ignored == 0 ? "no action" : "no action, %u changes ignored", rows[i].ignored);
		assert_string_equal(r.detail, detail);
		edits_clear(&r.edits);
	}
}

static void
a_new_subject(void **state)
{
	struct filter_report r = { .action = FILTER_TROUBLE };
	char memory[128];
	struct buf got;

	buf_fixed(&got, memory, sizeof(memory));
	rspamd_read(SPAN(A("rewrite subject", ",\"subject\":\"***SPAM*** \\u00fc\\r\\nBcc: x\"")), &r);
	print_edits(&r.edits, &got);
	assert_string_equal(buf_str(&got), "[change 0 Subject:***SPAM*** \xc3\xbc\r\nBcc: x]");	/* content.c makes one line of it */
	edits_clear(&r.edits);
}

/* A sender has no way to keep his own: it is cut, at a character. */
static void
a_long_subject(void **state)
{
	for (size_t len = 880; len < 920; len++) {
		struct filter_report r = { .action = FILTER_TROUBLE };
		struct buf b;

		buf_init(&b, 1 << 16);
		buf_add_str(&b, "{\"action\":\"rewrite subject\",\"subject\":\"***SPAM*** ");
		for (size_t i = 11; i < len; i++)
			buf_add_char(&b, 'x');
		buf_add_str(&b, "\xc3\xbc\\u20ac\"}");
		rspamd_read(buf_span(&b), &r);
		assert_int_equal(r.edits.n, 1);
		assert_int_equal(r.edits.v[0].value_len, len + 5 <= 900 ? len + 5 : len + 2 <= 900 ? len + 2 : len <= 900 ? len : 900);
		assert_true(text_is_utf8(text_sub(buf_span(&r.edits.text), r.edits.v[0].value_at, r.edits.v[0].value_at + r.edits.v[0].value_len)));
		edits_clear(&r.edits);
		buf_clear(&b);
	}
}

/* A value that is too long, more fields than may be. */
static void
too_much(void **state)
{
	struct filter_report r = { .action = FILTER_TROUBLE };
	struct buf b;

	buf_init(&b, 1 << 20);
	buf_add_str(&b, "{\"action\":\"no action\",\"milter\":{\"add_headers\":{\"X-Long\":\"");
	for (size_t i = 0; i < CONTENT_VALUE_MAX + 1; i++)
		buf_add_char(&b, 'x');
	buf_add_str(&b, "\",\"X-Many\":[\"x\"");
	for (size_t i = 0; i < CONTENT_EDITS_MAX + 9; i++)
		buf_add_str(&b, ",\"x\"");
	buf_add_str(&b, "]}}}");
	rspamd_read(buf_span(&b), &r);
	assert_int_equal(r.action, FILTER_ACCEPT);
	assert_int_equal(r.edits.n, CONTENT_EDITS_MAX);
	assert_int_equal(r.edits.left_out, 10);
	assert_string_equal(r.detail, "no action, 1 changes ignored");
	edits_clear(&r.edits);
	buf_reset(&b);
	buf_add_str(&b, "{\"action\":\"no action\",\"urls\":[0");
	for (size_t i = 0; i < 70000; i++)
		buf_add_str(&b, ",0");
	buf_add_str(&b, "]}");
	rspamd_read(buf_span(&b), &r);
	assert_int_equal(r.action, FILTER_TROUBLE);
	assert_string_equal(r.detail, "answer: too many values");
	buf_clear(&b);
}

static void
outcomes(void **state)
{
	static const struct { const char *symbols; enum filter_outcome want[FILTER_METHOD__MAX]; } rows[] = {
		{ "", { 0 } },
		{ "\"R_SPF_ALLOW\":{\"score\":-0.2},\"R_DKIM_ALLOW\":{},\"DMARC_POLICY_ALLOW\":{},\"ARC_ALLOW\":{}",
		    { FILTER_PASS, FILTER_PASS, FILTER_PASS, FILTER_PASS, FILTER_UNSAID } },
		{ "\"R_SPF_FAIL\":{},\"R_DKIM_REJECT\":{},\"DMARC_POLICY_REJECT\":{},\"ARC_REJECT\":{}",
		    { FILTER_FAIL, FILTER_FAIL, FILTER_FAIL, FILTER_FAIL, FILTER_UNSAID } },
		{ "\"R_SPF_SOFTFAIL\":{},\"R_DKIM_TEMPFAIL\":{},\"DMARC_POLICY_QUARANTINE\":{},\"ARC_INVALID\":{}",
		    { FILTER_SOFTFAIL, FILTER_TEMPERROR, FILTER_FAIL, FILTER_PERMERROR, FILTER_UNSAID } },
		{ "\"R_SPF_NEUTRAL\":{},\"R_DKIM_PERMFAIL\":{},\"DMARC_POLICY_SOFTFAIL\":{},\"ARC_DNSFAIL\":{}",
		    { FILTER_NEUTRAL, FILTER_PERMERROR, FILTER_SOFTFAIL, FILTER_TEMPERROR, FILTER_UNSAID } },
		{ "\"R_SPF_DNSFAIL\":{},\"DMARC_DNSFAIL\":{}", { FILTER_TEMPERROR, FILTER_UNSAID, FILTER_TEMPERROR, FILTER_UNSAID, FILTER_UNSAID } },
		{ "\"R_SPF_PERMFAIL\":{},\"DMARC_BAD_POLICY\":{}",
		    { FILTER_PERMERROR, FILTER_UNSAID, FILTER_PERMERROR, FILTER_UNSAID, FILTER_UNSAID } },
		{ "\"R_SPF_NA\":{},\"R_DKIM_NA\":{},\"DMARC_NA\":{},\"ARC_NA\":{}", { FILTER_NONE, FILTER_NONE, FILTER_NONE, FILTER_NONE, FILTER_UNSAID } },
		{ "\"R_DKIM_NA\":{},\"R_DKIM_ALLOW\":{}", { FILTER_UNSAID, FILTER_PASS, FILTER_UNSAID, FILTER_UNSAID, FILTER_UNSAID } },
		{ "\"R_DKIM_REJECT\":{},\"R_DKIM_ALLOW\":{}", { FILTER_UNSAID, FILTER_PASS, FILTER_UNSAID, FILTER_UNSAID, FILTER_UNSAID } },
		{ "\"RBL_SPAMHAUS_SBL\":{\"score\":4}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"RECEIVED_SPAMHAUS_PBL\":{\"score\":0.5}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"RECEIVED_BLOCKLISTDE\":{\"score\":1}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"RBL_BLOCKLISTDE\":{\"score\":1}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"DBL_PHISH\":{\"score\":1}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"URIBL_BLACK\":{\"score\":1}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"PH_SURBL_MULTI\":{\"score\":1}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"MW_SURBL_MULTI\":{\"score\":1}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"ABUSE_SURBL\":{\"score\":1}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"CRACKED_SURBL\":{\"score\":1}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"RSPAMD_URIBL\":{\"score\":1}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"RSPAMD_EMAILBL\":{\"score\":1}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"MSBL_EBL\":{\"score\":1}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"SEM_URIBL\":{\"score\":1}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"SEM_URIBL_FRESH15\":{\"score\":1}", { 0, 0, 0, 0, FILTER_LISTED } },
		{ "\"RBL_SPAMHAUS_BLOCKED\":{\"score\":0}", { 0 } },
		{ "\"SURBL_BLOCKED\":{\"score\":0},\"ABUSE_SURBL\":{\"score\":0}", { 0 } },
		{ "\"RBL_X\":{}", { 0 } },
		{ "\"RBL_X\":4", { 0 } },
		{ "\"XRBL_X\":{\"score\":4},\"RCVD_IN_DNSWL_HI\":{\"score\":-1}", { 0 } },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct filter_report r = { .action = FILTER_TROUBLE };
		char json[512];

		print_message("  %s\n", rows[i].symbols);
		(void)snprintf(json, sizeof(json), "{\"action\":\"no action\",\"symbols\":{%s}}", rows[i].symbols);
		rspamd_read(text_span(json), &r);
		for (size_t m = 0; m < FILTER_METHOD__MAX; m++)
			assert_int_equal(r.outcomes[m], rows[i].want[m]);
	}
}

/* ---- questions ---- */

static char nothing[] = "", hostname[] = "mx.test", url[] = "http://127.0.0.1:11333", password[] = "s3cret", settings[] = "in",
    ca_file[] = "/ca.pem";
static struct config config = { .hostname = hostname };
static struct listener listener = { .name = "mx" };
static struct checker checker;

static void
make_tx(struct tx *tx, struct mailbox *rcpts, size_t n)
{
	asked.n = 0;
	asked.error = 0;
	checker = (struct checker){ .url = url, .password = nothing, .settings_id = nothing, .ca_file = nothing, .timeout_ms = 10000,
	    .max_checks = 2, .max_size = 1000 };
	*tx = (struct tx){ .id = "0123456789abcdef0123", .session = 7, .config = &config, .listener = &listener, .client_address = "192.0.2.1",
	    .helo = "h.test", .auth_user = "", .auth_type = "", .tls_version = "", .tls_cipher = "", .fd = 99, .size = MESSAGE_ROOM + 50, .rcpts = rcpts,
	    .rcpts_n = n };
	for (size_t i = 0; i < n; i++) {
		(void)snprintf(rcpts[i].local, sizeof(rcpts[i].local), "bob%zu", i);
		(void)snprintf(rcpts[i].domain, sizeof(rcpts[i].domain), "local.test");
	}
}

struct told {
	unsigned	 n;
	struct filter_report r;	/* its edits are gone */
	struct rspamd	*again;	/* to be asked once more from inside */
	const struct tx	*tx;
};

static void
tell(void *arg, const struct filter_report *r)
{
	struct told *t = arg;

	t->n++;
	t->r = *r;
	if (t->again != NULL && t->n == 1)
		assert_non_null(rspamd_start(t->again, t->tx, checker.timeout_ms, tell, t));
}

static void
questions(void **state)
{
	struct mailbox rcpts[3];
	struct told t = { 0 };
	struct rspamd *r;
	struct tx tx;

	make_tx(&tx, rcpts, 1);
	r = rspamd_new(NULL, &checker);
	assert_non_null(rspamd_start(r, &tx, checker.timeout_ms, tell, &t));
	assert_string_equal(asked.url, "http://127.0.0.1:11333/checkv2");
	assert_string_equal(asked.unix_socket, "");
	assert_string_equal(asked.headers, "Queue-ID: 0123456789abcdef0123\nIP: 192.0.2.1\nHelo: h.test\nMTA-Name: mx.test\nMTA-Tag: mx\n"
	    "From: <>\nRcpt: bob0@local.test\nDeliver-To: bob0@local.test\n");
	assert_true(asked.q.post && asked.q.body_fd == 99 && asked.q.body_at == MESSAGE_ROOM && asked.q.body_len == 50);
	assert_true(asked.q.connect_ms == 2000 && asked.q.total_ms == 10000 && !asked.q.unhurried);
	rspamd_free(r);

	make_tx(&tx, rcpts, 3);
	checker.url = (char []){ "https://rspamd.test/base//" };
	checker.password = password;
	checker.settings_id = settings;
	checker.ca_file = ca_file;
	checker.timeout_ms = 500;
	tx.auth_user = "user@local.test";
	tx.tls_version = "TLSv1.2";
	tx.tls_cipher = "ECDHE-X";
	tx.client_address = "2001:db8::1";
	(void)snprintf(tx.client_name, sizeof(tx.client_name), "client.test");
	(void)snprintf(tx.sender.local, sizeof(tx.sender.local), "j\xc3\xbcrgen, m%%");
	(void)snprintf(tx.sender.domain, sizeof(tx.sender.domain), "local.test");
	(void)snprintf(rcpts[1].local, sizeof(rcpts[1].local), "a\"b");
	rcpts[2] = (struct mailbox){ .local = "postmaster" };
	r = rspamd_new(NULL, &checker);
	assert_non_null(rspamd_start(r, &tx, checker.timeout_ms, tell, &t));
	assert_string_equal(asked.url, "https://rspamd.test/base/checkv2");
	assert_string_equal(asked.ca_file, "/ca.pem");
	assert_string_equal(asked.headers, "Queue-ID: 0123456789abcdef0123\nIP: 2001:db8::1\nHelo: h.test\nHostname: client.test\nUser: user@local.test\n"
	    "TLS-Version: TLSv1.2\nTLS-Cipher: ECDHE-X\nMTA-Name: mx.test\nMTA-Tag: mx\nSettings-ID: in\nPassword: s3cret\n"
	    "From: \"j%C3%BCrgen, m%\"@local.test\nRcpt: bob0@local.test\nRcpt: \"a\\\"b\"@local.test\nRcpt: postmaster\n");
	assert_true(asked.q.connect_ms == 500 && asked.q.total_ms == 500);
	rspamd_free(r);

	make_tx(&tx, rcpts, 1);
	checker.url = (char []){ "unix:/run/rspamd.sock" };
	r = rspamd_new(NULL, &checker);
	assert_non_null(rspamd_start(r, &tx, checker.timeout_ms, tell, &t));
	assert_string_equal(asked.url, "http://localhost/checkv2");
	assert_string_equal(asked.unix_socket, "/run/rspamd.sock");
	rspamd_free(r);
	rspamd_free(NULL);
	assert_int_equal(t.n, 0);
}

/* The message is checked, though not for each of them by name. */
static void
very_many_recipients(void **state)
{
	static struct mailbox rcpts[5000];
	struct told t = { 0 };
	struct rspamd *r;
	struct tx tx;

	make_tx(&tx, rcpts, COUNT(rcpts));
	r = rspamd_new(NULL, &checker);
	assert_non_null(rspamd_start(r, &tx, checker.timeout_ms, tell, &t));
	assert_true(strlen(asked.headers) > 60000 && strlen(asked.headers) <= 65536);
	assert_non_null(strstr(asked.headers, "\nRcpt: bob999@local.test\n"));
	assert_null(strstr(asked.headers, "Deliver-To"));
	rspamd_free(r);
}

static void
as_many_as_may_be(void **state)
{
	struct mailbox rcpts[1];
	struct told a = { 0 }, b = { 0 };
	struct rspamd_check *k;
	struct rspamd *r;
	struct tx tx;

	make_tx(&tx, rcpts, 1);
	r = rspamd_new(NULL, &checker);
	tx.size = MESSAGE_ROOM + 1001;
	assert_null(rspamd_start(r, &tx, checker.timeout_ms, tell, &a));
	assert_int_equal(errno, EFBIG);
	tx.size = MESSAGE_ROOM + 1000;
	asked.error = EINVAL;
	assert_null(rspamd_start(r, &tx, checker.timeout_ms, tell, &a));
	assert_int_equal(errno, EINVAL);
	asked.error = EAGAIN;	/* this is http's, and no place of ours will change it */
	assert_null(rspamd_start(r, &tx, checker.timeout_ms, tell, &a));
	assert_int_equal(errno, EBUSY);
	asked.error = 0;
	assert_non_null(rspamd_start(r, &tx, checker.timeout_ms, tell, &a));
	k = rspamd_start(r, &tx, checker.timeout_ms, tell, &b);
	assert_non_null(k);
	assert_null(rspamd_start(r, &tx, checker.timeout_ms, tell, &a));
	assert_int_equal(errno, EAGAIN);
	rspamd_cancel(k);
	rspamd_cancel(NULL);
	assert_false(asked.calls[1].running);
	a.again = r;	/* its place is free when it is told */
	a.tx = &tx;
	assert_non_null(rspamd_start(r, &tx, checker.timeout_ms, tell, &b));
	answer(0, 200, "", A("reject", ",\"score\":1,\"dkim-signature\":\"v=1\""));
	assert_int_equal(a.n, 1);
	assert_int_equal(a.r.action, FILTER_REJECT);
	assert_int_equal(asked.n, 4);
	rspamd_free(r);	/* two are under way */
	assert_false(asked.calls[2].running || asked.calls[3].running);
	assert_int_equal(a.n + b.n, 1);
}

static void
http_troubles(void **state)
{
	static const struct { int status; const char *error, *body, *detail; } rows[] = {
		{ 500, "", A("no action", ""), "HTTP status 500" },
		{ 404, "", "", "HTTP status 404" },
		{ 413, "", A("no action", ""), "HTTP status 413" },
		{ 204, "", "", "HTTP status 204" },
		{ 302, "", A("no action", ""), "HTTP status 302" },
		{ 0, "Operation timed out", "", "Operation timed out" },
		{ 0, A400, "", NULL },
		{ 200, "", "", "answer: no end" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct mailbox rcpts[1];
		struct told t = { 0 };
		struct rspamd *r;
		struct tx tx;

		print_message("  %d\n", rows[i].status);
		make_tx(&tx, rcpts, 1);
		r = rspamd_new(NULL, &checker);
		assert_non_null(rspamd_start(r, &tx, checker.timeout_ms, tell, &t));
		answer(0, rows[i].status, rows[i].error, rows[i].body);
		assert_int_equal(t.n, 1);
		assert_int_equal(t.r.action, FILTER_TROUBLE);
		if (rows[i].detail != NULL)
			assert_string_equal(t.r.detail, rows[i].detail);
		else
			assert_int_equal(strlen(t.r.detail), sizeof(t.r.detail) - 1);
		rspamd_free(r);
	}
}

/* ---- learning (case 11.28) ---- */

static void
lessons(void **state)
{
	static const struct { int status; const char *error; } rows[] = { { 200, "" }, { 208, "" }, { 403, "" }, { 0, "gone" } };
	struct mailbox rcpts[1];
	struct tx tx;

	for (size_t i = 0; i < COUNT(rows); i++) {
		make_tx(&tx, rcpts, 1);
		tx.fd = message_open("");
		assert_int_equal(rspamd_learn(NULL, i == 0 ? "http://c.test:11334/" : "unix:/c.sock", i == 0 ? password : "", &tx), 0);
		assert_string_equal(asked.url, i == 0 ? "http://c.test:11334/learnspam" : "http://localhost/learnspam");
		assert_string_equal(asked.unix_socket, i == 0 ? "" : "/c.sock");
		assert_int_equal(strstr(asked.headers, "Password: s3cret\n") != NULL, i == 0);
		assert_true(asked.q.body_at == MESSAGE_ROOM && asked.q.body_len == 50 && asked.q.unhurried);
		assert_int_not_equal(asked.q.body_fd, tx.fd);
		close(tx.fd);	/* the transaction ends first */
		assert_true(fcntl(asked.q.body_fd, F_GETFD) != -1);
		answer(0, rows[i].status, rows[i].error, "{}");
		assert_int_equal(fcntl(asked.q.body_fd, F_GETFD), -1);
	}
	make_tx(&tx, rcpts, 1);
	tx.fd = message_open("");
	asked.error = EAGAIN;
	assert_int_equal(rspamd_learn(NULL, "http://c.test", "", &tx), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(fcntl(tx.fd + 1, F_GETFD), -1);
	close(tx.fd);
	assert_int_equal(rspamd_learn(NULL, "http://c.test", "", &tx), -1);
	assert_int_equal(errno, EBADF);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers),
		cmocka_unit_test(cut_short),
		cmocka_unit_test(scores),
		cmocka_unit_test(edits),
		cmocka_unit_test(a_new_subject), cmocka_unit_test(a_long_subject),
		cmocka_unit_test(too_much),
		cmocka_unit_test(outcomes),
		cmocka_unit_test(questions),
		cmocka_unit_test(very_many_recipients),
		cmocka_unit_test(as_many_as_may_be),
		cmocka_unit_test(http_troubles),
		cmocka_unit_test(lessons),
	};

	log_init(LOG_DEBUG, LOG_LOGFMT, "test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
