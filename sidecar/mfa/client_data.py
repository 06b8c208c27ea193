# SPDX-License-Identifier: Apache-2.0
"""
Client data: what a browser says about a ceremony, and has the authenticator sign (WebAuthn Level 3, section 5.8.1).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection
from typing import NamedTuple

from sidecar.mfa.encoding import decode_json, encode_base64url
from sidecar.model.errors import (
    CeremonyTypeMismatchError,
    ChallengeMismatchError,
    ClientDataMalformedError,
    CrossOriginError,
    OriginMismatchError,
    TokenBindingInvalidError,
    TopOriginMismatchError,
)

CREATE = "webauthn.create"
GET = "webauthn.get"

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_TOKEN_BINDING_STATUS = frozenset({"present", "supported", "not-supported"})


class ClientData(NamedTuple):
    """
    The members of client data that a relying party looks at.

    Attributes:
        top_origin: Origin of the page around the frame that the ceremony ran in; None where there was no frame.
    """

    type: str
    challenge: str
    origin: str
    cross_origin: bool
    top_origin: str | None


def read_client_data(data: bytes) -> ClientData:
    """
    Return what *data* says; members that nobody knows are left aside, as browsers add some on purpose.

    Raises:
        ClientDataMalformedError: It is not UTF-8, not a JSON object, or a member is missing or of the wrong type.
        DuplicateKeyError: A member stands twice.
        TokenBindingInvalidError: There is a token binding without the shape of one.
    """
    # SPEC: WebAuthn Level 3, section 7.1, step 5, and 7.2, step 8: a byte order mark is stripped.
    try:
        found = decode_json(data.removeprefix(_BYTE_ORDER_MARK).decode("utf-8"))
    except ValueError:
        raise ClientDataMalformedError("client data is not JSON in UTF-8") from None
    if type(found) is not dict:
        raise ClientDataMalformedError("client data is not a JSON object")
    challenge = _text(found, "challenge")
    if not _BASE64URL.fullmatch(challenge):
        raise ClientDataMalformedError("`challenge` is not base64url")
    cross_origin = found.get("crossOrigin", False)
    if type(cross_origin) is not bool:
        raise ClientDataMalformedError("`crossOrigin` is not a boolean")
    top_origin = _text(found, "topOrigin") if "topOrigin" in found else None
    if "tokenBinding" in found:
        _read_token_binding(found["tokenBinding"])
    return ClientData(_text(found, "type"), challenge, _text(found, "origin"), cross_origin, top_origin)


def _text(found: dict[str, object], name: str) -> str:
    value = found.get(name)
    if type(value) is not str:
        raise ClientDataMalformedError(f"`{name}` is missing or not a string")
    if not value:
        raise ClientDataMalformedError(f"`{name}` is empty")
    return value


def _read_token_binding(found: object) -> None:
    # SPEC: WebAuthn Level 2, section 5.8.1. Level 3 has no use for it any more, but a shape that is wrong is a client
    # that makes its client data up.
    if type(found) is not dict:
        raise TokenBindingInvalidError("`tokenBinding` is not an object")
    status = found.get("status")
    if type(status) is not str or status not in _TOKEN_BINDING_STATUS:
        raise TokenBindingInvalidError("`tokenBinding.status` is none of present, supported, not-supported")
    if status == "present" and (type(found.get("id")) is not str or not found["id"]):
        raise TokenBindingInvalidError("`tokenBinding.id` is missing")


def verify_client_data(
    client: ClientData,
    *,
    expected_type: str,
    expected_challenge: bytes,
    expected_origins: Collection[str],
    allow_cross_origin: bool,
    expected_top_origins: Collection[str] | None,
) -> None:
    """
    Return if *client* speaks of the ceremony that is expected (WebAuthn Level 3, 7.1 steps 7-11, 7.2 steps 10-14).

    Raises:
        CeremonyTypeMismatchError: It is the other kind of ceremony, or none.
        ChallengeMismatchError: It answers another challenge.
        OriginMismatchError: It ran on another origin.
        CrossOriginError: It ran in a frame of another origin, and *allow_cross_origin* is false.
        TopOriginMismatchError: The page around that frame is not in *expected_top_origins*.
    """
    # SPEC: WebAuthn Level 3, section 7.1, step 7, and 7.2, step 10.
    if client.type != expected_type:
        raise CeremonyTypeMismatchError(f"the client data is not for {expected_type}")
    # SPEC: WebAuthn Level 3, section 7.1, step 8, and 7.2, step 11: the texts are compared, not what they stand for.
    if not hmac.compare_digest(client.challenge.encode("ascii"), encode_base64url(expected_challenge).encode("ascii")):
        raise ChallengeMismatchError("the challenge is not the one that was given out")
    # SPEC: WebAuthn Level 3, section 7.1, step 9, and 7.2, step 12, and section 13.4.9.
    # A single string is a collection of letters to Python, and would match its own parts.
    if client.origin not in ((expected_origins,) if isinstance(expected_origins, str) else expected_origins):
        raise OriginMismatchError(f"origin `{_shown(client.origin)}` is not expected")
    # SPEC: WebAuthn Level 3, section 7.1, step 10, and 7.2, step 13.
    if client.cross_origin and not allow_cross_origin:
        raise CrossOriginError("the ceremony ran in a frame of another origin")
    # SPEC: WebAuthn Level 3, section 7.1, step 11, and 7.2, step 14.
    if client.top_origin is not None:
        if not allow_cross_origin or not client.cross_origin:
            raise CrossOriginError("the client data names a page around a frame that is not expected")
        if expected_top_origins is not None and client.top_origin not in (
            (expected_top_origins,) if isinstance(expected_top_origins, str) else expected_top_origins
        ):
            raise TopOriginMismatchError(f"page `{_shown(client.top_origin)}` around the frame is not expected")


def _shown(text: str) -> str:
    """Return *text* fit for one line of a log: short, and in ASCII."""
    return text[:120].encode("ascii", "backslashreplace").decode("ascii").replace("\n", "\\n").replace("\r", "\\r")
