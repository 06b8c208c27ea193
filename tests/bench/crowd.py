# SPDX-License-Identifier: Apache-2.0
"""
Many people with a security key each, who step up at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor

from sidecar.app import open_mfa, open_passwords
from sidecar.client import SessionClient
from sidecar.mfa.encoding import encode_base64url
from sidecar.services.audit import NullAudit
from sidecar.services.callers import Caller
from sidecar.services.log import NullLog
from sidecar.services.mfa_journal import NullMfaMetrics
from sidecar.services.snapshots import read_snapshot
from sidecar.settings import load_settings
from sidecar.wire.sidecar.v1 import mfa_pb2 as pb
from sidecar.wire.sidecar.v1 import mfa_pb2_grpc as pb_grpc
from tests.bench.load import LoadError
from tests.e2e.people import ACCOUNT, ORIGIN, PASSWORD
from tests.e2e.sidecar_process import PATIENCE

_ADMINISTRATOR = Caller.administrator("bench")
_P256_SHA256 = ec.ECDSA(hashes.SHA256())
_USER_PRESENT, _ATTESTED = 0x01, 0x40


class Key:
    """
    A security key that is always touched, and does not count.

    Thread-safety: immutable.
    """

    def __init__(self) -> None:
        self._private = ec.generate_private_key(ec.SECP256R1())
        point = self._private.public_key().public_numbers()
        x, y = (number.to_bytes(32, "big") for number in (point.x, point.y))
        self._cose = cbor.encode({1: 2, 3: -7, -1: 1, -2: x, -3: y})
        self._id = hashlib.sha256(self._cose).digest()

    def register(self, options_json: str) -> str:
        """Return the answer to creation options."""
        options = json.loads(options_json)
        attested = bytes(16) + struct.pack(">H", len(self._id)) + self._id + self._cose
        data = _authenticator_data(options["rp"]["id"], _USER_PRESENT | _ATTESTED) + attested
        statement = cbor.encode({"fmt": "none", "attStmt": {}, "authData": data})
        return self._answer(_client_data("webauthn.create", options["challenge"]), attestationObject=statement)

    def touch(self, options_json: str) -> str:
        """Return the answer to request options."""
        options = json.loads(options_json)
        client = _client_data("webauthn.get", options["challenge"])
        data = _authenticator_data(options["rpId"], _USER_PRESENT)
        signature = self._private.sign(data + hashlib.sha256(client).digest(), _P256_SHA256)
        return self._answer(client, authenticatorData=data, signature=signature)

    def _answer(self, client: bytes, **members: bytes) -> str:
        id = encode_base64url(self._id)
        response = {name: encode_base64url(value) for name, value in {"clientDataJSON": client, **members}.items()}
        return json.dumps(
            {"id": id, "rawId": id, "type": "public-key", "response": response, "clientExtensionResults": {}}
        )


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a password and a key."""

    user_arn: str
    key: Key

    @property
    def name(self) -> str:
        """What they sign in with."""
        return self.user_arn.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Steps:
    """
    How a crowd stepped up.

    Attributes:
        seconds: From the first challenge to the last token.
        each_ms: What each person waited for their token.
    """

    seconds: float
    each_ms: tuple[float, ...]


def move_in(source: Path, state_dir: Path, count: int) -> list[Person]:
    """Give the first users of a source a password and a key each, before a sidecar runs on it."""
    settings = load_settings({"snapshot": str(source), "state_dir": str(state_dir)}, {})
    state_dir.mkdir(mode=0o700)
    image, _ = read_snapshot(settings.snapshot, now=int(time.time()))
    people = [Person(arn, Key()) for arn in user_arns(count)]
    account = image.find_account(ACCOUNT)
    services = open_mfa(settings, audit=NullAudit(), metrics=NullMfaMetrics(), log=NullLog())
    with open_passwords(settings, audit=NullAudit()) as passwords:
        for person in people:
            user = image.find_user(person.user_arn)
            if user is None or account is None:
                raise LoadError(f"{person.user_arn} is not in the source")
            passwords.set_password(_ADMINISTRATOR, user, account, PASSWORD)
            ceremony = services.ceremonies.begin(_ADMINISTRATOR, person.user_arn, "key")
            answer = person.key.register(ceremony.options_json)
            services.ceremonies.finish(_ADMINISTRATOR, ceremony.ceremony_id, answer)
    services.store.close()
    return people


def user_arns(count: int) -> list[str]:
    """Return the ARNs of as many users."""
    return [f"arn:aws:iam::{ACCOUNT}:user/person-{number}" for number in range(count)]


def sign_in(management: str, people: Sequence[Person]) -> list[str]:
    """Return a session token for each person, by their password."""
    with SessionClient(management, timeout=PATIENCE) as client:
        return [client.sign_in(ACCOUNT, person.name, PASSWORD).session_token for person in people]


def step_up_at_once(management: str, people: Sequence[Person], tokens: Sequence[str]) -> Steps:
    """
    Have everybody prove themselves at the same time, and return how that went.

    Raises:
        LoadError: Somebody got no token.
        grpc.RpcError: A call failed.
    """
    return asyncio.run(_step_up_at_once(management, people, tokens))


async def _step_up_at_once(management: str, people: Sequence[Person], tokens: Sequence[str]) -> Steps:
    began = time.perf_counter()
    each = await asyncio.gather(
        *(_step_up(management, person, token) for person, token in zip(people, tokens, strict=True))
    )
    return Steps(time.perf_counter() - began, tuple(each))


async def _step_up(management: str, person: Person, token: str) -> float:
    began = time.perf_counter()
    metadata = (("authorization", f"Bearer {token}"),)
    # Each sits at a terminal of their own, and so has a connection of their own.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(management, options=options) as channel:
        stub = pb_grpc.MfaServiceStub(channel)
        opened = await stub.BeginChallenge(pb.BeginChallengeRequest(), metadata=metadata, timeout=PATIENCE)
        answer = pb.AnswerChallengeRequest(
            challenge_id=opened.challenge_id, assertion_json=person.key.touch(opened.options_json)
        )
        proved = await stub.AnswerChallenge(answer, metadata=metadata, timeout=PATIENCE)
    if not proved.session_token:
        raise LoadError(f"{person.name} got no token")
    return 1000 * (time.perf_counter() - began)


def _authenticator_data(rp_id: str, flags: int) -> bytes:
    return hashlib.sha256(rp_id.encode()).digest() + struct.pack(">BI", flags, 0)


def _client_data(kind: str, challenge: str) -> bytes:
    return json.dumps({"type": kind, "challenge": challenge, "origin": ORIGIN, "crossOrigin": False}).encode()
