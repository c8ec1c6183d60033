#!/bin/sh
# Install Debian packages by name, those that are missing; a second run costs nothing.
set -eu
missing=
for p in "$@"; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "packages are missing; as root: apt-get install$missing" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
opts="-y -qq --no-install-recommends -o DPkg::Lock::Timeout=300"
# shellcheck disable=SC2086
apt-get install $opts $missing >/dev/null 2>&1 || { apt-get update -qq && apt-get install $opts $missing >/dev/null; }
