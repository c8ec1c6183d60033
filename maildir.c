/*
 * maildir.c - the Maildir writers, seen from the agent: starting them, handing out jobs, reading answers.
 *
 * fsync(2) blocks, so it has no place in the agent's loop. The writers answer in the order in which they got their jobs.
 */
#include "maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "writer.h"

#define WRITERS 4		/* some write while others wait for the disk; started as they are needed */
#define CHECKER WRITERS		/* one more, so that no RCPT waits for a disk */
#define CHECK_MS 30000
#define RESTART_MS 1000		/* from one start of a writer to the next */
#define FREE_WAIT_MS 2000
#define CACHE_MAX 64		/* folders that were seen to exist */
#define CACHE_MS 2000
#define BATCH_OCTETS 262144	/* that a writer has before another one gets some */
#define BATCH_MS 20		/* a disk that takes longer has more than one at work */

static const char *const step_names[STEP__MAX] = {
	"", "job", "folder", "create", "write", "sync", "rename", "sync folder",
};

struct job {
	struct job	*next;
	struct job_head	 head;
	int		 fd;		/* the message, borrowed; -1: a check */
	const struct mailbox *rcpts;	/* borrowed until done */
	int64_t		 deadline_at, sent_at;
	maildir_done	*done;
	void		*arg;
	const struct tx	*tx;		/* borrowed until done; NULL: a check */
};

struct queue {
	struct job	*head, *last;
	size_t		 n;
	uint64_t	 octets;	/* of their messages */
};

struct writer {
	struct maildir	*m;
	struct loop_slot slot;
	int		 fd;		/* owned; -1: it does not run */
	pid_t		 pid;
	struct queue	 sent;		/* answered in this order */
	bool		 full;		/* its socket takes no more */
	bool		 killed;	/* and not yet gone */
	int64_t		 start_at;	/* not sooner */
};

struct cache_entry {
	struct mailbox	 rcpt;		/* local-part in lower case */
	int64_t		 until_at;
};

struct maildir {
	struct loop	*loop;
	const struct config *config;
	struct child_user user;
	struct writer	 writers[WRITERS + 1];
	struct queue	 deliveries, checks;	/* not yet sent */
	struct loop_slot slot;			/* their deadline */
	uint32_t	 serial;
	struct cache_entry cache[CACHE_MAX];
	char		 datagram[WRITER_JOB_MAX];
};

static void
queue_add(struct queue *q, struct job *j)
{
	j->next = NULL;
	if (q->head == NULL)
		q->head = j;
	else
		q->last->next = j;
	q->last = j;
	q->n++;
	q->octets += j->head.size - j->head.header_at;
}

static struct job *
queue_take(struct queue *q)
{
	struct job *j = q->head;

	if (j != NULL) {
		q->head = j->next;
		q->n--;
		q->octets -= j->head.size - j->head.header_at;
	}
	return j;
}

static int64_t
queue_deadline(const struct queue *q)
{
	return q->head == NULL ? LOOP_NEVER : q->head->deadline_at;
}

static void
job_done(struct job *j, int code, const char *esc, const char *text, const char *detail)
{
	struct verdict v = { 0 };
	maildir_done *done = j->done;
	void *arg = j->arg;

	verdict_set(&v, code, esc, "%s%s", text, j->head.kind == JOB_DELIVER && code == 250 ? j->tx->id : "");
	free(j);
	done(arg, &v, detail);
}

static void
job_failed(struct job *j, const char *detail)
{
	job_done(j, 451, "4.3.0", j->head.kind == JOB_CHECK ? "Temporary lookup failure" : "Temporary delivery failure", detail);
}

static struct cache_entry *
cache_entry(struct maildir *m, const struct mailbox *rcpt, struct mailbox *folded)
{
	uint32_t hash = 2166136261u;	/* FNV-1a */

	*folded = *rcpt;
	for (char *p = folded->local; *p != '\0'; p++) {
		*p = text_lower(*p);
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	}
	for (const char *p = folded->domain; *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	return &m->cache[hash % CACHE_MAX];
}

static bool
cache_has(struct maildir *m, const struct mailbox *rcpt)
{
	struct mailbox folded;
	const struct cache_entry *e = cache_entry(m, rcpt, &folded);

	return m->loop->now_ms < e->until_at && strcmp(e->rcpt.local, folded.local) == 0 &&
	    strcmp(e->rcpt.domain, folded.domain) == 0;
}

static void
cache_add(struct maildir *m, const struct mailbox *rcpt)
{
	struct mailbox folded;
	struct cache_entry *e = cache_entry(m, rcpt, &folded);

	e->rcpt = folded;
	e->until_at = m->loop->now_ms + CACHE_MS;
}

static void
job_answered(struct maildir *m, struct job *j, const struct answer *a)
{
	char detail[128];

	if (a->error == 0) {
		if (j->head.kind == JOB_CHECK) {
			cache_add(m, j->rcpts);
			job_done(j, 250, "2.1.5", "Recipient ok", "folder");
		} else {
			job_done(j, 250, "2.0.0", "Ok: ", "written");
		}
		return;
	}
	(void)snprintf(detail, sizeof(detail), "%s: %s", step_names[a->step], strerror(a->error));
	if (j->head.kind == JOB_CHECK && (a->error == ENOENT || a->error == ENOTDIR))
		job_done(j, 550, "5.1.1", "No such recipient", detail);
	else if (j->head.kind == JOB_DELIVER && a->error == ENOSPC)
		job_done(j, 452, "4.3.1", "Insufficient system storage", detail);
	else if (j->head.kind == JOB_DELIVER && a->error == EDQUOT)
		job_done(j, 452, "4.2.2", "Mailbox full", detail);
	else
		job_failed(j, detail);
}

static void	dispatch(struct maildir *m);
static void	writer_ready(void *arg, short revents);

static int
writer_start(struct maildir *m, struct writer *w)
{
	int sv[2] = { -1, -1 }, error;
	pid_t pid;

	w->start_at = m->loop->now_ms + RESTART_MS;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) == -1)
		return -1;
	if (fcntl(sv[0], F_SETFL, O_NONBLOCK) == -1 || loop_add(m->loop, &w->slot, sv[0], POLLIN, writer_ready, w) == -1)
		goto fail;
	pid = fork();
	if (pid == 0)
		writer_run(m->config, &m->user, sv[1]);
	if (pid == -1) {
		loop_remove(&w->slot);	/* keeps errno */
		goto fail;
	}
	close(sv[1]);
	w->pid = pid;
	w->fd = sv[0];
	w->full = w->killed = false;
	return 0;
fail:
	error = errno;
	close(sv[0]);
	close(sv[1]);
	errno = error;
	return -1;
}

/* It has ended, and its jobs have failed: nobody knows what is on disk. The next job starts another one. */
static void
writer_gone(struct writer *w, const char *why)
{
	struct queue lost = w->sent;
	struct job *j;

	loop_remove(&w->slot);
	close(w->fd);
	w->fd = -1;
	w->sent = (struct queue){ 0 };
	log_error(0, "maildir_writer", LF_STR("result", why), LF_INT("pid", w->pid), LF_INT("jobs", lost.n));
	while ((j = queue_take(&lost)) != NULL)
		job_failed(j, "writer died");
}

/* It breaks the rules, or is too slow. It is replaced when its socket says that it is gone. */
static void
writer_kill(struct writer *w, const char *detail)
{
	struct queue lost = w->sent;
	struct pollfd p = { .fd = w->fd };
	struct job *j;

	w->sent = (struct queue){ 0 };
	/* while its end of the socket is open it lives, and the number is its own */
	if (poll(&p, 1, 0) == 0)
		(void)kill(w->pid, SIGKILL);
	w->killed = true;
	log_error(0, "maildir_writer", LF_STR("result", detail), LF_INT("pid", w->pid), LF_INT("jobs", lost.n));
	while ((j = queue_take(&lost)) != NULL)
		job_failed(j, detail);
}

/* Its answers, hostile as everything from outside: whole ones, no more than were asked for, each about the next job. */
static int
read_answers(struct writer *w)
{
	struct answer answers[WRITER_BATCH_MAX];
	ssize_t n = recv(w->fd, answers, sizeof(answers), MSG_DONTWAIT);
	size_t count;

	if (n == -1)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (n == 0 || w->killed)
		return n == 0 ? -1 : 0;
	count = (size_t)n / sizeof(answers[0]);
	if ((size_t)n % sizeof(answers[0]) != 0 || count > w->sent.n) {
		writer_kill(w, "bad answer");
		return 0;
	}
	for (size_t i = 0; i < count && !w->killed; i++) {
		const struct answer *a = &answers[i];

		if (w->sent.head == NULL || a->number != w->sent.head->head.number || a->step >= STEP__MAX) {
			writer_kill(w, "bad answer");
			return 0;
		}
		job_answered(w->m, queue_take(&w->sent), a);
	}
	return 0;
}

static void
writer_ready(void *arg, short revents)
{
	struct writer *w = arg;
	struct maildir *m = w->m;

	if (revents == 0) {
		if (w->sent.head != NULL)
			writer_kill(w, "timeout");
	} else {
		if ((revents & POLLOUT) != 0) {
			w->full = false;
			loop_events(&w->slot, POLLIN);
		}
		if ((revents & ~POLLOUT) != 0 && read_answers(w) == -1)
			writer_gone(w, "died");
	}
	dispatch(m);
}

static int
pack(char *datagram, const struct job *j, size_t *len)
{
	struct buf b;

	buf_fixed(&b, datagram, WRITER_JOB_MAX);
	buf_add(&b, &j->head, sizeof(j->head));
	for (size_t i = 0; i < j->head.rcpts_n; i++) {
		const struct mailbox *m = &j->rcpts[i];
		size_t local = strlen(m->local), domain = strlen(m->domain);

		buf_add_char(&b, (char)local);	/* both fit an octet: SMTP_LOCAL_MAX, SMTP_DOMAIN_MAX */
		buf_add_char(&b, (char)domain);
		buf_add(&b, m->local, local);
		buf_add(&b, m->domain, domain);
	}
	*len = buf_len(&b);
	return b.failed ? -1 : 0;
}

/* 0, or -1 with errno: EAGAIN when the writer has to read first. */
static int
send_job(struct maildir *m, struct writer *w, const struct job *j)
{
	union {
		struct cmsghdr	align;
		char		data[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = m->datagram };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (pack(m->datagram, j, &iov.iov_len) == -1) {
		errno = EMSGSIZE;
		return -1;
	}
	if (j->fd != -1) {
		struct cmsghdr *c;

		msg.msg_control = control.data;
		msg.msg_controllen = sizeof(control.data);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &j->fd, sizeof(int));
	}
	return sendmsg(w->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == -1 ? -1 : 0;
}

/* Whether it can have one more job without that waiting for long, or for a disk that is slow. */
static bool
has_time(const struct maildir *m, const struct writer *w)
{
	return w->sent.n == 0 || (w->sent.octets < BATCH_OCTETS && m->loop->now_ms - w->sent.head->sent_at < BATCH_MS);
}

/*
 * Whom to give the next job. What can be synced together is: the first that has time, so that one does the work of a thousand small
 * messages. Else who has least to do; a new one rather than one that is at work. NULL: none can take any.
 */
static struct writer *
choose(struct maildir *m, size_t from, size_t to)
{
	struct writer *best = NULL, *absent = NULL;

	for (size_t i = from; i < to; i++) {
		struct writer *w = &m->writers[i];

		if (w->fd == -1) {
			if (absent == NULL && m->loop->now_ms >= w->start_at)
				absent = w;
		} else if (w->killed || w->full || w->sent.n == WRITER_BATCH_MAX) {
			continue;
		} else if (has_time(m, w)) {
			return w;
		} else if (best == NULL || w->sent.n < best->sent.n) {
			best = w;
		}
	}
	if (absent == NULL)
		return best;
	if (writer_start(m, absent) == 0)
		return absent;
	log_error(0, "maildir_writer", LF_STR("step", "start"), LF_ERRNO(errno));
	return best;
}

static bool
none_runs(const struct maildir *m, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		if (m->writers[i].fd != -1)
			return false;
	return true;
}

static void
dispatch_queue(struct maildir *m, struct queue *q, size_t from, size_t to)
{
	while (q->head != NULL) {
		struct writer *w = choose(m, from, to);

		if (q->head->tx != NULL && q->head->tx->abandoned) {
			job_failed(queue_take(q), "client gone before its turn");
			continue;
		}
		if (w == NULL && none_runs(m, from, to)) {
			job_failed(queue_take(q), "no writer");
			continue;
		}
		if (w == NULL)
			return;
		if (send_job(m, w, q->head) == 0) {
			q->head->sent_at = m->loop->now_ms;
			queue_add(&w->sent, queue_take(q));
			loop_deadline(&w->slot, queue_deadline(&w->sent));
		} else if (errno == EAGAIN && w->sent.n > 0) {
			w->full = true;
			loop_events(&w->slot, POLLIN | POLLOUT);
		} else {
			/* EMSGSIZE, ETOOMANYREFS, ENOBUFS, EPIPE: a dead one is noticed by its socket */
			job_failed(queue_take(q), strerror(errno));
		}
	}
}

/* Hand on what waits, and set every deadline anew. */
static void
dispatch(struct maildir *m)
{
	int64_t deliveries, checks;

	dispatch_queue(m, &m->deliveries, 0, WRITERS);
	dispatch_queue(m, &m->checks, CHECKER, CHECKER + 1);
	for (size_t i = 0; i < COUNT(m->writers); i++)
		if (m->writers[i].fd != -1)
			loop_deadline(&m->writers[i].slot, queue_deadline(&m->writers[i].sent));
	deliveries = queue_deadline(&m->deliveries);
	checks = queue_deadline(&m->checks);
	loop_deadline(&m->slot, deliveries < checks ? deliveries : checks);
}

static void
wait_ended(void *arg, short revents)
{
	struct maildir *m = arg;

	(void)revents;
	while (queue_deadline(&m->deliveries) <= m->loop->now_ms)
		job_done(queue_take(&m->deliveries), 451, "4.3.2", "Too busy, try again later", "waited too long");
	while (queue_deadline(&m->checks) <= m->loop->now_ms)
		job_failed(queue_take(&m->checks), "waited too long");
	dispatch(m);
}

struct maildir *
maildir_new(struct loop *l, const struct config *config, const struct child_user *user)
{
	struct maildir *m = calloc(1, sizeof(*m));
	int error;

	if (m == NULL)
		return NULL;
	m->loop = l;
	m->config = config;
	m->user = *user;
	for (size_t i = 0; i < COUNT(m->writers); i++)
		m->writers[i] = (struct writer){ .m = m, .fd = -1 };
	if (loop_add(l, &m->slot, -1, 0, wait_ended, m) == -1)
		goto fail;
	/* the first of each kind now, so that what is wrong shows at once */
	if (writer_start(m, &m->writers[0]) == -1 || (!config->maildir_create && writer_start(m, &m->writers[CHECKER]) == -1))
		goto fail;
	return m;
fail:
	error = errno;
	maildir_free(m);
	errno = error;
	return NULL;
}

void
maildir_free(struct maildir *m)
{
	struct job *j;
	int left;

	if (m == NULL)
		return;
	for (size_t i = 0; i < COUNT(m->writers); i++) {
		struct writer *w = &m->writers[i];

		while ((j = queue_take(&w->sent)) != NULL)
			job_failed(j, "ended");
		if (w->fd == -1)
			continue;
		loop_remove(&w->slot);
		(void)shutdown(w->fd, SHUT_WR);
	}
	for (left = FREE_WAIT_MS; left > 0; left -= 10) {
		bool running = false;

		for (size_t i = 0; i < COUNT(m->writers); i++) {
			struct writer *w = &m->writers[i];

			if (w->fd == -1 || waitpid(w->pid, NULL, WNOHANG) == 0) {
				running = running || w->fd != -1;
				continue;
			}
			close(w->fd);
			w->fd = -1;
		}
		if (!running)
			break;
		(void)poll(NULL, 0, left == FREE_WAIT_MS ? 1 : 10);
	}
	for (size_t i = 0; i < COUNT(m->writers); i++) {
		if (m->writers[i].fd == -1)
			continue;
		(void)kill(m->writers[i].pid, SIGKILL);
		close(m->writers[i].fd);
	}
	while ((j = queue_take(&m->deliveries)) != NULL)
		job_failed(j, "ended");
	while ((j = queue_take(&m->checks)) != NULL)
		job_failed(j, "ended");
	loop_remove(&m->slot);
	free(m);
}

static void
answer_now(maildir_done *done, void *arg, int code, const char *esc, const char *text, const char *detail)
{
	struct verdict v = { 0 };

	verdict_set(&v, code, esc, "%s", text);
	done(arg, &v, detail);
}

void
maildir_check(struct maildir *m, const struct mailbox *rcpt, maildir_done *done, void *arg)
{
	struct job *j;

	if (!writer_is_safe(rcpt)) {
		answer_now(done, arg, 550, "5.1.1", "No such recipient", "not a folder's name");
		return;
	}
	if (m->config->maildir_create || cache_has(m, rcpt)) {
		answer_now(done, arg, 250, "2.1.5", "Recipient ok", "");
		return;
	}
	j = calloc(1, sizeof(*j));
	if (j == NULL) {
		answer_now(done, arg, 451, "4.3.0", "Temporary lookup failure", "out of memory");
		return;
	}
	*j = (struct job){ .head = { .number = ++m->serial, .kind = JOB_CHECK, .rcpts_n = 1 }, .fd = -1, .rcpts = rcpt,
	    .done = done, .arg = arg, .deadline_at = m->loop->now_ms + CHECK_MS };
	queue_add(&m->checks, j);
	dispatch(m);
}

void
maildir_deliver(struct maildir *m, const struct tx *tx, maildir_done *done, void *arg)
{
	struct job *j = calloc(1, sizeof(*j));

	if (j == NULL) {
		answer_now(done, arg, 451, "4.3.0", "Temporary delivery failure", "out of memory");
		return;
	}
	*j = (struct job){ .head = { .number = ++m->serial, .kind = JOB_DELIVER, .rcpts_n = (uint32_t)tx->rcpts_n,
	    .header_at = tx->header_at, .size = tx->size }, .fd = tx->fd, .rcpts = tx->rcpts, .tx = tx, .done = done, .arg = arg,
	    .deadline_at = m->loop->now_ms + m->config->delivery_ms };
	queue_add(&m->deliveries, j);
	dispatch(m);
}

size_t
maildir_pending(const struct maildir *m)
{
	size_t n = m->deliveries.n + m->checks.n;

	for (size_t i = 0; i < COUNT(m->writers); i++)
		n += m->writers[i].sent.n;
	return n;
}
