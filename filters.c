/*
 * filters.c - all filters of a complete message, in their order: spam checkers side by side, then milters, then hooks.
 *
 * What the checkers say is merged by the rules of [spamcheck]; what milters and hooks say stands as it is, and the first refusal ends
 * the way. A message is changed in memory on the way and written once, before the hooks read it.
 */
#include "filters.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "milter.h"
#include "names.h"
#include "rspamd.h"
#include "spamd.h"

#define SCORE_MAX 1e6		/* what metrics make of any larger one */

/* Checks that wait for one of max_checks to end, in the order in which they came. */
struct line {
	struct opinion	*head, *last;
};

struct filters {
	const struct config *config;
	struct loop	*loop;
	struct loop_slot waker;		/* when one may begin, or has waited too long */
	struct line	 lines[CONFIG_CHECKERS_MAX];	/* by checker */
	struct rspamd	*rspamd[CONFIG_CHECKERS_MAX];	/* by checker; NULL: it is of another type */
	struct spamd	*spamd[CONFIG_CHECKERS_MAX];
	struct milter	*milters[CONFIG_MILTERS_MAX];
	struct hooks	*hooks;
	struct names	*names;		/* NULL: nobody wants them */
	struct metrics	*metrics;
	size_t		 pending;
};

/* What one checker has said, as far as it is needed when all have. */
struct opinion {
	struct pass	*pass;
	struct opinion	*next;		/* in its checker's line */
	int64_t		 deadline_at;	/* of its wait for a place and its check together */
	struct filter_report report;	/* its edits are ours */
};

/* The way of one message, or of one event of its envelope. */
struct pass {
	struct filters	*f;
	struct tx	*tx;		/* borrowed until done */
	const struct mailbox *rcpt;	/* borrowed until done; of an event of the envelope that has one */
	filters_done	*done;
	void		*arg;
	struct names_wait name;
	struct content	 content;
	bool		 has_content;	/* a message, not an event of the envelope */
	struct opinion	 opinions[CONFIG_CHECKERS_MAX];
	size_t		 waits_for;	/* checkers that have not answered */
	size_t		 milter;	/* that has its turn */
	struct filters_story story;
	char		 detail[400];
};

static void	next_milter(struct pass *p);

/* ---- the end of a pass ---- */

static void
pass_end(struct pass *p)
{
	struct filters *f = p->f;

	p->story.detail = p->detail;
	f->pending--;
	p->done(p->arg, &p->story);
	for (size_t i = 0; i < f->config->checkers_n; i++)
		edits_clear(&p->opinions[i].report.edits);
	if (p->has_content)
		content_clear(&p->content);
	free(p);
}

static void
add_detail(struct pass *p, const char *name, const char *text)
{
	size_t n = strlen(p->detail);

	(void)snprintf(p->detail + n, sizeof(p->detail) - n, "%s%s: %s", n == 0 ? "" : "; ", name, text);
}

/* Refuse with what the filter says, or with the usual. */
static void
refuse(struct pass *p, const struct filter_report *r, int code, const char *esc, const char *text)
{
	if (r != NULL && r->esc[0] - '0' == code / 100) {
		code = r->code / 100 == code / 100 ? r->code : code;
		esc = r->esc;
	}
	verdict_set(&p->story.verdict, code, esc, "%s", r != NULL && r->text[0] != '\0' ? r->text : text);
}

static void
log_left_out(const struct pass *p, const char *filter, size_t n)
{
	log_warn(p->tx->session, "edits_left_out", LF_STR("id", p->tx->id), LF_STR("filter", filter), LF_INT("count", n));
}

/* A field of ours: there is room for it, if there is memory. */
static void
add_on_top(struct pass *p, struct span name, struct span value)
{
	if (content_insert(&p->content, 0, name, value) == -1)
		log_left_out(p, "spamcheck", 1);
}

/* For the reader, whatever an earlier checker has said. */
static void
mark_as_spam(struct pass *p)
{
	for (size_t i = p->content.fields_n; i-- > 0;) {
		const struct content_field *f = &p->content.fields[i];

		if (text_is_nocase(f->name, "X-Spam-Flag") ||
		    (text_is_nocase(f->name, "X-Spam-Status") && !text_starts_nocase(text_trim(f->value), "Yes")))
			content_delete(&p->content, i);
	}
	add_on_top(p, SPAN("X-Spam-Flag"), SPAN("YES"));
	p->story.is_spam = true;
}

/* What has been changed cannot be written. */
static void
refuse_storage(struct pass *p, const char *who)
{
	add_detail(p, who, strerror(errno));
	p->story.reason = MR_STORAGE;
	refuse(p, NULL, 452, "4.3.1", "Insufficient system storage");
}

/* What a report that is the last word means; reason: why filters of its kind refuse. Returns whether the message goes on. */
static bool
take_report(struct pass *p, const struct filter_report *r, enum metrics_reason reason, bool discard, enum set_aside quarantine)
{
	/* RFC 3463 3.4: 4.3.x is the state of a mail system, also where a hook or a milter says so */
	p->story.reason = r->action == FILTER_TROUBLE || r->failed || strncmp(r->esc, "4.3.", 4) == 0 ? MR_FILTER : reason;
	switch (r->action) {
	case FILTER_ACCEPT:
	case FILTER_SKIPPED:
		return true;
	case FILTER_REJECT:
		refuse(p, r, 550, "5.7.1", "Message refused");
		return false;
	case FILTER_TEMPFAIL:
	case FILTER_TROUBLE:
		refuse(p, r->action == FILTER_TROUBLE ? NULL : r, 451, "4.7.1", "Temporary message check failure, try again later");
		return false;
	case FILTER_DISCARD:
		refuse(p, r, 550, "5.7.1", "Message refused");
		p->story.discarded = discard;
		return false;
	case FILTER_QUARANTINE:
		if (quarantine == ASIDE_FLAG) {
			mark_as_spam(p);
			return true;
		}
		refuse(p, r, 550, "5.7.1", "Message refused");
		return false;
	case FILTER__MAX:
		break;
	}
	return true;
}

/* ---- spam checkers ---- */

/* A quarantine that is a flag lets the message pass. */
static bool
is_flag(const struct pass *p, size_t i)
{
	return p->opinions[i].report.action == FILTER_QUARANTINE && p->f->config->checkers[i].quarantine == ASIDE_FLAG;
}

/* What the word of a checker comes to. */
static enum filter_action
rank_of(const struct pass *p, size_t i)
{
	const struct config *c = p->f->config;
	const struct filter_report *r = &p->opinions[i].report;
	bool passes = r->action == FILTER_ACCEPT || is_flag(p, i);

	/* a checker's own tempfail is its word whatever its score (case 11.20) */
	if (!passes && r->action != FILTER_REJECT)
		return r->action;
	if (c->reject_threshold > 0 && r->has_score && r->score >= (double)c->reject_threshold)
		return FILTER_REJECT;
	if (passes && c->tempfail_threshold > 0 && r->has_score && r->score >= (double)c->tempfail_threshold)
		return FILTER_TEMPFAIL;
	return passes ? FILTER_ACCEPT : FILTER_REJECT;
}

static bool
is_word(const struct filter_report *r)
{
	return r->action != FILTER_TROUBLE && r->action != FILTER_SKIPPED;
}

/* What the fail modes make of a message that no checker could look at. */
static enum filter_action
fail_action(const struct pass *p)
{
	const struct config *c = p->f->config;
	enum fail_mode worst = FAIL_OPEN;

	for (size_t i = 0; i < c->checkers_n; i++) {
		enum fail_mode m = c->checkers[i].fail_mode == FAIL_INHERIT ? c->check_fail_mode : c->checkers[i].fail_mode;

		if (p->opinions[i].report.action == FILTER_TROUBLE && m > worst)
			worst = m;
	}
	return worst == FAIL_OPEN ? FILTER_ACCEPT : worst == FAIL_REJECT ? FILTER_REJECT : FILTER_TEMPFAIL;
}

/*
 * The checker whose word decides, by [spamcheck] mode; SIZE_MAX: none has one. first_reject: the first that does not accept, as they are
 * configured. all_reject: one that accepts, if there is one. highest_score: the one with the highest score.
 */
static size_t
deciding(const struct pass *p)
{
	const struct config *c = p->f->config;
	size_t best = SIZE_MAX;

	for (size_t i = 0; i < c->checkers_n; i++) {
		const struct filter_report *r = &p->opinions[i].report, *b = best == SIZE_MAX ? NULL : &p->opinions[best].report;

		if (!is_word(r))
			continue;
		if (b == NULL)
			best = i;
		else if (c->check_mode == CHECK_HIGHEST_SCORE ? r->has_score && (!b->has_score || r->score > b->score) :
		    (rank_of(p, best) == FILTER_ACCEPT) != (rank_of(p, i) == FILTER_ACCEPT) &&
		    (rank_of(p, i) == FILTER_ACCEPT) == (c->check_mode == CHECK_ALL_REJECT))
			best = i;
	}
	return best;
}

/* Fields that are there are forged, or of a check that no longer counts (case 9.12). */
static void
remove_spam_fields(struct pass *p)
{
	static const char *const names[] = { "X-Spam-Status", "X-Spam-Score", "X-Spam-Flag", "X-Spam-Checker" };
	struct edits e = { 0 };

	for (size_t i = 0; i < COUNT(names); i++)
		edits_add(&e, EDIT_REMOVE, 0, text_span(names[i]), (struct span){ 0 });
	(void)content_apply(&p->content, &e);
	edits_clear(&e);
}

/* By the deciding checker. */
static void
add_spam_fields(struct pass *p, size_t which)
{
	const struct filter_report *r = &p->opinions[which].report;
	char text[128];

	add_on_top(p, SPAN("X-Spam-Checker"), text_span(p->f->config->checkers[which].name));
	add_on_top(p, SPAN("X-Spam-Flag"), p->story.is_spam ? SPAN("YES") : SPAN("NO"));
	if (r->has_score) {
		(void)snprintf(text, sizeof(text), "%.2f", r->score);
		add_on_top(p, SPAN("X-Spam-Score"), text_span(text));
	}
	(void)snprintf(text, sizeof(text), r->has_score ? "%s, score=%.2f required=%.2f" : "%s", p->story.is_spam ? "Yes" : "No", r->score,
	    r->required);
	add_on_top(p, SPAN("X-Spam-Status"), text_span(text));
}

/* Whether it is too large for a checker that has to see it (case 11.27). */
static bool
is_oversize(const struct pass *p)
{
	const struct config *c = p->f->config;

	for (size_t i = 0; i < c->checkers_n; i++)
		if (p->opinions[i].report.action == FILTER_SKIPPED && c->checkers[i].oversize == OVERSIZE_TEMPFAIL)
			return true;
	return false;
}

/* What cannot be done of what a filter wants changed is logged, and the message goes on. */
static void
apply_edits(struct pass *p, const struct edits *e, const char *filter)
{
	size_t lost = content_apply(&p->content, e) + e->left_out;

	if (lost > 0)
		log_left_out(p, filter, lost);
}

/* All have answered, or were not asked. */
static void
checkers_done(struct pass *p)
{
	const struct config *c = p->f->config;
	size_t which = deciding(p);
	struct filter_report word = { .action = FILTER_ACCEPT };
	bool trouble = false, flag = false;

	if (p->tx->abandoned) {
		pass_end(p);
		return;
	}
	for (size_t i = 0; i < c->checkers_n; i++) {
		const struct filter_report *r = &p->opinions[i].report;

		apply_edits(p, &r->edits, c->checkers[i].name);
		p->story.is_spam = p->story.is_spam || r->is_spam;
		trouble = trouble || r->action == FILTER_TROUBLE;
		flag = flag || is_flag(p, i);
		add_detail(p, c->checkers[i].name, r->detail);
	}
	if (c->check_add_headers)
		remove_spam_fields(p);
	if (which != SIZE_MAX) {
		word = p->opinions[which].report;
		word.action = rank_of(p, which);
		p->story.has_score = word.has_score;
		p->story.score = word.score;
		if (word.has_score)
			metrics_observe(p->f->metrics, M_SPAM_SCORE, 0,
			    (int64_t)(1e6 * (word.score > SCORE_MAX ? SCORE_MAX : word.score < -SCORE_MAX ? -SCORE_MAX : word.score)));
		if (c->check_add_headers)
			add_spam_fields(p, which);
	} else if (trouble) {
		word.action = fail_action(p);
		word.failed = true;
		(void)snprintf(word.text, sizeof(word.text), "%s", word.action == FILTER_REJECT ? "Spam check failed" :
		    "Temporary spam check failure, try again later");
	}
	if (!take_report(p, &word, MR_SPAM, which != SIZE_MAX && c->checkers[which].discard,
	    which != SIZE_MAX ? c->checkers[which].quarantine : ASIDE_REJECT)) {
		pass_end(p);
	} else if (is_oversize(p)) {
		p->story.reason = MR_FILTER;
		refuse(p, NULL, 451, "4.7.1", "Message too large to be checked, try again later");
		pass_end(p);
	} else {
		if (flag)
			mark_as_spam(p);
		next_milter(p);
	}
}

static size_t
checker_of(const struct opinion *o)
{
	return (size_t)(o - o->pass->opinions);
}

static enum metrics_check
result_of(const struct filter_report *r)
{
	switch (r->action) {
	case FILTER_ACCEPT:
	case FILTER_QUARANTINE:
		break;
	case FILTER_REJECT:
	case FILTER_DISCARD:
		return MC_REJECT;
	case FILTER_TEMPFAIL:
		return MC_TEMPFAIL;
	case FILTER_SKIPPED:
		return MC_SKIPPED;
	case FILTER_TROUBLE:
	case FILTER__MAX:
		return r->timed_out ? MC_TIMEOUT : MC_ERROR;
	}
	return r->is_spam ? MC_FLAG : MC_ACCEPT;
}

/* What metrics keep of a checker's answer; its words for SPF and the like too. */
static void
count(const struct opinion *o)
{
	static const char *const outcomes[] = { [FILTER_UNSAID] = NULL, [FILTER_NONE] = "none", [FILTER_PASS] = "pass", [FILTER_FAIL] = "fail",
	    [FILTER_SOFTFAIL] = "softfail", [FILTER_NEUTRAL] = "neutral", [FILTER_TEMPERROR] = "temperror",
	    [FILTER_PERMERROR] = "permerror", [FILTER_LISTED] = "listed" };
	static const char *const methods[] = { [FILTER_SPF] = "spf", [FILTER_DKIM] = "dkim", [FILTER_DMARC] = "dmarc",
	    [FILTER_ARC] = "arc", [FILTER_RBL] = "rbl" };
	const struct filters *f = o->pass->f;
	const struct filter_report *r = &o->report;
	const char *name = f->config->checkers[checker_of(o)].name;

	metrics_add(f->metrics, M_SPAM_CHECKS, metrics_find(f->metrics, ML_CHECKER, text_span(name)), result_of(r), 0, 1);
	for (size_t i = 0; i < FILTER_METHOD__MAX; i++)
		if (outcomes[r->outcomes[i]] != NULL)
			metrics_add(f->metrics, M_MESSAGE_AUTH, metrics_find(f->metrics, ML_METHOD, text_span(methods[i])),
			    metrics_find(f->metrics, ML_METHOD_RESULT, text_span(outcomes[r->outcomes[i]])), 0, 1);
}

static void
note(struct opinion *o, const struct filter_report *r)
{
	struct edits *e = &o->report.edits;

	o->report = *r;
	*e = (struct edits){ 0 };
	for (size_t i = 0; i < r->edits.n; i++) {	/* the report's own end with it */
		const struct edit *from = &r->edits.v[i];
		struct span all = buf_span(&r->edits.text);

		edits_add(e, from->kind, from->nth, text_sub(all, from->name_at, from->name_at + from->name_len),
		    text_sub(all, from->value_at, from->value_at + from->value_len));
	}
	e->left_out += r->edits.left_out;
	count(o);
}

static void
checker_done(void *arg, const struct filter_report *r)
{
	struct opinion *o = arg;
	struct filters *f = o->pass->f;

	note(o, r);
	if (f->lines[checker_of(o)].head != NULL)	/* its place is free when it has returned */
		loop_deadline(&f->waker, f->loop->now_ms);
	if (--o->pass->waits_for == 0)
		checkers_done(o->pass);
}

/* It is as if it had answered at once; checkers_done() is the caller's. */
static void
not_started(struct opinion *o, int error)
{
	struct filter_report r = { .action = error == EFBIG || error == ECANCELED ? FILTER_SKIPPED : FILTER_TROUBLE };

	(void)snprintf(r.detail, sizeof(r.detail), "%s", error == EFBIG ? "too large to be checked" :
	    error == EAGAIN ? "too many checks at once" : strerror(error));
	note(o, &r);
	o->pass->waits_for--;
}

/* false with errno; EAGAIN: it has to wait, as long as there is time left. */
static bool
start_check(struct opinion *o)
{
	struct filters *f = o->pass->f;
	int64_t left_ms = o->deadline_at - f->loop->now_ms;
	size_t i = checker_of(o);

	if (o->pass->tx->abandoned) {	/* it takes nobody's place */
		errno = ECANCELED;
		return false;
	}
	if (left_ms <= 0) {
		errno = EAGAIN;
		return false;
	}
	return f->rspamd[i] != NULL ? rspamd_start(f->rspamd[i], o->pass->tx, left_ms, checker_done, o) != NULL :
	    spamd_start(f->spamd[i], o->pass->tx, left_ms, checker_done, o) != NULL;
}

/* As many as may be are under way: it waits for its turn. */
static void
stand_in_line(struct opinion *o)
{
	struct filters *f = o->pass->f;
	size_t i = checker_of(o);
	struct line *l = &f->lines[i];

	metrics_add(f->metrics, M_LIMIT_HITS, MH_MAX_CHECKS, 0, 0, 1);
	if (l->head == NULL)
		l->head = o;
	else
		l->last->next = o;
	l->last = o;
	if (o->deadline_at < f->waker.deadline_at)
		loop_deadline(&f->waker, o->deadline_at);
}

/* Begin what may begin, and give up what has waited too long. */
static void
wake(void *arg, short revents)
{
	struct filters *f = arg;
	int64_t next_at = LOOP_NEVER;

	(void)revents;
	for (size_t i = 0; i < f->config->checkers_n; i++) {
		struct line *l = &f->lines[i];

		while (l->head != NULL) {
			struct opinion *o = l->head;
			bool started = start_check(o);

			if (!started && errno == EAGAIN && f->loop->now_ms < o->deadline_at)
				break;
			l->head = o->next;
			if (started)
				continue;
			not_started(o, errno);
			if (o->pass->waits_for == 0)
				checkers_done(o->pass);
		}
		if (l->head != NULL && l->head->deadline_at < next_at)
			next_at = l->head->deadline_at;
	}
	loop_deadline(&f->waker, next_at);
}

static void
start_checkers(struct pass *p)
{
	struct filters *f = p->f;

	p->waits_for = f->config->checkers_n + 1;	/* one more, so that it is not done before all are started */
	for (size_t i = 0; i < f->config->checkers_n; i++) {
		struct opinion *o = &p->opinions[i];

		o->pass = p;
		o->deadline_at = f->loop->now_ms + f->config->checkers[i].timeout_ms;
		/* nobody goes past those who wait, but who has nothing to wait for */
		if (f->lines[i].head != NULL && p->tx->size - message_at(p->tx) <= f->config->checkers[i].max_size)
			stand_in_line(o);
		else if (start_check(o))
			continue;
		else if (errno == EAGAIN)
			stand_in_line(o);
		else
			not_started(o, errno);
	}
	if (--p->waits_for == 0)
		checkers_done(p);
}

/* ---- hooks, milters ---- */

static void
hooks_done(void *arg, const struct filter_report *r)
{
	struct pass *p = arg;

	if (r->detail[0] != '\0')
		add_detail(p, "hook", r->detail);
	if (take_report(p, r, MR_POLICY, false, ASIDE_REJECT) && p->has_content && (r->edits.n > 0 || r->edits.left_out > 0)) {
		apply_edits(p, &r->edits, "hook");
		if (content_write(&p->content, p->tx) == -1)
			refuse_storage(p, "hook");
	}
	pass_end(p);
}

/* The checkers and milters are content: what they have changed is written, and the hooks read it. */
static void
finish(struct pass *p)
{
	if (content_write(&p->content, p->tx) == -1) {
		refuse_storage(p, "content");
		pass_end(p);
	} else if (hooks_wants(p->f->hooks, HOOK_MESSAGE)) {
		hooks_run(p->f->hooks, HOOK_MESSAGE, p->tx, NULL, hooks_done, p);
	} else {
		pass_end(p);
	}
}

static void
milter_done(void *arg, const struct filter_report *r)
{
	struct pass *p = arg;
	const struct milter_config *m = &p->f->config->milters[p->milter];

	if (r->detail[0] != '\0')
		add_detail(p, m->name, r->detail);
	if (!take_report(p, r, MR_POLICY, m->discard, m->quarantine)) {
		pass_end(p);
		return;
	}
	p->milter++;
	next_milter(p);
}

/* It could not be asked at all: done gets what the configuration says of that. */
static void
milter_not_started(struct pass *p, filter_done *done)
{
	const struct milter_config *m = &p->f->config->milters[p->milter];
	static const enum filter_action defaults[] = { [MILTER_TEMPFAIL] = FILTER_TEMPFAIL, [MILTER_ACCEPT] = FILTER_ACCEPT,
	    [MILTER_REJECT] = FILTER_REJECT };
	struct filter_report r = { .action = defaults[m->default_action], .failed = true };

	(void)snprintf(r.detail, sizeof(r.detail), "not started: %s", strerror(errno));
	done(p, &r);
}

static void
next_milter(struct pass *p)
{
	if (p->tx->abandoned)
		pass_end(p);
	else if (p->milter == p->f->config->milters_n)
		finish(p);
	else if (milter_start(p->f->milters[p->milter], p->tx, &p->content, milter_done, p) == NULL)
		milter_not_started(p, milter_done);
}

/* ---- a recipient ---- */

static void	next_milter_of_rcpt(struct pass *p);

static void
milter_rcpt_done(void *arg, const struct filter_report *r)
{
	struct pass *p = arg;
	const struct milter_config *m = &p->f->config->milters[p->milter];

	if (r->detail[0] != '\0')
		add_detail(p, m->name, r->detail);
	/* what it wants to vanish is thrown away when it is there, and it says so again */
	if (!(r->action == FILTER_DISCARD && m->discard) && !take_report(p, r, MR_POLICY, false, m->quarantine)) {
		pass_end(p);
		return;
	}
	p->milter++;
	next_milter_of_rcpt(p);
}

static void
next_milter_of_rcpt(struct pass *p)
{
	while (p->milter < p->f->config->milters_n && !milter_wants_recipients(p->f->milters[p->milter]))
		p->milter++;
	if (p->tx->abandoned) {
		pass_end(p);
	} else if (p->milter < p->f->config->milters_n) {
		if (milter_start_recipient(p->f->milters[p->milter], p->tx, p->rcpt, milter_rcpt_done, p) == NULL)
			milter_not_started(p, milter_rcpt_done);
	} else if (hooks_wants(p->f->hooks, HOOK_RCPT)) {
		hooks_run(p->f->hooks, HOOK_RCPT, p->tx, p->rcpt, hooks_done, p);
	} else {
		pass_end(p);
	}
}

/* ---- the interface ---- */

size_t
filters_slots(const struct config *c)
{
	size_t n = 8;

	for (size_t i = 0; i < c->checkers_n; i++)
		n += 2 * c->checkers[i].max_checks;
	for (size_t i = 0; i < c->milters_n; i++)
		n += milter_slots(&c->milters[i]);
	return n;
}

struct filters *
filters_new(struct loop *l, const struct config *c, struct http *http, struct children *children, struct hooks *hooks,
    struct metrics *m)
{
	struct filters *f = calloc(1, sizeof(*f));
	int error;

	if (f == NULL) {
		hooks_free(hooks);
		errno = ENOMEM;
		return NULL;
	}
	f->hooks = hooks;
	f->config = c;
	f->loop = l;
	f->metrics = m;
	if (loop_add(l, &f->waker, -1, 0, wake, f) == -1)
		goto fail;
	for (size_t i = 0; i < c->checkers_n; i++) {
		if (c->checkers[i].type == CHECKER_RSPAMD ? (f->rspamd[i] = rspamd_new(http, &c->checkers[i])) == NULL :
		    (f->spamd[i] = spamd_new(l, &c->checkers[i])) == NULL)
			goto fail;
	}
	for (size_t i = 0; i < c->milters_n; i++)
		if ((f->milters[i] = milter_new(l, &c->milters[i])) == NULL)
			goto fail;
	if (config_wants_names(c) && (f->names = names_new(l, children, names_look_up)) == NULL)
		goto fail;
	return f;
fail:
	error = errno;
	filters_free(f);
	errno = error;
	return NULL;
}

void
filters_free(struct filters *f)
{
	if (f == NULL)
		return;
	for (size_t i = 0; i < CONFIG_CHECKERS_MAX; i++) {
		rspamd_free(f->rspamd[i]);
		spamd_free(f->spamd[i]);
	}
	for (size_t i = 0; i < CONFIG_MILTERS_MAX; i++)
		milter_free(f->milters[i]);
	hooks_free(f->hooks);
	names_free(f->names);
	loop_remove(&f->waker);
	free(f);
}

bool
filters_want_message(const struct filters *f)
{
	return f->config->checkers_n > 0 || f->config->milters_n > 0 || hooks_wants(f->hooks, HOOK_MESSAGE);
}

void
filters_expect(struct filters *f, const char *address)
{
	if (f->names != NULL)
		names_expect(f->names, address);
}

static struct pass *
pass_new(struct filters *f, filters_done *done, void *arg)
{
	struct pass *p = calloc(1, sizeof(*p));
	struct filters_story s = { .detail = "out of memory" };

	if (p == NULL) {
		verdict_set(&s.verdict, 451, "4.3.0", "Out of memory");
		done(arg, &s);
		return NULL;
	}
	*p = (struct pass){ .f = f, .done = done, .arg = arg };
	f->pending++;
	return p;
}

static bool
milters_want_recipients(const struct filters *f)
{
	for (size_t i = 0; i < f->config->milters_n; i++)
		if (milter_wants_recipients(f->milters[i]))
			return true;
	return false;
}

static void
begin(struct pass *p)
{
	if (p->rcpt != NULL) {
		next_milter_of_rcpt(p);
		return;
	}
	if (content_load(&p->content, p->tx) == -1) {
		add_detail(p, "content", strerror(errno));
		if (errno == EFBIG) {
			metrics_add(p->f->metrics, M_LIMIT_HITS, MH_MAX_HEADER_SIZE, 0, 0, 1);
			p->story.reason = MR_SYNTAX;
			refuse(p, NULL, 550, "5.6.0", "Header too large");
		} else {
			refuse(p, NULL, 451, "4.3.0", "Temporary failure, try again");
		}
		pass_end(p);
		return;
	}
	p->has_content = true;
	if (p->f->config->checkers_n > 0)
		start_checkers(p);
	else
		next_milter(p);
}

static void
named(void *arg, const char *name)
{
	struct pass *p = arg;

	if (name[0] != '\0')	/* one that is known stays, though there was no place for another look-up */
		memcpy(p->tx->client_name, name, strlen(name) + 1);
	begin(p);
}

void
filters_message(struct filters *f, struct tx *tx, filters_done *done, void *arg)
{
	struct pass *p = pass_new(f, done, arg);

	if (p == NULL)
		return;
	p->tx = tx;
	if (f->names != NULL)
		names_get(f->names, tx->client_address, &p->name, named, p);
	else
		begin(p);
}

bool
filters_want(const struct filters *f, enum hook_event event)
{
	return hooks_wants(f->hooks, event) || (event == HOOK_RCPT && milters_want_recipients(f));
}

void
filters_envelope(struct filters *f, enum hook_event event, struct tx *tx, const struct mailbox *rcpt, filters_done *done, void *arg)
{
	struct pass *p = pass_new(f, done, arg);

	if (p == NULL)
		return;
	p->tx = tx;
	p->rcpt = rcpt;
	if (event == HOOK_RCPT && f->names != NULL && milters_want_recipients(f))
		names_get(f->names, tx->client_address, &p->name, named, p);
	else if (event == HOOK_RCPT)
		begin(p);
	else
		hooks_run(f->hooks, event, tx, rcpt, hooks_done, p);
}

size_t
filters_pending(const struct filters *f)
{
	return f->pending;
}
