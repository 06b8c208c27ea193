# SPDX-License-Identifier: Apache-2.0
import io
import json

import pytest

from sidecar.cli.output import (
    because,
    error_to_json,
    explanation_to_json,
    mfa_sentence,
    print_error,
    print_explanation,
    print_problems,
    progress_shown,
    sentence,
)
from sidecar.model.decision import (
    Answer,
    Decision,
    MfaMethod,
    MfaRequirement,
    PolicyLayer,
    Reason,
    StatementMatch,
)
from sidecar.model.errors import InternalError, PolicySyntaxError, Problem, RequestError, Severity
from sidecar.services.authorizer import Explanation

ADA = "arn:aws:iam::111122223333:user/ada"
DENIED = Answer(
    Decision.EXPLICIT_DENY,
    PolicyLayer.SERVICE_CONTROL,
    Reason.EXPLICIT_DENY,
    MfaRequirement(900, (MfaMethod.TOTP, MfaMethod.WEBAUTHN), False),
    ADA,
    (
        StatementMatch(PolicyLayer.IDENTITY, "arn:aws:iam::aws:policy/X", "", 3, "Allow"),
        StatementMatch(PolicyLayer.SERVICE_CONTROL, "[red]p", "[bold]No", 0, "Deny"),
    ),
    ("aws:sourceip",),
)


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("layer", list(PolicyLayer))
def test_reasons_when_spoken_then_each_has_words(reason: Reason, layer: PolicyLayer) -> None:
    text = because(Answer(Decision.IMPLICIT_DENY, layer, reason), "s3:GetObject")

    assert text.startswith(("because ", "with ", "for "))
    assert "{" not in text


@pytest.mark.parametrize(
    ("layer", "want"),
    [
        (PolicyLayer.IDENTITY, "with an explicit deny in an identity-based policy"),
        (PolicyLayer.SERVICE_CONTROL, "with an explicit deny in a service control policy"),
    ],
)
def test_explicit_deny_when_spoken_then_in_the_words_of_aws(layer: PolicyLayer, want: str) -> None:
    assert because(Answer(Decision.EXPLICIT_DENY, layer, Reason.EXPLICIT_DENY), "s3:GetObject") == want


def test_sentence_when_denied_then_not_authorized() -> None:
    text = sentence(DENIED, principal="", action="s3:GetObject", resource="*")

    assert text == (
        "an anonymous caller is not authorized to perform s3:GetObject on no particular resource"
        " with an explicit deny in a service control policy"
    )


@pytest.mark.parametrize(
    ("requirement", "want"),
    [
        (None, ""),
        (MfaRequirement(None, (MfaMethod.TOTP,), False), "proving MFA would allow it: totp"),
        (
            MfaRequirement(60, (MfaMethod.WEBAUTHN,), True),
            "proving MFA would allow it: webauthn, with a PIN or fingerprint on the key, not more than 60 seconds ago",
        ),
    ],
)
def test_mfa_when_it_would_help_then_that_is_said(requirement: MfaRequirement | None, want: str) -> None:
    answer = Answer(Decision.IMPLICIT_DENY, PolicyLayer.IDENTITY, Reason.NO_IDENTITY_ALLOW, requirement)

    assert mfa_sentence(answer) == want


def test_explanation_when_printed_off_a_terminal_then_plain(capsys: pytest.CaptureFixture[str]) -> None:
    print_explanation(
        Explanation(DENIED, "f" * 64), principal=ADA, action="s3:GetObject", resource="*", with_statements=True
    )

    assert capsys.readouterr().out == (
        "EXPLICIT DENY\n"
        f"  {ADA} is not authorized to perform s3:GetObject on no particular resource"
        " with an explicit deny in a service control policy\n"
        "  proving MFA would allow it: totp or webauthn, not more than 900 seconds ago\n"
        "\n"
        "statements that apply:\n"
        "  allow identity-based policy: arn:aws:iam::aws:policy/X, statement 3\n"
        "  deny  service control policy: [red]p, [bold]No\n"
        "asked for and absent: aws:sourceip\n"
        "snapshot ffffffffffff\n"
    )


def test_explanation_when_it_is_for_programs_then_every_field_is_there() -> None:
    shown = json.loads(json.dumps(explanation_to_json(Explanation(DENIED, "f" * 64))))

    assert shown["decision"] == "EXPLICIT_DENY"
    assert shown["layer"] == "SERVICE_CONTROL"
    assert shown["mfa_requirement"] == {
        "max_age_seconds": 900,
        "methods": ["totp", "webauthn"],
        "user_verification": False,
    }
    assert shown["matched_statements"][0]["statement_index"] == 3
    assert shown["missing_context_keys"] == ["aws:sourceip"]


def test_problems_when_printed_then_those_of_a_file_stand_together() -> None:
    file = io.StringIO()
    problems = [
        Problem(Severity.ERROR, "a.json", "$.Statement", "wrong \x1b[31m", "mend it"),
        Problem(Severity.WARNING, "b.json", "$", "odd"),
        Problem(Severity.ERROR, "a.json", "$", "lost \ud800"),
    ]

    print_problems(problems, file=file)

    assert file.getvalue() == (
        "a.json\n"
        "  error  $.Statement: wrong \\x1b[31m\n"
        "         help: mend it\n"
        "  error  $: lost \\ud800\n"
        "b.json\n"
        "  warning  $: odd\n"
    )


def test_problems_when_there_are_many_then_the_rest_are_counted() -> None:
    file = io.StringIO()

    print_problems([Problem(Severity.ERROR, "a.json", "$", "wrong")] * 1000, file=file)

    assert file.getvalue().endswith("… and 800 more; --json shows all\n")


@pytest.mark.parametrize(
    ("error", "want"),
    [
        (
            RequestError("is wrong", field="--context", help="write KEY=VALUE"),
            "error: --context: is wrong\nhelp: write",
        ),
        (RequestError("`action` is wrong", field="request.action"), "error: `action` is wrong\n"),
        (InternalError("it failed", cause="no memory"), "error: it failed\ncause: no memory\n"),
    ],
)
def test_error_when_printed_then_one_line_and_its_help(
    error: RequestError, want: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_error(error)

    assert capsys.readouterr().err.startswith(want)


def test_error_when_it_is_for_programs_then_its_problems_are_there() -> None:
    problem = Problem(Severity.ERROR, "a.json", "$", "wrong", "mend it")

    assert error_to_json(PolicySyntaxError("the source has 1 error", problems=[problem])) == {
        "error": {
            "reason": "policy_invalid",
            "message": "the source has 1 error",
            "help": "",
            "problems": [
                {"severity": "error", "file": "a.json", "json_path": "$", "message": "wrong", "help": "mend it"}
            ],
        }
    }


def test_progress_when_not_on_a_terminal_then_only_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_shown(None) as show:
        assert show is None
    with progress_shown(True) as show:
        assert show is not None
        for done in range(1001):
            show(done, 1000, "parsing policies")

    assert len(capsys.readouterr().err.splitlines()) == 11
