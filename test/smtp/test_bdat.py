"""SECURITY-CASES 2: BDAT."""

import pytest

import harness

HELLO = b"EHLO t.test\r\n"
MAIL, RCPT, OK, BYE = (250, "2.1.0"), (250, "2.1.5"), (250, "2.0.0"), (221, "2.0.0")
SEQUENCE, SYNTAX, BIG = (503, "5.5.1"), (501, "5.5.4"), (552, "5.3.4")


def envelope(smtp):
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == RCPT


def chunk(octets, last=False):
	return b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b"") + octets


def test_chunking_is_announced(server):
	smtp = server.connect()
	assert b"CHUNKING" in smtp.ask(HELLO).text


def test_chunks_make_one_message(smtp, server):	# case 2.1
	envelope(smtp)
	assert smtp.cmd(chunk(b"hello")) == OK
	assert smtp.cmd(b"BDAT 0 LAST\r\n") == OK
	assert [m.body for m in server.take()] == [b"hello"]


def test_dots_in_a_chunk_are_content(smtp, server):	# case 2.2
	content = b"Subject: s\r\n\r\n.\r\n..\r\n...x\r\n\r\n.\r\nend\r\n"
	envelope(smtp)
	assert smtp.cmd(chunk(content, True)) == OK
	assert [m.body for m in server.take()] == [content.replace(b"\r\n", b"\n")]


def test_a_chunk_may_be_cut_anywhere(server):	# case 2.2
	content = b"a\r\n.\r\nb\r\n"
	for cut in range(1, len(content)):
		smtp = server.connect(hello=HELLO)
		envelope(smtp)
		assert smtp.cmd(chunk(content[:cut])) == OK
		assert smtp.cmd(chunk(content[cut:], True)) == OK
	assert [m.body for m in server.take()] == [content.replace(b"\r\n", b"\n")] * (len(content) - 1)


def test_a_chunk_without_a_transaction_is_swallowed(smtp):	# case 2.3
	assert smtp.cmd(chunk(b"MAIL FROM:<admin@local.test>\r\nxy")) == SEQUENCE
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == SEQUENCE


@pytest.mark.parametrize("argument", [b"", b" x", b" -1", b" +5", b" 0x10", b" 5 FIRST", b" 5 LAST x", b" 1e3"])
def test_a_chunk_of_unknown_length_closes(smtp, argument):	# case 2.4
	envelope(smtp)
	smtp.send(b"BDAT" + argument + b"\r\n")
	assert smtp.all_replies() == [SYNTAX]


@pytest.mark.parametrize("size", [b"18446744073709551615", b"9223372036854775808", b"4294967296", b"9" * 400])
def test_an_enormous_chunk_closes(smtp, size):	# case 2.5
	envelope(smtp)
	smtp.send(b"BDAT " + size + b" LAST\r\n")
	assert smtp.all_replies() in ([BIG], [SYNTAX])


def test_a_chunk_over_the_limit_is_swallowed(smtp, server):	# case 2.6
	envelope(smtp)
	assert smtp.cmd(chunk(b"x" * 1000 * 1000)) == OK
	assert smtp.cmd(chunk(b"x" * 60 * 1000)) == BIG
	assert smtp.cmd(chunk(b"RSET\r\n")) == SEQUENCE
	assert smtp.cmd(chunk(b"RSET\r\n", True)) == SEQUENCE
	envelope(smtp)
	assert smtp.cmd(chunk(b"new", True)) == OK
	assert [m.body for m in server.take()] == [b"new"]


def test_reset_ends_a_swallowed_message(smtp, server):	# case 2.6
	envelope(smtp)
	assert smtp.cmd(chunk(b"x" * 1100 * 1000)) == BIG
	assert smtp.cmd(b"RSET\r\n") == OK
	envelope(smtp)
	assert smtp.cmd(chunk(b"new", True)) == OK
	assert [m.body for m in server.take()] == [b"new"]


def test_empty_chunks_without_end_are_junk(smtp):	# case 2.7
	envelope(smtp)
	smtp.send(b"BDAT 0\r\n" * 1000)
	replies = smtp.all_replies()
	assert replies[-1] == (421, "4.7.0")
	assert set(replies[:-1]) == {OK} and 90 <= len(replies) <= 110


def test_tiny_chunks_cost_no_memory(smtp, server):	# case 2.8
	count = 20000
	envelope(smtp)
	front = [p for p in server.fronts()]
	before = [int(harness.status(p)["VmRSS"].split()[0]) for p in front]
	for _ in range(count // 1000):
		smtp.send(b"BDAT 1\r\nx" * 1000)
		assert set(smtp.replies(1000)) == {OK}
	after = [int(harness.status(p)["VmRSS"].split()[0]) for p in front]
	assert sum(after) - sum(before) < (4096 if harness.is_sanitized() else 512)
	assert smtp.cmd(b"BDAT 0 LAST\r\n") == OK
	assert [m.body for m in server.take()] == [b"x" * count]


def test_data_after_bdat_is_out_of_sequence(smtp):	# case 2.9
	envelope(smtp)
	assert smtp.cmd(chunk(b"x")) == OK
	assert smtp.cmd(b"DATA\r\n") == SEQUENCE


def test_only_reset_leaves_a_chunked_message(smtp, server):	# case 2.10
	envelope(smtp)
	assert smtp.cmd(chunk(b"x")) == OK
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == SEQUENCE
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == SEQUENCE
	assert smtp.cmd(b"RSET\r\n") == OK
	assert smtp.cmd(b"BDAT 0 LAST\r\n") == SEQUENCE
	assert server.take() == []


def test_data_without_a_transaction_after_a_bad_chunk(smtp):	# case 2.11
	assert smtp.cmd(b"BDAT 0\r\n") == SEQUENCE
	assert smtp.cmd(b"DATA\r\n") == SEQUENCE
	smtp.send(b"BDAT x\r\nDATA\r\n")
	assert smtp.all_replies() == [SYNTAX]


@pytest.mark.parametrize("sent", [b"", b"x", b"x" * 99])
def test_a_client_that_leaves_inside_a_chunk_delivers_nothing(smtp, server, sent):	# case 2.12
	envelope(smtp)
	smtp.send(b"BDAT 100 LAST\r\n" + sent)
	smtp.finish()
	assert server.take() == []


def test_a_dot_does_not_end_a_chunk(smtp, server):	# case 2.13
	envelope(smtp)
	smtp.send(b"BDAT 10 LAST\r\n.\r\n")
	smtp.send(b"1234567")
	assert smtp.reply().pair == OK
	assert [m.body for m in server.take()] == [b".\n1234567"]


def test_garbage_after_a_chunk(smtp):	# case 2.14
	envelope(smtp)
	smtp.send(b"BDAT 1\r\nXBDAT \x7f\r\n" + b"a" * 10000)
	assert smtp.reply().pair == OK
	assert smtp.reply().pair in (SYNTAX, (500, "5.5.2"))


@pytest.mark.parametrize("octets", [b"a\nb\r\n", b"a\rb\r\n", b"a\r"])
def test_bare_newlines_in_a_chunk_are_refused_at_its_last(smtp, server, octets):	# case 2.15
	envelope(smtp)
	assert smtp.cmd(chunk(octets)) == OK
	assert smtp.cmd(chunk(b"c\r\n", True)) == (550, "5.5.2")
	assert server.take() == []


def test_bare_newlines_in_a_chunk_are_normalized(server):	# case 2.15
	smtp = server.connect("norm", hello=HELLO)
	envelope(smtp)
	assert smtp.cmd(chunk(b"a\nb\rc\r\n.\n", True)) == OK
	assert [m.body for m in server.take()] == [b"a\nb c\n.\n"]


def test_a_line_end_may_be_in_two_chunks(smtp, server):	# case 2.15
	envelope(smtp)
	assert smtp.cmd(chunk(b"a\r")) == OK
	assert smtp.cmd(chunk(b"\nb", True)) == OK
	assert [m.body for m in server.take()] == [b"a\nb"]


def test_binarymime_is_not_announced_and_not_taken(smtp):	# case 2.16
	assert smtp.cmd(b"MAIL FROM:<a@x.test> BODY=BINARYMIME\r\n") == SYNTAX


def test_a_whole_session_in_one_segment(server):	# case 2.17
	smtp = server.connect("alt")
	one = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<bob@local.test>\r\n"
	smtp.send(HELLO + one + chunk(b"1\r\n", True) + one + chunk(b"2") + chunk(b"\r\n", True) + b"QUIT\r\n")
	assert smtp.reply().code == 250
	assert smtp.all_replies() == [MAIL, RCPT, OK, MAIL, RCPT, OK, OK, BYE]
	assert [m.body for m in server.take()] == [b"1\n", b"2\n"]


def test_a_refused_message_leaves_nothing_behind(smtp, server):	# case 2.18
	envelope(smtp)
	assert smtp.cmd(chunk(b"first\n", True)) == (550, "5.5.2")
	envelope(smtp)
	assert smtp.cmd(chunk(b"second", True)) == OK
	assert [m.body for m in server.take()] == [b"second"]


def test_chunks_with_every_recipient_refused(smtp):
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	assert smtp.cmd(b"RCPT TO:<nobody@local.test>\r\n") == (550, "5.1.1")
	assert smtp.cmd(chunk(b"QUIT\r\n", True)) == (554, "5.5.1")
	assert smtp.cmd(b"RSET\r\n") == OK


def test_a_message_of_a_megabyte_in_chunks(smtp, server):
	line = b"y" * 998 + b"\r\n"
	content = line * 1000
	envelope(smtp)
	for at in range(0, len(content), 65537):
		part = content[at:at + 65537]
		assert smtp.cmd(chunk(part, at + 65537 >= len(content))) == OK
	assert [m.body for m in server.take()] == [content.replace(b"\r\n", b"\n")]
