/*
 * fuzz_pem.c - certificates and keys: PEM, and the DER in it.
 *
 * The first octet chooses what the rest is: a text of certificates, the DER of one, or a text with the key of the certificate made
 * here. What was taken has one certificate at least, of a key that can be served; names are host names that tls_pair_is_for()
 * finds again; the issuer of each is the subject of the next, or it would not do to read it again; a taken key signs.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "must.h"
#include "tls_cert.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_names(const struct tls_pair *p)
{
	for (struct span rest = buf_span(&p->names); rest.len > 0;) {
		struct span name = text_sub(rest, 0, text_find(rest, '\0'));
		char host[SMTP_DOMAIN_MAX + 1], one[SMTP_DOMAIN_MAX + 3];
		bool wildcard = name.p[0] == '*';

		must(name.len < rest.len);
		must(smtp_domain(text_sub(name, wildcard ? 2 : 0, name.len), false, host));
		must(text_is(text_sub(name, wildcard ? 2 : 0, name.len), host));
		(void)snprintf(one, sizeof(one), "%s%s", wildcard ? "x." : "", host);
		must(tls_pair_is_for(p, one, wildcard));
		must(!wildcard || !tls_pair_is_for(p, host, true) || strchr(host, '.') != NULL);
		rest = text_sub(rest, name.len + 1, rest.len);
	}
}

static void
check_chain(const struct tls_pair *p)
{
	must(p->chain_len >= 1 && p->chain_len <= TLS_CHAIN_MAX);
	for (size_t i = 0; i < p->chain_len; i++) {
		int64_t from, to;

		tls_pair_dates(p, i, &from, &to);
		must(p->chain[i].data_len > 0 && p->chain[i].data[0] == DER_SEQUENCE);
		if (i == 0)
			must(from == p->info.not_before_time && to == p->info.not_after_time);
	}
	must(strlen(p->info.sha256) == 64);
	check_names(p);
}

static void
try_chain(struct span text)
{
	struct tls_pair p = { 0 };
	const char *why = NULL;

	if (tls_pair_chain(&p, text, &why) == 0)
		check_chain(&p);
	else
		must(why != NULL);
	tls_pair_clear(&p);
}

/* As if PEM had been read: the fuzzer's octets are not lost in base64. */
static void
try_der(struct span der)
{
	struct tls_pair p = { 0 };
	const char *why = NULL;

	p.chain = calloc(TLS_CHAIN_MAX, sizeof(*p.chain));
	must(p.chain != NULL);
	p.chain[0].data = malloc(der.len + (der.len == 0));
	must(p.chain[0].data != NULL);
	if (der.len > 0)
		memcpy(p.chain[0].data, der.p, der.len);
	p.chain[0].data_len = der.len;
	p.chain_len = 1;
	if (tls_pair_check_chain(&p, &why) == 0)
		check_chain(&p);
	else
		must(why != NULL);
	tls_pair_clear(&p);
}

static void
try_key(struct span text)
{
	static struct tls_pair own;
	const char *why = NULL;

	if (own.chain_len == 0)
		must(tls_pair_self_signed(&own, "mail.local", 1700000000, &why) == 0);
	tls_secret_free(own.key, sizeof(*own.key));
	own.key = NULL;
	own.key_type = 0;
	if (tls_pair_key(&own, text, &why) == 0)
		abort();	/* nobody guesses a key that was thrown away */
	must(why != NULL && own.key_type == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span s;

	if (size == 0)
		return 0;
	s = (struct span){ (const char *)data + 1, size - 1 };
	switch (data[0] % 3) {
	case 0:
		try_chain(s);
		break;
	case 1:
		try_der(s);
		break;
	default:
		try_key(s);
		break;
	}
	return 0;
}
