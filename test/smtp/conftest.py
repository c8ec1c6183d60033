"""Servers shared by a module's tests, and what every test checks besides its own matter (SECURITY-CASES 0)."""

import os
import subprocess

import pytest

import components
import harness

RECIPIENTS = """\
bob@local.test
alice@local.test
"b ob"@local.test
postmaster@local.test
b\u00fccher@local.test
carol@other.test
@open.test
"""


def pytest_configure(config):
	config.addinivalue_line("markers", "root: needs root, and starts the server as root")


def pytest_runtest_setup(item):
	if item.get_closest_marker("root") and not harness.ROOT:
		pytest.skip("needs root")


def pytest_sessionstart(session):
	if not os.access(harness.PROGRAM, os.X_OK):
		pytest.exit("%s is not there; make it first, or set SMTPD" % harness.PROGRAM, 1)


@pytest.fixture(scope="session")
def place():
	p = harness.Place()
	yield p
	p.remove()


@pytest.fixture(scope="session")
def helper(place):
	"""test/peers/delivery.c, the command that behaves as badly as it is told to."""
	path = os.path.join(place.path, "delivery")
	source = os.path.join(harness.TOP, "test", "peers", "delivery.c")
	subprocess.run([os.environ.get("CC", "cc"), "-D_GNU_SOURCE", "-O1", "-o", path, source], check=True)
	return path


@pytest.fixture(scope="session")
def key(place):
	return components.Key(place)


@pytest.fixture(scope="session")
def rspamd(place, key):
	"""One for all tests: it takes seconds to begin."""
	d = components.Rspamd(place, key)
	yield d
	d.stop()


@pytest.fixture
def fake():
	r = components.FakeRspamd()
	yield r
	r.close()


def recipients_file(place):
	path = os.path.join(place.path, "recipients")
	if not os.path.exists(path):
		with open(path, "w", encoding="utf-8") as f:
			f.write(RECIPIENTS)
		os.chmod(path, 0o644)
	return path


@pytest.fixture
def start(place):
	"""
	start(sections, root=..., ...): a server of the test's own, ended with it. prepare(server) may return more sections, once
	the server's folder is there.
	"""
	servers = []

	def run(sections=None, prepare=None, **how):
		server = harness.Server(place, sections, **how)
		if prepare is not None:
			server.configure(prepare(server))
		servers.append(server)
		return server.start()
	yield run
	for server in servers:
		server.disconnect_all()
		server.stop()
		if "maildir" in server.sections["smtpd.delivery"]:
			server.check_ledger()


@pytest.fixture(scope="module")
def shared(place):
	"""
	Mail goes into Maildirs. Listeners: mx, norm (bare_newline = normalize), alt (mode = alt). bob and alice@local.test,
	carol@other.test and everyone at open.test exist.
	"""
	server = harness.Server(place, {
		"smtpd.listener norm": {"address": "127.0.0.2:0", "bare_newline": "normalize"},
		"smtpd.listener alt": {"address": "127.0.0.3:0", "mode": "alt"},
		"smtpd.delivery": {"recipients_file": recipients_file(place)},
		"smtpd.limits": {"max_message_size": "1m", "max_recipients": "10"},
	})
	server.start()
	server.ready()
	yield server
	server.stop()


def checked(server):
	server.take()
	yield server
	server.disconnect_all()
	server.check_census()
	server.check_ledger()
	server.check_sanitizer()


@pytest.fixture
def server(shared):
	yield from checked(shared)


@pytest.fixture
def smtp(server):
	"""A client that has said EHLO to the shared server."""
	return server.connect(hello=b"EHLO t.test\r\n")


@pytest.fixture(scope="module")
def commands(place, helper):
	"""Each recipient's local part at local.test names what the delivery helper does."""
	server = harness.Server(place, {"smtpd": {"log_level": "debug"}, "smtpd.timeouts": {"delivery": "1500ms"}})
	server.configure({"smtpd.delivery": {"command": "%s %s %%{user}" % (helper, server.record)}})
	server.start()
	server.ready()
	yield server
	server.stop()


@pytest.fixture
def command(commands):
	yield commands
	commands.disconnect_all()
	commands.check_census()
	commands.check_sanitizer()
