# SPDX-License-Identifier: Apache-2.0
"""
Calling a protected service with a session, and having its person prove themselves where that would have a call pass.

It makes no difference whether the service refuses the call itself or Envoy does it in front of it::

    interceptor = StepUpInterceptor(StepUpClient("127.0.0.1:9192"), token, tell=lambda prompt: print(prompt.prompt_url))
    channel = grpc.intercept_channel(grpc.insecure_channel("shop.example.com:443"), interceptor)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import grpc
import grpc.aio

from sidecar.client.proof_required import ProofRequired, proof_required_by
from sidecar.client.step_up import AsyncStepUpClient, AsyncTell, StepUpClient, Tell


class _Details(NamedTuple):
    """What grpcio is told of a call; its own class cannot be made."""

    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str | bytes]] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class StepUpInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """
    Sends the session token with each call, and makes a call again once its person has proved themselves.

    A call with a stream is sent the token, and is not made again: what it has sent is gone. Waiting for the person, for
    minutes, is not in the timeout of the call; a call by ``.future()`` is waited for, too.

    Thread-safety: locked; of calls that are refused at the same time, the person is asked for one.
    """

    def __init__(self, step_up: StepUpClient, session_token: str, tell: Tell) -> None:
        """
        Args:
            step_up: Opens challenges, at the sidecar's management listener.
            tell: Is called with what to tell the person.
        """
        self._step_up = step_up
        self._tell = tell
        self._token = session_token
        self._lock = threading.Lock()

    @property
    def session_token(self) -> str:
        """The token of now, with what was proved last."""
        return self._token

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        """
        Make a call, a second time if need be.

        Raises:
            StepUpRefusedError: The person said no.
            StepUpExpiredError: Nobody answered in time.
            SidecarError: The challenge could not be opened.
        """
        token = self._token
        call = continuation(_with_token(client_call_details, token), request)
        required = proof_required_by(call) if call.code() is grpc.StatusCode.UNAUTHENTICATED else None
        if required is None:
            return call
        return continuation(_with_token(client_call_details, self._prove(token, required)), request)

    def intercept_unary_stream(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        """Make a call whose answer is a stream."""
        return continuation(_with_token(client_call_details, self._token), request)

    def intercept_stream_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Make a call that sends a stream."""
        return continuation(_with_token(client_call_details, self._token), request_iterator)

    def intercept_stream_stream(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Make a call of two streams."""
        return continuation(_with_token(client_call_details, self._token), request_iterator)

    def _prove(self, refused: str, required: ProofRequired) -> str:
        """Return a token other than the one that was refused."""
        with self._lock:
            # Another call may have had the person asked meanwhile.
            if self._token == refused:
                self._token = self._step_up.step_up(refused, self._tell, **_asked(required))
            return self._token


class AsyncStepUpInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """
    Sends the session token with each call that has one message each way, and makes it again once its person has proved
    themselves; see `StepUpInterceptor`.

    Thread-safety: belongs to one event loop.
    """

    def __init__(self, step_up: AsyncStepUpClient, session_token: str, tell: AsyncTell) -> None:
        """
        Args:
            step_up: Opens challenges, at the sidecar's management listener.
            tell: Is called with what to tell the person.
        """
        self._step_up = step_up
        self._tell = tell
        self._token = session_token
        self._lock = asyncio.Lock()

    @property
    def session_token(self) -> str:
        """The token of now, with what was proved last."""
        return self._token

    async def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        """
        Make a call, a second time if need be; errors are those of `StepUpInterceptor`.

        Raises:
            SidecarError: There is no proof.
        """
        token = self._token
        call = await continuation(_with_token_async(client_call_details, token), request)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            required = proof_required_by(error) if error.code() is grpc.StatusCode.UNAUTHENTICATED else None
            if required is None:
                return call
        else:
            return call
        async with self._lock:
            if self._token == token:
                self._token = await self._step_up.step_up(token, self._tell, **_asked(required))
        return await continuation(_with_token_async(client_call_details, self._token), request)


def _asked(required: ProofRequired) -> dict[str, Any]:
    """Return what to open a challenge for."""
    if required.step_up_ticket:
        return {"step_up_ticket": required.step_up_ticket}
    return {
        "action": required.action,
        "resource": required.resource,
        "require_user_verification": required.requirement.user_verification,
    }


def _with_token(details: Any, token: str) -> Any:
    return _Details(
        details.method,
        details.timeout,
        [*_without_token(details.metadata), ("authorization", f"Bearer {token}")],
        details.credentials,
        getattr(details, "wait_for_ready", None),
        getattr(details, "compression", None),
    )


def _with_token_async(details: Any, token: str) -> Any:
    metadata = grpc.aio.Metadata(*_without_token(details.metadata), ("authorization", f"Bearer {token}"))
    return grpc.aio.ClientCallDetails(
        method=details.method,
        timeout=details.timeout,
        metadata=metadata,
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
    )


def _without_token(metadata: Any) -> list[tuple[str, str | bytes]]:
    return [(key, value) for key, value in metadata or () if key != "authorization"]
