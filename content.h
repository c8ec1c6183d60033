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
#define CONTENT_EDITS_MAX 256		/* edits of one filter; what is more is left out, and logged */

struct content_field {
	struct span	name;		/* as it came */
	struct span	value;		/* behind the colon, folded, without the last LF; begins with what stood there, usually a blank */
};

struct content {
	struct content_field *fields;	/* owned */
	size_t		 fields_n, fields_max;
	struct buf	 text;		/* owned: blocks of octets that the fields' spans point into never move; see content.c */
	void		*blocks;	/* owned */
	uint64_t	 fields_max_octets;	/* bound of all fields together: twice max_header_size */
	int		 body_fd;	/* where the body is: the message file, borrowed, or own_fd */
	uint64_t	 body_at, body_len;	/* from the first octet behind the empty line; a message without a body has 0 */
	bool		 has_body;	/* an empty line ends the header */
	int		 own_fd;	/* owned: a body that replaces the first one; -1: none */
	bool		 only_added;	/* all that has changed are fields in front of all others */
	bool		 changed;
};

/* Read the message of tx (tx->fd, from MESSAGE_ROOM on). 0, or -1 with errno (EFBIG: the header is over max_header_size). */
int	content_load(struct content *c, const struct tx *tx);
void	content_clear(struct content *c);

/* The index of the nth (from 1) field named so, in any case; SIZE_MAX: there is none. */
size_t	content_find(const struct content *c, const char *name, unsigned nth);
/*
 * Put a field before index (fields_n: at the end). name and value are copied; value's first blank is added when it has none. What is no
 * field (case 9.13: name of 1 to CONTENT_NAME_MAX octets [!-9;-~], value without NUL; a CR, LF or CRLF that is followed by a blank is a
 * fold, any other becomes a space) is not added. 0, or -1 (EINVAL, E2BIG, ENOMEM).
 */
int	content_insert(struct content *c, size_t index, struct span name, struct span value);
/* Another value for field index; as content_insert(). */
int	content_change(struct content *c, size_t index, struct span value);
void	content_delete(struct content *c, size_t index);
/* A new body begins, empty; then its octets, any line ends (CRLF becomes LF). 0, or -1 with errno. */
int	content_body_new(struct content *c);
int	content_body_add(struct content *c, const void *p, size_t n);

/* The header as octets with this line end ("\n" or "\r\n"), without the empty line. 0, or -1: it does not fit. */
int	content_header(const struct content *c, const char *eol, struct buf *out);
/*
 * Put what has changed into tx's message file: in front of the body where that is enough, else into a new file that takes the old one's
 * place (tx->fd, tx->size). To be called before message_trace(); afterwards tx is what is delivered. 0, or -1 with errno.
 */
int	content_write(struct content *c, struct tx *tx);

/* ---- what a checker wants changed, applied when its turn comes ---- */

enum edit_kind { EDIT_ADD_TOP, EDIT_ADD_END, EDIT_CHANGE, EDIT_REMOVE, EDIT__MAX };

struct edit {
	enum edit_kind	kind;
	unsigned	nth;		/* CHANGE, REMOVE: which of that name, from 1; 0: all. CHANGE of none adds one at the end */
	size_t		name_at, name_len, value_at, value_len;	/* in edits.text */
};

struct edits {
	struct edit	*v;		/* owned */
	size_t		 n, max;
	struct buf	 text;		/* owned */
	size_t		 left_out;	/* that did not fit */
};

/* Copied; what is over a bound is counted in left_out. */
void	edits_add(struct edits *e, enum edit_kind kind, unsigned nth, struct span name, struct span value);
void	edits_clear(struct edits *e);
/* How many could not be applied. */
size_t	content_apply(struct content *c, const struct edits *e);

#endif
