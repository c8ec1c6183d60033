/*
 * mda.c - the delivery command of the benchmark: one synced file in a Maildir for each message on standard input.
 *
 *   mda MAILDIR
 *
 * It does what the small Maildir writers of the other servers do: write in tmp, fsync, rename into new.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EX_TEMPFAIL 75
#define NAME_LEN_MAX 80

static int
copy(int to)
{
	static char data[65536];

	for (;;) {
		ssize_t n = read(STDIN_FILENO, data, sizeof(data));

		if (n == 0)
			return 0;
		if (n == -1 && errno != EINTR)
			return -1;
		for (ssize_t at = 0; at < n; ) {
			ssize_t w = write(to, data + at, (size_t)(n - at));

			if (w == -1 && errno != EINTR)
				return -1;
			at += w == -1 ? 0 : w;
		}
	}
}

int
main(int argc, char **argv)
{
	char tmp[NAME_LEN_MAX], new[NAME_LEN_MAX];
	struct timespec t;
	int fd;

	if (argc != 2 || chdir(argv[1]) == -1)
		return EX_TEMPFAIL;
	clock_gettime(CLOCK_REALTIME, &t);
	snprintf(tmp, sizeof(tmp), "tmp/%lld.M%ldP%ld.bench", (long long)t.tv_sec, t.tv_nsec, (long)getpid());
	snprintf(new, sizeof(new), "new/%lld.M%ldP%ld.bench", (long long)t.tv_sec, t.tv_nsec, (long)getpid());
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd == -1)
		return EX_TEMPFAIL;
	if (copy(fd) == -1 || fsync(fd) == -1 || close(fd) == -1 || rename(tmp, new) == -1) {
		unlink(tmp);
		return EX_TEMPFAIL;
	}
	return 0;
}
