"""Scores of texts against numbers of sacrebleu 2.6.0 and rouge-score 0.1.2, and against definitions."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.errors import OutputsError
from conjoin.outputs import Texts, Values
from conjoin.scores import estimate, paired, score_of
from conjoin.scores.sentence import PAIRS, Group, bleu, chrf
from conjoin.scores.strings import chrf_words, mteval_words, plain_words
from conjoin.scores.texts import SCORES

# hypothesis, reference, chrF, chrF++, BLEU with effective order, TER
SENTENCES = [
    ("the cat sat on the mat", "the cat is on the mat", 64.5779420625287, 66.36067072084818,
     37.99178428257963, 16.666666666666664),
    ("", "the cat", 0.0, 0.0, 0.0, 100.0),
    ("a b", "", 0.0, 0.0, 0.0, 100.0),
    ("", "", 0.0, 0.0, 0.0, 0.0),
    ("x", "x", 100.0, 100.0, 100.00000000000004, 0.0),
    ("שלום עולם טוב", "עולם שלום", 44.73775220754409, 44.91916878043665, 34.66806371753173, 100.0),
    ('cafe\u0301 noir, 1,000.5 (a) "q" R&amp;D', "café noir 1,000.5 (a) 'q' R&D.", 45.41262376477788,
     42.78647727746096, 28.917849332325716, 66.66666666666666),
    ("नमस्ते दुनिया आप", "नमस्ते आप", 54.6945053852293, 52.56245022266219, 34.66806371753173, 50.0),
    ("one two three four five six seven", "five six seven one two three four", 89.25587817979122,
     89.85857530151007, 59.460355750136046, 14.285714285714285),
    ("a a a a a", "a a", 70.65217391304348, 70.65217391304348, 21.3643503198117, 150.0),
    ("end-\nof line.", "endof line.", 66.77015171424411, 63.0525901235748, 100.00000000000004, 100.0),
    ("日本語 の文", "日本語の文", 100.0, 83.33333333333334, 0.0, 200.0),
    ("It's 3-4 o'clock; isn't it?", "it is 3 - 4 o'clock, isn't it ?", 68.0920928804224, 59.52083659610966,
     38.62752974508188, 88.88888888888889),
    ("b c d e f a", "a b c d e f", 61.944444444444436, 68.95833333333333, 79.52707287670508,
     16.666666666666664),
]  # fmt: skip
CORPUS = {
    "chrf": 64.34894879298503,
    "chrf++": 62.42704394285903,
    "bleu": 39.850939571155415,
    "ter": 63.04347826086957,
}
HYPOTHESES, TRUTHS = Texts([s[0] for s in SENTENCES]), Texts([s[1] for s in SENTENCES])
DATA = Path(__file__).parents[3] / "shared/data/outputs/translation/dev"
SYMBOLS = "ab .,1-\u0301שנ\u3000"


def row(*texts):
    return Group(texts, np.arange(len(texts)), np.array([0, len(texts)]))


def pair(name, hypothesis, reference):
    return PAIRS[name](row(hypothesis, reference))[1]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_sentences_as_sacrebleu_scores_them(sentence):
    for name, want in zip(("chrf", "chrf++", "bleu", "ter"), sentence[2:], strict=True):
        assert pair(name, *sentence[:2]) == pytest.approx(want, abs=1e-9), name


@pytest.mark.parametrize("name", CORPUS)
def test_a_corpus_as_sacrebleu_scores_it(name):
    assert SCORES[name].value(HYPOTHESES, TRUTHS) == pytest.approx(CORPUS[name], abs=1e-9)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}: real translations are not here")
def test_real_translations_as_sacrebleu_scores_them():
    def read(name):
        return Texts((DATA / name).read_text("utf-8").splitlines())

    output, truth = read("bergamot_raw.hyp.pt"), read("reference.pt-BR")
    assert SCORES["chrf"].value(output, truth) == pytest.approx(59.2013588615091, abs=1e-6)
    assert SCORES["bleu"].value(output, truth) == pytest.approx(30.473, abs=1e-3)
    assert SCORES["ter"].value(output, truth) == pytest.approx(57.323, abs=1e-3)


@pytest.mark.parametrize(
    ("smooth", "effective", "precisions"),
    [
        ("none", True, (0.0,)),
        ("exp", True, (2 / 3, 1 / 2, 1 / 2)),
        ("exp", False, (0.0,)),
        ("floor", True, (2 / 3, 1 / 2, 0.1)),
        ("add-k", True, (2 / 3, 2 / 3, 1 / 2, 1.0)),
        ("add-k", False, (2 / 3, 2 / 3, 1 / 2, 1.0)),
    ],
)
def test_smoothings_of_a_sentence(smooth, effective, precisions):
    found = bleu(row("a b c", "a b d"), smooth=smooth, effective_order=effective)[1]
    assert found == pytest.approx(100 * math.prod(precisions) ** (1 / len(precisions)), abs=1e-9)


def test_an_unknown_smoothing():
    with pytest.raises(OutputsError, match="did you mean 'floor'"):
        bleu(row("a", "b"), smooth="flor")


def test_rouge_as_rouge_score_gives_it():
    a, b = "The quick brown fox jumps", "the fox jumps quick, quick!"
    assert pair("rouge1", a, b) == pytest.approx(0.8)
    assert pair("rouge2", a, b) == pytest.approx(0.25)
    assert pair("rougeL", a, b) == pytest.approx(0.6)
    assert pair("rougeL", "a b c d e f", "b a c e d f g") == pytest.approx(8 / 13)
    assert pair("rouge1", "x", "y") == pair("rouge2", "x", "x") == pair("rougeL", "", "") == 0
    assert SCORES["rouge1"].value(Texts([a, "x"]), Texts([b, "y"])) == pytest.approx(0.4)


def test_words():
    assert mteval_words(["a.b 1.5 x-y 3-4 <a&lt;b>", "", " ."]) == [
        ["a", ".", "b", "1.5", "x-y", "3", "-", "4", "<", "a", "<", "b", ">"], [], ["."]]  # fmt: skip
    assert mteval_words([]) == []
    assert chrf_words(["(a) ... ,b c, -"]) == [["(a", ")", "..", ".", ",", "b", "c", ",", "-"]]
    assert plain_words(["İstanbul cafe\u0301 ٣ x²"])[0][1:] == ["cafe\u0301", "٣", "x²"]


def _naive_levenshtein(a, b):
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        here = [i]
        for j, y in enumerate(b, 1):
            here.append(min(above[j] + 1, here[-1] + 1, above[j - 1] + (x != y)))
        above = here
    return above[-1]


def _naive_common(a, b):
    above = [0] * (len(b) + 1)
    for x in a:
        here = [0]
        for j, y in enumerate(b, 1):
            here.append(above[j - 1] + 1 if x == y else max(above[j], here[-1]))
        above = here
    return above[-1]


def _naive_chrf(a, b):
    a, b = "".join(a.split()), "".join(b.split())
    precision, recall, orders = 0.0, 0.0, 0
    for n in range(1, 7):
        x, y = (Counter(t[i : i + n] for i in range(len(t) - n + 1)) for t in (a, b))
        if x and y:
            shared = (x & y).total()
            precision, recall, orders = (
                precision + shared / x.total(),
                recall + shared / y.total(),
                orders + 1,
            )
    if precision + recall == 0:
        return 0.0
    precision, recall = precision / orders, recall / orders
    return 100 * 5 * precision * recall / (4 * precision + recall)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(SYMBOLS, max_size=150), min_size=1, max_size=6))
def test_pairs_are_what_their_definitions_say(texts):
    count = len(texts)
    group = row(*texts)
    edits, chars, common = (
        PAIRS[n](group).reshape(count, count) for n in ("word_edits", "char_edits", "rougeL")
    )
    found = chrf(group).reshape(count, count)
    for i, a in enumerate(texts):
        for j, b in enumerate(texts):
            assert edits[i, j] == _naive_levenshtein(a.split(), b.split())
            assert chars[i, j] == _naive_levenshtein(a, b)
            assert found[i, j] == pytest.approx(_naive_chrf(a, b), abs=1e-9)
            x, y = plain_words([a, b])
            same = _naive_common(x, y)
            assert common[i, j] == pytest.approx(2 * same / (len(x) + len(y)) if same else 0.0)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text("abcd ", max_size=80), min_size=2, max_size=4))
def test_ter_is_between_a_bag_distance_and_the_edit_distance(texts):
    count = len(texts)
    group = row(*texts)
    rate = PAIRS["ter"](group).reshape(count, count)
    edits = PAIRS["word_edits"](group).reshape(count, count)
    for i, a in enumerate(texts):
        for j, b in enumerate(texts):
            x, y = Counter(a.split()), Counter(b.split())
            if y.total():
                least = max((x - y).total(), (y - x).total())
                assert least - 1e-9 <= rate[i, j] * y.total() / 100 <= edits[i, j] + 1e-9


def test_rows_without_truth_do_not_count_and_rows_without_answer_are_empty():
    truth = Texts(["a b c", "d e f", "g"], answered=[True, True, False])
    output = Texts(["a b c", "what was skipped", "x"], answered=[True, False, True])
    same = SCORES["chrf"].value(Texts(["a b c", ""]), Texts(["a b c", "d e f"]))
    assert SCORES["chrf"].value(output, truth) == same
    assert np.isnan(SCORES["ter"].rows(output, truth)).tolist() == [False, False, True]
    assert math.isnan(SCORES["bleu"].value(output, Texts(["", "", ""], answered=[False] * 3)))


@pytest.mark.parametrize("name", ["chrf", "chrf++", "bleu", "ter", "rouge1", "rougeL", "exact", "wer"])
def test_rows_average_to_the_loss_and_have_errors(name):
    score = score_of(name, "texts")
    rows = score.rows(HYPOTHESES, TRUTHS)
    assert rows.mean() == pytest.approx(score.loss(HYPOTHESES, TRUTHS), abs=1e-6)
    assert estimate(score, HYPOTHESES, TRUTHS).standard_error > 0
    assert paired(score, TRUTHS, HYPOTHESES, TRUTHS).mean < 0


def test_weights_of_rows_repeat_them():
    twice = Texts([*HYPOTHESES.texts, *HYPOTHESES.texts[:3]]), Texts([*TRUTHS.texts, *TRUTHS.texts[:3]])
    weights = [2.0] * 3 + [1.0] * (len(TRUTHS) - 3)
    for name in ("chrf", "bleu", "ter", "rouge2"):
        assert SCORES[name].value(HYPOTHESES, TRUTHS, weights) == pytest.approx(SCORES[name].value(*twice))


def test_exact_match_looks_past_white_space_at_the_ends():
    assert SCORES["exact"].value(Texts(["a ", "b", "c"]), Texts([" a", "B", "c\n"])) == pytest.approx(2 / 3)


def test_what_is_no_text():
    with pytest.raises(OutputsError, match="answers of texts, not values"):
        SCORES["chrf"].value(Values([1.0]), Texts(["a"]))
    with pytest.raises(OutputsError, match="truth of texts, not values"):
        SCORES["bleu"].value(Texts(["a"]), Values([1.0]))
    with pytest.raises(OutputsError, match="2 answers but 1 truths"):
        SCORES["ter"].value(Texts(["a", "b"]), Texts(["a"]))
