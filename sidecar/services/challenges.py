# SPDX-License-Identifier: Apache-2.0
"""
Challenges: a person is asked to prove a device, once, for one session, within five minutes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_bytes, token_urlsafe

from sqlalchemy import Connection

from sidecar.mfa.credential import Assertion
from sidecar.mfa.recovery import SALT_BYTES, hash_recovery_code
from sidecar.mfa.response import read_assertion_response
from sidecar.mfa.webauthn import verify_assertion
from sidecar.model.challenge import ALL_METHODS, ChallengeState, StepUpTicket
from sidecar.model.decision import MfaMethod
from sidecar.model.errors import (
    CredentialNotAllowedError,
    LimitExceededError,
    RecoveryCodeMismatchError,
    RequestError,
    SignCountRegressedError,
    UserNotVerifiedError,
)
from sidecar.services.callers import Caller, is_id, parse_user
from sidecar.services.codes import TotpCodes
from sidecar.services.credential_record import credential_of, record_of
from sidecar.services.mfa_journal import Change, Factor, MfaJournal
from sidecar.services.refusals import ChallengeClosedError, DeviceSuspectError, MethodNotEnoughError
from sidecar.services.relying_party import RelyingParty
from sidecar.services.store import challenges as rows
from sidecar.services.store import devices as device_rows
from sidecar.services.store import recovery as recovery_rows
from sidecar.services.store.challenges import Challenge
from sidecar.services.store.devices import KeyDevice
from sidecar.services.store.engine import Store
from sidecar.services.throttles import Throttles

#: Time in which a challenge has to be answered, and its proof collected.
CHALLENGE_MS = 5 * 60 * 1000
#: Challenges that a user may be asked within ten minutes: nobody is worn down by prompts.
MAX_PROMPTS, PROMPTS_MS = 10, 10 * 60 * 1000
#: How long an ended challenge is kept.
_KEPT_MS = 60 * 60 * 1000
#: Letters of the code that a person compares: none that look alike, no vowels that could make a word.
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_RECOVERY_METHOD = "recovery"
_MAX_ACTION, _MAX_RESOURCE = 256, 2048


@dataclass(frozen=True, slots=True)
class TotpAnswer:
    """A code of an authenticator app or a token."""

    code: str


@dataclass(frozen=True, slots=True)
class AssertionAnswer:
    """What a security key signed, as WebAuthn Level 3 JSON."""

    response_json: str


@dataclass(frozen=True, slots=True)
class RecoveryAnswer:
    """A recovery code."""

    code: str


Answer = TotpAnswer | AssertionAnswer | RecoveryAnswer


@dataclass(frozen=True, slots=True)
class OpenedChallenge:
    """
    A challenge with what a browser needs to answer it.

    Attributes:
        options_json: WebAuthn request options; empty where the user has no key.
    """

    challenge: Challenge
    options_json: str


@dataclass(frozen=True, slots=True)
class Proof:
    """
    What a session has proved.

    Attributes:
        method: ``totp``, ``webauthn``, ``u2f`` or ``recovery``.
        serial_number: Of the device; empty for a recovery code.
        action: What the proof holds for alone; empty for everything.
    """

    user_arn: str
    session: str
    method: str
    serial_number: str
    user_verified: bool
    proved_at_ms: int
    action: str
    resource: str


class ChallengeService:
    """
    Asks for proofs and judges them.

    A proof and what it spends (a time step, a recovery code, the challenge itself) are written in one transaction,
    before anybody is told of success.

    Thread-safety: that of the store.
    """

    def __init__(
        self,
        *,
        store: Store,
        codes: TotpCodes,
        throttles: Throttles,
        journal: MfaJournal,
        relying_party: RelyingParty,
        now: Callable[[], int],
        new_bytes: Callable[[int], bytes] = token_bytes,
        new_id: Callable[[int], str] = token_urlsafe,
    ) -> None:
        """
        Args:
            now: Gives nanoseconds since the epoch.
            new_bytes: Gives as many random bytes.
            new_id: Gives URL-safe text of as many random bytes.
        """
        self._store = store
        self._codes = codes
        self._throttles = throttles
        self._journal = journal
        self._party = relying_party
        self._now = now
        self._new_bytes = new_bytes
        self._new_id = new_id

    def begin(
        self,
        caller: Caller,
        user_arn: str,
        session: str,
        *,
        action: str = "",
        resource: str = "",
        require_user_verification: bool = False,
        ticket: StepUpTicket | None = None,
    ) -> OpenedChallenge:
        """
        Open a challenge for a session of a user; one that is open already is closed.

        Args:
            caller: Who asks, which the person is shown.
            session: The one that the proof will belong to.
            action: What the proof holds for alone; empty for everything.
            ticket: What it is made from. The same ticket gives the same challenge, however that stands now.

        Raises:
            RequestError: That is no user, or action and resource are too long.
            LimitExceededError: The user was asked too often.
        """
        parse_user(user_arn)
        for field, text, limit in (("action", action, _MAX_ACTION), ("resource", resource, _MAX_RESOURCE)):
            if len(text) > limit:
                raise RequestError(f"`{field}` is longer than {limit} letters", field=field)
            if "\0" in text:
                raise RequestError(f"`{field}` holds a zero byte", field=field)
        now_ms = self._now_ms()
        challenge = Challenge(
            challenge_id=self._new_id(32),
            user_arn=user_arn,
            session=session,
            action=action,
            resource=resource,
            require_user_verification=require_user_verification,
            webauthn_challenge=self._new_bytes(32),
            user_code=self._new_user_code(),
            state=ChallengeState.OPEN,
            expires_at_ms=now_ms + CHALLENGE_MS,
            asked_by=caller.name,
            asked_from=caller.peer,
            shown_action=action if ticket is None else ticket.action,
            shown_resource=resource if ticket is None else ticket.resource,
            return_address="" if ticket is None else ticket.return_address,
            methods=sum(1 << method for method in (ALL_METHODS if ticket is None else ticket.methods)),
            ticket_digest=None if ticket is None else ticket.digest,
        )
        is_open = False
        while not is_open:
            with self._store.write() as connection:
                rows.delete_before(connection, now_ms - _KEPT_MS)
                if ticket is not None:
                    redeemed = rows.find_by_ticket(connection, ticket.digest, now_ms)
                    if redeemed is not None:
                        keys = device_rows.list_keys(connection, user_arn)
                        return OpenedChallenge(redeemed, self._options_json(redeemed, keys))
                if rows.count_begun(connection, user_arn, now_ms - PROMPTS_MS) >= MAX_PROMPTS:
                    raise LimitExceededError(
                        f"the user was asked {MAX_PROMPTS} times within ten minutes", help="try again later"
                    )
                is_open = rows.open_challenge(connection, challenge, now_ms)
                keys = device_rows.list_keys(connection, user_arn)
        self._journal.changed(caller, Change.CHALLENGE_BEGUN, user_arn=user_arn, note=_purpose(challenge))
        return OpenedChallenge(challenge, self._options_json(challenge, keys))

    def options_json(self, challenge: Challenge) -> str:
        """Return WebAuthn request options by the keys that the user has now; empty where there are none."""
        with self._store.read() as connection:
            keys = device_rows.list_keys(connection, challenge.user_arn)
        return self._options_json(challenge, keys)

    def find(self, challenge_id: str) -> Challenge | None:
        """Return a challenge as it stands; None where there is none."""
        if not is_id(challenge_id):
            return None
        with self._store.read() as connection:
            return rows.find(connection, challenge_id, self._now_ms())

    def ticket_refused(self, caller: Caller, reason: str) -> None:
        """Tell of a ticket that was not redeemed."""
        self._journal.changed(caller, Change.TICKET_REFUSED, note=reason)

    def refuse(self, caller: Caller, challenge_id: str) -> None:
        """
        Close a challenge because the person says no.

        Raises:
            MfaError: It is not open.
        """
        if not is_id(challenge_id):
            raise self.closed(caller, None)
        with self._store.write() as connection:
            challenge = rows.find(connection, challenge_id, self._now_ms())
            is_closed = challenge is not None and rows.close_refused(connection, challenge_id, self._now_ms())
        if challenge is None or not is_closed:
            raise self.closed(caller, challenge)
        self._journal.changed(caller, Change.CHALLENGE_REFUSED, user_arn=challenge.user_arn, note=_purpose(challenge))

    def answer(self, caller: Caller, challenge_id: str, answer: Answer) -> Proof:
        """
        Close a challenge with a proof, and return what was proved.

        Raises:
            MfaError: It was not proved, or the challenge is not open (any more).
            ThrottledError: Too many proofs of the user have failed.
        """
        challenge = self.find(challenge_id)
        if challenge is None or challenge.state is not ChallengeState.OPEN:
            raise self.closed(caller, challenge)
        factor = _FACTORS[type(answer)]
        with self._throttles.attempt(caller, challenge.user_arn, factor, "answer_challenge"):
            if isinstance(answer, TotpAnswer):
                proof = self._prove_totp(challenge, answer.code)
            elif isinstance(answer, AssertionAnswer):
                proof = self._prove_key(caller, challenge, answer.response_json)
            else:
                proof = self._prove_recovery(challenge, answer.code)
        self._journal.accepted(
            caller, factor, "answer_challenge", user_arn=proof.user_arn, serial_number=proof.serial_number
        )
        return proof

    def collect(self, caller: Caller, challenge_id: str) -> Proof:
        """
        Take the proof of a challenge that was answered elsewhere; once, for the session that opened it.

        Raises:
            MfaError: There is no proof to take.
        """
        if not is_id(challenge_id):
            raise self.closed(caller, None)
        with self._store.write() as connection:
            challenge = rows.collect(connection, challenge_id, session=caller.session, now_ms=self._now_ms())
        if challenge is None:
            raise self.closed(caller, None)
        self._journal.changed(
            caller,
            Change.PROOF_COLLECTED,
            user_arn=challenge.user_arn,
            serial_number=challenge.serial_number or "",
            note=_purpose(challenge),
        )
        return _proof_of(challenge)

    def _prove_totp(self, challenge: Challenge, code: str) -> Proof:
        _require_method(challenge, MfaMethod.TOTP)
        if challenge.require_user_verification:
            raise UserNotVerifiedError("a code does not say who typed it")
        match = self._codes.match(challenge.user_arn, code, now_ms=self._now_ms())
        serial_number, now_ms = match.serial_number, match.now_ms
        with self._store.write() as connection:
            self._codes.spend(connection, match)
            self._close(connection, challenge, "totp", serial_number, user_verified=False, now_ms=now_ms)
        return _proof(challenge, "totp", serial_number, user_verified=False, now_ms=now_ms)

    def _prove_key(self, caller: Caller, challenge: Challenge, response_json: str) -> Proof:
        credential_id = read_assertion_response(response_json).credential_id
        with self._store.read() as connection:
            keys = device_rows.list_keys(connection, challenge.user_arn)
        device = next((key for key in keys if key.credential_id == credential_id), None)
        if device is None:
            raise CredentialNotAllowedError("the user has no such credential")
        _require_method(challenge, MfaMethod[device.device.kind.upper()])
        serial_number = device.device.serial_number
        if device.device.suspect_since_ms is not None and not self._party.allows_sign_count_regression:
            raise DeviceSuspectError("the device may have been copied")
        credential = credential_of(device.record, credential_id=credential_id, sign_count=device.sign_count)
        assertion = verify_assertion(
            response=response_json,
            credential=credential,
            expected_challenge=challenge.webauthn_challenge,
            expected_origins=self._party.origins,
            expected_rp_id=self._party.id,
            require_user_verification=challenge.require_user_verification or self._party.requires_user_verification,
            allow_sign_count_regression=True,
        )
        now_ms = self._now_ms()
        try:
            return self._close_by_key(challenge, device, assertion, now_ms)
        except SignCountRegressedError:
            # Somebody uses a copy: the signature itself is a good one.
            self._suspect(caller, device, now_ms)
            if not self._party.allows_sign_count_regression:
                raise
        kind, is_verified = device.device.kind, assertion.user_verified
        with self._store.write() as connection:
            self._close(connection, challenge, kind, serial_number, user_verified=is_verified, now_ms=now_ms)
            device_rows.touch(connection, serial_number, now_ms)
        return _proof(challenge, kind, serial_number, user_verified=is_verified, now_ms=now_ms)

    def _close_by_key(self, challenge: Challenge, device: KeyDevice, assertion: Assertion, now_ms: int) -> Proof:
        """Close the challenge and store the new counter, both or neither."""
        if assertion.sign_count_regressed:
            raise SignCountRegressedError("the sign counter did not rise")
        kind, serial_number = device.device.kind, device.device.serial_number
        is_verified = assertion.user_verified
        credential = credential_of(device.record, credential_id=device.credential_id, sign_count=assertion.sign_count)
        record = record_of(
            dataclasses.replace(
                credential,
                backed_up=assertion.backed_up,
                user_verified=credential.user_verified or assertion.user_verified,
            )
        )
        with self._store.write() as connection:
            # The challenge goes first: whoever sends the same answer twice is no copy of the device.
            self._close(connection, challenge, kind, serial_number, user_verified=is_verified, now_ms=now_ms)
            if not device_rows.advance_sign_count(
                connection, serial_number, sign_count=assertion.sign_count, record=record, now_ms=now_ms
            ):
                raise SignCountRegressedError("the sign counter was passed by another assertion")
        return _proof(challenge, kind, serial_number, user_verified=is_verified, now_ms=now_ms)

    def _suspect(self, caller: Caller, device: KeyDevice, now_ms: int) -> None:
        with self._store.write() as connection:
            is_news = device_rows.mark_suspect(connection, device.device.serial_number, now_ms)
        if is_news:
            self._journal.changed(
                caller,
                Change.DEVICE_SUSPECTED,
                user_arn=device.device.user_arn,
                serial_number=device.device.serial_number,
                kind=device.device.kind,
            )

    def _prove_recovery(self, challenge: Challenge, code: str) -> Proof:
        _require_method(challenge, MfaMethod.RECOVERY)
        if challenge.require_user_verification:
            raise UserNotVerifiedError("a recovery code does not say who typed it")
        now_ms = self._now_ms()
        with self._store.read() as connection:
            salt = recovery_rows.find_salt(connection, challenge.user_arn)
        # A user without codes takes as long as one with.
        digest = hash_recovery_code(code, salt=salt or bytes(SALT_BYTES))
        with self._store.write() as connection:
            if salt is None or not recovery_rows.spend_code(connection, challenge.user_arn, digest, now_ms):
                raise RecoveryCodeMismatchError("the user has no such code, or it was used")
            self._close(connection, challenge, _RECOVERY_METHOD, "", user_verified=False, now_ms=now_ms)
        return _proof(challenge, _RECOVERY_METHOD, "", user_verified=False, now_ms=now_ms)

    def _close(
        self,
        connection: Connection,
        challenge: Challenge,
        method: str,
        serial_number: str,
        *,
        user_verified: bool,
        now_ms: int,
    ) -> None:
        """Close the challenge inside the transaction that spends what proved it."""
        if not rows.close_proved(
            connection,
            challenge.challenge_id,
            method=method,
            serial_number=serial_number,
            user_verified=user_verified,
            now_ms=now_ms,
        ):
            raise ChallengeClosedError("somebody else closed the challenge, or its time is over")

    def closed(self, caller: Caller, challenge: Challenge | None) -> ChallengeClosedError:
        """Return the error for a challenge that is not open, or not the caller's, and tell of it."""
        error = ChallengeClosedError("there is no such open challenge")
        user_arn = "" if challenge is None else challenge.user_arn
        self._journal.refused(caller, Factor.NONE, "answer_challenge", error, user_arn=user_arn)
        return error

    def _options_json(self, challenge: Challenge, keys: list[KeyDevice]) -> str:
        credentials = [
            credential_of(key.record, credential_id=key.credential_id, sign_count=key.sign_count)
            for key in keys
            if takes_method(challenge, MfaMethod[key.device.kind.upper()])
        ]
        if not credentials or challenge.state is not ChallengeState.OPEN:
            return ""
        return self._party.request_options_json(
            challenge.webauthn_challenge,
            known=credentials,
            require_user_verification=challenge.require_user_verification,
        )

    def _new_user_code(self) -> str:
        # 240 is a multiple of the twenty letters: bytes from there on would make some letters likelier than others.
        letters = ""
        while len(letters) < 8:
            letters += "".join(_LETTERS[byte % 20] for byte in self._new_bytes(8) if byte < 240)
        return f"{letters[:4]}-{letters[4:8]}"

    def _now_ms(self) -> int:
        return self._now() // 1_000_000


def _proof(challenge: Challenge, method: str, serial_number: str, *, user_verified: bool, now_ms: int) -> Proof:
    return Proof(
        user_arn=challenge.user_arn,
        session=challenge.session,
        method=method,
        serial_number=serial_number,
        user_verified=user_verified,
        proved_at_ms=now_ms,
        action=challenge.action,
        resource=challenge.resource,
    )


def takes_method(challenge: Challenge, method: MfaMethod) -> bool:
    """Say whether a proof with *method* will do."""
    return bool(challenge.methods >> method & 1)


def _require_method(challenge: Challenge, method: MfaMethod) -> None:
    """Refuse what policies do not count, before it is spent."""
    if not takes_method(challenge, method):
        raise MethodNotEnoughError(f"policies do not count `{method.word}` for this")


def _purpose(challenge: Challenge) -> str:
    """Return what a challenge is for, as the audit trail has it; empty for every call."""
    if challenge.action:
        return f"{challenge.action} on {challenge.resource}"
    # The proof holds for every call; the person was asked because of this one.
    return f"{challenge.shown_action} on {challenge.shown_resource}, for every call" if challenge.shown_action else ""


def _proof_of(challenge: Challenge) -> Proof:
    """Return the proof of a challenge that is proved."""
    return _proof(
        challenge,
        challenge.method or "",
        challenge.serial_number or "",
        user_verified=bool(challenge.user_verified),
        now_ms=challenge.proved_at_ms or 0,
    )


_FACTORS: dict[type[Answer], Factor] = {
    TotpAnswer: Factor.TOTP,
    AssertionAnswer: Factor.KEY,
    RecoveryAnswer: Factor.RECOVERY,
}
