"""Header fields that are ours alone to write (SECURITY-CASES 9.12; RFC 8601 5; RFC 5321 4.4)."""

import crypt
import os

import pytest

import harness
from components import send

FORGED = [b"Authentication-Results: mx.local.test; dkim=pass header.d=bank.test", b"AUTHENTICATION-RESULTS:MX.Local.Test;spf=pass",
	b"Authentication-Results : mx.local.test 1;\r\n\tdkim=pass", b"Authentication-Results:\r\n (a (comment)) mx.local.test; dkim=pass",
	b"Authentication-Results: \"mx.local.test\"; dkim=pass", b"Authentication-Results: (never ends mx.local.test; dkim=pass"]
KEPT = [b"Authentication-Results: other.test; dkim=pass", b"Authentication-Results: x.mx.local.test 1;\r\n\tspf=pass (mx.local.test)",
	b"X-Authentication-Results: mx.local.test; dkim=pass"]
PATH = b"Return-Path: <ceo@bank.test>"
FROM = b"From: bob@local.test"
BODY = b"\r\n" + FORGED[0] + b"\r\n" + PATH + b"\r\n"
RELAY = "cat >\"$0.$MESSAGE_ID\"\n"


def lines(*fields):
	return b"".join(f + b"\r\n" for f in fields)


def stored(octets):
	return octets.replace(b"\r\n", b"\n")


ALL = lines(*FORGED, PATH, KEPT[0], FROM, FORGED[1], *KEPT[1:], b"return-path :", FORGED[0]) + BODY
LEFT = stored(lines(KEPT[0], FROM, *KEPT[1:]) + BODY)


def checked(fake):
	return {"spamcheck": {"add_headers": "no"}, "spamcheck.checker r": {"url": fake.url}}


def accounts(server):
	path = os.path.join(server.folder, "passwd")
	with open(path, "w", encoding="ascii") as f:
		f.write("bob@local.test:%s\n" % crypt.crypt("secret", "$6$rounds=1000$saltsalt$"))
	server.relay = harness.script(os.path.join(server.folder, "relay"), RELAY)
	if harness.ROOT:
		os.chown(server.folder, harness.NOBODY, harness.NOBODY)
	return {"smtpd.auth": {"passwd_file": path}, "smtpd.relay": {"command": server.relay},
		"smtpd.listener alt": {"address": "127.0.0.2:0", "mode": "alt"}}


def relayed(server):
	with open("%s.%s" % (server.relay, server.promised[-1]), "rb") as f:
		raw = f.read()
	return raw[harness.TRACE.match(raw).end():]


@pytest.mark.parametrize("spool", [False, True])
@pytest.mark.parametrize("checks", [False, True])
def test_they_are_taken_away(start, fake, spool, checks):
	def prepare(server):
		return {"smtpd": {"spool_dir": server.place.folder()}} if spool else {}
	server = start(checked(fake) if checks else {}, prepare=prepare)
	for field in FORGED + [PATH]:
		assert send(server, lines(field, FROM) + BODY).pair == (250, "2.0.0")
		(m,) = server.take()
		assert m.body == stored(lines(FROM) + BODY), field
	for field in KEPT:
		assert send(server, lines(field, FROM) + BODY).pair == (250, "2.0.0")
		(m,) = server.take()
		assert m.body == stored(lines(field, FROM) + BODY)
	assert send(server, ALL).pair == (250, "2.0.0")
	(m,) = server.take()
	assert m.body == LEFT and m.trace.startswith(b"Return-Path: <a@x.test>\nDelivered-To: bob@local.test\nReceived: ")
	# far behind what is read at once
	long = lines(*(b"X-Long: %d %s" % (i, b"x" * 900) for i in range(40)))
	assert send(server, long + ALL).pair == (250, "2.0.0")
	(m,) = server.take()
	assert m.body == stored(long) + LEFT
	# and nothing else is left of the header, or of the message
	for content, left in ((lines(PATH) + BODY, BODY), (lines(PATH), b""), (lines(PATH) + b"\r\n", b"\r\n")):
		assert send(server, content).pair == (250, "2.0.0")
		(m,) = server.take()
		assert m.body == stored(left)
	if checks:
		bodies = fake.shown
		assert bodies[len(FORGED) + 1 + len(KEPT)] == LEFT and not any(b"bank.test" in (b"\n" + b).split(b"\n\n", 1)[0] for b in bodies)


def test_all_recipients_and_their_octets(start):
	server = start()
	assert send(server, ALL, rcpts=(b"bob@local.test", b"alice@other.test")).pair == (250, "2.0.0")
	messages = server.take()
	assert [m.body for m in messages] == [LEFT] * 2
	assert all(len(m.raw.split(b"\n", 1)[1]) == int(server.wait_log("message")["size"]) for m in messages)


@pytest.mark.parametrize("checks", [False, True])
def test_those_of_users_too(start, fake, checks):
	server = start(checked(fake) if checks else {}, prepare=accounts)
	client = server.connect("alt", hello=b"EHLO t.test\r\n")
	assert client.auth(b"PLAIN", b"\0bob@local.test\0secret") == (235, "2.7.0")
	assert client.message(ALL, b"bob@local.test", (b"alice@local.test",)) == (250, "2.0.0")
	(m,) = server.take()
	assert m.body == LEFT
	# elsewhere is not where mail ends its way: whoever delivers it removes Return-Path
	assert client.message(ALL, b"bob@local.test", (b"carol@far.test",)) == (250, "2.0.0")
	assert relayed(server) == stored(lines(PATH, KEPT[0], FROM, *KEPT[1:], b"return-path :") + BODY)
	assert client.message(lines(PATH, FROM) + BODY, b"bob@local.test", (b"carol@far.test",)) == (250, "2.0.0")
	assert relayed(server) == stored(lines(PATH, FROM) + BODY)
	server.promised = server.promised[:1]	# the ledger knows Maildirs only


def test_what_a_checker_says_in_our_name_stays(start, fake):
	fake.answers["/checkv2"] = (200, b'{"action":"no action","milter":{"add_headers":{"Authentication-Results":"mx.local.test;\\n\\tspf=fail"}}}')
	server = start(checked(fake))
	assert send(server, ALL).pair == (250, "2.0.0")
	(m,) = server.take()
	assert m.body == b"Authentication-Results: mx.local.test;\n\tspf=fail\n" + LEFT


def test_a_line_that_is_no_field_ends_the_header(start):
	server = start()
	rest = lines(b"no field", PATH)
	assert send(server, lines(PATH) + rest).pair == (250, "2.0.0")
	assert send(server, rest).pair == (250, "2.0.0")
	assert [m.body for m in server.take()] == [b"\n" + stored(rest), stored(rest)]
