/*
 * agent_auth.h - AUTH: a client's credentials, and the agent's word on them. Internal to agent*.c.
 */
#ifndef AGENT_AUTH_H
#define AGENT_AUTH_H

#include "agent_client.h"

void	request_auth(struct front *f, const struct request *q);
/* The exchange under way, if there is one, ends unanswered. */
void	exchange_forget(struct client *c);

#endif
