/*
 * policy.c - who may send what: trusted networks, and what a message's header says.
 */
#include "policy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "content.h"
#include "header.h"

#define FIRST_READ 16384	/* octets of a message, in which nearly every header ends */
#define RECEIVED_MAX 50		/* Received fields of a message that goes in circles (case 9.10) */

static bool
is_in_network(const uint8_t ip[16], const struct network *n)
{
	unsigned whole = n->bits / 8, rest = n->bits % 8;

	return memcmp(ip, n->ip, whole) == 0 &&
	    (rest == 0 || ((ip[whole] ^ n->ip[whole]) & (0xff << (8 - rest)) & 0xff) == 0);
}

bool
policy_is_trusted(const struct listener *l, const char *address)
{
	uint8_t ip[16] = { [10] = 0xff, [11] = 0xff };

	if (inet_pton(AF_INET, address, ip + 12) != 1 && inet_pton(AF_INET6, address, ip) != 1)
		return false;
	for (size_t i = 0; i < l->trusted_networks.n; i++)
		if (is_in_network(ip, &l->trusted_networks.v[i]))
			return true;
	return false;
}

/* The body's first octets, size of them at most, and whether the header may go on behind them; false with errno. */
static bool
read_start(const struct tx *tx, char *p, uint64_t size, struct span *start, bool *is_cut)
{
	uint64_t body = tx->size - MESSAGE_ROOM;
	size_t n = (size_t)(body < size ? body : size);
	ssize_t got = pread(tx->fd, p, n, MESSAGE_ROOM);

	if (got != (ssize_t)n) {
		if (got >= 0)	/* the front has cut it off */
			errno = EIO;
		return false;
	}
	*start = (struct span){ p, n };
	*is_cut = n < body && header_is_cut(*start);
	return true;
}

/* Our own word on who has sent the message, forged (RFC 8601 5), and the envelope's sender, which the last one adds (RFC 5321 4.4). */
static bool
is_ours_to_write(const struct tx *tx, struct span name, struct span value)
{
	return (text_is_nocase(name, "Authentication-Results") && header_authserv_is(value, tx->config->hostname)) ||
	    (text_is_nocase(name, "Return-Path") && !tx->foreign);
}

/* It has more octets or fields than are taken. */
static bool
too_large(struct metrics *m, struct verdict *v, const char **why, const char *what)
{
	metrics_add(m, M_LIMIT_HITS, MH_MAX_HEADER_SIZE, 0, 0, 1);
	verdict_set(v, 550, "5.6.0", "Header too large");
	*why = what;
	return false;
}

/* What the header block says: a loop, and whether the login may send with this From. false with what the client is told, and why. */
static bool
judge_header(const struct tx *tx, struct senders *senders, struct metrics *m, int64_t now_ms, struct span message, bool *clean,
    struct verdict *v, const char **why)
{
	struct span rest = message;
	struct header_field field;
	struct mailbox from;
	enum header_from found;
	size_t received = 0, fields = 0;

	for (; fields <= HEADER_FIELDS_MAX && header_next(&rest, &field); fields++) {
		received += text_is_nocase(field.name, "Received");
		*clean = *clean && !is_ours_to_write(tx, field.name, field.value);
	}
	if (fields > HEADER_FIELDS_MAX || message.len - rest.len > tx->config->max_header_size)
		return too_large(m, v, why, fields > HEADER_FIELDS_MAX ? "too many header fields" : "header too large");
	if (received > RECEIVED_MAX) {
		verdict_set(v, 554, "5.4.6", "Routing loop detected");
		*why = "routing loop";
		return false;
	}
	if (tx->auth_user[0] == '\0' || tx->config->sender_check == SENDER_OFF)
		return true;
	found = header_from(message, tx->utf8, &from);
	if (found == FROM_OK && senders_allow(senders, tx->auth_user, &from, now_ms))
		return true;
	*why = found == FROM_OK ? "From is not the user's" : header_from_text(found);
	if (found == FROM_OK)
		verdict_set(v, 550, "5.7.1", "Not allowed to send as the address in From");
	else
		verdict_set(v, 550, "5.6.0", "%s", *why);
	return false;
}

bool
policy_header(const struct tx *tx, struct senders *senders, struct metrics *m, int64_t now_ms, bool *clean, struct verdict *v,
    const char **why)
{
	uint64_t max = tx->config->max_header_size + 1;	/* with the octet that tells whether the header ends there */
	char first[FIRST_READ], *all = NULL;
	struct span start = { NULL, 0 };
	bool is_cut = false, good = false, is_read = read_start(tx, first, max < FIRST_READ ? max : FIRST_READ, &start, &is_cut);

	*clean = true;
	if (is_cut && max > FIRST_READ) {
		all = malloc((size_t)max);
		is_read = all != NULL && read_start(tx, all, max, &start, &is_cut);
	}
	if (!is_read) {
		*why = strerror(errno);
		verdict_set(v, 451, "4.3.0", "Temporary failure, try again");
	} else if (is_cut) {
		good = too_large(m, v, why, "header too large");
	} else {
		good = judge_header(tx, senders, m, now_ms, start, clean, v, why);
	}
	free(all);
	return good;
}

bool
policy_clean(struct tx *tx, struct verdict *v, const char **why)
{
	struct content c = { 0 };
	bool good = content_load(&c, tx) == 0;

	for (size_t i = c.fields_n; i-- > 0;)
		if (is_ours_to_write(tx, c.fields[i].name, c.fields[i].value))
			content_delete(&c, i);
	good = good && content_write(&c, tx) == 0;
	if (!good) {
		*why = strerror(errno);
		if (errno == EFBIG)
			verdict_set(v, 550, "5.6.0", "Header too large");
		else
			verdict_set(v, 452, "4.3.1", "Insufficient system storage");
	}
	content_clear(&c);
	return good;
}
