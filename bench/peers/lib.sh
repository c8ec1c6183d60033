# What the servers' scripts share (POSIX sh, sourced). Each script is called with one word:
#   setup   fetch what the server needs into $BENCH_PREFIX; the system itself stays as it is
#   info    lines of name=value for the report
#   start   write a configuration below $BENCH_DIR and become the server, in the foreground, on 127.0.0.1:$BENCH_PORT;
#           mail for user@example.test goes into a Maildir at or below $BENCH_DIR/Maildir; SIGTERM ends it
# Environment: BENCH_DIR (of this server alone), BENCH_PORT, BENCH_MAXCONN, BENCH_PREFIX, BENCH_TOOLS (load, mda), SMTPD.
# With BENCH_TLS_PORT (bench/tls), TLS from the first octet on that port, too, by $BENCH_CERT.pem and its key $BENCH_CERT.key;
# smtpd then takes tokens of $BENCH_ISSUER by $BENCH_JWKS.
# With BENCH_RSPAMD or BENCH_MILTER (bench/filter), each message is shown to the rspamd on that port of 127.0.0.1.
set -eu
PATH=$PATH:/usr/sbin:/sbin

# The server is launched now: what came before is not counted as its start.
bench_mark() {
	date +%s.%N >"$BENCH_DIR/t0"
}

# bench_need PROGRAM...
bench_need() {
	for _p in "$@"; do
		command -v "$_p" >/dev/null || { echo "$_p is not installed" >&2; exit 1; }
	done
}

bench_need_root() {
	[ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 1; }
}

bench_apt() {
	DEBIAN_FRONTEND=noninteractive apt-get install -y --reinstall --download-only --no-install-recommends \
		-o DPkg::Lock::Timeout=300 -o Dir::Cache::archives="$_d/.debs" "$1" >"$_d/.log" 2>&1
}

# bench_unpack PACKAGE: a Debian package and what it needs that is not installed, unpacked and not registered (mail servers
# conflict with each other, and a benchmark has no business to replace the machine's).
bench_unpack() {
	_d=$BENCH_PREFIX/$1
	[ ! -e "$_d/.done" ] || return 0
	bench_need apt-get dpkg
	rm -rf "$_d"
	mkdir -p "$_d/.debs/partial" "$_d/usr" "$_d/etc"
	bench_apt "$1" || { apt-get update >>"$_d/.log" 2>&1 && bench_apt "$1"; } || { tail -n 3 "$_d/.log" >&2; exit 1; }
	for _deb in "$_d"/.debs/*.deb; do
		dpkg -x "$_deb" "$_d"
	done
	[ ! -d "$_d/lib" ] || cp -a "$_d/lib" "$_d/usr/"	# the overlay below covers /usr alone
	dpkg-deb -W --showformat='${Version}\n' "$_d/.debs/$1"_*.deb >"$_d/.version"
	rm -rf "$_d/.debs"
	: >"$_d/.done"
}

# bench_npm PACKAGE
bench_npm() {
	_d=$BENCH_PREFIX/npm-$1
	[ ! -e "$_d/.done" ] || return 0
	bench_need node npm
	rm -rf "$_d"
	mkdir -p "$_d"
	printf '{"name":"bench-peer","private":true}\n' >"$_d/package.json"
	(cd "$_d" && npm install --no-audit --no-fund --omit=dev "$1" >npm.log 2>&1) ||
		{ tail -n 3 "$_d/npm.log" >&2; exit 1; }
	: >"$_d/.done"
}

bench_npm_version() {
	echo "version=$1 $(sed -n 's/.*"version": "\([^"]*\)".*/\1/p' "$BENCH_PREFIX/npm-$1/node_modules/$1/package.json" |
		head -n 1), node $(node --version)"
}

# bench_root PACKAGE COMMAND...: become COMMAND in a mount namespace in which the unpacked package lies over /usr and /etc,
# with the users it wants and without DNS.
bench_root() {
	_p=$BENCH_PREFIX/$1
	shift
	mkdir -p "$BENCH_DIR/etc"
	for _db in passwd group; do
		grep -v -E '^(postfix|postdrop|opensmtpd|opensmtpq|benchmail):' "/etc/$_db" >"$BENCH_DIR/etc/$_db"
	done
	for _u in postfix:61100 postdrop:61101 opensmtpd:61102 opensmtpq:61103 benchmail:61105; do
		echo "${_u%%:*}:x:${_u#*:}:${_u#*:}::/nonexistent:/usr/sbin/nologin" >>"$BENCH_DIR/etc/passwd"
		echo "${_u%%:*}:x:${_u#*:}:" >>"$BENCH_DIR/etc/group"
	done
	printf 'nameserver 127.0.0.1\nlookup file\noptions timeout:1 attempts:1\n' >"$BENCH_DIR/etc/resolv.conf"
	export _p BENCH_DIR
	exec unshare --mount --propagation private sh -c '
		set -e
		mount -t overlay bench-usr -o "lowerdir=$_p/usr:/usr" /usr
		mount -t overlay bench-etc -o "lowerdir=$BENCH_DIR/etc:$_p/etc:/etc" /etc
		exec "$@"' bench_root "$@"
}

# bench_maildir OWNER: the Maildir, empty
bench_maildir() {
	mkdir -p "$BENCH_DIR/Maildir/new" "$BENCH_DIR/Maildir/cur" "$BENCH_DIR/Maildir/tmp"
	[ "$(id -u)" != 0 ] || chown -R "$1" "$BENCH_DIR/Maildir"
}
