/*
 * fuzz_milter.c - packets of a milter, and whole conversations with one that says whatever it likes.
 *
 * The first octet chooses the default action, the key of the envelope, and whether packets are only decoded. Else the rest is what the
 * milter says: its reply to the offer, then one packet whenever it is waited for. Action and code agree, what is said is printable, no
 * message is accepted with a change that was begun and not ended, and none is changed by one whose end was trouble.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "milter.h"
#include "milter_packet.h"
#include "must.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop loop;
static struct milter_config milter_config = { .name = "m", .max_checks = 1, .connect_ms = 60000, .command_ms = 60000, .content_ms = 60000 };
static struct config config;
static struct listener listener = { .name = "mx" };
static char nowhere[] = "", hostname[] = "mx.test", address[64];
static int listen_fd = -1;

static void
begin(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	config = (struct config){ .spool_dir = nowhere, .hostname = hostname, .max_header_size = 4096, .max_message_size = 65536,
	    .max_recipients = 4 };
	log_init(LOG_ERROR, LOG_LOGFMT, "fuzz");
	(void)snprintf(address, sizeof(address), "unix:/tmp/fuzz_milter.%ld", (long)getpid());
	milter_config.address = address;
	must(text_copy(un.sun_path, sizeof(un.sun_path), text_span(address + 5)) == 0);
	(void)unlink(un.sun_path);
	listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(listen_fd != -1 && bind(listen_fd, (struct sockaddr *)&un, sizeof(un)) == 0 && listen(listen_fd, 8) == 0);
	must(loop_init(&loop, 16) == 0);
}

static void
must_be_printable(const char *s)
{
	for (; *s != '\0'; s++)
		must(is_vchar(*s) || *s == ' ');
}

static void
check_reply(const struct milter_reply *r)
{
	must(r->answer < ANSWER__MAX);
	must((r->esc[0] != '\0') == (r->answer == ANSWER_CODE));
	must(r->esc[0] == '\0' || r->esc[0] == '4' || r->esc[0] == '5');
	must_be_printable(r->text);
	must((r->action != 0) == (r->answer >= ANSWER_ADDHEADER));
	must(text_find(r->name, '\0') == SIZE_MAX);
}

static void
decode(struct span in)
{
	struct milter_options o;
	struct milter_reply r;
	struct span data;
	char command;
	size_t len;

	while (milter_frame(in, &command, &data, &len) == FRAME_WHOLE) {
		must(len == data.len + 5 && len <= in.len);
		milter_read_reply(command, data, &r);
		check_reply(&r);
		if (milter_read_options(command, data, &o) == NULL)
			must(o.version >= MILTER_VERSION_MIN && o.version <= MILTER_VERSION && (o.actions & ~(uint32_t)MILTER_ACTIONS) == 0 &&
			    (o.steps & ~(uint32_t)MILTER_STEPS) == 0);
		in = text_sub(in, len, in.len);
	}
}

static void
note(void *arg, const struct filter_report *r)
{
	*(struct filter_report *)arg = *r;
	must(r->esc[0] == '\0' || r->esc[0] == (r->action == FILTER_TEMPFAIL ? '4' : '5'));
	must(r->esc[0] == '\0' || r->action == FILTER_TEMPFAIL || r->action == FILTER_REJECT);
	must(r->action != FILTER_TROUBLE && r->action != FILTER_SKIPPED && r->edits.n == 0);
	must_be_printable(r->text);
	must_be_printable(r->detail);
}

/* The next packet that it says, or what there is if it is none. */
static void
say(int fd, struct span *rest)
{
	struct span data;
	size_t len = rest->len;
	char command;

	if (milter_frame(*rest, &command, &data, &len) != FRAME_WHOLE)
		len = rest->len;
	if (len > 0)
		(void)send(fd, rest->p, len, MSG_NOSIGNAL | MSG_DONTWAIT);	/* what is lost makes it shorter */
	*rest = text_sub(*rest, len, rest->len);
	if (rest->len == 0)
		(void)shutdown(fd, SHUT_WR);
}

static void
talk(struct span in)
{
	static const char text[] = "From: a@a.test\nSubject: s\n f\n\nbody\n";
	struct tx tx = { .id = "ID", .session = 1, .config = &config, .listener = &listener, .client_address = "192.0.2.1", .own_address = "192.0.2.25", .helo = "h",
	    .auth_user = "", .auth_type = "", .tls_version = "", .tls_cipher = "", .rcpts_n = 1, .rcpts_max = 1, .fd = message_open(""),
	    .size = MESSAGE_ROOM + sizeof(text) - 1 };
	struct filter_report r = { .action = FILTER__MAX };
	struct content c;
	struct milter *m;
	char octets[4096];
	int fd;

	tx.rcpts = calloc(1, sizeof(*tx.rcpts));
	must(tx.rcpts != NULL && smtp_mailbox(SPAN("b@b.test"), false, tx.rcpts) == SMTP_PATH_OK);
	must(tx.fd != -1 && pwrite(tx.fd, text, sizeof(text) - 1, MESSAGE_ROOM) == (ssize_t)sizeof(text) - 1);
	must(content_load(&c, &tx) == 0);
	m = milter_new(&loop, &milter_config);
	must(m != NULL && milter_start(m, &tx, &c, note, &r) != NULL);
	fd = accept(listen_fd, NULL, NULL);
	must(fd != -1);
	for (int i = 0; r.action == FILTER__MAX; i++) {
		must(i < 200000);
		must(loop_turn(&loop, 0) == 0);
		while (recv(fd, octets, sizeof(octets), MSG_DONTWAIT) > 0)
			continue;
		say(fd, &in);
	}
	/* a message that goes on is whole */
	if (r.action == FILTER_ACCEPT || r.action == FILTER_QUARANTINE)
		must(tx.rcpts_n > 0);
	if (strstr(r.detail, " at eom") == NULL)
		must(!c.changed && tx.rcpts_n == 1 && tx.sender.local[0] == '\0');
	if (r.action == FILTER_ACCEPT && c.changed)
		must(strncmp(r.detail, "accept at", 9) == 0 || strncmp(r.detail, "continue at", 11) == 0);
	if (!milter_config.envelope)
		must(tx.rcpts_n == 1 && tx.sender.local[0] == '\0');
	milter_free(m);
	must(loop.n == 1);	/* its own */
	must(content_write(&c, &tx) == 0);
	content_clear(&c);
	(void)close(fd);
	(void)close(tx.fd);
	free(tx.rcpts);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in;

	if (size == 0)
		return 0;
	in = (struct span){ (const char *)data + 1, size - 1 };
	if (listen_fd == -1)
		begin();
	milter_config.default_action = (enum milter_default)((data[0] & 3) % MILTER_DEFAULT__MAX);
	milter_config.envelope = (data[0] & 4) != 0;
	decode(in);
	if ((data[0] & 8) == 0)
		talk(in);
	return 0;
}
