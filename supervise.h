/*
 * supervise.h - the master's processes: a generation of them for each configuration, and what is done when one ends.
 */
#ifndef SUPERVISE_H
#define SUPERVISE_H

#include "auth.h"
#include "limits.h"
#include "listen.h"
#include "loop.h"
#include "metrics.h"
#include "procstat.h"
#include "tls.h"

#define GENERATIONS_MAX 8		/* with those that drain; a reload beyond waits */
#define FRONTS_MAX (CONFIG_LISTENERS_MAX * CONFIG_WORKERS_MAX)
#define PROCESSES_MAX (GENERATIONS_MAX * (FRONTS_MAX + 2))	/* an agent and an exporter */

struct process {
	struct generation *generation;	/* NULL: the place is free */
	pid_t		 pid;		/* 0: not running, and start is its timer */
	enum metrics_process kind;
	uint32_t	 listener;	/* of a front */
	int		 row;		/* of limits, for a front */
	int		 control_fd;	/* owned; -1 */
	int64_t		 started_at, delay_ms;
	struct loop_slot start;
};

struct generation {
	struct supervisor *supervisor;	/* borrowed until exit */
	struct config	*config;	/* owned; NULL: the place is free */
	struct tls_certs *certs;	/* owned */
	struct tls_cache *caches[CONFIG_LISTENERS_MAX];	/* owned; NULL: none */
	unsigned	 number;
	bool		 draining;
};

struct supervisor {
	struct loop	*loop;		/* borrowed until exit, as what follows; has a slot for each process */
	struct limits	*limits;
	struct metrics	*metrics;
	struct auth_key	*key;		/* of tickets; fronts do not have it */
	const struct listen *listens;
	int		 signal_fd;	/* of the master, for a child to close */
	struct generation generations[GENERATIONS_MAX];
	struct generation *current;
	struct process	 processes[PROCESSES_MAX];
	uint16_t	 serial;	/* of the last front: the upper part of its sessions' numbers */
	unsigned	 generation_serial;
	bool		 stopping;	/* what ends is not started again */
};

/* config and certs are the generation's from now on. NULL: there are too many, and they are still the caller's. */
struct generation *generation_start(struct supervisor *v, struct config *c, struct tls_certs *certs);
/* Its processes end when they have no client any more. */
void		 generation_drain(struct generation *g);

/* Whether there is no place for a generation more. */
bool		 supervise_is_full(const struct supervisor *v);
/* See which children have ended, and start those again that should not have. */
void		 supervise_reap(struct supervisor *v);
/* Once v->stopping is set: all of them are told to end. */
void		 supervise_stop(struct supervisor *v);
/* And now at once. spare_agents: these are only told. */
void		 supervise_kill(struct supervisor *v, bool spare_agents);
/* Whether no process is left. */
bool		 supervise_is_done(const struct supervisor *v);

/* Why clients should go elsewhere, as enum metrics_unready. */
unsigned	 supervise_unready(const struct supervisor *v);
/* Add what its processes use. */
void		 supervise_add_usage(const struct supervisor *v, struct procstat *sum);

#endif
