#!/bin/sh
# Bring the archives of SHA256SUMS into the folder $1. Each is looked for, in this order:
#   there already; DEPS_DIR, a folder of yours; DEPS_MIRROR, an address of yours that has them by name; Debian's source packages.
# What has not its checksum is refused, and nothing of it stays.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
sums=$here/SHA256SUMS
mkdir -p "$1"
dest=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

die() {
	echo "deps: $*" >&2
	exit 1
}

check() { # check PATH NAME SUM [WHERE]: WHERE it came from, when PATH says nothing
	found=$(sha256sum <"$1")
	[ "${found%% *}" = "$3" ] || die "wrong checksum: ${4:-$1}
  is       ${found%% *}
  must be  $3  (deps/SHA256SUMS, $2)
  It was not used. Remove it, bring the right archive, and run make again."
}

# Copied under another name first: what is in the folder under its own name is whole and checked.
take() { # take PATH NAME SUM [WHERE]
	check "$@"
	cp "$1" "$dest/.$2.part"
	mv "$dest/.$2.part" "$dest/$2"
}

from_mirror() { # from_mirror NAME: into $work
	"$here/packages.sh" curl ca-certificates >&2
	curl -fsSL --retry 2 -o "$work/$1" "${DEPS_MIRROR%/}/$1" && return 0
	rm -f "$work/$1"
	echo "deps: DEPS_MIRROR has no $1; asking Debian's source packages" >&2
	return 1
}

# The machine's own Debian source (the first with `main` whose address ends in /debian), as a source of sources for
# the two releases that have the archives. Its address and key are taken as they are.
debian_entry() {
	set -- /etc/apt/sources.list.d/*.sources
	[ ! -f "$1" ] || awk -v RS= '
		{
			uri = ""; key = ""; main = 0
			n = split($0, line, "\n")
			for (i = 1; i <= n; i++) {
				if (line[i] ~ /^URIs:.*\/debian\/?[ \t]*$/) { uri = line[i]; sub(/[ \t]+$/, "", uri); sub(/.*[ \t]/, "", uri) }
				if (line[i] ~ /^Signed-By:[ \t]*\//) key = line[i]
				if (line[i] ~ /^Components:(.*[ \t])?main([ \t]|$)/) main = 1
			}
			if (uri != "" && main) {
				print "Types: deb-src\nURIs: " uri "\nSuites: bookworm trixie\nComponents: main"
				if (key != "") print key
				exit
			}
		}' "$@"
}

debian_entry_one_line() {
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | awk '
		/^deb[ \t].*\/debian\/?[ \t].*[ \t]main([ \t]|$)/ {
			key = $0
			if (!sub(/.*signed-by=/, "", key)) key = ""
			sub(/[] \t].*/, "", key)
			sub(/^deb[ \t]+(\[[^]]*\][ \t]*)?/, "")
			print "Types: deb-src\nURIs: " $1 "\nSuites: bookworm trixie\nComponents: main"
			if (key != "") print "Signed-By: " key
			exit
		}'
}

# apt with lists, cache and sources of its own: the system's settings are neither written nor, but for the address, read.
from_debian() { # all of them, into $work
	command -v apt-get >/dev/null || die "no apt-get here: set DEPS_DIR to a folder with the archives of deps/SHA256SUMS, or DEPS_MIRROR"
	mkdir -p "$work/etc" "$work/lists/partial" "$work/cache/archives/partial"
	debian_entry >"$work/etc/src.sources"
	[ -s "$work/etc/src.sources" ] || debian_entry_one_line >"$work/etc/src.sources"
	[ -s "$work/etc/src.sources" ] ||
		die "no Debian source is configured here: set DEPS_DIR to a folder with the archives of deps/SHA256SUMS, or DEPS_MIRROR"
	set -- apt-get -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/etc" -o Dir::State::Lists="$work/lists" \
		-o Dir::Cache="$work/cache" -o APT::Sandbox::User=
	echo "  fetching the archives from Debian's source packages"
	if ! ( cd "$work" && "$@" update && "$@" source --download-only --tar-only curl bearssl libinih jsmn musl ) >"$work/log" 2>&1; then
		tail -n 10 "$work/log" >&2
		die "the archives could not be fetched; without a network, set DEPS_DIR to a folder with those of deps/SHA256SUMS"
	fi
}

asked=
while read -r sum file; do
	if [ -f "$dest/$file" ]; then
		check "$dest/$file" "$file" "$sum"
	elif [ -n "${DEPS_DIR:-}" ] && [ -f "$DEPS_DIR/$file" ]; then
		take "$DEPS_DIR/$file" "$file" "$sum"
	elif [ -n "${DEPS_MIRROR:-}" ] && from_mirror "$file"; then
		take "$work/$file" "$file" "$sum" "${DEPS_MIRROR%/}/$file"
	else
		[ -n "$asked" ] || from_debian
		asked=yes
		[ -f "$work/$file" ] || die "Debian's source packages have no $file: set DEPS_DIR to a folder that has it"
		take "$work/$file" "$file" "$sum" "$file of Debian's source packages"
	fi
done <"$sums"
