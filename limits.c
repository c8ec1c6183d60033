/*
 * limits.c - what is counted over all processes: connections, spool memory, failed authentications.
 *
 * A sum over all rows and then an addition is no atomic step: two fronts may pass a bound together, by one connection or one
 * step of spool memory each. That is the price of needing no lock that a dying process could hold.
 *
 * Failures are in a table of fixed size, eight entries to a set; a new one takes the place of the set's oldest that is not out (case 7.11). An
 * entry keeps no address, only 32 bits of its hash beside the set's number from the same hash, keyed so that nobody can choose
 * who shares a set. Only agents write here, of which there are two while a reload drains the old one: each field is atomic by
 * itself, the entry is not. When both write one entry at the same moment a count may be lost or go to the entry's next owner;
 * every value of every field is a valid one, and what is wrong ends with its window.
 */
#include "limits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "log.h"

#define USER_MAX 512		/* octets of a user that are looked at */

static void *
shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

struct limits *
limits_new(void)
{
	struct limits *l = calloc(1, sizeof(*l));
	int error;

	if (l == NULL)
		return NULL;
	l->rows = shared(LIMITS_ROWS * sizeof(*l->rows));
	l->failures = shared(sizeof(*l->failures));
	if (l->rows != NULL && l->failures != NULL &&
	    getrandom(l->failures->key, sizeof(l->failures->key), 0) == (ssize_t)sizeof(l->failures->key))
		return l;
	error = errno;
	if (l->rows != NULL)
		(void)munmap(l->rows, LIMITS_ROWS * sizeof(*l->rows));
	limits_auth_drop(l);
	free(l);
	errno = error;
	return NULL;
}

int
limits_row_take(struct limits *l)
{
	for (int i = 0; i < LIMITS_ROWS; i++) {
		if (l->rows[i].taken != 0)
			continue;
		l->rows[i].connections = 0;
		l->rows[i].spool = 0;
		l->rows[i].taken = 1;
		return i;
	}
	return -1;
}

void
limits_row_free(struct limits *l, int row)
{
	l->rows[row].connections = 0;
	l->rows[row].spool = 0;
	l->rows[row].taken = 0;
}

bool
limits_connect(struct limits *l, int row, unsigned max)
{
	uint64_t sum = 0;

	for (int i = 0; i < LIMITS_ROWS; i++)
		sum += atomic_load_explicit(&l->rows[i].connections, memory_order_relaxed);
	if (sum >= max)
		return false;
	atomic_fetch_add_explicit(&l->rows[row].connections, 1, memory_order_relaxed);
	return true;
}

void
limits_disconnect(struct limits *l, int row)
{
	atomic_fetch_sub_explicit(&l->rows[row].connections, 1, memory_order_relaxed);
}

uint64_t
limits_spool_used(const struct limits *l)
{
	uint64_t sum = 0;

	for (int i = 0; i < LIMITS_ROWS; i++)
		sum += atomic_load_explicit(&l->rows[i].spool, memory_order_relaxed);
	return sum * LIMITS_SPOOL_STEP;
}

bool
limits_spool(struct limits *l, int row, uint64_t max)
{
	if (limits_spool_used(l) + LIMITS_SPOOL_STEP > max)
		return false;
	atomic_fetch_add_explicit(&l->rows[row].spool, 1, memory_order_relaxed);
	return true;
}

void
limits_unspool(struct limits *l, int row, uint32_t steps)
{
	atomic_fetch_sub_explicit(&l->rows[row].spool, steps, memory_order_relaxed);
}

/* ---- failed authentications ---- */

static uint64_t
rotate(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static void
sip_rounds(uint64_t v[4], unsigned rounds)
{
	while (rounds-- > 0) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] = rotate(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] = rotate(v[2], 32);
	}
}

/* n <= 8 octets, the first the lowest. */
static uint64_t
little_endian(const uint8_t *p, size_t n)
{
	uint64_t x = 0;

	while (n-- > 0)
		x = x << 8 | p[n];
	return x;
}

uint64_t
limits_siphash(const uint8_t key[16], const uint8_t *p, size_t len)
{
	uint64_t k0 = little_endian(key, 8), k1 = little_endian(key + 8, 8), m;
	uint64_t v[4] = { k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573 };
	uint64_t last = (uint64_t)len << 56;

	for (;; p += 8, len -= 8) {
		m = len >= 8 ? little_endian(p, 8) : little_endian(p, len) | last;
		v[3] ^= m;
		sip_rounds(v, 2);
		v[0] ^= m;
		if (len < 8)
			break;
	}
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

bool
limits_network(const char *address, uint8_t octets[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	memcpy(octets, mapped, sizeof(mapped));
	if (inet_pton(AF_INET, address, octets + 12) == 1)
		return true;
	if (inet_pton(AF_INET6, address, octets) != 1)
		return false;
	if (memcmp(octets, mapped, sizeof(mapped)) != 0)
		memset(octets + 8, 0, 8);
	return true;
}

/* What failures are counted by: a network and a user. */
struct who {
	uint64_t	hash;
};

/* false: the address is none. */
static bool
who_is(const struct limits *l, const char *address, const char *user, struct who *w)
{
	uint8_t octets[16 + USER_MAX] = { 0 };
	size_t len = 0;

	if (!limits_network(address, octets))
		return false;
	if (user != NULL)
		len = strnlen(user, USER_MAX);
	memcpy(octets + 16, user == NULL ? "" : user, len);
	w->hash = limits_siphash(l->failures->key, octets, 16 + len);
	return true;
}

static uint32_t
get(const _Atomic uint32_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static void
set(_Atomic uint32_t *p, uint32_t value)
{
	atomic_store_explicit(p, value, memory_order_relaxed);
}

static struct limits_failure *
set_of(const struct limits *l, struct who w)
{
	return l->failures->table[(w.hash >> 32) % LIMITS_FAILURE_SETS];
}

static uint32_t
tag_of(struct who w)
{
	uint32_t tag = (uint32_t)w.hash;

	return tag == 0 ? 1 : tag;
}

static struct limits_failure *
find(const struct limits *l, struct who w)
{
	struct limits_failure *f = set_of(l, w);

	for (size_t i = 0; i < LIMITS_FAILURE_WAYS; i++)
		if (get(&f[i].tag) == tag_of(w))
			return &f[i];
	return NULL;
}

static bool
is_out(const struct limits *l, struct who w, uint32_t now)
{
	const struct limits_failure *f = find(l, w);

	return f != NULL && now < get(&f->until);
}

/* Whether a is forgotten before b: who is out stays longest, else an attacker could get back in by failing as many others. */
static bool
goes_first(const struct limits_failure *a, const struct limits_failure *b, uint32_t now)
{
	bool a_out = now < get(&a->until), b_out = now < get(&b->until);

	return a_out != b_out ? b_out : get(&a->since) < get(&b->since);
}

/* A free place, or that of the one that goes first. */
static struct limits_failure *
place(struct limits *l, struct who w, uint32_t now)
{
	struct limits_failure *f = set_of(l, w), *first = f;

	for (size_t i = 0; i < LIMITS_FAILURE_WAYS; i++) {
		if (get(&f[i].tag) == 0)
			return &f[i];
		if (goes_first(&f[i], first, now))
			first = &f[i];
	}
	return first;
}

static void
count_failure(struct limits *l, struct who w, uint32_t max, uint32_t now)
{
	struct limits_failure *f = find(l, w);
	uint32_t count;

	if (f != NULL && now < get(&f->until))
		return;		/* checks that were under way when it went out make it no longer */
	if (f == NULL || get(&f->until) != 0 || now - get(&f->since) >= LIMITS_AUTH_WINDOW_MS / 1000) {
		if (f == NULL)
			f = place(l, w, now);
		set(&f->until, 0);
		set(&f->count, 0);
		set(&f->since, now);
		set(&f->tag, tag_of(w));
	}
	count = atomic_fetch_add_explicit(&f->count, 1, memory_order_relaxed) + 1;
	if (count >= max)
		set(&f->until, now + LIMITS_AUTH_OUT_MS / 1000);
}

static bool
is_user(const char *user)
{
	return user != NULL && user[0] != '\0';
}

/* Whole seconds, never 0. */
static uint32_t
seconds(int64_t now_ms)
{
	return (uint32_t)(now_ms / 1000) + 1;
}

bool
limits_auth_is_out(const struct limits *l, const char *address, const char *user, unsigned per_ip, int64_t now_ms)
{
	struct who w;

	if (per_ip == 0 || !who_is(l, address, NULL, &w))
		return false;
	if (is_out(l, w, seconds(now_ms)))
		return true;
	return is_user(user) && who_is(l, address, user, &w) && is_out(l, w, seconds(now_ms));
}

void
limits_auth_failed(struct limits *l, const char *address, const char *user, unsigned per_ip, int64_t now_ms)
{
	struct who w;

	if (per_ip == 0 || !who_is(l, address, NULL, &w))
		return;
	count_failure(l, w, per_ip, seconds(now_ms));
	if (is_user(user) && who_is(l, address, user, &w))
		count_failure(l, w, LIMITS_AUTH_PER_USER, seconds(now_ms));
}

void
limits_auth_good(struct limits *l, const char *address, const char *user)
{
	struct limits_failure *f;
	struct who w;

	if (is_user(user) && who_is(l, address, user, &w) && (f = find(l, w)) != NULL)
		set(&f->tag, 0);
}

void
limits_auth_drop(struct limits *l)
{
	/* cannot fail: it is a mapping of ours, whole */
	if (l->failures != NULL)
		(void)munmap(l->failures, sizeof(*l->failures));
	l->failures = NULL;
}

void
limits_lock(struct limits *l)
{
	limits_auth_drop(l);
	if (mprotect(l->rows, LIMITS_ROWS * sizeof(*l->rows), PROT_READ) == -1)
		fatal("limits", "mprotect: %s", strerror(errno));
}
