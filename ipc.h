/*
 * ipc.h - the datagrams between front and agent, and between the master and its children.
 *
 * One SOCK_SEQPACKET pair per front: a request and its answer are one datagram each, matched by slot and session number;
 * descriptors travel as SCM_RIGHTS. Either end treats the other's datagrams as hostile: what does not parse is EBADMSG, and
 * the receiver closes the pair.
 */
#ifndef IPC_H
#define IPC_H

#include "message.h"

#define IPC_MAX 12288		/* octets of a datagram: the largest is AUTH */
#define IPC_RESPONSE_MAX 9216	/* SASL_RESPONSE_MAX */
#define IPC_TICKET_LEN 16	/* AUTH_TICKET_LEN */

enum request_kind {
	REQ_NONE,
	REQ_CONNECT,	/* a client; also again, without an answer, to an agent that took over (resumed) */
	REQ_AUTH,	/* a SASL response; the answer to 235 brings the login */
	REQ_MAIL,
	REQ_RCPT,
	REQ_DATA,	/* the answer to 354 brings the message file */
	REQ_MESSAGE,	/* the body is complete in the message file */
	REQ_RESET,	/* forget the transaction; no answer */
	REQ_CLOSE,	/* the client is gone; no answer, the slot's next request is CONNECT */
	REQ__MAX
};

/* Who has logged in, with the agent's own word for it: see auth_ticket(). */
struct login {
	char	user[SMTP_ADDRESS_MAX + 1];	/* "": nobody */
	int64_t	expires_time;			/* real time, seconds */
	uint8_t	ticket[IPC_TICKET_LEN];
};

struct request {
	enum request_kind kind;
	uint32_t	slot;		/* of the front's connections */
	uint64_t	session;	/* number, for the log too */
	bool		resumed;			/* CONNECT */
	const struct login *login;	/* resumed CONNECT: borrowed; NULL: nobody has logged in */
	unsigned	mechanism;	/* AUTH, MAIL (of the login; 0: there is none): of enum sasl_mechanism */
	struct span	response;	/* AUTH: borrowed */
	char		helo[SMTP_DOMAIN_MAX + 1];	/* MAIL */
	bool		esmtp, utf8;			/* MAIL */
	unsigned	tls_version, tls_suite;		/* MAIL: as on the wire; 0: in clear */
	char		tls_name[SMTP_DOMAIN_MAX + 1];	/* MAIL: the server name that the client asked for */
	enum smtp_body	body;				/* MAIL */
	char		path[SMTP_ADDRESS_MAX + 1];	/* MAIL ("": the null path), RCPT */
	uint64_t	size;		/* MAIL: as declared; MESSAGE: octets of the body in the file */
	uint32_t	data_ms;	/* MESSAGE, RESET: how long the body took to arrive */
	struct verdict	verdict;	/* RESET after a message that the front refused: what it said; code 0: none */
};

struct answer {
	uint32_t	slot;
	uint64_t	session;
	struct verdict	verdict;
	struct login	login;		/* with a 235 */
	int		fd;		/* the message file with a 354, else -1; the receiver's */
};

/* Pack into and out of a datagram of at most IPC_MAX octets; the length, or -1 with EBADMSG / EMSGSIZE. */
int	ipc_pack_request(const struct request *q, void *dst);
/* login: where a login that comes with it goes, as q points to it afterwards; q->response points into p. */
int	ipc_unpack_request(struct request *q, struct login *login, const void *p, size_t len);
int	ipc_pack_answer(const struct answer *a, void *dst);
int	ipc_unpack_answer(struct answer *a, const void *p, size_t len);

/* Send one datagram with a descriptor (-1: none), which is borrowed. 0, or -1 with errno (EAGAIN: the socket is full). */
int	ipc_send(int sock, const void *p, size_t len, int fd);
/*
 * Receive one datagram, without waiting, into dst of size octets; *fd is -1 or a descriptor that is now the caller's. One that
 * there is no room for in this process is lost (case 13.3).
 * The length, 0 at the end (the other side is gone), or -1 with errno (EAGAIN; EBADMSG: cut, or more than one descriptor).
 */
long	ipc_recv(int sock, void *dst, size_t size, int *fd);
/* A pair of non-blocking sockets with room for many datagrams; 0, or -1 with errno. */
int	ipc_pair(int sv[2]);

/* Between the master and a child: one octet, and for those with a number four more. */
enum control {
	CTL_AGENT,	/* to a front, with a descriptor: its (new) agent */
	CTL_FRONT,	/* to the agent, with a descriptor: a (new) front; number: its listener's index in the config */
	CTL_DRAIN,	/* take no new clients, end when those inside have left */
	CTL_STOP,	/* as DRAIN, and ask those inside to leave */
	CTL__MAX
};

int	ipc_send_control(int sock, enum control c, uint32_t number, int fd);
/* 1, 0 at the end, or -1 with errno. */
int	ipc_recv_control(int sock, enum control *c, uint32_t *number, int *fd);

#endif
