"""Scores of embeddings, by scipy and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr, spearmanr

from conjoin.errors import OutputsError
from conjoin.outputs import Embeddings, Labels, Values
from conjoin.scores import estimate, paired, score_of


def value(name, answer, truth, **more):
    return score_of(name, "embeddings").value(answer, truth, **more)


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, (12, 2), elements=st.integers(-3, 3)), st.sampled_from([1.0, 1e-9, 1e9]))
def test_scipy_gives_the_same(columns, scale):
    x, y = columns.T * scale
    if not (np.ptp(x) > 0 and np.ptp(y) > 0):
        assert np.isnan(value("spearman", Values(x), Values(y)))
        return
    assert value("spearman", Values(x), Values(y)) == pytest.approx(spearmanr(x, y)[0], abs=1e-9)
    assert value("pearson", Values(x), Values(y)) == pytest.approx(pearsonr(x, y)[0], abs=1e-9)


def test_missing_rows_do_not_count():
    rng = np.random.default_rng(0)
    pairs, gold = rng.normal(size=(30, 2, 4)), rng.normal(size=30)
    answer = Embeddings(pairs, np.arange(30) % 3 > 0)
    truth = Values(gold, np.arange(30) % 5 > 0)
    kept = answer.answered & truth.answered
    some = value("spearman", Embeddings(pairs[kept]), Values(gold[kept]))
    assert value("spearman", answer, truth) == pytest.approx(some, abs=1e-12)


def test_recall_counts_partners_that_are_found():
    left = np.eye(4)
    right = np.array([[1.0, 0, 0, 0], [0.9, 0.4, 0, 0], [0, 0, 1, 0], [0, 0, 0.5, -1]])
    pairs = Embeddings(np.stack([left, right], axis=1))
    assert value("recall@1", pairs, Values(np.ones(4))) == pytest.approx(3 / 4)
    assert value("recall@5", pairs, Values(np.ones(4))) == 1
    assert value("recall@1", pairs, Values([1.0, 0, 1, 0])) == 1


def test_estimates_and_pairs_work():
    rng = np.random.default_rng(0)
    gold = rng.normal(size=200)
    good, bad = (Values(gold + s * rng.normal(size=200)) for s in (0.3, 2.0))
    for name in ("spearman", "pearson"):
        score = score_of(name, "embeddings")
        found = estimate(score, good, Values(gold))
        assert found.low < score.value(good, Values(gold)) < found.high
        assert paired(score, good, bad, Values(gold)).mean < 0


def test_what_cannot_be_scored_is_told():
    with pytest.raises(OutputsError, match="two vectors a row"):
        value("spearman", Embeddings(np.ones((2, 3))), Values([1.0, 2.0]))
    with pytest.raises(OutputsError, match="truth of values"):
        value("pearson", Values([1.0]), Labels.of(["a"]))
    assert np.isnan(value("recall@1", Values([1.0]), Values([1.0])))
