/*
 * child.c - the one place that forks and executes.
 *
 * SIGCHLD arrives through a signalfd. The reason why a child could not be executed comes back through a pipe that execve(2)
 * closes, and is read when the child has ended. What a command leaves behind is not waited for (case 12.4): its exit is the end.
 *
 * A command starts as with vfork(2): in our memory, on a stack of its own, while we wait for its execve(2). Copying the page tables
 * costs four times as much as all the rest (0.5 ms, not 0.1). So what runs there changes nothing of ours but its struct start and errno.
 * Unlike vfork(2) we do not wait for ever, since a file system may hang, and who runs as the command's user may stop it: then it is
 * killed, and for a while the others are forked.
 */
#include "child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox.h"

#ifndef KILL_AFTER_MS
#define KILL_AFTER_MS 5000	/* from TERM to KILL, and from KILL to giving up on a process that the kernel holds */
#endif
#define FREE_WAIT_MS 1000	/* children_free(): from TERM to KILL */
#define DRAIN_READS 16		/* of DRAIN_SIZE a turn: a flood of output is no reason to forget the other slots */
#define DRAIN_SIZE 16384
#define FD_HIGH 10		/* above what a child gets, 0 to 3 */
#define PWD_MAX 16384
#define EXECUTE_MS 500		/* that we wait for an execve(2) */
#define FORK_MS 60000		/* that children are forked, after one for which we waited in vain */
#define STACK_SIZE 32768	/* execute() has the most, 4 KiB and snprintf() */

enum stage { STAGE_RUNNING, STAGE_TERMINATED, STAGE_KILLED };

struct child {
	struct children	*children;
	pid_t		 pid;			/* and process group; 0: the place is free */
	struct loop_slot slot;			/* its output and its deadline */
	int		 out_fd, status_fd;	/* owned; -1: closed */
	enum stage	 stage;
	child_done	*done;
	void		*arg;
	size_t		 output_len;
	char		 output[CHILD_OUTPUT_MAX];
};

struct children {
	struct loop	*loop;			/* borrowed until children_free() */
	struct loop_slot slot;
	int		 signal_fd;		/* owned */
	size_t		 running, max;
	bool		 ended;
	int64_t		 fork_until_at;		/* children are forked */
	_Alignas(16) char stack[STACK_SIZE];	/* of one that is about to execute */
	struct child	 table[];
};

/* ---- in the child ---- */

struct start {
	child_fn	*fn;			/* NULL: execute argv */
	const void	*fn_arg;
	char *const	*argv;
	char *const	*env;
	int		 in_fd, out_fd, extra_fd, status_fd;
	const struct child_user *user;		/* NULL: as we are */
};

/* First out of the way, then into place: the numbers may overlap. *status_fd moves too. */
static int
arrange_fds(struct start *s)
{
	int in = s->in_fd == -1 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : s->in_fd;
	int out = fcntl(s->out_fd, F_DUPFD_CLOEXEC, FD_HIGH);
	int status = fcntl(s->status_fd, F_DUPFD_CLOEXEC, FD_HIGH);
	int extra = s->extra_fd == -1 ? -1 : fcntl(s->extra_fd, F_DUPFD_CLOEXEC, FD_HIGH);

	if (status == -1)
		return -1;
	s->status_fd = status;
	if (in == -1 || (in = fcntl(in, F_DUPFD_CLOEXEC, FD_HIGH)) == -1 || out == -1 || (extra == -1 && s->extra_fd != -1))
		return -1;
	if (dup2(in, 0) == -1 || dup2(out, 1) == -1 || dup2(out, 2) == -1 || (extra != -1 && dup2(extra, 3) == -1))
		return -1;
	/* all of it is close-on-exec already; this is for what a library has opened */
	sandbox_close_fds(extra == -1 ? 3 : 4, status);
	return 0;
}

static void
default_signals(void)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };
	sigset_t none;

	/* those that cannot be set (KILL, STOP, the C library's own) have their default already */
	for (int n = 1; n < NSIG; n++)
		(void)sigaction(n, &sa, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* execve(2) on argv[0], looked up in env's PATH when it has no slash. Returns when that failed; never runs a shell. */
static void
execute(char *const *argv, char *const *env)
{
	struct span rest = { 0 }, dir;
	char file[4096];
	int error = ENOENT;

	if (strchr(argv[0], '/') != NULL) {
		(void)execve(argv[0], argv, env);
		return;
	}
	for (size_t i = 0; env[i] != NULL; i++)
		if (strncmp(env[i], "PATH=", 5) == 0)
			rest = text_span(env[i] + 5);
	while (text_token(&rest, ":", &dir)) {
		int n = snprintf(file, sizeof(file), "%.*s/%s", (int)dir.len, dir.p, argv[0]);

		if (n < 0 || (size_t)n >= sizeof(file) || dir.len == 0)
			continue;
		(void)execve(file, argv, env);
		if (errno != ENOENT && errno != ENOTDIR)
			error = errno;
		if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
			break;
	}
	errno = error;
}

/* Returns what the child exits with. */
static int
run(void *arg)
{
	struct start *s = arg;
	int error;

	/* setsid() makes the process group, and leaves the terminal */
	if (setsid() != -1 && arrange_fds(s) == 0 && chdir("/") == 0 &&
	    (s->user == NULL || !s->user->change || sandbox_become(s->user->uid, s->user->gid) == 0)) {
		(void)umask(077);
		default_signals();
		if (s->fn != NULL)
			return s->fn(s->fn_arg);
		execute(s->argv, s->env);
	}
	error = errno;
	/* it is lost only when the server is gone */
	return write(s->status_fd, &error, sizeof(error)) == -1 ? 126 : 127;
}

/* Keeps errno. */
static void
close_pair(int a, int b)
{
	int error = errno;

	close(a);
	close(b);
	errno = error;
}

/*
 * Until a child in our memory has left it: it has executed, or exited. Its end of the status pipe is closed then, by the kernel, which does
 * not come back to it. errno is not looked at: the child writes to it, too.
 */
static void
wait_for_execution(struct children *t, pid_t pid, int status_fd)
{
	struct pollfd p = { .fd = status_fd };		/* no event but the end */
	int64_t until_at = loop_clock_ms() + EXECUTE_MS, left_ms = EXECUTE_MS;

	for (; left_ms > 0; left_ms = until_at - loop_clock_ms())
		if (poll(&p, 1, (int)left_ms) > 0)
			return;
	(void)kill(pid, SIGKILL);	/* it runs no code of ours any more, whenever it ends */
	t->fork_until_at = loop_clock_ms() + FORK_MS;
}

/* The child's process id, or -1 with errno; the child's ends of the pipes are closed. status_fd: ours. */
static pid_t
launch(struct children *t, struct start *s, int status_fd)
{
	int dumpable = prctl(PR_GET_DUMPABLE), error;
	int its_out_fd = s->out_fd, its_status_fd = s->status_fd;	/* a child in our memory moves them */
	sigset_t all, before;
	pid_t pid;

	if (s->fn != NULL || loop_clock_ms() < t->fork_until_at) {
		pid = fork();
		if (pid == 0)
			_exit(run(s));
		close_pair(its_out_fd, its_status_fd);
		return pid;
	}
	/* a handler of ours would run there, too */
	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	pid = clone(run, t->stack + sizeof(t->stack), CLONE_VM | SIGCHLD, s);
	error = errno;		/* of clone(2), where it failed; else of nobody */
	close_pair(its_out_fd, its_status_fd);
	if (pid != -1)
		wait_for_execution(t, pid, status_fd);
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	/* another user in our memory has set it to the system's default */
	if (prctl(PR_GET_DUMPABLE) != dumpable)
		(void)prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0);
	errno = error;
	return pid;
}

/* ---- one child ---- */

static void
drain(struct child *c)
{
	char data[DRAIN_SIZE];

	for (int i = 0; i < DRAIN_READS && c->out_fd != -1; i++) {
		ssize_t n = read(c->out_fd, data, sizeof(data));

		if (n > 0) {
			size_t room = CHILD_OUTPUT_MAX - c->output_len, keep = (size_t)n < room ? (size_t)n : room;

			memcpy(c->output + c->output_len, data, keep);
			c->output_len += keep;
		} else if (n == -1 && (errno == EAGAIN || errno == EINTR)) {
			return;
		} else {
			int64_t deadline_at = c->slot.deadline_at;

			/* it may go on without an output (case 12.5) */
			loop_remove(&c->slot);
			close(c->out_fd);
			c->out_fd = -1;
			/* cannot fail: its place has just become free */
			(void)loop_add(c->children->loop, &c->slot, -1, 0, c->slot.fn, c);
			loop_deadline(&c->slot, deadline_at);
		}
	}
}

static void
signal_group(const struct child *c, int sig)
{
	assert(c->pid > 1);	/* 0, -1 and -(-1) are groups of others, or everybody */
	/* no such group: setsid() has not been reached */
	if (kill(-c->pid, sig) == -1)
		(void)kill(c->pid, sig);
}

/* Free its place and report; status as waitpid(2) has it. */
static void
finish(struct child *c, int status)
{
	struct children *t = c->children;
	struct child_result r = { .status = status, .timed_out = c->stage != STAGE_RUNNING };
	char output[CHILD_OUTPUT_MAX];
	child_done *done = c->done;
	void *arg = c->arg;
	int error;

	drain(c);
	if (read(c->status_fd, &error, sizeof(error)) == (ssize_t)sizeof(error)) {
		r.status = -1;
		r.error = error;
	}
	memcpy(output, c->output, c->output_len);	/* done() may start another child in this place */
	r.output = (struct span){ output, c->output_len };
	loop_remove(&c->slot);
	if (c->out_fd != -1)
		close(c->out_fd);
	close(c->status_fd);
	c->pid = 0;
	t->running--;
	done(arg, &r);
}

static void
next_stage(struct child *c)
{
	switch (c->stage) {
	case STAGE_RUNNING:
		c->stage = STAGE_TERMINATED;
		signal_group(c, SIGTERM);
		signal_group(c, SIGCONT);	/* a stopped one has to wake up for TERM (case 12.8) */
		break;
	case STAGE_TERMINATED:
		c->stage = STAGE_KILLED;
		signal_group(c, SIGKILL);
		break;
	case STAGE_KILLED:
		/* the kernel does not let it go; it will be reaped as a stranger */
		finish(c, SIGKILL);
		return;
	}
	loop_deadline(&c->slot, c->children->loop->now_ms + KILL_AFTER_MS);
}

static void
child_ready(void *arg, short revents)
{
	struct child *c = arg;

	if (revents == 0)
		next_stage(c);
	else
		drain(c);
}

/* ---- the table ---- */

/* Also of children that nobody here has started: as process 1 of a container we inherit orphans. */
static void
reap(struct children *t)
{
	for (;;) {
		siginfo_t si = { 0 };
		struct child *c = NULL;
		int status = 0;

		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == -1 || si.si_pid == 0)
			return;
		for (size_t i = 0; i < t->max && c == NULL; i++)
			if (t->table[i].pid == si.si_pid)
				c = &t->table[i];
		/* while it is a zombie, its number still names this group and no other */
		if (c != NULL && c->stage != STAGE_RUNNING)
			(void)kill(-si.si_pid, SIGKILL);
		if (waitpid(si.si_pid, &status, 0) == -1)
			return;
		if (c != NULL)
			finish(c, status);
	}
}

static void
signal_ready(void *arg, short revents)
{
	struct children *t = arg;
	struct signalfd_siginfo info[8];

	(void)revents;
	/* several exits are one signal: what it says is of no use */
	while (read(t->signal_fd, info, sizeof(info)) > 0)
		continue;
	reap(t);
}

struct children *
children_new(struct loop *l, size_t max)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };	/* ignored, children would vanish without a status */
	struct children *t = calloc(1, sizeof(*t) + max * sizeof(t->table[0]));
	sigset_t set;

	if (t == NULL)
		return NULL;
	t->loop = l;
	t->max = max;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	t->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (t->signal_fd == -1 || sigaction(SIGCHLD, &sa, NULL) == -1 || sigprocmask(SIG_BLOCK, &set, NULL) == -1 ||
	    loop_add(l, &t->slot, t->signal_fd, POLLIN, signal_ready, t) == -1) {
		int error = errno;

		if (t->signal_fd != -1)
			close(t->signal_fd);
		free(t);
		errno = error;
		return NULL;
	}
	return t;
}

void
children_end(struct children *t)
{
	t->ended = true;
	for (size_t i = 0; i < t->max; i++) {
		struct child *c = &t->table[i];

		if (c->pid != 0 && c->stage == STAGE_RUNNING)
			next_stage(c);
	}
	for (int ms = 0; ms < 2 * FREE_WAIT_MS && t->running > 0; ms += 10) {
		reap(t);
		if (t->running > 0)
			(void)poll(NULL, 0, 10);
		for (size_t i = 0; i < t->max && ms == FREE_WAIT_MS; i++)
			if (t->table[i].pid != 0)
				signal_group(&t->table[i], SIGKILL);
	}
	for (size_t i = 0; i < t->max; i++)
		if (t->table[i].pid != 0)
			finish(&t->table[i], SIGKILL);
	reap(t);
}

void
children_free(struct children *t)
{
	sigset_t set;

	if (t == NULL)
		return;
	children_end(t);
	loop_remove(&t->slot);
	close(t->signal_fd);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	free(t);
}

size_t
children_running(const struct children *t)
{
	return t->running;
}

static struct child *
start(struct children *t, struct start *s, int64_t deadline_ms, child_done *done, void *arg)
{
	struct child *c = NULL;
	int out[2] = { -1, -1 }, status[2] = { -1, -1 }, error;
	pid_t pid;

	for (size_t i = 0; i < t->max && c == NULL && !t->ended; i++)
		if (t->table[i].pid == 0)
			c = &t->table[i];
	if (c == NULL) {
		errno = t->ended ? ECANCELED : EAGAIN;
		return NULL;
	}
	if (pipe2(out, O_CLOEXEC) == -1 || pipe2(status, O_CLOEXEC) == -1 ||
	    fcntl(out[0], F_SETFL, O_NONBLOCK) == -1 || fcntl(status[0], F_SETFL, O_NONBLOCK) == -1)
		goto fail;
	memset(&c->slot, 0, sizeof(c->slot));
	if (loop_add(t->loop, &c->slot, out[0], POLLIN, child_ready, c) == -1)
		goto fail;
	s->out_fd = out[1];
	s->status_fd = status[1];
	pid = launch(t, s, status[0]);
	out[1] = status[1] = -1;
	if (pid == -1) {
		loop_remove(&c->slot);	/* keeps errno */
		goto fail;
	}
	c->pid = pid;
	c->children = t;
	c->out_fd = out[0];
	c->status_fd = status[0];
	c->stage = STAGE_RUNNING;
	c->done = done;
	c->arg = arg;
	c->output_len = 0;
	t->running++;
	loop_deadline(&c->slot, loop_clock_ms() + deadline_ms);
	return c;
fail:
	error = errno;
	for (int i = 0; i < 2; i++) {
		if (out[i] != -1)
			close(out[i]);
		if (status[i] != -1)
			close(status[i]);
	}
	errno = error;
	return NULL;
}

struct child *
child_start(struct children *t, char *const *argv, char *const *env, int in_fd, int extra_fd, const struct child_user *user,
    int64_t deadline_ms, child_done *done, void *arg)
{
	struct start s = { .argv = argv, .env = env, .in_fd = in_fd, .extra_fd = extra_fd, .user = user };

	return start(t, &s, deadline_ms, done, arg);
}

struct child *
child_call(struct children *t, child_fn *fn, const void *fn_arg, int64_t deadline_ms, child_done *done, void *arg)
{
	struct start s = { .fn = fn, .fn_arg = fn_arg, .in_fd = -1, .extra_fd = -1 };

	return start(t, &s, deadline_ms, done, arg);
}

void
child_stop(struct child *c)
{
	if (c->pid != 0 && c->stage == STAGE_RUNNING)
		next_stage(c);
}

/* "1000" or "1000:1000", for an image that has no user database. */
static int
find_number(struct span name, struct child_user *u)
{
	struct span uid, gid;
	uint64_t n;

	if (!text_token(&name, ":", &uid) || text_u64(uid, UINT32_MAX - 1, &n) == -1) {
		errno = ENOENT;
		return -1;
	}
	u->uid = (uid_t)n;
	gid = name.len == 0 ? uid : name;
	if (text_u64(gid, UINT32_MAX - 1, &n) == -1) {
		errno = ENOENT;
		return -1;
	}
	u->gid = (gid_t)n;
	u->change = true;
	return 0;
}

int
child_user_find(const char *name, struct child_user *u)
{
	struct passwd pw, *found = NULL;
	char data[PWD_MAX];
	int error;

	*u = (struct child_user){ 0 };
	if (name == NULL || name[0] == '\0')
		return 0;
	error = getpwnam_r(name, &pw, data, sizeof(data), &found);
	if (found == NULL && (error == 0 || error == ENOENT))
		return find_number(text_span(name), u);
	if (found == NULL) {
		errno = error;
		return -1;
	}
	*u = (struct child_user){ .change = true, .uid = pw.pw_uid, .gid = pw.pw_gid };
	return 0;
}
