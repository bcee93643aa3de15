"""Every kind: pack and unpack, take, concat, and refusal of what does not fit together."""

from __future__ import annotations

import numpy as np
import pytest

from conjoin.errors import OutputsError
from conjoin.outputs import (
    KINDS,
    Boxes,
    Embeddings,
    Labels,
    Masks,
    Output,
    Probabilities,
    Quantiles,
    Ranking,
    Spans,
    Texts,
    Values,
    concat,
    unpack,
)

MASK = np.array([True, False, True])
EXAMPLES: dict[str, Output] = {
    "probabilities": Probabilities([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], ["nein", "да 🙂"], MASK),
    "values": Values([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], MASK),
    "quantiles": Quantiles([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0.1, 0.9]),
    "labels": Labels([0, -1, 1], ["a", "b"]),
    "embeddings": Embeddings(np.arange(6.0).reshape(3, 2)),
    "masks": Masks(np.arange(12).reshape(3, 2, 2), ["ground"]),
    "texts": Texts(["ein Text", "", "日本語"], [0.5, np.nan, -1.0], MASK),
    "ranking": Ranking(["x", "ÿ", "z"], [3.0, 2.0, 1.0], [0, 2, 2, 3]),
    "boxes": Boxes([[0, 0, 1, 1], [1, 1, 2, 2]], [0.5, 0.4], [0, 0], [0, 1, 1, 2], ["cat"]),
    "spans": Spans([0, 4], [3, 9], [0.5, 0.4], [0, 1], [0, 1, 1, 2], ["person", "place"]),
}


def same(a: Output, b: Output) -> None:
    (arrays_a, meta_a), (arrays_b, meta_b) = a.pack(), b.pack()
    assert meta_a == meta_b
    assert arrays_a.keys() == arrays_b.keys()
    for name in arrays_a:
        np.testing.assert_array_equal(arrays_a[name], arrays_b[name])


def test_there_is_an_example_of_every_kind() -> None:
    assert EXAMPLES.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_pack_and_unpack(kind: str) -> None:
    example = EXAMPLES[kind]
    arrays, meta = example.pack()
    assert all(a.dtype.kind in "fiub" for a in arrays.values())
    same(unpack(arrays, meta), example)


@pytest.mark.parametrize("kind", KINDS)
def test_take_and_concat(kind: str) -> None:
    example = EXAMPLES[kind]
    same(concat([example.take([0]), example.take(slice(1, 3))]), example)
    same(example.take(np.array([False, True, False])), example.take([1]))
    assert len(example.take([])) == 0
    same(concat([example.take([2, 0]), example.take([])]), example.take([2, 0]))


@pytest.mark.parametrize("kind", KINDS)
def test_columns_have_a_value_per_row(kind: str) -> None:
    columns = EXAMPLES[kind].columns("m")
    assert columns
    assert all(name.startswith("m") and len(values) == 3 for name, values in columns.items())


def test_unanswered_rows_hold_nothing() -> None:
    assert np.isnan(EXAMPLES["probabilities"].values[1]).all()  # type: ignore[attr-defined]
    assert Labels([0, 1], ["a", "b"], [True, False]).codes.tolist() == [0, -1]
    assert EXAMPLES["probabilities"].labels().names().tolist() == ["nein", None, "да 🙂"]  # type: ignore[attr-defined]


def test_classes_are_aligned_by_name() -> None:
    p = Probabilities([[0.7, 0.3]], ["b", "a"])
    np.testing.assert_array_equal(p.align(["a", "b", "c"]).values, [[0.3, 0.7, 0.0]])
    with pytest.raises(OutputsError, match="classes b are not among a"):
        p.align(["a"])
    np.testing.assert_array_equal(Labels([0, 1, -1], ["b", "a"]).align(["a", "b"]).codes, [1, 0, -1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Probabilities([[0.5, 0.5]], ["a"]), "2 columns but 1 classes"),
        (lambda: Probabilities([[0.5, 0.5]], ["a", "a"]), "doubled: a"),
        (lambda: Probabilities([0.5], ["a"]), "must have 2 axes"),
        (lambda: Values(["x"]), "must be numbers"),
        (lambda: Values([1.0], [True, False]), r"shape \(1,\)"),
        (lambda: Quantiles([[1.0, 2.0]], [0.9, 0.1]), "must rise"),
        (lambda: Quantiles([[1.0]], [1.5]), "lie in"),
        (lambda: Labels([2], ["a", "b"]), "codes must lie in -1 to 1"),
        (lambda: Labels.of(["c"], ["a"]), "labels c are not among a"),
        (lambda: Texts(["a"], [1.0, 2.0]), "1 texts but scores"),
        (lambda: Ranking(["a"], [1.0], [0, 2]), "offsets must begin with 0"),
        (lambda: Boxes([[0, 0, 1]], [1.0], [0], [0, 1], ["a"]), "coords must have shape"),
        (lambda: Spans([3], [1], [1.0], [0], [0, 1], ["a"]), "0 <= start <= end"),
        (lambda: unpack({}, {"kind": "smell"}), "unknown kind"),
        (lambda: Values.unpack({}, {"kind": "values"}), "lack a part"),
        (lambda: concat([Values([1.0]), Labels([0], ["a"])]), "cannot be joined"),
    ],
)
def test_what_does_not_fit_is_refused(make: object, message: str) -> None:
    with pytest.raises(OutputsError, match=message):
        make()  # type: ignore[operator]


def test_texts_say_what_is_known_of_their_words() -> None:
    marked = Texts(["ein Wort", "", "日本語"], confidences=[0.9, 0.5, 0.1], starts=[0.0, 0.5, 2.0])
    same(unpack(*marked.pack()), marked)
    taken = marked.take([2, 0]).confidences
    assert taken is not None
    assert taken.tolist() == [0.1, 0.9, 0.5]
    joined = concat([marked, Texts(["zwei Worte"])])
    assert isinstance(joined, Texts)
    assert joined.offsets is not None
    assert joined.starts is not None
    assert joined.offsets.tolist() == [0, 2, 2, 3, 5]
    assert np.isnan(joined.starts[3:]).all()
    with pytest.raises(OutputsError, match="but confidences of shape"):
        Texts(["ein Wort", "", "x"], confidences=[0.9])
    with pytest.raises(OutputsError, match="offsets do not count the words"):
        Texts(["ein Wort"], confidences=[0.9, 0.1], offsets=[0, 1])
