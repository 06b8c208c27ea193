# SPDX-License-Identifier: Apache-2.0
"""
What of session tokens is fuzzed: their text, and claims whose seal holds, compiled session policies among them.
"""

from __future__ import annotations

import functools
import json
from dataclasses import replace

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.compile.session_claims import decode_claims, encode_claims
from sidecar.compile.session_policies import compile_session_policies
from sidecar.model.decision import MfaMethod
from sidecar.model.errors import AuthenticationError, RequestError, SessionInvalidError
from sidecar.model.request import AuthorizationRequest, ContextValue
from sidecar.model.session import BoundProof, SessionClaims, SessionKind, SessionTag
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests import tokens
from tests.conformance.cases import build_snapshot
from tests.fuzz.harness import Target
from tests.unit.core.sessions import NOW_MS, claims, proof

_SECONDS = NOW_MS // 1000


@functools.cache
def _state() -> core.SessionState:
    return tokens.state(
        *(tokens.revocation(tokens.PRINCIPAL, f"AIDA{number}", NOW_MS) for number in range(9)),
        tokens.revocation(tokens.DEVICE, "GAHT12345678", NOW_MS),
    )


@functools.cache
def _images() -> tuple[core.Image, ...]:
    condition = {
        "Bool": {"aws:MultiFactorAuthPresent": "true"},
        "StringLikeIfExists": {
            "aws:PrincipalTag/team": "r*",
            "aws:SourceIdentity": "*",
            "sidecar:MfaDeviceSerial": "*",
        },
        "DateGreaterThan": {"aws:TokenIssueTime": "2020-01-01"},
    }
    return tuple(
        core.Image.from_bytes(
            write_image(
                build_snapshot(
                    {
                        "principal": principal,
                        "tags": {"team": "red"},
                        "organization": True,
                        "identity": ["Allow", {"Effect": "Deny", "Action": "app:Write", "Condition": condition}],
                    }
                )
            )
        )
        for principal in ("user", "role")
    )


@functools.cache
def _policies() -> tuple[bytes, ...]:
    statements: list[dict[str, object]] = [
        {"Effect": "Allow", "Action": ["app:Read", "s3:Get*"], "Resource": "*"},
        {
            "Sid": "Two",
            "Effect": "Allow",
            "NotAction": "iam:*",
            "Resource": ["arn:aws:app:::${aws:username}/*", "arn:aws:app:::x", "arn:aws:s3:::b*"],
            "Condition": {
                "IpAddress": {"aws:SourceIp": "10.0.0.0/8"},
                "StringEquals": {"aws:PrincipalTag/team": ["red", "${aws:SourceIdentity}"]},
            },
        },
        {
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {
                "NumericGreaterThan": {"aws:MultiFactorAuthAge": "300"},
                "ForAnyValue:StringLike": {"app:list": ["a*", "?"]},
                "DateLessThan": {"aws:CurrentTime": "2020-01-01"},
            },
        },
        {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"BinaryEquals": {"app:bytes": "QUJD"}}},
    ]
    return tuple(
        compile_session_policies([json.dumps({"Version": "2012-10-17", "Statement": chosen})])
        for chosen in (statements[:1], statements[1:2], statements)
    )


@functools.cache
def _requests() -> tuple[AuthorizationRequest, ...]:
    context = {
        "aws:SourceIp": ContextValue(("10.1.2.3",)),
        "app:list": ContextValue(("abc", "b"), multivalued=True),
        "app:bytes": ContextValue(("QUJD",)),
    }
    return tuple(
        AuthorizationRequest("", action, resource, context)
        for action, resource in (
            ("app:Read", "*"),
            ("app:Write", "arn:aws:app::111122223333:x"),
            ("iam:GetUser", "arn:aws:iam::111122223333:user/alice"),
            ("s3:GetObject", "arn:aws:s3:::bucket/x"),
        )
    )


def _claims() -> list[SessionClaims]:
    call = ("app:write", "arn:aws:app::111122223333:x")
    role = claims(SessionKind.ROLE, source_identity="alice")
    return [
        claims(),
        claims(SessionKind.USER, mfa=proof()),
        role,
        replace(role, mfa=proof(serial_number="GAHT12345678"), bound=BoundProof(proof(1), *call)),
        replace(role, tags=(SessionTag("Team", "blue"), SessionTag("k" * 128, "v" * 256, is_transitive=True))),
        *(replace(role, policies=policies, mfa=proof(method=MfaMethod.TOTP)) for policies in _policies()),
    ]


def _decide(token: str) -> set[str]:
    """Ask with *token* in every way there is, and return the reasons."""
    reasons = set()
    for image in _images():
        for request in _requests():
            asked = replace(request, session_token=token)
            try:
                explained = core.explain(image, asked, seconds=_SECONDS, nanos=0, sessions=_state())
                answered = core.authorize(
                    image, core.encode_request(asked), seconds=_SECONDS, nanos=0, sessions=_state()
                )
            except RequestError as error:
                # Text that is none, or with NUL.
                reasons.add(error.field)
                continue
            answer = pb.AuthorizeResponse.FromString(answered)
            if (int(answer.decision), answer.reason) != (explained.decision.value, explained.reason.word):
                raise ValueError(f"explained as {explained.reason}, answered as {answer.reason}")
            reasons.add(answer.reason)
    return reasons


def _open(token: str) -> str:
    """Open *token*, hold what the core reads to what Python reads, and name the outcome."""
    try:
        data = _state().open(token, image=None, seconds=_SECONDS, nanos=0)
    except AuthenticationError as error:
        return f"{error.reason} {' '.join(sorted(_decide(token)))}"
    said = decode_claims(data[20:], access_key_id=data[:20].decode("ascii"))
    if encode_claims(said) != data[20:]:
        raise ValueError("what was opened is not what was sealed")
    return " ".join(sorted(_decide(token)))


def _run_token(data: bytes) -> str:
    return _open(data.decode("utf-8", "surrogateescape"))


def _run_claims(data: bytes) -> str:
    outcome = _open(tokens.seal_bytes(data))
    try:
        decode_claims(data, access_key_id=tokens.ACCESS_KEY_ID)
    except SessionInvalidError:
        if not outcome.startswith("session_invalid"):
            raise ValueError("the core reads claims that Python does not") from None
    return outcome


TOKEN_TARGETS = (
    Target(
        name="token",
        about="session tokens, as text",
        seeds=lambda: [b"", b"A" * 72, *(tokens.seal(said).encode() for said in _claims())],
        run=_run_token,
        tokens=(b"=", b"\x00", b"\xc3\xa9", b"A" * 64, b"-_"),
        in_place=0.3,
        max_bytes=1 << 14,
    ),
    Target(
        name="claims",
        about="the claims of session tokens, policies among them, sealed as they should be",
        seeds=lambda: [b"", *(encode_claims(said) for said in _claims())],
        run=_run_claims,
        in_place=0.7,
        max_bytes=6000,
    ),
)
