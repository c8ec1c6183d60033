/*
 * tls_cert.h - behind tls.h: certificates and keys as the engine needs them.
 */
#ifndef TLS_CERT_H
#define TLS_CERT_H

#include <sys/stat.h>

#include <bearssl.h>

#include "tls.h"

#define TLS_PEM_MAX (256 * 1024)	/* octets of a file */
#define TLS_CHAIN_MAX 16	/* certificates in a file */

/* Tags of DER, as they are written. */
enum {
	DER_BOOLEAN = 0x01, DER_INTEGER = 0x02, DER_BIT_STRING = 0x03, DER_OCTET_STRING = 0x04, DER_OID = 0x06, DER_UTF8 = 0x0c,
	DER_PRINTABLE = 0x13, DER_IA5 = 0x16, DER_UTC_TIME = 0x17, DER_GENERALIZED_TIME = 0x18, DER_SEQUENCE = 0x30, DER_SET = 0x31,
	DER_CONTEXT_0 = 0xa0, DER_CONTEXT_3 = 0xa3, DER_DNS_NAME = 0x82,
};

/*
 * A private key, in pages of its own. BearSSL 0.6's decoder takes its key_data for 3 * BR_X509_BUFSIZE_KEY octets long, 24 more
 * than it is: an odd key file writes behind it. The slack takes that.
 */
struct tls_key {
	br_skey_decoder_context	 d;
	unsigned char		 slack[3 * (BR_X509_BUFSIZE_KEY - BR_X509_BUFSIZE_SIG) + 40];
};

/* A certificate with what leads to its issuer, and its key. All zero is an empty one. */
struct tls_pair {
	char			*cert_file, *key_file;	/* owned; NULL: made by us */
	struct stat		 cert_seen, key_seen;	/* which version of each was read */
	br_x509_certificate	*chain;		/* owned, like the octets it points to */
	size_t			 chain_len;
	struct buf		 names;		/* host names and "*.domain", lower case, each with its NUL */
	struct tls_key		*key;		/* owned */
	int			 key_type;	/* BR_KEYTYPE_RSA, BR_KEYTYPE_EC; 0: no key yet */
	const br_rsa_private_key *rsa;		/* borrowed from key */
	const br_ec_private_key	*ec;		/* borrowed from key */
	struct tls_cert_info	 info;
};

struct tls_certs {
	struct tls_pair	*pairs;		/* owned */
	size_t		 n;
	br_ec_impl	 curves;	/* BearSSL's, with the curves that we offer */
};

/* Zeroed pages that no core dump has; NULL with errno. The other wipes them. */
void	*tls_secret_new(size_t size);
void	tls_secret_free(void *p, size_t size);

/* The certificates of a PEM text. 0, or -1 with *why: a constant that says what is wrong and what is expected. */
int	tls_pair_chain(struct tls_pair *p, struct span pem, const char **why);
/* The key of a PEM text; the chain is there, and the key must be the one of its first certificate. */
int	tls_pair_key(struct tls_pair *p, struct span pem, const char **why);
/* A new EC key and a certificate for hostname that it signs itself. 0, or -1 with *why. */
int	tls_pair_self_signed(struct tls_pair *p, const char *hostname, int64_t now_time, const char **why);
/* The chain is there: names, dates and fingerprint into p->info, order and form checked. */
int	tls_pair_check_chain(struct tls_pair *p, const char **why);
/* Of certificate i of a chain that was checked: from when till when it is valid. */
void	tls_pair_dates(const struct tls_pair *p, size_t i, int64_t *not_before_time, int64_t *not_after_time);
/* Chain and key are there: whether they belong together; then the pair can be served. */
int	tls_pair_check_key(struct tls_pair *p, const char **why);
/* Wipe the key, free the rest. */
void	tls_pair_clear(struct tls_pair *p);

/* Whether the certificate is for this host (lower case), by its own name or, wildcard, as *.domain with one label in front. */
bool	tls_pair_is_for(const struct tls_pair *p, const char *name, bool wildcard);

#endif
