/*
 * delivery.c - a delivery command that behaves as badly as it is told to (SECURITY-CASES 18).
 *
 * usage: delivery RECORD MODE [ARGUMENT ...]
 * One line is added to the file RECORD ("-": none) a run: mode=, id=, rcpt=, octets= and crc32= of what was read from standard
 * input, eof= whether its end was seen. MODE:
 *	exit-N		read all, exit N
 *	signal-N	read all, end by signal N
 *	digest		as exit-0
 *	no-read		exit 0 without reading
 *	half-read	read half, then sleep for ever
 *	drip		one octet a second
 *	spam-output	100 MiB of output, half of it on standard error, while reading
 *	background-child	leave a child that holds all descriptors, exit 0
 *	stop		read all, SIGSTOP
 *	close-fds	read all, close standard output and error, exit 0 a second later
 *	stubborn	ignore TERM and sleep for ever
 *	slow-N		read all, exit 0 after N milliseconds
 *	say-N TEXT	read all, print TEXT (\n, \r, \e, \0 are replaced), exit N
 *	env		read all, print arguments, environment, descriptors, signals, umask, folder, group; exit 0
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static uint64_t octets;
static uint32_t crc = 0xffffffff;
static bool eof;

static void
digest(const unsigned char *p, size_t n)
{
	octets += n;
	for (size_t i = 0; i < n; i++) {
		crc ^= p[i];
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
	}
}

/* At most n octets in one read; false at the end. */
static bool
take(size_t n)
{
	static unsigned char data[65536];
	ssize_t got = read(0, data, n < sizeof(data) ? n : sizeof(data));

	if (got > 0)
		digest(data, (size_t)got);
	eof = got == 0;
	return got > 0;
}

static void
take_all(void)
{
	while (take(SIZE_MAX))
		continue;
}

static void
record(const char *path, const char *mode)
{
	const char *id = getenv("MESSAGE_ID"), *rcpt = getenv("RECIPIENTS");
	char line[4096];
	int fd, n = snprintf(line, sizeof(line), "mode=%s id=%s rcpt=%s octets=%llu crc32=%08x eof=%s\n", mode, id == NULL ? "" : id,
	    rcpt == NULL ? "" : rcpt, (unsigned long long)octets, ~crc, eof ? "yes" : "no");

	if (strcmp(path, "-") == 0)
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (fd == -1 || n < 0 || write(fd, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1) == -1 || close(fd) == -1) {
		perror(path);
		exit(74);
	}
}

static void
spam(void)
{
	static char data[65536];

	memset(data, 'x', sizeof(data));
	for (int i = 0; i < 100 * 16; i++) {
		(void)take(65536);
		if (write(1 + i % 2, data, sizeof(data)) == -1)
			exit(74);
	}
	take_all();
}

static void
say(const char *text)
{
	for (const char *p = text; *p != '\0'; p++) {
		if (*p != '\\' || p[1] == '\0') {
			putchar(*p);
			continue;
		}
		p++;
		putchar(*p == 'n' ? '\n' : *p == 'r' ? '\r' : *p == 'e' ? 27 : *p == '0' ? 0 : *p);
	}
	fflush(stdout);
}

static void
show_surroundings(char **argv)
{
	char folder[1024];
	mode_t mask = umask(0);
	sigset_t set;

	for (int i = 0; argv[i] != NULL; i++)
		printf("arg%d=[%s]\n", i, argv[i]);
	for (char **e = environ; *e != NULL; e++)
		printf("env %s\n", *e);
	printf("fds=");
	for (int fd = 0; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) != -1)
			printf(" %d", fd);
	printf("\nmask=");
	sigprocmask(SIG_BLOCK, NULL, &set);
	for (int n = 1; n < 32; n++)
		if (sigismember(&set, n) == 1)
			printf(" %d", n);
	printf("\nignored=");
	for (int n = 1; n < 32; n++) {
		struct sigaction sa;

		if (sigaction(n, NULL, &sa) == 0 && sa.sa_handler != SIG_DFL)
			printf(" %d", n);
	}
	printf("\numask=%03o\ncwd=%s\nleader=%s\nuid=%d gid=%d groups=%d\n", (unsigned)mask,
	    getcwd(folder, sizeof(folder)) == NULL ? "?" : folder, getpgrp() == getpid() && getsid(0) == getpid() ? "yes" : "no",
	    (int)getuid(), (int)getgid(), getgroups(0, NULL));
}

static void
sleep_for_ever(void)
{
	for (;;)
		pause();
}

int
main(int argc, char **argv)
{
	const char *path, *mode, *dash;
	int n;

	if (argc < 3) {
		fprintf(stderr, "usage: delivery RECORD MODE [ARGUMENT ...]\n");
		return 64;
	}
	path = argv[1];
	mode = argv[2];
	dash = strrchr(mode, '-');
	n = dash == NULL ? 0 : (int)strtol(dash + 1, NULL, 10);
	if (strcmp(mode, "no-read") == 0) {
		record(path, mode);
		return 0;
	}
	if (strcmp(mode, "half-read") == 0) {
		struct stat st;

		if (fstat(0, &st) == 0)
			(void)take((size_t)(st.st_size - lseek(0, 0, SEEK_CUR)) / 2);
		record(path, mode);
		sleep_for_ever();
	}
	if (strcmp(mode, "stubborn") == 0) {
		(void)sigaction(SIGTERM, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
		record(path, mode);
		sleep_for_ever();
	}
	if (strcmp(mode, "drip") == 0)
		while (take(1))
			sleep(1);
	if (strcmp(mode, "spam-output") == 0)
		spam();
	take_all();
	record(path, mode);
	if (strcmp(mode, "background-child") == 0 && fork() == 0) {
		sleep(1000);
		_exit(0);
	}
	if (strcmp(mode, "stop") == 0)
		raise(SIGSTOP);
	if (strcmp(mode, "close-fds") == 0) {
		close(1);
		close(2);
		sleep(1);
	}
	if (strcmp(mode, "env") == 0)
		show_surroundings(argv);
	if (strncmp(mode, "slow-", 5) == 0)
		usleep((useconds_t)n * 1000);
	if (strncmp(mode, "signal-", 7) == 0) {
		kill(getpid(), n);
		sleep_for_ever();
	}
	if (strncmp(mode, "say-", 4) == 0 && argc > 3)
		say(argv[3]);
	return strncmp(mode, "exit-", 5) == 0 || strncmp(mode, "say-", 4) == 0 ? n : 0;
}
