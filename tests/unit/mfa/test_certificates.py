# SPDX-License-Identifier: Apache-2.0
"""Attestation certificates: what is read, what a leaf has to say, who may have issued it."""

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.x509.oid import NameOID

from sidecar.mfa.certificates import MAX_CERTIFICATE_BYTES, read_certificate, verify_chain, verify_leaf
from sidecar.model.errors import AttestationError, MfaError
from tests.authenticators.issuer import AAGUID_EXTENSION, BEGIN, END, Issuer, authenticator_name
from tests.unit.mfa import statements as made
from tests.unit.mfa.forge import AAGUID, NOW, rsa_key

USAGE = dict.fromkeys(
    (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    ),
    False,
)


def without(oid: x509.ObjectIdentifier) -> x509.Name:
    return x509.Name([attribute for attribute in authenticator_name() if attribute.oid != oid])


@pytest.mark.parametrize(
    "changes",
    [
        *({"subject": without(attribute.oid)} for attribute in authenticator_name()),
        {"subject": x509.Name([*authenticator_name(), x509.NameAttribute(NameOID.COMMON_NAME, "twice")])},
        {"aaguid": None, "extensions": [(x509.UnrecognizedExtension(AAGUID_EXTENSION, b"\x04\x10" + AAGUID), True)]},
        {"aaguid": None, "extensions": [(x509.UnrecognizedExtension(AAGUID_EXTENSION, AAGUID), False)]},
    ],
    ids=["no country", "no organization", "no unit", "no name", "two names", "critical model", "unreadable model"],
)
def test_leaf_when_it_lacks_what_it_has_to_say_then_it_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(AttestationError) as caught:
        verify_leaf(read_certificate(made.leaf(**changes)), aaguid=AAGUID)
    assert caught.value.reason == "attestation_certificate_invalid"


def test_leaf_when_it_says_all_then_it_is_accepted() -> None:
    verify_leaf(read_certificate(made.LEAF), aaguid=AAGUID)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 1024),
        dsa.generate_private_key(1024),
    ],
    ids=["rsa 1024", "dsa"],
)
def test_certificate_when_its_key_is_weak_or_of_another_type_then_it_is_refused(key: Any) -> None:
    with pytest.raises(MfaError) as caught:
        read_certificate(made.leaf(key=key))
    assert caught.value.reason == "attestation_certificate_invalid"


def test_certificate_when_it_is_longer_than_any_then_it_is_not_looked_at() -> None:
    filler = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"), bytes(MAX_CERTIFICATE_BYTES))

    with pytest.raises(MfaError, match="longer"):
        read_certificate(made.leaf(extensions=[(filler, False)]))


def issued_by(extensions: list[Any]) -> list[bytes]:
    """Give a chain under ``ROOT`` whose issuing authority has *extensions*."""
    key: Any = rsa_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Issuing CA")])
    authority = made.ROOT.issue(key.public_key(), subject=name, constraints=made.AUTHORITY, extensions=extensions)
    builder = (
        x509.CertificateBuilder()
        .subject_name(authenticator_name())
        .issuer_name(name)
        .public_key(made.BATCH.public_key())
        .serial_number(1)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
    )
    return [made.der(builder.sign(key, hashes.SHA256())), made.der(authority)]


def verify(chain: list[bytes], **others: Any) -> None:
    anchors = [read_certificate(made.ROOT.der)]
    verify_chain([read_certificate(one) for one in chain], **{"anchors": anchors, "now": NOW, **others})


def test_chain_when_the_issuer_may_sign_certificates_then_it_holds() -> None:
    verify(issued_by([]))
    verify(issued_by([(x509.KeyUsage(**{**USAGE, "key_cert_sign": True}), True)]))


def test_chain_when_the_issuers_key_is_for_something_else_then_it_does_not_hold() -> None:
    with pytest.raises(AttestationError, match="not for that"):
        verify(issued_by([(x509.KeyUsage(**{**USAGE, "digital_signature": True}), True)]))


def test_chain_when_a_certificate_is_signed_over_sha1_then_it_does_not_hold() -> None:
    leaf, authority = issued_by([])
    with_sha256, with_sha1 = (bytes.fromhex("2a864886f70d0101" + last) for last in ("0b", "05"))
    renamed = leaf.replace(with_sha256, with_sha1)
    signed = x509.load_der_x509_certificate(renamed).tbs_certificate_bytes
    forged = renamed[:-256] + rsa_key().sign(signed, padding.PKCS1v15(), hashes.SHA1())

    with pytest.raises(AttestationError, match="broken hash"):
        verify([forged, authority])


def test_chain_when_it_leads_to_one_of_two_roots_of_the_same_name_then_it_holds() -> None:
    twin = read_certificate(Issuer("Attestation Root").der)

    verify([made.LEAF, made.INTERMEDIATE.der], anchors=[twin, read_certificate(made.ROOT.der)])
    with pytest.raises(AttestationError, match="trusted root"):
        verify([made.LEAF, made.INTERMEDIATE.der], anchors=[twin])


def test_chain_when_a_root_comes_along_where_it_may_then_it_holds() -> None:
    chain = [made.LEAF, made.INTERMEDIATE.der, made.ROOT.der]

    verify(chain, may_hold_root=True)
    with pytest.raises(AttestationError, match="include the root"):
        verify(chain)


def test_chain_when_an_intermediate_is_trusted_itself_then_it_holds() -> None:
    verify([made.LEAF, made.INTERMEDIATE.der], anchors=[read_certificate(made.INTERMEDIATE.der)])


def test_issuer_when_it_is_made_then_its_key_is_on_p256() -> None:
    assert isinstance(Issuer().key.curve, ec.SECP256R1)
