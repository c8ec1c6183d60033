/*
 * folder.h - for tests with a folder of their own, whose path is in folder.
 */
#ifndef FOLDER_H
#define FOLDER_H

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

/* A file of it, or of any other place, as a string. */
static inline const char *
contents(const char *name)
{
	static char data[70000];
	char path[600];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "%s%s%s", name[0] == '/' ? "" : folder, name[0] == '/' ? "" : "/", name);
	fd = open(path, O_RDONLY);
	assert_true(fd != -1);
	n = read(fd, data, sizeof(data) - 1);
	assert_true(n >= 0);
	data[n] = '\0';
	close(fd);
	return data;
}

static inline void
put(const char *name, const char *text)
{
	char path[512];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd != -1);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static inline int
folder_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* With all that is in it. */
static inline void
folder_remove(void)
{
	assert_int_equal(nftw(folder, folder_remove_one, 10, FTW_DEPTH | FTW_PHYS), 0);
}

#endif
