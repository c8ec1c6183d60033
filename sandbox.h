/*
 * sandbox.h - privileges: who a process runs as, what it sees and which system calls it may make.
 */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Raise the soft limit of open files to the hard one, and return it. */
size_t	sandbox_max_fds(void);
/* Close every descriptor from this one on, but for keep (-1: none). For a child after fork; async-signal-safe. */
void	sandbox_close_fds(int from, int keep);
/*
 * For a front: chroot to an empty folder and become user when started as root; then no new privileges, no core, and a seccomp
 * filter with what a poll loop needs. Each step is fatal when it fails, but for seccomp on a kernel without it, which is logged.
 */
void	sandbox_front(const char *user);
/* For the agent, when started as root: become user, keeping the right to start commands as another user if change is true. */
void	sandbox_agent(const char *user, bool change);
/*
 * Become uid and gid with no other group and no capability; for a child before it executes or serves. 0, or -1 with errno.
 * Async-signal-safe.
 */
int	sandbox_become(uid_t uid, gid_t gid);
/* Only the seccomp filter; 0, or -1 with errno. For tests. */
int	sandbox_filter(void);

#endif
