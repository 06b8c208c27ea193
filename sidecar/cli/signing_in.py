# SPDX-License-Identifier: Apache-2.0
"""
Getting sessions that hold: from the file of sessions where there is one, else from the sidecar.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from sidecar.cli.connection import Connection
from sidecar.cli.proving import ProofRequest, prove
from sidecar.cli.sessions_file import Profile, SessionsFile
from sidecar.cli.terminal import ask, ask_hidden, can_ask, read_hidden_line, tell
from sidecar.client.sessions import SessionClient
from sidecar.model.errors import (
    AuthenticationError,
    PreconditionError,
    RequestError,
    SidecarError,
    SourceUnavailableError,
    StepUpRequiredError,
)

#: A session that ends sooner than this is not handed out any more, in milliseconds.
_LEAST_LEFT_MS = 60 * 1000
_PROVE_FIRST = "run this again with --mfa"


class SigningIn:
    """
    Signs one person in and out.

    Thread-safety: belongs to the main thread.
    """

    def __init__(self, connection: Connection, sessions_file: Path) -> None:
        self._connection = connection
        self._file = SessionsFile(sessions_file)

    def names(self) -> list[str]:
        """
        Return the names of all profiles.

        Raises:
            SettingsError: The file cannot be read.
        """
        return self._file.names()

    def sign_in(
        self,
        name: str,
        *,
        account: str = "",
        user_name: str = "",
        is_password_on_stdin: bool = False,
        is_fresh: bool = False,
    ) -> Profile:
        """
        Return a session that holds, and keep it under *name*.

        Args:
            account: Empty for that of the profile, or the one that is typed.
            user_name: Likewise.

        Raises:
            SidecarError: Nobody could be signed in, or what is needed was not stated and cannot be asked.
        """
        known = self._file.find(name)
        is_other = known is not None and (
            (account or known.account) != known.account or (user_name or known.user_name) != known.user_name
        )
        if known is not None and not is_fresh and not is_other and not is_password_on_stdin and self._holds(known):
            return known
        if known is not None and known.role_arn and not (account or user_name):
            source = self.sign_in(known.source)
            return self.assume(
                known.source, source, name, role_arn=known.role_arn, role_session_name=known.role_session_name
            )
        address = self._connection.address_or(known.address if known is not None else "")
        if known is not None and not known.role_arn:
            account, user_name = account or known.account, user_name or known.user_name
        account = account or _asked("account", "--account", is_password_on_stdin)
        user_name = user_name or _asked("user", "--user", is_password_on_stdin)
        password = _read_password(user_name, is_on_stdin=is_password_on_stdin)
        with self._sessions(address) as client:
            session = client.sign_in(account, user_name, password)
        kept = Profile(session, address, account=account, user_name=user_name)
        self._file.keep(name, kept)
        return kept

    def prove(self, name: str, profile: Profile, request: ProofRequest) -> Profile:
        """
        Have the person prove themselves in a session, and keep that.

        Raises:
            SidecarError: They did not.
        """
        with self._connection.open_step_up(profile.address) as client:
            proved = profile.with_token(prove(client, profile.session.session_token, request))
        self._file.keep(name, proved)
        return proved

    def assume(
        self,
        source: str,
        profile: Profile,
        name: str,
        *,
        role_arn: str,
        role_session_name: str = "",
        seconds: int = 0,
    ) -> Profile:
        """
        Return a session of a role, and keep it under *name*.

        Args:
            source: Name of *profile*, which assumes it.
            seconds: How long it is to last; 0 for the default.

        Raises:
            SidecarError: It may not be assumed.
        """
        session_name = role_session_name or _session_name(profile)
        with self._sessions(profile.address) as client:
            try:
                session = client.assume_role(
                    profile.session.session_token, role_arn, session_name, duration_seconds=seconds
                )
            except StepUpRequiredError as error:
                raise StepUpRequiredError(error.message, requirement=error.requirement, help=_PROVE_FIRST) from None
        kept = Profile(session, profile.address, role_arn=role_arn, role_session_name=session_name, source=source)
        self._file.keep(name, kept)
        return kept

    def sign_out(self, names: Iterable[str]) -> list[str]:
        """
        End the sessions of profiles and forget them, with those of the same sign-in.

        Returns:
            The names of the profiles that there were.

        Raises:
            SourceUnavailableError: A session is forgotten here, and could not be ended.
        """
        gone: list[str] = []
        failures: list[str] = []
        for name in names:
            profile = self._file.find(name)
            if profile is None:
                continue
            try:
                with self._sessions(profile.address) as client:
                    client.revoke(profile.session.session_token)
            except AuthenticationError:
                # It was over already.
                pass
            except SidecarError as error:
                failures.append(
                    f"the session of profile `{name}` is forgotten here, and was not ended: {error.message}"
                )
            for relative in self._family(name):
                self._file.forget(relative)
                gone.append(relative)
        if failures:
            raise SourceUnavailableError(
                failures[0], help="an administrator ends all sessions of a user with `iam-sidecar user lock`"
            )
        return gone

    def _family(self, name: str) -> list[str]:
        """Return the names of a profile, of those whose sessions grew from it, and of those that it grew from."""
        sources = {each: profile.source for each in self._file.names() if (profile := self._file.find(each))}
        root = name
        for _ in sources:
            root = sources.get(root) or root
        family = [root]
        for member in family:
            family += [each for each, source in sources.items() if source == member and each not in family]
        return [each for each in family if each in sources]

    def _holds(self, profile: Profile) -> bool:
        """Say whether the sidecar still takes a session."""
        if profile.session.expires_at_ms - time.time() * 1000 < _LEAST_LEFT_MS:
            return False
        with self._sessions(profile.address) as client:
            try:
                client.find_identity(profile.session.session_token)
            except AuthenticationError as error:
                tell(f"the session has ended: {error.message}")
                return False
        return True

    def _sessions(self, address: str) -> SessionClient:
        return self._connection.open_sessions(address)


def _asked(what: str, flag: str, is_stdin_taken: bool) -> str:
    if is_stdin_taken or not can_ask():
        raise RequestError(
            f"there is no terminal to ask for the {what} at" if not is_stdin_taken else f"the {what} is not stated",
            field=flag,
            help=f"state it with {flag}, or sign in at a terminal first",
        )
    answer = ask(what)
    if not answer:
        raise RequestError(f"no {what} was typed", field=flag)
    return answer


def _read_password(user_name: str, *, is_on_stdin: bool) -> str:
    if is_on_stdin:
        try:
            return read_hidden_line()
        except UnicodeDecodeError:
            raise RequestError("the password on standard input is not UTF-8") from None
    if not can_ask():
        raise PreconditionError(
            f"there is no session of `{user_name}` that holds, and no terminal to ask for the password at",
            help="sign in at a terminal first, or pass the password to --password-stdin",
        )
    return ask_hidden(f"password of {user_name}")


def _session_name(profile: Profile) -> str:
    """Return a name for a role's session by which others know who it is."""
    # SPEC: STS: 2 to 64 characters.
    name = profile.user_name or profile.role_session_name
    return name if len(name) > 1 else f"{name}-login"
