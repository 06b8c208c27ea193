# SPDX-License-Identifier: Apache-2.0
"""FIDO metadata: signature, chain, revocation, freshness, number, and what is read of it."""

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from sidecar.mfa.certificates import read_certificate
from sidecar.mfa.mds import MAX_BLOB_BYTES, Metadata, read_metadata, read_root
from sidecar.model.errors import MetadataError, MfaError
from tests.authenticators.issuer import Issuer
from tests.unit.mfa import statements as made
from tests.unit.mfa.forge import AAGUID, NOW
from tests.unit.mfa.registration_cases import OLD, YOUNG

DAY = 86_400
SIGNER = made.mds_signer()
GOOD = made.blob(made.entry())
FORGED_ISSUER = Issuer("Metadata Issuing CA", parent=Issuer("Metadata Root"))


def read(blob: bytes, **others: Any) -> Metadata:
    return read_metadata(blob, **{"trust_root": made.MDS_ROOT.der, "now": NOW, **others})


def reason(blob: bytes, **others: Any) -> str:
    with pytest.raises(MetadataError) as caught:
        read(blob, **others)
    return caught.value.reason


def test_metadata_when_it_is_good_then_it_is_read() -> None:
    found = read(GOOD)

    assert found.number == 7
    entry = found.find(AAGUID, None)
    assert entry is not None
    assert entry.description == "A key"
    assert entry.algorithms == frozenset({-7, -9})
    assert entry.attestation_types == {"basic_full"}
    assert [root.der for root in entry.roots] == [made.ROOT.der]
    assert found.find(bytes(16), None) is None


def test_metadata_when_the_root_is_in_pem_or_in_the_header_then_it_is_read_too() -> None:
    pem = made.MDS_ROOT.certificate.public_bytes(Encoding.PEM)
    whole = made.blob(chain=[made.der(SIGNER), made.MDS_ISSUER.der, made.MDS_ROOT.der])

    assert read(GOOD, trust_root=pem).number == 7
    assert read(whole).number == 7
    assert read_root(b"\n" + pem).der == made.MDS_ROOT.der


def test_metadata_when_an_entry_is_of_a_uaf_authenticator_then_it_is_passed_over() -> None:
    assert read(made.blob({"aaid": "4e4e#400a", "statusReports": []}, made.entry())).find(AAGUID, None) is not None


def test_metadata_when_the_signer_is_ed25519_or_another_algorithm_is_named_then_it_is_refused() -> None:
    for algorithm in ("none", "HS256", "ES384", "RS256", None, 7):
        assert reason(made.blob(header={"alg": algorithm})) == "metadata_signature_invalid"


@pytest.mark.parametrize(
    ("chain", "want"),
    [
        ([made.der(SIGNER), FORGED_ISSUER.der], "metadata_untrusted"),
        ([made.der(made.mds_signer(issuer=FORGED_ISSUER)), FORGED_ISSUER.der], "metadata_untrusted"),
        ([made.der(SIGNER)], "metadata_untrusted"),
        ([made.der(made.mds_signer(**OLD)), made.MDS_ISSUER.der], "metadata_untrusted"),
        ([made.der(made.mds_signer(**YOUNG)), made.MDS_ISSUER.der], "metadata_untrusted"),
        ([made.der(made.mds_signer(name="mds.evil.example")), made.MDS_ISSUER.der], "metadata_untrusted"),
        ([made.der(made.mds_signer(constraints=made.AUTHORITY)), made.MDS_ISSUER.der], "metadata_untrusted"),
        ([made.LEAF, made.INTERMEDIATE.der], "metadata_untrusted"),
        ([b"x"], "metadata_malformed"),
        ([], "metadata_malformed"),
        ([made.der(SIGNER)] * 9, "metadata_malformed"),
    ],
    ids=["wrong issuer", "forged", "short", "old", "young", "name", "authority", "other", "none", "empty", "many"],
)
def test_metadata_when_the_chain_does_not_hold_then_it_is_refused(chain: list[bytes], want: str) -> None:
    assert reason(made.blob(chain=chain)) == want


def test_metadata_when_the_signature_does_not_hold_then_it_is_refused() -> None:
    assert reason(made.blob(tamper=True)) == "metadata_signature_invalid"
    assert reason(GOOD[:-22]) == "metadata_signature_invalid"
    head, payload, signature = GOOD.split(b".")
    other = made.blob(made.entry(statuses=[{"status": "REVOKED"}])).split(b".")[1]
    assert reason(b".".join((head, other, signature))) == "metadata_signature_invalid"
    assert payload != other


def test_metadata_when_a_certificate_is_revoked_then_it_is_refused() -> None:
    leaf_list = made.crl(made.MDS_ISSUER, SIGNER.serial_number)
    issuer_list = made.crl(made.MDS_ROOT, made.MDS_ISSUER.certificate.serial_number)
    chain = [made.der(SIGNER), made.MDS_ISSUER.der]

    for one in (leaf_list, issuer_list):
        assert reason(made.blob(chain=chain), crls=[one]) == "metadata_certificate_revoked"
        pem = x509.load_der_x509_crl(one).public_bytes(Encoding.PEM)
        assert reason(made.blob(chain=chain), crls=[pem]) == "metadata_certificate_revoked"


def test_metadata_when_the_list_is_of_others_or_forged_then_it_revokes_nothing() -> None:
    forged = made.crl(FORGED_ISSUER, SIGNER.serial_number)
    others = made.crl(made.MDS_ISSUER, 4711)

    assert read(made.blob(chain=[made.der(SIGNER), made.MDS_ISSUER.der]), crls=[forged, others]).number == 7


def test_metadata_when_a_revocation_list_cannot_be_read_then_it_is_refused() -> None:
    assert reason(GOOD, crls=[b"x"]) == "metadata_malformed"


def test_metadata_when_a_newer_file_is_due_then_it_is_refused_after_the_days_of_grace() -> None:
    due = made.blob(next_update="2026-01-01")

    assert read(due).number == 7
    assert reason(due, now=NOW + DAY) == "metadata_expired"
    assert read(due, now=NOW + DAY, grace_days=1).grace_days == 1
    assert reason(due, now=NOW + 2 * DAY, grace_days=1) == "metadata_expired"


def test_metadata_when_its_number_falls_then_it_is_refused() -> None:
    assert read(GOOD, last_number=7).number == 7
    assert reason(GOOD, last_number=8) == "metadata_rolled_back"


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"a.b",
        b"a.b.c",
        b"....",
        b"\xff.\xff.\xff",
        made.blob(number="7"),
        made.blob(number=-1),
        made.blob(number=True),
        made.blob(next_update="tomorrow"),
        made.blob(next_update=None),
        made.blob(payload={"entries": {}}),
        made.blob(payload={"entries": [1]}),
        made.blob({**made.entry(), "statusReports": ["REVOKED"]}),
        made.blob(made.entry(statuses=[{"status": 1}])),
        made.blob(made.entry(statuses=[{"status": "REVOKED", "certificate": "?"}])),
        made.blob({**made.entry(), "aaguid": "x"}),
        made.blob({**made.entry(), "statusReports": "x"}),
        made.blob(made.entry(roots=[b"x"])),
        made.blob(header={"x5c": "x"}),
        made.blob(header={"x5c": [1]}),
    ],
)
def test_metadata_when_it_is_malformed_then_it_is_refused_as_such(blob: bytes) -> None:
    assert reason(blob) == "metadata_malformed"


def test_metadata_when_it_is_longer_than_any_then_it_is_not_looked_at() -> None:
    assert reason(bytes(MAX_BLOB_BYTES + 1)) == "metadata_malformed"


@given(st.binary(max_size=300), st.integers(0, len(GOOD)))
def test_metadata_when_its_bytes_are_hostile_then_nothing_else_is_raised(noise: bytes, at: int) -> None:
    for blob in (noise, GOOD[:at] + noise + GOOD[at:], noise + b"." + noise + b"." + noise):
        try:
            read(blob)
        except MetadataError:
            continue


@given(st.binary(max_size=200), st.integers(0, len(made.LEAF)))
def test_certificate_when_its_bytes_are_hostile_then_nothing_else_is_raised(noise: bytes, at: int) -> None:
    for data in (noise, made.LEAF[:at] + noise + made.LEAF[at + len(noise) :]):
        try:
            read_certificate(data)
        except MfaError:
            continue
