# SPDX-License-Identifier: Apache-2.0
"""
What security keys are registered for, and what is asked of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from sidecar.mfa import options
from sidecar.mfa.credential import Credential
from sidecar.mfa.policy import RECORD_ONLY, AttestationMode, AttestationPolicy


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """
    The relying party of every ceremony.

    Thread-safety: immutable.

    Attributes:
        id: A host name.
        origins: Where keys may be used, letter for letter.
        attestation_policy: What a key has to prove about itself.
        requires_user_verification: Whether every proof needs a PIN or the like.
        allows_sign_count_regression: Whether a counter that falls is only told of.
    """

    id: str
    origins: tuple[str, ...]
    attestation_policy: AttestationPolicy = field(default=RECORD_ONLY)
    requires_user_verification: bool = False
    allows_sign_count_regression: bool = False
