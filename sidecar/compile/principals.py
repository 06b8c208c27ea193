# SPDX-License-Identifier: Apache-2.0
"""
Entries of ``Principal`` and ``NotPrincipal``.

Every function is pure: it returns what the text means, or None, with the findings about it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from sidecar.compile.patterns import MAX_CACHED, Findings, check_characters
from sidecar.compile.problems import error, quote
from sidecar.model.policy import PrincipalKind, PrincipalPattern

#: Types of principal, the keys of a ``Principal`` object.
PRINCIPAL_TYPES: Final = ("AWS", "Service", "Federated", "CanonicalUser")

_CACHE_SIZE: Final = 16_384

#: Longest ARN of AWS.
_MAX_LENGTH: Final = 2_048

_ACCOUNT: Final = re.compile(r"[0-9]{12}", re.ASCII)
_PARTITION: Final = re.compile(r"aws(?:-[a-z0-9-]+)?", re.ASCII)
_NAME: Final = re.compile(r"[\w+=,.@-]+", re.ASCII)
_PATH_AND_NAME: Final = re.compile(r"(?:[!-~]*/)?([\w+=,.@-]+)", re.ASCII)
_SESSION: Final = re.compile(r"([\w+=,.@-]+)/([\w+=,.@-]{2,64})", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+")
_UNIQUE_ID: Final = re.compile(r"(?:AIDA|AROA)[A-Z0-9]{8,124}", re.ASCII)
_CANONICAL_ID: Final = re.compile(r"[0-9a-fA-F]{32,128}", re.ASCII)
_ORIGIN_ACCESS: Final = re.compile(r"user/CloudFront Origin Access Identity [A-Z0-9]+", re.ASCII)

#: Everybody.
ANYONE: Final = PrincipalPattern(PrincipalKind.ANY, "*")

_AWS_HELP: Final = "an AWS principal is `*`, an account id, or the ARN of an account root, user, role or session"
_WILDCARD_HELP: Final = "use `*` for everybody, and narrow it with a condition on `aws:PrincipalArn`"

Result = tuple[PrincipalPattern | None, Findings]


def parse_principal(kind: str, text: str) -> Result:
    """
    Read one entry of ``Principal``.

    Args:
        kind: The key under which it stands, one of ``PRINCIPAL_TYPES``.

    >>> parse_principal("AWS", "arn:aws:iam::123456789012:role/team/Deploy")[0].name
    'Deploy'
    """
    if len(text) <= MAX_CACHED:
        return _cached_principal(kind, text)
    return _principal(kind, text)


def _principal(kind: str, text: str) -> Result:
    wrong = check_characters(text)
    if wrong is not None:
        return None, (wrong,)
    if len(text) > _MAX_LENGTH:
        return _refuse(f"the principal {quote(text)} has {len(text):,} characters", f"it may have {_MAX_LENGTH:,}")
    if "${" in text:
        return _refuse(f"a policy variable may not stand in the principal {quote(text)}", _WILDCARD_HELP)
    if kind == "AWS":
        return _aws(text)
    if "*" in text or "?" in text:
        return _refuse(
            f"the `{kind}` principal {quote(text)} holds a wildcard", 'name it in full; everybody is `"Principal": "*"`'
        )
    if kind == "Service":
        return _service(text)
    if kind == "Federated":
        return _federated(text)
    if _CANONICAL_ID.fullmatch(text):
        return PrincipalPattern(PrincipalKind.CANONICAL_USER, text, name=text), ()
    return _refuse(f"{quote(text)} is no canonical user id", "a canonical user id has 64 hexadecimal digits")


_cached_principal = lru_cache(_CACHE_SIZE)(_principal)


def _refuse(message: str, help: str) -> Result:
    return None, (error(message, help),)


def _service(text: str) -> Result:
    if _HOST.fullmatch(text):
        return PrincipalPattern(PrincipalKind.SERVICE, text, name=text.lower()), ()
    return _refuse(f"{quote(text)} is no service principal", "a service principal looks like `ec2.amazonaws.com`")


def _federated(text: str) -> Result:
    remedy = "name an identity provider by its domain, or by the ARN of a SAML or OpenID Connect provider"
    if not text.startswith("arn:"):
        if _HOST.fullmatch(text):
            return PrincipalPattern(PrincipalKind.FEDERATED_PROVIDER, text, name=text), ()
        return _refuse(f"{quote(text)} is no federated principal", remedy)
    fields = text.split(":", 5)
    if (
        len(fields) == 6
        and _PARTITION.fullmatch(fields[1])
        and fields[2] == "iam"
        and not fields[3]
        and _ACCOUNT.fullmatch(fields[4])
        and fields[5].startswith(("saml-provider/", "oidc-provider/"))
        and not fields[5].endswith("/")
        and fields[5].isprintable()
        and " " not in fields[5]
    ):
        return PrincipalPattern(PrincipalKind.FEDERATED_PROVIDER, text, fields[1], fields[4], text), ()
    return _refuse(f"{quote(text)} is no federated principal", remedy)


def _aws(text: str) -> Result:
    if text == "*":
        return ANYONE, ()
    if _ACCOUNT.fullmatch(text):
        return PrincipalPattern(PrincipalKind.ACCOUNT, text, account=text), ()
    if "*" in text or "?" in text:
        return _refuse(f"the principal {quote(text)} holds a wildcard", _WILDCARD_HELP)
    if text.startswith("arn:"):
        return _aws_arn(text)
    if _UNIQUE_ID.fullmatch(text):
        return PrincipalPattern(PrincipalKind.UNIQUE_ID, text, name=text), ()
    if text.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return _refuse(f"{quote(text)} is a service, not an AWS principal", f'write `{{"Service": "{text[:80]}"}}`')
    if text.isdigit():
        return _refuse(f"the account id {quote(text)} does not have twelve digits", "keep the zeros in front")
    return _refuse(f"{quote(text)} is no AWS principal", _AWS_HELP)


def _aws_arn(text: str) -> Result:
    fields = text.split(":", 5)
    if len(fields) < 6:
        return _refuse(f"the ARN {quote(text)} has {len(fields)} of its six fields", _AWS_HELP)
    _, partition, service, region, account, resource = fields
    if not _PARTITION.fullmatch(partition):
        return _refuse(f"{quote(partition)} is no partition, in {quote(text)}", "the partition is `aws`, or begins so")
    if region:
        return _refuse(f"the principal {quote(text)} names a region", "leave its region field empty")
    if account == "cloudfront" and service == "iam" and _ORIGIN_ACCESS.fullmatch(resource):
        return PrincipalPattern(PrincipalKind.USER, text, partition, account, text), ()
    if not _ACCOUNT.fullmatch(account):
        return _refuse(f"{quote(account)} is no account id, in {quote(text)}", "an account id has twelve digits")
    kind, _, rest = resource.partition("/")
    if service == "iam":
        if resource == "root":
            return PrincipalPattern(PrincipalKind.ACCOUNT, text, partition, account), ()
        name = _PATH_AND_NAME.fullmatch(rest)
        if kind == "user" and name:
            return PrincipalPattern(PrincipalKind.USER, text, partition, account, text), ()
        if kind == "role" and name:
            return PrincipalPattern(PrincipalKind.ROLE, text, partition, account, name[1]), ()
    elif service == "sts":
        if kind == "assumed-role" and _SESSION.fullmatch(rest):
            return PrincipalPattern(PrincipalKind.ROLE_SESSION, text, partition, account, rest), ()
        if kind == "federated-user" and _NAME.fullmatch(rest):
            return PrincipalPattern(PrincipalKind.FEDERATED_USER, text, partition, account, rest), ()
    return _explain_aws(text, service, kind, rest)


def _explain_aws(text: str, service: str, kind: str, rest: str) -> Result:
    shown = quote(text)
    if kind == "group":
        return _refuse(f"{shown} is a group, and a group is never a principal", "name its users, or a role")
    if kind in ("saml-provider", "oidc-provider"):
        return _refuse(f"{shown} is an identity provider", 'write it under `"Federated"`')
    if service == "iam" and kind in ("assumed-role", "federated-user"):
        return _refuse(f"{shown} names a session under `iam`", "sessions are named under `sts`: `arn:aws:sts::…`")
    if service == "sts" and kind in ("user", "role"):
        return _refuse(f"{shown} names a {kind} under `sts`", f"write `arn:aws:iam::…:{kind}/…`")
    if service == "sts" and kind == "assumed-role":
        return _refuse(
            f"{shown} is no session of a role",
            "write `assumed-role/ROLE/SESSION`, the role without its path; for every session name the role itself",
        )
    return _refuse(f"{shown} is no AWS principal", _AWS_HELP)
