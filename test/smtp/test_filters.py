"""rspamd, spamd, milters and hooks, the real things (SECURITY-CASES 9.12, 11)."""

import crypt
import os
import re
import time
import urllib.request

import pytest

import harness
import pki
from components import GTUBE, HAM, FakeRspamd, NeverCloses, Peer, Spamd, checker, send
from peers import free_port


@pytest.fixture(scope="module")
def spamd(place):
	d = Spamd(place)
	yield d
	d.stop()


def metrics():
	return {"smtpd.metrics": {"enabled": "yes", "address": "127.0.0.1:%d" % free_port()}}


def scrape(server):
	return urllib.request.urlopen("http://%s/metrics" % server.sections["smtpd.metrics"]["address"], timeout=5).read().decode()


# ---- rspamd ----

@pytest.fixture(scope="module")
def spam_server(place, rspamd):
	server = harness.Server(place, checker(rspamd.port))
	server.start()
	server.ready()
	yield server
	server.stop()
	server.check_ledger()


def test_ham_passes_with_its_score(spam_server):
	spam_server.take()
	assert send(spam_server, HAM).pair == (250, "2.0.0")
	(m,) = spam_server.take()
	assert re.search(rb"^X-Spam-Status: No, score=-?\d", m.raw, re.M) and b"X-Spam-Checker: rspamd" in m.raw
	assert b"forged" not in m.raw						# case 9.12
	assert m.raw.endswith(b"\n\nA friendly word.\n") and b"\nSubject: hello\n" in m.raw
	line = spam_server.wait_log("message", id=m.id)
	assert line["spam_score"] != "" and "rspamd" in line["filters"]


@pytest.mark.parametrize("action,want", [("reject", (550, "5.7.1")), ("soft reject", (451, "4.7.1")), ("greylist", (250, "2.0.0")),
	("add header", (250, "2.0.0")), ("rewrite subject", (250, "2.0.0")), ("no action", (250, "2.0.0"))])
def test_each_action(spam_server, action, want):			# case 11.20
	spam_server.take()
	reply = send(spam_server, b"X-Force: " + action.encode() + b"\r\n" + HAM)
	assert reply.pair == want
	if want[0] != 250:
		assert reply.text[-1].endswith(b"forced " + action.encode())
		assert spam_server.take() == []
		return
	(m,) = spam_server.take()
	assert (b"X-Spam-Flag: YES" in m.raw) == (action in ("add header", "rewrite subject"))
	assert (b"Subject: ***SPAM*** hello" in m.raw) == (action == "rewrite subject")


def test_a_subject_that_cannot_be_folded_is_marked(spam_server):
	spam_server.take()
	for subject in (b"x" * 1000, b"x" + b" " * 990 + b"x", b"x" * 997 + b"\r\n\t" + b"x" * 990 + b"\r\n\t" + b"y" * 20000):
		assert send(spam_server, b"X-Force: rewrite subject\r\nSubject: " + subject + b"\r\n\r\nx\r\n").pair == (250, "2.0.0")
		(m,) = spam_server.take()
		assert re.findall(rb"^Subject: [^ ]*", m.raw, re.M) == [b"Subject: ***SPAM***"]


def test_gtube_is_refused(spam_server):
	reply = send(spam_server, b"Subject: x\r\n\r\n" + GTUBE + b"\r\n")
	assert reply.pair == (550, "5.7.1") and b"Gtube" in reply.text[-1]


def test_a_url_does_not_make_the_answer_unreadable(spam_server, rspamd):
	"""rspamd decodes it, and repeats the host with its NUL."""
	hostile = b"X-Force: reject\r\nSubject: x\r\n\r\nhttp://exa%00mple.test/\r\n"
	assert send(spam_server, hostile).pair == (550, "5.7.1")
	# hosts of so many control octets, each of which is six in the answer: more than four million
	hosts = (b"".join(b"%%%02X" % (1 + (i >> bits & 15)) for bits in (0, 4, 8, 12)) + 76 * b"%01" for i in range(10000))
	many = b"X-Force: reject\r\nSubject: x\r\n\r\n" + b"".join(b"http://%sb.test/\r\n" % h for h in hosts)
	request = urllib.request.Request("http://127.0.0.1:%d/checkv2" % rspamd.port, data=many)
	with urllib.request.urlopen(request, timeout=harness.PATIENCE) as answer:
		assert len(answer.read()) > 4 * 1024 * 1024
	assert send(spam_server, many).pair == (550, "5.7.1")


def test_a_threshold_refuses(start, rspamd):
	server = start(dict(checker(rspamd.port), spamcheck={"reject_threshold": "7", "tempfail_threshold": "5"}))
	assert send(server, b"X-Toy: 1\r\n" + HAM).pair == (550, "5.7.1")
	assert send(server, HAM).pair == (250, "2.0.0")


def test_checks_are_counted(start, rspamd):
	server = start(dict(checker(rspamd.port), **metrics()))
	assert send(server, HAM).pair == (250, "2.0.0")
	assert send(server, b"Subject: x\r\n\r\n" + GTUBE + b"\r\n").pair == (550, "5.7.1")
	text = scrape(server)
	assert 'smtpd_spam_checks_total{checker="rspamd",result="accept"} 1' in text
	assert 'smtpd_spam_checks_total{checker="rspamd",result="reject"} 1' in text
	assert re.search(r'smtpd_messages_rejected_total{listener="mx",recipient_domain="local.test",reason="spam"} 1', text)


@pytest.mark.parametrize("words, want", [("R_SPF_ALLOW R_DKIM_REJECT DMARC_POLICY_REJECT RBL_X",
	{"spf": "pass", "dkim": "fail", "dmarc": "fail", "rbl": "listed"}), ("R_SPF_NA DMARC_NA ARC_NA", {"spf": "none", "dmarc": "none", "arc": "none"}),
	("", {})])
def test_what_it_says_of_sender_and_lists_is_counted(start, rspamd, words, want):
	server = start(dict(checker(rspamd.port), **metrics()))
	assert send(server, b"X-Say: " + words.encode() + b"\r\n" + HAM).pair == (250, "2.0.0")
	counted = dict(re.findall(r'^smtpd_message_auth_total\{method="(\w+)",result="(\w+)"\} 1$', scrape(server), re.M))
	assert counted == want


# ---- DKIM: rspamd signs what users send ----

MULTIPART = b"""\
From: Bob <bob@local.test>
To: Alice <alice@local.test>
Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?= that go on
 in a second line
Date: Mon, 1 Jan 2024 00:00:00 +0000
Message-ID: <1@local.test>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=edge
X-Spam-Flag: NO, forged

--edge
Content-Type: text/plain; charset=utf-8

..dots, trailing blanks \t and \xc3\xbcmlauts

--edge--


""".replace(b"\n", b"\r\n")


def verified(key, message):
	"""By dkimpy: whether the octets are those that were signed."""
	dkim = pytest.importorskip("dkim", reason="python3-dkim is not installed")
	return dkim.verify(message, dnsfunc=lambda name, timeout=5: key.record.encode() if name in (key.name + ".", (key.name + ".").encode()) else None)


def test_dkim_of_a_user_verifies_as_delivered(start, rspamd, key):
	def prepare(server):
		path = os.path.join(server.folder, "passwd")
		with open(path, "w", encoding="ascii") as f:
			f.write("bob@local.test:%s\n" % crypt.crypt("secret", "$6$rounds=1000$saltsalt$"))
		return {"smtpd.listener alt": {"address": "127.0.0.2:0", "mode": "alt"}, "smtpd.auth": {"passwd_file": path}}
	server = start(checker(rspamd.port), prepare=prepare)
	client = server.connect("alt", hello=b"EHLO t.test\r\n")
	assert client.auth(b"PLAIN", b"\0bob@local.test\0secret") == (235, "2.7.0")
	for content in (MULTIPART, b"From: bob@local.test\r\n\r\n", b"From: bob@local.test\r\nSubject: x\r\n\r\none\r\n"):
		assert client.message(content.replace(b"\r\n.", b"\r\n.."), b"bob@local.test", (b"alice@local.test",)) == (250, "2.0.0")
		(m,) = server.take()
		message = m.raw.replace(b"\n", b"\r\n")
		assert re.search(rb"\nDKIM-Signature: v=1; a=rsa-sha256; [^\n]*\n?[^\n]*d=local.test", m.raw), m.raw
		assert verified(key, message)
		assert not verified(key, message.replace(b"From: ", b"From: X ")) and not verified(key, message + b"x\r\n")
	# nobody has logged in: nothing is signed
	assert send(server, MULTIPART, b"bob@local.test").pair == (250, "2.0.0")
	assert b"\nDKIM-Signature:" not in server.take()[0].raw


# ---- SpamAssassin ----

def test_spamassassin(start, spamd):
	server = start(dict(checker(spamd.port, "spamassassin"), spamcheck={"reject_threshold": "100"}))
	assert send(server, HAM).pair == (250, "2.0.0")
	assert send(server, b"X-Toy: 1\r\n" + HAM).pair == (250, "2.0.0")
	assert send(server, b"Subject: x\r\n\r\n" + GTUBE + b"\r\n").pair == (550, "5.7.1")
	ham, toy = server.take()
	assert b"X-Spam-Flag: NO" in ham.raw and b"X-Spam-Score: 7.00" in toy.raw and b"X-Spam-Flag: YES" in toy.raw


def test_spamassassin_refuses_nothing_by_itself(start, spamd):
	server = start(checker(spamd.port, "spamassassin"))
	assert send(server, b"Subject: x\r\n\r\n" + GTUBE + b"\r\n").pair == (250, "2.0.0")
	assert b"\nX-Spam-Flag: YES\n" in server.take()[0].raw


@pytest.mark.parametrize("hello, sender, score", [(b"toy.test", b"a@x.test", b"6.50"), (b"t.test", b"toy@x.test", b"6.30"),
	(b"t.test", b"a@x.test", b"0.00")])
def test_spamassassin_knows_the_client_and_the_sender(start, spamd, hello, sender, score):
	server = start(checker(spamd.port, "spamassassin"))
	forged = b"Received: from toy.test ([127.0.0.1])\r\n\tby mx.local.test with ESMTP id 1;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\n"
	assert send(server, forged + HAM, sender, hello=hello).pair == (250, "2.0.0")
	(m,) = server.take()
	assert b"\nX-Spam-Score: %s\n" % score in m.raw


@pytest.mark.parametrize("content", [b" with ESMTPSA id x\r\nSubject: s\r\n\r\nx\r\n", b"\twith ESMTPSA id x;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\n"])
def test_spamassassin_takes_no_body_for_our_field(start, spamd, content):		# case 9.11
	server = start(checker(spamd.port, "spamassassin"))
	assert send(server, content).pair == (250, "2.0.0")
	(m,) = server.take()
	assert b"\nX-Spam-Score: 0.00\n" in m.raw and m.body.endswith(b"\n\n" + content.replace(b"\r\n", b"\n"))


# ---- several, and what fails ----

LATER = b"451 4.7.1 Temporary spam check failure, try again later"
GONE = "(Recv failure: |connection lost: )?Connection reset by peer|Empty reply from server|no reply"
# what the log says of each: rspamd, spamassassin
MODES = {
	"refuse": ("Failed to connect to .*", "cannot connect: Connection refused"), "hang": (".*timed out.*", "timeout: reply"),
	"early": (GONE, GONE), "late": ("end of response with 90 bytes missing", "the reply ends in its header"),
	"garbage": ("Received HTTP/0.9 when not allowed", "no reply of spamd's: .*"), "500": ("HTTP status 500", "SPAMD/1.0 74 EX_IOERR"),
	"error": ("error: no", "Content-length is wrong"), "nonsense": ("unknown action: maybe", "cannot be understood: Spam: Maybe .*"),
	"endless": ("the answer is too long", "the reply is too long"), "drip": (".*timed out.*", "timeout: reply"),
	"version": ("Unsupported HTTP version.*", "no reply of spamd's: SPAMD/9.9 0 EX_OK"),
}


@pytest.mark.parametrize("kind", ["rspamd", "spamassassin"])
@pytest.mark.parametrize("mode", MODES)
def test_a_checker_in_trouble_costs_its_message_a_clear_reply(start, kind, mode):
	peer = Peer(mode, kind)
	try:
		server = start(dict(checker(peer.port, kind, timeout="700ms"), **metrics()))
		began = time.monotonic()
		assert send(server, HAM).lines == [LATER]
		assert time.monotonic() - began < 5
		assert server.take() == []
		detail = MODES[mode][kind == "spamassassin"]
		assert re.fullmatch("%s: (%s)" % (kind, detail), server.wait_log("message")["filters"])
		result = "timeout" if mode in ("hang", "drip") else "error"
		figures = scrape(server)
		assert re.findall(r'^smtpd_spam_checks_total\{checker="%s",result="(\w+)"\} (\d+)$' % kind, figures, re.M) == [(result, "1")]
		assert re.findall(r'^smtpd_messages_rejected_total\{.*reason="(\w+)"\} (\d+)$', figures, re.M) == [("filter", "1")]
	finally:
		peer.close()


@pytest.mark.parametrize("mode,want", [("open", b"250 2.0.0 Ok: "), ("reject", b"550 5.7.1 Spam check failed"), ("tempfail", LATER)])
def test_fail_modes(start, mode, want):
	peer = Peer("refuse")
	server = start(dict(checker(peer.port), spamcheck={"fail_mode": mode}))
	(line,) = send(server, HAM).lines
	assert line.startswith(want) if mode == "open" else line == want
	for m in server.take():
		assert b"X-Spam" not in m.raw and m.body == HAM.replace(b"X-Spam-Flag: NO, forged\r\n", b"").replace(b"\r\n", b"\n")


def test_a_field_that_cannot_be_folded_is_left_out(start):		# case 9.13
	peer = FakeRspamd({"action": "no action", "score": 1, "required_score": 15, "milter": {"add_headers": {"X-A": "x" * 999, "X-B": "x" * 993}}})
	try:
		server = start(checker(peer.port))
		assert send(server, HAM).pair == (250, "2.0.0")
		(m,) = server.take()
		assert b"X-A:" not in m.raw and b"\nX-B: " + b"x" * 993 + b"\n" in m.raw
		assert server.wait_log("edits_left_out", id=m.id)["count"] == "1"
	finally:
		peer.close()


def test_a_peer_that_never_closes(place, start):
	"""libcurl waits two seconds for the end of TLS, in a socket each: they must not hold all places for sockets, which are 68 here."""
	ca = pki.make(place)
	peer = NeverCloses(*ca.issue("rspamd", ["localhost"]))
	try:
		server = start({"spamcheck.checker r": {"url": peer.url, "ca_file": ca.ca, "max_checks": "1"}, "spamcheck": {"fail_mode": "reject"}})
		smtp = server.connect(hello=b"EHLO t.test\r\n")
		assert [smtp.message(HAM) for _ in range(100)] == 100 * [(250, "2.0.0")]
	finally:
		peer.close()


def test_the_size_of_a_message_that_was_changed_and_refused(start):
	peer = FakeRspamd({"action": "no action", "score": 1, "required_score": 15, "milter": {"remove_headers": {"X-Toy": 0}}})
	try:
		server = start(dict(checker(peer.port), spamcheck={"add_headers": "no"}), prepare=lambda s: {"smtpd.hook last": {"event": "message",
			"command": harness.script(os.path.join(s.folder, "hook"), "exit 77\n")}})
		assert send(server, b"X-Toy: 1\r\nSubject: s\r\n\r\nx\r\n").pair == (550, "5.7.1")
		assert server.wait_log("message")["size"] == str(len(b"Subject: s\n\nx\n"))
	finally:
		peer.close()


@pytest.mark.parametrize("oversize, want", [("accept", (250, "2.0.0")), ("tempfail", (451, "4.7.1"))])
@pytest.mark.parametrize("kind", ["rspamd", "spamassassin"])
def test_what_is_too_large_to_be_checked(start, kind, oversize, want):	# case 11.27
	peer = Peer("refuse")	# nobody asks it
	server = start(dict(checker(peer.port, kind, max_size="100", oversize=oversize), **metrics()))
	assert send(server, HAM + b"x" * 100 + b"\r\n").pair == want
	for m in server.take():
		assert b"X-Spam" not in m.raw and m.raw.endswith(b"\n\nA friendly word.\n" + b"x" * 100 + b"\n")
	assert 'smtpd_spam_checks_total{checker="%s",result="skipped"} 1' % kind in scrape(server)
	assert send(server, b"Subject: x\r\n\r\nx\r\n").pair == (451, "4.7.1")
	assert 'smtpd_spam_checks_total{checker="%s",result="error"} 1' % kind in scrape(server)


def test_one_is_down_and_the_other_decides(start, rspamd):		# case 11.29
	peer = Peer("refuse")
	server = start(dict(checker(rspamd.port), **checker(peer.port, "spamassassin")))
	assert send(server, HAM).pair == (250, "2.0.0")
	assert send(server, b"Subject: x\r\n\r\n" + GTUBE + b"\r\n").pair == (550, "5.7.1")


def test_checks_that_hang_hold_up_nobody_else(start):			# case 11.10
	peer = Peer("hang")
	try:
		server = start(dict(checker(peer.port, timeout="3s", max_checks="30"), **{"smtpd.listener alt": {"address": "127.0.0.2:0", "mode": "alt"}}))
		waiting = []
		for _ in range(40):
			client = server.connect(hello=b"EHLO t.test\r\n")
			client.start_data()
			client.send(HAM + b".\r\n")
			waiting.append(client)
		began = time.monotonic()
		other = server.connect("alt", hello=b"EHLO t.test\r\n")
		assert other.cmd(b"MAIL FROM:<a@x.test>\r\n")[0] == 250
		assert time.monotonic() - began < 1
		assert [c.reply().pair for c in waiting] == [(451, "4.7.1")] * 40
	finally:
		peer.close()


# ---- hooks ----

HOOK = """\
case $EVENT in
connect) [ "$CLIENT_ADDRESS" != 127.0.0.1 ] || [ ! -e "$0.deny-connect" ] || { echo "5.7.1 not you"; exit 77; } ;;
mail) [ "$SENDER" != bad@x.test ] || exit 77 ;;
rcpt) [ "$RECIPIENT" != alice@local.test ] || { echo "4.2.2 later"; exit 75; } ;;
message) cat >"$0.message"; echo "X-Hook: seen $MESSAGE_ID"; echo "nonsense"; printf 'X-Long: %01000d\\n' 0 ;;
esac
"""


def test_hooks(start):
	def prepare(server):
		path = harness.script(os.path.join(server.folder, "hook"), HOOK)
		server.hook = path
		return dict(("smtpd.hook " + e, {"event": e, "command": path}) for e in ("connect", "mail", "rcpt", "message"))
	server = start({}, prepare=prepare)
	client = server.connect(hello=b"EHLO t.test\r\n")
	assert client.cmd(b"MAIL FROM:<bad@x.test>\r\n") == (550, "5.7.1")
	assert client.cmd(b"MAIL FROM:<good@x.test>\r\n") == (250, "2.1.0")
	assert client.cmd(b"RCPT TO:<alice@local.test>\r\n") == (451, "4.2.2")
	assert client.cmd(b"RCPT TO:<bob@local.test>\r\n") == (250, "2.1.5")
	assert client.cmd(b"DATA\r\n") == (354, "")
	assert client.cmd(HAM + b".\r\n") == (250, "2.0.0")
	(m,) = server.take()
	assert b"\nX-Hook: seen " + m.id.encode() + b"\n" in m.raw and b"nonsense" not in m.raw
	# a line that cannot be folded
	assert b"X-Long" not in m.raw and server.wait_log("edits_left_out", id=m.id)["count"] == "1"
	with open(server.hook + ".message", "rb") as f:
		assert f.read() == HAM.replace(b"\r\n", b"\n")
	open(server.hook + ".deny-connect", "w").close()
	refused = server.connect(greet=False)
	assert refused.reply().pair == (554, "5.7.1")
	refused.expect_close()


@pytest.mark.parametrize("command, want", [("exit 0", None), ("exit 65", (550, "5.6.0")), ("exit 67", (550, "5.1.1")), ("exit 68", (550, "5.1.2")),
	("exit 77", (550, "5.7.1")), ("exit 100", (554, "5.3.0")), ("exit 1", (451, "4.3.0")), ("exit 111", (451, "4.3.0")),
	("exit 78", (451, "4.3.5")), ("kill -9 $$", (451, "4.3.0")), ("echo 5.2.3 no; exit 100", (550, "5.2.3"))])
def test_a_hook_keeps_the_delivery_contract(start, command, want):
	def prepare(server):
		return dict(("smtpd.hook " + e, {"event": e, "command": harness.script(os.path.join(server.folder, "hook-" + e),
			"[ ! -e \"$0.on\" ] || { %s; }\n" % command)}) for e in ("mail", "rcpt", "message"))
	server = start({}, prepare=prepare)
	client = server.connect(hello=b"EHLO t.test\r\n")
	steps = {"mail": (b"MAIL FROM:<a@x.test>\r\n", (250, "2.1.0")), "rcpt": (b"RCPT TO:<bob@local.test>\r\n", (250, "2.1.5")),
		"message": (HAM + b".\r\n", (250, "2.0.0"))}
	for event, (line, good) in steps.items():
		if event == "message":
			assert client.cmd(b"DATA\r\n") == (354, "")
		switch = os.path.join(server.folder, "hook-" + event + ".on")
		open(switch, "w").close()
		assert client.cmd(line) == (want or good), event
		os.remove(switch)
		if event != "message" and want is not None:
			assert client.cmd(line) == good


@pytest.mark.parametrize("kind", ["rspamd", "spamassassin"])
def test_a_checker_at_a_unix_socket(request, start, kind):
	daemon = request.getfixturevalue({"rspamd": "rspamd", "spamassassin": "spamd"}[kind])
	server = start(dict(checker(0, kind, url="unix:" + daemon.socket), spamcheck={"reject_threshold": "100"}))
	assert send(server, HAM).pair == (250, "2.0.0")
	assert send(server, b"X-Toy: 1\r\n" + HAM).pair == (250, "2.0.0")
	assert send(server, b"Subject: x\r\n\r\n" + GTUBE + b"\r\n").pair == (550, "5.7.1")
	ham, toy = server.take()
	assert b"X-Spam-Flag: NO" in ham.raw and b"X-Spam-Flag: YES" in toy.raw and b"X-Spam-Checker: %s\n" % kind.encode() in toy.raw


def test_more_messages_than_checks_at_once(start, rspamd):
	server = start(checker(rspamd.port, max_checks="1", timeout="20s"))
	clients = [server.connect(hello=b"EHLO t.test\r\n") for _ in range(10)]
	for client in clients:
		client.start_data(b"a@x.test")
		client.send(HAM + b".\r\n")
	assert [client.reply().code for client in clients] == [250] * 10
	assert len(server.take()) == 10
