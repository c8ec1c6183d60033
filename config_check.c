/*
 * config_check.c - what depends on two keys of the configuration, or on the system: programs, files, users, limits.
 */
#include "config_check.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROCESSES_SPARE 8	/* master, agent, Maildir writers, and a reload's */

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
check_expansions(struct loader *l, const struct key *k, const char *word, unsigned allowed)
{
	unsigned used = 0;
	char name[MEANT_MAX + 1];

	for (const char *p = strstr(word, "%{"); p != NULL; p = strstr(p, "%{")) {
		size_t len = 2;
		unsigned x = expansion_at(p, &len), nearest = 0;

		if (x > X__MAX) {
			key_error(l, k, 0, "'%.100s' has no }; write such as %%{recipient}", p);
		} else if (x == X__MAX) {
			if (text_copy(name, sizeof(name), (struct span){ p + 2, len - 3 }) == -1)
				name[0] = '\0';
			for (unsigned i = 0; i < X__MAX; i++)
				if ((allowed & 1u << i) != 0 && ((allowed & 1u << nearest) == 0 ||
				    text_distance(name, expansion_names[i]) < text_distance(name, expansion_names[nearest])))
					nearest = i;
			key_error(l, k, 0, "unknown expansion '%.*s'; did you mean %%{%s}?", ARG(((struct span){ p, len })),
			    expansion_names[nearest]);
		} else if ((allowed & 1u << x) == 0) {
			key_error(l, k, 0, "'%.*s' cannot be used here; see smtpd.conf(5)", ARG(((struct span){ p, len })));
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

	if (strstr(program, "%{") != NULL)
		key_error(l, k, 0, "'%.100s' is the program, which no expansion can name; write its path", program);
	else if (*program != '/' && strchr(program, '/') != NULL)
		key_error(l, k, 0, "'%.100s' is a relative path; write one that begins with /", program);
	else if (*program == '/' ? !is_executable(program) : !is_in_path(l, program))
		key_error(l, k, 0, "'%.100s' cannot be executed: %s; correct the path, or the file's mode", program, strerror(errno));
	for (size_t i = 1; i < w->n; i++) {
		unsigned x = check_expansions(l, k, w->v[i], allowed);
		size_t len = 0;

		if (x != 0 && (strncmp(w->v[i], "%{", 2) != 0 || expansion_at(w->v[i], &len) >= X__MAX || w->v[i][len] != '\0'))
			key_error(l, k, 0, "'%.100s': an expansion is a whole argument; give it one of its own, with blanks around it", w->v[i]);
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
		if (*c->maildir != '\0')
			key_error(l, maildir, 0, "'%.100s' beside a command; keep one of command and maildir", c->maildir);
	} else if (*c->maildir == '\0' && !key_is_bad(c, command, 0) && !key_is_bad(c, maildir, 0)) {
		config_error(l, "[" DELIVERY "]: mail has nowhere to go; write command = ... or maildir = /var/mail/%%{domain}/%%{user}");
	}
	if (*c->maildir != '\0') {
		(void)check_expansions(l, maildir, c->maildir, 1u << X_DOMAIN | 1u << X_USER);
	} else if (c->maildir_create && !key_is_bad(c, maildir, 0)) {
		key_error(l, create, 0, "'yes' without a maildir; set maildir, or create = no");
	}
	if (c->relay_command.n > 0) {
		unsigned used = check_command(l, key_find(RELAY, "command"), &c->relay_command, all);

		c->relay_per_recipient = (used & (1u << X_RECIPIENT | 1u << X_USER | 1u << X_DOMAIN)) != 0;
	}
	if (c->recipient_command.n > 0)
		(void)check_command(l, check, &c->recipient_command, all & ~(1u << X_RECIPIENTS));
	if (*c->recipients_file != '\0') {
		if (stat(c->recipients_file, &st) == -1)
			key_error(l, file, 0, "'%.100s' cannot be read: %s; correct the path", c->recipients_file, strerror(errno));
		else if (S_ISDIR(st.st_mode))
			key_error(l, file, 0, "'%.100s' is a directory; name a file", c->recipients_file);
	}
	if (c->domains.n == 0 && !key_is_bad(c, domains, 0))
		key_error(l, domains, 0, "'' is no list of domains, so no mail can be taken; write domains = example.com");
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
	static const enum listener_auth auth_by_mode[MODE__MAX] = {
		[MODE_SMTP] = AUTH_OFF, [MODE_SUBMISSION] = AUTH_REQUIRED, [MODE_SMTPS] = AUTH_REQUIRED, [MODE_ALT] = AUTH_OPTIONAL,
	};
	struct config *c = l->c;
	const struct key *address = key_find(LISTENER, "address");
	struct endpoint a, b;

	for (size_t i = 0; i < c->listeners_n; i++) {
		struct listener *li = &c->listeners[i];

		if (li->auth == AUTH_BY_MODE)
			li->auth = auth_by_mode[li->mode];
		for (size_t j = 0; j < i; j++) {
			if (key_is_bad(c, address, i) || key_is_bad(c, address, j) ||
			    !endpoint_parse(text_span(li->address), &a) || !endpoint_parse(text_span(c->listeners[j].address), &b) ||
			    !endpoints_collide(&a, &b))
				continue;
			key_error(l, address, i, "'%s' is taken by [" LISTENER " %s] (%s); choose another address or port",
			    li->address, c->listeners[j].name, c->listeners[j].address);
		}
	}
	if (c->listeners_n == 0)
		config_error(l, "[" LISTENER " NAME]: there is no listener; write such as [" LISTENER " mx] and, below it, address = :25");
}

/* As root both users must be there, and the processes that read what strangers write are not to be root. */
static void
check_users(struct loader *l)
{
	const struct key *rows[] = { key_find("smtpd", "user"), key_find(DELIVERY, "user") };
	const char *names[] = { l->c->user, l->c->delivery_user };

	for (size_t i = 0; geteuid() == 0 && i < COUNT(rows); i++) {
		const struct passwd *pw;

		if (key_is_bad(l->c, rows[i], 0) || (i == 1 && *names[i] == '\0'))
			continue;
		pw = *names[i] == '\0' ? NULL : getpwnam(names[i]);
		if (pw == NULL)
			key_error(l, rows[i], 0, "'%.100s' is no user here, and smtpd is started as root; add the user or name another", names[i]);
		else if (pw->pw_uid == 0 && i == 0)
			key_error(l, rows[i], 0, "'%.100s' is root; name an unprivileged user", names[i]);
		else if (pw->pw_uid == 0)
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
	check_listeners(l);
	check_delivery(l);
	check_users(l);
	check_system(l);
}
