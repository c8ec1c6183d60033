/*
 * deliver.h - the delivery agents behind one interface: command, maildir, relay command (later lmtp, relay to a URL).
 *
 * All recipients of a message or none (DESIGN: one reply, one outcome). See DESIGN.md, "The delivery contract".
 */
#ifndef DELIVER_H
#define DELIVER_H

#include "child.h"
#include "message.h"
#include "metrics.h"

#define DELIVER_CHECKS_MAX 20	/* recipient_commands at once */

struct deliver;		/* what the agent has one of */

/* v says what the client is told; detail is for the log ("exit 75", "timeout", ...); both borrowed until it returns. */
typedef void deliver_done(void *arg, const struct verdict *v, const char *detail);

/*
 * Make ready what config asks for: the Maildir writers are forked here and drop to delivery_user. The loop, config and the
 * table of children, with room for max_deliveries and DELIVER_CHECKS_MAX of them, and m are borrowed until deliver_free(). NULL
 * with errno.
 */
struct deliver	*deliver_new(struct loop *l, const struct config *config, struct children *children, struct metrics *m);
/* Ends the writers, after children_end(). */
void		 deliver_free(struct deliver *d);

/*
 * Can this recipient get mail: recipients_file, recipient_command, Maildir (in this order, as far as configured); one of a domain
 * that is not ours can, as far as we know.
 * done is called exactly once, from the loop or from inside this call: 250 2.1.5, 550 5.1.1, 451 4.3.0.
 */
void		 deliver_check(struct deliver *d, const struct tx *tx, const struct mailbox *rcpt, deliver_done *done, void *arg);
/*
 * Deliver one complete message, tx->fd from tx->header_at on, to tx->rcpts, which are all ours or all foreign. Beyond max_deliveries it
 * waits its turn.
 * tx is borrowed until done, which is called exactly once, from the loop or from inside this call.
 */
void		 deliver_start(struct deliver *d, const struct tx *tx, deliver_done *done, void *arg);
/* How many are running or waiting. */
size_t		 deliver_pending(const struct deliver *d);
/* "command", "maildir", "relay" */
const char	*deliver_agent_name(const struct deliver *d, const struct tx *tx);

#endif
