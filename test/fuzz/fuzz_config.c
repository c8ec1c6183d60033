/*
 * fuzz_config.c - any octets as a configuration: what loads prints to text that loads again to the same print, and every error
 * names its place.
 *
 * The users come from the environment, so that nothing depends on those of the machine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"

#define ERRORS_MAX (64 * 1024)
#define PRINT_MAX (256 * 1024)

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *env[] = { "PATH=/usr/bin:/bin", "SMTPD_USER=nobody", "SMTPD_DELIVERY_USER=", NULL };

static void
check(bool good, const char *what, const char *text)
{
	if (good)
		return;
	(void)fprintf(stderr, "broken: %s\n%s\n", what, text);
	abort();
}

/* Each line: [warning: ]FILE[:line]: what; or a flag's, a variable's. */
static void
check_errors(struct span text, const char *file)
{
	struct span line;

	check(text.len == 0 || text.p[text.len - 1] == '\n', "errors end in a line end", file);
	while (text_token(&text, "\n", &line)) {
		size_t n = strlen(file);

		if (text_is(line, "more than fits here; mend these first"))
			continue;
		if (text_is(text_sub(line, 0, 9), "warning: "))
			line = text_sub(line, 9, line.len);
		check(!text_has(line, C_CNTRL), "an error is printable", line.p);
		if (text_is(text_sub(line, 0, 12), "environment "))	/* SMTPD_USER, where the machine has no such user */
			continue;
		check(text_is(text_sub(line, 0, n), file), "an error names its file", line.p);
		line = text_sub(line, n, line.len);
		if (line.len > 1 && line.p[0] == ':' && is_digit(line.p[1]))
			for (line = text_sub(line, 1, line.len); line.len > 0 && is_digit(*line.p); line = text_sub(line, 1, line.len))
				;
		check(line.len > 2 && line.p[0] == ':' && line.p[1] == ' ', "an error names its line", line.p);
	}
}

/* Load text; what it prints, without where the values come from, into out. false: it does not load. */
static bool
load(const char *text, size_t size, char *out)
{
	char file[64];
	struct buf errors;
	struct config *c;
	FILE *f;
	int fd = memfd_create("config", MFD_CLOEXEC);
	bool loads, skip = false;

	if (fd == -1 || write(fd, text, size) != (ssize_t)size)
		abort();
	(void)snprintf(file, sizeof(file), "/proc/self/fd/%d", fd);
	buf_init(&errors, ERRORS_MAX);
	c = config_load(file, env, NULL, 0, &errors);
	check(!errors.failed && (c != NULL || buf_len(&errors) > 0), "what is refused has a reason", text);
	check_errors(buf_span(&errors), file);
	loads = c != NULL;
	out[0] = '\0';
	if (loads) {
		f = fmemopen(out, PRINT_MAX, "w");
		if (f == NULL || config_print(c, f) == -1 || fclose(f) == EOF)
			abort();
		char *to = out;
		for (const char *p = out; *p != '\0'; p++) {	/* each line up to its " ;" */
			skip = *p != '\n' && (skip || (p[0] == ' ' && p[1] == ';'));
			if (!skip)
				*to++ = *p;
		}
		*to = '\0';
	} else {
		(void)snprintf(out, PRINT_MAX, "%.*s", (int)buf_len(&errors), errors.data + errors.rpos);
	}
	config_free(c);
	buf_clear(&errors);
	close(fd);
	return loads;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char first[PRINT_MAX], second[PRINT_MAX];

	if (!load((const char *)data, size, first))
		return 0;
	check(load(first, strlen(first), second), "what is printed loads", second);
	check(strcmp(first, second) == 0, "what is printed prints the same", second);
	return 0;
}
