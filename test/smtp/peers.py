"""Other people's programs: what is installed, and those that take more than one line to start."""

import os
import shutil
import socket
import subprocess
import time

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


class Postfix:
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
		harness.until(lambda: not any(harness.alive(k) for k in kids), "the end of Postfix", PATIENCE)
