/*
 * milter_packet.c - the packets of the Sendmail milter protocol, versions 2 to 6, as pure functions.
 *
 * The names and numbers are those of Sendmail's mfdef.h. What comes is a stranger's: each form is read whole or not at all.
 */
#include "milter_packet.h"

/* ---- to a milter ---- */

void
milter_add_u32(struct buf *b, uint32_t n)
{
	unsigned char octets[] = { (unsigned char)(n >> 24), (unsigned char)(n >> 16), (unsigned char)(n >> 8), (unsigned char)n };

	buf_add(b, octets, sizeof(octets));
}

size_t
milter_begin(struct buf *b, char command)
{
	size_t at = buf_len(b);

	milter_add_u32(b, 0);
	buf_add_char(b, command);
	return at;
}

void
milter_end(struct buf *b, size_t at)
{
	size_t n = buf_len(b) - at - MILTER_LENGTH;
	char *p;

	if (b->failed)
		return;
	if (n > MILTER_PACKET_MAX) {
		b->failed = true;
		return;
	}
	p = b->data + b->rpos + at;	/* milter_begin() has put four octets there */
	for (int i = MILTER_LENGTH; i-- > 0; n >>= 8)
		p[i] = (char)(n & 0xff);
}

void
milter_add_command(struct buf *b, char command)
{
	milter_end(b, milter_begin(b, command));
}

void
milter_add_str(struct buf *b, struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_class(s.p[i], C_CNTRL))
			buf_add_char(b, s.p[i]);
	buf_add_char(b, '\0');
}

void
milter_add_text(struct buf *b, struct span s)
{
	for (size_t nul; (nul = text_find(s, '\0')) != SIZE_MAX; s = text_sub(s, nul + 1, s.len))
		buf_add_span(b, text_sub(s, 0, nul));
	buf_add_span(b, s);
	buf_add_char(b, '\0');
}

/* ---- from a milter ---- */

/* *s is cut by what is read. */
static bool
read_u32(struct span *s, uint32_t *n)
{
	if (s->len < 4)
		return false;
	*n = 0;
	for (size_t i = 0; i < 4; i++)
		*n = *n << 8 | (unsigned char)s->p[i];
	*s = text_sub(*s, 4, s->len);
	return true;
}

static bool
read_str(struct span *s, struct span *str)
{
	size_t nul = text_find(*s, '\0');

	if (nul == SIZE_MAX)
		return false;
	*str = text_sub(*s, 0, nul);
	*s = text_sub(*s, nul + 1, s->len);
	return true;
}

enum milter_frame
milter_frame(struct span in, char *command, struct span *data, size_t *len)
{
	struct span rest = in;
	uint32_t n;

	if (!read_u32(&rest, &n))
		return FRAME_PART;
	if (n == 0 || n > MILTER_PACKET_MAX)
		return FRAME_BAD;
	if (rest.len < n)
		return FRAME_PART;
	*command = rest.p[0];
	*data = text_sub(rest, 1, n);
	*len = MILTER_LENGTH + n;
	return FRAME_WHOLE;
}

const char *
milter_read_options(char command, struct span data, struct milter_options *o)
{
	if (command != 'O')
		return "it does not negotiate";
	/* What may follow is the macros that it would like to have. */
	if (!read_u32(&data, &o->version) || !read_u32(&data, &o->actions) || !read_u32(&data, &o->steps))
		return "its options are cut short";
	if (o->version < MILTER_VERSION_MIN)
		return "its version of the protocol is too old";
	if (o->version > MILTER_VERSION)
		o->version = MILTER_VERSION;
	if ((o->actions & ~(uint32_t)MILTER_ACTIONS) != 0)
		return "it asks for actions that were not offered";
	if ((o->steps & ~(uint32_t)MILTER_STEPS) != 0)
		return "it asks for protocol steps that were not offered";
	return NULL;
}

/* An enhanced status code of this class ('4', '5'), and nothing else (RFC 2034 4). */
static bool
is_esc(struct span s, char class)
{
	struct span rest = s, part;
	size_t parts = 0;

	if (s.len < 2 || s.p[0] != class || s.p[1] != '.' || s.p[s.len - 1] == '.')
		return false;
	for (; text_token(&rest, ".", &part); parts++) {
		uint64_t n;

		if (part.len > 3 || text_u64(part, 999, &n) == -1)
			return false;
	}
	return parts == 3;
}

/*
 * "550 5.7.1 text" or, if others follow, "550-5.7.1 text" (RFC 5321 4.2.1, 2034 4); code and esc as the first line has them. libmilter
 * lets a milter leave the esc out: it is the usual one then. What begins like one has to be one.
 */
static bool
read_reply_line(struct span line, bool last, struct milter_reply *r, struct span first, struct span *text)
{
	struct span esc;

	if (line.len < 5 || (line.p[0] != '4' && line.p[0] != '5') || line.p[1] < '0' || line.p[1] > '5' || !is_digit(line.p[2]) ||
	    line.p[3] != (last ? ' ' : '-'))
		return false;
	*text = text_sub(line, 4, line.len);
	if (text->len > 1 && is_digit(text->p[0]) && text->p[1] == '.') {
		esc = text_sub(*text, 0, text_find(*text, ' '));
		if (!is_esc(esc, line.p[0]))
			return false;
		*text = text_sub(*text, esc.len, text->len);
	} else {
		esc = line.p[0] == '4' ? SPAN("4.7.1") : SPAN("5.7.1");
	}
	*text = text_trim(*text);
	if (line.p != first.p && (memcmp(line.p, first.p, 3) != 0 || !text_is(esc, r->esc)))
		return false;
	r->code = (line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + (line.p[2] - '0');
	return text_copy(r->esc, sizeof(r->esc), esc) == 0;
}

/* The texts of all lines become one. A "%" is written twice, as Sendmail wants it. */
static void
add_text(struct buf *b, struct span text)
{
	if (buf_len(b) > 0 && text.len > 0)
		buf_add_char(b, ' ');
	for (size_t i = 0; i < text.len; i++) {
		if (text.p[i] == '%' && i + 1 < text.len && text.p[i + 1] == '%')
			i++;
		buf_add_char(b, is_vchar(text.p[i]) || text.p[i] == ' ' ? text.p[i] : '?');
	}
}

/* SMFIR_REPLYCODE (case 11.50). */
static bool
read_code(struct span data, struct milter_reply *r)
{
	struct span all, rest;
	struct buf b;

	if (!read_str(&data, &all) || data.len > 0)
		return false;
	buf_fixed(&b, r->text, sizeof(r->text) - 1);
	rest = all;
	for (bool last = false; !last;) {
		size_t n = 0;
		struct span text;

		while (n < rest.len && rest.p[n] != '\r' && rest.p[n] != '\n')
			n++;
		last = n == rest.len;
		if (!last && (rest.len - n < 2 || rest.p[n] != '\r' || rest.p[n + 1] != '\n'))
			return false;
		if (!read_reply_line(text_sub(rest, 0, n), last, r, all, &text))
			return false;
		add_text(&b, text);
		rest = text_sub(rest, n + 2, rest.len);
	}
	r->text[b.wpos] = '\0';		/* there is room for it; what did not fit is cut */
	return true;
}

enum form {
	FORM_NONE,	/* no data */
	FORM_CODE,
	FORM_FIELD,	/* name, value */
	FORM_INDEX,	/* index, name, value */
	FORM_STR,	/* one string */
	FORM_STRS,	/* one or more; the first counts */
	FORM_OCTETS,
};

static const struct answer_row {
	char			command;
	enum milter_answer	answer;
	enum form		form;
	uint32_t		action;
} answers[] = {
	{ 'c', ANSWER_CONTINUE,   FORM_NONE,   0 },
	{ 'a', ANSWER_ACCEPT,     FORM_NONE,   0 },
	{ 'r', ANSWER_REJECT,     FORM_NONE,   0 },
	{ 't', ANSWER_TEMPFAIL,   FORM_NONE,   0 },
	{ 'd', ANSWER_DISCARD,    FORM_NONE,   0 },
	{ 'y', ANSWER_CODE,       FORM_CODE,   0 },
	{ '4', ANSWER_SHUTDOWN,   FORM_NONE,   0 },
	{ 'f', ANSWER_CONN_FAIL,  FORM_NONE,   0 },
	{ 's', ANSWER_SKIP,       FORM_NONE,   0 },
	{ 'p', ANSWER_PROGRESS,   FORM_NONE,   0 },
	{ 'h', ANSWER_ADDHEADER,  FORM_FIELD,  MILTER_ADDHDRS },
	{ 'i', ANSWER_INSHEADER,  FORM_INDEX,  MILTER_ADDHDRS },
	{ 'm', ANSWER_CHGHEADER,  FORM_INDEX,  MILTER_CHGHDRS },
	{ 'b', ANSWER_REPLBODY,   FORM_OCTETS, MILTER_CHGBODY },
	{ '+', ANSWER_ADDRCPT,    FORM_STR,    MILTER_ADDRCPT },
	{ '2', ANSWER_ADDRCPT,    FORM_STRS,   MILTER_ADDRCPT_PAR },
	{ '-', ANSWER_DELRCPT,    FORM_STR,    MILTER_DELRCPT },
	{ 'e', ANSWER_CHGFROM,    FORM_STRS,   MILTER_CHGFROM },
	{ 'q', ANSWER_QUARANTINE, FORM_STR,    MILTER_QUARANTINE },
};

static bool
read_form(enum form form, struct span data, struct milter_reply *r)
{
	struct span more;

	switch (form) {
	case FORM_NONE:
		return data.len == 0;
	case FORM_CODE:
		return read_code(data, r);
	case FORM_INDEX:
		if (!read_u32(&data, &r->index))
			return false;
		/* FALLTHROUGH */
	case FORM_FIELD:
		return read_str(&data, &r->name) && read_str(&data, &r->value) && data.len == 0 && r->name.len > 0;
	case FORM_STR:
		return read_str(&data, &r->name) && data.len == 0;
	case FORM_STRS:
		if (!read_str(&data, &r->name))
			return false;
		while (data.len > 0)
			if (!read_str(&data, &more))
				return false;
		return true;
	case FORM_OCTETS:
		r->value = data;
		return true;
	}
	return false;
}

void
milter_read_reply(char command, struct span data, struct milter_reply *r)
{
	for (size_t i = 0; i < COUNT(answers); i++) {
		const struct answer_row *row = &answers[i];

		if (row->command != command)
			continue;
		*r = (struct milter_reply){ .answer = row->answer, .action = row->action };
		if (read_form(row->form, data, r))
			return;
	}
	*r = (struct milter_reply){ .answer = ANSWER_BAD };
}
