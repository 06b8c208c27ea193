# SPDX-License-Identifier: Apache-2.0
"""
The form of a step-up ticket: what ``Check`` seals and whoever begins the challenge redeems.

Base64url without padding of a version byte, the id of the sealing key (4 bytes), a nonce (12), the
content sealed with AES-256-GCM, and the tag (16); version and key id are authenticated with it. The
content, little-endian: when it ends (u64, milliseconds since the epoch), the access key id of the session (20 bytes),
flags (u8), methods (u8, a bit for each ``MfaMethod``), greatest age of the proof in seconds (u32), then action,
resource and return address, each with its length before it (u16).
"""

from __future__ import annotations

import struct

from sidecar.compile.session_claims import ACCESS_KEY_ID_BYTES, KEY_ID_BYTES, NONCE_BYTES, TAG_BYTES
from sidecar.model.challenge import StepUpTicket
from sidecar.model.decision import MfaMethod
from sidecar.model.errors import TicketInvalidError
from sidecar.model.request import MAX_ACTION, MAX_RESOURCE

#: Tells a ticket from a session token, which is sealed with the same keys.
TICKET_VERSION = 2
LIFETIME_MS = 5 * 60 * 1000

#: The proof holds for exactly the action and resource.
FOR_CALL = 1
HAS_MAX_AGE = 2
USER_VERIFICATION = 4

MAX_RETURN_ADDRESS = 2048

#: What is authenticated and not sealed.
TICKET_HEADER_BYTES = 1 + KEY_ID_BYTES
_HEAD = struct.Struct(f"<Q{ACCESS_KEY_ID_BYTES}sBBI")
_LENGTH = struct.Struct("<H")
_MAX_CONTENT = _HEAD.size + 3 * _LENGTH.size + MAX_ACTION + MAX_RESOURCE + MAX_RETURN_ADDRESS
#: Letters of the longest ticket.
MAX_TICKET = -(-4 * (TICKET_HEADER_BYTES + NONCE_BYTES + _MAX_CONTENT + TAG_BYTES) // 3)


def decode_ticket(data: bytes, digest: bytes) -> StepUpTicket:
    """
    Return what the content of a ticket says, once its seal was found whole.

    Args:
        digest: Names the ticket from now on.

    Raises:
        TicketInvalidError: Another version of this program sealed it.
    """
    if len(data) < _HEAD.size:
        raise ticket_invalid()
    expires_at_ms, access_key_id, flags, methods, max_age = _HEAD.unpack_from(data)
    texts, at = [], _HEAD.size
    for limit in (MAX_ACTION, MAX_RESOURCE, MAX_RETURN_ADDRESS):
        text, at = _read_text(data, at, limit)
        texts.append(text)
    action, resource, return_address = texts
    is_known = not flags & ~(FOR_CALL | HAS_MAX_AGE | USER_VERIFICATION) and 0 < methods < 1 << len(MfaMethod)
    if at != len(data) or not is_known or not access_key_id.isalnum() or not (action and resource):
        raise ticket_invalid()
    return StepUpTicket(
        access_key_id=access_key_id.decode("ascii"),
        expires_at_ms=expires_at_ms,
        action=action,
        resource=resource,
        return_address=return_address,
        methods=tuple(method for method in MfaMethod if methods >> method & 1),
        max_age_seconds=max_age if flags & HAS_MAX_AGE else None,
        user_verification=bool(flags & USER_VERIFICATION),
        is_for_call=bool(flags & FOR_CALL),
        digest=digest,
    )


def ticket_invalid() -> TicketInvalidError:
    """Return the error of a text that is no ticket: what is wrong with it is of use to those alone who make some up."""
    return TicketInvalidError(
        "`step_up_ticket` is none that was sealed here",
        field="step_up_ticket",
        help="send it letter for letter as the refused request was told it; a new refusal has a new one",
    )


def _read_text(data: bytes, at: int, limit: int) -> tuple[str, int]:
    """Return the text at a place, and the place after it."""
    start = at + _LENGTH.size
    if start > len(data):
        raise ticket_invalid()
    (length,) = _LENGTH.unpack_from(data, at)
    end = start + length
    if length > limit or end > len(data):
        raise ticket_invalid()
    try:
        text = data[start:end].decode("utf-8")
    except UnicodeDecodeError:
        raise ticket_invalid() from None
    if "\0" in text:
        # No route gives such a value, and no database keeps one.
        raise ticket_invalid()
    return text, end
