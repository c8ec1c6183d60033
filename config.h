/*
 * config.h - the configuration: one INI file, the environment and the flags, into one const structure.
 *
 * One table in config_keys.c knows the keys (name, type, default, bounds, help); the loader, smtpd -T, the sample file's and
 * the man page's checks all read it. config_value.c has their types, config_check.c what depends on two of them.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include <stdio.h>
#include <sys/types.h>

#include "buf.h"
#include "log.h"
#include "smtp.h"

#define CONFIG_NAME_MAX 32	/* the NAME of [smtpd.listener NAME]: letters, digits, - and _ */
#define CONFIG_LISTENERS_MAX 16
#define CONFIG_WORKERS_MAX 16
#define CONFIG_ISSUERS_MAX 8
#define CONFIG_CHECKERS_MAX 8
#define CONFIG_MILTERS_MAX 8
#define CONFIG_HOOKS_MAX 16
#define CONFIG_FILE_MAX (1024 * 1024)
#define COMMAND_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"	/* PATH of every command */

enum listener_mode { MODE_SMTP, MODE_SUBMISSION, MODE_SMTPS, MODE_ALT, MODE__MAX };
enum bare_newline { NEWLINE_REJECT, NEWLINE_NORMALIZE, NEWLINE__MAX };
enum rcpt_rejection { REJECT_AT_RCPT, REJECT_AT_DATA, REJECT__MAX };
enum listener_auth { AUTH_BY_MODE, AUTH_OFF, AUTH_OPTIONAL, AUTH_REQUIRED, AUTH__MAX };
enum sender_check { SENDER_EXACT, SENDER_DOMAIN, SENDER_OFF, SENDER__MAX };
enum checker_type { CHECKER_RSPAMD, CHECKER_SPAMASSASSIN, CHECKER__MAX };
enum check_mode { CHECK_FIRST_REJECT, CHECK_ALL_REJECT, CHECK_HIGHEST_SCORE, CHECK__MAX };
enum fail_mode { FAIL_INHERIT, FAIL_OPEN, FAIL_TEMPFAIL, FAIL_REJECT, FAIL__MAX };	/* INHERIT: of a checker, [spamcheck]'s */
enum milter_default { MILTER_TEMPFAIL, MILTER_ACCEPT, MILTER_REJECT, MILTER_DEFAULT__MAX };
enum set_aside { ASIDE_REJECT, ASIDE_FLAG, ASIDE__MAX };	/* what quarantine means */
enum oversize { OVERSIZE_ACCEPT, OVERSIZE_TEMPFAIL, OVERSIZE__MAX };
enum hook_event { HOOK_CONNECT, HOOK_MAIL, HOOK_RCPT, HOOK_MESSAGE, HOOK__MAX };
enum tls_min { TLS_MIN_1_0, TLS_MIN_1_1, TLS_MIN_1_2, TLS_MIN_1_3, TLS_MIN__MAX };

/* A list of words: a command split as a POSIX shell splits it, or the items of a comma list. */
struct words {
	char	**v;		/* owned; v[n] is NULL */
	size_t	  n;
};

/* CIDR networks; an IPv4 network is in its IPv4-mapped form, ::ffff:192.0.2.0/120. */
struct network {
	uint8_t		ip[16];
	unsigned	bits;
};

struct networks {
	struct network	*v;	/* owned */
	size_t		 n;
};

struct listener {
	char			 name[CONFIG_NAME_MAX + 1];
	char			*address;	/* as written: ":25", "127.0.0.1:25", "[::1]:25"; ":25" is both families */
	enum listener_mode	 mode;
	unsigned		 workers;
	enum bare_newline	 bare_newline;
	enum listener_auth	 auth;		/* never AUTH_BY_MODE once loaded */
	bool			 require_tls;	/* before AUTH and MAIL, of clients that are not on loopback */
	struct networks		 trusted_networks;	/* clients from here relay without AUTH */
};

/* [smtpd.auth.oauth] or [smtpd.auth.oauth NAME]: whose tokens are taken. */
struct issuer {
	char		 name[CONFIG_NAME_MAX + 1];	/* "": the section without a name */
	char		*issuer;		/* equal to the claim iss */
	char		*jwks_url;		/* "": found by OpenID discovery from issuer, unless there is a jwks_file */
	char		*jwks_file;		/* "": none */
	char		*ca_file;		/* of jwks_url and discovery; "": the system's bundle */
	struct words	 audience;		/* one of these is in the claim aud */
	char		*username_claim;	/* "email", "realm.user": a dotted path */
	char		*required_scope;	/* "": none */
	struct words	 allowed_domains;	/* n == 0: any domain */
	int64_t		 jwks_refresh_ms;
	int64_t		 leeway_ms;
};

/* [spamcheck.checker NAME] */
struct checker {
	char		 name[CONFIG_NAME_MAX + 1];
	enum checker_type type;
	char		*url;			/* http://host:port, https://..., unix:/path (rspamd); address:port or unix:/path (spamassassin) */
	char		*password;		/* of rspamd; "": none. A secret */
	char		*password_file;		/* "": none, else password is its first line */
	char		*settings_id;		/* of rspamd; "": none */
	char		*ca_file;		/* of https; "": the system's bundle */
	char		*user;			/* of spamd: User; "": none, "%{recipient}" style is not expanded */
	enum fail_mode	 fail_mode;
	int64_t		 timeout_ms;
	unsigned	 max_checks;		/* at once */
	uint64_t	 max_size;		/* octets; a larger message is skipped. Never 0 once loaded */
	enum oversize	 oversize;		/* what becomes of it */
	bool		 discard;		/* take a message that it wants to vanish, and throw it away */
	enum set_aside	 quarantine;
};

/* [smtpd.milter NAME] */
struct milter_config {
	char		 name[CONFIG_NAME_MAX + 1];
	char		*address;		/* inet:127.0.0.1:8891, inet:localhost:8891, inet6:[::1]:8891, unix:/path */
	enum milter_default default_action;	/* when it cannot be asked */
	int64_t		 connect_ms, command_ms, content_ms;
	unsigned	 max_checks;		/* at once */
	bool		 envelope;		/* it may change sender and recipients */
	bool		 discard;
	enum set_aside	 quarantine;
};

/* [smtpd.hook NAME] */
struct hook_config {
	char		 name[CONFIG_NAME_MAX + 1];
	enum hook_event	 event;
	struct words	 command;
	int64_t		 timeout_ms;
};

/* "%{name}" in a template, one row each; a template's words are checked when the config is read. */
enum expansion {
	X_SENDER, X_RECIPIENT, X_RECIPIENTS, X_USER, X_DOMAIN, X_AUTH_USER, X_CLIENT_ADDRESS, X_ID, X__MAX
};
extern const char *const expansion_names[X__MAX];	/* "sender", ... */

struct config {
	char		*hostname;		/* [server]; default: the machine's name */

	struct words	 cert_files, key_files;	/* [server.tls]; pairs, in order */
	enum tls_min	 tls_min_version;
	bool		 self_signed;		/* make a certificate when there is none */

	enum log_level	 log_level;		/* [smtpd] */
	enum log_format	 log_format;
	bool		 log_transactions;
	char		*user;			/* whom fronts and agent run as when started as root */
	char		*spool_dir;		/* "": messages in flight stay in memory */
	struct words	 domains;		/* as smtp_domain() writes them */
	enum rcpt_rejection recipient_rejection;
	enum sender_check sender_check;
	char		*senders_file;		/* "": none. "user address address ...", # comments */
	bool		 client_names;

	struct words	 command;		/* [smtpd.delivery]; exactly one of command and maildir, the other has n == 0 / "" */
	char		*maildir;		/* a path with %{domain} and %{user} */
	bool		 maildir_create;	/* create */
	char		*delivery_user;		/* user; "": as [smtpd] user */
	bool		 per_recipient;		/* derived: command holds %{recipient}, %{user} or %{domain}: one recipient at a time */
	char		*recipients_file;	/* "": none. One address or @domain a line, # comments */
	struct words	 recipient_command;	/* n == 0: none */
	int64_t		 recipient_cache_ms;	/* 0: its answers are not kept */

	struct words	 relay_command;		/* [smtpd.relay] command: mail to domains that are not ours; n == 0: none */
	bool		 relay_per_recipient;	/* derived, as per_recipient */

	char		*passwd_file;		/* [smtpd.auth]; "": none. user:hash */
	struct words	 auth_command;		/* command: checkpassword; n == 0: none */
	struct issuer	 issuers[CONFIG_ISSUERS_MAX];
	size_t		 issuers_n;

	enum check_mode	 check_mode;		/* [spamcheck] */
	enum fail_mode	 check_fail_mode;	/* never FAIL_INHERIT */
	unsigned	 reject_threshold, tempfail_threshold;	/* scores; 0: only what a checker itself says */
	bool		 check_add_headers;
	struct checker	 checkers[CONFIG_CHECKERS_MAX];
	size_t		 checkers_n;
	char		*trap_url;		/* [smtpd.spamtrap] controller_url; "": none */
	char		*trap_password;		/* a secret */
	char		*trap_password_file;	/* "": none, else trap_password is its first line */
	unsigned	 trap_max_per_ip;	/* messages learned of one address in an hour */
	struct milter_config milters[CONFIG_MILTERS_MAX];
	size_t		 milters_n;
	struct hook_config hooks[CONFIG_HOOKS_MAX];
	size_t		 hooks_n;

	bool		 metrics_enabled;	/* [smtpd.metrics] */
	char		*metrics_address;	/* as a listener's */
	char		*metrics_path;

	uint64_t	 max_message_size;	/* [smtpd.limits], octets */
	unsigned	 max_recipients;
	unsigned	 max_connections;
	unsigned	 max_errors;		/* error replies before 421 (case 3.16), default 20 */
	unsigned	 max_deliveries;	/* commands at work at once, default 20 */
	unsigned	 max_auth_failures;	/* of one connection before 421, default 3 */
	unsigned	 max_auths;		/* password checks at work at once, default 4 */
	unsigned	 auth_failures_per_ip;	/* in five minutes, then 421 for fifteen; default 20; 0: off */
	uint64_t	 max_header_size;	/* octets of a message's header block, default 256k */
	uint64_t	 max_spool_memory;

	int64_t		 connection_ms;		/* [smtpd.timeouts]: idle between commands */
	int64_t		 command_ms;		/* a whole command line, and no progress inside DATA or BDAT */
	int64_t		 delivery_ms;
	int64_t		 handshake_ms;		/* of TLS, default 1m */
	int64_t		 auth_ms;		/* of one credential check, default 30s */
	int64_t		 shutdown_ms;

	struct listener	 listeners[CONFIG_LISTENERS_MAX];
	size_t		 listeners_n;

	struct config_origins *origins;		/* owned: where each value came from, for config_print() */
};

/*
 * Read file (NULL: none, defaults and environment alone), then environ (a NULL-terminated NAME=value array, environ(7)),
 * then the flags (NAME=value with "section.key" names, from -o on the command line; n of them); each beats the one before.
 * Returns a configuration that config_free() ends, or NULL with one line for each error in *errors: file:line, the
 * offending text, and the nearest valid name or what to do. *errors also takes warnings, each begun with "warning: ".
 */
struct config	*config_load(const char *file, char *const *environ, const char *const *flags, size_t flags_n, struct buf *errors);
void		 config_free(struct config *c);
/* Wipe every secret: for a process that needs none. */
void		 config_forget_secrets(struct config *c);
/*
 * smtpd -T: every key with its effective value and origin, as a config file that could be read again; but a secret is "****", or
 * empty where it comes from a file.
 */
int		 config_print(const struct config *c, FILE *f);
/* Every key of the table with its section, default and help, as a commented sample file. */
int		 config_print_sample(FILE *f);

/* Of addresses that have none: the first of domains, or the hostname where there are no domains. */
const char	*config_default_domain(const struct config *c);
/* Whether something is to know clients' names. */
bool		 config_wants_names(const struct config *c);
/* Whether mail to a domain, as smtp_domain() writes it, is for us. */
bool		 config_is_ours(const struct config *c, const char *domain);

/*
 * Split as a POSIX shell splits words: blanks, '...', "..." (backslash before $ ` " \ newline), backslash; nothing else.
 * 0, or -1 with *why (an open quote, a trailing backslash, too many words). words_free() ends it.
 */
int		 words_split(struct words *w, struct span s, const char **why);
void		 words_free(struct words *w);

#endif
