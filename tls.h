/*
 * tls.h - TLS of one connection without I/O: records in and out, clear text in and out; certificates and keys.
 *
 * RFC 5246, 4346, 2246 (1.2, 1.1, 1.0), 6066 (SNI). The engine is BearSSL's, and nobody but tls.c knows that: a second engine
 * fits behind these functions. Nothing here reads a socket, blocks or allocates while serving.
 *
 * A connection is a struct tls in the caller's memory and, while octets are on their way, a buffer of TLS_BUFFER_SIZE that the
 * caller lends. An idle connection holds no octets in it, so the caller takes it back (tls_return_buffer) and gives another one,
 * whatever is in it, when the next octet comes.
 */
#ifndef TLS_H
#define TLS_H

#include "config.h"

#define TLS_BUFFER_SIZE (33 * 1024)	/* a record in, a record out */
#define TLS_NAME_MAX 255		/* octets of a server name */

struct tls_certs;	/* certificates and keys of one configuration; read-only once loaded */
struct tls_cache;	/* sessions that can be resumed, in memory that the workers of a listener share */
struct tls;		/* one connection */

/* ---- certificates ---- */

/*
 * Read and check c's cert_files and key_files: the key fits, the chain is in order, dates. With none configured and self_signed,
 * make an EC P-256 key and a certificate for c->hostname. Errors and warnings ("warning: ...") go to errors as config_load()'s do.
 * NULL: an error was reported. Without certificates and without self_signed the result is empty, see tls_certs_n().
 */
struct tls_certs	*tls_certs_load(const struct config *c, struct buf *errors);
/* Wipes the keys. */
void			 tls_certs_free(struct tls_certs *certs);
size_t			 tls_certs_n(const struct tls_certs *certs);
/* Of certificate i: its first name, SHA-256 fingerprint in hex, and the ends of its validity (real time, seconds). For log and metrics. */
struct tls_cert_info {
	const char	*file;			/* borrowed from certs; "" for a self-signed one */
	char		 name[TLS_NAME_MAX + 1];
	char		 sha256[65];
	int64_t		 not_before_time, not_after_time;
	bool		 self_signed;		/* made by us */
};
void			 tls_certs_info(const struct tls_certs *certs, size_t i, struct tls_cert_info *info);
/* Whether a file is not what it was when it was read (size, time or inode of what the name leads to; Kubernetes swaps a link on the way). */
bool			 tls_certs_changed(const struct tls_certs *certs);
/* What the files are now is known: only a further change counts as one. */
void			 tls_certs_seen(struct tls_certs *certs);

/* ---- sessions to resume ---- */

/* Shared memory with room for so many sessions; NULL with errno. It is made before the workers are forked. */
struct tls_cache	*tls_cache_new(size_t sessions);
void			 tls_cache_free(struct tls_cache *cache);

/* ---- one connection ---- */

enum tls_status {
	TLS_HANDSHAKE,
	TLS_OPEN,
	TLS_CLOSED,	/* close_notify was received or sent, and nothing more comes */
	TLS_FAILED,	/* alert, broken record, no common version or suite: tls_error() says which */
};

/*
 * Closed or failed, there may still be something to say: the caller sends what tls_to_send() has, an alert, and then closes the
 * socket. A refusal in the handshake is TLS_HANDSHAKE until its alert is sent. A socket that ends while the status is neither was
 * cut off: what has come is not whole.
 */

/* Octets of a struct tls, which the caller allocates and hands over all zero (or as tls_clear() left it). */
size_t		tls_size(void);
/* Begin the server's side. certs (not empty) and cache (NULL: no resumption) are borrowed until tls_clear(). 0, or -1: no entropy. */
int		tls_accept(struct tls *t, const struct tls_certs *certs, struct tls_cache *cache, enum tls_min min_version);
/* Wipe it; the buffer, if any, is the caller's again. */
void		tls_clear(struct tls *t);

/* Lend a buffer of TLS_BUFFER_SIZE octets; every function below but tls_status() and those on facts needs one. */
void		tls_lend_buffer(struct tls *t, void *buffer);
/* Take it back: the buffer, or NULL when octets are in it and it must stay. */
void		*tls_return_buffer(struct tls *t);

enum tls_status	tls_status(const struct tls *t);
/* Where octets of the socket go: *len octets of room, 0 when none are wanted now. Then tls_received(n), 0 < n <= *len. */
char		*tls_receive_room(struct tls *t, size_t *len);
void		tls_received(struct tls *t, size_t n);
/* What is to be sent on the socket, before anything else is done, whatever the status. Then tls_sent(n), 0 < n <= len. */
struct span	tls_to_send(struct tls *t);
void		tls_sent(struct tls *t, size_t n);
/* Clear text that has come. Then tls_taken(n), 0 < n <= len, which wipes it. */
struct span	tls_clear_text(struct tls *t);
void		tls_taken(struct tls *t, size_t n);
/* Clear text to encrypt: how much was taken (0: send first). tls_flush() makes a record of it. */
size_t		tls_write(struct tls *t, const char *p, size_t n);
void		tls_flush(struct tls *t);
/* Send close_notify: tls_to_send() has it. */
void		tls_close(struct tls *t);

/* ---- facts, once it is open ---- */

/* The version as on the wire (0x0303) and the suite (0xc02b); 0 before. */
unsigned	tls_version(const struct tls *t);
unsigned	tls_suite(const struct tls *t);
/* The name asked for (SNI), lower case; "" when none was, or one that is no host name. */
const char	*tls_server_name(const struct tls *t);
bool		tls_is_resumed(const struct tls *t);
/* Why it failed; "" when it did not. A constant. */
const char	*tls_error(const struct tls *t);
/* Names for logs and fields: "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256" (as OpenSSL calls it); "" for 0, "unknown" for others. */
const char	*tls_version_name(unsigned version);
const char	*tls_suite_name(unsigned suite);

#endif
