/*
 * test_config.c - the configuration: words, values, every error with its place, precedence, printing, and the papers beside it.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config_address.h"
#include "config_keys.h"
#include "hook.h"
#include "names.h"
#include "paper.h"
#include "policy.h"

#define ERRORS_MAX 65536
#define A70 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define OUT_MAX (256 * 1024)

#undef LISTENER		/* here they are sections with their keys */
#undef DELIVERY
/* nobody: as root, the users have to exist */
#define SMTPD "[smtpd]\nuser = nobody\ndomains = example.com\n"
#define LISTENER "[smtpd.listener mx]\naddress = 127.0.0.1:0\n"
#define DELIVERY "[smtpd.delivery]\nmaildir = /tmp/%{user}\n"
#define BASE SMTPD LISTENER DELIVERY	/* seven lines */
#define ISSUER "[smtpd.auth.oauth]\nissuer = https://i.example\naudience = a\n"
#define CHECKED "[spamcheck.checker r]\nurl = http://127.0.0.1:11333\n"
#define HOOKED "[smtpd.hook h]\ncommand = /bin/sh\nevent = "
#define LAN "[smtpd.listener mx]\naddress = 192.0.2.1:0\n"

static char path[] = "/tmp/test_config.XXXXXX";	/* the folder of this test's file */
static char file[64];				/* path/c */
static char errors[ERRORS_MAX + 1];		/* of the last load(), with path taken away: "c:3: ..." */

static void
write_file(struct span text)
{
	FILE *f = fopen(file, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(text.p, 1, text.len, f), text.len);
	assert_int_equal(fclose(f), 0);
}

static struct config *
load_as(const char *name, char *const *env, const char *const *flags, size_t flags_n)
{
	struct buf b;
	struct config *c;

	buf_init(&b, ERRORS_MAX);
	c = config_load(name, env, flags, flags_n, &b);
	assert_false(b.failed);
	errors[0] = '\0';
	for (size_t at = b.rpos; at < b.wpos; at++) {	/* without the folder, which is another each time */
		size_t n = strlen(path) + 1;

		if (b.wpos - at > n && memcmp(b.data + at, path, n - 1) == 0)
			at += n;
		strncat(errors, b.data + at, 1);
	}
	buf_clear(&b);
	return c;
}

static struct config *
load(struct span text)
{
	write_file(text);
	return load_as(file, NULL, NULL, 0);
}

/* It loads, and nothing is said. */
static struct config *
load_good(const char *text)
{
	struct config *c;

	print_message("%s\n", text);
	c = load(text_span(text));
	assert_string_equal(errors, "");
	assert_non_null(c);
	return c;
}

static void
print_to(const struct config *c, char *out)
{
	FILE *f = fmemopen(out, OUT_MAX, "w");

	assert_non_null(f);
	assert_int_equal(config_print(c, f), 0);
	assert_int_equal(fclose(f), 0);
}

/* What -T says without where it comes from: each line up to its " ;". */
static void
without_origins(char *out)
{
	char *to = out;
	bool skip = false;

	for (const char *p = out; *p != '\0'; p++) {
		if (*p == '\n')
			skip = false;
		else if (p[0] == ' ' && p[1] == ';')
			skip = true;
		if (!skip)
			*to++ = *p;
	}
	*to = '\0';
}

static void
assert_one_error(const char *want)
{
	size_t n = strlen(want);

	assert_string_not_equal(errors, "");
	if (n > 3 && strcmp(want + n - 3, "...") == 0) {
		if (strncmp(errors, want, n - 3) != 0)
			assert_string_equal(errors, want);
	} else {
		assert_int_equal(errors[strlen(errors) - 1], '\n');
		errors[strlen(errors) - 1] = '\0';
		assert_string_equal(errors, want);
		strcat(errors, "\n");
	}
	assert_ptr_equal(strchr(errors, '\n'), errors + strlen(errors) - 1);
}

static void
words(void **state)
{
	static const struct {
		const char	*in, *out;	/* out: each word in <>; NULL: refused, with this in why */
		const char	*why;
	} rows[] = {
		{ "", "", NULL },
		{ " \t ", "", NULL },
		{ "a", "<a>", NULL },
		{ " a  b\tc ", "<a><b><c>", NULL },
		{ "''", "<>", NULL },
		{ "\"\" ''", "<><>", NULL },
		{ "a'b c'd", "<ab cd>", NULL },
		{ "'a\"b'", "<a\"b>", NULL },
		{ "\"a'b\"", "<a'b>", NULL },
		{ "a\\ b", "<a b>", NULL },
		{ "\\\\ \\' \\\"", "<\\><'><\">", NULL },
		{ "'a\\b'", "<a\\b>", NULL },
		{ "\"a\\b\\$\\`\\\"\\\\\"", "<a\\b$`\"\\>", NULL },
		{ "a\\\nb \"c\\\nd\" 'e\\\nf'", "<ab><cd><e\\\nf>", NULL },
		{ "$HOME `id` a|b > c & *", "<$HOME><`id`><a|b><>><c><&><*>", NULL },
		{ "'a", NULL, "not closed" },
		{ "\"a", NULL, "not closed" },
		{ "\"a\\\"", NULL, "not closed" },
		{ "a\\", NULL, "backslash" },
		{ "\"a\\", NULL, "backslash" },
	};
	char got[256], many[1100];
	struct words w;
	const char *why;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		print_message("%s\n", rows[i].in);
		if (rows[i].out == NULL) {
			assert_int_equal(words_split(&w, text_span(rows[i].in), &why), -1);
			assert_non_null(strstr(why, rows[i].why));
			assert_null(w.v);
			continue;
		}
		assert_int_equal(words_split(&w, text_span(rows[i].in), &why), 0);
		got[0] = '\0';
		for (size_t n = 0; n < w.n; n++)
			snprintf(got + strlen(got), sizeof(got) - strlen(got), "<%s>", w.v[n]);
		assert_null(w.v[w.n]);
		assert_string_equal(got, rows[i].out);
		words_free(&w);
		assert_null(w.v);
	}
	assert_int_equal(words_split(&w, SPAN("a\0b"), &why), -1);
	for (size_t i = 0; i < 257; i++)
		memcpy(many + 2 * i, "a ", 2);
	assert_int_equal(words_split(&w, (struct span){ many, 2 * 256 }, &why), 0);
	assert_int_equal(w.n, 256);
	words_free(&w);
	assert_int_equal(words_split(&w, (struct span){ many, 2 * 257 }, &why), -1);
}

static void
every_field(void **state)
{
	struct config *c = load_good("[server]\nhostname = MX.Example.com.\nother = 1\n"
	    "[smtpd]\nlog_level = warn\nlog_format = json\nlog_transactions = yes\nuser = nobody\nspool_dir = /tmp\n"
	    "domains = Example.COM , b.example,example.com\nrecipient_rejection = data\n"
	    "[smtpd.listener mx]\naddress = :2525\nmode = alt\nworkers = 3\nbare_newline = normalize\n"
	    "[smtpd.listener lo-2]\naddress = [::1]:26 ; a comment\n"
	    "[smtpd.delivery]\ncommand = /bin/sh -c 'a b' %{recipient} \"%{sender}\"\nuser = nobody\n"
	    "recipients_file = /etc/passwd\nrecipient_command = sh %{user} %{domain}\n"
	    "[smtpd.limits]\nmax_message_size = 1g\nmax_recipients = 7\nmax_connections = 8\nmax_errors = 9\nmax_deliveries = 10\n"
	    "max_spool_memory = 65536\nmax_auth_failures = 11\nmax_auths = 12\nauth_failures_per_ip = 0\nmax_header_size = 4k\n"
	    "[smtpd.timeouts]\nconnection = 1d\ncommand = 1500ms\ndelivery = 9m\nshutdown = 0s\nhandshake = 2m\nauth = 3s\n"
	    "[server.tls]\ncert_file = /etc/passwd, /etc/group\nkey_file = /dev/null,/dev/null\nmin_version = 1.1\nself_signed = no\n"
	    "[smtpd]\nsender_check = domain\nsenders_file = /etc/passwd\nclient_names = no\n"
	    "[smtpd.listener mx]\nauth = required\nrequire_tls = yes\ntrusted_networks = 192.0.2.1, fd00::/8\n"
	    "[smtpd.relay]\ncommand = sh %{user}\n"
	    "[smtpd.auth]\npasswd_file = /dev/null\n"
	    "[smtpd.auth.oauth]\nissuer = https://login.example.com\naudience = mail , other one\njwks_url = http://[::1]:80/keys\n"
	    "ca_file = /etc/passwd\nusername_claim = realm.user\nrequired_scope = smtp\nallowed_domains = EXAMPLE.com,b.example\n"
	    "jwks_refresh_interval = 1m\nleeway = 0s\n"
	    "[smtpd.auth.oauth two]\nissuer = https://two.example\naudience = a\njwks_file = /etc/passwd\n"
	    "[smtpd.metrics]\nenabled = yes\naddress = :9200\npath = /a/b\n"
	    "[spamcheck]\nmode = highest_score\nfail_mode = reject\nreject_threshold = 10000\ntempfail_threshold = 9999\nadd_headers = no\n"
	    "[spamcheck]\nother = x\n[spamcheck.checker one]\nurl = https://r.example:11333/base\ntimeout = 2m\nfail_mode = open\n"
	    "max_checks = 1000\nmax_size = 1k\npassword = p w\nsettings_id = s\nca_file = /etc/passwd\noversize = tempfail\ndiscard = yes\nquarantine = reject\n"
	    "[spamcheck.checker two]\nurl = unix:/run/spamd.sock\ntype = spamassassin\nuser = u\n"
	    "[smtpd.milter m]\naddress = inet6:[::1]:8891\ndefault_action = accept\nconnect_timeout = 1s\ncommand_timeout = 2s\n"
	    "content_timeout = 3s\nenvelope = yes\ndiscard = yes\nquarantine = flag\n[smtpd.milter n]\naddress = unix:/n\n"
	    "[smtpd.hook h]\nevent = rcpt\ncommand = /bin/sh %{recipient} %{sender}\ntimeout = 4s\n[smtpd.hook i]\nevent = connect\ncommand = sh\n"
	    "[smtpd.spamtrap]\ncontroller_url = http://127.0.0.1:11334\npassword = q\nmax_learns_per_ip_per_hour = 5\n");
	const struct checker *k = c->checkers;
	const struct milter_config *m = c->milters;
	const struct hook_config *h = c->hooks;

	(void)state;
	assert_string_equal(c->hostname, "mx.example.com");
	assert_int_equal(c->log_level, LOG_WARN);
	assert_int_equal(c->log_format, LOG_JSON);
	assert_true(c->log_transactions);
	assert_string_equal(c->user, "nobody");
	assert_string_equal(c->spool_dir, "/tmp");
	assert_int_equal(c->domains.n, 2);
	assert_string_equal(c->domains.v[0], "example.com");
	assert_string_equal(c->domains.v[1], "b.example");
	assert_null(c->domains.v[2]);
	assert_int_equal(c->recipient_rejection, REJECT_AT_DATA);
	assert_int_equal(c->listeners_n, 2);
	assert_string_equal(c->listeners[0].name, "mx");
	assert_string_equal(c->listeners[0].address, ":2525");
	assert_int_equal(c->listeners[0].mode, MODE_ALT);
	assert_int_equal(c->listeners[0].workers, 3);
	assert_int_equal(c->listeners[0].bare_newline, NEWLINE_NORMALIZE);
	assert_string_equal(c->listeners[1].name, "lo-2");
	assert_string_equal(c->listeners[1].address, "[::1]:26");
	assert_int_equal(c->listeners[1].mode, MODE_SMTP);
	assert_int_equal(c->listeners[1].workers, 1);
	assert_int_equal(c->command.n, 5);
	assert_string_equal(c->command.v[2], "a b");
	assert_string_equal(c->command.v[3], "%{recipient}");
	assert_true(c->per_recipient);
	assert_string_equal(c->maildir, "");
	assert_string_equal(c->delivery_user, "nobody");
	assert_string_equal(c->recipients_file, "/etc/passwd");
	assert_int_equal(c->recipient_command.n, 3);
	assert_true(c->max_message_size == 1024 * 1024 * 1024);
	assert_int_equal(c->max_recipients, 7);
	assert_int_equal(c->max_connections, 8);
	assert_int_equal(c->max_errors, 9);
	assert_int_equal(c->max_deliveries, 10);
	assert_true(c->max_spool_memory == 65536);
	assert_true(c->connection_ms == 24 * 3600 * 1000);
	assert_true(c->command_ms == 1500);
	assert_true(c->delivery_ms == 9 * 60 * 1000);
	assert_true(c->shutdown_ms == 0);
	assert_int_equal(c->cert_files.n, 2);
	assert_string_equal(c->cert_files.v[1], "/etc/group");
	assert_int_equal(c->key_files.n, 2);	/* the same twice: one key of two certificates */
	assert_int_equal(c->tls_min_version, TLS_MIN_1_1);
	assert_false(c->self_signed);
	assert_int_equal(c->sender_check, SENDER_DOMAIN);
	assert_string_equal(c->senders_file, "/etc/passwd");
	assert_false(c->client_names || config_wants_names(c));
	assert_int_equal(c->listeners[0].auth, AUTH_REQUIRED);
	assert_true(c->listeners[0].require_tls);
	assert_int_equal(c->listeners[0].trusted_networks.n, 2);
	assert_int_equal(c->listeners[1].auth, AUTH_OFF);
	assert_int_equal(c->listeners[1].trusted_networks.n, 0);
	assert_int_equal(c->relay_command.n, 2);
	assert_true(c->relay_per_recipient);
	assert_string_equal(c->passwd_file, "/dev/null");
	assert_int_equal(c->auth_command.n, 0);
	assert_int_equal(c->issuers_n, 2);
	assert_string_equal(c->issuers[0].name, "");
	assert_string_equal(c->issuers[0].issuer, "https://login.example.com");
	assert_string_equal(c->issuers[0].jwks_url, "http://[::1]:80/keys");
	assert_string_equal(c->issuers[0].jwks_file, "");
	assert_string_equal(c->issuers[0].ca_file, "/etc/passwd");
	assert_int_equal(c->issuers[0].audience.n, 2);
	assert_string_equal(c->issuers[0].audience.v[0], "mail");
	assert_string_equal(c->issuers[0].audience.v[1], "other one");
	assert_string_equal(c->issuers[0].username_claim, "realm.user");
	assert_string_equal(c->issuers[0].required_scope, "smtp");
	assert_int_equal(c->issuers[0].allowed_domains.n, 2);
	assert_string_equal(c->issuers[0].allowed_domains.v[0], "example.com");
	assert_true(c->issuers[0].jwks_refresh_ms == 60000 && c->issuers[0].leeway_ms == 0);
	assert_string_equal(c->issuers[1].name, "two");
	assert_string_equal(c->issuers[1].jwks_file, "/etc/passwd");
	assert_string_equal(c->issuers[1].username_claim, "email");
	assert_true(c->issuers[1].jwks_refresh_ms == 3600000 && c->issuers[1].leeway_ms == 60000);
	assert_int_equal(c->max_auth_failures, 11);
	assert_int_equal(c->max_auths, 12);
	assert_int_equal(c->auth_failures_per_ip, 0);
	assert_true(c->max_header_size == 4096);
	assert_true(c->handshake_ms == 120000 && c->auth_ms == 3000);
	assert_true(c->metrics_enabled);
	assert_string_equal(c->metrics_address, ":9200");
	assert_string_equal(c->metrics_path, "/a/b");
	assert_string_equal(config_default_domain(c), "example.com");
	assert_int_equal(c->check_mode, CHECK_HIGHEST_SCORE);
	assert_int_equal(c->check_fail_mode, FAIL_REJECT);
	assert_int_equal(c->reject_threshold, 10000);
	assert_int_equal(c->tempfail_threshold, 9999);
	assert_false(c->check_add_headers);
	assert_int_equal(c->checkers_n, 2);
	assert_string_equal(k[0].name, "one");
	assert_int_equal(k[0].type, CHECKER_RSPAMD);
	assert_string_equal(k[0].url, "https://r.example:11333/base");
	assert_true(k[0].timeout_ms == 120000 && k[0].max_size == 1024);
	assert_int_equal(k[0].fail_mode, FAIL_OPEN);
	assert_int_equal(k[0].max_checks, 1000);
	assert_string_equal(k[0].password, "p w");
	assert_string_equal(k[0].settings_id, "s");
	assert_string_equal(k[0].ca_file, "/etc/passwd");
	assert_string_equal(k[0].user, "");
	assert_true(k[0].discard);
	assert_int_equal(k[0].quarantine, ASIDE_REJECT);
	assert_int_equal(k[0].oversize, OVERSIZE_TEMPFAIL);
	assert_int_equal(k[1].type, CHECKER_SPAMASSASSIN);
	assert_string_equal(k[1].url, "unix:/run/spamd.sock");
	assert_true(k[1].timeout_ms == 10000 && k[1].max_size == 500 * 1024);	/* case 11.42 */
	assert_int_equal(k[1].fail_mode, FAIL_INHERIT);
	assert_int_equal(k[1].max_checks, 50);
	assert_string_equal(k[1].password, "");
	assert_string_equal(k[1].user, "u");
	assert_false(k[1].discard);
	assert_int_equal(k[1].quarantine, ASIDE_FLAG);
	assert_int_equal(k[1].oversize, OVERSIZE_ACCEPT);
	assert_int_equal(c->milters_n, 2);
	assert_string_equal(m[0].address, "inet6:[::1]:8891");
	assert_int_equal(m[0].default_action, MILTER_ACCEPT);
	assert_true(m[0].connect_ms == 1000 && m[0].command_ms == 2000 && m[0].content_ms == 3000);
	assert_true(m[0].envelope && m[0].discard);
	assert_int_equal(m[0].quarantine, ASIDE_FLAG);
	assert_string_equal(m[1].address, "unix:/n");
	assert_int_equal(m[1].default_action, MILTER_TEMPFAIL);
	assert_true(m[1].connect_ms == 30000 && m[1].command_ms == 30000 && m[1].content_ms == 300000);
	assert_false(m[1].envelope || m[1].discard);
	assert_int_equal(m[1].quarantine, ASIDE_REJECT);
	assert_int_equal(c->hooks_n, 2);
	assert_int_equal(h[0].event, HOOK_RCPT);
	assert_int_equal(h[0].command.n, 3);
	assert_true(h[0].timeout_ms == 4000);
	assert_int_equal(h[1].event, HOOK_CONNECT);
	assert_true(h[1].timeout_ms == 30000);
	assert_string_equal(c->trap_url, "http://127.0.0.1:11334");
	assert_string_equal(c->trap_password, "q");
	assert_int_equal(c->trap_max_per_ip, 5);
	config_free(c);
}

static void
defaults(void **state)
{
	struct config *c = load_good(BASE);

	(void)state;
	assert_true(c->hostname[0] != '\0');
	assert_int_equal(c->log_level, LOG_INFO);
	assert_int_equal(c->log_format, LOG_LOGFMT);
	assert_false(c->log_transactions);
	assert_string_equal(c->spool_dir, "");
	assert_int_equal(c->recipient_rejection, REJECT_AT_RCPT);
	assert_int_equal(c->command.n, 0);
	assert_false(c->maildir_create);
	assert_false(c->per_recipient);
	assert_true(c->max_message_size == 25 * 1024 * 1024);
	assert_int_equal(c->max_recipients, 100);
	assert_int_equal(c->max_connections, 1000);
	assert_int_equal(c->max_errors, 20);
	assert_int_equal(c->max_deliveries, 20);
	assert_true(c->max_spool_memory == 256 * 1024 * 1024);
	assert_int_equal(c->cert_files.n, 0);
	assert_int_equal(c->tls_min_version, TLS_MIN_1_2);
	assert_false(c->self_signed);
	assert_int_equal(c->sender_check, SENDER_EXACT);
	assert_string_equal(c->senders_file, "");
	assert_true(c->client_names && !config_wants_names(c));
	assert_int_equal(c->listeners[0].auth, AUTH_OFF);
	assert_true(c->listeners[0].require_tls);
	assert_int_equal(c->relay_command.n, 0);
	assert_false(c->relay_per_recipient);
	assert_string_equal(c->passwd_file, "");
	assert_int_equal(c->issuers_n, 0);
	assert_int_equal(c->max_auth_failures, 3);
	assert_int_equal(c->max_auths, 4);
	assert_int_equal(c->auth_failures_per_ip, 20);
	assert_true(c->max_header_size == 256 * 1024);
	assert_true(c->handshake_ms == 60000 && c->auth_ms == 30000);
	assert_false(c->metrics_enabled);
	assert_string_equal(c->metrics_address, "127.0.0.1:9100");
	assert_string_equal(c->metrics_path, "/metrics");
	assert_int_equal(c->check_mode, CHECK_FIRST_REJECT);
	assert_int_equal(c->check_fail_mode, FAIL_TEMPFAIL);
	assert_int_equal(c->reject_threshold, 0);
	assert_int_equal(c->tempfail_threshold, 0);
	assert_true(c->check_add_headers);
	assert_true(c->checkers_n == 0 && c->milters_n == 0 && c->hooks_n == 0);
	assert_string_equal(c->trap_url, "");
	assert_string_equal(c->trap_password, "");
	assert_int_equal(c->trap_max_per_ip, 10);
	assert_true(c->connection_ms == 300000 && c->command_ms == 60000 && c->delivery_ms == 120000 && c->shutdown_ms == 30000);
	config_free(c);
	config_free(NULL);
}

/* What auth means where it is not written, with and without users. */
static void
auth_is_by_mode(void **state)
{
	static const struct {
		const char		*text;
		enum listener_auth	 auth;
	} rows[] = {
		{ "mode = smtp\n", AUTH_OFF }, { "mode = alt\n", AUTH_OFF }, { "mode = smtp\n" ISSUER, AUTH_OFF },
		{ "mode = alt\n" ISSUER, AUTH_OPTIONAL }, { "mode = alt\nauth = off\n" ISSUER, AUTH_OFF },
		{ "mode = alt\nauth =\n" ISSUER, AUTH_OPTIONAL }, { "mode = alt\nauth = required\n" ISSUER, AUTH_REQUIRED },
		{ "mode = submission\n" ISSUER "[server.tls]\nself_signed = yes\n", AUTH_REQUIRED },
		{ "mode = smtps\n" ISSUER "[server.tls]\nself_signed = yes\n", AUTH_REQUIRED },
		{ "mode = smtps\nauth = optional\n" ISSUER "[server.tls]\nself_signed = yes\n", AUTH_OPTIONAL },
		{ "auth = optional\nrequire_tls = no\n[smtpd.auth]\npasswd_file = /dev/null\n", AUTH_OPTIONAL },
		{ "mode = smtps\nauth = off\ntrusted_networks = 10.0.0.0/8\n[server.tls]\nself_signed = yes\n", AUTH_OFF },
		{ "mode = alt\n[smtpd.auth]\ncommand = /bin/sh -c x\n", AUTH_OPTIONAL },
	};
	static char out[OUT_MAX];
	char text[1024];

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		static const char *const names[AUTH__MAX] = { [AUTH_OFF] = "off", [AUTH_OPTIONAL] = "optional", [AUTH_REQUIRED] = "required" };
		struct config *c;

		snprintf(text, sizeof(text), "%s%s", SMTPD DELIVERY LISTENER, rows[i].text);
		c = load_good(text);
		assert_int_equal(c->listeners[0].auth, rows[i].auth);
		print_to(c, out);
		snprintf(text, sizeof(text), "\nauth                  = %-30s ; ", names[rows[i].auth]);
		assert_non_null(strstr(out, text));
		config_free(c);
	}
}

/* Without domains: only users and trusted networks send, and all of it is relayed. */
static void
relaying_only(void **state)
{
	struct config *c = load_good("[server]\nhostname = out.example\n[smtpd]\nuser = nobody\n" LISTENER "trusted_networks = 127.0.0.0/8\n"
	    "[smtpd.listener b]\naddress = [::1]:1\nmode = alt\n" ISSUER "[smtpd.relay]\ncommand = /bin/sh %{recipients}\n");

	(void)state;
	assert_int_equal(c->domains.n, 0);
	assert_int_equal(c->command.n, 0);
	assert_false(c->relay_per_recipient);
	assert_string_equal(config_default_domain(c), "out.example");
	config_free(c);
}

static void
networks(void **state)
{
	static const struct {
		const char	*in, *out, *warning;	/* out NULL: refused, with this at the end of the line */
	} rows[] = {
		{ "", "", NULL },
		{ "192.0.2.1", "192.0.2.1/32", NULL },
		{ "192.0.2.0/24,10.0.0.0/8", "192.0.2.0/24, 10.0.0.0/8", NULL },
		{ "2001:DB8::/32 , ::1", "2001:db8::/32, ::1/128", NULL },
		{ "::ffff:192.0.2.0/120", "192.0.2.0/24", NULL },
		{ "192.0.2.128/25", "192.0.2.128/25", NULL },
		{ "fc00::/7", "fc00::/7", NULL },
		{ "fe80::/10", "fe80::/10", NULL },
		{ "2001::/16", "2001::/16", NULL },
		{ "10.0.0.0/7", "10.0.0.0/7", "10.0.0.0/7" },
		{ "0.0.0.0/0", "0.0.0.0/0", "0.0.0.0/0" },
		{ "::/0", "::/0", "::/0" },
		{ "2000::/3", "2000::/3", "2000::/3" },
		{ "2000::/15", "2000::/15", "2000::/15" },
		{ "fc00::/6", "fc00::/6", "fc00::/6" },
		{ "::/64", "::/64", "::/64" },	/* all of IPv4 is in it */
		{ "::ffff:0.0.0.0/96", "0.0.0.0/0", "0.0.0.0/0" },
		{ "192.0.2.1/24", NULL, "'192.0.2.1/24' has bits set behind its first 24; write 192.0.2.0/24, or 192.0.2.1 for that one address" },
		{ "2001:db8::1/127", NULL, "'2001:db8::1/127' has bits set behind its first 127; write 2001:db8::/127, or 2001:db8::1 ..." },
		{ "0.0.0.1/0", NULL, "'0.0.0.1/0' has bits set behind its first 0; write 0.0.0.0/0, or 0.0.0.1 for that one address" },
		{ "192.0.2.0/33", NULL, "'192.0.2.0/33' is no network; ..." },
		{ "::/129", NULL, "'::/129' is no network; ..." },
		{ "192.0.2.0/", NULL, "'192.0.2.0/' is no network; ..." },
		{ "192.0.2.0/-1", NULL, "'192.0.2.0/-1' is no network; ..." },
		{ "192.0.2/24", NULL, "'192.0.2/24' is no network; ..." },
		{ "example.com", NULL, "'example.com' is no network; write networks with commas between: 192.0.2.0/24, 2001:db8::/32" },
		{ "[::1]", NULL, "'[::1]' is no network; ..." },
		{ "::1,,::2", NULL, "'' is no network; ..." },
		{ "fe80::1%lo", NULL, "'fe80::1%lo' is no network; ..." },
	};
	static char out[OUT_MAX];
	char text[512];

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct config *c;

		snprintf(text, sizeof(text), "%strusted_networks = %s\n", SMTPD DELIVERY LISTENER, rows[i].in);
		print_message("%s\n", rows[i].in);
		c = load(text_span(text));
		if (rows[i].out == NULL) {
			assert_null(c);
			snprintf(text, sizeof(text), "c:8: [smtpd.listener mx] trusted_networks: %s", rows[i].warning);
			assert_one_error(text);
			continue;
		}
		assert_non_null(c);
		if (rows[i].warning != NULL) {
			snprintf(text, sizeof(text), "warning: c:8: [smtpd.listener mx] trusted_networks: '%s' trusts strangers to send to any "
			    "domain; name the networks of your own clients", rows[i].warning);
			assert_one_error(text);
		} else {
			assert_string_equal(errors, "");
		}
		print_to(c, out);
		snprintf(text, sizeof(text), "\ntrusted_networks      = %-30s ; ", rows[i].out);
		assert_non_null(strstr(out, text));
		config_free(c);
	}
	struct config *c = load_good(BASE "[smtpd.listener b]\ntrusted_networks = 192.0.2.0/24, 2001:db8::/32\n");
	const struct network *v = c->listeners[1].trusted_networks.v;
	assert_memory_equal(v[0].ip, "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\0", 16);
	assert_int_equal(v[0].bits, 120);
	assert_memory_equal(v[1].ip, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	assert_int_equal(v[1].bits, 32);
	config_free(c);
}

static void
peers(void **state)
{
	static const struct { int family; const char *ip, *text; bool trusted; } rows[] = {
		{ AF_INET, "192.0.2.7", "192.0.2.7", true }, { AF_INET, "192.0.3.7", "192.0.3.7", false },
		{ AF_INET6, "::ffff:192.0.2.7", "192.0.2.7", true }, { AF_INET6, "::ffff:192.0.1.255", "192.0.1.255", false },
		{ AF_INET6, "2001:db8::1", "2001:db8::1", true }, { AF_INET6, "2001:db9::1", "2001:db9::1", false },
		{ AF_INET6, "::192.0.2.7", "::192.0.2.7", false }, { AF_UNIX, NULL, "", false },
	};
	struct config *c = load_good(BASE "[smtpd.listener b]\naddress = 127.0.0.1:26\nmode = smtp\n"
	    "trusted_networks = 192.0.2.0/24, 2001:db8::/32\n");

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct sockaddr_storage ss = { .ss_family = (sa_family_t)rows[i].family };
		struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons(4242) };
		struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(4242) };
		char ip[ENDPOINT_IP_MAX + 1];

		print_message("  %s\n", rows[i].text);
		if (rows[i].family == AF_INET) {
			assert_int_equal(inet_pton(AF_INET, rows[i].ip, &in4.sin_addr), 1);
			memcpy(&ss, &in4, sizeof(in4));
		} else if (rows[i].family == AF_INET6) {
			assert_int_equal(inet_pton(AF_INET6, rows[i].ip, &in6.sin6_addr), 1);
			memcpy(&ss, &in6, sizeof(in6));
		}
		assert_int_equal(endpoint_peer(&ss, ip), rows[i].ip == NULL ? 0 : 4242);
		assert_string_equal(ip, rows[i].text);
		assert_int_equal(policy_is_trusted(&c->listeners[1], ip), rows[i].trusted);
	}
	config_free(c);
}

/* per_recipient: what of a message's command asks for one recipient at a time */
static void
one_recipient_at_a_time(void **state)
{
	static const struct {
		const char	*command;
		bool		 per_recipient;
	} rows[] = {
		{ "/bin/sh", false }, { "/bin/sh %{recipients} %{sender} %{id} %{auth_user} %{client_address}", false },
		{ "/bin/sh %{recipient}", true }, { "/bin/sh %{user}", true }, { "/bin/sh %{domain}", true }, { "/bin/sh +%Y %", false },
	};
	char text[512];

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct config *c;

		snprintf(text, sizeof(text), SMTPD LISTENER "[smtpd.delivery]\ncommand = %s\n", rows[i].command);
		c = load_good(text);
		assert_int_equal(c->per_recipient, rows[i].per_recipient);
		config_free(c);
	}
}

/* One error each: the whole line as it is printed, or its beginning where the row ends in "...". */
static const struct {
	const char	*text, *error;
} wrong[] = {
	/* sections and keys (case 15.5) */
	{ BASE "[smtpd]\nlog_levle = info\n", "c:9: [smtpd] log_levle: unknown key 'log_levle'; did you mean log_level?" },
	{ BASE "[smtpd]\nLog_Level = info\n", "c:9: [smtpd] Log_Level: unknown key 'Log_Level'; did you mean log_level?" },
	{ BASE "[smtpd]\nmax_errors = 1\n", "c:9: [smtpd] max_errors: unknown key 'max_errors'; did you mean [smtpd.limits] max_errors?" },
	{ BASE "[smtpd.timeouts]\nqqqqqqqq = 1\n",
	    "c:9: [smtpd.timeouts] qqqqqqqq: unknown key 'qqqqqqqq'; there are connection, command, delivery, handshake, auth, shutdown" },
	{ BASE "[smtpd.listener mx]\nadress = :25\n", "c:9: [smtpd.listener mx] adress: unknown key 'adress'; did you mean address?" },
	{ BASE "[smtpd]\nqqqqqqqqqqqq = x\n", "c:9: [smtpd] qqqqqqqqqqqq: unknown key 'qqqqqqqqqqqq'; there are ..." },
	{ BASE "[smtpd.limit]\n", "c:8: [smtpd.limit]: unknown section 'smtpd.limit'; did you mean [smtpd.limits]?" },
	{ BASE "[smtpd limits]\n", "c:8: [smtpd limits]: unknown section 'smtpd limits'; did you mean [smtpd.limits]?" },
	{ BASE "[smptd]\n", "c:8: [smptd]: unknown section 'smptd'; did you mean [smtpd]?" },
	{ BASE "[mstpd.limits]\n", "c:8: [mstpd.limits]: unknown section 'mstpd.limits'; did you mean [smtpd.limits]?" },
	{ BASE "[SMTPD]\n", "c:8: [SMTPD]: unknown section 'SMTPD'; did you mean [smtpd]?" },
	{ BASE "[sever]\n", "c:8: [sever]: unknown section 'sever'; did you mean [server]?" },
	{ BASE "[smtpd.listner a]\n", "c:8: [smtpd.listner a]: unknown section 'smtpd.listner a'; did you mean [smtpd.listener NAME]?" },
	{ BASE "[smtpd.relays]\nurl = x\n", "c:8: [smtpd.relays]: unknown section 'smtpd.relays'; did you mean [smtpd.relay]?" },
	{ BASE "[smtpd.auth x]\n", "c:8: [smtpd.auth x]: unknown section 'smtpd.auth x'; did you mean [smtpd.auth]?" },
	{ BASE "[smtpd.oauth]\n", "c:8: [smtpd.oauth]: unknown section 'smtpd.oauth'; did you mean [smtpd.auth]?" },
	{ BASE "[smtpd.listener]\n", "c:8: [smtpd.listener]: the listener has no name; write [smtpd.listener mx]" },
	{ BASE "[smtpd.listener a.b]\n", "c:8: [smtpd.listener a.b]: 'a.b' is no name; write at most 32 letters, digits, - and _" },
	{ BASE "[smtpd.listener aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]\n", "c:8: [smtpd.listener aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]: ..." },
	{ BASE "[smtpd.listener MX]\n", "c:8: [smtpd.listener MX]: 'MX' and 'mx' are the same in a variable's name; rename one" },
	{ BASE "maildir = /x\n", "c:8: [smtpd.delivery] maildir: '/x': the key is given twice, first in line 7; keep one" },
	{ BASE "[smtpd.listener mx]\naddress = :1\n",
	    "c:9: [smtpd.listener mx] address: ':1': the key is given twice, first in line 5; keep one" },

	/* lines: what inih would pass, cut or join */
	{ BASE "create = no\n yes\n", "c:9: 'yes' is no key with a value; write key = value" },
	{ BASE " create = no\n", "c:8: 'create = no' is indented; ..." },
	{ BASE "\t[smtpd]\n", "c:8: '[smtpd]' is indented; begin it in the first column" },
	{ BASE "[smtpd\nlog_level = x\n", "c:8: '[smtpd' has no ]; write [section]" },
	{ BASE "[smtpd ;]\n", "c:8: '[smtpd ;]' has no ]; write [section]" },
	{ BASE "[smtpd] log_level = debug\n", "c:8: 'log_level = debug' follows the section's name; give it a line of its own" },
	{ BASE "create\n", "c:8: 'create' is no key with a value; write key = value" },
	{ BASE "create ; = no\n", "c:8: 'create ; = no' is no key with a value; write key = value" },
	{ BASE "= no\n", "c:8: '= no' is no key with a value; write key = value" },
	{ "a = b\n" BASE, "c:1: 'a = b' stands before the first section; write one above it, such as [smtpd]" },
	{ "\xef\xbb\xbf" BASE, "c:1: the file begins with a byte order mark; save it as UTF-8 without one" },
	{ "# x\r\n# y\r\n" BASE, "c:1: the line ends in CR LF; save the file with LF line ends (sed -i 's/\\r$//')" },
	{ BASE "# caf\xe9\n", "c:8: the line '# caf\xe9' is not UTF-8 (Latin-1?); save it as UTF-8" },
	{ BASE "#\x1b[2J\n", "c:8: the line '#?[2J' has a control character; remove it" },

	/* values */
	{ BASE "create = true\n", "c:8: [smtpd.delivery] create: 'true' is neither yes nor no; write one of these" },
	{ BASE "[smtpd]\nlog_level = inf\n", "c:9: [smtpd] log_level: 'inf' is not one of debug, info, warn, error; did you mean info?" },
	{ BASE "[smtpd]\nlog_level =\n", "c:9: [smtpd] log_level: '' is not one of debug, info, warn, error; write one of these" },
	{ BASE "[smtpd]\nspool_dir = tmp\n", "c:9: [smtpd] spool_dir: 'tmp' is no absolute path; begin it with /" },
	{ BASE "[server]\nhostname = -x\n", "c:9: [server] hostname: '-x' is no domain name; write one such as mail.example.com" },
	{ BASE "[smtpd.limits]\nmax_errors = 0\n", "c:9: [smtpd.limits] max_errors: '0' is out of bounds; write 1 to 1000" },
	{ BASE "[smtpd.limits]\nmax_errors = 1001\n", "c:9: [smtpd.limits] max_errors: '1001' is out of bounds; write 1 to 1000" },
	{ BASE "[smtpd.limits]\nmax_errors = 5k\n", "c:9: [smtpd.limits] max_errors: '5k' is no number; write digits only" },
	{ BASE "[smtpd.limits]\nmax_errors = -1\n", "c:9: [smtpd.limits] max_errors: '-1' is no number; write digits only" },
	{ BASE "[smtpd.limits]\nmax_message_size = 25MB\n",
	    "c:9: [smtpd.limits] max_message_size: '25MB' is no size; write digits and k, m or g (25m)" },
	{ BASE "[smtpd.limits]\nmax_message_size = 1023\n",
	    "c:9: [smtpd.limits] max_message_size: '1023' is out of bounds; write 1k to 2g" },
	{ BASE "[smtpd.limits]\nmax_message_size = 2147483649\n",
	    "c:9: [smtpd.limits] max_message_size: '2147483649' is out of bounds; ..." },
	{ BASE "[smtpd.limits]\nmax_message_size = 18446744073709551616g\n",
	    "c:9: [smtpd.limits] max_message_size: '1844674407370955..." },
	{ BASE "[smtpd.timeouts]\ncommand = 5\n", "c:9: [smtpd.timeouts] command: '5' has no unit; write 5s, 5m or 5ms" },
	{ BASE "[smtpd.timeouts]\ncommand = 0\n", "c:9: [smtpd.timeouts] command: '0' has no unit; write 0s, 0m or 0ms" },
	{ BASE "[smtpd.timeouts]\ncommand = 1.5m\n", "c:9: [smtpd.timeouts] command: '1.5m' is no duration; ..." },
	{ BASE "[smtpd.timeouts]\ncommand = 99ms\n", "c:9: [smtpd.timeouts] command: '99ms' is out of bounds; write 100ms to 1h" },
	{ BASE "[smtpd.timeouts]\ndelivery = 11m\n", "c:9: [smtpd.timeouts] delivery: '11m' is out of bounds; write 100ms to 10m" },
	{ LISTENER DELIVERY "[smtpd]\nuser = nobody\ndomains = a b\n", "c:7: [smtpd] domains: 'a b' is no domain; ..." },
	{ LISTENER DELIVERY "[smtpd]\nuser = nobody\ndomains = a,,b\n", "c:7: [smtpd] domains: '' is no domain; ..." },
	{ LISTENER DELIVERY "[smtpd]\nuser = nobody\n", "c: [smtpd] domains: '' is no list of domains, so no mail can be taken; ..." },
	{ LISTENER DELIVERY "[smtpd]\nuser = a b\ndomains = x\n", "c:6: [smtpd] user: 'a b' is no user; ..." },

	/* listeners */
	{ SMTPD DELIVERY, "c: [smtpd.listener NAME]: there is no listener; write such as [smtpd.listener mx] and, below it, address = :25" },
	{ BASE "[smtpd.listener b]\naddress = localhost:25\n",
	    "c:9: [smtpd.listener b] address: 'localhost:25' is no numeric address ..." },
	{ BASE "[smtpd.listener b]\naddress = 25\n",
	    "c:9: [smtpd.listener b] address: '25' is no numeric address with a port; write :25" },
	{ BASE "[smtpd.listener b]\naddress = ::1\n",
	    "c:9: [smtpd.listener b] address: '::1' is no numeric address with a port; write [::1]:25" },
	{ BASE "[smtpd.listener b]\naddress = 127.0.0.1\n",
	    "c:9: [smtpd.listener b] address: '127.0.0.1' is no numeric address with a port; write 127.0.0.1:25" },
	{ BASE "[smtpd.listener b]\naddress = :65536\n", "c:9: [smtpd.listener b] address: ':65536' is no numeric address ..." },
	{ BASE "[smtpd.listener b]\naddress = []:25\n", "c:9: [smtpd.listener b] address: '[]:25' is no numeric address ..." },
	{ BASE "[smtpd.listener b]\naddress = [127.0.0.1]:25\n", "c:9: [smtpd.listener b] address: '[127.0.0.1]:25' is no numeric ..." },
	{ BASE "[smtpd.listener b]\naddress = 010.0.0.1:25\n", "c:9: [smtpd.listener b] address: '010.0.0.1:25' is no numeric ..." },
	{ BASE "[smtpd.listener b]\naddress = :25\n[smtpd.listener c]\naddress = [::1]:25\n",
	    "c:11: [smtpd.listener c] address: '[::1]:25' is taken by [smtpd.listener b] (:25); choose another address or port" },
	{ BASE "[smtpd.listener b]\naddress = 127.0.0.1:25\n[smtpd.listener c]\naddress = 0.0.0.0:25\n",
	    "c:11: [smtpd.listener c] address: ..." },
	{ BASE "[smtpd.metrics]\nenabled = yes\n[smtpd.listener b]\naddress = :9100\n",
	    "c: [smtpd.metrics] address: '127.0.0.1:9100' is taken by [smtpd.listener b] (:9100); choose another address or port" },
	{ BASE "[smtpd.metrics]\npath = metrics\n", "c:9: [smtpd.metrics] path: 'metrics' is no absolute path; begin it with /" },
	{ BASE "[smtpd.metrics]\npath =\n", "c:9: [smtpd.metrics] path: '' is no path of a URL; write such as /metrics" },
	{ BASE "[smtpd.metrics]\npath = /a b\n", "c:9: [smtpd.metrics] path: '/a b' is no path of a URL; ..." },
	{ BASE "[smtpd.metrics]\npath = /a?b\n", "c:9: [smtpd.metrics] path: '/a?b' is no path of a URL; ..." },
	{ BASE "[smtpd.metrics]\npath = /readyz\n",
	    "c:9: [smtpd.metrics] path: '/readyz' is where others ask for our health; write such as /metrics" },
	{ BASE "[smtpd.listener b]\nworkers = 17\n", "c:9: [smtpd.listener b] workers: '17' is out of bounds; write 1 to 16" },

	/* users, TLS */
	{ BASE "[smtpd.listener mx]\nauth = yes\n", "c:9: [smtpd.listener mx] auth: 'yes' is not one of off, optional, required; ..." },
	{ BASE "[smtpd.listener mx]\nauth = optional\n",
	    "c:9: [smtpd.listener mx] auth: 'optional' asks for users, and there are none; ..." },
	{ BASE "[smtpd.listener mx]\nmode = alt\nauth = required\n", "c:10: [smtpd.listener mx] auth: 'required' asks for users, ..." },
	{ BASE "[smtpd.listener mx]\nmode = submission\n[server.tls]\nself_signed = yes\n",
	    "c:9: [smtpd.listener mx] mode: 'submission' asks for users, and there are none; set [smtpd.auth] passwd_file or command, or "
	    "[smtpd.auth.oauth], or write auth = off" },
	{ BASE ISSUER "[smtpd.listener mx]\nmode = submission\n",
	    "c:12: [smtpd.listener mx] mode: 'submission' needs a certificate; set [server.tls] cert_file and key_file, or self_signed = yes" },
	{ BASE ISSUER "[smtpd.listener mx]\nmode = smtps\n", "c:12: [smtpd.listener mx] mode: 'smtps' needs a certificate; ..." },
	{ BASE "[server.tls]\nmin_version = 1.3\n", "c:9: [server.tls] min_version: '1.3': TLS 1.3 is not there yet; write 1.2" },
	{ BASE "[server.tls]\nmin_version = 1\n",
	    "c:9: [server.tls] min_version: '1' is not one of 1.0, 1.1, 1.2, 1.3; did you mean 1.0?" },
	{ BASE "[server.tls]\ncert_file = /etc/passwd\n",
	    "c:9: [server.tls] cert_file: '/etc/passwd' has no key_file; name its key there, or the same file if the key is in it" },
	{ BASE "[server.tls]\nkey_file = /dev/null\n",
	    "c:9: [server.tls] key_file: '/dev/null' has no cert_file; name its certificate there" },
	{ BASE "[server.tls]\ncert_file = /etc/passwd, /etc/group\nkey_file = /dev/null\n",
	    "c:10: [server.tls] key_file: '/dev/null': 1 for 2 certificates; name a key for each, in the same order" },
	{ BASE "[server.tls]\ncert_file = /etc/passwd\nkey_file = /dev/null, /dev/null\n",
	    "c:10: [server.tls] key_file: '/dev/null', ...: 2 for 1 certificates; ..." },
	{ BASE "[server.tls]\ncert_file = /etc/passwd\nkey_file = key.pem\n",
	    "c:10: [server.tls] key_file: 'key.pem' is no absolute path; ..." },
	{ BASE "[server.tls]\ncert_file = /nowhere\nkey_file = /dev/null\n",
	    "c:9: [server.tls] cert_file: '/nowhere' cannot be read: No such ..." },
	{ BASE "[server.tls]\ncert_file = /etc/passwd\nkey_file = /tmp\n",
	    "c:10: [server.tls] key_file: '/tmp' is a directory; name a file" },
	{ BASE "[smtpd.auth]\npasswd_file = /nowhere\n", "c:9: [smtpd.auth] passwd_file: '/nowhere' cannot be read: No such ..." },
	{ BASE "[smtpd.auth]\ncommand = /nowhere\n", "c:9: [smtpd.auth] command: '/nowhere' cannot be executed: No such ..." },
	{ BASE "[smtpd.auth]\ncommand = /bin/sh %{user}\n", "c:9: [smtpd.auth] command: '%{user}' cannot be used here; ..." },
	{ BASE "[smtpd.auth]\ncommand = /bin/sh %{usr}\n", "c:9: [smtpd.auth] command: '%{usr}' cannot be used here; ..." },
	{ BASE "[smtpd.auth]\ncommand = /bin/sh\npasswd_file = /dev/null\n",
	    "c:9: [smtpd.auth] command: '/bin/sh' beside a passwd_file; keep one of command and passwd_file" },
	{ BASE "[smtpd]\nsenders_file = /nowhere\n", "c:9: [smtpd] senders_file: '/nowhere' cannot be read: No such ..." },
	{ BASE "[smtpd]\nsender_check = any\n", "c:9: [smtpd] sender_check: 'any' is not one of exact, domain, off; ..." },

	/* tokens */
	{ BASE "[smtpd.auth.oauth]\naudience = a\n", "c: [smtpd.auth.oauth] issuer: '' is nobody; ..." },
	{ BASE "[smtpd.auth.oauth a]\nissuer = https://i.example\n", "c: [smtpd.auth.oauth a] audience: '' would take tokens that ..." },
	{ BASE ISSUER "audience = a\n", "c:11: [smtpd.auth.oauth] audience: 'a': the key is given twice, first in line 10; keep one" },
	{ BASE ISSUER "jwks_url = https://i.example\njwks_file = /etc/passwd\n",
	    "c:12: [smtpd.auth.oauth] jwks_file: '/etc/passwd' beside a jwks_url; keep one of jwks_file and jwks_url" },
	{ BASE ISSUER "jwks_file = /nowhere\n", "c:11: [smtpd.auth.oauth] jwks_file: '/nowhere' cannot be read: No such ..." },
	{ BASE ISSUER "ca_file = /nowhere\n", "c:11: [smtpd.auth.oauth] ca_file: '/nowhere' cannot be read: No such ..." },
	{ BASE ISSUER "[smtpd.auth.oauth b]\nissuer = https://i.example\naudience = a\n",
	    "c:12: [smtpd.auth.oauth b] issuer: 'https://i.example' is the issuer of [smtpd.auth.oauth], too; keep one section for it" },
	{ BASE "[smtpd.auth.oauth a]\nissuer = https://i.example\naudience = a\n" ISSUER,
	    "c:12: [smtpd.auth.oauth] issuer: 'https://i.example' is the issuer of [smtpd.auth.oauth a], too; ..." },
	{ BASE ISSUER "jwks_url = http://i.example/\n",
	    "c:11: [smtpd.auth.oauth] jwks_url: 'http://i.example/' is fetched without TLS, ..." },
	{ BASE ISSUER "jwks_url = http://127.0.0.1@i.example/\n",
	    "c:11: [smtpd.auth.oauth] jwks_url: 'http://127.0.0.1@i.example/' is no URL; ..." },
	{ BASE ISSUER "jwks_url = http://localhost.example/\n",
	    "c:11: [smtpd.auth.oauth] jwks_url: 'http://localhost.example/' is fetched ..." },
	{ BASE ISSUER "jwks_url = http://[::2]/\n", "c:11: [smtpd.auth.oauth] jwks_url: 'http://[::2]/' is fetched without TLS, ..." },
	{ BASE ISSUER "jwks_url = ftp://i.example/\n", "c:11: [smtpd.auth.oauth] jwks_url: 'ftp://i.example/' is no URL; ..." },
	{ BASE ISSUER "jwks_url = i.example\n", "c:11: [smtpd.auth.oauth] jwks_url: 'i.example' is no URL; ..." },
	{ BASE ISSUER "jwks_url = https://\n", "c:11: [smtpd.auth.oauth] jwks_url: 'https://' is no URL; ..." },
	{ BASE ISSUER "jwks_url = https:///keys\n", "c:11: [smtpd.auth.oauth] jwks_url: 'https:///keys' is no URL; ..." },
	{ BASE ISSUER "jwks_url = https://i.example:65536/\n",
	    "c:11: [smtpd.auth.oauth] jwks_url: 'https://i.example:65536/' is no URL; ..." },
	{ BASE ISSUER "jwks_url = https://i.example:/\n", "c:11: [smtpd.auth.oauth] jwks_url: 'https://i.example:/' is no URL; ..." },
	{ BASE ISSUER "jwks_url = https://[::1/\n", "c:11: [smtpd.auth.oauth] jwks_url: 'https://[::1/' is no URL; ..." },
	{ BASE ISSUER "jwks_url = https://[::1]x/\n", "c:11: [smtpd.auth.oauth] jwks_url: 'https://[::1]x/' is no URL; ..." },
	{ BASE ISSUER "jwks_url = https://i.example/#a\n", "c:11: [smtpd.auth.oauth] jwks_url: 'https://i.example/#a' is no URL; ..." },
	{ BASE ISSUER "jwks_url = https://i.example/a b\n", "c:11: [smtpd.auth.oauth] jwks_url: 'https://i.example/a b' is no URL; ..." },
	{ BASE ISSUER "username_claim =\n",
	    "c:11: [smtpd.auth.oauth] username_claim: '' is no word; write one without blanks, such as email" },
	{ BASE ISSUER "required_scope = a b\n", "c:11: [smtpd.auth.oauth] required_scope: 'a b' is no word; write one without blanks" },
	{ BASE ISSUER "allowed_domains = a..b\n", "c:11: [smtpd.auth.oauth] allowed_domains: 'a..b' is no domain; ..." },
	{ BASE "[smtpd.auth.oauth]\nissuer = https://i.example\naudience = a,,b\n",
	    "c:10: [smtpd.auth.oauth] audience: '' is no item of a list; ..." },
	{ BASE ISSUER "jwks_refresh_interval = 59s\n",
	    "c:11: [smtpd.auth.oauth] jwks_refresh_interval: '59s' is out of bounds; write 1m to 1d" },
	{ BASE ISSUER "leeway = 601s\n", "c:11: [smtpd.auth.oauth] leeway: '601s' is out of bounds; write 0s to 10m" },
	{ BASE ISSUER "isuer = x\n", "c:11: [smtpd.auth.oauth] isuer: unknown key 'isuer'; did you mean issuer?" },
	{ BASE "[smtpd.oauth a]\n", "c:8: [smtpd.oauth a]: unknown section 'smtpd.oauth a'; did you mean [smtpd.auth]?" },
	{ BASE "[smtpd.auth.oath a]\n",
	    "c:8: [smtpd.auth.oath a]: unknown section 'smtpd.auth.oath a'; did you mean [smtpd.auth.oauth NAME]?" },

	/* checkers */
	{ BASE "[spamcheck]\nmode = first\n",
	    "c:9: [spamcheck] mode: 'first' is not one of first_reject, all_reject, highest_score; write one of these" },
	{ BASE "[spamcheck]\nfail_mode =\n", "c:9: [spamcheck] fail_mode: '' is not one of open, tempfail, reject; write one of these" },
	{ BASE "[spamcheck]\nreject_threshold = 10001\n", "c:9: [spamcheck] reject_threshold: '10001' is out of bounds; write 0 to 10000" },
	{ BASE "[spamcheck]\nreject_threshold = 6.5\n", "c:9: [spamcheck] reject_threshold: '6.5' is no number; write digits only" },
	{ BASE "[spamcheck]\ntempfail_threshold = 15\nreject_threshold = 15\n",
	    "c:9: [spamcheck] tempfail_threshold: '15' is not below the reject_threshold, 15, so no message would be put off; lower it" },
	{ BASE "[spamchek]\nmode = x\n", "c:8: [spamchek]: unknown section 'spamchek'; did you mean [spamcheck]?" },
	{ BASE "[spamcheck.checker]\nurl = http://a\n", "c:8: [spamcheck.checker]: the checker has no name; write [spamcheck.checker rspamd]" },
	{ BASE "[spamcheck.checker a b]\n", "c:8: [spamcheck.checker a b]: 'a b' is no name; ..." },
	{ BASE "[spamcheck.checker a]\n", "c: [spamcheck.checker a] url: '' is no address of rspamd; write such as http://127.0.0.1:11333, ..." },
	{ BASE "[spamcheck.checker a]\ntype = spamassassin\n",
	    "c: [spamcheck.checker a] url: '' is no address of spamassassin; write such as 127.0.0.1:783, ..." },
	{ BASE "[spamcheck.checker a]\nurl = http://a\ntype = clamav\n",
	    "c:10: [spamcheck.checker a] type: 'clamav' is not one of rspamd, spamassassin; write one of these" },
	{ BASE "[spamcheck.checker a]\nurl = 127.0.0.1:11333\n", "c:9: [spamcheck.checker a] url: '127.0.0.1:11333' is no address of rspamd; ..." },
	{ BASE "[spamcheck.checker a]\nurl = http://u:p@a\n", "c:9: [spamcheck.checker a] url: 'http://u:p@a' is no address of rspamd; ..." },
	{ BASE "[spamcheck.checker a]\nurl = http://a/?b\n", "c:9: [spamcheck.checker a] url: 'http://a/?b' is no address of rspamd; ..." },
	{ BASE "[spamcheck.checker a]\nurl = unix:run\n", "c:9: [spamcheck.checker a] url: 'unix:run' is no address of rspamd; ..." },
	{ BASE "[spamcheck.checker a]\nurl = unix:/\n", "c:9: [spamcheck.checker a] url: 'unix:/' is no address of rspamd; ..." },
	{ BASE "[spamcheck.checker a]\nurl = unix:/" A70 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
	    "c:9: [spamcheck.checker a] url: 'unix:/" A70 "aaaaaaaaaaaaaaaaaaaaaaaa' is no ..." },
	{ BASE "[spamcheck.checker a]\nurl = unix:/run/a b\n", "c:9: [spamcheck.checker a] url: 'unix:/run/a b' is no word; write one without blanks" },
	{ BASE "[spamcheck.checker a]\ntype = spamassassin\nurl = http://127.0.0.1:783\n",
	    "c:10: [spamcheck.checker a] url: 'http://127.0.0.1:783' is no address of spamassassin; ..." },
	{ BASE "[spamcheck.checker a]\ntype = spamassassin\nurl = spamd.example:783\n",
	    "c:10: [spamcheck.checker a] url: 'spamd.example:783' is no address of spamassassin; ..." },
	{ BASE "[spamcheck.checker a]\ntype = spamassassin\nurl = :783\n", "c:10: [spamcheck.checker a] url: ':783' is no address ..." },
	{ BASE "[spamcheck.checker a]\ntype = spamassassin\nurl = localhost\n", "c:10: [spamcheck.checker a] url: 'localhost' is no address ..." },
	{ BASE "[spamcheck.checker a]\ntype = spamassassin\nurl = localhost:0\n",
	    "c:10: [spamcheck.checker a] url: 'localhost:0' is no address ..." },
	{ BASE "[spamcheck.checker a]\ntype = spamassassin\nurl = 127.0.0.1:0\n",
	    "c:10: [spamcheck.checker a] url: '127.0.0.1:0' is no address ..." },
	{ BASE CHECKED "timeout = 121s\n", "c:10: [spamcheck.checker r] timeout: '121s' is out of bounds; write 100ms to 2m" },
	{ BASE CHECKED "timeout = 99ms\n", "c:10: [spamcheck.checker r] timeout: '99ms' is out of bounds; write 100ms to 2m" },
	{ BASE CHECKED "max_checks = 0\n", "c:10: [spamcheck.checker r] max_checks: '0' is out of bounds; write 1 to 1000" },
	{ BASE CHECKED "max_checks = 1001\n", "c:10: [spamcheck.checker r] max_checks: '1001' is out of bounds; write 1 to 1000" },
	{ BASE CHECKED "fail_mode = opne\n",
	    "c:10: [spamcheck.checker r] fail_mode: 'opne' is not one of open, tempfail, reject; did you mean open?" },
	{ BASE CHECKED "quarantine = hold\n", "c:10: [spamcheck.checker r] quarantine: 'hold' is not one of reject, flag; write one of these" },
	{ BASE CHECKED "ca_file = /nowhere\n", "c:10: [spamcheck.checker r] ca_file: '/nowhere' cannot be read: No such ..." },
	{ BASE "[spamcheck.checker a]\nurl = http://a\n[spamcheck.checker A]\n",
	    "c:10: [spamcheck.checker A]: 'A' and 'a' are the same in a variable's name; rename one" },

	/* secrets: never shown */
	{ BASE CHECKED "password = verysecret\npassword = topsecret\n",
	    "c:11: [spamcheck.checker r] password: '****': the key is given twice, first in line 10; keep one" },
	{ BASE CHECKED "password = verysecret\npassword_file = /dev/null\n",
	    "c:11: [spamcheck.checker r] password_file: '/dev/null' beside a password; keep one of password and password_file" },
	{ BASE CHECKED "password_file = /nowhere\n", "c:10: [spamcheck.checker r] password_file: '/nowhere' cannot be read: No such ..." },
	{ BASE CHECKED "password_file = /tmp\n", "c:10: [spamcheck.checker r] password_file: '/tmp' is a directory; name a file" },
	{ BASE CHECKED "password_file = /dev/null\n",
	    "c:10: [spamcheck.checker r] password_file: '/dev/null' has nothing in its first line; write the password there" },
	{ BASE CHECKED "password_file = /dev/zero\n",
	    "c:10: [spamcheck.checker r] password_file: '/dev/zero': the first line cannot be a password: it has more than 1024 octets; shorten it" },
	{ BASE CHECKED "password_file = secret\n", "c:10: [spamcheck.checker r] password_file: 'secret' is no absolute path; ..." },
	{ BASE CHECKED " password = verysecret\n", "c:10: 'password' is indented; ..." },
	{ BASE CHECKED "password verysecret\n", "c:10: 'password' is no key with a value; write key = value" },
	{ BASE CHECKED "password = very\x01secret\n", "c:10: the line 'password' has a control character; remove it" },
	{ BASE CHECKED "password = very\tsecret\n", "c:10: [spamcheck.checker r] password: it has a control character, or is not UTF-8; ..." },
	{ BASE "[smtpd.spamtrap] password = verysecret\n", "c:8: 'password' follows the section's name; give it a line of its own" },
	{ "password = verysecret\n" BASE, "c:1: 'password' stands before the first section; ..." },
	{ BASE "[smtpd]\npassword = verysecret\n", "c:9: [smtpd] password: unknown key 'password'; ..." },

	/* spam traps */
	{ BASE "[smtpd.spamtrap]\ncontroller_url = 127.0.0.1:11334\n",
	    "c:9: [smtpd.spamtrap] controller_url: '127.0.0.1:11334' is no address of a service; write such as ..." },
	{ BASE "[smtpd.spamtrap]\nmax_learns_per_ip_per_hour = 0\n",
	    "c:9: [smtpd.spamtrap] max_learns_per_ip_per_hour: '0' is out of bounds; write 1 to 10000" },
	{ BASE "[smtpd.spamtrap a]\n", "c:8: [smtpd.spamtrap a]: unknown section 'smtpd.spamtrap a'; did you mean [smtpd.spamtrap]?" },

	/* milters */
	{ BASE "[smtpd.milter]\n", "c:8: [smtpd.milter]: the milter has no name; write [smtpd.milter opendkim]" },
	{ BASE "[smtpd.milter a]\n", "c: [smtpd.milter a] address: '' is nowhere; write such as inet:127.0.0.1:8891 or unix:/run/opendkim.sock" },
	{ BASE "[smtpd.milter a]\naddress = 127.0.0.1:8891\n", "c:9: [smtpd.milter a] address: '127.0.0.1:8891' is no address of a milter; ..." },
	{ BASE "[smtpd.milter a]\naddress = inet:8891@localhost\n", "c:9: [smtpd.milter a] address: 'inet:8891@localhost' is no address ..." },
	{ BASE "[smtpd.milter a]\naddress = inet:milter.example:8891\n", "c:9: [smtpd.milter a] address: 'inet:milter.example:8891' is no ..." },
	{ BASE "[smtpd.milter a]\naddress = inet:[::1]:8891\n", "c:9: [smtpd.milter a] address: 'inet:[::1]:8891' is no ..." },
	{ BASE "[smtpd.milter a]\naddress = inet6:127.0.0.1:8891\n", "c:9: [smtpd.milter a] address: 'inet6:127.0.0.1:8891' is no ..." },
	{ BASE "[smtpd.milter a]\naddress = inet6:localhost:8891\n", "c:9: [smtpd.milter a] address: 'inet6:localhost:8891' is no ..." },
	{ BASE "[smtpd.milter a]\naddress = inet:127.0.0.1:65536\n", "c:9: [smtpd.milter a] address: 'inet:127.0.0.1:65536' is no ..." },
	{ BASE "[smtpd.milter a]\naddress = inet:127.0.0.1\n", "c:9: [smtpd.milter a] address: 'inet:127.0.0.1' is no ..." },
	{ BASE "[smtpd.milter a]\naddress = local:/run/a\n", "c:9: [smtpd.milter a] address: 'local:/run/a' is no ..." },
	{ BASE "[smtpd.milter a]\naddress = unix:/a\ndefault_action = discard\n",
	    "c:10: [smtpd.milter a] default_action: 'discard' is not one of tempfail, accept, reject; write one of these" },
	{ BASE "[smtpd.milter a]\naddress = unix:/a\ncontent_timeout = 601s\n",
	    "c:10: [smtpd.milter a] content_timeout: '601s' is out of bounds; write 100ms to 10m" },

	/* hooks */
	{ BASE "[smtpd.hook]\n", "c:8: [smtpd.hook]: the hook has no name; write [smtpd.hook archive]" },
	{ BASE "[smtpd.hook a]\ncommand = /bin/sh %{recipient} %{id}\n",
	    "c: [smtpd.hook a] event: '' is no time to run; write connect, mail, rcpt or message" },
	{ BASE "[smtpd.hook a]\nevent = message\n", "c: [smtpd.hook a] command: '' is no command; write such as /usr/local/lib/smtpd/archive /var/archive" },
	{ BASE HOOKED "data\n", "c:10: [smtpd.hook h] event: 'data' is not one of connect, mail, rcpt, message; write one of these" },
	{ BASE HOOKED "mail\n[smtpd.hook b]\nevent = rcpt\ncommand = /nowhere\n",
	    "c:13: [smtpd.hook b] command: '/nowhere' cannot be executed: No such ..." },
	{ BASE "[smtpd.hook a]\nevent = connect\ncommand = sh %{sender}\n", "c:10: [smtpd.hook a] command: '%{sender}' cannot be used here; ..." },
	{ BASE "[smtpd.hook a]\nevent = mail\ncommand = sh %{recipient}\n",
	    "c:10: [smtpd.hook a] command: '%{recipient}' cannot be used here; ..." },
	{ BASE "[smtpd.hook a]\nevent = mail\ncommand = sh %{id}\n", "c:10: [smtpd.hook a] command: '%{id}' cannot be used here; ..." },
	{ BASE "[smtpd.hook a]\nevent = rcpt\ncommand = sh %{recipients}\n",
	    "c:10: [smtpd.hook a] command: '%{recipients}' cannot be used here; ..." },
	{ BASE "[smtpd.hook a]\nevent = message\ncommand = sh %{user}\n", "c:10: [smtpd.hook a] command: '%{user}' cannot be used here; ..." },
	{ BASE "[smtpd.hook a]\nevent = message\ncommand = sh a%{id}\n", "c:10: [smtpd.hook a] command: 'a%{id}': an expansion is a ..." },
	{ BASE "[smtpd.hook a]\nevent = connect\ncommand = sh %{clientaddress}\n",
	    "c:10: [smtpd.hook a] command: unknown expansion '%{clientaddress}'; did you mean %{client_address}?" },
	{ BASE HOOKED "mail\ntimeout = 601s\n", "c:11: [smtpd.hook h] timeout: '601s' is out of bounds; write 100ms to 10m" },

	/* relaying */
	{ BASE "[smtpd.listener mx]\ntrusted_networks = ::1\n[smtpd.relay]\ncommand = /nowhere\n",
	    "c:11: [smtpd.relay] command: '/nowhere' cannot be executed: No such file or directory; ..." },
	{ BASE "[smtpd.listener mx]\ntrusted_networks = ::1\n[smtpd.relay]\ncommand = sh a%{user}\n",
	    "c:11: [smtpd.relay] command: 'a%{user}': an ..." },
	{ LISTENER "trusted_networks = ::1\n[smtpd.listener b]\n" DELIVERY "[smtpd.relay]\ncommand = sh\n[smtpd]\nuser = nobody\n",
	    "c: [smtpd] domains: '' is no list of domains, so strangers can send nothing; write domains = example.com, or give each listener "
	    "auth or trusted_networks" },
	{ LISTENER "trusted_networks = ::1\n" DELIVERY "[smtpd]\nuser = nobody\n",
	    "c: [smtpd] domains: '' is no list of domains, so no mail ..." },
	{ SMTPD LISTENER "trusted_networks = ::1\n[smtpd.relay]\ncommand = sh\n", "c: [smtpd.delivery]: mail has nowhere to go; ..." },

	/* delivery */
	{ SMTPD LISTENER, "c: [smtpd.delivery]: mail has nowhere to go; ..." },
	{ BASE "command = /bin/sh\n", "c:7: [smtpd.delivery] maildir: '/tmp/%{user}' beside a command; keep one of command and maildir" },
	{ SMTPD LISTENER "[smtpd.delivery]\ncommand = /bin/sh\ncreate = yes\n",
	    "c:8: [smtpd.delivery] create: 'yes' without a maildir; set maildir, or create = no" },
	{ SMTPD LISTENER "[smtpd.delivery]\nmaildir = mail/%{user}\n",
	    "c:7: [smtpd.delivery] maildir: 'mail/%{user}' is no absolute path; ..." },
	{ SMTPD LISTENER "[smtpd.delivery]\nmaildir = /m/%{sender}\n",
	    "c:7: [smtpd.delivery] maildir: '%{sender}' cannot be used here; ..." },
	{ SMTPD LISTENER "[smtpd.delivery]\nmaildir = /m/%{usr}\n",
	    "c:7: [smtpd.delivery] maildir: unknown expansion '%{usr}'; did you mean %{user}?" },
	{ SMTPD LISTENER "[smtpd.delivery]\nmaildir = /m/%{user\n", "c:7: [smtpd.delivery] maildir: '%{user' has no }; ..." },
	{ SMTPD LISTENER "[smtpd.delivery]\ncommand = /bin/sh %{recipent}\n",
	    "c:7: [smtpd.delivery] command: unknown expansion '%{recipent}'; did you mean %{recipient}?" },
	{ SMTPD LISTENER "[smtpd.delivery]\ncommand = /bin/sh -c 'deliver %{recipient}'\n",
	    "c:7: [smtpd.delivery] command: 'deliver %{recipient}': an expansion is a whole argument; ..." },
	{ SMTPD LISTENER "[smtpd.delivery]\ncommand = /bin/sh -c \"a ; b\"\n",
	    "c:7: [smtpd.delivery] command: '/bin/sh -c \"a' has a \" that is ..." },
	{ SMTPD LISTENER "[smtpd.delivery]\ncommand = %{user}\n", "c:7: [smtpd.delivery] command: '%{user}' is the program, ..." },
	{ SMTPD LISTENER "[smtpd.delivery]\ncommand = bin/sh\n", "c:7: [smtpd.delivery] command: 'bin/sh' is a relative path; ..." },
	{ SMTPD LISTENER "[smtpd.delivery]\ncommand = /nowhere/x\n",	/* case 12.9 */
	    "c:7: [smtpd.delivery] command: '/nowhere/x' cannot be executed: No such file or directory; ..." },
	{ SMTPD LISTENER "[smtpd.delivery]\ncommand = no-such-program\n",
	    "c:7: [smtpd.delivery] command: 'no-such-program' cannot be executed: No such file or directory; ..." },
	{ SMTPD LISTENER "[smtpd.delivery]\ncommand = /tmp\n",
	    "c:7: [smtpd.delivery] command: '/tmp' cannot be executed: Is a directory; ..." },
	{ SMTPD LISTENER "[smtpd.delivery]\ncommand = /etc/passwd\n",
	    "c:7: [smtpd.delivery] command: '/etc/passwd' cannot be executed: Permission denied; ..." },
	{ BASE "recipient_command = /bin/sh %{recipients}\n",
	    "c:8: [smtpd.delivery] recipient_command: '%{recipients}' cannot be used here; ..." },
	{ BASE "recipients_file = /nowhere\n",
	    "c:8: [smtpd.delivery] recipients_file: '/nowhere' cannot be read: No such file or directory; correct the path, or the file's mode" },
	{ BASE "recipients_file = /tmp\n", "c:8: [smtpd.delivery] recipients_file: '/tmp' is a directory; name a file" },
	{ BASE "[smtpd]\nspool_dir = /nowhere\n", "c:9: [smtpd] spool_dir: '/nowhere' cannot be used: No such file or directory; ..." },
	{ BASE "[smtpd]\nspool_dir = /etc/passwd\n", "c:9: [smtpd] spool_dir: '/etc/passwd' is no directory; name one" },
	{ BASE "[smtpd.limits]\nmax_spool_memory = 1m\n",
	    "c:9: [smtpd.limits] max_spool_memory: a message of max_message_size, '25m', has no room in it; raise it, or set [smtpd] spool_dir" },
};

static void
every_error(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		print_message("%s\n", wrong[i].error);
		assert_null(load(text_span(wrong[i].text)));
		assert_one_error(wrong[i].error);
	}
}

/* One warning each, and it loads. */
static void
every_warning(void **state)
{
	static const struct {
		const char	*text, *warning;
	} rows[] = {
		{ BASE "[server]\nhostnme = x\n", "c:9: [server] hostname: 'hostnme' is not read by smtpd; did you mean hostname?" },
		{ BASE "[server.tls]\ncert_fil = x\n", "c:9: [server.tls] cert_file: 'cert_fil' is not read by smtpd; did you mean cert_file?" },
		{ BASE "[server.tsl]\ncert_file = x\n", "c:8: [server.tsl] is not read by smtpd; did you mean [server.tls]?" },
		{ BASE "[server.tls]\nself_signed = yes\ncert_file = /etc/passwd\nkey_file = /dev/null\n",
		    "c:9: [server.tls] self_signed: 'yes' beside a cert_file, which is the one that is used; write no" },
		{ BASE "[server.tls]\ncert_file = /etc/passwd\nkey_file = /etc/passwd\n",	/* case 15.5 */
		    "c:10: [server.tls] key_file: '/etc/passwd' can be read by everybody; take that away (chmod o-r)" },
		{ BASE "[smtpd.auth]\npasswd_file = /etc/passwd\n", "c:9: [smtpd.auth] passwd_file: '/etc/passwd' can be read by everybody; ..." },
		{ BASE "[smtpd.relay]\ncommand = /bin/sh\n",
		    "c:9: [smtpd.relay] command: '/bin/sh' will never run; give a listener auth or trusted_networks" },
		{ BASE ISSUER "[smtpd.listener mx]\nauth = required\n", "c:12: [smtpd.listener mx] auth: 'required' keeps other servers out, ..." },
		{ SMTPD DELIVERY ISSUER LAN "auth = optional\n",
		    "c:11: [smtpd.listener mx] auth: 'optional' without a certificate lets in only users on this machine; ..." },
		{ BASE "[smtpd.listener mx]\nmode = smtps\nauth = off\n[server.tls]\nself_signed = yes\n",
		    "c:10: [smtpd.listener mx] auth: 'off': nobody can send here; write required, or set trusted_networks" },
		{ BASE "[spamcheck]\nmoed = x\n", "c:9: [spamcheck] mode: 'moed' is not read by smtpd; did you mean mode?" },
		{ BASE CHECKED "tmeout = x\n", "c:10: [spamcheck.checker r] timeout: 'tmeout' is not read by smtpd; did you mean timeout?" },
		{ BASE "[spamchecks]\n", "c:8: [spamchecks] is not read by smtpd; did you mean [spamcheck]?" },
		{ BASE "[spamcheck.chekcer rspamd]\nurl = x\n",
		    "c:8: [spamcheck.chekcer rspamd] is not read by smtpd; did you mean [spamcheck.checker NAME]?" },
		{ BASE CHECKED "fail_mode = open\n",	/* case 15.6 */
		    "c:10: [spamcheck.checker r] fail_mode: 'open' with one checker lets everything in while that is down; ..." },
		{ BASE CHECKED "[spamcheck]\nfail_mode = open\n", "c:11: [spamcheck] fail_mode: 'open' with one checker ..." },
		{ BASE CHECKED "user = x\n", "c:10: [spamcheck.checker r] user: it is for type = spamassassin only; take it away" },
		{ BASE "[spamcheck.checker a]\ntype = spamassassin\nurl = localhost:783\npassword = verysecret\n",
		    "c:11: [spamcheck.checker a] password: it is for type = rspamd only; take it away" },
		{ BASE "[smtpd.spamtrap]\ncontroller_url = http://127.0.0.1:11334\n",
		    "c:9: [smtpd.spamtrap] controller_url: 'http://127.0.0.1:11334' will learn nothing, ..." },
	};
	char text[256];

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct config *c = load(text_span(rows[i].text));

		print_message("%s\n", rows[i].warning);
		assert_non_null(c);
		config_free(c);
		snprintf(text, sizeof(text), "warning: %s", rows[i].warning);
		assert_one_error(text);
	}
}

/* What is right at the edge of being wrong: nothing is said. */
static void
nothing_to_say(void **state)
{
	static const char *const rows[] = {
		SMTPD DELIVERY ISSUER LAN "mode = alt\nrequire_tls = no\n",		/* nobody logs in in clear all the same */
		SMTPD DELIVERY ISSUER "[smtpd.listener mx]\naddress = [::ffff:127.0.0.1]:0\nmode = alt\nrequire_tls = no\n",
		SMTPD DELIVERY ISSUER "[smtpd.listener mx]\naddress = 127.8.0.1:0\nmode = alt\nauth = optional\nrequire_tls = no\n",
		SMTPD DELIVERY ISSUER LAN "mode = alt\n",				/* AUTH where there is TLS, and there is none */
		SMTPD DELIVERY ISSUER LAN "auth = optional\n[server.tls]\ncert_file = /etc/passwd\nkey_file = /dev/null\n",
		BASE "[server.tls]\nmin_version = 1.0\nself_signed = yes\n",
		BASE ISSUER "jwks_url = http://localhost:8080/a?b=c\n",
		BASE ISSUER "jwks_url = http://127.0.0.2\n",
		BASE ISSUER "jwks_url = HTTPS://[2001:db8::1]:443/\nleeway = 10m\njwks_refresh_interval = 24h\n",
		BASE CHECKED "fail_mode = tempfail\n[spamcheck]\nfail_mode = open\n",
		BASE CHECKED "fail_mode = open\n[spamcheck.checker s]\nurl = unix:/run/a\n",
		BASE "[spamcheck]\nfail_mode = open\n",
		BASE "[spamcheck]\ntempfail_threshold = 5\n",
		BASE "[spamcheck]\ntempfail_threshold = 14\nreject_threshold = 15\n",
		BASE "[spamcheck.checker a]\nurl = unix:/" A70 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",	/* 107 octets, as a socket's address has */
		BASE "[spamcheck.checker a]\nurl = HTTP://rspamd/\nfail_mode =\nmax_size = 0\n",
		BASE "[spamcheck.checker a]\nurl = [::1]:65535\ntype = spamassassin\n",
		BASE "[spamcheck.checker a]\nurl = localhost:1\ntype = spamassassin\n[spamcheck.checker b]\nurl = 127.0.0.1:783\ntype = spamassassin\n",
		BASE "[smtpd]\nrecipient_rejection = data\n[smtpd.spamtrap]\ncontroller_url = unix:/run/a b\n",
		BASE "[smtpd.milter a]\naddress = inet:localhost:8891\n[smtpd.milter b]\naddress = inet:192.0.2.1:1\n",
		BASE HOOKED "connect\n[smtpd.hook a]\nevent = connect\ncommand = sh %{client_address}\n",
		BASE "[smtpd.hook a]\nevent = mail\ncommand = sh %{client_address} %{auth_user} %{sender}\n",
		BASE "[smtpd.hook a]\nevent = rcpt\ncommand = sh %{client_address} %{auth_user} %{sender} %{recipient} %{user} %{domain}\n",
		BASE "[smtpd.hook a]\nevent = message\ncommand = sh %{client_address} %{auth_user} %{sender} %{recipients} %{id}\n",
		BASE "[smtpd.auth.oauth a]\nissuer = http://localhost/a\naudience = x y;z, caf\xc3\xa9\njwks_file = /etc/passwd\n",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		config_free(load_good(rows[i]));
}

static void
all_errors_at_once(void **state)
{
	(void)state;
	assert_null(load(SPAN("[smtpd]\nuser = nobody\nlog_levl = x\ndomains = -\n[smtpd.lmits]\n[smtpd.timeouts]\ncommand = 5\n")));
	assert_string_equal(errors,
	    "c:3: [smtpd] log_levl: unknown key 'log_levl'; did you mean log_level?\n"
	    "c:4: [smtpd] domains: '-' is no domain; write domains with commas between: example.com, example.org\n"
	    "c:5: [smtpd.lmits]: unknown section 'smtpd.lmits'; did you mean [smtpd.limits]?\n"
	    "c:7: [smtpd.timeouts] command: '5' has no unit; write 5s, 5m or 5ms\n"
	    "c: [smtpd.listener NAME]: there is no listener; write such as [smtpd.listener mx] and, below it, address = :25\n"
	    "c: [smtpd.delivery]: mail has nowhere to go; write command = ... or maildir = /var/mail/%{domain}/%{user}\n");
}

/* More errors than there is room for: the last line says so. */
static void
errors_are_bounded(void **state)
{
	char memory[300];
	struct buf b;

	(void)state;
	write_file(SPAN("[smtpd]\na = 1\nb = 1\nc = 1\nd = 1\n"));
	buf_fixed(&b, memory, sizeof(memory));
	assert_null(config_load(file, NULL, NULL, 0, &b));
	assert_false(b.failed);
	assert_non_null(strstr(buf_str(&b), "more than fits here; mend these first\n"));
}

static void
files_that_are_none(void **state)
{
	static char big[CONFIG_FILE_MAX + 1];
	char *line = big + strlen(BASE);

	(void)state;
	assert_null(load(SPAN(BASE "[smtpd]\nlog_\0level = info\nlog_levl = x\n")));
	assert_string_equal(errors, "c:9: the line 'log_' has a NUL octet; remove it\n"
	    "c:10: [smtpd] log_levl: unknown key 'log_levl'; did you mean log_level?\n");
	assert_null(load_as("/tmp/nowhere.conf", NULL, NULL, 0));
	assert_non_null(strstr(errors, "/tmp/nowhere.conf: the file cannot be read: No such file or directory; name another with -c\n"));
	assert_null(load_as("/tmp", NULL, NULL, 0));
	assert_non_null(strstr(errors, "/tmp: the file cannot be read: Is a directory; name another with -c\n"));

	memset(big, 'x', sizeof(big));
	memcpy(big, BASE, strlen(BASE));
	*line = '#';
	config_free(load((struct span){ big, strlen(BASE) + 8000 }));	/* at the bound */
	assert_string_equal(errors, "");
	assert_null(load((struct span){ big, strlen(BASE) + 8001 }));
	assert_one_error("c:8: '#xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...': the line has 8001 octets; at most 8000 are read");
	assert_null(load((struct span){ big, CONFIG_FILE_MAX }));	/* a line of nearly 1 MiB */
	assert_one_error("c:8: '#xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...': the line has 1048...");
	assert_null(load((struct span){ big, CONFIG_FILE_MAX + 1 }));
	assert_non_null(strstr(errors, "c: the file has more than 1048576 octets; is it a configuration?\n"));
	assert_null(load(SPAN("")));
	assert_non_null(strstr(errors, "there is no listener"));
}

/* Sections of other daemons, and keys of shared ones, are theirs. */
static void
others_are_left_alone(void **state)
{
	struct config *c = load_good(BASE "[imapd]\nno key\n continued\nlog_level = x\n[pop3d]\n[spamcheck.rspamd]\nurl = x\n[spamcheck rules]\n[spamcheck]\ngreylist = x\n"
	    "[redis]\nx = y\n[server.tls]\nticket_file = /x\n[server.ldap]\nx = y\n[server]\nfoo = bar\n[lmtpd.limits]\nmax_errors = 99999999\n");

	(void)state;
	assert_int_equal(c->max_errors, 20);
	config_free(c);
	c = load_good("; x\n\n  # y\n" SMTPD "[smtpd] ; again\nlog_level: debug\t; x ; y\n" LISTENER DELIVERY
	    "[ smtpd.limits ]# z\nmax_errors=3\n[smtpd.listener\t b]");
	assert_int_equal(c->log_level, LOG_DEBUG);
	assert_int_equal(c->max_errors, 3);
	assert_int_equal(c->listeners_n, 2);	/* an empty section is a listener, too */
	assert_string_equal(c->listeners[1].name, "b");
	assert_string_equal(c->listeners[1].address, ":25");
	config_free(c);
}

static void
flag_beats_environment_beats_file(void **state)
{
	char *env[] = { "PATH=/bin", "SMTPD_LIMITS_MAX_ERRORS=3", "SMTPD_LOG_LEVEL=warn", "SMTPD_SERVER_HOSTNAME=env.example",
		"SMTPD_DELIVERY_USER=nobody", "SMTPD_LISTENER_MX_ADDRESS=127.0.0.1:2", "SMTPD_LISTENER_BIG_ONE_BARE_NEWLINE=normalize",
		"SMTPD_LISTENER_BIG_ONE_ADDRESS=[::1]:1", "XSMTPD_FOO=1", NULL };
	const char *const flags[] = { "smtpd.log_level=error", "smtpd.listener.big_one.workers=2", "smtpd.listener mx.mode=alt",
		"smtpd.listener.third.address=[::1]:3", "smtpd.delivery.maildir=/x/%{user}=y" };
	static char out[OUT_MAX];
	struct config *c;

	(void)state;
	write_file(SPAN(BASE "[smtpd.limits]\nmax_errors = 2\nmax_recipients = 2\n"));
	c = load_as(file, env, flags, COUNT(flags));
	assert_string_equal(errors, "");
	assert_non_null(c);
	assert_int_equal(c->max_recipients, 2);
	assert_int_equal(c->max_errors, 3);
	assert_int_equal(c->log_level, LOG_ERROR);
	assert_string_equal(c->hostname, "env.example");
	assert_string_equal(c->delivery_user, "nobody");
	assert_string_equal(c->maildir, "/x/%{user}=y");
	assert_int_equal(c->listeners_n, 3);
	assert_string_equal(c->listeners[0].address, "127.0.0.1:2");
	assert_int_equal(c->listeners[0].mode, MODE_ALT);
	assert_string_equal(c->listeners[1].name, "big_one");
	assert_int_equal(c->listeners[1].workers, 2);
	assert_int_equal(c->listeners[1].bare_newline, NEWLINE_NORMALIZE);
	assert_string_equal(c->listeners[2].name, "third");
	print_to(c, out);
	assert_non_null(strstr(out, "/c:10\n"));
	assert_non_null(strstr(out, "\nmax_errors            = 3                              ; environment SMTPD_LIMITS_MAX_ERRORS\n"));
	assert_non_null(strstr(out, "\nlog_level             = error                          ; flag\n"));
	assert_non_null(strstr(out, "\nmax_connections       = 1000                           ; default\n"));
	assert_non_null(strstr(out, "\n[smtpd.listener big_one]\n"));
	assert_non_null(strstr(out, "; environment SMTPD_LISTENER_BIG_ONE_BARE_NEWLINE\n"));
	config_free(c);
}

/* Which key of which section a variable or flag means, also where a NAME is a key's name. */
static void
names_of_sections(void **state)
{
	static const struct {
		char		*variable;
		const char	*flag, *name;
		const char	*issuer, *jwks_url;
	} rows[] = {
		{ "SMTPD_AUTH_OAUTH_ISSUER=https://x", NULL, "", "https://x", "" },
		{ "SMTPD_AUTH_OAUTH_A_ISSUER=https://x", NULL, "a", "https://x", "" },
		{ "SMTPD_AUTH_OAUTH_A_B_JWKS_URL=https://x", NULL, "a_b", "", "https://x" },
		{ "SMTPD_AUTH_OAUTH_ISSUER_ISSUER=https://x", NULL, "issuer", "https://x", "" },
		{ "SMTPD_AUTH_OAUTH_JWKS_JWKS_URL=https://x", NULL, "jwks", "", "https://x" },
		{ "SMTPD_AUTH_OAUTH_JWKS_URL=https://x", NULL, "", "", "https://x" },	/* not key URL of JWKS */
		{ "SMTPD_AUTH_OAUTH_JWKS_URL_ISSUER=https://x", NULL, "jwks_url", "https://x", "" },
		{ NULL, "smtpd.auth.oauth.issuer=https://x", "", "https://x", "" },
		{ NULL, "smtpd.auth.oauth.a.issuer=https://x", "a", "https://x", "" },
		{ NULL, "smtpd.auth.oauth a.issuer=https://x", "a", "https://x", "" },
		{ NULL, "smtpd.auth.oauth.issuer.issuer=https://x", "issuer", "https://x", "" },
		{ NULL, "smtpd.auth.oauth.issuer.jwks_url=https://x?a.b=c", "issuer", "", "https://x?a.b=c" },
	};
	char audience[64], other[64];

	(void)state;
	write_file(SPAN(BASE));
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *env[] = { audience, other, rows[i].variable, NULL };
		const char *n = rows[i].name;
		struct config *c;

		print_message("%s%s\n", rows[i].variable == NULL ? "" : rows[i].variable, rows[i].flag == NULL ? "" : rows[i].flag);
		snprintf(audience, sizeof(audience), "SMTPD_AUTH_OAUTH_%s%sAUDIENCE=a", n, *n == '\0' ? "" : "_");
		snprintf(other, sizeof(other), "SMTPD_AUTH_OAUTH_%s%sISSUER=https://y", n, *n == '\0' ? "" : "_");
		for (char *s = audience; *s != '='; s++)
			*s = (char)(*s >= 'a' && *s <= 'z' ? *s - ('a' - 'A') : *s);
		for (char *s = other; *s != '='; s++)
			*s = (char)(*s >= 'a' && *s <= 'z' ? *s - ('a' - 'A') : *s);
		c = load_as(file, env, &rows[i].flag, rows[i].flag != NULL);
		assert_string_equal(errors, "");
		assert_non_null(c);
		assert_int_equal(c->issuers_n, 1);
		assert_string_equal(c->issuers[0].name, n);
		assert_string_equal(c->issuers[0].issuer, *rows[i].issuer == '\0' ? "https://y" : rows[i].issuer);
		assert_string_equal(c->issuers[0].jwks_url, rows[i].jwks_url);
		config_free(c);
	}
	char *filters[] = { "SMTPD_SPAMCHECK_MODE=all_reject", "SMTPD_SPAMCHECK_CHECKER_RSPAMD_URL=http://r", "SMTPD_MILTER_A_ADDRESS=unix:/a",
		"SMTPD_SPAMCHECK_CHECKER_RSPAMD_MAX_SIZE=1k", "SMTPD_HOOK_A_EVENT=mail", "SMTPD_HOOK_A_COMMAND=/bin/sh", NULL };
	const char *more[] = { "spamcheck.add_headers=no", "spamcheck.checker.rspamd.discard=yes", "smtpd.hook.a.timeout=1s" };
	struct config *f = load_as(file, filters, more, COUNT(more));
	assert_string_equal(errors, "");
	assert_non_null(f);
	assert_int_equal(f->check_mode, CHECK_ALL_REJECT);
	assert_false(f->check_add_headers);
	assert_int_equal(f->checkers_n, 1);
	assert_string_equal(f->checkers[0].name, "rspamd");
	assert_string_equal(f->checkers[0].url, "http://r");
	assert_true(f->checkers[0].max_size == 1024 && f->checkers[0].discard);
	assert_string_equal(f->milters[0].address, "unix:/a");
	assert_true(f->hooks_n == 1 && f->hooks[0].timeout_ms == 1000);
	config_free(f);
	/* A section of the file whose name has a -: the variable is of that one. */
	write_file(SPAN(BASE "[smtpd.auth.oauth A-b]\naudience = a\n"));
	char *dash[] = { "SMTPD_AUTH_OAUTH_A_B_ISSUER=https://x", "SMTPD_SERVER_TLS_MIN_VERSION=1.0", NULL };
	struct config *c = load_as(file, dash, NULL, 0);
	assert_non_null(c);
	assert_int_equal(c->issuers_n, 1);
	assert_string_equal(c->issuers[0].issuer, "https://x");
	assert_int_equal(c->tls_min_version, TLS_MIN_1_0);
	config_free(c);
}

static void
wrong_variables_and_flags(void **state)
{
	static const struct {
		char		*variable;
		const char	*flag, *error;
	} rows[] = {
		{ "SMTPD_LOG_LEVL=info", NULL, "environment SMTPD_LOG_LEVL: unknown variable 'SMTPD_LOG_LEVL'; did you mean SMTPD_LOG_LEVEL?" },
		{ "SMTPD_LOG_LEVEL=x", NULL, "environment SMTPD_LOG_LEVEL: [smtpd] log_level: 'x' is not one of ..." },
		{ "SMTPD_LISTENER_MX_ADDRES=x", NULL, "environment SMTPD_LISTENER_MX_ADDRES: unknown variable ..." },
		{ "SMTPD_LISTENER_mx_MODE=alt", NULL, "environment SMTPD_LISTENER_mx_MODE: unknown variable ..." },
		{ "SMTPD_LISTENER_A.B_MODE=alt", NULL, "environment SMTPD_LISTENER_A.B_MODE: [smtpd.listener a.b]: 'a.b' is no name; ..." },
		{ "SMTPD_LISTENER__MODE=alt", NULL, "environment SMTPD_LISTENER__MODE: unknown variable ..." },
		{ "SMTPD_PORT=tcp://10.0.0.1:25", NULL, "environment SMTPD_PORT: unknown variable 'SMTPD_PORT'; if Kubernetes ..." },
		{ "SMTPD_SPOOL_DIR=/a\nb", NULL, "environment SMTPD_SPOOL_DIR: [smtpd] spool_dir: '/a?b' has a control character; remove it" },
		{ "SMTPD_DELIVERY_MAILDIR=/a ;b", NULL, "environment SMTPD_DELIVERY_MAILDIR: [smtpd.delivery] maildir: '/a ;b' has a ; ..." },
		{ "SMTPD_AUTH_OAUTH_ISUER=x", NULL, "environment SMTPD_AUTH_OAUTH_ISUER: unknown variable ..." },
		{ "SMTPD_AUTH_OAUTH__ISSUER=x", NULL, "environment SMTPD_AUTH_OAUTH__ISSUER: unknown variable ..." },
		{ "SMTPD_LISTENER_ADDRESS=:1", NULL, "environment SMTPD_LISTENER_ADDRESS: unknown variable ..." },
		{ "SMTPD_LISTENER_MX_REQUIRE_TLS=x", NULL, "environment SMTPD_LISTENER_MX_REQUIRE_TLS: [smtpd.listener mx] require_tls: 'x' is ..." },
		{ "SMTPD_TLS_CERT_FILE=/x", NULL, "environment SMTPD_TLS_CERT_FILE: unknown variable 'SMTPD_TLS_CERT_FILE'; ..." },
		{ "SMTPD_SPAMCHECK_MOED=x", NULL, "environment SMTPD_SPAMCHECK_MOED: unknown variable 'SMTPD_SPAMCHECK_MOED'; did you mean SMTPD_SPAMCHECK_MODE?" },
		{ "SMTPD_SPAMCHECK_CHECKER_URL=http://a", NULL, "environment SMTPD_SPAMCHECK_CHECKER_URL: unknown variable ..." },
		{ "SMTPD_SPAMTRAP_PASSWORD=very\nsecret", NULL, "environment SMTPD_SPAMTRAP_PASSWORD: [smtpd.spamtrap] password: '****' has a ..." },
		{ NULL, "spamcheck.moed=x", "flag -o spamcheck.moed: [spamcheck] moed: unknown key 'moed'; did you mean mode?" },
		{ NULL, "spamcheck.other.x=y", "flag -o spamcheck.other.x: unknown section 'spamcheck.other'; ..." },
		{ NULL, "server.tls.cert_fil=x",
		    "flag -o server.tls.cert_fil: [server.tls] cert_fil: unknown key 'cert_fil'; did you mean cert_file?" },
		{ NULL, "server.tsl.cert_file=x", "flag -o server.tsl.cert_file: unknown section 'server.tsl'; did you mean server.tls?" },
		{ NULL, "smtpd.listener.address=:25",
		    "flag -o smtpd.listener.address: [smtpd.listener]: the listener has no name; write [smtpd.listener mx]" },
		{ NULL, "smtpd.listener.mx.auth=required",
		    "flag -o smtpd.listener.mx.auth: [smtpd.listener mx] auth: 'required' asks for users, ..." },
		{ NULL, "smtpd.auth.oauth.a.b.issuer=x", "flag -o smtpd.auth.oauth.a.b.issuer: [smtpd.auth.oauth a.b]: 'a.b' is no name; ..." },
		{ NULL, "smtpd.log_levl=info", "flag -o smtpd.log_levl: [smtpd] log_levl: unknown key 'log_levl'; did you mean log_level?" },
		{ NULL, "smtpd.delivery.maildir=/%{usr}", "flag -o smtpd.delivery.maildir: [smtpd.delivery] maildir: unknown expansion ..." },
		{ NULL, "smtpd.log_level", "flag -o smtpd.log_level: 'smtpd.log_level' is no section.key=value; ..." },
		{ NULL, "log_level=info", "flag -o log_level=info: 'log_level=info' is no section.key=value; ..." },
		{ NULL, "imapd.log_level=info", "flag -o imapd.log_level: unknown section 'imapd'; did you mean ..." },
		{ NULL, "smtpd.limit.max_errors=1", "flag -o smtpd.limit.max_errors: [smtpd.limit]: unknown section 'smtpd.limit'; ..." },
		{ NULL, "smtpd" A70 ".x=1", "flag -o smtpd" A70 ".x: [smtpd" A70 "]: unknown section 'smtpd" A70 "'; did you mean [smtpd]?" },
		{ NULL, A70 ".x=1", "flag -o " A70 ".x: unknown section '" A70 "'; did you mean smtpd?" },
		{ NULL, "smtpd." A70 "=1", "flag -o smtpd." A70 ": [smtpd] " A70 ": unknown key ..." },
		{ NULL, "server.hostnam=x", "flag -o server.hostnam: [server] hostnam: unknown key 'hostnam'; did you mean hostname?" },
		{ NULL, "smtpd.listener.a.b.mode=smtp", "flag -o smtpd.listener.a.b.mode: [smtpd.listener a.b]: ..." },
	};

	(void)state;
	write_file(SPAN(BASE));
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *env[] = { rows[i].variable, NULL };

		print_message("%s\n", rows[i].error);
		assert_null(load_as(file, env, &rows[i].flag, rows[i].flag != NULL));
		assert_one_error(rows[i].error);
	}
}

/* By the environment alone, as in a container. */
static void
no_file(void **state)
{
	char *env[] = { "SMTPD_USER=nobody", "SMTPD_DOMAINS=a.example, b.example", "SMTPD_LISTENER_MX_ADDRESS=:0",
		"SMTPD_DELIVERY_COMMAND=/bin/sh -c 'a ; b; c' \"d \" ;'x y' %{recipient}", NULL };
	static char out[OUT_MAX], again[OUT_MAX];
	struct config *c = load_as(NULL, env, NULL, 0);

	(void)state;
	assert_string_equal(errors, "");
	assert_non_null(c);
	assert_string_equal(c->command.v[2], "a ; b; c");
	assert_string_equal(c->command.v[4], ";x y");
	print_to(c, out);
	config_free(c);
	c = load_good(out);
	assert_int_equal(c->command.n, 6);
	assert_string_equal(c->command.v[2], "a ; b; c");
	assert_string_equal(c->command.v[3], "d ");
	print_to(c, again);
	config_free(c);
	without_origins(out);
	without_origins(again);
	assert_string_equal(out, again);
}

/* A word at the end of its line that ends in a blank, and others that inih would cut or a shell join. */
static void
odd_words_print_the_same(void **state)
{
	static const char *const rows[] = { "';x '", "'x; '\\'", "''", "\\;", "'a;\tb\t'", "\"'\"", "\\\\", "#", "'\"' =[]", "caf\xc3\xa9", "'\\'" };
	static char out[OUT_MAX];
	char variable[256];

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *env[] = { variable, NULL };
		struct config *a, *b;

		snprintf(variable, sizeof(variable), "SMTPD_DELIVERY_COMMAND=/bin/sh %s", rows[i]);
		print_message("%s\n", variable);
		write_file(SPAN(SMTPD LISTENER));
		a = load_as(file, env, NULL, 0);
		assert_non_null(a);
		print_to(a, out);
		b = load_good(out);
		assert_int_equal(a->command.n, b->command.n);
		for (size_t w = 0; w < a->command.n; w++)
			assert_string_equal(a->command.v[w], b->command.v[w]);
		config_free(a);
		config_free(b);
	}
}

/* Case 13.11. */
static void
deliveries_fit_the_limit_of_processes(void **state)
{
	struct rlimit old, low;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NPROC, &old), 0);
	low = old;
	low.rlim_cur = 50;
	assert_int_equal(setrlimit(RLIMIT_NPROC, &low), 0);
	config_free(load_good(BASE "[smtpd.limits]\nmax_deliveries = 41\n"));
	assert_null(load(SPAN(BASE "[smtpd.limits]\nmax_deliveries = 42\n")));
	assert_one_error("c:9: [smtpd.limits] max_deliveries: '42' is too many: the system allows 50 processes ...");
	config_free(load_good(BASE "[smtpd.limits]\nmax_deliveries = 37\n[smtpd.auth]\npasswd_file = /dev/null\n"));
	assert_null(load(SPAN(BASE "[smtpd.limits]\nmax_deliveries = 38\n[smtpd.auth]\npasswd_file = /dev/null\n")));
	assert_int_equal(setrlimit(RLIMIT_NPROC, &old), 0);
}

static void
hooks_fit_the_limit_of_processes(void **state)
{
	struct rlimit old, low;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NPROC, &old), 0);
	low = old;
	low.rlim_cur = 50 + HOOKS_MAX;
	assert_int_equal(setrlimit(RLIMIT_NPROC, &low), 0);
	config_free(load_good(BASE HOOKED "mail\n[smtpd.limits]\nmax_deliveries = 41\n"));
	assert_null(load(SPAN(BASE HOOKED "mail\n[smtpd.limits]\nmax_deliveries = 42\n")));
	assert_one_error("c:12: [smtpd.limits] max_deliveries: '42' is too many: ...");
	assert_int_equal(setrlimit(RLIMIT_NPROC, &old), 0);
}

static void
look_ups_of_names_fit_the_limit_of_processes(void **state)
{
#define MILTERED BASE "[smtpd.milter m]\naddress = unix:/m\n[smtpd.limits]\nmax_deliveries = 42\n[smtpd]\nclient_names = "
	struct rlimit old, low;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NPROC, &old), 0);
	low = old;
	low.rlim_cur = 50 + NAMES_CALLS_MAX;
	assert_int_equal(setrlimit(RLIMIT_NPROC, &low), 0);
	config_free(load_good(MILTERED "no\n"));
	assert_null(load(SPAN(MILTERED "yes\n")));
	assert_one_error("c:11: [smtpd.limits] max_deliveries: '42' is too many: ...");
	assert_int_equal(setrlimit(RLIMIT_NPROC, &old), 0);
}

/* A secret: printed as such, read from its file, wiped. */
static void
secrets(void **state)
{
	static const struct {
		const char	*text, *secret;	/* NULL: refused, with this error */
		const char	*error;
	} rows[] = {
		{ "verysecret", "verysecret", NULL },
		{ "verysecret\n", "verysecret", NULL },
		{ "verysecret\r\n", "verysecret", NULL },
		{ " very ;secret \nuser: x\n", " very ;secret ", NULL },
		{ "caf\xc3\xa9\n", "caf\xc3\xa9", NULL },
		{ "", NULL, "has nothing in its first line" },
		{ "\nverysecret\n", NULL, "has nothing in its first line" },
		{ "\r\n", NULL, "has nothing in its first line" },
		{ "very\tsecret\n", NULL, "control character" },
		{ "very\rsecret\n", NULL, "control character" },
		{ "caf\xe9\n", NULL, "not UTF-8" },
	};
	static char out[OUT_MAX];
	char text[512], name[80], *env[] = { "SMTPD_SPAMTRAP_PASSWORD=verysecret", NULL };
	char big[SECRET_MAX + 2];
	const char *flag = "spamcheck.checker.r.password=verysecret";
	struct config *c;

	(void)state;
	write_file(SPAN(BASE CHECKED));
	c = load_as(file, env, &flag, 1);
	assert_string_equal(errors, "");
	assert_non_null(c);
	assert_string_equal(c->checkers[0].password, "verysecret");
	assert_string_equal(c->trap_password, "verysecret");
	print_to(c, out);
	assert_null(strstr(out, "verysecret"));
	assert_non_null(strstr(out, "\npassword              = ****                           ; environment SMTPD_SPAMTRAP_PASSWORD\n"));
	assert_non_null(strstr(out, "\npassword              = ****                           ; flag\n"));
	config_forget_secrets(c);
	assert_string_equal(c->checkers[0].password, "");
	assert_string_equal(c->trap_password, "");
	config_free(c);

	snprintf(name, sizeof(name), "%s/secret", path);
	snprintf(text, sizeof(text), "%spassword_file = %s\n", BASE CHECKED, name);
	memset(big, 'x', sizeof(big));
	for (size_t i = 0; i < COUNT(rows) + 2; i++) {	/* the last two are at the bound, and one past it */
		size_t len = i < COUNT(rows) ? strlen(rows[i].text) : (size_t)SECRET_MAX + (i - COUNT(rows));
		const char *what = i < COUNT(rows) ? rows[i].text : big;
		FILE *f = fopen(name, "wb");

		print_message("%s\n", i < COUNT(rows) ? what : "long");
		assert_non_null(f);
		assert_int_equal(fwrite(what, 1, len, f), len);
		assert_int_equal(fclose(f), 0);
		assert_int_equal(chmod(name, 0600), 0);
		c = load(text_span(text));
		assert_null(strstr(errors, "verysecret"));
		if (i == COUNT(rows) + 1 || (i < COUNT(rows) && rows[i].secret == NULL)) {
			assert_null(c);
			assert_one_error("c:10: [spamcheck.checker r] password_file: 'secret'...");
			assert_non_null(strstr(errors, i < COUNT(rows) ? rows[i].error : "more than 1024 octets"));
			continue;
		}
		assert_string_equal(errors, "");
		assert_non_null(c);
		assert_int_equal(strlen(c->checkers[0].password), i < COUNT(rows) ? strlen(rows[i].secret) : SECRET_MAX);
		assert_memory_equal(c->checkers[0].password, i < COUNT(rows) ? rows[i].secret : big, strlen(c->checkers[0].password));
		print_to(c, out);
		assert_null(strstr(out, "****"));	/* it would be read again, beside its file */
		config_free(c);
		config_free(load_good(out));
	}
	write_file(SPAN("verysecret\n"));	/* everybody may read this one */
	assert_int_equal(chmod(file, 0644), 0);
	assert_int_equal(rename(file, name), 0);
	config_free(load(text_span(text)));
	assert_one_error("warning: c:10: [spamcheck.checker r] password_file: 'secret' can be read by everybody; take that away (chmod o-r)");
	assert_int_equal(unlink(name), 0);
}

/* Behind each secret is the key of its file. */
static void
secrets_have_twins(void **state)
{
	size_t n = 0;

	(void)state;
	for (const struct key *k = config_keys; k < config_keys + config_keys_n; k++) {
		char name[64];

		if (k->type != &type_secret)
			continue;
		print_message("[%s] %s\n", k->section, k->name);
		snprintf(name, sizeof(name), "%s_file", k->name);
		assert_true(k + 1 < config_keys + config_keys_n);
		assert_string_equal(k[1].section, k->section);
		assert_string_equal(k[1].name, name);
		assert_ptr_equal(k[1].type, &type_path);
		n++;
	}
	assert_int_equal(n, 2);
}

static void
root_needs_users(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	assert_null(load(SPAN("[smtpd]\ndomains = x\nuser = no-such-user\n" LISTENER DELIVERY)));
	assert_one_error("c:3: [smtpd] user: 'no-such-user' is no user here, and smtpd is started as root; ...");
	assert_null(load(SPAN("[smtpd]\ndomains = x\nuser = root\n" LISTENER DELIVERY)));
	assert_one_error("c:3: [smtpd] user: 'root' is root; name an unprivileged user");
	assert_null(load(SPAN("[smtpd]\ndomains = x\nuser =\n" LISTENER DELIVERY)));
	assert_one_error("c:3: [smtpd] user: '' is no user here, ...");
	assert_null(load(SPAN(BASE "user = no-such-user\n")));
	assert_one_error("c:8: [smtpd.delivery] user: 'no-such-user' is no user here, ...");
	config_free(load(SPAN(BASE "user = root\n")));
	assert_one_error("warning: c:8: [smtpd.delivery] user: 'root' is root; ...");
	assert_null(load(SPAN("[smtpd]\ndomains = x\nuser = 0:1000\n" LISTENER DELIVERY)));
	assert_one_error("c:3: [smtpd] user: '0:1000' is root; name an unprivileged user");
	for (const char *const *s = (const char *const[]){ "65533", "65533:65532", NULL }; *s != NULL; s++) {	/* of no database */
		char text[512];
		struct config *c;

		(void)snprintf(text, sizeof(text), "[smtpd]\ndomains = x\nuser = %s\n%s%suser = %s\n", *s, LISTENER, DELIVERY, *s);
		c = load(text_span(text));
		assert_non_null(c);
		config_free(c);
	}
}

static void
too_many_listeners(void **state)
{
	char text[4096];
	int n = snprintf(text, sizeof(text), "%s", SMTPD DELIVERY);

	(void)state;
	for (int i = 1; i <= CONFIG_LISTENERS_MAX; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "[smtpd.listener l%d]\naddress = :%d\n", i, i);
	config_free(load_good(text));
	snprintf(text + n, sizeof(text) - (size_t)n, "[smtpd.listener last]\nmode = nonsense\n");
	assert_null(load(text_span(text)));
	assert_one_error("c:38: [smtpd.listener last]: 'last' is one listener too many; at most 16 are possible");
}

/* 8 issuers: one without a name and seven others. */
static void
too_many_issuers(void **state)
{
	char text[4096];
	int n = snprintf(text, sizeof(text), "%s", BASE ISSUER);

	(void)state;
	for (int i = 1; i < CONFIG_ISSUERS_MAX; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "[smtpd.auth.oauth i%d]\nissuer = https://%d.example\naudience = a\n", i, i);
	config_free(load_good(text));
	snprintf(text + n, sizeof(text) - (size_t)n, "[smtpd.auth.oauth last]\nleeway = nonsense\n");
	assert_null(load(text_span(text)));
	assert_one_error("c:32: [smtpd.auth.oauth last]: 'last' is one issuer too many; at most 8 are possible");
}

static void
papers_know_every_key(void **state)
{
	static char sample[OUT_MAX], paper[PAPER_MAX], manual[PAPER_MAX];
	char section[64] = "", key[64], want[160];
	FILE *f = fmemopen(sample, sizeof(sample), "w");
	char *line, *rest = sample, *section_at = NULL;
	size_t n = 0;

	(void)state;
	assert_non_null(f);
	assert_int_equal(config_print_sample(f), 0);
	assert_int_equal(fclose(f), 0);
	read_paper("contrib/smtpd.conf.sample", paper);
	assert_string_equal(sample, paper);
	read_paper("doc/smtpd.conf.5", manual);
	while ((line = strsep(&rest, "\n")) != NULL) {
		if (sscanf(line + (*line == '#'), "[%63[^] ]", section) == 1) {	/* a section that may have a name is there with it */
			print_message("[%s]\n", section);
			snprintf(want, sizeof(want), "\n.Ss [%s NAME]\\&\n", section);
			if ((section_at = strstr(manual, want)) == NULL) {
				snprintf(want, sizeof(want), "\n.Ss [%s]\\&\n", section);
				section_at = strstr(manual, want);
			}
			assert_non_null(section_at);
			continue;
		}
		if (*line == '\0' || strncmp(line, "# ", 2) == 0)
			continue;
		assert_int_equal(sscanf(line + (*line == '#'), "%63[a-z_] =", key), 1);
		snprintf(want, sizeof(want), "\n.It Cm %s ", key);
		print_message("%s", want);
		assert_non_null(section_at);
		const char *at = strstr(section_at, want), *end = strstr(section_at + 1, "\n.Ss ");
		assert_non_null(at);
		assert_true(end == NULL || at < end);
		n++;
	}
	assert_true(n >= 50);
}

/* No two keys have one variable, and behind a NAME none ends in "_" and another key, which could be read in two ways. */
static void
variables_have_one_meaning(void **state)
{
	static char sample[OUT_MAX];
	static struct {
		char	section[64], key[64], variable[130];
		bool	named;	/* its section may have a NAME: there is one, or it is commented out */
	} k[256];
	char section[64] = "", key[64], *line, *rest = sample;
	bool named = false;
	FILE *f = fmemopen(sample, sizeof(sample), "w");
	size_t n = 0;

	(void)state;
	assert_non_null(f);
	assert_int_equal(config_print_sample(f), 0);
	assert_int_equal(fclose(f), 0);
	while ((line = strsep(&rest, "\n")) != NULL) {
		if (sscanf(line + (*line == '#'), "[%63[^] ]", section) == 1)
			named = *line == '#' || strchr(line, ' ') != NULL;
		if (strncmp(line, "# ", 2) == 0 || sscanf(line + (*line == '#'), "%63[a-z_] =", key) != 1)
			continue;
		k[n].named = named;
		snprintf(k[n].section, sizeof(k[n].section), "%s", section);
		snprintf(k[n].key, sizeof(k[n].key), "%s", key);
		snprintf(k[n].variable, sizeof(k[n].variable), "%s_%s", section, key);
		for (char *s = k[n].variable; *s != '\0'; s++)
			*s = (char)(*s == '.' ? '_' : *s);
		assert_true(++n < COUNT(k));
	}
	assert_true(n >= 50);
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < n; j++) {
			size_t a = strlen(k[i].key), b = strlen(k[j].key);

			print_message("%s %s\n", k[i].variable, k[j].variable);
			assert_true(i == j || strcmp(k[i].variable, k[j].variable) != 0);
			/* nor is a NAME, of what is another section's key */
			assert_false(k[i].named && strcmp(k[i].section, k[j].section) != 0 &&
			    strncmp(k[j].variable, k[i].variable, strlen(k[i].section) + 1) == 0);
			assert_false(k[i].named && strcmp(k[i].section, k[j].section) == 0 && a > b && k[i].key[a - b - 1] == '_' &&
			    strcmp(k[i].key + a - b, k[j].key) == 0);
		}
	}
}

/* What is not commented out in the sample is a configuration, and what is, is one too where it says a default. */
static void
the_sample_loads(void **state)
{
	char *env[] = { "SMTPD_USER=nobody", NULL };
	struct config *c = load_as("contrib/smtpd.conf.sample", env, NULL, 0);

	(void)state;
	assert_string_equal(errors, "");
	assert_non_null(c);
	assert_int_equal(c->listeners_n, 1);
	config_free(c);
}

/* A program without a path is looked for where it will be when it runs, whatever the PATH that we were started with. */
static void
programs_are_looked_for_in_their_own_path(void **state)
{
	char ours[64], *env[] = { ours, NULL };
	struct config *c;

	(void)state;
	(void)snprintf(ours, sizeof(ours), "PATH=%s", path);
	write_file(SPAN(SMTPD LISTENER "[smtpd.delivery]\ncommand = sh\n"));
	c = load_as(file, env, NULL, 0);
	assert_string_equal(errors, "");
	assert_non_null(c);
	config_free(c);
	write_file(SPAN(SMTPD LISTENER "[smtpd.delivery]\ncommand = c\n"));	/* the file itself */
	assert_int_equal(chmod(file, 0755), 0);
	assert_null(load_as(file, env, NULL, 0));
	assert_one_error("c:7: [smtpd.delivery] command: 'c' cannot be executed: No such file or directory; ...");
	assert_int_equal(chmod(file, 0644), 0);
}

static int
setup(void **state)
{
	(void)state;
	if (mkdtemp(path) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/c", path);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	unlink(file);
	return rmdir(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),
		cmocka_unit_test(every_field),
		cmocka_unit_test(defaults),
		cmocka_unit_test(auth_is_by_mode),
		cmocka_unit_test(relaying_only),
		cmocka_unit_test(networks),
		cmocka_unit_test(peers),
		cmocka_unit_test(one_recipient_at_a_time),
		cmocka_unit_test(every_error),
		cmocka_unit_test(every_warning),
		cmocka_unit_test(nothing_to_say),
		cmocka_unit_test(all_errors_at_once),
		cmocka_unit_test(errors_are_bounded),
		cmocka_unit_test(files_that_are_none),
		cmocka_unit_test(others_are_left_alone),
		cmocka_unit_test(flag_beats_environment_beats_file),
		cmocka_unit_test(names_of_sections),
		cmocka_unit_test(wrong_variables_and_flags),
		cmocka_unit_test(no_file),
		cmocka_unit_test(odd_words_print_the_same),
		cmocka_unit_test(deliveries_fit_the_limit_of_processes),
		cmocka_unit_test(hooks_fit_the_limit_of_processes),
		cmocka_unit_test(look_ups_of_names_fit_the_limit_of_processes),
		cmocka_unit_test(secrets),
		cmocka_unit_test(secrets_have_twins),
		cmocka_unit_test(root_needs_users),
		cmocka_unit_test(too_many_listeners),
		cmocka_unit_test(too_many_issuers),
		cmocka_unit_test(papers_know_every_key),
		cmocka_unit_test(variables_have_one_meaning),
		cmocka_unit_test(the_sample_loads),
		cmocka_unit_test(programs_are_looked_for_in_their_own_path),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
