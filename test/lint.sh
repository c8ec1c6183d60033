#!/bin/sh
# The program's sources under both compilers without a warning, clang-tidy and cppcheck.
set -eu
flags="-std=c11 -D_GNU_SOURCE -I. -isystem build/host/include"
for cc in gcc clang; do
	for f in "$@"; do
		$cc $flags -Os -Wall -Wextra -Werror -Wshadow -Wconversion -Wvla -c -o /dev/null "$f"
	done
done
for f in *.h; do # each header stands alone
	gcc $flags -Wall -Wextra -Werror -fsyntax-only -x c "$f"
done
cppcheck --quiet -j "$(nproc)" --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 -D__x86_64__ -D_GNU_SOURCE -I. \
	--suppress=missingIncludeSystem --suppress=unusedStructMember "$@"
# shellcheck disable=SC2086
printf '%s\n' "$@" | xargs -P "$(nproc)" -I FILE clang-tidy --quiet --warnings-as-errors='*' FILE -- $flags
