"""Messages for nobody who is there, which teach rspamd (SECURITY-CASES 11.28)."""

import json
import os
import urllib.request

import pytest

import conftest
import harness
from components import CLASSIFIER, HAM, FakeRspamd, Rspamd, send

UNKNOWN = (550, "5.1.1")
NOBODY = (b"nobody@local.test",)


def trap(place, url, **more):
	return {"smtpd": {"recipient_rejection": "data"}, "smtpd.delivery": {"recipients_file": conftest.recipients_file(place)},
		"smtpd.spamtrap": dict({"controller_url": url, "password": "q"}, **more)}


def numbered(n):
	return b"Subject: %d\r\n\r\nx\r\n" % n


def learned(fake, count):
	return [int(body.split()[1]) for body in fake.bodies("/learnspam", count)]


def stat(learner):
	request = urllib.request.Request("http://127.0.0.1:%d/stat" % learner.controller, headers={"Password": "q"})
	return json.loads(urllib.request.urlopen(request, timeout=5).read())["learned"]


@pytest.fixture(scope="module")
def learner(place, key):
	d = Rspamd(place, key, CLASSIFIER)
	yield d
	d.stop()


def test_rspamd_learns(start, learner, place):
	server = start(trap(place, "http://127.0.0.1:%d" % learner.controller))
	before = stat(learner)
	content = HAM + b"".join(b"Word%d of spam that nobody has seen before\r\n" % i for i in range(100))
	assert send(server, content, rcpts=NOBODY).pair == UNKNOWN
	line = server.wait_log("learn")
	assert line["level"] == "info" and line["status"] == "200", learner.output()[-2000:]
	assert stat(learner) == before + 1
	assert send(server, content).pair == (250, "2.0.0")
	(m,) = server.take()
	assert m.body == content.replace(b"\r\n", b"\n") and stat(learner) == before + 1


def test_a_wrong_password_is_logged(start, learner, fake, place):
	fake.answers["/learnspam"] = (403, b"{}")
	for url, status in (("http://127.0.0.1:%d" % learner.controller, "401"), (fake.url, "403")):
		server = start(trap(place, url, password="wrong"))
		assert send(server, HAM, rcpts=NOBODY).pair == UNKNOWN
		line = server.wait_log("learn")
		assert line["level"] == "warn" and line["status"] == status
	assert fake.requests[0][1]["Password"] == "wrong"


@pytest.mark.parametrize("checks", [False, True])
@pytest.mark.parametrize("fields", [b"", b"Authentication-Results: mx.local.test; none\r\nReturn-Path: <x@x.test>\r\n"])
def test_what_is_learned_is_the_message_as_it_came(start, fake, place, checks, fields):
	# X-Spam-Flag is taken away, others are added; what is left of it is another file
	fake.answers["/checkv2"] = (200, b'{"action":"add header","score":7,"milter":{"add_headers":{"X-Added":{"order":1,"value":"x"}}}}')
	server = start(dict({"spamcheck.checker r": {"url": fake.url}} if checks else {}, **trap(place, fake.url)))
	plain = b"Subject: x\r\n\r\nx\r\n"
	for n, content in enumerate((HAM, plain), 1):
		assert send(server, fields + content, rcpts=NOBODY).pair == UNKNOWN
		assert fake.bodies("/learnspam", n)[n - 1] == (fields + content).replace(b"\r\n", b"\n")
	assert len(fake.shown) == (2 if checks else 0)


def test_one_good_recipient_is_no_trap(start, fake, place):
	server = start(trap(place, fake.url))
	for n, rcpts in enumerate([(b"bob@local.test",) + NOBODY, NOBODY + (b"bob@local.test",), NOBODY + (b"nobody2@local.test",)]):
		assert send(server, numbered(n), rcpts=rcpts).pair == UNKNOWN
	server.wait_log("learn")
	assert learned(fake, 1) == [2]
	assert server.take() == []


def test_a_recipient_that_a_hook_refuses_is_none(start, fake, place):
	def prepare(server):
		return {"smtpd.hook r": {"event": "rcpt", "command": harness.script(os.path.join(server.folder, "hook"),
			"[ \"$RECIPIENT\" != nobody@local.test ] || exit 77\n")}}
	server = start(trap(place, fake.url), prepare=prepare)
	client = server.connect(hello=b"EHLO t.test\r\n")
	assert client.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
	assert client.cmd(b"RCPT TO:<nobody@local.test>\r\n") == (550, "5.7.1")
	assert client.cmd(b"RCPT TO:<bob@local.test>\r\n") == (250, "2.1.5")
	assert client.cmd(b"DATA\r\n") == (354, "")
	assert client.cmd(HAM + b".\r\n") == (250, "2.0.0")
	assert len(server.take()) == 1


def test_only_what_would_have_been_taken(start, fake, place):
	fake.answers["/checkv2"] = (200, b'{"action":"reject"}')
	server = start(dict({"spamcheck.checker r": {"url": fake.url}}, **trap(place, fake.url)))
	assert send(server, numbered(0), rcpts=NOBODY).pair == (550, "5.7.1")
	fake.answers["/checkv2"] = (200, b'{"action":"no action"}')
	assert send(server, numbered(1), rcpts=NOBODY).pair == UNKNOWN
	server.wait_log("learn")
	assert learned(fake, 1) == [1]


def test_so_many_in_an_hour(start, fake, place):
	server = start(trap(place, fake.url, max_learns_per_ip_per_hour="2"))
	for n, source in enumerate(["127.0.0.1"] * 3 + ["127.0.0.2"] * 3):
		server.source = (source, 0)
		assert send(server, numbered(n), rcpts=NOBODY).pair == UNKNOWN
		if n % 3 < 2:
			server.wait_log("learn", n // 3 * 2 + n % 3 + 1)
	assert send(server, numbered(6), rcpts=NOBODY).pair == UNKNOWN
	server.source = ("127.0.0.3", 0)
	assert send(server, numbered(7), rcpts=NOBODY).pair == UNKNOWN
	server.wait_log("learn", 5)
	assert learned(fake, 5) == [0, 1, 3, 4, 7]


class SixServer(harness.FarServer):
	ADDRESS = "2001:db8:1:1::1"
	NETWORK = "ip link set lo up && for a in 1:1::1 1:1::2 1:1:2::3 1:2::1; do ip address add 2001:db8:$a/128 dev lo nodad || exit; done; exec \"$@\""


@pytest.mark.root
def test_so_many_of_a_network(place):
	fake = FakeRspamd(path=os.path.join(place.folder(), "controller"))
	server = SixServer(place, trap(place, fake.url, max_learns_per_ip_per_hour="2"))
	server.configure({"smtpd.listener mx": {"address": "[%s]:0" % server.ADDRESS}})
	try:
		server.start()
		for n, source in enumerate(["1:1::1", "1:1::2", "1:1:2::3", "1:2::1"]):
			server.source = ("2001:db8:" + source, 0)
			assert send(server, numbered(n), rcpts=NOBODY).pair == UNKNOWN
			if n != 2:
				server.wait_log("learn", n + (n < 2))
		assert learned(fake, 3) == [0, 1, 3]
	finally:
		server.disconnect_all()
		server.stop()
		fake.close()
