/*
 * content.c - a message as filters see and change it: its header fields in memory, its body in a file.
 *
 * RFC 5322 2.1.1, 2.2. The header is read into one block that the fields point into; a field that a filter adds or changes has memory of
 * its own, so that fields can be moved about without being copied.
 */
#include "content.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "header.h"

#define READ_FIRST 16384	/* octets of a header that are read at once; then twice as many, until its end is seen */
#define COPY_SIZE 65536
#define LINE_MAX_OCTETS 998	/* RFC 5322 2.1.1 */
#define FIELDS_MAX (2 * HEADER_FIELDS_MAX)
#define OWN_OCTETS 1024		/* of the room, kept for fields of our own */
#define OWN_FIELDS 8
#define EDITS_TEXT_MAX (512 * 1024)

/* ---- files ---- */

static int
read_all(int fd, char *p, size_t n, uint64_t at)
{
	while (n > 0) {
		ssize_t got = pread(fd, p, n, (off_t)at);

		if (got == -1 && errno == EINTR)
			continue;
		if (got <= 0) {		/* 0: the file is shorter than it was */
			errno = got == 0 ? EIO : errno;
			return -1;
		}
		p += got;
		n -= (size_t)got;
		at += (uint64_t)got;
	}
	return 0;
}

static int
write_all(int fd, const char *p, size_t n, uint64_t at)
{
	while (n > 0) {
		ssize_t put = pwrite(fd, p, n, (off_t)at);

		if (put == -1 && errno == EINTR)
			continue;
		if (put <= 0) {
			errno = put == 0 ? ENOSPC : errno;
			return -1;
		}
		p += put;
		n -= (size_t)put;
		at += (uint64_t)put;
	}
	return 0;
}

static int
copy_all(int from, uint64_t from_at, int to, uint64_t to_at, uint64_t len)
{
	char data[COPY_SIZE];

	while (len > 0) {
		size_t n = len < sizeof(data) ? (size_t)len : sizeof(data);

		if (read_all(from, data, n, from_at) == -1 || write_all(to, data, n, to_at) == -1)
			return -1;
		from_at += n;
		to_at += n;
		len -= n;
	}
	return 0;
}

/* ---- the fields of the message ---- */

/* What a field takes in the message file, its LF included. */
static struct span
field_octets(const struct content_field *f)
{
	return (struct span){ f->name.p, (size_t)(f->value.p + f->value.len - f->name.p) };
}

static int
put_field(struct content *c, size_t index, struct content_field f)
{
	if (c->fields_n == c->fields_max) {
		size_t max = c->fields_max == 0 ? 32 : 2 * c->fields_max;
		struct content_field *v = reallocarray(c->fields, max, sizeof(*v));

		if (v == NULL)
			return -1;
		c->fields = v;
		c->fields_max = max;
	}
	memmove(&c->fields[index + 1], &c->fields[index], (c->fields_n - index) * sizeof(*c->fields));
	c->fields[index] = f;
	c->fields_n++;
	c->octets += field_octets(&f).len + 1;
	return 0;
}

/* As much of the message as its header and the empty line may have, or less with an empty line in it. */
static int
read_text(struct content *c, uint64_t size, size_t *len)
{
	uint64_t max = c->config->max_header_size + 1;
	size_t have = 0, want = READ_FIRST;
	bool ends = false;

	if (max > size)
		max = size;
	do {
		size_t from = have == 0 ? 0 : have - 1;
		char *p;

		if (want > max)
			want = (size_t)max;
		p = realloc(c->text, want + 1);	/* never of nothing */
		if (p == NULL)
			return -1;
		c->text = p;
		if (read_all(c->body_fd, p + have, want - have, c->front_at + have) == -1)
			return -1;
		ends = (want > 0 && p[0] == '\n') || memmem(p + from, want - from, "\n\n", 2) != NULL;
		have = want;
		want = 2 * have;
	} while (!ends && have < max);
	*len = have;
	return 0;
}

static int
read_fields(struct content *c, size_t len, uint64_t size)
{
	struct span rest = { c->text, len };
	struct header_field f;
	size_t header;

	while (header_next(&rest, &f)) {
		if (c->fields_n == HEADER_FIELDS_MAX) {
			errno = EFBIG;
			return -1;
		}
		if (put_field(c, c->fields_n, (struct content_field){ .name = f.name, .value = f.value }) == -1)
			return -1;
	}
	header = len - rest.len;
	/* The line that ends it must have been seen, or as much of it as tells that it is no field. */
	if (header > c->config->max_header_size || (len < size && header_is_cut((struct span){ c->text, len }))) {
		errno = EFBIG;
		return -1;
	}
	c->has_body = rest.len > 0 && rest.p[0] == '\n';
	c->body_at = c->front_at + header + c->has_body;
	c->body_len = size - header - c->has_body;
	return 0;
}

int
content_load(struct content *c, const struct tx *tx)
{
	uint64_t at = message_at(tx);
	size_t len;
	int error;

	*c = (struct content){ .config = tx->config, .body_fd = tx->fd, .front_at = at, .only_added = true };
	if (tx->size < at) {
		errno = EINVAL;
		return -1;
	}
	if (read_text(c, tx->size - at, &len) == 0 && read_fields(c, len, tx->size - at) == 0)
		return 0;
	error = errno;
	content_clear(c);
	errno = error;
	return -1;
}

void
content_clear(struct content *c)
{
	for (size_t i = 0; i < c->fields_n; i++)
		free(c->fields[i].own);
	free(c->fields);
	free(c->text);
	if (c->body_own)
		(void)close(c->body_fd);	/* an unnamed file that nobody needs */
	*c = (struct content){ 0 };
}

size_t
content_find(const struct content *c, const char *name, unsigned nth)
{
	for (size_t i = 0; i < c->fields_n; i++)
		if (text_is_nocase(c->fields[i].name, name) && --nth == 0)
			return i;
	return SIZE_MAX;
}

/* ---- a field of a filter's ---- */

static bool
is_field_name(struct span name)
{
	for (size_t i = 0; i < name.len; i++)
		if (!is_vchar(name.p[i]) || name.p[i] == ':')
			return false;
	return name.len > 0 && name.len <= CONTENT_NAME_MAX;
}

/* Whether no reader would see anything in it: such a line, a fold or not, may look like the end of the header. */
static bool
is_blank(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_class(s.p[i], C_WSP | C_CNTRL))
			return false;
	return true;
}

/* The next line of *rest, ended by CRLF, CR or LF (case 11.25); false when *rest was used up, which *more says. */
static bool
next_line(struct span *rest, bool *more, struct span *line)
{
	size_t n = 0;

	if (!*more)
		return false;
	while (n < rest->len && rest->p[n] != '\r' && rest->p[n] != '\n')
		n++;
	*line = text_sub(*rest, 0, n);
	*more = n < rest->len;
	if (n + 1 < rest->len && rest->p[n] == '\r' && rest->p[n + 1] == '\n')
		n++;
	*rest = text_sub(*rest, n + 1, rest->len);
	return true;
}

/* A value on as many lines as it has; the only line ends are those of folds (case 9.11). */
static void
add_value(struct buf *b, struct span value)
{
	struct span rest = value, line;
	bool first = true, more = true;

	while (next_line(&rest, &more, &line)) {
		bool blank_first = line.len > 0 && is_class(line.p[0], C_WSP);

		if (!first && is_blank(line))
			continue;
		if (!blank_first)
			buf_add_char(b, ' ');
		else if (!first)
			buf_add_char(b, '\n');
		for (size_t i = 0; i < line.len; i++)
			buf_add_char(b, is_class(line.p[i], C_CNTRL) && line.p[i] != '\t' ? ' ' : line.p[i]);
		first = false;
	}
}

/* Where to fold a line that is too long: at the last blank with something in front of it. 0: nowhere. */
static size_t
fold_at(struct span line)
{
	for (size_t i = LINE_MAX_OCTETS; i > 0; i--)
		if (is_class(line.p[i], C_WSP) && !is_class(line.p[i - 1], C_WSP))
			return i;
	return 0;
}

static int
fold(struct buf *out, struct span field)
{
	struct span line;

	while (text_token(&field, "\n", &line)) {
		for (size_t at; line.len > LINE_MAX_OCTETS; line = text_sub(line, at, line.len)) {
			at = fold_at(line);
			if (at == 0)
				return -1;
			buf_add_span(out, text_sub(line, 0, at));
			if (is_blank(text_sub(line, at, line.len)))	/* blanks at the end of a line */
				at = line.len;
			else
				buf_add_char(out, '\n');
		}
		buf_add_span(out, line);
		if (field.len > 0)
			buf_add_char(out, '\n');
	}
	return 0;
}

/* "Name: value" in memory of its own. */
static int
make_field(struct content_field *f, struct span name, struct span value)
{
	struct buf b, folded;
	int r = -1;

	errno = EINVAL;
	if (text_find(value, '\0') != SIZE_MAX)
		return -1;
	errno = E2BIG;
	if (value.len > CONTENT_VALUE_MAX)
		return -1;
	buf_init(&b, name.len + 2 + value.len);
	buf_init(&folded, 2 * (name.len + 2 + value.len));
	buf_add_span(&b, name);
	buf_add_char(&b, ':');
	add_value(&b, value);
	errno = EINVAL;
	if (fold(&folded, buf_span(&b)) == -1)
		goto end;
	errno = ENOMEM;
	if (b.failed || folded.failed)
		goto end;
	f->own = malloc(buf_len(&folded));
	if (f->own == NULL)
		goto end;
	memcpy(f->own, folded.data, buf_len(&folded));
	f->name = (struct span){ f->own, name.len };
	f->value = (struct span){ f->own + name.len + 1, buf_len(&folded) - name.len - 1 };
	r = 0;
end:
	buf_clear(&b);
	buf_clear(&folded);
	return r;
}

/* Whether the header may grow from octets by those of f. */
static bool
has_room(const struct content *c, size_t octets, const struct content_field *f)
{
	return octets + field_octets(f).len + 1 + c->reserved <= 2 * c->config->max_header_size;
}

int
content_insert(struct content *c, size_t index, struct span name, struct span value)
{
	struct content_field f = { .own = NULL };

	if (index > c->fields_n || !is_field_name(name)) {
		errno = EINVAL;
		return -1;
	}
	if (make_field(&f, name, value) == -1)
		return -1;
	if (c->fields_n + (c->reserved > 0 ? OWN_FIELDS : 0) >= FIELDS_MAX || !has_room(c, c->octets, &f)) {
		free(f.own);
		errno = E2BIG;
		return -1;
	}
	if (put_field(c, index, f) == -1) {
		free(f.own);
		return -1;
	}
	if (index <= c->added)
		c->added++;
	else
		c->only_added = false;
	c->changed = true;
	return 0;
}

int
content_change(struct content *c, size_t index, struct span value)
{
	struct content_field f = { .own = NULL }, *old;
	size_t octets;

	if (index >= c->fields_n) {
		errno = EINVAL;
		return -1;
	}
	old = &c->fields[index];
	octets = c->octets - field_octets(old).len - 1;
	if (make_field(&f, old->name, value) == -1)
		return -1;
	if (!has_room(c, octets, &f)) {
		free(f.own);
		errno = E2BIG;
		return -1;
	}
	free(old->own);
	*old = f;
	c->octets = octets + field_octets(&f).len + 1;
	c->only_added = c->only_added && index < c->added;
	c->changed = true;
	return 0;
}

void
content_delete(struct content *c, size_t index)
{
	if (index >= c->fields_n)
		return;
	c->octets -= field_octets(&c->fields[index]).len + 1;
	free(c->fields[index].own);
	c->fields_n--;
	memmove(&c->fields[index], &c->fields[index + 1], (c->fields_n - index) * sizeof(*c->fields));
	if (index < c->added)
		c->added--;
	else
		c->only_added = false;
	c->changed = true;
}

bool
content_is_structural(struct span name)
{
	static const char *const names[] = {
		"From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Date", "Message-ID", "MIME-Version", "Received", "Return-Path", "Delivered-To",
	};

	for (size_t i = 0; i < COUNT(names); i++)
		if (text_is_nocase(name, names[i]))
			return true;
	return text_starts_nocase(name, "Content-") || text_starts_nocase(name, "Resent-");
}

/* ---- another body ---- */

static uint64_t
size_max(const struct content *c)
{
	return c->config->max_message_size + CONTENT_GROWTH_MAX;
}

int
content_body_new(struct content *c)
{
	if (c->body_own) {	/* a second one takes the place of the first */
		if (ftruncate(c->body_fd, 0) == -1)
			return -1;
	} else {
		int fd = message_open(c->config->spool_dir);

		if (fd == -1)
			return -1;
		c->body_fd = fd;
		c->body_own = true;
	}
	c->body_at = c->body_len = 0;
	c->body_cr = false;
	c->has_body = true;
	c->changed = true;
	return 0;
}

static int
body_write(struct content *c, const char *p, size_t n)
{
	if (n > size_max(c) - c->body_len) {
		errno = E2BIG;
		return -1;
	}
	if (write_all(c->body_fd, p, n, c->body_len) == -1)
		return -1;
	c->body_len += n;
	return 0;
}

int
content_body_add(struct content *c, const void *p, size_t n)
{
	const char *octets = p;
	char data[COPY_SIZE];
	size_t have = 0;

	if (!c->body_own) {
		errno = EINVAL;
		return -1;
	}
	for (size_t i = 0; i < n; i++) {
		bool ended = c->body_cr && octets[i] == '\n';	/* the line, by a CR that may have come with another call */

		c->body_cr = octets[i] == '\r';
		if (!ended)
			data[have++] = octets[i] == '\r' ? '\n' : octets[i];
		if (have == sizeof(data)) {
			if (body_write(c, data, have) == -1)
				return -1;
			have = 0;
		}
	}
	return body_write(c, data, have);
}

/* ---- out ---- */

/* The first n fields. */
static int
add_fields(const struct content *c, size_t n, const char *eol, struct buf *out)
{
	for (size_t i = 0; i < n; i++) {
		struct span rest = field_octets(&c->fields[i]), line;

		while (text_token(&rest, "\n", &line)) {
			buf_add_span(out, line);
			buf_add_str(out, eol);
		}
	}
	return out->failed ? -1 : 0;
}

int
content_header(const struct content *c, const char *eol, struct buf *out)
{
	return add_fields(c, c->fields_n, eol, out);
}

/* In front of the body, or of the fields that came with it, where message_trace() will continue. */
static int
write_front(struct content *c, struct tx *tx, const struct buf *front)
{
	uint64_t at = c->front_at - buf_len(front);

	if (write_all(tx->fd, front->data, buf_len(front), at) == -1)
		return -1;
	tx->header_at = at;
	c->changed = false;
	return 0;
}

static int
write_file(struct content *c, struct tx *tx, const struct buf *header)
{
	uint64_t body_at = MESSAGE_ROOM + buf_len(header);
	int fd = message_open(c->config->spool_dir), error;

	if (fd == -1)
		return -1;
	if (write_all(fd, header->data, buf_len(header), MESSAGE_ROOM) == -1 ||
	    copy_all(c->body_fd, c->body_at, fd, body_at, c->body_len) == -1) {
		error = errno;
		(void)close(fd);
		errno = error;
		return -1;
	}
	/* unnamed files without a reader: what close() says does not matter */
	if (c->body_own)
		(void)close(c->body_fd);
	(void)close(tx->fd);
	tx->fd = c->body_fd = fd;
	tx->size = body_at + c->body_len;
	tx->header_at = 0;
	c->front_at = MESSAGE_ROOM;
	c->body_at = body_at;
	c->body_own = false;
	c->has_body = c->has_body || c->body_len > 0;
	c->added = 0;
	c->only_added = true;
	c->changed = false;
	return 0;
}

int
content_write(struct content *c, struct tx *tx)
{
	/* Behind a header without an empty line the body would become a part of it, or of its last field. */
	bool empty_line = c->has_body || c->body_len > 0;
	bool in_front = c->only_added && !c->body_own && empty_line == c->has_body;
	struct buf b;
	int r;

	if (!c->changed)
		return 0;
	if (c->octets + empty_line > size_max(c) || c->body_len > size_max(c) - c->octets - empty_line) {
		errno = E2BIG;
		return -1;
	}
	if (in_front) {
		char memory[MESSAGE_ROOM - MESSAGE_TRACE_MAX];

		buf_fixed(&b, memory, c->front_at - MESSAGE_TRACE_MAX);
		if (add_fields(c, c->added, "\n", &b) == 0)
			return write_front(c, tx, &b);
	}
	buf_init(&b, c->octets + 1);
	content_header(c, "\n", &b);
	if (empty_line)
		buf_add_char(&b, '\n');
	errno = ENOMEM;
	r = b.failed ? -1 : write_file(c, tx, &b);
	buf_clear(&b);
	return r;
}

/* ---- edits ---- */

void
edits_add(struct edits *e, enum edit_kind kind, int nth, struct span name, struct span value)
{
	struct edit edit = { .kind = kind, .nth = nth, .name_len = name.len, .value_len = value.len };

	if (e->text.max == 0)
		buf_init(&e->text, EDITS_TEXT_MAX);
	edit.name_at = buf_len(&e->text);
	edit.value_at = edit.name_at + name.len;
	if (e->n == CONTENT_EDITS_MAX || name.len == 0 || name.len > CONTENT_NAME_MAX || value.len > CONTENT_VALUE_MAX ||
	    name.len + value.len > buf_room(&e->text))
		goto left_out;
	if (e->n == e->max) {
		size_t max = e->max == 0 ? 8 : 2 * e->max;
		struct edit *v = reallocarray(e->v, max, sizeof(*v));

		if (v == NULL)
			goto left_out;
		e->v = v;
		e->max = max;
	}
	if (buf_add_span(&e->text, name) == -1 || buf_add_span(&e->text, value) == -1)	/* no memory: all that follow are left out */
		goto left_out;
	e->v[e->n++] = edit;
	return;
left_out:
	e->left_out++;
}

void
edits_clear(struct edits *e)
{
	free(e->v);
	buf_clear(&e->text);
	*e = (struct edits){ 0 };
}

/* Change, or with value NULL delete, the nth field of this name; *found: there is one. */
static int
apply_to(struct content *c, int nth, struct span name, const struct span *value, bool *found)
{
	int64_t n = 0, left = nth;
	int r = 0;

	*found = false;
	for (size_t i = 0; i < c->fields_n; i++)
		n += text_eq_nocase(c->fields[i].name, name);
	if (left < 0)
		left = n + 1 + left;	/* from 1, as the others; 0 and below: none */
	if (nth != 0 && (left < 1 || left > n))
		return 0;
	n = 0;
	for (size_t i = 0; i < c->fields_n && r == 0;) {	/* where there is no room, the first ones have it: readers show these */
		if (!text_eq_nocase(c->fields[i].name, name) || (++n != left && nth != 0)) {
			i++;
			continue;
		}
		*found = true;
		if (value == NULL)
			content_delete(c, i);	/* the next one is there now */
		else
			r = content_change(c, i++, *value);
	}
	return r;
}

size_t
content_apply(struct content *c, const struct edits *e)
{
	size_t failed = 0;

	c->reserved = OWN_OCTETS;
	for (size_t i = 0; i < e->n; i++) {
		const struct edit *d = &e->v[i];
		struct span name = { e->text.data + d->name_at, d->name_len }, value = { e->text.data + d->value_at, d->value_len };
		bool found;
		int r = 0;

		switch (d->kind) {
		case EDIT_ADD_TOP:
			r = content_insert(c, 0, name, value);
			break;
		case EDIT_ADD_END:
			r = content_insert(c, c->fields_n, name, value);
			break;
		case EDIT_CHANGE:
			r = apply_to(c, d->nth, name, &value, &found);
			if (r == 0 && !found)
				r = content_insert(c, c->fields_n, name, value);
			break;
		case EDIT_REMOVE:
			r = apply_to(c, d->nth, name, NULL, &found);
			break;
		case EDIT__MAX:
			break;
		}
		failed += r == -1;
	}
	c->reserved = 0;
	return failed;
}
