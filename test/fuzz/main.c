/*
 * main.c - replay: each file named, or in a folder named, through one fuzz target, under any compiler.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define INPUT_MAX (1 << 20)

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
replay_file(const char *path)
{
	static uint8_t data[INPUT_MAX];
	FILE *f = fopen(path, "rb");
	size_t n;

	if (f == NULL) {
		perror(path);
		return -1;
	}
	n = fread(data, 1, sizeof(data), f);
	(void)fclose(f);
	return LLVMFuzzerTestOneInput(data, n);
}

static int
replay_folder(const char *path, unsigned *files)
{
	DIR *d = opendir(path);
	struct dirent *e;
	char file[4096];

	if (d == NULL) {
		perror(path);
		return -1;
	}
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
		if (replay_file(file) != 0)
			return -1;
		++*files;
	}
	return closedir(d);
}

int
main(int argc, char **argv)
{
	unsigned files = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) == -1 || (S_ISDIR(st.st_mode) ? replay_folder(argv[i], &files) : replay_file(argv[i])) != 0)
			return 1;
	}
	return printf("%u files\n", files) < 0;
}
