/*
 * test_oauth.c - key sets that come, change, fail and get old, and what tokens are told meanwhile (cases 8.40 to 8.46).
 *
 * The monotonic clock is the test's to put forward, so that an hour takes no time.
 */
#include "oauth.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include <bearssl_ec.h>
#include <bearssl_hash.h>
#include <cmocka.h>

#include "jwt.h"
#include "peer_http.h"

#define STR(s) ((char *)(uintptr_t)(s))	/* the config's strings are not const */
#define HOUR_MS INT64_C(3600000)
#define WAIT_MS 10000
#define WAITING_MAX 256

static int64_t skew_ms;
static bool year_1970;

int
clock_gettime(clockid_t id, struct timespec *ts)
{
	if (syscall(SYS_clock_gettime, id, ts) == -1)
		return -1;
	if (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_RAW) {	/* the second is libcurl's */
		ts->tv_sec += skew_ms / 1000;
		ts->tv_nsec += skew_ms % 1000 * 1000000;
		if (ts->tv_nsec >= 1000000000) {
			ts->tv_nsec -= 1000000000;
			ts->tv_sec++;
		}
	}
	return 0;
}

time_t
time(time_t *t)
{
	struct timespec ts = { 0 };

	if (!year_1970)
		(void)syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts);
	if (t != NULL)
		*t = ts.tv_sec;
	return ts.tv_sec;
}

/* ---- tokens and keys: kid "k1" to "k9", each a key of its own ---- */

static br_ec_private_key
private_key(const char *kid, unsigned char octets[32])
{
	memcpy(octets, "0123456789abcdefghijklmnopqrstuv", 32);
	octets[31] = (unsigned char)kid[1];
	return (br_ec_private_key){ BR_EC_secp256r1, octets, 32 };
}

static void
add_base64url(struct buf *b, const void *p, size_t n)
{
	char text[4096];

	assert_true(text_base64_encode((struct span){ p, n }, text, sizeof(text)) >= 0);
	for (const char *s = text; *s != '\0' && *s != '='; s++)
		buf_add_char(b, *s == '+' ? '-' : *s == '/' ? '_' : *s);
}

/* A good token of the issuer, by the key kid, into dst[2048]. */
static struct span
mint(const char *issuer, const char *kid, char *dst)
{
	unsigned char octets[32], hash[br_sha256_SIZE], signature[64];
	br_ec_private_key key = private_key(kid, octets);
	br_sha256_context c;
	char text[1024];
	struct buf b;

	buf_fixed(&b, dst, 2048);
	(void)snprintf(text, sizeof(text), "{\"alg\":\"ES256\",\"kid\":\"%s\"}", kid);
	add_base64url(&b, text, strlen(text));
	buf_add_char(&b, '.');
	(void)snprintf(text, sizeof(text), "{\"iss\":\"%s\",\"aud\":\"mail\",\"exp\":4102444800,\"email\":\"Ann@Local.test\"}", issuer);
	add_base64url(&b, text, strlen(text));
	br_sha256_init(&c);
	br_sha256_update(&c, b.data, buf_len(&b));
	br_sha256_out(&c, hash);
	assert_int_equal(br_ecdsa_sign_raw_get_default()(br_ec_get_default(), &br_sha256_vtable, hash, &key, signature), 64);
	buf_add_char(&b, '.');
	add_base64url(&b, signature, sizeof(signature));
	assert_false(b.failed);
	return buf_span(&b);
}

/* A set of the keys named in kids: "k1 k2". "-" is a key that we cannot use. */
static const char *
key_set(const char *kids, char *dst, size_t size)
{
	struct span rest = text_span(kids), kid;
	struct buf b;

	buf_fixed(&b, dst, size);
	buf_add_str(&b, "{\"keys\":[");
	for (bool first = true; text_token(&rest, " ", &kid); first = false) {
		unsigned char octets[32], point[BR_EC_KBUF_PUB_MAX_SIZE];
		br_ec_private_key key;
		br_ec_public_key pk;

		if (!first)
			buf_add_char(&b, ',');
		if (*kid.p == '-') {
			buf_add_str(&b, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AA\"}");
			continue;
		}
		key = private_key(kid.p, octets);
		assert_int_equal(br_ec_compute_pub(br_ec_get_default(), &pk, point, &key), 65);
		buf_printf(&b, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"%.2s\",\"x\":\"", kid.p);
		add_base64url(&b, point + 1, 32);
		buf_add_str(&b, "\",\"y\":\"");
		add_base64url(&b, point + 33, 32);
		buf_add_str(&b, "\"}");
	}
	buf_add_str(&b, "]}");
	assert_non_null(buf_str(&b));
	return dst;
}

/* ---- what is tried ---- */

static struct loop loop;
static struct http *http;
static struct peer *peer;
static struct config config;
static struct oauth *oauth;
static char jwks_url[64], base_url[64], dir[] = "/tmp/test_oauth.XXXXXX", jwks_file[64];
static char *audience[] = { (char *)"mail", NULL }, *domains[] = { (char *)"local.test", NULL };

struct report {
	unsigned	 calls;
	enum auth_outcome outcome;
	char		 user[SMTP_ADDRESS_MAX + 1], reason[128], kid[64], token[16];
	int64_t		 expires_time;
};

static void
note(void *arg, const struct auth_result *a)
{
	struct report *r = arg;

	r->calls++;
	r->outcome = a->outcome;
	r->expires_time = a->expires_time;
	assert_int_equal(text_copy(r->user, sizeof(r->user), text_span(a->user)), 0);
	assert_int_equal(text_copy(r->reason, sizeof(r->reason), text_span(a->reason)), 0);
	assert_int_equal(text_copy(r->kid, sizeof(r->kid), text_span(a->kid)), 0);
	assert_int_equal(text_copy(r->token, sizeof(r->token), text_span(a->token)), 0);
	assert_true((a->outcome == AUTH_GOOD) == (a->reason[0] == '\0'));
}

/* Turns until nothing is fetched, nobody waits. */
static void
settle(void)
{
	for (int64_t end = loop_clock_ms() + 20000; (http_running(http) > 0 || oauth_pending(oauth) > 0) && loop_clock_ms() < end;)
		assert_int_equal(loop_turn(&loop, 100), 0);
	assert_int_equal(http_running(http), 0);
	assert_int_equal(oauth_pending(oauth), 0);
}

/* Time passes; what is due is done. How many requests that has made. */
static unsigned
pass(int64_t ms)
{
	unsigned before = peer->requests;

	skew_ms += ms;
	assert_int_equal(loop_turn(&loop, 0), 0);
	settle();
	return peer->requests - before;
}

static void
check(const char *kid, int64_t wait_ms, struct report *r)
{
	char token[2048];

	*r = (struct report){ 0 };
	oauth_check(oauth, 1, mint(config.issuers[0].issuer, kid, token), wait_ms, note, r);
	memset(token, 'x', sizeof(token));	/* it has been copied */
}

static void
expect_reason(const char *kid, enum auth_outcome outcome, const char *reason)
{
	struct report r;

	check(kid, WAIT_MS, &r);
	settle();
	assert_int_equal(r.calls, 1);
	if (reason != NULL)
		assert_string_equal(r.reason, reason);
	assert_int_equal(r.outcome, outcome);
}

static void
expect(const char *kid, enum auth_outcome outcome)
{
	expect_reason(kid, outcome, NULL);
}

static void
set_page(size_t i, const char *path, int status, const char *head, const char *body)
{
	struct peer_page *p = &peer->pages[i];

	assert_int_equal(text_copy(p->path, sizeof(p->path), text_span(path)), 0);
	assert_int_equal(text_copy(p->head, sizeof(p->head), text_span(head)), 0);
	assert_int_equal(text_copy(p->body, sizeof(p->body), text_span(body)), 0);
	p->status = status;
}

static void
set_keys(const char *kids, const char *head)
{
	static char set[65536];

	set_page(0, "/jwks", 200, head, key_set(kids, set, sizeof(set)));
}

static void
write_file(const char *text)
{
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%s.new", jwks_file);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd != -1 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
	assert_int_equal(rename(path, jwks_file), 0);
}

static int
setup(void **state)
{
	struct issuer *is = &config.issuers[0];

	memset(peer->pages, 0, sizeof(peer->pages));
	(void)snprintf(base_url, sizeof(base_url), "http://127.0.0.1:%d", peer->port);
	(void)snprintf(jwks_url, sizeof(jwks_url), "http://127.0.0.1:%d/jwks", peer->port);
	config = (struct config){ .domains = { domains, 1 }, .issuers_n = 1 };
	*is = (struct issuer){ .issuer = STR("https://idp.test"), .jwks_url = jwks_url, .jwks_file = STR(""), .ca_file = STR(""),
	    .audience = { audience, 1 }, .username_claim = STR("email"), .required_scope = STR(""), .jwks_refresh_ms = HOUR_MS,
	    .leeway_ms = 60000 };
	if (loop_init(&loop, 200) == -1)
		return -1;
	http = http_new(&loop, 10);
	return http == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	oauth_free(oauth);
	oauth = NULL;
	http_free(http);
	assert_int_equal(loop.n, 1);	/* its own */
	loop_clear(&loop);
	return 0;
}

static void
begin(void)
{
	oauth = oauth_new(&loop, http, &config);
	assert_non_null(oauth);
}

/* ---- tests ---- */

static void
test_result(void **state)
{
	struct report r;
	char token[2048], fingerprint[JWT_FINGERPRINT_LEN + 1];

	set_keys("k1 k2 -", "");
	begin();
	check("k2", WAIT_MS, &r);
	assert_int_equal(r.calls, 0);	/* the first fetch is under way */
	assert_int_equal(oauth_pending(oauth), 1);
	settle();
	assert_int_equal(r.calls, 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(r.outcome, AUTH_GOOD);
		assert_string_equal(r.user, "ann@local.test");
		assert_string_equal(r.kid, "k2");
		assert_int_equal(r.expires_time, 4102444800 + 60);
		assert_int_equal(strlen(r.token), 8);
		check("k2", WAIT_MS, &r);
		assert_int_equal(r.calls, 1);	/* at once */
	}
	jwt_fingerprint(SPAN("abc"), fingerprint);
	assert_string_equal(fingerprint, "ba7816bf");	/* FIPS 180-2 B.1 */
	jwt_fingerprint((struct span){ NULL, 0 }, fingerprint);
	assert_string_equal(fingerprint, "e3b0c442");
	/* of somebody else, and no token at all */
	oauth_check(oauth, 1, mint("https://idp.test/", "k1", token), WAIT_MS, note, (r = (struct report){ 0 }, &r));
	assert_string_equal(r.reason, "issuer");
	assert_int_equal(r.outcome, AUTH_BAD);
	oauth_check(oauth, 1, SPAN(""), WAIT_MS, note, (r = (struct report){ 0 }, &r));
	assert_int_equal(r.calls, 1);
	assert_int_equal(r.outcome, AUTH_BAD);
	assert_string_equal(r.token, "e3b0c442");
	assert_int_equal(peer->requests > 0, 1);
}

/* Case 8.40, and a key that is new. */
static void
test_unknown_key_is_fetched_once_a_minute(void **state)
{
	static struct report r[1000];
	char token[2048];
	struct span unknown = mint(config.issuers[0].issuer, "k9", token);
	unsigned before;

	set_keys("k1", "");
	begin();
	settle();
	before = peer->requests;
	for (size_t i = 0; i < COUNT(r); i++) {
		r[i] = (struct report){ 0 };
		oauth_check(oauth, 1, unknown, WAIT_MS, note, &r[i]);
	}
	settle();
	for (size_t i = 0; i < COUNT(r); i++) {
		assert_int_equal(r[i].calls, 1);
		assert_int_equal(r[i].outcome, i < WAITING_MAX ? AUTH_BAD : AUTH_UNABLE);
		assert_string_equal(r[i].reason, i < WAITING_MAX ? "no such key" : "too many tokens wait for keys");
	}
	assert_int_equal(peer->requests - before, 1);
	set_keys("k1 k2", "");
	(void)pass(30000);
	expect_reason("k2", AUTH_BAD, "no such key");
	assert_int_equal(peer->requests - before, 1);
	(void)pass(30001);
	expect("k2", AUTH_GOOD);
	assert_int_equal(peer->requests - before, 2);
	expect("k1", AUTH_GOOD);
	/* case 8.44 */
	set_keys("k2", "");
	assert_int_equal(pass(HOUR_MS), 1);
	expect_reason("k1", AUTH_BAD, "no such key");
}

/* The server accepts and says nothing: nobody waits longer than he wants to, and so many at most. */
static void
test_waiting_is_bounded(void **state)
{
	static struct report r[WAITING_MAX + 1];

	config.issuers[0].jwks_url = base_url;	/* "/" is a page that does not come */
	begin();
	for (size_t i = 0; i < COUNT(r); i++)
		check("k1", i % 2 == 0 ? 50 : 100, &r[i]);
	assert_int_equal(r[WAITING_MAX].calls, 1);
	assert_int_equal(r[WAITING_MAX].outcome, AUTH_UNABLE);
	assert_int_equal(oauth_pending(oauth), WAITING_MAX);
	for (int64_t end = loop_clock_ms() + 5000; oauth_pending(oauth) > 0 && loop_clock_ms() < end;)
		assert_int_equal(loop_turn(&loop, 100), 0);
	assert_int_equal(http_running(http), 1);	/* that goes on */
	for (size_t i = 0; i < COUNT(r); i++) {
		assert_int_equal(r[i].calls, 1);
		assert_int_equal(r[i].outcome, AUTH_UNABLE);
	}
	check("k1", 60000, &r[0]);
	check("k1", 60000, &r[1]);
	assert_int_equal(oauth_pending(oauth), 2);	/* and are forgotten with it */
}

/* Keys are there, one is not, and the server hangs: AUTH_BAD when the wait is over. */
static void
test_wait_for_unknown_key_ends(void **state)
{
	struct report r;

	set_keys("k1", "");
	begin();
	settle();
	peer->pages[0].path[0] = '\0';	/* it hangs */
	check("k2", 50, &r);
	assert_int_equal(r.calls, 0);
	for (int64_t end = loop_clock_ms() + 5000; r.calls == 0 && loop_clock_ms() < end;)
		assert_int_equal(loop_turn(&loop, 100), 0);
	assert_int_equal(r.outcome, AUTH_BAD);
	check("k1", 50, &r);		/* others do not notice */
	assert_int_equal(r.outcome, AUTH_GOOD);
	skew_ms += 10001;		/* the fetch has 10 s in all */
	settle();
}

static void
test_freshness(void **state)
{
	static const struct { const char *head; int64_t ms; } rows[] = {
		{ "", HOUR_MS }, { "Cache-Control: max-age=120\r\n", 120000 }, { "Cache-Control: max-age=60\r\n", 60000 },
		{ "Cache-Control: max-age=5\r\n", 60000 }, { "Cache-Control: no-store\r\n", 60000 },
		{ "Cache-Control: max-age=1800\r\n", HOUR_MS / 2 }, { "Cache-Control: max-age=3601\r\n", HOUR_MS },
		{ "Cache-Control: max-age=99999999999999\r\n", HOUR_MS },
	};

	set_keys("k1", rows[0].head);
	begin();
	settle();
	for (size_t i = 1; i < COUNT(rows); i++) {
		print_message("  %s", rows[i].head);
		set_keys("k1", rows[i].head);
		(void)pass(HOUR_MS + 1);
		assert_int_equal(pass(rows[i].ms / 2), 0);
		assert_int_equal(pass(rows[i].ms / 2 + 1), 1);
	}
}

static int log_fd;	/* where log lines go */

/* How many lines since offset from have part in them. */
static int
count_lines(off_t from, const char *part)
{
	static char text[65536];
	ssize_t n = pread(log_fd, text, sizeof(text) - 1, from);
	int count = 0;

	assert_true(n >= 0);
	text[n] = '\0';
	for (const char *p = text; (p = strstr(p, part)) != NULL; p++)
		count++;
	return count;
}

static off_t
log_end(void)
{
	off_t end = lseek(log_fd, 0, SEEK_END);

	assert_true(end != -1);
	return end;
}

/* Case 8.42: whatever is answered, the old keys stay, and the log says so once. */
static void
test_bad_answers(void **state)
{
	static const struct { int status; const char *head, *body; } rows[] = {
		{ 404, "", "no" }, { 500, "", "" }, { 204, "", "" }, { 302, "Location: http://127.0.0.1:1/\r\n", "" },
		{ 301, "Location: /good\r\n", "" }, { 200, "", "" }, { 200, "Content-Type: text/html\r\n", "<html></html>" },
		{ 200, "", "{\"keys\":[]}" }, { 200, "", "{\"keys\":{}}" }, { 200, "", "{}" }, { 200, "", "[]" }, { 200, "", "{\"keys\":[" },
		{ 200, "", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}" }, { 200, "Content-Encoding: gzip\r\n", "\x1f\x8b" },
		{ 200, "Transfer-Encoding: gzip\r\n", "\x1f\x8b" }, { 200, "Content-Length: 1\r\n", "{}" }, { 99999, "", "{}" },
	};
	static char long_one[PEER_BODY_MAX], many[65536];
	off_t from;

	set_keys("k1", "");
	begin();
	settle();
	from = log_end();
	for (size_t i = 0; i < COUNT(rows) + 2; i++) {
		if (i < COUNT(rows)) {
			set_page(0, "/jwks", rows[i].status, rows[i].head, rows[i].body);
		} else if (i == COUNT(rows)) {
			memset(long_one, ' ', sizeof(long_one) - 1);	/* over 256 KiB */
			memcpy(long_one, "{\"keys\":[]}", 11);
			set_page(0, "/jwks", 200, "", long_one);
		} else {
			struct buf b;

			buf_fixed(&b, many, sizeof(many));	/* as many as fit, all unknown to us */
			buf_add_str(&b, "{\"keys\":[{}");
			while (buf_room(&b) > 8)
				buf_add_str(&b, ",{}");
			buf_add_str(&b, "]}");
			assert_non_null(buf_str(&b));
			set_page(0, "/jwks", 200, "", many);
		}
		assert_int_equal(pass(HOUR_MS + 1), 1);
		expect("k1", AUTH_GOOD);
	}
	assert_int_equal(count_lines(from, "result=fail"), 1);
	assert_int_equal(count_lines(from, "eyJ"), 0);	/* nothing of a token */
	set_keys("k2", "");
	assert_int_equal(pass(HOUR_MS), 1);
	expect("k2", AUTH_GOOD);
}

/* Case 8.41: no server at the start. It is asked again after 1, 2, 4, ... 60 seconds. */
static void
test_retries(void **state)
{
	static const int waits[] = { 1, 2, 4, 8, 16, 32, 60, 60, 60 };
	unsigned before = peer->requests;

	set_page(0, "/jwks", 500, "", "");
	begin();
	settle();
	assert_int_equal(peer->requests - before, 1);
	for (size_t i = 0; i < COUNT(waits); i++) {
		print_message("  %d s\n", waits[i]);
		if (waits[i] >= 4)	/* less would be a matter of how busy this machine is */
			assert_int_equal(pass(waits[i] * 500), 0);
		assert_int_equal(pass(waits[i] * (waits[i] >= 4 ? 500 : 1000) + 1), 1);
	}
	expect("k1", AUTH_UNABLE);		/* one more fetch, for the token */
	set_keys("k1", "");
	assert_int_equal(pass(60001), 1);
	expect("k1", AUTH_GOOD);
	/* down later: a day */
	set_page(0, "/jwks", 500, "", "");
	assert_int_equal(pass(HOUR_MS + 1), 1);
	(void)pass(23 * HOUR_MS);
	expect("k1", AUTH_GOOD);
	(void)pass(HOUR_MS + 1);
	expect("k1", AUTH_UNABLE);
	expect_reason("k2", AUTH_UNABLE, "the issuer's keys are not known");
	set_keys("k1", "");
	(void)pass(61000);
	expect("k1", AUTH_GOOD);
}

static void
test_server_is_gone(void **state)
{
	config.issuers[0].jwks_url = STR("http://127.0.0.1:1/jwks");
	begin();
	settle();
	expect_reason("k1", AUTH_UNABLE, "the issuer's keys are not known");
}

static void
test_discovery(void **state)
{
	static const char path[] = "/a/.well-known/openid-configuration";
	static const struct { const char *issuer_tail, *document, *log; } rows[] = {
		{ "/a", "{\"issuer\":\"%s/a\",\"x\":[1,{}],\"jwks_uri\":\"%s/jwks\"}", "result=ok" },
		{ "/a/", "{\"issuer\":\"%s/a/\",\"jwks_uri\":\"%s/jwks\"}", "result=ok" },
		{ "/a", "{\"issuer\":\"%s/a/\",\"jwks_uri\":\"%s/jwks\"}", "of another issuer" },
		{ "/a", "{\"issuer\":\"%s\",\"jwks_uri\":\"%s/jwks\"}", "of another issuer" },
		{ "/a", "{\"iss\":\"%s/a\",\"jwks_uri\":\"%s/jwks\"}", "of another issuer" },
		{ "/a", "{\"issuer\":\"%s/a\",\"jwks_url\":\"%s/jwks\"}", "no jwks_uri" },
		{ "/a", "{\"issuer\":\"%s/a\",\"jwks_uri\":[\"%s/jwks\"]}", "no jwks_uri" },
		{ "/a", "{\"issuer\":\"%s/a\",\"jwks_uri\":\"%s/good\"}", "result=fail" },
		{ "/a", "{\"issuer\":\"%s/a\",\"jwks_uri\":\"%s/redirect\"}", "HTTP status 302" },
		{ "/a", "{\"issuer\":\"%s/a\",\"jwks_uri\":\"http://192.0.2.1/jwks\"}", "neither https nor" },
		{ "/a", "{\"issuer\":\"%s/a\",\"jwks_uri\":\"http://127.0.0.1@192.0.2.1/jwks\"}", "neither https nor" },
		{ "/a", "{\"issuer\":\"%s/a\",\"jwks_uri\":\"http://127.0.0.1.test/jwks\"}", "neither https nor" },
		{ "/a", "{\"issuer\":\"%s/a\",\"jwks_uri\":\"http://localhost.test/jwks\"}", "neither https nor" },
		{ "/a", "{\"issuer\":\"%s/a\",\"jwks_uri\":\"file:///jwks\"}", "neither https nor" },
		{ "/a", "{\"issuer\":\"%s/a\",\"jwks_uri\":\"\"}", "neither https nor" },
		{ "/a", "{\"issuer\":\"%s/a\",\"jwks_uri\":\"http://127.0.0.1:1/\\r\\nX: y\"}", "neither https nor" },
		{ "/a", "{\"issuer\":\"%s/a\",\"issuer\":\"x\",\"jwks_uri\":\"%s/jwks\"}", "name given twice" },
		{ "/a", "<html>", "result=fail" },
		{ "/a", "", "result=fail" },
	};
	char issuer[128], document[512];

	set_keys("k1", "");
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct span rest = text_span(rows[i].document);
		off_t from = log_end();
		struct buf b;
		size_t at;

		print_message("  %s\n", rows[i].document);
		buf_fixed(&b, document, sizeof(document));
		while ((at = text_find(rest, '%')) != SIZE_MAX) {
			buf_add_span(&b, text_sub(rest, 0, at));
			buf_add_str(&b, base_url);
			rest = text_sub(rest, at + 2, rest.len);
		}
		buf_add_span(&b, rest);
		assert_non_null(buf_str(&b));
		set_page(1, path, 200, "", document);
		(void)snprintf(issuer, sizeof(issuer), "%s%s", base_url, rows[i].issuer_tail);
		config.issuers[0].issuer = issuer;
		config.issuers[0].jwks_url = STR("");
		begin();
		expect("k1", strcmp(rows[i].log, "result=ok") == 0 ? AUTH_GOOD : AUTH_UNABLE);
		assert_int_equal(count_lines(from, rows[i].log), 1);
		oauth_free(oauth);
		oauth = NULL;
	}
}

static void
test_file(void **state)
{
	static char text[65536];
	char path[128];

	config.issuers[0].jwks_file = jwks_file;
	config.issuers[0].jwks_url = STR("");
	begin();			/* there is none */
	expect_reason("k1", AUTH_UNABLE, "the issuer's keys are not known");
	write_file(key_set("k1", text, sizeof(text)));
	expect("k1", AUTH_UNABLE);	/* looked at a moment ago */
	(void)pass(1001);
	expect("k1", AUTH_GOOD);
	expect_reason("k2", AUTH_BAD, "no such key");
	write_file(key_set("k2", text, sizeof(text)));
	expect("k1", AUTH_GOOD);
	(void)pass(1001);
	expect("k2", AUTH_GOOD);
	expect("k1", AUTH_BAD);
	write_file("{\"keys\":[");	/* half written: the old keys stay */
	(void)pass(1001);
	expect("k2", AUTH_GOOD);
	memset(text, ' ', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < 5; i++) {	/* over 256 KiB */
		int fd = open(jwks_file, O_WRONLY | O_APPEND);

		assert_true(fd != -1 && write(fd, text, sizeof(text)) == (ssize_t)sizeof(text));
		close(fd);
	}
	(void)pass(1001);
	expect("k2", AUTH_GOOD);
	assert_int_equal(unlink(jwks_file), 0);
	(void)snprintf(path, sizeof(path), "%s.new", jwks_file);
	assert_int_equal(mkfifo(jwks_file, 0600), 0);	/* that nobody writes to */
	(void)pass(1001);
	expect("k2", AUTH_GOOD);
	assert_int_equal(unlink(jwks_file), 0);
	(void)pass(23 * HOUR_MS);
	expect("k2", AUTH_GOOD);
	(void)pass(HOUR_MS + 1);
	expect("k2", AUTH_UNABLE);
	write_file(key_set("k3", text, sizeof(text)));
	(void)pass(1001);
	expect("k3", AUTH_GOOD);
	(void)pass(100 * HOUR_MS);	/* a file that is as it was does not get old */
	expect("k3", AUTH_GOOD);
	assert_int_equal(unlink(jwks_file), 0);
}

/* Case 8.46. */
static void
test_clock_is_not_set(void **state)
{
	off_t from;

	set_keys("k1", "");
	begin();
	settle();
	from = log_end();
	year_1970 = true;
	for (int i = 0; i < 3; i++)
		expect_reason("k1", AUTH_UNABLE, "the clock is not set");
	year_1970 = false;
	expect("k1", AUTH_GOOD);
	assert_int_equal(count_lines(from, "event=clock"), 2);
}

/* Each issuer has its own keys, and its own misfortune. */
static void
test_several_issuers(void **state)
{
	struct report r;
	char token[2048];

	set_keys("k1", "");
	config.issuers[1] = config.issuers[0];
	config.issuers[1].issuer = STR("https://other.test");
	config.issuers[1].jwks_url = STR("http://127.0.0.1:1/");
	config.issuers_n = 2;
	begin();
	settle();
	expect("k1", AUTH_GOOD);
	r = (struct report){ 0 };
	oauth_check(oauth, 1, mint("https://other.test", "k1", token), WAIT_MS, note, &r);
	settle();
	assert_int_equal(r.calls, 1);
	assert_int_equal(r.outcome, AUTH_UNABLE);
}

/* A done that asks again, as a client with the next token does. */
static void
again(void *arg, const struct auth_result *a)
{
	struct report *r = arg;
	char token[2048];

	if (r->calls++ < 3)
		oauth_check(oauth, 1, mint("https://idp.test", "k9", token), WAIT_MS, again, r);
	r->outcome = a->outcome;
}

static void
test_done_may_check(void **state)
{
	struct report r = { 0 };
	char token[2048];

	set_keys("k1", "");
	begin();
	oauth_check(oauth, 1, mint("https://idp.test", "k9", token), WAIT_MS, again, &r);
	settle();
	assert_int_equal(r.calls, 4);
	assert_int_equal(r.outcome, AUTH_BAD);
}

static int
setup_all(void **state)
{
	if (mkdtemp(dir) == NULL)
		return -1;
	(void)snprintf(jwks_file, sizeof(jwks_file), "%s/jwks.json", dir);
	peer = peer_start(0);
	return peer == NULL ? -1 : 0;
}

static int
teardown_all(void **state)
{
	peer_stop(peer);
	return rmdir(dir);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_result), T(test_unknown_key_is_fetched_once_a_minute), T(test_waiting_is_bounded), T(test_wait_for_unknown_key_ends),
		T(test_freshness), T(test_bad_answers), T(test_retries), T(test_server_is_gone), T(test_discovery), T(test_file),
		T(test_clock_is_not_set), T(test_several_issuers), T(test_done_may_check),
	};

	int saved = dup(2);

	/* log.c keeps what standard error is when it begins */
	log_fd = memfd_create("log", MFD_CLOEXEC);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || saved == -1 || log_fd == -1 || dup2(log_fd, 2) == -1)
		return 1;
	log_init(LOG_INFO, LOG_LOGFMT, "test");
	if (dup2(saved, 2) == -1)
		return 1;
	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
