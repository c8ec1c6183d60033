/*
 * listen.h - listening sockets, kept open over a reload.
 */
#ifndef LISTEN_H
#define LISTEN_H

#include <sys/socket.h>

#include "config.h"

#define LISTENS_MAX (CONFIG_LISTENERS_MAX + 1)	/* the metrics' address, too */

struct listen {
	char	*address;	/* owned; NULL: the place is free */
	int	 fd;		/* owned */
};

/* Each function that follows has a table of LISTENS_MAX of these. */

/*
 * The sockets for c in a new table: those that are open already, and new ones. -1: one could not be opened, and nothing has changed.
 */
int	listens_open(const struct listen *listens, const struct config *c, struct listen *table);
/* Put the new table, which listens_open() has filled, in place; sockets that it does not have are closed. */
void	listens_replace(struct listen *listens, const struct config *c, struct listen *table);
void	listens_close(struct listen *listens);
/* In a child: close all descriptors but one, which is its own. */
void	listens_leave(const struct listen *listens, int keep);
const struct listen *listens_find(const struct listen *table, const char *address);

/* "host:port" as the configuration has checked it: a numeric address, [IPv6], or nothing for both families. 0, or -1. */
int	listen_parse(const char *address, struct sockaddr_storage *ss, socklen_t *len, bool *both);

#endif
