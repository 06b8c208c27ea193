# SPDX-License-Identifier: Apache-2.0
"""
``resource-policies.json``: what it gives, and the name of everything that can be wrong with it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.compile.source import SourceReport, parse_source
from sidecar.model.snapshot import ResourcePolicy
from tests.unit.compile.dumps import (
    ACCOUNT,
    Json,
    encode,
    expect_error,
    full_page,
    page,
    parse,
    snapshot_of,
    user,
)

FILE = "resource-policies.json"
OTHER = "000000000001"
POLICY: Json = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}],
}


def report_of(*entries: object) -> SourceReport:
    return parse(full_page(), resource_policies={"resources": list(entries)})


def only(entry: Json) -> ResourcePolicy:
    report = report_of(entry)
    assert report.problems == ()
    (found,) = snapshot_of(report).resource_policies
    return found


def two_accounts(*entries: object) -> SourceReport:
    return parse_source(
        {
            "accounts/a.json": encode(full_page()),
            "accounts/b.json": encode(page(users=[user("bob", account=OTHER)])),
            FILE: encode({"resources": list(entries)}),
        }
    )


def test_entry_when_its_arn_names_the_account_has_no_other() -> None:
    found = only({"arn": f"arn:aws:sqs:eu-west-1:{OTHER}:queue", "policy": POLICY})
    assert (found.arn, found.account) == (f"arn:aws:sqs:eu-west-1:{OTHER}:queue", "")
    assert found.policy.name == f"inline:arn:aws:sqs:eu-west-1:{OTHER}:queue/policy"
    assert only({"arn": f"arn:aws:sqs:eu-west-1:{OTHER}:queue", "account": OTHER, "policy": POLICY}).account == ""


def test_entry_when_its_arn_names_no_account_has_the_one_given() -> None:
    assert only({"arn": "arn:aws:s3:::bucket", "account": OTHER, "policy": POLICY}).account == OTHER


def test_entry_when_nothing_names_the_account_has_the_only_one() -> None:
    assert only({"arn": "arn:aws:s3:::bucket", "policy": POLICY}).account == ACCOUNT


def test_entry_when_it_ends_in_a_wildcard_or_its_policy_is_text_is_read() -> None:
    found = only({"arn": "arn:aws:s3:::bucket-*", "policy": json.dumps(POLICY)})
    assert found.arn == "arn:aws:s3:::bucket-*"
    assert found.policy.document.statements[0].principals is not None


def test_entry_when_nothing_names_the_account_of_several_is_refused() -> None:
    report = two_accounts({"arn": "arn:aws:s3:::bucket", "policy": POLICY})
    expect_error(report, "$.resources[0]", "which account owns `arn:aws:s3:::bucket`", '"account"', file=FILE)


def entry(**more: object) -> Json:
    return {"arn": "arn:aws:s3:::bucket", "policy": POLICY, **more}


def arn(text: str) -> Json:
    return {"resources": [entry(arn=text)]}


ARN = "$.resources[0].arn"
ERRORS: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "no object": ([], "$", ("must be an object",)),
    "no list": ({}, "$", ("without `resources`",)),
    "list is no list": ({"resources": {}}, "$.resources", ("must be a list",)),
    "unknown key": ({"resources": [], "resource": []}, "$.resource", ("did you mean `resources`",)),
    "entry is no object": ({"resources": [1]}, "$.resources[0]", ("a resource must be an object",)),
    "unknown key of an entry": ({"resources": [entry(acount="x")]}, "$.resources[0].acount", ("`account`",)),
    "no ARN": ({"resources": [{"policy": POLICY}]}, "$.resources[0]", ("without `arn`",)),
    "no policy": ({"resources": [{"arn": "arn:aws:s3:::b"}]}, "$.resources[0]", ("without `policy`",)),
    "ARN is no text": ({"resources": [entry(arn=1)]}, ARN, ("must be text",)),
    "ARN is a wildcard": (arn("*"), ARN, ("`*` is not an ARN", "six fields")),
    "ARN has five fields": (arn("arn:aws:s3::bucket"), ARN, ("is not an ARN",)),
    "ARN without service": (arn("arn:aws::::bucket"), ARN, ("is not an ARN",)),
    "ARN without resource": (arn("arn:aws:s3:::"), ARN, ("is not an ARN",)),
    "ARN with a wildcard inside": (arn("arn:aws:s3:::a*b"), ARN, ("wildcard before its end",)),
    "ARN with two wildcards": (arn("arn:aws:s3:::a**"), ARN, ("wildcard before its end",)),
    "ARN with a question mark": (arn("arn:aws:s3:::a?"), ARN, ("wildcard before its end",)),
    "ARN with a control character": (arn("arn:aws:s3:::a\u0000b"), ARN, ("character", "\\x00")),
    "ARN too long": (arn("arn:aws:s3:::" + "b" * 2048), ARN, ("2048 bytes",)),
    "ARN of a bad account": (arn("arn:aws:sqs:eu-west-1:12:q"), ARN, ("`12`", "not an account", "twelve digits")),
    "ARN of a role": (arn(f"arn:aws:iam::{ACCOUNT}:role/web"), ARN, ("is a role", "trust policy")),
    "account is no id": ({"resources": [entry(account="x")]}, "$.resources[0].account", ("twelve digits",)),
    "account contradicts": (
        {"resources": [entry(arn=f"arn:aws:sqs:eu-west-1:{ACCOUNT}:q", account=OTHER)]},
        "$.resources[0].account",
        (f"account {OTHER} contradicts",),
    ),
    "twice": ({"resources": [entry(), entry()]}, "$.resources[1].arn", ("stands twice", "$.resources[0]")),
    "mistake in the policy": (
        {
            "resources": [
                entry(policy={"Version": "2012-10-17", "Statement": [{**POLICY["Statement"][0], "Effect": "x"}]})
            ]
        },
        "$.resources[0].policy.Statement[0].Effect",
        ("`x`",),
    ),
    "policy without principal": (
        {
            "resources": [
                entry(
                    policy={
                        "Version": "2012-10-17",
                        "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}],
                    }
                )
            ]
        },
        "$.resources[0].policy.Statement[0]",
        ("`Principal`",),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_resource_policies_with_a_mistake_are_refused_by_name(name: str) -> None:
    content, json_path, words = ERRORS[name]
    report = parse(full_page(), resource_policies=content)
    assert report.snapshot is None
    expect_error(report, json_path, *words, file=FILE)
