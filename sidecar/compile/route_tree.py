# SPDX-License-Identifier: Apache-2.0
"""
Routes as a tree: by host, then segment by segment, so that a match looks only at what can still fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sidecar.compile.route_paths import compared_path
from sidecar.model.route import RouteTable, Segment, SegmentKind

#: Of a host that any request has.
ANY_HOST = ""


@dataclass(slots=True)
class Node:
    """
    What may come behind a beginning of a path.

    Attributes:
        edges: Behind a segment of fixed text.
        mixed: Behind a segment with text before and behind.
        any: Behind any segment that is not empty.
        leaves: Numbers of the routes that end here.
        rest: Numbers of the routes that take all that follows.
    """

    edges: dict[str, Node] = field(default_factory=dict)
    mixed: dict[tuple[str, str], Node] = field(default_factory=dict)
    any: Node | None = None
    leaves: list[int] = field(default_factory=list)
    rest: list[int] = field(default_factory=list)

    def children(self) -> Iterator[Node]:
        """Yield the nodes right behind this one."""
        yield from self.edges.values()
        yield from self.mixed.values()
        if self.any is not None:
            yield self.any


def host_key(host: str) -> str:
    """
    Return under which name a host is found: ``.example.com`` for ``*.example.com``.

    >>> host_key("*.example.com"), host_key("example.com")
    ('.example.com', 'example.com')
    """
    return host.removeprefix("*")


def build_tree(table: RouteTable) -> dict[str, Node]:
    """Return the tree of each host of *table*."""
    roots: dict[str, Node] = {}
    for number, route in enumerate(table.routes):
        path = compared_path(route.path, table.flags)
        for host in route.hosts or (ANY_HOST,):
            root = roots.get(host_key(host))
            if root is None:
                root = roots[host_key(host)] = Node()
            node = _end(root, path)
            (node.rest if path[-1].kind is SegmentKind.REST else node.leaves).append(number)
    return roots


def _end(node: Node, path: tuple[Segment, ...]) -> Node:
    """Return where *path* ends below *node*, made if need be; what takes all that follows leads nowhere."""
    for segment in path:
        kind = segment.kind
        if kind is SegmentKind.LITERAL:
            below = node.edges.get(segment.text)
            if below is None:
                below = node.edges[segment.text] = Node()
        elif kind is SegmentKind.MIXED:
            below = node.mixed.get((segment.text, segment.behind))
            if below is None:
                below = node.mixed[segment.text, segment.behind] = Node()
        elif kind is SegmentKind.ANY:
            below = node.any
            if below is None:
                below = node.any = Node()
        else:
            break
        node = below
    return node


def walk(root: Node) -> Iterator[Node]:
    """Yield *root* and every node below it."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.children())


def mixed_order(key: tuple[str, str]) -> tuple[int, int, bytes, bytes]:
    """Return where text round a name stands among others: more text first, then more of it before the name."""
    before, behind = key[0].encode(), key[1].encode()
    return -(len(before) + len(behind)), -len(before), before, behind
