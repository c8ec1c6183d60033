/*
 * test_tls.c - TLS in memory against BearSSL's own client; certificates and keys as openssl(1) makes them.
 *
 * The server's buffer is taken away at every moment when it can be, and another one lent that is full of garbage.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bearssl.h>

#include "tls.h"
#include "tls_cache.h"
#include "tls_cert.h"

static char folder[] = "/tmp/test_tls.XXXXXX";
static char errors_text[8192];
static struct buf errors;

/* ---- files ---- */

static int
run(const char *const *argv)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int
setup(void **state)
{
	char *script = realpath("test/unit/tls_files.sh", NULL);
	int rc;

	assert_non_null(script);
	assert_non_null(mkdtemp(folder));
	assert_int_equal(chdir(folder), 0);
	rc = run((const char *const[]){ "sh", script, NULL });
	free(script);
	if (rc != 0)
		(void)run((const char *const[]){ "tail", "openssl.log", NULL });
	return rc == 0 ? 0 : -1;
}

static int
teardown(void **state)
{
	assert_int_equal(chdir("/"), 0);
	return run((const char *const[]){ "rm", "-rf", folder, NULL });
}

/* Load "cert key cert key ..." (NULL: none); NULL when it is refused, errors_text says why. */
static struct tls_certs *
load(const char *files, bool self_signed)
{
	struct config c = { .self_signed = self_signed, .hostname = (char *)(uintptr_t)"self.test" };
	char *certs[8] = { NULL }, *keys[8] = { NULL }, *copy = strdup(files == NULL ? "" : files), *save = NULL;
	struct tls_certs *loaded;

	assert_non_null(copy);
	c.cert_files.v = certs;
	c.key_files.v = keys;
	for (char *word = strtok_r(copy, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
		if (c.cert_files.n == c.key_files.n)
			certs[c.cert_files.n++] = word;
		else
			keys[c.key_files.n++] = word;
	}
	buf_fixed(&errors, errors_text, sizeof(errors_text));
	loaded = tls_certs_load(&c, &errors);
	assert_non_null(buf_str(&errors));
	free(copy);
	return loaded;
}

static struct tls_certs *
must_load(const char *files)
{
	struct tls_certs *certs = load(files, true);

	if (certs == NULL)
		print_message("%s", errors_text);
	assert_non_null(certs);
	return certs;
}

/* ---- the client ---- */

/* A check of certificates that takes any, and remembers the fingerprint of the first. */
struct any_x509 {
	const br_x509_class	*vtable;
	br_x509_decoder_context	 decoder;
	br_sha256_context	 hash;
	size_t			 n;
	char			 sha256[65];
};

static void
any_start_chain(const br_x509_class **ctx, const char *name)
{
	struct any_x509 *x = (struct any_x509 *)(void *)ctx;

	x->n = 0;
	br_x509_decoder_init(&x->decoder, NULL, NULL);
	br_sha256_init(&x->hash);
}

static void
any_start_cert(const br_x509_class **ctx, uint32_t length)
{
}

static void
any_append(const br_x509_class **ctx, const unsigned char *p, size_t n)
{
	struct any_x509 *x = (struct any_x509 *)(void *)ctx;

	if (x->n > 0)
		return;
	br_x509_decoder_push(&x->decoder, p, n);
	br_sha256_update(&x->hash, p, n);
}

static void
any_end_cert(const br_x509_class **ctx)
{
	struct any_x509 *x = (struct any_x509 *)(void *)ctx;
	unsigned char octets[32];

	if (x->n++ > 0)
		return;
	br_sha256_out(&x->hash, octets);
	for (size_t i = 0; i < sizeof(octets); i++)
		snprintf(x->sha256 + 2 * i, 3, "%02x", octets[i]);
}

static unsigned
any_end_chain(const br_x509_class **ctx)
{
	return 0;
}

static const br_x509_pkey *
any_get_pkey(const br_x509_class *const *ctx, unsigned *usages)
{
	if (usages != NULL)
		*usages = BR_KEYTYPE_KEYX | BR_KEYTYPE_SIGN;
	return br_x509_decoder_get_pkey(&((struct any_x509 *)(uintptr_t)ctx)->decoder);
}

static const br_x509_class any_class = {
	sizeof(struct any_x509), any_start_chain, any_start_cert, any_append, any_end_cert, any_end_chain, any_get_pkey,
};

/* One connection: the client, the server, what the network does. */
struct link {
	br_ssl_client_context	 client;
	br_x509_minimal_context	 minimal;
	struct any_x509		 any;
	unsigned char		 client_buffer[BR_SSL_BUFSIZE_BIDI];
	struct tls		*server;
	unsigned char		*buffers[2];	/* of TLS_BUFFER_SIZE octets each */
	size_t			 lent;		/* which of them */
	size_t			 swaps;
	size_t			 cut;		/* octets that go at once */
	size_t			 to_client, to_server;	/* octets that went */
	size_t			 damage_at;	/* flip a bit of this octet to the server; SIZE_MAX: none */
};

static const unsigned client_versions[2] = { BR_TLS10, BR_TLS12 };

static void
open_link(struct link *l, size_t cut)
{
	memset(l, 0, sizeof(*l));
	l->cut = cut;
	l->damage_at = SIZE_MAX;
	br_ssl_client_init_full(&l->client, &l->minimal, NULL, 0);
	br_ssl_engine_set_versions(&l->client.eng, client_versions[0], client_versions[1]);
	l->any.vtable = &any_class;
	br_ssl_engine_set_x509(&l->client.eng, &l->any.vtable);
	br_ssl_engine_set_buffer(&l->client.eng, l->client_buffer, sizeof(l->client_buffer), 1);
	l->server = calloc(1, tls_size());
	assert_non_null(l->server);
	for (size_t i = 0; i < 2; i++) {
		l->buffers[i] = malloc(TLS_BUFFER_SIZE);
		assert_non_null(l->buffers[i]);
		memset(l->buffers[i], 0xa5, TLS_BUFFER_SIZE);
	}
}

static void
begin(struct link *l, const char *name, const struct tls_certs *certs, struct tls_cache *cache, enum tls_min min_version)
{
	assert_int_equal(br_ssl_client_reset(&l->client, name, 0), 1);
	assert_int_equal(tls_accept(l->server, certs, cache, min_version), 0);
	assert_int_equal(tls_status(l->server), TLS_HANDSHAKE);
	tls_lend_buffer(l->server, l->buffers[0]);
}

static void
close_link(struct link *l)
{
	tls_clear(l->server);
	for (size_t i = 0; i < tls_size(); i++)
		assert_int_equal(((unsigned char *)l->server)[i], 0);
	free(l->server);
	free(l->buffers[0]);
	free(l->buffers[1]);
}

/* Take the buffer away if it can be, and lend the other one. */
static void
swap_buffers(struct link *l)
{
	void *p = tls_return_buffer(l->server);

	if (p == NULL)
		return;
	assert_ptr_equal(p, l->buffers[l->lent]);
	memset(p, 0x5a, TLS_BUFFER_SIZE);
	l->lent ^= 1;
	memset(l->buffers[l->lent], (int)(l->swaps & 0xff), TLS_BUFFER_SIZE);
	tls_lend_buffer(l->server, l->buffers[l->lent]);
	l->swaps++;
}

static bool
server_to_client(struct link *l)
{
	struct span s = tls_to_send(l->server);
	size_t room;
	unsigned char *to = br_ssl_engine_recvrec_buf(&l->client.eng, &room);
	size_t n = s.len < l->cut ? s.len : l->cut;

	if (n > room)
		n = room;
	if (n == 0 || to == NULL)
		return false;
	memcpy(to, s.p, n);
	br_ssl_engine_recvrec_ack(&l->client.eng, n);
	tls_sent(l->server, n);
	l->to_client += n;
	return true;
}

static bool
client_to_server(struct link *l)
{
	size_t len, room;
	unsigned char *from = br_ssl_engine_sendrec_buf(&l->client.eng, &len);
	char *to = tls_receive_room(l->server, &room);
	size_t n = len < l->cut ? len : l->cut;

	assert_true((to == NULL) == (room == 0));
	if (n > room)
		n = room;
	if (n == 0 || from == NULL)
		return false;
	memcpy(to, from, n);
	if (l->damage_at >= l->to_server && l->damage_at < l->to_server + n)
		to[l->damage_at - l->to_server] ^= 1;
	br_ssl_engine_sendrec_ack(&l->client.eng, n);
	tls_received(l->server, n);
	l->to_server += n;
	return true;
}

/* Until nobody has anything for the other. */
static void
pump(struct link *l)
{
	bool sent, received;

	do {
		swap_buffers(l);
		sent = server_to_client(l);
		swap_buffers(l);
		received = client_to_server(l);
	} while (sent || received);
	swap_buffers(l);
}

static bool
client_open(const struct link *l)
{
	return (br_ssl_engine_current_state(&l->client.eng) & BR_SSL_SENDAPP) != 0;
}

static void
assert_open(struct link *l)
{
	pump(l);
	if (tls_status(l->server) != TLS_OPEN || !client_open(l))
		print_message("server: %d \"%s\", client: %d\n", (int)tls_status(l->server), tls_error(l->server),
		    br_ssl_engine_last_error(&l->client.eng));
	assert_int_equal(tls_status(l->server), TLS_OPEN);
	assert_true(client_open(l));
	assert_string_equal(tls_error(l->server), "");
}

/* n octets to the server, which sends each back plus one; the client gets them in order. */
static void
echo(struct link *l, size_t n)
{
	size_t put = 0, got = 0, len;
	struct span s;
	unsigned char *p;
	bool progress = true;

	while (got < n && progress) {
		progress = false;
		p = br_ssl_engine_sendapp_buf(&l->client.eng, &len);
		if (p != NULL && put < n) {
			len = len < n - put ? len : n - put;
			len = len < 3000 ? len : 3000;
			for (size_t i = 0; i < len; i++)
				p[i] = (unsigned char)((put + i) * 7);
			br_ssl_engine_sendapp_ack(&l->client.eng, len);
			br_ssl_engine_flush(&l->client.eng, 0);
			put += len;
			progress = true;
		}
		progress |= client_to_server(l);
		s = tls_clear_text(l->server);
		if (s.len > 0) {
			char out[1000];
			size_t take = s.len < sizeof(out) ? s.len : sizeof(out);

			for (size_t i = 0; i < take; i++)
				out[i] = (char)(s.p[i] + 1);
			take = tls_write(l->server, out, take);
			if (take > 0) {
				tls_taken(l->server, take);
				progress = true;
			}
			if (tls_clear_text(l->server).len == 0)
				tls_flush(l->server);
		}
		progress |= server_to_client(l);
		p = br_ssl_engine_recvapp_buf(&l->client.eng, &len);
		if (p != NULL) {
			for (size_t i = 0; i < len; i++)
				assert_int_equal(p[i], (unsigned char)((got + i) * 7 + 1));
			br_ssl_engine_recvapp_ack(&l->client.eng, len);
			got += len;
			progress = true;
		}
		swap_buffers(l);
	}
	assert_int_equal(got, n);
}

/* ---- handshakes ---- */

/* Anchor: the first certificate of a pair, or its issuer. */
static unsigned char anchor_dn[512], anchor_key[512];
static br_x509_trust_anchor anchor;

static void
append_dn(void *ctx, const void *p, size_t n)
{
	assert_true(n <= sizeof(anchor_dn) - anchor.dn.len);
	memcpy(anchor_dn + anchor.dn.len, p, n);
	anchor.dn.len += n;
}

static void
anchor_on(const br_x509_certificate *c)
{
	br_x509_decoder_context d;
	const br_x509_pkey *pk;

	anchor = (br_x509_trust_anchor){ .dn.data = anchor_dn };
	br_x509_decoder_init(&d, append_dn, NULL);
	br_x509_decoder_push(&d, c->data, c->data_len);
	pk = br_x509_decoder_get_pkey(&d);
	assert_non_null(pk);
	anchor.flags = br_x509_decoder_isCA(&d) ? BR_X509_TA_CA : 0;
	anchor.pkey = *pk;
	assert_int_equal(pk->key_type, BR_KEYTYPE_EC);
	memcpy(anchor_key, pk->key.ec.q, pk->key.ec.qlen);
	anchor.pkey.key.ec.q = anchor_key;
}

/* The client checks the chain and the name in it. */
static void
check_certificates(struct link *l)
{
	br_x509_minimal_init_full(&l->minimal, &anchor, 1);
	br_ssl_engine_set_x509(&l->client.eng, &l->minimal.vtable);
}

#define ALL_SUITES 0
#define EC_GCM BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
#define RSA_GCM BR_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
#define EC_CBC BR_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA
#define RSA_CBC BR_TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA

static const struct {
	const char	*files;
	unsigned	 client_suite;	/* the only one that the client offers */
	unsigned	 client_max;
	enum tls_min	 min_version;
	unsigned	 suite;		/* 0: refused */
	unsigned	 alert;		/* what the client is told then */
	const char	*error;
} handshake_rows[] = {
	{ "ec.pem ec.key", ALL_SUITES, BR_TLS12, TLS_MIN_1_2, EC_GCM, 0, "" },
	{ "rsa.pem rsa.key", ALL_SUITES, BR_TLS12, TLS_MIN_1_2, RSA_GCM, 0, "" },
	{ "p384.pem p384.key", ALL_SUITES, BR_TLS12, TLS_MIN_1_2, EC_GCM, 0, "" },
	{ "rsa.pem rsa.key ec.pem ec.key", ALL_SUITES, BR_TLS12, TLS_MIN_1_2, EC_GCM, 0, "" },
	{ "rsa.pem rsa.key ec.pem ec.key", RSA_GCM, BR_TLS12, TLS_MIN_1_2, RSA_GCM, 0, "" },
	{ "ec.pem ec.key", BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, BR_TLS12, TLS_MIN_1_2,
	    BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, 0, "" },
	{ "ec.pem ec.key", BR_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, BR_TLS12, TLS_MIN_1_2,
	    BR_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, 0, "" },
	{ "rsa.pem rsa.key", BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, BR_TLS12, TLS_MIN_1_2,
	    BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, 0, "" },
	{ "rsa.pem rsa.key", BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, BR_TLS12, TLS_MIN_1_2,
	    BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, 0, "" },
	{ "ec.pem ec.key", RSA_GCM, BR_TLS12, TLS_MIN_1_2, 0, 40, "no common cipher suite" },
	{ "ec.pem ec.key", BR_TLS_RSA_WITH_AES_128_GCM_SHA256, BR_TLS12, TLS_MIN_1_0, 0, 40, "no common cipher suite" },
	{ "rsa.pem rsa.key", BR_TLS_RSA_WITH_AES_128_GCM_SHA256, BR_TLS12, TLS_MIN_1_0, 0, 40, "no common cipher suite" },
	{ "ec.pem ec.key", EC_CBC, BR_TLS12, TLS_MIN_1_2, 0, 40, "no common cipher suite" },
	{ "ec.pem ec.key", EC_CBC, BR_TLS12, TLS_MIN_1_1, EC_CBC, 0, "" },
	{ "ec.pem ec.key", ALL_SUITES, BR_TLS11, TLS_MIN_1_2, 0, 70, "unsupported version" },
	{ "ec.pem ec.key", ALL_SUITES, BR_TLS10, TLS_MIN_1_2, 0, 70, "unsupported version" },
	{ "ec.pem ec.key", ALL_SUITES, BR_TLS10, TLS_MIN_1_1, 0, 70, "unsupported version" },
	{ "ec.pem ec.key", ALL_SUITES, BR_TLS11, TLS_MIN_1_1, EC_CBC, 0, "" },
	{ "ec.pem ec.key", ALL_SUITES, BR_TLS10, TLS_MIN_1_0, EC_CBC, 0, "" },
	{ "rsa.pem rsa.key", ALL_SUITES, BR_TLS11, TLS_MIN_1_0, RSA_CBC, 0, "" },
	{ "rsa.pem rsa.key", ALL_SUITES, BR_TLS10, TLS_MIN_1_0, RSA_CBC, 0, "" },
	{ "rsa.pem rsa.key", BR_TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, BR_TLS10, TLS_MIN_1_0,
	    BR_TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, 0, "" },
};

static void
refused(struct link *l, unsigned alert, const char *error)
{
	pump(l);
	assert_int_equal(tls_status(l->server), TLS_FAILED);
	assert_string_equal(tls_error(l->server), error);
	assert_int_equal(br_ssl_engine_last_error(&l->client.eng), BR_ERR_RECV_FATAL_ALERT + alert);
	assert_int_equal(tls_version(l->server), 0);
	assert_int_equal(tls_suite(l->server), 0);
	assert_int_equal(tls_to_send(l->server).len, 0);
	assert_int_equal(tls_clear_text(l->server).len, 0);
	assert_int_equal(tls_write(l->server, "x", 1), 0);
}

static void
test_handshake(void **state)
{
	static const size_t cuts[] = { 1, 3, 7, 100, 4096, 1 << 20 };
	struct tls_certs *certs;

	certs = must_load("ec.pem ec.key");
	anchor_on(&certs->pairs[0].chain[1]);
	tls_certs_free(certs);
	for (size_t i = 0; i < COUNT(handshake_rows); i++) {
		struct link l;
		uint16_t suite = (uint16_t)handshake_rows[i].client_suite;

		print_message("  %s, client: 0x%04x, up to 0x%04x, min %d\n", handshake_rows[i].files, handshake_rows[i].client_suite,
		    handshake_rows[i].client_max, (int)handshake_rows[i].min_version);
		certs = must_load(handshake_rows[i].files);
		for (size_t k = 0; k < COUNT(cuts); k++) {
			open_link(&l, cuts[k]);
			check_certificates(&l);
			br_ssl_engine_set_versions(&l.client.eng, BR_TLS10, handshake_rows[i].client_max);
			if (suite != ALL_SUITES)
				br_ssl_engine_set_suites(&l.client.eng, &suite, 1);
			begin(&l, strncmp(handshake_rows[i].files, "p384", 4) == 0 ? "other.test" : "mx.test", certs, NULL,
			    handshake_rows[i].min_version);
			if (handshake_rows[i].suite == 0) {
				refused(&l, handshake_rows[i].alert, handshake_rows[i].error);
			} else {
				assert_open(&l);
				assert_int_equal(tls_suite(l.server), handshake_rows[i].suite);
				assert_int_equal(tls_version(l.server), handshake_rows[i].client_max);
				assert_false(tls_is_resumed(l.server));
				assert_true(l.swaps > 5);
				echo(&l, cuts[k] == 1 ? 5000 : 60000);
			}
			close_link(&l);
		}
		tls_certs_free(certs);
	}
}

/* An honest client's ALPN and maximum fragment length change nothing but the size of records. */
static void
test_extensions(void **state)
{
	static const char *names[] = { "smtp", "h2" };
	struct tls_certs *certs = must_load("ec.pem ec.key");
	struct link l;

	open_link(&l, 1000);
	br_ssl_engine_set_protocol_names(&l.client.eng, names, 2);
	br_ssl_engine_set_buffer(&l.client.eng, l.client_buffer, 4096, 1);	/* asks for 512 */
	begin(&l, "mx.test", certs, NULL, TLS_MIN_1_2);
	assert_open(&l);
	assert_null(br_ssl_engine_get_selected_protocol(&l.client.eng));
	echo(&l, 20000);
	close_link(&l);
	tls_certs_free(certs);
}

/* ---- server names ---- */

static const struct {
	const char	*name;		/* asked for; NULL: none */
	const char	*server_name;	/* as the log will have it */
	size_t		 pair;
	unsigned	 client_suite;
} name_rows[] = {	/* pairs: 0 ec (mx.test *.wild.test mx2.test), 1 rsa (mx.test *.wild.test), 2 p384 (other.test one.wild.test), 3 cn.test */
	{ NULL, "", 0, ALL_SUITES },
	{ NULL, "", 1, RSA_GCM },		/* the default's twin */
	{ "mx.test", "mx.test", 0, ALL_SUITES },
	{ "mx.test", "mx.test", 1, RSA_GCM },
	{ "MX.Test", "mx.test", 0, ALL_SUITES },
	{ "mx2.test", "mx2.test", 0, ALL_SUITES },
	{ "mx2.test", "mx2.test", 1, RSA_GCM },	/* no RSA for it: the default's */
	{ "other.test", "other.test", 2, ALL_SUITES },
	{ "other.test", "other.test", 1, RSA_GCM },
	{ "one.wild.test", "one.wild.test", 2, ALL_SUITES },	/* exact before wildcard, whatever the order */
	{ "one.wild.test", "one.wild.test", 1, RSA_GCM },
	{ "two.wild.test", "two.wild.test", 0, ALL_SUITES },
	{ "two.wild.test", "two.wild.test", 1, RSA_GCM },
	{ "a.two.wild.test", "a.two.wild.test", 0, ALL_SUITES },	/* no match: the default */
	{ "wild.test", "wild.test", 0, ALL_SUITES },
	{ "cn.test", "cn.test", 3, ALL_SUITES },
	{ "hidden.test", "hidden.test", 0, ALL_SUITES },	/* a CN beside a subjectAltName does not count */
	{ "only.test", "only.test", 0, ALL_SUITES },		/* of an rfc822Name */
	{ "unknown.test", "unknown.test", 0, ALL_SUITES },
	{ "*.wild.test", "", 0, ALL_SUITES },
	{ "cn.test.", "cn.test", 3, ALL_SUITES },
	{ "cn.test\\", "", 0, ALL_SUITES },			/* CVE-2019-15846 */
	{ "cn test", "", 0, ALL_SUITES },
	{ "\xc3\x84.test", "", 0, ALL_SUITES },
	{ "-cn.test", "", 0, ALL_SUITES },
	{ "..", "", 0, ALL_SUITES },
};

static void
test_server_name(void **state)
{
	struct tls_certs *certs = must_load("ec.pem ec.key rsa.pem rsa.key p384.pem p384.key cn.pem cn.key san.pem san.key");
	struct tls_cert_info info;
	struct link l;

	assert_int_equal(tls_certs_n(certs), 5);
	for (size_t i = 0; i < COUNT(name_rows); i++) {
		uint16_t suite = (uint16_t)name_rows[i].client_suite;

		print_message("  %s 0x%04x\n", name_rows[i].name == NULL ? "-" : name_rows[i].name, name_rows[i].client_suite);
		open_link(&l, 500);
		if (suite != ALL_SUITES)
			br_ssl_engine_set_suites(&l.client.eng, &suite, 1);
		begin(&l, name_rows[i].name, certs, NULL, TLS_MIN_1_2);
		assert_string_equal(tls_server_name(l.server), "");
		assert_open(&l);
		assert_string_equal(tls_server_name(l.server), name_rows[i].server_name);
		tls_certs_info(certs, name_rows[i].pair, &info);
		assert_string_equal(l.any.sha256, info.sha256);
		assert_int_equal(l.any.n, 2);
		close_link(&l);
	}
	tls_certs_free(certs);
}

/* A NUL inside the name, behind which the engine itself does not look (case 6.7): flipped into the ClientHello on its way. */
static void
test_server_name_with_nul(void **state)
{
	struct tls_certs *certs = must_load("ec.pem ec.key cn.pem cn.key");
	struct link l;
	unsigned char *hello, *at;
	size_t len, room;
	char *to;

	open_link(&l, 1 << 20);
	begin(&l, "cn.test.evil.test", certs, NULL, TLS_MIN_1_2);
	hello = br_ssl_engine_sendrec_buf(&l.client.eng, &len);
	at = memmem(hello, len, ".evil", 5);
	assert_non_null(at);
	*at = '\0';
	to = tls_receive_room(l.server, &room);
	assert_true(room >= len);
	memcpy(to, hello, len);
	tls_received(l.server, len);
	assert_int_equal(tls_status(l.server), TLS_HANDSHAKE);
	assert_string_equal(tls_server_name(l.server), "");
	assert_non_null(memmem(tls_to_send(l.server).p, tls_to_send(l.server).len, "MX2.Test", 8));	/* in the certificate served */
	assert_null(memmem(tls_to_send(l.server).p, tls_to_send(l.server).len, "cn.test", 7));
	close_link(&l);
	tls_certs_free(certs);
}

/* ---- the end of a connection ---- */

static void
test_close(void **state)
{
	struct tls_certs *certs = must_load("ec.pem ec.key");
	struct link l;

	for (size_t cut = 1; cut < 100; cut += 33) {
		/* the client's */
		open_link(&l, cut);
		begin(&l, NULL, certs, NULL, TLS_MIN_1_2);
		assert_open(&l);
		assert_int_equal(tls_write(l.server, "bye", 3), 3);	/* what was not flushed goes out before */
		br_ssl_engine_close(&l.client.eng);
		while (client_to_server(&l))
			;
		assert_int_equal(tls_status(l.server), TLS_CLOSED);
		assert_true(tls_to_send(l.server).len > 0);
		assert_null(tls_return_buffer(l.server));
		assert_int_equal(tls_write(l.server, "more", 4), 0);
		pump(&l);
		assert_int_equal(tls_status(l.server), TLS_CLOSED);
		assert_int_equal(tls_to_send(l.server).len, 0);
		assert_int_equal(br_ssl_engine_current_state(&l.client.eng), BR_SSL_CLOSED);
		assert_int_equal(br_ssl_engine_last_error(&l.client.eng), BR_ERR_OK);
		assert_string_equal(tls_error(l.server), "");
		assert_int_equal(tls_version(l.server), BR_TLS12);
		close_link(&l);

		/* ours */
		open_link(&l, cut);
		begin(&l, NULL, certs, NULL, TLS_MIN_1_2);
		assert_open(&l);
		tls_close(l.server);
		assert_int_equal(tls_status(l.server), TLS_CLOSED);
		assert_true(tls_to_send(l.server).len > 0);
		pump(&l);
		assert_int_equal(br_ssl_engine_last_error(&l.client.eng), BR_ERR_OK);
		assert_int_equal(br_ssl_engine_current_state(&l.client.eng), BR_SSL_CLOSED);
		assert_int_equal(tls_status(l.server), TLS_CLOSED);
		close_link(&l);
	}
	/* inside the handshake; and octets behind close_notify are nobody's */
	open_link(&l, 1);
	begin(&l, NULL, certs, NULL, TLS_MIN_1_2);
	memcpy(tls_receive_room(l.server, &(size_t){ 0 }), "\x15\x03\x01\x00\x02\x01\x00" "xyz", 10);
	tls_received(l.server, 10);
	assert_int_equal(tls_status(l.server), TLS_CLOSED);
	pump(&l);
	assert_non_null(tls_return_buffer(l.server));
	close_link(&l);
	tls_certs_free(certs);
}

/* The other end just goes: nothing says that this was the end, so the status stays what it was (case 6.9). */
static void
test_truncated(void **state)
{
	struct tls_certs *certs = must_load("ec.pem ec.key");
	unsigned char *p;
	struct link l;
	size_t len;

	open_link(&l, 100);
	begin(&l, NULL, certs, NULL, TLS_MIN_1_2);
	assert_open(&l);
	p = br_ssl_engine_sendapp_buf(&l.client.eng, &len);
	memset(p, 'x', 100);
	br_ssl_engine_sendapp_ack(&l.client.eng, 100);
	br_ssl_engine_flush(&l.client.eng, 0);
	assert_true(client_to_server(&l));	/* not all of the record */
	assert_int_equal(tls_status(l.server), TLS_OPEN);
	assert_int_equal(tls_clear_text(l.server).len, 0);
	assert_null(tls_return_buffer(l.server));
	close_link(&l);
	tls_certs_free(certs);
}

/* A fatal error is told to the client, and the alert is there while the status is TLS_FAILED already. */
static void
test_damaged_record(void **state)
{
	struct tls_certs *certs = must_load("ec.pem ec.key");
	struct link l;
	size_t len;

	for (size_t octet = 5; octet < 40; octet += 17) {	/* of the record: nonce, text, tag */
		open_link(&l, 64);
		begin(&l, NULL, certs, NULL, TLS_MIN_1_2);
		assert_open(&l);
		l.damage_at = l.to_server + octet;
		memset(br_ssl_engine_sendapp_buf(&l.client.eng, &len), 'x', 20);
		br_ssl_engine_sendapp_ack(&l.client.eng, 20);
		br_ssl_engine_flush(&l.client.eng, 0);
		while (client_to_server(&l))
			;
		assert_int_equal(tls_status(l.server), TLS_FAILED);
		assert_string_equal(tls_error(l.server), "bad record MAC");
		assert_true(tls_to_send(l.server).len > 7);
		assert_null(tls_return_buffer(l.server));
		pump(&l);
		assert_int_equal(br_ssl_engine_last_error(&l.client.eng), BR_ERR_RECV_FATAL_ALERT + BR_ALERT_BAD_RECORD_MAC);
		assert_int_equal(tls_to_send(l.server).len, 0);
		close_link(&l);
	}
	tls_certs_free(certs);
}

static const struct {
	struct span	 in;
	const char	*error;		/* NULL: it waits for more */
	unsigned	 alert;
} garbage_rows[] = {
	{ SPAN("EHLO evil\r\nMAIL FROM:<x@x.test>\r\n"), "not TLS", BR_ALERT_PROTOCOL_VERSION },	/* case 6.2 */
	{ SPAN("EHLO"), NULL, 0 },
	{ SPAN("\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10"), "not TLS", BR_ALERT_PROTOCOL_VERSION },	/* SSL 2 */
	{ SPAN("\x16\x03\x01\x40\x01"), "bad record length", BR_ALERT_RECORD_OVERFLOW },
	{ SPAN("\x16\x03\x01\x40\x00"), NULL, 0 },
	{ SPAN("\x16\x03\x01\x00\x00\x16\x03\x01\x00\x00"), NULL, 0 },
	{ SPAN("\x16\x03\x01\x00\x04\x02\x00\x00\x00"), "unexpected message", BR_ALERT_UNEXPECTED_MESSAGE },	/* ServerHello */
	{ SPAN("\x16\x03\x01\x00\x04\x00\x00\x00\x00"), NULL, 0 },		/* HelloRequest */
	{ SPAN("\x16\x03\x01\x00\x04\x01\x00\x00\x01"), "malformed handshake message", BR_ALERT_DECODE_ERROR },
	{ SPAN("\x16\x03\x01\x00\x04\x01\x00\x00\x27"), NULL, 0 },
	{ SPAN("\x16\x03\x01\x00\x06\x01\x00\x00\x01\x03\x03"), "malformed handshake message", BR_ALERT_DECODE_ERROR },
	{ SPAN("\x17\x03\x01\x00\x01x"), "unexpected message", BR_ALERT_UNEXPECTED_MESSAGE },
	{ SPAN("\x14\x03\x01\x00\x01\x01"), "unexpected message", BR_ALERT_UNEXPECTED_MESSAGE },
	{ SPAN("\x15\x03\x01\x00\x02\x02\x28"), "client alert: handshake failure", 0 },
	{ SPAN("\x15\x03\x01\x00\x02\x02\x2a"), "client alert: bad certificate", 0 },
	{ SPAN("\x15\x03\x01\x00\x02\x02\xff"), "alert", 0 },
	{ SPAN("\x16\x03\x01\x00\x01\x01\x16\x03\x02\x00\x01"), "unsupported version", BR_ALERT_PROTOCOL_VERSION },
};

static void
test_garbage(void **state)
{
	struct tls_certs *certs = must_load("ec.pem ec.key");

	for (size_t i = 0; i < COUNT(garbage_rows); i++)
		for (size_t cut = 1; cut <= garbage_rows[i].in.len; cut++) {
			struct span in = garbage_rows[i].in, out;
			struct link l;

			if (cut == 1)
				print_message("  %zu octets: %s\n", in.len, garbage_rows[i].error == NULL ? "-" : garbage_rows[i].error);
			open_link(&l, cut);
			begin(&l, NULL, certs, NULL, TLS_MIN_1_2);
			while (in.len > 0) {
				size_t room, n = cut < in.len ? cut : in.len;
				char *to = tls_receive_room(l.server, &room);

				if (to == NULL)
					break;
				memcpy(to, in.p, n);
				tls_received(l.server, n);
				in = text_sub(in, n, in.len);
				swap_buffers(&l);
			}
			assert_int_equal(tls_status(l.server), garbage_rows[i].error == NULL ? TLS_HANDSHAKE : TLS_FAILED);
			assert_string_equal(tls_error(l.server), garbage_rows[i].error == NULL ? "" : garbage_rows[i].error);
			out = tls_to_send(l.server);
			assert_int_equal(out.len, garbage_rows[i].alert == 0 ? 0 : 7);
			if (out.len > 0) {
				assert_memory_equal(out.p, "\x15\x03\x01\x00\x02\x02", 6);
				assert_int_equal(out.p[6], garbage_rows[i].alert);
				tls_sent(l.server, 3);
				assert_null(tls_return_buffer(l.server));
				tls_sent(l.server, 4);
			}
			assert_int_equal(tls_to_send(l.server).len, 0);
			if (garbage_rows[i].error != NULL)
				assert_non_null(tls_return_buffer(l.server));
			close_link(&l);
		}
	tls_certs_free(certs);
}

/* A record of the client's own making, under its keys. */
static void
send_record(struct link *l, int type, const void *p, size_t n)
{
	br_ssl_engine_context *e = &l->client.eng;
	unsigned char octets[256];
	size_t len = n, room;
	unsigned char *record;
	char *to = tls_receive_room(l->server, &room);

	memcpy(octets + 64, p, n);
	record = e->out.vtable->encrypt(&e->out.vtable, type, BR_TLS12, octets + 64, &len);
	assert_true(room >= len);
	memcpy(to, record, len);
	tls_received(l->server, len);
}

/* Case 6.8: refused by a warning; the session goes on. */
static void
test_renegotiation(void **state)
{
	struct tls_certs *certs = must_load("ec.pem ec.key");
	struct span text;
	struct link l;

	for (size_t cut = 1; cut < 1000; cut += 333) {
		open_link(&l, cut);
		begin(&l, NULL, certs, NULL, TLS_MIN_1_2);
		assert_open(&l);
		assert_int_equal(br_ssl_engine_renegotiate(&l.client.eng), 1);
		pump(&l);
		assert_int_equal(tls_status(l.server), TLS_OPEN);
		/* BearSSL's client takes that for fatal */
		assert_int_equal(br_ssl_engine_last_error(&l.client.eng), BR_ERR_RECV_FATAL_ALERT + BR_ALERT_NO_RENEGOTIATION);
		close_link(&l);
	}

	open_link(&l, 1000);
	begin(&l, NULL, certs, NULL, TLS_MIN_1_2);
	assert_open(&l);
	for (int i = 0; i < 3; i++) {	/* a client that goes on */
		send_record(&l, 22, "\x01\x00\x00\x02xx", 6);
		assert_int_equal(tls_status(l.server), TLS_OPEN);
		assert_true(tls_to_send(l.server).len > 0);
		tls_sent(l.server, tls_to_send(l.server).len);
		send_record(&l, 23, "text", 4);
		text = tls_clear_text(l.server);
		assert_true(text_eq(text, SPAN("text")));
		tls_taken(l.server, 4);
		assert_true(text_eq(text, SPAN("\0\0\0\0")));	/* wiped: the buffer's next user does not see it */
	}
	/* two at once: the second would never be taken out of the buffer; the end, in good order */
	send_record(&l, 22, "\x01\x00\x00\x00\x01\x00\x00\x00", 8);
	assert_int_equal(tls_status(l.server), TLS_OPEN);
	tls_sent(l.server, tls_to_send(l.server).len);
	assert_int_equal(tls_status(l.server), TLS_CLOSED);
	assert_true(tls_to_send(l.server).len > 0);
	close_link(&l);
	tls_certs_free(certs);
}

/* ---- resumption ---- */

struct remembered {
	br_ssl_session_parameters	params;
};

/* One connection; session: what the client remembers (id of no octets: nothing), and remembers afterwards. */
static bool
connect_once(const struct tls_certs *certs, struct tls_cache *cache, enum tls_min min_version, br_ssl_session_parameters *session)
{
	struct link l;
	bool resumed, client_resumed;

	open_link(&l, 700);
	if (session->session_id_len > 0)
		br_ssl_engine_set_session_parameters(&l.client.eng, session);
	assert_int_equal(br_ssl_client_reset(&l.client, "mx.test", session->session_id_len > 0), 1);
	assert_int_equal(tls_accept(l.server, certs, cache, min_version), 0);
	tls_lend_buffer(l.server, l.buffers[0]);
	assert_open(&l);
	echo(&l, 1000);
	resumed = tls_is_resumed(l.server);
	client_resumed = l.any.n == 0;	/* it saw no certificate */
	assert_int_equal(resumed, client_resumed);
	assert_string_equal(tls_server_name(l.server), "mx.test");
	br_ssl_engine_get_session_parameters(&l.client.eng, session);
	assert_int_equal(tls_version(l.server), session->version);
	assert_int_equal(tls_suite(l.server), session->cipher_suite);
	close_link(&l);
	return resumed;
}

static void
test_resumption(void **state)
{
	struct tls_certs *certs = must_load("ec.pem ec.key");
	struct tls_cache *cache = tls_cache_new(100), *other = tls_cache_new(1);
	br_ssl_session_parameters *shared, session, old;
	int status;
	pid_t pid;

	assert_non_null(cache);
	assert_non_null(other);
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	pid = fork();
	if (pid == 0) {	/* one worker remembers, */
		bool resumed = connect_once(certs, cache, TLS_MIN_1_2, shared);

		tls_certs_free(certs);	/* valgrind looks here, too */
		_exit(resumed ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	session = *shared;
	assert_int_equal(session.session_id_len, 32);
	assert_true(connect_once(certs, cache, TLS_MIN_1_2, &session));	/* another one resumes, */
	assert_true(connect_once(certs, cache, TLS_MIN_1_2, &session));	/* more than once */

	session = *shared;
	assert_false(connect_once(certs, other, TLS_MIN_1_2, &session));	/* of another listener, case 6.12 */
	assert_true(connect_once(certs, other, TLS_MIN_1_2, &session));
	session = *shared;
	assert_false(connect_once(certs, NULL, TLS_MIN_1_2, &session));
	assert_false(connect_once(certs, NULL, TLS_MIN_1_2, &session));

	/* a session of an older version, and then that version is forbidden */
	old = (br_ssl_session_parameters){ 0 };
	{
		struct link l;

		open_link(&l, 700);
		br_ssl_engine_set_versions(&l.client.eng, BR_TLS10, BR_TLS10);
		begin(&l, "mx.test", certs, cache, TLS_MIN_1_0);
		assert_open(&l);
		br_ssl_engine_get_session_parameters(&l.client.eng, &old);
		close_link(&l);
	}
	session = old;
	assert_true(connect_once(certs, cache, TLS_MIN_1_0, &session));
	session = old;
	assert_false(connect_once(certs, cache, TLS_MIN_1_1, &session));
	session = old;	/* nor is its suite any more */
	assert_false(connect_once(certs, cache, TLS_MIN_1_2, &session));
	munmap(shared, 4096);
	tls_cache_free(cache);
	tls_cache_free(other);
	tls_cache_free(NULL);
	tls_certs_free(certs);
}

/* RFC 5246 7.2.2: a session that ended in a fatal alert is not resumed. */
static void
test_failed_session_is_forgotten(void **state)
{
	struct tls_certs *certs = must_load("ec.pem ec.key");
	struct tls_cache *cache = tls_cache_new(10);
	br_ssl_session_parameters session = { 0 };
	struct link l;

	assert_false(connect_once(certs, cache, TLS_MIN_1_2, &session));
	assert_true(connect_once(certs, cache, TLS_MIN_1_2, &session));
	open_link(&l, 700);
	br_ssl_engine_set_session_parameters(&l.client.eng, &session);
	assert_int_equal(br_ssl_client_reset(&l.client, "mx.test", 1), 1);
	assert_int_equal(tls_accept(l.server, certs, cache, TLS_MIN_1_2), 0);
	tls_lend_buffer(l.server, l.buffers[0]);
	assert_open(&l);
	assert_true(tls_is_resumed(l.server));
	memcpy(tls_receive_room(l.server, &(size_t){ 0 }), "\x17\x03\x03\x00\x20" "01234567890123456789012345678901", 37);
	tls_received(l.server, 37);
	assert_int_equal(tls_status(l.server), TLS_FAILED);
	close_link(&l);
	assert_false(connect_once(certs, cache, TLS_MIN_1_2, &session));
	tls_cache_free(cache);
	tls_certs_free(certs);
}

/* Session n: everything in it follows from n. */
static struct tls_session
session_n(uint32_t n)
{
	struct tls_session s = { .version = BR_TLS12, .suite = (uint16_t)n };

	for (size_t i = 0; i < sizeof(s.id); i++)
		s.id[i] = (uint8_t)(n * 2654435761u >> (i % 4 * 8)) ^ (uint8_t)(i / 4 * 17);
	for (size_t i = 0; i < sizeof(s.secret); i++)
		s.secret[i] = (uint8_t)(n * 40503u >> (i % 3 * 8));
	return s;
}

static bool
cache_has(struct tls_cache *cache, uint32_t n, int64_t now_ms)
{
	struct tls_session want = session_n(n), got;

	if (!tls_cache_get(cache, want.id, now_ms, &got))
		return false;
	assert_memory_equal(got.secret, want.secret, sizeof(want.secret));
	assert_memory_equal(got.id, want.id, sizeof(want.id));
	assert_int_equal(got.suite, want.suite);
	return true;
}

static void
test_cache(void **state)
{
	struct tls_cache *cache = tls_cache_new(400);
	struct tls_session s;
	size_t kept = 0;

	assert_false(cache_has(cache, 1, 0));
	s = session_n(1);
	tls_cache_put(cache, &s, 1000);
	assert_true(cache_has(cache, 1, 1000));
	assert_true(cache_has(cache, 1, 1000 + TLS_CACHE_MS - 1));
	assert_false(cache_has(cache, 1, 1000 + TLS_CACHE_MS));
	assert_false(cache_has(cache, 1, 999));	/* of a clock that went back: another boot's */
	tls_cache_drop(cache, s.id);
	assert_false(cache_has(cache, 1, 1000));
	tls_cache_drop(cache, s.id);
	for (uint32_t i = 0; i < 4000; i++) {
		s = session_n(i);
		tls_cache_put(cache, &s, 2000 + i);
		assert_true(cache_has(cache, i, 2000 + i));
	}
	for (uint32_t i = 0; i < 4000; i++)
		kept += cache_has(cache, i, 6000);
	assert_in_range(kept, 350, 404);
	for (uint32_t i = 3950; i < 4000; i++)	/* the oldest go first */
		kept += cache_has(cache, i, 6000) ? 1000 : 0;
	assert_true(kept > 45000);
	tls_cache_free(cache);

	cache = tls_cache_new(0);
	for (uint32_t i = 0; i < 5; i++) {	/* four places */
		s = session_n(i);
		tls_cache_put(cache, &s, i);
	}
	assert_false(cache_has(cache, 0, 10));
	for (uint32_t i = 1; i < 5; i++)
		assert_true(cache_has(cache, i, 10));
	s = session_n(9);
	tls_cache_put(cache, &s, 3 + TLS_CACHE_MS);	/* one that is too old goes before one that is not */
	assert_true(cache_has(cache, 4, 3 + TLS_CACHE_MS));
	tls_cache_free(cache);
}

/* Any bit of an entry changed, in its place in memory: it is not used. */
static void
test_cache_torn(void **state)
{
	struct tls_cache *cache = tls_cache_new(0);
	struct tls_session s = session_n(7);
	unsigned char *at;

	tls_cache_put(cache, &s, 0);
	at = memmem(cache, 4096, s.id, sizeof(s.id));
	assert_non_null(at);
	for (size_t bit = 0; bit < (sizeof(s) + 16) * 8; bit++) {
		at[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_false(cache_has(cache, 7, 1));
		at[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
	assert_true(cache_has(cache, 7, 1));
	tls_cache_free(cache);
}

/* Processes that write the same few places, one that is killed while it does: what is found is always whole. */
static void
test_cache_shared(void **state)
{
	struct tls_cache *cache = tls_cache_new(8);
	pid_t pids[3];
	size_t found = 0;
	int status;

	for (size_t k = 0; k < 3; k++) {
		pids[k] = fork();
		if (pids[k] == 0)
			for (uint32_t i = 0;; i++) {
				struct tls_session s = session_n((i * 3 + (uint32_t)k) % 64);

				tls_cache_put(cache, &s, i % 8);
			}
		assert_true(pids[k] > 0);
	}
	while (found < 20000)	/* cache_has() checks what it finds */
		for (uint32_t i = 0; i < 64; i++)
			found += cache_has(cache, i, 100);
	for (size_t k = 0; k < 3; k++) {
		assert_int_equal(kill(pids[k], SIGKILL), 0);
		assert_int_equal(waitpid(pids[k], &status, 0), pids[k]);
	}
	for (uint32_t i = 0; i < 64; i++) {	/* no place is lost by that */
		struct tls_session s = session_n(i);

		tls_cache_put(cache, &s, 1000);
		assert_true(cache_has(cache, i, 1000));
	}
	tls_cache_free(cache);
}

/* ---- certificates ---- */

#define NEEDS_PERMISSION "Permission denied"

static const struct {
	const char	*files;
	const char	*error;		/* NULL: it is loaded */
	const char	*warning;	/* NULL: none */
} file_rows[] = {
	{ "ec.pem ec.key", NULL, NULL },
	{ "rsa.pem rsa.key", NULL, NULL },
	{ "rsa.pem rsa.pkcs1.key", NULL, NULL },
	{ "p384.pem p384.key", NULL, NULL },
	{ "p384.pem p384.sec1.key", NULL, NULL },
	{ "p384.pem p384.params.key", NULL, NULL },
	{ "both.pem both.pem", NULL, NULL },
	{ "crlf.pem crlf.key", NULL, NULL },
	{ "text.pem noeol.key", NULL, NULL },
	{ "ec.crt ec.key", NULL, NULL },
	{ "sixteen.pem ec.key", NULL, NULL },
	{ "far.pem ec.key", NULL, NULL },
	{ "missing.pem ec.key", "missing.pem: No such file or directory", NULL },
	{ "ec.pem missing.key", "missing.key: No such file or directory", NULL },
	{ "ec.pem secret.key", NEEDS_PERMISSION, NULL },
	{ "folder ec.key", "folder: is a directory; name the PEM file in it", NULL },
	{ "ec.pem /dev/null", "/dev/null: is not a regular file", NULL },
	{ "empty.pem ec.key", "empty.pem: is empty", NULL },
	{ "huge.pem ec.key", "huge.pem: is larger than 256 KiB", NULL },
	{ "hello.pem ec.key", "hello.pem: no certificate in it", NULL },
	{ "ec.key ec.key", "ec.key: no certificate in it", NULL },
	{ "ec.pem ec.pem", "ec.pem: no private key in it", NULL },
	{ "ec.pem hello.pem", "hello.pem: no private key in it", NULL },
	{ "star.pem ec.key", "star.pem: a certificate in it is damaged: not base64", NULL },
	{ "cut.pem ec.key", "cut.pem: a certificate in it is damaged: not base64, or without its END line", NULL },
	{ "line.pem ec.key", "line.pem: is not an X.509 certificate", NULL },
	{ "ec.pem cut.key", "cut.key: its key is damaged: not base64, or without its END line", NULL },
	{ "ec.pem damaged.key", "damaged.key: its key is damaged: no PKCS#1, SEC1 or PKCS#8", NULL },
	{ "ec.pem two.key", "two.key: several private keys", NULL },
	{ "ec.pem encrypted.key", "encrypted.key: its key is encrypted", NULL },
	{ "rsa.pem legacy.key", "legacy.key: its key is encrypted", NULL },
	{ "ec.pem cn.key", "cn.key: its key belongs to another certificate", NULL },
	{ "ec.pem rsa.key", "rsa.key: its key belongs to another certificate", NULL },
	{ "ec.pem p384.key", "p384.key: its key belongs to another certificate", NULL },
	{ "ec.pem ca.key", "ca.key: its key belongs to another certificate", NULL },
	{ "rsa.pem rsa1024.key", "rsa1024.key: its key belongs to another certificate", NULL },
	{ "rsa.pem bad-crt.key", "bad-crt.key: its key belongs to another certificate", NULL },	/* sound but for one number of it */
	{ "rsa.pem zero.key", "zero.key: its key belongs to another certificate", NULL },
	{ "wrong-order.pem ec.key", "wrong-order.pem: certificates are out of order", NULL },
	{ "strangers.pem ec.key", "strangers.pem: certificates are out of order", NULL },
	{ "seventeen.pem ec.key", "seventeen.pem: more than 16 certificates", NULL },
	{ "rsa1024.pem rsa1024.key", "rsa1024.pem: the certificate has an RSA key below 2048 bits", NULL },
	{ "rsa4104.pem rsa4104.key", "rsa4104.pem: the certificate has an RSA key over 4096 bits", NULL },
	{ "ed.pem ed.key", "ed.pem: the certificate's key is none that we can use; use RSA with 2048 to 4096 bits, or EC on P-256 or P-384", NULL },
	{ "p521.pem p521.key", "p521.pem: the certificate's key is none that we can use; use RSA with 2048 to 4096 bits, or EC on P-256 or P-384", NULL },
	{ "ec.pem ed.key", "ed.key: its key is none that we can use; use RSA with 2048 to 4096 bits, or EC on P-256 or P-384", NULL },
	{ "ec.pem ec.key rsa.pem", "cert_file: 2 files, but key_file has 1", NULL },
	{ "ec.pem ec.key empty.pem rsa.key missing.pem ec.key", "missing.pem: No such file", NULL },	/* each error is said */
	{ "ec.pem ec.key empty.pem rsa.key missing.pem ec.key", "empty.pem: is empty", NULL },
	{ "expired.pem ec.key", NULL, "warning: expired.pem: the certificate expired on 20" },
	{ "soon.pem ec.key", NULL, "warning: soon.pem: the certificate expires on 20" },
	{ "soon-enough.pem ec.key", NULL, NULL },
	{ "future.pem ec.key", NULL, "warning: future.pem: the certificate is valid only from 20" },
	{ "ec.pem ec.key expired.pem ec.key", NULL, "warning: expired.pem: the certificate expired on 20" },
};

static void
test_files(void **state)
{
	for (size_t i = 0; i < COUNT(file_rows); i++) {
		struct tls_certs *certs = load(file_rows[i].files, false);

		print_message("  %s\n%s", file_rows[i].files, errors_text);
		if (file_rows[i].error != NULL && strcmp(file_rows[i].error, NEEDS_PERMISSION) == 0 && geteuid() == 0) {
			print_message("  skipped: root may read it\n");
			tls_certs_free(certs);
			continue;
		}
		if (file_rows[i].error == NULL) {
			assert_non_null(certs);
			assert_true(file_rows[i].warning != NULL || errors_text[0] == '\0');
		} else {
			assert_null(certs);
			assert_non_null(strstr(errors_text, file_rows[i].error));
		}
		if (file_rows[i].warning != NULL)
			assert_true(strncmp(errors_text, file_rows[i].warning, strlen(file_rows[i].warning)) == 0);
		for (const char *line = errors_text; *line != '\0'; line = strchr(line, '\n') + 1)
			assert_non_null(strchr(line, '\n'));
		tls_certs_free(certs);
	}
}

/* A file cut anywhere: never a certificate or a key that is something else. */
static void
test_cut_files(void **state)
{
	static const char *const files[] = { "ec.crt", "rsa.crt", "ec.key", "rsa.key", "rsa.pkcs1.key" };
	for (size_t i = 0; i < COUNT(files); i++) {
		char text[4096];
		FILE *f = fopen(files[i], "r");
		size_t n, loaded = 0;
		const char *why;

		assert_non_null(f);
		n = fread(text, 1, sizeof(text), f);
		assert_int_equal(fclose(f), 0);
		for (size_t cut = 0; cut <= n; cut++) {
			struct tls_pair p = { 0 };
			char *exact = malloc(cut + (cut == 0));

			assert_non_null(exact);
			memcpy(exact, text, cut);
			if (i < 2) {
				loaded += tls_pair_chain(&p, (struct span){ exact, cut }, &why) == 0;
			} else {
				struct tls_certs *pair = must_load(i == 2 ? "ec.crt ec.key" : "rsa.crt rsa.key");

				tls_secret_free(pair->pairs[0].key, sizeof(struct tls_key));
				pair->pairs[0].key = NULL;
				loaded += tls_pair_key(&pair->pairs[0], (struct span){ exact, cut }, &why) == 0;
				tls_certs_free(pair);
				if (cut > 60 && cut < n - 60)
					cut += i == 2 ? 0 : 40;
			}
			tls_pair_clear(&p);
			free(exact);
		}
		print_message("  %s: %zu\n", files[i], loaded);
		/* whole, without the last LF, and with a shorter last line, whose words BearSSL does not compare */
		assert_in_range(loaded, 1, 25);
	}
}

static void
test_info(void **state)
{
	struct tls_certs *certs = must_load("ec.pem ec.key rsa.pem rsa.key cn.pem cn.key expired.pem ec.key");
	struct tls_cert_info info;
	int64_t now_time = (int64_t)time(NULL);
	char want[256], path[64];
	FILE *f;

	tls_certs_info(certs, 0, &info);
	assert_string_equal(info.file, "ec.pem");
	assert_string_equal(info.name, "mx.test");
	assert_false(info.self_signed);
	assert_in_range(now_time - info.not_before_time, 0, 3600);
	assert_int_equal(info.not_after_time - info.not_before_time, 3650 * 86400LL);
	snprintf(path, sizeof(path), "fingerprint");
	assert_int_equal(run((const char *const[]){ "sh", "-c", "openssl x509 -in ec.pem -noout -fingerprint -sha256 | "
	    "sed 's/.*=//; s/://g' | tr A-F a-f >fingerprint", NULL }), 0);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(want, sizeof(want), f));
	assert_int_equal(fclose(f), 0);
	want[strcspn(want, "\n")] = '\0';
	assert_string_equal(info.sha256, want);
	tls_certs_info(certs, 2, &info);
	assert_string_equal(info.name, "cn.test");
	tls_certs_info(certs, 3, &info);
	assert_in_range(now_time - info.not_after_time, 86400, 86400 + 3600);
	tls_certs_free(certs);
}

static void
test_changed(void **state)
{
	struct tls_certs *certs;

	/* as Kubernetes has it: the names lead through a link that is swapped (case 6.14) */
	assert_int_equal(run((const char *const[]){ "sh", "-c", "mkdir v1 v2 && cp ec.pem v1/c && cp ec.key v1/k && cp rsa.pem v2/c && "
	    "cp rsa.key v2/k && ln -s v1 data && ln -s data/c tls.crt && ln -s data/k tls.key", NULL }), 0);
	certs = must_load("tls.crt tls.key");
	assert_false(tls_certs_changed(certs));
	assert_int_equal(symlink("v2", "data.new"), 0);
	assert_false(tls_certs_changed(certs));
	assert_int_equal(rename("data.new", "data"), 0);
	assert_true(tls_certs_changed(certs));
	tls_certs_free(certs);

	/* renamed over, as ACME clients do, the key alone; written in place; touched; gone */
	certs = must_load("tls.crt tls.key");
	assert_int_equal(run((const char *const[]){ "sh", "-c", "cp v2/k v2/new && mv v2/new v2/k", NULL }), 0);
	assert_true(tls_certs_changed(certs));
	tls_certs_free(certs);
	certs = must_load("tls.crt tls.key");
	assert_int_equal(run((const char *const[]){ "sh", "-c", "echo >>v2/c", NULL }), 0);
	assert_true(tls_certs_changed(certs));
	tls_certs_free(certs);
	certs = must_load("tls.crt tls.key");
	assert_int_equal(run((const char *const[]){ "touch", "-d", "2001-01-01", "v2/c", NULL }), 0);
	assert_true(tls_certs_changed(certs));
	tls_certs_free(certs);
	certs = must_load("tls.crt tls.key");
	assert_int_equal(unlink("v2/c"), 0);
	assert_true(tls_certs_changed(certs));
	tls_certs_free(certs);
}

static void
test_self_signed(void **state)
{
	char name[TLS_NAME_MAX + 1], sans[300];
	struct tls_certs *certs = load(NULL, true), *none;
	struct tls_cert_info info, other;
	int64_t now_time = (int64_t)time(NULL);
	const char *why;
	struct link l;
	FILE *f;

	assert_non_null(certs);
	assert_int_equal(tls_certs_n(certs), 1);
	assert_string_equal(errors_text, "");
	tls_certs_info(certs, 0, &info);
	assert_true(info.self_signed);
	assert_string_equal(info.file, "");
	assert_string_equal(info.name, "self.test");
	assert_int_equal(strlen(info.sha256), 64);
	assert_in_range(now_time - info.not_before_time, 3600, 7200);
	assert_in_range((info.not_after_time - now_time) / 86400, 390, 398);
	assert_false(tls_certs_changed(certs));

	/* a client that was given it trusts it; another one does not */
	anchor_on(&certs->pairs[0].chain[0]);
	open_link(&l, 100);
	check_certificates(&l);
	begin(&l, "self.test", certs, NULL, TLS_MIN_1_2);
	assert_open(&l);
	close_link(&l);

	/* openssl(1) has nothing to say against it */
	f = fopen("self.der", "w");
	assert_non_null(f);
	assert_int_equal(fwrite(certs->pairs[0].chain[0].data, certs->pairs[0].chain[0].data_len, 1, f), 1);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(run((const char *const[]){ "sh", "-c", "{ openssl x509 -inform DER -in self.der -out self.pem && "
	    "openssl verify -x509_strict -purpose sslserver -verify_hostname self.test -CAfile self.pem self.pem && "
	    "openssl x509 -in self.pem -noout -text | grep -q 'CA:FALSE'; } >self.log 2>&1", NULL }), 0);
	tls_certs_free(certs);

	/* another key each time */
	certs = load(NULL, true);
	tls_certs_info(certs, 0, &other);
	assert_string_not_equal(other.sha256, info.sha256);
	tls_certs_free(certs);

	/* files come first; nothing at all is an empty set */
	none = load(NULL, false);
	assert_non_null(none);
	assert_int_equal(tls_certs_n(none), 0);
	assert_false(tls_certs_changed(none));
	tls_certs_free(none);
	tls_certs_free(NULL);

	/* the longest name that there is; years behind 2049 */
	memset(sans, 'a', sizeof(sans));
	for (size_t i = 0; i < 255; i++)
		name[i] = i % 64 == 63 ? '.' : 'a';
	name[255] = '\0';
	for (size_t len = 1; len < 256; len += len < 60 ? 1 : 5) {
		struct tls_pair p = { 0 };
		char cut[TLS_NAME_MAX + 1];

		snprintf(cut, sizeof(cut), "%.*s", (int)len, name);
		if (cut[len - 1] == '.')
			cut[len - 1] = 'b';
		assert_int_equal(tls_pair_self_signed(&p, cut, len % 2 == 0 ? now_time : INT64_C(2540000000), &why), 0);
		assert_true(len > 60 && len % 64 == 0 ? true : strcmp(p.info.name, cut) == 0);
		if (len % 2 == 1)
			assert_int_equal(p.info.not_before_time, INT64_C(2540000000) - 3600);
		tls_pair_clear(&p);
	}
}

/* ---- names ---- */

static void
test_words(void **state)
{
	static const struct {
		unsigned	 n;
		const char	*version, *suite;
	} rows[] = {
		{ 0, "", "" },
		{ 0x0301, "TLSv1", "unknown" },
		{ 0x0302, "TLSv1.1", "unknown" },
		{ 0x0303, "TLSv1.2", "unknown" },
		{ 0x0304, "unknown", "unknown" },
		{ 0xc02b, "unknown", "ECDHE-ECDSA-AES128-GCM-SHA256" },
		{ 0xc02f, "unknown", "ECDHE-RSA-AES128-GCM-SHA256" },
		{ 0xcca9, "unknown", "ECDHE-ECDSA-CHACHA20-POLY1305" },
		{ 0xcca8, "unknown", "ECDHE-RSA-CHACHA20-POLY1305" },
		{ 0xc02c, "unknown", "ECDHE-ECDSA-AES256-GCM-SHA384" },
		{ 0xc030, "unknown", "ECDHE-RSA-AES256-GCM-SHA384" },
		{ 0xc009, "unknown", "ECDHE-ECDSA-AES128-SHA" },
		{ 0xc013, "unknown", "ECDHE-RSA-AES128-SHA" },
		{ 0xc00a, "unknown", "ECDHE-ECDSA-AES256-SHA" },
		{ 0xc014, "unknown", "ECDHE-RSA-AES256-SHA" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		print_message("  0x%04x\n", rows[i].n);
		assert_string_equal(tls_version_name(rows[i].n), rows[i].version);
		assert_string_equal(tls_suite_name(rows[i].n), rows[i].suite);
	}
	print_message("  a connection: %zu octets\n", tls_size());
	assert_true(tls_size() <= 4800);	/* an idle TLS client has 8 KB, with its session */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshake),
		cmocka_unit_test(test_extensions),
		cmocka_unit_test(test_server_name),
		cmocka_unit_test(test_server_name_with_nul),
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_damaged_record),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_renegotiation),
		cmocka_unit_test(test_resumption),
		cmocka_unit_test(test_failed_session_is_forgotten),
		cmocka_unit_test(test_cache),
		cmocka_unit_test(test_cache_torn),
		cmocka_unit_test(test_cache_shared),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_cut_files),
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_changed),
		cmocka_unit_test(test_self_signed),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
