# SPDX-License-Identifier: Apache-2.0
"""
Whether bytes are a usable point of Ed25519 or Ed448 (RFC 8032, sections 5.1.3 and 5.2.3).

The cryptography library takes any bytes of the right length as a public key. A key off the curve never verifies; one
of small order verifies signatures that nobody made.
"""

from __future__ import annotations

from typing import NamedTuple


class _Curve(NamedTuple):
    """
    The curve ``a x² + y² = 1 + d x² y²`` over the integers modulo ``p``.

    Attributes:
        doublings: How often a point of small order is doubled until it is the neutral one.
    """

    p: int
    a: int
    d: int
    length: int
    doublings: int


_P25519 = 2**255 - 19
_P448 = 2**448 - 2**224 - 1
ED25519 = _Curve(_P25519, -1, -121665 * pow(121666, -1, _P25519) % _P25519, 32, 3)
ED448 = _Curve(_P448, 1, -39081, 57, 2)


def is_usable_point(curve: _Curve, encoded: bytes) -> bool:
    """
    Say whether *encoded* is a point of *curve*, written as it has to be, and of large order.

    >>> is_usable_point(ED25519, bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
    True
    >>> is_usable_point(ED25519, bytes(32))
    False
    """
    if len(encoded) != curve.length:
        return False
    number = int.from_bytes(encoded, "little")
    sign_bit = 8 * curve.length - 1
    sign, y = number >> sign_bit, number & ((1 << sign_bit) - 1)
    p, a, d = curve.p, curve.a, curve.d
    if y >= p:
        return False
    x_squared = (1 - y * y) * pow(a - d * y * y, -1, p) % p
    x = _square_root(x_squared, p)
    if x is None or (x == 0 and sign):
        return False
    for _ in range(curve.doublings):
        x, y = _doubled(x, y, curve)
    return (x, y) != (0, 1)


def _square_root(value: int, p: int) -> int | None:
    """Return a square root of *value* modulo *p*, or None; both primes leave 3 or 5 when divided by 8."""
    if p % 4 == 3:
        root = pow(value, (p + 1) // 4, p)
    else:
        root = pow(value, (p + 3) // 8, p)
        if root * root % p != value:
            root = root * pow(2, (p - 1) // 4, p) % p
    return root if root * root % p == value else None


def _doubled(x: int, y: int, curve: _Curve) -> tuple[int, int]:
    p, a, d = curve.p, curve.a, curve.d
    product = d * x * x * y * y
    return (
        2 * x * y * pow(1 + product, -1, p) % p,
        (y * y - a * x * x) * pow(1 - product, -1, p) % p,
    )
