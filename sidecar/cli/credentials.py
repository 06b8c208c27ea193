# SPDX-License-Identifier: Apache-2.0
"""
Credentials of a session, printed for people, for a shell, and for an AWS SDK.
"""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from sidecar.cli.output import print_json, print_line

if TYPE_CHECKING:
    from sidecar.client.sessions import Session


class CredentialFormat(StrEnum):
    """How credentials are printed."""

    TEXT = "text"
    ENV = "env"
    JSON = "json"
    CREDENTIAL_PROCESS = "credential-process"


def print_credentials(session: Session, form: CredentialFormat, *, profile: str) -> None:
    """Print a session; nothing of it is secret in the text for people."""
    expires = datetime.fromtimestamp(session.expires_at_ms / 1000, UTC)
    if form is CredentialFormat.TEXT:
        until = expires.astimezone().isoformat(sep=" ", timespec="minutes")
        print_line(f"signed in as {session.principal_arn} until {until}, kept as profile {profile}")
    elif form is CredentialFormat.ENV:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", session.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", session.secret_access_key),
            ("AWS_SESSION_TOKEN", session.session_token),
        ):
            print_line(f"export {name}={shlex.quote(value)}")
    elif form is CredentialFormat.JSON:
        print_json(
            {
                "profile": profile,
                "access_key_id": session.access_key_id,
                "secret_access_key": session.secret_access_key,
                "session_token": session.session_token,
                "expires_at_unix_ms": session.expires_at_ms,
                "principal_arn": session.principal_arn,
            }
        )
    else:
        # SPEC: AWS SDKs and Tools Reference Guide, process credential provider.
        print_json(
            {
                "Version": 1,
                "AccessKeyId": session.access_key_id,
                "SecretAccessKey": session.secret_access_key,
                "SessionToken": session.session_token,
                "Expiration": expires.isoformat(timespec="seconds").replace("+00:00", "Z"),
            }
        )
