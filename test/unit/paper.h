/*
 * paper.h - what stands beside the program, for tests that hold it to what the program does. They are run from the top folder.
 */
#ifndef PAPER_H
#define PAPER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define PAPER_MAX (256 * 1024)

/* The file, whole, as a string of at most PAPER_MAX octets. */
static inline void
read_paper(const char *name, char *out)
{
	FILE *f = fopen(name, "rb");
	size_t n;

	print_message("%s\n", name);
	assert_non_null(f);
	n = fread(out, 1, PAPER_MAX - 1, f);
	out[n] = '\0';
	assert_int_equal(fclose(f), 0);
}

/* What stands below a heading of smtpd.conf(5), such as ".Sh METRICS", up to the next one: on one line, with a blank at both ends. */
static inline const char *
manual_part(const char *heading)
{
	static char manual[PAPER_MAX];
	static const char *const ends[] = { "\n.Sh ", "\n.Ss " };
	char want[128], *at, *end;

	read_paper("doc/smtpd.conf.5", manual);
	(void)snprintf(want, sizeof(want), "\n%s\n", heading);
	at = strstr(manual, want);
	assert_non_null(at);
	at += strlen(want) - 1;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if ((end = strstr(at, ends[i])) != NULL)
			end[1] = '\0';
	for (char *p = at; *p != '\0'; p++)
		if (*p == '\n')
			*p = ' ';
	return at;
}

#endif
