# SPDX-License-Identifier: Apache-2.0
"""The cases of assertions, in the order of the list; see ``cases``."""

from __future__ import annotations

import json

from fido2 import cbor

from tests.unit.mfa.cases import Case, client, client_suite, set_member, structure
from tests.unit.mfa.forge import (
    AT,
    BE,
    BS,
    CREDENTIAL_ID,
    ED,
    UP,
    UV,
    AssertionForge,
    RegistrationForge,
    cose_key,
    private_key,
)

REQUIRED = {"require_user_verification": True}

_LIST: list[Case[AssertionForge]] = [
    Case("AssResp-1 P-1", "a valid assertion", "", dict),
    *structure("AssResp-1", ("authenticatorData", "signature")),
    Case("AssResp-1 F-20", "the signature does not hold", "signature_invalid", lambda: {"signature": bytes(70)}),
    Case("AssResp-1 F-21", "userHandle is no string", "response_malformed",
         lambda: {"edit": set_member("response", "userHandle", value=7)}),
    *client_suite("AssResp-2", "webauthn.get", "webauthn.create"),
    Case("AssResp-3 P-1", "an authenticator that does not count", "",
         lambda: {"sign_count": 0, "stored": {"sign_count": 0}}),
    Case("AssResp-3 P-2", "verified as required", "", lambda: {"flags": UP | UV, "expected": REQUIRED}),
    Case("AssResp-3 P-3", "not verified, and not required", "", lambda: {"flags": UP}),
    Case("AssResp-3 P-4", "verified, and not required", "", lambda: {"flags": UP | UV}),
    Case("AssResp-3 P-5", "not verified, as it was at registration", "",
         lambda: {"flags": UP, "stored": {"user_verified": True}}),
    Case("AssResp-3 P-6", "verified, and not at registration", "",
         lambda: {"flags": UP | UV, "stored": {"user_verified": False}}),
    Case("AssResp-3 P-7", "there are extension outputs", "",
         lambda: {"flags": UP | ED, "extensions": cbor.encode({"uvm": [[2, 4, 2]]})}),
    Case("AssResp-3 F-1", "bytes are left over", "authenticator_data_malformed", lambda: {"tail": b"\0"}),
    Case("AssResp-3 F-2", "it is meant for another relying party", "rp_id_mismatch",
         lambda: {"rp_id": "evil.example"}),
    Case("AssResp-3 F-3", "other client data was signed", "signature_invalid", lambda: {"signed_client": b"{}"}),
    Case("AssResp-3 F-4", "the counter did not rise", "sign_count_regressed", lambda: {"sign_count": 1}),
    Case("AssResp-3 F-5", "nobody was verified, and it is required", "user_not_verified",
         lambda: {"flags": UP, "expected": REQUIRED}),
]  # fmt: skip

_DOUBLED = json.dumps(client("webauthn.get"))[:-1] + ', "origin": "https://sidecar.example"}'

_OURS: list[Case[AssertionForge]] = [
    Case("counter", "the counter fell", "sign_count_regressed", lambda: {"sign_count": 3, "stored": {"sign_count": 5}}),
    Case("counter", "the counter fell to zero", "sign_count_regressed", lambda: {"sign_count": 0}),
    Case("counter", "the counter fell, and that is let through", "",
         lambda: {"sign_count": 0, "expected": {"allow_sign_count_regression": True}}),
    Case("counter", "the counter fell, and the signature does not hold", "signature_invalid",
         lambda: {"sign_count": 0, "signature": bytes(70)}),
    Case("flags", "nobody touched it", "user_not_present", lambda: {"flags": 0}),
    Case("flags", "backed up and not eligible", "backup_state_invalid", lambda: {"flags": UP | BS}),
    Case("flags", "it became eligible for backup", "backup_eligibility_changed", lambda: {"flags": UP | BE}),
    Case("flags", "it is not eligible for backup any more", "backup_eligibility_changed",
         lambda: {"stored": {"backup_eligible": True}}),
    Case("flags", "it is backed up, as it may be", "",
         lambda: {"flags": UP | BE | BS, "stored": {"backup_eligible": True}}),
    Case("credential", "a new credential in an assertion", "attested_data_unexpected",
         lambda: {"auth_data": RegistrationForge(flags=UP | AT, sign_count=2).build_auth_data()}),
    Case("credential", "another credential", "credential_id_mismatch", lambda: {"stored": {"credential_id": b"other"}}),
    Case("credential", "none of those that were asked for", "credential_not_allowed",
         lambda: {"expected": {"allowed_credential_ids": {b"other"}}}),
    Case("credential", "one of those that were asked for", "",
         lambda: {"expected": {"allowed_credential_ids": {b"other", CREDENTIAL_ID}}}),
    Case("credential", "id and rawId differ", "credential_id_mismatch",
         lambda: {"edit": set_member("rawId", value="AAAA")}),
    Case("user handle", "the handle of another user", "user_handle_mismatch",
         lambda: {"stored": {"user_handle": b"user-2"}}),
    Case("user handle", "the handle of another user, as the caller says", "user_handle_mismatch",
         lambda: {"expected": {"expected_user_handle": b"user-2"}}),
    Case("user handle", "no handle", "", lambda: {"edit": set_member("response", "userHandle")}),
    Case("user handle", "null for a handle", "", lambda: {"edit": set_member("response", "userHandle", value=None)}),
    Case("user handle", "an empty handle", "response_malformed",
         lambda: {"edit": set_member("response", "userHandle", value="")}),
    Case("user handle", "a handle of 65 bytes", "response_too_large",
         lambda: {"edit": set_member("response", "userHandle", value="A" * 88)}),
    Case("signature", "a signature of 513 bytes", "response_too_large", lambda: {"signature": bytes(513)}),
    Case("signature", "a signature with bytes after it", "signature_invalid",
         lambda: {"signature": b"\x30\x06\x02\x01\x01\x02\x01\x01\x00"}),
    Case("client data", "a member twice", "duplicate_key", lambda: {"client_text": _DOUBLED.encode()}),
    Case("cross origin", "a frame of another origin", "cross_origin_not_allowed",
         lambda: {"client": client("webauthn.get", crossOrigin=True)}),
    Case("cross origin", "a frame of another origin that is allowed", "",
         lambda: {"client": client("webauthn.get", crossOrigin=True, topOrigin="https://a.example"),
                  "expected": {"allow_cross_origin": True, "expected_top_origins": {"https://a.example"}}}),
    Case("cross origin", "a page around that is not listed", "top_origin_mismatch",
         lambda: {"client": client("webauthn.get", crossOrigin=True, topOrigin="https://b.example"),
                  "expected": {"allow_cross_origin": True, "expected_top_origins": {"https://a.example"}}}),
    Case("app id", "appid is no boolean", "extension_output_invalid",
         lambda: {"edit": set_member("clientExtensionResults", value={"appid": "true"})}),
    Case("app id", "appid is true for a credential that has none", "",
         lambda: {"edit": set_member("clientExtensionResults", value={"appid": True})}),
    Case("app id", "appid is true, and it was not used", "rp_id_mismatch",
         lambda: {"edit": set_member("clientExtensionResults", value={"appid": True}),
                  "stored": {"app_id": "https://a.example"}}),
    Case("app id", "the AppID was used", "",
         lambda: {"edit": set_member("clientExtensionResults", value={"appid": True}),
                  "rp_id": "https://a.example", "stored": {"app_id": "https://a.example"}}),
    Case("extensions", "an extension was not asked for", "extension_output_invalid",
         lambda: {"flags": UP | ED, "extensions": cbor.encode({"uvm": 1}),
                  "expected": {"requested_extensions": set()}}),
    Case("public key", "the stored key is damaged", "public_key_invalid",
         lambda: {"stored": {"public_key": cbor.encode({**cose_key(-7, private_key(-7)), -3: bytes(32)})}}),
    Case("public key", "the stored key is no CBOR", "cbor_malformed", lambda: {"stored": {"public_key": b"\xff"}}),
]  # fmt: skip

CASES = [*_LIST, *_OURS]
