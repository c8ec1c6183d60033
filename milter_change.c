/*
 * milter_change.c - what a milter changes in a message that is complete: its fields, its body, its envelope (case 11.54).
 */
#include "milter_change.h"

#include <errno.h>
#include <stdlib.h>

/* "<local@domain>", with or without the brackets, "<>" only for a sender. */
static bool
read_address(const struct milter_changes *c, struct span s, bool null, struct mailbox *m)
{
	struct span rest = text_trim(s);
	enum smtp_path r;

	if (rest.len > 0 && rest.p[0] != '<')
		return smtp_mailbox(rest, c->tx->utf8, m) == SMTP_PATH_OK;
	r = smtp_path(&rest, c->tx->utf8, !null, m);
	return rest.len == 0 && (r == SMTP_PATH_OK || (null && r == SMTP_PATH_NULL));
}

static size_t
find_rcpt(const struct tx *tx, const struct mailbox *m)
{
	char key[SMTP_PATH_MAX + 1], other[SMTP_PATH_MAX + 1];
	size_t i;

	smtp_mailbox_key(m, key);
	for (i = 0; i < tx->rcpts_n; i++) {
		smtp_mailbox_key(&tx->rcpts[i], other);
		if (strcmp(key, other) == 0)
			break;
	}
	return i;
}

static int
add_rcpt(struct tx *tx, const struct mailbox *m)
{
	if (find_rcpt(tx, m) < tx->rcpts_n)
		return 0;
	if (tx->rcpts_n >= tx->config->max_recipients)
		return -1;
	if (tx->rcpts_n == tx->rcpts_max) {
		size_t max = 2 * tx->rcpts_max + 1;
		struct mailbox *v = reallocarray(tx->rcpts, max, sizeof(*v));

		if (v == NULL)
			return -1;
		tx->rcpts = v;
		tx->rcpts_max = max;
	}
	tx->rcpts[tx->rcpts_n++] = *m;
	return 0;
}

static int
change_envelope(struct milter_changes *c, const struct milter_reply *r)
{
	struct tx *tx = c->tx;
	struct mailbox m;
	size_t i;

	if (!read_address(c, r->name, r->answer == ANSWER_CHGFROM, &m))
		return -1;
	if (r->answer == ANSWER_ADDRCPT)
		return add_rcpt(tx, &m);
	if (r->answer == ANSWER_CHGFROM) {
		tx->sender = m;
		return 0;
	}
	i = find_rcpt(tx, &m);
	if (i == tx->rcpts_n)
		return 0;
	tx->rcpts_n--;
	memmove(&tx->rcpts[i], &tx->rcpts[i + 1], (tx->rcpts_n - i) * sizeof(tx->rcpts[0]));
	return 0;
}

/*
 * The MTA's own Received field counts for the index (Sendmail, Postfix): 0 is above it, 1 below it. Ours comes later, in front of all;
 * what is to be above it is then right below.
 */
static int
insert_header(struct milter_changes *c, const struct milter_reply *r)
{
	struct content *content = c->content;
	bool above = r->index <= c->above;
	size_t index = above ? r->index : r->index - 1;

	if (content_insert(content, index > content->fields_n ? content->fields_n : index, r->name, r->value) == -1)
		return -1;
	c->above += above;
	return 0;
}

static int
change_header(struct milter_changes *c, const struct milter_reply *r)
{
	struct content *content = c->content;
	char name[CONTENT_NAME_MAX + 1];
	size_t i;

	if (text_copy(name, sizeof(name), r->name) == -1)
		return -1;
	i = content_find(content, name, r->index == 0 ? 1 : r->index);	/* Sendmail takes 0 for 1 */
	if (i != SIZE_MAX && r->value.len > 0)
		return content_change(content, i, r->value);
	if (i != SIZE_MAX) {
		content_delete(content, i);
		if (i < c->above)
			c->above--;
		return 0;
	}
	return r->value.len == 0 ? 0 : content_insert(content, content->fields_n, r->name, r->value);
}

static int
replace_body(struct milter_changes *c, struct span octets)
{
	if (!c->body_new && content_body_new(c->content) == -1)
		return -1;
	c->body_new = true;
	return content_body_add(c->content, octets.p, octets.len);
}

static void
set_quarantine(struct milter_changes *c, struct span reason)
{
	size_t n = reason.len < sizeof(c->reason) - 1 ? reason.len : sizeof(c->reason) - 1;

	c->quarantine = true;
	for (size_t i = 0; i < n; i++)
		c->reason[i] = is_vchar(reason.p[i]) || reason.p[i] == ' ' ? reason.p[i] : '?';
	c->reason[n] = '\0';
}

const char *
milter_change(struct milter_changes *c, const struct milter_reply *r)
{
	int done = 0;

	if ((r->answer != ANSWER_REPLBODY || r->value.len == 0) && ++c->n > MILTER_CHANGES_MAX)
		return "too many changes";
	c->begun = true;
	errno = 0;
	if (r->answer == ANSWER_REPLBODY)
		return replace_body(c, r->value) == -1 ? "its new body cannot be stored" : NULL;
	if (r->answer == ANSWER_QUARANTINE)
		set_quarantine(c, r->name);
	else if (r->answer == ANSWER_ADDHEADER)
		done = content_insert(c->content, c->content->fields_n, r->name, r->value);
	else if (r->answer == ANSWER_INSHEADER)
		done = insert_header(c, r);
	else if (r->answer == ANSWER_CHGHEADER)
		done = change_header(c, r);
	else if (!c->envelope)
		c->ignored++;
	else if (change_envelope(c, r) == -1)	/* of two that belong together (one goes, another comes) one would be done */
		return "its change of the envelope cannot be made";
	if (done == -1 && errno == ENOMEM)
		return "no memory for its changes";
	c->left_out += done == -1;
	return NULL;
}
