# SPDX-License-Identifier: Apache-2.0
"""
The typed face of the compiled core: images in, decisions out.

Everything here runs in the extension ``sidecar.core._core``, built from ``ext/``.
"""

try:
    from sidecar.core._core import Image, authorize, batch_authorize, encode_request, explain
except ImportError as error:
    raise ImportError("the compiled core is missing; build it with scripts/setup") from error

__all__ = ["Image", "authorize", "batch_authorize", "encode_request", "explain"]
