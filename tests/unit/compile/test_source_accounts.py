# SPDX-License-Identifier: Apache-2.0
"""
Account dumps: what comes out of a sound one, and the name of everything that can be wrong with one.
"""

from __future__ import annotations

import copy
import json
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.compile.source import parse_source
from sidecar.model.errors import Severity
from sidecar.model.policy import Effect
from sidecar.model.snapshot import Snapshot
from tests.unit.compile.dumps import (
    ACCOUNT,
    ARN,
    FILE,
    Json,
    attached,
    document,
    encode,
    expect,
    expect_error,
    expect_warning,
    full_page,
    group,
    managed,
    page,
    parse,
    role,
    snapshot_of,
    trust,
    user,
)

VECTORS = Path(__file__).parents[2] / "vectors" / "account-dump"


def read_vector(kind: str) -> Snapshot:
    root = VECTORS / kind
    report = parse_source({file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*.json")})
    assert report.problems == ()
    return snapshot_of(report)


# What comes out of a sound dump.


def test_user_gets_inline_then_attached_then_group_policies() -> None:
    snapshot = snapshot_of(parse(full_page()))
    (alice,) = snapshot.accounts[0].users
    assert [policy.name for policy in alice.policies] == [
        f"inline:{ARN}:user/alice/own",
        f"{ARN}:policy/Base",
        f"inline:{ARN}:group/Readers/read",
        "arn:aws:iam::aws:policy/Extra",
    ]
    assert alice.boundary is not None
    assert alice.boundary.name == f"{ARN}:policy/Limit"
    assert alice.tags == {"team": "orders"}
    assert (alice.account, alice.name, alice.user_id) == (ACCOUNT, "alice", f"AIDA{ACCOUNT}ALICE")


def test_role_gets_trust_policies_tags_and_instance_profiles() -> None:
    (web,) = snapshot_of(parse(full_page())).accounts[0].roles
    assert web.trust.name == f"inline:{ARN}:role/web/AssumeRolePolicyDocument"
    assert web.trust.document.statements[0].effect is Effect.ALLOW
    assert [policy.name for policy in web.policies] == [f"inline:{ARN}:role/web/assets", f"{ARN}:policy/Base"]
    assert web.instance_profiles == (f"{ARN}:instance-profile/web",)
    assert web.tags == {"tier": ""}
    assert web.max_session_duration == 3600


def test_managed_policy_is_one_object_wherever_it_is_attached() -> None:
    account = snapshot_of(parse(full_page())).accounts[0]
    base_of_user = next(policy for policy in account.users[0].policies if policy.name.endswith("Base"))
    base_of_role = next(policy for policy in account.roles[0].policies if policy.name.endswith("Base"))
    assert base_of_user is base_of_role


def test_equal_inline_documents_are_one_object() -> None:
    inline = [{"PolicyName": "own", "PolicyDocument": document()}]
    first, second = (
        snapshot_of(parse(page(users=[user("a", UserPolicyList=inline), user("b", UserPolicyList=inline)])))
        .accounts[0]
        .users
    )
    assert first.policies[0].document is second.policies[0].document
    assert first.policies[0].name != second.policies[0].name


@pytest.mark.parametrize("encoded", [json.dumps, lambda value: urllib.parse.quote(json.dumps(value, indent=2))])
def test_document_as_text_when_json_or_url_encoded_means_the_same(encoded: Callable[[object], str]) -> None:
    plain = full_page()
    text = copy.deepcopy(plain)
    text["UserDetailList"][0]["UserPolicyList"][0]["PolicyDocument"] = encoded(document("s3:ListBucket"))
    text["RoleDetailList"][0]["AssumeRolePolicyDocument"] = encoded(trust())
    text["Policies"][0]["PolicyVersionList"][0]["Document"] = encoded(document())
    assert snapshot_of(parse(text)) == snapshot_of(parse(plain))


def test_aws_shape_when_decoded_or_encoded_and_in_two_pages_loads_without_a_word() -> None:
    decoded, encoded = read_vector("decoded"), read_vector("encoded")
    assert decoded == encoded
    (account,) = decoded.accounts
    assert (account.id, account.partition) == ("210987654321", "aws")
    assert [entry.name for entry in account.users] == ["nadia", "omar", "ci+deploy@example"]
    assert [entry.name for entry in account.roles] == ["web", "report-builder", "auditor", "AWSServiceRoleForSupport"]
    nadia = account.users[0]
    # Everybody and Developers both bring a policy, and one that she has already.
    assert [policy.name.rpartition("/")[2] for policy in nadia.policies] == [
        "own-queue",
        "IAMUserChangePassword",
        "artifacts",
        "logs",
        "ReadReports",
        "RequireMfa",
    ]
    reports = next(policy for policy in nadia.policies if policy.name.endswith("ReadReports"))
    assert len(reports.document.statements) == 2, "the default version, not an older one"
    assert account.roles[3].is_service_linked


def test_pages_as_a_list_or_one_after_the_other_are_the_same_as_files() -> None:
    first = page(users=[user("alice", GroupList=["Readers"])], IsTruncated=True, Marker="x")
    second = page(groups=[group("Readers")], IsTruncated=False)
    as_files = parse_source({"accounts/a.json": encode(first), "accounts/b.json": encode(second)})
    as_list = parse([first, second])
    pretty = "\n".join(json.dumps(each, indent=4) for each in (first, second))
    as_stream = parse_source({FILE: pretty.encode()})
    lines = parse_source({FILE: f"{json.dumps(first)}\r\n\n  {json.dumps(second)}\n".encode()})
    assert snapshot_of(as_files) == snapshot_of(as_list) == snapshot_of(as_stream) == snapshot_of(lines)


def test_yaml_dump_is_read_like_json() -> None:
    text = f"""
UserDetailList:
- Arn: {ARN}:user/alice
  Path: /
  UserId: AIDA1
  UserName: alice
  UserPolicyList:
  - PolicyName: own
    PolicyDocument:
      Version: 2012-10-17
      Statement: {{Effect: Allow, Action: s3:*, Resource: '*'}}
"""
    report = parse_source({"accounts/main.yaml": text.encode()})
    assert snapshot_of(report).accounts[0].users[0].policies[0].document.version == "2012-10-17"


def test_accounts_of_several_files_are_sorted_by_id() -> None:
    other = "000000000001"
    report = parse_source(
        {
            "accounts/a.json": encode(page(users=[user("alice")])),
            "accounts/b.json": encode(page(users=[user("bob", account=other)])),
        }
    )
    assert [account.id for account in snapshot_of(report).accounts] == [other, ACCOUNT]


def test_empty_account_when_named_by_its_file_is_an_account() -> None:
    report = parse_source({f"accounts/{ACCOUNT}.json": encode(page())})
    assert report.problems == ()
    assert snapshot_of(report).accounts[0].id == ACCOUNT


def test_partition_is_that_of_the_arns() -> None:
    text = json.dumps(full_page()).replace("arn:aws:iam", "arn:aws-cn:iam")
    assert snapshot_of(parse_source({FILE: text.encode()})).accounts[0].partition == "aws-cn"


def test_aws_policy_when_another_account_has_it_is_found_there() -> None:
    other = "000000000001"
    arn = "arn:aws:iam::aws:policy/Extra"
    report = parse_source(
        {
            "accounts/a.json": encode(page(users=[user("alice", AttachedManagedPolicies=[attached(arn)])])),
            "accounts/b.json": encode(
                page(users=[user("bob", account=other)], policies=[managed("Extra", owner="aws")])
            ),
        }
    )
    assert snapshot_of(report).accounts[1].users[0].policies[0].name == arn


def test_aws_policy_when_a_page_of_its_own_has_it_is_found_there() -> None:
    arn = "arn:aws:iam::aws:policy/Extra"
    report = parse_source(
        {
            "accounts/a.json": encode(page(users=[user("alice", AttachedManagedPolicies=[attached(arn)])])),
            "accounts/aws.json": encode({"Policies": [managed("Extra", owner="aws")]}),
        }
    )
    snapshot = snapshot_of(report)
    assert [account.id for account in snapshot.accounts] == [ACCOUNT]
    assert snapshot.accounts[0].users[0].policies[0].name == arn


def test_aws_policy_when_accounts_differ_in_version_is_each_account_s_own() -> None:
    other = "000000000001"
    arn = "arn:aws:iam::aws:policy/Extra"
    newer = managed("Extra", owner="aws", DefaultVersionId="v7")
    newer["PolicyVersionList"] = [{"VersionId": "v7", "IsDefaultVersion": True, "Document": document("s3:*")}]
    report = parse_source(
        {
            "accounts/a.json": encode(
                page(
                    users=[user("alice", AttachedManagedPolicies=[attached(arn)])],
                    policies=[managed("Extra", owner="aws")],
                )
            ),
            "accounts/b.json": encode(
                page(users=[user("bob", account=other, AttachedManagedPolicies=[attached(arn)])], policies=[newer])
            ),
            "accounts/c.json": encode(
                page(users=[user("carol", account="999999999999", AttachedManagedPolicies=[attached(arn)])])
            ),
        }
    )
    bob, alice, carol = (account.users[0] for account in snapshot_of(report).accounts)
    assert alice.policies[0].document.statements[0].actions[0].name == "getobject"
    assert bob.policies[0].document.statements[0].actions[0].name == "*"
    assert carol.policies[0] is bob.policies[0], "where the account has none, the newest"


def test_default_version_when_only_flags_say_it_is_taken() -> None:
    policy = managed("Base")
    del policy["DefaultVersionId"]
    policy["PolicyVersionList"] = [
        {"VersionId": "v2", "IsDefaultVersion": False, "Document": document("s3:*")},
        {"VersionId": "v1", "IsDefaultVersion": True, "Document": document("s3:ListBucket")},
    ]
    entry = user("alice", AttachedManagedPolicies=[attached(f"{ARN}:policy/Base")])
    (alice,) = snapshot_of(parse(page(users=[entry], policies=[policy]))).accounts[0].users
    assert alice.policies[0].document.statements[0].actions[0].name == "listbucket"


def test_session_duration_when_the_dump_has_one_is_taken() -> None:
    text = json.dumps(page(roles=[role("web", MaxSessionDuration=7200)]))
    assert snapshot_of(parse_source({FILE: text.encode()})).accounts[0].roles[0].max_session_duration == 7200


@pytest.mark.parametrize("name", ["a", "Allow read", "a/b", "a\\b", "a*", "a?", "é", "x" * 129])
def test_name_of_an_inline_policy_is_any_ascii_but_what_aws_reserves(name: str) -> None:
    entry = user("alice", UserPolicyList=[{"PolicyName": name, "PolicyDocument": document()}])
    report = parse(page(users=[entry]))
    if name == "a":
        assert snapshot_of(report).accounts[0].users[0].policies[0].name == f"inline:{ARN}:user/alice/a"
    else:
        expect_error(report, "$.UserDetailList[0].UserPolicyList[0].PolicyName", "cannot be the name")


def test_aws_policy_when_very_long_has_no_quota() -> None:
    long = managed("Extra", owner="aws")
    long["PolicyVersionList"][0]["Document"]["Statement"] *= 100
    assert parse(page(users=[user("a")], policies=[long])).problems == ()


# What can be wrong with one.

Edit = Callable[[Json], None]


def at(*keys: str | int, value: object) -> Edit:
    """Return an edit that puts *value* at a place of a page."""

    def edit(target: Any) -> None:
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value

    return edit


def without(*keys: str | int) -> Edit:
    """Return an edit that takes away a place of a page."""

    def edit(target: Any) -> None:
        for key in keys[:-1]:
            target = target[key]
        del target[keys[-1]]

    return edit


def append(*keys: str | int, value: object) -> Edit:
    """Return an edit that adds *value* to a list of a page."""

    def edit(target: Any) -> None:
        for key in keys:
            target = target[key]
        target.append(value)

    return edit


USER = ("UserDetailList", 0)
ROLE = ("RoleDetailList", 0)
GROUP = ("GroupDetailList", 0)
POLICY = ("Policies", 0)
VERSION = (*POLICY, "PolicyVersionList", 0)
BIG = {"PolicyName": "big", "PolicyDocument": document("s3:GetObject", "arn:aws:s3:::" + "b" * 1100)}
BIGGER = [{**BIG, "PolicyName": f"big{n}"} for n in range(10)]

ERRORS: dict[str, tuple[Edit, str, tuple[str, ...]]] = {
    "list of users is no list": (at("UserDetailList", value={}), "$.UserDetailList", ("must be a list", "an object")),
    "user is no object": (at(*USER, value="alice"), "$.UserDetailList[0]", ("a user", "an object", "text")),
    "user without name": (without(*USER, "UserName"), "$.UserDetailList[0]", ("user without `UserName`",)),
    "user without ARN": (without(*USER, "Arn"), "$.UserDetailList[0]", ("user without `Arn`",)),
    "user without id": (without(*USER, "UserId"), "$.UserDetailList[0]", ("user without `UserId`",)),
    "name is no text": (at(*USER, "UserName", value=7), "$.UserDetailList[0].UserName", ("text", "a number")),
    "name is empty": (at(*USER, "UserName", value=""), "$.UserDetailList[0].UserName", ("empty",)),
    "name has a slash": (at(*USER, "UserName", value="a/b"), "$.UserDetailList[0].UserName", ("`a/b` cannot be",)),
    "name is too long": (at(*USER, "UserName", value="a" * 65), "$.UserDetailList[0].UserName", ("64",)),
    "id has other characters": (at(*USER, "UserId", value="a:b"), "$.UserDetailList[0].UserId", ("`a:b`",)),
    "path does not end in a slash": (at(*USER, "Path", value="/a"), "$.UserDetailList[0].Path", ("`/a`", "ends with")),
    "path is too long": (at(*USER, "Path", value="/" + "a" * 511 + "/"), "$.UserDetailList[0].Path", ("path",)),
    "ARN is none": (at(*USER, "Arn", value="alice"), "$.UserDetailList[0].Arn", ("`alice` is not the ARN of a user",)),
    "ARN of another service": (
        at(*USER, "Arn", value=f"arn:aws:sts::{ACCOUNT}:user/alice"),
        "$.UserDetailList[0].Arn",
        ("is not the ARN of a user",),
    ),
    "ARN of another kind": (
        at(*USER, "Arn", value=f"{ARN}:role/alice"),
        "$.UserDetailList[0].Arn",
        ("does not agree", "`user/alice`"),
    ),
    "ARN with another path": (
        at(*USER, "Arn", value=f"{ARN}:user/x/alice"),
        "$.UserDetailList[0].Arn",
        ("does not agree",),
    ),
    "ARN of another account": (
        at(*USER, "Arn", value="arn:aws:iam::999999999999:user/alice"),
        "$.UserDetailList[0].Arn",
        ("does not belong to account 111122223333", "file of its own"),
    ),
    "ARN of another partition": (
        at(*USER, "Arn", value=f"arn:aws-cn:iam::{ACCOUNT}:user/alice"),
        "$.UserDetailList[0].Arn",
        ("partition `aws`",),
    ),
    "user twice": (
        lambda it: it["UserDetailList"].append(copy.deepcopy(it["UserDetailList"][0])),
        "$.UserDetailList[1]",
        (f"user `{ARN}:user/alice` stands twice", "$.UserDetailList[0]", FILE),
    ),
    "name differs in case alone": (
        append("UserDetailList", value=user("Alice", UserId="AIDA2")),
        "$.UserDetailList[1]",
        ("has the name of", f"`{ARN}:user/alice`"),
    ),
    "name taken under another path": (
        append("UserDetailList", value=user("alice", UserId="AIDA2", Path="/x/", Arn=f"{ARN}:user/x/alice")),
        "$.UserDetailList[1]",
        ("has the name of",),
    ),
    "id taken": (
        append("UserDetailList", value=user("bob", UserId=f"AIDA{ACCOUNT}ALICE")),
        "$.UserDetailList[1].UserId",
        ("is also the id of", f"`{ARN}:user/alice`"),
    ),
    "inline policies are no list": (
        at(*USER, "UserPolicyList", value="x"),
        "$.UserDetailList[0].UserPolicyList",
        ("must be a list",),
    ),
    "inline policy is no object": (
        at(*USER, "UserPolicyList", 0, value=[]),
        "$.UserDetailList[0].UserPolicyList[0]",
        ("an inline policy must be an object",),
    ),
    "inline policy without name": (
        without(*USER, "UserPolicyList", 0, "PolicyName"),
        "$.UserDetailList[0].UserPolicyList[0]",
        ("without `PolicyName`",),
    ),
    "inline policy with a bad name": (
        at(*USER, "UserPolicyList", 0, "PolicyName", value="a b"),
        "$.UserDetailList[0].UserPolicyList[0].PolicyName",
        ("`a b`",),
    ),
    "inline policy without document": (
        without(*USER, "UserPolicyList", 0, "PolicyDocument"),
        "$.UserDetailList[0].UserPolicyList[0]",
        ("without `PolicyDocument`",),
    ),
    "inline policy twice": (
        append(*USER, "UserPolicyList", value={"PolicyName": "OWN", "PolicyDocument": document()}),
        "$.UserDetailList[0].UserPolicyList[1].PolicyName",
        ("`OWN` stands twice",),
    ),
    "document with a mistake": (
        at(*USER, "UserPolicyList", 0, "PolicyDocument", "Statement", 0, "Effect", value="allow"),
        "$.UserDetailList[0].UserPolicyList[0].PolicyDocument.Statement[0].Effect",
        ("`allow`",),
    ),
    "document in text with a mistake": (
        at(*USER, "UserPolicyList", 0, "PolicyDocument", value=json.dumps(document(effect="Permit"))),
        "$.UserDetailList[0].UserPolicyList[0].PolicyDocument.Statement[0].Effect",
        ("`Permit`",),
    ),
    "document is no JSON": (
        at(*USER, "UserPolicyList", 0, "PolicyDocument", value="{"),
        "$.UserDetailList[0].UserPolicyList[0].PolicyDocument",
        ("cannot be read",),
    ),
    "inline policies of a user too large": (
        at(*USER, "UserPolicyList", value=BIGGER[:2]),
        "$.UserDetailList[0].UserPolicyList",
        (f"user `{ARN}:user/alice`", "2048"),
    ),
    "inline policies of a group too large": (
        at(*GROUP, "GroupPolicyList", value=BIGGER[:5]),
        "$.GroupDetailList[0].GroupPolicyList",
        ("group", "5120"),
    ),
    "inline policies of a role too large": (
        at(*ROLE, "RolePolicyList", value=BIGGER),
        "$.RoleDetailList[0].RolePolicyList",
        ("role", "10240"),
    ),
    "attached policies are no list": (
        at(*USER, "AttachedManagedPolicies", value="x"),
        "$.UserDetailList[0].AttachedManagedPolicies",
        ("must be a list",),
    ),
    "attached policy is no object": (
        at(*USER, "AttachedManagedPolicies", 0, value="x"),
        "$.UserDetailList[0].AttachedManagedPolicies[0]",
        ("an attached policy must be an object",),
    ),
    "attached policy without ARN": (
        without(*USER, "AttachedManagedPolicies", 0, "PolicyArn"),
        "$.UserDetailList[0].AttachedManagedPolicies[0]",
        ("without `PolicyArn`",),
    ),
    "attached policy under another name": (
        at(*USER, "AttachedManagedPolicies", 0, "PolicyName", value="Other"),
        "$.UserDetailList[0].AttachedManagedPolicies[0].PolicyName",
        ("`Other` is not the name of",),
    ),
    "attached policy twice": (
        append(*USER, "AttachedManagedPolicies", value=attached(f"{ARN}:policy/Base")),
        "$.UserDetailList[0].AttachedManagedPolicies[1].PolicyArn",
        ("attached twice",),
    ),
    "attached policy nowhere": (
        append(*USER, "AttachedManagedPolicies", value=attached(f"{ARN}:policy/Gone")),
        "$.UserDetailList[0].AttachedManagedPolicies[1].PolicyArn",
        (f"`{ARN}:policy/Gone` is attached to user `{ARN}:user/alice`", "stands nowhere", "`Policies`"),
    ),
    "attached AWS policy nowhere": (
        append(*ROLE, "AttachedManagedPolicies", value=attached("arn:aws:iam::aws:policy/Gone")),
        "$.RoleDetailList[0].AttachedManagedPolicies[1].PolicyArn",
        ("role", "stands nowhere", "without a filter"),
    ),
    "attached policy of a group nowhere": (
        append(*GROUP, "AttachedManagedPolicies", value=attached(f"{ARN}:policy/Gone")),
        "$.GroupDetailList[0].AttachedManagedPolicies[2].PolicyArn",
        (f"group `{ARN}:group/Readers`",),
    ),
    "too many attached policies": (
        lambda it: (
            it["Policies"].extend(managed(f"P{n}") for n in range(26)),
            it["RoleDetailList"][0].update(AttachedManagedPolicies=[attached(f"{ARN}:policy/P{n}") for n in range(26)]),
        )[0],
        "$.RoleDetailList[0].AttachedManagedPolicies",
        ("26 managed policies", "more than 25"),
    ),
    "too many attached policies of a group": (
        lambda it: (
            it["Policies"].extend(managed(f"P{n}") for n in range(11)),
            it["GroupDetailList"][0].update(
                AttachedManagedPolicies=[attached(f"{ARN}:policy/P{n}") for n in range(11)]
            ),
        )[0],
        "$.GroupDetailList[0].AttachedManagedPolicies",
        ("11 managed policies", "more than 10"),
    ),
    "boundary is no object": (
        at(*USER, "PermissionsBoundary", value="x"),
        "$.UserDetailList[0].PermissionsBoundary",
        ("must be an object",),
    ),
    "boundary of another type": (
        at(*USER, "PermissionsBoundary", "PermissionsBoundaryType", value="Inline"),
        "$.UserDetailList[0].PermissionsBoundary.PermissionsBoundaryType",
        ("`Inline`", "PermissionsBoundaryPolicy"),
    ),
    "type of boundary is no text": (
        at(*USER, "PermissionsBoundary", "PermissionsBoundaryType", value={}),
        "$.UserDetailList[0].PermissionsBoundary.PermissionsBoundaryType",
        ("an object",),
    ),
    "boundary without ARN": (
        without(*USER, "PermissionsBoundary", "PermissionsBoundaryArn"),
        "$.UserDetailList[0].PermissionsBoundary",
        ("without `PermissionsBoundaryArn`",),
    ),
    "boundary nowhere": (
        at(*USER, "PermissionsBoundary", "PermissionsBoundaryArn", value=f"{ARN}:policy/Gone"),
        "$.UserDetailList[0].PermissionsBoundary.PermissionsBoundaryArn",
        ("permissions boundary of user", "stands nowhere"),
    ),
    "groups are no list": (at(*USER, "GroupList", value="x"), "$.UserDetailList[0].GroupList", ("must be a list",)),
    "group name is no text": (at(*USER, "GroupList", 0, value=1), "$.UserDetailList[0].GroupList[0]", ("a number",)),
    "group nowhere": (
        append(*USER, "GroupList", value="Gone"),
        "$.UserDetailList[0].GroupList[1]",
        ("is in group `Gone`, which stands nowhere", "GroupDetailList"),
    ),
    "group twice": (append(*USER, "GroupList", value="Readers"), "$.UserDetailList[0].GroupList[1]", ("twice",)),
    "too many groups": (
        lambda it: (
            it["GroupDetailList"].extend(group(f"G{n}") for n in range(10)),
            it["UserDetailList"][0]["GroupList"].extend(f"G{n}" for n in range(10)),
        )[0],
        "$.UserDetailList[0].GroupList",
        ("11 groups", "more than 10"),
    ),
    "tags are no list": (at(*USER, "Tags", value={"a": "b"}), "$.UserDetailList[0].Tags", ("must be a list",)),
    "tag is no object": (at(*USER, "Tags", 0, value="x"), "$.UserDetailList[0].Tags[0]", ("a tag must be",)),
    "tag without key": (without(*USER, "Tags", 0, "Key"), "$.UserDetailList[0].Tags[0]", ("without `Key`",)),
    "tag without value": (without(*USER, "Tags", 0, "Value"), "$.UserDetailList[0].Tags[0].Value", ("`team`", "null")),
    "tag value is a number": (at(*USER, "Tags", 0, "Value", value=1), "$.UserDetailList[0].Tags[0].Value", ("number",)),
    "tag key is too long": (at(*USER, "Tags", 0, "Key", value="k" * 129), "$.UserDetailList[0].Tags[0]", ("128",)),
    "tag value is too long": (at(*USER, "Tags", 0, "Value", value="v" * 257), "$.UserDetailList[0].Tags[0]", ("256",)),
    "tag twice": (
        append(*USER, "Tags", value={"Key": "team", "Value": "x"}),
        "$.UserDetailList[0].Tags[1].Key",
        ("`team` stands twice",),
    ),
    "tags differ in case alone": (
        append(*USER, "Tags", value={"Key": "Team", "Value": "x"}),
        "$.UserDetailList[0].Tags[1].Key",
        ("`team` and `Team`", "differ in case alone"),
    ),
    "too many tags": (
        at(*USER, "Tags", value=[{"Key": f"k{n}", "Value": ""} for n in range(51)]),
        "$.UserDetailList[0].Tags",
        ("51 tags", "50"),
    ),
    "role without trust policy": (
        without(*ROLE, "AssumeRolePolicyDocument"),
        "$.RoleDetailList[0]",
        ("no `AssumeRolePolicyDocument`",),
    ),
    "trust policy with a resource": (
        at(*ROLE, "AssumeRolePolicyDocument", "Statement", 0, "Resource", value="*"),
        "$.RoleDetailList[0].AssumeRolePolicyDocument.Statement[0].Resource",
        ("`Resource`",),
    ),
    "session duration out of range": (
        at(*ROLE, "MaxSessionDuration", value=60),
        "$.RoleDetailList[0].MaxSessionDuration",
        ("3600", "43200", "`60`"),
    ),
    "session duration is no number": (
        at(*ROLE, "MaxSessionDuration", value=True),
        "$.RoleDetailList[0].MaxSessionDuration",
        ("whole number", "a boolean"),
    ),
    "instance profiles are no list": (
        at(*ROLE, "InstanceProfileList", value="x"),
        "$.RoleDetailList[0].InstanceProfileList",
        ("must be a list",),
    ),
    "instance profile is no object": (
        at(*ROLE, "InstanceProfileList", 0, value="x"),
        "$.RoleDetailList[0].InstanceProfileList[0]",
        ("an instance profile must be",),
    ),
    "instance profile without ARN": (
        without(*ROLE, "InstanceProfileList", 0, "Arn"),
        "$.RoleDetailList[0].InstanceProfileList[0]",
        ("without `Arn`",),
    ),
    "instance profile of another account": (
        at(*ROLE, "InstanceProfileList", 0, "Arn", value="arn:aws:iam::999999999999:instance-profile/web"),
        "$.RoleDetailList[0].InstanceProfileList[0].Arn",
        ("not the ARN of an instance profile of this account",),
    ),
    "instance profile twice": (
        lambda it: it["RoleDetailList"][0]["InstanceProfileList"].append(
            copy.deepcopy(it["RoleDetailList"][0]["InstanceProfileList"][0])
        ),
        "$.RoleDetailList[0].InstanceProfileList[1].Arn",
        ("stands twice",),
    ),
    "policy without versions": (
        without(*POLICY, "PolicyVersionList"),
        "$.Policies[0]",
        ("no `PolicyVersionList`",),
    ),
    "versions are no list": (
        at(*POLICY, "PolicyVersionList", value={}),
        "$.Policies[0].PolicyVersionList",
        ("must be a list",),
    ),
    "version is no object": (at(*VERSION, value="v1"), "$.Policies[0].PolicyVersionList[0]", ("a policy version",)),
    "version without id": (
        without(*VERSION, "VersionId"),
        "$.Policies[0].PolicyVersionList[0]",
        ("without `VersionId`",),
    ),
    "version with a bad id": (
        at(*VERSION, "VersionId", value="one"),
        "$.Policies[0].PolicyVersionList[0].VersionId",
        ("`one`", "`v1`"),
    ),
    "version without document": (
        without(*VERSION, "Document"),
        "$.Policies[0].PolicyVersionList[0]",
        ("version `v1` has no `Document`",),
    ),
    "default flag is no boolean": (
        at(*VERSION, "IsDefaultVersion", value="true"),
        "$.Policies[0].PolicyVersionList[0].IsDefaultVersion",
        ("true or false", "text"),
    ),
    "default version is a number": (
        at(*POLICY, "DefaultVersionId", value=1),
        "$.Policies[0].DefaultVersionId",
        ("`1`",),
    ),
    "default version is not in the list": (
        lambda it: (
            at(*POLICY, "DefaultVersionId", value="v2")(it),
            at(*VERSION, "IsDefaultVersion", value=False)(it),
        )[0],
        "$.Policies[0].PolicyVersionList",
        ("does not list its default version `v2`",),
    ),
    "default version contradicts a flag": (
        at(*VERSION, "IsDefaultVersion", value=False),
        "$.Policies[0].PolicyVersionList[0].IsDefaultVersion",
        ("says that it is not the default version", "`DefaultVersionId` is `v1`"),
    ),
    "no default version at all": (
        lambda it: (
            without(*POLICY, "DefaultVersionId")(it),
            without(*VERSION, "IsDefaultVersion")(it),
        )[0],
        "$.Policies[0].PolicyVersionList",
        ("does not list a default version",),
    ),
    "two default versions": (
        lambda it: (
            without(*POLICY, "DefaultVersionId")(it),
            append(
                *POLICY,
                "PolicyVersionList",
                value={"VersionId": "v2", "IsDefaultVersion": True, "Document": document()},
            )(it),
        )[0],
        "$.Policies[0].PolicyVersionList[1].IsDefaultVersion",
        ("two default versions",),
    ),
    "version twice": (
        append(*POLICY, "PolicyVersionList", value={"VersionId": "v1", "Document": document()}),
        "$.Policies[0].PolicyVersionList[1].VersionId",
        ("`v1` stands twice",),
    ),
    "old version is no document": (
        append(*POLICY, "PolicyVersionList", value={"VersionId": "v2", "Document": 7}),
        "$.Policies[0].PolicyVersionList[1].Document",
        ("a number",),
    ),
    "managed policy too large": (
        at(*VERSION, "Document", value={**document(), "Statement": document()["Statement"] * 150}),
        "$.Policies[0].PolicyVersionList[0].Document",
        ("6,144",),
    ),
    "managed policy of another account": (
        at(*POLICY, "Arn", value="arn:aws:iam::999999999999:policy/Base"),
        "$.Policies[0].Arn",
        ("does not belong to account",),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_dump_with_a_mistake_is_refused_by_name(name: str) -> None:
    edit, json_path, words = ERRORS[name]
    content = full_page()
    edit(content)
    report = parse(content)
    assert report.snapshot is None
    expect_error(report, json_path, *words)


@pytest.mark.parametrize(
    "name",
    [
        "user without ARN",
        "group nowhere",
        "attached policy nowhere",
        "managed policy too large",
        "two default versions",
    ],
)
def test_one_mistake_is_reported_once(name: str) -> None:
    edit, _, _ = ERRORS[name]
    content = full_page()
    edit(content)
    assert len(parse(content).problems) == 1


def test_everything_wrong_is_gathered_in_one_pass() -> None:
    content = full_page()
    for name in ("tag twice", "group nowhere", "boundary nowhere", "role without trust policy", "version twice"):
        ERRORS[name][0](content)
    assert len(parse(content).problems) == 5


def test_page_that_is_none_is_refused() -> None:
    expect_error(parse({"Users": []}), "$", "not an account dump", "UserDetailList")
    expect_error(parse([full_page(), 7]), "$[1]", "an account page must be an object", "a number")
    expect_error(parse([]), "$", "without pages")


def test_entity_in_two_pages_is_refused_with_both_places() -> None:
    report = parse_source({"accounts/a.json": encode(full_page()), "accounts/b.json": encode(full_page())})
    problem = expect_error(report, "$.UserDetailList[0]", "stands twice", file="accounts/b.json")
    assert "$.UserDetailList[0] of accounts/a.json" in problem.message


def test_principals_of_two_accounts_with_one_id_are_refused() -> None:
    other = user("bob", account="000000000001", UserId="AIDA1")
    report = parse_source(
        {
            "accounts/a.json": encode(page(users=[user("alice", UserId="AIDA1")])),
            "accounts/b.json": encode(page(users=[other])),
        }
    )
    expect_error(report, "$.UserDetailList[0].UserId", "`AIDA1` is also the id of", file="accounts/b.json")


def test_list_of_pages_has_the_index_in_its_paths() -> None:
    second = page(users=[user("bob", GroupList=["Gone"])])
    expect_error(parse([full_page(), second]), "$[1].UserDetailList[0].GroupList[0]", "`Gone`")


def test_broken_document_of_a_stream_is_named() -> None:
    text = f'{json.dumps(full_page())}\n{{"UserDetailList": }}\n'
    expect_error(parse_source({FILE: text.encode()}), "$[1]", "in document 2 of 2", "not JSON")


def test_broken_group_or_policy_is_not_also_called_missing() -> None:
    content = full_page()
    content["GroupDetailList"][0]["GroupId"] = ""
    content["Policies"][0]["PolicyVersionList"][0]["Document"] = {}
    report = parse(content)
    assert not [problem for problem in report.problems if "nowhere" in problem.message]


@pytest.mark.parametrize(
    ("old", "new", "json_path"),
    [
        ('"UserName": "alice"', '"UserName": "x", "UserName": "alice"', "$.UserDetailList[0].UserName"),
        ('"Key": "team"', '"Key": "team", "Key": "team"', "$.UserDetailList[0].Tags[0].Key"),
        ('"Region": "eu-west-1"', '"Region": "a", "Region": "b"', "$.RoleDetailList[0].RoleLastUsed.Region"),
        ('"IsTruncated": false', '"IsTruncated": false, "IsTruncated": false', "$.IsTruncated"),
        (
            '"PolicyName": "own"',
            '"PolicyName": "own", "PolicyName": "own"',
            "$.UserDetailList[0].UserPolicyList[0].PolicyName",
        ),
        (
            '"Action": "s3:ListBucket"',
            '"Action": "s3:*", "Action": "s3:ListBucket"',
            "$.UserDetailList[0].UserPolicyList[0].PolicyDocument.Statement[0].Action",
        ),
        (
            '"Roles": []',
            '"Roles": [{"Path": "/", "Path": "/"}]',
            "$.RoleDetailList[0].InstanceProfileList[0].Roles[0].Path",
        ),
        ('"IsTruncated": false', '"New": {"a": [{"b": 1, "b": 2}]}', "$.New.a[0].b"),
    ],
)
def test_duplicate_key_is_refused_wherever_it_stands(old: str, new: str, json_path: str) -> None:
    text = json.dumps(full_page())
    assert text.count(old) == 1
    expect_error(parse_source({FILE: text.replace(old, new).encode()}), json_path, "stands more than once")


def test_duplicate_key_when_an_equal_document_without_was_read_is_still_refused() -> None:
    text = json.dumps(
        page(users=[user(name, UserPolicyList=[{"PolicyName": "own", "PolicyDocument": document()}]) for name in "ab"])
    )
    head, middle, tail = text.split('"Effect": "Allow"')
    doubled = f'{head}"Effect": "Allow"{middle}"Effect": "Deny", "Effect": "Allow"{tail}'
    expect_error(
        parse_source({FILE: doubled.encode()}),
        "$.UserDetailList[1].UserPolicyList[0].PolicyDocument.Statement[0].Effect",
        "stands more than once",
    )


# Warnings.


@pytest.mark.parametrize(
    ("edit", "json_path", "what"),
    [
        (at("NewList", value=[]), "$.NewList", "an account page"),
        (at(*USER, "NewField", value=1), "$.UserDetailList[0].NewField", "a user"),
        (at(*POLICY, "NewField", value=1), "$.Policies[0].NewField", "a managed policy"),
        (at(*VERSION, "NewField", value=1), "$.Policies[0].PolicyVersionList[0].NewField", "a policy version"),
        (at(*USER, "Tags", 0, "NewField", value=1), "$.UserDetailList[0].Tags[0].NewField", "a tag"),
        (
            at(*USER, "UserPolicyList", 0, "NewField", value=1),
            "$.UserDetailList[0].UserPolicyList[0].NewField",
            "an inline policy",
        ),
        (
            at(*USER, "AttachedManagedPolicies", 0, "NewField", value=1),
            "$.UserDetailList[0].AttachedManagedPolicies[0].NewField",
            "an attached policy",
        ),
        (
            at(*USER, "PermissionsBoundary", "NewField", value=1),
            "$.UserDetailList[0].PermissionsBoundary.NewField",
            "a permissions boundary",
        ),
        (
            at(*ROLE, "InstanceProfileList", 0, "NewField", value=1),
            "$.RoleDetailList[0].InstanceProfileList[0].NewField",
            "an instance profile",
        ),
    ],
)
def test_key_that_aws_did_not_print_before_is_a_warning(edit: Edit, json_path: str, what: str) -> None:
    content = full_page()
    edit(content)
    report = parse(content)
    expect_warning(report, json_path, "unknown key", what)
    assert snapshot_of(report) == snapshot_of(parse(full_page()))


def test_old_version_with_a_mistake_is_a_warning() -> None:
    content = full_page()
    append(*POLICY, "PolicyVersionList", value={"VersionId": "v2", "Document": document(effect="Permit")})(content)
    expect_warning(
        parse(content),
        "$.Policies[0].PolicyVersionList[1].Document.Statement[0].Effect",
        "`v2`, not in force",
        "`Permit`",
    )


def test_account_when_every_page_says_that_more_follow_is_a_warning() -> None:
    report = parse({**full_page(), "IsTruncated": True, "Marker": "x"})
    expect_warning(report, "$", f"account {ACCOUNT}", "some are missing")


def test_page_without_any_arn_is_a_warning() -> None:
    report = parse([full_page(), page()])
    expect_warning(report, "$[1]", "which account")


def test_file_when_named_for_another_account_is_a_warning() -> None:
    report = parse_source({"accounts/999999999999.json": encode(full_page())})
    expect(report, Severity.WARNING, "accounts/999999999999.json", "$", "999999999999", ACCOUNT)
