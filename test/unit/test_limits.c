/*
 * test_limits.c - counts in shared memory: rows of fronts, failed authentications (cases 7.9, 7.11).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "limits.h"

#define MINUTE (60 * 1000)
#define PER_IP 20

static struct limits *limits;

static int
setup(void **state)
{
	limits = limits_new();
	return limits == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	assert_int_equal(munmap(limits->rows, LIMITS_ROWS * sizeof(*limits->rows)), 0);
	limits_auth_drop(limits);
	assert_null(limits->failures);
	free(limits);
	return 0;
}

static void
failed(const char *address, const char *user, unsigned times, int64_t now_ms)
{
	while (times-- > 0)
		limits_auth_failed(limits, address, user, PER_IP, now_ms);
}

static bool
out(const char *address, const char *user, int64_t now_ms)
{
	return limits_auth_is_out(limits, address, user, PER_IP, now_ms);
}

static void
rows(void **state)
{
	int row = limits_row_take(limits), other = limits_row_take(limits);

	assert_int_equal(row, 0);
	assert_int_equal(other, 1);
	assert_true(limits_connect(limits, row, 2));
	assert_true(limits_connect(limits, other, 2));
	assert_false(limits_connect(limits, row, 2));
	limits_row_free(limits, other);
	assert_true(limits_connect(limits, row, 2));
	limits_disconnect(limits, row);
	assert_true(limits_spool(limits, row, LIMITS_SPOOL_STEP));
	assert_false(limits_spool(limits, row, 2 * LIMITS_SPOOL_STEP - 1));
	assert_int_equal(limits_spool_used(limits), LIMITS_SPOOL_STEP);
	limits_unspool(limits, row, 1);
	assert_int_equal(limits_spool_used(limits), 0);
	for (int i = 1; i < LIMITS_ROWS; i++)
		assert_int_equal(limits_row_take(limits), i);
	assert_int_equal(limits_row_take(limits), -1);
}

/* The vectors of its authors: key 00 01 .. 0f, input 00 01 .. (len - 1). */
static void
the_hash_is_siphash(void **state)
{
	static const struct {
		size_t		len;
		uint64_t	want;
	} vectors[] = {
		{ 0, 0x726fdb47dd0e0e31 }, { 1, 0x74f839c593dc67fd }, { 7, 0xab0200f58b01d137 }, { 8, 0x93f5f5799a932462 },
		{ 15, 0xa129ca6149be45e5 }, { 16, 0x3f2acc7f57c29bdb }, { 63, 0x958a324ceb064572 },
	};
	uint8_t key[16], in[64];

	for (uint8_t i = 0; i < sizeof(in); i++)
		in[i] = i;
	memcpy(key, in, sizeof(key));
	for (size_t i = 0; i < COUNT(vectors); i++) {
		print_message("  %zu octets\n", vectors[i].len);
		assert_true(limits_siphash(key, in, vectors[i].len) == vectors[i].want);
	}
}

static void
by_address(void **state)
{
	char user[32];

	for (unsigned i = 0; i < PER_IP; i++) {
		assert_false(out("192.0.2.1", NULL, 1000));
		(void)snprintf(user, sizeof(user), "user%u@x.test", i);
		failed("192.0.2.1", i % 2 == 0 ? user : "", 1, 1000);
	}
	assert_true(out("192.0.2.1", NULL, 1000));
	assert_true(out("192.0.2.1", "bob@x.test", 1000));
	assert_false(out("192.0.2.2", "user0@x.test", 1000));	/* never by user alone */
	limits_auth_good(limits, "192.0.2.1", "user0@x.test");	/* one who had begun before */
	assert_true(out("192.0.2.1", NULL, 1000));
	assert_true(out("192.0.2.1", NULL, 1000 + LIMITS_AUTH_OUT_MS - 1));
	assert_false(out("192.0.2.1", NULL, 1000 + LIMITS_AUTH_OUT_MS));
	/* and then begins anew */
	failed("192.0.2.1", NULL, PER_IP - 1, 1000 + LIMITS_AUTH_OUT_MS);
	assert_false(out("192.0.2.1", NULL, 1000 + LIMITS_AUTH_OUT_MS));
	failed("192.0.2.1", NULL, 1, 1000 + LIMITS_AUTH_OUT_MS);
	assert_true(out("192.0.2.1", NULL, 1000 + LIMITS_AUTH_OUT_MS));
}

static void
by_address_and_user(void **state)
{
	failed("192.0.2.1", "bob@x.test", LIMITS_AUTH_PER_USER - 1, 1000);
	assert_false(out("192.0.2.1", "bob@x.test", 1000));
	limits_auth_good(limits, "192.0.2.1", "bob@x.test");
	failed("192.0.2.1", "bob@x.test", LIMITS_AUTH_PER_USER - 1, 1000);
	assert_false(out("192.0.2.1", "bob@x.test", 1000));
	failed("192.0.2.1", "bob@x.test", 1, 1000);
	assert_true(out("192.0.2.1", "bob@x.test", 1000));
	assert_false(out("192.0.2.1", "alice@x.test", 1000));
	assert_false(out("192.0.2.1", NULL, 1000));
	assert_false(out("192.0.2.1", "", 1000));
	assert_false(out("192.0.2.2", "bob@x.test", 1000));
	limits_auth_good(limits, "192.0.2.1", "alice@x.test");
	assert_true(out("192.0.2.1", "bob@x.test", 1000));
	/* nine failures of the address: 20 need eleven more, a success of bob's forgets none of them */
	limits_auth_good(limits, "192.0.2.1", "bob@x.test");
	assert_false(out("192.0.2.1", "bob@x.test", 1000));
	failed("192.0.2.1", NULL, 10, 1000);
	assert_false(out("192.0.2.1", NULL, 1000));
	failed("192.0.2.1", NULL, 1, 1000);
	assert_true(out("192.0.2.1", "bob@x.test", 1000));
}

static void
windows(void **state)
{
	failed("192.0.2.1", NULL, PER_IP - 1, 1000);
	failed("192.0.2.1", NULL, 1, 1000 + LIMITS_AUTH_WINDOW_MS);	/* the first of the next window */
	assert_false(out("192.0.2.1", NULL, 1000 + LIMITS_AUTH_WINDOW_MS));
	failed("192.0.2.1", NULL, PER_IP - 2, 1000 + 2 * LIMITS_AUTH_WINDOW_MS - 1000);
	assert_false(out("192.0.2.1", NULL, 1000 + 2 * LIMITS_AUTH_WINDOW_MS - 1000));
	failed("192.0.2.1", NULL, 1, 1000 + 2 * LIMITS_AUTH_WINDOW_MS - 1000);
	assert_true(out("192.0.2.1", NULL, 1000 + 2 * LIMITS_AUTH_WINDOW_MS - 1000));
	/* what was under way when it went out does not make it longer */
	failed("192.0.2.1", NULL, 1, 10 * MINUTE + 2000);
	assert_true(out("192.0.2.1", NULL, 24 * MINUTE));
	assert_false(out("192.0.2.1", NULL, 25 * MINUTE));
}

static void
addresses(void **state)
{
	static const struct {
		const char	*failed, *asked;
		bool		 out;
	} table[] = {
		{ "192.0.2.1", "192.0.2.1", true },
		{ "192.0.2.1", "::ffff:192.0.2.1", true },
		{ "::ffff:192.0.2.1", "192.0.2.1", true },
		{ "::ffff:192.0.2.1", "::ffff:192.0.2.2", false },
		{ "2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true },	/* one /64 */
		{ "2001:db8:1:2::1", "2001:db8:1:3::1", false },
		{ "::1", "192.0.2.1", false },
		{ "", "", false },
		{ "unknown", "unknown", false },
		{ "192.0.2.1x", "192.0.2.1x", false },
	};

	for (size_t i = 0; i < COUNT(table); i++) {
		print_message("  %s %s\n", table[i].failed, table[i].asked);
		memset(limits->failures->table, 0, sizeof(limits->failures->table));
		failed(table[i].failed, NULL, PER_IP, 1000);
		assert_int_equal(out(table[i].asked, NULL, 1000), table[i].out);
	}
}

static void
off_and_other_bounds(void **state)
{
	for (int i = 0; i < 100; i++)
		limits_auth_failed(limits, "192.0.2.1", "bob@x.test", 0, 1000);
	assert_false(limits_auth_is_out(limits, "192.0.2.1", "bob@x.test", 0, 1000));
	assert_false(limits_auth_is_out(limits, "192.0.2.1", "bob@x.test", 1, 1000));
	limits_auth_failed(limits, "192.0.2.1", "bob@x.test", 1, 1000);
	assert_true(limits_auth_is_out(limits, "192.0.2.1", NULL, 1, 1000));
	assert_false(limits_auth_is_out(limits, "192.0.2.1", NULL, 0, 1000));	/* turned off by a reload */
}

/* Case 7.11: 10^6 addresses: the memory stays what it is, who is out stays out, and it takes no longer at the end. */
static void
a_flood(void **state)
{
	struct rusage before, after;
	char address[64];

	failed("192.0.2.1", NULL, PER_IP, 1000);
	failed("192.0.2.2", "bob@x.test", 1, 1000);
	assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
	for (unsigned i = 0; i < 1000000; i++) {
		(void)snprintf(address, sizeof(address), "2001:db8:%x:%x::1", i >> 16, i & 0xffff);
		failed(address, NULL, 1, 2000);
	}
	assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
	print_message("  %ld ms, %ld KiB more\n", (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000 +
	    (after.ru_utime.tv_usec - before.ru_utime.tv_usec) / 1000, after.ru_maxrss - before.ru_maxrss);
	assert_true(sizeof(*limits->failures) <= 65536 + 16);
	assert_true(out("192.0.2.1", NULL, 2000));
	/* an entry that is not out is gone: it has to fail from the beginning */
	failed("192.0.2.2", "bob@x.test", LIMITS_AUTH_PER_USER - 1, 2000);
	assert_false(out("192.0.2.2", "bob@x.test", 2000));
	/* a set full of those that are out gives way to the next */
	for (unsigned i = 0; i < 2 * LIMITS_FAILURE_SETS * LIMITS_FAILURE_WAYS; i++) {
		(void)snprintf(address, sizeof(address), "2001:db8:%x:%x::2", i >> 16, i & 0xffff);
		failed(address, NULL, PER_IP, 3000);
		assert_true(out(address, NULL, 3000));
	}
}

/* Several agents at once: nothing is corrupt, and what is counted in a row afterwards is exact. */
static void
agents_at_once(void **state)
{
	pid_t pids[3];
	char address[64];

	for (unsigned p = 0; p < COUNT(pids); p++) {
		pids[p] = fork();
		assert_true(pids[p] != -1);
		for (unsigned i = 0; pids[p] == 0 && i < 20000; i++) {
			(void)snprintf(address, sizeof(address), "2001:db8:1:%x::", i % 6000);
			limits_auth_failed(limits, address, i % 3 == 0 ? "bob@x.test" : NULL, PER_IP, 1000 + i);
			(void)limits_auth_is_out(limits, address, "bob@x.test", PER_IP, 1000 + i);
			limits_auth_good(limits, address, "bob@x.test");
		}
		if (pids[p] == 0)
			_exit(0);
	}
	for (size_t p = 0; p < COUNT(pids); p++) {
		int status;

		assert_int_equal(waitpid(pids[p], &status, 0), pids[p]);
		assert_int_equal(status, 0);
	}
	for (size_t i = 0; i < LIMITS_FAILURE_SETS * LIMITS_FAILURE_WAYS; i++) {
		const struct limits_failure *f = &limits->failures->table[i / LIMITS_FAILURE_WAYS][i % LIMITS_FAILURE_WAYS];

		assert_true(f->until <= 1000 + LIMITS_AUTH_OUT_MS / 1000 + 1);
		assert_true(f->since <= 22);
		assert_true(f->count <= PER_IP + COUNT(pids));
	}
	failed("192.0.2.1", NULL, PER_IP - 1, 60 * MINUTE);
	assert_false(out("192.0.2.1", NULL, 60 * MINUTE));
	failed("192.0.2.1", NULL, 1, 60 * MINUTE);
	assert_true(out("192.0.2.1", NULL, 60 * MINUTE));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(rows, setup, teardown),
		cmocka_unit_test(the_hash_is_siphash),
		cmocka_unit_test_setup_teardown(by_address, setup, teardown),
		cmocka_unit_test_setup_teardown(by_address_and_user, setup, teardown),
		cmocka_unit_test_setup_teardown(windows, setup, teardown),
		cmocka_unit_test_setup_teardown(addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(off_and_other_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(a_flood, setup, teardown),
		cmocka_unit_test_setup_teardown(agents_at_once, setup, teardown),
	};

	return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
