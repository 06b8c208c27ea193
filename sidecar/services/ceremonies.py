# SPDX-License-Identifier: Apache-2.0
"""
Registering security keys: options for a browser or a terminal, and what comes back.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_bytes, token_urlsafe

from sidecar.mfa.webauthn import verify_registration
from sidecar.model.errors import CredentialAlreadyRegisteredError, LimitExceededError, RequestError
from sidecar.services.callers import Caller, User, is_id, parse_device_name, parse_user
from sidecar.services.credential_record import credential_of, record_of
from sidecar.services.fresh_proof import FreshProof
from sidecar.services.known_users import KnowsUser, require_known
from sidecar.services.mfa_journal import Change, Factor, MfaJournal
from sidecar.services.refusals import CeremonyUnknownError
from sidecar.services.relying_party import HANDLE_BYTES, RelyingParty
from sidecar.services.store import ceremonies as rows
from sidecar.services.store import devices as device_rows
from sidecar.services.store.ceremonies import Ceremony
from sidecar.services.store.devices import Device
from sidecar.services.store.engine import Store
from sidecar.services.store.schema import MAX_DEVICES
from sidecar.services.throttles import Throttles

#: Time in which a ceremony has to be finished.
CEREMONY_MS = 5 * 60 * 1000
#: Ceremonies that a user may have under way.
MAX_OPEN = 8
_CHALLENGE_BYTES = 32


@dataclass(frozen=True, slots=True)
class BegunCeremony:
    """
    A registration under way.

    Attributes:
        options_json: WebAuthn creation options.
    """

    ceremony_id: str
    options_json: str
    expires_at_ms: int


class CeremonyService:
    """
    Registers keys.

    Thread-safety: that of the store.
    """

    def __init__(
        self,
        *,
        store: Store,
        throttles: Throttles,
        fresh_proof: FreshProof,
        journal: MfaJournal,
        relying_party: RelyingParty,
        knows_user: KnowsUser,
        now: Callable[[], int],
        new_bytes: Callable[[int], bytes] = token_bytes,
        new_id: Callable[[int], str] = token_urlsafe,
    ) -> None:
        """
        Args:
            knows_user: Says whether a user may be given a device at all.
            now: Gives nanoseconds since the epoch.
            new_bytes: Gives as many random bytes.
            new_id: Gives URL-safe text of as many random bytes.
        """
        self._store = store
        self._throttles = throttles
        self._fresh_proof = fresh_proof
        self._journal = journal
        self._party = relying_party
        self._knows_user = knows_user
        self._now = now
        self._new_bytes = new_bytes
        self._new_id = new_id

    def find_owner(self, ceremony_id: str) -> str:
        """Return whose ceremony that is; empty where there is none."""
        with self._store.read() as connection:
            return rows.find_owner(connection, _checked(ceremony_id))

    def begin(self, caller: Caller, user_arn: str, device_name: str) -> BegunCeremony:
        """
        Begin to register a key.

        Raises:
            RequestError: That is no user, or no name of a device.
            NotFoundError: The policies do not know the user.
            PermissionDeniedError: The user has a device, and the caller has not just proved one.
            LimitExceededError: The user has as many devices, or ceremonies under way, as there may be.
        """
        user, name = parse_user(user_arn), parse_device_name(device_name)
        require_known(self._knows_user, user_arn)
        self._fresh_proof.require(caller, user_arn)
        now_ms = self._now() // 1_000_000
        ceremony = Ceremony(
            ceremony_id=self._new_id(32),
            user_arn=user_arn,
            session=caller.session,
            device_name=name,
            challenge=self._new_bytes(_CHALLENGE_BYTES),
            expires_at_ms=now_ms + CEREMONY_MS,
        )
        with self._store.write() as connection:
            if len(device_rows.list_enabled(connection, user_arn)) >= MAX_DEVICES:
                raise _too_many_devices()
            if rows.count_open(connection, user_arn, now_ms) >= MAX_OPEN:
                raise LimitExceededError(
                    f"the user has {MAX_OPEN} registrations under way", help="finish one, or wait five minutes"
                )
            handle = device_rows.ensure_user_handle(connection, user_arn, self._new_bytes(HANDLE_BYTES))
            keys = device_rows.list_keys(connection, user_arn)
            rows.add(connection, ceremony, now_ms)
        options = self._party.creation_options_json(
            ceremony.challenge,
            user_name=f"{user.name}@{user.account}",
            user_handle=handle,
            known=[credential_of(key.record, credential_id=key.credential_id, sign_count=0) for key in keys],
        )
        self._journal.changed(caller, Change.ENROLMENT_BEGUN, user_arn=user_arn, kind="key")
        return BegunCeremony(ceremony.ceremony_id, options, ceremony.expires_at_ms)

    def finish(self, caller: Caller, ceremony_id: str, response_json: str) -> Device:
        """
        Register the key that answers a ceremony, and return it as a device. However this ends, the ceremony is spent.

        Raises:
            RequestError: That is no ceremony.
            MfaError: The key was not registered, or there is no such ceremony (any more).
            PermissionDeniedError: The user has a device, and the caller has not just proved one.
            ThrottledError: Too many proofs of the user have failed.
            LimitExceededError: The user has as many devices as there may be.
        """
        what = "finish_key_registration"
        now_ms = self._now() // 1_000_000
        with self._store.write() as connection:
            ceremony = rows.take(connection, _checked(ceremony_id), session=caller.session, now_ms=now_ms)
        if ceremony is None:
            error = CeremonyUnknownError("there is no such ceremony")
            self._journal.refused(caller, Factor.KEY, what, error)
            raise error
        user_arn = ceremony.user_arn
        self._fresh_proof.require(caller, user_arn)
        with self._throttles.attempt(caller, user_arn, Factor.KEY, what, forgives=False):
            device = self._register(ceremony, parse_user(user_arn), response_json, now_ms)
        self._journal.accepted(caller, Factor.KEY, what, user_arn=user_arn, serial_number=device.serial_number)
        self._journal.changed(
            caller,
            Change.DEVICE_ENABLED,
            user_arn=user_arn,
            serial_number=device.serial_number,
            kind=device.kind,
        )
        return device

    def _register(self, ceremony: Ceremony, user: User, response_json: str, now_ms: int) -> Device:
        with self._store.read() as connection:
            handle = device_rows.find_user_handle(connection, user.arn)
        credential = verify_registration(
            response=response_json,
            expected_challenge=ceremony.challenge,
            expected_origins=self._party.origins,
            expected_rp_id=self._party.id,
            require_user_verification=self._party.requires_user_verification,
            attestation_policy=self._party.current_policy(),
            user_handle=handle,
            now=now_ms / 1000,
        )
        serial_number = user.key_serial(ceremony.device_name, base64.b32encode(self._new_bytes(10)).decode("ascii"))
        kind = "u2f" if credential.attestation.format == _U2F_FORMAT else "webauthn"
        with self._store.write() as connection:
            is_added = device_rows.add_key(
                connection,
                serial_number=serial_number,
                user_arn=user.arn,
                kind=kind,
                name=ceremony.device_name,
                session=ceremony.session,
                credential_id=credential.credential_id,
                record=record_of(credential),
                sign_count=credential.sign_count,
                now_ms=now_ms,
            )
            device = device_rows.find(connection, serial_number)
        if is_added is None:
            raise _too_many_devices()
        if not is_added or device is None:
            raise CredentialAlreadyRegisteredError("the credential is registered already")
        return device


#: SPEC: WebAuthn Level 3, section 8.6: how a key attests itself that knows U2F alone.
_U2F_FORMAT = "fido-u2f"


def _checked(ceremony_id: str) -> str:
    if not is_id(ceremony_id):
        raise RequestError(
            "`ceremony_id` is no ceremony", field="ceremony_id", help="send the one that BeginKeyRegistration gave"
        )
    return ceremony_id


def _too_many_devices() -> LimitExceededError:
    return LimitExceededError(
        f"the user has {MAX_DEVICES} devices, and there may be {MAX_DEVICES}", help="deactivate one first"
    )
