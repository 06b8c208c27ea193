# SPDX-License-Identifier: Apache-2.0
"""
What ``AssumeRole`` is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRequest:
    """
    What somebody asks for who would assume a role; names are those of AWS STS.

    Attributes:
        duration_seconds: 0 where nothing is stated.
        serial_number: Device of *token_code*; both or neither.
    """

    role_arn: str
    role_session_name: str
    duration_seconds: int = 0
    session_policies: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive_tag_keys: Sequence[str] = ()
    external_id: str = ""
    source_identity: str = ""
    serial_number: str = ""
    token_code: str = field(default="", repr=False)
