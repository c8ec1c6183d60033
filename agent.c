/*
 * agent.c - the agent's poll loop: fronts and their datagrams, the master's word, start and end.
 *
 * It takes every datagram of a front as hostile: whatever a front sends, it gains nothing but the mail that it sees. What each request
 * asks for is done in agent_envelope.c (CONNECT, MAIL, RCPT), agent_auth.c and agent_message.c (DATA, MESSAGE).
 */
#include "agent.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent_auth.h"
#include "agent_envelope.h"
#include "agent_message.h"
#include "deliver.h"
#include "filters.h"
#include "hook.h"
#include "names.h"
#include "oauth.h"
#include "pool.h"
#include "sandbox.h"
#include "sender.h"

#define LOOP_OTHERS 256		/* loop slots that are neither fronts nor children: Maildir writers, HTTP calls, timers */
#define REQUESTS_MAX 256	/* of a front in one turn */
#define FETCHES_MAX 16		/* HTTP calls at once, those of checkers aside */

/* Each request; a session that is not the slot's is answered by nothing: its front knows that it has ended. */
static int
take_request(struct front *f, const struct request *q, int fd)
{
	if (q->slot >= f->agent->config->max_connections || q->session == 0)
		return -1;
	if (q->kind != REQ_CONNECT && (fd != -1 || f->clients[q->slot].session != q->session))
		return -1;
	switch (q->kind) {
	case REQ_CONNECT:
		request_connect(f, q, fd);
		break;
	case REQ_AUTH:
		request_auth(f, q);
		break;
	case REQ_MAIL:
		request_mail(f, q);
		break;
	case REQ_RCPT:
		request_rcpt(f, q);
		break;
	case REQ_DATA:
		request_data(f, q);
		break;
	case REQ_MESSAGE:
		request_message(f, q);
		break;
	case REQ_RESET:
		request_reset(f, q);
		break;
	case REQ_CLOSE:
		request_close(f, q);
		break;
	case REQ_NONE:
	case REQ__MAX:
		return -1;
	}
	return 0;
}

/* ---- fronts ---- */

static void
front_unmap(const struct front *f)
{
	size_t max = f->agent->config->max_connections;

	if (f->clients != NULL)
		(void)munmap(f->clients, max * sizeof(*f->clients));
	if (f->users != NULL)
		(void)munmap(f->users, max * sizeof(*f->users));
}

static void
front_gone(struct front *f)
{
	struct agent *a = f->agent;

	for (size_t i = 0; i < a->config->max_connections; i++) {
		work_forget(&f->clients[i]);
		exchange_forget(&f->clients[i]);
	}
	front_unmap(f);
	loop_remove(&f->slot);
	close(f->fd);
	buf_clear(&f->queue);
	*f = (struct front){ .fd = -1 };
	a->fronts_n--;
}

static void
front_ready(void *arg, short revents)
{
	struct front *f = arg;
	char datagram[IPC_MAX];

	if (f->queue.failed) {
		log_error(0, "front_request", LF_STR("listener", f->listener->name), LF_STR("error", "it does not take its answers"));
		front_gone(f);
		return;
	}
	if ((revents & POLLOUT) != 0)
		answer_flush(f);
	for (int i = 0; i < REQUESTS_MAX; i++) {	/* then others have their turn */
		struct request q;
		struct login login;
		bool good;
		int fd;
		long n = ipc_recv(f->fd, datagram, sizeof(datagram), &fd);

		if (n == -1 && errno == EAGAIN)
			return;
		good = n > 0 && ipc_unpack_request(&q, &login, datagram, (size_t)n) == 0 && take_request(f, &q, fd) == 0;
		if (fd != -1)
			close(fd);
		if (n > 0 && datagram[0] == REQ_AUTH)	/* what is forked later has this memory too */
			explicit_bzero(datagram, (size_t)n);
		if (!good) {
			if (n != 0)
				log_error(0, "front_request", LF_STR("listener", f->listener->name), LF_ERRNO(n == -1 ? errno : EBADMSG));
			front_gone(f);
			return;
		}
	}
}

static int
front_add(struct agent *a, uint32_t listener, int fd)
{
	size_t max = a->config->max_connections;
	struct front *f = NULL;

	for (size_t i = 0; i < AGENT_FRONTS_MAX && f == NULL; i++)
		if (a->fronts[i].agent == NULL)
			f = &a->fronts[i];
	if (f == NULL || listener >= a->config->listeners_n)
		return -1;
	*f = (struct front){ .agent = a, .fd = fd, .listener = &a->config->listeners[listener],
		    .listener_slot = metrics_find(a->args.metrics, ML_LISTENER, text_span(a->config->listeners[listener].name)),
	    .clients = pool_reserve(max * sizeof(*f->clients)), .users = pool_reserve(max * sizeof(*f->users)) };
	buf_init(&f->queue, max * 1024);
	if (f->clients == NULL || f->users == NULL || loop_add(&a->loop, &f->slot, fd, POLLIN, front_ready, f) == -1) {
		front_unmap(f);
		*f = (struct front){ .fd = -1 };
		return -1;
	}
	a->fronts_n++;
	return 0;
}

static void
control_ready(void *arg, short revents)
{
	struct agent *a = arg;

	(void)revents;
	for (;;) {
		enum control what;
		uint32_t number;
		int fd, n = ipc_recv_control(a->args.control_fd, &what, &number, &fd);

		if (n == -1 && errno == EAGAIN)
			return;
		if (n <= 0) {	/* the master is gone: the fronts end by themselves, and we after them */
			loop_remove(&a->control);
			a->draining = true;
			return;
		}
		if (what == CTL_DRAIN)
			a->draining = true;
		else if (what == CTL_STOP)
			a->loop.stop = true;
		if (fd != -1 && (what != CTL_FRONT || front_add(a, number, fd) == -1)) {
			log_error(0, "front_add", LF_INT("listener", number), LF_ERRNO(errno));
			close(fd);
		}
	}
}

/* What checks credentials and senders; the order of making is that of their uses. */
static int
agent_init(struct agent *a)
{
	const struct config *c = a->config;
	struct hooks *hooks;
	size_t children = c->max_deliveries + DELIVER_CHECKS_MAX + c->max_auths + HOOKS_MAX + NAMES_CALLS_MAX, calls = FETCHES_MAX;

	for (size_t i = 0; i < c->checkers_n; i++)
		calls += c->checkers[i].max_checks;
	if (loop_init(&a->loop, AGENT_FRONTS_MAX + LOOP_OTHERS + children + filters_slots(c)) == -1 ||
	    loop_add(&a->loop, &a->control, a->args.control_fd, POLLIN, control_ready, a) == -1)
		return -1;
	a->children = children_new(&a->loop, children);
	/* what runs commands looks for their user, which it cannot in the sandbox */
	if (a->children == NULL || (a->deliver = deliver_new(&a->loop, c, a->children, a->args.metrics)) == NULL ||
	    (hooks = hooks_new(&a->loop, c, a->children)) == NULL)
		return -1;
	sandbox_agent(c->user, c->delivery_user[0] != '\0' && strcmp(c->delivery_user, c->user) != 0);
	if ((c->issuers_n > 0 || c->checkers_n > 0 || c->trap_url[0] != '\0') && (a->http = http_new(&a->loop, calls)) == NULL)
		return -1;
	if (c->issuers_n > 0 && (a->oauth = oauth_new(&a->loop, a->http, c)) == NULL)
		return -1;
	a->auth = auth_new(&a->loop, c, a->children, a->oauth, a->args.metrics);
	a->senders = senders_new(c);
	a->filters = filters_new(&a->loop, c, a->http, a->children, hooks, a->args.metrics);
	return a->auth == NULL || a->senders == NULL || a->filters == NULL ? -1 : 0;
}

static void
agent_clear(struct agent *a)
{
	children_end(a->children);
	filters_free(a->filters);
	oauth_free(a->oauth);
	auth_free(a->auth);
	http_free(a->http);
	senders_free(a->senders);
	deliver_free(a->deliver);
	children_free(a->children);
	loop_clear(&a->loop);
}

/* Whether something is at work that a client has yet to hear of. */
static bool
is_busy(const struct agent *a)
{
	return a->fronts_n > 0 || deliver_pending(a->deliver) > 0 || filters_pending(a->filters) > 0;
}

int
agent_run(const struct agent_args *args)
{
	static struct agent agent;	/* large, and one a process */
	struct agent *a = &agent;

	a->args = *args;
	a->config = args->config;
	(void)sandbox_max_fds();
	if (agent_init(a) == -1)
		fatal("agent", "cannot start: %s", strerror(errno));
	/* its own end comes when no front is left that could ask, and what they asked for is done */
	while (!a->loop.stop && (!a->draining || is_busy(a))) {
		if (loop_turn(&a->loop, a->draining ? 1000 : -1) == -1)
			fatal("agent", "poll: %s", strerror(errno));
		metrics_log_lines(args->metrics);
	}
	agent_clear(a);
	return 0;
}
