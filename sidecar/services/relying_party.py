# SPDX-License-Identifier: Apache-2.0
"""
What security keys are registered for, what is asked of them, and how browsers are told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sidecar.mfa.credential import Credential
from sidecar.mfa.options import UserVerification, creation_options, request_options
from sidecar.mfa.policy import RECORD_ONLY, AttestationPolicy

#: SPEC: WebAuthn Level 3, section 14.6.1: a user handle tells nothing about its user.
HANDLE_BYTES = 32


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """
    The relying party of every ceremony.

    Thread-safety: immutable.

    Attributes:
        id: A host name.
        origins: Where keys may be used, letter for letter.
        current_policy: Gives what a key has to prove about itself, as the operator's files say now.
        requires_user_verification: Whether every proof needs a PIN or the like.
        allows_sign_count_regression: Whether a counter that falls is only told of.
    """

    id: str
    origins: tuple[str, ...]
    current_policy: Callable[[], AttestationPolicy] = field(default=lambda: RECORD_ONLY)
    requires_user_verification: bool = False
    allows_sign_count_regression: bool = False

    def creation_options_json(
        self, challenge: bytes, *, user_name: str, user_handle: bytes, known: Sequence[Credential]
    ) -> str:
        """
        Return what a browser needs to register a key.

        Args:
            known: Credentials of the user; a key that holds one of them is not registered again.
        """
        return json.dumps(
            creation_options(
                challenge=challenge,
                rp_id=self.id,
                rp_name=self.id,
                user_handle=user_handle,
                user_name=user_name,
                user_display_name=user_name,
                exclude_credentials=known,
                user_verification=self._user_verification(is_required=False),
                attestation_mode=self.current_policy().mode,
            )
        )

    def request_options_json(
        self, challenge: bytes, *, known: Sequence[Credential], require_user_verification: bool
    ) -> str:
        """Return what a browser needs to prove one of the *known* keys."""
        return json.dumps(
            request_options(
                challenge=challenge,
                rp_id=self.id,
                allow_credentials=known,
                user_verification=self._user_verification(is_required=require_user_verification),
            )
        )

    def _user_verification(self, *, is_required: bool) -> UserVerification:
        # "preferred" makes some clients refuse a key that could have a PIN and has none.
        return "required" if is_required or self.requires_user_verification else "discouraged"
