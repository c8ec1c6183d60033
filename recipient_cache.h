/*
 * recipient_cache.h - what recipient_command has said of whom, for a while: it is asked less, and a look-up that hangs does not take away
 * what is known (case 11.60).
 */
#ifndef RECIPIENT_CACHE_H
#define RECIPIENT_CACHE_H

#include "message.h"

#define RECIPIENT_CACHE_MAX 256			/* recipients */
#define RECIPIENT_CACHE_UNKNOWN_MS (60 * 1000)	/* the longest that one who is not there stays so */

struct recipient_cache;

/* keep_ms: how long an answer counts; 0: nothing is kept. NULL with errno. */
struct recipient_cache	*recipient_cache_new(int64_t keep_ms);
void			 recipient_cache_free(struct recipient_cache *c);
/* The answer that counts at now_ms, valid until the next call; NULL: there is none. */
const struct verdict	*recipient_cache_find(struct recipient_cache *c, const struct mailbox *m, int64_t now_ms);
/*
 * v: code 0, the recipient exists, or verdict_is_unknown(). What else a command says may be of the sender or of the moment, and is
 * not kept.
 */
void			 recipient_cache_keep(struct recipient_cache *c, const struct mailbox *m, const struct verdict *v, int64_t now_ms);

#endif
