"""A graph as a layered picture: who follows whom from top to bottom, ways back drawn dashed. Pure geometry, no browser.

Edges to the same place share a trunk, so that twenty edges read like a metro map instead of a web.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

BOX_WIDTH, BOX_HEIGHT, TRUNK_WIDTH = 104, 30, 10
GAP_X, GAP_Y, MARGIN = 10, 36, 4
SWEEPS = 6
"""Rounds of ordering each layer by its neighbours; more change nothing on graphs of this size."""

Edge = tuple[str, str]
Stop = tuple[str, int]
"""A node, or a bend of a trunk, in its layer. Bends are named `>target` (forward) or `<source` (back)."""


@dataclass(frozen=True)
class Box:
    node: str
    label: str
    x: float
    y: float
    width: float
    height: float
    end: bool
    """The graph's start or end: drawn as a dot."""


@dataclass(frozen=True)
class Way:
    source: str
    target: str
    path: str
    """SVG path data, from source to target."""
    back: bool


@dataclass(frozen=True)
class Picture:
    width: float
    height: float
    boxes: list[Box]
    ways: list[Way]


def draw(nodes: Sequence[str], edges: Iterable[Edge], start: str) -> Picture:
    """Lay out a graph. Loops from a node to itself are left out."""
    links = [edge for edge in dict.fromkeys(edges) if edge[0] != edge[1]]
    back = _back_edges(nodes, links, start)
    layer = _layers(nodes, [edge for edge in links if edge not in back])
    routes = {edge: _route(edge, edge in back, layer) for edge in links}
    places, width = _places(nodes, layer, routes.values())
    height = (max(layer.values(), default=0) + 1) * (BOX_HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    boxes = [_box(node, places[(node, layer[node])], layer[node]) for node in nodes]
    ways = [Way(*edge, _path(routes[edge], places, edge in back), edge in back) for edge in links]
    return Picture(width, height, boxes, ways)


def _back_edges(nodes: Sequence[str], edges: Sequence[Edge], start: str) -> set[Edge]:
    """Edges that close a cycle: inside a cycle's nodes, those that do not lead farther from its entry."""
    reach = {node: _reachable(node, edges) for node in nodes}
    distance = _distances(start, edges)
    far = len(nodes)
    return {
        (a, b) for a, b in edges if b in reach[a] and a in reach[b] and distance.get(b, far) <= distance.get(a, far)
    }


def _reachable(node: str, edges: Sequence[Edge]) -> set[str]:
    return set(_distances(node, edges))


def _distances(start: str, edges: Sequence[Edge]) -> dict[str, int]:
    """Fewest steps from `start` to each node it reaches."""
    found, wave = {start: 0}, [start]
    while wave:
        wave = list(dict.fromkeys(b for a, b in edges if a in wave and b not in found))
        found |= {node: max(found.values()) + 1 for node in wave}
    return found


def _layers(nodes: Sequence[str], forward: Sequence[Edge]) -> dict[str, int]:
    """The longest way to each node, so that every forward edge points down."""
    layer = dict.fromkeys(nodes, 0)
    for _ in nodes:
        for a, b in forward:
            layer[b] = max(layer[b], layer[a] + 1)
    return layer


def _route(edge: Edge, back: bool, layer: Mapping[str, int]) -> list[Stop]:
    """The stops of an edge, one per layer it crosses."""
    source, target = edge
    first, last = layer[source], layer[target]
    step = 1 if last > first else -1
    trunk = f"<{source}" if back else f">{target}"
    return [(source, first), *((trunk, at) for at in range(first + step, last, step)), (target, last)]


def _places(
    nodes: Sequence[str], layer: Mapping[str, int], routes: Iterable[list[Stop]]
) -> tuple[dict[Stop, float], float]:
    """The middle of every stop, and the picture's width."""
    paths = list(routes)
    stops = dict.fromkeys([*((node, layer[node]) for node in nodes), *(stop for path in paths for stop in path)])
    rows: list[list[Stop]] = [[] for _ in range(max(layer.values(), default=0) + 1)]
    for stop in stops:
        rows[stop[1]].append(stop)
    _untangle(rows, {pair for path in paths for pair in pairwise(path)})
    width = max((_row_width(row) for row in rows), default=0) + 2 * MARGIN
    places: dict[Stop, float] = {}
    for row in rows:
        x = (width - _row_width(row)) / 2
        for stop in row:
            places[stop] = x + _stop_width(stop) / 2
            x += _stop_width(stop) + GAP_X
    return places, width


def _untangle(rows: list[list[Stop]], links: set[tuple[Stop, Stop]]) -> None:
    """Order each row by the mean place of its neighbours, down and up."""
    beside: dict[Stop, list[Stop]] = {}
    for a, b in sorted(links):
        beside.setdefault(a, []).append(b)
        beside.setdefault(b, []).append(a)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            place = {stop: (i + 0.5) / len(line) for line in rows for i, stop in enumerate(line)}
            row.sort(key=lambda stop: _mean(stop, beside.get(stop, []), place, down))


def _mean(stop: Stop, neighbours: Sequence[Stop], place: Mapping[Stop, float], down: bool) -> float:
    before = [place[n] for n in neighbours if (n[1] < stop[1]) == down and n[1] != stop[1]]
    return sum(before) / len(before) if before else place[stop]


def _row_width(row: Sequence[Stop]) -> float:
    return sum(map(_stop_width, row)) + GAP_X * (len(row) - 1)


def _stop_width(stop: Stop) -> float:
    return TRUNK_WIDTH if stop[0][0] in "<>" else BOX_WIDTH


def _top(layer: int) -> float:
    return MARGIN + layer * (BOX_HEIGHT + GAP_Y)


def _box(node: str, x: float, layer: int) -> Box:
    label = node.strip("_").replace("_", " ")
    left, top = x - BOX_WIDTH / 2, _top(layer)
    return Box(node, label, left, top, BOX_WIDTH, BOX_HEIGHT, node in ("__start__", "__end__"))


def _path(route: Sequence[Stop], places: Mapping[Stop, float], back: bool) -> str:
    """Curves between layers, straight through the layers it only crosses."""
    parts: list[str] = []
    for a, b in pairwise(route):
        downward = b[1] > a[1]
        x1, x2 = places[a], places[b]
        y1 = _top(a[1]) + (BOX_HEIGHT if downward else 0)
        y2 = _top(b[1]) + (0 if downward else BOX_HEIGHT)
        bend = (y2 - y1) / 2
        parts.append(f"{'L' if parts else 'M'}{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}")
    return "".join(parts)
