/*
 * body.h - the octets of a message as they come, to lines that end in LF.
 */
#ifndef BODY_H
#define BODY_H

#include "canned.h"
#include "config.h"

/* Where the decoder stands; after a CRLF, so that the next octet begins a line, it is at DEC_LINE. */
enum decoder {
	DEC_LINE,
	DEC_TEXT,
	DEC_CR,		/* a CR, and what follows decides */
	DEC_DOT,	/* a dot that begins a line */
	DEC_DOT_CR,
	DEC_BARE_LINE,	/* after a bare LF, in a listener that normalizes */
	DEC_BARE_DOT,	/* a dot there */
	DEC_BARE_DOT_CR,
	DEC__MAX
};

/* All zero at the beginning of a message. */
struct body {
	enum decoder	decoder;
	enum canned	refuse;		/* the message will be refused with this, and nothing more is written */
	uint64_t	size;		/* octets as RFC 1870 counts them */
	uint64_t	written;	/* octets that went to out */
};

struct body_rules {
	uint64_t		 max;	/* of size */
	enum bare_newline	 bare_newline;
	bool			 dots;	/* a dot that begins a line is no part of it, and one alone ends the data: DATA, not BDAT */
	struct buf		*out;	/* borrowed; at least as much room as what is decoded is long, and one */
};

/* Returns the octets taken; *end is set when the last of them ended the data. */
size_t	body_decode(struct body *b, const struct body_rules *r, const char *p, size_t n, bool *end);
/* No more octets come. */
void	body_end(struct body *b);
/* The message will be refused; the first reason counts. */
void	body_refuse(struct body *b, enum canned why);

#endif
