/*
 * fuzz_spamd.c - whatever spamd answers, the report is one that can be acted upon and logged.
 *
 * A verdict has a score and a limit, and says again what it said when it is written down anew; no reply is a verdict when it is cut
 * in its header; what goes to the log is printable.
 */
#include <stdio.h>
#include <stdlib.h>

#include "must.h"
#include "spamd.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_report(const struct filter_report *r)
{
	must(memchr(r->detail, '\0', sizeof(r->detail)) != NULL);
	for (const char *p = r->detail; *p != '\0'; p++)
		must(is_vchar(*p) || *p == ' ');
	must(r->esc[0] == '\0' && r->text[0] == '\0' && r->edits.n == 0);
	if (r->action == FILTER_TROUBLE) {
		must(!r->has_score && !r->is_spam && r->detail[0] != '\0');
		return;
	}
	must(r->action == FILTER_ACCEPT && r->has_score);
	must(r->score > -1e9 && r->score < 1e9 && r->required > -1e9 && r->required < 1e9);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span s = { (const char *)data, size };
	struct filter_report r = { 0 }, again;
	const char *head;
	char text[256];
	int n;

	spamd_read(s, &r);
	check_report(&r);
	if (r.action == FILTER_TROUBLE)
		return 0;
	head = memmem(s.p, s.len, "\r\n\r\n", 4);
	must(head != NULL);
	for (size_t cut = 0; cut < (size_t)(head - s.p) + 4; cut++) {
		again = (struct filter_report){ 0 };
		spamd_read(text_sub(s, 0, cut), &again);
		check_report(&again);
		must(again.action == FILTER_TROUBLE);
	}
	n = snprintf(text, sizeof(text), "SPAMD/1.1 0 EX_OK\r\nSpam: %s ; %.9f / %.9f\r\n\r\n", r.is_spam ? "True" : "False", r.score, r.required);
	again = (struct filter_report){ 0 };
	spamd_read((struct span){ text, (size_t)n }, &again);
	must(again.action == FILTER_ACCEPT && again.is_spam == r.is_spam);
	must(again.score - r.score < 1e-6 && r.score - again.score < 1e-6);
	must(again.required - r.required < 1e-6 && r.required - again.required < 1e-6);
	return 0;
}
