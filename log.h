/*
 * log.h - structured log lines on standard error: one event a line, logfmt or JSON.
 *
 * The event's name and the fields' names are constants of ours; values may hold anything, log.c alone escapes them, cuts
 * them at LOG_VALUE_MAX octets with a mark, and writes the line with one write(2) that never blocks: a line that the
 * reader has no room for is dropped and counted.
 */
#ifndef LOG_H
#define LOG_H

#include <stdnoreturn.h>

#include "text.h"

#define LOG_VALUE_MAX 512
#define LOG_LINE_MAX 4096	/* PIPE_BUF: lines of several processes on one pipe never mix */

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_LEVEL__MAX };
enum log_format { LOG_LOGFMT, LOG_JSON, LOG_FORMAT__MAX };

struct log_field {
	const char	*name;		/* NULL ends the list */
	enum { LOG_F_SPAN, LOG_F_INT, LOG_F_MS } type;	/* LOG_F_MS: microseconds, printed as milliseconds with three digits */
	struct span	 span;
	int64_t		 n;
};

#define LF_SPAN(f, s) ((struct log_field){ .name = (f), .type = LOG_F_SPAN, .span = (s) })
#define LF_STR(f, s) LF_SPAN(f, text_span(s))
#define LF_INT(f, v) ((struct log_field){ .name = (f), .type = LOG_F_INT, .n = (int64_t)(v) })
#define LF_US(f, v) ((struct log_field){ .name = (f), .type = LOG_F_MS, .n = (int64_t)(v) })
/* strerror of e, to be read before anything else changes errno */
#define LF_ERRNO(e) LF_STR("error", strerror(e))

/* session: 0 where there is none. Each takes any number of LF_* fields, none with an empty name. */
#define log_debug(session, ...) log_fields(LOG_DEBUG, session, __VA_ARGS__)
#define log_info(session, ...) log_fields(LOG_INFO, session, __VA_ARGS__)
#define log_warn(session, ...) log_fields(LOG_WARN, session, __VA_ARGS__)
#define log_error(session, ...) log_fields(LOG_ERROR, session, __VA_ARGS__)
#define log_fields(level, session, ...) log_fields_(level, session, __VA_ARGS__, (struct log_field){ 0 })
#define log_fields_(level, session, event, ...) do {						\
	if (log_wants(level))									\
		log_event(level, session, event, (const struct log_field[]){ __VA_ARGS__ });	\
} while (0)

/* process: a constant, the name of this process in its lines. Called again after each fork and each reload. */
void	log_init(enum log_level level, enum log_format format, const char *process);
bool	log_wants(enum log_level level);
void	log_event(enum log_level level, uint64_t session, const char *event, const struct log_field *fields);
/*
 * Format one line, its LF included, into out (a fixed buffer of LOG_LINE_MAX): what log_event() writes. now is real time in
 * microseconds. A line too long for out is cut at a field's end and says cut=1. For tests.
 */
struct buf;
void	log_format_line(struct buf *out, enum log_format format, int64_t now_us, enum log_level level, const char *process,
	    uint64_t session, const char *event, const struct log_field *fields);
/* Lines dropped by this process so far. */
uint64_t log_dropped(void);

/* Before the first client is accepted only: log an error and exit 1. */
noreturn void	fatal(const char *event, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
