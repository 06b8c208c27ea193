# SPDX-License-Identifier: Apache-2.0
"""
Text with wildcards and variables, matched by a table: one row a pattern token, one column a character.

``docs/semantics.md``, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sidecar.model.policy import ActionPattern, ArnPattern, Pattern, Piece, Variable, Wildcard
from sidecar.model.request import ContextValue

#: One character that stands for itself, or a wildcard.
Token = str | Wildcard

Context = Mapping[str, ContextValue]


def lower(text: str) -> str:
    """Lower the case of ASCII and Latin-1 letters alone: a policy can hold no others."""
    return "".join(c.lower() if c <= "\xde" else c for c in text)


def matches(tokens: Sequence[Token], text: str) -> bool:
    """Say whether *tokens* match the whole of *text*."""
    # reached[i]: the tokens so far match the first i characters of the text.
    reached = [True] + [False] * len(text)
    for token in tokens:
        following = [False] * (len(text) + 1)
        for i in range(len(text) + 1):
            if token is Wildcard.ANY_RUN:
                following[i] = reached[i] or (i > 0 and following[i - 1])
            elif i > 0:
                following[i] = reached[i - 1] and (token is Wildcard.ANY_CHAR or token == text[i - 1])
        if True not in following:
            return False
        reached = following
    return reached[len(text)]


def glob_tokens(text: str) -> list[Token]:
    """Cut plain text in which every ``*`` and ``?`` is a wildcard."""
    wildcards = {"*": Wildcard.ANY_RUN, "?": Wildcard.ANY_CHAR}
    return [wildcards.get(character, character) for character in text]


def action_matches(pattern: ActionPattern, action: str) -> bool:
    """Say whether an entry of ``Action`` matches *action* (in lower case)."""
    service, _, name = action.partition(":")
    return matches(glob_tokens(lower(pattern.service)), service) and matches(glob_tokens(lower(pattern.name)), name)


def resolve(variable: Variable, context: Context) -> str | None:
    """
    Return the text that takes the place of *variable*; None if there is none.

    A list cannot be substituted, and as it has a value its default does not count either.
    """
    value = context.get(variable.key)
    if value is None or value.is_null:
        return variable.default
    if value.is_list:
        return None
    return value.values[0]


def substitute(pieces: Iterable[Piece], context: Context) -> list[Token] | None:
    """Replace the variables of a pattern by plain characters; None if one has no value."""
    tokens: list[Token] = []
    for piece in pieces:
        if isinstance(piece, Wildcard):
            tokens.append(piece)
        elif isinstance(piece, Variable):
            text = resolve(piece, context)
            if text is None:
                return None
            tokens.extend(text)
        else:
            tokens.extend(piece)
    return tokens


def pattern_matches(pattern: Pattern, text: str, context: Context) -> bool:
    """Say whether *pattern*, its variables replaced, matches *text*; without a value it matches nothing."""
    tokens = substitute(pattern.pieces, context)
    return tokens is not None and matches(tokens, text)


def split_arn(tokens: Iterable[Token]) -> list[list[Token]]:
    """Cut the tokens of an ARN pattern at the first five colons."""
    fields: list[list[Token]] = [[]]
    for token in tokens:
        if token == ":" and len(fields) < 6:
            fields.append([])
        else:
            fields[-1].append(token)
    return fields


def resource_matches(pattern: ArnPattern, resource: Sequence[str], context: Context) -> bool:
    """Say whether an entry of ``Resource`` matches; *resource* is empty for the resource ``*``."""
    if pattern.is_any:
        return True
    if not resource:
        return False
    return all(pattern_matches(field, text, context) for field, text in zip(pattern.fields, resource, strict=True))


def variables_of(pieces: Iterable[Piece]) -> list[str]:
    """Return the context keys that the variables of a pattern ask for."""
    return [piece.key for piece in pieces if isinstance(piece, Variable)]
