"""Milters, the real ones: what they decide, and what they change, to the octet (SECURITY-CASES 11.50 to 11.56)."""

import base64
import crypt
import os
import re
import socket
import time

import pytest

import harness
from components import DOMAIN, EICAR, GTUBE, HAM, ClamavMilter, Clamd, MilterPeer, Opendkim, Toy, checker, milter, send
from test_metrics import METRICS, scrape

REFUSED = (550, "5.7.1")
LATER = (451, "4.7.1")
GOOD = (250, "2.0.0")


def running(place, sections):
	server = harness.Server(place, sections)
	server.start()
	server.ready()
	yield server
	server.disconnect_all()
	server.stop()
	server.check_ledger()


# ---- opendkim ----

@pytest.fixture(scope="module")
def signing(place, key):
	d = Opendkim(place, key, sign=True)
	yield d
	d.stop()


@pytest.fixture(scope="module")
def verifying(place, key):
	d = Opendkim(place, key, sign=False)
	yield d
	d.stop()


def test_opendkim_signs_and_verifies(start, signing, verifying):
	content = b"From: bob@local.test\r\nTo: x@far.test\r\nSubject: signed\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nbody\r\n"
	signer = start(milter("sign", signing.port))
	assert send(signer, content, b"bob@local.test").pair == GOOD
	(signed,) = signer.take()
	assert b"\nDKIM-Signature: v=1; a=rsa-sha256;" in signed.raw
	message = signed.body.replace(b"\n", b"\r\n")
	verifier = start(milter("verify", verifying.port))
	assert send(verifier, message, b"bob@local.test").pair == GOOD
	assert send(verifier, message.replace(b"body", b"BODY"), b"bob@local.test").pair == GOOD
	good, changed = verifier.take()
	assert b"dkim=pass" in good.raw, good.raw
	assert b"dkim=fail" in changed.raw, changed.raw


# ---- clamd and clamav-milter ----

@pytest.fixture(scope="module")
def clamav(place):
	clamd = Clamd(place)
	d = ClamavMilter(place, clamd)
	yield d
	d.stop()
	clamd.stop()


@pytest.fixture(scope="module")
def virus_server(place, clamav):
	yield from running(place, milter("clamav", clamav.port))


def test_clamav_lets_clean_mail_pass(virus_server):
	virus_server.take()
	assert send(virus_server, HAM).pair == GOOD
	(m,) = virus_server.take()
	head, body = m.body.split(b"\n\n", 1)
	assert body == b"A friendly word.\n"
	assert re.search(rb"^X-Virus-Status: Clean$", head, re.M), head


ATTACHED = b"""\
From: a@x.test
Subject: a file
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=edge

--edge
Content-Type: text/plain

Look at this.
--edge
Content-Type: application/octet-stream
Content-Transfer-Encoding: base64

%s
--edge--
""" % base64.b64encode(EICAR)


@pytest.mark.parametrize("content", [b"Subject: in the body\r\n\r\n" + EICAR + b"\r\n", ATTACHED.replace(b"\n", b"\r\n")], ids=["body", "attached"])
def test_clamav_refuses_a_virus(virus_server, content):
	virus_server.take()
	reply = send(virus_server, content)
	assert reply.pair == REFUSED and b"virus found: Toy.Eicar" in reply.text[-1]
	assert virus_server.take() == []


def test_clamav_without_its_clamd_is_a_later(place, start):
	clamd = Clamd(place)
	d = ClamavMilter(place, clamd)
	try:
		server = start(milter("clamav", d.port))
		assert send(server, HAM).pair == GOOD
		clamd.stop()
		assert send(server, HAM).code == 451
		assert len(server.take()) == 1
	finally:
		d.stop()


# ---- a milter of libmilter's that does everything ----

CONTENT = b"From: a@x.test\r\nX-Do: %s\r\nSubject: one\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\nA body.\r\n"
BIG = b"".join(b"%06d %s\n" % (i, b"x" * 66) for i in range(2000))


@pytest.fixture(scope="module")
def toy(place):
	d = Toy(place)
	yield d
	d.stop()


@pytest.fixture(scope="module")
def toy_server(place, toy):
	verdicts = ("reject", "tempfail", "discard", "accept", "reply")
	yield from running(place, dict(milter("toy", toy.port, envelope="yes"),
		**{"smtpd.listener connect-" + v: {"address": "127.0.0.%d:0" % (2 + i)} for i, v in enumerate(verdicts)}))


def stored(do, head=b"", subject=b"one", twice=(b"1", b"2"), tail=b"", body=b"A body.\n"):
	return (head + (b"X-Do: %s\n" % do if do else b"") + b"Subject: %s\n" % subject + b"".join(b"X-Twice: %s\n" % t for t in twice) + tail +
		b"\n" + body)


FROM = b"From: a@x.test\n"
CHANGES = {
	b"nothing": stored(b"nothing", FROM),
	b"add": stored(b"add", FROM, tail=b"X-Added: by a milter\n"),
	b"fold": stored(b"fold", FROM, tail=b"X-Folded: one\n\ttwo\n three\n"),
	b"insert": stored(b"insert", b"X-First: 1\n" + FROM),
	b"between": stored(b"between", FROM + b"X-Second: 2\n"),
	b"change": stored(b"change", FROM, subject=b"changed", twice=(b"1", b"the second")),
	b"change-absent": stored(b"change-absent", FROM, tail=b"X-Absent: not any more\n"),
	b"delete": stored(None, FROM, twice=(b"2",)),
	b"replace": stored(b"replace", FROM, body=b"Another\nbody.\n"),
	b"replace-big": stored(b"replace-big", FROM, body=BIG),
	b"progress": stored(b"progress", FROM),
	# our own Received counts, and X-First is above it: the second place is above From
	b"insert, between, change, add, delete, replace": stored(None, b"X-First: 1\nX-Second: 2\n" + FROM, subject=b"changed",
		twice=(b"the second",), tail=b"X-Added: by a milter\n", body=b"Another\nbody.\n"),
}


@pytest.mark.parametrize("do", CHANGES)
def test_each_change_to_the_octet(toy_server, do):
	toy_server.take()
	assert send(toy_server, CONTENT % do).pair == GOOD
	(m,) = toy_server.take()
	assert m.body == CHANGES[do]
	assert m.trace.startswith(b"Return-Path: <a@x.test>\nDelivered-To: bob@local.test\n")


@pytest.mark.parametrize("do, sender, rcpts", [
	(b"addrcpt", b"a@x.test", [b"bob@local.test", b"carol@other.test"]), (b"delrcpt, addrcpt", b"a@x.test", [b"carol@other.test"]),
	(b"from", b"new@y.test", [b"bob@local.test"]), (b"nobody", b"", [b"bob@local.test"]),
	(b"from, addrcpt", b"new@y.test", [b"bob@local.test", b"carol@other.test"]),
])
def test_each_change_of_the_envelope(toy_server, do, sender, rcpts):
	toy_server.take()
	assert send(toy_server, CONTENT % do).pair == GOOD
	messages = toy_server.take()
	assert sorted(m.folder[len(toy_server.mail) + 1:].encode() for m in messages) == sorted(b"/".join(r.split(b"@")[::-1]) for r in rcpts)
	for m in messages:
		assert m.body == stored(do, FROM)
		assert b"Return-Path: <%s>\n" % sender in m.trace
	line = toy_server.wait_log("message", id=messages[0].id)
	assert (line["from"], line["to"]) == (sender.decode(), b",".join(rcpts).decode())


def test_a_milter_that_takes_all_recipients_away(toy_server):
	toy_server.take()
	assert send(toy_server, CONTENT % b"delrcpt").pair == REFUSED
	assert toy_server.take() == []


def test_a_recipient_that_cannot_be_delivered_with_the_others(toy_server):		# case 11.54
	toy_server.take()
	assert send(toy_server, CONTENT % b"addfar").lines == [b"451 4.3.5 Filters are not configured properly"]
	assert toy_server.take() == []


def test_the_envelope_stays_where_the_configuration_does_not_let_it(start, toy):
	server = start(milter("toy", toy.port))
	assert send(server, CONTENT % b"addrcpt, delrcpt, from, add").pair == GOOD
	(m,) = server.take()
	assert m.trace.startswith(b"Return-Path: <a@x.test>\nDelivered-To: bob@local.test\n")
	assert m.body == stored(b"addrcpt, delrcpt, from, add", FROM, tail=b"X-Added: by a milter\n")


VERDICTS = {"reject": REFUSED, "tempfail": LATER, "discard": REFUSED, "accept": GOOD, "reply": (554, "5.7.9")}


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("stage", ["data", "header", "eoh", "body", "eom"])
def test_a_verdict_on_the_message(toy_server, stage, verdict):
	word = ("%s-%s" % (stage, verdict)).encode()
	toy_server.take()
	client = toy_server.connect(hello=b"EHLO t.test\r\n")
	do = b"add, " + word if stage != "data" else b"add"
	client.start_data(word + b"@x.test" if stage == "data" else b"a@x.test")
	client.send(CONTENT % do + b".\r\n")
	reply = client.reply()
	assert reply.pair == VERDICTS[verdict]
	if verdict == "reply":
		assert reply.text[-1] == b"5.7.9 one of two at " + stage.encode()
	messages = toy_server.take()
	assert len(messages) == (verdict == "accept")
	for m in messages:	# whoever accepts early makes no changes
		assert m.body == stored(do, FROM, tail=b"X-Added: by a milter\n" if stage == "eom" else b"")
	# and the connection goes on
	assert client.message(CONTENT % b"add") == GOOD


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("stage", ["connect", "helo", "mail", "rcpt"])
def test_a_verdict_on_a_recipient(toy_server, stage, verdict):
	word = ("%s-%s" % (stage, verdict)).encode()
	toy_server.take()
	client = toy_server.connect(word.decode() if stage == "connect" else "mx", hello=b"EHLO %s\r\n" % (word if stage == "helo" else b"t.test"))
	assert client.cmd(b"MAIL FROM:<%s@x.test>\r\n" % (word if stage == "mail" else b"a")) == (250, "2.1.0")
	told = len(toy_server.log("filter_refused", at="rcpt", code=VERDICTS[verdict][0]))
	reply = client.ask(b"RCPT TO:<%s@local.test>\r\n" % (word if stage == "rcpt" else b"bob"))
	if verdict == "accept":
		assert reply.pair == (250, "2.1.5")
		assert client.cmd(b"DATA\r\n") == (354, "")
		assert client.cmd(CONTENT % b"add" + b".\r\n") == GOOD
		(m,) = toy_server.take()	# whoever accepts early makes no changes
		assert m.body == stored(b"add", FROM)
	else:
		assert reply.pair == VERDICTS[verdict]
		toy_server.wait_log("filter_refused", told + 1, at="rcpt", code=VERDICTS[verdict][0])
		if verdict == "reply":
			assert reply.text[-1] == b"5.7.9 one of two at " + stage.encode()
		# of a recipient, the next one may be better; of anything before, none is
		again = client.cmd(b"RCPT TO:<bob@local.test>\r\n")
		assert again == ((250, "2.1.5") if stage == "rcpt" else VERDICTS[verdict])
		if stage == "rcpt":	# who was refused gets nothing, who was not gets it
			assert client.cmd(b"DATA\r\n") == (354, "")
			assert client.cmd(CONTENT % b"add" + b".\r\n") == GOOD
			(m,) = toy_server.take()
			assert m.trace.startswith(b"Return-Path: <a@x.test>\nDelivered-To: bob@local.test\n")
			assert m.body == stored(b"add", FROM, tail=b"X-Added: by a milter\n")
	assert client.cmd(b"RSET\r\n") == (250, "2.0.0")


def test_discard_is_said_to_be_accepted_where_a_key_says_so(start, toy):
	server = start(milter("toy", toy.port, discard="yes"))
	client = server.connect(hello=b"EHLO t.test\r\n")
	client.start_data()
	assert client.cmd(CONTENT % b"eom-discard" + b".\r\n") == GOOD
	server.promised.pop()		# it is what the key is for
	client.start_data(rcpts=[b"rcpt-discard@local.test", b"bob@local.test"])
	assert client.cmd(CONTENT % b"nothing" + b".\r\n") == GOOD
	server.promised.pop()
	assert client.message(CONTENT % b"add") == GOOD
	(m,) = server.take()
	assert m.body == stored(b"add", FROM, tail=b"X-Added: by a milter\n")


def test_what_is_counted_of_a_milters_word(start, toy):
	server = start({**METRICS, **milter("toy", toy.port, envelope="yes", discard="yes"), "smtpd.delivery": {"command": "/bin/cat %{recipient}"}})
	for do, want in ((b"eom-reject", REFUSED), (b"eom-tempfail", LATER), (b"eom-discard", GOOD),
			(b"addrcpt", (451, "4.3.5"))):		# two recipients, of a command that takes one
		assert send(server, CONTENT % do).pair == want
	server.wait_log("message", 4)
	assert [line["result"] for line in server.log("message")] == ["rejected", "deferred", "discarded", "deferred"]
	refused = 'smtpd_messages_rejected_total{listener="mx",recipient_domain="local.test",reason="%s"}'
	figures = scrape(server)
	assert {n: v for n, v in figures.items() if n.startswith("smtpd_messages_re")} == {refused % "policy": 3, refused % "filter": 1}


def test_a_milter_by_ipv6(place, start):
	try:
		socket.create_server(("::1", 0), family=socket.AF_INET6).close()
	except OSError:
		pytest.skip("there is no ::1")
	d = Toy(place, "::1")
	try:
		server = start(milter("toy", 0, address="inet6:[::1]:%d" % d.port))
		assert send(server, CONTENT % b"add").pair == GOOD
		(m,) = server.take()
		assert m.body == stored(b"add", FROM, tail=b"X-Added: by a milter\n")
	finally:
		d.stop()


def test_quarantine_is_refused_or_flagged(start, toy_server, toy):
	toy_server.take()
	assert send(toy_server, CONTENT % b"quarantine").pair == REFUSED
	assert toy_server.take() == []
	server = start(milter("toy", toy.port, quarantine="flag"))
	assert send(server, b"X-Spam-Flag: NO\r\n" + CONTENT % b"quarantine").pair == GOOD
	(m,) = server.take()
	assert m.body == stored(b"quarantine", b"X-Spam-Flag: YES\n" + FROM)
	assert send(server, b"X-Spam-Flag: NO\r\n" + CONTENT % b"nothing").pair == GOOD
	(m,) = server.take()
	assert m.body == stored(b"nothing", b"X-Spam-Flag: NO\n" + FROM)


def test_a_milter_that_flags_is_not_contradicted(start, toy, fake):
	fake.answers["/checkv2"] = (200, b'{"action":"no action","score":1,"required_score":15}')
	server = start(dict({"spamcheck.checker r": {"url": fake.url}}, **milter("toy", toy.port, quarantine="flag")))
	assert send(server, CONTENT % b"nothing").pair == GOOD
	(m,) = server.take()
	assert m.body == stored(b"nothing", b"X-Spam-Status: No, score=1.00 required=15.00\nX-Spam-Score: 1.00\nX-Spam-Flag: NO\nX-Spam-Checker: r\n" + FROM)
	assert send(server, CONTENT % b"quarantine").pair == GOOD
	(m,) = server.take()
	assert m.body == stored(b"quarantine", b"X-Spam-Flag: YES\nX-Spam-Score: 1.00\nX-Spam-Checker: r\n" + FROM)


def test_each_milter_sees_what_the_one_before_has_done(start, toy):
	server = start(dict(milter("one", toy.port), **milter("two", toy.port)))
	assert send(server, CONTENT % b"add, replace, tell").pair == GOOD
	(m,) = server.take()
	assert m.body.count(b"\nX-Added: by a milter\n") == 2 and m.body.endswith(b"\n\nAnother\nbody.\n")
	assert re.findall(rb"^X-Tell-Fields: (\d+)$", m.body, re.M) == [b"5", b"15"]
	assert re.findall(rb"^X-Tell-Octets: (\d+)$", m.body, re.M) == [b"9", b"16"]


def told(m):
	return dict((name.lower().decode(), value.decode()) for name, value in re.findall(rb"^X-Tell-(\w+): ?(.*)$", m.body, re.M))


def test_what_a_milter_hears_of_the_client(start, toy):
	def prepare(server):
		passwd = os.path.join(server.folder, "passwd")
		with open(passwd, "w", encoding="ascii") as f:
			f.write("bob@local.test:%s\n" % crypt.crypt("secret", "$6$rounds=1000$saltsalt$"))
		os.chmod(passwd, 0o644)
		return {"smtpd.listener sub": {"address": "127.0.0.2:0", "mode": "alt"}, "smtpd.auth": {"passwd_file": passwd},
			"smtpd": {"sender_check": "off"}}
	server = start(milter("toy", toy.port), prepare=prepare)
	for listener, login in (("mx", "None None"), ("sub", "PLAIN bob@local.test")):
		client = server.connect(listener, hello=b"EHLO t.test\r\n")
		port = client.sock.getsockname()[1]
		if listener == "sub":
			assert client.auth(b"PLAIN", b"\0bob@local.test\0secret") == (235, "2.7.0")
		for number, sender in enumerate((b"a@x.test", b"b@x.test"), 1):	# on the same connection, and of the same session
			assert client.message(CONTENT % b"tell", sender) == GOOD
			(m,) = server.take()
			assert told(m) == {"client": "localhost ('127.0.0.1', %d) t.test" % port, "login": login,
				"ends": "%d %d %s" % (port, port, client.sock.getpeername()[0]), "sender": "<%s>" % sender.decode(), "parameters": "()", "rcpts": "['<bob@local.test>']", "fields": "5", "octets": "9",
				"mails": str(number)}


def test_a_transaction_is_told_once(start, toy):
	server = start(dict(milter("one", toy.port), **milter("two", toy.port)))
	client = server.connect(hello=b"EHLO t.test\r\n")
	assert client.message(CONTENT % b"tell", rcpts=[b"bob@local.test", b"carol@other.test"]) == GOOD
	assert [re.findall(rb"^X-Tell-(?:Mails|Rcpts): (.*)$", m.body, re.M) for m in server.take()] == \
		2 * [2 * [b"['<bob@local.test>', '<carol@other.test>']", b"1"]]


# ---- rspamd as a milter ----

SPAMD_RESULT = rb"\nX-Spamd-Result: default: False [^\n]*(\n[ \t][^\n]*)*"


@pytest.fixture(scope="module")
def proxy_server(place, rspamd):
	yield from running(place, milter("rspamd", rspamd.proxy))


def test_rspamd_proxy_passes_ham(proxy_server):
	proxy_server.take()
	content = b"From: a@x.test\r\nSubject: hello\r\n\r\nA friendly word.\r\n"
	assert send(proxy_server, content).pair == GOOD
	(m,) = proxy_server.take()
	assert re.sub(SPAMD_RESULT, b"", m.body, count=1) == content.replace(b"\r\n", b"\n") != m.body


def test_rspamd_proxy_refuses_gtube(proxy_server):
	proxy_server.take()
	reply = send(proxy_server, b"Subject: x\r\n\r\n" + GTUBE + b"\r\n")
	assert reply.pair == (554, "5.7.1") and b"Gtube" in reply.text[-1]
	assert proxy_server.take() == []


def test_rspamd_proxy_asks_for_later(proxy_server):
	reply = send(proxy_server, b"X-Force: soft reject\r\n" + HAM)
	assert reply.pair == LATER
	assert send(proxy_server, b"X-Force: greylist\r\n" + HAM).pair == GOOD


def test_rspamd_proxy_changes_the_header(proxy_server):
	proxy_server.take()
	assert send(proxy_server, b"From: a@x.test\r\nX-Edit: 1\r\nSubject: hello\r\n\r\nbody\r\n").pair == GOOD
	assert send(proxy_server, b"X-Force: rewrite subject\r\nFrom: a@x.test\r\nSubject: hello\r\n\r\nbody\r\n").pair == GOOD
	edited, rewritten = proxy_server.take()
	assert re.sub(SPAMD_RESULT, b"", edited.body) == b"From: a@x.test\nSubject: hello\nX-Added: by rspamd\n\nbody\n"
	assert b"\nSubject: ***SPAM*** hello\n" in rewritten.body and b"\nSubject: hello\n" not in rewritten.body
	assert rewritten.body.endswith(b"\n\nbody\n")


# ---- all together ----

def test_checkers_milters_and_hooks_in_their_order(start, rspamd, toy, signing):
	def prepare(server):
		server.hooked = os.path.join(server.folder, "seen")
		hook = harness.script(os.path.join(server.folder, "hook"), "cat >%s; echo 'X-Hook: one'\n" % server.hooked)
		return {"smtpd.hook last": {"event": "message", "command": hook}}
	server = start({**checker(rspamd.port), **milter("first", toy.port), **milter("second", signing.port)}, prepare=prepare)
	content = b"From: bob@local.test\r\nX-Edit: 1\r\nX-Do: change, replace, tell\r\nSubject: one\r\nX-Spam-Flag: NO, forged\r\n\r\nA body.\r\n"
	assert send(server, content, b"bob@local.test").pair == GOOD
	(m,) = server.take()
	with open(server.hooked, "rb") as f:
		seen = f.read()
	assert m.body == b"X-Hook: one\n" + seen			# the hook is last
	signed = re.match(rb"DKIM-Signature: [^\n]*\n([ \t][^\n]*\n)*", seen)	# opendkim has seen what the other milter has done
	message = seen[signed.end():]
	assert re.sub(rb"score=[^ ]*|(?<=Score: ).*", b"", message.split(b"\nFrom: ")[0]) == (b"X-Spam-Status: No,  required=15.00\nX-Spam-Score: \n"
		b"X-Spam-Flag: NO\nX-Spam-Checker: rspamd")
	assert b"forged" not in message and b"X-Edit" not in message and b"\nX-Added: by rspamd\n" in message
	assert b"\nSubject: changed\n" in message and message.endswith(b"\n\nAnother\nbody.\n")
	# the milters came after the checker
	assert int(told(m)["fields"]) == len(re.findall(rb"^(?!X-Tell-)[A-Za-z-]+:", message.split(b"\n\n")[0], re.M)) - 1	# X-Twice is new
	dkim = pytest.importorskip("dkim", reason="python3-dkim is not installed")
	record = signing.key.record.encode()
	assert dkim.verify(m.raw.replace(b"\n", b"\r\n"), dnsfunc=lambda name, timeout=5: record)


# ---- those in trouble ----

TROUBLE = {
	"refuse": ("options", "it cannot be connected to"), "hang": ("options", "timeout"), "drip": ("options", "timeout"),
	"early": ("options", "the connection was lost"), "late": ("connect", "the connection was lost"),
	"garbage": ("options", "a packet of a length that there is not"), "endless": ("connect", "timeout"),
	"version": ("connect", "its version of the protocol is too old"), "unasked": ("connect", "a reply that is not due"),
	"changing": ("eom", "the connection was lost"),
}


TEXTS = {LATER: b"451 4.7.1 Temporary message check failure, try again later", REFUSED: b"550 5.7.1 Message refused"}


@pytest.mark.parametrize("action,want", [("tempfail", LATER), ("accept", GOOD), ("reject", REFUSED)])
@pytest.mark.parametrize("mode", TROUBLE)
def test_a_milter_in_trouble(start, mode, action, want):
	peer = MilterPeer(mode)
	try:
		server = start(dict(METRICS, **milter("bad", peer.port, default_action=action, connect_timeout="500ms", command_timeout="500ms",
			content_timeout="500ms")))
		client = server.connect(hello=b"EHLO t.test\r\n")
		assert client.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
		began = time.monotonic()
		if mode == "changing" or want == GOOD:
			assert client.cmd(b"RCPT TO:<bob@local.test>\r\n") == (250, "2.1.5")
			assert client.cmd(b"DATA\r\n") == (354, "")
			# one that has changed the message in part leaves nothing that could be delivered (case 11.55)
			reply = client.ask(HAM + b".\r\n")
			assert reply.pair == (LATER if mode == "changing" else want)
		else:
			reply = client.ask(b"RCPT TO:<bob@local.test>\r\n")
			assert reply.pair == want
		assert reply.pair == GOOD or reply.lines[0] == TEXTS[reply.pair]
		assert time.monotonic() - began < 8
		line = server.wait_log("milter", name="bad")
		assert (line["stage"], line["error"]) == TROUBLE[mode]
		refused = 'smtpd_messages_rejected_total{listener="mx",recipient_domain="local.test",reason="filter"}'
		assert scrape(server).get(refused, 0) == (action != "accept" or mode == "changing")
		for m in server.take():
			assert m.body == HAM.replace(b"\r\n", b"\n")
	finally:
		peer.close()
