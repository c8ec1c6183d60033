#!/bin/sh
# Everything that is tested. Ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0
deps/packages.sh libcmocka-dev clang libclang-rt-14-dev python3-pytest swaks curl msmtp mandoc postfix || exit 1

part() { # part NAME PASSED FAILED SECONDS
	echo "== $1: $2 passed, $3 failed ($4 s)"
	passed=$((passed + $2)) failed=$((failed + $3))
}

start=$(date +%s)
make -s -j2 unit replay >build/test-build.log 2>&1 || { cat build/test-build.log; echo "0 passed, 1 failed"; exit 1; }
part build 1 0 $(($(date +%s) - start))

for t in build/unit/test_*; do
	case $t in *.d) continue ;; esac
	start=$(date +%s)
	out=$(timeout 120 "$t" 2>&1)
	rc=$?
	ok=$(printf '%s\n' "$out" | sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' | tail -n 1)
	bad=$(printf '%s\n' "$out" | sed -n 's/^\[  FAILED  \] .*: \([0-9]*\) test.*/\1/p; s/^ *\([0-9]*\) FAILED TEST.*/\1/p' | tail -n 1)
	[ $rc -eq 0 ] && bad=0
	if [ $rc -ne 0 ]; then
		printf '%s\n' "$out" | tail -n 60
		[ "${bad:-0}" -gt 0 ] || bad=1
	fi
	part "$(basename "$t")" "${ok:-0}" "${bad:-0}" $(($(date +%s) - start))
done

for t in build/replay/fuzz_*; do
	case $t in *.d) continue ;; esac
	[ -x "$t" ] || continue
	name=$(basename "$t")
	start=$(date +%s)
	if out=$(timeout 120 "$t" "test/fuzz/corpus/${name#fuzz_}" 2>&1); then
		part "$name (replay)" 1 0 $(($(date +%s) - start))
	else
		printf '%s\n' "$out" | tail -n 40
		part "$name (replay)" 0 1 $(($(date +%s) - start))
	fi
done

start=$(date +%s)
out=build/pytest.log
PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider test/smtp >$out 2>&1
rc=$?
line=$(tail -n 1 $out)
ok=$(printf '%s' "$line" | sed -n 's/.*[^0-9]*\b\([0-9][0-9]*\) passed.*/\1/p')
bad=$(printf '%s' "$line" | sed -n 's/.*\b\([0-9][0-9]*\) failed.*/\1/p')
errors=$(printf '%s' "$line" | sed -n 's/.*\b\([0-9][0-9]*\) error.*/\1/p')
grep '^SKIPPED' $out
[ $rc -eq 0 ] || tail -n 80 $out
[ $rc -eq 0 ] || [ "${bad:-0}${errors:-0}" != 00 ] || bad=1
part pytest "${ok:-0}" $((${bad:-0} + ${errors:-0})) $(($(date +%s) - start))

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
