/*
 * tls.c - TLS of one connection without I/O, by BearSSL's server engine.
 *
 * RFC 5246, 4346, 2246; 5288, 7905 and 8422 (suites and curves), 6066 (SNI), 5746 (renegotiation, which is refused), 9155 (no SHA-1 in 1.2).
 * The engine's own seeder is never asked (a sandboxed process cannot open /dev/urandom): random octets are injected at the start.
 */
#include "tls.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include <bearssl.h>

#include "tls_cache.h"
#include "tls_cert.h"

/* BearSSL's MAX_OUT_OVERHEAD and MAX_IN_OVERHEAD with the longest record; what is over is for octets received ahead. */
#define OUT_SIZE (16384 + 85)
#define IN_SIZE (TLS_BUFFER_SIZE - OUT_SIZE)
#define RECORD_ALERT 21		/* RFC 5246 6.2.1 */

static_assert(TLS_BUFFER_SIZE >= BR_SSL_BUFSIZE_BIDI, "room for a whole record in each direction");

struct tls {
	br_ssl_server_context		 server;
	const br_ssl_server_policy_class *policy;		/* BearSSL finds the policy by the address of this, */
	const br_ssl_session_cache_class *cache_class;	/* and the cache by this one's */
	const struct tls_certs		*certs;		/* borrowed until tls_clear() */
	struct tls_cache		*cache;		/* borrowed until tls_clear(); NULL: none */
	const struct tls_pair		*pair;		/* borrowed from certs: what is served */
	size_t		ahead_at, ahead_len;	/* in the input buffer: octets that the engine has not taken yet */
	size_t		alert_at, alert_len;	/* in the output buffer: a last alert that the engine does not send itself */
	bool		started, opened, resumed, named, ended;
};

/* ---- which certificate, which suite ---- */

static struct tls *
of_policy(const br_ssl_server_policy_class **policy)
{
	return (struct tls *)(void *)((char *)policy - offsetof(struct tls, policy));
}

/*
 * The name asked for, as smtp_domain() writes it, or "". BearSSL keeps it as a string that ends at a NUL inside it: the octets
 * behind are still there, and such a name is none (case 6.7).
 */
static void
read_server_name(struct tls *t)
{
	char *name = t->server.eng.server_name, host[SMTP_DOMAIN_MAX + 1];
	size_t len = strnlen(name, sizeof(t->server.eng.server_name));
	bool whole = smtp_domain((struct span){ name, len }, false, host);

	for (size_t i = len; i < sizeof(t->server.eng.server_name); i++)
		whole = whole && name[i] == '\0';
	if (!t->named)
		(void)text_copy(name, sizeof(t->server.eng.server_name), text_span(whole ? host : ""));
	t->named = true;
}

/* The hash that an ECDHE signature is made of, as algo_id says it to BearSSL; 0: the client knows none that is good enough. */
static unsigned
signature_hash(const br_ssl_server_context *s, int key_type)
{
	static const unsigned preferred[] = { br_sha256_ID, br_sha384_ID, br_sha512_ID };
	uint32_t hashes = br_ssl_server_get_client_hashes(s) >> (key_type == BR_KEYTYPE_EC ? 8 : 0);

	if (s->eng.session.version < BR_TLS12)	/* SHA-1 for ECDSA, MD5 and SHA-1 (id 0) for RSA: RFC 4346 7.4.3 */
		return 0xff00u | (key_type == BR_KEYTYPE_EC ? br_sha1_ID : 0);
	for (size_t i = 0; i < COUNT(preferred); i++)	/* no SHA-1: RFC 9155 4 */
		if ((hashes >> preferred[i] & 1) != 0)
			return 0xff00u | preferred[i];
	return 0;
}

/* How well a pair fits the name asked for; with no name, and one that no certificate has, the first pair is what is asked for. */
enum fit { FIT_EXACT, FIT_WILDCARD, FIT_DEFAULT, FIT_ANY, FIT__MAX };

static bool
fits(const struct tls *t, const struct tls_pair *p, enum fit fit)
{
	const char *name = t->server.eng.server_name;
	const struct tls_pair *first = &t->certs->pairs[0];

	switch (fit) {
	case FIT_EXACT:
		return name[0] != '\0' && tls_pair_is_for(p, name, false);
	case FIT_WILDCARD:
		return name[0] != '\0' && tls_pair_is_for(p, name, true);
	case FIT_DEFAULT:	/* its twin with the other kind of key, too */
		return p == first || (first->info.name[0] != '\0' && tls_pair_is_for(p, first->info.name, false));
	case FIT_ANY:		/* a client that checks no certificate is better off with a wrong one than without TLS */
	case FIT__MAX:
		break;
	}
	return true;
}

/* The first pair that fits so well and that can serve this suite. */
static const struct tls_pair *
pair_for(const struct tls *t, unsigned suite_type, enum fit fit)
{
	int key_type = suite_type == BR_SSLKEYX_ECDHE_ECDSA ? BR_KEYTYPE_EC : BR_KEYTYPE_RSA;

	if ((suite_type != BR_SSLKEYX_ECDHE_ECDSA && suite_type != BR_SSLKEYX_ECDHE_RSA) || signature_hash(&t->server, key_type) == 0)
		return NULL;
	for (size_t i = 0; i < t->certs->n; i++)
		if (t->certs->pairs[i].key_type == key_type && fits(t, &t->certs->pairs[i], fit))
			return &t->certs->pairs[i];
	return NULL;
}

static int
policy_choose(const br_ssl_server_policy_class **policy, const br_ssl_server_context *s, br_ssl_server_choices *choices)
{
	struct tls *t = of_policy(policy);
	const br_suite_translated *suites;
	size_t n;

	read_server_name(t);
	t->resumed = false;	/* had the cache had something of use, nobody would ask */
	suites = br_ssl_server_get_client_suites(s, &n);
	for (enum fit fit = 0; fit < FIT__MAX; fit++)
		for (size_t i = 0; i < n; i++) {
			t->pair = pair_for(t, suites[i][1] >> 12, fit);
			if (t->pair == NULL)
				continue;
			choices->cipher_suite = suites[i][0];
			choices->algo_id = signature_hash(s, t->pair->key_type);
			choices->chain = t->pair->chain;
			choices->chain_len = t->pair->chain_len;
			return 1;
		}
	return 0;
}

static uint32_t
policy_do_keyx(const br_ssl_server_policy_class **policy, unsigned char *data, size_t *len)
{
	(void)policy;
	(void)data;
	(void)len;
	return 0;	/* for static RSA and ECDH, which are not offered */
}

static size_t
policy_do_sign(const br_ssl_server_policy_class **policy, unsigned algo_id, unsigned char *data, size_t hash_len, size_t size)
{
	static const unsigned char *const oids[] = {
		[br_sha256_ID] = BR_HASH_OID_SHA256, [br_sha384_ID] = BR_HASH_OID_SHA384, [br_sha512_ID] = BR_HASH_OID_SHA512,
	};
	struct tls *t = of_policy(policy);
	unsigned id = algo_id & 0xff;
	const br_hash_class *class = br_ssl_engine_get_hash(&t->server.eng, (int)id);
	unsigned char hash[64];
	size_t len;

	if (hash_len > sizeof(hash))
		return 0;
	memcpy(hash, data, hash_len);	/* the signature is written over it */
	if (t->pair->key_type == BR_KEYTYPE_EC)
		return class == NULL || size < 139 ? 0 :
		    br_ecdsa_sign_asn1_get_default()(&t->certs->curves, class, hash, t->pair->ec, data);
	len = (t->pair->rsa->n_bitlen + 7) / 8;
	if (len > size || id >= COUNT(oids) || (id != 0 && oids[id] == NULL))
		return 0;
	return br_rsa_pkcs1_sign_get_default()(oids[id], hash, hash_len, t->pair->rsa, data) == 1 ? len : 0;
}

static const br_ssl_server_policy_class policy_class = {
	sizeof(const br_ssl_server_policy_class *), policy_choose, policy_do_keyx, policy_do_sign,
};

/* ---- resumption ---- */

static struct tls *
of_cache(const br_ssl_session_cache_class **class)
{
	return (struct tls *)(void *)((char *)class - offsetof(struct tls, cache_class));
}

static int64_t
clock_ms(void)
{
	struct timespec ts = { 0 };

	/* CLOCK_MONOTONIC always exists */
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
cache_save(const br_ssl_session_cache_class **class, br_ssl_server_context *s, const br_ssl_session_parameters *params)
{
	struct tls_session session = { .version = params->version, .suite = params->cipher_suite };

	(void)s;
	static_assert(sizeof(session.id) == sizeof(params->session_id) && sizeof(session.secret) == sizeof(params->master_secret),
	    "RFC 5246 7.4.1.2, 8.1");
	memcpy(session.id, params->session_id, sizeof(session.id));
	memcpy(session.secret, params->master_secret, sizeof(session.secret));
	tls_cache_put(of_cache(class)->cache, &session, clock_ms());
	explicit_bzero(&session, sizeof(session));
}

/* BearSSL checks a session against what the client offers; whether we would still have it so, after a reload, is checked here. */
static int
cache_load(const br_ssl_session_cache_class **class, br_ssl_server_context *s, br_ssl_session_parameters *params)
{
	struct tls *t = of_cache(class);
	struct tls_session session;
	bool offered = false;

	if (!tls_cache_get(t->cache, params->session_id, clock_ms(), &session))
		return 0;
	for (size_t i = 0; i < s->eng.suites_num; i++)
		offered = offered || s->eng.suites_buf[i] == session.suite;
	t->resumed = offered && session.version >= s->eng.version_min && session.version <= s->eng.version_max;
	if (t->resumed) {
		params->version = session.version;
		params->cipher_suite = session.suite;
		memcpy(params->master_secret, session.secret, sizeof(session.secret));
	}
	explicit_bzero(&session, sizeof(session));
	return t->resumed;
}

static const br_ssl_session_cache_class cache_class = {
	sizeof(const br_ssl_session_cache_class *), cache_save, cache_load,
};

/* ---- tables ---- */

static const uint16_t suites[] = {
	BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, BR_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	BR_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	/* from here on: only with a min_version below 1.2, whose clients know nothing better */
	BR_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, BR_TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	BR_TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, BR_TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
};
#define SUITES_AEAD 6

static const struct {
	unsigned	 suite;
	const char	*name;
} suite_names[] = {
	{ BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,       "ECDHE-ECDSA-AES128-GCM-SHA256" },
	{ BR_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,         "ECDHE-RSA-AES128-GCM-SHA256" },
	{ BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305" },
	{ BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,   "ECDHE-RSA-CHACHA20-POLY1305" },
	{ BR_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,       "ECDHE-ECDSA-AES256-GCM-SHA384" },
	{ BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,         "ECDHE-RSA-AES256-GCM-SHA384" },
	{ BR_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,          "ECDHE-ECDSA-AES128-SHA" },
	{ BR_TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,            "ECDHE-RSA-AES128-SHA" },
	{ BR_TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,          "ECDHE-ECDSA-AES256-SHA" },
	{ BR_TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,            "ECDHE-RSA-AES256-SHA" },
};

/*
 * Errors of BearSSL's: its own, 256 + an alert that came, 512 + an alert that it sends. Of its own it says nothing to the client:
 * the alert of RFC 5246 7.2.2 is in the row.
 */
static const struct {
	int		 error;
	unsigned char	 alert;
	const char	*text;
} errors[] = {
	{ BR_ERR_BAD_PARAM,           BR_ALERT_DECODE_ERROR,       "malformed handshake message" },
	{ BR_ERR_UNSUPPORTED_VERSION, BR_ALERT_PROTOCOL_VERSION,   "not TLS" },
	{ BR_ERR_BAD_VERSION,         BR_ALERT_PROTOCOL_VERSION,   "unsupported version" },
	{ BR_ERR_BAD_LENGTH,          BR_ALERT_RECORD_OVERFLOW,    "bad record length" },
	{ BR_ERR_TOO_LARGE,           BR_ALERT_RECORD_OVERFLOW,    "record too large" },
	{ BR_ERR_BAD_MAC,             BR_ALERT_BAD_RECORD_MAC,     "bad record MAC" },
	{ BR_ERR_UNKNOWN_TYPE,        BR_ALERT_UNEXPECTED_MESSAGE, "unknown record type" },
	{ BR_ERR_UNEXPECTED,          BR_ALERT_UNEXPECTED_MESSAGE, "unexpected message" },
	{ BR_ERR_BAD_CCS,             BR_ALERT_UNEXPECTED_MESSAGE, "bad ChangeCipherSpec" },
	{ BR_ERR_BAD_ALERT,           BR_ALERT_DECODE_ERROR,       "malformed alert" },
	{ BR_ERR_BAD_HANDSHAKE,       BR_ALERT_DECODE_ERROR,       "malformed handshake message" },
	{ BR_ERR_OVERSIZED_ID,        BR_ALERT_DECODE_ERROR,       "session id too long" },
	{ BR_ERR_BAD_FRAGLEN,         BR_ALERT_ILLEGAL_PARAMETER,  "bad max_fragment_length" },
	{ BR_ERR_BAD_SECRENEG,        BR_ALERT_HANDSHAKE_FAILURE,  "bad renegotiation_info" },
	{ BR_ERR_LIMIT_EXCEEDED,      BR_ALERT_ILLEGAL_PARAMETER,  "value too large" },
	{ BR_ERR_BAD_FINISHED,        BR_ALERT_DECRYPT_ERROR,      "bad Finished" },
	{ BR_ERR_INVALID_ALGORITHM,   BR_ALERT_HANDSHAKE_FAILURE,  "no common algorithm" },
	{ BR_ERR_NO_RANDOM,           BR_ALERT_INTERNAL_ERROR,     "no entropy" },
	{ BR_ERR_SEND_FATAL_ALERT + BR_ALERT_HANDSHAKE_FAILURE, 0, "no common cipher suite" },
	{ BR_ERR_SEND_FATAL_ALERT + BR_ALERT_PROTOCOL_VERSION,  0, "unsupported version" },
	{ BR_ERR_SEND_FATAL_ALERT + 86,                         0, "inappropriate fallback" },	/* RFC 7507 */
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_UNEXPECTED_MESSAGE,      0, "client alert: unexpected message" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_BAD_RECORD_MAC,          0, "client alert: bad record MAC" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_HANDSHAKE_FAILURE,       0, "client alert: handshake failure" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_BAD_CERTIFICATE,         0, "client alert: bad certificate" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_UNSUPPORTED_CERTIFICATE, 0, "client alert: unsupported certificate" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_CERTIFICATE_REVOKED,     0, "client alert: certificate revoked" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_CERTIFICATE_EXPIRED,     0, "client alert: certificate expired" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_CERTIFICATE_UNKNOWN,     0, "client alert: certificate unknown" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_ILLEGAL_PARAMETER,       0, "client alert: illegal parameter" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_UNKNOWN_CA,              0, "client alert: unknown CA" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_DECODE_ERROR,            0, "client alert: decode error" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_DECRYPT_ERROR,           0, "client alert: decrypt error" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_PROTOCOL_VERSION,        0, "client alert: protocol version" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_INSUFFICIENT_SECURITY,   0, "client alert: insufficient security" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_INTERNAL_ERROR,          0, "client alert: internal error" },
	{ BR_ERR_RECV_FATAL_ALERT + BR_ALERT_NO_RENEGOTIATION,        0, "client alert: no renegotiation" },
};

/* ---- the engine ---- */

static bool
is_closed(const br_ssl_engine_context *e)
{
	return br_ssl_engine_current_state(e) == BR_SSL_CLOSED;
}

/*
 * Say why it fails, where BearSSL does not: an alert under the keys that are in use, in the output buffer. Not behind a record
 * of which a part is on its way: the engine forgets the rest of that when it fails.
 */
static void
add_alert(struct tls *t, int error)
{
	br_ssl_engine_context *e = &t->server.eng;
	unsigned char alert = BR_ALERT_INTERNAL_ERROR, *record;
	size_t len = 2;

	if (e->oxa < e->oxc)
		return;
	for (size_t i = 0; i < COUNT(errors); i++)
		if (errors[i].error == error)
			alert = errors[i].alert;
	e->obuf[e->oxc] = 2;	/* fatal */
	e->obuf[e->oxc + 1] = alert;
	record = e->out.vtable->encrypt(&e->out.vtable, RECORD_ALERT, e->version_out, e->obuf + e->oxc, &len);
	t->alert_at = (size_t)(record - e->obuf);
	t->alert_len = len;
}

/* The engine has just failed, or ended. */
static void
end(struct tls *t)
{
	br_ssl_engine_context *e = &t->server.eng;
	int error = br_ssl_engine_last_error(e);

	t->ended = true;
	t->ahead_len = 0;
	if (error != BR_ERR_OK && error < BR_ERR_RECV_FATAL_ALERT)
		add_alert(t, error);
	if (error != BR_ERR_OK && t->cache != NULL && e->session.session_id_len == sizeof(e->session.session_id) && t->opened)
		tls_cache_drop(t->cache, e->session.session_id);	/* RFC 5246 7.2.2 */
}

/* Whether the engine can neither take, nor give, nor send anything: two handshake messages came where it refuses them. */
static bool
is_stuck(const br_ssl_engine_context *e)
{
	return (br_ssl_engine_current_state(e) & (BR_SSL_RECVREC | BR_SSL_RECVAPP | BR_SSL_SENDREC)) == 0;
}

/* After each step of the engine: give it what came ahead, and see what has changed. */
static void
settle(struct tls *t)
{
	br_ssl_engine_context *e = &t->server.eng;
	unsigned char *to;
	size_t room;

	while (t->ahead_len > 0 && (to = br_ssl_engine_recvrec_buf(e, &room)) != NULL) {
		size_t n = t->ahead_len < room ? t->ahead_len : room;

		/* mostly it is there already: the engine goes through its buffer from the front, never past what came */
		memmove(to, e->ibuf + t->ahead_at, n);
		t->ahead_at += n;
		t->ahead_len -= n;
		br_ssl_engine_recvrec_ack(e, n);
	}
	if (!t->opened && !is_closed(e) && (e->application_data & 1) != 0) {
		read_server_name(t);
		t->opened = true;
	}
	if (e->shutdown_recv)
		t->ahead_len = 0;	/* nothing counts behind close_notify, RFC 5246 7.2.1 */
	if (t->opened && !is_closed(e) && !e->shutdown_recv && is_stuck(e))
		br_ssl_engine_close(e);
	if (is_closed(e) && !t->ended)
		end(t);
}

static void
configure(struct tls *t, enum tls_min min_version)
{
	static const unsigned versions[TLS_MIN__MAX] = { BR_TLS10, BR_TLS11, BR_TLS12, BR_TLS12 };
	br_ssl_engine_context *e = &t->server.eng;
	bool old = versions[min_version] < BR_TLS12;

	br_ssl_engine_set_versions(e, versions[min_version], BR_TLS12);
	br_ssl_engine_set_suites(e, suites, old ? COUNT(suites) : SUITES_AEAD);
	br_ssl_engine_set_all_flags(e, BR_OPT_ENFORCE_SERVER_PREFERENCES | BR_OPT_NO_RENEGOTIATION);
	br_ssl_engine_set_ec(e, &t->certs->curves);
	br_ssl_engine_set_hash(e, br_sha256_ID, &br_sha256_vtable);
	br_ssl_engine_set_hash(e, br_sha384_ID, &br_sha384_vtable);
	br_ssl_engine_set_hash(e, br_sha512_ID, &br_sha512_vtable);
	br_ssl_engine_set_prf_sha256(e, &br_tls12_sha256_prf);
	br_ssl_engine_set_prf_sha384(e, &br_tls12_sha384_prf);
	br_ssl_engine_set_default_aes_gcm(e);
	br_ssl_engine_set_default_chapol(e);
	if (old) {
		br_ssl_engine_set_hash(e, br_md5_ID, &br_md5_vtable);
		br_ssl_engine_set_hash(e, br_sha1_ID, &br_sha1_vtable);
		br_ssl_engine_set_prf10(e, &br_tls10_prf);
		br_ssl_engine_set_default_aes_cbc(e);
	}
}

/* ---- the public functions ---- */

size_t
tls_size(void)
{
	return sizeof(struct tls);
}

int
tls_accept(struct tls *t, const struct tls_certs *certs, struct tls_cache *cache, enum tls_min min_version)
{
	unsigned char seed[48];

	if (getrandom(seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
		return -1;
	br_ssl_server_zero(&t->server);
	t->certs = certs;
	t->cache = cache;
	configure(t, min_version);
	t->policy = &policy_class;
	br_ssl_server_set_policy(&t->server, &t->policy);
	if (cache != NULL) {
		t->cache_class = &cache_class;
		br_ssl_server_set_cache(&t->server, &t->cache_class);
	}
	br_ssl_engine_inject_entropy(&t->server.eng, seed, sizeof(seed));
	t->server.eng.rng_os_rand_done = 1;	/* as if the system had been asked: RDRAND is in the kernel's octets already */
	explicit_bzero(seed, sizeof(seed));
	return 0;
}

void
tls_clear(struct tls *t)
{
	explicit_bzero(t, sizeof(*t));
}

void
tls_lend_buffer(struct tls *t, void *buffer)
{
	br_ssl_engine_context *e = &t->server.eng;
	unsigned char *in = buffer;

	if (t->started) {
		e->ibuf = in;
		e->obuf = in + IN_SIZE;
		return;
	}
	/* the engine begins with its first buffer; it was seeded, so a reset fails for nothing else */
	br_ssl_engine_set_buffers_bidi(e, in, IN_SIZE, in + IN_SIZE, OUT_SIZE);
	t->started = br_ssl_server_reset(&t->server) == 1;
	assert(t->started);
	/* of an alert before there is a version, as RFC 5246 E.1 has it; BearSSL would send 0.0, which clients do not read */
	e->version_out = BR_TLS10;
}

/*
 * Between two records the engine's places are at the beginning of each buffer: ixa == ixb == 0 where a header is awaited, and
 * oxa == oxc where a record has no octet yet. It keeps offsets, and asks ibuf and obuf anew at each step.
 */
void *
tls_return_buffer(struct tls *t)
{
	br_ssl_engine_context *e = &t->server.eng;
	void *buffer = e->ibuf;
	bool busy = is_closed(e) ? t->alert_len > 0 :
	    t->ahead_len > 0 || e->ixa != 0 || e->ixb != 0 || e->oxa != e->oxc;

	if (busy)
		return NULL;
	e->ibuf = e->obuf = NULL;
	return buffer;
}

enum tls_status
tls_status(const struct tls *t)
{
	const br_ssl_engine_context *e = &t->server.eng;

	if (!t->started)
		return TLS_HANDSHAKE;
	if (is_closed(e))
		return br_ssl_engine_last_error(e) == BR_ERR_OK ? TLS_CLOSED : TLS_FAILED;
	if (e->shutdown_recv || (t->opened && e->application_data != 1))
		return TLS_CLOSED;
	return t->opened ? TLS_OPEN : TLS_HANDSHAKE;
}

char *
tls_receive_room(struct tls *t, size_t *len)
{
	br_ssl_engine_context *e = &t->server.eng;
	unsigned char *p = br_ssl_engine_recvrec_buf(e, len);

	*len = 0;
	if (p == NULL || t->ahead_len > 0)
		return NULL;
	/* more than the engine asks for, which is a header or the rest of one record: this halves the calls to recv() */
	*len = e->ibuf_len - (size_t)(p - e->ibuf);
	return (char *)p;
}

void
tls_received(struct tls *t, size_t n)
{
	t->ahead_at = t->server.eng.ixa;
	t->ahead_len = n;
	settle(t);
}

struct span
tls_to_send(struct tls *t)
{
	br_ssl_engine_context *e = &t->server.eng;
	struct span s = { 0 };

	if (t->alert_len > 0)
		return (struct span){ (const char *)e->obuf + t->alert_at, t->alert_len };
	s.p = (const char *)br_ssl_engine_sendrec_buf(e, &s.len);
	return s;
}

void
tls_sent(struct tls *t, size_t n)
{
	if (t->alert_len > 0) {
		t->alert_at += n;
		t->alert_len -= n;
		return;
	}
	br_ssl_engine_sendrec_ack(&t->server.eng, n);
	settle(t);
}

struct span
tls_clear_text(struct tls *t)
{
	struct span s = { 0 };

	s.p = (const char *)br_ssl_engine_recvapp_buf(&t->server.eng, &s.len);
	return s;
}

void
tls_taken(struct tls *t, size_t n)
{
	size_t len;

	/* the buffer goes to other connections, and this may have been a password */
	explicit_bzero(br_ssl_engine_recvapp_buf(&t->server.eng, &len), n);
	br_ssl_engine_recvapp_ack(&t->server.eng, n);
	settle(t);
}

size_t
tls_write(struct tls *t, const char *p, size_t n)
{
	size_t room;
	unsigned char *to = br_ssl_engine_sendapp_buf(&t->server.eng, &room);

	if (n > room)
		n = room;
	if (to == NULL || n == 0)
		return 0;
	memcpy(to, p, n);
	br_ssl_engine_sendapp_ack(&t->server.eng, n);
	return n;
}

void
tls_flush(struct tls *t)
{
	br_ssl_engine_flush(&t->server.eng, 0);
}

void
tls_close(struct tls *t)
{
	br_ssl_engine_close(&t->server.eng);
	settle(t);
}

unsigned
tls_version(const struct tls *t)
{
	return t->opened ? t->server.eng.session.version : 0;
}

unsigned
tls_suite(const struct tls *t)
{
	return t->opened ? t->server.eng.session.cipher_suite : 0;
}

const char *
tls_server_name(const struct tls *t)
{
	return t->named ? t->server.eng.server_name : "";
}

bool
tls_is_resumed(const struct tls *t)
{
	return t->opened && t->resumed;
}

const char *
tls_error(const struct tls *t)
{
	int error = t->started ? br_ssl_engine_last_error(&t->server.eng) : BR_ERR_OK;

	for (size_t i = 0; i < COUNT(errors); i++)
		if (errors[i].error == error)
			return errors[i].text;
	return error == BR_ERR_OK ? "" : error >= BR_ERR_RECV_FATAL_ALERT ? "alert" : "internal error";
}

const char *
tls_version_name(unsigned version)
{
	switch (version) {
	case 0:
		return "";
	case BR_TLS10:
		return "TLSv1";
	case BR_TLS11:
		return "TLSv1.1";
	case BR_TLS12:
		return "TLSv1.2";
	default:
		return "unknown";
	}
}

const char *
tls_suite_name(unsigned suite)
{
	for (size_t i = 0; i < COUNT(suite_names); i++)
		if (suite_names[i].suite == suite)
			return suite_names[i].name;
	return suite == 0 ? "" : "unknown";
}
