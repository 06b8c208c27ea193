# SPDX-License-Identifier: Apache-2.0
"""
What the password of a user has to be like.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from sidecar.model.directory import AccountFacts, UserFacts
from sidecar.model.snapshot import PasswordPolicy

#: SPEC: IAM, password policy: what counts as a symbol.
SYMBOLS = "!@#$%^&*()_+-=[]{}|'"
#: SPEC: IAM, CreateLoginProfile: the longest password, and the characters that it may have.
MAX_PASSWORD = 128
_ALLOWED = re.compile("[\t\n\r\u0020-\u00ff]*")
#: SPEC: IAM, the policy of an account that states none: 8 characters, 3 of the 4 classes.
_DEFAULT_LENGTH, _DEFAULT_CLASSES = 8, 3
_DAY_MS = 24 * 60 * 60 * 1000


class _Class(NamedTuple):
    """A class of characters."""

    name: str
    pattern: re.Pattern[str]


_LOWER = _Class("lower-case letter", re.compile("[a-z]"))
_UPPER = _Class("upper-case letter", re.compile("[A-Z]"))
_NUMBER = _Class("number", re.compile("[0-9]"))
_SYMBOL = _Class(f"symbol of {SYMBOLS}", re.compile(f"[{re.escape(SYMBOLS)}]"))


def normalize_password(text: str) -> str:
    """
    Return *text* as it is hashed: keyboards compose letters in more than one way.

    >>> normalize_password("e" + chr(0x301)) == normalize_password(chr(0xE9))
    True
    """
    return unicodedata.normalize("NFC", text)


def find_violations(password: str, *, user: UserFacts, account: AccountFacts) -> list[str]:
    """
    Return everything that keeps *password* from being one of that user.

    >>> user = UserFacts("arn:aws:iam::111122223333:user/ada", "111122223333", "ada", "AIDAEXAMPLE")
    >>> find_violations("Ada12", user=user, account=AccountFacts("111122223333", "", "aws", None))
    ['it is shorter than 8 characters']
    """
    policy = account.password_policy
    least = _DEFAULT_LENGTH if policy is None else policy.minimum_password_length
    found = []
    if len(password) > MAX_PASSWORD:
        found.append(f"it is longer than {MAX_PASSWORD} characters")
    if len(password) < least:
        found.append(f"it is shorter than {least} characters")
    if _ALLOWED.fullmatch(password) is None:
        found.append("it has characters that are not in Latin-1")
    if policy is None:
        classes = (_LOWER, _UPPER, _NUMBER, _SYMBOL)
        if sum(1 for kind in classes if kind.pattern.search(password)) < _DEFAULT_CLASSES:
            names = ", ".join(kind.name for kind in classes)
            found.append(f"it does not have {_DEFAULT_CLASSES} of: {names}")
        if password.lower() in {account.id, account.alias.lower(), user.name.lower()} - {""}:
            found.append("it is the name of the account or of the user")
    else:
        found += [f"it has no {kind.name}" for kind in _required(policy) if kind.pattern.search(password) is None]
    return found


def expires_at_ms(set_at_ms: int, policy: PasswordPolicy | None) -> int | None:
    """Return when a password that was set then is of no use any more; None where passwords do not expire."""
    if policy is None or policy.max_password_age is None:
        return None
    return set_at_ms + policy.max_password_age * _DAY_MS


def _required(policy: PasswordPolicy) -> list[_Class]:
    flags = (
        (policy.require_lowercase_characters, _LOWER),
        (policy.require_uppercase_characters, _UPPER),
        (policy.require_numbers, _NUMBER),
        (policy.require_symbols, _SYMBOL),
    )
    return [kind for is_required, kind in flags if is_required]
