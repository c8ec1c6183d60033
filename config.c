/*
 * config.c - the configuration: the file, the environment and the flags read into one structure, by the table of config_keys.c.
 *
 * Here are the environment and the flags; config_file.c has the file, config_load.c what is done with a value from anywhere,
 * config_check.c what depends on two of them, config_print.c the way back.
 */
#include "config_check.h"
#include "config_file.h"

#include <stdlib.h>

/* The key of a variable, and the NAME in it; NULL: it is none. The table is such that there is one at most (a test sees to that). */
static const struct key *
env_key(struct span var, struct span *name)
{
	char text[256];
	struct buf b;

	buf_fixed(&b, text, sizeof(text));
	for (const struct key *k = config_keys; k < config_keys + config_keys_n; k++) {
		const struct group *g = group_find(k->section);
		size_t n = strlen(k->name) + 1, head;

		(void)key_env_name(&b, k, "");	/* SECTION_KEY */
		*name = SPAN("");
		if ((g == NULL || g->example == NULL) && text_eq(var, buf_span(&b)))
			return k;
		head = buf_len(&b) - n + 1;	/* SECTION_; then NAME; then _KEY, n octets */
		*name = text_sub(var, head, var.len - n);
		if (g != NULL && var.len > head + n && text_eq(text_sub(var, 0, head), text_sub(buf_span(&b), 0, head)) &&
		    text_eq(text_sub(var, var.len - n, var.len), text_sub(buf_span(&b), head - 1, head - 1 + n)))
			return k;
	}
	return NULL;
}

static void
complain_variable(struct loader *l, struct span var)
{
	char text[MEANT_MAX + 1], name[256], nearest[256] = "";
	struct buf b;
	unsigned best = 1000;

	buf_fixed(&b, name, sizeof(name));
	if (text_copy(text, sizeof(text), var) == -1)
		text[0] = '\0';
	for (const struct key *k = config_keys; k < config_keys + config_keys_n; k++) {
		const struct group *g = group_find(k->section);
		const char *n = key_env_name(&b, k, g == NULL || g->example == NULL ? "" : "NAME");

		if (text_distance(text, n) < best) {
			best = text_distance(text, n);
			text_copy(nearest, sizeof(nearest), text_span(n));
		}
	}
	if (text_starts(var, "SMTPD_SERVICE_") || text_starts(var, "SMTPD_PORT"))
		load_error(l, "unknown variable '%.*s'; if Kubernetes set it for a service named smtpd, set enableServiceLinks: false in the pod",
		    ARG(var));
	else
		load_error(l, "unknown variable '%.*s'; did you mean %s?", ARG(var), nearest);
}

static void
load_environment(struct loader *l)
{
	char text[256], lower[CONFIG_NAME_MAX + 2];
	struct buf b;

	buf_fixed(&b, text, sizeof(text));
	for (char *const *e = l->environ; e != NULL && *e != NULL; e++) {
		struct span whole = text_span(*e), var, name;
		const struct group *g;
		const struct key *k;
		size_t i = 0, n = 0;

		if (!text_starts(whole, "SMTPD_") || text_find(whole, '=') == SIZE_MAX)
			continue;
		var = text_sub(whole, 0, text_find(whole, '='));
		l->from = FROM_ENV;
		l->line = 0;
		snprintf(l->where, sizeof(l->where), "environment %.*s", ARG(var));
		k = env_key(var, &name);
		if (k != NULL && (g = group_find(k->section)) != NULL) {
			for (; n < name.len && n < sizeof(lower); n++)
				lower[n] = text_lower(name.p[n]);
			if ((i = load_element(l, g, (struct span){ lower, n })) == SIZE_MAX)
				continue;
			if (!text_is(var, key_env_name(&b, k, group_element(l->c, g, i))))	/* lower case in it */
				k = NULL;
		}
		if (k == NULL)
			complain_variable(l, var);
		else
			load_value(l, k, i, text_sub(whole, var.len + 1, whole.len));
	}
}

/* The group of "section.NAME", as flags write it; NULL: none. */
static const struct group *
flag_group(struct span section, struct span *name)
{
	for (const struct group *g = config_groups; g < config_groups + config_groups_n; g++) {
		size_t n = strlen(g->section);

		if (section.len > n && text_starts(section, g->section) && section.p[n] == '.') {
			*name = text_sub(section, n + 1, section.len);
			return g;
		}
	}
	return NULL;
}

/* -o section.key=value; [smtpd.listener mx] address is smtpd.listener.mx.address, or with the blank as in the file. */
static void
load_flag(struct loader *l, const char *flag)
{
	struct span whole = text_span(flag), section, key, name;
	size_t equals = text_find(whole, '='), dot;
	char text[MEANT_MAX + 1];
	const struct key *k = NULL;

	snprintf(l->where, sizeof(l->where), "flag -o %.100s", flag);
	l->from = FROM_FLAG;
	l->line = 0;
	dot = equals == SIZE_MAX ? 0 : equals;
	while (dot > 0 && flag[dot] != '.')
		dot--;
	if (dot == 0) {
		load_error(l, "'%.100s' is no section.key=value; write such as smtpd.log_level=debug", flag);
		return;
	}
	snprintf(l->where, sizeof(l->where), "flag -o %.*s", ARG(text_sub(whole, 0, equals)));
	section = text_sub(whole, 0, dot);
	key = text_trim(text_sub(whole, dot + 1, equals));
	const struct group *g = flag_group(section, &name);
	if (g != NULL)
		load_section_of(l, g->section, name);
	else
		load_section(l, section);
	if (l->section == SEC_UNKNOWN)
		return;
	if (l->section != SEC_OURS) {
		load_error(l, "unknown section '%.*s'; did you mean %s?", ARG(section), l->known);
		return;
	}
	if (text_copy(text, sizeof(text), key) == 0)
		k = key_find(l->known, text);
	if (k != NULL)
		load_value(l, k, l->i, text_sub(whole, equals + 1, whole.len));
	else
		load_unknown(l, l->known, l->i, key);
}

const char *
config_default_domain(const struct config *c)
{
	return c->domains.n == 0 ? c->hostname : c->domains.v[0];
}

bool
config_wants_names(const struct config *c)
{
	return c->client_names && (c->checkers_n > 0 || c->milters_n > 0);
}

bool
config_is_ours(const struct config *c, const char *domain)
{
	for (size_t i = 0; i < c->domains.n; i++)
		if (strcmp(c->domains.v[i], domain) == 0)
			return true;
	return false;
}

struct config *
config_load(const char *file, char *const *env, const char *const *flags, size_t flags_n, struct buf *errors)
{
	struct loader l = { .errors = errors, .file = file == NULL ? "smtpd" : file, .environ = env };

	l.c = calloc(1, sizeof(*l.c));
	if (l.c == NULL || (l.c->origins = calloc(1, sizeof(*l.c->origins) + config_keys_n * sizeof(l.c->origins->at[0]))) == NULL ||
	    (file != NULL && (l.c->origins->file = strdup(file)) == NULL)) {
		buf_add_str(errors, "smtpd: out of memory\n");
		config_free(l.c);
		return NULL;
	}
	load_at_line(&l, 0);
	load_defaults(&l, NULL, 0);
	if (file != NULL)
		config_file_load(&l, file);
	load_environment(&l);
	for (size_t i = 0; i < flags_n; i++)
		load_flag(&l, flags[i]);
	config_check(&l);
	if (!l.bad)
		return l.c;
	config_free(l.c);
	return NULL;
}

void
config_free(struct config *c)
{
	if (c == NULL)
		return;
	for (const struct key *k = config_keys; k < config_keys + config_keys_n; k++)
		for (size_t i = 0; k->type->clear != NULL && i < section_count(c, k->section); i++)
			k->type->clear(key_field(c, k, i));
	if (c->origins != NULL)
		free(c->origins->file);
	free(c->origins);
	free(c);
}

void
config_forget_secrets(struct config *c)
{
	for (const struct key *k = config_keys; k < config_keys + config_keys_n; k++)
		for (size_t i = 0; k->type == &type_secret && i < section_count(c, k->section); i++) {
			char *const *secret = key_field(c, k, i);

			explicit_bzero(*secret, strlen(*secret));
		}
}
