# SPDX-License-Identifier: Apache-2.0
"""
Asking the core and the oracle the same thing, and showing where they differ.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from sidecar.compile.image import write_image
from sidecar.model.decision import Answer, Decision, Reason
from sidecar.model.errors import RequestError
from tests import tokens
from tests.conformance.cases import CaseError, Given, build_request, build_snapshot, case_as_yaml, parse_time
from tests.oracle import decide

core = pytest.importorskip("sidecar.core", reason="the extension is not built", exc_type=ImportError)

#: Without shrinking: one seed says nothing about another. A property may pass over most questions: they cost little.
SEEDED = settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

NOW = parse_time("2026-01-15T12:00:00Z")
SESSIONS = tokens.state()


@dataclass(frozen=True)
class Invalid:
    """What both must say of an invalid request: the field at fault."""

    field: str


def ask_oracle(given: Given, request: Given) -> Answer | Invalid:
    """Answer by the oracle."""
    try:
        return decide(
            build_snapshot(given), build_request(request, given), seconds=NOW, nanos=0, simulation=_is_simulation(given)
        )
    except RequestError as error:
        return Invalid(error.field)


def ask_core(given: Given, request: Given) -> Answer | Invalid:
    """Answer by the compiled core."""
    image = core.Image.from_bytes(write_image(build_snapshot(given)))
    try:
        answer: Answer = core.explain(
            image,
            build_request(request, given),
            seconds=NOW,
            nanos=0,
            simulation=_is_simulation(given),
            sessions=SESSIONS,
        )
    except RequestError as error:
        return Invalid(error.field)
    return answer


def outcome(answer: Answer | Invalid) -> object:
    """The part of an answer that does not name statements."""
    if isinstance(answer, Invalid):
        return answer
    return answer.decision, answer.layer, answer.reason, answer.mfa_requirement


def is_allowed(answer: Answer | Invalid) -> bool:
    """Whether the answer is an allow."""
    return isinstance(answer, Answer) and answer.decision is Decision.ALLOW


def describe(name: str, given: Given, request: Given, answer: Answer | Invalid) -> str:
    """Write a failing example as a conformance case that wants *answer*."""
    if isinstance(answer, Invalid):
        return case_as_yaml(name, given, request, {"error": answer.field})
    word = answer.reason.word
    if answer.reason is Reason.EXPLICIT_DENY:
        word += f" {answer.layer.name}"
    return case_as_yaml(name, given, request, word)


def case_of(name: str, given: Given, request: Given) -> str:
    """Write a question as a conformance case that wants what the oracle answers."""
    return describe(name, given, request, ask_oracle(given, request))


def shrink(given: Given, request: Given, fails: Callable[[Given, Given], bool]) -> tuple[Given, Given]:
    """Leave out whatever can be left out so that a question still *fails*."""
    smallest: dict[str, Any] = {"given": copy.deepcopy(given), "request": copy.deepcopy(request)}
    shrunk = True
    while shrunk:
        shrunk = False
        for smaller in _smaller(smallest):
            if _still_fails(smaller, fails):
                smallest, shrunk = smaller, True
                break
    return smallest["given"], smallest["request"]


def _still_fails(question: dict[str, Any], fails: Callable[[Given, Given], bool]) -> bool:
    try:
        return fails(question["given"], question["request"])
    except (CaseError, LookupError, TypeError, AttributeError):
        # Something was left out that has to be there.
        return False


def _smaller(value: Any) -> Iterator[Any]:
    """Yield *value* with one part less, biggest parts first."""
    if isinstance(value, dict):
        for key in value:
            if key not in ("given", "request", "principal"):
                yield {other: part for other, part in value.items() if other != key}
        for key, part in value.items():
            for smaller in _smaller(part):
                yield {**value, key: smaller}
    elif isinstance(value, list):
        for index in range(len(value)):
            if len(value) > 1:
                yield value[:index] + value[index + 1 :]
        for index, part in enumerate(value):
            for smaller in _smaller(part):
                yield [*value[:index], smaller, *value[index + 1 :]]


def _is_simulation(given: Given) -> bool:
    return given.get("principal") == "federated"
