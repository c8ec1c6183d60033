/*
 * limits.c - what is counted over all processes: connections and spool memory.
 *
 * A sum over all rows and then an addition is no atomic step: two fronts may pass a bound together, by one connection or one
 * step of spool memory each. That is the price of needing no lock that a dying process could hold.
 */
#include "limits.h"

#include <sys/mman.h>

struct limits *
limits_new(void)
{
	void *p = mmap(NULL, sizeof(struct limits), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int
limits_row_take(struct limits *l)
{
	for (int i = 0; i < LIMITS_ROWS; i++) {
		if (l->rows[i].taken != 0)
			continue;
		l->rows[i].connections = 0;
		l->rows[i].spool = 0;
		l->rows[i].taken = 1;
		return i;
	}
	return -1;
}

void
limits_row_free(struct limits *l, int row)
{
	l->rows[row].connections = 0;
	l->rows[row].spool = 0;
	l->rows[row].taken = 0;
}

bool
limits_connect(struct limits *l, int row, unsigned max)
{
	uint64_t sum = 0;

	for (int i = 0; i < LIMITS_ROWS; i++)
		sum += atomic_load_explicit(&l->rows[i].connections, memory_order_relaxed);
	if (sum >= max)
		return false;
	atomic_fetch_add_explicit(&l->rows[row].connections, 1, memory_order_relaxed);
	return true;
}

void
limits_disconnect(struct limits *l, int row)
{
	atomic_fetch_sub_explicit(&l->rows[row].connections, 1, memory_order_relaxed);
}

uint64_t
limits_spool_used(const struct limits *l)
{
	uint64_t sum = 0;

	for (int i = 0; i < LIMITS_ROWS; i++)
		sum += atomic_load_explicit(&l->rows[i].spool, memory_order_relaxed);
	return sum * LIMITS_SPOOL_STEP;
}

bool
limits_spool(struct limits *l, int row, uint64_t max)
{
	if (limits_spool_used(l) + LIMITS_SPOOL_STEP > max)
		return false;
	atomic_fetch_add_explicit(&l->rows[row].spool, 1, memory_order_relaxed);
	return true;
}

void
limits_unspool(struct limits *l, int row, uint32_t steps)
{
	atomic_fetch_sub_explicit(&l->rows[row].spool, steps, memory_order_relaxed);
}
