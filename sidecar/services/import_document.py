# SPDX-License-Identifier: Apache-2.0
"""
The document that lists devices which another system enrolled, read into what can be stored.

Seeds stand in it. What is wrong is told by the place and the name of the field; what a field holds is not repeated.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from sidecar.compile.documents import DocumentError, DuplicateKeysDict, read_json, read_yaml
from sidecar.compile.problems import Problems, quote
from sidecar.mfa import totp
from sidecar.mfa.certificates import read_certificate
from sidecar.mfa.credential import Attestation, AttestationType, Credential
from sidecar.mfa.u2f import import_credential, import_registration
from sidecar.model.errors import (
    AttestationCertificateError,
    CredentialIdInvalidError,
    MfaError,
    PublicKeyInvalidError,
    PublicKeyMalformedError,
    RequestError,
)
from sidecar.services.callers import User, is_hardware_serial, parse_device_name, parse_serial, parse_user

#: Greatest size of a document.
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
#: Devices in one document: they are stored in one transaction, which others wait for.
MAX_IMPORTED = 5_000

_MAX_APP_ID = 256
_APP_ID = re.compile(r"https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[!-~]*)?")
#: SPEC: IAM's form of the serial number of a virtual device: a path may stand before its name.
_TOTP_ARN = re.compile(r"mfa/(?:[!-.0-~]+/)*[A-Za-z0-9_+=,.@-]+")
_HARDWARE = re.compile(r"[A-Za-z0-9_+=,.@-]{9,256}")
_NUMBER = re.compile(r"-?[0-9]{1,10}", re.ASCII)
_TO_STANDARD = str.maketrans("-_", "+/")
_BETWEEN_GROUPS = str.maketrans("", "", " -\t\r\n=")
_MAX_SIGN_COUNT = 2**32 - 1
_ALGORITHMS = {"SHA1": "sha1", "SHA256": "sha256", "SHA512": "sha512"}

_TOTP_FIELDS = frozenset(
    {"user_arn", "kind", "name", "serial_number", "secret", "secret_hex", "algorithm", "digits", "period"}
    | {"drift_steps"}
)
_U2F_FIELDS = frozenset(
    {"user_arn", "kind", "name", "serial_number", "app_id", "key_handle", "public_key", "attestation_certificate"}
    | {"registration", "client_data", "sign_count"}
)


@dataclass(frozen=True, slots=True)
class ImportedTotp:
    """
    A TOTP device.

    Attributes:
        place: JSON path of its item.
        drift_steps: Steps by which its clock is ahead of ours, as far as is known.
    """

    place: str
    user: User
    serial_number: str
    name: str
    algorithm: str
    drift_steps: int
    secret: bytes = field(repr=False)

    @property
    def has_short_seed(self) -> bool:
        """Whether no device with such a seed could be enrolled."""
        return len(self.secret) < totp.MIN_SECRET_BYTES


@dataclass(frozen=True, slots=True)
class ImportedKey:
    """
    A U2F key.

    Attributes:
        place: JSON path of its item.
        serial_number: Empty where one is to be made.
    """

    place: str
    user: User
    serial_number: str
    name: str
    app_id: str
    credential: Credential


Imported = ImportedTotp | ImportedKey


def parse_import_document(
    data: bytes, *, where: str, problems: Problems, allow_short_seeds: bool = False
) -> list[Imported]:
    """
    Return the devices that a JSON or YAML document lists; those in which something is wrong are left out.

    Args:
        where: What to call the document.
        problems: Is told of everything that is wrong.
        allow_short_seeds: Let seeds of 80 to 127 bits stand.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        problems.error(where, "$", f"the document is larger than {MAX_DOCUMENT_BYTES} bytes", "import it in parts")
        return []
    try:
        document = _read_document(data)
    except DocumentError as error:
        # The reader's own words repeat what stands there, and that may be a seed.
        at = f" at line {error.line}, column {error.column}" if error.line else ""
        problems.error(where, "$", f"the document is neither JSON nor YAML{at}", "write it as in the example of --help")
        return []
    if not isinstance(document, dict) or not isinstance(document.get("devices"), list):
        problems.error(where, "$", "there is no list `devices`", "write it as in the example of --help")
        return []
    items = document["devices"]
    if isinstance(document, DuplicateKeysDict) or len(document) > 1:
        problems.error(where, "$", "there is more than one list `devices`", "let the document hold that list alone")
    if len(items) > MAX_IMPORTED:
        problems.error(where, "$.devices", f"there are more than {MAX_IMPORTED} devices", "import them in parts")
        return []
    found: list[Imported] = []
    for number, item in enumerate(items):
        device = _Item(item, f"$.devices[{number}]", where, problems).read(allow_short_seeds=allow_short_seeds)
        if device is not None:
            found.append(device)
    _refuse_doubles(found, where, problems)
    return found


def _read_document(data: bytes) -> object:
    # YAML knows less of the escapes of JSON than JSON does.
    with contextlib.suppress(DocumentError):
        return read_json(data)
    return read_yaml(data)


class _Item:
    """
    One item of the list.

    Thread-safety: confined.
    """

    def __init__(self, item: object, place: str, where: str, problems: Problems) -> None:
        self._place = place
        self._where = where
        self._problems = problems
        self._fields: Mapping[str, object] = {}
        self._is_good = True
        if not isinstance(item, dict):
            self._refuse("", "the item is no object with fields", "write it as in the example of --help")
        else:
            self._fields = {name: value for name, value in item.items() if value is not None}
        if isinstance(item, DuplicateKeysDict):
            for name in item.duplicates:
                self._refuse(name, "the field stands twice", "leave one of the two out")

    def read(self, *, allow_short_seeds: bool) -> Imported | None:
        """Return the device, or None if something is wrong with it."""
        if not self._is_good:
            return None
        kind = self._text("kind")
        known = {"totp": _TOTP_FIELDS, "u2f": _U2F_FIELDS}.get(kind)
        if known is None:
            if kind:
                self._refuse("kind", f"{quote(kind)} is no kind of device that can be imported", _KINDS)
            return None
        for name in self._fields:
            if name not in known:
                self._refuse(name, f"a device of kind `{kind}` has no such field", f"it has {', '.join(sorted(known))}")
        user = self._user()
        if kind == "totp":
            return self._totp(user, allow_short_seeds=allow_short_seeds)
        return self._u2f(user)

    def _totp(self, user: User | None, *, allow_short_seeds: bool) -> ImportedTotp | None:
        serial_number = self._text("serial_number")
        if serial_number and user is not None:
            self._verify_totp_serial(serial_number, user)
        algorithm = _ALGORITHMS.get(self._text("algorithm", "SHA1").upper().replace("-", ""))
        if algorithm is None:
            self._refuse("algorithm", "the algorithm is not known here", "write SHA1, SHA256 or SHA512")
        for name, only in (("digits", totp.DIGITS), ("period", totp.STEP_SECONDS)):
            if self._number(name, only, 0, _MAX_SIGN_COUNT) != only:
                self._refuse(name, f"devices with another number than {only} cannot be used here", "enrol a new device")
        drift_steps = self._number("drift_steps", 0, -totp.MAX_WINDOW_STEPS, totp.MAX_WINDOW_STEPS)
        secret = self._secret(allow_short_seeds=allow_short_seeds)
        name = self._name(serial_number.rpartition("/")[2] if self._is_good else "")
        if not self._is_good or user is None or algorithm is None:
            return None
        return ImportedTotp(self._place, user, serial_number, name, algorithm, drift_steps, secret)

    def _secret(self, *, allow_short_seeds: bool) -> bytes:
        if ("secret" in self._fields) == ("secret_hex" in self._fields):
            self._refuse("secret", "the seed stands in one of `secret` and `secret_hex`", "keep one of the two")
            return b""
        name = "secret" if "secret" in self._fields else "secret_hex"
        text = self._text(name).translate(_BETWEEN_GROUPS)
        try:
            secret = _base32(text) if name == "secret" else bytes.fromhex(text)
        except ValueError:
            base = "base32" if name == "secret" else "hexadecimal digits"
            self._refuse(name, f"the seed is not in {base}", "write `secret` in base32, or `secret_hex` in hexadecimal")
            return b""
        bits = 8 * len(secret)
        if len(secret) > totp.MAX_SECRET_BYTES:
            most = 8 * totp.MAX_SECRET_BYTES
            self._refuse(name, f"the seed has {bits} bits, and may have {most}", "enrol a new device")
        elif len(secret) < totp.MIN_IMPORTED_SECRET_BYTES and text:
            least = 8 * totp.MIN_IMPORTED_SECRET_BYTES
            self._refuse(name, f"the seed has {bits} bits, and needs {least} at least", "enrol a new device")
        elif len(secret) < totp.MIN_SECRET_BYTES and text and not allow_short_seeds:
            # SPEC: RFC 4226, section 4, R6.
            self._refuse(
                name,
                f"the seed has {bits} bits, and RFC 4226 asks for {8 * totp.MIN_SECRET_BYTES}",
                "enrol a new device, or let short seeds in with --allow-short-seeds",
            )
        return secret

    def _verify_totp_serial(self, serial_number: str, user: User) -> None:
        start = f"arn:{user.partition}:iam::{user.account}:"
        if is_hardware_serial(serial_number):
            good = _HARDWARE.fullmatch(serial_number) is not None
        else:
            path = serial_number.removeprefix(start)
            good = path != serial_number and _TOTP_ARN.fullmatch(path) is not None and len(serial_number) <= 256
        if not good:
            self._refuse(
                "serial_number",
                "the serial number has none of the forms of AWS",
                f"write {start}mfa/NAME for an app, or the maker's number of a token, which has 9 characters or more",
            )

    def _u2f(self, user: User | None) -> ImportedKey | None:
        app_id = self._text("app_id")
        if app_id and (len(app_id) > _MAX_APP_ID or _APP_ID.fullmatch(app_id) is None):
            self._refuse("app_id", "the AppID is no https address", "write the one that the key was registered with")
        serial_number = self._text("serial_number", "")
        if serial_number and user is not None and not self._is_key_serial(serial_number, user):
            self._refuse(
                "serial_number",
                "the serial number has not the form of AWS",
                f"write {user.key_serial('NAME', 'ID')}, or leave it out",
            )
        sign_count = self._number("sign_count", 0, 0, _MAX_SIGN_COUNT)
        name = self._name("u2f")
        credential = self._credential(app_id, sign_count)
        if not self._is_good or user is None or credential is None:
            return None
        return ImportedKey(self._place, user, serial_number, name, app_id, credential)

    def _is_key_serial(self, serial_number: str, user: User) -> bool:
        start = user.key_serial("", "").removesuffix("-")
        try:
            parse_serial(serial_number)
        except RequestError:
            return False
        return serial_number.startswith(start) and "/" not in serial_number.removeprefix(start) != ""

    def _credential(self, app_id: str, sign_count: int) -> Credential | None:
        is_whole = "registration" in self._fields or "client_data" in self._fields
        if is_whole and not self._fields.keys().isdisjoint({"key_handle", "public_key", "attestation_certificate"}):
            self._refuse(
                "registration",
                "a key stands as `registration` and `client_data`, or as `key_handle` and `public_key`",
                "keep one of the two; a registration holds its certificate",
            )
            return None
        if is_whole:
            registration, client_data = self._bytes("registration"), self._bytes("client_data")

            def make() -> Credential:
                return import_registration(
                    registration=registration, client_data=client_data, app_id=app_id, sign_count=sign_count
                )

        else:
            key_handle, public_key = self._bytes("key_handle"), self._bytes("public_key")

            def make() -> Credential:
                return import_credential(
                    key_handle=key_handle, public_key=public_key, app_id=app_id, sign_count=sign_count
                )

        certificate = self._bytes("attestation_certificate") if "attestation_certificate" in self._fields else b""
        return self._made(make, certificate, is_whole=is_whole) if self._is_good else None

    def _made(self, make: Callable[[], Credential], certificate: bytes, *, is_whole: bool) -> Credential | None:
        """Return the credential that *make* gives, or tell what is wrong with what it was given."""
        try:
            credential = make()
            if certificate and not is_whole:
                read_certificate(certificate)
                # Nothing shows that it vouches for this key.
                attestation = Attestation(
                    format="fido-u2f", type=AttestationType.NOT_EVALUATED, certificates=(certificate,)
                )
                credential = replace(credential, attestation=attestation)
        except MfaError as error:
            self._refuse("registration" if is_whole else _FIELDS.get(type(error), "key_handle"), error.message, _HELP)
            return None
        return credential

    def _user(self) -> User | None:
        text = self._text("user_arn")
        try:
            return parse_user(text) if text else None
        except RequestError as error:
            self._refuse("user_arn", "that is no ARN of a user", error.help)
            return None

    def _name(self, otherwise: str) -> str:
        name = self._text("name", otherwise[:64] or "device")
        try:
            return parse_device_name(name)
        except RequestError as error:
            self._refuse("name", "no device can be called that", error.help)
            return ""

    def _text(self, name: str, otherwise: str | None = None) -> str:
        """Return the text of a field: *otherwise* where it is missing, or (without that) a problem."""
        value = self._fields.get(name, otherwise)
        if isinstance(value, str) and (value or otherwise is not None):
            return value
        if value is None or value == "":
            self._refuse(name, "the field is missing", "state it")
        else:
            self._refuse(name, "the field holds no text", "put it in quotes")
        return ""

    def _number(self, name: str, otherwise: int, least: int, most: int) -> int:
        text = self._text(name, str(otherwise))
        number = int(text) if _NUMBER.fullmatch(text) else most + 1
        if not least <= number <= most:
            self._refuse(name, f"the field is no whole number from {least} to {most}", "correct it")
            return otherwise
        return number

    def _bytes(self, name: str) -> bytes:
        text = self._text(name)
        try:
            standard = text.rstrip("=").translate(_TO_STANDARD)
            return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
        except (ValueError, binascii.Error):
            self._refuse(name, "the field is not base64", "write it in base64 or base64url")
            return b""

    def _refuse(self, name: str, message: str, help: str) -> None:
        self._is_good = False
        self._problems.error(self._where, f"{self._place}.{name}" if name else self._place, message, help)


_KINDS = "write totp, or u2f; WebAuthn keys are bound to their relying party and have to be enrolled anew"
_HELP = "state what the other system kept of the registration, unchanged"
_FIELDS: dict[type[MfaError], str] = {
    CredentialIdInvalidError: "key_handle",
    PublicKeyMalformedError: "public_key",
    PublicKeyInvalidError: "public_key",
    AttestationCertificateError: "attestation_certificate",
}


def _base32(text: str) -> bytes:
    return base64.b32decode(text + "=" * (-len(text) % 8), casefold=True)


def _refuse_doubles(found: list[Imported], where: str, problems: Problems) -> None:
    """Tell of what stands twice, where once is all that there may be."""
    seen: dict[tuple[str, object], str] = {}

    def refuse(device: Imported, kind: str, value: object, name: str, message: str, help: str) -> None:
        first = seen.setdefault((kind, value), device.place)
        if first != device.place:
            problems.error(where, f"{device.place}.{name}", f"{message} `{first}`", help)

    for device in found:
        if device.serial_number:
            refuse(device, "serial", device.serial_number, "serial_number", "the serial number is that of",
                   "each device has one of its own")  # fmt: skip
        if isinstance(device, ImportedTotp):
            refuse(device, "secret", device.secret, "secret", "the seed is that of",
                   "a code would be good for both: leave one of the two out")  # fmt: skip
        else:
            refuse(device, "credential", device.credential.credential_id, "key_handle", "the key is that of",
                   "leave one of the two out")  # fmt: skip
