# SPDX-License-Identifier: Apache-2.0
"""
Routes and callers in an image.

The tree of each host is written node by node; segments of fixed text are found through one table for all nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from sidecar.compile import layout
from sidecar.compile.layout import CONSTANTS, NONE, hash_text
from sidecar.compile.route_tree import Node, build_tree, mixed_order
from sidecar.model.errors import PolicyError
from sidecar.model.route import (
    HTTP_METHODS,
    AnonymousRule,
    ApiKeyRule,
    CallerRule,
    CertificateRule,
    ClaimTest,
    JwtRule,
    Route,
    RouteTable,
    SessionTokenRule,
    Template,
)

_METHOD_BITS: Final = {method: 1 << number for number, method in enumerate(HTTP_METHODS)}
_MAX_RECORDS: Final = 1 << 28


class Append(Protocol):
    """Adds records to a section, and returns the number of the first."""

    def __call__(self, section: str, packed: bytes, count: int = 1) -> int:
        """Add *count* records."""
        ...


class RouteWriter:
    """
    Writes one table of routes.

    Args:
        append: Adds records to a section.
        text: Stores a text once, and returns its offset and length.
        table: Writes the hash table of a section, given the hash of each record.

    Thread-safety: confined to one compilation.
    """

    def __init__(
        self,
        *,
        append: Append,
        text: Callable[[str], tuple[int, int]],
        table: Callable[[str, Sequence[int]], None],
    ) -> None:
        self._append = append
        self._text = text
        self._table = table
        self._runs: dict[Template, tuple[int, int]] = {}
        self._hashes: dict[str, int] = {}
        self._edge_hashes: list[int] = []

    def write(self, routes: RouteTable | None) -> None:
        """Write everything; without routes, tables in which nothing is found."""
        host_hashes: list[int] = []
        if routes is not None:
            self._append("ROUTE_SETTINGS", layout.ROUTE_SETTINGS.struct.pack(int(routes.flags), 0))
            for rule in routes.callers:
                self._caller(rule)
            for route in routes.routes:
                self._route(route)
            pack = layout.ROUTE_HOST.struct.pack
            for name, root in build_tree(routes).items():
                self._append("ROUTE_HOSTS", pack(*self._text(name), self._nodes(root, routes)))
                host_hashes.append(hash_text(name.encode()))
        self._table("ROUTE_HOST_TABLE", host_hashes)
        self._table("ROUTE_EDGE_TABLE", self._edge_hashes)

    # Templates.

    def _template(self, template: Template) -> tuple[int, int]:
        """Store the pieces of *template*, equal ones once; return first and count."""
        if not template:
            return 0, 0
        found = self._runs.get(template)
        if found is None:
            pack = layout.ROUTE_PIECE.struct.pack
            packed = b"".join(
                pack(piece.source, *self._text(piece.text), piece.capture, piece.rule) for piece in template
            )
            found = self._runs[template] = self._append("ROUTE_PIECES", packed, len(template)), len(template)
        return found

    def _texts(self, texts: Iterable[str]) -> tuple[int, int]:
        pack = layout.ROUTE_TEXT.struct.pack
        packed = [pack(*self._text(text)) for text in texts]
        return self._append("ROUTE_TEXTS", b"".join(packed), len(packed)), len(packed)

    # Callers.

    def _caller(self, rule: CallerRule) -> None:
        flags, name, tests, texts = 0, "", (0, 0), (0, 0)
        principal: Template = ()
        if isinstance(rule, SessionTokenRule):
            flags |= CONSTANTS["CALLER_HEADER"] if rule.header else 0
            flags |= CONSTANTS["CALLER_COOKIE"] if rule.cookie else 0
        elif isinstance(rule, JwtRule):
            name, principal = f"{rule.filter}\0{rule.payload}", rule.principal
            packed = [self._claim_test(test) for test in rule.tests]
            tests = self._append("CLAIM_TESTS", b"".join(packed), len(packed)), len(packed)
        elif isinstance(rule, CertificateRule):
            tests, principal = self._template(rule.name), rule.principal
        elif isinstance(rule, ApiKeyRule):
            name, principal = rule.header, rule.principal
            texts = self._texts((rule.client, *rule.digests))
        elif isinstance(rule, AnonymousRule):
            principal = rule.principal
        pack = layout.CALLER_RULE.struct.pack
        record = pack(rule.source, flags, *self._text(name), *tests, *texts, *self._template(principal))
        self._append("CALLER_RULES", record)

    def _claim_test(self, test: ClaimTest) -> bytes:
        return layout.CLAIM_TEST.struct.pack(*self._text("\0".join(test.claim)), *self._texts(test.values))

    # Routes.

    def _route(self, route: Route) -> None:
        pack = layout.ROUTE_CONTEXT.struct.pack
        context = [pack(*self._text(entry.key), *self._template(entry.value)) for entry in route.context]
        self._append(
            "ROUTES",
            layout.ROUTE.struct.pack(
                *self._text(route.id),
                int(route.flags),
                len(route.captures),
                *self._template(route.action),
                *self._template(route.resource),
                *self._template(route.resource_account),
                self._append("ROUTE_CONTEXT", b"".join(context), len(context)),
                len(context),
            ),
        )

    def _leaves(self, numbers: list[int], routes: RouteTable) -> tuple[int, int]:
        """Write what stands at the end of a path: routes that state methods before the one that states none."""
        if not numbers:
            return 0, 0
        pack = layout.ROUTE_LEAF.struct.pack
        packed: list[bytes] = []
        for number in sorted(numbers, key=lambda number: not routes.routes[number].methods):
            methods = routes.routes[number].methods
            mask = sum(_METHOD_BITS.get(method, 0) for method in methods) if methods else CONSTANTS["ALL_METHODS"]
            if mask:
                packed.append(pack(mask, 0, 0, number))
            packed += [pack(0, *self._text(method), number) for method in methods if method not in _METHOD_BITS]
        return self._append("ROUTE_LEAVES", b"".join(packed), len(packed)), len(packed)

    def _nodes(self, root: Node, routes: RouteTable) -> int:
        """Write the tree under *root*, and return the number of its node."""
        nodes = [root]
        first = self._append("ROUTE_NODES", b"", 0)
        packed: list[bytes] = []
        pack = layout.ROUTE_NODE.struct.pack
        place = 0
        # Breadth first: children are numbered when their parent is written.
        while place < len(nodes):
            node = nodes[place]
            number = first + place
            place += 1
            edges = self._edges(node, number, first, nodes)
            mixed = self._mixed_children(node, first, nodes)
            below = NONE
            if node.any is not None:
                below = first + len(nodes)
                nodes.append(node.any)
            packed.append(
                pack(*mixed, below, *self._leaves(node.leaves, routes), *self._leaves(node.rest, routes), edges)
            )
        if first + len(nodes) >= _MAX_RECORDS:
            raise PolicyError("the snapshot is too large: the paths of its routes do not fit an image")
        return self._append("ROUTE_NODES", b"".join(packed), len(packed))

    def _edges(self, node: Node, number: int, first: int, nodes: list[Node]) -> int:
        if not node.edges:
            return 0
        pack = layout.ROUTE_EDGE.struct.pack
        salt = number * CONSTANTS["EDGE_MULTIPLIER"] & 0xFFFFFFFF
        packed: list[bytes] = []
        for text, child in node.edges.items():
            packed.append(pack(*self._text(text), number, first + len(nodes)))
            nodes.append(child)
            found = self._hashes.get(text)
            if found is None:
                found = self._hashes[text] = hash_text(text.encode())
            self._edge_hashes.append(found ^ salt)
        self._append("ROUTE_EDGES", b"".join(packed), len(packed))
        return len(packed)

    def _mixed_children(self, node: Node, first: int, nodes: list[Node]) -> tuple[int, int]:
        if not node.mixed:
            return 0, 0
        pack = layout.ROUTE_MIXED.struct.pack
        packed: list[bytes] = []
        for before, behind in sorted(node.mixed, key=mixed_order):
            packed.append(pack(*self._text(before), *self._text(behind), first + len(nodes)))
            nodes.append(node.mixed[before, behind])
        return self._append("ROUTE_MIXED", b"".join(packed), len(packed)), len(packed)
