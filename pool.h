/*
 * pool.h - blocks of one size in memory that costs nothing until it is touched; the last given back is the next given out.
 */
#ifndef POOL_H
#define POOL_H

#include "text.h"

struct pool {
	char		*memory;
	uint32_t	*free;		/* numbers of blocks given back, free[0..free_n - 1] */
	uint32_t	 free_n, fresh;	/* fresh: the first that was never given out */
	size_t		 size;
};

/* So many octets, all zero, that cost nothing until they are touched; NULL with errno. They are given back by munmap(2), or never. */
void	*pool_reserve(size_t n);
/* n blocks of size octets; 0, or -1 with errno. It lives as long as its process. */
int	 pool_init(struct pool *p, size_t size, size_t n);
/* A block, with whatever is in it; all zero when it was never given out. The caller does not hold more than n at once. */
void	*pool_take(struct pool *p);
void	 pool_give(struct pool *p, const void *block);

#endif
