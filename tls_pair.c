/*
 * tls_pair.c - a certificate and its key, read from PEM text and checked.
 *
 * RFC 7468 (PEM), 5280 (X.509), 8017, 5915 and 5958 (keys, which BearSSL reads), 6125 (which names count).
 * Reading DER is exact: definite lengths in their shortest form, nothing left over. Nothing here recurses.
 */
#include "tls_cert.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 4096

/* ---- memory for secrets ---- */

/* Zeroed pages that no core dump has; NULL with errno. */
void *
tls_secret_new(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	/* a kernel without it: cores are switched off anyway */
	(void)madvise(p, size, MADV_DONTDUMP);
	return p;
}

void
tls_secret_free(void *p, size_t size)
{
	if (p == NULL)
		return;
	explicit_bzero(p, size);
	(void)munmap(p, size);
}

/* ---- DER, read ---- */

/* Take the element that *rest begins with; *rest is untouched when it begins with none. */
static bool
der_any(struct span *rest, unsigned *tag, struct span *content)
{
	const unsigned char *p = (const unsigned char *)rest->p;
	size_t n = rest->len, len, head = 2;

	if (n < 2 || (p[0] & 0x1f) == 0x1f)
		return false;
	len = p[1];
	if (len >= 0x80) {
		size_t octets = len & 0x7f;

		if (octets == 0 || octets > 3 || octets > n - 2)
			return false;
		len = 0;
		for (; head < 2 + octets; head++)
			len = len << 8 | p[head];
		if (len < 0x80 || len >> 8 * (octets - 1) == 0)
			return false;	/* not the shortest form */
	}
	if (len > n - head)
		return false;
	*tag = p[0];
	*content = (struct span){ rest->p + head, len };
	*rest = (struct span){ rest->p + head + len, n - head - len };
	return true;
}

/* Take an element with this tag. */
static bool
der_take(struct span *rest, unsigned want, struct span *content)
{
	struct span after = *rest, inner;
	unsigned tag;

	if (!der_any(&after, &tag, &inner) || tag != want)
		return false;
	*content = inner;
	*rest = after;
	return true;
}

/* Take a whole element, tag and length included. */
static bool
der_whole(struct span *rest, unsigned want, struct span *element)
{
	struct span before = *rest, content;

	if (!der_take(rest, want, &content))
		return false;
	*element = (struct span){ before.p, before.len - rest->len };
	return true;
}

/* UTCTime or GeneralizedTime in the forms of RFC 5280 4.1.2.5: in UTC, with seconds. */
static bool
der_time(struct span *rest, int64_t *time_)
{
	struct span s;
	unsigned tag;
	uint64_t n[7] = { 0 };	/* century, year, month, day, hour, minute, second */
	struct tm tm = { 0 };

	if (!der_any(rest, &tag, &s) || (tag != DER_UTC_TIME && tag != DER_GENERALIZED_TIME))
		return false;
	if (s.len != (tag == DER_UTC_TIME ? 13 : 15) || s.p[s.len - 1] != 'Z')
		return false;
	for (size_t i = tag == DER_UTC_TIME ? 1 : 0, at = 0; i < COUNT(n); i++, at += 2)
		if (text_u64(text_sub(s, at, at + 2), 99, &n[i]) == -1)
			return false;
	if (tag == DER_UTC_TIME)
		n[0] = n[1] >= 50 ? 19 : 20;
	if (n[2] < 1 || n[2] > 12 || n[3] < 1 || n[3] > 31 || n[4] > 23 || n[5] > 59 || n[6] > 60)
		return false;
	tm.tm_year = (int)(n[0] * 100 + n[1]) - 1900;
	tm.tm_mon = (int)n[2] - 1;
	tm.tm_mday = (int)n[3];
	tm.tm_hour = (int)n[4];
	tm.tm_min = (int)n[5];
	tm.tm_sec = (int)n[6];
	*time_ = (int64_t)timegm(&tm);
	return true;
}

/* What we need of a certificate; spans into its DER. */
struct certificate {
	struct span	issuer, subject;	/* whole Names */
	struct span	alt_names;		/* content of subjectAltName; p NULL: there is none */
	int64_t		not_before_time, not_after_time;
};

static bool
read_extensions(struct span rest, struct certificate *c)
{
	struct span list, extension, oid, value, ignored;

	if (!der_take(&rest, DER_SEQUENCE, &list) || rest.len > 0)
		return false;
	while (list.len > 0) {
		if (!der_take(&list, DER_SEQUENCE, &extension) || !der_take(&extension, DER_OID, &oid))
			return false;
		(void)der_take(&extension, DER_BOOLEAN, &ignored);	/* critical, and optional */
		if (!der_take(&extension, DER_OCTET_STRING, &value) || extension.len > 0)
			return false;
		if (text_eq(oid, SPAN("\x55\x1d\x11")) &&	/* 2.5.29.17 */
		    (c->alt_names.p != NULL || !der_take(&value, DER_SEQUENCE, &c->alt_names) || value.len > 0))
			return false;
	}
	return true;
}

/* RFC 5280 4.1, with what follows the subject's key skipped up to the extensions. */
static bool
read_certificate(struct span der, struct certificate *c)
{
	struct span outer, tbs, validity, ignored;
	unsigned tag;

	*c = (struct certificate){ 0 };
	if (!der_take(&der, DER_SEQUENCE, &outer) || der.len > 0 || !der_take(&outer, DER_SEQUENCE, &tbs) ||
	    !der_take(&outer, DER_SEQUENCE, &ignored) || !der_take(&outer, DER_BIT_STRING, &ignored) || outer.len > 0)
		return false;
	(void)der_take(&tbs, DER_CONTEXT_0, &ignored);	/* version: absent in v1 */
	if (!der_take(&tbs, DER_INTEGER, &ignored) || !der_take(&tbs, DER_SEQUENCE, &ignored) ||
	    !der_whole(&tbs, DER_SEQUENCE, &c->issuer) || !der_take(&tbs, DER_SEQUENCE, &validity) ||
	    !der_whole(&tbs, DER_SEQUENCE, &c->subject) || !der_take(&tbs, DER_SEQUENCE, &ignored))
		return false;
	if (!der_time(&validity, &c->not_before_time) || !der_time(&validity, &c->not_after_time) || validity.len > 0)
		return false;
	while (tbs.len > 0) {
		if (!der_any(&tbs, &tag, &ignored))
			return false;
		if (tag == DER_CONTEXT_3 && !read_extensions(ignored, c))
			return false;
	}
	return true;
}

/* ---- the names of a certificate ---- */

/* Keep a name that a host can have, also "*." and one; others can never be asked for. */
static void
add_name(struct buf *names, struct span name)
{
	char host[SMTP_DOMAIN_MAX + 1];
	bool wildcard = name.len > 2 && name.p[0] == '*' && name.p[1] == '.';

	if (!smtp_domain(text_sub(name, wildcard ? 2 : 0, name.len), false, host))
		return;
	if (wildcard)
		buf_add_str(names, "*.");
	buf_add(names, host, strlen(host) + 1);
}

/* The commonName of a Name, which counts only where there is no subjectAltName (RFC 6125 6.4.4). */
static void
add_common_name(struct buf *names, struct span name)
{
	struct span rdns, rdn, attribute, oid, value;
	unsigned tag;

	if (!der_take(&name, DER_SEQUENCE, &rdns))
		return;
	while (der_take(&rdns, DER_SET, &rdn))
		while (der_take(&rdn, DER_SEQUENCE, &attribute))
			if (der_take(&attribute, DER_OID, &oid) && text_eq(oid, SPAN("\x55\x04\x03")) &&	/* 2.5.4.3 */
			    der_any(&attribute, &tag, &value) && (tag == DER_UTF8 || tag == DER_PRINTABLE || tag == DER_IA5))
				add_name(names, value);
}

static int
read_names(struct tls_pair *p, const struct certificate *c)
{
	struct span rest = c->alt_names, name;
	unsigned tag;

	buf_init(&p->names, TLS_PEM_MAX);
	if (c->alt_names.p == NULL)
		add_common_name(&p->names, c->subject);
	while (der_any(&rest, &tag, &name))
		if (tag == DER_DNS_NAME)
			add_name(&p->names, name);
	if (p->names.failed)
		return -1;
	if (buf_len(&p->names) > 0)	/* a wildcard may be two octets longer than TLS_NAME_MAX: then it is cut, for the log only */
		(void)snprintf(p->info.name, sizeof(p->info.name), "%s", p->names.data);
	return 0;
}

bool
tls_pair_is_for(const struct tls_pair *p, const char *name, bool wildcard)
{
	const char *parent = strchr(name, '.'), *end = p->names.data + p->names.wpos;

	for (const char *have = p->names.data; have != end; have += strlen(have) + 1)	/* each ends in a NUL */
		if (wildcard ? have[0] == '*' && parent != NULL && strcmp(have + 1, parent) == 0 : strcmp(have, name) == 0)
			return true;
	return false;
}

/* ---- PEM ---- */

struct pem_reader {
	bool	(*begin)(void *ctx, const char *name);	/* whether its octets are wanted */
	void	(*octets)(void *ctx, const void *p, size_t n);
	bool	(*end)(void *ctx);			/* false: no more */
	void	*ctx;
};

struct pem_state {
	br_pem_decoder_context	 d;
	const struct pem_reader	*r;
	bool	inside, wanted;		/* an object is open; its octets go to the reader */
	bool	broken, enough;
};

static void
pem_event(struct pem_state *s, int event)
{
	switch (event) {
	case BR_PEM_BEGIN_OBJ:
		s->inside = true;
		s->wanted = s->r->begin(s->r->ctx, br_pem_decoder_name(&s->d));
		br_pem_decoder_setdest(&s->d, s->wanted ? s->r->octets : NULL, s->r->ctx);
		break;
	case BR_PEM_END_OBJ:
		s->enough = s->wanted && !s->r->end(s->r->ctx);
		s->inside = false;
		break;
	case BR_PEM_ERROR:
		s->broken = s->wanted;	/* what we have no use for may be anything */
		s->inside = false;
		break;
	default:
		break;
	}
}

static void
pem_push(struct pem_state *s, struct span text)
{
	while (text.len > 0 && !s->broken && !s->enough) {
		size_t n = br_pem_decoder_push(&s->d, text.p, text.len);

		text = text_sub(text, n, text.len);
		pem_event(s, br_pem_decoder_event(&s->d));
	}
}

/* All objects of a text, or up to the one after which the reader wants no more; false: one is damaged. */
static bool
pem_read(struct span text, const struct pem_reader *r)
{
	struct pem_state s = { .r = r };
	struct span part;
	bool whole;

	br_pem_decoder_init(&s.d);
	while (text_token(&text, "\r", &part))	/* BearSSL would take a line's CR for a part of the name */
		pem_push(&s, part);
	pem_push(&s, SPAN("\n"));	/* a last line without an end */
	whole = !s.broken && (s.enough || !s.inside || !s.wanted);
	explicit_bzero(&s, sizeof(s));
	return whole;
}

/* ---- the chain ---- */

struct chain_reader {
	struct tls_pair	*pair;
	struct buf	 der;
	bool		 too_many, no_memory;
};

static bool
chain_begin(void *ctx, const char *name)
{
	struct chain_reader *r = ctx;

	buf_reset(&r->der);
	return strcmp(name, "CERTIFICATE") == 0 || strcmp(name, "X509 CERTIFICATE") == 0;
}

static void
chain_octets(void *ctx, const void *p, size_t n)
{
	struct chain_reader *r = ctx;

	buf_add(&r->der, p, n);
}

static bool
chain_end(void *ctx)
{
	struct chain_reader *r = ctx;
	br_x509_certificate *to = &r->pair->chain[r->pair->chain_len];

	r->too_many = r->pair->chain_len == TLS_CHAIN_MAX;
	if (r->too_many)
		return false;
	to->data_len = buf_len(&r->der);
	to->data = malloc(to->data_len + 1);
	r->no_memory = r->der.failed || to->data == NULL;
	if (r->no_memory)
		return false;
	if (to->data_len > 0)
		memcpy(to->data, r->der.data, to->data_len);
	r->pair->chain_len++;
	return true;
}

static struct span
chain_span(const struct tls_pair *p, size_t i)
{
	return (struct span){ (const char *)p->chain[i].data, p->chain[i].data_len };
}

static size_t
rsa_bits(const br_rsa_public_key *pk)
{
	size_t i = 0, bits;

	while (i < pk->nlen && pk->n[i] == 0)
		i++;
	bits = (pk->nlen - i) * 8;
	for (unsigned mask = 0x80; i < pk->nlen && (pk->n[i] & mask) == 0; mask >>= 1)
		bits--;
	return bits;
}

/* The key of the first certificate is one that we can serve with; it is borrowed from d. */
static const br_x509_pkey *
public_key(const struct tls_pair *p, br_x509_decoder_context *d, const char **why)
{
	const br_x509_pkey *pk;
	size_t bits;

	br_x509_decoder_init(d, NULL, NULL);
	br_x509_decoder_push(d, p->chain[0].data, p->chain[0].data_len);
	*why = "the certificate has an RSA key over 4096 bits; use 2048 to 4096";
	if (br_x509_decoder_last_error(d) == BR_ERR_X509_LIMIT_EXCEEDED)
		return NULL;
	*why = "the certificate's key is none that we can use; use RSA with 2048 to 4096 bits, or EC on P-256 or P-384";
	pk = br_x509_decoder_get_pkey(d);
	if (pk == NULL)
		return NULL;
	if (pk->key_type == BR_KEYTYPE_EC)
		return pk->key.ec.curve == BR_EC_secp256r1 || pk->key.ec.curve == BR_EC_secp384r1 ? pk : NULL;
	bits = rsa_bits(&pk->key.rsa);
	*why = bits < RSA_BITS_MIN ? "the certificate has an RSA key below 2048 bits; use 2048 to 4096" :
	    "the certificate has an RSA key over 4096 bits; use 2048 to 4096";
	return bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX ? pk : NULL;
}

static void
fingerprint(struct tls_pair *p)
{
	br_sha256_context h;
	unsigned char octets[br_sha256_SIZE];

	br_sha256_init(&h);
	br_sha256_update(&h, p->chain[0].data, p->chain[0].data_len);
	br_sha256_out(&h, octets);
	for (size_t i = 0; i < sizeof(octets); i++)
		(void)snprintf(p->info.sha256 + 2 * i, 3, "%02x", octets[i]);
}

int
tls_pair_check_chain(struct tls_pair *p, const char **why)
{
	struct certificate c, before = { 0 };
	br_x509_decoder_context d;

	*why = "is not an X.509 certificate in DER; it, or one behind it, is damaged";
	for (size_t i = 0; i < p->chain_len; i++) {
		if (!read_certificate(chain_span(p, i), &c))
			return -1;
		if (i == 0) {
			p->info.not_before_time = c.not_before_time;
			p->info.not_after_time = c.not_after_time;
			if (read_names(p, &c) == -1) {
				*why = "out of memory";
				return -1;
			}
		} else if (!text_eq(before.issuer, c.subject)) {
			*why = "certificates are out of order: the server's own comes first, each is followed by its issuer's";
			return -1;
		}
		before = c;
	}
	fingerprint(p);
	return public_key(p, &d, why) == NULL ? -1 : 0;
}

void
tls_pair_dates(const struct tls_pair *p, size_t i, int64_t *not_before_time, int64_t *not_after_time)
{
	struct certificate c;

	/* it was read once, so it can be read */
	(void)read_certificate(chain_span(p, i), &c);
	*not_before_time = c.not_before_time;
	*not_after_time = c.not_after_time;
}

int
tls_pair_chain(struct tls_pair *p, struct span pem, const char **why)
{
	struct chain_reader r = { .pair = p };
	const struct pem_reader reader = { chain_begin, chain_octets, chain_end, &r };
	bool whole;

	p->chain = calloc(TLS_CHAIN_MAX, sizeof(*p->chain));
	*why = "out of memory";
	if (p->chain == NULL)
		return -1;
	buf_init(&r.der, TLS_PEM_MAX);
	whole = pem_read(pem, &reader);
	buf_clear(&r.der);
	if (r.no_memory)
		return -1;
	*why = "a certificate in it is damaged: not base64, or without its END line";
	if (!whole)
		return -1;
	*why = "more than 16 certificates";
	if (r.too_many)
		return -1;
	*why = "no certificate in it; a PEM file is expected, the server's certificate first, each followed by its issuer's";
	if (p->chain_len == 0)
		return -1;
	return tls_pair_check_chain(p, why);
}

/* ---- the key ---- */

struct key_reader {
	struct tls_key	*key;		/* where the next one goes */
	size_t		 n;
	bool		 encrypted;
};

static bool
key_begin(void *ctx, const char *name)
{
	struct key_reader *r = ctx;

	if (strcmp(name, "ENCRYPTED PRIVATE KEY") == 0)
		r->encrypted = true;
	if (strcmp(name, "PRIVATE KEY") != 0 && strcmp(name, "RSA PRIVATE KEY") != 0 && strcmp(name, "EC PRIVATE KEY") != 0)
		return false;
	if (r->n == 0)
		br_skey_decoder_init(&r->key->d);
	return true;
}

static void
key_octets(void *ctx, const void *p, size_t n)
{
	struct key_reader *r = ctx;

	/* octets behind a key that is complete: BearSSL's interpreter has ended, and would run on from NULL */
	if (r->n == 0 && r->key->d.cpu.ip != NULL)
		br_skey_decoder_push(&r->key->d, p, n);
}

static bool
key_end(void *ctx)
{
	struct key_reader *r = ctx;

	r->n++;
	return r->n < 2;
}

static const unsigned char test_hash[32] = "does this key fit that one here?";	/* any 32 octets */

/* Whether what the key signs is what the certificate's key verifies: they belong together, and the key is sound. */
static bool
ec_fits(const br_ec_private_key *sk, const br_ec_public_key *pk)
{
	unsigned char signature[160];
	const br_ec_impl *ec = br_ec_get_default();
	size_t len;

	if (sk->curve != pk->curve)
		return false;
	len = br_ecdsa_sign_asn1_get_default()(ec, &br_sha256_vtable, test_hash, sk, signature);
	return len > 0 && br_ecdsa_vrfy_asn1_get_default()(ec, test_hash, sizeof(test_hash), pk, signature, len) == 1;
}

static bool
rsa_fits(const br_rsa_private_key *sk, const br_rsa_public_key *pk)
{
	unsigned char signature[RSA_BITS_MAX / 8], hash[sizeof(test_hash)];
	size_t len = (sk->n_bitlen + 7) / 8;

	/* BearSSL's arithmetic is for odd primes of about half the length; it checks little */
	if (sk->n_bitlen != rsa_bits(pk) || len > sizeof(signature) || sk->plen < len / 4 || sk->qlen < len / 4 || sk->plen > len || sk->qlen > len ||
	    sk->dplen > sk->plen || sk->dqlen > sk->qlen || sk->iqlen > sk->plen ||
	    (sk->p[sk->plen - 1] & 1) == 0 || (sk->q[sk->qlen - 1] & 1) == 0)
		return false;
	return br_rsa_pkcs1_sign_get_default()(BR_HASH_OID_SHA256, test_hash, sizeof(test_hash), sk, signature) == 1 &&
	    br_rsa_pkcs1_vrfy_get_default()(signature, len, BR_HASH_OID_SHA256, sizeof(hash), pk, hash) == 1 &&
	    memcmp(hash, test_hash, sizeof(hash)) == 0;
}

/* The key fits the certificate: it becomes the pair's. */
int
tls_pair_check_key(struct tls_pair *p, const char **why)
{
	br_x509_decoder_context d;
	const br_x509_pkey *pk = public_key(p, &d, why);
	br_skey_decoder_context *sk = &p->key->d;
	bool fits;

	if (pk == NULL)
		return -1;
	*why = "its key belongs to another certificate than the first one of the certificate file";
	if (pk->key_type != br_skey_decoder_key_type(sk))
		return -1;
	fits = pk->key_type == BR_KEYTYPE_EC ? ec_fits(&sk->key.ec, &pk->key.ec) : rsa_fits(&sk->key.rsa, &pk->key.rsa);
	if (!fits)
		return -1;
	p->key_type = pk->key_type;
	if (p->key_type == BR_KEYTYPE_EC)
		p->ec = &sk->key.ec;
	else
		p->rsa = &sk->key.rsa;
	return 0;
}

int
tls_pair_key(struct tls_pair *p, struct span pem, const char **why)
{
	struct key_reader r = { 0 };
	const struct pem_reader reader = { key_begin, key_octets, key_end, &r };
	bool whole;

	r.key = p->key = tls_secret_new(sizeof(*p->key));
	*why = "out of memory";
	if (p->key == NULL)
		return -1;
	whole = pem_read(pem, &reader);
	*why = "its key is encrypted; store it without a passphrase: openssl pkey -in FILE -out NEW";
	if (r.encrypted || memmem(pem.p, pem.len, "Proc-Type: 4,ENCRYPTED", 22) != NULL)
		return -1;
	*why = "its key is damaged: not base64, or without its END line";
	if (!whole)
		return -1;
	*why = "no private key in it; a PEM file is expected with BEGIN PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY";
	if (r.n == 0)
		return -1;
	*why = "several private keys; one pair of files holds one";
	if (r.n > 1)
		return -1;
	switch (br_skey_decoder_last_error(&p->key->d)) {
	case 0:
		return tls_pair_check_key(p, why);
	case BR_ERR_X509_UNSUPPORTED:
	case BR_ERR_X509_LIMIT_EXCEEDED:
		*why = "its key is none that we can use; use RSA with 2048 to 4096 bits, or EC on P-256 or P-384";
		return -1;
	default:
		*why = "its key is damaged: no PKCS#1, SEC1 or PKCS#8 in DER";
		return -1;
	}
}

/* ---- the end ---- */

void
tls_pair_clear(struct tls_pair *p)
{
	for (size_t i = 0; i < p->chain_len; i++)
		free(p->chain[i].data);
	free(p->chain);
	tls_secret_free(p->key, sizeof(*p->key));
	buf_clear(&p->names);
	free(p->cert_file);
	free(p->key_file);
	*p = (struct tls_pair){ 0 };
}
