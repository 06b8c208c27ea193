# SPDX-License-Identifier: Apache-2.0
"""
One case for each test that the FIDO server conformance list describes, and some of our own, with the reason of each.

The list is known by the descriptions in ``passwordless-lib/fido2-net-lib`` (``conformance/tests.json``, MIT); nothing
of it is copied but the numbers of the tests. Who is content with any refusal is content with a crash, so the reason is
pinned here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tests.unit.mfa.forge import AssertionForge, Json, RegistrationForge

Forge = TypeVar("Forge", RegistrationForge, AssertionForge)
MISSING = object()


@dataclass(frozen=True)
class Case(Generic[Forge]):
    """
    One test.

    Attributes:
        test: Suite and number in the list, or a name of our own.
        about: What is wrong, in a few words.
        want: Reason that must be given; empty where it must be accepted.
        changes: Members of the forge.
    """

    test: str
    about: str
    want: str
    changes: Callable[[], Json]

    def forge(self, kind: type[Forge]) -> Forge:
        """Give the forge with the changes made."""
        return kind(**self.changes())


def set_member(*path: str, value: Any = MISSING) -> Callable[[Json], None]:
    """Give an edit that sets the member at *path*, or removes it."""

    def edit(found: Json) -> None:
        for name in path[:-1]:
            found = found[name]
        if value is MISSING:
            found.pop(path[-1])
        else:
            found[path[-1]] = value

    return edit


def client(kind: str, **changes: Any) -> Json:
    """Give client data with members set, or removed where they are ``MISSING``."""
    from tests.unit.mfa.forge import client_data

    found = {**client_data(kind), **changes}
    return {name: value for name, value in found.items() if value is not MISSING}


def structure(suite: str, members: tuple[str, ...], want_first: int = 1) -> list[Case[Any]]:
    """Give the cases about ``id``, ``type`` and ``response`` that both suites of structure begin with."""
    edits = [
        ("id is missing", "response_malformed", set_member("id")),
        ("id is no string", "response_malformed", set_member("id", value=7)),
        ("id is not base64url", "encoding_invalid", set_member("id", value="a+b/==")),
        ("type is missing", "response_malformed", set_member("type")),
        ("type is no string", "response_malformed", set_member("type", value=7)),
        ("type is another", "credential_type_mismatch", set_member("type", value="private-key")),
        ("response is missing", "response_malformed", set_member("response")),
        ("response is no object", "response_malformed", set_member("response", value="x")),
        ("clientDataJSON is missing", "response_malformed", set_member("response", "clientDataJSON")),
        ("clientDataJSON is no string", "response_malformed", set_member("response", "clientDataJSON", value=[1])),
        ("clientDataJSON is empty", "response_malformed", set_member("response", "clientDataJSON", value="")),
    ]
    for name in members:
        edits.append((f"{name} is missing", "response_malformed", set_member("response", name)))
        edits.append((f"{name} is no string", "response_malformed", set_member("response", name, value={})))
        if name != "attestationObject":
            edits.append((f"{name} is not base64url", "encoding_invalid", set_member("response", name, value="a b")))
        edits.append((f"{name} is empty", "response_malformed", set_member("response", name, value="")))
    return [
        Case(f"{suite} F-{number}", about, want, lambda edit=edit: {"edit": edit})  # type: ignore[misc]
        for number, (about, want, edit) in enumerate(edits, start=want_first)
    ]


def client_suite(suite: str, kind: str, other: str) -> list[Case[Any]]:
    """Give the cases about client data, which both suites have alike."""
    rows: list[tuple[str, str, Json]] = [
        ("type is missing", "client_data_malformed", {"type": MISSING}),
        ("type is no string", "client_data_malformed", {"type": 1}),
        ("type is empty", "client_data_malformed", {"type": ""}),
        ("type is another", "ceremony_type_mismatch", {"type": "webauthn.other"}),
        ("type is of the other ceremony", "ceremony_type_mismatch", {"type": other}),
        ("challenge is missing", "client_data_malformed", {"challenge": MISSING}),
        ("challenge is no string", "client_data_malformed", {"challenge": 1}),
        ("challenge is empty", "client_data_malformed", {"challenge": ""}),
        ("challenge is not base64url", "client_data_malformed", {"challenge": "a+b/=="}),
        ("challenge is another", "challenge_mismatch", {"challenge": "AAAA"}),
        ("origin is missing", "client_data_malformed", {"origin": MISSING}),
        ("origin is no string", "client_data_malformed", {"origin": 1}),
        ("origin is empty", "client_data_malformed", {"origin": ""}),
        ("origin is another", "origin_mismatch", {"origin": "https://evil.example"}),
        ("tokenBinding is no object", "token_binding_invalid", {"tokenBinding": "present"}),
        ("tokenBinding has no status", "token_binding_invalid", {"tokenBinding": {"id": "AA"}}),
        ("tokenBinding has another status", "token_binding_invalid", {"tokenBinding": {"status": "maybe"}}),
    ]
    return [
        Case(f"{suite} F-{number}", about, want, lambda changes=changes: {"client": client(kind, **changes)})  # type: ignore[misc]
        for number, (about, want, changes) in enumerate(rows, start=1)
    ]
