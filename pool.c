/*
 * pool.c - blocks of one size in memory that costs nothing until it is touched.
 */
#include "pool.h"

#include <sys/mman.h>

void *
pool_reserve(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int
pool_init(struct pool *p, size_t size, size_t n)
{
	void *memory = pool_reserve(size * n), *list = pool_reserve(sizeof(*p->free) * n);

	if (memory == NULL || list == NULL)
		return -1;
	*p = (struct pool){ .memory = memory, .free = list, .size = size };
	return 0;
}

void *
pool_take(struct pool *p)
{
	uint32_t block = p->free_n > 0 ? p->free[--p->free_n] : p->fresh++;

	return p->memory + (size_t)block * p->size;
}

void
pool_give(struct pool *p, const void *block)
{
	p->free[p->free_n++] = (uint32_t)((size_t)((const char *)block - p->memory) / p->size);
}
