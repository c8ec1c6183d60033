/*
 * agent_client.h - what the agent knows of its fronts, their clients and the transactions of those, and how they are answered.
 * Internal to agent*.c.
 */
#ifndef AGENT_CLIENT_H
#define AGENT_CLIENT_H

#include "agent.h"
#include "config_address.h"
#include "ipc.h"
#include "loop.h"
#include "message.h"

#define AGENT_FRONTS_MAX (CONFIG_LISTENERS_MAX * CONFIG_WORKERS_MAX)
#define TRAPS_MAX 256		/* networks whose lessons are counted */

/* A mail transaction of a session. It outlives the session while its message is being delivered. */
struct work {
	struct tx	 tx;
	struct agent	*agent;
	struct front	*front;		/* NULL: the session or its front is gone */
	uint32_t	 slot;
	char		 address[ENDPOINT_IP_MAX + 1];
	char		 own_address[ENDPOINT_IP_MAX + 1];
	char		 helo[SMTP_DOMAIN_MAX + 1];
	char		 auth_user[SMTP_ADDRESS_MAX + 1];
	char		 tls_name[SMTP_DOMAIN_MAX + 1];
	bool		 relays;	/* the client may send to domains that are not ours */
	bool		 busy;		/* deliver_check(), deliver_start() or the filters have it */
	uint64_t	 left_octets;	/* in agent->left_octets */
	enum metrics_reason reason;	/* why a filter refuses it; OTHER: none does */
	bool		 discarded;	/* a filter has thrown it away, and the client is told 250 */
	char		 score[24];	/* of the spam checkers, for the log; "": none */
	char		 filters[256];	/* what they had to say */
	size_t		 rcpts_octets;	/* of all recipients */
	size_t		 unknown_n;	/* recipients that are unknown, which is told at the end of data */
	int		 trap_fd;	/* owned: the message as it came, for the spam trap; -1: none */
	uint64_t	 trap_size;	/* as tx.size */
	bool		 delivering;	/* deliver_start() has been called */
	unsigned	 listener_slot;	/* of metrics */
	struct mailbox	 rcpt;		/* that is being checked */
	bool		 rcpt_unknown;
	int64_t		 started_us, filters_us, delivery_us;	/* when each began; filters_us: how long they took */
	uint32_t	 data_ms;
};

struct client {
	uint64_t	 session;	/* 0: the slot is free */
	struct work	*work;		/* owned, unless it is abandoned; NULL: no transaction */
	struct exchange	*exchange;	/* auth_check()'s until it is done; NULL: none */
	bool		 trusted;	/* it relays without AUTH */
	bool		 logged_in;	/* as front->users has it */
	int64_t		 expires_time;	/* of the login */
	uint16_t	 port;
	char		 address[ENDPOINT_IP_MAX + 1];
	char		 own_address[ENDPOINT_IP_MAX + 1];	/* that it has connected to */
};

struct front {
	struct agent	*agent;		/* NULL: the place is free */
	struct loop_slot slot;
	int		 fd;		/* owned */
	const struct listener *listener;
	unsigned	 listener_slot;	/* of metrics */
	struct client	*clients;	/* max_connections, mapped */
	char		(*users)[SMTP_ADDRESS_MAX + 1];	/* as many, mapped: who has logged in; touched by those that do */
	struct buf	 queue;		/* answers that its socket had no room for: length and datagram, one after the other */
};

/* How many messages of a network were learned from in this hour (case 11.28). */
struct trap {
	uint8_t		 network[16];	/* by limits_network() */
	unsigned	 n;		/* 0: the place is free */
	int64_t		 since_at;
};

struct agent {
	struct agent_args args;
	const struct config *config;
	struct loop	 loop;
	struct loop_slot control;
	struct children	*children;
	struct deliver	*deliver;
	struct http	*http;		/* NULL: nothing needs it */
	struct oauth	*oauth;		/* NULL: no issuer is configured */
	struct auth	*auth;
	struct senders	*senders;
	struct filters	*filters;
	struct trap	 traps[TRAPS_MAX];
	struct front	 fronts[AGENT_FRONTS_MAX];
	size_t		 fronts_n;
	size_t		 left_n;	/* transactions that are abandoned and still at work */
	uint64_t	 left_octets;	/* of their message files */
	int64_t		 no_space_at;	/* when that was last logged; 0: never */
	uint32_t	 serial;	/* of the last message's id */
	bool		 draining;
};

/* The answer to what a session waits for. fd: the message file that comes with a 354; -1: none. */
void	answer_verdict(struct front *f, uint32_t slot, uint64_t session, const struct verdict *v, int fd);
void	answer_send(struct front *f, const struct answer *a);
/* Send what its socket had no room for. */
void	answer_flush(struct front *f);

/* What is known of a client and its next transaction, for work_free() or work_forget(). NULL: no memory. */
struct work *work_new(struct front *f, const struct request *q);
void	work_free(struct work *w);
/* The client's transaction ends; what deliver has is freed when deliver is done with it. */
void	work_forget(struct client *c);

#endif
