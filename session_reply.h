/*
 * session_reply.h - what a session says: replies, and the transcript of the dialogue. Internal to session*.c.
 */
#ifndef SESSION_REPLY_H
#define SESSION_REPLY_H

#include "session.h"

#define REPLY_MAX 510		/* RFC 5321 4.5.3.1.5, without CRLF */
#define PENALTY_MS 1000u	/* the pause after an error, once there are many */

/*
 * Queue one line of a reply, the last or (more) one before it. esc is NULL where RFC 2034 4 has none: the greeting, replies to
 * HELO and EHLO, 3xx. What is not printable becomes '?', so no handler can put a line end on the wire.
 */
void	reply_line(struct session *s, bool more, int code, const char *esc, const char *fmt, ...) PRINTF_LIKE(5, 6);
#define reply(s, code, esc, ...) reply_line(s, false, code, esc, __VA_ARGS__)
void	reply_canned(struct session *s, enum canned which);
void	reply_verdict(struct session *s, const struct verdict *v);
/* The last reply: nothing more is read, and nobody asked. */
void	reply_and_close(struct session *s, enum canned which);
/* A line of the dialogue for the log, where the configuration wants it. */
void	reply_transcript(const struct session *s, const char *event, struct span line);

#endif
