#!/usr/bin/env python3
"""mint.py > jwt_vectors.h: keys and tokens of an implementation that is not ours (python cryptography), each checked by it.

New keys each time; the times in the tokens are fixed. What test_jwt.c can sign by itself is not here.
"""
import base64
import hashlib
import json
import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

HASH = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
CLAIMS = {"iss": "https://idp.test", "sub": "alice-1", "aud": "mx.toy", "iat": 1700000000, "exp": 1700003600,
          "email": "Alice@Example.COM", "scope": "openid smtp.send"}


def b64(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(n, size=None):
    return b64(n.to_bytes(size or (n.bit_length() + 7) // 8, "big"))


def rsa_jwk(key, **more):
    n = key.public_key().public_numbers()
    return {"kty": "RSA", "n": number(n.n), "e": number(n.e), **more}


def ec_jwk(key, **more):
    n, size = key.public_key().public_numbers(), (key.curve.key_size + 7) // 8
    return {"kty": "EC", "crv": f"P-{key.curve.key_size}", "x": number(n.x, size), "y": number(n.y, size), **more}


def signing_input(alg, kid, claims=None):
    return ".".join(b64(json.dumps(x, separators=(",", ":")).encode()) for x in ({"alg": alg, "kid": kid}, claims or CLAIMS))


def sign(key, alg, data):
    h = HASH[alg[2:]]
    if alg[0] == "E":
        signature = key.sign(data, ec.ECDSA(h))
        key.public_key().verify(signature, data, ec.ECDSA(h))
        size = (key.curve.key_size + 7) // 8
        return b"".join(x.to_bytes(size, "big") for x in utils.decode_dss_signature(signature))
    pad = padding.PKCS1v15() if alg[0] == "R" else padding.PSS(padding.MGF1(h), h.digest_size)
    signature = key.sign(data, pad, h)
    key.public_key().verify(signature, data, pad, h)
    return signature


def token(key, alg, kid, signature=None, claims=None):
    data = signing_input(alg, kid, claims)
    return data + "." + b64(signature(data.encode()) if signature else sign(key, alg, data.encode()))


def raw(key, em):
    """Whatever is encoded, signed."""
    n = key.private_numbers()
    size = (key.key_size + 7) // 8
    return pow(int.from_bytes(em, "big"), n.d, n.public_numbers.n).to_bytes(size, "big")


DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def pkcs1(key, data, digest_info=DIGEST_INFO, garbage=b"", block=1, fill=0xff, room=0):
    tail = b"\0" + digest_info + hashlib.sha256(data).digest() + garbage
    size = key.key_size // 8
    return bytes([0, block]) + bytes([fill]) * (room or size - 2 - len(tail)) + tail


def cube_root_forgery(key, data):
    """Bleichenbacher 2006: with e = 3, eight octets of padding and garbage behind, nobody's key is needed."""
    size = key.key_size // 8
    head = pkcs1(key, data, room=8)
    target = int.from_bytes(head + b"\xff" * (size - len(head)), "big")
    low, high = 0, 1 << (key.key_size // 3 + 2)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle ** 3 <= target else (low, middle - 1)
    assert (low ** 3).to_bytes(size, "big").startswith(head)
    return low.to_bytes(size, "big")


def mgf1(seed, size):
    out = b""
    while len(out) < size:
        out += hashlib.sha256(seed + (len(out) // 32).to_bytes(4, "big")).digest()
    return out[:size]


def pss(key, data, bits=None, salt=os.urandom(32), trailer=0xbc, one=1, zero=0, top=0):
    bits = bits or key.key_size - 1
    size = (bits + 7) // 8
    h = hashlib.sha256(bytes(8) + hashlib.sha256(data).digest() + salt).digest()
    db = bytes([zero]) * (size - len(salt) - 34) + bytes([one]) + salt
    masked = bytearray(a ^ b for a, b in zip(db, mgf1(h, len(db))))
    masked[0] = masked[0] & 0xff >> 8 * size - bits | top
    return bytes(masked) + h + bytes([trailer])


def generate(bits, e=65537):
    return rsa.generate_private_key(public_exponent=e, key_size=bits)


def generate_2049():
    """Of the prime of one key and that of another: OpenSSL makes keys of even lengths only."""
    p, q = generate(2050).private_numbers().p, generate(2048).private_numbers().p
    d = pow(65537, -1, (p - 1) * (q - 1))
    return rsa.RSAPrivateNumbers(p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q),
                                 rsa.RSAPublicNumbers(65537, p * q)).private_key()


out = []


def define(name, text):
    text = text if isinstance(text, str) else json.dumps(text, separators=(",", ":"))
    lines = [text[i:i + 110] for i in range(0, len(text), 110)]
    quoted = ['\t"' + line.replace("\\", "\\\\").replace('"', '\\"') + '"' for line in lines]
    out.append(f"#define {name} \\\n" + " \\\n".join(quoted) + "\n")


RFC_PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
FRODO = ("SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBk"
         "b24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4")
BILBO = "bilbo.baggins@hobbiton.example"
RFC_KEYS = [
    {"kty": "RSA", "e": "AQAB", "n":
     "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOW"
     "vG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4"
     "LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"},
    {"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    {"kty": "EC", "crv": "P-521", "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
     "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"},
    {"kty": "RSA", "kid": BILBO, "use": "sig", "e": "AQAB", "n":
     "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbz"
     "cEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4"
     "fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"},
    {"kty": "EC", "kid": BILBO, "use": "sig", "crv": "P-521",
     "x": "AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt",
     "y": "AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1"},
]
RFC_TOKENS = [
    ("RFC7515_A2", 0, "RS256", "eyJhbGciOiJSUzI1NiJ9." + RFC_PAYLOAD +
     ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4"
     "BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ"
     "1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"),
    ("RFC7515_A3", 1, "ES256", "eyJhbGciOiJFUzI1NiJ9." + RFC_PAYLOAD +
     ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"),
    ("RFC7515_A4", 2, "ES512", "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-"
     "KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"),
    ("RFC7520_41", 3, "RS256", "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9." + FRODO +
     ".MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4J"
     "IwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluP"
     "xUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg"),
    ("RFC7520_42", 3, "PS384", "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9." + FRODO +
     ".cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXU"
     "vdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT"
     "0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw"),
    ("RFC7520_43", 4, "ES512", "eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9." + FRODO +
     ".AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kv"
     "AD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2"),
]


def check(jwk, alg, text):
    data, _, signature = text.rpartition(".")
    data, signature, h = data.encode(), unb64(signature), HASH[alg[2:]]
    value = lambda name: int.from_bytes(unb64(jwk[name]), "big")
    if jwk["kty"] == "EC":
        curve = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}[jwk["crv"]]
        half = len(signature) // 2
        r, s = (int.from_bytes(x, "big") for x in (signature[:half], signature[half:]))
        ec.EllipticCurvePublicNumbers(value("x"), value("y"), curve).public_key().verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(h))
    else:
        pad = padding.PKCS1v15() if alg[0] == "R" else padding.PSS(padding.MGF1(h), h.digest_size)
        rsa.RSAPublicNumbers(value("e"), value("n")).public_key().verify(signature, data, pad, h)


define("RFC_JWKS", {"keys": RFC_KEYS})
for name, key, alg, text in RFC_TOKENS:
    check(RFC_KEYS[key], alg, text)
    define(name, text)

rs, odd, cube, large = generate(2048), generate_2049(), generate(2048, 3), generate(4096)
assert odd.key_size == 2049
es = {"256": ec.generate_private_key(ec.SECP256R1()), "384": ec.generate_private_key(ec.SECP384R1()),
      "512": ec.generate_private_key(ec.SECP521R1())}
keys = [rsa_jwk(rs, kid="rsa"), rsa_jwk(odd, kid="odd"), rsa_jwk(cube, kid="cube"), rsa_jwk(large, kid="large", alg="RS512")]
keys += [ec_jwk(es[bits], kid="es" + bits, alg="ES" + bits, use="sig") for bits in es]
define("MINTED_JWKS", {"keys": keys})
for bits in HASH:
    define("MINTED_RS" + bits, token(rs, "RS" + bits, "rsa"))
    define("MINTED_PS" + bits, token(rs, "PS" + bits, "rsa"))
    define("MINTED_ODD_PS" + bits, token(odd, "PS" + bits, "odd"))
    define("MINTED_ES" + bits, token(es[bits], "ES" + bits, "es" + bits))
define("MINTED_ODD_RS256", token(odd, "RS256", "odd"))
define("MINTED_CUBE", token(cube, "RS256", "cube"))
define("MINTED_LARGE", token(large, "RS512", "large"))
define("MINTED_LARGE_RS256", token(large, "RS256", "large"))  # the key is for RS512 alone
define("MINTED_RAW_RS", token(rs, "RS256", "rsa", lambda d: raw(rs, pkcs1(rs, d))))
define("MINTED_RAW_PS", token(rs, "PS256", "rsa", lambda d: raw(rs, pss(rs, d))))
define("MINTED_RAW_ODD_PS", token(odd, "PS256", "odd", lambda d: raw(odd, pss(odd, d))))

bad = {
    "CUBE_FORGED": token(cube, "RS256", "cube", lambda d: cube_root_forgery(cube, d)),
    "RS_GARBAGE": token(rs, "RS256", "rsa", lambda d: raw(rs, pkcs1(rs, d, garbage=b"garbage"))),
    "RS_GARBAGE_SHORT_FILL": token(rs, "RS256", "rsa", lambda d: raw(rs, pkcs1(rs, d, garbage=bytes(194), room=8))),
    "RS_NO_DIGEST_INFO": token(rs, "RS256", "rsa", lambda d: raw(rs, pkcs1(rs, d, digest_info=b""))),
    "RS_SHA1_OID": token(rs, "RS256", "rsa", lambda d: raw(rs, pkcs1(rs, d, digest_info=bytes.fromhex("3021300906052b0e03021a05000414")))),
    "RS_BLOCK_2": token(rs, "RS256", "rsa", lambda d: raw(rs, pkcs1(rs, d, block=2))),
    "RS_FILL_0": token(rs, "RS256", "rsa", lambda d: raw(rs, pkcs1(rs, d, fill=0))),
    "RS_IS_PS": token(rs, "RS256", "rsa", lambda d: sign(rs, "PS256", d)),
    "PS_IS_RS": token(rs, "PS256", "rsa", lambda d: sign(rs, "RS256", d)),
    "PS_SALT_0": token(rs, "PS256", "rsa", lambda d: raw(rs, pss(rs, d, salt=b""))),
    "PS_SALT_20": token(rs, "PS256", "rsa", lambda d: raw(rs, pss(rs, d, salt=bytes(20)))),
    "PS_SALT_33": token(rs, "PS256", "rsa", lambda d: raw(rs, pss(rs, d, salt=bytes(33)))),
    "PS_TRAILER": token(rs, "PS256", "rsa", lambda d: raw(rs, pss(rs, d, trailer=0xcc))),
    "PS_ONE": token(rs, "PS256", "rsa", lambda d: raw(rs, pss(rs, d, one=2))),
    "PS_ZEROS": token(rs, "PS256", "rsa", lambda d: raw(rs, pss(rs, d, zero=1))),
    "PS_OTHER_DATA": token(rs, "PS256", "rsa", lambda d: raw(rs, pss(rs, d + b"x"))),
    "PS_MGF1_SHA1": token(rs, "PS256", "rsa", lambda d: rs.sign(d, padding.PSS(padding.MGF1(hashes.SHA1()), 32), hashes.SHA256())),
    "SIGNATURE_IS_N": signing_input("RS256", "rsa") + "." + number(rs.public_key().public_numbers().n),
    "SIGNATURE_IS_0": signing_input("RS256", "rsa") + "." + b64(bytes(256)),
    "SIGNATURE_IS_1": signing_input("RS256", "rsa") + "." + b64(bytes(255) + b"\1"),
    "PS_IS_0": signing_input("PS256", "rsa") + "." + b64(bytes(256)),
}


def below_modulus(key, kid, encode):
    """A token by an encoding that has a bit set which must not be: again until it is a number that can be signed."""
    data = signing_input("PS256", kid)
    while True:
        em = encode(data.encode())
        if int.from_bytes(em, "big") < key.public_key().public_numbers().n:
            return data + "." + b64(raw(key, em))


bad["PS_TOP_BIT"] = below_modulus(rs, "rsa", lambda d: pss(rs, d, salt=os.urandom(32), top=0x80))
bad["ODD_PS_FIRST_OCTET"] = below_modulus(odd, "odd", lambda d: b"\1" + pss(odd, d, salt=os.urandom(32)))
for name, text in bad.items():
    define("BAD_" + name, text)
define("MINTED_X256", ec_jwk(es["256"])["x"])
define("MINTED_X384", ec_jwk(es["384"])["x"])

print("/* Made by mint.py: keys and tokens for test_jwt.c and fuzz_jwt.c. RFC 7515 appendix A, RFC 7520 4.1 to 4.3, and new ones. */")
print("\n".join(out), end="")
print("\n#define BAD_TOKENS \\\n" + ", \\\n".join(f'\t{{ "{name}", BAD_{name} }}' for name in bad))
