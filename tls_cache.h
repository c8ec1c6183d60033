/*
 * tls_cache.h - behind tls.h: the table of sessions that can be resumed, in memory that processes share.
 *
 * No lock, so none that a dying process could keep: a slot is written word by word, and ends in a digest of its words. What two
 * writers mixed, or one left half done, has not its digest, and is as good as an empty slot.
 */
#ifndef TLS_CACHE_H
#define TLS_CACHE_H

#include "tls.h"

#define TLS_CACHE_MS (60 * 60 * 1000)	/* how long a session can be resumed; RFC 5246 F.1.4: a day at most */

struct tls_session {
	uint8_t		id[32];
	uint8_t		secret[48];
	uint16_t	version, suite;
	uint32_t	zero;		/* so that no octet is padding */
	int64_t		expires_at;	/* set by tls_cache_put() */
};

/* Remember s; the oldest of the few that share its place is forgotten. */
void	tls_cache_put(struct tls_cache *cache, const struct tls_session *s, int64_t now_ms);
/* The session with this id (32 octets), into *s; false: there is none, or it is too old. */
bool	tls_cache_get(struct tls_cache *cache, const uint8_t *id, int64_t now_ms, struct tls_session *s);
/* Forget it. */
void	tls_cache_drop(struct tls_cache *cache, const uint8_t *id);

#endif
