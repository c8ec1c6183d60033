/*
 * config_print.c - the configuration as text: with every value's origin (smtpd -T), and as a sample (smtpd -S).
 */
#include "config_load.h"

/* "; default", "; file:line", ... */
static void
print_origin(const struct config *c, const struct key *k, size_t i, struct buf *out)
{
	const struct origin *o = key_origin(c, k, i);
	char text[256];
	struct buf name;

	switch (o->from) {
	case FROM_DEFAULT:
		buf_add_str(out, "default");
		break;
	case FROM_FILE:
		for (const char *p = c->origins->file; *p != '\0' && p < c->origins->file + 600; p++)
			buf_add_char(out, (char)(is_vchar(*p) || *p == ' ' ? *p : '?'));
		buf_printf(out, ":%u", o->line);
		break;
	case FROM_ENV:
		buf_fixed(&name, text, sizeof(text));
		buf_printf(out, "environment %s", key_env_name(&name, k, section_name(c, k->section, i)));
		break;
	case FROM_FLAG:
		buf_add_str(out, "flag");
		break;
	}
}

static void
print_section(const struct config *c, const char *section, size_t i, FILE *f)
{
	char value[CONFIG_VALUE_MAX + 1], origin[1024];
	const char *name = section_name(c, section, i);
	struct buf v, o;

	fprintf(f, "[%s%s%s]\n", section, *name == '\0' ? "" : " ", name);
	for (const struct key *k = config_keys; k < config_keys + config_keys_n; k++) {
		if (strcmp(k->section, section) != 0)
			continue;
		buf_fixed(&v, value, sizeof(value));
		buf_fixed(&o, origin, sizeof(origin));
		if (k->type != &type_secret || **(char *const *)key_field(c, k + 1, i) == '\0')	/* else its file is what is printed */
			k->type->print(k, key_field(c, k, i), &v);
		print_origin(c, k, i, &o);
		fprintf(f, "%-21s = %-30s ; %s\n", k->name, buf_str(&v), buf_str(&o));
	}
	putc('\n', f);
}

int
config_print(const struct config *c, FILE *f)
{
	for (const char *s = section_next(NULL); s != NULL; s = section_next(s))
		for (size_t i = 0; i < section_count(c, s); i++)
			print_section(c, s, i, f);
	return fflush(f) == EOF || ferror(f) ? -1 : 0;
}

/* "[section NAME]"; commented out where all its keys are, for it would be an element with nothing but defaults. */
static void
print_sample_title(const char *section, FILE *f)
{
	const struct group *g = group_find(section);
	const char *example = g == NULL || g->example == NULL ? "" : g->example;
	bool in_use = g == NULL;

	for (const struct key *k = config_keys; k < config_keys + config_keys_n; k++)
		in_use = in_use || (strcmp(k->section, section) == 0 && k->sample != NULL && *k->sample != '#');
	fprintf(f, "\n%s[%s%s%s]\n", in_use ? "" : "#", section, *example == '\0' ? "" : " ", example);
}

int
config_print_sample(FILE *f)
{
	char text[256];
	struct buf b;

	fputs("# smtpd.conf - every key of smtpd(8); see smtpd.conf(5). What is commented out stands at its default, or is an example.\n"
	    "# A ; after a blank begins a comment. Sizes take k m g, times ms s m h d.\n", f);
	for (const char *s = section_next(NULL); s != NULL; s = section_next(s)) {
		print_sample_title(s, f);
		for (const struct key *k = config_keys; k < config_keys + config_keys_n; k++) {
			if (strcmp(k->section, s) != 0)
				continue;
			buf_fixed(&b, text, sizeof(text));
			for (size_t i = 0; k->choices != NULL && k->choices[i] != NULL; i++)
				if (*k->choices[i] != '\0')
					buf_printf(&b, "%s%s", buf_len(&b) == 0 ? " One of " : ", ", k->choices[i]);
			if (k->choices != NULL)
				buf_add_char(&b, '.');
			fprintf(f, "# %s%s\n", k->help, buf_str(&b));
			if (k->sample == NULL)
				fprintf(f, "#%s = %s\n", k->name, k->dflt);
			else
				fprintf(f, "%s%s = %s\n", *k->sample == '#' ? "#" : "", k->name, k->sample + (*k->sample == '#'));
		}
	}
	return fflush(f) == EOF || ferror(f) ? -1 : 0;
}
