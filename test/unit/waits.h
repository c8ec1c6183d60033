/*
 * waits.h - for tests with a loop: turns until a callback has counted its call, and descriptors that nobody left open.
 */
#ifndef WAITS_H
#define WAITS_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop.h"

/* Turns of the test's own loop until o->calls is 1. */
#define wait_for(o) wait_for_call(&loop, &(o)->calls)

static inline void
wait_for_call(struct loop *l, const unsigned *calls)
{
	for (int64_t end = loop_clock_ms() + 20000; *calls == 0 && loop_clock_ms() < end;)
		assert_int_equal(loop_turn(l, 100), 0);
	assert_int_equal(*calls, 1);
}

static inline int
count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

#endif
