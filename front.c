/*
 * front.c - a listener's poll loop: new clients, the master's word, start and end.
 *
 * What a client does is in conn.c, with the session; what the agent is asked and answers in front_agent.c, what is counted in
 * front_count.c.
 */
#include "front.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config_address.h"
#include "conn.h"
#include "front_agent.h"
#include "front_count.h"
#include "sandbox.h"

#define ACCEPT_MAX 64		/* clients taken in one turn, so that those inside get theirs */
#define ACCEPT_PAUSE_MS 100	/* out of descriptors or memory */
#define FDS_RESERVE 32		/* descriptors that are not clients' */

/* ---- new clients ---- */

static void
listen_ready(void *arg, short revents)
{
	struct front *f = arg;

	if (revents == 0) {	/* the pause is over */
		loop_events(&f->listen, POLLIN);
		return;
	}
	for (int i = 0; i < ACCEPT_MAX; i++) {
		char address[ENDPOINT_IP_MAX + 1];
		struct sockaddr_storage ss = { 0 };
		socklen_t len = sizeof(ss);
		int fd = accept4(f->args.listen_fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd == -1) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			if (errno == EAGAIN)
				return;
			/* EMFILE, ENFILE, ENOBUFS, ENOMEM and what a network may bring: not now, but not for ever */
			log_warn(0, "accept", LF_ERRNO(errno));
			loop_events(&f->listen, 0);
			loop_deadline(&f->listen, f->loop.now_ms + ACCEPT_PAUSE_MS);
			return;
		}
		(void)endpoint_peer(&ss, address);
		conn_open(f, fd, address);
	}
}

/* ---- the master's word ---- */

static void
drain(struct front *f)
{
	if (f->draining)
		return;
	f->draining = true;
	loop_remove(&f->listen);
	close(f->args.listen_fd);
	f->args.listen_fd = -1;
}

static void
stop(struct front *f)
{
	drain(f);
	if (f->stopping)
		return;
	f->stopping = true;
	f->stop_at = f->loop.now_ms + f->args.config->shutdown_ms;
	for (size_t i = 0; i < f->fresh; i++)
		conn_stop(&f->conns[i]);
}

/* The patience of a shutdown is over. */
static void
stop_all(struct front *f)
{
	for (size_t i = 0; i < f->fresh; i++)
		conn_stop_now(&f->conns[i]);
}

static void
control_ready(void *arg, short revents)
{
	struct front *f = arg;

	(void)revents;
	for (;;) {
		enum control what;
		uint32_t number;
		int fd, n = ipc_recv_control(f->args.control_fd, &what, &number, &fd);

		if (n == -1 && errno == EAGAIN)
			return;
		if (n <= 0) {		/* the master is gone, so nobody would start us again: end in good order */
			loop_remove(&f->control);
			stop(f);
			return;
		}
		if (what == CTL_AGENT && fd != -1)
			front_agent_take(f, fd);
		else if (fd != -1)
			close(fd);
		if (what == CTL_DRAIN)
			drain(f);
		else if (what == CTL_STOP)
			stop(f);
	}
}

/* ---- start ---- */

static int
front_init(struct front *f, const struct front_args *args)
{
	size_t max = args->config->max_connections, fds = sandbox_max_fds();

	*f = (struct front){ .args = *args, .agent_fd = -1, .fds = fds };
	f->owing_end = &f->owing;
	if (fds < 2 * max + FDS_RESERVE) {	/* a client in the middle of a message has two */
		size_t fits = fds > 2 * FDS_RESERVE ? (fds - FDS_RESERVE) / 2 : FDS_RESERVE / 2;

		log_warn(0, "few_descriptors", LF_INT("max_connections", max), LF_INT("possible_with_messages", fits),
		    LF_STR("help", "raise the limit of open files (ulimit -n)"));
		if (fds > FDS_RESERVE && fds - FDS_RESERVE < max)
			max = fds - FDS_RESERVE;
	}
	f->conns = pool_reserve(max * sizeof(*f->conns));
	f->logins = pool_reserve(max * sizeof(*f->logins));
	if (f->conns == NULL || f->logins == NULL || loop_init(&f->loop, max + 3) == -1)
		return -1;
	f->max_conns = max;
	buf_fixed(&f->out, f->out_memory, sizeof(f->out_memory));
	buf_fixed(&f->body, f->body_memory, sizeof(f->body_memory));
	buf_fixed(&f->secret, f->secret_memory, sizeof(f->secret_memory));
	if (pool_init(&f->in_pool, IN_SIZE, max) == -1 || pool_init(&f->out_pool, OUT_SIZE, max) == -1 ||
	    pool_init(&f->secret_pool, SASL_RESPONSE_MAX, max) == -1 ||
	    streams_init(&f->streams, args->certs, args->cache, args->config->tls_min_version, max) == -1)
		return -1;
	f->io = (struct session_io){ .config = args->config, .listener = args->listener, .out = &f->out, .body = &f->body,
	    .secret = &f->secret, .counts = &f->counts, .has_tls = streams_have_tls(&f->streams), .mechanisms = args->mechanisms };
	front_count_init(f);
	if (loop_add(&f->loop, &f->listen, args->listen_fd, POLLIN, listen_ready, f) == -1 ||
	    loop_add(&f->loop, &f->control, args->control_fd, POLLIN, control_ready, f) == -1)
		return -1;
	return 0;
}

static bool
front_is_done(const struct front *f)
{
	return f->draining && f->used == 0;
}

int
front_run(const struct front_args *args)
{
	static struct front front;	/* large, and one a process */
	struct front *f = &front;

	if (front_init(f, args) == -1)
		fatal("front", "cannot start: %s", strerror(errno));
	if (args->sandbox)
		sandbox_front(args->config->user);
	while (!front_is_done(f) && !f->abandoned) {
		if (loop_turn(&f->loop, f->stopping ? f->stop_at - loop_clock_ms() : -1) == -1)
			fatal("front", "poll: %s", strerror(errno));
		metrics_log_lines(args->metrics);
		if (f->stopping && f->loop.now_ms >= f->stop_at)
			stop_all(f);
		/* an agent that is gone too will not hear of those that have left */
		if (f->stopping && f->agent_fd == -1 && f->loop.now_ms >= f->stop_at)
			break;
	}
	loop_clear(&f->loop);
	return f->abandoned ? 1 : 0;
}
