# SPDX-License-Identifier: Apache-2.0
"""
Routes: which HTTP request means which action on which resource, and who calls.

The numbers are shared with the compiled core.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NamedTuple

#: Routes of one snapshot.
MAX_ROUTES = 50_000
#: Hosts of all routes together; each route has a place under each of its hosts.
MAX_HOSTED_ROUTES = 200_000
#: Hosts of one route.
MAX_ROUTE_HOSTS = 64
#: Methods of one route.
MAX_ROUTE_METHODS = 32
#: Context keys of one route.
MAX_ROUTE_CONTEXT = 64
#: Ways to go on with text round a name, behind one beginning of a path; they are tried one after the other.
MAX_MIXED = 64
#: Characters of the id of a route.
MAX_ROUTE_ID = 128
#: Rules of callers in one snapshot, each client of an API key and each rule of a list counted.
MAX_CALLER_RULES = 1_000
#: Tests of one rule, and values of one test.
MAX_CLAIM_TESTS = 16
MAX_CLAIM_VALUES = 64
#: Digests of one client's API keys.
MAX_KEY_DIGESTS = 16
#: Pieces of one template.
MAX_TEMPLATE_PIECES = 64

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


NO_FLAGS = RouteFlag(0)


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


class SegmentKind(IntEnum):
    """What a segment of the path of a route takes; the smaller, the more specific."""

    #: Exactly its text.
    LITERAL = 0
    #: Text round a name.
    MIXED = 1
    #: One segment that is not empty.
    ANY = 2
    #: All that follows: one segment or more, of which the last may be empty.
    REST = 3


class Segment(NamedTuple):
    """
    One segment of the path of a route.

    Attributes:
        text: The text, decoded; of a mixed segment what stands before the name.
        behind: Of a mixed segment what stands behind the name.
        name: What is taken is called so in templates; empty where nobody asks for it.
    """

    kind: SegmentKind
    text: str = ""
    behind: str = ""
    name: str = ""

    @property
    def rank(self) -> tuple[int, int, int]:
        """Its place among segments of which several take the same text; the smallest wins."""
        if self.kind is not SegmentKind.MIXED:
            return self.kind, 0, 0
        before, behind = len(self.text.encode()), len(self.behind.encode())
        return self.kind, -(before + behind), -before


class TemplatePiece(NamedTuple):
    """
    One piece of a template.

    Attributes:
        text: The text, or the name of what is put in: of a claim the names with a NUL between.
        capture: Which of the segments that are not fixed, from 0, where the source is one.
        rule: What the value may hold.
    """

    source: PieceSource
    text: str = ""
    capture: int = 0
    rule: ValueRule = ValueRule.TEXT


#: Text with values put in.
Template = tuple[TemplatePiece, ...]


class ContextTemplate(NamedTuple):
    """A condition key and the template of its value."""

    key: str
    value: Template


@dataclass(frozen=True, slots=True)
class Route:
    """
    Requests that mean one action on one resource, or that are public.

    Attributes:
        hosts: In lower case, ``*.example.com`` for all below it; empty: any.
        methods: Empty: any.
        flags: Those of one route.
        action: Empty where the route is public, and likewise the resource.
        resource_account: Owner of the resource, where its ARN names none; may be empty.
    """

    id: str
    path: tuple[Segment, ...]
    hosts: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    flags: RouteFlag = NO_FLAGS
    action: Template = ()
    resource: Template = ()
    resource_account: Template = ()
    context: tuple[ContextTemplate, ...] = ()

    @property
    def is_public(self) -> bool:
        """Whether nothing is asked."""
        return RouteFlag.PUBLIC in self.flags

    @property
    def captures(self) -> tuple[Segment, ...]:
        """The segments that are not fixed."""
        return tuple(segment for segment in self.path if segment.kind is not SegmentKind.LITERAL)


class ClaimTest(NamedTuple):
    """
    A test of a claim: it is one of the values, or a list that holds one of them.

    Attributes:
        claim: Names from the outermost in.
    """

    claim: tuple[str, ...]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SessionTokenRule:
    """A session token says who calls: in the ``authorization`` header, in the cookie of the prompt, or in either."""

    header: bool = True
    cookie: bool = True

    @property
    def source(self) -> CallerSource:
        """What says who calls."""
        return CallerSource.SESSION_TOKEN


@dataclass(frozen=True, slots=True)
class JwtRule:
    """
    Claims of a JWT that a filter of the proxy verified.

    Attributes:
        filter: Name of the filter, the key of its metadata.
        payload: Key of the claims in that metadata.
        tests: All must hold.
    """

    filter: str
    payload: str
    tests: tuple[ClaimTest, ...]
    principal: Template

    @property
    def source(self) -> CallerSource:
        """What says who calls."""
        return CallerSource.JWT


@dataclass(frozen=True, slots=True)
class CertificateRule:
    """
    The certificate of the peer.

    Attributes:
        name: What its name must be: text, and captures that take one segment between slashes each.
    """

    name: Template
    principal: Template

    @property
    def source(self) -> CallerSource:
        """What says who calls."""
        return CallerSource.CERTIFICATE


@dataclass(frozen=True, slots=True)
class ApiKeyRule:
    """
    One client with API keys.

    Attributes:
        header: Name of the header, in lower case.
        client: Its name, to which context extensions of the proxy may map digests.
        digests: SHA-256 of its keys, in lower-case hex.
    """

    header: str
    client: str
    digests: tuple[str, ...]
    principal: Template

    @property
    def source(self) -> CallerSource:
        """What says who calls."""
        return CallerSource.API_KEY


@dataclass(frozen=True, slots=True)
class AnonymousRule:
    """
    Whoever shows nothing.

    Attributes:
        principal: Empty: the anonymous caller.
    """

    principal: Template = ()

    @property
    def source(self) -> CallerSource:
        """What says who calls."""
        return CallerSource.ANONYMOUS


CallerRule = SessionTokenRule | JwtRule | CertificateRule | ApiKeyRule | AnonymousRule


@dataclass(frozen=True, slots=True)
class RouteTable:
    """
    All routes of a snapshot.

    Attributes:
        flags: How targets are read: those of all routes.
        callers: In the order in which they are tried.
        routes: In the order in which they were written, which decides nothing.
    """

    flags: RouteFlag = NO_FLAGS
    callers: tuple[CallerRule, ...] = (SessionTokenRule(),)
    routes: tuple[Route, ...] = ()
