/*
 * rspamd.c - a spam checker: rspamd over its HTTP protocol (POST /checkv2), and learning from spam traps (POST /learnspam).
 *
 * An answer is read as a stranger's: what cannot be understood is FILTER_TROUBLE, what goes on to the client or into the message is
 * bounded and checked here or by content.c.
 */
#include "rspamd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "json.h"
#include "log.h"

#define CONNECT_MS 2000
#define LEARN_MS 30000
#define ANSWER_MAX (16 * 1024 * 1024)	/* the hosts of 10,240 URLs, of 80 octets that are \u0001, are 5 MB */
#define LEARN_ANSWER_MAX 65536
#define SUBJECT_MAX 900		/* octets: in one line, whatever the sender has put in it that could not be folded */
#define VALUES_MAX 65536		/* rspamd names up to 10,240 URLs and as many addresses of a message */
#define HEADERS_TEXT_MAX 65536		/* rspamd takes 80 KiB of HTTP header at most */
#define RCPT_HEADER_MAX (3 * SMTP_ADDRESS_MAX + 16)
#define NTH_MAX 1000			/* a header has no more fields */

/* Where to ask: a URL with its path, and a unix socket instead of its host and port. */
struct target {
	char		*url;		/* owned */
	const char	*unix_socket;	/* borrowed; NULL: none */
};

struct rspamd {
	struct http	*http;		/* borrowed */
	const struct checker *checker;	/* borrowed */
	struct target	 target;
	struct rspamd_check **checks;	/* owned, max_checks of them; NULL: the place is free */
};

struct rspamd_check {
	struct rspamd	*rspamd;
	struct http_call *call;		/* valid while the check is */
	filter_done	*done;
	void		*arg;
};

/* ---- an answer ---- */

static const struct {
	const char	*name;
	enum filter_action action;
	bool		 is_spam;
	const char	*esc;
} actions[] = {
	{ "no action", FILTER_ACCEPT, false, "" },
	{ "greylist", FILTER_ACCEPT, false, "" },	/* as rspamd's own milter has it: when it wants to, it says soft reject */
	{ "add header", FILTER_ACCEPT, true, "" },
	{ "rewrite subject", FILTER_ACCEPT, true, "" },
	{ "soft reject", FILTER_TEMPFAIL, false, "4.7.1" },
	{ "reject", FILTER_REJECT, true, "5.7.1" },
	{ "quarantine", FILTER_QUARANTINE, true, "" },
	{ "discard", FILTER_DISCARD, true, "" },
};

/* What a method found. The first row that is among the symbols counts: one good signature is enough, whatever another one is. */
static const struct {
	const char	*symbol;
	enum filter_method method;
	enum filter_outcome outcome;
} symbols[] = {
	{ "R_SPF_ALLOW", FILTER_SPF, FILTER_PASS },
	{ "R_SPF_FAIL", FILTER_SPF, FILTER_FAIL },
	{ "R_SPF_SOFTFAIL", FILTER_SPF, FILTER_SOFTFAIL },
	{ "R_SPF_NEUTRAL", FILTER_SPF, FILTER_NEUTRAL },
	{ "R_SPF_DNSFAIL", FILTER_SPF, FILTER_TEMPERROR },
	{ "R_SPF_PERMFAIL", FILTER_SPF, FILTER_PERMERROR },
	{ "R_SPF_NA", FILTER_SPF, FILTER_NONE },
	{ "R_DKIM_ALLOW", FILTER_DKIM, FILTER_PASS },
	{ "R_DKIM_REJECT", FILTER_DKIM, FILTER_FAIL },
	{ "R_DKIM_TEMPFAIL", FILTER_DKIM, FILTER_TEMPERROR },
	{ "R_DKIM_PERMFAIL", FILTER_DKIM, FILTER_PERMERROR },
	{ "R_DKIM_NA", FILTER_DKIM, FILTER_NONE },
	{ "DMARC_POLICY_ALLOW", FILTER_DMARC, FILTER_PASS },
	{ "DMARC_POLICY_ALLOW_WITH_FAILURES", FILTER_DMARC, FILTER_PASS },
	{ "DMARC_POLICY_REJECT", FILTER_DMARC, FILTER_FAIL },
	{ "DMARC_POLICY_QUARANTINE", FILTER_DMARC, FILTER_FAIL },
	{ "DMARC_POLICY_SOFTFAIL", FILTER_DMARC, FILTER_SOFTFAIL },
	{ "DMARC_DNSFAIL", FILTER_DMARC, FILTER_TEMPERROR },
	{ "DMARC_BAD_POLICY", FILTER_DMARC, FILTER_PERMERROR },
	{ "DMARC_NA", FILTER_DMARC, FILTER_NONE },
	{ "ARC_ALLOW", FILTER_ARC, FILTER_PASS },
	{ "ARC_REJECT", FILTER_ARC, FILTER_FAIL },
	{ "ARC_DNSFAIL", FILTER_ARC, FILTER_TEMPERROR },
	{ "ARC_INVALID", FILTER_ARC, FILTER_PERMERROR },
	{ "ARC_NA", FILTER_ARC, FILTER_NONE },
};

/*
 * Beginnings of what rspamd calls addresses and domains on lists; what is there for its good name, or could not be asked, has no score
 * above 0.
 */
static const char *const lists[] = {
	"RBL_", "RECEIVED_SPAMHAUS_", "RECEIVED_BLOCKLISTDE", "DBL_", "URIBL_", "PH_SURBL", "MW_SURBL", "ABUSE_SURBL", "CRACKED_SURBL",
	"RSPAMD_URIBL", "RSPAMD_EMAILBL", "MSBL_EBL", "SEM_URIBL",
};

static void
trouble(struct filter_report *r, const char *kind, const char *what)
{
	edits_clear(&r->edits);
	*r = (struct filter_report){ .action = FILTER_TROUBLE };
	/* cut off where it ends */
	(void)snprintf(r->detail, sizeof(r->detail), "%s%s", kind, what);
}

static void
read_score(const struct json *j, struct filter_report *r)
{
	double required = 0;

	if (json_double(j, json_get(j, JSON_ROOT, SPAN("score")), &r->score) == -1)
		return;
	r->has_score = true;
	/* without one, there is a score all the same */
	(void)json_double(j, json_get(j, JSON_ROOT, SPAN("required_score")), &required);
	r->required = required;
}

static void
read_symbols(const struct json *j, struct filter_report *r)
{
	int all = json_get(j, JSON_ROOT, SPAN("symbols"));
	size_t rows[FILTER_METHOD__MAX];	/* that count so far */
	char name[64];
	double score;

	for (size_t m = 0; m < FILTER_METHOD__MAX; m++)
		rows[m] = COUNT(symbols);
	for (int v = -1; (v = json_next(j, all, v)) != -1;) {
		if (json_name(j, v, name, sizeof(name)) == -1)
			continue;
		for (size_t i = 0; i < COUNT(symbols); i++)
			if (i < rows[symbols[i].method] && strcmp(name, symbols[i].symbol) == 0) {
				rows[symbols[i].method] = i;
				r->outcomes[symbols[i].method] = symbols[i].outcome;
			}
		for (size_t i = 0; i < COUNT(lists); i++)
			if (text_starts_nocase(text_span(name), lists[i]) &&
			    json_double(j, json_get(j, v, SPAN("score")), &score) == 0 && score > 0)
				r->outcomes[FILTER_RBL] = FILTER_LISTED;
	}
}

/* messages.smtp_message: one line of a reply, with an enhanced status code of its own if that fits the action (case 11.23). */
static void
read_message(const struct json *j, struct filter_report *r)
{
	char text[sizeof(r->text)], esc[sizeof(r->esc)], rest[sizeof(r->text)];

	json_printable(j, json_get(j, json_get(j, JSON_ROOT, SPAN("messages")), SPAN("smtp_message")), text, sizeof(text));
	if (smtp_status_line(text_span(text), esc, rest, sizeof(rest)) && esc[0] == r->esc[0]) {
		memcpy(r->esc, esc, sizeof(r->esc));
		memcpy(r->text, rest, sizeof(r->text));
	} else {
		memcpy(r->text, text, sizeof(r->text));
	}
}

/* One value of add_headers: "text" or { "value": "text", "order": n }. False: it is neither, or not to be. */
static bool
add_header(const struct json *j, struct filter_report *r, const char *name, int value)
{
	int order = json_get(j, value, SPAN("order"));
	char text[CONTENT_VALUE_MAX + 1];
	/* A trace field (RFC 8601 4.1); what is said of it without an order is where it would go last. */
	bool top = text_is_nocase(text_span(name), "Authentication-Results");
	int64_t n;
	long len;

	if (order == -1)
		order = json_get(j, value, SPAN("index"));
	if (json_i64(j, order, &n) == 0)
		top = n >= 0;		/* from the top; below 0: from the end */
	if (json_type(j, value) == JSON_OBJECT)
		value = json_get(j, value, SPAN("value"));
	len = json_string(j, value, text, sizeof(text));
	if (len == -1)
		return false;
	edits_add(&r->edits, top ? EDIT_ADD_TOP : EDIT_ADD_END, 0, text_span(name), (struct span){ text, (size_t)len });
	return true;
}

/* The name of an entry of add_headers or remove_headers into name[]; false: a field that is not rspamd's to touch (case 9.13). */
static bool
header_name(const struct json *j, int value, char *name, size_t size)
{
	return json_name(j, value, name, size) > 0 && !content_is_structural(text_span(name));
}

/* What is asked for in vain. */
static size_t
read_edits(const struct json *j, struct filter_report *r)
{
	static const char *const ignored[] = { "change_from", "add_rcpt", "del_rcpt", "spam_header" };
	int milter = json_get(j, JSON_ROOT, SPAN("milter"));
	int removed = json_get(j, milter, SPAN("remove_headers")), added = json_get(j, milter, SPAN("add_headers"));
	char name[CONTENT_NAME_MAX + 1];
	size_t vain = 0;
	int64_t nth;

	for (int v = -1; json_type(j, removed) == JSON_OBJECT && (v = json_next(j, removed, v)) != -1;) {
		if (header_name(j, v, name, sizeof(name)) && json_i64(j, v, &nth) == 0 && nth >= -NTH_MAX && nth <= NTH_MAX)
			edits_add(&r->edits, EDIT_REMOVE, (int)nth, text_span(name), SPAN(""));
		else
			vain++;
	}
	for (int v = -1; json_type(j, added) == JSON_OBJECT && (v = json_next(j, added, v)) != -1;) {
		bool ok = header_name(j, v, name, sizeof(name));

		if (!ok || json_type(j, v) != JSON_ARRAY)
			vain += !ok || !add_header(j, r, name, v);
		else
			for (int e = -1; (e = json_next(j, v, e)) != -1;)
				vain += !add_header(j, r, name, e);
	}
	for (size_t i = 0; i < COUNT(ignored); i++)
		vain += json_get(j, milter, text_span(ignored[i])) != -1;
	return vain;
}

/* dkim-signature: a string, or an array of several. */
static size_t
read_signatures(const struct json *j, struct filter_report *r)
{
	int signature = json_get(j, JSON_ROOT, SPAN("dkim-signature"));
	char text[CONTENT_VALUE_MAX + 1];
	size_t vain = 0;
	long len;

	if (json_type(j, signature) == JSON_ABSENT)
		return 0;
	for (int v = -1; json_type(j, signature) != JSON_ARRAY || (v = json_next(j, signature, v)) != -1;) {
		len = json_string(j, v == -1 ? signature : v, text, sizeof(text));
		if (len != -1)
			edits_add(&r->edits, EDIT_ADD_TOP, 0, SPAN("DKIM-Signature"), (struct span){ text, (size_t)len });
		vain += len == -1;
		if (v == -1)
			break;
	}
	return vain;
}

/* What a "reject" or any other action is not, because a rule of rspamd's says so. */
static void
read_exceptions(const struct json *j, struct filter_report *r, const char *action)
{
	int milter = json_get(j, JSON_ROOT, SPAN("milter")), reject = json_get(j, milter, SPAN("reject"));

	if (json_type(j, json_get(j, milter, SPAN("no_action"))) == JSON_TRUE) {
		r->action = FILTER_ACCEPT;
		r->is_spam = false;
		edits_add(&r->edits, EDIT_ADD_END, 0, SPAN("X-Rspamd-Action"), text_span(action));
	} else if (r->action == FILTER_REJECT && json_is(j, reject, SPAN("discard"))) {
		r->action = FILTER_DISCARD;
	} else if (r->action == FILTER_REJECT && json_is(j, reject, SPAN("quarantine"))) {
		r->action = FILTER_QUARANTINE;
	}
	if (r->action != FILTER_REJECT && r->action != FILTER_TEMPFAIL)
		r->esc[0] = r->text[0] = '\0';
}

static void
read_action(const struct json *j, struct filter_report *r)
{
	int action = json_get(j, JSON_ROOT, SPAN("action"));
	char subject[SUBJECT_MAX + 1], text[sizeof(r->detail)];
	size_t i = 0, vain;
	long len;

	while (i < COUNT(actions) && !json_is(j, action, text_span(actions[i].name)))
		i++;
	if (i == COUNT(actions)) {
		json_printable(j, action, text, sizeof(text));
		trouble(r, "unknown action: ", text);
		return;
	}
	r->action = actions[i].action;
	r->is_spam = actions[i].is_spam;
	memcpy(r->esc, actions[i].esc, strlen(actions[i].esc) + 1);
	read_score(j, r);
	read_symbols(j, r);
	read_message(j, r);
	vain = read_edits(j, r);
	if (json_is(j, action, SPAN("rewrite subject"))) {
		len = json_start(j, json_get(j, JSON_ROOT, SPAN("subject")), subject, sizeof(subject));
		if (len != -1)
			edits_add(&r->edits, EDIT_CHANGE, 0, SPAN("Subject"), (struct span){ subject, (size_t)len });
		vain += len == -1;
	}
	vain += read_signatures(j, r);
	read_exceptions(j, r, actions[i].name);
	/* both fit */
	if (vain > 0)
		(void)snprintf(r->detail, sizeof(r->detail), "%s, %zu changes ignored", actions[i].name, vain);
	else
		(void)snprintf(r->detail, sizeof(r->detail), "%s", actions[i].name);
}

void
rspamd_read(struct span json, struct filter_report *r)
{
	const char *why;
	char *copy = NULL, text[sizeof(r->detail)];
	struct json j;
	bool ok = json_parse(&j, json, VALUES_MAX, &why) == 0;
	int error;

	if (!ok && json.len > 0) {	/* it repeats octets of the message, which must not make it unreadable */
		copy = malloc(json.len);
		if (copy == NULL) {
			trouble(r, "", "no memory");
			return;
		}
		memcpy(copy, json.p, json.len);
		json_mend(copy, json.len);
		ok = json_parse(&j, (struct span){ copy, json.len }, VALUES_MAX, &why) == 0;
	}
	if (!ok) {
		trouble(r, "answer: ", why);
	} else if ((error = json_get(&j, JSON_ROOT, SPAN("error"))) != -1) {
		json_printable(&j, error, text, sizeof(text));
		trouble(r, "error: ", text);
	} else {
		read_action(&j, r);
	}
	json_clear(&j);
	free(copy);
}

/* ---- a question ---- */

/* url: http://..., https://... or unix:/path, then path. */
static int
make_target(struct target *t, const char *url, const char *path)
{
	struct span s = text_span(url);

	*t = (struct target){ .url = NULL };
	if (text_starts_nocase(s, "unix:")) {
		t->unix_socket = url + strlen("unix:");
		s = SPAN("http://localhost");	/* the name is for Host: only */
	}
	while (s.len > 0 && s.p[s.len - 1] == '/')
		s.len--;
	if (asprintf(&t->url, "%.*s%s", (int)s.len, s.p, path) != -1)
		return 0;
	t->url = NULL;
	errno = ENOMEM;
	return -1;
}

/* The header fields of a request, as http_request wants them. */
struct headers {
	struct buf	 text;		/* owned; each with its NUL */
	const char	**v;		/* owned; into text */
	size_t		 n;
};

/* Nothing where there is no value: libcurl would take the name alone as a wish to leave the field out. */
static void
headers_add(struct headers *h, const char *name, const char *value)
{
	if (value[0] == '\0')
		return;
	buf_add_str(&h->text, name);
	buf_add_str(&h->text, ": ");
	/* with its NUL; where it does not fit, headers_end() knows */
	(void)buf_add(&h->text, value, strlen(value) + 1);
	h->n++;
}

/* With octets of UTF-8 rspamd takes it for no address at all; percent-encoded it still sees the domain (case 11.26). */
static void
headers_add_mailbox(struct headers *h, const char *name, const struct mailbox *m)
{
	char address[SMTP_ADDRESS_MAX + 1], encoded[3 * SMTP_ADDRESS_MAX + 1];
	size_t n = 0;

	smtp_mailbox_print(m, address);
	for (const char *p = address; *p != '\0'; p++) {
		if (is_8bit(*p))
			n += (size_t)snprintf(encoded + n, sizeof(encoded) - n, "%%%02X", (unsigned)(unsigned char)*p);	/* fits */
		else
			encoded[n++] = *p;
	}
	encoded[n] = '\0';
	headers_add(h, name, n == 0 ? "<>" : encoded);
}

/* It holds a password. */
static void
headers_clear(struct headers *h)
{
	if (h->text.data != NULL)
		explicit_bzero(h->text.data, h->text.size);
	buf_clear(&h->text);
	free(h->v);
	*h = (struct headers){ .n = 0 };
}

/* The array, when all is there. 0, or -1 with errno, then h is empty. */
static int
headers_end(struct headers *h)
{
	const char *p = h->text.data;

	if (!h->text.failed)
		h->v = calloc(h->n + 1, sizeof(*h->v));
	if (h->v == NULL) {
		headers_clear(h);
		errno = ENOMEM;
		return -1;
	}
	for (size_t i = 0; i < h->n; i++, p += strlen(p) + 1)
		h->v[i] = p;
	return 0;
}

/*
 * What rspamd cannot see in the message. Octets that would end a line are in none of these but perhaps a user's name; then http_start()
 * says EINVAL (case 11.26). Recipients that do not fit are not named: the message is looked at all the same.
 */
static int
make_headers(struct headers *h, const struct tx *tx, const char *password, const char *settings_id)
{
	*h = (struct headers){ .n = 0 };
	buf_init(&h->text, HEADERS_TEXT_MAX);
	headers_add(h, "Queue-ID", tx->id);
	headers_add(h, "IP", tx->client_address);
	headers_add(h, "Helo", tx->helo);
	headers_add(h, "Hostname", tx->client_name);
	headers_add(h, "User", tx->auth_user);
	headers_add(h, "TLS-Version", tx->tls_version);
	headers_add(h, "TLS-Cipher", tx->tls_cipher);
	headers_add(h, "MTA-Name", tx->config->hostname);
	headers_add(h, "MTA-Tag", tx->listener->name);
	headers_add(h, "Settings-ID", settings_id);
	headers_add(h, "Password", password);
	headers_add_mailbox(h, "From", &tx->sender);
	for (size_t i = 0; i < tx->rcpts_n && buf_room(&h->text) > RCPT_HEADER_MAX; i++)
		headers_add_mailbox(h, "Rcpt", &tx->rcpts[i]);
	if (tx->rcpts_n == 1)
		headers_add_mailbox(h, "Deliver-To", &tx->rcpts[0]);
	return headers_end(h);
}

struct rspamd *
rspamd_new(struct http *http, const struct checker *c)
{
	struct rspamd *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	*r = (struct rspamd){ .http = http, .checker = c };
	r->checks = calloc(c->max_checks, sizeof(struct rspamd_check *));
	if (r->checks == NULL || make_target(&r->target, c->url, "/checkv2") == -1) {
		rspamd_free(r);
		errno = ENOMEM;
		return NULL;
	}
	return r;
}

/* The one place where a check's memory ends. */
static void
end(struct rspamd_check *k)
{
	for (size_t i = 0; i < k->rspamd->checker->max_checks; i++)
		if (k->rspamd->checks[i] == k)
			k->rspamd->checks[i] = NULL;
	free(k);
}

void
rspamd_free(struct rspamd *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; r->checks != NULL && i < r->checker->max_checks; i++)
		rspamd_cancel(r->checks[i]);
	free(r->target.url);
	free(r->checks);
	free(r);
}

static void
answered(void *arg, const struct http_answer *a)
{
	struct rspamd_check *k = arg;
	struct filter_report r = { .action = FILTER_TROUBLE };
	filter_done *done = k->done;
	void *done_arg = k->arg;
	char status[16];

	end(k);		/* first: done may start another check */
	if (a->status == 200) {
		rspamd_read(a->body, &r);
	} else if (a->status != 0) {
		(void)snprintf(status, sizeof(status), "%d", a->status);	/* fits */
		trouble(&r, "HTTP status ", status);
	} else {
		trouble(&r, "", a->error);
		r.timed_out = a->timed_out;
	}
	done(done_arg, &r);
	edits_clear(&r.edits);
}

struct rspamd_check *
rspamd_start(struct rspamd *r, const struct tx *tx, int64_t timeout_ms, filter_done *done, void *arg)
{
	const struct checker *c = r->checker;
	struct http_request q = { .url = r->target.url, .unix_socket = r->target.unix_socket, .ca_file = c->ca_file, .post = true,
	    .body_fd = tx->fd, .body_at = message_at(tx), .body_len = tx->size - message_at(tx), .answer_max = ANSWER_MAX,
	    .connect_ms = timeout_ms < CONNECT_MS ? timeout_ms : CONNECT_MS, .total_ms = timeout_ms };
	struct rspamd_check *k;
	struct headers h;
	size_t i = 0;
	int error;

	if (q.body_len > c->max_size) {
		errno = EFBIG;
		return NULL;
	}
	while (i < c->max_checks && r->checks[i] != NULL)
		i++;
	if (i == c->max_checks) {
		errno = EAGAIN;
		return NULL;
	}
	k = calloc(1, sizeof(*k));
	if (k == NULL || make_headers(&h, tx, c->password, c->settings_id) == -1) {
		free(k);
		errno = ENOMEM;
		return NULL;
	}
	*k = (struct rspamd_check){ .rspamd = r, .done = done, .arg = arg };
	q.headers = h.v;
	k->call = http_start(r->http, &q, answered, k);
	error = errno;
	headers_clear(&h);
	if (k->call == NULL) {
		free(k);
		errno = error == EAGAIN ? EBUSY : error;	/* others have all of http's places: the end of a check would not help */
		return NULL;
	}
	r->checks[i] = k;
	return k;
}

void
rspamd_cancel(struct rspamd_check *k)
{
	if (k == NULL)
		return;
	http_cancel(k->call);
	end(k);
}

/* ---- learning ---- */

struct lesson {
	int		 fd;		/* owned */
	uint64_t	 session;
	char		 id[MESSAGE_ID_LEN + 1];
};

static void
learned(void *arg, const struct http_answer *a)
{
	struct lesson *l = arg;

	if (a->status >= 200 && a->status <= 299)	/* 208: it knew already */
		log_info(l->session, "learn", LF_STR("id", l->id), LF_INT("status", a->status), LF_US("took_ms", a->took_us));
	else
		log_warn(l->session, "learn", LF_STR("id", l->id), LF_INT("status", a->status), LF_STR("error", a->error),
		    LF_US("took_ms", a->took_us));
	(void)close(l->fd);	/* it was only read */
	free(l);
}

int
rspamd_learn(struct http *http, const char *url, const char *password, const struct tx *tx)
{
	struct http_request q = { .post = true, .body_at = MESSAGE_ROOM, .body_len = tx->size - MESSAGE_ROOM, .answer_max = LEARN_ANSWER_MAX,
	    .unhurried = true, .connect_ms = CONNECT_MS, .total_ms = LEARN_MS };
	struct lesson *l = calloc(1, sizeof(*l));
	struct target t = { .url = NULL };
	struct headers h = { .n = 0 };
	int error;

	if (l == NULL)
		return -1;
	*l = (struct lesson){ .fd = fcntl(tx->fd, F_DUPFD_CLOEXEC, 0), .session = tx->session };
	memcpy(l->id, tx->id, sizeof(l->id));
	if (l->fd == -1 || make_target(&t, url, "/learnspam") == -1 || make_headers(&h, tx, password, "") == -1)
		goto fail;
	q.url = t.url;
	q.unix_socket = t.unix_socket;
	q.headers = h.v;
	q.body_fd = l->fd;
	if (http_start(http, &q, learned, l) == NULL)
		goto fail;
	headers_clear(&h);
	free(t.url);
	return 0;
fail:
	error = errno;
	headers_clear(&h);
	free(t.url);
	if (l->fd != -1)
		(void)close(l->fd);
	free(l);
	errno = error;
	return -1;
}
