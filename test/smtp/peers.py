"""Other people's programs: what is installed, and those that take more than one line to start."""

import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

import harness

PATIENCE = 15
NODEMAILER = "nodemailer@10.6.0"
OIDC = "oidc-provider@9.13.3"


def needs(program):
	return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def run(cmd, data=None, expect=0, **how):
	r = subprocess.run(cmd, input=data, capture_output=True, timeout=60, check=False, **how)
	assert (r.returncode == expect) if isinstance(expect, int) else expect(r.returncode), (cmd, r.returncode, r.stdout, r.stderr)
	return r.stdout


def npm(package):
	"""A folder with a package of npm's in node_modules, installed once into build/; without npm the test is skipped."""
	if shutil.which("npm") is None or shutil.which("node") is None:
		pytest.skip("npm is not installed")
	folder = os.path.join(harness.TOP, "build", "npm", package.replace("@", "-"))
	if not os.path.exists(folder + "/done"):
		shutil.rmtree(folder, ignore_errors=True)
		os.makedirs(folder)
		with open(folder + "/package.json", "w", encoding="ascii") as f:
			f.write('{"private": true}\n')
		done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--omit=dev", "--prefix", folder, package], cwd=folder,
			capture_output=True, text=True, timeout=120, check=False)
		if done.returncode != 0:
			pytest.skip(f"npm cannot install {package}: " + (done.stderr.strip().splitlines() or ["?"])[-1])
		with open(folder + "/done", "w", encoding="ascii"):
			pass
	return folder


def free_port():
	with socket.socket() as s:
		s.bind(("127.0.0.1", 0))
		return s.getsockname()[1]


def is_open(port):
	try:
		socket.create_connection(("127.0.0.1", port)).close()
		return True
	except ConnectionRefusedError:
		return False


class Server:
	"""Somebody else's mail server, in a folder of its own with its log."""

	def text(self):
		try:
			with open(self.path + "/log", encoding="utf-8", errors="replace") as f:
				return f.read()[-3000:]
		except FileNotFoundError:
			return "no log"

	def stop(self):
		kids = harness.children(self.process.pid)
		self.process.terminate()
		self.process.wait(PATIENCE)
		harness.until(lambda: not any(harness.alive(k) for k in kids), "the end of " + type(self).__name__, PATIENCE)
		harness.CENSUS.known.discard(self.process.pid)


class Postfix(Server):
	"""A private instance that relays everything to one server. more: lines of main.cf."""

	def __init__(self, path, relay, more="smtp_tls_security_level = none"):
		if not harness.ROOT:
			pytest.skip("a private Postfix needs root")
		if shutil.which("postfix") is None:
			pytest.skip("postfix is not installed")
		self.path, self.port = path, free_port()
		daemons = run(["postconf", "-d", "-h", "daemon_directory"]).decode().strip()
		for name in ("", "/etc", "/data", "/spool"):
			os.mkdir(path + name)
			os.chmod(path + name, 0o755)
		shutil.chown(path + "/data", "postfix")
		self.write("main.cf", f"""
			compatibility_level = 3.6
			queue_directory = {path}/spool
			data_directory = {path}/data
			command_directory = /usr/sbin
			daemon_directory = {daemons}
			maillog_file = {path}/log
			maillog_file_prefixes = {path}
			inet_interfaces = 127.0.0.1
			inet_protocols = ipv4
			myhostname = relay.x.test
			mydestination =
			alias_maps =
			alias_database =
			mynetworks = 127.0.0.0/8
			smtpd_peername_lookup = no
			local_recipient_maps =
			local_header_rewrite_clients =
			relayhost = {relay}
			smtp_dns_support_level = disabled
			minimal_backoff_time = 1s
			queue_run_delay = 1s
			{more}
			""")
		self.write("master.cf", f"""
			127.0.0.1:{self.port} inet n - n - - smtpd
			pickup unix n - n 60 1 pickup
			cleanup unix n - n - 0 cleanup
			qmgr unix n - n 1 1 qmgr
			tlsmgr unix - - n 1000? 1 tlsmgr
			rewrite unix - - n - - trivial-rewrite
			bounce unix - - n - 0 bounce
			defer unix - - n - 0 bounce
			trace unix - - n - 0 bounce
			smtp unix - - n - - smtp
			error unix - - n - - error
			retry unix - - n - - error
			anvil unix - - n - 1 anvil
			postlog unix-dgram n - n - 1 postlogd
			""")
		# what "postfix check" makes, which takes seconds
		for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace", "maildrop",
			"public"):
			os.mkdir(f"{path}/spool/{name}", 0o700)
			shutil.chown(f"{path}/spool/{name}", "postfix")
		os.mkdir(f"{path}/spool/pid")
		self.process = subprocess.Popen(["setpriv", "--pdeathsig=KILL", daemons + "/master", "-d", "-c", path + "/etc"],
			stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"],
			"MAIL_CONFIG": path + "/etc"}, start_new_session=True)
		end = time.monotonic() + PATIENCE
		while not is_open(self.port):
			assert self.process.poll() is None and time.monotonic() < end, self.text()
			time.sleep(0.01)

	def write(self, name, lines):
		with open(f"{self.path}/etc/{name}", "w", encoding="ascii") as f:
			f.write("".join(line.strip() + "\n" for line in lines.splitlines()))


class Dovecot(Server):
	"""Dovecot's submission proxy: bob logs in to it with a password that only it knows, and it sends as the relay's user."""

	def __init__(self, path, relay_port, tls, ca, user, password):
		if not harness.ROOT:
			pytest.skip("a private Dovecot needs root")
		if shutil.which("dovecot") is None or not os.path.exists("/usr/lib/dovecot/submission"):
			pytest.skip("dovecot-submissiond is not installed")
		self.path, self.port = path, free_port()
		for name in ("", "/run", "/state", "/home"):
			os.mkdir(path + name)
			os.chmod(path + name, 0o755)
		shutil.chown(path + "/home", "mail", "mail")
		self.write("passwd", "bob@local.test:{PLAIN}his own:8:8::%s/home::\n" % path)
		self.write("conf", f"""\
base_dir = {path}/run
state_dir = {path}/state
instance_name = test
log_path = {path}/log
protocols = submission
listen = 127.0.0.1
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
first_valid_uid = 8
mail_location = maildir:{path}/home
ssl = no
ssl_client_ca_file = {ca}
ssl_client_require_valid_cert = yes
disable_plaintext_auth = no
hostname = dovecot.x.test
submission_relay_host = localhost
submission_relay_port = {relay_port}
submission_relay_ssl = {tls}
submission_relay_ssl_verify = yes
submission_relay_user = {user}
submission_relay_password = {password}
passdb {{
  driver = passwd-file
  args = {path}/passwd
}}
userdb {{
  driver = passwd-file
  args = {path}/passwd
}}
service submission-login {{
  chroot =
  inet_listener submission {{
    port = {self.port}
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
""")
		self.process = subprocess.Popen(["setpriv", "--pdeathsig=KILL", "dovecot", "-F", "-c", path + "/conf"], stdin=subprocess.DEVNULL,
			stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]})
		harness.CENSUS.known.add(self.process.pid)
		harness.until(lambda: is_open(self.port) or self.process.poll() is not None, "Dovecot", PATIENCE)
		assert self.process.poll() is None, self.text()

	def write(self, name, text):
		with open(f"{self.path}/{name}", "w", encoding="ascii") as f:
			f.write(text)
		os.chmod(f"{self.path}/{name}", 0o644)


PROVIDER = """
import https from 'node:https';
import fs from 'node:fs';
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const algorithms = { RS256: ['rsa', { modulusLength: 2048 }], PS256: ['rsa', { modulusLength: 2048 }], ES256: ['ec', { namedCurve: 'P-256' }],
	ES384: ['ec', { namedCurve: 'P-384' }], EdDSA: ['ed25519', {}] };
const keys = Object.entries(algorithms).map(([alg, [kind, how]]) =>
	({ ...generateKeyPairSync(kind, how).privateKey.export({ format: 'jwk' }), kid: 'key-' + alg, alg, use: 'sig' }));
const [cert, key] = process.argv.slice(1).map((file) => fs.readFileSync(file));
const server = https.createServer({ cert, key });
server.listen(0, '127.0.0.1', () => {
	const issuer = 'https://localhost:' + server.address().port;
	const provider = new Provider(issuer, {
		jwks: { keys },
		clients: Object.keys(algorithms).map((alg) => ({ client_id: alg, client_secret: 'secret', grant_types: ['client_credentials'],
			redirect_uris: [], response_types: [] })),
		features: {
			clientCredentials: { enabled: true }, devInteractions: { enabled: false },
			resourceIndicators: { enabled: true, defaultResource: () => 'smtp://mail', useGrantedResource: () => true,
				getResourceServerInfo: (context, resource, client) => ({ scope: 'send', audience: resource.slice('smtp://'.length),
					accessTokenTTL: 600, accessTokenFormat: 'jwt', jwt: { sign: { alg: client.clientId } } }) },
		},
		extraTokenClaims: () => ({ email: 'alice@local.test' }),
		enabledJWA: { idTokenSigningAlgValues: Object.keys(algorithms) },
	});
	server.on('request', provider.callback());
	console.log(issuer);
});
"""


class Provider:
	"""A real OpenID provider, whose access tokens name alice. Its certificate is the authority's for localhost."""

	def __init__(self, authority, cert, key):
		self.ca = authority.ca
		self.process = subprocess.Popen(["node", "--input-type=module", "-e", PROVIDER, cert, key], cwd=npm(OIDC), stdin=subprocess.DEVNULL,
			stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
		harness.CENSUS.known.add(self.process.pid)
		self.issuer = next((line.strip() for line in self.process.stdout if line.startswith("https://")), None)
		assert self.issuer is not None, "the provider did not start"

	def token(self, audience="mail", client="RS256"):
		form = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": "send", "resource": "smtp://" + audience})
		login = base64.b64encode(f"{client}:secret".encode()).decode()
		request = urllib.request.Request(self.issuer + "/token", form.encode(), {"Authorization": "Basic " + login})
		with urllib.request.urlopen(request, timeout=PATIENCE, context=ssl.create_default_context(cafile=self.ca)) as answer:
			return json.load(answer)["access_token"]

	def stop(self):
		self.process.kill()
		self.process.wait()
		self.process.stdout.close()
		harness.CENSUS.known.discard(self.process.pid)
