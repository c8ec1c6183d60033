/*
 * listen.c - listening sockets, kept open over a reload.
 */
#include "listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "config_address.h"

#define BACKLOG 1024

int
listen_parse(const char *address, struct sockaddr_storage *ss, socklen_t *len, bool *both)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	struct sockaddr_in *in4 = (struct sockaddr_in *)ss;
	struct endpoint e;

	memset(ss, 0, sizeof(*ss));
	if (!endpoint_parse(text_span(address), &e))
		return -1;
	*both = e.family == 0;
	if (e.family == AF_INET) {
		in4->sin_family = AF_INET;
		in4->sin_port = htons((uint16_t)e.port);
		memcpy(&in4->sin_addr, e.ip, sizeof(in4->sin_addr));
		*len = sizeof(*in4);
	} else {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)e.port);
		memcpy(&in6->sin6_addr, e.ip, sizeof(in6->sin6_addr));
		*len = sizeof(*in6);
	}
	return 0;
}

static int
open_socket(const char *address)
{
	struct sockaddr_storage ss;
	socklen_t len;
	bool both;
	int fd, on = 1, off = 0;

	if (listen_parse(address, &ss, &len, &both) == -1) {
		errno = EINVAL;
		return -1;
	}
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1 && both && errno == EAFNOSUPPORT) {	/* a kernel without IPv6 */
		struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = ((struct sockaddr_in6 *)&ss)->sin6_port };

		memcpy(&ss, &in4, sizeof(in4));
		len = sizeof(in4);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	}
	if (fd == -1)
		return -1;
	/* TCP_NODELAY and SO_KEEPALIVE pass to the accepted sockets */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == -1 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1 ||
	    (ss.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, both ? &off : &on, sizeof(on)) == -1) ||
	    bind(fd, (struct sockaddr *)&ss, len) == -1 || listen(fd, BACKLOG) == -1) {
		int e = errno;

		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

/* The address that a socket got, for its log line: with port 0 the kernel chose one. */
static void
log_listening(const char *listener, int fd)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	char host[INET6_ADDRSTRLEN] = "", text[INET6_ADDRSTRLEN + 16];
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&ss;
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)&ss;
	uint16_t port;

	if (getsockname(fd, (struct sockaddr *)&ss, &len) == -1)
		return;
	if (ss.ss_family == AF_INET6)
		(void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
	else
		(void)inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
	/* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): getsockname() has filled in the port */
	port = ntohs(ss.ss_family == AF_INET6 ? in6->sin6_port : in4->sin_port);
	(void)snprintf(text, sizeof(text), ss.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host,
	    (unsigned)port);
	log_info(0, "listening", LF_STR("listener", listener), LF_STR("address", text));
}

/* What c listens on, the metrics' address last; NULL: there are no more. */
static const char *
address_of(const struct config *c, size_t i)
{
	if (i < c->listeners_n)
		return c->listeners[i].address;
	return i == c->listeners_n && c->metrics_enabled ? c->metrics_address : NULL;
}

static const char *
listen_name(const struct config *c, size_t i)
{
	return i < c->listeners_n ? c->listeners[i].name : "metrics";
}

const struct listen *
listens_find(const struct listen *table, const char *address)
{
	for (size_t i = 0; i < LISTENS_MAX; i++)
		if (table[i].address != NULL && strcmp(table[i].address, address) == 0)
			return &table[i];
	return NULL;
}

int
listens_open(const struct listen *listens, const struct config *c, struct listen *table)
{
	const char *address;

	for (size_t i = 0; (address = address_of(c, i)) != NULL; i++) {
		const struct listen *old = listens_find(listens, address);

		table[i].address = strdup(address);
		table[i].fd = old != NULL ? old->fd : open_socket(address);
		if (table[i].fd != -1 && table[i].address != NULL)
			continue;
		log_error(0, "listen", LF_STR("listener", listen_name(c, i)), LF_STR("address", address), LF_ERRNO(errno),
		    LF_STR("help", errno == EADDRINUSE ? "another program has this address" :
		    errno == EACCES ? "ports below 1024 are for root" : "see the listener's address"));
		for (size_t k = 0; k <= i; k++) {
			if (table[k].fd != -1 && (table[k].address == NULL || listens_find(listens, table[k].address) == NULL))
				close(table[k].fd);
			free(table[k].address);
		}
		return -1;
	}
	return 0;
}

void
listens_replace(struct listen *listens, const struct config *c, struct listen *table)
{
	for (size_t i = 0; i < LISTENS_MAX; i++) {
		const struct listen *l = &listens[i];

		if (l->address != NULL && listens_find(table, l->address) == NULL)
			close(l->fd);
	}
	for (size_t i = 0; address_of(c, i) != NULL; i++)
		if (listens_find(listens, table[i].address) == NULL)
			log_listening(listen_name(c, i), table[i].fd);
	for (size_t i = 0; i < LISTENS_MAX; i++) {
		free(listens[i].address);
		listens[i] = table[i];
	}
}

void
listens_close(struct listen *listens)
{
	for (size_t i = 0; i < LISTENS_MAX; i++) {
		if (listens[i].address == NULL)
			continue;
		close(listens[i].fd);
		free(listens[i].address);
		listens[i] = (struct listen){ 0 };
	}
}

void
listens_leave(const struct listen *listens, int keep)
{
	for (size_t i = 0; i < LISTENS_MAX; i++)
		if (listens[i].address != NULL && listens[i].fd != keep)
			close(listens[i].fd);
}
