# SPDX-License-Identifier: Apache-2.0
"""
How the command line speaks: to people in colour and plain sentences, to programs in JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, TextIO

from sidecar.compile.shadow import moment_text
from sidecar.model.decision import Answer, Decision, PolicyLayer, Reason
from sidecar.model.errors import (
    DocumentRefusedError,
    InternalError,
    PolicySyntaxError,
    Problem,
    RequestError,
    Severity,
    SidecarError,
)
from sidecar.model.shadow import ShadowEntry

if TYPE_CHECKING:
    from rich.console import Console

    from sidecar.services.authorizer import Explanation
    from sidecar.services.compiling import Progress

#: Problems that are printed for people; all of them are in the JSON.
_MAX_PRINTED = 200


class ExitStatus(IntEnum):
    """What the process says at its end."""

    OK = 0
    ERROR = 1
    USAGE = 2
    DENIED = 3


_LAYERS = {
    PolicyLayer.IDENTITY: "identity-based policy",
    PolicyLayer.RESOURCE: "resource-based policy",
    PolicyLayer.PERMISSIONS_BOUNDARY: "permissions boundary",
    PolicyLayer.SESSION: "session policy",
    PolicyLayer.SERVICE_CONTROL: "service control policy",
    PolicyLayer.RESOURCE_CONTROL: "resource control policy",
}

#: Ends of the sentence "X is (not) authorized to perform A on resource R ...", in the words of AWS where it has some.
_BECAUSE = {
    Reason.UNSPECIFIED: "for a reason that this version does not know",
    Reason.IDENTITY_ALLOW: "because an identity-based policy allows the {action} action",
    Reason.RESOURCE_ALLOW: "because a resource-based policy allows the {action} action",
    Reason.ROOT_ALLOW: "because the root user may do everything in its own account",
    Reason.ALWAYS_ALLOWED: "because everybody who is known may ask who they are",
    Reason.EXPLICIT_DENY: "with an explicit deny in {layer}",
    Reason.NO_IDENTITY_ALLOW: "because no identity-based policy allows the {action} action",
    Reason.NO_RESOURCE_ALLOW: "because no resource-based policy allows the {action} action",
    Reason.NO_PERMISSIONS_BOUNDARY_ALLOW: "because no permissions boundary allows the {action} action",
    Reason.NO_SESSION_ALLOW: "because no session policy allows the {action} action",
    Reason.NO_SERVICE_CONTROL_ALLOW: "because no service control policy allows the {action} action",
    Reason.UNKNOWN_PRINCIPAL: "because the snapshot does not know this principal",
    Reason.RESOURCE_ACCOUNT_UNKNOWN: "because nothing says which account owns the resource (--resource-account does)",
    Reason.CROSS_PARTITION: "because principal and resource are in different partitions",
    Reason.SESSION_INVALID: "because the session token is not known",
    Reason.SESSION_EXPIRED: "because the session is over",
    Reason.SESSION_REVOKED: "because the session was revoked",
    Reason.SESSION_UNVERIFIABLE: "because it cannot be known whether the session was revoked",
    Reason.SESSION_KIND_NOT_ALLOWED: "because sessions of this kind may not call the {action} action",
    Reason.NO_SNAPSHOT: "because no snapshot is in place",
    Reason.IMMUTABLE_RESOURCE: "because it belongs to AWS and cannot be changed",
    Reason.INTERNAL_ERROR: "because the engine could not finish",
    Reason.AUDIT_UNAVAILABLE: "because the decision log had no place for the record",
    Reason.PUBLIC_ROUTE: "because the route is public",
    Reason.NO_ROUTE: "because no route covers the request",
    Reason.PATH_INVALID: "because its path can be read in more than one way",
    Reason.ROUTE_VALUE_INVALID: "because what the route takes from the request cannot be used",
    Reason.CALLER_UNKNOWN: "because nothing says who calls",
    Reason.REQUEST_INVALID: "because the proxy's request cannot be read",
}


def because(answer: Answer, action: str) -> str:
    """
    Return why, as the end of a sentence.

    >>> because(Answer(Decision.IMPLICIT_DENY, PolicyLayer.IDENTITY, Reason.NO_IDENTITY_ALLOW), "s3:GetObject")
    'because no identity-based policy allows the s3:GetObject action'
    """
    layer = _LAYERS.get(answer.layer, "policy")
    return _BECAUSE[answer.reason].format(action=action, layer=f"{'an' if layer[0] in 'aeiou' else 'a'} {layer}")


def sentence(answer: Answer, *, principal: str, action: str, resource: str) -> str:
    """Return the answer as a sentence, in the words of AWS's own message."""
    who = principal or "an anonymous caller"
    verb = "is authorized" if answer.decision is Decision.ALLOW else "is not authorized"
    return f"{who} {verb} to perform {action} on {_resource(resource)} {because(answer, action)}"


def mfa_sentence(answer: Answer) -> str:
    """Return what proof would turn a denial into an allow; empty if none would."""
    requirement = answer.mfa_requirement
    if requirement is None:
        return ""
    methods = [method.word for method in requirement.methods]
    text = f"proving MFA would allow it: {' or '.join(methods)}"
    if requirement.user_verification:
        text += ", with a PIN or fingerprint on the key"
    if requirement.max_age_seconds is not None:
        text += f", not more than {requirement.max_age_seconds} seconds ago"
    return text


def _resource(resource: str) -> str:
    return "no particular resource" if resource == "*" else resource


def print_explanation(
    explanation: Explanation, *, principal: str, action: str, resource: str, with_statements: bool
) -> None:
    """Print an answer for people."""
    from rich.text import Text

    console = _console(sys.stdout)
    answer = explanation.answer
    is_allowed = answer.decision is Decision.ALLOW
    verdict = answer.decision.name.replace("_", " ")
    console.print(Text(verdict, style="bold green" if is_allowed else "bold red"))
    console.print(Text("  " + sentence(answer, principal=principal, action=action, resource=resource)))
    if requirement := mfa_sentence(answer):
        console.print(Text("  " + requirement, style="yellow"))
    if answer.shadow_decision:
        would_be = answer.shadow_decision.name.replace("_", " ")
        style = "dim" if answer.shadow_decision is answer.decision else "yellow"
        console.print(Text(f"  with what stands in shadow: {would_be}", style=style))
    if with_statements:
        console.print()
        if answer.matched_statements:
            console.print(Text("statements that apply:"))
        else:
            console.print(Text("no statement applies"))
        for match in answer.matched_statements:
            line = Text("  ")
            line.append(match.effect.lower().ljust(6), style="green" if match.effect == "Allow" else "red")
            name = match.sid or f"statement {match.statement_index}"
            line.append(f"{_LAYERS.get(match.layer, 'policy')}: {match.policy}, {name}")
            console.print(line)
        if answer.missing_context_keys:
            console.print(Text("asked for and absent: " + ", ".join(answer.missing_context_keys)))
        console.print(Text(f"snapshot {explanation.revision[:12] or 'none'}", style="dim"))


def explanation_to_json(explanation: Explanation) -> dict[str, object]:
    """Return an answer for programs, with the names of the wire contract."""
    answer = explanation.answer
    requirement = answer.mfa_requirement
    return {
        "decision": answer.decision.name,
        "layer": answer.layer.name,
        "reason": answer.reason.word,
        "mfa_requirement": None
        if requirement is None
        else {
            "max_age_seconds": requirement.max_age_seconds,
            "methods": [method.word for method in requirement.methods],
            "user_verification": requirement.user_verification,
        },
        "snapshot_revision": explanation.revision,
        "shadow_decision": answer.shadow_decision.name if answer.shadow_decision else None,
        "principal_arn": answer.principal_arn,
        "matched_statements": [
            {
                "layer": match.layer.name,
                "policy": match.policy,
                "sid": match.sid,
                "statement_index": match.statement_index,
                "effect": match.effect,
            }
            for match in answer.matched_statements
        ],
        "missing_context_keys": list(answer.missing_context_keys),
    }


def print_shadow(entries: Sequence[ShadowEntry]) -> None:
    """Print what stands in shadow, for people."""
    for entry in entries:
        print_line(f"in shadow until {moment_text(entry.until)}: {entry.kind.word} {_plain(entry.id)}")


def shadow_to_json(entries: Sequence[ShadowEntry]) -> list[dict[str, object]]:
    """Return what stands in shadow, for programs."""
    return [{entry.kind.word: entry.id, "until": moment_text(entry.until)} for entry in entries]


def print_problems(problems: Sequence[Problem], *, file: TextIO) -> None:
    """Print problems for people, those of one file together."""
    from rich.text import Text

    console = _console(file)
    by_file: dict[str, list[Problem]] = {}
    for problem in problems[:_MAX_PRINTED]:
        by_file.setdefault(problem.file, []).append(problem)
    for name, found in by_file.items():
        console.print(Text(_plain(name), style="bold"))
        for problem in found:
            is_error = problem.severity is Severity.ERROR
            line = Text("  ")
            line.append(problem.severity.value, style="bold red" if is_error else "yellow")
            line.append(f"  {_plain(problem.json_path)}: {_plain(problem.message)}")
            console.print(line)
            if problem.help:
                console.print(Text(f"         help: {_plain(problem.help)}", style="dim"))
    if len(problems) > _MAX_PRINTED:
        console.print(Text(f"… and {len(problems) - _MAX_PRINTED} more; --json shows all"))


def problems_to_json(problems: Iterable[Problem]) -> list[dict[str, str]]:
    """Return problems for programs."""
    return [
        {
            "severity": problem.severity.value,
            "file": problem.file,
            "json_path": problem.json_path,
            "message": problem.message,
            "help": problem.help,
        }
        for problem in problems
    ]


def count_of(number: int, noun: str) -> str:
    """
    Return a number with its noun.

    >>> count_of(1, "error"), count_of(2, "policy")
    ('1 error', '2 policies')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


def print_json(value: object) -> None:
    """Print JSON for programs."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_line(text: str) -> None:
    """Print one line of output."""
    sys.stdout.write(_plain(text) + "\n")


def print_error(error: SidecarError) -> None:
    """Print to standard error what is wrong and what would mend it."""
    from rich.text import Text

    console = _console(sys.stderr)
    if isinstance(error, PolicySyntaxError | DocumentRefusedError) and error.problems:
        print_problems(error.problems, file=sys.stderr)
    line = Text()
    line.append("error", style="bold red")
    field = ""
    if isinstance(error, RequestError) and error.field and f"`{error.field.rpartition('.')[2]}" not in error.message:
        field = f"{error.field}: "
    line.append(f": {_plain(field + error.message)}")
    console.print(line)
    if isinstance(error, InternalError):
        console.print(Text(f"cause: {_plain(str(error.cause))}"))
    if error.help:
        console.print(Text(f"help: {_plain(error.help)}"))


def error_to_json(error: SidecarError) -> dict[str, object]:
    """Return an error for programs."""
    facts: dict[str, object] = {"reason": error.reason, "message": error.message, "help": error.help}
    if isinstance(error, RequestError):
        facts["field"] = error.field
    if isinstance(error, PolicySyntaxError | DocumentRefusedError):
        facts["problems"] = problems_to_json(error.problems)
    return {"error": facts}


@contextmanager
def progress_shown(is_wanted: bool | None) -> Iterator[Progress | None]:
    """
    Show on standard error how far a long work is; the block passes what it is given on to that work.

    Args:
        is_wanted: None shows it on a terminal only.
    """
    if is_wanted is None:
        is_wanted = sys.stderr.isatty()
    if not is_wanted:
        yield None
        return
    if not sys.stderr.isatty():
        yield _print_progress()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=_console(sys.stderr), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total or None, description=_plain(what))

        yield show


def _print_progress() -> Progress:
    """Return what prints progress line by line, a tenth of the work at a time."""
    shown: tuple[str, int] = ("", -1)

    def show(done: int, total: int, what: str) -> None:
        nonlocal shown
        step = (what, 10 * done // total if total else 0)
        if step != shown:
            shown = step
            sys.stderr.write(f"{_plain(what)}: {done} of {total}\n" if total else f"{_plain(what)}\n")

    return show


def _console(file: TextIO) -> Console:
    """Return a console on *file*: it looks at NO_COLOR and at whether that is a terminal."""
    from rich.console import Console

    return Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _plain(text: str) -> str:
    """Return *text* without what a terminal would obey, and without lone surrogates."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
