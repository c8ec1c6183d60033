/*
 * fuzz_http.c - Cache-Control holds its promises for any octets.
 *
 * The result is within bounds, does not depend on the case of letters, and a directive in front counts by itself.
 */
#include <stdint.h>
#include <stdlib.h>

#include "http.h"
#include "must.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct span front = { "max-age=7, ", 11 };
	int64_t n = http_max_age((struct span){ (const char *)data, size });
	char *copy = malloc(front.len + size);

	must(n >= -1 && n <= INT64_C(2147483648));
	must(copy != NULL);
	memcpy(copy, front.p, front.len);
	for (size_t i = 0; i < size; i++)
		copy[front.len + i] = (char)(data[i] >= 'a' && data[i] <= 'z' ? data[i] - 'a' + 'A' : data[i]);
	must(http_max_age((struct span){ copy + front.len, size }) == n);
	must(http_max_age((struct span){ copy, front.len + size }) == (n == -1 || n > 7 ? 7 : n));
	free(copy);
	return 0;
}
