/*
 * config_keys.c - the table of keys and the sections that they are in: the only place that knows them.
 *
 * The parser, smtpd -T, the sample file and the tests of the papers go through it.
 */
#include "config_keys.h"

static const char *const levels[] = {
	[LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARN] = "warn", [LOG_ERROR] = "error", [LOG_LEVEL__MAX] = NULL
};
static const char *const formats[] = { [LOG_LOGFMT] = "logfmt", [LOG_JSON] = "json", [LOG_FORMAT__MAX] = NULL };
static const char *const rejections[] = { [REJECT_AT_RCPT] = "rcpt", [REJECT_AT_DATA] = "data", [REJECT__MAX] = NULL };
static const char *const newlines[] = { [NEWLINE_REJECT] = "reject", [NEWLINE_NORMALIZE] = "normalize", [NEWLINE__MAX] = NULL };
static const char *const modes[] = {
	[MODE_SMTP] = "smtp", [MODE_SUBMISSION] = "submission", [MODE_SMTPS] = "smtps", [MODE_ALT] = "alt", [MODE__MAX] = NULL
};

static const char *const auths[] = {
	[AUTH_BY_MODE] = "", [AUTH_OFF] = "off", [AUTH_OPTIONAL] = "optional", [AUTH_REQUIRED] = "required", [AUTH__MAX] = NULL
};
static const char *const sender_checks[] = {
	[SENDER_EXACT] = "exact", [SENDER_DOMAIN] = "domain", [SENDER_OFF] = "off", [SENDER__MAX] = NULL
};
static const char *const tls_versions[] = {
	[TLS_MIN_1_0] = "1.0", [TLS_MIN_1_1] = "1.1", [TLS_MIN_1_2] = "1.2", [TLS_MIN_1_3] = "1.3", [TLS_MIN__MAX] = NULL
};

static const char *const checkers[] = { [CHECKER_RSPAMD] = "rspamd", [CHECKER_SPAMASSASSIN] = "spamassassin", [CHECKER__MAX] = NULL };
static const char *const check_modes[] = {
	[CHECK_FIRST_REJECT] = "first_reject", [CHECK_ALL_REJECT] = "all_reject", [CHECK_HIGHEST_SCORE] = "highest_score", [CHECK__MAX] = NULL
};
static const char *const fail_modes[] = {
	[FAIL_INHERIT] = "", [FAIL_OPEN] = "open", [FAIL_TEMPFAIL] = "tempfail", [FAIL_REJECT] = "reject", [FAIL__MAX] = NULL
};
static const char *const milter_defaults[] = {
	[MILTER_TEMPFAIL] = "tempfail", [MILTER_ACCEPT] = "accept", [MILTER_REJECT] = "reject", [MILTER_DEFAULT__MAX] = NULL
};
static const char *const set_asides[] = { [ASIDE_REJECT] = "reject", [ASIDE_FLAG] = "flag", [ASIDE__MAX] = NULL };
static const char *const oversizes[] = { [OVERSIZE_ACCEPT] = "accept", [OVERSIZE_TEMPFAIL] = "tempfail", [OVERSIZE__MAX] = NULL };
static const char *const hook_events[] = {
	[HOOK_CONNECT] = "connect", [HOOK_MAIL] = "mail", [HOOK_RCPT] = "rcpt", [HOOK_MESSAGE] = "message", [HOOK__MAX] = NULL
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

/* A secret and its twin, the file whose first line it is. */
#define K_SECRET(s, sec, key, f, help) \
	K(s, sec, key, secret, f, char *, "", 0, 0, NULL, "#secret", help), \
	K(s, sec, key "_file", path, f##_file, char *, "", 0, 0, NULL, "#/etc/smtpd/rspamd.password", "A file with it as its first line, instead.")

_Static_assert(sizeof(enum log_level) == sizeof(unsigned) && sizeof(enum log_format) == sizeof(unsigned) &&
    sizeof(enum rcpt_rejection) == sizeof(unsigned) && sizeof(enum listener_mode) == sizeof(unsigned) &&
    sizeof(enum bare_newline) == sizeof(unsigned) && sizeof(enum listener_auth) == sizeof(unsigned) &&
    sizeof(enum sender_check) == sizeof(unsigned) && sizeof(enum tls_min) == sizeof(unsigned) &&
    sizeof(enum checker_type) == sizeof(unsigned) && sizeof(enum check_mode) == sizeof(unsigned) &&
    sizeof(enum fail_mode) == sizeof(unsigned) && sizeof(enum milter_default) == sizeof(unsigned) &&
    sizeof(enum set_aside) == sizeof(unsigned) && sizeof(enum oversize) == sizeof(unsigned) &&
    sizeof(enum hook_event) == sizeof(unsigned),
    "enumerations are stored as unsigned");

#define KIB UINT64_C(1024)

const struct key config_keys[] = {
	K_STRING("server", "hostname", hostname, hostname, "", "#mail.example.com",
	    "The name in the greeting and in Received fields. Empty: the machine's name."),

	K_WORDS(TLS, "cert_file", paths, cert_files, "#/etc/ssl/mail.pem",
	    "Certificate chains, PEM, with commas between; which one is chosen by the name that a client asks for, else the first."),
	K_WORDS(TLS, "key_file", paths, key_files, "#/etc/ssl/mail.key", "The key of each, in the same order."),
	K_ENUM(TLS, "min_version", tls_min_version, enum tls_min, "1.2", tls_versions, "The oldest version of TLS taken."),
	K(config, TLS, "self_signed", bool, self_signed, bool, "no", 0, 0, NULL, "yes",
	    "Make a certificate for the hostname at each start, where there is no cert_file."),

	K_ENUM("smtpd", "log_level", log_level, enum log_level, "info", levels, "The least level that is logged."),
	K_ENUM("smtpd", "log_format", log_format, enum log_format, "logfmt", formats, "How log lines are written, on standard error."),
	K_BOOL("smtpd", "log_transactions", log_transactions, "Log every line sent and received."),
	K_STRING("smtpd", "user", user, user, "smtpd", NULL, "Whom the processes run as, when started as root."),
	K_STRING("smtpd", "spool_dir", path, spool_dir, "", "#/var/spool/smtpd",
	    "Where messages in flight are kept. Empty: in memory."),
	K_WORDS("smtpd", "domains", domains, domains, "example.com, example.org", "Mail for these is taken from anyone."),
	K_ENUM("smtpd", "recipient_rejection", recipient_rejection, enum rcpt_rejection, "rcpt", rejections,
	    "When an unknown recipient is refused."),
	K_ENUM("smtpd", "sender_check", sender_check, enum sender_check, "exact", sender_checks,
	    "As whom users may send: their own addresses, any of their domain, or (off) anyone."),
	K_STRING("smtpd", "senders_file", path, senders_file, "", "#/etc/smtpd/senders",
	    "More addresses of users: \"user address address ...\" a line."),
	K(config, "smtpd", "client_names", bool, client_names, bool, "yes", 0, 0, NULL, NULL,
	    "Whether checkers and milters are told clients' names, which are looked up by DNS."),

	K(listener, LISTENER, "address", address, address, char *, ":25", 0, 0, NULL, ":25",
	    "Where to listen: :25 (IPv4 and IPv6), 192.0.2.1:25 or [2001:db8::1]:25."),
	K(listener, LISTENER, "mode", enum, mode, enum listener_mode, "smtp", 0, 0, modes, NULL, "What the listener is for."),
	K(listener, LISTENER, "workers", number, workers, unsigned, "1", 1, CONFIG_WORKERS_MAX, NULL, NULL,
	    "Processes that serve its clients."),
	K(listener, LISTENER, "bare_newline", enum, bare_newline, enum bare_newline, "reject", 0, 0, newlines, NULL,
	    "What to do with a line that ends in a bare CR or LF."),
	K(listener, LISTENER, "auth", enum, auth, enum listener_auth, "", 0, 0, auths, "#required",
	    "Whether clients log in. Empty: by mode, smtp off, alt optional, submission and smtps required."),
	K(listener, LISTENER, "require_tls", bool, require_tls, bool, "yes", 0, 0, NULL, NULL,
	    "Whether mode submission takes mail over TLS only. Clients on this machine may without."),
	K(listener, LISTENER, "trusted_networks", networks, trusted_networks, struct networks, "", 0, 0, NULL, "#10.0.0.0/8, fd00::/8",
	    "Clients from here may send to any domain without logging in."),

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
	K(config, DELIVERY, "recipient_cache", time, recipient_cache_ms, int64_t, "1m", 0, 60 * 60 * 1000, NULL, NULL,
	    "How long its answers count. 0s: it is asked each time."),

	K_WORDS(RELAY, "command", command, relay_command, "#/usr/bin/msmtp -f %{sender} -- %{recipients}",
	    "The command that takes mail of users and trusted networks to all other domains."),

	K_STRING(AUTH, "passwd_file", path, passwd_file, "", "#/etc/smtpd/passwd", "Users and their passwords: \"user:hash\" a line."),
	K_WORDS(AUTH, "command", command, auth_command, "#/usr/local/bin/checkpassword /bin/true",
	    "A checkpassword command, which is asked instead."),

	K(issuer, OAUTH, "issuer", url, issuer, char *, "", 0, 0, NULL, "#https://login.example.com", "Who signs the tokens: their iss."),
	K(issuer, OAUTH, "jwks_url", url, jwks_url, char *, "", 0, 0, NULL, "#https://login.example.com/keys",
	    "Where its keys are. Empty: found by OpenID discovery from issuer."),
	K(issuer, OAUTH, "jwks_file", path, jwks_file, char *, "", 0, 0, NULL, "#/etc/smtpd/jwks.json",
	    "Its keys, instead of fetching them."),
	K(issuer, OAUTH, "ca_file", path, ca_file, char *, "", 0, 0, NULL, "#/etc/smtpd/ca.pem",
	    "Whom to trust when fetching. Empty: the system's certificates."),
	K(issuer, OAUTH, "audience", texts, audience, struct words, "", 0, 0, NULL, "#mail",
	    "For whom a token has to be: its aud, one of these, with commas between."),
	K(issuer, OAUTH, "username_claim", word, username_claim, char *, "email", 1, 0, NULL, NULL,
	    "The claim that names the user; dots lead into objects."),
	K(issuer, OAUTH, "required_scope", word, required_scope, char *, "", 0, 0, NULL, "#smtp", "A scope that tokens need."),
	K(issuer, OAUTH, "allowed_domains", domains, allowed_domains, struct words, "", 0, 0, NULL, "#example.com",
	    "Whose users may log in by it. Empty: those of any domain."),
	K(issuer, OAUTH, "jwks_refresh_interval", time, jwks_refresh_ms, int64_t, "1h", 60 * 1000, 24 * 3600 * 1000, NULL, NULL,
	    "How often keys are fetched."),
	K(issuer, OAUTH, "leeway", time, leeway_ms, int64_t, "60s", 0, 10 * 60 * 1000, NULL, NULL,
	    "How far its clock may be from ours."),

	K_ENUM(SPAMCHECK, "mode", check_mode, enum check_mode, "first_reject", check_modes,
	    "How the checkers' verdicts become one: the first that refuses, all of them, or the highest score."),
	K(config, SPAMCHECK, "fail_mode", enum, check_fail_mode, enum fail_mode, "tempfail", FAIL_OPEN, 0, fail_modes, NULL,
	    "What becomes of a message when no checker can be asked."),
	K_NUMBER(SPAMCHECK, "reject_threshold", reject_threshold, "0", 0, 10000,
	    "The score from which on a message is refused. 0: only if a checker itself says so."),
	K_NUMBER(SPAMCHECK, "tempfail_threshold", tempfail_threshold, "0", 0, 10000,
	    "The score from which on a message is put off. 0: only if a checker itself says so."),
	K(config, SPAMCHECK, "add_headers", bool, check_add_headers, bool, "yes", 0, 0, NULL, NULL,
	    "Add X-Spam-Status, -Score, -Flag and -Checker, and take away those that are there."),

	K(checker, CHECKER, "type", enum, type, enum checker_type, "rspamd", 0, 0, checkers, NULL, "What it is."),
	K(checker, CHECKER, "url", word, url, char *, "", 0, 0, NULL, "#http://127.0.0.1:11333",
	    "Where it is: rspamd by http://, https:// or unix:/path; spamassassin by 127.0.0.1:783 or unix:/path."),
	K(checker, CHECKER, "timeout", time, timeout_ms, int64_t, "10s", 100, 2 * 60 * 1000, NULL, NULL, "How long a check may take."),
	K(checker, CHECKER, "fail_mode", enum, fail_mode, enum fail_mode, "", FAIL_INHERIT, 0, fail_modes, "#open",
	    "What becomes of a message when it cannot be asked, and no other has a word. Empty: as [spamcheck]."),
	K(checker, CHECKER, "max_checks", number, max_checks, unsigned, "50", 1, 1000, NULL, NULL, "Checks at once; further ones wait, as long as timeout says."),
	K(checker, CHECKER, "max_size", size, max_size, uint64_t, "0", 0, 2 * KIB * KIB * KIB, NULL, NULL,
	    "Larger messages are not shown to it. 0: rspamd sees all, spamassassin those of up to 500k."),
	K(checker, CHECKER, "oversize", enum, oversize, enum oversize, "accept", 0, 0, oversizes, NULL,
	    "What becomes of a message that is not shown to it."),
	K_SECRET(checker, CHECKER, "password", password, "The password of rspamd."),
	K(checker, CHECKER, "settings_id", word, settings_id, char *, "", 0, 0, NULL, "#smtpd", "The settings of rspamd that apply."),
	K(checker, CHECKER, "ca_file", path, ca_file, char *, "", 0, 0, NULL, "#/etc/smtpd/ca.pem",
	    "Whom to trust with https. Empty: the system's certificates."),
	K(checker, CHECKER, "user", word, user, char *, "", 0, 0, NULL, "#nobody", "As whom spamassassin checks. Empty: as it likes."),
	K(checker, CHECKER, "discard", bool, discard, bool, "no", 0, 0, NULL, NULL,
	    "Take a message that it wants to vanish, and throw it away; else it is refused."),
	K(checker, CHECKER, "quarantine", enum, quarantine, enum set_aside, "flag", 0, 0, set_asides, NULL,
	    "What becomes of a message that it wants set aside."),

	K(milter_config, MILTER, "address", milter, address, char *, "", 0, 0, NULL, "#inet:127.0.0.1:8891",
	    "Where it is: inet:127.0.0.1:8891, inet6:[::1]:8891 or unix:/path."),
	K(milter_config, MILTER, "default_action", enum, default_action, enum milter_default, "tempfail", 0, 0, milter_defaults, NULL,
	    "What becomes of a message when it cannot be asked."),
	K(milter_config, MILTER, "connect_timeout", time, connect_ms, int64_t, "30s", 100, 10 * 60 * 1000, NULL, NULL,
	    "How long connecting and agreeing on a version may take."),
	K(milter_config, MILTER, "command_timeout", time, command_ms, int64_t, "30s", 100, 10 * 60 * 1000, NULL, NULL,
	    "How long an answer to a command may take."),
	K(milter_config, MILTER, "content_timeout", time, content_ms, int64_t, "5m", 100, 10 * 60 * 1000, NULL, NULL,
	    "How long an answer to a header field, the body or its end may take."),
	K(milter_config, MILTER, "max_checks", number, max_checks, unsigned, "50", 1, 1000, NULL, NULL, "Checks at once; further ones wait, as long as command_timeout says."),
	K(milter_config, MILTER, "envelope", bool, envelope, bool, "no", 0, 0, NULL, NULL, "Whether it may change the sender and recipients."),
	K(milter_config, MILTER, "discard", bool, discard, bool, "no", 0, 0, NULL, NULL,
	    "Take a message that it wants to vanish, and throw it away; else it is refused."),
	K(milter_config, MILTER, "quarantine", enum, quarantine, enum set_aside, "reject", 0, 0, set_asides, NULL,
	    "What becomes of a message that it wants set aside."),

	K(hook_config, HOOK, "event", enum, event, enum hook_event, "message", 0, 0, hook_events, "#message", "When it runs."),
	K(hook_config, HOOK, "command", command, command, struct words, "", 0, 0, NULL, "#/usr/local/lib/smtpd/archive /var/archive",
	    "The command; its exit status is the verdict."),
	K(hook_config, HOOK, "timeout", time, timeout_ms, int64_t, "30s", 100, 10 * 60 * 1000, NULL, NULL, "How long it may take."),

	K_STRING(SPAMTRAP, "controller_url", service, trap_url, "", "#http://127.0.0.1:11334",
	    "The rspamd controller that learns spam from messages to unknown recipients; needs recipient_rejection = data."),
	K_SECRET(config, SPAMTRAP, "password", trap_password, "The password of the controller."),
	K_NUMBER(SPAMTRAP, "max_learns_per_ip_per_hour", trap_max_per_ip, "10", 1, 10000, "Messages learned of one client's address, or IPv6 /64, in an hour."),

	K_BOOL(METRICS, "enabled", metrics_enabled, "Whether Prometheus is served, and whoever asks whether we are alive and ready."),
	K_STRING(METRICS, "address", address, metrics_address, "127.0.0.1:9100", NULL, "Where to listen for it, by HTTP."),
	K_STRING(METRICS, "path", path, metrics_path, "/metrics", NULL,
	    "Where the metrics are, beside /health, /healthz (alive) and /readyz (ready)."),

	K_SIZE(LIMITS, "max_message_size", max_message_size, "25m", KIB, 2 * KIB * KIB * KIB,
	    "The largest message taken, announced by SIZE (RFC 1870)."),
	K_NUMBER(LIMITS, "max_recipients", max_recipients, "100", 1, 10000, "Recipients of one message."),
	K_NUMBER(LIMITS, "max_connections", max_connections, "1000", 1, 100000, "Clients at once."),
	K_NUMBER(LIMITS, "max_errors", max_errors, "20", 1, 1000, "Error replies to one client before it is closed."),
	K_NUMBER(LIMITS, "max_deliveries", max_deliveries, "20", 1, 10000, "Delivery commands at work at once."),
	K_NUMBER(LIMITS, "max_auth_failures", max_auth_failures, "3", 1, 100, "Failed logins of one client before it is closed."),
	K_NUMBER(LIMITS, "max_auths", max_auths, "4", 1, 64, "Passwords checked at once."),
	K_NUMBER(LIMITS, "auth_failures_per_ip", auth_failures_per_ip, "20", 0, 1000000,
	    "Failed logins from one address in 5 minutes before it is kept out for 15. 0: any number."),
	K_SIZE(LIMITS, "max_header_size", max_header_size, "256k", 4 * KIB, 16 * KIB * KIB, "All header fields of a message."),
	K_SIZE(LIMITS, "max_spool_memory", max_spool_memory, "256m", 64 * KIB, 1024 * KIB * KIB * KIB,
	    "Memory for all messages in flight, where spool_dir is empty."),

	K_TIME(TIMEOUTS, "connection", connection_ms, "5m", 100, 24 * 3600 * 1000, "How long a client may be idle between commands."),
	K_TIME(TIMEOUTS, "command", command_ms, "1m", 100, 3600 * 1000,
	    "How long one command line, or a pause inside a message, may take."),
	K_TIME(TIMEOUTS, "delivery", delivery_ms, "2m", 100, 10 * 60 * 1000,
	    "How long a delivery may take. Clients wait 10 minutes (RFC 5321 4.5.3.2.6)."),
	K_TIME(TIMEOUTS, "handshake", handshake_ms, "1m", 100, 3600 * 1000, "How long a handshake of TLS may take."),
	K_TIME(TIMEOUTS, "auth", auth_ms, "30s", 100, 10 * 60 * 1000, "How long the check of a password or token may take."),
	K_TIME(TIMEOUTS, "shutdown", shutdown_ms, "30s", 0, 3600 * 1000, "How long sessions may go on after a request to stop."),
};

const size_t config_keys_n = COUNT(config_keys);

const struct group config_groups[] = {
#define GROUP(sec, what, example, T, f) \
	{ sec, what, example, FIELD(config, f[0], struct T), FIELD(config, f##_n, size_t), sizeof(struct T), \
	    COUNT(((struct config *)0)->f) }
	GROUP(LISTENER, "listener", "mx", listener, listeners),
	GROUP(OAUTH, "issuer", NULL, issuer, issuers),
	GROUP(CHECKER, "checker", "rspamd", checker, checkers),
	GROUP(MILTER, "milter", "opendkim", milter_config, milters),
	GROUP(HOOK, "hook", "archive", hook_config, hooks),
};

const size_t config_groups_n = COUNT(config_groups);

_Static_assert(CONFIG_LISTENERS_MAX <= GROUP_MAX && CONFIG_ISSUERS_MAX <= GROUP_MAX && CONFIG_CHECKERS_MAX <= GROUP_MAX &&
    CONFIG_MILTERS_MAX <= GROUP_MAX && CONFIG_HOOKS_MAX <= GROUP_MAX, "origins have room");
_Static_assert(offsetof(struct listener, name) == 0 && offsetof(struct issuer, name) == 0 && offsetof(struct checker, name) == 0 &&
    offsetof(struct milter_config, name) == 0 && offsetof(struct hook_config, name) == 0, "an element begins with its name");

const struct key *
key_find(const char *section, const char *name)
{
	for (const struct key *k = config_keys; k < config_keys + COUNT(config_keys); k++)
		if (strcmp(k->section, section) == 0 && strcmp(k->name, name) == 0)
			return k;
	return NULL;
}

void *
key_field(const struct config *c, const struct key *k, size_t i)
{
	const struct group *g = group_find(k->section);

	return (g == NULL ? (char *)(uintptr_t)c : group_element(c, g, i)) + k->offset;
}

const struct group *
group_find(const char *section)
{
	for (const struct group *g = config_groups; g < config_groups + COUNT(config_groups); g++)
		if (strcmp(g->section, section) == 0)
			return g;
	return NULL;
}

size_t *
group_n(const struct config *c, const struct group *g)
{
	return (size_t *)((char *)(uintptr_t)c + g->n_offset);
}

char *
group_element(const struct config *c, const struct group *g, size_t i)
{
	return (char *)(uintptr_t)c + g->offset + i * g->size;
}

const char *
section_next(const char *s)
{
	const struct key *k = config_keys;

	if (s == NULL)
		return config_keys[0].section;
	while (strcmp(k->section, s) != 0)
		k++;
	while (k < config_keys + COUNT(config_keys) && strcmp(k->section, s) == 0)
		k++;
	return k < config_keys + COUNT(config_keys) ? k->section : NULL;
}

size_t
section_count(const struct config *c, const char *section)
{
	const struct group *g = group_find(section);

	return g == NULL ? 1 : *group_n(c, g);
}

const char *
section_name(const struct config *c, const char *section, size_t i)
{
	const struct group *g = group_find(section);

	return g == NULL ? "" : group_element(c, g, i);
}
