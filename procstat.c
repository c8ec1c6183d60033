/*
 * procstat.c - what /proc tells of our processes: CPU time, memory, descriptors.
 */
#include "procstat.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define FILE_MAX 1024		/* octets of a file that are read; what is wanted is within them */

/* Fields of stat behind the name, counted from 1 as proc(5) does: the name is 2. */
enum { UTIME = 14, STIME = 15, CUTIME = 16, CSTIME = 17 };

/* The number at place at of a line of words; false: there is none. */
static bool
field(struct span line, unsigned at, uint64_t *n)
{
	struct span word = { 0 };

	while (at-- > 0)
		if (!text_token(&line, " ", &word))
			return false;
	if (word.len > 0 && word.p[word.len - 1] == '\n')
		word.len--;
	return text_u64(word, UINT64_MAX / 1000000 / 4, n) == 0;
}

bool
procstat_parse(struct procstat *sum, struct span stat, struct span statm, uint64_t ticks, uint64_t page)
{
	uint64_t time[4], resident, shared;
	struct span rest = { 0 };

	/* the name is in parentheses, and may hold some of its own, and spaces */
	for (size_t i = 0; i < stat.len; i++)
		if (stat.p[i] == ')')
			rest = text_sub(stat, i + 2, stat.len);
	for (unsigned i = 0; i < COUNT(time); i++)
		if (!field(rest, UTIME + i - 2, &time[i]))
			return false;
	if (!field(statm, 2, &resident) || !field(statm, 3, &shared) || shared > resident)
		return false;
	sum->cpu_us += (time[0] + time[1] + time[2] + time[3]) * 1000000 / ticks;
	sum->own += (resident - shared) * page;
	if (shared * page > sum->shared)
		sum->shared = shared * page;
	return true;
}

/* The beginning of /proc/PID/name; empty: it cannot be read. */
static struct span
read_file(pid_t pid, const char *name, char text[FILE_MAX])
{
	char path[64];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return (struct span){ 0 };
	n = read(fd, text, FILE_MAX);
	close(fd);
	return (struct span){ text, n > 0 ? (size_t)n : 0 };
}

void
procstat_add(struct procstat *sum, pid_t pid)
{
	char stat[FILE_MAX], statm[FILE_MAX];
	long ticks = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE);

	if (ticks > 0 && page > 0)
		(void)procstat_parse(sum, read_file(pid, "stat", stat), read_file(pid, "statm", statm), (uint64_t)ticks, (uint64_t)page);
}

size_t
procstat_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	size_t n = 0;

	if (d == NULL)
		return 0;
	for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d))
		n += e->d_name[0] != '.';
	(void)closedir(d);
	return n > 0 ? n - 1 : 0;	/* not the one that reads it */
}
