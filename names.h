/*
 * names.h - the names of clients by DNS, looked up in children and kept for a while.
 */
#ifndef NAMES_H
#define NAMES_H

#include "child.h"

#define NAMES_CALLS_MAX 16	/* look-ups at once; whose would be one more has no name for now */

struct names;

/* name: a host name in lower case; "": it has none, or none that is known. Borrowed until it returns. */
typedef void names_done(void *arg, const char *name);

/* Memory of names_get(): the caller's, until done. */
struct names_wait {
	struct names_wait *next;
	names_done	*done;
	void		*arg;
};

/*
 * loop and children (with room for NAMES_CALLS_MAX more) are borrowed until names_free(), after children_end(). look_up: names_look_up(),
 * or a test's. NULL with errno.
 */
struct names	*names_new(struct loop *l, struct children *c, child_fn *look_up);
void		 names_free(struct names *n);
/* Somebody will ask for the name of this address: begin to look it up. */
void		 names_expect(struct names *n, const char *address);
/* done is called exactly once, with the look-up's end (five seconds after its begin at the latest) or from inside this call. */
void		 names_get(struct names *n, const char *address, struct names_wait *w, names_done *done, void *arg);

/*
 * In a child: the name of an address (a string) to standard output. Exit status 0: it has one and that name's addresses include this
 * one (RFC 1912 2.1, RFC 8601 2.7.3).
 */
int		 names_look_up(const void *address);
/*
 * A name as DNS gives it, which may hold any octet (case 9.11), as dst[SMTP_DOMAIN_MAX + 1]: a host name of letters, digits, hyphens and
 * dots, in lower case. false: it is none, or could be taken for an address; dst is then "".
 */
bool		 names_read(struct span s, char *dst);

#endif
