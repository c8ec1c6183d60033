/*
 * tls_cert.c - the certificates and keys of one configuration: their files, their dates, whether they changed.
 */
#include "tls_cert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define WARN_DAYS 14
#define DAY_SECONDS (24 * 60 * 60)

/* One line to errors, as config_load()'s are; what a file's name holds cannot break the line. */
static void	complain(struct buf *errors, bool warning, const char *where, const char *fmt, ...) PRINTF_LIKE(4, 5);

static void
complain(struct buf *errors, bool warning, const char *where, const char *fmt, ...)
{
	char text[1024];
	struct buf b;
	va_list ap;

	buf_fixed(&b, text, sizeof(text));
	buf_printf(&b, "%s%.600s: ", warning ? "warning: " : "", where);
	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	for (size_t i = 0; i < b.wpos; i++)
		if (is_class(text[i], C_CNTRL))
			text[i] = '?';
	buf_add_span(errors, buf_span(&b));
	buf_add_char(errors, '\n');
}

/* A whole file into pages for secrets of TLS_PEM_MAX octets; *why when it is -1. */
static int
read_file(const char *file, char *pages, size_t *len, struct stat *seen, const char **why)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t n = 0;

	*why = fd == -1 ? strerror(errno) : NULL;
	if (fd == -1)
		return -1;
	*len = 0;
	if (fstat(fd, seen) == -1)
		*why = strerror(errno);
	else if (!S_ISREG(seen->st_mode))
		*why = S_ISDIR(seen->st_mode) ? "is a directory; name the PEM file in it" : "is not a regular file";
	else if (seen->st_size == 0)
		*why = "is empty";
	else if (seen->st_size > TLS_PEM_MAX)
		*why = "is larger than 256 KiB";
	while (*why == NULL && *len < TLS_PEM_MAX && (n = read(fd, pages + *len, TLS_PEM_MAX - *len)) > 0)
		*len += (size_t)n;
	if (n == -1)
		*why = strerror(errno);
	(void)close(fd);
	return *why == NULL ? 0 : -1;
}

/* Both files of a pair through the same pages. Returns -1 with *where and *why. */
static int
read_pair(struct tls_pair *p, char *pages, const char **where, const char **why)
{
	size_t len;

	*where = p->cert_file;
	if (read_file(p->cert_file, pages, &len, &p->cert_seen, why) == -1 ||
	    tls_pair_chain(p, (struct span){ pages, len }, why) == -1)
		return -1;
	*where = p->key_file;
	if (read_file(p->key_file, pages, &len, &p->key_seen, why) == -1 ||
	    tls_pair_key(p, (struct span){ pages, len }, why) == -1)
		return -1;
	p->info.file = p->cert_file;
	return 0;
}

/* The dates of a chain, which are the client's to judge: only said (case 6.15). */
static void
check_dates(const struct tls_pair *p, int64_t now_time, struct buf *errors)
{
	for (size_t i = 0; i < p->chain_len; i++) {
		int64_t not_before_time, not_after_time;
		char day[32] = "", number[64] = "the certificate";
		struct tm tm;
		time_t t;

		tls_pair_dates(p, i, &not_before_time, &not_after_time);
		t = (time_t)(now_time < not_before_time ? not_before_time : not_after_time);
		if (gmtime_r(&t, &tm) != NULL)
			(void)strftime(day, sizeof(day), "%Y-%m-%d", &tm);
		if (i > 0)
			(void)snprintf(number, sizeof(number), "certificate %zu of the chain", i + 1);
		if (now_time < not_before_time)
			complain(errors, true, p->cert_file, "%s is valid only from %s on", number, day);
		else if (now_time > not_after_time)
			complain(errors, true, p->cert_file, "%s expired on %s; renew it", number, day);
		else if (not_after_time - now_time < WARN_DAYS * DAY_SECONDS)
			complain(errors, true, p->cert_file, "%s expires on %s; renew it", number, day);
	}
}

static int
load_files(struct tls_certs *certs, const struct config *c, int64_t now_time, struct buf *errors)
{
	char *pages = tls_secret_new(TLS_PEM_MAX);
	bool bad = pages == NULL;

	if (pages == NULL)
		complain(errors, false, "tls", "out of memory");
	for (size_t i = 0; i < certs->n && pages != NULL; i++) {
		struct tls_pair *p = &certs->pairs[i];
		const char *where = "tls", *why = "out of memory";

		p->cert_file = strdup(c->cert_files.v[i]);
		p->key_file = strdup(c->key_files.v[i]);
		if (p->cert_file == NULL || p->key_file == NULL || read_pair(p, pages, &where, &why) == -1) {
			complain(errors, false, where, "%s", why);
			bad = true;
		} else {
			check_dates(p, now_time, errors);
		}
		explicit_bzero(pages, TLS_PEM_MAX);
	}
	tls_secret_free(pages, TLS_PEM_MAX);
	return bad ? -1 : 0;
}

struct tls_certs *
tls_certs_load(const struct config *c, struct buf *errors)
{
	struct tls_certs *certs = calloc(1, sizeof(*certs));
	size_t n = c->cert_files.n > 0 ? c->cert_files.n : c->self_signed ? 1 : 0;
	int64_t now_time = (int64_t)time(NULL);
	const char *why;

	if (c->cert_files.n != c->key_files.n) {
		complain(errors, false, "cert_file", "%zu files, but key_file has %zu; each certificate needs its key, in the same order",
		    c->cert_files.n, c->key_files.n);
		goto fail;
	}
	if (certs != NULL)
		certs->pairs = calloc(n + 1, sizeof(*certs->pairs));
	if (certs == NULL || certs->pairs == NULL) {
		complain(errors, false, "tls", "out of memory");
		goto fail;
	}
	certs->n = n;
	certs->curves = *br_ec_get_default();
	certs->curves.supported_curves &= 1u << BR_EC_curve25519 | 1u << BR_EC_secp256r1 | 1u << BR_EC_secp384r1;
	if (c->cert_files.n > 0) {
		if (load_files(certs, c, now_time, errors) == -1)
			goto fail;
	} else if (n > 0) {
		certs->pairs[0].info.file = "";
		if (tls_pair_self_signed(&certs->pairs[0], c->hostname, now_time, &why) == -1) {
			complain(errors, false, "self_signed", "%s", why);
			goto fail;
		}
	}
	return certs;
fail:
	tls_certs_free(certs);
	return NULL;
}

void
tls_certs_free(struct tls_certs *certs)
{
	if (certs == NULL)
		return;
	for (size_t i = 0; i < certs->n; i++)
		tls_pair_clear(&certs->pairs[i]);
	free(certs->pairs);
	free(certs);
}

size_t
tls_certs_n(const struct tls_certs *certs)
{
	return certs->n;
}

void
tls_certs_info(const struct tls_certs *certs, size_t i, struct tls_cert_info *info)
{
	*info = certs->pairs[i].info;
}

static bool
file_changed(const char *file, const struct stat *seen)
{
	struct stat st;

	return stat(file, &st) == -1 || st.st_dev != seen->st_dev || st.st_ino != seen->st_ino || st.st_size != seen->st_size ||
	    st.st_mtim.tv_sec != seen->st_mtim.tv_sec || st.st_mtim.tv_nsec != seen->st_mtim.tv_nsec;
}

bool
tls_certs_changed(const struct tls_certs *certs)
{
	for (size_t i = 0; i < certs->n; i++) {
		const struct tls_pair *p = &certs->pairs[i];

		if (p->cert_file != NULL && (file_changed(p->cert_file, &p->cert_seen) || file_changed(p->key_file, &p->key_seen)))
			return true;
	}
	return false;
}

void
tls_certs_seen(struct tls_certs *certs)
{
	for (size_t i = 0; i < certs->n; i++) {
		struct tls_pair *p = &certs->pairs[i];

		if (p->cert_file == NULL)
			continue;
		/* one that is not there stays changed: it is on its way */
		(void)stat(p->cert_file, &p->cert_seen);
		(void)stat(p->key_file, &p->key_seen);
	}
}
