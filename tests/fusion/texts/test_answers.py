"""Votes on answers: how they are found, when they are equal, and how votes are weighed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conjoin.errors import OutputsError, TruthError
from conjoin.fusion.applied import Applied
from conjoin.fusion.texts import EXTRACTORS, answer_vote, canonical, fit_answer_vote
from conjoin.outputs import Texts
from conjoin.scores import score_of


def said(*texts, scores=None):
    scores = [np.nan] * len(texts) if scores is None else scores
    return {f"m{k}": Texts([t], [s]) for k, (t, s) in enumerate(zip(texts, scores, strict=True))}


@pytest.mark.parametrize(
    ("rule", "text", "want"),
    [
        ("whole", "  a b ", "a b"),
        ("whole", " ", None),
        ("last_line", "steps\n\nso: 7\n", "so: 7"),
        ("last_line", "", None),
        ("last_number", "3 apples and -4.5e2 pears, v1.2.x", "-4.5e2"),
        ("last_number", "it costs $1,234.50.", "1,234.50"),
        ("last_number", "about 50%", "50%"),
        ("last_number", "none", None),
        ("choice", "I think A, no: (C).", "C"),
        ("choice", "CAB", None),
        ("boxed", r"\boxed{1} then \boxed{\frac{1}{2}} end", r"\frac{1}{2}"),
        ("boxed", r"\boxed{1", None),
        ("boxed", "no", None),
        ("hashes", "work\n#### 42\n", "42"),
    ],
)
def test_rules_find_answers(rule, text, want):
    assert EXTRACTORS[rule](text) == want


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("1,000", "1000.0", True),
        ("1e3", "$1000", True),
        ("10/4", "2.5", True),
        ("2/6", "1/3", True),
        ("1/0", "1/0", True),
        ("50%", "50", False),
        ("-0", "0", True),
        (".5", "0.50", True),
        ("１２", "12", True),  # full-width digits
        ("The  Hague.", "the hague", True),
        ("café", "cafe\u0301", True),
        ("1,00", "100", False),
        ("1e999999999", "1e999999998", False),
        ("yes", "no", False),
        ("٣", "3", True),
    ],
)
def test_which_answers_are_equal(a, b, equal):
    assert (canonical(a) == canonical(b)) is equal


def test_numbers_may_be_words():
    assert canonical("1.0", numeric=False) != canonical("1", numeric=False)


@given(st.fractions(-(10**6), 10**6, max_denominator=400))
def test_a_number_is_equal_to_itself_however_it_is_written(value):
    text = f"{value.numerator}/{value.denominator}"
    assert canonical(text) == canonical(canonical(text))
    if value.denominator in (1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100):
        assert canonical(repr(float(value))) == canonical(text)


@given(st.text(max_size=30))
def test_the_canonical_form_is_its_own(text):
    once = canonical(text)
    assert canonical(once) == once or canonical(canonical(once)) == canonical(once)


def test_the_vote():
    fused = answer_vote(said("x = 7", "it is 8", "7.0!", "nothing"), extract="last_number")
    assert (fused.texts[0], round(fused.scores[0], 4)) == ("7", 0.6667)
    whole = answer_vote(said("x = 7", "it is 8", "7.0!"), extract="last_number", whole=True)
    assert whole.texts[0] == "x = 7"
    heavy = answer_vote(said("x = 7", "it is 8", "7.0!"), weights=[1, 5, 1], extract="last_number")
    assert heavy.texts[0] == "8"
    assert answer_vote(said("b", "a")).texts[0] == "b"  # a tie: the first member by name
    assert answer_vote(said("Answer: yes.", "ANSWER: Yes"), pattern=r"(?i)answer: (\w+)").scores[0] == 1
    assert answer_vote(said("p:1", "p:2", "q:2"), extract=lambda t: t.split(":")[1]).texts[0] == "2"


def test_confidence_and_temperature():
    outputs = said("1", "2", "2", scores=[0.9, 0.3, 0.4])
    assert answer_vote(outputs).texts[0] == "2"
    sure = answer_vote(outputs, confidence=True)
    assert (sure.texts[0], round(sure.scores[0], 4)) == ("1", 0.5625)
    unknown = said("1", "2", "2", scores=[0.9, np.nan, 0.1])
    assert answer_vote(unknown, confidence=True).texts[0] == "1"
    logs = said("1", "2", "2", scores=np.log([0.9, 0.3, 0.4]))
    assert answer_vote(logs, temperature=1.0).texts[0] == "1"
    assert answer_vote(said("1", "2", scores=[0.0, 0.0]), confidence=True).scores[0] == 0.5
    with pytest.raises(OutputsError, match="log-probabilities: temperature"):
        answer_vote(logs, confidence=True)


def test_no_answer_is_not_invented():
    fused = answer_vote({"a": Texts(["hm", "1"]), "b": Texts(["", "x"])}, extract="last_number")
    assert fused.answered.tolist() == [False, True]


def test_bad_rules():
    with pytest.raises(OutputsError, match="did you mean 'last_number'"):
        answer_vote(said("1"), extract="lastnumber")
    with pytest.raises(OutputsError, match="not both"):
        answer_vote(said("1"), extract="choice", pattern="x")
    with pytest.raises(OutputsError, match=r"'\(' is no regular expression"):
        answer_vote(said("1"), pattern="(")


def answers(rng, rows, skills, wrong=5):
    truth = rng.integers(0, 10, rows)
    outputs = {}
    for k, skill in enumerate(skills):
        right = rng.random(rows) < skill
        other = (truth + rng.integers(1, wrong + 1, rows)) % 10
        outputs[f"m{k}"] = Texts([f"so {v}" for v in np.where(right, truth, other)])
    return outputs, Texts([f"so {v}" for v in truth])


def test_fitted_weights_beat_the_best_member_on_new_rows():
    exact = score_of("exact", "texts")
    rng = np.random.default_rng(0)
    skills = [0.7, 0.65, 0.6, 0.3, 0.3, 0.3]
    fuser = fit_answer_vote(*answers(rng, 300, skills), score=exact, extract="last_number")
    assert isinstance(fuser, Applied)
    assert fuser.weights["m0"] > fuser.weights["m3"] > 0
    outputs, truth = answers(rng, 2000, skills)
    assert fuser.options["whole"]  # the truth is a sentence as the members' texts are
    mine = exact.value(fuser(outputs), truth)
    assert mine > exact.value(outputs["m0"], truth) + 0.02
    assert mine >= exact.value(answer_vote(outputs), truth)
    bare = Texts([t.removeprefix("so ") for t in truth.texts])
    again = fit_answer_vote(outputs, bare, score=exact, extract="last_number")
    assert not again.options.get("whole")
    assert exact.value(again(outputs), bare) == pytest.approx(mine, abs=0.02)


def test_what_votes_cannot_be_fitted_to():
    outputs, _ = answers(np.random.default_rng(0), 5, [0.5, 0.5])
    with pytest.raises(TruthError, match="no row's truth holds an answer"):
        fit_answer_vote(outputs, Texts(["?"] * 5), extract="last_number")
