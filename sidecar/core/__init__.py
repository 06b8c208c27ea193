# SPDX-License-Identifier: Apache-2.0
"""
The typed face of the compiled core: images in, decisions out, and the listener that answers without Python.

Everything here runs in the extension ``sidecar.core._core``, built from ``ext/``.
"""

try:
    from sidecar.core._core import (
        LIMIT_NAMES,
        CheckPlan,
        DataServer,
        Image,
        Recorder,
        SessionState,
        authorize,
        batch_authorize,
        check,
        encode_request,
        explain,
        histogram_edges,
        resolve_check,
        return_memory,
    )
except ImportError as error:
    raise ImportError("the compiled core is missing; build it with scripts/setup") from error

__all__ = [
    "LIMIT_NAMES",
    "CheckPlan",
    "DataServer",
    "Image",
    "Recorder",
    "SessionState",
    "authorize",
    "batch_authorize",
    "check",
    "encode_request",
    "explain",
    "histogram_edges",
    "resolve_check",
    "return_memory",
]
