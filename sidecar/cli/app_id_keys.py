# SPDX-License-Identifier: Apache-2.0
"""
Credentials that a key made through the U2F API, under an AppID, which python-fido2's client does not look for.
"""

from __future__ import annotations

import json
import threading
from hashlib import sha256
from typing import Protocol

from fido2.ctap import CtapDevice, CtapError
from fido2.ctap1 import APDU, ApduError, Ctap1
from fido2.hid import CAPABILITY
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import CollectedClientData

#: SPEC: FIDO U2F Raw Message Formats 1.2, section 5: the length of a key handle is one byte.
_MAX_KEY_HANDLE = 255
#: Seconds between two looks at whether somebody has touched the key.
_POLL = 0.1


class Work(Protocol):
    """A request to a key, which may be given up."""

    cancel: threading.Event

    def prompt_up(self) -> None:
        """Ask for a touch."""
        ...


def find_credential(device: CtapDevice, options_json: str, extension: str, listed: str) -> bytes | None:
    """
    Return the first of some credentials that the key made under the AppID of the options; nobody has to touch it.

    Args:
        extension: Member of ``extensions`` that names the AppID.
        listed: Member of the options that lists the credentials.
    """
    # SPEC: WebAuthn Level 3, sections 10.1.1 and 10.1.2.
    options = json.loads(options_json)
    app_id = options.get("extensions", {}).get(extension)
    for descriptor in options.get(listed, ()) if app_id else ():
        handle = websafe_decode(descriptor["id"])
        if _knows(device, app_id, handle):
            return handle
    return None


def sign(device: CtapDevice, options_json: str, key_handle: bytes, *, origin: str, work: Work) -> str:
    """
    Have the key sign request options under their AppID, and return its answer as WebAuthn JSON.

    Raises:
        CtapError: It was given up.
        ApduError: The key refused.
    """
    options = json.loads(options_json)
    app_id_hash = sha256(options["extensions"]["appid"].encode()).digest()
    client_data = bytes(CollectedClientData.create("webauthn.get", websafe_decode(options["challenge"]), origin))
    work.prompt_up()
    while True:
        try:
            signed = Ctap1(device).authenticate(sha256(client_data).digest(), app_id_hash, key_handle)
            break
        except ApduError as error:
            # SPEC: FIDO U2F Raw Message Formats 1.2, section 5.1: nobody has touched it yet.
            if error.code != APDU.USE_NOT_SATISFIED:
                raise
        if work.cancel.wait(_POLL):
            raise CtapError(CtapError.ERR.KEEPALIVE_CANCEL)
    # SPEC: CTAP 2.2, section 7.3.3: what a U2F key signs becomes authenticator data in this order.
    id = websafe_encode(key_handle)
    return json.dumps(
        {
            "id": id,
            "rawId": id,
            "type": "public-key",
            "response": {
                "clientDataJSON": websafe_encode(client_data),
                "authenticatorData": websafe_encode(app_id_hash + bytes(signed[:5])),
                "signature": websafe_encode(bytes(signed[5:])),
            },
            "clientExtensionResults": {"appid": True},
        }
    )


def _knows(device: CtapDevice, app_id: str, key_handle: bytes) -> bool:
    """Ask a key whether it made a credential through the U2F API, for an AppID; nobody has to touch it."""
    if device.capabilities & CAPABILITY.NMSG or len(key_handle) > _MAX_KEY_HANDLE:
        return False
    try:
        Ctap1(device).authenticate(bytes(32), sha256(app_id.encode()).digest(), key_handle, check_only=True)
    except ApduError as error:
        # SPEC: FIDO U2F Raw Message Formats 1.2, section 5.1: what would be signed if somebody touched it.
        return bool(error.code == APDU.USE_NOT_SATISFIED)
    return True
