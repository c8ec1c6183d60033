"""SECURITY-CASES 15: logs, and the configuration as the program's user meets it."""

import glob
import json
import os
import re
import shutil
import signal
import subprocess

import pytest

import harness
import pki

HELLO = b"EHLO t.test\r\n"
OK = (250, "2.0.0")
CONTENT = b"Subject: s\r\n\r\nx\r\n"
STEPS = ["time", "level", "process", "event"]


def test_one_line_tells_a_messages_story(start):	# case 15.4
	server = start()
	smtp = server.connect(hello=HELLO)
	assert smtp.message(CONTENT, rcpts=[b"bob@local.test", b"alice@local.test"]) == OK
	line = server.wait_log("message")
	for name, value in {"id": server.promised[0], "listener": "mx", "client": "127.0.0.1", "helo": "t.test", "from": "a@x.test",
			"to": "bob@local.test,alice@local.test", "rcpts": "2", "agent": "maildir", "result": "delivered", "level": "info"}.items():
		assert line[name] == value, name
	assert line["reply"].startswith("250 2.0.0 ")
	assert int(line["size"]) > len(CONTENT)
	assert {"session", "data_ms", "delivery_ms", "total_ms"} <= set(line)
	assert len(server.log("message")) == 1


@pytest.mark.parametrize("content,result,reply", [(b"a\nb\r\n", "rejected", "550 5.5.2"), (b"x" * 3000 + b"\r\n", "rejected", "552 5.3.4")])
def test_a_refused_message_has_its_line_too(start, content, result, reply):	# case 15.4
	server = start({"smtpd.limits": {"max_message_size": "2k"}})
	smtp = server.connect(hello=HELLO)
	smtp.message(content)
	line = server.wait_log("message", result=result)
	assert line["reply"].startswith(reply) and line["from"] == "a@x.test" and line["to"] == "bob@local.test"


def manual_of_the_log():
	with open(os.path.join(harness.TOP, "doc", "smtpd.8")) as f:
		section = f.read().split(".Sh LOG\n")[1].split("\n.Sh ")[0]
	fields, events = section.split("What else is said", 1)
	return tuple({w for line in re.findall(r"^\.It Cm (.*)$", part, re.M) for w in line.split(" , ")} for part in (fields, events))


def sources():
	return "".join(open(path).read() for path in sorted(glob.glob(os.path.join(harness.TOP, "*.c"))))


def test_the_manual_names_every_event():
	said = re.findall(r'\blog_(?:debug|info|warn|error)\([^"]*?, "([a-z_]+)"', sources())
	said += re.findall(r'\blog_fields\([^"]*?, "([a-z_]+)"', sources())
	assert len(set(said)) > 50 and set(said) == manual_of_the_log()[1]


def test_the_manual_names_every_field_of_a_message():
	(said,) = re.findall(r'log_info\(tx->session, "message", (.*?)\);\n', sources(), re.S)
	fields = re.findall(r'LF_[A-Z]+\("([a-z_]+)"', said)
	assert set(fields) == manual_of_the_log()[0]
	with open(os.path.join(harness.TOP, "doc", "smtpd.8")) as f:
		(example,) = re.findall(r"^time=.*?(?=^\.Ed)", f.read(), re.M | re.S)
	assert re.findall(r'(?<!\S)([a-z_]+)=', example) == ["time", "level", "process", "session", "event"] + fields


def test_who_says_nothing_leaves_no_line(start):	# case 15.4
	server = start()
	server.ready()
	lines = len(server.lines)
	server.connect().finish()
	assert server.connect(hello=HELLO).message(CONTENT) == OK
	server.wait_log("message")
	assert len(server.lines) == lines + 1


def test_lines_have_their_fields_in_order(start):
	server = start()
	assert server.connect(hello=HELLO).message(CONTENT) == OK
	server.wait_log("message")
	for text, line in zip(server.lines, server.logs):
		assert re.match(r"^time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z level=(debug|info|warn|error) process=\w+ ", text), text
		assert all(name in line for name in STEPS)


NASTY = [b"EHLO a\x1b[31mb", b'MAIL FROM:<"a\\"b=c"@x.test>', b"RCPT TO:<\xff\xfe@local.test>", b"NOOP event=forged level=error",
	b'NOOP "quoted" \\ back', b"VRFY " + b"x" * 500, b"HELO \xe2\x80\xae\xe2\x80\xa8x", b"FOO\tBAR", b"RCPT TO:<a\x00b@c>"]


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_what_a_client_says_stays_in_its_field(start, form):	# cases 15.1, 5.16
	server = start({"smtpd": {"log_format": form, "log_transactions": "yes"}} if form == "logfmt" else None)
	if form == "json":
		server.reload({"smtpd": {"log_format": form, "log_transactions": "yes"}})
		harness.until(lambda: any('"event":"reload"' in line for line in server.lines), "the reload")
	at = len(server.lines)
	smtp = server.connect(hello=HELLO)
	for line in NASTY:
		smtp.ask(line + b"\r\n")
	assert smtp.cmd(b"QUIT\r\n") == (221, "2.0.0")
	harness.until(lambda: sum("221 2.0.0" in line for line in server.lines) > 0, "the last line")
	for text in server.lines[at:]:
		assert all(c.isprintable() for c in text), text
		assert len(text.encode()) <= 4096
		if form == "json":
			assert isinstance(json.loads(text), dict)
			assert json.loads(text)["event"] in ("recv", "send", "process_ended")
		else:
			assert harness.parse_line(text)["event"] in ("recv", "send", "process_ended")
	if form == "logfmt":
		received = [line["line"] for line in server.logs if line.get("event") == "recv"]
		assert any("event=forged" in line for line in received)


def test_long_values_are_cut_with_a_mark(start):	# case 15.1
	server = start({"smtpd": {"log_transactions": "yes"}})
	smtp = server.connect(hello=HELLO)
	assert smtp.cmd(b"MAIL FROM:<a@x.test> " + b"X" * 1900 + b"\r\n") == (555, "5.5.4")
	line = harness.until(lambda: [t for t in server.lines if "XXXX" in t])[0]
	assert len(line) < 800 and ("\u2026" in line or "\\u2026" in line)


def test_warnings_hide_what_is_less(start):
	server = start()
	server.reload({"smtpd": {"log_level": "warn"}})
	smtp = None

	def quiet():
		nonlocal smtp
		smtp = server.connect(hello=HELLO)
		before = len(server.lines)
		assert smtp.message(CONTENT) == OK
		smtp.finish()
		return len(server.lines) == before
	harness.until(quiet, "the new level")


# ---- the program's options ----

def run(place, args, text=None, env=None, before=()):
	folder = place.folder()
	path = folder + "/smtpd.conf"
	if text is not None:
		with open(path, "wb") as f:
			f.write(text.encode() if isinstance(text, str) else text)
		os.chmod(path, 0o644)
	drop = ["setpriv", "--reuid=%d" % harness.NOBODY, "--regid=%d" % harness.NOBODY, "--clear-groups"] if harness.ROOT else []
	environ = {"PATH": os.environ["PATH"], "ASAN_OPTIONS": "detect_leaks=0"}
	environ.update(env or {})
	result = subprocess.run(list(before) + drop + [place.program] + args + ["-c", path], capture_output=True, text=True, check=False,
		errors="backslashreplace", timeout=harness.PATIENCE, env=environ)
	assert "Sanitizer" not in result.stderr and "runtime error" not in result.stderr, result.stderr
	result.path = path
	return result


GOOD = """[server]
hostname = mx.local.test
[smtpd]
domains = local.test
[smtpd.listener mx]
address = 127.0.0.1:2525
[smtpd.delivery]
maildir = /tmp/%{domain}/%{user}
"""


def test_a_good_file_is_good(place):	# case 15.5
	result = run(place, ["-t"], GOOD)
	assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("bad,line,words", [
	("[smtpd.limits]\nmax_conections = 1\n", 10, ["max_conections", "max_connections"]),
	("[smtpd.limts]\nmax_connections = 1\n", 9, ["smtpd.limts", "smtpd.limits"]),
	("[smtpd.limits]\nmax_connections = lots\n", 10, ["max_connections", "lots"]),
	("[smtpd.limits]\nmax_connections = 99999999999999999999\n", 10, ["max_connections"]),
	("[smtpd.limits]\nmax_message_size = 25q\n", 10, ["max_message_size", "25q"]),
	("[smtpd.limits]\nmax_message_size = -1\n", 10, ["max_message_size"]),
	("[smtpd.timeouts]\ndelivery = 5\n", 10, ["delivery"]),
	("[smtpd.timeouts]\ndelivery = 5x\n", 10, ["delivery", "5x"]),
	("[smtpd]\nlog_level = loud\n", 10, ["log_level", "loud", "debug"]),
	("[smtpd]\ndomains = a..b\n", 10, ["domains"]),
	("[smtpd.listener two]\naddress = 127.0.0.1:2525\n", 10, ["address", "mx"]),
	("[smtpd.listener two]\naddress = localhost:25\n", 10, ["address"]),
	("[smtpd.listener two]\naddress = 127.0.0.2:99999\n", 10, ["address"]),
	("[smtpd.listener two]\naddress = 127.0.0.2:25\nmode = smtps\n", 11, ["mode", "certificate"]),
	("[smtpd.listener a b]\naddress = 127.0.0.2:25\n", 9, ["a b"]),
	("[smtpd.delivery]\ncommand = /bin/cat\n", 8, ["command", "maildir"]),
	("[smtpd.delivery]\nrecipient_command = /nowhere/x\n", 10, ["/nowhere/x"]),
	("[smtpd.delivery]\nrecipient_command = /bin/sh -c 'x\n", 10, ["recipient_command"]),
	("[smtpd.delivery]\nrecipient_command = /bin/sh %{nonsense}\n", 10, ["nonsense"]),
	("[smtpd.delivery]\nrecipient_command = /bin/sh a%{recipient}\n", 10, ["recipient"]),
	("no key at all\n", 9, []),
	("[smtpd.limits\nmax_connections = 1\n", 9, []),
])
def test_each_mistake_is_named_with_its_line(place, bad, line, words):	# case 15.5
	result = run(place, ["-t"], GOOD + bad)
	assert result.returncode == 1 and result.stdout == ""
	named = [text for text in result.stderr.splitlines() if "%s:%d:" % (result.path, line) in text]
	assert named, result.stderr
	assert all(any(w in text for text in named) for w in words), result.stderr


def test_all_mistakes_are_named_at_once(place):	# case 15.5
	result = run(place, ["-t"], GOOD + "[smtpd.limits]\na = 1\nb = 2\n[smtpd.timeouts]\nc = 3\n")
	assert len(result.stderr.splitlines()) == 3


@pytest.mark.parametrize("key", ["max_recipients = 1\nmax_recipients = 2"])
def test_a_key_given_twice(place, key):	# case 15.5
	assert run(place, ["-t"], GOOD + "[smtpd.limits]\n%s\n" % key).returncode == 1


@pytest.mark.parametrize("text", [GOOD.encode() + b"\0", GOOD.encode() + b"x" * 1024 * 1024 + b"\n",
	GOOD.replace("mx.local.test", "m\xfcx").encode("latin-1"), b""], ids=["NUL", "long", "latin-1", "empty"])
def test_files_that_are_none(place, text):	# case 15.5
	result = run(place, ["-t"], text)
	assert result.returncode == 1 and result.path in result.stderr


@pytest.mark.parametrize("text", [GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD], ids=["CRLF", "BOM"])
def test_files_of_other_editors_say_what_to_do(place, text):	# case 15.5
	result = run(place, ["-t"], text)
	assert result.returncode == 1 and "%s:1:" % result.path in result.stderr and "save" in result.stderr


@pytest.mark.parametrize("text", [GOOD.rstrip("\n"),
	GOOD + "; a comment\n# another\n[imapd]\nx = y\n[spamcheck.checker rspamd]\ntype = rspamd\nurl = http://127.0.0.1:11333\n[redis]\nurl = x\n"],
	ids=["no end", "other daemons"])
def test_files_that_are_shared(place, text):	# case 15.5
	result = run(place, ["-t"], text)
	assert result.returncode == 0, result.stderr


def test_no_file(place):	# case 15.5
	result = run(place, ["-t"])
	assert result.returncode == 1 and result.path in result.stderr and "No such file" in result.stderr


def effective(result):
	"""-T: {(section, key): (value, origin)}"""
	found, section = {}, None
	for line in result.stdout.splitlines():
		if line.startswith("["):
			section = line.strip("[]")
		elif " = " in line:
			key, rest = line.split(" = ", 1)
			value, origin = rest.rsplit(" ; ", 1)
			found[section, key.strip()] = (value.strip(), origin.strip())
	return found


def test_flag_beats_environment_beats_file_beats_default(place):	# case 15.7
	text = GOOD + "[smtpd.limits]\nmax_recipients = 11\nmax_errors = 12\nmax_deliveries = 13\n"
	result = run(place, ["-T", "-o", "smtpd.limits.max_errors=31", "-o", "smtpd.listener mx.bare_newline=normalize"], text,
		{"SMTPD_LIMITS_MAX_ERRORS": "21", "SMTPD_LIMITS_MAX_DELIVERIES": "22", "SMTPD_LISTENER_MX_WORKERS": "2", "SMTPD_SERVER_HOSTNAME": "env.test"})
	assert result.returncode == 0, result.stderr
	values = effective(result)
	assert values["smtpd.limits", "max_errors"][0] == "31"
	assert values["smtpd.listener mx", "bare_newline"][0] == "normalize"
	assert values["smtpd.limits", "max_deliveries"] == ("22", "environment SMTPD_LIMITS_MAX_DELIVERIES")
	assert values["smtpd.limits", "max_recipients"] == ("11", "%s:10" % result.path)
	assert values["smtpd.limits", "max_connections"] == ("1000", "default")
	assert values["smtpd.listener mx", "workers"] == ("2", "environment SMTPD_LISTENER_MX_WORKERS")
	assert values["server", "hostname"] == ("env.test", "environment SMTPD_SERVER_HOSTNAME")


@pytest.mark.parametrize("name", ["SMTPD_LIMITS_MAX_CONECTIONS", "SMTPD_NONSENSE", "SMTPD_LISTENER_MX_NONSENSE"])
def test_an_unknown_variable_is_an_error(place, name):	# case 15.7
	result = run(place, ["-t"], GOOD, {name: "1"})
	assert result.returncode == 1 and name in result.stderr


def test_a_bad_value_in_the_environment_is_named(place):	# case 15.7
	result = run(place, ["-t"], GOOD, {"SMTPD_LIMITS_MAX_ERRORS": "x"})
	assert result.returncode == 1 and "SMTPD_LIMITS_MAX_ERRORS" in result.stderr


def test_what_T_prints_is_a_file(place):	# case 15.7
	first = run(place, ["-T"], GOOD)
	assert first.returncode == 0
	second = run(place, ["-T"], first.stdout)
	assert second.returncode == 0, second.stderr
	assert {k: v[0] for k, v in effective(first).items()} == {k: v[0] for k, v in effective(second).items()}


def test_the_sample_is_a_file(place):
	sample = subprocess.run([place.program, "-S"], capture_output=True, text=True, check=True, timeout=harness.PATIENCE)
	result = run(place, ["-t"], sample.stdout)
	assert result.returncode == 0, result.stderr


def examples():
	"""(paper, configuration) of each example in the manual and in README.md."""
	with open(os.path.join(harness.TOP, "doc/smtpd.conf.5"), encoding="utf-8") as f:
		manual = f.read().split("\n.Sh EXAMPLES\n")[1]
	with open(os.path.join(harness.TOP, "README.md"), encoding="utf-8") as f:
		readme = f.read().split("\n## Configurations\n")[1].split("\n## ")[0]
	found = [("manual", text) for text in re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed$", manual, re.M | re.S)]
	return found + [("readme", text.replace("\n    ", "\n")) for text in re.findall(r"(?:\n {4}[^\n]*)+", readme)]


def here(text, folder):
	"""The example, with programs and files that are there."""
	def program(match):
		ours = match.group(2).startswith("/usr/local/lib/smtpd/")
		return match.group(1) + (folder + "/hooks/" + os.path.basename(match.group(2)) if ours else "/bin/true")
	text = re.sub(r"^(\w*command = )(\S+)", program, text, flags=re.M)
	return re.sub(r"(?<= )/etc/[\w./-]+", folder + "/file", text)


# What an example leaves out.
REST = {"server": "hostname = mx.local.test", "smtpd": "domains = local.test", "smtpd.listener": "address = 127.0.0.1:0",
	"smtpd.delivery": "maildir = /tmp/%{user}"}


@pytest.fixture(scope="module")
def stand_ins(place):
	"""A folder with our hooks, and a certificate with its key for any other file."""
	ca = pki.make(place)
	shutil.copytree(os.path.join(harness.TOP, "contrib/hooks"), ca.path("hooks"))
	with open(ca.path("file"), "w", encoding="ascii") as out:
		os.chmod(out.name, 0o600)
		if harness.ROOT:
			os.chown(out.name, harness.NOBODY, harness.NOBODY)
		for path in ca.issue("mail", ["mail.example.com"]):
			with open(path, encoding="ascii") as f:
				out.write(f.read())
	return ca.folder


@pytest.mark.parametrize("paper,text", examples())
def test_the_examples_are_good(place, stand_ins, paper, text):
	rest = "".join("[%s%s]\n%s\n" % (name, " rest" if name == "smtpd.listener" else "", keys) for name, keys in REST.items()
		if not re.search(r"^\[%s[] ]" % re.escape(name), text, re.M))
	result = run(place, ["-t"], here(text, stand_ins) + "\n" + rest)
	assert (result.returncode, result.stderr) == (0, "")


def test_there_are_examples():
	papers = [paper for paper, text in examples()]
	assert papers.count("manual") == 3 and papers.count("readme") >= 7


@pytest.mark.parametrize("args,code", [(["-V"], 0), (["-h"], 0), (["-x"], 2), (["-o"], 2), (["nonsense"], 2)])
def test_options(place, args, code):
	result = subprocess.run([place.program] + args, capture_output=True, text=True, check=False, timeout=harness.PATIENCE)
	assert result.returncode == code
	assert (result.stdout if code == 0 else result.stderr) != ""


def test_a_bad_file_starts_nothing(place):	# case 15.5
	result = run(place, [], GOOD + "[smtpd.limits]\nx = 1\n")
	assert result.returncode == 1 and "listening" not in result.stderr


def test_the_environment_reaches_the_server(start):	# case 15.7
	server = start(environ={"SMTPD_LIMITS_MAX_MESSAGE_SIZE": "3m"})
	assert b"SIZE 3145728" in server.connect().ask(HELLO).text
	server.send_signal(signal.SIGHUP)
	server.wait_log("reload", result="success")
	assert b"SIZE 3145728" in server.connect().ask(HELLO).text
