/*
 * log.c - structured log lines on standard error, logfmt or JSON.
 *
 * A front writes here from inside its system-call filter, and a reader that stands still must not stop a client: after
 * log_init() only write, send, poll and clock_gettime are called, and none waits. gmtime_r() may read files, so it is not.
 */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "buf.h"

#define CUT_LOGFMT " cut=1\n"
#define CUT_JSON ",\"cut\":1}\n"
#define TAIL_MAX 16		/* room kept for the larger of them */
#define MARK "\xe2\x80\xa6"	/* U+2026, what a cut value ends with */

enum output {
	OUT_UNSET,
	OUT_OWN,	/* an open description of our own, non-blocking */
	OUT_SOCKET,	/* standard error is a socket, which cannot be opened a second time */
	OUT_POLL,	/* standard error may not be opened again, say another user's pipe: ask, then write */
	OUT_NONE,	/* there is no standard error, and whatever gets its number is not for us */
};

/* The one state of this file: what standard error is does not change while the program runs. */
static struct {
	enum log_level	 level;
	enum log_format	 format;
	const char	*process;	/* a constant */
	enum output	 output;
	int		 fd;		/* owned when OUT_OWN; until exit, across forks and reloads */
	uint64_t	 dropped;
	uint64_t	 unreported;	/* of them, not yet told of by a log_dropped line */
	bool		 torn;		/* the last line was taken in part: the next begins with a line end */
} state = { .level = LOG_INFO, .process = "", .fd = -1 };

static const char *const level_names[LOG_LEVEL__MAX] = { "debug", "info", "warn", "error" };

/* ---- values ---- */

static bool
is_bare(struct span s)
{
	if (s.len == 0 || s.len > LOG_VALUE_MAX)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!is_alnum(s.p[i]) && (s.p[i] == '\0' || strchr("._:@/<>+-,%[]", s.p[i]) == NULL))
			return false;
	return true;
}

static bool
is_plain(char c)
{
	return (is_vchar(c) || c == ' ') && c != '"' && c != '\\';
}

/* What a terminal obeys or a reader cannot see: C1 controls, zero width, bidirectional (case 5.16), the other line ends. */
static bool
is_hidden(uint32_t c)
{
	return (c >= 0x80 && c <= 0x9f) || c == 0xad || c == 0x61c || (c >= 0x200b && c <= 0x200f) ||
	    (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff;
}

static uint32_t
utf8_point(const char *p, size_t n)
{
	uint32_t c = (unsigned char)p[0];

	if (n > 1)
		c &= 0x7fu >> n;
	for (size_t i = 1; i < n; i++)
		c = c << 6 | ((unsigned char)p[i] & 0x3f);
	return c;
}

static size_t
put_hex(char *out, uint32_t n, size_t digits)
{
	for (size_t i = 0; i < digits; i++)
		out[i] = "0123456789abcdef"[n >> (4 * (digits - 1 - i)) & 15];
	return digits;
}

static size_t
put_str(char *out, const char *s)
{
	size_t n = strlen(s);

	memcpy(out, s, n);
	return n;
}

/* The character at the start of s, which is not empty, as it is written: *taken octets become the returned ones in out[16]. */
static size_t
escape(struct span s, enum log_format format, char *out, size_t *taken)
{
	size_t octets = text_utf8_len(s), n;
	unsigned char c = (unsigned char)s.p[0];
	uint32_t point;

	*taken = octets == 0 ? 1 : octets;
	if (octets == 0 && format == LOG_JSON)
		return put_str(out, "\\ufffd");
	if (octets > 1) {
		point = utf8_point(s.p, octets);
		if (!is_hidden(point)) {
			memcpy(out, s.p, octets);
			return octets;
		}
		if (format == LOG_LOGFMT) {
			n = put_str(out, "\\u{");
			n += put_hex(out + n, point, point > 0xfff ? 4 : point > 0xff ? 3 : 2);
			return n + put_str(out + n, "}");
		}
		n = put_str(out, "\\u");
		return n + put_hex(out + n, point, 4);	/* is_hidden() has none over U+FFFF */
	}
	switch (c) {
	case '"':
		return put_str(out, "\\\"");
	case '\\':
		return put_str(out, "\\\\");
	case '\n':
		return put_str(out, "\\n");
	case '\r':
		return put_str(out, "\\r");
	case '\t':
		return put_str(out, "\\t");
	default:
		break;
	}
	if (is_plain((char)c)) {
		out[0] = (char)c;
		return 1;
	}
	n = put_str(out, format == LOG_JSON ? "\\u00" : "\\x");
	return n + put_hex(out + n, c, 2);
}

/* At most LOG_VALUE_MAX octets as written, so that no value can push the fields after it out of the line. */
static void
put_value(struct buf *out, enum log_format format, struct span s)
{
	size_t left = LOG_VALUE_MAX;

	if (format == LOG_LOGFMT && is_bare(s)) {
		buf_add_span(out, s);
		return;
	}
	buf_add_char(out, '"');
	while (s.len > 0) {
		char escaped[16];
		size_t run = 0, n, taken;

		while (run < s.len && run < left && is_plain(s.p[run]))
			run++;
		buf_add_span(out, text_sub(s, 0, run));
		left -= run;
		s = text_sub(s, run, s.len);
		if (s.len == 0)
			break;
		n = escape(s, format, escaped, &taken);
		if (n > left) {
			buf_add_str(out, MARK);
			break;
		}
		buf_add(out, escaped, n);
		left -= n;
		s = text_sub(s, taken, s.len);
	}
	buf_add_char(out, '"');
}

/* At least so many digits, at most 20. */
static void
put_number(struct buf *out, uint64_t n, size_t digits)
{
	char text[20];
	size_t at = sizeof(text);

	while (at > 0 && (n > 0 || sizeof(text) - at < digits)) {
		text[--at] = (char)('0' + n % 10);
		n /= 10;
	}
	buf_add(out, text + at, sizeof(text) - at);
}

static uint64_t
magnitude(int64_t n)
{
	return n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
}

static void
put_signed(struct buf *out, int64_t n)
{
	if (n < 0)
		buf_add_char(out, '-');
	put_number(out, magnitude(n), 1);
}

/* Microseconds as milliseconds with three digits. */
static void
put_ms(struct buf *out, int64_t us)
{
	if (us < 0)
		buf_add_char(out, '-');
	put_number(out, magnitude(us) / 1000, 1);
	buf_add_char(out, '.');
	put_number(out, magnitude(us) % 1000, 3);
}

/* RFC 3339, UTC. Days to a date: the year begins in March, so that the day that is not always there is its last. */
static void
put_time(struct buf *out, int64_t now_us)
{
	uint64_t us = now_us < 0 ? 0 : (uint64_t)now_us, seconds = us / 1000000, of_day = seconds % 86400;
	uint64_t days = seconds / 86400 + 719468;	/* since 0000-03-01 */
	uint64_t era = days / 146097, of_era = days % 146097;
	uint64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	uint64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	uint64_t march = (5 * of_year + 2) / 153;	/* months since March */
	uint64_t month = march < 10 ? march + 3 : march - 9;

	put_number(out, era * 400 + year_of_era + (month <= 2), 4);
	buf_add_char(out, '-');
	put_number(out, month, 2);
	buf_add_char(out, '-');
	put_number(out, of_year - (153 * march + 2) / 5 + 1, 2);
	buf_add_char(out, 'T');
	put_number(out, of_day / 3600, 2);
	buf_add_char(out, ':');
	put_number(out, of_day / 60 % 60, 2);
	buf_add_char(out, ':');
	put_number(out, of_day % 60, 2);
	buf_add_char(out, '.');
	put_number(out, us % 1000000, 6);
	buf_add_char(out, 'Z');
}

/* ---- lines ---- */

static void
put_name(struct buf *out, enum log_format format, const char *name)
{
	bool first = buf_len(out) == (format == LOG_JSON ? 1 : 0);

	if (!first)
		buf_add_char(out, format == LOG_JSON ? ',' : ' ');
	if (format == LOG_JSON)
		buf_add_char(out, '"');
	buf_add_str(out, name);
	buf_add_str(out, format == LOG_JSON ? "\":" : "=");
}

static void
put_field(struct buf *out, enum log_format format, const struct log_field *f)
{
	put_name(out, format, f->name);
	switch (f->type) {
	case LOG_F_SPAN:
		put_value(out, format, f->span);
		break;
	case LOG_F_INT:
		put_signed(out, f->n);
		break;
	case LOG_F_MS:
		put_ms(out, f->n);
		break;
	}
}

static void
put_head(struct buf *out, enum log_format format, int64_t now_us, enum log_level level, const char *process, uint64_t session,
    const char *event)
{
	char hex[16];
	size_t digits = 1;

	put_name(out, format, "time");
	if (format == LOG_JSON)
		buf_add_char(out, '"');
	put_time(out, now_us);
	if (format == LOG_JSON)
		buf_add_char(out, '"');
	put_name(out, format, "level");
	put_value(out, format, text_span(level_names[level]));
	put_name(out, format, "process");
	put_value(out, format, text_span(process));
	if (session != 0) {
		while (digits < 16 && session >> (4 * digits) != 0)
			digits++;
		for (size_t i = 0; i < digits; i++)
			hex[i] = "0123456789abcdef"[session >> (4 * (digits - 1 - i)) & 15];
		put_name(out, format, "session");
		put_value(out, format, (struct span){ hex, digits });
	}
	put_name(out, format, "event");
	put_value(out, format, text_span(event));
}

void
log_format_line(struct buf *out, enum log_format format, int64_t now_us, enum log_level level, const char *process,
    uint64_t session, const char *event, const struct log_field *fields)
{
	const char *tail = format == LOG_JSON ? "}\n" : "\n";

	if (format == LOG_JSON)
		buf_add_char(out, '{');
	put_head(out, format, now_us, level, process, session, event);
	for (const struct log_field *f = fields; f->name != NULL; f++) {
		size_t before = out->wpos;

		put_field(out, format, f);
		if (out->failed || buf_room(out) < TAIL_MAX) {
			/* a field goes whole or not at all; what a failed append has left behind goes with it */
			out->wpos = before;
			out->failed = false;
			tail = format == LOG_JSON ? CUT_JSON : CUT_LOGFMT;
			break;
		}
	}
	buf_add_str(out, tail);
}

/* ---- output ---- */

static int
open_own(void)
{
	int fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY), high;

	if (fd == -1 || fd > 2)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, 3);	/* the first three have a meaning for others */
	close(fd);
	return high;
}

/*
 * O_NONBLOCK belongs to the open description, which standard error shares with a terminal's other programs: it is never set
 * there, but on a description of our own.
 */
static void
pick_output(void)
{
	struct stat st;

	state.fd = STDERR_FILENO;
	if (fstat(STDERR_FILENO, &st) == -1) {
		state.output = OUT_NONE;
	} else if (S_ISSOCK(st.st_mode)) {
		state.output = OUT_SOCKET;
	} else {
		int fd = open_own();

		state.output = fd == -1 ? OUT_POLL : OUT_OWN;
		if (fd != -1)
			state.fd = fd;
	}
}

/* Never waits. A pipe that poll calls writable has room for PIPE_BUF octets, unless another process is faster. */
static ssize_t
write_now(const char *p, size_t n)
{
	struct pollfd ready = { .fd = state.fd, .events = POLLOUT };

	switch (state.output) {
	case OUT_OWN:
		return write(state.fd, p, n);
	case OUT_SOCKET:
		return send(state.fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	case OUT_POLL:
		return poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0 ? write(state.fd, p, n) : -1;
	case OUT_UNSET:
	case OUT_NONE:
		break;
	}
	errno = EBADF;
	return -1;
}

/* line[-1] is the caller's too: a line end goes there after a line that was torn. */
static bool
write_line(char *line, size_t len)
{
	size_t more = state.torn ? 1 : 0;
	ssize_t n;

	line[-1] = '\n';
	do {
		errno = EAGAIN;	/* for a poll that says no */
		n = write_now(line - more, len + more);
	} while (n == -1 && errno == EINTR);
	if (n <= 0)
		return false;
	state.torn = (size_t)n < len + more;
	return !state.torn;
}

static bool
emit(enum log_level level, uint64_t session, const char *event, const struct log_field *fields)
{
	char memory[1 + LOG_LINE_MAX];
	struct timespec ts;
	struct buf line;

	clock_gettime(CLOCK_REALTIME, &ts);
	buf_fixed(&line, memory + 1, LOG_LINE_MAX);
	log_format_line(&line, state.format, (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000, level, state.process, session,
	    event, fields);
	return write_line(memory + 1, buf_len(&line));
}

void
log_init(enum log_level level, enum log_format format, const char *process)
{
	state.level = level;
	state.format = format;
	state.process = process;
	if (state.output == OUT_UNSET)
		pick_output();
}

bool
log_wants(enum log_level level)
{
	return level >= state.level;
}

void
log_event(enum log_level level, uint64_t session, const char *event, const struct log_field *fields)
{
	int saved = errno;
	bool good = true;

	if (state.output == OUT_UNSET)
		pick_output();
	if (state.unreported > 0) {
		good = emit(LOG_WARN, 0, "log_dropped", (const struct log_field[]){ LF_INT("count", state.unreported), { 0 } });
		if (good)
			state.unreported = 0;
	}
	if (!good || !emit(level, session, event, fields)) {
		state.dropped++;
		state.unreported++;
	}
	errno = saved;
}

uint64_t
log_dropped(void)
{
	return state.dropped;
}

void
fatal(const char *event, const char *fmt, ...)
{
	char text[LOG_VALUE_MAX + 2];	/* one more than a value may have, so that a longer text gets its mark */
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_event(LOG_ERROR, 0, event, (const struct log_field[]){ LF_STR("text", text), { 0 } });
	exit(1);
}
