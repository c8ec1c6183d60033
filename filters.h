/*
 * filters.h - all filters of a complete message, in their order: spam checkers side by side, then milters, then hooks.
 */
#ifndef FILTERS_H
#define FILTERS_H

#include "child.h"
#include "hook.h"
#include "http.h"
#include "metrics.h"

struct filters;

/* What they had to say, for the log and the reply. Borrowed until done returns. */
struct filters_story {
	struct verdict	verdict;	/* code 0: nothing against it */
	enum metrics_reason reason;	/* why there is something */
	const char	*detail;	/* for the log */
	bool		has_score;
	double		score;
	bool		is_spam;
	bool		discarded;	/* say 250, and throw it away: a key says so */
};

typedef void filters_done(void *arg, const struct filters_story *s);

/* Loop slots that it may use at once, with what c configures. */
size_t		filters_slots(const struct config *c);
/*
 * The loop, c, http (NULL: no checker needs it), children (with room for HOOKS_MAX and NAMES_CALLS_MAX more) and m are borrowed until
 * filters_free(). hooks are its own from now on, whatever it returns. NULL with errno.
 */
struct filters	*filters_new(struct loop *l, const struct config *c, struct http *http, struct children *children,
		struct hooks *hooks, struct metrics *m);
/* After children_end(), before http_free(). */
void		filters_free(struct filters *f);
/* Whether a complete message is shown to anything. */
bool		filters_want_message(const struct filters *f);
/* One of a client at this address may come: what can be found out before may begin. */
void		filters_expect(struct filters *f, const char *address);
/*
 * Show them a message, which they may change: tx->fd is the agent's alone, nothing is in front of its body yet. tx is borrowed until done,
 * which is called exactly once, from the loop or from inside this call.
 */
void		filters_message(struct filters *f, struct tx *tx, filters_done *done, void *arg);
/*
 * An event before there is a message: hooks, see hooks_run(), and before them of a recipient the milters. All are borrowed until done.
 */
bool		filters_want(const struct filters *f, enum hook_event event);
void		filters_envelope(struct filters *f, enum hook_event event, struct tx *tx, const struct mailbox *rcpt, filters_done *done,
		    void *arg);
size_t		filters_pending(const struct filters *f);

#endif
