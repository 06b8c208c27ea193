# SPDX-License-Identifier: Apache-2.0
"""
gRPC listeners on grpcio: management, and the Unix socket that serves decisions without a token.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from sidecar.model.errors import SettingsError, SidecarError
from sidecar.model.request import MAX_BATCH_BYTES
from sidecar.services.callers import Caller
from sidecar.services.log import Log, NullLog
from sidecar.services.metrics import NullMetrics, RpcMetrics
from sidecar.transports.addresses import (
    Address,
    TcpAddress,
    UnixAddress,
    ensure_free,
    guarded_socket_file,
    remove_socket_file,
)
from sidecar.transports.authentication import Authenticate, authorization_of, is_open
from sidecar.transports.calls import made_by, peer_name
from sidecar.transports.certificates import TlsFiles, server_credentials
from sidecar.transports.faults import abort, is_ours, told
from sidecar.transports.grpc_services import fault_answer
from sidecar.transports.grpc_streams import StreamMethod, Streams
from sidecar.transports.permissions import Method
from sidecar.transports.status import status_code, status_of

#: Calls that are worked on at the same time; further ones wait for one of these threads.
WORKERS = 16
#: Calls that are accepted at the same time, waiting ones included; further ones are refused.
MAX_CONCURRENT_RPCS = 512
#: Streams of ``Health.Watch`` that are open at the same time.
MAX_HEALTH_WATCHERS = 64
#: Largest message that is read: that of a batch or a simulation, with room for its framing.
MAX_MESSAGE_BYTES = MAX_BATCH_BYTES + 4096

_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.max_connection_idle_ms", 10 * 60 * 1000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)

Serving = health_pb2.HealthCheckResponse.SERVING
NotServing = health_pb2.HealthCheckResponse.NOT_SERVING


class HealthService(health.HealthServicer):  # type: ignore[misc]
    """
    Standard health, with bounds on what anybody can make it keep.

    Thread-safety: locked.
    """

    def __init__(self, services: Iterable[str]) -> None:
        super().__init__()
        self._watchers = threading.BoundedSemaphore(MAX_HEALTH_WATCHERS)
        self._known = ("", *services)
        self.set_serving(False)

    def set_serving(self, is_serving: bool) -> None:
        """Say of every service whether it can answer."""
        for service in self._known:
            self.set(service, Serving if is_serving else NotServing)

    def Watch(self, request: Any, context: grpc.ServicerContext, send_response_callback: Any = None) -> Any:  # noqa: N802
        """Follow the health of one service."""
        if request.service not in self._known:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        if not self._watchers.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watchers")
        if not context.add_callback(self._watchers.release):
            self._watchers.release()
        return super().Watch(request, context, send_response_callback)


class GrpcListener:
    """
    One gRPC server on one or more addresses.

    Thread-safety: ``start`` and ``stop`` belong to one thread; ``set_serving`` may come from any.
    """

    def __init__(
        self,
        *,
        addresses: Sequence[Address],
        methods: Mapping[str, Mapping[str, Method]],
        streams: Mapping[str, Mapping[str, StreamMethod]] | None = None,
        authenticate: Authenticate | None = None,
        tls: TlsFiles | None = None,
        with_reflection: bool = False,
        metrics: RpcMetrics | None = None,
        log: Log | None = None,
    ) -> None:
        """
        Args:
            addresses: Where to listen.
            methods: What to serve, by service and method.
            streams: Methods of the same services that answer with a stream.
            authenticate: Says who calls, or raises; None serves everybody who can connect as the administrator.
            tls: For the TCP addresses.
            with_reflection: Whether to describe the services to those who may call them.
            metrics: What counts the calls.
            log: Where faults are told.
        """
        self._addresses = tuple(addresses)
        self._bound: list[Address] = []
        self._authenticate = authenticate
        self._tls = tls
        self._metrics: RpcMetrics = metrics or NullMetrics()
        self._log: Log = log or NullLog()
        self._health = HealthService(methods)
        self._calls = _Calls()
        self._streams = Streams(
            caller_of=functools.partial(_caller_of, authenticate), metrics=self._metrics, log=self._log
        )
        interceptors: list[grpc.ServerInterceptor] = []
        if authenticate is not None:
            interceptors.append(_Guard(authenticate, self._metrics))
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="grpc")
        self._server = grpc.server(
            self._pool, interceptors=interceptors, options=_OPTIONS, maximum_concurrent_rpcs=MAX_CONCURRENT_RPCS
        )
        for service, functions in methods.items():
            handlers = {name: self._handler(service, name, function) for name, function in functions.items()}
            for name, stream in (streams or {}).get(service, {}).items():
                handlers[name] = self._streams.handler(service, name, stream)
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if with_reflection:
            names = (*methods, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    def start(self) -> tuple[Address, ...]:
        """
        Listen, and return the addresses with the ports that were taken.

        Raises:
            SettingsError: An address is in use or cannot be listened on.
        """
        for address in self._addresses:
            self._bound.append(self._bind(address))
        self._server.start()
        return tuple(self._bound)

    def set_serving(self, is_serving: bool) -> None:
        """Say in the health service whether decisions can be given."""
        self._health.set_serving(is_serving)

    def stop(self, grace: float) -> None:
        """Take no more calls, and let those under way end within *grace* seconds."""
        self._health.enter_graceful_shutdown()
        has_ended = self._server.stop(grace)
        self._streams.end()
        self._calls.wait_for_end(has_ended, grace)
        # What is left are streams that nobody means to end, such as those that watch our health.
        self._server.stop(0).wait(1)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._streams.close()
        for address in self._bound:
            # Only our own: an address that was not free belongs to somebody else.
            if isinstance(address, UnixAddress):
                remove_socket_file(address)

    def _bind(self, address: Address) -> Address:
        # grpcio takes over the socket of a live process without a word, and tells no cause of a failure.
        ensure_free(address)
        try:
            if isinstance(address, UnixAddress):
                with guarded_socket_file(address):
                    self._server.add_insecure_port(str(address))
                return address
            if self._tls is None:
                port = self._server.add_insecure_port(str(address))
            else:
                port = self._server.add_secure_port(str(address), server_credentials(self._tls, self._log))
        except RuntimeError:
            raise SettingsError(f"cannot listen on `{address}`", help="name another address") from None
        return TcpAddress(address.host, port)

    def _handler(self, service: str, name: str, function: Method) -> grpc.RpcMethodHandler[bytes, bytes]:
        method, method_path = f"{service.rpartition('.')[2]}/{name}", f"/{service}/{name}"
        metrics, log, calls, authenticate = self._metrics, self._log, self._calls, self._authenticate

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            with calls:
                return answer_counted(request, context)

        def answer_counted(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                # The guard has let the call through; whose it is does not travel from there to here.
                with made_by(_caller_of(authenticate, method_path, context)):
                    response = function(request)
            except Exception as error:
                code, status = told(error, method=method, log=log)
                fault = fault_answer(name, request) if is_ours(error) else None
                if fault is None:
                    metrics.record_rpc(method, code.name)
                    abort(context, status)
                response, count = fault
                metrics.record_fault_denials(count)
            metrics.record_rpc(method, "OK")
            return response

        return grpc.unary_unary_rpc_method_handler(answer)


class _Calls:
    """
    Counts the calls under way.

    Thread-safety: locked.
    """

    #: Seconds without a call after which there are none on their way from the network to a thread.
    _QUIET = 0.2

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1

    def wait_for_end(self, has_ended: threading.Event, longest: float) -> None:
        """Wait until there have been no calls for a while, or *has_ended* says so; at most *longest* seconds."""
        now = time.monotonic()
        latest, quiet_since = now + longest, now
        while now < latest and now < quiet_since + self._QUIET:
            if has_ended.wait(0.02):
                return
            now = time.monotonic()
            if self._count:
                quiet_since = now


class _Guard(grpc.ServerInterceptor):
    """
    Lets nobody through who shows no credential, except to health and to sign-in.

    Thread-safety: immutable.
    """

    def __init__(self, authenticate: Authenticate, metrics: RpcMetrics) -> None:
        self._authenticate = authenticate
        self._metrics = metrics

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Pass the call on, or answer it with UNAUTHENTICATED."""
        method = handler_call_details.method
        if is_open(method):
            return continuation(handler_call_details)
        try:
            self._authenticate(authorization_of(handler_call_details.invocation_metadata or ()), "")
        except SidecarError as error:
            handler = continuation(handler_call_details)
            # What nobody serves has no name here: callers could make up any number of them.
            path = method.rpartition(".")[2] if handler is not None else "unknown"
            self._metrics.record_rpc(path, status_code(error).name)
            return _refusal(handler, status_of(error))
        return continuation(handler_call_details)


def _caller_of(authenticate: Authenticate | None, method: str, context: grpc.ServicerContext) -> Caller:
    peer = peer_name(context.peer())
    if authenticate is None:
        return Caller.administrator(peer)
    if is_open(method):
        return Caller.anonymous(peer)
    return authenticate(authorization_of(context.invocation_metadata()), peer)


def _refusal(
    handler: grpc.RpcMethodHandler[Any, Any] | None, status: status_pb2.Status
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler of the same shape as *handler* that does nothing but refuse."""

    def refuse(_request: Any, context: grpc.ServicerContext) -> NoReturn:
        abort(context, status)

    if handler is not None and handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse)
    return grpc.unary_unary_rpc_method_handler(refuse)
