/*
 * fuzz_content.c - a message that is loaded and written is the same; whatever is done to it, its header read again is what the
 * fields said, and its body is what it was: no field and no line comes about that was not asked for.
 *
 * A text up to a 0xff octet is the message; then come operations: a letter, a number, a name and a value, each ended by 0xff.
 */
#include <stdlib.h>
#include <unistd.h>

#include "content.h"
#include "header.h"
#include "must.h"

#define LINE_LENGTH_MAX 998

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char nowhere[] = "", hostname[] = "mx.test";
static const struct config config = { .spool_dir = nowhere, .hostname = hostname, .max_header_size = 20000, .max_message_size = 40000 };

static void
make_tx(struct tx *tx, struct span message)
{
	*tx = (struct tx){ .id = "ID", .config = &config, .client_address = "", .helo = "", .auth_user = "", .auth_type = "", .tls_version = "",
	    .tls_cipher = "", .fd = message_open(""), .size = MESSAGE_ROOM + message.len };
	must(tx->fd != -1 && (message.len == 0 || pwrite(tx->fd, message.p, message.len, MESSAGE_ROOM) == (ssize_t)message.len));
}

/* What would be delivered; to be freed. */
static struct span
delivered(const struct tx *tx)
{
	uint64_t at = tx->header_at == 0 ? MESSAGE_ROOM : tx->header_at;
	size_t len = (size_t)(tx->size - at);
	char *p = malloc(len + 1);

	must(p != NULL && pread(tx->fd, p, len, (off_t)at) == (ssize_t)len);
	return (struct span){ p, len };
}

static void
release(struct span s)
{
	free((void *)(uintptr_t)s.p);
}

/* What a filter has put there: one field, whose lines go on with a blank and are neither too long nor empty; the value may begin
 * on the line behind the name, where only so it fits. */
static void
check_new(const struct content_field *f)
{
	struct span rest = f->value, line;

	must(f->own != NULL && rest.len > 0 && (rest.p[0] == '\n' || is_class(rest.p[0], C_WSP)));
	for (bool first = true; text_token(&rest, "\n", &line); first = false) {
		must(line.len + (first ? f->name.len + 1 : 0) <= LINE_LENGTH_MAX);
		must(first || (is_class(line.p[0], C_WSP) && text_trim(line).len > 0));
		for (size_t i = 0; i < line.len; i++)
			must(line.p[i] == '\t' || !is_class(line.p[i], C_CNTRL));
	}
}

/* The header at the start of text has just the fields of c; *rest is what is behind it. */
static void
check_walk(const struct content *c, struct span text, struct span *rest)
{
	struct header_field f;

	*rest = text;
	for (size_t i = 0; i < c->fields_n; i++) {
		must(header_next(rest, &f));
		must(text_eq(f.name, c->fields[i].name) && text_eq(f.value, c->fields[i].value));
	}
	must(!header_next(rest, &f));
}

static bool
next_part(struct span *rest, struct span *part)
{
	return text_token(rest, "\xff", part);
}

static void
operate(struct content *c, char what, unsigned n, struct span name, struct span value, struct edits *e)
{
	size_t fields = c->fields_n, at = fields == 0 ? 0 : n % (fields + 1), next = fields - at;
	struct span behind = next == 0 ? SPAN("") : c->fields[at].name;

	switch (what) {
	case 'i':
		if (content_insert(c, at, name, value) == 0) {
			must(c->fields_n == fields + 1 && text_eq(c->fields[at].name, name));
			must(next == 0 || text_eq(c->fields[at + 1].name, behind));
			check_new(&c->fields[at]);
		} else {
			must(c->fields_n == fields);
		}
		break;
	case 'c':
		if (content_change(c, at, value) == 0)
			check_new(&c->fields[at]);
		must(c->fields_n == fields);
		break;
	case 'd':
		content_delete(c, at);
		must(c->fields_n == fields - (next > 0));
		break;
	case 'e':
		edits_add(e, n % EDIT__MAX, (int)(n / 8) - 8, name, value);
		break;
	default:
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span rest = { (const char *)data, size }, message = SPAN(""), part, name, value, out, tail;
	struct edits edits = { 0 };
	struct content c, again;
	struct buf header;
	struct tx tx;

	next_part(&rest, &message);
	make_tx(&tx, message);
	if (content_load(&c, &tx) == -1) {
		must(c.fields_n == 0 && c.text == NULL);
		close(tx.fd);
		return 0;
	}
	must(content_write(&c, &tx) == 0 && tx.header_at == 0);
	out = delivered(&tx);
	must(text_eq(out, message));
	release(out);
	buf_init(&header, 1 << 20);
	must(content_header(&c, "\n", &header) == 0);
	must(c.body_len == 0 || text_eq(buf_span(&header), text_sub(message, 0, message.len - c.body_len - c.has_body)));

	while (next_part(&rest, &part) && next_part(&rest, &name) && next_part(&rest, &value))
		if (part.len >= 2)
			operate(&c, part.p[0], (unsigned char)part.p[1], name, value, &edits);
	must(content_apply(&c, &edits) <= edits.n);
	buf_reset(&header);
	must(content_header(&c, "\n", &header) == 0);
	check_walk(&c, buf_span(&header), &tail);
	must(tail.len == 0);
	if (c.changed) {
		uint64_t body_len = c.body_len;

		must(content_write(&c, &tx) == 0);
		out = delivered(&tx);
		check_walk(&c, out, &tail);
		/* behind the header: nothing, or an empty line and the body as it came */
		if (tail.len > 0 && tail.p[0] == '\n')
			tail = text_sub(tail, 1, tail.len);
		must(tail.len == body_len && text_eq(tail, text_sub(message, message.len - body_len, message.len)));
		must(c.has_body || body_len == 0);
		release(out);
		/* as another would read it */
		if (tx.header_at == 0 && c.octets <= config.max_header_size && c.fields_n <= HEADER_FIELDS_MAX) {
			must(content_load(&again, &tx) == 0 && again.fields_n == c.fields_n && again.body_len == body_len);
			content_clear(&again);
		}
	}
	buf_clear(&header);
	edits_clear(&edits);
	content_clear(&c);
	close(tx.fd);
	return 0;
}
