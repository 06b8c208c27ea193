# SPDX-License-Identifier: Apache-2.0
"""
Who makes the call that this thread is working on, and where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import unquote

from sidecar.services.callers import Caller

_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def peer_name(peer: str) -> str:
    """
    Return where a call comes from, as gRPC writes it, fit for a record.

    >>> peer_name("ipv6:%5B::1%5D:4711")
    'ipv6:[::1]:4711'
    """
    return unquote(peer)[:256]


@contextmanager
def made_by(caller: Caller) -> Iterator[None]:
    """Say who makes the calls inside the block."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def current_caller() -> Caller:
    """
    Return who makes the call: the administrator, the bearer of a session, or, where a call needs no credential, nobody.

    Nobody else gets past the guard of the management listener.
    """
    return _caller.get() or Caller.anonymous("")
