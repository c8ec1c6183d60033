/*
 * tls_cache.c - sessions that can be resumed, in a table that processes share without a lock.
 */
#include "tls_cache.h"

#include <assert.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include <bearssl.h>

#define WAYS 4			/* slots that a session may be in */
#define WORDS (sizeof(struct tls_session) / sizeof(uint32_t))
#define DIGEST_WORDS 4		/* of SHA-256: 128 bits */

struct slot {
	_Atomic uint32_t	words[WORDS + DIGEST_WORDS];
};

struct tls_cache {
	size_t		size;		/* octets of the mapping */
	size_t		sets;
	struct slot	slots[];	/* sets * WAYS */
};

static_assert(sizeof(struct tls_session) == 96, "no padding: its octets are compared and digested");
static_assert(ATOMIC_INT_LOCK_FREE == 2, "words are shared between processes");

static void
digest(const struct tls_session *s, uint32_t out[DIGEST_WORDS])
{
	br_sha256_context h;
	uint8_t octets[br_sha256_SIZE];

	br_sha256_init(&h);
	br_sha256_update(&h, s, sizeof(*s));
	br_sha256_out(&h, octets);
	memcpy(out, octets, DIGEST_WORDS * sizeof(*out));
	explicit_bzero(&h, sizeof(h));
}

/* What is in a slot; false: nothing, or nothing whole. */
static bool
slot_read(struct slot *slot, struct tls_session *s)
{
	uint32_t words[WORDS + DIGEST_WORDS] = { 0 }, want[DIGEST_WORDS];
	bool whole;

	for (size_t i = 0; i < COUNT(words); i++)
		words[i] = atomic_load_explicit(&slot->words[i], memory_order_relaxed);
	memcpy(s, words, sizeof(*s));
	digest(s, want);
	whole = memcmp(words + WORDS, want, sizeof(want)) == 0;
	explicit_bzero(words, sizeof(words));
	if (!whole)
		explicit_bzero(s, sizeof(*s));
	return whole;
}

/* s NULL: empty it. */
static void
slot_write(struct slot *slot, const struct tls_session *s)
{
	uint32_t words[WORDS + DIGEST_WORDS] = { 0 };

	if (s != NULL) {
		memcpy(words, s, sizeof(*s));
		digest(s, words + WORDS);
	}
	for (size_t i = 0; i < COUNT(words); i++)
		atomic_store_explicit(&slot->words[i], words[i], memory_order_relaxed);
	explicit_bzero(words, sizeof(words));
}

/* The slots that a session may be in. Ids that we gave are random octets; those that a client makes up only read. */
static struct slot *
set_of(struct tls_cache *cache, const uint8_t *id)
{
	uint32_t n;

	memcpy(&n, id, sizeof(n));
	return cache->slots + n % cache->sets * WAYS;
}

static struct slot *
find(struct tls_cache *cache, const uint8_t *id, struct tls_session *s)
{
	struct slot *set = set_of(cache, id);

	for (size_t i = 0; i < WAYS; i++)
		if (slot_read(&set[i], s) && memcmp(s->id, id, sizeof(s->id)) == 0)
			return &set[i];
	explicit_bzero(s, sizeof(*s));
	return NULL;
}

void
tls_cache_put(struct tls_cache *cache, const struct tls_session *s, int64_t now_ms)
{
	struct slot *set = set_of(cache, s->id), *to = NULL;
	struct tls_session kept, stored = *s;
	int64_t oldest = INT64_MAX;

	for (size_t i = 0; i < WAYS && oldest > now_ms; i++) {
		int64_t expires_at = slot_read(&set[i], &kept) ? kept.expires_at : INT64_MIN;

		if (to == NULL || expires_at < oldest) {
			oldest = expires_at;
			to = &set[i];
		}
	}
	stored.zero = 0;
	stored.expires_at = now_ms + TLS_CACHE_MS;
	slot_write(to, &stored);
	explicit_bzero(&kept, sizeof(kept));
	explicit_bzero(&stored, sizeof(stored));
}

bool
tls_cache_get(struct tls_cache *cache, const uint8_t *id, int64_t now_ms, struct tls_session *s)
{
	if (find(cache, id, s) == NULL)
		return false;
	if (now_ms < s->expires_at && s->expires_at - now_ms <= TLS_CACHE_MS)
		return true;
	explicit_bzero(s, sizeof(*s));
	return false;
}

void
tls_cache_drop(struct tls_cache *cache, const uint8_t *id)
{
	struct tls_session s;
	struct slot *slot = find(cache, id, &s);

	if (slot != NULL)
		slot_write(slot, NULL);
	explicit_bzero(&s, sizeof(s));
}

struct tls_cache *
tls_cache_new(size_t sessions)
{
	size_t sets = sessions / WAYS + 1, size = sizeof(struct tls_cache) + sets * WAYS * sizeof(struct slot);
	struct tls_cache *cache = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (cache == MAP_FAILED)
		return NULL;
	/* a kernel without it: cores are switched off anyway */
	(void)madvise(cache, size, MADV_DONTDUMP);
	cache->size = size;
	cache->sets = sets;
	return cache;
}

void
tls_cache_free(struct tls_cache *cache)
{
	size_t size;

	if (cache == NULL)
		return;
	/* not wiped: other processes may still use it, and the kernel gives zeroed pages to whoever comes next */
	size = cache->size;
	(void)munmap(cache, size);
}
