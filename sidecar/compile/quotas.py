# SPDX-License-Identifier: Apache-2.0
"""
AWS's limits on the size of policy documents.

White space outside of strings does not count.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from sidecar.compile.documents import JsonNumber
from sidecar.model.policy import PolicyKind

#: Longest text of one policy document that is read at all.
MAX_DOCUMENT_TEXT: Final = 1024 * 1024

#: Most statements of one document.
MAX_STATEMENTS: Final = 1000

#: Limits of the inline policies of one principal taken together.
MAX_INLINE_USER: Final = 2_048
MAX_INLINE_GROUP: Final = 5_120
MAX_INLINE_ROLE: Final = 10_240


class Quota(NamedTuple):
    """
    The limits of one kind of policy, in characters.

    Attributes:
        hard: What AWS never takes.
        soft: What AWS takes unless a quota was raised, or for most services.
    """

    hard: int
    soft: int


#: Limits by kind of policy. Identity-based: of a managed policy.
QUOTAS: Final = {
    PolicyKind.IDENTITY: Quota(6_144, 6_144),
    PolicyKind.BOUNDARY: Quota(6_144, 6_144),
    PolicyKind.SESSION: Quota(2_048, 2_048),
    PolicyKind.TRUST: Quota(4_096, 2_048),
    # Most services take 20 KiB, AWS KMS takes 32 KiB.
    PolicyKind.RESOURCE: Quota(32_768, 20_480),
    PolicyKind.SERVICE_CONTROL: Quota(5_120, 5_120),
    PolicyKind.RESOURCE_CONTROL: Quota(5_120, 5_120),
}


def document_size(document: object) -> int:
    """
    Return how many characters *document* has towards a quota: those of its JSON without white space.

    Args:
        document: What ``read_json`` gave, or what ``decode_document`` made of a text.

    >>> document_size({"Version": "2012-10-17", "Statement": []})
    39
    """
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), check_circular=False)
    except (TypeError, ValueError, RecursionError):
        # Not JSON: the parser says so.
        return 0
    return len(text) - 2 * _numbers(document)


def _numbers(document: object) -> int:
    # A number is kept as text, and would be counted with quotes.
    if isinstance(document, JsonNumber):
        return 1
    if not isinstance(document, dict):
        return 0
    statements = document.get("Statement")
    count = 0
    for statement in statements if isinstance(statements, list) else [statements]:
        conditions = statement.get("Condition") if isinstance(statement, dict) else None
        if not isinstance(conditions, dict):
            continue
        for block in conditions.values():
            if not isinstance(block, dict):
                continue
            for value in block.values():
                values = value if isinstance(value, list) else (value,)
                count += sum(1 for item in values if type(item) is JsonNumber)
    return count
