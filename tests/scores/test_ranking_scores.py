"""Scores of rankings: by hand, against numbers that ranx 0.3.21 gave, and bad input."""

import math

import numpy as np
import pytest

from conjoin.errors import InputError, OutputsError
from conjoin.outputs import Ranking, Values
from conjoin.scores import estimate, paired, score_of
from conjoin.scores.ranking import MEASURES, SCORES, parsed

# np.random.default_rng(12): 40 queries, 30 documents, gains 0 to 3, runs of 20; mean values by ranx 0.3.21
GIVEN: dict[str, float] = {
    "ndcg": 0.7035277751228074,
    "ndcg@10": 0.6028859542323962,
    "ndcg_burges@10": 0.6169402054584175,
    "dcg@10": 4.631718889555392,
    "mrr": 0.8316666666666667,
    "mrr@3": 0.8291666666666666,
    "map": 0.48559388787128144,
    "map@5": 0.3162117604617604,
    "recall@10": 0.559375,
    "precision@10": 0.3475,
    "precision": 0.25875000000000004,
    "f1@10": 0.4172117710720652,
    "hits@3": 0.95,
    "r_precision": 0.4522132034632035,
}


def world():
    rng = np.random.default_rng(12)
    gains = (rng.random((40, 30)) < 0.2) * rng.integers(1, 4, (40, 30))
    gains[0] = 0
    noise = gains + 2 * rng.normal(size=gains.shape)
    lists = np.argsort(-noise, axis=1)[:, :20]
    scores = np.take_along_axis(noise, lists, axis=1)
    offsets = np.arange(41) * 20
    row, item = np.nonzero(gains)
    truth = Ranking(item, gains[row, item], np.searchsorted(row, np.arange(41)))
    return Ranking(lists.ravel(), scores.ravel(), offsets), truth


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_values_are_those_of_ranx(name):
    assert SCORES[name].value(*world()) == pytest.approx(GIVEN[name], abs=1e-9)


def test_by_hand():
    run = Ranking(["a", "b", "c", "x"], [4.0, 3.0, 2.0, 1.0], [0, 3, 4])
    truth = Ranking(["b", "c", "z", "y"], [2.0, 1.0, 1.0, 1.0], [0, 3, 4])
    want = {
        "ndcg": (2 / math.log2(3) + 1 / 2) / (2 + 1 / math.log2(3) + 1 / 2) / 2,
        "ndcg@2": (2 / math.log2(3)) / (2 + 1 / math.log2(3)) / 2,
        "ndcg_burges@2": (3 / math.log2(3)) / (3 + 1 / math.log2(3)) / 2,
        "dcg@2": 2 / math.log2(3) / 2,
        "mrr": 1 / 4,
        "mrr@1": 0,
        "map": (1 / 2 + 2 / 3) / 3 / 2,
        "map@2": 1 / 2 / 3 / 2,
        "recall@2": 1 / 3 / 2,
        "precision@2": 1 / 2 / 2,
        "precision": 2 / 3 / 2,
        "f1@2": (2 * (1 / 2) * (1 / 3) / (5 / 6)) / 2,
        "hits@1": 0,
        "hits@2": 1 / 2,
        "r_precision": 2 / 3 / 2,
    }
    for name, value in want.items():
        assert SCORES[name].value(run, truth) == pytest.approx(value, abs=1e-12), name
    assert {parsed(n)[0] for n in want} == set(MEASURES)


def test_rows_without_truth_do_not_count_and_rows_without_answer_count_zero():
    truth = Ranking(["a", "a"], [1.0, 1.0], [0, 1, 2, 2, 2], [True, True, False, True])
    run = Ranking(["a", "a", "a"], [1.0] * 3, [0, 1, 1, 2, 3], [True, False, True, True])
    table = SCORES["mrr"].statistics(run, truth)
    np.testing.assert_array_equal(table[:, 0], [1, 0, np.nan, 0])
    assert SCORES["mrr"].value(run, truth) == pytest.approx(1 / 3)
    assert SCORES["mrr"].value(run, truth, np.array([1, 0, 5, 0])) == 1
    nothing = Ranking([], [], [0, 0], [False])
    assert math.isnan(SCORES["mrr"].value(nothing, nothing))


def test_lists_are_read_by_their_scores():
    messy = Ranking(["c", "a", "b"], [1.0, 3.0, 2.0], [0, 3])
    tidy = Ranking(["a", "b", "c"], [3.0, 2.0, 1.0], [0, 3])
    truth = Ranking(["b"], [1.0], [0, 1])
    assert SCORES["mrr"].value(messy, truth) == SCORES["mrr"].value(tidy, truth) == 0.5


def test_names_and_cutoffs():
    assert score_of("ndcg@10", "ranking") is SCORES["ndcg@10"]
    assert parsed("hit_rate@3") == ("hits", 3.0)
    assert parsed("recip_rank") == ("mrr", math.inf)
    for name in ("ndcg@0", "ndcg@", "ndgc@10", "ndcg@-1", "r_precision@3", "ndcg@1.5", ""):
        assert name not in SCORES
    with pytest.raises(InputError, match="ndcg"):
        score_of("ndgc@10", "ranking")
    assert all(SCORES[name].name == name for name in SCORES)
    assert len(SCORES) == len(list(SCORES))


def test_estimates_and_paired_tests_work():
    run, truth = world()
    told = estimate(SCORES["ndcg@10"], run, truth)
    assert told.low < told.value < told.high
    rows = SCORES["ndcg@10"].rows(run, truth)
    assert rows.mean() == pytest.approx(SCORES["ndcg@10"].loss(run, truth))
    worse = Ranking(run.ids, -run.scores, run.offsets)
    assert paired(SCORES["ndcg@10"], run, worse, truth).mean < 0


def test_bad_input_is_told():
    run, truth = world()
    with pytest.raises(OutputsError, match="not values"):
        SCORES["map"].value(run, Values(np.zeros(40)))
    with pytest.raises(OutputsError, match="reads rankings, not values"):
        SCORES["map"].value(Values(np.zeros(40)), truth)
    with pytest.raises(OutputsError, match="judged twice"):
        SCORES["map"].value(Ranking(["a"], [1.0], [0, 1]), Ranking(["a", "a"], [1.0, 1.0], [0, 2]))
    with pytest.raises(OutputsError, match="must be finite"):
        SCORES["map"].value(Ranking(["a"], [math.nan], [0, 1]), Ranking(["a"], [1.0], [0, 1]))
    with pytest.raises(OutputsError, match="gains"):
        SCORES["map"].value(Ranking(["a"], [1.0], [0, 1]), Ranking(["a"], [math.nan], [0, 1]))
    with pytest.raises(OutputsError, match="alike"):
        SCORES["map"].value(Ranking(["1"], [1.0], [0, 1]), Ranking([1], [1.0], [0, 1]))
    with pytest.raises(OutputsError, match="40 answers but 2 truths"):
        SCORES["map"].value(run, truth.take([0, 1]))
