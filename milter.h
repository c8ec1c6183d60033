/*
 * milter.h - milters: the mail server's side of the Sendmail milter protocol, versions 2 to 6.
 *
 * A milter hears of a client's connection only when a message is complete (the agent knows all of it then): connect, helo, mail, rcpt,
 * data, headers, body and end of message are said in one go, and what it decides at any stage is its verdict on the message.
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
/*
 * Show it a message, and change content as it asks for. tx and content are borrowed until done; recipients that the milter adds or
 * removes and another sender are changed in tx where m's key allows it. NULL with errno when nothing was started; done is then not called.
 */
struct milter_check *milter_start(struct milter *m, struct tx *tx, struct content *content, filter_done *done, void *arg);
void		 milter_cancel(struct milter_check *k);

#endif
