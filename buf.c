/*
 * buf.c - bounded queues of octets.
 */
#include "buf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

void
buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max };
}

void
buf_fixed(struct buf *b, void *memory, size_t size)
{
	*b = (struct buf){ .data = memory, .size = size, .max = size, .fixed = true };
}

void
buf_clear(struct buf *b)
{
	if (!b->fixed)
		free(b->data);
	*b = (struct buf){ 0 };
}

void
buf_reset(struct buf *b)
{
	b->rpos = b->wpos = 0;
	b->failed = false;
}

/* Room for n more octets, n <= max - wpos. */
static int
buf_grow(struct buf *b, size_t n)
{
	size_t size = b->size;
	char *data;

	if (n <= b->size - b->wpos)
		return 0;
	if (b->fixed)
		return -1;
	while (size - b->wpos < n) {
		size_t more = size == 0 ? 64 : size;

		size = more > b->max - size ? b->max : size + more;
	}
	data = realloc(b->data, size);
	if (data == NULL)
		return -1;
	b->data = data;
	b->size = size;
	return 0;
}

int
buf_add(struct buf *b, const void *p, size_t n)
{
	if (b->failed || n > b->max - b->wpos || buf_grow(b, n) == -1) {
		b->failed = true;
		return -1;
	}
	if (n > 0)
		memcpy(b->data + b->wpos, p, n);
	b->wpos += n;
	return 0;
}

int
buf_add_span(struct buf *b, struct span s)
{
	return buf_add(b, s.p, s.len);
}

int
buf_add_str(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

int
buf_add_char(struct buf *b, char c)
{
	return buf_add(b, &c, 1);
}

int
buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	char small[512];
	va_list again;
	int n, ret;

	va_copy(again, ap);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	if (n >= 0 && (size_t)n < sizeof(small)) {
		ret = buf_add(b, small, (size_t)n);
	} else if (n < 0 || b->failed || (size_t)n >= b->max - b->wpos || buf_grow(b, (size_t)n + 1) == -1) {
		/* vsnprintf wants room for its NUL, so a text that fits to the octet is refused here */
		b->failed = true;
		ret = -1;
	} else {
		ret = vsnprintf(b->data + b->wpos, (size_t)n + 1, fmt, again) == n ? 0 : -1;
		b->wpos += ret == 0 ? (size_t)n : 0;
	}
	va_end(again);
	return ret;
}

int
buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return ret;
}

const char *
buf_str(struct buf *b)
{
	if (buf_add_char(b, '\0') == -1)
		return NULL;
	b->wpos--;
	return b->data + b->rpos;
}

void
buf_drop(struct buf *b, size_t n)
{
	assert(n <= buf_len(b));
	b->rpos += n;
	if (b->rpos == b->wpos)
		b->rpos = b->wpos = 0;
}

void
buf_compact(struct buf *b)
{
	if (b->rpos == 0)
		return;
	memmove(b->data, b->data + b->rpos, b->wpos - b->rpos);
	b->wpos -= b->rpos;
	b->rpos = 0;
}
