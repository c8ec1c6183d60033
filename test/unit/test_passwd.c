/*
 * test_passwd.c - passwd_file and the lines that smtpd passwd makes for it (cases 5.27, 7.7, 13.9).
 */
#include "passwd.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "auth.h"
#include "loop.h"

#define STR(s) ((char *)(uintptr_t)(s))
#define BCRYPT "$2b$04$abcdefghijklmnopqrstuubjP1z14z9vf4f4ExsO0Mw6AVe3Jveku"
#define MD5 "$1$abcdefgh$WDaAZbfalObwTZkkHy2w91"
#define SHA256 "PLY6GCEPM.VANfzzoW77mjzGGKkyJ0nbrfWqrVayM9C"
#define SHA512 "GLEvMmG/AT/vLsSXykXXPsNeeoCQ6uEOukTPL4QK8NAn9QjL.BoZVPOID/jPt3i5T6uKt6D3KXD2/hSteSc.4/"
#define USERS 100000

static char path[] = "/tmp/test_passwd.XXXXXX";
static char *domains[] = { STR("local.test"), NULL };
static const struct config config = { .domains = { .v = domains, .n = 1 } };
static const char *hash;

static void
write_file(struct span text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	assert_true(fd != -1);
	assert_int_equal(write(fd, text.p, text.len), (ssize_t)text.len);
	close(fd);
}

static int
setup(void **state)
{
	int fd = mkstemp(path);

	return fd == -1 ? -1 : close(fd);
}

static int
teardown(void **state)
{
	return unlink(path);
}

static void
hashes(void **state)
{
	static const struct {
		const char	*hash;
		bool		 good;
	} rows[] = {
		{ MD5, true }, { "$1$$4DPHSLhaUWF3VFo4ppGVZ.", true }, { "$1$abcdefghi$WDaAZbfalObwTZkkHy2w91", false },
		{ "$1$abcdefgh$WDaAZbfalObwTZkkHy2w9", false }, { "$1$abcdefgh$WDaAZbfalObwTZkkHy2w911", false }, { "$1$", false },
		{ "$1$abcdefgh", false }, { "$1$rounds=1000$WDaAZbfalObwTZkkHy2w91", false },
		{ "$5$abcdefgh$" SHA256, true }, { "$5$rounds=1000$abcdefghijklmnop$" SHA256, true }, { "$5$" SHA256, false },
		{ "$5$$" SHA256, true }, { "$5$abcdefghijklmnopq$" SHA256, false }, { "$5$rounds=999$abcdefgh$" SHA256, false },
		{ "$5$rounds=9999999$abcdefgh$" SHA256, true }, { "$5$rounds=10000000$abcdefgh$" SHA256, false },
		{ "$5$rounds=$abcdefgh$" SHA256, false }, { "$5$rounds=1000", false }, { "$5$rounds=1000$", false },
		{ "$5$rounds=1000x$abcdefgh$" SHA256, false }, { "$5$a b$" SHA256, false }, { "$5$abcdefgh$" SHA256 "=", false },
		{ "$6$abcdefgh$" SHA512, true }, { "$6$abcdefgh$" SHA256, false }, { "$5$abcdefgh$" SHA512, false },
		{ "$6$rounds=5000$abcdefgh$" SHA512, true }, { "$6$a$b$" SHA512, false },
		{ BCRYPT, true }, { "$2a$04$abcdefghijklmnopqrstuubjP1z14z9vf4f4ExsO0Mw6AVe3Jveku", true },
		{ "$2y$31$abcdefghijklmnopqrstuubjP1z14z9vf4f4ExsO0Mw6AVe3Jveku", true },
		{ "$2b$03$abcdefghijklmnopqrstuubjP1z14z9vf4f4ExsO0Mw6AVe3Jveku", false },
		{ "$2b$32$abcdefghijklmnopqrstuubjP1z14z9vf4f4ExsO0Mw6AVe3Jveku", false },
		{ "$2x$04$abcdefghijklmnopqrstuubjP1z14z9vf4f4ExsO0Mw6AVe3Jveku", false },
		{ "$2$04$abcdefghijklmnopqrstuubjP1z14z9vf4f4ExsO0Mw6AVe3Jveku", false },
		{ BCRYPT "x", false }, { "$2b$04$abcdefghijklmnopqrstuubjP1z14z9vf4f4ExsO0Mw6AVe3Jvek", false },
		{ "$2b$04$abcdefghijklmnopqrstuubjP1z14z9vf4f4ExsO0Mw6AVe3Jve=u", false },
		{ "", false }, { "!", false }, { "*", false }, { "!" BCRYPT, false }, { "x", false }, { "$", false },
		{ "ab3eF/9uT0e1s", false }, { "_J9..rasmBYk8r9AiWNc", false }, { "{SHA}x", false }, { "secret", false },
		{ "$3$$8846f7eaee8fb117ad06bdd830b7586c", false }, { "$y$j9T$abc$def", false }, { "$argon2id$v=19$m=65536", false },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct passwd_file *f;
		char text[256];

		print_message("  %s\n", rows[i].hash);
		(void)snprintf(text, sizeof(text), "bob:%s\n", rows[i].hash);
		write_file(text_span(text));
		f = passwd_new(path, &config, 0);
		assert_non_null(f);
		hash = NULL;
		assert_int_equal(passwd_find(f, "bob@local.test", 0, &hash), rows[i].good ? PASSWD_KNOWN : PASSWD_DISABLED);
		if (rows[i].good)
			assert_string_equal(hash, rows[i].hash);
		else
			assert_int_equal(strncmp(hash, "$6$rounds=", 10), 0);	/* something to compute there is, always */
		passwd_free(f);
	}
}

static void
files(void **state)
{
	static const struct {
		struct span		 text;
		const char		*user;
		enum passwd_answer	 answer;
		const char		*hash;	/* NULL: one of ours, of no line */
	} rows[] = {
		{ SPAN(""), "bob@local.test", PASSWD_UNKNOWN, NULL },
		{ SPAN("\n\n"), "bob@local.test", PASSWD_UNKNOWN, NULL },
		{ SPAN("bob:" BCRYPT), "bob@local.test", PASSWD_KNOWN, BCRYPT },		/* no line end */
		{ SPAN("bob:" BCRYPT "\r\n"), "bob@local.test", PASSWD_KNOWN, BCRYPT },
		{ SPAN(" \tBOB : " BCRYPT " \n"), "bob@local.test", PASSWD_KNOWN, BCRYPT },
		{ SPAN("# x\n  # bob:" MD5 "\nBob@Local.Test:" BCRYPT "\n"), "bob@local.test", PASSWD_KNOWN, BCRYPT },
		{ SPAN("bob:" BCRYPT "\nbob@local.test:" MD5 "\n"), "bob@local.test", PASSWD_KNOWN, BCRYPT },	/* the first counts */
		{ SPAN("BOB@local.test:" MD5 "\nbob:" BCRYPT "\n"), "bob@local.test", PASSWD_KNOWN, MD5 },
		{ SPAN("bob:!\nbob:" BCRYPT "\n"), "bob@local.test", PASSWD_DISABLED, NULL },
		{ SPAN("bob\n" BCRYPT "\n:" BCRYPT "\nb b:" BCRYPT "\nb\0b:" BCRYPT "\nbob:" MD5 "\n"), "bob@local.test", PASSWD_KNOWN, MD5 },
		{ SPAN("bob:" MD5 ":0:0::/:\n"), "bob@local.test", PASSWD_UNKNOWN, NULL },	/* no file of ours, nor a user */
		{ SPAN("bob:" MD5 "\0\n"), "bob@local.test", PASSWD_DISABLED, NULL },
		{ SPAN("\"b b\":" MD5 "\n"), "\"b b\"@local.test", PASSWD_KNOWN, MD5 },
		/* whose hash a user that is not there gets: the next one's, which has the time of a real one (case 7.7) */
		{ SPAN("alice:" MD5 "\ncarol:" BCRYPT "\n"), "aaa@local.test", PASSWD_UNKNOWN, MD5 },
		{ SPAN("alice:" MD5 "\ncarol:" BCRYPT "\n"), "bob@local.test", PASSWD_UNKNOWN, BCRYPT },
		{ SPAN("alice:" MD5 "\ncarol:" BCRYPT "\n"), "zoe@local.test", PASSWD_UNKNOWN, MD5 },
		{ SPAN("alice:" MD5 "\ncarol:*\n"), "bob@local.test", PASSWD_UNKNOWN, MD5 },
		{ SPAN("alice:" MD5 "\ncarol:*\n"), "carol@local.test", PASSWD_DISABLED, MD5 },
		{ SPAN("alice:!\ncarol:*\n"), "bob@local.test", PASSWD_UNKNOWN, NULL },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct passwd_file *f;

		print_message("  %s\n", rows[i].text.p);
		write_file(rows[i].text);
		f = passwd_new(path, &config, 0);
		assert_non_null(f);
		hash = NULL;
		assert_int_equal(passwd_find(f, rows[i].user, 0, &hash), rows[i].answer);
		assert_non_null(hash);
		if (rows[i].hash != NULL)
			assert_string_equal(hash, rows[i].hash);
		else
			assert_int_equal(strncmp(hash, "$6$rounds=", 10), 0);
		passwd_free(f);
	}
}

static void
it_is_looked_at_once_a_second(void **state)
{
	struct passwd_file *f;

	write_file(SPAN("bob:" MD5 "\n"));
	f = passwd_new(path, &config, 1000);
	write_file(SPAN("bob:" BCRYPT "\n"));
	assert_int_equal(passwd_find(f, "bob@local.test", 1999, &hash), PASSWD_KNOWN);
	assert_string_equal(hash, MD5);
	assert_int_equal(passwd_find(f, "bob@local.test", 2000, &hash), PASSWD_KNOWN);
	assert_string_equal(hash, BCRYPT);
	assert_int_equal(truncate(path, 16 * 1024 * 1024 + 1), 0);
	assert_int_equal(passwd_find(f, "bob@local.test", 3000, &hash), PASSWD_UNREADABLE);
	assert_int_equal(truncate(path, 16 * 1024 * 1024), 0);	/* a line of NULs, but it can be read */
	assert_int_equal(passwd_find(f, "alice@local.test", 4000, &hash), PASSWD_UNKNOWN);
	passwd_free(f);
	f = passwd_new("/nonexistent/passwd", &config, 1000);
	assert_int_equal(passwd_find(f, "bob@local.test", 1000, &hash), PASSWD_UNREADABLE);
	passwd_free(f);
}

static void
a_hundred_thousand_users(void **state)	/* case 13.9 */
{
	FILE *file = fopen(path, "w");
	int64_t begin, read_us, find_us;
	struct passwd_file *f;
	char user[64];

	assert_non_null(file);
	for (unsigned i = 0; i < USERS; i++)
		assert_true(fprintf(file, "user%u:$6$rounds=1000$%08u$" SHA512 "\n", i * 7919u % USERS, i * 7919u % USERS) > 0);
	assert_int_equal(fclose(file), 0);
	begin = loop_clock_us();
	f = passwd_new(path, &config, 0);
	read_us = loop_clock_us() - begin;
	begin = loop_clock_us();
	for (unsigned i = 0; i < USERS; i++) {
		char salt[16];

		(void)snprintf(user, sizeof(user), "user%u@local.test", i);
		(void)snprintf(salt, sizeof(salt), "$%08u$", i);
		assert_int_equal(passwd_find(f, user, 0, &hash), PASSWD_KNOWN);
		assert_non_null(strstr(hash, salt));
	}
	find_us = loop_clock_us() - begin;
	assert_int_equal(passwd_find(f, "user100000@local.test", 0, &hash), PASSWD_UNKNOWN);
	print_message("  read in %lld ms, %lld us for each of %d look-ups\n", (long long)read_us / 1000, (long long)find_us / USERS, USERS);
	passwd_free(f);
}

/* ---- smtpd passwd ---- */

/* Run with this standard input; its output and error go to out. Returns its exit status. */
static int
run_passwd(const char *user, struct span input, char *out, size_t size)
{
	int in[2], answer[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(answer), 0);
	assert_int_equal(write(in[1], input.p, input.len), (ssize_t)input.len);
	close(in[1]);
	pid = fork();
	assert_true(pid != -1);
	if (pid == 0) {
		if (dup2(in[0], 0) == -1 || dup2(answer[1], 1) == -1 || dup2(answer[1], 2) == -1)
			_exit(99);
		_exit(auth_passwd_main(user));
	}
	close(in[0]);
	close(answer[1]);
	while ((n = read(answer[0], out + len, size - 1 - len)) > 0)
		len += (size_t)n;
	out[len] = '\0';
	close(answer[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
lines_of_standard_input(void **state)
{
	static char longest[2 * 258 + 1], too_long[2 * 258 + 1];
	static const struct {
		const char	*user;
		struct span	 input;
		const char	*problem;	/* NULL: it is good */
	} rows[] = {
		{ "bob", SPAN("secret\nsecret\n"), NULL },
		{ "Bob@Local.Test", SPAN("secret\nsecret"), NULL },
		{ "bob", SPAN("x\nx\n"), NULL },
		{ "bob", SPAN("gr\xc3\xbc\xc3\x9f :\t\xff\ngr\xc3\xbc\xc3\x9f :\t\xff\nmore\n"), NULL },
		{ "bob", { longest, 2 * 257 }, NULL },
		{ "bob", { too_long, 2 * 258 }, "longer than 256" },
		{ "bob", SPAN(""), "empty" },
		{ "bob", SPAN("\n\n"), "empty" },
		{ "bob", SPAN("\nsecret\n"), "empty" },
		{ "bob", SPAN("secret\n"), "differ" },
		{ "bob", SPAN("secret\nSecret\n"), "differ" },
		{ "bob", SPAN("secret\nsecret \n"), "differ" },
		{ "bob", SPAN("sec\0ret\nsec\0ret\n"), "NUL" },
		{ "", SPAN("secret\nsecret\n"), "not a user" },
		{ "b:b", SPAN("secret\nsecret\n"), "not a user" },
		{ "b b", SPAN("secret\nsecret\n"), "not a user" },
		{ "bob\n", SPAN("secret\nsecret\n"), "not a user" },
		{ "#bob", SPAN("secret\nsecret\n"), "not a user" },
		{ "bob@", SPAN("secret\nsecret\n"), "not a user" },
	};
	char out[1024], again[1024];

	memset(longest, 'x', sizeof(longest));
	longest[256] = longest[2 * 257 - 1] = '\n';
	memset(too_long, 'x', sizeof(too_long));
	too_long[257] = too_long[2 * 258 - 1] = '\n';
	for (size_t i = 0; i < COUNT(rows); i++) {
		size_t user_len = strlen(rows[i].user);
		struct passwd_file *f;
		char key[SMTP_ADDRESS_MAX + 1];

		print_message("  %s %.20s\n", rows[i].user, rows[i].input.p);
		assert_int_equal(run_passwd(rows[i].user, rows[i].input, out, sizeof(out)), rows[i].problem == NULL ? 0 : 1);
		if (rows[i].problem != NULL) {
			assert_non_null(strstr(out, rows[i].problem));
			assert_null(strchr(out, '$'));
			continue;
		}
		assert_int_equal(strncmp(out, rows[i].user, user_len), 0);
		write_file(text_span(out));
		f = passwd_new(path, &config, 0);
		assert_true(auth_user_name(&config, text_span(rows[i].user), key));
		assert_int_equal(passwd_find(f, key, 0, &hash), PASSWD_KNOWN);
		assert_true(text_is(text_sub(text_span(out), user_len + 1, strlen(out) - 1), hash));
		passwd_free(f);
		/* another salt each time */
		assert_int_equal(run_passwd(rows[i].user, rows[i].input, again, sizeof(again)), 0);
		assert_string_not_equal(out, again);
	}
}

/* On a terminal of its own; the other side is *fd. */
static pid_t
start_on_terminal(int *fd)
{
	pid_t pid = forkpty(fd, NULL, NULL, NULL);

	assert_true(pid != -1);
	if (pid == 0)
		_exit(auth_passwd_main("bob"));
	return pid;
}

/* Read until it says so, or its end. */
static void
expect(int fd, char *seen, size_t size, const char *what)
{
	size_t len = strlen(seen);
	ssize_t n;

	while ((what == NULL || strstr(seen, what) == NULL) && (n = read(fd, seen + len, size - 1 - len)) > 0) {
		len += (size_t)n;
		seen[len] = '\0';
	}
	if (what != NULL)
		assert_non_null(strstr(seen, what));
}

static bool
echoes(int fd)
{
	struct termios t;

	assert_int_equal(tcgetattr(fd, &t), 0);
	return (t.c_lflag & ECHO) != 0;
}

static void
a_terminal(void **state)
{
	char seen[1024] = "";
	int fd, status;
	pid_t pid = start_on_terminal(&fd);

	expect(fd, seen, sizeof(seen), "Password: ");
	assert_false(echoes(fd));
	assert_int_equal(write(fd, "secret\n", 7), 7);
	expect(fd, seen, sizeof(seen), "Again: ");
	assert_int_equal(write(fd, "secret\n", 7), 7);
	expect(fd, seen, sizeof(seen), "bob:$6$rounds=100000$");
	assert_null(strstr(seen, "secret"));
	assert_true(echoes(fd));
	expect(fd, seen, sizeof(seen), NULL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd);
}

static void
signals_turn_the_echo_on_again(void **state)
{
	static const int deadly[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

	for (size_t i = 0; i < COUNT(deadly); i++) {
		char seen[1024] = "", name[128];
		int fd, slave, status;
		pid_t pid = start_on_terminal(&fd);

		print_message("  signal %d\n", deadly[i]);
		assert_int_equal(ptsname_r(fd, name, sizeof(name)), 0);
		slave = open(name, O_RDWR | O_NOCTTY);	/* or it is gone with its last user */
		assert_true(slave != -1);
		expect(fd, seen, sizeof(seen), "Password: ");
		assert_false(echoes(slave));
		if (deadly[i] == SIGINT)
			assert_int_equal(write(fd, "\003", 1), 1);	/* ^C */
		else
			assert_int_equal(kill(pid, deadly[i]), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), deadly[i]);
		assert_true(echoes(slave));
		close(slave);
		close(fd);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hashes),
		cmocka_unit_test(files),
		cmocka_unit_test(it_is_looked_at_once_a_second),
		cmocka_unit_test(a_hundred_thousand_users),
		cmocka_unit_test(lines_of_standard_input),
		cmocka_unit_test(a_terminal),
		cmocka_unit_test(signals_turn_the_echo_on_again),
	};

	return cmocka_run_group_tests_name("passwd", tests, setup, teardown);
}
