# SPDX-License-Identifier: Apache-2.0
"""
A client of the sidecar for services and programs in Python, and what protects a gRPC service with it.

>>> from sidecar.client import AuthorizationClient
>>> with AuthorizationClient("127.0.0.1:9191") as client:  # doctest: +SKIP
...     verdict = client.authorize("s3:GetObject", "arn:aws:s3:::reports/may.csv", session_token=token)
...     if verdict.is_allowed:
...         read_report()

Nothing here ever turns a failure into an allow: what cannot be asked raises a `SidecarError`.
"""

from __future__ import annotations

from sidecar.client.authorization import AsyncAuthorizationClient, AuthorizationClient, SteppedUp
from sidecar.client.channels import Tls
from sidecar.client.errors import StepUpExpiredError, StepUpRefusedError
from sidecar.client.interceptor import (
    PUBLIC,
    Access,
    AsyncAuthorizationInterceptor,
    AuthorizationInterceptor,
    authorized_caller,
)
from sidecar.client.proof_required import ProofRequired, proof_required_by
from sidecar.client.sessions import Identity, Session, SessionClient
from sidecar.client.step_up import AsyncStepUpClient, StepUpClient, StepUpPrompt
from sidecar.client.stepping_up import AsyncStepUpInterceptor, StepUpInterceptor
from sidecar.client.verdict import Question, Verdict
from sidecar.model.decision import Decision, MfaMethod, MfaRequirement, PolicyLayer
from sidecar.model.errors import (
    AuthenticationError,
    InternalError,
    LimitExceededError,
    MfaError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    RequestError,
    SidecarError,
    SourceUnavailableError,
    StepUpRequiredError,
)

__all__ = [
    "PUBLIC",
    "Access",
    "AsyncAuthorizationClient",
    "AsyncAuthorizationInterceptor",
    "AsyncStepUpClient",
    "AsyncStepUpInterceptor",
    "AuthenticationError",
    "AuthorizationClient",
    "AuthorizationInterceptor",
    "Decision",
    "Identity",
    "InternalError",
    "LimitExceededError",
    "MfaError",
    "MfaMethod",
    "MfaRequirement",
    "NotFoundError",
    "PermissionDeniedError",
    "PolicyLayer",
    "PreconditionError",
    "ProofRequired",
    "Question",
    "RequestError",
    "Session",
    "SessionClient",
    "SidecarError",
    "SourceUnavailableError",
    "StepUpClient",
    "StepUpExpiredError",
    "StepUpInterceptor",
    "StepUpPrompt",
    "StepUpRefusedError",
    "StepUpRequiredError",
    "SteppedUp",
    "Tls",
    "Verdict",
    "authorized_caller",
    "proof_required_by",
]
