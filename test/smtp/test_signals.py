"""SECURITY-CASES 14: signals, reload, processes that die."""

import os
import signal
import subprocess
import time

import pytest

import harness

HELLO = b"EHLO t.test\r\n"
OK, SHUTDOWN, LATER = (250, "2.0.0"), (421, "4.3.2"), (451, "4.3.0")
CONTENT = b"Subject: s\r\n\r\nx\r\n"


def ended(server, within=harness.PATIENCE):
	server.process.wait(within)
	server.stop(number=None)


@pytest.fixture(params=[signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def end_signal(request):
	return request.param


def test_an_idle_server_ends_at_once(start, end_signal):	# case 14.1
	server = start()
	begin = time.monotonic()
	server.stop(number=end_signal)
	assert time.monotonic() - begin < 2


@pytest.mark.parametrize("phase", ["banner", "hello", "mail", "rcpt", "data", "chunk"])
def test_an_end_in_each_phase(start, phase, end_signal):	# cases 14.1, 14.2
	"""Who has begun a message may finish it; all others are told at once."""
	server = start()
	smtp = server.connect()
	if phase != "banner":
		assert smtp.cmd(HELLO)[0] == 250
	if phase in ("mail", "rcpt", "data", "chunk"):
		assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
	if phase in ("rcpt", "data", "chunk"):
		assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == (250, "2.1.5")
	if phase == "data":
		assert smtp.cmd(b"DATA\r\n") == (354, "")
	if phase == "chunk":
		assert smtp.cmd(b"BDAT 1\r\nx") == OK
	server.send_signal(end_signal)
	server.wait_log("stopping")
	if phase in ("banner", "hello"):
		assert smtp.all_replies() == [SHUTDOWN]
		return ended(server)
	if phase == "mail":
		assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == (250, "2.1.5")
	if phase in ("mail", "rcpt"):
		assert smtp.cmd(b"DATA\r\n") == (354, "")
	smtp.send(b"BDAT 0 LAST\r\n" if phase == "chunk" else CONTENT + b".\r\n")
	assert smtp.all_replies() == [OK, SHUTDOWN]
	ended(server)
	assert len(server.take()) == 1


def test_an_end_during_a_delivery(start, helper, end_signal):	# case 14.2
	server = start(prepare=lambda s: {"smtpd.delivery": {"command": "%s %s slow-400" % (helper, s.record)}})
	smtp = server.connect(hello=HELLO)
	smtp.start_data()
	smtp.send(CONTENT + b".\r\n")
	harness.until(lambda: os.path.exists(server.record), "the command's start")
	server.send_signal(end_signal)
	assert smtp.all_replies() == [OK, SHUTDOWN]
	ended(server)


def test_sessions_that_go_on_too_long_are_cut(start):	# case 14.1
	server = start({"smtpd.timeouts": {"shutdown": "300ms"}})
	smtp = server.connect(hello=HELLO)
	smtp.start_data()
	smtp.send(b"half a message\r\n")
	begin = time.monotonic()
	server.send_signal(signal.SIGTERM)
	assert smtp.all_replies() == [SHUTDOWN]
	ended(server)
	assert time.monotonic() - begin < 5
	assert server.take() == []


def test_the_second_signal_ends_it_now(start, helper):	# case 14.1
	server = start(prepare=lambda s: {"smtpd.delivery": {"command": "%s %s slow-20000" % (helper, s.record)}})
	one, two = server.connect(hello=HELLO), server.connect(hello=HELLO)
	one.start_data()
	two.start_data()
	two.send(CONTENT + b".\r\n")
	harness.until(lambda: os.path.exists(server.record), "the command's start")
	begin = time.monotonic()
	server.send_signal(signal.SIGTERM)
	server.wait_log("stopping")
	server.send_signal(signal.SIGTERM)
	ended(server)
	assert time.monotonic() - begin < 8
	for smtp in (one, two):
		assert OK not in smtp.all_replies()


def test_nobody_is_taken_while_it_ends(start):	# case 14.1
	server = start()
	smtp = server.connect(hello=HELLO)
	smtp.start_data()
	server.send_signal(signal.SIGTERM)
	server.wait_log("stopping")

	def refused():
		try:
			harness.Smtp(server, server.addresses["mx"], "mx").close()
		except ConnectionRefusedError:
			return True
		except ConnectionResetError:	# it was in the queue when the port closed
			pass
		return False
	harness.until(refused, "a closed port")
	smtp.send(b".\r\n")
	assert smtp.all_replies() == [OK, SHUTDOWN]
	ended(server)


@pytest.mark.parametrize("pause", [0, 0.005, 0.02, 0.04])
def test_an_end_right_after_a_reload(start, pause):	# cases 14.1, 14.4
	server = start()
	server.reload({})
	server.wait_log("reload", result="success")
	time.sleep(pause)
	begin = time.monotonic()
	server.stop()
	assert time.monotonic() - begin < 3


def test_an_end_while_the_old_processes_are_reaped(start):	# cases 14.1, 14.4
	"""Both of the old processes are dead before the master looks: the agent, the older one, is seen first."""
	server = start()
	server.ready()
	old = server.fronts() + [server.agent()]
	smtp = server.connect(hello=HELLO)
	server.reload({})
	server.wait_log("reload", result="success")
	server.send_signal(signal.SIGSTOP)
	smtp.finish()
	harness.until(lambda: not any(harness.alive(p) for p in old), "the end of the old processes")
	server.send_signal(signal.SIGCONT)
	harness.until(lambda: not any(harness.status(p) for p in old), "their burial")
	begin = time.monotonic()
	server.stop()
	assert time.monotonic() - begin < 3


def test_an_end_while_a_front_waits_to_be_started(start):	# case 14.1
	server = start()
	server.ready()
	for _ in range(4):	# each time it waits longer
		front = harness.until(server.fronts, "a front")[0]
		os.kill(front, signal.SIGKILL)
		harness.until(lambda: not harness.status(front), "its burial")
	begin = time.monotonic()
	server.stop()
	assert time.monotonic() - begin < 3


# ---- reload ----

def size(smtp):
	(line,) = [t for t in smtp.ask(HELLO).text if t.startswith(b"SIZE ")]
	return int(line[5:])


def test_sessions_keep_the_configuration_they_began_with(start):	# case 14.4
	server = start({"smtpd.limits": {"max_message_size": "1m"}})
	old = server.connect()
	assert size(old) == 1048576
	old.start_data()
	server.reload({"smtpd.limits": {"max_message_size": "2m"}})
	server.wait_log("reload", result="success")
	new = server.connect()
	assert size(new) == 2 * 1048576
	assert old.cmd(CONTENT + b".\r\n") == OK
	assert size(old) == 1048576
	assert new.message(CONTENT) == OK


def test_the_old_processes_end_with_their_last_session(start):	# case 14.4
	server = start()
	server.ready()
	before = set(harness.children(server.process.pid))
	smtp = server.connect(hello=HELLO)
	server.reload({})
	server.wait_log("reload", result="success")
	assert smtp.cmd(b"NOOP\r\n") == OK
	smtp.finish()
	harness.until(lambda: not any(harness.alive(p) for p in before), "the end of the old processes")


@pytest.mark.parametrize("mistake,words", [
	({"smtpd.limits": {"nonsense": "1"}}, ["nonsense"]), ({"smtpd.limits": {"max_message_size": "many"}}, ["max_message_size"]),
	({"smtpd.listener mx": {"address": "nowhere"}}, ["address"]), ({"smtpd.nonsense": {"x": "1"}}, ["nonsense"])])
def test_a_bad_file_changes_nothing(start, mistake, words):	# case 14.4
	server = start()
	smtp = server.connect(hello=HELLO)
	server.reload(mistake)
	server.wait_log("reload", result="failure")
	line = server.wait_log("config", level="error")
	assert "smtpd.conf:" in line["text"] and all(w in line["text"] for w in words)
	assert smtp.message(CONTENT) == OK
	assert server.connect(hello=HELLO).message(CONTENT) == OK


def test_a_file_that_is_gone_changes_nothing(start):	# case 14.4
	server = start()
	os.remove(server.config)
	server.send_signal(signal.SIGHUP)
	server.wait_log("reload", result="failure")
	assert server.connect(hello=HELLO).message(CONTENT) == OK


def test_listeners_come_and_go(start):	# case 14.4
	server = start({"smtpd.listener two": {"address": "127.0.0.2:0"}})
	first = server.connect("mx", hello=HELLO)
	going = server.connect("two", hello=HELLO)
	server.reload({"smtpd.listener two": None, "smtpd.listener three": {"address": "127.0.0.3:0"}})
	server.wait_log("reload", result="success")
	line = server.wait_log("listening", listener="three")
	server.addresses["three"] = ("127.0.0.3", int(line["address"].rsplit(":", 1)[1]))
	assert len(server.log("listening", listener="mx")) == 1		# kept, not opened again
	assert server.connect("three", hello=HELLO).message(CONTENT) == OK
	assert server.connect("mx", hello=HELLO).message(CONTENT) == OK
	assert first.message(CONTENT) == OK and going.message(CONTENT) == OK

	def closed():
		try:
			harness.Smtp(server, server.addresses["two"], "two").reset()
		except ConnectionRefusedError:
			return True
		except ConnectionResetError:
			pass
		return False
	going.finish()
	harness.until(closed, "the end of the second listener")


def test_many_hangups_are_one(start):	# case 14.4
	server = start()
	for _ in range(1000):
		server.send_signal(signal.SIGHUP)
	server.wait_log("reload", result="success")
	assert server.connect(hello=HELLO).message(CONTENT) == OK
	assert len(server.log("reload")) <= 3


# ---- other signals, processes that die ----

# all but those that end or stop a program on purpose, and faults
HARMLESS = set(range(1, signal.SIGSYS)) | {signal.SIGRTMIN + 1, signal.SIGRTMAX}	# musl keeps 32 to 34
HARMLESS -= {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL}
HARMLESS -= {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
HARMLESS -= {signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSTKFLT}


@pytest.mark.parametrize("number", sorted(HARMLESS))
def test_other_signals_are_harmless(start, number):	# case 14.5
	server = start()
	server.ready()
	everyone = [server.process.pid, server.agent()] + server.fronts() + harness.children(server.agent())
	for pid in everyone:
		os.kill(pid, number)
	assert server.connect(hello=HELLO).message(CONTENT) == OK
	assert all(harness.alive(pid) for pid in everyone)


def test_stopped_and_continued(start):	# case 14.5
	server = start({"smtpd.timeouts": {"command": "300ms"}})
	server.ready()
	smtp = server.connect(hello=HELLO)
	everyone = [server.process.pid, server.agent()] + server.fronts()
	for pid in everyone:
		os.kill(pid, signal.SIGSTOP)
	smtp.send(b"NOOP\r\n")
	time.sleep(0.5)
	for pid in everyone:
		os.kill(pid, signal.SIGCONT)
	assert smtp.reply().pair == OK
	assert smtp.message(CONTENT) == OK


@pytest.mark.parametrize("who", ["front", "agent"])
def test_who_dies_is_started_again(start, who):	# case 14.3
	server = start()
	server.ready()
	idle = server.connect(hello=HELLO)
	victim = server.fronts()[0] if who == "front" else server.agent()
	begin = time.monotonic()
	os.kill(victim, signal.SIGKILL)
	server.wait_log("process_ended", name=who, signal=9)
	if who == "front":
		assert idle.all_replies() == []
	else:
		assert idle.cmd(b"NOOP\r\n") == OK
	assert server.connect(hello=HELLO).message(CONTENT) == OK
	assert time.monotonic() - begin < 1
	if who == "agent":
		assert idle.message(CONTENT) == OK


def test_an_agent_that_dies_in_a_transaction_costs_451(start, helper):	# case 14.3
	server = start(prepare=lambda s: {"smtpd.delivery": {"command": "%s %s slow-2000" % (helper, s.record)}})
	server.ready()
	delivering, sending, waiting = (server.connect(hello=HELLO) for _ in range(3))
	delivering.start_data()
	delivering.send(CONTENT + b".\r\n")
	sending.start_data()
	sending.send(b"half\r\n")
	assert waiting.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
	harness.until(lambda: os.path.exists(server.record), "the command's start")
	os.kill(server.agent(), signal.SIGKILL)
	assert delivering.reply().pair == LATER
	assert sending.cmd(b"rest\r\n.\r\n") == LATER
	assert waiting.cmd(b"RCPT TO:<bob@local.test>\r\n") == LATER
	for smtp in (delivering, sending, waiting):
		assert smtp.cmd(b"RSET\r\n") == OK
		assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
	for pid in harness.CENSUS.strangers():	# the command has lost its parent
		os.kill(pid, signal.SIGKILL)


def test_when_the_master_dies_everyone_ends(start):	# case 14.3
	server = start()
	server.ready()
	everyone = server.fronts() + [server.agent()] + harness.children(server.agent())
	smtp = server.connect(hello=HELLO)
	os.kill(server.process.pid, signal.SIGKILL)
	assert [c for c, _ in smtp.all_replies()] in ([], [421])
	harness.until(lambda: not any(harness.alive(p) for p in everyone), "the end of its processes", 40)
	server.stop(expect=-9, number=None)


def test_a_front_that_keeps_dying_is_started_ever_more_slowly(start):
	server = start()
	server.ready()
	for n in range(3):
		harness.until(lambda: server.fronts(), "a front")
		os.kill(server.fronts()[0], signal.SIGKILL)
		server.wait_log("process_ended", count=n + 1, name="front", signal=9)
	server.clients = []
	assert server.connect(hello=HELLO).message(CONTENT) == OK


def test_a_second_one_on_the_same_address_says_so(start, place):	# case 14.14
	server = start()
	config = server.folder + "/second.conf"
	with open(server.config) as f, open(config, "w") as to:
		to.write(f.read().replace("127.0.0.1:0", "%s:%d" % server.addresses["mx"]))
	os.chmod(config, 0o644)
	drop = ["setpriv", "--reuid=%d" % harness.NOBODY, "--regid=%d" % harness.NOBODY, "--clear-groups"] if harness.ROOT else []
	run = subprocess.run(drop + [place.program, "-c", config], capture_output=True, text=True, timeout=harness.PATIENCE, check=False)
	assert run.returncode != 0
	assert "in use" in run.stderr.lower() and "%s:%d" % server.addresses["mx"] in run.stderr


@pytest.mark.root
def test_as_process_1_of_a_container(start, helper):	# case 14.6
	server = start({"smtpd.delivery": {"user": "nobody"}}, root=True, before=["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"],
		prepare=lambda s: {"smtpd.delivery": {"command": "%s - background-child" % helper}})
	smtp = server.connect(hello=HELLO)
	assert smtp.message(CONTENT) == OK
	server.promised.clear()
	(inner,) = harness.children(server.process.pid)
	assert "1" in harness.status(inner)["NSpid"].split()
	for pid in harness.children(inner):		# orphans are its children now, and are reaped when they end
		if harness.status(pid)["Name"] == "delivery":
			os.kill(pid, signal.SIGKILL)
			harness.until(lambda: not harness.status(pid), "the orphan's end")
	os.kill(inner, signal.SIGTERM)
	assert smtp.all_replies() == [SHUTDOWN]
	server.process.wait(harness.PATIENCE)
	server.stop(number=None)
