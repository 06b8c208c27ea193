# SPDX-License-Identifier: Apache-2.0
"""
Which files a source is made of, its limits, and its progress.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sidecar.compile import accounts, source
from sidecar.compile.organization import MAX_POLICIES_PER_NODE
from sidecar.compile.problems import MAX_PROBLEMS
from sidecar.compile.quotas import MAX_INLINE_GROUP, MAX_INLINE_ROLE, MAX_INLINE_USER
from sidecar.compile.source import SourceReport, is_source_file, parse_source
from sidecar.model.errors import Severity
from tests.unit.compile.dumps import (
    FILE,
    encode,
    expect,
    expect_error,
    expect_warning,
    full_page,
    page,
    parse,
    snapshot_of,
    user,
)


def with_file(name: str, content: bytes = b"{}") -> SourceReport:
    return parse_source({FILE: encode(full_page()), name: content})


def test_source_without_account_dump_is_refused() -> None:
    for files in ({}, {"organization.json": b"{}"}, {"accounts/README.md": b""}, {"main.json": b"{}"}):
        report = parse_source(files)
        assert report.snapshot is None
        expect_error(report, "$", "no account dump", "get-account-authorization-details", file="accounts/")


@pytest.mark.parametrize(
    "name", ["notes.txt", "main.json", "accounts/main.json.bak", "accounts/old/main.json", "backup/", "Makefile"]
)
def test_file_of_another_name_is_a_warning(name: str) -> None:
    report = with_file(name)
    assert report.snapshot is not None
    expect_warning(report, "$", f"`{name}` is not used", file=name)


@pytest.mark.parametrize(
    "name", ["README.md", "docs.md", ".gitkeep", "accounts/.gitkeep", "accounts/readme.MD", "LICENSE"]
)
def test_file_for_people_is_left_alone(name: str) -> None:
    assert with_file(name).problems == ()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("organisation.json", "organization.json"),
        ("Organization.json", "organization.json"),
        ("resource_policies.json", "resource-policies.json"),
        ("account_settings.yaml", "account-settings.yaml"),
    ],
)
def test_file_when_its_name_is_nearly_right_is_refused(name: str, meant: str) -> None:
    expect_error(with_file(name), "$", f"did you mean `{meant}`", file=name)


def test_file_when_it_is_there_in_json_and_yaml_is_refused() -> None:
    first = parse_source({FILE: encode(full_page()), "accounts/main.yaml": encode(page())})
    expect_error(first, "$", "accounts/main.json is there too", file="accounts/main.yaml")
    second = parse_source({FILE: encode(full_page()), "account-settings.json": b"{}", "account-settings.yml": b"{}"})
    expect_error(second, "$", "account-settings.json is there too", file="account-settings.yml")


@pytest.mark.parametrize("name", [FILE, "organization.json", "resource-policies.json", "account-settings.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 200 + b"]" * 200, b'{"a": NaN}', b"{} {}"])
def test_file_when_it_is_no_json_is_refused(name: str, content: bytes) -> None:
    report = parse_source({FILE: encode(full_page()), name: content})
    assert report.snapshot is None
    expect(report, Severity.ERROR, name, "$")


def test_file_when_it_is_no_yaml_is_refused() -> None:
    expect_error(with_file("organization.yaml", b"a: [\n"), "$", "not YAML", file="organization.yaml")


def test_file_when_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_FILE_BYTES", 100)
    expect_error(parse(full_page()), "$", "more than 100 bytes", "pages")


def test_source_when_it_has_too_many_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_FILES", 1)
    expect_error(with_file("organization.json"), "$", "2 files, more than 1", file="")


def test_source_when_it_has_too_many_entities_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MAX_ENTITIES", 3)
    report = parse(page(users=[user(f"u{n}") for n in range(5)]))
    expect_error(report, "$.UserDetailList", "more than 3 users, groups, roles and policies")


def test_problems_when_too_many_are_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    users = [user(f"u{n}", New=1) for n in range(10_100)]
    report = parse(page(users=users))
    assert report.snapshot is not None
    assert len(report.problems) == 10_001
    assert report.problems[-1].message == "100 more problems"
    assert report.problems[-1].severity is Severity.WARNING
    users[-1]["Arn"] = "x"
    report = parse(page(users=users))
    assert report.snapshot is None
    assert Severity.ERROR in {problem.severity for problem in report.problems[:-1]}


def test_progress_goes_up_to_the_end() -> None:
    seen: list[tuple[int, int, str]] = []
    files = {
        "accounts/a.json": encode(page(users=[user(f"u{n}") for n in range(1200)])),
        "organization.json": b"{}",
    }
    parse_source(files, progress=lambda done, total, what: seen.append((done, total, what)))
    assert [(done, total) for done, total, what in seen if what == "parsing policies"] == [
        (500, 1200),
        (1000, 1200),
        (1200, 1200),
    ]
    assert any(what == "reading accounts/a.json" for _, _, what in seen)
    assert all(0 <= done <= total for done, total, _ in seen)


def test_files_in_any_order_give_the_same_report() -> None:
    files = {
        FILE: encode(full_page()),
        "accounts/b.json": encode(page(users=[user("bob", account="000000000001")])),
        "notes.txt": b"",
        "resource-policies.json": b'{"resources": []}',
    }
    assert parse_source(files) == parse_source(dict(reversed(files.items())))


def test_snapshot_has_nothing_that_no_file_says() -> None:
    snapshot = snapshot_of(parse(full_page()))
    assert snapshot.organization is None
    assert snapshot.resource_policies == ()
    assert snapshot.federated_users == ()
    assert snapshot.session_policies is None
    assert snapshot.root_is_allowed


@pytest.mark.parametrize(
    ("name", "is_read"),
    [
        ("accounts/a.json", True),
        ("accounts/a.yml", True),
        ("accounts/a.txt", False),
        ("accounts/.a.json", False),
        ("accounts/b/a.json", False),
        ("organization.json", True),
        ("routes.yaml", True),
        ("x/organization.json", False),
        ("organization", False),
        ("organization.toml", False),
    ],
)
def test_is_source_file_knows_what_is_read(name: str, is_read: bool) -> None:
    assert is_source_file(name) is is_read


def test_page_on_the_source_shows_one_that_loads() -> None:
    text = (Path(__file__).parents[3] / "docs" / "snapshot-source.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:json|yaml)\n(.*?)```", text, re.DOTALL)
    names = re.findall(r"^(?:## )?`(accounts/main\.json|[a-z-]+\.(?:json|yaml))`:?$", text, re.MULTILINE)
    assert names == [
        FILE,
        "resource-policies.json",
        "organization.json",
        "account-settings.yaml",
        "routes.yaml",
        "shadow.yaml",
    ]
    files = {name: block.encode() for name, block in zip(names, blocks, strict=True)}
    report = parse_source(files, now=int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()))
    assert report.problems == ()


def test_page_on_the_source_names_the_limits() -> None:
    text = (Path(__file__).parents[3] / "docs" / "snapshot-source.md").read_text(encoding="utf-8")
    limits = text.partition("## Limits")[2]
    for number in (
        source.MAX_FILES,
        accounts.MAX_ENTITIES,
        MAX_PROBLEMS,
        accounts.MAX_TAGS,
        *MAX_POLICIES_PER_NODE.values(),
        *accounts.SESSION_DURATION,
        MAX_INLINE_USER,
        MAX_INLINE_GROUP,
        MAX_INLINE_ROLE,
    ):
        assert f"{number:,}" in limits
