/*
 * test_procstat.c - what /proc tells, from made-up and from real files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "procstat.h"

#define STAT " S 1 1 1 0 -1 4194304 1 2 3 4 150 50 30 20 20 0 1 0 9 9 9\n"

static void
files(void **state)
{
	static const struct {
		const char	*stat, *statm;
		bool		 good;
	} rows[] = {
		{ "1 (smtpd)" STAT, "1000 30 20 5 0 6 0\n", true },
		{ "1 (a) b (c) S 1)" STAT, "1000 30 20 5 0 6 0\n", true },
		{ "1 (smtpd) S 1 1 1 0 -1 4194304 1 2 3 4 150 50 30 20", "1 30 20", true },
		{ "1 (smtpd) S 1 1 1 0 -1 4194304 1 2 3 4 150 50 30", "1 30 20", false },
		{ "1 (smtpd" STAT, "1000 30 20 5 0 6 0\n", false },
		{ "", "1000 30 20 5 0 6 0\n", false },
		{ "1 (smtpd)" STAT, "1000 30\n", false },
		{ "1 (smtpd)" STAT, "", false },
		{ "1 (smtpd)" STAT, "1000 20 30 5 0 6 0\n", false },
		{ "1 (smtpd)" STAT, "1000 -1 20 5 0 6 0\n", false },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct procstat sum = { .cpu_us = 1, .own = 1, .shared = 1 };

		print_message("%s | %s\n", rows[i].stat, rows[i].statm);
		assert_int_equal(procstat_parse(&sum, text_span(rows[i].stat), text_span(rows[i].statm), 100, 4096), rows[i].good);
		assert_int_equal(sum.cpu_us, rows[i].good ? 2500001 : 1);
		assert_int_equal(sum.own, rows[i].good ? 10 * 4096 + 1 : 1);
		assert_int_equal(sum.shared, rows[i].good ? 20 * 4096 : 1);
	}
}

static void
ourselves(void **state)
{
	struct procstat sum = { 0 };
	size_t fds = procstat_fds();
	int fd;

	procstat_add(&sum, -1);
	assert_int_equal(sum.own, 0);
	procstat_add(&sum, getpid());
	assert_in_range(sum.own, 4096, UINT64_C(1) << 40);
	assert_in_range(sum.cpu_us, 0, UINT64_C(1000000) * 60);
	fd = dup(0);
	assert_int_not_equal(fd, -1);
	assert_int_equal(procstat_fds(), fds + 1);
	close(fd);
	assert_int_equal(procstat_fds(), fds);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(files), cmocka_unit_test(ourselves) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
