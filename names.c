/*
 * names.c - the names of clients by DNS, looked up in children and kept for a while.
 *
 * The C library's resolver waits for its servers, so it runs in a child (case 11.8), which is ended when that takes too long. Clients of
 * one address share a look-up, and what it has found.
 */
#include "names.h"

#include <netdb.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config_address.h"

#define LOOK_UP_MS 5000		/* musl asks once more after two and a half */
#define KNOWN_MS (10 * 60 * 1000)
#define UNKNOWN_MS (60 * 1000)
#define ENTRIES_MAX 256
#define NAME_MAX_LEN 253	/* RFC 1035 3.1: 255 octets with the lengths of its labels */

struct entry {
	struct names	*names;
	char		 address[ENDPOINT_IP_MAX + 1];	/* "": the place is free */
	char		 name[SMTP_DOMAIN_MAX + 1];	/* "": unknown */
	bool		 running;
	int64_t		 until_at;	/* while it is not running: when to look again */
	struct names_wait *waits;
};

struct names {
	struct loop	*loop;
	struct children	*children;
	child_fn	*look_up;
	size_t		 running;
	struct entry	 entries[ENTRIES_MAX];
};

_Static_assert(ENTRIES_MAX > NAMES_CALLS_MAX, "not all are being looked up");

/* ---- a name ---- */

bool
names_read(struct span s, char *dst)
{
	const char *last;

	if (smtp_domain(s, false, dst) && strlen(dst) <= NAME_MAX_LEN && strchr(dst, '_') == NULL) {
		last = strrchr(dst, '.');
		if (is_class(last == NULL ? dst[0] : last[1], C_ALPHA))
			return true;
	}
	dst[0] = '\0';
	return false;
}

/* Neither list has a port, and both end with the process. */
int
names_look_up(const void *address)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM }, *client, *of_name;
	char said[NI_MAXHOST], name[SMTP_DOMAIN_MAX + 1];

	/* without this file musl asks a server on this machine, and waits in vain if there is none */
	if (access("/etc/resolv.conf", R_OK) == -1 || getaddrinfo(address, NULL, &hints, &client) != 0 ||
	    getnameinfo(client->ai_addr, client->ai_addrlen, said, sizeof(said), NULL, 0, NI_NAMEREQD) != 0 ||
	    !names_read(text_span(said), name))
		return 1;
	hints = (struct addrinfo){ .ai_family = client->ai_family, .ai_socktype = SOCK_STREAM };
	if (getaddrinfo(name, NULL, &hints, &of_name) != 0)
		return 1;
	for (; of_name != NULL; of_name = of_name->ai_next)
		if (of_name->ai_addrlen == client->ai_addrlen && memcmp(of_name->ai_addr, client->ai_addr, client->ai_addrlen) == 0)
			return write(STDOUT_FILENO, name, strlen(name)) == -1;
	return 1;
}

/* ---- the cache ---- */

static void
looked_up(void *arg, const struct child_result *r)
{
	struct entry *e = arg;
	struct names *n = e->names;
	struct names_wait *w = e->waits, *next;
	char name[SMTP_DOMAIN_MAX + 1] = "";

	if (r->status == 0)
		(void)names_read(r->output, name);	/* else it is "" */
	memcpy(e->name, name, sizeof(e->name));
	e->until_at = n->loop->now_ms + (name[0] == '\0' ? UNKNOWN_MS : KNOWN_MS);
	e->running = false;
	e->waits = NULL;
	n->running--;
	for (; w != NULL; w = next) {
		next = w->next;		/* w may end with its done */
		w->done(w->arg, name);
	}
}

/* What is known of an address, or is being looked up; NULL: nothing can be found out now. */
static struct entry *
entry_of(struct names *n, const char *address)
{
	struct entry *end = n->entries + ENTRIES_MAX, *e = n->entries, *first = NULL;	/* to be forgotten: what is of use for the least time */

	if (address[0] == '\0')
		return NULL;
	for (; e < end && strcmp(e->address, address) != 0; e++)
		if (!e->running && (first == NULL || e->until_at < first->until_at))
			first = e;
	if (e < end && (e->running || n->loop->now_ms < e->until_at))
		return e;
	if (e == end)
		e = first;
	if (n->running == NAMES_CALLS_MAX)
		return NULL;
	*e = (struct entry){ .names = n };
	if (text_copy(e->address, sizeof(e->address), text_span(address)) == -1)
		return NULL;
	if (child_call(n->children, n->look_up, e->address, LOOK_UP_MS, looked_up, e) == NULL) {
		e->address[0] = '\0';
		return NULL;
	}
	e->running = true;
	n->running++;
	return e;
}

/* ---- the interface ---- */

struct names *
names_new(struct loop *l, struct children *c, child_fn *look_up)
{
	struct names *n = calloc(1, sizeof(*n));

	if (n == NULL)
		return NULL;
	n->loop = l;
	n->children = c;
	n->look_up = look_up;
	return n;
}

void
names_free(struct names *n)
{
	free(n);
}

void
names_expect(struct names *n, const char *address)
{
	(void)entry_of(n, address);
}

void
names_get(struct names *n, const char *address, struct names_wait *w, names_done *done, void *arg)
{
	struct entry *e = entry_of(n, address);

	if (e == NULL || !e->running) {
		done(arg, e == NULL ? "" : e->name);
		return;
	}
	*w = (struct names_wait){ .next = e->waits, .done = done, .arg = arg };
	e->waits = w;
}
