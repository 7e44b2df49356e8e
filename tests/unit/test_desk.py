"""The parts of the pages that need no server: text made safe, forms from schemas, stories, pictures, cursors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import BaseModel, Field

from casework.errors import InputInvalid
from casework.execution import Event
from graphs.support import builder
from server.paging import cursor_of, position_of
from server.storable import refuse_unstorable
from server.ui import text
from server.ui.forms import fields_of, read
from server.ui.picture import draw
from server.ui.story import STORY, told

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain, ünïcode, 日本語, ⚠️", "plain, ünïcode, 日本語, ⚠️"),
        ("tab\tand\nline\r\nend", "tab\tand\nline\nend"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\x00\x1b[31m", "⟨U+0000⟩⟨U+001B⟩[31m"),
        ("pay\u200bpal", "pay⟨U+200B⟩pal"),
        ("👩‍👧", "👩‍👧"),
        ("a\u200db", "a⟨U+200D⟩b"),
        ("\U000e0041", "⟨U+E0041⟩"),
    ],
)
def test_what_deceives_is_written_out(value: str, shown: str) -> None:
    assert text.visible(value) == shown


@given(some.text())
def test_nothing_deceiving_is_left(value: str) -> None:
    assert not text.DECEIVING.search(str(text.visible(value)))


def test_values_read_as_people_write_them() -> None:
    args = {"amount_minor": -123456, "currency": "EUR", "to": {"city": "Köln", "floors": [1]}, "ok": True}
    assert list(text.rows_of(args)) == [
        text.Row("amount_minor", "-123456", "-1,234.56 EUR"),
        text.Row("currency", "EUR"),
        text.Row("to.city", "Köln"),
        text.Row("to.floors", "[\n  1\n]"),
        text.Row("ok", "true"),
    ]
    assert text.brief("a" * 200, 10) == "aaaaaaaaaa … (190 more characters)"
    assert text.sentence("already decided") == "Already decided."
    assert (text.usd(0), text.usd(1234)) == ("$0", "$0.0012")


@pytest.mark.parametrize(
    ("apart", "words"),
    [
        (timedelta(seconds=1), "just now"),
        (timedelta(seconds=75), "1 min 15 s ago"),
        (timedelta(hours=2), "2 h ago"),
        (-timedelta(days=2, hours=4, minutes=9), "in 2 d 4 h"),
    ],
)
def test_times_are_told_from_now(apart: timedelta, words: str) -> None:
    assert text.ago(NOW - apart, NOW) == words


class Inner(BaseModel):
    street: str = Field(max_length=120, description="Street and number.")
    floor: int | None = None


class Args(BaseModel):
    kind: Literal["a", "b"]
    amount: int = Field(gt=0, le=10)
    share: float = 0.5
    sure: bool = False
    note: str = Field(default="", max_length=1000)
    where: Inner
    tags: list[str] = []


def test_a_form_has_one_input_per_property() -> None:
    values = {"kind": "b", "amount": 3, "where": {"street": "Weg 1"}, "tags": ["x"]}
    fields = {f.name: f for f in fields_of(Args.model_json_schema(), values, "args")}
    assert {name: (f.kind, f.value, f.required) for name, f in fields.items()} == {
        "args.kind": ("choice", "b", True),
        "args.amount": ("number", "3", True),
        "args.share": ("number", "", False),
        "args.sure": ("choice", "", False),
        "args.note": ("long", "", False),
        "args.where.street": ("text", "Weg 1", True),
        "args.where.floor": ("number", "", False),
        "args.tags": ("json", '[\n  "x"\n]', False),
    }
    assert fields["args.where.street"].attributes == {"maxlength": "120"}
    assert fields["args.where.street"].help == "Street and number."
    assert fields["args.kind"].choices == ["a", "b"]


def test_a_form_is_read_back_as_the_schemas_json() -> None:
    typed = {
        "args.kind": "a",
        "args.amount": "7",
        "args.share": "0.25",
        "args.sure": "true",
        "args.note": "one\r\ntwo",
        "args.where.street": " Weg 2",
        "args.tags": '["y"]',
        "digest": "not an argument",
    }
    assert read(Args.model_json_schema(), typed, "args") == {
        "kind": "a",
        "amount": 7,
        "share": 0.25,
        "sure": True,
        "note": "one\ntwo",
        "where": {"street": " Weg 2"},
        "tags": ["y"],
    }


@pytest.mark.parametrize(
    ("field", "typed"), [("args.amount", "7.5"), ("args.amount", ""), ("args.share", "half"), ("args.tags", "[")]
)
def test_what_is_no_number_or_no_json_is_named(field: str, typed: str) -> None:
    with pytest.raises(InputInvalid) as refused:
        read(Args.model_json_schema(), {"args.amount": "1", field: typed}, "args")
    assert refused.value.field == field


def event(type_: str, **data: Any) -> Event:
    return Event(seq=1, type=type_, data=data, at=NOW)


def test_every_known_event_is_told_even_without_its_data() -> None:
    for type_ in STORY:
        assert told(event(type_)).words.title
    assert told(event("something.new", a=1)).words.title == "something.new"


def test_an_events_data_is_never_taken_for_a_format() -> None:
    line = told(event("model.answered", specialist="billing", text="{by} {0}", calls=[{"tool": "{specialist.x}"}]))
    assert (line.words.title, line.words.text) == ("billing proposes {specialist.x}", "{by} {0}")
    line = told(event("input.screened", suspicions=["{0.__class__}"]))
    assert line.words.text == "{0.__class__}"


def test_the_support_graph_is_drawn_top_down() -> None:
    graph = builder.compile().get_graph()
    edges = [(e.source, e.target) for e in graph.edges]
    picture = draw(list(graph.nodes), edges, "__start__")
    top = {box.node: box.y for box in picture.boxes}
    assert set(top) == set(graph.nodes)
    assert top["__start__"] < top["screen_input"] < top["router"] < top["billing"] == top["shipping"] == top["general"]
    assert top["billing"] < top["check_calls"] < top["handle_call"] < top["__end__"]
    back = {(way.source, way.target) for way in picture.ways if way.back}
    specialists = ("billing", "shipping", "general")
    expected = {("check_calls", "router")}
    expected |= {(node, s) for node in ("check_calls", "handle_call", "settle_call") for s in specialists}
    assert back == expected
    assert {(w.source, w.target) for w in picture.ways} == {e for e in edges if e[0] != e[1]}
    spots = sorted((box.y, box.x, box.width) for box in picture.boxes)
    for (y1, x1, width), (y2, x2, _) in pairwise(spots):
        assert y1 != y2 or x1 + width <= x2
        assert x1 >= 0
        assert x1 + width <= picture.width


def test_a_graph_of_one_node_and_a_loop_can_be_drawn() -> None:
    assert [box.node for box in draw(["a"], [("a", "a")], "a").boxes] == ["a"]
    ring = draw(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "a")], "a")
    assert [way.back for way in ring.ways] == [False, False, True]


@given(some.datetimes(timezones=some.just(UTC)), some.uuids())
def test_a_cursor_comes_back_as_it_went(at: datetime, row_id: UUID) -> None:
    assert position_of(cursor_of(at, row_id)) == (at, row_id)


def test_a_cursor_is_refused_when_it_is_not_ours() -> None:
    here = cursor_of(NOW.astimezone(timezone(timedelta(hours=1))), uuid4())
    assert position_of(here) is not None
    for broken in ("", "x", here[:-5], "é", cursor_of(NOW.replace(tzinfo=None), uuid4())):
        with pytest.raises(InputInvalid) as refused:
            position_of(broken)
        assert refused.value.field == "cursor"


@given(
    some.recursive(
        some.none()
        | some.booleans()
        | some.integers()
        | some.text(some.characters(codec="utf-8", exclude_characters="\x00")),
        lambda inner: some.lists(inner) | some.dictionaries(some.just("a"), inner),
    )
)
def test_what_postgres_keeps_is_let_through(value: Any) -> None:
    refuse_unstorable(value)
