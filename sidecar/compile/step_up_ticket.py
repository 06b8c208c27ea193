# SPDX-License-Identifier: Apache-2.0
"""
The form of a step-up ticket: what ``Check`` seals and whoever begins the challenge redeems.

Base64url without padding of a version byte, the id of the sealing key (4 bytes), a nonce (12), the
content sealed with AES-256-GCM, and the tag (16); version and key id are authenticated with it. The
content, little-endian: when it ends (u64, milliseconds since the epoch), the access key id of the session
(20 bytes), flags (u8), methods (u8, a bit for each ``MfaMethod``), greatest age of the proof in seconds (u32), then
action, resource and return address, each with its length before it (u16).
"""

from __future__ import annotations

#: Tells a ticket from a session token, which is sealed with the same keys.
TICKET_VERSION = 2
LIFETIME_MS = 5 * 60 * 1000

#: The proof holds for exactly the action and resource.
FOR_CALL = 1
HAS_MAX_AGE = 2
USER_VERIFICATION = 4

MAX_RETURN_ADDRESS = 2048
