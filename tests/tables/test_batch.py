"""Whatever holds a table becomes a batch."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from conjoin.errors import ColumnError, InputError
from conjoin.tables import TableWarning, batch_of

NOON = dt.datetime(2020, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))


def same(found, wanted):
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def texts(*values):
    return np.array(values, dtype=object)


def test_pandas_of_every_type():
    frame = pd.DataFrame(
        {
            "whole": [1, 2, 3],
            "gaps": pd.array([1, None, 3], dtype="Int64"),
            "single": np.array([1, 2, 3], dtype=np.float32),
            "truth": [True, False, True],
            "maybe": pd.array([True, None, False], dtype="boolean"),
            "text": ["x", None, "y"],
            "string": pd.array(["x", pd.NA, "y"], dtype="string"),
            "category": pd.Categorical(["x", None, "y"]),
            "codes": pd.Categorical([3, 1, 3]),
            "zoned": pd.to_datetime(["2020-01-01", "2020-07-01", None]).tz_localize("Europe/Paris"),
            "decimal": [Decimal("1.5"), None, Decimal(2)],
            "bytes": [b"a", b"\xff", None],
            "mixed": [1, "a", None],
            "span": pd.to_timedelta(["1 day", None, "1 s"]),
            "arrow": pd.array([1, None, 3], dtype="int64[pyarrow]"),
        },
        index=[7, 7, 9],
    )
    batch = batch_of(frame)
    assert list(batch) == list(frame.columns)
    same(batch["whole"], np.array([1, 2, 3]))
    same(batch["gaps"], np.array([1, np.nan, 3]))
    same(batch["single"], np.array([1, 2, 3], dtype=np.float32))
    same(batch["truth"], np.array([True, False, True]))
    same(batch["maybe"], texts("True", None, "False"))
    for name in ("text", "string", "category"):
        same(batch[name], texts("x", None, "y"))
    same(batch["codes"], texts("3", "1", "3"))
    assert batch["zoned"].astype("datetime64[s]").tolist()[0] == dt.datetime(2019, 12, 31, 23)
    assert batch["zoned"].astype("datetime64[s]").tolist()[1] == dt.datetime(2020, 6, 30, 22)
    assert np.isnat(batch["zoned"][2])
    same(batch["decimal"], np.array([1.5, np.nan, 2]))
    same(batch["bytes"], texts("a", "\ufffd", None))
    same(batch["mixed"], texts("1", "a", None))
    same(batch["span"], np.array([86400, np.nan, 1]))
    same(batch["arrow"], np.array([1, np.nan, 3]))


@pytest.mark.parametrize("make", [pl.DataFrame, pa.table, dict])
def test_other_frames(make):
    batch = batch_of(
        make(
            {
                "n": [1, None],
                "f": [0.5, None],
                "b": [True, None],
                "s": ["x", None],
                "d": [dt.date(2020, 2, 29), None],
                "z": [NOON, None],
                "c": [Decimal("1.5"), None],
                "t": [dt.time(1, 0, 1), None],
                "v": [[1.0, 2.0], [3.0, 4.0]],
            }
        )
    )
    same(batch["n"], np.array([1, np.nan]))
    same(batch["f"], np.array([0.5, np.nan]))
    same(batch["b"], texts("True", None))
    same(batch["s"], texts("x", None))
    assert batch["d"][0] == np.datetime64("2020-02-29")
    assert np.isnat(batch["d"][1])
    assert batch["z"][0] == np.datetime64("2020-01-01T10:00")
    same(batch["c"], np.array([1.5, np.nan]))
    same(batch["t"], np.array([3601, np.nan]))
    same(batch["v"], np.array([[1, 2], [3, 4]], dtype=np.float32))


def test_lazy_frame_is_collected():
    same(batch_of(pl.LazyFrame({"a": [1, 2]}))["a"], np.array([1, 2]))


def test_arrays_rows_and_one_row():
    same(batch_of(np.eye(2))["x1"], np.array([0.0, 1.0]))
    assert list(batch_of(np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]))) == ["a", "b"]
    rows = batch_of([{"a": 1, "b": "x"}, {"b": "y", "c": True}])
    same(rows["a"], np.array([1, np.nan]))
    same(rows["b"], texts("x", "y"))
    same(rows["c"], texts(None, "True"))
    one = batch_of({"a": 1.5, "b": "x", "c": None})
    same(one["a"], np.array([1.5]))
    same(one["b"], texts("x"))
    assert np.isnan(one["c"][0])


def test_arrays_of_every_kind():
    batch = batch_of(
        {
            "masked": np.ma.array([1, 2], mask=[False, True]),
            "masked_text": np.ma.array(["a", "b"], mask=[True, False]),
            "half": np.array([1, 2], dtype=np.float16),
            "tiny": np.array([1, 2], dtype=np.uint8),
            "text": np.array(["a", "b"]),
            "bytes": np.array([b"a", b"b"]),
            "series": pd.Series([1, 2], index=[5, 6]),
            "infinite": [np.inf, -np.inf],
            "column": np.array([[1.0], [2.0]]),
            "stamps": [pd.Timestamp("2020-01-01"), pd.NaT],
            "absent": [None, None],
            "both": [1, 2.5],
            "range": range(2),
        }
    )
    same(batch["masked"], np.array([1, np.nan]))
    same(batch["masked_text"], texts(None, "b"))
    same(batch["half"], np.array([1.0, 2.0]))
    same(batch["tiny"], np.array([1, 2], dtype=np.uint8))
    same(batch["text"], texts("a", "b"))
    same(batch["bytes"], texts("a", "b"))
    same(batch["series"], np.array([1, 2]))
    same(batch["infinite"], np.array([np.inf, -np.inf]))
    same(batch["column"], np.array([1.0, 2.0]))
    assert batch["stamps"][0] == np.datetime64("2020-01-01")
    assert np.isnat(batch["stamps"][1])
    same(batch["absent"], np.array([np.nan, np.nan]))
    same(batch["both"], np.array([1, 2.5]))
    same(batch["range"], np.array([0, 1]))


def test_integers_beyond_float64_are_names():
    close = [2**53, 2**53 + 1]
    for values in (close, np.array(close), pd.array(close, dtype="Int64"), [10**30, 10**30 + 1]):
        with pytest.warns(TableWarning, match=r"'id'.*2\*\*53"):
            found = batch_of({"id": values})["id"]
        assert found.tolist() == [str(v) for v in list(values)]
    with pytest.warns(TableWarning, match="'id'"):
        gaps = batch_of(pl.DataFrame({"id": [2**53, 2**53 + 1, None]}))["id"]
    assert gaps.tolist() == ["9007199254740992", "9007199254740993", None]
    nanoseconds = np.array([10**18, 10**18 + 10**9])  # float64 tells these apart
    same(batch_of({"t": nanoseconds})["t"], nanoseconds)


def test_names_may_be_anything():
    batch = batch_of({"größe cm": [1], "年齢": [2], "🐟": [3], 5: [4], "": [5]})
    assert list(batch) == ["größe cm", "年齢", "🐟", "5", "column4"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"]), "doubled: 'a'"),
        (pa.table([[1], [2]], names=["a", "a"]), "doubled: 'a'"),
        ({1: [1], "1": [2]}, "doubled: '1'"),
        ({"a": [1, 2], "b": [1, 2], "c": [1]}, r"'c' has 1, the others 2"),
        ({"a": "text", "b": [1]}, "'a' is one string"),
        ({"a": 5, "b": [1, 2]}, "'a' is one value"),
        ({"a": np.array([1j])}, "complex"),
        ({"a": {"b": 1}, "c": [1]}, "'a' is a dict"),
        ({"a": np.array([["x", "y"]])}, "not numbers"),
    ],
)
def test_columns_that_are_none(data, words):
    with pytest.raises(ColumnError, match=words):
        batch_of(data)


@pytest.mark.parametrize("data", [np.zeros(3), [1, 2], [[1], [2]], 5, "a.csv", None])
def test_what_is_no_table(data):
    with pytest.raises(InputError):
        batch_of(data)


def test_zero_rows():
    batch = batch_of(pd.DataFrame({"a": np.zeros(0), "b": np.zeros(0, dtype=object)}))
    assert {n: len(v) for n, v in batch.items()} == {"a": 0, "b": 0}
