/*
 * sender.c - may an authenticated user send as this address.
 */
#include "sender.h"

#include <errno.h>
#include <stdlib.h>

#include "auth.h"
#include "file.h"
#include "log.h"

#define FILE_MAX (16 * 1024 * 1024)	/* octets of the file */
#define ENTRIES_MAX 100000		/* addresses in it */
#define KEY_MAX (2 * SMTP_PATH_MAX + 1)	/* user, LF (which no address has), address */

struct senders {
	const struct config	*config;	/* borrowed until senders_free() */
	struct file		 file;
	struct keys		 keys;
};

/* user and address as keys; key has KEY_MAX + 1 octets. */
static void
pair_key(const char *user, const char *address, char *key)
{
	struct buf b;

	buf_fixed(&b, key, KEY_MAX + 1);
	buf_add_str(&b, user);
	buf_add_char(&b, '\n');
	buf_add(&b, address, strlen(address) + 1);
}

/* "user address address ..."; what is none of these is named in the log and skipped. */
static void
parse_line(struct senders *s, size_t number, struct span line)
{
	struct span word;
	struct mailbox m;
	char user[SMTP_PATH_MAX + 1] = "", address[SMTP_PATH_MAX + 1], key[KEY_MAX + 1];

	while (text_token(&line, " \t", &word)) {
		if (word.len == 0)
			continue;
		if (user[0] == '\0') {
			if (!auth_user(s->config, word, &m)) {
				file_warn(&s->file, number, word, "no user's name; the line is skipped");
				return;
			}
			smtp_mailbox_key(&m, user);
		} else if (smtp_pattern_key(word, address)) {
			pair_key(user, address, key);
			keys_add(&s->keys, key);
		} else {
			file_warn(&s->file, number, word, "neither user@domain nor @domain; it is skipped");
		}
	}
}

static int
parse(struct senders *s, struct span rest)
{
	struct span line;
	size_t number = 0;

	keys_init(&s->keys, ENTRIES_MAX * (KEY_MAX + 1));
	while (file_line(&rest, &number, &line)) {
		parse_line(s, number, line);
		if (s->keys.n > ENTRIES_MAX) {
			errno = EFBIG;
			return -1;
		}
	}
	return keys_sort(&s->keys);
}

static void
refresh(struct senders *s, int64_t now_ms)
{
	struct buf text;
	enum file_news news;

	if (s->file.path[0] == '\0')
		return;
	news = file_look(&s->file, now_ms, &text);
	if (news != FILE_SAME)
		keys_clear(&s->keys);
	if (news == FILE_READ && parse(s, buf_span(&text)) == -1) {
		file_fail(&s->file, errno);
		keys_clear(&s->keys);
	} else if (news == FILE_READ) {
		log_info(0, s->file.key, LF_STR("path", s->file.path), LF_INT("addresses", s->keys.n));
	}
	buf_clear(&text);
}

struct senders *
senders_new(const struct config *c)
{
	struct senders *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->config = c;
	s->file = (struct file){ .key = "senders_file", .path = c->senders_file, .max = FILE_MAX };
	refresh(s, 0);	/* what is wrong with it is logged at the start */
	return s;
}

void
senders_free(struct senders *s)
{
	if (s != NULL)
		keys_clear(&s->keys);
	free(s);
}

static bool
is_listed(const struct senders *s, const char *user, const char *address)
{
	char key[KEY_MAX + 1];

	pair_key(user, address, key);
	return keys_has(&s->keys, key);
}

bool
senders_allow(struct senders *s, const char *user, const struct mailbox *m, int64_t now_ms)
{
	char own[SMTP_PATH_MAX + 1], address[SMTP_PATH_MAX + 1];
	struct mailbox u;

	if (s->config->sender_check == SENDER_OFF)
		return true;
	if (smtp_mailbox(text_span(user), true, &u) != SMTP_PATH_OK)
		return false;
	refresh(s, now_ms);
	smtp_mailbox_key(&u, own);
	smtp_mailbox_key(m, address);
	if (strcmp(address, own) == 0 || (s->config->sender_check == SENDER_DOMAIN && strcmp(m->domain, u.domain) == 0))
		return true;
	return is_listed(s, own, address) || is_listed(s, own, strrchr(address, '@'));	/* a domain has no @ */
}
