# SPDX-License-Identifier: Apache-2.0
"""
The one table of what a caller needs for each call of the management listener.

The administrator's token is enough for every call but those of ``SessionService``, where it is no principal. Anybody
else needs the action on the resource: the action of AWS where there is one, ``sidecar:<RpcName>`` where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

from sidecar.model.errors import PermissionDeniedError
from sidecar.services.callers import Caller
from sidecar.services.sessions.asking import Engine, require_allowed
from sidecar.transports.calls import current_caller

Method = Callable[[bytes], bytes]


class On(StrEnum):
    """What a permission is needed on."""

    EVERYTHING = "`*`"
    USER = "the user's ARN"
    OWNER = "the ARN of the device's user"
    OWN_SESSION = "the caller's own session"
    ROLE = "the role's ARN"
    OTHER_USER = "the ARN of the session's user, where that is another sign-in"
    NOTHING = "nothing: it needs no credential"


class Permission(NamedTuple):
    """
    What a call needs.

    Attributes:
        action: Empty where nothing is asked of policies.
    """

    action: str
    on: On


_AUTHORIZATION = "sidecar.v1.AuthorizationService"
_MFA = "sidecar.v1.MfaService"
SESSION_SERVICE = "sidecar.v1.SessionService"

#: By service and method.
PERMISSIONS: dict[str, dict[str, Permission]] = {
    _AUTHORIZATION: {
        "Authorize": Permission("sidecar:Authorize", On.EVERYTHING),
        "BatchAuthorize": Permission("sidecar:BatchAuthorize", On.EVERYTHING),
        "Explain": Permission("sidecar:Explain", On.EVERYTHING),
    },
    "sidecar.v1.SimulationService": {"Simulate": Permission("iam:SimulateCustomPolicy", On.EVERYTHING)},
    "sidecar.v1.SnapshotService": {
        "GetSnapshot": Permission("sidecar:GetSnapshot", On.EVERYTHING),
        "ReloadSnapshot": Permission("sidecar:ReloadSnapshot", On.EVERYTHING),
    },
    _MFA: {
        "BeginTotpEnrollment": Permission("iam:CreateVirtualMFADevice", On.USER),
        "ConfirmTotpEnrollment": Permission("iam:EnableMFADevice", On.OWNER),
        "ResyncTotp": Permission("iam:ResyncMFADevice", On.OWNER),
        "BeginKeyRegistration": Permission("iam:EnableMFADevice", On.USER),
        "FinishKeyRegistration": Permission("iam:EnableMFADevice", On.OWNER),
        "GenerateRecoveryCodes": Permission("sidecar:GenerateRecoveryCodes", On.USER),
        "ListDevices": Permission("iam:ListMFADevices", On.USER),
        "DeactivateDevice": Permission("iam:DeactivateMFADevice", On.OWNER),
        "BeginChallenge": Permission("", On.OWN_SESSION),
        "AnswerChallenge": Permission("", On.OWN_SESSION),
        "WatchChallenge": Permission("", On.OWN_SESSION),
        "CollectProof": Permission("", On.OWN_SESSION),
    },
    # What these ask of policies is part of what they do.
    SESSION_SERVICE: {
        "SignIn": Permission("", On.NOTHING),
        "GetSessionToken": Permission("sts:GetSessionToken", On.EVERYTHING),
        "AssumeRole": Permission("sts:AssumeRole", On.ROLE),
        "GetCallerIdentity": Permission("", On.OWN_SESSION),
        "RevokeSession": Permission("sidecar:RevokeSession", On.OTHER_USER),
    },
}


class Permissions:
    """
    Asks our own engine whether a caller may make a call.

    Thread-safety: that of the engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def require(self, caller: Caller, service: str, method: str, resource: str = "*") -> None:
        """
        Pass if *caller* may make the call on *resource*.

        Args:
            resource: Empty where what the call names is not there: then the caller has to be allowed it on everything.

        Raises:
            StepUpRequiredError: It may once a second factor is proved.
            PermissionDeniedError: It may not.
        """
        permission = PERMISSIONS[service][method]
        if caller.is_administrator or not permission.action:
            return
        if caller.claims is None:
            raise PermissionDeniedError("nobody may make this call without a credential")
        action, target = permission.action, resource or "*"
        require_allowed(self._engine.decide_for(caller, action, target), caller, action, target)

    def guard(self, service: str, methods: Mapping[str, Method]) -> dict[str, Method]:
        """Return *methods* of which each first sees to it that its caller may make it on everything."""
        return {name: self._guarded(service, name, function) for name, function in methods.items()}

    def _guarded(self, service: str, name: str, function: Method) -> Method:
        def call(request: bytes) -> bytes:
            self.require(current_caller(), service, name)
            return function(request)

        return call


def permissions_page() -> str:
    """Return the table, in Markdown, as the documentation shows it."""
    rows = ["| call | action | on |", "| --- | --- | --- |"]
    for service, methods in PERMISSIONS.items():
        for method, permission in methods.items():
            action = f"`{permission.action}`" if permission.action else "none"
            rows.append(f"| `{service.rpartition('.')[2]}/{method}` | {action} | {permission.on} |")
    return "\n".join(rows) + "\n"
