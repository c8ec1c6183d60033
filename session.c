/*
 * session.c - the SMTP protocol without I/O: octets in, replies and requests to the agent out.
 *
 * RFC 5321; 1870 SIZE, 2034 enhanced codes, 2920 PIPELINING, 3030 CHUNKING, 3207 STARTTLS, 4954 AUTH, 6152 8BITMIME, 6531 SMTPUTF8,
 * 9422 LIMITS. It leaves what it has to say in io->out and the message's octets in io->body. It never blocks, asks the clock or allocates.
 * Here: the lines, the commands but those that are larger, and what the owner calls. AUTH is in session_auth.c, DATA and BDAT in
 * session_data.c with body.c, what is said in session_reply.c.
 */
#include "session.h"

#include "session_auth.h"
#include "session_data.h"

#define COMMAND_MAX 512		/* RFC 5321 4.5.3.1.4, CRLF included */
#define COMMAND_MAX_PATH 2048	/* of MAIL and RCPT: long paths and parameters */
#define SKIP_MAX 65536		/* of an over-long line, then the connection is closed (case 4.1) */
#define JUNK_MAX 100		/* commands that do nothing for a message (case 3.16) */
#define IN_ANY (IN(ST_GREETED) | IN(ST_READY) | IN_TX)

static void
refuse_mail(struct session *s, enum canned which)
{
	reply_canned(s, which);
	if (s->io->counts != NULL)
		s->io->counts->mail_refused[which]++;
}

/* ---- commands ---- */

static void
cmd_hello(struct session *s, struct span arg, bool esmtp)
{
	s->junk++;
	if (!smtp_helo(arg)) {
		reply_canned(s, R_HELLO);
		return;
	}
	if (s->more && s->listener->mode == MODE_SMTP) {	/* case 3.2 */
		reply_and_close(s, R_EARLY);
		return;
	}
	tx_forget(s, R_NONE);
	/* cannot fail: smtp_helo() has bounded it */
	(void)text_copy(s->hello.name, sizeof(s->hello.name), arg);
	s->hello.esmtp = esmtp;
	s->state = ST_READY;
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
	if (session_auth_is_offered(s))
		session_auth_list(s);
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
	if (params.auth && !session_auth_is_offered(s)) {
		reply_canned(s, R_PARAM_UNKNOWN);
		return;
	}
	if (params.size > s->config->max_message_size) {
		refuse_mail(s, R_TOO_BIG);
		return;
	}
	s->tx.params = params;
	smtp_mailbox_print(&m, s->path);
	s->waits_for = REQ_MAIL;
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
	if (s->tx.body.refuse != R_NONE) {
		reply_canned(s, s->tx.body.refuse);
		return;
	}
	if (s->tx.rcpts >= s->config->max_recipients) {
		reply_canned(s, R_TOO_MANY_RCPTS);
		return;
	}
	smtp_mailbox_print(&m, s->path);
	s->waits_for = REQ_RCPT;
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
		reply_and_close(s, R_AFTER_STARTTLS);
	} else {
		reply(s, 220, "2.0.0", "Ready to start TLS");
		s->state = ST_TLS;
	}
}

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
	s->state = ST_CLOSING;
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
	reply_and_close(s, R_HOSTILE);
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
	{ "AUTH", IN(ST_READY),              CMD_LONG,  session_auth_command },
	{ "MAIL", IN(ST_READY),              CMD_PATH,  cmd_mail },
	{ "RCPT", IN(ST_MAIL) | IN(ST_RCPT), CMD_PATH,  cmd_rcpt },
	{ "DATA", IN(ST_MAIL) | IN(ST_RCPT), CMD_NOARG, data_command },
	{ "BDAT", IN_ANY,                    0,         data_bdat },	/* out of sequence its chunk must be swallowed all the same */
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
		reply_and_close(s, R_HOSTILE);
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
		reply_transcript(s, "recv", line);
		return;
	}
	buf_fixed(&b, shown, sizeof(shown));
	if (s->state != ST_AUTH && text_token(&rest, " ", &word) && text_is_nocase(word, "AUTH") && text_token(&rest, " ", &word) &&
	    sasl_find(word) != SASL_NONE)
		buf_printf(&b, "AUTH %s ", sasl_name(sasl_find(word)));
	buf_add_str(&b, "***");
	reply_transcript(s, "recv", buf_span(&b));
}

static void
session_command(struct session *s, struct span line)
{
	transcript_recv(s, line);
	if (s->state == ST_AUTH)
		session_auth_line(s, line);
	else
		run_command(s, line);
	if (s->state != ST_CLOSING && (s->errors >= s->config->max_errors || s->junk > JUNK_MAX))
		reply_and_close(s, R_TOO_MANY_ERRORS);
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
			reply_and_close(s, R_LINE_TOO_LONG);
		return taken;
	}
	s->skipped = 0;
	count_command(s, NULL);
	if (s->auth.refused) {		/* whatever the client answers to the challenge */
		session_auth_failed(s);
		return taken;
	}
	if (s->state == ST_AUTH)	/* the exchange ends with it (RFC 4954 4) */
		s->state = ST_READY;
	/* a name that is too long has a reply of its own (case 4.3) */
	if (text_is_nocase(text_span(s->skip_verb), "EHLO ") || text_is_nocase(text_span(s->skip_verb), "HELO "))
		reply_canned(s, R_HELLO);
	else
		reply_canned(s, R_LINE_TOO_LONG);
	if (s->errors >= s->config->max_errors)
		reply_and_close(s, R_TOO_MANY_ERRORS);
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
		reply_and_close(s, R_BARE_LF);
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
	s->waits_for = REQ_CONNECT;
}

void
session_tls(struct session *s)
{
	s->tls = true;
	if (s->state != ST_TLS)
		return;
	memset(&s->hello, 0, sizeof(s->hello));
	memset(&s->auth, 0, sizeof(s->auth));
	s->state = ST_GREETED;
}

bool
session_in_body(const struct session *s)
{
	return s->state == ST_DATA || s->chunk.left > 0;
}

bool
session_is_idle(const struct session *s)
{
	return s->waits_for == REQ_NONE && !tx_is_open(s);
}

size_t
session_feed(struct session *s, const char *p, size_t n)
{
	size_t taken = 0;

	while (taken < n && s->waits_for == REQ_NONE && s->state != ST_CLOSING && s->state != ST_TLS &&
	    s->penalty_ms == 0 && buf_room(s->io->out) >= SESSION_OUT_ROOM) {
		size_t now;

		if (s->state == ST_DATA)
			now = data_feed(s, p + taken, n - taken);
		else if (s->chunk.left > 0)
			now = data_feed_chunk(s, p + taken, n - taken);
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
		s->state = ST_CLOSING;
	} else if (early && s->listener->mode == MODE_SMTP) {	/* case 3.1 */
		reply_and_close(s, R_EARLY);
	} else {
		reply(s, 220, NULL, "%s ESMTP", s->config->hostname);
		s->state = ST_GREETED;
	}
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
		session_auth_verdict(s, v);
		break;
	case REQ_MAIL:
		reply_verdict(s, v);
		if (v->code / 100 == 2)
			s->state = ST_MAIL;
		break;
	case REQ_RCPT:
		reply_verdict(s, v);
		if (v->code / 100 == 2) {
			s->tx.rcpts++;
			s->state = ST_RCPT;
		} else {
			s->tx.refused++;
		}
		break;
	case REQ_DATA:
		data_verdict(s, v, has_file);
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
		s->state = ST_CLOSING;
	if (s->state != ST_CLOSING && s->errors >= s->config->max_errors)
		reply_and_close(s, R_TOO_MANY_ERRORS);
}

void
session_agent_lost(struct session *s, bool sent)
{
	struct verdict v;

	s->reset_due = false;
	if (tx_is_open(s))
		body_refuse(&s->tx.body, R_LOST);
	if (s->waits_for == REQ_NONE || (!sent && (s->waits_for == REQ_CONNECT || s->waits_for == REQ_MAIL)))
		return;
	canned_verdict(s->waits_for == REQ_AUTH ? R_AUTH_UNABLE : R_LOST, &v);
	if (s->waits_for == REQ_CONNECT)
		verdict_set(&v, 421, "4.3.0", "%s", "Temporary failure, try again");
	session_verdict(s, &v, false, false);
	s->reset_due = false;
}

void
session_body_failed(struct session *s)
{
	body_refuse(&s->tx.body, R_NO_SPACE);
	if (s->waits_for == REQ_MESSAGE) {
		s->waits_for = REQ_NONE;
		data_refused(s);
	}
}

void
session_end(struct session *s, enum canned why)
{
	if (s->state != ST_CLOSING)
		reply_and_close(s, why);
}

void
session_request(const struct session *s, struct request *q)
{
	*q = (struct request){ .kind = s->waits_for, .session = s->id };
	switch (s->waits_for) {
	case REQ_CONNECT:
		break;
	case REQ_MAIL:
		memcpy(q->helo, s->hello.name, sizeof(q->helo));
		memcpy(q->path, s->path, sizeof(q->path));
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
		q->size = s->tx.body.written;
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
	canned_verdict(s->reset_why, &q->verdict);
}

const char *
session_command_name(size_t i)
{
	return i > 0 && i <= COUNT(commands) ? commands[i - 1].verb : NULL;
}
