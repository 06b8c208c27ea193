# SPDX-License-Identifier: Apache-2.0
"""What an operator asks of security keys, from settings to keys that are refused."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.mfa.policy import AttestationMode
from sidecar.model.errors import MfaError, SettingsError, SourceUnavailableError
from sidecar.services.attestation import AttestationSettings, AttestationSource, read_attestation_policy
from sidecar.services.log import NullLog
from sidecar.services.mfa_journal import Change, MfaJournal
from sidecar.services.store import high_marks
from sidecar.services.store.engine import Store
from tests.authenticators import Ctap2Key, Issuer
from tests.authenticators.ctap2 import DEFAULT_AAGUID
from tests.unit.mfa import statements as made
from tests.unit.mfa.forge import NOW
from tests.unit.services.mfa_kit import Clock, Kit

LISTED = "50f7c0de-50f7-c0de-50f7-c0de50f7c0de"


def read(store: Store, mode: str, **more: Any) -> Any:
    return read_attestation_policy(AttestationSettings(mode=mode, **more), store=store, now=Clock())


@pytest.mark.parametrize("mode", ["ignore", "record"])
def test_policy_when_nothing_is_required_then_any_key_will_do(kit: Kit, tmp_path: Path, mode: str) -> None:
    policy = read(kit.store, mode)

    assert policy.mode is AttestationMode(mode)
    assert kit.with_party(tmp_path, current_policy=lambda: policy).enrol_key(Ctap2Key(attestation="none")).serial_number


def test_policy_when_models_are_listed_then_others_are_refused(kit: Kit, tmp_path: Path) -> None:
    policy = read(kit.store, "require_listed", aaguids=[LISTED])
    strict = kit.with_party(tmp_path, current_policy=lambda: policy)

    assert strict.enrol_key(Ctap2Key(aaguid=DEFAULT_AAGUID)).serial_number
    for key in (Ctap2Key(aaguid=bytes(range(16))), Ctap2Key(attestation="none")):
        with pytest.raises(MfaError):
            strict.enrol_key(key)
    assert set(strict.audit.reasons()) == {"accepted", "aaguid_not_listed", "attestation_not_accepted"}


def test_policy_when_a_root_is_trusted_then_keys_of_others_are_refused(kit: Kit, tmp_path: Path) -> None:
    issuer = Issuer()
    (tmp_path / "root.der").write_bytes(issuer.der)
    policy = read(kit.store, "require_trusted", trust_anchors=[tmp_path / "root.der"])
    strict = kit.with_party(tmp_path, current_policy=lambda: policy)

    assert strict.enrol_key(Ctap2Key(issuer=issuer)).serial_number
    with pytest.raises(MfaError):
        strict.enrol_key(Ctap2Key(issuer=Issuer()))
    assert strict.audit.last["reason"] == "attestation_untrusted"


@pytest.mark.parametrize(
    ("mode", "more", "words"),
    [
        ("require_listed", {}, "no authenticator model is listed"),
        ("require_trusted", {}, "no root is trusted"),
        ("record", {"aaguids": ["nonsense"]}, "is no AAGUID"),
        ("record", {"metadata": Path("/nonexistent")}, "without a root"),
        ("record", {"metadata": Path("/nonexistent"), "metadata_root": Path("/nonexistent")}, "cannot be read"),
        ("record", {"trust_anchors": [Path("/nonexistent")]}, "cannot be read"),
        ("record", {"trust_anchors": [Path(__file__)]}, "is no certificate"),
        ("record", {"metadata": Path(__file__), "metadata_root": Path(__file__)}, "cannot be used"),
    ],
)
def test_policy_when_it_cannot_be_held_then_that_is_said(
    store: Store, mode: str, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        read(store, mode, **more)


def test_high_mark_when_it_was_raised_then_it_does_not_fall(store: Store) -> None:
    for number, want in ((5, 5), (3, 5), (9, 9)):
        with store.write() as connection:
            high_marks.raise_to(connection, "number", number)
            assert high_marks.find(connection, "number") == want
    with store.read() as connection:
        assert high_marks.find(connection, "other") is None


class ListedLog(NullLog):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.values: list[dict[str, object]] = []

    def _keep(self, event: str, **values: object) -> None:
        self.events.append(event)
        self.values.append(values)

    info = warning = _keep


class Deployment:
    """A deployment that goes by a metadata file, which a test replaces."""

    def __init__(self, kit: Kit, folder: Path, **more: Any) -> None:
        self.blob = folder / "blob.jwt"
        root = folder / "root.der"
        root.write_bytes(made.MDS_ROOT.der)
        self.log = ListedLog()
        kit.clock.nanoseconds = int(NOW * 1e9)
        self.write(made.entry(aaguid=DEFAULT_AAGUID))
        self.source = AttestationSource(
            AttestationSettings(mode="record", metadata=self.blob, metadata_root=root, **more),
            store=kit.store,
            now=kit.clock,
            journal=MfaJournal(audit=kit.audit, metrics=kit.metrics),
            log=self.log,
        )
        self.kit = kit.with_party(folder, current_policy=self.source.current)
        self.audit = kit.audit

    def write(self, *entries: dict[str, Any], **more: Any) -> None:
        self.replace(made.blob(*entries, **more))

    def replace(self, data: bytes) -> None:
        draft = self.blob.with_suffix(".draft")
        draft.write_bytes(data)
        draft.rename(self.blob)

    def enrol(self) -> str:
        """Enrol a key of the model that the metadata knows, and give the reason why not."""
        key = Ctap2Key(aaguid=DEFAULT_AAGUID, attestation="none")
        try:
            self.kit.enrol_key(key)
        except MfaError as error:
            return error.reason
        return ""


SIGNER = made.mds_signer()
REVOKED = made.entry(aaguid=DEFAULT_AAGUID, statuses=[{"status": "REVOKED"}])


def test_metadata_when_the_file_is_replaced_then_the_new_one_is_obeyed(kit: Kit, tmp_path: Path) -> None:
    deployment = Deployment(kit, tmp_path)
    assert deployment.enrol() == ""

    deployment.write(REVOKED, number=8)

    assert deployment.enrol() == "authenticator_revoked"
    assert deployment.log.events == ["fido_metadata_loaded"]
    assert [record["note"] for record in deployment.audit.records if record["event"] == "mfa.metadata_loaded"] == [
        "number 8"
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"nonsense", "not a JWT"),
        (made.blob(REVOKED, tamper=True), "signature"),
        (made.blob(REVOKED, number=6), "has number 6, and 7 was in use"),
        (made.blob(REVOKED, number=8, next_update="2025-12-31"), "was due to be replaced"),
        (None, "cannot be read"),
    ],
    ids=["nonsense", "tampered", "older", "overdue", "gone"],
)
def test_metadata_when_a_new_file_cannot_be_used_then_that_is_told_once_and_the_old_one_stays(
    kit: Kit, tmp_path: Path, data: bytes | None, words: str
) -> None:
    deployment = Deployment(kit, tmp_path)

    if data is None:
        deployment.blob.unlink()
    else:
        deployment.replace(data)

    assert deployment.enrol() == deployment.enrol() == ""
    assert deployment.log.events == ["fido_metadata_refused"]
    assert words in str(deployment.log.values[0]["message"])
    (record,) = [record for record in deployment.audit.records if record["event"] == "mfa.metadata_refused"]
    assert words in str(record["note"])
    assert kit.metrics.changes.count(Change.METADATA_REFUSED) == 1
    deployment.write(REVOKED, number=9)
    assert deployment.enrol() == "authenticator_revoked"


def test_metadata_when_it_is_overdue_then_grace_decides(kit: Kit, tmp_path: Path) -> None:
    deployment = Deployment(kit, tmp_path, metadata_grace_days=3)
    deployment.write(made.entry(aaguid=DEFAULT_AAGUID), number=8, next_update="2025-12-30")
    assert deployment.enrol() == ""
    assert deployment.log.events == ["fido_metadata_loaded", "fido_metadata_overdue"]
    assert deployment.log.values[1]["days_left"] == 1

    for seconds, reason in ((86_400, ""), (86_400, "metadata_expired")):
        deployment.kit.clock.advance(seconds)
        assert deployment.enrol() == reason


def test_metadata_when_its_signer_was_revoked_then_the_list_says_so(kit: Kit, tmp_path: Path) -> None:
    listed = tmp_path / "list.crl"
    listed.write_bytes(made.crl(made.MDS_ISSUER))
    deployment = Deployment(kit, tmp_path, metadata_crls=[listed])
    listed.write_bytes(made.crl(made.MDS_ISSUER, made.mds_signer().serial_number, SIGNER.serial_number))
    deployment.replace(made.blob(REVOKED, number=8, chain=[made.der(SIGNER), made.MDS_ISSUER.der]))

    assert deployment.enrol() == ""
    assert "was revoked" in str(deployment.log.values[0]["message"])


def test_metadata_when_the_store_is_out_of_reach_then_the_next_look_tries_again(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment(kit, tmp_path)
    deployment.write(REVOKED, number=8)

    def fail(*_: object) -> None:
        raise SourceUnavailableError("the store cannot be used at the moment")

    with monkeypatch.context() as patch:
        patch.setattr(high_marks, "find", fail)
        assert deployment.source.current().metadata is not None
    assert deployment.log.events == ["fido_metadata_not_read"]
    assert deployment.enrol() == "authenticator_revoked"
