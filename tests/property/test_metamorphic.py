# SPDX-License-Identifier: Apache-2.0
"""
What must not change, or change one way only, when policies change: on the core, without an oracle.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sidecar.model.decision import Answer, MfaMethod
from tests.conformance.cases import SERVICE, SESSION_ARN, Given
from tests.property.asking import SEEDED, Invalid, ask_core, case_of, is_allowed, outcome
from tests.property.strategies import Json, draw_statement, mfa_questions, questions

EXAMPLES = settings().max_examples

#: Where documents stand in a ``given``, with the kind of their statements.
_LAYERS = {
    "identity": "identity",
    "boundary": "identity",
    "session": "identity",
    "resource_policy": "resource",
    "trust": "trust",
    "scps": "service_control",
    "rcps": "resource_control",
}

_EVERYBODY = {"AWS": "*", "Service": SERVICE}


def _documents(part: Any) -> Iterator[Json]:
    """Yield every document of a part of a ``given``, to be changed in place."""
    if isinstance(part, list):
        for item in part:
            yield from _documents(item)
    elif isinstance(part, dict) and "Statement" in part:
        yield part
    elif isinstance(part, dict):
        for item in part.values():
            yield from _documents(item)


def _all_documents(snapshot: Json) -> Iterator[Json]:
    for layer in [*_LAYERS, "resource_policies"]:
        yield from _documents(snapshot.get(layer))


def _must_hold(holds: bool, what: str, before: tuple[Given, Given, object], after: tuple[Given, Given, object]) -> None:
    if not holds:
        shown = "\n".join(f"{answer}\n{case_of(what, snapshot, asked)}" for snapshot, asked, answer in (before, after))
        pytest.fail(f"{what}\n{shown}")


@settings(SEEDED, max_examples=EXAMPLES)
@given(questions(), st.sampled_from(sorted(_LAYERS)), st.integers(0, 2**32))
def test_deny_when_added_then_never_allows(question: tuple[Json, Json], layer: str, seed: int) -> None:
    snapshot, request = question
    documents = list(_documents(snapshot.get(layer)))
    assume(documents)
    rng = random.Random(seed)
    before = ask_core(snapshot, request)
    assume(not is_allowed(before))

    changed = copy.deepcopy(snapshot)
    document = rng.choice(list(_documents(changed[layer])))
    statement = draw_statement(rng, kind=_LAYERS[layer], effect="Deny")
    statement.pop("Sid", None)
    document["Statement"].insert(rng.randint(0, len(document["Statement"])), statement)
    if document.get("Version", "2012-10-17") != "2012-10-17":
        statement.pop("Condition", None)

    after = ask_core(changed, request)
    _must_hold(
        not is_allowed(after), "a Deny that was added allows", (snapshot, request, before), (changed, request, after)
    )


@settings(SEEDED, max_examples=EXAMPLES)
@given(questions(), st.sampled_from(["identity", "resource_policy", "boundary", "session"]))
def test_deny_when_everything_is_denied_then_explicit(question: tuple[Json, Json], layer: str) -> None:
    snapshot, request = question
    documents = list(_documents(snapshot.get(layer)))
    assume(documents)
    before = ask_core(snapshot, request)
    assume(isinstance(before, Answer) and before.layer != 0)
    assume(layer == "resource_policy" or snapshot["principal"] in ("user", "role", "federated"))
    assume(layer != "resource_policy" or _is_covered(snapshot, request))

    changed = copy.deepcopy(snapshot)
    deny: Json = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    if layer == "resource_policy":
        deny["Principal"] = _EVERYBODY
    next(_documents(changed[layer]))["Statement"].append(deny)
    after = ask_core(changed, request)
    _must_hold(
        isinstance(after, Answer) and after.reason.word == "explicit_deny",
        "a Deny of everything does not deny",
        (snapshot, request, before),
        (changed, request, after),
    )


def _is_covered(snapshot: Given, request: Given) -> bool:
    resource = request.get("resource", "arn:aws:s3:::bucket/key")
    own = snapshot.get("resource_arn", "arn:aws:s3:::bucket") == "arn:aws:s3:::bucket"
    return own and "resource_policies" not in snapshot and str(resource).startswith("arn:aws:s3:::bucket/")


@settings(SEEDED, max_examples=EXAMPLES)
@given(questions(), st.integers(0, 2**32))
def test_statements_when_reordered_then_nothing_changes(question: tuple[Json, Json], seed: int) -> None:
    snapshot, request = question
    rng = random.Random(seed)
    changed = copy.deepcopy(snapshot)
    for document in _all_documents(changed):
        rng.shuffle(document["Statement"])
    for layer in ("identity", "session"):
        if isinstance(changed.get(layer), dict) and "policies" in changed[layer]:
            rng.shuffle(changed[layer]["policies"])
    before, after = ask_core(snapshot, request), ask_core(changed, request)
    _must_hold(
        outcome(before) == outcome(after),
        "the order of statements matters",
        (snapshot, request, before),
        (changed, request, after),
    )


@settings(SEEDED, max_examples=EXAMPLES)
@given(questions())
def test_statements_when_split_then_nothing_changes(question: tuple[Json, Json]) -> None:
    snapshot, request = question
    changed = copy.deepcopy(snapshot)
    for document in _all_documents(changed):
        document["Statement"] = [part for statement in document["Statement"] for part in _split(statement)]
    before, after = ask_core(snapshot, request), ask_core(changed, request)
    _must_hold(
        outcome(before) == outcome(after),
        "a statement does not mean the same in parts",
        (snapshot, request, before),
        (changed, request, after),
    )


def _split(statement: Json) -> list[Json]:
    """Write one statement as one for each of its actions, resources and principals."""
    parts = [{key: value for key, value in statement.items() if key != "Sid"}]
    for element in ("Action", "Resource"):
        value = statement.get(element)
        if isinstance(value, list):
            parts = [{**part, element: entry} for part in parts for entry in value]
    principal = statement.get("Principal")
    if isinstance(principal, dict):
        entries = [
            {kind: name}
            for kind, names in principal.items()
            for name in (names if isinstance(names, list) else [names])
        ]
        parts = [{**part, "Principal": entry} for part in parts for entry in entries]
    return parts


@settings(SEEDED, max_examples=EXAMPLES)
@given(questions(), st.integers(0, 2**32))
def test_policies_when_split_into_several_then_nothing_changes(question: tuple[Json, Json], seed: int) -> None:
    snapshot, request = question
    rng = random.Random(seed)
    changed = copy.deepcopy(snapshot)
    for layer in ("identity", "session"):
        if isinstance(changed.get(layer), dict) and changed[layer].get("policies"):
            changed[layer]["policies"] = [
                {**document, "Statement": [statement]}
                for document in changed[layer]["policies"]
                for statement in document["Statement"]
            ]
            rng.shuffle(changed[layer]["policies"])
    before, after = ask_core(snapshot, request), ask_core(changed, request)
    _must_hold(
        outcome(before) == outcome(after),
        "it matters in which policy a statement stands",
        (snapshot, request, before),
        (changed, request, after),
    )


@settings(SEEDED, max_examples=EXAMPLES)
@given(questions(), st.integers(0, 2**32))
def test_boundary_when_widened_then_never_denies(question: tuple[Json, Json], seed: int) -> None:
    snapshot, request = question
    assume("boundary" in snapshot)
    rng = random.Random(seed)
    before = ask_core(snapshot, request)

    wider = copy.deepcopy(snapshot)
    statement = draw_statement(rng, kind="identity", effect="Allow")
    statement.pop("Sid", None)
    if wider["boundary"].get("Version", "2012-10-17") != "2012-10-17":
        statement.pop("Condition", None)
    wider["boundary"]["Statement"].append(statement)
    without = {key: value for key, value in snapshot.items() if key != "boundary"}
    for changed in (wider, without):
        after = ask_core(changed, request)
        _must_hold(
            is_allowed(after) or not is_allowed(before),
            "a wider boundary denies",
            (snapshot, request, before),
            (changed, request, after),
        )


@settings(SEEDED, max_examples=EXAMPLES)
@given(questions(), st.integers(0, 2**32))
def test_allow_when_added_then_never_denies(question: tuple[Json, Json], seed: int) -> None:
    snapshot, request = question
    rng = random.Random(seed)
    before = ask_core(snapshot, request)
    assume(is_allowed(before))
    changed = copy.deepcopy(snapshot)
    layers = [layer for layer in _LAYERS if layer != "rcps" and list(_documents(changed.get(layer)))]
    assume(layers)
    layer = rng.choice(layers)
    document = rng.choice(list(_documents(changed[layer])))
    statement = draw_statement(rng, kind=_LAYERS[layer], effect="Allow")
    statement.pop("Sid", None)
    if document.get("Version", "2012-10-17") != "2012-10-17":
        statement.pop("Condition", None)
    document["Statement"].append(statement)
    after = ask_core(changed, request)
    _must_hold(
        is_allowed(after), "an Allow that was added denies", (snapshot, request, before), (changed, request, after)
    )


@settings(SEEDED, max_examples=EXAMPLES)
@given(questions(), st.integers(0, 2**32))
def test_case_when_changed_in_actions_and_keys_then_nothing_changes(question: tuple[Json, Json], seed: int) -> None:
    snapshot, request = question
    rng = random.Random(seed)

    def recase(text: str) -> str:
        return "".join(rng.choice([character.lower(), character.upper()]) for character in text)

    def recase_keys(mapping: Json) -> Json:
        return {recase(key): value for key, value in mapping.items()}

    changed, asked = copy.deepcopy(snapshot), copy.deepcopy(request)
    for document in _all_documents(changed):
        for statement in document["Statement"]:
            for element in ("Action", "NotAction"):
                value = statement.get(element)
                if isinstance(value, str):
                    statement[element] = recase(value)
                elif isinstance(value, list):
                    statement[element] = [recase(entry) for entry in value]
            if "Condition" in statement:
                statement["Condition"] = {
                    operator: recase_keys(block) for operator, block in statement["Condition"].items()
                }
    if "tags" in changed:
        changed["tags"] = recase_keys(changed["tags"])
    if "action" in asked:
        asked["action"] = recase(asked["action"])
    for part in ("context", "override"):
        if part in asked:
            asked[part] = recase_keys(asked[part])
    before, after = ask_core(snapshot, request), ask_core(changed, asked)
    if isinstance(before, Answer) and isinstance(after, Answer):
        same = before == after
    else:
        same = isinstance(before, Invalid) and isinstance(after, Invalid)
    _must_hold(same, "the case of actions and keys matters", (snapshot, request, before), (changed, asked, after))


@settings(SEEDED, max_examples=EXAMPLES)
@given(questions(), st.integers(0, 2**32))
def test_statement_when_of_another_action_then_nothing_changes(question: tuple[Json, Json], seed: int) -> None:
    snapshot, request = question
    rng = random.Random(seed)
    changed = copy.deepcopy(snapshot)
    for layer, kind in _LAYERS.items():
        for document in _documents(changed.get(layer)):
            statement = draw_statement(rng, kind=kind)
            statement.pop("Sid", None)
            statement.pop("NotAction", None)
            statement["Action"] = "sts:Nothing"
            if document.get("Version", "2012-10-17") != "2012-10-17":
                statement.pop("Condition", None)
            document["Statement"].append(statement)
    before, after = ask_core(snapshot, request), ask_core(changed, request)
    _must_hold(
        before == after,
        "a statement of another action matters",
        (snapshot, request, before),
        (changed, request, after),
    )


@settings(SEEDED, max_examples=2 * EXAMPLES)
@given(questions())
def test_session_policies_when_they_come_with_a_token_then_they_filter_as_those_of_a_simulation(
    question: tuple[Json, Json],
) -> None:
    snapshot, request = {**question[0], "principal": "role"}, question[1]
    assume("session" in snapshot)
    # Facts of a session that no simulation has are left out.
    session = {"policies": snapshot["session"]}
    bare = {key: part for key, part in snapshot.items() if key != "session"}
    asked = {key: part for key, part in request.items() if key not in ("principal", "session")}
    override = {"aws:TokenIssueTime": "2026-01-15T11:50:00Z", **asked.get("override", {})}
    if snapshot.get("role_arn"):
        asked["principal"] = SESSION_ARN.replace("worker", snapshot["role_arn"].rsplit("/", 1)[1])
    before = ask_core(snapshot, {**asked, "override": override})
    after = ask_core(bare, {**asked, "override": override, "session": session})
    assert outcome(after) == outcome(before), case_of("session policies", bare, {**asked, "session": session})


@settings(SEEDED, max_examples=EXAMPLES)
@given(mfa_questions())
def test_requirement_when_fulfilled_then_allowed(question: tuple[Json, Json]) -> None:
    snapshot, request = question
    before = ask_core(snapshot, request)
    assume(isinstance(before, Answer) and before.mfa_requirement is not None)
    assert isinstance(before, Answer)
    assert before.mfa_requirement is not None
    requirement = before.mfa_requirement
    age = requirement.max_age_seconds if requirement.max_age_seconds is not None else 2**32 - 1

    def proved(method: MfaMethod, verified: bool, after: int) -> bool:
        override = dict(request.get("override", {}))
        if snapshot["principal"] == "user" and "session" not in request:
            override.setdefault("aws:TokenIssueTime", "2026-01-15T12:00:00Z")
        override["aws:MultiFactorAuthPresent"] = "true"
        override["aws:MultiFactorAuthAge"] = str(after)
        override["sidecar:MfaMethod"] = method.word
        override["sidecar:MfaUserVerified"] = verified
        override["sidecar:MfaDeviceSerial"] = {"values": []}
        return is_allowed(ask_core(snapshot, {**request, "override": override}))

    ages = []
    for method in MfaMethod:
        ways = [False, True] if method is MfaMethod.WEBAUTHN else [False]
        allowed = [verified for verified in ways if proved(method, verified, 0)]
        assert bool(allowed) == (method in requirement.methods), case_of("methods", snapshot, request)
        assert not (requirement.user_verification and False in allowed), case_of("verification", snapshot, request)
        ages += [proved(method, verified, age) for verified in allowed]
    # Policies may refuse an age in the middle for one factor; for the one with the smallest it is promised.
    assert any(ages), case_of("age", snapshot, request)
