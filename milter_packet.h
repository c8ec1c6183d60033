/*
 * milter_packet.h - the packets of the Sendmail milter protocol, versions 2 to 6, as pure functions.
 *
 * A packet is a length of four octets (big-endian, of what follows), a command of one octet, and its data. No I/O, no state.
 */
#ifndef MILTER_PACKET_H
#define MILTER_PACKET_H

#include "buf.h"

#define MILTER_VERSION_MIN 2
#define MILTER_VERSION 6
#define MILTER_CHUNK_MAX 65535			/* octets of the body in one packet */
#define MILTER_PACKET_MAX (1 + MILTER_CHUNK_MAX)	/* what a packet's length may say, either way */
#define MILTER_LENGTH 4				/* octets of the length itself */

/* What a milter may ask for when the message is complete (SMFIF_*). */
enum {
	MILTER_ADDHDRS = 0x01,
	MILTER_CHGBODY = 0x02,
	MILTER_ADDRCPT = 0x04,
	MILTER_DELRCPT = 0x08,
	MILTER_CHGHDRS = 0x10,
	MILTER_QUARANTINE = 0x20,
	MILTER_CHGFROM = 0x40,
	MILTER_ADDRCPT_PAR = 0x80,
	MILTER_ACTIONS = 0xff,			/* all but 0x100, lists of macros: we send what we know */
};

/* What it wants left out, will not reply to, or understands (SMFIP_*). */
enum {
	MILTER_NOCONNECT = 0x1,
	MILTER_NOHELO = 0x2,
	MILTER_NOMAIL = 0x4,
	MILTER_NORCPT = 0x8,
	MILTER_NOBODY = 0x10,
	MILTER_NOHDRS = 0x20,
	MILTER_NOEOH = 0x40,
	MILTER_NR_HDR = 0x80,
	MILTER_NOUNKNOWN = 0x100,
	MILTER_NODATA = 0x200,
	MILTER_SKIP = 0x400,
	MILTER_NR_CONN = 0x1000,
	MILTER_NR_HELO = 0x2000,
	MILTER_NR_MAIL = 0x4000,
	MILTER_NR_RCPT = 0x8000,
	MILTER_NR_DATA = 0x10000,
	MILTER_NR_UNKN = 0x20000,
	MILTER_NR_EOH = 0x40000,
	MILTER_NR_BODY = 0x80000,
	MILTER_HDR_LEADSPC = 0x100000,
	MILTER_STEPS = 0x1ff7ff,		/* all but 0x800, recipients that were refused: a milter never hears of them */
};

/* ---- to a milter ---- */

/* Begin a packet; milter_end() with what this returns writes its length. What does not fit makes b->failed. */
size_t	milter_begin(struct buf *b, char command);
void	milter_end(struct buf *b, size_t at);
/* A packet without data. */
void	milter_add_command(struct buf *b, char command);
void	milter_add_u32(struct buf *b, uint32_t n);
/* A string with its NUL, without its control octets (case 11.56). */
void	milter_add_str(struct buf *b, struct span s);
/* The value of a field: as it is, but for NULs, which would end it. */
void	milter_add_text(struct buf *b, struct span s);

/* ---- from a milter ---- */

enum milter_frame { FRAME_PART, FRAME_WHOLE, FRAME_BAD };

/* The packet at the start of in: its command and data, and the octets it takes. BAD: its length is 0 or over MILTER_PACKET_MAX. */
enum milter_frame milter_frame(struct span in, char *command, struct span *data, size_t *len);

struct milter_options {
	uint32_t	version, actions, steps;
};

/* The reply to the options that we offer; NULL, or what is wrong. version is then at most MILTER_VERSION. */
const char	*milter_read_options(char command, struct span data, struct milter_options *o);

enum milter_answer {
	ANSWER_BAD,		/* no reply, or none of this form */
	ANSWER_CONTINUE,
	ANSWER_ACCEPT,
	ANSWER_REJECT,
	ANSWER_TEMPFAIL,
	ANSWER_DISCARD,
	ANSWER_CODE,		/* esc and text */
	ANSWER_SHUTDOWN,
	ANSWER_CONN_FAIL,
	ANSWER_SKIP,
	ANSWER_PROGRESS,
	ANSWER_ADDHEADER,	/* name, value */
	ANSWER_INSHEADER,	/* index, name, value */
	ANSWER_CHGHEADER,	/* index, name, value */
	ANSWER_REPLBODY,	/* value: octets of a body */
	ANSWER_ADDRCPT,		/* name: an address; any parameters behind it are dropped */
	ANSWER_DELRCPT,		/* name */
	ANSWER_CHGFROM,		/* name */
	ANSWER_QUARANTINE,	/* name: why */
	ANSWER__MAX
};

struct milter_reply {
	enum milter_answer answer;
	uint32_t	 action;	/* the MILTER_* action that must have been agreed on; 0: it is no change to the message */
	uint32_t	 index;
	struct span	 name, value;	/* of the packet's data */
	int		 code;		/* class 4 or 5 */
	char		 esc[12];	/* of the same class */
	char		 text[400];	/* one line, printable ASCII */
};

void	milter_read_reply(char command, struct span data, struct milter_reply *r);

#endif
