/*
 * fuzz_tls.c - octets of a client that has no key, into the server's engine: before the handshake, and in the middle of it.
 *
 * The first octet chooses what goes before (nothing, or a good ClientHello), the version that is asked for and how the octets are
 * cut; the rest is sent. The connection is never open and shows no clear text, asks for no octets once it has ended, sends whole
 * records within bounds, and its buffer is another one, full of garbage, whenever it can be.
 */
#include <stdint.h>
#include <stdlib.h>

#include "must.h"
#include "tls.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* TLS 1.2, X25519 and P-256, ECDHE-ECDSA-AES128-GCM-SHA256, a name. */
static const char hello[] =
	"\x16\x03\x01\x00\x5e\x01\x00\x00\x5a\x03\x03"
	"0123456789abcdef0123456789abcdef" "\x00" "\x00\x02\xc0\x2b" "\x01\x00" "\x00\x2f"
	"\x00\x00\x00\x0f\x00\x0d\x00\x00\x0amail.local"
	"\x00\x0a\x00\x06\x00\x04\x00\x1d\x00\x17"
	"\x00\x0d\x00\x0e\x00\x0c\x04\x03\x04\x01\x05\x03\x05\x01\x06\x03\x06\x01";

static struct tls_certs *
make_certs(void)
{
	const struct config c = { .self_signed = true, .hostname = (char *)(uintptr_t)"mail.local" };
	struct tls_certs *certs;
	struct buf errors;

	buf_init(&errors, 1024);
	certs = tls_certs_load(&c, &errors);
	must(certs != NULL && buf_len(&errors) == 0);
	buf_clear(&errors);
	return certs;
}

struct side {
	struct tls	*t;
	char		*buffers[2];
	size_t		 lent, sent;
};

static void
swap_buffers(struct side *s)
{
	void *p = tls_return_buffer(s->t);

	if (p == NULL)
		return;
	must(p == s->buffers[s->lent]);
	must(tls_to_send(s->t).len == 0);
	memset(p, 0x16, TLS_BUFFER_SIZE);
	s->lent ^= 1;
	tls_lend_buffer(s->t, s->buffers[s->lent]);
}

/* Send what is to be sent, cut in two. */
static void
drain(struct side *s)
{
	for (struct span out = tls_to_send(s->t); out.len > 0; out = tls_to_send(s->t)) {
		size_t n = out.len > 1 ? out.len / 2 : 1;

		must(out.p >= s->buffers[s->lent] && out.p + out.len <= s->buffers[s->lent] + TLS_BUFFER_SIZE);
		tls_sent(s->t, n);
		s->sent += n;
		swap_buffers(s);
	}
}

static void
receive(struct side *s, const char *p, size_t size, size_t cut)
{
	while (size > 0) {
		size_t room, n = size < cut ? size : cut;
		char *to = tls_receive_room(s->t, &room);

		must((to == NULL) == (room == 0));
		if (to == NULL)
			break;
		must(to >= s->buffers[s->lent] && to + room <= s->buffers[s->lent] + TLS_BUFFER_SIZE);
		n = n < room ? n : room;
		memcpy(to, p, n);
		tls_received(s->t, n);
		p += n;
		size -= n;
		must(tls_status(s->t) != TLS_OPEN && tls_clear_text(s->t).len == 0 && tls_write(s->t, "x", 1) == 0);
		drain(s);
		swap_buffers(s);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t cuts[] = { 1, 5, 64, SIZE_MAX };
	static struct tls_certs *certs;
	static struct tls_cache *cache;
	struct side s = { 0 };

	if (certs == NULL) {
		certs = make_certs();
		cache = tls_cache_new(10);
	}
	if (size == 0)
		return 0;
	s.t = calloc(1, tls_size());
	s.buffers[0] = malloc(TLS_BUFFER_SIZE);
	s.buffers[1] = malloc(TLS_BUFFER_SIZE);
	must(cache != NULL && s.t != NULL && s.buffers[0] != NULL && s.buffers[1] != NULL);
	memset(s.buffers[0], 0xff, TLS_BUFFER_SIZE);
	memset(s.buffers[1], 0, TLS_BUFFER_SIZE);
	must(tls_accept(s.t, certs, cache, (enum tls_min)(data[0] >> 3 & 1 ? TLS_MIN_1_0 : TLS_MIN_1_2)) == 0);
	tls_lend_buffer(s.t, s.buffers[0]);
	if ((data[0] & 4) != 0) {
		receive(&s, hello, sizeof(hello) - 1, SIZE_MAX);
		must(s.sent > 400 && tls_status(s.t) == TLS_HANDSHAKE && strcmp(tls_server_name(s.t), "mail.local") == 0);
	}
	receive(&s, (const char *)data + 1, size - 1, cuts[data[0] & 3]);
	must((tls_status(s.t) == TLS_FAILED) == (tls_error(s.t)[0] != '\0'));
	must(tls_version(s.t) == 0 && tls_suite(s.t) == 0 && !tls_is_resumed(s.t));
	for (const char *p = tls_server_name(s.t); *p != '\0'; p++)
		must(is_digit(*p) || (*p >= 'a' && *p <= 'z') || *p == '-' || *p == '_' || *p == '.');
	if (tls_status(s.t) == TLS_FAILED || tls_status(s.t) == TLS_CLOSED)
		must(tls_return_buffer(s.t) != NULL);
	must(s.sent < 4096);	/* a flight, an alert */
	tls_clear(s.t);
	free(s.t);
	free(s.buffers[0]);
	free(s.buffers[1]);
	return 0;
}
