# SPDX-License-Identifier: Apache-2.0
"""
Every AWS managed policy parses, compiles and decides, and decides as the oracle does.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator

import pytest
from moto.iam.aws_managed_policies import aws_managed_policies_data

from sidecar.compile.image import write_image
from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import Problems
from sidecar.core import Image, explain
from sidecar.model.decision import Decision
from sidecar.model.policy import Effect, Pattern, Policy, PolicyDocument, PolicyKind, Statement, Variable, Wildcard
from sidecar.model.request import AuthorizationRequest, ContextValue
from sidecar.model.snapshot import Account, Snapshot, User
from tests import oracle

ACCOUNT = "111122223333"
ARN = f"arn:aws:iam::{ACCOUNT}:user/ada"
NOW = 1_768_478_400
SHARDS = 16

POLICIES: dict[str, dict[str, object]] = json.loads(aws_managed_policies_data)
CONTEXT = {
    "aws:RequestedRegion": ContextValue(("eu-central-1",)),
    "aws:SourceIp": ContextValue(("203.0.113.9",)),
    "aws:SecureTransport": ContextValue(("true",)),
    "aws:ResourceTag/team": ContextValue(("orders",)),
    "aws:TagKeys": ContextValue(("team", "Name"), True),
}


def parse(name: str) -> PolicyDocument:
    problems = Problems()
    document = parse_policy(
        POLICIES[name]["Document"], kind=PolicyKind.IDENTITY, problems=problems, file=name, check_quota=False
    )
    assert document is not None, [str(problem) for problem in problems.items]
    return document


def snapshot_of(name: str, document: PolicyDocument) -> Snapshot:
    policy = Policy(f"arn:aws:iam::aws:policy/{name}", document)
    user = User(ARN, ACCOUNT, "ada", "AIDAEXAMPLEEXAMPLE123", (policy,), tags={"team": "orders"})
    return Snapshot((Account(ACCOUNT, users=(user,)),))


def fill(field: Pattern, wild: str) -> str:
    """Give a text that *field* matches, where its variables leave it a chance."""
    parts = []
    for piece in field.pieces:
        if isinstance(piece, Variable):
            parts.append("orders")
        elif isinstance(piece, Wildcard):
            parts.append("x" if piece is Wildcard.ANY_CHAR else wild)
        else:
            parts.append(piece)
    return "".join(parts)


def resource_of(statement: Statement) -> str:
    for resource in statement.resources or ():
        if resource.fields:
            wilds = ("", "aws", "s3", "eu-central-1", ACCOUNT, "some/thing:1")
            fields = [fill(field, wild) for field, wild in zip(resource.fields, wilds, strict=True)]
            if fields[1] and fields[2] and fields[5]:
                return ":".join(fields)
    return f"arn:aws:s3:::bucket-{statement.index}/key"


def requests_of(document: PolicyDocument) -> Iterator[AuthorizationRequest]:
    """Yield questions that the statements of *document* bear on, and one that none does."""
    for statement in document.statements:
        action = statement.actions[zlib.crc32(statement.sid.encode()) % len(statement.actions)]
        name = f"{action.service.replace('*', 's3')}:{action.name.replace('*', 'GetThing').replace('?', 'x')}"
        for resource in (resource_of(statement), "*"):
            yield AuthorizationRequest(ARN, name, resource, CONTEXT)
    yield AuthorizationRequest(ARN, "nosuchservice:DoNothing", "*", CONTEXT)


def spread(requests: list[AuthorizationRequest]) -> list[AuthorizationRequest]:
    """Take three, from all over; the oracle takes its time."""
    return requests[:: max(1, len(requests) // 3)][:3]


@pytest.mark.parametrize("shard", range(SHARDS))
def test_managed_policies_when_asked_then_core_and_oracle_agree(shard: int) -> None:
    allowed = 0
    for name in sorted(POLICIES)[shard::SHARDS]:
        document = parse(name)
        snapshot = snapshot_of(name, document)
        image = Image.from_bytes(write_image(snapshot))
        for request in spread(list(requests_of(document))):
            answer = explain(image, request, seconds=NOW, nanos=0)
            assert answer == oracle.decide(snapshot, request, seconds=NOW, nanos=0), (name, request)
            allowed += answer.decision is Decision.ALLOW
    assert allowed > 20


def test_managed_policies_when_compiled_together_then_each_decides_alone() -> None:
    users, expected = [], {}
    for number, name in enumerate(sorted(POLICIES)):
        document = parse(name)
        arn = f"arn:aws:iam::{ACCOUNT}:user/user-{number}"
        users.append(User(arn, ACCOUNT, f"user-{number}", "", (Policy(f"arn:aws:iam::aws:policy/{name}", document),)))
        first = document.statements[0]
        unconditional = first.effect is Effect.ALLOW and not first.conditions and not first.not_action
        if unconditional and any(resource.is_any for resource in first.resources or ()) and not first.not_resource:
            action = first.actions[0].text.replace("*", "s3:Thing" if first.actions[0].text == "*" else "Thing")
            expected[arn] = action
    image = Image.from_bytes(write_image(Snapshot((Account(ACCOUNT, users=tuple(users)),))))
    assert image.statistics["policies"] == len(POLICIES)
    refused = [
        (arn, action)
        for arn, action in expected.items()
        if explain(image, AuthorizationRequest(arn, action, "*"), seconds=NOW, nanos=0).decision
        is Decision.IMPLICIT_DENY
    ]
    assert len(expected) > 500
    assert refused == []
