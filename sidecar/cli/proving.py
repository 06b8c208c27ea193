# SPDX-License-Identifier: Apache-2.0
"""
Proving oneself at a terminal: with a key that is plugged in here, with a code, or in a browser somewhere else.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from sidecar.cli.terminal import Terminal, ask, can_ask, can_show, tell
from sidecar.model.errors import AuthenticationError, PreconditionError, SidecarError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fido2.ctap import CtapDevice

    from sidecar.client.step_up import StepUpClient, StepUpPrompt

#: Times that a code may be typed.
_TRIES = 3
#: Seconds between two looks at the clock of what is shown.
_TICK = 0.2


class ProofMethod(StrEnum):
    """How somebody proves themselves."""

    AUTO = "auto"
    KEY = "key"
    CODE = "code"
    RECOVERY = "recovery"
    BROWSER = "browser"


@dataclass(frozen=True, slots=True)
class ProofRequest:
    """
    What is to be proved, and how.

    Attributes:
        action: What the proof holds for alone; empty for everything.
        code: One that was stated already, of an authenticator app or a recovery code.
        origin: What a key is told that it is used from; empty for that of the relying party.
        seconds: How long to wait for a key.
    """

    action: str = ""
    resource: str = ""
    method: ProofMethod = ProofMethod.AUTO
    code: str = field(default="", repr=False)
    must_verify_user: bool = False
    origin: str = ""
    seconds: float = 60.0


def prove(client: StepUpClient, session_token: str, request: ProofRequest) -> str:
    """
    Have the person prove themselves, and return the session's new token.

    Raises:
        SidecarError: They did not, or there is no way to ask them here.
    """
    _ensure_possible(request)
    prompt = client.begin(
        session_token,
        action=request.action,
        resource=request.resource,
        require_user_verification=request.must_verify_user,
    )
    if request.code:
        return _answer_code(client, session_token, prompt, request.code, request.method)
    devices = _find_devices(prompt, request.method)
    if devices:
        return _answer_key(client, session_token, prompt, devices, request)
    if request.method in (ProofMethod.CODE, ProofMethod.RECOVERY):
        return _ask_code(client, session_token, prompt, request.method)
    if request.method is ProofMethod.BROWSER and not prompt.prompt_url:
        raise PreconditionError("the sidecar serves no page for it", help="have it serve one with --prompt")
    if prompt.prompt_url and (can_show() or request.method is ProofMethod.BROWSER):
        _wait_for_browser(client, session_token, prompt)
        return client.collect(session_token, prompt.challenge_id)
    if can_ask() and not request.must_verify_user:
        return _ask_code(client, session_token, prompt, ProofMethod.CODE)
    raise _no_way()


def _ensure_possible(request: ProofRequest) -> None:
    """Nobody is asked anything where nobody could answer."""
    if request.method in (ProofMethod.CODE, ProofMethod.RECOVERY) and not request.code and not can_ask():
        raise PreconditionError("there is no terminal to ask for the code at", help="state it with --code")


def _no_way() -> PreconditionError:
    return PreconditionError(
        "there is no terminal to ask at, and no security key is plugged in",
        help="state a code with --code, or say --method browser to have the link on standard error and wait",
    )


def _find_devices(prompt: StepUpPrompt, method: ProofMethod) -> Sequence[CtapDevice]:
    """Return the keys to ask; none where another way is taken."""
    if method not in (ProofMethod.AUTO, ProofMethod.KEY):
        return ()
    if not prompt.options_json:
        if method is ProofMethod.KEY:
            raise PreconditionError("no security key is enrolled for you", help="prove yourself in another way")
        return ()
    from sidecar.cli import security_keys

    try:
        return security_keys.find_devices()
    except SourceUnavailableError as error:
        if method is ProofMethod.KEY:
            raise
        if "permission" in error.message:
            tell(f"{error.message} ({error.help})")
        return ()


def _answer_key(
    client: StepUpClient,
    session_token: str,
    prompt: StepUpPrompt,
    devices: Sequence[CtapDevice],
    request: ProofRequest,
) -> str:
    from sidecar.cli import security_keys

    rp_id = json.loads(prompt.options_json)["rpId"]
    left = prompt.expires_at_ms / 1000 - time.time()
    try:
        assertion_json = security_keys.use_key(
            devices,
            prompt.options_json,
            origin=request.origin or f"https://{rp_id}",
            person=Terminal(),
            seconds=min(request.seconds, max(1.0, left)),
        )
    finally:
        security_keys.close_devices(devices)
    return _own(client.answer(session_token, prompt.challenge_id, assertion_json=assertion_json))


def _ask_code(client: StepUpClient, session_token: str, prompt: StepUpPrompt, method: ProofMethod) -> str:
    """Ask for a code until one is right, a few times."""
    text = "recovery code" if method is ProofMethod.RECOVERY else "code of your authenticator app"
    for _ in range(_TRIES - 1):
        try:
            return _answer_code(client, session_token, prompt, ask(text), method)
        except AuthenticationError as error:
            tell(f"{error.message}; try again")
    return _answer_code(client, session_token, prompt, ask(text), method)


def _answer_code(client: StepUpClient, session_token: str, prompt: StepUpPrompt, code: str, method: ProofMethod) -> str:
    if method is ProofMethod.RECOVERY:
        return _own(client.answer(session_token, prompt.challenge_id, recovery_code=code))
    return _own(client.answer(session_token, prompt.challenge_id, totp_code=code))


def _own(token: str | None) -> str:
    if token is None:
        raise PreconditionError("the challenge belongs to another session", help="run this again")
    return token


def _wait_for_browser(client: StepUpClient, session_token: str, prompt: StepUpPrompt) -> None:
    """Show where to go, and wait until the person has been there."""
    tell("open this page in a browser, here or on another device, and prove yourself there:")
    tell(f"  {prompt.prompt_url}")
    tell(f"the page shows the code {prompt.user_code}; approve it only if it does")
    wait = _Wait(lambda: client.wait(session_token, prompt))
    if not can_show():
        wait.result()
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with console.status("") as status:
        while not wait.has_ended(_TICK):
            left = max(0, int(prompt.expires_at_ms / 1000 - time.time()))
            status.update(
                f"waiting for you in the browser, code {prompt.user_code}, {left // 60}:{left % 60:02} left;"
                " Ctrl-C gives up"
            )
    wait.result()


class _Wait:
    """
    Waits in a thread of its own, so that the main one can show how long, and hears Ctrl-C.

    Thread-safety: belongs to the main thread.
    """

    def __init__(self, wait: Callable[[], None]) -> None:
        self._ended: queue.SimpleQueue[SidecarError | None] = queue.SimpleQueue()
        self._result: list[SidecarError | None] = []

        def report() -> None:
            try:
                wait()
            except SidecarError as error:
                self._ended.put(error)
            else:
                self._ended.put(None)

        threading.Thread(target=report, daemon=True).start()

    def has_ended(self, seconds: float | None) -> bool:
        """Say whether the waiting is over, after at most so long."""
        if not self._result:
            try:
                self._result.append(self._ended.get(timeout=seconds))
            except queue.Empty:
                return False
        return True

    def result(self) -> None:
        """
        Return once the waiting is over.

        Raises:
            SidecarError: It came to nothing.
        """
        self.has_ended(None)
        if self._result[0] is not None:
            raise self._result[0]
