# SPDX-License-Identifier: Apache-2.0
"""
What stands in shadow is taken out of what is in force, and whatever a shadow file has wrong is said.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sidecar.compile.image import write_image
from sidecar.compile.shadow import MAX_ENTRIES, moment_text
from sidecar.compile.source import SourceReport, parse_source
from sidecar.core import Image
from sidecar.model.shadow import ShadowEntry, ShadowKind
from tests.unit.compile.dumps import (
    ARN,
    FILE,
    encode,
    expect,
    expect_error,
    expect_warning,
    full_page,
    managed,
    page,
    snapshot_of,
)

NOW = int(datetime(2026, 7, 1, tzinfo=UTC).timestamp())
SHADOW = "shadow.yaml"
INLINE = f"inline:{ARN}:user/alice/own"


def day(days: int) -> str:
    """Return the date so many days from now."""
    return (datetime.fromtimestamp(NOW, UTC) + timedelta(days=days)).strftime("%Y-%m-%d")


def with_shadow(*entries: Any, main: Any = None, now: int | None = NOW, **others: Any) -> SourceReport:
    """Parse a source with a shadow file of these entries."""
    files = {FILE: encode(full_page() if main is None else main)}
    files |= {f"{name.replace('_', '-')}.json": encode(content) for name, content in others.items()}
    return parse_source({**files, "shadow.json": encode(list(entries))}, now=now)


def error(report: SourceReport, path: str, *words: str) -> None:
    expect_error(report, path, *words, file="shadow.json")


def warning(report: SourceReport, path: str, *words: str) -> None:
    expect_warning(report, path, *words, file="shadow.json")


def names_of(report: SourceReport, user: str = "alice") -> list[str]:
    """Return the names of the identity-based policies of a user that are in force."""
    users = {found.name: found for found in snapshot_of(report).accounts[0].users}
    return [policy.name for policy in users[user].policies]


def test_file_when_it_is_yaml_then_entries_are_read_with_date_moment_and_note() -> None:
    text = f"""
- policy: {INLINE}
  until: 2026-12-31
  note: OPS-1 is to look at it
- route: list-orders
  until: 2026-12-31T18:30:05Z
- {{policy: "{ARN}:policy/Limit", until: 2026-08-01T06:00Z}}
"""
    routes = {
        "routes": [{"id": "list-orders", "path": "/orders", "action": "shop:ListOrders", "resource": "*"}],
    }
    files = {FILE: encode(full_page()), SHADOW: text.encode(), "routes.json": encode(routes)}

    snapshot = snapshot_of(parse_source(files, now=NOW))

    assert snapshot.shadow is not None
    assert [(entry.kind, entry.id, moment_text(entry.until), entry.note) for entry in snapshot.shadow.entries] == [
        (ShadowKind.POLICY, INLINE, "2026-12-31T00:00:00Z", "OPS-1 is to look at it"),
        (ShadowKind.ROUTE, "list-orders", "2026-12-31T18:30:05Z", ""),
        (ShadowKind.POLICY, f"{ARN}:policy/Limit", "2026-08-01T06:00:00Z", ""),
    ]
    everything = snapshot.shadow.snapshot
    assert snapshot.routes is not None
    assert everything.routes is not None
    assert ([route.id for route in snapshot.routes.routes], [route.id for route in everything.routes.routes]) == (
        [],
        ["list-orders"],
    )
    assert everything.shadow is None


@pytest.mark.parametrize("text", ["", "# nothing\n", "[]"])
def test_file_when_it_is_empty_then_nothing_stands_in_shadow(text: str) -> None:
    report = parse_source({FILE: encode(full_page()), SHADOW: text.encode()}, now=NOW)

    assert snapshot_of(report).shadow is None


def test_policy_when_in_shadow_then_it_is_taken_out_wherever_it_is_attached() -> None:
    report = with_shadow({"policy": f"{ARN}:policy/Base", "until": day(10)})

    snapshot = snapshot_of(report)
    assert snapshot.shadow is not None
    (account,), (whole,) = snapshot.accounts, snapshot.shadow.snapshot.accounts
    assert [policy.name for policy in whole.users[0].policies if policy.name.endswith("/Base")]
    assert names_of(report) == [INLINE, f"inline:{ARN}:group/Readers/read", "arn:aws:iam::aws:policy/Extra"]
    assert [policy.name for policy in account.roles[0].policies] == [f"inline:{ARN}:role/web/assets"]
    assert report.problems == ()


def test_policy_when_it_is_of_a_group_then_its_members_do_without() -> None:
    report = with_shadow({"policy": f"inline:{ARN}:group/Readers/read", "until": day(10)})

    assert f"inline:{ARN}:group/Readers/read" not in names_of(report)


def test_boundary_when_in_shadow_then_there_is_none() -> None:
    report = with_shadow({"policy": f"{ARN}:policy/Limit", "until": day(10)})

    snapshot = snapshot_of(report)
    assert snapshot.shadow is not None
    assert snapshot.accounts[0].users[0].boundary is None
    assert snapshot.shadow.snapshot.accounts[0].users[0].boundary is not None


def test_trust_policy_when_in_shadow_then_nobody_can_assume_the_role_and_that_is_said() -> None:
    name = f"inline:{ARN}:role/web/AssumeRolePolicyDocument"

    report = with_shadow({"policy": name, "until": day(10)})

    warning(report, "$[0].policy", f"nobody can assume role `{ARN}:role/web`")
    assert snapshot_of(report).accounts[0].roles[0].trust.document.statements == ()


def test_resource_policy_when_in_shadow_then_it_is_taken_out_and_that_of_a_key_is_missed() -> None:
    key = "arn:aws:kms:eu-west-1:111122223333:key/1"
    statement = {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    resources = {"resources": [{"arn": arn, "policy": policy} for arn in (key, "arn:aws:sns:eu-west-1:111122223333:t")]}

    entries = [{"policy": f"inline:{resource['arn']}/policy", "until": day(1)} for resource in resources["resources"]]
    report = with_shadow(*entries, resource_policies=resources)

    assert snapshot_of(report).resource_policies == ()
    warning(report, "$[0].policy", f"nobody can use `{key}`")


def _organization(*service: Any, resource: Any = ()) -> dict[str, Any]:
    return {
        "id": "o-a1b2c3d4e5",
        "management_account": "999999999999",
        "root": {
            "id": "r-a1b2",
            "accounts": ["999999999999"],
            "units": [
                {
                    "id": "ou-a1b2-c3d4e5f6",
                    "service_control_policies": list(service),
                    "resource_control_policies": list(resource),
                    "accounts": ["111122223333"],
                }
            ],
        },
    }


def _control(name: str, effect: str, **more: str) -> dict[str, Any]:
    statement = {"Effect": effect, "Action": "*", "Resource": "*", **more}
    return {"name": name, "document": {"Version": "2012-10-17", "Statement": [statement]}}


FULL, CURB = _control("FullAWSAccess", "Allow"), _control("Curb", "Deny")


def test_control_policies_when_in_shadow_then_they_are_taken_out_of_their_level() -> None:
    organization = _organization(FULL, CURB, resource=[_control("Fence", "Deny", Principal="*")])

    report = with_shadow(
        {"policy": "inline:ou-a1b2-c3d4e5f6/Curb", "until": day(1)},
        {"policy": "inline:ou-a1b2-c3d4e5f6/Fence", "until": day(1)},
        organization=organization,
    )

    in_force = snapshot_of(report).organization
    assert in_force is not None
    (unit,) = in_force.root.units
    assert [policy.name for policy in unit.service_control_policies or ()] == ["inline:ou-a1b2-c3d4e5f6/FullAWSAccess"]
    assert unit.resource_control_policies == ()


@pytest.mark.parametrize("others", [[], [CURB]])
def test_service_control_policy_when_it_alone_allows_then_a_shadow_would_lock_out_and_is_refused(
    others: list[Any],
) -> None:
    report = with_shadow(
        {"policy": "inline:ou-a1b2-c3d4e5f6/FullAWSAccess", "until": day(1)}, organization=_organization(FULL, *others)
    )

    error(report, "$[0].policy", "locks out all below it", "`ou-a1b2-c3d4e5f6`", "keep FullAWSAccess")


def test_entry_when_its_time_has_come_then_it_is_in_force_and_to_be_taken_out() -> None:
    report = with_shadow({"policy": INLINE, "until": day(0)}, {"policy": f"{ARN}:policy/Limit", "until": day(1)})

    assert INLINE in names_of(report)
    warning(report, "$[0]", "is in force since 2026-07-01T00:00:00Z", "take the entry out")
    shadow = snapshot_of(report).shadow
    assert shadow is not None
    assert [entry.id for entry in shadow.entries] == [f"{ARN}:policy/Limit"]


def test_entry_when_its_time_has_come_then_it_need_not_be_there_any_more() -> None:
    report = with_shadow({"policy": "inline:gone/policy", "until": day(-3)})

    assert snapshot_of(report).shadow is None


def test_policy_when_attached_to_nobody_then_that_is_a_warning() -> None:
    main = page(policies=[managed("Spare")])

    report = with_shadow({"policy": f"{ARN}:policy/Spare", "until": day(3)}, main=main)

    warning(report, "$[0].policy", "attached to nobody")
    assert snapshot_of(report).shadow is None


@pytest.mark.parametrize(
    ("entry", "path", "words"),
    [
        ("Base", "$[0]", ["an entry must be an object, not text"]),
        ({}, "$[0]", ["names a policy or a route", "as in `policy: arn"]),
        ({"until": "2026-12-31"}, "$[0]", ["names a policy or a route"]),
        ({"policy": INLINE, "route": "a", "until": "2026-12-31"}, "$[0]", ["a policy or a route, not both"]),
        ({"policy": INLINE}, "$[0]", ["an entry without `until`", "write a date"]),
        ({"policy": INLINE, "until": "2026-12-31", "reason": "x"}, "$[0].reason", ["unknown key `reason`"]),
        ({"policy": INLINE, "unti": "2026-12-31", "until": "2026-12-31"}, "$[0].unti", ["did you mean `until`"]),
        ({"policy": "", "until": "2026-12-31"}, "$[0].policy", ["`policy` is empty"]),
        ({"policy": ["a"], "until": "2026-12-31"}, "$[0].policy", ["`policy` must be text, not a list"]),
        ({"policy": INLINE, "until": 5}, "$[0].until", ["`until` must be text, not a number"]),
        ({"policy": INLINE, "until": "2026-12-31", "note": 5}, "$[0].note", ["`note` must be text"]),
        ({"policy": INLINE, "until": "2026-12-31", "note": "x" * 501}, "$[0].note", ["501 characters, more than 500"]),
        ({"policy": "Base", "until": "2026-12-31"}, "$[0].policy", [f"did you mean `{ARN}:policy/Base`"]),
        ({"policy": "alice/own", "until": "2026-12-31"}, "$[0].policy", [f"did you mean `{INLINE}`"]),
        ({"policy": f"{ARN}:policy/Bas", "until": "2026-12-31"}, "$[0].policy", [f"did you mean `{ARN}:policy/Base`"]),
        ({"policy": "nothing", "until": "2026-12-31"}, "$[0].policy", ["no policy is called `nothing`", "explain"]),
        ({"route": "orders", "until": "2026-12-31"}, "$[0].route", ["no route is called `orders`", "routes.yaml"]),
    ],
)
def test_entry_when_it_is_wrong_then_the_error_says_where_and_how_to_mend_it(
    entry: Any, path: str, words: list[str]
) -> None:
    error(with_shadow(entry), path, *words)


@pytest.mark.parametrize(
    "until",
    [
        "tomorrow",
        "2026-13-01",
        "2026-02-29",
        "2026-12-31T18:00",
        "2026-12-31T18:00:00+01:00",
        "2026-12-31 18:00:00Z",
        "2026-12-31T24:30:00Z",
        "2026-12",
        "20261231",
        "2026-W40-1",
        "\uff12026-12-31",
        "0000-00-00",
    ],
)
def test_until_when_it_is_no_date_then_refused(until: str) -> None:
    error(
        with_shadow({"policy": INLINE, "until": until}), "$[0].until", f"`{until}` is no date", "write a date such as"
    )


@pytest.mark.parametrize(
    ("days", "words"),
    [(367, "more than a year ahead"), (5000, "more than a year ahead"), (-367, "more than a year ago")],
)
def test_until_when_it_is_far_away_then_refused(days: int, words: str) -> None:
    error(with_shadow({"policy": INLINE, "until": day(days)}), "$[0].until", words)


@pytest.mark.parametrize("days", [366, 1])
def test_until_when_it_is_near_then_the_entry_stands_in_shadow(days: int) -> None:
    assert snapshot_of(with_shadow({"policy": INLINE, "until": day(days)})).shadow is not None


def test_entry_when_it_stands_twice_then_refused_whatever_its_dates() -> None:
    report = with_shadow({"policy": INLINE, "until": day(1)}, {"policy": INLINE, "until": day(-1)})

    error(report, "$[1]", "stands twice: also at $[0]")


@pytest.mark.parametrize("document", ["{}", "text", "5", '{"policy": "a"}'])
def test_file_when_it_is_no_list_then_refused(document: str) -> None:
    report = parse_source({FILE: encode(full_page()), SHADOW: document.encode()}, now=NOW)

    expect_error(report, "$", "a shadow file must be a list", file=SHADOW)


def test_file_when_it_has_too_many_entries_then_refused() -> None:
    error(with_shadow(*[{}] * (MAX_ENTRIES + 1)), "$", f"more than {MAX_ENTRIES}")


def test_file_when_nothing_says_what_time_it_is_then_refused() -> None:
    error(with_shadow(now=None), "$", "nothing says what time it is")


def test_file_when_another_file_is_broken_then_names_are_not_called_unknown() -> None:
    report = with_shadow({"policy": f"{ARN}:policy/Other", "until": day(1)}, organization=[])

    assert [problem.file for problem in report.problems] == ["organization.json"]


def test_image_when_something_stands_in_shadow_then_it_says_what_and_holds_everything_beside() -> None:
    report = with_shadow({"policy": INLINE, "until": day(5)}, {"policy": f"{ARN}:policy/Base", "until": day(2)})
    snapshot = snapshot_of(report)
    assert snapshot.shadow is not None

    image = Image.from_bytes(write_image(snapshot))

    assert image.shadow_entries == (
        ShadowEntry(ShadowKind.POLICY, f"{ARN}:policy/Base", NOW + 2 * 86_400),
        ShadowEntry(ShadowKind.POLICY, INLINE, NOW + 5 * 86_400),
    )
    everything = parse_source({FILE: encode(full_page())})
    assert image.with_shadow_in_force().revision == Image.from_bytes(write_image(snapshot_of(everything))).revision


def test_snapshot_when_the_last_entry_has_ended_then_it_is_as_if_there_were_no_file() -> None:
    late = with_shadow({"policy": INLINE, "until": day(5)}, now=NOW + 5 * 86_400)

    assert write_image(snapshot_of(late)) == write_image(snapshot_of(parse_source({FILE: encode(full_page())})))
    expect(late, late.problems[0].severity, "shadow.json", "$[0]", "is in force since 2026-07-06T00:00:00Z")
