/*
 * writer.h - one Maildir writer: a process that writes and syncs what comes as datagrams on its socket.
 *
 * Used by maildir.c only, which starts the writers and hands out the jobs. A job is one datagram: a head, the recipients, and
 * the message's descriptor (SCM_RIGHTS). A batch of jobs is answered by one datagram, an answer each, in the jobs' order.
 */
#ifndef WRITER_H
#define WRITER_H

#include <stdnoreturn.h>

#include "child.h"
#include "message.h"

#define WRITER_BATCH_MAX 64	/* jobs that a writer has, and syncs together */
#define WRITER_JOB_MAX 65536	/* octets of a job; some 200 of the longest addresses, 1500 usual ones */

enum job_kind { JOB_DELIVER, JOB_CHECK };

/* Where a job has failed. */
enum step { STEP_NONE, STEP_JOB, STEP_FOLDER, STEP_CREATE, STEP_WRITE, STEP_SYNC, STEP_RENAME, STEP_FOLDER_SYNC, STEP__MAX };

/* What a job begins with; for each recipient then two length octets, local-part and domain. */
struct job_head {
	uint32_t	number;
	uint32_t	kind;
	uint32_t	rcpts_n;
	uint32_t	zero;
	uint64_t	header_at, size;
};

struct answer {
	uint32_t	number;
	uint32_t	step;
	int32_t		error;		/* errno; 0: done */
};

/* A local-part may name one folder below where the template puts it, and no other. */
bool		writer_is_safe(const struct mailbox *m);
/* In a new process: keep socket and standard error, become user, serve until the other end is closed. */
noreturn void	writer_run(const struct config *config, const struct child_user *user, int socket);

#endif
