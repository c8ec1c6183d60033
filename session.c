/*
 * session.c - the SMTP protocol without I/O: octets in, replies and requests to the agent out.
 *
 * RFC 5321; 1870 SIZE, 2034 enhanced codes, 2920 PIPELINING, 3030 CHUNKING, 3207 STARTTLS, 4954 AUTH, 6152 8BITMIME, 6531 SMTPUTF8,
 * 9422 LIMITS. It leaves what it has to say in io->out and the message's octets in io->body. It never blocks, asks the clock or allocates.
 */
#include "session.h"

#include <assert.h>
#include <stdio.h>

#define COMMAND_MAX 512		/* RFC 5321 4.5.3.1.4, CRLF included */
#define COMMAND_MAX_PATH 2048	/* of MAIL and RCPT: long paths and parameters */
#define SKIP_MAX 65536		/* of an over-long line, then the connection is closed (case 4.1) */
#define PENALTY_MS 1000u
#define PENALTY_DOUBLINGS 3	/* of failed logins: 1, 2, 4, 8 seconds (case 7.9) */
#define JUNK_MAX 100		/* commands that do nothing for a message (case 3.16) */
#define REPLY_MAX 510		/* RFC 5321 4.5.3.1.5, without CRLF */
#define SWALLOW_SLACK 65536	/* a message over the limit is read on to its end: so much beyond twice the limit */

#define IN(state) (1u << (state))
#define IN_TX (IN(ST_MAIL) | IN(ST_RCPT) | IN(ST_DATA) | IN(ST_BDAT))
#define IN_ANY (IN(ST_GREETED) | IN(ST_READY) | IN_TX)

static const struct {
	int		 code;
	const char	*esc, *text;
} canned_replies[R__MAX] = {
	[R_BAD_SEQUENCE] = { 503, "5.5.1", "Bad sequence of commands" },
	[R_NEED_HELLO] = { 503, "5.5.1", "Send EHLO or HELO first" },
	[R_SYNTAX] = { 500, "5.5.2", "Syntax error" },
	[R_BARE_LF] = { 500, "5.5.2", "Commands end with CRLF" },
	[R_CONTROL] = { 500, "5.5.2", "Control or 8-bit characters in command" },
	[R_LINE_TOO_LONG] = { 500, "5.5.2", "Line too long" },
	[R_UNKNOWN] = { 500, "5.5.2", "Command not recognized" },
	[R_NOT_IMPLEMENTED] = { 502, "5.5.1", "Command not implemented" },
	[R_ARGUMENT] = { 501, "5.5.4", "Syntax error in argument" },
	[R_NO_ARGUMENT] = { 501, "5.5.4", "No argument allowed" },
	[R_HELLO] = { 501, "5.5.4", "A domain name or an address literal is needed" },
	[R_EARLY] = { 554, "5.5.0", "Protocol error: spoke too early" },
	[R_HOSTILE] = { 421, "4.7.0", "This is a mail server" },
	[R_TOO_MANY_ERRORS] = { 421, "4.7.0", "Too many errors" },
	[R_TIMEOUT] = { 421, "4.4.2", "Timeout" },
	[R_TOO_SLOW] = { 421, "4.4.2", "Too slow" },
	[R_SHUTDOWN] = { 421, "4.3.2", "Shutting down" },
	[R_NO_RECIPIENTS] = { 554, "5.5.1", "No valid recipients" },
	[R_TOO_MANY_RCPTS] = { 452, "4.5.3", "Too many recipients" },
	[R_TOO_BIG] = { 552, "5.3.4", "Message too big" },
	[R_NEWLINE] = { 550, "5.5.2", "Bare CR or LF in message" },
	[R_NUL] = { 550, "5.6.0", "NUL in message" },
	[R_NO_SPACE] = { 452, "4.3.1", "Insufficient system storage" },
	[R_LOST] = { 451, "4.3.0", "Temporary failure, try again" },
	[R_PARAM_UNKNOWN] = { 555, "5.5.4", "Parameter not recognized" },
	[R_PARAM_SYNTAX] = { 501, "5.5.4", "Syntax error in parameter" },
	[R_BAD_CHUNK] = { 501, "5.5.4", "Syntax error in chunk size" },
	[R_TLS_NEEDED] = { 530, "5.7.0", "Must issue a STARTTLS command first" },
	[R_TLS_UNAVAILABLE] = { 454, "4.7.0", "TLS not available" },
	[R_AFTER_STARTTLS] = { 554, "5.5.0", "Data after STARTTLS" },
	[R_AUTH_FAILED] = { 535, "5.7.8", "Authentication credentials invalid" },
	[R_AUTH_MANY] = { 421, "4.7.0", "Too many failed authentication attempts" },
	[R_AUTH_UNABLE] = { 454, "4.7.0", "Temporary authentication failure" },
	[R_AUTH_CANCELLED] = { 501, "5.7.0", "Authentication cancelled" },
	[R_AUTH_BASE64] = { 501, "5.5.2", "Not base64" },
	[R_AUTH_ENCRYPT] = { 538, "5.7.11", "Encryption required for requested authentication mechanism" },
	[R_AUTH_MECHANISM] = { 504, "5.5.4", "Unrecognized authentication mechanism" },
};

void
session_canned(enum canned which, struct verdict *v)
{
	*v = (struct verdict){ 0 };
	if (which != R_NONE)
		verdict_set(v, canned_replies[which].code, canned_replies[which].esc, "%s", canned_replies[which].text);
}

/* ---- replies ---- */

/*
 * Queue one line of a reply, the last or (more) one before it. esc is NULL where RFC 2034 4 has none: the greeting, replies to
 * HELO and EHLO, 3xx. What is not printable becomes '?', so no handler can put a line end on the wire.
 */
static void reply_line(struct session *s, bool more, int code, const char *esc, const char *fmt, ...) PRINTF_LIKE(5, 6);
#define reply(s, code, esc, ...) reply_line(s, false, code, esc, __VA_ARGS__)

static void
set_state(struct session *s, enum session_state state)
{
	s->state = state;
}

static void
transcript(const struct session *s, const char *event, struct span line)
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

static void
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
	transcript(s, "send", text_span(line));
	buf_add_str(s->io->out, line);
	buf_add(s->io->out, "\r\n", 2);
	if (code >= 400 && !more)
		count_error(s);
}

static void
reply_canned(struct session *s, enum canned which)
{
	struct session_counts *counts = s->io->counts;

	reply(s, canned_replies[which].code, canned_replies[which].esc, "%s", canned_replies[which].text);
	if (counts == NULL)
		return;
	counts->any = true;
	counts->canned[which]++;
}

static void
refuse_mail(struct session *s, enum canned which)
{
	reply_canned(s, which);
	if (s->io->counts != NULL)
		s->io->counts->mail_refused[which]++;
}

static void
reply_verdict(struct session *s, const struct verdict *v)
{
	reply(s, v->code, v->esc[0] == '\0' ? NULL : v->esc, "%s", v->text);
}

static void
close_with(struct session *s, enum canned which)
{
	if (s->state != ST_TLS)		/* nothing in clear follows the 220 (case 6.3) */
		reply_canned(s, which);
	set_state(s, ST_CLOSING);
	s->waits_for = REQ_NONE;
}

/* ---- the transaction ---- */

/* Forget it. why: the refusal of a message, for the agent's log. */
static void
tx_forget(struct session *s, enum canned why)
{
	if ((IN(s->state) & IN_TX) != 0) {
		s->reset_due = true;
		s->reset_why = why;
		set_state(s, ST_READY);
	}
	memset(&s->tx, 0, sizeof(s->tx));
	memset(&s->chunk, 0, sizeof(s->chunk));
}

/* The message will be refused; the first reason counts. */
static void
tx_refuse(struct session *s, enum canned why)
{
	if (s->tx.refuse == R_NONE)
		s->tx.refuse = why;
}

static void
ask(struct session *s, enum request_kind kind)
{
	s->waits_for = kind;
}

static void
message_refused(struct session *s)
{
	enum canned why = s->tx.refuse;

	reply_canned(s, why);
	tx_forget(s, why);
}

/* The last octet of a message is there. */
static void
message_complete(struct session *s)
{
	if (s->tx.decoder == DEC_CR)	/* a chunk that ends in CR */
		tx_refuse(s, R_NEWLINE);
	if (s->tx.refuse != R_NONE)
		message_refused(s);
	else
		ask(s, REQ_MESSAGE);
}

/* ---- the body: octets to lines that end in LF ---- */

/* Octets for the message file; counted are the octets that RFC 1870 counts for them. */
static void
emit(struct session *s, const char *p, size_t n, size_t counted)
{
	s->tx.size += counted;
	if (s->tx.size > s->config->max_message_size)
		tx_refuse(s, R_TOO_BIG);
	if (s->tx.refuse != R_NONE)
		return;
	if (buf_add(s->io->body, p, n) == -1) {	/* the owner gave less room than it promised */
		tx_refuse(s, R_LOST);
		return;
	}
	s->tx.written += n;
}

static void
emit_bare_cr(struct session *s)
{
	if (s->listener->bare_newline == NEWLINE_REJECT)
		tx_refuse(s, R_NEWLINE);
	emit(s, " ", 1, 1);
}

static void
emit_bare_lf(struct session *s)
{
	if (s->listener->bare_newline == NEWLINE_REJECT)
		tx_refuse(s, R_NEWLINE);
	emit(s, "\n", 1, 2);
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
decode_octet(struct session *s, char c, bool dots)
{
	switch (s->tx.decoder) {
	case DEC_DOT:
	case DEC_BARE_DOT:
		if (c == '\r') {
			s->tx.decoder = s->tx.decoder == DEC_DOT ? DEC_DOT_CR : DEC_BARE_DOT_CR;
			return true;
		}
		if (c == '\n') {	/* a line that is only a dot and touches a bare LF: dropped, if it is not refused */
			if (s->listener->bare_newline == NEWLINE_REJECT)
				tx_refuse(s, R_NEWLINE);
			s->tx.decoder = DEC_BARE_LINE;
			return true;
		}
		/* a dot that began a line is taken away (RFC 5321 4.5.2); after a bare LF nobody put it there */
		if (s->tx.decoder == DEC_BARE_DOT)
			emit(s, ".", 1, 1);
		s->tx.decoder = DEC_TEXT;
		break;
	case DEC_DOT_CR:
		if (c == '\n')
			return false;
		emit_bare_cr(s);
		s->tx.decoder = DEC_TEXT;
		break;
	case DEC_BARE_DOT_CR:
		s->tx.decoder = DEC_LINE;
		if (c == '\n')
			return true;
		emit(s, ".", 1, 1);
		emit_bare_cr(s);
		s->tx.decoder = DEC_TEXT;
		break;
	case DEC_CR:
		if (c == '\n') {
			emit(s, "\n", 1, 2);
			s->tx.decoder = DEC_LINE;
			return true;
		}
		emit_bare_cr(s);
		s->tx.decoder = DEC_TEXT;
		break;
	case DEC_LINE:
	case DEC_BARE_LINE:
		if (c == '.' && dots) {
			s->tx.decoder = s->tx.decoder == DEC_LINE ? DEC_DOT : DEC_BARE_DOT;
			return true;
		}
		s->tx.decoder = DEC_TEXT;
		break;
	case DEC_TEXT:
	case DEC__MAX:
		break;
	}
	if (c == '\r') {
		s->tx.decoder = DEC_CR;
	} else if (c == '\n') {
		emit_bare_lf(s);
		s->tx.decoder = DEC_BARE_LINE;
	} else {
		if (c == '\0')
			tx_refuse(s, R_NUL);
		emit(s, &c, 1, 1);
	}
	return true;
}

/* Returns the octets taken; *end is set when the last of them ended the data. */
static size_t
decode(struct session *s, const char *p, size_t n, bool dots, bool *end)
{
	size_t i = 0;

	*end = false;
	while (i < n) {
		size_t run = 0;

		if (s->tx.decoder == DEC_TEXT || (!dots && s->tx.decoder == DEC_LINE) ||
		    (s->tx.decoder == DEC_LINE && p[i] != '.'))
			run = plain_run(p + i, n - i);
		if (run > 0) {
			emit(s, p + i, run, run);
			s->tx.decoder = DEC_TEXT;
			i += run;
			/* the end of nearly every line, without going through the states one by one */
			if (n - i >= 2 && p[i] == '\r' && p[i + 1] == '\n') {
				emit(s, "\n", 1, 2);
				s->tx.decoder = DEC_LINE;
				i += 2;
			}
			continue;
		}
		if (!decode_octet(s, p[i++], dots)) {
			*end = true;
			break;
		}
	}
	return i;
}

static size_t
feed_data(struct session *s, const char *p, size_t n)
{
	bool end;
	size_t taken = decode(s, p, n, true, &end);

	s->tx.wire += taken;
	if (end)
		message_complete(s);
	else if (s->tx.wire > 2 * s->config->max_message_size + SWALLOW_SLACK)
		close_with(s, R_TOO_BIG);
	return taken;
}

/* ---- BDAT (RFC 3030) ---- */

static void
chunk_complete(struct session *s)
{
	enum canned swallow = s->chunk.swallow, refuse = s->tx.refuse;
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

static size_t
feed_chunk(struct session *s, const char *p, size_t n)
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

static void
cmd_bdat(struct session *s, struct span arg)
{
	uint64_t size, max = s->config->max_message_size;
	bool last;
	enum canned swallow = R_NONE;

	if (!smtp_bdat(arg, &size, &last)) {	/* no way to know where the chunk ends: out of step for good */
		close_with(s, R_BAD_CHUNK);
		return;
	}
	if (size > 2 * max + SWALLOW_SLACK) {
		close_with(s, R_TOO_BIG);
		return;
	}
	if (size == 0 && !last)
		s->junk++;
	if (s->state == ST_MAIL && s->tx.refused > 0)
		swallow = R_NO_RECIPIENTS;
	else if ((s->state != ST_RCPT && s->state != ST_BDAT) || s->tx.dead)
		swallow = R_BAD_SEQUENCE;
	else if (s->tx.refuse == R_LOST)
		swallow = R_LOST;
	else if (size > max - (s->tx.size < max ? s->tx.size : max))
		swallow = R_TOO_BIG;
	if (s->state == ST_RCPT)
		set_state(s, ST_BDAT);
	if (swallow == R_TOO_BIG || swallow == R_LOST)
		s->tx.dead = true;
	s->chunk.left = s->chunk.size = size;
	s->chunk.last = last;
	s->chunk.swallow = swallow;
	if (swallow == R_NONE && !s->tx.has_file)
		ask(s, REQ_DATA);
	else if (size == 0)
		chunk_complete(s);
}

/* ---- commands ---- */

static bool
auth_is_offered(const struct session *s)
{
	return s->io->mechanisms != 0 && (s->tls || s->loopback);
}

static void
reply_mechanisms(struct session *s)
{
	char text[64];
	struct buf b;

	buf_fixed(&b, text, sizeof(text));
	buf_add_str(&b, "AUTH");
	for (int m = SASL_NONE + 1; m < SASL__MAX; m++)
		if ((s->io->mechanisms & 1u << m) != 0)
			buf_printf(&b, " %s", sasl_name((enum sasl_mechanism)m));
	reply_line(s, true, 250, NULL, "%s", buf_str(&b));
}

static void
cmd_hello(struct session *s, struct span arg, bool esmtp)
{
	s->junk++;
	if (!smtp_helo(arg)) {
		reply_canned(s, R_HELLO);
		return;
	}
	if (s->more && s->listener->mode == MODE_SMTP) {	/* case 3.2 */
		close_with(s, R_EARLY);
		return;
	}
	tx_forget(s, R_NONE);
	/* cannot fail: smtp_helo() has bounded it */
	(void)text_copy(s->hello.name, sizeof(s->hello.name), arg);
	s->hello.esmtp = esmtp;
	set_state(s, ST_READY);
	if (!esmtp) {
		reply(s, 250, NULL, "%s", s->config->hostname);
		return;
	}
	reply_line(s, true, 250, NULL, "%s", s->config->hostname);
	reply_line(s, true, 250, NULL, "PIPELINING");
	reply_line(s, true, 250, NULL, "SIZE %llu", (unsigned long long)s->config->max_message_size);
	reply_line(s, true, 250, NULL, "8BITMIME");
	reply_line(s, true, 250, NULL, "ENHANCEDSTATUSCODES");
	reply_line(s, true, 250, NULL, "SMTPUTF8");
	if (s->config->per_recipient)
		reply_line(s, true, 250, NULL, "LIMITS RCPTMAX=1");
	if (s->io->has_tls && !s->tls)
		reply_line(s, true, 250, NULL, "STARTTLS");
	if (auth_is_offered(s))
		reply_mechanisms(s);
	reply(s, 250, NULL, "CHUNKING");
}

static void
cmd_ehlo(struct session *s, struct span arg)
{
	cmd_hello(s, arg, true);
}

static void
cmd_helo(struct session *s, struct span arg)
{
	cmd_hello(s, arg, false);
}

/* What is wrong with a path, as the reply to MAIL or (rcpt) RCPT says it. */
static void
reply_bad_path(struct session *s, enum smtp_path why, bool rcpt)
{
	const char *esc = rcpt ? "5.1.3" : "5.1.7", *who = rcpt ? "recipient" : "sender";

	switch (why) {
	case SMTP_PATH_NOT_ASCII:
		reply(s, 553, "5.6.7", "Non-ASCII %s address needs SMTPUTF8", who);
		break;
	case SMTP_PATH_BAD_UTF8:
		reply(s, 501, "5.5.2", "Invalid UTF-8 in %s address", who);
		break;
	case SMTP_PATH_TOO_LONG:
		reply(s, 501, esc, "The %s address is too long", who);
		break;
	case SMTP_PATH_NULL:
	case SMTP_PATH_SYNTAX:
	case SMTP_PATH_OK:
		reply(s, 501, esc, "Syntax error in %s address", who);
		break;
	}
}

static bool
take_keyword(struct span *arg, const char *keyword)
{
	if (!text_starts_nocase(*arg, keyword))
		return false;
	*arg = text_sub(*arg, strlen(keyword), arg->len);
	return true;
}

/* The parameters follow the path, but whether the path may hold UTF-8 depends on them: look for the word first. */
static bool
asks_for_utf8(struct span arg)
{
	struct span word;

	while (text_token(&arg, " ", &word))
		if (text_is_nocase(word, "SMTPUTF8"))
			return true;
	return false;
}

static void
cmd_mail(struct session *s, struct span arg)
{
	struct mailbox m;
	struct mail_params params;
	enum smtp_path path;
	bool utf8 = asks_for_utf8(arg);

	if (s->listener->mode == MODE_SUBMISSION && s->listener->require_tls && !s->tls && !s->loopback) {
		refuse_mail(s, R_TLS_NEEDED);
		return;
	}
	if (!take_keyword(&arg, "FROM:")) {
		refuse_mail(s, R_ARGUMENT);
		return;
	}
	path = smtp_path(&arg, utf8, false, &m);
	if (path != SMTP_PATH_OK && path != SMTP_PATH_NULL) {
		reply_bad_path(s, path, false);
		return;
	}
	if (arg.len > 0 && arg.p[0] != ' ') {
		refuse_mail(s, R_ARGUMENT);
		return;
	}
	switch (smtp_mail_params(arg, &params)) {
	case SMTP_PARAM_UNKNOWN:
		refuse_mail(s, R_PARAM_UNKNOWN);
		return;
	case SMTP_PARAM_SYNTAX:
		refuse_mail(s, R_PARAM_SYNTAX);
		return;
	case SMTP_PARAM_OK:
		break;
	}
	if (params.auth && !auth_is_offered(s)) {
		reply_canned(s, R_PARAM_UNKNOWN);
		return;
	}
	if (params.size > s->config->max_message_size) {
		refuse_mail(s, R_TOO_BIG);
		return;
	}
	s->tx.params = params;
	smtp_mailbox_print(&m, s->path);
	ask(s, REQ_MAIL);
}

static void
cmd_rcpt(struct session *s, struct span arg)
{
	struct mailbox m;
	enum smtp_path path;

	if (!take_keyword(&arg, "TO:")) {
		reply_canned(s, R_ARGUMENT);
		return;
	}
	path = smtp_path(&arg, s->tx.params.utf8, true, &m);
	if (path != SMTP_PATH_OK) {
		reply_bad_path(s, path, true);
		s->tx.refused++;
		return;
	}
	if (arg.len > 0 && arg.p[0] != ' ') {
		reply_canned(s, R_ARGUMENT);
		return;
	}
	switch (smtp_rcpt_params(arg)) {
	case SMTP_PARAM_UNKNOWN:
		reply_canned(s, R_PARAM_UNKNOWN);
		return;
	case SMTP_PARAM_SYNTAX:
		reply_canned(s, R_PARAM_SYNTAX);
		return;
	case SMTP_PARAM_OK:
		break;
	}
	if (s->tx.refuse != R_NONE) {
		reply_canned(s, s->tx.refuse);
		return;
	}
	if (s->tx.rcpts >= s->config->max_recipients) {
		reply_canned(s, R_TOO_MANY_RCPTS);
		return;
	}
	smtp_mailbox_print(&m, s->path);
	ask(s, REQ_RCPT);
}

static void
cmd_data(struct session *s, struct span arg)
{
	(void)arg;
	if (s->tx.rcpts == 0) {
		reply_canned(s, s->tx.refused > 0 ? R_NO_RECIPIENTS : R_BAD_SEQUENCE);
		return;
	}
	if (s->more) {	/* content before 354: an attempt at smuggling, or a client that would not hear a refusal (case 3.3) */
		close_with(s, R_EARLY);
		return;
	}
	if (s->tx.refuse != R_NONE) {
		message_refused(s);
		return;
	}
	ask(s, REQ_DATA);
}

static void
cmd_starttls(struct session *s, struct span arg)
{
	(void)arg;
	if (s->tls || s->auth.done) {
		reply_canned(s, R_BAD_SEQUENCE);
	} else if (!s->io->has_tls) {
		reply_canned(s, R_TLS_UNAVAILABLE);
	} else if (s->more) {	/* never to be run, in clear or not (case 6.1) */
		close_with(s, R_AFTER_STARTTLS);
	} else {
		reply(s, 220, "2.0.0", "Ready to start TLS");
		set_state(s, ST_TLS);
	}
}

/* ---- AUTH ---- */

/* The exchange is over without a login. */
static void
auth_end(struct session *s, enum canned which)
{
	set_state(s, ST_READY);
	s->auth.refused = false;
	reply_canned(s, which);
}

/* Refused: the more often, the longer it takes until the next attempt is read, and then the connection ends. */
static void
auth_failed(struct session *s)
{
	unsigned doublings = s->auth.failures < PENALTY_DOUBLINGS ? s->auth.failures : PENALTY_DOUBLINGS;

	if (++s->auth.failures >= s->config->max_auth_failures) {
		close_with(s, R_AUTH_MANY);
		return;
	}
	auth_end(s, R_AUTH_FAILED);
	s->penalty_ms = (unsigned)PENALTY_MS << doublings;
}

/* A response, in base64 as it came on the line ("=" for an empty initial one is the caller's matter). */
static void
auth_response(struct session *s, struct span base64)
{
	char response[SASL_RESPONSE_MAX];
	long n = text_base64_decode(base64, response, sizeof(response));

	buf_reset(s->io->secret);
	if (n == -1)
		auth_end(s, R_AUTH_BASE64);
	else if (buf_add(s->io->secret, response, (size_t)n) == -1)
		auth_end(s, R_AUTH_UNABLE);
	else
		ask(s, REQ_AUTH);
	explicit_bzero(response, sizeof(response));
}

static void
auth_line(struct session *s, struct span line)
{
	if (s->auth.refused)
		auth_failed(s);
	else if (text_is(line, "*"))
		auth_end(s, R_AUTH_CANCELLED);
	else
		auth_response(s, line);
}

static void
cmd_auth(struct session *s, struct span arg)
{
	struct span name, initial, rest = arg;
	enum sasl_mechanism m;

	if (s->io->mechanisms == 0 || s->auth.done || !s->hello.esmtp) {
		reply_canned(s, R_BAD_SEQUENCE);
		return;
	}
	if (!text_token(&rest, " ", &name)) {
		reply_canned(s, R_ARGUMENT);
		return;
	}
	initial = text_trim(rest);
	m = sasl_find(name);
	if (text_find(initial, ' ') != SIZE_MAX) {
		reply_canned(s, R_ARGUMENT);
	} else if (m == SASL_NONE || (s->io->mechanisms & 1u << m) == 0) {
		reply_canned(s, R_AUTH_MECHANISM);
	} else if (!s->tls && !s->loopback) {	/* what came with it is not looked at (case 7.1) */
		reply_canned(s, R_AUTH_ENCRYPT);
	} else {
		s->auth.mechanism = m;
		set_state(s, ST_AUTH);
		if (initial.len == 0)
			reply(s, 334, NULL, "%s", "");
		else
			auth_response(s, text_is(initial, "=") ? text_sub(initial, 1, 1) : initial);
	}
}

static void
verdict_auth(struct session *s, const struct verdict *v)
{
	char challenge[REPLY_MAX];

	if (v->code == 235) {
		s->auth.done = true;
		s->auth.failures = 0;
		set_state(s, ST_READY);
		reply_verdict(s, v);
	} else if (v->code != 535) {
		set_state(s, ST_READY);
		reply_verdict(s, v);
	} else if (sasl_is_bearer(s->auth.mechanism) &&
	    sasl_failure(s->auth.mechanism, s->config->issuers[0].required_scope, challenge, sizeof(challenge) - 4) != -1) {
		s->auth.refused = true;
		reply(s, 334, NULL, "%s", challenge);
	} else {
		auth_failed(s);
	}
}

/* ---- the rest ---- */

static void
cmd_rset(struct session *s, struct span arg)
{
	(void)arg;
	s->junk++;
	tx_forget(s, R_NONE);
	reply(s, 250, "2.0.0", "Reset");
}

static void
cmd_noop(struct session *s, struct span arg)
{
	(void)arg;
	s->junk++;
	reply(s, 250, "2.0.0", "Ok");
}

static void
cmd_quit(struct session *s, struct span arg)
{
	(void)arg;
	reply(s, 221, "2.0.0", "Bye");
	set_state(s, ST_CLOSING);
}

static void
cmd_not_implemented(struct session *s, struct span arg)
{
	(void)arg;
	s->junk++;
	reply_canned(s, R_NOT_IMPLEMENTED);
}

static void
cmd_hostile(struct session *s, struct span arg)
{
	(void)arg;
	close_with(s, R_HOSTILE);
}

enum {
	CMD_NOARG = 1,
	CMD_PATH = 2,	/* longer lines; 8-bit octets are the argument parser's matter */
	CMD_LONG = 4,	/* lines as long as a SASL response's */
};

static const struct command {
	const char	*verb;
	unsigned	 states;	/* where it is in sequence, else 503 */
	unsigned	 flags;
	void		(*run)(struct session *s, struct span arg);
} commands[] = {
	{ "EHLO", IN_ANY,                    0,         cmd_ehlo },
	{ "HELO", IN_ANY,                    0,         cmd_helo },
	{ "STARTTLS", IN(ST_READY),          CMD_NOARG, cmd_starttls },
	{ "AUTH", IN(ST_READY),              CMD_LONG,  cmd_auth },
	{ "MAIL", IN(ST_READY),              CMD_PATH,  cmd_mail },
	{ "RCPT", IN(ST_MAIL) | IN(ST_RCPT), CMD_PATH,  cmd_rcpt },
	{ "DATA", IN(ST_MAIL) | IN(ST_RCPT), CMD_NOARG, cmd_data },
	{ "BDAT", IN_ANY,                    0,         cmd_bdat },	/* out of sequence its chunk must be swallowed all the same */
	{ "RSET", IN_ANY,                    CMD_NOARG, cmd_rset },
	{ "NOOP", IN_ANY,                    0,         cmd_noop },
	{ "QUIT", IN_ANY,                    CMD_NOARG, cmd_quit },
	{ "VRFY", IN_ANY,                    0,         cmd_not_implemented },
	{ "EXPN", IN_ANY,                    0,         cmd_not_implemented },
	{ "HELP", IN_ANY,                    0,         cmd_not_implemented },
	{ "SEND", IN_ANY,                    0,         cmd_not_implemented },
	{ "SOML", IN_ANY,                    0,         cmd_not_implemented },
	{ "SAML", IN_ANY,                    0,         cmd_not_implemented },
	{ "TURN", IN_ANY,                    0,         cmd_not_implemented },
	/* another protocol's client, led here to say something harmful (case 3.17) */
	{ "GET", IN_ANY,                     0,         cmd_hostile },
	{ "POST", IN_ANY,                    0,         cmd_hostile },
	{ "PUT", IN_ANY,                     0,         cmd_hostile },
	{ "HEAD", IN_ANY,                    0,         cmd_hostile },
	{ "OPTIONS", IN_ANY,                 0,         cmd_hostile },
	{ "CONNECT", IN_ANY,                 0,         cmd_hostile },
	{ "PRI", IN_ANY,                     0,         cmd_hostile },
};

static const struct command *
find_command(struct span verb)
{
	for (size_t i = 0; i < COUNT(commands); i++)
		if (text_is_nocase(verb, commands[i].verb))
			return &commands[i];
	return NULL;
}

/* The verb at the start of a line, which may not be complete. */
static struct span
verb_of(struct span line)
{
	size_t n = 0;

	while (n < line.len && is_class(line.p[n], C_ALPHA))
		n++;
	return text_sub(line, 0, n);
}

/* "Name: value", as HTTP and others have it. */
static bool
is_header_field(struct span line)
{
	size_t colon = text_find(line, ':');

	if (colon == SIZE_MAX || colon == 0)
		return false;
	for (size_t i = 0; i < colon; i++)
		if (!is_alnum(line.p[i]) && line.p[i] != '-')
			return false;
	return true;
}

static bool
has_bad_octet(struct span line, bool path)
{
	for (size_t i = 0; i < line.len; i++)
		if ((is_class(line.p[i], C_CNTRL) && line.p[i] != '\t') || (is_8bit(line.p[i]) && !path))
			return true;
	return false;
}

_Static_assert(COUNT(commands) < SESSION_COMMANDS, "each has a place");

/* c NULL: it is none. */
static void
count_command(struct session *s, const struct command *c)
{
	s->commands++;
	if (s->io->counts == NULL)
		return;
	s->io->counts->any = true;
	s->io->counts->commands[c == NULL ? 0 : c - commands + 1]++;
}

/* Every check that a column of the table can state, then the row's function. line is without CRLF. */
static void
run_command(struct session *s, struct span line)
{
	struct span verb = verb_of(line), arg = text_sub(line, verb.len, line.len);
	const struct command *c = find_command(verb);
	bool path = c != NULL && (c->flags & CMD_PATH) != 0;

	count_command(s, c);
	if (has_bad_octet(line, path)) {
		reply_canned(s, R_CONTROL);
	} else if (is_header_field(line)) {
		close_with(s, R_HOSTILE);
	} else if (c == NULL || (arg.len > 0 && !is_class(arg.p[0], C_WSP))) {
		reply_canned(s, R_UNKNOWN);
	} else if ((c->flags & CMD_NOARG) != 0 && text_trim(arg).len > 0) {
		reply_canned(s, R_NO_ARGUMENT);
	} else if ((c->states & IN(s->state)) == 0) {
		reply_canned(s, s->state == ST_GREETED ? R_NEED_HELLO : R_BAD_SEQUENCE);
	} else {
		c->run(s, text_trim(arg));
	}
}

/* Without what may be a secret: a response, and what nobody can read, where one may have come at the wrong moment. */
static void
transcript_recv(struct session *s, struct span line)
{
	struct span rest = line, word;
	char shown[64];
	struct buf b;

	if (!s->config->log_transactions)
		return;
	if (s->state != ST_AUTH && !text_starts_nocase(line, "AUTH") &&
	    (s->io->mechanisms == 0 || find_command(verb_of(line)) != NULL)) {
		transcript(s, "recv", line);
		return;
	}
	buf_fixed(&b, shown, sizeof(shown));
	if (s->state != ST_AUTH && text_token(&rest, " ", &word) && text_is_nocase(word, "AUTH") && text_token(&rest, " ", &word) &&
	    sasl_find(word) != SASL_NONE)
		buf_printf(&b, "AUTH %s ", sasl_name(sasl_find(word)));
	buf_add_str(&b, "***");
	transcript(s, "recv", buf_span(&b));
}

static void
session_command(struct session *s, struct span line)
{
	transcript_recv(s, line);
	if (s->state == ST_AUTH)
		auth_line(s, line);
	else
		run_command(s, line);
	if (s->state != ST_CLOSING && (s->errors >= s->config->max_errors || s->junk > JUNK_MAX))
		close_with(s, R_TOO_MANY_ERRORS);
}

/* ---- lines ---- */

static size_t
line_max(const struct session *s, struct span start)
{
	const struct command *c = find_command(verb_of(text_sub(start, 0, 8)));

	if (s->state == ST_AUTH || (c != NULL && (c->flags & CMD_LONG) != 0))
		return SASL_LINE_MAX;
	return c != NULL && (c->flags & CMD_PATH) != 0 ? COMMAND_MAX_PATH : COMMAND_MAX;
}

/* In an over-long line: throw away up to its end, then say so once. */
static size_t
skip_line(struct session *s, const char *p, size_t n)
{
	const char *lf = memchr(p, '\n', n);
	size_t taken = lf == NULL ? n : (size_t)(lf - p) + 1;

	s->skipped += taken;
	if (lf == NULL) {
		if (s->skipped > SKIP_MAX)
			close_with(s, R_LINE_TOO_LONG);
		return taken;
	}
	s->skipped = 0;
	count_command(s, NULL);
	if (s->auth.refused) {		/* whatever the client answers to the challenge */
		auth_failed(s);
		return taken;
	}
	if (s->state == ST_AUTH)	/* the exchange ends with it (RFC 4954 4) */
		set_state(s, ST_READY);
	/* a name that is too long has a reply of its own (case 4.3) */
	if (text_is_nocase(text_span(s->skip_verb), "EHLO ") || text_is_nocase(text_span(s->skip_verb), "HELO "))
		reply_canned(s, R_HELLO);
	else
		reply_canned(s, R_LINE_TOO_LONG);
	if (s->errors >= s->config->max_errors)
		close_with(s, R_TOO_MANY_ERRORS);
	return taken;
}

static size_t
feed_line(struct session *s, const char *p, size_t n)
{
	const char *lf;
	struct span line = { p, n };
	size_t max;

	if (s->skipped > 0)
		return skip_line(s, p, n);
	max = line_max(s, line);
	lf = memchr(p, '\n', n);
	if (lf == NULL ? n > max : (size_t)(lf - p) + 1 > max) {
		size_t verb = n < 5 ? n : 5;

		memcpy(s->skip_verb, p, verb);
		s->skip_verb[verb] = '\0';
		return skip_line(s, p, n);
	}
	if (lf == NULL)
		return 0;
	line.len = (size_t)(lf - p);
	s->more = line.len + 1 < n;
	if (line.len == 0 || line.p[line.len - 1] != '\r')
		close_with(s, R_BARE_LF);
	else
		session_command(s, text_sub(line, 0, line.len - 1));
	return (size_t)(lf - p) + 1;
}

/* ---- the owner's side ---- */

void
session_init(struct session *s, const struct session_io *io, uint64_t id, const char *address)
{
	*s = (struct session){ .io = io, .config = io->config, .listener = io->listener, .id = id };
	if (text_copy(s->address, sizeof(s->address), text_span(address)) == -1)
		s->address[0] = '\0';
	s->loopback = strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0;
	ask(s, REQ_CONNECT);
}

void
session_tls(struct session *s)
{
	s->tls = true;
	if (s->state != ST_TLS)
		return;
	memset(&s->hello, 0, sizeof(s->hello));
	memset(&s->auth, 0, sizeof(s->auth));
	set_state(s, ST_GREETED);
}

bool
session_in_body(const struct session *s)
{
	return s->state == ST_DATA || s->chunk.left > 0;
}

bool
session_is_idle(const struct session *s)
{
	return s->waits_for == REQ_NONE && (IN(s->state) & IN_TX) == 0;
}

size_t
session_feed(struct session *s, const char *p, size_t n)
{
	size_t taken = 0;

	while (taken < n && s->waits_for == REQ_NONE && s->state != ST_CLOSING && s->state != ST_TLS &&
	    s->penalty_ms == 0 && buf_room(s->io->out) >= SESSION_OUT_ROOM) {
		size_t now;

		if (s->state == ST_DATA)
			now = feed_data(s, p + taken, n - taken);
		else if (s->chunk.left > 0)
			now = feed_chunk(s, p + taken, n - taken);
		else
			now = feed_line(s, p + taken, n - taken);
		if (now == 0)
			break;
		taken += now;
	}
	return taken;
}

static void
verdict_connect(struct session *s, const struct verdict *v, bool early)
{
	if (v->code != 220) {
		reply_verdict(s, v);
		set_state(s, ST_CLOSING);
	} else if (early && s->listener->mode == MODE_SMTP) {	/* case 3.1 */
		close_with(s, R_EARLY);
	} else {
		reply(s, 220, NULL, "%s ESMTP", s->config->hostname);
		set_state(s, ST_GREETED);
	}
}

static void
verdict_data(struct session *s, const struct verdict *v, bool has_file)
{
	if (v->code == 354 && has_file) {
		s->tx.has_file = true;
		if (s->state == ST_BDAT) {
			if (s->chunk.left == 0)
				chunk_complete(s);
			return;
		}
		reply(s, 354, NULL, "End data with <CR><LF>.<CR><LF>");
		set_state(s, ST_DATA);
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
		tx_refuse(s, R_NO_SPACE);
		message_refused(s);
		return;
	}
	reply_verdict(s, v);
	tx_forget(s, R_NONE);
}

void
session_verdict(struct session *s, const struct verdict *v, bool has_file, bool early)
{
	enum request_kind kind = s->waits_for;

	s->waits_for = REQ_NONE;
	switch (kind) {
	case REQ_CONNECT:
		verdict_connect(s, v, early);
		return;
	case REQ_AUTH:
		verdict_auth(s, v);
		break;
	case REQ_MAIL:
		reply_verdict(s, v);
		if (v->code / 100 == 2)
			set_state(s, ST_MAIL);
		break;
	case REQ_RCPT:
		reply_verdict(s, v);
		if (v->code / 100 == 2) {
			s->tx.rcpts++;
			set_state(s, ST_RCPT);
		} else {
			s->tx.refused++;
		}
		break;
	case REQ_DATA:
		verdict_data(s, v, has_file);
		break;
	case REQ_MESSAGE:
		reply_verdict(s, v);
		if (v->code / 100 == 2) {
			s->errors = s->junk = 0;
			s->messages++;
		}
		tx_forget(s, R_NONE);
		s->reset_due = false;	/* the agent has forgotten it with its answer */
		break;
	case REQ_NONE:
	case REQ_RESET:
	case REQ_CLOSE:
	case REQ__MAX:
		break;
	}
	if (v->code == 421)		/* whatever it was asked, the agent wants the client gone */
		set_state(s, ST_CLOSING);
	if (s->state != ST_CLOSING && s->errors >= s->config->max_errors)
		close_with(s, R_TOO_MANY_ERRORS);
}

void
session_agent_lost(struct session *s, bool sent)
{
	struct verdict v;

	s->reset_due = false;
	if ((IN(s->state) & IN_TX) != 0)
		tx_refuse(s, R_LOST);
	if (s->waits_for == REQ_NONE || (!sent && (s->waits_for == REQ_CONNECT || s->waits_for == REQ_MAIL)))
		return;
	session_canned(s->waits_for == REQ_AUTH ? R_AUTH_UNABLE : R_LOST, &v);
	if (s->waits_for == REQ_CONNECT)
		verdict_set(&v, 421, "4.3.0", "%s", "Temporary failure, try again");
	session_verdict(s, &v, false, false);
	s->reset_due = false;
}

void
session_body_failed(struct session *s)
{
	tx_refuse(s, R_NO_SPACE);
	if (s->waits_for == REQ_MESSAGE) {
		s->waits_for = REQ_NONE;
		message_refused(s);
	}
}

void
session_end(struct session *s, enum canned why)
{
	if (s->state != ST_CLOSING)
		close_with(s, why);
}

void
session_request(const struct session *s, struct request *q)
{
	*q = (struct request){ .kind = s->waits_for, .session = s->id };
	switch (s->waits_for) {
	case REQ_CONNECT:
		memcpy(q->address, s->address, sizeof(q->address));
		break;
	case REQ_MAIL:
		memcpy(q->helo, s->hello.name, sizeof(q->helo));
		memcpy(q->path, s->path, sizeof(q->path));
		q->port = s->port;
		q->mechanism = s->auth.done ? s->auth.mechanism : SASL_NONE;
		q->esmtp = s->hello.esmtp;
		q->utf8 = s->tx.params.utf8;
		q->body = s->tx.params.body;
		q->size = s->tx.params.size;
		break;
	case REQ_RCPT:
		memcpy(q->path, s->path, sizeof(q->path));
		break;
	case REQ_MESSAGE:
		q->size = s->tx.written;
		break;
	case REQ_AUTH:
		q->mechanism = s->auth.mechanism;
		break;
	case REQ_NONE:
	case REQ_DATA:
	case REQ_RESET:
	case REQ_CLOSE:
	case REQ__MAX:
		break;
	}
}

void
session_reset_request(const struct session *s, struct request *q)
{
	*q = (struct request){ .kind = REQ_RESET, .session = s->id };
	session_canned(s->reset_why, &q->verdict);
}

const char *
session_command_name(size_t i)
{
	return i > 0 && i <= COUNT(commands) ? commands[i - 1].verb : NULL;
}
