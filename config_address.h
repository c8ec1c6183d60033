/*
 * config_address.h - addresses as the configuration has them: to listen on, to connect to, networks; and peers'.
 */
#ifndef CONFIG_ADDRESS_H
#define CONFIG_ADDRESS_H

#include "config.h"

#define ENDPOINT_IP_MAX 45	/* an address as text: INET6_ADDRSTRLEN without the NUL */

struct sockaddr_storage;

/* What a listener's address means; family 0 is both. */
struct endpoint {
	int		family;
	uint8_t		ip[16];
	unsigned	port;
};

/* "host:port": a numeric address, [IPv6], or nothing for both families. */
bool	endpoint_parse(struct span s, struct endpoint *e);
/* Whether both cannot be bound: a port once for each address, the wildcard being every one of its family. */
bool	endpoint_collides(const struct endpoint *a, const struct endpoint *b);
bool	endpoint_is_loopback(const struct endpoint *e);
/* A peer's address as text, IPv4 mapped into IPv6 as IPv4; "" when it is neither. Returns its port, 0 then. */
unsigned endpoint_peer(const struct sockaddr_storage *ss, char ip[ENDPOINT_IP_MAX + 1]);

/* Whether s is an address to fetch from, http or https; *safe: and nobody on the way can change what comes: https, or this machine. */
bool	config_url(struct span s, bool *safe);
/* Whether s says where HTTP is spoken: http://host, https://host or unix:/path; a path of ours is put behind it. */
bool	peer_is_http(struct span s);
/* Whether s is a numeric address and port, localhost and a port, or unix:/path. */
bool	peer_is_stream(struct span s);
/* Whether s is where a milter listens: inet:, inet6: or unix:/path. */
bool	peer_is_milter(struct span s);

/* "192.0.2.0/24", "2001:db8::/32"; false with *why. */
bool	network_parse(struct span s, struct network *n, struct buf *why);
void	network_print(const struct network *n, struct buf *out);
/* Whether it is a large part of the Internet: shorter than /8 of IPv4 or /16 of IPv6, and not of addresses for local use. */
bool	network_is_wide(const struct network *n);

#endif
