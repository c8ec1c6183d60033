"""Who may send: AUTH, senders, trusted networks, tokens (SECURITY-CASES 7, 8, 9)."""

import base64
import crypt
import json
import os
import re
import signal
import time

import pytest

import harness
import pki
from tokens import Issuer

FROM = b"From: alice@local.test\r\n"
CONTENT = FROM + b"Subject: s\r\n\r\nbody\r\n"
STORED = CONTENT.replace(b"\r\n", b"\n")
GOOD = b"\0alice@local.test\0secret"
BAD = (535, "5.7.8")


def hashed(password):
	return crypt.crypt(password, "$6$rounds=1000$saltsalt$")


def write(path, text):
	with open(path + ".new", "w") as f:
		f.write(text)
	os.chmod(path + ".new", 0o644)
	os.rename(path + ".new", path)
	return path


def passwd(folder):
	return write(os.path.join(folder, "passwd"), "# users\nalice@local.test:%s\nbob:%s\ndisabled@local.test:!\n" %
		(hashed("secret"), hashed("b\u00f6b's")))


def bearer(token, user="", kind=b"OAUTHBEARER"):
	if kind == b"XOAUTH2":
		return b"user=%s\1auth=Bearer %s\1\1" % (user.encode(), token.encode())
	return b"n,%s,\1host=mx\1port=587\1auth=Bearer %s\1\1" % (("a=" + user).encode() if user else b"", token.encode())


RELAY = """\
{
	echo "$SENDER|$RECIPIENTS|$AUTH_USER|$TLS_VERSION|$TLS_CIPHER|$CLIENT_ADDRESS"
	cat
} >"%s/relayed.$MESSAGE_ID" && mv "%s/relayed.$MESSAGE_ID" "%s/$MESSAGE_ID.relayed"
"""


def sections(server):
	relayed = os.path.join(server.folder, "relayed")
	os.mkdir(relayed)
	if harness.ROOT:
		os.chown(relayed, harness.NOBODY, harness.NOBODY)
	server.relayed = relayed
	server.passwd = passwd(server.folder)
	return {
		"smtpd.listener sub": {"address": "127.0.0.2:0", "mode": "submission"},
		"smtpd.listener lan": {"address": "127.0.0.3:0", "mode": "submission", "trusted_networks": "127.0.0.0/8, ::1"},
		"smtpd.listener tls": {"address": "127.0.0.4:0", "mode": "smtps"},
		"smtpd.listener alt": {"address": "127.0.0.5:0", "mode": "alt"},
		"smtpd.auth": {"passwd_file": server.passwd},
		"smtpd.relay": {"command": harness.script(os.path.join(server.folder, "relay"), RELAY % (relayed, relayed, relayed))},
		"smtpd.limits": {"auth_failures_per_ip": "0"},
	}


@pytest.fixture(scope="module")
def ca(place):
	authority = pki.make(place)
	authority.issue("mx", ["mx.local.test"])
	return authority


@pytest.fixture(scope="module")
def issuer(place):
	folder = place.folder()
	os.chmod(folder, 0o755)
	return Issuer(folder)


@pytest.fixture(scope="module")
def auth_server(place, ca, issuer):
	server = harness.Server(place, ca.sections("mx"))
	server.configure(sections(server))
	server.configure({"smtpd.auth.oauth": {"issuer": issuer.name, "audience": "mail", "jwks_file": issuer.jwks,
		"allowed_domains": "local.test"}})
	server.start()
	server.ready()
	yield server
	server.stop()


@pytest.fixture
def server(auth_server):
	auth_server.take()
	yield auth_server
	auth_server.disconnect_all()
	auth_server.check_census()
	auth_server.check_ledger()
	auth_server.check_sanitizer()


@pytest.fixture
def sub(server):
	return server.connect("sub", hello=b"EHLO t.test\r\n")


@pytest.fixture
def alice(sub):
	assert sub.auth(b"PLAIN", GOOD) == (235, "2.7.0")
	return sub


def kill_agent(server):
	"""Each listener's front has noticed, and has the next one."""
	old = server.agent()
	count = len(server.log("agent_lost"))
	os.kill(old, signal.SIGKILL)
	server.wait_log("agent_lost", count + len(server.addresses))
	harness.until(lambda: server.agent() not in (None, old), "the agent")


def relayed(server, count=1):
	"""What the relay command got, as (envelope, message)."""
	found = [os.path.join(server.relayed, f) for f in os.listdir(server.relayed) if f.endswith(".relayed")]
	assert len(found) == count, found
	result = []
	for path in found:
		with open(path, "rb") as f:
			envelope, message = f.read().split(b"\n", 1)
		server.promised.remove(os.path.basename(path).split(".")[0])
		os.unlink(path)
		result.append((envelope.decode().split("|"), message))
	return result


# ---- passwords ----

def test_a_login_sends(server, ca):
	client = server.connect("sub", hello=b"EHLO t.test\r\n")
	client.starttls(ca.context())
	assert "AUTH PLAIN OAUTHBEARER XOAUTH2" in [t.decode() for t in client.ask(b"EHLO t.test\r\n").text]
	assert client.auth(b"PLAIN", GOOD) == (235, "2.7.0")
	assert client.message(CONTENT, b"alice@local.test")[0] == 250
	(m,) = server.take()
	assert m.body == STORED
	assert b" with ESMTPSA id " in m.trace and b"127.0.0" not in m.trace and b"t.test" not in m.trace
	assert server.wait_log("message", id=m.id)["user"] == "alice@local.test"


def test_tls_from_the_first_octet(server, ca):
	client = server.connect("tls", tls=ca.context(), hello=b"EHLO t.test\r\n")
	assert client.cmd(b"MAIL FROM:<alice@local.test>\r\n") == (530, "5.7.0")
	assert client.auth(b"PLAIN", GOOD) == (235, "2.7.0")
	assert client.message(CONTENT, b"alice@local.test")[0] == 250


def test_without_a_login_nothing_is_sent(sub):
	assert sub.cmd(b"MAIL FROM:<alice@local.test>\r\n") == (530, "5.7.0")
	assert sub.cmd(b"MAIL FROM:<>\r\n") == (530, "5.7.0")


def test_mode_smtp_has_no_auth(server):		# case 7.2
	client = server.connect(hello=b"EHLO t.test\r\n")
	assert client.auth(b"PLAIN", GOOD) == (503, "5.5.1")


@pytest.mark.parametrize("response", [b"\0alice@local.test\0wrong", b"\0nobody@local.test\0secret", b"\0disabled@local.test\0!",
	b"\0disabled@local.test\0", b"\0\0secret", b"\0alice@local.test\0", b"alice@local.test", b"", b"\0\0", b"\0a\0b\0c",
	b"bob@local.test\0alice@local.test\0secret", b"\0alice@local.test\0secret\n", b"\0alice\n@local.test\0secret",
	b"\0al\xffice@local.test\0secret", b"\0alice@local.test\0" + b"x" * 4096, b"\0" + b"a" * 300 + b"\0x"])
def test_every_failure_is_the_same(sub, response):	# cases 7.6, 7.7
	reply = sub.ask(b"AUTH PLAIN %s\r\n" % (base64.b64encode(response) or b"="))
	assert reply.pair == BAD
	assert reply.text == [b"5.7.8 Authentication credentials invalid"]


@pytest.mark.parametrize("response", [GOOD, b"alice@local.test" + GOOD, b"\0ALICE@Local.Test\0secret", b"Alice@local.test\0alice\0secret",
	b"\0bob\0b\xc3\xb6b's", b"\0BOB@LOCAL.TEST\0b\xc3\xb6b's"])
def test_a_user_has_one_form(sub, response):
	assert sub.auth(b"PLAIN", response) == (235, "2.7.0")


def test_three_failures_end_the_connection(server):	# case 7.9
	client = server.connect("sub", hello=b"EHLO t.test\r\n")
	assert client.auth(b"PLAIN", b"\0alice\0x") == BAD
	assert client.auth(b"PLAIN", b"\0alice\0y") == BAD
	assert client.auth(b"PLAIN", b"\0alice\0z") == (421, "4.7.0")
	client.expect_close()


def test_an_address_that_fails_too_often_is_out(start, ca):
	server = start(ca.sections("mx"), prepare=lambda s: dict(sections(s), **{"smtpd.limits": {"auth_failures_per_ip": "3"}}))
	for n in range(3):
		client = server.connect("sub", hello=b"EHLO t.test\r\n")
		assert client.auth(b"PLAIN", b"\0user%d@local.test\0x" % n) == BAD
		client.finish()
	for _ in range(2):
		client = server.connect("sub", hello=b"EHLO t.test\r\n")
		assert client.auth(b"PLAIN", GOOD) == (421, "4.7.0")
		client.expect_close()
		kill_agent(server)		# the count outlives it


def test_a_password_file_is_read_again(start, ca):
	server = start(ca.sections("mx"), prepare=sections)
	client = server.connect("sub", hello=b"EHLO t.test\r\n")
	assert client.auth(b"PLAIN", b"\0carol\0new") == BAD
	write(server.passwd, "carol:%s\n" % hashed("new"))
	harness.until(lambda: server.connect("sub", hello=b"EHLO t.test\r\n").auth(b"PLAIN", b"\0carol\0new") == (235, "2.7.0"), "the file")
	os.unlink(server.passwd)
	harness.until(lambda: server.connect("sub", hello=b"EHLO t.test\r\n").auth(b"PLAIN", b"\0carol\0new") == (454, "4.7.0"), "the file")


CHECK = """\
read -r line <&3 2>/dev/null
tr '\\0' '\\n' <&3 >"$0.got"
case $(sed -n 2p "$0.got") in
good) exit 0 ;;
bad) exit 1 ;;
down) exit 111 ;;
hang) exec sleep 100 ;;
esac
kill -KILL $$
"""


def test_checkpassword(start, ca):
	def prepare(server):
		found = sections(server)
		found["smtpd.auth"] = {"command": harness.script(os.path.join(server.folder, "check"), CHECK.split("\n", 1)[1])}
		found["smtpd.timeouts"] = {"auth": "500ms"}
		return found
	server = start(ca.sections("mx"), prepare=prepare)
	for password, want in (("good", (235, "2.7.0")), ("bad", BAD), ("down", (454, "4.7.0")), ("other", (454, "4.7.0")),
			("hang", (454, "4.7.0")), ("x" * 600, BAD)):
		client = server.connect("sub", hello=b"EHLO t.test\r\n")
		assert client.auth(b"PLAIN", b"\0alice\0" + password.encode()) == want, password
	with open(os.path.join(server.folder, "check.got")) as f:
		assert f.read().split("\n")[:2] == ["alice@local.test", "hang"]


def test_no_secret_is_in_a_log(start, ca, issuer):		# case 7.12
	server = start(dict(ca.sections("mx"), **{"smtpd": {"log_level": "debug", "log_transactions": "yes"}}), prepare=lambda s: dict(sections(s),
		**{"smtpd.auth.oauth": {"issuer": issuer.name, "audience": "mail", "jwks_file": issuer.jwks}}))
	token = issuer.token()
	secrets = [base64.b64encode(GOOD).decode(), "secret", token, base64.b64encode(bearer(token)).decode()]
	for step in (b"AUTH PLAIN %s\r\n" % base64.b64encode(GOOD), b"auth plain\r\n%s\r\n" % base64.b64encode(GOOD),
			b"%s\r\n" % base64.b64encode(GOOD), b"AUTH FOO %s\r\n" % base64.b64encode(GOOD), b"AUTHPLAIN %s\r\n" % base64.b64encode(GOOD),
			b"AUTH OAUTHBEARER %s\r\n" % base64.b64encode(bearer(token)), b"AUTH OAUTHBEARER %s\r\n\r\n" % base64.b64encode(bearer(token + "x"))):
		client = server.connect("sub", hello=b"EHLO t.test\r\n")
		client.send(step)
		client.reply()
		client.unasked = False
		client.finish()
	client = server.connect("mx", hello=b"EHLO t.test\r\n")	# where nobody can log in, some try all the same
	assert client.auth(b"PLAIN", GOOD) == (503, "5.5.1")
	server.wait_log("auth", count=3)
	text = "\n".join(server.lines)
	for secret in secrets:
		assert secret not in text
	assert "AUTH PLAIN ***" in text


@pytest.mark.root
def test_no_secret_stays_in_memory(start, ca):		# case 6.17
	server = start(ca.sections("mx"), prepare=sections)
	server.ready()
	response = b"\0alice@local.test\0Hunter2Sesame"
	line = base64.b64encode(response)
	for steps in ((b"AUTH PLAIN %s\r\n" % line,), (b"AUTH PLAIN\r\n", line + b"\r\n"), (b"AUTH PLAIN %s!\r\n" % line,),
			(b"NOOP\r\nAUTH PLAIN " + line[:-4], line[-4:] + b"\r\n")):
		client = server.connect("sub", hello=b"EHLO t.test\r\n")
		client.starttls(ca.context())
		assert client.cmd(b"EHLO t.test\r\n")[0] == 250
		for step in steps:
			client.send(step)
			client.reply()
	server.wait_log("auth", count=3)
	for pid in [server.agent()] + server.fronts():
		assert not harness.holds(pid, b"Hunter2Sesame"), server.role(pid)
		assert not harness.holds(pid, line[20:-4]), server.role(pid)


def test_a_login_outlives_the_agent(server, alice):
	kill_agent(server)
	assert alice.message(CONTENT, b"alice@local.test")[0] == 250
	server.disconnect_all()
	server.ready()


def test_what_a_lost_agent_was_not_told_is_forgotten(start, ca):
	server = start(ca.sections("mx"), prepare=sections)
	server.ready()
	agent = server.agent()
	clients = [server.connect("sub", hello=b"EHLO t.test\r\n") for _ in range(250)]
	os.kill(agent, signal.SIGSTOP)
	for client in clients:		# more than the agent's socket takes
		client.send(b"AUTH PLAIN %s\r\n" % base64.b64encode(b"\0alice@local.test\0" + b"x" * 9100))
	for client in clients:
		harness.until(lambda: client.unread() == 0)
	os.kill(agent, signal.SIGKILL)
	for client in clients:
		assert client.reply().pair == (454, "4.7.0")
	for client in clients:
		assert client.auth(b"PLAIN", GOOD) == (235, "2.7.0")


# ---- who sends as whom ----

@pytest.mark.parametrize("sender,want", [(b"alice@local.test", 250), (b"ALICE@LOCAL.TEST", 250), (b"bob@local.test", 550),
	(b"alice@other.test", 550), (b"alice+x@local.test", 550), (b"", 250)])
def test_sender_check_exact(alice, sender, want):
	assert alice.cmd(b"MAIL FROM:<" + sender + b">\r\n")[0] == want


HEADERS = [
	(b"From: alice@local.test\r\n", (250, "2.0.0")),
	(b"from : Alice <ALICE@local.test>\r\n", (250, "2.0.0")),
	(b"From:\r\n \"ceo@bank.test\" <alice@local.test>\r\n", (250, "2.0.0")),
	(b"From: alice@local.test\r\nFrom: alice@local.test\r\n", (550, "5.6.0")),
	(b"From: alice@local.test, ceo@bank.test\r\n", (550, "5.6.0")),
	(b"From: g: alice@local.test;\r\n", (550, "5.6.0")),
	(b"From:\r\n", (550, "5.6.0")),
	(b"Subject: none\r\n", (550, "5.6.0")),
	(b"From: alice@local.test <ceo@bank.test>\r\n", (550, "5.6.0")),
	(b"From: ceo@bank.test (alice@local.test)\r\n", (550, "5.7.1")),
	(b"From: bob@local.test\r\nSender: alice@local.test\r\n", (550, "5.7.1")),
	(b"\r\nFrom: alice@local.test\r\n", (550, "5.6.0")),
	(b"From alice Mon Jan 1\r\nFrom: alice@local.test\r\n", (550, "5.6.0")),
]


@pytest.mark.parametrize("header,want", HEADERS)
def test_the_from_field(server, alice, header, want):	# cases 9.1 to 9.9
	assert alice.message(header + b"\r\nbody\r\n", b"alice@local.test") == want
	assert len(server.take()) == (want == (250, "2.0.0"))


@pytest.mark.parametrize("at", [16384 - 30, 16384 - 4, 16384 - 1, 16384, 16384 + 1, 50000])
def test_the_from_field_is_found_wherever_it_is(alice, at):	# 16 KiB is all that is read of most messages
	before = (b"X: " + b"y" * 60 + b"\r\n") * (at // 64 - 1) + b"X: " + b"y" * (60 + at % 64) + b"\r\n"
	assert len(before.replace(b"\r\n", b"\n")) == at
	assert alice.message(before + b"From: alice@local.test\r\n\r\nbody\r\n", b"alice@local.test") == (250, "2.0.0")
	assert alice.message(before + b"From: ceo@bank.test\r\n\r\nbody\r\n", b"alice@local.test") == (550, "5.7.1")


def test_the_null_sender_does_not_excuse_the_from_field(alice):	# case 9.5
	assert alice.message(b"From: ceo@bank.test\r\n\r\nx\r\n", b"") == (550, "5.7.1")


FOREIGN = b"From: ceo@bank.test\r\n\r\nx\r\n"


@pytest.mark.parametrize("listener", ["sub", "alt"])
@pytest.mark.parametrize("rcpt", [b"x@far.test", b"bob@local.test"])
def test_the_from_field_is_checked_wherever_mail_goes(server, listener, rcpt):	# cases 9.1, 9.6
	client = server.connect(listener, hello=b"EHLO t.test\r\n")
	assert client.auth(b"PLAIN", GOOD) == (235, "2.7.0")
	assert client.message(FOREIGN, b"alice@local.test", (rcpt,)) == (550, "5.7.1")
	assert server.take() == [] and relayed(server, 0) == []


@pytest.mark.parametrize("content", [b" x\r\n", b"\t" + FROM, b" \r\n" + CONTENT, b"x\r\n"])
def test_a_message_without_a_header_has_no_from_field(server, alice, content):	# case 9.9
	assert alice.message(content, b"alice@local.test") == (550, "5.6.0")
	assert server.take() == []


def test_bcc_stays_where_it_is(server, alice):		# case 9.15
	content = FROM + b"Bcc: eve@far.test\r\nTo: bob@local.test\r\n\r\nx\r\n"
	assert alice.message(content, b"alice@local.test") == (250, "2.0.0")
	(m,) = server.take()
	assert m.body == content.replace(b"\r\n", b"\n")


def test_mail_without_a_login_has_any_from_field(server):
	client = server.connect(hello=b"EHLO t.test\r\n")
	assert client.message(b"From: a@x, b@y\r\nFrom: c@z\r\n\r\nx\r\n")[0] == 250


def test_senders_file_and_other_checks(start, ca):
	def prepare(server):
		found = sections(server)
		write(os.path.join(server.folder, "senders"), "# more\nalice sales@local.test @shop.test\n")
		found["smtpd"] = {"senders_file": os.path.join(server.folder, "senders")}
		return found
	server = start(ca.sections("mx"), prepare=prepare)
	for sender, want in ((b"sales@local.test", 250), (b"any@shop.test", 250), (b"bob@local.test", 550), (b"any@sub.shop.test", 550)):
		client = server.connect("sub", hello=b"EHLO t.test\r\n")
		assert client.auth(b"PLAIN", GOOD)[0] == 235
		assert client.cmd(b"MAIL FROM:<" + sender + b">\r\n")[0] == want
	for check, rows in (("domain", ((b"bob@local.test", 250), (b"x@other.test", 550))), ("off", ((b"x@bank.test", 250),))):
		server.disconnect_all()
		server.stop()
		server.configure({"smtpd": {"sender_check": check}})
		server.start()
		for sender, want in rows:
			client = server.connect("sub", hello=b"EHLO t.test\r\n")
			assert client.auth(b"PLAIN", GOOD)[0] == 235
			assert client.cmd(b"MAIL FROM:<" + sender + b">\r\n")[0] == want, (check, sender)


def test_a_routing_loop_is_seen(server):		# case 9.10
	client = server.connect(hello=b"EHLO t.test\r\n")
	hop = b"Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
	assert client.message(hop * 50 + b"\r\nx\r\n") == (250, "2.0.0")
	assert client.message(hop * 51 + b"\r\nx\r\n") == (554, "5.4.6")


def test_a_header_has_a_bound(server):			# case 9.7
	client = server.connect(hello=b"EHLO t.test\r\n")
	assert client.message(b"X: y\r\n" * 1000 + b"\r\nx\r\n") == (250, "2.0.0")
	assert client.message(b"X: y\r\n" * 1001 + b"\r\nx\r\n") == (550, "5.6.0")
	assert client.message(b"X: " + b"y" * 300000 + b"\r\n\r\nx\r\n") == (550, "5.6.0")
	assert client.message(b"\r\n" + b"y" * 300000 + b"\r\n") == (250, "2.0.0")


# ---- relaying ----

def test_a_login_relays(server, alice):
	assert alice.message(CONTENT, b"alice@local.test", (b"x@far.test", b"y@away.test"))[0] == 250
	((envelope, message),) = relayed(server)
	assert envelope == ["alice@local.test", "x@far.test y@away.test", "alice@local.test", "", "", "127.0.0.1"]
	assert message.endswith(STORED)


def test_what_a_user_sends_hides_where_it_is_from(server, alice):	# cases 9.10, 9.15
	content = FROM + b"Bcc: bob@local.test\r\n\r\nbody\r\n"
	assert alice.message(content, b"alice@local.test", (b"x@far.test",))[0] == 250
	((_, message),) = relayed(server)
	assert b"\nReceived: from submission (hidden)\n\tby mx.local.test with ESMTPA id " in message
	assert b"127.0.0." not in message and b"t.test\n" not in message
	assert message.endswith(b"\n" + content.replace(b"\r\n", b"\n"))


def test_one_message_is_ours_or_foreign(server, alice):
	assert alice.cmd(b"MAIL FROM:<alice@local.test>\r\n")[0] == 250
	assert alice.cmd(b"RCPT TO:<bob@local.test>\r\n")[0] == 250
	assert alice.cmd(b"RCPT TO:<x@far.test>\r\n") == (452, "4.5.3")
	assert alice.cmd(b"RSET\r\n")[0] == 250


@pytest.mark.parametrize("listener", ["mx", "alt"])
def test_strangers_do_not_relay(server, listener):
	client = server.connect(listener, hello=b"EHLO t.test\r\n")
	assert client.cmd(b"MAIL FROM:<alice@local.test>\r\n")[0] == 250
	assert client.cmd(b"RCPT TO:<x@far.test>\r\n") == (550, "5.7.1")


def test_trusted_networks_relay(server):
	client = server.connect("lan", hello=b"EHLO t.test\r\n")
	assert client.message(b"Subject: no From needed\r\n\r\nx\r\n", b"app@cluster.test", (b"x@far.test",))[0] == 250
	((envelope, message),) = relayed(server)
	assert envelope[:3] == ["app@cluster.test", "x@far.test", ""]


# ---- from elsewhere ----

@pytest.mark.root
def test_credentials_do_not_travel_in_clear(place, ca):		# cases 6.6, 7.1
	server = harness.FarServer(place, ca.sections("mx"))
	server.configure({"smtpd.auth": {"passwd_file": passwd(server.folder)},
		"smtpd.listener mx": {"address": server.ADDRESS + ":25"},
		"smtpd.listener sub": {"address": server.ADDRESS + ":587", "mode": "submission"},
		"smtpd.listener alt": {"address": server.ADDRESS + ":2525", "mode": "alt"},
		"smtpd.listener pod": {"address": server.ADDRESS + ":26", "mode": "submission", "trusted_networks": "192.0.2.0/24"}})
	server.start()
	for listener, want in (("sub", (530, "5.7.0")), ("pod", (530, "5.7.0")), ("alt", (250, "2.1.0")), ("mx", (250, "2.1.0"))):
		client = server.connect(listener)
		assert not [t for t in client.ask(b"EHLO t.test\r\n").text if t.startswith(b"AUTH")], listener
		assert client.auth(b"PLAIN", GOOD) == ((503, "5.5.1") if listener == "mx" else (538, "5.7.11")), listener
		assert client.cmd(b"MAIL FROM:<alice@local.test>\r\n") == want, listener
		client.finish()
	assert not server.log("auth")		# it was not even looked at
	client = server.connect("sub", hello=b"EHLO t.test\r\n")
	client.starttls(ca.context())
	assert [t for t in client.ask(b"EHLO t.test\r\n").text if t.startswith(b"AUTH PLAIN")]
	assert client.cmd(b"MAIL FROM:<alice@local.test>\r\n") == (530, "5.7.0")
	assert client.auth(b"PLAIN", GOOD) == (235, "2.7.0")
	assert client.message(CONTENT, b"alice@local.test")[0] == 250
	client.finish()
	client = server.connect("pod", hello=b"EHLO t.test\r\n")
	client.starttls(ca.context())
	assert client.cmd(b"EHLO t.test\r\n")[0] == 250
	assert client.message(CONTENT, b"app@local.test")[0] == 250
	server.disconnect_all()
	server.stop()
	server.check_ledger()


# ---- tokens ----

@pytest.mark.parametrize("kind", [b"OAUTHBEARER", b"XOAUTH2"])
def test_a_token_logs_in(server, sub, issuer, kind):
	assert sub.auth(kind, bearer(issuer.token(), "alice@local.test", kind)) == (235, "2.7.0")
	assert sub.message(CONTENT, b"alice@local.test")[0] == 250
	line = server.wait_log("auth", mechanism=kind.decode(), result="good")
	assert line["user"] == "alice@local.test" and line["kid"] == "k1"


HOSTILE = [
	("expired", dict(exp=1)), ("audience", dict(aud="other")), ("issuer", dict(iss="https://evil.test")),
	("no user", dict(email=None)), ("another domain", dict(email="alice@evil.test")), ("no exp", dict(exp=None)),
	("not yet", dict(nbf=int(time.time()) + 3600)), ("another key", dict(kid="k2")), ("not verified", dict(email_verified=False)),
	("none", dict(header={"alg": "none"})), ("crit", dict(header={"crit": ["exp"]})),
]


@pytest.mark.parametrize("name,change", HOSTILE, ids=[h[0] for h in HOSTILE])
def test_a_bad_token_is_refused_with_a_challenge(server, sub, issuer, name, change):
	sub.send(b"AUTH OAUTHBEARER %s\r\n" % base64.b64encode(bearer(issuer.token(**change))))
	challenge = sub.reply()
	assert challenge.code == 334
	assert json.loads(base64.b64decode(challenge.text[0])) == {"status": "invalid_token", "schemes": "bearer", "scope": ""}
	assert sub.cmd(b"AQ==\r\n") == BAD
	assert server.wait_log("auth", result="bad")["reason"]


def test_the_user_must_be_the_tokens(sub, issuer):
	sub.send(b"AUTH OAUTHBEARER %s\r\n" % base64.b64encode(bearer(issuer.token(), "bob@local.test")))
	assert sub.reply().code == 334
	assert sub.cmd(b"AQ==\r\n") == BAD


def test_a_token_in_parts(sub, issuer):
	assert sub.cmd(b"AUTH XOAUTH2\r\n") == (334, "")
	assert sub.cmd(base64.b64encode(bearer(issuer.token(), "alice@local.test", b"XOAUTH2")) + b"\r\n") == (235, "2.7.0")


def test_a_token_within_the_leeway_is_good_for_mail(sub, issuer):
	assert sub.auth(b"OAUTHBEARER", bearer(issuer.token(exp=int(time.time()) - 5))) == (235, "2.7.0")
	assert sub.cmd(b"MAIL FROM:<alice@local.test>\r\n") == (250, "2.1.0")


def test_authority_ends_with_the_token(start, ca, issuer):		# case 8.29
	server = start(ca.sections("mx"), prepare=lambda s: dict(sections(s), **{"smtpd.auth.oauth": {"issuer": issuer.name,
		"audience": "mail", "jwks_file": issuer.jwks, "leeway": "0s"}}))
	client = server.connect("sub", hello=b"EHLO t.test\r\n")
	end = int(time.time()) + 2
	assert client.auth(b"OAUTHBEARER", bearer(issuer.token(exp=end))) == (235, "2.7.0")
	assert client.cmd(b"MAIL FROM:<alice@local.test>\r\n")[0] == 250
	harness.until(lambda: time.time() > end + 1, "the end", 10)
	assert client.cmd(b"RSET\r\n")[0] == 250
	assert client.cmd(b"MAIL FROM:<alice@local.test>\r\n") == (530, "5.7.0")
