"""Graphs as pictures: nothing overlaps, everything is inside, the same graph gives the same picture."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.pipelines.language import drawing
from apps.pipelines.language.drawing import BOX_HEIGHT, BOX_WIDTH, Drawing, Look, lay_out, svg


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    count = draw(st.integers(0, 14))
    names = [f"s{number}" for number in range(count)]
    needs = {
        name: draw(st.lists(st.sampled_from(names[:number]), unique=True, max_size=4))
        if number
        else []
        for number, name in enumerate(names)
    }
    return {name: needs[name] for name in draw(st.permutations(names))}


def crosses(drawn: Drawing, x: float, y: float) -> bool:
    return any(
        box.x < x < box.x + BOX_WIDTH and box.y < y < box.y + BOX_HEIGHT for box in drawn.boxes
    )


@given(graphs())
def test_no_two_boxes_overlap_and_all_are_inside(needs):
    drawn = lay_out(needs)
    assert [box.name for box in drawn.boxes] == list(needs)
    for one, other in combinations(drawn.boxes, 2):
        assert abs(one.x - other.x) >= BOX_WIDTH or abs(one.y - other.y) >= BOX_HEIGHT
    for box in drawn.boxes:
        assert 0 <= box.x <= drawn.width - BOX_WIDTH
        assert 0 <= box.y <= drawn.height - BOX_HEIGHT


@given(graphs())
def test_each_step_stands_right_of_all_it_needs(needs):
    at = {box.name: box.x for box in lay_out(needs).boxes}
    assert all(
        at[need] + BOX_WIDTH <= at[name] for name, needed in needs.items() for need in needed
    )


@settings(max_examples=40)
@given(graphs())
def test_each_need_has_a_line_that_runs_through_no_box(needs):
    drawn = lay_out(needs)
    assert sorted((line.need, line.name) for line in drawn.lines) == sorted(
        (need, name) for name, needed in needs.items() for need in needed
    )
    for line in drawn.lines:
        for (x, y), (to_x, to_y) in zip(line.points, line.points[1:], strict=False):
            assert x <= to_x
            # A level piece through a column, or a bend between two of them.
            assert not any(
                crosses(drawn, x + (to_x - x) * part / 8, y) for part in range(9) if y == to_y
            )


@given(graphs())
def test_the_same_graph_gives_the_same_picture(needs):
    turned = {name: list(reversed(needed)) for name, needed in needs.items()}
    assert lay_out(needs) == lay_out(turned)


def test_names_nobody_defines_and_circles_do_no_harm():
    drawn = lay_out({"a": ["b", "nope"], "b": ["a"], "c": ["c"], "d": []})
    assert len(drawn.boxes) == 4
    assert lay_out({}).boxes == ()


def test_a_thousand_steps_are_drawn_without_lanes_for_everything():
    needs = {f"s{n}": [f"s{m}" for m in range(max(0, n - 20), n)] for n in range(1000)}
    drawn = lay_out(needs)
    assert len(drawn.boxes) == 1000
    assert all(len(line.points) == 2 for line in drawn.lines)


NASTY = ["<script>alert(1)</script>", '"><img src=x>', "a&b", "'", "]]>", "x" * 300]


@given(st.lists(st.sampled_from(NASTY) | st.text(min_size=1, max_size=40), unique=True, max_size=6))
def test_no_text_gets_out_of_its_place(names):
    names = [name for name in names if name.isprintable()]
    looks = {name: Look(note=name, state="failed", href=f"/x?{name}") for name in names}
    picture = svg(
        lay_out({name: names[:number] for number, name in enumerate(names)}),
        looks,
        title="".join(names),
    )
    tree = ElementTree.fromstring(picture)
    kinds = {element.tag.partition("}")[2] for element in tree.iter()}
    assert kinds <= {"svg", "title", "defs", "marker", "path", "g", "a", "rect", "text"}
    titles = [element.text for element in tree.iter() if element.tag.endswith("title")]
    assert titles == ["".join(names) or None, *(f"{name}: {name}" for name in names)]


@pytest.mark.parametrize("state", ["", "completed"])
def test_a_box_says_its_name_and_its_note(state):
    picture = svg(lay_out({"clean": []}), {"clean": Look(note="completed", state=state)}, title="p")
    assert f'class="gz-step gz-step-{state or "none"}"' in picture
    assert ">clean</text>" in picture
    assert ">completed</text>" in picture
    assert drawing._short("n" * 30) == "n" * 21 + "…"
