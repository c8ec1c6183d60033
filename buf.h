/*
 * buf.h - bounded queues of octets.
 *
 * All bits zero is an empty buffer that takes nothing: a buffer begins with buf_init() (grows on the heap up to max) or
 * buf_fixed() (in the caller's memory). An append that does not fit adds nothing and sets failed until buf_reset(), so
 * that a caller appends as it likes and checks once.
 */
#ifndef BUF_H
#define BUF_H

#include <stdarg.h>

#include "text.h"

struct buf {
	char	*data;		/* owned, unless fixed */
	size_t	 rpos, wpos;	/* the octets rpos..wpos are in the queue */
	size_t	 size, max;	/* allocated; may be allocated */
	bool	 failed, fixed;
};

void		buf_init(struct buf *b, size_t max);
/* Memory of the caller's, borrowed until buf_clear(). */
void		buf_fixed(struct buf *b, void *memory, size_t size);
/* Free what is owned and zero the structure. */
void		buf_clear(struct buf *b);
/* Empty it and forget a failure; memory is kept. */
void		buf_reset(struct buf *b);

/* 0, or -1 with failed set and nothing added. */
int		buf_add(struct buf *b, const void *p, size_t n);
int		buf_add_span(struct buf *b, struct span s);
int		buf_add_str(struct buf *b, const char *s);
int		buf_add_char(struct buf *b, char c);
int		buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
int		buf_vprintf(struct buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
/* Append a NUL that is not counted, and return what is queued as a string; NULL when it does not fit. */
const char	*buf_str(struct buf *b);

static inline size_t
buf_len(const struct buf *b)
{
	return b->wpos - b->rpos;
}

/* What may still be added. */
static inline size_t
buf_room(const struct buf *b)
{
	return b->max - b->wpos;
}

static inline struct span
buf_span(const struct buf *b)
{
	return (struct span){ b->data == NULL ? NULL : b->data + b->rpos, b->wpos - b->rpos };
}

/* Take n <= buf_len() octets off the front; an emptied buffer starts again at 0. */
void		buf_drop(struct buf *b, size_t n);
/* Move what is queued to the front of the memory: what was dropped is room again. */
void		buf_compact(struct buf *b);

#endif
