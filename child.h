/*
 * child.h - the one place that forks and executes: argument vectors, clean environments, deadlines, bounded output.
 *
 * A child runs in its own process group, with default signals, umask 077, working directory "/", descriptors 0 to 2 and nothing
 * of ours; when started as root it has dropped to the given user. It is ended by its exit, or at its deadline by TERM to the
 * group and KILL five seconds later.
 */
#ifndef CHILD_H
#define CHILD_H

#include <sys/types.h>

#include "buf.h"
#include "loop.h"

#define CHILD_OUTPUT_MAX 4096	/* of each child's output (standard output and error together) kept; the rest is drained */

struct child_user {
	bool	 change;	/* false: run as we are */
	uid_t	 uid;
	gid_t	 gid;
};

struct child_result {
	int		 status;	/* as waitpid(2) has it; -1: it could not be started (see error) */
	int		 error;		/* errno of a failed start: fork, pipe, setuid, execve */
	bool		 timed_out;
	struct span	 output;	/* borrowed until the call returns */
};

/* Called exactly once a child, from the loop, never from inside child_start(). */
typedef void child_done(void *arg, const struct child_result *r);

/* A table of running children. */
struct children;

/* max: how many may run at once; the loop is borrowed until children_free(). SIGCHLD belongs to it from now on. */
struct children	*children_new(struct loop *l, size_t max);
/* Kills what still runs (TERM, then KILL) and reaps it, done being called of each; nothing can be started any more (ECANCELED). */
void		 children_end(struct children *c);
/* Ends them and the table. */
void		 children_free(struct children *c);
size_t		 children_running(const struct children *c);

/*
 * Start argv[0] (a path, or looked up in env's PATH) with this argument vector and environment.
 * in_fd	its standard input; -1: /dev/null; borrowed, the child gets its own
 * extra_fd	its descriptor 3, or -1 (the checkpassword interface)
 * deadline_ms	> 0, from now
 * Returns an opaque handle, or NULL with errno when nothing was started; done is then not called. What fails between
 * fork and exec is reported through done with status -1.
 */
struct child	*child_start(struct children *c, char *const *argv, char *const *env, int in_fd, int extra_fd,
	    const struct child_user *user, int64_t deadline_ms, child_done *done, void *arg);
/*
 * The same without exec, for work that would hold the loop up: fn sees our memory as it is now and none of our descriptors, runs
 * as we do, and what it returns (0 to 255) is the exit status. Nothing of ours registered by atexit(3) runs there.
 */
typedef int child_fn(const void *arg);
struct child	*child_call(struct children *c, child_fn *fn, const void *fn_arg, int64_t deadline_ms, child_done *done, void *arg);
/* Stop it as at its deadline; done is still called. */
void		 child_stop(struct child *c);

/* The user named name ("" or NULL: no change) from the system's user database; 0, or -1 with errno (ENOENT: no such user). */
int		 child_user_find(const char *name, struct child_user *u);

#endif
