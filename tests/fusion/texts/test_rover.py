"""ROVER: SCTK's own answers, laws on texts with times and confidences, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.checks import FUSER_LAWS, FuserCase
from conjoin.errors import OutputsError
from conjoin.formats.ctm import FORMAT, Found, Place
from conjoin.fusion.texts.rover import METHODS, rover
from conjoin.fusion.texts.rover_tags import putative_tags
from conjoin.outputs import Texts, Values, silenced

SYSTEMS = {
    "one": """.10 .12 sad .48|.32 .16 sat .99|.68 .26 the .83|2.44 .29 hat .83|2.73 .26 and .19
              |2.99 .23 an .09""",
    "two": """.10 .23 the .51|.33 .19 hat .94|.52 .29 sat .84|.97 .16 the .77|2.63 .18 an .43|2.81 .16 hat .08
              |2.97 .30 ate .52""",
    "zwo": """.10 .24 the .15|.34 .11 cat .91|.45 .19 sat .18|.64 .22 on .63|.86 .16 hat .71|1.02 .22 a .12
              |1.24 .16 and .03|1.40 .12 ate .96""",
}
SCTK = {  # what rover of SCTK 9688a268 writes for these three: start, duration, word, confidence
    (
        "avgconf",
        0.5,
        0.4,
        False,
    ): """.100 .235 the .330|.330 .190 hat .940|.430 .213 sat .670|.825 .210 the .800
        |.640 .220 on .630|2.037 .203 hat .540|1.985 .210 and .110|2.185 .210 ate .740""",
    ("meth1", 0.3, 0.6, False): """.330 .190 hat .940|.430 .213 sat .670|.825 .210 the .800|.640 .220 on .630
        |2.037 .203 hat .540|2.185 .210 ate .740""",
    ("maxconf", 0.2, 0.9, False): """.330 .190 hat .940|.430 .213 sat .670|.825 .210 the .800
        |2.037 .203 hat .540|2.185 .210 ate .740""",
    ("meth1", 0.6, 0.2, True): """.100 .235 the .330|.320 .160 sat .990|.520 .290 sat .840|.860 .160 hat .710
        |.970 .160 the .770|1.400 .120 ate .960|2.440 .290 hat .830|2.970 .300 ate .520""",
}


def heard(told):
    """A text of one row from `start duration word confidence|...`."""
    words = [w.split() for w in told.split("|")]
    starts = np.array([float(w[0]) for w in words])
    return Texts(
        [" ".join(w[2] for w in words)],
        starts=starts,
        ends=starts + [float(w[1]) for w in words],
        confidences=[float(w[3]) for w in words],
    )


@pytest.mark.parametrize("setting", SCTK)
def test_sctk_answers_the_same(setting):
    method, alpha, null, timed = setting
    outputs = {name: heard(told) for name, told in SYSTEMS.items()}
    fused = rover(
        outputs, method=method, alpha=alpha, null_confidence=null, time_align=timed, order=list(SYSTEMS)
    )
    true = heard(SCTK[setting])
    assert fused.texts[0] == true.texts[0]
    np.testing.assert_allclose(fused.starts, true.starts, atol=6e-4)
    np.testing.assert_allclose(fused.ends - fused.starts, true.ends - true.starts, atol=6e-4)
    np.testing.assert_allclose(fused.confidences, true.confidences, atol=1e-9)


def test_all_words_of_the_network(tmp_path):
    outputs = {name: heard(told) for name, told in SYSTEMS.items()}
    fused = rover(outputs, method="oracle", null_confidence=0.5, order=list(SYSTEMS))
    assert fused.texts[0] == (
        "{ the / @ } { sad / hat / cat } sat { the / @ } { an / @ / on } hat "
        "{ a / @ } { and / @ } { an / ate }"
    )
    found = Found(np.array(["talk a"], object), outputs, None, (Place(("talk", "a")),))
    FORMAT.write(fused, found, tmp_path / "all.ctm")
    lines = (tmp_path / "all.ctm").read_text().splitlines()
    assert lines[:5] == [
        "talk a * * <ALT_BEGIN>",
        "talk a 0.100 0.235 the 0.330000",
        "talk a * * <ALT>",
        "talk a 0.000 0.000 @ 0.500000",
        "talk a * * <ALT_END>",
    ]
    assert len(lines) == 41


def test_putative_tags():
    outputs = {name: heard(told) for name, told in SYSTEMS.items()}
    lines = putative_tags(outputs, [("talk", "a")], order=list(SYSTEMS), null_confidence=0.5)
    assert lines[:6] == [
        '<input names="one two zwo">',
        "<putative_tag file=talk chan=a >",
        '   <attrib tag="the" t1="0.100000" t2="0.330000" conf="0.510000" tag1="two">',
        '   <attrib tag="@" t1="0.000000" t2="0.000000" conf="0.500000" tag1="">',
        '   <attrib tag="the" t1="0.100000" t2="0.340000" conf="0.150000" tag1="zwo">',
        "</putative_tag >",
    ]
    with pytest.raises(OutputsError, match="1 texts need as many places, not 2"):
        putative_tags(outputs, [("talk", "a")] * 2)


def test_scores_by_hand():
    a, b, c = (Texts([t], confidences=s) for t, s in (("so", [0.2]), ("so", [0.4]), ("no", [0.9])))
    outputs = {"a": a, "b": b, "c": c}
    assert rover(outputs).texts[0] == "so"
    assert rover(outputs, method="meth1", alpha=0.5).texts[0] == "no"  # .5/3 + .45 against 1/3 + .15
    assert rover(outputs, method="maxconf", alpha=0.7).texts[0] == "so"  # .7*2/3 + .3*.4 against .7/3 + .27
    assert rover(outputs, method="avgconf", alpha=0.2).texts[0] == "no"  # .8*.9/1.5 wins against .8*.6/1.5
    fused = rover(outputs, method="avgconf", weights={"a": 5, "b": 1, "c": 1})
    assert fused.texts[0] == "so"
    assert fused.confidences[0] == pytest.approx((5 * 0.2 + 0.4) / 6)
    evidence = {"a": [0, 0, 0], "b": [0, 0, 0], "c": [0, 1, 0]}
    fused = rover(outputs, method="logodds", evidence=evidence)
    assert fused.texts[0] == "no"
    assert fused.confidences[0] == pytest.approx(0.9)  # softmax of logit .9 and 0


def test_null_words_win_and_lose():
    outputs = {"a": Texts(["yes"]), "b": Texts([""]), "c": Texts([""])}
    assert rover(outputs).texts[0] == ""
    assert rover(outputs).answered.all()
    outputs = {"a": Texts(["yes"], confidences=[0.9]), "b": Texts([""]), "c": Texts([""])}
    assert rover(outputs, method="meth1", alpha=0.2, null_confidence=0.1).texts[0] == "yes"


def test_a_system_that_lacks_a_text():
    skipped = Texts(["", "so"], answered=[False, True])
    outputs = {"a": Texts(["yes", "so"]), "b": skipped, "c": skipped}
    assert rover(outputs).texts.tolist() == ["yes", "so"]
    assert rover(outputs, lacking="silent").texts.tolist() == ["", "so"]
    nobody = {"b": skipped, "c": skipped}
    assert rover(nobody, lacking="silent").answered.tolist() == [False, True]
    with pytest.raises(OutputsError, match="skip or silent"):
        rover(outputs, lacking="quiet")


def test_one_system_is_itself():
    alone = Texts(["  so   it is ", ""], [0.5, np.nan], confidences=[0.1, 0.2, np.nan])
    fused = rover({"only": alone})
    assert fused.texts.tolist() == alone.texts.tolist()
    np.testing.assert_array_equal(fused.confidences, alone.confidences)
    np.testing.assert_array_equal(fused.scores, alone.scores)


def test_the_system_in_most_agreement_comes_first():
    outputs = {"a": Texts(["what all to do"]), "b": Texts(["four eight two"]), "c": Texts(["four ate two"])}
    assert rover(outputs).texts[0] in ("four eight two", "four ate two")
    assert rover(outputs, order=["c"]).texts[0] == "four ate two"


def test_repetition_loops_are_outvoted():
    loop = " ".join(["say you"] * 80)
    said = "six zero two six"
    outputs = {"a": Texts([loop]), "b": Texts([said]), "c": Texts([said.replace("zero", "hero")])}
    assert rover(outputs).texts[0] in (said, said.replace("zero", "hero"))


@pytest.mark.parametrize(
    "words", ["пять шесть семь", "五 六 七", "שלוש ארבע חמש", "cafe\u0301 nai\u0308ve x"]
)
def test_words_of_any_script(words):
    first, *rest = words.split()
    outputs = {"a": Texts([words]), "b": Texts([" ".join(rest)]), "c": Texts([f"{first.upper()} {rest[-1]}"])}
    assert rover(outputs).texts[0].split()[1:] == rest
    composed = {"a": Texts(["caf\u00e9 x"]), "b": Texts(["cafe\u0301 x"])}
    assert len(rover(composed).texts[0].split()) == 2


def test_case_counts_where_it_is_asked_for():
    outputs = {"a": Texts(["Rose"]), "b": Texts(["rose"]), "c": Texts(["nose"])}
    assert rover(outputs).texts[0].lower() == "rose"
    assert rover(outputs, case_sensitive=True, order=["c"]).texts[0] == "nose"


def test_more_systems_than_bits_of_a_word():
    outputs = {f"s{k:02d}": Texts([f"a b{k % 3} c{k}"]) for k in range(70)}
    assert rover(outputs).texts[0].split()[:2] == ["a", "b0"]


def test_long_texts():
    rng = np.random.default_rng(0)
    said = [f"w{k}" for k in rng.integers(0, 500, 10_000)]
    wrong = list(said)
    wrong[17] = "other"
    outputs = {"a": Texts([" ".join(said)]), "b": Texts([" ".join(wrong)])}
    assert rover(outputs, order=["a"]).texts[0].split() == said


def test_texts_too_long_to_align_are_refused():
    loop = Texts(["x " * 21_000])
    with pytest.raises(OutputsError, match="21000 slots and 21000 words are too many to align"):
        rover({"a": loop, "b": loop})


def test_what_does_not_fit_is_told():
    outputs = {"a": Texts(["x"]), "b": Texts(["y"])}
    for wanted, given_ in (
        ("no method 'avgcnf'; did you mean 'avgconf'", {"method": "avgcnf"}),
        ("alpha must lie in 0 to 1", {"alpha": 1.5}),
        ("null_confidence must be a finite", {"null_confidence": np.nan}),
        ("three finite numbers", {"method": "logodds", "evidence": {"a": [1.0]}}),
        ("time_align needs start and end of every word; text 0", {"time_align": True}),
        ("weights must not be negative", {"weights": {"a": -1, "b": 1}}),
        ("all weights are 0", {"weights": {"a": 0, "b": 0}}),
    ):
        with pytest.raises(OutputsError, match=wanted):
            rover(outputs, **given_)
    with pytest.raises(OutputsError, match="'b' is of values"):
        rover({"a": Texts(["x"]), "b": Values([1.0])})
    with pytest.raises(OutputsError, match="different numbers of rows"):
        rover({"a": Texts(["x"]), "b": Texts(["x", "y"])})
    assert len(rover({"a": Texts([]), "b": Texts([])})) == 0


def spoken(rng, rows=8):
    """Three recognisers of the same sentences, with confidences and times."""
    outputs = {}
    true = [rng.choice(list("abcdefg"), int(rng.integers(0, 8))) for _ in range(rows)]
    for name, wrong in (("é ü", 0.1), ("b", 0.25), ("c", 0.5)):
        texts, starts = [], []
        for row in true:
            kept = [
                rng.choice(list("abcxyz")) if rng.random() < wrong else w
                for w in row
                if rng.random() > wrong / 2
            ]
            texts.append(" ".join(kept))
            starts += np.cumsum(rng.uniform(0.2, 1.5, len(kept))).tolist()
        starts = np.array(starts)
        answered = rng.random(rows) > (0.2 if name == "b" else 0.0)
        made = Texts(texts, None, None, starts=starts, ends=starts + 0.2, confidences=rng.random(len(starts)))
        rows_ = [k for k in range(rows) if answered[k]]
        outputs[name] = made if len(rows_) == rows else silenced(made, ~answered)
    return outputs


@pytest.mark.parametrize("method", METHODS[:4])
@pytest.mark.parametrize("law", FUSER_LAWS)
def test_laws_hold_with_times_and_confidences(method, law):
    def fuser(outputs, /, *, weights=None):
        return rover(outputs, weights=weights, method=method, alpha=0.4, null_confidence=0.3)

    FUSER_LAWS[law](FuserCase(fuser, spoken(np.random.default_rng(1))))


sentences = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6).map(" ".join)


@given(st.lists(st.lists(sentences, min_size=3, max_size=3), min_size=2, max_size=4))
@settings(deadline=None, max_examples=40)
def test_any_sentences(systems):
    outputs = {f"s{k}": Texts(texts) for k, texts in enumerate(systems)}
    fused = rover(outputs)
    assert fused.answered.all()
    for row, text in enumerate(fused.texts):
        said = [str(o.texts[row]).split() for o in outputs.values()]
        assert set(text.split()) <= set().union(*map(set, said))
        assert len(text.split()) <= sum(map(len, said))
        if all(s == said[0] for s in said):
            assert text.split() == said[0]
