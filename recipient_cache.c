/*
 * recipient_cache.c - what recipient_command has said of whom, for a while.
 */
#include "recipient_cache.h"

#include <stdlib.h>

struct entry {
	char		address[SMTP_ADDRESS_MAX + 1];
	int64_t		until_at;	/* when it no longer counts */
	struct verdict	verdict;
};

struct recipient_cache {
	int64_t		keep_ms;
	size_t		n;
	struct entry	entries[RECIPIENT_CACHE_MAX];
};

struct recipient_cache *
recipient_cache_new(int64_t keep_ms)
{
	struct recipient_cache *c = calloc(1, sizeof(*c));

	if (c != NULL)
		c->keep_ms = keep_ms;
	return c;
}

void
recipient_cache_free(struct recipient_cache *c)
{
	free(c);
}

static struct entry *
find(struct recipient_cache *c, const char *address)
{
	for (size_t i = 0; i < c->n; i++)
		if (strcmp(c->entries[i].address, address) == 0)
			return &c->entries[i];
	return NULL;
}

/* Unknown ones first, of which anybody can make as many as there are places; then what is of use for the least time. */
static bool
goes_before(const struct entry *a, const struct entry *b)
{
	if ((a->verdict.code != 0) != (b->verdict.code != 0))
		return a->verdict.code != 0;
	return a->until_at < b->until_at;
}

const struct verdict *
recipient_cache_find(struct recipient_cache *c, const struct mailbox *m, int64_t now_ms)
{
	char address[SMTP_ADDRESS_MAX + 1];
	const struct entry *e;

	smtp_mailbox_print(m, address);
	e = find(c, address);
	return e != NULL && now_ms < e->until_at ? &e->verdict : NULL;
}

void
recipient_cache_keep(struct recipient_cache *c, const struct mailbox *m, const struct verdict *v, int64_t now_ms)
{
	int64_t keep_ms = c->keep_ms;
	char address[SMTP_ADDRESS_MAX + 1];
	struct entry *e;

	if (v->code != 0 && !verdict_is_unknown(v))
		return;
	if (v->code != 0 && keep_ms > RECIPIENT_CACHE_UNKNOWN_MS)
		keep_ms = RECIPIENT_CACHE_UNKNOWN_MS;
	smtp_mailbox_print(m, address);
	e = find(c, address);
	if (e == NULL && c->n < RECIPIENT_CACHE_MAX) {
		e = &c->entries[c->n++];
	} else if (e == NULL) {
		e = &c->entries[0];
		for (size_t i = 1; i < c->n; i++)
			if (goes_before(&c->entries[i], e))
				e = &c->entries[i];
	}
	memcpy(e->address, address, strlen(address) + 1);
	e->until_at = now_ms + keep_ms;
	e->verdict = *v;
}
