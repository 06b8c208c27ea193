# SPDX-License-Identifier: Apache-2.0
"""What fuzzing and hostile input once found."""

from __future__ import annotations

import pytest

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.compile.layout import CONSTANTS
from sidecar.model.decision import Answer
from sidecar.model.errors import ImageError, RequestError
from sidecar.model.request import AuthorizationRequest
from sidecar.model.snapshot import Snapshot
from tests.conformance.cases import OTHER_ACCOUNT, SESSION_ARN, USER_ARN, build_snapshot
from tests.oracle import decide
from tests.unit.core.asking import GIVEN, NOW, changed_image, read_field


def _both(snapshot: Snapshot, request: AuthorizationRequest) -> tuple[Answer | str, Answer | str]:
    """Give what core and oracle say; of a refusal its field."""
    said: list[Answer | str] = []
    image = core.Image.from_bytes(write_image(snapshot))
    try:
        said.append(core.explain(image, request, seconds=NOW, nanos=0))
    except RequestError as error:
        said.append(error.field)
    try:
        said.append(decide(snapshot, request, seconds=NOW, nanos=0))
    except RequestError as error:
        said.append(error.field)
    return said[0], said[1]


def _first_binary_pattern() -> int:
    test = 0
    while read_field("TESTS", test, "value_type") != CONSTANTS["VALUE_BINARY"]:
        test += 1
    return read_field("TESTS", test, "values")


def test_binary_value_when_it_is_made_of_variables_then_the_image_is_refused() -> None:
    # Its length was that of a text nobody had checked, and comparing read behind the image.
    pattern = _first_binary_pattern()
    data = changed_image(
        ("PATTERNS", pattern, "kind", CONSTANTS["PATTERN_TEMPLATE"]),
        ("PATTERNS", pattern, "text", 0),
        ("PATTERNS", pattern, "piece_count", 1),
        ("PATTERNS", pattern, "len", 0x7FFFFFFF),
    )

    with pytest.raises(ImageError, match="a pattern is damaged"):
        core.Image.from_bytes(data)


@pytest.mark.parametrize("fd", [-1, -2, -(2**31)])
def test_image_when_the_file_descriptor_is_negative_then_it_is_refused(fd: int) -> None:
    # A negative number stood for bytes in memory, of which there were none.
    with pytest.raises(ImageError, match="no open file"):
        core.Image.from_fd(fd, 100)


def test_owner_when_contradicted_by_an_unknown_caller_then_the_request_is_invalid() -> None:
    request = AuthorizationRequest(
        USER_ARN + "x", "s3:GetObject", "arn:aws:sqs:eu-west-1:111122223333:q", resource_account=OTHER_ACCOUNT
    )
    said, wanted = _both(build_snapshot(GIVEN), request)

    assert said == wanted


def test_owner_when_contradicted_for_a_resource_of_aws_then_the_request_is_invalid() -> None:
    request = AuthorizationRequest(
        USER_ARN, "iam:GetPolicy", "arn:aws:iam::aws:policy/ReadOnlyAccess", resource_account=OTHER_ACCOUNT
    )
    said, wanted = _both(build_snapshot(GIVEN), request)

    assert said == wanted


@pytest.mark.parametrize("principal", [".amazonaws.com", ".amazonaws.com.cn"])
def test_service_when_it_has_no_name_then_the_request_is_invalid(principal: str) -> None:
    said, wanted = _both(build_snapshot(GIVEN), AuthorizationRequest(principal, "app:Read", "arn:aws:app:::x"))

    assert said == wanted == "principal"


def test_service_when_its_name_is_long_then_core_and_oracle_agree() -> None:
    principal = "x" * 300 + ".amazonaws.com"
    said, wanted = _both(build_snapshot(GIVEN), AuthorizationRequest(principal, "app:Read", "arn:aws:app:::x"))

    assert said == wanted


def test_user_when_without_a_name_then_the_request_is_invalid() -> None:
    request = AuthorizationRequest("arn:aws:iam::111122223333:user/team/", "app:Read", "*")
    said, wanted = _both(build_snapshot(GIVEN), request)

    assert said == wanted


def test_mfa_when_policies_name_a_hundred_ages_then_the_greatest_counts() -> None:
    ages = [{"Condition": {"NumericLessThan": {"aws:MultiFactorAuthAge": str(age)}}} for age in range(1, 101)]
    snapshot = build_snapshot({"principal": "role", "identity": ages})
    said, wanted = _both(snapshot, AuthorizationRequest(SESSION_ARN, "app:Read", "*"))

    assert isinstance(wanted, Answer)
    assert wanted.mfa_requirement is not None
    assert wanted.mfa_requirement.max_age_seconds == 99
    assert said == wanted
