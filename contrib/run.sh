#!/bin/sh
# Start ./smtpd on loopback as an ordinary user, with contrib/smtpd-run.conf and Maildirs below run/. Ctrl-C ends it.
set -eu
cd "$(dirname "$0")/.."
dir=$(pwd)/run
program=./smtpd
as=
mkdir -p "$dir"
if [ "$(id -u)" -eq 0 ]; then
	as="setpriv --reuid=nobody --regid=nogroup --clear-groups --no-new-privs"
	if ! $as test -x "$dir"; then # below root's home, say: an ordinary user does not get there
		dir=$(mktemp -d /tmp/smtpd-run.XXXXXX)
		cp smtpd "$dir/"
		program=$dir/smtpd
	fi
fi
mkdir -p "$dir/mail"
cp contrib/smtpd-run.conf "$dir/smtpd.conf"
grep -q '^0\{31\}1 ' /proc/net/if_inet6 2>/dev/null || sed -i '/^\[smtpd.listener mx6\]/,/^$/d' "$dir/smtpd.conf" # no ::1 here
password=$(cat "$dir/password" 2>/dev/null) || password=$(od -An -N9 -tx1 /dev/urandom | tr -d ' \n')
printf '%s\n' "$password" >"$dir/password"
printf '%s\n%s\n' "$password" "$password" | "$program" passwd me@example.test >"$dir/passwd"
[ -z "$as" ] || chown -R nobody:nogroup "$dir"
chmod 600 "$dir/password" "$dir/passwd"
command -v curl >/dev/null || deps/packages.sh curl || true # for the first message only
address=127.0.0.1:2525
cat <<TXT

A first message, from another terminal:
  printf 'From: me@example.org\nSubject: first\n\nHello.\n' |
    curl -sS smtp://$address --mail-from me@example.org --mail-rcpt you@example.test --crlf --upload-file -
It appears in $dir/mail/example.test/you/new/
As a user who logs in (the certificate is self-signed, hence --insecure; or smtps://127.0.0.1:2465):
  printf 'From: me@example.test\nSubject: second\n\nHello.\n' |
    curl -sS --ssl-reqd --insecure smtp://127.0.0.1:2587 -u me@example.test:$password \\
      --mail-from me@example.test --mail-rcpt you@example.test --crlf --upload-file -
Ctrl-C ends the server.

TXT
# shellcheck disable=SC2086
exec $as "$program" -c "$dir/smtpd.conf" -o "smtpd.delivery.maildir=$dir/mail/%{domain}/%{user}" \
	-o "smtpd.auth.passwd_file=$dir/passwd"
