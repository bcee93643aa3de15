"""The encoder's graph against numpy, and its trip through pack and unpack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.contracts import Column
from conjoin.errors import BundleError
from conjoin.graph.builder import MISSING_DATE, Graph
from conjoin.graph.encoder import DATE_FEATURES, MOST_WORDS, Category, DenseView, Encoder, Words
from conjoin.graph.session import Session


def run(encoder, feeds, view=None):
    graph = Graph()
    x = encoder.emit(graph)
    graph.output("out!", x if view is None else view.emit(graph, x), 1)
    return Session(graph.build().SerializeToString(), threads=1).run(feeds)[0]


def column(*values, dtype=object):
    return np.array(values, dtype=dtype).reshape(-1, 1)


def category(name, levels, table, codes=0):
    table = np.array(table, dtype=np.float32)
    names = tuple(f"{name}{k}" for k in range(table.shape[1]))
    return Category(Column(name, "category"), tuple(levels), np.arange(len(levels)), table, names, codes)


DATES = Encoder(dates=(Column("Tag 📅", "date"),), median=np.array([0]), kept=np.arange(len(DATE_FEATURES)))
WHOLE = Encoder(
    numbers=(Column("a b", "number"), Column("yes", "boolean")),
    shift=np.array([1e9, 0]),
    scale=np.array([1e-3, 1]),
    categories=(
        category("größe", ["", "L", "ß"], [[0], [1], [2], [1]], codes=3),
        category("年", ["2020", "2021"], [[0.5, 3], [0.25, 2], [0.1, 0]]),
        category("🐟", ["", "x"], [[2], [3], [9]]),
    ),
    dates=(Column("d", "date"), Column("e", "date")),
    median=np.array([86_400, 0]),
    kept=np.array([0, 5, 6, 10]),
    texts=(
        Words(
            Column("t", "text"),
            ("Hund", "hund,", "été"),
            np.array([0, 0, 1]),
            np.array([[1, 0], [0.5, 2]], dtype=np.float32),
        ),
    ),
    tensors=(Column("v", "tensor", (2, 2)),),
)
ROWS = {
    "a b": column(1e9 + 1, np.nan, dtype=float),
    "yes": column(1, np.inf, dtype=float),
    "größe": column("ß", "never seen"),
    "年": column("2021", ""),
    "🐟": column("", "x"),
    "d": column(MISSING_DATE, 2 * 86_400, dtype=np.int64),
    "e": column(0, 3 * 3600, dtype=np.int64),
    "t": column("hund, mag été Hund", "  "),
    "v": np.arange(8, dtype=np.float32).reshape(2, 2, 2),
}
FEATURES = [
    [0.001, 1, 2, 2, 0.25, 2, np.nan, np.nan, 1970, 0, 1.25, 1, 4, 0, 1, 2, 3],
    [np.nan, np.finfo(np.float32).max, 1, 3, 0.1, 0, 1970, 1, 1970, 3, 0, 0, 0, 4, 5, 6, 7],
]


def test_every_kind_of_column():
    found = run(WHOLE, ROWS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.array(FEATURES, dtype=np.float32), rtol=1e-6)
    assert len(WHOLE.names) == found.shape[1]
    assert WHOLE.names[2:6] == ("größe0", "🐟0", "年0", "年1")
    assert WHOLE.codes == {2: 3}
    assert [c.name for c in WHOLE.columns] == list(ROWS)


@pytest.mark.parametrize("rows", [0, 1, 5000])
def test_any_number_of_rows(rows):
    feeds = {n: np.repeat(v[:1], rows, axis=0) for n, v in ROWS.items()}
    found = run(WHOLE, feeds)
    assert found.shape == (rows, len(WHOLE.names))
    np.testing.assert_allclose(found, np.repeat(np.float32(FEATURES[:1]), rows, axis=0), rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.datetimes(), min_size=1, max_size=200))
def test_dates_are_those_of_the_calendar(moments):
    seconds = np.array(moments, dtype="datetime64[s]").astype(np.int64)
    found = run(DATES, {"Tag 📅": seconds[:, None]})
    wanted = [(m.year, m.month, m.day, m.weekday(), m.hour) for m in moments]
    np.testing.assert_array_equal(found[:, :5], wanted)
    np.testing.assert_array_equal(found[:, 5], (seconds / 86_400).astype(np.float32))


def test_every_day_of_eight_centuries():
    days = np.arange(np.datetime64("1599-12-28"), np.datetime64("2401-01-05"))
    found = run(DATES, {"Tag 📅": days.astype("datetime64[s]").astype(np.int64)[:, None]})
    months = days.astype("datetime64[M]")
    np.testing.assert_array_equal(found[:, 0], days.astype("datetime64[Y]").astype(int) + 1970)
    np.testing.assert_array_equal(found[:, 1], months.astype(int) % 12 + 1)
    np.testing.assert_array_equal(found[:, 2], (days - months).astype(int) + 1)
    np.testing.assert_array_equal(found[:, 3], (days.astype(int) + 3) % 7)


def test_dates_beyond_the_calendar_are_clipped():
    found = run(DATES, {"Tag 📅": column(MISSING_DATE, MISSING_DATE + 1, 2**63 - 1, dtype=np.int64)})
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1:, :5], [[1, 1, 1, 0, 0], [9999, 12, 31, 4, 23]])


def test_long_and_empty_texts():
    one = replace(WHOLE, numbers=(), categories=(), dates=(), tensors=())
    assert run(one, {"t": column("", "")}).tolist() == [[0, 0, 0], [0, 0, 0]]
    found = run(one, {"t": column("Hund " * 1000)})
    assert found[0, 2] == MOST_WORDS
    np.testing.assert_allclose(found[0, 0], (MOST_WORDS - 1) / np.sqrt(MOST_WORDS), rtol=1e-5)


def test_packed_is_unpacked():
    arrays, meta = WHOLE.pack()
    assert all(a.dtype != object for a in arrays.values())
    again = Encoder.unpack(arrays, meta, {})
    assert again.names == WHOLE.names
    assert again.columns == WHOLE.columns
    assert again.codes == WHOLE.codes
    np.testing.assert_array_equal(run(again, ROWS), run(WHOLE, ROWS))
    assert WHOLE.children() == {}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a, m: a.pop("shift"),
        lambda a, m: a.update(shift=np.zeros(5)),
        lambda a, m: a.update({"category0.rows": np.array([0, 1, 99])}),
        lambda a, m: a.update({"category0.rows": np.array([0, 1, -1])}),
        lambda a, m: a.update({"category1.table": np.zeros((3, 7), np.float32)}),
        lambda a, m: a.update({"category0.offsets": np.array([0, 9, 2, 3])}),
        lambda a, m: a.update({"category0.utf8": np.array([255, 255, 255], np.uint8)}),
        lambda a, m: a.update(kept=np.array([99])),
        lambda a, m: a.update({"text0.rows": np.array([0, 0, 5])}),
        lambda a, m: m.pop("dates"),
        lambda a, m: m.update(numbers=[["a b", "number"], ["a b", "boolean"]]),
        lambda a, m: m.update(numbers=[["a b", "tensor"], ["yes", "boolean"]]),
        lambda a, m: m.update(tensors=[["v", [2, -2]]]),
        lambda a, m: m.update(categories=5),
    ],
)
def test_damage_is_found(spoil):
    arrays, meta = WHOLE.pack()
    spoil(arrays, meta)
    with pytest.raises(BundleError, match="encoder does not make sense"):
        Encoder.unpack(arrays, meta, {})


VIEW = DenseView(
    d=3,
    numbers=np.array([0, 2]),
    center=np.float32([1, 0]),
    scale=np.float32([0.5, 0]),
    fill=np.float32([1, 0]),
    flags=np.array([2]),
    code=np.array([1, 1]),
    value=np.float32([0, 1]),
)


def view(x, dense=VIEW):
    graph = Graph()
    graph.output("out!", dense.emit(graph, graph.column(Column("x", "tensor", (3,)))), 1)
    return Session(graph.build().SerializeToString(), threads=1).run({"x": np.float32(x)})[0]


def test_the_dense_view_by_hand():
    huge = np.finfo(np.float32).max
    found = view([[3, 1, 5], [np.nan, 0, np.nan], [huge, 2, -huge], [-huge, 0, 0]])
    z = 1 / np.sqrt(1 + 1 / 9)
    wanted = [[z, 0, 0, 0, 1], [0, 0, 1, 1, 0], [3, 0, 0, 0, 0], [-3, 0, 0, 1, 0]]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert VIEW.width == 5


def test_the_dense_view_packed():
    arrays, meta = VIEW.pack()
    again = DenseView.unpack(arrays, meta, {})
    x = [[3, 1, 5], [np.nan, 0, np.nan]]
    np.testing.assert_array_equal(view(x, again), view(x))
    for name, array in (("numbers", [0, 7]), ("center", [1.0]), ("value", [1.0]), ("flags", [-1])):
        with pytest.raises(BundleError, match="dense view"):
            DenseView.unpack(arrays | {name: np.array(array)}, meta, {})
    with pytest.raises(BundleError, match="dense view"):
        DenseView.unpack(arrays, {}, {})
