"""Real clients, each of which checks the server's certificate, send through ports like 587 and 465."""

import json
import os
import re
import smtplib
import ssl
import subprocess
from xml.etree import ElementTree

import pytest

import harness
import peers
import pki
from peers import needs, run
from test_auth import bearer, passwd
from tokens import Issuer

# With everything that a client would else add.
MESSAGE = (b"Message-ID: <1@t.test>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nFrom: alice@local.test\r\nTo: bob@local.test\r\n"
	b"Subject: real\r\n\r\n..dots\r\n.\r\n\r\nend\r\n")
STORED = MESSAGE.replace(b"\r\n", b"\n")
USER, PASSWORD = "alice@local.test", "secret"
MODES = ["sub", "tls"]		# STARTTLS, and TLS from the first octet


@pytest.fixture(scope="module")
def ca(place):
	authority = pki.make(place)
	authority.issue("localhost", ["localhost"])
	authority.issue("rsa", ["localhost"], "rsa")
	return authority


@pytest.fixture(scope="module")
def stranger(place):
	"""An authority that did not sign the server's certificate."""
	return pki.make(place)


@pytest.fixture(scope="module")
def issuer(place):
	return Issuer(place.folder())


def sections(ca):
	return dict(ca.sections("localhost", "rsa"), **{
		"smtpd.listener mx": None,
		"smtpd.listener sub": {"address": "127.0.0.1:0", "mode": "submission"},
		"smtpd.listener tls": {"address": "0.0.0.0:0", "mode": "smtps"},
		"smtpd.limits": {"auth_failures_per_ip": "0"},
	})


@pytest.fixture(scope="module")
def tls_server(place, ca, issuer):
	server = harness.Server(place, sections(ca))
	server.configure({"smtpd.auth": {"passwd_file": passwd(server.folder)},
		"smtpd.auth.oauth": {"issuer": issuer.name, "audience": "mail", "jwks_file": issuer.jwks}})
	server.start()
	server.ready()
	yield server
	server.stop()


@pytest.fixture
def server(tls_server):
	tls_server.take()
	yield tls_server
	tls_server.check_census()
	tls_server.check_ledger()
	tls_server.check_sanitizer()


class Job:
	"""What a client has to know. secret: the password, or with a mechanism of OAuth the token."""

	def __init__(self, server, mode, ca, mechanism="PLAIN", secret=PASSWORD):
		self.port, self.implicit, self.ca = server.addresses[mode][1], mode == "tls", ca.ca
		self.mechanism, self.secret = mechanism, secret
		self.folder = server.place.folder()

	def file(self, name, text):
		path = os.path.join(self.folder, name)
		with open(path, "w", encoding="ascii") as f:
			f.write(text)
		os.chmod(path, 0o600)
		return path


# ---- the clients: each sends MESSAGE and returns whether that went well ----

def ended(cmd, data=None, **how):
	done = subprocess.run(cmd, input=data, capture_output=True, timeout=60, check=False, **how)
	print(cmd, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
	return done.returncode == 0


def curl(job):
	login = ["--oauth2-bearer", job.secret, "--user", USER] if job.mechanism == "OAUTHBEARER" else ["--user", f"{USER}:{job.secret}"]
	return ended(["curl", "-sS", "-m", "20", "--ssl-reqd", "--cacert", job.ca, *login, "--login-options", "AUTH=" + job.mechanism,
		f"{'smtps' if job.implicit else 'smtp'}://localhost:{job.port}/t.test", "--mail-from", USER, "--mail-rcpt", "bob@local.test",
		"--upload-file", "-"], MESSAGE)


def msmtp(job):
	rc = job.file("rc", f"""\
defaults
set_date_header off
set_msgid_header off
account default
host localhost
port {job.port}
domain t.test
from {USER}
auth {job.mechanism.lower()}
user {USER}
passwordeval cat {job.file('secret', job.secret)}
tls on
tls_starttls {'off' if job.implicit else 'on'}
tls_trust_file {job.ca}
""")
	return ended(["msmtp", "-C", rc, "bob@local.test"], STORED)


def swaks(job):
	return ended(["swaks", "-s", "localhost", "-p", str(job.port), "-tlsc" if job.implicit else "-tls", "--tls-verify", "--tls-ca-path",
		job.ca, "--auth", job.mechanism, "--auth-user", USER, "--auth-password", job.secret, "-f", USER, "-t", "bob@local.test", "--ehlo",
		"t.test", "--data", "-"], STORED.rstrip(b"\n"))


def python(job):
	context = ssl.create_default_context(cafile=job.ca)

	def send(smtp):
		with smtp:
			if not job.implicit:
				smtp.starttls(context=context)
			if job.mechanism == "PLAIN":
				smtp.login(USER, job.secret)
			else:
				smtp.ehlo()
				response = f"n,a={USER},\1auth=Bearer {job.secret}\1\1"
				smtp.auth(job.mechanism, lambda challenge=None: response if challenge is None else "\1")
			return smtp.sendmail(USER, ["bob@local.test"], MESSAGE) == {}
	try:
		if job.implicit:
			return send(smtplib.SMTP_SSL("localhost", job.port, "t.test", context=context, timeout=20))
		return send(smtplib.SMTP("localhost", job.port, "t.test", timeout=20))
	except (ssl.SSLError, smtplib.SMTPException) as e:
		print(repr(e))
		return False


NODE = """
const fs = require('fs'), job = JSON.parse(process.argv[1]);
const auth = job.mechanism === 'PLAIN' ? { user: job.user, pass: job.secret, method: 'PLAIN' } :
	{ type: 'OAuth2', user: job.user, accessToken: job.secret };
const transport = require('nodemailer').createTransport({ host: 'localhost', port: job.port, name: 't.test', secure: job.implicit,
	requireTLS: true, tls: { ca: fs.readFileSync(job.ca) }, auth });
transport.sendMail({ envelope: { from: job.user, to: ['bob@local.test'] }, raw: fs.readFileSync(0) }).then(
	() => transport.close(), (e) => { console.error(e); process.exit(1); });
"""


def nodemailer(job):
	folder = peers.npm(peers.NODEMAILER)
	return ended(["node", "-e", NODE, json.dumps(dict(vars(job), user=USER))], MESSAGE, cwd=folder)


class Talk:
	"""A dialogue by hand, through a program that knows TLS only."""

	def __init__(self, cmd):
		self.process = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
		harness.CENSUS.known.add(self.process.pid)

	def reply(self):
		while True:
			line = self.process.stdout.readline()
			print(line)
			if line[3:4] != b"-":
				return line[:3]

	def ask(self, octets):
		self.process.stdin.write(octets)
		self.process.stdin.flush()
		return self.reply()

	def send(self, greeted):
		try:
			steps = [(b"", b"220")] if greeted else []
			steps += [(b"EHLO t.test\r\n", b"250"), (b"AUTH PLAIN AGFsaWNlQGxvY2FsLnRlc3QAc2VjcmV0\r\n", b"235"),
				(b"MAIL FROM:<alice@local.test>\r\n", b"250"), (b"RCPT TO:<bob@local.test>\r\n", b"250"), (b"DATA\r\n", b"354"),
				(MESSAGE.replace(b"\r\n.", b"\r\n..") + b".\r\n", b"250"), (b"QUIT\r\n", b"221")]
			return all(self.ask(octets) == want for octets, want in steps) and self.process.stdout.read() == b""
		except BrokenPipeError:
			return False
		finally:
			rest = self.process.communicate(timeout=20)
			print(rest)
			harness.CENSUS.known.discard(self.process.pid)


def s_client(job):
	how = [] if job.implicit else ["-starttls", "smtp", "-name", "t.test"]
	return Talk(["openssl", "s_client", *how, "-connect", f"localhost:{job.port}", "-servername", "localhost", "-CAfile", job.ca,
		"-verify_return_error", "-verify_hostname", "localhost", "-quiet"]).send(job.implicit)


def gnutls(job):
	how = [] if job.implicit else ["--starttls-proto=smtp"]
	return Talk(["gnutls-cli", *how, "--x509cafile", job.ca, "--logfile", job.file("log", ""), "--port", str(job.port), "localhost"]).send(
		job.implicit)


CLIENTS = [(s_client, "openssl", ["PLAIN"]), (gnutls, "gnutls-cli", ["PLAIN"]), (curl, "curl", ["PLAIN", "OAUTHBEARER"]),
	(msmtp, "msmtp", ["PLAIN", "OAUTHBEARER", "XOAUTH2"]), (swaks, "swaks", ["PLAIN"]), (python, "sh", ["PLAIN", "OAUTHBEARER"]),
	(nodemailer, "node", ["PLAIN", "XOAUTH2"])]
PAIRS = [pytest.param(client, mechanism, marks=needs(program), id=f"{client.__name__}-{mechanism}")
	for client, program, mechanisms in CLIENTS for mechanism in mechanisms]
LOGINS = [p for p in PAIRS if p.values[0] not in (s_client, gnutls)]
PROGRAMS = [pytest.param(client, marks=needs(program), id=client.__name__) for client, program, _ in CLIENTS]


def delivered(server):
	"""The message that a client was promised, out of the harness's sight."""
	(m,) = server.take()
	server.promised.append(m.id)
	return m


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("client,mechanism", PAIRS)
def test_a_client_sends(server, ca, issuer, client, mechanism, mode):
	assert client(Job(server, mode, ca, mechanism, PASSWORD if mechanism == "PLAIN" else issuer.token()))
	m = delivered(server)
	assert m.body == STORED
	assert m.trace.startswith(b"Return-Path: <alice@local.test>\n") and b" with ESMTPSA id " in m.trace
	line = server.wait_log("message", id=m.id)
	assert line["user"] == USER and line["tls"] == "TLSv1.2" and re.search("-GCM-|-CHACHA20-", line["cipher"])
	assert [(a["mechanism"], a["result"]) for a in server.log("auth", session=line["session"])] == [(mechanism, "good")]


@pytest.mark.parametrize("client,mechanism", LOGINS)
def test_a_wrong_secret_sends_nothing(server, ca, issuer, client, mechanism):
	secret = "wrong" if mechanism == "PLAIN" else issuer.token(aud="other")
	count = len(server.log("auth", result="bad"))
	assert not client(Job(server, "sub", ca, mechanism, secret))
	assert server.wait_log("auth", count + 1, result="bad")["mechanism"] == mechanism
	assert server.take() == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("client", PROGRAMS)
def test_a_certificate_of_nobody_is_refused_by_the_client(server, stranger, client, mode):
	"""So that the others show that certificates are checked."""
	count = len(server.log("auth"))
	assert not client(Job(server, mode, stranger))
	assert server.take() == [] and len(server.log("auth")) == count


@pytest.fixture(scope="module")
def misnamed(place, ca):
	"""A server whose certificate is the authority's, and another's."""
	ca.issue("other", ["other.test"])
	server = harness.Server(place, sections(ca))
	server.configure(ca.sections("other"))
	server.configure({"smtpd.auth": {"passwd_file": passwd(server.folder)}})
	server.start()
	yield server
	server.stop()


@pytest.mark.parametrize("client", [p for p in PROGRAMS if p.values[0] != swaks])	# it looks at no name
def test_a_certificate_of_another_name_is_refused_by_the_client(misnamed, ca, client):
	assert not client(Job(misnamed, "sub", ca)) and not client(Job(misnamed, "tls", ca))
	assert misnamed.take() == [] and not misnamed.log("auth")


@needs("curl")
def test_curl_names_the_refusal(server, ca, issuer):
	job = Job(server, "sub", ca)
	run(["curl", "-sS", "-m", "20", "--ssl-reqd", "--cacert", job.ca, "--oauth2-bearer", issuer.token(exp=1), "--user", USER,
		f"smtp://localhost:{job.port}/t.test", "--mail-from", USER, "--mail-rcpt", "bob@local.test", "--upload-file", "-"], MESSAGE,
		expect=67)	# CURLE_LOGIN_DENIED


def seen_by_sslscan(server, mode):
	"""Versions, and suites of all of them. Its search for groups waits for a record for each handshake message, which nobody has to send."""
	how = ["--no-groups"] if mode == "tls" else ["--no-groups", "--starttls-smtp"]
	out = ElementTree.fromstring(run(["sslscan", "--xml=-", *how, f"localhost:{server.addresses[mode][1]}"]))
	assert not [h for h in out.iter("heartbleed") if h.get("vulnerable") != "0"]
	return ({p.get("type") + p.get("version") for p in out.iter("protocol") if p.get("enabled") == "1"},
		{c.get("cipher") for c in out.iter("cipher")})


AEAD = {f"ECDHE-{key}-{suite}" for key in ("ECDSA", "RSA") for suite in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")}
CBC = {f"ECDHE-{key}-{suite}" for key in ("ECDSA", "RSA") for suite in ("AES128-SHA", "AES256-SHA")}


@needs("sslscan")
@pytest.mark.parametrize("mode", MODES)
def test_sslscan_sees_nothing_old(server, mode):
	assert seen_by_sslscan(server, mode) == ({"tls1.2"}, AEAD)


@needs("sslscan")
def test_sslscan_sees_the_old_where_it_is_configured(start, ca):
	server = start(sections(ca), prepare=lambda s: {"server.tls": {"min_version": "1.0"}, "smtpd.auth": {"passwd_file": passwd(s.folder)}})
	assert seen_by_sslscan(server, "sub") == ({"tls1.0", "tls1.1", "tls1.2"}, AEAD | CBC)


# ---- servers that send ----

@pytest.fixture
def relay():
	"""relay(class, ...): one that is ended with the test."""
	started = []

	def run_it(kind, *how):
		started.append(kind(*how))
		return started[-1]
	yield run_it
	for r in started:
		r.stop()


@pytest.mark.parametrize("mode", MODES)
def test_postfix_relays(server, ca, relay, mode):
	job = Job(server, mode, ca)
	postfix = relay(peers.Postfix, job.folder + "/postfix", f"[localhost]:{job.port}", f"""
		smtp_tls_security_level = secure
		smtp_tls_loglevel = 1
		smtp_tls_CAfile = {job.ca}
		smtp_tls_wrappermode = {'yes' if job.implicit else 'no'}
		smtp_sasl_auth_enable = yes
		smtp_sasl_security_options = noanonymous
		smtp_sasl_mechanism_filter = plain
		smtp_sasl_password_maps = inline:{{ {{ [localhost]:{job.port} = {USER}:{PASSWORD} }} }}""")
	count = len(server.log("message"))
	with smtplib.SMTP("127.0.0.1", postfix.port, "t.test", timeout=20) as s:
		assert s.sendmail(USER, ["bob@local.test"], MESSAGE) == {}
	assert server.wait_log("message", count + 1, 30)["user"] == USER
	received, rest = delivered(server).body.split(b" (UTC)\n", 1)
	assert received.startswith(b"Received: from t.test ") and rest == STORED
	assert "Verified TLS connection established to localhost" in postfix.text(), postfix.text()


@pytest.mark.parametrize("mode", MODES)
def test_dovecot_relays(server, ca, relay, mode):
	"""It says in MAIL whose mail this is: AUTH=bob@local.test (RFC 4954 5)."""
	job = Job(server, mode, ca)
	dovecot = relay(peers.Dovecot, job.folder + "/dovecot", job.port, "smtps" if job.implicit else "starttls", job.ca, USER, PASSWORD)
	with smtplib.SMTP("127.0.0.1", dovecot.port, "t.test", timeout=20) as s:
		s.login("bob@local.test", "his own")
		assert s.sendmail(USER, ["bob@local.test"], MESSAGE) == {}, dovecot.text()
	received, rest = re.fullmatch(rb"(Received: [^\n]*\n(?:\t[^\n]*\n)+)(.*)", delivered(server).body, re.S).groups()
	assert b"dovecot.x.test" in received and rest == STORED


# ---- a real identity provider ----

@pytest.fixture(scope="module")
def oidc(place, ca):
	provider = peers.Provider(ca, ca.path("localhost.pem"), ca.path("localhost.key"))
	server = harness.Server(place, sections(ca))
	server.configure({"smtpd.auth.oauth": {"issuer": provider.issuer, "audience": "mail", "ca_file": ca.ca}})
	server.start()
	server.wait_log("jwks", result="ok")
	server.provider = provider
	yield server
	server.stop()
	provider.stop()


OAUTH = [p for p in PAIRS if p.values[1] != "PLAIN"]


@pytest.mark.parametrize("client,mechanism", OAUTH)
def test_a_providers_token_sends(oidc, ca, client, mechanism):
	assert client(Job(oidc, "sub", ca, mechanism, oidc.provider.token()))
	assert delivered(oidc).body == STORED
	assert not client(Job(oidc, "sub", ca, mechanism, oidc.provider.token("other")))
	assert oidc.take() == []


@pytest.mark.parametrize("algorithm,good", [("RS256", True), ("PS256", True), ("ES256", True), ("ES384", True), ("EdDSA", False)])
def test_a_providers_algorithms(oidc, ca, algorithm, good):
	assert python(Job(oidc, "tls", ca, "OAUTHBEARER", oidc.provider.token(client=algorithm))) == good
	assert len([delivered(oidc) for _ in range(good)]) == good and oidc.take() == []


def test_tokens_outlive_the_provider(place, ca):
	provider = peers.Provider(ca, ca.path("localhost.pem"), ca.path("localhost.key"))
	try:
		token = provider.token()
		server = harness.Server(place, sections(ca))
		server.configure({"smtpd.auth.oauth": {"issuer": provider.issuer, "audience": "mail", "ca_file": ca.ca}})
		server.start()
		server.wait_log("jwks", result="ok")
	finally:
		provider.stop()
	try:
		assert python(Job(server, "sub", ca, "OAUTHBEARER", token))
		assert delivered(server).body == STORED
	finally:
		server.stop()
	server.start()			# now it never had the keys
	try:
		client = server.connect("tls", tls=ca.context(), name="localhost", hello=b"EHLO t.test\r\n")
		assert client.auth(b"OAUTHBEARER", bearer(token, USER)) == (454, "4.7.0")
		client.finish()
	finally:
		server.stop()
