# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks run on: a source that loads, within AWS's quotas, and requests in the promised mix."""

import json
from collections import Counter
from pathlib import Path

import pytest

from sidecar.compile.image import write_image
from sidecar.compile.source import parse_source
from sidecar.core import Image, authorize
from sidecar.model.snapshot import Snapshot
from sidecar.wire.sidecar.v1 import authorization_pb2 as wire
from tests.bench import workload
from tests.bench.generate import (
    INLINE_QUOTA,
    MANAGED_QUOTA,
    Estate,
    Scale,
    generate,
    managed_policies,
    policy_size,
    write,
)

PRINCIPALS = 40


@pytest.fixture(scope="module")
def estate() -> Estate:
    """Give a small company, like the large one in everything but numbers."""
    return generate(7, Scale.of(PRINCIPALS))


@pytest.fixture(scope="module")
def snapshot(estate: Estate) -> Snapshot:
    """Give it parsed."""
    report = parse_source(estate.files)
    assert report.snapshot is not None, [str(problem) for problem in report.problems[:5]]
    return report.snapshot


def test_company_when_loaded_then_there_is_no_problem(estate: Estate) -> None:
    assert [str(problem) for problem in parse_source(estate.files).problems] == []


def test_company_when_made_twice_then_the_bytes_are_the_same(estate: Estate) -> None:
    assert generate(7, Scale.of(PRINCIPALS)).files == estate.files
    assert generate(8, Scale.of(PRINCIPALS)).files != estate.files


def test_company_then_it_has_what_was_asked_for(estate: Estate, snapshot: Snapshot) -> None:
    users = [user for account in snapshot.accounts for user in account.users]
    roles = [role for account in snapshot.accounts for role in account.roles]
    assert len(users) + len(roles) == estate.counts["principals"] == PRINCIPALS
    for policies in (*(user.policies for user in users), *(role.policies for role in roles)):
        assert sum(policy.name.startswith("arn:aws:iam::aws:") for policy in policies) == 10
    assert any(user.boundary for user in users)
    assert snapshot.organization is not None
    assert len(snapshot.resource_policies) == estate.counts["resource_policies"]


def test_company_then_its_documents_are_within_the_quotas(estate: Estate) -> None:
    pages = [json.loads(data) for name, data in estate.files.items() if name.startswith("accounts/")]
    for page in pages:
        for kind in ("User", "Group", "Role"):
            for detail in page[f"{kind}DetailList"]:
                inline = sum(policy_size(entry["PolicyDocument"]) for entry in detail[f"{kind}PolicyList"])
                assert inline <= INLINE_QUOTA[kind.lower()]
        for policy in page["Policies"]:
            if "::aws:" not in policy["Arn"]:
                assert policy_size(policy["PolicyVersionList"][0]["Document"]) <= MANAGED_QUOTA


def test_company_when_written_then_the_files_are_there(estate: Estate, tmp_path: Path) -> None:
    write(estate, tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")} == set(estate.files)


def test_managed_policies_then_all_of_them_are_there() -> None:
    assert len(managed_policies()) >= 1500


def test_requests_then_they_are_different_even_and_in_the_mix(
    estate: Estate, snapshot: Snapshot, tmp_path: Path
) -> None:
    image = Image.from_bytes(write_image(snapshot))

    def engine(data: bytes) -> bytes:
        return authorize(image, data, seconds=workload.NOW, nanos=0)

    made = workload.requests(estate, engine, seed=1, count=10 * PRINCIPALS)
    assert workload.mix(outcome for outcome, _ in made) == {
        "allow": 0.4,
        "implicit deny": 0.15,
        "implicit deny, allowed with mfa": 0.15,
        "explicit deny": 0.15,
        "explicit deny, allowed with mfa": 0.15,
    }
    assert len({data for _, data in made}) == len(made)
    askers = Counter(wire.AuthorizeRequest.FromString(data).principal for _, data in made)
    assert len(askers) == PRINCIPALS
    assert max(askers.values()) <= 20
    file = tmp_path / "requests"
    workload.write_requests(file, (data for _, data in made))
    assert list(workload.read_requests(file)) == [data for _, data in made]
