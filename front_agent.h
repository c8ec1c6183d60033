/*
 * front_agent.h - the agent's side of a front: what it is asked, and what it answers. Internal to the front.
 */
#ifndef FRONT_AGENT_H
#define FRONT_AGENT_H

#include "conn.h"

/* A connection has something to tell it: of enum owes. */
void	front_agent_owe(struct conn *c, uint8_t owes);
/* Send what is owed, as far as its socket takes it. */
void	front_agent_flush(struct front *f);
/* A new agent, instead of one that is there still; fd is taken. */
void	front_agent_take(struct front *f, int fd);

#endif
