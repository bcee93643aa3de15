"""Error rates of words, by hand and as sclite counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.errors import OutputsError, TruthError
from conjoin.outputs import Texts, Values
from conjoin.scores import default_score, estimate, score_of
from conjoin.scores.words import SCORES, alternatives, count_errors


def value(name, said, true):
    return score_of(name, "texts").value(Texts(said), Texts(true))


def test_rates_by_hand():
    said, true = ["the hat sat on mat", "so"], ["the cat sat on the mat", "so"]
    assert value("wer", said, true) == pytest.approx(2 / 7)
    assert value("ser", said, true) == pytest.approx(1 / 2)
    assert value("cer", said, true) == pytest.approx((1 + 4) / (22 + 2))
    assert value("wer", ["a  b"], ["a b"]) == 0
    assert value("wer", ["A b"], ["a b"]) == pytest.approx(0.5)
    assert value("sclite_wer", ["A b"], ["a B"]) == 0
    assert value("wer", ["x y z"], ["a"]) == 3
    assert np.isnan(value("wer", ["x"], [""]))


SCLITE = [  # text, reference, errors and words as sclite of SCTK 9688a268 counts
    ("a b c a", "a a b c", 2, 4),
    ("c b b a", "b a { a / b c } c b", 4, 5),
    ("", "a { b / @ } c", 2, 2),
    ("x y", "{ x / y } { y / x }", 0, 2),
    ("uh go", "(uh) go", 0, 2),  # with -D
]


@pytest.mark.parametrize(("said", "true", "errors", "words"), SCLITE)
def test_sclite_counts_the_same(said, true, errors, words):
    table = SCORES["sclite_wer"].statistics(Texts([said]), Texts([true]))
    assert table[0].tolist() == [errors, words]


def test_alternatives_inside_alternatives():
    assert alternatives("{ { a / b } c / @ }") == [[["a", "c"], ["b", "c"], []]]
    assert alternatives("/ @ a") == [[["/"]], [[]], [["a"]]]
    for broken in ("{ a / b", "{ a", "{"):
        with pytest.raises(TruthError, match="not closed"):
            alternatives(broken)
    with pytest.raises(TruthError, match="more than 1000 ways"):
        alternatives("{ " + "{ a / b } " * 12 + "/ c }")


def test_rows_that_do_not_count():
    truth = Texts(["a b", "c", "d"], answered=[True, False, True])
    said = Texts(["a b", "x", "d"], answered=[True, True, False])
    table = count_errors(said, truth)
    np.testing.assert_array_equal(table, [[0, 2], [np.nan, np.nan], [1, 1]])
    assert SCORES["wer"].value(said, truth) == pytest.approx(1 / 3)
    assert estimate(SCORES["wer"], said, truth).standard_error > 0
    with pytest.raises(OutputsError, match="the truth are values"):
        count_errors(said, Values([1.0, 2.0, 3.0]))


def test_speech_is_scored_by_words():
    assert default_score(Texts(["a"], confidences=[0.5])).name == "wer"
    assert default_score(Texts(["a"])).name == "chrf"


sentences = st.lists(st.sampled_from(["a", "b", "c"]), max_size=7)


@given(sentences, sentences)
@settings(deadline=None)
def test_the_distance_is_levenshteins(said, true):
    table = np.arange(len(said) + 1.0)
    for k, word in enumerate(true, 1):
        above, table = table, np.array([k, *np.zeros(len(said))])
        for j, other in enumerate(said, 1):
            table[j] = min(above[j] + 1, table[j - 1] + 1, above[j - 1] + (word != other))
    found = count_errors(Texts([" ".join(said)]), Texts([" ".join(true)]))
    assert found[0].tolist() == [table[-1], len(true)]


def test_ten_thousand_words():
    words = " ".join(f"w{k % 97}" for k in range(10_000))
    assert count_errors(Texts([words + " x"]), Texts([words]))[0].tolist() == [1, 10_000]
