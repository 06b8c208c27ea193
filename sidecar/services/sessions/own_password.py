# SPDX-License-Identifier: Apache-2.0
"""
Changing one's own password, as AWS's ``ChangePassword`` does.
"""

from __future__ import annotations

from sidecar.core import Image
from sidecar.model.decision import Decision
from sidecar.model.directory import AccountFacts, UserFacts
from sidecar.model.errors import PreconditionError
from sidecar.model.session import SessionKind
from sidecar.services.callers import Caller, session_of
from sidecar.services.sessions.asking import Engine, require_allowed
from sidecar.services.sessions.parts import SessionParts

_ACTION = "iam:ChangePassword"


class OwnPassword:
    """
    The password of whoever is signed in.

    Thread-safety: that of its parts.
    """

    def __init__(self, *, parts: SessionParts, engine: Engine, image: Image) -> None:
        """
        Args:
            image: The principals of the snapshot in place.
        """
        self._parts = parts
        self._engine = engine
        self._image = image

    def require_change(self, caller: Caller) -> tuple[UserFacts, AccountFacts]:
        """
        Pass if *caller* may change their own password, and return who they are.

        Policies may allow it, or the account's password policy does; nothing helps against a policy that denies it.

        Raises:
            PreconditionError: They have not signed in with one.
            StepUpRequiredError: They may once a second factor is proved.
            PermissionDeniedError: They may not.
        """
        claims = session_of(caller)
        user = self._image.find_user(claims.person)
        account = self._image.find_account(user.account) if user is not None else None
        if claims.kind is not SessionKind.SIGN_IN or user is None or account is None:
            raise PreconditionError("a password is changed by whoever has signed in with it", help="sign in first")
        answer = self._engine.decide_for(caller, _ACTION, user.arn)
        policy = account.password_policy
        is_left_to_account = answer.decision is Decision.IMPLICIT_DENY and answer.mfa_requirement is None
        # SPEC: IAM, "Setting an account password policy": it lets every user of the account change their own.
        if not (is_left_to_account and policy is not None and policy.allow_users_to_change_password):
            require_allowed(answer, caller, _ACTION, user.arn)
        return user, account

    def change(self, caller: Caller, *, old_password: str, new_password: str) -> None:
        """
        Replace the password, which ends every session of the user, the caller's own among them.

        Raises:
            PreconditionError: The caller has not signed in with one, or the old one has expired.
            PermissionDeniedError: The caller may not.
            AuthenticationError: The old password is another, or the caller has to wait.
            RequestError: The new one is not what the account asks for; everything that is wrong with it is told.
            LimitExceededError: Too many sign in at the same time.
        """
        user, account = self.require_change(caller)
        # Whoever finds a browser open does not know it, and cannot try many.
        self._parts.sign_in.sign_in(
            self._image, account=account.id, user_name=user.name, password=old_password, peer=caller.peer
        )
        self._parts.passwords.set_password(caller, user, account, new_password)
