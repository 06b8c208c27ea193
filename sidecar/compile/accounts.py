# SPDX-License-Identifier: Apache-2.0
"""
Account dumps: what ``aws iam get-account-authorization-details`` prints, to accounts with users and roles.

Entities of all pages are gathered first and joined afterwards, since a user of one page may be in a group of the
next. What AWS prints beside the known keys is a warning, since AWS adds fields over time; what contradicts
itself, or points to something that is nowhere, is an error.
"""

from __future__ import annotations

import marshal
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sidecar.compile.documents import JsonNumber
from sidecar.compile.policy import decode_document, parse_policy
from sidecar.compile.problems import Problems, member, quote
from sidecar.compile.quotas import MAX_DOCUMENT_TEXT, MAX_INLINE_GROUP, MAX_INLINE_ROLE, MAX_INLINE_USER, document_size
from sidecar.compile.shape import JsonObject, Place, describe, is_account_id
from sidecar.model.policy import Policy, PolicyDocument, PolicyKind
from sidecar.model.snapshot import Account, Role, User

#: Called with the number of entities done, their total, and what is being done.
Progress = Callable[[int, int, str], None]

MAX_ENTITIES = 200_000
#: Pages of one account file.
MAX_PAGES = 10_000
MAX_TAGS = 50
MAX_TAG_KEY = 128
MAX_TAG_VALUE = 256
MAX_PATH = 512
MAX_GROUPS_OF_USER = 10
#: Least and most of the longest session of a role, in seconds.
SESSION_DURATION = (3600, 43_200)
_PROGRESS_STEP = 500
_STEP = "parsing policies"

_PAGE_LISTS = ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies")
_PAGE_KEYS = frozenset({*_PAGE_LISTS, "IsTruncated", "Marker", "NextToken", "ResponseMetadata"})
_POLICY_KEYS = frozenset(
    {
        "PolicyName",
        "PolicyId",
        "Arn",
        "Path",
        "DefaultVersionId",
        "AttachmentCount",
        "PermissionsBoundaryUsageCount",
        "IsAttachable",
        "Description",
        "CreateDate",
        "UpdateDate",
        "PolicyVersionList",
        "Tags",
    }
)
_VERSION_KEYS = frozenset({"Document", "VersionId", "IsDefaultVersion", "CreateDate"})
_INLINE_KEYS = frozenset({"PolicyName", "PolicyDocument"})
_ATTACHED_KEYS = frozenset({"PolicyName", "PolicyArn"})
_BOUNDARY_KEYS = frozenset({"PermissionsBoundaryType", "PermissionsBoundaryArn"})
_BOUNDARY_TYPES = frozenset({"PermissionsBoundaryPolicy", "Policy"})
_TAG_KEYS = frozenset({"Key", "Value"})
_PROFILE_KEYS = frozenset({"Path", "InstanceProfileName", "InstanceProfileId", "Arn", "CreateDate", "Roles", "Tags"})

_PARTITION = re.compile(r"aws(-[a-z0-9]+)*\Z")
_INLINE_NAME = re.compile(r"[!-)+-.0->@-\[\]-~]{1,128}\Z")
_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{1,128}\Z")
_PATH = re.compile(r"/([\x21-\x7e]+/)?\Z")
_UNIQUE_ID = re.compile(r"[A-Za-z0-9_]{1,128}\Z")
_VERSION_ID = re.compile(r"v[1-9][0-9]{0,17}\Z")

_REDUMP = "dump the account again with `aws iam get-account-authorization-details` and no filter, all pages"


class _Kind(NamedTuple):
    """
    A kind of entity and the keys under which AWS prints it.

    Attributes:
        noun: In messages.
        type: In ARNs.
        inline_limit: Characters that all inline policies may have together; 0: it has none.
        attached_limit: Managed policies that may be attached.
    """

    noun: str
    type: str
    list_key: str
    name_key: str
    id_key: str
    name_limit: int
    known: frozenset[str]
    inline_key: str = ""
    inline_limit: int = 0
    attached_limit: int = 0


_COMMON_KEYS = ("Path", "Arn", "CreateDate", "AttachedManagedPolicies")
_USER = _Kind(
    noun="user",
    type="user",
    list_key="UserDetailList",
    name_key="UserName",
    id_key="UserId",
    name_limit=64,
    known=frozenset(
        {
            *_COMMON_KEYS,
            "UserName",
            "UserId",
            "UserPolicyList",
            "GroupList",
            "PermissionsBoundary",
            "Tags",
            "PasswordLastUsed",
        }
    ),
    inline_key="UserPolicyList",
    inline_limit=MAX_INLINE_USER,
    attached_limit=20,
)
_GROUP = _Kind(
    noun="group",
    type="group",
    list_key="GroupDetailList",
    name_key="GroupName",
    id_key="GroupId",
    name_limit=128,
    known=frozenset({*_COMMON_KEYS, "GroupName", "GroupId", "GroupPolicyList"}),
    inline_key="GroupPolicyList",
    inline_limit=MAX_INLINE_GROUP,
    attached_limit=10,
)
_ROLE = _Kind(
    noun="role",
    type="role",
    list_key="RoleDetailList",
    name_key="RoleName",
    id_key="RoleId",
    name_limit=64,
    known=frozenset(
        {
            *_COMMON_KEYS,
            "RoleName",
            "RoleId",
            "RolePolicyList",
            "AssumeRolePolicyDocument",
            "InstanceProfileList",
            "PermissionsBoundary",
            "Tags",
            "RoleLastUsed",
            "MaxSessionDuration",
            "Description",
        }
    ),
    inline_key="RolePolicyList",
    inline_limit=MAX_INLINE_ROLE,
    attached_limit=25,
)
_POLICY = _Kind(
    noun="managed policy",
    type="policy",
    list_key="Policies",
    name_key="PolicyName",
    id_key="PolicyId",
    name_limit=128,
    known=_POLICY_KEYS,
)
_KINDS = (_POLICY, _GROUP, _USER, _ROLE)


class _Entity(NamedTuple):
    """
    One entry of a page, its identity checked.

    Attributes:
        place: The file it stands in.
        path: Its JSON path in that file.
        value: As printed.
    """

    place: Place
    path: str
    value: JsonObject
    arn: str
    name: str
    unique_id: str

    def __str__(self) -> str:
        return f"{self.path} of {self.place.file}"


@dataclass(slots=True)
class _Dump:
    """
    All pages of one account, or what pages hold of AWS's own policies alone (id ``aws``).

    Tables hold None for an entity that is there and broken, so that nobody calls it missing.

    Attributes:
        first_page: Where to report a problem of the whole account.
        complete: Whether a page says that no other follows.
        groups: Groups by name.
        policies: Managed policies by ARN, AWS's own among them.
        names: Who has a name; names in lower case, as AWS keeps them unique without case. AWS's policies by ARN.
    """

    id: str
    partition: str
    first_page: tuple[Place, str]
    complete: bool = False
    users: list[_Entity] = field(default_factory=list)
    roles: list[_Entity] = field(default_factory=list)
    role_names: set[str] = field(default_factory=set)
    groups: dict[str, _Entity | None] = field(default_factory=dict)
    policies: dict[str, _Entity | None] = field(default_factory=dict)
    names: dict[tuple[str, str], _Entity] = field(default_factory=dict)


class _ManagedPolicy(NamedTuple):
    """
    The version of a managed policy that is in force.

    Attributes:
        name: What entities call it beside its ARN.
    """

    policy: Policy
    version: int
    name: str


class _Document(NamedTuple):
    """
    A parsed document.

    Attributes:
        most: It has no more characters than this towards a quota.
    """

    document: PolicyDocument
    most: int


class _Group(NamedTuple):
    """Policies that a group lends to its members; attached ones by ARN."""

    inline: tuple[Policy, ...]
    attached: dict[str, Policy]


_NO_GROUP = _Group((), {})


class Accounts:
    """
    Collects the pages of all accounts, then joins them.

    Call ``add_file`` for each file, then ``finish`` once. Thread-safety: confined to one thread.
    """

    def __init__(self, problems: Problems, progress: Progress) -> None:
        self._problems = problems
        self._progress = progress
        self._dumps: dict[str, _Dump] = {}
        self._unique_ids: dict[str, _Entity] = {}
        self._entity_count = 0
        self._done = 0
        self._documents: dict[tuple[PolicyKind, str, object], _Document] = {}
        self._managed: dict[str, dict[str, _ManagedPolicy | None]] = {}
        self._shared: dict[str, _ManagedPolicy | None] = {}

    @property
    def ids(self) -> Collection[str]:
        """Ids of the accounts seen so far."""
        return self._dumps.keys() - {"aws"}

    @property
    def managed_policies(self) -> Collection[str]:
        """ARNs of the managed policies seen so far, attached to somebody or not."""
        return {arn for dump in self._dumps.values() for arn in dump.policies}

    def has_role(self, account: str, name: str) -> bool:
        """Say whether *account* has a role of that name, sound or broken."""
        dump = self._dumps.get(account)
        return dump is not None and name in dump.role_names

    # Reading pages.

    def add_file(self, file: str, document: object) -> None:
        """Take what was read from *file*: one page, or a list of pages."""
        place = Place(self._problems, file)
        if not isinstance(document, list):
            self._add_page(place, document, "$")
            return
        if not document:
            place.error("$", "an account file without pages", _REDUMP)
        if len(document) > MAX_PAGES:
            place.error("$", f"more than {MAX_PAGES} pages in one file", _REDUMP)
            return
        for index, page in enumerate(document):
            self._add_page(place, page, f"$[{index}]")

    def _add_page(self, place: Place, value: object, path: str) -> None:
        page = place.mapping(value, path, "an account page")
        if page is None:
            return
        self._foreseen_keys(place, page, path, _PAGE_KEYS, "an account page")
        if not any(key in page for key in _PAGE_LISTS):
            place.error(path, "not an account dump: none of " + ", ".join(_PAGE_LISTS), _REDUMP)
            return
        place.unread(page.get("ResponseMetadata"), f"{path}.ResponseMetadata")
        dump = self._page_dump(place, page, path)
        if page.get("IsTruncated") is not True and page.get("NextToken") is None:
            dump.complete = True
        for kind in _KINDS:
            if kind.list_key not in page:
                continue
            list_path = f"{path}.{kind.list_key}"
            for index, item in enumerate(place.array(page[kind.list_key], list_path, f"`{kind.list_key}`") or ()):
                self._entity_count += 1
                if self._entity_count > MAX_ENTITIES:
                    if self._entity_count == MAX_ENTITIES + 1:
                        place.error(list_path, f"more than {MAX_ENTITIES} users, groups, roles and policies")
                    return
                self._add_entity(place, item, f"{list_path}[{index}]", kind, dump)

    def _page_dump(self, place: Place, page: JsonObject, path: str) -> _Dump:
        """Return the dump that a page belongs to, by the account that most of its ARNs name."""
        stem = place.file.rpartition("/")[2].partition(".")[0]
        votes: Counter[tuple[str, str]] = Counter()
        for kind in _KINDS:
            items = page.get(kind.list_key)
            for item in items if isinstance(items, list) else ():
                arn = item.get("Arn") if isinstance(item, dict) else None
                fields = arn.split(":", 5) if isinstance(arn, str) else ()
                if len(fields) == 6:
                    votes[fields[4], fields[1]] += 1
        account, partition = "", ""
        for (named, of), _ in votes.most_common():
            if is_account_id(named) and _PARTITION.match(of):
                account, partition = named, of
                break
            if named == "aws":
                partition = of
        if account:
            if is_account_id(stem) and stem != account:
                place.warning(path, f"the file is named for account {stem} and holds account {account}")
        elif is_account_id(stem):
            account, partition = stem, partition or "aws"
        elif partition:
            account = "aws"
        else:
            place.warning(
                path,
                "no ARN in this page says which account it belongs to, so it adds nothing",
                "name the file for its account, as in `123456789012.json`",
            )
            return _Dump("", "", (place, path))
        dump = self._dumps.get(account)
        if dump is None:
            dump = self._dumps[account] = _Dump(account, partition, (place, path))
        return dump

    def _add_entity(self, place: Place, item: object, path: str, kind: _Kind, dump: _Dump) -> None:
        """Check who *item* is, and put it into *dump*."""
        value = place.mapping(item, path, f"a {kind.noun}")
        if value is None:
            return
        if not value.keys() <= kind.known:
            self._foreseen_keys(place, value, path, kind.known, f"a {kind.noun}")
        entity = self._identify(place, value, path, kind, dump)
        if entity is None:
            name, arn = value.get(kind.name_key), value.get("Arn")
            if kind is _GROUP and isinstance(name, str):
                dump.groups.setdefault(name, None)
            elif kind is _ROLE and isinstance(name, str):
                dump.role_names.add(name)
            elif kind is _POLICY and isinstance(arn, str):
                dump.policies.setdefault(arn, None)
            return
        if kind is _POLICY and _owner(entity.arn) == "aws":
            other = dump.names.setdefault((kind.type, entity.arn), entity)
        else:
            other = dump.names.setdefault((kind.type, entity.name.lower()), entity)
        if other is not entity:
            place.error(
                path,
                f"{kind.noun} {quote(entity.arn)} stands twice: also at {other}"
                if other.arn == entity.arn
                else f"{kind.noun} {quote(entity.arn)} has the name of {quote(other.arn)} at {other}",
                "names are unique in an account, whatever their case and path; leave out pages that overlap",
            )
            return
        if kind is _USER or kind is _ROLE:
            # A policy may name a principal by its id, so two must not share one, whatever their accounts.
            other = self._unique_ids.setdefault(entity.unique_id, entity)
            if other is not entity:
                place.error(
                    f"{path}.{kind.id_key}",
                    f"{quote(entity.unique_id)} is also the id of {quote(other.arn)} at {other}",
                )
        if kind is _USER:
            dump.users.append(entity)
        elif kind is _ROLE:
            dump.roles.append(entity)
            dump.role_names.add(entity.name)
        elif kind is _GROUP:
            dump.groups[entity.name] = entity
        else:
            dump.policies[entity.arn] = entity

    def _identify(self, place: Place, value: JsonObject, path: str, kind: _Kind, dump: _Dump) -> _Entity | None:
        """Check name, path, ARN and id of an entity against each other."""
        arn = self._required(place, value, path, "Arn", kind.noun)
        if kind is _POLICY and arn is not None:
            # Its ARN says all of it, and some imitations of AWS print no more than that.
            name = arn.rpartition("/")[2] if "PolicyName" not in value else None
            unique_id = arn if "PolicyId" not in value else None
        else:
            name = unique_id = None
        if name is None:
            name = self._required(place, value, path, kind.name_key, kind.noun)
        if unique_id is None:
            unique_id = self._required(place, value, path, kind.id_key, kind.noun)
        if name is None or arn is None or unique_id is None:
            return None
        if not _NAME.match(name) or len(name) > kind.name_limit:
            place.error(
                f"{path}.{kind.name_key}",
                f"{quote(name)} cannot be the name of a {kind.noun}",
                f"1 to {kind.name_limit} letters, digits and `_+=,.@-`",
            )
            return None
        if unique_id != arn and not _UNIQUE_ID.match(unique_id):
            place.error(f"{path}.{kind.id_key}", f"{quote(unique_id)} cannot be the id of a {kind.noun}")
            return None
        where = value.get("Path")
        if where is not None and (not isinstance(where, str) or not _PATH.match(where) or len(where) > MAX_PATH):
            shown = quote(where) if isinstance(where, str) else describe(where)
            place.error(f"{path}.Path", f"{shown} cannot be a path", "a path begins and ends with `/`")
            return None
        # The common case first: the ARN that follows from everything else.
        owner = f"arn:{dump.partition}:iam::{dump.id}:{kind.type}"
        if arn != f"{owner}{where}{name}" and not self._arn_agrees(place, arn, f"{path}.Arn", kind, dump, where, name):
            return None
        return _Entity(place, path, value, arn, name, unique_id)

    def _arn_agrees(
        self, place: Place, arn: str, path: str, kind: _Kind, dump: _Dump, where: str | None, name: str
    ) -> bool:
        """Say whether an ARN belongs into *dump* and agrees with path and name; report it otherwise."""
        fields = _arn_fields(arn)
        if fields is None:
            place.error(
                path,
                f"{quote(arn)} is not the ARN of a {kind.noun}",
                f"as in `arn:aws:iam::{dump.id or '123456789012'}:{kind.type}/{name}`",
            )
            return False
        account, resource = fields[4], fields[5]
        if account != dump.id and not (kind is _POLICY and account == "aws"):
            place.error(
                path,
                f"{kind.noun} {quote(arn)} does not belong to account {dump.id} like the rest of the page",
                "a page holds one account; put the other one into a file of its own",
            )
            return False
        if fields[1] != dump.partition:
            place.error(path, f"{quote(arn)} is not of partition `{dump.partition}` like the rest of the account")
            return False
        agrees = (
            resource == f"{kind.type}{where}{name}"
            if where is not None
            else (resource.startswith(f"{kind.type}/") and resource.endswith(f"/{name}"))
        )
        if not agrees:
            place.error(
                path,
                f"{quote(arn)} does not agree with the path and name of the {kind.noun}",
                f"expected `{kind.type}{where or '/'}{name}` after the account",
            )
        return agrees

    # Joining them.

    def finish(self, durations: Mapping[str, Mapping[str, int]]) -> tuple[Account, ...]:
        """
        Join all pages and return the accounts by id.

        Args:
            durations: By account and role name, the longest session in seconds, where settings say so.
        """
        dumps = [dump for _, dump in sorted(self._dumps.items())]
        for dump in dumps:
            self._managed[dump.id] = {
                arn: self._parse_managed(entity) if entity is not None else None
                for arn, entity in dump.policies.items()
            }
            for arn, managed in self._managed[dump.id].items():
                if _owner(arn) == "aws":
                    known = self._shared.get(arn)
                    if known is None or (managed is not None and managed.version > known.version):
                        self._shared[arn] = managed
        accounts = tuple(self._join(dump, durations.get(dump.id, {})) for dump in dumps if dump.id != "aws")
        self._progress(self._entity_count, self._entity_count, _STEP)
        return accounts

    def _join(self, dump: _Dump, durations: Mapping[str, int]) -> Account:
        if not dump.complete:
            place, path = dump.first_page
            place.warning(path, f"every page of account {dump.id} says that more follow, so some are missing", _REDUMP)
        groups = {
            name: self._parse_group(entity, dump) if entity is not None else _NO_GROUP
            for name, entity in dump.groups.items()
        }
        users = [self._parse_user(entity, dump, groups) for entity in dump.users]
        roles = [self._parse_role(entity, dump, durations.get(entity.name)) for entity in dump.roles]
        return Account(
            id=dump.id,
            partition=dump.partition,
            users=tuple(users),
            roles=tuple(role for role in roles if role is not None),
        )

    def _step(self) -> None:
        self._done += 1
        if self._done % _PROGRESS_STEP == 0:
            self._progress(self._done, self._entity_count, _STEP)

    def _parse_managed(self, entity: _Entity) -> _ManagedPolicy | None:
        """Parse the version of a managed policy that is in force; look at the others too."""
        self._step()
        place, value = entity.place, entity.value
        place.unread(value.get("Tags"), f"{entity.path}.Tags")
        list_path = f"{entity.path}.PolicyVersionList"
        if "PolicyVersionList" not in value:
            place.error(entity.path, f"managed policy {quote(entity.arn)} has no `PolicyVersionList`", _REDUMP)
            return None
        versions = place.array(value["PolicyVersionList"], list_path, "`PolicyVersionList`")
        if versions is None:
            return None
        default_id = value.get("DefaultVersionId")
        if default_id is not None and not (isinstance(default_id, str) and _VERSION_ID.match(default_id)):
            shown = quote(default_id) if isinstance(default_id, str) else describe(default_id)
            place.error(f"{entity.path}.DefaultVersionId", f"{shown} cannot be a version id", "as in `v1`")
            return None
        in_force: tuple[str, str, object] | None = None
        seen: set[str] = set()
        sound = True
        for index, item in enumerate(versions):
            path = f"{list_path}[{index}]"
            version = place.mapping(item, path, "a policy version")
            if version is None:
                sound = False
                continue
            self._foreseen_keys(place, version, path, _VERSION_KEYS, "a policy version")
            version_id = self._required(place, version, path, "VersionId", "policy version")
            if version_id is None:
                sound = False
                continue
            if not _VERSION_ID.match(version_id):
                place.error(f"{path}.VersionId", f"{quote(version_id)} cannot be a version id", "as in `v1`")
                sound = False
                continue
            if version_id in seen:
                place.error(f"{path}.VersionId", f"version {quote(version_id)} stands twice")
                sound = False
                continue
            seen.add(version_id)
            if "Document" not in version:
                place.error(path, f"version {quote(version_id)} has no `Document`", _REDUMP)
                sound = False
                continue
            flag = version.get("IsDefaultVersion")
            if flag is not None and not isinstance(flag, bool):
                place.boolean(flag, f"{path}.IsDefaultVersion", "`IsDefaultVersion`")
                sound = False
                continue
            chosen = version_id == default_id if default_id is not None else flag is True
            if default_id is not None and flag is not None and flag != chosen:
                place.error(
                    f"{path}.IsDefaultVersion",
                    f"version {quote(version_id)} says that it is {'' if flag else 'not '}the default version, "
                    f"but `DefaultVersionId` is {quote(str(default_id))}",
                    "the two must agree",
                )
                sound = False
            elif chosen and in_force is not None:
                place.error(f"{path}.IsDefaultVersion", f"two default versions: {in_force[0]} and {version_id}")
                sound = False
            elif chosen:
                in_force = (version_id, f"{path}.Document", version["Document"])
            else:
                self._look_at_old_version(place, version["Document"], f"{path}.Document", version_id)
        if in_force is None:
            if sound:
                which = (
                    f"its default version {quote(default_id)}" if isinstance(default_id, str) else "a default version"
                )
                place.error(list_path, f"managed policy {quote(entity.arn)} does not list {which}", _REDUMP)
            return None
        version_id, path, raw = in_force
        parsed = self._document(place, raw, path, PolicyKind.IDENTITY, managed_by=_owner(entity.arn))
        if parsed is None or not sound:
            return None
        return _ManagedPolicy(Policy(entity.arn, parsed.document), int(version_id[1:]), entity.name)

    def _look_at_old_version(self, place: Place, document: object, path: str, version_id: str) -> None:
        """Report what is wrong in a version that is not in force, as warnings."""
        if not isinstance(document, dict | str) or isinstance(document, JsonNumber):
            place.error(path, f"a policy document must be an object or text, not {describe(document)}")
            return
        before = place.count
        place.unread(document, path)
        if place.count > before:
            return
        scratch = Problems()
        parse_policy(
            document,
            kind=PolicyKind.IDENTITY,
            problems=scratch,
            file=place.file,
            path=path,
            check_quota=False,
            advice=False,
        )
        for problem in scratch.items:
            place.warning(
                problem.json_path, f"in version {quote(version_id)}, not in force: {problem.message}", problem.help
            )

    def _document(
        self, place: Place, raw: object, path: str, kind: PolicyKind, *, managed_by: str = ""
    ) -> _Document | None:
        """
        Parse a document, once for equal ones.

        Args:
            managed_by: ``aws`` or ``customer``; empty where the document is not a managed policy.
        """
        key: object = None
        bound = MAX_DOCUMENT_TEXT
        if type(raw) is str:
            # Without escapes and white space it only gets shorter.
            key, bound = raw, len(raw)
        elif type(raw) is dict:
            # Only plain values go through: a document with duplicate keys or with numbers is never
            # taken for an equal one without.
            try:
                key = marshal.dumps(raw, 0)
                # JSON needs less around each value, and at most two characters for one.
                bound = 2 * len(key)
            except ValueError:
                key = None
        if key is not None:
            known = self._documents.get((kind, managed_by, key))
            if known is not None:
                return known
        before = place.count
        # Inline policies share a limit, and AWS's own policies keep to none.
        parsed = parse_policy(
            raw,
            kind=kind,
            problems=self._problems,
            file=place.file,
            path=path,
            check_quota=managed_by == "customer" or kind is PolicyKind.TRUST,
            advice=managed_by != "aws",
        )
        if parsed is None:
            return None
        document = _Document(parsed, bound)
        if key is not None and place.count == before:
            self._documents[kind, managed_by, key] = document
        return document

    def _inline(self, entity: _Entity, kind: _Kind) -> tuple[Policy, ...]:
        """Parse the inline policies of *entity*, and check what they come to together."""
        value = entity.value.get(kind.inline_key)
        if not value and (value is None or isinstance(value, list)):
            return ()
        place = entity.place
        list_path = f"{entity.path}.{kind.inline_key}"
        policies: list[Policy] = []
        names: set[str] = set()
        raws: list[object] = []
        most = 0
        for index, item in enumerate(place.array(value, list_path, f"`{kind.inline_key}`") or ()):
            path = f"{list_path}[{index}]"
            inline = item if type(item) is dict else place.mapping(item, path, "an inline policy")
            if inline is None:
                continue
            if not inline.keys() <= _INLINE_KEYS:
                self._foreseen_keys(place, inline, path, _INLINE_KEYS, "an inline policy")
            name = self._required(place, inline, path, "PolicyName", "inline policy")
            if name is not None:
                folded = name.lower()
                if not _INLINE_NAME.match(name):
                    place.error(
                        f"{path}.PolicyName",
                        f"{quote(name)} cannot be the name of an inline policy",
                        "1 to 128 characters of ASCII other than white space and `\\/*?`",
                    )
                elif folded in names:
                    place.error(
                        f"{path}.PolicyName", f"inline policy {quote(name)} stands twice in {quote(entity.arn)}"
                    )
                names.add(folded)
            if "PolicyDocument" not in inline:
                place.error(path, "an inline policy without `PolicyDocument`", _REDUMP)
                continue
            parsed = self._document(place, inline["PolicyDocument"], f"{path}.PolicyDocument", PolicyKind.IDENTITY)
            if parsed is not None:
                policies.append(Policy(f"inline:{entity.arn}/{name}", parsed.document))
                raws.append(inline["PolicyDocument"])
                most += parsed.most
        size = self._size(raws) if most > kind.inline_limit else 0
        if size > kind.inline_limit:
            place.error(
                list_path,
                f"the inline policies of {kind.noun} {quote(entity.arn)} have {size} characters, "
                f"more than the {kind.inline_limit} that a {kind.noun} may have",
                "turn some of them into managed policies; white space does not count",
            )
        return tuple(policies)

    def _size(self, raws: Iterable[object]) -> int:
        """Return how many characters documents that have been parsed have together."""
        return sum(document_size(decode_document(raw, problems=Problems(), file="")) for raw in raws)

    def _attached(self, entity: _Entity, kind: _Kind, dump: _Dump) -> dict[str, Policy]:
        """Find the managed policies attached to *entity*."""
        value = entity.value.get("AttachedManagedPolicies")
        if value is None:
            return {}
        place = entity.place
        list_path = f"{entity.path}.AttachedManagedPolicies"
        items = place.array(value, list_path, "`AttachedManagedPolicies`") or ()
        if len(items) > kind.attached_limit:
            place.error(
                list_path,
                f"{kind.noun} {quote(entity.arn)} has {len(items)} managed policies, more than {kind.attached_limit}",
            )
        attached: dict[str, Policy] = {}
        own = self._managed[dump.id]
        for index, item in enumerate(items):
            # The common case needs nothing but two look-ups: there may be 100,000 of them.
            if type(item) is dict and len(item) == 2:
                arn = item.get("PolicyArn")
                if type(arn) is str and arn not in attached:
                    managed = own.get(arn)
                    if managed is not None and item.get("PolicyName") == managed.name:
                        attached[arn] = managed.policy
                        continue
            self._attach(entity, kind, dump, item, f"{list_path}[{index}]", attached)
        return attached

    def _attach(
        self, entity: _Entity, kind: _Kind, dump: _Dump, item: object, path: str, attached: dict[str, Policy]
    ) -> None:
        """Find one attached policy, and say what is wrong with it."""
        place = entity.place
        reference = place.mapping(item, path, "an attached policy")
        if reference is None:
            return
        self._foreseen_keys(place, reference, path, _ATTACHED_KEYS, "an attached policy")
        arn = self._required(place, reference, path, "PolicyArn", "attached policy")
        if arn is None:
            return
        name = reference.get("PolicyName")
        if name is not None and name != arn.rpartition("/")[2]:
            shown = quote(name) if isinstance(name, str) else describe(name)
            place.error(f"{path}.PolicyName", f"{shown} is not the name of {quote(arn)}")
            return
        if arn in attached:
            place.error(f"{path}.PolicyArn", f"{quote(arn)} is attached twice to {quote(entity.arn)}")
            return
        managed = self._find_managed(arn, dump)
        if managed is None:
            if not self._is_known(arn, dump):
                place.error(
                    f"{path}.PolicyArn",
                    f"policy {quote(arn)} is attached to {kind.noun} {quote(entity.arn)} and stands nowhere",
                    _nowhere_help(arn),
                )
            return
        attached[arn] = managed.policy

    def _find_managed(self, arn: str, dump: _Dump) -> _ManagedPolicy | None:
        """Return a managed policy of the account, or one of AWS's own from any account."""
        found = self._managed[dump.id].get(arn)
        return found if found is not None else self._shared.get(arn)

    def _is_known(self, arn: str, dump: _Dump) -> bool:
        """Whether a policy is there, if broken: its own problems have been reported."""
        return arn in self._managed[dump.id] or arn in self._shared

    def _parse_group(self, entity: _Entity, dump: _Dump) -> _Group:
        self._step()
        return _Group(self._inline(entity, _GROUP), self._attached(entity, _GROUP, dump))

    def _boundary(self, entity: _Entity, kind: _Kind, dump: _Dump) -> Policy | None:
        """Find the permissions boundary of *entity*, if it has one."""
        if entity.value.get("PermissionsBoundary") is None:
            return None
        place = entity.place
        path = f"{entity.path}.PermissionsBoundary"
        boundary = place.mapping(entity.value["PermissionsBoundary"], path, "`PermissionsBoundary`")
        if boundary is None:
            return None
        self._foreseen_keys(place, boundary, path, _BOUNDARY_KEYS, "a permissions boundary")
        form = boundary.get("PermissionsBoundaryType")
        if form is not None and not (isinstance(form, str) and form in _BOUNDARY_TYPES):
            shown = quote(form) if isinstance(form, str) else describe(form)
            place.error(
                f"{path}.PermissionsBoundaryType",
                f"{shown} is not a type of permissions boundary",
                "only a managed policy can be one: `PermissionsBoundaryPolicy`",
            )
        arn = self._required(place, boundary, path, "PermissionsBoundaryArn", "permissions boundary")
        if arn is None:
            return None
        managed = self._find_managed(arn, dump)
        if managed is None:
            if not self._is_known(arn, dump):
                place.error(
                    f"{path}.PermissionsBoundaryArn",
                    f"policy {quote(arn)} is the permissions boundary of {kind.noun} {quote(entity.arn)} "
                    "and stands nowhere",
                    _nowhere_help(arn),
                )
            return None
        return managed.policy

    def _tags(self, entity: _Entity) -> dict[str, str]:
        value = entity.value.get("Tags")
        if not value and (value is None or isinstance(value, list)):
            return {}
        place = entity.place
        list_path = f"{entity.path}.Tags"
        tags: dict[str, str] = {}
        folded: dict[str, str] = {}
        for index, item in enumerate(place.array(value, list_path, "`Tags`") or ()):
            path = f"{list_path}[{index}]"
            tag = item if type(item) is dict else place.mapping(item, path, "a tag")
            if tag is None:
                continue
            if not tag.keys() <= _TAG_KEYS:
                self._foreseen_keys(place, tag, path, _TAG_KEYS, "a tag")
            key = self._required(place, tag, path, "Key", "tag")
            content = tag.get("Value")
            if key is None:
                continue
            if not isinstance(content, str) or isinstance(content, JsonNumber):
                place.error(f"{path}.Value", f"the value of tag {quote(key)} must be text, not {describe(content)}")
                continue
            if len(key) > MAX_TAG_KEY or len(content) > MAX_TAG_VALUE:
                place.error(
                    path,
                    f"tag {quote(key)} is too long",
                    f"a key may have {MAX_TAG_KEY} characters, a value {MAX_TAG_VALUE}",
                )
            other = folded.setdefault(key.lower(), key)
            if key in tags:
                place.error(f"{path}.Key", f"tag {quote(key)} stands twice in {quote(entity.arn)}")
            elif other != key:
                place.error(
                    f"{path}.Key",
                    f"tags {quote(other)} and {quote(key)} of {quote(entity.arn)} differ in case alone",
                    "condition keys are compared without case, so only one of them can be asked for",
                )
            tags[key] = str(content)
        if sum(not key.startswith("aws:") for key in tags) > MAX_TAGS:
            place.error(list_path, f"{quote(entity.arn)} has {len(tags)} tags, more than {MAX_TAGS}")
        return tags

    def _parse_user(self, entity: _Entity, dump: _Dump, groups: Mapping[str, _Group]) -> User:
        self._step()
        place = entity.place
        inline = self._inline(entity, _USER)
        attached = self._attached(entity, _USER, dump)
        policies = [*inline, *attached.values()]
        joined: set[str] = set()
        names = entity.value.get("GroupList")
        list_path = f"{entity.path}.GroupList"
        if names is not None:
            for index, name in enumerate(place.array(names, list_path, "`GroupList`") or ()):
                group = groups.get(name) if type(name) is str else None
                if group is None or name in joined:
                    self._bad_group(entity, name, f"{list_path}[{index}]", joined, groups)
                    continue
                joined.add(str(name))
                policies.extend(group.inline)
                for arn, policy in group.attached.items():
                    if arn not in attached:
                        attached[arn] = policy
                        policies.append(policy)
            if len(joined) > MAX_GROUPS_OF_USER:
                place.error(
                    list_path, f"user {quote(entity.arn)} is in {len(joined)} groups, more than {MAX_GROUPS_OF_USER}"
                )
        return User(
            arn=entity.arn,
            account=dump.id,
            name=entity.name,
            user_id=entity.unique_id,
            policies=tuple(policies),
            boundary=self._boundary(entity, _USER, dump),
            tags=self._tags(entity),
        )

    def _bad_group(
        self, entity: _Entity, name: object, path: str, joined: Collection[str], groups: Mapping[str, _Group]
    ) -> None:
        place = entity.place
        if not isinstance(name, str) or isinstance(name, JsonNumber):
            place.error(path, f"the name of a group must be text, not {describe(name)}")
        elif name in joined:
            place.error(path, f"user {quote(entity.arn)} is in group {quote(name)} twice")
        else:
            place.error(
                path,
                f"user {quote(entity.arn)} is in group {quote(name)}, which stands nowhere",
                f"add the page whose `GroupDetailList` has it, or {_REDUMP}",
            )

    def _parse_role(self, entity: _Entity, dump: _Dump, duration: int | None) -> Role | None:
        self._step()
        place, value = entity.place, entity.value
        place.unread(value.get("RoleLastUsed"), f"{entity.path}.RoleLastUsed")
        trust_path = f"{entity.path}.AssumeRolePolicyDocument"
        trust: PolicyDocument | None = None
        if "AssumeRolePolicyDocument" not in value:
            place.error(entity.path, f"role {quote(entity.arn)} has no `AssumeRolePolicyDocument`", _REDUMP)
        else:
            parsed = self._document(place, value["AssumeRolePolicyDocument"], trust_path, PolicyKind.TRUST)
            trust = parsed.document if parsed is not None else None
        policies = (*self._inline(entity, _ROLE), *self._attached(entity, _ROLE, dump).values())
        boundary = self._boundary(entity, _ROLE, dump)
        tags = self._tags(entity)
        if duration is None and value.get("MaxSessionDuration") is not None:
            duration = place.integer(
                value["MaxSessionDuration"],
                f"{entity.path}.MaxSessionDuration",
                "`MaxSessionDuration`",
                *SESSION_DURATION,
            )
        profiles = self._instance_profiles(entity)
        if trust is None:
            return None
        return Role(
            arn=entity.arn,
            account=dump.id,
            name=entity.name,
            role_id=entity.unique_id,
            trust=Policy(f"inline:{entity.arn}/AssumeRolePolicyDocument", trust),
            policies=policies,
            boundary=boundary,
            tags=tags,
            max_session_duration=duration if duration is not None else SESSION_DURATION[0],
            instance_profiles=profiles,
        )

    def _instance_profiles(self, entity: _Entity) -> tuple[str, ...]:
        value = entity.value.get("InstanceProfileList")
        if not value and (value is None or isinstance(value, list)):
            return ()
        place = entity.place
        list_path = f"{entity.path}.InstanceProfileList"
        profiles: dict[str, None] = {}
        for index, item in enumerate(place.array(value, list_path, "`InstanceProfileList`") or ()):
            path = f"{list_path}[{index}]"
            profile = place.mapping(item, path, "an instance profile")
            if profile is None:
                continue
            self._foreseen_keys(place, profile, path, _PROFILE_KEYS, "an instance profile")
            for key in ("Roles", "Tags"):
                place.unread(profile.get(key), f"{path}.{key}")
            arn = self._required(place, profile, path, "Arn", "instance profile")
            if arn is None:
                continue
            fields = _arn_fields(arn)
            if fields is None or not fields[5].startswith("instance-profile/") or fields[4] != entity.arn.split(":")[4]:
                place.error(f"{path}.Arn", f"{quote(arn)} is not the ARN of an instance profile of this account")
            elif arn in profiles:
                place.error(f"{path}.Arn", f"instance profile {quote(arn)} stands twice")
            else:
                profiles[arn] = None
        return tuple(profiles)

    def _required(self, place: Place, value: JsonObject, path: str, key: str, what: str) -> str | None:
        """Return the text that must stand under *key*."""
        text = value.get(key)
        if type(text) is str and text:
            return text
        if key not in value:
            place.error(path, f"{what} without `{key}`", _REDUMP)
            return None
        return place.text(text, f"{path}.{key}", f"`{key}`")

    def _foreseen_keys(self, place: Place, value: JsonObject, path: str, known: Collection[str], what: str) -> None:
        """Warn of keys that AWS did not print when this was written; nothing depends on them."""
        for key, item in value.items():
            if key not in known:
                place.warning(member(path, key), f"unknown key {quote(key)} in {what} is not used")
                place.unread(item, member(path, key))


def _arn_fields(arn: object) -> list[str] | None:
    """Return the six fields of an ARN of IAM, or None."""
    if not isinstance(arn, str):
        return None
    fields = arn.split(":", 5)
    if len(fields) != 6 or fields[0] != "arn" or fields[2] != "iam" or fields[3] or not _PARTITION.match(fields[1]):
        return None
    return fields if fields[4] == "aws" or is_account_id(fields[4]) else None


def _owner(arn: str) -> str:
    """Say who looks after a managed policy."""
    return "aws" if ":iam::aws:" in arn else "customer"


def _nowhere_help(arn: str) -> str:
    if _owner(arn) == "aws":
        return (
            "AWS prints attached AWS managed policies when the dump is made without a filter; "
            "dump again, or put the policy into the `Policies` of any page"
        )
    return f"add the page whose `Policies` has it, or {_REDUMP}"
