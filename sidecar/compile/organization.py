# SPDX-License-Identifier: Apache-2.0
"""
``organization.json``: the tree of units and accounts with the control policies attached to each.

A policy is written as its document, as ``{"name", "id", "arn", "document"}``, or as the output of
``aws organizations describe-policy``, pasted whole.
"""

from __future__ import annotations

import re

from sidecar.compile.documents import JsonNumber
from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import quote
from sidecar.compile.shape import JsonObject, Place
from sidecar.model.policy import Policy, PolicyDocument, PolicyKind
from sidecar.model.snapshot import Organization, OrganizationAccount, OrganizationalUnit

MAX_UNIT_DEPTH = 5
#: Policies of each kind that AWS attaches to one node.
MAX_POLICIES_PER_NODE = {PolicyKind.SERVICE_CONTROL: 10, PolicyKind.RESOURCE_CONTROL: 5}

_SERVICE, _RESOURCE = "service_control_policies", "resource_control_policies"
_ORGANIZATION_KEYS = frozenset({"id", "management_account", "root"})
_UNIT_KEYS = frozenset({"id", "name", _SERVICE, _RESOURCE, "accounts", "units"})
_ACCOUNT_KEYS = frozenset({"id", "name", _SERVICE, _RESOURCE})
_DOCUMENT_KEYS = ("document", "content", "policy")
_POLICY_KEYS = frozenset({"name", "id", "arn", *_DOCUMENT_KEYS})
_DESCRIBED_KEYS = frozenset({"PolicySummary", "Content"})
_SUMMARY_KEYS = frozenset({"Id", "Arn", "Name", "Description", "Type", "AwsManaged"})
_TYPES = {
    PolicyKind.SERVICE_CONTROL: "SERVICE_CONTROL_POLICY",
    PolicyKind.RESOURCE_CONTROL: "RESOURCE_CONTROL_POLICY",
}

_ORGANIZATION_ID = re.compile(r"o-[a-z0-9]{1,32}\Z")
_ROOT_ID = re.compile(r"r-[a-z0-9]{1,32}\Z")
_UNIT_ID = re.compile(r"ou-[a-z0-9]{1,32}(-[a-z0-9]{1,32})*\Z")
_POLICY_ARN = re.compile(r"arn:aws[a-z0-9-]*:organizations::(aws|[0-9]{12}):policy/[!-~]+\Z")


def parse_organization(place: Place, document: object) -> Organization | None:
    """
    Turn the content of an organization file into its model.

    Returns:
        None when its outermost parts cannot be read; problems were then reported to *place*.
    """
    return _Reader(place).organization(document)


class _Reader:
    """Walks the tree once. Thread-safety: confined to one thread."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._seen_accounts: dict[str, str] = {}
        self._seen_units: dict[str, str] = {}
        self._documents: dict[tuple[PolicyKind, str], PolicyDocument] = {}
        self._policies: dict[tuple[str, int], Policy] = {}

    def organization(self, document: object) -> Organization | None:
        place = self._place
        value = place.mapping(document, "$", "an organization")
        if value is None:
            return None
        place.known_keys(value, "$", _ORGANIZATION_KEYS, "an organization")
        organization_id = self._id(value, "$", _ORGANIZATION_ID, "an organization", "o-a1b2c3d4e5")
        management: str | None = None
        if "management_account" in value:
            management = place.account_id(value["management_account"], "$.management_account", "`management_account`")
        else:
            place.error(
                "$", "an organization without `management_account`", "control policies do not reach that account"
            )
        if "root" not in value:
            place.error("$", "an organization without `root`")
            return None
        root = self._unit(value["root"], "$.root", 0)
        if organization_id is None or management is None or root is None:
            return None
        if management not in self._seen_accounts:
            place.warning(
                "$.management_account",
                f"management account {management} stands nowhere in the tree, so it does not count as a member",
                "list it under `accounts` of the root or of a unit",
            )
        return Organization(organization_id, management, root)

    def _unit(self, raw: object, path: str, depth: int) -> OrganizationalUnit | None:
        place = self._place
        what = "a unit" if depth else "the root"
        value = place.mapping(raw, path, what)
        if value is None:
            return None
        place.known_keys(value, path, _UNIT_KEYS, what)
        if depth:
            unit_id = self._id(value, path, _UNIT_ID, what, "ou-a1b2-c3d4e5f6")
        else:
            unit_id = self._id(value, path, _ROOT_ID, what, "r-a1b2")
        if unit_id is not None:
            other = self._seen_units.setdefault(unit_id, path)
            if other != path:
                place.error(f"{path}.id", f"unit {quote(unit_id)} stands twice: also at {other}")
        name = place.text(value["name"], f"{path}.name", "`name`") if "name" in value else ""
        node = unit_id or ""
        service = self._policies_of(value, path, _SERVICE, node, PolicyKind.SERVICE_CONTROL)
        resource = self._policies_of(value, path, _RESOURCE, node, PolicyKind.RESOURCE_CONTROL)
        accounts: list[OrganizationAccount] = []
        for index, item in enumerate(self._list(value, path, "accounts")):
            account = self._account(item, f"{path}.accounts[{index}]")
            if account is not None:
                accounts.append(account)
        units: list[OrganizationalUnit] = []
        children = self._list(value, path, "units")
        if children and depth == MAX_UNIT_DEPTH:
            place.error(f"{path}.units", f"units more than {MAX_UNIT_DEPTH} levels deep")
            children = []
        for index, item in enumerate(children):
            unit = self._unit(item, f"{path}.units[{index}]", depth + 1)
            if unit is not None:
                units.append(unit)
        return OrganizationalUnit(
            id=node,
            name=name or ("" if depth else "Root"),
            service_control_policies=service,
            resource_control_policies=resource or (),
            accounts=tuple(accounts),
            units=tuple(units),
        )

    def _account(self, raw: object, path: str) -> OrganizationAccount | None:
        place = self._place
        value: JsonObject = {}
        id_path = path
        if isinstance(raw, dict):
            checked = place.mapping(raw, path, "an account")
            value = checked if checked is not None else {}
            place.known_keys(value, path, _ACCOUNT_KEYS, "an account")
            if "id" not in value:
                place.error(path, "an account without `id`")
                return None
            raw, id_path = value["id"], f"{path}.id"
            if "name" in value:
                place.text(value["name"], f"{path}.name", "`name`")
        account = place.account_id(raw, id_path, "an account of the organization")
        if account is None:
            return None
        other = self._seen_accounts.setdefault(account, path)
        if other != path:
            place.error(id_path, f"account {account} stands twice: also at {other}", "an account is in one unit")
        return OrganizationAccount(
            id=account,
            service_control_policies=self._policies_of(value, path, _SERVICE, account, PolicyKind.SERVICE_CONTROL),
            resource_control_policies=self._policies_of(value, path, _RESOURCE, account, PolicyKind.RESOURCE_CONTROL)
            or (),
        )

    def _policies_of(
        self, value: JsonObject, path: str, key: str, node: str, kind: PolicyKind
    ) -> tuple[Policy, ...] | None:
        """Return the policies under *key*, None where it is absent."""
        if key not in value:
            return None
        place = self._place
        path = f"{path}.{key}"
        items = place.array(value[key], path, f"`{key}`")
        if items is None:
            return None
        if not items and kind is PolicyKind.SERVICE_CONTROL:
            place.warning(
                path,
                "no service control policy at all denies everything below",
                f"leave `{key}` out to have AWS's FullAWSAccess",
            )
        most = MAX_POLICIES_PER_NODE[kind]
        if len(items) > most:
            place.error(path, f"{len(items)} policies, more than the {most} that one node may have")
        policies: list[Policy] = []
        names: dict[str, str] = {}
        for index, item in enumerate(items):
            item_path = f"{path}[{index}]"
            policy = self._policy(item, item_path, index, node, kind)
            if policy is None:
                continue
            other = names.setdefault(policy.name, item_path)
            if other != item_path:
                place.error(item_path, f"policy {quote(policy.name)} stands twice: also at {other}")
            policies.append(policy)
        return tuple(policies)

    def _policy(self, raw: object, path: str, index: int, node: str, kind: PolicyKind) -> Policy | None:
        place = self._place
        if isinstance(raw, str) and not isinstance(raw, JsonNumber) and not raw.lstrip().startswith("{"):
            place.error(
                path,
                f"{quote(raw)} is not a policy, only the name of one",
                "paste the output of `aws organizations describe-policy --policy-id ID`",
            )
            return None
        if not isinstance(raw, dict):
            return self._named(raw, path, path, str(index), "", node, kind)
        if "Statement" in raw:
            return self._named(raw, path, path, str(index), "", node, kind)
        value = place.mapping(raw, path, "a policy")
        if value is None:
            return None
        if "Policy" in value:
            place.known_keys(value, path, {"Policy"}, "the output of describe-policy")
            path = f"{path}.Policy"
            inner = place.mapping(value["Policy"], path, "`Policy`")
            return self._described(inner, path, index, node, kind) if inner is not None else None
        if "PolicySummary" in value or "Content" in value:
            return self._described(value, path, index, node, kind)
        place.known_keys(value, path, _POLICY_KEYS, "a policy")
        texts: dict[str, str] = {}
        for key in ("name", "id", "arn"):
            if key in value:
                texts[key] = place.text(value[key], f"{path}.{key}", f"`{key}`") or ""
        documents = [key for key in _DOCUMENT_KEYS if key in value]
        if len(documents) != 1:
            place.error(
                path,
                "a policy without its document" if not documents else "a policy with more than one document",
                "write its document under `document`, or in place of this object",
            )
            return None
        name = texts.get("name") or texts.get("id") or str(index)
        return self._named(value[documents[0]], f"{path}.{documents[0]}", path, name, texts.get("arn", ""), node, kind)

    def _described(self, value: JsonObject, path: str, index: int, node: str, kind: PolicyKind) -> Policy | None:
        """Read what ``aws organizations describe-policy`` prints."""
        place = self._place
        place.known_keys(value, path, _DESCRIBED_KEYS, "a described policy")
        summary = place.mapping(value.get("PolicySummary", {}), f"{path}.PolicySummary", "`PolicySummary`")
        if summary is None:
            return None
        place.known_keys(summary, f"{path}.PolicySummary", _SUMMARY_KEYS, "a policy summary")
        texts: dict[str, str] = {}
        for key in ("Id", "Arn", "Name", "Type"):
            if key in summary:
                texts[key] = place.text(summary[key], f"{path}.PolicySummary.{key}", f"`{key}`") or ""
        if texts.get("Type", _TYPES[kind]) != _TYPES[kind]:
            place.error(
                f"{path}.PolicySummary.Type",
                f"a policy of type {quote(texts['Type'])} where a {kind} belongs",
            )
            return None
        if "Content" not in value:
            place.error(
                path, "a policy without its document", "`aws organizations describe-policy` prints it as `Content`"
            )
            return None
        name = texts.get("Name") or texts.get("Id") or str(index)
        return self._named(
            value["Content"], f"{path}.Content", f"{path}.PolicySummary", name, texts.get("Arn", ""), node, kind
        )

    def _named(
        self, raw: object, path: str, named_at: str, name: str, arn: str, node: str, kind: PolicyKind
    ) -> Policy | None:
        """Parse a document and give it the name that explanations show."""
        place = self._place
        if arn and not _POLICY_ARN.match(arn):
            key = "Arn" if named_at.endswith(".PolicySummary") else "arn"
            place.error(
                f"{named_at}.{key}",
                f"{quote(arn)} is not the ARN of a control policy",
                "as in `arn:aws:organizations::123456789012:policy/o-a1b2c3d4e5/service_control_policy/p-f6g7h8i9`",
            )
            return None
        text = raw if type(raw) is str else None
        document = self._documents.get((kind, text)) if text is not None else None
        if document is None:
            before = place.count
            document = parse_policy(raw, kind=kind, problems=place.problems, file=place.file, path=path)
            if document is None:
                return None
            if text is not None and place.count == before:
                self._documents[kind, text] = document
        full_name = arn or f"inline:{node}/{name}"
        return self._policies.setdefault((full_name, id(document)), Policy(full_name, document))

    def _list(self, value: JsonObject, path: str, key: str) -> list[object]:
        if key not in value:
            return []
        return self._place.array(value[key], f"{path}.{key}", f"`{key}`") or []

    def _id(self, value: JsonObject, path: str, form: re.Pattern[str], what: str, example: str) -> str | None:
        place = self._place
        if "id" not in value:
            place.error(path, f"{what} without `id`", f"as in `{example}`")
            return None
        text = place.text(value["id"], f"{path}.id", "`id`")
        if text is None:
            return None
        if not form.match(text):
            place.error(f"{path}.id", f"{quote(text)} cannot be the id of {what}", f"as in `{example}`")
            return None
        return text
