/*
 * limits.h - what is counted over all processes: connections and spool memory.
 *
 * The counts live in memory that the master makes and every child shares. Each front has a row of its own, so that the
 * master can strike out what a front that died had taken.
 */
#ifndef LIMITS_H
#define LIMITS_H

#include <stdatomic.h>

#include "text.h"

#define LIMITS_SPOOL_STEP 65536	/* message files are counted in steps of so many octets: 32 bits are atomic everywhere */
#define LIMITS_ROWS 256		/* fronts alive at once, all generations together */

struct limits_row {
	_Atomic uint32_t	taken;		/* 0: the row is free */
	_Atomic uint32_t	connections;
	_Atomic uint32_t	spool;		/* steps of message files in memory */
};

struct limits {
	struct limits_row	rows[LIMITS_ROWS];
};

/* The shared memory; NULL with errno. It lives as long as its processes. */
struct limits	*limits_new(void);
/* A free row's number, zeroed, or -1: all are in use. The master's. */
int		 limits_row_take(struct limits *l);
void		 limits_row_free(struct limits *l, int row);
/* Count one more connection if there are fewer than max; false: there are not. */
bool		 limits_connect(struct limits *l, int row, unsigned max);
void		 limits_disconnect(struct limits *l, int row);
/* Count one more step of message files, if they stay within max octets; false: they do not. */
bool		 limits_spool(struct limits *l, int row, uint64_t max);
void		 limits_unspool(struct limits *l, int row, uint32_t steps);
/* Octets counted now. */
uint64_t	 limits_spool_used(const struct limits *l);

#endif
