# SPDX-License-Identifier: Apache-2.0
"""
What is fuzzed of a second factor: responses, attestation objects, the parts of an assertion, metadata, imports.

Seeds are the published vectors of W3C. An input that takes more of the processor than it may is a finding as well.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.compile.problems import Problems
from sidecar.mfa import cbor
from sidecar.mfa.certificates import read_certificate
from sidecar.mfa.credential import Credential
from sidecar.mfa.encoding import decode_base64url, encode_base64url
from sidecar.mfa.mds import read_metadata
from sidecar.mfa.policy import AttestationMode, AttestationPolicy
from sidecar.mfa.response import MAX_RESPONSE_BYTES
from sidecar.mfa.u2f import import_registration
from sidecar.mfa.webauthn import verify_assertion, verify_registration
from sidecar.model.errors import MfaError
from sidecar.services.import_document import parse_import_document
from tests.fuzz.harness import Target
from tests.unit.mfa import statements as made
from tests.unit.mfa.published import ATTESTATION_ROOT, ORIGIN, PAIRS, RP_ID, Pair

#: 2026-01-01T00:00:00Z. Inputs decide, the clock does not.
NOW = 1_767_225_600.0
#: Seconds of the processor that one input may take.
MAX_SECONDS = 0.05
#: Parts another input from the one before; no part of a vector holds it.
_FIELD = b"\xf0\x9f\xa7\xa9"
_VARYING = re.compile(r"`[^`]*`|[0-9]+")
_EXPECTED: dict[str, Any] = {"expected_origins": {ORIGIN}, "expected_rp_id": RP_ID, "allow_cross_origin": True}


class TooSlowError(Exception):
    """An input takes longer than any may."""


def _timed(read: Callable[[bytes], str]) -> Callable[[bytes], str]:
    """Wrap a target so that an input which is slow each of three times is a finding."""

    def run(data: bytes) -> str:
        for _ in range(3):
            began = time.thread_time()
            outcome = read(data)
            took = time.thread_time() - began
            if took <= MAX_SECONDS:
                return outcome
        raise TooSlowError(f"{took:.3f} s")

    return run


def _outcome(verify: Callable[[], object]) -> str:
    try:
        verify()
    except MfaError as error:
        return f"{error.reason}: {_VARYING.sub('#', error.message)}"
    return "accepted"


@functools.cache
def _policy() -> AttestationPolicy:
    return AttestationPolicy(mode=AttestationMode.REQUIRE_TRUSTED, trust_anchors=(read_certificate(ATTESTATION_ROOT),))


def _register(pair: Pair, response: Any, policy: AttestationPolicy | None = None) -> Credential:
    return verify_registration(
        response=response,
        expected_challenge=pair.registration_challenge,
        attestation_policy=policy or AttestationPolicy(),
        now=NOW,
        **_EXPECTED,
    )


@functools.cache
def _credential(place: int) -> Credential:
    return _register(PAIRS[place], PAIRS[place].registration)


def _prove(place: int, response: Any) -> None:
    verify_assertion(
        response=response,
        credential=_credential(place),
        expected_challenge=PAIRS[place].assertion_challenge,
        **_EXPECTED,
    )


def _place(data: bytes) -> int:
    return data[0] % len(PAIRS) if data else 0


def _response_seeds() -> Sequence[bytes]:
    return [
        bytes([place]) + json.dumps(response).encode()
        for place, pair in enumerate(PAIRS)
        for response in (pair.registration, pair.assertion)
    ]


def _run_response(data: bytes) -> str:
    place, text = _place(data), data[1:]
    return f"{_outcome(lambda: _register(PAIRS[place], text))} / {_outcome(lambda: _prove(place, text))}"


def _raw(response: dict[str, Any], member: str) -> bytes:
    return decode_base64url(response["response"][member], field=member, max_bytes=1 << 16)


def _object_seeds() -> Sequence[bytes]:
    return [bytes([place]) + _raw(pair.registration, "attestationObject") for place, pair in enumerate(PAIRS)]


def _run_object(data: bytes) -> str:
    pair, encoded = PAIRS[_place(data)], data[1:] or b"\0"
    response = {**pair.registration["response"], "attestationObject": encode_base64url(encoded)}
    # The id outside follows the one inside, or nothing behind it would ever be read.
    identifier = _identifier(encoded) or pair.registration["id"]
    whole = {**pair.registration, "id": identifier, "rawId": identifier, "response": response}
    return f"{_outcome(lambda: _register(pair, whole))} / {_outcome(lambda: _register(pair, whole, _policy()))}"


def _identifier(encoded: bytes) -> str:
    try:
        found = cbor.decode(encoded)
    except MfaError:
        return ""
    inner = found.get("authData") if isinstance(found, dict) else None
    if not isinstance(inner, bytes) or len(inner) < 55:
        return ""
    return encode_base64url(inner[55 : 55 + int.from_bytes(inner[53:55], "big")])


def _part_seeds() -> Sequence[bytes]:
    names = ("clientDataJSON", "authenticatorData", "signature")
    return [
        bytes([place]) + _FIELD.join(_raw(pair.assertion, name) for name in names) for place, pair in enumerate(PAIRS)
    ]


def _run_parts(data: bytes) -> str:
    place, parts = _place(data), [*data[1:].split(_FIELD), b"", b""][:3]
    names = ("clientDataJSON", "authenticatorData", "signature")
    response = {name: encode_base64url(part) for name, part in zip(names, parts, strict=True)}
    return _outcome(lambda: _prove(place, {**PAIRS[place].assertion, "response": response}))


def _paper_seeds() -> Sequence[bytes]:
    header = json.dumps({"alg": "ES256", "x5c": []}).encode()
    body = json.dumps({"no": 1, "nextUpdate": "2026-02-01", "entries": [{"aaguid": "x"}]}).encode()
    blob = b".".join(encode_base64url(part).encode() for part in (header, body, bytes(64)))
    registration = b"\x05" + bytes(65) + b"\x10" + bytes(16) + ATTESTATION_ROOT + bytes(70)
    return [ATTESTATION_ROOT, blob, registration, *_certificates()]


def _certificates() -> list[bytes]:
    found = [_register(pair, pair.registration).attestation.certificates for pair in PAIRS]
    return [der for certificates in found for der in certificates]


def _run_paper(data: bytes) -> str:
    return " / ".join(
        (
            _outcome(lambda: read_certificate(data)),
            _outcome(lambda: read_metadata(data, trust_root=ATTESTATION_ROOT, now=NOW)),
            _outcome(lambda: import_registration(registration=data, client_data=b"", app_id="https://a.example")),
        )
    )


@functools.cache
def _metadata_header() -> dict[str, Any]:
    chain = (made.der(made.mds_signer()), made.MDS_ISSUER.der)
    return {"alg": "ES256", "x5c": [base64.b64encode(one).decode() for one in chain]}


def _metadata_seeds() -> Sequence[bytes]:
    reports = [{"status": "REVOKED", "certificate": base64.b64encode(made.LEAF).decode()}]
    entries = [
        made.entry(statuses=reports),
        {"attestationCertificateKeyIdentifiers": ["00" * 20]},
        {"aaid": "4e4e#400a"},
    ]
    return [json.dumps({"no": 7, "nextUpdate": "2026-02-01", "entries": entries}).encode()]


def _run_metadata(data: bytes) -> str:
    blob = made.signed_blob(_metadata_header(), data or b"0")
    return _outcome(lambda: read_metadata(blob, trust_root=made.MDS_ROOT.der, now=NOW))


def _import_seeds() -> Sequence[bytes]:
    user = "arn:aws:iam::111122223333:user/ada"
    point = base64.b64encode(
        made.BATCH.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    ).decode()
    items: list[dict[str, Any]] = [
        {"user_arn": user, "kind": "totp", "serial_number": "GAHT12345678", "secret": "A" * 32, "digits": 6},
        {"user_arn": user, "kind": "totp", "serial_number": "GAHT12345679", "secret_hex": "0a" * 20, "period": 30},
        {"user_arn": user, "kind": "u2f", "app_id": "https://a.example", "key_handle": "AAAA", "public_key": point},
    ]
    lines = "\n".join(f"    {name}: {value}" for name, value in items[0].items())
    return [json.dumps({"devices": items}).encode(), f"devices:\n  -\n{lines}\n".encode()]


def _run_import(data: bytes) -> str:
    problems = Problems()
    found = parse_import_document(data, where="x", problems=problems, allow_short_seeds=len(data) % 2 == 0)
    told = sorted({_VARYING.sub("#", problem.message) for problem in problems.items})
    return " / ".join(told)[:400] if told else f"{len(found)} devices"


_JSON_TOKENS = (b'"', b"{", b"}", b"[", b",", b":", b"\\", b"\\ud800", b"null", b"1e9", b"A", b"==", b"-_", b'"id":')
_CBOR_TOKENS = (
    *(b"\xa0", b"\xa1", b"\x80", b"\x81", b"\x40", b"\x58\x20", b"\x59\x01\x00", b"\x60", b"\xf5", b"\xf6", b"\xbf"),
    *(b"\xff", b"\x9b", b"\x1b" + b"\xff" * 8, b"\x63fmt", b"\x67attStmt", b"\x68authData", b"\x63x5c", b"\x63sig"),
    *(b"\x64none", b"\x66packed", b"\x63tpm", b"\x65apple", b"\x6bandroid-key", b"\x68fido-u2f", b"\x26", b"\x30\x82"),
)

MFA_TARGETS = (
    Target(
        name="mfa-response",
        about="WebAuthn responses as JSON, of both ceremonies",
        seeds=_response_seeds,
        run=_timed(_run_response),
        tokens=_JSON_TOKENS,
        max_bytes=MAX_RESPONSE_BYTES + 2,
    ),
    Target(
        name="mfa-object",
        about="attestation objects: CBOR, authenticator data, keys, statements, certificates",
        seeds=_object_seeds,
        run=_timed(_run_object),
        tokens=_CBOR_TOKENS,
        in_place=0.5,
        max_bytes=1 << 15,
    ),
    Target(
        name="mfa-assertion",
        about="client data, authenticator data and signature of an assertion",
        seeds=_part_seeds,
        run=_timed(_run_parts),
        tokens=(_FIELD, *_JSON_TOKENS, *_CBOR_TOKENS),
        max_bytes=1 << 14,
    ),
    Target(
        name="mfa-paper",
        about="certificates, FIDO metadata, U2F registrations",
        seeds=_paper_seeds,
        run=_timed(_run_paper),
        tokens=(b".", b"\x30\x82", b"\x30\x80", b"\x06\x03\x55\x04", b"\x04\x10", b"\x05", b"e30"),
        in_place=0.5,
        max_bytes=1 << 14,
    ),
    Target(
        name="mfa-metadata",
        about="what FIDO metadata says, under a signature that holds",
        seeds=_metadata_seeds,
        run=_timed(_run_metadata),
        tokens=(*_JSON_TOKENS, b'"aaguid":', b'"entries":', b'"metadataStatement":', b'"statusReports":', b"MII"),
        max_bytes=1 << 14,
    ),
    Target(
        name="mfa-import",
        about="documents of devices that are imported",
        seeds=_import_seeds,
        run=_timed(_run_import),
        tokens=(*_JSON_TOKENS, b"\n  - ", b"kind: u2f", b"secret:", b"registration:", b"&a", b"*a", b"!!binary", b"? "),
        max_bytes=1 << 14,
    ),
)
