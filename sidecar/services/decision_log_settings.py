# SPDX-License-Identifier: Apache-2.0
"""
The settings of the decision log, from texts to values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.model.errors import SettingsError
from sidecar.services.record_masks import Masks, parse_masks

#: Words of ``decision_log`` that name no file.
OFF, STDOUT = "off", "stdout"
#: Words of ``decision_log_mode``.
BEST_EFFORT, REQUIRED = "best-effort", "required"

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
#: A ring with this much room takes the records of any batch: requests of 1 MiB, answers that repeat their principals.
_LARGEST_BATCH = 4 * _MIB
_UNITS = {"": 1, "KIB": _KIB, "MIB": _MIB, "GIB": _GIB}
_BYTES = re.compile(r"([0-9]{1,18}) ?([A-Za-z]*)")
_FRACTION = re.compile(r"[01](\.[0-9]{1,9})?")
_COUNT = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class DecisionLogSettings:
    """
    How decisions are logged.

    Attributes:
        file: Where to; None for standard output.
        is_required: Whether no answer leaves before its record has a place.
        allows: Share of the allows that is logged, from 0 to 1.
        denials: Share of the denials that is logged, from 0 to 1.
        masks: What is not written as it is.
        file_bytes: Size at which a file is put aside.
        files: Files put aside that are kept.
        spill_bytes: Most bytes that wait on disk; 0 for none.
        buffer_bytes: Size of the ring of one worker, a power of two.
    """

    file: Path | None
    is_required: bool
    allows: float
    denials: float
    masks: Masks
    file_bytes: int
    files: int
    spill_bytes: int
    buffer_bytes: int


def parse_decision_log_settings(
    *,
    decision_log: str,
    mode: str,
    allows: str,
    denials: str,
    mask: Sequence[str],
    file_bytes: str,
    files: str,
    spill_bytes: str,
    buffer_bytes: str,
) -> DecisionLogSettings | None:
    """
    Return the settings of the decision log; None where it is off.

    Every value is checked, whether or not the log is on.

    Raises:
        SettingsError: A value cannot be used.
    """
    settings = DecisionLogSettings(
        file=parse_log_file(decision_log),
        is_required=_parse_mode(mode),
        allows=parse_fraction("decision_log_allows", allows),
        denials=parse_fraction("decision_log_denials", denials),
        masks=parse_masks(mask),
        file_bytes=parse_bytes("decision_log_file_bytes", file_bytes, least=_MIB, greatest=1024 * _GIB),
        files=parse_count("decision_log_files", files, least=1, greatest=1000),
        spill_bytes=_parse_spill_bytes(spill_bytes),
        buffer_bytes=_parse_buffer_bytes(buffer_bytes),
    )
    if settings.is_required and settings.buffer_bytes < _LARGEST_BATCH:
        raise SettingsError(
            f"`decision_log_buffer_bytes`: `{buffer_bytes}` has no room for the records of a large batch",
            help=f"name {format_bytes(_LARGEST_BATCH)} or more, or set --decision-log-mode best-effort",
        )
    if decision_log != OFF:
        return settings
    if settings.is_required:
        raise SettingsError(
            "decisions must be logged and the decision log is off",
            help="name a file with --decision-log, or set --decision-log-mode best-effort",
        )
    return None


def parse_log_file(text: str) -> Path | None:
    """
    Return the file that *text* names; None for ``off`` and ``stdout``.

    Raises:
        SettingsError: It names none.
    """
    if text in (OFF, STDOUT):
        return None
    path = Path(text)
    if not text or text.endswith("/") or path.name in ("", "..") or "\0" in text:
        raise SettingsError(f"`decision_log`: `{text}` names no file", help="the choices are off, stdout or a file")
    return path


def parse_bytes(name: str, text: str, *, least: int, greatest: int) -> int:
    """
    Return a number of bytes, with a unit or without.

    Args:
        name: What the value is called in an error.

    Raises:
        SettingsError: It is no such number, or out of bounds.

    >>> parse_bytes("size", "64MiB", least=0, greatest=1 << 40)
    67108864
    """
    found = _BYTES.fullmatch(text.strip())
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None:
        raise SettingsError(f"`{name}`: `{text}` is no number of bytes", help="write 67108864, 65536KiB or 64MiB")
    value = int(found[1]) * unit
    if not least <= value <= greatest:
        raise SettingsError(f"`{name}`: `{text}` is not between {format_bytes(least)} and {format_bytes(greatest)}")
    return value


def format_bytes(count: int) -> str:
    """
    Return *count* in the largest unit that it is a whole number of.

    >>> format_bytes(64 << 20), format_bytes(1000)
    ('64MiB', '1000')
    """
    for unit, size in (("GiB", _GIB), ("MiB", _MIB), ("KiB", _KIB)):
        if count and count % size == 0:
            return f"{count // size}{unit}"
    return str(count)


def parse_fraction(name: str, text: str) -> float:
    """
    Return a share from 0 to 1.

    Raises:
        SettingsError: It is none.
    """
    value = float(text) if _FRACTION.fullmatch(text.strip()) else 2.0
    if value > 1:
        raise SettingsError(f"`{name}`: `{text}` is no share between 0 and 1", help="write 0.01 for one in a hundred")
    return value


def parse_count(name: str, text: str, *, least: int, greatest: int) -> int:
    """
    Return a whole number.

    Raises:
        SettingsError: It is none, or out of bounds.
    """
    if not _COUNT.fullmatch(text.strip()):
        raise SettingsError(f"`{name}`: `{text}` is no whole number")
    value = int(text)
    if not least <= value <= greatest:
        raise SettingsError(f"`{name}`: `{text}` is not between {least} and {greatest}")
    return value


def _parse_mode(text: str) -> bool:
    if text not in (BEST_EFFORT, REQUIRED):
        raise SettingsError(
            f"`decision_log_mode`: `{text}` is unknown", help=f"the choices are {BEST_EFFORT}, {REQUIRED}"
        )
    return text == REQUIRED


def _parse_buffer_bytes(text: str) -> int:
    value = parse_bytes("decision_log_buffer_bytes", text, least=256 * _KIB, greatest=_GIB)
    # The ring of the core is a power of two; more than was asked for does no harm.
    return 1 << (value - 1).bit_length()


def _parse_spill_bytes(text: str) -> int:
    value = parse_bytes("decision_log_spill_bytes", text, least=0, greatest=1024 * _GIB)
    if 0 < value < _MIB:
        raise SettingsError(f"`decision_log_spill_bytes`: `{text}` is below 1MiB", help="write 0 for no spill")
    return value
