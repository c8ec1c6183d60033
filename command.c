/*
 * command.c - a configured command: its argument vector and environment, so many at once, and what its exit means.
 *
 * DESIGN.md, "The delivery contract"; SECURITY-CASES 5.21 to 5.27, 12. Nothing from outside is ever looked at for an expansion,
 * reaches a shell, or becomes a variable's name.
 */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define VECTOR_MAX (512 * 1024)		/* octets of an argument vector or environment */

/* One that runs or waits. */
struct op {
	struct op	*next;
	struct commands	*commands;
	struct command	 what;
	int		 fd;		/* the command's standard input, owned; -1: none */
	int64_t		 until_at;	/* it does not wait for its turn longer */
	command_done	*done;
	void		*arg;
};

struct commands {
	struct loop	*loop;
	struct children	*children;
	struct child_user user;
	struct op	*head, *last;	/* those that wait */
	size_t		 running, waiting, max;
	struct loop_slot slot;		/* until_at of the first that has waited long enough */
};

/* ---- verdicts ---- */

/* What a kind of command says where its exit status does not. */
static const struct {
	const char	*temporary;
	const char	*busy_esc, *busy;	/* it has waited too long; case 12.12 */
	const char	*unconfigured;
} kinds[COMMAND__MAX] = {
	[COMMAND_DELIVERY] = { "Temporary delivery failure", "4.3.2", "Too busy, try again later", "Delivery is not configured properly" },
	[COMMAND_CHECK] = { "Temporary lookup failure", "4.3.0", "Temporary lookup failure", "Delivery is not configured properly" },
	[COMMAND_HOOK] = { "Temporary filter failure", "4.3.2", "Too busy, try again later", "A filter is not configured properly" },
};

static const struct exit_row {
	int		 status;	/* exit status */
	int		 code;
	char		 esc[6];
	const char	*text;		/* NULL: the kind's for what is not configured */
} exits[] = {
	{ 65, 550, "5.6.0", "Message content refused" },
	{ 67, 550, "5.1.1", "No such recipient" },
	{ 68, 550, "5.1.2", "No such host" },
	{ 77, 550, "5.7.1", "Not permitted" },
	{ 78, 451, "4.3.5", NULL },
	{ 100, 554, "5.3.0", "Delivery failed" },
	{ 126, 451, "4.3.5", NULL },
	{ 127, 451, "4.3.5", NULL },
};

/* The first line of a command's output. */
static struct span
first_line(struct span output)
{
	struct span line = text_sub(output, 0, text_find(output, '\n'));

	if (line.len > 0 && line.p[line.len - 1] == '\r')
		line.len--;
	return line;
}

/* The delivery contract: what the exit status and the output mean; code 0: all is well. detail is for the log. */
static void
judge(enum command_kind kind, const struct child_result *r, struct verdict *v, char *detail, size_t size)
{
	int status = WIFEXITED(r->status) ? WEXITSTATUS(r->status) : -1;
	char esc[12], text[sizeof(v->text)];

	verdict_set(v, 451, "4.3.0", "%s", kinds[kind].temporary);
	if (r->timed_out) {
		(void)snprintf(detail, size, "timeout");
		return;
	}
	if (r->status == -1) {
		(void)snprintf(detail, size, "not started: %s", strerror(r->error));
		verdict_set(v, 451, "4.3.5", "%s", kinds[kind].unconfigured);
		return;
	}
	if (status == -1) {
		(void)snprintf(detail, size, "signal %d", WTERMSIG(r->status));
		return;
	}
	(void)snprintf(detail, size, "exit %d", status);
	if (status == 0) {
		*v = (struct verdict){ 0 };
		return;
	}
	if (smtp_status_line(first_line(r->output), esc, text, sizeof(text))) {
		verdict_set(v, esc[0] == '5' ? 550 : 451, esc, "%s", text);
		return;
	}
	for (size_t i = 0; i < COUNT(exits); i++)
		if (exits[i].status == status)
			verdict_set(v, exits[i].code, exits[i].esc, "%s", exits[i].text != NULL ? exits[i].text : kinds[kind].unconfigured);
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
add_expansion(struct buf *b, const struct command *w, enum expansion x)
{
	static const struct mailbox none;
	const struct mailbox *rcpt = w->rcpts_n == 0 ? &none : &w->rcpts[0];	/* a hook may come before there is one */

	switch (x) {
	case X_SENDER:
		add_mailbox(b, &w->tx->sender);
		break;
	case X_RECIPIENT:
		add_mailbox(b, rcpt);
		break;
	case X_RECIPIENTS:
		add_mailboxes(b, w->rcpts, w->rcpts_n);
		break;
	case X_USER:
		buf_add_str(b, rcpt->local);
		break;
	case X_DOMAIN:
		buf_add_str(b, rcpt->domain);
		break;
	case X_AUTH_USER:
		buf_add_str(b, w->tx->auth_user);
		break;
	case X_CLIENT_ADDRESS:
		buf_add_str(b, w->tx->client_address);
		break;
	case X_ID:
		buf_add_str(b, w->tx->id);
		break;
	case X__MAX:
		break;
	}
}

/* One pass over the configured words: what a value holds is never expanded again (case 5.22). */
static void
add_words(struct vector *v, const struct command *w)
{
	for (size_t i = 0; i < w->words->n; i++) {
		const char *p = w->words->v[i];
		size_t len;

		if (strcmp(p, "%{recipients}") == 0) {
			for (size_t k = 0; k < w->rcpts_n; k++) {
				add_mailbox(&v->b, &w->rcpts[k]);
				vector_end_word(v);
			}
			continue;
		}
		while (*p != '\0') {
			enum expansion x = find_expansion(p, &len);

			if (x == X__MAX) {
				buf_add_char(&v->b, *p++);
			} else {
				add_expansion(&v->b, w, x);
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
add_environment(struct vector *v, const struct command *w)
{
	const struct tx *tx = w->tx;

	buf_add_str(&v->b, "PATH=" COMMAND_PATH);
	vector_end_word(v);
	buf_add_str(&v->b, "SENDER=");
	add_mailbox(&v->b, &tx->sender);
	vector_end_word(v);
	if (w->rcpts_n == 1) {
		buf_add_str(&v->b, "RECIPIENT=");
		add_mailbox(&v->b, &w->rcpts[0]);
		vector_end_word(v);
	}
	buf_add_str(&v->b, "RECIPIENTS=");
	add_mailboxes(&v->b, w->rcpts, w->rcpts_n);
	vector_end_word(v);
	if (w->event != NULL)
		add_variable(v, "EVENT", w->event);
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
	if (w->with_message) {
		buf_printf(&v->b, "MESSAGE_SIZE=%llu", (unsigned long long)(tx->size - message_at(tx)));
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
uses(const struct words *words, enum expansion x)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "%%{%s}", expansion_names[x]);
	for (size_t i = 0; i < words->n; i++)
		if (strstr(words->v[i], name) != NULL)
			return true;
	return false;
}

/* A command could take it for an option (case 5.23). */
static bool
is_option(const struct words *words, const struct mailbox *m)
{
	return m->local[0] == '-' &&
	    (uses(words, X_RECIPIENT) || uses(words, X_RECIPIENTS) || uses(words, X_USER));
}

bool
command_refuses_recipient(const struct words *words, const struct mailbox *m)
{
	if (words->n == 0)
		return false;
	/* a space in it would be two recipients in RECIPIENTS */
	return is_option(words, m) || is_unsafe(m->local) || is_unsafe(m->domain) || text_find(text_span(m->local), ' ') != SIZE_MAX;
}

bool
command_refuses(const struct words *words, const struct tx *tx, struct verdict *v, const char **why)
{
	const char *const others[] = { tx->client_address, tx->helo, tx->auth_user, tx->tls_version, tx->tls_cipher, tx->tls_name };

	if (is_unsafe(tx->sender.local) || is_unsafe(tx->sender.domain) ||
	    (tx->sender.local[0] == '-' && uses(words, X_SENDER))) {
		verdict_set(v, 550, "5.1.7", "Sender address refused");
		*why = "sender cannot be handed to a command";
		return true;
	}
	for (size_t i = 0; i < COUNT(others); i++)
		if (is_unsafe(others[i]) || (others[i] == tx->auth_user && tx->auth_user[0] == '-' && uses(words, X_AUTH_USER))) {
			verdict_set(v, 550, "5.7.1", "Not permitted");
			*why = "a value cannot be handed to a command";
			return true;
		}
	return false;
}

/* ---- one command ---- */

/* The message at its first header, with an offset of its own: the front and other commands have the same open file. */
static int
open_message(const struct tx *tx)
{
	char path[40];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", tx->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)	/* no /proc */
		fd = fcntl(tx->fd, F_DUPFD_CLOEXEC, 0);
	if (fd != -1 && lseek(fd, (off_t)message_at(tx), SEEK_SET) == -1) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static void
op_done(struct op *op, const struct verdict *v, const char *detail, struct span output)
{
	command_done *done = op->done;
	void *arg = op->arg;

	if (op->fd != -1)
		close(op->fd);
	free(op);
	done(arg, v, detail, output);
}

static void	start_waiting(struct commands *c);

/* What the reply does not tell, the log does. */
static void
log_result(const struct op *op, const struct child_result *r, const struct verdict *v, const char *detail)
{
	const struct tx *tx = op->what.tx;
	const char *command = op->what.words->v[0];

	if (strcmp(v->esc, "4.3.5") == 0)
		log_error(tx->session, "command_failed", LF_STR("id", tx->id), LF_STR("command", command), LF_STR("detail", detail));
	if (r->output.len > 0 && (v->code != 0 || !op->what.takes_output))
		log_info(tx->session, "command_output", LF_STR("id", tx->id), LF_STR("command", command), LF_STR("detail", detail),
		    LF_SPAN("output", r->output));
	if (v->code == 0 && op->what.kind == COMMAND_DELIVERY && lseek(op->fd, 0, SEEK_CUR) < (off_t)tx->size)
		log_warn(tx->session, "stdin_unread", LF_STR("id", tx->id), LF_STR("command", command));
}

static void
op_ended(void *arg, const struct child_result *r)
{
	struct op *op = arg;
	struct commands *c = op->commands;
	struct span none = { 0 };
	struct verdict v = { 0 };
	char detail[128];

	judge(op->what.kind, r, &v, detail, sizeof(detail));
	log_result(op, r, &v, detail);
	c->running--;
	op_done(op, &v, detail, op->what.takes_output ? r->output : none);
	start_waiting(c);
}

/* 0, or -1 with errno and nothing started. */
static int
op_execute(struct op *op)
{
	struct commands *c = op->commands;
	struct vector words, env;
	char **argv = NULL, **envp = NULL;
	struct child *child = NULL;
	int error = 0;

	vector_init(&words);
	vector_init(&env);
	add_words(&words, &op->what);
	add_environment(&env, &op->what);
	argv = vector_strings(&words);
	envp = argv == NULL ? NULL : vector_strings(&env);
	if (envp != NULL && (!op->what.with_message || (op->fd = open_message(op->what.tx)) != -1))
		child = child_start(c->children, argv, envp, op->fd, -1, &c->user, op->what.timeout_ms, op_ended, op);
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
	const struct tx *tx = op->what.tx;
	struct verdict v = { 0 };
	char detail[128];

	if (tx->abandoned) {
		verdict_set(&v, 451, "4.3.0", "%s", kinds[op->what.kind].temporary);
		op_done(op, &v, "client gone before its turn", (struct span){ 0 });
		return;
	}
	if (op_execute(op) == 0) {
		op->commands->running++;
		return;
	}
	/* out of something, or more arguments than the kernel takes */
	(void)snprintf(detail, sizeof(detail), "not started: %s", strerror(errno));
	log_error(tx->session, "command_failed", LF_STR("id", tx->id), LF_STR("command", op->what.words->v[0]), LF_STR("detail", detail));
	verdict_set(&v, 451, "4.3.0", "%s", kinds[op->what.kind].temporary);
	op_done(op, &v, detail, (struct span){ 0 });
}

/* ---- those that wait ---- */

/* Take *at, a pointer that the queue leads to, out of it. */
static struct op *
take(struct commands *c, struct op **at)
{
	struct op *op = *at;
	int64_t until_at = LOOP_NEVER;

	*at = op->next;
	c->waiting--;
	c->last = NULL;
	for (struct op *o = c->head; o != NULL; o = o->next) {
		c->last = o;
		if (o->until_at < until_at)
			until_at = o->until_at;
	}
	loop_deadline(&c->slot, until_at);
	return op;
}

static void
start_waiting(struct commands *c)
{
	while (c->head != NULL && c->running < c->max)
		op_start(take(c, &c->head));
}

/* The first in the queue that has waited long enough, or NULL. */
static struct op **
find_late(struct commands *c)
{
	for (struct op **at = &c->head; *at != NULL; at = &(*at)->next)
		if ((*at)->until_at <= c->loop->now_ms)
			return at;
	return NULL;
}

static void
waited(void *arg, short revents)
{
	struct commands *c = arg;
	struct op **at;

	(void)revents;
	/* done() may change the queue: begin anew for each */
	while ((at = find_late(c)) != NULL) {
		struct op *op = take(c, at);
		struct verdict v = { 0 };

		verdict_set(&v, 451, kinds[op->what.kind].busy_esc, "%s", kinds[op->what.kind].busy);
		op_done(op, &v, "waited too long", (struct span){ 0 });
	}
}

/* ---- the interface ---- */

struct commands *
commands_new(struct loop *l, struct children *children, const struct child_user *user, size_t max)
{
	struct commands *c = malloc(sizeof(*c));

	if (c == NULL)
		return NULL;
	*c = (struct commands){ .loop = l, .children = children, .user = *user, .max = max };
	if (loop_add(l, &c->slot, -1, 0, waited, c) == -1) {
		free(c);
		return NULL;
	}
	return c;
}

void
commands_free(struct commands *c)
{
	if (c == NULL)
		return;
	while (c->head != NULL) {
		struct op *op = take(c, &c->head);
		struct verdict v = { 0 };

		verdict_set(&v, 451, "4.3.0", "%s", kinds[op->what.kind].temporary);
		op_done(op, &v, "ended", (struct span){ 0 });
	}
	loop_remove(&c->slot);
	free(c);
}

void
commands_start(struct commands *c, const struct command *what, command_done *done, void *arg)
{
	struct op *op = malloc(sizeof(*op));

	if (op == NULL) {
		struct verdict v = { 0 };

		verdict_set(&v, 451, "4.3.0", "%s", kinds[what->kind].temporary);
		done(arg, &v, "out of memory", (struct span){ 0 });
		return;
	}
	*op = (struct op){ .commands = c, .what = *what, .fd = -1, .until_at = c->loop->now_ms + what->timeout_ms, .done = done, .arg = arg };
	if (c->head == NULL)
		c->head = op;
	else
		c->last->next = op;
	c->last = op;
	c->waiting++;
	if (op->until_at < c->slot.deadline_at)
		loop_deadline(&c->slot, op->until_at);
	start_waiting(c);
}

bool
commands_is_full(const struct commands *c)
{
	return c->running >= c->max;
}

size_t
commands_pending(const struct commands *c)
{
	return c->running + c->waiting;
}

int
command_users(const struct config *c, struct child_user *command, struct child_user *writer)
{
	const char *name = c->delivery_user[0] != '\0' ? c->delivery_user : c->user;

	*command = *writer = (struct child_user){ 0 };
	if (geteuid() != 0)
		return 0;
	if (child_user_find(name, writer) == -1) {
		int error = errno;

		log_error(0, "user", LF_STR("user", name), LF_ERRNO(error));
		errno = error;
		return -1;
	}
	if (strcmp(name, c->user) != 0)
		*command = *writer;
	return 0;
}
