# SPDX-License-Identifier: Apache-2.0
"""Attestation format ``none`` (WebAuthn Level 3, section 8.7)."""

from __future__ import annotations

from sidecar.mfa.attestation.statement import Given
from sidecar.mfa.credential import NOT_ATTESTED, Attestation
from sidecar.model.errors import AttestationStatementMalformedError

FORMAT = "none"


def verify(given: Given) -> Attestation:
    """
    Return that there is no attestation.

    Raises:
        AttestationStatementMalformedError: There is a statement all the same.
    """
    if given.statement:
        raise AttestationStatementMalformedError("a statement of format `none` is not empty")
    return NOT_ATTESTED
