# SPDX-License-Identifier: Apache-2.0
"""
What a session token costs: opened for the first time, and known again, beside the same caller named by ARN.

Run as part of ``scripts/bench core``.
"""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Sequence
from typing import Any

from sidecar.core import Image, SessionState, authorize
from sidecar.core._core import measure
from sidecar.model.session import MAX_SESSION_TAGS, SessionClaims, SessionKind, SessionTag
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests import tokens
from tests.bench.inputs import joined
from tests.bench.workload import NOW

#: Callers whose tokens every cache holds.
CALLERS = 40
#: How often each request of theirs is decided.
ROUNDS = 100
#: Tokens that are opened, each once.
OPENED = 4_000
_STATE = tokens.state()


def measure_tokens(image: Image, requests: Sequence[bytes], *, passes: int) -> dict[str, Any]:
    """Time requests with a token against the same ones that name their caller."""
    plain, known = _pairs(image, requests)
    # In turns, so that both see the same machine.
    pairs = [
        [_median(image, messages, tokens.state(), rounds=ROUNDS) for messages in (plain, known)] for _ in range(passes)
    ]
    named_ns, known_ns = (min(times) for times in zip(*pairs, strict=True))
    figures: dict[str, Any] = {
        "token_plain_ns_p50": round(named_ns, 1),
        "token_cached_ns_p50": round(known_ns, 1),
        "token_cached_ratio": round(known_ns / named_ns, 3),
        "token_bytes": len(pb.AuthorizeRequest.FromString(known[0]).session_token),
    }
    for prefix, tags in (("token_open", 0), ("token_open_tags", MAX_SESSION_TAGS // 2)):
        new = [_with_token(image, message, tags=tags, number=number) for number, message in enumerate(_many(plain))]
        opened_ns = min(_median(image, new, tokens.state(), rounds=1) for _ in range(passes))
        figures[f"{prefix}_ns_p50"] = round(opened_ns - known_ns, 1)
        figures[f"{prefix}_bytes"] = len(pb.AuthorizeRequest.FromString(new[0]).session_token)
    return figures


def _many(messages: Sequence[bytes]) -> list[bytes]:
    return [messages[number % len(messages)] for number in range(OPENED)]


def _pairs(image: Image, requests: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Return requests by ARN and by token that are answered alike, of a few callers."""
    plain: list[bytes] = []
    known: list[bytes] = []
    callers: set[str] = set()
    for message in requests:
        principal = pb.AuthorizeRequest.FromString(message).principal
        if ":user/" not in principal or (principal not in callers and len(callers) == CALLERS):
            continue
        changed = _with_token(image, message)
        callers.add(principal)
        if _outcome(image, message) == _outcome(image, changed):
            plain.append(message)
            known.append(changed)
    if not plain:
        raise ValueError("no request is answered alike by name and by token")
    return plain, known


def _outcome(image: Image, message: bytes) -> tuple[object, ...]:
    answer = pb.AuthorizeResponse.FromString(authorize(image, message, seconds=NOW, nanos=0, sessions=_STATE))
    return answer.decision, answer.layer, answer.HasField("mfa_requirement"), answer.principal_arn


def _with_token(image: Image, message: bytes, *, tags: int = 0, number: int = 0) -> bytes:
    """Return the request of *message* with a token in place of its principal."""
    request = pb.AuthorizeRequest.FromString(message)
    request.session_token = tokens.seal(_claims(image, request.principal, tags, number))
    return request.SerializeToString()


def _claims(image: Image, arn: str, tags: int, number: int) -> SessionClaims:
    user = image.find_user(arn)
    if user is None:
        raise LookupError(f"`{arn}` is not in the image")
    issued = NOW * 1000 - 60_000
    return SessionClaims(
        access_key_id=tokens.ACCESS_KEY_ID,
        kind=SessionKind.SIGN_IN,
        lineage=number.to_bytes(16, "big"),
        principal=arn,
        principal_id=user.user_id,
        session_name="",
        issued_at_ms=issued,
        expires_at_ms=issued + 3_600_000,
        lineage_issued_at_ms=issued,
        person=arn,
        person_id=user.user_id,
        tags=tuple(SessionTag(f"key{place}", f"value{place}") for place in range(tags)),
    )


def _median(image: Image, messages: Sequence[bytes], state: SessionState, *, rounds: int) -> float:
    """Return the median of whole answers in nanoseconds; the first round is not counted where there are several."""
    data, lengths = joined(messages)
    taken: array[float] = array("d")
    for number in range(rounds):
        spent, _, _ = measure(image, data, lengths, seconds=NOW, whole=True, sessions=state)
        if number or rounds == 1:
            taken.extend(spent)
    return statistics.median(taken)
