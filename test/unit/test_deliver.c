/*
 * test_deliver.c - the delivery contract, recipient checks, the Maildir writers (SECURITY-CASES 5.21 to 5.27, 12, 14.7).
 */
#include "deliver.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "folder.h"
#include "waits.h"

#define STR(s) ((char *)(uintptr_t)(s))	/* argument vectors are not const, for history's sake */

static struct loop loop;
static size_t loop_own;	/* slots that the loop has of itself */
static struct config config;
static struct children *children;
static struct deliver *d;
static const struct listener listener = { .name = "mx" };
static char template[256];

struct outcome {
	unsigned	 calls;
	struct verdict	 v;
	char		 detail[256];
};

static void
note(void *arg, const struct verdict *v, const char *detail)
{
	struct outcome *o = arg;

	o->calls++;
	o->v = *v;
	(void)snprintf(o->detail, sizeof(o->detail), "%s", detail);
}

/* ---- transactions ---- */

static void
set_mailbox(struct mailbox *m, const char *address)
{
	const char *at = strrchr(address, '@');

	memset(m, 0, sizeof(*m));
	if (at == NULL)
		return;
	assert_int_equal(text_copy(m->local, sizeof(m->local), (struct span){ address, (size_t)(at - address) }), 0);
	assert_int_equal(text_copy(m->domain, sizeof(m->domain), text_span(at + 1)), 0);
}

static void
tx_init(struct tx *tx, const char *sender, const char *const *rcpts, const char *body, size_t len)
{
	*tx = (struct tx){ .id = "0123456789abcdef0123", .session = 1, .config = &config, .listener = &listener,
	    .client_address = "192.0.2.1", .helo = "client.test", .auth_user = "", .auth_type = "", .tls_version = "", .tls_cipher = "", .tls_name = "",
	    .esmtp = true };
	set_mailbox(&tx->sender, sender);
	while (rcpts[tx->rcpts_n] != NULL)
		tx->rcpts_n++;
	tx->rcpts = calloc(tx->rcpts_n, sizeof(*tx->rcpts));
	assert_non_null(tx->rcpts);
	for (size_t i = 0; i < tx->rcpts_n; i++)
		set_mailbox(&tx->rcpts[i], rcpts[i]);
	tx->fd = message_open("");
	assert_true(tx->fd != -1);
	assert_int_equal(pwrite(tx->fd, body, len, MESSAGE_ROOM), (ssize_t)len);
	tx->size = MESSAGE_ROOM + len;
	assert_int_equal(message_seal(tx, 0), 0);
}

static void
tx_clear(struct tx *tx)
{
	free(tx->rcpts);
	close(tx->fd);
}

/* A front that keeps a hand on a message: it goes its way as it was seen, and the hand is on nothing. */
static void
a_message_that_somebody_has_mapped(void **state)
{
	static const char *const rcpts[] = { "user@local.test", NULL };
	const char body[] = "From: a@x.test\n\nbody\n";
	struct tx tx = { .fd = -1 };
	struct stat before, after;
	char *map, got[8192];
	ssize_t n;

	tx_init(&tx, "a@x.test", rcpts, body, sizeof(body) - 1);
	close(tx.fd);
	tx.fd = message_open("");
	assert_int_equal(pwrite(tx.fd, body, sizeof(body) - 1, MESSAGE_ROOM), (ssize_t)sizeof(body) - 1);
	tx.header_at = 0;
	map = mmap(NULL, (size_t)tx.size, PROT_READ | PROT_WRITE, MAP_SHARED, tx.fd, 0);
	assert_true(map != MAP_FAILED);
	assert_int_equal(fstat(tx.fd, &before), 0);
	errno = 0;
	assert_int_equal(message_seal(&tx, 0), -1);
	assert_int_equal(errno, EBUSY);
	memset(map, 'x', MESSAGE_ROOM);		/* also our trace fields */
	tx.header_at = MESSAGE_ROOM;
	assert_int_equal(message_private(&tx), 0);
	assert_int_equal(message_trace(&tx, 0), 0);
	assert_int_equal(fstat(tx.fd, &after), 0);
	assert_true(before.st_ino != after.st_ino);
	memset(map, 'x', (size_t)tx.size);
	n = pread(tx.fd, got, sizeof(got), (off_t)tx.header_at);
	assert_int_equal(n, (ssize_t)(tx.size - tx.header_at));
	assert_memory_equal(got, "Return-Path: <a@x.test>\n", 24);
	assert_memory_equal(got + n - (ssize_t)sizeof(body) + 1, body, sizeof(body) - 1);
	munmap(map, (size_t)tx.size);
	tx_clear(&tx);
}

static const char *const one[] = { "user@local.test", NULL };
static const char *const three[] = { "a@local.test", "b@local.test", "C@local.test", NULL };

static struct outcome
deliver_to(const char *sender, const char *const *rcpts, const char *body)
{
	struct outcome o = { 0 };
	struct tx tx;

	tx_init(&tx, sender, rcpts, body, strlen(body));
	deliver_start(d, &tx, note, &o);
	wait_for(&o);
	tx_clear(&tx);
	return o;
}

static struct outcome
check(const char *address)
{
	struct outcome o = { 0 };
	struct mailbox m;
	struct tx tx;

	tx_init(&tx, "sender@client.test", one, "", 0);
	set_mailbox(&m, address);
	deliver_check(d, &tx, &m, note, &o);
	wait_for(&o);
	tx_clear(&tx);
	return o;
}

static void
expect(const struct outcome *o, int code, const char *esc, const char *detail)
{
	print_message("-> %d %s %s (%s)\n", o->v.code, o->v.esc, o->v.text, o->detail);
	assert_int_equal(o->v.code, code);
	assert_string_equal(o->v.esc, esc);
	if (detail != NULL)
		assert_string_equal(o->detail, detail);
}

/* ---- one delivery agent a test ---- */

static void
config_reset(void)
{
	config = (struct config){ .hostname = STR("mx.test"), .user = STR(""), .spool_dir = STR(""),
	    .maildir = STR(""), .delivery_user = STR(""), .recipients_file = STR(""), .max_recipients = 100,
	    .max_deliveries = 20, .delivery_ms = 10000, .max_message_size = 1 << 25 };
}

static void
start(void)
{
	children = children_new(&loop, config.max_deliveries + DELIVER_CHECKS_MAX);
	assert_non_null(children);
	d = deliver_new(&loop, &config, children, NULL);
	assert_non_null(d);
}

/* The command: sh -c SCRIPT sh ARGUMENT ... */
static char *command_words[16];

static void
start_command(const char *script, const char *const *more)
{
	size_t n = 0;

	command_words[n++] = STR("/bin/sh");
	command_words[n++] = STR("-c");
	command_words[n++] = STR(script);
	command_words[n++] = STR("sh");
	for (size_t i = 0; more != NULL && more[i] != NULL; i++)
		command_words[n++] = STR(more[i]);
	command_words[n] = NULL;
	config.command = (struct words){ command_words, n };
	start();
}

static void
stop(void)
{
	if (children != NULL)
		children_end(children);
	deliver_free(d);
	children_free(children);
	children = NULL;
	d = NULL;
}

static void
start_maildir(bool create)
{
	(void)snprintf(template, sizeof(template), "%s/%%{domain}/%%{user}", folder);
	config.maildir = template;
	config.maildir_create = create;
	start();
}

static int
setup(void **state)
{
	(void)state;
	config_reset();
	/* in memory where that can be had: how long a disk takes is not the matter here */
	(void)snprintf(folder, sizeof(folder), "/dev/shm/test_deliver.XXXXXX");
	if (mkdtemp(folder) == NULL) {
		(void)snprintf(folder, sizeof(folder), "/tmp/test_deliver.XXXXXX");
		assert_non_null(mkdtemp(folder));
	}
	assert_int_equal(loop_init(&loop, 200), 0);
	loop_own = loop.n;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	stop();
	assert_int_equal(loop.n, loop_own);
	loop_clear(&loop);
	folder_remove();
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	return 0;
}

/* How many files a folder of the test has; the path of the last one is left in *last. */
static unsigned
count(const char *name, char *last, size_t size)
{
	char path[300];
	unsigned n = 0;
	struct dirent *e;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	dir = opendir(path);
	if (dir == NULL)
		return 0;
	while ((e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		n++;
		if (last != NULL)
			(void)snprintf(last, size, "%s/%s", path, e->d_name);
	}
	closedir(dir);
	return n;
}

static void
make_maildir(const char *name)
{
	static const char *const parts[] = { "", "/tmp", "/new", "/cur" };
	char path[300];

	(void)snprintf(path, sizeof(path), "%s/local.test", folder);
	(void)mkdir(path, 0700);
	for (size_t i = 0; i < COUNT(parts); i++) {
		(void)snprintf(path, sizeof(path), "%s/local.test/%s%s", folder, name, parts[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
}

/* ---- the command ---- */

static void
every_exit_status(void **state)	/* case 12.1 */
{
	static const struct {
		int		 status, code;
		const char	*esc;
	} rows[] = {
		{ 0, 250, "2.0.0" }, { 65, 550, "5.6.0" }, { 67, 550, "5.1.1" }, { 68, 550, "5.1.2" }, { 77, 550, "5.7.1" },
		{ 78, 451, "4.3.5" }, { 100, 554, "5.3.0" }, { 126, 451, "4.3.5" }, { 127, 451, "4.3.5" },
	};
	static struct outcome o[256];
	struct tx tx[256];

	(void)state;
	start_command("exit $1", (const char *const[]){ "%{user}", NULL });
	for (int i = 0; i < 256; i++) {
		char rcpt[32];

		(void)snprintf(rcpt, sizeof(rcpt), "%d@local.test", i);
		tx_init(&tx[i], "", (const char *const[]){ rcpt, NULL }, "x\n", 2);
		o[i] = (struct outcome){ 0 };
		deliver_start(d, &tx[i], note, &o[i]);	/* beyond max_deliveries they wait */
	}
	assert_int_equal(deliver_pending(d), 256);
	for (int i = 0; i < 256; i++) {
		int code = 451;
		const char *esc = "4.3.0";
		char detail[32];

		for (size_t k = 0; k < COUNT(rows); k++)
			if (rows[k].status == i) {
				code = rows[k].code;
				esc = rows[k].esc;
			}
		(void)snprintf(detail, sizeof(detail), "exit %d", i);
		wait_for(&o[i]);
		expect(&o[i], code, esc, detail);
		tx_clear(&tx[i]);
	}
	assert_string_equal(o[0].v.text, "Ok: 0123456789abcdef0123");
	assert_int_equal(deliver_pending(d), 0);
}

static void
output_and_status(void **state)	/* case 12.7 */
{
	static const struct {
		const char	*script;
		int		 code;
		const char	*esc, *text, *detail;
	} rows[] = {
		{ "echo 5.2.2 Mailbox full; exit 75", 550, "5.2.2", "Mailbox full", "exit 75" },
		{ "echo 4.2.2 Mailbox full >&2; exit 67", 451, "4.2.2", "Mailbox full", "exit 67" },
		{ "printf '5.7.0 One\\r\\n5.7.1 Two\\n'; exit 1", 550, "5.7.0", "One", "exit 1" },
		{ "echo 250 fake; exit 75", 451, "4.3.0", "Temporary delivery failure", "exit 75" },
		{ "echo 2.0.0 fake; exit 75", 451, "4.3.0", "Temporary delivery failure", "exit 75" },
		{ "echo; echo 5.1.1 second line; exit 75", 451, "4.3.0", "Temporary delivery failure", "exit 75" },
		{ "echo 5.1.1 but all is well; exit 0", 250, "2.0.0", "Ok: 0123456789abcdef0123", "exit 0" },
		{ "printf '5.7.1 a\\033[1m\\000b\\377\\r250 c\\n'; exit 77", 550, "5.7.1", "a?[1m?b??250 c", "exit 77" },
		{ "echo 5.1.1 no; kill -9 $$", 451, "4.3.0", "Temporary delivery failure", "signal 9" },
		{ "echo secret of ours; exit 65", 550, "5.6.0", "Message content refused", "exit 65" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct outcome o;

		print_message("%s\n", rows[i].script);
		start_command(rows[i].script, NULL);
		o = deliver_to("sender@client.test", one, "Subject: x\n\nbody\n");
		expect(&o, rows[i].code, rows[i].esc, rows[i].detail);
		assert_string_equal(o.v.text, rows[i].text);
		stop();
	}
}

static void
a_long_line_is_cut(void **state)
{
	struct outcome o;

	(void)state;
	start_command("printf '5.7.1 '; head -c 10000 /dev/zero | tr '\\0' y; exit 77", NULL);
	o = deliver_to("", one, "x\n");
	expect(&o, 550, "5.7.1", "exit 77");
	assert_true(strlen(o.v.text) < sizeof(o.v.text));
	assert_int_equal(strspn(o.v.text, "y"), strlen(o.v.text));
}

static void
what_cannot_be_started(void **state)	/* case 12.9 */
{
	char *words[] = { STR("/nonexistent/command"), NULL };
	struct outcome o;

	(void)state;
	config.command = (struct words){ words, 1 };
	start();
	o = deliver_to("", one, "x\n");
	expect(&o, 451, "4.3.5", "not started: No such file or directory");
}

static void
timeout(void **state)	/* case 12.3 */
{
	struct outcome o;

	(void)state;
	config.delivery_ms = 300;
	start_command("echo 5.0.0 no; exec sleep 1000", NULL);
	o = deliver_to("", one, "x\n");
	expect(&o, 451, "4.3.0", "timeout");
}

static void
waiting_has_an_end(void **state)	/* case 12.12 */
{
	static struct outcome o[4];
	struct tx tx;

	(void)state;
	config.max_deliveries = 1;
	config.delivery_ms = 600;
	start_command("sleep 0.4", NULL);
	tx_init(&tx, "", one, "x\n", 2);
	for (size_t i = 0; i < COUNT(o); i++) {
		o[i] = (struct outcome){ 0 };
		deliver_start(d, &tx, note, &o[i]);
	}
	for (size_t i = 0; i < COUNT(o); i++)
		wait_for(&o[i]);
	expect(&o[0], 250, "2.0.0", "exit 0");
	expect(&o[1], 250, "2.0.0", "exit 0");
	expect(&o[2], 451, "4.3.2", "waited too long");
	expect(&o[3], 451, "4.3.2", "waited too long");
	tx_clear(&tx);
}

static void
the_command_gets_the_message(void **state)
{
	static char body[100000];
	struct outcome o[2] = { 0 };
	struct tx tx;

	(void)state;
	memset(body, 'x', sizeof(body));
	body[sizeof(body) - 1] = '\n';
	/* two at once from one open file: each has an offset of its own (case 12.18) */
	(void)snprintf(template, sizeof(template), "cat > %s/$$; touch %s/$$.end", folder, folder);
	start_command(template, NULL);
	tx_init(&tx, "sender@client.test", one, body, sizeof(body));
	for (size_t i = 0; i < COUNT(o); i++)
		deliver_start(d, &tx, note, &o[i]);
	for (size_t i = 0; i < COUNT(o); i++) {
		wait_for(&o[i]);
		expect(&o[i], 250, "2.0.0", "exit 0");
	}
	assert_int_equal(count("", NULL, 0), 4);
	{
		DIR *dir = opendir(folder);
		struct dirent *e;

		assert_non_null(dir);
		while ((e = readdir(dir)) != NULL) {
			struct stat st;

			if (e->d_name[0] == '.' || strchr(e->d_name, '.') != NULL)
				continue;
			assert_int_equal(fstatat(dirfd(dir), e->d_name, &st, 0), 0);
			assert_int_equal(st.st_size, tx.size - tx.header_at);
			assert_ptr_equal(strstr(contents(e->d_name), "Return-Path: <sender@client.test>\nDelivered-To: user@local.test\n"),
			    contents(e->d_name));
		}
		closedir(dir);
	}
	tx_clear(&tx);
}

static void
arguments(void **state)	/* cases 5.22, 5.25 */
{
	static const struct {
		const char	*words[6];
		const char	*sender;
		const char	*rcpts[4];
		const char	*want;
	} rows[] = {
		{ { "%{sender}", "%{recipient}" }, "s@c.test", { "u@l.test" }, "[s@c.test][u@l.test]" },
		{ { "%{sender}", "-d", "%{user}" }, "", { "u@l.test" }, "[][-d][u]" },
		{ { "x%{user}y%{domain}%{id}" }, "", { "u@l.test" }, "[xuyl.test0123456789abcdef0123]" },
		{ { "a", "%{recipients}", "z" }, "", { "a@l.test", "b@l.test" }, "[a][a@l.test][b@l.test][z]" },
		{ { "to=%{recipients}" }, "", { "a@l.test", "b@l.test" }, "[to=a@l.test b@l.test]" },
		{ { "%{client_address}", "%{auth_user}", "end" }, "", { "u@l.test" }, "[192.0.2.1][][end]" },
		{ { "%{user}" }, "", { "%{sender}@l.test" }, "[%{sender}]" },
		{ { "%{sender}" }, "$(touch${IFS}x)@c.test", { "u@l.test" }, NULL },
		{ { "%{user}" }, "", { "${run{touch}}@l.test" }, "[${run{touch}}]" },
		{ { "%{user", "%", "%{nothing}", "%%{user}" }, "", { "u@l.test" }, "[%{user][%][%{nothing}][%u]" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct outcome o;
		char script[200];

		print_message("row %zu\n", i);
		(void)snprintf(script, sizeof(script), "for a; do printf '[%%s]' \"$a\"; done > %s/args", folder);
		start_command(script, rows[i].words);
		o = deliver_to(rows[i].sender, rows[i].rcpts, "x\n");
		expect(&o, 250, "2.0.0", "exit 0");
		if (rows[i].want != NULL)
			assert_string_equal(contents("args"), rows[i].want);
		stop();
	}
}

static void
environment(void **state)
{
	struct outcome o;
	struct tx tx;
	char script[200], want[600];

	(void)state;
	(void)setenv("SECRET", "inherited", 1);
	(void)snprintf(script, sizeof(script), "env | grep -v ^PWD= | sort > %s/env", folder);
	start_command(script, NULL);
	o = (struct outcome){ 0 };
	tx_init(&tx, "sender@client.test", one, "body\n", 5);
	tx.auth_user = "alice";
	tx.tls_version = "TLSv1.2";
	tx.tls_cipher = "ECDHE";
	tx.tls_name = "mx.test";
	tx.utf8 = true;
	tx.body = SMTP_BODY_8BITMIME;
	deliver_start(d, &tx, note, &o);
	wait_for(&o);
	(void)snprintf(want, sizeof(want), "AUTH_USER=alice\nBODY=8BITMIME\nCLIENT_ADDRESS=192.0.2.1\nCLIENT_HELO=client.test\nLISTENER=mx\n"
	    "MESSAGE_ID=0123456789abcdef0123\nMESSAGE_SIZE=%llu\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
	    "RECIPIENT=user@local.test\nRECIPIENTS=user@local.test\nSENDER=sender@client.test\nSMTPUTF8=1\nTLS_CIPHER=ECDHE\n"
	    "TLS_SERVER_NAME=mx.test\nTLS_VERSION=TLSv1.2\n", (unsigned long long)(tx.size - tx.header_at));
	assert_string_equal(contents("env"), want);
	tx_clear(&tx);
	o = deliver_to("", three, "x\n");
	expect(&o, 250, "2.0.0", "exit 0");
	assert_null(strstr(contents("env"), "RECIPIENT="));
	assert_non_null(strstr(contents("env"), "RECIPIENTS=a@local.test b@local.test C@local.test\nSENDER=\nSMTPUTF8=\n"));
}

/* Mail to others goes to the relay's command, whatever takes ours; nobody asks whether they exist. */
static void
foreign_recipients(void **state)
{
	char words[300], *relay[] = { STR("/bin/sh"), STR("-c"), words, STR("sh"), STR("%{recipients}"), NULL };
	const char *far[] = { "x@far.test", "-y@away.test", NULL };
	struct outcome o = { 0 };
	struct tx tx;

	(void)state;
	(void)snprintf(words, sizeof(words), "cat > %s/relayed; for a; do echo \"$a\"; done > %s/args", folder, folder);
	start_maildir(false);
	config.relay_command = (struct words){ relay, 5 };
	tx_init(&tx, "sender@local.test", far, "body\n", 5);
	tx.foreign = true;
	deliver_check(d, &tx, &tx.rcpts[0], note, &o);
	expect(&o, 250, "2.1.5", NULL);
	o = (struct outcome){ 0 };
	deliver_check(d, &tx, &tx.rcpts[1], note, &o);
	expect(&o, 550, "5.1.1", NULL);		/* it could be taken for an option */
	tx.rcpts_n = 1;
	o = (struct outcome){ 0 };
	deliver_start(d, &tx, note, &o);
	wait_for(&o);
	expect(&o, 250, "2.0.0", "exit 0");
	assert_string_equal(contents("args"), "x@far.test\n");
	assert_non_null(strstr(contents("relayed"), "body\n"));
	assert_string_equal(deliver_agent_name(d, &tx), "relay");
	tx_clear(&tx);
}

static void
values_that_are_not_handed_on(void **state)	/* cases 5.23, 5.24, 5.26 */
{
	static const struct {
		const char	*word, *sender, *rcpt;
		int		 check, code;
		const char	*esc;
	} rows[] = {
		{ "%{recipient}", "", "-oQpwned@local.test", 550, 550, "5.1.1" },
		{ "%{recipients}", "", "--help@local.test", 550, 550, "5.1.1" },
		{ "%{user}", "", "-x@local.test", 550, 550, "5.1.1" },
		{ "--to=%{recipient}", "", "-x@local.test", 550, 550, "5.1.1" },
		{ "%{domain}", "", "-x@local.test", 250, 250, "2.0.0" },	/* in the environment alone it is safe */
		{ "%{sender}", "-x@c.test", "u@local.test", 250, 550, "5.1.7" },
		{ "x", "-x@c.test", "u@local.test", 250, 250, "2.0.0" },
		{ "x", "() { :;}; touch pwned@c.test", "u@local.test", 250, 550, "5.1.7" },
		{ "x", "a\nb@c.test", "u@local.test", 250, 550, "5.1.7" },
		{ "x", "", "() { :;}; x@local.test", 550, 550, "5.1.1" },
		{ "x", "", "a\x7f@local.test", 550, 550, "5.1.1" },
		{ "x", "", "a b@local.test", 550, 550, "5.1.1" },		/* two recipients in RECIPIENTS */
		{ "x", "a b@c.test", "u@local.test", 250, 250, "2.0.0" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct outcome o;

		print_message("row %zu\n", i);
		start_command("exit 0", (const char *const[]){ rows[i].word, NULL });
		o = check(rows[i].rcpt);
		expect(&o, rows[i].check, rows[i].check == 250 ? "2.1.5" : "5.1.1", NULL);
		o = deliver_to(rows[i].sender, (const char *const[]){ rows[i].rcpt, NULL }, "x\n");
		expect(&o, rows[i].code, rows[i].esc, NULL);
		stop();
	}
}

/* ---- recipients ---- */

static void
recipient_command(void **state)	/* case 11.60 */
{
	static const struct {
		const char	*script;
		int		 code;
		const char	*esc, *text;
	} rows[] = {
		{ "exit 0", 250, "2.1.5", "Recipient ok" },
		{ "exit 67", 550, "5.1.1", "No such recipient" },
		{ "exit 1", 451, "4.3.0", "Temporary lookup failure" },
		{ "echo 5.1.6 moved; exit 1", 550, "5.1.6", "moved" },
		{ "kill -11 $$", 451, "4.3.0", "Temporary lookup failure" },
		{ "exec sleep 1000", 451, "4.3.0", "Temporary lookup failure" },
		{ "head -c 9999999 /dev/zero; exit 75", 451, "4.3.0", "Temporary lookup failure" },
		{ "[ \"$1 $RECIPIENT\" = \"user user@local.test\" ] || exit 1", 250, "2.1.5", "Recipient ok" },
		{ "read x && exit 1; exit 0", 250, "2.1.5", "Recipient ok" },	/* nothing to read */
	};

	(void)state;
	config.delivery_ms = 500;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *words[] = { STR("/bin/sh"), STR("-c"), STR(rows[i].script), STR("sh"),
		    STR("%{user}"), NULL };
		struct outcome o;

		print_message("%s\n", rows[i].script);
		config.recipient_command = (struct words){ words, 5 };
		start_command("exit 0", NULL);
		o = check("user@local.test");
		expect(&o, rows[i].code, rows[i].esc, NULL);
		assert_string_equal(o.v.text, rows[i].text);
		stop();
	}
}

#define LOOK_AGAIN_MS 1000	/* the file is looked at once a second */

static void
recipients_file(void **state)
{
	static const struct {
		const char	*address;
		int		 code;
	} rows[] = {
		{ "alice@local.test", 250 }, { "ALICE@local.test", 250 }, { "bob@local.test", 250 }, { "bobby@local.test", 550 },
		{ "anyone@all.test", 250 }, { "anyone@sub.all.test", 550 }, { "carol@local.test", 250 }, { "@local.test", 550 },
		{ "zz@local.test", 550 }, { "last@local.test", 250 },
	};
	char path[128];
	struct outcome o;

	(void)state;
	put("recipients", "# ours\nalice@local.test\nBob@LOCAL.test  # comment\r\n\n@all.test\n not an address\n\tcarol@local.test\nlast@local.test");
	(void)snprintf(path, sizeof(path), "%s/recipients", folder);
	config.recipients_file = path;
	start_command("exit 0", NULL);
	for (size_t i = 0; i < COUNT(rows); i++) {
		print_message("%s\n", rows[i].address);
		o = check(rows[i].address);
		expect(&o, rows[i].code, rows[i].code == 250 ? "2.1.5" : "5.1.1", NULL);
	}
	put("recipients", "zz@local.test\n");
	loop.now_ms += LOOK_AGAIN_MS;	/* ahead of the clock, until the next turn */
	o = check("zz@local.test");
	expect(&o, 250, "2.1.5", NULL);
	o = check("alice@local.test");
	expect(&o, 550, "5.1.1", NULL);
	assert_int_equal(unlink(path), 0);
	loop.now_ms += 2 * LOOK_AGAIN_MS;
	o = check("zz@local.test");
	expect(&o, 451, "4.3.0", "recipients_file cannot be read");
	put("recipients", "");
	loop.now_ms += 3 * LOOK_AGAIN_MS;
	o = check("zz@local.test");
	expect(&o, 550, "5.1.1", NULL);
}

/* ---- Maildir ---- */

static void
maildir_checks(void **state)
{
	struct outcome o;

	(void)state;
	make_maildir("alice");
	start_maildir(false);
	o = check("alice@local.test");
	expect(&o, 250, "2.1.5", NULL);
	o = check("ALICE@local.test");
	expect(&o, 250, "2.1.5", NULL);
	o = check("bob@local.test");
	expect(&o, 550, "5.1.1", NULL);
	o = check("alice@other.test");
	expect(&o, 550, "5.1.1", NULL);
	for (const char *const *p = (const char *const[]){ ".@l.test", "..@l.test", "a/b@l.test", "../alice@local.test", "x\n@l.test",
	    ".hidden@l.test", NULL }; *p != NULL; p++) {
		o = check(*p);
		expect(&o, 550, "5.1.1", "not a folder's name");
	}
	stop();
	(void)snprintf(template, sizeof(template), "%s/not-mounted/%%{user}", folder);
	config.maildir = template;
	start();
	o = check("alice@local.test");
	expect(&o, 451, "4.3.0", NULL);	/* the store is away: nobody knows who is in it */
}

static void
maildir_delivers(void **state)
{
	char file[512];
	struct outcome o;

	(void)state;
	make_maildir("user");
	start_maildir(false);
	o = deliver_to("sender@client.test", one, "Subject: hello\n\nbody\n");
	expect(&o, 250, "2.0.0", NULL);
	assert_string_equal(o.v.text, "Ok: 0123456789abcdef0123");
	assert_int_equal(count("local.test/user/new", file, sizeof(file)), 1);
	assert_int_equal(count("local.test/user/tmp", NULL, 0), 0);
	print_message("%s\n", file);
	assert_non_null(strstr(file, ".mx.test,S="));
	assert_ptr_equal(strstr(contents(file), "Return-Path: <sender@client.test>\nDelivered-To: user@local.test\nReceived: "), contents(file));
	assert_non_null(strstr(contents(file), "\nSubject: hello\n\nbody\n"));
	{
		struct stat st;
		unsigned long long size;

		assert_int_equal(stat(file, &st), 0);
		assert_int_equal(sscanf(strstr(file, ",S="), ",S=%llu", &size), 1);
		assert_int_equal(st.st_size, size);
		assert_int_equal(st.st_mode & 0777, 0600);
	}
}

static void
maildir_creates(void **state)
{
	char file[512];
	struct outcome o;
	struct stat st;

	(void)state;
	start_maildir(true);
	o = deliver_to("", three, "Subject: hello\n\nbody\n");
	expect(&o, 250, "2.0.0", NULL);
	assert_int_equal(count("local.test/a/new", file, sizeof(file)), 1);
	assert_ptr_equal(strstr(contents(file), "Delivered-To: a@local.test\nReturn-Path: <>\nReceived: "), contents(file));
	assert_int_equal(count("local.test/b/new", NULL, 0), 1);
	assert_int_equal(count("local.test/c/new", file, sizeof(file)), 1);	/* C@ is c's */
	assert_ptr_equal(strstr(contents(file), "Delivered-To: C@local.test\n"), contents(file));
	(void)snprintf(file, sizeof(file), "%s/local.test/a/cur", folder);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
}

static void
maildir_all_or_none(void **state)
{
	struct outcome o;
	char path[128];

	(void)state;
	make_maildir("a");
	make_maildir("b");
	start_maildir(false);
	o = deliver_to("", three, "x\n");	/* c has no folder */
	expect(&o, 451, "4.3.0", "folder: No such file or directory");
	assert_int_equal(count("local.test/a/new", NULL, 0) + count("local.test/a/tmp", NULL, 0), 0);
	assert_int_equal(count("local.test/b/new", NULL, 0) + count("local.test/b/tmp", NULL, 0), 0);
	make_maildir("c");
	(void)snprintf(path, sizeof(path), "%s/local.test/c/tmp", folder);
	assert_int_equal(rmdir(path), 0);
	put("local.test/c/tmp", "not a folder");
	o = deliver_to("", three, "x\n");
	expect(&o, 451, "4.3.0", "create: Not a directory");
	assert_int_equal(count("local.test/a/new", NULL, 0) + count("local.test/a/tmp", NULL, 0), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	o = deliver_to("", three, "x\n");
	expect(&o, 250, "2.0.0", NULL);
}

static void
maildir_many_at_once(void **state)
{
	static const char *const rcpts[2][3] = { { "user@local.test", NULL }, { "user@local.test", "missing@local.test", NULL } };
	static struct outcome o[300];
	struct tx tx[2];

	(void)state;
	make_maildir("user");
	start_maildir(false);
	tx_init(&tx[0], "", rcpts[0], "x\n", 2);
	tx_init(&tx[1], "", rcpts[1], "x\n", 2);
	for (size_t i = 0; i < COUNT(o); i++) {
		o[i] = (struct outcome){ 0 };
		deliver_start(d, &tx[i % 3 == 2], note, &o[i]);
	}
	for (size_t i = 0; i < COUNT(o); i++) {	/* a message's failure is its own */
		wait_for(&o[i]);
		assert_int_equal(o[i].v.code, i % 3 == 2 ? 451 : 250);
	}
	assert_int_equal(count("local.test/user/new", NULL, 0), 200);
	assert_int_equal(count("local.test/user/tmp", NULL, 0), 0);
	assert_int_equal(deliver_pending(d), 0);
	tx_clear(&tx[0]);
	tx_clear(&tx[1]);
}

static void
maildir_large_and_many_recipients(void **state)
{
	static char body[500001];
	static char addresses[100][24];
	const char *rcpts[101] = { NULL };
	struct outcome o = { 0 };
	char file[512];
	struct stat st;
	struct tx tx;

	(void)state;
	for (size_t i = 0; i < 100; i++) {
		(void)snprintf(addresses[i], sizeof(addresses[i]), "u%zu@local.test", i);
		rcpts[i] = addresses[i];
	}
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (char)('a' + i % 23);
	start_maildir(true);
	tx_init(&tx, "", rcpts, body, sizeof(body));
	deliver_start(d, &tx, note, &o);
	wait_for(&o);
	expect(&o, 250, "2.0.0", NULL);
	assert_int_equal(count("local.test/u99/new", file, sizeof(file)), 1);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_size, tx.size - tx.header_at + strlen("Delivered-To: u99@local.test\n"));
	{
		char *copy = malloc((size_t)st.st_size);
		int fd = open(file, O_RDONLY);

		assert_non_null(copy);
		assert_int_equal(read(fd, copy, (size_t)st.st_size), st.st_size);
		assert_memory_equal(copy + st.st_size - (off_t)sizeof(body), body, sizeof(body));
		close(fd);
		free(copy);
	}
	tx_clear(&tx);
}

static void
maildir_full_disk(void **state)	/* case 13.5 */
{
	struct rlimit old, low;
	struct outcome o;

	(void)state;
	make_maildir("user");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low = (struct rlimit){ 100, old.rlim_max };
	(void)sigaction(SIGXFSZ, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	start_maildir(false);	/* the writers have the limit from here on */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	o = deliver_to("", one, "Subject: larger than a hundred octets with its trace fields\n\n");
	expect(&o, 451, "4.3.0", "write: File too large");
	assert_int_equal(count("local.test/user/tmp", NULL, 0) + count("local.test/user/new", NULL, 0), 0);
}

/* How many processes we have started, by their parent; *found is one of them, or -1. */
static unsigned
find_children(int *found)
{
	DIR *proc = opendir("/proc");
	struct dirent *e;
	unsigned n = 0;

	*found = -1;
	assert_non_null(proc);
	while ((e = readdir(proc)) != NULL) {
		char path[300], line[400] = "";
		int pid, parent;
		FILE *f;

		if (sscanf(e->d_name, "%d", &pid) != 1)
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		f = fopen(path, "r");
		if (f == NULL)
			continue;
		if (fgets(line, sizeof(line), f) != NULL && strrchr(line, ')') != NULL &&
		    sscanf(strrchr(line, ')') + 1, " %*c %d", &parent) == 1 && parent == getpid()) {
			*found = pid;
			n++;
		}
		fclose(f);
	}
	closedir(proc);
	return n;
}

static int
find_child(void)
{
	int pid;

	(void)find_children(&pid);
	return pid;
}

/* Never without a check of the number: -1 is every process of the machine. */
static void
signal_child(int pid, int sig)
{
	assert_true(pid > 1);
	assert_int_equal(kill(pid, sig), 0);
}

static void
a_writer_dies(void **state)
{
	struct outcome o = { 0 };
	struct tx tx;
	int pid;

	(void)state;
	make_maildir("user");
	start_maildir(true);	/* no checker: the only child is a writer */
	pid = find_child();
	signal_child(pid, SIGSTOP);
	tx_init(&tx, "", one, "x\n", 2);
	deliver_start(d, &tx, note, &o);
	(void)loop_turn(&loop, 50);
	assert_int_equal(o.calls, 0);
	signal_child(pid, SIGKILL);
	wait_for(&o);
	expect(&o, 451, "4.3.0", "writer died");
	o = (struct outcome){ 0 };
	deliver_start(d, &tx, note, &o);	/* another one takes over */
	wait_for(&o);
	expect(&o, 250, "2.0.0", NULL);
	tx_clear(&tx);
}

static void
a_writer_hangs(void **state)
{
	struct outcome o[2] = { 0 };
	struct tx tx;
	int pid;

	(void)state;
	make_maildir("user");
	config.delivery_ms = 300;
	start_maildir(true);
	pid = find_child();
	signal_child(pid, SIGSTOP);
	tx_init(&tx, "", one, "x\n", 2);
	deliver_start(d, &tx, note, &o[0]);
	for (int64_t end = loop_clock_ms() + 50; loop_clock_ms() < end;)
		assert_int_equal(loop_turn(&loop, 10), 0);
	deliver_start(d, &tx, note, &o[1]);	/* goes to another writer: the first has not answered */
	wait_for(&o[0]);
	expect(&o[0], 451, "4.3.0", "timeout");
	wait_for(&o[1]);
	expect(&o[1], 250, "2.0.0", NULL);
	tx_clear(&tx);
}

/* What can be synced together goes to one writer; large messages are written side by side. */
static void
small_messages_share_a_writer(void **state)
{
	static char large[300000];
	static const struct { size_t len; unsigned writers; } rows[] = { { 1000, 1 }, { sizeof(large), 4 } };

	(void)state;
	memset(large, 'x', sizeof(large));
	make_maildir("user");
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct outcome o[10] = { 0 };
		struct tx tx;
		int pid;

		print_message("  %zu octets\n", rows[i].len);
		start_maildir(true);
		tx_init(&tx, "", one, large, rows[i].len);
		for (size_t k = 0; k < COUNT(o); k++)
			deliver_start(d, &tx, note, &o[k]);
		assert_int_equal(find_children(&pid), rows[i].writers);
		for (size_t k = 0; k < COUNT(o); k++) {
			wait_for(&o[k]);
			expect(&o[k], 250, "2.0.0", NULL);
		}
		tx_clear(&tx);
		stop();
	}
}

/* Messages that fail have folders open as well: in one batch with a message of as many recipients as may be. */
static void
a_batch_with_folders_that_cannot_be_written_to(void **state)
{
	enum { RCPTS = 70, BAD = 10 };
	static char names[RCPTS][32];
	const char *rcpts[RCPTS + 1] = { NULL }, *bad[2] = { NULL };
	struct outcome o[BAD + 1] = { 0 };
	struct tx tx[BAD + 1];
	char path[512];
	int pid;

	(void)state;
	for (size_t i = 0; i < RCPTS; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "u%zu@local.test", i);
		rcpts[i] = names[i];
	}
	config.max_recipients = RCPTS;
	start_maildir(true);
	for (size_t i = 0; i < BAD; i++) {
		(void)snprintf(path, sizeof(path), "bad%zu", i);
		make_maildir(path);
		(void)snprintf(path, sizeof(path), "%s/local.test/bad%zu/tmp", folder, i);
		assert_int_equal(rmdir(path), 0);
		assert_int_equal(close(open(path, O_WRONLY | O_CREAT, 0600)), 0);	/* a file, in which no other can be */
	}
	pid = find_child();
	signal_child(pid, SIGSTOP);
	for (size_t i = 0; i <= BAD; i++) {
		(void)snprintf(path, sizeof(path), "bad%zu@local.test", i);
		bad[0] = path;
		tx_init(&tx[i], "", i == BAD ? rcpts : bad, "x\n", 2);
		deliver_start(d, &tx[i], note, &o[i]);
	}
	assert_int_equal(find_children(&pid), 1);
	signal_child(pid, SIGCONT);
	for (size_t i = 0; i <= BAD; i++) {
		wait_for(&o[i]);
		expect(&o[i], i == BAD ? 250 : 451, i == BAD ? "2.0.0" : "4.3.0", NULL);
		tx_clear(&tx[i]);
	}
}

static void
writers_run_as_the_user(void **state)
{
	char file[512];
	struct outcome o;
	struct stat st;

	(void)state;
	if (geteuid() != 0)
		skip();
	config.user = STR("65533");
	config.delivery_user = STR("65532:65531");
	assert_int_equal(chown(folder, 65532, 65531), 0);
	start_maildir(true);
	o = deliver_to("", one, "x\n");
	expect(&o, 250, "2.0.0", NULL);
	assert_int_equal(count("local.test/user/new", file, sizeof(file)), 1);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_uid, 65532);
	assert_int_equal(st.st_gid, 65531);
	stop();
	(void)snprintf(template, sizeof(template), "id -u > %s/id; id -g >> %s/id", folder, folder);
	config.maildir = STR("");
	start_command(template, NULL);
	o = deliver_to("", one, "x\n");
	expect(&o, 250, "2.0.0", NULL);
	assert_string_equal(contents("id"), "65532\n65531\n");
}

static void
an_unknown_user_is_an_error(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	config.delivery_user = STR("no-such-user");
	config.maildir = STR("/nowhere/%{user}");
	assert_null(deliver_new(&loop, &config, NULL, NULL));
}

static void
free_tells_everybody(void **state)
{
	static struct outcome o[5];
	struct tx tx;

	(void)state;
	config.max_deliveries = 2;
	start_command("exec sleep 1000", NULL);
	tx_init(&tx, "", one, "x\n", 2);
	for (size_t i = 0; i < COUNT(o); i++) {
		o[i] = (struct outcome){ 0 };
		deliver_start(d, &tx, note, &o[i]);
	}
	stop();
	for (size_t i = 0; i < COUNT(o); i++) {
		assert_int_equal(o[i].calls, 1);
		assert_int_equal(o[i].v.code, 451);
	}
	tx_clear(&tx);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_message_that_somebody_has_mapped), T(every_exit_status), T(output_and_status), T(a_long_line_is_cut), T(what_cannot_be_started), T(timeout),
		T(waiting_has_an_end), T(the_command_gets_the_message), T(arguments), T(environment), T(foreign_recipients), T(values_that_are_not_handed_on),
		T(recipient_command), T(recipients_file), T(maildir_checks), T(maildir_delivers), T(maildir_creates),
		T(maildir_all_or_none), T(maildir_many_at_once), T(maildir_large_and_many_recipients), T(maildir_full_disk),
		T(a_writer_dies), T(a_writer_hangs), T(small_messages_share_a_writer), T(a_batch_with_folders_that_cannot_be_written_to), T(writers_run_as_the_user), T(an_unknown_user_is_an_error), T(free_tells_everybody),
	};

	log_init(LOG_WARN, LOG_LOGFMT, "test");
	return cmocka_run_group_tests_name("deliver", tests, NULL, NULL);
}
