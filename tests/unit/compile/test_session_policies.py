# SPDX-License-Identifier: Apache-2.0
"""Session policies as a token carries them: what is compiled, what is refused, and what the core makes of damage."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import pytest

from sidecar import core
from sidecar.compile.layout import FORMAT_VERSION, SECTIONS
from sidecar.compile.session_policies import (
    MAX_PACKED_POLICIES,
    MAX_PLAIN_POLICIES,
    compile_session_policies,
)
from sidecar.model.errors import LimitExceededError, PolicySyntaxError, SessionInvalidError
from sidecar.model.session import SessionKind
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.tokens import opened, seal, state
from tests.unit.core.asking import image_of, request
from tests.unit.core.sessions import NOW_MS, claims

ROLE: dict[str, Any] = {"principal": "role", "identity": "Allow"}


def _document(*statements: dict[str, Any]) -> str:
    whole = [{"Effect": "Allow", "Action": "app:*", "Resource": "*", **statement} for statement in statements]
    kept = [{key: value for key, value in statement.items() if value is not None} for statement in whole]
    return json.dumps({"Version": "2012-10-17", "Statement": kept}, separators=(",", ":"))


def _reason(policies: bytes, **parts: Any) -> str:
    by = state()
    asked = core.encode_request(
        request(principal="", session_token=seal(claims(SessionKind.ROLE, policies=policies)), **parts)
    )
    answered = core.authorize(image_of(**ROLE), asked, seconds=NOW_MS // 1000, nanos=0, sessions=by)
    return pb.AuthorizeResponse.FromString(answered).reason


def test_policies_when_there_are_none_then_nothing_stands_in_the_token() -> None:
    assert compile_session_policies([]) == b""
    assert _reason(b"") == "identity_allow"


def test_policies_when_compiled_then_they_filter_what_the_role_may_do() -> None:
    packed = compile_session_policies(
        [
            _document({"Action": ["app:Read", "app:List*"]}),
            _document(
                {"Action": "app:Write", "Condition": {"StringEquals": {"app:team": "red"}}},
                {"Effect": "Deny", "Action": "app:ListSecrets"},
            ),
        ]
    )

    assert _reason(packed, action="app:Read") == "identity_allow"
    assert _reason(packed, action="app:ListAll") == "identity_allow"
    assert _reason(packed, action="app:ListSecrets") == "explicit_deny"
    assert _reason(packed, action="app:Write") == "no_session_allow"
    assert _reason(packed, action="app:Write", context={"APP:Team": "red"}) == "identity_allow"
    assert _reason(packed, action="app:Write", context={"app:team": "blue"}) == "no_session_allow"
    assert _reason(packed, action="other:Read") == "no_session_allow"


def test_policies_when_compiled_twice_then_they_are_the_same_bytes() -> None:
    documents = [_document({}, {"Effect": "Deny", "Action": "app:Delete"})]

    assert compile_session_policies(documents) == compile_session_policies(documents)


def test_policies_when_they_have_mistakes_then_each_is_told_with_its_document() -> None:
    with pytest.raises(PolicySyntaxError) as caught:
        compile_session_policies([_document({}), "{", _document({"Principal": "*"}), _document({"Action": "app"}), ""])

    errors = [problem for problem in caught.value.problems if problem.severity == "error"]
    assert {problem.file for problem in errors} == {f"session_policies[{index}]" for index in (1, 2, 3, 4)}
    assert caught.value.message == f"the session policies have {len(errors)} errors"


def test_policies_when_too_long_in_all_then_white_space_counts() -> None:
    short = _document({})
    padded = short + " " * (MAX_PLAIN_POLICIES - len(short))

    assert compile_session_policies([padded]) == compile_session_policies([short])
    for documents in ([padded + " "], [padded, " "], [short] * (MAX_PLAIN_POLICIES // len(short) + 1)):
        with pytest.raises(LimitExceededError) as caught:
            compile_session_policies(documents)
        assert f"of at most {MAX_PLAIN_POLICIES}" in caught.value.message


def test_policies_when_they_do_not_fit_a_token_then_it_is_said_by_how_much() -> None:
    actions = [f"app:{number}" for number in range(150)]

    with pytest.raises(LimitExceededError) as caught:
        compile_session_policies([_document({"Action": actions})])

    assert caught.value.message.startswith("packed policy too large: the session policies take 1")
    assert "% of the room for them" in caught.value.message
    assert len(compile_session_policies([_document({"Action": actions[:60]})])) <= MAX_PACKED_POLICIES


def _is_refused(packed: bytes) -> bool:
    try:
        opened(seal(claims(SessionKind.ROLE, policies=packed)), now_ms=NOW_MS)
    except SessionInvalidError:
        return True
    return False


RICH = compile_session_policies(
    [
        _document(
            {
                "Sid": "One",
                "Action": ["app:Read", "s3:Get*"],
                "Resource": ["arn:aws:s3:::b/${aws:username}", "arn:aws:sqs:*:*:q"],
            },
            {"Action": None, "NotAction": "iam:*", "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
            {"Effect": "Deny", "Condition": {"NumericLessThan": {"aws:MultiFactorAuthAge": "300"}}},
            {"Effect": "Deny", "Action": "kms:*", "Condition": {"BinaryEquals": {"app:b": "QUJD"}}},
        )
    ]
)


def test_packed_policies_when_cut_or_longer_then_the_token_is_refused() -> None:
    assert not _is_refused(RICH)
    for length in range(1, len(RICH)):
        assert _is_refused(RICH[:length])
    assert _is_refused(RICH + b"\0")
    assert _is_refused(bytes(len(RICH)))


def test_packed_policies_when_of_another_version_then_the_token_is_refused() -> None:
    for version in (0, FORMAT_VERSION - 1, FORMAT_VERSION + 1):
        assert _is_refused(struct.pack("<H", version) + RICH[2:])


def test_packed_policies_when_sections_are_out_of_order_or_unknown_then_the_token_is_refused() -> None:
    (count,) = struct.unpack_from("<H", RICH, 2)
    entries = [struct.unpack_from("<HH", RICH, 4 + 4 * number) for number in range(count)]
    body = RICH[4 + 4 * count :]

    def packed(changed: list[tuple[int, ...]]) -> bytes:
        return struct.pack("<HH", FORMAT_VERSION, len(changed)) + b"".join(
            struct.pack("<HH", *entry) for entry in changed
        ) + body  # fmt: skip

    assert packed(entries) == RICH
    assert _is_refused(packed([entries[1], entries[0], *entries[2:]]))
    assert _is_refused(packed([entries[0], entries[0], *entries[2:]]))
    assert _is_refused(packed([*entries[:-1], (len(SECTIONS), entries[-1][1])]))
    assert _is_refused(packed([*entries[:-1], (65535, 65535)]))
    assert _is_refused(packed([(entries[0][0], 65535), *entries[1:]]))
    assert _is_refused(packed([*entries[:-1], (entries[-1][0], entries[-1][1] + 1)]))
    assert _is_refused(packed(entries[:-1]))


def test_packed_policies_when_damaged_anywhere_then_they_are_refused_or_still_decide() -> None:
    rng = random.Random(7)
    refusals = 0
    for _ in range(3000):
        damaged = bytearray(RICH)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)])
        if _is_refused(bytes(damaged)):
            refusals += 1
            continue
        assert _reason(bytes(damaged)) in ("identity_allow", "no_session_allow", "explicit_deny", "internal_error")
    assert refusals > 500
