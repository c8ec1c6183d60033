/*
 * rspamd.h - a spam checker: rspamd over its HTTP protocol (POST /checkv2), and learning from spam traps (POST /learnspam).
 */
#ifndef RSPAMD_H
#define RSPAMD_H

#include "filter.h"
#include "http.h"

struct rspamd;
struct rspamd_check;

/* http and c are borrowed until rspamd_free(), which comes before http_free(). Checks under way end without done. NULL with errno. */
struct rspamd	*rspamd_new(struct http *http, const struct checker *c);
void		 rspamd_free(struct rspamd *r);
/*
 * Ask about a complete message: tx->fd from message_at() on, without our trace fields; tx is borrowed until done, which comes within
 * timeout_ms (> 0). NULL with errno when nothing was started (EAGAIN: too many checks at once; EFBIG: over max_size, which is FILTER_SKIPPED; EINVAL: a name in it that HTTP
 * cannot carry); done is then not called.
 */
struct rspamd_check *rspamd_start(struct rspamd *r, const struct tx *tx, int64_t timeout_ms, filter_done *done, void *arg);
void		 rspamd_cancel(struct rspamd_check *k);

/* Read a /checkv2 answer, for rspamd_start() and tests. r is all zero before; the caller ends r->edits. */
void		 rspamd_read(struct span json, struct filter_report *r);

/*
 * Send a message that came for a spam trap to url (/learnspam is added) with this password ("": none). Nobody waits for it: a failure is
 * logged. 0, or -1 with errno. tx->fd is duplicated.
 */
int		 rspamd_learn(struct http *http, const char *url, const char *password, const struct tx *tx);

#endif
