/*
 * front.h - a listener's poll loop: socket to session, requests to the agent and verdicts back.
 */
#ifndef FRONT_H
#define FRONT_H

#include "config.h"
#include "limits.h"
#include "metrics.h"
#include "tls.h"

struct front_args {
	const struct config	*config;	/* borrowed until exit, as the rest */
	const struct listener	*listener;
	struct limits		*limits;
	struct metrics		*metrics;
	const struct tls_certs	*certs;
	struct tls_cache	*cache;		/* of the listener; NULL: none */
	unsigned		 mechanisms;	/* of AUTH, that the agent can check: a bit 1u << m each */
	int			 row;		/* of limits, for this process alone */
	uint16_t		 number;	/* of this process: the upper part of its sessions' numbers */
	int			 listen_fd;	/* owned from now on */
	int			 control_fd;	/* to the master; owned from now on */
	bool			 sandbox;	/* drop to config's user (as root), and seccomp */
};

/* The process's work from here to its exit status. */
int	front_run(const struct front_args *args);

#endif
