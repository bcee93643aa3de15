"""Minimum Bayes risk: formulas, ties, evidence, aggregation, and the searches for dear utilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.errors import OutputsError
from conjoin.fusion.texts import (
    expected_utilities,
    minimum_bayes_risk,
    nbest,
    probabilistic_minimum_bayes_risk,
    pruning_minimum_bayes_risk,
)
from conjoin.fusion.texts.sampled import completed
from conjoin.outputs import Texts
from conjoin.scores.sentence import BAGS, LOWER, PAIRS, Group

WORDS = ["a", "b", "c", "dd", "é", "שלום", ".", "12"]
SENTENCE = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)


def said(*texts, scores=None):
    """One row: members m000, m001 ... with these texts; None skips it."""
    return {
        f"m{k:03d}": Texts([t or ""], None if scores is None else [scores[k]], [t is not None])
        for k, t in enumerate(texts)
    }


def only(output):
    """The text of a single answered row."""
    assert output.answered.tolist() == [True]
    return output.texts[0]


def utilities(name, texts):
    """(D, D) utilities, more is better."""
    table = PAIRS[name](Group(texts, np.arange(len(texts)), np.array([0, len(texts)])))
    return (-1 if name in LOWER else 1) * table.reshape(len(texts), len(texts))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(SENTENCE, min_size=1, max_size=7),
    st.sampled_from(sorted(PAIRS)),
    st.lists(st.integers(1, 9), min_size=7, max_size=7),
)
def test_the_choice_has_the_greatest_expected_utility(texts, name, weights):
    weights = np.array(weights[: len(texts)], dtype=float)
    want = utilities(name, texts) @ weights / weights.sum()
    found = minimum_bayes_risk(said(*texts), weights=weights.tolist(), utility=name)
    chosen = want[texts.index(only(found))]
    assert chosen == pytest.approx(want.max(), abs=1e-6)
    values = expected_utilities(said(*texts), weights=weights.tolist(), utility=name)
    np.testing.assert_allclose([values[n][0] for n in sorted(values)], want, atol=1e-9)


def test_mbr_with_exact_match_is_the_vote():
    assert only(minimum_bayes_risk(said("x", "y z w", "y z w", "x", "y z w"), utility="exact")) == "y z w"


def test_a_function_of_the_user_is_a_utility():
    calls = []

    def overlap(hypothesis, reference):
        calls.append((hypothesis, reference))
        return len(set(hypothesis) & set(reference))

    outputs = said("ab", "abc", "cd", "abc")
    assert only(minimum_bayes_risk(outputs, utility=overlap)) == "abc"
    assert len(calls) == 9  # three different texts
    with pytest.raises(OutputsError, match="gave NaN"):
        minimum_bayes_risk(outputs, utility=lambda h, r: float("nan"))


def test_ties_go_to_more_weight_and_then_to_the_first_name():
    assert only(minimum_bayes_risk(said("q", "z"), utility="exact")) == "q"
    assert only(minimum_bayes_risk({"b": Texts(["q"]), "a": Texts(["z"])}, utility="exact")) == "z"
    assert only(minimum_bayes_risk(said("ab", "ac"), weights=[1, 2], utility=lambda h, r: 1.0)) == "ac"


def test_scores_count_with_a_temperature():
    outputs = said("x y", "p q", "p r", scores=[np.log(0.8), np.log(0.1), np.log(0.1)])
    assert only(minimum_bayes_risk(outputs)) in ("p q", "p r")
    assert only(minimum_bayes_risk(outputs, temperature=1.0)) == "x y"
    assert only(minimum_bayes_risk(outputs, temperature=1e3)) in ("p q", "p r")
    unknown = said("x y", "p q", "p r", scores=[-0.1, np.nan, np.nan])
    assert only(minimum_bayes_risk(unknown, temperature=1.0)) in ("p q", "p r")
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(OutputsError, match="temperature must be"):
            minimum_bayes_risk(outputs, temperature=bad)


def test_the_answer_keeps_the_best_score_that_its_text_got():
    fused = minimum_bayes_risk(said("x", "x", "x", "y", scores=[-3.0, np.nan, -1.0, 0.0]))
    assert (only(fused), fused.scores[0]) == ("x", -1.0)


def test_only_candidates_are_chosen():
    outputs = said("a b c", "a b d", "x y", None)
    assert only(minimum_bayes_risk(outputs, candidates=["m002"])) == "x y"
    two = {n: Texts([o.texts[0]] * 2, answered=[o.answered[0], n != "m002"]) for n, o in outputs.items()}
    fused = minimum_bayes_risk(two, candidates=["m002"])
    assert fused.texts[0] == "x y"
    assert fused.answered[1]  # no candidate answered: the others may be chosen
    with pytest.raises(OutputsError, match="did you mean 'm002'"):
        minimum_bayes_risk(outputs, candidates=["m02"])
    with pytest.raises(OutputsError, match="members with weight"):
        minimum_bayes_risk(outputs, weights=[1, 1, 0, 1], candidates=["m002"])


# what mbrs 0.1.8 gives with its aggregate decoder
@pytest.mark.parametrize(
    ("utility", "want"),
    [
        ("chrf", [23.08157, 10.29285, 16.35524, 29.16298]),
        ("bleu", [25.96003, 6.44121, 20.31482, 5.13217]),
    ],
)
def test_aggregation_as_in_mbrs(utility, want):
    texts = [
        "this is a test",
        "another test",
        "this is a fest",
        "Producția de zahăr primă va fi exprimată în ceea ce privește zahărul alb;",
        "ref",
        "this is a test",
        "producţia de zahăr brut se exprimă în zahăr alb;",
    ]
    mass = np.array([0.0] * 4 + [1 / 3] * 3)
    found = BAGS[utility](Group(texts, np.arange(7), np.array([0, 7])), mass)
    np.testing.assert_allclose(found[:4], want, atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(st.lists(SENTENCE, min_size=1, max_size=6), st.sampled_from(sorted(BAGS)))
def test_a_bag_of_one_text_is_that_text(texts, name):
    mass = np.array([1.0] + [0.0] * (len(texts) - 1))
    found = BAGS[name](Group(texts, np.arange(len(texts)), np.array([0, len(texts)])), mass)
    np.testing.assert_allclose(found, utilities(name, texts)[:, 0], atol=1e-9)


def test_what_cannot_be_aggregated():
    for utility in ("ter", "rougeL", len):
        with pytest.raises(OutputsError, match="aggregate is for chrf"):
            minimum_bayes_risk(said("a", "b"), utility=utility, aggregate=True)
    with pytest.raises(OutputsError, match="did you mean 'rougeL'"):
        minimum_bayes_risk(said("a", "b"), utility="rougel")


def test_samples_of_a_system_are_members():
    outputs = nbest("mt", [["a b", "a c"], ["d"], []], [[-1.0, -2.0], [-3.0], []])
    assert sorted(outputs) == ["mt#1", "mt#2"]
    fused = minimum_bayes_risk(outputs)
    assert fused.answered.tolist() == [True, True, False]
    assert fused.texts[1] == "d"
    assert fused.scores[1] == -3.0
    with pytest.raises(OutputsError, match="same lengths"):
        nbest("mt", [["a"]], [[1.0, 2.0]])


def test_searches_that_compare_fewer_texts():
    rng = np.random.default_rng(3)
    truth = rng.choice(WORDS, 9)
    texts = []
    for k in range(24):
        words = truth.copy()
        words[rng.random(9) < 0.1 + 0.03 * k] = "x"
        texts.append(" ".join(words))
    outputs = said(*texts)
    calls = []

    def utility(hypothesis, reference):
        calls.append(1)
        return utilities("chrf", [hypothesis, reference])[0, 1]

    different = len(set(texts))
    values = expected_utilities(outputs)
    rank = sorted({v[0] for v in values.values()}, reverse=True)
    fused = pruning_minimum_bayes_risk(outputs, utility=utility, schedule=(8, 16, 32))
    assert values[f"m{texts.index(only(fused)):03d}"][0] >= rank[2]
    assert len(calls) < 0.8 * different**2
    calls.clear()
    fused = probabilistic_minimum_bayes_risk(outputs, utility=utility, reduction=4.0, rank=2)
    assert len(calls) == -(-(different**2) // 4)
    assert values[f"m{texts.index(only(fused)):03d}"][0] >= rank[len(rank) // 4]
    again = probabilistic_minimum_bayes_risk(outputs, utility=utility, reduction=4.0, rank=2)
    assert only(again) == only(fused)


def test_everything_compared_is_exact():
    outputs = said("a b c", "a b d", "c d", "a c d")
    best = only(minimum_bayes_risk(outputs, utility="bleu"))
    assert only(probabilistic_minimum_bayes_risk(outputs, utility="bleu", reduction=1.0)) == best
    assert only(pruning_minimum_bayes_risk(outputs, utility="bleu", alpha=1.0)) == best


def test_a_table_of_low_rank_is_filled_in():
    rng = np.random.default_rng(0)
    table = rng.random((30, 2)) @ rng.random((2, 40))
    found = completed(lambda h, r: table[h, r], (30, 40), rng, reduction=2.0, rank=2, penalty=1e-6, steps=200)
    np.testing.assert_allclose(found, table, atol=1e-3)


@pytest.mark.parametrize("options", [{"alpha": 2.0}, {"draws": 0}, {"schedule": ()}, {"schedule": (0, 4)}])
def test_bad_options_of_pruning(options):
    with pytest.raises(OutputsError, match="alpha must be from 0 to 1"):
        pruning_minimum_bayes_risk(said("a", "b"), **options)


@pytest.mark.parametrize("options", [{"reduction": 0.5}, {"rank": 0}, {"penalty": 0.0}, {"steps": 0}])
def test_bad_options_of_completion(options):
    with pytest.raises(OutputsError, match="must be 1 or more"):
        probabilistic_minimum_bayes_risk(said("a", "b"), **options)
