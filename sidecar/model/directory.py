# SPDX-License-Identifier: Apache-2.0
"""
What a snapshot says of users, roles and accounts, beside their policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.model.snapshot import PasswordPolicy


@dataclass(frozen=True, slots=True)
class UserFacts:
    """
    An IAM user.

    Attributes:
        account: Twelve digits.
        name: Without path.
        user_id: ``AIDA...``
        tags: By key in lower case.
    """

    arn: str
    account: str
    name: str
    user_id: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """
    An IAM role.

    Attributes:
        arn: With its path.
        principal: ``arn:PARTITION:sts::ACCOUNT:assumed-role/NAME``, the name under which its sessions are known.
        role_id: ``AROA...``
        max_session_duration: Seconds.
        is_service_linked: Whether only a service may assume it.
    """

    arn: str
    principal: str
    account: str
    name: str
    role_id: str
    max_session_duration: int
    is_service_linked: bool
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """
    An account.

    Attributes:
        id: Twelve digits.
        alias: Empty if there is none.
        password_policy: None: AWS's defaults.
    """

    id: str
    alias: str
    partition: str
    password_policy: PasswordPolicy | None
