#!/bin/sh
# Each fuzz target for $1 seconds, from the committed corpus; what is found anew stays in build/corpus.
set -eu
cd "$(dirname "$0")/.."
make -s -j2 fuzz
for t in build/fuzz/fuzz_*; do
	[ -x "$t" ] || continue
	name=$(basename "$t")
	name=${name#fuzz_}
	mkdir -p "build/corpus/$name" "test/fuzz/corpus/$name"
	dict=
	[ ! -e "test/fuzz/$name.dict" ] || dict="-dict=test/fuzz/$name.dict"
	echo "== fuzz $name"
	# shellcheck disable=SC2086
	"$t" -max_total_time="$1" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix=build/crash- $dict \
		"build/corpus/$name" "test/fuzz/corpus/$name" >"build/fuzz-$name.log" 2>&1 || { tail -n 40 "build/fuzz-$name.log"; exit 1; }
	tail -n 6 "build/fuzz-$name.log"
done
