/*
 * sender.h - may an authenticated user send as this address: sender_check and senders_file.
 */
#ifndef SENDER_H
#define SENDER_H

#include "config.h"

struct senders;

/* c is borrowed until senders_free(). NULL with errno. A senders_file that cannot be read is logged, and counts as empty until it can be. */
struct senders	*senders_new(const struct config *c);
void		 senders_free(struct senders *s);
/*
 * user: as auth.h has it. exact: m is the user, or one of the user's addresses in senders_file ("@domain": all of a domain).
 * domain: also any address of the user's domain. off: yes. The file is read again when it has changed, looked at once a second at
 * most; now_ms: monotonic.
 */
bool		 senders_allow(struct senders *s, const char *user, const struct mailbox *m, int64_t now_ms);

#endif
