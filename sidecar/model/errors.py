# SPDX-License-Identifier: Apache-2.0
"""
The error tree, and the problems that a source of policies can have.

::

    SidecarError                  carries ``reason``: snake_case, stable, unique
    |- PolicyError                the author's fault; the last good snapshot stays
    |  |- PolicySyntaxError       carries every ``Problem`` found, not the first
    |  `- ImageError              a compiled image is damaged or foreign
    |- RequestError               the caller's fault; names the field
    |  |- DocumentRefusedError    carries every ``Problem`` found, not the first
    |  `- TicketInvalidError      a step-up ticket is none
    |- MfaError                   a second factor did not hold
    |  |- ResponseTooLargeError … SignCountRegressedError    a WebAuthn response, step by step
    |  |- AttestationError        how an authenticator describes itself, and whether that is believed
    |  |- MetadataError           the FIDO metadata that an operator provides
    |  |- CodeMismatchError, CodeReplayedError, CodesNotConsecutiveError, TotpSecretError    TOTP
    |  |- RecoveryCodeMismatchError
    |  `- U2fRegistrationMalformedError
    |- AuthenticationError        who calls could not be established
    |  `- SessionInvalidError, SessionExpiredError, SessionRevokedError, SessionUnverifiableError
    |- PermissionDeniedError      who calls is known and may not
    |  |- TicketForeignError      a step-up ticket was given to another session
    |  |- StepUpRequiredError     and may once a second factor is proved
    |  `- FreshProofRequiredError and may once a device has just been proved in this session
    |- NotFoundError              what is named is not there
    |- AlreadyExistsError         what would be made is there already
    |- PreconditionError          it cannot be done as things stand
    |  `- TicketExpiredError      a step-up ticket is over
    |- LimitExceededError         there would be more of something than there may be
    |- ThrottledError             too many failures; later, or once an administrator has said so
    |- SettingsError              a setting of the operator cannot be used
    |- SourceUnavailableError     a source of policies or facts is out of reach
    `- InternalError              ``public`` is for the caller, ``cause`` for the log
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from sidecar.model.decision import MfaRequirement

_reasons: dict[str, type[SidecarError]] = {}


class SidecarError(Exception):
    """
    Root of every error this project raises on purpose.

    The text is lower case, one line, without a full stop; what would mend it is in ``help``.
    """

    reason: ClassVar[str] = "error"

    def __init__(self, message: str, *, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.help = help

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "reason" not in cls.__dict__:
            raise TypeError(f"{cls.__name__} states no reason of its own")
        other = _reasons.setdefault(cls.reason, cls)
        if other.__qualname__ != cls.__qualname__:
            raise TypeError(f"reason {cls.reason!r} belongs to {other.__name__} already")


class Severity(StrEnum):
    """Whether a problem keeps a source from being used."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing wrong in a source: where it is, what it is, and how to mend it.

    Attributes:
        severity: An error refuses the whole source; a warning does not.
        file: Path of the file inside the source, as the operator wrote it.
        json_path: JSON path inside the file, such as ``$.Statement[0].Action``.
        message: What is wrong, in one line, user input in backticks.
        help: How to mend it.
    """

    severity: Severity
    file: str
    json_path: str
    message: str
    help: str = ""

    def __str__(self) -> str:
        text = f"{self.file}: {self.json_path}: {self.severity}: {self.message}"
        return f"{text} ({self.help})" if self.help else text


class PolicyError(SidecarError):
    """The author of a policy or a source made a mistake."""

    reason = "policy_error"


class PolicySyntaxError(PolicyError):
    """A source was refused; ``problems`` holds everything that was found."""

    reason = "policy_invalid"

    def __init__(self, message: str, *, problems: Iterable[Problem], help: str = "") -> None:
        super().__init__(message, help=help)
        self.problems = tuple(problems)


class ImageError(PolicyError):
    """A compiled image is damaged, truncated or of another format version."""

    reason = "image_invalid"


class RequestError(SidecarError):
    """
    A request is malformed.

    Attributes:
        field: Path of the field in the request message, such as ``requests[3].action``.
    """

    reason = "request_invalid"

    def __init__(self, message: str, *, field: str = "", help: str = "") -> None:
        super().__init__(message, help=help)
        self.field = field


class DocumentRefusedError(RequestError):
    """A document that a command was given was refused; ``problems`` holds everything that was found."""

    reason = "document_refused"

    def __init__(self, message: str, *, problems: Iterable[Problem], help: str = "") -> None:
        super().__init__(message, help=help)
        self.problems = tuple(problems)


class TicketInvalidError(RequestError):
    """A step-up ticket is none of ours, or its seal is broken."""

    reason = "step_up_ticket_invalid"


class MfaError(SidecarError):
    """A second factor did not hold; the caller is told no more than that."""

    reason = "mfa_failed"


# What a WebAuthn response can be refused for, in the order in which it is looked at.
class ResponseTooLargeError(MfaError):
    """A WebAuthn response, or a part of one, is longer than any that an authenticator makes."""

    reason = "response_too_large"


class ResponseMalformedError(MfaError):
    """A WebAuthn response lacks a member, or has one of the wrong type."""

    reason = "response_malformed"


class EncodingInvalidError(MfaError):
    """Text is not base64url without padding, or has more than one spelling."""

    reason = "encoding_invalid"


class DuplicateKeyError(MfaError):
    """A JSON or CBOR map has the same key twice, so that two readers could see two values."""

    reason = "duplicate_key"


class CredentialTypeError(MfaError):
    """The type of a credential is not ``public-key``."""

    reason = "credential_type_mismatch"


class CredentialIdInvalidError(MfaError):
    """A credential id is empty, or longer than 1023 bytes."""

    reason = "credential_id_invalid"


class CredentialIdMismatchError(MfaError):
    """The ids of one credential differ from place to place."""

    reason = "credential_id_mismatch"


class CredentialNotAllowedError(MfaError):
    """The credential is none of those that were asked for."""

    reason = "credential_not_allowed"


class CredentialAlreadyRegisteredError(MfaError):
    """The credential id belongs to a credential that is known already."""

    reason = "credential_already_registered"


class UserHandleMismatchError(MfaError):
    """The user handle is that of another user."""

    reason = "user_handle_mismatch"


class ClientDataMalformedError(MfaError):
    """The client data is not the JSON object that it has to be."""

    reason = "client_data_malformed"


class CeremonyTypeMismatchError(MfaError):
    """The client data belongs to the other kind of ceremony."""

    reason = "ceremony_type_mismatch"


class ChallengeMismatchError(MfaError):
    """The challenge is not the one that was given out."""

    reason = "challenge_mismatch"


class OriginMismatchError(MfaError):
    """The origin is none of those that are expected, letter for letter."""

    reason = "origin_mismatch"


class CrossOriginError(MfaError):
    """The ceremony ran in a frame of another origin, which is not allowed here."""

    reason = "cross_origin_not_allowed"


class TopOriginMismatchError(MfaError):
    """The page around the frame is none of those that are expected."""

    reason = "top_origin_mismatch"


class TokenBindingInvalidError(MfaError):
    """The token binding in the client data has no valid shape."""

    reason = "token_binding_invalid"


class CborMalformedError(MfaError):
    """CBOR is cut short, too deep, or uses a form that no authenticator may use."""

    reason = "cbor_malformed"


class AttestationObjectMalformedError(MfaError):
    """An attestation object lacks a member, or has one of the wrong type."""

    reason = "attestation_object_malformed"


class AuthenticatorDataMalformedError(MfaError):
    """Authenticator data is cut short, has bytes left over, or flags that contradict it."""

    reason = "authenticator_data_malformed"


class AttestedDataMissingError(MfaError):
    """A registration carries no attested credential data."""

    reason = "attested_data_missing"


class AttestedDataUnexpectedError(MfaError):
    """An assertion carries attested credential data."""

    reason = "attested_data_unexpected"


class RpIdMismatchError(MfaError):
    """The authenticator data is meant for another relying party."""

    reason = "rp_id_mismatch"


class UserNotPresentError(MfaError):
    """Nobody touched the authenticator."""

    reason = "user_not_present"


class UserNotVerifiedError(MfaError):
    """The authenticator did not verify who touched it."""

    reason = "user_not_verified"


class BackupStateInvalidError(MfaError):
    """A credential claims a backup that it is not eligible for."""

    reason = "backup_state_invalid"


class BackupEligibilityChangedError(MfaError):
    """A credential's eligibility for backup is not what it was at registration."""

    reason = "backup_eligibility_changed"


class ExtensionOutputInvalidError(MfaError):
    """An extension output has the wrong type, or was not asked for."""

    reason = "extension_output_invalid"


class PublicKeyMalformedError(MfaError):
    """A public key is not a COSE key of the shape that its algorithm has."""

    reason = "public_key_malformed"


class PublicKeyInvalidError(MfaError):
    """A public key is not on its curve, or too weak to be used."""

    reason = "public_key_invalid"


class AlgorithmNotAllowedError(MfaError):
    """A public key is for an algorithm that was not offered."""

    reason = "algorithm_not_allowed"


class SignatureInvalidError(MfaError):
    """A signature was not made by the credential's private key over this data."""

    reason = "signature_invalid"


class SignCountRegressedError(MfaError):
    """A sign counter did not rise, so that there may be a copy of the authenticator."""

    reason = "sign_count_regressed"


# Attestation.
class AttestationError(MfaError):
    """An attestation did not hold."""

    reason = "attestation_invalid"


class AttestationFormatUnknownError(AttestationError):
    """The format of an attestation statement is none that is known here."""

    reason = "attestation_format_unknown"


class AttestationStatementMalformedError(AttestationError):
    """An attestation statement is not of the shape that its format has."""

    reason = "attestation_statement_malformed"


class AttestationSignatureInvalidError(AttestationError):
    """The signature of an attestation statement does not fit its key and its data."""

    reason = "attestation_signature_invalid"


class AttestationCertificateError(AttestationError):
    """An attestation certificate cannot be read, or lacks what its format asks for."""

    reason = "attestation_certificate_invalid"


class AttestationMismatchError(AttestationError):
    """An attestation statement speaks of another key, ceremony or authenticator model."""

    reason = "attestation_mismatch"


class AttestationNotAcceptedError(AttestationError):
    """The kind of attestation is not enough for this deployment, or not one that the model makes."""

    reason = "attestation_not_accepted"


class AttestationUntrustedError(AttestationError):
    """An attestation certificate does not lead to a trusted root."""

    reason = "attestation_untrusted"


class AttestationExpiredError(AttestationError):
    """A certificate of an attestation is not valid at this time."""

    reason = "attestation_expired"


class AaguidNotListedError(AttestationError):
    """The authenticator model is not one that this deployment accepts."""

    reason = "aaguid_not_listed"


class AuthenticatorRevokedError(AttestationError):
    """The FIDO metadata says that the authenticator model is compromised or revoked."""

    reason = "authenticator_revoked"


# FIDO metadata, as an operator provides it.
class MetadataError(MfaError):
    """FIDO metadata cannot be used."""

    reason = "metadata_invalid"


class MetadataMalformedError(MetadataError):
    """A metadata file is not a signed metadata BLOB of the FIDO Metadata Service."""

    reason = "metadata_malformed"


class MetadataSignatureInvalidError(MetadataError):
    """The signature of a metadata file does not hold."""

    reason = "metadata_signature_invalid"


class MetadataUntrustedError(MetadataError):
    """The certificates of a metadata file do not lead to the trusted root."""

    reason = "metadata_untrusted"


class MetadataCertificateRevokedError(MetadataError):
    """A certificate that signed a metadata file was revoked."""

    reason = "metadata_certificate_revoked"


class MetadataExpiredError(MetadataError):
    """A metadata file is past the date at which a newer one was due."""

    reason = "metadata_expired"


class MetadataRolledBackError(MetadataError):
    """A metadata file is older than one that was in use before."""

    reason = "metadata_rolled_back"


# Codes.
class CodeMismatchError(MfaError):
    """No time step that is accepted yields the code."""

    reason = "code_mismatch"


class CodeMalformedError(CodeMismatchError):
    """A code is not six ASCII digits."""

    reason = "code_malformed"


class CodeReplayedError(MfaError):
    """The code's time step was used up before."""

    reason = "code_replayed"


class CodesNotConsecutiveError(CodeMismatchError):
    """Two codes do not follow each other within the window."""

    reason = "codes_not_consecutive"


class TotpSecretError(MfaError):
    """A TOTP secret is too short or too long to be used."""

    reason = "totp_secret_invalid"


class RecoveryCodeMismatchError(MfaError):
    """The recovery code is none of those that are left."""

    reason = "recovery_code_mismatch"


class RecoveryCodeMalformedError(RecoveryCodeMismatchError):
    """A text is not of the shape of a recovery code."""

    reason = "recovery_code_malformed"


class U2fRegistrationMalformedError(MfaError):
    """A U2F registration cannot be read."""

    reason = "u2f_registration_malformed"


class AuthenticationError(SidecarError):
    """The call carries no credential, or one that is not known here."""

    reason = "unauthenticated"


class SessionInvalidError(AuthenticationError):
    """A session token is not one of ours, its seal is broken, or its principal is gone."""

    reason = "session_invalid"


class SessionExpiredError(AuthenticationError):
    """A session is over."""

    reason = "session_expired"


class SessionRevokedError(AuthenticationError):
    """A session was ended before its time."""

    reason = "session_revoked"


class SessionUnverifiableError(AuthenticationError):
    """Whether a session was revoked cannot be known: the store has been out of reach for too long."""

    reason = "session_unverifiable"


class PermissionDeniedError(SidecarError):
    """The caller is known and is not allowed to make this call."""

    reason = "permission_denied"


class TicketForeignError(PermissionDeniedError):
    """A step-up ticket was given to another session than the one that shows it."""

    reason = "step_up_ticket_foreign"


class FreshProofRequiredError(PermissionDeniedError):
    """The caller may, once one of their devices has just been proved in this session."""

    reason = "fresh_proof_required"


class StepUpRequiredError(PermissionDeniedError):
    """
    The caller may not, and may once a second factor is proved.

    Attributes:
        requirement: What has to be proved.
    """

    reason = "mfa_required"

    def __init__(self, message: str, *, requirement: MfaRequirement, help: str = "") -> None:
        super().__init__(message, help=help)
        self.requirement = requirement


class NotFoundError(SidecarError):
    """What the caller names is not there."""

    reason = "not_found"


class AlreadyExistsError(SidecarError):
    """What the caller would make is there already."""

    reason = "already_exists"


class PreconditionError(SidecarError):
    """The call is a good one, but not as things stand."""

    reason = "failed_precondition"


class TicketExpiredError(PreconditionError):
    """A step-up ticket is over."""

    reason = "step_up_ticket_expired"


class LimitExceededError(SidecarError):
    """There would be more of something than there may be."""

    reason = "limit_exceeded"


class ThrottledError(SidecarError):
    """Too many proofs have failed; the next one has to wait, for a time or for an administrator."""

    reason = "throttled"


class SettingsError(SidecarError):
    """A flag, environment variable or configuration key has a value that cannot be used."""

    reason = "settings_invalid"


class SourceUnavailableError(SidecarError):
    """A policy source, store or sink cannot be reached at the moment."""

    reason = "source_unavailable"


class InternalError(SidecarError):
    """
    A fault of our own.

    Attributes:
        message: Safe to show to the caller.
        cause: What happened, for the log alone.
    """

    reason = "internal"

    def __init__(self, public: str, *, cause: BaseException | str) -> None:
        super().__init__(public)
        self.cause = cause
