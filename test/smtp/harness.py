"""The server under test, a client that sends exact octets, and the ledger between the two."""

import base64
import ctypes
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.abspath(os.environ.get("SMTPD", os.path.join(TOP, "smtpd")))
ROOT = os.geteuid() == 0
NOBODY = 65534
PATIENCE = 10.0			# seconds, for what takes milliseconds
PR_SET_CHILD_SUBREAPER = 36

ENDED = re.compile(rb"^250[ -]2\.0\.0 Ok: (\S+)")
ESC = re.compile(rb"^([245]\.\d{1,3}\.\d{1,3})(?: |$)")
FIELD = re.compile(r'([A-Za-z_][\w.]*)=("(?:[^"\\]|\\.)*"|\S*)(?: |$)')
TRACE = re.compile(rb"\A(?:Delivered-To: [^\n]*\n)?Return-Path: <[^\n]*>\n(?:Delivered-To: [^\n]*\n)?"
	rb"Received: from [^\n]*\n(?:\t[^\n]*\n)*?\t\w{3}, \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d \+0000\n")
TRACE_ID = re.compile(rb"\sid (\S+?);?\n")


def until(condition, what="it", timeout=PATIENCE):
	"""Ask again and again, without a fixed wait."""
	end = time.monotonic() + timeout
	while True:
		result = condition()
		if result:
			return result
		assert time.monotonic() < end, "waited %g s for %s" % (timeout, what)
		time.sleep(0.002)


def domain(length):
	"""A domain of so many octets, of labels that are as long as they may be."""
	left, labels = length, []
	while left > 0:
		n = min(63, left)
		if left - n == 1:
			n -= 1
		labels.append(b"d" * n)
		left -= n + 1
	return b".".join(labels)


def is_sanitized():
	with open(PROGRAM, "rb") as f:
		return b"__asan_init" in f.read()


# ---- processes ----

def children(pid):
	found = []
	try:
		for task in os.listdir("/proc/%d/task" % pid):
			with open("/proc/%d/task/%s/children" % (pid, task)) as f:
				found += [int(p) for p in f.read().split()]
	except (FileNotFoundError, ProcessLookupError):
		pass
	return found


def status(pid):
	"""/proc/PID/status as a dictionary; {} when there is no such process."""
	try:
		with open("/proc/%d/status" % pid) as f:
			return dict((line.split(":", 1)[0], line.split(":", 1)[1].strip()) for line in f)
	except (FileNotFoundError, ProcessLookupError):
		return {}


def alive(pid):
	return status(pid).get("State", "X")[0] not in "XZ"


def descriptors(pid):
	"""How many; None where this user may not look."""
	try:
		return len(os.listdir("/proc/%d/fd" % pid))
	except (PermissionError, FileNotFoundError, ProcessLookupError):
		return None


def cpu_ticks(pid):
	with open("/proc/%d/stat" % pid) as f:
		fields = f.read().rsplit(")", 1)[1].split()
	return int(fields[11]) + int(fields[12])


def holds(pid, octets):
	"""Whether they are anywhere in the memory of a process. Needs root."""
	with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as memory:
		for line in maps:
			start, end = (int(n, 16) for n in line.split()[0].split("-"))
			if line.split()[1][0] != "r" or "[v" in line or end - start > 1 << 26:	# a sanitizer's own
				continue
			memory.seek(start)
			try:
				if octets in memory.read(end - start):
					return True
			except OSError:		# reserved, or past the end of a file
				pass
	return False


class Census:
	"""Whoever loses its parent becomes our child, so that a process left behind is seen (I10)."""

	def __init__(self):
		self.known = set()
		ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

	def strangers(self):
		found = []
		for pid in set(children(os.getpid())) - self.known:
			if status(pid).get("State", "Z")[0] == "Z":
				try:
					os.waitpid(pid, os.WNOHANG)
				except ChildProcessError:
					pass
			else:
				found.append(pid)
		return found


CENSUS = Census()


class Diagnosis:
	"""The kernel's word on one TCP socket, sock_diag(7); /proc/net/tcp is slow where there are many."""

	def __init__(self):
		self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4)	# NETLINK_SOCK_DIAG

	def unread(self, local, remote):
		request = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xffffffff)
		request += struct.pack(">HH", local[1], remote[1])
		request += socket.inet_aton(local[0]).ljust(16, b"\0") + socket.inet_aton(remote[0]).ljust(16, b"\0")
		request += struct.pack("=III", 0, 0xffffffff, 0xffffffff)
		self.netlink.send(struct.pack("=IHHII", 16 + len(request), 20, 1, 0, 0) + request)
		answer = self.netlink.recv(4096)
		if struct.unpack_from("=H", answer, 4)[0] != 20:
			return 0	# there is no such socket any more
		return struct.unpack_from("=I", answer, 16 + 56)[0]


DIAGNOSIS = Diagnosis()


# ---- folders ----

class Place:
	"""A folder that an ordinary user may use too; pytest's own are closed to it."""

	def __init__(self):
		self.path = tempfile.mkdtemp(prefix="smtpd-test-")
		os.chmod(self.path, 0o755)
		self.program = os.path.join(self.path, "smtpd")
		shutil.copy(PROGRAM, self.program)
		self.count = 0

	def folder(self):
		self.count += 1
		path = os.path.join(self.path, str(self.count))
		os.mkdir(path)
		if ROOT:
			os.chown(path, NOBODY, NOBODY)
		os.chmod(path, 0o755)
		return path

	def remove(self):
		shutil.rmtree(self.path, ignore_errors=True)


def script(path, text):
	"""A delivery command of a test's own; of /bin/sh, since it is what every machine has."""
	with open(path, "w") as f:
		f.write("#!/bin/sh\n" + text)
	os.chmod(path, 0o755)
	return path


# ---- the server ----

def parse_line(line):
	fields = {}
	for name, value in FIELD.findall(line):
		if value.startswith('"'):
			value = re.sub(r"\\(.)", r"\1", value[1:-1])
		fields.setdefault(name, value)
	return fields


class Message:
	def __init__(self, path):
		with open(path, "rb") as f:
			self.raw = f.read()
		self.path = path
		trace = TRACE.match(self.raw)
		assert trace is not None, "no trace fields: %r" % self.raw[:300]
		self.trace = trace.group(0)
		self.body = self.raw[trace.end():]
		self.id = TRACE_ID.search(self.trace).group(1).decode()
		self.folder = os.path.dirname(os.path.dirname(path))


def merged(sections, more):
	result = dict((name, dict(keys)) for name, keys in sections.items())
	for name, keys in more.items():
		if keys is None:
			result.pop(name, None)
			continue
		section = result.setdefault(name, {})
		for key, value in keys.items():
			if value is None:
				section.pop(key, None)
			else:
				section[key] = value
	return result


class Server:
	"""
	One smtpd. sections: what differs from the configuration below; root: keep root's rights and let the server drop them;
	before: words in front of the command, as ["prlimit", ...].
	"""

	def __init__(self, place, sections=None, root=False, before=(), environ=None):
		self.place = place
		self.folder = place.folder()
		self.mail = os.path.join(self.folder, "mail")
		self.record = os.path.join(self.folder, "record")
		self.config = os.path.join(self.folder, "smtpd.conf")
		self.root = root
		self.before = list(before)
		self.environ = environ or {}
		self.sections = {}
		self.configure({
			"server": {"hostname": "mx.local.test"},
			"smtpd": {"domains": "local.test, other.test, open.test", "user": "nobody"},
			"smtpd.listener mx": {"address": "127.0.0.1:0"},
			"smtpd.delivery": {"maildir": self.mail + "/%{domain}/%{user}", "create": "yes"},
		})
		self.configure(sections or {})
		self.process = None
		self.promised = []		# ids of messages that a client saw accepted
		self.unpromised = 0		# messages that may be there though their reply was lost
		self.seen = set()
		self.clients = []
		self.source = None		# where they connect from: (address, 0); None: anywhere

	# -- starting and stopping --

	def configure(self, more):
		self.sections = merged(self.sections, more)
		if "command" in self.sections["smtpd.delivery"]:
			self.sections["smtpd.delivery"].pop("maildir", None)
			self.sections["smtpd.delivery"].pop("create", None)

	def reload(self, more):
		"""Once for each test: the next reload would have the same log line."""
		self.configure(more)
		self.write_config()
		self.send_signal(signal.SIGHUP)

	def write_config(self):
		with open(self.config, "w") as f:
			for name, keys in self.sections.items():
				f.write("[%s]\n" % name)
				for key, value in keys.items():
					f.write("%s = %s\n" % (key, value))

	def start(self):
		self.lines = []
		self.logs = []
		self.new_line = threading.Condition()
		self.reading = threading.Event()	# cleared, nobody reads the server's log
		self.reading.set()
		self.addresses = {}
		self.write_config()
		os.makedirs(self.mail, exist_ok=True)
		if ROOT:
			os.chown(self.mail, NOBODY, NOBODY)
		command = self.before + [self.place.program, "-c", self.config]
		drop = ["--reuid=%d" % NOBODY, "--regid=%d" % NOBODY, "--clear-groups"] if ROOT and not self.root else []
		# no server outlives a test run that is killed
		command = ["setpriv", "--pdeathsig=KILL"] + drop + command
		environ = {"PATH": os.environ["PATH"], "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
		environ.update(self.environ)
		self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
			env=environ, cwd=self.folder, start_new_session=True)
		CENSUS.known.add(self.process.pid)
		self.reader = threading.Thread(target=self.read, args=(self.process.stdout,), daemon=True)
		self.reader.start()
		for name in self.sections:
			if name.startswith("smtpd.listener "):
				listener = name.split(" ", 1)[1]
				line = self.wait_log("listening", listener=listener)
				host, port = line["address"].rsplit(":", 1)
				self.addresses[listener] = (host.strip("[]"), int(port))
		self.wait_log("started")
		return self

	def read(self, pipe):
		for line in pipe:
			self.reading.wait()
			text = line.decode("utf-8", "backslashreplace").rstrip("\n")
			with self.new_line:
				self.lines.append(text)
				self.logs.append(parse_line(text))
				self.new_line.notify_all()

	def log(self, event, **fields):
		"""All lines of an event so far that have these fields."""
		with self.new_line:
			return [line for line in self.logs if line.get("event") == event and
				all(line.get(k) == str(v) for k, v in fields.items())]

	def wait_log(self, event, count=1, timeout=PATIENCE, **fields):
		end = time.monotonic() + timeout
		while True:
			found = self.log(event, **fields)
			if len(found) >= count:
				return found[count - 1]
			ended = self.process.poll() is not None and not self.reader.is_alive()
			assert not ended and time.monotonic() < end, "no event=%s %s\n%s" % (event, fields, self.text())
			with self.new_line:
				self.new_line.wait(0.01)

	def text(self):
		with self.new_line:
			return "\n".join(self.lines[-200:])

	def send_signal(self, number):
		os.kill(self.process.pid, number)

	def stop(self, expect=0, number=signal.SIGTERM):
		if self.process is None:
			return
		process, self.process = self.process, None
		try:
			if process.poll() is None and number is not None:
				os.kill(process.pid, number)
			code = process.wait(40)
			# the pipe ends with the last process that holds it
			left = lambda: not CENSUS.strangers()
			until(left, "left over: %s\n%s" % ([status(p) for p in CENSUS.strangers()], self.text()), 5)
			self.reader.join(PATIENCE)
			assert code == expect, "exit %d\n%s" % (code, self.text())
			self.check_sanitizer()
		finally:
			if process.poll() is None:
				process.kill()
				process.wait()
			CENSUS.known.discard(process.pid)
			for pid in CENSUS.strangers():
				os.kill(pid, signal.SIGKILL)
			self.reader.join(PATIENCE)
			process.stdout.close()

	def check_sanitizer(self):
		for line in self.lines:
			assert "Sanitizer" not in line and "runtime error" not in line, self.text()

	# -- its processes --

	def agent(self):
		found = [p for p in children(self.process.pid) if self.role(p) == "agent"]
		return found[-1] if found else None

	def fronts(self):
		return [p for p in children(self.process.pid) if self.role(p) == "front"]

	def role(self, pid):
		"""Only fronts are locked in: a process that has no new privileges."""
		if not alive(pid):
			return None
		return "front" if status(pid).get("NoNewPrivs") == "1" else "agent"

	def ready(self):
		"""Wait until each process has begun its work, so that a later census compares like with like."""
		for listener in self.addresses:
			if self.sections["smtpd.listener " + listener].get("mode") == "smtps":
				context = ssl.create_default_context()
				context.check_hostname = False
				context.verify_mode = ssl.CERT_NONE
				smtp = self.connect(listener, tls=context)
			else:
				smtp = self.connect(listener)
			assert smtp.cmd(b"QUIT\r\n") == (221, "2.0.0")
			smtp.expect_close()
		self.clients = []
		self.baseline = self.census()
		for _ in range(20):	# until the last of them is gone
			time.sleep(0.002)
			now = self.census()
			if now != self.baseline:
				self.baseline = now

	def census(self):
		"""Descriptors by process, the agent's without those of its children, which come as they are needed."""
		found = {"master": descriptors(self.process.pid)}
		for pid in self.fronts():
			found["front %d" % pid] = descriptors(pid)
		agent = self.agent()
		count = descriptors(agent)
		found["agent"] = None if count is None else count - len(children(agent))
		return found

	def check_census(self):
		end = time.monotonic() + 5
		while self.census() != self.baseline:
			assert time.monotonic() < end, "descriptors: %s at first, now %s" % (self.baseline, self.census())
			time.sleep(0.002)

	# -- the ledger --

	def paths(self):
		found = []
		for folder, _, files in os.walk(self.mail):
			if os.path.basename(folder) == "new":
				found += [os.path.join(folder, f) for f in files]
		return found

	def take(self):
		"""Messages that came since the last call, the oldest first."""
		new = sorted(set(self.paths()) - self.seen, key=lambda p: (os.stat(p).st_mtime_ns, os.path.basename(p)))	# a tick of the clock may hold two
		self.seen.update(new)
		return [Message(p) for p in new]

	def check_ledger(self):
		"""I2: what was promised is there, once in each folder; nothing is there that was not promised."""
		count = {}
		for path in self.paths():
			m = Message(path)
			key = (m.id, m.folder)
			count[key] = count.get(key, 0) + 1
		doubled = [k for k, n in count.items() if n > 1]
		ids = set(k[0] for k in count)
		assert not doubled, "delivered twice: %s" % doubled
		assert set(self.promised) <= ids, "promised and lost: %s" % (set(self.promised) - ids)
		extra = ids - set(self.promised)
		assert len(extra) <= self.unpromised, "delivered without a promise: %s\n%s" % (extra, self.text())

	# -- its clients --

	def dial(self, address):
		return socket.create_connection(address, PATIENCE, self.source)

	def connect(self, listener="mx", greet=True, hello=None, tls=None, name="mx.local.test", session=None):
		"""tls: a context, for a listener that begins with a handshake."""
		smtp = Smtp(self, self.addresses[listener], listener)
		self.clients.append(smtp)
		if tls is not None:
			smtp.wrap(tls, name, session)
		if greet:
			assert smtp.reply().pair == (220, "")
		if hello:
			assert smtp.cmd(hello)[0] == 250
		return smtp

	def disconnect_all(self):
		for smtp in self.clients:
			smtp.finish()
		self.clients = []


class FarServer(Server):
	"""A server in a network of its own, where it and its clients have addresses that are no loopback. Needs root."""

	ADDRESS = "192.0.2.1"
	NETWORK = "ip link set lo up && ip address add %s/32 dev lo && exec \"$@\"" % ADDRESS

	def __init__(self, place, sections=None, **how):
		super().__init__(place, sections, root=True, before=["unshare", "--net", "sh", "-c", self.NETWORK, "sh"], **how)

	def inside(self, make):
		"""A socket belongs to the network of the thread that made it."""
		result = []

		def run():
			libc = ctypes.CDLL(None, use_errno=True)
			with open("/proc/%d/ns/net" % self.process.pid) as network:
				assert libc.setns(network.fileno(), 0x40000000) == 0, os.strerror(ctypes.get_errno())	# CLONE_NEWNET
			result.append(make())
		thread = threading.Thread(target=run)
		thread.start()
		thread.join()
		return result[0]

	def dial(self, address):
		return self.inside(lambda: socket.create_connection(address, PATIENCE, self.source))


# ---- the client ----

class Reply:
	def __init__(self, lines):
		self.lines = lines
		codes = set(line[:3] for line in lines)
		assert len(codes) == 1, lines
		self.code = int(lines[0][:3])
		escs = [ESC.match(line[4:]) for line in lines]
		self.esc = escs[0].group(1).decode() if escs[0] else ""
		for line, esc in zip(lines, escs):
			assert len(line) <= 510 and all(0x20 <= c < 0x7f for c in line), "not a reply line: %r" % line
			assert (esc.group(1).decode() if esc else "") == self.esc, lines
		if self.esc:
			assert self.esc[0] == str(self.code)[0], lines
		self.text = [line[4:] for line in lines]

	@property
	def pair(self):
		return (self.code, self.esc)

	def __repr__(self):
		return repr(self.lines)


class Closed(Exception):
	pass


class Smtp:
	"""Exact octets to the server. A reply that nobody asked for is an error when the next one is read, or at the end."""

	def __init__(self, server, address, listener):
		self.server = server
		self.listener = listener
		self.sock = server.dial(address)
		self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
		self.data = b""
		self.open = True
		self.unasked = True		# look for replies that nobody asked for

	def send(self, octets):
		self.sock.sendall(octets)

	def unread(self):
		"""Octets that the server's kernel has and the server has not read yet."""
		return DIAGNOSIS.unread(self.sock.getpeername(), self.sock.getsockname())

	def send_cut(self, octets, cuts):
		"""Segments that the server reads one by one: each is sent when the one before has been read."""
		at = 0
		for cut in list(cuts) + [len(octets)]:
			if cut <= at:
				continue
			try:
				self.sock.sendall(octets[at:cut])
			except (BrokenPipeError, ConnectionResetError):
				return
			at = cut
			end = time.monotonic() + 1
			while at < len(octets) and self.unread() > 0 and time.monotonic() < end:
				os.sched_yield()

	def line(self, timeout=PATIENCE):
		self.sock.settimeout(timeout)
		while b"\n" not in self.data:
			try:
				more = self.sock.recv(65536)
			except ConnectionResetError:
				raise Closed(self.data)
			if more == b"":
				raise Closed(self.data)
			self.data += more
		line, self.data = self.data.split(b"\n", 1)
		assert line.endswith(b"\r"), "reply without CR: %r" % line
		return line[:-1]

	def reply(self, timeout=PATIENCE):
		lines = []
		while True:
			line = self.line(timeout)
			assert re.match(rb"^[2345]\d\d[ -]", line), "not a reply: %r" % line
			lines.append(line)
			if line[3:4] == b" ":
				break
		found = ENDED.match(lines[-1])
		if found:
			self.server.promised.append(found.group(1).decode())
		return Reply(lines)

	def replies(self, count, timeout=PATIENCE):
		return [self.reply(timeout).pair for _ in range(count)]

	def all_replies(self, timeout=PATIENCE):
		"""Everything up to the server's close."""
		found = []
		while True:
			try:
				found.append(self.reply(timeout).pair)
			except Closed as e:
				assert e.args[0] == b"", "half a reply: %r" % e.args[0]
				self.close()
				return found

	def ask(self, octets, timeout=PATIENCE):
		"""One command, one reply (I1)."""
		self.send(octets)
		reply = self.reply(timeout)
		assert self.data == b"", "more than one reply to %r: %r, then %r" % (octets[:80], reply, self.data)
		return reply

	def cmd(self, octets, timeout=PATIENCE):
		return self.ask(octets, timeout).pair

	def expect_close(self, timeout=PATIENCE):
		try:
			line = self.line(timeout)
		except Closed as e:
			assert e.args[0] == b"", e.args[0]
			self.close()
			return
		raise AssertionError("expected a close, got %r" % line)

	def close(self):
		self.open = False
		self.sock.close()

	def reset(self):
		"""Go as a client goes that crashed: with RST."""
		self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
		self.close()

	def finish(self):
		"""Nothing may have been said that nobody asked for."""
		if not self.open:
			return
		if not self.unasked:
			self.reset()
			return
		try:
			assert self.data == b"", "unasked: %r" % self.data
			if isinstance(self.sock, ssl.SSLSocket):
				self.sock.settimeout(PATIENCE)
				self.sock = self.sock.unwrap()
			self.sock.shutdown(socket.SHUT_WR)
			self.expect_close()
		except OSError:
			pass
		finally:
			self.close()

	# -- TLS and AUTH --

	def wrap(self, context, name="mx.local.test", session=None):
		"""The handshake; what was read in clear is nothing that TLS may know."""
		assert self.data == b"", "clear text before TLS: %r" % self.data
		self.sock.settimeout(PATIENCE)
		self.sock = context.wrap_socket(self.sock, server_hostname=name, session=session)

	def starttls(self, context, name="mx.local.test", session=None):
		assert self.cmd(b"STARTTLS\r\n") == (220, "2.0.0")
		self.wrap(context, name, session)

	def notify(self):
		"""close_notify, and nothing after it."""
		self.sock.unwrap()

	def auth(self, mechanism, response):
		return self.cmd(b"AUTH %s %s\r\n" % (mechanism, base64.b64encode(response) or b"="))

	# -- dialogues --

	def start_data(self, sender=b"a@x.test", rcpts=(b"bob@local.test",)):
		assert self.cmd(b"MAIL FROM:<" + sender + b">\r\n") == (250, "2.1.0")
		for rcpt in rcpts:
			assert self.cmd(b"RCPT TO:<" + rcpt + b">\r\n") == (250, "2.1.5")
		assert self.cmd(b"DATA\r\n") == (354, "")

	def message(self, content, sender=b"a@x.test", rcpts=(b"bob@local.test",), timeout=PATIENCE):
		"""content: as it goes over the wire, without the final dot."""
		self.start_data(sender, rcpts)
		return self.cmd(content + b".\r\n", timeout)
