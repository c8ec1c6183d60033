#!/bin/sh
# The program's sources under both compilers without a warning, clang-tidy and cppcheck; the manual pages; where each source belongs.
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
for f in *.c; do
	grep -qF "\`$f\`" HACKING.md || { echo "HACKING.md does not name $f" >&2; exit 1; }
done
mandoc -T lint -W warning doc/*.[158]
cppcheck --quiet -j "$(nproc)" --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 -D__x86_64__ -D_GNU_SOURCE -I. \
	--suppress=missingIncludeSystem --suppress=unusedStructMember "$@"
# shellcheck disable=SC2086
printf '%s\n' "$@" | xargs -P "$(nproc)" -I FILE clang-tidy --quiet --warnings-as-errors='*' FILE -- $flags
