# SPDX-License-Identifier: Apache-2.0
"""
PIN and built-in user verification as an authenticator does them (CTAP 2.2, section 6.5).
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Generator, Mapping
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from fido2.ctap import STATUS, CtapError
from fido2.ctap2.pin import ClientPin, PinProtocolV1, PinProtocolV2

from tests.authenticators.touch import Finger

RETRIES = 8
#: Wrong PINs in a row after which the key wants to be unplugged.
RETRIES_A_BOOT = 3
MIN_PIN_LETTERS = 4

_COMMANDS = ClientPin.CMD
_RESULTS = ClientPin.RESULT


class PinGuard:
    """
    The PIN of a key, its counters, and the token that stands for it.

    Attributes:
        pin: None until one is set.
        has_fingerprint: Whether the key can verify its user by itself.
    """

    def __init__(self, *, pin: str | None, has_fingerprint: bool, finger: Finger) -> None:
        self.pin = pin
        self.has_fingerprint = has_fingerprint
        self.retries = RETRIES
        self._wrong_this_boot = 0
        self._finger = finger
        self._agreement = ec.generate_private_key(ec.SECP256R1())
        self._token = os.urandom(32)
        self._permissions = 0
        self._rp_id: str | None = None
        self._protocols: dict[int, PinProtocolV1] = {1: PinProtocolV1(), 2: PinProtocolV2()}

    def restart(self) -> None:
        """Unplug the key and plug it in again."""
        self._wrong_this_boot = 0
        self._token = os.urandom(32)
        self._permissions = 0

    def process(self, request: Mapping[int, Any]) -> Generator[STATUS, None, dict[int, Any]]:
        """Do what an ``authenticatorClientPIN`` asks for."""
        command = request.get(2)
        if command == _COMMANDS.GET_PIN_RETRIES:
            return {_RESULTS.PIN_RETRIES: self.retries, _RESULTS.POWER_CYCLE_STATE: self._is_blocked_this_boot()}
        if command == _COMMANDS.GET_UV_RETRIES:
            return {_RESULTS.UV_RETRIES: 3}
        if command == _COMMANDS.GET_KEY_AGREEMENT:
            return {_RESULTS.KEY_AGREEMENT: self._public_agreement()}
        protocol = self._protocols.get(request.get(1, 0))
        if protocol is None:
            raise CtapError(CtapError.ERR.INVALID_PARAMETER)
        secret = self._shared_secret(protocol, request)
        if command == _COMMANDS.SET_PIN:
            self._set(protocol, secret, request)
            return {}
        if command == _COMMANDS.CHANGE_PIN:
            self._authenticate(protocol, secret, request[5] + request[6], request[4])
            self._verify(protocol.decrypt(secret, request[6]))
            self.pin = self._new_pin(protocol, secret, request)
            return {}
        if command in (_COMMANDS.GET_TOKEN_USING_PIN, _COMMANDS.GET_TOKEN_USING_PIN_LEGACY):
            self._verify(protocol.decrypt(secret, request[6]))
            # Without permissions there is the old token, for registering and for proving.
            self._grant(request.get(9, 3), request.get(10))
            return {_RESULTS.PIN_UV_TOKEN: protocol.encrypt(secret, self._token)}
        if command == _COMMANDS.GET_TOKEN_USING_UV and self.has_fingerprint:
            while not self._finger.is_there():
                yield STATUS.UPNEEDED
            self._grant(request.get(9, 3), request.get(10))
            return {_RESULTS.PIN_UV_TOKEN: protocol.encrypt(secret, self._token)}
        raise CtapError(CtapError.ERR.INVALID_SUBCOMMAND)

    def verify_token(
        self, protocol: int | None, parameter: bytes, message: bytes, *, permission: int, rp_id: str
    ) -> None:
        """Return if *parameter* shows that the user was verified for this, or raise ``CtapError``."""
        how = self._protocols.get(protocol or 0)
        if how is None:
            raise CtapError(CtapError.ERR.INVALID_PARAMETER)
        if not hmac.compare_digest(how.authenticate(self._token, message), parameter):
            raise CtapError(CtapError.ERR.PIN_AUTH_INVALID)
        if not self._permissions & permission or self._rp_id not in (None, rp_id):
            raise CtapError(CtapError.ERR.PIN_AUTH_INVALID)
        self._rp_id = rp_id

    def _grant(self, permissions: int, rp_id: str | None) -> None:
        self._token = os.urandom(32)
        self._permissions, self._rp_id = permissions, rp_id

    def _is_blocked_this_boot(self) -> bool:
        return self._wrong_this_boot >= RETRIES_A_BOOT

    def _verify(self, pin_hash: bytes) -> None:
        if self.pin is None:
            raise CtapError(CtapError.ERR.PIN_NOT_SET)
        if self.retries == 0:
            raise CtapError(CtapError.ERR.PIN_BLOCKED)
        if self._is_blocked_this_boot():
            raise CtapError(CtapError.ERR.PIN_AUTH_BLOCKED)
        if not hmac.compare_digest(sha256(self.pin.encode()).digest()[:16], pin_hash):
            self.retries -= 1
            self._wrong_this_boot += 1
            self._agreement = ec.generate_private_key(ec.SECP256R1())
            if self.retries == 0:
                raise CtapError(CtapError.ERR.PIN_BLOCKED)
            if self._is_blocked_this_boot():
                raise CtapError(CtapError.ERR.PIN_AUTH_BLOCKED)
            raise CtapError(CtapError.ERR.PIN_INVALID)
        self.retries, self._wrong_this_boot = RETRIES, 0

    def _set(self, protocol: PinProtocolV1, secret: bytes, request: Mapping[int, Any]) -> None:
        if self.pin is not None:
            raise CtapError(CtapError.ERR.PIN_AUTH_INVALID)
        self._authenticate(protocol, secret, request[5], request[4])
        self.pin = self._new_pin(protocol, secret, request)

    def _new_pin(self, protocol: PinProtocolV1, secret: bytes, request: Mapping[int, Any]) -> str:
        pin: str = protocol.decrypt(secret, request[5]).rstrip(b"\0").decode()
        if len(pin) < MIN_PIN_LETTERS:
            raise CtapError(CtapError.ERR.PIN_POLICY_VIOLATION)
        return pin

    def _authenticate(self, protocol: PinProtocolV1, secret: bytes, message: bytes, parameter: bytes) -> None:
        if not hmac.compare_digest(protocol.authenticate(secret, message), parameter):
            raise CtapError(CtapError.ERR.PIN_AUTH_INVALID)

    def _public_agreement(self) -> dict[int, Any]:
        numbers = self._agreement.public_key().public_numbers()
        return {1: 2, 3: -25, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}

    def _shared_secret(self, protocol: PinProtocolV1, request: Mapping[int, Any]) -> bytes:
        peer = request.get(3)
        if not isinstance(peer, Mapping):
            raise CtapError(CtapError.ERR.MISSING_PARAMETER)
        point = b"\x04" + peer[-2] + peer[-3]
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        secret: bytes = protocol.kdf(self._agreement.exchange(ec.ECDH(), public))
        return secret
