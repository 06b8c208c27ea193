# SPDX-License-Identifier: Apache-2.0
"""
What becomes of an exception that a method raises: a status for the caller, and a line in the log where it is our fault.
"""

from __future__ import annotations

from secrets import token_hex
from typing import NoReturn

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from sidecar.model.errors import InternalError, SidecarError
from sidecar.services.log import Log
from sidecar.transports.status import internal_status, status_code, status_of


def is_ours(error: Exception) -> bool:
    """Say whether *error* is a fault of our own, whose cause is for the log alone."""
    return isinstance(error, InternalError) or not isinstance(error, SidecarError)


def told(error: Exception, *, method: str, log: Log) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """Return what the caller is told of *error*; a fault of our own is logged with its cause."""
    if isinstance(error, SidecarError) and not isinstance(error, InternalError):
        return status_code(error), status_of(error)
    error_id = token_hex(8)
    cause = error.cause if isinstance(error, InternalError) else error
    log.error("rpc_failed", method=method, error_id=error_id, cause=repr(cause), exc_info=error)
    return grpc.StatusCode.INTERNAL, internal_status(error_id)


def abort(context: grpc.ServicerContext, status: status_pb2.Status) -> NoReturn:
    """End the call with *status*; its details travel in the trailer."""
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("unreachable: the line above raises")
