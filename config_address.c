/*
 * config_address.c - addresses as the configuration has them: to listen on, to connect to, networks. Nothing looks names up.
 */
#include "config_address.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include "config_value.h"

/* What is listened on */

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };	/* ::ffff:0:0/96 */

bool
endpoint_parse(struct span s, struct endpoint *e)
{
	char ip[INET6_ADDRSTRLEN];
	size_t colon = s.len;
	uint64_t port;

	*e = (struct endpoint){ 0 };
	while (colon > 0 && s.p[colon - 1] != ':')
		colon--;
	if (colon == 0 || text_u64(text_sub(s, colon, s.len), 65535, &port) == -1)
		return false;
	e->port = (unsigned)port;
	s.len = colon - 1;
	if (s.len == 0)
		return true;
	e->family = AF_INET;
	if (s.len > 2 && s.p[0] == '[' && s.p[s.len - 1] == ']') {
		e->family = AF_INET6;
		s = text_sub(s, 1, s.len - 1);
	}
	return text_copy(ip, sizeof(ip), s) == 0 && inet_pton(e->family, ip, e->ip) == 1;
}

bool
endpoint_collides(const struct endpoint *a, const struct endpoint *b)
{
	static const uint8_t any[16];

	if (a->port != b->port || a->port == 0 || (a->family != 0 && b->family != 0 && a->family != b->family))
		return false;
	return memcmp(a->ip, any, 16) == 0 || memcmp(b->ip, any, 16) == 0 || memcmp(a->ip, b->ip, 16) == 0;
}

bool
endpoint_is_loopback(const struct endpoint *e)
{
	static const uint8_t one[16] = { [15] = 1 };

	if (e->family == AF_INET6 && memcmp(e->ip, mapped, 12) == 0)
		return e->ip[12] == 127;
	return e->family == AF_INET6 ? memcmp(e->ip, one, 16) == 0 : e->family == AF_INET && e->ip[0] == 127;
}

/* URLs and peers */

static bool
host_is_loopback(struct span host)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t ip[16];

	if (text_is_nocase(host, "localhost") || text_is(host, "[::1]"))
		return true;
	return text_copy(text, sizeof(text), host) == 0 && inet_pton(AF_INET, text, ip) == 1 && ip[0] == 127;
}

/* host or host:port at the start of s, of a URL; false: it is none. */
static bool
url_host(struct span s, struct span *host)
{
	size_t end = 0, i = 0;
	char text[INET6_ADDRSTRLEN];
	uint8_t ip[16];
	uint64_t port = 1;

	while (end < s.len && s.p[end] != '/' && s.p[end] != '?')
		end++;
	s = text_sub(s, 0, end);
	if (s.len > 0 && *s.p == '[') {
		i = text_find(s, ']');
		if (i == SIZE_MAX || text_copy(text, sizeof(text), text_sub(s, 1, i)) == -1 || inet_pton(AF_INET6, text, ip) != 1)
			return false;
		i++;
	} else {
		while (i < s.len && (is_alnum(s.p[i]) || memchr("-._", s.p[i], 3) != NULL))
			i++;
	}
	*host = text_sub(s, 0, i);
	return i > 0 && (i == s.len || (s.p[i] == ':' && text_u64(text_sub(s, i + 1, s.len), 65535, &port) == 0 && port > 0));
}

unsigned
endpoint_peer(const struct sockaddr_storage *ss, char ip[ENDPOINT_IP_MAX + 1])
{
	struct sockaddr_in6 in6;
	struct sockaddr_in in4;

	ip[0] = '\0';
	if (ss->ss_family == AF_INET) {
		memcpy(&in4, ss, sizeof(in4));
		/* cannot fail: there is room */
		(void)inet_ntop(AF_INET, &in4.sin_addr, ip, ENDPOINT_IP_MAX + 1);
		return ntohs(in4.sin_port);
	}
	if (ss->ss_family != AF_INET6)
		return 0;
	memcpy(&in6, ss, sizeof(in6));
	if (memcmp(in6.sin6_addr.s6_addr, mapped, sizeof(mapped)) == 0)
		(void)inet_ntop(AF_INET, in6.sin6_addr.s6_addr + sizeof(mapped), ip, ENDPOINT_IP_MAX + 1);
	else
		(void)inet_ntop(AF_INET6, &in6.sin6_addr, ip, ENDPOINT_IP_MAX + 1);
	return ntohs(in6.sin6_port);
}

/* There is no user part, behind which another host could stand ("http://127.0.0.1@example.net/"), and no fragment. */
bool
config_url(struct span s, bool *safe)
{
	size_t head = text_starts_nocase(s, "https://") ? 8 : text_starts_nocase(s, "http://") ? 7 : 0;
	struct span host = { NULL, 0 };
	bool ok = head > 0 && url_host(text_sub(s, head, s.len), &host);

	for (size_t i = 0; ok && i < s.len; i++)
		ok = is_vchar(s.p[i]) && s.p[i] != '#';
	*safe = ok && (head == 8 || host_is_loopback(host));
	return ok;
}

/* "unix:/path" that fits a socket's address. */
static bool
is_unix(struct span s)
{
	return text_is(text_sub(s, 0, 6), "unix:/") && s.len > 6 && s.len - 5 < sizeof(((struct sockaddr_un *)0)->sun_path);
}

bool
peer_is_http(struct span s)
{
	bool safe;

	return is_unix(s) || (config_url(s, &safe) && text_find(s, '?') == SIZE_MAX);
}

/* A numeric address of this family, or for IPv4 localhost, and a port to connect to: nothing looks names up there. */
static bool
is_address(struct span s, int family)
{
	struct endpoint e;
	uint64_t port;

	if (family == AF_INET && text_is(text_sub(s, 0, 10), "localhost:"))
		return text_u64(text_sub(s, 10, s.len), 65535, &port) == 0 && port > 0;
	return endpoint_parse(s, &e) && e.family == family && e.port > 0;
}

bool
peer_is_stream(struct span s)
{
	return is_unix(s) || is_address(s, AF_INET) || is_address(s, AF_INET6);
}

bool
peer_is_milter(struct span s)
{
	return is_unix(s) || (text_is(text_sub(s, 0, 5), "inet:") && is_address(text_sub(s, 5, s.len), AF_INET)) ||
	    (text_is(text_sub(s, 0, 6), "inet6:") && is_address(text_sub(s, 6, s.len), AF_INET6));
}

/* Networks */

void
network_print(const struct network *n, struct buf *out)
{
	char text[INET6_ADDRSTRLEN];
	bool v4 = n->bits >= 96 && memcmp(n->ip, mapped, 12) == 0;

	/* cannot fail: the family is known, and there is room */
	if (inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? n->ip + 12 : n->ip, text, sizeof(text)) != NULL)
		buf_printf(out, "%s/%u", text, v4 ? n->bits - 96 : n->bits);
}

bool
network_parse(struct span s, struct network *n, struct buf *why)
{
	size_t slash = text_find(s, '/');
	struct span address = text_sub(s, 0, slash);
	char text[INET6_ADDRSTRLEN];
	uint64_t bits = 0;
	unsigned width = 0;
	struct network meant;

	*n = (struct network){ .bits = 128 };
	if (text_copy(text, sizeof(text), address) == 0) {
		if (inet_pton(AF_INET, text, n->ip + 12) == 1) {
			memcpy(n->ip, mapped, 12);
			width = 32;
		} else if (inet_pton(AF_INET6, text, n->ip) == 1) {
			width = 128;
		}
	}
	if (width == 0 || (slash != SIZE_MAX && text_u64(text_sub(s, slash + 1, s.len), width, &bits) == -1)) {
		buf_printf(why, "'%.*s' is no network; write networks with commas between: 192.0.2.0/24, 2001:db8::/32", ARG(s));
		return false;
	}
	if (slash != SIZE_MAX)
		n->bits = 128 - width + (unsigned)bits;
	meant = *n;
	for (unsigned bit = n->bits; bit < 128; bit++)
		meant.ip[bit / 8] &= (uint8_t)~(0x80u >> bit % 8);
	if (memcmp(meant.ip, n->ip, 16) == 0)
		return true;
	buf_printf(why, "'%.*s' has bits set behind its first %u; write ", ARG(s), (unsigned)bits);
	network_print(&meant, why);
	buf_printf(why, ", or %.*s for that one address", ARG(address));
	return false;
}

bool
network_is_wide(const struct network *n)
{
	unsigned v4 = n->bits < 96 ? n->bits : 96, i = 0;

	while (i < v4 && ((n->ip[i / 8] ^ mapped[i / 8]) & (0x80u >> i % 8)) == 0)
		i++;
	if (i == v4)	/* it is IPv4, or holds all of it */
		return n->bits < 96 + 8;
	return n->bits < 16 && !((n->ip[0] & 0xfe) == 0xfc && n->bits >= 7) &&	/* RFC 4193 */
	    !(n->ip[0] == 0xfe && (n->ip[1] & 0xc0) == 0x80 && n->bits >= 10);	/* RFC 4291 2.5.6 */
}
