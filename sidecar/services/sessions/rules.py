# SPDX-License-Identifier: Apache-2.0
"""
What the parameters of ``GetSessionToken`` and ``AssumeRole`` may be.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from sidecar.model.errors import RequestError
from sidecar.model.session import MAX_SESSION_TAGS, SessionTag

#: SPEC: STS: seconds that a session may last: least, most, and where nothing is stated.
USER_SECONDS = (900, 129_600, 43_200)
ROLE_SECONDS = (900, 43_200, 3600)
#: SPEC: STS, AssumeRole: longest session of a role that a role assumes.
CHAINED_SECONDS = 3600
_MAX_KEY, _MAX_VALUE = 128, 256
_MAX_ARN = 2048
_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_EXTERNAL_ID = re.compile(r"[A-Za-z0-9_+=,.@:/-]{2,1224}")
_ROLE_ARN = re.compile(r"arn:aws[a-z-]{0,32}:iam::[0-9]{12}:role/(?:[!-.0-~]+/)*[A-Za-z0-9_+=,.@-]{1,64}")
#: Prefix that belongs to AWS, whatever its case.
_AWS = "aws:"
_TAG_CHARACTERS = "letters, digits, spaces and any of _.:/=+-@"


def parse_duration(seconds: int, bounds: tuple[int, int, int]) -> int:
    """
    Return how long a session lasts, in seconds.

    Args:
        seconds: As asked for; 0 where nothing is stated.

    Raises:
        RequestError: It is too short or too long.

    >>> parse_duration(0, ROLE_SECONDS)
    3600
    """
    least, most, default = bounds
    if seconds == 0:
        return default
    if not least <= seconds <= most:
        raise RequestError(
            f"`duration_seconds` is {seconds}, and has to be between {least} and {most}", field="duration_seconds"
        )
    return seconds


def parse_role_arn(arn: str) -> str:
    """
    Return *arn*.

    Raises:
        RequestError: It names no role.
    """
    if len(arn) > _MAX_ARN or _ROLE_ARN.fullmatch(arn) is None:
        raise RequestError(
            "`role_arn` is no ARN of a role", field="role_arn", help="write arn:aws:iam::ACCOUNT:role/NAME"
        )
    return arn


def parse_session_name(name: str, field: str = "role_session_name") -> str:
    """
    Return *name*.

    Raises:
        RequestError: A session cannot be called that.
    """
    if _NAME.fullmatch(name) is None:
        raise RequestError(f"`{field}` cannot be used", field=field, help="2 to 64 letters, digits and any of _+=,.@-")
    return name


def parse_source_identity(identity: str) -> str:
    """
    Return *identity*, which may be empty.

    Raises:
        RequestError: It cannot be one.
    """
    if not identity:
        return ""
    parse_session_name(identity, "source_identity")
    return identity


def parse_external_id(external_id: str) -> str:
    """
    Return *external_id*, which may be empty.

    Raises:
        RequestError: It cannot be one.
    """
    if external_id and _EXTERNAL_ID.fullmatch(external_id) is None:
        raise RequestError(
            "`external_id` cannot be used", field="external_id", help="2 to 1224 letters, digits and any of _+=,.@:/-"
        )
    return external_id


def parse_tags(
    tags: Mapping[str, str], transitive_tag_keys: Sequence[str], *, inherited: Sequence[SessionTag] = ()
) -> tuple[SessionTag, ...]:
    """
    Return the tags of a session: those that are inherited, then those that are passed.

    Args:
        inherited: Transitive tags of the session that assumes the role.

    Raises:
        RequestError: One cannot be a tag, is there twice, or would replace an inherited one.
    """
    passed: dict[str, str] = {}
    handed_down = {tag.key.lower() for tag in inherited}
    for key, value in tags.items():
        _parse_tag_text(key, "tags", least=1, most=_MAX_KEY, what="a key of `tags`")
        _parse_tag_text(value, "tags", least=0, most=_MAX_VALUE, what=f"the value of tag `{key}`")
        if key.lower().startswith(_AWS):
            raise RequestError(f"tag `{key}` begins with `{_AWS}`, which belongs to AWS", field="tags")
        if key.lower() in passed:
            raise RequestError(f"tag `{key}` is there twice, whatever its case", field="tags")
        if key.lower() in handed_down:
            raise RequestError(
                f"tag `{key}` was set as transitive by an earlier session, and cannot be overridden", field="tags"
            )
        passed[key.lower()] = key
    transitive = set()
    if len(transitive_tag_keys) > MAX_SESSION_TAGS:
        raise RequestError(
            f"there are {len(transitive_tag_keys)} transitive tag keys, and there may be {MAX_SESSION_TAGS}",
            field="transitive_tag_keys",
        )
    for key in transitive_tag_keys:
        if key.lower() not in passed:
            raise RequestError(
                f"transitive tag key `{key[:_MAX_KEY]}` is not among the tags", field="transitive_tag_keys"
            )
        transitive.add(key.lower())
    if len(inherited) + len(passed) > MAX_SESSION_TAGS:
        raise RequestError(
            f"there are {len(inherited) + len(passed)} session tags, and there may be {MAX_SESSION_TAGS}", field="tags"
        )
    own = (SessionTag(key, tags[key], lowered in transitive) for lowered, key in sorted(passed.items()))
    return (*inherited, *own)


def _parse_tag_text(text: str, field: str, *, least: int, most: int, what: str) -> None:
    if not least <= len(text) <= most or not all(_is_tag_character(character) for character in text):
        raise RequestError(f"{what} cannot be used", field=field, help=f"{least} to {most} {_TAG_CHARACTERS}")


def _is_tag_character(character: str) -> bool:
    # SPEC: STS, Tag: letters, separators, numbers and a few signs.
    return character in "_.:/=+-@" or unicodedata.category(character)[0] in "LZN"
