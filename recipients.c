/*
 * recipients.c - recipients_file: the addresses that get mail.
 */
#include "recipients.h"

#include <errno.h>
#include <stdlib.h>

#include "file.h"
#include "log.h"

#define FILE_MAX (64 * 1024 * 1024)	/* octets of the file */

struct recipients {
	struct file	file;
	struct keys	keys;
};

static int
parse(struct recipients *r, struct span rest)
{
	struct span line;
	size_t number = 0;

	keys_init(&r->keys, 2 * FILE_MAX);
	while (file_line(&rest, &number, &line)) {
		char key[SMTP_PATH_MAX + 1];

		if (smtp_pattern_key(line, key))
			keys_add(&r->keys, key);
		else
			file_warn(&r->file, number, line, "neither user@domain nor @domain; the line is skipped");
	}
	return keys_sort(&r->keys);
}

static void
refresh(struct recipients *r, int64_t now_ms)
{
	struct buf text;
	enum file_news news = file_look(&r->file, now_ms, &text);

	if (news != FILE_SAME)
		keys_clear(&r->keys);
	if (news == FILE_READ && parse(r, buf_span(&text)) == -1) {
		file_fail(&r->file, errno);
		keys_clear(&r->keys);
	} else if (news == FILE_READ) {
		log_info(0, "recipients_file", LF_STR("path", r->file.path), LF_INT("recipients", r->keys.n));
	}
	buf_clear(&text);
}

struct recipients *
recipients_new(const char *path, int64_t now_ms)
{
	struct recipients *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->file = (struct file){ .key = "recipients_file", .path = path, .max = FILE_MAX };
	refresh(r, now_ms);
	return r;
}

void
recipients_free(struct recipients *r)
{
	if (r != NULL)
		keys_clear(&r->keys);
	free(r);
}

enum recipients_answer
recipients_find(struct recipients *r, const struct mailbox *m, int64_t now_ms)
{
	char key[SMTP_PATH_MAX + 1];

	refresh(r, now_ms);
	if (!r->file.loaded)
		return RECIPIENTS_UNREADABLE;
	smtp_mailbox_key(m, key);
	return keys_has(&r->keys, key) || keys_has(&r->keys, strrchr(key, '@')) ? RECIPIENTS_KNOWN : RECIPIENTS_UNKNOWN;
}
