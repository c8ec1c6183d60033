/*
 * fuzz_exporter.c - a request to the metrics listener is read the same however it arrives, and holds what its reader relies on.
 *
 * The first two octets choose a cut. What is decided at the cut is what is decided with all of it; a request ends with an empty line,
 * and its spans lie inside of it.
 */
#include <stdint.h>
#include <stdlib.h>

#include "exporter.h"
#include "must.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
is_inside(struct span s, struct span whole)
{
	return s.p >= whole.p && s.len <= (size_t)(whole.p + whole.len - s.p);
}

static void
check_request(struct span in, const struct exporter_request *q)
{
	struct span whole = text_sub(in, 0, q->len);

	must(q->len >= 4 && q->len <= in.len && q->len <= EXPORTER_HEAD_MAX);
	must(memcmp(whole.p + whole.len - 4, "\r\n\r\n", 4) == 0);
	must(is_inside(q->method, whole) && q->method.len > 0 && !text_has(q->method, C_CNTRL | C_WSP));
	/* an absolute target without a path has a path of ours */
	must(q->path.len > 0 && (is_inside(q->path, whole) || text_is(q->path, "/")));
	must(q->path.p[0] == '/' || text_is(q->path, "*"));
	must(!text_has(q->path, C_CNTRL | C_WSP) && text_find(q->path, '?') == SIZE_MAX);
	must(q->close || !q->http_1_0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct exporter_request zero;
	struct exporter_request q, early;
	enum exporter_parse r, before;
	struct span in;
	size_t cut;

	if (size < 2)
		return 0;
	in = (struct span){ (const char *)data + 2, size - 2 };
	cut = (size_t)(data[0] << 8 | data[1]) % (in.len + 1);
	r = exporter_parse(in, &q);
	before = exporter_parse(text_sub(in, 0, cut), &early);
	must(r == EXPORTER_REQUEST || memcmp(&q, &zero, sizeof(q)) == 0);
	must(before == EXPORTER_MORE || (before == r && memcmp(&early, &q, sizeof(q)) == 0));
	must(r != EXPORTER_MORE || in.len < EXPORTER_HEAD_MAX);
	must(r != EXPORTER_TOO_LARGE || in.len >= EXPORTER_HEAD_MAX);
	if (r == EXPORTER_REQUEST) {
		struct exporter_request again;

		check_request(in, &q);
		/* its last octet is what made it whole */
		must(exporter_parse(text_sub(in, 0, q.len), &again) == EXPORTER_REQUEST && again.len == q.len);
		must(exporter_parse(text_sub(in, 0, q.len - 1), &again) == EXPORTER_MORE);
	}
	return 0;
}
