/*
 * test_child.c - children: how they end, what they inherit, what is kept of their output (cases 12.1 to 12.13).
 */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "waits.h"

#define MAX 500
#define STR(s) ((char *)(uintptr_t)(s))	/* argument vectors are not const, for history's sake */

static struct loop loop;
static size_t loop_own;	/* slots that the loop has of itself */
static struct children *children;
static const struct child_user nobody_else = { 0 };
static char path_env[] = "PATH=/usr/bin:/bin";
static char *const clean_env[] = { path_env, NULL };

/* What the last child has reported. */
struct report {
	unsigned	 calls;
	struct child_result r;
	char		 output[CHILD_OUTPUT_MAX + 1];
};

static void
note(void *arg, const struct child_result *r)
{
	struct report *p = arg;

	p->calls++;
	p->r = *r;
	assert_true(r->output.len <= CHILD_OUTPUT_MAX);
	memcpy(p->output, r->output.p, r->output.len);
	p->output[r->output.len] = '\0';
}

static struct child *
start(struct report *p, const char *script, int in_fd, int64_t ms)
{
	char *argv[] = { STR("/bin/sh"), STR("-c"), STR(script), NULL };

	*p = (struct report){ 0 };
	return child_start(children, argv, clean_env, in_fd, -1, &nobody_else, ms, note, p);
}

static void
run(struct report *p, const char *script, int64_t ms)
{
	assert_non_null(start(p, script, -1, ms));
	assert_int_equal(p->calls, 0);	/* never from inside child_start() */
	wait_for(p);
}

static int
setup_max(size_t max)
{
	assert_int_equal(loop_init(&loop, max + 10), 0);
	loop_own = loop.n;
	children = children_new(&loop, max);
	return children == NULL ? -1 : 0;
}

static int
setup_many(void **state)
{
	(void)state;
	return setup_max(MAX);
}

static int
setup(void **state)
{
	(void)state;
	return setup_max(10);
}

static int
teardown(void **state)
{
	(void)state;
	children_free(children);
	assert_int_equal(loop.n, loop_own);
	loop_clear(&loop);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);	/* no child is left, not even a zombie */
	assert_int_equal(errno, ECHILD);
	return 0;
}

static void
exit_statuses(void **state)	/* case 12.1; test_deliver tries all 256 */
{
	static const int rows[] = { 0, 1, 64, 75, 126, 127, 128, 254, 255 };
	static struct report p[COUNT(rows)];

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char script[32];

		(void)snprintf(script, sizeof(script), "exit %d", rows[i]);
		assert_non_null(start(&p[i], script, -1, 20000));
	}
	for (size_t i = 0; i < COUNT(rows); i++) {
		print_message("exit %d\n", rows[i]);
		wait_for(&p[i]);
		assert_true(WIFEXITED(p[i].r.status));
		assert_int_equal(WEXITSTATUS(p[i].r.status), rows[i]);
		assert_false(p[i].r.timed_out);
	}
	assert_int_equal(children_running(children), 0);
}

static void
every_signal(void **state)	/* case 12.1 */
{
	static const int deadly[] = { SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGABRT, SIGFPE, SIGKILL, SIGSEGV, SIGPIPE, SIGALRM, SIGTERM,
	    SIGUSR1, SIGUSR2 };
	struct report p;

	(void)state;
	for (size_t i = 0; i < COUNT(deadly); i++) {
		char script[64];

		print_message("signal %d\n", deadly[i]);
		(void)snprintf(script, sizeof(script), "kill -%d $$; sleep 10", deadly[i]);
		run(&p, script, 5000);
		assert_true(WIFSIGNALED(p.r.status));
		assert_int_equal(WTERMSIG(p.r.status), deadly[i]);
		assert_false(p.r.timed_out);
	}
}

static void
what_cannot_be_started(void **state)	/* case 12.9 */
{
	static const struct {
		const char	*path;
		int		 error;
	} rows[] = {
		{ "/nonexistent/command", ENOENT },
		{ "nonexistent-command", ENOENT },
		{ "/", EACCES },
		{ "/etc/passwd", EACCES },
		{ "/etc/passwd/x", ENOTDIR },
		{ "%s/loop", ELOOP },
		{ "%s/garbage", ENOEXEC },
		{ "%s/no-interpreter", ENOENT },
		{ "%s/plain-script", ENOEXEC },		/* no #!: it is no shell's business */
	};
	static const char *const files[][2] = {
		{ "garbage", "\177ELFnot really" }, { "no-interpreter", "#!/nonexistent/interpreter\n" }, { "plain-script", "exit 0\n" },
	};
	char folder[] = "/tmp/test_child.XXXXXX", path[64];

	(void)state;
	assert_non_null(mkdtemp(folder));
	for (size_t i = 0; i < COUNT(files); i++) {
		int fd;

		(void)snprintf(path, sizeof(path), "%s/%s", folder, files[i][0]);
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
		assert_int_equal(write(fd, files[i][1], strlen(files[i][1])), (ssize_t)strlen(files[i][1]));
		close(fd);
	}
	(void)snprintf(path, sizeof(path), "%s/loop", folder);
	assert_int_equal(symlink("loop", path), 0);
	for (size_t i = 0; i < COUNT(rows); i++) {
		bool in_folder = rows[i].path[0] == '%';
		char *argv[] = { path, NULL };
		struct report p = { 0 };

		(void)snprintf(path, sizeof(path), "%s%s", in_folder ? folder : "", rows[i].path + (in_folder ? 2 : 0));
		print_message("%s\n", path);
		assert_non_null(child_start(children, argv, clean_env, -1, -1, &nobody_else, 5000, note, &p));
		wait_for(&p);
		assert_int_equal(p.r.status, -1);
		assert_int_equal(p.r.error, rows[i].error);
	}
	for (size_t i = 0; i < COUNT(files); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", folder, files[i][0]);
		(void)unlink(path);
	}
	(void)snprintf(path, sizeof(path), "%s/loop", folder);
	(void)unlink(path);
	assert_int_equal(rmdir(folder), 0);
}

static void
an_argument_too_long_is_reported(void **state)
{
	size_t len = 4 * 1024 * 1024;
	char *argv[] = { STR("/bin/true"), NULL, NULL };
	struct report p = { 0 };

	(void)state;
	argv[1] = malloc(len + 1);
	assert_non_null(argv[1]);
	memset(argv[1], 'x', len);
	argv[1][len] = '\0';
	assert_non_null(child_start(children, argv, clean_env, -1, -1, &nobody_else, 5000, note, &p));
	wait_for(&p);
	free(argv[1]);
	assert_int_equal(p.r.status, -1);
	assert_int_equal(p.r.error, E2BIG);
}

static void
path_is_the_given_environments(void **state)
{
	char *argv[] = { STR("true"), NULL };
	char *const no_path[] = { NULL };
	struct report p = { 0 };

	(void)state;
	assert_non_null(child_start(children, argv, clean_env, -1, -1, &nobody_else, 5000, note, &p));
	wait_for(&p);
	assert_int_equal(p.r.status, 0);
	p = (struct report){ 0 };
	assert_non_null(child_start(children, argv, no_path, -1, -1, &nobody_else, 5000, note, &p));
	wait_for(&p);
	assert_int_equal(p.r.error, ENOENT);
}

static void
a_child_inherits_nothing(void **state)	/* case 12.10 */
{
	const char *ignored;
	int leaked = open("/dev/null", O_RDONLY);	/* not close-on-exec, on purpose */
	struct sigaction ignore = { .sa_handler = SIG_IGN }, old;
	sigset_t block;
	struct report p;

	(void)state;
	assert_int_equal(dup2(leaked, 77), 77);
	sigaction(SIGPIPE, &ignore, &old);
	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigprocmask(SIG_BLOCK, &block, NULL);
	run(&p, "ls /proc/$$/fd; umask; pwd; env | sort; grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\t\\n'", 5000);
	sigprocmask(SIG_UNBLOCK, &block, NULL);
	sigaction(SIGPIPE, &old, NULL);
	close(77);
	close(leaked);
	print_message("%s\n", p.output);
	assert_int_equal(p.r.status, 0);
	assert_ptr_equal(strstr(p.output, "0\n1\n2\n0077\n/\n"), p.output);
	assert_null(strstr(p.output, "HOME="));
	/* but for 32 and 33, which belong to the C library: it lets nobody touch them, and what started us may have ignored them */
	ignored = strstr(p.output, "SigBlk:0000000000000000SigIgn:");
	assert_non_null(ignored);
	assert_int_equal(strtoull(ignored + strlen("SigBlk:0000000000000000SigIgn:"), NULL, 16) & ~UINT64_C(0x180000000), 0);
}

static void
a_child_leads_its_own_group(void **state)
{
	struct report p;
	int pid, group, session;

	(void)state;
	run(&p, "cut -d' ' -f1,5,6 /proc/$$/stat", 5000);
	assert_int_equal(sscanf(p.output, "%d %d %d", &pid, &group, &session), 3);
	assert_int_equal(pid, group);
	assert_int_equal(pid, session);
}

static void
input_and_extra_descriptor_are_handed_on(void **state)
{
	char *argv[] = { STR("/bin/sh"), STR("-c"), STR("cat; echo -; cat <&3"), NULL };
	int in = memfd_create("in", MFD_CLOEXEC), extra = memfd_create("extra", MFD_CLOEXEC);
	struct report p = { 0 };

	(void)state;
	assert_int_equal(write(in, "skipped", 7), 7);
	assert_int_equal(write(in, "input", 5), 5);
	assert_int_equal(lseek(in, 7, SEEK_SET), 7);
	assert_int_equal(write(extra, "secret", 6), 6);
	assert_int_equal(lseek(extra, 0, SEEK_SET), 0);
	assert_non_null(child_start(children, argv, clean_env, in, extra, &nobody_else, 5000, note, &p));
	wait_for(&p);
	assert_string_equal(p.output, "input-\nsecret");
	close(in);
	close(extra);
}

static void
output_is_drained_and_cut(void **state)	/* case 12.6 */
{
	struct report p;

	(void)state;
	run(&p, "head -c 5000000 /dev/zero | tr '\\0' x; head -c 5000000 /dev/zero | tr '\\0' y >&2; exit 75", 20000);
	assert_int_equal(WEXITSTATUS(p.r.status), 75);
	assert_int_equal(p.r.output.len, CHILD_OUTPUT_MAX);
	assert_int_equal(strspn(p.output, "x"), CHILD_OUTPUT_MAX);
}

static void
a_background_child_holds_nobody_up(void **state)	/* cases 12.4, 12.13 */
{
	int64_t begin = loop_clock_ms();
	struct report p;
	int pid;

	(void)state;
	run(&p, "sleep 1000 & echo $!", 5000);
	assert_int_equal(p.r.status, 0);
	assert_true(loop_clock_ms() - begin < 1000);
	assert_int_equal(sscanf(p.output, "%d", &pid), 1);
	assert_true(pid > 1);
	assert_int_equal(kill(pid, SIGKILL), 0);	/* it was left alone */
}

static void
a_closed_output_is_no_end(void **state)	/* case 12.5 */
{
	struct report p;

	(void)state;
	run(&p, "exec >&- 2>&-; sleep 0.3; exit 7", 5000);
	assert_int_equal(WEXITSTATUS(p.r.status), 7);
}

static void
deadlines(void **state)	/* cases 12.3, 12.8 */
{
	static const struct {
		const char	*script;
		int64_t		 least_ms, most_ms;
		int		 signal;
	} rows[] = {
		{ "exec sleep 1000", 200, 2000, SIGTERM },
		{ "sleep 1000; exit 0", 200, 2000, SIGTERM },
		{ "exec >&- 2>&-; exec sleep 1000", 200, 2000, SIGTERM },
		{ "kill -STOP $$", 200, 2000, SIGTERM },
		{ "trap '' TERM; while :; do sleep 1; done", 200 + KILL_AFTER_MS, 2000 + KILL_AFTER_MS, SIGKILL },
	};
	static struct report p[COUNT(rows)];
	int64_t begin = loop_clock_ms();

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_non_null(start(&p[i], rows[i].script, -1, 200));
	for (size_t i = 0; i < COUNT(rows); i++) {
		print_message("%s\n", rows[i].script);
		wait_for(&p[i]);
		assert_true(p[i].r.timed_out);
		assert_true(WIFSIGNALED(p[i].r.status));
		assert_int_equal(WTERMSIG(p[i].r.status), rows[i].signal);
		assert_true(loop_clock_ms() - begin >= rows[i].least_ms);
		assert_true(loop_clock_ms() - begin < rows[i].most_ms);
	}
}

static void
exit_0_after_the_deadline_is_still_too_late(void **state)
{
	struct report p;

	(void)state;
	run(&p, "trap 'exit 0' TERM; while :; do sleep 0.05; done", 200);
	assert_true(p.r.timed_out);
}

/* A dead one may stay a zombie: whoever reaps orphans here is slow, or never does. */
static bool
is_dead(int pid)
{
	char path[64], line[256] = "";
	FILE *f;
	bool dead;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (f == NULL)
		return true;
	dead = fgets(line, sizeof(line), f) == NULL || strstr(line, ") Z ") != NULL;
	fclose(f);
	return dead;
}

static void
the_group_dies_with_its_leader_after_the_deadline(void **state)
{
	struct report p;
	int pid;

	(void)state;
	run(&p, "(trap '' TERM; echo a; exec sleep 1000) & echo $!; sleep 1000", 300);
	assert_true(p.r.timed_out);
	assert_int_equal(sscanf(p.output[0] == 'a' ? p.output + 2 : p.output, "%d", &pid), 1);
	assert_true(pid > 1);
	for (int i = 0; i < 500 && !is_dead(pid); i++)
		(void)poll(NULL, 0, 10);
	assert_true(is_dead(pid));
}

static void
child_stop_works_like_the_deadline(void **state)
{
	struct report p;
	struct child *c;

	(void)state;
	c = start(&p, "exec sleep 1000", -1, 60000);
	assert_non_null(c);
	assert_int_equal(loop_turn(&loop, 50), 0);
	child_stop(c);
	wait_for(&p);
	assert_true(p.r.timed_out);
}

static int
call_return(const void *arg)
{
	return *(const int *)arg;
}

static int
call_kill(const void *arg)
{
	return raise(*(const int *)arg);
}

static int
call_sleep(const void *arg)
{
	(void)poll(NULL, 0, 60000);
	return 0;
}

/* 0: it has descriptors 0, 1, 2 and that of the start's report, its own session, umask and default signals. */
static int
call_look(const void *arg)
{
	struct sigaction sa;
	sigset_t blocked;

	(void)dprintf(1, "%s", (const char *)arg);
	if (sigaction(SIGPIPE, NULL, &sa) == -1 || sa.sa_handler != SIG_DFL)
		return 1;
	if (sigprocmask(SIG_SETMASK, NULL, &blocked) == -1 || sigismember(&blocked, SIGTERM) || sigismember(&blocked, SIGCHLD))
		return 2;
	if (umask(0) != 077 || getsid(0) != getpid())
		return 3;
	return count_fds() == 4 ? 0 : 4;
}

static pid_t ourselves;

static void
at_exit(void)
{
	if (getpid() != ourselves)
		(void)!write(1, "atexit", 6);
}

static void
a_function_of_ours_runs_in_a_child(void **state)
{
	static const int statuses[] = { 0, 1, 111, 255 }, deadly[] = { SIGKILL, SIGUSR1, SIGTERM };
	struct sigaction ignore = { .sa_handler = SIG_IGN }, old;
	int leaked = open("/dev/null", O_RDONLY), before = count_fds();
	struct report p = { 0 };
	sigset_t block;

	(void)state;
	for (size_t i = 0; i < COUNT(statuses); i++) {
		p = (struct report){ 0 };
		assert_non_null(child_call(children, call_return, &statuses[i], 5000, note, &p));
		assert_int_equal(p.calls, 0);
		wait_for(&p);
		assert_true(WIFEXITED(p.r.status));
		assert_int_equal(WEXITSTATUS(p.r.status), statuses[i]);
		assert_string_equal(p.output, "");	/* not "atexit" */
	}
	for (size_t i = 0; i < COUNT(deadly); i++) {
		p = (struct report){ 0 };
		assert_non_null(child_call(children, call_kill, &deadly[i], 5000, note, &p));
		wait_for(&p);
		assert_true(WIFSIGNALED(p.r.status));
		assert_int_equal(WTERMSIG(p.r.status), deadly[i]);
		assert_false(p.r.timed_out);
	}
	p = (struct report){ 0 };
	assert_non_null(child_call(children, call_sleep, NULL, 200, note, &p));
	wait_for(&p);
	assert_true(p.r.timed_out);
	assert_int_equal(WTERMSIG(p.r.status), SIGTERM);
	sigaction(SIGPIPE, &ignore, &old);
	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigprocmask(SIG_BLOCK, &block, NULL);
	p = (struct report){ 0 };
	assert_non_null(child_call(children, call_look, "output", 5000, note, &p));
	wait_for(&p);
	sigprocmask(SIG_UNBLOCK, &block, NULL);
	sigaction(SIGPIPE, &old, NULL);
	assert_string_equal(p.output, "output");
	assert_int_equal(p.r.status, 0);
	assert_int_equal(count_fds(), before);
	close(leaked);
}

static void
count_failed_start(void *arg, const struct child_result *r)
{
	unsigned char *calls = arg;

	++*calls;
	assert_int_equal(r->status, -1);
	assert_int_equal(r->error, ENOENT);
}

static void
five_hundred_at_once(void **state)	/* case 14.5 */
{
	static unsigned char calls[MAX];
	char *argv[] = { STR("/nonexistent/command"), NULL };	/* what it costs to execute something is not the matter here */
	int before = count_fds();

	(void)state;
	for (size_t i = 0; i < MAX; i++)
		assert_non_null(child_start(children, argv, clean_env, -1, -1, &nobody_else, 60000, count_failed_start, &calls[i]));
	assert_int_equal(children_running(children), MAX);
	for (int64_t end = loop_clock_ms() + 20000; children_running(children) > 0 && loop_clock_ms() < end;)
		assert_int_equal(loop_turn(&loop, 100), 0);
	assert_int_equal(children_running(children), 0);
	for (size_t i = 0; i < MAX; i++)
		assert_int_equal(calls[i], 1);
	assert_int_equal(count_fds(), before);
}

static void
strangers_are_reaped(void **state)	/* process 1 of a container inherits orphans */
{
	struct report p;
	pid_t stranger = fork();

	(void)state;
	if (stranger == 0)
		_exit(3);
	run(&p, "sleep 0.2", 5000);
	assert_int_equal(waitpid(stranger, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void
what_is_out_of_reach_starts_nothing(void **state)	/* case 12.11 */
{
	struct rlimit old, low;
	unsigned failed = 0;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = (struct rlimit){ 64, old.rlim_max };
	for (int left = 0; left < 8; left++) {	/* so many descriptors are to be had */
		int fds[64], n = 0, before;
		struct report p;

		assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
		while (n < 64 && (fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) != -1)
			n++;
		assert_true(n >= left);
		for (int i = 0; i < left; i++)
			close(fds[--n]);
		before = count_fds();
		if (start(&p, "exit 0", -1, 5000) == NULL) {
			assert_int_equal(errno, EMFILE);
			failed++;
		} else {
			wait_for(&p);	/* the child has the low limit too, and may not be able to arrange its descriptors */
			assert_true(p.r.status == 0 || (p.r.status == -1 && p.r.error == EMFILE) ||
			    (WIFEXITED(p.r.status) && WEXITSTATUS(p.r.status) == 127));
		}
		assert_int_equal(count_fds(), before);
		while (n > 0)
			close(fds[--n]);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	}
	assert_int_equal(failed, 4);	/* two pipes */
}

static void
a_full_table_starts_nothing(void **state)
{
	static struct report p[10];
	struct report more;

	(void)state;
	for (size_t i = 0; i < COUNT(p); i++)
		assert_non_null(start(&p[i], "exec sleep 1000", -1, 60000));
	assert_null(start(&more, "exit 0", -1, 5000));
	assert_int_equal(errno, EAGAIN);
	children_free(children);
	for (size_t i = 0; i < COUNT(p); i++) {	/* each is told of its end, once */
		assert_int_equal(p[i].calls, 1);
		assert_true(p[i].r.timed_out);
	}
	assert_int_equal(more.calls, 0);
	children = NULL;
}

static void
users(void **state)
{
	struct child_user u;

	(void)state;
	assert_int_equal(child_user_find("", &u), 0);
	assert_false(u.change);
	assert_int_equal(child_user_find(NULL, &u), 0);
	assert_false(u.change);
	assert_int_equal(child_user_find("root", &u), 0);
	assert_true(u.change && u.uid == 0 && u.gid == 0);
	assert_int_equal(child_user_find("no-such-user", &u), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(child_user_find("12345", &u), 0);
	assert_true(u.change && u.uid == 12345 && u.gid == 12345);
	assert_int_equal(child_user_find("12345:678", &u), 0);
	assert_true(u.uid == 12345 && u.gid == 678);
	assert_int_equal(child_user_find("12345:x", &u), -1);
	assert_false(u.change);
}

static void
another_user(void **state)
{
	struct child_user u = { .change = true, .uid = 65534, .gid = 65533 };
	char *argv[] = { STR("/bin/sh"), STR("-c"), STR("id -u; id -g; id -G; grep CapEff /proc/self/status"), NULL };
	struct report p = { 0 };

	(void)state;
	assert_non_null(child_start(children, argv, clean_env, -1, -1, &u, 5000, note, &p));
	wait_for(&p);
	if (geteuid() != 0) {
		assert_int_equal(p.r.error, EPERM);
		return;
	}
	assert_string_equal(p.output, "65534\n65533\n65533\nCapEff:\t0000000000000000\n");
}

/* A command begins in our memory: what it changes on its way is its own. */
static void
a_command_changes_nothing_of_ours(void **state)
{
	struct child_user u = { .change = true, .uid = 65534, .gid = 65533 };
	char *argv[] = { STR("/bin/sh"), STR("-c"), STR("pwd; umask; grep SigBlk /proc/self/status"), NULL };
	struct report p = { 0 };
	int dumpable = prctl(PR_GET_DUMPABLE);
	char here[4096], after[4096];
	mode_t mask = umask(027);
	sigset_t before, now;

	(void)state;
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &before), 0);
	assert_int_equal(sigismember(&before, SIGTERM), 0);
	assert_non_null(child_start(children, argv, clean_env, -1, -1, geteuid() == 0 ? &u : NULL, 5000, note, &p));
	assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &now), 0);
	for (int n = 1; n < NSIG; n++)
		assert_int_equal(sigismember(&now, n), sigismember(&before, n));
	assert_non_null(getcwd(after, sizeof(after)));
	assert_string_equal(after, here);
	assert_int_equal(prctl(PR_GET_DUMPABLE), dumpable);
	assert_int_equal(umask(mask), 027);
	wait_for(&p);
	assert_string_equal(p.output, "/\n0077\nSigBlk:\t0000000000000000\n");
}

/* A file system that does not answer to execve(2), here for a lease that is not given up: it holds up its own command, not us. */
static void
an_execution_that_hangs(void **state)
{
	char path[] = "/tmp/test_child.XXXXXX", *argv[] = { path, NULL }, *works[] = { STR("/bin/true"), NULL };
	static const char text[] = "#!/bin/sh\nexit 7\n";
	struct report p = { 0 }, forked = { 0 }, other = { 0 };
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd != -1);
	assert_int_equal(write(fd, text, sizeof(text) - 1), (ssize_t)sizeof(text) - 1);
	assert_int_equal(fchmod(fd, 0700), 0);
	assert_int_equal(close(fd), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd != -1);
	assert_true(signal(SIGIO, SIG_IGN) != SIG_ERR);
	assert_int_equal(fcntl(fd, F_SETLEASE, F_WRLCK), 0);
	assert_non_null(child_start(children, argv, clean_env, -1, -1, NULL, 30000, note, &p));
	wait_for(&p);
	assert_true(WIFSIGNALED(p.r.status) && WTERMSIG(p.r.status) == SIGKILL);
	assert_non_null(child_start(children, argv, clean_env, -1, -1, NULL, 30000, note, &forked));
	assert_non_null(child_start(children, works, clean_env, -1, -1, NULL, 30000, note, &other));
	wait_for(&other);
	assert_true(WIFEXITED(other.r.status) && WEXITSTATUS(other.r.status) == 0);
	assert_int_equal(forked.calls, 0);
	assert_int_equal(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
	wait_for(&forked);
	assert_true(WIFEXITED(forked.r.status) && WEXITSTATUS(forked.r.status) == 7);
	close(fd);
	assert_int_equal(unlink(path), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(exit_statuses, setup, teardown),
		cmocka_unit_test_setup_teardown(every_signal, setup, teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_started, setup, teardown),
		cmocka_unit_test_setup_teardown(an_argument_too_long_is_reported, setup, teardown),
		cmocka_unit_test_setup_teardown(path_is_the_given_environments, setup, teardown),
		cmocka_unit_test_setup_teardown(a_child_inherits_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(a_child_leads_its_own_group, setup, teardown),
		cmocka_unit_test_setup_teardown(input_and_extra_descriptor_are_handed_on, setup, teardown),
		cmocka_unit_test_setup_teardown(output_is_drained_and_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(a_background_child_holds_nobody_up, setup, teardown),
		cmocka_unit_test_setup_teardown(a_closed_output_is_no_end, setup, teardown),
		cmocka_unit_test_setup_teardown(deadlines, setup, teardown),
		cmocka_unit_test_setup_teardown(exit_0_after_the_deadline_is_still_too_late, setup, teardown),
		cmocka_unit_test_setup_teardown(the_group_dies_with_its_leader_after_the_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(child_stop_works_like_the_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(a_function_of_ours_runs_in_a_child, setup, teardown),
		cmocka_unit_test_setup_teardown(five_hundred_at_once, setup_many, teardown),
		cmocka_unit_test_setup_teardown(strangers_are_reaped, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_out_of_reach_starts_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_table_starts_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(users, setup, teardown),
		cmocka_unit_test_setup_teardown(another_user, setup, teardown),
		cmocka_unit_test_setup_teardown(a_command_changes_nothing_of_ours, setup, teardown),
		cmocka_unit_test_setup_teardown(an_execution_that_hangs, setup, teardown),
	};

	ourselves = getpid();
	if (atexit(at_exit) != 0)
		return 1;
	return cmocka_run_group_tests_name("child", tests, NULL, NULL);
}
