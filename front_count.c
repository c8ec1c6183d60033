/*
 * front_count.c - what a front counts.
 */
#include "front_count.h"

static const struct {
	enum canned		reply;
	enum metrics_limit	limit;
} limit_replies[] = {
	{ R_TOO_MANY_ERRORS, MH_MAX_ERRORS }, { R_TOO_MANY_RCPTS, MH_MAX_RECIPIENTS }, { R_TOO_BIG, MH_MAX_MESSAGE_SIZE },
	{ R_AUTH_MANY, MH_MAX_AUTH_FAILURES },
};

/* Why a MAIL was refused; those that are not here are errors of syntax. */
static const struct {
	enum canned		reply;
	enum metrics_reason	reason;
} mail_replies[] = { { R_TOO_BIG, MR_SIZE }, { R_TLS_NEEDED, MR_TLS } };

/* The command that a request's duration is counted for; of DATA and BDAT it is the end of data. */
static const char *const request_commands[REQ__MAX] = {
	[REQ_AUTH] = "AUTH", [REQ_MAIL] = "MAIL", [REQ_RCPT] = "RCPT", [REQ_MESSAGE] = "DATA"
};

static enum metrics_reason
mail_reason(enum canned reply)
{
	for (size_t i = 0; i < COUNT(mail_replies); i++)
		if (mail_replies[i].reply == reply)
			return mail_replies[i].reason;
	return MR_SYNTAX;
}

void
front_count_sessions(struct front *f)
{
	struct session_counts *n = &f->counts;
	struct metrics *m = f->args.metrics;

	if (!n->any)
		return;
	for (size_t i = 0; i < SESSION_COMMANDS; i++)
		if (n->commands[i] > 0)
			metrics_add(m, M_COMMANDS, f->command_slots[i], 0, 0, n->commands[i]);
	for (size_t i = 0; i < COUNT(limit_replies); i++)
		metrics_add(m, M_LIMIT_HITS, limit_replies[i].limit, 0, 0, n->canned[limit_replies[i].reply]);
	for (enum canned r = R_NONE; r < R__MAX; r++)
		metrics_add(m, M_MESSAGES_REJECTED, f->listener_slot, 0, mail_reason(r), n->mail_refused[r]);
	metrics_add(m, M_MESSAGES_REJECTED, f->listener_slot, 0, MR_LIMIT, n->canned[R_TOO_MANY_RCPTS]);
	*n = (struct session_counts){ 0 };
}

void
front_count_answer(struct front *f, enum request_kind kind, int64_t took_us)
{
	if (request_commands[kind] != NULL)
		metrics_observe(f->args.metrics, M_COMMAND_DURATION, f->request_slots[kind], took_us);
}

void
front_count_tls(struct front *f, unsigned version)
{
	static const enum metrics_tls versions[] = { MT_1_0, MT_1_1, MT_1_2, MT_1_3 };
	unsigned minor = version - 0x0301;	/* as on the wire */

	metrics_add(f->args.metrics, M_TLS_CONNECTIONS, f->listener_slot, minor < COUNT(versions) ? versions[minor] : MT_OTHER, 0, 1);
}

void
front_count_init(struct front *f)
{
	const struct metrics *m = f->args.metrics;

	f->listener_slot = metrics_find(m, ML_LISTENER, text_span(f->args.listener->name));
	for (size_t i = 1; session_command_name(i) != NULL; i++)
		f->command_slots[i] = metrics_find(m, ML_COMMAND, text_span(session_command_name(i)));
	for (size_t i = 0; i < REQ__MAX; i++)
		f->request_slots[i] = metrics_find(m, ML_COMMAND, text_span(request_commands[i]));
}
