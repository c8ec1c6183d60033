/*
 * limits.h - what is counted over all processes: connections, spool memory, failed authentications.
 *
 * The counts live in memory that the master makes and every child shares. Each front has a row of its own, so that the
 * master can strike out what a front that died had taken. Failures are the agents' to count; a front takes them out of its sight.
 */
#ifndef LIMITS_H
#define LIMITS_H

#include <stdatomic.h>

#include "text.h"

#define LIMITS_SPOOL_STEP 65536	/* message files are counted in steps of so many octets: 32 bits are atomic everywhere */
#define LIMITS_ROWS 256		/* fronts alive at once, all generations together */
#define LIMITS_FAILURE_SETS 512	/* of failed authentications, in 64 KiB */
#define LIMITS_FAILURE_WAYS 8

struct limits_row {
	_Atomic uint32_t	taken;		/* 0: the row is free */
	_Atomic uint32_t	connections;
	_Atomic uint32_t	spool;		/* steps of message files in memory */
	_Atomic uint32_t	listener;	/* the front's, as metrics.h numbers them; the master's to set */
};

/* Failed authentications of an address, or of an address and a user. */
struct limits_failure {
	_Atomic uint32_t	tag;		/* 0: the place is free */
	_Atomic uint32_t	count;		/* within the window */
	_Atomic uint32_t	since;		/* seconds on the monotonic clock: begin of the window */
	_Atomic uint32_t	until;		/* it is out until then; 0: it is not */
};

struct limits_failures {
	struct limits_failure	table[LIMITS_FAILURE_SETS][LIMITS_FAILURE_WAYS];
	uint8_t			key[16];	/* of the hash; written before the first fork only */
};

struct limits {
	struct limits_row	*rows;		/* LIMITS_ROWS, shared */
	struct limits_failures	*failures;	/* shared; NULL in a front */
};

/* With the shared memory; NULL with errno. It lives as long as its processes. */
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

/*
 * Failed authentications (case 7.9), by address (IPv6: by /64) and by address and user, never by user alone: per_ip and
 * LIMITS_AUTH_PER_USER of them within five minutes put it out for fifteen. They outlive agents and reloads. address: as text;
 * user: in its one form, NULL or "": not known. per_ip 0: nothing is counted and nobody is out. now_ms: the monotonic clock.
 */
#define LIMITS_AUTH_PER_USER 5
#define LIMITS_AUTH_WINDOW_MS (5 * 60 * 1000)
#define LIMITS_AUTH_OUT_MS (15 * 60 * 1000)
bool		 limits_auth_is_out(const struct limits *l, const char *address, const char *user, unsigned per_ip, int64_t now_ms);
void		 limits_auth_failed(struct limits *l, const char *address, const char *user, unsigned per_ip, int64_t now_ms);
/* It forgets what address and user have failed together, not what the address has. */
void		 limits_auth_good(struct limits *l, const char *address, const char *user);
/* For a front: what it cannot reach it can neither read nor forge. */
void		 limits_auth_drop(struct limits *l);
/* For a process that only looks at the rows: it can do nothing else any more. Fatal when that fails. */
void		 limits_lock(struct limits *l);
/* What an address, as text, is counted by: IPv4 in its mapped form, of IPv6 the /64. false: it is none. */
bool		 limits_network(const char *address, uint8_t octets[16]);
/* SipHash-2-4 (Aumasson, Bernstein 2012). */
uint64_t	 limits_siphash(const uint8_t key[16], const uint8_t *p, size_t len);

#endif
