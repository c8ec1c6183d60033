/*
 * session_data.h - the content of a message: DATA and BDAT, from the command to the end of data. Internal to session*.c.
 */
#ifndef SESSION_DATA_H
#define SESSION_DATA_H

#include "session_reply.h"

#define IN(state) (1u << (state))
#define IN_TX (IN(ST_MAIL) | IN(ST_RCPT) | IN(ST_DATA) | IN(ST_BDAT))

bool	tx_is_open(const struct session *s);
/* Forget the transaction. why: the refusal of a message, for the agent's log. */
void	tx_forget(struct session *s, enum canned why);

/* The commands. */
void	data_command(struct session *s, struct span arg);
void	data_bdat(struct session *s, struct span arg);
/* Octets in ST_DATA, or of a chunk; how many were taken. */
size_t	data_feed(struct session *s, const char *p, size_t n);
size_t	data_feed_chunk(struct session *s, const char *p, size_t n);
/* The agent's answer to REQ_DATA. */
void	data_verdict(struct session *s, const struct verdict *v, bool has_file);
/* The end of a message that was refused on its way. */
void	data_refused(struct session *s);

#endif
