/*
 * test_agent_client.c - answers to a front that reads them late, or not at all.
 */
#include "agent_auth.h"
#include "agent_envelope.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#define QUEUE_MAX 4096

static struct agent agent;
static struct client clients[1];
static struct front front;
static int peer;	/* the front's end */

static void
nothing(void *arg, short revents)
{
	(void)arg;
	(void)revents;
}

static int
setup(void **state)
{
	int sv[2];

	(void)state;
	assert_int_equal(ipc_pair(sv), 0);
	assert_int_equal(loop_init(&agent.loop, 10), 0);
	front = (struct front){ .agent = &agent, .fd = sv[0], .clients = clients };
	peer = sv[1];
	buf_init(&front.queue, QUEUE_MAX);
	return loop_add(&agent.loop, &front.slot, sv[0], POLLIN, nothing, NULL);
}

static int
teardown(void **state)
{
	(void)state;
	loop_remove(&front.slot);
	loop_clear(&agent.loop);
	buf_clear(&front.queue);
	close(front.fd);
	close(peer);
	return 0;
}

static void
say(uint64_t session, size_t text_len)
{
	struct verdict v;
	char text[400];

	memset(text, 'x', text_len);
	text[text_len] = '\0';
	verdict_set(&v, 250, "2.1.5", "%s", text);
	answer_verdict(&front, 0, session, &v, -1);
}

/* The next answer; false: there is none now. fd: the caller's. */
static bool
take(struct answer *a, int *fd)
{
	char datagram[IPC_MAX];
	long n = ipc_recv(peer, datagram, sizeof(datagram), fd);

	if (n == -1 && errno == EAGAIN)
		return false;
	assert_true(n > 0);
	assert_int_equal(ipc_unpack_answer(a, datagram, (size_t)n), 0);
	return true;
}

/* Until the socket takes no more. */
static uint64_t
fill(void)
{
	uint64_t said = 0;

	while (buf_len(&front.queue) == 0)
		say(++said, 300);
	return said;
}

/* Of any length of the last one, all that was taken is said, whole and in its order; what came when there was no room is not. */
static void
no_room_in_the_queue(void **state)
{
	struct answer a;
	int fd;

	for (size_t len = 0; len < 400; len++) {
		uint64_t said = fill(), heard = 0;

		while (buf_room(&front.queue) >= 400 + 300)
			say(++said, 300);
		say(++said, len);
		assert_false(front.queue.failed);
		while (!front.queue.failed)
			say(++said, 300);
		say(said + 1, 0);	/* an answer behind one that is lost */
		while (take(&a, &fd)) {
			assert_int_equal(a.session, ++heard);
			answer_flush(&front);
		}
		assert_int_equal(heard, said - 1);
		(void)teardown(state);
		(void)setup(state);
	}
}

/* A queue that is never empty is no reason to lose a front that reads. */
static void
a_queue_that_is_never_empty(void **state)
{
	uint64_t said, heard = 0;
	struct answer a;
	int fd;

	(void)state;
	said = fill();
	say(++said, 300);
	for (int i = 0; i < 100; i++) {
		say(++said, 300);
		assert_true(take(&a, &fd));
		assert_int_equal(a.session, ++heard);
		answer_flush(&front);
		assert_true(buf_len(&front.queue) > 0);
	}
	assert_false(front.queue.failed);
	while (take(&a, &fd)) {
		assert_int_equal(a.session, ++heard);
		answer_flush(&front);
	}
	assert_int_equal(heard, said);
}

/* A 354 that waits brings the file of its transaction, but not when that is at work: it is not the front's any more. */
static void
the_file_of_a_354(void **state)
{
	struct verdict v;

	(void)state;
	verdict_set(&v, 354, "", "Go on");
	for (int busy = 0; busy < 2; busy++) {
		struct work w = { .busy = busy, .tx.fd = message_open("") };
		struct answer a = { .slot = 0 };
		int fd = -1;

		clients[0] = (struct client){ .session = 7, .work = &w };
		(void)fill();
		answer_verdict(&front, 0, 7, &v, w.tx.fd);
		while (a.verdict.code != 354) {
			assert_true(take(&a, &fd));
			answer_flush(&front);
		}
		assert_true(busy ? fd == -1 : fd != -1);
		if (fd != -1)
			close(fd);
		close(w.tx.fd);
	}
}

/* What clients leave behind is counted until it ends. */
static void
what_is_left_behind(void **state)
{
	struct request q = { .session = 7, .slot = 0 };
	struct client *c = &clients[0];
	struct work *w;

	(void)state;
	*c = (struct client){ .session = 7 };
	c->work = w = work_new(&front, &q);
	assert_non_null(w);
	work_forget(c);		/* not at work: it ends at once */
	assert_true(c->work == NULL && agent.left_n == 0);
	c->work = w = work_new(&front, &q);
	assert_non_null(w);
	w->busy = true;
	w->tx.fd = message_open("");
	w->tx.size = 100000;
	work_forget(c);
	assert_true(c->work == NULL && w->tx.abandoned && agent.left_n == 1 && agent.left_octets == 100000);
	w->tx.size = 100;	/* a filter has removed a part of it */
	work_free(w);
	assert_true(agent.left_n == 0 && agent.left_octets == 0);
}

/* Whose socket did not come with CONNECT is nobody: no address, no trust, no count of its failures. */
static void
a_client_without_an_address(void **state)
{
	static const struct config config = { .max_connections = 10 };
	static const struct listener listener = { .auth = AUTH_OPTIONAL };
	struct request q = { .session = 7, .slot = 0, .mechanism = SASL_PLAIN, .response = SPAN("\0bob\0secret") };
	struct answer a;
	int fd;

	(void)state;
	agent.config = &config;
	front.listener = &listener;
	clients[0] = (struct client){ .session = 7 };
	request_mail(&front, &q);
	request_auth(&front, &q);
	for (int i = 0; i < 2; i++) {
		assert_true(take(&a, &fd));
		assert_int_equal(a.verdict.code, 421);
	}
	assert_true(clients[0].work == NULL && clients[0].exchange == NULL);
	assert_false(take(&a, &fd));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(no_room_in_the_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(a_queue_that_is_never_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(the_file_of_a_354, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_left_behind, setup, teardown),
		cmocka_unit_test_setup_teardown(a_client_without_an_address, setup, teardown),
	};

	return cmocka_run_group_tests_name("agent_client", tests, NULL, NULL);
}
