# SPDX-License-Identifier: Apache-2.0
"""
Whom a rule of callers stands for: a session of a role, or a user.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sidecar.compile.problems import error, quote
from sidecar.compile.route_templates import Names, parse_template
from sidecar.compile.shape import JsonObject, Place, closest
from sidecar.model.route import PieceSource, Template, TemplatePiece, ValueRule
from sidecar.model.snapshot import Account

_ROLE: Final = re.compile(r"arn:(aws[a-z0-9-]*):iam::([0-9]{12}):role/(?:[!-~]*/)?([\w+=,.@-]+)", re.ASCII)
_USER: Final = re.compile(r"arn:(aws[a-z0-9-]*):iam::([0-9]{12}):user/([!-~]*)", re.ASCII)
_SESSION_NAME: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_NAME_TEXT: Final = re.compile(r"[\w+=,.@-]{0,64}", re.ASCII)
_MAX_GUESSES: Final = 5


@dataclass(frozen=True, slots=True)
class KnownPrincipals:
    """Principals of a snapshot that callers can stand for."""

    users: frozenset[str]
    roles: frozenset[str]
    accounts: frozenset[str]

    @classmethod
    def of(cls, accounts: tuple[Account, ...]) -> KnownPrincipals:
        """Return those of *accounts*."""
        return cls(
            frozenset(user.arn for account in accounts for user in account.users),
            frozenset(role.arn for account in accounts for role in account.roles),
            frozenset(account.id for account in accounts),
        )


class Principals:
    """
    Reads principals. Thread-safety: confined to one thread.
    """

    def __init__(self, place: Place, known: KnownPrincipals) -> None:
        self._place = place
        self._known = known
        self._guesses = 0

    def template(self, value: JsonObject, path: str, names: Names) -> Template | None:
        """
        Return the template of the principal that *value* states, of one piece or more; None: it was refused.

        Args:
            names: What can be put into it.
        """
        if "user" in value and ("role" in value or "session_name" in value):
            self._place.error(path, "both `user` and `role`", "keep one of them")
            return None
        if "user" in value:
            text = self._place.text(value["user"], f"{path}.user", "`user`")
            return None if text is None else self._user(text, f"{path}.user", names)
        if "role" not in value:
            self._place.error(path, "nothing says for whom this stands", "add `role` and `session_name`, or `user`")
            return None
        role = self._place.text(value["role"], f"{path}.role", "`role`")
        session: str | None = None
        if "session_name" in value:
            session = self._place.text(value["session_name"], f"{path}.session_name", "`session_name`")
        else:
            self._place.error(
                path, "a role without `session_name`", "the name of the session, as in `{jwt.sub}` or `batch`"
            )
        head = self._role(role, f"{path}.role") if role is not None else None
        tail = self._session_name(session, f"{path}.session_name", names) if session is not None else None
        return None if head is None or tail is None else (TemplatePiece(PieceSource.TEXT, head), *tail)

    def _role(self, text: str, path: str) -> str | None:
        found = _ROLE.fullmatch(text)
        if found is None or "{" in text:
            self._place.error(
                path, f"{quote(text)} is not the ARN of a role", "in full, as in `arn:aws:iam::111122223333:role/Web`"
            )
            return None
        if text not in self._known.roles:
            guess = self._closest(text, self._known.roles)
            self._place.error(
                path,
                f"the snapshot has no role {quote(text)}",
                f"did you mean `{guess}`" if guess else "the ARN of a role holds its path",
            )
            return None
        return f"arn:{found[1]}:sts::{found[2]}:assumed-role/{found[3]}/"

    def _closest(self, text: str, known: frozenset[str]) -> str:
        """Return what *text* may be meant to be; among many principals, only the first few times."""
        self._guesses += 1
        return closest(text, sorted(known)) if self._guesses <= _MAX_GUESSES else ""

    def _session_name(self, text: str, path: str, names: Names) -> Template | None:
        template, wrong = parse_template(text, names, rule=ValueRule.NAME, limit=64)
        if template is not None:
            is_fixed = all(piece.source is PieceSource.TEXT for piece in template)
            shape = _SESSION_NAME if is_fixed else _NAME_TEXT
            if not shape.fullmatch("".join(piece.text for piece in template if piece.source is PieceSource.TEXT)):
                wrong = error(f"{quote(text)} cannot name a session", "2 to 64 letters, digits and `_+=,.@-`")
        if wrong is not None:
            self._place.problems.add(self._place.file, path, wrong)
            return None
        return template

    def _user(self, text: str, path: str, names: Names) -> Template | None:
        head, hole, _ = text.partition("{")
        found = _USER.fullmatch(head)
        if found is None:
            self._place.error(
                path, f"{quote(text)} is not the ARN of a user", "as in `arn:aws:iam::111122223333:user/{jwt.sub}`"
            )
            return None
        template, wrong = parse_template(text, names, rule=ValueRule.NAME, limit=2048)
        if wrong is not None:
            self._place.problems.add(self._place.file, path, wrong)
            return None
        if hole and found[2] not in self._known.accounts:
            self._place.error(path, f"the snapshot has no account {found[2]}")
            return None
        if not hole and text not in self._known.users:
            guess = self._closest(text, self._known.users)
            self._place.error(
                path,
                f"the snapshot has no user {quote(text)}",
                f"did you mean `{guess}`" if guess else "the ARN of a user holds its path",
            )
            return None
        return template
