"""Reranking, and what is fitted: weights of systems, utilities, linear scores."""

from pathlib import Path

import numpy as np
import pytest

from conjoin.errors import OutputsError, TruthError
from conjoin.fusion.applied import Applied
from conjoin.fusion.single import Single
from conjoin.fusion.texts import (
    FEATURES,
    FIT_FUSERS,
    fit_minimum_bayes_risk,
    fit_rerank,
    minimum_bayes_risk,
    rerank,
)
from conjoin.outputs import Labels, Texts
from conjoin.scores import score_of
from conjoin.scores.field import FieldScore

DATA = Path(__file__).parents[4] / "shared/data/outputs/translation/dev"
SAID = "the a cat sat on mat dog ran was in house seen by every café שלום"
WORDS = SAID.split()
CHRF = score_of("chrf", "texts")


def said(*texts, scores):
    return {f"m{k}": Texts([t], [s]) for k, (t, s) in enumerate(zip(texts, scores, strict=True))}


def systems(rng, rows, skills, *, told=False):
    """Systems that get words wrong, each on its own; with `told` their scores know how many."""
    truth = [rng.choice(WORDS, 10) for _ in range(rows)]
    outputs = {}
    for k, skill in enumerate(skills):
        share = np.clip(1 - skill + 0.25 * rng.standard_normal(rows), 0.05, 0.9)
        wrong = [rng.random(10) < s for s in share]
        texts = [" ".join(np.where(w, rng.choice(WORDS, 10), t)) for w, t in zip(wrong, truth, strict=True)]
        scores = (k + 1) * -np.array([w.mean() for w in wrong]) + 10 * k
        outputs[f"s{k}"] = Texts(texts, scores if told else None)
    return outputs, Texts([" ".join(t) for t in truth])


def test_reranking_by_score():
    fused = rerank(said("x", "y", "z", scores=[-3.0, -1.0, np.nan]))
    assert (fused.texts[0], fused.scores[0]) == ("y", -1.0)
    assert rerank(said("x", "y", scores=[np.nan, np.nan])).texts[0] == "x"
    assert rerank(said("x", "y", scores=[1.0, 2.0]), weights=[1, 0]).texts[0] == "x"


def test_reranking_by_a_line_of_each_system():
    outputs = {"a#1": Texts(["x"], [-1.0]), "a#2": Texts(["y"], [-2.0]), "b": Texts(["z"], [9.0])}
    assert rerank(outputs, scores={"a": [0.0, 1.0], "b": [8.0, -5.0]}).texts[0] == "x"
    assert rerank(outputs, scores={"a": [0.0, -1.0]}, priors={"b": 1.5}).texts[0] == "y"
    assert rerank(outputs, priors={"b": 1.5}).texts[0] == "z"
    unknown = {**outputs, "b": Texts(["z"], [np.nan])}
    assert rerank(unknown, scores={"a": [0.0, 1.0], "b": [8.0, -5.0]}).texts[0] == "z"
    with pytest.raises(OutputsError, match=r"need \[mean, slope\]"):
        rerank(outputs, scores={"a": [1.0]})


@pytest.mark.parametrize(
    ("feature", "sign", "want"),
    [
        ("agreement", 1, "the cat sat on a mat"),
        ("bleu", 1, "the cat sat on a mat"),
        ("votes", 1, "x"),
        ("length", 1, "p q r s e e e e e e e e"),
        ("length", -1, "x"),
        ("odd_length", -1, "the cat sat on a mat"),
        ("repetition", 1, "p q r s e e e e e e e e"),
    ],
)
def test_features(feature, sign, want):
    near = ["the cat sat on a mat", "the cat sat on a rug", "the cat sat in a mat", "one cat sat on a mat"]
    outputs = said(*near, "x", "x", "p q r s e e e e e e e e", scores=[0.0] * 7)
    assert rerank(outputs, features={feature: sign}).texts[0] == want


def test_unknown_features():
    with pytest.raises(OutputsError, match="did you mean 'length'"):
        rerank(said("x", scores=[0.0]), features={"lenght": 1.0})
    assert set(FEATURES) == {"agreement", "bleu", "votes", "length", "odd_length", "repetition"}


def test_consensus_of_systems_of_equal_skill_beats_each_of_them():
    rng = np.random.default_rng(0)
    skills = [0.8, 0.8, 0.8, 0.8, 0.3]
    fuser = fit_minimum_bayes_risk(*systems(rng, 60, skills))
    assert isinstance(fuser, Applied)
    outputs, truth = systems(rng, 300, skills)
    best = max(CHRF.value(o, truth) for o in outputs.values())
    assert CHRF.value(fuser(outputs), truth) > best + 5
    assert CHRF.value(fuser(outputs), truth) >= CHRF.value(minimum_bayes_risk(outputs), truth)


def test_scores_that_know_are_used():
    rng = np.random.default_rng(1)
    skills = [0.7, 0.7, 0.7]
    fuser = fit_rerank(*systems(rng, 100, skills, told=True))
    assert isinstance(fuser, Applied)
    assert all(slope > 0 for _, slope in fuser.options["scores"].values())
    outputs, truth = systems(rng, 300, skills, told=True)
    best = max(CHRF.value(o, truth) for o in outputs.values())
    assert CHRF.value(fuser(outputs), truth) > best + 5
    assert CHRF.value(fuser(outputs), truth) > CHRF.value(rerank(outputs), truth)


@pytest.mark.parametrize("name", ["minimum_bayes_risk", "rerank", "answer_vote"])
def test_one_good_system_among_bad_ones_is_kept(name):
    outputs, truth = systems(np.random.default_rng(2), 60, [0.95, 0.2, 0.2])
    fuser = FIT_FUSERS[name](outputs, truth)
    mine = CHRF.value(fuser({n: outputs[n] for n in fuser.members}), truth)
    assert mine >= CHRF.value(outputs["s0"], truth) - 1e-9


@pytest.mark.parametrize("name", ["minimum_bayes_risk", "rerank", "answer_vote"])
def test_rows_and_truths_that_are_missing(name):
    rng = np.random.default_rng(3)
    outputs, truth = systems(rng, 40, [0.8, 0.7, 0.6])
    holes = {n: Texts(o.texts, o.scores, rng.random(40) < 0.8) for n, o in outputs.items()}
    known = Texts(truth.texts, answered=rng.random(40) < 0.7)
    fuser = FIT_FUSERS[name](holes, known, weights=rng.random(40))
    members = fuser.members
    fused = fuser({n: holes[n] for n in members})
    if not isinstance(fuser, Single):
        assert fused.answered.tolist() == np.any([holes[n].answered for n in fuser.needs], axis=0).tolist()
    one = {n: o.take(slice(0, 1)) for n, o in outputs.items()}
    assert FIT_FUSERS[name](one, truth.take(slice(0, 1))).members
    with pytest.raises(TruthError, match="no row has a truth"):
        FIT_FUSERS[name](outputs, Texts(truth.texts, answered=[False] * 40))
    with pytest.raises(TruthError, match="truth of texts, not labels"):
        FIT_FUSERS[name](outputs, Labels.of(["x"] * 40))
    with pytest.raises(TruthError, match="40 rows, the truth has 39"):
        FIT_FUSERS[name](outputs, truth.take(slice(0, 39)))


def test_a_score_that_does_not_add_up():
    def measure(output, truth):
        return float(np.mean(output.texts == truth.texts))

    whole = FieldScore("whole", "texts", "higher", 1.0, measure=measure)
    outputs, truth = systems(np.random.default_rng(4), 30, [0.9, 0.9, 0.9])
    fuser = fit_minimum_bayes_risk(outputs, truth, score=whole, utilities=["exact"])
    best = max(whole.value(o, truth) for o in outputs.values())
    assert whole.value(fuser({n: outputs[n] for n in fuser.members}), truth) >= best
    with pytest.raises(TruthError, match="take fit_minimum_bayes_risk"):
        fit_rerank(outputs, truth, score=whole)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}: real translations are not here")
def test_real_translations_are_never_worse_than_the_best_system():
    def read(name):
        return Texts((DATA / name).read_text("utf-8").splitlines())

    truth = read("reference.pt-BR")
    outputs = {p.name.removesuffix(".hyp.pt"): read(p.name) for p in DATA.glob("*.hyp.pt")}
    assert CHRF.value(minimum_bayes_risk(outputs), truth) == pytest.approx(58.91, abs=0.01)
    best = max(CHRF.value(o, truth) for o in outputs.values())
    for name in ("minimum_bayes_risk", "rerank", "answer_vote"):
        fuser = FIT_FUSERS[name](outputs, truth)
        assert CHRF.value(fuser({n: outputs[n] for n in fuser.members}), truth) >= best - 1e-9
