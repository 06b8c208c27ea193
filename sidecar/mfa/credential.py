# SPDX-License-Identifier: Apache-2.0
"""
What stays of a ceremony: the credential that a registration gives, and what an assertion proves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class AttestationType(StrEnum):
    """
    What an attestation statement proves by itself (WebAuthn Level 3, section 6.5.3).

    Attributes:
        NONE: Nothing.
        SELF: That the authenticator holds the credential's private key.
        CERTIFIED: That the key of the first certificate vouches for the credential. Who made that certificate is
            known only where it leads to a trusted root.
        NOT_EVALUATED: The statement was not looked at.
    """

    NONE = "none"
    SELF = "self"
    CERTIFIED = "certified"
    NOT_EVALUATED = "not evaluated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """
    How an authenticator described itself at registration.

    Thread-safety: immutable.

    Attributes:
        format: Attestation statement format identifier, such as ``packed``.
        algorithm: COSE algorithm that the statement is signed by, where it names one.
        certificates: X.509 certificates in DER, that of the attestation key first.
        trusted: Whether the certificates lead to a root that the deployment trusts.
    """

    format: str
    type: AttestationType
    algorithm: int | None = None
    certificates: tuple[bytes, ...] = ()
    trusted: bool = False


NOT_ATTESTED = Attestation(format="none", type=AttestationType.NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """
    A credential record (WebAuthn Level 3, section 4), to be stored by the caller.

    Thread-safety: immutable; ``dataclasses.replace`` gives the record after an assertion.

    Attributes:
        credential_id: 1 to 1023 bytes, unique among all users.
        public_key: COSE_Key, as the authenticator wrote it.
        sign_count: Of the last ceremony.
        user_verified: Whether the authenticator has verified its user in some ceremony (``uvInitialized``).
        backup_eligible: Whether the credential may leave its authenticator; never changes.
        backed_up: Whether it has, as of the last ceremony.
        transports: How to reach the authenticator, as the client said.
        aaguid: Model of the authenticator, 16 bytes; zeros where it has none. Only an attestation that is trusted
            makes more of it than a claim.
        user_handle: Of the user that it belongs to; None where the caller keeps that elsewhere.
        app_id: For a credential that was registered through the U2F API: the AppID that it belongs to.
    """

    credential_id: bytes
    public_key: bytes
    sign_count: int = 0
    user_verified: bool = False
    backup_eligible: bool = False
    backed_up: bool = False
    transports: tuple[str, ...] = ()
    aaguid: bytes = bytes(16)
    user_handle: bytes | None = None
    app_id: str | None = None
    attestation: Attestation = field(default=NOT_ATTESTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """
    What an assertion proved.

    Thread-safety: immutable.

    Attributes:
        sign_count: To be stored as the credential's, by compare-and-swap with the one that was verified against.
        user_verified: Whether the authenticator verified who touched it, by PIN or body.
        backed_up: To be stored as the credential's.
        sign_count_regressed: The counter did not rise, and the caller had said that this is to be let through.
        used_app_id: The assertion was made under the credential's AppID.
    """

    sign_count: int
    user_verified: bool
    backed_up: bool
    sign_count_regressed: bool = False
    used_app_id: bool = False
