/*
 * auth.h - are these credentials good: password file, checkpassword command, bearer token.
 *
 * A user has one form everywhere: an address, local-part@domain, both in lower case (A-labels); a name without a domain is of the
 * first of our domains.
 */
#ifndef AUTH_H
#define AUTH_H

#include "child.h"
#include "config.h"
#include "metrics.h"
#include "sasl.h"

struct auth;
struct oauth;

enum auth_outcome {
	AUTH_GOOD,
	AUTH_BAD,
	AUTH_UNABLE,	/* whatever says it cannot be asked now */
	AUTH_OUT,	/* not even asked: too many failures (the agent's word, not auth_check()'s) */
};

struct auth_result {
	enum auth_outcome outcome;
	const char	*user;		/* in its one form; AUTH_BAD: as far as it is known and has one, else "" */
	const char	*reason;	/* for the log: "password", "expired", "no such key", ... */
	const char	*kid;		/* of a token, printable; "" */
	const char	*token;		/* the first 8 hex digits of its SHA-256; "" */
	int64_t		 expires_time;	/* of a token: real time, seconds; INT64_MAX: never */
};

/* r is borrowed until it returns. */
typedef void auth_done(void *arg, const struct auth_result *r);

/*
 * loop, c, children (with room for c->max_auths), oauth (NULL: no issuer is configured) and m are borrowed until auth_free(). NULL
 * with errno. A password file that cannot be read is logged and makes answers AUTH_UNABLE until it can be.
 */
struct auth	*auth_new(struct loop *l, const struct config *c, struct children *children, struct oauth *oauth, struct metrics *m);
/* After children_end() and oauth_free(): no check is under way, or its done is not called any more. */
void		 auth_free(struct auth *a);
/*
 * Check them. What is kept of the spans is copied and wiped after use. done is called exactly once, from the loop or from inside
 * this call; a check that takes longer than c->auth_ms, or finds max_auths at work and as many as fit waiting, is AUTH_UNABLE.
 * session: for log lines. client_address: for the checkpassword command's environment.
 */
void		 auth_check(struct auth *a, uint64_t session, const struct credentials *cred, const char *client_address,
		    auth_done *done, void *arg);
/* How many are at work or waiting. */
size_t		 auth_pending(const struct auth *a);
/* Which mechanisms this configuration offers: a bit 1u << m each. */
unsigned	 auth_mechanisms(const struct config *c);
/* A user in its one form into m; false: it is no name. Also how tokens' claims and senders_file name users. */
bool		 auth_user(const struct config *c, struct span name, struct mailbox *m);

/* The same as text, smtp_mailbox_print()'s, into dst[SMTP_ADDRESS_MAX + 1]; "" when it is none. */
bool		 auth_user_name(const struct config *c, struct span name, char *dst);

/*
 * A front remembers for its session who logged in, and tells an agent that took over. So that a front cannot invent that, it
 * gets a ticket with the name: a MAC over session, user and end, by a key that fronts do not have.
 */
#define AUTH_KEY_LEN 32
#define AUTH_TICKET_LEN 16
struct auth_key {
	uint8_t	octets[AUTH_KEY_LEN];
};
/* 0, or -1 with errno: no entropy. */
int		 auth_key_make(struct auth_key *k);
void		 auth_ticket(const struct auth_key *k, uint64_t session, const char *user, int64_t expires_time,
		    uint8_t ticket[AUTH_TICKET_LEN]);
/* In constant time. */
bool		 auth_ticket_is_good(const struct auth_key *k, uint64_t session, const char *user, int64_t expires_time,
		    const uint8_t ticket[AUTH_TICKET_LEN]);

/* `smtpd passwd USER`: ask twice (on the terminal, or two lines of standard input) and print a line for the password file. Exit status. */
int		 auth_passwd_main(const char *user);

#endif
