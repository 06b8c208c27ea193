# SPDX-License-Identifier: Apache-2.0
"""
The one table of what a caller needs for each call of the management listener.

The administrator's token is enough for every call. Anybody else needs the action on the resource: the action of AWS
where there is one, ``sidecar:<RpcName>`` where there is none.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from sidecar.model.errors import PermissionDeniedError
from sidecar.services.callers import Caller


class On(StrEnum):
    """What a permission is needed on."""

    EVERYTHING = "`*`"
    USER = "the user's ARN"
    OWNER = "the ARN of the device's user"
    OWN_SESSION = "the caller's own session"


class Permission(NamedTuple):
    """
    What a call needs.

    Attributes:
        action: Empty where the session that the request names is all that is needed.
    """

    action: str
    on: On


_AUTHORIZATION = "sidecar.v1.AuthorizationService"
_MFA = "sidecar.v1.MfaService"

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
}


def require(caller: Caller, service: str, method: str, resource: str) -> None:
    """
    Pass if *caller* may make the call on *resource*.

    Raises:
        PermissionDeniedError: It may not.
    """
    permission = PERMISSIONS[service][method]
    if caller.is_administrator or not permission.action:
        return
    raise PermissionDeniedError(
        f"`{caller.name}` is not authorized to perform {permission.action} on `{resource}`",
        help="ask an administrator for a policy that allows it",
    )


def permissions_page() -> str:
    """Return the table, in Markdown, as the documentation shows it."""
    rows = ["| call | action | on |", "| --- | --- | --- |"]
    for service, methods in PERMISSIONS.items():
        for method, permission in methods.items():
            action = f"`{permission.action}`" if permission.action else "none"
            rows.append(f"| `{service.rpartition('.')[2]}/{method}` | {action} | {permission.on} |")
    return "\n".join(rows) + "\n"
