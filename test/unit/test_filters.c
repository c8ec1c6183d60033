/*
 * test_filters.c - what several spam checkers say, merged; the checkers are stand-ins that say what a row wants.
 */
#include "filters.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "hook.h"
#include "names.h"
#include "rspamd.h"

static char hostname[] = "mx.test", none[] = "";
static struct config config;
static struct loop loop;
static struct children *children;

/* ---- stand-ins ---- */

enum { UP = 0, BUSY = EAGAIN, LARGE = EFBIG };

static struct said {
	enum filter_action action;
	bool		 has_score;
	double		 score;
	bool		 is_spam;
	const char	*text;
	int		 error;		/* it cannot be started */
} said[3];
static unsigned starts_left = 1000000;	/* until all places are taken */
static struct {
	filter_done	*done;
	void		*arg;
	int64_t		 timeout_ms;
} asked[3];

struct rspamd *
rspamd_new(struct http *http, const struct checker *c)
{
	return (struct rspamd *)(uintptr_t)c;
}

void
rspamd_free(struct rspamd *r)
{
	(void)r;
}

struct rspamd_check *
rspamd_start(struct rspamd *r, const struct tx *tx, int64_t timeout_ms, filter_done *done, void *arg)
{
	size_t i = (size_t)((struct checker *)r - config.checkers);

	assert_int_equal(tx->session, 7);
	if (said[i].error != 0 || starts_left == 0) {
		errno = said[i].error != 0 ? said[i].error : BUSY;
		return NULL;
	}
	starts_left--;
	asked[i].done = done;
	asked[i].arg = arg;
	asked[i].timeout_ms = timeout_ms;
	return (struct rspamd_check *)&asked[i];
}

static void
answer(size_t i)
{
	struct filter_report r = { .action = said[i].action, .has_score = said[i].has_score, .score = said[i].score, .required = 15,
	    .is_spam = said[i].is_spam };

	if (said[i].error != 0)
		return;
	if (said[i].text != NULL)
		(void)text_copy(r.text, sizeof(r.text), text_span(said[i].text));
	asked[i].done(asked[i].arg, &r);
}

static struct names_wait *asker;	/* for a name; NULL: nobody */

struct names *
names_new(struct loop *l, struct children *c, child_fn *look_up)
{
	assert_ptr_equal(look_up, names_look_up);
	return (struct names *)&asker;
}

void
names_free(struct names *n)
{
	(void)n;
}

void
names_expect(struct names *n, const char *address)
{
	fail();
}

void
names_get(struct names *n, const char *address, struct names_wait *w, names_done *done, void *arg)
{
	assert_string_equal(address, "192.0.2.1");
	*w = (struct names_wait){ .done = done, .arg = arg };
	asker = w;
}

int
names_look_up(const void *address)
{
	return 1;
}

/* ---- the rows ---- */

#define NO { FILTER_ACCEPT, false, 0, false, NULL, UP }
#define SCORE(n) { FILTER_ACCEPT, true, n, false, NULL, UP }
#define SPAM(n) { FILTER_ACCEPT, true, n, true, NULL, UP }
#define REJECT(n) { FILTER_REJECT, true, n, false, "it is spam", UP }
#define SOFT(n) { FILTER_TEMPFAIL, true, n, false, "later", UP }
#define DOWN { FILTER_TROUBLE, false, 0, false, NULL, UP }
#define FULL { FILTER_ACCEPT, false, 0, false, NULL, BUSY }
#define BIG { FILTER_ACCEPT, false, 0, false, NULL, LARGE }

static const struct row {
	const char	*name;
	enum check_mode	 mode;
	unsigned	 reject, tempfail;
	enum fail_mode	 fail, one;	/* [spamcheck]'s, the second checker's */
	struct said	 said[3];
	size_t		 n;
	int		 code;		/* 0: nothing against it */
	bool		 is_spam;
} rows[] = {
	{ "ham", 0, 0, 0, FAIL_TEMPFAIL, 0, { SCORE(1) }, 1, 0, false },
	{ "its own word", 0, 0, 0, FAIL_TEMPFAIL, 0, { REJECT(20) }, 1, 550, false },
	{ "its own soft word", 0, 0, 0, FAIL_TEMPFAIL, 0, { SOFT(3) }, 1, 451, false },
	{ "no threshold asks less", 0, 30, 0, FAIL_TEMPFAIL, 0, { REJECT(20) }, 1, 550, false },
	{ "a threshold at its bound", 0, 7, 0, FAIL_TEMPFAIL, 0, { SCORE(7) }, 1, 550, false },
	{ "below it", 0, 7, 0, FAIL_TEMPFAIL, 0, { SCORE(6.9) }, 1, 0, false },
	{ "the lower one", 0, 7, 5, FAIL_TEMPFAIL, 0, { SCORE(6) }, 1, 451, false },
	{ "no score, no threshold", 0, 7, 5, FAIL_TEMPFAIL, 0, { NO }, 1, 0, false },
	{ "11.20 soft reject whatever the threshold", 0, 7, 0, FAIL_TEMPFAIL, 0, { SOFT(100) }, 1, 451, false },
	{ "flagged", 0, 0, 0, FAIL_TEMPFAIL, 0, { SPAM(7) }, 1, 0, true },
	{ "the first that refuses", CHECK_FIRST_REJECT, 0, 0, FAIL_TEMPFAIL, 0, { SCORE(1), SOFT(2), REJECT(20) }, 3, 451, false },
	{ "one refuses", CHECK_FIRST_REJECT, 0, 0, FAIL_TEMPFAIL, 0, { SCORE(1), SCORE(1), REJECT(20) }, 3, 550, false },
	{ "not all refuse", CHECK_ALL_REJECT, 0, 0, FAIL_TEMPFAIL, 0, { REJECT(20), SCORE(1), REJECT(20) }, 3, 0, false },
	{ "all refuse", CHECK_ALL_REJECT, 0, 0, FAIL_TEMPFAIL, 0, { REJECT(20), REJECT(30) }, 2, 550, false },
	{ "the highest accepts", CHECK_HIGHEST_SCORE, 0, 0, FAIL_TEMPFAIL, 0, { REJECT(5), SCORE(6) }, 2, 0, false },
	{ "the highest refuses", CHECK_HIGHEST_SCORE, 0, 0, FAIL_TEMPFAIL, 0, { SCORE(5), REJECT(6) }, 2, 550, false },
	{ "a score beats none", CHECK_HIGHEST_SCORE, 0, 0, FAIL_TEMPFAIL, 0, { NO, REJECT(-1) }, 2, 550, false },
	{ "one is down", 0, 0, 0, FAIL_TEMPFAIL, 0, { DOWN, SCORE(1) }, 2, 0, false },
	{ "one is down, the other refuses", 0, 0, 0, FAIL_OPEN, 0, { DOWN, REJECT(20) }, 2, 550, false },
	{ "one is down, all that are left refuse", CHECK_ALL_REJECT, 0, 0, FAIL_TEMPFAIL, 0, { REJECT(20), DOWN }, 2, 550, false },
	{ "one is down, all that are left accept", CHECK_ALL_REJECT, 0, 0, FAIL_TEMPFAIL, 0, { DOWN, SCORE(1) }, 2, 0, false },
	{ "one is down, what is left is the highest", CHECK_HIGHEST_SCORE, 0, 0, FAIL_TEMPFAIL, 0, { DOWN, SCORE(1) }, 2, 0, false },
	{ "one is down, what is left is the highest and refuses", CHECK_HIGHEST_SCORE, 0, 0, FAIL_OPEN, 0, { DOWN, REJECT(20) }, 2, 550, false },
	{ "all are down, all to refuse", CHECK_ALL_REJECT, 0, 0, FAIL_TEMPFAIL, 0, { DOWN, DOWN }, 2, 451, false },
	{ "all are down, none is the highest", CHECK_HIGHEST_SCORE, 0, 0, FAIL_TEMPFAIL, 0, { DOWN, DOWN }, 2, 451, false },
	{ "all are down", 0, 0, 0, FAIL_TEMPFAIL, 0, { DOWN, DOWN }, 2, 451, false },
	{ "all are down, open", 0, 0, 0, FAIL_OPEN, 0, { DOWN, DOWN }, 2, 0, false },
	{ "all are down, reject", 0, 0, 0, FAIL_REJECT, 0, { DOWN, DOWN }, 2, 550, false },
	{ "all are down, the strictest of their modes", 0, 0, 0, FAIL_OPEN, FAIL_TEMPFAIL, { DOWN, DOWN }, 2, 451, false },
	{ "too many at once", 0, 0, 0, FAIL_TEMPFAIL, 0, { FULL }, 1, 451, false },
	{ "too large is no trouble", 0, 0, 0, FAIL_TEMPFAIL, 0, { BIG }, 1, 0, false },
	{ "too large for one", 0, 0, 0, FAIL_TEMPFAIL, 0, { BIG, REJECT(20) }, 2, 550, false },
	{ "too large for one, the other is down", 0, 0, 0, FAIL_TEMPFAIL, 0, { BIG, DOWN }, 2, 451, false },
};

static struct filters_story story;
static unsigned calls;

static void
note(void *arg, const struct filters_story *s)
{
	(void)arg;
	story = *s;
	calls++;
}

static void
configure(const struct row *t)
{
	config = (struct config){ .hostname = hostname, .user = none, .delivery_user = none, .spool_dir = none,
	    .max_header_size = 4096, .max_message_size = 65536, .check_mode = t->mode, .check_fail_mode = t->fail,
	    .reject_threshold = t->reject, .tempfail_threshold = t->tempfail, .checkers_n = t->n, .check_add_headers = true };
	for (size_t i = 0; i < t->n; i++) {
		(void)snprintf(config.checkers[i].name, sizeof(config.checkers[i].name), "c%zu", i);
		config.checkers[i].timeout_ms = 1;
		config.checkers[i].fail_mode = i == 1 ? t->one : FAIL_INHERIT;
	}
	memcpy(said, t->said, sizeof(said));
}

static bool
are_down(const struct row *t)
{
	bool down = true;

	for (size_t i = 0; i < t->n; i++)
		down = down && t->said[i].action == FILTER_TROUBLE;
	return down;
}

/* Whether any of them has looked at the message. */
static bool
has_word(const struct row *t)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->said[i].error == UP && t->said[i].action != FILTER_TROUBLE)
			return true;
	return false;
}

/* In every order of their answers the outcome is the same. */
static void
merging(void **state)
{
	static const size_t orders[][3] = { { 0, 1, 2 }, { 2, 1, 0 }, { 1, 2, 0 } };
	static const char message[] = "X-Spam-Flag: forged\nSubject: x\n\nbody\n";

	(void)state;
	for (size_t r = 0; r < COUNT(rows); r++) {
		for (size_t o = 0; o < COUNT(orders); o++) {
			const struct row *t = &rows[r];
			struct tx tx = { .session = 7, .config = &config, .client_address = "192.0.2.1", .helo = "h", .auth_user = "", .auth_type = "",
			    .tls_version = "", .tls_cipher = "", .tls_name = "", .fd = memfd_create("message", MFD_CLOEXEC),
			    .size = MESSAGE_ROOM + sizeof(message) - 1 };
			struct filters *f;
			char got[4096] = "";

			print_message("%s, order %zu\n", t->name, o);
			configure(t);
			assert_int_equal(pwrite(tx.fd, message, sizeof(message) - 1, MESSAGE_ROOM), sizeof(message) - 1);
			f = filters_new(&loop, &config, NULL, children, hooks_new(&loop, &config, children), NULL);
			assert_non_null(f);
			calls = 0;
			filters_message(f, &tx, note, NULL);
			for (size_t i = 0; i < 3; i++)
				if (orders[o][i] < t->n)
					answer(orders[o][i]);
			for (int i = 0; i < 3 && calls == 0; i++)	/* who is busy is waited for: here, for no time */
				assert_int_equal(loop_turn(&loop, 1), 0);
			assert_int_equal(calls, 1);
			assert_int_equal(filters_pending(f), 0);
			assert_int_equal(story.verdict.code, t->code);
			assert_int_equal(story.is_spam, t->is_spam);
			if (t->code != 0 && are_down(t))
				assert_string_equal(story.verdict.text, t->code == 550 ? "Spam check failed" :
				    "Temporary spam check failure, try again later");
			if (t->code != 0)
				assert_int_equal(story.reason, has_word(t) ? MR_SPAM : MR_FILTER);
			if (t->code == 0) {
				assert_true(pread(tx.fd, got, sizeof(got) - 1, (off_t)(tx.header_at == 0 ? MESSAGE_ROOM : tx.header_at)) > 0);
				assert_non_null(strstr(got, "Subject: x\n\nbody\n"));
				assert_null(strstr(got, "forged"));	/* case 9.12, whether or not one has looked at it */
				if (story.has_score)
					assert_non_null(strstr(got, t->is_spam ? "X-Spam-Flag: YES\n" : "X-Spam-Flag: NO\n"));
			}
			filters_free(f);
			close(tx.fd);
		}
	}
}

/* What the keys of a checker, and add_headers, make of its word; there may be a second one without any. */
static void
keys_of_a_checker(void **state)
{
#define REST "Subject: x\n\nbody\n"
	static const char message[] = "X-Spam-Flag: NO, forged\nx-spam-status: No, forged\n" REST;
	static const struct {
		const char	*name;
		struct said	 said[2];
		size_t		 n;
		bool		 discard, no_headers;
		unsigned	 reject;
		enum set_aside	 quarantine;
		enum oversize	 oversize;
		enum metrics_check counted;
		int		 code;
		bool		 discarded, is_spam;
		const char	*want;		/* NULL: not delivered */
	} table[] = {
		{ .name = "it is to vanish", .said = { { .action = FILTER_DISCARD, .is_spam = true } }, .n = 1, .code = 550, .is_spam = true,
		    .counted = MC_REJECT },
		{ .name = "and does", .said = { { .action = FILTER_DISCARD, .is_spam = true } }, .n = 1, .discard = true, .code = 550,
		    .discarded = true, .is_spam = true, .counted = MC_REJECT },
		{ .name = "a refusal is none", .said = { REJECT(20) }, .n = 1, .discard = true, .code = 550, .counted = MC_REJECT },
		{ .name = "to be set aside: refused", .said = { { .action = FILTER_QUARANTINE, .is_spam = true } }, .n = 1, .code = 550,
		    .is_spam = true, .counted = MC_FLAG },
		{ .name = "flagged", .said = { { .action = FILTER_QUARANTINE, .is_spam = true } }, .n = 1, .quarantine = ASIDE_FLAG,
		    .is_spam = true, .counted = MC_FLAG, .want = "X-Spam-Flag: YES\nX-Spam-Status: Yes\nX-Spam-Checker: c0\n" REST },
		{ .name = "flagged without other fields", .said = { { .action = FILTER_QUARANTINE, .is_spam = true } }, .n = 1, .no_headers = true,
		    .quarantine = ASIDE_FLAG, .is_spam = true, .counted = MC_FLAG, .want = "X-Spam-Flag: YES\n" REST },
		{ .name = "flagged though it is no spam", .said = { { .action = FILTER_QUARANTINE } }, .n = 1, .quarantine = ASIDE_FLAG,
		    .is_spam = true, .counted = MC_ACCEPT, .want = "X-Spam-Flag: YES\nX-Spam-Checker: c0\n" REST },
		{ .name = "a flag does not outvote a refusal", .said = { { .action = FILTER_QUARANTINE, .is_spam = true }, REJECT(20) }, .n = 2,
		    .quarantine = ASIDE_FLAG, .is_spam = true, .counted = MC_FLAG, .code = 550 },
		{ .name = "nor what the score asks for", .said = { { FILTER_QUARANTINE, true, 20, true, NULL, UP } }, .n = 1, .reject = 15,
		    .quarantine = ASIDE_FLAG, .is_spam = true, .counted = MC_FLAG, .code = 550 },
		{ .name = "flagged below it", .said = { { FILTER_QUARANTINE, true, 14, true, NULL, UP } }, .n = 1, .reject = 15, .no_headers = true,
		    .quarantine = ASIDE_FLAG, .is_spam = true, .counted = MC_FLAG, .want = "X-Spam-Flag: YES\n" REST },
		{ .name = "flagged where another has nothing against it", .said = { { .action = FILTER_QUARANTINE }, SCORE(1) }, .n = 2,
		    .quarantine = ASIDE_FLAG, .no_headers = true, .is_spam = true, .counted = MC_ACCEPT, .want = "X-Spam-Flag: YES\n" REST },
		{ .name = "no other fields", .said = { SPAM(7) }, .n = 1, .no_headers = true, .is_spam = true, .counted = MC_FLAG,
		    .want = "X-Spam-Flag: NO, forged\nx-spam-status: No, forged\n" REST },
		{ .name = "11.27 too large", .said = { BIG }, .n = 1, .counted = MC_SKIPPED, .want = REST },
		{ .name = "too large, put off", .said = { BIG }, .n = 1, .oversize = OVERSIZE_TEMPFAIL, .counted = MC_SKIPPED, .code = 451 },
		{ .name = "another accepts", .said = { BIG, SCORE(1) }, .n = 2, .oversize = OVERSIZE_TEMPFAIL, .counted = MC_SKIPPED, .code = 451 },
		{ .name = "another refuses", .said = { BIG, REJECT(20) }, .n = 2, .oversize = OVERSIZE_TEMPFAIL, .counted = MC_SKIPPED, .code = 550 },
		{ .name = "another need not see it", .said = { SCORE(1), BIG }, .n = 2, .oversize = OVERSIZE_TEMPFAIL, .counted = MC_ACCEPT,
		    .want = "X-Spam-Status: No, score=1.00 required=15.00\nX-Spam-Score: 1.00\nX-Spam-Flag: NO\nX-Spam-Checker: c0\n" REST },
		{ .name = "down is not too large", .said = { DOWN }, .n = 1, .oversize = OVERSIZE_TEMPFAIL, .counted = MC_ERROR, .want = REST },
	};
	struct metrics *m = metrics_new();
	unsigned slot = metrics_label(m, ML_CHECKER, SPAN("c0"));

	(void)state;
	assert_int_not_equal(slot, 0);
	for (size_t i = 0; i < COUNT(table); i++) {
		struct row row = { .n = table[i].n, .reject = table[i].reject, .fail = FAIL_OPEN, .said = { table[i].said[0], table[i].said[1] } };
		struct tx tx = { .session = 7, .config = &config, .client_address = "192.0.2.1", .helo = "h", .auth_user = "", .auth_type = "",
		    .tls_version = "", .tls_cipher = "", .tls_name = "", .fd = memfd_create("message", MFD_CLOEXEC),
		    .size = MESSAGE_ROOM + sizeof(message) - 1 };
		uint64_t counted = metrics_get(m, M_SPAM_CHECKS, slot, table[i].counted, 0);
		struct filters *f;
		char got[512] = "";

		print_message("%s\n", table[i].name);
		configure(&row);
		config.check_add_headers = !table[i].no_headers;
		config.checkers[0].discard = table[i].discard;
		config.checkers[0].quarantine = table[i].quarantine;
		config.checkers[0].oversize = table[i].oversize;
		assert_int_equal(pwrite(tx.fd, message, sizeof(message) - 1, MESSAGE_ROOM), sizeof(message) - 1);
		f = filters_new(&loop, &config, NULL, children, hooks_new(&loop, &config, children), m);
		assert_non_null(f);
		calls = 0;
		filters_message(f, &tx, note, NULL);
		for (size_t k = 0; k < table[i].n; k++)
			answer(k);
		assert_int_equal(calls, 1);
		assert_int_equal(story.verdict.code, table[i].code);
		assert_string_equal(story.verdict.esc, table[i].code == 0 ? "" : table[i].code == 451 ? "4.7.1" : "5.7.1");
		assert_int_equal(story.discarded, table[i].discarded);
		assert_int_equal(story.is_spam, table[i].is_spam);
		assert_true(metrics_get(m, M_SPAM_CHECKS, slot, table[i].counted, 0) == counted + 1);
		if (table[i].want != NULL) {
			assert_true(pread(tx.fd, got, sizeof(got) - 1, (off_t)(tx.header_at == 0 ? MESSAGE_ROOM : tx.header_at)) > 0);
			assert_string_equal(got, table[i].want);
		}
		filters_free(f);
		close(tx.fd);
	}
	metrics_free(m);
#undef REST
}

/* What no filter has refused. */
static void
refused_by_ourselves(void **state)
{
	static const struct {
		const char		*name;
		size_t			 header, in_file;	/* octets of its header, and those that are there */
		bool			 sealed;
		int			 code;
		enum metrics_reason	 reason;
	} faults[] = {
		{ "the changes have no room", 100, 8192, true, 452, MR_STORAGE },
		{ "more header than may be", 4097, 8192, false, 550, MR_SYNTAX },
		{ "it cannot be read", 100, 10, false, 451, MR_OTHER },
	};
	static const struct row row = { .said = { SCORE(1) }, .n = 1 };
	static char octets[8192];

	(void)state;
	for (size_t i = 0; i < COUNT(faults); i++) {
		struct tx tx = { .session = 7, .config = &config, .client_address = "192.0.2.1", .helo = "h", .auth_user = "", .auth_type = "",
		    .tls_version = "", .tls_cipher = "", .tls_name = "", .fd = memfd_create("message", MFD_CLOEXEC | MFD_ALLOW_SEALING),
		    .size = MESSAGE_ROOM + sizeof(octets) };
		struct filters *f;

		print_message("%s\n", faults[i].name);
		configure(&row);
		memset(octets, 'x', sizeof(octets));
		memcpy(octets, "X: ", 3);
		memcpy(octets + faults[i].header - 1, "\n\n", 2);
		assert_int_equal(pwrite(tx.fd, octets, faults[i].in_file, MESSAGE_ROOM), faults[i].in_file);
		if (faults[i].sealed)
			assert_int_equal(fcntl(tx.fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
		f = filters_new(&loop, &config, NULL, children, hooks_new(&loop, &config, children), NULL);
		assert_non_null(f);
		calls = 0;
		filters_message(f, &tx, note, NULL);
		if (calls == 0)
			answer(0);
		assert_int_equal(calls, 1);
		assert_int_equal(story.verdict.code, faults[i].code);
		assert_int_equal(story.reason, faults[i].reason);
		filters_free(f);
		close(tx.fd);
	}
}

/* More than max_checks: they wait, in their order. */
static void
a_place_is_waited_for(void **state)
{
	static const struct row row = { .said = { NO }, .n = 1 };
	static const char message[] = "Subject: x\n\nbody\n";
	struct tx tx[4], large;
	struct filters *f;

	(void)state;
	configure(&row);
	config.checkers[0].timeout_ms = 60000;
	config.checkers[0].max_size = sizeof(message);
	f = filters_new(&loop, &config, NULL, children, hooks_new(&loop, &config, children), NULL);
	assert_non_null(f);
	calls = 0;
	for (size_t i = 0; i < COUNT(tx); i++) {
		tx[i] = (struct tx){ .session = 7, .config = &config, .client_address = "192.0.2.1", .helo = "h", .auth_user = "", .auth_type = "",
		    .tls_version = "", .tls_cipher = "", .tls_name = "", .fd = memfd_create("message", MFD_CLOEXEC),
		    .size = MESSAGE_ROOM + sizeof(message) - 1 };
		assert_int_equal(pwrite(tx[i].fd, message, sizeof(message) - 1, MESSAGE_ROOM), sizeof(message) - 1);
		filters_message(f, &tx[i], note, NULL);
		said[0].error = BUSY;
	}
	assert_int_equal(loop_turn(&loop, 1), 0);
	assert_int_equal(filters_pending(f), COUNT(tx));
	/* what is too large for it has nothing to wait for */
	large = tx[0];
	large.size += 2;
	large.fd = memfd_create("message", MFD_CLOEXEC);
	assert_int_equal(ftruncate(large.fd, (off_t)large.size), 0);
	said[0].error = LARGE;
	filters_message(f, &large, note, NULL);
	assert_int_equal(calls, 1);
	close(large.fd);
	calls = 0;
	tx[1].abandoned = true;		/* with its turn it ends, and takes no place */
	for (unsigned n = 1; n < COUNT(tx); n++) {
		said[0].error = UP;
		answer(0);
		assert_int_equal(calls, n == 1 ? 1 : n + 1);
		assert_int_equal(story.verdict.code, 0);
		asked[0].done = NULL;
		said[0].error = UP;
		starts_left = 1;
		assert_int_equal(loop_turn(&loop, 1), 0);
		assert_true((asked[0].done != NULL) == (n < COUNT(tx) - 1));
	}
	assert_int_equal(filters_pending(f), 0);
	starts_left = 1000000;
	filters_free(f);
	for (size_t i = 0; i < COUNT(tx); i++)
		close(tx[i].fd);
}

/* A wait and the check after it have one timeout together; with nothing left of it, no check is begun. */
static void
a_wait_is_a_part_of_the_timeout(void **state)
{
	static const struct row row = { .said = { NO }, .n = 1, .fail = FAIL_TEMPFAIL };
	static const char message[] = "Subject: x\n\nbody\n";
	struct tx tx = { .session = 7, .config = &config, .client_address = "192.0.2.1", .helo = "h", .auth_user = "", .auth_type = "",
	    .tls_version = "", .tls_cipher = "", .tls_name = "", .fd = memfd_create("message", MFD_CLOEXEC),
	    .size = MESSAGE_ROOM + sizeof(message) - 1 };
	struct filters *f;
	int64_t began;

	(void)state;
	assert_int_equal(pwrite(tx.fd, message, sizeof(message) - 1, MESSAGE_ROOM), sizeof(message) - 1);
	configure(&row);
	config.checkers[0].max_size = sizeof(message);
	config.checkers[0].timeout_ms = 60000;
	f = filters_new(&loop, &config, NULL, children, hooks_new(&loop, &config, children), NULL);
	assert_non_null(f);
	calls = 0;
	filters_message(f, &tx, note, NULL);
	assert_int_equal(asked[0].timeout_ms, 60000);
	said[0].error = BUSY;
	began = loop.now_ms;
	filters_message(f, &tx, note, NULL);
	while (loop_clock_ms() < began + 20)
		assert_int_equal(loop_turn(&loop, 1), 0);
	said[0].error = UP;
	answer(0);
	assert_int_equal(loop_turn(&loop, 0), 0);
	assert_int_equal(asked[0].timeout_ms, 60000 - (loop.now_ms - began));
	answer(0);
	assert_int_equal(calls, 2);
	assert_int_equal(story.verdict.code, 0);

	config.checkers[0].timeout_ms = 20;
	filters_message(f, &tx, note, NULL);
	said[0].error = BUSY;
	filters_message(f, &tx, note, NULL);
	for (began = loop.now_ms; loop_clock_ms() < began + 21;)
		(void)poll(NULL, 0, 1);
	said[0].error = UP;	/* a place is free, in the moment in which it is too late */
	answer(0);
	asked[0].done = NULL;
	assert_int_equal(loop_turn(&loop, 0), 0);
	assert_null(asked[0].done);
	assert_int_equal(calls, 4);
	assert_int_equal(story.verdict.code, 451);
	filters_free(f);
	close(tx.fd);
}

/* Who looks at the message is told its client's name. */
static void
a_name_is_waited_for(void **state)
{
	static const struct row row = { .said = { NO }, .n = 1 };
	struct tx tx = { .session = 7, .config = &config, .client_address = "192.0.2.1", .helo = "h", .auth_user = "", .auth_type = "",
	    .tls_version = "", .tls_cipher = "", .tls_name = "", .size = MESSAGE_ROOM };
	struct filters *f;

	(void)state;
	configure(&row);
	config.client_names = true;
	f = filters_new(&loop, &config, NULL, children, hooks_new(&loop, &config, children), NULL);
	assert_non_null(f);
	calls = 0;
	tx.fd = memfd_create("message", MFD_CLOEXEC);
	assert_int_equal(ftruncate(tx.fd, MESSAGE_ROOM), 0);
	filters_message(f, &tx, note, NULL);
	assert_true(calls == 0 && asked[0].done == NULL && filters_pending(f) == 1);
	asker->done(asker->arg, "client.test");
	assert_non_null(asked[0].done);
	assert_string_equal(tx.client_name, "client.test");
	answer(0);
	assert_true(calls == 1 && story.verdict.code == 0 && filters_pending(f) == 0);
	filters_message(f, &tx, note, NULL);
	asker->done(asker->arg, "");	/* not known at this moment */
	assert_string_equal(tx.client_name, "client.test");
	answer(0);
	assert_int_equal(calls, 2);
	filters_free(f);
	close(tx.fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merging),
		cmocka_unit_test(keys_of_a_checker),
		cmocka_unit_test(refused_by_ourselves),
		cmocka_unit_test(a_place_is_waited_for), cmocka_unit_test(a_wait_is_a_part_of_the_timeout),
		cmocka_unit_test(a_name_is_waited_for),
	};

	log_init(LOG_ERROR, LOG_LOGFMT, "test");
	if (loop_init(&loop, 64) == -1 || (children = children_new(&loop, HOOKS_MAX)) == NULL)
		return 1;
	return cmocka_run_group_tests_name("filters", tests, NULL, NULL);
}
