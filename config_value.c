/*
 * config_value.c - the values of keys: words, domains, addresses, sizes, durations, each read from text and printed as text that
 * is read the same.
 */
#include "config_value.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "config_address.h"

#define WORDS_MAX 256		/* of a command */

/* Words */

void
words_free(struct words *w)
{
	free(w->v);
	*w = (struct words){ NULL, 0 };
}

/* One block: the vector, then text, n strings each with its NUL. */
static int
words_set(struct words *w, struct span text, size_t n)
{
	char **v = malloc((n + 1) * sizeof(*v) + text.len);
	char *p;

	if (v == NULL)
		return -1;
	p = (char *)(v + n + 1);
	if (text.p != NULL)
		memcpy(p, text.p, text.len);
	for (size_t i = 0; i < n; i++) {
		v[i] = p;
		p += strlen(p) + 1;
	}
	v[n] = NULL;
	*w = (struct words){ v, n };
	return 0;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

/* The octets of one word of *s to out; false with *why. POSIX Shell Command Language 2.2. */
static bool
word_unquote(struct span *s, struct buf *out, const char **why)
{
	char quote = '\0';

	for (; s->len > 0 && (quote != '\0' || !is_blank(*s->p)); s->p++, s->len--) {
		char c = *s->p;

		if (quote == '\0' && (c == '\'' || c == '"')) {
			quote = c;
		} else if (c == quote && quote != '\0') {
			quote = '\0';
		} else if (c == '\\' && quote != '\'') {
			if (s->len == 1) {
				*why = "ends in a backslash; write \\\\ for a backslash, or drop it";
				return false;
			}
			if (quote == '"' && memchr("$`\"\\\n", s->p[1], 5) == NULL) {
				buf_add_char(out, c);
				continue;
			}
			s->p++;
			s->len--;
			if (*s->p != '\n')
				buf_add_char(out, *s->p);
		} else {
			buf_add_char(out, c);
		}
	}
	if (quote != '\0')
		*why = quote == '"' ? "has a \" that is not closed (a ; after a blank begins a comment, also in quotes: write \\;)" :
		    "has a ' that is not closed (a ; after a blank begins a comment, also in quotes: write \\;)";
	return quote == '\0';
}

int
words_split(struct words *w, struct span s, const char **why)
{
	struct buf text;
	size_t n = 0;
	int ret = -1;

	*w = (struct words){ NULL, 0 };
	if (s.len > 0 && memchr(s.p, '\0', s.len) != NULL) {
		*why = "holds a NUL octet";
		return -1;
	}
	buf_init(&text, s.len + 1);	/* no word is longer than its source, and a blank's place is the NUL's */
	for (;;) {
		while (s.len > 0 && is_blank(*s.p)) {
			s.p++;
			s.len--;
		}
		if (s.len == 0)
			break;
		if (n++ == WORDS_MAX) {
			*why = "has more than 256 words";
			goto end;
		}
		if (!word_unquote(&s, &text, why))
			goto end;
		buf_add_char(&text, '\0');
	}
	*why = "needs more memory than there is";
	if (!text.failed)
		ret = words_set(w, buf_span(&text), n);
end:
	buf_clear(&text);
	return ret;
}

/* A word as words_split() reads it back, and inih before it: no ";" follows a blank, and none ends in one. */
static void
word_print(const char *word, struct buf *out)
{
	if (*word == '\0' || (strpbrk(word, " \t\n\"\\") != NULL && strpbrk(word, "';") == NULL)) {
		buf_printf(out, "'%s'", word);
		return;
	}
	for (; *word != '\0'; word++) {
		if (is_blank(*word)) {
			buf_printf(out, "'%c'", *word);
			continue;
		}
		if (strchr("'\"\\;", *word) != NULL)
			buf_add_char(out, '\\');
		buf_add_char(out, *word);
	}
}

/* Types of values */

static bool
set_string(void *field, struct span s, struct buf *why)
{
	char **f = field, *copy = s.len == 0 ? strdup("") : strndup(s.p, s.len);

	if (copy == NULL) {
		buf_add_str(why, "out of memory");
		return false;
	}
	free(*f);
	*f = copy;
	return true;
}

static void
print_string(const struct key *k, const void *field, struct buf *out)
{
	char *const *f = field;

	(void)k;
	if (*f != NULL)
		buf_add_str(out, *f);
}

static void
clear_string(void *field)
{
	char **f = field;

	free(*f);
	*f = NULL;
}

static bool
parse_hostname(const struct key *k, struct span s, void *field, struct buf *why)
{
	char domain[SMTP_DOMAIN_MAX + 1] = "";

	(void)k;
	if (s.len > 0 && !smtp_domain(s, true, domain)) {
		buf_printf(why, "'%.*s' is no domain name; write one such as mail.example.com", ARG(s));
		return false;
	}
	return set_string(field, text_span(domain), why);
}

static bool
parse_user(const struct key *k, struct span s, void *field, struct buf *why)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!is_alnum(s.p[i]) && memchr("-_.$:", s.p[i], 5) == NULL) {
			buf_printf(why, "'%.*s' is no user; write its name, or numbers such as 1000:1000", ARG(s));
			return false;
		}
	}
	(void)k;
	return set_string(field, s, why);
}

/* Whether it could not be written in a file: a ; at the beginning or after a blank begins a comment there. */
static bool
begins_comment(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] == ';' && (i == 0 || is_blank(s.p[i - 1])))
			return true;
	return false;
}

static bool
check_path(struct span s, struct buf *why)
{
	if (s.len == 0 || *s.p != '/') {
		buf_printf(why, "'%.*s' is no absolute path; begin it with /", ARG(s));
		return false;
	}
	if (begins_comment(s)) {
		buf_printf(why, "'%.*s' has a ; after a blank; use another path", ARG(s));
		return false;
	}
	return true;
}

static bool
parse_path(const struct key *k, struct span s, void *field, struct buf *why)
{
	(void)k;
	return (s.len == 0 || check_path(s, why)) && set_string(field, s, why);
}

static bool
parse_address(const struct key *k, struct span s, void *field, struct buf *why)
{
	struct endpoint e;
	uint64_t port;
	char ip[INET6_ADDRSTRLEN], packed[16];

	(void)k;
	if (endpoint_parse(s, &e))
		return set_string(field, s, why);
	buf_printf(why, "'%.*s' is no numeric address with a port; write ", ARG(s));
	if (text_u64(s, 65535, &port) == 0)
		buf_printf(why, ":%u", (unsigned)port);
	else if (text_copy(ip, sizeof(ip), s) == 0 && inet_pton(AF_INET, ip, packed) == 1)
		buf_printf(why, "%s:25", ip);
	else if (text_copy(ip, sizeof(ip), s) == 0 && inet_pton(AF_INET6, ip, packed) == 1)
		buf_printf(why, "[%s]:25", ip);
	else
		buf_add_str(why, ":25, 192.0.2.1:25 or [2001:db8::1]:25");
	return false;
}

static bool
parse_command(const struct key *k, struct span s, void *field, struct buf *why)
{
	struct words *f = field, w;
	const char *reason;

	(void)k;
	if (words_split(&w, s, &reason) == -1) {
		buf_printf(why, "'%.*s' %s", ARG(s), reason);
		return false;
	}
	words_free(f);
	*f = w;
	return true;
}

static void
print_command(const struct key *k, const void *field, struct buf *out)
{
	const struct words *f = field;

	(void)k;
	for (size_t i = 0; i < f->n; i++) {
		if (i > 0)
			buf_add_char(out, ' ');
		word_print(f->v[i], out);
	}
}

static void
clear_words(void *field)
{
	words_free(field);
}

/* One item of a comma list to out, as it is kept; false with *why. */
typedef bool list_item(struct span item, struct buf *out, struct buf *why);

static bool
parse_list(struct span s, list_item *add_item, bool unique, void *field, struct buf *why)
{
	struct words *f = field, w;
	struct buf text;
	struct span item;
	size_t n = 0;
	bool ok = true;

	buf_init(&text, CONFIG_VALUE_MAX);
	s = text_trim(s);
	while (ok && text_token(&s, ",", &item)) {
		size_t start = text.wpos;
		bool twice = false;

		ok = add_item(text_trim(item), &text, why);
		buf_add_char(&text, '\0');
		if (!ok || text.failed)
			break;
		for (size_t at = 0; unique && !twice && at < start; at += strlen(text.data + at) + 1)
			twice = strcmp(text.data + at, text.data + start) == 0;
		if (twice)
			text.wpos = start;
		else
			n++;
	}
	if (ok && (text.failed || words_set(&w, buf_span(&text), n) == -1)) {
		buf_printf(why, "the list is longer than %d octets", CONFIG_VALUE_MAX);
		ok = false;
	}
	buf_clear(&text);
	if (!ok)
		return false;
	words_free(f);
	*f = w;
	return true;
}

static void
print_list(const struct key *k, const void *field, struct buf *out)
{
	const struct words *f = field;

	(void)k;
	for (size_t i = 0; i < f->n; i++)
		buf_printf(out, "%s%s", i == 0 ? "" : ", ", f->v[i]);
}

static bool
add_domain(struct span item, struct buf *out, struct buf *why)
{
	char domain[SMTP_DOMAIN_MAX + 1];

	if (!smtp_domain(item, true, domain)) {
		buf_printf(why, "'%.*s' is no domain; write domains with commas between: example.com, example.org", ARG(item));
		return false;
	}
	(void)buf_add_str(out, domain);	/* the caller sees that it failed */
	return true;
}

/* A name that is there twice, perhaps in another case, is kept once. */
static bool
parse_domains(const struct key *k, struct span s, void *field, struct buf *why)
{
	(void)k;
	return parse_list(s, add_domain, true, field, why);
}

static bool
add_path(struct span item, struct buf *out, struct buf *why)
{
	if (!check_path(item, why))
		return false;
	(void)buf_add_span(out, item);
	return true;
}

static bool
parse_paths(const struct key *k, struct span s, void *field, struct buf *why)
{
	(void)k;
	return parse_list(s, add_path, false, field, why);
}

static bool
add_text(struct span item, struct buf *out, struct buf *why)
{
	if (item.len == 0 || begins_comment(item)) {
		buf_printf(why, "'%.*s' is no item of a list; write items with commas between, without a ; at a beginning or after a blank",
		    ARG(item));
		return false;
	}
	(void)buf_add_span(out, item);
	return true;
}

static bool
parse_texts(const struct key *k, struct span s, void *field, struct buf *why)
{
	(void)k;
	return parse_list(s, add_text, false, field, why);
}

/* A word without blanks, lo octets at least. */
static bool
parse_word(const struct key *k, struct span s, void *field, struct buf *why)
{
	bool ok = s.len >= k->lo && !begins_comment(s);

	for (size_t i = 0; ok && i < s.len; i++)
		ok = is_vchar(s.p[i]);
	if (!ok) {
		buf_printf(why, "'%.*s' is no word; write one without blanks", ARG(s));
		if (*k->dflt != '\0')
			buf_printf(why, ", such as %s", k->dflt);
		return false;
	}
	return set_string(field, s, why);
}

/* What is fetched decides who may log in. */
static bool
parse_url(const struct key *k, struct span s, void *field, struct buf *why)
{
	bool safe = true;

	(void)k;
	if (s.len > 0 && !config_url(s, &safe)) {
		buf_printf(why, "'%.*s' is no URL; write such as https://login.example.com/keys", ARG(s));
		return false;
	}
	if (!safe) {
		buf_printf(why, "'%.*s' is fetched without TLS, so anyone on the way decides who may log in; write https://", ARG(s));
		return false;
	}
	return set_string(field, s, why);
}

static bool
parse_service(const struct key *k, struct span s, void *field, struct buf *why)
{
	(void)k;
	if (s.len > 0 && (!peer_is_http(s) || begins_comment(s))) {
		buf_printf(why, "'%.*s' is no address of a service; write such as http://127.0.0.1:11334 or unix:/run/rspamd/controller.sock", ARG(s));
		return false;
	}
	return set_string(field, s, why);
}

static bool
parse_milter(const struct key *k, struct span s, void *field, struct buf *why)
{
	(void)k;
	if (s.len > 0 && (!peer_is_milter(s) || begins_comment(s))) {
		buf_printf(why, "'%.*s' is no address of a milter; write inet:127.0.0.1:8891, inet:localhost:8891, inet6:[::1]:8891 or unix:/path",
		    ARG(s));
		return false;
	}
	return set_string(field, s, why);
}

static void
clear_secret(void *field)
{
	char **f = field;

	if (*f != NULL)
		explicit_bzero(*f, strlen(*f));
	clear_string(field);
}

/* What is wrong with it is said without quoting it. */
static bool
parse_secret(const struct key *k, struct span s, void *field, struct buf *why)
{
	char **f = field, *old = *f;

	(void)k;
	if (s.len > SECRET_MAX || text_has(s, C_CNTRL) || !text_is_utf8(s)) {
		buf_printf(why, s.len > SECRET_MAX ? "it has more than %d octets; shorten it" :
		    "it has a control character, or is not UTF-8; write text of at most %d octets", SECRET_MAX);
		return false;
	}
	*f = NULL;
	if (!set_string(field, s, why)) {
		*f = old;
		return false;
	}
	clear_secret(&old);
	return true;
}

static void
print_secret(const struct key *k, const void *field, struct buf *out)
{
	char *const *f = field;

	(void)k;
	if (*f != NULL && **f != '\0')
		buf_add_str(out, "****");
}

static bool
parse_networks(const struct key *k, struct span s, void *field, struct buf *why)
{
	struct networks *f = field;
	struct network *v = NULL;
	struct span item;
	size_t n = 0, max = 0;

	(void)k;
	s = text_trim(s);
	for (size_t i = 0; i < s.len; i++)
		max += s.p[i] == ',';
	if (s.len > 0 && (v = calloc(max + 1, sizeof(*v))) == NULL) {
		buf_add_str(why, "out of memory");
		return false;
	}
	while (text_token(&s, ",", &item)) {
		if (!network_parse(text_trim(item), &v[n++], why)) {
			free(v);
			return false;
		}
	}
	free(f->v);
	*f = (struct networks){ v, n };
	return true;
}

static void
print_networks(const struct key *k, const void *field, struct buf *out)
{
	const struct networks *f = field;

	(void)k;
	for (size_t i = 0; i < f->n; i++) {
		buf_add_str(out, i == 0 ? "" : ", ");
		network_print(&f->v[i], out);
	}
}

static void
clear_networks(void *field)
{
	struct networks *f = field;

	free(f->v);
	*f = (struct networks){ NULL, 0 };
}

/* A choice's number; enumerations are stored as unsigned, which K_ENUM checks. */
static bool
parse_enum(const struct key *k, struct span s, void *field, struct buf *why)
{
	char text[MEANT_MAX + 1];
	const char *nearest = NULL;

	if (text_copy(text, sizeof(text), s) == -1)
		text[0] = '\0';
	for (unsigned i = (unsigned)k->lo; k->choices[i] != NULL; i++) {
		if (text_is(s, k->choices[i])) {
			memcpy(field, &i, sizeof(i));
			return true;
		}
		if (nearest == NULL || text_distance(text, k->choices[i]) < text_distance(text, nearest))
			nearest = k->choices[i];
	}
	buf_printf(why, "'%.*s' is not one of", ARG(s));
	for (unsigned i = 0; k->choices[i] != NULL; i++)
		if (*k->choices[i] != '\0')	/* what an empty value means has no name */
			buf_printf(why, " %s%s", k->choices[i], k->choices[i + 1] == NULL ? "" : ",");
	if (text_distance(text, nearest) <= 2)
		buf_printf(why, "; did you mean %s?", nearest);
	else
		buf_add_str(why, "; write one of these");
	return false;
}

static void
print_enum(const struct key *k, const void *field, struct buf *out)
{
	unsigned i;

	memcpy(&i, field, sizeof(i));
	buf_add_str(out, k->choices[i]);
}

static bool
parse_bool(const struct key *k, struct span s, void *field, struct buf *why)
{
	bool *f = field;

	(void)k;
	if (!text_is(s, "yes") && !text_is(s, "no")) {
		buf_printf(why, "'%.*s' is neither yes nor no; write one of these", ARG(s));
		return false;
	}
	*f = text_is(s, "yes");
	return true;
}

static void
print_bool(const struct key *k, const void *field, struct buf *out)
{
	(void)k;
	buf_add_str(out, *(const bool *)field ? "yes" : "no");
}

struct unit {
	const char	*name;
	uint64_t	 factor;
};

static const struct unit size_units[] = { { "", 1 }, { "k", 1024 }, { "m", 1024 * 1024 }, { "g", 1024 * 1024 * 1024 }, { 0 } };
static const struct unit time_units[] = {
	{ "ms", 1 }, { "s", 1000 }, { "m", 60 * 1000 }, { "h", 3600 * 1000 }, { "d", 24 * 3600 * 1000 }, { 0 }
};
static const struct unit no_units[] = { { "", 1 }, { 0 } };

/* In the largest unit that divides it. */
static void
print_units(uint64_t n, const struct unit *units, struct buf *out)
{
	const struct unit *best = &units[0];

	for (const struct unit *u = units; u->name != NULL; u++)
		if (n != 0 ? n % u->factor == 0 : u->factor == 1000)
			best = u;
	buf_printf(out, "%llu%s", (unsigned long long)(n / best->factor), best->name);
}

static bool
parse_units(const struct key *k, struct span s, const struct unit *units, const char *what, uint64_t *n, struct buf *why)
{
	size_t digits = 0;
	const struct unit *u = units;

	while (digits < s.len && is_digit(s.p[digits]))
		digits++;
	while (u->name != NULL && !text_is_nocase(text_sub(s, digits, s.len), u->name))
		u++;
	if (digits > 0 && digits == s.len && u->name == NULL) {
		buf_printf(why, "'%.*s' has no unit; write %.*ss, %.*sm or %.*sms", ARG(s), ARG(s), ARG(s), ARG(s));
		return false;
	}
	if (digits == 0 || u->name == NULL) {
		buf_printf(why, "'%.*s' is no %s", ARG(s), what);
		return false;
	}
	if (text_u64(text_sub(s, 0, digits), k->hi / u->factor, n) == -1 || *n * u->factor < k->lo) {
		buf_printf(why, "'%.*s' is out of bounds; write ", ARG(s));
		print_units(k->lo, units, why);
		buf_add_str(why, " to ");
		print_units(k->hi, units, why);
		return false;
	}
	*n *= u->factor;
	return true;
}

static bool
parse_number(const struct key *k, struct span s, void *field, struct buf *why)
{
	uint64_t n;

	if (!parse_units(k, s, no_units, "number; write digits only", &n, why))
		return false;
	*(unsigned *)field = (unsigned)n;
	return true;
}

static void
print_number(const struct key *k, const void *field, struct buf *out)
{
	(void)k;
	print_units(*(const unsigned *)field, no_units, out);
}

static bool
parse_size(const struct key *k, struct span s, void *field, struct buf *why)
{
	return parse_units(k, s, size_units, "size; write digits and k, m or g (25m)", field, why);
}

static void
print_size(const struct key *k, const void *field, struct buf *out)
{
	(void)k;
	print_units(*(const uint64_t *)field, size_units, out);
}

static bool
parse_time(const struct key *k, struct span s, void *field, struct buf *why)
{
	uint64_t n;

	if (!parse_units(k, s, time_units, "duration; write digits and ms, s, m, h or d (30s)", &n, why))
		return false;
	*(int64_t *)field = (int64_t)n;
	return true;
}

static void
print_time(const struct key *k, const void *field, struct buf *out)
{
	(void)k;
	print_units((uint64_t)*(const int64_t *)field, time_units, out);
}

const struct type
	type_hostname = { parse_hostname, print_string, clear_string },
	type_user = { parse_user, print_string, clear_string },
	type_path = { parse_path, print_string, clear_string },
	type_address = { parse_address, print_string, clear_string },
	type_command = { parse_command, print_command, clear_words },
	type_paths = { parse_paths, print_list, clear_words },
	type_texts = { parse_texts, print_list, clear_words },
	type_word = { parse_word, print_string, clear_string },
	type_url = { parse_url, print_string, clear_string },
	type_service = { parse_service, print_string, clear_string },
	type_milter = { parse_milter, print_string, clear_string },
	type_secret = { parse_secret, print_secret, clear_secret },
	type_networks = { parse_networks, print_networks, clear_networks },
	type_domains = { parse_domains, print_list, clear_words },
	type_enum = { parse_enum, print_enum, NULL },
	type_bool = { parse_bool, print_bool, NULL },
	type_number = { parse_number, print_number, NULL },
	type_size = { parse_size, print_size, NULL },
	type_time = { parse_time, print_time, NULL };
