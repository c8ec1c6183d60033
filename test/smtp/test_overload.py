"""SECURITY-CASES 13: exhaustion and overload."""

import subprocess
import threading
import time

import pytest

import harness

HELLO = b"EHLO t.test\r\n"
OK, TIMEOUT = (250, "2.0.0"), (421, "4.4.2")


def trickle(smtp, octets, every=0.04):
	"""One octet at a time, until the server answers."""
	smtp.sock.settimeout(every)
	for i in range(len(octets)):
		try:
			smtp.send(octets[i:i + 1])
			more = smtp.sock.recv(4096)
		except TimeoutError:
			continue
		except OSError:
			break
		smtp.data += more
		break
	return smtp.all_replies()


@pytest.fixture(scope="module")
def hasty_shared(place):
	server = harness.Server(place, {"smtpd.timeouts": {"command": "300ms", "connection": "600ms"}})
	server.start()
	server.ready()
	yield server
	server.stop()


@pytest.fixture
def hasty(hasty_shared):
	yield hasty_shared
	hasty_shared.disconnect_all()
	hasty_shared.check_census()
	hasty_shared.check_ledger()


def test_a_command_line_has_one_deadline_for_all_of_it(hasty):	# case 13.1
	begin = time.monotonic()
	smtp = hasty.connect(hello=HELLO)
	assert trickle(smtp, b"NOOP " + b"x" * 400) == [TIMEOUT]
	assert 0.25 < time.monotonic() - begin < 2


def test_a_silent_client_is_told_to_go(hasty):	# case 13.1
	begin = time.monotonic()
	smtp = hasty.connect()
	assert smtp.all_replies() == [TIMEOUT]
	assert 0.5 < time.monotonic() - begin < 3


@pytest.mark.parametrize("sent", [b"", b"Subject: x\r\n\r\nhalf", b"Subject: x\r\n\r\n.\r"])
def test_a_pause_inside_data_ends_the_session(hasty, sent):	# cases 13.1, 12.17
	smtp = hasty.connect(hello=HELLO)
	smtp.start_data()
	smtp.send(sent)
	assert smtp.all_replies() == [TIMEOUT]
	assert hasty.take() == []


def test_a_pause_inside_a_chunk_ends_the_session(hasty):	# cases 13.1, 2.13
	smtp = hasty.connect(hello=HELLO)
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == (250, "2.1.5")
	smtp.send(b"BDAT 10 LAST\r\n.\r\n")
	assert smtp.all_replies() == [TIMEOUT]
	assert hasty.take() == []


def test_a_pause_between_chunks_ends_the_session(hasty):	# case 13.1
	smtp = hasty.connect(hello=HELLO)
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == (250, "2.1.5")
	assert smtp.cmd(b"BDAT 1\r\nx") == OK
	assert smtp.all_replies() == [TIMEOUT]
	assert hasty.take() == []


def test_commands_in_time_keep_a_session(hasty):	# case 13.1
	smtp = hasty.connect(hello=HELLO)
	end = time.monotonic() + 1.2
	while time.monotonic() < end:
		assert smtp.cmd(b"NOOP\r\n") == OK
		time.sleep(0.2)


def test_clients_over_the_limit_are_turned_away(start):	# case 13.2
	server = start({"smtpd.limits": {"max_connections": "5"}})
	server.ready()
	inside = [server.connect(hello=HELLO) for _ in range(5)]
	for _ in range(20):
		smtp = server.connect(greet=False)
		assert smtp.all_replies() == [(421, "4.3.2")]
	assert server.wait_log("refused", reason="max_connections")
	for smtp in inside:
		assert smtp.cmd(b"NOOP\r\n") == OK
	inside[0].finish()

	def free():
		smtp = server.connect(greet=False)
		if smtp.reply().code == 220:
			return True
		smtp.close()
		return False
	harness.until(free, "a place")
	assert inside[1].message(b"x\r\n") == OK


def test_the_limit_is_for_all_listeners_together(start):	# case 13.2
	server = start({"smtpd.listener two": {"address": "127.0.0.2:0"}, "smtpd.limits": {"max_connections": "4"}})
	server.ready()
	inside = [server.connect(name, hello=HELLO) for name in ("mx", "two", "mx", "two")]
	for name in ("mx", "two"):
		assert server.connect(name, greet=False).all_replies() == [(421, "4.3.2")]
	assert [smtp.cmd(b"NOOP\r\n") for smtp in inside] == [OK] * 4


def test_memory_for_messages_has_a_bound(start):	# case 13.4
	server = start({"smtpd.limits": {"max_spool_memory": "1m", "max_message_size": "1m"}})
	server.ready()
	one, two = server.connect(hello=HELLO), server.connect(hello=HELLO)
	part = (b"x" * 998 + b"\r\n") * 700
	one.start_data()
	one.send(part)
	harness.until(lambda: one.unread() == 0)
	two.start_data()
	assert two.cmd(part + b".\r\n") == (452, "4.3.1")
	assert one.cmd(b".\r\n") == OK
	assert two.message(part) == OK
	assert len(server.take()) == 2


def test_a_message_announced_too_large_for_memory_is_told_so(start):	# case 3.14
	server = start({"smtpd.limits": {"max_spool_memory": "1m", "max_message_size": "1m"}})
	one, two = server.connect(hello=HELLO), server.connect(hello=HELLO)
	one.start_data()
	one.send((b"x" * 998 + b"\r\n") * 700)
	harness.until(lambda: one.unread() == 0)
	assert two.cmd(b"MAIL FROM:<a@x.test> SIZE=900000\r\n") == (452, "4.3.1")
	assert two.cmd(b"MAIL FROM:<a@x.test> SIZE=1000\r\n") == (250, "2.1.0")


def test_a_spool_folder_keeps_nothing(start):	# case 14.9
	server = start(prepare=lambda s: {"smtpd": {"spool_dir": s.folder + "/mail"}})
	smtp = server.connect(hello=HELLO)
	smtp.start_data()
	smtp.send(b"x" * 50000)
	harness.until(lambda: smtp.unread() == 0)
	assert [p for p in harness.os.listdir(server.mail) if p != "local.test"] == []
	assert smtp.cmd(b"\r\n.\r\n") == OK
	(m,) = server.take()
	assert m.body == b"x" * 50000 + b"\n"


def test_a_log_that_nobody_reads_stops_nobody(start):	# case 13.6
	server = start({"smtpd": {"log_transactions": "yes"}})
	smtp = server.connect(hello=HELLO)
	server.reading.clear()
	for i in range(150):
		assert smtp.message(b"Subject: %d\r\n\r\n" % i) == OK
	server.reading.set()
	assert smtp.message(b"Subject: last\r\n\r\n") == OK
	assert int(server.wait_log("log_dropped")["count"]) > 0
	for line in server.logs:
		assert "event" in line, server.text()


def test_many_short_sessions_leave_nothing(server):	# case 13.10
	def many(count):
		for _ in range(count):
			smtp = harness.Smtp(server, server.addresses["mx"], "mx")
			assert smtp.reply().code == 220
			smtp.close()
	front = server.fronts()
	many(200)
	memory = lambda: sum(int(harness.status(p)["VmRSS"].split()[0]) for p in front + [server.agent()])
	before = memory()
	many(2000)
	assert memory() - before < (4096 if harness.is_sanitized() else 256)


def test_a_crowd_comes_at_once(server):	# case 14.13
	clients = [harness.Smtp(server, server.addresses["mx"], "mx") for _ in range(200)]
	for smtp in clients:
		assert smtp.reply().code == 220
	for smtp in clients:
		smtp.send(HELLO)
	for smtp in clients:
		assert smtp.reply().code == 250
		smtp.finish()


def test_more_commands_than_processes_are_refused(place, start):	# case 13.11
	server = start()
	server.configure({"smtpd.limits": {"max_deliveries": "10000"}})
	server.write_config()
	run = subprocess.run(["prlimit", "--nproc=100:100", place.program, "-t", "-c", server.config], capture_output=True, text=True,
		check=False, env={"PATH": harness.os.environ["PATH"], "ASAN_OPTIONS": "detect_leaks=0"})
	assert run.returncode == 1 and "max_deliveries" in run.stderr


def test_idle_clients_delay_nobody(server):	# case 13.12
	idle = [server.connect() for _ in range(300)]
	smtp = server.connect(hello=HELLO)
	begin = time.monotonic()
	for _ in range(20):
		assert smtp.message(b"x\r\n") == OK
	assert time.monotonic() - begin < 5
	assert len(idle) == 300
	harness.until(lambda: threading.active_count() < 100)


def test_out_of_descriptors(start):	# case 13.3
	"""64 descriptors, 200 clients: some are served, the others are told or wait, and nothing spins."""
	server = start(before=["prlimit", "--nofile=64:64"])
	server.wait_log("few_descriptors")
	server.ready()
	front, agent = server.fronts()[0], server.agent()
	clients = [server.connect(greet=False) for _ in range(200)]
	inside = []
	for smtp in clients:
		if smtp.reply().pair == (220, ""):
			inside.append(smtp)
		else:
			smtp.expect_close()
	assert 10 <= len(inside) < 64
	ticks = harness.cpu_ticks(front) + harness.cpu_ticks(agent)
	time.sleep(1)
	assert harness.cpu_ticks(front) + harness.cpu_ticks(agent) - ticks <= 5	# of 100
	# each wants a message file now, which is one more
	replies = []
	for smtp in inside:
		assert smtp.cmd(HELLO)[0] == 250
		assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
		assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == (250, "2.1.5")
		replies.append(smtp.cmd(b"DATA\r\n"))
	assert set(replies) == {(354, ""), (452, "4.3.1")}
	for smtp, reply in zip(inside, replies):
		if reply[0] == 354:
			assert smtp.cmd(b"x\r\n.\r\n") == OK
		else:
			assert smtp.cmd(b"NOOP\r\n") == OK
	for smtp in inside:		# and now there are some again
		assert smtp.message(b"y\r\n") == OK
		smtp.finish()
	server.ready()
	assert (server.fronts()[0], server.agent()) == (front, agent)
	assert server.connect(hello=HELLO).message(b"z\r\n") == OK
