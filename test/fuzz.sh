#!/bin/sh
# Each fuzz target for $1 seconds (session and config for six times that), as many at once as there are processors, from the
# committed corpus; what is found anew stays in build/corpus. With a second argument: that target alone.
set -eu
cd "$(dirname "$0")/.."
if [ $# -eq 1 ]; then
	make -s -j"$(nproc)" fuzz
	for t in build/fuzz/fuzz_*; do
		[ ! -f "$t" ] || [ ! -x "$t" ] || basename "$t"
	done | xargs -P "$(nproc)" -I NAME "$0" "$1" NAME
	exit
fi
seconds=$1
name=${2#fuzz_}
dict=
case $name in session | config) seconds=$((6 * seconds)) ;; esac
[ ! -e "test/fuzz/$name.dict" ] || dict="-dict=test/fuzz/$name.dict"
mkdir -p "build/corpus/$name" "test/fuzz/corpus/$name"
# shellcheck disable=SC2086
if "build/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -artifact_prefix=build/crash- $dict \
	"build/corpus/$name" "test/fuzz/corpus/$name" >"build/fuzz-$name.log" 2>&1; then
	echo "== fuzz $name: $(tail -n 1 "build/fuzz-$name.log")"
else
	tail -n 40 "build/fuzz-$name.log"
	exit 255 # xargs ends at once
fi
