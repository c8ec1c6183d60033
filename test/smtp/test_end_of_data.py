"""SECURITY-CASES 1: end of data and line endings."""

import pytest

HELLO = b"EHLO t.test\r\n"
HEAD = b"Subject: s\r\n\r\nbody"
EVIL = b"MAIL FROM:<admin@local.test>\r\nRCPT TO:<bob@local.test>\r\nDATA\r\nSubject: evil\r\n\r\nx\r\n.\r\n"
QUIT = b"QUIT\r\n"
EVIL_LINES = EVIL[:-3].replace(b"\r\n", b"\n")

BARE, NUL, GOOD, BYE = (550, "5.5.2"), (550, "5.6.0"), (250, "2.0.0"), (221, "2.0.0")
UNKNOWN = (500, "5.5.2")
MAIL, RCPT, GO, EARLY = (250, "2.1.0"), (250, "2.1.5"), (354, ""), (554, "5.5.0")
# EVIL as commands: its content stands before the 354, unless the network happens to bring it later (case 3.3)
AS_COMMANDS = [[MAIL, RCPT, EARLY], [MAIL, RCPT, GO, GOOD, BYE]]
NONE = [[BYE]]

# number, octets, replies that begin with the message's own, what comes then, and what normalize delivers between body and EVIL
SEQUENCES = [
	("1.1", b"\n.\n", [BARE], NONE, b"\n"),
	("1.2", b"\n.\r\n", [BARE], NONE, b"\n"),
	("1.3", b"\r\n.\n", [BARE], NONE, b"\n"),
	("1.4", b"\r.\r", [BARE], NONE, b" . "),
	("1.5", b"\r.\n", [BARE], NONE, b" .\n"),
	("1.6", b"\n.\r", [BARE], NONE, b"\n. "),
	("1.7", b"\r.\r\n", [BARE], NONE, b" .\n"),
	("1.8", b"\r\n.\rX", [BARE], NONE, b"\n X"),
	("1.9", b"\r\n.\r\r\n", [BARE], NONE, b"\n \n"),
	("1.10", b"\r\r\n.\r\r\n", [BARE], NONE, b" \n \n"),
	("1.11", b"\r\r\n.\r\n", [BARE], AS_COMMANDS, b" \n"),
	("1.12", b"\n\r\n.\r\n", [BARE], AS_COMMANDS, b"\n\n"),
	("1.13", b"\r\n\x00.\r\n", [NUL], NONE, None),
	("1.14", b"\r\n.\x00\r\n", [NUL], NONE, None),
	("1.15", b"\r\n.\r\x00\n", [BARE], NONE, None),
	("1.16", b"\r\n.\r\n", [GOOD], AS_COMMANDS, b"\n"),
	("1.17", b"\r\n..\r\n", [GOOD], NONE, b"\n.\n"),
	("1.18", b"\r\n.x\r\n", [GOOD], NONE, b"\nx\n"),
	("1.19a", b"\r\n .\r\n", [GOOD], NONE, b"\n .\n"),
	("1.19b", b"\r\n. \r\n", [GOOD], NONE, b"\n \n"),
	("1.19c", b"\r\n.\t\r\n", [GOOD], NONE, b"\n\t\n"),
	("1.20a", b"\x0b.\x0b", [GOOD], NONE, b"\x0b.\x0b"),
	("1.20b", b"\x0c.\x0c", [GOOD], NONE, b"\x0c.\x0c"),
	("1.20c", b"\x85.\x85", [GOOD], NONE, b"\x85.\x85"),
	("1.20d", b"\xe2\x80\xa8.\xe2\x80\xa8", [GOOD], NONE, b"\xe2\x80\xa8.\xe2\x80\xa8"),
	("1.21a", b"\n\n.\n\n", [BARE], NONE, b"\n\n\n"),
	("1.21b", b"\n.\n.\r\n", [BARE], NONE, b"\n"),
	("1.22", b"\r\n.\r\n.\r\n", [GOOD, UNKNOWN], AS_COMMANDS, b"\n"),
]
by_number = pytest.mark.parametrize("number,seq,first,then,normal", SEQUENCES, ids=[s[0] for s in SEQUENCES])


def run(server, listener, stream, cuts=()):
	smtp = server.connect(listener, hello=HELLO)
	smtp.start_data()
	smtp.send_cut(stream, cuts)
	return smtp.all_replies()


def check(server, listener, seq, first, then, normal, cuts):
	stream = HEAD + seq + EVIL + QUIT
	replies = run(server, listener, stream, cuts)
	if listener == "norm":
		first = [NUL] if normal is None else [GOOD if r == BARE else r for r in first]
	assert replies in [first + tail for tail in then], "%r cut at %s" % (seq, list(cuts)[:3])
	bodies = [m.body for m in server.take()]
	want = []
	if GOOD in first:
		ends = then is AS_COMMANDS
		want.append(b"Subject: s\n\nbody" + normal + (b"" if ends else EVIL_LINES))
	if replies[len(first):] == AS_COMMANDS[1]:
		want.append(b"Subject: evil\n\nx\n")
	assert bodies == want


@by_number
def test_no_sequence_but_the_true_one_ends_a_message(server, number, seq, first, then, normal):	# cases 1.1 to 1.22
	check(server, "mx", seq, first, then, normal, ())


@by_number
def test_normalizing_never_ends_a_message_early(server, number, seq, first, then, normal):	# cases 1.1 to 1.22, 1.29
	check(server, "norm", seq, first, then, normal, ())


@by_number
def test_single_octets_get_the_same_replies(server, number, seq, first, then, normal):	# case 1.24
	for listener in ("mx", "norm"):
		check(server, listener, seq, first, then, normal, range(1, len(HEAD + seq + EVIL + QUIT)))


@pytest.mark.parametrize("number", ["1.2", "1.8", "1.10", "1.11", "1.16", "1.21b"])
def test_a_cut_anywhere_gets_the_same_replies(server, number):	# case 1.24
	_, seq, first, then, normal = next(s for s in SEQUENCES if s[0] == number)
	for cut in range(len(HEAD) - 1, len(HEAD + seq) + 3):
		for listener in ("mx", "norm"):
			check(server, listener, seq, first, then, normal, [cut])


def test_the_edge_of_the_servers_buffer_changes_nothing(server):	# case 1.24
	smtp = server.connect(hello=HELLO)
	for size in range(16384 - 6, 16384 + 3):
		line = b"x" * 998 + b"\r\n"
		content = line * (size // 1000)
		content += b"y" * (size - len(content) - 2) + b"\r\n"
		assert len(content) == size
		assert smtp.message(content + b"..\r\n") == GOOD
		assert [m.body for m in server.take()] == [(content + b".\r\n").replace(b"\r\n", b"\n")]


def test_a_lone_dot_is_the_empty_message(smtp, server):	# case 1.23
	assert smtp.message(b"") == GOOD
	assert [m.body for m in server.take()] == [b""]


@pytest.mark.parametrize("line", [b"NOOP\nMAIL FROM:<a@x.test>\r\n", b"EHLO t\n", b"NOOP\n"])
def test_a_command_with_a_bare_lf_closes(smtp, line):	# case 1.25
	smtp.send(line)
	assert smtp.all_replies() == [UNKNOWN]


def test_nobody_is_greeted_on_a_bare_lf(server):	# case 1.25
	smtp = server.connect()
	smtp.send(b"EHLO t\n")
	assert smtp.all_replies() == [UNKNOWN]


@pytest.mark.parametrize("line,code", [
	(b"NOOP\rRSET\r\n", 500), (b"NOOP a\x1bb\r\n", 500), (b"NOOP a\x7fb\r\n", 500), (b"NOOP \x80\xff\r\n", 500),
	(b"HELO a\x00b\r\n", 500), (b"\xc3\xbc\r\n", 500), (b"NOOP\r\r\n", 500),
])
def test_control_and_8_bit_octets_in_a_command_have_no_effect(smtp, line, code):	# case 1.26
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	assert smtp.cmd(line)[0] in (code, 501)
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == RCPT


def test_data_with_a_bare_lf_gets_no_354(smtp):	# case 1.27
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == RCPT
	smtp.send(b"DATA\n")
	assert smtp.all_replies() == [UNKNOWN]


def test_a_normalized_header_ends_where_the_delivered_one_does(server):	# case 1.28
	smtp = server.connect("norm", hello=HELLO)
	assert smtp.message(b"From: a@x.test\n\nFrom: ceo@local.test\r\n\r\n") == GOOD
	assert [m.body for m in server.take()] == [b"From: a@x.test\n\nFrom: ceo@local.test\n\n"]


@pytest.mark.parametrize("length", [998, 999, 1000, 4096, 65536, 1000 * 1000])
def test_long_lines_are_kept_whole(smtp, server, length):	# case 1.30
	content = b"Subject: s\r\n\r\n" + b"a" * length + b"\r\n"
	assert smtp.message(content) == GOOD
	assert [m.body for m in server.take()] == [content.replace(b"\r\n", b"\n")]


def test_nul_in_content_is_refused(smtp, server):	# case 1.31
	assert smtp.message(b"Subject: s\r\n\r\na\x00b\r\n") == NUL
	assert server.take() == []


def test_every_other_octet_is_kept(smtp, server):	# case 1.29
	octets = bytes(c for c in range(1, 256) if c not in b"\r\n")
	content = b"Subject: s\r\n\r\n" + b"".join(b"l" + octets + b"\r\n" for _ in range(300))
	assert smtp.message(content) == GOOD
	assert [m.body for m in server.take()] == [content.replace(b"\r\n", b"\n")]


def test_over_the_limit_is_read_to_its_end_and_refused(smtp, server):	# case 1.32
	line = b"x" * 998 + b"\r\n"
	assert smtp.message(line * 1100, timeout=30) == (552, "5.3.4")
	assert smtp.message(b"Subject: small\r\n\r\n") == GOOD
	assert [m.body for m in server.take()] == [b"Subject: small\n\n"]


def test_exactly_the_limit_is_taken(smtp, server):	# case 1.32
	line = b"x" * 1022 + b"\r\n"
	assert smtp.message(line * 1024) == GOOD
	assert len(server.take()) == 1
	assert smtp.message(line * 1023 + b"x" * 1023 + b"\r\n") == (552, "5.3.4")


def test_far_over_the_limit_is_closed(smtp):	# case 1.32
	smtp.start_data()
	try:
		for _ in range(40):
			smtp.send(b"x" * 65536)
	except OSError:
		pass	# the server has had enough
	try:
		assert smtp.all_replies() in ([(552, "5.3.4")], [])
	except OSError:
		pass
