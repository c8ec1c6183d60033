/*
 * loop.h - poll slots and deadlines: one poll(2) a turn, each ready descriptor's function called once.
 *
 * poll(2) looks at every descriptor at every turn, which thousands of idle clients would make slow for the busy ones: a slot that
 * waits for input only, or for nothing, and has had none for ten milliseconds is parked in an epoll set, which is itself one of the
 * polled descriptors.
 *
 * The clock is read once a turn (loop->now_ms, monotonic). A slot is a descriptor, a deadline or both. Functions may add
 * and remove slots, their own included, while the turn runs.
 */
#ifndef LOOP_H
#define LOOP_H

#include <poll.h>
#include <sys/socket.h>

#include "text.h"

#define LOOP_NEVER INT64_MAX

struct loop;
struct loop_slot;

/* revents as poll(2) has them; 0 when the slot's deadline has passed (it is then LOOP_NEVER again). */
typedef void loop_fn(void *arg, short revents);

struct loop_slot {
	struct loop	*loop;		/* NULL: not in a loop */
	loop_fn		*fn;
	void		*arg;
	int64_t		 deadline_at;	/* milliseconds on the monotonic clock */
	int64_t		 active_at;	/* when something last happened here */
	size_t		 index;		/* of loop->fds and loop->slots */
};

struct loop {
	struct pollfd	*fds;		/* owned */
	struct loop_slot **slots;	/* owned; the slots are their users' */
	size_t		 polled;	/* slots 0 .. polled - 1 are polled, polled .. n - 1 are parked */
	size_t		 n, max;
	struct loop_slot parked;	/* of the epoll set; always slot 0 */
	int		 epoll_fd;	/* owned; -1: nothing is parked */
	int64_t		 park_at;	/* when to look for idle slots again */
	int64_t		 now_ms;	/* of this turn */
	int64_t		 wake_at;	/* no deadline is earlier */
	bool		 stop;		/* loop_run() returns */
};

/* 0, or -1 with errno; max: the most slots at once. */
int	loop_init(struct loop *l, size_t max);
void	loop_clear(struct loop *l);
/*
 * Put a slot (the caller's memory, all zero or removed) into the loop. fd -1: deadline only. Returns 0, or -1 when the loop is full.
 */
int	loop_add(struct loop *l, struct loop_slot *s, int fd, short events, loop_fn *fn, void *arg);
/* Take it out; the descriptor is the caller's to close, afterwards. A slot that is in no loop is left alone. */
void	loop_remove(struct loop_slot *s);
void	loop_events(struct loop_slot *s, short events);
void	loop_deadline(struct loop_slot *s, int64_t at);
/*
 * Begin to connect a non-blocking socket. The slot, in this loop or in none, then waits for POLLOUT until until_at. A unix socket whose line
 * is full cannot be waited for: the slot is called (revents 0) before until_at, to begin again. 0, or -1 with errno.
 */
int	loop_connect(struct loop *l, struct loop_slot *s, int fd, const struct sockaddr *sa, socklen_t len, int64_t until_at,
	    loop_fn *fn, void *arg);
/* One turn: wait for at most max_ms (-1: until something happens), then call. 0, or -1 with errno (EINTR is 0). */
int	loop_turn(struct loop *l, int64_t max_ms);
int64_t	loop_clock_ms(void);
/* Monotonic microseconds, for the durations in logs. */
int64_t	loop_clock_us(void);

#endif
