# SPDX-License-Identifier: Apache-2.0
"""
From a request to its parties: validation, the caller, the resource and its owner.

``docs/semantics.md``, section 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from sidecar.model.errors import RequestError
from sidecar.model.request import (
    MAX_ACTION,
    MAX_CONTEXT_KEY,
    MAX_CONTEXT_KEYS,
    MAX_CONTEXT_VALUE,
    MAX_CONTEXT_VALUES,
    MAX_PRINCIPAL,
    MAX_RESOURCE,
    MAX_SERVICE_PRINCIPAL,
    ContextValue,
    is_reserved_key,
)
from sidecar.model.snapshot import FederatedUser, ResourcePolicy, Role, Snapshot, User
from tests.oracle.patterns import lower


class CallerKind(Enum):
    """The rows of the first table."""

    ANONYMOUS = "anonymous"
    SERVICE = "service"
    USER = "user"
    ROLE_SESSION = "role session"
    ROOT = "root"
    FEDERATED_USER = "federated user"


@dataclass(frozen=True)
class Caller:
    """
    Who asks, with what the snapshot knows about them.

    Attributes:
        arn: The principal as the request names it.
        name: User or federated user name, role name, or the service in lower case.
        session: Name of a role session.
        user: The user, or the user that a federated user's session belongs to.
        role: The role of a role session.
        federated: The federated user.
    """

    kind: CallerKind
    arn: str = ""
    partition: str = ""
    account: str = ""
    name: str = ""
    session: str = ""
    user: User | None = None
    role: Role | None = None
    federated: FederatedUser | None = None


@dataclass(frozen=True)
class Resource:
    """
    What is asked for.

    Attributes:
        text: As the request names it.
        fields: The six fields of its ARN; empty for ``*``.
    """

    text: str
    fields: tuple[str, ...]

    @property
    def is_any(self) -> bool:
        """Whether this is the resource ``*``."""
        return not self.fields

    @property
    def partition(self) -> str:
        """Partition of its ARN, empty for ``*``."""
        return self.fields[1] if self.fields else ""

    @property
    def service(self) -> str:
        """Service of its ARN, empty for ``*``."""
        return self.fields[2] if self.fields else ""

    @property
    def account(self) -> str:
        """Account field of its ARN, often empty."""
        return self.fields[4] if self.fields else ""

    @property
    def path(self) -> str:
        """Sixth field of its ARN, empty for ``*``."""
        return self.fields[5] if self.fields else ""

    @property
    def is_role(self) -> bool:
        """Whether it is the ARN of an IAM role."""
        return self.service == "iam" and self.path.startswith("role/") and self.path != "role/"

    @property
    def is_key(self) -> bool:
        """Whether it is the ARN of a KMS key."""
        return self.service == "kms" and self.path.startswith("key/") and self.path != "key/"


_ACTION = re.compile(r"[A-Za-z0-9-]+:[A-Za-z0-9_.-]+")
_ACCOUNT = re.compile(r"[0-9]{12}")
_SERVICE = re.compile(r"[a-z0-9._-]+\.amazonaws\.com(?:\.cn)?", re.ASCII | re.IGNORECASE)
_SESSION = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _require_text(text: str, limit: int, field: str) -> None:
    if not _is_text(text):
        raise RequestError("text is not valid Unicode", field=field)
    if len(text.encode("utf-8")) > limit:
        raise RequestError(f"longer than {limit} bytes", field=field)
    if "\0" in text:
        raise RequestError("text holds a NUL character", field=field)


def parse_caller(text: str, *, simulation: bool) -> Caller:
    """
    Read the ``principal`` of a request.

    Raises:
        RequestError: It is none of the forms that can call.
    """
    _require_text(text, MAX_PRINCIPAL, "principal")
    if text == "":
        return Caller(CallerKind.ANONYMOUS)
    if ":" not in text:
        if len(text) <= MAX_SERVICE_PRINCIPAL and _SERVICE.fullmatch(text):
            return Caller(CallerKind.SERVICE, arn=text, name=lower(text))
        raise RequestError(f"`{text}` is not a principal", field="principal")
    fields = text.split(":", 5)
    if len(fields) == 6 and fields[0] == "arn" and fields[1] and not fields[3] and _ACCOUNT.fullmatch(fields[4]):
        _, partition, service, _, account, path = fields
        if service == "iam" and path == "root":
            return Caller(CallerKind.ROOT, text, partition, account)
        if service == "iam" and path.startswith("user/") and path.split("/")[-1]:
            return Caller(CallerKind.USER, text, partition, account, path.split("/")[-1])
        if service == "sts" and path.startswith("assumed-role/"):
            parts = path.split("/")
            if len(parts) == 3 and parts[1] and _SESSION.fullmatch(parts[2]):
                return Caller(CallerKind.ROLE_SESSION, text, partition, account, parts[1], parts[2])
        if service == "sts" and path.startswith("federated-user/") and simulation:
            name = path.removeprefix("federated-user/")
            if name:
                return Caller(CallerKind.FEDERATED_USER, text, partition, account, name)
    raise RequestError(f"`{text}` is not a principal that can call", field="principal")


def parse_action(text: str) -> str:
    """
    Read the ``action`` of a request and return it in lower case.

    Raises:
        RequestError: It is not ``service:Name``.
    """
    _require_text(text, MAX_ACTION, "action")
    if not _ACTION.fullmatch(text):
        raise RequestError(f"`{text}` is not an action", field="action")
    return lower(text)


def parse_resource(text: str) -> Resource:
    """
    Read the ``resource`` of a request.

    Raises:
        RequestError: It is neither ``*`` nor an ARN.
    """
    _require_text(text, MAX_RESOURCE, "resource")
    if text == "*":
        return Resource(text, ())
    fields = tuple(text.split(":", 5))
    if len(fields) == 6 and fields[0] == "arn" and fields[1] and fields[2] and fields[5]:
        return Resource(text, fields)
    raise RequestError(f"`{text}` is not a resource", field="resource")


def parse_context(context: Mapping[str, ContextValue], *, field: str, may_be_reserved: bool) -> dict[str, ContextValue]:
    """
    Read the context (or the override) of a request; the keys come back in lower case.

    Raises:
        RequestError: A key is reserved, empty or there twice, or a limit is passed.
    """
    if len(context) > MAX_CONTEXT_KEYS:
        raise RequestError(f"more than {MAX_CONTEXT_KEYS} keys", field=field)
    count = 0
    result: dict[str, ContextValue] = {}
    for key, value in context.items():
        # An error repeats no more of a key than this, and nothing of what is no text.
        where = f"{field}[{key[:64]}]" if _is_text(key) else field
        _require_text(key, MAX_CONTEXT_KEY, where)
        if key == "":
            raise RequestError("empty context key", field=field)
        if is_reserved_key(key) and not may_be_reserved:
            raise RequestError(f"`{key}` is set by the sidecar alone", field=where)
        if lower(key) in result:
            raise RequestError(f"`{key}` is there twice", field=where)
        count += len(value.values)
        if count > MAX_CONTEXT_VALUES:
            raise RequestError(f"more than {MAX_CONTEXT_VALUES} values in all", field=where)
        for text in value.values:
            _require_text(text, MAX_CONTEXT_VALUE, where)
        result[lower(key)] = value
    return result


def parse_resource_account(text: str) -> str:
    """
    Read the ``resource_account`` of a request.

    Raises:
        RequestError: It is neither empty nor twelve digits.
    """
    if text and not _ACCOUNT.fullmatch(text):
        raise RequestError(f"`{text}` is not an account", field="resource_account")
    return text


def find_resource_policy(snapshot: Snapshot, resource: Resource) -> ResourcePolicy | None:
    """Return the most specific entry of ``resource-policies.json`` that covers *resource*."""
    if resource.is_any:
        return None
    covering: list[tuple[int, bool, ResourcePolicy]] = []
    for entry in snapshot.resource_policies:
        if entry.arn.endswith("*"):
            literal = entry.arn[:-1]
            if resource.text.startswith(literal):
                covering.append((len(literal), False, entry))
        elif resource.text == entry.arn or resource.text.startswith(entry.arn + "/"):
            covering.append((len(entry.arn), True, entry))
    if not covering:
        return None
    return max(covering, key=lambda item: item[:2])[2]


def find_owner(snapshot: Snapshot, request_account: str, resource: Resource, caller: Caller) -> str:
    """
    Say which account owns *resource*; an empty string if nothing says so.

    Raises:
        RequestError: The request names another account than the resource does.
    """
    only_account = snapshot.accounts[0].id if len(snapshot.accounts) == 1 else ""
    if resource.is_any:
        return request_account or caller.account or only_account
    known = resource.account
    if known == "aws":
        # Nobody else's, so nothing further says whose it is.
        known = caller.account
        if not known:
            return ""
    if not known:
        entry = find_resource_policy(snapshot, resource)
        if entry is not None:
            known = entry.account or entry.arn.split(":", 5)[4]
    if known and request_account and request_account != known:
        raise RequestError(f"the resource belongs to `{known}`", field="resource_account")
    return known or request_account or only_account


def look_up(snapshot: Snapshot, caller: Caller) -> Caller | None:
    """Fill in what the snapshot knows about *caller*; None if it does not know them."""
    if caller.kind in (CallerKind.ANONYMOUS, CallerKind.SERVICE):
        return caller
    if caller.kind is CallerKind.FEDERATED_USER:
        for federated in snapshot.federated_users:
            if federated.arn == caller.arn:
                user = _find_user(snapshot, federated.user_arn)
                return replace(caller, user=user, federated=federated) if user is not None else None
        return None
    for account in snapshot.accounts:
        if account.id != caller.account or account.partition != caller.partition:
            continue
        if caller.kind is CallerKind.ROOT:
            return caller
        if caller.kind is CallerKind.USER:
            for user in account.users:
                if user.arn == caller.arn:
                    return replace(caller, user=user)
        if caller.kind is CallerKind.ROLE_SESSION:
            for role in account.roles:
                if role.name == caller.name:
                    return replace(caller, role=role)
    return None


def _find_user(snapshot: Snapshot, arn: str) -> User | None:
    for account in snapshot.accounts:
        for user in account.users:
            if user.arn == arn:
                return user
    return None
