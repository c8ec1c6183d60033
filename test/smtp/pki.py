"""A certificate authority of the tests' own, made by openssl(1)."""

import os
import ssl
import subprocess


CA = "ca.pem"


def openssl(*words, **how):
	subprocess.run(("openssl",) + words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how)


class Authority:
	"""Certificates and keys in a folder that the server may read."""

	def __init__(self, folder):
		self.folder = folder
		self.ca = self.path(CA)
		openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=Test CA", "-days", "30",
			"-keyout", self.path("ca.key"), "-out", self.ca)

	def path(self, name):
		return os.path.join(self.folder, name)

	def issue(self, name, hosts, kind="ec", days=30):
		"""NAME.pem, the chain, and NAME.key; returns both paths. kind: ec, ec384, rsa or rsaN."""
		key, cert, request, extensions = (self.path(name + end) for end in (".key", ".pem", ".csr", ".ext"))
		if kind.startswith("rsa"):
			new = ["-newkey", "rsa:" + (kind[3:] or "2048")]
		else:
			new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-" + (kind[2:] or "256")]
		openssl("req", *new, "-nodes", "-subj", "/CN=" + hosts[0], "-keyout", key, "-out", request)
		with open(extensions, "w") as f:
			f.write("subjectAltName=%s\n" % ",".join("DNS:" + h for h in hosts))
		openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.path("ca.key"), "-days", str(days), "-sha256",
			"-extfile", extensions, "-out", cert)
		for path in (key, cert):
			os.chmod(path, 0o644)
		return cert, key

	def scalar(self, name):
		"""The 32 octets of a P-256 key that are the secret."""
		der = subprocess.run(["openssl", "ec", "-in", self.path(name + ".key"), "-outform", "DER"], check=True, capture_output=True).stdout
		return der[7:39]	# RFC 5915 3: SEQUENCE, version, OCTET STRING

	def sections(self, *names):
		return {"server.tls": {"cert_file": ", ".join(self.path(n + ".pem") for n in names),
			"key_file": ", ".join(self.path(n + ".key") for n in names)}}

	def context(self, ciphers=None, highest=ssl.TLSVersion.TLSv1_2, lowest=ssl.TLSVersion.TLSv1_2):
		context = ssl.create_default_context(cafile=self.ca)
		if ciphers:
			context.set_ciphers(ciphers)
		context.minimum_version = lowest
		context.maximum_version = highest
		return context


def fingerprint(cert):
	"""SHA-256 of a PEM certificate's first, in lower hex."""
	out = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-fingerprint", "-sha256"], check=True, capture_output=True)
	return out.stdout.decode().split("=", 1)[1].strip().replace(":", "").lower()


def make(place):
	return Authority(place.folder())
