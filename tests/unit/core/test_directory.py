# SPDX-License-Identifier: Apache-2.0
"""What an image says of users, roles and accounts, beside their policies."""

from __future__ import annotations

import pytest

from sidecar import core
from sidecar.compile.documents import read_json
from sidecar.compile.image import write_image
from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import Problems
from sidecar.model.directory import AccountFacts, RoleFacts, UserFacts
from sidecar.model.errors import ImageError
from sidecar.model.policy import Policy, PolicyKind
from sidecar.model.snapshot import (
    Account,
    FederatedUser,
    Organization,
    OrganizationAccount,
    OrganizationalUnit,
    PasswordPolicy,
    Role,
    Snapshot,
    User,
)
from tests.unit.core.asking import changed_image, document

ACCOUNT, OTHER = "111122223333", "444455556666"
USER = f"arn:aws:iam::{ACCOUNT}:user/people/alice"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/team/worker"
LINKED = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/backup.amazonaws.com/linked"
FEDERATED = f"arn:aws:sts::{ACCOUNT}:federated-user/bob"
POLICY = PasswordPolicy(
    minimum_password_length=14,
    require_symbols=True,
    require_lowercase_characters=True,
    allow_users_to_change_password=True,
    max_password_age=90,
    password_reuse_prevention=5,
)


def _trust() -> Policy:
    text = document({"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"})
    parsed = parse_policy(read_json(text), kind=PolicyKind.TRUST, problems=Problems(), file="trust")
    assert parsed is not None
    return Policy("trust", parsed)


def _image(policy: PasswordPolicy | None = POLICY) -> core.Image:
    account = Account(
        ACCOUNT,
        alias="acme",
        users=(User(USER, ACCOUNT, "alice", "AIDAALICE", tags={"Team": "red", "ÉTAGE": "2"}),),
        roles=(
            Role(ROLE, ACCOUNT, "worker", "AROAWORKER", _trust(), tags={"Env": "prod"}, max_session_duration=7200),
            Role(LINKED, ACCOUNT, "linked", "AROALINKED", _trust()),
        ),
        password_policy=policy,
    )
    root = OrganizationalUnit("r-1", "root", accounts=(OrganizationAccount(ACCOUNT), OrganizationAccount(OTHER)))
    snapshot = Snapshot(
        accounts=(account, Account("777788889999", partition="aws-cn")),
        organization=Organization("o-1", "999999999999", root),
        federated_users=(FederatedUser(FEDERATED, ACCOUNT, "bob", USER),),
    )
    return core.Image.from_bytes(write_image(snapshot))


def test_user_when_found_by_arn_then_its_facts_come_back() -> None:
    assert _image().find_user(USER) == UserFacts(
        USER, ACCOUNT, "alice", "AIDAALICE", tags={"team": "red", "étage": "2"}
    )


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "alice",
        f"arn:aws:iam::{ACCOUNT}:user/alice",
        USER + "\0",
        USER.upper(),
        f"arn:aws:iam::{ACCOUNT}:root",
        FEDERATED,
        ROLE,
        f"arn:aws:sts::{ACCOUNT}:assumed-role/worker",
        "\ud800",
    ],
)
def test_user_when_the_arn_is_none_of_a_user_then_nobody_is_found(arn: str) -> None:
    assert _image().find_user(arn) is None


def test_role_when_found_by_arn_then_its_facts_come_back() -> None:
    assert _image().find_role(ROLE) == RoleFacts(
        arn=ROLE,
        principal=f"arn:aws:sts::{ACCOUNT}:assumed-role/worker",
        account=ACCOUNT,
        name="worker",
        role_id="AROAWORKER",
        max_session_duration=7200,
        is_service_linked=False,
        tags={"env": "prod"},
    )


def test_role_when_only_a_service_may_assume_it_then_its_facts_say_so() -> None:
    found = _image().find_role(LINKED)

    assert found is not None
    assert found.is_service_linked
    assert found.max_session_duration == 3600


@pytest.mark.parametrize(
    "arn", ["", f"arn:aws:iam::{ACCOUNT}:role/worker", f"arn:aws:sts::{ACCOUNT}:assumed-role/worker", USER, "\ud800"]
)
def test_role_when_the_arn_is_none_of_a_role_then_none_is_found(arn: str) -> None:
    assert _image().find_role(arn) is None


@pytest.mark.parametrize("asked", [ACCOUNT, "acme"])
def test_account_when_found_by_id_or_alias_then_its_facts_come_back(asked: str) -> None:
    assert _image().find_account(asked) == AccountFacts(ACCOUNT, "acme", "aws", POLICY)


@pytest.mark.parametrize("policy", [None, PasswordPolicy(), PasswordPolicy(hard_expiry=True, require_numbers=True)])
def test_account_when_it_has_this_password_policy_then_that_comes_back(policy: PasswordPolicy | None) -> None:
    found = _image(policy).find_account(ACCOUNT)

    assert found is not None
    assert found.password_policy == policy


def test_account_when_it_is_of_another_partition_then_its_facts_say_so() -> None:
    assert _image().find_account("777788889999") == AccountFacts("777788889999", "", "aws-cn", None)


@pytest.mark.parametrize("asked", ["", "ACME", "000000000000", "acme\0", "\ud800"])
def test_account_when_nothing_is_called_so_then_none_is_found(asked: str) -> None:
    assert _image().find_account(asked) is None


@pytest.mark.parametrize("asked", [OTHER, "999999999999"])
def test_account_when_only_the_organization_names_it_then_none_is_found(asked: str) -> None:
    assert _image().find_account(asked) is None


@pytest.mark.parametrize(
    ("section", "field", "words"),
    [
        ("ROLE_TRUSTS", "principal", "a trust policy is damaged"),
        ("ACCOUNT_DETAILS", "alias", "the details of an account are damaged"),
        ("ACCOUNT_DETAILS", "alias_len", "the details of an account are damaged"),
    ],
)
def test_image_when_these_facts_point_outside_then_it_is_refused(section: str, field: str, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        core.Image.from_bytes(changed_image((section, 0, field, 0xFFFFFFF0)))

    assert words in caught.value.message
