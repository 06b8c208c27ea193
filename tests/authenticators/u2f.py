# SPDX-License-Identifier: Apache-2.0
"""
A U2F authenticator (FIDO U2F Raw Message Formats 1.2).
"""

from __future__ import annotations

import copy
import os
import struct
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fido2.hid import CAPABILITY, CTAPHID

from tests.authenticators.hid import Work
from tests.authenticators.issuer import Issuer
from tests.authenticators.touch import Finger

_OK, _NOT_SATISFIED, _WRONG_DATA, _WRONG_LENGTH, _NOT_SUPPORTED = 0x9000, 0x6985, 0x6A80, 0x6700, 0x6D00
_REGISTER, _AUTHENTICATE, _VERSION = 0x01, 0x02, 0x03
_CHECK_ONLY, _ENFORCE = 0x07, 0x03
_P256_SHA256 = ec.ECDSA(hashes.SHA256())


class _ApduError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(hex(status))
        self.status = status


class U2fKey:
    """
    A U2F security key. It keeps nobody waiting: it refuses until it is touched, and the client asks again.

    Thread-safety: confined to its connection, which is locked.

    Attributes:
        finger: Who touches it, and when.
        counter: Of the last signature; setting it back makes the key look like a copy.
        credentials: Application parameter and private key, by key handle.
    """

    def __init__(
        self, *, issuer: Issuer | None = None, finger: Finger | None = None, name: str = "Soft U2F Key"
    ) -> None:
        self.name = name
        self.capabilities = CAPABILITY.WINK
        self.finger = finger or Finger()
        self.counter = 0
        self.credentials: dict[bytes, tuple[bytes, ec.EllipticCurvePrivateKey]] = {}
        self._batch = (issuer or Issuer()).batch()

    def clone(self) -> U2fKey:
        """Give a copy of the key with all its secrets, as somebody could have made it just now."""
        other = copy.copy(self)
        other.credentials = dict(self.credentials)
        other.finger = Finger()
        return other

    def process(self, command: CTAPHID, data: bytes) -> Work:
        """Do what a request over CTAPHID asks for."""
        yield from ()
        try:
            return self._process(data) + struct.pack(">H", _OK)
        except _ApduError as error:
            return struct.pack(">H", error.status)

    def cancel(self) -> bytes:
        """Give nothing: there is never anything to cancel."""
        return b""

    def register(self, application: bytes, challenge: bytes) -> bytes:
        """
        Give a registration as the U2F API gave it, touched.

        Args:
            application: SHA-256 of the AppID.
            challenge: SHA-256 of the client data.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        handle = os.urandom(64)
        self.credentials[handle] = (application, key)
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        batch, certificate = self._batch
        signature = batch.sign(b"\0" + application + challenge + handle + point, _P256_SHA256)
        return b"\x05" + point + bytes([len(handle)]) + handle + certificate + signature

    def authenticate(self, application: bytes, challenge: bytes, handle: bytes) -> bytes:
        """
        Give presence, counter and signature, touched.

        Raises:
            KeyError: The handle is none of this key.
        """
        owner, key = self.credentials[handle]
        if owner != application:
            raise KeyError(handle)
        self.counter += 1
        head = b"\x01" + struct.pack(">I", self.counter)
        return head + key.sign(application + head + challenge, _P256_SHA256)

    def _process(self, apdu: bytes) -> bytes:
        if len(apdu) < 4 or apdu[0] != 0:
            raise _ApduError(_NOT_SUPPORTED)
        instruction, mode, body = apdu[1], apdu[2], _body(apdu[4:])
        if instruction == _VERSION:
            return b"U2F_V2"
        if instruction == _REGISTER:
            if len(body) != 64:
                raise _ApduError(_WRONG_LENGTH)
            self._refuse_untouched()
            return self.register(body[32:], body[:32])
        if instruction == _AUTHENTICATE:
            return self._authenticate(mode, body)
        raise _ApduError(_NOT_SUPPORTED)

    def _authenticate(self, mode: int, body: bytes) -> bytes:
        if len(body) < 65 or len(body) != 65 + body[64]:
            raise _ApduError(_WRONG_LENGTH)
        challenge, application, handle = body[:32], body[32:64], body[65:]
        if self.credentials.get(handle, (b"",))[0] != application:
            raise _ApduError(_WRONG_DATA)
        if mode == _CHECK_ONLY:
            raise _ApduError(_NOT_SATISFIED)
        if mode != _ENFORCE:
            raise _ApduError(_WRONG_DATA)
        self._refuse_untouched()
        return self.authenticate(application, challenge, handle)

    def _refuse_untouched(self) -> None:
        if not self.finger.is_there():
            raise _ApduError(_NOT_SATISFIED)


def app_id_hash(app_id: str) -> bytes:
    """Give the application parameter of an AppID."""
    return sha256(app_id.encode()).digest()


def _body(rest: bytes) -> bytes:
    """Give the data of an APDU, in its short or its extended form."""
    if len(rest) <= 1:
        return b""
    if rest[0]:
        return rest[1 : 1 + rest[0]]
    if len(rest) == 3:
        return b""
    length = int.from_bytes(rest[1:3], "big")
    return rest[3 : 3 + length]
