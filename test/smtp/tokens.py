"""Tokens and key sets made with openssl(1)."""

import base64
import json
import os
import subprocess
import time


def b64(octets):
	return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


class Issuer:
	"""One RSA key in a folder, its key set, and tokens signed with it (RS256)."""

	def __init__(self, folder, name="https://id.local.test"):
		self.name = name
		self.key = os.path.join(folder, "token.key")
		self.jwks = os.path.join(folder, "jwks.json")
		subprocess.run(["openssl", "genrsa", "-out", self.key, "2048"], check=True, capture_output=True)
		self.write_jwks("k1")

	def write_jwks(self, kid):
		out = subprocess.run(["openssl", "rsa", "-in", self.key, "-noout", "-modulus"], check=True, capture_output=True).stdout
		n = bytes.fromhex(out.decode().strip().split("=", 1)[1])
		keys = {"keys": [{"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": b64(n), "e": "AQAB"}]}
		with open(self.jwks + ".new", "w") as f:
			json.dump(keys, f)
		os.chmod(self.jwks + ".new", 0o644)
		os.rename(self.jwks + ".new", self.jwks)

	def token(self, kid="k1", header=None, **claims):
		now = int(time.time())
		all_claims = {"iss": self.name, "aud": "mail", "exp": now + 600, "iat": now, "sub": "subject-1", "email": "alice@local.test"}
		all_claims.update(claims)
		head = {"alg": "RS256", "typ": "JWT", "kid": kid}
		head.update(header or {})
		signed = b64(json.dumps(head).encode()) + "." + b64(json.dumps({k: v for k, v in all_claims.items() if v is not None}).encode())
		signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=signed.encode(), check=True,
			capture_output=True).stdout
		return signed + "." + b64(signature)
