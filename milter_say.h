/*
 * milter_say.h - what a milter hears of a message: its packets and macros, stage by stage.
 */
#ifndef MILTER_SAY_H
#define MILTER_SAY_H

#include "content.h"
#include "milter_packet.h"

enum milter_at {
	MILTER_AT_OPTIONS, MILTER_AT_CONNECT, MILTER_AT_HELO, MILTER_AT_MAIL, MILTER_AT_RCPT, MILTER_AT_DATA, MILTER_AT_HEADER,
	MILTER_AT_EOH, MILTER_AT_BODY, MILTER_AT_EOM, MILTER_AT__MAX
};

/* Of what, and how much has been said. */
struct milter_words {
	const struct tx		*tx;		/* borrowed */
	const struct content	*content;	/* borrowed; NULL: there is no message yet */
	const struct mailbox	*rcpts;		/* borrowed */
	size_t			 rcpts_n;
	bool			 leading_space;	/* the value of a field begins with its first blank */
	size_t			 index;		/* packets said at this stage */
	uint64_t		 body_said;	/* octets of the body */
	bool			 body_cr;	/* the CR of the next LF has been said */
};

struct milter_stage {
	const char	*name;
	char		 command;
	uint32_t	 unwanted, silent;	/* the milter does not want to hear it; does not reply to it */
	uint32_t	 macros_since;		/* the version of the protocol */
	void		(*macros)(const struct milter_words *w, struct buf *b);
	void		(*put)(const struct milter_words *w, struct buf *b);
};

extern const struct milter_stage milter_stages[MILTER_AT__MAX];

void	milter_put_macros(const struct milter_words *w, enum milter_at at_stage, struct buf *b);
/* Not of the body, which has chunks. */
void	milter_put_stage(const struct milter_words *w, enum milter_at at_stage, struct buf *b);
/* The next chunk of the body, with CRLF for LF; a chunk may end between the two. 0, or -1: it cannot be read. */
int	milter_put_body(struct milter_words *w, struct buf *b);
/* All that is said of a client, whatever the milter wants to hear: where it is the same, a connection may go on with another message. */
void	milter_put_opening(const struct milter_words *w, struct buf *b);
/* The same of a transaction: with sender, MAIL and its macros; RCPT of each of w's recipients. */
void	milter_put_envelope(struct milter_words w, bool sender, struct buf *b);

#endif
