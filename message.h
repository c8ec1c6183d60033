/*
 * message.h - a mail transaction and its message file.
 *
 * The message file is unnamed (memfd, or O_TMPFILE in spool_dir). Lines end in LF. Its first MESSAGE_ROOM octets are left for
 * the header fields that we put in front; the body as received starts there. What is delivered begins at header_at.
 */
#ifndef MESSAGE_H
#define MESSAGE_H

#include "config.h"
#include "smtp.h"

#define MESSAGE_ROOM 65536	/* a hole until it is used; whole pages, so that the body is aligned */
#define MESSAGE_TRACE_MAX 4096	/* of it, for the trace fields */
#define MESSAGE_ID_LEN 20

struct verdict {
	int	 code;		/* 250, 451, ...; 0: none yet */
	char	 esc[12];	/* "2.0.0" */
	char	 text[400];	/* printable ASCII, one line */
};

void	verdict_set(struct verdict *v, int code, const char *esc, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* Whether it refuses a recipient's address, for everybody and not only now (RFC 3463 3.2; 7505 4.2): 5.1.7 and 5.1.8 are the sender's. */
bool	verdict_is_unknown(const struct verdict *v);

/* What the agent knows of one mail transaction; the delivery agents and the filters read it. */
struct tx {
	char			 id[MESSAGE_ID_LEN + 1];
	uint64_t		 session;	/* for log lines */
	const struct config	*config;	/* borrowed until exit */
	const struct listener	*listener;	/* borrowed until exit */
	char			 client_name[SMTP_DOMAIN_MAX + 1];	/* by DNS, and its addresses include the client's; "": not known */
	uint16_t		 client_port;	/* 0: not known */
	const char		*client_address;	/* these eight are borrowed from the session until the transaction ends; "" is absent */
	const char		*own_address;	/* that the client has connected to */
	const char		*helo;
	const char		*auth_user;
	const char		*auth_type;	/* the mechanism of its login */
	const char		*tls_version;
	const char		*tls_cipher;
	const char		*tls_name;	/* that the client asked for (SNI) */
	bool			 abandoned;	/* nobody waits for its outcome any more: what has not begun does not begin */
	bool			 esmtp;		/* EHLO, not HELO */
	struct mailbox		 sender;	/* all zero: <> */
	struct mailbox		*rcpts;		/* owned; without duplicates */
	size_t			 rcpts_n, rcpts_max;
	bool			 foreign;	/* they are of domains that are not ours */
	enum smtp_body		 body;
	uint64_t		 declared_size;	/* SIZE= of MAIL; 0: none */
	bool			 utf8;		/* SMTPUTF8 */
	int			 fd;		/* the message file, owned; -1: none */
	uint64_t		 header_at;	/* offset of the first header field to deliver; 0: MESSAGE_ROOM, nothing is in front yet */
	uint64_t		 size;		/* octets of the file, MESSAGE_ROOM included */
};

/* An unnamed file in spool_dir, or in memory when that is ""; -1 with errno. The caller owns it. */
int	message_open(const char *spool_dir);
/*
 * The trace fields: Return-Path:, Delivered-To: when there is one recipient, and Received: (RFC 5321 4.4). MESSAGE_TRACE_MAX octets at most.
 * now: real time, seconds.
 */
void	message_trace_fields(const struct tx *tx, time_t now, struct buf *out);
/* Write them in front of header_at and move it there. 0, or -1 with errno. */
int	message_trace(struct tx *tx, time_t now);
/*
 * A copy that nobody else holds takes the place of tx->fd, from message_at() on: a front may write to the file that it was given, and
 * only a memory file can be sealed. 0, or -1 with errno.
 */
int	message_private(struct tx *tx);
/*
 * Where the message begins. A first line that begins with a blank is no header field and would continue the last one that is put in front:
 * it gets an empty line in front of it (case 9.9). Once, before anything reads the message. 0, or -1 with errno.
 */
int	message_begin(struct tx *tx);
/* Its first octet as it is now, with what has been put in front. */
uint64_t message_at(const struct tx *tx);
/*
 * message_trace(), and nothing can change a memory file from now on, whoever holds it. 0, or -1 with errno; EBUSY: somebody has it mapped,
 * or wrote to the trace fields or continues them, or the kernel does not let go of a page of it (seen in one of 100,000 messages).
 */
int	message_seal(struct tx *tx, time_t now);
/* "Delivered-To: rcpt\n", which each copy of a message with several recipients begins with. */
void	message_delivered_to(const struct mailbox *rcpt, struct buf *out);

#endif
