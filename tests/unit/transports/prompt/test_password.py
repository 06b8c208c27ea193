# SPDX-License-Identifier: Apache-2.0
"""Changing one's own password."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.core import Image
from sidecar.model.errors import SessionRevokedError
from sidecar.services.store.engine import open_store
from tests.unit.services.session_kit import PASSWORD, build_image
from tests.unit.transports.prompt.prompt_kit import PromptKit
from tests.unit.transports.prompt.visitor import Visitor

NEW = "Another-horse-8"


@pytest.fixture
def prompt(tmp_path: Path) -> Iterator[PromptKit]:
    """A prompt in whose account people change their own passwords."""
    store = open_store(f"sqlite:///{tmp_path / 'mfa.db'}", state_dir=tmp_path)
    policy = {"minimum_password_length": 12, "require_numbers": True, "allow_users_to_change_password": True}
    yield PromptKit(store, tmp_path, image=build_image(policy=policy))
    store.close()


def change(visitor: Visitor, old: str = PASSWORD, new: str = NEW, again: str = "") -> int:
    visitor.open("/password")
    typed = {"old_password": old, "new_password": new, "new_password_again": again or new}
    return visitor.submit("/password", **typed).status_code


def test_password_when_it_is_changed_then_every_session_ends_and_the_new_one_signs_in(
    prompt: PromptKit, ada: Visitor
) -> None:
    elsewhere = prompt.terminal()
    ada.open("/devices")
    assert "Change your password" in ada.text
    prompt.clock.advance(1)

    assert change(ada) == 200

    assert ada.response.url.path == "/sign-in"
    assert "Your password has been changed." in ada.text
    with pytest.raises(SessionRevokedError):
        prompt.sessions.authenticate(elsewhere.token, "")
    prompt.clock.advance(1)
    assert ada.sign_in(password=PASSWORD).status_code == 403
    assert ada.sign_in(password=NEW).url.path == "/devices"


def test_password_when_the_old_one_is_another_then_nothing_is_changed(prompt: PromptKit, ada: Visitor) -> None:
    assert change(ada, old="Wrong-horse-9") == 403
    assert "The current password is another" in ada.text
    assert NEW not in ada.response.text
    assert prompt.mfa.audit.last["event"] == "session.sign_in_refused"
    prompt.terminal()


@pytest.mark.parametrize(
    ("new", "again", "says"),
    [("short1", "", "12"), ("No-digits-in-here", "", "number"), (NEW, "Another-horse-9", "two ways")],
)
def test_password_when_the_new_one_will_not_do_then_the_form_says_why(
    prompt: PromptKit, ada: Visitor, new: str, again: str, says: str
) -> None:
    assert change(ada, new=new, again=again) == 400
    assert says in ada.text
    assert "__Host-sidecar-session" in ada.client.cookies
    prompt.terminal()


def test_password_when_a_field_is_empty_then_the_form_says_so(ada: Visitor) -> None:
    ada.open("/password")

    assert ada.submit("/password", old_password=PASSWORD).status_code == 400
    assert "Fill in all three fields" in ada.text


def test_password_when_too_many_guesses_were_wrong_then_the_right_one_does_not_help(ada: Visitor) -> None:
    for _ in range(6):
        change(ada, old="Wrong-horse-9")

    assert change(ada) == 403
    assert "too many failures" in ada.text


@pytest.mark.parametrize(
    "image", [build_image(), build_image(policy={"allow_users_to_change_password": True}, deny=["iam:ChangePassword"])]
)
def test_password_when_the_account_does_not_let_people_then_the_page_says_so(tmp_path: Path, image: Image) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'mfa.db'}", state_dir=tmp_path)
    with Visitor(PromptKit(store, tmp_path, image=image)) as ada:
        ada.sign_in()
        assert "Change your password" not in ada.text
        token = ada.page.form("/sign-out")
        assert ada.open("/password").status_code == 403
        assert ada.page.heading == "You may not do this"
        fields = {"old_password": PASSWORD, "new_password": NEW, "new_password_again": NEW}
        assert ada.post("/password", {**token, **fields}).status_code == 403
        ada.prompt.terminal()
    store.close()
