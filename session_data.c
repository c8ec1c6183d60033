/*
 * session_data.c - the content of a message: DATA and BDAT (RFC 3030), from the command to the end of data.
 */
#include "session_data.h"

#define SWALLOW_SLACK 65536	/* a message over the limit is read on to its end: so much beyond twice the limit */

/* ---- the transaction ---- */

bool
tx_is_open(const struct session *s)
{
	return (IN(s->state) & IN_TX) != 0;
}

void
tx_forget(struct session *s, enum canned why)
{
	if (tx_is_open(s)) {
		s->reset_due = true;
		s->reset_why = why;
		s->state = ST_READY;
	}
	memset(&s->tx, 0, sizeof(s->tx));
	memset(&s->chunk, 0, sizeof(s->chunk));
}

void
data_refused(struct session *s)
{
	enum canned why = s->tx.body.refuse;

	reply_canned(s, why);
	tx_forget(s, why);
}

/* The last octet of a message is there. */
static void
message_complete(struct session *s)
{
	body_end(&s->tx.body);
	if (s->tx.body.refuse != R_NONE)
		data_refused(s);
	else
		s->waits_for = REQ_MESSAGE;
}

/* ---- DATA ---- */

/* By the rules of this listener; returns the octets taken. */
static size_t
decode(struct session *s, const char *p, size_t n, bool dots, bool *end)
{
	const struct body_rules rules = { .max = s->config->max_message_size, .bare_newline = s->listener->bare_newline, .dots = dots,
	    .out = s->io->body };

	return body_decode(&s->tx.body, &rules, p, n, end);
}

size_t
data_feed(struct session *s, const char *p, size_t n)
{
	bool end;
	size_t taken = decode(s, p, n, true, &end);

	s->tx.wire += taken;
	if (end)
		message_complete(s);
	else if (s->tx.wire > 2 * s->config->max_message_size + SWALLOW_SLACK)
		reply_and_close(s, R_TOO_BIG);
	return taken;
}

void
data_command(struct session *s, struct span arg)
{
	(void)arg;
	if (s->tx.rcpts == 0) {
		reply_canned(s, s->tx.refused > 0 ? R_NO_RECIPIENTS : R_BAD_SEQUENCE);
		return;
	}
	if (s->more) {	/* content before 354: an attempt at smuggling, or a client that would not hear a refusal (case 3.3) */
		reply_and_close(s, R_EARLY);
		return;
	}
	if (s->tx.body.refuse != R_NONE) {
		data_refused(s);
		return;
	}
	s->waits_for = REQ_DATA;
}

/* ---- BDAT (RFC 3030) ---- */

static void
chunk_complete(struct session *s)
{
	enum canned swallow = s->chunk.swallow, refuse = s->tx.body.refuse;
	bool last = s->chunk.last;

	if (swallow != R_NONE) {
		reply_canned(s, swallow);
		if (last && s->state == ST_BDAT)
			tx_forget(s, R_NONE);
	} else if (last) {
		message_complete(s);
	} else if (refuse != R_NONE && refuse != R_NEWLINE && refuse != R_NUL) {
		reply_canned(s, refuse);
		s->tx.dead = true;
	} else {
		reply(s, 250, "2.0.0", "%llu octets received", (unsigned long long)s->chunk.size);
	}
	memset(&s->chunk, 0, sizeof(s->chunk));
}

size_t
data_feed_chunk(struct session *s, const char *p, size_t n)
{
	size_t taken = n < s->chunk.left ? n : (size_t)s->chunk.left;

	if (s->chunk.swallow == R_NONE) {
		bool end;

		taken = decode(s, p, taken, false, &end);
	}
	s->chunk.left -= taken;
	if (s->chunk.left == 0)
		chunk_complete(s);
	return taken;
}

void
data_bdat(struct session *s, struct span arg)
{
	uint64_t size, max = s->config->max_message_size;
	bool last;
	enum canned swallow = R_NONE;

	if (!smtp_bdat(arg, &size, &last)) {	/* no way to know where the chunk ends: out of step for good */
		reply_and_close(s, R_BAD_CHUNK);
		return;
	}
	if (size > 2 * max + SWALLOW_SLACK) {
		reply_and_close(s, R_TOO_BIG);
		return;
	}
	if (size == 0 && !last)
		s->junk++;
	if (s->state == ST_MAIL && s->tx.refused > 0)
		swallow = R_NO_RECIPIENTS;
	else if ((s->state != ST_RCPT && s->state != ST_BDAT) || s->tx.dead)
		swallow = R_BAD_SEQUENCE;
	else if (s->tx.body.refuse == R_LOST)
		swallow = R_LOST;
	else if (size > max - (s->tx.body.size < max ? s->tx.body.size : max))
		swallow = R_TOO_BIG;
	if (s->state == ST_RCPT)
		s->state = ST_BDAT;
	if (swallow == R_TOO_BIG || swallow == R_LOST)
		s->tx.dead = true;
	s->chunk.left = s->chunk.size = size;
	s->chunk.last = last;
	s->chunk.swallow = swallow;
	if (swallow == R_NONE && !s->tx.has_file)
		s->waits_for = REQ_DATA;
	else if (size == 0)
		chunk_complete(s);
}

/* ---- the agent's word on either ---- */

void
data_verdict(struct session *s, const struct verdict *v, bool has_file)
{
	if (v->code == 354 && has_file) {
		s->tx.has_file = true;
		if (s->state == ST_BDAT) {
			if (s->chunk.left == 0)
				chunk_complete(s);
			return;
		}
		reply(s, 354, NULL, "End data with <CR><LF>.<CR><LF>");
		s->state = ST_DATA;
		return;
	}
	if (s->state == ST_BDAT) {	/* the chunk is on its way all the same */
		s->tx.dead = true;
		s->chunk.swallow = v->code == 452 || v->code == 354 ? R_NO_SPACE : R_LOST;
		if (s->chunk.left == 0)
			chunk_complete(s);
		return;
	}
	if (v->code == 354) {	/* the file was lost on its way: no descriptor was left for it */
		body_refuse(&s->tx.body, R_NO_SPACE);
		data_refused(s);
		return;
	}
	reply_verdict(s, v);
	tx_forget(s, R_NONE);
}
