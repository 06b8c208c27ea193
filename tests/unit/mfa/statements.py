# SPDX-License-Identifier: Apache-2.0
"""
Attestation statements of every format, and metadata about their maker, each with one thing set wrong where a test asks.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from sidecar.mfa.encoding import encode_base64url
from sidecar.mfa.mds import Metadata, read_metadata
from tests.authenticators.issuer import Issuer
from tests.unit.mfa.forge import AAGUID, NOW, Json, PrivateKey, RegistrationForge, Statement, rsa_key, sign

ROOT = Issuer("Attestation Root")
INTERMEDIATE = Issuer("Attestation Issuing CA", parent=ROOT, path_length=0)
BATCH = ec.generate_private_key(ec.SECP256R1())
MDS_ROOT = Issuer("Metadata Root")
MDS_ISSUER = Issuer("Metadata Issuing CA", parent=MDS_ROOT)

_SHA256 = ec.ECDSA(hashes.SHA256())


def der(certificate: x509.Certificate) -> bytes:
    """Give a certificate in DER."""
    return certificate.public_bytes(Encoding.DER)


def leaf(*, issuer: Issuer = INTERMEDIATE, aaguid: bytes | None = AAGUID, key: Any = None, **others: Any) -> bytes:
    """Give an attestation certificate, in DER."""
    return der(issuer.issue((key or BATCH).public_key(), aaguid=aaguid, **others))


LEAF = leaf()


def packed(
    *, chain: Sequence[Any] | None = None, key: PrivateKey = BATCH, algorithm: int = -7, **members: Any
) -> Statement:
    """Give a full statement of format ``packed``; *members* take the place of its own, or None removes one."""

    def make(forge: RegistrationForge, auth_data: bytes, client_hash: bytes) -> Json:
        statement: Json = {
            "alg": algorithm,
            "sig": sign(algorithm, key, auth_data + client_hash),
            "x5c": [LEAF, INTERMEDIATE.der] if chain is None else list(chain),
            **members,
        }
        return {name: value for name, value in statement.items() if value is not None}

    return make


def fido_u2f(*, key: ec.EllipticCurvePrivateKey = BATCH, chain: Sequence[bytes] | None = None) -> Statement:
    """Give a statement of format ``fido-u2f``."""
    certificates = [leaf(aaguid=None)] if chain is None else list(chain)

    def make(forge: RegistrationForge, auth_data: bytes, client_hash: bytes) -> Json:
        if not isinstance(forge.key, ec.EllipticCurvePrivateKey):
            raise TypeError("U2F has keys of P-256 alone")
        point = forge.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        signed = b"\0" + auth_data[:32] + client_hash + forge.credential_id + point
        return {"x5c": certificates, "sig": key.sign(signed, _SHA256)}

    return make


# TPM.

AIK_NAMES = {"2.23.133.2.1": "id:494E5443", "2.23.133.2.2": "model", "2.23.133.2.3": "id:00010002"}


def aik_certificate(
    key: Any,
    *,
    names: dict[str, str] | None = None,
    subject: x509.Name | None = None,
    usage: str = "2.23.133.8.3",
    **others: Any,
) -> bytes:
    """Give the certificate of a TPM's attestation key, in DER."""
    attributes = [
        x509.RelativeDistinguishedName([x509.NameAttribute(x509.ObjectIdentifier(oid), value)])
        for oid, value in (AIK_NAMES if names is None else names).items()
    ]
    san = x509.SubjectAlternativeName([x509.DirectoryName(x509.Name(attributes))])
    eku = x509.ExtendedKeyUsage([x509.ObjectIdentifier(usage)])
    return leaf(
        key=key,
        subject=x509.Name([]) if subject is None else subject,
        extensions=[(san, True), (eku, False)],
        **others,
    )


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def public_area(key: Any, *, name_algorithm: int = 0x000B, unique: bytes | None = None) -> bytes:
    """Give the TPMT_PUBLIC of a public key."""
    head = struct.pack(">HHI", 0x0001 if isinstance(key, rsa.RSAPublicKey) else 0x0023, name_algorithm, 0x00060472)
    head += _sized(bytes(32))
    if isinstance(key, rsa.RSAPublicKey):
        modulus = key.public_numbers().n.to_bytes(256, "big") if unique is None else unique
        return head + struct.pack(">HHHI", 0x0010, 0x0010, 2048, 0) + _sized(modulus)
    numbers = key.public_numbers()
    x = numbers.x.to_bytes(32, "big") if unique is None else unique
    return head + struct.pack(">HHHH", 0x0010, 0x0010, 3, 0x0010) + _sized(x) + _sized(numbers.y.to_bytes(32, "big"))


def tpm(
    *,
    key: PrivateKey = BATCH,
    algorithm: int = -7,
    chain: Sequence[bytes] | None = None,
    magic: int = 0xFF544347,
    kind: int = 0x8017,
    extra: bytes | None = None,
    unique: bytes | None = None,
    public: bytes | None = None,
    name: bytes | None = None,
    **members: Any,
) -> Statement:
    """Give a statement of format ``tpm``."""
    certificates = [aik_certificate(key), INTERMEDIATE.der] if chain is None else list(chain)
    digest = "sha1" if algorithm == -65535 else "sha256"

    def make(forge: RegistrationForge, auth_data: bytes, client_hash: bytes) -> Json:
        area = public_area(forge.key.public_key(), unique=unique) if public is None else public
        signed = hashlib.new(digest, auth_data + client_hash).digest() if extra is None else extra
        named = b"\x00\x0b" + hashlib.sha256(area).digest() if name is None else name
        info = struct.pack(">IH", magic, kind) + _sized(b"signer") + _sized(signed) + bytes(17 + 8)
        info += _sized(named) + _sized(b"qualified")
        statement: Json = {
            "ver": "2.0",
            "alg": algorithm,
            "x5c": certificates,
            "sig": sign(algorithm, key, info),
            "certInfo": info,
            "pubArea": area,
            **members,
        }
        return {name: value for name, value in statement.items() if value is not None}

    return make


def rs1_tpm() -> Statement:
    """Give the statement of an old TPM, signed over SHA-1."""
    return tpm(key=rsa_key(), algorithm=-65535)


# Android and Apple.


def tlv(tag: bytes | int, *contents: bytes) -> bytes:
    """Give an element of DER."""
    content = b"".join(contents)
    head = bytes([tag]) if isinstance(tag, int) else tag
    if len(content) < 0x80:
        return head + bytes([len(content)]) + content
    return head + b"\x81" + bytes([len(content)]) + content


_PURPOSE, _ALL_APPLICATIONS, _ORIGIN = b"\xa1", b"\xbf\x84\x58", b"\xbf\x85\x3e"
ALL_APPLICATIONS = tlv(_ALL_APPLICATIONS, tlv(0x05))


def authorizations(*, purposes: bytes = b"\x02", origin: bytes = b"\x00", more: bytes = b"") -> bytes:
    """Give an AuthorizationList for a key that signs and was made in the key store, unless told otherwise."""
    signing = tlv(_PURPOSE, tlv(0x31, *(tlv(0x02, bytes([one])) for one in purposes)))
    return tlv(0x30, signing, more, tlv(_ORIGIN, tlv(0x02, origin)))


def android_key(
    *,
    challenge: bytes | None = None,
    tee: bytes | None = None,
    software: bytes = b"\x30\x00",
    key: PrivateKey | None = None,
    reverse: bool = False,
    description: bytes | None = None,
) -> Statement:
    """Give a statement of format ``android-key``."""

    def make(forge: RegistrationForge, auth_data: bytes, client_hash: bytes) -> Json:
        signer = key or forge.key
        value = tlv(
            0x30,
            *(tlv(0x02, b"\x03"), tlv(0x0A, b"\x01"), tlv(0x02, b"\x04"), tlv(0x0A, b"\x01")),
            *(tlv(0x04, client_hash if challenge is None else challenge), tlv(0x04)),
            *(software, authorizations() if tee is None else tee),
        )
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.1.17")
        extension = x509.UnrecognizedExtension(oid, value if description is None else description)
        certificate = leaf(key=signer, aaguid=None, extensions=[(extension, False)])
        chain = [certificate, INTERMEDIATE.der]
        return {
            "alg": forge.algorithm,
            "sig": sign(forge.algorithm, signer, auth_data + client_hash),
            "x5c": chain[::-1] if reverse else chain,
        }

    return make


def apple(*, nonce: bytes | None = None, key: PrivateKey | None = None, extension: bytes | None = None) -> Statement:
    """Give a statement of format ``apple``."""

    def make(forge: RegistrationForge, auth_data: bytes, client_hash: bytes) -> Json:
        digest = hashlib.sha256(auth_data + client_hash).digest() if nonce is None else nonce
        value = tlv(0x30, tlv(0xA1, tlv(0x04, digest))) if extension is None else extension
        oid = x509.ObjectIdentifier("1.2.840.113635.100.8.2")
        found = x509.UnrecognizedExtension(oid, value)
        return {"x5c": [leaf(key=key or forge.key, aaguid=None, extensions=[(found, False)]), INTERMEDIATE.der]}

    return make


# Metadata.

_MDS_KEY = ec.generate_private_key(ec.SECP256R1())


def mds_signer(*, name: str = "mds.fidoalliance.org", issuer: Issuer = MDS_ISSUER, **others: Any) -> x509.Certificate:
    """Give the certificate of the key that signs the metadata."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return issuer.issue(_MDS_KEY.public_key(), subject=subject, **others)


def entry(
    *,
    aaguid: bytes = AAGUID,
    roots: Sequence[bytes] = (ROOT.der,),
    attestation_types: Sequence[str] = ("basic_full",),
    algorithms: Sequence[str] = ("secp256r1_ecdsa_sha256_raw",),
    statuses: Sequence[Json] = ({"status": "FIDO_CERTIFIED"},),
    **others: Any,
) -> Json:
    """Give one entry of the metadata."""
    return {
        "aaguid": aaguid.hex()[:8]
        + "-"
        + "-".join(aaguid.hex()[at : at + 4] for at in (8, 12, 16))
        + "-"
        + aaguid.hex()[20:],
        "metadataStatement": {
            "description": "A key",
            "attestationRootCertificates": [base64.b64encode(root).decode() for root in roots],
            "attestationTypes": list(attestation_types),
            "authenticationAlgorithms": list(algorithms),
            "vendorPrototypeConfigCommands": [2**63],
        },
        "statusReports": list(statuses),
        **others,
    }


def blob(
    *entries: Json,
    number: Any = 7,
    next_update: Any = "2026-02-01",
    chain: Sequence[bytes] | None = None,
    header: Json | None = None,
    payload: Json | None = None,
    tamper: bool = False,
) -> bytes:
    """Give a signed metadata BLOB."""
    certificates = [der(mds_signer()), MDS_ISSUER.der] if chain is None else list(chain)
    head = {"alg": "ES256", "typ": "JWT", "x5c": [base64.b64encode(one).decode() for one in certificates]}
    body = {"no": number, "nextUpdate": next_update, "entries": list(entries), "legalHeader": "", **(payload or {})}
    return signed_blob({**head, **(header or {})}, json.dumps(body).encode(), tamper=tamper)


def signed_blob(header: Json, payload: bytes, *, tamper: bool = False) -> bytes:
    """Give a BLOB that holds *payload*, whatever that is, signed by the key of the metadata."""
    signed = f"{encode_base64url(json.dumps(header).encode())}.{encode_base64url(payload)}".encode()
    r, s = utils.decode_dss_signature(_MDS_KEY.sign(signed + b"x" if tamper else signed, _SHA256))
    return signed + b"." + encode_base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big")).encode()


def metadata(*entries: Json, **others: Any) -> Metadata:
    """Give metadata that was read and verified."""
    return read_metadata(blob(*entries, **others), trust_root=MDS_ROOT.der, now=NOW)


def crl(issuer: Issuer, *serials: int) -> bytes:
    """Give a revocation list of *issuer*, in DER."""
    begin = issuer.certificate.not_valid_before_utc
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.name)
        .last_update(begin)
        .next_update(issuer.certificate.not_valid_after_utc)
    )
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(begin).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


AUTHORITY = x509.BasicConstraints(ca=True, path_length=None)
TOO_DEEP = Issuer("Too Deep", parent=INTERMEDIATE)
NO_AUTHORITY = Issuer("No Authority", parent=ROOT, is_authority=False)
UNKNOWN_CRITICAL = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)


def base64_of(data: bytes) -> str:
    """Give *data* in standard base64."""
    return base64.b64encode(data).decode()


def key_identifier(key: ec.EllipticCurvePrivateKey = BATCH) -> str:
    """Give the key identifier that metadata knows a U2F key by."""
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()
