# SPDX-License-Identifier: Apache-2.0
"""
What a deployment asks of the authenticators that its people enrol, and whether an attestation is enough for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from sidecar.mfa.certificates import Certificate, read_certificate, verify_chain
from sidecar.mfa.credential import Attestation, AttestationType
from sidecar.mfa.mds import Metadata
from sidecar.model.errors import AaguidNotListedError, AttestationNotAcceptedError, AttestationUntrustedError

#: Formats whose makers send the root along with the chain.
_ROOT_INCLUDED = frozenset({"android-key"})


class AttestationMode(StrEnum):
    """
    How much an attestation has to prove.

    Attributes:
        IGNORE: Nothing: statements are not looked at, in whatever format they are.
        RECORD: That it is a correct statement of a known format, if only of ``none``. It is kept with the credential.
        REQUIRE_LISTED: That it is a correct statement, not of ``none``, for a model that is listed. Only an honest
            client is held to that: whoever makes certificates of their own can name any model.
        REQUIRE_TRUSTED: That its certificates lead to a root that the FIDO metadata or the deployment names. With a
            list of models, that the model stands there as well.
    """

    IGNORE = "ignore"
    RECORD = "record"
    REQUIRE_LISTED = "require_listed"
    REQUIRE_TRUSTED = "require_trusted"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationPolicy:
    """
    What a deployment asks of authenticators.

    Thread-safety: immutable.

    Attributes:
        allowed_aaguids: Models that are accepted, each of 16 bytes; None accepts all.
        metadata: Of the FIDO Metadata Service. Where there is some, the statuses of a model are obeyed in every mode
            but IGNORE, and a model that it describes has to attest the way it is described.
        trust_anchors: Further roots, such as those of Apple and of TPM vendors, which the metadata does not hold.
        require_zero_u2f_aaguid: Refuse U2F keys that name a model, as FIDO's conformance list asks.
    """

    mode: AttestationMode = AttestationMode.RECORD
    allowed_aaguids: frozenset[bytes] | None = None
    metadata: Metadata | None = None
    trust_anchors: tuple[Certificate, ...] = ()
    require_zero_u2f_aaguid: bool = False


#: Statements have to be correct, and nobody asks who made them.
RECORD_ONLY = AttestationPolicy()


def evaluate(
    attestation: Attestation, policy: AttestationPolicy, *, aaguid: bytes, algorithm: int, now: float | None
) -> Attestation:
    """
    Return *attestation*, saying whether it is trusted, if *policy* accepts it (WebAuthn Level 3, 7.1 steps 23, 24).

    Args:
        algorithm: COSE algorithm of the credential.
        now: Seconds since the epoch. Only certificates that are followed to a root need it.

    Raises:
        AaguidNotListedError: The model is not listed.
        AttestationNotAcceptedError: The kind of attestation is not enough, or not the model's.
        AttestationUntrustedError: The certificates do not lead to a trusted root.
        AttestationExpiredError: One of them is not valid at this time.
        AuthenticatorRevokedError: The metadata says that the model is not to be relied on.
        MetadataExpiredError: The metadata is older than it may be.
    """
    if policy.mode is AttestationMode.IGNORE:
        return attestation
    required = policy.mode in (AttestationMode.REQUIRE_LISTED, AttestationMode.REQUIRE_TRUSTED)
    if required and attestation.type is AttestationType.NONE:
        raise AttestationNotAcceptedError("the authenticator did not attest itself")
    if policy.mode is AttestationMode.REQUIRE_LISTED and policy.allowed_aaguids is None:
        raise AaguidNotListedError("no authenticator model is listed")
    if policy.allowed_aaguids is not None and aaguid not in policy.allowed_aaguids:
        raise AaguidNotListedError("the authenticator model is not listed")
    if policy.metadata is None and not policy.trust_anchors:
        if policy.mode is AttestationMode.REQUIRE_TRUSTED:
            raise AttestationUntrustedError("no root is trusted here")
        return attestation
    if now is None:
        raise AttestationUntrustedError("without a clock no certificate can be followed to a root")
    chain = tuple(read_certificate(der) for der in attestation.certificates)
    entry = None
    if policy.metadata is not None:
        policy.metadata.verify_fresh(now)
        entry = policy.metadata.find(aaguid, chain[0] if chain else None)
    if entry is not None:
        # A model that says itself to be one of those needs no further proof.
        entry.verify_status(chain)
        if attestation.type is not AttestationType.NONE:
            entry.verify_kind(attestation, algorithm)
    anchors = (*(entry.roots if entry is not None else ()), *policy.trust_anchors)
    if chain and anchors:
        try:
            verify_chain(chain, anchors, now=now, may_hold_root=attestation.format in _ROOT_INCLUDED)
        except AttestationUntrustedError:
            # What the metadata describes has to hold in every mode; roots of the deployment's own only where asked for.
            if entry is not None or policy.mode is AttestationMode.REQUIRE_TRUSTED:
                raise
        else:
            return replace(attestation, trusted=True)
    # What has no certificate, as self attestation, leads nowhere.
    if policy.mode is AttestationMode.REQUIRE_TRUSTED:
        raise AttestationUntrustedError("the attestation does not lead to a trusted root")
    return attestation
