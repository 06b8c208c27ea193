# SPDX-License-Identifier: Apache-2.0
"""
``account-settings.yaml``: what it gives, and the name of everything that can be wrong with it.
"""

from __future__ import annotations

import pytest

from sidecar.compile.source import SourceReport
from sidecar.model.snapshot import PasswordPolicy
from tests.unit.compile.dumps import ACCOUNT, expect_error, full_page, parse, snapshot_of

FILE = "account-settings.yaml"
HERE = f"$.accounts['{ACCOUNT}']"


def report_of(text: str) -> SourceReport:
    return parse(full_page(), account_settings=text.encode())


def of_account(text: str) -> str:
    return f"accounts:\n  '{ACCOUNT}':\n    {text}\n"


def test_settings_go_into_the_account_and_its_roles() -> None:
    report = report_of(
        f"""
# What the dump lacks.
root_is_allowed: false
accounts:
  {ACCOUNT}:
    alias: acme-prod
    password_policy:
      minimum_password_length: 14
      require_symbols: true
      max_password_age: 90
      password_reuse_prevention: 24
    roles:
      web:
        max_session_duration: 43200
"""
    )
    assert report.problems == ()
    snapshot = snapshot_of(report)
    (account,) = snapshot.accounts
    assert not snapshot.root_is_allowed
    assert account.alias == "acme-prod"
    assert account.roles[0].max_session_duration == 43_200
    assert account.password_policy == PasswordPolicy(
        minimum_password_length=14, require_symbols=True, max_password_age=90, password_reuse_prevention=24
    )


def test_password_policy_when_as_aws_prints_it_means_the_same() -> None:
    text = """password_policy:
      MinimumPasswordLength: 14
      RequireSymbols: true
      RequireNumbers: false
      RequireUppercaseCharacters: false
      RequireLowercaseCharacters: false
      AllowUsersToChangePassword: true
      ExpirePasswords: true
      MaxPasswordAge: 90
      HardExpiry: true"""
    report = report_of(of_account(text))
    assert report.problems == ()
    assert snapshot_of(report).accounts[0].password_policy == PasswordPolicy(
        minimum_password_length=14,
        require_symbols=True,
        allow_users_to_change_password=True,
        max_password_age=90,
        hard_expiry=True,
    )


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}", "accounts: {}"])
def test_settings_when_empty_change_nothing(text: str) -> None:
    report = report_of(text)
    assert report.problems == ()
    assert snapshot_of(report) == snapshot_of(parse(full_page()))


def test_settings_in_json_are_read_too() -> None:
    report = parse(
        full_page(), account_settings={"accounts": {ACCOUNT: {"roles": {"web": {"max_session_duration": 7200}}}}}
    )
    assert snapshot_of(report).accounts[0].roles[0].max_session_duration == 7200


ERRORS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "no object": ("[]", "$", ("a settings file must be an object",)),
    "unknown key": ("root_allowed: true", "$.root_allowed", ("did you mean `root_is_allowed`",)),
    "root is no boolean": ("root_is_allowed: 'no'", "$.root_is_allowed", ("true or false", "text")),
    "root is another word": ("root_is_allowed: yes", "$.root_is_allowed", ("true or false",)),
    "accounts are no object": ("accounts: []", "$.accounts", ("must be an object",)),
    "account is no id": ("accounts: {prod: {}}", "$.accounts.prod", ("twelve digits", "`prod`")),
    "account without dump": (
        "accounts: {'123456789012': {}}",
        "$.accounts['123456789012']",
        ("no dump", "123456789012"),
    ),
    "account is no object": (f"accounts: {{'{ACCOUNT}': x}}", HERE, ("must be an object",)),
    "account twice": (
        f"accounts: {{'{ACCOUNT}': {{}}, '{ACCOUNT}': {{}}}}",
        HERE,
        ("stands more than once",),
    ),
    "unknown key of account": (of_account("aliases: x"), f"{HERE}.aliases", ("did you mean `alias`",)),
    "alias is a number": (of_account("alias: 5"), f"{HERE}.alias", ("must be text, not a number",)),
    "alias in capitals": (of_account("alias: Acme"), f"{HERE}.alias", ("`Acme`", "lower-case")),
    "alias too short": (of_account("alias: ab"), f"{HERE}.alias", ("3 to 63",)),
    "alias too long": (of_account(f"alias: {'a' * 64}"), f"{HERE}.alias", ("3 to 63",)),
    "alias like an account": (of_account("alias: '123456789012'"), f"{HERE}.alias", ("not twelve digits",)),
    "roles are no object": (of_account("roles: [web]"), f"{HERE}.roles", ("must be an object",)),
    "role is no object": (of_account("roles: {web: 3600}"), f"{HERE}.roles.web", ("must be an object",)),
    "role is nowhere": (
        of_account("roles: {gone: {max_session_duration: 3600}}"),
        f"{HERE}.roles.gone",
        (f"account {ACCOUNT} has no role `gone`",),
    ),
    "unknown key of role": (
        of_account("roles: {web: {session_duration: 3600}}"),
        f"{HERE}.roles.web.session_duration",
        ("did you mean `max_session_duration`",),
    ),
    "session too short": (
        of_account("roles: {web: {max_session_duration: 3599}}"),
        f"{HERE}.roles.web.max_session_duration",
        ("from 3600 to 43200", "`3599`"),
    ),
    "session too long": (
        of_account("roles: {web: {max_session_duration: 43201}}"),
        f"{HERE}.roles.web.max_session_duration",
        ("from 3600 to 43200",),
    ),
    "session is no number": (
        of_account("roles: {web: {max_session_duration: 1h}}"),
        f"{HERE}.roles.web.max_session_duration",
        ("whole number", "`1h`"),
    ),
    "session is a very long number": (
        of_account(f"roles: {{web: {{max_session_duration: {'9' * 5000}}}}}"),
        f"{HERE}.roles.web.max_session_duration",
        ("from 3600 to 43200",),
    ),
    "password policy is no object": (
        of_account("password_policy: strict"),
        f"{HERE}.password_policy",
        ("must be an object",),
    ),
    "unknown key of password policy": (
        of_account("password_policy: {min_password_length: 8}"),
        f"{HERE}.password_policy.min_password_length",
        ("did you mean `minimum_password_length`",),
    ),
    "both spellings": (
        of_account("password_policy: {MinimumPasswordLength: 8, require_symbols: true}"),
        f"{HERE}.password_policy.require_symbols",
        ("unknown key `require_symbols`", "RequireSymbols"),
    ),
    "password too short": (
        of_account("password_policy: {minimum_password_length: 5}"),
        f"{HERE}.password_policy.minimum_password_length",
        ("from 6 to 128",),
    ),
    "password too old": (
        of_account("password_policy: {max_password_age: 1096}"),
        f"{HERE}.password_policy.max_password_age",
        ("from 1 to 1095",),
    ),
    "too many passwords kept": (
        of_account("password_policy: {password_reuse_prevention: 25}"),
        f"{HERE}.password_policy.password_reuse_prevention",
        ("from 1 to 24",),
    ),
    "flag is no boolean": (
        of_account("password_policy: {require_numbers: 1}"),
        f"{HERE}.password_policy.require_numbers",
        ("true or false", "a number"),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_settings_with_a_mistake_are_refused_by_name(name: str) -> None:
    text, json_path, words = ERRORS[name]
    report = report_of(text)
    assert report.snapshot is None
    expect_error(report, json_path, *words, file=FILE)


def test_alias_of_two_accounts_is_refused() -> None:
    text = f"accounts:\n  '{ACCOUNT}': {{alias: acme}}\n  '000000000001': {{alias: acme}}\n"
    expect_error(report_of(text), "$.accounts['000000000001'].alias", f"belongs to account {ACCOUNT}", file=FILE)
