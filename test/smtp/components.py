"""What looks at mail, by other people, each started as the tests need it: rspamd, spamd, opendkim, clamd, a milter of libmilter's."""

import base64
import http.server
import json
import os
import re
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time

import pytest

import harness
from peers import free_port

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"	# in two, so that nobody takes this file for one
HAM = b"From: a@x.test\r\nSubject: hello\r\nX-Spam-Flag: NO, forged\r\n\r\nA friendly word.\r\n"
DOMAIN, SELECTOR = "local.test", "toy"		# of the DKIM key

RSPAMD = """\
lua = "%(dir)s/toy.lua"
options {
  pidfile = "%(dir)s/rspamd.pid"; filters = "regexp,dkim"; dns { nameserver = ["127.0.0.1:9:1"]; timeout = 0.05s; retransmits = 1; sockets = 1; }
  disable_monitoring = true; disable_hyperscan = true; hs_cache_dir = "%(dir)s"; tempdir = "%(dir)s"; url_tld = "%(dir)s/tld";
  control_socket = "%(dir)s/ctl.sock mode=0600"; history_rows = 10; local_addrs = [];
}
logging { type = "console"; level = "notice"; color = false; }
actions { reject = 15; add_header = 6; greylist = 4; subject = "***SPAM*** %%s"; rewrite_subject = 10; }
metric { name = "default"; }
worker "normal" { bind_socket = "127.0.0.1:%(port)d"; bind_socket = "%(socket)s mode=0666"; count = 1; enabled = true; }
worker "rspamd_proxy" {
  bind_socket = "127.0.0.1:%(proxy)d"; count = 1; milter = yes; timeout = 10s;
  upstream "local" { default = yes; self_scan = yes; }
}
worker "controller" { bind_socket = "127.0.0.1:%(controller)d"; count = 1; password = "q"; enabled = true; }
regexp { TOY_HEADER = { re = 'X-Toy=/./H'; score = 7.0; } }
modules { path = "${PLUGINSDIR}"; }
milter_headers { use = ["x-spamd-result"]; skip_local = false; skip_authenticated = false; }
dkim_signing {
  enabled = true; sign_authenticated = true; sign_local = false; allow_username_mismatch = true; use_domain = "header"; use_esld = false;
  check_pubkey = false; use_redis = false; selector = "%(selector)s"; path = "%(key)s"; allow_hdrfrom_mismatch = true;
}
"""

CLASSIFIER = """\
classifier "bayes" {
  tokenizer { name = "osb"; } backend = "sqlite3"; min_learns = 1000000; cache { path = "%(dir)s/learned.sqlite"; }
  statfile { symbol = "BAYES_SPAM"; spam = true; path = "%(dir)s/spam.sqlite"; }
  statfile { symbol = "BAYES_HAM"; spam = false; path = "%(dir)s/ham.sqlite"; }
}
"""

TOY = """\
rspamd_config:register_symbol{ name='TOY_FORCE', type='prefilter', priority=10, callback=function(task)
  local h = task:get_header('X-Force'); if not h then return end
  task:set_pre_result(h, 'forced '..h, 'toy')
end}
rspamd_config:register_symbol{ name='TOY_EDIT', type='normal', score=0, callback=function(task)
  if not task:get_header('X-Edit') then return end
  task:set_milter_reply({ add_headers = { ['X-Added'] = 'by rspamd' }, remove_headers = { ['X-Edit'] = 0 } })
  return true
end}
rspamd_config:register_symbol{ name='TOY_CLIENT', type='normal', score=0, callback=function(task)
  if not task:get_header('X-Who') then return end
  task:set_milter_reply({ add_headers = { ['X-Client'] = task:get_hostname() or 'nobody' } })
  return true
end}
local say = rspamd_config:register_symbol{ name='TOY_SAY', type='normal', score=0, callback=function(task)
  for word in (task:get_header('X-Say') or ''):gmatch('%S+') do task:insert_result(word, 1.0) end
end}
for _, word in ipairs({ 'R_SPF_ALLOW', 'R_SPF_NA', 'R_DKIM_REJECT', 'DMARC_POLICY_REJECT', 'DMARC_NA', 'ARC_NA', 'RBL_X' }) do
  rspamd_config:register_symbol{ name=word, type='virtual', parent=say, score=word == 'RBL_X' and 0.5 or 0 }
end
"""


def nobody(command):
	return ["setpriv", "--pdeathsig=KILL", "--reuid=65534", "--regid=65534", "--clear-groups"] + command if harness.ROOT else command


def own(path, mode=0o600):
	"""For the user that nobody() is."""
	if harness.ROOT:
		os.chown(path, harness.NOBODY, harness.NOBODY)
	os.chmod(path, mode)


class Daemon:
	"""A component of somebody else's, ended with the tests."""

	patience = 10		# seconds, for its end
	host = "127.0.0.1"

	def __init__(self, place, program, package):
		self.program = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")
		if self.program is None:
			pytest.skip("%s is not installed (package %s)" % (program, package))
		self.folder = place.folder()

	def path(self, name):
		return os.path.join(self.folder, name)

	def write(self, name, text):
		with open(self.path(name), "w", encoding="ascii") as f:
			f.write(text)
		return self.path(name)

	def run(self, *arguments, port=None):
		self.log = open(self.path("log"), "wb")
		self.process = subprocess.Popen(nobody([self.program, *arguments]), stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT,
			cwd=self.folder)
		harness.CENSUS.known.add(self.process.pid)
		if port:
			harness.until(lambda: self.answers(port), "%s at port %d" % (self.program, port), 120)

	def output(self):
		with open(self.path("log"), encoding="utf-8", errors="replace") as f:
			return f.read()

	def answers(self, port):
		assert self.process.poll() is None, self.output()[-2000:]
		try:
			socket.create_connection((self.host, port), 1).close()
			return True
		except OSError:
			return False

	def stop(self):
		self.process.terminate()
		try:
			self.process.wait(self.patience)
		except subprocess.TimeoutExpired:
			self.process.kill()
			self.process.wait()
		harness.CENSUS.known.discard(self.process.pid)
		for pid in harness.CENSUS.strangers():	# its own children
			os.kill(pid, 9)
		self.log.close()


class Key:
	"""A DKIM key of DOMAIN's, and what its DNS record would say."""

	def __init__(self, place):
		self.path = os.path.join(place.folder(), "key.pem")
		subprocess.run(["openssl", "genrsa", "-out", self.path, "2048"], check=True, capture_output=True)
		own(self.path)
		public = subprocess.run(["openssl", "rsa", "-in", self.path, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
		self.name = "%s._domainkey.%s" % (SELECTOR, DOMAIN)
		self.record = "v=DKIM1; h=sha256; k=rsa; p=" + base64.b64encode(public).decode()


class Rspamd(Daemon):
	"""
	port, socket: its HTTP; proxy: a milter; controller: where it learns, with more = CLASSIFIER, and then it is not to be asked: it says
	"database is locked" to a lesson that comes with a check. It signs what users send with the key.
	"""

	def __init__(self, place, key, more=""):
		super().__init__(place, "rspamd", "rspamd")
		self.port, self.proxy, self.controller, self.socket = free_port(), free_port(), free_port(), self.path("rspamd.sock")
		self.write("rspamd.conf", (RSPAMD + more) % {"dir": self.folder, "port": self.port, "socket": self.socket, "proxy": self.proxy, "controller": self.controller,
			"selector": SELECTOR, "key": key.path})
		self.write("toy.lua", TOY)
		self.write("tld", "test\n")	# the list of all domains would take it many seconds to compile
		self.run("-f", "-c", self.path("rspamd.conf"), "--var=LOCAL_CONFDIR=none",
			*["--var=%s=%s" % (n, self.folder) for n in ("RUNDIR", "DBDIR", "LOGDIR")], port=self.port)
		for port in (self.proxy, self.controller):
			harness.until(lambda p=port: self.answers(p), "port %d" % port, 120)


class Spamd(Daemon):
	def __init__(self, place):
		super().__init__(place, "spamd", "spamd")
		self.port, self.socket = free_port(), self.path("spamd.sock")
		conf = self.path("conf")
		os.mkdir(conf)
		self.write("conf/init.pre", "loadplugin Mail::SpamAssassin::Plugin::Check\n")
		self.write("conf/toy.cf", "use_bayes 0\ndns_available no\nrequired_score 5.0\nreport_safe 0\n"
			"body GTUBE /XJS\\*C4JDBQADN1\\.NSBN3\\*2IDNEN\\*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL\\*C\\.34X/\nscore GTUBE 1000\n"
			"header TOY_HEADER X-Toy =~ /./\nscore TOY_HEADER 7.0\n"
			"header TOY_RELAY X-Spam-Relays-Trusted =~ /^\\[ ip=127\\.0\\.0\\.1 rdns=localhost helo=toy\\.test by=mx\\.local\\.test /\nscore TOY_RELAY 6.5\n"
			"header TOY_SENDER EnvelopeFrom =~ /^toy\\@x\\.test$/\nscore TOY_SENDER 6.3\n"
			"header TOY_AUTH X-Spam-Relays-Trusted =~ / auth=ESMTPSA /\nscore TOY_AUTH 6.1\n")
		self.run("-L", "-x", "-i", "127.0.0.1", "-p", str(self.port), "--socketpath=" + self.socket, "--socketmode=0666", "-A", "127.0.0.1",
			"-H", self.folder, "-C", conf,
			"--siteconfigpath=" + conf, "--min-children=1", "--max-children=2", "-s", "stderr", "-r", self.path("spamd.pid"), port=self.port)


class Libmilter(Daemon):
	"""It takes up to five seconds until it looks whether it should end."""

	patience = 0.1


class Opendkim(Libmilter):
	def __init__(self, place, key, sign):
		super().__init__(place, "opendkim", "opendkim")
		self.port, self.key = free_port(), key
		lines = "Syslog no\nSocket inet:%d@127.0.0.1\n" % self.port
		if sign:
			lines += ("Mode s\nDomain %s\nSelector %s\nKeyFile %s\nCanonicalization relaxed/simple\nInternalHosts 0.0.0.0/0\n"
				"OversignHeaders From\nRequireSafeKeys no\n" % (DOMAIN, SELECTOR, key.path))
		else:
			self.write("keys.txt", "%s %s\n" % (key.name, key.record))
			lines += ("Mode v\nAlwaysAddARHeader yes\nAuthservID mx.local.test\nInternalHosts 203.0.113.1/32\nTestPublicKeys %s\n" %
				self.path("keys.txt"))
		self.run("-f", "-x", self.write("conf", lines), port=self.port)


class Clamd(Daemon):
	"""With one signature: EICAR's."""

	def __init__(self, place):
		super().__init__(place, "clamd", "clamav-daemon")
		os.mkdir(self.path("db"))
		os.chmod(self.path("db"), 0o755)
		self.write("db/toy.ndb", "Toy.Eicar:0:*:%s\n" % EICAR.hex())
		self.socket = self.path("clamd.sock")
		self.run("-c", self.write("conf", "DatabaseDirectory %s\nLocalSocket %s\nForeground yes\nTemporaryDirectory %s\nMaxThreads 2\n"
			"SelfCheck 0\n" % (self.path("db"), self.socket, self.folder)))
		harness.until(lambda: os.path.exists(self.socket) or self.process.poll() is not None, "clamd's socket", 60)
		assert self.process.poll() is None, self.output()[-2000:]


class ClamavMilter(Libmilter):
	def __init__(self, place, clamd):
		super().__init__(place, "clamav-milter", "clamav-milter")
		self.port = free_port()
		self.run("-c", self.write("conf", "MilterSocket inet:%d@127.0.0.1\nForeground yes\nClamdSocket unix:%s\nOnInfected Reject\n"
			"RejectMsg virus found: %%v\nOnClean Accept\nOnFail Defer\nAddHeader Replace\nTemporaryDirectory %s\nLogSyslog no\n" %
			(self.port, clamd.socket, self.folder)), port=self.port)


class Toy(Libmilter):
	"""test/peers/toymilter.py: a milter that does what the message asks for."""

	def __init__(self, place, host="127.0.0.1"):
		super().__init__(place, sys.executable, "python3")
		self.host = host
		if subprocess.run([self.program, "-c", "import Milter"], capture_output=True, check=False).returncode != 0:
			pytest.skip("%s has no module Milter (package python3-milter)" % self.program)
		self.port = free_port()
		shutil.copy(os.path.join(harness.TOP, "test", "peers", "toymilter.py"), self.folder)
		self.run(self.path("toymilter.py"), "%s:%d@%s" % ("inet6" if ":" in host else "inet", self.port, host), port=self.port)


class FakeRspamd:
	"""
	It answers each question with the same JSON, as long as it is not told otherwise, and remembers what it was sent. path: of its unix
	socket; else it has a port.
	"""

	def __init__(self, result=None, path=None):
		self.requests = []	# (path, header, body)
		self.answers = {"/checkv2": (200, json.dumps(result or {"action": "no action"}).encode()), "/learnspam": (200, b'{"success":true}')}
		fake = self

		class Handler(http.server.BaseHTTPRequestHandler):
			protocol_version = "HTTP/1.1"

			def do_POST(self):
				body = self.rfile.read(int(self.headers["Content-Length"]))
				fake.requests.append((self.path, self.headers, body))
				status, answer = fake.answers[self.path]
				self.send_response(status)
				self.send_header("Content-Length", str(len(answer)))
				self.end_headers()
				self.wfile.write(answer)

			def log_message(self, *_):
				pass
		if path is None:
			self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
			self.port = self.server.server_address[1]
			self.url = "http://127.0.0.1:%d" % self.port
		else:
			self.server = socketserver.ThreadingUnixStreamServer(path, Handler)
			self.server.daemon_threads = True
			os.chmod(path, 0o666)
			self.url = "unix:" + path
		threading.Thread(target=self.server.serve_forever, daemon=True).start()

	@property
	def shown(self):
		"""The messages that it was asked about."""
		return self.bodies("/checkv2")

	def bodies(self, path, count=0):
		"""Of all requests for it so far, which are so many at least."""
		found = lambda: [body for p, _, body in self.requests if p == path]
		harness.until(lambda: len(found()) >= count, "%d requests for %s" % (count, path))
		return found()

	def close(self):
		self.server.shutdown()
		self.server.server_close()


def posted(stream):
	"""The content of a request by HTTP."""
	length = 0
	while (line := stream.readline()) not in (b"\r\n", b""):
		if line.startswith(b"Content-Length:"):
			length = int(line.split(b":")[1])
	return stream.read(length)


FIELDS = b"X: y\r\n" * 1000
ANSWERS = {
	"rspamd": {
		"late": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"action\":",
		"500": b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}",
		"error": b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"error\":\"no\"}",
		"nonsense": b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"action\":\"maybe\"}",
		"endless": b"HTTP/1.1 200 OK\r\n\r\n",
		"version": b"HTTP/9.9 200 OK\r\nContent-Length: 22\r\n\r\n{\"action\":\"no action\"}",
		"drip": b"HTTP/1.1 200 OK\r\n" + FIELDS,
	},
	"spamassassin": {
		"late": b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 0.0 / 5",
		"500": b"SPAMD/1.0 74 EX_IOERR\r\n\r\n",
		"error": b"SPAMD/1.1 0 EX_OK\r\nContent-length: 9\r\nSpam: False ; 0.0 / 5.0\r\n\r\n",
		"nonsense": b"SPAMD/1.1 0 EX_OK\r\nSpam: Maybe ; 0.0 / 5.0\r\n\r\n",
		"endless": b"SPAMD/1.1 0 EX_OK\r\n",
		"version": b"SPAMD/9.9 0 EX_OK\r\nSpam: False ; 0.0 / 5.0\r\n\r\n",
		"drip": b"SPAMD/1.1 0 EX_OK\r\n" + FIELDS,
	},
}


class Peer:
	"""A server that misbehaves in one way (SECURITY-CASES 11.1 to 11.7). kind: the checker that it plays; a key of ANSWERS."""

	def __init__(self, mode, kind="rspamd"):
		self.mode = mode
		self.answers = ANSWERS[kind]
		self.socket = socket.socket()
		self.socket.bind(("127.0.0.1", 0))
		self.port = self.socket.getsockname()[1]
		self.held = []
		if mode == "refuse":
			self.socket.close()
			return
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
		try:
			if self.mode == "hang":
				self.held.append(c)
				return
			if self.mode != "early":
				self.hear(c)
				self.say(c)
				# closed with something unread, it would take back what it has said
				c.shutdown(socket.SHUT_WR)
				while c.recv(65536):
					pass
			c.close()
		except OSError:
			pass

	def hear(self, c):
		"""All of the question: what comes sooner is a fault of its own (case 11.5)."""
		with c.makefile("rb") as question:
			if self.answers is ANSWERS["spamassassin"]:
				question.read()
			else:
				posted(question)

	def say(self, c):
		answer = os.urandom(4096) if self.mode == "garbage" else self.answers[self.mode]
		if self.mode != "drip":
			c.sendall(answer)
		while self.mode == "endless":
			c.sendall(FIELDS)
		if self.mode == "drip":
			for octet in answer:
				c.sendall(bytes([octet]))
				time.sleep(0.02)

	def close(self):
		self.socket.close()
		for c in self.held:
			c.close()


class NeverCloses:
	"""An rspamd, asked by HTTPS, that says that it closes, and neither does nor answers close_notify."""

	def __init__(self, cert, key):
		self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
		self.context.load_cert_chain(cert, key)
		self.listener = socket.create_server(("127.0.0.1", 0))
		self.url = "https://localhost:%d" % self.listener.getsockname()[1]
		self.kept = []
		self.thread = threading.Thread(target=self.serve, daemon=True)
		self.thread.start()

	def serve(self):
		answer = json.dumps({"action": "no action", "score": 0}).encode()
		while True:
			try:
				c = self.context.wrap_socket(self.listener.accept()[0], server_side=True)
			except OSError:
				return
			self.kept.append(c)
			head, _, body = c.recv(65536).partition(b"\r\n\r\n")
			while len(body) < int(re.search(rb"(?i)content-length: (\d+)", head).group(1)):
				body += c.recv(65536)
			c.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)

	def close(self):
		self.listener.shutdown(socket.SHUT_RDWR)
		self.listener.close()
		self.thread.join(harness.PATIENCE)
		for c in self.kept:
			c.close()


class MilterPeer(Peer):
	"""The same as a milter, which may well negotiate first."""

	def answer(self, c):
		if self.mode in ("hang", "early"):
			super().answer(c)
			return
		try:
			if self.mode == "garbage":
				c.sendall(b"220 mx.test ESMTP\r\n" * 1000)
				c.close()
				return
			packets = self.packets(c)
			next(packets)		# what we offer
			options = struct.pack(">Ic3I", 13, b"O", 1 if self.mode == "version" else 6, 0x3f, 0)
			if self.mode == "drip":
				for octet in options:
					c.sendall(bytes([octet]))
					time.sleep(0.1)
			else:
				c.sendall(options)
			for command in packets:
				if self.mode == "late":
					break
				if self.mode == "endless":
					while True:
						c.sendall(b"\0\0\0\1p")
						time.sleep(0.02)
				if self.mode == "unasked":
					c.sendall(b"\0\0\0\1c" * 2)
				elif self.mode == "changing" and command == b"E":
					c.sendall(b"\0\0\0\5bpart")
					break
				elif command not in (b"D", b"K", b"A", b"Q"):	# macros, and what ends a message or session, have no reply
					c.sendall(b"\0\0\0\1c")
			c.close()
		except (OSError, StopIteration):
			pass

	@staticmethod
	def packets(c):
		"""The command of each, as they come."""
		data = b""
		while True:
			while len(data) >= 5 and len(data) >= 4 + int.from_bytes(data[:4], "big"):
				yield data[4:5]
				data = data[4 + int.from_bytes(data[:4], "big"):]
			more = c.recv(65536)
			if more == b"":
				return
			data += more


def checker(port, kind="rspamd", **more):
	url = "http://127.0.0.1:%d" % port if kind == "rspamd" else "127.0.0.1:%d" % port
	return {"spamcheck.checker %s" % kind: dict({"type": kind, "url": url, "timeout": "3s"}, **more)}


def milter(name, port, **more):
	return {"smtpd.milter %s" % name: dict({"address": "inet:127.0.0.1:%d" % port}, **more)}


def send(server, content, sender=b"a@x.test", rcpts=(b"bob@local.test",), hello=b"t.test"):
	"""One message on a connection of its own; the reply to its end."""
	client = server.connect(hello=b"EHLO " + hello + b"\r\n")
	client.start_data(sender, rcpts)
	client.send(content + b".\r\n")
	reply = client.reply()
	client.finish()
	return reply
