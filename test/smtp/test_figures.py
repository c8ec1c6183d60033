"""Every figure is exact: real sessions on one server that has all there is to count (SECURITY-CASES 13.6, 15.2, 15.3)."""

import base64
import collections
import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import threading

import pytest

import harness
import pki
from components import MilterPeer, milter
from test_metrics import METRICS, get, holder, metrics_address, scrape
from tokens import Issuer

HELLO = b"EHLO t.test\r\n"
OK, MAIL, NO_SPACE = (250, "2.0.0"), (250, "2.1.0"), (452, "4.3.1")
CONTENT = b"Subject: s\r\n\r\nx\r\n"
LARGE = CONTENT + (b"x" * 998 + b"\r\n") * 700		# two of them have no room
OTHERS = re.compile(r"process_|smtpd_(commands|command_duration|connections)_|.*_(bucket|sum)(\{|$)")
SCORES = 'smtpd_spam_score_bucket{le="+Inf"}'

DELIVER = """\
case $RECIPIENT in
tempfail@*) exit 75 ;;
service@*) exit 69 ;;
reject@*) exit 77 ;;
slow@*) while [ ! -e "$0.go" ]; do sleep 0.01; done ;;
esac
exec cat >/dev/null
"""
CHECK_PASSWORD = """\
case $(tr '\\0' ' ' <&3) in
"alice@local.test secret "*) exit 0 ;;
bob@*) exit 111 ;;
slow@*) while [ ! -e "$0.go" ]; do sleep 0.01; done ;;
esac
exit 1
"""
HOOK = """\
case $EVENT in
mail) [ "$SENDER" != bad@x.test ] || exit 77 ;;
message) exit "$(sed -n 's/^X-Hook: //p' | grep . || echo 0)" ;;
esac
"""


class Scanner(http.server.BaseHTTPRequestHandler):
	"""As much of rspamd as the server sees; the message's field X-Say tells it what to say."""

	protocol_version = "HTTP/1.1"
	answers = {
		b"": {"action": "no action", "score": 0}, b"hold": {"action": "no action", "score": 0},
		b"ham": {"action": "no action", "score": -3.25,
			"symbols": {n: {"score": -1} for n in ("R_SPF_ALLOW", "R_DKIM_ALLOW", "DMARC_POLICY_ALLOW", "ARC_ALLOW")}},
		b"flag": {"action": "add header", "score": 7, "symbols": {n: {"score": 2} for n in
			("R_SPF_SOFTFAIL", "R_DKIM_REJECT", "DMARC_POLICY_QUARANTINE", "ARC_INVALID", "RBL_SPAMHAUS_SBL")}},
		b"soft": {"action": "soft reject", "score": 5}, b"reject": {"action": "reject", "score": 16},
		b"discard": {"action": "discard", "score": 1000},
	}

	def do_POST(self):
		content = self.rfile.read(int(self.headers["Content-Length"]))
		say = re.search(rb"^X-Say: (.*)$|\Z", content, re.M).group(1) or b""
		if say == b"hold":
			self.server.go.wait(harness.PATIENCE)
		answer = json.dumps(self.answers.get(say)).encode()
		self.send_response(200 if say in self.answers else 500)
		self.send_header("Content-Length", str(len(answer)))
		self.end_headers()
		self.wfile.write(answer)

	def log_message(self, *_):
		pass


class Full(harness.Server):
	"""Commands, a checker, a milter and tokens; a file beside a script lets go on what waits in it."""

	def __init__(self, place):
		self.scanner = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scanner)
		self.scanner.go = threading.Event()
		threading.Thread(target=self.scanner.serve_forever, daemon=True).start()
		self.milter = MilterPeer("continue")
		self.ca = pki.make(place)
		self.cert, _ = self.ca.issue("mx", ["mx.local.test"])
		self.issuer = Issuer(place.folder())
		super().__init__(place, {**METRICS, **self.ca.sections("mx"), **milter("yes", self.milter.port),
			**{"smtpd.listener %s" % m: {"address": "127.0.0.%d:0" % n, "mode": m} for m, n in (("submission", 2), ("smtps", 3), ("alt", 5))},
			"smtpd.limits": {"max_message_size": "1m", "max_spool_memory": "1m", "max_header_size": "4k", "max_recipients": "2",
				"max_connections": "20", "max_errors": "4", "max_deliveries": "1", "max_auths": "1", "max_auth_failures": "2",
				"auth_failures_per_ip": "8"},
			"smtpd.auth.oauth": {"issuer": self.issuer.name, "audience": "mail", "jwks_file": self.issuer.jwks, "allowed_domains": "local.test"},
			"spamcheck.checker scan": {"type": "rspamd", "url": "http://127.0.0.1:%d" % self.scanner.server_port, "max_checks": "1",
				"discard": "yes"}})
		self.scripts = {n: harness.script(os.path.join(self.folder, n), text) for n, text in
			(("deliver", DELIVER), ("password", CHECK_PASSWORD), ("hook", HOOK))}
		self.configure({
			"smtpd.delivery": {"command": self.scripts["deliver"],
				"recipients_file": self.write("recipients", "bob slow tempfail service reject".replace(" ", "@local.test\n") + "@local.test\n")},
			"smtpd.auth": {"command": self.scripts["password"]},
			**{"smtpd.hook " + e: {"event": e, "command": self.scripts["hook"]} for e in ("mail", "message")}})
		self.done = set()

	def write(self, name, text=""):
		path = os.path.join(self.folder, name)
		with open(path, "w", encoding="ascii") as f:
			f.write(text)
		os.chmod(path, 0o644)
		return path

	def run(self, what):
		try:
			what(self)
		finally:
			self.disconnect_all()
		self.done.add(what)

	def end(self):
		self.disconnect_all()
		self.stop()
		self.scanner.shutdown()
		self.scanner.server_close()
		self.milter.close()

	def greet(self, listener="mx"):
		return self.connect(listener, hello=HELLO)

	def submit(self, field, want, rcpt=b"bob@local.test"):
		"""A message with one more field, on a connection of its own."""
		assert self.greet().message(field + CONTENT, rcpts=(rcpt,)) == want

	def log_in(self, mechanism=b"PLAIN", response=b"\0alice@local.test\0secret", want=(235, "2.7.0")):
		client = self.greet("alt")
		assert client.auth(mechanism, response) == want
		return client

	def figures(self):
		return collections.Counter({k: v for k, v in scrape(self).items() if k == SCORES or not OTHERS.match(k)})

	@contextlib.contextmanager
	def counts(self, *expected):
		"""Exactly these are counted, and nothing else is."""
		before, expected = self.figures(), sum(expected, collections.Counter())
		yield
		try:
			harness.until(lambda: self.figures() - before == expected)
		except AssertionError:
			assert self.figures() - before == expected


def one(name, **labels):
	return collections.Counter(["smtpd_%s{%s}" % (name, ",".join('%s="%s"' % pair for pair in labels.items()))])


def rejected(reason, domain="other", listener="mx"):
	return one("messages_rejected_total", listener=listener, recipient_domain=domain, reason=reason)


def hit(limit):
	return one("limit_hits_total", limit=limit)


def logins(result, mechanism="PLAIN"):
	return one("auth_attempts_total", mechanism=mechanism, result=result)


def checked(result):
	return one("spam_checks_total", checker="scan", result=result) + collections.Counter([SCORES] if result != "error" else [])


def delivered(result):
	return one("deliveries_total", agent="command", result=result) + one("delivery_duration_seconds_count", result=result)


def received(listener):
	return one("messages_received_total", listener=listener, recipient_domain="local.test")


ACCEPTED = checked("accept") + delivered("success") + received("mx") + collections.Counter(["smtpd_messages_size_bytes_count"])
STEPS = []


def step(function):
	STEPS.append(function)
	return function


@step
def accepted(full):
	with full.counts(ACCEPTED):
		full.submit(b"", OK)


@step
def tls(full):
	with full.counts(one("tls_connections_total", listener="mx", version="1.2"), one("tls_connections_total", listener="smtps", version="1.2")):
		full.greet().starttls(full.ca.context())
		full.connect("smtps", tls=full.ca.context())
	stranger = ssl.create_default_context()
	with full.counts(one("tls_handshake_failures_total", listener="smtps"), one("tls_handshake_failures_total", listener="smtps"),
			one("tls_handshake_failures_total", listener="mx")):
		with pytest.raises(ssl.SSLCertVerificationError):
			full.connect("smtps", tls=stranger)
		clear = full.connect("smtps", greet=False)
		clear.send(HELLO)
		clear.unasked = False
		client = full.greet()
		with pytest.raises(ssl.SSLCertVerificationError):
			client.starttls(stranger)


@step
def certificate(full):
	end = subprocess.run(["openssl", "x509", "-in", full.cert, "-noout", "-enddate"], check=True, capture_output=True, text=True).stdout
	assert scrape(full)['smtpd_tls_certificate_expiry_timestamp_seconds{name="mx.local.test"}'] == ssl.cert_time_to_seconds(
		end.strip().partition("=")[2])


@step
def good_bad_and_unable_logins(full):
	bearer = b"n,,\1auth=Bearer %s\1\1"
	with full.counts(logins("success"), logins("failure"), logins("error"), logins("success", "OAUTHBEARER"),
			logins("failure", "OAUTHBEARER")):
		full.log_in()
		full.log_in(response=b"\0alice@local.test\0wrong", want=(535, "5.7.8"))
		full.log_in(response=b"\0bob@local.test\0secret", want=(454, "4.7.0"))
		full.log_in(b"OAUTHBEARER", bearer % full.issuer.token().encode())
		client = full.greet("alt")
		assert client.auth(b"OAUTHBEARER", bearer % full.issuer.token(exp=1).encode())[0] == 334
		assert client.cmd(b"AQ==\r\n") == (535, "5.7.8")


@step
def who_may_not_send(full):
	with full.counts(rejected("auth", listener="submission"), logins("success"), rejected("from", listener="alt"),
			rejected("from", "local.test", "alt")):
		assert full.greet("submission").cmd(b"MAIL FROM:<alice@local.test>\r\n") == (530, "5.7.0")
		client = full.log_in()
		assert client.cmd(b"MAIL FROM:<bob@local.test>\r\n") == (550, "5.7.1")
		assert client.message(b"From: bob@local.test\r\n" + CONTENT, b"alice@local.test") == (550, "5.7.1")


@step
def who_is_not_there(full):
	with full.counts(rejected("unknown_recipient", "local.test"), rejected("relay_denied")):
		client = full.greet()
		assert client.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
		assert client.cmd(b"RCPT TO:<nobody@local.test>\r\n") == (550, "5.1.1")
		assert client.cmd(b"RCPT TO:<bob@far.test>\r\n") == (550, "5.7.1")


@step
def too_many_recipients(full):
	with full.counts(rejected("limit"), hit("max_recipients")):
		client = full.greet()
		assert client.cmd(b"MAIL FROM:<a@x.test>\r\n") == MAIL
		for name in (b"bob", b"slow"):
			assert client.cmd(b"RCPT TO:<%s@local.test>\r\n" % name) == (250, "2.1.5")
		assert client.cmd(b"RCPT TO:<reject@local.test>\r\n") == (452, "4.5.3")


@step
def deliveries_that_fail(full):
	with full.counts(delivered("tempfail"), delivered("tempfail"), delivered("reject"), *3 * [checked("accept") + rejected("delivery", "local.test")]):
		full.submit(b"", (451, "4.3.0"), b"tempfail@local.test")
		full.submit(b"", (451, "4.3.0"), b"service@local.test")
		full.submit(b"", (550, "5.7.1"), b"reject@local.test")


@step
def what_a_checker_says(full):
	found = {"spf": "pass", "dkim": "pass", "dmarc": "pass", "arc": "pass"}
	with full.counts(ACCEPTED, *[one("message_auth_total", method=m, result=r) for m, r in found.items()]):
		full.submit(b"X-Say: ham\r\n", OK)
	found = {"spf": "softfail", "dkim": "fail", "dmarc": "fail", "arc": "permerror", "rbl": "listed"}
	with full.counts(ACCEPTED - checked("accept"), checked("flag"), *[one("message_auth_total", method=m, result=r) for m, r in found.items()]):
		full.submit(b"X-Say: flag\r\n", OK)
	with full.counts(checked("tempfail"), checked("reject"), checked("error"), *2 * [rejected("spam", "local.test")],
			rejected("filter", "local.test")):
		full.submit(b"X-Say: soft\r\n", (451, "4.7.1"))
		full.submit(b"X-Say: reject\r\n", (550, "5.7.1"))
		full.submit(b"X-Say: nothing known\r\n", (451, "4.7.1"))


@step
def scores(full):
	def buckets():
		return [v for k, v in scrape(full).items() if k.startswith("smtpd_spam_score_bucket")]
	before = buckets()
	for field in (b"X-Say: ham", b"X-Say: soft", b"X-Say: reject"):		# -3.25, 5, 16
		full.greet().message(field + b"\r\n" + CONTENT)
	#                 -10 -5 -2  0  2  4  5  6  8 10 12 15 20 30 50 +Inf
	assert [n - b for n, b in zip(buckets(), before)] == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3]


@step
def what_a_key_throws_away(full):
	with full.counts(checked("reject"), rejected("spam", "local.test")):
		full.submit(b"X-Say: discard\r\n", OK)
	line = full.wait_log("message", result="discarded", spam_score="1000.00")
	assert (line["reply"], line["detail"]) == ("250 2.0.0 Ok: " + line["id"], "discarded")


@step
def what_hooks_refuse(full):
	with full.counts(rejected("policy"), *2 * [checked("accept")], rejected("policy", "local.test"), rejected("filter", "local.test")):
		assert full.greet().cmd(b"MAIL FROM:<bad@x.test>\r\n") == (550, "5.7.1")
		full.submit(b"X-Hook: 77\r\n", (550, "5.7.1"))
		full.submit(b"X-Hook: 78\r\n", (451, "4.3.5"))


@step
def headers(full):
	with full.counts(*2 * [hit("max_header_size")], *2 * [rejected("syntax", "local.test")], rejected("policy", "local.test")):
		full.submit(b"X: " + b"x" * 900 + b"\r\n" + (b"\t" + b"x" * 900 + b"\r\n") * 4, (550, "5.6.0"))
		full.submit(b"x:\r\n" * 1001, (550, "5.6.0"))
		full.submit(b"Received: x\r\n" * 51, (554, "5.4.6"))


@step
def memory_for_messages(full):
	first = full.greet()
	first.start_data()
	first.send(LARGE)
	harness.until(lambda: first.unread() == 0)
	with full.counts(*2 * [hit("max_spool_memory")], rejected("storage"), rejected("storage", "local.test")):
		client = full.greet()
		assert client.cmd(b"MAIL FROM:<a@x.test> SIZE=900000\r\n") == NO_SPACE
		assert client.message(LARGE) == NO_SPACE
	with full.counts(ACCEPTED):
		assert first.cmd(b".\r\n") == OK


@step
def one_at_a_time(full):
	def two(dialogue, end, limit, at_work, *later):
		"""The second waits until the first has been let go; at_work: what is counted of each before."""
		clients = [full.greet("alt") for _ in range(2)]
		with full.counts(hit(limit), at_work, at_work, *later):
			before = full.figures()
			dialogue(clients[0])
			harness.until(lambda: full.figures() - before == at_work)
			dialogue(clients[1])
			harness.until(lambda: full.figures() - before == at_work + at_work + hit(limit))
			end()
			return [client.reply().pair for client in clients]

	def message(field, rcpt):
		def run(client):
			client.start_data(rcpts=(rcpt,))
			client.send(field + CONTENT + b".\r\n")
		return run
	nothing, check = collections.Counter(), checked("accept")
	# a hook refuses them, so that none waits for a delivery, too
	assert two(message(b"X-Say: hold\r\nX-Hook: 77\r\n", b"bob@local.test"), full.scanner.go.set, "max_checks", nothing,
		*2 * [check, rejected("policy", "local.test", "alt")]) == [(550, "5.7.1")] * 2
	assert two(message(b"", b"slow@local.test"), lambda: full.write("deliver.go"), "max_deliveries", check,
		*2 * [ACCEPTED - check - received("mx") + received("alt")]) == [OK] * 2
	response = base64.b64encode(b"\0slow@local.test\0secret")
	assert two(lambda client: client.send(b"AUTH PLAIN %s\r\n" % response), lambda: full.write("password.go"), "max_auths", nothing,
		*2 * [logins("failure")]) == [(535, "5.7.8")] * 2


@step
def errors(full):
	with full.counts(hit("max_errors")):
		client = full.greet()
		for _ in range(3):
			assert client.cmd(b"RCPT TO:<a@x.test>\r\n") == (503, "5.5.1")
		client.send(b"RCPT TO:<a@x.test>\r\n")
		assert client.all_replies() == [(503, "5.5.1"), (421, "4.7.0")]


@step
def failed_logins(full):
	def login(client, i):
		return client.auth(b"PLAIN", b"\0user%d@local.test\0x" % i)
	with full.counts(*2 * [logins("failure")], hit("max_auth_failures")):
		client = full.greet("alt")
		assert [login(client, i) for i in range(2)] == [(535, "5.7.8"), (421, "4.7.0")]
	before, tried = full.figures(), 1
	while login(full.greet("alt"), tried) == (535, "5.7.8"):	# some have failed before
		tried += 1
	assert tried <= 9
	full.log_in(want=(421, "4.7.0"))		# it is over for all that come from there
	harness.until(lambda: full.figures() - before == sum((tried + 1) * [logins("failure")] + 2 * [hit("auth_failures_per_ip")],
		collections.Counter()))


@step
def connections(full):
	harness.until(lambda: not any(v for k, v in scrape(full).items() if k.startswith("smtpd_connections_active")))
	with full.counts(hit("max_connections")):
		inside = [full.greet() for _ in range(20)]
		assert full.connect(greet=False).all_replies() == [(421, "4.3.2")]
		assert [client.cmd(b"NOOP\r\n") for client in inside] == [OK] * 20


@step
def reload(full):
	with full.counts(one("config_reloads_total", result="success")):
		full.reload({})
		full.wait_log("reload", result="success")


@step
def restart(full):
	with full.counts(one("processes_restarted_total", process="front")):
		os.kill(holder(full, full.addresses["submission"]), signal.SIGKILL)


@step
def time_of_all_processes(full):
	def spent():
		"""Seconds, also of children that have ended."""
		ticks = 0
		for pid in [full.process.pid] + harness.children(full.process.pid):
			with open("/proc/%d/stat" % pid, encoding="ascii") as f:
				ticks += sum(map(int, f.read().rsplit(")", 1)[1].split()[11:15]))
		return ticks / os.sysconf("SC_CLK_TCK")
	for _ in range(20):
		full.greet().starttls(full.ca.context())
	full.disconnect_all()
	least = spent()
	assert least > 0.05
	now = harness.until(lambda: [n for n in [scrape(full)["process_cpu_seconds_total"]] if n >= least - 0.1], "the CPU time")
	assert now[0] <= spent() + 0.1


@pytest.fixture(scope="module")
def full(place):
	server = Full(place)
	server.start()
	server.ready()
	yield server
	server.end()


@pytest.mark.parametrize("what", STEPS, ids=lambda f: f.__name__)
def test_the_figures_are_exact(full, what):
	full.run(what)


def test_promtool_finds_nothing(full):
	for what in STEPS:
		if what not in full.done:
			full.run(what)
	text = get(full)[2]
	with open(os.path.join(harness.TOP, "doc", "smtpd.conf.5"), encoding="utf-8") as f:
		manual = f.read().partition(".Sh METRICS\n")[2].partition("\n.Sh ")[0]
	assert set(re.findall(r"^# TYPE (\S+) ", text, re.M)) == set(re.findall(r"\b(?:smtpd|process)_[a-z_]+", manual))
	if shutil.which("promtool") is None:
		pytest.skip("promtool is not installed (Debian package prometheus)")
	result = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
	assert (result.returncode, result.stdout + result.stderr) == (0, "")


@pytest.mark.root
def test_who_must_use_tls_is_counted(place):		# of clients of this machine it is not asked
	server = harness.FarServer(place)
	server.configure({"server.tls": {"self_signed": "yes"}, "smtpd.auth": {"command": "/bin/false"},
		"smtpd.listener mx": {"address": server.ADDRESS + ":587", "mode": "submission"},
		"smtpd.metrics": {"enabled": "yes", "address": server.ADDRESS + ":9100"}})
	server.start()
	try:
		client = server.connect(hello=HELLO)
		assert [client.cmd(b"MAIL FROM:<a@local.test>\r\n") for _ in range(2)] == 2 * [(530, "5.7.0")]
		server.addresses["metrics"] = metrics_address(server)
		http_client = server.connect("metrics", greet=False)
		http_client.send(b"GET /metrics HTTP/1.0\r\n\r\n")
		text = http_client.sock.makefile("rb").read().decode()
		assert 'smtpd_messages_rejected_total{listener="mx",recipient_domain="other",reason="tls"} 2\n' in text
		http_client.reset()
		server.disconnect_all()
	finally:
		server.stop()


def test_log_lines_that_nobody_reads_are_counted(start):	# case 13.6
	server = start(dict(METRICS, **{"smtpd": {"log_transactions": "yes"}}))
	smtp = server.connect(hello=HELLO)
	assert scrape(server)["smtpd_log_lines_dropped_total"] == 0
	server.reading.clear()
	while scrape(server)["smtpd_log_lines_dropped_total"] < 100:
		for _ in range(20):
			assert smtp.message(CONTENT) == OK
	server.reading.set()
	harness.until(lambda: smtp.message(CONTENT) == OK and
		scrape(server)["smtpd_log_lines_dropped_total"] == sum(int(line["count"]) for line in server.log("log_dropped")))
