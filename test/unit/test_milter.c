/*
 * test_milter.c - a milter of every kind (cases 11.1 to 11.9, 11.50 to 11.57): one outcome for each message, in time, and nothing left.
 *
 * The milter is in the same loop: it notes what it hears and answers by rules.
 */
#include "milter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "waits.h"
#include "milter_packet.h"

#define S(literal) { "" literal, sizeof(literal) - 1 }
#define SAYS_MAX 6
#define RULES_MAX 4
#define PEERS_MAX 24

/* ---- the milter ---- */

enum then { THEN_GO, THEN_CLOSE, THEN_REST, THEN_DEAF };	/* REST: it does nothing any more; DEAF: nor does it read */

/* What it answers to a command, the nth that it hears on a connection (0: to each): packets without their lengths. */
struct rule {
	char		 command;
	unsigned	 nth;
	struct span	 says[SAYS_MAX];
	bool		 raw;		/* they are octets as they are */
	bool		 again;		/* for ever, a packet every 10 ms */
	bool		 slowly;	/* the first of them, an octet at a time */
	enum then	 then;
};

struct peer {
	int		 fd;
	struct loop_slot slot;
	struct buf	 in;
	unsigned	 heard[256];
	const struct rule *again;
	struct span	 slow;		/* still to be said slowly */
	bool		 rests;
};

static struct loop loop;
static struct peer peers[PEERS_MAX];
static int listener = -1;
static struct loop_slot listener_slot;
static char folder[] = "/tmp/test_milter.XXXXXX", address[64];
static unsigned connections;
static struct buf body;			/* what it hears of it */
static struct buf heard;		/* every packet: its command, its data with NUL as | and the rest as \xx, a line each */
static const struct rule *rules;
static uint32_t version, actions, steps;

static void
peer_end(struct peer *p)
{
	loop_remove(&p->slot);
	close(p->fd);
	buf_clear(&p->in);
	*p = (struct peer){ .fd = -1 };
}

static void
peer_send(struct peer *p, const void *octets, size_t n)
{
	assert_true(send(p->fd, octets, n, MSG_NOSIGNAL) == (ssize_t)n || errno == EPIPE);	/* the other one may have heard enough */
}

static void
peer_say(struct peer *p, struct span s)
{
	char length[4] = { (char)(s.len >> 24), (char)(s.len >> 16), (char)(s.len >> 8), (char)s.len };

	peer_send(p, length, 4);
	peer_send(p, s.p, s.len);
}

static void
peer_options(struct peer *p)
{
	uint32_t n[] = { version, actions, steps };
	char data[13] = { 'O' };

	for (size_t i = 0; i < 12; i++)
		data[1 + i] = (char)(n[i / 4] >> (24 - 8 * (i % 4)));
	peer_say(p, (struct span){ data, sizeof(data) });
}

static uint32_t
silent(char command)
{
	static const struct { char command; uint32_t bit; } bits[] = {
		{ 'C', MILTER_NR_CONN }, { 'H', MILTER_NR_HELO }, { 'M', MILTER_NR_MAIL }, { 'R', MILTER_NR_RCPT }, { 'T', MILTER_NR_DATA },
		{ 'L', MILTER_NR_HDR }, { 'N', MILTER_NR_EOH }, { 'B', MILTER_NR_BODY },
	};

	for (size_t i = 0; i < COUNT(bits); i++)
		if (bits[i].command == command)
			return steps & bits[i].bit;
	return 0;
}

/* false: the connection is closed. */
static bool
peer_answer(struct peer *p, char command)
{
	unsigned nth = ++p->heard[(unsigned char)command];

	for (const struct rule *r = rules; r != NULL && r->command != '\0'; r++) {
		if (r->command != command || (r->nth != 0 && r->nth != nth))
			continue;
		for (size_t i = 0; i < SAYS_MAX && r->says[i].p != NULL && !r->slowly; i++) {
			if (r->raw)
				peer_send(p, r->says[i].p, r->says[i].len);
			else
				peer_say(p, r->says[i]);
		}
		if (r->again) {
			p->again = r;
			loop_deadline(&p->slot, loop.now_ms + 10);
		}
		if (r->slowly) {
			p->slow = r->says[0];
			loop_deadline(&p->slot, loop.now_ms + 1);
		}
		p->rests = r->then == THEN_REST || r->then == THEN_DEAF;
		if (r->then == THEN_DEAF)
			loop_events(&p->slot, 0);
		if (r->then == THEN_CLOSE)
			peer_end(p);
		return r->then != THEN_CLOSE;
	}
	if (command == 'O')
		peer_options(p);
	else if (strchr("CHMRTLNBE", command) != NULL && silent(command) == 0)
		peer_say(p, SPAN("c"));
	if (command == 'Q')
		peer_end(p);
	return command != 'Q';
}

static void
note(char command, struct span data)
{
	if (command == 'B')
		assert_int_equal(buf_add_span(&body, data), 0);
	if (command == 'B' && data.len > 100) {
		buf_printf(&heard, "B%zu\n", data.len);
		return;
	}
	buf_add_char(&heard, command);
	for (size_t i = 0; i < data.len; i++) {
		if (data.p[i] == '\0')
			buf_add_char(&heard, '|');
		else if (is_vchar(data.p[i]) || data.p[i] == ' ')
			buf_add_char(&heard, data.p[i]);
		else
			buf_printf(&heard, "\\%02x", (unsigned char)data.p[i]);
	}
	buf_add_char(&heard, '\n');
}

static void
peer_ready(void *arg, short revents)
{
	struct peer *p = arg;
	char octets[70000], command;
	struct span data;
	size_t len;
	ssize_t n;

	if (revents == 0 && p->slow.len > 0) {
		peer_send(p, p->slow.p, 1);
		p->slow = text_sub(p->slow, 1, p->slow.len);
		loop_deadline(&p->slot, p->slow.len > 0 ? loop.now_ms + 1 : LOOP_NEVER);
		return;
	}
	if (revents == 0) {
		if (send(p->fd, "\0\0\0\1", 4, MSG_NOSIGNAL) == 4 && send(p->fd, p->again->says[0].p, 1, MSG_NOSIGNAL) == 1)
			loop_deadline(&p->slot, loop.now_ms + 10);
		return;
	}
	n = recv(p->fd, octets, sizeof(octets), 0);
	if (n <= 0) {
		peer_end(p);
		return;
	}
	assert_int_equal(buf_add(&p->in, octets, (size_t)n), 0);
	while (!p->rests && milter_frame(buf_span(&p->in), &command, &data, &len) == FRAME_WHOLE) {
		note(command, data);
		buf_drop(&p->in, len);
		if (!peer_answer(p, command))
			return;
	}
}

static void
peer_connects(void *arg, short revents)
{
	int room = 1024 * 1024;		/* it is in our loop: what it says at once must not wait for us */

	for (struct peer *p = peers; p < peers + PEERS_MAX; p++) {
		if (p->fd != -1)
			continue;
		p->fd = accept(listener, NULL, NULL);
		assert_true(p->fd != -1);
		assert_int_equal(setsockopt(p->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
		connections++;
		buf_init(&p->in, 1024 * 1024);
		assert_int_equal(loop_add(&loop, &p->slot, p->fd, POLLIN, peer_ready, p), 0);
		return;
	}
	fail();
}

static void
listen_again(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	assert_int_equal(text_copy(un.sun_path, sizeof(un.sun_path), text_span(address + 5)), 0);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(listener != -1);
	assert_int_equal(bind(listener, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(listener, 64), 0);
	assert_int_equal(loop_add(&loop, &listener_slot, listener, POLLIN, peer_connects, NULL), 0);
}

static void
listen_no_more(void)
{
	loop_remove(&listener_slot);
	close(listener);
	assert_int_equal(unlink(address + 5), 0);
}

/* ---- a message and its outcome ---- */

static char nowhere[] = "", hostname[] = "mx.test", ours[] = "local.test", *domains[] = { ours, NULL };
static struct config config;
static struct milter_config milter_config;
static const struct listener smtp = { .name = "mx" };

static const char message[] = "Received: one\nFrom: a@a.test\nSubject: s\n folded\nX-Two: 1\nX-Two:\t2\n\nHello\n.\n";

struct mail {
	struct tx	 tx;
	struct content	 content;
	unsigned	 calls;
	struct filter_report r;
};

static void
set_mailbox(struct mailbox *m, const char *address_)
{
	assert_int_equal(smtp_mailbox(text_span(address_), true, m), SMTP_PATH_OK);
}

static void
mail_make(struct mail *m, struct span text)
{
	*m = (struct mail){ .tx = { .id = "ID", .session = 1, .config = &config, .listener = &smtp, .client_address = "192.0.2.1",
	    .own_address = "192.0.2.25", .helo = "h.test", .auth_user = "", .auth_type = "", .tls_version = "", .tls_cipher = "", .esmtp = true,
	    .rcpts_n = 2, .rcpts_max = 2, .fd = message_open(""), .size = MESSAGE_ROOM + text.len } };
	assert_true(m->tx.fd != -1);
	assert_int_equal(pwrite(m->tx.fd, text.p, text.len, MESSAGE_ROOM), (ssize_t)text.len);
	m->tx.rcpts = calloc(2, sizeof(*m->tx.rcpts));
	assert_non_null(m->tx.rcpts);
	set_mailbox(&m->tx.sender, "a@a.test");
	set_mailbox(&m->tx.rcpts[0], "bob@local.test");
	set_mailbox(&m->tx.rcpts[1], "eve@far.test");
	assert_int_equal(content_load(&m->content, &m->tx), 0);
}

static void
mail_end(struct mail *m)
{
	content_clear(&m->content);
	close(m->tx.fd);
	free(m->tx.rcpts);
}

static void
note_report(void *arg, const struct filter_report *r)
{
	struct mail *m = arg;

	m->calls++;
	m->r = *r;
	assert_true(r->esc[0] == '\0' || r->esc[0] == (r->action == FILTER_TEMPFAIL ? '4' : '5'));
	for (const char *p = r->text; *p != '\0'; p++)
		assert_true(is_vchar(*p) || *p == ' ');
	for (const char *p = r->detail; *p != '\0'; p++)
		assert_true(is_vchar(*p) || *p == ' ');
}

static void
run(struct milter *m, struct mail *mail)
{
	mail->calls = 0;
	assert_non_null(milter_start(m, &mail->tx, &mail->content, note_report, mail));
	assert_int_equal(mail->calls, 0);	/* never from inside */
	wait_for(mail);
}

/* What has been said and not yet heard. */
static void
settle(void)
{
	for (int i = 0; i < 20; i++)
		assert_int_equal(loop_turn(&loop, 0), 0);
}

static void
begin(const struct rule *r)
{
	rules = r;
	version = 6;
	actions = MILTER_ACTIONS;
	steps = 0;
	connections = 0;
	buf_reset(&heard);
	buf_reset(&body);
	milter_config = (struct milter_config){ .name = "m", .address = address, .default_action = MILTER_TEMPFAIL, .connect_ms = 5000,
	    .command_ms = 5000, .content_ms = 5000, .max_checks = 20 };
	config = (struct config){ .spool_dir = nowhere, .hostname = hostname, .domains = { domains, 1 }, .max_header_size = 262144,
	    .max_message_size = 1024 * 1024, .max_recipients = 4 };
}

/* One message through a new milter. */
static void
try(const struct rule *r, struct mail *mail)
{
	struct milter *m = milter_new(&loop, &milter_config);

	assert_non_null(m);
	rules = r;
	run(m, mail);
	milter_free(m);
	settle();
	for (size_t i = 0; i < PEERS_MAX; i++)
		assert_int_equal(peers[i].fd, -1);
}

static void
assert_heard(const char *want)
{
	const char *got = buf_str(&heard);

	assert_non_null(got);
	assert_string_equal(got, want);
}

static bool
has_heard(const char *line)
{
	char with[256];
	const char *got = buf_str(&heard);

	(void)snprintf(with, sizeof(with), "\n%s\n", line);
	return strstr(got, with) != NULL;
}

/* ---- packets ---- */

static void
test_frames(void **state)
{
	static const struct { struct span in; enum milter_frame want; size_t len; } rows[] = {
		{ S(""), FRAME_PART, 0 }, { S("\0\0\0"), FRAME_PART, 0 }, { S("\0\0\0\0"), FRAME_BAD, 0 }, { S("\0\0\0\1"), FRAME_PART, 0 },
		{ S("\0\0\0\1c"), FRAME_WHOLE, 5 }, { S("\0\0\0\1cc"), FRAME_WHOLE, 5 }, { S("\0\0\0\3c1"), FRAME_PART, 0 },
		{ S("\0\0\0\3c12"), FRAME_WHOLE, 7 }, { S("\0\1\0\0c"), FRAME_PART, 0 }, { S("\0\1\0\1c"), FRAME_BAD, 0 },
		{ S("\xff\xff\xff\xff"), FRAME_BAD, 0 }, { S("\x80\0\0\0"), FRAME_BAD, 0 }, { S("HTTP/1.1 200 OK"), FRAME_BAD, 0 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char command = 0;
		struct span data;
		size_t len = 0;

		print_message("  %zu\n", i);
		assert_int_equal(milter_frame(rows[i].in, &command, &data, &len), rows[i].want);
		assert_int_equal(len, rows[i].len);
		if (rows[i].want == FRAME_WHOLE) {
			assert_int_equal(command, 'c');
			assert_int_equal(data.len, rows[i].len - 5);
		}
	}
}

/* Case 11.50. */
static void
test_codes(void **state)
{
#define X200 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" \
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	static const struct { struct span in; const char *esc, *text; } rows[] = {
		{ S("550 5.7.1 no\0"), "5.7.1", "no" }, { S("451 4.7.1 later\0"), "4.7.1", "later" }, { S("554 5.7.1\0"), "5.7.1", "" },
		{ S("554 5.123.456 x\0"), "5.123.456", "x" }, { S("421 4.3.2 \0"), "4.3.2", "" },
		{ S("550-5.7.1 one\r\n550 5.7.1 two\0"), "5.7.1", "one two" }, { S("550-5.7.1\r\n550-5.7.1 two\r\n550 5.7.1\0"), "5.7.1", "two" },
		{ S("550 5.7.1 a%%b%c%%%%\0"), "5.7.1", "a%b%c%%" }, { S("550 5.7.1 \xc3\xa4\tb\0"), "5.7.1", "???b" },
		{ S("550 5.7.1 a\x1b[0m\0"), "5.7.1", "a?[0m" }, { S("550 5.7.1 " X200 X200 "y\0"), "5.7.1", NULL },
		{ S("550\0"), NULL, NULL }, { S("550 \0"), NULL, NULL }, { S("550  \0"), "5.7.1", "" }, { S("550 no\0"), "5.7.1", "no" }, { S("451 later, please\0"), "4.7.1", "later, please" },
		{ S("550-no\r\n550 not you\0"), "5.7.1", "no not you" }, { S("550-no\r\n450 not you\0"), NULL, NULL },
		{ S("550-\r\n550 no\0"), NULL, NULL }, { S("550-5.7.2 a\r\n550 b\0"), NULL, NULL }, { S("250 2.0.0 ok\0"), NULL, NULL },
		{ S("350 3.0.0 ok\0"), NULL, NULL }, { S("650 6.0.0 ok\0"), NULL, NULL }, { S("abc\0"), NULL, NULL }, { S(""), NULL, NULL },
		{ S("\0"), NULL, NULL }, { S("550 5.7.1 no"), NULL, NULL }, { S("550 5.7.1 no\0\0"), NULL, NULL },
		{ S("550 5.7.1 no\0x"), NULL, NULL }, { S("550 4.7.1 no\0"), NULL, NULL }, { S("450 5.7.1 no\0"), NULL, NULL },
		{ S("550 5.7 no\0"), NULL, NULL }, { S("550 5.7.1.1 no\0"), NULL, NULL }, { S("550 5.7.1. no\0"), NULL, NULL },
		{ S("550 5..1 no\0"), NULL, NULL }, { S("550 5.7.1234 no\0"), NULL, NULL }, { S("550 55.7.1 no\0"), "5.7.1", "55.7.1 no" },
		{ S("550 2.7.1 no\0"), NULL, NULL }, { S("550 5.\0"), NULL, NULL },
		{ S("560 5.7.1 no\0"), NULL, NULL }, { S("55 5.7.1 no\0"), NULL, NULL }, { S("5500 5.7.1 no\0"), NULL, NULL },
		{ S("550-5.7.1 no\0"), NULL, NULL }, { S("550 5.7.1 a\r\n550 5.7.1 b\0"), NULL, NULL }, { S("550-5.7.1 a\r\n\0"), NULL, NULL },
		{ S("550 5.7.1 a\r\n\0"), NULL, NULL }, { S("550-5.7.1 a\n550 5.7.1 b\0"), NULL, NULL }, { S("550-5.7.1 a\r550 5.7.1 b\0"), NULL, NULL },
		{ S("550 5.7.1 a\nb\0"), NULL, NULL }, { S("550 5.7.1 a\r\0"), NULL, NULL }, { S("550-5.7.1 a\r\n551 5.7.1 b\0"), NULL, NULL },
		{ S("550-5.7.1 a\r\n550 5.7.2 b\0"), NULL, NULL }, { S("550-5.7.1 a\r\n450 4.7.1 b\0"), NULL, NULL },
		{ S("550-5.7.1 a\r\n550 b\0"), "5.7.1", "a b" }, { S("550-5.7.1 a\r\n\r\n550 5.7.1 b\0"), NULL, NULL },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct milter_reply r;

		print_message("  %zu %s\n", i, rows[i].in.p);
		milter_read_reply('y', rows[i].in, &r);
		assert_int_equal(r.answer, rows[i].esc == NULL ? ANSWER_BAD : ANSWER_CODE);
		assert_string_equal(r.esc, rows[i].esc == NULL ? "" : rows[i].esc);
		if (rows[i].esc != NULL && rows[i].text == NULL)
			assert_int_equal(strlen(r.text), sizeof(r.text) - 1);
		else
			assert_string_equal(r.text, rows[i].esc == NULL ? "" : rows[i].text);
	}
}

static void
test_replies(void **state)
{
	static const struct { char command; struct span data; enum milter_answer want; uint32_t index; const char *name, *value; } rows[] = {
		{ 'c', S(""), ANSWER_CONTINUE, 0, "", "" }, { 'c', S("\0"), ANSWER_BAD, 0, "", "" }, { 'a', S(""), ANSWER_ACCEPT, 0, "", "" },
		{ 'r', S("x"), ANSWER_BAD, 0, "", "" }, { 'Z', S(""), ANSWER_BAD, 0, "", "" }, { '\0', S(""), ANSWER_BAD, 0, "", "" },
		{ 'h', S("X\0v\0"), ANSWER_ADDHEADER, 0, "X", "v" }, { 'h', S("X\0\0"), ANSWER_ADDHEADER, 0, "X", "" },
		{ 'h', S("X\0v"), ANSWER_BAD, 0, "", "" }, { 'h', S("X\0"), ANSWER_BAD, 0, "", "" }, { 'h', S("\0v\0"), ANSWER_BAD, 0, "", "" },
		{ 'h', S("X\0v\0w\0"), ANSWER_BAD, 0, "", "" }, { 'h', S(""), ANSWER_BAD, 0, "", "" },
		{ 'i', S("\0\0\1\2X\0v\0"), ANSWER_INSHEADER, 258, "X", "v" }, { 'i', S("\0\0\1"), ANSWER_BAD, 0, "", "" },
		{ 'm', S("\xff\xff\xff\xffX\0v\0"), ANSWER_CHGHEADER, UINT32_MAX, "X", "v" }, { 'm', S("\0\0\0\1X\0"), ANSWER_BAD, 0, "", "" },
		{ 'b', S(""), ANSWER_REPLBODY, 0, "", "" }, { 'b', S("ab"), ANSWER_REPLBODY, 0, "", "ab" },
		{ '+', S("<a@b>\0"), ANSWER_ADDRCPT, 0, "<a@b>", "" }, { '+', S("<a@b>\0X\0"), ANSWER_BAD, 0, "", "" },
		{ '2', S("<a@b>\0X=1\0"), ANSWER_ADDRCPT, 0, "<a@b>", "" }, { '2', S("<a@b>\0X=1"), ANSWER_BAD, 0, "", "" },
		{ 'e', S("<a@b>\0"), ANSWER_CHGFROM, 0, "<a@b>", "" }, { 'e', S("<a@b>"), ANSWER_BAD, 0, "", "" },
		{ 'q', S("why\0"), ANSWER_QUARANTINE, 0, "why", "" }, { 'q', S(""), ANSWER_BAD, 0, "", "" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct milter_reply r;

		print_message("  %zu %c\n", i, rows[i].command);
		milter_read_reply(rows[i].command, rows[i].data, &r);
		assert_int_equal(r.answer, rows[i].want);
		assert_int_equal(r.index, rows[i].index);
		assert_true(text_is(r.name, rows[i].name) && text_is(r.value, rows[i].value));
	}
}

/* ---- what a milter hears ---- */

#define CONNECT_MACROS "DCj|mx.test|{daemon_name}|mx|{daemon_addr}|192.0.2.25|v|smtpd|{client_addr}|192.0.2.1|" \
	"{client_name}|unknown|{client_port}|0|{client_ptr}|unknown|_|unknown [192.0.2.1]|\n"
#define OFFER "O|||\\06|||\\ff|\\1f\\f7\\ff\n"
#define MAIL_MACROS "DMi|ID|{mail_addr}|a@a.test|{mail_host}|a.test|{mail_mailer}|smtp|\n"
#define RCPT_MACROS_1 "DRi|ID|{rcpt_addr}|bob@local.test|{rcpt_host}|local.test|{rcpt_mailer}|local|\n"
#define RCPT_MACROS_2 "DRi|ID|{rcpt_addr}|eve@far.test|{rcpt_host}|far.test|{rcpt_mailer}|smtp|\n"
#define ENVELOPE MAIL_MACROS "M<a@a.test>|\n" RCPT_MACROS_1 "R<bob@local.test>|\n" RCPT_MACROS_2 "R<eve@far.test>|\n"
#define CONTENT "DTi|ID|\nT\nLReceived|one|\nLFrom|a@a.test|\nLSubject|s\\0a folded|\nLX-Two|1|\nLX-Two|\\092|\nDNi|ID|\nN\n" \
	"BHello\\0d\\0a.\\0d\\0a\nDEi|ID|\nE\n"

static void
test_dialogue(void **state)
{
	struct mail mail;

	begin(NULL);
	mail_make(&mail, text_span(message));
	try(NULL, &mail);
	assert_heard(OFFER CONNECT_MACROS "C[192.0.2.1]|4||192.0.2.1|\nHh.test|\n" ENVELOPE CONTENT "Q\n");
	assert_int_equal(mail.r.action, FILTER_ACCEPT);
	assert_false(mail.content.changed);
	mail_end(&mail);

	/* a client by IPv6, TLS, authenticated, with parameters; control octets are not said (case 11.56) */
	begin(NULL);
	mail_make(&mail, SPAN("A: 1\n\n"));
	mail.tx.client_address = "2001:db8::1";
	mail.tx.helo = "h\r\n\x01.te\x7fst";
	mail.tx.client_port = 16706;	/* "AB" */
	mail.tx.auth_user = "bo\nb";
	mail.tx.auth_type = "PLAIN";
	mail.tx.tls_version = "TLSv1.2";
	mail.tx.tls_cipher = "ECDHE-RSA-AES128-GCM-SHA256";
	mail.tx.body = SMTP_BODY_8BITMIME;
	mail.tx.declared_size = 12345;
	mail.tx.utf8 = true;
	mail.tx.rcpts_n = 1;
	mail.tx.sender = (struct mailbox){ .local = "" };
	steps = MILTER_HDR_LEADSPC;
	try(NULL, &mail);
	assert_heard(OFFER "DCj|mx.test|{daemon_name}|mx|{daemon_addr}|192.0.2.25|v|smtpd|"
	    "{client_addr}|IPv6:2001:db8::1|{client_name}|unknown|{client_port}|16706|{client_ptr}|unknown|_|unknown [2001:db8::1]|\nC[2001:db8::1]|6AB2001:db8::1|\n"
	    "DH{tls_version}|TLSv1.2|{cipher}|ECDHE-RSA-AES128-GCM-SHA256|{cipher_bits}|128|\nHh.test|\n"
	    "DMi|ID|{auth_type}|PLAIN|{auth_authen}|bob|{mail_addr}||{mail_host}|mx.test|{mail_mailer}|local|\n"
	    "M<>|SIZE=12345|BODY=8BITMIME|SMTPUTF8|\n" RCPT_MACROS_1 "R<bob@local.test>|\n"
	    "DTi|ID|\nT\nLA| 1|\nDNi|ID|\nN\nDEi|ID|\nE\nQ\n");
	mail_end(&mail);

	/* a client that has a name */
	begin(NULL);
	mail_make(&mail, SPAN("A: 1\n\n"));
	(void)snprintf(mail.tx.client_name, sizeof(mail.tx.client_name), "c.test");
	try(NULL, &mail);
	assert_true(has_heard("DCj|mx.test|{daemon_name}|mx|{daemon_addr}|192.0.2.25|v|smtpd|"
	    "{client_addr}|192.0.2.1|{client_name}|c.test|{client_port}|0|{client_ptr}|c.test|_|c.test [192.0.2.1]|\nCc.test|4||192.0.2.1|"));
	mail_end(&mail);

	/* an unknown client; NUL in a field */
	begin(NULL);
	mail_make(&mail, SPAN("A: 1\0" "2\n\n"));
	mail.tx.client_address = "";
	try(NULL, &mail);
	assert_true(has_heard("Cunknown|U"));
	assert_true(has_heard("LA|12|"));
	mail_end(&mail);
}

static void
test_steps(void **state)
{
	static const struct { const char *name; uint32_t version, steps; const char *want; } rows[] = {
		{ "nothing", 6, 0x37f, CONNECT_MACROS MAIL_MACROS RCPT_MACROS_1 RCPT_MACROS_2 "DTi|ID|\nDNi|ID|\nDEi|ID|\nE\nQ\n" },
		{ "no content", 6, MILTER_NOHDRS | MILTER_NOEOH | MILTER_NOBODY | MILTER_NODATA,
		    CONNECT_MACROS "C[192.0.2.1]|4||192.0.2.1|\nHh.test|\n" ENVELOPE "DTi|ID|\nDNi|ID|\nDEi|ID|\nE\nQ\n" },
		{ "silent", 6, 0xff080, CONNECT_MACROS "C[192.0.2.1]|4||192.0.2.1|\nHh.test|\n" ENVELOPE CONTENT "Q\n" },
		{ "version 2", 2, 0, CONNECT_MACROS "C[192.0.2.1]|4||192.0.2.1|\nHh.test|\n" ENVELOPE
		    "LReceived|one|\nLFrom|a@a.test|\nLSubject|s\\0a folded|\nLX-Two|1|\nLX-Two|\\092|\nN\nBHello\\0d\\0a.\\0d\\0a\nDEi|ID|\nE\nQ\n" },
		{ "version 99", 99, 0, CONNECT_MACROS "C[192.0.2.1]|4||192.0.2.1|\nHh.test|\n" ENVELOPE CONTENT "Q\n" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct mail mail;

		print_message("  %s\n", rows[i].name);
		begin(NULL);
		version = rows[i].version;
		steps = rows[i].steps;
		mail_make(&mail, text_span(message));
		try(NULL, &mail);
		assert_int_equal(mail.r.action, FILTER_ACCEPT);
		assert_memory_equal(heard.data, OFFER, sizeof(OFFER) - 1);
		buf_drop(&heard, sizeof(OFFER) - 1);
		assert_heard(rows[i].want);
		mail_end(&mail);
	}
}

/* Chunks of the body, with an LF before, at and behind the end of the first; a milter that has seen enough. */
static void
test_body(void **state)
{
	static const struct rule skip[] = { { .command = 'B', .says = { S("s") } }, { .command = '\0' } };
	static char text[200000], want[210000];
	struct mail mail;

	memcpy(text, "A: 1\n\n", 6);
	for (size_t lf = MILTER_CHUNK_MAX - 3; lf < MILTER_CHUNK_MAX + 3; lf++) {
		size_t n = 0, chunks = 0;

		print_message("  %zu\n", lf);
		memset(text + 6, 'x', sizeof(text) - 6);
		text[6 + lf] = text[sizeof(text) - 1] = text[100] = '\n';
		for (size_t i = 6; i < sizeof(text); i++) {
			if (text[i] == '\n')
				want[n++] = '\r';
			want[n++] = text[i];
		}
		begin(NULL);
		mail_make(&mail, (struct span){ text, sizeof(text) });
		try(NULL, &mail);
		assert_int_equal(mail.r.action, FILTER_ACCEPT);
		assert_int_equal(buf_len(&body), n);
		assert_memory_equal(body.data, want, n);
		for (const char *p = buf_str(&heard); (p = strstr(p, "B65535\n")) != NULL; p++)
			chunks++;
		assert_int_equal(chunks, n / MILTER_CHUNK_MAX);
		mail_end(&mail);
	}
	begin(skip);
	mail_make(&mail, (struct span){ text, sizeof(text) });
	try(skip, &mail);
	assert_int_equal(buf_len(&body), MILTER_CHUNK_MAX);
	assert_int_equal(mail.r.action, FILTER_ACCEPT);
	mail_end(&mail);

	/* all of it at once, to one that does not reply */
	begin(NULL);
	steps = MILTER_NR_BODY;
	mail_make(&mail, (struct span){ text, sizeof(text) });
	try(NULL, &mail);
	assert_int_equal(buf_len(&body), sizeof(text) - 6 + 3);
	assert_int_equal(mail.r.action, FILTER_ACCEPT);
	mail_end(&mail);
}

/* SKIP where it belongs: the rest of the recipients, of the header, of the body. */
static void
test_skip(void **state)
{
	static const struct { char command; enum filter_action want; const char *not_heard; } rows[] = {
		{ 'C', FILTER_TEMPFAIL, "" }, { 'H', FILTER_TEMPFAIL, "" }, { 'M', FILTER_TEMPFAIL, "" }, { 'T', FILTER_TEMPFAIL, "" },
		{ 'N', FILTER_TEMPFAIL, "" }, { 'E', FILTER_TEMPFAIL, "" }, { 'R', FILTER_ACCEPT, "R<eve@far.test>|" },
		{ 'L', FILTER_ACCEPT, "LFrom|a@a.test|" }, { 'B', FILTER_ACCEPT, "" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct rule r[] = { { .command = rows[i].command, .says = { S("s") } }, { .command = '\0' } };
		struct mail mail;

		print_message("  %c\n", rows[i].command);
		begin(r);
		mail_make(&mail, text_span(message));
		try(r, &mail);
		assert_int_equal(mail.r.action, rows[i].want);
		assert_false(has_heard(rows[i].not_heard));
		mail_end(&mail);
	}
}

/* ---- verdicts ---- */

#define END { .command = '\0' }

/* Case 11.53: each at each stage. */
static void
test_verdicts(void **state)
{
	static const struct { struct span says; enum filter_action want; int code; const char *esc, *text; bool closes; } rows[] = {
		{ S("a"), FILTER_ACCEPT, 0, "", "", false }, { S("r"), FILTER_REJECT, 0, "", "", false },
		{ S("t"), FILTER_TEMPFAIL, 0, "", "", false }, { S("d"), FILTER_DISCARD, 0, "", "", false },
		{ S("4"), FILTER_TEMPFAIL, 0, "", "", true }, { S("f"), FILTER_TEMPFAIL, 0, "", "", true },
		{ S("y554-5.7.0 one\r\n554 5.7.0 two\0"), FILTER_REJECT, 554, "5.7.0", "one two", false },
		{ S("y450 4.7.1 later\0"), FILTER_TEMPFAIL, 450, "4.7.1", "later", false },
		{ S("y421 4.3.2 away\0"), FILTER_TEMPFAIL, 451, "4.3.2", "away", false },	/* the connection stays */
	};
	static const char stages[] = "CHMRTLNBE";

	for (size_t i = 0; i < COUNT(rows); i++) {
		for (const char *at = stages; *at != '\0'; at++) {
			struct rule r[] = { { .command = *at, .says = { rows[i].says } }, { .command = '\0' } };
			struct milter *m;
			struct mail mail;

			print_message("  %c at %c\n", rows[i].says.p[0], *at);
			begin(r);
			mail_make(&mail, text_span(message));
			m = milter_new(&loop, &milter_config);
			assert_non_null(m);
			run(m, &mail);
			assert_int_equal(mail.r.action, rows[i].want);
			assert_int_equal(mail.r.code, rows[i].code);
			assert_string_equal(mail.r.esc, rows[i].esc);
			assert_string_equal(mail.r.text, rows[i].text);
			assert_false(mail.content.changed);
			settle();
			/* a verdict on the client ends the connection, one on a message lets the milter forget it */
			assert_int_equal(has_heard("Q"), rows[i].closes || at < stages + 2);
			if (!rows[i].closes && at >= stages + 2)
				assert_int_equal(has_heard("A"), *at != 'E');
			milter_free(m);
			settle();
			mail_end(&mail);
		}
	}
}

/* Its replies may come in any pieces. */
static void
test_slow_replies(void **state)
{
	static const char stages[] = "CHMRTLNBE";
	struct mail mail;

	for (const char *at = stages; *at != '\0'; at++) {
		struct rule r[] = { { .command = *at, .slowly = true, .says = { S("\0\0\0\1c") } }, END };

		print_message("  %c\n", *at);
		begin(r);
		mail_make(&mail, text_span(message));
		try(r, &mail);
		assert_int_equal(mail.r.action, FILTER_ACCEPT);
		assert_heard(OFFER CONNECT_MACROS "C[192.0.2.1]|4||192.0.2.1|\nHh.test|\n" ENVELOPE CONTENT "Q\n");
		mail_end(&mail);
	}
	{
		static const struct rule r[] = { { .command = 'E', .slowly = true, .says = { S("\0\0\0\1p\0\0\0\5hX\0v\0\0\0\0\1a") } }, END };

		begin(r);
		mail_make(&mail, text_span(message));
		try(r, &mail);
		assert_int_equal(mail.r.action, FILTER_ACCEPT);
		assert_int_equal(mail.content.fields_n, 6);
		mail_end(&mail);
	}
}

static void
test_progress_and_quarantine(void **state)
{
	static const struct rule progress[] = { { .command = 'C', .says = { S("p"), S("p"), S("c") } },
	    { .command = 'E', .says = { S("p"), S("qwhy\tnot\0"), S("p"), S("a") } }, { .command = '\0' } };
	static const struct rule reject[] = { { .command = 'E', .says = { S("qx\0"), S("r") } }, { .command = '\0' } };
	static const struct rule early[] = { { .command = 'L', .says = { S("qx\0"), S("c") } }, { .command = '\0' } };
	struct mail mail;

	begin(NULL);
	mail_make(&mail, text_span(message));
	try(progress, &mail);
	assert_int_equal(mail.r.action, FILTER_QUARANTINE);
	assert_string_equal(mail.r.detail, "accept at eom, quarantine: why?not");
	mail.calls = 0;
	try(reject, &mail);
	assert_int_equal(mail.r.action, FILTER_REJECT);
	try(early, &mail);
	assert_int_equal(mail.r.action, FILTER_TEMPFAIL);
	assert_string_equal(mail.r.detail, "a change of the message that was not agreed on at header");
	mail_end(&mail);
}

/* ---- trouble ---- */

#define RAW(c, ...) { .command = c, .raw = true, .says = { __VA_ARGS__ } }

/* Cases 11.1 to 11.6, 11.50 to 11.52: each with each default_action. */
static void
test_trouble(void **state)
{
	static const struct { const char *name; struct rule r[RULES_MAX]; } rows[] = {
		{ "closes when connected to", { { .command = 'O', .then = THEN_CLOSE }, END } },
		{ "half of the options", { RAW('O', S("\0\0\0\x0dO\0\0\0\6")), END } },
		{ "says nothing to the offer", { { .command = 'O', .then = THEN_REST }, END } },
		{ "no options", { { .command = 'O', .says = { S("c") } }, END } },
		{ "short options", { { .command = 'O', .says = { S("O\0\0\0\6\0\0\0\x3f\0\0\0") } }, END } },
		{ "version 0", { { .command = 'O', .says = { S("O\0\0\0\0\0\0\0\x3f\0\0\0\0") } }, END } },
		{ "version 1", { { .command = 'O', .says = { S("O\0\0\0\1\0\0\0\x3f\0\0\0\0") } }, END } },
		{ "actions that were not offered", { { .command = 'O', .says = { S("O\0\0\0\6\0\0\1\x3f\0\0\0\0") } }, END } },
		{ "steps that were not offered", { { .command = 'O', .says = { S("O\0\0\0\6\0\0\0\x3f\0\0\x08\0") } }, END } },
		{ "internal steps", { { .command = 'O', .says = { S("O\0\0\0\6\0\0\0\x3f\x40\0\0\0") } }, END } },
		{ "length 0", { RAW('C', S("\0\0\0\0")), END } },
		{ "length 0xffffffff", { RAW('H', S("\xff\xff\xff\xff")), END } },
		{ "length over the limit", { RAW('M', S("\0\1\0\1b")), END } },
		{ "SMTP", { RAW('M', S("421 4.3.2 what do you want\r\n")), END } },
		{ "a short packet", { RAW('R', S("\0\0\0\5y550")), END } },
		{ "closes in the middle of a packet", { { .command = 'R', .raw = true, .says = { S("\0\0\0\5y550") }, .then = THEN_CLOSE }, END } },
		{ "an unknown reply", { { .command = 'T', .says = { S("Z") } }, END } },
		{ "data behind a reply without", { { .command = 'L', .says = { S("c\0") } }, END } },
		{ "a second reply", { { .command = 'L', .says = { S("c") } }, { .command = 'N', .says = { S("c"), S("c"), S("c") } }, END } },
		{ "reply code cut", { { .command = 'L', .says = { S("y550\0") } }, END } },
		{ "reply code 2xx", { { .command = 'B', .says = { S("y250 2.0.0 ok\0") } }, END } },
		{ "reply code no number", { { .command = 'B', .says = { S("yabc\0") } }, END } },
		{ "reply code without NUL", { { .command = 'E', .says = { S("y550 5.7.1 no") } }, END } },
		{ "reply code with CRLF", { { .command = 'E', .says = { S("y550 5.7.1 no\r\n250 ok\0") } }, END } },
		{ "a change before the end", { { .command = 'M', .says = { S("hX\0v\0"), S("c") } }, END } },
		{ "closes at connect", { { .command = 'C', .then = THEN_CLOSE }, END } },
		{ "closes at the header", { { .command = 'L', .nth = 3, .then = THEN_CLOSE }, END } },
		{ "closes at the end", { { .command = 'E', .then = THEN_CLOSE }, END } },
		{ "rests at connect", { { .command = 'C', .then = THEN_REST }, END } },
		{ "rests at rcpt", { { .command = 'R', .then = THEN_REST }, END } },
		{ "rests at the body", { { .command = 'B', .then = THEN_REST }, END } },
		{ "rests at the end", { { .command = 'E', .then = THEN_REST }, END } },
		{ "progress for ever", { { .command = 'E', .says = { S("p") }, .again = true }, END } },
	};
	static const struct { enum milter_default action; enum filter_action want; const char *esc; } defaults[] = {
		{ MILTER_TEMPFAIL, FILTER_TEMPFAIL, "4.7.1" }, { MILTER_ACCEPT, FILTER_ACCEPT, "" }, { MILTER_REJECT, FILTER_REJECT, "5.7.1" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		for (size_t j = 0; j < COUNT(defaults); j++) {
			struct mail mail;
			int64_t from = loop_clock_ms();

			print_message("  %s, %zu\n", rows[i].name, j);
			begin(rows[i].r);
			milter_config.default_action = defaults[j].action;
			milter_config.command_ms = milter_config.content_ms = 60;
			milter_config.connect_ms = 60;
			mail_make(&mail, text_span(message));
			try(rows[i].r, &mail);
			assert_int_equal(mail.r.action, defaults[j].want);
			assert_string_equal(mail.r.esc, defaults[j].esc);
			assert_string_equal(mail.r.text, "");
			assert_true(mail.r.detail[0] != '\0');
			assert_false(mail.content.changed);
			assert_int_equal(mail.tx.rcpts_n, 2);
			assert_false(has_heard("Q"));
			assert_true(loop_clock_ms() - from < 5000);
			mail_end(&mail);
		}
	}
}

/* Case 11.50: a reply that comes while none is due, to one who says no word of "no reply" stages. */
static void
test_reply_when_none_is_due(void **state)
{
	static const struct rule r[] = { { .command = 'M', .says = { S("r") } }, { .command = 'E', .then = THEN_REST }, END };
	struct mail mail;

	begin(NULL);
	steps = MILTER_NR_MAIL | MILTER_NR_RCPT;
	mail_make(&mail, text_span(message));
	try(r, &mail);
	/* it is taken for the reply to what is said next: whatever it is, it is not lost */
	assert_true(mail.r.action == FILTER_REJECT || mail.r.action == FILTER_TEMPFAIL);
	mail_end(&mail);
}

/* Cases 11.2, 11.4: it stops reading in the middle of a large body, or has gone when we have something to say. */
static void
test_deaf(void **state)
{
	static char text[1024 * 1024];
	static const struct { bool silent; struct rule r[2]; const char *detail; } rows[] = {
		{ false, { { .command = 'B', .then = THEN_DEAF }, END }, "timeout at body" },
		{ true, { { .command = 'B', .then = THEN_DEAF }, END }, "timeout at body" },
		{ false, { { .command = 'B', .nth = 3, .then = THEN_CLOSE }, END }, "the connection was lost at body" },
		{ true, { { .command = 'B', .nth = 3, .then = THEN_CLOSE }, END }, "the connection was lost at body" },
		{ false, { { .command = 'L', .then = THEN_CLOSE }, END }, "the connection was lost at header" },
		{ true, { { .command = 'L', .then = THEN_CLOSE }, END }, "the connection was lost at body" },
		{ false, { { .command = 'L', .says = { S("r") }, .then = THEN_CLOSE }, END }, "reject at header" },	/* who hears our ABORT? */
		{ false, { { .command = 'E', .says = { S("r") }, .then = THEN_CLOSE }, END }, "reject at eom" },
	};

	memset(text, 'x', sizeof(text));
	memcpy(text, "A: 1\n\n", 6);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct mail mail;

		print_message("  %zu\n", i);
		begin(rows[i].r);
		steps = rows[i].silent ? MILTER_NR_HDR | MILTER_NR_EOH | MILTER_NR_BODY : 0;
		milter_config.content_ms = 200;
		mail_make(&mail, (struct span){ text, sizeof(text) });
		try(rows[i].r, &mail);
		assert_string_equal(mail.r.detail, rows[i].detail);
		assert_int_equal(mail.r.action, rows[i].detail[0] == 'r' ? FILTER_REJECT : FILTER_TEMPFAIL);
		mail_end(&mail);
	}
}

/* Case 11.1: the queue of those not accepted is full, the kernel lets a connection hang. */
static void
test_connection_that_hangs(void **state)
{
	static char inet[64];
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fill = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct mail mail;
	int64_t from;

	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	assert_int_equal(connect(fill, (struct sockaddr *)&in, sizeof(in)), 0);
	(void)snprintf(inet, sizeof(inet), "inet:127.0.0.1:%d", ntohs(in.sin_port));
	begin(NULL);
	milter_config.address = inet;
	milter_config.connect_ms = 200;
	mail_make(&mail, text_span(message));
	from = loop_clock_ms();
	try(NULL, &mail);
	assert_int_equal(mail.r.action, FILTER_TEMPFAIL);
	assert_string_equal(mail.r.detail, "timeout of the connection at options");
	assert_true(loop_clock_ms() - from >= 190 && loop_clock_ms() - from < 2000);
	mail_end(&mail);
	close(fill);
	close(fd);
}

static void
test_nobody_there(void **state)
{
	struct milter *m;
	struct mail mail;

	begin(NULL);
	listen_no_more();
	m = milter_new(&loop, &milter_config);
	assert_non_null(m);
	mail_make(&mail, text_span(message));
	run(m, &mail);
	assert_int_equal(mail.r.action, FILTER_TEMPFAIL);
	assert_string_equal(mail.r.detail, "it cannot be connected to at options");
	/* it comes back */
	listen_again();
	run(m, &mail);
	assert_int_equal(mail.r.action, FILTER_ACCEPT);
	milter_free(m);
	settle();
	mail_end(&mail);
}

/* What cannot be said: a field over a packet. It is the message's fault, whatever the default action. */
static void
test_long_field(void **state)
{
	char *text = malloc(70000);

	assert_non_null(text);
	for (size_t len = MILTER_PACKET_MAX - 4; len < MILTER_PACKET_MAX - 1; len++) {
		size_t n = 0;
		struct mail mail;

		memcpy(text, "A: ", 3);
		for (n = 3; n < 3 + len; n++)
			text[n] = n % 900 == 0 ? ' ' : 'x';
		memcpy(text + n, "\n\n", 2);
		begin(NULL);
		mail_make(&mail, (struct span){ text, n + 2 });
		milter_config.default_action = MILTER_ACCEPT;
		try(NULL, &mail);
		/* L, A, NUL, value, NUL */
		assert_int_equal(mail.r.action, 1 + 2 + len + 1 <= MILTER_PACKET_MAX ? FILTER_ACCEPT : FILTER_REJECT);
		assert_string_equal(mail.r.esc, 1 + 2 + len + 1 <= MILTER_PACKET_MAX ? "" : "5.6.0");
		mail_end(&mail);
	}
	free(text);
}

/* ---- changes ---- */

static void
assert_message(struct mail *m, const char *want)
{
	char octets[8192];
	struct buf b;
	ssize_t n;

	buf_fixed(&b, octets, sizeof(octets) - 1);
	assert_int_equal(content_header(&m->content, "\n", &b), 0);
	buf_add_char(&b, '\n');
	n = pread(m->content.body_fd, octets + b.wpos, (size_t)m->content.body_len, (off_t)m->content.body_at);
	assert_int_equal(n, (ssize_t)m->content.body_len);
	octets[b.wpos + (size_t)n] = '\0';
	assert_string_equal(octets, want);
}

/* Case 11.54. The message's own fields are R and A, A; the index of an insertion counts the Received field that we shall put in front. */
static void
test_changes(void **state)
{
	static const struct { const char *name; struct span says[SAYS_MAX - 1]; const char *want; size_t left_out; } rows[] = {
		{ "add", { S("hX\0v\0"), S("hX\0w\0") }, "R: 1\nA: 1\nA: 2\nX: v\nX: w\n\nb\n", 0 },
		{ "add folded", { S("hX\0v\r\n\tw\nx\0") }, "R: 1\nA: 1\nA: 2\nX: v\n\tw x\n\nb\n", 0 },
		{ "add nothing", { S("hX\0\0") }, "R: 1\nA: 1\nA: 2\nX: \n\nb\n", 0 },
		{ "add no field", { S("hX Y\0v\0"), S("hX:\0v\0"), S("hX\nY\0v\0") }, "R: 1\nA: 1\nA: 2\n\nb\n", 3 },
		{ "insert at 0", { S("i\0\0\0\0X\0v\0") }, "X: v\nR: 1\nA: 1\nA: 2\n\nb\n", 0 },
		{ "insert at 1", { S("i\0\0\0\1X\0v\0") }, "X: v\nR: 1\nA: 1\nA: 2\n\nb\n", 0 },
		{ "insert at 2", { S("i\0\0\0\2X\0v\0") }, "R: 1\nX: v\nA: 1\nA: 2\n\nb\n", 0 },
		{ "insert at 4, 9, the largest", { S("i\0\0\0\4X\0v\0"), S("i\0\0\0\x09Y\0v\0"), S("i\xff\xff\xff\xffZ\0v\0") },
		    "R: 1\nA: 1\nA: 2\nX: v\nY: v\nZ: v\n\nb\n", 0 },
		{ "insert in order", { S("i\0\0\0\0X\0v\0"), S("i\0\0\0\1Y\0v\0"), S("i\0\0\0\2Z\0v\0") },
		    "X: v\nY: v\nZ: v\nR: 1\nA: 1\nA: 2\n\nb\n", 0 },
		{ "insert each at 0", { S("i\0\0\0\0X\0v\0"), S("i\0\0\0\0Y\0v\0") }, "Y: v\nX: v\nR: 1\nA: 1\nA: 2\n\nb\n", 0 },
		{ "change", { S("m\0\0\0\1a\0new\0") }, "R: 1\nA: new\nA: 2\n\nb\n", 0 },
		{ "change of 0", { S("m\0\0\0\0A\0new\0") }, "R: 1\nA: new\nA: 2\n\nb\n", 0 },
		{ "change the second", { S("m\0\0\0\2A\0new\0") }, "R: 1\nA: 1\nA: new\n\nb\n", 0 },
		{ "change behind the last", { S("m\0\0\0\3A\0new\0") }, "R: 1\nA: 1\nA: 2\nA: new\n\nb\n", 0 },
		{ "change the largest", { S("m\xff\xff\xff\xffX\0new\0") }, "R: 1\nA: 1\nA: 2\nX: new\n\nb\n", 0 },
		{ "delete", { S("m\0\0\0\1A\0\0") }, "R: 1\nA: 2\n\nb\n", 0 },
		{ "delete both", { S("m\0\0\0\1A\0\0"), S("m\0\0\0\1A\0\0") }, "R: 1\n\nb\n", 0 },
		{ "delete behind the last", { S("m\0\0\0\3A\0\0") }, "R: 1\nA: 1\nA: 2\n\nb\n", 0 },
		{ "delete what was added", { S("i\0\0\0\0X\0v\0"), S("m\0\0\0\1X\0\0"), S("i\0\0\0\1Y\0v\0") }, "Y: v\nR: 1\nA: 1\nA: 2\n\nb\n", 0 },
		{ "body", { S("bnew\r\n") }, "R: 1\nA: 1\nA: 2\n\nnew\n", 0 },
		{ "body in parts", { S("bnew\r"), S("b\nand\r\n"), S("b") }, "R: 1\nA: 1\nA: 2\n\nnew\nand\n", 0 },
		{ "body empty", { S("b") }, "R: 1\nA: 1\nA: 2\n\n", 0 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct rule r[] = { { .command = 'E' }, END };
		struct mail mail;
		size_t n = 0;

		print_message("  %s\n", rows[i].name);
		for (; n < SAYS_MAX - 1 && rows[i].says[n].p != NULL; n++)
			r[0].says[n] = rows[i].says[n];
		r[0].says[n] = SPAN("a");
		begin(r);
		mail_make(&mail, SPAN("R: 1\nA: 1\nA: 2\n\nb\n"));
		try(r, &mail);
		assert_int_equal(mail.r.action, FILTER_ACCEPT);
		assert_message(&mail, rows[i].want);
		if (rows[i].left_out == 0)
			assert_string_equal(mail.r.detail, "accept at eom");
		else
			assert_string_equal(mail.r.detail, "accept at eom, 3 changes left out");
		mail_end(&mail);
	}
}

/* The envelope: only with the key. */
static void
test_envelope(void **state)
{
	static const struct { const char *name; struct span says[SAYS_MAX - 1]; const char *want; enum filter_action action; } rows[] = {
		{ "sender", { S("e<c@c.test>\0") }, "c@c.test bob@local.test eve@far.test", FILTER_ACCEPT },
		{ "sender with parameters", { S("ec@c.test\0SIZE=1\0") }, "c@c.test bob@local.test eve@far.test", FILTER_ACCEPT },
		{ "null sender", { S("e<>\0") }, " bob@local.test eve@far.test", FILTER_ACCEPT },
		{ "no sender", { S("e<c c>\0"), S("e<c@c.test>x\0"), S("ec\r\n@c.test\0") }, "a@a.test bob@local.test eve@far.test", FILTER_TEMPFAIL },
		{ "add", { S("+<c@c.test>\0"), S("2d@d.test\0X\0") }, "a@a.test bob@local.test eve@far.test c@c.test d@d.test", FILTER_ACCEPT },
		{ "add one that is there", { S("+<BOB@local.test>\0") }, "a@a.test bob@local.test eve@far.test", FILTER_ACCEPT },
		{ "add too many", { S("+<c@c.test>\0"), S("+<d@d.test>\0"), S("+<e@e.test>\0") },
		    "a@a.test bob@local.test eve@far.test c@c.test d@d.test", FILTER_TEMPFAIL },
		{ "add none", { S("+<>\0") }, "a@a.test bob@local.test eve@far.test", FILTER_TEMPFAIL },
		{ "add none for another", { S("+c\0"), S("-<bob@local.test>\0") }, "a@a.test bob@local.test eve@far.test", FILTER_TEMPFAIL },
		{ "delete none", { S("-bob\0") }, "a@a.test bob@local.test eve@far.test", FILTER_TEMPFAIL },
		{ "delete", { S("-<Bob@Local.test>\0") }, "a@a.test eve@far.test", FILTER_ACCEPT },
		{ "delete one that is not there", { S("-<c@c.test>\0") }, "a@a.test bob@local.test eve@far.test", FILTER_ACCEPT },
		{ "delete all", { S("-<bob@local.test>\0"), S("-eve@far.test\0") }, "a@a.test", FILTER_DISCARD },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		for (int key = 0; key < 2; key++) {
			struct rule r[] = { { .command = 'E' }, END };
			char got[1024], one[SMTP_ADDRESS_MAX + 1], detail[160] = "accept at eom";
			struct mail mail;
			struct buf b;
			size_t n = 0;

			print_message("  %s, %d\n", rows[i].name, key);
			for (; n < SAYS_MAX - 1 && rows[i].says[n].p != NULL; n++)
				r[0].says[n] = rows[i].says[n];
			r[0].says[n] = SPAN("a");
			begin(r);
			milter_config.envelope = key == 1;
			mail_make(&mail, text_span(message));
			try(r, &mail);
			buf_fixed(&b, got, sizeof(got));
			smtp_mailbox_print(&mail.tx.sender, one);
			buf_add_str(&b, one);
			for (size_t j = 0; j < mail.tx.rcpts_n; j++) {
				smtp_mailbox_print(&mail.tx.rcpts[j], one);
				buf_printf(&b, " %s", one);
			}
			assert_string_equal(buf_str(&b), key == 1 ? rows[i].want : "a@a.test bob@local.test eve@far.test");
			assert_int_equal(mail.r.action, key == 1 ? rows[i].action : FILTER_ACCEPT);
			if (key == 0)
				(void)snprintf(detail, sizeof(detail), "accept at eom, %zu changes of the envelope ignored", n);
			else if (rows[i].action == FILTER_TEMPFAIL)
				(void)snprintf(detail, sizeof(detail), "its change of the envelope cannot be made at eom");
			assert_string_equal(mail.r.detail, detail);
			assert_false(mail.content.changed);
			mail_end(&mail);
		}
	}
}

/* Case 11.55: what happens behind a change is never an accepted message, whatever the default. */
static void
test_changed_in_part(void **state)
{
	static const struct rule rows[][2] = {
		{ { .command = 'E', .says = { S("bhalf") }, .then = THEN_CLOSE }, END },
		{ { .command = 'E', .says = { S("hX\0v\0") }, .then = THEN_CLOSE }, END },
		{ { .command = 'E', .says = { S("m\0\0\0\1From\0\0"), S("Z") } }, END },
		{ { .command = 'E', .says = { S("bhalf") }, .then = THEN_REST }, END },
		{ { .command = 'E', .says = { S("qx\0") }, .then = THEN_CLOSE }, END },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		for (enum milter_default d = 0; d < MILTER_DEFAULT__MAX; d++) {
			struct mail mail;

			print_message("  %zu, %d\n", i, (int)d);
			begin(rows[i]);
			milter_config.default_action = d;
			milter_config.content_ms = 60;
			mail_make(&mail, text_span(message));
			try(rows[i], &mail);
			assert_int_equal(mail.r.action, FILTER_TEMPFAIL);
			assert_string_equal(mail.r.esc, "4.7.1");
			mail_end(&mail);
		}
	}
}

/* Changes that were not agreed on; that never end; a body that is too long. */
static void
test_bounds_of_changes(void **state)
{
	static const struct { uint32_t action; struct span says; } rows[] = {
		{ MILTER_ADDHDRS, S("hX\0v\0") }, { MILTER_ADDHDRS, S("i\0\0\0\0X\0v\0") }, { MILTER_CHGHDRS, S("m\0\0\0\1A\0v\0") },
		{ MILTER_CHGBODY, S("bx") }, { MILTER_ADDRCPT, S("+<c@c.test>\0") }, { MILTER_ADDRCPT_PAR, S("2<c@c.test>\0") },
		{ MILTER_DELRCPT, S("-<bob@local.test>\0") }, { MILTER_CHGFROM, S("e<c@c.test>\0") }, { MILTER_QUARANTINE, S("qx\0") },
	};
	static char packet[4 + MILTER_PACKET_MAX], many[1001 * 5];
	struct mail mail;

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct rule r[] = { { .command = 'E', .says = { rows[i].says, S("a") } }, END };

		print_message("  %c\n", rows[i].says.p[0]);
		begin(r);
		actions = MILTER_ACTIONS & ~rows[i].action;
		milter_config.default_action = MILTER_ACCEPT;
		milter_config.envelope = true;
		mail_make(&mail, text_span(message));
		try(r, &mail);
		assert_int_equal(mail.r.action, FILTER_ACCEPT);		/* by default: nothing has been changed */
		assert_string_equal(mail.r.detail, "a change of the message that was not agreed on at eom");
		assert_false(mail.content.changed);
		assert_int_equal(mail.tx.rcpts_n, 2);
		assert_string_equal(mail.tx.sender.local, "a");
		mail_end(&mail);
	}
	for (size_t n = 1000; n <= 1001; n++) {
		struct rule r[] = { { .command = 'E', .raw = true, .says = { { many, 5 * n }, S("\0\0\0\1a") } }, END };

		for (size_t i = 0; i < n; i++)
			memcpy(many + 5 * i, "\0\0\0\1b", 5);
		begin(r);
		mail_make(&mail, text_span(message));
		try(r, &mail);
		assert_int_equal(mail.r.action, n == 1000 ? FILTER_ACCEPT : FILTER_TEMPFAIL);
		mail_end(&mail);
	}
	memcpy(packet, "\0\1\0\0b", 5);
	for (size_t n = 2; n <= 3; n++) {	/* 131070 and 196605 octets, of 131072 */
		struct rule r[] = { { .command = 'E', .raw = true }, END };

		for (size_t i = 0; i < n; i++)
			r[0].says[i] = (struct span){ packet, sizeof(packet) };
		r[0].says[n] = SPAN("\0\0\0\1a");
		begin(r);
		config.max_message_size = 131072 - CONTENT_GROWTH_MAX;
		milter_config.default_action = MILTER_ACCEPT;
		mail_make(&mail, text_span(message));
		try(r, &mail);
		assert_int_equal(mail.r.action, n == 2 ? FILTER_ACCEPT : FILTER_TEMPFAIL);
		assert_string_equal(mail.r.esc, n == 2 ? "" : "4.7.1");
		assert_string_equal(mail.r.detail, n == 2 ? "accept at eom" : "its new body cannot be stored at eom");
		if (n == 2)
			assert_int_equal(mail.content.body_len, n * MILTER_CHUNK_MAX);
		mail_end(&mail);
	}
}

/* ---- several messages ---- */

/* Cases 11.9, 11.57. */
static void
test_connection_is_kept(void **state)
{
	static const struct rule accept_first[] = { { .command = 'M', .nth = 1, .says = { S("a") } }, { .command = 'E', .says = { S("r") } }, END };
	static const struct rule goes[] = { { .command = 'M', .nth = 2, .then = THEN_CLOSE }, END };
	static const struct rule deaf[] = { { .command = 'C', .nth = 2, .then = THEN_REST }, END };
	static const struct rule answers[] = { { .command = 'R', .nth = 3, .then = THEN_CLOSE }, END };
	struct milter *m;
	struct mail mail;

	/* the same session: the next message */
	begin(NULL);
	rules = accept_first;
	m = milter_new(&loop, &milter_config);
	assert_non_null(m);
	mail_make(&mail, text_span(message));
	run(m, &mail);
	assert_int_equal(mail.r.action, FILTER_ACCEPT);
	settle();
	assert_true(has_heard("A"));
	buf_reset(&heard);
	run(m, &mail);
	assert_int_equal(mail.r.action, FILTER_REJECT);		/* what it said of the first does not count for this one */
	assert_heard(ENVELOPE CONTENT);
	assert_int_equal(connections, 1);
	/* another client, after something other than CONTINUE: another connection */
	mail.tx.session = 2;
	run(m, &mail);
	assert_int_equal(connections, 2);
	/* the session that says something else of itself */
	mail.tx.helo = "other.test";
	run(m, &mail);
	assert_int_equal(connections, 3);
	milter_free(m);
	settle();

	/* another client, after CONTINUE: the same connection, begun anew */
	begin(NULL);
	m = milter_new(&loop, &milter_config);
	run(m, &mail);
	buf_reset(&heard);
	mail.tx.session = 3;
	mail.tx.helo = "h.test";
	run(m, &mail);
	assert_heard("K\n" CONNECT_MACROS "C[192.0.2.1]|4||192.0.2.1|\nHh.test|\n" ENVELOPE CONTENT);
	run(m, &mail);
	assert_int_equal(connections, 1);
	/* of a version without it: another */
	milter_free(m);
	settle();
	begin(NULL);
	version = 5;
	m = milter_new(&loop, &milter_config);
	run(m, &mail);
	mail.tx.session = 4;
	run(m, &mail);
	assert_int_equal(connections, 2);
	milter_free(m);
	settle();

	/* one that goes when the second message begins: once more, on another */
	begin(goes);
	m = milter_new(&loop, &milter_config);
	run(m, &mail);
	run(m, &mail);
	assert_int_equal(mail.r.action, FILTER_ACCEPT);
	assert_int_equal(connections, 2);
	/* one that goes while nobody says anything */
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (peers[i].fd != -1)
			peer_end(&peers[i]);
	settle();
	run(m, &mail);
	assert_int_equal(connections, 3);
	assert_int_equal(mail.r.action, FILTER_ACCEPT);
	milter_free(m);
	settle();

	/* one that goes when it has already said something of the second message */
	begin(answers);
	m = milter_new(&loop, &milter_config);
	run(m, &mail);
	assert_int_equal(mail.r.action, FILTER_ACCEPT);
	run(m, &mail);
	assert_int_equal(mail.r.action, FILTER_TEMPFAIL);
	assert_string_equal(mail.r.detail, "the connection was lost at rcpt");
	assert_int_equal(connections, 1);
	milter_free(m);
	settle();

	/* one that does not know QUIT_NC, and waits: it is not asked to again */
	begin(deaf);
	milter_config.command_ms = 400;
	milter_config.content_ms = 400;
	m = milter_new(&loop, &milter_config);
	run(m, &mail);
	mail.tx.session = 5;
	run(m, &mail);
	assert_int_equal(mail.r.action, FILTER_TEMPFAIL);
	for (int i = 0; i < 3; i++) {
		mail.tx.session++;
		run(m, &mail);
		assert_int_equal(mail.r.action, FILTER_ACCEPT);
	}
	assert_int_equal(connections, 4);
	milter_free(m);
	settle();
	mail_end(&mail);
}

/* Something that nobody asked for, after the last reply. */
static void
test_words_behind_the_last(void **state)
{
	static const struct rule r[] = { { .command = 'E', .says = { S("c"), S("r") } }, END };
	struct milter *m;
	struct mail mail;

	begin(r);
	m = milter_new(&loop, &milter_config);
	mail_make(&mail, text_span(message));
	for (unsigned i = 1; i <= 2; i++) {
		run(m, &mail);
		assert_int_equal(mail.r.action, FILTER_ACCEPT);
		settle();
		assert_int_equal(connections, i);
	}
	milter_free(m);
	settle();
	mail_end(&mail);
}

/* How many of the milter's connections do nothing any more. */
static size_t
resting(void)
{
	size_t n = 0;

	for (size_t i = 0; i < PEERS_MAX; i++)
		n += peers[i].rests;
	return n;
}

static void
wait_for_resting(size_t n)
{
	while (resting() < n)
		assert_int_equal(loop_turn(&loop, 5000), 0);
}

/* More than max_checks: they wait, in their order. */
static void
test_many_at_once(void **state)
{
	static const struct rule r[] = { { .command = 'E', .then = THEN_REST }, END };
	static struct mail mails[24];
	struct milter_check *checks[24];
	struct milter *m;
	int fds;

	begin(r);
	fds = count_fds();
	m = milter_new(&loop, &milter_config);
	for (size_t i = 0; i < 24; i++) {
		mail_make(&mails[i], text_span(message));
		mails[i].calls = 0;
		mails[i].tx.session = i + 1;
		checks[i] = milter_start(m, &mails[i].tx, &mails[i].content, note_report, &mails[i]);
		assert_non_null(checks[i]);
	}
	wait_for_resting(20);
	settle();
	assert_int_equal(connections, 20);
	milter_cancel(checks[21]);	/* one that waits */
	mails[23].tx.abandoned = true;	/* another, whose client has gone */
	rules = NULL;
	milter_cancel(checks[0]);	/* one place: the others of those that wait take it, one after the other */
	wait_for(&mails[20]);
	assert_int_equal(mails[22].calls, 0);
	wait_for(&mails[22]);
	assert_int_equal(mails[20].r.action, FILTER_ACCEPT);
	assert_int_equal(mails[22].r.action, FILTER_ACCEPT);
	wait_for(&mails[23]);
	assert_int_equal(mails[23].r.action, FILTER_TEMPFAIL);
	for (size_t i = 1; i < 10; i++)
		milter_cancel(checks[i]);
	milter_free(m);		/* the other ten end without done */
	settle();
	for (size_t i = 0; i < 24; i++) {
		assert_int_equal(mails[i].calls, i == 20 || i >= 22);
		mail_end(&mails[i]);
	}
	assert_int_equal(count_fds(), fds);
	milter_free(NULL);
	milter_cancel(NULL);
}

/* It waits as long as command_timeout says; what waits when the milter ends, ends with it. */
static void
test_a_wait_that_is_too_long(void **state)
{
	static const struct rule r[] = { { .command = 'E', .then = THEN_REST }, END };
	static struct mail mails[3];
	struct milter *m;

	begin(r);
	milter_config.max_checks = 1;
	milter_config.command_ms = 60;
	m = milter_new(&loop, &milter_config);
	for (size_t i = 0; i < 3; i++) {
		mail_make(&mails[i], text_span(message));
		mails[i].calls = 0;
	}
	assert_non_null(milter_start(m, &mails[0].tx, &mails[0].content, note_report, &mails[0]));
	assert_non_null(milter_start(m, &mails[1].tx, &mails[1].content, note_report, &mails[1]));
	wait_for(&mails[1]);
	assert_int_equal(mails[1].r.action, FILTER_TEMPFAIL);
	assert_string_equal(mails[1].r.detail, "too many checks at once");
	assert_int_equal(mails[0].calls, 0);
	assert_non_null(milter_start(m, &mails[2].tx, &mails[2].content, note_report, &mails[2]));
	milter_free(m);
	settle();
	assert_int_equal(mails[2].calls, 0);
	for (size_t i = 0; i < 3; i++)
		mail_end(&mails[i]);
}

/* A recipient: what it hears of it, and then the message from its beginning on the same connection. */
/* As a session has it: one after the other, and who is accepted is then of the transaction. */
static void
ask_recipients(struct milter *m, struct mail *mail, size_t n)
{
	mail->tx.rcpts_n = 0;
	for (size_t i = 0; i < n; i++) {
		mail->calls = 0;
		assert_non_null(milter_start_recipient(m, &mail->tx, &mail->tx.rcpts[i], note_report, mail));
		assert_int_equal(mail->calls, 0);	/* never from inside */
		wait_for(mail);
		assert_int_equal(mail->r.action, FILTER_ACCEPT);
		mail->tx.rcpts_n++;
	}
}

static void
test_recipients(void **state)
{
	static const struct { struct rule rules[2]; enum filter_action want; const char *detail; } rows[] = {
		{ { { .command = 'R', .says = { S("r") } }, END }, FILTER_REJECT, "reject at rcpt" },
		{ { { .command = 'R', .says = { S("t") } }, END }, FILTER_TEMPFAIL, "tempfail at rcpt" },
		{ { { .command = 'R', .says = { S("a") } }, END }, FILTER_ACCEPT, "accept at rcpt" },
		{ { { .command = 'R', .says = { S("d") } }, END }, FILTER_DISCARD, "discard at rcpt" },
		{ { { .command = 'R', .says = { S("s") } }, END }, FILTER_ACCEPT, "continue at data" },
		{ { { .command = 'R', .says = { S("y550 5.1.1 gone\0") } }, END }, FILTER_REJECT, "reply at rcpt" },
		{ { { .command = 'M', .says = { S("r") } }, END }, FILTER_REJECT, "reject at mail" },
		{ { { .command = 'H', .says = { S("t") } }, END }, FILTER_TEMPFAIL, "tempfail at helo" },
		{ { { .command = 'C', .says = { S("r") } }, END }, FILTER_REJECT, "reject at connect" },
		{ { { .command = 'R', .then = THEN_CLOSE }, END }, FILTER_TEMPFAIL, "the connection was lost at rcpt" },
		{ { { .command = 'E', .says = { S("r") } }, END }, FILTER_ACCEPT, "continue at data" },
	};
	struct milter *m;
	struct mail mail;

	begin(NULL);
	mail_make(&mail, text_span(message));
	m = milter_new(&loop, &milter_config);
	assert_true(milter_wants_recipients(m));
	ask_recipients(m, &mail, 2);
	assert_true(milter_wants_recipients(m));
	run(m, &mail);
	assert_int_equal(mail.r.action, FILTER_ACCEPT);
	assert_heard(OFFER CONNECT_MACROS "C[192.0.2.1]|4||192.0.2.1|\nHh.test|\n" ENVELOPE CONTENT);
	assert_int_equal(connections, 1);
	milter_free(m);
	settle();

	for (size_t i = 0; i < COUNT(rows); i++) {
		print_message("  %s\n", rows[i].detail);
		begin(rows[i].rules);
		m = milter_new(&loop, &milter_config);
		mail.calls = 0;
		assert_non_null(milter_start_recipient(m, &mail.tx, &mail.tx.rcpts[0], note_report, &mail));
		wait_for(&mail);
		assert_int_equal(mail.r.action, rows[i].want);
		assert_string_equal(mail.r.detail, rows[i].detail);
		milter_free(m);
		settle();
	}

	/* the first recipient of a transaction, which has none yet; one that does not reply to it; one that does not want it */
	begin(NULL);
	steps = MILTER_NR_CONN | MILTER_NR_HELO | MILTER_NR_MAIL | MILTER_NR_RCPT;
	m = milter_new(&loop, &milter_config);
	mail.tx.rcpts_n = 0;
	mail.calls = 0;
	assert_non_null(milter_start_recipient(m, &mail.tx, &mail.tx.rcpts[0], note_report, &mail));
	wait_for(&mail);
	assert_int_equal(mail.r.action, FILTER_ACCEPT);
	mail.tx.rcpts_n = 2;
	assert_true(milter_wants_recipients(m));
	milter_free(m);
	settle();
	steps = MILTER_NORCPT;
	m = milter_new(&loop, &milter_config);
	run(m, &mail);
	assert_false(milter_wants_recipients(m));
	milter_free(m);
	settle();
	mail_end(&mail);
}

/* done may begin the next check. */
/* The transaction is not what the milter has heard of it: that ends, and it hears it from MAIL on. */
static void
test_recipients_that_change(void **state)
{
	static const struct rule refuses[] = { { .command = 'R', .nth = 2, .says = { S("r") } }, END };
	static const struct rule closes[] = { { .command = 'R', .nth = 2, .says = { S("c") }, .then = THEN_CLOSE }, END };
	static const char mail_again[] = "A\n" MAIL_MACROS "M<a@a.test>|\n", bob[] = RCPT_MACROS_1 "R<bob@local.test>|\n",
	    eve[] = RCPT_MACROS_2 "R<eve@far.test>|\n";
	char want[4096];
	struct milter *m;
	struct mail mail, other;

	mail_make(&mail, text_span(message));
	mail_make(&other, text_span(message));
	for (int row = 0; row < 6; row++) {
		print_message("  %d\n", row);
		begin(row == 1 ? refuses : row == 5 ? closes : NULL);
		m = milter_new(&loop, &milter_config);
		assert_non_null(m);
		ask_recipients(m, &mail, row == 1 ? 1 : 2);
		buf_reset(&heard);
		(void)snprintf(want, sizeof(want), "%s%s" CONTENT, mail_again, bob);
		switch (row) {
		case 0:		/* somebody else has refused the second one */
			mail.tx.rcpts_n = 1;
			break;
		case 1:		/* the milter has */
			mail.calls = 0;
			assert_non_null(milter_start_recipient(m, &mail.tx, &mail.tx.rcpts[1], note_report, &mail));
			wait_for(&mail);
			assert_int_equal(mail.r.action, FILTER_REJECT);
			settle();
			(void)snprintf(want, sizeof(want), "%s%s%s" CONTENT, eve, mail_again, bob);
			break;
		case 2:		/* another transaction of the session, such as after RSET */
			memcpy(mail.tx.id, "I2", 3);
			ask_recipients(m, &mail, 1);
			assert_true(text_starts_nocase(buf_span(&heard), "A\nDMi|I2|{mail_addr}|a@a.test|"));
			memcpy(mail.tx.id, "ID", 3);
			buf_reset(&heard);
			break;
		case 3:		/* a milter before this one has changed the sender */
			mail.tx.rcpts_n = 1;
			set_mailbox(&mail.tx.sender, "b@a.test");
			(void)snprintf(want, sizeof(want), "A\nDMi|ID|{mail_addr}|b@a.test|{mail_host}|a.test|{mail_mailer}|smtp|\nM<b@a.test>|\n%s" CONTENT, bob);
			break;
		case 4:		/* another session goes its own way */
			other.tx.session = 2;
			ask_recipients(m, &other, 2);
			run(m, &other);
			assert_int_equal(other.r.action, FILTER_ACCEPT);
			assert_int_equal(connections, 2);
			buf_reset(&heard);
			(void)snprintf(want, sizeof(want), "%s", CONTENT);
			break;
		default:	/* it has gone in the meantime */
			(void)snprintf(want, sizeof(want), OFFER CONNECT_MACROS "C[192.0.2.1]|4||192.0.2.1|\nHh.test|\n" MAIL_MACROS "M<a@a.test>|\n%s%s" CONTENT,
			    bob, eve);
			settle();
			rules = NULL;
			break;
		}
		run(m, &mail);
		assert_int_equal(mail.r.action, FILTER_ACCEPT);
		assert_heard(want);
		set_mailbox(&mail.tx.sender, "a@a.test");
		milter_free(m);
		settle();
	}
	mail_end(&mail);
	mail_end(&other);
}

static void
start_another(void *arg, const struct filter_report *r)
{
	struct mail **two = arg;

	note_report(two[0], r);
	rules = NULL;
	assert_non_null(milter_start((struct milter *)(void *)two[2], &two[1]->tx, &two[1]->content, note_report, two[1]));
}

static void
test_done_may_start(void **state)
{
	static const struct rule rows[][2] = { { { .command = 'L', .says = { S("a") } }, END }, { { .command = 'L', .says = { S("Z") } }, END },
	    { { .command = 'E', .says = { S("c") } }, END } };

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct milter *m;
		struct mail one, other;
		void *args[3];

		begin(rows[i]);
		m = milter_new(&loop, &milter_config);
		mail_make(&one, text_span(message));
		mail_make(&other, text_span(message));
		args[0] = &one;
		args[1] = &other;
		args[2] = m;
		assert_non_null(milter_start(m, &one.tx, &one.content, start_another, args));
		wait_for(&one);
		wait_for(&other);
		assert_int_equal(other.r.action, FILTER_ACCEPT);
		milter_free(m);
		settle();
		mail_end(&one);
		mail_end(&other);
	}
}

static void
nothing(void *arg, short revents)
{
}

/* A reply for which the oldest kept connection makes room, which the milter closes at that moment: both were parked. */
static void
test_a_reply_and_an_end_at_once(void **state)
{
	static const struct rule r[] = { { .command = 'E', .then = THEN_REST }, END };
	static struct mail mails[17];
	static struct loop_slot fill[64];
	struct milter *m;

	begin(r);
	m = milter_new(&loop, &milter_config);
	for (size_t i = 0; i < COUNT(fill); i++)	/* so many that idle ones are parked */
		assert_int_equal(loop_add(&loop, &fill[i], -1, 0, nothing, NULL), 0);
	for (size_t i = 0; i < 17; i++) {
		mail_make(&mails[i], text_span(message));
		mails[i].calls = 0;
		mails[i].tx.session = i + 1;
		assert_non_null(milter_start(m, &mails[i].tx, &mails[i].content, note_report, &mails[i]));
		wait_for_resting(i + 1);
	}
	rules = NULL;
	for (size_t i = 0; i < 16; i++) {	/* peers are in the order of their checks */
		peers[i].rests = false;
		peer_say(&peers[i], SPAN("c"));
		wait_for(&mails[i]);
	}
	for (int64_t end = loop_clock_ms() + 100; loop_clock_ms() < end;)
		assert_int_equal(loop_turn(&loop, 20), 0);
	peer_say(&peers[16], SPAN("c"));
	peer_end(&peers[0]);
	wait_for(&mails[16]);
	assert_int_equal(mails[16].r.action, FILTER_ACCEPT);
	milter_free(m);
	peers[16].rests = false;
	settle();
	for (size_t i = 0; i < COUNT(fill); i++)
		loop_remove(&fill[i]);
	for (size_t i = 0; i < 17; i++)
		mail_end(&mails[i]);
}

/* Slow with the next message of the same session: that says nothing about QUIT_NC, which it was not told. */
static void
test_slow_is_not_without_quit_nc(void **state)
{
	static const struct rule r[] = { { .command = 'M', .nth = 2, .then = THEN_REST }, END };
	struct milter *m;
	struct mail mail;

	begin(r);
	milter_config.command_ms = 100;
	mail_make(&mail, text_span(message));
	m = milter_new(&loop, &milter_config);
	run(m, &mail);
	run(m, &mail);		/* the same session: MAIL, and no answer in time */
	assert_int_equal(mail.r.action, FILTER_TEMPFAIL);
	rules = NULL;
	connections = 0;
	for (int i = 0; i < 4; i++) {
		mail.tx.session++;
		run(m, &mail);
		assert_int_equal(mail.r.action, FILTER_ACCEPT);
	}
	assert_int_equal(connections, 1);
	milter_free(m);
	settle();
	mail_end(&mail);
}

/* A unix socket's queue that is full is not the end of a milter: a place in it is waited for. */
static void
test_a_full_queue(void **state)
{
	static struct mail mails[6];
	struct milter *m;

	begin(NULL);
	assert_int_equal(listen(listener, 1), 0);
	m = milter_new(&loop, &milter_config);
	for (size_t i = 0; i < COUNT(mails); i++) {
		mail_make(&mails[i], text_span(message));
		mails[i].calls = 0;
		mails[i].tx.session = i + 1;
		assert_non_null(milter_start(m, &mails[i].tx, &mails[i].content, note_report, &mails[i]));
	}
	for (size_t i = 0; i < COUNT(mails); i++) {
		wait_for(&mails[i]);
		assert_int_equal(mails[i].r.action, FILTER_ACCEPT);
	}
	milter_free(m);
	settle();

	/* nobody comes */
	loop_remove(&listener_slot);
	milter_config.connect_ms = 100;
	m = milter_new(&loop, &milter_config);
	for (size_t i = 0; i < COUNT(mails); i++) {
		mails[i].calls = 0;
		assert_non_null(milter_start(m, &mails[i].tx, &mails[i].content, note_report, &mails[i]));
	}
	for (size_t i = 0; i < COUNT(mails); i++)
		wait_for(&mails[i]);
	assert_true(mails[5].r.failed && mails[5].r.action == FILTER_TEMPFAIL);
	assert_string_equal(mails[5].r.detail, "timeout of the connection at options");
	milter_free(m);
	for (size_t i = 0; i < COUNT(mails); i++)
		mail_end(&mails[i]);
	assert_int_equal(loop_add(&loop, &listener_slot, listener, POLLIN, peer_connects, NULL), 0);
	settle();
	assert_int_equal(listen(listener, 64), 0);
}

static void
test_addresses(void **state)
{
	static char rows[][64] = { "inet:127.0.0.1:8891", "inet:localhost:8891", "inet6:[::1]:8891", "inet6:localhost:8891", "unix:/run/x",
	    "INET:127.0.0.1:1", "inet:127.0.0.1:65535", "",
	    "", "inet:127.0.0.1", "inet:127.0.0.1:", "inet:127.0.0.1:0", "inet:127.0.0.1:65536", "inet:127.0.0.1:25x", "inet:milter.test:1",
	    "inet::1", "inet:[::1]:1", "inet6:127.0.0.1:1", "inet6:[::1]", "unix:x", "unix:", "tcp:127.0.0.1:1", "127.0.0.1:1", "inet:8891" };
	bool good = true;

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct milter *m;

		if (rows[i][0] == '\0' && good) {
			good = false;
			continue;
		}
		print_message("  %s\n", rows[i]);
		begin(NULL);
		milter_config.address = rows[i];
		m = milter_new(&loop, &milter_config);
		assert_int_equal(m != NULL, good);
		if (!good)
			assert_int_equal(errno, EINVAL);
		milter_free(m);
	}
}

static int
setup(void **state)
{
	for (size_t i = 0; i < PEERS_MAX; i++)
		peers[i].fd = -1;
	if (mkdtemp(folder) == NULL || loop_init(&loop, 200) == -1)
		return -1;
	(void)snprintf(address, sizeof(address), "unix:%s/s", folder);
	buf_init(&heard, 1024 * 1024);
	buf_init(&body, 1024 * 1024);
	listen_again();
	return 0;
}

static int
teardown(void **state)
{
	listen_no_more();
	loop_clear(&loop);
	buf_clear(&heard);
	buf_clear(&body);
	return rmdir(folder);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames), cmocka_unit_test(test_codes), cmocka_unit_test(test_replies), cmocka_unit_test(test_dialogue),
		cmocka_unit_test(test_steps), cmocka_unit_test(test_body), cmocka_unit_test(test_skip), cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_slow_replies), cmocka_unit_test(test_progress_and_quarantine), cmocka_unit_test(test_trouble),
		cmocka_unit_test(test_deaf), cmocka_unit_test(test_connection_that_hangs), cmocka_unit_test(test_reply_when_none_is_due),
		cmocka_unit_test(test_nobody_there), cmocka_unit_test(test_long_field), cmocka_unit_test(test_changes),
		cmocka_unit_test(test_envelope), cmocka_unit_test(test_changed_in_part), cmocka_unit_test(test_bounds_of_changes),
		cmocka_unit_test(test_connection_is_kept), cmocka_unit_test(test_words_behind_the_last), cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_a_wait_that_is_too_long), cmocka_unit_test(test_recipients),
		cmocka_unit_test(test_recipients_that_change), cmocka_unit_test(test_done_may_start),
		cmocka_unit_test(test_a_reply_and_an_end_at_once), cmocka_unit_test(test_slow_is_not_without_quit_nc),
		cmocka_unit_test(test_a_full_queue), cmocka_unit_test(test_addresses),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
