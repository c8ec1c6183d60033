/*
 * metrics.h - what is counted for Prometheus: counters in shared memory, and their text.
 *
 * The memory is the master's; every process adds to it without a lock. A series is found by its labels' values, so that it goes on
 * over a crash and a reload. The values come from the configuration or from the lists below, never from a client: each list is
 * bounded, and whatever is not in it is slot 0, "other".
 */
#ifndef METRICS_H
#define METRICS_H

#include "buf.h"

#define METRICS_LISTENERS 33	/* slots, "other" included; those of listeners that are gone stay */
#define METRICS_DOMAINS 65
#define METRICS_CHECKERS 17
#define METRICS_CERTS 65
#define METRICS_COMMANDS 40
#define METRICS_ROOM 4096	/* metrics_print() stops while out has less: the longest series with its family's header */

enum metric {
	M_CONNECTIONS, M_CONNECTIONS_ACTIVE, M_TLS_CONNECTIONS, M_TLS_FAILURES, M_TLS_EXPIRY,
	M_MESSAGES_RECEIVED, M_MESSAGES_REJECTED, M_MESSAGES_SIZE,
	M_AUTH_ATTEMPTS, M_COMMANDS, M_COMMAND_DURATION,
	M_DELIVERIES, M_DELIVERY_DURATION,
	M_SPAM_CHECKS, M_SPAM_SCORE, M_MESSAGE_AUTH,
	M_LIMIT_HITS, M_CONFIG_RELOADS, M_PROCESSES_RESTARTED, M_LOG_LINES_DROPPED, M_BUILD_INFO,
	M_PROCESS_START_TIME, M_PROCESS_CPU, M_PROCESS_RESIDENT, M_PROCESS_OPEN_FDS, M_PROCESS_MAX_FDS,
	M__MAX
};

/* What a label names. The values of the first group are given by metrics_label(), those of the second are fixed. */
enum metrics_label {
	ML_NONE,
	ML_LISTENER, ML_DOMAIN, ML_CHECKER, ML_CERT, ML_COMMAND, ML_VERSION,
	ML_TLS_VERSION, ML_REASON, ML_MECHANISM, ML_AUTH_RESULT, ML_AGENT, ML_DELIVERY_RESULT, ML_CHECK_RESULT, ML_METHOD,
	ML_METHOD_RESULT, ML_LIMIT, ML_RELOAD_RESULT, ML_PROCESS,
	ML__MAX
};
#define ML_GIVEN__MAX ML_TLS_VERSION

enum metrics_tls { MT_OTHER, MT_1_0, MT_1_1, MT_1_2, MT_1_3, MT__MAX };
enum metrics_reason {	/* FILTER: one that could not be asked, or understood */
	MR_OTHER, MR_SPAM, MR_POLICY, MR_UNKNOWN_RECIPIENT, MR_RELAY_DENIED, MR_SIZE, MR_SYNTAX, MR_AUTH, MR_TLS, MR_LIMIT, MR_FROM,
	MR_NEWLINE, MR_STORAGE, MR_DELIVERY, MR_FILTER, MR__MAX
};
enum metrics_auth { MA_SUCCESS, MA_FAILURE, MA_ERROR, MA__MAX };	/* ERROR: it could not be checked */
enum metrics_delivery { MD_SUCCESS, MD_TEMPFAIL, MD_REJECT, MD__MAX };
enum metrics_check { MC_ACCEPT, MC_FLAG, MC_TEMPFAIL, MC_REJECT, MC_TIMEOUT, MC_ERROR, MC_SKIPPED, MC__MAX };
enum metrics_limit {
	MH_OTHER, MH_MAX_CONNECTIONS, MH_MAX_CONNECTIONS_PER_IP, MH_CLIENT_RATE, MH_CONNECTION_RATE, MH_SENDER_RATE, MH_RECIPIENT_RATE,
	MH_DOMAIN_RATE, MH_MAX_MESSAGE_SIZE, MH_MAX_HEADER_SIZE, MH_MAX_RECIPIENTS, MH_MAX_ERRORS, MH_MAX_SPOOL_MEMORY,
	MH_MAX_AUTH_FAILURES, MH_AUTH_FAILURES_PER_IP, MH_MAX_DELIVERIES, MH_MAX_CHECKS, MH_MAX_AUTHS, MH__MAX
};
enum metrics_reload { MO_SUCCESS, MO_FAILURE, MO__MAX };
enum metrics_process { MP_FRONT, MP_AGENT, MP_EXPORTER, MP__MAX };

/* Why clients should go elsewhere, a bit each; none: it is ready. */
enum metrics_unready {
	UNREADY_STARTING = 1,	/* no configuration is served yet */
	UNREADY_STOPPING = 2,
	UNREADY_AGENT = 4,	/* there is none now */
	UNREADY_FRONT = 8,	/* a listener has none now */
	UNREADY__MAX = 16
};

/* NULL wherever one is asked for: nothing is counted. */
struct metrics;

/* With the shared memory; NULL with errno. */
struct metrics	*metrics_new(void);
void		 metrics_free(struct metrics *m);
/* In a child: what only the master writes becomes read-only, and in a reader everything. Fatal when that fails. */
void		 metrics_lock(struct metrics *m, bool reader);

/* The master's, before the fork: the slot of a value, which is made if there is room. */
unsigned	 metrics_label(struct metrics *m, enum metrics_label l, struct span value);
/* The slot of a value, 0 if it has none. */
unsigned	 metrics_find(const struct metrics *m, enum metrics_label l, struct span value);
void		 metrics_unready(struct metrics *m, unsigned reasons);
unsigned	 metrics_reasons(const struct metrics *m);

/* Count n more. a, b, c: slots of the metric's labels in their order, 0 where it has fewer. */
void		 metrics_add(struct metrics *m, enum metric metric, unsigned a, unsigned b, unsigned c, uint64_t n);
/* Of a histogram: one observation, in octets or millionths (of a second, of a point). */
void		 metrics_observe(struct metrics *m, enum metric metric, unsigned a, int64_t value);
/* Of a gauge, the master's: seconds, octets (rounded to KiB), descriptors. 0: the series is gone. */
void		 metrics_set(struct metrics *m, enum metric metric, unsigned a, uint64_t value);
/* Count the log lines that this process has dropped since it was last called. */
void		 metrics_log_lines(struct metrics *m);
/* What a counter, or a histogram's number of observations, stands at. */
uint64_t	 metrics_get(const struct metrics *m, enum metric metric, unsigned a, unsigned b, unsigned c);

/* Where a text stands. All zero: at its beginning. */
struct metrics_cursor {
	bool		openmetrics;	/* OpenMetrics 1.0.0, not the text format 0.0.4 */
	bool		in_family;	/* its header is out */
	enum metric	metric;
	unsigned	label[3];
	uint32_t	active[METRICS_LISTENERS];	/* connections of each, as the reader has counted them */
};

/* Append more of the text as long as there is METRICS_ROOM in out. Whether that was all. */
bool		 metrics_print(const struct metrics *m, struct metrics_cursor *at, struct buf *out);
/* The tables, for tests: NULL at their ends. */
const char	*metrics_name(enum metric metric);
const char	*metrics_value(enum metrics_label l, unsigned slot);

#endif
