# SPDX-License-Identifier: Apache-2.0
"""
A second factor in figures: verifying an assertion, a registration, a TOTP code, a recovery code.

Run it with ``scripts/bench mfa``. Every credential and every assertion is another one, so that nothing kept from one to
the next could help. The server of python-fido2 verifies the same assertions in the same run, with fewer checks. No
figure of time fails anything: only wrong answers do.
"""

from __future__ import annotations

import argparse
import base64
import gc
import hashlib
import importlib.metadata
import json
import statistics
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from fido2.server import Fido2Server
from fido2.webauthn import AttestedCredentialData, PublicKeyCredentialRpEntity

from sidecar.mfa.credential import Assertion, Credential
from sidecar.mfa.encoding import encode_base64url
from sidecar.mfa.recovery import format_recovery_code, hash_recovery_code, verify_recovery_code
from sidecar.mfa.totp import generate_code, time_step, verify_code
from sidecar.mfa.webauthn import verify_assertion, verify_registration
from tests.bench import store_pairs
from tests.bench.machine import is_quiet, machine, one_processor

Json = dict[str, Any]

RP_ID = "sidecar.example"
ORIGIN = "https://sidecar.example"
CREDENTIALS = 500
PASSES = 5
RECOVERY_CHECKS = 10
GOAL_ASSERTION_US = 200
_P256_SHA256 = ec.ECDSA(hashes.SHA256())
_NOW = 1_767_225_600.0
_AAGUID = bytes(16)


class WrongAnswerError(Exception):
    """What was measured did not do what it has to."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A credential, the registration that gave it, and one assertion, as a client sends them."""

    challenge: bytes
    registration: str
    assertion: str
    credential: Credential
    reference: AttestedCredentialData


def enrol(number: int) -> Enrolled:
    """Make the credential of that number; its key is drawn anew each time."""
    key = ec.generate_private_key(ec.SECP256R1())
    challenge = hashlib.sha256(f"challenge {number}".encode()).digest()
    identifier = hashlib.sha256(f"credential {number}".encode()).digest()
    point = key.public_key().public_numbers()
    cose = cbor.encode({1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")})
    attested = _AAGUID + struct.pack(">H", len(identifier)) + identifier + cose
    new_data = _authenticator_data(0x41, 1) + attested
    client = _client_data("webauthn.create", challenge)
    statement = {"alg": -7, "sig": key.sign(new_data + hashlib.sha256(client).digest(), _P256_SHA256)}
    attestation = cbor.encode({"fmt": "packed", "attStmt": statement, "authData": new_data})
    registration = _response(identifier, client, {"attestationObject": attestation})
    data = _authenticator_data(0x01, 2)
    client = _client_data("webauthn.get", challenge)
    signature = key.sign(data + hashlib.sha256(client).digest(), _P256_SHA256)
    return Enrolled(
        challenge=challenge,
        registration=registration,
        assertion=_response(identifier, client, {"authenticatorData": data, "signature": signature}),
        credential=Credential(credential_id=identifier, public_key=cose, sign_count=1),
        reference=AttestedCredentialData(attested),
    )


def _authenticator_data(flags: int, counter: int) -> bytes:
    return hashlib.sha256(RP_ID.encode()).digest() + struct.pack(">BI", flags, counter)


def _client_data(kind: str, challenge: bytes) -> bytes:
    text = encode_base64url(challenge)
    return json.dumps({"type": kind, "challenge": text, "origin": ORIGIN, "crossOrigin": False}).encode()


def _response(identifier: bytes, client: bytes, members: dict[str, bytes]) -> str:
    text = encode_base64url(identifier)
    inner = {name: encode_base64url(value) for name, value in {"clientDataJSON": client, **members}.items()}
    return json.dumps(
        {"id": text, "rawId": text, "type": "public-key", "response": inner, "clientExtensionResults": {}}
    )


def timed(work: Sequence[Callable[[], object]], *, passes: int) -> list[float]:
    """Return how long each piece took, in microseconds, in the best pass by its median; the first is not counted."""
    best: list[float] = []
    for number in range(passes + 1):
        took = []
        gc.collect()
        gc.disable()
        try:
            for piece in work:
                began = time.perf_counter_ns()
                piece()
                took.append((time.perf_counter_ns() - began) / 1000)
        finally:
            gc.enable()
        if number and (not best or statistics.median(took) < statistics.median(best)):
            best = took
    return best


def _percentiles(name: str, values: Sequence[float]) -> Json:
    ordered = sorted(values)
    return {
        f"{name}_us_p50": round(ordered[len(ordered) // 2], 1),
        f"{name}_us_p99": round(ordered[int(0.99 * len(ordered))], 1),
    }


def _assertion(one: Enrolled) -> Callable[[], Assertion]:
    return lambda: verify_assertion(
        response=one.assertion,
        credential=one.credential,
        expected_challenge=one.challenge,
        expected_origins={ORIGIN},
        expected_rp_id=RP_ID,
    )


def _registration(one: Enrolled) -> Callable[[], Credential]:
    return lambda: verify_registration(
        response=one.registration,
        expected_challenge=one.challenge,
        expected_origins={ORIGIN},
        expected_rp_id=RP_ID,
    )


def _reference(one: Enrolled, server: Fido2Server) -> Callable[[], object]:
    state = {"challenge": encode_base64url(one.challenge), "user_verification": None}
    return lambda: server.authenticate_complete(state, [one.reference], json.loads(one.assertion))


def _signature(one: Enrolled) -> Callable[[], object]:
    found = json.loads(one.assertion)["response"]
    client, data, signature = (_decoded(found[name]) for name in ("clientDataJSON", "authenticatorData", "signature"))
    signed = data + hashlib.sha256(client).digest()
    point = b"\x04" + one.credential.public_key[10:42] + one.credential.public_key[45:]
    curve = ec.SECP256R1()
    return lambda: ec.EllipticCurvePublicKey.from_encoded_point(curve, point).verify(signature, signed, _P256_SHA256)


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _code(number: int) -> Callable[[], object]:
    secret = hashlib.sha256(f"secret {number}".encode()).digest()[:20]
    code = generate_code(secret, time_step(_NOW))
    return lambda: verify_code(secret=secret, code=code, now=_NOW, last_used_step=None, drift_steps=number % 7 - 3)


def _recovery(number: int) -> Callable[[], object]:
    codes = [format_recovery_code(hashlib.sha256(f"{number} {place}".encode()).digest()[:10]) for place in range(2)]
    salt = hashlib.sha256(f"salt {number}".encode()).digest()[:16]
    hashed = [hash_recovery_code(code, salt=salt) for code in codes]
    return lambda: verify_recovery_code(code=codes[1], salt=salt, hashes=hashed)


def measure(*, credentials: int = CREDENTIALS, passes: int = PASSES, pairs: int = store_pairs.PAIRS) -> Json:
    """Return every figure, by the keys of ``scripts/bench mfa --json``."""
    enrolled = [enrol(number) for number in range(credentials)]
    server = Fido2Server(PublicKeyCredentialRpEntity(id=RP_ID, name="bench"), verify_origin={ORIGIN}.__contains__)
    for one in enrolled:
        if _assertion(one)().sign_count != 2 or _registration(one)().public_key != one.credential.public_key:
            raise WrongAnswerError("a ceremony gave something else")
    with one_processor():
        figures: Json = {
            **_percentiles("assertion", timed([_assertion(one) for one in enrolled], passes=passes)),
            **_percentiles("signature", timed([_signature(one) for one in enrolled], passes=passes)),
            **_percentiles("fido2_server", timed([_reference(one, server) for one in enrolled], passes=passes)),
            **_percentiles("registration", timed([_registration(one) for one in enrolled], passes=passes)),
            **_percentiles("totp", timed([_code(number) for number in range(credentials)], passes=passes)),
            **_percentiles("recovery", timed([_recovery(number) for number in range(RECOVERY_CHECKS)], passes=1)),
        }
    for name, values in store_pairs.measure(pairs).items():
        figures |= _percentiles(name, values)
    figures["assertion_fido2_ratio"] = round(figures["assertion_us_p50"] / figures["fido2_server_us_p50"], 3)
    return figures


_ROWS = (
    ("Verifying one FIDO2 assertion (ES256)", f"median ≤ {GOAL_ASSERTION_US} µs", "assertion"),
    ("— loading the key and verifying the signature alone", "", "signature"),
    ("— the same assertion by python-fido2's own server", "", "fido2_server"),
    ("Verifying one registration (self attestation)", "", "registration"),
    ("Verifying one TOTP code", "", "totp"),
    ("Verifying one recovery code (slow on purpose)", "", "recovery"),
    ("Opening a challenge and answering it with a code, SQLite", "", "totp_pair_sqlite"),
    ("— with a security key", "", "key_pair_sqlite"),
    ("— with a code, PostgreSQL", "", "totp_pair_postgresql"),
    ("— with a security key, PostgreSQL", "", "key_pair_postgresql"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="scripts/bench mfa", description="measure the second factor")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    parser.add_argument("--credentials", type=int, default=CREDENTIALS, help="how many, each with one assertion")
    parser.add_argument("--passes", type=int, default=PASSES, help="passes over all of them; the best one is shown")
    parser.add_argument("--pairs", type=int, default=store_pairs.PAIRS, help="challenges begun and answered, a kind")
    given = parser.parse_args(arguments)
    quiet = is_quiet()
    figures = measure(credentials=given.credentials, passes=given.passes, pairs=given.pairs)
    about = {
        **machine(),
        **{name: importlib.metadata.version(name) for name in ("cryptography", "fido2")},
    }
    if given.json:
        print(json.dumps({**figures, "quiet": quiet, "machine": about}, indent=2))
        return 0
    for what, goal, name in _ROWS:
        if f"{name}_us_p50" not in figures:
            print(f"{what}: not measured, since it is not installed")
            continue
        median, high = figures[f"{name}_us_p50"], figures[f"{name}_us_p99"]
        print(f"{what}: median {median:,.1f} µs, p99 {high:,.1f} µs{f' ({goal})' if goal else ''}")
    print(f"against python-fido2's server: {figures['assertion_fido2_ratio']} of its time")
    if not quiet:
        print("while other programs ran: times are too high and spread")
    for name, value in about.items():
        print(f"- {name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
