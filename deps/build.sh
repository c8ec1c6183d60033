#!/bin/sh
# Build musl, BearSSL, libcurl and inih from the archives in $1 into the prefix $2.
# CROSS_COMPILE (aarch64-linux-gnu-) builds for another machine. What is built already is left alone.
set -eu
archives=$(cd "$1" && pwd)
mkdir -p "$2"
prefix=$(cd "$2" && pwd)
src=$prefix/src
cross=${CROSS_COMPILE:-}
target=${cross%-}
[ -n "$target" ] || target=$(gcc -dumpmachine)
jobs=$(nproc)
flags="-Os -g0 -ffunction-sections -fdata-sections"
mkdir -p "$src"

step() { # step NAME ARCHIVE: unpack ARCHIVE, run NAME's function inside, once
	[ -e "$prefix/.$1" ] && return 0
	echo "  building $1"
	rm -rf "${src:?}/$1" && mkdir "$src/$1"
	tar -C "$src/$1" --strip-components=1 -xf "$archives"/$2
	( cd "$src/$1" && "build_$1" ) >"$prefix/$1.log" 2>&1 || { tail -n 20 "$prefix/$1.log" >&2; echo "deps: $1 failed, see $prefix/$1.log" >&2; exit 1; }
	: >"$prefix/.$1"
}

build_musl() {
	CC=${cross}gcc CFLAGS="$flags" CROSS_COMPILE=$cross ./configure --target="$target" --prefix="$prefix" --disable-shared --enable-wrapper=gcc
	make -j"$jobs"
	make install
	# the kernel's own headers, which musl leaves to the system
	for d in linux asm-generic asm; do
		for from in "/usr/$target/include/$d" "/usr/include/$target/$d" "/usr/include/$d"; do
			[ -d "$from" ] || continue
			cp -rL "$from" "$prefix/include/"
			break
		done
	done
}

build_bearssl() {
	make -j"$jobs" lib CC="$prefix/bin/musl-gcc" LD="${cross}gcc" AR="${cross}ar" CFLAGS="-W -Wall $flags -fPIC" DLL=no TOOLS=no TESTS=no
	cp inc/*.h "$prefix/include/"
	cp build/libbearssl.a "$prefix/lib/"
}

build_inih() {
	"$prefix/bin/musl-gcc" $flags $(cat "$here/inih.flags") -c ini.c -o ini.o
	"${cross}ar" rcs "$prefix/lib/libinih.a" ini.o
	cp ini.h "$prefix/include/"
}

build_jsmn() {
	cp jsmn.h "$prefix/include/"
}

build_curl() {
	./configure --host="$target" --prefix="$prefix" CC="$prefix/bin/musl-gcc" AR="${cross}ar" RANLIB="${cross}ranlib" CFLAGS="$flags" \
		CPPFLAGS="-I$prefix/include" LDFLAGS="-L$prefix/lib -static" \
		--with-bearssl="$prefix" --disable-shared --enable-static --enable-smtp --enable-http \
		--disable-ftp --disable-file --disable-ldap --disable-ldaps --disable-rtsp --disable-dict --disable-telnet --disable-tftp \
		--disable-pop3 --disable-imap --disable-smb --disable-gopher --disable-mqtt --disable-ipfs --disable-websockets \
		--disable-manual --disable-docs --disable-libcurl-option --disable-verbose --disable-ntlm --disable-kerberos-auth \
		--disable-negotiate-auth --disable-aws --disable-alt-svc --disable-hsts --disable-doh --disable-netrc --disable-cookies \
		--disable-progress-meter --disable-tls-srp --enable-unix-sockets --disable-threaded-resolver \
		--without-zlib --without-brotli --without-zstd --without-libpsl --without-libidn2 --without-nghttp2 --without-libssh2 \
		--without-librtmp --without-ca-bundle --without-ca-path --disable-dnsshuffle --disable-form-api
	make -j"$jobs" -C lib
	make -C lib install
	make -C include install
}

here=$(cd "$(dirname "$0")" && pwd)
step musl 'musl_*.tar.*'
step bearssl 'bearssl_*.tar.*'
step inih 'libinih_*.tar.*'
step jsmn 'jsmn_*.tar.*'
step curl 'curl_*.tar.*'
