# SPDX-License-Identifier: Apache-2.0
"""
What would these documents decide? A snapshot made of a question, decided by the same core.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import Problems
from sidecar.model.errors import PolicySyntaxError, RequestError
from sidecar.model.policy import Policy, PolicyDocument, PolicyKind
from sidecar.model.request import MAX_CONTEXT_KEYS, AuthorizationRequest, ContextValue, is_reserved_key
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
from sidecar.services.authorizer import Explanation

#: Bytes of all documents of one simulation.
MAX_DOCUMENT_BYTES = 1024 * 1024
#: Documents of one kind, and documents at one level of an organization.
MAX_DOCUMENTS = 100
#: The root, five levels of units and the account itself: no organization of AWS is deeper.
MAX_LEVELS = 7

_NANOS = 1_000_000_000
_USER = re.compile(r"arn:([a-z-]+):iam::([0-9]{12}):user/(?:.*/)?([^/]+)")
_SESSION = re.compile(r"arn:([a-z-]+):sts::([0-9]{12}):assumed-role/([^/]+)/([^/]+)")
_FEDERATED = re.compile(r"arn:([a-z-]+):sts::([0-9]{12}):federated-user/([^/]+)")
_ROOT = re.compile(r"arn:([a-z-]+):iam::([0-9]{12}):root")
_ROLE = re.compile(r"arn:([a-z-]+):iam::([0-9]{12}):role/(?:.*/)?([^/]+)")
_ACCOUNT = re.compile(r"[0-9]{12}")
_ARN = re.compile(r"arn:[a-z-]+:[^:]+:[^:]*:[^:]*:.+", re.DOTALL)

#: Name of the user that stands behind a simulated federated user.
_FEDERATING_USER = "federating-user"
#: Facts that follow from the scaffolding and not from the question: null unless the question states them.
_SCAFFOLDING_KEYS = (
    "aws:PrincipalOrgID",
    "aws:PrincipalOrgPaths",
    "aws:ResourceOrgID",
    "aws:ResourceOrgPaths",
    "aws:userid",
)


@dataclass(frozen=True, slots=True)
class SimulationRequest:
    """
    A question together with every document that may bear on it.

    Documents are JSON texts. They are named in explanations and problems by the field they came in.

    Attributes:
        principal: As in a request; a federated user's ARN too.
        context: The whole context, reserved keys included.
        resource_account: Owner of the resource where its ARN names none; the principal's account if empty.
        permissions_boundary: Empty for none.
        resource_policy: Empty for none; for a role's ARN its trust policy.
        service_control_policies: Documents by level, organization root first.
        resource_control_policies: Documents by level, organization root first.
    """

    principal: str
    action: str
    resource: str
    resource_account: str = ""
    context: Mapping[str, ContextValue] = field(default_factory=dict)
    identity_policies: Sequence[str] = ()
    permissions_boundary: str = ""
    session_policies: Sequence[str] = ()
    resource_policy: str = ""
    service_control_policies: Sequence[Sequence[str]] = ()
    resource_control_policies: Sequence[Sequence[str]] = ()


class Simulator:
    """
    Decides by documents that stand in the request; nothing is kept.

    Thread-safety: immutable.
    """

    def __init__(self, *, now: Callable[[], int]) -> None:
        """
        Args:
            now: Nanoseconds since the epoch.
        """
        self._now = now

    def simulate(self, request: SimulationRequest) -> Explanation:
        """
        Answer as if the documents of *request* were all there is.

        Raises:
            RequestError: The request is malformed.
            PolicySyntaxError: Documents have errors; every one is named, with its field as the file.
        """
        _check_limits(request)
        _check_places(request)
        image = core.Image.from_bytes(write_image(_build_snapshot(request)))
        context, override = _split_context(request.context)
        question = AuthorizationRequest(
            principal=request.principal,
            action=request.action,
            resource=request.resource,
            resource_account=request.resource_account if _account_in(request.resource) else _owner(request),
            context=context,
            override=override,
        )
        seconds, nanos = divmod(self._now(), _NANOS)
        try:
            answer = core.explain(image, question, seconds=seconds, nanos=nanos, simulation=True)
        except RequestError as error:
            if not error.field.startswith("override"):
                raise
            # The caller stated one context and knows nothing of our two.
            message, field = (text.replace("override", "context", 1) for text in (error.message, error.field))
            raise RequestError(message, field=field, help=error.help) from None
        return Explanation(answer, image.revision)


def _check_limits(request: SimulationRequest) -> None:
    lists = {
        "identity_policies": request.identity_policies,
        "session_policies": request.session_policies,
        **{
            f"{name}[{level}].documents": documents
            for name, levels in (
                ("service_control_policies", request.service_control_policies),
                ("resource_control_policies", request.resource_control_policies),
            )
            for level, documents in enumerate(levels)
        },
    }
    for name, documents in lists.items():
        if len(documents) > MAX_DOCUMENTS:
            raise RequestError(f"there are more than {MAX_DOCUMENTS} documents", field=name)
    for name, levels in (
        ("service_control_policies", request.service_control_policies),
        ("resource_control_policies", request.resource_control_policies),
    ):
        if len(levels) > MAX_LEVELS:
            raise RequestError(
                f"there are more than {MAX_LEVELS} levels", field=name, help="the root, five units and the account"
            )
    if len(request.context) > MAX_CONTEXT_KEYS:
        raise RequestError(f"there are more than {MAX_CONTEXT_KEYS} keys", field="context")
    texts = [text for documents in lists.values() for text in documents]
    texts += [request.permissions_boundary, request.resource_policy]
    if sum(len(text.encode("utf-8", "replace")) for text in texts) > MAX_DOCUMENT_BYTES:
        raise RequestError(f"the documents are larger than {MAX_DOCUMENT_BYTES} bytes together", field="")


def _check_places(request: SimulationRequest) -> None:
    """Refuse what the scaffolding is made of where it has no form; the core checks the rest."""
    for name, text in (
        ("principal", request.principal),
        ("resource", request.resource),
        ("resource_account", request.resource_account),
    ):
        if not _is_text(text):
            raise RequestError(f"`{name}` is no valid text", field=name)
    if request.resource_account and not _ACCOUNT.fullmatch(request.resource_account):
        raise RequestError(f"`{request.resource_account}` is no account id", field="resource_account")
    if request.resource_policy and request.resource == "*":
        raise RequestError("a resource policy needs a resource to stand on", field="resource_policy")
    if request.resource_policy and not _ARN.fullmatch(request.resource):
        raise RequestError(f"`{request.resource}` is neither an ARN nor `*`", field="resource")


def _is_text(text: str) -> bool:
    """Say whether *text* has a form in UTF-8, which lone surrogates have not."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _build_snapshot(request: SimulationRequest) -> Snapshot:
    documents = _Documents()
    identity = documents.parse_all(request.identity_policies, PolicyKind.IDENTITY, "identity_policies")
    boundary = documents.parse_one(request.permissions_boundary, PolicyKind.BOUNDARY, "permissions_boundary")
    session = documents.parse_all(request.session_policies, PolicyKind.SESSION, "session_policies")
    target_role = _ROLE.fullmatch(request.resource)
    resource_kind = PolicyKind.TRUST if target_role else PolicyKind.RESOURCE
    resource = documents.parse_one(request.resource_policy, resource_kind, "resource_policy")
    service_control = [
        documents.parse_all(level, PolicyKind.SERVICE_CONTROL, f"service_control_policies[{index}].documents")
        for index, level in enumerate(request.service_control_policies)
    ]
    resource_control = [
        documents.parse_all(level, PolicyKind.RESOURCE_CONTROL, f"resource_control_policies[{index}].documents")
        for index, level in enumerate(request.resource_control_policies)
    ]
    documents.raise_errors()

    accounts = _Accounts()
    federated: tuple[FederatedUser, ...] = ()
    if match := _USER.fullmatch(request.principal):
        partition, account, name = match.groups()
        accounts.add_user(partition, account, name, request.principal, identity, boundary)
    elif match := _SESSION.fullmatch(request.principal):
        partition, account, name, _ = match.groups()
        accounts.add_role(partition, account, name, f"arn:{partition}:iam::{account}:role/{name}", identity, boundary)
    elif match := _FEDERATED.fullmatch(request.principal):
        partition, account, name = match.groups()
        user = f"arn:{partition}:iam::{account}:user/{_FEDERATING_USER}"
        accounts.add_user(partition, account, _FEDERATING_USER, user, identity, boundary)
        federated = (FederatedUser(request.principal, account, name, user),)
    else:
        _refuse_identity(request)
        if match := _ROOT.fullmatch(request.principal):
            accounts.add(*match.groups())

    owner = _owner(request)
    if owner and owner not in accounts.ids:
        accounts.add(_partition_of(request.resource) or "aws", owner)
    resource_policies: tuple[ResourcePolicy, ...] = ()
    if resource is not None:
        if target_role:
            partition, account, name = target_role.groups()
            accounts.add_trust(partition, account, name, request.resource, resource)
        else:
            in_arn = _account_in(request.resource)
            resource_policies = (ResourcePolicy(request.resource, "" if in_arn else owner, resource),)

    return Snapshot(
        accounts=accounts.build(),
        organization=_organization(_principal_account(request), owner, service_control, resource_control),
        resource_policies=resource_policies,
        federated_users=federated,
        session_policies=session if request.session_policies else None,
    )


class _Documents:
    """Parses the documents of a request and gathers every problem."""

    def __init__(self) -> None:
        self._problems = Problems()

    def parse_one(self, text: str, kind: PolicyKind, name: str) -> Policy | None:
        """Return the policy in *text*, or None for an empty text or one with errors."""
        if not text:
            return None
        return self._parse(text, kind, name)

    def parse_all(self, texts: Sequence[str], kind: PolicyKind, name: str) -> tuple[Policy, ...]:
        """Return the policies in *texts* that have no errors; an empty text is one."""
        policies = []
        for index, text in enumerate(texts):
            here = f"{name}[{index}]"
            policy = self._parse(text, kind, here)
            if policy is not None:
                policies.append(policy)
        return tuple(policies)

    def _parse(self, text: str, kind: PolicyKind, name: str) -> Policy | None:
        # Which quota counts depends on what a document will be attached to as: inline, managed, or AWS's own.
        document = parse_policy(text, kind=kind, problems=self._problems, file=name, check_quota=False)
        return None if document is None else Policy(name, document)

    def raise_errors(self) -> None:
        """Raise what was found, if that refuses the request."""
        if self._problems.has_errors:
            count = self._problems.error_count
            raise PolicySyntaxError(
                f"the documents have {count} error{'s' if count != 1 else ''}", problems=self._problems.items
            )


class _Accounts:
    """Gathers the accounts of a simulation with the user or roles in them."""

    def __init__(self) -> None:
        self._partitions: dict[str, str] = {}
        self._users: dict[str, User] = {}
        self._roles: dict[tuple[str, str], Role] = {}

    @property
    def ids(self) -> frozenset[str]:
        """Accounts named so far."""
        return frozenset(self._partitions)

    def add(self, partition: str, account: str) -> None:
        """Name an account."""
        self._partitions.setdefault(account, partition)

    def add_user(
        self, partition: str, account: str, name: str, arn: str, policies: tuple[Policy, ...], boundary: Policy | None
    ) -> None:
        """Put a user into its account."""
        self.add(partition, account)
        self._users[account] = User(arn, account, name, "AIDASIMULATEDUSER0000", policies, boundary)

    def add_role(
        self, partition: str, account: str, name: str, arn: str, policies: tuple[Policy, ...], boundary: Policy | None
    ) -> None:
        """Put the caller's role into its account, with a trust policy that says nothing."""
        self.add(partition, account)
        trust = Policy(f"inline:{arn}/AssumeRolePolicyDocument", PolicyDocument("2012-10-17", "", ()))
        self._roles[account, name] = Role(arn, account, name, "AROASIMULATEDROLE0000", trust, policies, boundary)

    def add_trust(self, partition: str, account: str, name: str, arn: str, trust: Policy) -> None:
        """Give the role that is the resource its trust policy, also where it is the caller's own."""
        self.add(partition, account)
        own = self._roles.get((account, name))
        policies, boundary = (own.policies, own.boundary) if own is not None else ((), None)
        self._roles[account, name] = Role(arn, account, name, "AROASIMULATEDROLE0001", trust, policies, boundary)

    def build(self) -> tuple[Account, ...]:
        """Return the accounts in the order of their ids."""
        return tuple(
            Account(
                id=account,
                partition=partition,
                users=tuple(user for owner, user in self._users.items() if owner == account),
                roles=tuple(role for (owner, _), role in self._roles.items() if owner == account),
            )
            for account, partition in sorted(self._partitions.items())
        )


def _refuse_identity(request: SimulationRequest) -> None:
    """Refuse documents that the caller cannot have: leaving them out would answer another question."""
    who = "a root user" if _ROOT.fullmatch(request.principal) else "this caller"
    if request.identity_policies:
        raise RequestError(f"{who} has no identity-based policies", field="identity_policies")
    if request.permissions_boundary:
        raise RequestError(f"{who} has no permissions boundary", field="permissions_boundary")
    if request.session_policies and not _ROOT.fullmatch(request.principal):
        raise RequestError(f"{who} has no session policies", field="session_policies")


def _principal_account(request: SimulationRequest) -> str:
    """Return the account of the caller, or an empty string."""
    for form in (_USER, _SESSION, _FEDERATED, _ROOT):
        if match := form.fullmatch(request.principal):
            return match[2]
    return ""


def _owner(request: SimulationRequest) -> str:
    """Return the account that owns the resource, or an empty string where nothing says so."""
    return _account_in(request.resource) or request.resource_account or _principal_account(request)


def _account_in(arn: str) -> str:
    """Return the account in an ARN, or an empty string."""
    fields = arn.split(":", 5)
    return fields[4] if len(fields) == 6 and _ACCOUNT.fullmatch(fields[4]) else ""


def _partition_of(arn: str) -> str:
    """Return the partition of an ARN, or an empty string."""
    fields = arn.split(":", 5)
    return fields[1] if len(fields) == 6 else ""


def _organization(
    principal_account: str,
    owner: str,
    service_control: Sequence[tuple[Policy, ...]],
    resource_control: Sequence[tuple[Policy, ...]],
) -> Organization | None:
    """
    Make an organization in which the control policies reach whom they are meant to reach.

    The root carries nothing: below it stands one branch for the caller's account, with the service
    control policies, and one for the owner's, with the resource control policies; one branch with
    both where the accounts are the same.
    """
    with_services = principal_account if service_control else ""
    with_resources = owner if resource_control else ""
    branches = []
    if with_services and with_services == with_resources:
        branches.append(_branch(with_services, "both", service_control, resource_control))
    else:
        if with_services:
            branches.append(_branch(with_services, "principal", service_control, ()))
        if with_resources:
            branches.append(_branch(with_resources, "resource", (), resource_control))
    if not branches:
        return None
    taken = {principal_account, owner}
    management = next(account for account in ("0" * 12, "0" * 11 + "1", "0" * 11 + "2") if account not in taken)
    root = OrganizationalUnit(
        id="r-simulation",
        name="Root",
        accounts=(OrganizationAccount(management),),
        units=tuple(branches),
    )
    return Organization("o-simulation", management, root)


def _branch(
    account: str,
    name: str,
    service_control: Sequence[tuple[Policy, ...]],
    resource_control: Sequence[tuple[Policy, ...]],
) -> OrganizationalUnit:
    """Return nested units, one for each level, the account below the last."""
    depth = max(len(service_control), len(resource_control))
    unit: OrganizationalUnit | None = None
    for level in reversed(range(depth)):
        unit = OrganizationalUnit(
            id=f"ou-simulation-{name}{level}",
            name=f"{name} {level}",
            service_control_policies=service_control[level] if level < len(service_control) else None,
            resource_control_policies=resource_control[level] if level < len(resource_control) else (),
            accounts=(OrganizationAccount(account),) if unit is None else (),
            units=() if unit is None else (unit,),
        )
    if unit is None:
        raise ValueError("a branch without levels")
    return unit


def _split_context(
    stated: Mapping[str, ContextValue],
) -> tuple[dict[str, ContextValue], dict[str, ContextValue]]:
    """
    Return the stated context as what any caller may send, and what takes the place of the sidecar's own facts.

    Facts that only the scaffolding would give are null unless they are stated.
    """
    context = {key: value for key, value in stated.items() if not is_reserved_key(key)}
    reserved = {key: value for key, value in stated.items() if is_reserved_key(key)}
    lowered = {key.lower() for key in reserved}
    absent = {key: ContextValue(()) for key in _SCAFFOLDING_KEYS if key.lower() not in lowered}
    return context, {**absent, **reserved}
