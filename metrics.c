/*
 * metrics.c - what is counted for Prometheus: counters in shared memory, and their text.
 *
 * A counter is exact to 2^63 with 32-bit atomics, which is what every machine has: lo counts modulo 2^32, hi how often lo has
 * passed a multiple of 2^31. The two overlap in one bit, so that a carry that is still due shows: whoever sees the top bit of lo
 * differ from the lowest of hi makes the carry up, be it after a crash of the process that owed it. A step is far smaller than
 * 2^31, so that never two are due.
 *
 * Prometheus text format 0.0.4, and OpenMetrics 1.0.0: counters' families lose their _total, units are told, an EOF ends it. No
 * floating point: histograms add up millionths, and print them.
 */
#include "metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "log.h"

#define STEP_MAX (UINT32_C(1) << 24)
#define READ_TRIES 100		/* hi changes once in 2^31 counts, unless a writer has gone mad */
#define BOUNDS_MAX 16
#define MICRO 1000000
#define KIB 1024

struct counter {
	_Atomic uint32_t lo, hi;
};

/* ---- tables ---- */

/* Values that are fixed; NULL ends them. "other" is slot 0 wherever one can be unknown. */
static const char *const tls_versions[] = {
	[MT_OTHER] = "other", [MT_1_0] = "1.0", [MT_1_1] = "1.1", [MT_1_2] = "1.2", [MT_1_3] = "1.3", [MT__MAX] = NULL
};
static const char *const reasons[] = {
	[MR_OTHER] = "other", [MR_SPAM] = "spam", [MR_POLICY] = "policy", [MR_UNKNOWN_RECIPIENT] = "unknown_recipient",
	[MR_RELAY_DENIED] = "relay_denied", [MR_SIZE] = "size", [MR_SYNTAX] = "syntax", [MR_AUTH] = "auth", [MR_TLS] = "tls",
	[MR_LIMIT] = "limit", [MR_FROM] = "from", [MR_NEWLINE] = "newline", [MR_STORAGE] = "storage", [MR_DELIVERY] = "delivery",
	[MR_FILTER] = "filter", [MR__MAX] = NULL
};
static const char *const mechanisms[] = { "other", "PLAIN", "OAUTHBEARER", "XOAUTH2", NULL };
static const char *const auth_results[] = {
	[MA_SUCCESS] = "success", [MA_FAILURE] = "failure", [MA_ERROR] = "error", [MA__MAX] = NULL
};
static const char *const agents[] = { "other", "command", "maildir", "lmtp", "relay", NULL };
static const char *const delivery_results[] = {
	[MD_SUCCESS] = "success", [MD_TEMPFAIL] = "tempfail", [MD_REJECT] = "reject", [MD__MAX] = NULL
};
static const char *const check_results[] = {
	[MC_ACCEPT] = "accept", [MC_FLAG] = "flag", [MC_TEMPFAIL] = "tempfail", [MC_REJECT] = "reject", [MC_TIMEOUT] = "timeout",
	[MC_ERROR] = "error", [MC_SKIPPED] = "skipped", [MC__MAX] = NULL
};
static const char *const methods[] = { "other", "spf", "dkim", "dmarc", "arc", "rbl", NULL };
static const char *const method_results[] = {	/* RFC 8601 2.7; listed is an rbl's */
	"other", "none", "pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror", "listed", NULL
};
static const char *const limits[] = {
	[MH_OTHER] = "other", [MH_MAX_CONNECTIONS] = "max_connections", [MH_MAX_CONNECTIONS_PER_IP] = "max_connections_per_ip",
	[MH_CLIENT_RATE] = "client_rate", [MH_CONNECTION_RATE] = "connection_rate", [MH_SENDER_RATE] = "sender_rate",
	[MH_RECIPIENT_RATE] = "recipient_rate", [MH_DOMAIN_RATE] = "domain_rate", [MH_MAX_MESSAGE_SIZE] = "max_message_size",
	[MH_MAX_HEADER_SIZE] = "max_header_size", [MH_MAX_RECIPIENTS] = "max_recipients", [MH_MAX_ERRORS] = "max_errors",
	[MH_MAX_SPOOL_MEMORY] = "max_spool_memory", [MH_MAX_AUTH_FAILURES] = "max_auth_failures",
	[MH_AUTH_FAILURES_PER_IP] = "auth_failures_per_ip", [MH_MAX_DELIVERIES] = "max_deliveries", [MH_MAX_CHECKS] = "max_checks",
	[MH_MAX_AUTHS] = "max_auths", [MH__MAX] = NULL
};
static const char *const reload_results[] = { [MO_SUCCESS] = "success", [MO_FAILURE] = "failure", [MO__MAX] = NULL };
static const char *const processes[] = { [MP_FRONT] = "front", [MP_AGENT] = "agent", [MP_EXPORTER] = "exporter", [MP__MAX] = NULL };

#define VALUE_MAX 255		/* octets of a value: a domain's */
#define GIVEN(name, max, len) { name, NULL, max, len }
#define FIXED(name, list) { name, list, COUNT(list) - 1, 0 }

static const struct label {
	const char		*name;
	const char *const	*values;	/* NULL: given */
	unsigned		 max;		/* slots */
	size_t			 len;		/* octets of a given value at most */
} labels[ML__MAX] = {
	[ML_NONE] = { "", NULL, 1, 0 },
	[ML_LISTENER] = GIVEN("listener", METRICS_LISTENERS, 32), [ML_DOMAIN] = GIVEN("recipient_domain", METRICS_DOMAINS, VALUE_MAX),
	[ML_CHECKER] = GIVEN("checker", METRICS_CHECKERS, 32), [ML_CERT] = GIVEN("name", METRICS_CERTS, VALUE_MAX),
	[ML_COMMAND] = GIVEN("command", METRICS_COMMANDS, 15), [ML_VERSION] = GIVEN("version", 2, 31),
	[ML_TLS_VERSION] = FIXED("version", tls_versions), [ML_REASON] = FIXED("reason", reasons),
	[ML_MECHANISM] = FIXED("mechanism", mechanisms), [ML_AUTH_RESULT] = FIXED("result", auth_results),
	[ML_AGENT] = FIXED("agent", agents), [ML_DELIVERY_RESULT] = FIXED("result", delivery_results),
	[ML_CHECK_RESULT] = FIXED("result", check_results), [ML_METHOD] = FIXED("method", methods),
	[ML_METHOD_RESULT] = FIXED("result", method_results), [ML_LIMIT] = FIXED("limit", limits),
	[ML_RELOAD_RESULT] = FIXED("result", reload_results), [ML_PROCESS] = FIXED("process", processes),
};

#define GIVEN_MAX METRICS_DOMAINS	/* slots of the longest list that is given */
_Static_assert(METRICS_LISTENERS <= GIVEN_MAX && METRICS_CHECKERS <= GIVEN_MAX && METRICS_CERTS <= GIVEN_MAX &&
    METRICS_COMMANDS <= GIVEN_MAX, "given values have room");

/* What only the master writes. A list only grows, so that a slot means the same to processes of different generations. */
struct given {
	struct {
		_Atomic uint32_t n;	/* slots in use, "other" not counted */
		char		 values[GIVEN_MAX][VALUE_MAX + 1];
	} lists[ML_GIVEN__MAX];
	_Atomic uint32_t	 unready;
};

/* Upper bounds of buckets, at most BOUNDS_MAX; INT64_MAX ends fewer. One more bucket has no bound. */
static const int64_t seconds[BOUNDS_MAX] = {
	1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1 * MICRO, 2500000, 5 * MICRO, 10 * MICRO, 30 * MICRO,
	60 * MICRO, 300 * (int64_t)MICRO
};
static const int64_t octets[BOUNDS_MAX] = {
	1 * KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, KIB * KIB, 4 * KIB * KIB, 16 * KIB * KIB, 64 * KIB * KIB, 256 * KIB * KIB,
	INT64_MAX
};
static const int64_t points[BOUNDS_MAX] = {
	-10 * MICRO, -5 * MICRO, -2 * MICRO, 0, 2 * MICRO, 4 * MICRO, 5 * MICRO, 6 * MICRO, 8 * MICRO, 10 * MICRO, 12 * MICRO,
	15 * MICRO, 20 * MICRO, 30 * MICRO, 50 * MICRO, INT64_MAX
};

enum type { COUNTER, GAUGE, HISTOGRAM };

static const struct family {
	const char		*name;
	enum type		 type;
	uint32_t		 scale;		/* counters and histograms count units in so many parts, gauges so many units as one */
	const char		*unit;		/* "": none */
	const int64_t		*bounds;
	enum metrics_label	 label[3];
	const char		*help;		/* printed as it is */
} families[M__MAX] = {
	[M_CONNECTIONS] = { "smtpd_connections_total", COUNTER, 1, "", NULL, { ML_LISTENER }, "Clients accepted." },
	[M_CONNECTIONS_ACTIVE] = { "smtpd_connections_active", GAUGE, 1, "", NULL, { ML_LISTENER }, "Clients connected now." },
	[M_TLS_CONNECTIONS] = { "smtpd_tls_connections_total", COUNTER, 1, "", NULL, { ML_LISTENER, ML_TLS_VERSION },
	    "TLS handshakes completed, by protocol version." },
	[M_TLS_FAILURES] = { "smtpd_tls_handshake_failures_total", COUNTER, 1, "", NULL, { ML_LISTENER }, "TLS handshakes that failed." },
	[M_TLS_EXPIRY] = { "smtpd_tls_certificate_expiry_timestamp_seconds", GAUGE, 1, "seconds", NULL, { ML_CERT },
	    "When each certificate ends, in seconds since 1970." },
	[M_MESSAGES_RECEIVED] = { "smtpd_messages_received_total", COUNTER, 1, "", NULL, { ML_LISTENER, ML_DOMAIN },
	    "Messages accepted, by the domain of their first recipient." },
	[M_MESSAGES_REJECTED] = { "smtpd_messages_rejected_total", COUNTER, 1, "", NULL, { ML_LISTENER, ML_DOMAIN, ML_REASON },
	    "Senders, recipients and messages refused or thrown away, by reason." },
	[M_MESSAGES_SIZE] = { "smtpd_messages_size_bytes", HISTOGRAM, 1, "bytes", octets, { ML_NONE }, "Size of messages accepted." },
	[M_AUTH_ATTEMPTS] = { "smtpd_auth_attempts_total", COUNTER, 1, "", NULL, { ML_MECHANISM, ML_AUTH_RESULT }, "Logins tried." },
	[M_COMMANDS] = { "smtpd_commands_total", COUNTER, 1, "", NULL, { ML_COMMAND }, "SMTP commands." },
	[M_COMMAND_DURATION] = { "smtpd_command_duration_seconds", HISTOGRAM, MICRO, "seconds", seconds, { ML_COMMAND },
	    "Time that commands waited for a decision." },
	[M_DELIVERIES] = { "smtpd_deliveries_total", COUNTER, 1, "", NULL, { ML_AGENT, ML_DELIVERY_RESULT }, "Deliveries tried." },
	[M_DELIVERY_DURATION] = { "smtpd_delivery_duration_seconds", HISTOGRAM, MICRO, "seconds", seconds, { ML_DELIVERY_RESULT },
	    "Time that deliveries took." },
	[M_SPAM_CHECKS] = { "smtpd_spam_checks_total", COUNTER, 1, "", NULL, { ML_CHECKER, ML_CHECK_RESULT }, "Messages checked for spam." },
	[M_SPAM_SCORE] = { "smtpd_spam_score", HISTOGRAM, MICRO, "", points, { ML_NONE }, "Spam scores of messages checked." },
	[M_MESSAGE_AUTH] = { "smtpd_message_auth_total", COUNTER, 1, "", NULL, { ML_METHOD, ML_METHOD_RESULT },
	    "Outcome of SPF, DKIM, DMARC, ARC and block lists." },
	[M_LIMIT_HITS] = { "smtpd_limit_hits_total", COUNTER, 1, "", NULL, { ML_LIMIT }, "How often a limit refused something, or made it wait." },
	[M_CONFIG_RELOADS] = { "smtpd_config_reloads_total", COUNTER, 1, "", NULL, { ML_RELOAD_RESULT }, "Reloads of the configuration." },
	[M_PROCESSES_RESTARTED] = { "smtpd_processes_restarted_total", COUNTER, 1, "", NULL, { ML_PROCESS },
	    "Processes that ended by themselves and were started again." },
	[M_LOG_LINES_DROPPED] = { "smtpd_log_lines_dropped_total", COUNTER, 1, "", NULL, { ML_NONE },
	    "Log lines that their reader had no room for." },
	[M_BUILD_INFO] = { "smtpd_build_info", GAUGE, 1, "", NULL, { ML_VERSION }, "Always 1; the version is the label." },
	[M_PROCESS_START_TIME] = { "process_start_time_seconds", GAUGE, 1, "seconds", NULL, { ML_NONE },
	    "When the master started, in seconds since 1970." },
	[M_PROCESS_CPU] = { "process_cpu_seconds_total", COUNTER, MICRO, "seconds", NULL, { ML_NONE },
	    "CPU time of all processes and commands that have ended, and of the processes that run." },
	[M_PROCESS_RESIDENT] = { "process_resident_memory_bytes", GAUGE, KIB, "bytes", NULL, { ML_NONE },
	    "Resident memory of all processes, what they share counted once." },
	[M_PROCESS_OPEN_FDS] = { "process_open_fds", GAUGE, 1, "", NULL, { ML_NONE }, "Open descriptors of the master." },
	[M_PROCESS_MAX_FDS] = { "process_max_fds", GAUGE, 1, "", NULL, { ML_NONE }, "Descriptors that a process may have open." },
};

static const char *const type_names[] = { [COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram" };

static unsigned
bounds_n(const struct family *f)
{
	unsigned n = 0;

	while (n < BOUNDS_MAX && f->bounds[n] != INT64_MAX)
		n++;
	return n;
}

/* Counters of one series. */
static unsigned
width(const struct family *f)
{
	return f->type == HISTOGRAM ? bounds_n(f) + 2 : 1;	/* the bucket without a bound, the sum */
}

static unsigned
slots(const struct family *f, unsigned dimension)
{
	return labels[f->label[dimension]].max;
}

/* ---- memory ---- */

struct metrics {
	struct counter	*counters;	/* shared */
	size_t		 n;
	struct given	*given;		/* shared */
	size_t		 first[M__MAX];	/* of counters */
	uint64_t	 log_dropped;	/* counted so far, of this process */
};

static void *
shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

struct metrics *
metrics_new(void)
{
	struct metrics *m = calloc(1, sizeof(*m));
	int error;

	if (m == NULL)
		return NULL;
	for (unsigned i = 0; i < M__MAX; i++) {
		const struct family *f = &families[i];

		m->first[i] = m->n;
		m->n += (size_t)slots(f, 0) * slots(f, 1) * slots(f, 2) * width(f);
	}
	m->counters = shared(m->n * sizeof(*m->counters));
	m->given = shared(sizeof(*m->given));
	if (m->counters != NULL && m->given != NULL) {
		m->given->unready = UNREADY_STARTING;
		return m;
	}
	error = errno;
	metrics_free(m);
	errno = error;
	return NULL;
}

void
metrics_free(struct metrics *m)
{
	if (m == NULL)
		return;
	/* cannot fail: they are mappings of ours, whole */
	if (m->counters != NULL)
		(void)munmap(m->counters, m->n * sizeof(*m->counters));
	if (m->given != NULL)
		(void)munmap(m->given, sizeof(*m->given));
	free(m);
}

void
metrics_lock(struct metrics *m, bool reader)
{
	if (m == NULL)
		return;
	if (mprotect(m->given, sizeof(*m->given), PROT_READ) == -1 ||
	    (reader && mprotect(m->counters, m->n * sizeof(*m->counters), PROT_READ) == -1))
		fatal("metrics", "mprotect: %s", strerror(errno));
}

/* ---- labels ---- */

/* Slots of a label that have a value. */
static unsigned
used(const struct metrics *m, enum metrics_label l)
{
	unsigned n;

	if (l == ML_NONE || labels[l].values != NULL)
		return labels[l].max;
	n = atomic_load_explicit(&m->given->lists[l].n, memory_order_acquire) + 1;
	return n < labels[l].max ? n : labels[l].max;
}

static struct span
value(const struct metrics *m, enum metrics_label l, unsigned slot)
{
	if (labels[l].values != NULL)
		return text_span(labels[l].values[slot]);
	return slot == 0 ? SPAN("other") : text_span(m->given->lists[l].values[slot]);
}

unsigned
metrics_find(const struct metrics *m, enum metrics_label l, struct span v)
{
	unsigned n = m == NULL ? 0 : used(m, l);

	for (unsigned slot = 0; slot < n; slot++)
		if (text_eq(value(m, l, slot), v))
			return slot;
	return 0;
}

unsigned
metrics_label(struct metrics *m, enum metrics_label l, struct span v)
{
	unsigned slot = metrics_find(m, l, v), n;

	if (m == NULL || slot != 0 || v.len > labels[l].len || (n = used(m, l)) == labels[l].max ||
	    text_copy(m->given->lists[l].values[n], sizeof(m->given->lists[l].values[n]), v) == -1)
		return slot;
	atomic_store_explicit(&m->given->lists[l].n, n, memory_order_release);	/* the value is there before it can be seen */
	return n;
}

void
metrics_unready(struct metrics *m, unsigned why)
{
	if (m != NULL)
		atomic_store(&m->given->unready, why);
}

unsigned
metrics_reasons(const struct metrics *m)
{
	return atomic_load(&m->given->unready);
}

/* ---- counters ---- */

/* Make up the carry that is due, if one is. Read in this order, a carry that someone else makes meanwhile is not made twice. */
static void
settle(struct counter *c)
{
	uint32_t hi = atomic_load_explicit(&c->hi, memory_order_acquire);
	uint32_t lo = atomic_load_explicit(&c->lo, memory_order_relaxed);

	if ((lo >> 31) != (hi & 1))
		(void)atomic_compare_exchange_strong_explicit(&c->hi, &hi, hi + 1, memory_order_acq_rel, memory_order_relaxed);
}

static void
add(struct counter *c, uint64_t n)
{
	while (n > 0) {
		uint32_t step = n < STEP_MAX ? (uint32_t)n : STEP_MAX;

		(void)atomic_fetch_add_explicit(&c->lo, step, memory_order_relaxed);
		settle(c);
		n -= step;
	}
}

static uint64_t
get(const struct counter *c)
{
	uint32_t hi, lo = 0;

	for (unsigned i = 0; i < READ_TRIES; i++) {
		hi = atomic_load_explicit(&c->hi, memory_order_acquire);
		lo = atomic_load_explicit(&c->lo, memory_order_acquire);
		if (atomic_load_explicit(&c->hi, memory_order_relaxed) == hi)
			break;
	}
	if ((lo >> 31) != (hi & 1))
		hi++;	/* the carry that is due */
	return (uint64_t)hi << 31 | (lo & INT32_MAX);
}

/* The first counter of a series. A slot that is out of range is nobody's, or "other". */
static struct counter *
series(const struct metrics *m, enum metric metric, unsigned a, unsigned b, unsigned c)
{
	const struct family *f = &families[metric];
	unsigned n1 = slots(f, 1), n2 = slots(f, 2);

	if (a >= slots(f, 0))
		a = 0;
	if (b >= n1)
		b = 0;
	if (c >= n2)
		c = 0;
	return &m->counters[m->first[metric] + (((size_t)a * n1 + b) * n2 + c) * width(f)];
}

void
metrics_add(struct metrics *m, enum metric metric, unsigned a, unsigned b, unsigned c, uint64_t n)
{
	if (m != NULL)
		add(series(m, metric, a, b, c), n);
}

void
metrics_observe(struct metrics *m, enum metric metric, unsigned a, int64_t v)
{
	const struct family *f = &families[metric];
	struct counter *c;
	unsigned bucket = 0, n = bounds_n(f);

	if (m == NULL)
		return;
	c = series(m, metric, a, 0, 0);
	while (bucket < n && v > f->bounds[bucket])
		bucket++;
	add(&c[bucket], 1);
	if (v > 0)
		add(&c[n + 1], (uint64_t)v);
}

void
metrics_set(struct metrics *m, enum metric metric, unsigned a, uint64_t v)
{
	if (m == NULL)
		return;
	v = v / families[metric].scale;
	/* one word, so that it is never half old; times to the year 2106 */
	atomic_store(&series(m, metric, a, 0, 0)->lo, v < UINT32_MAX ? (uint32_t)v : UINT32_MAX);
}

void
metrics_log_lines(struct metrics *m)
{
	uint64_t n = log_dropped();

	if (m == NULL || n == m->log_dropped)
		return;
	metrics_add(m, M_LOG_LINES_DROPPED, 0, 0, 0, n - m->log_dropped);
	m->log_dropped = n;
}

uint64_t
metrics_get(const struct metrics *m, enum metric metric, unsigned a, unsigned b, unsigned c)
{
	const struct family *f = &families[metric];
	const struct counter *s = series(m, metric, a, b, c);
	uint64_t sum = 0;

	if (f->type == GAUGE)
		return (uint64_t)atomic_load(&s->lo) * f->scale;
	if (f->type == COUNTER)
		return get(s);
	for (unsigned i = 0; i <= bounds_n(f); i++)
		sum += get(&s[i]);
	return sum;
}

/* ---- text ---- */

/* Of a series or, without its _total, of an OpenMetrics counter's family. */
static struct span
family_name(const struct family *f, bool openmetrics)
{
	struct span name = text_span(f->name);

	if (openmetrics && f->type == COUNTER)
		name.len -= sizeof("_total") - 1;
	return name;
}

static void
print_header(const struct metrics_cursor *at, struct buf *out)
{
	const struct family *f = &families[at->metric];
	struct span name = family_name(f, at->openmetrics);

	buf_printf(out, "# HELP %.*s %s\n# TYPE %.*s %s\n", (int)name.len, name.p, f->help, (int)name.len, name.p, type_names[f->type]);
	if (at->openmetrics && f->unit[0] != '\0')
		buf_printf(out, "# UNIT %.*s %s\n", (int)name.len, name.p, f->unit);
}

/* v / scale without floating point: "12", "0.5", "-2.0". */
static void
print_scaled(struct buf *out, uint64_t v, uint32_t scale, bool negative)
{
	unsigned digits = 6, fraction = (unsigned)(v % scale);

	buf_printf(out, "%s%" PRIu64, negative ? "-" : "", v / scale);
	if (scale == 1)
		return;
	for (; digits > 1 && fraction % 10 == 0; digits--)
		fraction /= 10;
	buf_printf(out, ".%0*u", (int)digits, fraction);
}

/* A bucket's bound is a float in both formats, so that its series has the same name in both. */
static void
print_bound(struct buf *out, int64_t bound, uint32_t scale)
{
	print_scaled(out, bound < 0 ? -(uint64_t)bound : (uint64_t)bound, scale, bound < 0);
	if (scale == 1)
		buf_add_str(out, ".0");
}

static void
print_value(struct buf *out, struct span v)
{
	for (size_t i = 0; i < v.len; i++) {
		char c = v.p[i];

		if (c == '\\' || c == '"')
			buf_add_char(out, '\\');
		if (c == '\n')
			buf_add_str(out, "\\n");
		else
			buf_add_char(out, c);
	}
}

/* name{labels,le="bound"} and a space. bounded: has a bucket's bound, INT64_MAX: none. */
static void
print_name(const struct metrics *m, const struct metrics_cursor *at, const char *suffix, bool bounded, int64_t bound, struct buf *out)
{
	const struct family *f = &families[at->metric];
	char between = '{';

	buf_printf(out, "%s%s", f->name, suffix);
	for (unsigned i = 0; i < COUNT(f->label) && f->label[i] != ML_NONE; i++) {
		buf_printf(out, "%c%s=\"", between, labels[f->label[i]].name);
		print_value(out, value(m, f->label[i], at->label[i]));
		buf_add_char(out, '"');
		between = ',';
	}
	if (bounded) {
		buf_printf(out, "%cle=\"", between);
		if (bound == INT64_MAX)
			buf_add_str(out, "+Inf");
		else
			print_bound(out, bound, f->scale);
		buf_add_char(out, '"');
		between = ',';
	}
	buf_add_str(out, between == ',' ? "} " : " ");
}

/* Where scores below 0 are counted, their sum could go down: there is none then (OpenMetrics 1.0.0, Histogram). */
static void
print_histogram(const struct metrics *m, const struct metrics_cursor *at, const struct counter *c, struct buf *out)
{
	const struct family *f = &families[at->metric];
	unsigned n = bounds_n(f);
	uint64_t count = 0;

	for (unsigned i = 0; i <= n; i++) {
		count += get(&c[i]);
		print_name(m, at, "_bucket", true, i < n ? f->bounds[i] : INT64_MAX, out);
		buf_printf(out, "%" PRIu64 "\n", count);
	}
	if (f->bounds[0] < 0)
		return;
	print_name(m, at, "_sum", false, 0, out);
	print_scaled(out, get(&c[n + 1]), f->scale, false);
	buf_add_char(out, '\n');
	print_name(m, at, "_count", false, 0, out);
	buf_printf(out, "%" PRIu64 "\n", count);
}

/* Series without a label are always there, others once they have counted something. */
static void
print_series(const struct metrics *m, struct metrics_cursor *at, struct buf *out)
{
	const struct family *f = &families[at->metric];
	const struct counter *c = series(m, at->metric, at->label[0], at->label[1], at->label[2]);
	bool active = at->metric == M_CONNECTIONS_ACTIVE;
	uint64_t v = active ? at->active[at->label[0]] : metrics_get(m, at->metric, at->label[0], at->label[1], at->label[2]);

	if (v == 0 && f->label[0] != ML_NONE && !(active && at->label[0] != 0))
		return;
	if (!at->in_family)
		print_header(at, out);
	at->in_family = true;
	if (f->type == HISTOGRAM) {
		print_histogram(m, at, c, out);
		return;
	}
	print_name(m, at, "", false, 0, out);
	print_scaled(out, v, f->type == COUNTER ? f->scale : 1, false);
	buf_add_char(out, '\n');
}

/* To the next series: the last label counts fastest. */
static void
advance(const struct metrics *m, struct metrics_cursor *at)
{
	for (unsigned i = COUNT(at->label); i-- > 0;) {
		if (++at->label[i] < used(m, families[at->metric].label[i]))
			return;
		at->label[i] = 0;
	}
	at->metric++;
	at->in_family = false;
}

bool
metrics_print(const struct metrics *m, struct metrics_cursor *at, struct buf *out)
{
	while (at->metric < M__MAX) {
		if (buf_room(out) < METRICS_ROOM)
			return false;
		print_series(m, at, out);
		advance(m, at);
	}
	if (at->openmetrics) {
		if (buf_room(out) < METRICS_ROOM)
			return false;
		buf_add_str(out, "# EOF\n");
		at->openmetrics = false;	/* once */
	}
	return true;
}

const char *
metrics_name(enum metric metric)
{
	return families[metric].name;
}

const char *
metrics_value(enum metrics_label l, unsigned slot)
{
	return labels[l].values != NULL && slot < labels[l].max ? labels[l].values[slot] : NULL;
}
