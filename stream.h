/*
 * stream.h - the octets of a client: its socket, in clear or through TLS.
 */
#ifndef STREAM_H
#define STREAM_H

#include "pool.h"
#include "tls.h"

/* What the streams of one front have in common. Where certs has none, there is no TLS. */
struct streams {
	const struct tls_certs	*certs;		/* borrowed until exit, as cache; NULL: none */
	struct tls_cache	*cache;
	enum tls_min		 min_version;
	struct pool		 engines, buffers;
};

struct stream {
	int		 fd;		/* owned; -1: none */
	struct tls	*tls;		/* a block of engines; NULL: in clear */
	void		*buffer;	/* a block of buffers, lent to tls; NULL: it needs none now */
};

/* For at most max streams at once; 0, or -1 with errno. */
int		streams_init(struct streams *e, const struct tls_certs *certs, struct tls_cache *cache, enum tls_min min_version,
		    size_t max);
bool		streams_have_tls(const struct streams *e);

/* Begin TLS: from now on the stream's octets are records. 0, or -1: no entropy. */
int		stream_start_tls(struct streams *e, struct stream *s);
/*
 * As recv(2) and send(2) without waiting. In TLS, 0 is the peer's close_notify, and an end without one is ECONNRESET; a handshake goes
 * on in either (EAGAIN until it is done); EPROTO: it has failed, see tls_error(s->tls). What stream_send() took may still wait as
 * a record.
 */
long		stream_recv(struct streams *e, struct stream *s, void *dst, size_t n);
long		stream_send(struct streams *e, struct stream *s, const void *p, size_t n);
/* Send records that wait; 0, or -1 with errno (EAGAIN). */
int		stream_flush(struct stream *s);
/* Clear text is there that no poll(2) will tell of; records wait for the socket. */
bool		stream_has_input(const struct stream *s);
bool		stream_has_output(const struct stream *s);
bool		stream_in_handshake(const struct stream *s);
/* Nothing more will be sent: close_notify, as far as the socket takes it, and the end of our direction. 0, or -1 with errno. */
int		stream_shut(struct streams *e, struct stream *s);
/* Between two turns: a buffer that holds nothing is given back. */
void		stream_rest(struct streams *e, struct stream *s);
/* Close the socket and wipe the rest; fd is -1 afterwards. */
void		stream_close(struct streams *e, struct stream *s);

#endif
