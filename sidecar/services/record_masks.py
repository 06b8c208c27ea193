# SPDX-License-Identifier: Apache-2.0
"""
What of a decision record is not written as it is: a value is replaced by a keyed hash, or left out.

The same value gives the same hash for as long as the key stays, so that records of one person can still be told to be
of one person. The key lives in the state directory; without it a hash cannot be tried out against guesses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from secrets import token_bytes, token_urlsafe
from typing import Any

from sidecar.model.errors import SettingsError

#: Name of the file with the key, inside the state directory.
KEY_FILE = "decision-log.key"
_KEY_BYTES = 32
#: Bytes of a hash that are written.
_HASH_BYTES = 16
_HASH_NAME = "blake2b:"

#: Every field that can be masked, beside the context keys.
FIELDS = (
    "userIdentity.arn",
    "userIdentity.accountId",
    "userIdentity.invokedBy",
    "userIdentity.accessKeyId",
    "resources.ARN",
    "resources.accountId",
    "requestParameters.resourceAccount",
)
#: Where the keys of the request context begin; a key may hold dots and slashes itself.
CONTEXT = "requestParameters.context."
_REMOVE = "remove:"
_HASH = "hash:"
_HELP = (
    f"fields are {', '.join(FIELDS)} and {CONTEXT}KEY; one that ends in * stands for all that begin so; "
    "`remove:` before it leaves it out instead of hashing it"
)

#: A record, as it is about to be written.
Record = dict[str, Any]


class MaskKind(Enum):
    """What becomes of a value."""

    HASH = "hash"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Masks:
    """
    What to mask; made by ``parse_masks``.

    Attributes:
        fields: By parent and name.
        keys: By context key, in lower case: their case has no meaning.
        beginnings: By beginning of a context key, in lower case, the longest first.
    """

    fields: dict[tuple[str, str], MaskKind] = field(default_factory=dict)
    keys: dict[str, MaskKind] = field(default_factory=dict)
    beginnings: tuple[tuple[str, MaskKind], ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is masked."""
        return not (self.fields or self.keys or self.beginnings)

    def of_key(self, key: str) -> MaskKind | None:
        """Return what becomes of a context key."""
        lowered = key.lower()
        kind = self.keys.get(lowered)
        if kind is not None:
            return kind
        for beginning, kind in self.beginnings:
            if lowered.startswith(beginning):
                return kind
        return None


def parse_masks(texts: Iterable[str]) -> Masks:
    """
    Return what *texts* name: fields of a record, ``*`` at the end for all that begin so.

    An exact name wins over one with ``*``, a longer beginning over a shorter one.

    Raises:
        SettingsError: One names no field, or something is named twice.

    >>> masks = parse_masks(["userIdentity.arn", "remove:requestParameters.context.payments:*"])
    >>> masks.of_key("Payments:CardNumber")
    <MaskKind.REMOVE: 'remove'>
    """
    exact: dict[str, MaskKind] = {}
    beginnings: dict[str, MaskKind] = {}
    for text in texts:
        kind = MaskKind.REMOVE if text.startswith(_REMOVE) else MaskKind.HASH
        path = text.removeprefix(_REMOVE) if kind is MaskKind.REMOVE else text.removeprefix(_HASH)
        name = path.removesuffix("*")
        if "*" in name:
            raise SettingsError(f"`decision_log_mask`: `{text}` has a `*` before its end", help=_HELP)
        is_beginning = name != path
        if name.startswith(CONTEXT):
            name = CONTEXT + name.removeprefix(CONTEXT).lower()
            is_known = is_beginning or name != CONTEXT
        else:
            # Short of the keys, a beginning must end where a name does: `user*` is rather a mistake than a wish.
            is_known = name in FIELDS if not is_beginning else any(field.startswith(name) for field in FIELDS)
            is_known = is_known and (not is_beginning or name.endswith("."))
        if not is_known:
            raise SettingsError(f"`decision_log_mask`: `{text}` is no field of a decision record", help=_HELP)
        named = beginnings if is_beginning else exact
        if name in named:
            raise SettingsError(f"`decision_log_mask`: `{path}` is named more than once")
        named[name] = kind
    return _masks(exact, beginnings)


def _masks(exact: dict[str, MaskKind], beginnings: dict[str, MaskKind]) -> Masks:
    ordered = sorted(beginnings.items(), key=lambda item: len(item[0]), reverse=True)
    fields: dict[tuple[str, str], MaskKind] = {}
    for path in FIELDS:
        kind = exact.get(path) or next((kind for beginning, kind in ordered if path.startswith(beginning)), None)
        if kind is not None:
            parent, _, name = path.partition(".")
            fields[parent, name] = kind
    # `requestParameters.*` reaches into the context.
    of_keys = [
        (beginning.removeprefix(CONTEXT) if beginning.startswith(CONTEXT) else "", kind)
        for beginning, kind in ordered
        if beginning.startswith(CONTEXT) or CONTEXT.startswith(beginning)
    ]
    keys = {path.removeprefix(CONTEXT): kind for path, kind in exact.items() if path.startswith(CONTEXT)}
    return Masks(fields, keys, tuple(of_keys))


class Masker:
    """
    Masks records.

    Thread-safety: immutable.
    """

    def __init__(self, masks: Masks, key: bytes) -> None:
        """
        Args:
            masks: What to mask.
            key: What hashes are made with.
        """
        self._masks = masks
        self._key = key

    def mask(self, record: Record) -> None:
        """Replace or remove in *record* what is to be masked."""
        for (parent, name), kind in self._masks.fields.items():
            holder = record.get(parent)
            for values in holder if isinstance(holder, list) else (holder,):
                if values and name in values:
                    self._change(values, name, kind)
        context = record.get("requestParameters", {}).get("context", {})
        for key in list(context):
            kind_of_key = self._masks.of_key(key)
            if kind_of_key is not None:
                self._change(context, key, kind_of_key)

    def _change(self, holder: Record, name: str, kind: MaskKind) -> None:
        if kind is MaskKind.REMOVE:
            del holder[name]
            return
        value = holder[name]
        holder[name] = [self._hash(each) for each in value] if isinstance(value, list) else self._hash(value)

    def _hash(self, value: str) -> str:
        return _HASH_NAME + blake2b(value.encode(), key=self._key, digest_size=_HASH_BYTES).hexdigest()


def load_mask_key(state_dir: Path, *, new_key: Callable[[int], bytes] = token_bytes) -> bytes:
    """
    Return the key that hashes are made with, made at the first start with mode 0600.

    Args:
        new_key: Gives as many random bytes.

    Raises:
        SettingsError: The file cannot be made or read, or holds no key.
    """
    path = state_dir / KEY_FILE
    try:
        if not path.exists():
            draft = state_dir / f".{KEY_FILE}.{token_urlsafe(6)}"
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(new_key(_KEY_BYTES).hex() + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                # A link never replaces: the file appears whole, and the first of two wins.
                try:
                    os.link(draft, path)
                except FileExistsError:
                    pass
            finally:
                draft.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise SettingsError(f"`{path}` can be read by others", help="take their right away with chmod 600")
            text = file.read(1024)
    except OSError as error:
        raise SettingsError(
            f"`{path}` cannot be used: {os.strerror(error.errno or 0).lower()}",
            help="see that the state directory can be written",
        ) from None
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingsError(
            f"`{path}` holds no key",
            help="delete it, so that a new one is made; the same values give other hashes then",
        )
    return key
