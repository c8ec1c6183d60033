"""What checkers and milters are told of a client's name (SECURITY-CASES 9.10, 9.11, 11.8), with DNS that lies or says nothing."""

import os
import re
import signal
import socket
import struct
import threading
import time

import pytest

import harness
from components import checker, milter, send

GOOD = (250, "2.0.0")
CONTENT = b"From: a@x.test\r\nX-Who: 1\r\n\r\nA friendly word.\r\n"


class Notes:
	"""In place of rspamd, on a socket of the file system: it notes what it is told, and finds nothing."""

	def __init__(self, folder):
		self.path = os.path.join(folder, "rspamd")
		self.heard = []
		self.socket = socket.socket(socket.AF_UNIX)
		self.socket.bind(self.path)
		os.chmod(self.path, 0o666)
		self.socket.listen(64)
		threading.Thread(target=self.serve, daemon=True).start()

	def serve(self):
		while True:
			try:
				c, _ = self.socket.accept()
			except OSError:
				return
			threading.Thread(target=self.answer, args=(c,), daemon=True).start()

	def answer(self, c):
		data = b""
		while True:
			while b"\r\n\r\n" not in data:
				more = c.recv(65536)
				if more == b"":
					c.close()
					return
				data += more
			header, data = data.split(b"\r\n\r\n", 1)
			left = int(re.search(rb"(?i)\ncontent-length: (\d+)", header).group(1))
			while len(data) < left:
				data += c.recv(65536)
			data = data[left:]
			self.heard.append(header.split(b"\r\n")[1:])
			c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"action\":\"no action\"}")

	def sections(self):
		return {"spamcheck.checker notes": {"type": "rspamd", "url": "unix:" + self.path, "timeout": "5s"}}

	def hostname(self):
		"""Of the last message; None: nothing was said."""
		(found,) = [line[10:] for line in self.heard[-1] if line.lower().startswith(b"hostname: ")] or [None]
		return found


@pytest.fixture
def notes(place):
	n = Notes(place.folder())
	yield n
	n.socket.close()


def test_rspamd_is_told_the_name(start, notes):
	server = start(notes.sections())
	assert send(server, CONTENT).pair == GOOD
	assert notes.hostname() == b"localhost"
	(m,) = server.take()
	assert b"Received: from t.test (localhost [127.0.0.1])\n" in m.trace


def test_nobody_is_told_where_a_key_says_so(start, notes):
	server = start(dict(notes.sections(), smtpd={"client_names": "no"}))
	assert send(server, CONTENT).pair == GOOD
	assert notes.hostname() is None
	(m,) = server.take()
	assert b"Received: from t.test ([127.0.0.1])\n" in m.trace


@pytest.mark.parametrize("how", ["checker", "milter"])
def test_rspamd_itself_knows_the_client(start, rspamd, how):
	named = start(checker(rspamd.port) if how == "checker" else milter("rspamd", rspamd.proxy))
	assert send(named, CONTENT).pair == GOOD
	(m,) = named.take()
	assert b"\nX-Client: localhost\n" in m.raw


# ---- DNS ----

class Dns:
	"""
	A server of names. zone: by name and type (1: A, 12: PTR) the data of one record; NXDOMAIN; a name of no type that is there
	is answered by nothing.
	"""

	NXDOMAIN = object()

	def __init__(self, socket_, zone):
		self.socket, self.zone, self.asked = socket_, zone, []
		threading.Thread(target=self.serve, daemon=True).start()

	@staticmethod
	def name(*labels):
		return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"

	@staticmethod
	def reverse(address):
		return Dns.name(*[octet.encode() for octet in reversed(address.split("."))], b"in-addr", b"arpa")

	def serve(self):
		while True:
			try:
				query, client = self.socket.recvfrom(512)
			except OSError:
				return
			end = query.index(b"\0", 12) + 1
			name, kind = query[12:end], struct.unpack_from(">H", query, end)[0]
			self.asked.append((name, kind))
			data = self.zone.get((name, kind), self.zone.get(name))
			if data is None:
				continue
			head = query[:2] + (b"\x81\x83\0\1\0\0" if data is self.NXDOMAIN else b"\x81\x80\0\1\0\1") + b"\0\0\0\0" + query[12:end + 4]
			record = b"" if data is self.NXDOMAIN else b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data
			self.socket.sendto(head + record, client)


def with_mounts(commands):
	"""What a FarServer begins with, with mounts of its own."""
	return harness.FarServer.NETWORK.replace("exec", "exec unshare --mount sh -c '%s && exec \"$@\"' sh" % commands)


class BareServer(harness.FarServer):
	"""As in an image that has nothing but the program and a user."""

	NETWORK = with_mounts("cp /etc/passwd . && mount -t tmpfs none /etc && cp passwd /etc")


class NamedServer(harness.FarServer):
	"""In a network where the server of names is a test's; clients come from all of 127.0.0.0/8."""

	NETWORK = with_mounts("mount --bind resolv.conf /etc/resolv.conf")
	source = "127.0.0.1"

	def start(self):
		with open(os.path.join(self.folder, "resolv.conf"), "w", encoding="ascii") as f:
			f.write("nameserver %s\noptions timeout:30\n" % self.ADDRESS)
		super().start()
		self.dns = Dns(self.inside(self.dns_socket), {})
		return self

	def dns_socket(self):
		s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		s.bind((self.ADDRESS, 53))
		return s

	def dial(self, address):
		return self.inside(lambda: socket.create_connection(address, harness.PATIENCE, (self.source, 0)))


@pytest.fixture
def named(place, notes):
	server = NamedServer(place, notes.sections())
	server.start()
	yield server
	server.disconnect_all()
	server.stop()
	server.dns.socket.close()
	server.check_ledger()


CONFIRMED, ELSEWHERE = "itself", "192.0.2.77"
LIES = [
	((b"Mail", b"good", b"test"), CONFIRMED, b"mail.good.test"),
	((b"mail", b"liar", b"test"), ELSEWHERE, None),
	((b"mail", b"nowhere", b"test"), None, None),
	(None, None, None),
	# names that are none, whatever else is said of them (case 9.11)
	((b"x\r\nX-Injected: 1", b"test"), CONFIRMED, None),
	((b"x) (by trusted", b"test"), CONFIRMED, None),
	((b"t\xc3\xabst", b"test"), CONFIRMED, None),
	((b"a b", b"test"), CONFIRMED, None),
	((), CONFIRMED, None),
	((b"127", b"0", b"0", b"%d"), CONFIRMED, None),		# the address itself
]


@pytest.mark.root
def test_a_name_is_told_if_it_is_one_and_leads_back(named, notes):
	zone = named.dns.zone
	for i, (labels, leads_to, want) in enumerate(LIES):
		named.source = "127.0.0.%d" % (10 + i)
		if labels is None:
			zone[Dns.reverse(named.source)] = Dns.NXDOMAIN
		else:
			name = Dns.name(*[label.replace(b"%d", b"%d" % (10 + i)) for label in labels])
			zone[Dns.reverse(named.source), 12] = name
			# it is asked for as it is written, or in small letters
			for n in (name, name.lower()):
				zone[n] = Dns.NXDOMAIN
				if leads_to:
					zone[n, 1] = socket.inet_aton(named.source if leads_to is CONFIRMED else leads_to)
		assert send(named, CONTENT).pair == GOOD
		assert notes.hostname() == want, labels
		(m,) = named.take()
		assert m.trace.split(b"\n")[2] == b"Received: from t.test (%s[%s])" % (b"" if want is None else want + b" ", named.source.encode())
	# it is known by now
	asked = len(named.dns.asked)
	assert asked >= len(LIES)
	named.source = "127.0.0.10"
	assert send(named, CONTENT).pair == GOOD and notes.hostname() == b"mail.good.test"
	assert len(named.dns.asked) == asked


@pytest.mark.root
def test_dns_that_says_nothing_holds_up_one_message_for_a_while(named, notes):		# case 11.8
	named.source = "127.0.0.10"
	client = named.connect(hello=b"EHLO t.test\r\n")
	began = time.monotonic()
	assert client.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
	harness.until(lambda: named.dns.asked, "a question")
	assert client.cmd(b"RCPT TO:<bob@local.test>\r\n") == (250, "2.1.5")
	assert client.cmd(b"DATA\r\n") == (354, "")
	client.send(CONTENT + b".\r\n")
	named.source = "127.0.0.1"		# whose name is in /etc/hosts
	for _ in range(3):
		at = time.monotonic()
		assert send(named, CONTENT).pair == GOOD
		assert time.monotonic() - at < 1 and notes.hostname() == b"localhost"
	assert client.reply(8).pair == GOOD
	assert 3 < time.monotonic() - began < 8 and notes.hostname() is None
	# once is enough
	at, asked = time.monotonic(), len(named.dns.asked)
	assert client.message(CONTENT) == GOOD
	assert time.monotonic() - at < 1 and notes.hostname() is None and len(named.dns.asked) == asked
	assert len(named.take()) == 5


@pytest.mark.root
@pytest.mark.parametrize("hurry", [False, True])
def test_the_end_comes_while_dns_says_nothing(named, hurry):
	named.source = "127.0.0.10"
	client = named.connect(hello=b"EHLO t.test\r\n")
	client.start_data()
	client.send(CONTENT + b".\r\n")
	harness.until(lambda: named.dns.asked, "a question")
	client.reset()
	at = time.monotonic()
	if hurry:
		named.send_signal(signal.SIGTERM)
		named.wait_log("stopping")
	named.stop()
	assert time.monotonic() - at < (2 if hurry else 8) and named.take() == []


@pytest.mark.root
def test_without_a_resolver_there_are_no_names(place, notes):
	server = BareServer(place, notes.sections()).start()
	at = time.monotonic()
	assert send(server, CONTENT).pair == GOOD
	assert time.monotonic() - at < 1 and notes.hostname() is None
	server.stop()
	server.check_ledger()
