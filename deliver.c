/*
 * deliver.c - the delivery agents behind one interface, and whether a recipient can get mail.
 *
 * DESIGN.md, "The delivery contract"; SECURITY-CASES 11.60, 12. How a command is run and what its exit means: command.c.
 */
#include "deliver.h"

#include <errno.h>
#include <stdlib.h>

#include "command.h"
#include "maildir.h"
#include "recipient_cache.h"
#include "recipients.h"

#define CHECK_MS 30000			/* of recipient_command, when the delivery timeout is not shorter */

struct deliver {
	struct loop	*loop;
	const struct config *config;
	struct metrics	*metrics;
	struct maildir	*maildir;	/* NULL: the agent is command */
	struct commands	*deliveries, *checks;
	struct recipients *recipients;	/* NULL: no recipients_file */
	struct recipient_cache *cache;	/* NULL: no recipient_command, or what it says is not kept */
};

static void
answer_now(deliver_done *done, void *arg, int code, const char *esc, const char *text, const char *detail)
{
	struct verdict v = { 0 };

	verdict_set(&v, code, esc, "%s", text);
	done(arg, &v, detail);
}

/* The command that such mail is handed to; without words for ours, which then goes into Maildirs. */
static const struct words *
command_for(const struct deliver *d, const struct tx *tx)
{
	return tx->foreign ? &d->config->relay_command : &d->config->command;
}

/* A recipient that no command can be told of. */
static bool
is_refused_recipient(const struct deliver *d, const struct tx *tx, const struct mailbox *m)
{
	return command_refuses_recipient(command_for(d, tx), m) ||
	    (!tx->foreign && command_refuses_recipient(&d->config->recipient_command, m));
}

/* A delivery, or the check of a recipient, that a command does. */
struct op {
	struct deliver	*d;
	const struct tx	*tx;		/* borrowed until done, as rcpt */
	const struct mailbox *rcpt;
	deliver_done	*done;
	void		*arg;
};

/* ---- the interface ---- */

static void
delivered(void *arg, const struct verdict *v, const char *detail, struct span output)
{
	struct op *o = arg, op = *o;
	struct verdict ok = { 0 };

	(void)output;
	free(o);
	if (v->code == 0) {
		verdict_set(&ok, 250, "2.0.0", "Ok: %s", op.tx->id);
		v = &ok;
	}
	op.done(op.arg, v, detail);
}

/* What recipient_command has said; the folder may have the last word. */
static void
answer_check(const struct op *o, const struct verdict *v, const char *detail)
{
	if (v->code != 0)
		o->done(o->arg, v, detail);
	else if (o->d->maildir != NULL)
		maildir_check(o->d->maildir, o->rcpt, o->done, o->arg);
	else
		answer_now(o->done, o->arg, 250, "2.1.5", "Recipient ok", detail);
}

static void
checked(void *arg, const struct verdict *v, const char *detail, struct span output)
{
	struct op *o = arg, op = *o;

	(void)output;
	free(o);
	if (op.d->cache != NULL)
		recipient_cache_keep(op.d->cache, op.rcpt, v, op.d->loop->now_ms);
	answer_check(&op, v, detail);
}

struct deliver *
deliver_new(struct loop *l, const struct config *config, struct children *children, struct metrics *m)
{
	struct deliver *d = calloc(1, sizeof(*d));
	struct child_user user, writer;
	int error;

	if (d == NULL)
		return NULL;
	d->loop = l;
	d->config = config;
	d->metrics = m;
	if (command_users(config, &user, &writer) == -1)
		goto fail;
	if ((d->deliveries = commands_new(l, children, &user, config->max_deliveries)) == NULL ||
	    (d->checks = commands_new(l, children, &user, DELIVER_CHECKS_MAX)) == NULL)
		goto fail;
	if (config->maildir[0] != '\0' && (d->maildir = maildir_new(l, config, &writer)) == NULL)
		goto fail;
	if (config->recipients_file[0] != '\0' && (d->recipients = recipients_new(config->recipients_file, l->now_ms)) == NULL)
		goto fail;
	if (config->recipient_command.n > 0 && config->recipient_cache_ms > 0 &&
	    (d->cache = recipient_cache_new(config->recipient_cache_ms)) == NULL)
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
	commands_free(d->deliveries);
	commands_free(d->checks);
	recipients_free(d->recipients);
	recipient_cache_free(d->cache);
	free(d);
}

void
deliver_check(struct deliver *d, const struct tx *tx, const struct mailbox *rcpt, deliver_done *done, void *arg)
{
	const struct config *c = d->config;
	int64_t timeout_ms = c->delivery_ms < CHECK_MS ? c->delivery_ms : CHECK_MS;
	const struct op check = { .d = d, .tx = tx, .rcpt = rcpt, .done = done, .arg = arg };
	const struct verdict *known;
	struct verdict v = { 0 };
	struct op *op;
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
		answer_check(&check, &v, "");
		return;
	}
	if (d->cache != NULL && (known = recipient_cache_find(d->cache, rcpt, d->loop->now_ms)) != NULL) {
		v = *known;
		answer_check(&check, &v, "as recipient_command has said before");
		return;
	}
	if (command_refuses(&c->recipient_command, tx, &v, &why)) {
		done(arg, &v, why);
		return;
	}
	op = malloc(sizeof(*op));
	if (op == NULL) {
		answer_now(done, arg, 451, "4.3.0", "Temporary lookup failure", "out of memory");
		return;
	}
	*op = check;
	commands_start(d->checks, &(struct command){ .kind = COMMAND_CHECK, .words = &c->recipient_command, .tx = tx, .rcpts = rcpt,
	    .rcpts_n = 1, .timeout_ms = timeout_ms }, checked, op);
}

void
deliver_start(struct deliver *d, const struct tx *tx, deliver_done *done, void *arg)
{
	const struct config *c = d->config;
	struct verdict v = { 0 };
	struct op *op;
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
	if (command_refuses(command_for(d, tx), tx, &v, &why)) {
		done(arg, &v, why);
		return;
	}
	op = malloc(sizeof(*op));
	if (op == NULL) {
		answer_now(done, arg, 451, "4.3.0", "Temporary delivery failure", "out of memory");
		return;
	}
	*op = (struct op){ .d = d, .tx = tx, .done = done, .arg = arg };
	if (commands_is_full(d->deliveries))
		metrics_add(d->metrics, M_LIMIT_HITS, MH_MAX_DELIVERIES, 0, 0, 1);
	commands_start(d->deliveries, &(struct command){ .kind = COMMAND_DELIVERY, .words = command_for(d, tx), .tx = tx, .rcpts = tx->rcpts,
	    .rcpts_n = tx->rcpts_n, .with_message = true, .timeout_ms = c->delivery_ms }, delivered, op);
}

size_t
deliver_pending(const struct deliver *d)
{
	return commands_pending(d->deliveries) + commands_pending(d->checks) + (d->maildir == NULL ? 0 : maildir_pending(d->maildir));
}

const char *
deliver_agent_name(const struct deliver *d, const struct tx *tx)
{
	if (tx->foreign)
		return "relay";
	return d->maildir == NULL ? "command" : "maildir";
}
