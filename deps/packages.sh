#!/bin/sh
# Install those of the named Debian packages that are missing. When all are there it asks dpkg only, and costs nothing.
set -eu
missing=
for p in "$@"; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
as_root=
if [ "$(id -u)" -ne 0 ]; then
	if sudo -n true 2>/dev/null; then
		as_root="sudo -n"
	else
		echo "packages are missing; as root: apt-get install$missing" >&2
		exit 1
	fi
fi
if ! command -v apt-get >/dev/null; then
	echo "packages are missing, and there is no apt-get to install them:$missing" >&2
	exit 1
fi
echo "  installing$missing"
# A front end that asks nothing (postfix has a question); another apt-get that is running is waited for.
apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300"
install="$apt install -y -qq --no-install-recommends"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The lists may be absent or too old: then they are fetched, once.
# shellcheck disable=SC2086
if ! $install $missing </dev/null >"$log" 2>&1 && ! { $apt update -qq && $install $missing; } </dev/null >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "packages could not be installed:$missing" >&2
	exit 1
fi
