# SPDX-License-Identifier: Apache-2.0
"""
Templates of ``routes.yaml``: text with values of the request put in.

A value is written as ``{name}``, ``{query.N}``, ``{jwt.a.b}`` and so on; ``{{`` and ``}}`` are braces. What a
value may hold is decided here, by the place where it stands, and enforced when a request is there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sidecar.compile.problems import Finding, error, quote
from sidecar.compile.shape import closest
from sidecar.model.request import MAX_ACTION, MAX_CONTEXT_VALUE, MAX_RESOURCE
from sidecar.model.route import MAX_TEMPLATE_PIECES, PieceSource, Template, TemplatePiece, ValueRule

#: Sources that are written alone, and those that are followed by a name.
_ALONE: Final = {
    "peer": PieceSource.PEER,
    "sni": PieceSource.SNI,
    "method": PieceSource.METHOD,
    "host": PieceSource.HOST,
    "path": PieceSource.PATH,
}
_NAMED: Final = {
    "query": PieceSource.QUERY,
    "header": PieceSource.HEADER,
    "jwt": PieceSource.JWT,
    "extension": PieceSource.EXTENSION,
}
#: Names that a segment of a path cannot have, because a template would mean something else by them.
RESERVED_NAMES: Final = frozenset({*_ALONE, *_NAMED})

SOURCES_OF_ROUTES: Final = frozenset(PieceSource) - {PieceSource.TEXT}

#: Headers that hold credentials: their values would end up in records.
_SECRET_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"})
_FORGED_HEADERS: Final = re.compile(r"x-iam-.*|x-forwarded-client-cert", re.ASCII)

_BRACE: Final = re.compile(r"[{}]")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", re.ASCII)
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)
_CLAIM_PART: Final = re.compile(r'"([^"]{1,256})"|([^".{}\s]{1,256})')
_ACTION: Final = re.compile(r"[a-z0-9-]+:[A-Za-z0-9_.-]+", re.ASCII)
_PARTITION: Final = re.compile(r"aws(?:-[a-z0-9-]+)?", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z0-9._-]*", re.ASCII)
_ACCOUNT: Final = re.compile(r"[0-9]{12}", re.ASCII)
_MAX_NAME: Final = 256

_SOURCES_HELP: Final = (
    "a name of the path, `query.N`, `header.N`, `jwt.claim`, `extension.N`, `peer`, `sni`, `method`, `host` or `path`"
)
_BRACES_HELP: Final = "write `{{` and `}}` for braces"


class Hole(NamedTuple):
    """Where a value is put in: the text between its braces."""

    text: str


@dataclass(frozen=True, slots=True)
class Names:
    """
    What a template may put in.

    Attributes:
        captures: Numbers of named segments.
        sources: Sources that can be used here.
        where: What the template belongs to, for messages.
    """

    captures: Mapping[str, int]
    sources: Collection[PieceSource] = SOURCES_OF_ROUTES
    where: str = "the path"


Result = tuple[Template | None, Finding | None]


def cut(text: str) -> tuple[list[str | Hole], Finding | None]:
    """
    Cut *text* at its braces.

    >>> cut("a{b}c{{d}}")
    (['a', Hole(text='b'), 'c{d}'], None)
    """
    parts: list[str | Hole] = []
    plain = ""
    place = 0
    while place < len(text):
        brace = _BRACE.search(text, place)
        start = brace.start() if brace is not None else len(text)
        plain += text[place:start]
        place = start
        if brace is None:
            break
        character = brace[0]
        if text.startswith(character * 2, place):
            plain += character
            place += 2
        elif character == "}":
            return [], error(f"a `}}` without its `{{` in {quote(text)}", _BRACES_HELP)
        else:
            end = _hole_end(text, place + 1)
            if end < 0:
                return [], error(f"a `{{` without its `}}` in {quote(text)}", _BRACES_HELP)
            if plain:
                parts.append(plain)
                plain = ""
            parts.append(Hole(text[place + 1 : end]))
            place = end + 1
    if plain:
        parts.append(plain)
    return parts, None


def _hole_end(text: str, place: int) -> int:
    """Return where the brace is that closes, past names in quotes; -1: nowhere."""
    is_quoted = False
    for index in range(place, len(text)):
        character = text[index]
        if character == '"':
            is_quoted = not is_quoted
        elif character == "}" and not is_quoted:
            return index
        elif character == "{" and not is_quoted:
            return -1
    return -1


def parse_claim(text: str) -> tuple[str, ...] | None:
    """
    Return the names of a claim from the outermost in, or None.

    >>> parse_claim('realm_access."https://example.com/roles"')
    ('realm_access', 'https://example.com/roles')
    """
    names: list[str] = []
    place = 0
    while True:
        found = _CLAIM_PART.match(text, place)
        if found is None:
            return None
        name = found[1] or found[2]
        if not name.isprintable():
            return None
        names.append(name)
        place = found.end()
        if place == len(text):
            return tuple(names) if len(names) <= 8 else None
        if text[place] != ".":
            return None
        place += 1


def parse_template(text: str, names: Names, *, rule: ValueRule, limit: int) -> Result:
    """
    Return the pieces of *text*, all values under one *rule*.

    Args:
        limit: Most bytes of its text.
    """
    parts, wrong = cut(text)
    if wrong is not None:
        return None, wrong
    return _pieces(text, parts, [rule] * len(parts), names, limit)


def parse_action_template(text: str, names: Names) -> Result:
    """
    Return the pieces of an action.

    >>> parse_action_template("orders:Get", Names({}))[0]
    (TemplatePiece(source=<PieceSource.TEXT: 0>, text='orders:Get', capture=0, rule=<ValueRule.TEXT: 0>),)
    """
    parts, wrong = cut(text)
    if wrong is not None:
        return None, wrong
    shown = "".join(part if isinstance(part, str) else "x" for part in parts)
    if "*" in shown or "?" in shown:
        return None, error(f"the action {quote(text)} holds a wildcard", "a request is for one action")
    if not _ACTION.fullmatch(shown):
        return None, error(f"{quote(text)} is not an action", "`service:Name`, as in `orders:GetOrder`")
    return _pieces(text, parts, [ValueRule.WORD] * len(parts), names, MAX_ACTION)


def parse_account_template(text: str, names: Names) -> Result:
    """Return the pieces of an account."""
    parts, wrong = cut(text)
    if wrong is not None:
        return None, wrong
    if all(isinstance(part, str) for part in parts) and not _ACCOUNT.fullmatch(text):
        return None, error(f"{quote(text)} is not an account", "twelve digits, or a value of the request")
    plain = "".join(part for part in parts if isinstance(part, str))
    if plain and not (plain.isascii() and plain.isdigit()):
        return None, error(f"{quote(text)} cannot be an account", "twelve digits, or a value of the request")
    return _pieces(text, parts, [ValueRule.WORD] * len(parts), names, 12)


def parse_context_template(text: str, names: Names) -> Result:
    """Return the pieces of a context value."""
    return parse_template(text, names, rule=ValueRule.TEXT, limit=MAX_CONTEXT_VALUE)


def parse_resource_template(text: str, names: Names) -> Result:
    """
    Return the pieces of an ARN, or of ``*`` for an action without a resource.

    A value in the first five fields is one word; one behind them is a part of the resource that holds
    neither ``/`` nor ``:``, unless it is the last and nothing follows.
    """
    if text == "*":
        return (TemplatePiece(PieceSource.TEXT, "*"),), None
    parts, wrong = cut(text)
    wrong = wrong or _check_arn(text, parts)
    if wrong is not None:
        return None, wrong
    rules: list[ValueRule] = []
    colons = 0
    for index, part in enumerate(parts):
        if isinstance(part, str):
            colons += part.count(":")
            rules.append(ValueRule.TEXT)
        elif colons < 5:
            rules.append(ValueRule.WORD)
        else:
            rules.append(ValueRule.END if index == len(parts) - 1 else ValueRule.PART)
    return _pieces(text, parts, rules, names, MAX_RESOURCE)


def _check_arn(text: str, parts: list[str | Hole]) -> Finding | None:
    # A hole stands for one word here: it never holds a colon in the first five fields.
    shown = "".join(part.replace("\0", "") if isinstance(part, str) else "\0" for part in parts)
    fields = shown.split(":", 5)
    arn_help = "six fields, as in `arn:aws:orders:eu-west-1:{account}:order/{order}`; `*` for none"
    if len(fields) != 6 or fields[0] != "arn" or not fields[5]:
        return error(f"{quote(text)} is not an ARN", arn_help)
    if "*" in shown or "?" in shown:
        return error(f"{quote(text)} holds a wildcard", "a request is for one resource; name what differs in braces")
    if "\0" not in fields[1] and not _PARTITION.fullmatch(fields[1]):
        return error(f"{quote(fields[1])} is no partition, in {quote(text)}", "the partition is `aws`, or begins so")
    if not fields[2]:
        return error(f"{quote(text)} names no service", arn_help)
    for field in fields[2:4]:
        if not _WORD.fullmatch(field.replace("\0", "")):
            return error(f"{quote(field)} cannot stand in {quote(text)}", "letters, digits, `.`, `_` and `-`")
    account = fields[4]
    if account and "\0" not in account and account != "aws" and not _ACCOUNT.fullmatch(account):
        return error(f"{quote(account)} in {quote(text)} is not an account", "twelve digits, or nothing")
    return None


def _pieces(text: str, parts: list[str | Hole], rules: list[ValueRule], names: Names, limit: int) -> Result:
    if len(parts) > MAX_TEMPLATE_PIECES:
        return None, error(f"{quote(text)} has more than {MAX_TEMPLATE_PIECES} pieces")
    pieces: list[TemplatePiece] = []
    size = 0
    for part, rule in zip(parts, rules, strict=True):
        if isinstance(part, str):
            wrong = check_plain(part)
            if wrong is not None:
                return None, wrong
            size += len(part.encode())
            pieces.append(TemplatePiece(PieceSource.TEXT, part))
            continue
        piece, wrong = _hole(part, rule, names)
        if piece is None:
            return None, wrong
        pieces.append(piece)
    if size > limit:
        return None, error(f"{quote(text)} has more than {limit:,} bytes")
    return tuple(pieces), None


def check_plain(text: str) -> Finding | None:
    """Say whether *text* can be sent: no control characters, no halves of characters."""
    if text.isprintable():
        return None
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in text):
        return error(f"{quote(text)} holds a control character")
    return error(f"{quote(text)} holds a character that cannot be seen", "write text that can be read")


def _hole(hole: Hole, rule: ValueRule, names: Names) -> tuple[TemplatePiece | None, Finding | None]:
    text = hole.text
    source, dot, name = text.partition(".")
    if not dot:
        return _bare_hole(text, rule, names)
    kind = _NAMED.get(source)
    if kind is None:
        guess = closest(source, _NAMED)
        return None, error(
            f"nothing is called `{{{quote(text)[1:-1]}}}`",
            f"did you mean `{guess}.{name[:64]}`" if guess else _SOURCES_HELP,
        )
    if kind not in names.sources:
        return None, _not_here(text, names)
    if kind is PieceSource.HEADER:
        wrong = _check_header(name)
        return (None, wrong) if wrong is not None else (TemplatePiece(kind, name.lower(), rule=rule), None)
    if kind is PieceSource.JWT:
        claim = parse_claim(name)
        if claim is None:
            return None, error(
                f"{quote(name)} is not a claim", 'names with dots between; in quotes where one holds a dot: `jwt."a.b"`'
            )
        return TemplatePiece(kind, "\0".join(claim), rule=rule), None
    if not name or len(name.encode()) > _MAX_NAME or not name.isprintable():
        return None, error(f"{quote(text)} names nothing", f"up to {_MAX_NAME} bytes follow the dot")
    return TemplatePiece(kind, name, rule=rule), None


def _bare_hole(text: str, rule: ValueRule, names: Names) -> tuple[TemplatePiece | None, Finding | None]:
    kind = _ALONE.get(text)
    if kind is not None:
        return (TemplatePiece(kind, rule=rule), None) if kind in names.sources else (None, _not_here(text, names))
    if text in _NAMED:
        return None, error(f"`{{{text}}}` needs a name", f"as in `{{{text}.name}}`")
    number = names.captures.get(text)
    if number is not None:
        return TemplatePiece(PieceSource.CAPTURE, text, number, rule), None
    known = [*names.captures, *_ALONE]
    guess = closest(text, known) if text else ""
    return None, error(
        f"{names.where} has no `{{{quote(text)[1:-1]}}}`", f"did you mean `{{{guess}}}`" if guess else _SOURCES_HELP
    )


def _not_here(text: str, names: Names) -> Finding:
    return error(
        f"`{{{quote(text)[1:-1]}}}` cannot be used in {names.where}",
        "what a client says of itself is never believed; only what was verified can name a caller",
    )


def _check_header(name: str) -> Finding | None:
    if not _HEADER.fullmatch(name):
        return error(f"{quote(name)} is not the name of a header", "as in `{header.x-tenant}`")
    lowered = name.lower().replace("_", "-")
    if lowered in _SECRET_HEADERS:
        return error(f"the header {quote(name)} holds a credential", "it would end up in records; use another source")
    if _FORGED_HEADERS.fullmatch(lowered):
        return error(f"the header {quote(name)} is never believed", "it is one of those that the sidecar itself sets")
    return None


def is_capture_name(text: str) -> bool:
    """
    Say whether a segment can be called *text*.

    >>> is_capture_name("order"), is_capture_name("peer"), is_capture_name("a.b")
    (True, False, False)
    """
    return _NAME.fullmatch(text) is not None and text not in RESERVED_NAMES


def written_template(template: Template) -> str:
    """
    Return *template* as it is written in a file.

    >>> written_template(parse_resource_template('arn:aws:x:::{{}}/{jwt."a.b".c}', Names({}))[0])
    'arn:aws:x:::{{}}/{jwt."a.b".c}'
    """
    return "".join(_written(piece) for piece in template)


def _written(piece: TemplatePiece) -> str:
    if piece.source is PieceSource.TEXT:
        return piece.text.replace("{", "{{").replace("}", "}}")
    if piece.source is PieceSource.CAPTURE:
        return f"{{{piece.text}}}"
    source = piece.source.name.lower()
    if source in _ALONE:
        return f"{{{source}}}"
    return (
        f"{{{source}.{written_claim(piece.text.split(chr(0)))}}}" if source == "jwt" else f"{{{source}.{piece.text}}}"
    )


def written_claim(names: Sequence[str]) -> str:
    """
    Return the names of a claim as they are written in a file.

    >>> written_claim(["realm_access", "a.b"])
    'realm_access."a.b"'
    """
    return ".".join(name if _CLAIM_PART.fullmatch(name) else f'"{name}"' for name in names)
