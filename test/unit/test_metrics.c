/*
 * test_metrics.c - counters that are exact whatever happens to their writers, label slots, the text in both formats (cases 15.2, 15.3).
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "metrics.h"
#include "paper.h"

#define TEXT_MAX (1024 * 1024)
#define HALF (UINT64_C(1) << 31)	/* where lo hands over to hi */
#define VALUES 5

static struct metrics *metrics;

static int
setup(void **state)
{
	metrics = metrics_new();
	return metrics == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	metrics_free(metrics);
	return 0;
}

/* The whole text, taken in pieces of this size. */
static const char *
print(bool openmetrics, size_t piece)
{
	static char text[TEXT_MAX], part[TEXT_MAX];
	struct metrics_cursor at = { .openmetrics = openmetrics };
	struct buf all, out;
	bool done;

	at.active[1] = 2;
	buf_fixed(&all, text, sizeof(text));
	buf_fixed(&out, part, piece);
	do {
		buf_reset(&out);
		done = metrics_print(metrics, &at, &out);
		assert_false(out.failed);
		assert_true(done || buf_len(&out) > 0);
		buf_add_span(&all, buf_span(&out));
	} while (!done);
	buf_reset(&out);
	assert_true(metrics_print(metrics, &at, &out) && buf_len(&out) == 0);
	assert_non_null(buf_str(&all));
	return text;
}

static unsigned
occurrences(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)) != NULL; text += strlen(what))
		n++;
	return n;
}

/* ---- counters ---- */

static void
carry(void **state)
{
	static const uint64_t steps[] = { 0, 1, HALF - 2, 1, 1, HALF - 1, 1, 2 * HALF, 3 * HALF + 17, 10 * HALF, 1 };
	uint64_t sum = 0;

	for (size_t i = 0; i < COUNT(steps); i++) {
		print_message("add %llu\n", (unsigned long long)steps[i]);
		metrics_add(metrics, M_COMMANDS, 3, 0, 0, steps[i]);
		sum += steps[i];
		assert_int_equal(metrics_get(metrics, M_COMMANDS, 3, 0, 0), sum);
	}
	assert_int_equal(metrics_get(metrics, M_COMMANDS, 2, 0, 0), 0);
	assert_int_equal(metrics_get(metrics, M_COMMANDS, 4, 0, 0), 0);
}

static void
nobody_counts(void **state)
{
	metrics_add(NULL, M_COMMANDS, 0, 0, 0, 1);
	metrics_observe(NULL, M_SPAM_SCORE, 0, 1);
	metrics_set(NULL, M_PROCESS_MAX_FDS, 0, 1);
	metrics_unready(NULL, 0);
	metrics_log_lines(NULL);
	metrics_lock(NULL, true);
	metrics_free(NULL);
	assert_int_equal(metrics_label(NULL, ML_DOMAIN, SPAN("example.com")), 0);
	assert_int_equal(metrics_find(NULL, ML_DOMAIN, SPAN("example.com")), 0);
}

/* A slot that a process should not have used counts for "other", and nothing lies outside. */
static void
out_of_range(void **state)
{
	metrics_add(metrics, M_MESSAGES_REJECTED, METRICS_LISTENERS, METRICS_DOMAINS, MR__MAX, 1);
	metrics_add(metrics, M_MESSAGES_REJECTED, UINT32_MAX, UINT32_MAX, UINT32_MAX, 1);
	assert_int_equal(metrics_get(metrics, M_MESSAGES_REJECTED, 0, 0, 0), 2);
	metrics_add(metrics, M_MESSAGES_REJECTED, METRICS_LISTENERS - 1, METRICS_DOMAINS - 1, MR__MAX - 1, 1);
	assert_int_equal(metrics_get(metrics, M_MESSAGES_REJECTED, METRICS_LISTENERS - 1, METRICS_DOMAINS - 1, MR__MAX - 1), 1);
	assert_int_equal(metrics_get(metrics, M_MESSAGES_SIZE, 0, 0, 0), 0);	/* which lies behind it */
}

/* Each series has its own counter: 1, 2, 3, ... in all of them, and none has changed another. */
static void
apart(void **state)
{
	uint64_t n = 0;

	for (unsigned a = 0; a < METRICS_LISTENERS; a++)
		for (unsigned b = 0; b < METRICS_DOMAINS; b++)
			for (unsigned c = 0; c < MR__MAX; c++)
				metrics_add(metrics, M_MESSAGES_REJECTED, a, b, c, ++n);
	for (unsigned a = MR__MAX; n > 0; n--) {
		a = (unsigned)(n - 1);
		assert_int_equal(metrics_get(metrics, M_MESSAGES_REJECTED, a / MR__MAX / METRICS_DOMAINS, a / MR__MAX % METRICS_DOMAINS,
		    a % MR__MAX), n);
	}
	for (unsigned i = 0; i < M__MAX; i++)
		if (i != M_MESSAGES_REJECTED)
			assert_int_equal(metrics_get(metrics, i, 0, 0, 0), 0);
}

static void
histogram(void **state)
{
	/* on a bound, one past it, beyond all; the sum is exact */
	static const int64_t values[] = { 0, 1000, 1001, 60000000, 300000001, 4294967296 };

	for (size_t i = 0; i < COUNT(values); i++)
		metrics_observe(metrics, M_DELIVERY_DURATION, MD_REJECT, values[i]);
	assert_int_equal(metrics_get(metrics, M_DELIVERY_DURATION, MD_REJECT, 0, 0), COUNT(values));
	assert_int_equal(metrics_get(metrics, M_DELIVERY_DURATION, MD_TEMPFAIL, 0, 0), 0);
	metrics_observe(metrics, M_MESSAGES_SIZE, 0, HALF);
	assert_non_null(strstr(print(false, TEXT_MAX), "smtpd_delivery_duration_seconds_bucket{result=\"reject\",le=\"0.001\"} 2\n"
	    "smtpd_delivery_duration_seconds_bucket{result=\"reject\",le=\"0.0025\"} 3\n"));
	assert_non_null(strstr(print(false, TEXT_MAX), "smtpd_delivery_duration_seconds_bucket{result=\"reject\",le=\"60.0\"} 4\n"
	    "smtpd_delivery_duration_seconds_bucket{result=\"reject\",le=\"300.0\"} 4\n"
	    "smtpd_delivery_duration_seconds_bucket{result=\"reject\",le=\"+Inf\"} 6\n"
	    "smtpd_delivery_duration_seconds_sum{result=\"reject\"} 4654.969298\n"
	    "smtpd_delivery_duration_seconds_count{result=\"reject\"} 6\n"));
	assert_non_null(strstr(print(false, TEXT_MAX), "smtpd_messages_size_bytes_bucket{le=\"268435456.0\"} 0\n"
	    "smtpd_messages_size_bytes_bucket{le=\"+Inf\"} 1\nsmtpd_messages_size_bytes_sum 2147483648\nsmtpd_messages_size_bytes_count 1\n"));
}

static void
gauges(void **state)
{
	static const struct {
		enum metric	metric;
		uint64_t	set, get;
	} rows[] = {
		{ M_PROCESS_START_TIME, 1700000000, 1700000000 }, { M_PROCESS_START_TIME, 4000000000, 4000000000 },
		{ M_TLS_EXPIRY, UINT32_MAX, UINT32_MAX }, { M_TLS_EXPIRY, 253402300799, UINT32_MAX }, { M_TLS_EXPIRY, 0, 0 },
		{ M_PROCESS_RESIDENT, 3 * 1024 + 1, 3 * 1024 }, { M_PROCESS_RESIDENT, UINT64_C(1) << 40, UINT64_C(1) << 40 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		print_message("row %zu\n", i);
		metrics_set(metrics, rows[i].metric, 1, rows[i].set);
		assert_int_equal(metrics_get(metrics, rows[i].metric, 1, 0, 0), rows[i].get);
	}
}

/* ---- writers that die ---- */

#define WRITERS 4
#define KILLS 30

struct tally {
	_Atomic uint64_t started, done;
};

/* No count is lost or made up, whenever a writer is killed: at most the one that it was at. */
static void
killed_writers(void **state)
{
	struct tally *tally = mmap(NULL, sizeof(*tally) * KILLS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t least = 0, most = 0, n = (UINT64_C(1) << 24) - 3;	/* so that hi moves often */
	pid_t pids[WRITERS];

	assert_true(tally != MAP_FAILED);
	for (int i = 0; i < KILLS + WRITERS; i++) {
		pid_t *pid = &pids[i % WRITERS];

		if (i >= WRITERS) {
			while (atomic_load(&tally[i - WRITERS].done) < 1000)
				assert_int_equal(usleep(100), 0);
			assert_int_equal(kill(*pid, SIGKILL), 0);
			assert_int_equal(waitpid(*pid, NULL, 0), *pid);
		}
		if (i >= KILLS || (*pid = fork()) != 0)
			continue;
		for (;;) {
			atomic_fetch_add(&tally[i].started, 1);
			metrics_add(metrics, M_CONNECTIONS, 1, 0, 0, n);
			atomic_fetch_add(&tally[i].done, 1);
		}
	}
	for (int i = 0; i < KILLS; i++) {
		least += tally[i].done;
		most += tally[i].started;
	}
	n = metrics_get(metrics, M_CONNECTIONS, 1, 0, 0) / n;
	print_message("%llu <= %llu <= %llu\n", (unsigned long long)least, (unsigned long long)n, (unsigned long long)most);
	assert_in_range(n, least, most);
	assert_true(most - least <= KILLS && least >= KILLS * 1000);
	assert_int_equal(munmap(tally, sizeof(*tally) * KILLS), 0);
}

/* A child that is about to count 5, a carry among them, stopped; -1: no ptrace(2) here. */
static pid_t
stopped_writer(void)
{
	uint64_t now = metrics_get(metrics, M_CONNECTIONS, 1, 0, 0);
	int status;
	pid_t pid;

	metrics_add(metrics, M_CONNECTIONS, 1, 0, 0, HALF - 1 - now % HALF);
	pid = fork();
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1 || raise(SIGSTOP) != 0)
			_exit(2);
		metrics_add(metrics, M_CONNECTIONS, 1, 0, 0, 5);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSTOPPED(status) ? pid : -1;
}

/* Whether it was not its last. */
static bool
step(pid_t pid)
{
	int status;

	assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSTOPPED(status);
}

#define STEPS_BEHIND 120	/* instructions of a count after the one that adds, the sanitizers' included */

/*
 * Killed after each single machine instruction of a count that makes a carry: the count is there or it is not, and what others
 * count afterwards is right.
 */
static void
killed_anywhere(void **state)
{
	const char *preload = getenv("LD_PRELOAD");
	unsigned first = 0, counted = 0;
	pid_t pid;

	if (preload != NULL && strstr(preload, "vgpreload") != NULL) {
		print_message("[  SKIPPED ] killed_anywhere: valgrind's own instructions would be stepped through\n");
		return;
	}
	if ((pid = stopped_writer()) == -1) {
		print_message("[  SKIPPED ] killed_anywhere: no ptrace here\n");
		return;
	}
	for (uint64_t before = metrics_get(metrics, M_CONNECTIONS, 1, 0, 0); step(pid); first++)
		if (metrics_get(metrics, M_CONNECTIONS, 1, 0, 0) != before)
			break;
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	for (unsigned steps = first - 5; steps < first + STEPS_BEHIND; steps++) {
		uint64_t before, after;

		pid = stopped_writer();
		before = metrics_get(metrics, M_CONNECTIONS, 1, 0, 0);
		for (unsigned i = 0; i < steps; i++)
			assert_true(step(pid));
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		after = metrics_get(metrics, M_CONNECTIONS, 1, 0, 0);
		assert_true(after == before + 5 || (after == before && counted == 0));
		counted += after != before;
		metrics_add(metrics, M_CONNECTIONS, 1, 0, 0, 1);
		assert_int_equal(metrics_get(metrics, M_CONNECTIONS, 1, 0, 0), after + 1);
	}
	assert_in_range(counted, STEPS_BEHIND - 5, STEPS_BEHIND);
}

/* A reader beside writers never sees a counter go down. */
static void
never_down(void **state)
{
	uint64_t last = 0, now;
	pid_t pids[2];

	for (int i = 0; i < 2; i++)
		if ((pids[i] = fork()) == 0) {
			for (int k = 0; k < 100000; k++)
				metrics_add(metrics, M_CONNECTIONS, 1, 0, 0, (1 << 24) - 1);
			_exit(0);
		}
	for (int i = 0; i < 300000; i++) {
		now = metrics_get(metrics, M_CONNECTIONS, 1, 0, 0);
		assert_true(now >= last);
		last = now;
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
	assert_int_equal(metrics_get(metrics, M_CONNECTIONS, 1, 0, 0), UINT64_C(200000) * ((1 << 24) - 1));
}

/* A child may count, but not rename; a reader may do neither. */
static void
locked(void **state)
{
	for (int reader = 0; reader < 2; reader++)
		for (int what = 0; what < 2; what++) {
			bool dies = reader == 1 || what == 1;
			int status;
			pid_t pid = fork();

			if (pid == 0) {
				assert_true(signal(SIGSEGV, SIG_DFL) != SIG_ERR);	/* the sanitizer's */
				metrics_lock(metrics, reader == 1);
				if (what == 0)
					metrics_add(metrics, M_CONNECTIONS, 0, 0, 0, 1);
				else
					metrics_unready(metrics, 0);
				_exit(0);
			}
			assert_int_equal(waitpid(pid, &status, 0), pid);
			assert_int_equal(dies, WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
		}
	assert_int_equal(metrics_get(metrics, M_CONNECTIONS, 0, 0, 0), 1);
	assert_int_equal(metrics_reasons(metrics), UNREADY_STARTING);
}

/* ---- labels ---- */

/* Over reloads: a value keeps its slot, whatever comes and goes; when there is no more room it is "other". */
static void
label_slots(void **state)
{
	unsigned mx = metrics_label(metrics, ML_LISTENER, SPAN("mx")), alt = metrics_label(metrics, ML_LISTENER, SPAN("alt"));
	char name[300];

	assert_int_equal(mx, 1);
	assert_int_equal(alt, 2);
	metrics_add(metrics, M_CONNECTIONS, mx, 0, 0, 7);
	for (unsigned i = 0; i < 100; i++) {	/* reloads with other listeners */
		(void)snprintf(name, sizeof(name), "l%u", i);
		assert_int_equal(metrics_label(metrics, ML_LISTENER, text_span(name)), i + 3 < METRICS_LISTENERS ? i + 3 : 0);
	}
	assert_int_equal(metrics_label(metrics, ML_LISTENER, SPAN("mx")), mx);
	assert_int_equal(metrics_find(metrics, ML_LISTENER, SPAN("alt")), alt);
	assert_int_equal(metrics_find(metrics, ML_LISTENER, SPAN("nobody")), 0);
	assert_int_equal(metrics_find(metrics, ML_LISTENER, SPAN("other")), 0);
	assert_non_null(strstr(print(false, TEXT_MAX), "smtpd_connections_total{listener=\"mx\"} 7\n"));
	/* as long as a domain may be, and one more */
	memset(name, 'x', sizeof(name));
	assert_int_equal(metrics_label(metrics, ML_DOMAIN, (struct span){ name, 255 }), 1);
	assert_int_equal(metrics_label(metrics, ML_DOMAIN, (struct span){ name, 256 }), 0);
	assert_int_equal(metrics_label(metrics, ML_DOMAIN, (struct span){ name, 255 }), 1);
}

/* 10^5 invented values make no series (case 15.2). */
static void
invented(void **state)
{
	char name[32];

	metrics_label(metrics, ML_DOMAIN, SPAN("example.com"));
	for (unsigned i = 0; i < 100000; i++) {
		(void)snprintf(name, sizeof(name), "d%u.example", i);
		metrics_add(metrics, M_MESSAGES_RECEIVED, 0, metrics_find(metrics, ML_DOMAIN, text_span(name)), 0, 1);
	}
	metrics_add(metrics, M_MESSAGES_RECEIVED, 0, metrics_find(metrics, ML_DOMAIN, SPAN("example.com")), 0, 1);
	assert_int_equal(occurrences(print(false, TEXT_MAX), "\nsmtpd_messages_received_total{"), 2);
	assert_non_null(strstr(print(false, TEXT_MAX),
	    "smtpd_messages_received_total{listener=\"other\",recipient_domain=\"other\"} 100000\n"
	    "smtpd_messages_received_total{listener=\"other\",recipient_domain=\"example.com\"} 1\n"));
}

static void
fixed_values(void **state)
{
	for (enum metrics_label l = ML_GIVEN__MAX; l < ML__MAX; l++)
		for (unsigned slot = 0; metrics_value(l, slot) != NULL; slot++) {
			print_message("%s\n", metrics_value(l, slot));
			assert_int_equal(metrics_find(metrics, l, text_span(metrics_value(l, slot))), slot);
		}
	assert_int_equal(metrics_find(metrics, ML_REASON, SPAN("newline")), MR_NEWLINE);
	assert_int_equal(metrics_find(metrics, ML_AGENT, SPAN("nobody")), 0);
	for (enum metric a = 0; a < M__MAX; a++)
		for (enum metric b = 0; b < a; b++)
			assert_string_not_equal(metrics_name(a), metrics_name(b));
}

/* smtpd.conf(5) has each metric, and below "Labels" each list, whole and in its order; no others. */
static void
the_manual(void **state)
{
	const char *part = manual_part(".Sh METRICS");
	char want[512];
	size_t lists = 0;

	for (enum metric m = 0; m < M__MAX; m++) {
		(void)snprintf(want, sizeof(want), " %s ", metrics_name(m));
		print_message("%s\n", want);
		assert_non_null(strstr(part, want));
	}
	assert_int_equal(occurrences(part, " smtpd_") + occurrences(part, " process_"), M__MAX);
	part = manual_part(".Ss Labels");
	for (enum metrics_label l = ML_GIVEN__MAX; l < ML__MAX; l++, lists++) {
		struct buf b;

		buf_fixed(&b, want, sizeof(want));
		for (unsigned slot = 0; metrics_value(l, slot) != NULL; slot++)
			buf_printf(&b, "%s %s", slot == 0 ? "" : ",", metrics_value(l, slot));
		buf_add_str(&b, ". ");
		assert_non_null(buf_str(&b));
		print_message("%s\n", want);
		assert_int_equal(occurrences(part, want), 1);
	}
	assert_int_equal(occurrences(part, " .It "), lists);
}

/* ---- text ---- */

static const char idle[] =
    "# HELP smtpd_messages_size_bytes Size of messages accepted.\n"
    "# TYPE smtpd_messages_size_bytes histogram\n"
    "smtpd_messages_size_bytes_bucket{le=\"1024.0\"} 0\n";

static void
golden(void **state)
{
	static const char counter[] =
	    "# HELP smtpd_tls_connections_total TLS handshakes completed, by protocol version.\n"
	    "# TYPE smtpd_tls_connections_total counter\n"
	    "smtpd_tls_connections_total{listener=\"mx\",version=\"1.2\"} 5\n"
	    "smtpd_tls_connections_total{listener=\"a\\\"b\\\\c\\nd\",version=\"1.3\"} 1\n"
	    "# HELP smtpd_tls_certificate_expiry_timestamp_seconds When each certificate ends, in seconds since 1970.\n"
	    "# TYPE smtpd_tls_certificate_expiry_timestamp_seconds gauge\n"
	    "smtpd_tls_certificate_expiry_timestamp_seconds{name=\"mx.example\"} 1900000000\n"
	    "# HELP smtpd_messages_size_bytes";
	static const char open[] =
	    "# HELP smtpd_tls_connections TLS handshakes completed, by protocol version.\n"
	    "# TYPE smtpd_tls_connections counter\n"
	    "smtpd_tls_connections_total{listener=\"mx\",version=\"1.2\"} 5\n"
	    "smtpd_tls_connections_total{listener=\"a\\\"b\\\\c\\nd\",version=\"1.3\"} 1\n"
	    "# HELP smtpd_tls_certificate_expiry_timestamp_seconds When each certificate ends, in seconds since 1970.\n"
	    "# TYPE smtpd_tls_certificate_expiry_timestamp_seconds gauge\n"
	    "# UNIT smtpd_tls_certificate_expiry_timestamp_seconds seconds\n"
	    "smtpd_tls_certificate_expiry_timestamp_seconds{name=\"mx.example\"} 1900000000\n";
	static const char active[] =
	    "# HELP smtpd_connections_active Clients connected now.\n"
	    "# TYPE smtpd_connections_active gauge\n"
	    "smtpd_connections_active{listener=\"mx\"} 2\n"
	    "smtpd_connections_active{listener=\"a\\\"b\\\\c\\nd\"} 0\n";
	static const char score[] =
	    "# TYPE smtpd_spam_score histogram\n"
	    "smtpd_spam_score_bucket{le=\"-10.0\"} 0\n"
	    "smtpd_spam_score_bucket{le=\"-5.0\"} 1\n"
	    "smtpd_spam_score_bucket{le=\"-2.0\"} 1\n"
	    "smtpd_spam_score_bucket{le=\"0.0\"} 1\n"
	    "smtpd_spam_score_bucket{le=\"2.0\"} 2\n";
	static const char cpu[] =
	    "# HELP process_cpu_seconds CPU time of all processes and commands that have ended, and of the processes that run.\n"
	    "# TYPE process_cpu_seconds counter\n"
	    "# UNIT process_cpu_seconds seconds\n"
	    "process_cpu_seconds_total 12.000034\n";
	const char *text = print(false, TEXT_MAX);

	assert_true(strncmp(text, idle, sizeof(idle) - 1) == 0);
	assert_null(strstr(text, "{listener"));		/* nothing with a label was counted yet */
	assert_null(strstr(text, "# UNIT"));
	assert_null(strstr(text, "# EOF"));
	assert_int_equal(metrics_label(metrics, ML_LISTENER, SPAN("mx")), 1);
	assert_int_equal(metrics_label(metrics, ML_LISTENER, SPAN("a\"b\\c\nd")), 2);
	assert_int_equal(metrics_label(metrics, ML_CERT, SPAN("mx.example")), 1);
	metrics_add(metrics, M_TLS_CONNECTIONS, 1, MT_1_2, 0, 5);
	metrics_add(metrics, M_TLS_CONNECTIONS, 2, MT_1_3, 0, 1);
	metrics_set(metrics, M_TLS_EXPIRY, 1, 1900000000);
	metrics_add(metrics, M_PROCESS_CPU, 0, 0, 0, 12000034);
	metrics_observe(metrics, M_SPAM_SCORE, 0, -5000000);
	metrics_observe(metrics, M_SPAM_SCORE, 0, 1);
	text = print(false, TEXT_MAX);
	assert_non_null(strstr(text, counter));
	assert_non_null(strstr(text, active));
	assert_non_null(strstr(text, score));
	assert_null(strstr(text, "smtpd_spam_score_sum"));
	assert_null(strstr(text, "# UNIT"));
	assert_null(strstr(text, "# EOF"));
	text = print(true, TEXT_MAX);
	assert_non_null(strstr(text, open));
	assert_non_null(strstr(text, cpu));
	assert_string_equal(text + strlen(text) - 6, "# EOF\n");
	assert_int_equal(occurrences(text, "# EOF"), 1);
	metrics_set(metrics, M_TLS_EXPIRY, 1, 0);
	assert_null(strstr(print(false, TEXT_MAX), "mx.example"));
}

/* Cut anywhere between two series the text is the same; each family has one header; no series is longer than the room asked for. */
static void
pieces(void **state)
{
	static const size_t sizes[] = { METRICS_ROOM, METRICS_ROOM + 1, METRICS_ROOM + 700, 2 * METRICS_ROOM, 16384 };
	char *whole, name[256];

	memset(name, '"', sizeof(name));	/* the longest, each octet escaped */
	for (unsigned i = 0; i < VALUES; i++) {
		name[0] = (char)('a' + i);
		for (enum metrics_label l = ML_LISTENER; l < ML_GIVEN__MAX; l++)
			for (size_t len = 255; len > 0 && metrics_label(metrics, l, (struct span){ name, len }) == 0; len--)
				;	/* as long as this label takes, if it takes any more */
	}
	for (enum metric i = 0; i < M__MAX; i++)
		for (unsigned a = 0; a <= VALUES; a++) {
			if (strstr(metrics_name(i), "duration") != NULL || strstr(metrics_name(i), "score") != NULL)
				metrics_observe(metrics, i, a, 1);
			else
				metrics_add(metrics, i, a, a, a, 1);
		}
	whole = strdup(print(true, TEXT_MAX));
	assert_non_null(whole);
	for (size_t i = 0; i < COUNT(sizes); i++) {
		print_message("%zu\n", sizes[i]);
		assert_string_equal(print(true, sizes[i]), whole);
	}
	for (enum metric i = 0; i < M__MAX; i++) {
		char header[256];
		size_t len = strlen(metrics_name(i));

		if (len > 6 && strcmp(metrics_name(i) + len - 6, "_total") == 0)
			len -= 6;
		(void)snprintf(header, sizeof(header), "# TYPE %.*s ", (int)len, metrics_name(i));
		assert_int_equal(occurrences(whole, header), 1);
	}
	free(whole);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(carry, setup, teardown),
		cmocka_unit_test(nobody_counts),
		cmocka_unit_test_setup_teardown(out_of_range, setup, teardown),
		cmocka_unit_test_setup_teardown(apart, setup, teardown),
		cmocka_unit_test_setup_teardown(histogram, setup, teardown),
		cmocka_unit_test_setup_teardown(gauges, setup, teardown),
		cmocka_unit_test_setup_teardown(killed_writers, setup, teardown),
		cmocka_unit_test_setup_teardown(killed_anywhere, setup, teardown),
		cmocka_unit_test_setup_teardown(never_down, setup, teardown),
		cmocka_unit_test_setup_teardown(locked, setup, teardown),
		cmocka_unit_test_setup_teardown(label_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(invented, setup, teardown),
		cmocka_unit_test_setup_teardown(fixed_values, setup, teardown),
		cmocka_unit_test(the_manual),
		cmocka_unit_test_setup_teardown(golden, setup, teardown),
		cmocka_unit_test_setup_teardown(pieces, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
