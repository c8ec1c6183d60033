/*
 * milter_change.h - what a milter changes in a message that is complete.
 */
#ifndef MILTER_CHANGE_H
#define MILTER_CHANGE_H

#include "content.h"
#include "milter_packet.h"

#define MILTER_CHANGES_MAX 1000	/* that a milter may ask for, the octets of a new body not counted */

struct milter_changes {
	struct tx	*tx;		/* borrowed */
	struct content	*content;	/* borrowed */
	bool		 envelope;	/* it may change sender and recipients */
	bool		 begun;		/* the message cannot be accepted as it was (case 11.55) */
	bool		 body_new;
	bool		 quarantine;
	char		 reason[64];	/* of it; printable */
	size_t		 n;		/* asked for */
	size_t		 ignored;	/* of the envelope, which it may not change */
	size_t		 left_out;	/* that cannot be made */
	size_t		 above;		/* fields above our Received field, which is not there yet */
};

/*
 * Make the change that a reply asks for, which is one of ANSWER_ADDHEADER to ANSWER_QUARANTINE. What this message can do without is left
 * out: a field that is none, an address that cannot be read. NULL, or what is wrong.
 */
const char	*milter_change(struct milter_changes *c, const struct milter_reply *r);

#endif
