# SPDX-License-Identifier: Apache-2.0
"""
Sessions from sessions: ``GetSessionToken`` and ``AssumeRole``, by the rules of AWS STS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sidecar.compile.session_policies import compile_session_policies
from sidecar.core import Image
from sidecar.model.decision import Decision, MfaMethod
from sidecar.model.directory import RoleFacts
from sidecar.model.errors import MfaError, PermissionDeniedError, RequestError
from sidecar.model.request import ContextValue
from sidecar.model.session import MfaProof, SessionClaims, SessionKind, SessionTag
from sidecar.services.callers import Caller, parse_serial, session_of
from sidecar.services.mfa import MfaServices
from sidecar.services.mfa_journal import Factor
from sidecar.services.refusals import DeviceUnknownError
from sidecar.services.sessions import rules
from sidecar.services.sessions.asking import Engine, require_allowed
from sidecar.services.sessions.role_request import RoleRequest
from sidecar.services.sessions.sealing import new_access_key_id

_GET_SESSION_TOKEN = "sts:GetSessionToken"  # noqa: S105 - the name of an action
_ASSUME_ROLE = "sts:AssumeRole"
_TAG_SESSION = "sts:TagSession"
_SET_SOURCE_IDENTITY = "sts:SetSourceIdentity"


class StsService:
    """
    Says what the session that somebody asks for would say.

    Thread-safety: that of the store.
    """

    def __init__(self, *, mfa: MfaServices, engine: Engine, now: Callable[[], int]) -> None:
        """
        Args:
            mfa: What codes are looked at with.
            engine: Asked whether a role may be assumed.
            now: Gives nanoseconds since the epoch.
        """
        self._mfa = mfa
        self._engine = engine
        self._now = now

    def get_session_token(
        self, caller: Caller, *, duration_seconds: int, serial_number: str, token_code: str
    ) -> SessionClaims:
        """
        Return what a session of the long-term caller says.

        Raises:
            RequestError: A parameter cannot be used.
            PermissionDeniedError: The caller is no long-term caller, a policy denies, or the code did not hold.
            ThrottledError: Too many proofs of the user have failed.
        """
        seconds = rules.parse_duration(duration_seconds, rules.USER_SECONDS)
        claims = session_of(caller)
        if claims.kind is not SessionKind.SIGN_IN:
            # SPEC: STS, AccessDenied: the wording is AWS's.
            raise PermissionDeniedError(
                "cannot call GetSessionToken with session credentials", help="call it in a session by password"
            )
        answer = self._engine.decide_for(caller, _GET_SESSION_TOKEN, "*")
        # SPEC: STS, GetSessionToken: it takes no permission; a policy that denies it does so.
        if answer.decision is not Decision.ALLOW and answer.decision is not Decision.IMPLICIT_DENY:
            require_allowed(answer, caller, _GET_SESSION_TOKEN, "*")
        mfa = self._prove(caller, claims, serial_number, token_code, what="get_session_token")
        issued_at_ms = self._issued_at_ms(claims)
        return SessionClaims(
            access_key_id=new_access_key_id(),
            kind=SessionKind.USER,
            lineage=claims.lineage,
            principal=claims.principal,
            principal_id=claims.principal_id,
            session_name="",
            issued_at_ms=issued_at_ms,
            expires_at_ms=issued_at_ms + 1000 * seconds,
            lineage_issued_at_ms=claims.lineage_issued_at_ms,
            person=claims.person,
            person_id=claims.person_id,
            mfa=mfa,
        )

    def assume_role(self, image: Image, caller: Caller, request: RoleRequest) -> SessionClaims:
        """
        Return what a session of a role says.

        Raises:
            RequestError: A parameter cannot be used.
            PermissionDeniedError: The caller may not, or the code did not hold.
            StepUpRequiredError: The caller may once a second factor is proved.
            ThrottledError: Too many proofs of the user have failed.
            PolicySyntaxError: A session policy is none.
            LimitExceededError: The session policies are too large.
        """
        claims = session_of(caller)
        role_arn = rules.parse_role_arn(request.role_arn)
        session_name = rules.parse_session_name(request.role_session_name)
        seconds = rules.parse_duration(request.duration_seconds, rules.ROLE_SECONDS)
        external_id = rules.parse_external_id(request.external_id)
        inherited = tuple(tag for tag in claims.tags if tag.is_transitive)
        tags = rules.parse_tags(request.tags, request.transitive_tag_keys, inherited=inherited)
        source_identity = _source_identity(claims, rules.parse_source_identity(request.source_identity))
        is_chained = claims.kind is SessionKind.ROLE
        if is_chained and seconds > rules.CHAINED_SECONDS:
            # SPEC: STS, ValidationError: the wording is AWS's.
            raise RequestError(
                "the requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
                field="duration_seconds",
            )
        policies = compile_session_policies(request.session_policies)
        role = _assumable(image, claims, role_arn)
        mfa = self._prove(caller, claims, request.serial_number, request.token_code, what="assume_role")
        override = _request_keys(
            session_name=session_name,
            external_id=external_id,
            source_identity=source_identity,
            tags=tags,
            passed=request.tags,
            mfa=mfa,
        )
        actions = [_ASSUME_ROLE]
        if tags:
            actions.append(_TAG_SESSION)
        if source_identity:
            actions.append(_SET_SOURCE_IDENTITY)
        for action in actions:
            answer = self._engine.decide_for(caller, action, role_arn, override)
            require_allowed(answer, caller, action, role_arn)
        if role is None:
            # Who is told this could also read it in the policy that allows the role.
            raise PermissionDeniedError(
                f"user `{caller.name}` is not authorized to perform {_ASSUME_ROLE} on resource `{role_arn}`"
            )
        if seconds > role.max_session_duration:
            # SPEC: STS, ValidationError: the wording is AWS's.
            raise RequestError(
                "the requested DurationSeconds exceeds the MaxSessionDuration set for this role",
                field="duration_seconds",
                help=f"it is {role.max_session_duration}",
            )
        issued_at_ms = self._issued_at_ms(claims)
        return SessionClaims(
            access_key_id=new_access_key_id(),
            kind=SessionKind.ROLE,
            lineage=claims.lineage,
            principal=role.principal,
            principal_id=role.role_id,
            session_name=session_name,
            issued_at_ms=issued_at_ms,
            expires_at_ms=issued_at_ms + 1000 * seconds,
            lineage_issued_at_ms=claims.lineage_issued_at_ms,
            person=claims.person,
            person_id=claims.person_id,
            source_identity=source_identity,
            is_chained=is_chained,
            tags=tags,
            policies=policies,
        )

    def _prove(
        self, caller: Caller, claims: SessionClaims, serial_number: str, token_code: str, *, what: str
    ) -> MfaProof | None:
        """Return what the code of the call proves; None where there is none."""
        if not serial_number and not token_code:
            return None
        if not serial_number or not token_code:
            # SPEC: STS: the wording is AWS's.
            raise RequestError(
                "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code",
                field="token_code" if serial_number else "serial_number",
            )
        parse_serial(serial_number)
        if len(token_code) != 6 or not (token_code.isascii() and token_code.isdigit()):
            raise RequestError(
                "`token_code` is not six digits",
                field="token_code",
                help="type it as the device shows it; a security key shows none, and is proved in a challenge",
            )
        if claims.kind is SessionKind.ROLE:
            # SPEC: IAM: devices belong to users, and only their own calls carry codes.
            raise _unknown_device()
        mfa = self._mfa
        now_ms = self._now_ms()
        try:
            with mfa.throttles.attempt(caller, claims.principal, Factor.TOTP, what, serial_number=serial_number):
                match = mfa.codes.match(claims.principal, token_code, now_ms=now_ms, serial_number=serial_number)
                with mfa.store.write() as connection:
                    mfa.codes.spend(connection, match)
        except DeviceUnknownError:
            raise _unknown_device() from None
        except MfaError:
            # SPEC: STS, AccessDenied: the wording is AWS's.
            raise PermissionDeniedError(
                "MultiFactorAuthentication failed with invalid MFA one time pass code",
                help="wait for the next code; each one can be used once",
            ) from None
        mfa.journal.accepted(caller, Factor.TOTP, what, user_arn=claims.principal, serial_number=serial_number)
        return MfaProof(MfaMethod.TOTP, now_ms, serial_number, user_verified=False)

    def _issued_at_ms(self, parent: SessionClaims) -> int:
        """Return when a session begins: not before the one that it grows from, which may be ahead of our clock."""
        return max(self._now_ms(), parent.issued_at_ms)

    def _now_ms(self) -> int:
        return self._now() // 1_000_000


def _source_identity(claims: SessionClaims, requested: str) -> str:
    """Return the source identity of a session that grows from that one. SPEC: STS: it cannot be changed any more."""
    if requested and claims.source_identity not in ("", requested):
        raise PermissionDeniedError("the source identity of the session was set before, and cannot be changed")
    return requested or claims.source_identity


def _assumable(image: Image, claims: SessionClaims, role_arn: str) -> RoleFacts | None:
    """Return the role, unless it is one that nobody may assume."""
    if claims.principal.endswith(":root"):
        # SPEC: STS, AccessDenied: the wording is AWS's.
        raise PermissionDeniedError("roles may not be assumed by root accounts")
    role = image.find_role(role_arn)
    # SPEC: IAM, service-linked roles: nobody but the service.
    return None if role is None or role.is_service_linked else role


def _request_keys(
    *,
    session_name: str,
    external_id: str,
    source_identity: str,
    tags: Sequence[SessionTag],
    passed: Mapping[str, str],
    mfa: MfaProof | None,
) -> dict[str, ContextValue]:
    """Return the condition keys that the call itself sets."""
    keys = {"sts:RoleSessionName": ContextValue((session_name,))}
    if external_id:
        keys["sts:ExternalId"] = ContextValue((external_id,))
    if source_identity:
        keys["sts:SourceIdentity"] = ContextValue((source_identity,))
    if passed:
        keys["aws:TagKeys"] = ContextValue(tuple(passed), multivalued=True)
        keys.update({f"aws:RequestTag/{key}": ContextValue((value,)) for key, value in passed.items()})
    transitive = tuple(tag.key for tag in tags if tag.is_transitive)
    if transitive:
        keys["sts:TransitiveTagKeys"] = ContextValue(transitive, multivalued=True)
    if mfa is not None:
        keys |= proof_keys(mfa)
    return keys


def proof_keys(mfa: MfaProof) -> dict[str, ContextValue]:
    """Return the condition keys of a proof that was given this moment."""
    return {
        "aws:MultiFactorAuthPresent": ContextValue(("true",)),
        "aws:MultiFactorAuthAge": ContextValue(("0",)),
        "sidecar:MfaMethod": ContextValue((mfa.method.word,)),
        "sidecar:MfaUserVerified": ContextValue(("true" if mfa.user_verified else "false",)),
        "sidecar:MfaDeviceSerial": ContextValue((mfa.serial_number,)),
    }


def _unknown_device() -> PermissionDeniedError:
    """SPEC: STS, AccessDenied: the wording is AWS's."""
    return PermissionDeniedError(
        "MultiFactorAuthentication failed, unable to validate MFA code; please verify your MFA serial number is valid"
        " and associated with this user",
        help="only authenticator apps and tokens show codes; a security key is proved in a challenge, as"
        " `iam-sidecar login --mfa` does",
    )
