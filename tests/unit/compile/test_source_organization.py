# SPDX-License-Identifier: Apache-2.0
"""
``organization.json``: the tree that it gives, and the name of everything that can be wrong with it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.compile.source import SourceReport
from sidecar.model.snapshot import Organization
from tests.unit.compile.dumps import (
    ACCOUNT,
    Json,
    document,
    expect_error,
    expect_warning,
    full_page,
    parse,
    snapshot_of,
)

FILE = "organization.json"
MANAGEMENT = "999988887777"
GUARD_ARN = f"arn:aws:organizations::{MANAGEMENT}:policy/o-a1b2c3d4e5/service_control_policy/p-guard001"
RCP: Json = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}],
}


def organization(**root: object) -> Json:
    return {
        "id": "o-a1b2c3d4e5",
        "management_account": MANAGEMENT,
        "root": {"id": "r-a1b2", "name": "Root", "accounts": [MANAGEMENT], **root},
    }


def report_of(content: object) -> SourceReport:
    return parse(full_page(), organization=content)


def tree_of(content: object) -> Organization:
    report = report_of(content)
    assert report.problems == ()
    found = snapshot_of(report).organization
    assert found is not None
    return found


def unit(number: int, **more: object) -> Json:
    return {"id": f"ou-a1b2-0000000{number}", "name": f"Unit {number}", **more}


def described(**summary: object) -> Json:
    return {
        "Policy": {
            "PolicySummary": {
                "Id": "p-guard001",
                "Arn": GUARD_ARN,
                "Name": "Guard",
                "Description": "",
                "Type": "SERVICE_CONTROL_POLICY",
                "AwsManaged": False,
                **summary,
            },
            "Content": json.dumps(document("*")),
        }
    }


def test_tree_keeps_units_accounts_and_their_policies() -> None:
    tree = tree_of(
        organization(
            service_control_policies=[document("*")],
            resource_control_policies=[RCP],
            units=[unit(1, accounts=[{"id": ACCOUNT, "name": "main", "service_control_policies": [document("s3:*")]}])],
        )
    )
    assert (tree.id, tree.management_account) == ("o-a1b2c3d4e5", MANAGEMENT)
    assert (tree.root.id, tree.root.name) == ("r-a1b2", "Root")
    assert [account.id for account in tree.root.accounts] == [MANAGEMENT]
    (child,) = tree.root.units
    assert (child.id, child.name, child.units) == ("ou-a1b2-00000001", "Unit 1", ())
    (account,) = child.accounts
    assert account.service_control_policies is not None
    assert account.service_control_policies[0].document.statements[0].actions[0].text == "s3:*"
    assert tree.root.resource_control_policies[0].name == "inline:r-a1b2/0"


def test_policies_when_left_out_are_none_or_empty() -> None:
    tree = tree_of(organization())
    assert tree.root.service_control_policies is None
    assert tree.root.resource_control_policies == ()
    assert tree.root.accounts[0].service_control_policies is None


def test_policies_when_the_list_is_empty_stay_so_with_a_warning() -> None:
    report = report_of(organization(service_control_policies=[], resource_control_policies=[]))
    expect_warning(report, "$.root.service_control_policies", "denies everything", "FullAWSAccess", file=FILE)
    tree = snapshot_of(report).organization
    assert tree is not None
    assert tree.root.service_control_policies == ()


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (document("*"), "inline:r-a1b2/0"),
        (json.dumps(document("*")), "inline:r-a1b2/0"),
        ({"document": document("*")}, "inline:r-a1b2/0"),
        ({"id": "p-1", "content": json.dumps(document("*"))}, "inline:r-a1b2/p-1"),
        ({"name": "guard", "id": "p-1", "policy": document("*")}, "inline:r-a1b2/guard"),
        ({"name": "guard", "arn": GUARD_ARN, "document": document("*")}, GUARD_ARN),
        (described(), GUARD_ARN),
        (described()["Policy"], GUARD_ARN),
        ({"Policy": {"Content": json.dumps(document("*"))}}, "inline:r-a1b2/0"),
    ],
)
def test_policy_when_written_in_any_form_is_read_and_named(item: object, name: str) -> None:
    policies = tree_of(organization(service_control_policies=[item])).root.service_control_policies
    assert policies is not None
    assert policies[0].name == name
    assert policies[0].document.statements[0].actions[0].text == "*"


def test_policy_when_attached_twice_is_one_object() -> None:
    tree = tree_of(
        organization(
            service_control_policies=[described()],
            units=[unit(1, service_control_policies=[described()])],
        )
    )
    assert tree.root.service_control_policies is not None
    assert tree.root.units[0].service_control_policies is not None
    assert tree.root.service_control_policies[0] is tree.root.units[0].service_control_policies[0]


def test_account_when_no_dump_has_it_is_a_member_all_the_same() -> None:
    assert tree_of(organization(units=[unit(1, accounts=["123456789012"])])).root.units[0].accounts[0].id


def test_units_when_five_deep_are_read() -> None:
    nested: Json = unit(5)
    for number in (4, 3, 2, 1):
        nested = unit(number, units=[nested])
    assert tree_of(organization(units=[nested])).root.units[0].units[0].units[0].units[0].units[0].id.endswith("5")


def deep() -> Json:
    nested: Json = unit(6)
    for number in (5, 4, 3, 2, 1):
        nested = unit(number, units=[nested])
    return organization(units=[nested])


def edited(**more: object) -> Json:
    content = organization()
    content.update(more)
    return content


def lacking(key: str) -> Json:
    content = organization()
    del content[key]
    return content


def scp(item: object) -> Json:
    return organization(service_control_policies=[item])


SCP = "$.root.service_control_policies"
ERRORS: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "no object": ([], "$", ("an organization must be an object", "a list")),
    "unknown key": (edited(managment_account="x"), "$.managment_account", ("unknown key", "`management_account`")),
    "no id": (lacking("id"), "$", ("without `id`", "o-a1b2c3d4e5")),
    "bad id": (edited(id="acme"), "$.id", ("`acme` cannot be the id of an organization",)),
    "id is a number": (edited(id=5), "$.id", ("must be text",)),
    "no management account": (lacking("management_account"), "$", ("without `management_account`",)),
    "bad management account": (edited(management_account="12"), "$.management_account", ("twelve digits", "`12`")),
    "management account is a number": (
        edited(management_account=999988887777),
        "$.management_account",
        ("must be text, not a number", "in quotes"),
    ),
    "no root": (lacking("root"), "$", ("without `root`",)),
    "root is no object": (edited(root="r-a1b2"), "$.root", ("the root must be an object",)),
    "root without id": (edited(root={"accounts": [MANAGEMENT]}), "$.root", ("the root without `id`", "r-a1b2")),
    "bad id of root": (organization(id="ou-a1b2-c3d4e5f6"), "$.root.id", ("cannot be the id of the root",)),
    "unknown key of root": (
        organization(service_control_policy=[]),
        "$.root.service_control_policy",
        ("unknown key", "did you mean `service_control_policies`"),
    ),
    "empty name": (organization(name=""), "$.root.name", ("empty",)),
    "units are no list": (organization(units={}), "$.root.units", ("must be a list",)),
    "unit is no object": (organization(units=["x"]), "$.root.units[0]", ("a unit must be an object",)),
    "unit without id": (organization(units=[{"name": "x"}]), "$.root.units[0]", ("a unit without `id`",)),
    "bad id of unit": (organization(units=[{"id": "r-a1b2"}]), "$.root.units[0].id", ("cannot be the id of a unit",)),
    "unit twice": (organization(units=[unit(1), unit(1)]), "$.root.units[1].id", ("stands twice", "$.root.units[0]")),
    "units too deep": (deep(), "$.root.units[0].units[0].units[0].units[0].units[0].units", ("5 levels",)),
    "accounts are no list": (organization(accounts=MANAGEMENT), "$.root.accounts", ("must be a list",)),
    "account is no id": (organization(accounts=["x"]), "$.root.accounts[0]", ("twelve digits", "`x`")),
    "account without id": (organization(accounts=[{"name": "x"}]), "$.root.accounts[0]", ("an account without `id`",)),
    "unknown key of account": (
        organization(accounts=[{"id": MANAGEMENT, "units": []}]),
        "$.root.accounts[0].units",
        ("unknown key `units` in an account",),
    ),
    "name of account is no text": (
        organization(accounts=[{"id": MANAGEMENT, "name": 1}]),
        "$.root.accounts[0].name",
        ("must be text",),
    ),
    "account twice": (
        organization(units=[unit(1, accounts=[MANAGEMENT])]),
        "$.root.units[0].accounts[0]",
        (f"account {MANAGEMENT} stands twice", "$.root.accounts[0]"),
    ),
    "policies are no list": (organization(service_control_policies={}), SCP, ("must be a list",)),
    "policies are null": (organization(service_control_policies=None), SCP, ("must be a list, not null",)),
    "too many policies": (
        organization(service_control_policies=[{"name": str(n), "document": document("*")} for n in range(11)]),
        SCP,
        ("11 policies", "10"),
    ),
    "too many resource control policies": (
        organization(resource_control_policies=[RCP] * 6),
        "$.root.resource_control_policies",
        ("6 policies",),
    ),
    "policy is a name": (scp("FullAWSAccess"), f"{SCP}[0]", ("`FullAWSAccess` is not a policy", "describe-policy")),
    "policy is a number": (scp(5), f"{SCP}[0]", ("object",)),
    "policy twice": (
        organization(service_control_policies=[described(), described()]),
        f"{SCP}[1]",
        ("stands twice", f"{SCP}[0]"),
    ),
    "policy without document": (scp({"name": "x"}), f"{SCP}[0]", ("without its document", "`document`")),
    "policy with two documents": (
        scp({"document": document("*"), "content": "{}"}),
        f"{SCP}[0]",
        ("more than one document",),
    ),
    "unknown key of policy": (scp({"nam": "x", "document": document("*")}), f"{SCP}[0].nam", ("did you mean `name`",)),
    "name of policy is no text": (scp({"name": 1, "document": document("*")}), f"{SCP}[0].name", ("must be text",)),
    "bad ARN of policy": (scp({"arn": "x", "document": document("*")}), f"{SCP}[0].arn", ("`x` is not the ARN",)),
    "bad ARN of described policy": (
        scp(described(Arn="x")),
        f"{SCP}[0].Policy.PolicySummary.Arn",
        ("`x` is not the ARN",),
    ),
    "described policy of another type": (
        scp(described(Type="TAG_POLICY")),
        f"{SCP}[0].Policy.PolicySummary.Type",
        ("`TAG_POLICY`", "service control policy"),
    ),
    "described policy is no object": (scp({"Policy": "x"}), f"{SCP}[0].Policy", ("must be an object",)),
    "described policy without content": (
        scp({"Policy": {"PolicySummary": {}}}),
        f"{SCP}[0].Policy",
        ("without its document", "`Content`"),
    ),
    "unknown key of described policy": (
        scp({"Policy": {"Contents": "x", "Content": json.dumps(document("*"))}}),
        f"{SCP}[0].Policy.Contents",
        ("did you mean `Content`",),
    ),
    "summary is no object": (
        scp({"PolicySummary": 1, "Content": json.dumps(document("*"))}),
        f"{SCP}[0].PolicySummary",
        ("must be an object",),
    ),
    "mistake in a document": (
        scp({"name": "x", "document": document("*", effect="allow")}),
        f"{SCP}[0].document.Statement[0].Effect",
        ("`allow`",),
    ),
    "mistake in described content": (
        scp({"Content": json.dumps(document("*", effect="allow"))}),
        f"{SCP}[0].Content.Statement[0].Effect",
        ("`allow`",),
    ),
    "principal in a service control policy": (
        scp(RCP),
        f"{SCP}[0].Statement[0].Principal",
        ("`Principal`",),
    ),
    "allow in a resource control policy": (
        organization(resource_control_policies=[{**RCP, "Statement": [{**RCP["Statement"][0], "Effect": "Allow"}]}]),
        "$.root.resource_control_policies[0].Statement[0].Effect",
        ("Allow",),
    ),
    "service control policy too large": (
        scp({"Version": "2012-10-17", "Statement": document("s3:*")["Statement"] * 300}),
        f"{SCP}[0]",
        ("characters",),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_organization_with_a_mistake_is_refused_by_name(name: str) -> None:
    content, json_path, words = ERRORS[name]
    report = report_of(content)
    assert report.snapshot is None
    expect_error(report, json_path, *words, file=FILE)


def test_management_account_when_it_stands_nowhere_is_a_warning() -> None:
    report = report_of(organization(accounts=[ACCOUNT]))
    expect_warning(report, "$.management_account", MANAGEMENT, "nowhere in the tree", file=FILE)


def test_organization_in_yaml_takes_account_ids_without_quotes() -> None:
    text = f"""
id: o-a1
management_account: {MANAGEMENT}
root:
  id: r-a1
  accounts: [{MANAGEMENT}, 012345678901]
"""
    report = parse(full_page(), organization=text.encode())
    assert report.problems == ()
    tree = snapshot_of(report).organization
    assert tree is not None
    assert [account.id for account in tree.root.accounts] == [MANAGEMENT, "012345678901"]
    assert type(tree.management_account) is str
