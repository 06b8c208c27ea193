# SPDX-License-Identifier: Apache-2.0
"""
The settings of ``Check``, from texts to values.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from sidecar.compile.check_templates import MAX_TEMPLATE, parse_bodies
from sidecar.model.check import CheckSettings, CheckTemplates, OnError
from sidecar.model.errors import SettingsError

#: More proxies than anybody has in front of each other.
_MAX_HOPS = 32
_ON_ERROR = {member.word: member for member in OnError}
#: Files of the folder, by the fields that they fill.
TEMPLATE_FILES = {
    field.name: "{}.{}".format(*field.name.rsplit("_", 1)) for field in dataclasses.fields(CheckTemplates)
}


def parse_check_settings(
    *, trusted_hops: str, on_error: str, templates: Path | None, step_up_hints: bool
) -> CheckSettings:
    """
    Return the settings, those of the prompt aside.

    Args:
        templates: Folder with the files of ``TEMPLATE_FILES``, none of which need be there; None: all are built in.

    Raises:
        SettingsError: One of them cannot be used.
    """
    if not (trusted_hops.isascii() and trusted_hops.isdigit()) or int(trusted_hops[:9]) > _MAX_HOPS:
        raise SettingsError(f"`trusted_hops`: `{trusted_hops}` is no whole number from 0 to {_MAX_HOPS}")
    if on_error not in _ON_ERROR:
        raise SettingsError(
            f"`check_on_error`: `{on_error}` is unknown", help=f"the choices are {', '.join(_ON_ERROR)}"
        )
    return CheckSettings(
        trusted_hops=int(trusted_hops),
        on_error=_ON_ERROR[on_error],
        step_up_hints=step_up_hints,
        templates=CheckTemplates() if templates is None else read_templates(templates),
    )


def read_templates(folder: Path) -> CheckTemplates:
    """
    Return the templates of a folder.

    Raises:
        SettingsError: The folder or a file cannot be read, or a template is none.
    """
    try:
        names = {entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")}
    except OSError as error:
        raise SettingsError(
            f"the folder of templates `{folder}` cannot be read: {os.strerror(error.errno or 0).lower()}"
        ) from None
    unknown = sorted(names - set(TEMPLATE_FILES.values()))
    if unknown:
        raise SettingsError(
            f"the folder of templates `{folder}` holds `{unknown[0]}`, which is none",
            help=f"the files are {', '.join(TEMPLATE_FILES.values())}",
        )
    templates = CheckTemplates(
        **{field: _read(folder / name) for field, name in TEMPLATE_FILES.items() if name in names}
    )
    parse_bodies(templates)
    return templates


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEMPLATE + 1)
    except OSError as error:
        raise SettingsError(f"the template `{path}` cannot be read: {os.strerror(error.errno or 0).lower()}") from None
    if not data.strip():
        raise SettingsError(f"the template `{path}` is empty", help="remove it for the built-in one")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SettingsError(f"the template `{path}` is not valid UTF-8") from None
