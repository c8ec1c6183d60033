/*
 * hook.h - commands of the administrator's at connect, mail, rcpt or message, under the rules of the delivery contract.
 */
#ifndef HOOK_H
#define HOOK_H

#include "child.h"
#include "filter.h"

struct hooks;
struct hook_run;

/* loop, children (with room for HOOKS_MAX more) and config are borrowed until hooks_free(), after children_end(). NULL with errno. */
#define HOOKS_MAX 20		/* hooks at work at once; others wait */
struct hooks	*hooks_new(struct loop *l, const struct config *config, struct children *children);
void		 hooks_free(struct hooks *h);
/* Whether hooks_run() has anything to do at this event. With hooks at message it has at RCPT: to refuse what no command can be told of. */
bool		 hooks_wants(const struct hooks *h, enum hook_event event);
/*
 * Run all hooks of an event, in the order of the configuration, until one does not accept. tx: what is known so far (CONNECT: address and
 * listener only); rcpt: of RCPT, else NULL; both borrowed until done. At MESSAGE the command's standard input is the message (tx->fd from
 * message_at() on), and header lines that it prints (with exit status 0) are
 * report->edits: they stand on top of the header, in the order printed. done: once, from the loop or inside this call.
 */
void		 hooks_run(struct hooks *h, enum hook_event event, const struct tx *tx, const struct mailbox *rcpt, filter_done *done, void *arg);
size_t		 hooks_pending(const struct hooks *h);

#endif
