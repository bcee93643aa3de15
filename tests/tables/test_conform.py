"""A batch becomes the feeds of a graph."""

from __future__ import annotations

import datetime as dt
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conjoin.contracts import Column
from conjoin.errors import ColumnError
from conjoin.tables import columns_of, conform, name_of
from conjoin.tables.conform import MISSING_DATE, seconds_of

AGE, JOB, NOTE = Column("age", "number"), Column("job", "category"), Column("note", "text")
DAY, YES, VECTOR = Column("day", "date"), Column("yes", "boolean"), Column("v", "tensor", (2,))


def one(column, values):
    return conform({column.name: values}, [column])[column.name]


@pytest.mark.parametrize(
    "values",
    [
        [3, None],
        np.array([3.0, np.nan]),
        np.array([3.0, np.nan], dtype=np.float32),
        ["3", ""],
        ["3.0", "NA"],
        [" 3 ", "?"],
        [3.0, "null"],
        [Decimal(3), None],
        np.array(["3", "nan"]),
        pd.Series([3, None]),
        pd.array([3, None], dtype="Int64"),
        np.ma.array([3, 4], mask=[False, True]),
        [np.int8(3), np.float64("nan")],
    ],
)
def test_numbers_of_other_types(values):
    found = one(AGE, values)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[3], [np.nan]])


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        (AGE, ["3", "abc", "x"], "'age' must be a number; row 1 holds 'abc'"),
        (AGE, ["1_000"], "row 0 holds '1_000'"),
        (AGE, np.zeros((2, 3)), "shape"),
        (AGE, [dt.date(2020, 1, 1)], "number"),
        (DAY, ["2020-01-01", "soon"], "'day' must be a date; row 1 holds 'soon'"),
        (DAY, ["2020-02-30"], "2020-02-30"),
        (DAY, [1e30], "date"),
        (YES, ["true", "perhaps"], "'yes' must be a boolean; row 1 holds 'perhaps'"),
        (VECTOR, np.zeros((3, 4)), "shape"),
        (VECTOR, ["a"], "tensor"),
    ],
)
def test_values_that_cannot_be_read(column, values, words):
    with pytest.raises(ColumnError, match=words):
        one(column, values)


def test_a_category_has_one_spelling():
    for values in ([3, 1], [3.0, 1.0], ["3", "1"], ["3.0", "1.00"], [" 3", "1 "], pd.Categorical([3, 1])):
        assert one(JOB, values).tolist() == [["3"], ["1"]]
    for values in ([True, False], ["true", "false"], ["TRUE", "FALSE"], np.array([True, False])):
        assert one(JOB, values).tolist() == [["True"], ["False"]]
    for values in ([None], [np.nan], [""], ["NA"], [pd.NA], [pd.NaT], ["None"], [" "]):
        assert one(JOB, values).tolist() == [[""]]
    assert one(JOB, ["00123", "1.50", "v1.0", "?"]).tolist() == [["00123"], ["1.50"], ["v1.0"], ["?"]]


@given(st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.text(), st.booleans()))
def test_the_spelling_of_a_spelling_is_itself(value):
    assert name_of(name_of(value)) == name_of(value)


def test_booleans():
    for values in (
        [True, None, False],
        ["true", "", "False"],
        ["yes", "NA", "no"],
        [1, None, 0],
        np.array([1.0, np.nan, 0.0]),
        ["T", "?", "F"],
    ):
        np.testing.assert_array_equal(one(YES, values), [[1], [np.nan], [0]])


def test_dates():
    at = 1_583_020_800  # 2020-03-01
    for values in (
        ["2020-03-01", ""],
        ["2020-03-01T00:00:00Z", "NA"],
        ["2020-03-01 02:00:00+02:00", None],
        ["1.3.2020", None],
        ["2020/3/1", None],
        [dt.date(2020, 3, 1), None],
        [dt.datetime(2020, 3, 1, tzinfo=dt.UTC), None],
        [pd.Timestamp("2020-03-01"), pd.NaT],
        np.array(["2020-03-01", "NaT"], dtype="datetime64[D]"),
        np.array(["2020-03-01", "NaT"], dtype="datetime64[ns]"),
        [float(at), None],
        [at * 1000, None],
        [at * 10**9, None],
    ):
        assert one(DAY, values).tolist() == [[at], [MISSING_DATE]]
    assert one(DAY, np.array(["1969-12-31T23:59:59.5"], dtype="datetime64[ms]")).tolist() == [[-1]]


@given(st.datetimes())
def test_dates_as_text_are_the_same_dates(moment):
    wanted = np.datetime64(moment, "s").astype(np.int64)
    assert seconds_of(moment.isoformat()) == wanted
    assert seconds_of(moment.isoformat(sep=" ")) == wanted


def test_texts_keep_their_words():
    assert one(NOTE, ["Two  words\t\nand more", None, "NA"]).tolist() == [["Two words and more"], [""], [""]]


def test_tensors():
    assert one(VECTOR, [[1, 2], [3, 4]]).dtype == np.float32
    assert one(VECTOR, np.array([1.0, 2.0])).shape == (1, 2)


def test_scalars_are_one_row_and_other_columns_are_ignored():
    feeds = conform({"job": "cook", "more": 5, "age": 31}, [AGE, JOB])
    assert {n: v.tolist() for n, v in feeds.items()} == {"age": [[31.0]], "job": [["cook"]]}
    frame = pd.DataFrame({"x": [1], "job": ["cook"], "age": [31]})
    assert conform(frame, [AGE])["age"].tolist() == [[31.0]]


def test_missing_columns_are_named_with_the_nearest():
    with pytest.raises(ColumnError, match=r"column 'age' is missing.*there are Age, job; did you mean 'Age'"):
        conform({"Age": [1], "job": ["x"]}, [AGE, JOB])
    with pytest.raises(ColumnError, match=r"columns 'age', 'job' are missing.*there are none"):
        conform({}, [AGE, JOB])


def test_unequal_lengths():
    with pytest.raises(ColumnError, match="equally long"):
        conform({"age": [1, 2], "job": ["x"]}, [AGE, JOB])


def test_zero_rows():
    feeds = conform({"age": [], "job": np.array([], dtype=object), "day": []}, [AGE, JOB, DAY])
    assert {n: v.shape for n, v in feeds.items()} == {"age": (0, 1), "job": (0, 1), "day": (0, 1)}


def test_twice_is_once():
    first = conform({"age": [1, None], "job": ["x", None], "day": ["2020-01-01", ""]}, [AGE, JOB, DAY])
    again = conform(first, [AGE, JOB, DAY])
    assert all(np.array_equal(first[n], again[n], equal_nan=n == "age") for n in first)


def test_one_row_costs_microseconds():
    columns = [Column(f"n{k}", "number") for k in range(10)] + [
        Column(f"c{k}", "category") for k in range(10)
    ]
    row = {c.name: np.array([1.5]) if c.type == "number" else np.array(["x"], dtype=object) for c in columns}
    best = min(_cpu(lambda: conform(row, columns), 200) for _ in range(5))
    assert best < 300e-6  # about 40 on a free machine


def _cpu(call, times):
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


def test_types_are_guessed():
    n = 40
    words = [f"the {k} quick brown foxes" for k in range(n)]
    batch = {
        "whole": np.arange(n),
        "real": np.linspace(0, 1, n),
        "bool": np.arange(n) > 3,
        "bool text": np.array(["true", "False", None, "TRUE"] * 10, dtype=object),
        "numbers with holes": np.array(["1", "2.5", "?", None] * 10, dtype=object),
        "numbers as text": np.array(["1", "2"] * 20, dtype=object),
        "dates": np.array(["2020-01-01", "2020-01-02T03:04", None, ""] * 10, dtype=object),
        "stamps": np.array(["2020-01-01"] * n, dtype="datetime64[s]"),
        "text": np.array(words, dtype=object),
        "few texts": np.array(words[:4] * 10, dtype=object),
        "ids": np.array([f"id-{k}" for k in range(n)], dtype=object),
        "nothing": np.array([None] * n, dtype=object),
        "vectors": np.zeros((n, 3)),
    }
    types = [c.type for c in columns_of(batch)]
    wanted = "number number boolean boolean number category date date text category category category tensor"
    assert types == wanted.split()
    assert columns_of(batch)[-1].shape == (3,)
    conform(batch, columns_of(batch))
