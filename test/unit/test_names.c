/*
 * test_names.c - what is a client's name, how long it is kept, and who waits for it (SECURITY-CASES 9.10, 9.11, 11.8).
 */
#include "names.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rows.h"
#include "smtp.h"
#include "waits.h"

#define A10 "aaaaaaaaaa"
#define A63 A10 A10 A10 A10 A10 A10 "aaa"
#define OCTETS_252 A63 "." A63 "." A63 "." A10 A10 A10 A10 A10 A10

static struct loop loop;
static size_t loop_own;	/* slots that the loop has of itself */
static struct children *children;
static struct names *names;

/* ---- what a name is ---- */

static const struct {
	struct span	 in;
	const char	*want;	/* NULL: it is none */
} rows[] = {
	{ SPAN("mail.example.com"), "mail.example.com" },
	{ SPAN("Mail.EXAMPLE.com."), "mail.example.com" },
	{ SPAN("localhost"), "localhost" },
	{ SPAN("a"), "a" },
	{ SPAN("1.2.0.192.dyn.isp.test"), "1.2.0.192.dyn.isp.test" },
	{ SPAN("192-0-2-1.isp.test"), "192-0-2-1.isp.test" },
	{ SPAN("xn--bcher-kva.test"), "xn--bcher-kva.test" },
	{ SPAN("a.xn--p1ai"), "a.xn--p1ai" },
	{ SPAN(OCTETS_252 "b"), OCTETS_252 "b" },
	{ SPAN(OCTETS_252 "b."), OCTETS_252 "b" },
	{ SPAN(OCTETS_252 "bb"), NULL },
	{ SPAN(OCTETS_252 ".bb"), NULL },
	{ SPAN(A63 "a.test"), NULL },
	{ SPAN(""), NULL },
	{ SPAN("."), NULL },
	{ SPAN(".."), NULL },
	{ SPAN(".test"), NULL },
	{ SPAN("a..test"), NULL },
	{ SPAN("a.test.."), NULL },
	{ SPAN("-a.test"), NULL },
	{ SPAN("a-.test"), NULL },
	{ SPAN("a_b.test"), NULL },
	{ SPAN("*.test"), NULL },
	/* what getaddrinfo() would take as an address and confirm */
	{ SPAN("192.0.2.1"), NULL },
	{ SPAN("192.0.2.1."), NULL },
	{ SPAN("3221225985"), NULL },
	{ SPAN("0xc0000201"), NULL },
	{ SPAN("192.0.0x201"), NULL },
	{ SPAN("0300.0.2.1"), NULL },
	{ SPAN("a.1"), NULL },
	{ SPAN("::1"), NULL },
	{ SPAN("[192.0.2.1]"), NULL },
	/* a hostile reverse zone (case 9.11) */
	{ SPAN("a.test\r\nX-Injected: 1"), NULL },
	{ SPAN("a.test\n"), NULL },
	{ SPAN("a.test\r"), NULL },
	{ SPAN("a.test) (by trusted.test"), NULL },
	{ SPAN("a.test [127.0.0.1]"), NULL },
	{ SPAN("a.test\0.b"), NULL },
	{ SPAN("\0"), NULL },
	{ SPAN("a.t\xc3\xabst"), NULL },
	{ SPAN("a.t\xffst"), NULL },
	{ SPAN("a.test;b"), NULL },
	{ SPAN("a b.test"), NULL },
	{ SPAN("\"a\".test"), NULL },
	{ SPAN("%s%n.test"), NULL },
	{ SPAN("$(id).test"), NULL },
};

static void
what_a_name_is(void **state)
{
	char dst[SMTP_DOMAIN_MAX + 1];

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct span in = exact(rows[i].in);

		print_row(in);
		assert_int_equal(names_read(in, dst), rows[i].want != NULL);
		assert_string_equal(dst, rows[i].want == NULL ? "" : rows[i].want);
		release(in);
	}
}

static void
no_other_octet_is_in_a_name(void **state)
{
	char dst[SMTP_DOMAIN_MAX + 1];

	(void)state;
	for (int c = 0; c < 256; c++) {
		char name[] = { 'a', (char)c, 'a' };

		assert_int_equal(names_read((struct span){ name, sizeof(name) }, dst), is_alnum((char)c) || c == '-' || c == '.');
	}
}

/* ---- look-ups ---- */

static const char *answer;	/* what the next look-up says; NULL: it is ended by a signal */
static int exit_status;		/* and with which status it ends */
static struct {
	unsigned	 calls;
	bool		 held;		/* none ends */
} *shared;			/* with the children */

static int
look_up(const void *address)
{
	(void)__atomic_add_fetch(&shared->calls, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&shared->held, __ATOMIC_SEQ_CST))
		(void)usleep(1000);
	if (answer == NULL)
		(void)raise(SIGKILL);
	return write(STDOUT_FILENO, answer, strlen(answer)) == -1 ? 99 : exit_status;
}

static void
hold(bool held)
{
	__atomic_store_n(&shared->held, held, __ATOMIC_SEQ_CST);
}

static unsigned
look_ups(void)
{
	return __atomic_load_n(&shared->calls, __ATOMIC_SEQ_CST);
}

struct asked {
	struct names_wait w;
	unsigned	 calls;
	char		 name[SMTP_DOMAIN_MAX + 1];
};

static void
note(void *arg, const char *name)
{
	struct asked *a = arg;

	a->calls++;
	(void)snprintf(a->name, sizeof(a->name), "%s", name);
	memset(&a->w, 0xff, sizeof(a->w));	/* it is the caller's again */
}

static void
ask(struct asked *a, const char *address)
{
	a->calls = 0;
	names_get(names, address, &a->w, note, a);
}

/* Ask, wait, and compare; how many look-ups there have been by then. */
static unsigned
get(const char *address, const char *want)
{
	struct asked a;

	ask(&a, address);
	wait_for(&a);
	assert_string_equal(a.name, want);
	return look_ups();
}

static int
setup(void **state)
{
	(void)state;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	assert_int_equal(loop_init(&loop, NAMES_CALLS_MAX + 10), 0);
	loop_own = loop.n;
	children = children_new(&loop, NAMES_CALLS_MAX + 2);
	assert_non_null(children);
	names = names_new(&loop, children, look_up);
	assert_non_null(names);
	assert_int_equal(loop_turn(&loop, 0), 0);	/* it is now */
	answer = "a.test";
	exit_status = 0;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	children_end(children);
	names_free(names);
	children_free(children);
	assert_int_equal(loop.n, loop_own);
	loop_clear(&loop);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	return munmap(shared, sizeof(*shared));
}

/* Through the C library and /etc/hosts. */
static void
this_machine_has_a_name(void **state)
{
	(void)state;
	names_free(names);
	names = names_new(&loop, children, names_look_up);
	assert_non_null(names);
	(void)get("127.0.0.1", "localhost");
	(void)get("127.0.0.1.", "");
	(void)get("localhost", "");
}

static void
what_a_look_up_may_say(void **state)
{
	static const struct {
		const char	*says, *want;
		int		 status;
	} says[] = {
		{ "Mail.A.test", "mail.a.test", 0 }, { "", "", 0 }, { NULL, "", 0 }, { "a.test", "", 1 }, { "a.test\n", "", 0 },
		{ "a.test\r\nX: y", "", 0 }, { "127.0.0.1", "", 0 }, { OCTETS_252 "bb", "", 0 },
	};
	char address[32];

	(void)state;
	for (size_t i = 0; i < COUNT(says); i++) {
		print_message("  %s\n", says[i].says == NULL ? "(a signal)" : says[i].says);
		answer = says[i].says;
		exit_status = says[i].status;
		(void)snprintf(address, sizeof(address), "192.0.2.%zu", i);
		(void)get(address, says[i].want);
		answer = "later.test";
		exit_status = 0;
		assert_int_equal(get(address, says[i].want), i + 1);	/* which is kept */
	}
}

static void
what_is_known_is_kept_for_a_while(void **state)
{
	(void)state;
	assert_int_equal(get("192.0.2.1", "a.test"), 1);
	answer = "";
	assert_int_equal(get("2001:db8::1", ""), 2);
	answer = "b.test";
	loop.now_ms += 50000;
	assert_int_equal(get("2001:db8::1", ""), 2);
	loop.now_ms += 20000;
	assert_int_equal(get("2001:db8::1", "b.test"), 3);
	loop.now_ms += 580000;
	assert_int_equal(get("192.0.2.1", "a.test"), 3);
	loop.now_ms += 20000;
	assert_int_equal(get("192.0.2.1", "b.test"), 4);
}

static void
clients_of_one_address_share_a_look_up(void **state)
{
	struct asked a[3];

	(void)state;
	hold(true);
	names_expect(names, "192.0.2.1");
	names_expect(names, "192.0.2.1");
	for (size_t i = 0; i < COUNT(a); i++) {
		ask(&a[i], "192.0.2.1");
		assert_int_equal(a[i].calls, 0);
	}
	assert_int_equal(children_running(children), 1);
	hold(false);
	for (size_t i = 0; i < COUNT(a); i++) {
		wait_for(&a[i]);
		assert_string_equal(a[i].name, "a.test");
	}
	assert_int_equal(look_ups(), 1);
	ask(&a[0], "192.0.2.1");	/* from inside */
	assert_int_equal(a[0].calls, 1);
}

static void
one_more_than_may_be_has_no_name_for_now(void **state)
{
	struct asked a[NAMES_CALLS_MAX], more;
	char address[32];

	(void)state;
	hold(true);
	for (size_t i = 0; i < COUNT(a); i++) {
		(void)snprintf(address, sizeof(address), "192.0.2.%zu", i);
		ask(&a[i], address);
	}
	names_expect(names, "192.0.2.99");
	ask(&more, "192.0.2.99");
	assert_int_equal(more.calls, 1);
	assert_string_equal(more.name, "");
	assert_int_equal(children_running(children), NAMES_CALLS_MAX);
	hold(false);
	for (size_t i = 0; i < COUNT(a); i++)
		wait_for(&a[i]);
	assert_int_equal(get("192.0.2.99", "a.test"), NAMES_CALLS_MAX + 1);	/* it was not taken for an answer */
}

static void
a_look_up_that_cannot_begin_is_no_answer(void **state)
{
	struct asked a;

	(void)state;
	ask(&a, "");
	assert_true(a.calls == 1 && a.name[0] == '\0');
	ask(&a, "2001:0db8:0000:0000:0000:0000:0000:0001:beyond");
	assert_true(a.calls == 1 && a.name[0] == '\0');
	names_free(names);
	children_free(children);
	children = children_new(&loop, 1);
	names = names_new(&loop, children, look_up);
	hold(true);
	names_expect(names, "192.0.2.1");
	ask(&a, "192.0.2.2");
	assert_true(a.calls == 1 && a.name[0] == '\0');
	hold(false);
	(void)get("192.0.2.1", "a.test");
	assert_int_equal(get("192.0.2.2", "a.test"), 2);
}

/* The table is full: what would be looked up again the soonest goes. Names stay when the unknown come in numbers. */
static void
the_table_has_an_end(void **state)
{
	char address[32];

	(void)state;
	assert_int_equal(get("2001:db8::1", "a.test"), 1);
	answer = "";
	for (unsigned i = 0; i < 300; i++) {
		(void)snprintf(address, sizeof(address), "192.0.%u.%u", i / 100, i % 100);
		assert_int_equal(get(address, ""), i + 2);
	}
	answer = "b.test";
	assert_int_equal(get(address, ""), 301);
	assert_int_equal(get("2001:db8::1", "a.test"), 301);
	assert_int_equal(get("192.0.0.0", "b.test"), 302);
}

static void
the_end_comes_while_somebody_waits(void **state)
{
	struct asked a;

	(void)state;
	hold(true);
	ask(&a, "192.0.2.1");
	names_expect(names, "192.0.2.2");
	children_end(children);
	assert_true(a.calls == 1 && a.name[0] == '\0');
	ask(&a, "192.0.2.3");
	assert_true(a.calls == 1 && a.name[0] == '\0');
}

int
main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_name_is),
		cmocka_unit_test(no_other_octet_is_in_a_name),
		WITH(this_machine_has_a_name),
		WITH(what_a_look_up_may_say),
		WITH(what_is_known_is_kept_for_a_while),
		WITH(clients_of_one_address_share_a_look_up),
		WITH(one_more_than_may_be_has_no_name_for_now),
		WITH(a_look_up_that_cannot_begin_is_no_answer),
		WITH(the_table_has_an_end),
		WITH(the_end_comes_while_somebody_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
