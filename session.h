/*
 * session.h - the SMTP protocol without I/O.
 *
 * The owner feeds octets and verdicts and, after each call, (1) writes session.body to the message file, telling of a failure by
 * session_body_failed(); (2) if session.reset_due, sends the request that session_reset_request() makes; (3) if session.waits_for
 * is not REQ_NONE, sends what session_request() makes, and forgets what is in secret; (4) sends out to the client, and closes after it
 * in ST_CLOSING, or begins TLS in ST_TLS.
 */
#ifndef SESSION_H
#define SESSION_H

#include "body.h"
#include "config_address.h"
#include "sasl.h"

#define SESSION_OUT_ROOM 1024	/* session_feed() stops while out has less room: the largest reply (EHLO's), with some to spare */
#define SESSION_INPUT_MIN SASL_LINE_MAX	/* the owner must be able to keep an unfinished line of this length */

enum session_state {
	ST_CONNECT,	/* the agent looks at the address; no 220 yet */
	ST_GREETED,	/* 220 sent */
	ST_READY,	/* EHLO or HELO done, no mail transaction */
	ST_MAIL,	/* MAIL accepted, no recipient yet */
	ST_RCPT,	/* at least one recipient accepted */
	ST_DATA,	/* after 354, until CRLF.CRLF */
	ST_BDAT,	/* inside a chunk, or between two */
	ST_AUTH,	/* the next line is a SASL response */
	ST_TLS,		/* 220 to STARTTLS is on its way; the next octet belongs to TLS */
	ST_CLOSING,	/* the last reply is on its way */
	ST__MAX
};

#define SESSION_COMMANDS 32	/* places for commands, see session_command_name() */

/* What sessions have done since their owner last looked, and zeroed it. */
struct session_counts {
	bool		any;
	unsigned	commands[SESSION_COMMANDS];	/* [0] counts what is no command */
	unsigned	canned[R__MAX];		/* replies */
	unsigned	mail_refused[R__MAX];	/* those of them that a MAIL got */
};

/* What all sessions of an owner work with. */
struct session_io {
	const struct config	*config;	/* borrowed, as the rest */
	const struct listener	*listener;
	struct buf		*out;		/* replies to send */
	struct buf		*body;		/* octets for the message file; at least as much room as a feed is long, and one */
	struct buf		*secret;	/* a SASL response, for the request; room for SASL_RESPONSE_MAX */
	struct session_counts	*counts;	/* NULL: nobody wants to know */
	bool			 has_tls;
	unsigned		 mechanisms;	/* that the listener offers: a bit 1u << m each */
};

struct session {
	const struct session_io	*io;		/* borrowed */
	const struct config	*config;	/* io's */
	const struct listener	*listener;	/* io's */
	uint64_t		 id;
	enum session_state	 state;
	enum request_kind	 waits_for;	/* the agent's answer to this, or REQ_NONE */
	bool			 reset_due;	/* the agent is to forget the transaction */
	enum canned		 reset_why;	/* the refusal of a message that it shall log, or R_NONE */
	bool			 more;		/* octets follow the command that is being run (RFC 2920 3.1) */
	unsigned		 penalty_ms;	/* the owner pauses so long before it reads on, and clears this (cases 3.16, 7.9) */
	unsigned		 errors, junk;	/* since the last accepted message */
	unsigned		 messages;	/* accepted */
	unsigned		 commands;
	size_t			 skipped;	/* octets of an over-long line thrown away so far; 0: not in one */
	char			 skip_verb[6];	/* what it began with */
	bool			 loopback;	/* the client is on this machine: what TLS is for is not needed */
	bool			 tls;
	struct {
		enum sasl_mechanism	mechanism;	/* of the exchange under way */
		bool			done;		/* logged in */
		bool			refused;	/* the client has been told why, and answers that before it gets its 535 (RFC 7628 3.2.3) */
		unsigned		failures;
	} auth;					/* forgotten by STARTTLS */
	struct {
		char	name[SMTP_DOMAIN_MAX + 1];
		bool	esmtp;
	} hello;				/* replaced by EHLO, forgotten by STARTTLS (RFC 3207 4.2) */
	struct {
		struct mail_params	params;
		unsigned		rcpts, refused;	/* accepted and refused RCPTs */
		bool			dead;		/* BDAT refused: chunks are swallowed until LAST or RSET (case 2.6) */
		bool			has_file;
		struct body		body;
		uint64_t		wire;		/* octets of DATA seen */
	} tx;					/* forgotten by RSET, EHLO, and end of data whatever its reply (case 3.11) */
	struct {
		uint64_t	left, size;
		bool		last;
		enum canned	swallow;	/* the chunk is thrown away and answered with this */
	} chunk;
	char			address[ENDPOINT_IP_MAX + 1];
	char			path[SMTP_ADDRESS_MAX + 1];	/* of the MAIL or RCPT that waits */
};

/* Begin: the first request is CONNECT. io is borrowed as long as the session. */
void	session_init(struct session *s, const struct session_io *io, uint64_t id, const char *address);
/* The TLS handshake is done, after STARTTLS or at once: nothing that came in clear is known any more. */
void	session_tls(struct session *s);
/*
 * Feed octets of the client. Returns how many were taken: fewer than n while the agent is asked, while out has no room, when a
 * line is not complete, and in ST_CLOSING. The rest is to be given again, with what came after it.
 */
size_t	session_feed(struct session *s, const char *p, size_t n);
/* The agent's answer to what it waits for. has_file: a message file came with a 354. early: the client has spoken before its 220. */
void	session_verdict(struct session *s, const struct verdict *v, bool has_file, bool early);
/* The agent died. sent: what the session waits for had been sent. Nothing that it knew can be taken up again. */
void	session_agent_lost(struct session *s, bool sent);
/* The message file took no more octets (spool limit, disk full): the message will be refused. */
void	session_body_failed(struct session *s);
/* A deadline of the owner's passed, or the server ends: 421 and ST_CLOSING. */
void	session_end(struct session *s, enum canned why);
/* Whether nothing would be lost by closing now. */
bool	session_is_idle(const struct session *s);
/* Whether the octets fed now are a message's, which come as they can, and not a command line's. */
bool	session_in_body(const struct session *s);

/* The request that s->waits_for stands for; slot, the times, the facts of TLS and AUTH's response are the owner's to fill in. */
void	session_request(const struct session *s, struct request *q);
void	session_reset_request(const struct session *s, struct request *q);
/* The name of the commands counted in place i > 0; NULL: there are no more. */
const char *session_command_name(size_t i);

#endif
