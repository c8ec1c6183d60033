/*
 * session_reply.c - what a session says: replies, and the transcript of the dialogue.
 */
#include "session_reply.h"

#include <assert.h>
#include <stdio.h>

void
reply_transcript(const struct session *s, const char *event, struct span line)
{
	if (s->config->log_transactions)
		log_info(s->id, event, LF_SPAN("line", line));
}

static void
count_error(struct session *s)
{
	s->errors++;
	if (s->errors > s->config->max_errors / 2)
		s->penalty_ms = PENALTY_MS;
}

void
reply_line(struct session *s, bool more, int code, const char *esc, const char *fmt, ...)
{
	char line[REPLY_MAX + 1];
	int n;
	va_list ap;

	n = snprintf(line, sizeof(line), "%d%c%s%s", code, more ? '-' : ' ', esc == NULL ? "" : esc, esc == NULL ? "" : " ");
	assert(n > 0 && (size_t)n < sizeof(line));
	va_start(ap, fmt);
	/* a text that is too long is cut */
	if (vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap) < 0)
		line[n] = '\0';
	va_end(ap);
	for (char *p = line; *p != '\0'; p++)
		if (!is_vchar(*p) && *p != ' ')
			*p = '?';
	reply_transcript(s, "send", text_span(line));
	buf_add_str(s->io->out, line);
	buf_add(s->io->out, "\r\n", 2);
	if (code >= 400 && !more)
		count_error(s);
}

void
reply_canned(struct session *s, enum canned which)
{
	struct session_counts *counts = s->io->counts;

	reply(s, canned_replies[which].code, canned_replies[which].esc, "%s", canned_replies[which].text);
	if (counts == NULL)
		return;
	counts->any = true;
	counts->canned[which]++;
}

void
reply_verdict(struct session *s, const struct verdict *v)
{
	reply(s, v->code, v->esc[0] == '\0' ? NULL : v->esc, "%s", v->text);
}

void
reply_and_close(struct session *s, enum canned which)
{
	if (s->state != ST_TLS)		/* nothing in clear follows the 220 (case 6.3) */
		reply_canned(s, which);
	s->state = ST_CLOSING;
	s->waits_for = REQ_NONE;
}
