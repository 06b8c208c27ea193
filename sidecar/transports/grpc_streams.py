# SPDX-License-Identifier: Apache-2.0
"""
Calls that are answered with a stream of messages, on threads of their own.

Such a call waits most of its time. It may neither keep a thread from the calls that are answered at once, nor go on
when its client has gone or the listener drains.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from sidecar.model.errors import LimitExceededError, SourceUnavailableError
from sidecar.services.bells import Bell
from sidecar.services.callers import Caller
from sidecar.services.log import Log
from sidecar.services.metrics import RpcMetrics
from sidecar.transports.calls import made_by
from sidecar.transports.faults import abort, told

#: Streams that are open at the same time; further ones are refused.
MAX_STREAMS = 256

#: Gives messages until there are no more, or the bell says that it is over. What it needs of the call it reads before
#: it returns: its messages are made outside of it.
StreamMethod = Callable[[bytes, Bell], Iterator[bytes]]


class Streams:
    """
    The streams of one listener.

    Thread-safety: locked.
    """

    def __init__(
        self, *, caller_of: Callable[[str, grpc.ServicerContext], Caller], metrics: RpcMetrics, log: Log
    ) -> None:
        """
        Args:
            caller_of: Says who makes a call, named by its full path.
            metrics: What counts the calls.
            log: Where faults are told.
        """
        self._caller_of = caller_of
        self._metrics = metrics
        self._log = log
        # A few more than streams: those who are refused need a thread to be told.
        self._pool = ThreadPoolExecutor(MAX_STREAMS + 4, thread_name_prefix="stream")
        self._lock = threading.Lock()
        self._bells: set[Bell] = set()
        self._is_draining = False

    def handler(self, service: str, name: str, function: StreamMethod) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Return what answers one method."""
        method, path = f"{service.rpartition('.')[2]}/{name}", f"/{service}/{name}"

        def answer(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            try:
                bell = self._open(context)
                with made_by(self._caller_of(path, context)):
                    messages = function(request, bell)
                yield from messages
                if self._is_draining:
                    raise SourceUnavailableError("the sidecar is shutting down", help="call again")
            except GeneratorExit:
                # The call ended between two messages.
                self._metrics.record_rpc(method, "CANCELLED")
                raise
            except Exception as error:
                code, status = told(error, method=method, log=self._log)
                self._metrics.record_rpc(method, code.name)
                abort(context, status)
            self._metrics.record_rpc(method, "OK" if context.is_active() else "CANCELLED")

        answer.experimental_thread_pool = self._pool  # type: ignore[attr-defined]
        return grpc.unary_stream_rpc_method_handler(answer)

    def end(self) -> None:
        """End every stream; their clients are told to call again."""
        self._is_draining = True
        with self._lock:
            bells = list(self._bells)
        for bell in bells:
            bell.end()

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _open(self, context: grpc.ServicerContext) -> Bell:
        """
        Return the bell of a new stream, which ends when the call does.

        Raises:
            LimitExceededError: There are as many as there may be.
        """
        bell = Bell()
        with self._lock:
            if len(self._bells) >= MAX_STREAMS:
                raise LimitExceededError(f"{MAX_STREAMS} streams are open", help="call again in a moment")
            self._bells.add(bell)
        if self._is_draining:
            bell.end()

        def close() -> None:
            with self._lock:
                self._bells.discard(bell)
            bell.end()

        if not context.add_callback(close):
            close()
        return bell
