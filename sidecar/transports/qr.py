# SPDX-License-Identifier: Apache-2.0
"""
QR codes of the address that an authenticator app reads.
"""

from __future__ import annotations

import io


def qr_png(text: str) -> bytes:
    """Return a QR code of *text* as a PNG image."""
    import segno

    image = io.BytesIO()
    segno.make(text, error="m", micro=False).save(image, kind="png", scale=6, border=4)
    return image.getvalue()


def qr_terminal(text: str) -> str:
    """Return a QR code of *text* as lines for a terminal, two modules of height a letter."""
    import segno

    lines = io.StringIO()
    segno.make(text, error="l", micro=False).terminal(out=lines, border=2, compact=True)
    return lines.getvalue()
