# SPDX-License-Identifier: Apache-2.0
"""
Which of several routes wins, and which routes never do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sidecar.compile.problems import quote
from sidecar.compile.route_paths import compared_path
from sidecar.compile.route_tree import ANY_HOST, Node, build_tree, walk
from sidecar.compile.shape import Place
from sidecar.model.route import MAX_MIXED, Route, RouteFlag, RouteTable


def check_ranks(place: Place, table: RouteTable, paths: Sequence[str]) -> None:
    """
    Report routes that are equally specific, and those that no request can reach.

    Args:
        paths: Where each route stands in the file.
    """
    _Ranks(place, table, paths).check()


class _Ranks:
    """Looks through one tree. Thread-safety: confined to one thread."""

    def __init__(self, place: Place, table: RouteTable, paths: Sequence[str]) -> None:
        self._place = place
        self._table = table
        self._paths = paths
        self._equals: set[tuple[int, int]] = set()

    def check(self) -> None:
        """Look at every node of every host."""
        hidden: dict[int, set[str]] = {}
        for host, root in build_tree(self._table).items():
            for node in walk(root):
                self._equal(node.leaves)
                self._equal(node.rest)
                if len(node.mixed) > MAX_MIXED:
                    first = min(_numbers_below(node.mixed.values()))
                    self._place.error(
                        f"{self._paths[first]}.path",
                        f"more than {MAX_MIXED} routes put text round a name at this place of their paths",
                        "put a slash between the text and the name, or let one route take them all",
                    )
                for number in node.rest:
                    if self._is_hidden(node, self._table.routes[number]):
                        hidden.setdefault(number, set()).add(host)
        for number, hosts in sorted(hidden.items()):
            route = self._table.routes[number]
            if len(hosts) == (len(route.hosts) or 1):
                self._place.error(
                    self._paths[number],
                    f"no request can reach the route {quote(route.id)}",
                    "others are more specific and take all that it would; take it out",
                )

    def _equal(self, numbers: list[int]) -> None:
        """Report routes of one place that take a method in common."""
        if len(numbers) < 2:
            return
        seen: dict[str, int] = {}
        for number in numbers:
            for method in self._table.routes[number].methods or ("",):
                other = seen.setdefault(method, number)
                if other != number and (other, number) not in self._equals:
                    self._equals.add((other, number))
                    ids = quote(self._table.routes[other].id), quote(self._table.routes[number].id)
                    self._place.error(
                        self._paths[number],
                        f"the routes {ids[0]} and {ids[1]} are equally specific",
                        f"tell them apart by host, method or path; the other is {self._paths[other]}",
                    )

    def _is_hidden(self, node: Node, route: Route) -> bool:
        """Say whether other routes behind *node* take all that *route* takes with its `**`."""
        if not self._takes(node.edges.get("", Node()).leaves, route) and not (
            self._table.flags & RouteFlag.IGNORES_TRAILING_SLASH
        ):
            return False
        below = node.any
        if below is None or not self._takes(below.leaves, route):
            return False
        return self._takes(below.rest, route) or self._is_hidden(below, route)

    def _takes(self, numbers: list[int], route: Route) -> bool:
        """Say whether the routes *numbers* together take all methods of *route*."""
        methods: set[str] = set()
        for number in numbers:
            stated = self._table.routes[number].methods
            if not stated:
                return True
            methods.update(stated)
        return bool(route.methods) and methods.issuperset(route.methods)


def _numbers_below(nodes: Iterable[Node]) -> Iterable[int]:
    for root in nodes:
        for node in walk(root):
            yield from node.leaves
            yield from node.rest


def by_rank(table: RouteTable) -> tuple[tuple[str, Route], ...]:
    """
    Return the routes under each of their hosts, ``*`` for any: those that win over others first.

    Routes that no request fits both of stand in the order of their hosts and paths.
    """
    found = [(host or "*", route) for route in table.routes for host in (route.hosts or (ANY_HOST,))]
    return tuple(sorted(found, key=lambda entry: _rank(entry[0], entry[1], table.flags)))


def _rank(host: str, route: Route, flags: RouteFlag) -> tuple[object, ...]:
    path = compared_path(route.path, flags)
    kind = 2 if host == "*" else 1 if host.startswith("*.") else 0
    segments = tuple((*segment.rank, segment.text.encode(), segment.behind.encode()) for segment in path)
    return kind, -len(host) if kind else 0, host, segments, not route.methods, route.methods, route.id
