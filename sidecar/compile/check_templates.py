# SPDX-License-Identifier: Apache-2.0
"""
Bodies of denials, cut into pieces ahead: text, and what is filled in.

In a template of JSON ``{{max_age}}`` is a number or ``null`` and ``{{methods}}`` a list, so that both stand without
quotes; the others are the inside of a string. In a template of HTML everything is text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from sidecar.model.check import CheckTemplates
from sidecar.model.errors import SettingsError

#: Longest template, in bytes.
MAX_TEMPLATE = 32 * 1024
#: Most pieces of one, text between what is filled in included.
MAX_TEMPLATE_PIECES = 128


class Fill(IntEnum):
    """What stands in the place of a piece."""

    TEXT = 0
    #: The ``x-request-id`` of the request; empty where there is none, or one that is none.
    REQUEST_ID = 1
    #: Where a person signs in or proves a factor; empty where there are no such pages.
    PROMPT_URL = 2
    #: What ``BeginChallenge`` takes; empty where nothing can be proved.
    STEP_UP_TICKET = 3
    #: Greatest age of the proof, in seconds.
    MAX_AGE = 4
    #: The factors that would do.
    METHODS = 5
    #: ``access_denied``, ``unauthenticated`` or ``insufficient_user_authentication``.
    ERROR = 6

    @property
    def word(self) -> str:
        """What stands between the braces."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a template: what it is, and its bytes where it is text."""

    fill: Fill
    text: bytes = b""


@dataclass(frozen=True, slots=True)
class Body:
    """
    A template, ready to be filled in.

    Attributes:
        is_html: What is filled in is escaped for HTML; else for JSON.
        is_ours: It is the built-in one.
    """

    pieces: tuple[Piece, ...]
    is_html: bool
    is_ours: bool


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1.5rem;color:#1b1f24}"
    "h1{font-size:1.5rem}a{color:#0b57d0}small{color:#57606a}"
    "@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}a{color:#79b8ff}small{color:#9198a1}}"
)


def _page(title: str, text: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{title}</h1>\n{text}\n<p><small>Request {{{{request_id}}}}</small></p></body></html>\n"
    )


#: What stands where no template is set, in the order of the fields of ``CheckTemplates``.
BUILT_IN = CheckTemplates(
    denied_json='{"error":"{{error}}","request_id":"{{request_id}}"}\n',
    denied_html=_page("Access denied", "<p>You may not do this. If you should, ask whoever runs this service.</p>"),
    step_up_json=(
        '{"error":"{{error}}","request_id":"{{request_id}}","step_up_ticket":"{{step_up_ticket}}",'
        '"prompt_url":"{{prompt_url}}","max_age":{{max_age}},"methods":{{methods}}}\n'
    ),
    step_up_html=_page(
        "Please confirm that it is you",
        "<p>What you sent was not lost: it is still in this tab.</p>\n"
        '<ol><li><a href="{{prompt_url}}" target="_blank" rel="noopener">Confirm in a new tab</a>.</li>\n'
        "<li>Come back to this tab and reload it; your browser asks whether to send the form again.</li></ol>",
    ),
)

_PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")
_WORDS = {fill.word: fill for fill in Fill if fill is not Fill.TEXT}


def parse_body(template: str, *, name: str, is_html: bool, is_ours: bool = False) -> Body:
    """
    Return *template* in pieces.

    Args:
        name: What errors call it.

    Raises:
        SettingsError: It is too long, or something in double braces is not known.

    >>> [piece.fill.word for piece in parse_body('{"id":"{{request_id}}"}', name="x", is_html=False).pieces]
    ['text', 'request_id', 'text']
    """
    if len(template.encode()) > MAX_TEMPLATE:
        raise SettingsError(f"the template `{name}` is longer than {MAX_TEMPLATE} bytes", help="make it shorter")
    pieces: list[Piece] = []
    at = 0
    for match in _PLACEHOLDER.finditer(template):
        word = match[1].strip()
        if word not in _WORDS:
            raise SettingsError(
                f"the template `{name}` asks for `{{{{{word}}}}}`, which does not exist",
                help=f"there are {', '.join('{{' + known + '}}' for known in _WORDS)}",
            )
        pieces.append(Piece(Fill.TEXT, template[at : match.start()].encode()))
        pieces.append(Piece(_WORDS[word]))
        at = match.end()
    pieces.append(Piece(Fill.TEXT, template[at:].encode()))
    pieces = [piece for piece in pieces if piece.text or piece.fill is not Fill.TEXT]
    if len(pieces) > MAX_TEMPLATE_PIECES:
        raise SettingsError(f"the template `{name}` has more than {MAX_TEMPLATE_PIECES} pieces", help="make it simpler")
    return Body(tuple(pieces), is_html, is_ours)


def parse_bodies(templates: CheckTemplates) -> tuple[Body, Body, Body, Body]:
    """
    Return the four bodies, built-in ones where *templates* says nothing.

    Raises:
        SettingsError: A template is none.
    """

    def body(field: str) -> Body:
        text = getattr(templates, field)
        name = field.rpartition("_")
        return parse_body(
            text or getattr(BUILT_IN, field), name=f"{name[0]}.{name[2]}", is_html=name[2] == "html", is_ours=not text
        )

    return body("denied_json"), body("denied_html"), body("step_up_json"), body("step_up_html")
