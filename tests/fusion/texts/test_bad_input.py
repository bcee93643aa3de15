"""Texts as they should not be: empty, alone, very long, of other scripts, many; and bad weights."""

import time
import tracemalloc

import numpy as np
import pytest

from conjoin.errors import OutputsError
from conjoin.fusion.texts import FUSERS, answer_vote, expected_utilities, minimum_bayes_risk, rerank
from conjoin.outputs import Labels, Texts
from conjoin.scores.sentence import PAIRS

MINE = (
    "minimum_bayes_risk",
    "pruning_minimum_bayes_risk",
    "probabilistic_minimum_bayes_risk",
    "rerank",
    "answer_vote",
)


def said(*texts):
    return {f"m{k:04d}": Texts([t]) for k, t in enumerate(texts)}


@pytest.mark.parametrize("utility", sorted(PAIRS))
def test_empty_texts(utility):
    fused = minimum_bayes_risk(said("", "", "a b c d"), utility=utility)
    assert fused.answered.tolist() == [True]
    if utility not in ("ter", "word_edits", "char_edits"):  # where being long never pays, nothing is safe
        assert fused.texts[0] in ("", "a b c d")
    assert minimum_bayes_risk(said("", "", ""), utility=utility).texts.tolist() == [""]
    assert minimum_bayes_risk(said("  \n\t"), utility=utility).texts.tolist() == ["  \n\t"]


@pytest.mark.parametrize("name", MINE)
def test_all_members_silent_and_no_rows(name):
    silent = {n: Texts(["", ""], answered=[False, False]) for n in "ab"}
    assert FUSERS[name](silent).answered.tolist() == [False, False]
    assert len(FUSERS[name]({n: Texts([]) for n in "ab"})) == 0


@pytest.mark.parametrize("name", MINE)
def test_one_hypothesis_is_the_answer(name):
    output = Texts(["x y", "", "z"], [0.5, 0.25, 0.125], [True, False, True])
    fused = FUSERS[name]({"only": output})
    assert fused.texts.tolist() == ["x y", "", "z"]
    assert fused.answered.tolist() == output.answered.tolist()


@pytest.mark.parametrize("utility", ["chrf", "bleu", "ter", "word_edits", "char_edits", "rougeL"])
def test_ten_thousand_words_stay_in_bounds(utility):
    rng = np.random.default_rng(0)
    words = [f"w{k}" for k in range(3000)]
    long = rng.choice(words, 10_000)
    other = long.copy()
    other[rng.random(10_000) < 0.05] = "changed"
    outputs = said(" ".join(long), " ".join(other), " ".join(np.roll(long, 5)), "short")
    minimum_bayes_risk(said("a b", "b c"), utility=utility)  # compiled before the clock runs
    tracemalloc.start()
    begin = time.process_time()
    fused = minimum_bayes_risk(outputs, utility=utility)
    seconds = time.process_time() - begin
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fused.answered.all()
    assert peak < 150e6
    assert seconds < 20


def test_right_to_left_and_combining_characters():
    hebrew, arabic = "שָׁלוֹם עֲלֵיכֶם", "السَّلَامُ عَلَيْكُمْ"
    fused = minimum_bayes_risk(said(hebrew, hebrew, arabic))
    assert fused.texts[0] == hebrew
    composed, apart = "café", "cafe\u0301"
    values = expected_utilities(said(composed, apart), utility="exact")
    assert [v[0] for v in values.values()] == [0.5, 0.5]
    assert expected_utilities(said(composed, apart), utility="char_edits")["m0000"][0] == -1.0
    flags = minimum_bayes_risk(said("👩‍👩‍👧", "👩‍👩‍👧", "👩"))
    assert flags.texts[0] == "👩‍👩‍👧"
    odd = minimum_bayes_risk(said("a\u2028b \x85", "a\u2028b \x85", "\x00\x01"))
    assert odd.texts[0] == "a\u2028b \x85"


def test_half_a_pair_of_surrogates_does_not_break_the_arithmetic():
    assert minimum_bayes_risk(said("\ud800 x", "\ud800 x", "y")).texts[0] == "\ud800 x"


@pytest.mark.parametrize("utility", ["chrf", "bleu", "exact"])
def test_more_members_than_bits_in_a_word(utility):
    rng = np.random.default_rng(1)
    words = ["a", "b", "c", "d", "e", "f", "g"]
    texts = ["a b c d e f"] * 40 + [" ".join(rng.choice(words, 6)) for _ in range(160)]
    outputs = said(*texts)
    fused = minimum_bayes_risk(outputs, utility=utility)
    some = expected_utilities(outputs, utility=utility)
    assert fused.texts[0] == texts[int(np.argmax([some[n][0] for n in sorted(some)]))]
    assert minimum_bayes_risk(outputs, utility="exact").texts[0] == "a b c d e f"


@pytest.mark.parametrize("name", [*MINE, "rover"])
@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ([1, -1, 1], "must not be negative"),
        ([0, 0, 0], "all weights are 0"),
        ([1, 1], "2 weights for 3 members"),
        ([1, np.nan, 1], "finite"),
        ({"m0000": 1, "m0001": 1, "m0003": 1}, "did you mean"),
        ({"m0000": 1}, "no weight for m0001, m0002"),
    ],
)
def test_bad_weights(name, weights, told):
    with pytest.raises(OutputsError, match=told):
        FUSERS[name](said("a", "b", "c"), weights=weights)


@pytest.mark.parametrize("name", MINE)
def test_outputs_that_do_not_fit(name):
    with pytest.raises(OutputsError, match="no outputs"):
        FUSERS[name]({})
    with pytest.raises(OutputsError, match="'b' answered with labels"):
        FUSERS[name]({"a": Texts(["x"]), "b": Labels.of(["x"])})
    with pytest.raises(OutputsError, match="same rows"):
        FUSERS[name]({"a": Texts(["x"]), "b": Texts(["x", "y"])})
    with pytest.raises(OutputsError, match="named by strings"):
        FUSERS[name]({1: Texts(["x"])})


def test_huge_numbers_and_scores():
    outputs = {"a": Texts(["x"], [-1e308]), "b": Texts(["y"], [1e308]), "c": Texts(["z"], [np.inf])}
    assert rerank(outputs).texts[0] == "z"
    assert minimum_bayes_risk(outputs, temperature=1.0).answered.all()
    assert answer_vote(said("1e999999", "1e999999", "1" * 5000)).texts[0] == "1e999999"
