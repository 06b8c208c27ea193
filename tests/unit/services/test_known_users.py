# SPDX-License-Identifier: Apache-2.0
"""Whom a snapshot knows."""

from pathlib import Path

import pytest

from sidecar.core import Image
from sidecar.model.errors import NotFoundError
from sidecar.services.known_users import KnownUsers, know_everybody, require_known
from sidecar.services.snapshots import read_snapshot
from tests.e2e.sidecar_process import ADA, write_source


class Snapshots:
    """Has one image in place, or none."""

    def __init__(self, image: Image | None) -> None:
        self.image = image


@pytest.fixture
def known(tmp_path: Path) -> KnownUsers:
    """What a snapshot with ada and bob knows."""
    return KnownUsers(Snapshots(read_snapshot(write_source(tmp_path, others=["finance/bob"]), now=0)[0]))


@pytest.mark.parametrize(
    ("arn", "want"),
    [
        (ADA, True),
        ("arn:aws:iam::111122223333:user/finance/bob", True),
        ("arn:aws:iam::111122223333:root", True),
        ("arn:aws:iam::111122223333:user/bob", False),
        ("arn:aws:iam::111122223333:user/Ada", False),
        ("arn:aws:iam::111122223333:user/eve", False),
        ("arn:aws:iam::444455556666:user/ada", False),
        ("arn:aws:iam::444455556666:root", False),
        ("arn:aws-cn:iam::111122223333:user/ada", False),
    ],
)
def test_user_when_the_snapshot_has_it_then_it_is_known(known: KnownUsers, arn: str, want: bool) -> None:
    assert known(arn) is want


def test_user_when_there_is_no_snapshot_then_nobody_is_unknown() -> None:
    assert KnownUsers(Snapshots(None))("arn:aws:iam::111122223333:user/eve")
    assert know_everybody("arn:aws:iam::111122223333:user/eve")


def test_unknown_user_when_required_then_it_is_said_how_to_mend_it(known: KnownUsers) -> None:
    require_known(known, ADA)
    with pytest.raises(NotFoundError, match="the snapshot has no user"):
        require_known(known, "arn:aws:iam::111122223333:user/eve")
