#!/bin/sh
# Bring the pinned source archives into the folder $1: from a folder of yours (DEPS_DIR), a mirror of yours (DEPS_MIRROR, an
# address that ends before the file's name), or Debian's source packages. A wrong checksum is refused.
set -eu
dest=$1
sums=$(cd "$(dirname "$0")" && pwd)/SHA256SUMS
mkdir -p "$dest"
dest=$(cd "$dest" && pwd)

good() { # good FILE: is it in dest with its checksum
	[ -f "$dest/$1" ] || return 1
	( cd "$dest" && grep -F "  $1" "$sums" | sha256sum --check --status ) && return 0
	echo "deps: wrong checksum: $1 is not the archive that deps/SHA256SUMS names; remove it or bring the right one" >&2
	rm -f "$dest/$1"
	exit 1
}

# Debian's source packages, with lists of our own: nothing of the system's settings is read but where its mirror is.
from_debian() {
	d=$(mktemp -d)
	mkdir -p "$d/etc" "$d/lists/partial"
	# each of the system's sources, as a source of sources, for the two releases that have the archives
	for f in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d/*.sources; do
		[ -f "$f" ] || continue
		grep -q 'Components:.*main' "$f" && grep -qi 'URIs:.*debian *$' "$f" || continue
		uri=$(sed -n 's/^URIs: *//p' "$f" | head -n 1)
		key=$(sed -n 's/^Signed-By: *//p' "$f" | head -n 1)
		printf 'Types: deb-src\nURIs: %s\nSuites: bookworm trixie\nComponents: main\n' "$uri" >"$d/etc/src.sources"
		[ -z "$key" ] || printf 'Signed-By: %s\n' "$key" >>"$d/etc/src.sources"
		break
	done
	if [ ! -f "$d/etc/src.sources" ]; then
		uri=$(sed -n 's/^deb  *\(\[[^]]*\]  *\)\{0,1\}\([^ ]*debian\/*\)  *[a-z-]* .*main.*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)
		[ -n "$uri" ] || { echo "deps: no Debian source found; set DEPS_DIR or DEPS_MIRROR" >&2; exit 1; }
		printf 'Types: deb-src\nURIs: %s\nSuites: bookworm trixie\nComponents: main\n' "$uri" >"$d/etc/src.sources"
	fi
	apt="apt-get -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$d/etc -o Dir::State::Lists=$d/lists -o APT::Sandbox::User=root"
	$apt update >"$d/log" 2>&1 || { cat "$d/log" >&2; exit 1; }
	( cd "$d" && $apt source --download-only --tar-only curl bearssl libinih jsmn musl >>"$d/log" 2>&1 ) ||
		{ cat "$d/log" >&2; exit 1; }
	cp "$d"/*.orig.tar.* "$dest/"
	rm -rf "$d"
}

asked=
while read -r _ file; do
	good "$file" && continue
	if [ -n "${DEPS_DIR:-}" ] && [ -f "$DEPS_DIR/$file" ]; then
		cp "$DEPS_DIR/$file" "$dest/$file"
	elif [ -n "${DEPS_MIRROR:-}" ]; then
		curl -fsSL -o "$dest/$file" "$DEPS_MIRROR$file" || { echo "deps: cannot fetch $file from DEPS_MIRROR" >&2; exit 1; }
	elif [ -z "$asked" ]; then
		from_debian
		asked=yes
	fi
	good "$file" || { echo "deps: $file is missing" >&2; exit 1; }
done <"$sums"
