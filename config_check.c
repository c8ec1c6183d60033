/*
 * config_check.c - what depends on two keys of the configuration, or on the system: programs, files, users, limits.
 */
#include "config_check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "config_address.h"

#define PROCESSES_SPARE 8	/* master, agent, Maildir writers, and a reload's */
#define PROCESSES_HOOKS 20	/* HOOKS_MAX of hook.h */
#define PROCESSES_NAMES 16	/* NAMES_CALLS_MAX of names.h */
#define X_ALL ((1u << X__MAX) - 1)

const char *const expansion_names[X__MAX] = {
	[X_SENDER] = "sender", [X_RECIPIENT] = "recipient", [X_RECIPIENTS] = "recipients", [X_USER] = "user",
	[X_DOMAIN] = "domain", [X_AUTH_USER] = "auth_user", [X_CLIENT_ADDRESS] = "client_address", [X_ID] = "id",
};

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
check_expansions(struct loader *l, const struct key *k, size_t i, const char *word, unsigned allowed)
{
	unsigned used = 0;
	char name[MEANT_MAX + 1];

	for (const char *p = strstr(word, "%{"); p != NULL; p = strstr(p, "%{")) {
		size_t len = 2;
		unsigned x = expansion_at(p, &len), nearest = 0;

		if (x > X__MAX) {
			key_error(l, k, i, "'%.100s' has no }; write such as %%{recipient}", p);
		} else if (x == X__MAX && allowed != 0) {
			if (text_copy(name, sizeof(name), (struct span){ p + 2, len - 3 }) == -1)
				name[0] = '\0';
			for (unsigned j = 0; j < X__MAX; j++)
				if ((allowed & 1u << j) != 0 && ((allowed & 1u << nearest) == 0 ||
				    text_distance(name, expansion_names[j]) < text_distance(name, expansion_names[nearest])))
					nearest = j;
			key_error(l, k, i, "unknown expansion '%.*s'; did you mean %%{%s}?", ARG(((struct span){ p, len })),
			    expansion_names[nearest]);
		} else if ((allowed & 1u << x) == 0) {
			key_error(l, k, i, "'%.*s' cannot be used here; see smtpd.conf(5)", ARG(((struct span){ p, len })));
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

/* A name without a slash is looked for as the child will: in its own PATH. */
static bool
is_in_path(const char *name)
{
	struct span rest = text_span(COMMAND_PATH), dir;
	char full[4096];

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
check_command(struct loader *l, const struct key *k, size_t i, const struct words *w, unsigned allowed)
{
	const char *program = w->v[0];
	unsigned used = 0;

	if (strstr(program, "%{") != NULL)
		key_error(l, k, i, "'%.100s' is the program, which no expansion can name; write its path", program);
	else if (*program != '/' && strchr(program, '/') != NULL)
		key_error(l, k, i, "'%.100s' is a relative path; write one that begins with /", program);
	else if (*program == '/' ? !is_executable(program) : !is_in_path(program))
		key_error(l, k, i, "'%.100s' cannot be executed: %s; correct the path, or the file's mode", program, strerror(errno));
	for (size_t n = 1; n < w->n; n++) {
		unsigned x = check_expansions(l, k, i, w->v[n], allowed);
		size_t len = 0;

		if (x != 0 && (strncmp(w->v[n], "%{", 2) != 0 || expansion_at(w->v[n], &len) >= X__MAX || w->v[n][len] != '\0'))
			key_error(l, k, i, "'%.100s': an expansion is a whole argument; give it one of its own, with blanks around it", w->v[n]);
		used |= x;
	}
	return used;
}

/* Whether a file is there to be read, which is reported if it is set and not. secret: not everybody is to read it (case 15.5). */
static bool
file_is_there(struct loader *l, const struct key *k, size_t i, const char *path, bool secret)
{
	struct stat st;

	if (*path == '\0')
		return false;
	if (stat(path, &st) == -1 || access(path, R_OK) == -1) {
		key_error(l, k, i, "'%.100s' cannot be read: %s; correct the path, or the file's mode", path, strerror(errno));
		return false;
	}
	if (S_ISDIR(st.st_mode)) {
		key_error(l, k, i, "'%.100s' is a directory; name a file", path);
		return false;
	}
	if (secret && S_ISREG(st.st_mode) && (st.st_mode & S_IROTH) != 0)
		key_warning(l, k, i, "'%.100s' can be read by everybody; take that away (chmod o-r)", path);
	return true;
}

/* A file that is read later on. */
static void
check_file(struct loader *l, const struct key *k, size_t i, const char *path, bool secret)
{
	(void)file_is_there(l, k, i, path, secret);	/* what is to be said is said */
}

/* The first octets of a file into b, as many as fit; -1 with errno. What is no file does not hold us up. */
static int
read_head(const char *path, struct buf *b)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), e;
	ssize_t n = -1;

	if (fd == -1)
		return -1;
	while (buf_room(b) > 0 && ((n = read(fd, b->data + b->wpos, buf_room(b))) > 0 || (n == -1 && errno == EINTR)))
		b->wpos += n > 0 ? (size_t)n : 0;
	e = errno;
	close(fd);
	errno = e;
	return n == -1 ? -1 : 0;
}

/* The secret k of element i, where the key behind it names the file that it is in: its first line. */
static void
check_secret(struct loader *l, const struct key *k, size_t i)
{
	const struct key *file = k + 1;
	char *const *secret = key_field(l->c, k, i), *const *path = key_field(l->c, file, i);
	char text[SECRET_MAX + 2], reason[128];	/* one too many octets, or CR LF */
	struct span rest, line = { NULL, 0 };
	struct buf b, why;

	if (**secret != '\0' && **path != '\0') {	/* case 15.5 */
		key_error(l, file, i, "'%.100s' beside a %s; keep one of %s and %s", *path, k->name, k->name, file->name);
		return;
	}
	if (!file_is_there(l, file, i, *path, true))
		return;
	buf_fixed(&b, text, sizeof(text));
	buf_fixed(&why, reason, sizeof(reason));
	if (read_head(*path, &b) == -1) {
		key_error(l, file, i, "'%.100s' cannot be read: %s; correct the path, or the file's mode", *path, strerror(errno));
	} else {
		rest = buf_span(&b);
		(void)text_token(&rest, "\n", &line);	/* an empty file has an empty line */
		if (line.len > 0 && line.p[line.len - 1] == '\r')
			line.len--;
		if (line.len == 0)
			key_error(l, file, i, "'%.100s' has nothing in its first line; write the %s there", *path, k->name);
		else if (!k->type->parse(k, line, key_field(l->c, k, i), &why))
			key_error(l, file, i, "'%.100s': the first line cannot be a %s: %s", *path, k->name, buf_str(&why));
	}
	explicit_bzero(text, sizeof(text));
}

static void
check_secrets(struct loader *l)
{
	for (const struct key *k = config_keys; k < config_keys + config_keys_n; k++)
		for (size_t i = 0; k->type == &type_secret && i < section_count(l->c, k->section); i++)
			check_secret(l, k, i);
}

static bool
takes_one_recipient(unsigned used)
{
	return (used & (1u << X_RECIPIENT | 1u << X_USER | 1u << X_DOMAIN)) != 0;
}

/* Whether every client is a user or in a trusted network, so that what is not for our domains has a way, too. */
static bool
relays_for_all(const struct config *c)
{
	const struct key *trusted = key_find(LISTENER, "trusted_networks");

	for (size_t i = 0; i < c->listeners_n; i++)
		if (c->listeners[i].auth == AUTH_OFF && c->listeners[i].trusted_networks.n == 0 && !key_is_bad(c, trusted, i))
			return false;
	return c->relay_command.n > 0 || key_is_bad(c, key_find(RELAY, "command"), 0);
}

static void
check_delivery(struct loader *l)
{
	struct config *c = l->c;
	const struct key *command = key_find(DELIVERY, "command"), *maildir = key_find(DELIVERY, "maildir");
	const struct key *check = key_find(DELIVERY, "recipient_command"), *create = key_find(DELIVERY, "create");
	const struct key *domains = key_find("smtpd", "domains");
	bool relays_only = c->domains.n == 0 && relays_for_all(c);

	if (c->command.n > 0) {
		c->per_recipient = takes_one_recipient(check_command(l, command, 0, &c->command, X_ALL));
		if (*c->maildir != '\0')
			key_error(l, maildir, 0, "'%.100s' beside a command; keep one of command and maildir", c->maildir);
	} else if (*c->maildir == '\0' && !relays_only && !key_is_bad(c, command, 0) && !key_is_bad(c, maildir, 0)) {
		config_error(l, "[" DELIVERY "]: mail has nowhere to go; write command = ... or maildir = /var/mail/%%{domain}/%%{user}");
	}
	if (*c->maildir != '\0')
		(void)check_expansions(l, maildir, 0, c->maildir, 1u << X_DOMAIN | 1u << X_USER);
	else if (c->maildir_create && !key_is_bad(c, maildir, 0))
		key_error(l, create, 0, "'yes' without a maildir; set maildir, or create = no");
	if (c->recipient_command.n > 0)
		(void)check_command(l, check, 0, &c->recipient_command, X_ALL & ~(1u << X_RECIPIENTS));
	check_file(l, key_find(DELIVERY, "recipients_file"), 0, c->recipients_file, false);
	if (c->domains.n > 0 || relays_only || key_is_bad(c, domains, 0))
		return;
	if (c->relay_command.n == 0)
		key_error(l, domains, 0, "'' is no list of domains, so no mail can be taken; write domains = example.com");
	else
		key_error(l, domains, 0, "'' is no list of domains, so strangers can send nothing; write domains = example.com, or give "
		    "each listener auth or trusted_networks");
}

static void
check_relay(struct loader *l)
{
	struct config *c = l->c;
	const struct key *command = key_find(RELAY, "command"), *trusted = key_find(LISTENER, "trusted_networks");
	bool used = false;

	if (c->relay_command.n == 0)
		return;
	c->relay_per_recipient = takes_one_recipient(check_command(l, command, 0, &c->relay_command, X_ALL));
	for (size_t i = 0; i < c->listeners_n; i++)
		used = used || c->listeners[i].auth != AUTH_OFF || c->listeners[i].trusted_networks.n > 0 || key_is_bad(c, trusted, i);
	if (!used)
		key_warning(l, command, 0, "'%.100s' will never run; give a listener auth or trusted_networks", c->relay_command.v[0]);
}

static void
check_tls(struct loader *l)
{
	const struct config *c = l->c;
	const struct key *cert = key_find(TLS, "cert_file"), *key = key_find(TLS, "key_file");
	const struct key *self_signed = key_find(TLS, "self_signed");

	if (c->tls_min_version == TLS_MIN_1_3)
		key_error(l, key_find(TLS, "min_version"), 0, "'1.3': TLS 1.3 is not there yet; write 1.2");
	for (size_t i = 0; i < c->cert_files.n; i++)
		check_file(l, cert, 0, c->cert_files.v[i], false);
	for (size_t i = 0; i < c->key_files.n; i++)
		check_file(l, key, 0, c->key_files.v[i], true);
	if (c->self_signed && c->cert_files.n > 0)
		key_warning(l, self_signed, 0, "'yes' beside a cert_file, which is the one that is used; write no");
	if (c->cert_files.n == c->key_files.n || key_is_bad(c, cert, 0) || key_is_bad(c, key, 0))
		return;
	if (c->key_files.n == 0)
		key_error(l, cert, 0, "'%.100s' has no key_file; name its key there, or the same file if the key is in it", c->cert_files.v[0]);
	else if (c->cert_files.n == 0)
		key_error(l, key, 0, "'%.100s' has no cert_file; name its certificate there", c->key_files.v[0]);
	else
		key_error(l, key, 0, "'%.100s'%s: %zu for %zu certificates; name a key for each, in the same order", c->key_files.v[0],
		    c->key_files.n > 1 ? ", ..." : "", c->key_files.n, c->cert_files.n);
}

/* The sources of users; a token's are its issuers. */
static void
check_logins(struct loader *l)
{
	const struct config *c = l->c;
	const struct key *file = key_find(AUTH, "passwd_file"), *command = key_find(AUTH, "command");

	check_file(l, file, 0, c->passwd_file, true);
	check_file(l, key_find("smtpd", "senders_file"), 0, c->senders_file, false);
	if (c->auth_command.n == 0)
		return;
	(void)check_command(l, command, 0, &c->auth_command, 0);
	if (*c->passwd_file != '\0')
		key_error(l, command, 0, "'%.100s' beside a passwd_file; keep one of command and passwd_file", c->auth_command.v[0]);
}

static void
check_issuers(struct loader *l)
{
	const struct config *c = l->c;
	const struct key *issuer = key_find(OAUTH, "issuer"), *audience = key_find(OAUTH, "audience");
	const struct key *file = key_find(OAUTH, "jwks_file");

	for (size_t i = 0; i < c->issuers_n; i++) {
		const struct issuer *is = &c->issuers[i];

		if (*is->issuer == '\0' && !key_is_bad(c, issuer, i))
			key_error(l, issuer, i, "'' is nobody; write the iss of the tokens, such as https://login.example.com");
		if (is->audience.n == 0 && !key_is_bad(c, audience, i))
			key_error(l, audience, i, "'' would take tokens that are for others; write the aud of yours");
		if (*is->jwks_url != '\0' && *is->jwks_file != '\0')
			key_error(l, file, i, "'%.100s' beside a jwks_url; keep one of jwks_file and jwks_url", is->jwks_file);
		check_file(l, file, i, is->jwks_file, false);
		check_file(l, key_find(OAUTH, "ca_file"), i, is->ca_file, false);
		for (size_t j = 0; j < i; j++) {
			const struct issuer *other = &c->issuers[j];

			if (*is->issuer == '\0' || strcmp(is->issuer, other->issuer) != 0)
				continue;
			key_error(l, issuer, i, "'%.100s' is the issuer of [" OAUTH "%s%s], too; keep one section for it", is->issuer,
			    *other->name == '\0' ? "" : " ", other->name);
		}
	}
}

/* Keys that only one type of checker reads. */
static void
check_checker_keys(struct loader *l, size_t i)
{
	static const struct {
		const char		*key;
		enum checker_type	 type;
	} rows[] = {
		{ "password", CHECKER_RSPAMD }, { "password_file", CHECKER_RSPAMD }, { "settings_id", CHECKER_RSPAMD },
		{ "ca_file", CHECKER_RSPAMD }, { "user", CHECKER_SPAMASSASSIN },
	};
	enum checker_type type = l->c->checkers[i].type;
	const struct key *types = key_find(CHECKER, "type");

	for (size_t r = 0; r < COUNT(rows); r++) {
		const struct key *k = key_find(CHECKER, rows[r].key);
		char *const *value = key_field(l->c, k, i);

		if (rows[r].type != type && **value != '\0' && key_is_given(l->c, k, i))
			key_warning(l, k, i, "it is for type = %s only; take it away", types->choices[rows[r].type]);
	}
}

static void
check_checker(struct loader *l, size_t i)
{
	static const struct {
		const char	*forms;
		bool		(*is_peer)(struct span s);
		uint64_t	 max_size;	/* 0: any message */
	} types[CHECKER__MAX] = {
		[CHECKER_RSPAMD] = { "http://127.0.0.1:11333, https://rspamd.example.com or unix:/run/rspamd.sock", peer_is_http, 0 },
		[CHECKER_SPAMASSASSIN] = { "127.0.0.1:783, [::1]:783, localhost:783 or unix:/run/spamd.sock", peer_is_stream,
		    500 * 1024 },	/* as spamc has it (case 11.42) */
	};
	struct checker *k = &l->c->checkers[i];
	const struct key *url = key_find(CHECKER, "url");

	check_file(l, key_find(CHECKER, "ca_file"), i, k->ca_file, false);
	if (key_is_bad(l->c, key_find(CHECKER, "type"), i))
		return;
	if (!key_is_bad(l->c, url, i) && !types[k->type].is_peer(text_span(k->url)))
		key_error(l, url, i, "'%.100s' is no address of %s; write such as %s", k->url, key_find(CHECKER, "type")->choices[k->type],
		    types[k->type].forms);
	check_checker_keys(l, i);
	if (k->max_size == 0)
		k->max_size = types[k->type].max_size == 0 ? l->c->max_message_size : types[k->type].max_size;
}

static void
check_spam(struct loader *l)
{
	const struct config *c = l->c;
	const struct key *score = key_find(SPAMCHECK, "tempfail_threshold"), *trap = key_find(SPAMTRAP, "controller_url");
	const struct key *mode = key_find(SPAMCHECK, "fail_mode");

	for (size_t i = 0; i < c->checkers_n; i++)
		check_checker(l, i);
	if (c->tempfail_threshold != 0 && c->reject_threshold != 0 && c->tempfail_threshold >= c->reject_threshold)
		key_error(l, score, 0, "'%u' is not below the reject_threshold, %u, so no message would be put off; lower it", c->tempfail_threshold,
		    c->reject_threshold);
	if (c->checkers_n == 1) {	/* case 15.6 */
		enum fail_mode own = c->checkers[0].fail_mode;

		if ((own == FAIL_INHERIT ? c->check_fail_mode : own) == FAIL_OPEN)
			key_warning(l, own == FAIL_INHERIT ? mode : key_find(CHECKER, "fail_mode"), 0,
			    "'open' with one checker lets everything in while that is down; write tempfail, or add a checker");
	}
	if (*c->trap_url != '\0' && c->recipient_rejection == REJECT_AT_RCPT && !key_is_bad(c, key_find("smtpd", "recipient_rejection"), 0))
		key_warning(l, trap, 0, "'%.100s' will learn nothing, for unknown recipients are refused before there is a message; "
		    "set [smtpd] recipient_rejection = data", c->trap_url);
}

static void
check_milters(struct loader *l)
{
	const struct key *address = key_find(MILTER, "address");

	for (size_t i = 0; i < l->c->milters_n; i++)
		if (*l->c->milters[i].address == '\0' && !key_is_bad(l->c, address, i))
			key_error(l, address, i, "'' is nowhere; write such as inet:127.0.0.1:8891 or unix:/run/opendkim.sock");
}

/* What is known at each event: a recipient at RCPT only, the message and all of its recipients at its end only. */
static void
check_hooks(struct loader *l)
{
	static const unsigned known[HOOK__MAX] = {
		[HOOK_CONNECT] = 1u << X_CLIENT_ADDRESS,
		[HOOK_MAIL] = 1u << X_CLIENT_ADDRESS | 1u << X_AUTH_USER | 1u << X_SENDER,
		[HOOK_RCPT] = 1u << X_CLIENT_ADDRESS | 1u << X_AUTH_USER | 1u << X_SENDER | 1u << X_RECIPIENT | 1u << X_USER | 1u << X_DOMAIN,
		[HOOK_MESSAGE] = 1u << X_CLIENT_ADDRESS | 1u << X_AUTH_USER | 1u << X_SENDER | 1u << X_RECIPIENTS | 1u << X_ID,
	};
	const struct key *event = key_find(HOOK, "event"), *command = key_find(HOOK, "command");

	for (size_t i = 0; i < l->c->hooks_n; i++) {
		const struct hook_config *h = &l->c->hooks[i];
		bool is_known = key_is_given(l->c, event, i) && !key_is_bad(l->c, event, i);

		if (!key_is_given(l->c, event, i))
			key_error(l, event, i, "'' is no time to run; write connect, mail, rcpt or message");
		if (h->command.n > 0)
			(void)check_command(l, command, i, &h->command, is_known ? known[h->event] : X_ALL);
		else if (!key_is_bad(l->c, command, i))
			key_error(l, command, i, "'' is no command; write such as /usr/local/lib/smtpd/archive /var/archive");
	}
}

static void
check_address(struct loader *l, size_t i)
{
	const struct config *c = l->c;
	const struct key *address = key_find(LISTENER, "address");
	const struct listener *li = &c->listeners[i];
	struct endpoint a, b;

	for (size_t j = 0; j < i; j++) {
		if (key_is_bad(c, address, i) || key_is_bad(c, address, j) ||
		    !endpoint_parse(text_span(li->address), &a) || !endpoint_parse(text_span(c->listeners[j].address), &b) ||
		    !endpoint_collides(&a, &b))
			continue;
		key_error(l, address, i, "'%s' is taken by [" LISTENER " %s] (%s); choose another address or port",
		    li->address, c->listeners[j].name, c->listeners[j].address);
	}
}

static void
check_metrics(struct loader *l)
{
	static const char *const taken[] = { "/health", "/healthz", "/readyz" };
	const struct key *path = key_find(METRICS, "path"), *address = key_find(METRICS, "address");
	const struct config *c = l->c;
	struct endpoint a, b;

	if (!key_is_bad(c, path, 0)) {
		bool good = *c->metrics_path == '/';

		for (const char *p = c->metrics_path; *p != '\0'; p++)
			good = good && is_vchar(*p) && *p != '?' && *p != '#';
		if (!good)
			key_error(l, path, 0, "'%.100s' is no path of a URL; write such as /metrics", c->metrics_path);
		for (size_t i = 0; i < COUNT(taken); i++)
			if (strcmp(c->metrics_path, taken[i]) == 0)
				key_error(l, path, 0, "'%s' is where others ask for our health; write such as /metrics", c->metrics_path);
	}
	for (size_t i = 0; i < c->listeners_n && c->metrics_enabled && !key_is_bad(c, address, 0); i++)
		if (!key_is_bad(c, key_find(LISTENER, "address"), i) && endpoint_parse(text_span(c->metrics_address), &a) &&
		    endpoint_parse(text_span(c->listeners[i].address), &b) && endpoint_collides(&a, &b))
			key_error(l, address, 0, "'%s' is taken by [" LISTENER " %s] (%s); choose another address or port",
			    c->metrics_address, c->listeners[i].name, c->listeners[i].address);
}

static bool
has_users(const struct config *c)
{
	return *c->passwd_file != '\0' || c->auth_command.n > 0 || c->issuers_n > 0 ||
	    key_is_bad(c, key_find(AUTH, "passwd_file"), 0) || key_is_bad(c, key_find(AUTH, "command"), 0);
}

static bool
has_certificate(const struct config *c)
{
	return c->cert_files.n > 0 || c->self_signed || key_is_bad(c, key_find(TLS, "cert_file"), 0) ||
	    key_is_bad(c, key_find(TLS, "self_signed"), 0);
}

/* From here on auth is what it means. Case 15.6. */
static void
check_login(struct loader *l, size_t i)
{
	static const enum listener_auth auth_by_mode[MODE__MAX] = {
		[MODE_SMTP] = AUTH_OFF, [MODE_SUBMISSION] = AUTH_REQUIRED, [MODE_SMTPS] = AUTH_REQUIRED, [MODE_ALT] = AUTH_OPTIONAL,
	};
	const struct config *c = l->c;
	const struct key *auth = key_find(LISTENER, "auth"), *mode = key_find(LISTENER, "mode");
	struct listener *li = &l->c->listeners[i];
	bool is_written = li->auth != AUTH_BY_MODE, submits = li->mode == MODE_SUBMISSION || li->mode == MODE_SMTPS, is_local;
	struct endpoint e;

	if (!is_written)
		li->auth = auth_by_mode[li->mode];
	if (!is_written && li->auth == AUTH_OPTIONAL && !has_users(c))
		li->auth = AUTH_OFF;
	if (key_is_bad(c, mode, i) || key_is_bad(c, auth, i))
		return;
	is_local = key_is_bad(c, key_find(LISTENER, "address"), i) || !endpoint_parse(text_span(li->address), &e) ||
	    endpoint_is_loopback(&e);

	if (submits && !has_certificate(c))
		key_error(l, mode, i, "'%s' needs a certificate; set [" TLS "] cert_file and key_file, or self_signed = yes",
		    mode->choices[li->mode]);
	if (li->auth != AUTH_OFF && !has_users(c))
		key_error(l, is_written ? auth : mode, i, "'%s' asks for users, and there are none; set [" AUTH "] passwd_file or command, or "
		    "[" OAUTH "], or write auth = off", is_written ? auth->choices[li->auth] : mode->choices[li->mode]);
	else if (is_written && li->auth != AUTH_OFF && li->require_tls && !is_local && !submits && !has_certificate(c))
		key_warning(l, auth, i, "'%s' without a certificate lets in only users on this machine; set [" TLS "] cert_file and key_file",
		    auth->choices[li->auth]);
	if (li->auth == AUTH_REQUIRED && li->mode == MODE_SMTP && c->domains.n > 0 && has_users(c))
		key_warning(l, auth, i, "'required' keeps other servers out, for they do not log in; write optional, or another mode");
	if (li->auth == AUTH_OFF && submits && li->trusted_networks.n == 0)
		key_warning(l, auth, i, "'off': nobody can send here; write required, or set trusted_networks");
}

static void
check_trusted(struct loader *l, size_t i)
{
	const struct key *trusted = key_find(LISTENER, "trusted_networks");
	const struct networks *n = &l->c->listeners[i].trusted_networks;
	char text[64];
	struct buf b;

	for (size_t at = 0; at < n->n; at++) {
		if (!network_is_wide(&n->v[at]))
			continue;
		buf_fixed(&b, text, sizeof(text));
		trusted->type->print(trusted, &(struct networks){ &n->v[at], 1 }, &b);
		key_warning(l, trusted, i, "'%s' trusts strangers to send to any domain; name the networks of your own clients", buf_str(&b));
	}
}

static void
check_listeners(struct loader *l)
{
	for (size_t i = 0; i < l->c->listeners_n; i++) {
		check_address(l, i);
		check_login(l, i);
		check_trusted(l, i);
	}
	if (l->c->listeners_n == 0)
		config_error(l, "[" LISTENER " NAME]: there is no listener; write such as [" LISTENER " mx] and, below it, address = :25");
}

/* As root both users must be there, and the processes that read what strangers write are not to be root. */
static void
check_users(struct loader *l)
{
	const struct key *rows[] = { key_find("smtpd", "user"), key_find(DELIVERY, "user") };
	const char *names[] = { l->c->user, l->c->delivery_user };

	for (size_t i = 0; geteuid() == 0 && i < COUNT(rows); i++) {
		struct child_user u;

		if (key_is_bad(l->c, rows[i], 0) || (i == 1 && *names[i] == '\0'))
			continue;
		if (*names[i] == '\0' || child_user_find(names[i], &u) == -1)
			key_error(l, rows[i], 0, "'%.100s' is no user here, and smtpd is started as root; add the user or name another", names[i]);
		else if (u.uid == 0 && i == 0)
			key_error(l, rows[i], 0, "'%.100s' is root; name an unprivileged user", names[i]);
		else if (u.uid == 0)
			key_warning(l, rows[i], 0, "'%.100s' is root; name an unprivileged user where the command allows it", names[i]);
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

	if (*c->hostname == '\0' && !key_is_bad(c, hostname, 0)) {
		buf_fixed(&b, reason, sizeof(reason));
		if (gethostname(machine, sizeof(machine) - 1) == -1 || *machine == '\0' ||
		    !hostname->type->parse(hostname, text_span(machine), &c->hostname, &b))
			key_error(l, hostname, 0, "the machine's name '%.100s' is no domain name; write hostname = mail.example.com", machine);
	}
	if (*c->spool_dir != '\0') {
		if (stat(c->spool_dir, &st) == -1)
			key_error(l, spool, 0, "'%.100s' cannot be used: %s; make the directory", c->spool_dir, strerror(errno));
		else if (!S_ISDIR(st.st_mode))
			key_error(l, spool, 0, "'%.100s' is no directory; name one", c->spool_dir);
	} else if (c->max_spool_memory < c->max_message_size && !key_is_bad(c, memory, 0) && !key_is_bad(c, size, 0)) {
		buf_fixed(&b, text, sizeof(text));
		size->type->print(size, &c->max_message_size, &b);
		key_error(l, memory, 0, "a message of max_message_size, '%s', has no room in it; raise it, or set [smtpd] spool_dir",
		    buf_str(&b));
	}
	for (size_t i = 0; i < c->listeners_n; i++)
		processes += c->listeners[i].workers;
	if (*c->passwd_file != '\0' || c->auth_command.n > 0)
		processes += c->max_auths;
	if (c->hooks_n > 0)
		processes += PROCESSES_HOOKS;
	if (config_wants_names(c))
		processes += PROCESSES_NAMES;
	if (getrlimit(RLIMIT_NPROC, &rl) == 0 && rl.rlim_cur != RLIM_INFINITY && !key_is_bad(c, deliveries, 0) &&
	    processes + c->max_deliveries > rl.rlim_cur) {	/* case 13.11 */
		key_error(l, deliveries, 0, "'%u' is too many: the system allows %llu processes (ulimit -u), of which smtpd itself "
		    "needs %llu; lower it, or raise that limit", c->max_deliveries, (unsigned long long)rl.rlim_cur,
		    (unsigned long long)processes);
	}
}

void
config_check(struct loader *l)
{
	check_secrets(l);
	check_tls(l);
	check_listeners(l);
	check_delivery(l);
	check_relay(l);
	check_logins(l);
	check_issuers(l);
	check_metrics(l);
	check_spam(l);
	check_milters(l);
	check_hooks(l);
	check_users(l);
	check_system(l);
}
