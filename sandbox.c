/*
 * sandbox.c - privileges: who a process runs as, what it sees and which system calls it may make.
 *
 * The order is the same everywhere: open, chroot, groups, gid, uid, no_new_privs, limits, seccomp.
 */
#include "sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "log.h"

#define FD_SCAN_MAX 4096	/* kernels before 5.9, where descriptors are closed one by one */

size_t
sandbox_max_fds(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == -1)
		return 1024;
	r.rlim_cur = r.rlim_max;
	/* what cannot be raised stays as it is */
	(void)setrlimit(RLIMIT_NOFILE, &r);
	if (getrlimit(RLIMIT_NOFILE, &r) == -1 || r.rlim_cur == RLIM_INFINITY)
		return 1024;
	return (size_t)r.rlim_cur;
}

void
sandbox_close_fds(int from, int keep)
{
	struct rlimit r;
	int max = FD_SCAN_MAX;

#ifdef SYS_close_range
	if (keep < from) {
		if (syscall(SYS_close_range, (unsigned)from, ~0u, 0) == 0)
			return;
	} else if ((keep == from || syscall(SYS_close_range, (unsigned)from, (unsigned)keep - 1, 0) == 0) &&
	    syscall(SYS_close_range, (unsigned)keep + 1, ~0u, 0) == 0) {
		return;
	}
#endif
	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < FD_SCAN_MAX)
		max = (int)r.rlim_cur;
	for (int fd = from; fd < max; fd++)
		if (fd != keep)
			close(fd);
}

/* ---- seccomp ---- */

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__arm__)
#define ARCH AUDIT_ARCH_ARM
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH AUDIT_ARCH_RISCV64
#elif defined(__mips__) && defined(__MIPSEL__)
#define ARCH AUDIT_ARCH_MIPSEL
#elif defined(__mips__)
#define ARCH AUDIT_ARCH_MIPS
#elif defined(__i386__)
#define ARCH AUDIT_ARCH_I386
#endif

#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* What a front does: move octets over descriptors that it has, wait, tell the time, get memory, end. */
static const struct sock_filter filter[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	ALLOW(__NR_read), ALLOW(__NR_write), ALLOW(__NR_writev), ALLOW(__NR_pwrite64), ALLOW(__NR_close),
#ifdef __NR_poll
	ALLOW(__NR_poll),
#endif
	ALLOW(__NR_ppoll), ALLOW(__NR_epoll_ctl), ALLOW(__NR_epoll_pwait),
#ifdef __NR_epoll_wait
	ALLOW(__NR_epoll_wait),
#endif
#ifdef __NR_ppoll_time64
	ALLOW(__NR_ppoll_time64),
#endif
	ALLOW(__NR_recvfrom), ALLOW(__NR_sendto), ALLOW(__NR_recvmsg), ALLOW(__NR_sendmsg), ALLOW(__NR_accept4),
#ifdef __NR_send
	ALLOW(__NR_send), ALLOW(__NR_recv),
#endif
	ALLOW(__NR_shutdown), ALLOW(__NR_clock_gettime),
#ifdef __NR_clock_gettime64
	ALLOW(__NR_clock_gettime64),
#endif
	ALLOW(__NR_gettimeofday), ALLOW(__NR_getrandom), ALLOW(__NR_getpid), ALLOW(__NR_futex), ALLOW(__NR_madvise),
	ALLOW(__NR_munmap), ALLOW(__NR_brk),
	ALLOW(__NR_mmap), ALLOW(__NR_mremap), ALLOW(__NR_rt_sigprocmask), ALLOW(__NR_rt_sigreturn), ALLOW(__NR_restart_syscall),
#ifdef __NR_mmap2
	ALLOW(__NR_mmap2),
#endif
	ALLOW(__NR_exit), ALLOW(__NR_exit_group),
	/* raise(3), for abort(3): a core of nothing, but a status that says what happened */
	ALLOW(__NR_gettid), ALLOW(__NR_tkill), ALLOW(__NR_tgkill),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};

int
sandbox_filter(void)
{
	struct sock_fprog prog = { .len = (unsigned short)(sizeof(filter) / sizeof(filter[0])),
	    .filter = (struct sock_filter *)(uintptr_t)filter };

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0);
}

/* ---- users ---- */

static int
capabilities(uint32_t keep)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { .effective = keep, .permitted = keep } };

	return (int)syscall(SYS_capset, &h, d);
}

int
sandbox_become(uid_t uid, gid_t gid)
{
	if (setgroups(0, NULL) == -1 || setresgid(gid, gid, gid) == -1 || setresuid(uid, uid, uid) == -1)
		return -1;
	return capabilities(0);
}

static void
find_user(const char *user, struct child_user *u)
{
	if (child_user_find(user, u) == -1 || !u->change)
		fatal("user", "no such user: %s; name one with [smtpd] user, or make it", user);
	if (u->uid == 0)
		fatal("user", "[smtpd] user is root; name an ordinary user");
}

/* An empty folder to be locked in: one that is gone as soon as we are inside. */
static void
lock_in(void)
{
	static const char *const parents[] = { "/run", "/tmp", "/var/tmp", "/" };
	char path[64];

	for (size_t i = 0; i < sizeof(parents) / sizeof(parents[0]); i++) {
		int n = snprintf(path, sizeof(path), "%s/smtpd.XXXXXX", parents[i]);

		if (n < 0 || (size_t)n >= sizeof(path) || mkdtemp(path) == NULL)
			continue;
		if (chdir(path) == -1 || rmdir(path) == -1 || chroot(".") == -1 || chdir("/") == -1)
			fatal("sandbox", "chroot %s: %s", path, strerror(errno));
		return;
	}
	/* a read-only file system: a folder in which there is nothing but our own descriptors' numbers */
	if (chroot("/proc/self/fdinfo") == -1 || chdir("/") == -1)
		fatal("sandbox", "chroot: %s", strerror(errno));
}

void
sandbox_front(const char *user)
{
	struct rlimit none = { 0, 0 };

	if (geteuid() == 0) {
		struct child_user u;

		find_user(user, &u);
		lock_in();
		if (sandbox_become(u.uid, u.gid) == -1)
			fatal("sandbox", "become %s: %s", user, strerror(errno));
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		fatal("sandbox", "prctl: %s", strerror(errno));
	if (setrlimit(RLIMIT_CORE, &none) == -1)
		fatal("sandbox", "setrlimit: %s", strerror(errno));
#ifdef SANDBOX_NO_SECCOMP	/* a sanitizer's runtime makes calls of its own, and looks at us from a thread of its own */
	log_debug(0, "no_seccomp");
#else
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1 || setrlimit(RLIMIT_NPROC, &none) == -1)
		fatal("sandbox", "%s", strerror(errno));
	if (sandbox_filter() == -1) {
		if (errno != EINVAL && errno != ENOSYS)
			fatal("sandbox", "seccomp: %s", strerror(errno));
		log_warn(0, "no_seccomp", LF_STR("help", "this kernel has no seccomp filters"));
	}
#endif
}

void
sandbox_agent(const char *user, bool change)
{
	struct rlimit none = { 0, 0 };
	struct child_user u;

	if (setrlimit(RLIMIT_CORE, &none) == -1)
		fatal("sandbox", "setrlimit: %s", strerror(errno));
	if (geteuid() == 0) {
		uint32_t keep = 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_KILL;

		find_user(user, &u);
		if (prctl(PR_SET_KEEPCAPS, change, 0, 0, 0) == -1 || setgroups(0, NULL) == -1 ||
		    setresgid(u.gid, u.gid, u.gid) == -1 || setresuid(u.uid, u.uid, u.uid) == -1 ||
		    capabilities(change ? keep : 0) == -1)
			fatal("sandbox", "become %s: %s", user, strerror(errno));
	}
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		fatal("sandbox", "prctl: %s", strerror(errno));
}
