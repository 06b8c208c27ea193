# SPDX-License-Identifier: Apache-2.0
"""
From the files of a source to one snapshot, with every problem that they have.

Files are given in memory; reading a disk is done elsewhere.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sidecar.compile.accounts import Accounts
from sidecar.compile.documents import DocumentError, read_json, read_yaml
from sidecar.compile.organization import parse_organization
from sidecar.compile.problems import MAX_PROBLEMS, Problems, member, quote
from sidecar.compile.resource_policies import parse_resource_policies
from sidecar.compile.routes import parse_routes
from sidecar.compile.settings_file import Settings, parse_settings
from sidecar.compile.shadow import cast_shadow, parse_shadow
from sidecar.compile.shape import Place, closest
from sidecar.model.errors import Problem, Severity
from sidecar.model.route import RouteTable
from sidecar.model.snapshot import Account, Organization, ResourcePolicy, Snapshot

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_FILES = 10_000

ACCOUNTS_FOLDER = "accounts"
ORGANIZATION = "organization"
RESOURCE_POLICIES = "resource-policies"
ACCOUNT_SETTINGS = "account-settings"
ROUTES = "routes"
SHADOW = "shadow"

_EXTENSIONS = frozenset({"json", "yaml", "yml"})
_KNOWN = frozenset({ORGANIZATION, RESOURCE_POLICIES, ACCOUNT_SETTINGS, ROUTES, SHADOW})

#: Between two documents in one text: in a single one, a ``}`` is never followed by a ``{`` on another line.
_BETWEEN_DOCUMENTS = re.compile(r"(?<=\})[ \t\r]*\n\s*(?=\{)")


@dataclass(frozen=True, slots=True)
class SourceReport:
    """
    What came out of a source.

    Attributes:
        snapshot: None when any of the problems is an error.
        problems: Everything that was found, in the order of the files.
    """

    snapshot: Snapshot | None
    problems: tuple[Problem, ...]


def is_source_file(name: str) -> bool:
    """
    Say whether a source reads the content of the file *name*.

    >>> is_source_file("accounts/main.json"), is_source_file("organization.yaml"), is_source_file("README.md")
    (True, True, False)
    """
    folder, _, base = name.rpartition("/")
    stem, _, extension = base.rpartition(".")
    if extension not in _EXTENSIONS or base.startswith("."):
        return False
    return folder == ACCOUNTS_FOLDER or (not folder and stem in _KNOWN)


def parse_source(
    files: Mapping[str, bytes],
    *,
    now: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> SourceReport:
    """
    Turn the files of a source into a snapshot.

    Args:
        files: Content by name, such as ``accounts/main.json``, with ``/`` between folder and file.
        now: Seconds since the epoch, by which entries of ``shadow.yaml`` stand in shadow or are in force; without it
            a source that has that file is refused.
        progress: Called now and then with the steps done, their total, and what is being done.

    >>> report = parse_source({"accounts/123456789012.json": b'{"UserDetailList": []}'})
    >>> report.snapshot.accounts[0].id, report.problems
    ('123456789012', ())
    """
    problems = Problems()
    snapshot = _Source(problems, now, progress or _no_progress).read(files)
    found = tuple(problems.items)
    if problems.dropped:
        severity = Severity.ERROR if problems.has_errors else Severity.WARNING
        found += (Problem(severity, "", "$", f"{problems.dropped} more problems", f"only {MAX_PROBLEMS} are listed"),)
    return SourceReport(None if problems.has_errors else snapshot, found)


def _no_progress(done: int, total: int, what: str) -> None:
    """Tell nobody."""


class _Source:
    """Reads one source. Thread-safety: confined to one thread."""

    def __init__(self, problems: Problems, now: int | None, progress: Callable[[int, int, str], None]) -> None:
        self._problems = problems
        self._now = now
        self._progress = progress
        self._accounts = Accounts(problems, progress)
        self._done = 0
        self._total = 0

    def read(self, files: Mapping[str, bytes]) -> Snapshot | None:
        """Read all files and return what they come to; None when they are too many."""
        if len(files) > MAX_FILES:
            self._problems.error("", "$", f"{len(files)} files, more than {MAX_FILES}")
            return None
        account_files, singles = self._sort(files)
        self._total = len(account_files) + len(singles)
        if not account_files:
            self._problems.error(
                f"{ACCOUNTS_FOLDER}/",
                "$",
                "no account dump in the source",
                "put the output of `aws iam get-account-authorization-details` into `accounts/NAME.json`",
            )
        settings, settings_place = self._settings(files, singles)
        for name in account_files:
            self._read_accounts(name, files[name])
        accounts = self._accounts.finish({key: entry.durations for key, entry in settings.accounts.items()})
        accounts = self._with_settings(accounts, settings, settings_place)
        organization = self._organization(files, singles)
        resource_policies = self._resource_policies(files, singles)
        snapshot = Snapshot(
            accounts=accounts,
            organization=organization,
            resource_policies=resource_policies,
            root_is_allowed=settings.root_is_allowed,
            routes=self._routes(files, singles, accounts, resource_policies),
        )
        return self._with_shadow(files, singles, snapshot)

    def _sort(self, files: Mapping[str, bytes]) -> tuple[list[str], dict[str, str]]:
        """Tell account files and the files of which there is one from all others."""
        account_files: list[str] = []
        singles: dict[str, str] = {}
        stems: dict[str, str] = {}
        for name in sorted(files):
            folder, _, base = name.rpartition("/")
            if base.startswith(".") or base.lower().endswith(".md") or base in ("LICENSE", "NOTICE"):
                continue
            stem, _, extension = base.rpartition(".")
            place = Place(self._problems, name)
            if not is_source_file(name):
                self._not_used(place, folder, stem or base, extension)
            elif len(files[name]) > MAX_FILE_BYTES:
                place.error("$", f"the file has more than {MAX_FILE_BYTES} bytes", "split it into several pages")
            elif folder and stems.setdefault(stem, name) != name:
                place.error("$", f"{stems[stem]} is there too", "keep one of the two")
            elif folder:
                account_files.append(name)
            elif singles.setdefault(stem, name) != name:
                place.error("$", f"{singles[stem]} is there too", "keep one of the two")
        return account_files, singles

    def _not_used(self, place: Place, folder: str, stem: str, extension: str) -> None:
        """Warn of a file that is not used, and refuse one that seems to be meant as one that is."""
        known = [f"{name}.{extension}" for name in sorted(_KNOWN)]
        if not folder and extension in _EXTENSIONS:
            guess = closest(f"{stem}.{extension}", known)
            if guess:
                place.error("$", f"no part of a source is called {quote(place.file)}", f"did you mean `{guess}`")
                return
            place.warning(
                "$",
                f"{quote(place.file)} is not used",
                f"an account dump belongs into `{ACCOUNTS_FOLDER}/`; the other files are " + ", ".join(known),
            )
        else:
            place.warning("$", f"{quote(place.file)} is not used")

    def _load(self, name: str, data: bytes) -> tuple[bool, object]:
        """Read one document; the first part of the answer says whether that went well."""
        self._progress(self._done, self._total, f"reading {name}")
        self._done += 1
        try:
            return True, read_json(data) if name.endswith(".json") else read_yaml(data)
        except DocumentError as fault:
            Place(self._problems, name).error("$", fault.message, fault.help)
            return False, None

    def _read_accounts(self, name: str, data: bytes) -> None:
        """Read an account file: a page, a list of pages, or several documents one after the other."""
        self._progress(self._done, self._total, f"reading {name}")
        self._done += 1
        try:
            self._accounts.add_file(name, read_json(data) if name.endswith(".json") else read_yaml(data))
            return
        except DocumentError as fault:
            parts = _split_documents(data) if name.endswith(".json") else []
            if len(parts) < 2:
                Place(self._problems, name).error("$", fault.message, fault.help)
                return
        pages: list[object] = []
        for index, part in enumerate(parts):
            try:
                page = read_json(part)
            except DocumentError as fault:
                Place(self._problems, name).error(
                    f"$[{index}]", f"in document {index + 1} of {len(parts)}: {fault.message}", fault.help
                )
                continue
            pages.extend(page if isinstance(page, list) else [page])
        self._accounts.add_file(name, pages)

    def _settings(self, files: Mapping[str, bytes], singles: Mapping[str, str]) -> tuple[Settings, Place]:
        name = singles.get(ACCOUNT_SETTINGS, "")
        place = Place(self._problems, name)
        if not name:
            return Settings(), place
        read, document = self._load(name, files[name])
        return parse_settings(place, document) if read else Settings(), place

    def _with_settings(self, accounts: tuple[Account, ...], settings: Settings, place: Place) -> tuple[Account, ...]:
        """Add to each account what the settings say of it, and report settings of what is not there."""
        for account_id, entry in settings.accounts.items():
            if account_id not in self._accounts.ids:
                place.error(
                    entry.path,
                    f"settings of account {account_id}, of which there is no dump",
                    f"add its dump to `{ACCOUNTS_FOLDER}/`, or take the settings out",
                )
                continue
            for role in entry.roles:
                if not self._accounts.has_role(account_id, role):
                    place.error(member(f"{entry.path}.roles", role), f"account {account_id} has no role {quote(role)}")
        result: list[Account] = []
        for account in accounts:
            entry_of_it = settings.accounts.get(account.id)
            if entry_of_it is not None:
                account = dataclasses.replace(
                    account, alias=entry_of_it.alias, password_policy=entry_of_it.password_policy
                )
            result.append(account)
        return tuple(result)

    def _organization(self, files: Mapping[str, bytes], singles: Mapping[str, str]) -> Organization | None:
        name = singles.get(ORGANIZATION)
        if name is None:
            return None
        read, document = self._load(name, files[name])
        return parse_organization(Place(self._problems, name), document) if read else None

    def _resource_policies(self, files: Mapping[str, bytes], singles: Mapping[str, str]) -> tuple[ResourcePolicy, ...]:
        name = singles.get(RESOURCE_POLICIES)
        if name is None:
            return ()
        read, document = self._load(name, files[name])
        if not read:
            return ()
        return parse_resource_policies(Place(self._problems, name), document, accounts=self._accounts.ids)

    def _routes(
        self,
        files: Mapping[str, bytes],
        singles: Mapping[str, str],
        accounts: tuple[Account, ...],
        resource_policies: tuple[ResourcePolicy, ...],
    ) -> RouteTable | None:
        name = singles.get(ROUTES)
        if name is None:
            return None
        read, document = self._load(name, files[name])
        if not read:
            return None
        place = Place(self._problems, name)
        return parse_routes(place, document, accounts=accounts, resource_policies=resource_policies)

    def _with_shadow(self, files: Mapping[str, bytes], singles: Mapping[str, str], snapshot: Snapshot) -> Snapshot:
        """Tell what is in force of *snapshot* from what is only tried."""
        name = singles.get(SHADOW)
        if name is None:
            return snapshot
        place = Place(self._problems, name)
        read, document = self._load(name, files[name])
        if not read:
            return snapshot
        if self._now is None:
            place.error("$", "nothing says what time it is", "the time decides what stands in shadow")
            return snapshot
        return cast_shadow(
            place,
            parse_shadow(place, document, now=self._now),
            snapshot,
            managed=self._accounts.managed_policies,
        )


def _split_documents(data: bytes) -> list[str]:
    """Cut a text at the places where one JSON object ends and the next begins."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return []
    return [part for part in _BETWEEN_DOCUMENTS.split(text) if part.strip()]
