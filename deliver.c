/*
 * deliver.c - the delivery agents behind one interface, and whether a recipient can get mail.
 *
 * DESIGN.md, "The delivery contract"; SECURITY-CASES 5.21 to 5.27, 11.60, 12. Nothing from outside is ever looked at for an
 * expansion, reaches a shell, or becomes a variable's name.
 */
#include "deliver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "maildir.h"
#include "recipients.h"

#define CHECK_MS 30000			/* of recipient_command, when the delivery timeout is not shorter */
#define VECTOR_MAX (512 * 1024)		/* octets of an argument vector or environment */

/* A delivery or a check that a command does. */
struct op {
	struct op	*next;
	struct lane	*lane;
	const struct words *command;	/* the configuration's */
	const struct tx	*tx;		/* borrowed until done, as rcpts */
	const struct mailbox *rcpts;
	size_t		 rcpts_n;
	bool		 check;
	int		 fd;		/* the command's standard input, owned; -1: none */
	int64_t		 until_at;	/* it does not wait for its turn longer */
	deliver_done	*done;
	void		*arg;
};

/* Commands of one kind: so many at once, and a queue. */
struct lane {
	struct deliver	*d;
	struct op	*head, *last;
	size_t		 running, waiting, max;
	struct loop_slot slot;		/* until_at of the first that waits */
	int64_t		 timeout_ms;
};

struct deliver {
	struct loop	*loop;
	const struct config *config;
	struct children	*children;	/* borrowed until deliver_free() */
	struct child_user user;		/* of commands */
	struct maildir	*maildir;	/* NULL: the agent is command */
	struct lane	 deliveries, checks;
	struct recipients *recipients;	/* NULL: no recipients_file */
};

/* ---- verdicts ---- */

static const struct exit_row {
	int		 status;	/* exit status */
	int		 code;
	char		 esc[6];
	const char	*text;
} exits[] = {
	{ 65, 550, "5.6.0", "Message content refused" },
	{ 67, 550, "5.1.1", "No such recipient" },
	{ 68, 550, "5.1.2", "No such host" },
	{ 77, 550, "5.7.1", "Not permitted" },
	{ 78, 451, "4.3.5", "Delivery is not configured properly" },
	{ 100, 554, "5.3.0", "Delivery failed" },
	{ 126, 451, "4.3.5", "Delivery is not configured properly" },
	{ 127, 451, "4.3.5", "Delivery is not configured properly" },
};

static const char *
temporary(const struct op *op)
{
	return op->check ? "Temporary lookup failure" : "Temporary delivery failure";
}

static void
answer_now(deliver_done *done, void *arg, int code, const char *esc, const char *text, const char *detail)
{
	struct verdict v = { 0 };

	verdict_set(&v, code, esc, "%s", text);
	done(arg, &v, detail);
}

static void
op_done(struct op *op, const struct verdict *v, const char *detail)
{
	deliver_done *done = op->done;
	void *arg = op->arg;

	if (op->fd != -1)
		close(op->fd);
	free(op);
	done(arg, v, detail);
}

/* The first line of a command's output. */
static struct span
first_line(struct span output)
{
	struct span line = text_sub(output, 0, text_find(output, '\n'));

	if (line.len > 0 && line.p[line.len - 1] == '\r')
		line.len--;
	return line;
}

/* The delivery contract: what the exit status and the output mean. detail is for the log. */
static void
judge(const struct op *op, const struct child_result *r, struct verdict *v, char *detail, size_t size)
{
	int status = WIFEXITED(r->status) ? WEXITSTATUS(r->status) : -1;
	char esc[12], text[sizeof(v->text)];

	verdict_set(v, 451, "4.3.0", "%s", temporary(op));
	if (r->timed_out) {
		(void)snprintf(detail, size, "timeout");
		return;
	}
	if (r->status == -1) {
		(void)snprintf(detail, size, "not started: %s", strerror(r->error));
		verdict_set(v, 451, "4.3.5", "Delivery is not configured properly");
		return;
	}
	if (status == -1) {
		(void)snprintf(detail, size, "signal %d", WTERMSIG(r->status));
		return;
	}
	(void)snprintf(detail, size, "exit %d", status);
	if (status == 0) {
		if (op->check)
			verdict_set(v, 250, "2.1.5", "Recipient ok");
		else
			verdict_set(v, 250, "2.0.0", "Ok: %s", op->tx->id);
		return;
	}
	if (smtp_status_line(first_line(r->output), esc, text, sizeof(text))) {
		verdict_set(v, esc[0] == '5' ? 550 : 451, esc, "%s", text);
		return;
	}
	for (size_t i = 0; i < COUNT(exits); i++)
		if (exits[i].status == status)
			verdict_set(v, exits[i].code, exits[i].esc, "%s", exits[i].text);
}

/* ---- argument vectors and environments ---- */

/* NUL-terminated strings, one after the other; the pointers are made when all are there. */
struct vector {
	struct buf	 b;
	size_t		 n;
};

static void
vector_init(struct vector *v)
{
	buf_init(&v->b, VECTOR_MAX);
	v->n = 0;
}

static void
vector_end_word(struct vector *v)
{
	buf_add_char(&v->b, '\0');
	v->n++;
}

/* A NULL-terminated array into v; owned by the caller. NULL with errno. */
static char **
vector_strings(struct vector *v)
{
	char **strings, *p = v->b.data;

	if (v->b.failed) {
		errno = E2BIG;
		return NULL;
	}
	strings = calloc(v->n + 1, sizeof(*strings));
	for (size_t i = 0; i < v->n && strings != NULL; i++) {
		strings[i] = p;
		p += strlen(p) + 1;
	}
	return strings;
}

static void
add_mailbox(struct buf *b, const struct mailbox *m)
{
	char address[SMTP_ADDRESS_MAX + 1];

	smtp_mailbox_print(m, address);
	buf_add_str(b, address);
}

static void
add_mailboxes(struct buf *b, const struct mailbox *m, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			buf_add_char(b, ' ');
		add_mailbox(b, &m[i]);
	}
}

/* The expansion that a template goes on with, and its length; X__MAX: none. */
static enum expansion
find_expansion(const char *p, size_t *len)
{
	for (int x = 0; x < X__MAX; x++) {
		size_t n = strlen(expansion_names[x]);

		if (strncmp(p, "%{", 2) == 0 && strncmp(p + 2, expansion_names[x], n) == 0 && p[2 + n] == '}') {
			*len = n + 3;
			return (enum expansion)x;
		}
	}
	return X__MAX;
}

static void
add_expansion(struct buf *b, const struct op *op, enum expansion x)
{
	switch (x) {
	case X_SENDER:
		add_mailbox(b, &op->tx->sender);
		break;
	case X_RECIPIENT:
		add_mailbox(b, &op->rcpts[0]);
		break;
	case X_RECIPIENTS:
		add_mailboxes(b, op->rcpts, op->rcpts_n);
		break;
	case X_USER:
		buf_add_str(b, op->rcpts[0].local);
		break;
	case X_DOMAIN:
		buf_add_str(b, op->rcpts[0].domain);
		break;
	case X_AUTH_USER:
		buf_add_str(b, op->tx->auth_user);
		break;
	case X_CLIENT_ADDRESS:
		buf_add_str(b, op->tx->client_address);
		break;
	case X_ID:
		buf_add_str(b, op->tx->id);
		break;
	case X__MAX:
		break;
	}
}

/* One pass over the template's words: what a value holds is never expanded again (case 5.22). */
static void
add_words(struct vector *v, const struct words *template, const struct op *op)
{
	for (size_t i = 0; i < template->n; i++) {
		const char *p = template->v[i];
		size_t len;

		if (strcmp(p, "%{recipients}") == 0) {
			for (size_t k = 0; k < op->rcpts_n; k++) {
				add_mailbox(&v->b, &op->rcpts[k]);
				vector_end_word(v);
			}
			continue;
		}
		while (*p != '\0') {
			enum expansion x = find_expansion(p, &len);

			if (x == X__MAX) {
				buf_add_char(&v->b, *p++);
			} else {
				add_expansion(&v->b, op, x);
				p += len;
			}
		}
		vector_end_word(v);	/* an empty one stays in its place (case 5.25) */
	}
}

static void
add_variable(struct vector *v, const char *name, const char *value)
{
	buf_printf(&v->b, "%s=", name);
	buf_add_str(&v->b, value);
	vector_end_word(v);
}

static void
add_environment(struct vector *v, const struct op *op)
{
	const struct tx *tx = op->tx;

	buf_add_str(&v->b, CHILD_PATH);
	vector_end_word(v);
	buf_add_str(&v->b, "SENDER=");
	add_mailbox(&v->b, &tx->sender);
	vector_end_word(v);
	if (op->rcpts_n == 1) {
		buf_add_str(&v->b, "RECIPIENT=");
		add_mailbox(&v->b, &op->rcpts[0]);
		vector_end_word(v);
	}
	buf_add_str(&v->b, "RECIPIENTS=");
	add_mailboxes(&v->b, op->rcpts, op->rcpts_n);
	vector_end_word(v);
	add_variable(v, "CLIENT_ADDRESS", tx->client_address);
	add_variable(v, "CLIENT_HELO", tx->helo);
	add_variable(v, "AUTH_USER", tx->auth_user);
	add_variable(v, "TLS_VERSION", tx->tls_version);
	add_variable(v, "TLS_CIPHER", tx->tls_cipher);
	add_variable(v, "TLS_SERVER_NAME", tx->tls_name);
	add_variable(v, "MESSAGE_ID", tx->id);
	add_variable(v, "LISTENER", tx->listener->name);
	add_variable(v, "BODY", tx->body == SMTP_BODY_8BITMIME ? "8BITMIME" : "7BIT");
	add_variable(v, "SMTPUTF8", tx->utf8 ? "1" : "");
	if (!op->check) {
		buf_printf(&v->b, "MESSAGE_SIZE=%llu", (unsigned long long)(tx->size - tx->header_at));
		vector_end_word(v);
	}
}

/* ---- what may not be handed on ---- */

/* Octets that could end a line, and what old shells take for a function (cases 5.24, 5.26). */
static bool
is_unsafe(const char *value)
{
	return text_has(text_span(value), C_CNTRL) || strncmp(value, "()", 2) == 0;
}

static bool
uses(const struct words *template, enum expansion x)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "%%{%s}", expansion_names[x]);
	for (size_t i = 0; i < template->n; i++)
		if (strstr(template->v[i], name) != NULL)
			return true;
	return false;
}

/* A command could take it for an option (case 5.23). */
static bool
is_option(const struct words *template, const struct mailbox *m)
{
	return m->local[0] == '-' &&
	    (uses(template, X_RECIPIENT) || uses(template, X_RECIPIENTS) || uses(template, X_USER));
}

/* A recipient that no command can be told of; a space in it would be two recipients in RECIPIENTS. */
static bool
is_refused_recipient(const struct deliver *d, const struct tx *tx, const struct mailbox *m)
{
	const struct config *c = d->config;
	const struct words *command = tx->foreign ? &c->relay_command : &c->command;

	if (is_option(command, m) || (!tx->foreign && is_option(&c->recipient_command, m)))
		return true;
	if (command->n == 0 && c->recipient_command.n == 0)
		return false;
	return is_unsafe(m->local) || is_unsafe(m->domain) || text_find(text_span(m->local), ' ') != SIZE_MAX;
}

/* Whether the transaction can be handed to this command; else the verdict. */
static bool
is_refused(const struct words *template, const struct tx *tx, struct verdict *v, const char **why)
{
	const char *const others[] = { tx->client_address, tx->helo, tx->auth_user, tx->tls_version, tx->tls_cipher, tx->tls_name };

	if (is_unsafe(tx->sender.local) || is_unsafe(tx->sender.domain) ||
	    (tx->sender.local[0] == '-' && uses(template, X_SENDER))) {
		verdict_set(v, 550, "5.1.7", "Sender address refused");
		*why = "sender cannot be handed to a command";
		return true;
	}
	for (size_t i = 0; i < COUNT(others); i++)
		if (is_unsafe(others[i]) || (others[i] == tx->auth_user && tx->auth_user[0] == '-' && uses(template, X_AUTH_USER))) {
			verdict_set(v, 550, "5.7.1", "Not permitted");
			*why = "a value cannot be handed to a command";
			return true;
		}
	return false;
}

/* ---- commands ---- */

/* The message at its first header, with an offset of its own: the front and other deliveries have the same open file. */
static int
open_message(const struct tx *tx)
{
	char path[40];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", tx->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)	/* no /proc */
		fd = fcntl(tx->fd, F_DUPFD_CLOEXEC, 0);
	if (fd != -1 && lseek(fd, (off_t)tx->header_at, SEEK_SET) == -1) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static void	lane_next(struct lane *l);

/* What the reply does not tell, the log does. */
static void
log_result(const struct op *op, const struct child_result *r, const struct verdict *v, const char *detail)
{
	const char *id = op->tx->id;

	if (strcmp(v->esc, "4.3.5") == 0)
		log_error(op->tx->session, "command_failed", LF_STR("id", id), LF_STR("command", op->command->v[0]),
		    LF_STR("detail", detail));
	if (r->output.len > 0)
		log_info(op->tx->session, "command_output", LF_STR("id", id), LF_STR("command", op->command->v[0]),
		    LF_STR("detail", detail), LF_SPAN("output", r->output));
	if (v->code == 250 && op->fd != -1 && lseek(op->fd, 0, SEEK_CUR) < (off_t)op->tx->size)
		log_warn(op->tx->session, "stdin_unread", LF_STR("id", id), LF_STR("command", op->command->v[0]));
}

static void
command_done(void *arg, const struct child_result *r)
{
	struct op *op = arg;
	struct lane *l = op->lane;
	struct verdict v = { 0 };
	char detail[128];

	judge(op, r, &v, detail, sizeof(detail));
	log_result(op, r, &v, detail);
	l->running--;
	op_done(op, &v, detail);
	lane_next(l);
}

/* 0, or -1 with errno and nothing started. */
static int
command_start(struct op *op)
{
	struct deliver *d = op->lane->d;
	struct vector words, env;
	char **argv = NULL, **envp = NULL;
	struct child *child = NULL;
	int error = 0;

	vector_init(&words);
	vector_init(&env);
	add_words(&words, op->command, op);
	add_environment(&env, op);
	argv = vector_strings(&words);
	envp = argv == NULL ? NULL : vector_strings(&env);
	if (envp != NULL && (op->check || (op->fd = open_message(op->tx)) != -1))
		child = child_start(d->children, argv, envp, op->fd, -1, &d->user, op->lane->timeout_ms, command_done, op);
	if (child == NULL)
		error = errno;
	free(argv);
	free(envp);
	buf_clear(&words.b);
	buf_clear(&env.b);
	errno = error;
	return child == NULL ? -1 : 0;
}

static void
op_start(struct op *op)
{
	struct verdict v = { 0 };
	char detail[128];

	if (command_start(op) == 0) {
		op->lane->running++;
		return;
	}
	/* out of something, or more arguments than the kernel takes */
	(void)snprintf(detail, sizeof(detail), "not started: %s", strerror(errno));
	log_error(op->tx->session, "command_failed", LF_STR("id", op->tx->id), LF_STR("command", op->command->v[0]),
	    LF_STR("detail", detail));
	verdict_set(&v, 451, "4.3.0", "%s", temporary(op));
	op_done(op, &v, detail);
}

static struct op *
lane_take(struct lane *l)
{
	struct op *op = l->head;

	l->head = op->next;
	l->waiting--;
	loop_deadline(&l->slot, l->head == NULL ? LOOP_NEVER : l->head->until_at);
	return op;
}

static void
lane_next(struct lane *l)
{
	while (l->head != NULL && l->running < l->max)
		op_start(lane_take(l));
}

/* The first in the queue has waited long enough (case 12.12). */
static void
lane_ready(void *arg, short revents)
{
	struct lane *l = arg;

	(void)revents;
	while (l->head != NULL && l->head->until_at <= l->d->loop->now_ms) {
		struct op *op = lane_take(l);
		struct verdict v = { 0 };

		verdict_set(&v, 451, op->check ? "4.3.0" : "4.3.2", "%s", op->check ? temporary(op) : "Too busy, try again later");
		op_done(op, &v, "waited too long");
	}
	loop_deadline(&l->slot, l->head == NULL ? LOOP_NEVER : l->head->until_at);
}

static void
lane_add(struct lane *l, const struct op *like)
{
	struct op *op;

	op = calloc(1, sizeof(*op));
	if (op == NULL) {
		answer_now(like->done, like->arg, 451, "4.3.0", temporary(like), "out of memory");
		return;
	}
	*op = *like;
	op->lane = l;
	op->until_at = l->d->loop->now_ms + l->timeout_ms;
	if (l->head == NULL)
		l->head = op;
	else
		l->last->next = op;
	l->last = op;
	l->waiting++;
	loop_deadline(&l->slot, l->head->until_at);
	lane_next(l);
}

static int
lane_init(struct lane *l, struct deliver *d, size_t max, int64_t timeout_ms)
{
	*l = (struct lane){ .d = d, .max = max, .timeout_ms = timeout_ms };
	return loop_add(d->loop, &l->slot, -1, 0, lane_ready, l);
}

static void
lane_clear(struct lane *l)
{
	while (l->head != NULL) {
		struct op *op = lane_take(l);
		struct verdict v = { 0 };

		verdict_set(&v, 451, "4.3.0", "%s", temporary(op));
		op_done(op, &v, "ended");
	}
	loop_remove(&l->slot);
}

/* ---- the interface ---- */

/* recipient_command has spoken; the folder may have the last word. */
struct check {
	struct deliver	*d;
	const struct mailbox *rcpt;
	deliver_done	*done;
	void		*arg;
};

static void
check_folder(void *arg, const struct verdict *v, const char *detail)
{
	struct check *c = arg, check = *c;

	free(c);
	if (v->code == 250 && check.d->maildir != NULL)
		maildir_check(check.d->maildir, check.rcpt, check.done, check.arg);
	else
		check.done(check.arg, v, detail);
}

/* Whom commands and writers run as. Only root can change that; the agent keeps that right for another user than its own. */
static int
find_users(const struct config *c, struct child_user *command, struct child_user *writer)
{
	const char *name = c->delivery_user[0] != '\0' ? c->delivery_user : c->user;

	*command = *writer = (struct child_user){ 0 };
	if (geteuid() != 0)
		return 0;
	if (child_user_find(name, writer) == -1) {
		log_error(0, "user", LF_STR("user", name), LF_ERRNO(errno));
		return -1;
	}
	if (strcmp(name, c->user) != 0)
		*command = *writer;
	return 0;
}

struct deliver *
deliver_new(struct loop *l, const struct config *config, struct children *children)
{
	struct deliver *d = calloc(1, sizeof(*d));
	struct child_user writer;
	int64_t check_ms = config->delivery_ms < CHECK_MS ? config->delivery_ms : CHECK_MS;
	int error;

	if (d == NULL)
		return NULL;
	d->loop = l;
	d->config = config;
	d->children = children;
	if (find_users(config, &d->user, &writer) == -1)
		goto fail;
	if (lane_init(&d->deliveries, d, config->max_deliveries, config->delivery_ms) == -1 ||
	    lane_init(&d->checks, d, DELIVER_CHECKS_MAX, check_ms) == -1)
		goto fail;
	if (config->maildir[0] != '\0' && (d->maildir = maildir_new(l, config, &writer)) == NULL)
		goto fail;
	if (config->recipients_file[0] != '\0' && (d->recipients = recipients_new(config->recipients_file, l->now_ms)) == NULL)
		goto fail;
	return d;
fail:
	error = errno;
	deliver_free(d);
	errno = error;
	return NULL;
}

void
deliver_free(struct deliver *d)
{
	if (d == NULL)
		return;
	maildir_free(d->maildir);
	d->maildir = NULL;
	lane_clear(&d->deliveries);
	lane_clear(&d->checks);
	recipients_free(d->recipients);
	free(d);
}

void
deliver_check(struct deliver *d, const struct tx *tx, const struct mailbox *rcpt, deliver_done *done, void *arg)
{
	const struct config *c = d->config;
	struct verdict v = { 0 };
	struct check *check;
	const char *why;

	if (is_refused_recipient(d, tx, rcpt)) {
		answer_now(done, arg, 550, "5.1.1", "No such recipient", "cannot be handed to a command");
		return;
	}
	if (tx->foreign) {
		answer_now(done, arg, 250, "2.1.5", "Recipient ok", "");
		return;
	}
	switch (d->recipients == NULL ? RECIPIENTS_KNOWN : recipients_find(d->recipients, rcpt, d->loop->now_ms)) {
	case RECIPIENTS_KNOWN:
		break;
	case RECIPIENTS_UNKNOWN:
		answer_now(done, arg, 550, "5.1.1", "No such recipient", "not in recipients_file");
		return;
	case RECIPIENTS_UNREADABLE:
		answer_now(done, arg, 451, "4.3.0", "Temporary lookup failure", "recipients_file cannot be read");
		return;
	}
	if (c->recipient_command.n == 0) {
		if (d->maildir != NULL)
			maildir_check(d->maildir, rcpt, done, arg);
		else
			answer_now(done, arg, 250, "2.1.5", "Recipient ok", "");
		return;
	}
	if (is_refused(&c->recipient_command, tx, &v, &why)) {
		done(arg, &v, why);
		return;
	}
	check = malloc(sizeof(*check));
	if (check == NULL) {
		answer_now(done, arg, 451, "4.3.0", "Temporary lookup failure", "out of memory");
		return;
	}
	*check = (struct check){ .d = d, .rcpt = rcpt, .done = done, .arg = arg };
	lane_add(&d->checks, &(struct op){ .command = &c->recipient_command, .tx = tx, .rcpts = rcpt, .rcpts_n = 1, .check = true, .fd = -1,
	    .done = check_folder, .arg = check });
}

void
deliver_start(struct deliver *d, const struct tx *tx, deliver_done *done, void *arg)
{
	const struct words *command = tx->foreign ? &d->config->relay_command : &d->config->command;
	struct verdict v = { 0 };
	const char *why;

	if (!tx->foreign && d->maildir != NULL) {
		maildir_deliver(d->maildir, tx, done, arg);
		return;
	}
	for (size_t i = 0; i < tx->rcpts_n; i++)	/* deliver_check() has said so already */
		if (is_refused_recipient(d, tx, &tx->rcpts[i])) {
			answer_now(done, arg, 550, "5.1.1", "No such recipient", "cannot be handed to a command");
			return;
		}
	if (is_refused(command, tx, &v, &why)) {
		done(arg, &v, why);
		return;
	}
	lane_add(&d->deliveries, &(struct op){ .command = command, .tx = tx, .rcpts = tx->rcpts, .rcpts_n = tx->rcpts_n, .fd = -1,
	    .done = done, .arg = arg });
}

size_t
deliver_pending(const struct deliver *d)
{
	return d->deliveries.running + d->deliveries.waiting + d->checks.running + d->checks.waiting +
	    (d->maildir == NULL ? 0 : maildir_pending(d->maildir));
}

const char *
deliver_agent_name(const struct deliver *d, const struct tx *tx)
{
	if (tx->foreign)
		return "relay";
	return d->maildir == NULL ? "command" : "maildir";
}
