# SPDX-License-Identifier: Apache-2.0
"""
Asking the sidecar: blocking, and for asyncio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import grpc

from sidecar.client.channels import Tls, open_async_channel, open_channel
from sidecar.client.errors import error_of
from sidecar.client.step_up import AsyncStepUpClient, AsyncTell, StepUpClient, Tell
from sidecar.client.verdict import Question, Verdict, question_to_wire, verdict_from_wire
from sidecar.model.errors import InternalError
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from sidecar.wire.sidecar.v1 import authorization_pb2_grpc as pb_grpc

#: Where the data listener is by default.
DEFAULT_TARGET = "127.0.0.1:9191"
#: Seconds that a decision may take, all tries together.
DEFAULT_TIMEOUT = 1.0

Context = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True, slots=True)
class SteppedUp:
    """
    A verdict, and the token to call with from now on.

    Attributes:
        session_token: The one that was given, or one with a proof.
    """

    verdict: Verdict
    session_token: str = field(repr=False)


class AuthorizationClient:
    """
    Asks a sidecar's data listener.

    A decision that cannot be had raises a `SidecarError`; it is never an allow. A sidecar that is out of reach for a
    moment is asked again, until the time of the call is over.

    Thread-safety: that of a gRPC channel, which may be shared. One client for a process is enough.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        tls: Tls | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        step_up: StepUpClient | None = None,
    ) -> None:
        """
        Args:
            target: Data listener, ``HOST:PORT`` or ``unix:PATH``.
            tls: To be stated where something before the sidecar speaks it.
            timeout: Seconds that a decision may take.
            step_up: What opens challenges; without it there is no `authorize_with_step_up`.
        """
        self._target = target
        self._timeout = timeout
        self._step_up = step_up
        self._channel = open_channel(target, tls)
        self._stub = pb_grpc.AuthorizationServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def authorize(
        self,
        action: str,
        resource: str,
        *,
        session_token: str = "",
        principal: str = "",
        context: Context | None = None,
        resource_account: str = "",
        timeout: float | None = None,
    ) -> Verdict:
        """
        Return whether the caller may do *action* on *resource*.

        Args:
            session_token: Of the caller; the sidecar itself vouches for it.
            principal: The caller's ARN, where you vouch for it instead.
            context: Condition keys. A text is one value; a sequence is a list.
            resource_account: Owner of the resource, where its ARN names none.
            timeout: Seconds that this decision may take.

        Raises:
            SourceUnavailableError: No sidecar has answered in time.
            RequestError: The question is none.
            SidecarError: The sidecar failed.
        """
        return self.ask(
            Question(action, resource, session_token, principal, context or {}, resource_account), timeout=timeout
        )

    def ask(self, question: Question, *, timeout: float | None = None) -> Verdict:
        """
        Return the verdict on *question*; arguments and errors are those of `authorize`.

        Raises:
            SidecarError: There is no verdict.
        """
        request = question_to_wire(question)
        try:
            return verdict_from_wire(self._stub.Authorize(request, timeout=_or(timeout, self._timeout)))
        except grpc.RpcError as error:
            raise error_of(error, self._target) from None

    def ask_all(self, questions: Sequence[Question], *, timeout: float | None = None) -> list[Verdict]:
        """
        Return the verdicts on 1 to 1,000 questions in order, all by the same policies.

        Raises:
            SidecarError: There are no verdicts; one question that is none fails them all.
        """
        request = _batch(questions)
        try:
            response = self._stub.BatchAuthorize(request, timeout=_or(timeout, self._timeout))
        except grpc.RpcError as error:
            raise error_of(error, self._target) from None
        return _verdicts(response, len(questions))

    def authorize_with_step_up(
        self,
        action: str,
        resource: str,
        *,
        session_token: str,
        tell: Tell,
        context: Context | None = None,
        resource_account: str = "",
        is_bound: bool = True,
        timeout: float | None = None,
    ) -> SteppedUp:
        """
        Return whether the caller may, after they have proved themselves where that would turn a denial.

        This waits for a person, for minutes: it is for programs that have one, not for a service that serves many.

        Args:
            tell: Is called with what to tell the person.
            is_bound: Whether the proof is to hold for this action on this resource alone.

        Raises:
            StepUpRefusedError: The person said no.
            StepUpExpiredError: Nobody answered in time.
            SidecarError: There is no verdict, or no challenge could be opened.
        """
        question = Question(action, resource, session_token, "", context or {}, resource_account)
        verdict = self.ask(question, timeout=timeout)
        requirement = verdict.mfa_requirement
        if verdict.is_allowed or requirement is None:
            return SteppedUp(verdict, session_token)
        if self._step_up is None:
            raise RuntimeError("this client was made without a StepUpClient")
        token = self._step_up.step_up(
            session_token,
            tell,
            action=action if is_bound else "",
            resource=resource if is_bound else "",
            require_user_verification=requirement.user_verification,
        )
        again = Question(action, resource, token, "", context or {}, resource_account)
        return SteppedUp(self.ask(again, timeout=timeout), token)


class AsyncAuthorizationClient:
    """
    Asks a sidecar's data listener, for asyncio; see `AuthorizationClient`.

    Thread-safety: belongs to one event loop.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        tls: Tls | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        step_up: AsyncStepUpClient | None = None,
    ) -> None:
        """
        Args:
            target: Data listener, ``HOST:PORT`` or ``unix:PATH``.
            tls: To be stated where something before the sidecar speaks it.
            timeout: Seconds that a decision may take.
            step_up: What opens challenges; without it there is no `authorize_with_step_up`.
        """
        self._target = target
        self._timeout = timeout
        self._step_up = step_up
        self._channel = open_async_channel(target, tls)
        self._stub = pb_grpc.AuthorizationServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close()

    async def authorize(
        self,
        action: str,
        resource: str,
        *,
        session_token: str = "",
        principal: str = "",
        context: Context | None = None,
        resource_account: str = "",
        timeout: float | None = None,
    ) -> Verdict:
        """
        Return whether the caller may do *action* on *resource*; see `AuthorizationClient.authorize`.

        Raises:
            SidecarError: There is no verdict.
        """
        return await self.ask(
            Question(action, resource, session_token, principal, context or {}, resource_account), timeout=timeout
        )

    async def ask(self, question: Question, *, timeout: float | None = None) -> Verdict:
        """
        Return the verdict on *question*.

        Raises:
            SidecarError: There is no verdict.
        """
        request = question_to_wire(question)
        try:
            return verdict_from_wire(await self._stub.Authorize(request, timeout=_or(timeout, self._timeout)))
        except grpc.RpcError as error:
            raise error_of(error, self._target) from None

    async def ask_all(self, questions: Sequence[Question], *, timeout: float | None = None) -> list[Verdict]:
        """
        Return the verdicts on 1 to 1,000 questions in order, all by the same policies.

        Raises:
            SidecarError: There are no verdicts; one question that is none fails them all.
        """
        request = _batch(questions)
        try:
            response = await self._stub.BatchAuthorize(request, timeout=_or(timeout, self._timeout))
        except grpc.RpcError as error:
            raise error_of(error, self._target) from None
        return _verdicts(response, len(questions))

    async def authorize_with_step_up(
        self,
        action: str,
        resource: str,
        *,
        session_token: str,
        tell: AsyncTell,
        context: Context | None = None,
        resource_account: str = "",
        is_bound: bool = True,
        timeout: float | None = None,
    ) -> SteppedUp:
        """
        Return whether the caller may, after they have proved themselves where that would turn a denial.

        Args and errors are those of `AuthorizationClient.authorize_with_step_up`; *tell* may be a coroutine function.
        """
        question = Question(action, resource, session_token, "", context or {}, resource_account)
        verdict = await self.ask(question, timeout=timeout)
        requirement = verdict.mfa_requirement
        if verdict.is_allowed or requirement is None:
            return SteppedUp(verdict, session_token)
        if self._step_up is None:
            raise RuntimeError("this client was made without an AsyncStepUpClient")
        token = await self._step_up.step_up(
            session_token,
            tell,
            action=action if is_bound else "",
            resource=resource if is_bound else "",
            require_user_verification=requirement.user_verification,
        )
        again = Question(action, resource, token, "", context or {}, resource_account)
        return SteppedUp(await self.ask(again, timeout=timeout), token)


def _or(timeout: float | None, default: float) -> float:
    return default if timeout is None else timeout


def _batch(questions: Sequence[Question]) -> pb.BatchAuthorizeRequest:
    return pb.BatchAuthorizeRequest(requests=[question_to_wire(question) for question in questions])


def _verdicts(response: pb.BatchAuthorizeResponse, count: int) -> list[Verdict]:
    if len(response.responses) != count:
        # Whose verdict each is could not be known.
        raise InternalError(
            "the sidecar answered another number of questions", cause=f"{len(response.responses)} for {count}"
        )
    return [verdict_from_wire(one) for one in response.responses]
