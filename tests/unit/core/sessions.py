# SPDX-License-Identifier: Apache-2.0
"""Sessions of alice, and of hers of a role, for the tests of the core."""

from __future__ import annotations

from typing import Any

from sidecar.model.decision import MfaMethod
from sidecar.model.session import MfaProof, SessionClaims, SessionKind
from tests.conformance.cases import ACCOUNT, ROLE_ID, USER_ARN, USER_ID
from tests.tokens import ACCESS_KEY_ID

#: 2026-01-01T00:00:00Z, as `tests.unit.core.asking.NOW`.
NOW_MS = 1_767_225_600_000
ROLE_PRINCIPAL = f"arn:aws:sts::{ACCOUNT}:assumed-role/worker"


def claims(kind: SessionKind = SessionKind.SIGN_IN, **changes: Any) -> SessionClaims:
    """Give the claims of alice's session, or of hers of the role."""
    is_role = kind is SessionKind.ROLE
    wanted: dict[str, Any] = {
        "access_key_id": ACCESS_KEY_ID,
        "kind": kind,
        "lineage": bytes(range(16)),
        "principal": ROLE_PRINCIPAL if is_role else USER_ARN,
        "principal_id": ROLE_ID if is_role else USER_ID,
        "session_name": "session1" if is_role else "",
        "issued_at_ms": NOW_MS - 60_000,
        "expires_at_ms": NOW_MS + 3_600_000,
        "lineage_issued_at_ms": NOW_MS - 120_000,
        "person": USER_ARN,
        "person_id": USER_ID,
        **changes,
    }
    return SessionClaims(**wanted)


def proof(seconds_ago: float = 10, **changes: Any) -> MfaProof:
    """Give a proof by security key."""
    wanted: dict[str, Any] = {
        "method": MfaMethod.WEBAUTHN,
        "proved_at_ms": NOW_MS - round(seconds_ago * 1000),
        "serial_number": f"arn:aws:iam::{ACCOUNT}:u2f/user/alice/key",
        "user_verified": False,
        **changes,
    }
    return MfaProof(**wanted)
