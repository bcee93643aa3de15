"""ROVER and the choice of hypotheses, fitted: recovery of what is true, guards, and real recognisers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conjoin.checks import FITTED_LAWS, FittedCase
from conjoin.errors import BundleError, OutputsError, TruthError
from conjoin.formats.ctm import FORMAT
from conjoin.fusion.applied import Applied
from conjoin.fusion.single import Single, fit_single
from conjoin.fusion.texts import SPOKEN
from conjoin.fusion.texts.hypothesis import HypothesisSelection, fit_hypothesis_selection
from conjoin.fusion.texts.rover_fit import conditional_logit, fit_rover
from conjoin.fusion.trials import choose_by_trial
from conjoin.outputs import Texts, Values
from conjoin.scores import score_of

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "outputs" / "speech" / "dev"
WER = score_of("wer", "texts")
FITS = {"rover": fit_rover, "hypothesis_selection": fit_hypothesis_selection}


def recognisers(seed, rows=60, honest=True):
    """Three recognisers whose confidence tells (honest) or does not tell which words are wrong."""
    rng = np.random.default_rng(seed)
    true = [[f"w{k}" for k in rng.integers(0, 30, 6)] for _ in range(rows)]
    outputs = {}
    for name, wrong in (("a", 0.25), ("b", 0.3), ("c", 0.35)):
        texts, sure = [], []
        for row in true:
            hit = rng.random(len(row)) < wrong
            texts.append(
                " ".join(f"x{rng.integers(0, 99)}" if h else w for w, h in zip(row, hit, strict=True))
            )
            sure += np.where(hit, rng.uniform(0.05, 0.5, 6), rng.uniform(0.4, 0.99, 6)).tolist()
        outputs[name] = Texts(texts, confidences=sure if honest else rng.random(len(sure)))
    return outputs, Texts([" ".join(row) for row in true])


@pytest.mark.parametrize("name", FITS)
def test_better_than_the_best_system_on_new_texts(name):
    outputs, truth = recognisers(0)
    fuser = FITS[name](outputs, truth)
    again, held_out = recognisers(1)
    best = fit_single(outputs, truth, score=WER)
    assert WER.loss(fuser(again), held_out) < WER.loss(best(again), held_out) - 0.02


def test_rover_uses_honest_confidences():
    outputs, truth = recognisers(2)
    fuser = fit_rover(outputs, truth)
    assert isinstance(fuser, Applied)
    assert fuser.options["method"] == "logodds" or fuser.options["alpha"] < 1
    assert fuser.options["order"][0] == "a"


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("law", FITTED_LAWS)
def test_laws(name, law):
    outputs, truth = recognisers(3, rows=20)
    FITTED_LAWS[law](FittedCase(FITS[name], outputs, truth, WER))


@pytest.mark.parametrize("name", FITS)
def test_few_and_missing_rows(name):
    outputs, truth = recognisers(4, rows=6)
    for rows in (1, 2, 3):
        some = {n: o.take(slice(rows)) for n, o in outputs.items()}
        assert len(FITS[name](some, truth.take(slice(rows)))(outputs)) == 6
    known = np.array([True, False, True, True, False, True])
    fuser = FITS[name](outputs, Texts(truth.texts, answered=known), weights=np.arange(6.0))
    assert fuser(outputs).answered.all()
    empty = Texts(["", "", "", "", "", ""])
    assert FITS[name]({"a": empty, "b": outputs["b"]}, truth)({"a": empty, "b": outputs["b"]}).answered.all()


def test_a_system_with_a_loop_is_not_chosen():
    outputs, truth = recognisers(5, rows=30, honest=False)
    loops = [t if k % 3 else "say you " * 60 for k, t in enumerate(truth.texts)]
    outputs["loops"] = Texts(loops, confidences=np.full(sum(len(t.split()) for t in loops), 0.9))
    fuser = fit_hypothesis_selection(outputs, truth)
    assert isinstance(fuser, HypothesisSelection)
    chosen = fuser(outputs).texts
    assert not any("say you" in text for text in chosen)
    assert sum(a == b for a, b in zip(chosen, truth.texts, strict=True)) >= 20


def test_what_does_not_fit_is_told():
    outputs, truth = recognisers(6, rows=5)
    for fit in FITS.values():
        with pytest.raises(TruthError, match="truth of texts, not values"):
            fit(outputs, Values(np.zeros(5)))
        with pytest.raises(OutputsError, match="no output"):
            fit({}, truth)
    fuser = fit_hypothesis_selection(outputs, truth, score=WER)
    if isinstance(fuser, HypothesisSelection):
        with pytest.raises(OutputsError, match="was not fitted to new"):
            fuser({"new": outputs["a"]})
        arrays, meta = fuser.pack()
        with pytest.raises(BundleError, match="vocabulary"):
            HypothesisSelection.unpack(arrays, {**meta, "vocabulary": [1]}, {})
        with pytest.raises(BundleError, match="slopes"):
            HypothesisSelection.unpack({**arrays, "slopes": np.zeros(2)}, meta, {})


def test_conditional_logit_finds_the_weights():
    rng = np.random.default_rng(0)
    X, true = rng.normal(size=(9000, 2)), np.array([1.5, -0.7])
    slots = np.repeat(np.arange(3000), 3)
    noisy = (X @ true + rng.gumbel(size=9000)).reshape(3000, 3)
    right = (noisy == noisy.max(axis=1, keepdims=True)).reshape(-1)
    found = conditional_logit(X, right, slots, np.ones(3000), 1e-6)
    np.testing.assert_allclose(found, true, atol=0.1)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}: real recognisers' answers lie beside the project")
def test_real_recognisers():
    names = ("whisper_base", "whisper_tiny", "pocketsphinx")
    found = FORMAT.read({n: DATA / f"{n}.ctm" for n in names}, DATA / "ref.stm")
    assert len(found.rows) == 48
    for name, errors in zip(names, (22, 51, 289), strict=True):
        assert WER.value(found.outputs[name], found.truth) == pytest.approx(errors / 338)
    gaps = []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(48)
        a, b = np.sort(order[:24]), np.sort(order[24:])
        ours = {n: o.take(a) for n, o in found.outputs.items()}
        theirs = {n: o.take(b) for n, o in found.outputs.items()}
        fuser = fit_hypothesis_selection(ours, found.truth.take(a))
        best = fit_single(ours, found.truth.take(a), score=WER)
        assert isinstance(fuser, HypothesisSelection | Single)
        gaps.append(
            WER.value(fuser(theirs), found.truth.take(b)) - WER.value(best(theirs), found.truth.take(b))
        )
    assert np.mean(gaps) < 0
    assert max(gaps) <= 0.006  # one word of the half


def test_speech_is_left_to_operators_for_speech():
    outputs, truth = recognisers(7, rows=20)
    choice = choose_by_trial(outputs, truth)
    assert choice.score == "wer"
    assert {c.name for c in choice.candidates} == {"best_single", *SPOKEN}
