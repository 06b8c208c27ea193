# SPDX-License-Identifier: Apache-2.0
"""
The calls of ``MfaService`` about challenges, as functions from bytes to bytes. All of them are about sessions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from sidecar.model.errors import RequestError
from sidecar.services.bells import Bell
from sidecar.transports.calls import current_caller
from sidecar.transports.grpc_streams import StreamMethod
from sidecar.transports.permissions import Method
from sidecar.wire.sidecar.v1 import mfa_pb2 as pb

if TYPE_CHECKING:
    from sidecar.services.callers import Caller
    from sidecar.services.challenges import Answer
    from sidecar.services.step_up import AskedChallenge, ProvedSession, StepUpService

_RequestT = TypeVar("_RequestT", bound=Message)


def challenge_methods(step_up: StepUpService) -> dict[str, Method]:
    """Return the methods by name."""

    def begin_challenge(data: bytes) -> bytes:
        request, caller = _parse(pb.BeginChallengeRequest, data), current_caller()
        if request.step_up_ticket:
            for field in ("action", "resource", "require_user_verification"):
                if getattr(request, field):
                    raise RequestError(f"`{field}` stands in the ticket already", field=field, help="leave it out")
            return _challenge(step_up.redeem(caller, request.step_up_ticket, session_token=request.session_token))
        asked = step_up.begin(
            caller,
            session_token=request.session_token,
            action=request.action,
            resource=request.resource,
            require_user_verification=request.require_user_verification,
        )
        return _challenge(asked)

    def answer_challenge(data: bytes) -> bytes:
        request, caller = _parse(pb.AnswerChallengeRequest, data), current_caller()
        if request.WhichOneof("proof") == "refuse":
            if not request.refuse:
                raise RequestError("`refuse` is false", field="refuse", help="send a proof, or refuse: true")
            step_up.refuse(caller, request.challenge_id)
            return _session(None)
        return _session(step_up.answer(caller, request.challenge_id, _answer(request)))

    def collect_proof(data: bytes) -> bytes:
        request, caller = _parse(pb.CollectProofRequest, data), current_caller()
        return _session(step_up.collect(caller, request.challenge_id, request.session_token))

    return {
        "BeginChallenge": begin_challenge,
        "AnswerChallenge": answer_challenge,
        "CollectProof": collect_proof,
    }


def challenge_streams(step_up: StepUpService) -> dict[str, StreamMethod]:
    """Return the methods that answer with a stream, by name."""

    def watch_challenge(data: bytes, bell: Bell) -> Iterator[bytes]:
        return _watch(step_up, current_caller(), _parse(pb.WatchChallengeRequest, data).challenge_id, bell)

    return {"WatchChallenge": watch_challenge}


def _watch(step_up: StepUpService, caller: Caller, challenge_id: str, bell: Bell) -> Iterator[bytes]:
    for asked in step_up.watch(caller, challenge_id, bell):
        yield _challenge(asked)


def _answer(request: pb.AnswerChallengeRequest) -> Answer:
    # Here and not above, so that a sidecar without devices has no cryptography in its memory.
    from sidecar.services.challenges import AssertionAnswer, RecoveryAnswer, TotpAnswer

    kind = request.WhichOneof("proof")
    if kind == "totp_code":
        return TotpAnswer(request.totp_code)
    if kind == "assertion_json":
        return AssertionAnswer(request.assertion_json)
    if kind == "recovery_code":
        return RecoveryAnswer(request.recovery_code)
    raise RequestError("the request holds no proof", help="send a code, an assertion, a recovery code, or refuse: true")


def _challenge(asked: AskedChallenge) -> bytes:
    return pb.Challenge(
        challenge_id=asked.challenge_id,
        state=f"CHALLENGE_STATE_{asked.state.name}",
        options_json=asked.options_json,
        prompt_url=asked.prompt_url,
        user_code=asked.user_code,
        expires_at_unix_ms=asked.expires_at_ms,
    ).SerializeToString()


def _session(proved: ProvedSession | None) -> bytes:
    if proved is None:
        return pb.AnswerChallengeResponse().SerializeToString()
    return pb.AnswerChallengeResponse(
        session_token=proved.session_token, expires_at_unix_ms=proved.expires_at_ms
    ).SerializeToString()


def _parse(kind: type[_RequestT], data: bytes) -> _RequestT:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise RequestError(f"the request is no {kind.DESCRIPTOR.full_name}") from None
