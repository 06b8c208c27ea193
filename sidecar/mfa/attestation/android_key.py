# SPDX-License-Identifier: Apache-2.0
"""Attestation format ``android-key``: keys of Android's key store (WebAuthn Level 3, section 8.4)."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from sidecar.mfa import der
from sidecar.mfa.attestation.statement import (
    Given,
    read_algorithm,
    read_bytes,
    read_certificates,
    refuse_other_members,
)
from sidecar.mfa.cose import is_signed_by
from sidecar.mfa.credential import Attestation, AttestationType
from sidecar.model.errors import (
    AttestationCertificateError,
    AttestationMismatchError,
    AttestationSignatureInvalidError,
)

FORMAT = "android-key"

_KEY_DESCRIPTION = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.1.17")
# Members of an AuthorizationList, and values of theirs, as Android's key attestation names them.
_PURPOSE, _ALL_APPLICATIONS, _ORIGIN = der.context_tag(1), der.context_tag(600), der.context_tag(702)
_SIGN = b"\x02"
_GENERATED = b"\x00"


def verify(given: Given, *, require_authorizations: bool = False) -> Attestation:
    """
    Return what the statement proves: only a chain to Google's root makes it more than a claim.

    Args:
        require_authorizations: Refuse a key of which is not said where it was made and what for. The standard wants
            that to be said, and the test vector of W3C says neither.

    Raises:
        AttestationError: A subclass that says why it proves nothing.
    """
    refuse_other_members(given, "alg", "sig", "x5c")
    algorithm = read_algorithm(given)
    signature = read_bytes(given, "sig")
    certificates = read_certificates(given)
    # SPEC: WebAuthn Level 3, section 8.4, verification procedure, step 2.
    if not is_signed_by(certificates[0].key, algorithm, signature, given.signed):
        raise AttestationSignatureInvalidError("the statement is not signed with the attestation key")
    # SPEC: WebAuthn Level 3, section 8.4, verification procedure, step 3.
    if certificates[0].key != given.key.key:
        raise AttestationMismatchError("the attestation certificate is for another key")
    # SPEC: WebAuthn Level 3, section 8.4, verification procedure, step 4, and section 8.4.1.
    challenge, authorizations = _read_description(certificates[0].extension_bytes(_KEY_DESCRIPTION))
    if challenge != given.client_data_hash:
        raise AttestationMismatchError("the attestation certificate was made for another ceremony")
    # SPEC: WebAuthn Level 3, section 8.4, verification procedure, step 5: the key must belong to this relying party.
    if any(_members(one, _ALL_APPLICATIONS) for one in authorizations):
        raise AttestationMismatchError("the key may be used by every application")
    # SPEC: WebAuthn Level 3, section 8.4, verification procedure, step 6, over both lists together.
    origins, purposes = _integers(authorizations, _ORIGIN), _integers(authorizations, _PURPOSE)
    if require_authorizations and not (origins and purposes):
        raise AttestationMismatchError("the key store does not say where the key was made and what for")
    if origins - {_GENERATED}:
        raise AttestationMismatchError("the key was not made inside the key store")
    if purposes - {_SIGN}:
        raise AttestationMismatchError("the key is not for signing alone")
    return Attestation(
        format=FORMAT,
        type=AttestationType.CERTIFIED,
        algorithm=algorithm,
        certificates=tuple(certificate.der for certificate in certificates),
    )


def _read_description(extension: bytes | None) -> tuple[bytes, tuple[list[der.Element], list[der.Element]]]:
    """Return the challenge of a KeyDescription and its two lists of authorizations, of the software and of the TEE."""
    content = der.read_one(extension, der.SEQUENCE) if extension is not None else None
    members = der.read_elements(content) if content is not None else None
    if members is None or len(members) < 8:
        raise AttestationCertificateError("the attestation certificate holds no key description")
    challenge, software, tee = members[4], members[6], members[7]
    if challenge.tag != der.OCTET_STRING or software.tag != der.SEQUENCE or tee.tag != der.SEQUENCE:
        raise AttestationCertificateError("the key description cannot be read")
    return challenge.content, (_read_list(software.content), _read_list(tee.content))


def _read_list(content: bytes) -> list[der.Element]:
    found = der.read_elements(content)
    if found is None:
        raise AttestationCertificateError("the key description cannot be read")
    return found


def _members(authorizations: list[der.Element], tag: int) -> list[bytes]:
    return [element.content for element in authorizations if element.tag == tag]


def _integers(lists: Sequence[list[der.Element]], tag: int) -> set[bytes]:
    """Return the integers that stand under *tag*, alone or in a set, as the bytes that DER writes them in."""
    found: set[bytes] = set()
    for authorizations in lists:
        for content in _members(authorizations, tag):
            elements = _read_list(content)
            if len(elements) == 1 and elements[0].tag == der.SET:
                elements = _read_list(elements[0].content)
            if any(element.tag != der.INTEGER for element in elements):
                raise AttestationCertificateError("the key description cannot be read")
            found |= {element.content for element in elements}
    return found
