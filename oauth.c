/*
 * oauth.c - key sets of the configured issuers, and the verdict on a token.
 *
 * A set comes from a file that is looked at again when somebody asks, or is fetched: at the start, when it is no longer fresh, and
 * when a token names a key that is not in it, which its sender can do as often as he likes and is therefore bounded by time. A fetch
 * that fails harms nobody: the old keys stay, up to KEYS_FAILING_MAX_MS.
 */
#include "oauth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config_address.h"
#include "json.h"
#include "jwt.h"

#define WAITING_MAX 256			/* tokens that wait for a fetch */
#define CONNECT_MS 3000
#define FETCH_MS 10000			/* with discovery */
#define FRESH_MIN_MS 60000		/* a shorter max-age counts as this; a longer one than jwks_refresh_interval as that */
#define ASK_MS 60000			/* from one fetch for the sake of an unknown key to the next (case 8.40) */
#define RETRY_MIN_MS 1000		/* after a failure; doubled by each further one */
#define RETRY_MAX_MS 60000
#define LOOK_MS 1000			/* from one look at a jwks_file to the next */
#define KEYS_FAILING_MAX_MS (24 * INT64_C(3600000))	/* cases 8.41, 8.44 */
#define URL_MAX 2048
#define DISCOVERY_VALUES_MAX 4096
#define CLOCK_MIN INT64_C(1767225600)	/* 2026-01-01: before it, the clock is that of a machine without a battery (case 8.46) */

/* One issuer and its keys. */
struct source {
	struct oauth		*oauth;
	const struct issuer	*issuer;	/* borrowed until oauth_free() */
	struct jwks		*keys;		/* owned; NULL: none */
	unsigned		 skipped;	/* keys of the set that we cannot use */
	bool			 failing;	/* since failing_at, failures times in a row */
	unsigned		 failures;
	int64_t			 failing_at;

	struct stat		 seen;		/* a jwks_file: which version it is */
	int64_t			 look_at;	/* not looked at before */

	struct http_call	*call;		/* of the fetch under way; NULL: there is none */
	bool			 discovering;	/* it asks where the keys are */
	uint64_t		 fetch;		/* its number, or the last one's */
	int64_t			 fetch_end_at, next_at, ask_at;	/* it ends; the next begins by itself; or for a token, not before */
};

/* A token whose key was not there when it came. */
struct waiting {
	struct source	*source;	/* NULL: the place is free */
	uint64_t	 fetch;		/* for this one */
	int64_t		 deadline_at;
	char		*token;		/* owned, wiped */
	size_t		 token_len;
	auth_done	*done;
	void		*arg;
};

struct oauth {
	struct loop		*loop;		/* borrowed until oauth_free(), as http and config */
	struct http		*http;
	const struct config	*config;
	struct loop_slot	 slot;		/* the next thing to do */
	bool			 clock_is_wrong;
	struct source		 sources[CONFIG_ISSUERS_MAX];
	size_t			 sources_n, waiting_n;
	struct waiting		 waiting[WAITING_MAX];
};

static bool
is_file(const struct source *s)
{
	return *s->issuer->jwks_file != '\0';
}

/* ---- a key set ---- */

static void
failed(struct source *s, const char *reason)
{
	if (!s->failing) {	/* once; after that it is no news (case 8.42) */
		log_warn(0, "jwks", LF_STR("issuer", s->issuer->issuer), LF_STR("result", "fail"), LF_STR("error", reason),
		    LF_INT("old_keys", s->keys == NULL ? 0 : jwks_n(s->keys)));
		s->failing_at = s->oauth->loop->now_ms;
	}
	s->failing = true;
	s->failures++;
}

/* Take a key set; NULL, or why not: then all is as it was. */
static const char *
take_keys(struct source *s, struct span text)
{
	unsigned skipped = 0;
	const char *why = "";
	struct jwks *keys = jwks_parse(text, &skipped, &why);

	if (keys == NULL)
		return why;
	if (jwks_n(keys) == 0) {
		jwks_free(keys);
		return "no usable key in the set";
	}
	if (s->failing || s->keys == NULL || jwks_n(keys) != jwks_n(s->keys) || skipped != s->skipped)
		log_info(0, "jwks", LF_STR("issuer", s->issuer->issuer), LF_STR("result", "ok"), LF_INT("keys", jwks_n(keys)),
		    LF_INT("skipped", skipped));
	jwks_free(s->keys);
	s->keys = keys;
	s->skipped = skipped;
	s->failing = false;
	s->failures = 0;
	return NULL;
}

/* Keys that nobody has been able to confirm for too long are keys no more. */
static void
drop_stale_keys(struct source *s)
{
	if (s->keys == NULL || !s->failing || s->oauth->loop->now_ms - s->failing_at < KEYS_FAILING_MAX_MS)
		return;
	log_error(0, "jwks", LF_STR("issuer", s->issuer->issuer), LF_STR("result", "stale"), LF_INT("old_keys", jwks_n(s->keys)));
	jwks_free(s->keys);
	s->keys = NULL;
}

/* ---- a file ---- */

/* The whole file into b; NULL, or why not. */
static const char *
read_file(const char *path, struct buf *b, struct stat *st)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const char *why = NULL;
	char chunk[8192];
	ssize_t n = 0;

	if (fd == -1)
		return strerror(errno);
	if (fstat(fd, st) == -1)
		why = strerror(errno);
	else if (!S_ISREG(st->st_mode))
		why = "it is no regular file";
	while (why == NULL && (n = read(fd, chunk, sizeof(chunk))) > 0)
		if (buf_add(b, chunk, (size_t)n) == -1)
			why = "it is too long";
	if (n == -1)
		why = strerror(errno);
	close(fd);
	return why;
}

static void
look_at_file(struct source *s)
{
	const char *path = s->issuer->jwks_file, *why;
	struct stat st;
	struct buf b;

	if (s->oauth->loop->now_ms < s->look_at)
		return;
	s->look_at = s->oauth->loop->now_ms + LOOK_MS;
	if (!s->failing && s->keys != NULL && stat(path, &st) == 0 && st.st_ino == s->seen.st_ino && st.st_dev == s->seen.st_dev &&
	    st.st_size == s->seen.st_size && st.st_mtim.tv_sec == s->seen.st_mtim.tv_sec &&
	    st.st_mtim.tv_nsec == s->seen.st_mtim.tv_nsec)
		return;
	buf_init(&b, JWKS_MAX);
	why = read_file(path, &b, &s->seen);
	if (why == NULL)
		why = take_keys(s, buf_span(&b));
	if (why != NULL)
		failed(s, why);
	buf_clear(&b);
}

/* ---- the verdict ---- */

static void
answer(enum auth_outcome outcome, struct span token, const struct jwt *j, const char *reason, auth_done *done, void *arg)
{
	char user[SMTP_ADDRESS_MAX + 1] = "", fingerprint[JWT_FINGERPRINT_LEN + 1];

	if (j->user.domain[0] != '\0')
		smtp_mailbox_print(&j->user, user);
	jwt_fingerprint(token, fingerprint);
	done(arg, &(struct auth_result){ .outcome = outcome, .user = user, .reason = reason, .kid = j->kid, .token = fingerprint,
	    .expires_time = j->expires_time });
}

/* The verdict by the keys that there are; false: others may help. last: there will be none. */
static bool
decide(struct source *s, struct span token, bool last, auth_done *done, void *arg)
{
	const struct words *domains = &s->oauth->config->domains;
	struct jwt j = { 0 };
	const char *why = "";

	drop_stale_keys(s);
	if (s->keys == NULL) {
		if (last)
			answer(AUTH_UNABLE, token, &j, "the issuer's keys are not known", done, arg);
		return last;
	}
	switch (jwt_verify(s->keys, s->issuer, domains->n > 0 ? domains->v[0] : "", token, (int64_t)time(NULL), &j, &why)) {
	case JWT_GOOD:
		answer(AUTH_GOOD, token, &j, why, done, arg);
		break;
	case JWT_BAD:
		answer(AUTH_BAD, token, &j, why, done, arg);
		break;
	case JWT_NO_KEY:
		if (!last)
			return false;
		answer(AUTH_BAD, token, &j, why, done, arg);
		break;
	}
	return true;
}

/* ---- tokens that wait ---- */

static bool
add_waiting(struct source *s, struct span token, int64_t wait_ms, auth_done *done, void *arg)
{
	struct oauth *o = s->oauth;
	struct waiting *w = o->waiting;

	if (o->waiting_n == WAITING_MAX)
		return false;
	while (w->source != NULL)	/* ends: one is free */
		w++;
	*w = (struct waiting){ .fetch = s->fetch, .deadline_at = o->loop->now_ms + wait_ms, .token_len = token.len, .done = done,
	    .arg = arg };
	w->token = malloc(token.len + 1);	/* 1: a token of no octets is none, but would look like a failure */
	if (w->token == NULL)
		return false;
	memcpy(w->token, token.p, token.len);
	w->source = s;
	o->waiting_n++;
	return true;
}

static void
wipe(struct oauth *o, struct waiting *w)
{
	explicit_bzero(w->token, w->token_len);
	free(w->token);
	*w = (struct waiting){ 0 };
	o->waiting_n--;
}

/* Its wait is over. The place is free when done is called, which may bring the next token. */
static void
end_waiting(struct oauth *o, struct waiting *place)
{
	struct waiting w = *place;

	*place = (struct waiting){ 0 };
	o->waiting_n--;
	(void)decide(w.source, (struct span){ w.token, w.token_len }, true, w.done, w.arg);
	explicit_bzero(w.token, w.token_len);
	free(w.token);
}

/* ---- fetching ---- */

static void	answered(void *arg, const struct http_answer *a);

static void
set_timer(struct oauth *o)
{
	int64_t at = LOOP_NEVER;

	for (size_t i = 0; i < o->sources_n; i++)
		if (o->sources[i].next_at < at)
			at = o->sources[i].next_at;
	for (size_t i = 0; i < WAITING_MAX && o->waiting_n > 0; i++)
		if (o->waiting[i].source != NULL && o->waiting[i].deadline_at < at)
			at = o->waiting[i].deadline_at;
	loop_deadline(&o->slot, at);
}

static int64_t
fresh_ms(const struct source *s, int64_t max_age_s)
{
	int64_t ms = s->issuer->jwks_refresh_ms;

	if (max_age_s != -1 && max_age_s < ms / 1000)
		ms = max_age_s * 1000;
	return ms < FRESH_MIN_MS ? FRESH_MIN_MS : ms;
}

static int64_t
retry_ms(const struct source *s)
{
	int64_t ms = RETRY_MIN_MS;

	for (unsigned i = 1; i < s->failures && ms < RETRY_MAX_MS; i++)
		ms *= 2;
	return ms > RETRY_MAX_MS ? RETRY_MAX_MS : ms;
}

/* why: NULL, it has brought keys. Who has waited for it gets his answer. */
static void
end_fetch(struct source *s, const char *why, int64_t max_age_s)
{
	struct oauth *o = s->oauth;
	uint64_t fetch = s->fetch;

	if (why != NULL)
		failed(s, why);
	s->next_at = o->loop->now_ms + (why == NULL ? fresh_ms(s, max_age_s) : retry_ms(s));
	for (size_t i = 0; i < WAITING_MAX && o->waiting_n > 0; i++)
		if (o->waiting[i].source == s && o->waiting[i].fetch == fetch)	/* done may have begun another */
			end_waiting(o, &o->waiting[i]);
	set_timer(o);
}

/* NULL: the answer will come; or why not. Without TLS only from this machine: who can change what is fetched decides who may log in. */
static const char *
ask(struct source *s, const char *url)
{
	struct http_request q = { .url = url, .ca_file = s->issuer->ca_file, .body_fd = -1, .answer_max = JWKS_MAX,
	    .connect_ms = CONNECT_MS, .total_ms = s->fetch_end_at - s->oauth->loop->now_ms };
	bool safe = false;

	if (!config_url(text_span(url), &safe) || !safe)
		return "the address of the keys is neither https nor of this machine";
	if (q.total_ms <= 0)
		return "it took too long";
	s->call = http_start(s->oauth->http, &q, answered, s);
	return s->call == NULL ? strerror(errno) : NULL;
}

/* OpenID Connect Discovery 1.0 4.3: where the keys are, into url[URL_MAX]; NULL, or why not. */
static const char *
read_discovery(const struct source *s, struct span text, char *url)
{
	const char *why = NULL;
	struct json j;

	if (json_parse(&j, text, DISCOVERY_VALUES_MAX, &why) == -1)
		return why;
	if (!json_is(&j, json_get(&j, JSON_ROOT, SPAN("issuer")), text_span(s->issuer->issuer)))
		why = "the discovery document is of another issuer";
	else if (json_string(&j, json_get(&j, JSON_ROOT, SPAN("jwks_uri")), url, URL_MAX) == -1)
		why = "the discovery document has no jwks_uri";
	else
		why = NULL;
	json_clear(&j);
	return why;
}

static void
answered(void *arg, const struct http_answer *a)
{
	struct source *s = arg;
	char text[32], url[URL_MAX];
	const char *why = NULL;

	s->call = NULL;
	(void)snprintf(text, sizeof(text), "HTTP status %d", a->status);
	if (a->status != 200) {
		why = a->status == 0 ? a->error : text;
	} else if (s->discovering) {
		s->discovering = false;
		why = read_discovery(s, a->body, url);
		if (why == NULL && (why = ask(s, url)) == NULL)
			return;
	} else {
		why = take_keys(s, a->body);
	}
	end_fetch(s, why, a->max_age_s);
}

static void
start_fetch(struct source *s)
{
	struct span issuer = text_span(s->issuer->issuer);
	char url[URL_MAX];
	const char *why;
	int n;

	s->fetch++;
	s->fetch_end_at = s->oauth->loop->now_ms + FETCH_MS;
	s->next_at = LOOP_NEVER;
	s->discovering = *s->issuer->jwks_url == '\0';
	if (issuer.len > 0 && issuer.p[issuer.len - 1] == '/')	/* OpenID Connect Discovery 1.0 4.1 */
		issuer.len--;
	if (s->discovering)
		n = snprintf(url, sizeof(url), "%.*s/.well-known/openid-configuration", (int)issuer.len, issuer.p);
	else
		n = snprintf(url, sizeof(url), "%s", s->issuer->jwks_url);
	why = n < 0 || (size_t)n >= sizeof(url) ? "the address is too long" : ask(s, url);
	if (why != NULL)
		end_fetch(s, why, -1);
}

static void
timer_fired(void *arg, short revents)
{
	struct oauth *o = arg;

	(void)revents;
	for (size_t i = 0; i < o->sources_n; i++)
		if (o->sources[i].next_at <= o->loop->now_ms)
			start_fetch(&o->sources[i]);
	for (size_t i = 0; i < WAITING_MAX && o->waiting_n > 0; i++)
		if (o->waiting[i].source != NULL && o->waiting[i].deadline_at <= o->loop->now_ms)
			end_waiting(o, &o->waiting[i]);
	set_timer(o);
}

/* ---- for others ---- */

struct oauth *
oauth_new(struct loop *l, struct http *http, const struct config *c)
{
	struct oauth *o = calloc(1, sizeof(*o));

	if (o == NULL)
		return NULL;
	o->loop = l;
	o->http = http;
	o->config = c;
	o->sources_n = c->issuers_n;
	if (loop_add(l, &o->slot, -1, 0, timer_fired, o) == -1) {
		free(o);
		errno = ENOBUFS;
		return NULL;
	}
	for (size_t i = 0; i < o->sources_n; i++)
		o->sources[i] = (struct source){ .oauth = o, .issuer = &c->issuers[i], .next_at = LOOP_NEVER };
	for (size_t i = 0; i < o->sources_n; i++) {
		if (is_file(&o->sources[i]))
			look_at_file(&o->sources[i]);
		else
			start_fetch(&o->sources[i]);
	}
	return o;
}

void
oauth_free(struct oauth *o)
{
	if (o == NULL)
		return;
	for (size_t i = 0; i < WAITING_MAX && o->waiting_n > 0; i++)
		if (o->waiting[i].source != NULL)
			wipe(o, &o->waiting[i]);
	for (size_t i = 0; i < o->sources_n; i++) {
		http_cancel(o->sources[i].call);
		jwks_free(o->sources[i].keys);
	}
	loop_remove(&o->slot);
	free(o);
}

/* Without the time, no token is known to have expired. */
static bool
clock_is_set(struct oauth *o)
{
	bool wrong = (int64_t)time(NULL) < CLOCK_MIN;

	if (wrong && !o->clock_is_wrong)
		log_error(0, "clock", LF_STR("result", "not set"), LF_STR("help", "tokens cannot be checked until it is"));
	else if (!wrong && o->clock_is_wrong)
		log_info(0, "clock", LF_STR("result", "set"));
	o->clock_is_wrong = wrong;
	return !wrong;
}

static struct source *
find_source(struct oauth *o, const char *issuer)
{
	for (size_t i = 0; i < o->sources_n; i++)
		if (strcmp(o->sources[i].issuer->issuer, issuer) == 0)	/* case 8.21 */
			return &o->sources[i];
	return NULL;
}

void
oauth_check(struct oauth *o, uint64_t session, struct span token, int64_t wait_ms, auth_done *done, void *arg)
{
	static const struct jwt nothing;
	struct source *s;
	char issuer[URL_MAX];
	const char *why = "";

	if (!clock_is_set(o)) {
		answer(AUTH_UNABLE, token, &nothing, "the clock is not set", done, arg);
		return;
	}
	if (!jwt_issuer(token, issuer, sizeof(issuer), &why) || (s = find_source(o, issuer)) == NULL) {
		answer(AUTH_BAD, token, &nothing, *why == '\0' ? "issuer" : why, done, arg);
		return;
	}
	if (is_file(s))
		look_at_file(s);
	if (decide(s, token, false, done, arg))
		return;
	if (!is_file(s) && s->call == NULL && o->loop->now_ms >= s->ask_at) {
		s->ask_at = o->loop->now_ms + ASK_MS;
		start_fetch(s);
	}
	if (s->call == NULL) {
		(void)decide(s, token, true, done, arg);
	} else if (add_waiting(s, token, wait_ms, done, arg)) {
		log_debug(session, "jwks", LF_STR("issuer", s->issuer->issuer), LF_STR("result", "wait"));
		set_timer(o);
	} else {
		answer(AUTH_UNABLE, token, &nothing, "too many tokens wait for keys", done, arg);
	}
}

size_t
oauth_pending(const struct oauth *o)
{
	return o->waiting_n;
}
