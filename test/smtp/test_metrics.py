"""The metrics listener: figures that are exact, health, HTTP (SECURITY-CASES 13.7, 14.1, 15.2, 15.3)."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

import harness
from components import Daemon, own
from peers import free_port

METRICS = {"smtpd.metrics": {"enabled": "yes", "address": "127.0.0.4:0"}}	# not as a listener: they would share its socket
SAMPLE = re.compile(r'^([a-z_]+(?:\{(?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*\})?) (-?[0-9.]+)$')
OPEN = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5"


class Http:
	"""One connection to the metrics listener."""

	def __init__(self, address, timeout=harness.PATIENCE):
		self.sock = socket.create_connection(address, timeout)
		self.file = self.sock.makefile("rb")

	def send(self, octets):
		self.sock.sendall(octets)

	def answer(self, head=False):
		"""Status, fields with names in lower case, content."""
		line = self.file.readline()
		assert re.match(rb"HTTP/1\.1 \d{3} [A-Za-z ]+\r\n\Z", line), line
		fields = {}
		while (field := self.file.readline()) != b"\r\n":
			name, value = field.decode("ascii").rstrip("\r\n").split(": ", 1)
			assert name.lower() not in fields
			fields[name.lower()] = value
		content = b""
		if head:
			pass
		elif fields.get("transfer-encoding") == "chunked":
			while (size := int(self.file.readline(), 16)) > 0:
				content += self.file.read(size)
				assert self.file.readline() == b"\r\n"
			assert self.file.readline() == b"\r\n"
		elif "content-length" in fields:
			content = self.file.read(int(fields["content-length"]))
		else:
			content = self.file.read()
		return int(line[9:12]), fields, content.decode("utf-8")

	def get(self, path, more=b""):
		self.send(b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (path, more))
		return self.answer()

	def is_closed(self):
		try:
			return self.file.read(1) == b""
		except ConnectionResetError:
			return True

	def close(self):
		self.file.close()
		self.sock.close()


def metrics_address(server):
	host, port = server.wait_log("listening", listener="metrics")["address"].rsplit(":", 1)
	return host, int(port)


def get(server, path=b"/metrics", more=b""):
	http = Http(metrics_address(server))
	try:
		return http.get(path, more)
	finally:
		http.close()


def samples(text):
	found = {}
	for line in text.splitlines():
		if not line.startswith("#"):
			name, value = SAMPLE.match(line).groups()
			assert name not in found
			found[name] = float(value)
	return found


def scrape(server):
	return samples(get(server)[2])


def holders(server, address):
	"""Processes of the server, without its master, that have the socket that listens there."""
	port = ":%04X" % address[1]
	with open("/proc/net/tcp", encoding="ascii") as f:
		inode = next(w[9] for w in map(str.split, f) if w[1].endswith(port) and w[3] == "0A")
	found = []
	for pid in harness.children(server.process.pid):
		try:
			links = [os.readlink("/proc/%d/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%d/fd" % pid)]
		except OSError:
			continue
		if "socket:[%s]" % inode in links:
			found.append(pid)
	return found


def holder(server, address):
	"""The one process that has it; just started, it may not have let go of what it inherited."""
	harness.until(lambda: len(holders(server, address)) == 1, "one process with the socket of %s" % (address,))
	return holders(server, address)[0]


def connections(address):
	"""How many of its clients a listener holds: sockets that a process still has."""
	local = "%s:%04X" % (socket.inet_aton(address[0])[::-1].hex().upper(), address[1])
	with open("/proc/net/tcp", encoding="ascii") as f:
		return len([w for w in map(str.split, f) if w[1] == local and w[3] != "0A" and w[9] != "0"])


@pytest.fixture
def server(start):
	"""One whose processes have all begun their work."""
	server = start(METRICS)
	server.ready()
	assert get(server, b"/healthz")[0] == 200
	return server


# ---- figures ----

def test_counters_equal_what_was_sent(start):
	server = start(dict(METRICS, **{"smtpd.limits": {"max_message_size": "2k", "max_recipients": "2"}}))
	smtp = server.connect(hello=b"EHLO t.test\r\n")
	for _ in range(3):
		assert smtp.message(b"Subject: a\r\n\r\nx\r\n")[0] == 250
	assert smtp.message(b"Subject: a\r\n\r\nx\r\n", rcpts=[b"x@other.test", b"y@local.test"])[0] == 250
	assert smtp.cmd(b"MAIL FROM:<a@x.test> SIZE=2049\r\n") == (552, "5.3.4")
	assert smtp.cmd(b"MAIL FROM:<a@x.test> NONSENSE=1\r\n") == (555, "5.5.4")
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
	assert smtp.cmd(b"RCPT TO:<b@foreign.test>\r\n") == (550, "5.7.1")
	assert smtp.cmd(b"RSET\r\n") == (250, "2.0.0")
	assert smtp.message(b"Subject: a\r\n\r\nx\ny\r\n", rcpts=[b"b@open.test"])[0] == 550
	for verb in (b"VRFY x", b"BLAH", b"blubb x"):
		smtp.cmd(verb + b"\r\n")
	now = scrape(server)
	mx = 'listener="mx"'
	expect = {
		'smtpd_connections_total{%s}' % mx: 1, 'smtpd_connections_active{%s}' % mx: 1,
		'smtpd_messages_received_total{%s,recipient_domain="local.test"}' % mx: 3,
		'smtpd_messages_received_total{%s,recipient_domain="other.test"}' % mx: 1,
		'smtpd_messages_rejected_total{%s,recipient_domain="other",reason="size"}' % mx: 1,
		'smtpd_messages_rejected_total{%s,recipient_domain="other",reason="syntax"}' % mx: 1,
		'smtpd_messages_rejected_total{%s,recipient_domain="other",reason="relay_denied"}' % mx: 1,
		'smtpd_messages_rejected_total{%s,recipient_domain="open.test",reason="newline"}' % mx: 1,
		'smtpd_commands_total{command="EHLO"}': 1, 'smtpd_commands_total{command="MAIL"}': 8,
		'smtpd_commands_total{command="RCPT"}': 7, 'smtpd_commands_total{command="DATA"}': 5,
		'smtpd_commands_total{command="RSET"}': 1, 'smtpd_commands_total{command="VRFY"}': 1,
		'smtpd_commands_total{command="other"}': 2,
		'smtpd_command_duration_seconds_count{command="MAIL"}': 6, 'smtpd_command_duration_seconds_count{command="RCPT"}': 7,
		'smtpd_command_duration_seconds_count{command="DATA"}': 4,
		'smtpd_deliveries_total{agent="maildir",result="success"}': 4,
		'smtpd_delivery_duration_seconds_count{result="success"}': 4,
		'smtpd_messages_size_bytes_count': 4, 'smtpd_limit_hits_total{limit="max_message_size"}': 1,
		'smtpd_log_lines_dropped_total': 0,
	}
	assert {k: now.get(k) for k in expect} == expect
	told = {k for k in now if not k.startswith("process_") and "_bucket" not in k and "_sum" not in k and now[k] != 0}
	assert told - set(expect) == {'smtpd_build_info{version="%s"}' % server.wait_log("started")["version"]}
	smtp.cmd(b"QUIT\r\n")
	smtp.expect_close()
	harness.until(lambda: scrape(server)['smtpd_connections_active{listener="mx"}'] == 0)


def test_nothing_of_a_client_becomes_a_label(server):		# case 15.2
	smtp = server.connect(hello=b"EHLO t.test\r\n")
	before = set(scrape(server))
	for i in range(8):
		smtp.cmd(b"X%d\r\n" % i)
	smtp = server.connect(hello=b"EHLO t.test\r\n")
	smtp.cmd(b"MAIL FROM:<a@x.test>\r\n")
	for i in range(8):
		smtp.cmd(b"RCPT TO:<a@d%d.test>\r\n" % i)
	assert {k for k in set(scrape(server)) - before if "_bucket" not in k} == {
		'smtpd_commands_total{command="other"}', 'smtpd_commands_total{command="MAIL"}', 'smtpd_commands_total{command="RCPT"}',
		'smtpd_messages_rejected_total{listener="mx",recipient_domain="other",reason="relay_denied"}',
		'smtpd_command_duration_seconds_sum{command="MAIL"}', 'smtpd_command_duration_seconds_count{command="MAIL"}',
		'smtpd_command_duration_seconds_sum{command="RCPT"}', 'smtpd_command_duration_seconds_count{command="RCPT"}'}


def test_a_killed_front_takes_no_figure_with_it(server):
	smtp = server.connect(hello=b"EHLO t.test\r\n")
	assert smtp.message(b"Subject: a\r\n\r\nx\r\n")[0] == 250
	before = scrape(server)
	connections = before['smtpd_connections_total{listener="mx"}']
	assert before['smtpd_connections_active{listener="mx"}'] == 1
	front = holder(server, server.addresses["mx"])
	os.kill(front, signal.SIGKILL)
	harness.until(lambda: scrape(server)['smtpd_connections_active{listener="mx"}'] == 0)
	harness.until(lambda: 'smtpd_processes_restarted_total{process="front"}' in scrape(server))
	after = scrape(server)
	assert after['smtpd_processes_restarted_total{process="front"}'] == 1
	same = [k for k in before if not k.startswith("process_") and "active" not in k]
	assert {k: after[k] for k in same} == {k: before[k] for k in same}
	server.connect(hello=b"EHLO t.test\r\n")
	assert scrape(server)['smtpd_connections_total{listener="mx"}'] == connections + 1
	server.clients = []


def test_counters_equal_what_was_sent_over_deaths_and_reloads(start):	# case 15.3
	server = start(METRICS)
	content = b"Subject: a\r\n\r\nx\r\n"
	sent = {"EHLO": 0, "MAIL": 0, "RCPT": 0, "DATA": 0}
	connections = messages = 0

	def connect():
		nonlocal connections
		connections += 1
		sent["EHLO"] += 1
		return server.connect(hello=b"EHLO t.test\r\n")

	def message(smtp):
		nonlocal messages
		messages += 1
		for verb in ("MAIL", "RCPT", "DATA"):
			sent[verb] += 1
		assert smtp.message(content) == (250, "2.0.0")

	def check(active, more):
		now = scrape(server)
		mx = 'listener="mx"'
		expect = {'smtpd_connections_total{%s}' % mx: connections, 'smtpd_connections_active{%s}' % mx: active,
			'smtpd_messages_received_total{%s,recipient_domain="local.test"}' % mx: messages,
			'smtpd_deliveries_total{agent="maildir",result="success"}': messages,
			'smtpd_delivery_duration_seconds_count{result="success"}': messages, 'smtpd_messages_size_bytes_count': messages,
			'smtpd_command_duration_seconds_count{command="MAIL"}': sent["MAIL"],
			'smtpd_command_duration_seconds_count{command="RCPT"}': sent["RCPT"],
			'smtpd_command_duration_seconds_count{command="DATA"}': messages,
			**{'smtpd_commands_total{command="%s"}' % verb: n for verb, n in sent.items()}, **more}
		told = {k: v for k, v in now.items() if v and not k.startswith(("process_", "smtpd_build_info")) and "_bucket" not in k and
			not k.partition("{")[0].endswith("_sum")}
		assert told == {k: v for k, v in expect.items() if v}
		for name in ("smtpd_messages_size_bytes", "smtpd_delivery_duration_seconds"):	# and no histogram lost one of them
			assert sum(v for k, v in now.items() if k.startswith(name + "_bucket") and 'le="+Inf"' in k) == messages

	smtp, half = connect(), connect()
	for _ in range(3):
		message(smtp)
	half.start_data()
	half.send(content)
	for verb in ("MAIL", "RCPT", "DATA"):
		sent[verb] += 1
	harness.until(lambda: half.unread() == 0)
	check(2, {})
	front = holder(server, server.addresses["mx"])
	os.kill(front, signal.SIGKILL)
	server.clients = []
	harness.until(lambda: scrape(server).get('smtpd_processes_restarted_total{process="front"}') == 1)
	harness.until(lambda: holders(server, server.addresses["mx"]) not in ([], [front]))
	more = {'smtpd_processes_restarted_total{process="front"}': 1}
	check(0, more)
	old = connect()
	message(old)
	check(1, more)
	server.reload({"smtpd": {"log_level": "debug"}})
	server.wait_log("reload", result="success")
	more['smtpd_config_reloads_total{result="success"}'] = 1
	message(old)		# by the generation that drains
	new = connect()
	message(new)
	check(2, more)
	old.finish()
	harness.until(lambda: scrape(server)['smtpd_connections_active{listener="mx"}'] == 1)
	harness.until(lambda: len(server.fronts()) == len(server.addresses) + 1)	# and the exporter
	agent = server.agent()
	os.kill(agent, signal.SIGKILL)
	harness.until(lambda: server.agent() not in (None, agent))
	more['smtpd_processes_restarted_total{process="agent"}'] = 1
	message(new)
	check(1, more)
	server.disconnect_all()
	harness.until(lambda: scrape(server)['smtpd_connections_active{listener="mx"}'] == 0)
	check(0, more)


def test_a_killed_exporter_comes_back_and_mail_goes_on(server):
	smtp = server.connect(hello=b"EHLO t.test\r\n")
	exporter = holder(server, metrics_address(server))
	os.kill(exporter, signal.SIGKILL)
	assert smtp.message(b"Subject: a\r\n\r\nx\r\n")[0] == 250
	now = scrape(server)
	assert now['smtpd_connections_active{listener="mx"}'] == 1 and now['smtpd_messages_size_bytes_count'] == 1
	assert now['smtpd_processes_restarted_total{process="exporter"}'] == 1


def test_counters_go_on_over_reloads(server):			# case 15.3
	smtp = server.connect(hello=b"EHLO t.test\r\n")
	assert smtp.message(b"Subject: a\r\n\r\nx\r\n")[0] == 250
	before = scrape(server)
	server.configure({"smtpd.listener two": {"address": "127.0.0.2:0"}})
	server.reload({"smtpd.listener mx": None})
	server.wait_log("reload", result="success")
	assert smtp.message(b"Subject: a\r\n\r\nx\r\n")[0] == 250	# by the generation that drains
	server.configure({"smtpd.listener mx": {"address": "127.0.0.1:0"}})
	server.reload({"smtpd.listener two": None})
	server.wait_log("reload", 2, result="success")
	holder(server, metrics_address(server))
	now = scrape(server)
	for name, value in before.items():
		assert now[name] >= value or "_active" in name or name.startswith("process_"), name
	assert now['smtpd_messages_received_total{listener="mx",recipient_domain="local.test"}'] == 2
	assert now['smtpd_config_reloads_total{result="success"}'] == 2
	assert now['smtpd_connections_active{listener="mx"}'] == 1 and now['smtpd_connections_active{listener="two"}'] == 0
	server.reload({"smtpd": {"nonsense": "1"}})
	server.wait_log("reload", result="failure")
	assert scrape(server)['smtpd_config_reloads_total{result="failure"}'] == 1


def test_an_agent_that_ends_with_its_fronts_is_no_restart(server):
	smtp = server.connect(hello=b"EHLO t.test\r\n")
	old = harness.children(server.process.pid)
	server.reload({"smtpd": {"log_level": "debug"}})
	server.wait_log("reload", result="success")
	os.kill(server.process.pid, signal.SIGSTOP)	# so that it hears of all at once, of the agent first
	smtp.finish()
	harness.until(lambda: all(harness.status(pid).get("State", "X")[0] in "ZX" for pid in old))
	os.kill(server.process.pid, signal.SIGCONT)
	harness.until(lambda: not set(old) & set(harness.children(server.process.pid)))
	assert not [name for name in scrape(server) if "restarted" in name]


def test_processes(server):
	now = scrape(server)
	assert abs(now["process_start_time_seconds"] - time.time()) < 60
	assert 100 * 1024 < now["process_resident_memory_bytes"] < (4 << 30)
	assert 5 < now["process_open_fds"] < now["process_max_fds"]


@pytest.mark.parametrize("accept, openmetrics", [
	(OPEN, True), ("application/openmetrics-text", True), ("text/plain, application/openmetrics-text; version=1.0.0", True),
	("application/openmetrics-text;version=1.0.0;q=0.5, text/plain;q=0.4", True),
	("application/openmetrics-text;version=1.0.0;q=0.3, text/plain;q=0.4", False),
	("application/openmetrics-text;version=0.0.1", False), ("application/openmetrics-text;q=0", False),
	("*/*", False), ("text/html, */*;q=0.8", False), ("", False),
])
def test_the_format_is_the_one_that_is_preferred(server, accept, openmetrics):
	status, fields, text = get(server, more=b"Accept: %s\r\n" % accept.encode())
	assert status == 200
	assert fields["content-type"] == ("application/openmetrics-text; version=1.0.0; charset=utf-8" if openmetrics else
		"text/plain; version=0.0.4; charset=utf-8")
	assert text.endswith("# EOF\n") == openmetrics and ("# UNIT " in text) == openmetrics


class Prometheus(Daemon):
	"""It scrapes one server, as often as it may."""

	def __init__(self, place, target):
		super().__init__(place, "prometheus", "prometheus")
		self.port = free_port()
		os.mkdir(self.path("data"))
		own(self.path("data"), 0o700)
		config = self.write("prometheus.yml", "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
			"scrape_configs: [{job_name: smtpd, static_configs: [{targets: ['%s:%d']}]}]\n" % target)
		self.run("--config.file=" + config, "--storage.tsdb.path=" + self.path("data"), "--web.listen-address=127.0.0.1:%d" % self.port,
			port=self.port)
		harness.until(self.is_ready, "Prometheus", 60)

	def is_ready(self):
		"""It listens before it answers."""
		try:
			with urllib.request.urlopen("http://127.0.0.1:%d/-/ready" % self.port, timeout=harness.PATIENCE) as answer:
				return answer.status == 200
		except urllib.error.HTTPError:
			return False

	def ask(self, path, **parameters):
		url = "http://127.0.0.1:%d/api/v1/%s?%s" % (self.port, path, urllib.parse.urlencode(parameters))
		with urllib.request.urlopen(url, timeout=harness.PATIENCE) as answer:
			found = json.load(answer)
		assert found["status"] == "success", found
		return found["data"]

	def series(self, query):
		"""Labels without the scrape's own, and the value; the newest."""
		found = {}
		for row in self.ask("query", query=query)["result"]:
			labels = {k: v for k, v in row["metric"].items() if k not in ("instance", "job")}
			found[tuple(sorted(labels.items()))] = float(row["value"][1])
		return found


def test_a_running_prometheus_has_the_figures(server, place):
	prometheus = Prometheus(place, metrics_address(server))
	try:
		smtp = server.connect(hello=b"EHLO t.test\r\n")
		for _ in range(3):
			assert smtp.message(b"Subject: a\r\n\r\nx\r\n") == (250, "2.0.0")
		assert smtp.message(b"Subject: a\r\n\r\nx\r\n", rcpts=(b"x@other.test",)) == (250, "2.0.0")
		smtp.cmd(b"MAIL FROM:<a@x.test>\r\n")
		assert smtp.cmd(b"RCPT TO:<x@foreign.test>\r\n")[0] == 550

		def received():
			return prometheus.series("smtpd_messages_received_total")
		name, mx = ("__name__", "smtpd_messages_received_total"), ("listener", "mx")
		wanted = {(name, mx, ("recipient_domain", "local.test")): 3, (name, mx, ("recipient_domain", "other.test")): 1}
		harness.until(lambda: {k: v for k, v in received().items() if v} == wanted, "the messages", 30)
		assert list(prometheus.series("up").values()) == [1]
		(target,) = prometheus.ask("targets")["activeTargets"]
		assert (target["health"], target["lastError"]) == ("up", "")
		for query, value in (('smtpd_connections_active{listener="mx"}', 1), ('smtpd_commands_total{command="RCPT"}', 5),
				('smtpd_messages_rejected_total{reason="relay_denied"}', 1), ("smtpd_messages_size_bytes_count", 4),
				('smtpd_messages_size_bytes_bucket{le="+Inf"}', 4), ("sum(smtpd_deliveries_total)", 4),
				("histogram_quantile(0.5, smtpd_delivery_duration_seconds_bucket{result='success'}) > bool 0", 1)):
			harness.until(lambda q=query, v=value: list(prometheus.series(q).values()) == [v], query)
		# every name that is served has come, with its type and help
		families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", get(server, more=b"Accept: " + OPEN.encode() + b"\r\n")[2], re.M))
		known = prometheus.ask("metadata")
		assert {n: known[n][0]["type"] for n in families} == families and all(known[n][0]["help"] for n in families)
		# and it notices when the server has gone
		server.disconnect_all()
		server.stop()
		harness.until(lambda: list(prometheus.series("up").values()) == [0], "up to be 0", 30)
	finally:
		prometheus.stop()


# ---- health ----

def test_health(server):
	for path in (b"/health", b"/healthz"):
		assert get(server, path)[::2] == (200, "ok\n")
	harness.until(lambda: get(server, b"/readyz")[::2] == (200, "ready\n"))


def test_not_ready_while_a_listener_has_no_front_or_there_is_no_agent(server):
	harness.until(lambda: get(server, b"/readyz")[0] == 200)
	for pid, text in ((server.agent(), "no agent\n"), (holder(server, server.addresses["mx"]), "a listener without a front\n")):
		os.kill(pid, signal.SIGSTOP)	# the master cannot start another one before this one has ended
		assert get(server, b"/readyz")[0] == 200
		os.kill(pid, signal.SIGKILL)
		seen = harness.until(lambda: [a for a in [get(server, b"/readyz")] if a[0] == 503])
		assert seen[0][2] == text
		harness.until(lambda: get(server, b"/readyz")[0] == 200)


def test_not_ready_as_soon_as_it_stops(server):			# case 14.1
	smtp = server.connect(hello=b"EHLO t.test\r\n")
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
	http = Http(metrics_address(server))
	assert http.get(b"/readyz")[0] == 200
	server.send_signal(signal.SIGTERM)
	server.wait_log("stopping")
	assert http.get(b"/readyz")[::2] == (503, "stopping\n")
	assert http.get(b"/healthz")[0] == 200
	assert get(server, b"/metrics")[0] == 200
	assert smtp.cmd(b"RCPT TO:<bob@local.test>\r\n") == (250, "2.1.5")
	assert smtp.cmd(b"QUIT\r\n") == (221, "2.0.0")
	server.stop(number=None)
	assert http.is_closed()


def check(server, config=None, more=()):
	result = subprocess.run([harness.PROGRAM, "healthcheck", "-c", config or server.config, *more], capture_output=True, text=True,
		check=False, timeout=10)
	return result.returncode, result.stderr


def test_healthcheck(start):
	with socket.socket() as s:	# a port that was free a moment ago
		s.bind(("127.0.0.1", 0))
		port = s.getsockname()[1]
	address = "127.0.0.1:%d" % port
	server = start({"smtpd.metrics": {"enabled": "yes", "address": address}})
	harness.until(lambda: check(server) == (0, ""))
	smtp = server.connect(hello=b"EHLO t.test\r\n")
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == (250, "2.1.0")
	server.send_signal(signal.SIGTERM)
	server.wait_log("stopping")
	assert check(server) == (1, "smtpd: %s: it is not ready\n" % address)
	assert smtp.cmd(b"QUIT\r\n") == (221, "2.0.0")
	server.stop(number=None)
	assert check(server) == (1, "smtpd: %s: it cannot be reached\n" % address)


def test_healthcheck_by_the_first_listener(start):
	server = start({})
	other = os.path.join(server.folder, "other.conf")
	with open(server.config, encoding="utf-8") as f:
		text = f.read()
	for port, expect in ((server.addresses["mx"][1], (0, "")), (None, (1, "it does not greet with 220\n"))):
		with socket.create_server(("127.0.0.1", 0)) as mute:	# accepts, and says nothing
			with open(other, "w", encoding="utf-8") as f:
				f.write(text.replace("address = 127.0.0.1:0", "address = 127.0.0.1:%d" % (port or mute.getsockname()[1])))
			code, why = check(server, other)
			assert code == expect[0] and why.endswith(expect[1])


def test_healthcheck_of_a_listener_that_begins_with_tls(start):
	server = start({"smtpd.listener mx": {"mode": "smtps"}, "server.tls": {"self_signed": "yes"}, "smtpd.auth": {"command": "/bin/false"}})
	with socket.create_server(("127.0.0.1", 0)) as mute:
		for mode, port, why in (("smtps", server.addresses["mx"][1], ""), ("smtps", mute.getsockname()[1], ""),
				("smtp", mute.getsockname()[1], "it does not greet with 220")):
			address = "127.0.0.1:%d" % port
			assert check(server, more=["-o", "smtpd.listener mx.mode=" + mode, "-o", "smtpd.listener.mx.address=" + address]) == (
				bool(why), why and "smtpd: %s: %s\n" % (address, why))
	assert check(server, more=["-o", "smtpd.listener.mx.address=" + address]) == (1, "smtpd: %s: it cannot be reached\n" % address)


# ---- HTTP (case 13.7) ----

HOST = b" HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize("request_octets, status, closes", [
	(b"GET /healthz" + HOST + b"\r\n", 200, False),
	(b"\r\nGET /healthz" + HOST + b"\r\n", 200, False),
	(b"GET /healthz?a=b" + HOST + b"\r\n", 200, False),
	(b"GET http://a:1/healthz" + HOST + b"\r\n", 200, False),
	(b"GET /healthz HTTP/1.0\r\n\r\n", 200, True),
	(b"GET /metrics HTTP/1.0\r\n\r\n", 200, True),
	(b"GET /healthz" + HOST + b"Connection: close\r\n\r\n", 200, True),
	(b"GET /healthz" + HOST + b"Content-Length: 3\r\n\r\nabc", 200, True),
	(b"GET /" + HOST + b"\r\n", 404, False),
	(b"GET /metrics/" + HOST + b"\r\n", 404, False),
	(b"GET /Metrics" + HOST + b"\r\n", 404, False),
	(b"POST /metrics" + HOST + b"Content-Length: 0\r\n\r\n", 405, False),
	(b"POST /metrics" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 405, True),
	(b"OPTIONS *" + HOST + b"\r\n", 405, False),
	(b"get /healthz" + HOST + b"\r\n", 405, False),
	(b"GET /metrics\r\n", 400, True),			# HTTP/0.9
	(b"GET /metrics HTTP/2.0\r\nHost: a\r\n\r\n", 400, True),
	(b"GET  /metrics" + HOST + b"\r\n", 400, True),
	(b"GET /metrics HTTP/1.1\r\n\r\n", 400, True),		# no Host
	(b"GET /metrics" + HOST + b"Host: b\r\n\r\n", 400, True),
	(b"GET /metrics" + HOST + b" folded\r\n\r\n", 400, True),
	(b"GET /metrics" + HOST + b"Name : x\r\n\r\n", 400, True),
	(b"GET /metrics HTTP/1.1\nHost: a\n\n", 400, True),
	(b"GET metrics" + HOST + b"\r\n", 400, True),
	(b"GET /a\x00b" + HOST + b"\r\n", 400, True),
	(b"EHLO a.test\r\n", 400, True),
	(b"GET /metrics" + HOST + b"X: " + b"a" * 8192 + b"\r\n\r\n", 431, True),
])
def test_request(server, request_octets, status, closes):
	http = Http(metrics_address(server))
	http.send(request_octets)
	answer = http.answer()
	assert answer[0] == status
	assert (answer[1].get("connection") == "close") == closes
	if status == 405:
		assert answer[1]["allow"] == "GET, HEAD"
	if closes:
		assert http.is_closed()
	else:
		assert http.get(b"/healthz")[0] == 200
	http.close()


def test_head_is_the_same_without_content(server):
	http = Http(metrics_address(server))
	for path in (b"/metrics", b"/healthz", b"/readyz", b"/nothing"):
		_, fields, _ = http.get(path)
		http.send(b"HEAD " + path + HOST + b"\r\n")
		status, head, _ = http.answer(head=True)
		fields.pop("date")
		head.pop("date")
		assert head == fields and status in (200, 404)
	http.close()


def test_pipelined_requests_are_answered_in_their_order(server):
	http = Http(metrics_address(server))
	for cut in range(1, 60, 7):
		octets = (b"GET /healthz" + HOST + b"\r\n") * 20 + b"GET /metrics" + HOST + b"\r\n" + b"GET /nothing" + HOST + b"\r\n"
		http.send(octets[:cut])
		http.send(octets[cut:])
		assert [http.answer()[0] for _ in range(22)] == [200] * 21 + [404]
	http.close()


def test_a_request_line_of_a_mebibyte(server):
	http = Http(metrics_address(server))
	try:
		http.send(b"GET /" + b"a" * (1 << 20))
	except ConnectionError:
		pass	# it has heard enough
	try:
		assert http.file.readline() in (b"HTTP/1.1 431 Request Header Fields Too Large\r\n", b"")
	except ConnectionResetError:
		pass
	http.close()
	assert get(server, b"/healthz")[0] == 200


def test_slow_clients_keep_nobody_out(server):
	address = metrics_address(server)
	began = time.monotonic()
	slow = [Http(address) for _ in range(200)]
	for i, http in enumerate(slow):
		try:
			http.send([b"", b"G", b"GET /metrics HTTP/1.1\r\nHost: a\r\n"][i % 3])
		except ConnectionError:
			pass	# others have its place already
	took = time.monotonic()
	assert get(server)[0] == 200 and get(server, b"/readyz")[0] in (200, 503)
	assert time.monotonic() - took < 2
	assert server.connect(hello=b"EHLO t.test\r\n").message(b"Subject: a\r\n\r\nx\r\n")[0] == 250
	assert connections(address) <= 32
	for http in slow:
		assert http.is_closed()
		http.close()
	assert 4 < time.monotonic() - began < 9		# the last of them after five seconds


def test_a_client_that_does_not_read_is_closed(server):
	address = metrics_address(server)
	harness.until(lambda: connections(address) == 0)
	http = Http(address, 0.5)
	began = time.monotonic()
	with pytest.raises((ConnectionError, TimeoutError)):
		while True:	# until all buffers between us are full
			http.send(b"GET /metrics" + HOST + b"\r\n")
	assert connections(address) == 1
	harness.until(lambda: connections(address) == 0)
	assert time.monotonic() - began > 4
	assert get(server, b"/healthz")[0] == 200
	http.close()


def test_close_in_the_middle(server):
	address = metrics_address(server)
	exporter = holder(server, address)
	for _ in range(50):
		http = Http(address)
		http.send(b"GET /metrics" + HOST + b"\r\nGET /met")
		http.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
		http.close()
	harness.until(lambda: connections(address) == 0)
	assert holders(server, address) == [exporter]


def test_the_exporter_is_locked_in(server):
	exporter = holder(server, metrics_address(server))
	status = harness.status(exporter)
	assert status["NoNewPrivs"] == "1" and (harness.is_sanitized() or status["Seccomp"] == "2")
