# SPDX-License-Identifier: Apache-2.0
"""
``iam-sidecar serve``.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import Annotated

import typer

from sidecar.settings import SETTINGS, Setting

_EXAMPLES = (
    "\b\nExamples:\n"
    "  iam-sidecar serve --snapshot examples/acme\n"
    "  iam-sidecar serve --snapshot policies.tar.gz --data unix:/run/iam-sidecar/data.sock?mode=0660 --workers 2\n"
    "  IAM_SIDECAR_SNAPSHOT=policies iam-sidecar serve --http 0.0.0.0:9193\n"
    "\n\b\n"
    "SIGHUP reloads, SIGTERM drains. Every setting has a flag, an environment variable\n"
    "and a key in the file that --config names; the first of them that is stated counts."
)


def add_to(app: typer.Typer) -> None:
    """Add the command, with one flag for each setting of the table."""

    def serve(**flags: str | Sequence[str] | bool | None) -> None:
        """Serve decisions until told to stop."""
        from sidecar.app import serve
        from sidecar.settings import load_settings

        serve(load_settings(flags, os.environ))

    parameters = [_parameter(setting) for setting in SETTINGS]
    # What typer reads the flags from.
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command("serve", epilog=_EXAMPLES)(serve)


def _parameter(setting: Setting) -> inspect.Parameter:
    default = f" [default: {setting.default}]" if setting.default else ""
    option = typer.Option(
        setting.flag, metavar=setting.metavar or None, help=f"{setting.help}{default} [env: {setting.variable}]"
    )
    kind: object = list[str] | None if setting.is_list else bool | None if setting.is_switch else str | None
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
    )
