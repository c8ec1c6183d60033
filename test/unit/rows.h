/*
 * rows.h - for tests that walk a table of octets.
 */
#ifndef ROWS_H
#define ROWS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "text.h"

/* Octets in memory that ends where they end, so that a sanitizer sees a read past the end. */
static inline struct span
exact(struct span s)
{
	char *p = malloc(s.len + (s.len == 0));

	assert_non_null(p);
	if (s.len > 0)
		memcpy(p, s.p, s.len);
	return (struct span){ p, s.len };
}

static inline void
release(struct span s)
{
	free((void *)(uintptr_t)s.p);
}

static inline void
print_row(struct span s)
{
	print_message("  %zu \"", s.len);
	for (size_t i = 0; i < s.len && i < 100; i++)
		print_message(s.p[i] >= ' ' && s.p[i] <= '~' ? "%c" : "\\x%02x", (unsigned char)s.p[i]);
	print_message("\"\n");
}

#endif
