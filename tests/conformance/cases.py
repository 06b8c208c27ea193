# SPDX-License-Identifier: Apache-2.0
"""
Conformance cases: from the YAML files to snapshots, requests and what they must decide.

``README.md`` beside this file explains the format. The documents of a case go through
``sidecar.compile``, so a case covers the policy language too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sidecar.compile.documents import read_json
from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import Problems
from sidecar.compile.session_policies import pack_policies
from sidecar.compile.shadow import ShadowFile, cast_shadow
from sidecar.compile.shape import Place
from sidecar.compile.source import parse_source
from sidecar.model.decision import Answer, Decision, MfaMethod, MfaRequirement, PolicyLayer, Reason
from sidecar.model.errors import Problem
from sidecar.model.policy import Policy, PolicyDocument, PolicyKind
from sidecar.model.request import AuthorizationRequest, ContextValue
from sidecar.model.session import BoundProof, MfaProof, SessionClaims, SessionKind, SessionTag
from sidecar.model.shadow import ShadowEntry, ShadowKind
from sidecar.model.snapshot import (
    Account,
    FederatedUser,
    Organization,
    OrganizationAccount,
    OrganizationalUnit,
    ResourcePolicy,
    Role,
    Snapshot,
    User,
)
from tests import tokens
from tests.oracle.session import Session, SessionRequest

HERE = Path(__file__).parent

#: Mapping of a case file, of whatever depth.
Given = Mapping[str, Any]

ACCOUNT = "111122223333"
OTHER_ACCOUNT = "444455556666"
MANAGEMENT_ACCOUNT = "999999999999"
USER_ARN = f"arn:aws:iam::{ACCOUNT}:user/alice"
USER_ID = "AIDAALICEEXAMPLE00001"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/team/worker"
ROLE_ID = "AROAWORKEREXAMPLE0001"
SESSION_ARN = f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/session1"
FEDERATED_ARN = f"arn:aws:sts::{ACCOUNT}:federated-user/bob"
ROOT_ARN = f"arn:aws:iam::{ACCOUNT}:root"
SERVICE = "backup.amazonaws.com"
#: When a case is asked unless it says otherwise.
NOW = "2026-01-15T12:00:00Z"
BUCKET_ARN = "arn:aws:s3:::bucket"

PRINCIPALS = {
    "user": USER_ARN,
    "role": SESSION_ARN,
    "federated": FEDERATED_ARN,
    "root": ROOT_ARN,
    "service": SERVICE,
    "anonymous": "",
}

#: Layer that each reason of a final answer belongs to; the layer of an explicit deny is told apart.
_LAYERS = {
    Reason.IDENTITY_ALLOW: PolicyLayer.IDENTITY,
    Reason.ROOT_ALLOW: PolicyLayer.IDENTITY,
    Reason.RESOURCE_ALLOW: PolicyLayer.RESOURCE,
    Reason.NO_IDENTITY_ALLOW: PolicyLayer.IDENTITY,
    Reason.NO_RESOURCE_ALLOW: PolicyLayer.RESOURCE,
    Reason.NO_PERMISSIONS_BOUNDARY_ALLOW: PolicyLayer.PERMISSIONS_BOUNDARY,
    Reason.NO_SESSION_ALLOW: PolicyLayer.SESSION,
    Reason.NO_SERVICE_CONTROL_ALLOW: PolicyLayer.SERVICE_CONTROL,
}
_ALLOWING = {Reason.IDENTITY_ALLOW, Reason.RESOURCE_ALLOW, Reason.ROOT_ALLOW, Reason.ALWAYS_ALLOWED}

_NOT_GIVEN = "not given"


class CaseError(Exception):
    """A case file cannot be used."""


@dataclass(frozen=True)
class Want:
    """
    What a case expects; None for what it does not state.

    Attributes:
        error: Field that a ``RequestError`` must name.
        matched: Statements that apply, as ``policy#index``.
        mfa: The requirement; the text ``not given`` where the case says nothing of it.
        shadow: What the decision would be with what stands in shadow.
    """

    decision: Decision | None = None
    layer: PolicyLayer | None = None
    reason: Reason | None = None
    error: str | None = None
    matched: tuple[str, ...] | None = None
    missing: tuple[str, ...] | None = None
    mfa: MfaRequirement | str | None = _NOT_GIVEN
    shadow: Decision | None = None

    def differences(self, answer: Answer) -> list[str]:
        """Say in what *answer* is not what was wanted."""
        stated: list[tuple[str, object, object]] = []
        if self.decision is not None:
            stated.append(("decision", self.decision, answer.decision))
        if self.layer is not None:
            stated.append(("layer", self.layer, answer.layer))
        if self.reason is not None:
            stated.append(("reason", self.reason, answer.reason))
        if self.matched is not None:
            found = sorted(f"{match.policy}#{match.statement_index}" for match in answer.matched_statements)
            stated.append(("matched", sorted(self.matched), found))
        if self.missing is not None:
            stated.append(("missing", sorted(self.missing), list(answer.missing_context_keys)))
        if self.mfa != _NOT_GIVEN:
            stated.append(("mfa", self.mfa, answer.mfa_requirement))
        if self.shadow is not None:
            stated.append(("shadow", self.shadow, answer.shadow_decision))
        return [f"{what}: want {want!r}, got {got!r}" for what, want, got in stated if want != got]


@dataclass(frozen=True)
class Case:
    """
    One case.

    Attributes:
        id: Name of its file and its own name.
        source: Where it comes from.
        undefined: The row of the table of undefined behaviour that it shows, or an empty string.
        given: The part of the file from which the snapshot is made.
        simulation: Whether a federated user may be named by its ARN.
    """

    id: str
    source: str
    given: Given
    request: AuthorizationRequest
    want: Want
    seconds: int
    simulation: bool = False
    undefined: str = ""

    def snapshot(self) -> Snapshot:
        """Make the snapshot, through the compiler."""
        return build_snapshot(self.given)


@dataclass(frozen=True)
class RefusedCase:
    """
    A document that must be refused.

    Attributes:
        document: Text of a policy document, or an empty string where *files* are given.
        files: A whole source, in its real format.
        words: Texts that the problems found must hold, each in one of them.
    """

    id: str
    source: str
    kind: PolicyKind
    document: str
    files: Given
    words: tuple[str, ...]
    undefined: str = ""


@dataclass
class _Builder:
    """Gathers the problems of the documents of one case."""

    problems: Problems = field(default_factory=Problems)

    def document(self, value: object, kind: PolicyKind, name: str) -> PolicyDocument:
        """Parse one document, which must hold no error."""
        text = (
            value if isinstance(value, str) and value.lstrip().startswith("{") else json.dumps(_document(value, kind))
        )
        before = self.problems.error_count
        parsed = parse_policy(read_json(text), kind=kind, problems=self.problems, file=name, check_quota=False)
        if parsed is None or self.problems.error_count > before:
            raise CaseError("; ".join(str(problem) for problem in self.problems.items))
        return parsed

    def policies(self, value: object, kind: PolicyKind, name: str) -> tuple[Policy, ...]:
        """Parse one policy, or the several of ``{policies: [...]}``."""
        if isinstance(value, Mapping) and "policies" in value:
            documents = value["policies"]
            return tuple(
                Policy(f"{name}-{index + 1}", self.document(document, kind, f"{name}-{index + 1}"))
                for index, document in enumerate(documents)
            )
        return (Policy(name, self.document(value, kind, name)),)


def _document(value: object, kind: PolicyKind) -> object:
    """Fill in what a shorthand leaves out."""
    if isinstance(value, Mapping) and "raw" in value:
        return value["raw"]
    if isinstance(value, Mapping) and "Statement" in value:
        document = {"Version": "2012-10-17", **value}
        statements = document["Statement"]
        items = statements if isinstance(statements, list) else [statements]
        document["Statement"] = [_statement(item, kind) for item in items]
        return {key: item for key, item in document.items() if item is not None}
    items = value if isinstance(value, list) else [value]
    return {"Version": "2012-10-17", "Statement": [_statement(item, kind) for item in items]}


def _statement(value: object, kind: PolicyKind) -> dict[str, Any]:
    if isinstance(value, str):
        value = {"Effect": value}
    if not isinstance(value, Mapping):
        raise CaseError(f"not a statement: {value!r}")
    statement: dict[str, Any] = {"Effect": "Allow", **value}
    if "NotAction" not in value:
        statement.setdefault("Action", "sts:*" if kind is PolicyKind.TRUST else "*")
    if "NotResource" not in value and kind is not PolicyKind.TRUST:
        statement.setdefault("Resource", "*")
    needs_principal = (PolicyKind.RESOURCE, PolicyKind.TRUST, PolicyKind.RESOURCE_CONTROL)
    if "NotPrincipal" not in value and kind in needs_principal:
        statement.setdefault("Principal", "*")
    return {key: item for key, item in statement.items() if item is not None}


def build_snapshot(given: Given) -> Snapshot:
    """
    Make a snapshot from the ``given`` of a case.

    Raises:
        CaseError: A document or a source file holds errors.
    """
    if "files" in given:
        return _snapshot_of_files(given["files"])
    unknown = set(given) - _GIVEN_KEYS
    if unknown:
        raise CaseError(f"unknown keys in given: {sorted(unknown)}")
    builder = _Builder()
    principal = given.get("principal", "user")
    owner = str(given.get("owner", ACCOUNT))

    def policies(key: str, kind: PolicyKind) -> tuple[Policy, ...]:
        return builder.policies(given[key], kind, key) if given.get(key) is not None else ()

    identity = policies("identity", PolicyKind.IDENTITY)
    boundary = policies("boundary", PolicyKind.BOUNDARY)
    tags = {key: _scalar(value) for key, value in given.get("tags", {}).items()}
    user = User(
        arn=given.get("user_arn", USER_ARN),
        account=ACCOUNT,
        name=given.get("user_arn", USER_ARN).rsplit("/", 1)[1],
        user_id=USER_ID,
        policies=identity if principal in ("user", "federated") else (),
        boundary=boundary[0] if boundary and principal in ("user", "federated") else None,
        tags=tags if principal in ("user", "federated") else {},
    )
    no_trust = Policy("trust", PolicyDocument("2012-10-17", "", ()))
    role_arn = given.get("role_arn", ROLE_ARN)
    role = Role(
        arn=role_arn,
        account=ACCOUNT,
        name=role_arn.rsplit("/", 1)[1],
        role_id=ROLE_ID,
        trust=no_trust,
        policies=identity if principal == "role" else (),
        boundary=boundary[0] if boundary and principal == "role" else None,
        tags=tags if principal == "role" else {},
    )
    trust = policies("trust", PolicyKind.TRUST)
    target = Role(
        arn=f"arn:aws:iam::{owner}:role/target",
        account=owner,
        name="target",
        role_id="AROATARGETEXAMPLE0001",
        trust=trust[0] if trust else no_trust,
    )
    targets = {owner: (target,)} if trust else {}
    roles = (role, *targets.pop(ACCOUNT, ()))
    accounts = [Account(ACCOUNT, users=(user,), roles=roles)]
    others = [str(account) for account in given.get("other_accounts", ())]
    accounts.extend(Account(account, roles=targets.get(account, ())) for account in sorted({*others, *targets}))

    resource_policies: list[ResourcePolicy] = []
    if given.get("resource_policy") is not None:
        arn = given.get("resource_arn", BUCKET_ARN)
        policy = policies("resource_policy", PolicyKind.RESOURCE)[0]
        resource_policies.append(ResourcePolicy(arn, "" if arn.split(":")[4] else owner, policy))
    for index, entry in enumerate(given.get("resource_policies", ())):
        name = f"resource_policies-{index + 1}"
        policy = builder.policies(entry["policy"], PolicyKind.RESOURCE, name)[0]
        resource_policies.append(ResourcePolicy(entry["arn"], str(entry.get("account", "")), policy))

    federated = FederatedUser(FEDERATED_ARN, ACCOUNT, "bob", user.arn)
    session = given.get("session")
    return _in_shadow(
        given,
        Snapshot(
            accounts=tuple(accounts),
            organization=_organization(given, builder, owner),
            resource_policies=tuple(resource_policies),
            federated_users=(federated,) if principal == "federated" else (),
            session_policies=policies("session", PolicyKind.SESSION) if session is not None else None,
            root_is_allowed=given.get("root_is_allowed", True),
        ),
    )


def _in_shadow(given: Given, snapshot: Snapshot) -> Snapshot:
    """Put what ``shadow`` names into shadow."""
    until = parse_time(given.get("shadow_until", _FAR_AHEAD))
    entries = [(ShadowEntry(ShadowKind.POLICY, name, until), "$") for name in given.get("shadow", ())]
    problems = Problems()
    snapshot = cast_shadow(Place(problems, "shadow.yaml"), ShadowFile(tuple(entries)), snapshot, managed=())
    if problems.has_errors:
        raise CaseError("; ".join(str(problem) for problem in problems.items))
    return snapshot


_GIVEN_KEYS = {
    "principal",
    "identity",
    "boundary",
    "session",
    "resource_policy",
    "resource_arn",
    "resource_policies",
    "trust",
    "scps",
    "rcps",
    "organization",
    "owner_in_organization",
    "management",
    "tags",
    "owner",
    "other_accounts",
    "user_arn",
    "role_arn",
    "root_is_allowed",
    "shadow",
    "shadow_until",
}
#: When what stands in shadow comes into force unless a case says otherwise.
_FAR_AHEAD = "2100-01-01T00:00:00Z"


def _organization(given: Given, builder: _Builder, owner: str) -> Organization | None:
    """Make a tree: root, as many units as there are levels between, account; the owner's beside the caller's."""
    scps: Sequence[object] = given.get("scps", [])
    rcps: Sequence[object] = given.get("rcps", [])
    if not (scps or rcps or given.get("organization")):
        return None

    def control(levels: Sequence[object], index: int, kind: PolicyKind, word: str) -> tuple[Policy, ...] | None:
        if index >= len(levels) or levels[index] is None:
            return None
        if levels[index] == []:
            return ()
        return builder.policies(levels[index], kind, f"{word}{index}")

    def service_control(index: int) -> tuple[Policy, ...] | None:
        return control(scps, index, PolicyKind.SERVICE_CONTROL, "scp")

    def resource_control(index: int) -> tuple[Policy, ...]:
        return control(rcps, index, PolicyKind.RESOURCE_CONTROL, "rcp") or ()

    same = owner == ACCOUNT
    depth = max(2, len(scps), len(rcps) if same else 0)
    account = OrganizationAccount(ACCOUNT, service_control(depth - 1), resource_control(depth - 1) if same else ())
    units: tuple[OrganizationalUnit, ...] = ()
    accounts: tuple[OrganizationAccount, ...] = (account,)
    for level in range(depth - 2, 0, -1):
        policies = resource_control(level) if same else ()
        name = f"caller{level}"
        units = (OrganizationalUnit(f"ou-{name}", name, service_control(level), policies, accounts, units),)
        accounts = ()
    if not same and (rcps or given.get("owner_in_organization")):
        owner_depth = max(2, len(rcps))
        owner_units: tuple[OrganizationalUnit, ...] = ()
        owner_accounts: tuple[OrganizationAccount, ...] = (
            OrganizationAccount(owner, None, resource_control(owner_depth - 1)),
        )
        for level in range(owner_depth - 2, 0, -1):
            name = f"owner{level}"
            unit = OrganizationalUnit(f"ou-{name}", name, None, resource_control(level), owner_accounts, owner_units)
            owner_units, owner_accounts = (unit,), ()
        units, accounts = (*units, *owner_units), (*accounts, *owner_accounts)
    root = OrganizationalUnit("r-root", "Root", service_control(0), resource_control(0), accounts, units)
    management = {"caller": ACCOUNT, "owner": owner}.get(given.get("management", ""), MANAGEMENT_ACCOUNT)
    return Organization("o-example", management, root)


def _snapshot_of_files(files: Given) -> Snapshot:
    """Compile files in the real format of a source; what is not text is written as JSON."""
    report = parse_source(_file_contents(files), now=parse_time(NOW))
    if report.snapshot is None:
        raise CaseError("; ".join(str(problem) for problem in report.problems))
    return report.snapshot


def _file_contents(files: Given) -> dict[str, bytes]:
    return {
        path: (content if isinstance(content, str) else json.dumps(content)).encode() for path, content in files.items()
    }


def build_request(request: Given, given: Given, *, seconds: int | None = None) -> AuthorizationRequest:
    """
    Make a request, with the defaults of a case.

    Args:
        seconds: When it is asked; the session of a request is made for that time.
    """
    unknown = set(request) - {"principal", "action", "resource", "resource_account", "context", "override", "session"}
    if unknown:
        raise CaseError(f"unknown keys in request: {sorted(unknown)}")
    session: Session | None = None
    if request.get("session") is not None:
        session = build_session(request["session"], given, seconds=parse_time(NOW) if seconds is None else seconds)
    return SessionRequest(
        principal=request.get("principal", PRINCIPALS[given.get("principal", "user")]) if session is None else "",
        action=request.get("action", "s3:GetObject"),
        resource=request.get("resource", f"{BUCKET_ARN}/key"),
        context=_context(request.get("context", {})),
        resource_account=str(request.get("resource_account", "")),
        override=_context(request.get("override", {})),
        session_token=tokens.seal(session.claims) if session is not None else "",
        session=session,
    )


_SESSION_KEYS = {"kind", "issued", "expires", "principal_id", "person", "person_id", "name", "source_identity"}
_SESSION_KEYS |= {"mfa", "bound", "tags", "policies"}


def build_session(session: Given, given: Given, *, seconds: int) -> Session:
    """Make the session of a request; its times are stated in seconds from *seconds*."""
    unknown = set(session) - _SESSION_KEYS
    if unknown:
        raise CaseError(f"unknown keys in session: {sorted(unknown)}")
    is_role = given.get("principal") == "role"
    kind = SessionKind[session.get("kind", "role" if is_role else "user").upper()]
    person = session.get("person", given.get("user_arn", USER_ARN))
    policies: tuple[Policy, ...] | None = None
    if session.get("policies") is not None:
        found = _Builder().policies(session["policies"], PolicyKind.SESSION, "session_policies")
        policies = tuple(Policy(f"session_policies[{index}]", policy.document) for index, policy in enumerate(found))
    role_name = given.get("role_arn", ROLE_ARN).rsplit("/", 1)[1]
    issued = (seconds + session.get("issued", -600)) * 1000
    claims = SessionClaims(
        access_key_id=tokens.ACCESS_KEY_ID,
        kind=kind,
        lineage=bytes(16),
        principal=f"arn:aws:sts::{ACCOUNT}:assumed-role/{role_name}" if is_role else given.get("user_arn", USER_ARN),
        principal_id=session.get("principal_id", ROLE_ID if is_role else USER_ID),
        session_name=session.get("name", "session1") if is_role else "",
        issued_at_ms=issued,
        expires_at_ms=(seconds + session.get("expires", 3600)) * 1000,
        lineage_issued_at_ms=issued,
        person=person or "",
        person_id=session.get("person_id", USER_ID) if person else "",
        source_identity=session.get("source_identity", ""),
        mfa=_proof(session["mfa"], seconds) if session.get("mfa") is not None else None,
        bound=_bound(session["bound"], seconds) if session.get("bound") is not None else None,
        tags=tuple(SessionTag(key, _scalar(value)) for key, value in session.get("tags", {}).items()),
        policies=b"" if policies is None else pack_policies(policies),
    )
    return Session(claims, policies)


def _proof(value: Given, seconds: int) -> MfaProof:
    method = MfaMethod[value.get("method", "webauthn").upper()]
    serial = "" if method is MfaMethod.RECOVERY else f"arn:aws:iam::{ACCOUNT}:u2f/user/alice/key"
    return MfaProof(
        method=method,
        proved_at_ms=(seconds - value.get("age", 60)) * 1000,
        serial_number=value.get("serial", serial),
        user_verified=value.get("user_verified", False),
    )


def _bound(value: Given, seconds: int) -> BoundProof:
    facts = {key: item for key, item in value.items() if key not in ("action", "resource")}
    return BoundProof(
        _proof(facts, seconds), value.get("action", "s3:getobject"), value.get("resource", f"{BUCKET_ARN}/key")
    )


def _context(values: Mapping[str, Any]) -> dict[str, ContextValue]:
    return {key: context_value(value) for key, value in values.items() if value is not None}


def context_value(value: object) -> ContextValue:
    """Read a scalar, a list, or ``{values, multivalued}``."""
    if isinstance(value, Mapping):
        texts = tuple(_scalar(item) for item in value["values"])
        return ContextValue(texts, bool(value.get("multivalued", False)))
    if isinstance(value, list):
        return ContextValue(tuple(_scalar(item) for item in value), multivalued=True)
    return ContextValue((_scalar(value),))


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise CaseError(f"not a scalar: {value!r}")


def _want(value: object) -> Want:
    if isinstance(value, str):
        value = {"answer": value}
    if not isinstance(value, Mapping):
        raise CaseError(f"not a want: {value!r}")
    unknown = set(value) - {"answer", "error", "matched", "missing", "mfa", "shadow"}
    if unknown:
        raise CaseError(f"unknown keys in want: {sorted(unknown)}")
    mfa: MfaRequirement | str | None = _NOT_GIVEN
    if "mfa" in value:
        mfa = _requirement(value["mfa"])
    matched = tuple(value["matched"]) if "matched" in value else None
    missing = tuple(value["missing"]) if "missing" in value else None
    if "error" in value:
        return Want(error=value["error"])
    word, _, layer_name = value["answer"].partition(" ")
    reason = Reason[word.upper()]
    layer: PolicyLayer | None = _LAYERS.get(reason, PolicyLayer.UNSPECIFIED)
    decision = Decision.ALLOW if reason in _ALLOWING else Decision.IMPLICIT_DENY
    if reason is Reason.EXPLICIT_DENY:
        decision = Decision.EXPLICIT_DENY
        layer = PolicyLayer[layer_name] if layer_name else None
    shadow = Decision[value["shadow"].upper()] if "shadow" in value else None
    return Want(decision, layer, reason, matched=matched, missing=missing, mfa=mfa, shadow=shadow)


def _requirement(value: Any) -> MfaRequirement | None:
    if value is None:
        return None
    methods = value.get("methods", [method.word for method in MfaMethod])
    return MfaRequirement(
        max_age_seconds=value.get("max_age"),
        methods=tuple(MfaMethod[word.upper()] for word in methods),
        user_verification=value.get("user_verification", False),
    )


class _Loader(yaml.CSafeLoader):
    """Reads ``true``, ``false``, ``null`` and plain decimal numbers; all else stays text, dates too."""


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"null$"), ["n"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"(?:0|-?[1-9][0-9]*)$"), list("-0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"<<$"), ["<"])


def _load(path: Path) -> Mapping[str, Any]:
    content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    if not isinstance(content, Mapping) or "source" not in content:
        raise CaseError(f"{path.name}: no source")
    return content


def parse_time(text: str) -> int:
    """Read ``2026-01-15T12:00:00Z`` into seconds since the epoch."""
    return int(datetime.fromisoformat(text).timestamp())


@cache
def load_cases(folder: Path = HERE / "cases") -> Sequence[Case]:
    """Return the cases of every file, tables unrolled, in order."""
    cases: list[Case] = []
    for path in sorted(folder.glob("*.yaml")):
        content = _load(path)
        defaults = {key: content.get(key, {}) for key in ("given", "request")}
        cases.extend(_case(path.stem, content["source"], defaults, entry) for entry in content.get("cases", []))
        for table in content.get("tables", []):
            cases.extend(_table_cases(path.stem, content["source"], defaults, table))
    return tuple(cases)


def _case(topic: str, source: str, defaults: Given, entry: Given) -> Case:
    unknown = set(entry) - {"name", "given", "request", "want", "now", "undefined", "simulation", "source"}
    if unknown:
        raise CaseError(f"{topic}: {entry.get('name')}: unknown keys {sorted(unknown)}")
    own = entry.get("given", {})
    given = own if "files" in own else {**defaults["given"], **own}
    request = {**defaults["request"], **entry.get("request", {})}
    try:
        return Case(
            id=f"{topic}: {entry['name']}",
            source=entry.get("source", source),
            given=given,
            request=build_request(request, given, seconds=parse_time(entry.get("now", NOW))),
            want=_want(entry["want"]),
            seconds=parse_time(entry.get("now", NOW)),
            simulation=entry.get("simulation", given.get("principal") == "federated"),
            undefined=entry.get("undefined", ""),
        )
    except (CaseError, KeyError, AttributeError) as error:
        raise CaseError(f"{topic}: {entry.get('name')}: {error!r}") from error


def _table_cases(topic: str, source: str, defaults: Given, table: Given) -> Iterator[Case]:
    """Unroll one of the four kinds of tables."""
    kinds: dict[str, Callable[[Given, Sequence[Any]], Iterator[dict[str, Any]]]] = {
        "operator": _condition_row,
        "action_patterns": _action_row,
        "resource_patterns": _resource_row,
        "principal_entries": _principal_row,
    }
    (kind,) = [kind for kind in kinds if kind in table]
    unknown = set(table) - {kind, "key", "version", "context", "rows", "undefined", "given"}
    if unknown:
        raise CaseError(f"{topic}: table of {table[kind]}: unknown keys {sorted(unknown)}")
    rows = table["rows"] if kind == "operator" else table[kind]
    for row in rows:
        note: Given = row[3] if len(row) > 3 else {}
        for entry in kinds[kind](table, row):
            undefined = note.get("undefined", table.get("undefined", ""))
            yield _case(topic, source, defaults, {**entry, "undefined": undefined})


def _condition_row(table: Given, row: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """``[policy value, request value, whether it holds]``: once in an Allow, once in a Deny."""
    operator, key = table["operator"], table.get("key", "app:key")
    policy_value, request_value, holds, *more = row
    note: Given = more[0] if more else {}
    outcomes = holds if isinstance(holds, Mapping) else {"allow": holds, "deny": holds}
    context = {**table.get("context", {}), **note.get("context", {})}
    if request_value is not None:
        context[key] = request_value
    shown = json.dumps(request_value) if request_value is not None else "no value"
    extra = f" with {json.dumps(note['context'])}" if "context" in note else ""
    version = "" if table.get("version", "2012-10-17") == "2012-10-17" else f" in {table['version']}"
    of_key = f" of {key}" if "key" in table else ""
    of_caller = f" for a {table['given']['principal']}" if "given" in table else ""
    name = f"{operator} {json.dumps(policy_value)} against {shown}{of_key}{of_caller}{extra}{version}"
    condition = {operator: {key: policy_value}}
    for effect, outcome in outcomes.items():
        if not isinstance(outcome, bool):
            raise CaseError(f"{name}: the outcome is neither true nor false")
        statement = {"Effect": effect.capitalize(), "Condition": condition}
        if effect == "allow":
            statements: list[object] = [statement]
            want = "identity_allow" if outcome else "no_identity_allow"
        else:
            statements = ["Allow", statement]
            want = "explicit_deny IDENTITY" if outcome else "identity_allow"
        document = {"Version": table.get("version", "2012-10-17"), "Statement": statements}
        yield {
            "name": f"{name}, in {'an Allow' if effect == 'allow' else 'a Deny'}",
            "given": {"identity": document, **table.get("given", {})},
            "request": {"context": context},
            "want": want,
        }


def _action_row(table: Given, row: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """``[patterns, action, whether they match]``: once as Action, once as NotAction."""
    patterns, action, matches = row[:3]
    for element, allowed in (("Action", matches), ("NotAction", not matches)):
        yield {
            "name": f"{element} {json.dumps(patterns)} against {action}",
            "given": {"identity": {element: patterns}, **table.get("given", {})},
            "request": {"action": action},
            "want": "identity_allow" if allowed else "no_identity_allow",
        }


def _resource_row(table: Given, row: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """``[patterns, resource, whether they match]``: once as Resource, once as NotResource."""
    patterns, resource, matches = row[:3]
    note: Given = row[3] if len(row) > 3 else {}
    for element, allowed in (("Resource", matches), ("NotResource", not matches)):
        version = table.get("version", "2012-10-17")
        document = {"Version": version, "Statement": [{element: patterns}]}
        extra = f" with {json.dumps(note['context'])}" if "context" in note else ""
        in_version = f" in {version}" if "version" in table else ""
        yield {
            "name": f"{element} {json.dumps(patterns)} against {json.dumps(resource)}{extra}{in_version}",
            "given": {"identity": document, **table.get("given", {})},
            "request": {"action": "any:Action", "resource": resource, "context": note.get("context", {})},
            "want": "identity_allow" if allowed else "no_identity_allow",
        }


_NOTHING = {"Action": "none:Nothing"}


def _principal_row(table: Given, row: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """``[principal, caller, direct|via|acct|none|deny]``: same account, other account, and in a Deny."""
    entry, caller, named = row[:3]
    if named not in ("direct", "via", "acct", "none", "deny"):
        raise CaseError(f"`{named}` says not whom an entry names")
    shown = f"Principal {json.dumps(entry)} and {'an' if caller == 'anonymous' else 'a'} {caller}"
    has_identity = caller in ("user", "role", "federated")
    base = {"principal": caller, **table.get("given", {})}
    nobody = "no_resource_allow" if caller in ("service", "anonymous") else "no_identity_allow"
    in_account = {
        "direct": "resource_allow",
        "via": "no_permissions_boundary_allow",
        "acct": "no_identity_allow",
    }.get(named, "root_allow" if caller == "root" else nobody)
    yield {
        "name": f"{shown}: in its own account, where the boundary allows nothing",
        "given": {
            **base,
            **({"boundary": _NOTHING} if has_identity else {}),
            "resource_policy": {"Principal": entry},
        },
        "want": in_account,
    }
    if named in ("none", "deny"):
        across = "no_resource_allow"
    else:
        across = {"root": "root_allow", "service": "resource_allow", "anonymous": "resource_allow"}.get(
            caller, "identity_allow"
        )
    allowing = {"identity": "Allow", **({"session": "Allow"} if caller == "federated" else {})} if has_identity else {}
    yield {
        "name": f"{shown}: on a resource of another account",
        "given": {**base, **allowing, "owner": OTHER_ACCOUNT, "resource_policy": {"Principal": entry}},
        "want": across,
    }
    everybody = {"Principal": {"AWS": "*", "Service": SERVICE}}
    yield {
        "name": f"{shown}: in a Deny",
        "given": {**base, "resource_policy": [everybody, {"Effect": "Deny", "Principal": entry}]},
        "want": "resource_allow" if named == "none" else "explicit_deny RESOURCE",
    }


def load_refused(folder: Path = HERE / "refused") -> list[RefusedCase]:
    """Return the documents that must be refused."""
    cases: list[RefusedCase] = []
    for path in sorted(folder.glob("*.yaml")):
        content = _load(path)
        for entry in content["cases"]:
            unknown = set(entry) - {"name", "kind", "document", "statement", "files", "words", "undefined"}
            if unknown:
                raise CaseError(f"{path.name}: {entry.get('name')}: unknown keys {sorted(unknown)}")
            kind = PolicyKind[entry.get("kind", content.get("kind", "identity")).upper()]
            if "statement" in entry:
                document: object = {"Version": "2012-10-17", "Statement": [_statement(entry["statement"], kind)]}
            else:
                document = entry.get("document", "")
            words = entry["words"]
            cases.append(
                RefusedCase(
                    id=f"{path.stem}: {entry['name']}",
                    source=content["source"],
                    kind=kind,
                    document=document if isinstance(document, str) else json.dumps(document),
                    files=entry.get("files", {}),
                    words=tuple([words] if isinstance(words, str) else words),
                    undefined=entry.get("undefined", ""),
                )
            )
    return cases


def find_problems(case: RefusedCase) -> tuple[Problem, ...]:
    """Parse the document or the source of *case* and return its errors."""
    if case.files:
        report = parse_source(_file_contents(case.files), now=parse_time(NOW))
        return tuple(problem for problem in report.problems if problem.severity == "error")
    problems = Problems()
    parse_policy(case.document, kind=case.kind, problems=problems, file="policy.json", check_quota=True)
    return tuple(problem for problem in problems.items if problem.severity == "error")


def undefined_rows(path: Path) -> list[str]:
    """Return the first column of the table of undefined behaviour in the semantics page."""
    _, _, section = path.read_text(encoding="utf-8").partition("## Undefined behaviour")
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def case_as_yaml(name: str, given: Given, request: Given, want: object) -> str:
    """Write a failing example as a case that can be added to a file of cases."""
    entry = {"name": name, "given": dict(given), "request": dict(request), "want": want}
    text: str = yaml.safe_dump([entry], sort_keys=False, allow_unicode=True, width=110)
    return text


#: What an evaluator is: it answers a request of a snapshot at a time.
Evaluator = Callable[[Snapshot, AuthorizationRequest, int, bool], Answer]
