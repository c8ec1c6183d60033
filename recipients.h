/*
 * recipients.h - recipients_file: the addresses that get mail, one user@domain or @domain a line, # comments.
 *
 * Used by deliver.c only. The file is read again when it has changed, which is looked at once a second at most.
 */
#ifndef RECIPIENTS_H
#define RECIPIENTS_H

#include "smtp.h"

struct recipients;

enum recipients_answer { RECIPIENTS_KNOWN, RECIPIENTS_UNKNOWN, RECIPIENTS_UNREADABLE };

/* path is borrowed until recipients_free(). A file that cannot be read is logged, and tried again later. NULL: no memory. */
struct recipients	*recipients_new(const char *path, int64_t now_ms);
void			 recipients_free(struct recipients *r);
/* The local-part is compared without regard to ASCII case. */
enum recipients_answer	 recipients_find(struct recipients *r, const struct mailbox *m, int64_t now_ms);

#endif
