# SPDX-License-Identifier: Apache-2.0
"""
Asking our own engine whether the bearer of a session may do something.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sidecar.model.decision import Answer, Decision
from sidecar.model.errors import PermissionDeniedError, StepUpRequiredError
from sidecar.model.request import ContextValue
from sidecar.services.callers import Caller


class Engine(Protocol):
    """Decides about the bearer of a session."""

    def decide_for(
        self, caller: Caller, action: str, resource: str, override: Mapping[str, ContextValue] | None = None
    ) -> Answer:
        """
        Return whether *caller* may do *action* on *resource*.

        Args:
            override: Values of condition keys that win over every other source.
        """
        ...


def require_allowed(answer: Answer, caller: Caller, action: str, resource: str) -> None:
    """
    Pass if that is what *answer* says.

    Raises:
        StepUpRequiredError: It would be, once a second factor is proved.
        PermissionDeniedError: It is not.
    """
    if answer.decision is Decision.ALLOW:
        return
    # SPEC: IAM: the wording of AccessDenied.
    message = f"user `{caller.name}` is not authorized to perform {action} on resource `{resource}`"
    if answer.mfa_requirement is not None:
        raise StepUpRequiredError(
            message, requirement=answer.mfa_requirement, help="prove a second factor first, and try again"
        )
    raise PermissionDeniedError(message, help="ask an administrator for a policy that allows it")
