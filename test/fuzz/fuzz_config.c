/*
 * fuzz_config.c - any octets as a configuration: what loads prints to text that loads again to the same print, and every error
 * names its place. An input that begins with "-o " is one flag on top of a good file instead: so values come that no file can hold.
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
check(bool is_so, const char *what, struct span text)
{
	if (is_so)
		return;
	(void)fprintf(stderr, "broken: %s\n%.*s\n", what, (int)text.len, text.p);
	abort();
}

/* Each line: [warning: ]FILE[:line]: what; or a flag's, a variable's. */
static void
check_errors(struct span text, const char *file)
{
	struct span line;

	check(text.len == 0 || text.p[text.len - 1] == '\n', "errors end in a line end", text);
	while (text_token(&text, "\n", &line)) {
		size_t n = strlen(file);

		if (text_is(line, "more than fits here; mend these first"))
			continue;
		if (text_is(text_sub(line, 0, 9), "warning: "))
			line = text_sub(line, 9, line.len);
		check(!text_has(line, C_CNTRL), "an error is printable", line);
		/* SMTPD_USER, where the machine has no such user; an input's flag */
		if (text_is(text_sub(line, 0, 12), "environment ") || text_is(text_sub(line, 0, 8), "flag -o "))
			continue;
		check(text_is(text_sub(line, 0, n), file), "an error names its file", line);
		line = text_sub(line, n, line.len);
		if (line.len > 1 && line.p[0] == ':' && is_digit(line.p[1]))
			for (line = text_sub(line, 1, line.len); line.len > 0 && is_digit(*line.p); line = text_sub(line, 1, line.len))
				;
		check(line.len > 2 && line.p[0] == ':' && line.p[1] == ' ', "an error names its line", line);
	}
}

static const char good[] = "[smtpd]\ndomains = a\n[smtpd.listener mx]\naddress = :0\n[smtpd.delivery]\nmaildir = /m\n"
    "[smtpd.auth.oauth]\nissuer = https://i\naudience = a\n"
    "[spamcheck.checker r]\nurl = http://h\n[smtpd.hook h]\nevent = rcpt\ncommand = /bin/true\n";
static const char with_command[] = "[smtpd]\ndomains = a\n[smtpd.listener mx]\naddress = :0\n";

/* Load text and flag (NULL: none); what it prints, without where the values come from, into out. false: it does not load. */
static bool
load(const char *text, size_t size, const char *flag, char *out)
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
	c = config_load(file, env, &flag, flag != NULL, &errors);
	check(!errors.failed && (c != NULL || buf_len(&errors) > 0), "what is refused has a reason", (struct span){ text, size });
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
	static char first[PRINT_MAX], second[PRINT_MAX], flag[8192];
	struct span s = { (const char *)data, size };

	if (text_is(text_sub(s, 0, 3), "-o ")) {
		const char *file = text_is(text_sub(s, 3, 26), "smtpd.delivery.command=") ? with_command : good;

		if (text_copy(flag, sizeof(flag), text_sub(s, 3, size)) == -1 || !load(file, strlen(file), flag, first))
			return 0;
	} else if (!load(s.p, s.len, NULL, first)) {
		return 0;
	}
	check(load(first, strlen(first), NULL, second), "what is printed loads", text_span(second));
	check(strcmp(first, second) == 0, "what is printed prints the same", text_span(second));
	return 0;
}
