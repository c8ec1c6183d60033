/*
 * passwd.c - passwd_file, and smtpd passwd, which makes its lines.
 *
 * SECURITY-CASES 7.7, 13.9. A user that is not there is given the hash of its neighbour in the order of names: always the same
 * one, so that in a file of several kinds of hashes, too, the time tells nothing.
 */
#include "passwd.h"

#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "auth.h"

#define FILE_MAX (16 * 1024 * 1024)	/* octets */
#define CHECK_MS 1000
/*
 * How smtpd passwd hashes: 60 ms of a PC's time. As much work for an attacker as bcrypt of the same time, within a factor of two,
 * but the whole password counts and not its first 72 octets, and crypt(3) of every system can read it.
 */
#define SETTING "$6$rounds=100000$"
#define SALT_LEN 16
#define NO_HASH SETTING "................$"	/* when no user in the file has one */

/* One line of the file. */
struct entry {
	const char	*user;
	const char	*hash;		/* "": disabled */
	size_t		 line;
};

struct passwd_file {
	const char	*path;		/* borrowed until passwd_free(), as the next */
	const struct config *config;
	char		*text;		/* owned: user, NUL, hash, NUL, ... */
	size_t		 text_len;
	struct entry	*entries;	/* owned; sorted by user */
	size_t		 n;
	const char	*spare;		/* of the first user with a hash */
	struct stat	 seen;		/* which version it is */
	int64_t		 checked_at;
	bool		 loaded, failed;
};

static const struct format {
	const char	*prefix;
	size_t		 salt_max, digest_len;
	bool		 rounds;	/* may have rounds=N$ before the salt */
} formats[] = {
	{ "$1$", 8, 22, false },
	{ "$5$", 16, 43, true },
	{ "$6$", 16, 86, true },
};

static bool
is_base64(struct span s)	/* crypt's own alphabet */
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_alnum(s.p[i]) && s.p[i] != '.' && s.p[i] != '/')
			return false;
	return true;
}

/* $2b$ two digits of cost $ 22 octets of salt, 31 of digest */
static bool
is_bcrypt(struct span s)
{
	uint64_t cost;

	return s.len == 60 && s.p[0] == '$' && s.p[1] == '2' && memchr("aby", s.p[2], 3) != NULL && s.p[3] == '$' &&
	    s.p[6] == '$' && text_u64(text_sub(s, 4, 6), 31, &cost) == 0 && cost >= 4 && is_base64(text_sub(s, 7, s.len));
}

static bool
is_md5_or_sha(struct span s, const struct format *f)
{
	struct span rest = text_sub(s, strlen(f->prefix), s.len), salt;
	uint64_t n;

	if (!text_starts_nocase(s, f->prefix))
		return false;
	if (f->rounds && text_starts_nocase(rest, "rounds=")) {
		struct span rounds = text_sub(rest, strlen("rounds="), text_find(rest, '$'));

		/* what is outside is set to the bound by some, refused by others */
		if (text_u64(rounds, 9999999, &n) == -1 || n < 1000)
			return false;
		rest = text_sub(rest, text_find(rest, '$'), rest.len);
		rest = text_sub(rest, 1, rest.len);
	}
	salt = text_sub(rest, 0, text_find(rest, '$'));
	if (salt.len == rest.len || salt.len > f->salt_max || text_has(salt, C_CNTRL | C_WSP))
		return false;
	rest = text_sub(rest, salt.len + 1, rest.len);
	return rest.len == f->digest_len && is_base64(rest);
}

static bool
is_hash(struct span s)
{
	for (size_t i = 0; i < COUNT(formats); i++)
		if (is_md5_or_sha(s, &formats[i]))
			return true;
	return is_bcrypt(s);
}

static void
clear(struct passwd_file *f)
{
	if (f->text != NULL)
		explicit_bzero(f->text, f->text_len);
	free(f->text);
	free(f->entries);
	f->text = NULL;
	f->entries = NULL;
	f->spare = NULL;
	f->text_len = f->n = 0;
	f->loaded = false;
}

static void
log_line(const struct passwd_file *f, size_t line, struct span user, const char *help)
{
	log_warn(0, "passwd_file", LF_STR("path", f->path), LF_INT("line", line), LF_SPAN("user", user), LF_STR("help", help));
}

static int
compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int order = strcmp(x->user, y->user);

	return order != 0 ? order : (x->line > y->line) - (x->line < y->line);
}

static int
add_entry(struct passwd_file *f, size_t *max, size_t line)
{
	if (f->n == *max) {
		size_t more = *max == 0 ? 64 : 2 * *max;
		struct entry *entries = realloc(f->entries, more * sizeof(*entries));

		if (entries == NULL)
			return -1;
		f->entries = entries;
		*max = more;
	}
	f->entries[f->n++] = (struct entry){ .line = line };
	return 0;
}

/* user:hash. The hash is what follows the last colon, no hash has one. What cannot be a hash leaves the user disabled. */
static int
add_line(struct passwd_file *f, struct buf *text, size_t *max, struct span line, size_t number)
{
	struct span user = line, hash;
	char key[SMTP_ADDRESS_MAX + 1];

	while (user.len > 0 && user.p[user.len - 1] != ':')
		user.len--;
	hash = text_trim(text_sub(line, user.len, line.len));
	if (user.len > 0)
		user.len--;
	user = text_trim(user);
	if (!auth_user_name(f->config, user, key)) {
		/* what it says is not logged: it may be a password, or have a hash in it */
		log_line(f, number, SPAN(""), "not user:hash; the line is skipped");
		return 0;
	}
	if (!is_hash(hash)) {
		if (hash.len == 0 || (hash.p[0] != '!' && hash.p[0] != '*'))
			log_line(f, number, user, "not a hash of crypt(3); the user is disabled");
		hash = (struct span){ 0 };
	}
	if (add_entry(f, max, number) == -1)
		return -1;
	buf_add(text, key, strlen(key) + 1);
	buf_add_span(text, hash);
	return buf_add_char(text, '\0');
}

/* Entries point into the text when it no longer grows; the first of several for one user counts. */
static void
sort_entries(struct passwd_file *f)
{
	const char *p = f->text;
	size_t n = 0;

	for (size_t i = 0; i < f->n; i++) {
		f->entries[i].user = p;
		p += strlen(p) + 1;
		f->entries[i].hash = p;
		p += strlen(p) + 1;
	}
	if (f->n > 0)
		qsort(f->entries, f->n, sizeof(*f->entries), compare_entries);
	for (size_t i = 0; i < f->n; i++) {
		if (n > 0 && strcmp(f->entries[n - 1].user, f->entries[i].user) == 0) {
			log_line(f, f->entries[i].line, text_span(f->entries[i].user), "the user has a line already, which counts");
			continue;
		}
		if (f->spare == NULL && f->entries[i].hash[0] != '\0')
			f->spare = f->entries[i].hash;
		f->entries[n++] = f->entries[i];
	}
	f->n = n;
}

static int
parse(struct passwd_file *f, struct span rest)
{
	struct span line;
	struct buf text;
	size_t max = 0;

	buf_init(&text, 16 * (size_t)FILE_MAX);	/* a domain may be added to each user */
	for (size_t number = 1; rest.len > 0; number++) {
		line = text_sub(rest, 0, text_find(rest, '\n'));
		rest = text_sub(rest, line.len + 1, rest.len);
		if (line.len > 0 && line.p[line.len - 1] == '\r')
			line.len--;
		line = text_trim(line);
		if (line.len == 0 || line.p[0] == '#')
			continue;
		if (add_line(f, &text, &max, line, number) == -1) {
			explicit_bzero(text.data, text.wpos);
			buf_clear(&text);
			errno = ENOMEM;
			return -1;
		}
	}
	f->text = text.data;
	f->text_len = text.wpos;
	sort_entries(f);
	return 0;
}

static int
load(struct passwd_file *f)
{
	int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), error = EFBIG;
	struct stat st = { 0 };
	char *data = NULL;
	size_t have = 0;
	ssize_t n = 1;

	if (fd == -1)
		return -1;
	if (fstat(fd, &st) == -1)
		error = errno;
	else if (S_ISREG(st.st_mode) && st.st_size <= FILE_MAX)
		error = (data = malloc((size_t)st.st_size + 1)) == NULL ? errno : 0;
	while (error == 0 && n > 0 && have < (size_t)st.st_size) {
		n = read(fd, data + have, (size_t)st.st_size - have);
		if (n == -1)
			error = errno;
		else
			have += (size_t)n;
	}
	close(fd);
	if (error == 0) {
		clear(f);
		if (parse(f, (struct span){ data, have }) == -1)
			error = errno;
	}
	if (data != NULL)
		explicit_bzero(data, have);
	free(data);
	f->seen = st;
	f->loaded = error == 0;
	errno = error;
	return error == 0 ? 0 : -1;
}

static bool
is_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
	    a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Read it when it is another one than before; what cannot be read leaves nothing behind, and is logged once. */
static void
refresh(struct passwd_file *f)
{
	struct stat st;

	if (f->loaded && stat(f->path, &st) == 0 && is_same(&st, &f->seen))
		return;
	if (load(f) == 0) {
		f->failed = false;
		log_info(0, "passwd_file", LF_STR("path", f->path), LF_INT("users", f->n));
		return;
	}
	if (!f->failed)
		log_error(0, "passwd_file", LF_STR("path", f->path), LF_ERRNO(errno));
	f->failed = true;
	clear(f);
}

struct passwd_file *
passwd_new(const char *path, const struct config *c, int64_t now_ms)
{
	struct passwd_file *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->path = path;
	f->config = c;
	f->checked_at = now_ms;
	refresh(f);
	return f;
}

void
passwd_free(struct passwd_file *f)
{
	if (f != NULL)
		clear(f);
	free(f);
}

enum passwd_answer
passwd_find(struct passwd_file *f, const char *user, int64_t now_ms, const char **hash)
{
	size_t low = 0, high;
	bool found;

	if (now_ms - f->checked_at >= CHECK_MS) {
		f->checked_at = now_ms;
		refresh(f);
	}
	if (!f->loaded)
		return PASSWD_UNREADABLE;
	for (high = f->n; low < high;) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(f->entries[middle].user, user) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	/* low is the first entry that is not before user, or f->n */
	found = low < f->n && strcmp(f->entries[low].user, user) == 0;
	*hash = low < f->n ? f->entries[low].hash : "";
	if (found && (*hash)[0] != '\0')
		return PASSWD_KNOWN;
	if ((*hash)[0] == '\0')
		*hash = f->spare != NULL ? f->spare : NO_HASH;
	return found ? PASSWD_DISABLED : PASSWD_UNKNOWN;
}

/* ---- smtpd passwd ---- */

static struct termios terminal;		/* as it was: for a signal's handler */

static void
restore_and_die(int sig)
{
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal);
	(void)raise(sig);	/* whose action is the default again when this returns */
}

/* Echo off, and a signal that ends us turns it on again. 0, or -1 with errno. */
static int
echo_off(void)
{
	static const int deadly[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction sa = { .sa_handler = restore_and_die, .sa_flags = (int)SA_RESETHAND };
	struct termios silent;

	if (tcgetattr(STDIN_FILENO, &terminal) == -1)
		return -1;
	for (size_t i = 0; i < COUNT(deadly); i++)
		if (sigaction(deadly[i], &sa, NULL) == -1)
			return -1;
	silent = terminal;
	silent.c_lflag &= ~(tcflag_t)ECHO;
	silent.c_lflag |= ECHONL;
	silent.c_cc[VSUSP] = _POSIX_VDISABLE;	/* a shell must not get the terminal back like this */
	return tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
}

/* A line without its end, octet by octet, so that no copy of it stays behind in a buffer. false: more than dst takes, or errno. */
static bool
read_line(char *dst, size_t size)
{
	size_t len = 0;
	char c;
	ssize_t n;

	while ((n = read(STDIN_FILENO, &c, 1)) == 1 && c != '\n') {
		if (c == '\0' || len + 1 >= size) {
			errno = c == '\0' ? EILSEQ : EMSGSIZE;
			return false;
		}
		dst[len++] = c;
	}
	dst[len] = '\0';
	return n != -1;
}

static int
complain(const char *what)
{
	(void)fprintf(stderr, "smtpd passwd: %s\n", what);
	return 1;
}

static const char *
read_problem(int error)
{
	switch (error) {
	case EMSGSIZE:
		return "the password is longer than 256 octets";
	case EILSEQ:
		return "the password holds a NUL";
	default:
		return strerror(error);
	}
}

static int
print_line(const char *user, const char *password)
{
	static const char alphabet[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	char setting[sizeof(SETTING) + SALT_LEN] = SETTING;
	uint8_t salt[SALT_LEN];
	const char *hash;

	if (getrandom(salt, sizeof(salt), 0) != (ssize_t)sizeof(salt))
		return complain(strerror(errno));
	for (size_t i = 0; i < SALT_LEN; i++)
		setting[sizeof(SETTING) - 1 + i] = alphabet[salt[i] % 64];
	hash = crypt(password, setting);
	if (hash == NULL || strncmp(hash, setting, strlen(setting)) != 0)
		return complain("crypt(3) has failed");
	return printf("%s:%s\n", user, hash) > 0 && fflush(stdout) == 0 ? 0 : complain("cannot write");
}

int
auth_passwd_main(const char *user)
{
	char domain[] = "local", *domains[] = { domain, NULL };	/* stands in for the first of the configured ones */
	const struct config c = { .domains = { .v = domains, .n = 1 } };
	char passwords[2][PASSWD_PASSWORD_MAX + 1] = { "", "" };
	bool is_terminal = isatty(STDIN_FILENO) == 1;
	struct mailbox m;
	int result = 0;

	if (user[0] == '#' || !auth_user(&c, text_span(user), &m))	/* such a line would be a comment */
		return complain("not a user: local-part or local-part@domain, without a colon");
	if (is_terminal && echo_off() == -1)
		return complain(strerror(errno));
	for (size_t i = 0; i < 2 && result == 0; i++) {
		if (is_terminal)
			(void)fputs(i == 0 ? "Password: " : "Again: ", stderr);
		if (!read_line(passwords[i], sizeof(passwords[i])))
			result = complain(read_problem(errno));
	}
	if (is_terminal && tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal) == -1)
		result = complain(strerror(errno));
	if (result == 0 && passwords[0][0] == '\0')
		result = complain("the password is empty");
	else if (result == 0 && strcmp(passwords[0], passwords[1]) != 0)
		result = complain("the passwords differ");
	if (result == 0)
		result = print_line(user, passwords[0]);
	explicit_bzero(passwords, sizeof(passwords));
	return result;
}
