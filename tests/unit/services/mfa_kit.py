# SPDX-License-Identifier: Apache-2.0
"""
The services of second factors on a store, with a clock that a test sets, and people with telephones and keys.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fido2.client import DefaultClientDataCollector, Fido2Client, UserInteraction

from sidecar.mfa.totp import generate_code
from sidecar.services.callers import Caller
from sidecar.services.challenges import OpenedChallenge
from sidecar.services.mfa import MfaServices, build_mfa
from sidecar.services.mfa_journal import Change, Factor, NullMfaMetrics
from sidecar.services.relying_party import RelyingParty
from sidecar.services.seeds import KeyFile
from sidecar.services.store.devices import Device
from sidecar.services.store.engine import Store
from tests.authenticators import Ctap2Key, U2fKey, plug

ADA = "arn:aws:iam::111122223333:user/ada"
BOB = "arn:aws:iam::111122223333:user/finance/bob"
RP_ID = "example.org"
ORIGIN = "https://example.org"
ADMINISTRATOR = Caller.administrator("ipv4:127.0.0.1:1")


def session_of(user_arn: str, session: str = "session-1") -> Caller:
    """Give a caller who has signed in."""
    return Caller(user_arn, session, "ipv4:127.0.0.1:2")


class Clock:
    """Stands still until it is moved."""

    def __init__(self, seconds: float = 1_800_000_000) -> None:
        self.nanoseconds = int(seconds * 1e9)

    def __call__(self) -> int:
        return self.nanoseconds

    @property
    def seconds(self) -> float:
        return self.nanoseconds / 1e9

    def advance(self, seconds: float) -> None:
        self.nanoseconds += int(seconds * 1e9)


class ListedAudit:
    """Keeps audit records in a list."""

    def __init__(self) -> None:
        self.records: list[Mapping[str, object]] = []

    def record(self, event: Mapping[str, object]) -> None:
        self.records.append(event)

    @property
    def last(self) -> Mapping[str, object]:
        return self.records[-1]

    def reasons(self) -> list[object]:
        return [record["reason"] for record in self.records if "reason" in record]

    def events(self) -> list[object]:
        return [record["event"] for record in self.records]


class ListedMetrics(NullMfaMetrics):
    """Keeps what is counted in lists."""

    def __init__(self) -> None:
        self.verifications: list[tuple[Factor, str]] = []
        self.changes: list[Change] = []

    def record_verification(self, factor: Factor, result: str) -> None:
        self.verifications.append((factor, result))

    def record_change(self, change: Change) -> None:
        self.changes.append(change)


class Phone:
    """An authenticator app with one account."""

    def __init__(self, serial_number: str, secret_base32: str) -> None:
        self.serial_number = serial_number
        self.secret = base64.b32decode(secret_base32)

    def code(self, seconds: float) -> str:
        return generate_code(self.secret, int(seconds // 30))


class SilentPerson(UserInteraction):
    """Says nothing, and knows one PIN."""

    def __init__(self, pin: str | None = None) -> None:
        self._pin = pin

    def request_pin(self, *_: Any) -> str | None:
        return self._pin


class Kit:
    """Everything that a test needs, on one store."""

    def __init__(self, store: Store, folder: Path, **party: Any) -> None:
        self.store = store
        self.strangers: set[str] = set()
        self.clock = Clock()
        self.audit = ListedAudit()
        self.metrics = ListedMetrics()
        self.keys = KeyFile(folder / "mfa.key")
        self.keys.create()
        self.party = RelyingParty(**{"id": RP_ID, "origins": (ORIGIN,), **party})
        self.services: MfaServices = build_mfa(
            store=store,
            keys=self.keys,
            audit=self.audit,
            metrics=self.metrics,
            now=self.clock,
            relying_party=self.party,
            knows_user=lambda user_arn: user_arn not in self.strangers,
        )

    def with_party(self, folder: Path, **party: Any) -> Kit:
        """Give the same with another relying party, on the same store and clock."""
        other = Kit.__new__(Kit)
        other.__init__(self.store, folder, **party)  # type: ignore[misc]
        other.clock.nanoseconds = self.clock.nanoseconds
        return other

    def begin_phone(self, user_arn: str = ADA, name: str = "phone", caller: Caller = ADMINISTRATOR) -> Phone:
        """Begin to enrol a telephone."""
        enrolment = self.services.devices.begin_totp(caller, user_arn, name)
        return Phone(enrolment.serial_number, enrolment.secret_base32)

    def confirm(self, phone: Phone, caller: Caller = ADMINISTRATOR) -> Device:
        """Enable a telephone by two codes, the second of which is that of now."""
        codes = phone.code(self.clock.seconds - 30), phone.code(self.clock.seconds)
        return self.services.devices.confirm_totp(caller, phone.serial_number, *codes)

    def enrol_phone(self, user_arn: str = ADA, name: str = "phone", caller: Caller = ADMINISTRATOR) -> Phone:
        """Enrol a telephone, and wait until it has a code that is not spent."""
        phone = self.begin_phone(user_arn, name, caller)
        self.confirm(phone, caller)
        self.clock.advance(60)
        return phone

    def register(self, key: Ctap2Key | U2fKey, options_json: str, *, pin: str | None = None) -> str:
        """Have a key answer creation options."""
        with plugged_client(key, pin) as client:
            response = client.make_credential(json.loads(options_json))
        return json.dumps(dict(response))

    def enrol_key(
        self,
        key: Ctap2Key | U2fKey,
        user_arn: str = ADA,
        name: str = "key",
        caller: Caller = ADMINISTRATOR,
        pin: str | None = None,
    ) -> Device:
        """Enrol a key."""
        ceremony = self.services.ceremonies.begin(caller, user_arn, name)
        response = self.register(key, ceremony.options_json, pin=pin)
        return self.services.ceremonies.finish(caller, ceremony.ceremony_id, response)

    def assertion(self, key: Ctap2Key | U2fKey, opened: OpenedChallenge, *, pin: str | None = None) -> str:
        """Have a key answer request options."""
        with plugged_client(key, pin) as client:
            response = client.get_assertion(json.loads(opened.options_json)).get_response(0)
        return json.dumps(dict(response))


class plugged_client:  # noqa: N801 - used as a function
    """A client that talks to one key, for the length of the block."""

    def __init__(self, key: Ctap2Key | U2fKey, pin: str | None) -> None:
        self._device = plug(key)
        self._person = SilentPerson(pin)

    def __enter__(self) -> Fido2Client:
        return Fido2Client(
            self._device,
            client_data_collector=DefaultClientDataCollector(ORIGIN),
            user_interaction=self._person,
        )

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._device.close()
