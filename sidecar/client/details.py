# SPDX-License-Identifier: Apache-2.0
"""
The rich status that travels with a call that failed.
"""

from __future__ import annotations

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

_DETAILS = "grpc-status-details-bin"


def status_details(error: grpc.RpcError) -> status_pb2.Status | None:
    """Return the rich status that travelled with *error*, if any."""
    # What grpcio raises for a call that failed is that call, too.
    call: grpc.Call = error  # type: ignore[assignment]
    for name, value in call.trailing_metadata() or ():
        if name == _DETAILS and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None
