/*
 * session_auth.h - AUTH: the exchange with the client. Internal to session*.c.
 */
#ifndef SESSION_AUTH_H
#define SESSION_AUTH_H

#include "session_reply.h"

bool	session_auth_is_offered(const struct session *s);
/* The line of EHLO's reply that lists the mechanisms. */
void	session_auth_list(struct session *s);
/* The command; a line in ST_AUTH; the agent's answer to REQ_AUTH. */
void	session_auth_command(struct session *s, struct span arg);
void	session_auth_line(struct session *s, struct span line);
void	session_auth_verdict(struct session *s, const struct verdict *v);
/* Refused: the more often, the longer it takes until the next attempt is read, and then the connection ends. */
void	session_auth_failed(struct session *s);

#endif
