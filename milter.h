/*
 * milter.h - milters: the mail server's side of the Sendmail milter protocol, versions 2 to 6.
 *
 * A milter is not held while a client thinks: what is to be said is said in one go. Of a recipient that is connect, helo, mail and this
 * rcpt, and what it decides at any of them is its verdict on the recipient; then the message is given up. Of a message it is all again, with
 * data, headers, body and end of message. A milter that does not want to hear of recipients is asked about messages alone.
 */
#ifndef MILTER_H
#define MILTER_H

#include "filter.h"
#include "loop.h"

struct milter;		/* one [smtpd.milter NAME]: its connections, kept for many messages */
struct milter_check;

/* loop and c are borrowed until milter_free(). NULL with errno. */
struct milter	*milter_new(struct loop *l, const struct milter_config *c);
void		 milter_free(struct milter *m);
/* Loop slots that it may use at once, with this configuration. */
size_t		 milter_slots(const struct milter_config *c);
/* Until it has been asked for the first time nobody knows: true. */
bool		 milter_wants_recipients(const struct milter *m);
/* Ask it about a recipient of tx. All are borrowed until done. NULL with errno when nothing was started; done is then not called. */
struct milter_check *milter_start_recipient(struct milter *m, struct tx *tx, const struct mailbox *rcpt, filter_done *done, void *arg);
/*
 * Show it a message, and change content as it asks for. tx and content are borrowed until done; recipients that the milter adds or
 * removes and another sender are changed in tx where m's key allows it. NULL with errno when nothing was started; done is then not called.
 * Of both kinds max_checks are under way; further ones wait, as long as command_timeout says.
 */
struct milter_check *milter_start(struct milter *m, struct tx *tx, struct content *content, filter_done *done, void *arg);
void		 milter_cancel(struct milter_check *k);

#endif
