# SPDX-License-Identifier: Apache-2.0
import copy
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from sidecar.model.errors import SettingsError
from sidecar.services.record_masks import FIELDS, Masker, load_mask_key, parse_masks

KEY = b"k" * 32
RECORD: dict[str, Any] = {
    "eventName": "Refund",
    "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/ada", "accountId": "111122223333"},
    "resources": [{"ARN": "arn:aws:s3:::reports", "accountId": "111122223333"}],
    "requestParameters": {
        "context": {
            "payments:CardNumber": "4111",
            "payments:Amount": "80",
            "aws:RequestTag/cost.center": "blue",
            "aws:TagKeys": ["team", "cost"],
        },
        "resourceAccount": "111122223333",
    },
}


def mask(*texts: str, key: bytes = KEY) -> dict[str, Any]:
    record = copy.deepcopy(RECORD)
    Masker(parse_masks(texts), key).mask(record)
    return record


def test_mask_when_nothing_is_named_then_nothing_changes() -> None:
    assert mask() == RECORD


def test_mask_when_a_field_is_named_then_its_value_is_hashed_and_no_other() -> None:
    record = mask("userIdentity.arn")

    hashed = record["userIdentity"].pop("arn")
    assert hashed.startswith("blake2b:")
    assert len(hashed) == len("blake2b:") + 32
    assert "ada" not in hashed
    record["userIdentity"]["arn"] = RECORD["userIdentity"]["arn"]
    assert record == RECORD


def test_mask_when_the_value_and_the_key_are_the_same_then_the_hash_is_and_only_then() -> None:
    first = mask("userIdentity.accountId", "resources.accountId")

    assert first["userIdentity"]["accountId"] == first["resources"][0]["accountId"]
    assert first["userIdentity"]["accountId"] != mask("userIdentity.arn")["userIdentity"]["arn"]
    other = mask("userIdentity.accountId", key=b"o" * 32)
    assert other["userIdentity"]["accountId"] != first["userIdentity"]["accountId"]


def test_mask_when_removed_then_the_field_is_gone() -> None:
    record = mask("remove:resources.ARN", "remove:requestParameters.context.payments:CardNumber")

    assert record["resources"] == [{"accountId": "111122223333"}]
    assert "payments:CardNumber" not in record["requestParameters"]["context"]
    assert record["requestParameters"]["context"]["payments:Amount"] == "80"


def test_mask_when_the_key_is_spelt_in_another_case_then_it_is_masked_all_the_same() -> None:
    context = mask("requestParameters.context.PAYMENTS:cardnumber")["requestParameters"]["context"]

    assert context["payments:CardNumber"].startswith("blake2b:")


def test_mask_when_a_value_is_a_list_then_each_is_hashed() -> None:
    values = mask("hash:requestParameters.context.aws:TagKeys")["requestParameters"]["context"]["aws:TagKeys"]

    assert len(values) == 2
    assert all(value.startswith("blake2b:") for value in values)
    assert values[0] != values[1]


def test_mask_when_the_name_ends_in_a_star_then_all_that_begins_so_is_masked() -> None:
    context = mask("remove:requestParameters.context.payments:*")["requestParameters"]["context"]

    assert set(context) == {"aws:RequestTag/cost.center", "aws:TagKeys"}
    assert "aws:RequestTag/cost.center" not in str(mask("remove:requestParameters.context.aws:requesttag/*"))


def test_mask_when_everything_below_is_named_then_the_context_is_too() -> None:
    record = mask("remove:requestParameters.*", "userIdentity.*")

    assert record["requestParameters"] == {"context": {}}
    assert record["userIdentity"]["type"] == "IAMUser"
    assert record["userIdentity"]["accountId"].startswith("blake2b:")
    assert mask("remove:requestParameters.context.*")["requestParameters"] == {
        "context": {},
        "resourceAccount": "111122223333",
    }


def test_mask_when_several_names_fit_then_the_more_exact_wins() -> None:
    context = mask(
        "remove:requestParameters.context.*",
        "requestParameters.context.payments:*",
        "remove:requestParameters.context.payments:Amount",
    )["requestParameters"]["context"]

    assert set(context) == {"payments:CardNumber"}
    assert context["payments:CardNumber"].startswith("blake2b:")


def test_mask_when_the_record_lacks_the_field_then_nothing_happens() -> None:
    record: dict[str, Any] = {"resources": [{}], "requestParameters": {"context": {}}}
    Masker(parse_masks([*FIELDS, "requestParameters.context.*"]), KEY).mask(record)

    assert record == {"resources": [{}], "requestParameters": {"context": {}}}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["userIdentity"], "is no field"),
        (["userIdentity.arm"], "is no field"),
        (["useridentity.arn"], "is no field"),
        (["user*"], "is no field"),
        (["*"], "is no field"),
        (["decision"], "is no field"),
        (["eventID"], "is no field"),
        ([""], "is no field"),
        (["remove:"], "is no field"),
        (["remove:hash:userIdentity.arn"], "is no field"),
        (["requestParameters.context."], "is no field"),
        (["requestParameters.context.a*b"], "before its end"),
        (["userIdentity.arn", "remove:userIdentity.arn"], "more than once"),
        (["requestParameters.context.a:B", "requestParameters.context.A:b"], "more than once"),
        (["requestParameters.context.a*", "requestParameters.context.A*"], "more than once"),
    ],
)
def test_masks_when_a_name_cannot_be_used_then_that_is_said(texts: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_masks(texts)


def test_key_when_first_made_then_it_is_random_and_closed_and_then_kept(tmp_path: Path) -> None:
    asked: list[int] = []

    def new_key(size: int) -> bytes:
        asked.append(size)
        return KEY

    assert load_mask_key(tmp_path, new_key=new_key) == KEY
    assert load_mask_key(tmp_path) == KEY
    assert asked == [32]
    assert os.listdir(tmp_path) == ["decision-log.key"]
    assert stat.S_IMODE((tmp_path / "decision-log.key").stat().st_mode) == 0o600
    (tmp_path / "other").mkdir()
    assert load_mask_key(tmp_path / "other") != load_mask_key(tmp_path)


@pytest.mark.parametrize("content", ["", "nothing\n", "ab" * 31, "ab" * 33, "\xff"])
def test_key_when_the_file_holds_none_then_that_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "decision-log.key").write_text(content)
    (tmp_path / "decision-log.key").chmod(0o600)

    with pytest.raises(SettingsError, match="holds no key"):
        load_mask_key(tmp_path)


def test_key_when_the_file_cannot_be_used_then_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be used"):
        load_mask_key(tmp_path / "nowhere")
    load_mask_key(tmp_path)
    (tmp_path / "decision-log.key").chmod(0o640)
    with pytest.raises(SettingsError, match="can be read by others"):
        load_mask_key(tmp_path)
