#!/usr/bin/python3
"""
A milter by libmilter (python3-milter) that does what it is told to: toymilter.py SOCKET

At each stage the words that it hears are searched for STAGE-VERDICT (connect: the listener's name; helo; mail and data: the sender; rcpt; header,
eoh, body, eom: fields named X-Do), where VERDICT is reject, tempfail, discard, accept or reply. At the end X-Do names the changes to make.
"""

import sys
import time

import Milter

BIG = b"".join(b"%06d %s\r\n" % (i, b"x" * 66) for i in range(2000))	# more than two packets hold


class Toy(Milter.Base):
	def judge(self, stage, words):
		for word in words.replace("<", " ").replace("@", " ").replace(",", " ").split():
			if word == stage + "-reply":
				self.setreply("554", "5.7.9", "one of two", "at " + stage)
				return Milter.REJECT
			for name, verdict in (("reject", Milter.REJECT), ("tempfail", Milter.TEMPFAIL), ("discard", Milter.DISCARD),
					("accept", Milter.ACCEPT)):
				if word == stage + "-" + name:
					return verdict
		return Milter.CONTINUE

	def connect(self, name, family, address):
		self.client = "%s %s" % (name, address)
		self.ends = "%s %s %s" % (address[1], self.getsymval("{client_port}"), self.getsymval("{daemon_addr}"))
		self.mails = 0		# of this client
		return self.judge("connect", self.getsymval("{daemon_name}"))

	def hello(self, name):
		self.client += " " + name
		return self.judge("helo", name)

	def envfrom(self, sender, *parameters):
		self.sender, self.parameters, self.rcpts, self.do, self.fields, self.octets = sender, parameters, [], [], 0, 0
		self.mails += 1
		self.login = "%s %s" % (self.getsymval("{auth_type}"), self.getsymval("{auth_authen}"))
		return self.judge("mail", sender)

	def envrcpt(self, rcpt, *parameters):
		self.rcpts.append(rcpt)
		return self.judge("rcpt", rcpt)

	def data(self):
		return self.judge("data", self.sender)

	def header(self, name, value):
		self.fields += 1
		if name.lower() == "x-do":
			self.do += value.replace(",", " ").split()
		return self.judge("header", " ".join(self.do))

	def eoh(self):
		return self.judge("eoh", " ".join(self.do))

	def body(self, chunk):
		self.octets += len(chunk)
		return self.judge("body", " ".join(self.do))

	def eom(self):
		for what in self.do:
			getattr(self, "do_" + what.replace("-", "_"), lambda: None)()
		return self.judge("eom", " ".join(self.do))

	def close(self):
		return Milter.CONTINUE

	def abort(self):
		return Milter.CONTINUE

	# -- changes --

	def do_add(self):
		self.addheader("X-Added", "by a milter")

	def do_fold(self):
		self.addheader("X-Folded", "one\n\ttwo\n three")

	def do_insert(self):
		self.addheader("X-First", "1", 0)

	def do_between(self):
		self.addheader("X-Second", "2", 2)

	def do_change(self):
		self.chgheader("Subject", 1, "changed")
		self.chgheader("x-twice", 2, "the second")

	def do_change_absent(self):
		self.chgheader("X-Absent", 1, "not any more")

	def do_delete(self):
		self.chgheader("X-Twice", 1, "")
		self.chgheader("X-Do", 1, "")

	def do_replace(self):
		self.replacebody(b"Another\r\nbody.\r\n")

	def do_replace_big(self):
		self.replacebody(BIG)

	def do_empty(self):
		self.replacebody(b"")

	def do_addrcpt(self):
		self.addrcpt("<carol@other.test>")

	def do_addfar(self):
		self.addrcpt("<x@far.test>")

	def do_delrcpt(self):
		self.delrcpt("<bob@local.test>")

	def do_from(self):
		self.chgfrom("<new@y.test>")

	def do_nobody(self):
		self.chgfrom("<>")

	def do_quarantine(self):
		self.quarantine("looks odd")

	def do_progress(self):
		for _ in range(5):
			time.sleep(0.2)
			self.progress()

	def do_tell(self):
		for name in ("client", "ends", "login", "sender", "parameters", "rcpts", "fields", "octets", "mails"):
			self.addheader("X-Tell-" + name.capitalize(), str(getattr(self, name)))


Milter.factory = Toy
Milter.set_flags(Milter.ADDHDRS | Milter.CHGHDRS | Milter.CHGBODY | Milter.ADDRCPT | Milter.DELRCPT | Milter.CHGFROM | Milter.QUARANTINE)
Milter.runmilter("toy", sys.argv[1], timeout=60)
