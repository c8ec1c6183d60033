/*
 * smtpd.c - options, signals, reload.
 *
 * The master never reads an octet from the network. Its listening sockets are in listen.c, its processes in supervise.c.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "healthcheck.h"
#include "sandbox.h"
#include "session.h"
#include "supervise.h"

#ifndef VERSION
#define VERSION "0.1"
#endif

#define CONFIG_FILE "/etc/smtpd/smtpd.conf"
#define ERRORS_MAX (256 * 1024)
#define FLAGS_MAX 64
#define RELOAD_AGAIN_MS 500		/* a reload that cannot start yet tries again */
#define STOP_GRACE_MS 5000		/* beyond the configured patience of a shutdown */
#define CERTS_LOOK_MS 2000		/* how often certificate files are looked at */
#define PROCESSES_LOOK_MS 5000		/* how often the processes' CPU time and memory are counted */

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
	struct auth_key	 key;
	struct listen	 listens[LISTENS_MAX];
	struct supervisor supervisor;
} master;

/* ---- reload ---- */

/* Each line of errors where it is looked for: on the terminal before the start, in the log afterwards. */
static void
report(const struct buf *errors)
{
	struct span all = buf_span(errors), line;

	while (text_token(&all, "\n", &line)) {
		if (line.len == 0)
			continue;
		if (master.supervisor.current == NULL)
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
	struct generation *old = master.supervisor.current;
	struct tls_certs *certs;
	struct config *c;

	if (supervise_is_full(&master.supervisor)) {	/* as many as there can be are still draining */
		reload_later();
		return;
	}
	c = load(&certs);
	if (c == NULL || listens_open(master.listens, c, table) == -1) {
		metrics_add(master.metrics, M_CONFIG_RELOADS, MO_FAILURE, 0, 0, 1);
		log_error(0, "reload", LF_STR("result", "failure"), LF_STR("help", "the old configuration stays"));
		tls_certs_free(certs);
		config_free(c);
		tls_certs_seen(old->certs);
		return;
	}
	listens_replace(master.listens, c, table);
	master.supervisor.current = generation_start(&master.supervisor, c, certs);
	generation_drain(old);
	metrics_add(master.metrics, M_CONFIG_RELOADS, MO_SUCCESS, 0, 0, 1);
	log_info(0, "reload", LF_STR("result", "success"), LF_INT("generation", master.supervisor.current->number));
}

/* A changed file is a reason to reload (an ACME client has renamed one, Kubernetes has swapped a link); a bad one is tried once. */
static void
certs_due(void *arg, short revents)
{
	(void)arg;
	(void)revents;
	loop_deadline(&master.certs, loop_clock_ms() + CERTS_LOOK_MS);
	/* while as many as there can be are draining, it is not looked at: a later look sees it as well */
	if (master.supervisor.stopping || supervise_is_full(&master.supervisor) || !tls_certs_changed(master.supervisor.current->certs))
		return;
	log_info(0, "certificate_changed");
	reload();
}

static void
reload_due(void *arg, short revents)
{
	(void)arg;
	(void)revents;
	if (!master.supervisor.stopping)
		reload();
}

/* ---- signals ---- */

static void
stop_due(void *arg, short revents)
{
	(void)arg;
	(void)revents;
	log_warn(0, "stop_forced");
	supervise_kill(&master.supervisor, master.stop.arg == NULL);
	master.stop.arg = &master;
	loop_deadline(&master.stop, loop_clock_ms() + STOP_GRACE_MS);
}

static void
stop(void)
{
	if (master.supervisor.stopping) {	/* the second time: at once */
		stop_due(NULL, 0);
		return;
	}
	master.supervisor.stopping = true;
	metrics_unready(master.metrics, UNREADY_STOPPING);	/* at once (case 14.1) */
	log_info(0, "stopping");
	listens_close(master.listens);
	loop_deadline(&master.stop, loop_clock_ms() + master.supervisor.current->config->shutdown_ms + STOP_GRACE_MS);
	supervise_stop(&master.supervisor);
}

static void
signal_ready(void *arg, short revents)
{
	struct signalfd_siginfo info;

	(void)arg;
	(void)revents;
	while (read(master.signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			supervise_reap(&master.supervisor);
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

/* What all processes use; those that have ended are in the master's times. */
static void
count_processes(void *arg, short revents)
{
	struct procstat sum = { 0 };

	(void)arg;
	(void)revents;
	loop_deadline(&master.processes_due, loop_clock_ms() + PROCESSES_LOOK_MS);
	if (!master.supervisor.stopping && !master.supervisor.current->config->metrics_enabled)
		return;
	procstat_add(&sum, getpid());
	supervise_add_usage(&master.supervisor, &sum);
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

/* config and certs are its from now on. */
static int
serve(struct config *c, struct tls_certs *certs)
{
	struct listen table[LISTENS_MAX] = { { 0 } };
	struct supervisor *v = &master.supervisor;

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
	if (listens_open(master.listens, c, table) == -1) {
		tls_certs_free(certs);
		config_free(c);
		return 1;
	}
	v->loop = &master.loop;
	v->limits = master.limits;
	v->metrics = master.metrics;
	v->key = &master.key;
	v->listens = master.listens;
	v->signal_fd = master.signal_fd;
	listens_replace(master.listens, c, table);
	v->current = generation_start(v, c, certs);
	loop_deadline(&master.certs, loop_clock_ms() + CERTS_LOOK_MS);
	log_info(0, "started", LF_STR("version", VERSION), LF_STR("hostname", c->hostname));
	count_processes(NULL, 0);
	while (!(v->stopping && supervise_is_done(v))) {
		metrics_unready(master.metrics, supervise_unready(v));
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
	if (listen_parse(address, &ss, &len, &both) == 0) {
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
