# SPDX-License-Identifier: Apache-2.0
"""
A browser's part of the extensions ``appid`` and ``appidExclude`` (WebAuthn Level 3, 10.1.1 and 10.1.2), on a U2F key.

The library that plays the browser everywhere else has let go of both.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from fido2.ctap import CtapDevice
from fido2.ctap1 import APDU, ApduError, Ctap1

from sidecar.mfa.encoding import decode_base64url, encode_base64url
from tests.authenticators.u2f import app_id_hash


class ExcludedError(Exception):
    """The key holds a credential that is not to be registered again (``InvalidStateError`` in a browser)."""


class AppIdClient:
    """
    Asks one key, as a browser on one origin.

    Thread-safety: confined.
    """

    def __init__(self, device: CtapDevice, origin: str) -> None:
        self._ctap = Ctap1(device)
        self._origin = origin

    def get_assertion(self, options_json: str) -> str:
        """
        Give the answer to request options, under the AppID where the key knows the credential by that alone.

        Raises:
            KeyError: The key has none of the credentials.
        """
        options = json.loads(options_json)
        app_id = options.get("extensions", {}).get("appid")
        client_data = self._client_data("webauthn.get", options["challenge"])
        for name, is_app_id in ((options["rpId"], False), (app_id, True)):
            for descriptor in options["allowCredentials"] if name else ():
                handle = decode_base64url(descriptor["id"], field="id", max_bytes=1023)
                if self._knows(name, handle):
                    signed = self._touched(client_data, name, handle)
                    return _assertion(handle, name, client_data, signed, is_app_id if app_id else None)
        raise KeyError("no such credential")

    def make_credential(self, options_json: str) -> None:
        """
        Look at the credentials that creation options exclude, as a browser does before it registers.

        Raises:
            ExcludedError: The key has one of them.
        """
        options = json.loads(options_json)
        names = (options["rp"]["id"], options.get("extensions", {}).get("appidExclude"))
        for descriptor in options["excludeCredentials"]:
            handle = decode_base64url(descriptor["id"], field="id", max_bytes=1023)
            if any(self._knows(name, handle) for name in names if name):
                raise ExcludedError(descriptor["id"])

    def _touched(self, client_data: bytes, name: str, handle: bytes) -> bytes:
        """Ask for a signature until somebody has touched the key."""
        while True:
            try:
                return bytes(self._ctap.authenticate(sha256(client_data).digest(), app_id_hash(name), handle))
            except ApduError as error:
                if error.code != APDU.USE_NOT_SATISFIED:
                    raise

    def _knows(self, name: str, handle: bytes) -> bool:
        try:
            self._ctap.authenticate(bytes(32), app_id_hash(name), handle, check_only=True)
        except ApduError as error:
            return bool(error.code == APDU.USE_NOT_SATISFIED)
        return True

    def _client_data(self, kind: str, challenge: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": self._origin, "crossOrigin": False}).encode()


def _assertion(handle: bytes, name: str, client_data: bytes, signed: bytes, appid: bool | None) -> str:
    # SPEC: CTAP 2.2, section 7.3.3: a U2F key signs what becomes authenticator data in this order.
    authenticator_data = app_id_hash(name) + signed[:5]
    response: dict[str, Any] = {
        "id": encode_base64url(handle),
        "rawId": encode_base64url(handle),
        "type": "public-key",
        "response": {
            "clientDataJSON": encode_base64url(client_data),
            "authenticatorData": encode_base64url(authenticator_data),
            "signature": encode_base64url(signed[5:]),
        },
        "clientExtensionResults": {} if appid is None else {"appid": appid},
    }
    return json.dumps(response)
