# SPDX-License-Identifier: Apache-2.0
"""
What a deployment asks of the security keys that its people enrol, read from the files that it names.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sidecar.mfa.certificates import Certificate
from sidecar.mfa.mds import Metadata, read_metadata, read_root
from sidecar.mfa.policy import AttestationMode, AttestationPolicy
from sidecar.model.errors import MfaError, SettingsError, SourceUnavailableError
from sidecar.services.callers import Caller
from sidecar.services.log import Log
from sidecar.services.mfa_journal import Change, MfaJournal
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
        metadata_crls: Revocation lists of the signer's issuers.
        metadata_grace_days: Days after which a newer file was due on which the metadata is still used.
        trust_anchors: Certificates of further roots.
    """

    mode: str
    aaguids: Sequence[str] = ()
    metadata: Path | None = None
    metadata_root: Path | None = None
    metadata_crls: Sequence[Path] = ()
    metadata_grace_days: int = 0
    trust_anchors: Sequence[Path] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is read."""
        stated = (self.metadata, self.metadata_root, *self.metadata_crls, *self.trust_anchors)
        return tuple(path for path in stated if path is not None)


class AttestationSource:
    """
    Keeps the policy that an operator's files state, and reads them again when they have changed.

    Files that cannot be used change nothing: the policy before them stays, and its metadata goes on to expire.

    Thread-safety: locked. While one thread reads, the others go by the policy so far.
    """

    def __init__(
        self, settings: AttestationSettings, *, store: Store, now: Callable[[], int], journal: MfaJournal, log: Log
    ) -> None:
        """
        Args:
            store: Remembers the number of the metadata, so that an older file does not come back.
            now: Gives nanoseconds since the epoch.

        Raises:
            SettingsError: The settings contradict each other, or a file cannot be used.
        """
        self._settings = settings
        self._store = store
        self._now = now
        self._journal = journal
        self._log = log
        self._lock = threading.Lock()
        self._seen = self._fingerprint()
        self._policy = read_attestation_policy(settings, store=store, now=now)
        self._warn_if_overdue()

    def current(self) -> AttestationPolicy:
        """Return the policy; it costs a look at the dates of the files."""
        if self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._lock.release()
        return self._policy

    def _refresh(self) -> None:
        seen = self._fingerprint()
        if seen == self._seen:
            return
        try:
            self._policy = read_attestation_policy(self._settings, store=self._store, now=self._now)
        except SettingsError as error:
            # Not tried again before it changes again: to read it takes its time.
            self._seen = seen
            self._log.warning("fido_metadata_refused", message=error.message, help=error.help)
            self._journal.changed(_SIDECAR, Change.METADATA_REFUSED, note=error.message)
            return
        except SourceUnavailableError as error:
            # The store is what failed, and the files may be good ones: the next look tries again.
            self._log.warning("fido_metadata_not_read", message=error.message, help=error.help)
            return
        self._seen = seen
        metadata = self._policy.metadata
        note = f"number {metadata.number}" if metadata is not None else ""
        self._log.info("fido_metadata_loaded", number=metadata.number if metadata is not None else 0)
        self._journal.changed(_SIDECAR, Change.METADATA_LOADED, note=note)
        self._warn_if_overdue()

    def _warn_if_overdue(self) -> None:
        metadata = self._policy.metadata
        if metadata is None:
            return
        days = (datetime.fromtimestamp(self._now() / 1e9, UTC).date() - metadata.next_update).days
        if days > 0:
            self._log.warning(
                "fido_metadata_overdue",
                due=metadata.next_update.isoformat(),
                days_left=metadata.grace_days - days,
                help="download the current file from the FIDO Metadata Service",
            )

    def _fingerprint(self) -> tuple[object, ...]:
        """Return what changes when a file does."""
        found: list[object] = []
        for path in self._settings.files:
            try:
                status = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        return tuple(found)


#: Who changes something when a file does.
_SIDECAR = Caller("sidecar", "", "")


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
    crls = [_read(path) for path in settings.metadata_crls]
    with store.read() as connection:
        last_number = high_marks.find(connection, _METADATA_NUMBER)
    try:
        metadata = read_metadata(
            blob,
            trust_root=root,
            now=now() / 1e9,
            last_number=last_number,
            crls=crls,
            grace_days=settings.metadata_grace_days,
        )
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
