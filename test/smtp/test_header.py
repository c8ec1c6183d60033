"""What a message begins with, and what stands in front of it (SECURITY-CASES 9)."""

import email
import os

import pytest

import harness
from components import FakeRspamd, checker, milter, send

LEADING = [b" x\r\n", b"\tx\r\n", b" \r\nFrom: a@b.test\r\n", b"\t\r\nReceived: from evil\r\n\r\nx\r\n",
	b" with ESMTPSA id x\r\nSubject: s\r\n\r\nx\r\n", b"\tMon, 1 Jan 2024 00:00:00 +0000\r\nx\r\n"]
OTHERS = [b"From u Mon\r\nA: 1\r\n", b"\r\nx\r\n", b"x\r\n", b": x\r\n", b"A: 1\r\n\r\nx\r\n", b""]


@pytest.mark.parametrize("content", LEADING + OTHERS)
def test_a_message_does_not_continue_our_fields(server, smtp, content):		# cases 9.9, 9.11
	assert smtp.message(content, rcpts=(b"bob@local.test",)) == (250, "2.0.0")
	assert smtp.message(content, rcpts=(b"bob@local.test", b"alice@local.test")) == (250, "2.0.0")
	messages = server.take()
	assert len(messages) == 3
	for m in messages:
		assert m.body == (b"\n" if content in LEADING else b"") + content.replace(b"\r\n", b"\n")
		(received,) = email.message_from_bytes(m.raw).get_all("Received")
		assert ("Received: " + received + "\n").encode() == m.trace[m.trace.index(b"Received:"):]
		assert server.wait_log("message", id=m.id)["size"] == str(len(m.raw) - (m.raw.startswith(b"Delivered-To: ") and m.raw.index(b"\n") + 1))


@pytest.mark.parametrize("content", LEADING)
def test_a_filter_sees_what_is_delivered(start, content):
	def prepare(server):
		path = harness.script(os.path.join(server.folder, "hook"), 'cat >"$0.message"; echo "X-Hook: $MESSAGE_SIZE"\n')
		delivery = harness.script(os.path.join(server.folder, "delivery"), 'cat >"$0.message"\n')
		server.hook, server.delivery = path + ".message", delivery + ".message"
		return {"smtpd.hook message": {"event": "message", "command": path}, "smtpd.delivery": {"command": delivery}}
	server = start(prepare=prepare)
	assert send(server, content).pair == (250, "2.0.0")
	stored = b"\n" + content.replace(b"\r\n", b"\n")
	with open(server.hook, "rb") as f:
		assert f.read() == stored
	assert harness.Message(server.delivery).body == b"X-Hook: %d\n" % len(stored) + stored


def test_long_names_are_folded(start):		# case 9.10
	name, hostname = harness.domain(60), harness.domain(40).decode()
	server = start({"server": {"hostname": hostname}})
	assert send(server, b"x\r\n", hello=name).pair == (250, "2.0.0")
	(m,) = server.take()
	lines = m.trace.decode().split("\n")
	assert lines[2:6] == ["Received: from " + name.decode(), "\t([127.0.0.1])", "\tby %s with ESMTP" % hostname, "\tid " + m.id]
	assert max(map(len, lines)) < 78


@pytest.mark.parametrize("filters", [{}, milter("away", 1, default_action="accept")], ids=["alone", "filtered"])
@pytest.mark.parametrize("rest", [b"\r\nx\r\n", b"\r\n", b""], ids=["body", "empty line", "no body"])
def test_the_largest_header(start, filters, rest):		# case 9.7
	server = start(filters)
	line = b"X: " + b"y" * 508 + b"\r\n"			# 512 octets where it is stored
	for extra, want in ((0, b"250"), (1, b"550 5.6.0 Header too large")):
		header = line * 511 + b"X: " + b"y" * (508 + extra) + b"\r\n"
		assert len(header.replace(b"\r\n", b"\n")) == 262144 + extra
		assert send(server, header + rest).lines[0].startswith(want)
	(m,) = server.take()
	assert len(m.body) == 262144 + len(rest.replace(b"\r\n", b"\n"))


EIGHT_BIT = b"From: \xe4@x.test\r\nSubject: \xf6\xff \x80\r\n\r\n\xfe\r\n"
NO_NAME = b"From: \xe4@x.test\r\nX-\xfc: 1\r\nX-Spam-Flag: NO\r\n\r\n\xfe\r\n"


@pytest.mark.parametrize("content, fields", [(EIGHT_BIT, 2), (NO_NAME, 1)])
def test_octets_above_ascii_stay_as_they_are(start, content, fields):		# case 9.14
	peer = FakeRspamd({"action": "no action", "score": 1, "required_score": 15})
	stored = content.replace(b"\r\n", b"\n")
	try:
		server = start(checker(peer.port))
		assert send(server, content).pair == (250, "2.0.0")
		(m,) = server.take()
		assert peer.shown == [stored]
		# where a line is no field, the header of a message that gets more fields ends: what is forged behind it is nobody's header
		lines = stored.splitlines(True)
		want = b"".join(lines[:fields]) + (b"\n" if content is NO_NAME else b"") + b"".join(lines[fields:])
		assert m.body.endswith(want)
		assert all(line.startswith(b"X-Spam-") for line in m.body[:-len(want)].splitlines())
	finally:
		peer.close()


@pytest.mark.parametrize("content", [EIGHT_BIT, NO_NAME, b"From: a@x.test\r\nBcc: eve@far.test\r\nbcc:\r\n\r\nx\r\n"])	# cases 9.14, 9.15
def test_a_header_is_delivered_as_it_is(server, smtp, content):
	assert smtp.message(content) == (250, "2.0.0")
	(m,) = server.take()
	assert m.body == content.replace(b"\r\n", b"\n")
