# SPDX-License-Identifier: Apache-2.0
"""
What a session adds: when it does not count, which context keys it has, what its kind may call.

``docs/semantics.md``, section 5, for a token whose seal held and that was not revoked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.model.decision import Reason
from sidecar.model.policy import Policy
from sidecar.model.request import AuthorizationRequest, ContextValue
from sidecar.model.session import BOUND_PROOF_MS, CLOCK_SKEW_MS, MfaProof, SessionClaims, SessionKind
from sidecar.model.snapshot import Snapshot
from tests.oracle.patterns import lower
from tests.oracle.request import Caller


@dataclass(frozen=True)
class Session:
    """
    A session, with its policies still as documents.

    Attributes:
        policies: None where it has none.
    """

    claims: SessionClaims
    policies: tuple[Policy, ...] | None = None


@dataclass(frozen=True)
class SessionRequest(AuthorizationRequest):
    """A request with a token, of which it is known what it says."""

    session: Session | None = None


def session_of(request: AuthorizationRequest) -> Session | None:
    """Return the session whose token *request* carries."""
    return request.session if isinstance(request, SessionRequest) else None


def refusal(claims: SessionClaims, now_ms: int) -> Reason | None:
    """Return why a session does not count at this time; None: it does."""
    moments = [claims.issued_at_ms, claims.lineage_issued_at_ms]
    moments += [claims.mfa.proved_at_ms] if claims.mfa is not None else []
    moments += [claims.bound.proof.proved_at_ms] if claims.bound is not None else []
    if max(moments) > now_ms + CLOCK_SKEW_MS:
        return Reason.SESSION_INVALID
    if now_ms >= claims.expires_at_ms:
        return Reason.SESSION_EXPIRED
    return None


def speaks_for(claims: SessionClaims, snapshot: Snapshot, caller: Caller | None) -> bool:
    """Say whether principal and person of a session are those whom the snapshot knows by their names."""
    if caller is None:
        return False
    found = caller.user.user_id if caller.user is not None else caller.role.role_id if caller.role is not None else ""
    if found != claims.principal_id:
        return False
    if not claims.person:
        return True
    account = claims.person.split(":")[4]
    people = [user for known in snapshot.accounts if known.id == account for user in known.users]
    if not any(known.id == account for known in snapshot.accounts):
        return True
    return any(user.arn == claims.person and user.user_id == claims.person_id for user in people)


def proof_for(claims: SessionClaims, action: str, resource: str, now_ms: int) -> MfaProof | None:
    """Return the proof that counts for this call."""
    bound = claims.bound
    if (
        bound is not None
        and bound.action == action
        and bound.resource == resource
        and now_ms - bound.proof.proved_at_ms < BOUND_PROOF_MS
    ):
        return bound.proof
    return claims.mfa


def kind_forbids(
    claims: SessionClaims, action: str, proof: MfaProof | None, override: Mapping[str, ContextValue]
) -> tuple[bool, bool]:
    """Say whether a session of this kind may not call *action*, and whether MFA would change that."""
    service, _, name = action.partition(":")
    if claims.kind is SessionKind.ROLE:
        return service == "sts" and name in ("getsessiontoken", "getfederationtoken"), False
    if claims.kind is not SessionKind.USER:
        return False, False
    if service == "sts":
        return name not in ("assumerole", "tagsession", "setsourceidentity", "getcalleridentity"), False
    if service == "iam" and name != "passrole":
        has_mfa = proof is not None
        stated = override.get("aws:multifactorauthpresent")
        if stated is not None:
            has_mfa = len(stated.values) == 1 and lower(stated.values[0]) == "true"
        return not has_mfa, not has_mfa
    return False, False


def session_keys(claims: SessionClaims, proof: MfaProof | None, *, now_ms: int) -> dict[str, str]:
    """Return the context keys that a session adds to those of its principal; an empty one hides."""
    keys = {"aws:multifactorauthpresent": "false"}
    if proof is not None:
        keys["aws:multifactorauthpresent"] = "true"
        keys["aws:multifactorauthage"] = str(max(0, now_ms - proof.proved_at_ms) // 1000)
        keys["sidecar:mfamethod"] = proof.method.word
        keys["sidecar:mfauserverified"] = "true" if proof.user_verified else "false"
        keys["sidecar:mfadeviceserial"] = proof.serial_number
    keys["aws:sourceidentity"] = claims.source_identity
    for tag in reversed(claims.tags):
        keys["aws:principaltag/" + lower(tag.key)] = tag.value
    return keys
