/*
 * front_count.h - what a front counts. Internal to the front.
 */
#ifndef FRONT_COUNT_H
#define FRONT_COUNT_H

#include "conn.h"

/* Find its slots of the metrics. */
void	front_count_init(struct front *f);
/* Hand on what the sessions have done. */
void	front_count_sessions(struct front *f);
void	front_count_answer(struct front *f, enum request_kind kind, int64_t took_us);
/* A handshake is done; version as on the wire. */
void	front_count_tls(struct front *f, unsigned version);

#endif
