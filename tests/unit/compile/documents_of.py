# SPDX-License-Identifier: Apache-2.0
"""Documents for the tests of the policy language, one change away from a sound one."""

import json
from typing import NamedTuple

from sidecar.compile.documents import read_json
from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import Problems
from sidecar.model.errors import Problem, Severity
from sidecar.model.policy import PolicyDocument, PolicyKind, Statement

#: Stands for an element that a sound statement has and that a test takes out.
ABSENT = object()

SOUND: dict[PolicyKind, dict[str, object]] = {
    PolicyKind.IDENTITY: {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"},
    PolicyKind.BOUNDARY: {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"},
    PolicyKind.SESSION: {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"},
    PolicyKind.SERVICE_CONTROL: {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "*"},
    PolicyKind.RESOURCE_CONTROL: {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"},
    PolicyKind.RESOURCE: {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"},
    PolicyKind.TRUST: {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
}


class Parsed(NamedTuple):
    """What parsing gave."""

    document: PolicyDocument | None
    errors: list[Problem]
    warnings: list[Problem]

    @property
    def statement(self) -> Statement:
        """The first statement of a document that must be sound."""
        assert self.document is not None, self.errors
        return self.document.statements[0]

    @property
    def error(self) -> Problem:
        """The only error."""
        assert len(self.errors) == 1, self.errors
        return self.errors[0]

    @property
    def warning(self) -> Problem:
        """The only warning of a sound document."""
        assert not self.errors, self.errors
        assert len(self.warnings) == 1, self.warnings
        return self.warnings[0]


def parse(
    document: object, kind: PolicyKind = PolicyKind.IDENTITY, *, check_quota: bool = True, advice: bool = True
) -> Parsed:
    """Parse *document*, given as the value of its JSON or as text."""
    value = document if isinstance(document, str) else read_json(json.dumps(document))
    problems = Problems()
    parsed = parse_policy(value, kind=kind, problems=problems, file="p.json", check_quota=check_quota, advice=advice)
    assert (parsed is None) == problems.has_errors
    assert all(problem.file == "p.json" for problem in problems.items)
    for problem in problems.items:
        assert problem.message
        assert problem.message.isprintable()
        assert len(f"{problem}") < 1_000
        assert problem.message[0].islower() or problem.message[0] in "`'0123456789" or problem.message.startswith("U+")
        assert not problem.message.endswith(".")
        assert problem.help.isprintable()
        assert problem.json_path.isprintable()
    return Parsed(
        parsed,
        [problem for problem in problems.items if problem.severity is Severity.ERROR],
        [problem for problem in problems.items if problem.severity is Severity.WARNING],
    )


def policy(*statements: object, version: object = "2012-10-17") -> dict[str, object]:
    """Give a document of *statements*."""
    document: dict[str, object] = {} if version is ABSENT else {"Version": version}
    return {**document, "Statement": list(statements)}


def statement(kind: PolicyKind = PolicyKind.IDENTITY, **elements: object) -> dict[str, object]:
    """Give a sound statement with *elements* put in, or taken out where they are ``ABSENT``."""
    merged = {**SOUND[kind], **elements}
    return {name: value for name, value in merged.items() if value is not ABSENT}


def change(kind: PolicyKind = PolicyKind.IDENTITY, *, version: object = "2012-10-17", **elements: object) -> Parsed:
    """Parse a document with one statement, that of ``statement``."""
    return parse(policy(statement(kind, **elements), version=version), kind)


def condition(operator: str, key: str, values: object, *, version: object = "2012-10-17", **elements: object) -> Parsed:
    """Parse a document whose only statement has one line of conditions."""
    whole = {**statement(), "Condition": {operator: {key: values}}, **elements}
    return parse(policy(whole, version=version))
