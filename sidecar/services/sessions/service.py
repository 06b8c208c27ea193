# SPDX-License-Identifier: Apache-2.0
"""
Everything about sessions, as others call it.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sidecar.compile.session_claims import ACCESS_KEY_ID_BYTES, KEY_ID_BYTES, decode_claims
from sidecar.core import Image, SessionState
from sidecar.model.decision import MfaMethod
from sidecar.model.errors import (
    PermissionDeniedError,
    PreconditionError,
    SessionInvalidError,
    SourceUnavailableError,
    StepUpRequiredError,
)
from sidecar.model.session import BoundProof, MfaProof, SessionClaims, SessionKind
from sidecar.services.authorizer import ImageSource
from sidecar.services.callers import Caller, session_of
from sidecar.services.refusals import UserUnknownError, refused_sign_in
from sidecar.services.sessions.asking import Engine, require_allowed
from sidecar.services.sessions.journal import SessionEvent, SessionJournal
from sidecar.services.sessions.keys import SessionKey, SessionKeyring
from sidecar.services.sessions.role_request import RoleRequest

if TYPE_CHECKING:
    # A sidecar without people needs neither a database nor cryptography in its memory.
    from sidecar.services.challenges import Proof
    from sidecar.services.sessions.issuing import IssuedSession
    from sidecar.services.sessions.own_password import OwnPassword
    from sidecar.services.sessions.parts import SessionParts

_NANOS = 1_000_000_000
_REVOKE = "sidecar:RevokeSession"


class StateSource(Protocol):
    """Knows what opens tokens now, and what seals them; may be called from any thread."""

    @property
    def state(self) -> SessionState:
        """What opens tokens now."""
        ...

    @property
    def ring(self) -> SessionKeyring:
        """The keys as they are now."""
        ...

    def refresh(self) -> None:
        """Look for what has been revoked."""
        ...


class PartsOpener(Protocol):
    """Gives what issuing takes; may be called from any thread."""

    def open(self) -> SessionParts:
        """
        Return it.

        Raises:
            SidecarError: It cannot be opened; the next call tries again.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class CallerIdentity:
    """
    Who bears a session, in the words of AWS.

    Attributes:
        user_id: Unique id of a user, or ``AROA...:SESSION`` of a role's session.
    """

    account: str
    arn: str
    user_id: str


class SessionService:
    """
    Issues sessions, recognizes their bearers, and ends them.

    Thread-safety: that of its parts.
    """

    def __init__(
        self,
        *,
        watch: StateSource,
        snapshots: ImageSource,
        engine: Engine,
        journal: SessionJournal,
        parts: PartsOpener,
        has_store: Callable[[], bool],
        now: Callable[[], int],
    ) -> None:
        """
        Args:
            watch: Keys and revocations.
            snapshots: Where the image in place is, which knows the principals.
            engine: Asked whether a caller may.
            parts: Gives what issuing takes; asked by each call that needs it.
            has_store: Says whether there is a store, without which nobody has a password.
            now: Gives nanoseconds since the epoch.
        """
        self._watch = watch
        self._snapshots = snapshots
        self._engine = engine
        self._journal = journal
        self._parts = parts
        self._has_store = has_store
        self._now = now

    def sign_in(self, *, account: str, user_name: str, password: str, peer: str) -> IssuedSession:
        """
        Return a session of the user who has that password.

        Args:
            account: Twelve digits or an alias.

        Raises:
            AuthenticationError: Nobody has, or has to wait.
            PreconditionError: The password is right, and has expired.
            LimitExceededError: Too many sign in at the same time.
        """
        if not self._has_store():
            # Nobody has a password here: not for this is a store made.
            reason = UserUnknownError.reason
            self._journal.refused(SessionEvent.SIGN_IN_REFUSED, Caller.anonymous(peer), reason=reason)
            raise refused_sign_in()
        claims = self._parts.open().sign_in.sign_in(
            self._image(), account=account, user_name=user_name, password=password, peer=peer
        )
        return self._issue(Caller(claims.arn, "", peer), claims)

    def get_session_token(
        self, caller: Caller, *, duration_seconds: int = 0, serial_number: str = "", token_code: str = ""
    ) -> IssuedSession:
        """
        Return a session of the long-term caller, with MFA where a code is given.

        Args:
            duration_seconds: 0 for AWS's default.

        Raises:
            PreconditionError: The caller is the administrator.
            RequestError: A parameter cannot be used.
            PermissionDeniedError: The caller may not, or the code did not hold.
            ThrottledError: Too many proofs of the user have failed.
        """
        claims = self._parts.open().sts.get_session_token(
            caller, duration_seconds=duration_seconds, serial_number=serial_number, token_code=token_code
        )
        return self._issue(caller, claims)

    def assume_role(self, caller: Caller, request: RoleRequest) -> IssuedSession:
        """
        Return a session of a role.

        Raises:
            PreconditionError: The caller is the administrator.
            RequestError: A parameter cannot be used.
            PermissionDeniedError: The caller may not, or the code did not hold.
            StepUpRequiredError: The caller may once a second factor is proved.
            ThrottledError: Too many proofs of the user have failed.
            PolicySyntaxError: A session policy is none.
            LimitExceededError: Policies and tags do not fit into a session.
        """
        claims = self._parts.open().sts.assume_role(self._image(), caller, request)
        return self._issue(caller, claims)

    def caller_identity(self, caller: Caller, session_token: str = "") -> CallerIdentity:
        """
        Return who bears a session: that of the token, or the caller's own.

        Raises:
            PreconditionError: The caller is the administrator.
            AuthenticationError: The token cannot be used.
        """
        claims = session_of(caller)
        if session_token:
            claims = session_of(self.authenticate(session_token, caller.peer))
        is_role = claims.kind is SessionKind.ROLE
        return CallerIdentity(
            account=claims.principal.split(":")[4],
            arn=claims.arn,
            user_id=f"{claims.principal_id}:{claims.session_name}" if is_role else claims.principal_id,
        )

    def revoke(self, caller: Caller, session_token: str = "") -> None:
        """
        End a session, the caller's own where no token is given, and every session of the same sign-in.

        Raises:
            PreconditionError: The caller is the administrator.
            AuthenticationError: The token cannot be used.
            PermissionDeniedError: It belongs to another sign-in, and the caller may not end those.
        """
        own = session_of(caller)
        claims = session_of(self.authenticate(session_token, caller.peer)) if session_token else own
        if claims.lineage != own.lineage:
            resource = claims.person or claims.principal
            require_allowed(self._engine.decide_for(caller, _REVOKE, resource), caller, _REVOKE, resource)
        self._parts.open().revoker.revoke(caller, claims)
        self._watch.refresh()

    def may_change_password(self, caller: Caller) -> bool:
        """Say whether *caller* may change their own password, once a second factor is proved if need be."""
        try:
            self._own_password().require_change(caller)
        except StepUpRequiredError:
            return True
        except (PermissionDeniedError, PreconditionError):
            return False
        return True

    def change_password(self, caller: Caller, *, old_password: str, new_password: str) -> None:
        """
        Replace the caller's own password, which ends every session of theirs, this one among them.

        Raises:
            PreconditionError: The caller has not signed in with one, or the old one has expired.
            PermissionDeniedError: The caller may not.
            AuthenticationError: The old password is another, or the caller has to wait.
            RequestError: The new one is not what the account asks for; everything that is wrong with it is told.
            LimitExceededError: Too many sign in at the same time.
        """
        self._own_password().change(caller, old_password=old_password, new_password=new_password)
        self._watch.refresh()

    def _own_password(self) -> OwnPassword:
        from sidecar.services.sessions.own_password import OwnPassword

        return OwnPassword(parts=self._parts.open(), engine=self._engine, image=self._image())

    def authenticate(self, token: str, peer: str) -> Caller:
        """
        Return who bears a session.

        Raises:
            SessionInvalidError: It is not one of ours, its principal is gone, or another one of that name.
            SessionExpiredError: It is over.
            SessionRevokedError: It was ended before its time.
            SessionUnverifiableError: Whether it was ended cannot be known.
        """
        seconds, nanos = divmod(self._now(), _NANOS)
        opened = self._watch.state.open(token, image=self._snapshots.image, seconds=seconds, nanos=nanos)
        access_key_id = opened[:ACCESS_KEY_ID_BYTES].decode("ascii")
        claims = decode_claims(opened[ACCESS_KEY_ID_BYTES:], access_key_id=access_key_id)
        return Caller(claims.arn, access_key_id, peer, claims, token)

    def prove(self, token: str, proof: Proof) -> IssuedSession:
        """
        Return the session of *token* with a proof in it; all else stays, and so does its secret.

        Raises:
            AuthenticationError: The token cannot be used, or the proof belongs to another session or person.
        """
        caller = self.authenticate(token, "")
        claims = session_of(caller)
        if (proof.session, proof.user_arn) != (claims.access_key_id, claims.person):
            raise SessionInvalidError("the proof belongs to another session")
        proved = MfaProof(MfaMethod[proof.method.upper()], proof.proved_at_ms, proof.serial_number, proof.user_verified)
        if proof.action:
            bound = BoundProof(proved, proof.action.lower(), proof.resource)
            claims = dataclasses.replace(claims, bound=bound)
        else:
            claims = dataclasses.replace(claims, mfa=proved)
        issued = _issue(claims, self._key_of(token))
        self._journal.proved(caller, claims, proved)
        return issued

    def _issue(self, caller: Caller, claims: SessionClaims) -> IssuedSession:
        issued = _issue(claims, self._watch.ring.sealing(self._now() // 1_000_000))
        self._journal.issued(caller, claims)
        return issued

    def _key_of(self, token: str) -> SessionKey:
        """Return the key that *token*, which has been opened, was sealed with."""
        # Four characters are three bytes: the version, and then the key id.
        start = base64.urlsafe_b64decode(token[:8])
        key = self._watch.ring.find(start[1 : 1 + KEY_ID_BYTES])
        if key is None:
            raise SessionInvalidError("the key of the session is gone")
        return key

    def _image(self) -> Image:
        image = self._snapshots.image
        if image is None:
            raise SourceUnavailableError("no snapshot is in place yet", help="try again in a moment")
        return image


def _issue(claims: SessionClaims, key: SessionKey) -> IssuedSession:
    from sidecar.services.sessions.issuing import issue_session

    return issue_session(claims, key)
