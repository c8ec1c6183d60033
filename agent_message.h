/*
 * agent_message.h - the end of data: from the message file to the verdict. Internal to agent*.c.
 */
#ifndef AGENT_MESSAGE_H
#define AGENT_MESSAGE_H

#include "agent_client.h"

/* Each answers the client, at once or when it is known. */
void	request_data(struct front *f, const struct request *q);
void	request_message(struct front *f, const struct request *q);

#endif
