/*
 * file.h - a small file of lines that is read again when it has changed: recipients, senders, passwords.
 *
 * It is looked at once a second at most. That it cannot be read is logged once, until it can be.
 */
#ifndef FILE_H
#define FILE_H

#include <sys/stat.h>

#include "buf.h"

struct file {
	const char	*key;		/* a constant: the configuration's name for it, for the log */
	const char	*path;		/* borrowed */
	size_t		 max;		/* octets it may have */
	struct stat	 seen;		/* which version was read */
	int64_t		 looked_at;
	bool		 looked, loaded, failed;
};

enum file_news {
	FILE_SAME,
	FILE_READ,	/* it is another one than before: text holds it */
	FILE_GONE,	/* it cannot be read: forget what it held */
};

/* key, path and max are set, the rest is zero before the first call. Whatever the answer, buf_clear() ends *text. */
enum file_news	file_look(struct file *f, int64_t now_ms, struct buf *text);
/* What was read could not be kept: logged as if it had not been read, and tried again. */
void		file_fail(struct file *f, int error);
/* The next line of *rest that is not blank, without its comment and the blanks around it; *number counts all lines, from 0. */
bool		file_line(struct span *rest, size_t *number, struct span *line);
/* Log that a line is skipped, and what it should be. line: what may be seen of it. */
void		file_warn(const struct file *f, size_t number, struct span line, const char *help);

/*
 * What such a file holds as a set of strings: keys_init(), keys_add() any number, keys_sort() once, then keys_has(). All zero is
 * empty; keys_clear() makes it so.
 */
struct keys {
	struct buf	 text;	/* each with its NUL */
	const char	**v;	/* owned; sorted */
	size_t		 n;
};

void		keys_init(struct keys *k, size_t octets_max);
void		keys_add(struct keys *k, const char *key);
/* 0, or -1 with errno: one of them did not fit, or no memory. */
int		keys_sort(struct keys *k);
bool		keys_has(const struct keys *k, const char *key);
void		keys_clear(struct keys *k);

#endif
