/*
 * config_file.c - the configuration's file.
 *
 * inih parses; what it lets pass is seen to before (clean_text): it cuts over-long lines and section names and hands them on,
 * ends at a NUL, skips what follows a "]" and reports only the first line that it cannot read. It gets our sections only, and
 * of those only lines that are whole.
 */
#include "config_file.h"

#define INI_HANDLER_LINENO 1	/* as the library is built; the handler's type depends on it */
#include <ini.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define TEXT_LINE_MAX 8000	/* octets of a line; inih has room for 8190 */

/* inih: name NULL is a new section, 1 is success. */
static int
on_ini(void *user, const char *section, const char *name, const char *value, int lineno)
{
	struct loader *l = user;
	const struct key *k;

	load_at_line(l, (unsigned)lineno);
	if (name == NULL) {
		load_section(l, text_span(section));
	} else if (l->section == SEC_OURS) {
		k = key_find(l->known, name);
		if (k == NULL)
			load_unknown(l, l->known, l->i, text_span(name));
		else
			load_value(l, k, l->i, text_span(value));
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

		if (k->type == &type_secret && text_starts(s, k->name) && (s.len == n || (!is_alnum(s.p[n]) && s.p[n] != '_')))
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
		load_error(l, "'%.*s...': the line has %zu octets; at most %d are read", ARG(text_sub(shown, 0, 40)), line.len, TEXT_LINE_MAX);
		return false;
	}
	if ((octets = load_bad_octets(line)) != NULL) {
		load_error(l, "the line '%.*s' %s", ARG(shown), octets);
		return false;
	}
	if (s.len == 0 || *s.p == ';' || *s.p == '#')
		return false;
	if (*s.p == '[') {
		end = find_before_comment(text_sub(s, 1, s.len), "]") + 1;
		*section = SEC_UNKNOWN;	/* whose the next lines are is not known */
		if (end >= s.len) {
			load_error(l, "'%.*s' has no ]; write [section]", ARG(s));
			return false;
		}
		*section = section_kind(text_sub(s, 1, end), &known, &name);
		rest = text_trim(text_sub(s, end + 1, s.len));
		if (*section != SEC_FOREIGN && rest.len > 0 && *rest.p != ';' && *rest.p != '#')
			load_error(l, "'%.*s' follows the section's name; give it a line of its own", ARG(line_shown(rest)));
		if (*section != SEC_FOREIGN && s.p != line.p)
			load_error(l, "'%.*s' is indented; begin it in the first column", ARG(s));
		return true;
	}
	shown = line_shown(s);
	if (*section == SEC_NONE)
		load_error(l, "'%.*s' stands before the first section; write one above it, such as [smtpd]", ARG(shown));
	if (*section != SEC_OURS)
		return false;
	end = find_before_comment(s, "=:");
	if (end == s.len || end == 0) {
		load_error(l, "'%.*s' is no key with a value; write key = value", ARG(shown));
		return false;
	}
	if (s.p != line.p)	/* elsewhere it would go on with the value above */
		load_error(l, "'%.*s' is indented; begin each key in the first column, and give each value in one line", ARG(shown));
	return s.p == line.p;
}

/* What inih is to see of text, with the same line numbers. */
static void
clean_text(struct loader *l, struct span text, struct buf *out)
{
	enum section section = SEC_NONE;
	unsigned line = 0, crlf = 0;
	const char *p = text.p, *end = text.p + text.len;

	load_at_line(l, 1);
	if (text_starts(text, "\xef\xbb\xbf")) {
		load_error(l, "the file begins with a byte order mark; save it as UTF-8 without one");
		p += 3;
	}
	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		struct span s = { p, (size_t)((lf == NULL ? end : lf) - p) };

		load_at_line(l, ++line);
		p += s.len + 1;
		if (s.len > 0 && s.p[s.len - 1] == '\r') {
			s.len--;
			if (crlf++ == 0)
				load_error(l, "the line ends in CR LF; save the file with LF line ends (sed -i 's/\\r$//')");
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

void
config_file_load(struct loader *l, const char *file)
{
	struct buf raw, clean;
	char *memory = malloc(2 * CONFIG_FILE_MAX + 2);	/* whole, so that no copy of a secret stays behind when it grows */
	int line;

	load_at_line(l, 0);
	if (memory == NULL) {
		load_error(l, "out of memory");
		return;
	}
	buf_fixed(&raw, memory, CONFIG_FILE_MAX);
	buf_fixed(&clean, memory + CONFIG_FILE_MAX, CONFIG_FILE_MAX + 2);
	if (read_file(file, &raw) == -1) {
		if (errno == EFBIG)
			load_error(l, "the file has more than %d octets; is it a configuration?", CONFIG_FILE_MAX);
		else
			load_error(l, "the file cannot be read: %s; name another with -c", strerror(errno));
	} else if (buf_len(&raw) > 0) {
		clean_text(l, buf_span(&raw), &clean);
		l->section = SEC_NONE;
		if (buf_str(&clean) == NULL) {
			load_error(l, "out of memory");
		} else if ((line = ini_parse_string(clean.data, on_ini, l)) != 0) {
			load_at_line(l, line > 0 ? (unsigned)line : 0);
			load_error(l, "the line cannot be read; write key = value");
		}
	}
	explicit_bzero(raw.data, raw.wpos);
	explicit_bzero(clean.data, clean.wpos);
	free(memory);
}
