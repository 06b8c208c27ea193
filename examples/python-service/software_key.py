# SPDX-License-Identifier: Apache-2.0
"""
A security key made of software, so that the example runs where nobody is there to touch one.

A real program leaves this to a browser, or to python-fido2 and a key that is plugged in.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import Aaguid, AttestationObject, AttestedCredentialData, AuthenticatorData, CollectedClientData

_FLAG = AuthenticatorData.FLAG


class SoftwareKey:
    """
    A key whose one credential is kept in a file.

    Thread-safety: belongs to one thread.
    """

    def __init__(self, file: Path, origin: str) -> None:
        """
        Args:
            file: Made when there is none.
            origin: What the sidecar takes for the page that the key is used from.
        """
        self._origin = origin
        if not file.exists():
            made = ec.generate_private_key(ec.SECP256R1())
            file.touch(mode=0o600)
            file.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        private = load_pem_private_key(file.read_bytes(), None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise SystemExit(f"{file} holds no key for ES256")
        self._private = private
        self._credential_id = sha256(file.read_bytes()).digest()

    def register(self, options_json: str) -> str:
        """Return the answer to creation options."""
        options = json.loads(options_json)
        client_data = self._client_data("webauthn.create", options)
        public = ES256.from_cryptography_key(self._private.public_key())  # type: ignore[no-untyped-call]
        credential = AttestedCredentialData.create(Aaguid(bytes(16)), self._credential_id, public)
        data = AuthenticatorData.create(
            sha256(options["rp"]["id"].encode()).digest(), _FLAG.UP | _FLAG.AT, 0, bytes(credential)
        )
        return self._answer(
            clientDataJSON=client_data, attestationObject=bytes(AttestationObject.create("none", data, {}))
        )

    def prove(self, options_json: str) -> str:
        """Return the answer to request options: somebody has touched the key."""
        options = json.loads(options_json)
        client_data = self._client_data("webauthn.get", options)
        data = AuthenticatorData.create(sha256(options["rpId"].encode()).digest(), _FLAG.UP, 0)
        signature = self._private.sign(bytes(data) + sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        return self._answer(clientDataJSON=client_data, authenticatorData=bytes(data), signature=signature)

    def _client_data(self, kind: str, options: dict[str, Any]) -> bytes:
        return bytes(CollectedClientData.create(kind, websafe_decode(options["challenge"]), self._origin))

    def _answer(self, **response: bytes) -> str:
        id = websafe_encode(self._credential_id)
        encoded = {name: websafe_encode(value) for name, value in response.items()}
        return json.dumps(
            {"id": id, "rawId": id, "type": "public-key", "clientExtensionResults": {}, "response": encoded}
        )
