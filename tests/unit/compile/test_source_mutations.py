# SPDX-License-Identifier: Apache-2.0
"""
Sound sources that were tampered with: whatever happens to them, a report comes out and never an exception.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.compile.source import parse_source
from sidecar.model.errors import Severity
from tests.unit.compile.dumps import ACCOUNT, FILE, document, full_page

SOURCE: dict[str, Any] = {
    FILE: full_page(),
    "organization.json": {
        "id": "o-a1",
        "management_account": ACCOUNT,
        "root": {
            "id": "r-a1",
            "accounts": [ACCOUNT, {"id": "000000000001", "service_control_policies": [document("*")]}],
            "service_control_policies": [
                {"Policy": {"PolicySummary": {"Name": "x"}, "Content": json.dumps(document())}}
            ],
            "units": [{"id": "ou-a1", "name": "x", "units": [], "accounts": []}],
        },
    },
    "resource-policies.json": {
        "resources": [
            {
                "arn": "arn:aws:s3:::b*",
                "account": ACCOUNT,
                "policy": {
                    "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "s3:*", "Resource": "*"}]
                },
            }
        ]
    },
    "account-settings.json": {
        "root_is_allowed": True,
        "accounts": {
            ACCOUNT: {
                "alias": "acme",
                "password_policy": {"minimum_password_length": 8, "require_numbers": True},
                "roles": {"web": {"max_session_duration": 3600}},
            }
        },
    },
}

odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=8),
    st.sampled_from(
        [
            "",
            "*",
            "\x00",
            ACCOUNT,
            "arn:aws:iam::aws:policy/Extra",
            "arn:aws:iam::1:",
            "%7B%7D",
            '{"Statement": []}',
            "v1",
            "v99999999999999999999",
            -1,
            1e308,
            [],
            {},
            [[]],
            {"": {}},
            [None],
            {"Key": "a"},
        ]
    ),
)


def containers(value: Any) -> list[Any]:
    """Return all objects and lists in *value* that are not empty."""
    found: list[Any] = []
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict | list) and node:
            found.append(node)
            waiting.extend(node.values() if isinstance(node, dict) else node)
    return found


def tamper(data: st.DataObject, source: dict[str, Any]) -> None:
    """Delete, replace, copy or rename one node."""
    # The outermost object is the list of files.
    container = data.draw(st.sampled_from(containers(source)[1:]))
    keys = list(container) if isinstance(container, dict) else list(range(len(container)))
    key = data.draw(st.sampled_from(keys))
    change = data.draw(st.sampled_from(["delete", "replace", "copy", "swap"]))
    if change == "delete":
        del container[key]
    elif change == "replace":
        container[key] = data.draw(odd_values)
    elif change == "swap":
        container[key] = json.loads(json.dumps(data.draw(st.sampled_from(containers(source)[1:]))))
    elif isinstance(container, list):
        container.append(json.loads(json.dumps(container[key])))
    else:
        container[data.draw(st.text(max_size=5))] = json.loads(json.dumps(container[key]))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_source_when_tampered_with_gives_a_report(data: st.DataObject) -> None:
    source = json.loads(json.dumps(SOURCE))
    for _ in range(data.draw(st.integers(1, 4))):
        tamper(data, source)
    files = {name: json.dumps(content).encode() for name, content in source.items()}
    report = parse_source(files)
    errors = [problem for problem in report.problems if problem.severity is Severity.ERROR]
    assert (report.snapshot is None) == bool(errors)
    for problem in report.problems:
        assert problem.file in files
        assert problem.json_path.startswith("$")
        assert problem.message.isprintable()
        assert not problem.message.endswith(".")


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_source_when_bytes_are_damaged_gives_a_report(data: st.DataObject) -> None:
    text = bytearray(json.dumps(full_page()).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 20))
        text[start : start + length] = data.draw(st.binary(max_size=5))
    report = parse_source({FILE: bytes(text)})
    assert report.snapshot is not None or report.problems


@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=20), max_size=5))
@settings(max_examples=100, deadline=None)
def test_source_when_its_names_are_odd_gives_a_report(files: dict[str, bytes]) -> None:
    assert parse_source(files).snapshot is None


def test_sound_source_has_no_problems() -> None:
    report = parse_source({name: json.dumps(content).encode() for name, content in SOURCE.items()})
    assert report.problems == ()
