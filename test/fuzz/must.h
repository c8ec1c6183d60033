/*
 * must.h - assert() that no build leaves out.
 */
#ifndef MUST_H
#define MUST_H

#include <stdbool.h>
#include <stdlib.h>

static inline void
must(bool holds)
{
	if (!holds)
		abort();
}

#endif
