/*
 * fuzz_header.c - the header block and From hold their promises for any octets.
 *
 * The first octet chooses UTF-8, the rest is a message. The fields, with what is between and behind them, are the message again
 * without a gap; a start that is not cut has as long a header block; an address found prints and reads back to itself; with a
 * second From field there is none. Of two hosts, results that can be read are one's at most; a host in front makes them its own.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "header.h"
#include "must.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_field(const struct header_field *f)
{
	const char *colon = f->name.p + f->name.len;

	must(f->name.len > 0);
	for (size_t i = 0; i < f->name.len; i++)
		must(is_vchar(f->name.p[i]) && f->name.p[i] != ':');
	for (; colon < f->value.p - 1; colon++)
		must(*colon == ' ' || *colon == '\t');
	must(*colon == ':');
	for (size_t i = 0; i + 1 < f->value.len; i++)
		must(f->value.p[i] != '\n' || f->value.p[i + 1] == ' ' || f->value.p[i + 1] == '\t');
}

static size_t
check_fields(struct span message)
{
	struct span rest = message;
	const char *at = message.p, *end = message.p + message.len;
	struct header_field f;
	size_t n = 0;

	for (; header_next(&rest, &f); n++) {
		check_field(&f);
		must(f.name.p == at);
		at = f.value.p + f.value.len;
		if (at < end) {
			must(*at == '\n');
			at++;
		}
		must(rest.p == at && rest.len == (size_t)(end - at));
	}
	must(rest.p == at && header_len(message) == (size_t)(at - message.p));
	if (rest.len > 0)	/* a field never begins with white space behind another: it is its fold */
		must(n == 0 || (rest.p[0] != ' ' && rest.p[0] != '\t'));
	return n;
}

static void
check_reprint(const struct mailbox *m, bool utf8)
{
	char printed[SMTP_ADDRESS_MAX + 1], message[SMTP_ADDRESS_MAX + 32];
	struct mailbox again;

	smtp_mailbox_print(m, printed);
	must(strchr(printed, '<') == NULL && strchr(printed, '>') == NULL && m->local[0] != '\0' && m->domain[0] != '\0');
	must(snprintf(message, sizeof(message), "From: %s\n\n", printed) > 0);
	must(header_from(text_span(message), utf8, &again) == FROM_OK && memcmp(&again, m, sizeof(again)) == 0);
	must(snprintf(message, sizeof(message), "From: x\n <%s>\n\n", printed) > 0);
	must(header_from(text_span(message), utf8, &again) == FROM_OK && memcmp(&again, m, sizeof(again)) == 0);
}

/* In front of an address there is one more, or another field; the message itself stays as it is. */
static void
check_second_field(struct span message, bool utf8, size_t fields, const struct mailbox *m)
{
	static const struct span extra[] = { SPAN("from\t: x@x.test\n"), SPAN("X-From: x@x.test\n") };

	for (size_t i = 0; i < COUNT(extra); i++) {
		struct span more = { NULL, extra[i].len + message.len };
		char *p = malloc(more.len);
		struct mailbox again;
		enum header_from got;

		must(p != NULL);
		memcpy(p, extra[i].p, extra[i].len);
		memcpy(p + extra[i].len, message.p, message.len);
		more.p = p;
		got = header_from(more, utf8, &again);
		if (fields == HEADER_FIELDS_MAX)
			must(got == FROM_TOO_MANY);
		else
			must(i == 0 ? got == FROM_TWICE : got == FROM_OK && memcmp(&again, m, sizeof(again)) == 0);
		free(p);
	}
}

static void
check_authserv(struct span value)
{
	bool first = header_authserv_is(value, "mx.test"), second = header_authserv_is(value, "other.test");
	struct span more = { NULL, strlen(" MX.test;") + value.len };
	char *p = malloc(more.len);

	must(p != NULL);
	memcpy(p, " MX.test;", strlen(" MX.test;"));
	memcpy(p + strlen(" MX.test;"), value.p, value.len);
	more.p = p;
	must(header_authserv_is(more, "mx.test") && !header_authserv_is(more, "other.test"));
	free(p);
	if (first && second)	/* nobody's */
		must(header_authserv_is(value, "third.test"));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct mailbox zero;
	struct mailbox m;
	struct span message;
	enum header_from got;
	size_t fields;
	bool utf8;

	if (size == 0)
		return 0;
	utf8 = (data[0] & 1) != 0;
	message = (struct span){ (const char *)data + 1, size - 1 };
	fields = check_fields(message);
	check_authserv(message);
	for (size_t cut = message.len; cut > 0; cut /= 2)
		must(header_is_cut(text_sub(message, 0, cut)) || header_len(text_sub(message, 0, cut)) == header_len(message));
	got = header_from(message, utf8, &m);
	must((got == FROM_TOO_MANY) == (fields > HEADER_FIELDS_MAX));
	must(header_from_text(got)[0] != '\0');
	if (got == FROM_OK) {
		check_reprint(&m, utf8);
		check_second_field(message, utf8, fields, &m);
	} else {
		must(memcmp(&m, &zero, sizeof(m)) == 0);
	}
	return 0;
}
