"""SECURITY-CASES 12: the delivery command."""

import os
import re
import shutil
import signal
import threading
import time

import pytest

import harness
from test_metrics import METRICS, scrape

HELLO = b"EHLO t.test\r\n"
OK, LATER, CONFIGURATION = (250, "2.0.0"), (451, "4.3.0"), (451, "4.3.5")
EXITS = {0: OK, 65: (550, "5.6.0"), 67: (550, "5.1.1"), 68: (550, "5.1.2"), 77: (550, "5.7.1"), 78: CONFIGURATION,
	100: (554, "5.3.0"), 126: CONFIGURATION, 127: CONFIGURATION}
CONTENT = b"Subject: s\r\n\r\nx\r\n"


def records(server):
	try:
		with open(server.record) as f:
			return [dict(w.split("=", 1) for w in line.split(" ") if "=" in w) for line in f.read().splitlines()]
	except FileNotFoundError:
		return []


def deliver(server, mode, content=CONTENT, timeout=harness.PATIENCE):
	smtp = server.connect(hello=HELLO)
	return smtp.message(content, rcpts=[mode + b"@local.test"], timeout=timeout)


@pytest.fixture
def command(commands):
	before = len(records(commands))
	yield commands
	commands.disconnect_all()
	commands.check_census()
	commands.check_sanitizer()
	for line in records(commands)[before:]:
		assert line["eof"] == "yes" or line["mode"] in ("no-read", "half-read", "stubborn")	# I3


def test_every_exit_status(command):	# case 12.1
	for status in range(256):
		assert deliver(command, b"exit-%d" % status) == EXITS.get(status, LATER), status
		assert command.wait_log("message", detail="exit %d" % status, id=records(command)[-1]["id"])


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6, 8, 9, 11, 13, 14, 15, 24, 25, 31])
def test_every_signal(command, number):	# case 12.1, 12.8
	assert deliver(command, b"signal-%d" % number) == LATER
	command.wait_log("message", detail="signal %d" % number)


def test_a_command_need_not_read(command):	# case 12.2
	line = b"x" * 998 + b"\r\n"
	assert deliver(command, b"no-read", line * 20000, 30) == OK
	command.wait_log("stdin_unread")


def test_commands_that_never_end_harm_nobody(command):	# cases 12.3, 12.8
	"""Half-read, drip and a stopped one end at the timeout; the stubborn one is killed five seconds later."""
	modes = [b"half-read", b"drip", b"stop", b"stubborn"]
	clients = []
	for mode in modes:
		smtp = command.connect(hello=HELLO)
		smtp.start_data(rcpts=[mode + b"@local.test"])
		smtp.send(b"x" * 900 + b"\r\n.\r\n")
		clients.append(smtp)
	begin = time.monotonic()
	assert deliver(command, b"digest") == OK
	assert time.monotonic() - begin < 0.5
	for smtp in clients:
		assert smtp.reply(20).pair == LATER
	assert time.monotonic() - begin < 12
	command.wait_log("message", count=4, detail="timeout")


def test_a_grandchild_delays_nothing(command):	# cases 12.4, 12.13
	begin = time.monotonic()
	assert deliver(command, b"background-child") == OK
	assert time.monotonic() - begin < 1
	for pid in harness.CENSUS.strangers():	# left to itself, and not ours to end
		os.kill(pid, signal.SIGKILL)


def test_the_exit_counts_not_the_end_of_output(command):	# case 12.5
	begin = time.monotonic()
	assert deliver(command, b"close-fds") == OK
	assert time.monotonic() - begin > 0.9


def test_floods_of_output_are_drained(command):	# case 12.6
	assert deliver(command, b"spam-output", b"x" * 998 + b"\r\n" * 1, 20) == OK


def test_one_recipient_at_a_time(command):	# case 12.14
	smtp = command.connect(hello=HELLO)
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
	assert smtp.cmd(b"RCPT TO:<exit-0@local.test>\r\n") == (250, "2.1.5")
	assert smtp.cmd(b"RCPT TO:<exit-75@local.test>\r\n") == (452, "4.5.3")
	assert smtp.cmd(b"DATA\r\n") == (354, "")
	assert smtp.cmd(b".\r\n") == OK


def test_a_client_that_leaves_is_delivered_once(command):	# case 12.15
	before = len(records(command))
	smtp = command.connect(hello=HELLO)
	smtp.start_data(rcpts=[b"slow-200@local.test"])
	smtp.send(CONTENT + b".\r\n")
	harness.until(lambda: len(records(command)) > before, "the command's start")
	smtp.reset()
	id = records(command)[-1]["id"]
	command.wait_log("client_gone", id=id)
	assert command.wait_log("message", id=id)["result"] == "delivered"
	assert len(records(command)) == before + 1


def hits(server, limit):
	return int(scrape(server).get('smtpd_limit_hits_total{limit="%s"}' % limit, 0))


def test_who_leaves_before_its_turn_is_not_delivered(start):	# cases 12.15, 13
	"""And counts as a connection until then: what a crowd leaves behind has a bound."""
	def prepare(server):
		return {"smtpd.delivery": {"command": harness.script(os.path.join(server.folder, "deliver"), """\
cat >/dev/null
echo "$SENDER" >>"$0.began"
while [ ! -e "$0.go" ]; do sleep 0.02; done
""")}, "smtpd.limits": {"max_deliveries": "1", "max_connections": "4"}}
	server = start(METRICS, prepare=prepare)
	began = os.path.join(server.folder, "deliver.began")
	first = server.connect(hello=HELLO)
	first.start_data(b"first@x.test")
	first.send(CONTENT + b".\r\n")
	harness.until(lambda: os.path.exists(began), "the command's start")
	for i in range(1, 5):
		smtp = server.connect(hello=HELLO)
		smtp.start_data(b"gone@x.test")
		smtp.send(CONTENT + b".\r\n")
		harness.until(lambda: hits(server, "max_deliveries") == i, "the wait for its turn")
		smtp.reset()
	late = server.connect(hello=HELLO)
	# the agent hears of who leaves from the front, a little later
	harness.until(lambda: late.cmd(b"MAIL FROM:<late@x.test>\r\n") == (451, "4.3.2") or late.cmd(b"RSET\r\n") != OK, "no room")
	assert hits(server, "max_connections") == 1
	with open(began[:-len("began")] + "go", "w"):
		pass
	assert first.reply(10).pair == OK
	server.wait_log("client_gone", count=4)
	assert server.wait_log("message", count=5)["detail"] == "client gone before its turn"
	assert late.message(CONTENT, b"late@x.test") == OK
	with open(began, encoding="ascii") as f:
		assert f.read() == "first@x.test\nlate@x.test\n"


def test_no_part_of_a_message_is_delivered(command):	# case 12.17
	before = len(records(command))
	stream = CONTENT + b".\r\n"
	for cut in range(len(stream)):
		smtp = command.connect(hello=HELLO)
		smtp.start_data(rcpts=[b"digest@local.test"])
		smtp.send(stream[:cut])
		if cut % 2:
			smtp.reset()
		else:
			smtp.finish()
	assert deliver(command, b"digest") == OK
	assert len(records(command)) == before + 1


def test_deliveries_run_side_by_side(command):	# case 12.18
	begin = time.monotonic()
	clients = []
	for _ in range(10):
		smtp = command.connect(hello=HELLO)
		smtp.start_data(rcpts=[b"slow-300@local.test"])
		smtp.send(CONTENT + b".\r\n")
		clients.append(smtp)
	assert [smtp.reply().pair for smtp in clients] == [OK] * 10
	assert time.monotonic() - begin < 2


def test_the_command_gets_the_message_as_it_is(start, place):
	server = start(prepare=lambda s: {"smtpd.delivery": {
		"command": harness.script(s.folder + "/keep", 'cat >"%s/got-$MESSAGE_ID"\n' % s.folder)}})
	smtp = server.connect(hello=HELLO)
	octets = bytes(c for c in range(1, 256) if c not in b"\r\n")
	content = b"Subject: s\r\n\r\n..dot\r\n" + octets + b"\r\n" + b"y" * 100000 + b"\r\nno end\r\n"
	assert smtp.message(content) == OK
	got = harness.Message("%s/got-%s" % (server.folder, server.promised.pop()))
	assert got.body == content.replace(b"\r\n", b"\n").replace(b"\n..", b"\n.")


@pytest.fixture(scope="module")
def saying(place):
	"""A command that prints the file out and exits with the status in the file code."""
	server = harness.Server(place)
	say = harness.script(server.folder + "/say", 'cat >/dev/null\ncat "{0}/out"\nexit $(cat "{0}/code")\n'.format(server.folder))
	server.configure({"smtpd.delivery": {"command": say}})
	server.start()
	yield server
	server.stop()


@pytest.mark.parametrize("output,code,reply", [
	(b"4.2.2 Mailbox full\n", 75, (451, "4.2.2")), (b"5.2.2 Mailbox full\n", 75, (550, "5.2.2")), (b"5.1.1 gone\r\n", 1, (550, "5.1.1")),
	(b"4.2.2 Mailbox full", 67, (451, "4.2.2")), (b"5.1.1 ignored\n", 0, OK), (b"2.0.0 Ok\n", 75, LATER), (b"250 2.0.0 fake\n", 75, LATER),
	(b"garbage\n5.1.1 second line\n", 75, LATER), (b"", 75, LATER), (b"\0\1\2" * 1000, 75, LATER), (b"3.1.1 x\n", 75, LATER),
	(b"5.1.1000 x\n", 75, LATER), (b"55.1.1 x\n", 75, LATER),
])
def test_the_first_line_decides(saying, output, code, reply):	# case 12.7
	with open(saying.folder + "/out", "wb") as f:
		f.write(output)
	with open(saying.folder + "/code", "w") as f:
		f.write("%d\n" % code)
	smtp = saying.connect(hello=HELLO)
	smtp.start_data()
	got = smtp.ask(b"x\r\n.\r\n")
	assert got.pair == reply
	if b"Mailbox full" in output:
		assert got.text == [output.strip()]
	assert smtp.cmd(b"NOOP\r\n") == OK
	saying.promised = []


@pytest.mark.parametrize("text", [b"5.7.1 a\rb\x1b[31mc\xff\xc3\xbc\x00d", b"5.7.1 " + b"x" * 10000, b"5.7.1 a\r\n250 2.0.0 Ok: forged",
	b"5.7.1 a\r250 2.0.0 fake"])
def test_what_a_command_says_is_one_printable_line(saying, text):	# case 12.7
	with open(saying.folder + "/out", "wb") as f:
		f.write(text + b"\n")
	with open(saying.folder + "/code", "w") as f:
		f.write("1\n")
	smtp = saying.connect(hello=HELLO)
	smtp.start_data()
	got = smtp.ask(b"x\r\n.\r\n")	# Reply checks each line's octets and length
	assert got.pair == (550, "5.7.1") and len(got.lines) == 1
	assert smtp.cmd(b"NOOP\r\n") == OK
	assert saying.promised == []
	assert all("\x1b" not in line and "\r" not in line for line in saying.lines)


def broken(folder, how):
	path = os.path.join(folder, "command")
	if os.path.islink(path) or os.path.isfile(path):
		os.remove(path)
	if how == "not executable":
		harness.script(path, "exit 0\n")
		os.chmod(path, 0o644)
	elif how == "wrong architecture":
		with open(path, "wb") as f:
			f.write(b"\x7fELF\x02\x01\x01" + b"\0" * 200)
		os.chmod(path, 0o755)
	elif how == "no interpreter":
		with open(path, "wb") as f:
			f.write(b"#!/nowhere/sh\nexit 0\n")
		os.chmod(path, 0o755)
	elif how == "directory":
		os.mkdir(path)
	elif how == "loop":
		os.symlink(path, path)
	return path


@pytest.mark.parametrize("how", ["missing", "not executable", "wrong architecture", "no interpreter", "directory", "loop"])
def test_a_command_that_cannot_start(start, how):	# case 12.9
	server = start(prepare=lambda s: {"smtpd.delivery": {"command": harness.script(s.folder + "/command", "cat >/dev/null\n")}})
	path = broken(server.folder, how)
	smtp = server.connect(hello=HELLO)
	assert smtp.message(CONTENT) == CONFIGURATION
	assert path in server.wait_log("command_failed")["command"]
	smtp = server.connect(hello=HELLO)
	assert smtp.cmd(b"NOOP\r\n") == OK


def test_what_a_command_inherits(start, helper):	# case 12.10
	def prepare(server):
		wrapper = harness.script(server.folder + "/wrapper", 'exec "%s" - env "$@" >"%s/env" 2>&1\n' % (helper, server.folder))
		return {"smtpd.delivery": {"command": wrapper + " %{recipients}"}}
	server = start(prepare=prepare, environ={"SECRET": "s"})
	smtp = server.connect(hello=HELLO)
	assert smtp.message(CONTENT) == OK
	server.promised.clear()
	with open(server.folder + "/env") as f:
		seen = dict(line.rstrip("\n").split("=", 1) for line in f)
	assert seen["fds"] == " 0 1 2"
	assert seen["mask"] == "" and seen["ignored"] == ""
	assert seen["umask"] == "077" and seen["cwd"] == "/" and seen["leader"] == "yes"
	assert seen["arg3"] == "[bob@local.test]"
	allowed = set("PATH SENDER RECIPIENT RECIPIENTS CLIENT_ADDRESS CLIENT_HELO AUTH_USER TLS_VERSION TLS_CIPHER TLS_SERVER_NAME MESSAGE_ID "
		"MESSAGE_SIZE LISTENER BODY SMTPUTF8 DSN_RET DSN_ENVID DSN_NOTIFY DSN_ORCPT PWD OLDPWD SHLVL _".split())
	assert set(k[4:] for k in seen if k.startswith("env ")) <= allowed


def test_no_more_commands_than_allowed(start, helper):	# case 12.12
	server = start({"smtpd.delivery": {"command": "%s - %%{user}" % helper}, "smtpd.limits": {"max_deliveries": "1"},
		"smtpd.timeouts": {"delivery": "400ms"}})
	first, second = server.connect(hello=HELLO), server.connect(hello=HELLO)
	first.start_data(rcpts=[b"stubborn@local.test"])
	first.send(CONTENT + b".\r\n")
	second.start_data(rcpts=[b"exit-0@local.test"])
	begin = time.monotonic()
	assert second.cmd(CONTENT + b".\r\n") == (451, "4.3.2")
	assert time.monotonic() - begin < 3
	assert second.cmd(b"NOOP\r\n") == OK
	first.reset()


def test_one_run_for_all_recipients(start, helper):	# case 12.14
	server = start(prepare=lambda s: {"smtpd.delivery": {"command": "%s %s digest %%{recipients}" % (helper, s.record)}})
	smtp = server.connect()
	assert not any(b"LIMITS" in line for line in smtp.ask(HELLO).text)
	assert smtp.message(CONTENT, rcpts=[b"bob@local.test", b"carol@other.test", b"dave@open.test"]) == OK
	server.promised.clear()
	with open(server.record) as f:
		(line,) = f.readlines()
	assert "rcpt=bob@local.test carol@other.test dave@open.test" in line


def test_only_who_is_unknown_is_told_so_at_the_end(start, helper):
	server = start({"smtpd": {"recipient_rejection": "data"}}, prepare=lambda s: {"smtpd.delivery": {
		"recipient_command": "%s %s %%{user}" % (helper, s.record)}})
	smtp = server.connect(hello=HELLO)
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
	assert smtp.cmd(b"RCPT TO:<exit-77@local.test>\r\n") == (550, "5.7.1")
	assert smtp.cmd(b"RCPT TO:<exit-68@local.test>\r\n") == (250, "2.1.5")
	assert smtp.cmd(b"DATA\r\n") == (354, "")
	assert smtp.cmd(CONTENT + b".\r\n") == (550, "5.1.1")


@pytest.mark.parametrize("status,reply", [(0, (250, "2.1.5")), (67, (550, "5.1.1")), (75, LATER), (1, LATER), (127, CONFIGURATION)])
def test_recipient_command(start, helper, status, reply):	# case 11.60
	server = start({"smtpd.delivery": {"recipient_command": "%s - exit-%d %%{recipient}" % (helper, status)}})
	smtp = server.connect(hello=HELLO)
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == reply


def test_a_recipient_command_that_hangs(start, helper):	# case 11.60
	server = start({"smtpd.delivery": {"recipient_command": "%s - half-read %%{recipient}" % helper},
		"smtpd.timeouts": {"delivery": "300ms"}})
	smtp, other = server.connect(hello=HELLO), server.connect(hello=HELLO)
	smtp.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<bob@local.test>\r\n")
	assert other.cmd(b"NOOP\r\n") == OK
	assert smtp.replies(2) == [(250, "2.1.0"), LATER]


def directory(start, says, **sections):
	"""A server whose recipient_command does what a line of shell says, and a function that says something else."""
	def say(line):
		with open(server.record, "w") as f:
			f.write(line)

	def prepare(s):
		return {"smtpd.delivery": dict({"recipient_command": "/bin/sh -c '. %s'" % s.record}, **sections.pop("delivery", {})), **sections}
	server = start(prepare=prepare)
	say(says)
	smtp = server.connect(hello=HELLO)

	def rcpt(who):
		smtp.send(b"RSET\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<%s@local.test>\r\n" % who)
		return smtp.replies(3)[2]
	return say, rcpt


def test_what_recipient_command_has_said_stays(start):	# case 11.60
	say, rcpt = directory(start, "exit 0", **{"smtpd.timeouts": {"delivery": "300ms"}})
	assert rcpt(b"bob") == (250, "2.1.5")
	say("exit 67")
	assert rcpt(b"nobody") == (550, "5.1.1")
	say("exec sleep 1000")
	assert rcpt(b"carol") == LATER		# not known, not unknown
	assert rcpt(b"bob") == (250, "2.1.5") and rcpt(b"nobody") == (550, "5.1.1")
	say("exit 0")
	assert rcpt(b"carol") == (250, "2.1.5")	# what failed was not kept


def test_recipient_cache_off(start):
	say, rcpt = directory(start, "exit 0", delivery={"recipient_cache": "0s"})
	assert rcpt(b"bob") == (250, "2.1.5")
	say("exit 67")
	assert rcpt(b"bob") == (550, "5.1.1")


# ---- Maildir ----

def test_a_maildir_is_as_it_should_be(start):
	server = start()
	smtp = server.connect(hello=HELLO)
	assert smtp.message(CONTENT) == OK
	(m,) = server.take()
	folder = server.mail + "/local.test/bob"
	assert sorted(os.listdir(folder)) == ["cur", "new", "tmp"]
	assert os.listdir(folder + "/tmp") == [] and os.listdir(folder + "/cur") == []
	assert os.stat(m.path).st_mode & 0o777 == 0o600 and os.stat(folder).st_mode & 0o777 == 0o700
	name = os.path.basename(m.path)
	assert re.match(r"^\d+\.[\w]+\.mx\.local\.test,S=%d$" % len(m.raw), name), name
	trace = m.trace.decode().split("\n")
	assert trace[0] == "Return-Path: <a@x.test>" and trace[1] == "Delivered-To: bob@local.test"
	assert trace[2] == "Received: from t.test ([127.0.0.1])"
	assert trace[3] == "\tby mx.local.test with ESMTP id " + m.id
	assert trace[4] == "\tfor <bob@local.test>;"
	assert re.match(r"^\t\w{3}, \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d \+0000$", trace[5])
	assert max(map(len, trace)) < 78


def test_only_folders_that_are_there_get_mail(start):
	server = start({"smtpd.delivery": {"create": "no"}})
	os.makedirs(server.mail + "/local.test/bob/new")
	for sub in ("tmp", "cur"):
		os.mkdir(server.mail + "/local.test/bob/" + sub)
	if harness.ROOT:
		for folder, _, _ in os.walk(server.mail):
			os.chown(folder, harness.NOBODY, harness.NOBODY)
	smtp = server.connect(hello=HELLO)
	smtp.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<alice@local.test>\r\nRCPT TO:<bob@local.test>\r\nDATA\r\n")
	assert smtp.replies(4) == [(250, "2.1.0"), (550, "5.1.1"), (250, "2.1.5"), (354, "")]
	assert smtp.cmd(CONTENT + b".\r\n") == OK
	shutil.rmtree(server.mail + "/local.test/bob")
	server.promised.clear()
	assert deliver(server, b"bob") == LATER	# it was just there, and the answer is remembered


def test_all_recipients_or_none(start):
	"""One folder cannot be written: the other has nothing either."""
	server = start()
	os.makedirs(server.mail + "/local.test")
	with open(server.mail + "/local.test/alice", "w"):
		pass	# a file where a folder should be
	if harness.ROOT:
		os.chown(server.mail + "/local.test", harness.NOBODY, harness.NOBODY)
	smtp = server.connect(hello=HELLO)
	assert smtp.message(CONTENT, rcpts=[b"bob@local.test", b"alice@local.test", b"carol@local.test"]) == LATER
	assert server.take() == []
	assert smtp.message(CONTENT, rcpts=[b"bob@local.test"]) == OK


def test_many_clients_at_once(server):	# case 12.18
	def client(number):
		smtp = harness.Smtp(server, server.addresses["mx"], "mx")
		assert smtp.reply().code == 220
		assert smtp.cmd(HELLO)[0] == 250
		for i in range(20):
			assert smtp.message(b"Subject: %d-%d\r\n\r\n" % (number, i), rcpts=[b"u%d@open.test" % number]) == OK
		smtp.finish()
		done.append(number)
	done = []
	threads = [threading.Thread(target=client, args=(n,)) for n in range(10)]
	for t in threads:
		t.start()
	for t in threads:
		t.join(30)
	assert sorted(done) == list(range(10))
	assert sorted(m.body for m in server.take()) == sorted(b"Subject: %d-%d\n\n" % (n, i) for n in range(10) for i in range(20))
