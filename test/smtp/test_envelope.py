"""SECURITY-CASES 5: the envelope."""

import os

import pytest

import harness

HELLO = b"EHLO t.test\r\n"
MAIL, RCPT, OK = (250, "2.1.0"), (250, "2.1.5"), (250, "2.0.0")
BAD_SENDER, BAD_RCPT, UNKNOWN, RELAY = (501, "5.1.7"), (501, "5.1.3"), (550, "5.1.1"), (550, "5.7.1")
NOT_ASCII, BAD_UTF8, PARAM = (553, "5.6.7"), (501, "5.5.2"), [(501, "5.5.4"), (555, "5.5.4")]


def rcpt(smtp, path, utf8=False):
	assert smtp.cmd(b"MAIL FROM:<a@x.test>" + (b" SMTPUTF8" if utf8 else b"") + b"\r\n") == MAIL
	return smtp.cmd(b"RCPT TO:" + path + b"\r\n")


@pytest.fixture
def recipient(smtp):
	return lambda path, utf8=False: rcpt(smtp, path, utf8)


def test_the_null_sender_is_taken(smtp, server):	# case 5.1
	assert smtp.message(b"x\r\n", sender=b"") == OK
	(m,) = server.take()
	assert m.trace.startswith(b"Return-Path: <>\n")


def test_there_is_no_null_recipient(recipient):	# case 5.1
	assert recipient(b"<>") == BAD_RCPT


@pytest.mark.parametrize("path", [b"<postmaster>", b"<POSTMASTER>", b"<Postmaster@local.test>"])
def test_postmaster_always_gets_mail(smtp, server, path):	# case 5.2
	assert rcpt(smtp, path) == RCPT
	assert smtp.cmd(b"DATA\r\n") == (354, "")
	assert smtp.cmd(b".\r\n") == OK
	assert [m.folder for m in server.take()] == [server.mail + "/local.test/postmaster"]


@pytest.mark.parametrize("path,reply", [
	(b"<@a.test,@b.test:bob@local.test>", RCPT),	# case 5.3
	(b"<@local.test:bob@evil.test>", RELAY),	# case 5.4
	(b"<bob%evil.test@local.test>", UNKNOWN), (b"<evil.test!bob@local.test>", UNKNOWN),	# case 5.5
	(b'<"bob@evil.test"@local.test>', UNKNOWN),
	(b"<bob@[127.0.0.1]>", RELAY), (b"<bob@[IPv6:::1]>", RELAY), (b"<bob@127.0.0.1>", RELAY),	# case 5.6
	(b'<"bob"@local.test>', RCPT),	# case 5.7
	(b'<"b\\ob"@local.test>', RCPT), (b'<"b ob"@local.test>', RCPT), (b'<"">', BAD_RCPT), (b'<""@local.test>', BAD_RCPT),	# 5.8
	(b"<../../x@local.test>", BAD_RCPT), (b"<.bob@local.test>", BAD_RCPT), (b"<bob.@local.test>", BAD_RCPT),	# case 5.9
	(b"<b..b@local.test>", BAD_RCPT),
	(b'<"..\\..\\x"@open.test>', UNKNOWN), (b'<"../../x"@open.test>', UNKNOWN), (b'<"a/b"@open.test>', UNKNOWN),
	(b"<a/b@open.test>", UNKNOWN), (b'<".bob"@open.test>', UNKNOWN), (b'<".."@open.test>', UNKNOWN), (b'<"."@open.test>', UNKNOWN),
	(b"<bob@local.test.>", RCPT), (b"<BOB@LOCAL.TEST>", RCPT), (b"<bob@LoCal.test>", RCPT),	# case 5.11
	(b"<bob@-a.test>", BAD_RCPT), (b"<bob@a-.test>", BAD_RCPT), (b"<bob@a_b.test>", RELAY), (b"<bob@a..test>", BAD_RCPT),	# 5.12
	(b"<bob@>", BAD_RCPT), (b"<@local.test>", BAD_RCPT), (b"<bob>", BAD_RCPT), (b"<bob@@local.test>", BAD_RCPT),
	(b"<bob@local.test..>", BAD_RCPT), (b"bob@local.test", BAD_RCPT), (b"<bob@local.test", BAD_RCPT), (b"<b ob@local.test>", BAD_RCPT),
	(b'<"bob@local.test>', BAD_RCPT), (b'<"bob\\"@local.test>', BAD_RCPT), (b"<bob(x)@local.test>", BAD_RCPT),
	(b"<nobody@local.test>", UNKNOWN), (b"<bob@evil.test>", RELAY), (b"<bob@sub.local.test>", RELAY), (b"<bob@test>", RELAY),
	(b"<bob@xlocal.test>", RELAY),
], ids=lambda v: v.decode() if isinstance(v, bytes) else None)
def test_recipients(recipient, path, reply):	# cases 5.3 to 5.12
	assert recipient(path) == reply


@pytest.mark.parametrize("local,domain,good", [(64, 10, True), (65, 10, False), (1, 255, True), (1, 257, False), (1, 254, True),
	(54, 201, True), (55, 201, True), (64, 255, True), (65, 255, False), (64, 257, False)])
def test_lengths_of_paths(smtp, local, domain, good):	# case 5.10; a trailing dot is not counted
	path = b"<" + b"l" * local + b"@" + harness.domain(domain) + b">"
	assert smtp.cmd(b"MAIL FROM:" + path + b"\r\n") == (MAIL if good else BAD_SENDER)
	assert smtp.cmd(b"RSET\r\n") == OK
	assert rcpt(smtp, path) == (RELAY if good else BAD_RCPT)


def test_64_octets_are_a_mailbox(smtp, server):	# case 5.10
	assert smtp.message(b"x\r\n", rcpts=[b"l" * 64 + b"@open.test"]) == OK
	assert [m.folder for m in server.take()] == [server.mail + "/open.test/" + "l" * 64]


@pytest.mark.parametrize("path", [b"<x>", b"<a@b@c>", b"<@>", b"<a@>", b"<a b@x.test>", b"<.a@x.test>", b"<a@-x.test>", b"<\"\"@x.test>",
	b"<;sleep 66;>", b"<;for i in 0 1 2 3 4 5 6 7 8 9 a b c d;do read r;done;sh;exit 0;>"])
def test_bad_senders(smtp, path):	# cases 5.12, 5.21
	assert smtp.cmd(b"MAIL FROM:" + path + b"\r\n") == BAD_SENDER


def test_a_line_end_inside_quotes_ends_the_line(smtp, server):	# case 5.13
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	smtp.send(b'RCPT TO:<"a\r\nRCPT TO:<x>"@local.test>\r\n')
	assert [code for code, _ in smtp.replies(2)] == [501, 501]
	assert smtp.cmd(b'RCPT TO:<"a\x00b"@local.test>\r\n')[0] in (500, 501)
	assert smtp.cmd(b'RCPT TO:<"a\rb"@local.test>\r\n')[0] in (500, 501)
	assert smtp.cmd(b"DATA\r\n")[0] in (503, 554)


@pytest.mark.parametrize("line", [b"MAIL FROM:<a@x.test> AUTH=x+0Aevil", b"MAIL FROM:<a@x.test> ENVID=+00",
	b"MAIL FROM:<a@x.test> RET=+0D"])
def test_hex_of_controls_in_parameters(smtp, line):	# case 5.14
	assert smtp.cmd(line + b"\r\n") in PARAM


def test_hex_of_controls_in_orcpt(smtp):	# case 5.14
	assert rcpt(smtp, b"<bob@local.test> ORCPT=rfc822;a+0D+0Ab") in PARAM


@pytest.mark.parametrize("path,utf8,reply", [
	(b"<b\xf6b@local.test>", False, NOT_ASCII), (b"<b\xc3\xb6b@local.test>", False, NOT_ASCII),
	(b"<b\xf6b@local.test>", True, BAD_UTF8), (b"<b\xc0\xafb@local.test>", True, BAD_UTF8),
	(b"<b\xed\xa0\x80b@local.test>", True, BAD_UTF8), (b"<b\xf4\x90\x80\x80b@local.test>", True, BAD_UTF8),
	(b"<b\xc3\xbccher@local.test>", True, RCPT), (b"<nob\xc3\xb6dy@local.test>", True, UNKNOWN),
])
def test_utf8_in_recipients(recipient, path, utf8, reply):	# case 5.15
	assert recipient(path, utf8) == reply


def test_utf8_in_the_sender(smtp, server):	# case 5.15
	assert smtp.cmd(b"MAIL FROM:<j\xc3\xbcrgen@b\xc3\xbccher.test>\r\n") == NOT_ASCII
	assert smtp.cmd(b"MAIL FROM:<j\xfcrgen@x.test> SMTPUTF8\r\n") == BAD_UTF8
	assert smtp.cmd(b"MAIL FROM:<j\xc3\xbcrgen@b\xc3\xbccher.test> SMTPUTF8\r\n") == MAIL
	assert smtp.cmd(b"RCPT TO:<b\xc3\xbccher@local.test>\r\n") == RCPT
	assert smtp.cmd(b"DATA\r\n") == (354, "")
	assert smtp.cmd(b".\r\n") == OK
	(m,) = server.take()
	assert m.trace.startswith(b"Return-Path: <j\xc3\xbcrgen@xn--bcher-kva.test>\n")
	assert b" with UTF8SMTP id " in m.trace


@pytest.mark.parametrize("path", [b"<\xd0\xb0lice@local.test>", b"<b\xe2\x80\x8bob@local.test>", b"<\xef\xbd\x82ob@local.test>",
	b"<bob\xe2\x80\xae@local.test>"])
def test_look_alikes_are_others(smtp, server, path):	# case 5.16
	assert rcpt(smtp, path, True) == UNKNOWN
	line = server.wait_log("rcpt_refused", count=1)
	assert "\u200b" not in server.text() and "\u202e" not in server.text()
	assert line["code"] == "550"


def test_both_forms_of_a_domain_are_one(start):	# case 5.17
	server = start({"smtpd": {"domains": "xn--bcher-kva.test, m\u00fcnchen.test"}})
	smtp = server.connect(hello=HELLO)
	assert smtp.cmd(b"MAIL FROM:<a@x.test> SMTPUTF8\r\n") == MAIL
	for domain in (b"b\xc3\xbccher.test", b"xn--bcher-kva.test", b"XN--BCHER-KVA.TEST", b"B\xc3\xbccher.TEST"):
		assert smtp.cmd(b"RCPT TO:<bob@" + domain + b">\r\n") == RCPT
	assert smtp.cmd(b"RCPT TO:<bob@xn--mnchen-3ya.test>\r\n") == RCPT
	assert smtp.cmd(b"DATA\r\n") == (354, "")
	assert smtp.cmd(b".\r\n") == OK
	assert sorted(m.folder for m in server.take()) == [server.mail + "/xn--bcher-kva.test/bob", server.mail + "/xn--mnchen-3ya.test/bob"]


def test_a_repeated_recipient_gets_one_copy(smtp, server):	# case 5.18
	assert smtp.message(b"x\r\n", rcpts=[b"bob@local.test", b"bob@local.test", b"BOB@Local.Test", b'"bob"@local.test.',
		b"alice@local.test"]) == OK
	messages = server.take()
	assert sorted(m.folder for m in messages) == [server.mail + "/local.test/alice", server.mail + "/local.test/bob"]
	assert len(set(m.id for m in messages)) == 1


def test_with_several_recipients_none_is_told_of_the_others(smtp, server):	# case 9.10
	assert smtp.message(b"x\r\n", rcpts=[b"bob@local.test", b"carol@other.test"]) == OK
	for m in server.take():
		name = os.path.basename(m.folder).encode()
		assert m.raw.count(b"Delivered-To: " + name) == 1 and m.raw.count(b"Delivered-To:") == 1
		assert b"\tfor <" not in m.trace
		assert (b"carol" in m.raw) == (name == b"carol")


def test_one_recipient_too_many(smtp, server):	# case 5.19
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	for i in range(10):
		assert smtp.cmd(b"RCPT TO:<u%d@open.test>\r\n" % i) == RCPT
	assert smtp.cmd(b"RCPT TO:<u10@open.test>\r\n") == (452, "4.5.3")
	assert smtp.cmd(b"DATA\r\n") == (354, "")
	assert smtp.cmd(b".\r\n") == OK
	assert len(server.take()) == 10


def test_so_many_octets_of_recipients(start):
	"""More than a Maildir writer takes, or the environment of a command, would be refused with the message, and then again and again."""
	domain = ".".join(4 * ["d" * 60]) + ".test"
	server = start({"smtpd": {"domains": domain}, "smtpd.limits": {"max_recipients": "1000"}, "smtpd.delivery": {"create": "yes"}})
	smtp = server.connect(hello=b"EHLO t.test\r\n")
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	taken, reply = 0, RCPT
	while taken < 1000 and reply == RCPT:
		reply = smtp.cmd(b"RCPT TO:<%064d@%s>\r\n" % (taken, domain.encode()))
		taken += reply == RCPT
	assert reply == (452, "4.5.3") and 180 < taken < 200
	assert smtp.cmd(b"DATA\r\n") == (354, "")
	assert smtp.cmd(b".\r\n") == OK
	assert len(server.take()) == taken


def test_guessing_recipients_hits_the_error_limit(start, place):	# case 5.20
	import conftest
	server = start({"smtpd.delivery": {"recipients_file": conftest.recipients_file(place)}, "smtpd.limits": {"max_errors": "3"}})
	smtp = server.connect(hello=HELLO)
	smtp.send(b"MAIL FROM:<a@x.test>\r\n" + b"".join(b"RCPT TO:<g%d@local.test>\r\n" % i for i in range(1000)))
	assert smtp.all_replies() == [MAIL] + [UNKNOWN] * 3 + [(421, "4.7.0")]


def test_unknown_recipients_may_be_told_at_the_end(start, place):	# case 5.20
	import conftest
	server = start({"smtpd": {"recipient_rejection": "data"}, "smtpd.delivery": {"recipients_file": conftest.recipients_file(place)}})
	smtp = server.connect(hello=HELLO)
	assert smtp.message(b"x\r\n", rcpts=[b"g%d@local.test" % i for i in range(5)] + [b"bob@local.test"]) == UNKNOWN
	assert server.take() == []
	assert smtp.message(b"x\r\n") == OK
	smtp.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<bob@evil.test>\r\n")
	assert smtp.replies(2) == [MAIL, RELAY]


# ---- what a command gets ----

@pytest.fixture(scope="module")
def argument_server(place):
	"""The command writes its arguments and environment, NUL-terminated, into files named by the message's id."""
	server = harness.Server(place)
	show = harness.script(server.folder + "/show", 'exec 2>"%s/errors"\ncat >/dev/null\nprintf "%%s\\0" "$@" >"%s/args-$MESSAGE_ID"\n'
		'env -0 >"%s/env-$MESSAGE_ID"\n' % ((server.folder,) * 3))
	command = "%s %%{sender} %%{recipients} '$HOME %% `x`' %%{id} %%{auth_user} %%{client_address}" % show
	server.configure({"smtpd.delivery": {"command": command}})
	server.start()
	yield server
	server.stop()


@pytest.fixture
def arguments(argument_server):
	"""arguments(sender, rcpts) -> reply, argv, environment"""
	def run(sender=b"a@x.test", rcpts=(b"bob@local.test",), helo=b"t.test"):
		smtp = argument_server.connect(hello=b"EHLO " + helo + b"\r\n")
		smtp.start_data(sender, rcpts)
		reply = smtp.ask(b"x\r\n.\r\n")
		if reply.pair != OK:
			return reply.pair, None, None
		id = argument_server.promised[-1]
		with open("%s/args-%s" % (argument_server.folder, id), "rb") as f:
			argv = f.read().split(b"\0")[:-1]
		with open("%s/env-%s" % (argument_server.folder, id), "rb") as f:
			env = dict(v.split(b"=", 1) for v in f.read().split(b"\0")[:-1])
		return reply.pair, argv, env
	yield run
	argument_server.disconnect_all()
	for folder in (argument_server.folder, "/", "/tmp"):
		assert not os.path.exists(os.path.join(folder, "pwned"))


def test_arguments_and_environment(arguments, argument_server):	# case 12.10
	reply, argv, env = arguments(b"s@x.test", [b"bob@local.test", b"carol@other.test"])
	id = argument_server.promised[-1].encode()
	assert reply == OK
	assert argv == [b"s@x.test", b"bob@local.test", b"carol@other.test", b"$HOME % `x`", id, b"", b"127.0.0.1"]
	for name in (b"PWD", b"OLDPWD", b"SHLVL", b"_"):	# the shell's own
		env.pop(name, None)
	size = env.pop(b"MESSAGE_SIZE")
	assert int(size) > 100
	assert env.pop(b"PATH").startswith(b"/")
	assert env == {b"SENDER": b"s@x.test", b"RECIPIENTS": b"bob@local.test carol@other.test", b"CLIENT_ADDRESS": b"127.0.0.1",
		b"CLIENT_HELO": b"t.test", b"AUTH_USER": b"", b"TLS_VERSION": b"", b"TLS_CIPHER": b"", b"TLS_SERVER_NAME": b"", b"MESSAGE_ID": id,
		b"LISTENER": b"mx", b"BODY": b"7BIT", b"SMTPUTF8": b""}


@pytest.mark.parametrize("local", [b"$(touch${IFS}pwned)", b"`touch`", b"${RECIPIENT}", b"%{id}", b"%r", b"a'b", b"{a}", b"*", b"a|b", b"a&b",
	b"a=b", b"~root", b"#x", b"!x"])
def test_values_are_never_expanded(arguments, local):	# cases 5.22, 5.25
	quoted = b'"' + local + b'"' if b"(" in local or b"," in local else local
	reply, argv, env = arguments(quoted + b"@x.test", [quoted + b"@local.test"])
	assert reply == OK
	assert argv[0] == quoted + b"@x.test" and argv[1] == quoted + b"@local.test" and len(argv) == 6
	assert env[b"SENDER"] == quoted + b"@x.test" and env[b"RECIPIENT"] == quoted + b"@local.test"


@pytest.mark.parametrize("path,reply", [(b"<${run{touch pwned}}@localhost>", BAD_RCPT), (b"<${run{\\x2Fbin\\x2Fsh}}@local.test>", BAD_RCPT),
	(b'<"${run{touch pwned}}"@localhost>', RELAY), (b"<-oQpwned@local.test>", UNKNOWN), (b"<--help@local.test>", UNKNOWN),
	(b'<"-x"@local.test>', UNKNOWN), (b'<"() { :;}; touch pwned"@local.test>', UNKNOWN)])
def test_recipients_no_command_is_told_of(argument_server, arguments, path, reply):	# cases 5.22, 5.23, 5.24
	smtp = argument_server.connect(hello=HELLO)
	assert rcpt(smtp, path) == reply


@pytest.mark.parametrize("sender", [b'"() { :;}; touch pwned"@x.test', b"-oQpwned@x.test"])
def test_senders_no_command_is_told_of(arguments, sender):	# cases 5.23, 5.24
	assert arguments(sender)[0][0] == 550


def test_an_empty_sender_is_an_empty_argument(arguments):	# case 5.25
	reply, argv, env = arguments(b"")
	assert reply == OK and argv[0] == b"" and argv[1] == b"bob@local.test" and env[b"SENDER"] == b""
