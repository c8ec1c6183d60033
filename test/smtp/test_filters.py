"""rspamd, spamd, milters and hooks, the real things (SECURITY-CASES 9.12, 11)."""

import os
import re
import shutil
import socket
import subprocess
import threading
import time

import pytest

import harness

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
HAM = b"From: a@x.test\r\nSubject: hello\r\nX-Spam-Flag: NO, forged\r\n\r\nA friendly word.\r\n"

RSPAMD = """\
lua = "%(dir)s/toy.lua"
options {
  pidfile = "%(dir)s/rspamd.pid"; filters = "regexp"; dns { nameserver = ["127.0.0.1:9:1"]; timeout = 0.05s; retransmits = 1; sockets = 1; }
  disable_monitoring = true; disable_hyperscan = true; hs_cache_dir = "%(dir)s"; tempdir = "%(dir)s";
  control_socket = "%(dir)s/ctl.sock mode=0600"; history_rows = 10; local_addrs = [];
}
logging { type = "console"; level = "notice"; color = false; }
actions { reject = 15; add_header = 6; greylist = 4; subject = "***SPAM*** %%s"; rewrite_subject = 10; }
metric { name = "default"; }
worker "normal" { bind_socket = "127.0.0.1:%(port)d"; count = 1; enabled = true; }
worker "controller" { bind_socket = "127.0.0.1:%(controller)d"; count = 1; password = "q"; enabled = true; }
regexp { TOY_HEADER = { re = 'X-Toy=/./H'; score = 7.0; } }
modules { path = "${PLUGINSDIR}"; }
"""

TOY = """\
rspamd_config:register_symbol{ name='TOY_FORCE', type='prefilter', priority=10, callback=function(task)
  local h = task:get_header('X-Force'); if not h then return end
  task:set_pre_result(h, 'forced '..h, 'toy')
end}
"""


def free_port():
	with socket.socket() as s:
		s.bind(("127.0.0.1", 0))
		return s.getsockname()[1]


def nobody(command):
	return ["setpriv", "--pdeathsig=KILL", "--reuid=65534", "--regid=65534", "--clear-groups"] + command if harness.ROOT else command


class Daemon:
	"""A component of somebody else's, ended with the tests."""

	def __init__(self, place, name, package):
		if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None:
			pytest.skip("%s is not installed (package %s)" % (name, package))
		self.folder = place.folder()

	def run(self, command, port=None):
		self.log = open(os.path.join(self.folder, "log"), "wb")
		self.process = subprocess.Popen(nobody(command), stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT, cwd=self.folder)
		harness.CENSUS.known.add(self.process.pid)
		if port:
			harness.until(lambda: self.answers(port), "port %d" % port, 120)

	def answers(self, port):
		assert self.process.poll() is None, open(os.path.join(self.folder, "log")).read()[-2000:]
		try:
			socket.create_connection(("127.0.0.1", port), 1).close()
			return True
		except OSError:
			return False

	def stop(self):
		self.process.terminate()
		try:
			self.process.wait(10)
		except subprocess.TimeoutExpired:
			self.process.kill()
			self.process.wait()
		harness.CENSUS.known.discard(self.process.pid)
		for pid in harness.CENSUS.strangers():	# its own children
			os.kill(pid, 9)
		self.log.close()


@pytest.fixture(scope="module")
def rspamd(place):
	d = Daemon(place, "rspamd", "rspamd")
	d.port, d.controller = free_port(), free_port()
	with open(os.path.join(d.folder, "rspamd.conf"), "w") as f:
		f.write(RSPAMD % {"dir": d.folder, "port": d.port, "controller": d.controller})
	with open(os.path.join(d.folder, "toy.lua"), "w") as f:
		f.write(TOY)
	variables = ["--var=%s=%s" % (n, d.folder) for n in ("RUNDIR", "DBDIR", "LOGDIR")]
	d.run(["rspamd", "-f", "-c", d.folder + "/rspamd.conf", "--var=LOCAL_CONFDIR=none"] + variables, d.port)
	harness.until(lambda: d.answers(d.controller), "the controller", 120)
	yield d
	d.stop()


@pytest.fixture(scope="module")
def spamd(place):
	d = Daemon(place, "spamd", "spamd")
	d.port = free_port()
	conf = os.path.join(d.folder, "conf")
	os.mkdir(conf)
	with open(os.path.join(conf, "init.pre"), "w") as f:
		f.write("loadplugin Mail::SpamAssassin::Plugin::Check\n")
	with open(os.path.join(conf, "toy.cf"), "w") as f:
		f.write("use_bayes 0\ndns_available no\nrequired_score 5.0\nreport_safe 0\n"
			"body GTUBE /XJS\\*C4JDBQADN1\\.NSBN3\\*2IDNEN\\*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL\\*C\\.34X/\nscore GTUBE 1000\n"
			"header TOY_HEADER X-Toy =~ /./\nscore TOY_HEADER 7.0\n")
	d.run(["spamd", "-L", "-x", "-i", "127.0.0.1", "-p", str(d.port), "-A", "127.0.0.1", "-H", d.folder, "-C", conf, "--siteconfigpath=" + conf,
		"--min-children=1", "--max-children=2", "-s", "stderr", "-r", d.folder + "/spamd.pid"], d.port)
	yield d
	d.stop()


def checker(port, kind="rspamd", **more):
	url = "http://127.0.0.1:%d" % port if kind == "rspamd" else "127.0.0.1:%d" % port
	return {"spamcheck.checker %s" % kind: dict({"type": kind, "url": url, "timeout": "3s"}, **more)}


def send(server, content, sender=b"a@x.test"):
	client = server.connect(hello=b"EHLO t.test\r\n")
	reply = None
	client.start_data(sender)
	client.send(content + b".\r\n")
	reply = client.reply()
	client.finish()
	return reply


# ---- rspamd ----

@pytest.fixture(scope="module")
def spam_server(place, rspamd):
	server = harness.Server(place, checker(rspamd.port))
	server.start()
	server.ready()
	yield server
	server.stop()
	server.check_ledger()


def test_ham_passes_with_its_score(spam_server):
	spam_server.take()
	assert send(spam_server, HAM).pair == (250, "2.0.0")
	(m,) = spam_server.take()
	assert re.search(rb"^X-Spam-Status: No, score=-?\d", m.raw, re.M) and b"X-Spam-Checker: rspamd" in m.raw
	assert b"forged" not in m.raw						# case 9.12
	assert m.raw.endswith(b"\n\nA friendly word.\n") and b"\nSubject: hello\n" in m.raw
	line = spam_server.wait_log("message", id=m.id)
	assert line["spam_score"] != "" and "rspamd" in line["filters"]


@pytest.mark.parametrize("action,want", [("reject", (550, "5.7.1")), ("soft reject", (451, "4.7.1")), ("greylist", (250, "2.0.0")),
	("add header", (250, "2.0.0")), ("rewrite subject", (250, "2.0.0")), ("no action", (250, "2.0.0"))])
def test_each_action(spam_server, action, want):			# case 11.20
	spam_server.take()
	reply = send(spam_server, b"X-Force: " + action.encode() + b"\r\n" + HAM)
	assert reply.pair == want
	if want[0] != 250:
		assert reply.text[-1].endswith(b"forced " + action.encode())
		assert spam_server.take() == []
		return
	(m,) = spam_server.take()
	assert (b"X-Spam-Flag: YES" in m.raw) == (action in ("add header", "rewrite subject"))
	assert (b"Subject: ***SPAM*** hello" in m.raw) == (action == "rewrite subject")


def test_gtube_is_refused(spam_server):
	reply = send(spam_server, b"Subject: x\r\n\r\n" + GTUBE + b"\r\n")
	assert reply.pair == (550, "5.7.1") and b"Gtube" in reply.text[-1]


def test_a_threshold_refuses(start, rspamd):
	server = start(dict(checker(rspamd.port), spamcheck={"reject_threshold": "7", "tempfail_threshold": "5"}))
	assert send(server, b"X-Toy: 1\r\n" + HAM).pair == (550, "5.7.1")
	assert send(server, HAM).pair == (250, "2.0.0")


def test_a_spam_trap_teaches(start, rspamd, place):			# case 11.28
	path = os.path.join(place.path, "trap-recipients")
	with open(path, "w") as f:
		f.write("bob@local.test\n")
	server = start(dict(checker(rspamd.port), **{"smtpd": {"recipient_rejection": "data"}, "smtpd.delivery": {"recipients_file": path},
		"smtpd.spamtrap": {"controller_url": "http://127.0.0.1:%d" % rspamd.controller, "password": "q"}}))
	client = server.connect(hello=b"EHLO t.test\r\n")
	assert client.message(HAM, rcpts=(b"nobody@local.test",)) == (550, "5.1.1")
	assert client.message(HAM) == (250, "2.0.0")


def test_checks_are_counted(start, rspamd):
	server = start(dict(checker(rspamd.port), **{"smtpd.metrics": {"enabled": "yes", "address": "127.0.0.1:%d" % free_port()}}))
	assert send(server, HAM).pair == (250, "2.0.0")
	assert send(server, b"Subject: x\r\n\r\n" + GTUBE + b"\r\n").pair == (550, "5.7.1")
	port = int(server.sections["smtpd.metrics"]["address"].split(":")[1])
	import urllib.request
	text = urllib.request.urlopen("http://127.0.0.1:%d/metrics" % port, timeout=5).read().decode()
	assert 'smtpd_spam_checks_total{checker="rspamd",result="accept"} 1' in text
	assert 'smtpd_spam_checks_total{checker="rspamd",result="reject"} 1' in text
	assert re.search(r'smtpd_messages_rejected_total{listener="mx",recipient_domain="local.test",reason="spam"} 1', text)


# ---- SpamAssassin ----

def test_spamassassin(start, spamd):
	server = start(dict(checker(spamd.port, "spamassassin"), spamcheck={"reject_threshold": "100"}))
	assert send(server, HAM).pair == (250, "2.0.0")
	assert send(server, b"X-Toy: 1\r\n" + HAM).pair == (250, "2.0.0")
	assert send(server, b"Subject: x\r\n\r\n" + GTUBE + b"\r\n").pair == (550, "5.7.1")
	ham, toy = server.take()
	assert b"X-Spam-Flag: NO" in ham.raw and b"X-Spam-Score: 7.00" in toy.raw and b"X-Spam-Flag: YES" in toy.raw


# ---- several, and what fails ----

class Peer:
	"""A server that misbehaves in one way (SECURITY-CASES 11.1 to 11.7)."""

	def __init__(self, mode):
		self.mode = mode
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
			if self.mode == "early":
				c.close()
				return
			c.recv(65536)
			if self.mode == "late":
				c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"action\":")
			elif self.mode == "garbage":
				c.sendall(os.urandom(4096))
			elif self.mode == "500":
				c.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}")
			elif self.mode == "error":
				c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"error\":\"no\"}   ")
			elif self.mode == "endless":
				c.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
				while True:
					c.sendall(b"x" * 65536)
			elif self.mode == "drip":
				for octet in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
					c.sendall(bytes([octet]))
					time.sleep(0.02)
			c.close()
		except OSError:
			pass

	def close(self):
		self.socket.close()
		for c in self.held:
			c.close()


MODES = ["refuse", "hang", "early", "late", "garbage", "500", "error", "endless", "drip"]


@pytest.mark.parametrize("kind", ["rspamd", "spamassassin"])
@pytest.mark.parametrize("mode", MODES)
def test_a_checker_in_trouble_costs_its_message_a_clear_reply(start, kind, mode):
	peer = Peer(mode)
	try:
		server = start(checker(peer.port, kind, timeout="700ms"))
		began = time.monotonic()
		assert send(server, HAM).pair == (451, "4.7.1")
		assert time.monotonic() - began < 5
		assert server.take() == []
	finally:
		peer.close()


@pytest.mark.parametrize("mode,want", [("open", (250, "2.0.0")), ("reject", (550, "5.7.1")), ("tempfail", (451, "4.7.1"))])
def test_fail_modes(start, mode, want):
	peer = Peer("refuse")
	server = start(dict(checker(peer.port), spamcheck={"fail_mode": mode}))
	assert send(server, HAM).pair == want
	for m in server.take():
		assert b"X-Spam" not in m.raw.replace(b"X-Spam-Flag: NO, forged", b"")


def test_one_is_down_and_the_other_decides(start, rspamd):		# case 11.29
	peer = Peer("refuse")
	server = start(dict(checker(rspamd.port), **checker(peer.port, "spamassassin")))
	assert send(server, HAM).pair == (250, "2.0.0")
	assert send(server, b"Subject: x\r\n\r\n" + GTUBE + b"\r\n").pair == (550, "5.7.1")


def test_checks_that_hang_hold_up_nobody_else(start):			# case 11.10
	peer = Peer("hang")
	try:
		server = start(dict(checker(peer.port, timeout="3s", max_checks="30"), **{"smtpd.listener alt": {"address": "127.0.0.2:0", "mode": "alt"}}))
		waiting = []
		for _ in range(40):
			client = server.connect(hello=b"EHLO t.test\r\n")
			client.start_data()
			client.send(HAM + b".\r\n")
			waiting.append(client)
		began = time.monotonic()
		other = server.connect("alt", hello=b"EHLO t.test\r\n")
		assert other.cmd(b"MAIL FROM:<a@x.test>\r\n")[0] == 250
		assert time.monotonic() - began < 1
		assert [c.reply().pair for c in waiting] == [(451, "4.7.1")] * 40
	finally:
		peer.close()


# ---- hooks ----

HOOK = """\
case $EVENT in
connect) [ "$CLIENT_ADDRESS" != 127.0.0.1 ] || [ ! -e "$0.deny-connect" ] || { echo "5.7.1 not you"; exit 77; } ;;
mail) [ "$SENDER" != bad@x.test ] || exit 77 ;;
rcpt) [ "$RECIPIENT" != alice@local.test ] || { echo "4.2.2 later"; exit 75; } ;;
message) cat >"$0.message"; echo "X-Hook: seen $MESSAGE_ID"; echo "nonsense" ;;
esac
"""


def test_hooks(start):
	def prepare(server):
		path = harness.script(os.path.join(server.folder, "hook"), HOOK)
		server.hook = path
		return dict(("smtpd.hook " + e, {"event": e, "command": path}) for e in ("connect", "mail", "rcpt", "message"))
	server = start({}, prepare=prepare)
	client = server.connect(hello=b"EHLO t.test\r\n")
	assert client.cmd(b"MAIL FROM:<bad@x.test>\r\n") == (550, "5.7.1")
	assert client.cmd(b"MAIL FROM:<good@x.test>\r\n") == (250, "2.1.0")
	assert client.cmd(b"RCPT TO:<alice@local.test>\r\n") == (451, "4.2.2")
	assert client.cmd(b"RCPT TO:<bob@local.test>\r\n") == (250, "2.1.5")
	assert client.cmd(b"DATA\r\n") == (354, "")
	assert client.cmd(HAM + b".\r\n") == (250, "2.0.0")
	(m,) = server.take()
	assert b"\nX-Hook: seen " + m.id.encode() + b"\n" in m.raw and b"nonsense" not in m.raw
	with open(server.hook + ".message", "rb") as f:
		assert f.read() == HAM.replace(b"\r\n", b"\n")
	open(server.hook + ".deny-connect", "w").close()
	refused = server.connect(greet=False)
	assert refused.reply().pair == (554, "5.7.1")
	refused.expect_close()


# ---- milters ----

@pytest.fixture(scope="module")
def opendkim(place):
	d = Daemon(place, "opendkim", "opendkim")
	d.port = free_port()
	key = os.path.join(d.folder, "toy.private")
	subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
	public = subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
	import base64
	with open(os.path.join(d.folder, "keys.txt"), "w") as f:
		f.write("toy._domainkey.local.test v=DKIM1; h=sha256; k=rsa; p=%s\n" % base64.b64encode(public).decode())
	if harness.ROOT:
		os.chown(key, harness.NOBODY, harness.NOBODY)
	os.chmod(key, 0o600)
	d.sign, d.verify = os.path.join(d.folder, "sign.conf"), os.path.join(d.folder, "verify.conf")
	d.verifier_port = free_port()
	with open(d.sign, "w") as f:
		f.write("Syslog no\nMode s\nDomain local.test\nSelector toy\nKeyFile %s\nCanonicalization relaxed/simple\nSocket inet:%d@127.0.0.1\n"
			"InternalHosts 0.0.0.0/0\nOversignHeaders From\nRequireSafeKeys no\n" % (key, d.port))
	with open(d.verify, "w") as f:
		f.write("Syslog no\nMode v\nSocket inet:%d@127.0.0.1\nAlwaysAddARHeader yes\nAuthservID mx.local.test\nInternalHosts 203.0.113.1/32\n"
			"TestPublicKeys %s/keys.txt\n" % (d.verifier_port, d.folder))
	d.run(["opendkim", "-f", "-x", d.sign], d.port)
	second = Daemon(place, "opendkim", "opendkim")
	second.run(["opendkim", "-f", "-x", d.verify], d.verifier_port)
	yield d
	d.stop()
	second.stop()


def test_opendkim_signs_and_verifies(start, opendkim):
	content = b"From: bob@local.test\r\nTo: x@far.test\r\nSubject: signed\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nbody\r\n"
	signer = start({"smtpd.milter sign": {"address": "inet:127.0.0.1:%d" % opendkim.port}})
	assert send(signer, content, b"bob@local.test").pair == (250, "2.0.0")
	(signed,) = signer.take()
	assert b"\nDKIM-Signature: v=1; a=rsa-sha256;" in signed.raw
	message = signed.body.replace(b"\n", b"\r\n")
	verifier = start({"smtpd.milter verify": {"address": "inet:127.0.0.1:%d" % opendkim.verifier_port}})
	assert send(verifier, message, b"bob@local.test").pair == (250, "2.0.0")
	assert send(verifier, message.replace(b"body", b"BODY"), b"bob@local.test").pair == (250, "2.0.0")
	good, changed = verifier.take()
	assert b"dkim=pass" in good.raw, good.raw
	assert b"dkim=fail" in changed.raw, changed.raw


@pytest.mark.parametrize("action,want", [("tempfail", (451, "4.7.1")), ("accept", (250, "2.0.0")), ("reject", (550, "5.7.1"))])
@pytest.mark.parametrize("mode", ["refuse", "early", "garbage", "hang"])
def test_a_milter_in_trouble(start, mode, action, want):
	peer = Peer(mode)
	try:
		server = start({"smtpd.milter bad": {"address": "inet:127.0.0.1:%d" % peer.port, "default_action": action, "connect_timeout": "500ms",
			"command_timeout": "500ms", "content_timeout": "500ms"}})
		assert send(server, HAM).pair == want
	finally:
		peer.close()
