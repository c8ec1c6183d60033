"""Real clients, and the faults that must lose nothing: each 250 is a file, whatever dies."""

import glob
import os
import re
import signal
import smtplib
import socket
import subprocess
import threading
import time

import pytest

from peers import NODEMAILER, PATIENCE, Postfix, needs, npm, run

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SMTPD = os.environ.get("SMTPD", os.path.join(TOP, "smtpd"))
MESSAGE = b"From: me@x.test\r\nTo: bob@local.test\r\nSubject: real\r\n\r\n..dots\r\n.\r\n\r\nend\r\n"
EXPECT = MESSAGE.replace(b"\r\n", b"\n")


def children(pid):
	out = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
	return [int(x) for x in out.split()]


class Running:
	"""One server, started and stopped by a test; delivers into mail/ as an ordinary user."""

	def __init__(self, path):
		self.path, self.conf, self.log = path, path + "/smtpd.conf", path + "/log"
		os.mkdir(path + "/mail")
		for p in (path, path + "/mail"):
			os.chmod(p, 0o777)
		self.write("")
		drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
		with open(self.log, "wb") as log:
			self.process = subprocess.Popen([*drop, SMTPD, "-c", self.conf], stderr=log, stdin=subprocess.DEVNULL)
		self.wait_for("event=started")
		self.port = int(re.search(r"event=listening listener=mx address=\S+:(\d+)", self.text())[1])

	def write(self, more):
		with open(self.conf, "w", encoding="ascii") as f:
			f.write(f"[server]\nhostname = mx.test\n[smtpd]\ndomains = local.test\n[smtpd.listener mx]\naddress = 127.0.0.1:0\n"
			        f"mode = smtp\n[smtpd.delivery]\nmaildir = {self.path}/mail/%{{domain}}/%{{user}}\ncreate = yes\n{more}")

	def text(self):
		with open(self.log, encoding="utf-8", errors="replace") as f:
			return f.read()

	def wait_for(self, what, count=1):
		end = time.monotonic() + PATIENCE
		while self.text().count(what) < count:
			assert self.process.poll() is None and time.monotonic() < end, f"no {what} in:\n{self.text()[-3000:]}"
			time.sleep(0.005)

	def files(self, user):
		return glob.glob(f"{self.path}/mail/local.test/{user}/new/*")

	def body(self, user):
		(one,) = self.files(user)
		with open(one, "rb") as f:
			return f.read().partition(b" +0000\n")[2]

	def tree(self):
		kids = children(self.process.pid)
		return [self.process.pid, *kids, *(g for k in kids for g in children(k))]

	def agent_and_front(self):
		"""Only the agent has children, and writers it has from the start."""
		kids = children(self.process.pid)
		return next(k for k in kids if children(k)), next(k for k in kids if not children(k))

	def stop(self):
		if self.process.poll() is None:
			self.process.send_signal(signal.SIGTERM)
		try:
			return self.process.wait(PATIENCE)
		finally:
			if self.process.poll() is None:
				self.process.kill()
			assert "Sanitizer" not in self.text() and "runtime error" not in self.text(), self.text()[-3000:]


@pytest.fixture(name="running")
def fixture_running(place):
	path = os.path.join(place.path, f"path{len(os.listdir(place.path))}-{time.monotonic_ns()}")
	os.mkdir(path)
	r = Running(path)
	yield r
	assert r.stop() in (0, -signal.SIGKILL)


def test_smtplib(running):
	with smtplib.SMTP("127.0.0.1", running.port) as s:
		assert s.sendmail("me@x.test", ["bob@local.test"], MESSAGE) == {}
	assert running.body("bob") == EXPECT


@needs("curl")
def test_curl(running):
	run(["curl", "-sS", "-m", "20", f"smtp://127.0.0.1:{running.port}/t.test", "--mail-from", "me@x.test", "--mail-rcpt",
	     "bob@local.test", "--upload-file", "-"], MESSAGE)
	assert running.body("bob") == EXPECT


@needs("swaks")
def test_swaks(running):
	run(["swaks", "-s", "127.0.0.1", "-p", str(running.port), "-f", "me@x.test", "-t", "bob@local.test", "--ehlo", "t.test",
	     "--pipeline", "--data", "-"], EXPECT)
	assert running.body("bob").rstrip(b"\n") == EXPECT.rstrip(b"\n")


@needs("msmtp")
def test_msmtp(running):
	run(["msmtp", "--host=127.0.0.1", f"--port={running.port}", "--from=me@x.test", "--domain=t.test", "bob@local.test"], EXPECT)
	assert running.body("bob").endswith(EXPECT)	# it puts a Date field in front


@needs("smtp-source")
@pytest.mark.parametrize("sessions, more", [(20, []), (100, ["-d"])])
def test_smtp_source(running, sessions, more):
	run(["smtp-source", "-s", str(sessions), "-m", "1000", "-l", "1000", *more, "-f", "a@x.test", "-t", "bob@local.test",
	     f"127.0.0.1:{running.port}"])
	assert len(running.files("bob")) == 1000


NODE_SCRIPT = """
const transport = require('nodemailer').createTransport({ host: '127.0.0.1', port: +process.argv[1], name: 't.test', pool: true });
const envelope = { from: 'me@x.test', to: ['bob@local.test'] };
(async () => {
  const raw = require('fs').readFileSync(0);
  const info = await transport.sendMail({ envelope, raw });
  if (!info.response.startsWith('250 2.0.0 ')) throw new Error(info.response);
  for (let i = 0; i < 50; i++)
    await transport.sendMail({ envelope: { from: 'me@x.test', to: ['alice@local.test'] }, subject: 'n' + i, text: '.dots\\n.\\n' });
  transport.close();
})().catch((e) => { console.error(e); process.exit(1); });
"""


def test_nodemailer(running):
	run(["node", "-e", NODE_SCRIPT, str(running.port)], MESSAGE, cwd=npm(NODEMAILER))
	assert running.body("bob") == EXPECT
	assert len(running.files("alice")) == 50


@pytest.fixture(name="postfix")
def fixture_postfix(running):
	p = Postfix(running.path + "/postfix", f"[127.0.0.1]:{running.port}")
	yield p
	p.stop()


def wait_files(running, user, count, postfix):
	end = time.monotonic() + 2 * PATIENCE
	while len(running.files(user)) < count:
		assert time.monotonic() < end, postfix.text()
		time.sleep(0.01)


def test_postfix_relays(running, postfix):
	with smtplib.SMTP("127.0.0.1", postfix.port, "t.test", timeout=PATIENCE) as s:
		assert s.sendmail("me@x.test", ["bob@local.test"], MESSAGE) == {}
	wait_files(running, "bob", 1, postfix)
	received, _, rest = running.body("bob").partition(b" (UTC)\n")
	assert re.fullmatch(rb"Received: from t\.test [^\n]*\n(\t[^\n]*\n)*\t[^\n]*", received), received
	assert rest == EXPECT
	run(["smtp-source", "-s", "10", "-m", "200", "-l", "5000", "-f", "a@x.test", "-t", "alice@local.test", f"127.0.0.1:{postfix.port}"])
	wait_files(running, "alice", 200, postfix)
	assert "status=bounced" not in postfix.text() and "status=deferred" not in postfix.text()


class Load:
	"""Clients that send numbered messages until told to stop, and the ledger of what they were promised."""

	def __init__(self, running, clients=6):
		self.running, self.stopped, self.promised, self.unlucky = running, False, [], []
		self.threads = [threading.Thread(target=self.client, args=(i,), daemon=True) for i in range(clients)]
		for t in self.threads:
			t.start()

	def client(self, number):
		count = 0
		while not self.stopped:
			try:
				with smtplib.SMTP("127.0.0.1", self.running.port, "t.test", timeout=PATIENCE) as s:
					for _ in range(10):
						count += 1
						name = f"{number}-{count}"
						s.sendmail("a@x.test", ["bob@local.test"], f"Subject: {name}\r\n\r\nx\r\n")
						self.promised.append(name)
			except (OSError, smtplib.SMTPException) as e:
				self.unlucky.append(e)
				time.sleep(0.005)

	def wait(self, more):
		target, end = len(self.promised) + more, time.monotonic() + PATIENCE
		while len(self.promised) < target:
			assert time.monotonic() < end, (len(self.promised), self.running.text()[-2000:])
			time.sleep(0.005)

	def end(self):
		self.stopped = True
		for t in self.threads:
			t.join(PATIENCE)
		got = {}
		for path in self.running.files("bob"):
			with open(path, encoding="ascii") as f:
				whole = re.search(r"\nSubject: (\S+)\n\nx\n$", f.read())
			assert whole, f"half a message: {path}"
			got[whole[1]] = got.get(whole[1], 0) + 1
		lost = [n for n in self.promised if n not in got]
		assert not lost, f"{len(lost)} of {len(self.promised)} promised messages are lost"
		return got


@pytest.mark.parametrize("victim", ["agent", "front", "writer"])
def test_killing_one_process_loses_nothing_that_was_promised(running, victim):		# case 14.3
	load = Load(running)
	load.wait(100)
	agent, front = running.agent_and_front()
	os.kill({"agent": agent, "front": front, "writer": children(agent)[0]}[victim], signal.SIGKILL)
	load.wait(200)
	load.end()
	assert not any(isinstance(e, ConnectionRefusedError) for e in load.unlucky)


def test_killing_everything_loses_nothing_that_was_promised(running):			# case 14.3
	load = Load(running)
	load.wait(200)
	for pid in running.tree():
		os.kill(pid, signal.SIGKILL)
	load.end()


def test_reloads_under_load_lose_refuse_and_double_nothing(running):			# case 14.4
	load = Load(running)
	for i in range(3):
		load.wait(50)
		for _ in range(20):
			running.process.send_signal(signal.SIGHUP)
		running.wait_for("event=reload result=success", i + 1)
	load.wait(50)
	got = load.end()
	assert load.unlucky == []
	assert all(n == 1 for n in got.values())


def test_a_bad_file_at_reload_is_named_and_the_old_configuration_stays(running):	# case 14.4
	running.write("[smtpd.limits]\nnonsense = 1\n")
	running.process.send_signal(signal.SIGHUP)
	running.wait_for("event=reload result=failure")
	assert "smtpd.conf:" in running.text() and "nonsense" in running.text()
	with smtplib.SMTP("127.0.0.1", running.port) as s:
		assert s.sendmail("me@x.test", ["bob@local.test"], MESSAGE) == {}


def test_sigterm_finishes_the_message_and_tells_the_idle(running):			# case 14.1
	idle, busy = (smtplib.SMTP("127.0.0.1", running.port, timeout=PATIENCE) for _ in range(2))
	busy.ehlo()
	busy.mail("a@x.test")
	busy.rcpt("bob@local.test")
	assert busy.docmd("DATA")[0] == 354
	running.process.send_signal(signal.SIGTERM)
	assert idle.getreply()[0] == 421
	with pytest.raises(ConnectionRefusedError):
		socket.create_connection(("127.0.0.1", running.port))
	busy.send(b"x\r\n.\r\n")
	assert busy.getreply()[0] == 250
	assert busy.getreply()[0] == 421
	assert running.process.wait(PATIENCE) == 0
	assert len(running.files("bob")) == 1
