/*
 * conn.h - one client's connection, and the front that it is of. Internal to the front.
 */
#ifndef CONN_H
#define CONN_H

#include "front.h"
#include "ipc.h"
#include "loop.h"
#include "session.h"
#include "stream.h"

#define IN_SIZE 16384		/* read at once, and kept of one client */
#define OUT_SIZE 4096		/* replies kept of one client */
#define BODY_SIZE (IN_SIZE + 16)	/* a body is never longer than what it came from, but for an octet held back */

enum owes {			/* datagrams that the agent must still get, in this order */
	OWES_RESET = 1,
	OWES_REQUEST = 2,
	OWES_CLOSE = 4,		/* and then the slot is free */
};

struct conn {
	struct stream	 stream;	/* owned; its fd is -1 when there is no client */
	int		 file;		/* the message file, owned; -1: none */
	struct front	*front;
	struct conn	*next;		/* of the free list, or of those that owe the agent something */
	struct loop_slot slot;
	struct session	 session;
	char		*in, *out;	/* blocks of the pools, or NULL */
	char		*secret;	/* as these: the response of an AUTH that has not been sent yet */
	uint32_t	 in_len, out_len, secret_len;
	uint32_t	 number;	/* this slot's */
	uint32_t	 spool;		/* steps counted for the message file */
	uint32_t	 lingered;	/* octets thrown away since our last reply */
	uint8_t		 owes;		/* of enum owes */
	bool		 queued;	/* in front->owing */
	bool		 known;		/* the agent has heard of this session */
	bool		 sent;		/* what the session waits for has been sent */
	bool		 lingering;
	bool		 eof;		/* the client has sent all that it will send */
	bool		 logged_in;	/* front->logins has it */
	uint32_t	 reset_ms;	/* how long the body of the transaction to forget took */
	uint64_t	 file_len;	/* octets of the body written */
	int64_t		 line_at;	/* when the unfinished line began; 0: there is none */
	int64_t		 body_at;	/* when the body, or a chunk that is thrown away, began to come; 0: there is none */
	uint64_t	 body_octets;	/* of it, read since */
	int64_t		 pause_at;	/* until then nothing is read; 0: no pause */
	int64_t		 handshake_at;	/* when TLS began; 0: no handshake is under way, or the session knows of its end */
	int64_t		 asked_us;	/* when the agent began to be waited for; 0: it is not */
};

struct front {
	struct front_args args;
	struct loop	 loop;
	struct loop_slot listen, control, agent;
	int		 agent_fd;	/* owned; -1: none at present */
	struct conn	*conns;		/* max_conns of them */
	struct login	*logins;	/* as many, for an agent that takes over; touched by those that log in */
	struct conn	*free;		/* slots that are free again */
	size_t		 fresh;		/* the first slot that was never used: nothing behind it has been touched */
	struct conn	*owing, **owing_end;
	size_t		 fds;		/* how many descriptors there can be */
	size_t		 max_conns, used;	/* slots in use, those that only owe a CLOSE included */
	struct pool	 in_pool, out_pool, secret_pool;
	struct streams	 streams;
	struct session_io io;
	struct session_counts counts;
	unsigned	 listener_slot, command_slots[SESSION_COMMANDS], request_slots[REQ__MAX];	/* of metrics */
	uint64_t	 serial;	/* of the last session */
	bool		 draining, stopping;
	bool		 abandoned;	/* no agent came */
	int64_t		 stop_at;	/* when stopping: the end of all patience */
	struct buf	 out, body, secret;	/* of the connection at work; empty between two */
	char		 in[IN_SIZE];	/* of the connection at work */
	char		 out_memory[OUT_SIZE];
	char		 body_memory[BODY_SIZE];
	char		 secret_memory[SASL_RESPONSE_MAX];
};

/* A new client; fd is taken. One too many is turned away. */
void	conn_open(struct front *f, int fd, const char *address);
/* The agent's answer to what c waits for; a->fd is taken. */
void	conn_answer(struct conn *c, struct answer *a);
/* The agent is gone: what it was asked will not be answered, and the transaction is lost. */
void	conn_agent_lost(struct conn *c);
/* Shutting down: a client that would lose nothing by it is told, and goes. */
void	conn_stop(struct conn *c);
/* Any client is told what can be sent at once, and is gone. */
void	conn_stop_now(struct conn *c);

/* The agent has got the response of an AUTH, or never will. */
void	conn_drop_secret(struct conn *c);
/* The agent has heard of the end: the slot is free. */
void	conn_free(struct conn *c);

#endif
