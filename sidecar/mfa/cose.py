# SPDX-License-Identifier: Apache-2.0
"""
Public keys as authenticators write them (COSE_Key, RFC 9052 and 9053), and signatures under them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from sidecar.mfa import cbor
from sidecar.mfa.edwards import ED448 as ED448_CURVE
from sidecar.mfa.edwards import ED25519 as ED25519_CURVE
from sidecar.mfa.edwards import is_usable_point
from sidecar.model.errors import (
    AlgorithmNotAllowedError,
    PublicKeyInvalidError,
    PublicKeyMalformedError,
    SignatureInvalidError,
)

# COSE algorithm identifiers, as the IANA registry numbers them.
ES256, ES384, ES512 = -7, -35, -36
ESP256, ESP384, ESP512 = -9, -51, -52
EDDSA, ED25519, ED448 = -8, -19, -53
RS256, RS384, RS512 = -257, -258, -259
PS256, PS384, PS512 = -37, -38, -39
#: RSA with SHA-1: signs the statements of old TPMs, never anything that a credential signs.
RS1 = -65535

#: What is offered and accepted unless the caller says otherwise, the best first: the set of the W3C test vectors.
DEFAULT_ALGORITHMS = (ES256, EDDSA, ED448, ES384, ES512, RS256)

KeyMaterial: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey

_KTY, _ALG = 1, 3
_OKP, _EC2, _RSA = 1, 2, 3
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 4096
#: Greatest exponent of an RSA key; it keeps one verification short, whoever chose the key.
MAX_RSA_EXPONENT = 2**32 - 1


@dataclass(frozen=True, slots=True)
class _Ecdsa:
    crv: int
    curve: ec.EllipticCurve
    signature: ec.ECDSA
    width: int


@dataclass(frozen=True, slots=True)
class _Edwards:
    crv: int
    kind: type[ed25519.Ed25519PublicKey] | type[ed448.Ed448PublicKey]
    width: int


@dataclass(frozen=True, slots=True)
class _Rsa:
    padding: padding.AsymmetricPadding
    hash: hashes.HashAlgorithm


def _pss(digest: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.DIGEST_LENGTH)


_P256 = _Ecdsa(1, ec.SECP256R1(), ec.ECDSA(hashes.SHA256()), 32)
_P384 = _Ecdsa(2, ec.SECP384R1(), ec.ECDSA(hashes.SHA384()), 48)
_P521 = _Ecdsa(3, ec.SECP521R1(), ec.ECDSA(hashes.SHA512()), 66)
_ED25519 = _Edwards(6, ed25519.Ed25519PublicKey, 32)
_ED448 = _Edwards(7, ed448.Ed448PublicKey, 57)

# SPEC: WebAuthn Level 3, section 5.8.5: each algorithm goes with one curve, and -8 with Ed25519 alone.
_ALGORITHMS: dict[int, _Ecdsa | _Edwards | _Rsa] = {
    ES256: _P256,
    ESP256: _P256,
    ES384: _P384,
    ESP384: _P384,
    ES512: _P521,
    ESP512: _P521,
    EDDSA: _ED25519,
    ED25519: _ED25519,
    ED448: _ED448,
    RS256: _Rsa(padding.PKCS1v15(), hashes.SHA256()),
    RS384: _Rsa(padding.PKCS1v15(), hashes.SHA384()),
    RS512: _Rsa(padding.PKCS1v15(), hashes.SHA512()),
    PS256: _Rsa(_pss(hashes.SHA256()), hashes.SHA256()),
    PS384: _Rsa(_pss(hashes.SHA384()), hashes.SHA384()),
    PS512: _Rsa(_pss(hashes.SHA512()), hashes.SHA512()),
    RS1: _Rsa(padding.PKCS1v15(), hashes.SHA1()),  # noqa: S303 - old TPMs; see RS1
}

#: Every algorithm that a credential may have.
CREDENTIAL_ALGORITHMS = frozenset(_ALGORITHMS) - {RS1}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """
    A credential's public key, ready to verify.

    Thread-safety: immutable.
    """

    algorithm: int
    key: KeyMaterial

    def verify(self, signature: bytes, data: bytes) -> None:
        """
        Return if *signature* is one of *data* under this key.

        Raises:
            SignatureInvalidError: It is not.
        """
        if not is_signed_by(self.key, self.algorithm, signature, data):
            raise SignatureInvalidError("the signature is not one of the credential over this data")


def is_signed_by(key: object, algorithm: int, signature: bytes, data: bytes, *, allow_sha1: bool = False) -> bool:
    """
    Say whether *signature* is one of *data* under *key* by the COSE *algorithm*.

    A key of another type or on another curve than the algorithm's has signed nothing.

    Args:
        allow_sha1: Let ``RS1`` stand, for the statement of an old TPM.
    """
    how = None if algorithm == RS1 and not allow_sha1 else _ALGORITHMS.get(algorithm)
    try:
        if isinstance(how, _Ecdsa):
            if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != how.curve.name:
                return False
            key.verify(signature, data, how.signature)
        elif isinstance(how, _Edwards):
            if not isinstance(key, how.kind):
                return False
            key.verify(signature, data)
        elif isinstance(how, _Rsa):
            if not isinstance(key, rsa.RSAPublicKey) or not _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
                return False
            key.verify(signature, data, how.padding, how.hash)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def hash_of(algorithm: int) -> hashes.HashAlgorithm | None:
    """Return the hash that the COSE *algorithm* signs, or None where it signs without one."""
    how = _ALGORITHMS.get(algorithm)
    if isinstance(how, _Ecdsa):
        return how.signature.algorithm  # type: ignore[return-value]
    return how.hash if isinstance(how, _Rsa) else None


def load_public_key(encoded: bytes) -> PublicKey:
    """
    Return the key that *encoded* holds, a COSE_Key.

    Raises:
        CborMalformedError: It is not CBOR.
        DuplicateKeyError: A parameter stands twice.
        PublicKeyMalformedError: It is not a key of the shape that its algorithm has.
        PublicKeyInvalidError: It is not on its curve, or too weak.
        AlgorithmNotAllowedError: Nothing here verifies its algorithm.
    """
    # Nearly every security key writes this, and reading it so takes a third of the time.
    if len(encoded) == 77 and encoded.startswith(_ES256_BEFORE_X) and encoded[42:45] == _ES256_BEFORE_Y:
        return PublicKey(ES256, _load_point(_P256, encoded[10:42], encoded[45:]))
    return read_public_key(cbor.decode(encoded))


def encode_es256(x: bytes, y: bytes) -> bytes:
    """Return the COSE_Key for ES256 of a point of P-256, given as two coordinates of 32 bytes."""
    return _ES256_BEFORE_X + x + _ES256_BEFORE_Y + y


def read_public_key(parameters: cbor.Value) -> PublicKey:
    """
    Return the key that has these COSE parameters; ``load_public_key`` says what is refused.

    A point of an Edwards curve is not looked at more closely here: ``refuse_weak_point`` does so at registration.
    """
    if not isinstance(parameters, dict):
        raise PublicKeyMalformedError("the key is not a map")
    algorithm = parameters.get(_ALG)
    if type(algorithm) is not int:
        raise PublicKeyMalformedError("the key names no algorithm")
    how = _ALGORITHMS.get(algorithm)
    if how is None or algorithm == RS1:
        raise AlgorithmNotAllowedError(f"algorithm {algorithm} is not known here")
    if isinstance(how, _Ecdsa):
        return PublicKey(algorithm, _read_ecdsa(parameters, how))
    if isinstance(how, _Edwards):
        return PublicKey(algorithm, _read_edwards(parameters, how))
    return PublicKey(algorithm, _read_rsa(parameters))


def refuse_weak_point(key: PublicKey) -> None:
    """
    Return if *key* is a point of large order on its curve, or not of an Edwards curve.

    Raises:
        PublicKeyInvalidError: Signatures under it prove nothing.
    """
    if isinstance(key.key, ed25519.Ed25519PublicKey):
        usable = is_usable_point(ED25519_CURVE, key.key.public_bytes_raw())
    elif isinstance(key.key, ed448.Ed448PublicKey):
        usable = is_usable_point(ED448_CURVE, key.key.public_bytes_raw())
    else:
        return
    if not usable:
        raise PublicKeyInvalidError("the point is not on the curve, or of small order")


# SPEC: WebAuthn Level 3, section 6.5.1: `alg` and the parameters that its key type requires, and no others.
# An ES256 key in canonical CBOR: what stands before x, and before y.
_ES256_BEFORE_X = bytes.fromhex("a5010203262001215820")
_ES256_BEFORE_Y = bytes.fromhex("225820")
_EC2_PARAMETERS = frozenset({_KTY, _ALG, -1, -2, -3})
_OKP_PARAMETERS = frozenset({_KTY, _ALG, -1, -2})
_RSA_PARAMETERS = frozenset({_KTY, _ALG, -1, -2})


def _shape(parameters: dict[int | str, cbor.Value], kty: int, names: frozenset[int]) -> None:
    if parameters.keys() != names or type(parameters[_KTY]) is not int or parameters[_KTY] != kty:
        raise PublicKeyMalformedError("the key has not the parameters of its algorithm")


def _read_ecdsa(parameters: dict[int | str, cbor.Value], how: _Ecdsa) -> ec.EllipticCurvePublicKey:
    _shape(parameters, _EC2, _EC2_PARAMETERS)
    crv, x, y = parameters[-1], parameters[-2], parameters[-3]
    # SPEC: WebAuthn Level 3, section 5.8.5: compressed points, whose y is a boolean, must not be used.
    if type(crv) is not int or crv != how.crv or not isinstance(x, bytes) or not isinstance(y, bytes):
        raise PublicKeyMalformedError("the point has not the shape of its curve")
    if len(x) != how.width or len(y) != how.width:
        raise PublicKeyMalformedError("the point has not the shape of its curve")
    return _load_point(how, x, y)


def _load_point(how: _Ecdsa, x: bytes, y: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(how.curve, b"\x04" + x + y)
    except ValueError:
        raise PublicKeyInvalidError("the point is not on the curve") from None


def _read_edwards(
    parameters: dict[int | str, cbor.Value], how: _Edwards
) -> ed25519.Ed25519PublicKey | ed448.Ed448PublicKey:
    _shape(parameters, _OKP, _OKP_PARAMETERS)
    crv, x = parameters[-1], parameters[-2]
    if type(crv) is not int or crv != how.crv or not isinstance(x, bytes) or len(x) != how.width:
        raise PublicKeyMalformedError("the point has not the shape of its curve")
    return how.kind.from_public_bytes(x)


def _read_rsa(parameters: dict[int | str, cbor.Value]) -> rsa.RSAPublicKey:
    _shape(parameters, _RSA, _RSA_PARAMETERS)
    n, e = parameters[-1], parameters[-2]
    if not isinstance(n, bytes) or not isinstance(e, bytes) or not n or not e or n[0] == 0 or e[0] == 0:
        raise PublicKeyMalformedError("modulus or exponent is not a number in its shortest form")
    modulus, exponent = int.from_bytes(n, "big"), int.from_bytes(e, "big")
    # The limits keep one verification short, whoever chose the key.
    if not _MIN_RSA_BITS <= modulus.bit_length() <= _MAX_RSA_BITS or modulus % 2 == 0:
        raise PublicKeyInvalidError(f"the modulus is even, or has not {_MIN_RSA_BITS} to {_MAX_RSA_BITS} bits")
    if not 3 <= exponent <= MAX_RSA_EXPONENT or exponent % 2 == 0:
        raise PublicKeyInvalidError("the exponent is even, too small or too large")
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError:
        raise PublicKeyInvalidError("modulus and exponent are no key") from None
