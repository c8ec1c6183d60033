/*
 * procstat.h - what /proc tells of our processes: CPU time, memory, descriptors.
 */
#ifndef PROCSTAT_H
#define PROCSTAT_H

#include <sys/types.h>

#include "text.h"

/* Of any number of processes. */
struct procstat {
	uint64_t	cpu_us;		/* theirs and that of the children that they have waited for */
	uint64_t	own, shared;	/* resident octets: of each alone; the most that one of them shares, with the others as a rule */
};

/* Add what /proc/PID/stat and /proc/PID/statm say, with so many clock ticks a second and octets a page; false: they say nothing. */
bool	procstat_parse(struct procstat *sum, struct span stat, struct span statm, uint64_t ticks, uint64_t page);
/* The same of a process; one that is gone adds nothing. */
void	procstat_add(struct procstat *sum, pid_t pid);
/* Descriptors that this process has open; 0: not known. */
size_t	procstat_fds(void);

#endif
