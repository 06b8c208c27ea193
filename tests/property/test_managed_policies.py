# SPDX-License-Identifier: Apache-2.0
"""
The core agrees with the oracle on the managed policies of AWS, as moto ships them.

Each policy is attached to a user of its own; the questions are made from what its statements say.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import settings
from moto.iam.aws_managed_policies import aws_managed_policies_data

from sidecar.compile.image import write_image
from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import Problems
from sidecar.model.decision import Decision
from sidecar.model.policy import Instant, Pattern, Policy, PolicyKind, Statement
from sidecar.model.request import AuthorizationRequest, ContextValue, is_reserved_key
from sidecar.model.snapshot import Account, Snapshot, User
from tests.conformance.cases import ACCOUNT
from tests.oracle import decide
from tests.property.asking import NOW, core

#: One, and many in a long run.
QUESTIONS_PER_POLICY = max(1, settings().max_examples // 100)

_PARTS = 4
_ACTION = re.compile(r"[a-z0-9-]+:[a-z0-9_.-]+")


@cache
def _policies() -> list[Policy]:
    policies = []
    for name, entry in sorted(json.loads(aws_managed_policies_data).items()):
        problems = Problems()
        document = parse_policy(
            entry["Document"], kind=PolicyKind.IDENTITY, problems=problems, file=name, check_quota=False, advice=False
        )
        assert document is not None, problems.items
        policies.append(Policy(f"arn:aws:iam::aws:policy/{name}", document))
    return policies


def _fill(rng: random.Random, text: str) -> str:
    """Write a text that a pattern matches."""
    text = re.sub(r"\$\{[^}]*\}", rng.choice(["alice", "other"]), text)
    return text.replace("*", rng.choice(["", "x", "a/b"])).replace("?", "q")


def _question(rng: random.Random, user: User, statement: Statement) -> AuthorizationRequest:
    pattern = rng.choice(statement.actions)
    action = f"{pattern.service.replace('*', 's3')}:{_fill(rng, pattern.name).replace('/', '')}"
    if not _ACTION.fullmatch(action):
        action = "s3:GetObject"
    resource = "*"
    if statement.resources and rng.random() < 0.8:
        entry = rng.choice(statement.resources)
        fields = [_fill(rng, part.text) for part in entry.fields] or ["arn", "aws", "s3", "", "", "bucket/key"]
        fields[1] = fields[1] if fields[1].startswith("aws") else "aws"
        fields[4] = fields[4].replace("x", "").replace("a/b", "") or rng.choice(["", ACCOUNT])
        resource = ":".join([*fields[:5], fields[5] or "thing"])
    context = {}
    for condition in statement.conditions:
        if is_reserved_key(condition.key) or rng.random() < 0.15:
            continue
        value = rng.choice(condition.values)
        text = _fill(rng, value.text) if isinstance(value, Pattern) else "2026-01-15"
        if isinstance(value, Instant):
            text = str(value.seconds + rng.randint(-1, 1))
        values = (text,) if rng.random() < 0.8 else (text, "other")
        context[condition.key] = ContextValue(values, multivalued=rng.random() < 0.3)
    return AuthorizationRequest(user.arn, rng.choice([action, action.upper()]), resource, context)


def _questions(rng: random.Random, users: list[User]) -> Iterator[AuthorizationRequest]:
    for user in users:
        for _ in range(QUESTIONS_PER_POLICY):
            yield _question(rng, user, rng.choice(rng.choice(user.policies).document.statements))


@pytest.mark.parametrize("part", range(_PARTS))
def test_managed_policies_when_asked_then_core_agrees_with_oracle(part: int) -> None:
    rng = random.Random(part)
    policies = _policies()
    assert len(policies) > 1500
    users = []
    for number, policy in enumerate(policies[part::_PARTS]):
        arn = f"arn:aws:iam::{ACCOUNT}:user/u{number}"
        attached = (policy, *rng.sample(policies, rng.choice([0, 0, 2])))
        boundary = rng.choice(policies) if rng.random() < 0.1 else None
        users.append(User(arn, ACCOUNT, f"u{number}", f"AIDAEXAMPLE{number:09}", attached, boundary))
    snapshot = Snapshot((Account(ACCOUNT, users=tuple(users)),))
    image = core.Image.from_bytes(write_image(snapshot))
    seen: Counter[Decision] = Counter()
    for request in _questions(rng, users):
        want = decide(snapshot, request, seconds=NOW, nanos=0)
        assert core.explain(image, request, seconds=NOW, nanos=0) == want, request
        seen[want.decision] += 1
    # The questions are made so that a good part of them is allowed.
    assert seen[Decision.ALLOW] > len(users) // 2
    assert seen[Decision.IMPLICIT_DENY] > len(users) // 10
