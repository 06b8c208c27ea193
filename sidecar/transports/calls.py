# SPDX-License-Identifier: Apache-2.0
"""
Where the call comes from that this thread is working on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import unquote

from sidecar.services.callers import Caller

_peer: ContextVar[str] = ContextVar("peer", default="")


@contextmanager
def coming_from(peer: str) -> Iterator[None]:
    """Say where the calls inside the block come from, as gRPC writes it."""
    token = _peer.set(unquote(peer)[:256])
    try:
        yield
    finally:
        _peer.reset(token)


def current_caller() -> Caller:
    """
    Return who makes the call.

    Nobody but the administrator gets past the guard of the management listener.
    """
    return Caller.administrator(_peer.get())
