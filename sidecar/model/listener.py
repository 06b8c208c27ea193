# SPDX-License-Identifier: Apache-2.0
"""
The closed sets of words in which the data listener tells of itself.

The numbers are shared with the compiled core; the words are metric labels and stable.
"""

from __future__ import annotations

from enum import IntEnum


class _Word(IntEnum):
    @property
    def word(self) -> str:
        """The stable snake_case word, as in metric labels."""
        return self.name.lower()


class RpcMethod(IntEnum):
    """Methods that the data listener tells apart."""

    UNKNOWN = 0
    AUTHORIZE = 1
    BATCH_AUTHORIZE = 2
    HEALTH_CHECK = 3
    CHECK = 4

    @property
    def word(self) -> str:
        """The name in metric labels: that of the method, as on the wire."""
        return _METHOD_WORDS[self]


_METHOD_WORDS = {
    RpcMethod.UNKNOWN: "unknown",
    RpcMethod.AUTHORIZE: "Authorize",
    RpcMethod.BATCH_AUTHORIZE: "BatchAuthorize",
    RpcMethod.HEALTH_CHECK: "Health.Check",
    RpcMethod.CHECK: "Check",
}


class RpcStatus(IntEnum):
    """Status codes of gRPC (github.com/grpc/grpc, doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ListenerLimit(_Word):
    """Limits of the data listener that a peer can run into."""

    #: Connections open at once.
    CONNECTIONS = 0
    #: File descriptors of the process.
    DESCRIPTORS = 1
    #: Streams open at once, on a connection or on a worker.
    STREAMS = 2
    #: Size of a header list.
    HEADER_BYTES = 3
    #: Size of one message.
    MESSAGE_BYTES = 4
    #: Memory for messages that do not fit into a stream's own room.
    MESSAGE_MEMORY = 5
    #: Time without a stream.
    IDLE = 6
    #: Time until the connection preface and the first SETTINGS are there.
    HANDSHAKE = 7
    #: Time until a request is there as a whole.
    SLOW_REQUEST = 8
    #: Time until an answer has been taken.
    SLOW_READER = 9
    #: Streams that the peer resets.
    RESETS_RECEIVED = 10
    #: Streams that the peer's mistakes make us reset.
    RESETS_SENT = 11
    #: Frames that carry no request: SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown ones.
    CONTROL_FRAMES = 12
    #: CONTINUATION frames of one header block.
    CONTINUATIONS = 13
    #: PING frames without a request in between.
    PINGS = 14


class CloseReason(_Word):
    """Why a connection of the data listener ended."""

    #: The peer closed it.
    PEER = 0
    #: Reading or writing failed, as after a peer's crash.
    BROKEN = 1
    #: The peer broke the rules of HTTP/2.
    PROTOCOL_ERROR = 2
    #: No memory was left for it.
    NO_MEMORY = 3
    #: We are stopping, and it had no call under way.
    DRAINED = 4
    #: We were stopping, and its calls did not end in time.
    STOPPED = 5
    IDLE = 6
    HANDSHAKE = 7
    SLOW_READER = 8
    HEADER_BYTES = 9
    RESETS_RECEIVED = 10
    RESETS_SENT = 11
    CONTROL_FRAMES = 12
    CONTINUATIONS = 13
    PINGS = 14
