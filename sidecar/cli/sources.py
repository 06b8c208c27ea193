# SPDX-License-Identifier: Apache-2.0
"""
``iam-sidecar check`` and ``compile``: sources, without a server.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sidecar.cli.output import (
    ExitStatus,
    count_of,
    print_json,
    print_line,
    print_problems,
    print_shadow,
    problems_to_json,
    progress_shown,
    shadow_to_json,
)
from sidecar.compile.shadow import moment_text
from sidecar.model.errors import PolicySyntaxError, Problem, Severity, SourceUnavailableError
from sidecar.model.shadow import ShadowEntry

Source = Annotated[
    Path,
    typer.Argument(metavar="SOURCE", help="Directory of policy documents, or an archive of one.", show_default=False),
]
ShowProgress = Annotated[
    bool | None,
    typer.Option("--progress/--no-progress", help="Show progress; by default on a terminal.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Strict = Annotated[bool, typer.Option("--strict", help="Let warnings fail it, too.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "check",
        epilog="\b\nExamples:\n  iam-sidecar check examples/acme\n  iam-sidecar check --strict --json policies.tar.gz",
    )(check)
    app.command(
        "compile",
        epilog="\b\nExamples:\n"
        "  iam-sidecar compile examples/acme -o acme.image\n"
        "  iam-sidecar serve --snapshot acme.image",
    )(compile_image)


def check(source: Source, *, strict: Strict = False, progress: ShowProgress = None, as_json: AsJson = False) -> None:
    """Find everything that is wrong with a source, or see whether an image is sound."""
    from sidecar.services.snapshots import is_image_file

    image: bytes | None
    problems: tuple[Problem, ...]
    image, problems = (_read(source), ()) if is_image_file(source) else _compile(source, progress)
    errors, warnings = _count(problems)
    is_good = errors == 0 and not (strict and warnings)
    facts: dict[str, object] = {}
    if image is not None:
        from sidecar.core import Image

        loaded = Image.from_bytes(image)
        statistics = loaded.statistics
        facts = {
            "revision": loaded.revision,
            "principals": statistics["principals"],
            "policies": statistics["policies"],
            "statements": statistics["statements"],
            "image_bytes": statistics["image_bytes"],
            "shadow": shadow_to_json(loaded.shadow_entries),
        }
    if as_json:
        print_json(
            {
                "ok": is_good,
                "errors": errors,
                "warnings": warnings,
                "problems": problems_to_json(problems),
                "snapshot": facts or None,
            }
        )
    else:
        print_problems(problems, file=sys.stdout)
        found = f"{count_of(errors, 'error')}, {count_of(warnings, 'warning')}"
        if image is not None:
            sizes = (
                count_of(statistics["principals"], "principal"),
                count_of(statistics["policies"], "policy"),
                count_of(statistics["statements"], "statement"),
            )
            found += ": " + ", ".join(sizes)
            print_shadow(loaded.shadow_entries)
        print_line(f"{source}: {found}")
    if not is_good:
        raise typer.Exit(ExitStatus.ERROR)


def compile_image(
    source: Source,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the image goes.", show_default=False)
    ],
    strict: Strict = False,
    progress: ShowProgress = None,
    as_json: AsJson = False,
) -> None:
    """Compile a source to an image, which `serve` loads at once."""
    from sidecar.core import Image

    image, problems = _compile(source, progress)
    errors, warnings = _count(problems)
    if image is None or (strict and warnings):
        found = f"{count_of(errors, 'error')}, {count_of(warnings, 'warning')}"
        raise PolicySyntaxError(f"the source `{source}` is not compiled: {found}", problems=problems)
    loaded = Image.from_bytes(image)
    problems += _uneven(loaded.shadow_entries)
    if strict and len(problems) > warnings:
        raise PolicySyntaxError(f"the source `{source}` is not compiled: 1 warning", problems=problems)
    warnings = len(problems)
    _write_whole(output, image)
    if as_json:
        print_json(
            {
                "revision": loaded.revision,
                "image_bytes": len(image),
                "output": str(output),
                "shadow": shadow_to_json(loaded.shadow_entries),
                "warnings": warnings,
                "problems": problems_to_json(problems),
            }
        )
        return
    print_problems(problems, file=sys.stderr)
    print_shadow(loaded.shadow_entries)
    print_line(f"{output}: {len(image):,} bytes, revision {loaded.revision}")


def _uneven(entries: Sequence[ShadowEntry]) -> tuple[Problem, ...]:
    """Warn of an image whose entries end one after the other: nobody compiles what is between."""
    if not entries or entries[0].until == entries[-1].until:
        return ()
    first, last = moment_text(entries[0].until), moment_text(entries[-1].until)
    return (
        Problem(
            Severity.WARNING,
            "shadow.yaml",
            "$",
            f"entries end from {first} to {last}: meanwhile an image allows only what is allowed with and without all",
            f"compile again at {first}, or give all of them one date",
        ),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceUnavailableError(f"`{path}` cannot be read: {os.strerror(error.errno or 0).lower()}") from None


def _compile(source: Path, progress: bool | None) -> tuple[bytes | None, tuple[Problem, ...]]:
    from sidecar.services.compiling import compile_source

    with progress_shown(progress) as show:
        compiled = compile_source(source, now=int(time.time()), progress=show)
    return compiled.image, compiled.problems


def _count(problems: tuple[Problem, ...]) -> tuple[int, int]:
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    return errors, len(problems) - errors


def _write_whole(path: Path, data: bytes) -> None:
    """Put *data* at *path*: whoever reads there finds the old file or the new one, and nothing between."""
    try:
        descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # A temporary file is closed to others; an image is no secret to whoever may read its folder.
            os.chmod(draft, 0o644)
            os.replace(draft, path)
        except BaseException:
            os.unlink(draft)
            raise
    except OSError as error:
        raise SourceUnavailableError(f"`{path}` cannot be written: {os.strerror(error.errno or 0).lower()}") from None
