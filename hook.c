/*
 * hook.c - commands of the administrator's at connect, mail, rcpt or message.
 *
 * They are run and judged as delivery commands are (command.c; DESIGN.md, "The delivery contract"). Those of one event run one after
 * the other, so that what an earlier one refuses costs the later ones nothing.
 */
#include "hook.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"

#define WAITING_MAX 4096	/* hooks that wait for their turn; more would not get it in time */

struct hooks {
	const struct config *config;	/* borrowed */
	struct commands	*commands;	/* owned */
};

/* The hooks of one event of one session. */
struct hook_run {
	struct hooks	*hooks;
	const struct hook_config *hook;	/* the one that is at work */
	size_t		 next;		/* where in the configuration to go on */
	enum hook_event	 event;
	const struct tx	*tx;
	const struct mailbox *rcpts;
	size_t		 rcpts_n;
	struct filter_report report;
	filter_done	*done;
	void		*arg;
};

static const char *const event_names[HOOK__MAX] = {
	[HOOK_CONNECT] = "connect", [HOOK_MAIL] = "mail", [HOOK_RCPT] = "rcpt", [HOOK_MESSAGE] = "message",
};

/* ---- what a hook prints at message ---- */

struct field {
	struct span	name, value;	/* value: folded as it came */
};

struct fields {
	struct field	 v[CONTENT_EDITS_MAX];
	size_t		 n;
	bool		 others;	/* there was something else */
};

static void
fields_add(struct fields *f, const struct field *field)
{
	if (f->n == COUNT(f->v) || content_is_structural(field->name))
		f->others = true;
	else
		f->v[f->n++] = *field;
}

/* "Name: value", without the line end. What has no blank behind its colon is a URL or a time rather than a field. */
static bool
field_start(struct span line, struct field *field)
{
	size_t colon = text_find(line, ':');

	if (colon == 0 || colon > CONTENT_NAME_MAX || colon + 1 >= line.len || !is_class(line.p[colon + 1], C_WSP))
		return false;
	for (size_t i = 0; i < colon; i++)
		if (!is_vchar(line.p[i]))
			return false;
	*field = (struct field){ text_sub(line, 0, colon), text_sub(line, colon + 1, line.len) };
	return true;
}

static void
read_fields(struct span output, struct fields *f)
{
	struct span rest = output, line;
	struct field field;
	bool open = false;

	f->n = 0;
	f->others = false;
	while (text_token(&rest, "\n", &line)) {
		if (line.len > 0 && line.p[line.len - 1] == '\r')
			line.len--;
		if (open && line.len > 0 && is_class(line.p[0], C_WSP)) {
			field.value.len = (size_t)(line.p + line.len - field.value.p);
			continue;
		}
		if (open)
			fields_add(f, &field);
		open = field_start(line, &field);
		if (!open && line.len > 0)
			f->others = true;
	}
	/* of an output that has been cut, nobody knows where the last one ends */
	if (open && output.len == CHILD_OUTPUT_MAX)
		f->others = true;
	else if (open)
		fields_add(f, &field);
}

static void
take_output(struct hook_run *run, struct span output)
{
	struct fields f;

	read_fields(output, &f);
	/* each goes on top of the one before: from the last to the first, they stand there as they were printed */
	for (size_t i = f.n; i-- > 0;)
		edits_add(&run->report.edits, EDIT_ADD_TOP, 0, f.v[i].name, f.v[i].value);
	if (f.others)
		log_info(run->tx->session, "hook_output", LF_STR("id", run->tx->id), LF_STR("hook", run->hook->name),
		    LF_SPAN("output", output));
}

/* ---- one run ---- */

/* v: what a hook, or we in its place, have to say; code 0: all accept. */
static void
finish(struct hook_run *run, const struct verdict *v, const char *detail)
{
	struct filter_report *r = &run->report;

	if (v->code != 0) {
		edits_clear(&r->edits);
		r->action = v->code / 100 == 5 ? FILTER_REJECT : FILTER_TEMPFAIL;
		r->code = v->code;
		memcpy(r->esc, v->esc, sizeof(r->esc));
		memcpy(r->text, v->text, sizeof(r->text));
		(void)snprintf(r->detail, sizeof(r->detail), "%s: %.120s", run->hook->name, detail);
	}
	run->done(run->arg, r);
	edits_clear(&r->edits);
	free(run);
}

static void	run_next(struct hook_run *run);

static void
hook_ended(void *arg, const struct verdict *v, const char *detail, struct span output)
{
	struct hook_run *run = arg;

	if (v->code != 0) {
		finish(run, v, detail);
		return;
	}
	if (run->event == HOOK_MESSAGE)
		take_output(run, output);
	run_next(run);
}

static void
run_next(struct hook_run *run)
{
	const struct config *c = run->hooks->config;
	struct verdict v = { 0 };
	const char *why = "";

	while (run->next < c->hooks_n && c->hooks[run->next].event != run->event)
		run->next++;
	if (run->next == c->hooks_n) {
		finish(run, &v, why);
		return;
	}
	run->hook = &c->hooks[run->next++];
	if (command_refuses(&run->hook->command, run->tx, &v, &why)) {
		finish(run, &v, why);
	} else if (hooks_pending(run->hooks) >= HOOKS_MAX + WAITING_MAX) {
		verdict_set(&v, 451, "4.3.2", "Too busy, try again later");
		finish(run, &v, "too many are waiting");
	} else {
		commands_start(run->hooks->commands, &(struct command){ .kind = COMMAND_HOOK, .words = &run->hook->command, .tx = run->tx,
		    .rcpts = run->rcpts, .rcpts_n = run->rcpts_n, .event = event_names[run->event],
		    .takes_output = run->event == HOOK_MESSAGE, .with_message = run->event == HOOK_MESSAGE,
		    .timeout_ms = run->hook->timeout_ms }, hook_ended, run);
	}
}

/*
 * The hook that cannot be told of one of the recipients, or NULL. At RCPT those of MESSAGE count as well: there it is one recipient
 * that is refused, later it would be the message.
 */
static const struct hook_config *
refusing_hook(const struct hook_run *run)
{
	const struct config *c = run->hooks->config;

	for (size_t i = 0; i < c->hooks_n; i++) {
		const struct hook_config *hook = &c->hooks[i];

		if (hook->event != run->event && hook->event != HOOK_MESSAGE)
			continue;
		for (size_t k = 0; k < run->rcpts_n; k++)
			if (command_refuses_recipient(&hook->command, &run->rcpts[k]))
				return hook;
	}
	return NULL;
}

/* ---- the interface ---- */

struct hooks *
hooks_new(struct loop *l, const struct config *config, struct children *children)
{
	struct hooks *h = malloc(sizeof(*h));
	struct child_user user, writer;

	if (h == NULL)
		return NULL;
	*h = (struct hooks){ .config = config };
	if (command_users(config, &user, &writer) == 0)
		h->commands = commands_new(l, children, &user, HOOKS_MAX);
	if (h->commands == NULL) {
		int error = errno;

		free(h);
		errno = error;
		return NULL;
	}
	return h;
}

void
hooks_free(struct hooks *h)
{
	if (h == NULL)
		return;
	commands_free(h->commands);
	free(h);
}

bool
hooks_wants(const struct hooks *h, enum hook_event event)
{
	for (size_t i = 0; i < h->config->hooks_n; i++) {
		enum hook_event e = h->config->hooks[i].event;

		if (e == event || (e == HOOK_MESSAGE && event == HOOK_RCPT))	/* see refusing_hook() */
			return true;
	}
	return false;
}

void
hooks_run(struct hooks *h, enum hook_event event, const struct tx *tx, const struct mailbox *rcpt, filter_done *done, void *arg)
{
	struct hook_run *run = calloc(1, sizeof(*run));
	struct verdict v = { 0 };

	if (run == NULL) {
		done(arg, &(struct filter_report){ .action = FILTER_TEMPFAIL, .failed = true, .detail = "out of memory" });
		return;
	}
	run->hooks = h;
	run->event = event;
	run->tx = tx;
	run->done = done;
	run->arg = arg;
	if (event == HOOK_RCPT) {
		run->rcpts = rcpt;
		run->rcpts_n = 1;
	} else if (event == HOOK_MESSAGE) {
		run->rcpts = tx->rcpts;
		run->rcpts_n = tx->rcpts_n;
	}
	if ((run->hook = refusing_hook(run)) != NULL) {
		verdict_set(&v, 550, "5.1.1", "No such recipient");
		finish(run, &v, "recipient cannot be handed to a command");
		return;
	}
	run_next(run);
}

size_t
hooks_pending(const struct hooks *h)
{
	return commands_pending(h->commands);
}
