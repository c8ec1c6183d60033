"""Privileges: who each process is, what it sees and may call (DESIGN, rule 2)."""

import os
import re

import pytest

import harness

OK = (250, "2.0.0")


@pytest.fixture
def as_root(start):
	server = start({"smtpd.delivery": {"user": "nobody"}}, root=True)
	server.ready()
	return server


def ids(pid, what):
	return set(int(n) for n in harness.status(pid)[what].split())


def test_fronts_can_gain_nothing(start):
	server = start()
	server.ready()
	for pid in server.fronts():
		status = harness.status(pid)
		assert status["NoNewPrivs"] == "1"
		if not harness.is_sanitized():
			assert status["Seccomp"] == "2"


@pytest.mark.root
def test_nobody_but_the_master_is_root(as_root):
	server = as_root
	agent = server.agent()
	assert ids(server.process.pid, "Uid") == {0}
	for pid in server.fronts() + [agent] + harness.children(agent):
		status = harness.status(pid)
		assert ids(pid, "Uid") == {harness.NOBODY} and ids(pid, "Gid") == {harness.NOBODY}
		assert status["Groups"] == ""
		assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0


@pytest.mark.root
def test_fronts_are_locked_in_an_empty_folder(as_root):
	for pid in as_root.fronts():
		assert os.listdir("/proc/%d/root/" % pid) == []
		assert os.stat("/proc/%d/root" % pid).st_ino != os.stat("/").st_ino
		assert os.readlink("/proc/%d/cwd" % pid) != "/"


@pytest.mark.root
def test_fronts_hold_nothing_that_is_not_theirs(as_root):
	"""Their own listening socket, the agent, the master: sockets, and no file but the standard three."""
	for pid in as_root.fronts():
		links = {n: os.readlink("/proc/%d/fd/%s" % (pid, n)) for n in os.listdir("/proc/%d/fd" % pid)}
		files = [t for n, t in links.items() if int(n) > 2 and t.startswith("/") and t != "/dev/null"]
		assert files == []
		assert len([t for t in links.values() if t.startswith("socket:")]) == 3


@pytest.mark.root
def test_the_agent_holds_no_listening_socket(as_root):	# case 12.10
	listening = set()
	with open("/proc/net/tcp") as f:
		for line in f:
			words = line.split()
			if words[3] == "0A":
				listening.add("socket:[%s]" % words[9])
	agent = as_root.agent()
	for pid in [agent] + harness.children(agent):
		links = [os.readlink("/proc/%d/fd/%s" % (pid, n)) for n in os.listdir("/proc/%d/fd" % pid)]
		assert not listening & set(links)


@pytest.mark.root
def test_mail_belongs_to_the_delivery_user(as_root):
	assert as_root.connect(hello=b"EHLO t.test\r\n").message(b"x\r\n") == OK
	(m,) = as_root.take()
	assert os.stat(m.path).st_uid == harness.NOBODY


@pytest.mark.root
def test_a_delivery_user_of_its_own(start):
	"""[smtpd] user and [smtpd.delivery] user differ: the agent keeps just what it takes to become the second."""
	server = start({"smtpd": {"user": "daemon"}, "smtpd.delivery": {"user": "nobody"}}, root=True)
	server.ready()
	agent = server.agent()
	assert ids(agent, "Uid") == {1}
	for pid in server.fronts():
		assert ids(pid, "Uid") == {1}
	assert server.connect(hello=b"EHLO t.test\r\n").message(b"x\r\n") == OK
	(m,) = server.take()
	assert os.stat(m.path).st_uid == harness.NOBODY


@pytest.mark.root
def test_users_of_no_database(start):
	server = start({"smtpd": {"user": "65532:65531"}, "smtpd.delivery": {"user": "%d" % harness.NOBODY}}, root=True)
	server.ready()
	assert ids(server.agent(), "Uid") == {65532} and ids(server.agent(), "Gid") == {65531}
	assert server.connect(hello=b"EHLO t.test\r\n").message(b"x\r\n") == OK
	(m,) = server.take()
	assert os.stat(m.path).st_uid == harness.NOBODY


@pytest.mark.root
def test_hooks_run_as_the_delivery_user(start):
	"""They read what strangers write: not with the rights of the agent."""
	def prepare(server):
		hook = harness.script(server.folder + "/hook", 'echo "X-Ids: $(id -u) $(id -g) $(id -G)"\n')
		return {"smtpd.hook ids": {"event": "message", "command": hook}}
	server = start({"smtpd": {"user": "daemon"}, "smtpd.delivery": {"user": "nobody"}}, root=True, prepare=prepare)
	assert server.connect(hello=b"EHLO t.test\r\n").message(b"x\r\n") == OK
	(m,) = server.take()
	assert re.search(rb"^X-Ids: (.*)$", m.raw, re.M).group(1) == b"%d %d %d" % (3 * (harness.NOBODY,))


@pytest.mark.root
def test_commands_run_as_the_delivery_user(start, helper):
	def prepare(server):
		wrapper = harness.script(server.folder + "/wrapper", 'exec "%s" - env >"%s/env" 2>&1\n' % (helper, server.folder))
		return {"smtpd.delivery": {"command": wrapper}}
	server = start({"smtpd": {"user": "daemon"}, "smtpd.delivery": {"user": "nobody"}}, root=True, prepare=prepare)
	assert server.connect(hello=b"EHLO t.test\r\n").message(b"x\r\n") == OK
	server.promised.clear()
	with open(server.folder + "/env") as f:
		assert "uid=%d gid=%d groups=0\n" % (harness.NOBODY, harness.NOBODY) in f.read()
