# SPDX-License-Identifier: Apache-2.0
"""
What a deployment asks of the security keys that its people enrol, read from the files that it names.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.mfa.certificates import Certificate
from sidecar.mfa.mds import Metadata, read_metadata, read_root
from sidecar.mfa.policy import AttestationMode, AttestationPolicy
from sidecar.model.errors import MfaError, SettingsError
from sidecar.services.store import high_marks
from sidecar.services.store.engine import Store

#: Greatest size of a file; the FIDO metadata has some ten MiB.
_MAX_FILE_BYTES = 64 * 1024 * 1024
_METADATA_NUMBER = "fido_metadata_number"


@dataclass(frozen=True, slots=True)
class AttestationSettings:
    """
    What an operator has stated.

    Attributes:
        mode: One of the words of ``AttestationMode``.
        aaguids: Models that are accepted, as UUIDs; none accepts all.
        metadata: File of the FIDO Metadata Service.
        metadata_root: Certificate that the metadata's signer leads to.
        trust_anchors: Certificates of further roots.
    """

    mode: str
    aaguids: Sequence[str] = ()
    metadata: Path | None = None
    metadata_root: Path | None = None
    trust_anchors: Sequence[Path] = ()


def read_attestation_policy(
    settings: AttestationSettings, *, store: Store, now: Callable[[], int]
) -> AttestationPolicy:
    """
    Return the policy that *settings* state.

    Args:
        store: Remembers the number of the metadata, so that an older file does not come back.
        now: Gives nanoseconds since the epoch.

    Raises:
        SettingsError: They contradict each other, or a file cannot be used.
    """
    mode = AttestationMode(settings.mode)
    aaguids = frozenset(_parse_aaguid(text) for text in settings.aaguids)
    metadata = _read_metadata(settings, store, now)
    anchors = tuple(_read_anchor(path) for path in settings.trust_anchors)
    if mode is AttestationMode.REQUIRE_LISTED and not aaguids:
        raise SettingsError(
            "no authenticator model is listed, so that no key could be enrolled", help="list some with --mfa-aaguid"
        )
    if mode is AttestationMode.REQUIRE_TRUSTED and metadata is None and not anchors:
        raise SettingsError(
            "no root is trusted, so that no key could be enrolled",
            help="name the FIDO metadata with --mfa-metadata, or a root with --mfa-trust-anchor",
        )
    return AttestationPolicy(mode=mode, allowed_aaguids=aaguids or None, metadata=metadata, trust_anchors=anchors)


def _read_metadata(settings: AttestationSettings, store: Store, now: Callable[[], int]) -> Metadata | None:
    if settings.metadata is None:
        return None
    if settings.metadata_root is None:
        raise SettingsError(
            "the FIDO metadata is worth nothing without a root", help="name its certificate with --mfa-metadata-root"
        )
    blob, root = _read(settings.metadata), _read(settings.metadata_root)
    with store.read() as connection:
        last_number = high_marks.find(connection, _METADATA_NUMBER)
    try:
        metadata = read_metadata(blob, trust_root=root, now=now() / 1e9, last_number=last_number)
    except MfaError as error:
        raise SettingsError(f"`{settings.metadata}` cannot be used: {error.message}", help=error.help) from None
    with store.write() as connection:
        high_marks.raise_to(connection, _METADATA_NUMBER, metadata.number)
    return metadata


def _read_anchor(path: Path) -> Certificate:
    try:
        return read_root(_read(path))
    except MfaError as error:
        raise SettingsError(f"`{path}` is no certificate: {error.message}") from None


def _parse_aaguid(text: str) -> bytes:
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        raise SettingsError(
            f"`{text}` is no AAGUID", help="write it as 32 hexadecimal digits in groups of 8-4-4-4-12"
        ) from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"`{path}` cannot be read: {os.strerror(error.errno or 0).lower()}") from None
    if len(data) > _MAX_FILE_BYTES:
        raise SettingsError(f"`{path}` is larger than {_MAX_FILE_BYTES} bytes")
    return data
