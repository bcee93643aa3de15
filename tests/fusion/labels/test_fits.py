"""Fits to truth: formulas, guards, real annotators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conjoin.errors import OutputsError, TruthError
from conjoin.formats.crowd import FORMAT
from conjoin.fusion.applied import Applied
from conjoin.fusion.labels import (
    CANDIDATES,
    FIT_FUSERS,
    FUSERS,
    Triples,
    WorkerModel,
    fit_log_odds_vote,
    fit_naive_bayes,
    fit_one_coin,
    fit_weighted_vote,
    majority_vote,
)
from conjoin.fusion.single import Single, fit_single
from conjoin.fusion.trials import choose_by_trial
from conjoin.outputs import Labels, Values
from conjoin.scores import SCORES

DATA = Path(__file__).parents[4] / "shared" / "data" / "outputs" / "sentiment" / "dev"


def twins(n=600, seed=0):
    """Three good independent members and four copies of a poor one."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)

    def one(skill):
        return np.where(rng.random(n) < skill, truth, rng.integers(0, 3, n))

    poor = one(0.5)
    outputs = {f"good{i}": Labels(one(0.7), tuple("abc")) for i in range(3)}
    outputs |= {f"copy{i}": Labels(poor, tuple("abc")) for i in range(4)}
    return outputs, Labels(truth, tuple("abc"))


def accuracy(fuser, outputs, truth) -> float:
    return SCORES["accuracy"].value(fuser(outputs), truth)


def test_log_odds_share_weight_among_copies() -> None:
    outputs, truth = twins()
    later, true = twins(seed=1)
    fitted = fit_log_odds_vote(outputs, truth)
    assert isinstance(fitted, WorkerModel)
    assert accuracy(fitted, later, true) > accuracy(fit_naive_bayes(outputs, truth), later, true) + 0.05
    assert accuracy(fitted, later, true) > accuracy(majority_vote, later, true) + 0.05


def test_log_odds_are_the_logistic_regression() -> None:
    """Two classes and no common weight to draw to: scikit-learn's optimum at a vanishing penalty."""
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    outputs = {
        f"w{i}": Labels(np.where(rng.random(400) < s, truth, 1 - truth), ("n", "y"))
        for i, s in enumerate((0.8, 0.7, 0.6))
    }
    model = fit_log_odds_vote(outputs, Labels(truth, ("n", "y")), penalty=1e-6)
    X = np.stack([2 * o.codes - 1 for o in outputs.values()], axis=1) / 2
    reference = linear.LogisticRegression(C=1e9, tol=1e-10).fit(X, truth)
    assert model(outputs).values[:, 1] == pytest.approx(reference.predict_proba(X)[:, 1], abs=1e-4)


def test_naive_bayes_counts() -> None:
    said = {"a": Labels.of(list("xxyy")), "b": Labels.of(["x", None, None, None], "xy")}
    model = fit_naive_bayes(said, Labels.of(list("xyxy"), "xy"), strength=1e-9)
    assert not isinstance(model, Single)
    assert model.answers[0] == pytest.approx(np.array([[1, 1], [1, 1]]))
    assert model.answers[1] == pytest.approx(np.array([[1, 0], [0, 0]]))
    assert model.prior == pytest.approx([0.5, 0.5])
    with pytest.raises(OutputsError, match="strength"):
        fit_naive_bayes(said, Labels.of(list("xyxy")), strength=0)


def test_a_member_with_one_answer_is_an_ordinary_one() -> None:
    outputs, truth = twins()
    outputs = {n: o for n, o in outputs.items() if n not in ("copy1", "copy2", "copy3")}
    codes = np.full(len(truth), -1)
    codes[7] = truth.codes[7]
    outputs["once"] = Labels(codes, truth.classes)
    for fit in (fit_one_coin, fit_naive_bayes):
        skill = fit(outputs, truth).skill
        assert min(skill.values()) < skill["once"] < 0.9
    assert fit_weighted_vote(outputs, truth).weights["once"] < 3


def test_weights_of_rows_are_rows_more_often() -> None:
    outputs, truth = twins(n=40)
    mass = np.arange(40) % 3
    rows = np.repeat(np.arange(40), mass)
    for name, fit in FIT_FUSERS.items():
        options = {"penalty": 4.0} if name == "log_odds_vote" else {}
        one = fit(outputs, truth, weights=mass.astype(float), **options)
        other = fit({n: o.take(rows) for n, o in outputs.items()}, truth.take(rows), **options)
        assert one(outputs).values == pytest.approx(other(outputs).values, abs=1e-3), name


def test_the_best_member_is_kept_where_fusing_is_worse() -> None:
    rng = np.random.default_rng(0)
    truth = Labels(rng.integers(0, 2, 50), ("n", "y"))
    outputs = {"best": truth, **{f"w{i}": Labels(rng.integers(0, 2, 50), ("n", "y")) for i in range(9)}}
    for name, fit in FIT_FUSERS.items():
        fitted = fit(outputs, truth)
        assert accuracy(fitted, outputs, truth) == 1.0, name
    sparse = {n: o for n, o in outputs.items() if n != "best"}
    codes = np.full(50, -1)
    codes[3] = truth.codes[3]
    sparse["lucky"] = Labels(codes, ("n", "y"))
    assert fit_one_coin(sparse, truth)(sparse).answered.all()
    assert not isinstance(fit_naive_bayes(sparse, truth), Single)
    assert next(iter(fit_single(sparse, truth).members)) != "lucky"
    assert choose_by_trial(sparse, truth).fuser(sparse).answered.all()


def test_truth_may_be_partial_and_have_more_classes() -> None:
    outputs, truth = twins(n=60)
    some = Labels(np.where(np.arange(60) < 30, truth.codes, -1), ("a", "b", "c", "d"))
    for name, fit in FIT_FUSERS.items():
        assert fit(outputs, some)(outputs).answered.all(), name


def test_triples_are_fitted_as_labels_are() -> None:
    outputs, truth = twins(n=60)
    triples = Triples.of(
        *zip(*[(i, n, c) for n, o in outputs.items() for i, c in enumerate(o.names())], strict=True)
    )
    for name, fit in FIT_FUSERS.items():
        a, b = fit(triples, truth), fit(outputs, truth)
        if not isinstance(b, Single):
            assert a(triples).values == pytest.approx(b(outputs).values, abs=1e-9), name


def test_what_cannot_be_fitted_is_refused() -> None:
    outputs, truth = twins(n=10)
    for fit in (fit_weighted_vote, fit_naive_bayes, fit_one_coin, fit_log_odds_vote):
        with pytest.raises(TruthError, match="not values"):
            fit(outputs, Values(np.zeros(10)))
        with pytest.raises(TruthError, match="10 rows, the truth has 9"):
            fit(outputs, truth.take(slice(0, 9)))
        with pytest.raises(TruthError, match="none has a truth"):
            fit(outputs, Labels.of([None] * 10, "abc"))
        with pytest.raises(OutputsError, match="weights of rows"):
            fit(outputs, truth, weights=-np.ones(10))
    with pytest.raises(OutputsError, match="penalty"):
        fit_log_odds_vote(outputs, truth, penalty=-1)


def test_a_weighted_vote_is_stored() -> None:
    outputs, truth = twins()
    fuser = fit_weighted_vote(outputs, truth)
    assert isinstance(fuser, Applied)
    again = Applied.unpack(*fuser.pack(), {})
    assert np.array_equal(again(outputs).values, fuser(outputs).values)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the real annotators are not there: {DATA}")
def test_real_annotators_fused_beat_the_best_of_them() -> None:
    """Sentiment, eight annotators: fitted to one half, reported on the other, five splits."""
    found = FORMAT.read({"crowd": DATA / "labels.csv"}, DATA / "truth.csv")
    outputs, truth, score = found.outputs, found.truth, SCORES["accuracy"]
    gains: dict[str, list[float]] = {}
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(truth))
        fit_at, test_at = order[: len(order) // 2], order[len(order) // 2 :]
        fit, test = ({n: o.take(a) for n, o in outputs.items()} for a in (fit_at, test_at))
        best = max(fit, key=lambda n: score.value(fit[n], truth.take(fit_at)))
        base = score.value(test[best], truth.take(test_at))
        for name in CANDIDATES:
            fuser = FIT_FUSERS[name](fit, truth.take(fit_at)) if name in FIT_FUSERS else FUSERS[name]
            gains.setdefault(name, []).append(score.value(fuser(test), truth.take(test_at)) - base)
    assert all(np.mean(g) > 0.015 for g in gains.values()), gains
    assert np.mean(gains["log_odds_vote"]) > 0.025
