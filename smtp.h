/*
 * smtp.h - the grammar of SMTP as pure functions: command lines, mailboxes, parameters, domains.
 *
 * RFC 5321 4.1.2, 4.1.3; 6531 3.3 (UTF-8); 1870, 3030 (parameters); 3492 (A-labels). No state, no I/O, no allocation.
 */
#ifndef SMTP_H
#define SMTP_H

#include "text.h"

#define SMTP_LOCAL_MAX 64	/* RFC 5321 4.5.3.1.1 */
#define SMTP_DOMAIN_MAX 255	/* RFC 5321 4.5.3.1.2 */
#define SMTP_PATH_MAX 320	/* local-part, @ and domain; the angle brackets and a source route are not counted */
#define SMTP_ADDRESS_MAX 386	/* a mailbox reprinted: each octet of the local-part quoted, in quotes, @, domain */

/* A mailbox, checked and in the one form in which it is compared, stored and handed on. All zero is the null reverse-path. */
struct mailbox {
	char	local[SMTP_LOCAL_MAX + 1];	/* unquoted, case kept; never empty, no control octets */
	char	domain[SMTP_DOMAIN_MAX + 1];	/* lower-case A-labels without a trailing dot, or "[literal]"; "" only for <postmaster> */
};

enum smtp_path {
	SMTP_PATH_OK,
	SMTP_PATH_NULL,		/* <> */
	SMTP_PATH_SYNTAX,
	SMTP_PATH_TOO_LONG,	/* a length of 4.5.3.1 is passed */
	SMTP_PATH_NOT_ASCII,	/* 8-bit octets, and utf8 is false */
	SMTP_PATH_BAD_UTF8,	/* utf8 is true and they are none */
};

/*
 * The path at the start of *rest ("<...>", RFC 5321 4.1.2 Path; one leading space is taken, devices send it); *rest is left
 * after the ">". A source route is checked and dropped. <postmaster> without a domain is taken when postmaster is true (RCPT).
 * On anything but SMTP_PATH_OK *m is all zero.
 */
enum smtp_path	smtp_path(struct span *rest, bool utf8, bool postmaster, struct mailbox *m);
/* A mailbox without brackets, whole: local-part@domain. */
enum smtp_path	smtp_mailbox(struct span s, bool utf8, struct mailbox *m);
/* Reprint: quoted only where the grammar needs it; "" for the null path. dst has SMTP_ADDRESS_MAX + 1 octets. smtp_mailbox() reads it back to the same. */
void		smtp_mailbox_print(const struct mailbox *m, char *dst);

/* What mailboxes are compared by: the local-part with ASCII letters in lower case, @, domain. key has SMTP_PATH_MAX + 1 octets. */
void		smtp_mailbox_key(const struct mailbox *m, char *key);
/* A line of ours that names one address, or all of a domain as @domain, as such a key. false: it is neither. */
bool		smtp_pattern_key(struct span s, char *key);

/*
 * A domain (letters, digits, hyphen, underscore, dots; U-labels when utf8) as dst[SMTP_DOMAIN_MAX + 1]: lower case, A-labels, no trailing dot.
 * Labels are 1 to 63 octets and neither begin nor end with a hyphen. false: it is none.
 */
bool		smtp_domain(struct span s, bool utf8, char *dst);
/* An address literal with its brackets (RFC 5321 4.1.3: IPv4, IPv6:), reprinted in canonical form into dst[SMTP_DOMAIN_MAX + 1]. */
bool		smtp_literal(struct span s, char *dst);
/* The argument of HELO and EHLO (case 4.4): a domain, a bare number, or an address literal. */
bool		smtp_helo(struct span s);

enum smtp_body { SMTP_BODY_7BIT, SMTP_BODY_8BITMIME, SMTP_BODY__MAX };

enum smtp_param {
	SMTP_PARAM_OK,
	SMTP_PARAM_UNKNOWN,	/* 555 5.5.4 */
	SMTP_PARAM_SYNTAX,	/* 501 5.5.4: known but with a bad value, given twice, or not esmtp-keyword["="esmtp-value] */
};

struct mail_params {
	uint64_t	size;		/* SIZE=, 0 when absent */
	enum smtp_body	body;		/* BODY= */
	bool		utf8;		/* SMTPUTF8 */
	bool		auth;		/* AUTH= is there; whose mail it is said to be is of no use to anyone (RFC 4954 5: as if it were <>) */
};

/* The parameters of MAIL, after the path: "" or " K=V ...". A SIZE of more than 20 digits is a syntax error, one over INT64_MAX is INT64_MAX. */
enum smtp_param	smtp_mail_params(struct span s, struct mail_params *out);
/* The parameters of RCPT: none are known yet. */
enum smtp_param	smtp_rcpt_params(struct span s);

/* The argument of BDAT (RFC 3030 2): size and LAST. Sizes over INT64_MAX are INT64_MAX. false: no way to know where the chunk ends. */
bool		smtp_bdat(struct span s, uint64_t *size, bool *last);

/*
 * A first line of a command's output "D.S.D text" with class 4 or 5 (the delivery contract): the code as a string of
 * esc[12] and the text with everything that is not printable ASCII replaced by "?" and cut to size - 1; false when it is none.
 */
bool		smtp_status_line(struct span s, char *esc, char *text, size_t size);

#endif
