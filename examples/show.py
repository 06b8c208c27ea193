# SPDX-License-Identifier: Apache-2.0
"""
Show the sidecar deciding: ask the questions of ``decisions.yaml`` and print the answers as a story.

Starts ``iam-sidecar serve`` on the example company, unless it is told the address of a sidecar that
runs already, and asks through gRPC as any other program would. Fails when an answer is not the one
that the file expects.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import grpc
import yaml

from sidecar.wire.sidecar.v1 import authorization_pb2 as wire
from sidecar.wire.sidecar.v1 import authorization_pb2_grpc as rpc

HERE = Path(__file__).parent
STATE = HERE.parent / ".state"
PATIENCE_SECONDS = 60.0

#: What a reason means, in a sentence; ``{action}`` and ``{layer}`` are filled in.
SENTENCES = {
    "identity_allow": "an identity-based policy allows it",
    "resource_allow": "the policy of the resource allows it",
    "root_allow": "it is the root user of the account",
    "always_allowed": "nobody is ever denied {action}",
    "explicit_deny": "with an explicit deny in {layer}",
    "no_identity_allow": "no identity-based policy allows {action}",
    "no_resource_allow": "no policy of the resource allows {action}",
    "no_permissions_boundary_allow": "the permissions boundary does not allow {action}",
    "no_session_allow": "the policies of the session do not allow {action}",
    "no_service_control_allow": "the service control policies do not allow {action}",
    "unknown_principal": "nobody knows this principal",
    "resource_account_unknown": "nobody knows whose resource it is",
}

LAYERS = {
    "IDENTITY": "an identity-based policy",
    "RESOURCE": "the policy of the resource",
    "PERMISSIONS_BOUNDARY": "the permissions boundary",
    "SESSION": "a session policy",
    "SERVICE_CONTROL": "a service control policy",
    "RESOURCE_CONTROL": "a resource control policy",
}

METHODS = {
    "totp": "a code of an authenticator app",
    "webauthn": "a security key",
    "u2f": "a U2F key",
    "recovery": "a recovery code",
}


class ExampleError(Exception):
    """The sidecar could not be started or asked, or a file of the example is not as it should be."""


@dataclass(frozen=True, slots=True)
class Question:
    """
    One entry of ``decisions.yaml``.

    Attributes:
        story: Who wants what, for people.
        want: The ``want_*`` keys, without that beginning.
    """

    story: str
    request: wire.ExplainRequest
    want: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Style:
    """Colours of a terminal, or none. Immutable."""

    colour: bool

    def paint(self, text: str, code: str) -> str:
        """*text* in the colour *code* of ANSI terminals."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text


def read_questions(path: Path) -> list[Question]:
    """
    The questions of a file, in its order.

    Raises:
        ExampleError: The file is not as ``decisions.yaml`` is.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("decisions"), list):
        raise ExampleError(f"`{path}` has no list of decisions")
    questions = []
    for entry in content["decisions"]:
        request = wire.AuthorizeRequest(
            principal=entry["principal"],
            action=entry["action"],
            resource=entry["resource"],
            context=_context(entry.get("context", {})),
            resource_account=entry.get("resource_account", ""),
        )
        message = wire.ExplainRequest(request=request, override=_context(entry.get("override", {})))
        want = {key.removeprefix("want_"): value for key, value in entry.items() if key.startswith("want_")}
        questions.append(Question(entry["story"], message, want))
    return questions


def _context(raw: Mapping[str, object]) -> dict[str, wire.ContextValue]:
    values = {}
    for key, value in raw.items():
        listed = [str(item) for item in value] if isinstance(value, list) else [str(value)]
        values[key] = wire.ContextValue(values=listed, multivalued=isinstance(value, list))
    return values


def decision_of(answer: wire.AuthorizeResponse) -> str:
    """``ALLOW``, ``EXPLICIT_DENY`` or ``IMPLICIT_DENY``."""
    return wire.Decision.Name(answer.decision).removeprefix("DECISION_")


def layer_of(answer: wire.AuthorizeResponse) -> str:
    """The layer that decided, such as ``IDENTITY``."""
    return wire.PolicyLayer.Name(answer.layer).removeprefix("POLICY_LAYER_")


def deciding_statements(explained: wire.ExplainResponse) -> list[str]:
    """
    What decided, as ``POLICY SID``: the statements of the deciding layer that have the decided effect.

    An implicit denial has none: it is the absence of an Allow.
    """
    effects = {"ALLOW": "Allow", "EXPLICIT_DENY": "Deny"}
    effect = effects.get(decision_of(explained.answer))
    return [
        f"{match.policy} {match.sid or match.statement_index}"
        for match in explained.matched_statements
        if match.effect == effect and match.layer == explained.answer.layer
    ]


def mfa_of(answer: wire.AuthorizeResponse) -> dict[str, object] | None:
    """What proof is asked for, in the words of ``want_mfa``; None where none would help."""
    if not answer.HasField("mfa_requirement"):
        return None
    requirement = answer.mfa_requirement
    result: dict[str, object] = {"methods": list(requirement.methods)}
    if requirement.HasField("max_age_seconds"):
        result["max_age_seconds"] = requirement.max_age_seconds
    if requirement.user_verification:
        result["user_verification"] = True
    return result


def differences(question: Question, explained: wire.ExplainResponse) -> list[str]:
    """In which points *explained* is not what the file expects, one line each."""
    answer = explained.answer
    got: dict[str, object] = {
        "decision": decision_of(answer),
        "layer": layer_of(answer),
        "reason": answer.reason,
        "mfa": mfa_of(answer),
    }
    wrong = [
        f"{what} is `{value}`, expected `{question.want.get(what)}`"
        for what, value in got.items()
        if value != question.want.get(what)
    ]
    statement = question.want.get("statement")
    if statement is not None and statement not in deciding_statements(explained):
        wrong.append(f"`{statement}` is not among the deciding statements")
    return wrong


def sentence(question: Question, answer: wire.AuthorizeResponse) -> str:
    """Why, for people."""
    text = SENTENCES.get(answer.reason, answer.reason.replace("_", " "))
    return text.format(action=question.request.request.action, layer=LAYERS.get(layer_of(answer), "a policy"))


def _joined(parts: Sequence[str]) -> str:
    return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 2 else parts)


def proof(answer: wire.AuthorizeResponse) -> str:
    """
    The proof that would turn the denial into an allow, for people.

    >>> requirement = wire.MfaRequirement(max_age_seconds=900, methods=["webauthn"], user_verification=True)
    >>> proof(wire.AuthorizeResponse(mfa_requirement=requirement))
    'allowed after proof by a security key with PIN or fingerprint, at most 15 minutes old'
    """
    requirement = answer.mfa_requirement
    if set(requirement.methods) == set(METHODS):
        return f"allowed after proof by any second factor{_age(requirement)}"
    methods = [METHODS.get(method, method) for method in requirement.methods]
    if requirement.user_verification:
        methods = [f"{method} with PIN or fingerprint" for method in methods]
    return f"allowed after proof by {_joined(methods)}{_age(requirement)}"


def _age(requirement: wire.MfaRequirement) -> str:
    if not requirement.HasField("max_age_seconds"):
        return ""
    seconds = requirement.max_age_seconds
    if seconds % 60 == 0:
        return f", at most {seconds // 60} minutes old"
    if seconds % 60 == 59:
        return f", less than {seconds // 60 + 1} minutes old"
    return f", at most {seconds:,} seconds old"


def short(arn: str) -> str:
    """
    The telling end of an ARN.

    >>> short("arn:aws:iam::111122223333:user/support/alice"), short("")
    ('user/support/alice', 'anybody')
    """
    if not arn:
        return "anybody"
    fields = arn.split(":", 5)
    if len(fields) < 6:
        return arn
    return f"s3://{fields[5]}" if fields[2] == "s3" else fields[5]


def shorter_statement(text: str) -> str:
    """
    A deciding statement without the parts of its ARN that say little.

    >>> shorter_statement("inline:arn:aws:iam::111122223333:role/services/orders-service/orders PublishEvents")
    'PublishEvents in role/services/orders-service/orders'
    """
    policy, _, sid = text.rpartition(" ")
    name = short(policy.removeprefix("inline:")).removeprefix("policy/")
    organization = re.fullmatch(r"o-\w+/(service|resource)_control_policy/([\w-]+)", name)
    return f"{sid} in {organization[2] if organization else name}"


def _values(context: Mapping[str, wire.ContextValue]) -> str:
    return ", ".join(f"{key} {' and '.join(value.values)}" for key, value in sorted(context.items()))


def print_answer(
    number: int, question: Question, explained: wire.ExplainResponse, wrong: Sequence[str], style: Style, out: TextIO
) -> None:
    """Print one question with its answer."""
    request = question.request.request
    answer = explained.answer
    decision = decision_of(answer)
    colour = "32" if decision == "ALLOW" else "31"
    if answer.HasField("mfa_requirement"):
        colour = "33"
    label = {"ALLOW": "allow", "EXPLICIT_DENY": "deny", "IMPLICIT_DENY": "deny"}.get(decision, "undecided")
    print(style.paint(f"{number:2}. {question.story}", "1"), file=out)
    print(f"    {short(request.principal)}: {request.action} on {short(request.resource)}", file=out)
    details = [
        _values(request.context),
        f"as if {_values(question.request.override)}" if question.request.override else "",
    ]
    for line in textwrap.wrap(", ".join(filter(None, details)), 100):
        print(style.paint(f"    {line}", "2"), file=out)
    print(f"    {style.paint(f'{label:5}', colour + ';1')} {sentence(question, answer)}", file=out)
    for statement in deciding_statements(explained):
        print(style.paint(f"          {shorter_statement(statement)}", "2"), file=out)
    if answer.HasField("mfa_requirement"):
        for line in textwrap.wrap(proof(answer), 100):
            print(f"          {style.paint(line, '33')}", file=out)
    for difference in wrong:
        print(style.paint(f"    wrong: {difference}", "31;1"), file=out)
    print(file=out)


def ask(address: str, token: str, questions: Sequence[Question], style: Style, out: TextIO) -> int:
    """
    Ask every question, print every answer, and say how many were not as expected.

    Raises:
        ExampleError: The sidecar does not answer.
    """
    failures = 0
    with grpc.insecure_channel(address) as channel:
        service = rpc.AuthorizationServiceStub(channel)
        metadata = (("authorization", f"Bearer {token}"),)
        for number, question in enumerate(questions, 1):
            try:
                explained = service.Explain(
                    question.request, metadata=metadata, timeout=PATIENCE_SECONDS, wait_for_ready=number == 1
                )
            except grpc.RpcError as error:
                raise ExampleError(f"question {number}: {error.code().name.lower()}: {error.details()}") from error
            wrong = differences(question, explained)
            failures += bool(wrong)
            print_answer(number, question, explained, wrong, style, out)
    return failures


def ask_plainly(address: str, questions: Sequence[Question]) -> int:
    """
    Ask the data listener, as a service would, whatever needs no "as if"; gives how many answers were as expected.

    Raises:
        ExampleError: The sidecar does not answer.
    """
    right = 0
    with grpc.insecure_channel(address) as channel:
        service = rpc.AuthorizationServiceStub(channel)
        for question in questions:
            try:
                answer = service.Authorize(question.request.request, timeout=PATIENCE_SECONDS)
            except grpc.RpcError as error:
                raise ExampleError(f"{question.story}: {error.code().name.lower()}: {error.details()}") from error
            right += decision_of(answer) == question.want["decision"]
    return right


@contextmanager
def serving(
    source: Path, state: Path, data: str, management: str, http: str, log_level: str
) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """
    Run ``iam-sidecar serve`` on *source*; gives the process, and where services and administrators ask.

    It is ended at last.

    Raises:
        ExampleError: It ended before it was up.
    """
    command = [sys.executable, "-m", "sidecar", "serve", "--snapshot", str(source), "--state-dir", str(state)]
    command += ["--data", data, "--management", management, "--http", http, "--prompt", "off"]
    command += ["--log-level", log_level]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        # The first line on its standard output says that every listener is up.
        line = process.stdout.readline() if process.stdout else ""
        found = re.search(r"\bdata ([^\s,]+), management ([^\s,]+)", line)
        if not found:
            raise ExampleError("the sidecar did not start")
        yield process, found[1], found[2]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def read_token(path: Path) -> str:
    """
    The administrator's token.

    Raises:
        ExampleError: The file cannot be read.
    """
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ExampleError(f"no token in `{path}`: {error.strerror}") from error


def _show(address: str, token_file: Path, questions: Sequence[Question], style: Style) -> int:
    failures = ask(address, read_token(token_file), questions, style, sys.stdout)
    right = len(questions) - failures
    print(style.paint(f"{right} of {len(questions)} answers are as expected.", "31;1" if failures else "32;1"))
    return failures


def _show_plainly(address: str, questions: Sequence[Question]) -> int:
    plain = [question for question in questions if not question.request.override]
    right = ask_plainly(address, plain)
    print(f"Asked as a service asks, on the data listener: {right} of {len(plain)} answers are as expected.")
    return len(plain) - right


def _serve_and_show(arguments: argparse.Namespace, questions: Sequence[Question], style: Style) -> int:
    if arguments.once:
        with tempfile.TemporaryDirectory() as directory:
            state = Path(directory) / "state"
            anywhere = "127.0.0.1:0"
            with serving(arguments.snapshot, state, anywhere, anywhere, anywhere, "warning") as (_, data, address):
                return _show(address, state / "admin.token", questions, style) + _show_plainly(data, questions)
    state = arguments.state_dir
    listeners = (arguments.data, arguments.management, arguments.http)
    with serving(arguments.snapshot, state, *listeners, "info") as (process, data, address):
        failures = _show(address, state / "admin.token", questions, style) + _show_plainly(data, questions)
        if failures:
            return failures
        token = os.path.relpath(state / "admin.token")
        print(f"\nServing services on {data} and administrators on {address}. Ctrl-C ends it. Try:")
        print("  .venv/bin/iam-sidecar explain --principal arn:aws:iam::111122223333:user/support/alice \\")
        print("      --action orders:Get --resource arn:aws:orders:eu-central-1:111122223333:order/4711 \\")
        print(f"      --address {address} --token-file {token}", flush=True)
        try:
            return process.wait()
        except KeyboardInterrupt:
            return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 1 when an answer is not as expected or there is none."""
    parser = argparse.ArgumentParser(description="show the sidecar deciding on the example company")
    parser.add_argument("--once", action="store_true", help="end after the answers instead of going on serving")
    parser.add_argument("--snapshot", type=Path, default=HERE / "acme", help="what the sidecar is started on")
    parser.add_argument("--decisions", type=Path, default=HERE / "decisions.yaml", help="the questions")
    parser.add_argument("--state-dir", type=Path, default=STATE, help="where that sidecar keeps its token")
    parser.add_argument("--data", default="127.0.0.1:9191", help="where it listens for services")
    parser.add_argument("--management", default="127.0.0.1:9192", help="where it listens for administrators")
    parser.add_argument("--http", default="127.0.0.1:9193", help="where its metrics are")
    parser.add_argument("--address", help="management address of a sidecar that runs already")
    parser.add_argument("--token-file", type=Path, help="the administrator's token of that sidecar")
    given = parser.parse_args(arguments)
    if bool(given.address) != bool(given.token_file):
        parser.error("--address and --token-file go together")
    # Told to end, it ends the sidecar that it started as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    style = Style(sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    try:
        questions = read_questions(given.decisions)
        if given.address:
            failures = _show(given.address, given.token_file, questions, style)
        else:
            failures = _serve_and_show(given, questions, style)
    except ExampleError as error:
        print(f"examples.show: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
