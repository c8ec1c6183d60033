/*
 * passwd.h - passwd_file: who has a password, as user:hash a line, # comments.
 *
 * Used by auth.c only. The file is read again when it has changed, which is looked at once a second at most. The hashes are
 * crypt(3)'s: $1$, $2a$ $2b$ $2y$, $5$, $6$; a user whose hash is none of these, such as "!" or "*", is disabled.
 */
#ifndef PASSWD_H
#define PASSWD_H

#include "config.h"

#define PASSWD_PASSWORD_MAX 256	/* octets: musl's SHA-crypt takes no more */

struct passwd_file;

enum passwd_answer { PASSWD_KNOWN, PASSWD_DISABLED, PASSWD_UNKNOWN, PASSWD_UNREADABLE };

/* path and c are borrowed until passwd_free(). A file that cannot be read is logged, and tried again later. NULL: no memory. */
struct passwd_file	*passwd_new(const char *path, const struct config *c, int64_t now_ms);
void			 passwd_free(struct passwd_file *f);
/*
 * user: in its one form. *hash: the user's, or one that takes the same time, of a neighbour; not set for a file that cannot be
 * read; borrowed until the next call.
 */
enum passwd_answer	 passwd_find(struct passwd_file *f, const char *user, int64_t now_ms, const char **hash);

#endif
