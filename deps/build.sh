#!/bin/sh
# build.sh ARCHIVES PREFIX [host]: build the libraries from the archives into the prefix.
#
# Without `host`: musl, and with it BearSSL, libcurl, jsmn and inih, for the program. CROSS_COMPILE (aarch64-linux-gnu-)
# builds for another machine. With `host`: BearSSL and libcurl for this machine's C library with $CC, for tests.
# What is built already, from the same archives by the same recipe, is left alone.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
archives=$(cd "$1" && pwd)
mkdir -p "$2"
prefix=$(cd "$2" && pwd)
kind=${3:-target}
src=$prefix/src
cross=${CROSS_COMPILE:-}
jobs=$(nproc)
mkdir -p "$src" "$prefix/include" "$prefix/lib"
exec 9>"$prefix/.lock"
flock 9 # two makes at once: the second waits, and finds everything built
unset MAKEFLAGS MFLAGS MAKELEVEL # the user's CFLAGS and CC are for the program, not for these

if [ "$kind" = host ]; then
	cross=
	cc=${CC:-cc}
	flags="-O1 -g"
else
	cc=$prefix/bin/musl-gcc
	flags="-Os -g0 -fno-asynchronous-unwind-tables -fno-unwind-tables -ffunction-sections -fdata-sections" # 90 KB less
fi
unset CC CFLAGS LDFLAGS CROSS_COMPILE
target=$("${cross}gcc" -dumpmachine)
recipe=$(cat "$0")

step() { # step NAME ARCHIVE [FLAGS]: unpack, run NAME's function inside; once for each archive, recipe and all before it
	set -- "$1" "$archives/$2" "${3:-}"
	recipe=$(printf '%s\n' "$recipe" "$cc" "$target" "$3" | cat - "$2" | sha256sum)
	[ "$(cat "$prefix/.$1" 2>/dev/null)" != "$recipe" ] || return 0
	echo "  building $1"
	rm -rf "${src:?}/$1" "$prefix/.$1"
	mkdir "$src/$1"
	tar -C "$src/$1" --strip-components=1 -xf "$2"
	# A subshell of its own, not the left of ||: there `set -e` would not hold, and a broken step would count as built.
	set +e
	( set -e; cd "$src/$1"; "build_$1" ) >"$prefix/$1.log" 2>&1
	rc=$?
	set -e
	if [ $rc -ne 0 ]; then
		tail -n 20 "$prefix/$1.log" >&2
		echo "deps: $1 was not built, see $prefix/$1.log" >&2
		exit 1
	fi
	echo "$recipe" >"$prefix/.$1"
}

build_musl() {
	CC=${cross}gcc CFLAGS="$flags" CROSS_COMPILE=$cross ./configure --target="$target" --prefix="$prefix" --disable-shared --enable-wrapper=gcc
	make -j"$jobs"
	make install
	# <linux/*.h> is the kernel's, which musl leaves to the system.
	for d in linux asm-generic asm; do
		rm -rf "${prefix:?}/include/$d"
		for from in "/usr/$target/include" "/usr/include/$target" ${cross:+/nowhere} /usr/include; do
			[ "$from" != /nowhere ] || break # another machine's asm is no good
			[ -d "$from/$d" ] || continue
			cp -rL "$from/$d" "$prefix/include/"
			break
		done
		[ -d "$prefix/include/$d" ] || { echo "no kernel headers <$d/*.h> for $target: linux-libc-dev is missing"; exit 1; }
	done
}

# shellcheck disable=SC2086 # a list of flags
build_bearssl() {
	make -j"$jobs" lib CC="$cc" AR="${cross}ar" CFLAGS="-W -Wall $flags" DLL=no TOOLS=no TESTS=no
	# 13 KB for one and a half times as many P-256 signatures and key exchanges; nothing else gains by it.
	for fast in ec_p256_m31 ec_c25519_m31; do
		"$cc" $flags -O3 -Iinc -Isrc -c "src/ec/$fast.c" -o "build/obj/$fast.o"
	done
	"${cross}ar" rcs build/libbearssl.a build/obj/ec_p256_m31.o build/obj/ec_c25519_m31.o
	cp inc/*.h "$prefix/include/"
	cp build/libbearssl.a "$prefix/lib/"
}

# HTTP and SMTP over BearSSL, names looked up in a thread (never in a poll loop), and nothing else.
build_curl() {
	./configure --host="$target" --prefix="$prefix" CC="$cc" AR="${cross}ar" RANLIB="${cross}ranlib" CFLAGS="$flags" \
		CPPFLAGS="-I$prefix/include" LDFLAGS="-L$prefix/lib" \
		--with-bearssl="$prefix" --disable-shared --enable-static --enable-smtp --enable-http \
		--disable-ftp --disable-file --disable-ldap --disable-ldaps --disable-rtsp --disable-dict --disable-telnet --disable-tftp \
		--disable-pop3 --disable-imap --disable-smb --disable-gopher --disable-mqtt --disable-ipfs --disable-websockets \
		--disable-manual --disable-docs --disable-libcurl-option --disable-verbose --disable-ntlm --disable-kerberos-auth \
		--disable-negotiate-auth --disable-aws --disable-alt-svc --disable-hsts --disable-doh --disable-netrc --disable-cookies \
		--disable-mime --disable-proxy --disable-http-auth --disable-dateparse --disable-bindlocal --disable-get-easy-options \
		--disable-progress-meter --disable-tls-srp --enable-unix-sockets --enable-threaded-resolver \
		--without-zlib --without-brotli --without-zstd --without-libpsl --without-libidn2 --without-nghttp2 --without-libssh2 \
		--without-librtmp --without-ca-bundle --without-ca-path --disable-dnsshuffle --disable-form-api
	make -j"$jobs" -C lib
	make -C lib install
	make -C include install
}

build_jsmn() {
	cp jsmn.h "$prefix/include/"
}

# shellcheck disable=SC2046,SC2086 # both are lists of flags
build_inih() {
	"$cc" $flags $(cat "$here/inih.flags") -c ini.c -o ini.o
	"${cross}ar" rcs "$prefix/lib/libinih.a" ini.o
	cp ini.h "$prefix/include/"
}

name() { # name PACKAGE: its archive, as SHA256SUMS calls it
	sed -n "s/^[0-9a-f]*  \($1_.*\)/\1/p" "$here/SHA256SUMS"
}

[ "$kind" = host ] || step musl "$(name musl)"
step bearssl "$(name bearssl)"
step curl "$(name curl)"
[ "$kind" != host ] || exit 0
step jsmn "$(name jsmn)"
step inih "$(name libinih)" "$(cat "$here/inih.flags")" # last: a change of its flags builds nothing else again
