# SPDX-License-Identifier: Apache-2.0
"""
An authorization sidecar that decides by AWS IAM policies.

Rooms, each importing only from rooms to its left:
``model -> compile -> core | mfa -> services -> transports -> app``.
"""

__version__ = "0.1.0"
