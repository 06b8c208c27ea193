# SPDX-License-Identifier: Apache-2.0
"""
``python -m sidecar``.
"""

from sidecar.cli import main

main()
