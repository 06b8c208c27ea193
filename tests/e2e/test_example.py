# SPDX-License-Identifier: Apache-2.0
"""The example company loads without a complaint, and every decision that it shows is the expected one."""

import io
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import show
from sidecar.compile.source import parse_source
from sidecar.model.request import AuthorizationRequest, ContextValue
from sidecar.model.snapshot import Snapshot
from sidecar.wire.sidecar.v1 import authorization_pb2 as wire
from tests.oracle import decide

ROOT = Path(__file__).parents[2]
ACME = ROOT / "examples" / "acme"
DECISIONS = ROOT / "examples" / "decisions.yaml"
QUESTIONS = show.read_questions(DECISIONS)
#: 2027-01-15: the contract of the contractors runs.
NOW = 1_800_000_000


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of this tree to its end."""
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def acme() -> Snapshot:
    """Give the parsed example."""
    files = {str(path.relative_to(ACME)): path.read_bytes() for path in ACME.rglob("*") if path.is_file()}
    report = parse_source(files)
    assert report.problems == ()
    assert report.snapshot is not None
    return report.snapshot


def test_example_when_shown_then_every_answer_is_as_expected() -> None:
    shown = run("examples.show", "--once")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert f"{len(QUESTIONS)} of {len(QUESTIONS)} answers are as expected." in shown.stdout
    assert "\x1b[" not in shown.stdout


def test_example_when_it_goes_on_serving_then_it_answers_until_told_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.show", "--state-dir", str(tmp_path / "state")]
    command += ["--data", "127.0.0.1:0", "--management", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = ""
        for line in process.stdout:
            if line.startswith("Serving services on "):
                address = line.split()[7].removesuffix(".")
            if "--token-file" in line:
                break
        again = run("examples.show", "--address", address, "--token-file", str(tmp_path / "state" / "admin.token"))
        process.terminate()
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert again.returncode == 0, again.stdout + again.stderr
    with socket.socket() as probe:
        host, port = address.split(":")
        assert probe.connect_ex((host, int(port))) != 0


def test_example_when_an_expectation_is_wrong_then_the_program_fails(tmp_path: Path) -> None:
    altered = tmp_path / "decisions.yaml"
    text = DECISIONS.read_text(encoding="utf-8")
    altered.write_text(text.replace("want_decision: ALLOW", "want_decision: IMPLICIT_DENY", 1), encoding="utf-8")
    shown = run("examples.show", "--once", "--decisions", str(altered))
    assert shown.returncode == 1
    assert "wrong: decision is `ALLOW`, expected `IMPLICIT_DENY`" in shown.stdout


def test_example_when_the_source_is_broken_then_the_program_says_so(tmp_path: Path) -> None:
    shown = run("examples.show", "--once", "--snapshot", str(tmp_path / "nowhere"))
    assert shown.returncode == 1
    assert "examples.show: the sidecar did not start" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_example_when_checked_strictly_then_there_is_no_problem() -> None:
    checked = run("sidecar", "check", "--strict", str(ACME))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.story[:40])
def test_example_when_the_oracle_decides_then_it_agrees(acme: Snapshot, question: show.Question) -> None:
    asked = question.request.request
    request = AuthorizationRequest(
        principal=asked.principal,
        action=asked.action,
        resource=asked.resource,
        resource_account=asked.resource_account,
        context={key: ContextValue(tuple(v.values), v.multivalued) for key, v in asked.context.items()},
        override={key: ContextValue(tuple(v.values), v.multivalued) for key, v in question.request.override.items()},
    )
    answer = decide(acme, request, seconds=NOW, nanos=0)
    explained = wire.ExplainResponse(
        answer=wire.AuthorizeResponse(
            decision=wire.Decision.Name(answer.decision),
            layer=wire.PolicyLayer.Name(answer.layer),
            reason=answer.reason.word,
        )
    )
    if answer.mfa_requirement is not None:
        requirement = explained.answer.mfa_requirement
        requirement.methods.extend(method.word for method in answer.mfa_requirement.methods)
        requirement.user_verification = answer.mfa_requirement.user_verification
        if answer.mfa_requirement.max_age_seconds is not None:
            requirement.max_age_seconds = answer.mfa_requirement.max_age_seconds
    for match in answer.matched_statements:
        explained.matched_statements.add(
            layer=wire.PolicyLayer.Name(match.layer),
            policy=match.policy,
            sid=match.sid,
            statement_index=match.statement_index,
            effect=match.effect,
        )
    assert show.differences(question, explained) == []


def test_example_then_it_shows_every_layer_and_kind_of_answer() -> None:
    wanted = [question.want for question in QUESTIONS]
    assert {want["decision"] for want in wanted} == {"ALLOW", "EXPLICIT_DENY", "IMPLICIT_DENY"}
    assert {want["layer"] for want in wanted} >= set(show.LAYERS) - {"SESSION"}
    assert sum("mfa" in want for want in wanted) >= 5


def statements(value: object) -> Iterator[object]:
    """Give everything in a decoded file that looks like a statement."""
    if isinstance(value, dict):
        if "Effect" in value:
            yield value
        for below in value.values():
            yield from statements(below)
    elif isinstance(value, list):
        for below in value:
            yield from statements(below)


def test_page_of_policies_then_each_statement_stands_in_the_example() -> None:
    known = [one for path in ACME.rglob("*.json") for one in statements(json.loads(path.read_text(encoding="utf-8")))]
    page = (ROOT / "docs" / "policies-by-example.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(shown) >= 8
    for block in shown:
        assert json.loads(block) in known


def test_printing_when_colour_is_on_then_the_decision_is_coloured() -> None:
    out = io.StringIO()
    explained = wire.ExplainResponse(
        answer=wire.AuthorizeResponse(
            decision=wire.DECISION_ALLOW, layer=wire.POLICY_LAYER_IDENTITY, reason="identity_allow"
        )
    )
    show.print_answer(1, QUESTIONS[0], explained, [], show.Style(colour=True), out)
    assert "\x1b[32;1mallow\x1b[0m" in out.getvalue()
