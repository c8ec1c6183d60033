/*
 * test_auth.c - credentials: users' one form, the password file, checkpassword, tokens, tickets (cases 5.27, 7.6, 7.7, 7.10, 7.12).
 */
#include "auth.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "waits.h"
#include "oauth.h"

#define STR(s) ((char *)(uintptr_t)(s))	/* words are not const, for history's sake */
#define PASSWORD "correct horse \xc3\xb6 battery"
#define BCRYPT "$2b$04$abcdefghijklmnopqrstuubjP1z14z9vf4f4ExsO0Mw6AVe3Jveku"
#define MANY 258			/* two at work and as many as may wait */
#define TRIED 20			/* so many of them to their end */

static struct loop loop;
static size_t loop_own;	/* slots that the loop has of itself */
static struct config config;
static struct children *children;
static struct auth *auth;
static int64_t ahead;	/* the clock that auth looks at goes so much before ours */
static char folder[64], path[96];
static char *domains[] = { STR("local.test"), STR("other.test"), NULL };

struct outcome {
	unsigned		 calls;
	struct auth_result	 r;
	char			 user[SMTP_ADDRESS_MAX + 1], reason[64];
};

static void
note(void *arg, const struct auth_result *r)
{
	struct outcome *o = arg;

	o->calls++;
	o->r = *r;
	(void)snprintf(o->user, sizeof(o->user), "%s", r->user);
	(void)snprintf(o->reason, sizeof(o->reason), "%s", r->reason);
}

/* ---- oauth.c, as far as it is needed here ---- */

static struct token {
	unsigned	 calls;
	char		 text[64];
	int64_t		 wait_ms;
	auth_done	*done;
	void		*arg;
} token;

void
oauth_check(struct oauth *o, uint64_t session, struct span text, int64_t wait_ms, auth_done *done, void *arg)
{
	token.calls++;
	assert_int_equal(text_copy(token.text, sizeof(token.text), text), 0);
	token.wait_ms = wait_ms;
	token.done = done;
	token.arg = arg;
}

/* ---- what is tried ---- */

static void
write_file(const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* Configured with this file (NULL: none) and this command (NULL: none). */
static void
start(const char *file, char **command, unsigned max_auths, int64_t auth_ms)
{
	static char oauth_memory;	/* nobody looks into it */

	if (file != NULL)
		write_file(file);
	config.passwd_file = file == NULL ? STR("") : path;
	config.auth_command = (struct words){ 0 };
	for (config.auth_command.v = command; command != NULL && command[config.auth_command.n] != NULL;)
		config.auth_command.n++;
	config.max_auths = max_auths;
	config.auth_ms = auth_ms;
	children = children_new(&loop, max_auths);
	assert_non_null(children);
	auth = auth_new(&loop, &config, children, (struct oauth *)(void *)&oauth_memory, NULL);
	assert_non_null(auth);
}

static void
stop(void)
{
	children_end(children);
	auth_free(auth);
	children_free(children);
	assert_int_equal(loop.n, loop_own);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void
check(struct outcome *o, struct span authzid, struct span user, struct span password)
{
	struct credentials c = { .mechanism = SASL_PLAIN, .authzid = authzid, .authcid = user, .secret = password };

	*o = (struct outcome){ 0 };
	auth_check(auth, 1, &c, "192.0.2.1", note, o);
}

/* Let the time pass in which the file is not looked at. */
static void
later(void)
{
	ahead += 1100;
	loop.now_ms = loop_clock_ms() + ahead;
}

static void
try(struct outcome *o, const char *user, const char *password)
{
	check(o, SPAN(""), text_span(user), text_span(password));
	wait_for(o);
	print_message("  %s \"%s\": %d %s %s\n", user, password, (int)o->r.outcome, o->user, o->reason);
}

static int
setup(void **state)
{
	(void)snprintf(folder, sizeof(folder), "/tmp/test_auth.XXXXXX");
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/passwd", folder);
	config = (struct config){ .domains = { .v = domains, .n = 2 } };
	assert_int_equal(loop_init(&loop, 400), 0);
	loop_own = loop.n;
	return loop_turn(&loop, 0);
}

static int
teardown(void **state)
{
	(void)unlink(path);
	assert_int_equal(rmdir(folder), 0);
	loop_clear(&loop);
	return 0;
}

static void
users(void **state)
{
	static const struct {
		const char	*name, *want;	/* "": it is none */
	} rows[] = {
		{ "bob", "bob@local.test" },
		{ "BoB", "bob@local.test" },
		{ "bob@local.test", "bob@local.test" },
		{ "Bob@LOCAL.Test", "bob@local.test" },
		{ "bob@elsewhere.test", "bob@elsewhere.test" },
		{ "bob@local.test.", "bob@local.test" },
		{ "bob@b\xc3\xbc" "cher.test", "bob@xn--bcher-kva.test" },
		{ "bob@[192.0.2.1]", "bob@[192.0.2.1]" },
		{ "\"bob\"", "bob@local.test" },
		{ "\"b ob\"", "\"b ob\"@local.test" },
		{ "\"B@b\"", "\"b@b\"@local.test" },
		{ "\"b\\ob\"@local.test", "bob@local.test" },
		{ "b\xc3\xb6" "b", "b\xc3\xb6" "b@local.test" },
		{ "B\xc3\x96" "b", "b\xc3\x96" "b@local.test" },	/* ASCII letters alone are folded */
		{ "b+tag#1", "b+tag#1@local.test" },
		{ "", "" }, { "@", "" }, { "@local.test", "" }, { "bob@", "" }, { "bob@@local.test", "" }, { "b ob", "" },
		{ " bob", "" }, { "bob ", "" }, { "bo:b", "" }, { "\"bo:b\"", "" }, { "bob\n", "" }, { "b\rob", "" }, { "b\x7f" "ob", "" },
		{ "b\xff" "ob", "" }, { "bob@-x.test", "" }, { "<bob@local.test>", "" }, { ".bob", "" }, { "bob@local.test,x", "" },
		{ "\"bob", "" },
	};
	char dst[SMTP_ADDRESS_MAX + 1], longest[SMTP_LOCAL_MAX + 2];
	struct mailbox m;

	for (size_t i = 0; i < COUNT(rows); i++) {
		print_message("  \"%s\"\n", rows[i].name);
		assert_int_equal(auth_user_name(&config, text_span(rows[i].name), dst), rows[i].want[0] != '\0');
		assert_string_equal(dst, rows[i].want);
		assert_int_equal(auth_user(&config, text_span(rows[i].name), &m), rows[i].want[0] != '\0');
		if (rows[i].want[0] != '\0') {	/* the one form is its own */
			char again[SMTP_ADDRESS_MAX + 1];

			assert_true(auth_user_name(&config, text_span(dst), again));
			assert_string_equal(again, dst);
		}
	}
	assert_false(auth_user(&config, SPAN("b\0b"), &m));
	memset(longest, 'x', sizeof(longest));
	assert_true(auth_user(&config, (struct span){ longest, SMTP_LOCAL_MAX }, &m));
	assert_false(auth_user(&config, (struct span){ longest, SMTP_LOCAL_MAX + 1 }, &m));
	config.domains.n = 0;
	assert_false(auth_user(&config, SPAN("bob"), &m));
	assert_true(auth_user(&config, SPAN("bob@local.test"), &m));
}

static void
mechanisms(void **state)
{
	config.passwd_file = STR("");
	assert_int_equal(auth_mechanisms(&config), 0);
	config.passwd_file = STR("/etc/x");
	assert_int_equal(auth_mechanisms(&config), 1u << SASL_PLAIN);
	config.issuers_n = 1;
	assert_int_equal(auth_mechanisms(&config), 1u << SASL_PLAIN | 1u << SASL_OAUTHBEARER | 1u << SASL_XOAUTH2);
	config.passwd_file = STR("");
	assert_int_equal(auth_mechanisms(&config), 1u << SASL_OAUTHBEARER | 1u << SASL_XOAUTH2);
	config.issuers_n = 0;
	config.auth_command.n = 1;
	assert_int_equal(auth_mechanisms(&config), 1u << SASL_PLAIN);
}

static void
every_format(void **state)
{
	static const char *const hashes[] = {
		"$1$abcdefgh$WDaAZbfalObwTZkkHy2w91",
		"$1$$4DPHSLhaUWF3VFo4ppGVZ.",
		"$5$abcdefgh$PLY6GCEPM.VANfzzoW77mjzGGKkyJ0nbrfWqrVayM9C",
		"$5$rounds=1000$abcdefghijklmnop$hUhB5AgygYLiGIyvwxONTGqoSjkBBil4ureiSE/Gef4",
		"$6$abcdefgh$GLEvMmG/AT/vLsSXykXXPsNeeoCQ6uEOukTPL4QK8NAn9QjL.BoZVPOID/jPt3i5T6uKt6D3KXD2/hSteSc.4/",
		"$6$rounds=1000$abcdefghijklmnop$O7Z5Z6xoc1fREo6O9p3qhJNG7I8cqOQrbRSS18p49pmppIzinAwQUmO9qQ7i0U.6ICfaZH0Jqs1rlJDyzgHUo1",
		"$2a$04$abcdefghijklmnopqrstuubjP1z14z9vf4f4ExsO0Mw6AVe3Jveku",
		"$2b$04$abcdefghijklmnopqrstuubjP1z14z9vf4f4ExsO0Mw6AVe3Jveku",
		"$2y$04$abcdefghijklmnopqrstuubjP1z14z9vf4f4ExsO0Mw6AVe3Jveku",
	};
	char text[2048] = "", user[32];
	struct outcome o;

	for (size_t i = 0; i < COUNT(hashes); i++)
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "user%zu:%s\n", i, hashes[i]);
	start(text, NULL, 4, 20000);
	for (size_t i = 0; i < COUNT(hashes); i++) {
		print_message("  %s\n", hashes[i]);
		(void)snprintf(user, sizeof(user), "USER%zu", i);
		try(&o, user, PASSWORD);
		assert_int_equal(o.r.outcome, AUTH_GOOD);
		(void)snprintf(user, sizeof(user), "user%zu@local.test", i);
		assert_string_equal(o.user, user);
		try(&o, user, PASSWORD "x");
		assert_int_equal(o.r.outcome, AUTH_BAD);
		assert_string_equal(o.reason, "password");
		try(&o, user, "x");
		assert_int_equal(o.r.outcome, AUTH_BAD);
	}
	stop();
}

static void
outcomes(void **state)
{
	static char long_password[258];
	static const struct {
		struct span	 authzid, user, password;
		enum auth_outcome outcome;
		const char	*name, *reason;
		size_t		 children;	/* how many it takes */
	} rows[] = {
		{ SPAN(""), SPAN("bob"), SPAN(PASSWORD), AUTH_GOOD, "bob@local.test", "ok", 1 },
		{ SPAN("bob"), SPAN("Bob@local.test"), SPAN(PASSWORD), AUTH_GOOD, "bob@local.test", "ok", 1 },
		{ SPAN("alice"), SPAN("bob"), SPAN(PASSWORD), AUTH_BAD, "bob@local.test", "authzid", 0 },
		{ SPAN("bob@other.test"), SPAN("bob"), SPAN(PASSWORD), AUTH_BAD, "bob@local.test", "authzid", 0 },
		{ SPAN("b b"), SPAN("bob"), SPAN(PASSWORD), AUTH_BAD, "bob@local.test", "authzid", 0 },
		{ SPAN(""), SPAN("bob"), SPAN("wrong"), AUTH_BAD, "bob@local.test", "password", 1 },
		{ SPAN(""), SPAN("bob@other.test"), SPAN(PASSWORD), AUTH_BAD, "bob@other.test", "unknown user", 1 },
		{ SPAN(""), SPAN("aaa"), SPAN(PASSWORD), AUTH_BAD, "aaa@local.test", "unknown user", 1 },
		{ SPAN(""), SPAN("zzz"), SPAN(PASSWORD), AUTH_BAD, "zzz@local.test", "unknown user", 1 },
		{ SPAN(""), SPAN("locked"), SPAN(PASSWORD), AUTH_BAD, "locked@local.test", "disabled", 1 },
		{ SPAN(""), SPAN("des"), SPAN(PASSWORD), AUTH_BAD, "des@local.test", "disabled", 1 },
		{ SPAN(""), SPAN("bo:b"), SPAN(PASSWORD), AUTH_BAD, "", "not a user", 0 },
		{ SPAN(""), SPAN("bob\n"), SPAN(PASSWORD), AUTH_BAD, "", "not a user", 0 },
		{ SPAN(""), SPAN("bob"), SPAN(""), AUTH_BAD, "bob@local.test", "not a password", 0 },
		{ SPAN(""), SPAN("bob"), SPAN(PASSWORD "\0"), AUTH_BAD, "bob@local.test", "not a password", 0 },
		{ SPAN(""), SPAN("bob"), { long_password, 256 }, AUTH_BAD, "bob@local.test", "password", 1 },
		{ SPAN(""), SPAN("bob"), { long_password, 257 }, AUTH_BAD, "bob@local.test", "not a password", 0 },
		{ SPAN(""), SPAN("long"), { long_password, 256 }, AUTH_BAD, "long@local.test", "password", 1 },
		/* the empty hash's password, in whose line nothing is: nobody may get in by it */
		{ SPAN(""), SPAN("empty"), SPAN("x"), AUTH_BAD, "empty@local.test", "disabled", 1 },
	};
	struct outcome o;

	memset(long_password, 'x', sizeof(long_password));
	start("# who may send\n\nbob:" BCRYPT "\nlocked:!" BCRYPT "\ndes:ab3eF/9uT0e1s\nempty:\n"
	    "long:$6$abcdefgh$GLEvMmG/AT/vLsSXykXXPsNeeoCQ6uEOukTPL4QK8NAn9QjL.BoZVPOID/jPt3i5T6uKt6D3KXD2/hSteSc.4/\n", NULL, 4, 20000);
	for (size_t i = 0; i < COUNT(rows); i++) {
		check(&o, rows[i].authzid, rows[i].user, rows[i].password);
		/* a user that is not there costs a child as well (case 7.7) */
		assert_int_equal(children_running(children), rows[i].children);
		assert_int_equal(auth_pending(auth), rows[i].children);
		wait_for(&o);
		print_message("  %.*s: %d %s\n", (int)rows[i].user.len, rows[i].user.p, (int)o.r.outcome, o.reason);
		assert_int_equal(o.r.outcome, rows[i].outcome);
		assert_string_equal(o.user, rows[i].name);
		assert_string_equal(o.reason, rows[i].reason);
		assert_true(o.r.expires_time == INT64_MAX && o.r.kid[0] == '\0' && o.r.token[0] == '\0');
		assert_int_equal(auth_pending(auth), 0);
	}
	stop();
	start(NULL, NULL, 4, 20000);
	try(&o, "bob", PASSWORD);
	assert_int_equal(o.r.outcome, AUTH_UNABLE);
	stop();
}

static void
a_changed_file_is_read_again(void **state)	/* and one that cannot be read is no failure of the client (case 7.10) */
{
	struct outcome o;

	start("alice:" BCRYPT "\n", NULL, 4, 20000);
	try(&o, "bob", PASSWORD);
	assert_int_equal(o.r.outcome, AUTH_BAD);
	write_file("alice:" BCRYPT "\nbob:" BCRYPT "\n");
	later();
	try(&o, "bob", PASSWORD);
	assert_int_equal(o.r.outcome, AUTH_GOOD);
	assert_int_equal(unlink(path), 0);
	later();
	try(&o, "bob", PASSWORD);
	assert_int_equal(o.r.outcome, AUTH_UNABLE);
	assert_int_equal(mkfifo(path, 0600), 0);	/* nobody waits for a writer */
	later();
	try(&o, "bob", PASSWORD);
	assert_int_equal(o.r.outcome, AUTH_UNABLE);
	assert_int_equal(unlink(path), 0);
	write_file("bob:" BCRYPT "\n");
	later();
	try(&o, "bob", PASSWORD);
	assert_int_equal(o.r.outcome, AUTH_GOOD);
	stop();
}

static void
so_many_at_work_and_so_many_waiting(void **state)
{
	static struct outcome o[MANY + 1];

	start("bob:" BCRYPT "\n", NULL, 2, 60000);
	for (size_t i = 0; i < MANY; i++) {
		check(&o[i], SPAN(""), SPAN("bob"), i % 2 == 0 ? SPAN(PASSWORD) : SPAN("wrong"));
		assert_int_equal(o[i].calls, 0);
	}
	assert_int_equal(auth_pending(auth), MANY);
	check(&o[MANY], SPAN(""), SPAN("bob"), SPAN(PASSWORD));
	assert_int_equal(o[MANY].calls, 1);
	assert_int_equal(o[MANY].r.outcome, AUTH_UNABLE);
	assert_string_equal(o[MANY].reason, "busy");
	for (int64_t end = loop_clock_ms() + 20000; auth_pending(auth) > MANY - TRIED && loop_clock_ms() < end;) {
		assert_true(children_running(children) <= 2);
		assert_int_equal(loop_turn(&loop, 100), 0);
	}
	assert_true(auth_pending(auth) <= MANY - TRIED);
	for (size_t i = 0; i < MANY; i++)
		if (o[i].calls > 0)
			assert_int_equal(o[i].r.outcome, i % 2 == 0 ? AUTH_GOOD : AUTH_BAD);
	stop();
	for (size_t i = 0; i < MANY; i++)	/* who still waited is told */
		assert_int_equal(o[i].calls, 1);
	assert_int_equal(o[MANY - 1].r.outcome, AUTH_UNABLE);
}

static void
deadlines(void **state)
{
	char *command[] = { STR("/bin/sh"), STR("-c"), STR("exec sleep 1000"), NULL };
	int64_t begin = loop_clock_ms();
	struct outcome o[3];

	start(NULL, command, 2, 300);
	for (size_t i = 0; i < COUNT(o); i++)
		check(&o[i], SPAN(""), SPAN("bob"), SPAN(PASSWORD));
	for (size_t i = 0; i < COUNT(o); i++) {
		wait_for(&o[i]);
		assert_int_equal(o[i].r.outcome, AUTH_UNABLE);
		assert_string_equal(o[i].reason, "timeout");
	}
	assert_true(loop_clock_ms() - begin >= 300 && loop_clock_ms() - begin < 5000);
	stop();
}

static void
an_end_answers_everybody(void **state)
{
	char *command[] = { STR("/bin/sh"), STR("-c"), STR("exec sleep 1000"), NULL };
	struct outcome o[5];

	start(NULL, command, 2, 60000);
	for (size_t i = 0; i < COUNT(o); i++)
		check(&o[i], SPAN(""), SPAN("bob"), SPAN(PASSWORD));
	assert_int_equal(children_running(children), 2);
	stop();
	for (size_t i = 0; i < COUNT(o); i++) {
		assert_int_equal(o[i].calls, 1);
		assert_int_equal(o[i].r.outcome, AUTH_UNABLE);
	}
}

/* A shell's script as a checkpassword command; it may use $1, the folder. */
static void
try_command(struct outcome *o, const char *script, const char *user, const char *password)
{
	char *command[] = { STR("sh"), STR("-c"), STR(script), STR("sh"), folder, NULL };

	start(NULL, command, 2, 3000);
	try(o, user, password);
	stop();
}

static void
what_a_command_says(void **state)
{
	static const struct {
		const char		*script;
		enum auth_outcome	 outcome;
	} rows[] = {
		{ "exit 0", AUTH_GOOD },
		{ "exit 1", AUTH_BAD },
		{ "exit 2", AUTH_UNABLE },
		{ "exit 100", AUTH_UNABLE },
		{ "exit 111", AUTH_UNABLE },
		{ "exit 255", AUTH_UNABLE },
		{ "echo the directory is away; exit 111", AUTH_UNABLE },
		{ "kill -9 $$", AUTH_UNABLE },
		{ "trap 'exit 0' TERM; sleep 1000 & wait", AUTH_UNABLE },	/* the deadline is one, whatever it says then */
		{ "exec <&- >&- 2>&- 3<&-; exit 0", AUTH_GOOD },
		{ "head -c 100000 /dev/zero; exit 0", AUTH_GOOD },
		/* the interface: user, password and a time, and the environment has no credentials (case 7.12) */
		{ "[ \"$(tr '\\0' '\\n' <&3 | head -n 2)\" = 'bob@local.test\n" PASSWORD "' ] || exit 111", AUTH_GOOD },
		{ "[ \"$(tr -cd '\\0' <&3 | wc -c)\" -eq 3 ] || exit 111", AUTH_GOOD },
		{ "tr '\\0' '\\n' <&3 | sed -n 3p | grep -qE '^[0-9]{9,12}$' || exit 111", AUTH_GOOD },
		{ "[ $TCPREMOTEIP $CLIENT_ADDRESS = 192.0.2.1 ] || exit 111", AUTH_UNABLE },
		{ "[ \"$TCPREMOTEIP $CLIENT_ADDRESS\" = '192.0.2.1 192.0.2.1' ] || exit 111", AUTH_GOOD },
		{ "[ \"$(tr '\\0' '\\n' </proc/$$/environ | cut -d= -f1 | sort | tr '\\n' ' ')\" = 'CLIENT_ADDRESS PATH TCPREMOTEIP ' ] || exit 111",
		    AUTH_GOOD },
		{ "! read line || exit 111", AUTH_GOOD },		/* nothing on standard input */
		{ "[ -d \"$1\" ] || exit 111", AUTH_GOOD },		/* the configured words */
	};
	char *missing[] = { STR("/nonexistent/checkpassword"), NULL };
	struct outcome o;

	for (size_t i = 0; i < COUNT(rows); i++) {
		print_message("  %s\n", rows[i].script);
		try_command(&o, rows[i].script, "Bob", PASSWORD);
		assert_int_equal(o.r.outcome, rows[i].outcome);
		assert_string_equal(o.user, "bob@local.test");
	}
	start(NULL, missing, 2, 2000);
	try(&o, "bob", PASSWORD);
	assert_int_equal(o.r.outcome, AUTH_UNABLE);
	stop();
}

static void
what_does_not_fit_the_interface(void **state)	/* 512 octets at most */
{
	char user[SMTP_ADDRESS_MAX + 1], password[257], domain[256];
	size_t time_len = 11, user_len;	/* ten digits and a NUL, until the year 2286 */
	struct outcome o;

	memset(domain, 'd', sizeof(domain));
	for (size_t i = 60; i < 240; i += 60)
		domain[i] = '.';
	domain[240] = '\0';
	(void)snprintf(user, sizeof(user), "bob@%s", domain);
	user_len = strlen(user);
	for (size_t over = 0; over < 2; over++) {
		memset(password, 'x', sizeof(password));
		password[512 - time_len - (user_len + 1) - 1 + over] = '\0';
		assert_true(strlen(password) <= 256);
		try_command(&o, "exit 0", user, password);
		assert_int_equal(o.r.outcome, over == 0 ? AUTH_GOOD : AUTH_BAD);
	}
	assert_string_equal(o.reason, "too long");
}

static void
the_file_goes_before_the_command(void **state)
{
	char *command[] = { STR("/bin/sh"), STR("-c"), STR("exit 0"), NULL };
	struct outcome o;

	start("bob:" BCRYPT "\nlocked:!\n", command, 2, 5000);
	try(&o, "bob", "wrong");
	assert_int_equal(o.r.outcome, AUTH_BAD);
	try(&o, "locked", "wrong");
	assert_int_equal(o.r.outcome, AUTH_BAD);
	try(&o, "alice", "whatever");
	assert_int_equal(o.r.outcome, AUTH_GOOD);
	assert_int_equal(unlink(path), 0);
	later();
	try(&o, "alice", "whatever");	/* nobody knows whether the file has her */
	assert_int_equal(o.r.outcome, AUTH_UNABLE);
	stop();
}

static void
answer_token(enum auth_outcome outcome, const char *user)
{
	token.done(token.arg, &(struct auth_result){ .outcome = outcome, .user = user, .reason = outcome == AUTH_GOOD ? "ok" : "expired",
	    .kid = "key", .token = "0123abcd", .expires_time = 4711 });
}

static void
tokens(void **state)
{
	static const struct {
		const char		*authzid, *user;	/* user: the token's; NULL: oauth is not asked */
		enum auth_outcome	 answer, outcome;
		const char		*reason;
	} rows[] = {
		{ "", "bob@local.test", AUTH_GOOD, AUTH_GOOD, "ok" },
		{ "bob", "bob@local.test", AUTH_GOOD, AUTH_GOOD, "ok" },
		{ "BOB@local.test", "bob@local.test", AUTH_GOOD, AUTH_GOOD, "ok" },
		{ "alice", "bob@local.test", AUTH_GOOD, AUTH_BAD, "authzid" },
		{ "b b", NULL, AUTH_GOOD, AUTH_BAD, "authzid" },
		{ "bob", "bob@local.test", AUTH_BAD, AUTH_BAD, "expired" },
		{ "alice", "bob@local.test", AUTH_UNABLE, AUTH_UNABLE, "expired" },
	};
	struct outcome o;

	start(NULL, NULL, 2, 5000);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct credentials c = { .mechanism = i % 2 == 0 ? SASL_OAUTHBEARER : SASL_XOAUTH2,
		    .authzid = text_span(rows[i].authzid), .secret = SPAN("tok.en") };

		print_message("  \"%s\" %s\n", rows[i].authzid, rows[i].user == NULL ? "" : rows[i].user);
		o = (struct outcome){ 0 };
		token = (struct token){ 0 };
		auth_check(auth, 1, &c, "192.0.2.1", note, &o);
		assert_int_equal(token.calls, rows[i].user != NULL);
		if (rows[i].user != NULL) {
			assert_int_equal(o.calls, 0);
			assert_int_equal(auth_pending(auth), 1);
			assert_string_equal(token.text, "tok.en");
			assert_int_equal(token.wait_ms, 5000);
			answer_token(rows[i].answer, rows[i].user);
			assert_string_equal(o.user, rows[i].user);
			assert_string_equal(o.r.kid, "key");
			assert_int_equal(o.r.expires_time, 4711);
		}
		assert_int_equal(o.calls, 1);
		assert_int_equal(o.r.outcome, rows[i].outcome);
		assert_string_equal(o.reason, rows[i].reason);
		assert_int_equal(auth_pending(auth), 0);
	}
	stop();
}

static void
so_many_tokens(void **state)	/* and what is left of them at the end is not answered */
{
	struct credentials c = { .mechanism = SASL_OAUTHBEARER, .secret = SPAN("t") };
	struct outcome o = { 0 };

	start("bob:" BCRYPT "\n", NULL, 2, 5000);
	for (size_t i = 0; i < 256; i++)
		auth_check(auth, 1, &c, "192.0.2.1", note, &o);
	assert_int_equal(o.calls, 0);
	auth_check(auth, 1, &c, "192.0.2.1", note, &o);
	assert_int_equal(o.calls, 1);
	assert_int_equal(o.r.outcome, AUTH_UNABLE);
	answer_token(AUTH_GOOD, "bob@local.test");
	assert_int_equal(o.calls, 2);
	try(&o, "bob", PASSWORD);	/* passwords do not wait for an issuer */
	assert_int_equal(o.r.outcome, AUTH_GOOD);
	o.calls = 0;
	assert_int_equal(auth_pending(auth), 255);
	stop();
	assert_int_equal(o.calls, 0);
}

static void
tickets(void **state)
{
	struct auth_key key, other;
	uint8_t ticket[AUTH_TICKET_LEN], again[AUTH_TICKET_LEN];

	assert_int_equal(auth_key_make(&key), 0);
	assert_int_equal(auth_key_make(&other), 0);
	assert_memory_not_equal(&key, &other, sizeof(key));
	auth_ticket(&key, 4711, "bob@local.test", 1000, ticket);
	auth_ticket(&key, 4711, "bob@local.test", 1000, again);
	assert_memory_equal(ticket, again, sizeof(ticket));
	assert_true(auth_ticket_is_good(&key, 4711, "bob@local.test", 1000, ticket));
	assert_false(auth_ticket_is_good(&other, 4711, "bob@local.test", 1000, ticket));
	assert_false(auth_ticket_is_good(&key, 4712, "bob@local.test", 1000, ticket));
	assert_false(auth_ticket_is_good(&key, 4711, "bob@local.tes", 1000, ticket));
	assert_false(auth_ticket_is_good(&key, 4711, "", 1000, ticket));
	assert_false(auth_ticket_is_good(&key, 4711, "bob@local.test", 1001, ticket));
	for (size_t i = 0; i < 8 * sizeof(ticket); i++) {
		ticket[i / 8] ^= (uint8_t)(1u << i % 8);
		assert_false(auth_ticket_is_good(&key, 4711, "bob@local.test", 1000, ticket));
		ticket[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	/* HMAC-SHA256 as another implementation has it */
	memset(&key, 0x0b, sizeof(key));
	auth_ticket(&key, 0, "bob", 0, ticket);
	assert_memory_equal(ticket, "\x49\x96\x46\x92\x0d\xc8\xbf\x32\x56\xf7\x5a\xd2\x4a\x4b\x1c\xed", sizeof(ticket));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(users, setup, teardown),
		cmocka_unit_test_setup_teardown(mechanisms, setup, teardown),
		cmocka_unit_test_setup_teardown(every_format, setup, teardown),
		cmocka_unit_test_setup_teardown(outcomes, setup, teardown),
		cmocka_unit_test_setup_teardown(a_changed_file_is_read_again, setup, teardown),
		cmocka_unit_test_setup_teardown(so_many_at_work_and_so_many_waiting, setup, teardown),
		cmocka_unit_test_setup_teardown(deadlines, setup, teardown),
		cmocka_unit_test_setup_teardown(an_end_answers_everybody, setup, teardown),
		cmocka_unit_test_setup_teardown(what_a_command_says, setup, teardown),
		cmocka_unit_test_setup_teardown(what_does_not_fit_the_interface, setup, teardown),
		cmocka_unit_test_setup_teardown(the_file_goes_before_the_command, setup, teardown),
		cmocka_unit_test_setup_teardown(tokens, setup, teardown),
		cmocka_unit_test_setup_teardown(so_many_tokens, setup, teardown),
		cmocka_unit_test(tickets),
	};

	return cmocka_run_group_tests_name("auth", tests, NULL, NULL);
}
