/*
 * milter_say.c - what a milter hears of a message: its packets and macros, stage by stage.
 *
 * Forms and macros are those of Postfix, whose milters we want to work with.
 */
#include "milter_say.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

static void
add_macro(struct buf *b, const char *name, const char *value)
{
	milter_add_str(b, text_span(name));
	milter_add_str(b, text_span(value));
}

/* A name that its addresses do not confirm is none, in {client_ptr} neither. */
static void
macros_connect(const struct milter_words *w, struct buf *b)
{
	const struct tx *tx = w->tx;
	const char *name = tx->client_name[0] == '\0' ? "unknown" : tx->client_name;
	char address[80], port[8], both[SMTP_DOMAIN_MAX + 80];

	(void)snprintf(port, sizeof(port), "%u", (unsigned)tx->client_port);
	(void)snprintf(address, sizeof(address), "%s%.64s", strchr(tx->client_address, ':') != NULL ? "IPv6:" : "", tx->client_address);
	add_macro(b, "j", tx->config->hostname);
	add_macro(b, "{daemon_name}", tx->listener->name);
	add_macro(b, "{daemon_addr}", tx->own_address);
	add_macro(b, "v", "smtpd");
	add_macro(b, "{client_addr}", address);
	add_macro(b, "{client_name}", name);
	add_macro(b, "{client_port}", port);
	add_macro(b, "{client_ptr}", name);
	(void)snprintf(both, sizeof(both), "%s [%.64s]", name, tx->client_address);
	add_macro(b, "_", both);
}

static void
put_connect(const struct milter_words *w, struct buf *b)
{
	const char *address = w->tx->client_address;
	char port[2] = { (char)(w->tx->client_port >> 8), (char)(w->tx->client_port & 0xff) };

	if (address[0] == '\0') {
		milter_add_str(b, SPAN("unknown"));
		buf_add_char(b, 'U');
		return;
	}
	if (w->tx->client_name[0] != '\0') {
		milter_add_str(b, text_span(w->tx->client_name));
	} else {
		buf_add_char(b, '[');
		buf_add_str(b, address);
		milter_add_str(b, SPAN("]"));
	}
	buf_add_char(b, strchr(address, ':') != NULL ? '6' : '4');
	buf_add(b, port, sizeof(port));
	milter_add_str(b, text_span(address));
}

static const char *
cipher_bits(const char *cipher)
{
	static const struct { const char *part, *bits; } rows[] = {
		{ "AES256", "256" }, { "AES_256", "256" }, { "CHACHA20", "256" }, { "AES128", "128" }, { "AES_128", "128" }, { "3DES", "168" },
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		if (strstr(cipher, rows[i].part) != NULL)
			return rows[i].bits;
	return NULL;
}

static void
macros_helo(const struct milter_words *w, struct buf *b)
{
	const char *bits = cipher_bits(w->tx->tls_cipher);

	if (w->tx->tls_version[0] == '\0')
		return;
	add_macro(b, "{tls_version}", w->tx->tls_version);
	add_macro(b, "{cipher}", w->tx->tls_cipher);
	if (bits != NULL)
		add_macro(b, "{cipher_bits}", bits);
}

static void
put_helo(const struct milter_words *w, struct buf *b)
{
	milter_add_str(b, text_span(w->tx->helo));
}

/* The macros prefix_addr, prefix_host and prefix_mailer of an address. */
static void
add_address_macros(const struct milter_words *w, struct buf *b, const char *prefix, const struct mailbox *m)
{
	const struct config *c = w->tx->config;
	const char *host = m->domain[0] == '\0' ? c->hostname : m->domain;
	bool local = m->domain[0] == '\0';
	char address[SMTP_ADDRESS_MAX + 1], name[32];

	for (size_t i = 0; i < c->domains.n && !local; i++)
		local = strcmp(c->domains.v[i], host) == 0;
	smtp_mailbox_print(m, address);
	(void)snprintf(name, sizeof(name), "{%s_addr}", prefix);
	add_macro(b, name, address);
	(void)snprintf(name, sizeof(name), "{%s_host}", prefix);
	add_macro(b, name, host);
	(void)snprintf(name, sizeof(name), "{%s_mailer}", prefix);
	add_macro(b, name, local ? "local" : "smtp");
}

static void
macros_message(const struct milter_words *w, struct buf *b)
{
	add_macro(b, "i", w->tx->id);
}

/* That there is a type tells a signing milter that the client has authenticated, whether or not it is known which. */
static void
macros_mail(const struct milter_words *w, struct buf *b)
{
	macros_message(w, b);
	if (w->tx->auth_user[0] != '\0') {
		add_macro(b, "{auth_type}", w->tx->auth_type[0] != '\0' ? w->tx->auth_type : "SASL");
		add_macro(b, "{auth_authen}", w->tx->auth_user);
	}
	add_address_macros(w, b, "mail", &w->tx->sender);
}

static void
add_path(struct buf *b, const struct mailbox *m)
{
	char address[SMTP_ADDRESS_MAX + 1];

	smtp_mailbox_print(m, address);
	buf_add_char(b, '<');
	buf_add_str(b, address);
	milter_add_str(b, SPAN(">"));
}

static void
put_mail(const struct milter_words *w, struct buf *b)
{
	char size[32];

	add_path(b, &w->tx->sender);
	if (w->tx->declared_size > 0) {
		(void)snprintf(size, sizeof(size), "SIZE=%" PRIu64, w->tx->declared_size);
		milter_add_str(b, text_span(size));
	}
	if (w->tx->body == SMTP_BODY_8BITMIME)
		milter_add_str(b, SPAN("BODY=8BITMIME"));
	if (w->tx->utf8)
		milter_add_str(b, SPAN("SMTPUTF8"));
}

static void
macros_rcpt(const struct milter_words *w, struct buf *b)
{
	macros_message(w, b);
	add_address_macros(w, b, "rcpt", &w->rcpts[w->index]);
}

static void
put_rcpt(const struct milter_words *w, struct buf *b)
{
	add_path(b, &w->rcpts[w->index]);
}

/* Folds are LF and a blank. The first blank is not said unless it is asked for, as Sendmail has it. */
static void
put_header(const struct milter_words *w, struct buf *b)
{
	const struct content_field *f = &w->content->fields[w->index];
	bool eat = !w->leading_space && f->value.len > 0 && f->value.p[0] == ' ';

	milter_add_str(b, f->name);
	milter_add_text(b, text_sub(f->value, eat, f->value.len));
}

const struct milter_stage milter_stages[MILTER_AT__MAX] = {
	[MILTER_AT_OPTIONS] = { "options", 'O', 0, 0, 0, NULL, NULL },
	[MILTER_AT_CONNECT] = { "connect", 'C', MILTER_NOCONNECT, MILTER_NR_CONN, 2, macros_connect, put_connect },
	[MILTER_AT_HELO] = { "helo", 'H', MILTER_NOHELO, MILTER_NR_HELO, 2, macros_helo, put_helo },
	[MILTER_AT_MAIL] = { "mail", 'M', MILTER_NOMAIL, MILTER_NR_MAIL, 2, macros_mail, put_mail },
	[MILTER_AT_RCPT] = { "rcpt", 'R', MILTER_NORCPT, MILTER_NR_RCPT, 2, macros_rcpt, put_rcpt },
	[MILTER_AT_DATA] = { "data", 'T', MILTER_NODATA, MILTER_NR_DATA, 4, macros_message, NULL },
	[MILTER_AT_HEADER] = { "header", 'L', MILTER_NOHDRS, MILTER_NR_HDR, 0, NULL, put_header },
	[MILTER_AT_EOH] = { "eoh", 'N', MILTER_NOEOH, MILTER_NR_EOH, 6, macros_message, NULL },
	[MILTER_AT_BODY] = { "body", 'B', MILTER_NOBODY, MILTER_NR_BODY, 0, NULL, NULL },
	[MILTER_AT_EOM] = { "eom", 'E', 0, 0, 2, macros_message, NULL },
};

void
milter_put_macros(const struct milter_words *w, enum milter_at at_stage, struct buf *b)
{
	size_t at = milter_begin(b, 'D'), empty;

	buf_add_char(b, milter_stages[at_stage].command);
	empty = b->wpos;
	milter_stages[at_stage].macros(w, b);
	if (b->wpos == empty)		/* none: no packet */
		b->wpos = b->rpos + at;
	else
		milter_end(b, at);
}

void
milter_put_stage(const struct milter_words *w, enum milter_at at_stage, struct buf *b)
{
	size_t at = milter_begin(b, milter_stages[at_stage].command);

	if (milter_stages[at_stage].put != NULL)
		milter_stages[at_stage].put(w, b);
	milter_end(b, at);
}

static void
put_all(const struct milter_words *w, enum milter_at at_stage, struct buf *b)
{
	milter_put_macros(w, at_stage, b);
	milter_put_stage(w, at_stage, b);
}

void
milter_put_opening(const struct milter_words *w, struct buf *b)
{
	put_all(w, MILTER_AT_CONNECT, b);
	put_all(w, MILTER_AT_HELO, b);
}

void
milter_put_envelope(struct milter_words w, bool sender, struct buf *b)
{
	if (sender)
		put_all(&w, MILTER_AT_MAIL, b);
	for (w.index = 0; w.index < w.rcpts_n; w.index++)
		put_all(&w, MILTER_AT_RCPT, b);
}

int
milter_put_body(struct milter_words *w, struct buf *b)
{
	const struct content *c = w->content;
	uint64_t left = c->body_len - w->body_said;
	size_t at = milter_begin(b, 'B'), n = 0, i;
	char raw[MILTER_CHUNK_MAX], chunk[MILTER_CHUNK_MAX];
	ssize_t got = pread(c->body_fd, raw, left < sizeof(raw) ? (size_t)left : sizeof(raw), (off_t)(c->body_at + w->body_said));

	if (got <= 0)
		return -1;
	for (i = 0; i < (size_t)got && n < sizeof(chunk); i++) {
		if (raw[i] == '\n' && !w->body_cr) {
			chunk[n++] = '\r';
			w->body_cr = true;
			if (n == sizeof(chunk))
				break;
		}
		chunk[n++] = raw[i];
		w->body_cr = false;
	}
	w->body_said += i;
	buf_add(b, chunk, n);
	milter_end(b, at);
	return 0;
}
