# SPDX-License-Identifier: Apache-2.0
"""
What a caller asks: principal, action, resource and context, and which context keys it may not send.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class ContextValue(NamedTuple):
    """
    Values of one context key.

    No values, or nothing but empty ones, is null: the same as if the key were absent.

    Attributes:
        multivalued: A list, whatever its length. Two or more values, or none, are a list anyway.
    """

    values: tuple[str, ...]
    multivalued: bool = False

    @property
    def is_null(self) -> bool:
        """Whether the key counts as absent."""
        return not any(self.values)

    @property
    def is_list(self) -> bool:
        """Whether operators without a set operator refuse it."""
        return self.multivalued or len(self.values) != 1


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """
    One question to the policies.

    Attributes:
        principal: ARN of a user, a role session or an account root, a service principal, or
            an empty string for an anonymous caller.
        action: ``service:Action``.
        resource: One ARN, or ``*`` for an action without a resource.
        context: Condition keys as the caller spelt them.
        resource_account: Owner of the resource where its ARN names none.
        override: Values for any key, reserved ones too; they win over every other source.
            For explanations and simulations alone.
        session_token: Says who calls, instead of *principal*; empty: there is none.
    """

    principal: str
    action: str
    resource: str
    context: Mapping[str, ContextValue] = field(default_factory=dict)
    resource_account: str = ""
    override: Mapping[str, ContextValue] = field(default_factory=dict)
    session_token: str = ""


#: Condition keys that the sidecar sets and nobody else, in lower case.
RESERVED_KEYS = frozenset(
    {
        "aws:currenttime",
        "aws:epochtime",
        "aws:userid",
        "aws:username",
        "aws:tokenissuetime",
        "aws:sourceidentity",
        "aws:federatedprovider",
        "aws:resourceaccount",
        "aws:viaawsservice",
    }
)

#: Beginnings of condition keys that the sidecar sets and nobody else, in lower case.
RESERVED_PREFIXES = (
    "aws:multifactorauth",
    "aws:principal",
    "aws:resourceorg",
    "aws:calledvia",
    "sts:",
    "saml:",
    "sidecar:",
)


def is_reserved_key(key: str) -> bool:
    """
    Say whether *key* may come from the sidecar alone.

    >>> is_reserved_key("aws:PrincipalTag/team"), is_reserved_key("aws:SourceIp")
    (True, False)
    """
    lowered = key.lower()
    return lowered in RESERVED_KEYS or lowered.startswith(RESERVED_PREFIXES)


#: Limits of one request, in bytes of UTF-8 where not said otherwise.
MAX_REQUEST_BYTES = 64 * 1024
MAX_BATCH_BYTES = 1024 * 1024
MAX_BATCH_REQUESTS = 1000
MAX_PRINCIPAL = 2048
MAX_SERVICE_PRINCIPAL = 256
MAX_ACTION = 256
MAX_RESOURCE = 2048
MAX_CONTEXT_KEYS = 128
MAX_CONTEXT_KEY = 512
MAX_CONTEXT_VALUES = 1024
MAX_CONTEXT_VALUE = 4096
