/*
 * spamd.h - a spam checker: SpamAssassin's spamd over the SPAMC protocol (1.5), by TCP or a unix socket.
 */
#ifndef SPAMD_H
#define SPAMD_H

#include "filter.h"
#include "loop.h"

struct spamd;
struct spamd_check;

/* loop and c are borrowed until spamd_free(). NULL with errno. */
struct spamd	*spamd_new(struct loop *l, const struct checker *c);
void		 spamd_free(struct spamd *s);
/* As rspamd_start(). */
struct spamd_check *spamd_start(struct spamd *s, const struct tx *tx, int64_t timeout_ms, filter_done *done, void *arg);
void		 spamd_cancel(struct spamd_check *k);

/* Read a whole reply, for spamd_start() and tests. r is all zero before; the caller ends r->edits. */
void		 spamd_read(struct span reply, struct filter_report *r);

#endif
