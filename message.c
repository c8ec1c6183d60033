/*
 * message.c - a mail transaction and its message file: trace fields in front of the body.
 */
#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "buf.h"

#define LINE_OCTETS 78		/* that no line of ours has which can be folded (RFC 5322 2.1.1) */

void
verdict_set(struct verdict *v, int code, const char *esc, const char *fmt, ...)
{
	va_list ap;

	v->code = code;
	if (text_copy(v->esc, sizeof(v->esc), text_span(esc)) == -1)
		v->esc[0] = '\0';
	va_start(ap, fmt);
	if (vsnprintf(v->text, sizeof(v->text), fmt, ap) < 0)
		v->text[0] = '\0';
	va_end(ap);
}

bool
verdict_is_unknown(const struct verdict *v)
{
	static const char *const escs[] = { "5.1.1", "5.1.2", "5.1.3", "5.1.4", "5.1.6", "5.1.10" };

	for (size_t i = 0; i < COUNT(escs); i++)
		if (strcmp(v->esc, escs[i]) == 0)
			return true;
	return false;
}

int
message_open(const char *spool_dir)
{
	if (spool_dir[0] == '\0')
		return memfd_create("message", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return open(spool_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

/* RFC 5322 3.3, in UTC; the names are not the locale's. */
static void
add_date(struct buf *b, time_t now)
{
	static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct",
	    "Nov", "Dec" };
	struct tm tm = { 0 };

	if (gmtime_r(&now, &tm) == NULL)
		tm = (struct tm){ .tm_mday = 1, .tm_year = 70, .tm_wday = 4 };
	buf_printf(b, "%s, %d %s %d %02d:%02d:%02d +0000", days[tm.tm_wday % 7], tm.tm_mday, months[tm.tm_mon % 12],
	    tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* On the line that has begun, or on one of its own where that would have 78 octets (case 9.10). */
static void
add_part(struct buf *b, const char *part)
{
	struct span s = buf_span(b);
	size_t line = 0;

	while (line < s.len && s.p[s.len - 1 - line] != '\n')
		line++;
	buf_printf(b, "%s%s", line + 1 + strlen(part) < LINE_OCTETS ? " " : "\n\t", part);
}

/* The "with" clause (RFC 3848; 6531 4.3 for the UTF8 forms). */
static void
add_protocol(struct buf *b, const struct tx *tx)
{
	bool tls = tx->tls_version[0] != '\0', auth = tx->auth_user[0] != '\0';
	char part[32] = "with SMTP";

	if (tx->esmtp)	/* fits */
		(void)snprintf(part, sizeof(part), "with %s%s%s", tx->utf8 ? "UTF8SMTP" : "ESMTP", tls ? "S" : "", auth ? "A" : "");
	add_part(b, part);
}

static void
add_received(struct buf *b, const struct tx *tx, time_t now)
{
	char address[SMTP_ADDRESS_MAX + 1], part[300];

	if (tx->auth_user[0] != '\0') {	/* where one of our users is, is nobody's business; what it calls itself may tell too (case 9.10) */
		buf_add_str(b, "Received: from submission (hidden)");
	} else {
		const char *name = tx->client_name;

		buf_printf(b, "Received: from %s", tx->helo[0] == '\0' ? "unknown" : tx->helo);
		(void)snprintf(part, sizeof(part), "(%s", name);	/* all of it fits */
		if (name[0] != '\0')
			add_part(b, part);
		(void)snprintf(part, sizeof(part), "%s[%s%s])", name[0] == '\0' ? "(" : "", strchr(tx->client_address, ':') != NULL ? "IPv6:" : "",
		    tx->client_address);
		add_part(b, part);
	}
	buf_printf(b, "\n\tby %s", tx->config->hostname);
	add_protocol(b, tx);
	(void)snprintf(part, sizeof(part), "id %s", tx->id);
	add_part(b, part);
	if (tx->tls_version[0] != '\0')
		buf_printf(b, "\n\t(%s %s)", tx->tls_version, tx->tls_cipher);
	if (tx->rcpts_n == 1) {
		smtp_mailbox_print(&tx->rcpts[0], address);
		buf_printf(b, "\n\tfor <%s>", address);
	}
	buf_add_str(b, ";\n\t");
	add_date(b, now);
	buf_add_char(b, '\n');
}

void
message_delivered_to(const struct mailbox *rcpt, struct buf *out)
{
	char address[SMTP_ADDRESS_MAX + 1];

	smtp_mailbox_print(rcpt, address);
	buf_printf(out, "Delivered-To: %s\n", address);
}

void
message_trace_fields(const struct tx *tx, time_t now, struct buf *out)
{
	char sender[SMTP_ADDRESS_MAX + 1];

	smtp_mailbox_print(&tx->sender, sender);
	buf_printf(out, "Return-Path: <%s>\n", sender);
	if (tx->rcpts_n == 1)
		message_delivered_to(&tx->rcpts[0], out);
	add_received(out, tx, now);
}

/* b has room for MESSAGE_TRACE_MAX octets. */
static int
put_trace(struct tx *tx, time_t now, struct buf *b)
{
	uint64_t at = message_at(tx);
	ssize_t n;

	message_trace_fields(tx, now, b);
	if (b->failed || buf_len(b) > at) {
		errno = EMSGSIZE;
		return -1;
	}
	tx->header_at = at - buf_len(b);
	n = pwrite(tx->fd, b->data, buf_len(b), (off_t)tx->header_at);
	if (n == (ssize_t)buf_len(b))
		return 0;
	if (n != -1)
		errno = ENOSPC;
	return -1;
}

int
message_trace(struct tx *tx, time_t now)
{
	char memory[MESSAGE_TRACE_MAX];
	struct buf b;

	buf_fixed(&b, memory, sizeof(memory));
	return put_trace(tx, now, &b);
}

/* Nobody wrote to what we have put in front, what is behind it does not continue it, and the file is as long as it was. */
static bool
is_as_put(const struct tx *tx, const struct buf *trace)
{
	size_t len = buf_len(trace);
	char octets[MESSAGE_TRACE_MAX + 1];
	struct stat st;
	ssize_t n = pread(tx->fd, octets, len + 1, (off_t)tx->header_at);

	if (fstat(tx->fd, &st) == -1 || (uint64_t)st.st_size != tx->size)
		return false;
	if (n < (ssize_t)len || memcmp(octets, trace->data, len) != 0)
		return false;
	if (tx->header_at + len == MESSAGE_ROOM - 1)	/* what message_begin() has put there */
		return n > (ssize_t)len && octets[len] == '\n';
	return n == (ssize_t)len || !is_class(octets[len], C_WSP);
}

int
message_seal(struct tx *tx, time_t now)
{
	char memory[MESSAGE_TRACE_MAX];
	struct buf b;

	buf_fixed(&b, memory, sizeof(memory));
	if (put_trace(tx, now, &b) == -1)
		return -1;
	if (tx->config->spool_dir[0] != '\0')	/* only a memfd can be sealed; of others, a tmpfs says EPERM and the rest EINVAL */
		return 0;
	if (fcntl(tx->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == -1)
		return -1;
	if (is_as_put(tx, &b))
		return 0;
	errno = EBUSY;
	return -1;
}

int
message_private(struct tx *tx)
{
	char octets[65536];
	int fd = message_open(tx->config->spool_dir), error = EIO;	/* EIO: the file became shorter meanwhile */
	uint64_t at = message_at(tx);

	if (fd == -1)
		return -1;
	while (at < tx->size) {
		size_t n = tx->size - at < sizeof(octets) ? (size_t)(tx->size - at) : sizeof(octets);
		ssize_t got = pread(tx->fd, octets, n, (off_t)at), put = got > 0 ? pwrite(fd, octets, (size_t)got, (off_t)at) : got;

		if (got == -1 || put == -1 || put != got)
			error = got == -1 || put == -1 ? errno : ENOSPC;
		if (got <= 0 || put != got) {
			close(fd);
			errno = error;
			return -1;
		}
		at += (uint64_t)got;
	}
	close(tx->fd);
	tx->fd = fd;
	return 0;
}

int
message_begin(struct tx *tx)
{
	char first = 'x';

	tx->header_at = MESSAGE_ROOM;
	if (tx->size > MESSAGE_ROOM && pread(tx->fd, &first, 1, MESSAGE_ROOM) == -1)
		return -1;
	if (!is_class(first, C_WSP))
		return 0;
	tx->header_at--;
	return pwrite(tx->fd, "\n", 1, (off_t)tx->header_at) == 1 ? 0 : -1;
}

uint64_t
message_at(const struct tx *tx)
{
	return tx->header_at == 0 ? MESSAGE_ROOM : tx->header_at;
}
