# SPDX-License-Identifier: Apache-2.0
"""
Who there is: users, roles and accounts of the snapshot in place.
"""

from __future__ import annotations

from typing import Protocol

from sidecar.model.directory import AccountFacts, RoleFacts, UserFacts


class Directory(Protocol):
    """Knows the principals of one snapshot; an image is one."""

    def find_user(self, arn: str) -> UserFacts | None:
        """Return a user by ARN."""
        ...

    def find_role(self, arn: str) -> RoleFacts | None:
        """Return a role by ARN, with its path."""
        ...

    def find_account(self, id_or_alias: str) -> AccountFacts | None:
        """Return an account by its twelve digits, or its alias."""
        ...
