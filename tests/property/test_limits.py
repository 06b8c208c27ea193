# SPDX-License-Identifier: Apache-2.0
"""
Requests on both sides of each limit: core and oracle take the one and refuse the other, naming the same field.
"""

from __future__ import annotations

import pytest

from sidecar.model.decision import Answer
from sidecar.model.request import (
    MAX_ACTION,
    MAX_CONTEXT_KEY,
    MAX_CONTEXT_KEYS,
    MAX_CONTEXT_VALUE,
    MAX_CONTEXT_VALUES,
    MAX_PRINCIPAL,
    MAX_RESOURCE,
)
from tests.property.asking import Invalid, ask_core, ask_oracle
from tests.property.strategies import Json

_USER = "arn:aws:iam::111122223333:user/"
_BUCKET = "arn:aws:s3:::"
_LONG_KEY = "k" * 64


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"principal": _USER + "x" * (MAX_PRINCIPAL - len(_USER))}, None),
        ({"principal": _USER + "x" * (MAX_PRINCIPAL - len(_USER) + 1)}, "principal"),
        ({"action": "s3:" + "x" * (MAX_ACTION - 3)}, None),
        ({"action": "s3:" + "x" * (MAX_ACTION - 2)}, "action"),
        ({"resource": _BUCKET + "x" * (MAX_RESOURCE - len(_BUCKET))}, None),
        ({"resource": _BUCKET + "x" * (MAX_RESOURCE - len(_BUCKET) + 1)}, "resource"),
        ({"resource": _BUCKET + "\u20ac" * ((MAX_RESOURCE - len(_BUCKET)) // 3)}, None),
        ({"resource": _BUCKET + "\u20ac" * ((MAX_RESOURCE - len(_BUCKET)) // 3 + 1)}, "resource"),
        ({"context": {"k" * MAX_CONTEXT_KEY: "x"}}, None),
        ({"context": {"k" * (MAX_CONTEXT_KEY + 1): "x"}}, f"context[{_LONG_KEY}]"),
        ({"context": {"k": "x" * MAX_CONTEXT_VALUE}}, None),
        ({"context": {"k": "x" * (MAX_CONTEXT_VALUE + 1)}}, "context[k]"),
        ({"context": {"k": ["x"] * MAX_CONTEXT_VALUES}}, None),
        ({"context": {"k": ["x"] * (MAX_CONTEXT_VALUES + 1)}}, "context[k]"),
        ({"context": {"k": ["x"] * MAX_CONTEXT_VALUES, "j": "x"}}, "context[j]"),
        ({"context": {f"k{number}": "x" for number in range(MAX_CONTEXT_KEYS)}}, None),
        ({"context": {f"k{number}": "x" for number in range(MAX_CONTEXT_KEYS + 1)}}, "context"),
        ({"context": {"k": "\ud800"}}, "context[k]"),
        ({"context": {"\ud800": "x"}}, "context"),
        ({"context": {"a\0b": "x"}}, "context[a\0b]"),
        ({"resource": _BUCKET + "\udfff"}, "resource"),
        ({"principal": "\ud800.amazonaws.com"}, "principal"),
        ({"action": "s3:\ud800"}, "action"),
    ],
)
def test_request_when_at_a_limit_then_core_and_oracle_agree(request_: Json, field: str | None) -> None:
    for ask in (ask_oracle, ask_core):
        answer = ask({"identity": "Allow"}, request_)
        if field is None:
            assert isinstance(answer, Answer), answer
        else:
            assert answer == Invalid(field)
