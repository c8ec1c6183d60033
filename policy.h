/*
 * policy.h - who may send what: trusted networks, and what a message's header says.
 */
#ifndef POLICY_H
#define POLICY_H

#include "message.h"
#include "metrics.h"
#include "sender.h"

/* Whether a client from this address, as text, relays without AUTH. */
bool	policy_is_trusted(const struct listener *l, const char *address);
/*
 * The header of a complete message, as it will be delivered: its size, a routing loop and, of a user who has logged in, From.
 * m counts max_header_size. now_ms: monotonic. *clean: it has nothing that policy_clean() takes away. false with what the client is
 * told and, in *why, what the log is.
 */
bool	policy_header(const struct tx *tx, struct senders *senders, struct metrics *m, int64_t now_ms, bool *clean, struct verdict *v,
	    const char **why);
/*
 * Take fields away that are ours alone to write: Authentication-Results in our name, and Return-Path where mail ends its way. A new
 * file takes the place of tx->fd, without trace fields. false as above.
 */
bool	policy_clean(struct tx *tx, struct verdict *v, const char **why);

#endif
