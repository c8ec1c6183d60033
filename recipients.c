/*
 * recipients.c - recipients_file: the addresses that get mail.
 */
#include "recipients.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "log.h"

#define FILE_MAX (64 * 1024 * 1024)	/* octets of the file */
#define CHECK_MS 1000

struct recipients {
	const char	*path;		/* borrowed until recipients_free() */
	char		*text;		/* owned: the lines as keys, NUL-terminated */
	const char	**lines;	/* owned; sorted */
	size_t		 n;
	struct stat	 seen;		/* which version it is */
	int64_t		 checked_at;
	bool		 loaded, failed;
};

static int
compare_lines(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* local-part in lower case, @, domain: what lines are compared as. dst has SMTP_PATH_MAX + 2 octets. */
static void
recipient_key(const struct mailbox *m, char *dst)
{
	struct buf b;

	buf_fixed(&b, dst, SMTP_PATH_MAX + 2);
	for (const char *p = m->local; *p != '\0'; p++)
		buf_add_char(&b, text_lower(*p));
	buf_add_char(&b, '@');
	buf_add_str(&b, m->domain);
	buf_add_char(&b, '\0');
}

static int
line_key(struct span line, char *dst)
{
	struct mailbox m = { 0 };

	if (line.p[0] == '@') {
		if (!smtp_domain(text_sub(line, 1, line.len), true, m.domain))
			return -1;
	} else if (smtp_mailbox(line, true, &m) != SMTP_PATH_OK) {
		return -1;
	}
	recipient_key(&m, dst);
	return 0;
}

static void
clear(struct recipients *r)
{
	free(r->text);
	free(r->lines);
	r->text = NULL;
	r->lines = NULL;
	r->n = 0;
	r->loaded = false;
}

/* The keys of all lines, into r->text; those that are no address are named in the log and skipped. */
static int
parse(struct recipients *r, struct span rest)
{
	struct buf keys;
	struct span line;
	char *p;

	buf_init(&keys, 2 * FILE_MAX);
	for (size_t number = 1; text_token(&rest, "\n", &line); number++) {
		char key[SMTP_PATH_MAX + 2];

		if (line.len > 0 && line.p[line.len - 1] == '\r')
			line.len--;
		line = text_trim(text_sub(line, 0, text_find(line, '#')));
		if (line.len == 0)
			continue;
		if (line_key(line, key) == -1) {
			char where[512];

			(void)snprintf(where, sizeof(where), "%s:%zu", r->path, number);
			log_warn(0, "recipients_file", LF_STR("at", where), LF_SPAN("line", line),
			    LF_STR("help", "neither user@domain nor @domain; the line is skipped"));
			continue;
		}
		buf_add(&keys, key, strlen(key) + 1);
		r->n++;
	}
	r->lines = calloc(r->n + 1, sizeof(*r->lines));
	if (keys.failed || r->lines == NULL) {
		buf_clear(&keys);
		errno = ENOMEM;
		return -1;
	}
	r->text = p = keys.data;
	for (size_t i = 0; i < r->n; i++) {
		r->lines[i] = p;
		p += strlen(p) + 1;
	}
	qsort(r->lines, r->n, sizeof(*r->lines), compare_lines);
	return 0;
}

static int
load(struct recipients *r)
{
	int fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), error;
	char *data = NULL;
	size_t size = 0, have = 0;
	struct stat st;

	if (fd == -1)
		return -1;
	if (fstat(fd, &st) == -1)
		goto fail;
	errno = EFBIG;
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		goto fail;
	size = (size_t)st.st_size;
	data = malloc(size + 1);
	if (data == NULL)
		goto fail;
	while (have < size) {
		ssize_t n = read(fd, data + have, size - have);

		if (n == -1)
			goto fail;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	clear(r);
	if (parse(r, (struct span){ data, have }) == -1)
		goto fail;
	r->seen = st;
	r->loaded = true;
	free(data);
	close(fd);
	log_info(0, "recipients_file", LF_STR("path", r->path), LF_INT("recipients", r->n));
	return 0;
fail:
	error = errno;
	free(data);
	close(fd);
	errno = error;
	return -1;
}

/* Read it when it is another one than before; what cannot be read leaves nothing behind, and is logged once. */
static void
refresh(struct recipients *r)
{
	struct stat st;

	if (r->loaded && stat(r->path, &st) == 0 && st.st_ino == r->seen.st_ino && st.st_dev == r->seen.st_dev &&
	    st.st_size == r->seen.st_size && st.st_mtim.tv_sec == r->seen.st_mtim.tv_sec &&
	    st.st_mtim.tv_nsec == r->seen.st_mtim.tv_nsec)
		return;
	if (load(r) == 0) {
		r->failed = false;
		return;
	}
	if (!r->failed)
		log_error(0, "recipients_file", LF_STR("path", r->path), LF_ERRNO(errno));
	clear(r);
	r->failed = true;
}

static bool
has(const struct recipients *r, const struct mailbox *m)
{
	char key[SMTP_PATH_MAX + 2];
	const char *whole = key, *domain;

	recipient_key(m, key);
	domain = strrchr(key, '@');	/* a domain has none: this is ours */
	return r->n > 0 && (bsearch(&whole, r->lines, r->n, sizeof(*r->lines), compare_lines) != NULL ||
	    bsearch(&domain, r->lines, r->n, sizeof(*r->lines), compare_lines) != NULL);
}

struct recipients *
recipients_new(const char *path, int64_t now_ms)
{
	struct recipients *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->path = path;
	r->checked_at = now_ms;
	refresh(r);
	return r;
}

void
recipients_free(struct recipients *r)
{
	if (r != NULL)
		clear(r);
	free(r);
}

enum recipients_answer
recipients_find(struct recipients *r, const struct mailbox *m, int64_t now_ms)
{
	if (now_ms - r->checked_at >= CHECK_MS) {
		r->checked_at = now_ms;
		refresh(r);
	}
	if (!r->loaded)
		return RECIPIENTS_UNREADABLE;
	return has(r, m) ? RECIPIENTS_KNOWN : RECIPIENTS_UNKNOWN;
}
