/*
 * header.h - a message's header block: its fields, the address of From, who has made Authentication-Results. No I/O, no allocation.
 *
 * RFC 5322 2.2, 3.4, 4.5 (obsolete forms are read where a reader of mail would take them for the field); 2047; 6532 (UTF-8); 8601.
 */
#ifndef HEADER_H
#define HEADER_H

#include "smtp.h"

#define HEADER_FIELDS_MAX 1000	/* case 9.7 */

struct header_field {
	struct span	name;	/* without white space before the colon */
	struct span	value;	/* folded as it came, without the last LF */
};

/*
 * The next field of *rest (lines end in LF), which is left after it; false at the empty line, at the end, and at a line that is no
 * field: then *rest begins there.
 */
bool		header_next(struct span *rest, struct header_field *f);
/* The length of the header block at the start of a message: up to the empty line or the first line that is no field. */
size_t		header_len(struct span message);
/* Whether the header block of a message that begins with start may go on behind it. */
bool		header_is_cut(struct span start);

enum header_from {
	FROM_OK,
	FROM_ABSENT,
	FROM_TWICE,	/* more than one field */
	FROM_SEVERAL,	/* more than one address, or a group */
	FROM_SYNTAX,
	FROM_TOO_MANY,	/* more than HEADER_FIELDS_MAX fields */
};

/*
 * The one address of the one From field of a message's header block, in the form that envelopes have; else *m is all zero. Whatever
 * a reader could see differently is not FROM_OK. message: to be given whole, or cut behind its header block, not at header_len():
 * a block that ends in a line that is no field is FROM_SYNTAX. utf8: UTF-8 in addresses is allowed.
 */
enum header_from header_from(struct span message, bool utf8, struct mailbox *m);
/* A constant for the log and the reply. */
const char	*header_from_text(enum header_from r);

/*
 * Whether the value of an Authentication-Results field has this domain, in smtp_domain()'s form, as its authserv-id (RFC 8601 2.2),
 * or none that can be read.
 */
bool		header_authserv_is(struct span value, const char *domain);

#endif
