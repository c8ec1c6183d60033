"""SECURITY-CASES 4: command lines and limits."""

import pytest

import harness

HELLO = b"EHLO t.test\r\n"
MAIL, RCPT, OK = (250, "2.1.0"), (250, "2.1.5"), (250, "2.0.0")
LONG, ARGUMENT, UNKNOWN = (500, "5.5.2"), (501, "5.5.4"), (500, "5.5.2")


def padded(begin, length, end=b"\r\n", fill=b"x"):
	return begin + fill * (length - len(begin) - len(end)) + end


@pytest.mark.parametrize("length,reply", [(511, OK), (512, OK), (513, LONG), (2048, LONG), (2049, LONG), (12288, LONG),
	(12289, LONG), (65000, LONG)])
def test_the_length_of_a_command_line(smtp, length, reply):	# case 4.1
	assert smtp.cmd(padded(b"NOOP ", length)) == reply
	assert smtp.cmd(b"NOOP\r\n") == OK


def routed(verb, address, length):
	"""A path whose source route makes the line so long."""
	begin, end = verb + b":<", b":" + address + b">\r\n"
	left, hops = length - len(begin) - len(end), []
	while left > 0:
		n = left if left <= 65 else min(60, left - 6)
		hops.append(b"@" + b"h" * (n - 1 - (1 if hops else 0)))
		left -= n
	line = begin + b",".join(hops) + end
	assert len(line) == length
	return line


@pytest.mark.parametrize("length,good", [(513, True), (2048, True), (2049, False), (12289, False)])
def test_lines_of_mail_and_rcpt_may_be_longer(smtp, length, good):	# case 4.1
	assert smtp.cmd(routed(b"MAIL FROM", b"a@x.test", length)) == (MAIL if good else LONG)
	assert smtp.cmd(b"RSET\r\n") == OK
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	assert smtp.cmd(routed(b"RCPT TO", b"bob@local.test", length)) == (RCPT if good else LONG)


def test_an_endless_line_is_closed(smtp):	# cases 4.1, 4.2
	try:
		for _ in range(64):
			smtp.send(b"x" * 65536)
	except OSError:
		pass
	try:
		assert smtp.all_replies() in ([LONG], [])
	except OSError:
		pass


@pytest.mark.parametrize("length", [1, 63, 64, 65, 254, 255])
def test_names_up_to_255_octets_are_taken(server, length):	# case 4.3
	smtp = server.connect()
	assert smtp.cmd(b"EHLO " + harness.domain(length) + b"\r\n") == (250, "")


@pytest.mark.parametrize("length", [256, 400, 10000, 60000])
def test_longer_names_are_refused(server, length):	# case 4.3
	smtp = server.connect()
	assert smtp.cmd(b"EHLO " + harness.domain(length) + b"\r\n") == ARGUMENT
	assert smtp.cmd(b"HELO " + harness.domain(length) + b"\r\n") == ARGUMENT
	assert smtp.cmd(HELLO) == (250, "")


@pytest.mark.parametrize("name", [b"() { :;}; id", b"a b", b"`id`", b"$(id)", b"a<b>", b"a\tb", b"[1.2.3]", b"[IPv6:::g]", b"",
	b"[1.2.3.4", b"[256.1.1.1]", b"a..b", b".a", b"-", b"a;b", b"a(b)", b"[]", b"[IPv6:1::2::3]", b"a\"b"])
def test_names_with_other_characters_are_refused(server, name):	# case 4.4
	smtp = server.connect()
	assert smtp.cmd(b"EHLO " + name + b"\r\n") == ARGUMENT
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == (503, "5.5.1")


@pytest.mark.parametrize("name", [b"host", b"a.b-c.test", b"my_host", b"192.0.2.1", b"12345", b"[192.0.2.1]",
	b"[IPv6:2001:db8::1]", b"[IPv6:::1]", b"MiXed.Test"])
def test_names_and_literals_are_taken(server, name):	# case 4.4
	smtp = server.connect()
	assert smtp.cmd(b"EHLO " + name + b"\r\n") == (250, "")
	assert smtp.message(b"x\r\n") == OK
	(m,) = server.take()
	assert b"Received: from " + name + b" ([127.0.0.1])\n\tby mx.local.test with ESMTP id " in m.trace


@pytest.mark.parametrize("line,reply", [(b"noop", OK), (b"NoOp", OK), (b"NOOP  ", OK), (b"NOOP\t", OK), (b"rset \t ", OK),
	(b" NOOP", UNKNOWN), (b"\tNOOP", UNKNOWN), (b"", UNKNOWN), (b"NOOPX", UNKNOWN), (b"NO OP", UNKNOWN),
	(b"RSET x", ARGUMENT), (b"DATA x", ARGUMENT), (b"QUIT x", ARGUMENT), (b"mail from:<a@x.test>", MAIL), (b"Mail From:<a@x.test>  ", MAIL),
	(b"MAIL\tFROM:<a@x.test>", MAIL)])
def test_case_and_white_space(smtp, line, reply):	# case 4.5
	assert smtp.cmd(line + b"\r\n") == reply


@pytest.mark.parametrize("argument", [b"FROM:<a@x.test>x", b"FROM <a@x.test>", b"FROM:a@x.test", b"TO:<a@x.test>", b"", b"FROM:",
	b"<a@x.test>", b"FROM:<a@x.test", b"FROM:<a@x.test>SIZE=1"])
def test_what_is_no_path(smtp, argument):	# case 4.6
	code, esc = smtp.cmd(b"MAIL " + argument + b"\r\n")
	assert (code, esc) in [ARGUMENT, (501, "5.1.7")]
	assert smtp.cmd(b"MAIL FROM: <a@x.test>\r\n") == MAIL


def test_commands_split_into_octets(server):	# case 1.24
	smtp = server.connect("alt")
	stream = HELLO + b"MAIL FROM:<a@x.test> SIZE=10\r\nRCPT TO:<bob@local.test>\r\nRSET\r\nNOOP\r\nQUIT\r\n"
	smtp.send_cut(stream, range(1, len(stream)))
	assert smtp.reply().code == 250
	assert smtp.all_replies() == [MAIL, RCPT, OK, OK, (221, "2.0.0")]


def test_a_group_of_replies_is_one_segment(smtp):	# RFC 2920 3.2
	smtp.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<bob@local.test>\r\nRCPT TO:<alice@local.test>\r\n")
	smtp.sock.settimeout(harness.PATIENCE)
	assert smtp.sock.recv(65536).count(b"\r\n") == 3
