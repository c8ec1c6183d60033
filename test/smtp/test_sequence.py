"""SECURITY-CASES 3: pipelining and the state machine."""

import random

import pytest

import harness

HELLO = b"EHLO t.test\r\n"
MAIL, RCPT, GO, OK, BYE = (250, "2.1.0"), (250, "2.1.5"), (354, ""), (250, "2.0.0"), (221, "2.0.0")
SEQUENCE, EARLY, BARE = (503, "5.5.1"), (554, "5.5.0"), (550, "5.5.2")
CLOSING = (421, "4.7.0")


def test_ehlo_lists_what_there_is(server):
	smtp = server.connect()
	reply = smtp.ask(HELLO)
	assert reply.pair == (250, "")
	assert reply.text[0] == b"mx.local.test"
	assert sorted(reply.text[1:]) == [b"8BITMIME", b"CHUNKING", b"ENHANCEDSTATUSCODES", b"PIPELINING", b"SIZE 1048576",
		b"SMTPUTF8"]


def test_one_recipient_at_a_time_is_announced(command):	# case 12.14
	smtp = command.connect()
	assert b"LIMITS RCPTMAX=1" in smtp.ask(HELLO).text


def test_helo_has_one_line(server):
	smtp = server.connect()
	reply = smtp.ask(b"HELO t.test\r\n")
	assert reply.pair == (250, "") and len(reply.lines) == 1


def test_the_banner_names_the_host(server):
	smtp = server.connect(greet=False)
	assert smtp.reply().lines == [b"220 mx.local.test ESMTP"]


def test_who_speaks_before_the_banner_is_closed(place):	# case 3.1
	"""The front is stopped until the client's octets are there."""
	server = harness.Server(place)
	server.start()
	server.ready()
	front = server.fronts()[0]
	harness.os.kill(front, harness.signal.SIGSTOP)
	smtp = server.connect(greet=False)
	smtp.send(HELLO)
	harness.os.kill(front, harness.signal.SIGCONT)
	assert smtp.all_replies() == [EARLY]
	server.stop()


def test_replies_never_reach_another_client(start):	# I1
	"""The first client is gone when its reply is written, in the same turn in which the second is served."""
	server = start()
	server.ready()
	front = server.fronts()[0]
	first, second = server.connect(hello=HELLO), server.connect(hello=HELLO)
	harness.os.kill(front, harness.signal.SIGSTOP)
	first.send(b"VRFY bob\r\n")
	first.reset()
	second.send(b"NOOP\r\n")
	harness.os.kill(front, harness.signal.SIGCONT)
	assert second.reply().pair == OK
	assert second.cmd(b"NOOP\r\n") == OK


def test_ehlo_ends_a_group(server):	# case 3.2
	smtp = server.connect()
	smtp.send(HELLO + b"MAIL FROM:<a@x.test>\r\n")
	assert smtp.all_replies() == [EARLY]


def test_other_modes_forgive_a_group_that_begins_with_ehlo(server):	# case 3.2
	smtp = server.connect("alt")
	smtp.send(HELLO + b"MAIL FROM:<a@x.test>\r\n")
	assert smtp.replies(2) == [(250, ""), MAIL]


def test_content_before_354_is_refused(smtp, server):	# case 3.3
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == RCPT
	smtp.send(b"DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n")
	assert smtp.all_replies() == [EARLY]
	assert server.take() == []


@pytest.mark.parametrize("after,replies", [
	(b"MAIL FROM:<a@x.test>\r\n", [MAIL]), (b"RSET\r\n", [OK]), (b"QUIT\r\n", [BYE]), (b"NOOP\r\nNOOP\r\n", [OK, OK]),
])
def test_commands_may_follow_the_dot_at_once(smtp, server, after, replies):	# case 3.4
	smtp.start_data()
	smtp.send(b"Subject: x\r\n\r\n.\r\n" + after)
	assert smtp.replies(1 + len(replies)) == [OK] + replies
	assert len(server.take()) == 1


def test_a_group_of_recipients_is_answered_in_order(smtp):	# case 3.5
	smtp.send(b"MAIL FROM:<a@x.test>\r\n" + b"".join(b"RCPT TO:<u%d@open.test>\r\n" % i for i in range(12)) + b"DATA\r\n")
	assert smtp.replies(14) == [MAIL] + [RCPT] * 10 + [(452, "4.5.3")] * 2 + [GO]
	assert smtp.cmd(b".\r\n") == OK


def test_no_354_when_every_recipient_is_refused(smtp):	# case 3.5
	smtp.send(b"MAIL FROM:<a@x.test>\r\n" + b"RCPT TO:<nobody@local.test>\r\n" * 3 + b"DATA\r\n")
	assert smtp.replies(5) == [MAIL] + [(550, "5.1.1")] * 3 + [(554, "5.5.1")]
	assert smtp.cmd(b"RSET\r\n") == OK


def test_a_client_that_does_not_read_costs_no_memory(start):	# case 3.6
	server = start({"smtpd.timeouts": {"command": "500ms"}})
	server.ready()
	smtp = server.connect(hello=HELLO)
	smtp.unasked = False
	front = server.fronts()[0]
	before = int(harness.status(front)["VmRSS"].split()[0])
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == RCPT
	smtp.sock.setsockopt(harness.socket.SOL_SOCKET, harness.socket.SO_RCVBUF, 4096)
	smtp.sock.settimeout(5)
	# neither junk nor an error, and answered by three times as much
	group, sent = b"BDAT 1\r\nx" * 1000, 0
	try:
		while sent < 32 * 1024 * 1024:
			smtp.send(group)
			sent += len(group)
	except OSError:
		pass	# closed: it does not read
	assert sent < 32 * 1024 * 1024
	after = int(harness.status(front)["VmRSS"].split()[0])
	assert after - before < (4096 if harness.is_sanitized() else 512)
	server.check_census()


def test_nothing_follows_quit(smtp):	# case 3.7
	smtp.send(b"QUIT\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<bob@local.test>\r\n")
	assert smtp.all_replies() == [BYE]


def test_half_close_after_the_dot_still_delivers(smtp, server):	# case 3.8
	smtp.start_data()
	smtp.send(b"Subject: x\r\n\r\n.\r\n")
	smtp.sock.shutdown(harness.socket.SHUT_WR)
	assert smtp.all_replies() == [OK]
	assert len(server.take()) == 1


@pytest.mark.parametrize("content", [b"", b"Subject: x\r\n", b"Subject: x\r\n\r\n.", b"Subject: x\r\n\r\n.\r"])
def test_half_close_inside_data_delivers_nothing(smtp, server, content):	# case 3.8, 12.17
	smtp.start_data()
	smtp.send(content)
	smtp.sock.shutdown(harness.socket.SHUT_WR)
	assert smtp.all_replies() == []
	assert server.take() == []


def test_rcpt_before_mail_is_out_of_sequence(smtp):	# case 3.9
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == SEQUENCE


def test_data_before_rcpt_is_out_of_sequence(smtp):	# case 3.9
	assert smtp.cmd(b"DATA\r\n") == SEQUENCE
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	assert smtp.cmd(b"DATA\r\n") == SEQUENCE
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == RCPT


def test_a_second_mail_is_out_of_sequence(smtp):	# case 3.9
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	assert smtp.cmd(b"MAIL FROM:<b@x.test>\r\n") == SEQUENCE
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == RCPT
	assert smtp.cmd(b"MAIL FROM:<b@x.test>\r\n") == SEQUENCE
	assert smtp.cmd(b"DATA\r\n") == GO
	assert smtp.cmd(b".\r\n") == OK


def test_mail_needs_a_greeting(server):	# case 3.9
	smtp = server.connect()
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == SEQUENCE


@pytest.mark.parametrize("verb", [b"VRFY bob", b"EXPN list", b"HELP", b"SEND FROM:<a@x.test>", b"SOML FROM:<a@x.test>",
	b"SAML FROM:<a@x.test>", b"TURN"])
def test_what_is_not_implemented(smtp, verb):
	assert smtp.cmd(verb + b"\r\n") == (502, "5.5.1")


@pytest.mark.parametrize("hello", [HELLO, b"HELO t.test\r\n"])
def test_a_greeting_forgets_the_transaction(smtp, hello):	# case 3.10
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == RCPT
	assert smtp.cmd(hello) == (250, "")
	assert smtp.cmd(b"DATA\r\n") == SEQUENCE
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == SEQUENCE


@pytest.mark.parametrize("content,reply", [
	(b"a\nb\r\n", BARE), (b"\x00\r\n", (550, "5.6.0")), (b"x" * 1048576 + b"\r\n", (552, "5.3.4"))])
def test_nothing_is_left_of_a_refused_message(smtp, server, content, reply):	# case 3.11
	assert smtp.message(content) == reply
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == SEQUENCE
	assert smtp.cmd(b"DATA\r\n") == SEQUENCE
	assert smtp.message(b"good\r\n") == OK
	assert [m.body for m in server.take()] == [b"good\n"]


@pytest.mark.parametrize("status,code", [(75, (451, "4.3.0")), (65, (550, "5.6.0"))])
def test_nothing_is_left_of_a_failed_delivery(command, status, code):	# case 3.11
	smtp = command.connect(hello=HELLO)
	assert smtp.message(b"x\r\n", rcpts=[b"exit-%d@local.test" % status]) == code
	assert smtp.cmd(b"RCPT TO:<digest@local.test>\r\n") == SEQUENCE
	assert smtp.cmd(b"DATA\r\n") == SEQUENCE


def test_utf8_without_smtputf8_resets_nothing(smtp):	# case 3.12
	assert smtp.cmd(b"MAIL FROM:<\xc3\xbc@x.test>\r\n") == (553, "5.6.7")
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == SEQUENCE
	assert smtp.cmd(b"VRFY \xc3\xbc\r\n")[0] in (500, 502)
	assert smtp.cmd(b"DATA\r\n") == SEQUENCE
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL


@pytest.mark.parametrize("params,reply", [
	(b"SIZE=1048576", MAIL), (b"SIZE=1048577", (552, "5.3.4")), (b"SIZE=abc", (501, "5.5.4")), (b"SIZE=-1", (501, "5.5.4")),
	(b"SIZE=" + b"9" * 30, (501, "5.5.4")), (b"SIZE=1 SIZE=1", (501, "5.5.4")), (b"SIZE=", (501, "5.5.4")),
	(b"SIZE=0", MAIL), (b"size=1 body=8bitmime smtputf8", MAIL),
	(b"FOO=BAR", (555, "5.5.4")), (b"SMTPUTF8=1", (501, "5.5.4")), (b"=", (501, "5.5.4")), (b'="', (501, "5.5.4")),
	(b'"=', (501, "5.5.4")), (b"BODY=7BIT", MAIL), (b"BODY=8BITMIME", MAIL), (b"BODY=x", (501, "5.5.4")),
	(b"BODY", (501, "5.5.4")), (b"RET=FULL", (555, "5.5.4")),
])
def test_parameters_of_mail(smtp, params, reply):	# cases 3.14, 3.15
	assert smtp.cmd(b"MAIL FROM:<a@x.test> " + params + b"\r\n") == reply


@pytest.mark.parametrize("params", [b"NOTIFY=NEVER", b"NOTIFY=", b"ORCPT=rfc822;a", b"FOO"])
def test_parameters_of_rcpt_are_unknown(smtp, params):	# case 3.15
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	assert smtp.cmd(b"RCPT TO:<bob@local.test> " + params + b"\r\n") in [(555, "5.5.4"), (501, "5.5.4")]


def test_too_many_errors_close(start):	# case 3.16
	server = start({"smtpd.limits": {"max_errors": "4"}})
	smtp = server.connect(hello=HELLO)
	begin = harness.time.monotonic()
	smtp.send(b"FOO\r\n" * 10)
	assert smtp.all_replies() == [(500, "5.5.2")] * 4 + [CLOSING]
	assert harness.time.monotonic() - begin > 0.9	# beyond half of them each costs a second


def test_a_good_message_forgives_errors(start):	# case 3.16
	server = start({"smtpd.limits": {"max_errors": "4"}})
	smtp = server.connect(hello=HELLO)
	for _ in range(4):
		assert smtp.cmd(b"FOO\r\n") == (500, "5.5.2")
		assert smtp.message(b"x\r\n") == OK


def test_too_much_junk_closes(smtp):	# case 3.16
	smtp.send(b"NOOP\r\n" * 200)
	replies = smtp.all_replies()
	assert replies[-1] == CLOSING and set(replies[:-1]) == {OK} and 90 <= len(replies) <= 102


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"CONNECT x:25 HTTP/1.0", b"PUT /x HTTP/1.0",
	b"HEAD / HTTP/1.0", b"OPTIONS * HTTP/1.1", b"PRI * HTTP/2.0", b"Host: local.test", b"X-Y: z"])
def test_other_protocols_are_closed_at_once(server, line):	# case 3.17
	smtp = server.connect()
	smtp.send(line + b"\r\nEHLO t.test\r\n")
	assert smtp.all_replies() == [CLOSING]
	smtp = server.connect(hello=HELLO)
	smtp.send(line + b"\r\n")
	assert smtp.all_replies() == [CLOSING]


# ---- the model ----

class Model:
	"""What a client believes: the state, and for each command the reply."""

	def __init__(self):
		self.state, self.refused, self.bare = "greeted", False, False

	def forget(self):
		self.state = "greeted" if self.state == "greeted" else "ready"
		self.refused = self.bare = False

	def step(self, name):
		s = self.state
		if name in ("helo", "ehlo"):
			self.state = "ready"
			self.forget()
			return (250, "")
		if name == "rset":
			self.forget()
			return OK
		if name in ("noop", "vrfy", "auth", "junk"):
			return {"noop": OK, "vrfy": (502, "5.5.1"), "auth": SEQUENCE, "junk": (500, "5.5.2")}[name]
		if name.startswith("mail"):
			if s != "ready":
				return SEQUENCE
			if name == "mail bad":
				return (501, "5.1.7")
			self.state = "mail"
			return MAIL
		if name.startswith("rcpt"):
			if s not in ("mail", "rcpt"):
				return SEQUENCE
			if name != "rcpt":
				self.refused = True
				return (501, "5.1.3") if name == "rcpt bad" else (550, "5.1.1")
			self.state = "rcpt"
			return RCPT
		if name.startswith("data"):
			if s != "rcpt":
				return (554, "5.5.1") if s == "mail" and self.refused else SEQUENCE
			self.forget()
			return BARE if name == "data bare" else OK
		if s not in ("rcpt", "bdat"):
			return (554, "5.5.1") if s == "mail" and self.refused else SEQUENCE
		self.state = "bdat"
		self.bare = self.bare or name == "bdat bare"
		if name != "bdat last":
			return OK
		bare = self.bare
		self.forget()
		return BARE if bare else OK


COMMANDS = {
	"helo": b"HELO t.test\r\n", "ehlo": HELLO, "rset": b"RSET\r\n", "noop": b"NOOP\r\n", "vrfy": b"VRFY bob\r\n",
	"auth": b"AUTH PLAIN\r\n", "junk": b"JUNK\r\n", "mail": b"MAIL FROM:<a@x.test>\r\n", "mail bad": b"MAIL FROM:<a..b@x.test>\r\n",
	"rcpt": b"RCPT TO:<bob@local.test>\r\n", "rcpt bad": b"RCPT TO:<a..b@x.test>\r\n",
	"rcpt unknown": b"RCPT TO:<nobody@local.test>\r\n", "data": b"DATA\r\n", "data bare": b"DATA\r\n",
	"bdat": b"BDAT 4\r\nab\r\n", "bdat last": b"BDAT 3 LAST\r\nx\r\n", "bdat bare": b"BDAT 3\r\nc\nd",
}


@pytest.mark.parametrize("seed", range(4))
def test_any_sequence_goes_as_the_model_says(model_server, seed):	# case 3.9 to 3.12
	pick = random.Random(seed)
	names = sorted(COMMANDS) + ["mail", "rcpt", "data"] * 3 + ["rcpt", "ehlo"]
	for _ in range(12):
		smtp, model, trail = model_server.connect(), Model(), []
		for _ in range(60):
			name = pick.choice(names)
			trail.append(name)
			want = model.step(name)
			got = smtp.cmd(COMMANDS[name])
			if name.startswith("data") and got == GO:
				got = smtp.cmd(b"a\nb\r\n.\r\n" if name == "data bare" else b"a\r\n.\r\n")
			assert got == want, "seed %d: %s" % (seed, trail)
		assert smtp.cmd(b"QUIT\r\n") == BYE
		smtp.expect_close()
	assert model_server.take()


@pytest.fixture(scope="module")
def model_shared(place):
	import conftest
	server = harness.Server(place, {
		"smtpd.delivery": {"recipients_file": conftest.recipients_file(place)},
		"smtpd.limits": {"max_errors": "1000"},
	})
	server.start()
	server.ready()
	yield server
	server.stop()


@pytest.fixture
def model_server(model_shared):
	model_shared.take()
	yield model_shared
	model_shared.disconnect_all()
	model_shared.check_ledger()
	model_shared.check_sanitizer()
