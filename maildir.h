/*
 * maildir.h - the Maildir writers: processes that put messages into folders and answer when they are on disk.
 *
 * Used by deliver.c only.
 */
#ifndef MAILDIR_H
#define MAILDIR_H

#include "child.h"
#include "message.h"

struct maildir;

/* As deliver_done: both borrowed until it returns. */
typedef void maildir_done(void *arg, const struct verdict *v, const char *detail);

/*
 * Fork the writers, which become user. Loop and config are borrowed until maildir_free(). NULL with errno.
 * Somebody else must reap children (children_new() does).
 */
struct maildir	*maildir_new(struct loop *l, const struct config *config, const struct child_user *user);
/* Ends the writers when they have written what they have; what is still asked for has failed. */
void		 maildir_free(struct maildir *m);

/* Whether rcpt has a folder, or could have: 250 2.1.5, 550 5.1.1, 451 4.3.0. rcpt is borrowed until done. */
void		 maildir_check(struct maildir *m, const struct mailbox *rcpt, maildir_done *done, void *arg);
/* Write the message into the folders of all recipients or of none. tx is borrowed until done. */
void		 maildir_deliver(struct maildir *m, const struct tx *tx, maildir_done *done, void *arg);
size_t		 maildir_pending(const struct maildir *m);

#endif
