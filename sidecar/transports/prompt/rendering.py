# SPDX-License-Identifier: Apache-2.0
"""
Making pages from templates, and the files that pages are made up with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sidecar.transports.prompt.address import PublicAddress
from sidecar.transports.prompt.replies import Reply
from sidecar.transports.prompt.visits import FORM_FIELD, Visit

_FOLDER = Path(__file__).parent
#: Files by name, with their types.
_KINDS = {"prompt.css": "text/css", "prompt.js": "text/javascript"}


class StaticFile:
    """
    A file that pages name, under an address that changes with what is in it.

    Thread-safety: immutable.

    Attributes:
        path: Where it is served, below the path of the prompt.
        media_type: Its type.
    """

    def __init__(self, name: str, media_type: str) -> None:
        self.content = (_FOLDER / "static" / name).read_bytes()
        self.media_type = media_type
        stem, _, suffix = name.rpartition(".")
        self.path = f"/static/{stem}-{hashlib.sha256(self.content).hexdigest()[:12]}.{suffix}"


class Pages:
    """
    Renders replies.

    Thread-safety: that of Jinja's environment, which is safe once it is made.
    """

    def __init__(self, *, site: str, address: PublicAddress) -> None:
        """
        Args:
            site: Host name that pages call themselves by.
            address: Where people find them.
        """
        self._address = address
        self.files: Mapping[str, StaticFile] = {name: StaticFile(name, kind) for name, kind in _KINDS.items()}
        self._site = site
        # Every value is escaped, and a name that is misspelt in a template fails instead of showing nothing.
        self._environment = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters["day"] = day
        self._environment.filters["at"] = address.at

    def render(self, visit: Visit, reply: Reply) -> str:
        """Return the page of *reply* as HTML."""
        return self._environment.get_template(reply.template).render(
            reply.values,
            site=self._site,
            base=self._address.path,
            css=self._address.at(self.files["prompt.css"].path),
            js=self._address.at(self.files["prompt.js"].path),
            person=visit.person if visit.caller is not None and reply.token != "" else None,
            form_token=visit.form_token,
            form_token_name=FORM_FIELD,
        )


def day(milliseconds: int) -> str:
    """
    Return a time for people to read.

    >>> day(1_800_000_000_000)
    '15 January 2027, 08:00 UTC'
    """
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"
