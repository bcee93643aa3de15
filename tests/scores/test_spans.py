"""Scores of spans: by hand, and as seqeval 1.2.2 counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.errors import OutputsError
from conjoin.formats.spans import from_tags
from conjoin.outputs import Boxes, Spans
from conjoin.scores import estimate, paired, score_of
from conjoin.scores.spans import SCORES, exact_counts


def spans(rows, classes=("a", "b"), answered=None):
    flat = [s for row in rows for s in row]
    return Spans(
        [s[0] for s in flat],
        [s[1] for s in flat],
        np.ones(len(flat)),
        [classes.index(s[2]) for s in flat],
        np.cumsum([0, *map(len, rows)]),
        classes,
        answered,
    )


TRUTH = spans([[(0, 5, "a"), (9, 12, "b")], [(3, 8, "a")], []])
SAID = spans([[(0, 5, "a"), (9, 12, "a")], [(3, 7, "a")], [(0, 2, "b")]], classes=("b", "a"))


def test_by_hand():
    value = {name: score.value(SAID, TRUTH) for name, score in SCORES.items()}
    assert value["f1"] == pytest.approx(2 * 1 / (4 + 3))
    assert value["precision"] == pytest.approx(1 / 4)
    assert value["recall"] == pytest.approx(1 / 3)
    assert value["macro_f1"] == pytest.approx((2 / 5 + 0) / 2)
    assert value["macro_precision"] == pytest.approx((1 / 3 + 0) / 2)
    assert value["macro_recall"] == pytest.approx((1 / 2 + 0) / 2)
    assert value["character_f1"] == pytest.approx(2 * 9 / (5 + 3 + 4 + 2 + 13))
    assert value["overlap_f1"] == pytest.approx(2 * 2 / (4 + 3))
    assert all(score.value(TRUTH, TRUTH) == 1 for score in SCORES.values())


def test_rows_that_do_not_count():
    truth = spans([[(0, 5, "a")], [(3, 8, "a")]], answered=[True, False])
    said = spans([[], [(3, 8, "a")]], answered=[False, True])
    np.testing.assert_array_equal(exact_counts(said, truth), [[0, 0, 1], [np.nan] * 3])
    assert SCORES["f1"].value(said, truth) == 0
    assert SCORES["precision"].value(said, truth) == 0
    nothing = spans([[], []])
    assert np.isnan(SCORES["f1"].value(nothing, nothing))
    assert np.isnan(SCORES["macro_f1"].value(nothing, nothing))
    with pytest.raises(OutputsError, match="the answers must be spans, not boxes"):
        SCORES["f1"].value(Boxes([[0.0, 1.0]], [1.0], [0], [0, 1, 1], ["a"]), truth)


def test_errors_and_pairs():
    assert estimate(SCORES["f1"], SAID, TRUTH).standard_error > 0
    assert paired(score_of("f1", "spans"), TRUTH, SAID, TRUTH).mean < 0


def test_a_span_said_twice_counts_once():
    assert exact_counts(spans([[(0, 5, "a"), (0, 5, "a")]]), spans([[(0, 5, "a")]]))[0].tolist() == [1, 1, 1]


def test_pairs_that_overlap():
    score = SCORES["overlap_f1"]
    true = spans([[(0, 4, "a"), (5, 9, "a")]])
    assert score.value(spans([[(0, 9, "a")]]), true) == pytest.approx(2 / 3)
    assert score.value(spans([[(3, 6, "a"), (8, 12, "a")]]), true) == 1
    assert score.value(spans([[(4, 5, "a")]]), true) == 0
    assert score.value(spans([[(0, 9, "b")]]), true) == 0


SEQEVAL = [  # tags, tags said, and f1_score of seqeval 1.2.2: micro, macro
    (["B-a I-a O B-b", "O B-b"], ["B-a I-a O O", "B-b B-b"], 2 / 3, 0.75),
    (["B-a I-a I-a B-a", "O O"], ["B-a I-a B-a I-a", "B-b O"], 0.0, 0.0),
]


@pytest.mark.parametrize(("true", "said", "micro", "macro"), SEQEVAL)
def test_as_seqeval(true, said, micro, macro):
    made = []
    for rows in (true, said):
        found = [from_tags([f"t{k}" for k in range(len(r.split()))], r.split()) for r in rows]
        made.append(spans([[(s.start, s.end, s.label) for s in row] for row in found]))
    assert SCORES["f1"].value(made[1], made[0]) == pytest.approx(micro, abs=1e-12)
    assert SCORES["macro_f1"].value(made[1], made[0]) == pytest.approx(macro, abs=1e-12)


one = st.tuples(st.integers(0, 9), st.integers(1, 5), st.sampled_from("ab"))
rows_ = st.lists(st.lists(one.map(lambda s: (s[0], s[0] + s[1], s[2])), max_size=4), min_size=1, max_size=4)


@given(rows_, rows_)
@settings(deadline=None)
def test_any_spans(a, b):
    n = min(len(a), len(b))
    said, true = spans(a[:n]), spans(b[:n])
    for name in ("f1", "character_f1", "overlap_f1", "macro_f1"):
        there, back = SCORES[name].value(said, true), SCORES[name].value(true, said)
        assert np.isnan(there) or 0 <= there <= 1
        if name != "overlap_f1":
            assert there == pytest.approx(back, nan_ok=True)
    exact = {(r, *s) for r, row in enumerate(a[:n]) for s in row} & {
        (r, *s) for r, row in enumerate(b[:n]) for s in row
    }
    assert exact_counts(said, true)[:, 0].sum() == len(exact)
