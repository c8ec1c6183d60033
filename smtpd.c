/*
 * smtpd.c - options, listening sockets, supervision, reload.
 *
 * The master never reads an octet from the network. It starts for each configuration a generation: an agent and the fronts of
 * every listener. A reload starts a new generation on the same listening sockets and lets the old one drain.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "auth.h"
#include "exporter.h"
#include "front.h"
#include "healthcheck.h"
#include "ipc.h"
#include "limits.h"
#include "loop.h"
#include "metrics.h"
#include "procstat.h"
#include "sandbox.h"
#include "session.h"
#include "tls.h"

#ifndef VERSION
#define VERSION "0.1"
#endif

#define CONFIG_FILE "/etc/smtpd/smtpd.conf"
#define ERRORS_MAX (256 * 1024)
#define FLAGS_MAX 64
#define GENERATIONS_MAX 8		/* with those that drain; a reload beyond waits */
#define FRONTS_MAX (CONFIG_LISTENERS_MAX * CONFIG_WORKERS_MAX)
#define PROCESSES_MAX (GENERATIONS_MAX * (FRONTS_MAX + 2))	/* an agent and an exporter */
#define LISTENS_MAX (CONFIG_LISTENERS_MAX + 1)	/* the metrics' address, too */
#define BACKLOG 1024
#define DELAY_MIN_MS 50			/* before what died is started again; doubled up to the maximum */
#define DELAY_MAX_MS 10000
#define STABLE_MS 10000			/* a process that lived so long starts with the smallest delay again */
#define RELOAD_AGAIN_MS 500		/* a reload that cannot start yet tries again */
#define STOP_GRACE_MS 5000		/* beyond the configured patience of a shutdown */
#define CERTS_LOOK_MS 2000		/* how often certificate files are looked at */
#define PROCESSES_LOOK_MS 5000		/* how often the processes' CPU time and memory are counted */
#define TLS_SESSIONS 4096		/* kept of each listener, to be resumed */

struct listen {
	char	*address;	/* owned; NULL: the place is free */
	int	 fd;		/* owned */
};

struct process {
	struct generation *generation;	/* NULL: the place is free */
	pid_t		 pid;		/* 0: not running, and start is its timer */
	enum metrics_process kind;
	uint32_t	 listener;	/* of a front */
	int		 row;		/* of limits, for a front */
	int		 control_fd;	/* owned; -1 */
	int64_t		 started_at, delay_ms;
	struct loop_slot start;
};

struct generation {
	struct config	*config;	/* owned; NULL: the place is free */
	struct tls_certs *certs;	/* owned */
	struct tls_cache *caches[CONFIG_LISTENERS_MAX];	/* owned; NULL: none */
	unsigned	 number;
	bool		 draining;
};

static struct master {
	const char	*config_file;	/* -c; NULL: CONFIG_FILE if it is there, else the environment alone */
	const char	*flags[FLAGS_MAX];
	size_t		 flags_n;
	struct loop	 loop;
	struct loop_slot signals, reload, stop, certs, processes_due;
	int		 signal_fd;
	struct limits	*limits;
	struct metrics	*metrics;
	uint64_t	 cpu_us;	/* counted so far */
	struct auth_key	 key;		/* of tickets; fronts do not have it */
	struct listen	 listens[LISTENS_MAX];
	struct generation generations[GENERATIONS_MAX];
	struct generation *current;
	struct process	 processes[PROCESSES_MAX];
	uint16_t	 serial;	/* of the last front: the upper part of its sessions' numbers */
	unsigned	 generation_serial;
	bool		 stopping;
} master;

/* ---- listening sockets ---- */

/* "host:port" as config.c has checked it: a numeric address, [IPv6], or nothing for both families. */
static int
parse_address(const char *address, struct sockaddr_storage *ss, socklen_t *len, bool *both)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	struct sockaddr_in *in4 = (struct sockaddr_in *)ss;
	const char *colon = strrchr(address, ':');
	char host[INET6_ADDRSTRLEN];
	struct span s;
	uint64_t port;

	memset(ss, 0, sizeof(*ss));
	if (colon == NULL || text_u64(text_span(colon + 1), 65535, &port) == -1)
		return -1;
	s = (struct span){ address, (size_t)(colon - address) };
	*both = s.len == 0;
	if (s.len >= 2 && s.p[0] == '[' && s.p[s.len - 1] == ']')
		s = text_sub(s, 1, s.len - 1);
	if (text_copy(host, sizeof(host), s) == -1)
		return -1;
	if (s.len == 0 || inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		*len = sizeof(*in6);
		return 0;
	}
	in4->sin_family = AF_INET;
	in4->sin_port = htons((uint16_t)port);
	*len = sizeof(*in4);
	return inet_pton(AF_INET, host, &in4->sin_addr) == 1 ? 0 : -1;
}

static int
open_socket(const char *address)
{
	struct sockaddr_storage ss;
	socklen_t len;
	bool both;
	int fd, on = 1, off = 0;

	if (parse_address(address, &ss, &len, &both) == -1) {
		errno = EINVAL;
		return -1;
	}
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1 && both && errno == EAFNOSUPPORT) {	/* a kernel without IPv6 */
		struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = ((struct sockaddr_in6 *)&ss)->sin6_port };

		memcpy(&ss, &in4, sizeof(in4));
		len = sizeof(in4);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	}
	if (fd == -1)
		return -1;
	/* TCP_NODELAY and SO_KEEPALIVE pass to the accepted sockets */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == -1 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1 ||
	    (ss.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, both ? &off : &on, sizeof(on)) == -1) ||
	    bind(fd, (struct sockaddr *)&ss, len) == -1 || listen(fd, BACKLOG) == -1) {
		int e = errno;

		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

/* The address that a socket got, for its log line: with port 0 the kernel chose one. */
static void
log_listening(const char *listener, int fd)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	char host[INET6_ADDRSTRLEN] = "", text[INET6_ADDRSTRLEN + 16];
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&ss;
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)&ss;
	uint16_t port;

	if (getsockname(fd, (struct sockaddr *)&ss, &len) == -1)
		return;
	if (ss.ss_family == AF_INET6)
		(void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
	else
		(void)inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
	/* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): getsockname() has filled in the port */
	port = ntohs(ss.ss_family == AF_INET6 ? in6->sin6_port : in4->sin_port);
	(void)snprintf(text, sizeof(text), ss.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host,
	    (unsigned)port);
	log_info(0, "listening", LF_STR("listener", listener), LF_STR("address", text));
}

/* What c listens on, the metrics' address last; NULL: there are no more. */
static const char *
address_of(const struct config *c, size_t i)
{
	if (i < c->listeners_n)
		return c->listeners[i].address;
	return i == c->listeners_n && c->metrics_enabled ? c->metrics_address : NULL;
}

static const char *
listen_name(const struct config *c, size_t i)
{
	return i < c->listeners_n ? c->listeners[i].name : "metrics";
}

static struct listen *
find_listen(struct listen *table, const char *address)
{
	for (size_t i = 0; i < LISTENS_MAX; i++)
		if (table[i].address != NULL && strcmp(table[i].address, address) == 0)
			return &table[i];
	return NULL;
}

/*
 * The sockets for c in a new table: those that are open already, and new ones. -1: one could not be opened, and nothing has changed.
 */
static int
listens_open(const struct config *c, struct listen *table)
{
	const char *address;

	for (size_t i = 0; (address = address_of(c, i)) != NULL; i++) {
		const struct listen *old = find_listen(master.listens, address);

		table[i].address = strdup(address);
		table[i].fd = old != NULL ? old->fd : open_socket(address);
		if (table[i].fd != -1 && table[i].address != NULL)
			continue;
		log_error(0, "listen", LF_STR("listener", listen_name(c, i)), LF_STR("address", address), LF_ERRNO(errno),
		    LF_STR("help", errno == EADDRINUSE ? "another program has this address" :
		    errno == EACCES ? "ports below 1024 are for root" : "see the listener's address"));
		for (size_t k = 0; k <= i; k++) {
			if (table[k].fd != -1 && (table[k].address == NULL || find_listen(master.listens, table[k].address) == NULL))
				close(table[k].fd);
			free(table[k].address);
		}
		return -1;
	}
	return 0;
}

/* Put the new table in place; sockets that it does not have are closed. */
static void
listens_replace(const struct config *c, struct listen *table)
{
	for (size_t i = 0; i < LISTENS_MAX; i++) {
		struct listen *l = &master.listens[i];

		if (l->address != NULL && find_listen(table, l->address) == NULL)
			close(l->fd);
	}
	for (size_t i = 0; address_of(c, i) != NULL; i++)
		if (find_listen(master.listens, table[i].address) == NULL)
			log_listening(listen_name(c, i), table[i].fd);
	for (size_t i = 0; i < LISTENS_MAX; i++) {
		free(master.listens[i].address);
		master.listens[i] = table[i];
	}
}

static void
listens_close(void)
{
	for (size_t i = 0; i < LISTENS_MAX; i++) {
		if (master.listens[i].address == NULL)
			continue;
		close(master.listens[i].fd);
		free(master.listens[i].address);
		master.listens[i] = (struct listen){ 0 };
	}
}

/* ---- processes ---- */

static struct process *
agent_of(const struct generation *g)
{
	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (master.processes[i].generation == g && master.processes[i].kind == MP_AGENT)
			return &master.processes[i];
	return NULL;
}

/* Its fronts, or all its processes. */
static size_t
generation_processes(const struct generation *g, bool all)
{
	size_t n = 0;

	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (master.processes[i].generation == g && (all || master.processes[i].kind == MP_FRONT))
			n++;
	return n;
}

/* Connect a front and its agent with a fresh pair of sockets. */
static void
introduce(const struct process *front, const struct process *agent)
{
	int sv[2];

	if (front->pid == 0 || agent == NULL || agent->pid == 0)
		return;		/* who is started next does it */
	if (ipc_pair(sv) == -1) {
		log_error(0, "socketpair", LF_ERRNO(errno));
		return;
	}
	if (ipc_send_control(agent->control_fd, CTL_FRONT, front->listener, sv[0]) == -1 ||
	    ipc_send_control(front->control_fd, CTL_AGENT, 0, sv[1]) == -1)
		log_error(0, "introduce", LF_ERRNO(errno));
	close(sv[0]);
	close(sv[1]);
}

/* In a child: end what is the master's, but for the descriptors that it is to have. */
static void
leave_master(int keep_control, int keep_listen)
{
	sigset_t none;

	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (master.processes[i].control_fd > 0 && master.processes[i].control_fd != keep_control)
			close(master.processes[i].control_fd);
	for (size_t i = 0; i < LISTENS_MAX; i++)
		if (master.listens[i].address != NULL && master.listens[i].fd != keep_listen)
			close(master.listens[i].fd);
	close(master.signal_fd);
	loop_clear(&master.loop);
	/* what a terminal or a service manager sends to all of us is the master's matter; its end is seen on the control socket */
	if (signal(SIGINT, SIG_IGN) == SIG_ERR || signal(SIGHUP, SIG_IGN) == SIG_ERR || signal(SIGTERM, SIG_IGN) == SIG_ERR || sigemptyset(&none) == -1 ||
	    sigprocmask(SIG_SETMASK, &none, NULL) == -1)
		fatal("signals", "%s", strerror(errno));
}

/*
 * In a child: end what is not its own of all generations. An agent needs no key; a front has no business with those that an older
 * generation still uses, nor with the sessions of other listeners.
 */
static void
leave_secrets(const struct process *p)
{
	for (size_t n = 0; n < GENERATIONS_MAX; n++) {
		struct generation *g = &master.generations[n];
		bool mine = p->kind == MP_FRONT && g == p->generation;

		for (size_t i = 0; i < CONFIG_LISTENERS_MAX; i++)
			if (!mine || i != p->listener)
				tls_cache_free(g->caches[i]);
		if (!mine)
			tls_certs_free(g->certs);
		if (p->kind != MP_AGENT && g->config != NULL)
			config_forget_secrets(g->config);
	}
	if (p->kind == MP_AGENT)
		return;
	limits_auth_drop(master.limits);
	explicit_bzero(&master.key, sizeof(master.key));
}

static int
child_main(const struct process *p, int control_fd)
{
	struct generation *g = p->generation;
	const struct config *c = g->config;
	const char *address = p->kind == MP_EXPORTER ? c->metrics_address : c->listeners[p->listener].address;
	const struct listen *l = p->kind == MP_AGENT ? NULL : find_listen(master.listens, address);
	int listen_fd = l == NULL ? -1 : l->fd;

	log_init(c->log_level, c->log_format, metrics_value(ML_PROCESS, p->kind));
	leave_master(control_fd, listen_fd);
	metrics_lock(master.metrics, false);
	leave_secrets(p);
	switch (p->kind) {
	case MP_AGENT:
		return agent_run(&(struct agent_args){ .config = c, .limits = master.limits, .metrics = master.metrics, .key = &master.key,
		    .control_fd = control_fd });
	case MP_EXPORTER:
		return exporter_run(&(struct exporter_args){ .config = c, .limits = master.limits, .metrics = master.metrics,
		    .listen_fd = listen_fd, .control_fd = control_fd, .sandbox = true });
	case MP_FRONT:
		return front_run(&(struct front_args){ .config = c, .listener = &c->listeners[p->listener], .limits = master.limits,
		    .metrics = master.metrics, .certs = g->certs, .cache = g->caches[p->listener],
		    .mechanisms = c->listeners[p->listener].auth == AUTH_OFF ? 0 : auth_mechanisms(c), .row = p->row,
		    .number = master.serial, .listen_fd = listen_fd, .control_fd = control_fd, .sandbox = true });
	case MP__MAX:
		break;
	}
	return 1;
}

static void
process_free(struct process *p)
{
	if (p->row != -1)
		limits_row_free(master.limits, p->row);
	if (p->control_fd != -1)
		close(p->control_fd);
	loop_remove(&p->start);
	*p = (struct process){ 0 };
}

static void
generation_free(struct generation *g)
{
	for (size_t i = 0; i < CONFIG_LISTENERS_MAX; i++)
		tls_cache_free(g->caches[i]);
	tls_certs_free(g->certs);
	config_free(g->config);
	*g = (struct generation){ 0 };
}

/* Exporters tell of a stop to its end: when only they are left, they end too. */
static void
end_exporters(void)
{
	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (master.processes[i].generation != NULL && master.processes[i].kind != MP_EXPORTER)
			return;
	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (master.processes[i].pid != 0 && ipc_send_control(master.processes[i].control_fd, CTL_STOP, 0, -1) == -1 && errno != EPIPE)
			log_error(0, "control", LF_ERRNO(errno));
}

/* It will not be started again; its generation ends with the last of them. */
static void
process_forget(struct process *p)
{
	struct generation *g = p->generation;

	process_free(p);
	if (generation_processes(g, true) == 0)
		generation_free(g);
	if (master.stopping)
		end_exporters();
}

/* A row of a front's own, which says whose connections are counted there. -1: there is none. */
static int
take_row(const struct process *p)
{
	const char *name = p->generation->config->listeners[p->listener].name;
	int row = limits_row_take(master.limits);

	if (row == -1)
		log_error(0, "too_many_processes", LF_STR("listener", name));
	else
		master.limits->rows[row].listener = metrics_find(master.metrics, ML_LISTENER, text_span(name));
	return row;
}

/* Try again later, and later still when that does not help. */
static void
process_delay(struct process *p)
{
	p->delay_ms = p->delay_ms == 0 ? DELAY_MIN_MS : p->delay_ms > DELAY_MAX_MS / 2 ? DELAY_MAX_MS : 2 * p->delay_ms;
	loop_deadline(&p->start, loop_clock_ms() + p->delay_ms);
}

static void
process_start(struct process *p)
{
	int sv[2];

	if (ipc_pair(sv) == -1) {
		log_error(0, "socketpair", LF_ERRNO(errno));
		process_delay(p);
		return;
	}
	if (p->kind == MP_FRONT)
		master.serial = master.serial == UINT16_MAX ? 1 : (uint16_t)(master.serial + 1);
	(void)fflush(NULL);
	p->pid = fork();
	if (p->pid == 0) {
		close(sv[0]);
		exit(child_main(p, sv[1]));
	}
	close(sv[1]);
	if (p->pid == -1) {
		log_error(0, "fork", LF_ERRNO(errno));
		p->pid = 0;
		close(sv[0]);
		process_delay(p);
		return;
	}
	p->control_fd = sv[0];
	p->started_at = loop_clock_ms();
	if (p->kind == MP_FRONT)
		introduce(p, agent_of(p->generation));
	for (size_t i = 0; i < PROCESSES_MAX && p->kind == MP_AGENT; i++)
		if (master.processes[i].generation == p->generation && master.processes[i].kind == MP_FRONT)
			introduce(&master.processes[i], p);
	if (p->generation->draining && p->kind == MP_AGENT)
		(void)ipc_send_control(p->control_fd, CTL_DRAIN, 0, -1);
}

static void
process_due(void *arg, short revents)
{
	struct process *p = arg;

	(void)revents;
	/* nobody needs it any more: what a generation that drains had is gone, but for an agent that fronts still ask */
	if (p->generation->draining && (p->kind != MP_AGENT || generation_processes(p->generation, false) == 0))
		process_forget(p);
	else
		process_start(p);
}

static struct process *
process_new(struct generation *g, enum metrics_process kind, uint32_t listener)
{
	for (size_t i = 0; i < PROCESSES_MAX; i++) {
		struct process *p = &master.processes[i];

		if (p->generation != NULL)
			continue;
		*p = (struct process){ .generation = g, .kind = kind, .listener = listener, .control_fd = -1, .row = -1 };
		if (kind == MP_FRONT && (p->row = take_row(p)) == -1) {
			*p = (struct process){ 0 };
			break;
		}
		/* cannot fail: the loop has a slot for each process */
		(void)loop_add(&master.loop, &p->start, -1, 0, process_due, p);
		process_start(p);
		return p;
	}
	return NULL;
}

/* ---- generations ---- */

/* What each certificate is, and whether it will end soon. */
static void
log_certs(const struct tls_certs *certs)
{
	for (size_t i = 0; i < tls_certs_n(certs); i++) {
		struct tls_cert_info info;

		tls_certs_info(certs, i, &info);
		log_info(0, "certificate", LF_STR("name", info.name), LF_STR("file", info.self_signed ? "self-signed" : info.file),
		    LF_STR("sha256", info.sha256), LF_INT("not_after_time", info.not_after_time));
	}
}

/* Give what this configuration counts by its slots. A series of a certificate that is no more ends. */
static void
label(const struct config *c, const struct tls_certs *certs)
{
	int64_t expires[METRICS_CERTS] = { 0 };

	for (size_t i = 0; i < c->listeners_n; i++)
		(void)metrics_label(master.metrics, ML_LISTENER, text_span(c->listeners[i].name));
	for (size_t i = 0; i < c->domains.n; i++)
		(void)metrics_label(master.metrics, ML_DOMAIN, text_span(c->domains.v[i]));
	for (size_t i = 0; i < c->checkers_n; i++)
		(void)metrics_label(master.metrics, ML_CHECKER, text_span(c->checkers[i].name));
	for (size_t i = 0; i < tls_certs_n(certs); i++) {
		struct tls_cert_info info;
		unsigned slot;

		tls_certs_info(certs, i, &info);
		slot = metrics_label(master.metrics, ML_CERT, text_span(info.name));
		if (expires[slot] == 0 || info.not_after_time < expires[slot])	/* of two with one name, the one that ends first */
			expires[slot] = info.not_after_time > 0 ? info.not_after_time : 1;
	}
	for (unsigned slot = 0; slot < METRICS_CERTS; slot++)
		metrics_set(master.metrics, M_TLS_EXPIRY, slot, (uint64_t)expires[slot]);
}

/* config and certs are the generation's from now on. NULL: there are too many, and they are still the caller's. */
static struct generation *
generation_start(struct config *c, struct tls_certs *certs)
{
	struct generation *g = NULL;

	for (size_t i = 0; i < GENERATIONS_MAX && g == NULL; i++)
		if (master.generations[i].config == NULL)
			g = &master.generations[i];
	if (g == NULL)
		return NULL;
	*g = (struct generation){ .config = c, .certs = certs, .number = ++master.generation_serial };
	log_init(c->log_level, c->log_format, "master");
	log_certs(certs);
	label(c, certs);
	/* a listener's own, so that no session crosses into another's policy (case 6.12); without it, handshakes are only slower */
	for (size_t i = 0; i < c->listeners_n && tls_certs_n(certs) > 0; i++)
		g->caches[i] = tls_cache_new(TLS_SESSIONS);
	if (process_new(g, MP_AGENT, 0) == NULL || (c->metrics_enabled && process_new(g, MP_EXPORTER, 0) == NULL))
		log_error(0, "too_many_processes");
	for (size_t i = 0; i < c->listeners_n; i++)
		for (unsigned w = 0; w < c->listeners[i].workers; w++)
			(void)process_new(g, MP_FRONT, (uint32_t)i);	/* it has said what is wrong */
	return g;
}

static void
generation_tell(const struct generation *g, enum control to_fronts, enum control to_agent)
{
	for (size_t i = 0; i < PROCESSES_MAX; i++) {
		const struct process *p = &master.processes[i];

		if (p->generation != g || p->pid == 0 || (p->kind == MP_EXPORTER && master.stopping))
			continue;
		if (ipc_send_control(p->control_fd, p->kind == MP_AGENT ? to_agent : to_fronts, 0, -1) == -1 && errno != EPIPE)
			log_error(0, "control", LF_ERRNO(errno));
	}
}

static void
generation_drain(struct generation *g)
{
	g->draining = true;
	generation_tell(g, CTL_DRAIN, CTL_DRAIN);
}

/* ---- reload ---- */

/* Each line of errors where it is looked for: on the terminal before the start, in the log afterwards. */
static void
report(const struct buf *errors)
{
	struct span all = buf_span(errors), line;

	while (text_token(&all, "\n", &line)) {
		if (line.len == 0)
			continue;
		if (master.current == NULL)
			(void)fprintf(stderr, "smtpd: %.*s\n", (int)line.len, line.p);
		else
			log_fields(text_starts_nocase(line, "warning:") ? LOG_WARN : LOG_ERROR, 0, "config", LF_SPAN("text", line));
	}
}

/* The configuration, with its certificates if certs is not NULL; NULL: the errors are reported. */
static struct config *
load(struct tls_certs **certs)
{
	struct buf errors;
	const char *file = master.config_file;
	struct config *c;

	buf_init(&errors, ERRORS_MAX);
	if (file == NULL && access(CONFIG_FILE, F_OK) == 0)
		file = CONFIG_FILE;
	c = config_load(file, environ, master.flags, master.flags_n, &errors);
	if (certs != NULL)
		*certs = c == NULL ? NULL : tls_certs_load(c, &errors);
	if (c != NULL && certs != NULL && *certs == NULL) {
		config_free(c);
		c = NULL;
	}
	report(&errors);
	buf_clear(&errors);
	return c;
}

static void
reload_later(void)
{
	loop_deadline(&master.reload, loop_clock_ms() + RELOAD_AGAIN_MS);
}

static void
reload(void)
{
	struct listen table[LISTENS_MAX] = { { 0 } };
	struct generation *old = master.current;
	struct tls_certs *certs;
	struct config *c;
	size_t alive = 0;

	for (size_t i = 0; i < GENERATIONS_MAX; i++)
		alive += master.generations[i].config != NULL;
	if (alive == GENERATIONS_MAX) {	/* as many as there can be are still draining */
		reload_later();
		return;
	}
	c = load(&certs);
	if (c == NULL || listens_open(c, table) == -1) {
		metrics_add(master.metrics, M_CONFIG_RELOADS, MO_FAILURE, 0, 0, 1);
		log_error(0, "reload", LF_STR("result", "failure"), LF_STR("help", "the old configuration stays"));
		tls_certs_free(certs);
		config_free(c);
		tls_certs_seen(old->certs);
		return;
	}
	listens_replace(c, table);
	master.current = generation_start(c, certs);
	generation_drain(old);
	metrics_add(master.metrics, M_CONFIG_RELOADS, MO_SUCCESS, 0, 0, 1);
	log_info(0, "reload", LF_STR("result", "success"), LF_INT("generation", master.current->number));
}

/* A changed file is a reason to reload (an ACME client has renamed one, Kubernetes has swapped a link); a bad one is tried once. */
static void
certs_due(void *arg, short revents)
{
	(void)arg;
	(void)revents;
	loop_deadline(&master.certs, loop_clock_ms() + CERTS_LOOK_MS);
	if (master.stopping || !tls_certs_changed(master.current->certs))
		return;
	log_info(0, "certificate_changed");
	reload();
}

static void
reload_due(void *arg, short revents)
{
	(void)arg;
	(void)revents;
	if (!master.stopping)
		reload();
}

/* ---- signals ---- */

static void
stop_due(void *arg, short revents)
{
	(void)arg;
	(void)revents;
	log_warn(0, "stop_forced");
	for (size_t i = 0; i < PROCESSES_MAX; i++) {
		const struct process *p = &master.processes[i];

		/* the agent ends the commands that it runs; it gets a moment for it */
		if (p->pid == 0 || (p->kind == MP_AGENT && ipc_send_control(p->control_fd, CTL_STOP, 0, -1) == 0 && master.stop.arg == NULL))
			continue;
		(void)kill(p->pid, SIGKILL);
	}
	master.stop.arg = &master;
	loop_deadline(&master.stop, loop_clock_ms() + STOP_GRACE_MS);
}

static void
stop(void)
{
	if (master.stopping) {	/* the second time: at once */
		stop_due(NULL, 0);
		return;
	}
	master.stopping = true;
	metrics_unready(master.metrics, UNREADY_STOPPING);	/* at once (case 14.1) */
	log_info(0, "stopping");
	listens_close();
	for (size_t i = 0; i < GENERATIONS_MAX; i++)
		if (master.generations[i].config != NULL)
			generation_tell(&master.generations[i], CTL_STOP, CTL_DRAIN);
	loop_deadline(&master.stop, loop_clock_ms() + master.current->config->shutdown_ms + STOP_GRACE_MS);
	/* those that wait to be started again have no exit that would be waited for */
	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (master.processes[i].generation != NULL && master.processes[i].pid == 0)
			process_forget(&master.processes[i]);
}

static void
log_death(const struct process *p, int status)
{
	bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;

	log_fields(good ? LOG_DEBUG : LOG_ERROR, 0, "process_ended", LF_STR("name", metrics_value(ML_PROCESS, p->kind)),
	    LF_INT("pid", p->pid), LF_INT("exit", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
	    LF_INT("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0));
}

/* A generation is over when its last front is, and its agent after it. */
static void
process_ended(struct process *p, int status)
{
	struct generation *g = p->generation;
	bool lived = loop_clock_ms() - p->started_at > STABLE_MS;

	log_death(p, status);
	p->pid = 0;
	if (p->control_fd != -1)
		close(p->control_fd);
	p->control_fd = -1;
	if (p->row != -1) {	/* what it had counted is gone with it */
		limits_row_free(master.limits, p->row);
		p->row = -1;
	}
	if (master.stopping || (g->draining && (p->kind != MP_AGENT || generation_processes(g, false) == 0))) {
		process_forget(p);
		return;
	}
	metrics_add(master.metrics, M_PROCESSES_RESTARTED, p->kind, 0, 0, 1);
	if (p->kind == MP_FRONT)
		p->row = take_row(p);
	if (lived)
		p->delay_ms = 0;
	process_delay(p);
}

static void
reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (size_t i = 0; i < PROCESSES_MAX; i++)
			if (master.processes[i].generation != NULL && master.processes[i].pid == pid) {
				process_ended(&master.processes[i], status);
				break;
			}
}

static void
signal_ready(void *arg, short revents)
{
	struct signalfd_siginfo info;

	(void)arg;
	(void)revents;
	while (read(master.signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			reap();
		else if (info.ssi_signo == SIGHUP)
			reload_later();		/* many of them are one */
		else
			stop();
	}
}

/*
 * Signals that mean nothing here and would end a process (case 14.5). Fronts and the agent inherit this, commands do not.
 * Not ignored are faults, and QUIT: the way out for whoever has no other.
 */
static void
signals_ignore(void)
{
	static const int ignored[] = { SIGPIPE, SIGXFSZ, SIGXCPU, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR };

	for (size_t i = 0; i < COUNT(ignored); i++)
		if (signal(ignored[i], SIG_IGN) == SIG_ERR)
			fatal("signals", "%s", strerror(errno));
	for (int n = SIGRTMIN; n <= SIGRTMAX; n++)
		if (signal(n, SIG_IGN) == SIG_ERR)
			fatal("signals", "%s", strerror(errno));
}

static void
signals_init(void)
{
	sigset_t set;

	signals_ignore();
	if (sigemptyset(&set) == -1 || sigaddset(&set, SIGTERM) == -1 ||
	    sigaddset(&set, SIGINT) == -1 || sigaddset(&set, SIGHUP) == -1 || sigaddset(&set, SIGCHLD) == -1 ||
	    sigprocmask(SIG_BLOCK, &set, NULL) == -1 || (master.signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)) == -1)
		fatal("signals", "%s", strerror(errno));
}

/* ---- what is counted ---- */

/* Why clients should go elsewhere, as enum metrics_unready. */
static unsigned
unready(void)
{
	const struct config *c;
	bool agent = false, fronts[CONFIG_LISTENERS_MAX] = { false };
	unsigned reasons = 0;

	if (master.stopping)
		return UNREADY_STOPPING;
	c = master.current->config;
	for (size_t i = 0; i < PROCESSES_MAX; i++) {
		const struct process *p = &master.processes[i];

		if (p->generation != master.current || p->pid == 0)
			continue;
		agent = agent || p->kind == MP_AGENT;
		if (p->kind == MP_FRONT)
			fronts[p->listener] = true;
	}
	for (size_t i = 0; i < c->listeners_n; i++)
		if (!fronts[i])
			reasons |= UNREADY_FRONT;
	return reasons | (agent ? 0 : UNREADY_AGENT);
}

/* What all processes use; those that have ended are in the master's times. */
static void
count_processes(void *arg, short revents)
{
	struct procstat sum = { 0 };

	(void)arg;
	(void)revents;
	loop_deadline(&master.processes_due, loop_clock_ms() + PROCESSES_LOOK_MS);
	if (!master.stopping && !master.current->config->metrics_enabled)
		return;
	procstat_add(&sum, getpid());
	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (master.processes[i].pid != 0)
			procstat_add(&sum, master.processes[i].pid);
	if (sum.cpu_us > master.cpu_us) {	/* the clock's ticks are rounded down for each process */
		metrics_add(master.metrics, M_PROCESS_CPU, 0, 0, 0, sum.cpu_us - master.cpu_us);
		master.cpu_us = sum.cpu_us;
	}
	metrics_set(master.metrics, M_PROCESS_RESIDENT, 0, sum.own + sum.shared);
	metrics_set(master.metrics, M_PROCESS_OPEN_FDS, 0, procstat_fds());
}

_Static_assert(SESSION_COMMANDS <= METRICS_COMMANDS, "each command has a slot");

static void
metrics_init(void)
{
	unsigned version;

	master.metrics = metrics_new();
	if (master.metrics == NULL)
		fatal("start", "%s", strerror(errno));
	version = metrics_label(master.metrics, ML_VERSION, SPAN(VERSION));
	metrics_set(master.metrics, M_BUILD_INFO, version, 1);
	metrics_set(master.metrics, M_PROCESS_START_TIME, 0, (uint64_t)time(NULL));
	metrics_set(master.metrics, M_PROCESS_MAX_FDS, 0, sandbox_max_fds());
	for (size_t i = 1; session_command_name(i) != NULL; i++)
		(void)metrics_label(master.metrics, ML_COMMAND, text_span(session_command_name(i)));
}

/* ---- start ---- */

static bool
all_gone(void)
{
	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (master.processes[i].generation != NULL)
			return false;
	return true;
}

/* config and certs are its from now on. */
static int
serve(struct config *c, struct tls_certs *certs)
{
	struct listen table[LISTENS_MAX] = { { 0 } };

	log_init(c->log_level, c->log_format, "master");
	signals_init();
	metrics_init();
	master.limits = limits_new();
	if (master.limits == NULL || auth_key_make(&master.key) == -1 || loop_init(&master.loop, PROCESSES_MAX + 5) == -1 ||
	    loop_add(&master.loop, &master.signals, master.signal_fd, POLLIN, signal_ready, NULL) == -1 ||
	    loop_add(&master.loop, &master.reload, -1, 0, reload_due, NULL) == -1 ||
	    loop_add(&master.loop, &master.certs, -1, 0, certs_due, NULL) == -1 ||
	    loop_add(&master.loop, &master.processes_due, -1, 0, count_processes, NULL) == -1 ||
	    loop_add(&master.loop, &master.stop, -1, 0, stop_due, NULL) == -1)
		fatal("start", "%s", strerror(errno));
	if (listens_open(c, table) == -1) {
		tls_certs_free(certs);
		config_free(c);
		return 1;
	}
	listens_replace(c, table);
	master.current = generation_start(c, certs);
	loop_deadline(&master.certs, loop_clock_ms() + CERTS_LOOK_MS);
	log_info(0, "started", LF_STR("version", VERSION), LF_STR("hostname", c->hostname));
	count_processes(NULL, 0);
	while (!(master.stopping && all_gone())) {
		metrics_unready(master.metrics, unready());
		if (loop_turn(&master.loop, -1) == -1)
			fatal("poll", "%s", strerror(errno));
		metrics_log_lines(master.metrics);
	}
	log_info(0, "stopped");
	loop_clear(&master.loop);
	close(master.signal_fd);
	return 0;
}

/* ---- options ---- */

/* Whether the server of this configuration is ready: by its metrics' address, or else by its first listener. */
static int
check_health(void)
{
	struct sockaddr_storage ss;
	struct sockaddr_in any = { .sin_family = AF_INET };
	enum healthcheck how = HEALTH_HTTP;
	const char *address, *why = "its address cannot be asked";
	struct config *c = load(NULL);
	socklen_t len;
	bool both;

	if (c == NULL)
		return 1;
	address = c->metrics_enabled ? c->metrics_address : c->listeners[0].address;
	if (!c->metrics_enabled)
		how = c->listeners[0].mode == MODE_SMTPS ? HEALTH_CONNECT : HEALTH_SMTP;
	if (parse_address(address, &ss, &len, &both) == 0) {
		any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		any.sin_port = ((struct sockaddr_in6 *)&ss)->sin6_port;
		why = both ? healthcheck((struct sockaddr *)&any, sizeof(any), how) : healthcheck((struct sockaddr *)&ss, len, how);
	}
	if (why != NULL)
		(void)fprintf(stderr, "smtpd: %s: %s\n", address, why);
	config_free(c);
	return why == NULL ? 0 : 1;
}

static void
usage(FILE *f)
{
	(void)fprintf(f,
	    "usage: smtpd [-c file] [-o section.key=value ...]   serve\n"
	    "       smtpd -t [-c file]                           check the configuration: exit 0, or 1 with every error\n"
	    "       smtpd -T [-c file]                           print every key with its value and where that is from\n"
	    "       smtpd -S                                     print a sample configuration with every key\n"
	    "       smtpd -V | -h\n"
	    "       smtpd healthcheck [-c file]                  ask the server whether it is ready: exit 0, or 1\n"
	    "       smtpd passwd user                            ask for a password and print a line for the password file\n"
	    "Without -c the file is " CONFIG_FILE ", if there is one.\n");
}

int
main(int argc, char **argv)
{
	struct tls_certs *certs;
	struct config *c;
	int opt, what = 0, ret = 0;

	log_init(LOG_INFO, LOG_LOGFMT, "master");
	if (argc > 1 && strcmp(argv[1], "passwd") == 0) {
		if (argc == 3)
			return auth_passwd_main(argv[2]);
		usage(stderr);
		return 2;
	}
	if (argc > 1 && strcmp(argv[1], "healthcheck") == 0) {
		what = 'H';
		argc--;
		argv++;
	}
	while ((opt = getopt(argc, argv, "c:o:tTSVh")) != -1) {
		switch (opt) {
		case 'c':
			master.config_file = optarg;
			break;
		case 'o':
			if (master.flags_n == FLAGS_MAX)
				fatal("options", "more than %d -o", FLAGS_MAX);
			master.flags[master.flags_n++] = optarg;
			break;
		case 't':
		case 'T':
			what = opt;
			break;
		case 'S':
			return config_print_sample(stdout) == 0 && fflush(stdout) == 0 ? 0 : 1;
		case 'V':
			return printf("smtpd " VERSION "\n") > 0 ? 0 : 1;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr, "smtpd: unexpected argument: %s\n", argv[optind]);
		usage(stderr);
		return 2;
	}
	if (what == 'H')
		return check_health();
	c = load(&certs);
	if (c == NULL)
		return 1;
	if (what == 0)
		return serve(c, certs);
	tls_certs_free(certs);
	if (what == 'T')
		ret = config_print(c, stdout) == 0 && fflush(stdout) == 0 ? 0 : 1;
	config_free(c);
	return ret;
}
