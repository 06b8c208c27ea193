# SPDX-License-Identifier: Apache-2.0
"""
Protecting a gRPC service: each call is put to the sidecar before the service sees it.

Three lines do it::

    client = AuthorizationClient("127.0.0.1:9191")
    rules = {"/shop.v1.Orders/Refund": Access("payments:Refund", lambda request: f"arn:...:order/{request.order}")}
    server = grpc.server(pool, interceptors=[AuthorizationInterceptor(client, rules)])

The caller's session token comes as ``authorization: Bearer TOKEN``. A method without a rule is refused.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, Final, NamedTuple

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from sidecar.client.authorization import AsyncAuthorizationClient, AuthorizationClient
from sidecar.client.proof_required import ERROR_DOMAIN, ProofRequired, proof_required_to_wire
from sidecar.client.verdict import Question, Verdict
from sidecar.model.errors import RequestError, SidecarError

_LOG = logging.getLogger("sidecar.client")
_SCHEME = "bearer "
#: Reasons of a denial after which signing in helps.
_NO_SESSION = frozenset({"session_invalid", "session_expired", "session_revoked"})
#: Reasons of a denial that was given because nothing could be decided.
_UNDECIDED = frozenset({"session_unverifiable", "no_snapshot", "internal_error", "audit_unavailable"})
_NOT_NOW = "the call cannot be authorized at the moment"


class _Openness(Enum):
    PUBLIC = "public"


#: Rule of a method that everybody may call, such as those of a health service.
PUBLIC: Final = _Openness.PUBLIC


@dataclass(frozen=True, slots=True)
class Access:
    """
    What a caller needs for a method.

    Attributes:
        action: ``service:Action``.
        resource: One ARN, ``*``, or a function from the request to one; of a method that takes a stream, it is
            given None.
        context: Condition keys, or a function from the request to them.
    """

    action: str
    resource: str | Callable[[Any], str] = "*"
    context: Mapping[str, str | Sequence[str]] | Callable[[Any], Mapping[str, str | Sequence[str]]] = field(
        default_factory=dict
    )


Rule = Access | _Openness
#: By full name of the method, or ``/package.Service/*``; or a function of the full name, whose None refuses.
Rules = Mapping[str, Rule] | Callable[[str], Rule | None]

_caller: ContextVar[Verdict | None] = ContextVar("authorized_caller", default=None)


def authorized_caller() -> Verdict | None:
    """Return the verdict that the call under way passed by, with the ARN of its caller; None in a public method."""
    return _caller.get()


class _Refusal(NamedTuple):
    """Why a call is refused."""

    code: grpc.StatusCode
    message: str
    reason: str
    details: error_details_pb2.ErrorInfo | None = None


class AuthorizationInterceptor(grpc.ServerInterceptor):
    """
    Puts each call of a server to the sidecar.

    Thread-safety: immutable.
    """

    def __init__(self, client: AuthorizationClient, rules: Rules) -> None:
        """
        Args:
            rules: What each method needs; one that has no rule is refused.
        """
        self._client = client
        self._rules = rules

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the method's handler with the question before it."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        rule = _rule_of(self._rules, handler_call_details.method)
        if rule is PUBLIC:
            return handler
        return _guarded(handler, lambda request, context: self._admit(rule, request, context))

    def _admit(self, rule: Rule | None, request: Any, context: grpc.ServicerContext) -> None:
        """Pass, or end the call."""
        asked = _question(rule, request, context.invocation_metadata())
        if isinstance(asked, Question):
            try:
                verdict = self._client.ask(asked, timeout=_time_left(context.time_remaining()))
            except SidecarError as error:
                asked = _failed(error)
            else:
                refusal = _refused(verdict, asked)
                if refusal is None:
                    _caller.set(verdict)
                    return
                asked = refusal
        context.abort_with_status(rpc_status.to_status(_status(asked)))


class AsyncAuthorizationInterceptor(grpc.aio.ServerInterceptor):
    """
    Puts each call of a server for asyncio to the sidecar; its methods have to be coroutines or asynchronous generators.

    Thread-safety: belongs to one event loop.
    """

    def __init__(self, client: AsyncAuthorizationClient, rules: Rules) -> None:
        """
        Args:
            rules: What each method needs; one that has no rule is refused.
        """
        self._client = client
        self._rules = rules

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the method's handler with the question before it."""
        handler = await continuation(handler_call_details)
        rule = _rule_of(self._rules, handler_call_details.method)
        # Nobody serves the method: grpcio says so itself.
        if handler is None or rule is PUBLIC:
            return handler

        async def admit(request: Any, context: Any) -> None:
            await self._admit(rule, request, context)

        return _guarded_async(handler, admit)

    async def _admit(self, rule: Rule | None, request: Any, context: Any) -> None:
        """Pass, or end the call."""
        asked = _question(rule, request, context.invocation_metadata())
        if isinstance(asked, Question):
            try:
                verdict = await self._client.ask(asked, timeout=_time_left(context.time_remaining()))
            except SidecarError as error:
                asked = _failed(error)
            else:
                refusal = _refused(verdict, asked)
                if refusal is None:
                    _caller.set(verdict)
                    return
                asked = refusal
        status = rpc_status.to_status(_status(asked))
        await context.abort(status.code, status.details, status.trailing_metadata)


def _rule_of(rules: Rules, method: str) -> Rule | None:
    if callable(rules):
        return rules(method)
    return rules[method] if method in rules else rules.get(f"{method.rpartition('/')[0]}/*")


def _question(rule: Rule | None, request: Any, metadata: Any) -> Question | _Refusal:
    """Return what to ask of the sidecar, or why there is nothing to ask."""
    if not isinstance(rule, Access):
        return _Refusal(grpc.StatusCode.PERMISSION_DENIED, "nobody may call this method", "NO_RULE")
    values = [value for key, value in metadata or () if key == "authorization"]
    # Two credentials are none: which of them counts is not ours to guess.
    if len(values) != 1 or not isinstance(values[0], str) or not values[0].lower().startswith(_SCHEME):
        return _Refusal(
            grpc.StatusCode.UNAUTHENTICATED, "send `authorization: Bearer TOKEN` with a session token", "TOKEN_MISSING"
        )
    return Question(
        action=rule.action,
        resource=rule.resource(request) if callable(rule.resource) else rule.resource,
        session_token=values[0][len(_SCHEME) :].strip(),
        context=rule.context(request) if callable(rule.context) else rule.context,
    )


def _refused(verdict: Verdict, question: Question) -> _Refusal | None:
    """Return why a call is refused; None lets it through."""
    if verdict.is_allowed:
        return None
    if verdict.reason in _NO_SESSION:
        return _Refusal(grpc.StatusCode.UNAUTHENTICATED, "the session does not hold; sign in", verdict.reason.upper())
    if verdict.reason in _UNDECIDED:
        return _Refusal(grpc.StatusCode.UNAVAILABLE, _NOT_NOW, verdict.reason.upper())
    message = f"not authorized to perform {question.action} on `{question.resource}`"[:512]
    if verdict.mfa_requirement is not None:
        required = ProofRequired(question.action, question.resource, verdict.mfa_requirement)
        return _Refusal(
            grpc.StatusCode.UNAUTHENTICATED,
            f"{message} without a fresh proof of MFA",
            "MFA_REQUIRED",
            proof_required_to_wire(required),
        )
    return _Refusal(grpc.StatusCode.PERMISSION_DENIED, message, (verdict.reason or "denied").upper())


def _failed(error: SidecarError) -> _Refusal:
    """Return what the caller is told where there is no verdict; the cause is for the service's own log."""
    _LOG.error("a call could not be authorized: %s", error)
    if isinstance(error, RequestError):
        return _Refusal(grpc.StatusCode.INTERNAL, "the call cannot be authorized", "QUESTION_INVALID")
    return _Refusal(grpc.StatusCode.UNAVAILABLE, _NOT_NOW, "AUTHORIZATION_UNAVAILABLE")


def _status(refusal: _Refusal) -> status_pb2.Status:
    details = refusal.details or error_details_pb2.ErrorInfo(reason=refusal.reason, domain=ERROR_DOMAIN)
    packed = any_pb2.Any()
    packed.Pack(details)
    code = code_pb2.Code.Value(refusal.code.name)
    return status_pb2.Status(code=code, message=refusal.message, details=[packed])


def _time_left(seconds: float | None) -> float | None:
    """Return how long the question may take: never longer than the call itself, whose caller then has gone."""
    return None if seconds is None or seconds > 60 else max(0.001, seconds)


def _guarded(
    handler: grpc.RpcMethodHandler[Any, Any], admit: Callable[[Any, grpc.ServicerContext], None]
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return *handler* with *admit* before each call."""

    def answer_one(request: Any, context: grpc.ServicerContext) -> Any:
        admit(None if handler.request_streaming else request, context)
        try:
            behavior = handler.stream_unary if handler.request_streaming else handler.unary_unary
            return behavior(request, context)  # type: ignore[misc]
        finally:
            # Threads go on to other calls.
            _caller.set(None)

    def answer_many(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        admit(None if handler.request_streaming else request, context)
        try:
            behavior = handler.stream_stream if handler.request_streaming else handler.unary_stream
            yield from behavior(request, context)  # type: ignore[misc]
        finally:
            _caller.set(None)

    return _with_behavior(handler, answer_many if handler.response_streaming else answer_one)


def _guarded_async(
    handler: grpc.RpcMethodHandler[Any, Any], admit: Callable[[Any, Any], Awaitable[None]]
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return *handler* with *admit* before each call."""
    behavior: Any = next(
        found
        for found in (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
        if found is not None
    )

    async def answer_one(request: Any, context: Any) -> Any:
        await admit(None if handler.request_streaming else request, context)
        return await behavior(request, context)

    async def answer_many(request: Any, context: Any) -> AsyncIterator[Any]:
        await admit(None if handler.request_streaming else request, context)
        async for response in behavior(request, context):
            yield response

    if isasyncgenfunction(behavior):
        return _with_behavior(handler, answer_many)
    if iscoroutinefunction(behavior):
        return _with_behavior(handler, answer_one)
    raise TypeError(f"{behavior!r} is no coroutine function: a server for asyncio is protected with those alone")


def _with_behavior(handler: grpc.RpcMethodHandler[Any, Any], behavior: Any) -> grpc.RpcMethodHandler[Any, Any]:
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(
        behavior,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
