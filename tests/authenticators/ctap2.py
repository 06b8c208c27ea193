# SPDX-License-Identifier: Apache-2.0
"""
A CTAP2 authenticator (CTAP 2.2, section 6): credentials on the key or in its ids, PIN, fingerprint, counters.
"""

from __future__ import annotations

import copy
import os
import struct
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from fido2 import cbor
from fido2.cose import CoseKey
from fido2.ctap import STATUS, CtapError
from fido2.ctap2.base import Ctap2
from fido2.hid import CAPABILITY, CTAPHID

from tests.authenticators.hid import Work
from tests.authenticators.issuer import Issuer
from tests.authenticators.pin import MIN_PIN_LETTERS, PinGuard
from tests.authenticators.touch import Finger

_ERR = CtapError.ERR
_UP, _UV, _BE, _BS, _AT = 0x01, 0x04, 0x08, 0x10, 0x40
_MAKE_CREDENTIAL, _GET_ASSERTION = 0x01, 0x02
DEFAULT_AAGUID = bytes.fromhex("50f7c0de50f7c0de50f7c0de50f7c0de")

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_Answer = Generator[STATUS, None, dict[int, Any]]


@dataclass(frozen=True)
class KeptCredential:
    """A credential that a key holds."""

    credential_id: bytes
    rp_id: str
    user: Mapping[str, Any]
    private_key: PrivateKey
    is_resident: bool

    def sign(self, data: bytes) -> bytes:
        """Sign as the credential's algorithm does."""
        if isinstance(self.private_key, ed25519.Ed25519PrivateKey):
            return self.private_key.sign(data)
        return self.private_key.sign(data, ec.ECDSA(hashes.SHA256()))


class Ctap2Key:
    """
    A CTAP2 security key.

    Thread-safety: confined to its connection, which is locked.

    Attributes:
        finger: Who touches it, and when.
        counter: Of the last signature; setting it back makes the key look like a copy.
        counts: Whether it counts at all.
        credentials: By credential id.
    """

    def __init__(
        self,
        *,
        pin: str | None = None,
        has_fingerprint: bool = False,
        attestation: str = "packed",
        issuer: Issuer | None = None,
        aaguid: bytes = DEFAULT_AAGUID,
        algorithms: tuple[int, ...] = (-7, -8),
        counts: bool = True,
        backup_eligible: bool = False,
        backed_up: bool = False,
        finger: Finger | None = None,
        name: str = "Soft Key",
    ) -> None:
        self.name = name
        self.capabilities = CAPABILITY.WINK | CAPABILITY.CBOR | CAPABILITY.NMSG
        self.finger = finger or Finger()
        self.guard = PinGuard(pin=pin, has_fingerprint=has_fingerprint, finger=self.finger)
        self.aaguid = aaguid
        self.counter = 0
        self.counts = counts
        self.credentials: dict[bytes, KeptCredential] = {}
        self._attestation = attestation
        self._algorithms = algorithms
        self._flags = (_BE if backup_eligible else 0) | (_BS if backed_up else 0)
        self._batch = (issuer or Issuer()).batch(aaguid=aaguid) if attestation == "packed" else None
        self._pending: list[tuple[KeptCredential, bytes, int]] = []

    def clone(self) -> Ctap2Key:
        """Give a copy of the key with all its secrets, as somebody could have made it just now."""
        other = copy.copy(self)
        other.credentials = dict(self.credentials)
        other.finger = Finger()
        other.guard = PinGuard(pin=self.guard.pin, has_fingerprint=self.guard.has_fingerprint, finger=other.finger)
        other._pending = []
        return other

    def process(self, command: CTAPHID, data: bytes) -> Work:
        """Do what a request over CTAPHID asks for."""
        try:
            answer = yield from self._process(data)
        except CtapError as error:
            return bytes([error.code])
        except (KeyError, TypeError, ValueError):
            return bytes([_ERR.INVALID_CBOR])
        return bytes([_ERR.SUCCESS]) + (cbor.encode(answer) if answer else b"")

    def cancel(self) -> bytes:
        """Give the answer to a request that was cancelled."""
        self.finger.give_up()
        return bytes([_ERR.KEEPALIVE_CANCEL])

    def _process(self, data: bytes) -> _Answer:
        command = data[0]
        decoded = cbor.decode(data[1:]) if len(data) > 1 else {}
        if not isinstance(decoded, Mapping):
            raise CtapError(_ERR.CBOR_UNEXPECTED_TYPE)
        request: Mapping[int, Any] = decoded
        if command == Ctap2.CMD.GET_INFO:
            return self._info()
        if command == Ctap2.CMD.MAKE_CREDENTIAL:
            return (yield from self._make_credential(request))
        if command == Ctap2.CMD.GET_ASSERTION:
            return (yield from self._get_assertion(request))
        if command == Ctap2.CMD.GET_NEXT_ASSERTION:
            return self._next_assertion()
        if command == Ctap2.CMD.CLIENT_PIN:
            return (yield from self.guard.process(request))
        if command == Ctap2.CMD.SELECTION:
            yield from self._wait_for_touch()
            return {}
        raise CtapError(_ERR.INVALID_COMMAND)

    def _info(self) -> dict[int, Any]:
        options = {
            "rk": True,
            "up": True,
            "plat": False,
            "clientPin": self.guard.pin is not None,
            "pinUvAuthToken": True,
            "makeCredUvNotRqd": True,
        }
        if self.guard.has_fingerprint:
            options["uv"] = True
        return {
            1: ["FIDO_2_0", "FIDO_2_1"],
            3: self.aaguid,
            4: options,
            5: 2048,
            6: [2, 1],
            7: 8,
            8: 64,
            9: ["usb"],
            10: [{"alg": algorithm, "type": "public-key"} for algorithm in self._algorithms],
            13: MIN_PIN_LETTERS,
        }

    def _wait_for_touch(self) -> Generator[STATUS, None, None]:
        while not self.finger.is_there():
            yield STATUS.UPNEEDED

    def _verify_user(self, request: Mapping[int, Any], at: int, message: bytes, permission: int, rp_id: str) -> int:
        """Return the flag that says whether the user was verified, or raise ``CtapError``."""
        if (parameter := request.get(at)) is None:
            return 0
        self.guard.verify_token(request.get(at + 1), parameter, message, permission=permission, rp_id=rp_id)
        return _UV

    def _make_credential(self, request: Mapping[int, Any]) -> _Answer:
        client_data_hash, rp_id, user = request[1], request[2]["id"], request[3]
        options = request.get(7, {})
        offered = [one["alg"] for one in request[4] if one["type"] == "public-key"]
        algorithm = next((one for one in offered if one in self._algorithms), None)
        if algorithm is None:
            raise CtapError(_ERR.UNSUPPORTED_ALGORITHM)
        verified = self._verify_user(request, 8, client_data_hash, _MAKE_CREDENTIAL, rp_id)
        is_resident = bool(options.get("rk"))
        if is_resident and not verified and (self.guard.pin is not None or self.guard.has_fingerprint):
            raise CtapError(_ERR.PUAT_REQUIRED)
        yield from self._wait_for_touch()
        if any(one["id"] in self.credentials for one in request.get(5, ())):
            raise CtapError(_ERR.CREDENTIAL_EXCLUDED)
        private_key: PrivateKey = (
            ed25519.Ed25519PrivateKey.generate() if algorithm == -8 else ec.generate_private_key(ec.SECP256R1())
        )
        kept = KeptCredential(os.urandom(32), rp_id, dict(user), private_key, is_resident)
        for other in [one for one in self.credentials.values() if is_resident and one.is_resident]:
            if (other.rp_id, other.user["id"]) == (rp_id, user["id"]):
                del self.credentials[other.credential_id]
        self.credentials[kept.credential_id] = kept
        cose = CoseKey.for_alg(algorithm).from_cryptography_key(private_key.public_key())
        attested = self.aaguid + struct.pack(">H", len(kept.credential_id)) + kept.credential_id + cbor.encode(cose)
        auth_data = self._auth_data(rp_id, _UP | verified | _AT, attested)
        return {1: self._format(), 2: auth_data, 3: self._statement(kept, algorithm, auth_data + client_data_hash)}

    def _format(self) -> str:
        return "none" if self._attestation == "none" else "packed"

    def _statement(self, kept: KeptCredential, algorithm: int, signed: bytes) -> dict[str, Any]:
        if self._attestation == "none":
            return {}
        if self._batch is None:
            return {"alg": algorithm, "sig": kept.sign(signed)}
        key, certificate = self._batch
        return {"alg": -7, "sig": key.sign(signed, ec.ECDSA(hashes.SHA256())), "x5c": [certificate]}

    def _auth_data(self, rp_id: str, flags: int, attested: bytes = b"") -> bytes:
        self.counter += self.counts
        return sha256(rp_id.encode()).digest() + struct.pack(">BI", flags | self._flags, self.counter) + attested

    def _get_assertion(self, request: Mapping[int, Any]) -> _Answer:
        rp_id, client_data_hash = request[1], request[2]
        verified = self._verify_user(request, 6, client_data_hash, _GET_ASSERTION, rp_id)
        allowed = [one["id"] for one in request.get(3, ())]
        found = [
            one
            for one in reversed(self.credentials.values())
            if one.rp_id == rp_id and (one.credential_id in allowed if allowed else one.is_resident)
        ]
        touched = request.get(5, {}).get("up", True)
        if touched:
            # A key that knows no credential still wants to be touched before it says so.
            yield from self._wait_for_touch()
        if not found:
            raise CtapError(_ERR.NO_CREDENTIALS)
        flags = verified | (_UP if touched else 0)
        shown = found[:1] if allowed else found
        self._pending = [(one, client_data_hash, flags) for one in shown[1:]]
        answer = self._assert(shown[0], client_data_hash, flags)
        return {**answer, 5: len(shown)} if len(shown) > 1 else answer

    def _next_assertion(self) -> dict[int, Any]:
        if not self._pending:
            raise CtapError(_ERR.NOT_ALLOWED)
        return self._assert(*self._pending.pop(0))

    def _assert(self, kept: KeptCredential, client_data_hash: bytes, flags: int) -> dict[int, Any]:
        auth_data = self._auth_data(kept.rp_id, flags)
        answer: dict[int, Any] = {
            1: {"id": kept.credential_id, "type": "public-key"},
            2: auth_data,
            3: kept.sign(auth_data + client_data_hash),
        }
        if kept.is_resident:
            # Who has the key and not the PIN learns no names.
            answer[4] = dict(kept.user) if flags & _UV else {"id": kept.user["id"]}
        return answer
