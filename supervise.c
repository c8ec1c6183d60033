/*
 * supervise.c - the master's processes: a generation of them for each configuration, and what is done when one ends.
 *
 * A generation is an agent, the fronts of every listener and, with metrics, an exporter. A reload starts a new one on the same
 * listening sockets and lets the old one drain.
 */
#include "supervise.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "exporter.h"
#include "front.h"
#include "ipc.h"

#define DELAY_MIN_MS 50			/* before what died is started again; doubled up to the maximum */
#define DELAY_MAX_MS 10000
#define STABLE_MS 10000			/* a process that lived so long starts with the smallest delay again */
#define TLS_SESSIONS 4096		/* kept of each listener, to be resumed */

/* ---- processes ---- */

static struct process *
agent_of(const struct generation *g)
{
	struct supervisor *v = g->supervisor;

	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (v->processes[i].generation == g && v->processes[i].kind == MP_AGENT)
			return &v->processes[i];
	return NULL;
}

/* Its fronts, or all its processes. */
static size_t
generation_processes(const struct generation *g, bool all)
{
	const struct supervisor *v = g->supervisor;
	size_t n = 0;

	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (v->processes[i].generation == g && (all || v->processes[i].kind == MP_FRONT))
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
leave_master(const struct supervisor *v, int keep_control, int keep_listen)
{
	sigset_t none;

	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (v->processes[i].control_fd > 0 && v->processes[i].control_fd != keep_control)
			close(v->processes[i].control_fd);
	listens_leave(v->listens, keep_listen);
	close(v->signal_fd);
	loop_clear(v->loop);
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
	struct supervisor *v = p->generation->supervisor;

	for (size_t n = 0; n < GENERATIONS_MAX; n++) {
		struct generation *g = &v->generations[n];
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
	limits_auth_drop(v->limits);
	explicit_bzero(v->key, sizeof(*v->key));
}

static int
child_main(const struct process *p, int control_fd)
{
	struct generation *g = p->generation;
	const struct supervisor *v = g->supervisor;
	const struct config *c = g->config;
	const char *address = p->kind == MP_EXPORTER ? c->metrics_address : c->listeners[p->listener].address;
	const struct listen *l = p->kind == MP_AGENT ? NULL : listens_find(v->listens, address);
	int listen_fd = l == NULL ? -1 : l->fd;

	log_init(c->log_level, c->log_format, metrics_value(ML_PROCESS, p->kind));
	leave_master(v, control_fd, listen_fd);
	metrics_lock(v->metrics, false);
	leave_secrets(p);
	switch (p->kind) {
	case MP_AGENT:
		return agent_run(&(struct agent_args){ .config = c, .limits = v->limits, .metrics = v->metrics, .key = v->key,
		    .control_fd = control_fd });
	case MP_EXPORTER:
		return exporter_run(&(struct exporter_args){ .config = c, .limits = v->limits, .metrics = v->metrics,
		    .listen_fd = listen_fd, .control_fd = control_fd, .sandbox = true });
	case MP_FRONT:
		return front_run(&(struct front_args){ .config = c, .listener = &c->listeners[p->listener], .limits = v->limits,
		    .metrics = v->metrics, .certs = g->certs, .cache = g->caches[p->listener],
		    .mechanisms = c->listeners[p->listener].auth == AUTH_OFF ? 0 : auth_mechanisms(c), .row = p->row,
		    .number = v->serial, .listen_fd = listen_fd, .control_fd = control_fd, .sandbox = true });
	case MP__MAX:
		break;
	}
	return 1;
}

static void
process_free(struct process *p)
{
	if (p->row != -1)
		limits_row_free(p->generation->supervisor->limits, p->row);
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
end_exporters(const struct supervisor *v)
{
	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (v->processes[i].generation != NULL && v->processes[i].kind != MP_EXPORTER)
			return;
	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (v->processes[i].pid != 0 && ipc_send_control(v->processes[i].control_fd, CTL_STOP, 0, -1) == -1 && errno != EPIPE)
			log_error(0, "control", LF_ERRNO(errno));
}

/* It will not be started again; its generation ends with the last of them. */
static void
process_forget(struct process *p)
{
	struct generation *g = p->generation;
	const struct supervisor *v = g->supervisor;

	process_free(p);
	if (generation_processes(g, true) == 0)
		generation_free(g);
	if (v->stopping)
		end_exporters(v);
}

/* A row of a front's own, which says whose connections are counted there. -1: there is none. */
static int
take_row(const struct process *p)
{
	const struct supervisor *v = p->generation->supervisor;
	const char *name = p->generation->config->listeners[p->listener].name;
	int row = limits_row_take(v->limits);

	if (row == -1)
		log_error(0, "too_many_processes", LF_STR("listener", name));
	else
		v->limits->rows[row].listener = metrics_find(v->metrics, ML_LISTENER, text_span(name));
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
	struct supervisor *v = p->generation->supervisor;
	int sv[2];

	if (ipc_pair(sv) == -1) {
		log_error(0, "socketpair", LF_ERRNO(errno));
		process_delay(p);
		return;
	}
	if (p->kind == MP_FRONT)
		v->serial = v->serial == UINT16_MAX ? 1 : (uint16_t)(v->serial + 1);
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
		if (v->processes[i].generation == p->generation && v->processes[i].kind == MP_FRONT)
			introduce(&v->processes[i], p);
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
	struct supervisor *v = g->supervisor;

	for (size_t i = 0; i < PROCESSES_MAX; i++) {
		struct process *p = &v->processes[i];

		if (p->generation != NULL)
			continue;
		*p = (struct process){ .generation = g, .kind = kind, .listener = listener, .control_fd = -1, .row = -1 };
		if (kind == MP_FRONT && (p->row = take_row(p)) == -1) {
			*p = (struct process){ 0 };
			break;
		}
		/* cannot fail: the loop has a slot for each process */
		(void)loop_add(v->loop, &p->start, -1, 0, process_due, p);
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
label(const struct supervisor *v, const struct config *c, const struct tls_certs *certs)
{
	int64_t expires[METRICS_CERTS] = { 0 };

	for (size_t i = 0; i < c->listeners_n; i++)
		(void)metrics_label(v->metrics, ML_LISTENER, text_span(c->listeners[i].name));
	for (size_t i = 0; i < c->domains.n; i++)
		(void)metrics_label(v->metrics, ML_DOMAIN, text_span(c->domains.v[i]));
	for (size_t i = 0; i < c->checkers_n; i++)
		(void)metrics_label(v->metrics, ML_CHECKER, text_span(c->checkers[i].name));
	for (size_t i = 0; i < tls_certs_n(certs); i++) {
		struct tls_cert_info info;
		unsigned slot;

		tls_certs_info(certs, i, &info);
		slot = metrics_label(v->metrics, ML_CERT, text_span(info.name));
		if (expires[slot] == 0 || info.not_after_time < expires[slot])	/* of two with one name, the one that ends first */
			expires[slot] = info.not_after_time > 0 ? info.not_after_time : 1;
	}
	for (unsigned slot = 0; slot < METRICS_CERTS; slot++)
		metrics_set(v->metrics, M_TLS_EXPIRY, slot, (uint64_t)expires[slot]);
}

struct generation *
generation_start(struct supervisor *v, struct config *c, struct tls_certs *certs)
{
	struct generation *g = NULL;

	for (size_t i = 0; i < GENERATIONS_MAX && g == NULL; i++)
		if (v->generations[i].config == NULL)
			g = &v->generations[i];
	if (g == NULL)
		return NULL;
	*g = (struct generation){ .supervisor = v, .config = c, .certs = certs, .number = ++v->generation_serial };
	log_init(c->log_level, c->log_format, "master");
	log_certs(certs);
	label(v, c, certs);
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
	const struct supervisor *v = g->supervisor;

	for (size_t i = 0; i < PROCESSES_MAX; i++) {
		const struct process *p = &v->processes[i];

		if (p->generation != g || p->pid == 0 || (p->kind == MP_EXPORTER && v->stopping))
			continue;
		if (ipc_send_control(p->control_fd, p->kind == MP_AGENT ? to_agent : to_fronts, 0, -1) == -1 && errno != EPIPE)
			log_error(0, "control", LF_ERRNO(errno));
	}
}

void
generation_drain(struct generation *g)
{
	g->draining = true;
	generation_tell(g, CTL_DRAIN, CTL_DRAIN);
}

/* ---- what has ended, and shall end ---- */

static bool
ended_well(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void
log_death(const struct process *p, int status)
{
	log_fields(ended_well(status) ? LOG_DEBUG : LOG_ERROR, 0, "process_ended", LF_STR("name", metrics_value(ML_PROCESS, p->kind)),
	    LF_INT("pid", p->pid), LF_INT("exit", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
	    LF_INT("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0));
}

/* A generation is over when its last front is, and its agent after it. */
static void
process_ended(struct process *p, int status)
{
	struct generation *g = p->generation;
	const struct supervisor *v = g->supervisor;
	bool lived = loop_clock_ms() - p->started_at > STABLE_MS;

	log_death(p, status);
	p->pid = 0;
	if (p->control_fd != -1)
		close(p->control_fd);
	p->control_fd = -1;
	if (p->row != -1) {	/* what it had counted is gone with it */
		limits_row_free(v->limits, p->row);
		p->row = -1;
	}
	if (v->stopping || (g->draining && (p->kind != MP_AGENT || generation_processes(g, false) == 0))) {
		process_forget(p);
		return;
	}
	/* that an agent has ended may be heard before the end of its last front: then it will not be started again */
	if (!g->draining || !ended_well(status))
		metrics_add(v->metrics, M_PROCESSES_RESTARTED, p->kind, 0, 0, 1);
	if (p->kind == MP_FRONT)
		p->row = take_row(p);
	if (lived)
		p->delay_ms = 0;
	process_delay(p);
}

void
supervise_reap(struct supervisor *v)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (size_t i = 0; i < PROCESSES_MAX; i++)
			if (v->processes[i].generation != NULL && v->processes[i].pid == pid) {
				process_ended(&v->processes[i], status);
				break;
			}
}

void
supervise_stop(struct supervisor *v)
{
	for (size_t i = 0; i < GENERATIONS_MAX; i++)
		if (v->generations[i].config != NULL)
			generation_tell(&v->generations[i], CTL_STOP, CTL_DRAIN);
	/* those that wait to be started again have no exit that would be waited for */
	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (v->processes[i].generation != NULL && v->processes[i].pid == 0)
			process_forget(&v->processes[i]);
}

void
supervise_kill(struct supervisor *v, bool spare_agents)
{
	for (size_t i = 0; i < PROCESSES_MAX; i++) {
		const struct process *p = &v->processes[i];

		/* the agent ends the commands that it runs; it gets a moment for it */
		if (p->pid == 0 || (p->kind == MP_AGENT && ipc_send_control(p->control_fd, CTL_STOP, 0, -1) == 0 && spare_agents))
			continue;
		(void)kill(p->pid, SIGKILL);
	}
}

bool
supervise_is_done(const struct supervisor *v)
{
	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (v->processes[i].generation != NULL)
			return false;
	return true;
}

bool
supervise_is_full(const struct supervisor *v)
{
	for (size_t i = 0; i < GENERATIONS_MAX; i++)
		if (v->generations[i].config == NULL)
			return false;
	return true;
}

/* ---- what is counted ---- */

unsigned
supervise_unready(const struct supervisor *v)
{
	const struct config *c;
	bool agent = false, fronts[CONFIG_LISTENERS_MAX] = { false };
	unsigned reasons = 0;

	if (v->stopping)
		return UNREADY_STOPPING;
	c = v->current->config;
	for (size_t i = 0; i < PROCESSES_MAX; i++) {
		const struct process *p = &v->processes[i];

		if (p->generation != v->current || p->pid == 0)
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

void
supervise_add_usage(const struct supervisor *v, struct procstat *sum)
{
	for (size_t i = 0; i < PROCESSES_MAX; i++)
		if (v->processes[i].pid != 0)
			procstat_add(sum, v->processes[i].pid);
}
