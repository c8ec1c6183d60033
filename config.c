/*
 * config.c - the configuration: one table of keys, and the file, the environment and the flags read into it.
 *
 * inih parses; what it lets pass is seen to before (clean_text): it cuts over-long lines and section names and hands them on,
 * ends at a NUL, skips what follows a "]" and reports only the first line that it cannot read. It gets our sections only, and
 * of those only lines that are whole. Every error of a configuration is reported, not the first alone.
 */
#include "config.h"

#define INI_HANDLER_LINENO 1	/* as the library is built; the handler's type depends on it */
#include <ini.h>

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_LINE_MAX 8000	/* octets of a line; inih has room for 8190 */
#define VALUE_MAX 7000		/* octets of a value as config_print() writes it: a line of TEXT_LINE_MAX with its key and origin */
#define MEANT_MAX 64		/* octets of a name that may be a slip: what text_distance() compares */
#define WORDS_MAX 256		/* of a command */
#define PROCESSES_SPARE 8	/* master, agent, Maildir writers, and a reload's */

const char *const expansion_names[X__MAX] = {
	[X_SENDER] = "sender", [X_RECIPIENT] = "recipient", [X_RECIPIENTS] = "recipients", [X_USER] = "user",
	[X_DOMAIN] = "domain", [X_AUTH_USER] = "auth_user", [X_CLIENT_ADDRESS] = "client_address", [X_ID] = "id",
};

/* One row of the table. */
struct key {
	const char		*section, *name;
	const struct type	*type;
	size_t			 offset;	/* of the field in struct config, or in struct listener where section is LISTENER */
	const char		*dflt;
	uint64_t		 lo, hi;	/* of numbers, octets, milliseconds */
	const char *const	*choices;	/* of an enumeration; NULL ends them */
	const char		*sample;	/* the sample file's value; NULL: the default, commented out; "#...": this, commented out */
	const char		*help;
};

struct type {
	/* false with *why: what is wrong with s and what to write; then the field is as it was. */
	bool	(*parse)(const struct key *k, struct span s, void *field, struct buf *why);
	void	(*print)(const struct key *k, const void *field, struct buf *out);
	void	(*clear)(void *field);	/* NULL: nothing to free */
};

enum from { FROM_DEFAULT, FROM_FILE, FROM_ENV, FROM_FLAG };

struct origin {
	enum from	from;
	unsigned	line;
	bool		bad;	/* reported already, so what depends on it is not checked */
};

#define ARG(s) (int)((s).len < 100 ? (s).len : 100), (s).p	/* "%.*s": the offending text */

/* Words */

void
words_free(struct words *w)
{
	free(w->v);
	*w = (struct words){ NULL, 0 };
}

/* One block: the vector, then text, n strings each with its NUL. */
static int
words_set(struct words *w, struct span text, size_t n)
{
	char **v = malloc((n + 1) * sizeof(*v) + text.len);
	char *p;

	if (v == NULL)
		return -1;
	p = (char *)(v + n + 1);
	if (text.p != NULL)
		memcpy(p, text.p, text.len);
	for (size_t i = 0; i < n; i++) {
		v[i] = p;
		p += strlen(p) + 1;
	}
	v[n] = NULL;
	*w = (struct words){ v, n };
	return 0;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

/* The octets of one word of *s to out; false with *why. POSIX Shell Command Language 2.2. */
static bool
word_unquote(struct span *s, struct buf *out, const char **why)
{
	char quote = '\0';

	for (; s->len > 0 && (quote != '\0' || !is_blank(*s->p)); s->p++, s->len--) {
		char c = *s->p;

		if (quote == '\0' && (c == '\'' || c == '"')) {
			quote = c;
		} else if (c == quote && quote != '\0') {
			quote = '\0';
		} else if (c == '\\' && quote != '\'') {
			if (s->len == 1) {
				*why = "ends in a backslash; write \\\\ for a backslash, or drop it";
				return false;
			}
			if (quote == '"' && memchr("$`\"\\\n", s->p[1], 5) == NULL) {
				buf_add_char(out, c);
				continue;
			}
			s->p++;
			s->len--;
			if (*s->p != '\n')
				buf_add_char(out, *s->p);
		} else {
			buf_add_char(out, c);
		}
	}
	if (quote != '\0')
		*why = quote == '"' ? "has a \" that is not closed (a ; after a blank begins a comment, also in quotes: write \\;)" :
		    "has a ' that is not closed (a ; after a blank begins a comment, also in quotes: write \\;)";
	return quote == '\0';
}

int
words_split(struct words *w, struct span s, const char **why)
{
	struct buf text;
	size_t n = 0;
	int ret = -1;

	*w = (struct words){ NULL, 0 };
	if (s.len > 0 && memchr(s.p, '\0', s.len) != NULL) {
		*why = "holds a NUL octet";
		return -1;
	}
	buf_init(&text, s.len + 1);	/* no word is longer than its source, and a blank's place is the NUL's */
	for (;;) {
		while (s.len > 0 && is_blank(*s.p)) {
			s.p++;
			s.len--;
		}
		if (s.len == 0)
			break;
		if (n++ == WORDS_MAX) {
			*why = "has more than 256 words";
			goto end;
		}
		if (!word_unquote(&s, &text, why))
			goto end;
		buf_add_char(&text, '\0');
	}
	*why = "needs more memory than there is";
	if (!text.failed)
		ret = words_set(w, buf_span(&text), n);
end:
	buf_clear(&text);
	return ret;
}

/* A word as words_split() reads it back, and inih before it: no ";" follows a blank, and none ends in one. */
static void
word_print(const char *word, struct buf *out)
{
	if (*word == '\0' || (strpbrk(word, " \t\n\"\\") != NULL && strpbrk(word, "';") == NULL)) {
		buf_printf(out, "'%s'", word);
		return;
	}
	for (; *word != '\0'; word++) {
		if (is_blank(*word)) {
			buf_printf(out, "'%c'", *word);
			continue;
		}
		if (strchr("'\"\\;", *word) != NULL)
			buf_add_char(out, '\\');
		buf_add_char(out, *word);
	}
}

/* Types of values */

static bool
set_string(void *field, struct span s, struct buf *why)
{
	char **f = field, *copy = s.len == 0 ? strdup("") : strndup(s.p, s.len);

	if (copy == NULL) {
		buf_add_str(why, "out of memory");
		return false;
	}
	free(*f);
	*f = copy;
	return true;
}

static void
print_string(const struct key *k, const void *field, struct buf *out)
{
	char *const *f = field;

	(void)k;
	if (*f != NULL)
		buf_add_str(out, *f);
}

static void
clear_string(void *field)
{
	char **f = field;

	free(*f);
	*f = NULL;
}

static bool
parse_hostname(const struct key *k, struct span s, void *field, struct buf *why)
{
	char domain[SMTP_DOMAIN_MAX + 1] = "";

	(void)k;
	if (s.len > 0 && !smtp_domain(s, true, domain)) {
		buf_printf(why, "'%.*s' is no domain name; write one such as mail.example.com", ARG(s));
		return false;
	}
	return set_string(field, text_span(domain), why);
}

static bool
parse_user(const struct key *k, struct span s, void *field, struct buf *why)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!is_alnum(s.p[i]) && memchr("-_.$", s.p[i], 4) == NULL) {
			buf_printf(why, "'%.*s' is no user name; write letters, digits, - _ . only", ARG(s));
			return false;
		}
	}
	(void)k;
	return set_string(field, s, why);
}

static bool
parse_path(const struct key *k, struct span s, void *field, struct buf *why)
{
	(void)k;
	if (s.len > 0 && *s.p != '/') {
		buf_printf(why, "'%.*s' is no absolute path; begin it with /", ARG(s));
		return false;
	}
	for (size_t i = 1; i < s.len; i++) {
		if (s.p[i] == ';' && is_blank(s.p[i - 1])) {	/* could not be written in a file */
			buf_printf(why, "'%.*s' has a ; after a blank; use another path", ARG(s));
			return false;
		}
	}
	return set_string(field, s, why);
}

/* What a listener's address means; family 0 is both. */
struct endpoint {
	int		family;
	uint8_t		ip[16];
	unsigned	port;
};

static bool
endpoint_parse(struct span s, struct endpoint *e)
{
	char ip[INET6_ADDRSTRLEN];
	size_t colon = s.len;
	uint64_t port;

	*e = (struct endpoint){ 0 };
	while (colon > 0 && s.p[colon - 1] != ':')
		colon--;
	if (colon == 0 || text_u64(text_sub(s, colon, s.len), 65535, &port) == -1)
		return false;
	e->port = (unsigned)port;
	s.len = colon - 1;
	if (s.len == 0)
		return true;
	e->family = AF_INET;
	if (s.len > 2 && s.p[0] == '[' && s.p[s.len - 1] == ']') {
		e->family = AF_INET6;
		s = text_sub(s, 1, s.len - 1);
	}
	return text_copy(ip, sizeof(ip), s) == 0 && inet_pton(e->family, ip, e->ip) == 1;
}

static bool
parse_address(const struct key *k, struct span s, void *field, struct buf *why)
{
	struct endpoint e;
	uint64_t port;
	char ip[INET6_ADDRSTRLEN], packed[16];

	(void)k;
	if (endpoint_parse(s, &e))
		return set_string(field, s, why);
	buf_printf(why, "'%.*s' is no numeric address with a port; write ", ARG(s));
	if (text_u64(s, 65535, &port) == 0)
		buf_printf(why, ":%u", (unsigned)port);
	else if (text_copy(ip, sizeof(ip), s) == 0 && inet_pton(AF_INET, ip, packed) == 1)
		buf_printf(why, "%s:25", ip);
	else if (text_copy(ip, sizeof(ip), s) == 0 && inet_pton(AF_INET6, ip, packed) == 1)
		buf_printf(why, "[%s]:25", ip);
	else
		buf_add_str(why, ":25, 192.0.2.1:25 or [2001:db8::1]:25");
	return false;
}

static bool
parse_command(const struct key *k, struct span s, void *field, struct buf *why)
{
	struct words *f = field, w;
	const char *reason;

	(void)k;
	if (words_split(&w, s, &reason) == -1) {
		buf_printf(why, "'%.*s' %s", ARG(s), reason);
		return false;
	}
	words_free(f);
	*f = w;
	return true;
}

static void
print_command(const struct key *k, const void *field, struct buf *out)
{
	const struct words *f = field;

	(void)k;
	for (size_t i = 0; i < f->n; i++) {
		if (i > 0)
			buf_add_char(out, ' ');
		word_print(f->v[i], out);
	}
}

static void
clear_words(void *field)
{
	words_free(field);
}

static bool
parse_domains(const struct key *k, struct span s, void *field, struct buf *why)
{
	struct words *f = field, w;
	struct buf text;
	struct span item;
	char domain[SMTP_DOMAIN_MAX + 1];
	size_t n = 0;
	bool ok = true;

	(void)k;
	buf_init(&text, VALUE_MAX);
	s = text_trim(s);
	while (ok && text_token(&s, ",", &item)) {
		item = text_trim(item);
		if (!smtp_domain(item, true, domain)) {
			buf_printf(why, "'%.*s' is no domain; write domains with commas between: example.com, example.org", ARG(item));
			ok = false;
		}
		/* A name that is there twice, perhaps in another case, is kept once. */
		bool twice = false;
		for (size_t at = text.rpos; ok && !twice && at < text.wpos; at += strlen(text.data + at) + 1)
			twice = strcmp(text.data + at, domain) == 0;
		if (ok && !twice) {
			buf_add(&text, domain, strlen(domain) + 1);
			n++;
		}
	}
	if (ok && (text.failed || words_set(&w, buf_span(&text), n) == -1)) {
		buf_printf(why, "the list is longer than %d octets", VALUE_MAX);
		ok = false;
	}
	buf_clear(&text);
	if (!ok)
		return false;
	words_free(f);
	*f = w;
	return true;
}

static void
print_domains(const struct key *k, const void *field, struct buf *out)
{
	const struct words *f = field;

	(void)k;
	for (size_t i = 0; i < f->n; i++)
		buf_printf(out, "%s%s", i == 0 ? "" : ", ", f->v[i]);
}

/* A choice's number; enumerations are stored as unsigned, which K_ENUM checks. */
static bool
parse_enum(const struct key *k, struct span s, void *field, struct buf *why)
{
	char text[MEANT_MAX + 1];
	const char *nearest = NULL;

	if (text_copy(text, sizeof(text), s) == -1)
		text[0] = '\0';
	for (unsigned i = 0; k->choices[i] != NULL; i++) {
		if (text_is(s, k->choices[i])) {
			memcpy(field, &i, sizeof(i));
			return true;
		}
		if (nearest == NULL || text_distance(text, k->choices[i]) < text_distance(text, nearest))
			nearest = k->choices[i];
	}
	buf_printf(why, "'%.*s' is not one of", ARG(s));
	for (unsigned i = 0; k->choices[i] != NULL; i++)
		buf_printf(why, "%s %s", i == 0 ? "" : ",", k->choices[i]);
	if (text_distance(text, nearest) <= 2)
		buf_printf(why, "; did you mean %s?", nearest);
	else
		buf_add_str(why, "; write one of these");
	return false;
}

static void
print_enum(const struct key *k, const void *field, struct buf *out)
{
	unsigned i;

	memcpy(&i, field, sizeof(i));
	buf_add_str(out, k->choices[i]);
}

static bool
parse_bool(const struct key *k, struct span s, void *field, struct buf *why)
{
	bool *f = field;

	(void)k;
	if (!text_is(s, "yes") && !text_is(s, "no")) {
		buf_printf(why, "'%.*s' is neither yes nor no; write one of these", ARG(s));
		return false;
	}
	*f = text_is(s, "yes");
	return true;
}

static void
print_bool(const struct key *k, const void *field, struct buf *out)
{
	(void)k;
	buf_add_str(out, *(const bool *)field ? "yes" : "no");
}

struct unit {
	const char	*name;
	uint64_t	 factor;
};

static const struct unit size_units[] = { { "", 1 }, { "k", 1024 }, { "m", 1024 * 1024 }, { "g", 1024 * 1024 * 1024 }, { 0 } };
static const struct unit time_units[] = {
	{ "ms", 1 }, { "s", 1000 }, { "m", 60 * 1000 }, { "h", 3600 * 1000 }, { "d", 24 * 3600 * 1000 }, { 0 }
};
static const struct unit no_units[] = { { "", 1 }, { 0 } };

/* In the largest unit that divides it. */
static void
print_units(uint64_t n, const struct unit *units, struct buf *out)
{
	const struct unit *best = &units[0];

	for (const struct unit *u = units; u->name != NULL; u++)
		if (n != 0 ? n % u->factor == 0 : u->factor == 1000)
			best = u;
	buf_printf(out, "%llu%s", (unsigned long long)(n / best->factor), best->name);
}

static bool
parse_units(const struct key *k, struct span s, const struct unit *units, const char *what, uint64_t *n, struct buf *why)
{
	size_t digits = 0;
	const struct unit *u = units;

	while (digits < s.len && is_digit(s.p[digits]))
		digits++;
	while (u->name != NULL && !text_is_nocase(text_sub(s, digits, s.len), u->name))
		u++;
	if (digits > 0 && digits == s.len && u->name == NULL) {
		buf_printf(why, "'%.*s' has no unit; write %.*ss, %.*sm or %.*sms", ARG(s), ARG(s), ARG(s), ARG(s));
		return false;
	}
	if (digits == 0 || u->name == NULL) {
		buf_printf(why, "'%.*s' is no %s", ARG(s), what);
		return false;
	}
	if (text_u64(text_sub(s, 0, digits), k->hi / u->factor, n) == -1 || *n * u->factor < k->lo) {
		buf_printf(why, "'%.*s' is out of bounds; write ", ARG(s));
		print_units(k->lo, units, why);
		buf_add_str(why, " to ");
		print_units(k->hi, units, why);
		return false;
	}
	*n *= u->factor;
	return true;
}

static bool
parse_number(const struct key *k, struct span s, void *field, struct buf *why)
{
	uint64_t n;

	if (!parse_units(k, s, no_units, "number; write digits only", &n, why))
		return false;
	*(unsigned *)field = (unsigned)n;
	return true;
}

static void
print_number(const struct key *k, const void *field, struct buf *out)
{
	(void)k;
	print_units(*(const unsigned *)field, no_units, out);
}

static bool
parse_size(const struct key *k, struct span s, void *field, struct buf *why)
{
	return parse_units(k, s, size_units, "size; write digits and k, m or g (25m)", field, why);
}

static void
print_size(const struct key *k, const void *field, struct buf *out)
{
	(void)k;
	print_units(*(const uint64_t *)field, size_units, out);
}

static bool
parse_time(const struct key *k, struct span s, void *field, struct buf *why)
{
	uint64_t n;

	if (!parse_units(k, s, time_units, "duration; write digits and ms, s, m, h or d (30s)", &n, why))
		return false;
	*(int64_t *)field = (int64_t)n;
	return true;
}

static void
print_time(const struct key *k, const void *field, struct buf *out)
{
	(void)k;
	print_units((uint64_t)*(const int64_t *)field, time_units, out);
}

static const struct type
	type_hostname = { parse_hostname, print_string, clear_string },
	type_user = { parse_user, print_string, clear_string },
	type_path = { parse_path, print_string, clear_string },
	type_address = { parse_address, print_string, clear_string },
	type_command = { parse_command, print_command, clear_words },
	type_domains = { parse_domains, print_domains, clear_words },
	type_enum = { parse_enum, print_enum, NULL },
	type_bool = { parse_bool, print_bool, NULL },
	type_number = { parse_number, print_number, NULL },
	type_size = { parse_size, print_size, NULL },
	type_time = { parse_time, print_time, NULL };

/* The table */

static const char *const levels[] = {
	[LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARN] = "warn", [LOG_ERROR] = "error", [LOG_LEVEL__MAX] = NULL
};
static const char *const formats[] = { [LOG_LOGFMT] = "logfmt", [LOG_JSON] = "json", [LOG_FORMAT__MAX] = NULL };
static const char *const rejections[] = { [REJECT_AT_RCPT] = "rcpt", [REJECT_AT_DATA] = "data", [REJECT__MAX] = NULL };
static const char *const newlines[] = { [NEWLINE_REJECT] = "reject", [NEWLINE_NORMALIZE] = "normalize", [NEWLINE__MAX] = NULL };
static const char *const modes[] = {
	[MODE_SMTP] = "smtp", [MODE_SUBMISSION] = "submission", [MODE_SMTPS] = "smtps", [MODE_ALT] = "alt", [MODE__MAX] = NULL
};

/* The field's type is checked when this compiles. */
#define FIELD(s, f, T) (offsetof(struct s, f) + 0 * sizeof(_Generic(((struct s *)0)->f, T: (char)0)))
#define K(s, sec, key, t, f, T, dflt, lo, hi, choices, sample, help) \
	{ sec, key, &type_##t, FIELD(s, f, T), dflt, lo, hi, choices, sample, help }
#define K_STRING(sec, key, t, f, dflt, sample, help) K(config, sec, key, t, f, char *, dflt, 0, 0, NULL, sample, help)
#define K_WORDS(sec, key, t, f, sample, help) K(config, sec, key, t, f, struct words, "", 0, 0, NULL, sample, help)
#define K_ENUM(sec, key, f, T, dflt, choices, help) K(config, sec, key, enum, f, T, dflt, 0, 0, choices, NULL, help)
#define K_BOOL(sec, key, f, help) K(config, sec, key, bool, f, bool, "no", 0, 0, NULL, NULL, help)
#define K_NUMBER(sec, key, f, dflt, lo, hi, help) K(config, sec, key, number, f, unsigned, dflt, lo, hi, NULL, NULL, help)
#define K_SIZE(sec, key, f, dflt, lo, hi, help) K(config, sec, key, size, f, uint64_t, dflt, lo, hi, NULL, NULL, help)
#define K_TIME(sec, key, f, dflt, lo, hi, help) K(config, sec, key, time, f, int64_t, dflt, lo, hi, NULL, NULL, help)

_Static_assert(sizeof(enum log_level) == sizeof(unsigned) && sizeof(enum log_format) == sizeof(unsigned) &&
    sizeof(enum rcpt_rejection) == sizeof(unsigned) && sizeof(enum listener_mode) == sizeof(unsigned) &&
    sizeof(enum bare_newline) == sizeof(unsigned), "enumerations are stored as unsigned");

#define LISTENER "smtpd.listener"	/* its rows are written [smtpd.listener NAME] */
#define DELIVERY "smtpd.delivery"
#define LIMITS "smtpd.limits"
#define TIMEOUTS "smtpd.timeouts"
#define KIB UINT64_C(1024)

static const struct key keys[] = {
	K_STRING("server", "hostname", hostname, hostname, "", "#mail.example.com",
	    "The name in the greeting and in Received fields. Empty: the machine's name."),

	K_ENUM("smtpd", "log_level", log_level, enum log_level, "info", levels, "The least level that is logged."),
	K_ENUM("smtpd", "log_format", log_format, enum log_format, "logfmt", formats, "How log lines are written, on standard error."),
	K_BOOL("smtpd", "log_transactions", log_transactions, "Log every line sent and received."),
	K_STRING("smtpd", "user", user, user, "smtpd", NULL, "Whom the processes run as, when started as root."),
	K_STRING("smtpd", "spool_dir", path, spool_dir, "", "#/var/spool/smtpd",
	    "Where messages in flight are kept. Empty: in memory."),
	K_WORDS("smtpd", "domains", domains, domains, "example.com, example.org", "Mail for these is taken from anyone."),
	K_ENUM("smtpd", "recipient_rejection", recipient_rejection, enum rcpt_rejection, "rcpt", rejections,
	    "When an unknown recipient is refused."),

	K(listener, LISTENER, "address", address, address, char *, ":25", 0, 0, NULL, ":25",
	    "Where to listen: :25 (IPv4 and IPv6), 192.0.2.1:25 or [2001:db8::1]:25."),
	K(listener, LISTENER, "mode", enum, mode, enum listener_mode, "smtp", 0, 0, modes, NULL, "What the listener is for."),
	K(listener, LISTENER, "workers", number, workers, unsigned, "1", 1, CONFIG_WORKERS_MAX, NULL, NULL,
	    "Processes that serve its clients."),
	K(listener, LISTENER, "bare_newline", enum, bare_newline, enum bare_newline, "reject", 0, 0, newlines, NULL,
	    "What to do with a line that ends in a bare CR or LF."),

	K_WORDS(DELIVERY, "command", command, command, "#/usr/lib/dovecot/deliver -d %{recipient}",
	    "The command that each message is handed to; this or maildir."),
	K_STRING(DELIVERY, "maildir", path, maildir, "", "/var/mail/%{domain}/%{user}",
	    "The Maildir that messages are written to; this or command."),
	K_BOOL(DELIVERY, "create", maildir_create, "Give a Maildir to any local part that has none."),
	K_STRING(DELIVERY, "user", user, delivery_user, "", "#vmail",
	    "Whom commands and Maildir writers run as, when started as root. Empty: [smtpd] user."),
	K_STRING(DELIVERY, "recipients_file", path, recipients_file, "", "#/etc/smtpd/recipients",
	    "The recipients that exist: one address or @domain a line."),
	K_WORDS(DELIVERY, "recipient_command", command, recipient_command, "#/usr/local/bin/mailbox-exists %{recipient}",
	    "A command that says by its exit status whether a recipient exists."),

	K_SIZE(LIMITS, "max_message_size", max_message_size, "25m", KIB, 2 * KIB * KIB * KIB,
	    "The largest message taken, announced by SIZE (RFC 1870)."),
	K_NUMBER(LIMITS, "max_recipients", max_recipients, "100", 1, 10000, "Recipients of one message."),
	K_NUMBER(LIMITS, "max_connections", max_connections, "1000", 1, 100000, "Clients at once."),
	K_NUMBER(LIMITS, "max_errors", max_errors, "20", 1, 1000, "Error replies to one client before it is closed."),
	K_NUMBER(LIMITS, "max_deliveries", max_deliveries, "20", 1, 10000, "Delivery commands at work at once."),
	K_SIZE(LIMITS, "max_spool_memory", max_spool_memory, "256m", 64 * KIB, 1024 * KIB * KIB * KIB,
	    "Memory for all messages in flight, where spool_dir is empty."),

	K_TIME(TIMEOUTS, "connection", connection_ms, "5m", 100, 24 * 3600 * 1000, "How long a client may be idle between commands."),
	K_TIME(TIMEOUTS, "command", command_ms, "1m", 100, 3600 * 1000,
	    "How long one command line, or a pause inside a message, may take."),
	K_TIME(TIMEOUTS, "delivery", delivery_ms, "2m", 100, 10 * 60 * 1000,
	    "How long a delivery may take. Clients wait 10 minutes (RFC 5321 4.5.3.2.6)."),
	K_TIME(TIMEOUTS, "shutdown", shutdown_ms, "30s", 0, 3600 * 1000, "How long sessions may go on after a request to stop."),
};

struct config_origins {
	char		*file;					/* owned; NULL: none */
	struct origin	 at[CONFIG_LISTENERS_MAX + 1][COUNT(keys)];	/* [0]: of no listener; [i + 1]: of listeners[i] */
};

static bool
is_listener_key(const struct key *k)
{
	return strcmp(k->section, LISTENER) == 0;
}

/* The field of key k, in listener slot - 1 where it is a listener's. */
static void *
field_of(const struct config *c, size_t slot, const struct key *k)
{
	return (char *)(slot == 0 ? (void *)(uintptr_t)c : (void *)(uintptr_t)&c->listeners[slot - 1]) + k->offset;
}

static struct origin *
origin_of(const struct config *c, size_t slot, const struct key *k)
{
	return &c->origins->at[slot][k - keys];
}

static const struct key *
key_find(const char *section, const char *name)
{
	for (const struct key *k = keys; k < keys + COUNT(keys); k++)
		if (strcmp(k->section, section) == 0 && strcmp(k->name, name) == 0)
			return k;
	return NULL;
}

/* Upper case, and what is neither letter nor digit as "_": so a name in a variable's name. */
static void
add_env(struct buf *out, const char *s)
{
	for (; *s != '\0'; s++)
		buf_add_char(out, (char)(!is_alnum(*s) ? '_' : *s >= 'a' && *s <= 'z' ? *s - ('a' - 'A') : *s));
}

/* The variable of a key, one to one: [smtpd.limits] max_errors is SMTPD_LIMITS_MAX_ERRORS. name: the listener's, or NULL. */
static const char *
env_name(struct buf *out, const struct key *k, const char *name)
{
	buf_reset(out);
	buf_add_str(out, "SMTPD_");
	if (strcmp(k->section, "smtpd") != 0) {
		add_env(out, k->section + (strncmp(k->section, "smtpd.", 6) == 0 ? 6 : 0));
		buf_add_char(out, '_');
	}
	if (name != NULL) {
		add_env(out, name);
		buf_add_char(out, '_');
	}
	add_env(out, k->name);
	return buf_str(out);
}

/* Sections */

enum section { SEC_OURS, SEC_LISTENER, SEC_SHARED, SEC_UNKNOWN, SEC_FOREIGN, SEC_NONE };

/* The next different section of the table after s (NULL: the first); NULL at its end. */
static const char *
section_next(const char *s)
{
	const struct key *k = keys;

	if (s == NULL)
		return keys[0].section;
	while (strcmp(k->section, s) != 0)
		k++;
	while (k < keys + COUNT(keys) && strcmp(k->section, s) == 0)
		k++;
	return k < keys + COUNT(keys) ? k->section : NULL;
}

static bool
starts(struct span s, const char *prefix)
{
	return text_is(text_sub(s, 0, strlen(prefix)), prefix);
}

/*
 * Whose a section is. *known is the table's name of it, or the nearest one of SEC_UNKNOWN; *name is what follows the word
 * "smtpd.listener". A near miss begins with the same letter, or its first two are swapped: [imapd] is another daemon's.
 */
static enum section
section_kind(struct span s, const char **known, struct span *name)
{
	struct span word = s = text_trim(s);
	char text[MEANT_MAX + 1];
	unsigned best = 1000;

	for (word.len = 0; word.len < s.len && !is_blank(s.p[word.len]); word.len++)
		;
	*name = text_trim(text_sub(s, word.len, s.len));
	*known = "smtpd";	/* for a name too long to be compared */
	for (const char *t = section_next(NULL); t != NULL; t = section_next(t)) {
		bool listener = strcmp(t, LISTENER) == 0;

		if (text_is(listener ? word : s, t) && listener == (name->len > 0)) {
			*known = t;
			return listener ? SEC_LISTENER : SEC_OURS;
		}
		if (text_copy(text, sizeof(text), listener ? word : s) == 0 && text_distance(text, t) < best) {
			best = text_distance(text, t);
			*known = t;
		}
	}
	if (text_is(s, "redis") || starts(s, "server.") || starts(s, "spamcheck"))
		return SEC_SHARED;
	if (text_starts_nocase(s, "smtpd"))
		return SEC_UNKNOWN;
	if (best <= 2 && s.len > 1 && (text_lower(s.p[0]) == (*known)[0] ||
	    (text_lower(s.p[0]) == (*known)[1] && text_lower(s.p[1]) == (*known)[0])))
		return SEC_UNKNOWN;
	return SEC_FOREIGN;
}

/* Loading */

struct loader {
	struct config	*c;
	struct buf	*errors;
	const char	*file;		/* as errors name it */
	char *const	*environ;
	char		 where[640];	/* what is being read: file:line, a variable, a flag */
	bool		 bad, full;	/* an error was reported; there was no room for one */
	enum from	 from;
	unsigned	 line;
	enum section	 section;	/* of the file's keys to come; SEC_NONE: before the first */
	const char	*known;		/* its name in the table */
	size_t		 slot;		/* its listener + 1 */
};

/* One line to errors: where, the key (NULL: none), what; what it quotes cannot break the line. */
static void
vcomplain(struct loader *l, bool warning, size_t slot, const struct key *k, const char *fmt, va_list ap)
{
	char text[2048];
	struct buf b;

	buf_fixed(&b, text, sizeof(text));
	buf_printf(&b, "%s%s: ", warning ? "warning: " : "", l->where);
	if (k != NULL)
		buf_printf(&b, "[%s%s%s] %s: ", k->section, slot == 0 ? "" : " ",
		    slot == 0 ? "" : l->c->listeners[slot - 1].name, k->name);
	vsnprintf(text + b.wpos, sizeof(text) - 1 - b.wpos, fmt, ap);
	b.wpos = strlen(text);
	for (size_t i = 0; i < b.wpos; i++)
		if (is_class(text[i], C_CNTRL))
			text[i] = '?';
	text[b.wpos++] = '\n';
	if (!warning)
		l->bad = true;
	if (!l->full && buf_room(l->errors) >= b.wpos + 64) {
		buf_add_span(l->errors, buf_span(&b));
	} else if (!l->full) {
		l->full = true;
		buf_add_str(l->errors, "more than fits here; mend these first\n");
	}
}

static void	complain(struct loader *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void	complain_key(struct loader *l, size_t slot, const struct key *k, const char *fmt, ...) PRINTF_LIKE(4, 5);
static void	warn_key(struct loader *l, size_t slot, const struct key *k, const char *fmt, ...) PRINTF_LIKE(4, 5);

static void
complain(struct loader *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vcomplain(l, false, 0, NULL, fmt, ap);
	va_end(ap);
}

static void
complain_key(struct loader *l, size_t slot, const struct key *k, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vcomplain(l, false, slot, k, fmt, ap);
	va_end(ap);
}

static void
warn_key(struct loader *l, size_t slot, const struct key *k, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vcomplain(l, true, slot, k, fmt, ap);
	va_end(ap);
}

/* From now on errors are of this line; 0: of the whole file. */
static void
at_line(struct loader *l, unsigned line)
{
	l->from = FROM_FILE;
	l->line = line;
	if (line == 0)
		snprintf(l->where, sizeof(l->where), "%.600s", l->file);
	else
		snprintf(l->where, sizeof(l->where), "%.600s:%u", l->file, line);
}

/* From now on errors are of where this key's value came from. */
static void
at_key(struct loader *l, size_t slot, const struct key *k)
{
	const struct origin *o = origin_of(l->c, slot, k);
	char text[256];
	struct buf name;

	buf_fixed(&name, text, sizeof(text));
	if (o->from == FROM_ENV)
		snprintf(l->where, sizeof(l->where), "environment %s",
		    env_name(&name, k, slot == 0 ? NULL : l->c->listeners[slot - 1].name));
	else if (o->from == FROM_FLAG)
		snprintf(l->where, sizeof(l->where), "flag -o %s%s%s.%s", k->section, slot == 0 ? "" : ".",
		    slot == 0 ? "" : l->c->listeners[slot - 1].name, k->name);
	else
		at_line(l, o->from == FROM_FILE ? o->line : 0);
}

/* Octets that a value may have wherever it comes from, so that it can be written in a file: printable, tab, UTF-8. */
static const char *
bad_octets(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (is_class(s.p[i], C_CNTRL) && s.p[i] != '\t')
			return s.p[i] == '\0' ? "has a NUL octet; remove it" : "has a control character; remove it";
	return text_is_utf8(s) ? NULL : "is not UTF-8 (Latin-1?); save it as UTF-8";
}

static void
set_value(struct loader *l, size_t slot, const struct key *k, struct span value)
{
	struct origin *o = origin_of(l->c, slot, k);
	void *field = field_of(l->c, slot, k);
	char reason[640], printed[VALUE_MAX];
	struct buf why, out;
	const char *octets = bad_octets(value);

	if (l->from == FROM_FILE && o->from == FROM_FILE) {
		complain_key(l, slot, k, "'%.*s': the key is given twice, first in line %u; keep one", ARG(value), o->line);
		return;
	}
	*o = (struct origin){ .from = l->from, .line = l->line, .bad = true };
	buf_fixed(&why, reason, sizeof(reason));
	buf_fixed(&out, printed, sizeof(printed));
	if (octets != NULL) {
		complain_key(l, slot, k, "'%.*s' %s", ARG(value), octets);
	} else if (!k->type->parse(k, text_trim(value), field, &why)) {
		complain_key(l, slot, k, "%.*s", (int)buf_len(&why), reason);
	} else {
		k->type->print(k, field, &out);
		o->bad = out.failed;
		if (out.failed)
			complain_key(l, slot, k, "'%.*s...' is longer than %d octets; shorten it", ARG(value), VALUE_MAX);
	}
}

static void
set_defaults(struct loader *l, size_t slot)
{
	l->from = FROM_DEFAULT;
	for (const struct key *k = keys; k < keys + COUNT(keys); k++)
		if (is_listener_key(k) == (slot > 0))
			set_value(l, slot, k, text_span(k->dflt));
}

/* The slot of this listener, made if there is none yet; 0: reported. */
static size_t
listener_slot(struct loader *l, struct span name)
{
	struct config *c = l->c;
	char text[CONFIG_NAME_MAX + 1], a[64], b[64];
	struct buf env, other;
	enum from from = l->from;
	bool ok = text_copy(text, sizeof(text), name) == 0;

	for (size_t i = 0; ok && i < name.len; i++)
		ok = is_alnum(name.p[i]) || name.p[i] == '-' || name.p[i] == '_';
	if (!ok) {
		complain(l, "[" LISTENER " %.*s]: '%.*s' is no name; write at most %d letters, digits, - and _", ARG(name), ARG(name),
		    CONFIG_NAME_MAX);
		return 0;
	}
	for (size_t i = 0; i < c->listeners_n; i++) {
		if (strcmp(c->listeners[i].name, text) == 0)
			return i + 1;
		buf_fixed(&env, a, sizeof(a));
		buf_fixed(&other, b, sizeof(b));
		add_env(&env, text);
		add_env(&other, c->listeners[i].name);
		if (!text_eq(buf_span(&env), buf_span(&other)))
			continue;
		if (l->from == FROM_ENV)
			return i + 1;
		complain(l, "[" LISTENER " %s]: '%s' and '%s' are the same in a variable's name; rename one", text, text,
		    c->listeners[i].name);
		return 0;
	}
	if (c->listeners_n == CONFIG_LISTENERS_MAX) {
		complain(l, "[" LISTENER " %s]: '%s' is one listener too many; at most %d are possible", text, text, CONFIG_LISTENERS_MAX);
		return 0;
	}
	text_copy(c->listeners[c->listeners_n++].name, sizeof(text), name);
	set_defaults(l, c->listeners_n);
	l->from = from;
	return c->listeners_n;
}

/* An unknown key of our section: what to write instead. */
static void
complain_unknown(struct loader *l, const char *section, struct span name)
{
	char text[MEANT_MAX + 1], all[512], full[64];
	const struct key *near = &keys[0], *elsewhere = NULL;
	struct buf list;

	snprintf(full, sizeof(full), "%s%s%s", section, l->slot == 0 ? "" : " ", l->slot == 0 ? "" : l->c->listeners[l->slot - 1].name);
	buf_fixed(&list, all, sizeof(all));
	if (text_copy(text, sizeof(text), name) == -1)
		text[0] = '\0';
	for (const struct key *k = keys; k < keys + COUNT(keys); k++) {
		if (strcmp(k->section, section) == 0) {
			buf_printf(&list, "%s%s", buf_len(&list) == 0 ? "" : ", ", k->name);
			if (strcmp(near->section, section) != 0 || text_distance(text, k->name) < text_distance(text, near->name))
				near = k;
		} else if (strcmp(k->name, text) == 0) {
			elsewhere = k;
		}
	}
	unsigned distance = text_distance(text, near->name);
	if (strcmp(section, "server") == 0) {	/* shared: a slip is worth a word, another daemon's key is not */
		if (distance <= 2)
			warn_key(l, 0, near, "'%.*s' is not read by smtpd; did you mean %s?", ARG(name), near->name);
	} else if (elsewhere != NULL && distance > 2) {
		complain(l, "[%s] %.*s: unknown key '%.*s'; did you mean [%s%s] %s?", full, ARG(name), ARG(name),
		    elsewhere->section, is_listener_key(elsewhere) ? " NAME" : "", elsewhere->name);
	} else if (distance <= 3) {
		complain(l, "[%s] %.*s: unknown key '%.*s'; did you mean %s?", full, ARG(name), ARG(name), near->name);
	} else {
		complain(l, "[%s] %.*s: unknown key '%.*s'; there are %.*s", full, ARG(name), ARG(name), (int)buf_len(&list), all);
	}
}

static void
section_enter(struct loader *l, struct span s)
{
	struct span name;

	l->section = section_kind(s, &l->known, &name);
	l->slot = 0;
	if (l->section == SEC_LISTENER) {
		l->slot = listener_slot(l, name);
		if (l->slot == 0)
			l->section = SEC_UNKNOWN;	/* reported, with its keys */
	} else if (l->section == SEC_UNKNOWN && text_is(text_trim(s), LISTENER)) {
		complain(l, "[" LISTENER "]: the listener has no name; write [" LISTENER " mx]");
	} else if (l->section == SEC_UNKNOWN) {
		complain(l, "[%.*s]: unknown section '%.*s'; did you mean [%s%s]?", ARG(s), ARG(s), l->known,
		    strcmp(l->known, LISTENER) == 0 ? " NAME" : "");
	}
}

/* inih: name NULL is a new section, 1 is success. */
static int
on_ini(void *user, const char *section, const char *name, const char *value, int lineno)
{
	struct loader *l = user;
	const struct key *k;

	at_line(l, (unsigned)lineno);
	if (name == NULL) {
		section_enter(l, text_span(section));
	} else if (l->section == SEC_OURS || l->section == SEC_LISTENER) {
		k = key_find(l->known, name);
		if (k == NULL)
			complain_unknown(l, l->known, text_span(name));
		else
			set_value(l, l->slot, k, text_span(value));
	}
	return 1;
}

/* Where s has one of c, or ends, or a comment begins as inih sees it: a ";" after a blank. */
static size_t
find_before_comment(struct span s, const char *c)
{
	size_t i;

	for (i = 0; i < s.len && strchr(c, s.p[i]) == NULL; i++)
		if (i > 0 && s.p[i] == ';' && is_blank(s.p[i - 1]))
			return s.len;
	return i;
}

/*
 * One line, without its line end: what is wrong with it is reported. Whether inih is to see it: it is whole, and of a section
 * whose keys we read. *section is the one it is in.
 */
static bool
line_is_wanted(struct loader *l, struct span line, enum section *section)
{
	struct span s = text_trim(line), name, rest;
	const char *octets, *known;
	size_t end;

	if (line.len > TEXT_LINE_MAX) {
		complain(l, "'%.*s...': the line has %zu octets; at most %d are read", ARG(text_sub(line, 0, 40)), line.len, TEXT_LINE_MAX);
		return false;
	}
	if ((octets = bad_octets(line)) != NULL) {
		complain(l, "the line '%.*s' %s", ARG(line), octets);
		return false;
	}
	if (s.len == 0 || *s.p == ';' || *s.p == '#')
		return false;
	if (*s.p == '[') {
		end = find_before_comment(text_sub(s, 1, s.len), "]") + 1;
		*section = SEC_UNKNOWN;	/* whose the next lines are is not known */
		if (end >= s.len) {
			complain(l, "'%.*s' has no ]; write [section]", ARG(s));
			return false;
		}
		*section = section_kind(text_sub(s, 1, end), &known, &name);
		rest = text_trim(text_sub(s, end + 1, s.len));
		if (*section != SEC_FOREIGN && rest.len > 0 && *rest.p != ';' && *rest.p != '#') {
			complain(l, "'%.*s' follows the section's name; give it a line of its own", ARG(rest));
		}
		if (*section != SEC_FOREIGN && s.p != line.p)
			complain(l, "'%.*s' is indented; begin it in the first column", ARG(s));
		return true;
	}
	if (*section == SEC_NONE)
		complain(l, "'%.*s' stands before the first section; write one above it, such as [smtpd]", ARG(s));
	if (*section != SEC_OURS && *section != SEC_LISTENER)
		return false;
	end = find_before_comment(s, "=:");
	if (end == s.len || end == 0) {
		complain(l, "'%.*s' is no key with a value; write key = value", ARG(s));
		return false;
	}
	if (s.p != line.p)	/* elsewhere it would go on with the value above */
		complain(l, "'%.*s' is indented; begin each key in the first column, and give each value in one line", ARG(s));
	return s.p == line.p;
}

/* What inih is to see of text, with the same line numbers. */
static void
clean_text(struct loader *l, struct span text, struct buf *out)
{
	enum section section = SEC_NONE;
	unsigned line = 0, crlf = 0;
	const char *p = text.p, *end = text.p + text.len;

	at_line(l, 1);
	if (starts(text, "\xef\xbb\xbf")) {
		complain(l, "the file begins with a byte order mark; save it as UTF-8 without one");
		p += 3;
	}
	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		struct span s = { p, (size_t)((lf == NULL ? end : lf) - p) };

		at_line(l, ++line);
		p += s.len + 1;
		if (s.len > 0 && s.p[s.len - 1] == '\r') {
			s.len--;
			if (crlf++ == 0)
				complain(l, "the line ends in CR LF; save the file with LF line ends (sed -i 's/\\r$//')");
		}
		if (line_is_wanted(l, s, &section))
			buf_add_span(out, s);
		buf_add_char(out, '\n');
		if (lf == NULL)
			break;
	}
}

/* The whole file into b, at most CONFIG_FILE_MAX octets; 0, or -1 with errno. */
static int
read_file(const char *file, struct buf *b)
{
	char chunk[16384];
	int fd = open(file, O_RDONLY | O_CLOEXEC), e;
	ssize_t n;

	if (fd == -1)
		return -1;
	do {
		n = read(fd, chunk, sizeof(chunk));
		if (n > 0 && buf_add(b, chunk, (size_t)n) == -1) {
			errno = EFBIG;
			n = -1;
			break;
		}
	} while (n > 0 || (n == -1 && errno == EINTR));
	e = errno;
	close(fd);
	errno = e;
	return n == 0 ? 0 : -1;
}

static void
load_file(struct loader *l, const char *file)
{
	struct buf raw, clean;
	int line;

	buf_init(&raw, CONFIG_FILE_MAX);
	buf_init(&clean, CONFIG_FILE_MAX + 2);
	at_line(l, 0);
	if (read_file(file, &raw) == -1) {
		if (errno == EFBIG)
			complain(l, "the file has more than %d octets; is it a configuration?", CONFIG_FILE_MAX);
		else
			complain(l, "the file cannot be read: %s; name another with -c", strerror(errno));
	} else if (buf_len(&raw) > 0) {
		clean_text(l, buf_span(&raw), &clean);
		l->section = SEC_NONE;
		if (buf_str(&clean) == NULL) {
			complain(l, "out of memory");
		} else if ((line = ini_parse_string(clean.data, on_ini, l)) != 0) {
			at_line(l, line > 0 ? (unsigned)line : 0);
			complain(l, "the line cannot be read; write key = value");
		}
	}
	buf_clear(&raw);
	buf_clear(&clean);
}

/* SMTPD_LISTENER_NAME_KEY: the key, and NAME; NULL: it is none. */
static const struct key *
env_listener(struct span var, struct span *name)
{
	struct span s = text_sub(var, strlen("SMTPD_LISTENER_"), var.len);
	char text[MEANT_MAX];
	struct buf upper;

	if (!starts(var, "SMTPD_LISTENER_"))
		return NULL;
	for (const struct key *k = keys; k < keys + COUNT(keys); k++) {
		if (!is_listener_key(k))
			continue;
		buf_fixed(&upper, text, sizeof(text));
		buf_add_char(&upper, '_');
		add_env(&upper, k->name);
		if (s.len > buf_len(&upper) && text_eq(text_sub(s, s.len - buf_len(&upper), s.len), buf_span(&upper))) {
			*name = text_sub(s, 0, s.len - buf_len(&upper));
			return k;
		}
	}
	return NULL;
}

static void
complain_variable(struct loader *l, struct span var)
{
	char text[MEANT_MAX + 1], name[256], nearest[256] = "";
	struct buf b;
	unsigned best = 1000;

	buf_fixed(&b, name, sizeof(name));
	if (text_copy(text, sizeof(text), var) == -1)
		text[0] = '\0';
	for (const struct key *k = keys; k < keys + COUNT(keys); k++) {
		const char *n = env_name(&b, k, is_listener_key(k) ? "NAME" : NULL);

		if (text_distance(text, n) < best) {
			best = text_distance(text, n);
			text_copy(nearest, sizeof(nearest), text_span(n));
		}
	}
	if (starts(var, "SMTPD_SERVICE_") || starts(var, "SMTPD_PORT"))
		complain(l, "unknown variable '%.*s'; if Kubernetes set it for a service named smtpd, set enableServiceLinks: false in the pod",
		    ARG(var));
	else
		complain(l, "unknown variable '%.*s'; did you mean %s?", ARG(var), nearest);
}

static void
load_environment(struct loader *l)
{
	char name[256], lower[CONFIG_NAME_MAX + 2];
	struct buf b;

	buf_fixed(&b, name, sizeof(name));
	for (char *const *e = l->environ; e != NULL && *e != NULL; e++) {
		struct span whole = text_span(*e), var, listener;
		const struct key *k;
		size_t slot = 0, n = 0;

		if (!starts(whole, "SMTPD_") || text_find(whole, '=') == SIZE_MAX)
			continue;
		var = text_sub(whole, 0, text_find(whole, '='));
		l->from = FROM_ENV;
		l->line = 0;
		snprintf(l->where, sizeof(l->where), "environment %.*s", ARG(var));
		if ((k = env_listener(var, &listener)) != NULL) {
			for (; n < listener.len && n < sizeof(lower); n++)
				lower[n] = text_lower(listener.p[n]);
			slot = listener_slot(l, (struct span){ lower, n });
			if (slot == 0)
				continue;
			if (!text_is(var, env_name(&b, k, l->c->listeners[slot - 1].name)))	/* lower case in it */
				k = NULL;
		} else {
			for (k = keys; k < keys + COUNT(keys); k++)
				if (!is_listener_key(k) && text_is(var, env_name(&b, k, NULL)))
					break;
		}
		if (k == NULL || k == keys + COUNT(keys))
			complain_variable(l, var);
		else
			set_value(l, slot, k, text_sub(whole, var.len + 1, whole.len));
	}
}

/* -o section.key=value; [smtpd.listener mx] address is smtpd.listener.mx.address, or with the blank as in the file. */
static void
load_flag(struct loader *l, const char *flag)
{
	struct span whole = text_span(flag), section, key, name;
	size_t equals = text_find(whole, '='), dot;
	char text[MEANT_MAX + 1];
	const struct key *k = NULL;

	snprintf(l->where, sizeof(l->where), "flag -o %.100s", flag);
	l->from = FROM_FLAG;
	l->line = 0;
	dot = equals == SIZE_MAX ? 0 : equals;
	while (dot > 0 && flag[dot] != '.')
		dot--;
	if (dot == 0) {
		complain(l, "'%.100s' is no section.key=value; write such as smtpd.log_level=debug", flag);
		return;
	}
	snprintf(l->where, sizeof(l->where), "flag -o %.*s", ARG(text_sub(whole, 0, equals)));
	section = text_sub(whole, 0, dot);
	key = text_trim(text_sub(whole, dot + 1, equals));
	if (starts(section, LISTENER ".")) {
		l->section = SEC_LISTENER;
		l->known = LISTENER;
		l->slot = listener_slot(l, text_sub(section, strlen(LISTENER "."), section.len));
		if (l->slot == 0)
			return;
	} else {
		section_enter(l, section);
		if (l->section == SEC_UNKNOWN)
			return;
		if (l->section != SEC_OURS && l->section != SEC_LISTENER) {
			(void)section_kind(section, &l->known, &name);
			complain(l, "unknown section '%.*s'; did you mean %s?", ARG(section), l->known);
			return;
		}
	}
	if (text_copy(text, sizeof(text), key) == 0)
		k = key_find(l->known, text);
	if (k != NULL)
		set_value(l, l->slot, k, text_sub(whole, equals + 1, whole.len));
	else if (strcmp(l->known, "server") == 0)
		complain(l, "[server] %.*s: unknown key '%.*s'; did you mean hostname?", ARG(key), ARG(key));
	else
		complain_unknown(l, l->known, key);
}

/* What depends on two keys, or on the system */

static bool
is_bad(const struct config *c, const struct key *k)
{
	return origin_of(c, 0, k)->bad;
}

/* The expansion at the start of s ("%{name}"), its length with the braces in *len; X__MAX: unknown, X__MAX + 1: it has no "}". */
static unsigned
expansion_at(const char *s, size_t *len)
{
	const char *end = strchr(s, '}');
	struct span name;

	if (end == NULL)
		return X__MAX + 1;
	*len = (size_t)(end + 1 - s);
	name = (struct span){ s + 2, *len - 3 };
	for (unsigned i = 0; i < X__MAX; i++)
		if (text_is(name, expansion_names[i]))
			return i;
	return X__MAX;
}

/* Every "%{...}" of one word, which may use those of the set allowed. The set of what it uses. */
static unsigned
check_expansions(struct loader *l, const struct key *k, const char *word, unsigned allowed)
{
	unsigned used = 0;
	char name[MEANT_MAX + 1];

	for (const char *p = strstr(word, "%{"); p != NULL; p = strstr(p, "%{")) {
		size_t len = 2;
		unsigned x = expansion_at(p, &len), nearest = 0;

		if (x > X__MAX) {
			complain_key(l, 0, k, "'%.100s' has no }; write such as %%{recipient}", p);
		} else if (x == X__MAX) {
			if (text_copy(name, sizeof(name), (struct span){ p + 2, len - 3 }) == -1)
				name[0] = '\0';
			for (unsigned i = 0; i < X__MAX; i++)
				if ((allowed & 1u << i) != 0 && ((allowed & 1u << nearest) == 0 ||
				    text_distance(name, expansion_names[i]) < text_distance(name, expansion_names[nearest])))
					nearest = i;
			complain_key(l, 0, k, "unknown expansion '%.*s'; did you mean %%{%s}?", ARG(((struct span){ p, len })),
			    expansion_names[nearest]);
		} else if ((allowed & 1u << x) == 0) {
			complain_key(l, 0, k, "'%.*s' cannot be used here; see smtpd.conf(5)", ARG(((struct span){ p, len })));
		} else {
			used |= 1u << x;
		}
		p += len;
	}
	return used;
}

/* Whether path can be executed; false with errno. */
static bool
is_executable(const char *path)
{
	struct stat st;

	if (stat(path, &st) == -1)
		return false;
	if (!S_ISREG(st.st_mode)) {
		errno = S_ISDIR(st.st_mode) ? EISDIR : EACCES;
		return false;
	}
	return access(path, X_OK) == 0;
}

/* A name without a slash is looked for as the child will: in PATH. */
static bool
is_in_path(const struct loader *l, const char *name)
{
	const char *path = NULL;
	struct span rest, dir;
	char full[4096];

	for (char *const *e = l->environ; e != NULL && *e != NULL; e++)
		if (strncmp(*e, "PATH=", 5) == 0)
			path = *e + 5;
	if (path == NULL)
		return true;	/* the child's own default is searched, which is not known here */
	rest = text_span(path);
	while (text_token(&rest, ":", &dir)) {
		int n = snprintf(full, sizeof(full), "%.*s/%s", (int)dir.len, dir.p, name);

		if (n > 0 && (size_t)n < sizeof(full) && is_executable(full))
			return true;
	}
	errno = ENOENT;
	return false;
}

/* Case 12.9, and that each expansion is one whole argument. The set of expansions used. */
static unsigned
check_command(struct loader *l, const struct key *k, const struct words *w, unsigned allowed)
{
	const char *program = w->v[0];
	unsigned used = 0;

	at_key(l, 0, k);
	if (strstr(program, "%{") != NULL)
		complain_key(l, 0, k, "'%.100s' is the program, which no expansion can name; write its path", program);
	else if (*program != '/' && strchr(program, '/') != NULL)
		complain_key(l, 0, k, "'%.100s' is a relative path; write one that begins with /", program);
	else if (*program == '/' ? !is_executable(program) : !is_in_path(l, program))
		complain_key(l, 0, k, "'%.100s' cannot be executed: %s; correct the path, or the file's mode", program, strerror(errno));
	for (size_t i = 1; i < w->n; i++) {
		unsigned x = check_expansions(l, k, w->v[i], allowed);
		size_t len = 0;

		if (x != 0 && (strncmp(w->v[i], "%{", 2) != 0 || expansion_at(w->v[i], &len) >= X__MAX || w->v[i][len] != '\0'))
			complain_key(l, 0, k, "'%.100s': an expansion is a whole argument; give it one of its own, with blanks around it", w->v[i]);
		used |= x;
	}
	return used;
}

static void
check_delivery(struct loader *l)
{
	struct config *c = l->c;
	const struct key *command = key_find(DELIVERY, "command"), *maildir = key_find(DELIVERY, "maildir");
	const struct key *file = key_find(DELIVERY, "recipients_file"), *check = key_find(DELIVERY, "recipient_command");
	const struct key *create = key_find(DELIVERY, "create"), *domains = key_find("smtpd", "domains");
	const unsigned all = (1u << X__MAX) - 1;
	struct stat st;

	if (c->command.n > 0) {
		unsigned used = check_command(l, command, &c->command, all);

		c->per_recipient = (used & (1u << X_RECIPIENT | 1u << X_USER | 1u << X_DOMAIN)) != 0;
		if (*c->maildir != '\0') {
			at_key(l, 0, maildir);
			complain_key(l, 0, maildir, "'%.100s' beside a command; keep one of command and maildir", c->maildir);
		}
	} else if (*c->maildir == '\0' && !is_bad(c, command) && !is_bad(c, maildir)) {
		at_line(l, 0);
		complain(l, "[" DELIVERY "]: mail has nowhere to go; write command = ... or maildir = /var/mail/%%{domain}/%%{user}");
	}
	if (*c->maildir != '\0') {
		at_key(l, 0, maildir);
		(void)check_expansions(l, maildir, c->maildir, 1u << X_DOMAIN | 1u << X_USER);
	} else if (c->maildir_create && !is_bad(c, maildir)) {
		at_key(l, 0, create);
		complain_key(l, 0, create, "'yes' without a maildir; set maildir, or create = no");
	}
	if (c->recipient_command.n > 0)
		(void)check_command(l, check, &c->recipient_command, all & ~(1u << X_RECIPIENTS));
	if (*c->recipients_file != '\0') {
		at_key(l, 0, file);
		if (stat(c->recipients_file, &st) == -1)
			complain_key(l, 0, file, "'%.100s' cannot be read: %s; correct the path", c->recipients_file, strerror(errno));
		else if (S_ISDIR(st.st_mode))
			complain_key(l, 0, file, "'%.100s' is a directory; name a file", c->recipients_file);
	}
	if (c->domains.n == 0 && !is_bad(c, domains)) {
		at_key(l, 0, domains);
		complain_key(l, 0, domains, "'' is no list of domains, so no mail can be taken; write domains = example.com");
	}
}

/* Whether both cannot be bound: a port once for each address, the wildcard being every one of its family. */
static bool
endpoints_collide(const struct endpoint *a, const struct endpoint *b)
{
	static const uint8_t any[16];

	if (a->port != b->port || a->port == 0 || (a->family != 0 && b->family != 0 && a->family != b->family))
		return false;
	return memcmp(a->ip, any, 16) == 0 || memcmp(b->ip, any, 16) == 0 || memcmp(a->ip, b->ip, 16) == 0;
}

static void
check_listeners(struct loader *l)
{
	const struct config *c = l->c;
	const struct key *address = key_find(LISTENER, "address"), *mode = key_find(LISTENER, "mode");
	struct endpoint a, b;

	for (size_t i = 0; i < c->listeners_n; i++) {
		const struct listener *li = &c->listeners[i];

		if (li->mode == MODE_SUBMISSION || li->mode == MODE_SMTPS) {
			at_key(l, i + 1, mode);
			complain_key(l, i + 1, mode, "mode = %s needs TLS, which this version does not have yet; write smtp or alt",
			    modes[li->mode]);
		}
		for (size_t j = 0; j < i; j++) {
			if (origin_of(c, i + 1, address)->bad || origin_of(c, j + 1, address)->bad ||
			    !endpoint_parse(text_span(li->address), &a) || !endpoint_parse(text_span(c->listeners[j].address), &b) ||
			    !endpoints_collide(&a, &b))
				continue;
			at_key(l, i + 1, address);
			complain_key(l, i + 1, address, "'%s' is taken by [" LISTENER " %s] (%s); choose another address or port",
			    li->address, c->listeners[j].name, c->listeners[j].address);
		}
	}
	if (c->listeners_n == 0) {
		at_line(l, 0);
		complain(l, "[" LISTENER " NAME]: there is no listener; write such as [" LISTENER " mx] and, below it, address = :25");
	}
}

/* As root both users must be there, and the processes that read what strangers write are not to be root. */
static void
check_users(struct loader *l)
{
	const struct key *rows[] = { key_find("smtpd", "user"), key_find(DELIVERY, "user") };
	const char *names[] = { l->c->user, l->c->delivery_user };

	for (size_t i = 0; geteuid() == 0 && i < COUNT(rows); i++) {
		const struct passwd *pw;

		at_key(l, 0, rows[i]);
		if (is_bad(l->c, rows[i]) || (i == 1 && *names[i] == '\0'))
			continue;
		pw = *names[i] == '\0' ? NULL : getpwnam(names[i]);
		if (pw == NULL)
			complain_key(l, 0, rows[i], "'%.100s' is no user here, and smtpd is started as root; add the user or name another", names[i]);
		else if (pw->pw_uid == 0 && i == 0)
			complain_key(l, 0, rows[i], "'%.100s' is root; name an unprivileged user", names[i]);
		else if (pw->pw_uid == 0)
			warn_key(l, 0, rows[i], "'%.100s' is root; name an unprivileged user where the command allows it", names[i]);
	}
}

static void
check_system(struct loader *l)
{
	struct config *c = l->c;
	const struct key *hostname = key_find("server", "hostname"), *spool = key_find("smtpd", "spool_dir");
	const struct key *memory = key_find(LIMITS, "max_spool_memory"), *size = key_find(LIMITS, "max_message_size");
	const struct key *deliveries = key_find(LIMITS, "max_deliveries");
	char machine[SMTP_DOMAIN_MAX + 1] = "", reason[256], text[32];
	struct rlimit rl;
	struct stat st;
	rlim_t processes = PROCESSES_SPARE;
	struct buf b;

	if (*c->hostname == '\0' && !is_bad(c, hostname)) {
		buf_fixed(&b, reason, sizeof(reason));
		at_key(l, 0, hostname);
		if (gethostname(machine, sizeof(machine) - 1) == -1 || *machine == '\0' ||
		    !parse_hostname(hostname, text_span(machine), &c->hostname, &b))
			complain_key(l, 0, hostname, "the machine's name '%.100s' is no domain name; write hostname = mail.example.com", machine);
	}
	if (*c->spool_dir != '\0') {
		at_key(l, 0, spool);
		if (stat(c->spool_dir, &st) == -1)
			complain_key(l, 0, spool, "'%.100s' cannot be used: %s; make the directory", c->spool_dir, strerror(errno));
		else if (!S_ISDIR(st.st_mode))
			complain_key(l, 0, spool, "'%.100s' is no directory; name one", c->spool_dir);
	} else if (c->max_spool_memory < c->max_message_size && !is_bad(c, memory) && !is_bad(c, size)) {
		at_key(l, 0, memory);
		buf_fixed(&b, text, sizeof(text));
		print_size(size, &c->max_message_size, &b);
		complain_key(l, 0, memory, "a message of max_message_size, '%s', has no room in it; raise it, or set [smtpd] spool_dir",
		    buf_str(&b));
	}
	for (size_t i = 0; i < c->listeners_n; i++)
		processes += c->listeners[i].workers;
	if (getrlimit(RLIMIT_NPROC, &rl) == 0 && rl.rlim_cur != RLIM_INFINITY && !is_bad(c, deliveries) &&
	    processes + c->max_deliveries > rl.rlim_cur) {	/* case 13.11 */
		at_key(l, 0, deliveries);
		complain_key(l, 0, deliveries, "'%u' is too many: the system allows %llu processes (ulimit -u), of which smtpd itself "
		    "needs %llu; lower it, or raise that limit", c->max_deliveries, (unsigned long long)rl.rlim_cur,
		    (unsigned long long)processes);
	}
}

/* Public functions */

struct config *
config_load(const char *file, char *const *env, const char *const *flags, size_t flags_n, struct buf *errors)
{
	struct loader l = { .errors = errors, .file = file == NULL ? "smtpd" : file, .environ = env };

	l.c = calloc(1, sizeof(*l.c));
	if (l.c == NULL || (l.c->origins = calloc(1, sizeof(*l.c->origins))) == NULL ||
	    (file != NULL && (l.c->origins->file = strdup(file)) == NULL)) {
		buf_add_str(errors, "smtpd: out of memory\n");
		config_free(l.c);
		return NULL;
	}
	at_line(&l, 0);
	set_defaults(&l, 0);
	if (file != NULL)
		load_file(&l, file);
	load_environment(&l);
	for (size_t i = 0; i < flags_n; i++)
		load_flag(&l, flags[i]);
	check_listeners(&l);
	check_delivery(&l);
	check_users(&l);
	check_system(&l);
	if (!l.bad)
		return l.c;
	config_free(l.c);
	return NULL;
}

void
config_free(struct config *c)
{
	if (c == NULL)
		return;
	for (size_t slot = 0; slot <= c->listeners_n; slot++)
		for (const struct key *k = keys; k < keys + COUNT(keys); k++)
			if (k->type->clear != NULL && is_listener_key(k) == (slot > 0))
				k->type->clear(field_of(c, slot, k));
	if (c->origins != NULL)
		free(c->origins->file);
	free(c->origins);
	free(c);
}

/* "; default", "; file:line", ... */
static void
print_origin(const struct config *c, size_t slot, const struct key *k, struct buf *out)
{
	const struct origin *o = origin_of(c, slot, k);
	char text[256];
	struct buf name;

	switch (o->from) {
	case FROM_DEFAULT:
		buf_add_str(out, "default");
		break;
	case FROM_FILE:
		for (const char *p = c->origins->file; *p != '\0' && p < c->origins->file + 600; p++)
			buf_add_char(out, (char)(is_vchar(*p) || *p == ' ' ? *p : '?'));
		buf_printf(out, ":%u", o->line);
		break;
	case FROM_ENV:
		buf_fixed(&name, text, sizeof(text));
		buf_printf(out, "environment %s", env_name(&name, k, slot == 0 ? NULL : c->listeners[slot - 1].name));
		break;
	case FROM_FLAG:
		buf_add_str(out, "flag");
		break;
	}
}

static void
print_section(const struct config *c, size_t slot, const char *section, FILE *f)
{
	char value[VALUE_MAX + 1], origin[1024];
	struct buf v, o;

	if (slot == 0)
		fprintf(f, "[%s]\n", section);
	else
		fprintf(f, "[%s %s]\n", section, c->listeners[slot - 1].name);
	for (const struct key *k = keys; k < keys + COUNT(keys); k++) {
		if (strcmp(k->section, section) != 0)
			continue;
		buf_fixed(&v, value, sizeof(value));
		buf_fixed(&o, origin, sizeof(origin));
		k->type->print(k, field_of(c, slot, k), &v);
		print_origin(c, slot, k, &o);
		fprintf(f, "%-19s = %-30s ; %s\n", k->name, buf_str(&v), buf_str(&o));
	}
	putc('\n', f);
}

int
config_print(const struct config *c, FILE *f)
{
	for (const char *s = section_next(NULL); s != NULL; s = section_next(s)) {
		if (strcmp(s, LISTENER) != 0)
			print_section(c, 0, s, f);
		for (size_t i = 0; strcmp(s, LISTENER) == 0 && i < c->listeners_n; i++)
			print_section(c, i + 1, s, f);
	}
	return fflush(f) == EOF || ferror(f) ? -1 : 0;
}

int
config_print_sample(FILE *f)
{
	char text[256];
	struct buf b;

	fputs("# smtpd.conf - every key of smtpd(8); see smtpd.conf(5). What is commented out stands at its default, or is an example.\n"
	    "# A ; after a blank begins a comment. Sizes take k m g, times ms s m h d.\n", f);
	for (const char *s = section_next(NULL); s != NULL; s = section_next(s)) {
		fprintf(f, "\n[%s%s]\n", s, strcmp(s, LISTENER) == 0 ? " mx" : "");
		for (const struct key *k = keys; k < keys + COUNT(keys); k++) {
			if (strcmp(k->section, s) != 0)
				continue;
			buf_fixed(&b, text, sizeof(text));
			for (size_t i = 0; k->choices != NULL && k->choices[i] != NULL; i++)
				buf_printf(&b, "%s%s", i == 0 ? " One of " : ", ", k->choices[i]);
			if (k->choices != NULL)
				buf_add_char(&b, '.');
			fprintf(f, "# %s%s\n", k->help, buf_str(&b));
			if (k->sample == NULL)
				fprintf(f, "#%s = %s\n", k->name, k->dflt);
			else
				fprintf(f, "%s%s = %s\n", *k->sample == '#' ? "#" : "", k->name, k->sample + (*k->sample == '#'));
		}
	}
	return fflush(f) == EOF || ferror(f) ? -1 : 0;
}
