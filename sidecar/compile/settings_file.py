# SPDX-License-Identifier: Apache-2.0
"""
``account-settings.yaml``: what AWS's account dump lacks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.compile.accounts import SESSION_DURATION
from sidecar.compile.problems import member, quote
from sidecar.compile.shape import Place
from sidecar.model.snapshot import PasswordPolicy

_FILE_KEYS = frozenset({"accounts", "root_is_allowed"})
_ACCOUNT_KEYS = frozenset({"alias", "password_policy", "roles"})
_ROLE_KEYS = frozenset({"max_session_duration"})

#: Least and most of the numbers of a password policy.
_PASSWORD_NUMBERS = {
    "minimum_password_length": (6, 128),
    "max_password_age": (1, 1095),
    "password_reuse_prevention": (1, 24),
}
_PASSWORD_FLAGS = (
    "require_symbols",
    "require_numbers",
    "require_uppercase_characters",
    "require_lowercase_characters",
    "allow_users_to_change_password",
    "hard_expiry",
)
#: Keys of a password policy: in our spelling, and in AWS's, which also tells whether passwords expire at all.
_PASSWORD_KEYS = {name: name for name in (*_PASSWORD_NUMBERS, *_PASSWORD_FLAGS)}
_AWS_PASSWORD_KEYS = {
    "ExpirePasswords": "expire_passwords",
    **{"".join(word.capitalize() for word in name.split("_")): name for name in _PASSWORD_KEYS},
}

_ALIAS = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*\Z")


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """
    Settings of one account.

    Attributes:
        path: Where they stand in the file.
        roles: Names of the roles it speaks of.
        durations: The longest session of a role in seconds, by role name.
    """

    path: str
    alias: str = ""
    password_policy: PasswordPolicy | None = None
    roles: tuple[str, ...] = ()
    durations: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """Content of a settings file; what no file says is as if it were empty."""

    accounts: Mapping[str, AccountSettings] = field(default_factory=dict)
    root_is_allowed: bool = True


def parse_settings(place: Place, document: object) -> Settings:
    """Turn the content of a settings file into settings; problems go to *place*."""
    if document is None:
        # A YAML file of nothing but comments.
        return Settings()
    value = place.mapping(document, "$", "a settings file")
    if value is None:
        return Settings()
    place.known_keys(value, "$", _FILE_KEYS, "a settings file")
    root_is_allowed: bool | None = True
    if "root_is_allowed" in value:
        root_is_allowed = place.boolean(value["root_is_allowed"], "$.root_is_allowed", "`root_is_allowed`")
    accounts: dict[str, AccountSettings] = {}
    aliases: dict[str, str] = {}
    entries = place.mapping(value["accounts"], "$.accounts", "`accounts`") if "accounts" in value else None
    for key, item in (entries or {}).items():
        path = member("$.accounts", key)
        account = place.account_id(str(key), path, "a key of `accounts`")
        settings = _account(place, item, path)
        if account is None or settings is None:
            continue
        accounts[account] = settings
        if settings.alias:
            other = aliases.setdefault(settings.alias, account)
            if other != account:
                place.error(f"{path}.alias", f"alias {quote(settings.alias)} belongs to account {other} already")
    return Settings(accounts, root_is_allowed is not False)


def _account(place: Place, raw: object, path: str) -> AccountSettings | None:
    value = place.mapping(raw, path, "the settings of an account")
    if value is None:
        return None
    place.known_keys(value, path, _ACCOUNT_KEYS, "the settings of an account")
    alias = place.text(value["alias"], f"{path}.alias", "`alias`") if "alias" in value else ""
    if alias and (not _ALIAS.match(alias) or (len(alias) == 12 and alias.isdigit())):
        place.error(
            f"{path}.alias",
            f"{quote(alias)} cannot be the alias of an account",
            "3 to 63 lower-case letters, digits and single hyphens, not twelve digits",
        )
        alias = ""
    password_policy: PasswordPolicy | None = None
    if "password_policy" in value:
        password_policy = _password_policy(place, value["password_policy"], f"{path}.password_policy")
    durations: dict[str, int] = {}
    roles = place.mapping(value["roles"], f"{path}.roles", "`roles`") if "roles" in value else None
    for name, item in (roles or {}).items():
        role_path = member(f"{path}.roles", name)
        role = place.mapping(item, role_path, "the settings of a role")
        if role is None:
            continue
        place.known_keys(role, role_path, _ROLE_KEYS, "the settings of a role")
        if "max_session_duration" in role:
            duration = place.integer(
                role["max_session_duration"],
                f"{role_path}.max_session_duration",
                "`max_session_duration`",
                *SESSION_DURATION,
            )
            if duration is not None:
                durations[str(name)] = duration
    return AccountSettings(path, alias or "", password_policy, tuple(roles or ()), durations)


def _password_policy(place: Place, raw: object, path: str) -> PasswordPolicy | None:
    """Read a password policy in our spelling of the keys, or in that of ``get-account-password-policy``."""
    value = place.mapping(raw, path, "`password_policy`")
    if value is None:
        return None
    known = _AWS_PASSWORD_KEYS if _AWS_PASSWORD_KEYS.keys() & value.keys() else _PASSWORD_KEYS
    place.known_keys(value, path, known.keys(), "a password policy")
    numbers: dict[str, int | None] = {}
    flags: dict[str, bool] = {}
    for key, item in value.items():
        name = known.get(key, "")
        if name in _PASSWORD_NUMBERS:
            least, most = _PASSWORD_NUMBERS[name]
            numbers[name] = place.integer(item, f"{path}.{key}", f"`{key}`", least, most)
        elif name:
            flags[name] = place.boolean(item, f"{path}.{key}", f"`{key}`") or False
    length = numbers.get("minimum_password_length")
    return PasswordPolicy(
        minimum_password_length=length if length is not None else PasswordPolicy().minimum_password_length,
        require_symbols=flags.get("require_symbols", False),
        require_numbers=flags.get("require_numbers", False),
        require_uppercase_characters=flags.get("require_uppercase_characters", False),
        require_lowercase_characters=flags.get("require_lowercase_characters", False),
        allow_users_to_change_password=flags.get("allow_users_to_change_password", False),
        max_password_age=numbers.get("max_password_age"),
        password_reuse_prevention=numbers.get("password_reuse_prevention"),
        hard_expiry=flags.get("hard_expiry", False),
    )
