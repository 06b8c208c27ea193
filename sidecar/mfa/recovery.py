# SPDX-License-Identifier: Apache-2.0
"""
Recovery codes: for the day on which every other factor is lost. Each works once; what is stored gives none away.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

from sidecar.model.errors import RecoveryCodeMalformedError, RecoveryCodeMismatchError

#: Codes in one set.
CODES = 10
#: Random bytes that a code is made of: 80 bits, far beyond guessing over the network.
CODE_BYTES = 10
#: Random bytes that are hashed with the codes of one set.
SALT_BYTES = 16

# Crockford's base32: digits and letters without those that a hand or an eye takes for others.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LETTERS = 16
_GROUP = 4
_CODE = re.compile(rf"[{_ALPHABET}]{{{_LETTERS}}}", re.ASCII)
_MISREAD = str.maketrans("OIL", "011", " -")
#: Longest text that is looked at: a code with more blanks and hyphens than anybody types.
MAX_TEXT_LETTERS = 64

# scrypt (RFC 7914) with 16 MiB a hash, as 80 bits are fewer than NIST SP 800-63B lets stand behind a plain hash.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 1
_SCRYPT_MEMORY = 32 * 1024 * 1024
HASH_BYTES = 32


def format_recovery_code(random: bytes) -> str:
    """
    Return the code that stands for *random*, as it is shown to its owner, once.

    Args:
        random: ``CODE_BYTES`` bytes from a source fit for keys. The caller owns that source.

    Raises:
        ValueError: There are more or fewer bytes.

    >>> format_recovery_code(bytes(range(10)))
    '000G-40R4-0M30-E209'
    """
    if len(random) != CODE_BYTES:
        raise ValueError(f"a recovery code is made of {CODE_BYTES} bytes")
    number = int.from_bytes(random, "big")
    letters = "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * (_LETTERS - 1), -1, -5))
    return "-".join(letters[at : at + _GROUP] for at in range(0, _LETTERS, _GROUP))


def normalise_recovery_code(text: str) -> str:
    """
    Return the one spelling of a code that a person typed: upper case, no blanks and hyphens, misread letters mended.

    Raises:
        RecoveryCodeMalformedError: It is not of the shape of a code.

    >>> normalise_recovery_code(" oo0g-40r4 oM30-e2o9")
    '000G40R40M30E209'
    """
    if len(text) > MAX_TEXT_LETTERS or not text.isascii():
        raise RecoveryCodeMalformedError("a recovery code has 16 letters and digits")
    code = text.upper().translate(_MISREAD)
    if not _CODE.fullmatch(code):
        raise RecoveryCodeMalformedError("a recovery code has 16 letters and digits")
    return code


def hash_recovery_code(code: str, *, salt: bytes) -> bytes:
    """
    Return what is stored of a code. It takes some ten milliseconds, on purpose.

    Args:
        code: As it was shown, or as a person types it.
        salt: ``SALT_BYTES`` random bytes, the same for all codes of one set.

    Raises:
        RecoveryCodeMalformedError: *code* is not of the shape of a code.
    """
    return hashlib.scrypt(
        normalise_recovery_code(code).encode("ascii"),
        salt=salt,
        n=_SCRYPT_N,
        r=_SCRYPT_R,
        p=_SCRYPT_P,
        maxmem=_SCRYPT_MEMORY,
        dklen=HASH_BYTES,
    )


def verify_recovery_code(*, code: str, salt: bytes, hashes: Sequence[bytes]) -> int:
    """
    Return the place in *hashes* of the code that was typed; strike it out by compare-and-swap before saying yes.

    Args:
        code: As a person typed it.
        salt: Of the set.
        hashes: Of the codes that are left.

    Raises:
        RecoveryCodeMalformedError: It is not of the shape of a code.
        RecoveryCodeMismatchError: It is none of those that are left.
    """
    wanted = hash_recovery_code(code, salt=salt)
    # Every hash is compared, so that the time taken does not tell which one it was.
    matched = [place for place, one in enumerate(hashes) if hmac.compare_digest(one, wanted)]
    if not matched:
        raise RecoveryCodeMismatchError("the recovery code is none of those that are left")
    return matched[0]
