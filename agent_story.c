/*
 * agent_story.c - what is counted and logged of a message.
 */
#include "agent_story.h"

#include <stdio.h>

#include "deliver.h"

void
story_refused(const struct agent *a, unsigned listener_slot, const char *domain, enum metrics_reason why)
{
	struct metrics *m = a->args.metrics;

	metrics_add(m, M_MESSAGES_REJECTED, listener_slot, metrics_find(m, ML_DOMAIN, text_span(domain)), why, 1);
}

/* Why a message was refused, by what its client was told, before a delivery was tried. */
static const struct {
	const char		*esc;
	enum metrics_reason	 reason;
} reasons[] = {
	{ "5.3.4", MR_SIZE }, { "5.5.2", MR_NEWLINE }, { "5.6.0", MR_SYNTAX }, { "5.4.6", MR_POLICY }, { "5.7.1", MR_FROM },
	{ "5.1.1", MR_UNKNOWN_RECIPIENT }, { "4.3.1", MR_STORAGE },
};

static void
count_message(const struct work *w, const struct verdict *v)
{
	struct metrics *m = w->agent->args.metrics;
	const char *domain = w->tx.rcpts_n == 0 ? "" : w->tx.rcpts[0].domain;
	enum metrics_reason why = w->delivering ? MR_DELIVERY : w->reason;
	unsigned result = v->code / 100 == 2 ? MD_SUCCESS : v->code / 100 == 4 ? MD_TEMPFAIL : MD_REJECT;

	if (w->delivering) {
		metrics_add(m, M_DELIVERIES, metrics_find(m, ML_AGENT, text_span(deliver_agent_name(w->agent->deliver, &w->tx))), result, 0, 1);
		metrics_observe(m, M_DELIVERY_DURATION, result, loop_clock_us() - w->delivery_us);
	}
	if (v->code / 100 == 2 && !w->discarded) {
		metrics_add(m, M_MESSAGES_RECEIVED, w->listener_slot, metrics_find(m, ML_DOMAIN, text_span(domain)), 0, 1);
		metrics_observe(m, M_MESSAGES_SIZE, 0, (int64_t)(w->tx.size - message_at(&w->tx)));
		return;
	}
	for (size_t i = 0; i < COUNT(reasons) && why == MR_OTHER; i++)
		if (strcmp(reasons[i].esc, v->esc) == 0)
			why = reasons[i].reason;
	story_refused(w->agent, w->listener_slot, domain, why);
}

void
story_tell(const struct work *w, const struct verdict *v, const char *detail)
{
	const struct tx *tx = &w->tx;
	char from[SMTP_ADDRESS_MAX + 1], to[LOG_VALUE_MAX + SMTP_ADDRESS_MAX], reply[512];
	int64_t now = loop_clock_us();
	struct buf b;

	count_message(w, v);
	smtp_mailbox_print(&tx->sender, from);
	buf_fixed(&b, to, sizeof(to));
	for (size_t i = 0; i < tx->rcpts_n && buf_len(&b) < LOG_VALUE_MAX; i++) {
		char one[SMTP_ADDRESS_MAX + 1];

		smtp_mailbox_print(&tx->rcpts[i], one);
		buf_printf(&b, "%s%s", i == 0 ? "" : ",", one);
	}
	(void)snprintf(reply, sizeof(reply), "%d %s %s", v->code, v->esc, v->text);
	log_info(tx->session, "message", LF_STR("id", tx->id), LF_STR("listener", tx->listener->name),
	    LF_STR("client", w->address), LF_STR("client_name", tx->client_name), LF_STR("helo", w->helo),
	    LF_STR("user", w->auth_user), LF_STR("tls", tx->tls_version), LF_STR("cipher", tx->tls_cipher),
	    LF_STR("from", from), LF_SPAN("to", buf_span(&b)),
	    LF_INT("rcpts", tx->rcpts_n), LF_INT("size", tx->size == 0 ? 0 : tx->size - message_at(tx)),
	    LF_STR("agent", deliver_agent_name(w->agent->deliver, tx)),
	    LF_STR("result", w->discarded ? "discarded" : v->code / 100 == 2 ? "delivered" : v->code / 100 == 4 ? "deferred" : "rejected"),
	    LF_STR("reply", reply), LF_STR("detail", detail), LF_STR("spam_score", w->score), LF_STR("filters", w->filters),
	    LF_INT("data_ms", w->data_ms), LF_US("filters_ms", w->filters_us),
	    LF_US("delivery_ms", w->delivery_us == 0 ? 0 : now - w->delivery_us), LF_US("total_ms", now - w->started_us));
}
