# SPDX-License-Identifier: Apache-2.0
"""
Metadata about authenticator models, as the FIDO Alliance signs it (FIDO Metadata Service 3.0, 3.1).

An operator provides the file and its root; fetching it is nobody's work here.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, utils
from cryptography.x509.oid import ExtensionOID, NameOID

from sidecar.mfa import cose
from sidecar.mfa.certificates import Certificate, read_certificate, verify_chain
from sidecar.mfa.credential import Attestation, AttestationType
from sidecar.mfa.encoding import decode_base64url, decode_json
from sidecar.model.errors import (
    AttestationCertificateError,
    AttestationError,
    AttestationNotAcceptedError,
    AuthenticatorRevokedError,
    MetadataCertificateRevokedError,
    MetadataExpiredError,
    MetadataMalformedError,
    MetadataRolledBackError,
    MetadataSignatureInvalidError,
    MetadataUntrustedError,
    MfaError,
)

#: Longest file, in bytes. The whole of FIDO's takes about ten million.
MAX_BLOB_BYTES = 64 * 1024 * 1024
MAX_CRL_BYTES = 16 * 1024 * 1024
#: SPEC: FIDO Metadata Service 3.0, section 3.2: who signs it.
SIGNER_NAME = "mds.fidoalliance.org"

_SECONDS_A_DAY = 86_400
# RFC 7518, section 3.1.
_JWS_ALGORITHMS = {
    "ES256": cose.ES256,
    "ES384": cose.ES384,
    "ES512": cose.ES512,
    "RS256": cose.RS256,
    "RS384": cose.RS384,
    "RS512": cose.RS512,
    "PS256": cose.PS256,
    "PS384": cose.PS384,
    "PS512": cose.PS512,
}
_ECDSA_WIDTHS = {cose.ES256: 32, cose.ES384: 48, cose.ES512: 66}

# SPEC: FIDO Metadata Service 3.0, section 3.1.4: what an authenticator is not relied on for any more.
REFUSED_STATUSES = frozenset(
    {
        "USER_VERIFICATION_BYPASS",
        "ATTESTATION_KEY_COMPROMISE",
        "USER_KEY_REMOTE_COMPROMISE",
        "USER_KEY_PHYSICAL_COMPROMISE",
        "REVOKED",
    }
)

# SPEC: FIDO Registry of Predefined Values 2.2, sections 3.6.1 and 3.6.3.
_AUTHENTICATION_ALGORITHMS = {
    "secp256r1_ecdsa_sha256_raw": {cose.ES256, cose.ESP256},
    "secp256r1_ecdsa_sha256_der": {cose.ES256, cose.ESP256},
    "secp384r1_ecdsa_sha384_raw": {cose.ES384, cose.ESP384},
    "secp521r1_ecdsa_sha512_raw": {cose.ES512, cose.ESP512},
    "rsassa_pkcsv15_sha256_raw": {cose.RS256},
    "rsassa_pkcsv15_sha384_raw": {cose.RS384},
    "rsassa_pkcsv15_sha512_raw": {cose.RS512},
    "rsassa_pss_sha256_raw": {cose.PS256},
    "rsassa_pss_sha256_der": {cose.PS256},
    "rsassa_pss_sha384_raw": {cose.PS384},
    "rsassa_pss_sha512_raw": {cose.PS512},
    "ed25519_eddsa_sha512_raw": {cose.EDDSA, cose.ED25519},
    "ed448_eddsa_shake256_raw": {cose.ED448},
}
_SELF_ATTESTATION = "basic_surrogate"


@dataclass(frozen=True, slots=True)
class StatusReport:
    """
    One change in the standing of a model.

    Attributes:
        certificate: The one attestation certificate, in DER, that it is about; None for all of the model.
    """

    status: str
    certificate: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataEntry:
    """
    What FIDO says of one model.

    Thread-safety: immutable.

    Attributes:
        roots: Where the attestation certificates of the model lead, or which they are.
        attestation_types: Such as ``basic_full``.
        algorithms: COSE algorithms of its credentials; None where it names none that WebAuthn has.
    """

    description: str
    roots: tuple[Certificate, ...]
    attestation_types: frozenset[str]
    algorithms: frozenset[int] | None
    reports: tuple[StatusReport, ...]

    def verify_status(self, chain: Sequence[Certificate]) -> None:
        """
        Return unless a report makes the model unfit, or one certificate of *chain*.

        Raises:
            AuthenticatorRevokedError: One does.
        """
        shown = {certificate.der for certificate in chain}
        for report in self.reports:
            if report.status in REFUSED_STATUSES and (report.certificate is None or report.certificate in shown):
                raise AuthenticatorRevokedError(f"the FIDO metadata gives the model the status {report.status}")

    def verify_kind(self, attestation: Attestation, algorithm: int) -> None:
        """
        Return if the model attests in this way, with such keys.

        Args:
            algorithm: COSE algorithm of the credential.

        Raises:
            AttestationNotAcceptedError: It does not.
        """
        if self.attestation_types:
            surrogate = self.attestation_types == {_SELF_ATTESTATION}
            if attestation.type is AttestationType.CERTIFIED and surrogate:
                raise AttestationNotAcceptedError("the model has self attestation alone")
            if attestation.type is AttestationType.SELF and _SELF_ATTESTATION not in self.attestation_types:
                raise AttestationNotAcceptedError("the model has no self attestation")
        if self.algorithms is not None and algorithm not in self.algorithms:
            raise AttestationNotAcceptedError("the model has no keys of this algorithm")
        # A TPM's attestation key is no credential, and of another algorithm.
        if attestation.format == "packed" and self.algorithms is not None:
            if attestation.algorithm not in self.algorithms:
                raise AttestationNotAcceptedError("the model signs no statements by this algorithm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """
    A metadata file that was verified.

    Thread-safety: immutable.

    Attributes:
        number: Serial number; the next file has a greater one.
        next_update: Day at which a newer file is due.
        grace_days: Days after that on which the file is still used.
    """

    number: int
    next_update: datetime.date
    grace_days: int
    by_aaguid: Mapping[bytes, MetadataEntry]
    by_key_identifier: Mapping[bytes, MetadataEntry]

    def find(self, aaguid: bytes, leaf: Certificate | None) -> MetadataEntry | None:
        """Return what is said of a model: by its AAGUID, or for a U2F key by the key of its certificate."""
        if any(aaguid):
            return self.by_aaguid.get(aaguid)
        if leaf is None:
            return None
        # SPEC: FIDO Metadata Service 3.0, section 3.1.1, attestationCertificateKeyIdentifiers (RFC 5280, 4.2.1.2, 1).
        return self.by_key_identifier.get(_key_identifier(leaf))

    def verify_fresh(self, now: float) -> None:
        """
        Return if no newer file is overdue at *now*, in seconds since the epoch.

        Raises:
            MetadataExpiredError: One is.
        """
        today = datetime.datetime.fromtimestamp(now, datetime.UTC).date()
        if (today - self.next_update).days > self.grace_days:
            raise MetadataExpiredError(
                f"the metadata was due to be replaced on {self.next_update.isoformat()}",
                help="download the current file from the FIDO Metadata Service",
            )


def read_metadata(
    blob: bytes,
    *,
    trust_root: bytes,
    now: float,
    last_number: int | None = None,
    crls: Iterable[bytes] = (),
    grace_days: int = 0,
) -> Metadata:
    """
    Return the metadata in *blob*, after everything about it was verified.

    Args:
        blob: A signed metadata BLOB, a JWT in compact form.
        trust_root: Certificate in DER or PEM that the signer's leads to.
        now: Seconds since the epoch. The caller owns the clock.
        last_number: Serial number of the file in use so far, which the new one may not fall behind.
        crls: Certificate revocation lists in DER or PEM, of the signer's issuers.
        grace_days: Days after ``nextUpdate`` on which the file is still used.

    Raises:
        MetadataError: A subclass that says what is wrong.
    """
    header, payload, signature, signed = _split(blob)
    chain = _read_chain(header)
    root = _read_root(trust_root)
    # A header may repeat the root; it is the operator's that counts.
    if len(chain) > 1 and chain[-1].der == root.der:
        chain = chain[:-1]
    try:
        verify_chain(chain, [root], now=now)
    except AttestationError as error:
        raise MetadataUntrustedError(f"the signer of the metadata is not to be trusted: {error.message}") from None
    _verify_signer(chain[0])
    _verify_not_revoked(chain, (*chain[1:], root), crls)
    _verify_signature(chain[0], header, signature, signed)
    metadata = _read_payload(payload, grace_days)
    metadata.verify_fresh(now)
    if last_number is not None and metadata.number < last_number:
        raise MetadataRolledBackError(f"the metadata has number {metadata.number}, and {last_number} was in use")
    return metadata


def _split(blob: bytes) -> tuple[Mapping[str, object], Mapping[str, object], bytes, bytes]:
    if len(blob) > MAX_BLOB_BYTES:
        raise MetadataMalformedError(f"the metadata is longer than {MAX_BLOB_BYTES} bytes")
    parts = blob.strip().split(b".", 3)
    if len(parts) != 3:
        raise MetadataMalformedError("the metadata is not a JWT in compact form")
    try:
        raw = [decode_base64url(part.decode("ascii"), field="jwt", max_bytes=MAX_BLOB_BYTES) for part in parts]
        header, payload = (decode_json(part.decode("utf-8")) for part in raw[:2])
    except (ValueError, MfaError):
        raise MetadataMalformedError("a part of the metadata is not JSON in base64url") from None
    if type(header) is not dict or type(payload) is not dict:
        raise MetadataMalformedError("a part of the metadata is not a JSON object")
    return header, payload, raw[2], parts[0] + b"." + parts[1]


def _read_chain(header: Mapping[str, object]) -> tuple[Certificate, ...]:
    value = header.get("x5c")
    # `x5u` names a place in the network, which nothing here goes to.
    if type(value) is not list or not 1 <= len(value) <= 8:
        raise MetadataMalformedError("the header of the metadata holds no certificates")
    return tuple(_read_der(_base64(text)) for text in value)


def _read_der(data: bytes | None) -> Certificate:
    try:
        if data is not None:
            return read_certificate(data)
    except AttestationCertificateError:
        pass
    raise MetadataMalformedError("a certificate in the metadata cannot be read")


def read_root(data: bytes) -> Certificate:
    """
    Return the certificate in *data*, in DER or PEM, such as an operator names as a root.

    Raises:
        MetadataMalformedError: There is none.
    """
    return _read_root(data)


def _read_root(data: bytes) -> Certificate:
    if data.lstrip().startswith(b"-----BEGIN"):
        body = data.partition(b"-----BEGIN CERTIFICATE-----")[2].partition(b"-----END CERTIFICATE-----")[0]
        return _read_der(_base64(body.decode("ascii", "replace")))
    return _read_der(data)


def _base64(text: object) -> bytes | None:
    """Return the bytes of standard base64, in which white space may stand, or None."""
    if type(text) is not str:
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (ValueError, binascii.Error):
        return None


def _verify_signer(leaf: Certificate) -> None:
    # SPEC: FIDO Metadata Service 3.0, section 3.2: the signer is FIDO's, not just anybody under the same root.
    if leaf.subject_attribute(NameOID.COMMON_NAME) != SIGNER_NAME:
        raise MetadataUntrustedError(f"the metadata is not signed by {SIGNER_NAME}")
    constraints = leaf.basic_constraints
    if constraints is not None and constraints.ca:
        raise MetadataUntrustedError("the metadata is signed by a certificate authority")


def _verify_not_revoked(chain: Sequence[Certificate], issuers: Sequence[Certificate], crls: Iterable[bytes]) -> None:
    for data in crls:
        if len(data) > MAX_CRL_BYTES:
            raise MetadataMalformedError(f"a revocation list is longer than {MAX_CRL_BYTES} bytes")
        try:
            crl = (x509.load_pem_x509_crl if data.lstrip().startswith(b"-----BEGIN") else x509.load_der_x509_crl)(data)
            for certificate, issuer in zip(chain, issuers, strict=True):
                if crl.issuer != issuer.subject or not _is_signed_list(crl, issuer):
                    continue
                if crl.get_revoked_certificate_by_serial_number(certificate.parsed.serial_number) is not None:
                    raise MetadataCertificateRevokedError("a certificate that signed the metadata was revoked")
        except (ValueError, TypeError, UnsupportedAlgorithm, UserWarning):
            raise MetadataMalformedError("a revocation list cannot be read") from None


def _is_signed_list(crl: x509.CertificateRevocationList, issuer: Certificate) -> bool:
    usage = issuer.extensions.get(ExtensionOID.KEY_USAGE)
    if usage is not None and isinstance(usage.value, x509.KeyUsage) and not usage.value.crl_sign:
        return False
    key = issuer.key
    if not isinstance(
        key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey, ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)
    ):
        return False
    return crl.is_signature_valid(key)


def _verify_signature(leaf: Certificate, header: Mapping[str, object], signature: bytes, signed: bytes) -> None:
    name = header.get("alg")
    algorithm = _JWS_ALGORITHMS.get(name) if type(name) is str else None
    if algorithm is None:
        raise MetadataSignatureInvalidError("the metadata is signed by an algorithm that is not accepted")
    if (width := _ECDSA_WIDTHS.get(algorithm)) is not None:
        # RFC 7518, section 3.4: both numbers, side by side.
        if len(signature) != 2 * width:
            raise MetadataSignatureInvalidError("the signature of the metadata has not the length of its algorithm")
        r, s = int.from_bytes(signature[:width], "big"), int.from_bytes(signature[width:], "big")
        signature = utils.encode_dss_signature(r, s)
    if not cose.is_signed_by(leaf.key, algorithm, signature, signed):
        raise MetadataSignatureInvalidError("the signature of the metadata does not hold")


def _read_payload(payload: Mapping[str, object], grace_days: int) -> Metadata:
    number, due, entries = payload.get("no"), payload.get("nextUpdate"), payload.get("entries")
    if type(number) is not int or number < 0:
        raise MetadataMalformedError("`no` is missing or not a number")
    if type(entries) is not list:
        raise MetadataMalformedError("`entries` is missing or not a list")
    try:
        next_update = datetime.date.fromisoformat(due if type(due) is str else "")
    except ValueError:
        raise MetadataMalformedError("`nextUpdate` is missing or not a date") from None
    by_aaguid: dict[bytes, MetadataEntry] = {}
    by_key_identifier: dict[bytes, MetadataEntry] = {}
    for place, found in enumerate(entries):
        if type(found) is not dict:
            raise MetadataMalformedError(f"`entries[{place}]` is not an object")
        if (names := _read_names(found, place)) != ((), ()):
            entry = _read_entry(found, place)
            by_aaguid.update(dict.fromkeys(names[0], entry))
            by_key_identifier.update(dict.fromkeys(names[1], entry))
    return Metadata(
        number=number,
        next_update=next_update,
        grace_days=grace_days,
        by_aaguid=MappingProxyType(by_aaguid),
        by_key_identifier=MappingProxyType(by_key_identifier),
    )


def _read_names(found: Mapping[str, object], place: int) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the AAGUID and the key identifiers of an entry; a UAF authenticator has neither."""
    aaguid, identifiers = found.get("aaguid"), found.get("attestationCertificateKeyIdentifiers")
    try:
        by_aaguid = () if aaguid is None else (uuid.UUID(_text(aaguid)).bytes,)
        by_key = tuple(bytes.fromhex(_text(one)) for one in _list(identifiers))
    except ValueError:
        raise MetadataMalformedError(f"`entries[{place}]` does not name its model") from None
    return by_aaguid, by_key


def _read_entry(found: Mapping[str, object], place: int) -> MetadataEntry:
    statement = found.get("metadataStatement")
    try:
        inner = statement if type(statement) is dict else {}
        return MetadataEntry(
            description=_text(inner.get("description", ""))[:200],
            roots=tuple(_read_der(_base64(one)) for one in _list(inner.get("attestationRootCertificates"))),
            attestation_types=frozenset(_text(one) for one in _list(inner.get("attestationTypes"))),
            algorithms=_read_algorithms([_text(one) for one in _list(inner.get("authenticationAlgorithms"))]),
            reports=tuple(_read_report(one) for one in _list(found.get("statusReports"))),
        )
    except ValueError:
        raise MetadataMalformedError(f"`entries[{place}]` has a member of the wrong type") from None


def _read_algorithms(names: Sequence[str]) -> frozenset[int] | None:
    known = [_AUTHENTICATION_ALGORITHMS[name] for name in names if name in _AUTHENTICATION_ALGORITHMS]
    return frozenset().union(*known) if known else None


def _read_report(found: object) -> StatusReport:
    if type(found) is not dict:
        raise ValueError("a status report is no object")
    certificate = found.get("certificate")
    der = None if certificate is None else _base64(certificate)
    if certificate is not None and der is None:
        raise ValueError("a certificate is not base64")
    return StatusReport(_text(found.get("status")), der)


def _text(value: object) -> str:
    if type(value) is not str:
        raise ValueError("not a string")
    return value


def _list(value: object) -> list[object]:
    if value is None:
        return []
    if type(value) is not list:
        raise ValueError("not a list")
    return value


def _key_identifier(leaf: Certificate) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(leaf.parsed.public_key()).digest
