# SPDX-License-Identifier: Apache-2.0
"""
A dump that this project did not write: that of the IAM of ``moto``.
"""

from __future__ import annotations

import json

import boto3  # type: ignore[import-untyped]
import pytest
from moto import mock_aws

from sidecar.compile.source import parse_source
from tests.unit.compile.dumps import document, encode, snapshot_of, trust


@pytest.fixture
def dump(monkeypatch: pytest.MonkeyPatch) -> bytes:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    policy, assume = json.dumps(document("s3:Get*")), json.dumps(trust())
    with mock_aws():
        iam = boto3.client("iam", region_name="us-east-1")
        arn = iam.create_policy(PolicyName="Read", PolicyDocument=policy)["Policy"]["Arn"]
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(document("s3:List*")), SetAsDefault=True)
        iam.create_group(GroupName="Readers")
        iam.put_group_policy(GroupName="Readers", PolicyName="own", PolicyDocument=policy)
        iam.attach_group_policy(GroupName="Readers", PolicyArn=arn)
        iam.create_user(UserName="alice", Path="/staff/", Tags=[{"Key": "team", "Value": "orders"}])
        iam.add_user_to_group(UserName="alice", GroupName="Readers")
        iam.put_user_policy(UserName="alice", PolicyName="own", PolicyDocument=policy)
        iam.attach_user_policy(UserName="alice", PolicyArn=arn)
        iam.create_role(RoleName="web", AssumeRolePolicyDocument=assume)
        iam.create_instance_profile(InstanceProfileName="web")
        iam.add_role_to_instance_profile(InstanceProfileName="web", RoleName="web")
        pages = list(iam.get_paginator("get_account_authorization_details").paginate())
    return encode(json.loads(json.dumps(pages, default=str)))


def test_dump_of_moto_loads_without_a_word(dump: bytes) -> None:
    report = parse_source({"accounts/moto.json": dump})
    assert report.problems == ()
    (account,) = snapshot_of(report).accounts
    arn = f"arn:aws:iam::{account.id}"
    (alice,) = account.users
    assert [policy.name for policy in alice.policies] == [
        f"inline:{arn}:user/staff/alice/own",
        f"{arn}:policy/Read",
        f"inline:{arn}:group/Readers/own",
    ]
    assert alice.policies[1].document.statements[0].actions[0].text == "s3:list*"
    (web,) = account.roles
    assert web.instance_profiles == (f"{arn}:instance-profile/web",)
