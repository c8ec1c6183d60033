/*
 * config.c - the configuration: the file, the environment and the flags read into one structure, by the table of config_keys.c.
 *
 * inih parses; what it lets pass is seen to before (clean_text): it cuts over-long lines and section names and hands them on,
 * ends at a NUL, skips what follows a "]" and reports only the first line that it cannot read. It gets our sections only, and
 * of those only lines that are whole. Every error of a configuration is reported, not the first alone.
 */
#include "config_check.h"

#define INI_HANDLER_LINENO 1	/* as the library is built; the handler's type depends on it */
#include <ini.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define TEXT_LINE_MAX 8000	/* octets of a line; inih has room for 8190 */

struct origin {
	enum from	from;
	unsigned	line;
	bool		bad;	/* reported already, so what depends on it is not checked */
};

struct config_origins {
	char		*file;	/* owned; NULL: none */
	struct origin	 at[][GROUP_MAX];	/* one row for each of config_keys */
};

static struct origin *
origin_of(const struct config *c, const struct key *k, size_t i)
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

/* The variable of a key: [smtpd.limits] max_errors is SMTPD_LIMITS_MAX_ERRORS. name: its section's NAME, or "". */
static const char *
env_name(struct buf *out, const struct key *k, const char *name)
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

static bool
starts(struct span s, const char *prefix)
{
	return text_is(text_sub(s, 0, strlen(prefix)), prefix);
}

/* Other daemons may read these, too, and have keys of their own there. */
static bool
is_shared(struct span section)
{
	return text_is(section, "server") || text_is(section, "redis") || starts(section, "server.") || starts(section, "spamcheck");
}

/*
 * Whose a section is. *known is the table's name of it, or the nearest one of another; *name is what follows a group's word.
 * A near miss begins with the same letter, or its first two are swapped: [imapd] is another daemon's.
 */
static enum section
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

/* Loading */

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

static void	complain(struct loader *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void	complain_key(struct loader *l, const struct key *k, size_t i, const char *fmt, ...) PRINTF_LIKE(4, 5);
static void	warn(struct loader *l, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void
complain(struct loader *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vcomplain(l, false, NULL, 0, fmt, ap);
	va_end(ap);
}

static void
complain_key(struct loader *l, const struct key *k, size_t i, const char *fmt, ...)
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

/* From now on errors are of this line; 0: of the whole file. */
static void
at_line(struct loader *l, unsigned line)
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
	const struct origin *o = origin_of(l->c, k, i);
	const char *section = section_name(l->c, k->section, i);
	char text[256];
	struct buf name;

	buf_fixed(&name, text, sizeof(text));
	if (o->from == FROM_ENV)
		snprintf(l->where, sizeof(l->where), "environment %s", env_name(&name, k, section));
	else if (o->from == FROM_FLAG)
		snprintf(l->where, sizeof(l->where), "flag -o %s%s%s.%s", k->section, *section == '\0' ? "" : ".", section, k->name);
	else
		at_line(l, o->from == FROM_FILE ? o->line : 0);
}

bool
key_is_bad(const struct config *c, const struct key *k, size_t i)
{
	return origin_of(c, k, i)->bad;
}

bool
key_is_given(const struct config *c, const struct key *k, size_t i)
{
	return origin_of(c, k, i)->from != FROM_DEFAULT;
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

	at_line(l, 0);
	va_start(ap, fmt);
	vcomplain(l, false, NULL, 0, fmt, ap);
	va_end(ap);
}

/* Octets that a value may have wherever it comes from, so that it can be written in a file: printable, tab, UTF-8. */
static const char *
bad_octets(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (is_class(s.p[i], C_CNTRL) && s.p[i] != '\t')
			return s.p[i] == '\0' ? "has a NUL octet; remove it" : "has a control character; remove it";
	return text_is_utf8(s) ? NULL : "is not UTF-8 (Latin-1?); save it as UTF-8";
}

static void
set_value(struct loader *l, const struct key *k, size_t i, struct span value)
{
	struct origin *o = origin_of(l->c, k, i);
	void *field = key_field(l->c, k, i);
	char reason[640], printed[CONFIG_VALUE_MAX];
	struct buf why, out;
	const char *octets = bad_octets(value);
	struct span shown = k->type == &type_secret ? SPAN("****") : value;

	if (l->from == FROM_FILE && o->from == FROM_FILE) {
		complain_key(l, k, i, "'%.*s': the key is given twice, first in line %u; keep one", ARG(shown), o->line);
		return;
	}
	*o = (struct origin){ .from = l->from, .line = l->line, .bad = true };
	buf_fixed(&why, reason, sizeof(reason));
	buf_fixed(&out, printed, sizeof(printed));
	if (octets != NULL) {
		complain_key(l, k, i, "'%.*s' %s", ARG(shown), octets);
	} else if (!k->type->parse(k, text_trim(value), field, &why)) {
		complain_key(l, k, i, "%.*s", (int)buf_len(&why), reason);
	} else {
		k->type->print(k, field, &out);
		o->bad = out.failed;
		if (out.failed)
			complain_key(l, k, i, "'%.*s...' is longer than %d octets; shorten it", ARG(value), CONFIG_VALUE_MAX);
	}
}

/* Of element i of a group, or with NULL of all that is in none. */
static void
set_defaults(struct loader *l, const struct group *g, size_t i)
{
	enum from from = l->from;

	l->from = FROM_DEFAULT;
	for (const struct key *k = config_keys; k < config_keys + config_keys_n; k++)
		if (group_find(k->section) == g)
			set_value(l, k, i, text_span(k->dflt));
	l->from = from;
}

/* Which element of the group has this name, one being made if there is none; SIZE_MAX: reported. */
static size_t
element_named(struct loader *l, const struct group *g, struct span name)
{
	size_t *n = group_n(l->c, g);
	char text[CONFIG_NAME_MAX + 1], a[64], b[64];
	struct buf env, other;
	bool ok = text_copy(text, sizeof(text), name) == 0;

	if (name.len == 0 && g->example != NULL) {
		complain(l, "[%s]: the %s has no name; write [%s %s]", g->section, g->what, g->section, g->example);
		return SIZE_MAX;
	}
	for (size_t i = 0; ok && i < name.len; i++)
		ok = is_alnum(name.p[i]) || name.p[i] == '-' || name.p[i] == '_';
	if (!ok) {
		complain(l, "[%s %.*s]: '%.*s' is no name; write at most %d letters, digits, - and _", g->section, ARG(name), ARG(name),
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
		complain(l, "[%s %s]: '%s' and '%s' are the same in a variable's name; rename one", g->section, text, text,
		    group_element(l->c, g, i));
		return SIZE_MAX;
	}
	if (*n == g->max) {
		complain(l, "[%s%s%s]: '%s' is one %s too many; at most %zu are possible", g->section, *text == '\0' ? "" : " ", text,
		    text, g->what, g->max);
		return SIZE_MAX;
	}
	memcpy(group_element(l->c, g, *n), text, sizeof(text));
	set_defaults(l, g, (*n)++);
	return *n - 1;
}

/* An unknown key of our section, element i of it: what to write instead. */
static void
complain_unknown(struct loader *l, const char *section, size_t i, struct span name)
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
		complain(l, "[%s] %.*s: unknown key '%.*s'; did you mean [%s%s] %s?", full, ARG(name), ARG(name),
		    elsewhere->section, group_find(elsewhere->section) != NULL ? " NAME" : "", elsewhere->name);
	} else if (distance <= 3) {
		complain(l, "[%s] %.*s: unknown key '%.*s'; did you mean %s?", full, ARG(name), ARG(name), near->name);
	} else {
		complain(l, "[%s] %.*s: unknown key '%.*s'; there are %.*s", full, ARG(name), ARG(name), (int)buf_len(&list), all);
	}
}

/* Keys to come are of this section of the table, and of the element with this name where it is a group's. */
static void
section_open(struct loader *l, const char *section, struct span name)
{
	const struct group *g = group_find(section);

	l->section = SEC_OURS;
	l->known = section;
	l->i = g == NULL ? 0 : element_named(l, g, name);
	if (l->i == SIZE_MAX)
		l->section = SEC_UNKNOWN;	/* reported, with its keys */
}

static void
section_enter(struct loader *l, struct span s)
{
	struct span name, word = text_trim(s);
	const char *suffix;
	char text[MEANT_MAX + 1];

	l->section = section_kind(s, &l->known, &name);
	suffix = group_find(l->known) != NULL ? " NAME" : "";
	if (*suffix != '\0')
		word = text_trim(text_sub(word, 0, word.len - name.len));
	if (l->section == SEC_OURS)
		section_open(l, l->known, name);
	else if (l->section == SEC_UNKNOWN)
		complain(l, "[%.*s]: unknown section '%.*s'; did you mean [%s%s]?", ARG(s), ARG(s), l->known, suffix);
	else if (l->section == SEC_SHARED && l->from == FROM_FILE && text_copy(text, sizeof(text), word) == 0 &&
	    text_distance(text, l->known) <= 2)
		warn(l, "[%.*s] is not read by smtpd; did you mean [%s%s]?", ARG(s), l->known, suffix);
}

/* inih: name NULL is a new section, 1 is success. */
static int
on_ini(void *user, const char *section, const char *name, const char *value, int lineno)
{
	struct loader *l = user;
	const struct key *k;

	at_line(l, (unsigned)lineno);
	if (name == NULL) {
		section_enter(l, text_span(section));
	} else if (l->section == SEC_OURS) {
		k = key_find(l->known, name);
		if (k == NULL)
			complain_unknown(l, l->known, l->i, text_span(name));
		else
			set_value(l, k, l->i, text_span(value));
	}
	return 1;
}

/* Where s has one of c, or ends, or a comment begins as inih sees it: a ";" after a blank. */
static size_t
find_before_comment(struct span s, const char *c)
{
	size_t i;

	for (i = 0; i < s.len && strchr(c, s.p[i]) == NULL; i++)
		if (i > 0 && s.p[i] == ';' && is_class(s.p[i - 1], C_WSP))
			return s.len;
	return i;
}

/* What errors may show of a line: not what follows the name of a secret. */
static struct span
line_shown(struct span line)
{
	struct span s = text_trim(line);

	for (const struct key *k = config_keys; k < config_keys + config_keys_n; k++) {
		size_t n = strlen(k->name);

		if (k->type == &type_secret && starts(s, k->name) && (s.len == n || (!is_alnum(s.p[n]) && s.p[n] != '_')))
			return text_sub(s, 0, n);
	}
	return line;
}

/*
 * One line, without its line end: what is wrong with it is reported. Whether inih is to see it: it is whole, and of a section
 * whose keys we read. *section is the one it is in.
 */
static bool
line_is_wanted(struct loader *l, struct span line, enum section *section)
{
	struct span s = text_trim(line), shown = line_shown(line), name, rest;
	const char *octets, *known;
	size_t end;

	if (line.len > TEXT_LINE_MAX) {
		complain(l, "'%.*s...': the line has %zu octets; at most %d are read", ARG(text_sub(shown, 0, 40)), line.len, TEXT_LINE_MAX);
		return false;
	}
	if ((octets = bad_octets(line)) != NULL) {
		complain(l, "the line '%.*s' %s", ARG(shown), octets);
		return false;
	}
	if (s.len == 0 || *s.p == ';' || *s.p == '#')
		return false;
	if (*s.p == '[') {
		end = find_before_comment(text_sub(s, 1, s.len), "]") + 1;
		*section = SEC_UNKNOWN;	/* whose the next lines are is not known */
		if (end >= s.len) {
			complain(l, "'%.*s' has no ]; write [section]", ARG(s));
			return false;
		}
		*section = section_kind(text_sub(s, 1, end), &known, &name);
		rest = text_trim(text_sub(s, end + 1, s.len));
		if (*section != SEC_FOREIGN && rest.len > 0 && *rest.p != ';' && *rest.p != '#')
			complain(l, "'%.*s' follows the section's name; give it a line of its own", ARG(line_shown(rest)));
		if (*section != SEC_FOREIGN && s.p != line.p)
			complain(l, "'%.*s' is indented; begin it in the first column", ARG(s));
		return true;
	}
	shown = line_shown(s);
	if (*section == SEC_NONE)
		complain(l, "'%.*s' stands before the first section; write one above it, such as [smtpd]", ARG(shown));
	if (*section != SEC_OURS)
		return false;
	end = find_before_comment(s, "=:");
	if (end == s.len || end == 0) {
		complain(l, "'%.*s' is no key with a value; write key = value", ARG(shown));
		return false;
	}
	if (s.p != line.p)	/* elsewhere it would go on with the value above */
		complain(l, "'%.*s' is indented; begin each key in the first column, and give each value in one line", ARG(shown));
	return s.p == line.p;
}

/* What inih is to see of text, with the same line numbers. */
static void
clean_text(struct loader *l, struct span text, struct buf *out)
{
	enum section section = SEC_NONE;
	unsigned line = 0, crlf = 0;
	const char *p = text.p, *end = text.p + text.len;

	at_line(l, 1);
	if (starts(text, "\xef\xbb\xbf")) {
		complain(l, "the file begins with a byte order mark; save it as UTF-8 without one");
		p += 3;
	}
	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		struct span s = { p, (size_t)((lf == NULL ? end : lf) - p) };

		at_line(l, ++line);
		p += s.len + 1;
		if (s.len > 0 && s.p[s.len - 1] == '\r') {
			s.len--;
			if (crlf++ == 0)
				complain(l, "the line ends in CR LF; save the file with LF line ends (sed -i 's/\\r$//')");
		}
		if (line_is_wanted(l, s, &section))
			buf_add_span(out, s);
		buf_add_char(out, '\n');
		if (lf == NULL)
			break;
	}
}

/* The whole file into b, at most CONFIG_FILE_MAX octets; 0, or -1 with errno. */
static int
read_file(const char *file, struct buf *b)
{
	char chunk[16384];
	int fd = open(file, O_RDONLY | O_CLOEXEC), e;
	ssize_t n;

	if (fd == -1)
		return -1;
	do {
		n = read(fd, chunk, sizeof(chunk));
		if (n > 0 && buf_add(b, chunk, (size_t)n) == -1) {
			errno = EFBIG;
			n = -1;
			break;
		}
	} while (n > 0 || (n == -1 && errno == EINTR));
	e = errno;
	explicit_bzero(chunk, sizeof(chunk));	/* there may be secrets in it */
	close(fd);
	errno = e;
	return n == 0 ? 0 : -1;
}

static void
load_file(struct loader *l, const char *file)
{
	struct buf raw, clean;
	char *memory = malloc(2 * CONFIG_FILE_MAX + 2);	/* whole, so that no copy of a secret stays behind when it grows */
	int line;

	at_line(l, 0);
	if (memory == NULL) {
		complain(l, "out of memory");
		return;
	}
	buf_fixed(&raw, memory, CONFIG_FILE_MAX);
	buf_fixed(&clean, memory + CONFIG_FILE_MAX, CONFIG_FILE_MAX + 2);
	if (read_file(file, &raw) == -1) {
		if (errno == EFBIG)
			complain(l, "the file has more than %d octets; is it a configuration?", CONFIG_FILE_MAX);
		else
			complain(l, "the file cannot be read: %s; name another with -c", strerror(errno));
	} else if (buf_len(&raw) > 0) {
		clean_text(l, buf_span(&raw), &clean);
		l->section = SEC_NONE;
		if (buf_str(&clean) == NULL) {
			complain(l, "out of memory");
		} else if ((line = ini_parse_string(clean.data, on_ini, l)) != 0) {
			at_line(l, line > 0 ? (unsigned)line : 0);
			complain(l, "the line cannot be read; write key = value");
		}
	}
	explicit_bzero(raw.data, raw.wpos);
	explicit_bzero(clean.data, clean.wpos);
	free(memory);
}

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

		(void)env_name(&b, k, "");	/* SECTION_KEY */
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
		const char *n = env_name(&b, k, g == NULL || g->example == NULL ? "" : "NAME");

		if (text_distance(text, n) < best) {
			best = text_distance(text, n);
			text_copy(nearest, sizeof(nearest), text_span(n));
		}
	}
	if (starts(var, "SMTPD_SERVICE_") || starts(var, "SMTPD_PORT"))
		complain(l, "unknown variable '%.*s'; if Kubernetes set it for a service named smtpd, set enableServiceLinks: false in the pod",
		    ARG(var));
	else
		complain(l, "unknown variable '%.*s'; did you mean %s?", ARG(var), nearest);
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

		if (!starts(whole, "SMTPD_") || text_find(whole, '=') == SIZE_MAX)
			continue;
		var = text_sub(whole, 0, text_find(whole, '='));
		l->from = FROM_ENV;
		l->line = 0;
		snprintf(l->where, sizeof(l->where), "environment %.*s", ARG(var));
		k = env_key(var, &name);
		if (k != NULL && (g = group_find(k->section)) != NULL) {
			for (; n < name.len && n < sizeof(lower); n++)
				lower[n] = text_lower(name.p[n]);
			if ((i = element_named(l, g, (struct span){ lower, n })) == SIZE_MAX)
				continue;
			if (!text_is(var, env_name(&b, k, group_element(l->c, g, i))))	/* lower case in it */
				k = NULL;
		}
		if (k == NULL)
			complain_variable(l, var);
		else
			set_value(l, k, i, text_sub(whole, var.len + 1, whole.len));
	}
}

/* The group of "section.NAME", as flags write it; NULL: none. */
static const struct group *
flag_group(struct span section, struct span *name)
{
	for (const struct group *g = config_groups; g < config_groups + config_groups_n; g++) {
		size_t n = strlen(g->section);

		if (section.len > n && starts(section, g->section) && section.p[n] == '.') {
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
		complain(l, "'%.100s' is no section.key=value; write such as smtpd.log_level=debug", flag);
		return;
	}
	snprintf(l->where, sizeof(l->where), "flag -o %.*s", ARG(text_sub(whole, 0, equals)));
	section = text_sub(whole, 0, dot);
	key = text_trim(text_sub(whole, dot + 1, equals));
	const struct group *g = flag_group(section, &name);
	if (g != NULL)
		section_open(l, g->section, name);
	else
		section_enter(l, section);
	if (l->section == SEC_UNKNOWN)
		return;
	if (l->section != SEC_OURS) {
		complain(l, "unknown section '%.*s'; did you mean %s?", ARG(section), l->known);
		return;
	}
	if (text_copy(text, sizeof(text), key) == 0)
		k = key_find(l->known, text);
	if (k != NULL)
		set_value(l, k, l->i, text_sub(whole, equals + 1, whole.len));
	else
		complain_unknown(l, l->known, l->i, key);
}

/* Public functions */

const char *
config_default_domain(const struct config *c)
{
	return c->domains.n == 0 ? c->hostname : c->domains.v[0];
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
	at_line(&l, 0);
	set_defaults(&l, NULL, 0);
	if (file != NULL)
		load_file(&l, file);
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

/* "; default", "; file:line", ... */
static void
print_origin(const struct config *c, const struct key *k, size_t i, struct buf *out)
{
	const struct origin *o = origin_of(c, k, i);
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
		buf_printf(out, "environment %s", env_name(&name, k, section_name(c, k->section, i)));
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
