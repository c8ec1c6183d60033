/*
 * fuzz_json.c - what is taken, printed again from its values, is taken again as the same; it is one value whatever is put behind
 * or taken off; names differ; strings are UTF-8 without NUL; numbers agree with each other.
 */
#include <stdlib.h>

#include "buf.h"
#include "json.h"
#include "must.h"

#define PRINT_MAX (1 << 20)
#define VALUES_MAX 4096

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
print_string(struct buf *out, const char *s, long len)
{
	must(len >= 0 && strlen(s) == (size_t)len && text_is_utf8(text_span(s)));
	buf_add_char(out, '"');
	for (; *s != '\0'; s++) {
		if (is_class(*s, C_CNTRL) || *s == '"' || *s == '\\')
			buf_printf(out, "\\u%04x", (unsigned)(unsigned char)*s);
		else
			buf_add_char(out, *s);
	}
	buf_add_char(out, '"');
}

static void
print_scalar(const struct json *j, int value, struct span in, struct buf *out)
{
	static const char *const words[] = { [JSON_NULL] = "null", [JSON_FALSE] = "false", [JSON_TRUE] = "true" };
	char *text = malloc(in.len + 1);
	double d;
	int64_t n;
	long len;

	must(text != NULL);
	switch (json_type(j, value)) {
	case JSON_STRING:
		len = json_string(j, value, text, in.len + 1);	/* an escape is longer than what it means */
		print_string(out, text, len);
		must(json_is(j, value, text_span(text)));
		must(len == 0 || json_string(j, value, text, (size_t)len) == -1);
		json_printable(j, value, text, in.len + 1);
		must(!text_has(text_span(text), C_CNTRL));
		break;
	case JSON_NUMBER:
		if (json_double(j, value, &d) == -1) {
			must(json_i64(j, value, &n) == -1);
			buf_add_str(out, "1e999");
			break;
		}
		must(json_i64(j, value, &n) == -1 || ((double)n <= d && d < (double)n + 1) || ((double)n >= d && d > (double)n - 1));
		buf_printf(out, "%.17g", d);
		break;
	case JSON_NULL:
	case JSON_FALSE:
	case JSON_TRUE:
		buf_add_str(out, words[json_type(j, value)]);
		break;
	case JSON_ABSENT:
	case JSON_ARRAY:
	case JSON_OBJECT:
		abort();
	}
	free(text);
}

static void
print_name(const struct json *j, int object, int value, struct span in, struct buf *out)
{
	char *name = malloc(in.len + 1);

	must(name != NULL);
	print_string(out, name, json_name(j, value, name, in.len + 1));
	must(json_get(j, object, text_span(name)) == value);	/* or it is there twice */
	buf_add_char(out, ':');
	free(name);
}

static size_t
print(const struct json *j, struct span in, struct buf *out)
{
	int container[JSON_DEPTH_MAX], last[JSON_DEPTH_MAX];
	size_t depth = 1, values = 1;

	container[0] = JSON_ROOT;
	last[0] = -1;
	buf_add_char(out, json_type(j, JSON_ROOT) == JSON_OBJECT ? '{' : '[');
	while (depth > 0) {
		int object = container[depth - 1], value = json_next(j, object, last[depth - 1]);
		enum json_type type = json_type(j, value);

		if (value == -1) {
			buf_add_char(out, json_type(j, object) == JSON_OBJECT ? '}' : ']');
			depth--;
			continue;
		}
		if (last[depth - 1] != -1)
			buf_add_char(out, ',');
		last[depth - 1] = value;
		values++;
		if (json_type(j, object) == JSON_OBJECT) {
			print_name(j, object, value, in, out);
			values++;
		}
		if (type == JSON_OBJECT || type == JSON_ARRAY) {
			must(depth < JSON_DEPTH_MAX);
			container[depth] = value;
			last[depth++] = -1;
			buf_add_char(out, type == JSON_OBJECT ? '{' : '[');
		} else {
			print_scalar(j, value, in, out);
		}
	}
	return values;
}

/* A text is taken only whole: not with its last octet off, nor with something behind it. */
static void
check_ends(struct span in)
{
	char *text = malloc(in.len + 1);
	const char *why;
	struct json j;

	must(text != NULL);
	memcpy(text, in.p, in.len);
	text[in.len] = '0';
	must(json_parse(&j, (struct span){ text, in.len + 1 }, VALUES_MAX, &why) == -1 && why[0] != '\0');
	while (strchr(" \t\r\n", in.p[in.len - 1]) != NULL)
		in.len--;
	must(json_parse(&j, text_sub(in, 0, in.len - 1), VALUES_MAX, &why) == -1 && why[0] != '\0');
	free(text);
}

/* A text is mended once and for all, and one that is taken has nothing to be mended. */
static void
check_mend(struct span in, bool taken)
{
	char *once = malloc(in.len + 1), *twice = malloc(in.len + 1);

	must(once != NULL && twice != NULL);
	memcpy(once, in.p, in.len);
	json_mend(once, in.len);
	memcpy(twice, once, in.len);
	json_mend(twice, in.len);
	must(memcmp(once, twice, in.len) == 0 && (!taken || memcmp(once, in.p, in.len) == 0));
	free(once);
	free(twice);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = { (const char *)data, size };
	struct buf first, second;
	const char *why = NULL;
	struct json j;

	if (size == 0)
		in.p = "";
	check_mend(in, json_parse(&j, in, VALUES_MAX, &why) == 0);
	json_clear(&j);
	if (json_parse(&j, in, VALUES_MAX, &why) == -1) {
		must(why != NULL && why[0] != '\0' && j.n == 0 && j.tokens == NULL);
		return 0;
	}
	buf_init(&first, PRINT_MAX);
	buf_init(&second, PRINT_MAX);
	must(print(&j, in, &first) == j.n);	/* no value is lost */
	json_clear(&j);
	check_ends(in);
	if (!first.failed) {	/* control octets grow */
		must(json_parse(&j, buf_span(&first), VALUES_MAX, &why) == 0);
		print(&j, buf_span(&first), &second);
		must(text_eq(buf_span(&first), buf_span(&second)));
		json_clear(&j);
	}
	buf_clear(&first);
	buf_clear(&second);
	return 0;
}
