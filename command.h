/*
 * command.h - a configured command: its argument vector and environment, so many at once, and what its exit means.
 *
 * What deliveries, recipient checks and hooks have in common. See DESIGN.md, "The delivery contract".
 */
#ifndef COMMAND_H
#define COMMAND_H

#include "child.h"
#include "message.h"

enum command_kind { COMMAND_DELIVERY, COMMAND_CHECK, COMMAND_HOOK, COMMAND__MAX };

/* What one command is run for. All pointers are borrowed until done. */
struct command {
	enum command_kind kind;
	const struct words *words;	/* the configuration's */
	const struct tx	*tx;
	const struct mailbox *rcpts;	/* those that it is about */
	size_t		 rcpts_n;
	const char	*event;		/* of a hook: its variable EVENT; NULL: none */
	bool		 takes_output;	/* done reads what it prints with exit status 0; else that is logged */
	bool		 with_message;	/* its standard input is the message, from tx->header_at on */
	int64_t		 timeout_ms;	/* of its run; it does not wait for its turn longer either */
};

/*
 * v: what the client is told; with exit status 0 its code is 0, for that is the caller's matter. detail: for the log ("exit 75",
 * "timeout", ...). output: with takes_output, the first CHILD_OUTPUT_MAX octets. All are borrowed until it returns.
 */
typedef void command_done(void *arg, const struct verdict *v, const char *detail, struct span output);

/* Commands of one purpose: max of them at once, the others wait their turn. */
struct commands;

/* The loop and the children, with room for max of them, are borrowed until commands_free(). NULL with errno. */
struct commands	*commands_new(struct loop *l, struct children *children, const struct child_user *user, size_t max);
/* After children_end(); those that wait are told. */
void		 commands_free(struct commands *c);
/* done is called exactly once, from the loop or from inside this call. */
void		 commands_start(struct commands *c, const struct command *what, command_done *done, void *arg);
/* Whether the next one would have to wait. */
bool		 commands_is_full(const struct commands *c);
/* How many are running or waiting. */
size_t		 commands_pending(const struct commands *c);

/* Whether the transaction cannot be handed to a command with these words; then the verdict, and why for the log. */
bool		 command_refuses(const struct words *words, const struct tx *tx, struct verdict *v, const char **why);
/* The same of a recipient. */
bool		 command_refuses_recipient(const struct words *words, const struct mailbox *m);

/*
 * Whom commands and Maildir writers run as. Only root can change that; the agent keeps that right for another user than its own.
 * 0, or -1 with errno, logged.
 */
int		 command_users(const struct config *c, struct child_user *command, struct child_user *writer);

#endif
