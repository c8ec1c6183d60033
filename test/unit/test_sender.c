/*
 * test_sender.c - sender_check and senders_file.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "auth.h"
#include "sender.h"

#define ADDRESSES_MAX 100000

static char folder[] = "/tmp/test_sender.XXXXXX", path[64], none[] = "", *domains[] = { (char[]){ "local.test" }, NULL };
static struct config config;
static int64_t now_ms = 1000000;

static void
put_octets(struct span text)
{
	char other[80];
	int fd;

	(void)snprintf(other, sizeof(other), "%s.new", path);
	fd = open(other, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd != -1);
	assert_int_equal(write(fd, text.p, text.len), (ssize_t)text.len);
	close(fd);
	assert_int_equal(rename(other, path), 0);
}

static void
put(const char *text)
{
	put_octets(text_span(text));
}

static struct senders *
start(enum sender_check check, const char *text)
{
	struct senders *s;

	config = (struct config){ .sender_check = check, .domains = { domains, 1 }, .senders_file = text == NULL ? none : path };
	if (text != NULL)
		put(text);
	s = senders_new(&config);
	assert_non_null(s);
	return s;
}

static bool
allows(struct senders *s, const char *user, const char *address)
{
	struct mailbox m = { 0 };

	if (address[0] != '\0')
		assert_int_equal(smtp_mailbox(text_span(address), true, &m), SMTP_PATH_OK);
	return senders_allow(s, user, &m, now_ms);
}

struct row {
	const char	*user, *address;
	bool		 exact, domain;
};

static void
walk(const struct row *rows, size_t n, const char *file)
{
	for (enum sender_check check = SENDER_EXACT; check < SENDER__MAX; check++) {
		struct senders *s = start(check, file);

		for (size_t i = 0; i < n; i++) {
			print_message("  %d: %s as %s\n", (int)check, rows[i].user, rows[i].address);
			assert_int_equal(allows(s, rows[i].user, rows[i].address),
			    check == SENDER_OFF || (check == SENDER_EXACT ? rows[i].exact : rows[i].domain));
		}
		senders_free(s);
	}
}

static void
without_a_file(void **unused)
{
	static const struct row rows[] = {
		{ "bob@local.test", "bob@local.test", true, true },
		{ "bob@local.test", "BOB@LOCAL.TEST.", true, true },
		{ "bob@local.test", "\"b\\ob\"@local.test", true, true },
		{ "\"b ob\"@local.test", "\"B ob\"@local.test", true, true },
		{ "bob@xn--bcher-kva.test", "bob@B\xc3\x9c" "CHER.test", true, true },	/* case 9.4 */
		{ "b\xc3\xbc@local.test", "b\xc3\xbc@local.test", true, true },
		{ "b\xc3\xbc@local.test", "b\xc3\x9c@local.test", false, true },
		{ "admin@local.test", "\xd0\xb0" "dmin@local.test", false, true },	/* case 5.16 */
		{ "bob@local.test", "bob+tag@local.test", false, true },
		{ "bob@local.test", "bobby@local.test", false, true },
		{ "bob@local.test", "bo@local.test", false, true },
		{ "bob@local.test", "ceo@local.test", false, true },
		{ "bob@local.test", "\"bob@local.test\"@evil.test", false, false },
		{ "bob@local.test", "bob@sub.local.test", false, false },
		{ "bob@local.test", "bob@xlocal.test", false, false },
		{ "bob@local.test", "bob@test", false, false },
		{ "bob@local.test", "bob@other.test", false, false },
		{ "bob@[192.0.2.1]", "bob@[192.0.2.1]", true, true },
		{ "bob@local.test", "", false, false },
		{ "", "", false, false },
		{ "", "bob@local.test", false, false },
		{ "bob", "bob@local.test", false, false },	/* not the one form */
		{ "@local.test", "bob@local.test", false, false },
	};

	(void)unused;
	walk(rows, COUNT(rows), NULL);
}

static void
with_a_file(void **unused)
{
	static const char file[] =
	    "# comment\n"
	    "bob sales@local.test Info@OTHER.test.\t \"x\"@other.test   # more: no@other.test\r\n"
	    "\n"
	    "  Alice@LOCAL.test @all.test\n"
	    "bob not-an-address @b\xc3\xbc" "cher.test @ @@x.test @[192.0.2.1]\n"
	    "b:ad@ bob@other.test ceo@local.test\n"
	    "@local.test ceo@local.test\n"
	    "alone\n"
	    "@ ceo@local.test\n"
	    "carol@elsewhere.test carol@local.test";
	static const struct row rows[] = {
		{ "bob@local.test", "bob@local.test", true, true },
		{ "bob@local.test", "sales@local.test", true, true },
		{ "bob@local.test", "SALES@local.test", true, true },
		{ "bob@local.test", "info@other.test", true, true },
		{ "bob@local.test", "x@other.test", true, true },
		{ "bob@local.test", "no@other.test", false, false },
		{ "bob@local.test", "anyone@xn--bcher-kva.test", true, true },
		{ "bob@local.test", "anyone@sub.xn--bcher-kva.test", false, false },
		{ "bob@local.test", "x@[192.0.2.1]", false, false },
		{ "bob@local.test", "ceo@local.test", false, true },
		{ "bob@local.test", "y@other.test", false, false },
		{ "bob@local.test", "x@all.test", false, false },
		{ "bob@local.test", "", false, false },
		{ "bob@other.test", "sales@local.test", false, false },
		{ "alice@local.test", "anyone@all.test", true, true },
		{ "alice@local.test", "ANYONE@ALL.TEST", true, true },
		{ "alice@local.test", "anyone@sub.all.test", false, false },
		{ "alice@local.test", "anyone@small.test", false, false },
		{ "alice@local.test", "\"x@all.test\"@other.test", false, false },
		{ "alice@local.test", "sales@local.test", false, true },
		{ "alice@local.test", "info@other.test", false, false },
		{ "alone@local.test", "alone@local.test", true, true },
		{ "carol@elsewhere.test", "carol@local.test", true, true },
		{ "carol@local.test", "carol@elsewhere.test", false, false },
		{ "ice@local.test", "anyone@all.test", false, false },
	};

	(void)unused;
	walk(rows, COUNT(rows), file);
}

static void
it_is_read_again(void **unused)
{
	struct senders *s = start(SENDER_EXACT, "bob a@x.test\n");

	(void)unused;
	assert_true(allows(s, "bob@local.test", "a@x.test"));
	assert_false(allows(s, "bob@local.test", "b@x.test"));
	put("bob b@x.test longer@x.test\n");
	assert_true(allows(s, "bob@local.test", "a@x.test"));	/* not looked at so soon */
	now_ms += 1000;
	assert_false(allows(s, "bob@local.test", "a@x.test"));
	assert_true(allows(s, "bob@local.test", "b@x.test"));
	assert_int_equal(unlink(path), 0);
	now_ms += 1000;
	assert_false(allows(s, "bob@local.test", "b@x.test"));
	assert_true(allows(s, "bob@local.test", "bob@local.test"));
	put("bob b@x.test\n");
	now_ms += 1000;
	assert_true(allows(s, "bob@local.test", "b@x.test"));
	senders_free(s);

	put("");
	assert_int_equal(unlink(path), 0);
	s = senders_new(&config);
	assert_non_null(s);
	assert_false(allows(s, "bob@local.test", "b@x.test"));
	assert_true(allows(s, "bob@local.test", "bob@local.test"));
	senders_free(s);
	senders_free(NULL);
}

static void
a_hundred_thousand_addresses_and_one_more(void **unused)
{
	struct senders *s = start(SENDER_EXACT, "");
	struct buf b;
	char address[64];

	(void)unused;
	buf_init(&b, 16 * 1024 * 1024);
	for (unsigned i = 0; i < ADDRESSES_MAX / 2; i++)
		buf_printf(&b, "u%u a%u@x.test @d%u.test\n", i, i, i);
	assert_false(b.failed);
	put_octets(buf_span(&b));
	now_ms += 1000;
	for (unsigned i = 0; i < ADDRESSES_MAX / 2; i += 999) {
		char user[64];

		(void)snprintf(user, sizeof(user), "u%u@local.test", i);
		(void)snprintf(address, sizeof(address), "a%u@x.test", i);
		assert_true(allows(s, user, address));
		(void)snprintf(address, sizeof(address), "x@d%u.test", i);
		assert_true(allows(s, user, address));
		(void)snprintf(address, sizeof(address), "x@d%u.test", i + 1);
		assert_false(allows(s, user, address));
	}
	buf_add_str(&b, "u0 one@more.test\n");
	put_octets(buf_span(&b));
	now_ms += 1000;
	assert_false(allows(s, "u0@local.test", "one@more.test"));
	assert_false(allows(s, "u0@local.test", "a0@x.test"));	/* none of it counts, and the log says so */
	put("u0 one@more.test\n");
	now_ms += 1000;
	assert_true(allows(s, "u0@local.test", "one@more.test"));
	buf_clear(&b);
	senders_free(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_file), cmocka_unit_test(with_a_file), cmocka_unit_test(it_is_read_again),
		cmocka_unit_test(a_hundred_thousand_addresses_and_one_more),
	};
	int failed;

	if (mkdtemp(folder) == NULL)
		return 1;
	(void)snprintf(path, sizeof(path), "%s/senders", folder);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	(void)unlink(path);
	return failed != 0 || rmdir(folder) != 0;
}
