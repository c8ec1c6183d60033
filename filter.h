/*
 * filter.h - what has a say about a message: rspamd, SpamAssassin, milters, hooks behind one form of report.
 *
 * A filter that hangs, lies or dies is FILTER_TROUBLE for its own message, within its timeout, and nothing for anybody else.
 */
#ifndef FILTER_H
#define FILTER_H

#include "content.h"

enum filter_action {
	FILTER_ACCEPT,
	FILTER_REJECT,
	FILTER_TEMPFAIL,
	FILTER_DISCARD,		/* it wants the message to vanish: 550, unless a key says otherwise */
	FILTER_QUARANTINE,	/* it wants it set aside: refused or flagged by key */
	FILTER_SKIPPED,		/* it was not asked: the message is too large for it */
	FILTER_TROUBLE,		/* no answer that could be understood in time; detail says why */
	FILTER__MAX
};

/*
 * The filters' own words that metrics count: what rspamd's symbols say of SPF, DKIM, DMARC, ARC and blocklists. UNSAID: nothing; NONE:
 * there was nothing to check (RFC 8601 2.7).
 */
enum filter_method { FILTER_SPF, FILTER_DKIM, FILTER_DMARC, FILTER_ARC, FILTER_RBL, FILTER_METHOD__MAX };
enum filter_outcome { FILTER_UNSAID, FILTER_NONE, FILTER_PASS, FILTER_FAIL, FILTER_SOFTFAIL, FILTER_NEUTRAL, FILTER_TEMPERROR, FILTER_PERMERROR,
    FILTER_LISTED, FILTER_OUTCOME__MAX };

struct filter_report {
	enum filter_action action;
	bool		 timed_out;	/* TROUBLE: the time was over */
	bool		 failed;	/* as TROUBLE, though action is what the configuration makes of it */
	bool		 is_spam;	/* flagged, though not refused by the checker itself */
	bool		 has_score;
	double		 score, required;	/* finite */
	int		 code;		/* of its own reply, class 4 or 5 as the action; 0: the usual */
	char		 esc[12];	/* the same; "": the usual */
	char		 text[400];	/* of its own reply: one line, printable ASCII; "": the usual */
	char		 detail[160];	/* for the log, printable: "soft reject", "timeout", ... */
	struct edits	 edits;		/* owned by the report's maker */
	enum filter_outcome outcomes[FILTER_METHOD__MAX];
};

/* r is borrowed until it returns. Called exactly once a check, from the loop, never from inside the call that began it. */
typedef void filter_done(void *arg, const struct filter_report *r);

#endif
