# SPDX-License-Identifier: Apache-2.0
"""
The two ceremonies of WebAuthn, each checked in the order in which the standard lists its steps (Level 3, 7.1 and 7.2).

A function here keeps nothing. Its caller gives out challenges and spends them, stores credentials and their counters,
and owns the clock.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Container, Mapping

from sidecar.mfa import cbor
from sidecar.mfa.attestation import Given, verify_statement
from sidecar.mfa.authenticator_data import AttestedData, AuthenticatorData, read_authenticator_data
from sidecar.mfa.client_data import CREATE, GET, read_client_data, verify_client_data
from sidecar.mfa.cose import DEFAULT_ALGORITHMS, PublicKey, load_public_key, read_public_key, refuse_weak_point
from sidecar.mfa.credential import Assertion, Attestation, AttestationType, Credential
from sidecar.mfa.policy import RECORD_ONLY, AttestationMode, AttestationPolicy, evaluate
from sidecar.mfa.response import read_assertion_response, read_registration_response
from sidecar.model.errors import (
    AlgorithmNotAllowedError,
    AttestationObjectMalformedError,
    AttestedDataMissingError,
    AttestedDataUnexpectedError,
    AuthenticatorDataMalformedError,
    BackupEligibilityChangedError,
    BackupStateInvalidError,
    CredentialAlreadyRegisteredError,
    CredentialIdMismatchError,
    CredentialNotAllowedError,
    ExtensionOutputInvalidError,
    RpIdMismatchError,
    SignCountRegressedError,
    UserHandleMismatchError,
    UserNotPresentError,
    UserNotVerifiedError,
)

#: Names of the two extensions that stand for the U2F API.
_APPID = "appid"


def verify_registration(
    *,
    response: str | bytes | Mapping[str, object],
    expected_challenge: bytes,
    expected_origins: Collection[str],
    expected_rp_id: str,
    require_user_verification: bool = False,
    allow_cross_origin: bool = False,
    expected_top_origins: Collection[str] | None = None,
    allowed_algorithms: Container[int] = DEFAULT_ALGORITHMS,
    requested_extensions: Container[str] | None = None,
    attestation_policy: AttestationPolicy = RECORD_ONLY,
    registered_credential_ids: Container[bytes] = (),
    user_handle: bytes | None = None,
    now: float | None = None,
) -> Credential:
    """
    Return the credential that a registration gives, to be stored for the user that asked for it.

    Args:
        response: ``RegistrationResponseJSON`` of WebAuthn Level 3, as text or parsed.
        expected_challenge: As it was given out. The caller spends it before this call, whatever comes of it.
        expected_origins: Compared letter for letter.
        expected_rp_id: A host name.
        require_user_verification: Refuse an authenticator that did not ask for a PIN or the like.
        allow_cross_origin: Accept a ceremony in a frame of another origin.
        expected_top_origins: Pages that may be around that frame; None allows any.
        allowed_algorithms: COSE algorithms that were offered.
        requested_extensions: Extensions that were asked for; others are refused. None lets browsers add theirs.
        attestation_policy: What the authenticator has to prove about itself.
        registered_credential_ids: Of all users. A caller whose store refuses duplicates by itself may leave it out.
        user_handle: Of the user, to be kept with the credential.
        now: Seconds since the epoch; needed where *attestation_policy* has roots or metadata.

    Raises:
        MfaError: A subclass that says which step failed. Nothing else, whatever the bytes.
    """
    # SPEC: WebAuthn Level 3, section 7.1, steps 3 and 4.
    given = read_registration_response(response)
    # SPEC: WebAuthn Level 3, section 7.1, steps 5 to 11.
    verify_client_data(
        read_client_data(given.client_data),
        expected_type=CREATE,
        expected_challenge=expected_challenge,
        expected_origins=expected_origins,
        allow_cross_origin=allow_cross_origin,
        expected_top_origins=expected_top_origins,
    )
    # SPEC: WebAuthn Level 3, section 7.1, step 12.
    client_data_hash = hashlib.sha256(given.client_data).digest()
    # SPEC: WebAuthn Level 3, section 7.1, step 13.
    fmt, statement, raw = _read_attestation_object(given.attestation_object)
    data = read_authenticator_data(raw)
    if given.authenticator_data is not None and given.authenticator_data != raw:
        raise AuthenticatorDataMalformedError("`response.authenticatorData` is not that of the attestation object")
    # SPEC: WebAuthn Level 3, section 7.1, steps 14 to 17.
    _verify_rp_id(data, expected_rp_id)
    _verify_flags(data, require_user_verification=require_user_verification)
    if data.attested is None:
        raise AttestedDataMissingError("the authenticator data holds no credential")
    # The id outside is what a client will ask for next time, and nobody signs it.
    if not hmac.compare_digest(given.credential_id, data.attested.credential_id):
        raise CredentialIdMismatchError("`id` is not that of the authenticator data")
    # SPEC: WebAuthn Level 3, section 7.1, step 20.
    key = _read_offered_key(data.attested, allowed_algorithms)
    if given.algorithm is not None and given.algorithm != key.algorithm:
        raise AlgorithmNotAllowedError("`response.publicKeyAlgorithm` is not that of the key")
    # SPEC: WebAuthn Level 3, section 7.1, steps 21 to 24.
    attestation = _verify_attestation(
        fmt, Given(statement, raw, data.rp_id_hash, data.attested, client_data_hash, key), attestation_policy, now
    )
    # SPEC: WebAuthn Level 3, section 7.1, step 25, is done where the length is read; this is step 26.
    if data.attested.credential_id in registered_credential_ids:
        raise CredentialAlreadyRegisteredError("the credential is registered already")
    # SPEC: WebAuthn Level 3, section 7.1, step 28.
    _verify_extensions(data, given.extension_results, requested_extensions)
    # SPEC: WebAuthn Level 3, section 7.1, step 27.
    return Credential(
        credential_id=data.attested.credential_id,
        public_key=data.attested.public_key,
        sign_count=data.sign_count,
        user_verified=data.user_verified,
        backup_eligible=data.backup_eligible,
        backed_up=data.backed_up,
        transports=given.transports,
        aaguid=data.attested.aaguid,
        user_handle=user_handle,
        attestation=attestation,
    )


def verify_assertion(
    *,
    response: str | bytes | Mapping[str, object],
    credential: Credential,
    expected_challenge: bytes,
    expected_origins: Collection[str],
    expected_rp_id: str,
    require_user_verification: bool = False,
    allow_cross_origin: bool = False,
    expected_top_origins: Collection[str] | None = None,
    allowed_credential_ids: Container[bytes] | None = None,
    expected_user_handle: bytes | None = None,
    requested_extensions: Container[str] | None = None,
    allow_sign_count_regression: bool = False,
) -> Assertion:
    """
    Return what an assertion proves, if it was made with *credential* for this challenge.

    Args:
        response: ``AuthenticationResponseJSON`` of WebAuthn Level 3, as text or parsed.
        credential: The stored record. For one with an AppID, an assertion under that AppID is accepted as well.
        expected_challenge: As it was given out. The caller spends it before this call, whatever comes of it.
        expected_origins: Compared letter for letter.
        expected_rp_id: A host name.
        require_user_verification: Refuse an authenticator that did not ask for a PIN or the like.
        allow_cross_origin: Accept a ceremony in a frame of another origin.
        expected_top_origins: Pages that may be around that frame; None allows any.
        allowed_credential_ids: Those that were asked for; None where any of the user's will do.
        expected_user_handle: Of the user; None takes the one in *credential*. Where there is neither, the caller found
            the user by other means, and a handle in the response is not compared.
        requested_extensions: Extensions that were asked for; others are refused. None lets browsers add theirs.
        allow_sign_count_regression: Report a counter that did not rise in the result, and do not refuse it.

    Raises:
        SignCountRegressedError: The signature holds, and the counter did not rise: there may be a copy.
        MfaError: Another subclass that says which step failed. Nothing else, whatever the bytes.
    """
    # SPEC: WebAuthn Level 3, section 7.2, steps 3, 4 and 7.
    given = read_assertion_response(response)
    # SPEC: WebAuthn Level 3, section 7.2, step 5.
    if allowed_credential_ids is not None and given.credential_id not in allowed_credential_ids:
        raise CredentialNotAllowedError("the credential is none of those that were asked for")
    # SPEC: WebAuthn Level 3, section 7.2, step 6.
    if not hmac.compare_digest(given.credential_id, credential.credential_id):
        raise CredentialIdMismatchError("`id` is not that of the credential")
    handle = expected_user_handle if expected_user_handle is not None else credential.user_handle
    if given.user_handle is not None and handle is not None and not hmac.compare_digest(given.user_handle, handle):
        raise UserHandleMismatchError("`response.userHandle` is that of another user")
    # SPEC: WebAuthn Level 3, section 7.2, steps 8 to 14.
    verify_client_data(
        read_client_data(given.client_data),
        expected_type=GET,
        expected_challenge=expected_challenge,
        expected_origins=expected_origins,
        allow_cross_origin=allow_cross_origin,
        expected_top_origins=expected_top_origins,
    )
    # SPEC: WebAuthn Level 3, section 7.2, step 15, and section 10.1.1: the client says which id the key was given.
    data = read_authenticator_data(given.authenticator_data)
    used_app_id = credential.app_id is not None and given.extension_results.get(_APPID) is True
    _verify_rp_id(data, credential.app_id if used_app_id and credential.app_id is not None else expected_rp_id)
    # SPEC: WebAuthn Level 3, section 7.2, steps 16 to 18.
    _verify_flags(data, require_user_verification=require_user_verification)
    # SPEC: WebAuthn Level 3, section 6.1: an assertion speaks of no new credential.
    if data.attested is not None:
        raise AttestedDataUnexpectedError("the authenticator data of an assertion holds a credential")
    # SPEC: WebAuthn Level 3, section 7.2, step 19.
    if data.backup_eligible != credential.backup_eligible:
        raise BackupEligibilityChangedError("the credential's eligibility for backup has changed")
    # SPEC: WebAuthn Level 3, section 7.2, steps 20 and 21.
    client_data_hash = hashlib.sha256(given.client_data).digest()
    load_public_key(credential.public_key).verify(given.signature, given.authenticator_data + client_data_hash)
    # SPEC: WebAuthn Level 3, section 7.2, step 22.
    regressed = bool(data.sign_count or credential.sign_count) and data.sign_count <= credential.sign_count
    if regressed and not allow_sign_count_regression:
        raise SignCountRegressedError("the sign counter did not rise")
    # SPEC: WebAuthn Level 3, section 7.2, step 23.
    _verify_extensions(data, given.extension_results, requested_extensions)
    # SPEC: WebAuthn Level 3, section 7.2, step 24, is the caller's, with this.
    return Assertion(
        sign_count=data.sign_count,
        user_verified=data.user_verified,
        backed_up=data.backed_up,
        sign_count_regressed=regressed,
        used_app_id=used_app_id,
    )


def _read_attestation_object(encoded: bytes) -> tuple[str, dict[int | str, cbor.Value], bytes]:
    found = cbor.decode(encoded)
    if not isinstance(found, dict):
        raise AttestationObjectMalformedError("the attestation object is not a map")
    fmt, statement, data = found.get("fmt"), found.get("attStmt"), found.get("authData")
    if not isinstance(fmt, str):
        raise AttestationObjectMalformedError("`fmt` is missing or not text")
    if not isinstance(statement, dict):
        raise AttestationObjectMalformedError("`attStmt` is missing or not a map")
    if not isinstance(data, bytes):
        raise AttestationObjectMalformedError("`authData` is missing or not bytes")
    return fmt, statement, data


def _verify_rp_id(data: AuthenticatorData, rp_id: str) -> None:
    if not hmac.compare_digest(data.rp_id_hash, hashlib.sha256(rp_id.encode("utf-8")).digest()):
        raise RpIdMismatchError("the authenticator data is meant for another relying party")


def _verify_flags(data: AuthenticatorData, *, require_user_verification: bool) -> None:
    # SPEC: WebAuthn Level 3, section 7.1, step 15, and 7.2, step 16. Nothing here asks for a conditional creation.
    if not data.user_present:
        raise UserNotPresentError("nobody touched the authenticator")
    # SPEC: WebAuthn Level 3, section 7.1, step 16, and 7.2, step 17.
    if require_user_verification and not data.user_verified:
        raise UserNotVerifiedError("the authenticator did not verify its user")
    # SPEC: WebAuthn Level 3, section 7.1, step 17, and 7.2, step 18.
    if data.backed_up and not data.backup_eligible:
        raise BackupStateInvalidError("the credential is backed up and not eligible for that")


def _read_offered_key(attested: AttestedData, allowed: Container[int]) -> PublicKey:
    key = read_public_key(attested.parameters)
    if key.algorithm not in allowed:
        raise AlgorithmNotAllowedError(f"algorithm {key.algorithm} was not offered")
    refuse_weak_point(key)
    return key


def _verify_attestation(fmt: str, given: Given, policy: AttestationPolicy, now: float | None) -> Attestation:
    if policy.mode is AttestationMode.IGNORE:
        return Attestation(format=fmt[:32], type=AttestationType.NOT_EVALUATED)
    # SPEC: WebAuthn Level 3, section 7.1, steps 21 and 22.
    proved = verify_statement(
        fmt,
        given,
        require_zero_u2f_aaguid=policy.require_zero_u2f_aaguid,
        require_authorizations=policy.mode is AttestationMode.REQUIRE_TRUSTED,
    )
    # SPEC: WebAuthn Level 3, section 7.1, steps 23 and 24.
    return evaluate(proved, policy, aaguid=given.attested.aaguid, algorithm=given.key.algorithm, now=now)


def _verify_extensions(data: AuthenticatorData, client: Mapping[str, object], requested: Container[str] | None) -> None:
    if requested is None:
        return
    for name in (*client, *data.extensions):
        if name not in requested:
            raise ExtensionOutputInvalidError("there is an output of an extension that was not asked for")
