/*
 * tls_self.c - a key of our own, and a certificate for it: DER, written.
 */
#include "tls_cert.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#define DAY_SECONDS (24 * 60 * 60)
#define VALID_DAYS 397		/* more is refused by some clients */

/* DER written from its end to its beginning, so that a length is known when its turn comes. */
struct der_writer {
	unsigned char	octets[2048];
	size_t		at;		/* where it begins */
	bool		failed;
};

static void
put(struct der_writer *w, const void *p, size_t n)
{
	if (w->failed || n > w->at) {
		w->failed = true;
		return;
	}
	w->at -= n;
	memcpy(w->octets + w->at, p, n);
}

static void
put_octet(struct der_writer *w, unsigned octet)
{
	put(w, &(unsigned char){ (unsigned char)octet }, 1);
}

/* Put tag and length before what was written since at was end. */
static void
wrap(struct der_writer *w, unsigned tag, size_t end)
{
	size_t len = end - w->at;

	put_octet(w, (unsigned)len & 0xff);
	if (len > 0xff) {
		put_octet(w, (unsigned)(len >> 8));
		put_octet(w, 0x82);
	} else if (len > 0x7f) {
		put_octet(w, 0x81);
	}
	put_octet(w, tag);
}

static void
put_element(struct der_writer *w, unsigned tag, const void *p, size_t n)
{
	size_t end = w->at;

	put(w, p, n);
	wrap(w, tag, end);
}

static void
put_time(struct der_writer *w, int64_t time_)
{
	time_t t = (time_t)time_;
	char text[32];
	struct tm tm;
	bool two_digits;

	if (gmtime_r(&t, &tm) == NULL) {
		w->failed = true;
		return;
	}
	two_digits = tm.tm_year < 150;	/* until 2049, RFC 5280 4.1.2.5 */
	if (strftime(text, sizeof(text), two_digits ? "%y%m%d%H%M%SZ" : "%Y%m%d%H%M%SZ", &tm) == 0)
		w->failed = true;
	else
		put_element(w, two_digits ? DER_UTC_TIME : DER_GENERALIZED_TIME, text, strlen(text));
}

/* One extension; value is the content of its OCTET STRING. */
static void
put_extension(struct der_writer *w, unsigned id, bool critical, const void *value, size_t n)
{
	size_t end = w->at;

	put_element(w, DER_OCTET_STRING, value, n);
	if (critical)
		put(w, "\x01\x01\xff", 3);
	put_element(w, DER_OID, (const unsigned char[]){ 0x55, 0x1d, (unsigned char)id }, 3);
	wrap(w, DER_SEQUENCE, end);
}

static void
put_extensions(struct der_writer *w, const char *hostname)
{
	size_t end = w->at, inner;

	put_extension(w, 0x25, false, "\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01", 12);	/* extKeyUsage: serverAuth */
	put_extension(w, 0x0f, true, "\x03\x02\x07\x80", 4);					/* keyUsage: digitalSignature */
	put_extension(w, 0x13, true, "\x30\x00", 2);						/* basicConstraints: no CA */
	inner = w->at;
	put_element(w, DER_DNS_NAME, hostname, strlen(hostname));
	wrap(w, DER_SEQUENCE, inner);
	wrap(w, DER_OCTET_STRING, inner);
	put(w, "\x06\x03\x55\x1d\x11", 5);							/* subjectAltName */
	wrap(w, DER_SEQUENCE, inner);
	wrap(w, DER_SEQUENCE, end);
	wrap(w, DER_CONTEXT_3, end);
}

static void
put_name(struct der_writer *w, const char *hostname)
{
	size_t end = w->at;

	put_element(w, DER_UTF8, hostname, strnlen(hostname, 64));	/* ub-common-name; the whole one is in subjectAltName */
	put(w, "\x06\x03\x55\x04\x03", 5);
	wrap(w, DER_SEQUENCE, end);
	wrap(w, DER_SET, end);
	wrap(w, DER_SEQUENCE, end);
}

static void
put_algorithm(struct der_writer *w)
{
	put_element(w, DER_SEQUENCE, "\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02", 10);	/* ecdsa-with-SHA256 */
}

/* What is signed (RFC 5280 4.1.2), last field first. */
static void
put_tbs(struct der_writer *w, const char *hostname, const br_ec_public_key *pk, const unsigned char serial[16], int64_t now_time)
{
	size_t end = w->at, inner;

	put_extensions(w, hostname);
	inner = w->at;
	put(w, pk->q, pk->qlen);
	put_octet(w, 0);	/* unused bits */
	wrap(w, DER_BIT_STRING, inner);
	put_element(w, DER_SEQUENCE, "\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", 19);	/* P-256 */
	wrap(w, DER_SEQUENCE, inner);
	put_name(w, hostname);
	inner = w->at;
	put_time(w, now_time + VALID_DAYS * (int64_t)DAY_SECONDS);
	put_time(w, now_time - 60 * 60);	/* for clocks that are behind ours */
	wrap(w, DER_SEQUENCE, inner);
	put_name(w, hostname);
	put_algorithm(w);
	put_element(w, DER_INTEGER, serial, 16);
	put(w, "\xa0\x03\x02\x01\x02", 5);	/* v3 */
	wrap(w, DER_SEQUENCE, end);
}

/* The certificate, written into w. */
static bool
self_sign(struct der_writer *w, const br_ec_private_key *sk, const char *hostname, const unsigned char serial[16], int64_t now_time)
{
	const br_ec_impl *ec = br_ec_get_default();
	unsigned char hash[br_sha256_SIZE], signature[160], q[BR_EC_KBUF_PUB_MAX_SIZE];
	struct der_writer tbs = { .at = sizeof(tbs.octets) };
	br_ec_public_key pk;
	br_sha256_context h;
	size_t len;

	if (br_ec_compute_pub(ec, &pk, q, sk) == 0)
		return false;
	put_tbs(&tbs, hostname, &pk, serial, now_time);
	br_sha256_init(&h);
	br_sha256_update(&h, tbs.octets + tbs.at, sizeof(tbs.octets) - tbs.at);
	br_sha256_out(&h, hash);
	len = br_ecdsa_sign_asn1_get_default()(ec, &br_sha256_vtable, hash, sk, signature);
	*w = (struct der_writer){ .at = sizeof(w->octets) };
	put(w, signature, len);
	put_octet(w, 0);
	wrap(w, DER_BIT_STRING, sizeof(w->octets));
	put_algorithm(w);
	put(w, tbs.octets + tbs.at, sizeof(tbs.octets) - tbs.at);
	wrap(w, DER_SEQUENCE, sizeof(w->octets));
	return len > 0 && !tbs.failed && !w->failed;
}

int
tls_pair_self_signed(struct tls_pair *p, const char *hostname, int64_t now_time, const char **why)
{
	struct { unsigned char seed[48], serial[16]; } random;
	struct der_writer w;
	br_hmac_drbg_context rng;
	bool made;

	*why = "the kernel gives no random octets";
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -1;
	random.serial[0] = (random.serial[0] & 0x7f) | 0x40;	/* positive, in its shortest form */
	*why = "out of memory";
	p->key = tls_secret_new(sizeof(*p->key));
	p->chain = calloc(TLS_CHAIN_MAX, sizeof(*p->chain));
	if (p->key == NULL || p->chain == NULL)
		return -1;
	br_hmac_drbg_init(&rng, &br_sha256_vtable, random.seed, sizeof(random.seed));
	static_assert(sizeof(p->key->d.key_data) >= BR_EC_KBUF_PRIV_MAX_SIZE, "a key of ours fits");
	made = br_ec_keygen(&rng.vtable, br_ec_get_default(), &p->key->d.key.ec, p->key->d.key_data, BR_EC_secp256r1) > 0 &&
	    self_sign(&w, &p->key->d.key.ec, hostname, random.serial, now_time);
	explicit_bzero(&rng, sizeof(rng));
	explicit_bzero(&random, sizeof(random));
	*why = "no certificate can be made for this hostname";
	if (!made)
		return -1;
	p->key->d.key_type = BR_KEYTYPE_EC;
	*why = "out of memory";
	p->chain[0].data_len = sizeof(w.octets) - w.at;
	p->chain[0].data = malloc(p->chain[0].data_len);
	if (p->chain[0].data == NULL)
		return -1;
	memcpy(p->chain[0].data, w.octets + w.at, p->chain[0].data_len);
	p->chain_len = 1;
	p->info.self_signed = true;
	/* read back like one from a file */
	return tls_pair_check_chain(p, why) == -1 || tls_pair_check_key(p, why) == -1 ? -1 : 0;
}
