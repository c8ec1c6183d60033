/*
 * fuzz_rspamd.c - whatever rspamd answers, the report is one that can be acted upon: action and status code agree, texts are one line of
 * printable ASCII, scores are finite, no edit touches what is not rspamd's, and applied to a message they add no line but fields.
 */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "header.h"
#include "must.h"
#include "rspamd.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char nowhere[] = "";
static const struct config config = { .spool_dir = nowhere, .max_header_size = 262144, .max_message_size = 1 << 20 };

static void
check_text(const char *s)
{
	for (; *s != '\0'; s++)
		must(is_vchar(*s) || *s == ' ');
}

static void
check_report(const struct filter_report *r)
{
	static const char classes[] = { [FILTER_REJECT] = '5', [FILTER_TEMPFAIL] = '4', [FILTER_TROUBLE] = '\0' };

	must(r->action < FILTER__MAX && r->action != FILTER_SKIPPED);
	must(r->esc[0] == classes[r->action] && memchr(r->esc, '\0', sizeof(r->esc)) != NULL);
	must(memchr(r->text, '\0', sizeof(r->text)) != NULL && memchr(r->detail, '\0', sizeof(r->detail)) != NULL);
	must(r->text[0] == '\0' || r->esc[0] != '\0');
	must(r->detail[0] != '\0');
	check_text(r->esc);
	check_text(r->text);
	check_text(r->detail);
	must(isfinite(r->score) && isfinite(r->required));
	if (r->action == FILTER_TROUBLE)
		must(!r->is_spam && !r->has_score && r->edits.n == 0);
	for (size_t i = 0; i < FILTER_METHOD__MAX; i++)
		must(r->outcomes[i] < FILTER_OUTCOME__MAX);
}

/* The message had one field; each field behind the edits is it, or one of theirs. */
static void
check_edits(const struct edits *e)
{
	static const char message[] = "From: a@b.test\n\nbody\n";
	struct tx tx = { .config = &config, .fd = message_open(""), .size = MESSAGE_ROOM + sizeof(message) - 1 };
	size_t from = 0, fields = 0, adds = 0;
	struct header_field f;
	struct content c;
	struct buf b;
	struct span rest;

	must(tx.fd != -1 && pwrite(tx.fd, message, sizeof(message) - 1, MESSAGE_ROOM) == sizeof(message) - 1);
	must(content_load(&c, &tx) == 0);
	must(content_apply(&c, e) <= e->n);
	for (size_t i = 0; i < e->n; i++) {
		must(!content_is_structural((struct span){ e->text.data + e->v[i].name_at, e->v[i].name_len }));
		adds += e->v[i].kind != EDIT_REMOVE;
	}
	buf_init(&b, 1 << 20);
	must(content_header(&c, "\n", &b) == 0);
	for (rest = buf_span(&b); header_next(&rest, &f); fields++)
		from += text_is_nocase(f.name, "From");
	must(rest.len == 0 && from == 1 && fields == c.fields_n && fields <= 1 + adds);
	must(content_write(&c, &tx) == 0);
	buf_clear(&b);
	content_clear(&c);
	close(tx.fd);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct filter_report r = { .action = FILTER_TROUBLE };

	rspamd_read((struct span){ (const char *)data, size }, &r);
	check_report(&r);
	if (r.edits.n > 0)
		check_edits(&r.edits);
	edits_clear(&r.edits);
	return 0;
}
