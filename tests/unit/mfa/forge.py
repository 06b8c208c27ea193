# SPDX-License-Identifier: Apache-2.0
"""
Registrations and assertions of which every part can be set before they are signed, so that only the one thing is wrong.
"""

from __future__ import annotations

import functools
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from fido2 import cbor

from sidecar.mfa.credential import Assertion, Credential
from sidecar.mfa.encoding import encode_base64url
from sidecar.mfa.webauthn import verify_assertion, verify_registration

ORIGIN = "https://sidecar.example"
RP_ID = "sidecar.example"
CHALLENGE = bytes(range(32))
CREDENTIAL_ID = bytes(range(100, 132))
AAGUID = bytes.fromhex("00112233445566778899aabbccddeeff")
HANDLE = b"user-1"
NOW = 1_767_225_600.0
UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80

Json = dict[str, Any]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

_CURVES: dict[int, tuple[int, ec.EllipticCurve, int, hashes.HashAlgorithm]] = {
    -7: (1, ec.SECP256R1(), 32, hashes.SHA256()),
    -35: (2, ec.SECP384R1(), 48, hashes.SHA384()),
    -36: (3, ec.SECP521R1(), 66, hashes.SHA512()),
}
_HASHES: dict[int, hashes.HashAlgorithm] = {
    **dict.fromkeys((-257, -37), hashes.SHA256()),
    **dict.fromkeys((-258, -38), hashes.SHA384()),
    **dict.fromkeys((-259, -39), hashes.SHA512()),
    -65535: hashes.SHA1(),
}


@functools.cache
def private_key(algorithm: int) -> PrivateKey:
    """Give the one key of an algorithm that tests sign with."""
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm][1])
    if algorithm == -8:
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm == -53:
        return ed448.Ed448PrivateKey.generate()
    return rsa_key()


@functools.cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Give an RSA key; making one takes long."""
    return rsa.generate_private_key(65537, bits)


def cose_key(algorithm: int, key: PrivateKey) -> dict[int, Any]:
    """Give the COSE_Key of a private key."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        crv, _, width, _ = _CURVES[algorithm]
        numbers = key.public_key().public_numbers()
        return {
            1: 2,
            3: algorithm,
            -1: crv,
            -2: numbers.x.to_bytes(width, "big"),
            -3: numbers.y.to_bytes(width, "big"),
        }
    if isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_numbers()
        modulus = public.n.to_bytes((public.n.bit_length() + 7) // 8, "big")
        return {1: 3, 3: algorithm, -1: modulus, -2: public.e.to_bytes(3, "big")}
    crv = 6 if isinstance(key, ed25519.Ed25519PrivateKey) else 7
    return {1: 1, 3: algorithm, -1: crv, -2: key.public_key().public_bytes_raw()}


def sign(algorithm: int, key: PrivateKey, data: bytes) -> bytes:
    """Sign as a COSE algorithm does."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(_CURVES[algorithm][3]))
    if isinstance(key, rsa.RSAPrivateKey):
        digest = _HASHES[algorithm]
        how: padding.AsymmetricPadding = padding.PKCS1v15()
        if algorithm in (-37, -38, -39):
            how = padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.DIGEST_LENGTH)
        return key.sign(data, how, digest)
    return key.sign(data)


def client_data(kind: str) -> Json:
    """Give client data as a browser writes it."""
    return {"type": kind, "challenge": encode_base64url(CHALLENGE), "origin": ORIGIN, "crossOrigin": False}


#: Makes an attestation statement for a forged registration, of its authenticator data and the client data's hash.
Statement = Callable[["RegistrationForge", bytes, bytes], Any]


def self_attested(forge: RegistrationForge, auth_data: bytes, client_hash: bytes) -> Json:
    """Give a statement of format ``packed``, signed with the credential's own key."""
    return {"alg": forge.algorithm, "sig": sign(forge.algorithm, forge.key, auth_data + client_hash)}


@dataclass
class RegistrationForge:
    """
    A registration in the making.

    Attributes:
        client_text: Client data to be sent as it is, in place of ``client``.
        cose: Parameters of the public key, or its bytes as they are sent.
        extensions: Bytes of the extension outputs; the flag is set apart.
        edit_object: Changes the attestation object before it is encoded.
        object_bytes: Attestation object to be sent as it is.
        edit: Changes the JSON that is sent, after everything was signed.
        expected: Further arguments of ``verify_registration``.
    """

    algorithm: int = -7
    client: Json = field(default_factory=lambda: client_data("webauthn.create"))
    client_text: bytes | None = None
    rp_id: str = RP_ID
    flags: int = UP | AT
    sign_count: int = 1
    aaguid: bytes = AAGUID
    credential_id: bytes = CREDENTIAL_ID
    cose: Any = None
    extensions: bytes = b""
    tail: bytes = b""
    auth_data: bytes | None = None
    fmt: Any = "packed"
    statement: Statement = self_attested
    edit_object: Callable[[Json], None] = lambda found: None
    object_bytes: bytes | None = None
    edit: Callable[[Json], Any] = lambda found: None
    expected: Json = field(default_factory=dict)

    @property
    def key(self) -> PrivateKey:
        """The credential's private key."""
        return private_key(self.algorithm)

    @property
    def cose_bytes(self) -> bytes:
        """The public key as it is sent."""
        if isinstance(self.cose, bytes):
            return self.cose
        return cbor.encode(cose_key(self.algorithm, self.key) if self.cose is None else self.cose)

    def build_auth_data(self) -> bytes:
        """Give the authenticator data."""
        if self.auth_data is not None:
            return self.auth_data
        head = hashlib.sha256(self.rp_id.encode()).digest() + struct.pack(">BI", self.flags, self.sign_count)
        attested = b""
        if self.flags & AT:
            attested = self.aaguid + struct.pack(">H", len(self.credential_id)) + self.credential_id + self.cose_bytes
        return head + attested + self.extensions + self.tail

    def build(self) -> Json:
        """Give the JSON that a client sends."""
        client = json.dumps(self.client).encode() if self.client_text is None else self.client_text
        auth_data = self.build_auth_data()
        statement = self.statement(self, auth_data, hashlib.sha256(client).digest())
        found: Json = {"fmt": self.fmt, "attStmt": statement, "authData": auth_data}
        self.edit_object(found)
        encoded = cbor.encode(found) if self.object_bytes is None else self.object_bytes
        text = encode_base64url(self.credential_id)
        response: Json = {
            "id": text,
            "rawId": text,
            "type": "public-key",
            "response": {
                "clientDataJSON": encode_base64url(client),
                "attestationObject": encode_base64url(encoded),
                "transports": ["usb", "nfc"],
            },
            "clientExtensionResults": {},
        }
        self.edit(response)
        return response

    def verify(self, **others: Any) -> Credential:
        """Verify it, as a caller would."""
        arguments: Json = {
            "response": self.build(),
            "expected_challenge": CHALLENGE,
            "expected_origins": {ORIGIN},
            "expected_rp_id": RP_ID,
            "now": NOW,
        }
        return verify_registration(**{**arguments, **self.expected, **others})


@dataclass
class AssertionForge:
    """
    An assertion in the making, with the credential that ``RegistrationForge`` registers.

    Attributes:
        signature: To be sent as it is.
        signed_client: Client data that is signed, in place of what is sent.
        stored: Changes of the credential record that it is verified against.
        expected: Further arguments of ``verify_assertion``.
    """

    algorithm: int = -7
    client: Json = field(default_factory=lambda: client_data("webauthn.get"))
    client_text: bytes | None = None
    rp_id: str = RP_ID
    flags: int = UP
    sign_count: int = 2
    extensions: bytes = b""
    tail: bytes = b""
    auth_data: bytes | None = None
    signature: bytes | None = None
    signed_client: bytes | None = None
    edit: Callable[[Json], Any] = lambda found: None
    stored: Json = field(default_factory=dict)
    expected: Json = field(default_factory=dict)

    @property
    def credential(self) -> Credential:
        """The record that it is verified against."""
        record: Json = {
            "credential_id": CREDENTIAL_ID,
            "public_key": cbor.encode(cose_key(self.algorithm, private_key(self.algorithm))),
            "sign_count": 1,
            "user_handle": HANDLE,
        }
        return Credential(**{**record, **self.stored})

    def build(self) -> Json:
        """Give the JSON that a client sends."""
        client = json.dumps(self.client).encode() if self.client_text is None else self.client_text
        head = hashlib.sha256(self.rp_id.encode()).digest() + struct.pack(">BI", self.flags, self.sign_count)
        auth_data = head + self.extensions + self.tail if self.auth_data is None else self.auth_data
        signed = auth_data + hashlib.sha256(self.signed_client or client).digest()
        signature = sign(self.algorithm, private_key(self.algorithm), signed)
        text = encode_base64url(CREDENTIAL_ID)
        response: Json = {
            "id": text,
            "rawId": text,
            "type": "public-key",
            "response": {
                "clientDataJSON": encode_base64url(client),
                "authenticatorData": encode_base64url(auth_data),
                "signature": encode_base64url(signature if self.signature is None else self.signature),
                "userHandle": encode_base64url(HANDLE),
            },
            "clientExtensionResults": {},
        }
        self.edit(response)
        return response

    def verify(self, **others: Any) -> Assertion:
        """Verify it, as a caller would."""
        arguments: Json = {
            "response": self.build(),
            "credential": self.credential,
            "expected_challenge": CHALLENGE,
            "expected_origins": {ORIGIN},
            "expected_rp_id": RP_ID,
        }
        return verify_assertion(**{**arguments, **self.expected, **others})
