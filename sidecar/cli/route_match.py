# SPDX-License-Identifier: Apache-2.0
"""
What becomes of one request: the route that the core finds, and why no other.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.compile.problems import Finding
from sidecar.compile.route_fit import Fit, fitting_routes
from sidecar.compile.target_faults import target_fault
from sidecar.model.decision import Reason
from sidecar.model.resolved_check import ResolvedCheck
from sidecar.model.route import CallerSource, Route, RouteTable
from sidecar.model.snapshot import Snapshot
from sidecar.transports.check_request import CheckedRequest


@dataclass(frozen=True, slots=True)
class MatchExplanation:
    """
    What becomes of a request.

    Attributes:
        route: None: no route takes it.
        fault: Why its path cannot be read; None: it can.
        fits: Routes whose path fits, those that win over others first.
        rule: Which of the rules of callers says who calls, from 0; None: none does.
    """

    request: CheckedRequest
    table: RouteTable
    resolved: ResolvedCheck
    route: Route | None
    fault: Finding | None
    fits: tuple[Fit, ...]
    rule: int | None

    @property
    def is_denied(self) -> bool:
        """Whether it is denied before the policies are asked."""
        return self.resolved.reason is not Reason.UNSPECIFIED

    @property
    def result(self) -> str:
        """What becomes of it, in one word."""
        return "denied" if self.is_denied else "public" if self.resolved.is_public else "asked"


def explain_match(snapshot: Snapshot, request: CheckedRequest, *, cookie_name: str) -> MatchExplanation:
    """
    Return what becomes of *request* under the routes of *snapshot*.

    Raises:
        RequestError: The request cannot be sent as it is.
    """
    table = snapshot.routes or RouteTable(callers=())
    message = request.to_bytes()
    resolved = core.resolve_check(_image(snapshot.routes), message, cookie_name=cookie_name)
    fault = None
    if resolved.reason is Reason.PATH_INVALID:
        fault = target_fault(request.target.encode(), table.flags)
    return MatchExplanation(
        request=request,
        table=table,
        resolved=resolved,
        route=next((route for route in table.routes if route.id == resolved.route_id), None),
        fault=fault,
        fits=tuple(
            fitting_routes(table, method=request.method, host=request.host, segments=resolved.segments)
            if resolved.segments
            else ()
        ),
        rule=_deciding_rule(table, message, cookie_name) if resolved.caller is not CallerSource.NONE else None,
    )


def _image(table: RouteTable | None) -> core.Image:
    """Return an image of routes alone: no policy bears on which route a request takes."""
    return core.Image.from_bytes(write_image(Snapshot(routes=table)))


def _deciding_rule(table: RouteTable, message: bytes, cookie_name: str) -> int | None:
    """Return the first rule that identifies the caller when it stands alone, which is the one that decides."""
    for number, rule in enumerate(table.callers):
        alone = _image(RouteTable(table.flags, (rule,)))
        if core.resolve_check(alone, message, cookie_name=cookie_name).caller is not CallerSource.NONE:
            return number
    return None
