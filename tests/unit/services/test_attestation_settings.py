# SPDX-License-Identifier: Apache-2.0
"""What an operator asks of security keys, from settings to keys that are refused."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.mfa.policy import AttestationMode
from sidecar.model.errors import MfaError, SettingsError
from sidecar.services.attestation import AttestationSettings, read_attestation_policy
from sidecar.services.store import high_marks
from sidecar.services.store.engine import Store
from tests.authenticators import Ctap2Key, Issuer
from tests.authenticators.ctap2 import DEFAULT_AAGUID
from tests.unit.services.mfa_kit import Clock, Kit

LISTED = "50f7c0de-50f7-c0de-50f7-c0de50f7c0de"


def read(store: Store, mode: str, **more: Any) -> Any:
    return read_attestation_policy(AttestationSettings(mode=mode, **more), store=store, now=Clock())


@pytest.mark.parametrize("mode", ["ignore", "record"])
def test_policy_when_nothing_is_required_then_any_key_will_do(kit: Kit, tmp_path: Path, mode: str) -> None:
    policy = read(kit.store, mode)

    assert policy.mode is AttestationMode(mode)
    assert kit.with_party(tmp_path, attestation_policy=policy).enrol_key(Ctap2Key(attestation="none")).serial_number


def test_policy_when_models_are_listed_then_others_are_refused(kit: Kit, tmp_path: Path) -> None:
    policy = read(kit.store, "require_listed", aaguids=[LISTED])
    strict = kit.with_party(tmp_path, attestation_policy=policy)

    assert strict.enrol_key(Ctap2Key(aaguid=DEFAULT_AAGUID)).serial_number
    for key in (Ctap2Key(aaguid=bytes(range(16))), Ctap2Key(attestation="none")):
        with pytest.raises(MfaError):
            strict.enrol_key(key)
    assert set(strict.audit.reasons()) == {"accepted", "aaguid_not_listed", "attestation_not_accepted"}


def test_policy_when_a_root_is_trusted_then_keys_of_others_are_refused(kit: Kit, tmp_path: Path) -> None:
    issuer = Issuer()
    (tmp_path / "root.der").write_bytes(issuer.der)
    policy = read(kit.store, "require_trusted", trust_anchors=[tmp_path / "root.der"])
    strict = kit.with_party(tmp_path, attestation_policy=policy)

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
