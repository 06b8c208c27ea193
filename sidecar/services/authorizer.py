# SPDX-License-Identifier: Apache-2.0
"""
The policy decision point: hands requests to the core under the snapshot in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sidecar import core
from sidecar.model.decision import Answer
from sidecar.model.request import AuthorizationRequest, ContextValue
from sidecar.services.callers import Caller, session_of

_NANOS = 1_000_000_000


class ImageSource(Protocol):
    """Says which image is in place."""

    @property
    def image(self) -> core.Image | None:
        """The image in place, or None before the first."""
        ...


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    An answer and the snapshot that gave it.

    Attributes:
        revision: Revision of the snapshot; empty where there was none.
    """

    answer: Answer
    revision: str


class Authorizer:
    """
    Answers requests.

    Each request reads the clock and the image in place once and keeps to both.

    Thread-safety: immutable, but for what the recorder counts.
    """

    def __init__(
        self,
        *,
        snapshots: ImageSource,
        now: Callable[[], int],
        recorder: core.Recorder | None = None,
        sessions: Callable[[], core.SessionState | None] = lambda: None,
        check: core.CheckPlan | None = None,
    ) -> None:
        """
        Args:
            snapshots: Where the image in place is.
            now: Nanoseconds since the epoch.
            recorder: What counts and records the decisions.
            sessions: Gives what opens session tokens now; without it none is one of ours.
            check: How Envoy is answered; None: as by default.
        """
        self._sessions = sessions
        self._snapshots = snapshots
        self._now = now
        self._recorder = recorder or core.Recorder()
        self._plan = check

    def authorize(self, request: bytes) -> bytes:
        """
        Answer a serialized AuthorizeRequest with a serialized AuthorizeResponse.

        Raises:
            RequestError: The request is malformed.
        """
        seconds, nanos = divmod(self._now(), _NANOS)
        image = self._snapshots.image
        return core.authorize(
            image, request, seconds=seconds, nanos=nanos, recorder=self._recorder, sessions=self._sessions()
        )

    def batch_authorize(self, request: bytes) -> bytes:
        """
        Answer a serialized BatchAuthorizeRequest with a serialized BatchAuthorizeResponse.

        Raises:
            RequestError: One of the requests is malformed.
        """
        seconds, nanos = divmod(self._now(), _NANOS)
        image = self._snapshots.image
        return core.batch_authorize(
            image, request, seconds=seconds, nanos=nanos, recorder=self._recorder, sessions=self._sessions()
        )

    def check(self, request: bytes) -> bytes:
        """Answer a serialized CheckRequest of Envoy with a serialized CheckResponse; there is always one."""
        seconds, nanos = divmod(self._now(), _NANOS)
        return core.check(
            self._snapshots.image,
            request,
            seconds=seconds,
            nanos=nanos,
            plan=self._plan,
            recorder=self._recorder,
            sessions=self._sessions(),
        )

    def explain(self, request: AuthorizationRequest) -> Explanation:
        """
        Answer with everything that led to the decision.

        Raises:
            RequestError: The request is malformed.
        """
        image = self._snapshots.image
        seconds, nanos = divmod(self._now(), _NANOS)
        answer = core.explain(image, request, seconds=seconds, nanos=nanos, sessions=self._sessions())
        return Explanation(answer, "" if image is None else image.revision)

    def decide_for(
        self, caller: Caller, action: str, resource: str, override: Mapping[str, ContextValue] | None = None
    ) -> Answer:
        """
        Return whether the bearer of a session may do something.

        Args:
            override: Values of condition keys that win over every other source.

        Raises:
            PreconditionError: The caller is the administrator, who is no principal.
            RequestError: The action or the resource is none.
        """
        session_of(caller)
        request = AuthorizationRequest(
            principal="", action=action, resource=resource, override=override or {}, session_token=caller.token
        )
        return self.explain(request).answer
