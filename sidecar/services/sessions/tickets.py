# SPDX-License-Identifier: Apache-2.0
"""
Opening step-up tickets, which the data path seals with the keys of sessions.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable

from sidecar.compile.session_claims import NONCE_BYTES, TAG_BYTES
from sidecar.compile.step_up_ticket import (
    LIFETIME_MS,
    MAX_TICKET,
    TICKET_HEADER_BYTES,
    TICKET_VERSION,
    decode_ticket,
    ticket_invalid,
)
from sidecar.model.challenge import StepUpTicket
from sidecar.model.session import CLOCK_SKEW_MS
from sidecar.services.sessions.keys import SessionKeyring

_TEXT = re.compile(r"[A-Za-z0-9_-]+")


class TicketOpener:
    """
    Opens the seal of a ticket. Whose it is, and whether it is over, is for those to look at who redeem it.

    Thread-safety: that of the keyring's source.
    """

    def __init__(self, *, ring: Callable[[], SessionKeyring], now: Callable[[], int]) -> None:
        """
        Args:
            ring: Gives the keys as they are now.
            now: Gives nanoseconds since the epoch.
        """
        self._ring = ring
        self._now = now

    def open(self, text: str) -> StepUpTicket:
        """
        Return what a ticket says.

        Raises:
            TicketInvalidError: It is none, its key is gone, or it comes from the future.
        """
        # A sidecar that nobody shows a ticket to has no cryptography in its memory.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        raw = _decode(text)
        header, rest = raw[:TICKET_HEADER_BYTES], raw[TICKET_HEADER_BYTES:]
        key = self._ring().find(header[1:])
        if header[0] != TICKET_VERSION or key is None:
            raise ticket_invalid()
        try:
            data = AESGCM(key.seal).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], header)
        except InvalidTag:
            raise ticket_invalid() from None
        ticket = decode_ticket(data, hashlib.sha256(raw).digest())
        # The challenge is what remembers that a ticket was redeemed, and is not kept for ever.
        if ticket.expires_at_ms > self._now() // 1_000_000 + LIFETIME_MS + CLOCK_SKEW_MS:
            raise ticket_invalid()
        return ticket


def _decode(text: str) -> bytes:
    """Return the bytes of a ticket, which has one spelling alone: two would be two tickets."""
    if len(text) > MAX_TICKET or _TEXT.fullmatch(text) is None:
        raise ticket_invalid()
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise ticket_invalid() from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii") != text:
        raise ticket_invalid()
    if len(raw) < TICKET_HEADER_BYTES + NONCE_BYTES + TAG_BYTES:
        raise ticket_invalid()
    return raw
