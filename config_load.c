/*
 * config_load.c - values on their way into the configuration: where they come from, sections, errors.
 *
 * Every error of a configuration is reported, not the first alone, with the place and with what to write instead.
 */
#include "config_load.h"

struct origin *
key_origin(const struct config *c, const struct key *k, size_t i)
{
	return &c->origins->at[k - config_keys][i];
}

/* Upper case, and what is neither letter nor digit as "_": so a name in a variable's name. */
static void
add_env(struct buf *out, const char *s)
{
	for (; *s != '\0'; s++)
		buf_add_char(out, (char)(!is_alnum(*s) ? '_' : *s >= 'a' && *s <= 'z' ? *s - ('a' - 'A') : *s));
}

const char *
key_env_name(struct buf *out, const struct key *k, const char *name)
{
	buf_reset(out);
	buf_add_str(out, "SMTPD_");
	if (strcmp(k->section, "smtpd") != 0) {
		add_env(out, k->section + (strncmp(k->section, "smtpd.", 6) == 0 ? 6 : 0));
		buf_add_char(out, '_');
	}
	if (*name != '\0') {
		add_env(out, name);
		buf_add_char(out, '_');
	}
	add_env(out, k->name);
	return buf_str(out);
}

/* Sections */

/* Other daemons may read these, too, and have keys of their own there. */
static bool
is_shared(struct span section)
{
	return text_is(section, "server") || text_is(section, "redis") || text_starts(section, "server.") || text_starts(section, "spamcheck");
}

enum section
section_kind(struct span s, const char **known, struct span *name)
{
	struct span word = s = text_trim(s);
	char text[MEANT_MAX + 1];
	unsigned best = 1000;

	for (word.len = 0; word.len < s.len && !is_class(s.p[word.len], C_WSP); word.len++)
		;
	*name = text_trim(text_sub(s, word.len, s.len));
	*known = "smtpd";	/* for a name too long to be compared */
	for (const char *t = section_next(NULL); t != NULL; t = section_next(t)) {
		struct span own = group_find(t) != NULL ? word : s;

		if (text_is(own, t)) {
			*known = t;
			return SEC_OURS;
		}
		if (text_copy(text, sizeof(text), own) == 0 && text_distance(text, t) < best) {
			best = text_distance(text, t);
			*known = t;
		}
	}
	if (is_shared(s))
		return SEC_SHARED;
	if (text_starts_nocase(s, "smtpd"))
		return SEC_UNKNOWN;
	if (best <= 2 && s.len > 1 && (text_lower(s.p[0]) == (*known)[0] ||
	    (text_lower(s.p[0]) == (*known)[1] && text_lower(s.p[1]) == (*known)[0])))
		return SEC_UNKNOWN;
	return SEC_FOREIGN;
}

/* Errors */

/* One line to errors: where, the key (NULL: none), what; what it quotes cannot break the line. */
static void
vcomplain(struct loader *l, bool warning, const struct key *k, size_t i, const char *fmt, va_list ap)
{
	char text[2048];
	struct buf b;

	buf_fixed(&b, text, sizeof(text));
	buf_printf(&b, "%s%s: ", warning ? "warning: " : "", l->where);
	if (k != NULL) {
		const char *name = section_name(l->c, k->section, i);

		buf_printf(&b, "[%s%s%s] %s: ", k->section, *name == '\0' ? "" : " ", name, k->name);
	}
	vsnprintf(text + b.wpos, sizeof(text) - 1 - b.wpos, fmt, ap);
	b.wpos = strlen(text);
	for (size_t at = 0; at < b.wpos; at++)
		if (is_class(text[at], C_CNTRL))
			text[at] = '?';
	text[b.wpos++] = '\n';
	if (!warning)
		l->bad = true;
	if (!l->full && buf_room(l->errors) >= b.wpos + 64) {
		buf_add_span(l->errors, buf_span(&b));
	} else if (!l->full) {
		l->full = true;
		buf_add_str(l->errors, "more than fits here; mend these first\n");
	}
}

static void	warn(struct loader *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void	load_key_error(struct loader *l, const struct key *k, size_t i, const char *fmt, ...) PRINTF_LIKE(4, 5);

void
load_error(struct loader *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vcomplain(l, false, NULL, 0, fmt, ap);
	va_end(ap);
}

static void
load_key_error(struct loader *l, const struct key *k, size_t i, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vcomplain(l, false, k, i, fmt, ap);
	va_end(ap);
}

static void
warn(struct loader *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vcomplain(l, true, NULL, 0, fmt, ap);
	va_end(ap);
}

void
load_at_line(struct loader *l, unsigned line)
{
	l->from = FROM_FILE;
	l->line = line;
	if (line == 0)
		snprintf(l->where, sizeof(l->where), "%.600s", l->file);
	else
		snprintf(l->where, sizeof(l->where), "%.600s:%u", l->file, line);
}

/* From now on errors are of where this key's value came from. */
static void
at_key(struct loader *l, const struct key *k, size_t i)
{
	const struct origin *o = key_origin(l->c, k, i);
	const char *section = section_name(l->c, k->section, i);
	char text[256];
	struct buf name;

	buf_fixed(&name, text, sizeof(text));
	if (o->from == FROM_ENV)
		snprintf(l->where, sizeof(l->where), "environment %s", key_env_name(&name, k, section));
	else if (o->from == FROM_FLAG)
		snprintf(l->where, sizeof(l->where), "flag -o %s%s%s.%s", k->section, *section == '\0' ? "" : ".", section, k->name);
	else
		load_at_line(l, o->from == FROM_FILE ? o->line : 0);
}

bool
key_is_bad(const struct config *c, const struct key *k, size_t i)
{
	return key_origin(c, k, i)->bad;
}

bool
key_is_given(const struct config *c, const struct key *k, size_t i)
{
	return key_origin(c, k, i)->from != FROM_DEFAULT;
}

void
key_error(struct loader *l, const struct key *k, size_t i, const char *fmt, ...)
{
	va_list ap;

	at_key(l, k, i);
	va_start(ap, fmt);
	vcomplain(l, false, k, i, fmt, ap);
	va_end(ap);
}

void
key_warning(struct loader *l, const struct key *k, size_t i, const char *fmt, ...)
{
	va_list ap;

	at_key(l, k, i);
	va_start(ap, fmt);
	vcomplain(l, true, k, i, fmt, ap);
	va_end(ap);
}

void
config_error(struct loader *l, const char *fmt, ...)
{
	va_list ap;

	load_at_line(l, 0);
	va_start(ap, fmt);
	vcomplain(l, false, NULL, 0, fmt, ap);
	va_end(ap);
}

/* Values */

const char *
load_bad_octets(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (is_class(s.p[i], C_CNTRL) && s.p[i] != '\t')
			return s.p[i] == '\0' ? "has a NUL octet; remove it" : "has a control character; remove it";
	return text_is_utf8(s) ? NULL : "is not UTF-8 (Latin-1?); save it as UTF-8";
}

void
load_value(struct loader *l, const struct key *k, size_t i, struct span value)
{
	struct origin *o = key_origin(l->c, k, i);
	void *field = key_field(l->c, k, i);
	char reason[640], printed[CONFIG_VALUE_MAX];
	struct buf why, out;
	const char *octets = load_bad_octets(value);
	struct span shown = k->type == &type_secret ? SPAN("****") : value;

	if (l->from == FROM_FILE && o->from == FROM_FILE) {
		load_key_error(l, k, i, "'%.*s': the key is given twice, first in line %u; keep one", ARG(shown), o->line);
		return;
	}
	*o = (struct origin){ .from = l->from, .line = l->line, .bad = true };
	buf_fixed(&why, reason, sizeof(reason));
	buf_fixed(&out, printed, sizeof(printed));
	if (octets != NULL) {
		load_key_error(l, k, i, "'%.*s' %s", ARG(shown), octets);
	} else if (!k->type->parse(k, text_trim(value), field, &why)) {
		load_key_error(l, k, i, "%.*s", (int)buf_len(&why), reason);
	} else {
		k->type->print(k, field, &out);
		o->bad = out.failed;
		if (out.failed)
			load_key_error(l, k, i, "'%.*s...' is longer than %d octets; shorten it", ARG(value), CONFIG_VALUE_MAX);
	}
}

void
load_defaults(struct loader *l, const struct group *g, size_t i)
{
	enum from from = l->from;

	l->from = FROM_DEFAULT;
	for (const struct key *k = config_keys; k < config_keys + config_keys_n; k++)
		if (group_find(k->section) == g)
			load_value(l, k, i, text_span(k->dflt));
	l->from = from;
}

size_t
load_element(struct loader *l, const struct group *g, struct span name)
{
	size_t *n = group_n(l->c, g);
	char text[CONFIG_NAME_MAX + 1], a[64], b[64];
	struct buf env, other;
	bool ok = text_copy(text, sizeof(text), name) == 0;

	if (name.len == 0 && g->example != NULL) {
		load_error(l, "[%s]: the %s has no name; write [%s %s]", g->section, g->what, g->section, g->example);
		return SIZE_MAX;
	}
	for (size_t i = 0; ok && i < name.len; i++)
		ok = is_alnum(name.p[i]) || name.p[i] == '-' || name.p[i] == '_';
	if (!ok) {
		load_error(l, "[%s %.*s]: '%.*s' is no name; write at most %d letters, digits, - and _", g->section, ARG(name), ARG(name),
		    CONFIG_NAME_MAX);
		return SIZE_MAX;
	}
	for (size_t i = 0; i < *n; i++) {
		if (strcmp(group_element(l->c, g, i), text) == 0)
			return i;
		buf_fixed(&env, a, sizeof(a));
		buf_fixed(&other, b, sizeof(b));
		add_env(&env, text);
		add_env(&other, group_element(l->c, g, i));
		if (!text_eq(buf_span(&env), buf_span(&other)))
			continue;
		if (l->from == FROM_ENV)
			return i;
		load_error(l, "[%s %s]: '%s' and '%s' are the same in a variable's name; rename one", g->section, text, text,
		    group_element(l->c, g, i));
		return SIZE_MAX;
	}
	if (*n == g->max) {
		load_error(l, "[%s%s%s]: '%s' is one %s too many; at most %zu are possible", g->section, *text == '\0' ? "" : " ", text,
		    text, g->what, g->max);
		return SIZE_MAX;
	}
	memcpy(group_element(l->c, g, *n), text, sizeof(text));
	load_defaults(l, g, (*n)++);
	return *n - 1;
}

void
load_unknown(struct loader *l, const char *section, size_t i, struct span name)
{
	char text[MEANT_MAX + 1], all[512], full[80];
	const struct key *near = NULL, *elsewhere = NULL;
	const char *own = section_name(l->c, section, i);
	struct buf list;

	snprintf(full, sizeof(full), "%s%s%s", section, *own == '\0' ? "" : " ", own);
	buf_fixed(&list, all, sizeof(all));
	if (text_copy(text, sizeof(text), name) == -1)
		text[0] = '\0';
	for (const struct key *k = config_keys; k < config_keys + config_keys_n; k++) {
		if (strcmp(k->section, section) == 0) {
			buf_printf(&list, "%s%s", buf_len(&list) == 0 ? "" : ", ", k->name);
			if (near == NULL || text_distance(text, k->name) < text_distance(text, near->name))
				near = k;
		} else if (strcmp(k->name, text) == 0) {
			elsewhere = k;
		}
	}
	unsigned distance = text_distance(text, near->name);
	if (is_shared(text_span(section)) && l->from == FROM_FILE) {	/* a slip is worth a word, another daemon's key is not */
		if (distance <= 2)
			warn(l, "[%s] %s: '%.*s' is not read by smtpd; did you mean %s?", full, near->name, ARG(name), near->name);
	} else if (elsewhere != NULL && distance > 2) {
		load_error(l, "[%s] %.*s: unknown key '%.*s'; did you mean [%s%s] %s?", full, ARG(name), ARG(name),
		    elsewhere->section, group_find(elsewhere->section) != NULL ? " NAME" : "", elsewhere->name);
	} else if (distance <= 3) {
		load_error(l, "[%s] %.*s: unknown key '%.*s'; did you mean %s?", full, ARG(name), ARG(name), near->name);
	} else {
		load_error(l, "[%s] %.*s: unknown key '%.*s'; there are %.*s", full, ARG(name), ARG(name), (int)buf_len(&list), all);
	}
}

void
load_section_of(struct loader *l, const char *section, struct span name)
{
	const struct group *g = group_find(section);

	l->section = SEC_OURS;
	l->known = section;
	l->i = g == NULL ? 0 : load_element(l, g, name);
	if (l->i == SIZE_MAX)
		l->section = SEC_UNKNOWN;	/* reported, with its keys */
}

void
load_section(struct loader *l, struct span s)
{
	struct span name, word = text_trim(s);
	const char *suffix;
	char text[MEANT_MAX + 1];

	l->section = section_kind(s, &l->known, &name);
	suffix = group_find(l->known) != NULL ? " NAME" : "";
	if (*suffix != '\0')
		word = text_trim(text_sub(word, 0, word.len - name.len));
	if (l->section == SEC_OURS)
		load_section_of(l, l->known, name);
	else if (l->section == SEC_UNKNOWN)
		load_error(l, "[%.*s]: unknown section '%.*s'; did you mean [%s%s]?", ARG(s), ARG(s), l->known, suffix);
	else if (l->section == SEC_SHARED && l->from == FROM_FILE && text_copy(text, sizeof(text), word) == 0 &&
	    text_distance(text, l->known) <= 2)
		warn(l, "[%.*s] is not read by smtpd; did you mean [%s%s]?", ARG(s), l->known, suffix);
}
