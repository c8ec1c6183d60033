/*
 * auth.c - are these credentials good: password file, checkpassword command, bearer token.
 *
 * SECURITY-CASES 5.27, 7.6, 7.7, 7.10, 7.12. A hash is computed in a child that is forked for it, a command is one
 * anyway: max_auths of both at once, a bounded number waits. A user that the file does not have costs a hash like any other.
 */
#include "auth.h"

#include <bearssl_hmac.h>	/* bearssl.h has more than it compiles without a warning */
#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "oauth.h"
#include "passwd.h"

#define WAITING_MAX 256
#define TOKENS_MAX 256			/* bearer tokens being checked */
#define COMMAND_MAX 512			/* octets on descriptor 3, by the interface of checkpassword */
#define ADDRESS_MAX 45

/* The answer of a child and of a checkpassword command; every other exit status is "unable" as well. */
#define EXIT_MATCH 0
#define EXIT_MISMATCH 1
#define EXIT_UNABLE 111

struct check {
	struct auth	*auth;
	struct check	*next;		/* in the queue */
	uint64_t	 session;
	auth_done	*done;
	void		*arg;
	int64_t		 until_at;
	const char	*mismatch;	/* the reason when it does not match */
	bool		 dummy;		/* it cannot match */
	char		 user[SMTP_ADDRESS_MAX + 1];
	char		 client_address[ADDRESS_MAX + 1];
	size_t		 password_len;
	char		 password[PASSWD_PASSWORD_MAX + 1];	/* wiped when the child has its copy */
};

/* A bearer token that is being checked elsewhere. */
struct token {
	struct auth	*auth;		/* NULL: the place is free */
	auth_done	*done;
	void		*arg;
	char		 authzid[SMTP_ADDRESS_MAX + 1];	/* whom to act as; "": whoever the token says */
};

struct auth {
	struct loop	*loop;			/* borrowed until auth_free(), as the next four */
	const struct config *config;
	struct children	*children;
	struct oauth	*oauth;
	struct metrics	*metrics;
	struct passwd_file *file;		/* NULL: none is configured */
	struct check	*head, *last;		/* the queue */
	size_t		 running, waiting;
	struct loop_slot slot;			/* until_at of the first that waits */
	size_t		 tokens_n;
	struct token	 tokens[TOKENS_MAX];
};

static bool
equal_in_constant_time(const void *a, const void *b, size_t n)
{
	const volatile uint8_t *p = a, *q = b;
	uint8_t differs = 0;

	for (size_t i = 0; i < n; i++)
		differs |= p[i] ^ q[i];
	return differs == 0;
}

/* ---- one check ---- */

/* Wipe it, and report. */
static void
check_end(struct check *k, enum auth_outcome outcome, const char *reason)
{
	struct auth_result r = { .outcome = outcome, .reason = reason, .kid = "", .token = "", .expires_time = INT64_MAX };
	char user[SMTP_ADDRESS_MAX + 1];
	auth_done *done = k->done;
	void *arg = k->arg;

	memcpy(user, k->user, sizeof(user));
	r.user = user;
	explicit_bzero(k, sizeof(*k));
	free(k);
	done(arg, &r);
}

/* In the child: what the hash says of the password. */
struct hash_job {
	const char	*password, *hash;
};

static int
hash_child(const void *arg)
{
	const struct hash_job *job = arg;
	const char *made = crypt(job->password, job->hash);

	/* crypt's ways to fail; no hash begins so */
	if (made == NULL || made[0] != '$')
		return EXIT_UNABLE;
	return strlen(made) == strlen(job->hash) && equal_in_constant_time(made, job->hash, strlen(made)) ? EXIT_MATCH : EXIT_MISMATCH;
}

static void	start_waiting(struct auth *a);

/* Why a child could not tell: one line in the log. */
static void
log_unable(const struct check *k, const struct child_result *r)
{
	const char *detail = r->timed_out ? "timeout" : r->status == -1 ? strerror(r->error) : WIFSIGNALED(r->status) ? "signal" : "exit";
	int code = r->status == -1 ? 0 : WIFSIGNALED(r->status) ? WTERMSIG(r->status) : WEXITSTATUS(r->status);

	log_error(k->session, "auth_unable", LF_STR("detail", detail), LF_INT("code", code), LF_SPAN("output", r->output));
}

static void
child_ended(void *arg, const struct child_result *r)
{
	struct check *k = arg;
	struct auth *a = k->auth;
	int status = !r->timed_out && r->status != -1 && WIFEXITED(r->status) ? WEXITSTATUS(r->status) : EXIT_UNABLE;

	a->running--;
	if (status == EXIT_MATCH && !k->dummy) {
		check_end(k, AUTH_GOOD, "ok");
	} else if (status == EXIT_MATCH || status == EXIT_MISMATCH) {
		check_end(k, AUTH_BAD, k->mismatch);
	} else {
		log_unable(k, r);
		check_end(k, AUTH_UNABLE, r->timed_out ? "timeout" : "unable");
	}
	start_waiting(a);
}

/*
 * The interface of checkpassword: user, password and a time, each with its NUL, on descriptor 3. They fit into a pipe, so
 * nobody waits for the command to read. Returns the pipe's reading end, or -1 with errno.
 */
static int
command_pipe(const struct check *k)
{
	char data[COMMAND_MAX];
	int fds[2] = { -1, -1 }, error = 0;
	struct buf b;

	buf_fixed(&b, data, sizeof(data));
	buf_add(&b, k->user, strlen(k->user) + 1);
	buf_add(&b, k->password, k->password_len + 1);
	buf_printf(&b, "%lld", (long long)time(NULL));
	buf_add_char(&b, '\0');
	if (b.failed)
		error = E2BIG;
	else if (pipe2(fds, O_CLOEXEC) == -1 || write(fds[1], data, buf_len(&b)) != (ssize_t)buf_len(&b))
		error = errno;
	explicit_bzero(data, sizeof(data));
	if (fds[1] != -1)
		close(fds[1]);
	if (error != 0 && fds[0] != -1)
		close(fds[0]);
	errno = error;
	return error == 0 ? fds[0] : -1;
}

static struct child *
command_start(struct check *k, int64_t left_ms)
{
	static const struct child_user as_we_are = { 0 };
	struct auth *a = k->auth;
	char path[] = "PATH=" COMMAND_PATH, address[2][32 + ADDRESS_MAX];
	char *env[] = { path, address[0], address[1], NULL };
	int fd = command_pipe(k), error;
	struct child *child;
	struct buf b;

	if (fd == -1)
		return NULL;
	for (size_t i = 0; i < 2; i++) {
		buf_fixed(&b, address[i], sizeof(address[i]));
		buf_printf(&b, "%s=%s", i == 0 ? "CLIENT_ADDRESS" : "TCPREMOTEIP", k->client_address);
		buf_add_char(&b, '\0');
	}
	child = child_start(a->children, a->config->auth_command.v, env, -1, fd, &as_we_are, left_ms, child_ended, k);
	error = errno;
	close(fd);
	errno = error;
	return child;
}

/* The file first; a user that it does not have is the command's, if there is one. NULL with errno: nothing was started. */
static struct child *
child_for(struct check *k, int64_t left_ms)
{
	struct auth *a = k->auth;
	struct hash_job job = { .password = k->password };
	enum passwd_answer answer = PASSWD_UNKNOWN;

	if (a->file != NULL)
		answer = passwd_find(a->file, k->user, a->loop->now_ms, &job.hash);
	switch (answer) {
	case PASSWD_KNOWN:
		k->mismatch = "password";
		break;
	case PASSWD_DISABLED:
		k->mismatch = "disabled";
		k->dummy = true;
		break;
	case PASSWD_UNKNOWN:
		k->mismatch = "unknown user";
		k->dummy = true;
		break;
	case PASSWD_UNREADABLE:
		errno = EIO;	/* why has been logged */
		return NULL;
	}
	if (answer == PASSWD_UNKNOWN && a->config->auth_command.n > 0) {
		k->mismatch = "command";
		k->dummy = false;
		return command_start(k, left_ms);
	}
	return child_call(a->children, hash_child, &job, left_ms, child_ended, k);
}

static void
check_start(struct check *k)
{
	struct auth *a = k->auth;
	int64_t left_ms = k->until_at - a->loop->now_ms;
	struct child *child = child_for(k, left_ms < 1 ? 1 : left_ms);

	if (child == NULL && errno == E2BIG) {
		check_end(k, AUTH_BAD, "too long");
	} else if (child == NULL) {
		log_error(k->session, "auth_unable", LF_STR("detail", "not started"), LF_ERRNO(errno));
		check_end(k, AUTH_UNABLE, "unable");
	} else {
		/* the child, or the pipe, has its copy */
		explicit_bzero(k->password, sizeof(k->password));
		a->running++;
	}
}

static struct check *
take_waiting(struct auth *a)
{
	struct check *k = a->head;

	a->head = k->next;
	a->waiting--;
	loop_deadline(&a->slot, a->head == NULL ? LOOP_NEVER : a->head->until_at);
	return k;
}

static void
start_waiting(struct auth *a)
{
	while (a->head != NULL && a->running < a->config->max_auths)
		check_start(take_waiting(a));
}

/* The first in the queue has waited long enough; those behind it came later. */
static void
waited_long_enough(void *arg, short revents)
{
	struct auth *a = arg;

	(void)revents;
	while (a->head != NULL && a->head->until_at <= a->loop->now_ms)
		check_end(take_waiting(a), AUTH_UNABLE, "timeout");
	loop_deadline(&a->slot, a->head == NULL ? LOOP_NEVER : a->head->until_at);
}

/* What has failed before there was anything to check. */
static void
refuse(auth_done *done, void *arg, enum auth_outcome outcome, const char *user, const char *reason)
{
	done(arg, &(struct auth_result){ .outcome = outcome, .user = user, .reason = reason, .kid = "", .token = "",
	    .expires_time = INT64_MAX });
}

/* Put it into the queue, which may start it at once, or be full. */
static void
check_add(struct auth *a, uint64_t session, const char *user, struct span password, const char *client_address, auth_done *done,
    void *arg)
{
	struct check *k;

	if (a->running >= a->config->max_auths)
		metrics_add(a->metrics, M_LIMIT_HITS, MH_MAX_AUTHS, 0, 0, 1);
	if (a->waiting >= WAITING_MAX) {
		refuse(done, arg, AUTH_UNABLE, user, "busy");
		return;
	}
	k = calloc(1, sizeof(*k));
	if (k == NULL) {
		refuse(done, arg, AUTH_UNABLE, user, "out of memory");
		return;
	}
	k->auth = a;
	k->session = session;
	k->done = done;
	k->arg = arg;
	k->until_at = a->loop->now_ms + a->config->auth_ms;
	memcpy(k->user, user, strlen(user));
	memcpy(k->password, password.p, password.len);
	k->password_len = password.len;
	/* an address that is too long is none */
	(void)text_copy(k->client_address, sizeof(k->client_address), text_span(client_address));
	if (a->head == NULL)
		a->head = k;
	else
		a->last->next = k;
	a->last = k;
	a->waiting++;
	loop_deadline(&a->slot, a->head->until_at);
	start_waiting(a);
}

static void
check_password(struct auth *a, uint64_t session, const struct credentials *cred, const char *client_address, auth_done *done, void *arg)
{
	char user[SMTP_ADDRESS_MAX + 1], other[SMTP_ADDRESS_MAX + 1];

	if (a->file == NULL && a->config->auth_command.n == 0)
		refuse(done, arg, AUTH_UNABLE, "", "not offered");
	else if (!auth_user_name(a->config, cred->authcid, user))
		refuse(done, arg, AUTH_BAD, "", "not a user");
	else if (cred->authzid.len > 0 && (!auth_user_name(a->config, cred->authzid, other) || strcmp(user, other) != 0))
		refuse(done, arg, AUTH_BAD, user, "authzid");
	else if (cred->secret.len == 0 || cred->secret.len > PASSWD_PASSWORD_MAX || text_find(cred->secret, '\0') != SIZE_MAX)
		refuse(done, arg, AUTH_BAD, user, "not a password");
	else
		check_add(a, session, user, cred->secret, client_address, done, arg);
}

/* The token's user is known now: it has to be the one that the client would act as. */
static void
token_done(void *arg, const struct auth_result *r)
{
	struct token *t = arg;
	struct auth_result mine = *r;
	auth_done *done = t->done;
	void *done_arg = t->arg;

	if (r->outcome == AUTH_GOOD && t->authzid[0] != '\0' && strcmp(t->authzid, r->user) != 0) {
		mine.outcome = AUTH_BAD;
		mine.reason = "authzid";
	}
	t->auth->tokens_n--;
	t->auth = NULL;
	done(done_arg, &mine);
}

static void
check_token(struct auth *a, uint64_t session, const struct credentials *cred, auth_done *done, void *arg)
{
	char authzid[SMTP_ADDRESS_MAX + 1] = "";
	struct token *t = a->tokens;

	if (a->oauth == NULL) {
		refuse(done, arg, AUTH_UNABLE, "", "not offered");
		return;
	}
	if (cred->authzid.len > 0 && !auth_user_name(a->config, cred->authzid, authzid)) {
		refuse(done, arg, AUTH_BAD, "", "authzid");
		return;
	}
	if (a->tokens_n == TOKENS_MAX) {
		refuse(done, arg, AUTH_UNABLE, "", "busy");
		return;
	}
	while (t->auth != NULL)		/* one is free */
		t++;
	t->auth = a;
	t->done = done;
	t->arg = arg;
	memcpy(t->authzid, authzid, sizeof(authzid));
	a->tokens_n++;
	oauth_check(a->oauth, session, cred->secret, a->config->auth_ms, token_done, t);
}

/* ---- the interface ---- */

struct auth *
auth_new(struct loop *l, const struct config *c, struct children *children, struct oauth *oauth, struct metrics *m)
{
	struct auth *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	a->loop = l;
	a->config = c;
	a->children = children;
	a->oauth = oauth;
	a->metrics = m;
	if (c->passwd_file[0] != '\0')
		a->file = passwd_new(c->passwd_file, c, l->now_ms);
	if ((a->file == NULL && c->passwd_file[0] != '\0') || loop_add(l, &a->slot, -1, 0, waited_long_enough, a) == -1) {
		passwd_free(a->file);
		free(a);
		errno = ENOMEM;
		return NULL;
	}
	return a;
}

void
auth_free(struct auth *a)
{
	if (a == NULL)
		return;
	/* children_end() has ended every check of a password: nothing could be started in its place */
	loop_remove(&a->slot);
	passwd_free(a->file);
	free(a);
}

void
auth_check(struct auth *a, uint64_t session, const struct credentials *cred, const char *client_address, auth_done *done, void *arg)
{
	if (sasl_is_bearer(cred->mechanism))
		check_token(a, session, cred, done, arg);
	else
		check_password(a, session, cred, client_address, done, arg);
}

size_t
auth_pending(const struct auth *a)
{
	return a->running + a->waiting + a->tokens_n;
}

unsigned
auth_mechanisms(const struct config *c)
{
	unsigned m = 0;

	if (c->passwd_file[0] != '\0' || c->auth_command.n > 0)
		m |= 1u << SASL_PLAIN;
	if (c->issuers_n > 0)
		m |= 1u << SASL_OAUTHBEARER | 1u << SASL_XOAUTH2;
	return m;
}

bool
auth_user(const struct config *c, struct span name, struct mailbox *m)
{
	char whole[SMTP_ADDRESS_MAX + 1];
	struct buf b;

	*m = (struct mailbox){ 0 };
	if (text_find(name, ':') != SIZE_MAX)	/* it ends a user in the files of many (case 5.27) */
		return false;
	if (smtp_mailbox(name, true, m) != SMTP_PATH_OK) {
		if (c->domains.n == 0)
			return false;
		buf_fixed(&b, whole, sizeof(whole));
		buf_add_span(&b, name);
		buf_add_char(&b, '@');
		buf_add_str(&b, c->domains.v[0]);
		if (b.failed || smtp_mailbox(buf_span(&b), true, m) != SMTP_PATH_OK)
			return false;
	}
	for (char *p = m->local; *p != '\0'; p++)
		*p = text_lower(*p);
	return true;
}

bool
auth_user_name(const struct config *c, struct span name, char *dst)
{
	struct mailbox m;

	dst[0] = '\0';
	if (!auth_user(c, name, &m))
		return false;
	smtp_mailbox_print(&m, dst);
	return true;
}

/* ---- tickets ---- */

int
auth_key_make(struct auth_key *k)
{
	/* so few octets come at once or not at all */
	return getrandom(k->octets, sizeof(k->octets), 0) == (ssize_t)sizeof(k->octets) ? 0 : -1;
}

void
auth_ticket(const struct auth_key *k, uint64_t session, const char *user, int64_t expires_time, uint8_t ticket[AUTH_TICKET_LEN])
{
	br_hmac_key_context key;
	br_hmac_context mac;

	br_hmac_key_init(&key, &br_sha256_vtable, k->octets, sizeof(k->octets));
	br_hmac_init(&mac, &key, AUTH_TICKET_LEN);
	br_hmac_update(&mac, &session, sizeof(session));
	br_hmac_update(&mac, &expires_time, sizeof(expires_time));
	br_hmac_update(&mac, user, strlen(user));
	(void)br_hmac_out(&mac, ticket);	/* the length asked for */
	explicit_bzero(&key, sizeof(key));
	explicit_bzero(&mac, sizeof(mac));
}

bool
auth_ticket_is_good(const struct auth_key *k, uint64_t session, const char *user, int64_t expires_time,
    const uint8_t ticket[AUTH_TICKET_LEN])
{
	uint8_t mine[AUTH_TICKET_LEN];
	bool good;

	auth_ticket(k, session, user, expires_time, mine);
	good = equal_in_constant_time(mine, ticket, sizeof(mine));
	explicit_bzero(mine, sizeof(mine));
	return good;
}
