"""Operators of rankings: formulas worked by hand, laws of order, bad input."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.errors import OutputsError
from conjoin.fusion.ranking import FUSERS, distinct, from_dict, from_dicts, pool, to_dict
from conjoin.fusion.ranking.norms import NORMS, absent, normalised
from conjoin.outputs import Ranking, Values

RUNS = {
    "a": {"q1": {"x": 9.0, "y": 5.0, "z": 1.0}, "q2": {"x": 2.0}, "empty": {}},
    "b": {"q1": {"y": 0.9, "w": 0.3}, "empty": {}},
    "ц": {"q1": {"z": -1.0, "x": -3.0}, "q2": {"v": 7.0, "x": 6.0}, "empty": {}},
}
QUERIES = ["q1", "q2", "empty"]


def fused(name, runs=RUNS, **options):
    return to_dict(FUSERS[name](from_dicts(runs, QUERIES), **options), QUERIES)


def test_reciprocal_ranks_by_hand():
    got = fused("rrf", k=60)
    assert got["q1"] == pytest.approx(
        {"x": 1 / 61 + 1 / 62, "y": 1 / 62 + 1 / 61, "z": 1 / 63 + 1 / 61, "w": 1 / 62}
    )
    assert got["q2"] == pytest.approx({"x": 1 / 61 + 1 / 62, "v": 1 / 61})
    assert got["empty"] == {}
    weighted = fused("rrf", weights={"a": 2, "b": 1, "ц": 0.5}, k=0)
    assert weighted["q1"]["x"] == pytest.approx(2 / 1 + 0.5 / 2)


def test_comb_family_by_hand():
    x = [9.0, -3.0]
    for name, want in {
        "comb_sum": 6.0,
        "comb_mnz": 12.0,
        "comb_anz": 3.0,
        "comb_max": 9.0,
        "comb_min": -3.0,
        "comb_med": 3.0,
        "mixed": 6 * math.sqrt(2),
        "wmnz": 12.0,
    }.items():
        assert fused(name, norm=None)["q1"]["x"] == pytest.approx(want), name
    assert fused("comb_gmnz", norm=None, gamma=0.25)["q1"]["x"] == pytest.approx(sum(x) * 2**0.25)
    some = {"a": 2.0, "b": 1.0, "ц": 3.0}
    assert fused("wmnz", norm=None, weights=some)["q1"]["x"] == pytest.approx(sum(x) * 5)
    assert fused("comb_anz", norm=None, weights=some)["q1"]["x"] == pytest.approx((18 - 9) / 5)
    assert fused("weighted_sum", norm=None, weights=some)["q1"]["x"] == pytest.approx((18 - 9) / 6)


def test_squares_centroid_and_borda_by_hand():
    assert fused("isr")["q1"]["x"] == pytest.approx(2 * (1 + 1 / 4))
    assert fused("log_isr")["q1"]["x"] == pytest.approx(math.log(2) * (1 + 1 / 4))
    assert fused("log_isr")["q1"]["w"] == 0
    assert fused("logn_isr", sigma=0.5)["q1"]["w"] == pytest.approx(math.log(1.5) / 4)
    assert fused("rbc", phi=0.5)["q1"]["y"] == pytest.approx(0.5 * (0.5 + 1))
    # four candidates in q1; a ranks x, y, z and shares 1 with w; b ranks y, w and shares 1.5; the third z, x
    assert fused("borda")["q1"] == pytest.approx(
        {"x": 4 + 1.5 + 3, "y": 3 + 4 + 1.5, "z": 2 + 1.5 + 4, "w": 1 + 3 + 1.5}
    )


def test_condorcet_winner_comes_first_and_weights_decide():
    runs = {
        "a": {"q1": {"x": 3, "y": 2, "z": 1}},
        "b": {"q1": {"x": 3, "z": 2, "y": 1}},
        "c": {"q1": {"y": 3, "z": 2, "x": 1}},
    }
    assert list(fused("condorcet", runs)["q1"]) == ["x", "y", "z"]
    assert fused("condorcet", runs)["q1"] == {"x": 3.0, "y": 2.0, "z": 1.0}
    assert next(iter(fused("condorcet", runs, weights={"a": 1, "b": 1, "c": 3})["q1"])) == "y"


def test_condorcet_cycle_keeps_the_order_of_borda():
    runs = {
        "a": {"q1": {"x": 3, "y": 2, "z": 1}},
        "b": {"q1": {"y": 3, "z": 2, "x": 1}},
        "c": {"q1": {"z": 3, "x": 2, "y": 1}},
    }
    forward, backward = (fused("condorcet", dict(r)) for r in (runs.items(), reversed(runs.items())))
    assert forward == backward


def test_normalisations_by_hand():
    laid = pool({"a": from_dict({"q": {"x": 3.0, "y": 2.0, "z": 1.0}, "p": {"x": 4.0}})})
    want = {
        "min_max": [1, 0.5, 0, 0],
        "max": [1, 2 / 3, 1 / 3, 1],
        "sum": [2 / 3, 1 / 3, 0, 0],
        "zscore": [1.5**0.5, 0, -(1.5**0.5), 0],
        "rank": [1, 2 / 3, 1 / 3, 1],
        "borda": [1, 2 / 3, 1 / 3, 1],
        "theoretical_min": [1, 2 / 3, 1 / 3, 1],
        "three_sigma": [0.5 + 1.5**0.5 / 6, 0.5, 0.5 - 1.5**0.5 / 6, 0.5],
        "softmax": [*np.exp([3, 2, 1]) / np.exp([3, 2, 1]).sum(), 1],
        "log_softmax": [*np.log(np.exp([3, 2, 1]) / np.exp([3, 2, 1]).sum()), 0],
        "sigmoid": 1 / (1 + np.exp([-3, -2, -1, -4])),
    }
    assert set(want) == set(NORMS)
    for name, numbers in want.items():
        np.testing.assert_allclose(normalised(laid, name), numbers, atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(normalised(laid, None), laid.scores)
    lows = normalised(laid, "theoretical_min", lows={"a": -1.0})
    np.testing.assert_allclose(lows, [1, 3 / 4, 2 / 4, 1])


def test_what_a_list_lacks_can_count_the_least_of_it():
    laid = pool(from_dicts({"a": {"q": {"x": 3.0, "y": 1.0}}, "b": {"q": {"z": 5.0}, "p": {"z": 1.0}}}))
    least = absent(laid, laid.scores, None, "least")
    np.testing.assert_array_equal(least, [[1, np.nan], [5, 1]])
    with pytest.raises(OutputsError, match="'none' or 'least'"):
        absent(laid, laid.scores, None, "most")


def test_scores_of_equal_lists_are_zeros_and_not_nan():
    flat = {"a": {"q1": {"x": 1.0, "y": 1.0}}, "b": {"q1": {"y": 2.0, "x": 2.0}}}
    for norm in NORMS:
        values = fused("comb_sum", flat, norm=norm)["q1"]
        assert all(math.isfinite(v) for v in values.values()), norm


def test_a_query_that_one_run_lacks_is_no_error_and_one_that_all_lack_stays_unanswered():
    outputs = from_dicts(RUNS, [*QUERIES, "nobody"])
    assert outputs["b"].answered.tolist() == [True, False, True, False]
    for name, fuser in FUSERS.items():
        got = fuser(outputs)
        assert got.answered.tolist() == [True, True, True, False], name
        assert np.diff(got.offsets).tolist() == [4, 2, 0, 0], name


def test_unsorted_runs_are_read_by_their_scores():
    tidy = Ranking(["a", "b", "c"], [3.0, 2.0, 1.0], [0, 3])
    messy = Ranking(["c", "a", "b"], [1.0, 3.0, 2.0], [0, 3])
    other = Ranking(["b"], [1.0], [0, 1])
    for name, fuser in FUSERS.items():
        left, right = fuser({"m": tidy, "n": other}), fuser({"m": messy, "n": other})
        assert left.ids.tolist() == right.ids.tolist(), name
        np.testing.assert_allclose(left.scores, right.scores)


def test_duplicate_documents_are_told_and_distinct_keeps_the_best():
    twice = Ranking(["a", "b", "a"], [3.0, 2.0, 1.0], [0, 0, 3])
    with pytest.raises(OutputsError, match=r"'run', row 1: the item 'a' is twice.*distinct"):
        FUSERS["rrf"]({"run": twice})
    assert distinct(twice).ids.tolist() == ["a", "b"]
    assert distinct(twice).offsets.tolist() == [0, 0, 2]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_are_told(bad):
    run = Ranking(["a", "b"], [1.0, bad], [0, 0, 2])
    with pytest.raises(OutputsError, match=r"member 'm', row 1: the score of item 'b'"):
        FUSERS["rrf"]({"m": run})
    with pytest.raises(OutputsError, match="query 'q'"):
        from_dict({"q": {"a": bad}})
    with pytest.raises(OutputsError, match="must be numbers"):
        from_dict({"q": {"a": "high"}})
    with pytest.raises(OutputsError, match="query 'q': items must be a mapping"):
        from_dict({"q": [("a", 1.0)]})


def test_bad_arguments_are_told():
    outputs = from_dicts(RUNS, QUERIES)
    rrf = FUSERS["rrf"]
    for options, told in [
        ({"weights": {"a": -1, "b": 1, "ц": 1}}, "negative"),
        ({"weights": {"a": 0, "b": 0, "ц": 0}}, "all weights are 0"),
        ({"weights": [1, 2]}, "2 weights for 3 members"),
        ({"weights": {"a": 1, "b": 1, "ц": 1, "bm26": 1}}, "bm26"),
        ({"k": math.nan}, "k must be"),
        ({"k": -1}, "k must be"),
        ({"depth": 0}, "depth must be"),
    ]:
        with pytest.raises(OutputsError, match=told):
            rrf(outputs, **options)
    with pytest.raises(OutputsError, match="did you mean 'min_max'"):
        FUSERS["comb_sum"](outputs, norm="minmax")
    with pytest.raises(OutputsError, match="phi must be"):
        FUSERS["rbc"](outputs, phi=1.0)
    with pytest.raises(OutputsError, match="sigma must be"):
        FUSERS["logn_isr"](outputs, sigma=2.0)
    with pytest.raises(OutputsError, match="no least score for ц"):
        FUSERS["weighted_sum"](outputs, norm="theoretical_min", lows={"a": 0.0, "b": 0.0})
    with pytest.raises(OutputsError, match="takes rankings"):
        rrf({"a": Values([1.0])})
    with pytest.raises(OutputsError, match="same rows"):
        rrf({"a": outputs["a"], "b": outputs["b"].take([0])})
    with pytest.raises(OutputsError, match="no outputs"):
        rrf({})
    with pytest.raises(OutputsError, match="alike"):
        rrf({"a": from_dict({"q": {1: 1.0}}), "b": from_dict({"q": {"1": 1.0}})})


def test_whole_numbers_of_different_width_and_rows_that_hold_items_unanswered():
    narrow = Ranking(np.array([7, 3], np.uint8), [2.0, 1.0], [0, 2, 2])
    wide = Ranking(np.array([3, 2**62], np.uint64), [2.0, 1.0], [0, 2, 2])
    signed = Ranking(np.array([-5], np.int32), [2.0], [0, 0, 1], [True, False])
    got = FUSERS["rrf"]({"a": narrow, "b": wide, "c": signed})
    assert got.ids.tolist() == [3, 7, 2**62]
    assert got.answered.tolist() == [True, True]
    with pytest.raises(OutputsError, match="as strings"):
        FUSERS["rrf"]({"a": Ranking(np.array([2**63], np.uint64), [1.0], [0, 1])})


def test_no_rows_and_no_items():
    nothing = Ranking([], [], [0])
    empty = Ranking([], [], [0, 0, 0])
    for name, fuser in FUSERS.items():
        assert len(fuser({"a": nothing, "b": nothing})) == 0, name
        got = fuser({"a": empty, "b": empty})
        assert (len(got), got.answered.all(), len(got.ids)) == (2, True, 0), name


def test_whole_numbers_as_ids_are_the_same_as_strings():
    ints = {
        m: {q: {int.from_bytes(d.encode(), "big") - 140: s for d, s in r.items()} for q, r in run.items()}
        for m, run in RUNS.items()
    }
    for name in FUSERS:
        left, right = fused(name), fused(name, ints)
        for q in QUERIES:
            assert list(left[q].values()) == pytest.approx(list(right[q].values())), name


def test_depth_cuts_and_ties_stay_in_order():
    runs = {"a": {"q1": {str(i): 1.0 for i in range(100)}}}
    got = fused("comb_sum", runs, norm=None, depth=7)
    assert list(got["q1"]) == [str(i) for i in range(7)]


def test_more_members_than_bits_in_a_word():
    runs = {f"m{i:03d}": {"q1": {"x": 1.0, f"own {i}": 0.5}} for i in range(130)}
    got = fused("comb_mnz", runs, norm=None)["q1"]
    assert got["x"] == 130 * 130
    assert len(got) == 131


def test_long_rows_are_sorted_right():
    rng = np.random.default_rng(0)
    scores = np.concatenate(
        [rng.normal(size=3000), [0.0, -0.0, 0.0], rng.integers(-3, 3, 500), [1e300, -1e300, 5e-324]]
    )
    run = Ranking(np.arange(len(scores)), scores, [0, len(scores)])
    got = FUSERS["comb_sum"]({"a": run}, norm=None)
    best = np.argsort(-scores, kind="stable")
    np.testing.assert_array_equal(got.ids, best)
    np.testing.assert_array_equal(got.scores, scores[best])


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_that_differ_in_their_last_digits_are_sorted_right(sign):
    scores = sign * (1 + np.random.default_rng(0).permutation(3000) * 1e-13)
    for told in (scores, np.sort(scores), np.round(scores, 11)):
        got = FUSERS["comb_sum"]({"a": Ranking(np.arange(3000), told, [0, 3000])}, norm=None)
        np.testing.assert_array_equal(got.ids, np.argsort(-told, kind="stable"))


lists = st.lists(st.tuples(st.integers(0, 30), st.floats(-100, 100)), max_size=40, unique_by=lambda p: p[0])


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(lists, min_size=2, max_size=2), min_size=1, max_size=4), st.sampled_from(sorted(FUSERS))
)
def test_every_item_comes_once_best_first(runs, name):
    outputs = from_dicts(
        {f"m{i}": {r: dict(items) for r, items in enumerate(run)} for i, run in enumerate(runs)}, [0, 1]
    )
    got = FUSERS[name](outputs)
    for r in range(2):
        items = got.ids[got.offsets[r] : got.offsets[r + 1]].tolist()
        assert len(items) == len(set(items))
        assert set(items) == {i for run in runs for i, _ in run[r]}
        assert (np.diff(got.scores[got.offsets[r] : got.offsets[r + 1]]) <= 0).all()


@settings(deadline=None, max_examples=25)
@given(st.lists(lists, min_size=2, max_size=4), st.sampled_from(["rrf", "isr", "rbc", "borda", "condorcet"]))
def test_rank_operators_see_ranks_only(runs, name):
    def made(change):
        return from_dicts(
            {f"m{i}": {0: {d: change(s) for d, s in items}} for i, items in enumerate(runs)}, [0]
        )

    left, right = FUSERS[name](made(lambda s: s)), FUSERS[name](made(lambda s: math.ldexp(s, 4) if s else s))
    assert left.ids.tolist() == right.ids.tolist()


def test_dictionaries_go_there_and_back():
    again = to_dict(from_dict(RUNS["a"], QUERIES), QUERIES)
    assert again == RUNS["a"]
    with pytest.raises(OutputsError, match="2 queries"):
        to_dict(from_dict(RUNS["a"], QUERIES), ["q1", "q2"])
