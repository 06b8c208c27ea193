# SPDX-License-Identifier: Apache-2.0
"""
``resource-policies.json``: resource-based policies and the resources that they are attached to.
"""

from __future__ import annotations

from collections.abc import Collection

from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import quote
from sidecar.compile.shape import Place, is_account_id
from sidecar.model.policy import Policy, PolicyKind
from sidecar.model.request import MAX_RESOURCE
from sidecar.model.snapshot import ResourcePolicy

_FILE_KEYS = frozenset({"resources"})
_ENTRY_KEYS = frozenset({"arn", "account", "policy"})


def parse_resource_policies(place: Place, document: object, *, accounts: Collection[str]) -> tuple[ResourcePolicy, ...]:
    """
    Turn the content of a file of resource policies into its model.

    Args:
        accounts: Accounts of the snapshot. An entry without an account belongs to the only one, if there is one.
    """
    value = place.mapping(document, "$", "a file of resource policies")
    if value is None:
        return ()
    place.known_keys(value, "$", _FILE_KEYS, "a file of resource policies")
    if "resources" not in value:
        place.error("$", "a file of resource policies without `resources`", 'as in `{"resources": []}`')
        return ()
    only_account = next(iter(accounts)) if len(accounts) == 1 else ""
    found: list[ResourcePolicy] = []
    seen: dict[str, str] = {}
    for index, item in enumerate(place.array(value["resources"], "$.resources", "`resources`") or ()):
        path = f"$.resources[{index}]"
        policy = _entry(place, item, path, only_account)
        if policy is None:
            continue
        other = seen.setdefault(policy.arn, path)
        if other != path:
            place.error(
                f"{path}.arn",
                f"resource {quote(policy.arn)} stands twice: also at {other}",
                "put all statements into one policy",
            )
            continue
        found.append(policy)
    return tuple(found)


def _entry(place: Place, raw: object, path: str, only_account: str) -> ResourcePolicy | None:
    value = place.mapping(raw, path, "a resource")
    if value is None:
        return None
    place.known_keys(value, path, _ENTRY_KEYS, "a resource")
    arn: str | None = None
    if "arn" in value:
        arn = place.text(value["arn"], f"{path}.arn", "`arn`")
        fields = _arn_fields(place, arn, f"{path}.arn") if arn is not None else None
    else:
        place.error(path, "a resource without `arn`")
        fields = None
    account: str | None = ""
    if "account" in value:
        account = place.account_id(value["account"], f"{path}.account", "`account`")
    if fields is not None and account is not None:
        named = fields[4]
        if named and account and named != account:
            place.error(f"{path}.account", f"account {account} contradicts {quote(arn or '')}")
            account = None
        elif named:
            account = ""
        elif not account and only_account:
            account = only_account
        elif not account:
            place.error(
                path,
                f"nothing says which account owns {quote(arn or '')}",
                'its ARN names none: add `"account": "123456789012"`',
            )
            account = None
    if "policy" not in value:
        place.error(path, "a resource without `policy`")
        return None
    document = parse_policy(
        value["policy"], kind=PolicyKind.RESOURCE, problems=place.problems, file=place.file, path=f"{path}.policy"
    )
    if arn is None or fields is None or account is None or document is None:
        return None
    return ResourcePolicy(arn, account, Policy(f"inline:{arn}/policy", document))


def _arn_fields(place: Place, arn: str, path: str) -> list[str] | None:
    """Split the ARN of an entry, or report what is wrong with it."""
    fields = arn.split(":", 5)
    if len(fields) != 6 or fields[0] != "arn" or not (fields[1] and fields[2] and fields[5]):
        place.error(
            path,
            f"{quote(arn)} is not an ARN",
            "six fields, as in `arn:aws:s3:::bucket` or `arn:aws:sqs:eu-west-1:123456789012:queue`",
        )
        return None
    if len(arn.encode("utf-8", "surrogatepass")) > MAX_RESOURCE:
        place.error(path, f"an ARN of more than {MAX_RESOURCE} bytes")
        return None
    if not arn.isprintable():
        place.error(path, f"{quote(arn)} holds a character that an ARN cannot have")
        return None
    if "*" in arn[:-1] or "?" in arn:
        place.error(
            path,
            f"{quote(arn)} has a wildcard before its end",
            "an entry may end in one `*`; what lies below it after a `/` is covered anyway",
        )
        return None
    if fields[4] and not is_account_id(fields[4]):
        place.error(path, f"{quote(fields[4])} in {quote(arn)} is not an account", "twelve digits, or nothing")
        return None
    if fields[2] == "iam" and fields[5].startswith("role/"):
        place.error(
            path,
            f"{quote(arn)} is a role, whose policy is its trust policy",
            "the account dump holds it as `AssumeRolePolicyDocument`",
        )
        return None
    return fields
