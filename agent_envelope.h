/*
 * agent_envelope.h - a client and its envelope: CONNECT, MAIL, RCPT, RESET, CLOSE. Internal to agent*.c.
 */
#ifndef AGENT_ENVELOPE_H
#define AGENT_ENVELOPE_H

#include "agent_client.h"

/* The first three answer the client, at once or when it is known. fd: its socket, borrowed; -1: we are out of descriptors */
void	request_connect(struct front *f, const struct request *q, int fd);
void	request_mail(struct front *f, const struct request *q);
void	request_rcpt(struct front *f, const struct request *q);
void	request_reset(struct front *f, const struct request *q);
void	request_close(struct front *f, const struct request *q);

#endif
