#!/bin/sh
# Start ./smtpd on loopback as an ordinary user, with contrib/smtpd-run.conf and a Maildir below run/. Ctrl-C ends it.
set -eu
cd "$(dirname "$0")/.."
top=$(pwd)
mkdir -p run/mail
as=
if [ "$(id -u)" -eq 0 ]; then
	chown -R nobody: run/mail
	as="setpriv --reuid=nobody --regid=nogroup --clear-groups --no-new-privs"
fi
cp contrib/smtpd-run.conf run/smtpd.conf
address=$(sed -n 's/^address = \(127[^ ]*\)$/\1/p' run/smtpd.conf)
grep -q ':.*:' /proc/net/if_inet6 2>/dev/null || [ -s /proc/net/if_inet6 ] || sed -i '/^\[smtpd.listener mx6\]/,/^$/d' run/smtpd.conf
cat <<TXT

A first message, from another terminal:
  printf 'From: me@example.org\nSubject: first\n\nHello.\n' |
    curl -s smtp://$address --mail-from me@example.org --mail-rcpt you@example.test --crlf --upload-file -
It appears in $top/run/mail/example.test/you/new/
Ctrl-C ends the server.

TXT
# shellcheck disable=SC2086
exec $as ./smtpd -c "$top/run/smtpd.conf" -o "smtpd.delivery.maildir=$top/run/mail/%{domain}/%{user}"
