# SPDX-License-Identifier: Apache-2.0
"""
Make what stands in for a certificate authority and an identity provider, to try the example out.

    python examples/envoy/keys.py FOLDER

`FOLDER` gets `ca.pem`, `server.pem` and `.key` for localhost, `client.pem` and `.key` with the SPIFFE ID
`spiffe://example.com/ns/shop/sa/billing`, `jwks.json`, and `token`, a JWT of carol, who is an operator.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

SPIFFE_ID = "spiffe://example.com/ns/shop/sa/billing"
ISSUER = "https://idp.example.com"
AUDIENCE = "shop"
_KEY_ID = "example"


class Authority:
    """
    Signs certificates.

    Thread-safety: immutable.
    """

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("example authority")
        self.certificate = self._sign(self._key, self._name, [x509.BasicConstraints(ca=True, path_length=None)])

    def issue(self, folder: Path, name: str, *names: x509.GeneralName) -> None:
        """Write `NAME.pem` and `NAME.key`, a certificate for *names* and its private key."""
        key = ec.generate_private_key(ec.SECP256R1())
        extensions: list[x509.ExtensionType] = [x509.BasicConstraints(ca=False, path_length=None)]
        if names:
            extensions.append(x509.SubjectAlternativeName(names))
        certificate = self._sign(key, _name(name), extensions)
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.key").touch(0o600)
        (folder / f"{name}.key").write_bytes(private)

    def _sign(
        self, key: ec.EllipticCurvePrivateKey, subject: x509.Name, extensions: list[x509.ExtensionType]
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=7))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())


class IdentityProvider:
    """
    Signs tokens.

    Thread-safety: immutable.
    """

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def jwks(self) -> str:
        """The public key, as Envoy reads it."""
        numbers = self._key.public_key().public_numbers()
        point = {"x": _base64(numbers.x.to_bytes(32, "big")), "y": _base64(numbers.y.to_bytes(32, "big"))}
        return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": _KEY_ID, **point}]})

    def token(self, **claims: Any) -> str:
        """Return a JWT with *claims*, which holds for an hour unless they say otherwise."""
        head = {"alg": "ES256", "kid": _KEY_ID, "typ": "JWT"}
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 3600, **claims}
        signed = f"{_base64(json.dumps(head).encode())}.{_base64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def make_keys(folder: Path) -> IdentityProvider:
    """Write all of it into *folder*, and return the identity provider."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority()
    (folder / "ca.pem").write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    authority.issue(folder, "server", x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    authority.issue(folder, "client", x509.UniformResourceIdentifier(SPIFFE_ID))
    provider = IdentityProvider()
    (folder / "jwks.json").write_text(provider.jwks)
    (folder / "token").write_text(provider.token(sub="carol", groups=["operators"]) + "\n")
    return provider


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    make_keys(Path(sys.argv[1]))
