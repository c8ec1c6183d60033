"""SECURITY-CASES 14.7, 13.5: a writer that is killed at each of its system calls; disks that are full."""

import os
import re
import shutil
import signal
import subprocess

import pytest

import harness
from test_metrics import METRICS, scrape

HELLO = b"EHLO t.test\r\n"
OK, MAIL, NO_SPACE, LATER = (250, "2.0.0"), (250, "2.1.0"), (452, "4.3.1"), (451, "4.3.0")
CONTENT = b"Subject: s\r\n\r\n" + b"x" * 200 + b"\r\nend\r\n"
RCPTS = (b"bob@local.test", b"alice@local.test")


# ---- a writer under strace ----

class Traced:
	"""strace on the one Maildir writer of a server, until the writer or the block ends."""

	def __init__(self, server, *options):
		self.record = os.path.join(server.folder, "strace")
		self.command = ["strace", "-y", "-o", self.record, *options]
		self.server = server

	def __enter__(self):
		(self.pid,) = harness.children(self.server.agent())
		self.strace = subprocess.Popen([*self.command, "-p", str(self.pid)], stderr=subprocess.PIPE, text=True)
		line = self.strace.stderr.readline()
		if "attached" not in line:
			self.strace.wait(harness.PATIENCE)
			pytest.skip("strace cannot attach: " + line.strip())
		return self

	def __exit__(self, *_):
		if self.strace.poll() is None:
			self.strace.send_signal(signal.SIGTERM)
		self.strace.wait(harness.PATIENCE)
		self.strace.stderr.close()

	def lines(self):
		with open(self.record, encoding="ascii", errors="replace") as f:
			return f.read().splitlines()


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def deliver(smtp):
	smtp.start_data(rcpts=RCPTS)
	return smtp.cmd(CONTENT + b".\r\n")


def check_files(server):
	"""What is in new is whole, and what was promised is there for both."""
	found = {}
	for path in server.paths():
		m = harness.Message(path)
		assert m.body == CONTENT.replace(b"\r\n", b"\n"), "half a message: %s" % path
		found.setdefault(m.id, set()).add(m.folder)
	lost = [i for i in server.promised if len(found.get(i, ())) != len(RCPTS)]
	assert not lost, "promised and not there: %s" % lost
	server.unpromised = len(set(found) - set(server.promised))	# renamed, and killed before it could say so


# what a delivery consists of; "?": not every machine has a call of this name
CALLS = ["?open", "openat", "?mkdir", "?mkdirat", "pread64", "write", "sync_file_range", "fsync", "close", "?rename", "?renameat", "?renameat2",
	"sendto"]


@pytest.mark.root
@needs_strace
def test_a_writer_killed_at_each_system_call(start):	# case 14.7
	server = start()
	server.ready()
	smtp = server.connect(hello=HELLO)
	kills = 0
	for call in CALLS:
		n = 0
		while True:
			n += 1
			# one that lives; a writer is started again once a second at most
			harness.until(lambda: deliver(smtp) == OK, "a writer")
			if "mkdir" in call:
				for user in RCPTS:
					shutil.rmtree(os.path.join(server.mail, "local.test", user.split(b"@")[0].decode()))
				server.promised.clear()
			with Traced(server, "-e", "trace=" + call, "-e", "inject=%s:signal=KILL:when=%d" % (call, n)) as traced:
				reply = deliver(smtp)
				assert reply in (OK, LATER)
			check_files(server)
			if not harness.alive(traced.pid):
				assert reply == LATER
				kills += 1
				continue
			assert reply == OK
			break
	assert kills >= 20, kills


@pytest.mark.root
@needs_strace
def test_what_is_promised_is_on_disk(start):	# case 14.7
	"""The order in which the writer brings a message to disk: contents, name, the folder; then its answer."""
	server = start()
	server.ready()
	smtp = server.connect(hello=HELLO)
	with Traced(server, "-e", "trace=?mkdir,?mkdirat,fsync,?rename,?renameat,?renameat2,sendto") as traced:
		assert deliver(smtp) == OK
	events = []
	for line in traced.lines():
		name = line.split("(", 1)[0]
		if "EEXIST" in line:
			continue
		assert " = -1" not in line, line
		if name == "fsync":
			events.append(("fsync", re.search(r"<(.*)>\)", line)[1]))
		elif name.startswith("mkdir"):
			events.append(("mkdir", re.search(r'"(.*?)"', line)[1]))
		elif name.startswith("rename"):
			folder = re.search(r"<(.*?)>", line)[1]
			old, new = re.findall(r'"(.*?)"', line)
			events.append(("rename", folder + "/" + old, folder + "/" + new))
		elif name == "sendto":
			events.append(("answer",))
	assert events[-1] == ("answer",) and events.count(("answer",)) == 1
	renames = [e for e in events if e[0] == "rename"]
	assert len(renames) == len(RCPTS)
	for rename in renames:
		at = events.index(rename)
		assert ("fsync", rename[1]) in events[:at], events
		assert ("fsync", os.path.dirname(rename[2])) in events[at:], events
		assert os.path.exists(rename[2])
	made = [e for e in events if e[0] == "mkdir"]
	assert len(made) >= 4 * len(RCPTS)	# the folder, and its three
	for mkdir in made:
		at = events.index(mkdir)
		assert ("fsync", os.path.dirname(mkdir[1])) in events[at:], events


# ---- small disks ----

@pytest.fixture
def tmpfs():
	"""tmpfs(path, options): a small file system, unmounted when the test's server has ended."""
	mounted = []

	def mount(path, options):
		os.makedirs(path, exist_ok=True)
		done = subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0777," + options, "smtpd-test", path], capture_output=True, text=True,
			check=False)
		if done.returncode != 0:
			pytest.skip("cannot mount a tmpfs: " + done.stderr.strip())
		mounted.append(path)
	yield mount
	for path in mounted:
		subprocess.run(["umount", path], check=True)


def fill(path, leave=0):
	"""A file that takes all the room there is, but for so many octets."""
	with open(path, "wb", buffering=0) as f:
		try:
			while True:
				f.write(b"f" * 65536)
		except OSError:
			pass
		f.truncate(max(0, os.fstat(f.fileno()).st_size - leave))
	return path


def lines(octets):
	return (b"x" * 998 + b"\r\n") * (octets // 1000)


@pytest.mark.root
def test_a_full_spool_folder(tmpfs, start):	# case 13.5
	spool = []

	def prepare(server):
		spool.append(os.path.join(server.folder, "spool"))
		tmpfs(spool[0], "size=2m")
		return {"smtpd": {"spool_dir": spool[0]}, "smtpd.limits": {"max_message_size": "8m"}}
	server = start(METRICS, prepare=prepare)
	server.ready()
	smtp = server.connect(hello=HELLO)
	assert smtp.message(lines(1000000)) == OK
	# in the middle of a message: it is read to its end
	smtp.start_data()
	assert smtp.cmd(lines(4000000) + b".\r\n") == NO_SPACE
	assert server.wait_log("spool_write")["spool_dir"] == spool[0]
	assert smtp.message(b"small\r\n") == OK
	# in the middle of a chunk
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == (250, "2.1.5")
	body = lines(4000000)
	smtp.send(b"BDAT %d\r\n" % len(body) + body)
	assert smtp.reply().pair == NO_SPACE
	assert smtp.cmd(b"RSET\r\n") == OK
	# below the reserve: before the message comes, and when nothing is left of the one before
	harness.until(lambda: os.statvfs(spool[0]).f_bfree * os.statvfs(spool[0]).f_frsize > 2000000)
	filler = fill(os.path.join(spool[0], "filler"), leave=600000)
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == NO_SPACE
	assert server.wait_log("spool_full")["error"] == "not enough space in " + spool[0]
	assert [smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") for _ in range(3)] == [NO_SPACE] * 3
	assert smtp.cmd(b"NOOP\r\n") == OK
	assert len(server.log("spool_full")) == 1	# not for each
	os.unlink(filler)
	assert smtp.cmd(b"MAIL FROM:<a@x.test> SIZE=3000000\r\n") == NO_SPACE
	assert smtp.message(b"after\r\n") == OK
	assert os.listdir(spool[0]) == []
	assert [len(m.body) for m in server.take()] == [999000, 6, 6]
	# a disk is no limit of ours
	figures = scrape(server)
	assert not [name for name in figures if name.startswith("smtpd_limit_hits")]
	assert figures['smtpd_messages_rejected_total{listener="mx",recipient_domain="other",reason="storage"}'] == 5
	assert figures['smtpd_messages_rejected_total{listener="mx",recipient_domain="local.test",reason="storage"}'] == 1


def maildir_on(tmpfs, options):
	def prepare(server):
		tmpfs(server.mail, options)
		return {"smtpd.limits": {"max_message_size": "8m"}}
	return prepare


def folders(server, name):
	return [os.listdir(os.path.join(d, name)) for d, _, _ in os.walk(server.mail) if name in os.listdir(d)]


@pytest.mark.root
def test_a_full_disk_below_the_maildirs(tmpfs, start):	# case 13.5
	server = start(prepare=maildir_on(tmpfs, "size=1m"))
	server.ready()
	smtp = server.connect(hello=HELLO)
	assert smtp.message(b"first\r\n", rcpts=RCPTS) == OK
	# in the middle of the first file, and of the second: all or none
	for size in (3000000, 700000):
		assert smtp.message(lines(size), rcpts=RCPTS) == NO_SPACE
	assert all(f == [] for f in folders(server, "tmp"))
	filler = fill(os.path.join(server.mail, "filler"))
	assert smtp.message(b"no room at all\r\n", rcpts=RCPTS) == NO_SPACE
	assert smtp.message(b"nor for a folder\r\n", rcpts=(b"carol@local.test",))[0] in (250, 452)	# a tmpfs has folders for nothing
	os.unlink(filler)
	assert smtp.message(b"second\r\n", rcpts=RCPTS) == OK
	assert all(f == [] for f in folders(server, "tmp"))
	assert sorted(m.body for m in server.take() if b"folder" not in m.body) == [b"first\n"] * 2 + [b"second\n"] * 2


@pytest.mark.root
def test_a_disk_without_inodes(tmpfs, start):	# case 13.5
	server = start(prepare=maildir_on(tmpfs, "size=1m,nr_inodes=20"))
	server.ready()
	smtp = server.connect(hello=HELLO)
	assert smtp.message(b"first\r\n") == OK
	made = []
	with pytest.raises(OSError):
		for i in range(20):
			open(os.path.join(server.mail, "f%d" % i), "x").close()
			made.append("f%d" % i)
	assert smtp.message(b"no file\r\n") == NO_SPACE
	assert smtp.message(b"no folder\r\n", rcpts=(b"alice@local.test",)) == NO_SPACE
	for name in made:
		os.unlink(os.path.join(server.mail, name))
	assert smtp.message(b"second\r\n") == OK
	assert [m.body for m in server.take()] == [b"first\n", b"second\n"]


def test_a_limit_of_file_sizes_ends_nobody(start):	# case 13.5, EFBIG
	server = start(before=["prlimit", "--fsize=300000:300000"])
	server.ready()
	everyone = server.fronts() + [server.agent()]
	smtp = server.connect(hello=HELLO)
	smtp.start_data()
	assert smtp.cmd(lines(500000) + b".\r\n") == NO_SPACE
	assert smtp.message(b"small\r\n") == OK
	assert server.fronts() + [server.agent()] == everyone
