/*
 * test_recipient_cache.c - what recipient_command has said of whom, for a while (case 11.60).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "recipient_cache.h"

#define MINUTE (60 * 1000)

static const struct verdict known = { 0 }, unknown = { 550, "5.1.1", "No such recipient" }, moved = { 550, "5.1.6", "it has moved" },
    later = { 451, "4.3.0", "Temporary lookup failure" }, policy = { 550, "5.7.1", "not from you" },
    nowhere = { 550, "5.1.10", "its domain takes no mail" }, sender = { 550, "5.1.8", "your domain does not exist" },
    other = { 550, "5.1.0", "no" };

static struct mailbox
mailbox(const char *address)
{
	struct mailbox m;

	assert_int_equal(smtp_mailbox(text_span(address), false, &m), SMTP_PATH_OK);
	return m;
}

static void
keep(struct recipient_cache *c, const char *address, const struct verdict *v, int64_t now_ms)
{
	struct mailbox m = mailbox(address);

	recipient_cache_keep(c, &m, v, now_ms);
}

static const struct verdict *
find(struct recipient_cache *c, const char *address, int64_t now_ms)
{
	struct mailbox m = mailbox(address);

	return recipient_cache_find(c, &m, now_ms);
}

static void
answers(void **state)
{
	static const struct {
		const struct verdict *said;
		int64_t		 keep_ms, last_ms;	/* the last moment that it counts; -1: never */
	} rows[] = {
		{ &known, 5 * MINUTE, 5 * MINUTE - 1 },
		{ &known, 10, 9 },
		{ &known, 0, -1 },
		{ &unknown, 5 * MINUTE, MINUTE - 1 },	/* a new one gets its mail soon */
		{ &unknown, 10, 9 },
		{ &moved, 5 * MINUTE, MINUTE - 1 },
		{ &later, 5 * MINUTE, -1 },
		{ &nowhere, 5 * MINUTE, MINUTE - 1 },
		{ &policy, 5 * MINUTE, -1 },
		{ &sender, 5 * MINUTE, -1 },
		{ &other, 5 * MINUTE, -1 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct recipient_cache *c = recipient_cache_new(rows[i].keep_ms);
		const struct verdict *v;

		print_message("row %zu\n", i);
		assert_non_null(c);
		assert_null(find(c, "user@local.test", 1000));
		keep(c, "user@local.test", rows[i].said, 1000);
		if (rows[i].last_ms == -1) {
			assert_null(find(c, "user@local.test", 1000));
		} else {
			v = find(c, "user@local.test", 1000 + rows[i].last_ms);
			assert_non_null(v);
			assert_int_equal(v->code, rows[i].said->code);
			assert_string_equal(v->esc, rows[i].said->esc);
			assert_string_equal(v->text, rows[i].said->text);
			assert_null(find(c, "user@local.test", 1000 + rows[i].last_ms + 1));
		}
		assert_null(find(c, "User@local.test", 1000));	/* whose local-part is that is the command's to say */
		assert_null(find(c, "user@other.test", 1000));
		recipient_cache_free(c);
	}
}

static void
what_is_said_again(void **state)
{
	struct recipient_cache *c = recipient_cache_new(MINUTE);

	(void)state;
	keep(c, "user@local.test", &unknown, 0);
	keep(c, "user@local.test", &known, 30 * 1000);
	assert_int_equal(find(c, "user@local.test", MINUTE)->code, 0);
	keep(c, "user@local.test", &later, MINUTE);
	assert_int_equal(find(c, "user@local.test", MINUTE)->code, 0);
	keep(c, "user@local.test", &unknown, MINUTE);
	assert_int_equal(find(c, "user@local.test", MINUTE)->code, 550);
	recipient_cache_free(c);
}

/* Somebody who tries all names there may be pushes out the oldest of those, and takes no more room. */
static void
more_than_there_is_room_for(void **state)
{
	struct recipient_cache *c = recipient_cache_new(MINUTE);
	char address[64];
	int64_t now = 0;

	(void)state;
	keep(c, "first@local.test", &known, now);
	keep(c, "second@local.test", &known, ++now);
	for (int i = 0; i < RECIPIENT_CACHE_MAX - 1; i++) {
		(void)snprintf(address, sizeof(address), "guess%d@local.test", i);
		keep(c, address, &unknown, ++now);
	}
	assert_non_null(find(c, "first@local.test", now));
	assert_non_null(find(c, "second@local.test", now));
	assert_null(find(c, "guess0@local.test", now));
	assert_non_null(find(c, "guess1@local.test", now));
	assert_non_null(find(c, address, now));
	for (int i = 0; i < RECIPIENT_CACHE_MAX; i++) {
		(void)snprintf(address, sizeof(address), "user%d@local.test", i);
		keep(c, address, &known, ++now);
	}
	assert_null(find(c, "second@local.test", now));
	assert_non_null(find(c, "user0@local.test", now));
	recipient_cache_free(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers),
		cmocka_unit_test(what_is_said_again),
		cmocka_unit_test(more_than_there_is_room_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
