#!/bin/sh
# Everything that is tested: unit tests and the fuzz corpora with sanitizers, then the program from outside (SMTPD: another
# build of it). Each part says how long it took; the last line is "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0
mkdir -p build

part() { # part NAME PASSED FAILED START
	echo "== $1: $2 passed, $3 failed ($(($(date +%s) - $4)) s)"
	passed=$((passed + $2)) failed=$((failed + $3))
}

finish() {
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ]
	exit
}

number() { # number PATTERN: the last number in front of PATTERN on standard input, or 0
	n=$(sed -n "s/^\(.*[^0-9]\)\{0,1\}\([0-9][0-9]*\) $1.*/\2/p" | tail -n 1)
	echo "${n:-0}"
}

start=$(date +%s)
if deps/packages.sh gcc libc6-dev libcmocka-dev clang libclang-rt-14-dev python3-pytest openssl swaks curl msmtp mandoc postfix libsasl2-modules \
    dovecot-submissiond gnutls-bin sslscan strace prometheus rspamd spamassassin spamd opendkim \
    clamav-daemon clamav-milter python3-milter python3-dkim; then
	part packages 1 0 "$start"
else
	part packages 0 1 "$start"
	finish
fi

start=$(date +%s)
if make -s -j"$(nproc)" unit replay >build/test-build.log 2>&1; then
	part build 1 0 "$start"
else
	cat build/test-build.log
	part build 0 1 "$start"
	finish
fi

for source in test/unit/test_*.c; do
	[ -e "$source" ] || { echo "== unit tests skipped: there are none"; continue; }
	name=$(basename "$source" .c)
	start=$(date +%s)
	timeout 120 "build/unit/$name" >"build/unit/$name.log" 2>&1
	rc=$?
	ok=$(grep '^\[  PASSED  \]' "build/unit/$name.log" | number 'test(s)')
	bad=$(grep '^\[  FAILED  \]' "build/unit/$name.log" | number 'test(s)')
	grep '^\[  SKIPPED \] [a-z]' "build/unit/$name.log"
	if [ $rc -ne 0 ]; then
		tail -n 60 "build/unit/$name.log"
		echo "$name: exit status $rc"
		[ "$bad" -gt 0 ] || bad=1 # a sanitizer, a signal, the timeout
	elif [ $((ok + bad)) -eq 0 ]; then
		echo "$name: it ran no test"
		bad=1
	fi
	part "$name" "$ok" "$bad" "$start"
done

for source in test/fuzz/fuzz_*.c; do
	[ -e "$source" ] || { echo "== replay skipped: there is no fuzz target"; continue; }
	name=$(basename "$source" .c)
	corpus=test/fuzz/corpus/${name#fuzz_}
	[ -d "$corpus" ] || { echo "== $name skipped: $corpus does not exist"; continue; }
	start=$(date +%s)
	if timeout 120 "build/replay/$name" "$corpus" >"build/replay/$name.log" 2>&1; then
		part "$name (replay)" 1 0 "$start"
	else
		tail -n 60 "build/replay/$name.log"
		part "$name (replay)" 0 1 "$start"
	fi
done

start=$(date +%s)
SMTPD=${SMTPD:-$(pwd)/smtpd}
export SMTPD PYTHONDONTWRITEBYTECODE=1
timeout 1500 /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider --durations=3 test/smtp >build/pytest.log 2>&1
rc=$?
ok=$(tail -n 1 build/pytest.log | number passed)
bad=$(($(tail -n 1 build/pytest.log | number failed) + $(tail -n 1 build/pytest.log | number error)))
grep '^SKIPPED' build/pytest.log
if [ $rc -ne 0 ]; then
	tail -n 80 build/pytest.log
	[ "$bad" -gt 0 ] || bad=1 # the timeout, no test at all, a file that does not import
fi
part "pytest ($SMTPD)" "$ok" "$bad" "$start"
finish
