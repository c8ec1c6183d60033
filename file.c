/*
 * file.c - a small file of lines that is read again when it has changed.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "log.h"

#define LOOK_MS 1000

static bool
is_the_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
	    a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* What grows while it is read is read again a second later. */
static int
read_all(int fd, size_t size, struct buf *text)
{
	char *data = malloc(size + 1);	/* not grown: no copy of a password stays behind */
	size_t have = 0;

	if (data == NULL)
		return -1;
	*text = (struct buf){ .data = data, .size = size + 1, .max = size + 1 };
	while (have < size) {
		ssize_t n = read(fd, data + have, size - have);

		if (n == -1) {
			explicit_bzero(data, have);
			return -1;
		}
		if (n == 0)
			break;
		have += (size_t)n;
	}
	text->wpos = have;
	return 0;
}

static int
load(struct file *f, struct buf *text)
{
	int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), error, r = -1;	/* a FIFO without a writer does not block */
	struct stat st;

	if (fd == -1)
		return -1;
	if (fstat(fd, &st) == 0) {
		errno = S_ISREG(st.st_mode) ? EFBIG : EINVAL;
		if (S_ISREG(st.st_mode) && (uintmax_t)st.st_size <= f->max)
			r = read_all(fd, (size_t)st.st_size, text);
	}
	error = errno;
	close(fd);
	errno = error;
	if (r == 0)
		f->seen = st;
	return r;
}

void
file_fail(struct file *f, int error)
{
	if (!f->failed)
		log_error(0, f->key, LF_STR("path", f->path), LF_ERRNO(error));
	f->failed = true;
	f->loaded = false;
}

enum file_news
file_look(struct file *f, int64_t now_ms, struct buf *text)
{
	struct stat st;

	*text = (struct buf){ 0 };
	if (f->looked && now_ms - f->looked_at < LOOK_MS)
		return FILE_SAME;
	f->looked = true;
	f->looked_at = now_ms;
	if (f->loaded && stat(f->path, &st) == 0 && is_the_same(&st, &f->seen))
		return FILE_SAME;
	if (load(f, text) == -1) {
		file_fail(f, errno);
		return FILE_GONE;
	}
	f->loaded = true;
	f->failed = false;
	return FILE_READ;
}

bool
file_line(struct span *rest, size_t *number, struct span *line)
{
	while (text_token(rest, "\n", line)) {
		++*number;
		if (line->len > 0 && line->p[line->len - 1] == '\r')
			line->len--;
		*line = text_trim(text_sub(*line, 0, text_find(*line, '#')));
		if (line->len > 0)
			return true;
	}
	return false;
}

void
file_warn(const struct file *f, size_t number, struct span line, const char *help)
{
	char where[512];

	(void)snprintf(where, sizeof(where), "%s:%zu", f->path, number);	/* a long path is cut */
	log_warn(0, f->key, LF_STR("at", where), LF_SPAN("line", line), LF_STR("help", help));
}

void
keys_init(struct keys *k, size_t octets_max)
{
	*k = (struct keys){ 0 };
	buf_init(&k->text, octets_max);
}

void
keys_add(struct keys *k, const char *key)
{
	buf_add(&k->text, key, strlen(key) + 1);
	k->n++;
}

static int
compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int
keys_sort(struct keys *k)
{
	const char *p = k->text.data;

	k->v = k->text.failed ? NULL : calloc(k->n + 1, sizeof(*k->v));
	if (k->v == NULL) {
		errno = ENOMEM;
		return -1;
	}
	for (size_t i = 0; i < k->n; i++) {
		k->v[i] = p;
		p += strlen(p) + 1;
	}
	qsort(k->v, k->n, sizeof(*k->v), compare_keys);
	return 0;
}

bool
keys_has(const struct keys *k, const char *key)
{
	return k->v != NULL && bsearch(&key, k->v, k->n, sizeof(*k->v), compare_keys) != NULL;
}

void
keys_clear(struct keys *k)
{
	buf_clear(&k->text);
	free(k->v);
	*k = (struct keys){ 0 };
}
