/*
 * loop.c - poll slots and deadlines.
 *
 * fds[] is dense, so that poll(2) gets just the descriptors in use; a slot knows its index and the last one moves into a gap.
 */
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

int
loop_init(struct loop *l, size_t max)
{
	*l = (struct loop){ .max = max, .wake_at = LOOP_NEVER, .now_ms = loop_clock_ms() };
	l->fds = calloc(max, sizeof(*l->fds));
	l->slots = calloc(max, sizeof(*l->slots));
	if (l->fds != NULL && l->slots != NULL)
		return 0;
	loop_clear(l);
	errno = ENOMEM;
	return -1;
}

void
loop_clear(struct loop *l)
{
	free(l->fds);
	free(l->slots);
	*l = (struct loop){ 0 };
}

int
loop_add(struct loop *l, struct loop_slot *s, int fd, short events, loop_fn *fn, void *arg)
{
	assert(s->loop == NULL);
	if (l->n == l->max) {
		errno = ENOBUFS;
		return -1;
	}
	*s = (struct loop_slot){ .loop = l, .fn = fn, .arg = arg, .deadline_at = LOOP_NEVER, .index = l->n };
	l->slots[l->n] = s;
	l->fds[l->n] = (struct pollfd){ .fd = fd, .events = events };
	l->n++;
	return 0;
}

void
loop_remove(struct loop_slot *s)
{
	struct loop *l = s->loop;

	if (l == NULL)
		return;
	l->n--;
	if (s->index != l->n) {
		l->slots[s->index] = l->slots[l->n];
		l->fds[s->index] = l->fds[l->n];
		l->slots[s->index]->index = s->index;
	}
	s->loop = NULL;
}

void
loop_events(struct loop_slot *s, short events)
{
	assert(s->loop != NULL);
	s->loop->fds[s->index].events = events;
}

void
loop_deadline(struct loop_slot *s, int64_t at)
{
	s->deadline_at = at;
	if (s->loop != NULL && at < s->loop->wake_at)
		s->loop->wake_at = at;
}

/*
 * wake_at is only a lower bound (a deadline that moves away does not touch it), so that the slots are walked when it passes and
 * not at every turn.
 */
static void
fire_deadlines(struct loop *l)
{
	if (l->now_ms < l->wake_at)
		return;
	l->wake_at = LOOP_NEVER;
	for (size_t i = l->n; i-- > 0;) {
		struct loop_slot *s;

		if (i >= l->n)	/* a function has removed several */
			continue;
		s = l->slots[i];
		if (s->deadline_at <= l->now_ms) {
			s->deadline_at = LOOP_NEVER;
			s->fn(s->arg, 0);
		} else if (s->deadline_at < l->wake_at) {
			l->wake_at = s->deadline_at;
		}
	}
}

int
loop_turn(struct loop *l, int64_t max_ms)
{
	int64_t wait_ms = l->wake_at == LOOP_NEVER ? -1 : l->wake_at - loop_clock_ms();
	int ready;

	if (l->wake_at != LOOP_NEVER && wait_ms < 0)
		wait_ms = 0;
	if (max_ms >= 0 && (wait_ms < 0 || wait_ms > max_ms))
		wait_ms = max_ms;
	ready = poll(l->fds, l->n, wait_ms > INT32_MAX ? INT32_MAX : (int)wait_ms);
	if (ready == -1 && errno != EINTR)
		return -1;
	l->now_ms = loop_clock_ms();
	/* From the end: a slot that is removed is replaced by one that was already looked at. */
	for (size_t i = l->n; ready > 0 && i-- > 0;) {
		short revents;

		if (i >= l->n || (revents = l->fds[i].revents) == 0)
			continue;
		l->fds[i].revents = 0;
		ready--;
		l->slots[i]->fn(l->slots[i]->arg, revents);
	}
	fire_deadlines(l);
	return 0;
}

static int64_t
clock_us(void)
{
	struct timespec ts;

	/* cannot fail: CLOCK_MONOTONIC exists on every kernel we run on */
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
loop_clock_ms(void)
{
	return clock_us() / 1000;
}

int64_t
loop_clock_us(void)
{
	return clock_us();
}
