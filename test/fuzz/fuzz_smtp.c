/*
 * fuzz_smtp.c - the grammar holds its promises for any octets.
 *
 * The first octet chooses the flags, the rest is the text. A mailbox printed reads back to the same; a domain or literal reads
 * back to itself; no field holds a control octet; what is left over is the tail of what was given; lengths are within bounds; what DNS
 * says a client is called is a host name, or none.
 */
#include <stdint.h>
#include <stdlib.h>

#include "must.h"
#include "names.h"
#include "smtp.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_domain(const char *domain)
{
	struct span s = text_span(domain);
	char again[SMTP_DOMAIN_MAX + 1];

	must(s.len > 0 && s.len <= SMTP_DOMAIN_MAX);
	for (size_t i = 0; i < s.len; i++) {
		bool literal = s.p[0] == '[' && (s.p[i] == '[' || s.p[i] == ']' || s.p[i] == ':' || s.p[i] == 'I' ||
		    s.p[i] == 'P');

		must(is_digit(s.p[i]) || (s.p[i] >= 'a' && s.p[i] <= 'z') || s.p[i] == '-' || s.p[i] == '_' || s.p[i] == '.' ||
		    literal);
	}
	must(s.p[0] == '[' ? smtp_literal(s, again) : smtp_domain(s, false, again));
	must(text_is(s, again));
}

static void
check_mailbox(const struct mailbox *m, bool utf8)
{
	struct span local = text_span(m->local);
	char printed[SMTP_ADDRESS_MAX + 1];
	struct mailbox again;

	must(local.len > 0 && local.len <= SMTP_LOCAL_MAX && !text_has(local, C_CNTRL));
	must(text_is_utf8(local));
	for (size_t i = 0; i < local.len && !utf8; i++)
		must(!is_8bit(local.p[i]));
	check_domain(m->domain);
	smtp_mailbox_print(m, printed);
	must(strlen(printed) <= SMTP_ADDRESS_MAX && strlen(printed) <= 2 * local.len + 3 + strlen(m->domain));
	must(smtp_mailbox(text_span(printed), utf8, &again) == SMTP_PATH_OK);
	must(memcmp(&again, m, sizeof(again)) == 0);
}

static void
try_path(struct span s, bool utf8, bool postmaster)
{
	static const struct mailbox zero;
	struct span rest = s;
	struct mailbox m;

	switch (smtp_path(&rest, utf8, postmaster, &m)) {
	case SMTP_PATH_OK:
		must(rest.len < s.len && rest.p == s.p + (s.len - rest.len) && rest.p[-1] == '>');
		if (m.domain[0] == '\0')
			must(postmaster && strcmp(m.local, "postmaster") == 0);
		else
			check_mailbox(&m, utf8);
		break;
	case SMTP_PATH_NULL:
		must(rest.p[-1] == '>' && rest.p[-2] == '<');
		/* FALLTHROUGH */
	case SMTP_PATH_SYNTAX:
	case SMTP_PATH_TOO_LONG:
	case SMTP_PATH_NOT_ASCII:
	case SMTP_PATH_BAD_UTF8:
		must(memcmp(&m, &zero, sizeof(m)) == 0);
		break;
	}
	if (smtp_mailbox(s, utf8, &m) == SMTP_PATH_OK)
		check_mailbox(&m, utf8);
	else
		must(memcmp(&m, &zero, sizeof(m)) == 0);
}

/* What DNS says a client is called, any octets, goes into Received fields and to filters. */
static void
try_name(struct span s)
{
	char name[SMTP_DOMAIN_MAX + 1], again[SMTP_DOMAIN_MAX + 1];
	const char *last;

	if (!names_read(s, name)) {
		must(name[0] == '\0');
		return;
	}
	must(strlen(name) <= 253);
	for (const char *p = name; *p != '\0'; p++)
		must(is_digit(*p) || (*p >= 'a' && *p <= 'z') || *p == '-' || *p == '.');
	last = strrchr(name, '.');
	last = last == NULL ? name : last + 1;
	must(*last >= 'a' && *last <= 'z');
	must(names_read(text_span(name), again) && strcmp(name, again) == 0);
}

static void
try_host(struct span s, bool utf8)
{
	char dst[SMTP_DOMAIN_MAX + 1];

	try_name(s);
	if (smtp_domain(s, utf8, dst))
		check_domain(dst);
	else
		must(dst[0] == '\0');
	if (smtp_literal(s, dst))
		check_domain(dst);
	else
		must(dst[0] == '\0');
	if (smtp_helo(s))
		must(s.len > 0 && s.len <= SMTP_DOMAIN_MAX && !text_has(s, C_CNTRL | C_WSP));
}

static void
try_arguments(struct span s, size_t text_size)
{
	struct mail_params params;
	enum smtp_param param = smtp_mail_params(s, &params);
	uint64_t size;
	bool last;
	char esc[12], text[400];

	if (param == SMTP_PARAM_OK)
		must(params.size <= INT64_MAX && params.body < SMTP_BODY__MAX);
	if (smtp_rcpt_params(s) == SMTP_PARAM_OK)
		must(param == SMTP_PARAM_OK && params.size == 0 && !params.utf8 && !params.auth);
	if (smtp_bdat(s, &size, &last))
		must(size <= INT64_MAX);
	if (smtp_status_line(s, esc, text, text_size)) {
		must(strlen(esc) >= 5 && strlen(esc) <= 9 && (esc[0] == '4' || esc[0] == '5') && esc[1] == '.');
		must(strlen(text) < text_size && !text_has(text_span(text), C_CNTRL));
		for (const char *p = text; *p != '\0'; p++)
			must(!is_8bit(*p));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span s;

	if (size == 0)
		return 0;
	s = (struct span){ (const char *)data + 1, size - 1 };
	try_path(s, (data[0] & 1) != 0, (data[0] & 2) != 0);
	try_host(s, (data[0] & 1) != 0);
	try_arguments(s, 1 + (data[0] >> 2) * 6u);	/* 379 at most */
	return 0;
}
