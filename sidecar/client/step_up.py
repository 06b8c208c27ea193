# SPDX-License-Identifier: Apache-2.0
"""
Having a person prove themselves for their session: a challenge is opened, answered wherever they like, and collected.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from inspect import isawaitable
from types import TracebackType
from typing import Self

import grpc

from sidecar.client.channels import Tls, bearer, open_async_channel, open_channel
from sidecar.client.errors import StepUpExpiredError, StepUpRefusedError, error_of, is_transient
from sidecar.wire.sidecar.v1 import mfa_pb2 as pb
from sidecar.wire.sidecar.v1 import mfa_pb2_grpc as pb_grpc

#: Where the management listener is by default.
DEFAULT_MANAGEMENT = "127.0.0.1:9192"
#: Seconds that a call may take which waits for nobody.
DEFAULT_TIMEOUT = 10.0
#: Seconds between two tries to watch a challenge.
_PAUSE = 0.5
#: A challenge is open for five minutes; nobody waits much longer, whatever the clocks say.
_LONGEST_WAIT = 330.0


@dataclass(frozen=True, slots=True)
class StepUpPrompt:
    """
    What to tell the person who is asked.

    Attributes:
        prompt_url: Page at which they can answer, on any device; empty where the sidecar serves none.
        user_code: Shown on that page too, for them to compare.
        expires_at_ms: When it is too late, in milliseconds since the epoch.
        options_json: WebAuthn request options, for a program that speaks to a key itself; empty without a key.
        action: What the proof will hold for alone; empty for everything.
    """

    challenge_id: str
    prompt_url: str
    user_code: str
    expires_at_ms: int
    options_json: str = field(repr=False)
    action: str
    resource: str


#: Tells the person. May return a new session token, where it has had the challenge answered by itself.
Tell = Callable[[StepUpPrompt], str | None]
AsyncTell = Callable[[StepUpPrompt], Awaitable[str | None] | str | None]


class _Calls:
    """What both clients do alike."""

    def __init__(self, target: str, timeout: float) -> None:
        self._target = target
        self._timeout = timeout

    def _answer(
        self, challenge_id: str, assertion_json: str, totp_code: str, recovery_code: str
    ) -> pb.AnswerChallengeRequest:
        request = pb.AnswerChallengeRequest(challenge_id=challenge_id)
        if assertion_json:
            request.assertion_json = assertion_json
        elif totp_code:
            request.totp_code = totp_code
        else:
            request.recovery_code = recovery_code
        return request


class StepUpClient(_Calls):
    """
    Has sessions proved, by way of a sidecar's management listener.

    Thread-safety: that of a gRPC channel, which may be shared.
    """

    def __init__(
        self,
        target: str = DEFAULT_MANAGEMENT,
        *,
        tls: Tls | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """
        Args:
            target: Management listener, ``HOST:PORT`` or ``unix:PATH``.
            tls: To be stated where the listener has a certificate.
            timeout: Seconds that a call may take which waits for nobody.
        """
        super().__init__(target, timeout)
        self._channel = open_channel(target, tls)
        self._stub = pb_grpc.MfaServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def step_up(
        self,
        session_token: str,
        tell: Tell,
        *,
        action: str = "",
        resource: str = "",
        require_user_verification: bool = False,
        step_up_ticket: str = "",
    ) -> str:
        """
        Have the person of a session prove themselves, and return the session's new token.

        Args:
            tell: Is called with what to tell the person.
            action: What the proof is to hold for alone, on *resource*; both empty for every call.
            require_user_verification: Whether the key has to verify who touches it.
            step_up_ticket: What a refused request was told, in place of the three before.

        Raises:
            StepUpRefusedError: The person said no.
            StepUpExpiredError: Nobody answered in time.
            SidecarError: The challenge could not be opened, or the session has ended.
        """
        prompt = self.begin(
            session_token,
            action=action,
            resource=resource,
            require_user_verification=require_user_verification,
            step_up_ticket=step_up_ticket,
        )
        token = tell(prompt)
        if token is not None:
            return token
        self.wait(session_token, prompt)
        return self.collect(session_token, prompt.challenge_id)

    def begin(
        self,
        session_token: str,
        *,
        action: str = "",
        resource: str = "",
        require_user_verification: bool = False,
        step_up_ticket: str = "",
    ) -> StepUpPrompt:
        """
        Open a challenge for a session, and return what to tell its person; arguments are those of `step_up`.

        Raises:
            SidecarError: It could not be opened.
        """
        request = pb.BeginChallengeRequest(
            session_token=session_token,
            action=action,
            resource=resource,
            require_user_verification=require_user_verification,
            step_up_ticket=step_up_ticket,
        )
        try:
            challenge = self._stub.BeginChallenge(request, metadata=bearer(session_token), timeout=self._timeout)
        except grpc.RpcError as error:
            raise error_of(error, self._target) from None
        return _prompt(challenge, action, resource)

    def wait(self, session_token: str, prompt: StepUpPrompt) -> None:
        """
        Return once the challenge is answered.

        Raises:
            StepUpRefusedError: The person said no.
            StepUpExpiredError: Nobody answered in time.
            SidecarError: The sidecar cannot be asked.
        """
        latest = time.monotonic() + _seconds_left(prompt)
        request = pb.WatchChallengeRequest(challenge_id=prompt.challenge_id)
        while True:
            left = latest - time.monotonic()
            if left <= 0:
                raise StepUpExpiredError("nobody answered in time")
            try:
                for challenge in self._stub.WatchChallenge(request, metadata=bearer(session_token), timeout=left):
                    if _is_answered(challenge):
                        return
            except grpc.RpcError as error:
                if not is_transient(error):
                    raise _wait_error(error, self._target) from None
            time.sleep(_PAUSE)

    def collect(self, session_token: str, challenge_id: str) -> str:
        """
        Return the new token of the session that opened a challenge, once it is answered; once.

        Raises:
            SidecarError: There is no proof to take, or the session has ended.
        """
        request = pb.CollectProofRequest(challenge_id=challenge_id, session_token=session_token)
        try:
            response = self._stub.CollectProof(request, metadata=bearer(session_token), timeout=self._timeout)
        except grpc.RpcError as error:
            raise error_of(error, self._target) from None
        return str(response.session_token)

    def answer(
        self,
        session_token: str,
        challenge_id: str,
        *,
        assertion_json: str = "",
        totp_code: str = "",
        recovery_code: str = "",
    ) -> str | None:
        """
        Answer a challenge with one of the three.

        Returns:
            The new token where *session_token* is of the session that opened it; None where it is another of its
            person.

        Raises:
            SidecarError: It was not accepted.
        """
        request = self._answer(challenge_id, assertion_json, totp_code, recovery_code)
        try:
            response = self._stub.AnswerChallenge(request, metadata=bearer(session_token), timeout=self._timeout)
        except grpc.RpcError as error:
            raise error_of(error, self._target) from None
        return str(response.session_token) or None


class AsyncStepUpClient(_Calls):
    """
    Has sessions proved, by way of a sidecar's management listener, for asyncio.

    Thread-safety: belongs to one event loop.
    """

    def __init__(
        self,
        target: str = DEFAULT_MANAGEMENT,
        *,
        tls: Tls | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """
        Args:
            target: Management listener, ``HOST:PORT`` or ``unix:PATH``.
            tls: To be stated where the listener has a certificate.
            timeout: Seconds that a call may take which waits for nobody.
        """
        super().__init__(target, timeout)
        self._channel = open_async_channel(target, tls)
        self._stub = pb_grpc.MfaServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close()

    async def step_up(
        self,
        session_token: str,
        tell: AsyncTell,
        *,
        action: str = "",
        resource: str = "",
        require_user_verification: bool = False,
        step_up_ticket: str = "",
    ) -> str:
        """
        Have the person of a session prove themselves, and return the session's new token.

        Args and errors are those of `StepUpClient.step_up`; *tell* may be a coroutine function.
        """
        prompt = await self.begin(
            session_token,
            action=action,
            resource=resource,
            require_user_verification=require_user_verification,
            step_up_ticket=step_up_ticket,
        )
        told = tell(prompt)
        token = await told if isawaitable(told) else told
        if token is not None:
            return token
        await self.wait(session_token, prompt)
        return await self.collect(session_token, prompt.challenge_id)

    async def begin(
        self,
        session_token: str,
        *,
        action: str = "",
        resource: str = "",
        require_user_verification: bool = False,
        step_up_ticket: str = "",
    ) -> StepUpPrompt:
        """
        Open a challenge for a session, and return what to tell its person; arguments are those of `step_up`.

        Raises:
            SidecarError: It could not be opened.
        """
        request = pb.BeginChallengeRequest(
            session_token=session_token,
            action=action,
            resource=resource,
            require_user_verification=require_user_verification,
            step_up_ticket=step_up_ticket,
        )
        try:
            challenge = await self._stub.BeginChallenge(request, metadata=bearer(session_token), timeout=self._timeout)
        except grpc.RpcError as error:
            raise error_of(error, self._target) from None
        return _prompt(challenge, action, resource)

    async def wait(self, session_token: str, prompt: StepUpPrompt) -> None:
        """
        Return once the challenge is answered.

        Raises:
            StepUpRefusedError: The person said no.
            StepUpExpiredError: Nobody answered in time.
            SidecarError: The sidecar cannot be asked.
        """
        latest = time.monotonic() + _seconds_left(prompt)
        request = pb.WatchChallengeRequest(challenge_id=prompt.challenge_id)
        while True:
            left = latest - time.monotonic()
            if left <= 0:
                raise StepUpExpiredError("nobody answered in time")
            try:
                watching = self._stub.WatchChallenge(request, metadata=bearer(session_token), timeout=left)
                async for challenge in watching:
                    if _is_answered(challenge):
                        return
            except grpc.RpcError as error:
                if not is_transient(error):
                    raise _wait_error(error, self._target) from None
            await asyncio.sleep(_PAUSE)

    async def collect(self, session_token: str, challenge_id: str) -> str:
        """
        Return the new token of the session that opened a challenge, once it is answered; once.

        Raises:
            SidecarError: There is no proof to take, or the session has ended.
        """
        request = pb.CollectProofRequest(challenge_id=challenge_id, session_token=session_token)
        try:
            response = await self._stub.CollectProof(request, metadata=bearer(session_token), timeout=self._timeout)
        except grpc.RpcError as error:
            raise error_of(error, self._target) from None
        return str(response.session_token)

    async def answer(
        self,
        session_token: str,
        challenge_id: str,
        *,
        assertion_json: str = "",
        totp_code: str = "",
        recovery_code: str = "",
    ) -> str | None:
        """
        Answer a challenge with one of the three; see `StepUpClient.answer`.

        Raises:
            SidecarError: It was not accepted.
        """
        request = self._answer(challenge_id, assertion_json, totp_code, recovery_code)
        try:
            response = await self._stub.AnswerChallenge(request, metadata=bearer(session_token), timeout=self._timeout)
        except grpc.RpcError as error:
            raise error_of(error, self._target) from None
        return str(response.session_token) or None


def _prompt(challenge: pb.Challenge, action: str, resource: str) -> StepUpPrompt:
    return StepUpPrompt(
        challenge_id=challenge.challenge_id,
        prompt_url=challenge.prompt_url,
        user_code=challenge.user_code,
        expires_at_ms=challenge.expires_at_unix_ms,
        options_json=challenge.options_json,
        action=action,
        resource=resource,
    )


def _seconds_left(prompt: StepUpPrompt) -> float:
    """Return how long to wait: somewhat longer than the challenge is open, so that the sidecar says that it is over."""
    return min(max(0.0, prompt.expires_at_ms / 1000 - time.time()) + 10, _LONGEST_WAIT)


def _is_answered(challenge: pb.Challenge) -> bool:
    """
    Say whether a challenge is answered; if not, it is open.

    Raises:
        StepUpRefusedError: The person said no.
        StepUpExpiredError: Nobody answered in time.
    """
    if challenge.state == pb.CHALLENGE_STATE_REFUSED:
        raise StepUpRefusedError("the person said no")
    if challenge.state == pb.CHALLENGE_STATE_EXPIRED:
        raise StepUpExpiredError("nobody answered in time")
    return challenge.state == pb.CHALLENGE_STATE_PROVED


def _wait_error(error: grpc.RpcError, target: str) -> Exception:
    call: grpc.Call = error  # type: ignore[assignment]
    if call.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return StepUpExpiredError("nobody answered in time")
    return error_of(error, target)
