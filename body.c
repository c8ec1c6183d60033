/*
 * body.c - the octets of a message as they come (RFC 5321 4.5.2; 3030 3), to lines that end in LF. No I/O.
 *
 * What ends a line is CRLF and nothing else: what a bare CR or LF could hide from the next server is refused or made harmless here
 * (cases 1.1 to 1.23). All of a message passes through this file: body_decode() and what it calls stay side by side.
 */
#include "body.h"

void
body_refuse(struct body *b, enum canned why)
{
	if (b->refuse == R_NONE)
		b->refuse = why;
}

/* Octets for the message file; counted are the octets that RFC 1870 counts for them. */
static void
emit(struct body *b, const struct body_rules *r, const char *p, size_t n, size_t counted)
{
	b->size += counted;
	if (b->size > r->max)
		body_refuse(b, R_TOO_BIG);
	if (b->refuse != R_NONE)
		return;
	if (buf_add(r->out, p, n) == -1) {	/* the owner gave less room than it promised */
		body_refuse(b, R_LOST);
		return;
	}
	b->written += n;
}

static void
emit_bare_cr(struct body *b, const struct body_rules *r)
{
	if (r->bare_newline == NEWLINE_REJECT)
		body_refuse(b, R_NEWLINE);
	emit(b, r, " ", 1, 1);
}

static void
emit_bare_lf(struct body *b, const struct body_rules *r)
{
	if (r->bare_newline == NEWLINE_REJECT)
		body_refuse(b, R_NEWLINE);
	emit(b, r, "\n", 1, 2);
}

/* The length of the run from p that holds no CR, LF or NUL; eight octets at a time, since all of a message passes here. */
static size_t
plain_run(const char *p, size_t n)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), highs = UINT64_C(0x8080808080808080);
	size_t i = 0;

	for (; n - i >= 8; i += 8) {
		uint64_t w, cr, lf;

		memcpy(&w, p + i, 8);
		cr = w ^ (ones * '\r');
		lf = w ^ (ones * '\n');
		if ((((w - ones) & ~w) | ((cr - ones) & ~cr) | ((lf - ones) & ~lf)) & highs)
			break;
	}
	while (i < n && p[i] != '\r' && p[i] != '\n' && p[i] != '\0')
		i++;
	return i;
}

/* One octet that is no part of a plain run, or that the decoder's state makes special. Returns false at the end of data. */
static bool
decode_octet(struct body *b, const struct body_rules *r, char c)
{
	switch (b->decoder) {
	case DEC_DOT:
	case DEC_BARE_DOT:
		if (c == '\r') {
			b->decoder = b->decoder == DEC_DOT ? DEC_DOT_CR : DEC_BARE_DOT_CR;
			return true;
		}
		if (c == '\n') {	/* a line that is only a dot and touches a bare LF: dropped, if it is not refused */
			if (r->bare_newline == NEWLINE_REJECT)
				body_refuse(b, R_NEWLINE);
			b->decoder = DEC_BARE_LINE;
			return true;
		}
		/* a dot that began a line is taken away (RFC 5321 4.5.2); after a bare LF nobody put it there */
		if (b->decoder == DEC_BARE_DOT)
			emit(b, r, ".", 1, 1);
		b->decoder = DEC_TEXT;
		break;
	case DEC_DOT_CR:
		if (c == '\n')
			return false;
		emit_bare_cr(b, r);
		b->decoder = DEC_TEXT;
		break;
	case DEC_BARE_DOT_CR:
		b->decoder = DEC_LINE;
		if (c == '\n')
			return true;
		emit(b, r, ".", 1, 1);
		emit_bare_cr(b, r);
		b->decoder = DEC_TEXT;
		break;
	case DEC_CR:
		if (c == '\n') {
			emit(b, r, "\n", 1, 2);
			b->decoder = DEC_LINE;
			return true;
		}
		emit_bare_cr(b, r);
		b->decoder = DEC_TEXT;
		break;
	case DEC_LINE:
	case DEC_BARE_LINE:
		if (c == '.' && r->dots) {
			b->decoder = b->decoder == DEC_LINE ? DEC_DOT : DEC_BARE_DOT;
			return true;
		}
		b->decoder = DEC_TEXT;
		break;
	case DEC_TEXT:
	case DEC__MAX:
		break;
	}
	if (c == '\r') {
		b->decoder = DEC_CR;
	} else if (c == '\n') {
		emit_bare_lf(b, r);
		b->decoder = DEC_BARE_LINE;
	} else {
		if (c == '\0')
			body_refuse(b, R_NUL);
		emit(b, r, &c, 1, 1);
	}
	return true;
}

size_t
body_decode(struct body *b, const struct body_rules *r, const char *p, size_t n, bool *end)
{
	size_t i = 0;

	*end = false;
	while (i < n) {
		size_t run = 0;

		if (b->decoder == DEC_TEXT || (!r->dots && b->decoder == DEC_LINE) ||
		    (b->decoder == DEC_LINE && p[i] != '.'))
			run = plain_run(p + i, n - i);
		if (run > 0) {
			emit(b, r, p + i, run, run);
			b->decoder = DEC_TEXT;
			i += run;
			/* the end of nearly every line, without going through the states one by one */
			if (n - i >= 2 && p[i] == '\r' && p[i + 1] == '\n') {
				emit(b, r, "\n", 1, 2);
				b->decoder = DEC_LINE;
				i += 2;
			}
			continue;
		}
		if (!decode_octet(b, r, p[i++])) {
			*end = true;
			break;
		}
	}
	return i;
}

void
body_end(struct body *b)
{
	if (b->decoder == DEC_CR)	/* a chunk that ends in CR */
		body_refuse(b, R_NEWLINE);
}
