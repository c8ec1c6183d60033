/*
 * agent.h - the agent's poll loop and the way of one message: envelope, message file, delivery, verdict.
 */
#ifndef AGENT_H
#define AGENT_H

#include "auth.h"
#include "limits.h"
#include "metrics.h"

struct agent_args {
	const struct config	*config;	/* borrowed until exit, as the rest */
	struct limits		*limits;
	struct metrics		*metrics;
	const struct auth_key	*key;		/* of tickets */
	int			 control_fd;	/* to the master; owned from now on */
};

/* The process's work from here to its exit status. */
int	agent_run(const struct agent_args *args);

#endif
