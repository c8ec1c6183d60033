/*
 * writer.c - one Maildir writer: a process that writes and syncs what comes as datagrams on its socket.
 *
 * It takes every job that waits, writes all files to tmp, syncs them, renames them to new and syncs each folder once (group
 * commit): a journal commit costs the same for one message as for fifty.
 */
#include "writer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sandbox.h"

#define COPY_MAX 65536		/* octets copied at once */
#define PATH_LEN_MAX 1024	/* of a folder */
#define HOSTNAME_LEN_MAX 100

/* ---- a recipient's folder ---- */

bool
writer_is_safe(const struct mailbox *m)
{
	return m->local[0] != '\0' && m->local[0] != '.' && strchr(m->local, '/') == NULL && m->domain[0] != '.' &&
	    strchr(m->domain, '/') == NULL && !text_has(text_span(m->local), C_CNTRL);
}

/* The folder of m: the template's %{user} (lower case) and %{domain} replaced, once. */
static int
folder_path(const char *template, const struct mailbox *m, char *path)
{
	struct buf b;

	buf_fixed(&b, path, PATH_LEN_MAX);
	for (const char *p = template; *p != '\0';) {
		if (strncmp(p, "%{user}", 7) == 0) {
			for (const char *l = m->local; *l != '\0'; l++)
				buf_add_char(&b, text_lower(*l));
			p += 7;
		} else if (strncmp(p, "%{domain}", 9) == 0) {
			buf_add_str(&b, m->domain);
			p += 9;
		} else {
			buf_add_char(&b, *p++);
		}
	}
	if (buf_str(&b) != NULL)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

/* ---- writing ---- */

struct folder {
	char		 path[PATH_LEN_MAX];
	int		 fd, new_fd;		/* owned */
	int		 error;			/* of its sync */
};

struct file {
	size_t		 job, folder;		/* indexes of this batch */
	int		 fd;			/* owned; -1: closed */
	bool		 renamed;
	char		 name[256];		/* "tmp/...", as long as "new/..." */
};

struct work {
	struct mailbox	*rcpts;			/* of the job that is being read */
	size_t		 rcpts_max;
	struct answer	 answers[WRITER_BATCH_MAX];
	size_t		 jobs_n, files_n, folders_n;
	struct file	*files;			/* files_max; pages that are not used cost nothing */
	struct folder	*folders;		/* files_max */
	size_t		 files_max;
	const struct config *config;
	char		 hostname[HOSTNAME_LEN_MAX + 1];
	uint64_t	 count;
	char		 job[WRITER_JOB_MAX];
	char		 copy[COPY_MAX];
};

/* The host's part of a file name, which may hold neither / nor : (the Maildir page says how to write them). */
static void
maildir_hostname(const char *hostname, char *dst)
{
	struct buf b;

	buf_fixed(&b, dst, HOSTNAME_LEN_MAX + 1);
	for (const char *p = hostname; *p != '\0' && buf_room(&b) > 4; p++) {
		if (*p == '/' || *p == ':')
			buf_printf(&b, "\\%03o", (unsigned)*p);
		else
			buf_add_char(&b, *p);
	}
	buf_add_char(&b, '\0');
}

static int
sync_path(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), ret;

	if (fd == -1)
		return -1;
	ret = fsync(fd);
	close(fd);
	return ret;
}

/* A folder and its place in the folder above, both on disk. */
static int
make_one(const char *path)
{
	char above[PATH_LEN_MAX];
	char *slash;

	if (mkdir(path, 0700) == -1)
		return errno == EEXIST ? 0 : -1;
	memcpy(above, path, strlen(path) + 1);	/* fits: a path of ours has no more than PATH_LEN_MAX octets */
	slash = strrchr(above, '/');
	if (slash == NULL)
		return 0;
	slash[slash == above ? 1 : 0] = '\0';
	return sync_path(above);
}

/* Every folder of path that is missing, and path's own three. */
static int
make_folder(const char *path)
{
	static const char *const own[] = { "/tmp", "/new", "/cur" };
	char part[PATH_LEN_MAX];
	size_t len = strlen(path);

	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (make_one(part) == -1)
			return -1;
	}
	if (len > sizeof(part) - 5) {
		errno = ENAMETOOLONG;
		return -1;
	}
	for (size_t i = 0; i < COUNT(own); i++) {
		memcpy(part + len, own[i], 5);
		if (make_one(part) == -1)
			return -1;
	}
	return 0;
}

static int
open_folder(struct folder *f)
{
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->fd == -1)
		return -1;
	f->new_fd = openat(f->fd, "new", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->new_fd == -1 || faccessat(f->fd, "tmp", F_OK, 0) == -1) {
		int error = errno;

		if (f->new_fd != -1)
			close(f->new_fd);
		close(f->fd);
		errno = error;
		return -1;
	}
	return 0;
}

/* The folder of a recipient, opened once a batch, no longer: it may be moved or removed between two. SIZE_MAX with errno. */
static size_t
find_folder(struct work *w, const struct mailbox *rcpt)
{
	struct folder *f = &w->folders[w->folders_n];

	if (!writer_is_safe(rcpt)) {
		errno = EINVAL;
		return SIZE_MAX;
	}
	if (folder_path(w->config->maildir, rcpt, f->path) == -1)
		return SIZE_MAX;
	for (size_t i = 0; i < w->folders_n; i++)
		if (strcmp(w->folders[i].path, f->path) == 0)
			return i;
	f->error = 0;
	if (open_folder(f) == -1 &&
	    (errno != ENOENT || !w->config->maildir_create || make_folder(f->path) == -1 || open_folder(f) == -1))
		return SIZE_MAX;
	return w->folders_n++;
}

static int
write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, p, n);

		if (done == -1 && errno == EINTR)
			continue;
		if (done <= 0) {
			errno = done == 0 ? ENOSPC : errno;
			return -1;
		}
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

/*
 * The message after what is in w->copy already (prefix octets). With a buffer: a memory file's pages would have to be copied by
 * sendfile(2) too, and a read and a write of 64 KiB are quicker.
 */
static int
copy_message(struct work *w, int from, int to, uint64_t at, uint64_t size, size_t prefix)
{
	size_t have = prefix;

	do {
		size_t want = sizeof(w->copy) - have;
		ssize_t n;

		if (want > size - at)
			want = (size_t)(size - at);
		n = pread(from, w->copy + have, want, (off_t)at);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 || (n == 0 && want > 0)) {	/* the file is shorter than it was */
			errno = n == 0 ? EIO : errno;
			return -1;
		}
		if (write_all(to, w->copy, have + (size_t)n) == -1)
			return -1;
		at += (uint64_t)n;
		have = 0;
	} while (at < size);
	return 0;
}

static void
fail(struct answer *a, enum step step)
{
	if (a->error == 0) {
		a->error = errno == 0 ? EIO : errno;
		a->step = step;
	}
}

/* One recipient's file in tmp, not yet synced. */
static void
write_file(struct work *w, const struct job_head *h, size_t rcpt, int from)
{
	struct answer *a = &w->answers[w->jobs_n];
	struct file *f = &w->files[w->files_n];
	struct timespec now;
	struct buf prefix;
	uint64_t size;

	buf_fixed(&prefix, w->copy, sizeof(w->copy));
	if (h->rcpts_n > 1)
		message_delivered_to(&w->rcpts[rcpt], &prefix);
	size = buf_len(&prefix) + (h->size - h->header_at);
	*f = (struct file){ .job = w->jobs_n, .fd = -1 };
	f->folder = find_folder(w, &w->rcpts[rcpt]);
	if (f->folder == SIZE_MAX) {
		fail(a, STEP_FOLDER);
		return;
	}
	/* cannot fail: the clock exists */
	(void)clock_gettime(CLOCK_REALTIME, &now);
	/* fits: 4 + 20 + 2 + 6 + 1 + 10 + 1 + 20 + 1 + 100 + 3 + 20 */
	(void)snprintf(f->name, sizeof(f->name), "tmp/%lld.M%06ldP%dQ%llu.%s,S=%llu", (long long)now.tv_sec,
	    now.tv_nsec / 1000, (int)getpid(), (unsigned long long)w->count++, w->hostname, (unsigned long long)size);
	f->fd = openat(w->folders[f->folder].fd, f->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (f->fd == -1) {
		fail(a, STEP_CREATE);
		return;
	}
	w->files_n++;
	if (copy_message(w, from, f->fd, h->header_at, h->size, buf_len(&prefix)) == -1)
		fail(a, STEP_WRITE);
}

/* The recipients of a job into w->rcpts; -1, EBADMSG. */
static int
read_job(struct work *w, size_t len, struct job_head *h)
{
	struct span rest = { w->job, len };

	if (len >= sizeof(*h)) {
		memcpy(h, w->job, sizeof(*h));
		rest = text_sub(rest, sizeof(*h), len);
		if (h->rcpts_n == 0 || h->rcpts_n > w->rcpts_max || h->header_at > h->size)
			goto bad;
		for (size_t i = 0; i < h->rcpts_n; i++) {
			struct mailbox *m = &w->rcpts[i];
			size_t local, domain;

			if (rest.len < 2)
				goto bad;
			local = (unsigned char)rest.p[0];
			domain = (unsigned char)rest.p[1];
			rest = text_sub(rest, 2, rest.len);
			if (rest.len < local || rest.len - local < domain ||
			    text_copy(m->local, sizeof(m->local), text_sub(rest, 0, local)) == -1 ||
			    text_copy(m->domain, sizeof(m->domain), text_sub(rest, local, local + domain)) == -1)
				goto bad;
			rest = text_sub(rest, local + domain, rest.len);
		}
		if (rest.len == 0)
			return 0;
	}
bad:
	errno = EBADMSG;
	return -1;
}

/* Write a job's files; from: the message, closed by the caller. */
static void
take_job(struct work *w, const struct job_head *h, int from)
{
	struct answer *a = &w->answers[w->jobs_n];

	*a = (struct answer){ .number = h->number };
	for (size_t i = 0; i < h->rcpts_n && a->error == 0; i++)
		write_file(w, h, i, from);
	w->jobs_n++;
}

/* What a template has before its first expansion: the store, which has to be there for a folder to be missing. */
static bool
store_exists(const char *template)
{
	size_t n = strcspn(template, "%");
	char path[PATH_LEN_MAX];
	struct stat st;

	while (n > 1 && template[n - 1] != '/')
		n--;
	return n < sizeof(path) && n > 0 && text_copy(path, sizeof(path), (struct span){ template, n }) == 0 &&
	    stat(path, &st) == 0;
}

static void
check_job(struct work *w, const struct job_head *h)
{
	struct answer *a = &w->answers[w->jobs_n++];
	struct folder *f = &w->folders[0];
	struct stat st;
	size_t len;

	*a = (struct answer){ .number = h->number };
	if (!writer_is_safe(&w->rcpts[0]) || folder_path(w->config->maildir, &w->rcpts[0], f->path) == -1) {
		errno = ENOENT;
		fail(a, STEP_FOLDER);
		return;
	}
	len = strlen(f->path);
	if (len > sizeof(f->path) - 5) {
		errno = ENOENT;
		fail(a, STEP_FOLDER);
		return;
	}
	memcpy(f->path + len, "/new", 5);
	if (stat(f->path, &st) == 0)
		return;
	if ((errno == ENOENT || errno == ENOTDIR) && !store_exists(w->config->maildir))
		errno = EIO;
	fail(a, STEP_FOLDER);
}

/* The files of jobs that have failed are taken away, wherever they are by now. */
static void
undo(struct work *w)
{
	for (size_t i = 0; i < w->files_n; i++) {
		struct file *f = &w->files[i];

		if (w->answers[f->job].error == 0)
			continue;
		if (f->renamed)
			memcpy(f->name, "new", 3);
		/* what cannot be removed is left to the clean-up of tmp, or is a duplicate when the client comes again */
		(void)unlinkat(w->folders[f->folder].fd, f->name, 0);
	}
}

/* Bring everything in this batch to disk: first the contents, then the names. */
static void
commit(struct work *w)
{
	for (size_t i = 0; i < w->files_n && w->files_n > 1; i++)
		/* all at once; an error shows up in fsync */
		(void)sync_file_range(w->files[i].fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	for (size_t i = 0; i < w->files_n; i++) {
		struct file *f = &w->files[i];

		if (w->answers[f->job].error == 0 && fsync(f->fd) == -1)
			fail(&w->answers[f->job], STEP_SYNC);
		if (close(f->fd) == -1)
			fail(&w->answers[f->job], STEP_SYNC);	/* NFS */
	}
	for (size_t i = 0; i < w->files_n; i++) {
		struct file *f = &w->files[i];
		struct folder *d = &w->folders[f->folder];
		char name[sizeof(f->name)];

		if (w->answers[f->job].error != 0)
			continue;
		memcpy(name, f->name, sizeof(name));
		memcpy(name, "new", 3);
		if (renameat(d->fd, f->name, d->fd, name) == -1)
			fail(&w->answers[f->job], STEP_RENAME);
		else
			f->renamed = true;
	}
	for (size_t i = 0; i < w->folders_n; i++)
		w->folders[i].error = fsync(w->folders[i].new_fd) == -1 ? errno : 0;
	for (size_t i = 0; i < w->files_n; i++) {
		errno = w->folders[w->files[i].folder].error;
		if (errno != 0)
			fail(&w->answers[w->files[i].job], STEP_FOLDER_SYNC);
	}
	undo(w);
	for (size_t i = 0; i < w->folders_n; i++) {
		close(w->folders[i].fd);
		close(w->folders[i].new_fd);
	}
}

/* A batch ends: one datagram answers all its jobs. */
static void
end_batch(struct work *w, int fd)
{
	if (w->jobs_n == 0)
		return;
	commit(w);
	if (send(fd, w->answers, w->jobs_n * sizeof(w->answers[0]), MSG_NOSIGNAL) == -1)
		_exit(1);
	w->jobs_n = w->files_n = w->folders_n = 0;
}

/* A job and its message (-1: none); 0: the agent is gone. */
static ssize_t
receive(int fd, char *data, size_t size, int *message, int flags)
{
	union {
		struct cmsghdr	align;
		char		data[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = data, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.data, .msg_controllen = sizeof(control.data) };
	struct cmsghdr *c;
	ssize_t n;

	*message = -1;
	do
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | flags);
	while (n == -1 && errno == EINTR);
	if (n <= 0)
		return n;
	c = CMSG_FIRSTHDR(&msg);
	if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(message, CMSG_DATA(c), sizeof(int));
	return n;
}

static noreturn void
serve(struct work *w, int fd)
{
	for (;;) {
		struct job_head h = { 0 };
		int message;
		/* with a batch begun, only what is there already */
		ssize_t n = receive(fd, w->job, sizeof(w->job), &message, w->jobs_n == 0 ? 0 : MSG_DONTWAIT);

		if (n == -1 && errno == EAGAIN) {
			end_batch(w, fd);
			continue;
		}
		if (n <= 0 && w->jobs_n > 0)
			end_batch(w, fd);
		if (n <= 0 || read_job(w, (size_t)n, &h) == -1)
			_exit(n == 0 ? 0 : 1);
		/* more folders than files: those of jobs that have failed */
		if (h.rcpts_n > w->files_max - w->files_n || h.rcpts_n > w->files_max - w->folders_n)
			end_batch(w, fd);
		if (h.kind == JOB_CHECK)
			check_job(w, &h);
		else
			take_job(w, &h, message);
		if (message != -1)
			close(message);
		if (w->jobs_n == WRITER_BATCH_MAX)
			end_batch(w, fd);
	}
}

noreturn void
writer_run(const struct config *config, const struct child_user *user, int socket)
{
	static const int ignored[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGXFSZ };
	struct sigaction sa = { .sa_handler = SIG_IGN };
	struct work *w;
	sigset_t none;
	int fd = 3;

	/* a signal to the whole group must not end it with a message half written: the end of the socket does, and KILL */
	for (size_t i = 0; i < COUNT(ignored); i++)
		(void)sigaction(ignored[i], &sa, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (socket != fd && dup2(socket, fd) == -1)
		_exit(1);
	sandbox_close_fds(fd + 1, -1);
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) == -1 || chdir("/") == -1)
		_exit(1);
	if (user->change && user->uid != geteuid() && sandbox_become(user->uid, user->gid) == -1) {
		log_error(0, "maildir_writer", LF_STR("step", "become user"), LF_ERRNO(errno));
		_exit(1);
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		_exit(1);
	(void)umask(077);
	w = calloc(1, sizeof(*w));
	if (w == NULL)
		_exit(1);
	w->config = config;
	w->rcpts_max = config->max_recipients;
	w->files_max = w->rcpts_max > WRITER_BATCH_MAX ? w->rcpts_max : WRITER_BATCH_MAX;
	w->rcpts = calloc(w->rcpts_max, sizeof(*w->rcpts));
	w->files = calloc(w->files_max, sizeof(*w->files));
	/* one more: a path is put there before it is known to be new */
	w->folders = calloc(w->files_max + 1, sizeof(*w->folders));
	if (w->rcpts == NULL || w->files == NULL || w->folders == NULL)
		_exit(1);
	maildir_hostname(config->hostname, w->hostname);
	serve(w, fd);
}
