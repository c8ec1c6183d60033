/*
 * canned.h - the replies that more than one place gives, as a table.
 */
#ifndef CANNED_H
#define CANNED_H

#include "ipc.h"

enum canned {
	R_NONE,
	R_BAD_SEQUENCE, R_NEED_HELLO, R_SYNTAX, R_BARE_LF, R_CONTROL, R_LINE_TOO_LONG, R_UNKNOWN, R_NOT_IMPLEMENTED,
	R_ARGUMENT, R_NO_ARGUMENT, R_HELLO, R_EARLY, R_HOSTILE, R_TOO_MANY_ERRORS, R_TIMEOUT, R_SHUTDOWN, R_NO_RECIPIENTS,
	R_TOO_MANY_RCPTS, R_TOO_BIG, R_NEWLINE, R_NUL, R_NO_SPACE, R_LOST, R_PARAM_UNKNOWN, R_PARAM_SYNTAX, R_BAD_CHUNK, R_TOO_SLOW,
	R_TLS_NEEDED, R_TLS_UNAVAILABLE, R_AFTER_STARTTLS,
	R_AUTH_FAILED, R_AUTH_MANY, R_AUTH_UNABLE, R_AUTH_CANCELLED, R_AUTH_BASE64, R_AUTH_ENCRYPT, R_AUTH_MECHANISM,
	R__MAX
};

struct canned_reply {
	int		 code;
	const char	*esc, *text;
};

extern const struct canned_reply canned_replies[R__MAX];

/* A row as a verdict; R_NONE: with code 0. */
void	canned_verdict(enum canned which, struct verdict *v);

#endif
