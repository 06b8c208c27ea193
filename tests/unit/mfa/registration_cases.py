# SPDX-License-Identifier: Apache-2.0
"""The cases of registrations, in the order of the list; see ``cases``."""

from __future__ import annotations

from typing import Any

from fido2 import cbor

from sidecar.mfa.certificates import read_certificate
from sidecar.mfa.cose import CREDENTIAL_ALGORITHMS
from sidecar.mfa.policy import AttestationMode, AttestationPolicy
from tests.authenticators.issuer import BEGIN, END, Issuer
from tests.unit.mfa import statements as made
from tests.unit.mfa.cases import MISSING, Case, client, client_suite, set_member, structure
from tests.unit.mfa.forge import AT, BE, BS, ED, UP, UV, Json, RegistrationForge, cose_key, private_key

OLD: Json = {"begin": BEGIN, "end": BEGIN.replace(year=2021)}
YOUNG: Json = {"begin": END.replace(year=2040), "end": END}


def trusting(*entries: Json, mode: AttestationMode = AttestationMode.REQUIRE_TRUSTED, **others: Any) -> Json:
    """Give the arguments of a deployment that goes by metadata."""
    found = made.metadata(*entries or (made.entry(),))
    return {"attestation_policy": AttestationPolicy(mode=mode, metadata=found, **others)}


def _edited(about: str, number: int, want: str, *path: str, value: Any = MISSING) -> Case[RegistrationForge]:
    return Case(f"AttResp-3 F-{number}", about, want, lambda: {"edit_object": set_member(*path, value=value)})


def _full(number: str, about: str, want: str, *entries: Json, **others: Any) -> Case[RegistrationForge]:
    return Case(
        number,
        about,
        want,
        lambda: {"statement": made.packed(**others), "expected": trusting(*entries)},
    )


OTHER_INTERMEDIATE = Issuer("Attestation Issuing CA", parent=Issuer("Attestation Root"))
EXPIRED_INTERMEDIATE = Issuer("Expired CA", parent=made.ROOT, **OLD)
CRITICAL_ROOT = Issuer("Critical Root", critical=True)
DIRECT_LEAF = made.leaf(issuer=made.ROOT)

_LIST: list[Case[RegistrationForge]] = [
    Case("AttResp-1 P-1", "a valid registration", "", lambda: {"statement": made.packed()}),
    *structure("AttResp-1", ("attestationObject",)),
    Case("AttResp-1 F-15", "nobody was verified, and it is required", "user_not_verified",
         lambda: {"expected": {"require_user_verification": True}}),
    *client_suite("AttResp-2", "webauthn.create", "webauthn.get"),
    Case("AttResp-3 P-1", "there are extension outputs", "",
         lambda: {"flags": UP | AT | ED, "extensions": cbor.encode({"credProtect": 2}), "statement": made.packed()}),
    Case("AttResp-3 F-1", "the object is no map", "attestation_object_malformed",
         lambda: {"object_bytes": cbor.encode([1, 2])}),
    _edited("fmt is missing", 2, "attestation_object_malformed", "fmt"),
    _edited("fmt is no text", 3, "attestation_object_malformed", "fmt", value=1),
    _edited("attStmt is missing", 4, "attestation_object_malformed", "attStmt"),
    _edited("attStmt is no map", 5, "attestation_object_malformed", "attStmt", value=b"x"),
    _edited("authData is missing", 6, "attestation_object_malformed", "authData"),
    _edited("authData is no bytes", 7, "attestation_object_malformed", "authData", value="x"),
    _edited("authData is empty", 8, "authenticator_data_malformed", "authData", value=b""),
    Case("AttResp-3 F-9", "a credential, and no flag", "authenticator_data_malformed",
         lambda: {"flags": UP, "tail": RegistrationForge().build_auth_data()[37:]}),
    Case("AttResp-3 F-10", "no credential, and no flag", "attested_data_missing", lambda: {"flags": UP}),
    Case("AttResp-3 F-11", "no credential, and its flag", "authenticator_data_malformed",
         lambda: {"auth_data": RegistrationForge().build_auth_data()[:37]}),
    Case("AttResp-3 F-12", "bytes are left over", "authenticator_data_malformed", lambda: {"tail": b"\0"}),
    _edited("the statement is empty", 13, "attestation_statement_malformed", "attStmt", value={}),
    _edited("alg is missing", 14, "attestation_statement_malformed", "attStmt", "alg"),
    _edited("alg is no number", 15, "attestation_statement_malformed", "attStmt", "alg", value="ES256"),
    _full("AttResp-3 F-16", "alg is not the model's", "attestation_not_accepted",
          made.entry(algorithms=["secp256r1_ecdsa_sha256_raw"]),
          chain=[made.leaf(key=private_key(-35)), made.INTERMEDIATE.der], key=private_key(-35), algorithm=-35),
    _edited("sig is missing", 17, "attestation_statement_malformed", "attStmt", "sig"),
    _edited("sig is no bytes", 18, "attestation_statement_malformed", "attStmt", "sig", value="x"),
    _edited("sig is empty", 19, "attestation_statement_malformed", "attStmt", "sig", value=b""),
    *(
        Case(f"AttResp-4 P-{number}", f"a credential for {algorithm}", "",
             lambda algorithm=algorithm: {  # type: ignore[misc]
                 "algorithm": algorithm, "expected": {"allowed_algorithms": CREDENTIAL_ALGORITHMS}
             })
        for number, algorithm in enumerate((-37, -38, -39, -257, -258, -259, -7, -7, -35, -36, -8), start=2)
    ),
    _full("AttResp-5 P-1", "a full statement", ""),
    _full("AttResp-5 P-2", "a chain to the root of the metadata", "", chain=[made.LEAF, made.INTERMEDIATE.der]),
    _full("AttResp-5 P-3", "the metadata holds the certificate itself", "", made.entry(roots=[made.LEAF]),
          chain=[made.LEAF]),
    _full("AttResp-5 P-4", "the root's constraints are critical", "", made.entry(roots=[CRITICAL_ROOT.der]),
          chain=[made.leaf(issuer=CRITICAL_ROOT)]),
    _full("AttResp-5 P-5", "the metadata holds numbers of 64 bits", "", made.entry()),
    Case("AttResp-5 F-1", "an unknown format", "attestation_format_unknown",
         lambda: {"fmt": "package", "statement": made.packed()}),
    _full("AttResp-5 F-2", "the signature does not hold", "attestation_signature_invalid", sig=bytes(70)),
    _full("AttResp-5 F-3", "x5c is missing", "attestation_signature_invalid", x5c=None),
    _full("AttResp-5 F-4", "x5c is no list", "attestation_statement_malformed", x5c=made.LEAF),
    _full("AttResp-5 F-5", "x5c is empty", "attestation_statement_malformed", chain=[]),
    _full("AttResp-5 F-6", "the certificate has expired", "attestation_expired",
          chain=[made.leaf(**OLD), made.INTERMEDIATE.der]),
    _full("AttResp-5 F-7", "the certificate is not valid yet", "attestation_expired",
          chain=[made.leaf(**YOUNG), made.INTERMEDIATE.der]),
    _full("AttResp-5 F-8", "the certificate's algorithm is not the model's", "attestation_not_accepted",
          made.entry(algorithms=["ed25519_eddsa_sha512_raw", "secp256r1_ecdsa_sha256_raw"]),
          chain=[made.leaf(key=private_key(-257)), made.INTERMEDIATE.der], key=private_key(-257), algorithm=-257),
    _full("AttResp-5 F-9", "the chain leads elsewhere", "attestation_untrusted",
          chain=[made.leaf(issuer=OTHER_INTERMEDIATE), OTHER_INTERMEDIATE.der]),
    _full("AttResp-5 F-10", "the chain holds the root", "attestation_untrusted",
          chain=[made.LEAF, made.INTERMEDIATE.der, made.ROOT.der]),
    _full("AttResp-5 F-11", "the chain is in another order", "attestation_untrusted",
          chain=[made.LEAF, made.ROOT.der, made.INTERMEDIATE.der]),
    _full("AttResp-5 F-12", "an authority has expired", "attestation_expired",
          chain=[made.leaf(issuer=EXPIRED_INTERMEDIATE), EXPIRED_INTERMEDIATE.der]),
    _full("AttResp-5 F-13", "another key has signed", "attestation_signature_invalid", key=Issuer().key),
    _full("AttResp-5 F-14", "the credential's key has signed", "attestation_signature_invalid", key=private_key(-7)),
    Case("AttResp-6 P-1", "self attestation", "", dict),
    Case("AttResp-6 F-1", "the signature does not hold", "attestation_signature_invalid",
         lambda: {"edit_object": set_member("attStmt", "sig", value=bytes(70))}),
    _full("AttResp-6 F-2", "the model has self attestation alone", "attestation_not_accepted",
          made.entry(attestation_types=["basic_surrogate"])),
    Case("AttResp-6 F-3", "an unknown format", "attestation_format_unknown", lambda: {"fmt": "self"}),
    Case("AttResp-7 P-1", "no attestation", "", lambda: {"fmt": "none", "statement": lambda *_: {}}),
    Case("AttResp-7 P-2", "self attestation nobody asked for", "", dict),
    Case("AttResp-7 F-1", "a full statement as none", "attestation_statement_malformed",
         lambda: {"fmt": "none", "statement": made.packed()}),
    Case("AttResp-8 P-1", "a U2F key", "",
         lambda: {"fmt": "fido-u2f", "statement": made.fido_u2f(), "aaguid": bytes(16)}),
    Case("AttResp-8 F-1", "a U2F key that names a model", "attestation_mismatch",
         lambda: {"fmt": "fido-u2f", "statement": made.fido_u2f(),
                  "expected": {"attestation_policy": AttestationPolicy(require_zero_u2f_aaguid=True)}}),
    Case("AttResp-8 F-2", "the signature does not hold", "attestation_signature_invalid",
         lambda: {"fmt": "fido-u2f", "statement": made.fido_u2f(key=Issuer().key), "aaguid": bytes(16)}),
    Case("AttResp-9 P-1", "a TPM", "", lambda: {"fmt": "tpm", "statement": made.tpm()}),
    Case("AttResp-9 P-2", "an old TPM", "", lambda: {"fmt": "tpm", "statement": made.rs1_tpm(), "algorithm": -257}),
    Case("AttResp-9 P-4", "a TPM with ES256", "", lambda: {"fmt": "tpm", "statement": made.tpm()}),
    Case("AttResp-9 F-1", "the certificates are in another order", "attestation_signature_invalid",
         lambda: {"fmt": "tpm",
                  "statement": made.tpm(chain=[made.INTERMEDIATE.der, made.aik_certificate(made.BATCH)])}),
    Case("AttResp-9 F-2", "extraData is another", "attestation_mismatch",
         lambda: {"fmt": "tpm", "statement": made.tpm(extra=bytes(32))}),
    Case("AttResp-9 F-3", "magic is another", "attestation_mismatch",
         lambda: {"fmt": "tpm", "statement": made.tpm(magic=0xFF544348)}),
    Case("AttResp-9 F-4", "the key is another", "attestation_mismatch",
         lambda: {"fmt": "tpm", "statement": made.tpm(unique=bytes(32))}),
    Case("AttResp-A P-1", "an Android key", "", lambda: {"fmt": "android-key", "statement": made.android_key()}),
    Case("AttResp-A F-1", "the challenge is another", "attestation_mismatch",
         lambda: {"fmt": "android-key", "statement": made.android_key(challenge=bytes(32))}),
    Case("AttResp-A F-2", "the certificate is for another key", "attestation_mismatch",
         lambda: {"fmt": "android-key", "statement": made.android_key(key=made.BATCH)}),
    Case("AttResp-A F-3", "the certificates are in another order", "attestation_signature_invalid",
         lambda: {"fmt": "android-key", "statement": made.android_key(reverse=True)}),
    _full("MDS3 P-1", "a model that the metadata knows", ""),
    *(
        _full("MDS3 F-1", f"a model of status {status}", "authenticator_revoked",
              made.entry(statuses=[{"status": "FIDO_CERTIFIED"}, {"status": status}]))
        for status in ("USER_VERIFICATION_BYPASS", "ATTESTATION_KEY_COMPROMISE", "USER_KEY_REMOTE_COMPROMISE",
                       "USER_KEY_PHYSICAL_COMPROMISE", "REVOKED")
    ),
]  # fmt: skip


def _cose(**changes: Any) -> Json:
    """Give a key for ES256 with parameters set by name, or removed."""
    names = {"kty": 1, "alg": 3, "crv": -1, "x": -2, "y": -3}
    found = cose_key(-7, private_key(-7))
    for name, value in changes.items():
        if value is MISSING:
            del found[names[name]]
        else:
            found[names.get(name, int(name[1:]) if name[1:].isdigit() else 0)] = value
    return {"cose": found, "fmt": "none", "statement": lambda *_: {}}


def _bare(**changes: Any) -> Json:
    return {"fmt": "none", "statement": lambda *_: {}, **changes}


def _okp(algorithm: int, crv: int, x: bytes) -> Json:
    return _bare(cose={1: 1, 3: algorithm, -1: crv, -2: x})


def _rsa(modulus: bytes, exponent: bytes = b"\x01\x00\x01", algorithm: int = -257) -> Json:
    return _bare(cose={1: 3, 3: algorithm, -1: modulus, -2: exponent})


_X = cose_key(-7, private_key(-7))[-2]
_DOUBLED = b"\xa6" + cbor.encode(cose_key(-7, private_key(-7)))[1:] + b"\x03\x26"
_CLIENT = '{"type":"webauthn.create","challenge":"%s","origin":"https://sidecar.example"%s}'
_CHALLENGE = client("webauthn.create")["challenge"]

_OURS: list[Case[RegistrationForge]] = [
    Case("rawId", "rawId is missing", "response_malformed", lambda: {"edit": set_member("rawId")}),
    Case("rawId", "rawId differs from id", "credential_id_mismatch",
         lambda: {"edit": set_member("rawId", value="AAAA")}),
    Case("id", "id is not that of the authenticator data", "credential_id_mismatch",
         lambda: {"edit": lambda found: found.update(id="AAAA", rawId="AAAA")}),
    Case("id", "id has padding", "encoding_invalid",
         lambda: {"edit": lambda found: found.update(id=found["id"] + "=", rawId=found["id"] + "=")}),
    Case("id", "id has bits that nobody reads", "encoding_invalid",
         lambda: {"edit": lambda found: found.update(id="AB", rawId="AB")}),
    Case("id", "id is longer than any", "credential_id_invalid",
         lambda: {"edit": lambda found: found.update(id="A" * 1368, rawId="A" * 1368)}),
    Case("id length", "the credential id is empty", "credential_id_invalid",
         lambda: _bare(credential_id=b"", edit=lambda found: found.update(id="AAAA", rawId="AAAA"))),
    Case("id length", "the credential id has 1024 bytes", "credential_id_invalid",
         lambda: _bare(credential_id=bytes(1024), edit=lambda found: found.update(id="AAAA", rawId="AAAA"))),
    Case("id length", "the credential id has 1023 bytes", "", lambda: _bare(credential_id=bytes(1023))),
    Case("id length", "the credential id is cut short", "authenticator_data_malformed",
         lambda: {"auth_data": RegistrationForge().build_auth_data()[:60]}),
    Case("registered", "the credential is known already", "credential_already_registered",
         lambda: {"expected": {"registered_credential_ids": {RegistrationForge().credential_id}}}),
    Case("attachment", "authenticatorAttachment is no string", "response_malformed",
         lambda: {"edit": set_member("authenticatorAttachment", value=1)}),
    Case("copies", "the copy of authenticatorData is another", "authenticator_data_malformed",
         lambda: {"edit": set_member("response", "authenticatorData", value="AAAA")}),
    Case("copies", "publicKeyAlgorithm is another", "algorithm_not_allowed",
         lambda: {"edit": set_member("response", "publicKeyAlgorithm", value=-257)}),
    Case("copies", "publicKeyAlgorithm is the key's", "",
         lambda: {"edit": set_member("response", "publicKeyAlgorithm", value=-7)}),
    Case("transports", "transports is no list", "response_malformed",
         lambda: {"edit": set_member("response", "transports", value="usb")}),
    Case("transports", "there are too many transports", "response_malformed",
         lambda: {"edit": set_member("response", "transports", value=["usb"] * 17)}),
    Case("transports", "a transport is no name", "response_malformed",
         lambda: {"edit": set_member("response", "transports", value=[1])}),
    Case("transports", "a transport is not known", "",
         lambda: {"edit": set_member("response", "transports", value=["smart-card", "telepathy"])}),
    Case("client extensions", "clientExtensionResults is no object", "response_malformed",
         lambda: {"edit": set_member("clientExtensionResults", value=[])}),
    Case("client extensions", "appidExclude is no boolean", "extension_output_invalid",
         lambda: {"edit": set_member("clientExtensionResults", value={"appidExclude": 1})}),
    Case("client extensions", "credProps has no shape", "extension_output_invalid",
         lambda: {"edit": set_member("clientExtensionResults", value={"credProps": {"rk": "yes"}})}),
    Case("client extensions", "an extension was not asked for", "extension_output_invalid",
         lambda: {"edit": set_member("clientExtensionResults", value={"loc": True}),
                  "expected": {"requested_extensions": {"credProps"}}}),
    Case("extensions", "an authenticator extension was not asked for", "extension_output_invalid",
         lambda: {"flags": UP | AT | ED, "extensions": cbor.encode({"uvi": b"x"}),
                  "expected": {"requested_extensions": {"credProps"}}}),
    Case("extensions", "extension outputs are no map", "authenticator_data_malformed",
         lambda: {"flags": UP | AT | ED, "extensions": cbor.encode([1])}),
    Case("extensions", "extension outputs have numbers for names", "authenticator_data_malformed",
         lambda: {"flags": UP | AT | ED, "extensions": cbor.encode({1: 1})}),
    Case("extensions", "there is the flag and no extension", "cbor_malformed", lambda: {"flags": UP | AT | ED}),
    Case("client data", "client data is no JSON", "client_data_malformed", lambda: {"client_text": b"{"}),
    Case("client data", "client data is no object", "client_data_malformed", lambda: {"client_text": b"[]"}),
    Case("client data", "client data is not UTF-8", "client_data_malformed", lambda: {"client_text": b'{"a":"\xff"}'}),
    Case("client data", "client data is nested deeply", "client_data_malformed", lambda: {"client_text": b"[" * 8000}),
    Case("client data", "client data has a number that is none", "client_data_malformed",
         lambda: {"client_text": (_CLIENT % (_CHALLENGE, ',"x":NaN')).encode()}),
    Case("client data", "client data has a number without end", "client_data_malformed",
         lambda: {"client_text": (_CLIENT % (_CHALLENGE, ',"x":' + "9" * 5000)).encode()}),
    Case("client data", "client data has a member twice", "duplicate_key",
         lambda: {"client_text": (_CLIENT % (_CHALLENGE, ',"origin":"https://sidecar.example"')).encode()}),
    Case("client data", "client data has an inner member twice", "duplicate_key",
         lambda: {"client_text": (_CLIENT % (_CHALLENGE, ',"x":{"a":1,"a":1}')).encode()}),
    Case("client data", "client data is too long", "response_too_large", lambda: {"client_text": b" " * 8193}),
    Case("client data", "client data begins with a byte order mark", "",
         lambda: {"client_text": b"\xef\xbb\xbf" + (_CLIENT % (_CHALLENGE, "")).encode()}),
    Case("client data", "client data has a member nobody knows", "",
         lambda: {"client": client("webauthn.create", other_keys_can_be_added_here="do not compare")}),
    Case("token binding", "tokenBinding is present and has no id", "token_binding_invalid",
         lambda: {"client": client("webauthn.create", tokenBinding={"status": "present"})}),
    Case("token binding", "tokenBinding is supported", "",
         lambda: {"client": client("webauthn.create", tokenBinding={"status": "supported"})}),
    Case("cross origin", "crossOrigin is no boolean", "client_data_malformed",
         lambda: {"client": client("webauthn.create", crossOrigin="true")}),
    Case("cross origin", "a frame of another origin", "cross_origin_not_allowed",
         lambda: {"client": client("webauthn.create", crossOrigin=True)}),
    Case("cross origin", "a page around, and no frame of another origin", "cross_origin_not_allowed",
         lambda: {"client": client("webauthn.create", topOrigin="https://a.example"),
                  "expected": {"allow_cross_origin": True}}),
    Case("cross origin", "a page around that is no string", "client_data_malformed",
         lambda: {"client": client("webauthn.create", crossOrigin=True, topOrigin=1),
                  "expected": {"allow_cross_origin": True}}),
    *(
        Case("origin", f"origin is {origin}", "origin_mismatch",
             lambda origin=origin: {"client": client("webauthn.create", origin=origin)})  # type: ignore[misc]
        for origin in ("https://www.sidecar.example:8443", "HTTPS://SIDECAR.EXAMPLE", "https://sidecar.example/",
                       "https://u:p@sidecar.example", "http://localhost", "https://sidecar.exampl", "null")
    ),
    Case("flags", "nobody touched it", "user_not_present", lambda: {"flags": AT}),
    Case("flags", "verified, and nobody touched it", "user_not_present", lambda: {"flags": AT | UV}),
    Case("flags", "backed up and not eligible", "backup_state_invalid", lambda: {"flags": UP | AT | BS}),
    Case("flags", "backed up and eligible", "", lambda: {"flags": UP | AT | BE | BS}),
    Case("flags", "verified as required", "",
         lambda: {"flags": UP | UV | AT, "expected": {"require_user_verification": True}}),
    Case("rp id", "it is meant for another relying party", "rp_id_mismatch", lambda: {"rp_id": "evil.example"}),
    Case("rp id", "it is meant for a part of the name", "rp_id_mismatch", lambda: {"rp_id": "example"}),
    Case("public key", "the point is off the curve", "public_key_invalid",
         lambda: _cose(y=bytes(31) + b"\x01")),
    Case("public key", "the point is compressed", "public_key_malformed", lambda: _cose(y=True)),
    Case("public key", "a coordinate is short", "public_key_malformed", lambda: _cose(x=_X[1:])),
    Case("public key", "kty is a boolean", "public_key_malformed", lambda: _cose(kty=True)),
    Case("public key", "crv is a boolean", "public_key_malformed", lambda: _cose(crv=True)),
    Case("public key", "the curve is another", "public_key_malformed", lambda: _cose(crv=2)),
    Case("public key", "alg is missing", "public_key_malformed", lambda: _cose(alg=MISSING)),
    Case("public key", "y is missing", "public_key_malformed", lambda: _cose(y=MISSING)),
    Case("public key", "there is a parameter too many", "public_key_malformed", lambda: _cose(p4=[1])),
    Case("public key", "a parameter stands twice", "duplicate_key", lambda: _bare(cose=_DOUBLED)),
    Case("public key", "the key is no map", "public_key_malformed", lambda: _bare(cose=b"\x01")),
    Case("public key", "the key is missing", "cbor_malformed",
         lambda: _bare(cose=b"")),
    Case("public key", "Ed25519 of small order", "public_key_invalid", lambda: _okp(-8, 6, bytes(32))),
    Case("public key", "Ed25519 neutral", "public_key_invalid", lambda: _okp(-8, 6, b"\x01" + bytes(31))),
    Case("public key", "Ed25519 off the curve", "public_key_invalid", lambda: _okp(-8, 6, b"\x02" + bytes(31))),
    Case("public key", "Ed25519 beyond the field", "public_key_invalid", lambda: _okp(-8, 6, b"\xff" * 31 + b"\x7f")),
    Case("public key", "Ed25519 with the crv of Ed448", "public_key_malformed", lambda: _okp(-8, 7, bytes(57))),
    Case("public key", "Ed448 of small order", "public_key_invalid", lambda: _okp(-53, 7, bytes(57))),
    Case("public key", "Ed448 off the curve", "public_key_invalid", lambda: _okp(-53, 7, b"\x02" + bytes(56))),
    Case("public key", "RSA with 1024 bits", "public_key_invalid", lambda: _rsa(b"\xff" * 128)),
    Case("public key", "RSA with 8192 bits", "public_key_invalid", lambda: _rsa(b"\xff" * 1024)),
    Case("public key", "RSA with an even modulus", "public_key_invalid", lambda: _rsa(b"\xff" * 255 + b"\xfe")),
    Case("public key", "RSA with the exponent 1", "public_key_invalid", lambda: _rsa(b"\xff" * 256, b"\x01")),
    Case("public key", "RSA with a huge exponent", "public_key_invalid", lambda: _rsa(b"\xff" * 256, b"\xff" * 256)),
    Case("public key", "RSA with a leading zero", "public_key_malformed", lambda: _rsa(b"\x00" + b"\xff" * 255)),
    Case("public key", "RSA signing with SHA-1", "algorithm_not_allowed",
         lambda: {**_rsa(b"\xff" * 256, algorithm=-65535), "expected": {"allowed_algorithms": {-65535}}}),
    Case("public key", "an algorithm that was not offered", "algorithm_not_allowed",
         lambda: {"algorithm": -257, "expected": {"allowed_algorithms": {-7}}}),
    Case("public key", "an algorithm nobody knows", "algorithm_not_allowed", lambda: _cose(alg=-70000)),
    Case("cbor", "lists within lists", "cbor_malformed", lambda: {"object_bytes": b"\x81" * 5000}),
    Case("cbor", "maps within maps", "cbor_malformed", lambda: {"object_bytes": b"\xa1\x01" * 5000}),
    Case("cbor", "a length beyond the end", "cbor_malformed", lambda: {"object_bytes": b"\x5b" + b"\xff" * 8}),
    Case("cbor", "a count beyond the end", "cbor_malformed", lambda: {"object_bytes": b"\x9b" + b"\xff" * 8}),
    Case("cbor", "an indefinite length", "cbor_malformed", lambda: {"object_bytes": b"\xbf\xff"}),
    Case("cbor", "a tag", "cbor_malformed", lambda: {"object_bytes": b"\xd8\x18\x40"}),
    Case("cbor", "a fraction", "cbor_malformed", lambda: {"object_bytes": b"\xf9\x3c\x00"}),
    Case("cbor", "a map for a key", "cbor_malformed", lambda: {"object_bytes": b"\xa1\xa0\x01"}),
    Case("cbor", "a boolean for a key", "cbor_malformed", lambda: {"object_bytes": b"\xa1\xf5\x01"}),
    Case("cbor", "text that is not UTF-8", "cbor_malformed", lambda: {"object_bytes": b"\x61\xff"}),
    Case("cbor", "bytes after the end", "cbor_malformed", lambda: {"object_bytes": b"\xa0\x00"}),
    Case("cbor", "a key twice, in two lengths", "duplicate_key", lambda: {"object_bytes": b"\xa2\x01\x00\x18\x01\x00"}),
    Case("size", "the attestation object is too long", "response_too_large",
         lambda: {"object_bytes": bytes(32 * 1024 + 1)}),
    Case("packed", "a member that the format does not know", "attestation_statement_malformed",
         lambda: {"statement": made.packed(ecdaaKeyId=b"x")}),
    Case("packed", "self attestation by another algorithm", "attestation_mismatch",
         lambda: {"edit_object": set_member("attStmt", "alg", value=-257)}),
    Case("packed", "a certificate that is none", "attestation_certificate_invalid",
         lambda: {"statement": made.packed(chain=[b"\x30\x03\x02\x01\x01"])}),
    Case("packed", "a certificate that is no bytes", "attestation_statement_malformed",
         lambda: {"statement": made.packed(chain=["x"])}),
    Case("packed", "too many certificates", "attestation_statement_malformed",
         lambda: {"statement": made.packed(chain=[made.LEAF] * 9)}),
    Case("packed", "the certificate is an authority's", "attestation_certificate_invalid",
         lambda: {"statement": made.packed(chain=[made.leaf(constraints=made.AUTHORITY)])}),
    Case("packed", "the certificate has no constraints", "attestation_certificate_invalid",
         lambda: {"statement": made.packed(chain=[made.leaf(constraints=None)])}),
    Case("packed", "the certificate's subject is another", "attestation_certificate_invalid",
         lambda: {"statement": made.packed(chain=[made.leaf(subject=made.ROOT.name)])}),
    Case("packed", "the certificate is for another model", "attestation_mismatch",
         lambda: {"statement": made.packed(chain=[made.leaf(aaguid=bytes(16))])}),
    Case("packed", "the certificate names no model", "",
         lambda: {"statement": made.packed(chain=[made.leaf(aaguid=None)])}),
    Case("packed", "signed over SHA-1", "attestation_signature_invalid",
         lambda: {"statement": made.packed(chain=[made.leaf(key=private_key(-257))], key=private_key(-257),
                                           algorithm=-65535)}),
    Case("fido-u2f", "two certificates", "attestation_statement_malformed",
         lambda: {"fmt": "fido-u2f", "statement": made.fido_u2f(chain=[made.LEAF, made.LEAF])}),
    Case("fido-u2f", "a certificate for P-384", "attestation_certificate_invalid",
         lambda: {"fmt": "fido-u2f", "statement": made.fido_u2f(chain=[made.leaf(key=private_key(-35))])}),
    Case("fido-u2f", "a key that names a model, where that is let through", "",
         lambda: {"fmt": "fido-u2f", "statement": made.fido_u2f()}),
    Case("tpm", "another version", "attestation_statement_malformed",
         lambda: {"fmt": "tpm", "statement": made.tpm(ver="1.2")}),
    Case("tpm", "another kind of statement", "attestation_mismatch",
         lambda: {"fmt": "tpm", "statement": made.tpm(kind=0x8018)}),
    Case("tpm", "the name of another key", "attestation_mismatch",
         lambda: {"fmt": "tpm", "statement": made.tpm(name=b"\x00\x0b" + bytes(32))}),
    Case("tpm", "a public area that is cut short", "attestation_statement_malformed",
         lambda: {"fmt": "tpm", "statement": made.tpm(public=b"\x00\x23\x00\x0b\x00")}),
    *(
        Case("tpm", f"a public area {about}", "attestation_statement_malformed",
             lambda head=head, rest=rest: {"fmt": "tpm", "statement": made.tpm(  # type: ignore[misc]
                 public=bytes.fromhex(head) + bytes(6) + bytes.fromhex(rest))})
        for about, head, rest in (
            ("of another kind", "0008000b", "00100010"),
            ("named by a hash nobody knows", "00230012", "001000100003001000000000"),
            ("of a key that encrypts", "0023000b", "000600100003001000000000"),
            ("on a curve nobody knows", "0023000b", "001000100010001000000000"),
            ("with bytes left over", "0023000b", "00100010000300100000000000"),
        )
    ),
    Case("tpm", "a certificate with a subject", "attestation_certificate_invalid",
         lambda: {"fmt": "tpm", "statement": made.tpm(chain=[
             made.aik_certificate(made.BATCH, subject=made.ROOT.name)])}),
    Case("tpm", "a certificate without a maker", "attestation_certificate_invalid",
         lambda: {"fmt": "tpm", "statement": made.tpm(chain=[made.aik_certificate(made.BATCH, names={
             "2.23.133.2.2": "model", "2.23.133.2.3": "1"})])}),
    Case("tpm", "a certificate with a maker that is none", "attestation_certificate_invalid",
         lambda: {"fmt": "tpm", "statement": made.tpm(chain=[made.aik_certificate(made.BATCH, names={
             **made.AIK_NAMES, "2.23.133.2.1": "INTC"})])}),
    Case("tpm", "a certificate for something else", "attestation_certificate_invalid",
         lambda: {"fmt": "tpm", "statement": made.tpm(chain=[
             made.aik_certificate(made.BATCH, usage="1.3.6.1.5.5.7.3.1")])}),
    Case("tpm", "a certificate for another model", "attestation_mismatch",
         lambda: {"fmt": "tpm", "statement": made.tpm(chain=[made.aik_certificate(made.BATCH, aaguid=bytes(16))])}),
    Case("android-key", "a key for every application", "attestation_mismatch",
         lambda: {"fmt": "android-key", "statement": made.android_key(
             software=made.tlv(0x30, made.ALL_APPLICATIONS))}),
    Case("android-key", "a key that was brought in", "attestation_mismatch",
         lambda: {"fmt": "android-key", "statement": made.android_key(tee=made.authorizations(origin=b"\x02"))}),
    Case("android-key", "a key that also encrypts", "attestation_mismatch",
         lambda: {"fmt": "android-key", "statement": made.android_key(
             tee=made.authorizations(purposes=b"\x00\x02"))}),
    Case("android-key", "a key of which nothing is said", "",
         lambda: {"fmt": "android-key", "statement": made.android_key(tee=b"\x30\x00")}),
    Case("android-key", "the same, where a chain is required", "attestation_mismatch",
         lambda: {"fmt": "android-key", "statement": made.android_key(tee=b"\x30\x00"), "expected": trusting()}),
    Case("android-key", "a description that is none", "attestation_certificate_invalid",
         lambda: {"fmt": "android-key", "statement": made.android_key(description=b"\x30\x81")}),
    Case("android-key", "a description whose challenge is no bytes", "attestation_certificate_invalid",
         lambda: {"fmt": "android-key", "statement": made.android_key(
             description=made.tlv(0x30, *[made.tlv(0x02, b"\x01")] * 6, *[made.tlv(0x30)] * 2))}),
    Case("android-key", "a list of authorizations that is cut short", "attestation_certificate_invalid",
         lambda: {"fmt": "android-key", "statement": made.android_key(software=made.tlv(0x30, b"\xa1\x05"))}),
    Case("android-key", "an origin that is no number", "attestation_certificate_invalid",
         lambda: {"fmt": "android-key", "statement": made.android_key(
             software=made.tlv(0x30, made.tlv(b"\xbf\x85\x3e", made.tlv(0x04, b"\x00"))))}),
    Case("fido-u2f", "a credential for another algorithm", "attestation_mismatch",
         lambda: {"algorithm": -35, "fmt": "fido-u2f", "statement": made.fido_u2f()}),
    Case("apple", "anonymous attestation", "", lambda: {"fmt": "apple", "statement": made.apple()}),
    Case("apple", "the nonce is another", "attestation_mismatch",
         lambda: {"fmt": "apple", "statement": made.apple(nonce=bytes(32))}),
    Case("apple", "the certificate is for another key", "attestation_mismatch",
         lambda: {"fmt": "apple", "statement": made.apple(key=made.BATCH)}),
    Case("apple", "the certificate holds no nonce", "attestation_certificate_invalid",
         lambda: {"fmt": "apple", "statement": made.apple(extension=b"\x30\x00")}),
    Case("policy", "nothing is looked at", "",
         lambda: {"fmt": "bogus", "statement": made.packed(sig=b"x"),
                  "expected": {"attestation_policy": AttestationPolicy(mode=AttestationMode.IGNORE)}}),
    Case("policy", "a listed model", "", lambda: {"statement": made.packed(), "expected": {
        "attestation_policy": AttestationPolicy(
            mode=AttestationMode.REQUIRE_LISTED, allowed_aaguids=frozenset({RegistrationForge().aaguid}))}}),
    Case("policy", "a model that is not listed", "aaguid_not_listed", lambda: {"statement": made.packed(), "expected": {
        "attestation_policy": AttestationPolicy(
            mode=AttestationMode.REQUIRE_LISTED, allowed_aaguids=frozenset({bytes(16)}))}}),
    Case("policy", "a listed model that does not attest itself", "attestation_not_accepted", lambda: {
        **_bare(), "expected": {"attestation_policy": AttestationPolicy(
            mode=AttestationMode.REQUIRE_LISTED, allowed_aaguids=frozenset({RegistrationForge().aaguid}))}}),
    Case("policy", "no list", "aaguid_not_listed", lambda: {"statement": made.packed(), "expected": {
        "attestation_policy": AttestationPolicy(mode=AttestationMode.REQUIRE_LISTED)}}),
    Case("policy", "self attestation where a chain is required", "attestation_untrusted",
         lambda: {"expected": trusting(made.entry(attestation_types=["basic_surrogate", "basic_full"]))}),
    Case("policy", "self attestation of a model without", "attestation_not_accepted",
         lambda: {"expected": trusting()}),
    Case("policy", "no attestation where a chain is required", "attestation_not_accepted",
         lambda: {**_bare(), "expected": trusting()}),
    Case("policy", "a model that the metadata does not know", "attestation_untrusted",
         lambda: {"statement": made.packed(), "expected": trusting(made.entry(aaguid=bytes(15) + b"\x01"))}),
    Case("policy", "a root of the deployment", "", lambda: {"statement": made.packed(), "expected": {
        "attestation_policy": AttestationPolicy(
            mode=AttestationMode.REQUIRE_TRUSTED, trust_anchors=(read_certificate(made.ROOT.der),))}}),
    Case("policy", "a root of the deployment, and no clock", "attestation_untrusted", lambda: {
        "statement": made.packed(), "expected": {"now": None, "attestation_policy": AttestationPolicy(
            mode=AttestationMode.REQUIRE_TRUSTED, trust_anchors=(read_certificate(made.ROOT.der),))}}),
    Case("policy", "a compromised model is refused though nothing is required", "authenticator_revoked",
         lambda: {"statement": made.packed(), "expected": trusting(
             made.entry(statuses=[{"status": "REVOKED"}]), mode=AttestationMode.RECORD)}),
    Case("policy", "a forged model is refused though nothing is required", "attestation_untrusted",
         lambda: {"statement": made.packed(chain=[made.leaf(issuer=Issuer())]),
                  "expected": trusting(mode=AttestationMode.RECORD)}),
    Case("policy", "a compromise of another certificate", "", lambda: {
        "statement": made.packed(), "expected": trusting(made.entry(statuses=[
            {"status": "ATTESTATION_KEY_COMPROMISE", "certificate": made.base64_of(DIRECT_LEAF)}]))}),
    Case("policy", "a compromise of this certificate", "authenticator_revoked", lambda: {
        "statement": made.packed(), "expected": trusting(made.entry(statuses=[
            {"status": "ATTESTATION_KEY_COMPROMISE", "certificate": made.base64_of(made.LEAF)}]))}),
    Case("policy", "a U2F key found by its certificate", "", lambda: {
        "fmt": "fido-u2f", "aaguid": bytes(16),
        "statement": made.fido_u2f(chain=[made.leaf(aaguid=None, issuer=made.ROOT)]),
        "expected": trusting(made.entry(aaguid=bytes(15) + b"\x01", attestationCertificateKeyIdentifiers=[
            made.key_identifier()]))}),
    Case("policy", "a revoked model that does not attest itself", "authenticator_revoked", lambda: {
        **_bare(), "expected": trusting(made.entry(statuses=[{"status": "REVOKED"}]), mode=AttestationMode.RECORD)}),
    Case("policy", "metadata, and no clock", "attestation_untrusted", lambda: {
        "statement": made.packed(), "expected": {**trusting(mode=AttestationMode.RECORD), "now": None}}),
    Case("policy", "a chain is required, and there are no roots", "attestation_untrusted", lambda: {
        "statement": made.packed(), "expected": {
            "attestation_policy": AttestationPolicy(mode=AttestationMode.REQUIRE_TRUSTED)}}),
    Case("policy", "metadata that is overdue", "metadata_expired", lambda: {
        "statement": made.packed(), "expected": {**trusting(), "now": 1_800_000_000.0}}),
    Case("chain", "an authority that may not have one below it", "attestation_untrusted", lambda: {
        "statement": made.packed(chain=[made.leaf(issuer=made.TOO_DEEP), made.TOO_DEEP.der, made.INTERMEDIATE.der]),
        "expected": trusting()}),
    Case("chain", "an issuer that is no authority", "attestation_untrusted", lambda: {
        "statement": made.packed(chain=[made.leaf(issuer=made.NO_AUTHORITY), made.NO_AUTHORITY.der]),
        "expected": trusting()}),
    Case("chain", "a critical extension nobody understands", "attestation_untrusted", lambda: {
        "statement": made.packed(chain=[made.leaf(extensions=[made.UNKNOWN_CRITICAL]), made.INTERMEDIATE.der]),
        "expected": trusting()}),
]  # fmt: skip

CASES = [*_LIST, *_OURS]
