/*
 * test_loop.c - slots that have nothing to do are parked, and hear of what happens all the same.
 */
#include "loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SLOTS 100
#define FREED 8
#define PATIENCE_MS 10000

static struct loop loop;
static struct end {
	struct loop_slot slot;
	int		 fd, peer;
	short		 heard;		/* all that was said since it was last looked at */
	unsigned	 calls;
} ends[SLOTS];

static void
hear(void *arg, short revents)
{
	struct end *e = arg;
	char octets[16];

	e->heard |= revents;
	e->calls++;
	if ((revents & POLLIN) != 0)
		assert_true(read(e->fd, octets, sizeof(octets)) >= 0);
	if ((revents & POLLHUP) != 0)
		loop_remove(&e->slot);	/* it would be said at every turn */
}

static int
setup(void **state)
{
	(void)state;
	assert_int_equal(loop_init(&loop, SLOTS), 0);
	for (size_t i = 0; i < SLOTS; i++) {
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		ends[i] = (struct end){ .fd = pair[0], .peer = pair[1] };
		assert_int_equal(loop_add(&loop, &ends[i].slot, ends[i].fd, POLLIN, hear, &ends[i]), 0);
	}
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < SLOTS; i++) {
		loop_remove(&ends[i].slot);
		close(ends[i].fd);
		if (ends[i].peer != -1)
			close(ends[i].peer);
	}
	assert_int_equal(loop.n, 1);
	assert_int_equal(loop.polled, 1);
	loop_clear(&loop);
	return 0;
}

static bool
is_parked(const struct end *e)
{
	return e->slot.index >= loop.polled;
}

/* Turn until all but some are parked, which takes a while without anything happening. */
static void
idle(void)
{
	int64_t end = loop_clock_ms() + PATIENCE_MS;

	while (loop.polled > 64) {
		assert_true(loop_clock_ms() < end);
		assert_int_equal(loop_turn(&loop, 5), 0);
	}
}

static struct end *
a_parked_one(void)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (is_parked(&ends[i]))
			return &ends[i];
	fail();
	return NULL;
}

static void
turn_until(const struct end *e, short what)
{
	int64_t end = loop_clock_ms() + PATIENCE_MS;

	while ((e->heard & what) == 0) {
		assert_true(loop_clock_ms() < end);
		assert_int_equal(loop_turn(&loop, 5), 0);
	}
}

static void
a_parked_slot_hears(void **state)
{
	struct end *e;

	(void)state;
	idle();
	e = a_parked_one();
	assert_int_equal(write(e->peer, "x", 1), 1);
	turn_until(e, POLLIN);
	assert_int_equal(e->calls, 1);
	assert_false(is_parked(e));
	for (size_t i = 0; i < SLOTS; i++)
		assert_true(&ends[i] == e || ends[i].calls == 0);
}

/* One that wants to know nothing hears that the other side has gone, and nothing else. */
static void
a_parked_slot_that_wants_nothing(void **state)
{
	struct end *e, *other;

	(void)state;
	for (size_t i = 0; i < SLOTS; i++)
		loop_events(&ends[i].slot, 0);
	idle();
	e = a_parked_one();
	assert_int_equal(write(e->peer, "x", 1), 1);
	other = e == &ends[0] ? &ends[1] : &ends[0];
	assert_int_equal(close(other->peer), 0);
	other->peer = -1;
	turn_until(other, POLLHUP);
	assert_int_equal(e->calls, 0);
	loop_events(&e->slot, POLLIN);	/* now it does */
	turn_until(e, POLLIN);
	assert_int_equal(e->calls, 1);
}

static void
wishes_change_while_parked(void **state)
{
	struct end *e;

	(void)state;
	idle();
	e = a_parked_one();
	loop_events(&e->slot, POLLOUT);
	turn_until(e, POLLOUT);
	loop_events(&e->slot, 0);
	e->heard = 0;
	assert_int_equal(write(e->peer, "x", 1), 1);
	idle();
	assert_int_equal(e->heard, 0);
}

static void
removed_while_parked(void **state)
{
	struct end *e;

	(void)state;
	idle();
	e = a_parked_one();
	loop_remove(&e->slot);
	assert_int_equal(write(e->peer, "x", 1), 1);
	for (size_t i = 0; i < SLOTS; i++)
		if (ends[i].slot.loop != NULL && is_parked(&ends[i])) {
			assert_int_equal(write(ends[i].peer, "x", 1), 1);
			turn_until(&ends[i], POLLIN);
			break;
		}
	assert_int_equal(e->calls, 0);
}

static struct loop_slot *freed[FREED];

/* The slot of any of them ends all of them. */
static void
end_all(void *arg, short revents)
{
	unsigned *calls = arg;

	(void)revents;
	(*calls)++;
	for (size_t i = 0; i < FREED; i++) {
		loop_remove(freed[i]);
		free(freed[i]);
	}
}

/* Ready in the same turn as the one whose function frees them: not looked at again. */
static void
freed_while_ready(void **state)
{
	unsigned calls = 0;

	(void)state;
	for (size_t i = 0; i < FREED; i++) {	/* each in the place of another */
		struct loop_slot *s = calloc(1, sizeof(*s));

		assert_non_null(s);
		loop_remove(&ends[i].slot);
		assert_int_equal(loop_add(&loop, s, ends[i].fd, POLLIN, end_all, &calls), 0);
		freed[i] = s;
	}
	idle();
	for (size_t i = 0; i < FREED + 3; i++)
		assert_int_equal(write(ends[i].peer, "x", 1), 1);
	for (size_t i = 0; i < 3; i++)
		turn_until(&ends[FREED + i], POLLIN);
	assert_int_equal(calls, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_parked_slot_hears, setup, teardown),
		cmocka_unit_test_setup_teardown(a_parked_slot_that_wants_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(wishes_change_while_parked, setup, teardown),
		cmocka_unit_test_setup_teardown(removed_while_parked, setup, teardown),
		cmocka_unit_test_setup_teardown(freed_while_ready, setup, teardown),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
