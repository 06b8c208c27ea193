# SPDX-License-Identifier: Apache-2.0
"""
Who calls a service, and the users whom calls are about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sidecar.model.errors import PreconditionError, RequestError
from sidecar.model.session import SessionClaims

#: Name and session of whoever holds the administrator's token.
ADMINISTRATOR = "administrator"
#: Name of whoever has shown nothing yet, as those who sign in.
ANONYMOUS = "anonymous"

#: SPEC: IAM's patterns of a path and of a user's name.
_USER = re.compile(
    r"arn:(?P<partition>aws[a-z-]{0,32}):iam::(?P<account>[0-9]{12}):"
    r"(?:(?P<root>root)|user/(?P<path>(?:[!-.0-~]+/)*)(?P<name>[A-Za-z0-9_+=,.@-]{1,64}))"
)
_MAX_ARN = 2048
_MAX_NAME = 64
#: SPEC: IAM's pattern of the name of a virtual device, without what a URI would have to escape.
_DEVICE_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]+")


@dataclass(frozen=True, slots=True)
class Caller:
    """
    Who makes a call, and from where.

    Attributes:
        name: ARN of a principal, or ``administrator``.
        session: What a ceremony or a challenge of this caller belongs to: the access key id of a session, which stays
            when a second factor is proved in it.
        peer: Address that the call comes from.
        claims: What the session says of its bearer; None for the administrator.
        token: The session's token; empty for the administrator.
    """

    name: str
    session: str
    peer: str
    claims: SessionClaims | None = None
    token: str = field(default="", repr=False)

    @property
    def is_administrator(self) -> bool:
        """Whether the administrator's token was shown."""
        return self.name == ADMINISTRATOR

    @classmethod
    def administrator(cls, peer: str) -> Caller:
        """Return whoever holds the administrator's token."""
        return cls(ADMINISTRATOR, ADMINISTRATOR, peer)

    @classmethod
    def anonymous(cls, peer: str) -> Caller:
        """Return somebody who has shown nothing yet."""
        return cls(ANONYMOUS, "", peer)


def session_of(caller: Caller) -> SessionClaims:
    """
    Return what the session of *caller* says.

    Raises:
        PreconditionError: The caller is the administrator, who is no principal.
    """
    if caller.claims is None:
        raise PreconditionError(
            "the administrator's token is no principal", help="sign in, and call with the token of that session"
        )
    return caller.claims


@dataclass(frozen=True, slots=True)
class User:
    """An IAM user, or the root user of an account, who may own devices."""

    arn: str
    partition: str
    account: str
    name: str
    is_root: bool

    def totp_serial(self, device_name: str) -> str:
        """Return the serial number of a virtual TOTP device, in the form of AWS."""
        return f"arn:{self.partition}:iam::{self.account}:mfa/{device_name}"

    def key_serial(self, device_name: str, id: str) -> str:
        """Return the serial number of a security key, in the form of AWS."""
        owner = "root-account" if self.is_root else f"user/{self.name}"
        return f"arn:{self.partition}:iam::{self.account}:u2f/{owner}/{device_name}-{id}"


def parse_user(arn: str, field: str = "user_arn") -> User:
    """
    Return the user whom *arn* names.

    Raises:
        RequestError: It names no IAM user and no root user.

    >>> parse_user("arn:aws:iam::111122223333:user/finance/bob").totp_serial("phone")
    'arn:aws:iam::111122223333:mfa/phone'
    """
    match = _USER.fullmatch(arn) if len(arn) <= _MAX_ARN else None
    if match is None:
        raise RequestError(
            f"`{field}` is no ARN of a user",
            field=field,
            help="write arn:aws:iam::ACCOUNT:user/NAME; roles have no devices",
        )
    name = "root" if match["root"] else match["name"]
    return User(arn, match["partition"], match["account"], name, match["root"] is not None)


def parse_device_name(name: str, field: str = "device_name") -> str:
    """
    Return *name*.

    Raises:
        RequestError: No device can be called that.
    """
    if not 1 <= len(name) <= _MAX_NAME or _DEVICE_NAME.fullmatch(name) is None:
        raise RequestError(
            f"`{field}` cannot be the name of a device",
            field=field,
            help=f"1 to {_MAX_NAME} letters, digits and any of _+=,.@-",
        )
    return name


#: SPEC: IAM's pattern of a serial number.
_SERIAL = re.compile(r"[A-Za-z0-9_+=/:,.@-]{9,256}")


def parse_serial(serial_number: str, field: str = "serial_number") -> str:
    """
    Return *serial_number*.

    Raises:
        RequestError: No device has a serial number of this form.
    """
    if _SERIAL.fullmatch(serial_number) is None:
        raise RequestError(
            f"`{field}` is no serial number of a device",
            field=field,
            help="see those of a user with `iam-sidecar mfa list`",
        )
    return serial_number


def is_hardware_serial(serial_number: str) -> bool:
    """
    Say whether *serial_number* is that of a hardware token: its maker's, and not an ARN.

    >>> is_hardware_serial("GAHT12345678"), is_hardware_serial("arn:aws:iam::111122223333:mfa/phone")
    (True, False)
    """
    return not serial_number.startswith("arn:")


#: What ``token_urlsafe`` gives; a database takes no other text than that which it can store.
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_id(text: str) -> bool:
    """
    Say whether *text* can be the id of a ceremony or of a challenge.

    >>> is_id("vAyd3-8_"), is_id("a b")
    (True, False)
    """
    return _ID.fullmatch(text) is not None
