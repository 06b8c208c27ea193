# SPDX-License-Identifier: Apache-2.0
"""
Everything about second factors, on one store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sidecar.model.errors import SettingsError
from sidecar.services.audit import AuditTrail
from sidecar.services.ceremonies import CeremonyService
from sidecar.services.challenges import ChallengeService
from sidecar.services.codes import TotpCodes
from sidecar.services.devices import DeviceService
from sidecar.services.fresh_proof import FreshProof
from sidecar.services.importing import ImportService
from sidecar.services.key_rotation import KeyRotation
from sidecar.services.known_users import KnowsUser, know_everybody
from sidecar.services.mfa_journal import MfaJournal, MfaMetrics
from sidecar.services.recovery import RecoveryService
from sidecar.services.relying_party import RelyingParty
from sidecar.services.seeds import KEY_FILE, KeyCommand, KeyFile, KeySource, SeedSealer
from sidecar.services.store.engine import Store
from sidecar.services.throttles import Throttles


@dataclass(frozen=True, slots=True)
class MfaServices:
    """
    The services, which share one store, one journal and one clock.

    Thread-safety: each is safe by itself.
    """

    store: Store
    relying_party: RelyingParty
    journal: MfaJournal
    throttles: Throttles
    codes: TotpCodes
    fresh_proof: FreshProof
    devices: DeviceService
    ceremonies: CeremonyService
    challenges: ChallengeService
    recovery: RecoveryService
    rotation: KeyRotation
    importing: ImportService


def build_mfa(
    *,
    store: Store,
    keys: KeySource,
    audit: AuditTrail,
    metrics: MfaMetrics,
    now: Callable[[], int],
    relying_party: RelyingParty,
    knows_user: KnowsUser = know_everybody,
) -> MfaServices:
    """
    Return the services on *store*.

    Args:
        keys: What seeds are sealed with.
        now: Gives nanoseconds since the epoch.
        relying_party: What keys are registered for; its name is what authenticator apps show.
        knows_user: Says whether a user may be given a device.
    """
    sealer = SeedSealer(keys)
    journal = MfaJournal(audit=audit, metrics=metrics)
    codes = TotpCodes(store=store, sealer=sealer)
    throttles = Throttles(store=store, now=now, journal=journal)
    fresh_proof = FreshProof(store=store, now=now)
    return MfaServices(
        store=store,
        relying_party=relying_party,
        journal=journal,
        throttles=throttles,
        fresh_proof=fresh_proof,
        devices=DeviceService(
            store=store,
            sealer=sealer,
            throttles=throttles,
            fresh_proof=fresh_proof,
            journal=journal,
            knows_user=knows_user,
            now=now,
            issuer=relying_party.id,
        ),
        ceremonies=CeremonyService(
            store=store,
            throttles=throttles,
            fresh_proof=fresh_proof,
            journal=journal,
            relying_party=relying_party,
            knows_user=knows_user,
            now=now,
        ),
        challenges=ChallengeService(
            store=store,
            codes=codes,
            throttles=throttles,
            journal=journal,
            relying_party=relying_party,
            now=now,
        ),
        codes=codes,
        recovery=RecoveryService(store=store, fresh_proof=fresh_proof, journal=journal, now=now),
        rotation=KeyRotation(store=store, keys=keys, sealer=sealer, journal=journal),
        importing=ImportService(store=store, sealer=sealer, journal=journal, knows_user=knows_user, now=now),
    )


def find_keys(*, state_dir: Path, is_shared: bool, key_file: Path | None, key_command: str) -> KeySource:
    """
    Return where the keys of seeds come from; the file in the state directory is made if it is not there.

    Args:
        is_shared: Whether other machines use the same store, and so need the same keys.

    Raises:
        SettingsError: None are named, and others would not know those that would be made here.
    """
    if key_command:
        return KeyCommand(key_command)
    if key_file is not None:
        return KeyFile(key_file)
    if is_shared:
        raise SettingsError(
            "a store that several sidecars may share needs keys that all of them have",
            help="name them with --mfa-key-file or --mfa-key-command",
        )
    own = KeyFile(state_dir / KEY_FILE)
    own.create()
    return own
