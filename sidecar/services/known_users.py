# SPDX-License-Identifier: Apache-2.0
"""
Whom the policies know: nobody else is given a device, since it could prove nothing to them.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar import core
from sidecar.model.decision import Reason
from sidecar.model.errors import NotFoundError
from sidecar.model.request import AuthorizationRequest
from sidecar.services.authorizer import ImageSource

#: Says whether the policies know the user of an ARN.
KnowsUser = Callable[[str], bool]
#: How to mend it when they do not.
UNKNOWN_HELP = "write the ARN as the accounts of the snapshot have it, with its path; or add the user to them first"


class KnownUsers:
    """
    Looks users up in the snapshot in place.

    Thread-safety: immutable.
    """

    def __init__(self, snapshots: ImageSource) -> None:
        """
        Args:
            snapshots: Where the image in place is.
        """
        self._snapshots = snapshots

    def __call__(self, user_arn: str) -> bool:
        """Return whether the snapshot has the user; where there is no snapshot, nobody is known not to be there."""
        image = self._snapshots.image
        if image is None:
            return True
        request = AuthorizationRequest(user_arn, "iam:ListMFADevices", user_arn)
        return core.explain(image, request, seconds=0, nanos=0).reason is not Reason.UNKNOWN_PRINCIPAL


def know_everybody(_user_arn: str) -> bool:
    """Return that a user is known: where no policies are at hand."""
    return True


def require_known(knows_user: KnowsUser, user_arn: str) -> None:
    """
    Pass if the policies know the user.

    Whoever may enrol devices for a user may know that; proofs do not tell.

    Raises:
        NotFoundError: They do not.
    """
    if not knows_user(user_arn):
        raise NotFoundError(f"the snapshot has no user `{user_arn}`", help=UNKNOWN_HELP)
