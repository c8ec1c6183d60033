"""STARTTLS and TLS from the first octet (SECURITY-CASES 6)."""

import hashlib
import os
import re
import shutil
import socket
import ssl
import struct

import pytest

import harness
import pki

CONTENT = b"From: a@x.test\r\nSubject: s\r\n\r\n..dot\r\nbody\r\n"
STORED = b"From: a@x.test\nSubject: s\n\n.dot\nbody\n"


@pytest.fixture(scope="module")
def ca(place):
	authority = pki.make(place)
	authority.issue("mx", ["mx.local.test"])
	authority.issue("rsa", ["mx.local.test"], "rsa")
	authority.issue("other", ["other.test", "*.wild.test"], "ec384")
	return authority


@pytest.fixture(scope="module")
def tls_server(place, ca):
	"""Listeners: mx (mode smtp), tls (mode smtps), old (workers = 2). Certificates: EC and RSA for mx.local.test, EC for other.test."""
	server = harness.Server(place, dict(ca.sections("mx", "rsa", "other"), **{
		"smtpd": {"log_level": "debug"},
		"smtpd.listener tls": {"address": "127.0.0.2:0", "mode": "smtps", "trusted_networks": "127.0.0.0/8"},
		"smtpd.listener two": {"address": "127.0.0.3:0", "mode": "alt", "workers": "2"},
		"smtpd.auth": {"passwd_file": users(place)},
		"smtpd.timeouts": {"handshake": "1500ms"},
	}))
	server.start()
	server.ready()
	yield server
	server.stop()


def users(place):
	path = os.path.join(place.path, "nobody-passwd")
	with open(path, "w") as f:
		f.write("")
	return path


@pytest.fixture
def server(tls_server):
	tls_server.take()
	yield tls_server
	tls_server.disconnect_all()
	tls_server.check_census()
	tls_server.check_ledger()
	tls_server.check_sanitizer()


@pytest.fixture
def smtp(server, ca):
	client = server.connect(hello=b"EHLO t.test\r\n")
	client.starttls(ca.context())
	return client


def extensions(reply):
	return set(line.decode() for line in reply.text[1:])


def test_a_message_comes_through(server, smtp):
	assert smtp.cmd(b"EHLO t.test\r\n")[0] == 250
	assert smtp.message(CONTENT)[0] == 250
	(m,) = server.take()
	assert m.body == STORED
	assert b" with ESMTPS id " in m.trace
	assert re.search(rb"\n\t\(TLSv1\.2 ECDHE-ECDSA-[A-Z0-9-]+\)", m.trace)
	line = server.wait_log("message", id=m.id)
	assert line["tls"] == "TLSv1.2" and line["cipher"].startswith("ECDHE-ECDSA-")


def test_starttls_is_offered_in_clear_only(server, ca):
	client = server.connect()
	assert "STARTTLS" in extensions(client.ask(b"EHLO t.test\r\n"))
	client.starttls(ca.context())
	assert "STARTTLS" not in extensions(client.ask(b"EHLO t.test\r\n"))
	assert client.cmd(b"STARTTLS\r\n") == (503, "5.5.1")


def test_nothing_is_known_after_the_handshake(smtp):		# case 6.4
	assert smtp.cmd(b"MAIL FROM:<a@x.test>\r\n") == (503, "5.5.1")


def test_an_argument_is_refused(server):
	client = server.connect(hello=b"EHLO t.test\r\n")
	assert client.cmd(b"STARTTLS now\r\n") == (501, "5.5.4")


def test_clear_text_behind_starttls_is_refused(server):		# case 6.1, CVE-2011-0411
	client = server.connect(hello=b"EHLO t.test\r\n")
	client.send(b"STARTTLS\r\nEHLO evil\r\nMAIL FROM:<x@x.test>\r\n")
	assert client.all_replies() == [(554, "5.5.0")]


def test_clear_text_instead_of_a_handshake_closes(server):	# case 6.2
	client = server.connect(hello=b"EHLO t.test\r\n")
	assert client.cmd(b"STARTTLS\r\n") == (220, "2.0.0")
	client.send(b"EHLO evil\r\nMAIL FROM:<x@x.test>\r\n")
	client.sock.settimeout(harness.PATIENCE)
	rest = b""
	try:
		for more in iter(lambda: client.sock.recv(4096), b""):
			rest += more
	except ConnectionResetError:
		pass
	assert b"250" not in rest and b"5.5" not in rest	# an alert at most
	client.close()
	server.wait_log("tls_failed")


def test_an_early_command_of_the_next_segment_is_no_command(server, ca):	# case 6.3
	client = server.connect(hello=b"EHLO t.test\r\n")
	client.starttls(ca.context())
	assert client.cmd(b"NOOP\r\n") == (250, "2.0.0")


@pytest.mark.parametrize("kind,ciphers,version", [
	("ecdsa", "ECDHE-ECDSA-AES128-GCM-SHA256", ssl.TLSVersion.TLSv1_2),
	("ecdsa", "ECDHE-ECDSA-CHACHA20-POLY1305", ssl.TLSVersion.TLSv1_2),
	("ecdsa", "ECDHE-ECDSA-AES256-GCM-SHA384", ssl.TLSVersion.TLSv1_2),
	("rsa", "ECDHE-RSA-AES128-GCM-SHA256", ssl.TLSVersion.TLSv1_2),
	("rsa", "ECDHE-RSA-AES256-GCM-SHA384", ssl.TLSVersion.TLSv1_2),
	("rsa", "ECDHE-RSA-CHACHA20-POLY1305", ssl.TLSVersion.TLSv1_2),
])
def test_the_certificate_is_what_the_client_can_do(server, ca, kind, ciphers, version):
	client = server.connect(hello=b"EHLO t.test\r\n")
	client.starttls(ca.context(ciphers, version))
	assert client.sock.cipher()[0] == ciphers
	cert = pki.fingerprint(ca.path("mx.pem" if kind == "ecdsa" else "rsa.pem"))
	assert hashlib.sha256(client.sock.getpeercert(True)).hexdigest() == cert


@pytest.mark.parametrize("name,cert", [("other.test", "other"), ("a.wild.test", "other"), ("mx.local.test", "mx"), ("OTHER.test", "other"),
	("unknown.test", "mx"), ("a.b.wild.test", "mx"), (None, "mx")])
def test_the_name_asked_for_chooses_the_certificate(server, ca, name, cert):
	context = ca.context()
	context.check_hostname = False
	client = server.connect(hello=b"EHLO t.test\r\n")
	client.starttls(context, name)
	assert hashlib.sha256(client.sock.getpeercert(True)).hexdigest() == pki.fingerprint(ca.path(cert + ".pem"))
	assert client.cmd(b"EHLO t.test\r\n")[0] == 250
	assert client.message(CONTENT)[0] == 250


@pytest.mark.parametrize("ciphers", ["ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0", "AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256"])
def test_weak_suites_are_refused(server, ca, ciphers):
	client = server.connect(hello=b"EHLO t.test\r\n")
	with pytest.raises(ssl.SSLError):
		client.starttls(ca.context(ciphers))
	client.close()


def test_old_versions_are_refused(server, ca):
	client = server.connect(hello=b"EHLO t.test\r\n")
	context = ca.context("ALL:@SECLEVEL=0", ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1)
	count = len(server.log("tls_failed"))
	with pytest.raises(ssl.SSLError):
		client.starttls(context)
	client.close()
	assert "version" in server.wait_log("tls_failed", count + 1)["reason"]


def test_old_versions_where_they_are_wanted(start, ca):
	server = start(dict(ca.sections("mx"), **{"server.tls": dict(ca.sections("mx")["server.tls"], min_version="1.0")}))
	for version, name in ((ssl.TLSVersion.TLSv1, "TLSv1"), (ssl.TLSVersion.TLSv1_1, "TLSv1.1"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")):
		client = server.connect(hello=b"EHLO t.test\r\n")
		client.starttls(ca.context("ALL:@SECLEVEL=0", version, version))
		assert client.sock.version() == name
		assert client.cmd(b"EHLO t.test\r\n")[0] == 250
		assert client.message(CONTENT)[0] == 250


def test_tls_from_the_first_octet(server, ca):
	client = server.connect("tls", tls=ca.context())
	assert "STARTTLS" not in extensions(client.ask(b"EHLO t.test\r\n"))
	assert client.cmd(b"STARTTLS\r\n") == (503, "5.5.1")
	assert client.message(CONTENT)[0] == 250
	(m,) = server.take()
	assert m.body == STORED and b" with ESMTPS id " in m.trace


def test_clear_text_where_tls_is_wanted(server):
	client = server.connect("tls", greet=False)
	client.send(b"EHLO t.test\r\n")
	client.sock.settimeout(harness.PATIENCE)
	try:
		assert b"220" not in client.sock.recv(4096)
	except ConnectionResetError:
		pass
	client.close()
	server.wait_log("tls_failed")


@pytest.mark.parametrize("octets", [b"\x80\x2e\x01\x03\x01" + b"x" * 40, b"\x16\x03\x01\xff\xff" + b"\0" * 4096, os.urandom(65536),
	b"\x16\x03\x01\x00\x00", b"\x17\x03\x03\x00\x01a", b"\x15\x03\x01\x00\x02\x02\x28"])
def test_garbage_ends_the_handshake(server, octets):		# case 6.7
	client = server.connect("tls", greet=False)
	try:
		client.send(octets)
		client.sock.settimeout(harness.PATIENCE)
		while client.sock.recv(65536):
			pass
	except (ConnectionResetError, BrokenPipeError):
		pass
	client.close()


def test_a_slow_handshake_has_an_end_and_holds_up_nobody(server, ca):
	slow = server.connect("tls", greet=False)
	slow.send(b"\x16\x03\x01")
	fast = server.connect("tls", tls=ca.context())
	assert fast.cmd(b"NOOP\r\n") == (250, "2.0.0")
	slow.sock.settimeout(harness.PATIENCE)
	assert slow.sock.recv(4096) == b""
	slow.close()
	server.wait_log("tls_failed", reason="timeout")


class NarrowServer(harness.FarServer):
	"""Its sockets, and its clients', take little at once."""

	NETWORK = "cd /proc/sys/net/ipv4 && echo 4096 4096 4096 | tee tcp_wmem >tcp_rmem && " + harness.FarServer.NETWORK


@pytest.mark.root
def test_a_client_that_sends_and_does_not_read_costs_no_time(place, ca):
	ca.issue("long", ["mx.local.test"] + ["host-%d.local.test" % i for i in range(800)])
	server = NarrowServer(place, dict(ca.sections("long"), **{"smtpd.listener mx": {"address": "192.0.2.1:0"},
		"smtpd.timeouts": {"handshake": "1500ms"}}))
	server.start()
	try:
		client = server.connect(hello=b"EHLO t.test\r\n")
		assert client.cmd(b"STARTTLS\r\n") == (220, "2.0.0")
		records = ssl.MemoryBIO()
		with pytest.raises(ssl.SSLWantReadError):
			ca.context().wrap_bio(ssl.MemoryBIO(), records, server_hostname="mx.local.test").do_handshake()
		client.send(records.read())
		assert client.sock.recv(1) == b"\x16"	# the rest is more than the server's socket takes
		client.send(b"\x16\x03\x03\0\x10")
		(front,) = server.fronts()
		before = harness.cpu_ticks(front)
		server.wait_log("tls_failed", reason="timeout")
		assert harness.cpu_ticks(front) - before < 20	# of 150
		client.reset()
	finally:
		server.stop()


@pytest.mark.parametrize("where", ["idle", "body"])
def test_a_record_that_trickles_in_is_no_sign_of_life(start, ca, where):	# case 6.16
	server = start(dict(ca.sections("mx"), **{"smtpd.timeouts": {"connection": "1s", "command": "1s"}}))
	client = server.connect(hello=b"EHLO t.test\r\n")
	client.starttls(ca.context())
	assert client.cmd(b"EHLO t.test\r\n")[0] == 250
	if where == "body":
		client.start_data()
	fd, octets = client.sock.detach(), b"\x17\x03\x03\x40\0" + bytes(30)
	client.sock = socket.socket(fileno=fd)
	client.sock.settimeout(0.1)
	for i in range(len(octets)):
		client.send(octets[i:i + 1])
		try:
			assert client.sock.recv(1) == b"\x17"		# the 421
			break
		except TimeoutError:
			assert i + 1 < len(octets), "it is still there"
	server.wait_log("timeout")
	client.reset()


@pytest.mark.parametrize("listener", ["mx", "tls"])
@pytest.mark.parametrize("how", ["fin", "notify"])
def test_what_is_cut_off_is_not_delivered(server, ca, listener, how):	# case 6.9
	if listener == "tls":
		client = server.connect("tls", tls=ca.context(), hello=b"EHLO t.test\r\n")
	else:
		client = server.connect(hello=b"EHLO t.test\r\n")
		client.starttls(ca.context())
		assert client.cmd(b"EHLO t.test\r\n")[0] == 250
	client.start_data()
	client.send(CONTENT)
	if how == "notify":
		try:
			client.notify()
		except OSError:
			pass
	client.close()
	other = server.connect(hello=b"EHLO t.test\r\n")
	assert other.message(CONTENT)[0] == 250
	assert len(server.take()) == 1


def test_records_of_one_octet(server, ca, smtp):		# case 1.24
	assert smtp.cmd(b"EHLO t.test\r\n")[0] == 250
	smtp.start_data()
	for octet in CONTENT + b".\r\n":
		smtp.sock.send(bytes([octet]))
	assert smtp.reply().pair == (250, "2.0.0")
	assert server.take()[0].body == STORED


def test_a_large_message_and_a_group_behind_it(server, ca, smtp):
	assert smtp.cmd(b"EHLO t.test\r\n")[0] == 250
	line = b"0123456789abcdef" * 4 + b"\r\n"
	body = b"Subject: large\r\n\r\n" + line * 30000
	smtp.start_data()
	smtp.send(body + b".\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<bob@local.test>\r\nDATA\r\n")
	assert smtp.replies(4) == [(250, "2.0.0"), (250, "2.1.0"), (250, "2.1.5"), (354, "")]
	smtp.send(CONTENT + b".\r\n")
	assert smtp.reply().pair == (250, "2.0.0")
	large, small = server.take()
	assert large.body == body.replace(b"\r\n", b"\n") and small.body == STORED


def test_bdat_in_tls(server, smtp):
	assert smtp.cmd(b"EHLO t.test\r\n")[0] == 250
	data = b"Subject: x\r\n\r\n" + os.urandom(200000).hex().encode() + b"\r\n"
	smtp.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<bob@local.test>\r\nBDAT %d LAST\r\n" % len(data) + data + b"NOOP\r\n")
	assert smtp.replies(4) == [(250, "2.1.0"), (250, "2.1.5"), (250, "2.0.0"), (250, "2.0.0")]
	assert server.take()[0].body == data.replace(b"\r\n", b"\n")


def test_sessions_are_resumed_by_another_worker(server, ca):
	context = ca.context()
	first = server.connect("two", hello=b"EHLO t.test\r\n")
	first.starttls(context)
	assert first.cmd(b"EHLO t.test\r\n")[0] == 250
	session = first.sock.session
	fronts = set()
	for _ in range(40):
		again = server.connect("two", hello=b"EHLO t.test\r\n")
		again.starttls(context, session=session)
		assert again.sock.session_reused
		assert again.cmd(b"EHLO t.test\r\n")[0] == 250
		fronts.add(harness.until(lambda: server.log("tls", resumed=1), "the log")[-1]["session"][:4])
		again.finish()
		if len(fronts) > 1:
			break


def test_a_session_is_of_its_listener(server, ca):		# case 6.12
	context = ca.context()
	first = server.connect("two", hello=b"EHLO t.test\r\n")
	first.starttls(context)
	session = first.sock.session
	other = server.connect(hello=b"EHLO t.test\r\n")
	other.starttls(context, session=session)
	assert not other.sock.session_reused


def test_renegotiation_is_refused(server, ca, place):		# case 6.8
	import subprocess
	host, port = server.addresses["tls"]
	run = subprocess.run(["openssl", "s_client", "-connect", "%s:%d" % (host, port), "-CAfile", ca.ca, "-tls1_2", "-legacy_renegotiation"],
		input=b"R\n", capture_output=True, timeout=20)
	assert b"RENEGOTIATING" in run.stdout + run.stderr
	assert b"no renegotiation" in (run.stdout + run.stderr) or run.returncode != 0


def test_a_self_signed_certificate(start, place):
	server = start({"server.tls": {"self_signed": "yes"}})
	line = server.wait_log("certificate")
	context = ssl.create_default_context()
	context.check_hostname = False
	context.verify_mode = ssl.CERT_NONE
	client = server.connect(hello=b"EHLO t.test\r\n")
	client.starttls(context)
	der = client.sock.getpeercert(True)
	assert hashlib.sha256(der).hexdigest() == line["sha256"]
	# and who trusts just this one finds the name in it
	path = os.path.join(place.path, "self.pem")
	with open(path, "w") as f:
		f.write(ssl.DER_cert_to_PEM_cert(der))
	client = server.connect(hello=b"EHLO t.test\r\n")
	client.starttls(ssl.create_default_context(cafile=path))
	assert client.cmd(b"EHLO t.test\r\n")[0] == 250
	assert client.message(CONTENT)[0] == 250


def test_without_a_certificate_there_is_no_tls(start):		# case 6.5
	server = start()
	client = server.connect()
	assert "STARTTLS" not in extensions(client.ask(b"EHLO t.test\r\n"))
	assert client.cmd(b"STARTTLS\r\n") == (454, "4.7.0")


@pytest.fixture
def changing(start, ca, place):
	"""A server whose certificate lies in a folder as Kubernetes mounts it: tls.crt -> ..data/tls.crt, ..data -> a folder."""
	folder = place.folder()
	os.mkdir(os.path.join(folder, "1"))
	shutil.copy(ca.path("mx.pem"), os.path.join(folder, "1", "tls.crt"))
	shutil.copy(ca.path("mx.key"), os.path.join(folder, "1", "tls.key"))
	os.symlink("1", os.path.join(folder, "..data"))
	for name in ("tls.crt", "tls.key"):
		os.symlink("..data/" + name, os.path.join(folder, name))
	server = start({"server.tls": {"cert_file": folder + "/tls.crt", "key_file": folder + "/tls.key"}})
	server.cert_folder = folder
	return server


def swap(server, number, cert, key):
	folder = os.path.join(server.cert_folder, str(number))
	os.mkdir(folder)
	shutil.copy(cert, os.path.join(folder, "tls.crt"))
	shutil.copy(key, os.path.join(folder, "tls.key"))
	os.symlink(str(number), os.path.join(server.cert_folder, "..new"))
	os.rename(os.path.join(server.cert_folder, "..new"), os.path.join(server.cert_folder, "..data"))


def served(server, ca):
	client = server.connect(hello=b"EHLO t.test\r\n")
	client.starttls(ca.context())
	return client, hashlib.sha256(client.sock.getpeercert(True)).hexdigest()


def test_a_changed_file_is_noticed(changing, ca):		# cases 6.13, 6.14
	inside, before = served(changing, ca)
	assert inside.cmd(b"EHLO t.test\r\n")[0] == 250
	new = ca.issue("new", ["mx.local.test"])
	swap(changing, 2, *new)
	changing.wait_log("reload", result="success", timeout=20)
	_, after = served(changing, ca)
	assert after == pki.fingerprint(new[0]) != before
	assert inside.message(CONTENT)[0] == 250
	# the key of another certificate: the old pair stays, and the attempt is one
	swap(changing, 3, ca.path("mx.pem"), ca.path("rsa.key"))
	changing.wait_log("reload", result="failure", timeout=20)
	assert served(changing, ca)[1] == after
	swap(changing, 4, ca.path("mx.pem"), ca.path("mx.key"))
	changing.wait_log("reload", count=2, result="success", timeout=20)
	assert served(changing, ca)[1] == before
	assert len(changing.log("reload", result="failure")) == 1


def bad_files(ca, place):
	folder = place.folder()
	empty, half, both = (os.path.join(folder, n) for n in ("empty.pem", "half.pem", "chain.pem"))
	open(empty, "w").close()
	with open(ca.path("mx.pem")) as f:
		text = f.read()
	with open(half, "w") as f:
		f.write(text[:len(text) // 2])
	with open(both, "w") as f:
		f.write(text)
		f.write(open(ca.path("rsa.pem")).read())
	small = ca.issue("small", ["mx.local.test"], "rsa1024")
	return [(empty, ca.path("mx.key")), (half, ca.path("mx.key")), (folder, ca.path("mx.key")), (ca.path("mx.pem"), empty),
		(ca.path("mx.pem"), ca.path("rsa.key")), (ca.path("mx.pem"), ca.path("mx.pem")), (both, ca.path("mx.key")), small]


@pytest.mark.root
def test_keys_are_with_the_fronts_alone(start, place, ca):		# case 6.17
	ca.issue("old", ["mx.local.test"])
	ca.issue("new", ["mx.local.test"])
	keys = [ca.scalar(name) for name in ("old", "new")]
	server = start(ca.sections("old"))
	server.ready()
	assert [harness.holds(server.agent(), key) for key in keys] == [False, False]
	assert [harness.holds(pid, keys[0]) for pid in server.fronts()] == [True]
	stays, old = server.connect(hello=b"EHLO t.test\r\n"), set(server.fronts())
	server.reload(ca.sections("new"))
	server.wait_log("reload", result="success")
	server.connect(hello=b"EHLO t.test\r\n")
	assert [harness.holds(server.agent(), key) for key in keys] == [False, False]
	(front,) = set(server.fronts()) - old
	assert [harness.holds(front, key) for key in keys] == [False, True]
	assert stays.cmd(b"NOOP\r\n") == (250, "2.0.0")


def test_bad_files_are_named(place, ca):
	import subprocess
	for cert, key in bad_files(ca, place):
		server = harness.Server(place, {"server.tls": {"cert_file": cert, "key_file": key}})
		server.write_config()
		run = subprocess.run([server.place.program, "-t", "-c", server.config], capture_output=True, timeout=20)
		text = run.stderr.decode()
		assert run.returncode == 1, (cert, key, text)
		assert cert in text or key in text, (cert, key, text)


def test_1_3_is_not_there_yet(place, ca):
	import subprocess
	server = harness.Server(place, {"server.tls": dict(ca.sections("mx")["server.tls"], min_version="1.3")})
	server.write_config()
	run = subprocess.run([server.place.program, "-t", "-c", server.config], capture_output=True, timeout=20)
	assert run.returncode == 1 and b"min_version" in run.stderr and b"1.2" in run.stderr


def test_close_notify_is_no_handshake(server):
	count = len(server.log("tls"))
	client = server.connect("tls", greet=False)
	client.send(b"\x15\x03\x01\0\2\1\0")
	server.wait_log("tls_failed", reason="close_notify")
	assert len(server.log("tls")) == count
	client.reset()


def test_a_forged_record_is_logged(server, ca):
	client = server.connect("tls", tls=ca.context())
	client.sock = socket.socket(fileno=client.sock.detach())
	client.send(b"\x17\x03\x03\0\x30" + bytes(48))
	server.wait_log("tls_failed", reason="bad record MAC")
	client.reset()


def test_a_reset_during_the_handshake(server):
	for _ in range(20):
		client = server.connect("tls", greet=False)
		client.send(b"\x16\x03\x01\x00")
		client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
		client.close()


def test_many_at_once(server, ca):
	context = ca.context()
	clients = [server.connect("tls", tls=context, hello=b"EHLO t.test\r\n") for _ in range(50)]
	for client in clients:
		client.start_data()
	for client in clients:
		client.send(CONTENT + b".\r\n")
	for client in clients:
		assert client.reply().pair == (250, "2.0.0")
	assert len(server.take()) == 50
