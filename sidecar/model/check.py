# SPDX-License-Identifier: Apache-2.0
"""
How requests of Envoy are answered, beside what the snapshot says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class OnError(IntEnum):
    """What a request gets that cannot be decided."""

    #: A denial, which no setting of the proxy turns into an allow.
    DENY = 0
    #: Envoy's ``error_response``: the proxy's ``failure_mode_allow`` decides.
    ERROR_RESPONSE = 1

    @property
    def word(self) -> str:
        """The word in settings."""
        return self.name.lower().replace("_", "-")


class CheckResult(IntEnum):
    """What the proxy was told; zero is never an allow."""

    #: It could not be decided.
    ERROR = 0
    DENY = 1
    #: Whoever calls has to sign in first.
    SIGN_IN = 2
    #: A second factor would turn the denial into an allow.
    STEP_UP = 3
    ALLOW = 4

    @property
    def word(self) -> str:
        """The stable snake_case word, as in metric labels."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class CheckTemplates:
    """
    Bodies of denials, in which words in double braces are filled in; ``sidecar.compile.check_templates`` lists them.

    An empty one stands for the built-in one.
    """

    denied_json: str = ""
    denied_html: str = ""
    step_up_json: str = ""
    step_up_html: str = ""


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """
    Settings of ``Check``.

    Attributes:
        trusted_hops: Proxies before this one whose ``x-forwarded-for`` is believed; 0: ``aws:SourceIp`` is the peer.
        prompt_url: Address of the prompt's pages, without a slash at the end; empty: there are none.
        cookie_name: Cookie of the prompt that holds the session token; empty: there is none.
        step_up_hints: Whether a denial says that a proof would turn it into an allow.
    """

    trusted_hops: int = 0
    on_error: OnError = OnError.DENY
    prompt_url: str = ""
    cookie_name: str = ""
    step_up_hints: bool = True
    templates: CheckTemplates = field(default_factory=CheckTemplates)
