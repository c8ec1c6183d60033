/*
 * test_hook.c - hooks at every event under the delivery contract (SECURITY-CASES 5.21 to 5.27, 11.23, 12), and the two of contrib/hooks.
 */
#include "hook.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "folder.h"
#include "paper.h"
#include "waits.h"

#define STR(s) ((char *)(uintptr_t)(s))	/* argument vectors are not const, for history's sake */

static struct loop loop;
static size_t loop_own;	/* slots that the loop has of itself */
static struct config config;
static struct children *children;
static struct hooks *hooks;
static const struct listener listener = { .name = "mx" };
static char source[512];
static char *words[CONFIG_HOOKS_MAX][8];
static struct tx tx;
static struct mailbox rcpts[2];

struct outcome {
	unsigned		 calls;
	struct filter_report	 r;	/* without its edits */
	char			 fields[8192];	/* the edits, as they would stand in the message */
	size_t			 edits;
};

static void
note(void *arg, const struct filter_report *r)
{
	struct outcome *o = arg;
	size_t at = 0;

	o->calls++;
	o->r = *r;
	o->r.edits = (struct edits){ 0 };
	o->edits = r->edits.n;
	/* the last one is on top */
	for (size_t i = r->edits.n; i-- > 0;) {
		const struct edit *e = &r->edits.v[i];

		assert_int_equal(e->kind, EDIT_ADD_TOP);
		at += (size_t)snprintf(o->fields + at, sizeof(o->fields) - at, "%.*s:%.*s\n", (int)e->name_len, r->edits.text.data + e->name_at,
		    (int)e->value_len, r->edits.text.data + e->value_at);
		assert_true(at < sizeof(o->fields));
	}
}

/* One more [smtpd.hook NAME]: sh -c SCRIPT sh WORD WORD */
static void
add_hook(const char *name, enum hook_event event, const char *script, const char *word, const char *other)
{
	struct hook_config *h = &config.hooks[config.hooks_n];
	char **w = words[config.hooks_n++];

	*h = (struct hook_config){ .event = event, .command = { w, 4 }, .timeout_ms = 10000 };
	(void)snprintf(h->name, sizeof(h->name), "%s", name);
	w[0] = STR("/bin/sh");
	w[1] = STR("-c");
	w[2] = STR(script);
	w[3] = STR("sh");
	w[4] = STR(word);
	w[5] = word == NULL ? NULL : STR(other);
	h->command.n += word == NULL ? 0u : other == NULL ? 1u : 2u;
	w[h->command.n] = NULL;
}

static void
start(void)
{
	children = children_new(&loop, HOOKS_MAX);
	assert_non_null(children);
	hooks = hooks_new(&loop, &config, children);
	assert_non_null(hooks);
}

static void
stop(void)
{
	if (children != NULL)
		children_end(children);
	hooks_free(hooks);
	children_free(children);
	children = NULL;
	hooks = NULL;
}

static struct outcome
run(enum hook_event event, const struct mailbox *rcpt)
{
	struct outcome o = { 0 };

	if (hooks == NULL)
		start();
	hooks_run(hooks, event, &tx, rcpt, note, &o);
	wait_for(&o);
	print_message("-> %d %s %s (%s)\n", (int)o.r.action, o.r.esc, o.r.text, o.r.detail);
	return o;
}

static struct outcome
run_one(enum hook_event event, const char *script)
{
	struct outcome o;

	print_message("%s\n", script);
	stop();
	config.hooks_n = 0;
	add_hook("one", event, script, NULL, NULL);
	o = run(event, event == HOOK_RCPT ? &rcpts[0] : NULL);
	return o;
}

static void
set_message(const char *text)
{
	size_t len = strlen(text);

	if (tx.fd != -1)
		close(tx.fd);
	tx.fd = message_open("");
	assert_true(tx.fd != -1);
	assert_int_equal(pwrite(tx.fd, text, len, MESSAGE_ROOM), (ssize_t)len);
	tx.size = MESSAGE_ROOM + len;
}

static int
setup(void **state)
{
	config = (struct config){ .hostname = STR("mx.test"), .user = STR(""), .delivery_user = STR("") };
	(void)snprintf(folder, sizeof(folder), "/tmp/test_hook.XXXXXX");
	assert_non_null(mkdtemp(folder));
	assert_int_equal(loop_init(&loop, 200), 0);
	loop_own = loop.n;
	rcpts[0] = (struct mailbox){ .local = "user", .domain = "local.test" };
	rcpts[1] = (struct mailbox){ .local = "Other", .domain = "local.test" };
	tx = (struct tx){ .id = "0123456789abcdef0123", .session = 1, .config = &config, .listener = &listener,
	    .client_address = "192.0.2.1", .helo = "client.test", .auth_user = "", .auth_type = "", .tls_version = "TLSv1.2", .tls_cipher = "C", .tls_name = "",
	    .sender = { .local = "sender", .domain = "client.test" }, .rcpts = rcpts, .rcpts_n = 2, .fd = -1 };
	set_message("Subject: x\n\nbody\n");
	return 0;
}

static int
teardown(void **state)
{
	stop();
	close(tx.fd);
	assert_int_equal(loop.n, loop_own);
	loop_clear(&loop);
	folder_remove();
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	return 0;
}

/* ---- what an exit means ---- */

static void
exits_and_output(void **state)
{
	static const struct {
		const char	*script;
		enum filter_action action;
		int		 code;
		const char	*esc, *text, *detail;
	} rows[] = {
		{ "exit 0", FILTER_ACCEPT, 0, "", "", "" },
		{ "echo 5.1.1 but all is well", FILTER_ACCEPT, 0, "", "", "" },
		{ "exit 65", FILTER_REJECT, 550, "5.6.0", "Message content refused", "one: exit 65" },
		{ "exit 67", FILTER_REJECT, 550, "5.1.1", "No such recipient", "one: exit 67" },
		{ "exit 77", FILTER_REJECT, 550, "5.7.1", "Not permitted", "one: exit 77" },
		{ "exit 100", FILTER_REJECT, 554, "5.3.0", "Delivery failed", "one: exit 100" },
		{ "exit 1", FILTER_TEMPFAIL, 451, "4.3.0", "Temporary filter failure", "one: exit 1" },
		{ "exit 75", FILTER_TEMPFAIL, 451, "4.3.0", "Temporary filter failure", "one: exit 75" },
		{ "exit 78", FILTER_TEMPFAIL, 451, "4.3.5", "A filter is not configured properly", "one: exit 78" },
		{ "exit 127", FILTER_TEMPFAIL, 451, "4.3.5", "A filter is not configured properly", "one: exit 127" },
		{ "kill -9 $$", FILTER_TEMPFAIL, 451, "4.3.0", "Temporary filter failure", "one: signal 9" },
		{ "echo 4.7.1 Come back; exit 65", FILTER_TEMPFAIL, 451, "4.7.1", "Come back", "one: exit 65" },
		{ "echo 5.7.1 Go away >&2; exit 1", FILTER_REJECT, 550, "5.7.1", "Go away", "one: exit 1" },
		{ "printf '5.7.1 a\\033\\377\\r\\n250 ok\\n'; exit 1", FILTER_REJECT, 550, "5.7.1", "a??", "one: exit 1" },
		{ "echo 250 fake; exit 1", FILTER_TEMPFAIL, 451, "4.3.0", "Temporary filter failure", "one: exit 1" },
		{ "echo X-Added: yes; exit 77", FILTER_REJECT, 550, "5.7.1", "Not permitted", "one: exit 77" },
		{ "head -c 9999999 /dev/zero; exit 0", FILTER_ACCEPT, 0, "", "", "" },
	};

	for (int event = 0; event < HOOK__MAX; event++)
		for (size_t i = 0; i < COUNT(rows); i++) {
			struct outcome o = run_one((enum hook_event)event, rows[i].script);

			assert_int_equal(o.r.action, rows[i].action);
			assert_int_equal(o.r.code, rows[i].code);
			assert_string_equal(o.r.esc, rows[i].esc);
			assert_string_equal(o.r.text, rows[i].text);
			assert_string_equal(o.r.detail, rows[i].detail);
			assert_int_equal(o.edits, 0);
		}
}

static void
what_hangs_or_is_not_there(void **state)
{
	struct outcome o;

	add_hook("one", HOOK_MAIL, "exec sleep 1000", NULL, NULL);
	config.hooks[0].timeout_ms = 200;
	o = run(HOOK_MAIL, NULL);
	assert_int_equal(o.r.action, FILTER_TEMPFAIL);
	assert_string_equal(o.r.detail, "one: timeout");
	stop();
	words[0][0] = STR("/nonexistent/hook");
	o = run(HOOK_MAIL, NULL);
	assert_int_equal(o.r.action, FILTER_TEMPFAIL);
	assert_string_equal(o.r.esc, "4.3.5");
	assert_string_equal(o.r.detail, "one: not started: No such file or directory");
}

/* ---- what it gets ---- */

static void
environment_and_words(void **state)
{
	static const struct {
		enum hook_event	 event;
		const char	*want;
	} rows[] = {
		{ HOOK_CONNECT, "args=2 <> <>|AUTH_USER=|BODY=7BIT|CLIENT_ADDRESS=192.0.2.1|CLIENT_HELO=client.test|EVENT=connect|LISTENER=mx|"
		    "MESSAGE_ID=0123456789abcdef0123|RECIPIENTS=|SENDER=sender@client.test|SMTPUTF8=|TLS_CIPHER=C|TLS_SERVER_NAME=|TLS_VERSION=TLSv1.2|" },
		{ HOOK_RCPT, "args=2 <user@local.test> <user>|AUTH_USER=|BODY=7BIT|CLIENT_ADDRESS=192.0.2.1|CLIENT_HELO=client.test|EVENT=rcpt|"
		    "LISTENER=mx|MESSAGE_ID=0123456789abcdef0123|RECIPIENT=user@local.test|RECIPIENTS=user@local.test|SENDER=sender@client.test|"
		    "SMTPUTF8=|TLS_CIPHER=C|TLS_SERVER_NAME=|TLS_VERSION=TLSv1.2|" },
		{ HOOK_MESSAGE, "args=2 <user@local.test> <user>|AUTH_USER=|BODY=7BIT|CLIENT_ADDRESS=192.0.2.1|CLIENT_HELO=client.test|EVENT=message|"
		    "LISTENER=mx|MESSAGE_ID=0123456789abcdef0123|MESSAGE_SIZE=17|RECIPIENTS=user@local.test Other@local.test|"
		    "SENDER=sender@client.test|SMTPUTF8=|TLS_CIPHER=C|TLS_SERVER_NAME=|TLS_VERSION=TLSv1.2|" },
	};
	char script[512];

	(void)snprintf(script, sizeof(script), "{ echo \"args=$# <$1> <$2>\"; env | grep -v -e ^PATH= -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= | LC_ALL=C "
	    "sort; } | tr '\\n' '|' > %s/got; cat > %s/stdin", folder, folder);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct outcome o;

		config.hooks_n = 0;
		add_hook("one", rows[i].event, script, "%{recipient}", "%{user}");
		o = run(rows[i].event, &rcpts[0]);
		assert_int_equal(o.r.action, FILTER_ACCEPT);
		assert_string_equal(contents("got"), rows[i].want);
		assert_string_equal(contents("stdin"), rows[i].event == HOOK_MESSAGE ? "Subject: x\n\nbody\n" : "");
		stop();
	}
	/* with trace fields in front it begins with them */
	assert_int_equal(message_trace(&tx, 0), 0);
	config.hooks_n = 0;
	add_hook("one", HOOK_MESSAGE, script, NULL, NULL);
	assert_int_equal(run(HOOK_MESSAGE, NULL).r.action, FILTER_ACCEPT);
	assert_ptr_equal(strstr(contents("stdin"), "Return-Path: "), contents("stdin"));
}

/* Those of all events together are those of smtpd.conf(5). */
static void
variables_of_the_manual(void **state)
{
	const char *part = manual_part(".Sh DELIVERY COMMANDS"), *item = " .It Ev ";
	char script[256], name[64], want[80], *seen, *line;
	size_t n = 0;

	(void)snprintf(script, sizeof(script), "tr '\\0' '\\n' </proc/$$/environ | sed 's/=.*//' >>%s/seen", folder);
	put("seen", "\n");
	for (int event = 0; event < HOOK__MAX; event++)
		assert_int_equal(run_one((enum hook_event)event, script).r.action, FILTER_ACCEPT);
	for (const char *p = part; (p = strstr(p, item)) != NULL; n++) {
		p += strlen(item);
		assert_int_equal(sscanf(p, "%63s", name), 1);
		print_message("%s in the manual\n", name);
		(void)snprintf(want, sizeof(want), "\n%s\n", name);
		assert_non_null(strstr(contents("seen"), want));
	}
	assert_true(n > 0);
	seen = strdup(contents("seen"));
	for (char *rest = seen; (line = strsep(&rest, "\n")) != NULL;) {
		if (*line == '\0')
			continue;
		print_message("%s in the environment\n", line);
		(void)snprintf(want, sizeof(want), "%s%.60s ", item, line);
		assert_non_null(strstr(part, want));
	}
	free(seen);
	assert_non_null(strstr(part, COMMAND_PATH " "));
}

static void
values_that_are_not_handed_on(void **state)	/* cases 5.23, 5.24, 5.26 */
{
	static const struct {
		enum hook_event	 event;		/* at which there is a hook */
		const char	*sender, *rcpt, *word;
		const char	*at_mail, *at_rcpt, *at_message;	/* esc; "": accepted */
	} rows[] = {
		{ HOOK_MAIL, "() { :;}; x", "u", NULL, "5.1.7", "", "" },
		{ HOOK_MAIL, "-x", "u", "%{sender}", "5.1.7", "", "" },
		{ HOOK_MAIL, "-x", "-x", "%{recipient}", "", "", "" },
		{ HOOK_RCPT, "s", "-x", "%{recipient}", "", "5.1.1", "" },
		{ HOOK_RCPT, "s", "-x", "x", "", "", "" },
		{ HOOK_RCPT, "s", "a b", NULL, "", "5.1.1", "" },
		{ HOOK_MESSAGE, "s", "a b", NULL, "", "5.1.1", "5.1.1" },
		{ HOOK_MESSAGE, "s", "-x", "%{recipients}", "", "5.1.1", "5.1.1" },
		{ HOOK_MESSAGE, "s", "a\nb", NULL, "", "5.1.1", "5.1.1" },
		{ HOOK_MESSAGE, "s\nt", "u", NULL, "", "", "5.1.7" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct outcome o;

		print_message("row %zu\n", i);
		config.hooks_n = 0;
		add_hook("one", rows[i].event, "exit 0", rows[i].word, NULL);
		start();
		(void)snprintf(tx.sender.local, sizeof(tx.sender.local), "%s", rows[i].sender);
		(void)snprintf(rcpts[0].local, sizeof(rcpts[0].local), "%s", rows[i].rcpt);
		o = run(HOOK_MAIL, NULL);
		assert_string_equal(o.r.esc, rows[i].at_mail);
		o = run(HOOK_RCPT, &rcpts[0]);
		assert_string_equal(o.r.esc, rows[i].at_rcpt);
		assert_int_equal(hooks_wants(hooks, HOOK_RCPT), rows[i].event != HOOK_MAIL);
		o = run(HOOK_MESSAGE, NULL);
		assert_string_equal(o.r.esc, rows[i].at_message);
		stop();
	}
}

/* ---- what it prints at message ---- */

static void
fields_to_add(void **state)
{
	static const struct {
		const char	*script, *fields;
	} rows[] = {
		{ "echo X-A: 1", "X-A: 1\n" },
		{ "printf 'X-A: 1'", "X-A: 1\n" },
		{ "printf 'X-A: 1\\r\\nX-B:\\t2\\r\\n'", "X-A: 1\nX-B:\t2\n" },
		{ "echo X-A: 1; echo X-B: 2; echo X-A: 3", "X-A: 1\nX-B: 2\nX-A: 3\n" },	/* in the order printed */
		{ "printf 'X-A: 1\\n\\tmore\\n  and more\\nX-B: 2\\n'", "X-A: 1\n\tmore\n  and more\nX-B: 2\n" },
		{ "printf 'checked\\nX-A: 1\\n'", "X-A: 1\n" },
		{ "printf 'X-A: 1\\nchecked\\n more\\nX-B: 2\\n'", "X-A: 1\nX-B: 2\n" },
		{ "printf 'X-A: 1\\n\\n more\\nX-B: 2\\n'", "X-A: 1\nX-B: 2\n" },
		{ "printf ' X-A: 1\\n: 2\\nX A: 3\\nX-\\303\\244: 4\\nX-A : 5\\n'", "" },
		{ "echo http://example.org; echo 12:00; echo X-A:; echo X-B:1", "" },
		{ "echo From: eve@example.org; echo content-type: text/html; echo X-A: 1", "X-A: 1\n" },	/* case 9.13 */
		{ "echo 5.7.1 no; echo X-A: 1", "X-A: 1\n" },
		{ "printf 'X%.0s' $(seq 64); echo ': 1'; printf 'Y%.0s' $(seq 65); echo ': 2'",
		    "XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX: 1\n" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct outcome o = run_one(HOOK_MESSAGE, rows[i].script);

		assert_int_equal(o.r.action, FILTER_ACCEPT);
		assert_string_equal(o.fields, rows[i].fields);
		o = run_one(HOOK_RCPT, rows[i].script);	/* nowhere to add them */
		assert_int_equal(o.edits, 0);
	}
}

/* Of an output that is cut the last field is left out, whatever it is; and there are bounds for all. */
static void
much_output(void **state)
{
	struct outcome o = run_one(HOOK_MESSAGE, "echo X-A: 1; printf 'X-B: '; head -c 5000 /dev/zero | tr '\\0' x");

	assert_string_equal(o.fields, "X-A: 1\n");
	o = run_one(HOOK_MESSAGE, "printf 'X-A: 1\\nX-B: '; head -c 4083 /dev/zero | tr '\\0' x; echo");	/* 4096 */
	assert_string_equal(o.fields, "X-A: 1\n");
	o = run_one(HOOK_MESSAGE, "printf 'X-A: 1\\nX-B: '; head -c 4082 /dev/zero | tr '\\0' x; echo");
	assert_int_equal(o.edits, 2);
	o = run_one(HOOK_MESSAGE, "for i in $(seq 300); do echo A: $i; done");
	assert_int_equal(o.edits, CONTENT_EDITS_MAX);
	assert_ptr_equal(strstr(o.fields, "A: 1\nA: 2\n"), o.fields);
	o = run_one(HOOK_MESSAGE, "cat /dev/zero | head -c 3000000; echo; echo X-A: 1");
	assert_int_equal(o.edits, 0);
}

/* The bounds of smtpd.conf(5), and the names that it says are not added (case 9.13). */
static void
fields_of_the_manual(void **state)
{
	static const struct { const char *form; int n; } bounds[] = {
		{ " the first %d octets ", CHILD_OUTPUT_MAX }, { " at most %d octets.", CONTENT_NAME_MAX }, { " at most %d fields", CONTENT_EDITS_MAX }
	};
	const char *part = manual_part(".Ss [smtpd.hook NAME]\\&"), *begin = " are not added: ", *end;
	char want[64];
	struct span rest, name;
	size_t n = 0;

	for (size_t i = 0; i < COUNT(bounds); i++) {
		(void)snprintf(want, sizeof(want), bounds[i].form, bounds[i].n);
		print_message("%s\n", want);
		assert_non_null(strstr(part, want));
	}
	part = strstr(part, begin);
	assert_non_null(part);
	part += strlen(begin);
	end = strstr(part, ", and all that begin with Content- or Resent-. ");
	assert_non_null(end);
	rest = (struct span){ part, (size_t)(end - part) };
	for (; text_token(&rest, ",", &name); n++) {
		print_message("%.*s\n", (int)name.len, name.p);
		assert_true(content_is_structural(text_trim(name)));
	}
	assert_int_equal(n, 12);
	assert_true(content_is_structural(SPAN("Content-X")) && content_is_structural(SPAN("Resent-X")));
}

/* What reaches the message is what content.c makes of it. */
static void
fields_in_the_message(void **state)
{
	struct config with_sizes = { .max_message_size = 1000000, .max_header_size = 100000 };
	struct filter_report r = { 0 };
	struct content c;
	struct buf b;

	edits_add(&r.edits, EDIT_ADD_TOP, 0, SPAN("X-B"), SPAN(" 2\r\n\tmore"));
	edits_add(&r.edits, EDIT_ADD_TOP, 0, SPAN("X-A"), SPAN(" 1"));
	tx.config = &with_sizes;
	assert_int_equal(content_load(&c, &tx), 0);
	assert_int_equal(content_apply(&c, &r.edits), 0);
	buf_init(&b, 1000);
	assert_int_equal(content_header(&c, "\n", &b), 0);
	assert_string_equal(buf_str(&b), "X-A: 1\nX-B: 2\n\tmore\nSubject: x\n");
	buf_clear(&b);
	edits_clear(&r.edits);
	content_clear(&c);
}

/* ---- several ---- */

static void
one_after_the_other(void **state)
{
	struct outcome o;
	char script[4][256];

	for (size_t i = 0; i < 4; i++)
		(void)snprintf(script[i], sizeof(script[i]), "echo %zu >> %s/order; echo X-%zu: a; echo X-%zu: b; exit %d", i, folder, i, i,
		    i == 2 ? 77 : 0);
	add_hook("a", HOOK_MESSAGE, script[0], NULL, NULL);
	add_hook("other", HOOK_RCPT, "exit 67", NULL, NULL);
	add_hook("b", HOOK_MESSAGE, script[1], NULL, NULL);
	start();
	assert_true(hooks_wants(hooks, HOOK_MESSAGE) && hooks_wants(hooks, HOOK_RCPT));
	assert_false(hooks_wants(hooks, HOOK_CONNECT) || hooks_wants(hooks, HOOK_MAIL));
	o = run(HOOK_MESSAGE, NULL);
	assert_int_equal(o.r.action, FILTER_ACCEPT);
	assert_string_equal(o.fields, "X-1: a\nX-1: b\nX-0: a\nX-0: b\n");	/* the later hook's are above */
	assert_string_equal(contents("order"), "0\n1\n");
	stop();
	put("order", "");
	add_hook("c", HOOK_MESSAGE, script[2], NULL, NULL);
	add_hook("d", HOOK_MESSAGE, script[3], NULL, NULL);
	o = run(HOOK_MESSAGE, NULL);
	assert_int_equal(o.r.action, FILTER_REJECT);
	assert_string_equal(o.r.detail, "c: exit 77");
	assert_int_equal(o.edits, 0);		/* a message that is refused is not changed */
	assert_string_equal(contents("order"), "0\n1\n2\n");
	o = run(HOOK_CONNECT, NULL);		/* none: inside the call */
	assert_int_equal(o.r.action, FILTER_ACCEPT);
}

/* HOOKS_MAX run; of the others each waits as long as its own hook's timeout. */
static void
so_many_at_once(void **state)
{
	static struct outcome o[HOOKS_MAX + 3];

	memset(o, 0, sizeof(o));
	add_hook("slow", HOOK_MESSAGE, "exec sleep 1000", NULL, NULL);
	config.hooks[0].timeout_ms = 1000;
	add_hook("patient", HOOK_MAIL, "exit 0", NULL, NULL);
	add_hook("hasty", HOOK_CONNECT, "exit 0", NULL, NULL);
	config.hooks[2].timeout_ms = 100;
	start();
	for (size_t i = 0; i < HOOKS_MAX; i++)
		hooks_run(hooks, HOOK_MESSAGE, &tx, NULL, note, &o[i]);
	hooks_run(hooks, HOOK_MAIL, &tx, NULL, note, &o[HOOKS_MAX]);
	hooks_run(hooks, HOOK_CONNECT, &tx, NULL, note, &o[HOOKS_MAX + 1]);
	hooks_run(hooks, HOOK_MAIL, &tx, NULL, note, &o[HOOKS_MAX + 2]);
	assert_int_equal(hooks_pending(hooks), COUNT(o));
	assert_int_equal(children_running(children), HOOKS_MAX);
	wait_for(&o[HOOKS_MAX + 1]);
	assert_int_equal(o[0].calls + o[HOOKS_MAX].calls, 0);
	assert_int_equal(o[HOOKS_MAX + 1].r.action, FILTER_TEMPFAIL);
	assert_string_equal(o[HOOKS_MAX + 1].r.esc, "4.3.2");
	assert_string_equal(o[HOOKS_MAX + 1].r.detail, "hasty: waited too long");
	for (size_t i = 0; i < HOOKS_MAX; i++) {
		wait_for(&o[i]);
		assert_string_equal(o[i].r.detail, "slow: timeout");
	}
	wait_for(&o[HOOKS_MAX]);
	wait_for(&o[HOOKS_MAX + 2]);
	assert_int_equal(o[HOOKS_MAX].r.action, FILTER_ACCEPT);
	assert_int_equal(o[HOOKS_MAX + 2].r.action, FILTER_ACCEPT);
	assert_int_equal(hooks_pending(hooks), 0);
}

static void
the_queue_is_bounded_and_its_end_tells_everybody(void **state)
{
	static struct outcome o, last;
	unsigned n = 0;

	o = last = (struct outcome){ 0 };
	add_hook("slow", HOOK_MAIL, "exec sleep 1000", NULL, NULL);
	start();
	for (; last.calls == 0 && n < 100000; n++) {
		assert_int_equal(o.calls, 0);
		hooks_run(hooks, HOOK_MAIL, &tx, NULL, note, n < HOOKS_MAX + 4096 ? &o : &last);
	}
	assert_int_equal(n, HOOKS_MAX + 4096 + 1);
	assert_string_equal(last.r.esc, "4.3.2");
	assert_string_equal(last.r.detail, "slow: too many are waiting");
	stop();
	assert_int_equal(o.calls, HOOKS_MAX + 4096);
	assert_int_equal(o.r.action, FILTER_TEMPFAIL);
}

static void
they_run_as_the_delivery_user(void **state)
{
	char script[256];

	if (geteuid() != 0)
		skip();
	config.user = STR("65533");
	config.delivery_user = STR("65532:65531");
	assert_int_equal(chown(folder, 65532, 65531), 0);
	(void)snprintf(script, sizeof(script), "id -u > %s/id; id -g >> %s/id", folder, folder);
	assert_int_equal(run_one(HOOK_MAIL, script).r.action, FILTER_ACCEPT);
	assert_string_equal(contents("id"), "65532\n65531\n");
	stop();
	config.delivery_user = STR("no-such-user");
	assert_null(hooks_new(&loop, &config, NULL));
	assert_int_equal(errno, ENOENT);
}

/* ---- contrib/hooks ---- */

/* The hook of contrib with one argument, at one event. */
static void
use_contrib(const char *name, const char *argument, enum hook_event event)
{
	static char program[600], path[512];

	(void)snprintf(program, sizeof(program), "%s/contrib/hooks/%s", source, name);
	(void)snprintf(path, sizeof(path), "%s/%s", folder, argument);
	stop();
	config.hooks_n = 1;
	config.hooks[0] = (struct hook_config){ .name = "one", .event = event, .command = { words[0], 2 }, .timeout_ms = 10000 };
	words[0][0] = program;
	words[0][1] = path;
	words[0][2] = NULL;
}

static void
the_block_list(void **state)
{
	static const struct {
		const char	*client, *local, *domain;
		const char	*esc;
	} rows[] = {
		{ "203.0.113.9", "friend", "good.test", "" },
		{ "192.0.2.7", "friend", "good.test", "5.7.1" },
		{ "192.0.2.70", "friend", "good.test", "" },
		{ "198.51.100.3", "friend", "good.test", "5.7.1" },
		{ "198.51.10.3", "friend", "good.test", "" },
		{ "2001:db8::7", "friend", "good.test", "5.7.1" },
		{ "2001:db9::7", "friend", "good.test", "" },
		{ "203.0.113.9", "Bob", "Example.org", "5.7.1" },
		{ "203.0.113.9", "alice", "example.org", "" },
		{ "203.0.113.9", "bob", "sub.example.org", "" },
		{ "203.0.113.9", "x", "spam.test", "5.7.1" },
		{ "203.0.113.9", "x", "a.b.spam.test", "5.7.1" },
		{ "203.0.113.9", "x", "nospam.test", "" },
		{ "203.0.113.9", "x", "spam.test.org", "" },
		{ "203.0.113.9", "a b\\$(id)", "good.test", "" },
		{ "203.0.113.9", "", "", "" },		/* <> */
		{ "203.0.113.9", "hash#mark", "odd.test", "5.7.1" },
	};

	put("list", "# not welcome\n192.0.2.7\n198.51.100.\n2001:DB8:\n\n  bob@example.org\t# Bob\r\nspam.test\nhash#mark@odd.test\n");
	use_contrib("blocklist", "list", HOOK_MAIL);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct outcome o;

		print_message("%s %s@%s\n", rows[i].client, rows[i].local, rows[i].domain);
		tx.client_address = rows[i].client;
		(void)snprintf(tx.sender.local, sizeof(tx.sender.local), "%s", rows[i].local);
		(void)snprintf(tx.sender.domain, sizeof(tx.sender.domain), "%s", rows[i].domain);
		o = run(HOOK_MAIL, NULL);
		assert_string_equal(o.r.esc, rows[i].esc);
		assert_int_equal(o.r.action, rows[i].esc[0] == '\0' ? FILTER_ACCEPT : FILTER_REJECT);
	}
	tx.client_address = "192.0.2.7";
	tx.sender = (struct mailbox){ 0 };
	use_contrib("blocklist", "list", HOOK_CONNECT);
	assert_int_equal(run(HOOK_CONNECT, NULL).r.action, FILTER_REJECT);
	tx.client_address = "203.0.113.9";
	assert_int_equal(run(HOOK_CONNECT, NULL).r.action, FILTER_ACCEPT);
	use_contrib("blocklist", "missing", HOOK_CONNECT);
	assert_int_equal(run(HOOK_CONNECT, NULL).r.action, FILTER_TEMPFAIL);
	use_contrib("blocklist", "", HOOK_CONNECT);	/* a folder */
	assert_int_equal(run(HOOK_CONNECT, NULL).r.action, FILTER_TEMPFAIL);
}

/* The files in a folder of the test; the name of the last is left in *last. */
static unsigned
count(const char *name, char *last, size_t size)
{
	char path[300];
	unsigned n = 0;
	struct dirent *e;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	dir = opendir(path);
	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		n++;
		(void)snprintf(last, size, "%s/%s", name, e->d_name);
	}
	closedir(dir);
	return n;
}

static void
the_archive(void **state)
{
	char path[512], last[300];
	struct outcome o;
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/archive", folder);
	assert_int_equal(mkdir(path, 0700), 0);
	(void)snprintf(rcpts[1].local, sizeof(rcpts[1].local), "%s", "*");	/* no pattern */
	use_contrib("archive", "archive", HOOK_MESSAGE);
	o = run(HOOK_MESSAGE, NULL);
	assert_int_equal(o.r.action, FILTER_ACCEPT);
	assert_int_equal(o.edits, 0);
	assert_int_equal(count("archive", last, sizeof(last)), 1);
	assert_non_null(strstr(last, "Z-0123456789abcdef0123.eml"));
	assert_string_equal(contents(last), "Return-Path: <sender@client.test>\nX-Envelope-To: user@local.test\nX-Envelope-To: *@local.test\n"
	    "Subject: x\n\nbody\n");
	(void)snprintf(path, sizeof(path), "%s/%s", folder, last);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	use_contrib("archive", "missing", HOOK_MESSAGE);
	o = run(HOOK_MESSAGE, NULL);
	assert_int_equal(o.r.action, FILTER_TEMPFAIL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(exits_and_output), T(what_hangs_or_is_not_there), T(environment_and_words), T(variables_of_the_manual), T(values_that_are_not_handed_on),
		T(fields_to_add), T(much_output), T(fields_of_the_manual), T(fields_in_the_message), T(one_after_the_other), T(so_many_at_once),
		T(the_queue_is_bounded_and_its_end_tells_everybody), T(they_run_as_the_delivery_user), T(the_block_list), T(the_archive),
	};

	if (getcwd(source, sizeof(source)) == NULL)	/* the tests are started in the project's folder */
		return 1;
	log_init(LOG_ERROR, LOG_LOGFMT, "test");
	return cmocka_run_group_tests_name("hook", tests, NULL, NULL);
}
