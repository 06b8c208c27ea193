# SPDX-License-Identifier: Apache-2.0
"""A gRPC server that says what a test wants a sidecar to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from sidecar.wire.sidecar.v1 import mfa_pb2 as mfa

ALLOW = pb.AuthorizeResponse(decision=pb.DECISION_ALLOW, reason="identity_allow", principal_arn="arn:ada")
NEEDS_PROOF = pb.AuthorizeResponse(
    decision=pb.DECISION_IMPLICIT_DENY,
    reason="no_identity_allow",
    mfa_requirement=pb.MfaRequirement(max_age_seconds=300, methods=["totp", "webauthn", "smell"]),
)


class Abort(Exception):  # noqa: N818 - says what to do
    """End the call with a status."""

    def __init__(self, code: grpc.StatusCode, details: str = "so it is") -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class Scripted:
    """Answers each call with the next thing that was put down for its method; the last one stays."""

    def __init__(self) -> None:
        self.script: dict[str, list[Any]] = {}
        self.requests: list[tuple[str, Any, dict[str, str | bytes]]] = []

    def put(self, method: str, *answers: Any) -> None:
        self.script[method] = list(answers)

    def count(self, method: str) -> int:
        return sum(name == method for name, _, _ in self.requests)

    def answer(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append((method, request, dict(context.invocation_metadata() or ())))
        answers = self.script[method]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Abort):
            context.abort(answer.code, answer.details)
        return answer(request, context) if callable(answer) else answer


_UNARY: dict[str, type[Any]] = {
    "AuthorizationService/Authorize": pb.AuthorizeRequest,
    "AuthorizationService/BatchAuthorize": pb.BatchAuthorizeRequest,
    "MfaService/BeginChallenge": mfa.BeginChallengeRequest,
    "MfaService/AnswerChallenge": mfa.AnswerChallengeRequest,
    "MfaService/CollectProof": mfa.CollectProofRequest,
}
_STREAMS: dict[str, type[Any]] = {"MfaService/WatchChallenge": mfa.WatchChallengeRequest}


@contextmanager
def scripted_sidecar(port: int = 0) -> Iterator[tuple[Scripted, str]]:
    """Serve, and give the script and the address."""
    scripted = Scripted()
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    for service in ("AuthorizationService", "MfaService"):
        handlers: dict[str, Any] = {}
        for kinds, make in (
            (_UNARY, grpc.unary_unary_rpc_method_handler),
            (_STREAMS, grpc.unary_stream_rpc_method_handler),
        ):
            for path, kind in kinds.items():
                if path.startswith(service):
                    handlers[path.partition("/")[2]] = make(
                        _behavior(scripted, path.partition("/")[2]),
                        request_deserializer=kind.FromString,
                        response_serializer=lambda message: message.SerializeToString(),
                    )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"sidecar.v1.{service}", handlers),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield scripted, f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(10)


def _behavior(scripted: Scripted, method: str) -> Callable[[Any, grpc.ServicerContext], Any]:
    return lambda request, context: scripted.answer(method, request, context)
