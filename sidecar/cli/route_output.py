# SPDX-License-Identifier: Apache-2.0
"""
Routes, for people and for programs.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence

from sidecar.cli.output import print_line
from sidecar.cli.route_match import MatchExplanation
from sidecar.compile.route_fit import Fit
from sidecar.compile.route_paths import written_path
from sidecar.compile.route_ranks import by_rank
from sidecar.compile.route_templates import written_claim, written_template
from sidecar.model.decision import Reason
from sidecar.model.request import ContextValue
from sidecar.model.route import (
    AnonymousRule,
    ApiKeyRule,
    CallerRule,
    CallerSource,
    CertificateRule,
    JwtRule,
    Route,
    RouteFlag,
    RouteTable,
    SessionTokenRule,
)

#: Routes that did not win, of which people are told.
_MAX_OTHERS = 5

_WHY = {
    Reason.NO_ROUTE: "no route fits",
    Reason.PATH_INVALID: "the path could be read in more than one way",
    Reason.ROUTE_VALUE_INVALID: "a value that the route asks for is missing, stands there twice, or cannot stand there",
    Reason.CALLER_UNKNOWN: "nothing in the request says who calls, or no rule maps it to a principal",
}


def print_table(table: RouteTable, in_shadow: Collection[str]) -> None:
    """
    Print all routes, those that win over others first, then who may call.

    Args:
        in_shadow: Ids of routes that are tried and not in force.
    """
    rows = [("HOST", "METHOD", "PATH", "ROUTE", "MEANS")]
    for host, route in by_rank(table):
        rows.append(
            (host, " ".join(route.methods) or "*", written_path(route.path), route.id, _meaning(route, in_shadow))
        )
    if len(rows) > 1:
        print_line("")
        _print_columns(rows)
    print_line("")
    print_line("callers, the first that fits:")
    for number, rule in enumerate(table.callers, 1):
        print_line(f"  {number}. {describe_rule(rule)}")
    in_force = [route for route in table.routes if route.id not in in_shadow]
    public = [route.id for route in in_force if route.is_public]
    forwarding = [route.id for route in in_force if RouteFlag.FORWARD_TOKEN in route.flags]
    print_line("")
    print_line(f"public, nothing is asked: {', '.join(public) or 'none'}")
    if forwarding:
        print_line(f"the upstream gets the session token: {', '.join(forwarding)}")


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print_line("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _meaning(route: Route, in_shadow: Collection[str]) -> str:
    if route.id in in_shadow:
        return f"in shadow: {_meaning(route, ())}"
    if route.is_public:
        return "public"
    return f"{written_template(route.action)} on {written_template(route.resource)}"


def describe_rule(rule: CallerRule) -> str:
    """
    Return what a rule of callers says, in one line.

    >>> describe_rule(SessionTokenRule(header=True, cookie=False))
    'session_token in the header'
    """
    if isinstance(rule, SessionTokenRule):
        places = [name for name, is_taken in (("header", rule.header), ("cookie", rule.cookie)) if is_taken]
        return f"session_token in the {' or the '.join(places)}"
    if isinstance(rule, JwtRule):
        tests = ", ".join(f"{written_claim(test.claim)} is {' or '.join(test.values)}" for test in rule.tests)
        return f"jwt where {tests}: {written_template(rule.principal)}"
    if isinstance(rule, CertificateRule):
        return f"certificate of {written_template(rule.name)}: {written_template(rule.principal)}"
    if isinstance(rule, ApiKeyRule):
        return f"api_key of {rule.client} in {rule.header}: {written_template(rule.principal)}"
    return f"anonymous: {written_template(rule.principal) or 'nobody'}"


def table_to_json(table: RouteTable, in_shadow: Collection[str]) -> dict[str, object]:
    """
    Return all routes for programs, those that win over others first.

    Args:
        in_shadow: Ids of routes that are tried and not in force.
    """
    return {
        "flags": [flag.name.lower() for flag in RouteFlag if flag in table.flags and flag.name],
        "callers": [_rule_to_json(rule) for rule in table.callers],
        "routes": [
            {"host": host, **route_to_json(route), "in_shadow": route.id in in_shadow} for host, route in by_rank(table)
        ],
    }


def _rule_to_json(rule: CallerRule) -> dict[str, object]:
    principal = "" if isinstance(rule, SessionTokenRule) else written_template(rule.principal)
    return {"source": rule.source.word, "description": describe_rule(rule), "principal": principal}


def route_to_json(route: Route) -> dict[str, object]:
    """Return one route for programs."""
    return {
        "id": route.id,
        "methods": list(route.methods),
        "path": written_path(route.path),
        "public": route.is_public,
        "action": written_template(route.action),
        "resource": written_template(route.resource),
        "resource_account": written_template(route.resource_account),
        "context": {entry.key: written_template(entry.value) for entry in route.context},
        "forward_token": RouteFlag.FORWARD_TOKEN in route.flags,
        "proof_for": "call" if RouteFlag.PROOF_FOR_CALL in route.flags else "session",
    }


# One request.


def print_match(found: MatchExplanation, tried: MatchExplanation | None, *, snapshot: str) -> None:
    """
    Print what becomes of a request.

    Args:
        tried: What would, with the routes that stand in shadow.
    """
    resolved = found.resolved
    print_line(f"{_verdict(found)}")
    if found.fault is not None:
        print_line(f"  {found.fault.message}")
        if found.fault.help:
            print_line(f"  help: {found.fault.help}")
    if resolved.segments:
        print_line(f"  segments  {' | '.join(resolved.segments)}")
    if found.route is not None:
        print_line(f"  route     {found.route.id}: {_route_line(found.route)}")
    for line in _others(found):
        print_line(f"            {line}")
    if found.route is not None:
        for segment, value in zip(found.route.captures, resolved.captures, strict=False):
            if segment.name:
                print_line(f"  value     {segment.name} = {value}")
    if found.route is None or not found.route.is_public:
        print_line(f"  caller    {_caller(found)}")
    if tried is not None and _differs(found, tried):
        route = "no route" if tried.route is None else f"{tried.route.id}: {_route_line(tried.route)}"
        print_line(f"  in shadow {tried.result} by {route}")
    _print_question(found, snapshot)


def _differs(found: MatchExplanation, tried: MatchExplanation) -> bool:
    return (found.result, found.resolved.route_id) != (tried.result, tried.resolved.route_id)


def _verdict(found: MatchExplanation) -> str:
    if found.is_denied:
        reason = found.resolved.reason
        return f"DENIED {reason.word}: {_WHY.get(reason, 'it cannot be decided')}"
    if found.resolved.is_public:
        return "PUBLIC nothing is asked"
    return "ASKED the policies decide"


def _route_line(route: Route) -> str:
    return " ".join((*route.methods, written_path(route.path))) if route.methods else f"any {written_path(route.path)}"


def _others(found: MatchExplanation) -> Iterable[str]:
    """Say of each route that fits or nearly does why it does not take the request."""
    others = [fit for fit in found.fits if fit.route is not found.route]
    for fit in others[:_MAX_OTHERS]:
        yield f"{_why_not(fit)}: {fit.route.id}, {_route_line(fit.route)}" + (
            f" on {fit.host}" if fit.host != "*" else ""
        )
    if len(others) > _MAX_OTHERS:
        yield f"and {len(others) - _MAX_OTHERS} more whose path fits"


def _why_not(fit: Fit) -> str:
    if fit.is_whole:
        return "less specific"
    if fit.fits_host:
        return "fits but for its method"
    return "fits but for its host" if fit.fits_method else "fits but for its host and method"


def _caller(found: MatchExplanation) -> str:
    resolved = found.resolved
    if found.rule is None:
        return "nobody"
    rule = found.table.callers[found.rule]
    who = f"rule {found.rule + 1} of {len(found.table.callers)}, {rule.source.word}: "
    if resolved.caller is CallerSource.SESSION_TOKEN:
        return who + "whoever the session token names"
    if isinstance(rule, AnonymousRule) and not resolved.principal:
        return who + "the anonymous caller"
    return who + resolved.principal


def _print_question(found: MatchExplanation, snapshot: str) -> None:
    resolved, route = found.resolved, found.route
    if route is None or route.is_public:
        return
    if resolved.reason is Reason.ROUTE_VALUE_INVALID:
        print_line(f"  action    {written_template(route.action)}")
        print_line(f"  resource  {written_template(route.resource)}")
        if route.resource_account:
            print_line(f"  account   {written_template(route.resource_account)}")
        return
    print_line(f"  action    {resolved.action}")
    print_line(f"  resource  {resolved.resource}")
    if resolved.resource_account:
        print_line(f"  account   {resolved.resource_account}")
    for key, value in resolved.context.items():
        print_line(f"  context   {key} = {_shown(value)}")
    if not found.is_denied and resolved.caller is not CallerSource.SESSION_TOKEN:
        print_line("ask the policies:")
        print_line(f"  {_explain_command(found, snapshot)}")


def _shown(value: ContextValue) -> str:
    return f"[{', '.join(value.values)}]" if value.is_list else "".join(value.values)


def _explain_command(found: MatchExplanation, snapshot: str) -> str:
    resolved = found.resolved
    words = ["iam-sidecar", "explain", "--snapshot", snapshot]
    if resolved.principal:
        words += ["--principal", resolved.principal]
    words += ["--action", resolved.action, "--resource", resolved.resource]
    if resolved.resource_account:
        words += ["--resource-account", resolved.resource_account]
    for key, value in resolved.context.items():
        for text in value.values:
            words += ["--context", f"{key}={text}"]
    return shlex.join(words)


def match_to_json(found: MatchExplanation, tried: MatchExplanation | None) -> dict[str, object]:
    """
    Return what becomes of a request for programs.

    Args:
        tried: What would, with the routes that stand in shadow.
    """
    resolved, route = found.resolved, found.route
    return {
        "result": found.result,
        "reason": resolved.reason.word,
        "fault": None if found.fault is None else {"message": found.fault.message, "help": found.fault.help},
        "segments": list(resolved.segments),
        "route": None if route is None else route_to_json(route),
        "captures": {}
        if route is None
        else {
            segment.name: value
            for segment, value in zip(route.captures, resolved.captures, strict=False)
            if segment.name
        },
        "others": [
            {"id": fit.route.id, "host": fit.host, "fits_host": fit.fits_host, "fits_method": fit.fits_method}
            for fit in found.fits
            if fit.route is not route
        ],
        "caller": {
            "source": resolved.caller.word,
            "rule": None if found.rule is None else found.rule + 1,
            "principal": resolved.principal,
        },
        "action": resolved.action,
        "resource": resolved.resource,
        "resource_account": resolved.resource_account,
        "context": {key: list(value.values) for key, value in resolved.context.items()},
        "in_shadow": None
        if tried is None or not _differs(found, tried)
        else {"result": tried.result, "reason": tried.resolved.reason.word, "route": tried.resolved.route_id},
    }
