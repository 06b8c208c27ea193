# SPDX-License-Identifier: Apache-2.0
"""Keys that are replaced while seeds are in use, on both databases."""

from pathlib import Path

import pytest

from sidecar.model.errors import SettingsError, SourceUnavailableError
from sidecar.services.challenges import TotpAnswer
from sidecar.services.key_rotation import KeyRotation
from sidecar.services.mfa_journal import Change, MfaJournal
from sidecar.services.seeds import KeyCommand, KeyFile, SeedSealer
from sidecar.services.store import devices as rows
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR, BOB, Kit, Phone, session_of


def key_ids(kit: Kit) -> set[str]:
    with kit.store.read() as connection:
        return set(rows.list_key_ids(connection))


def prove(kit: Kit, phone: Phone, user_arn: str) -> None:
    session = session_of(user_arn)
    opened = kit.services.challenges.begin(session, user_arn, session.session)
    code = phone.code(kit.clock.seconds)
    kit.services.challenges.answer(session, opened.challenge.challenge_id, TotpAnswer(code))


def test_keys_when_rotated_then_every_seed_is_sealed_anew_and_works(kit: Kit) -> None:
    phones = {user_arn: kit.enrol_phone(user_arn, user_arn[-3:]) for user_arn in (ADA, BOB)}
    pending = kit.begin_phone(name="pending")
    before = key_ids(kit)

    rotation = kit.services.rotation.rotate(ADMINISTRATOR)

    assert rotation.sealed_anew == 3
    assert key_ids(kit) == {rotation.key_id} != before
    assert before < set(kit.keys.read().keys)
    for user_arn, phone in phones.items():
        prove(kit, phone, user_arn)
    assert kit.confirm(pending).enabled_at_ms
    assert kit.metrics.changes.count(Change.KEYS_ROTATED) == 1

    again = kit.services.rotation.rotate(ADMINISTRATOR, drop_old=True)
    assert set(again.dropped) == {rotation.key_id, *before}
    assert list(kit.keys.read().keys) == [again.key_id]


def test_rotation_when_it_was_interrupted_then_running_it_again_finishes_it(kit: Kit) -> None:
    phone = kit.enrol_phone()
    kit.keys.add_key()
    kit.keys.add_key()

    kit.services.rotation.rotate(ADMINISTRATOR, drop_old=True)

    assert len(kit.keys.read().keys) == 1
    prove(kit, phone, ADA)


def test_rotation_when_a_key_is_missing_then_no_key_is_dropped(kit: Kit, tmp_path: Path) -> None:
    kit.enrol_phone()
    other = KeyFile(tmp_path / "other.key")
    other.create()
    rotation = rotation_with(kit, other)

    with pytest.raises(SourceUnavailableError, match="is not there"):
        rotation.rotate(ADMINISTRATOR, drop_old=True)
    assert len(other.read().keys) == 2


def test_rotation_when_keys_come_from_a_command_then_the_first_of_them_seals(kit: Kit) -> None:
    kit.enrol_phone()
    name = kit.keys.add_key()
    rotation = rotation_with(kit, KeyCommand(f"cat {kit.keys.path}"))

    assert rotation.rotate(ADMINISTRATOR).key_id == name
    assert key_ids(kit) == {name}
    with pytest.raises(SettingsError, match="keys that a command prints"):
        rotation.rotate(ADMINISTRATOR, drop_old=True)


def test_key_command_when_there_are_many_seeds_then_it_is_not_run_for_each(kit: Kit, tmp_path: Path) -> None:
    for number in range(5):
        kit.begin_phone(name=f"phone{number}")
    kit.keys.add_key()
    runs = tmp_path / "runs"
    script = tmp_path / "keys.sh"
    script.write_text(f"echo run >> {runs}\ncat {kit.keys.path}\n")
    rotation = rotation_with(kit, KeyCommand(f"sh {script}"))
    before = len(runs.read_text().split())

    assert rotation.rotate(ADMINISTRATOR).sealed_anew == 5

    # Once to learn which key is the current one, and once to seal.
    assert len(runs.read_text().split()) - before == 2


def rotation_with(kit: Kit, keys: KeyFile | KeyCommand) -> KeyRotation:
    journal = MfaJournal(audit=kit.audit, metrics=kit.metrics)
    return KeyRotation(store=kit.store, keys=keys, sealer=SeedSealer(keys), journal=journal)
