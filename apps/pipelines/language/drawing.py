"""Drawing a pipeline: its steps in columns, each behind all it needs, and SVG made of that. Pure.

A step's column is the length of the longest chain of steps before it. Lines that pass other columns get places of their
own there, so that no line runs through a box. Within a column, what belongs together is brought near each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

BOX_WIDTH, BOX_HEIGHT = 176, 44
COLUMN_GAP, ROW_GAP, LANE = 64, 20, 12
MARGIN = 12
# More places for passing lines than this would be a cloth, not a drawing: then lines go the straight way.
MOST_LANES = 1_500
_SWEEPS = 4
_MOST_SHOWN = 22


@dataclass(frozen=True, slots=True)
class Box:
    """Where a step is drawn."""

    name: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Line:
    """How a step is joined with one that needs it: from its right edge, through its places, to the other's left edge."""

    need: str
    name: str
    points: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """All of it, and how large it is."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Look:
    """What a box says beside its name: a short note, a state for its colour, a page it leads to."""

    note: str = ""
    state: str = ""
    href: str = ""


# A place in a column: a step by its name, or a line that passes, by its number.
_Place = str | tuple[int, int]


def lay_out(needs: Mapping[str, Collection[str]]) -> Drawing:
    """Place steps and lines; the same for the same graph, whatever the order of `needs` within a step."""
    known = {
        name: sorted(need for need in set(needed) if need in needs)
        for name, needed in needs.items()
    }
    columns = _columns(known)
    # Of steps that wait for each other there is nothing to be seen but themselves.
    edges = [
        (need, name)
        for name, needed in known.items()
        for need in needed
        if columns[need] < columns[name]
    ]
    paths = _paths(edges, columns)
    places, width, height = _place(_rows(columns, paths))
    lines = []
    for (need, name), path in zip(edges, paths, strict=True):
        x, y = places[need]
        points = [(x + BOX_WIDTH, y + BOX_HEIGHT // 2)]
        for lane in path[1:-1]:
            x, y = places[lane]
            points += [(x, y + LANE // 2), (x + BOX_WIDTH, y + LANE // 2)]
        x, y = places[name]
        lines.append(Line(need, name, (*points, (x, y + BOX_HEIGHT // 2))))
    return Drawing(tuple(Box(name, *places[name]) for name in known), tuple(lines), width, height)


def _columns(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the column of each step; steps that wait for each other stand behind all others."""
    left = {name: len(needed) for name, needed in needs.items()}
    following: dict[str, list[str]] = {name: [] for name in needs}
    for name, needed in needs.items():
        for need in needed:
            following[need].append(name)
    found: dict[str, int] = {}
    ready = [name for name, count in left.items() if not count]
    column = 0
    while ready:
        found.update(dict.fromkeys(ready, column))
        column += 1
        freed = []
        for name in ready:
            for other in following[name]:
                left[other] -= 1
                if not left[other]:
                    freed.append(other)
        ready = freed
    return {name: found.get(name, column) for name in needs}


def _paths(edges: Sequence[tuple[str, str]], columns: Mapping[str, int]) -> list[list[_Place]]:
    """Return for each line its ends, and between them the places at which it passes other columns."""
    passed = sum(columns[name] - columns[need] - 1 for need, name in edges)
    if passed > MOST_LANES:
        return [[need, name] for need, name in edges]
    return [
        [
            need,
            *((number, column) for column in range(columns[need] + 1, columns[name])),
            name,
        ]
        for number, (need, name) in enumerate(edges)
    ]


def _rows(columns: Mapping[str, int], paths: Sequence[Sequence[_Place]]) -> list[list[_Place]]:
    """Return what stands in each column, from above to below."""
    rows: list[list[_Place]] = [[] for _ in range(max(columns.values(), default=-1) + 1)]
    for name, column in columns.items():
        rows[column].append(name)
    before: dict[_Place, list[_Place]] = {}
    after: dict[_Place, list[_Place]] = {}
    for path in paths:
        for place in path:
            if not isinstance(place, str):
                rows[place[1]].append(place)
        for left, right in pairwise(path):
            before.setdefault(right, []).append(left)
            after.setdefault(left, []).append(right)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        order: dict[_Place, float] = {}
        for row in rows if forward else reversed(rows):
            beside = before if forward else after
            own = {place: (index + 0.5) / len(row) for index, place in enumerate(row)}
            if order:
                row.sort(
                    key=lambda place, beside=beside, own=own: _middle(  # type: ignore[misc]
                        beside.get(place, ()), order, own[place]
                    )
                )
            # Relative to the column's length: short and long ones stand beside each other, centred.
            order.update((place, (index + 0.5) / len(row)) for index, place in enumerate(row))
    return rows


def _middle(beside: Sequence[_Place], order: Mapping[_Place, float], own: float) -> float:
    known = [order[place] for place in beside if place in order]
    return sum(known) / len(known) if known else own


def _place(rows: Sequence[Sequence[_Place]]) -> tuple[dict[_Place, tuple[int, int]], int, int]:
    """Return the upper left corner of each place, and the size of the whole."""

    def height_of(place: _Place) -> int:
        return BOX_HEIGHT if isinstance(place, str) else LANE

    heights = [
        sum(height_of(place) for place in row) + ROW_GAP * max(len(row) - 1, 0) for row in rows
    ]
    highest = max(heights, default=0)
    found = {}
    for column, (row, height) in enumerate(zip(rows, heights, strict=True)):
        x = MARGIN + column * (BOX_WIDTH + COLUMN_GAP)
        y = MARGIN + (highest - height) // 2
        for place in row:
            found[place] = (x, y)
            y += height_of(place) + ROW_GAP
    width = 2 * MARGIN + len(rows) * (BOX_WIDTH + COLUMN_GAP) - (COLUMN_GAP if rows else 0)
    return found, width, 2 * MARGIN + highest


# --- SVG -----------------------------------------------------------------------------------------


def svg(drawing: Drawing, looks: Mapping[str, Look], *, title: str) -> str:
    """Return a drawing as an SVG element; colours are the page's, by the classes `gz-step-<state>`."""
    head = (
        f'<svg class="gz-graph" role="img" xmlns="http://www.w3.org/2000/svg"'
        f' width="{drawing.width}" height="{drawing.height}"'
        f' viewBox="0 0 {drawing.width} {drawing.height}"><title>{escape(title)}</title>'
        '<defs><marker id="gz-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>'
    )
    lines = [_line(line) for line in drawing.lines]
    boxes = [_box(box, looks.get(box.name, Look())) for box in drawing.boxes]
    return "".join([head, *lines, *boxes, "</svg>"])


def _line(line: Line) -> str:
    path = f"M{line.points[0][0]} {line.points[0][1]}"
    for number, ((x, y), (to_x, to_y)) in enumerate(pairwise(line.points)):
        if number % 2:
            path += f"H{to_x}"
        else:
            middle = (x + to_x) // 2
            path += f"C{middle} {y} {middle} {to_y} {to_x} {to_y}"
    return f'<path class="gz-line" d="{path}" marker-end="url(#gz-arrow)"/>'


def _box(box: Box, look: Look) -> str:
    whole = ": ".join(text for text in (box.name, look.note) if text)
    note_y, name_y = (box.y + 35, box.y + 19) if look.note else (0, box.y + 27)
    drawn = (
        f'<g class="gz-step gz-step-{escape(look.state or "none")}"><title>{escape(whole)}</title>'
        f'<rect x="{box.x}" y="{box.y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>'
        f'<text x="{box.x + 10}" y="{name_y}">{escape(_short(box.name))}</text>'
    )
    if look.note:
        note = escape(_short(look.note, 27))
        drawn += f'<text class="gz-note" x="{box.x + 10}" y="{note_y}">{note}</text>'
    drawn += "</g>"
    return f'<a href="{escape(look.href)}">{drawn}</a>' if look.href else drawn


def _short(text: str, most: int = _MOST_SHOWN) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
