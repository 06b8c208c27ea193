# SPDX-License-Identifier: Apache-2.0
"""
``iam-sidecar``: the command line.

Commands import what they need when they run, so that help and small commands come at once.

Exit status: 0 done (and allowed, where a decision was asked for), 1 an error, 2 wrong usage, 3 denied.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from sidecar import __version__
from sidecar.cli import login, mfa, questions, routes, serving, session_keys, snapshots, sources, users
from sidecar.cli.output import ExitStatus, error_to_json, print_error, print_json, print_line
from sidecar.model.errors import SidecarError

app = typer.Typer(
    name="iam-sidecar",
    help="Decide by AWS IAM policies, next to the services that ask.",
    epilog=(
        "\b\nExamples:\n"
        "  iam-sidecar check examples/acme\n"
        "  iam-sidecar serve --snapshot examples/acme\n"
        "  iam-sidecar explain --snapshot examples/acme --principal ARN --action s3:GetObject --resource ARN\n"
        "\n\b\nExit status: 0 done (and allowed, where a decision was asked for), 1 error, 2 wrong usage, 3 denied."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
serving.add_to(app)
sources.add_to(app)
questions.add_to(app)
snapshots.add_to(app)
routes.add_to(app)
mfa.add_to(app)
login.add_to(app)
users.add_to(app)
session_keys.add_to(app)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print_line(f"iam-sidecar {__version__}")
        raise typer.Exit


@app.callback()
def _everywhere(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version, and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Take what stands before the command."""


@app.command("version")
def show_version(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the version."""
    if as_json:
        print_json({"version": __version__})
    else:
        print_line(f"iam-sidecar {__version__}")


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command line and exit.

    Args:
        arguments: What follows the name of the program; those of the process if None.
    """
    # What libraries in C would print by themselves is neither our log nor one clear line.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        app(args=words, prog_name="iam-sidecar")
    except SidecarError as error:
        print_error(error)
        if "--json" in words:
            print_json(error_to_json(error))
        sys.exit(ExitStatus.ERROR)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Nothing may be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitStatus.ERROR)
