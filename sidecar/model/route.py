# SPDX-License-Identifier: Apache-2.0
"""
Routes: which HTTP request means which action on which resource, and who calls.

The numbers are shared with the compiled core.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

#: Segments of a path that are not fixed, in one route.
MAX_CAPTURES = 16
#: Segments of the path of a request.
MAX_SEGMENTS = 64
#: Bytes of path and query of a request.
MAX_TARGET = 8192

#: Methods with a bit of their own (RFC 9110, section 9, and RFC 5789), by their place.
HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")


class RouteFlag(IntFlag):
    """
    How targets are read (of all routes), and what a route is (of one).
    """

    #: Upper and lower case of a path are the same to the upstream.
    IGNORES_CASE = 1
    #: ``%2F`` is part of its segment.
    KEEPS_ENCODED_SLASHES = 2
    #: Several slashes are one.
    MERGES_SLASHES = 4
    #: ``;`` is an ordinary character of a segment.
    KEEPS_PARAMETERS = 8
    #: A slash at the end does not count.
    IGNORES_TRAILING_SLASH = 16
    #: Nothing is asked: everybody may.
    PUBLIC = 256
    #: The upstream gets the session token that the caller sent.
    FORWARD_TOKEN = 512
    #: A proof holds for exactly this action and resource.
    PROOF_FOR_CALL = 1024


class PieceSource(IntEnum):
    """Where a piece of a template comes from."""

    TEXT = 0
    #: A segment of the path, or of the name in a certificate.
    CAPTURE = 1
    QUERY = 2
    HEADER = 3
    #: A claim of a verified JWT.
    JWT = 4
    #: The name in the certificate of the peer.
    PEER = 5
    #: A context extension of the proxy's configuration.
    EXTENSION = 6
    SNI = 7
    METHOD = 8
    HOST = 9
    PATH = 10


class ValueRule(IntEnum):
    """What a value that is put into a template may hold."""

    #: Valid UTF-8 without control characters.
    TEXT = 0
    #: Of an ARN's first five fields, of an action and of an account: letters, digits, ``.``, ``_`` and ``-``.
    WORD = 1
    #: Inside of a resource: no ``/``, ``:``, ``*``, ``?`` or ``$``.
    PART = 2
    #: At the end of a resource: no ``*``, ``?`` or ``$``.
    END = 3
    #: Session and user names: letters, digits and ``_+=,.@-``, at most 64.
    NAME = 4


class CallerSource(IntEnum):
    """What says who calls."""

    NONE = 0
    SESSION_TOKEN = 1
    JWT = 2
    CERTIFICATE = 3
    API_KEY = 4
    ANONYMOUS = 5

    @property
    def word(self) -> str:
        """The word in ``routes.yaml`` and in logs."""
        return self.name.lower()
