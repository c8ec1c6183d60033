/*
 * content.h - a message as filters see and change it: its header fields in memory, its body in a file.
 *
 * Loaded once, when the message is complete and something is there that may look at it or change it. Each filter sees what the one
 * before has left; what has changed is written once, at the end (content_write). Lines end in LF, as in the message file.
 */
#ifndef CONTENT_H
#define CONTENT_H

#include "message.h"

#define CONTENT_NAME_MAX 64		/* octets of a field's name that a filter adds (case 9.13) */
#define CONTENT_VALUE_MAX 16384		/* of a field's value that a filter adds or changes; a longer one is left out */
#define CONTENT_GROWTH_MAX 65536	/* octets that a message may have over max_message_size when it has been changed */
#define CONTENT_EDITS_MAX 256		/* edits of one filter; what is more is left out, and logged */

struct content_field {
	struct span	name;		/* as it came */
	struct span	value;		/* behind the colon, folded, without the last LF; begins with what stood there, usually a blank */
	char		*own;		/* owned: name, colon and value of a field that was added or changed; NULL: they lie in content.text */
};

/* All zero is empty. */
struct content {
	const struct config *config;	/* borrowed, as the tx has it */
	struct content_field *fields;	/* owned; from a name's first octet to its value's last the field is as it will be written */
	size_t		 fields_n, fields_max;
	char		*text;		/* owned: the header as it was read */
	size_t		 octets;	/* of all fields, each with its LF: twice max_header_size at most */
	size_t		 added;		/* fields in front of all others that are not in the message file */
	size_t		 reserved;	/* octets of room that are not for what is being put in */
	bool		 only_added;	/* they are all that has changed in the header */
	bool		 changed;
	bool		 has_body;	/* an empty line ends the header; else a line that is no field, or the end of the message */
	bool		 body_own;	/* body_fd is owned, and takes the place of the first body */
	bool		 body_cr;	/* the last octet of a body that is being added was CR */
	int		 body_fd;	/* else the message file, borrowed */
	uint64_t	 front_at;	/* of the message file, what has been added goes in front of it */
	uint64_t	 body_at, body_len;	/* from the first octet behind the empty line; a message without a body has 0 */
};

/*
 * Read the message of tx (tx->fd, from message_at() on). c: uninitialized. 0, or -1 with errno, then c is empty (EFBIG: the header is
 * over max_header_size, or has more than HEADER_FIELDS_MAX fields).
 */
int	content_load(struct content *c, const struct tx *tx);
void	content_clear(struct content *c);

/* The index of the nth (from 1) field named so, in any case; SIZE_MAX: there is none. */
size_t	content_find(const struct content *c, const char *name, unsigned nth);
/*
 * Put a field before index (fields_n: at the end). name and value are copied; value's first blank is added when it has none. What is no
 * field (case 9.13: name of 1 to CONTENT_NAME_MAX octets [!-9;-~], value without NUL) is not added. A CR, LF or CRLF that is followed by a
 * blank is a fold, any other and other control octets become a space; a fold with nothing but blanks is left out; a line over 998 octets is
 * folded at a blank. 0, or -1 (EINVAL, E2BIG, ENOMEM).
 */
int	content_insert(struct content *c, size_t index, struct span name, struct span value);
/* Another value for field index; as content_insert(). */
int	content_change(struct content *c, size_t index, struct span value);
void	content_delete(struct content *c, size_t index);
/*
 * Whether a field of this name says what the message is, who sent it or how it came (From, Date, Received, Content-*, ...): no checker may
 * add, change or remove one (case 9.13); milters may.
 */
bool	content_is_structural(struct span name);
/*
 * A new body begins, empty; then its octets, any line ends (CRLF and CR become LF). 0, or -1 with errno (E2BIG: more than
 * max_message_size and CONTENT_GROWTH_MAX): then there is no message any more that could be delivered.
 */
int	content_body_new(struct content *c);
int	content_body_add(struct content *c, const void *p, size_t n);

/* The header as octets with this line end ("\n" or "\r\n"), without the empty line. 0, or -1: it does not fit. */
int	content_header(const struct content *c, const char *eol, struct buf *out);
/*
 * Put what has changed into tx's message file: in front of the body where that is enough (tx->header_at), else into a new file that takes
 * the old one's place (tx->fd, tx->size). A line that was no field, where the header ended, is then behind an empty line. To be called
 * before message_trace(), which continues in front; afterwards tx is what is delivered. 0, or -1 with errno (E2BIG: see CONTENT_GROWTH_MAX).
 */
int	content_write(struct content *c, struct tx *tx);

/* ---- what a checker wants changed, applied when its turn comes ---- */

enum edit_kind { EDIT_ADD_TOP, EDIT_ADD_END, EDIT_CHANGE, EDIT_REMOVE, EDIT__MAX };

struct edit {
	enum edit_kind	kind;
	int		nth;		/* CHANGE, REMOVE: which of that name, from 1, or from the end, from -1; 0: all. CHANGE of none adds one at the end */
	size_t		name_at, name_len, value_at, value_len;	/* in edits.text */
};

/* All zero is empty. */
struct edits {
	struct edit	*v;		/* owned */
	size_t		 n, max;
	struct buf	 text;		/* owned */
	size_t		 left_out;	/* that did not fit */
};

/* Copied; what is over a bound is counted in left_out. */
void	edits_add(struct edits *e, enum edit_kind kind, int nth, struct span name, struct span value);
void	edits_clear(struct edits *e);
/*
 * In their order; ADD_TOP of several: the last comes first. How many could not be applied, left_out not counted. They leave room for the
 * fields that content_insert() adds for ourselves.
 */
size_t	content_apply(struct content *c, const struct edits *e);

#endif
