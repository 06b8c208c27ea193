# SPDX-License-Identifier: Apache-2.0
"""
What a request of Envoy asks, before it is answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.model.decision import Reason
from sidecar.model.request import ContextValue
from sidecar.model.route import CallerSource, RouteFlag

_NO_FLAGS = RouteFlag(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedCheck:
    """
    The question behind a ``CheckRequest``, as far as it could be put.

    Attributes:
        reason: Why the request is denied without asking the policies; `Reason.UNSPECIFIED`: they are asked, or the
            route is public.
        segments: Of the path, decoded; the last one is empty where the path ends with a slash.
        route_id: Empty: no route takes the request.
        flags: Those of the route.
        captures: What the segments of the route that are not fixed took, in their order.
        caller: What says who calls.
        principal: ARN of the caller; empty: nobody, the anonymous caller, or whom the session token names.
        session_token: As sent; whether it is any good is not looked at. Never log it.
    """

    reason: Reason
    segments: tuple[str, ...] = ()
    route_id: str = ""
    flags: RouteFlag = _NO_FLAGS
    captures: tuple[str, ...] = ()
    action: str = ""
    resource: str = ""
    resource_account: str = ""
    context: Mapping[str, ContextValue] = field(default_factory=dict)
    caller: CallerSource = CallerSource.NONE
    principal: str = ""
    session_token: str = field(default="", repr=False)

    @property
    def is_public(self) -> bool:
        """Whether everybody may, whoever calls."""
        return RouteFlag.PUBLIC in self.flags
