# SPDX-License-Identifier: Apache-2.0
"""
Small account dumps to start from.
"""

from __future__ import annotations

import json
from typing import Any

from sidecar.compile.source import SourceReport, parse_source
from sidecar.model.errors import Problem, Severity
from sidecar.model.snapshot import Snapshot

Json = dict[str, Any]

ACCOUNT = "111122223333"
FILE = "accounts/main.json"
ARN = f"arn:aws:iam::{ACCOUNT}"


def document(action: str = "s3:GetObject", resource: str = "*", effect: str = "Allow") -> Json:
    """Return a policy of one statement."""
    return {"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, "Resource": resource}]}


def trust(service: str = "ec2.amazonaws.com") -> Json:
    """Return a trust policy for a service."""
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def managed(name: str, *, owner: str = ACCOUNT, number: int = 0, **more: object) -> Json:
    """Return a managed policy with one version."""
    return {
        "PolicyName": name,
        "PolicyId": f"ANPA{owner}{name.upper()}{number}",
        "Arn": f"arn:aws:iam::{owner}:policy/{name}",
        "Path": "/",
        "DefaultVersionId": "v1",
        "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": True, "Document": document()}],
        **more,
    }


def attached(arn: str) -> Json:
    """Return a reference to a managed policy, as an entity carries it."""
    return {"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn}


def user(name: str, *, account: str = ACCOUNT, **more: object) -> Json:
    """Return a user without policies."""
    return {
        "Path": "/",
        "UserName": name,
        "UserId": f"AIDA{account}{name.upper()}",
        "Arn": f"arn:aws:iam::{account}:user/{name}",
        **more,
    }


def group(name: str, *, account: str = ACCOUNT, **more: object) -> Json:
    """Return a group without policies."""
    return {
        "Path": "/",
        "GroupName": name,
        "GroupId": f"AGPA{account}{name.upper()}",
        "Arn": f"arn:aws:iam::{account}:group/{name}",
        **more,
    }


def role(name: str, *, account: str = ACCOUNT, **more: object) -> Json:
    """Return a role that EC2 may assume."""
    return {
        "Path": "/",
        "RoleName": name,
        "RoleId": f"AROA{account}{name.upper()}",
        "Arn": f"arn:aws:iam::{account}:role/{name}",
        "AssumeRolePolicyDocument": trust(),
        **more,
    }


def page(
    *,
    users: list[Json] | None = None,
    groups: list[Json] | None = None,
    roles: list[Json] | None = None,
    policies: list[Json] | None = None,
    **more: object,
) -> Json:
    """Return one page of a dump."""
    return {
        "UserDetailList": users or [],
        "GroupDetailList": groups or [],
        "RoleDetailList": roles or [],
        "Policies": policies or [],
        **more,
    }


def full_page() -> Json:
    """Return a page that uses every part of a dump."""
    return page(
        users=[
            user(
                "alice",
                UserPolicyList=[{"PolicyName": "own", "PolicyDocument": document("s3:ListBucket")}],
                GroupList=["Readers"],
                AttachedManagedPolicies=[attached(f"{ARN}:policy/Base")],
                PermissionsBoundary={
                    "PermissionsBoundaryType": "PermissionsBoundaryPolicy",
                    "PermissionsBoundaryArn": f"{ARN}:policy/Limit",
                },
                Tags=[{"Key": "team", "Value": "orders"}],
            )
        ],
        groups=[
            group(
                "Readers",
                GroupPolicyList=[{"PolicyName": "read", "PolicyDocument": document("s3:Get*")}],
                AttachedManagedPolicies=[attached(f"{ARN}:policy/Base"), attached("arn:aws:iam::aws:policy/Extra")],
            )
        ],
        roles=[
            role(
                "web",
                RolePolicyList=[{"PolicyName": "assets", "PolicyDocument": document("s3:PutObject")}],
                AttachedManagedPolicies=[attached(f"{ARN}:policy/Base")],
                InstanceProfileList=[
                    {
                        "Path": "/",
                        "InstanceProfileName": "web",
                        "InstanceProfileId": "AIPA1",
                        "Arn": f"{ARN}:instance-profile/web",
                        "Roles": [],
                    }
                ],
                Tags=[{"Key": "tier", "Value": ""}],
                RoleLastUsed={"Region": "eu-west-1"},
            )
        ],
        policies=[managed("Base"), managed("Limit"), managed("Extra", owner="aws")],
        IsTruncated=False,
    )


def encode(value: object) -> bytes:
    """Return *value* as a file of JSON."""
    return json.dumps(value).encode()


def parse(main: object, **others: object) -> SourceReport:
    """
    Parse a source with one account file.

    Others are named by their stem, with ``_`` for ``-``; bytes are the content of a YAML file.
    """
    files = {FILE: encode(main)}
    for name, content in others.items():
        stem = name.replace("_", "-")
        if isinstance(content, bytes):
            files[f"{stem}.yaml"] = content
        else:
            files[f"{stem}.json"] = encode(content)
    return parse_source(files)


def snapshot_of(report: SourceReport) -> Snapshot:
    """Return the snapshot of a report that has one."""
    assert report.snapshot is not None, "\n".join(map(str, report.problems))
    return report.snapshot


def expect(report: SourceReport, severity: Severity, file: str, json_path: str, *words: str) -> Problem:
    """Return the only problem at a place, which must have *words* in its message or help."""
    found = [problem for problem in report.problems if problem.file == file and problem.json_path == json_path]
    everything = "\n".join(map(str, report.problems))
    assert len(found) == 1, everything
    problem = found[0]
    assert problem.severity is severity, everything
    for word in words:
        assert word in f"{problem.message} ({problem.help})", everything
    assert (report.snapshot is None) == any(other.severity is Severity.ERROR for other in report.problems)
    return problem


def expect_error(report: SourceReport, json_path: str, *words: str, file: str = FILE) -> Problem:
    """Return the only problem at a place, an error."""
    return expect(report, Severity.ERROR, file, json_path, *words)


def expect_warning(report: SourceReport, json_path: str, *words: str, file: str = FILE) -> Problem:
    """Return the only problem at a place, a warning."""
    return expect(report, Severity.WARNING, file, json_path, *words)
