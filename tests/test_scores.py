"""Scores against scikit-learn, per-row losses against their own mean, intervals against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics

from conjoin.errors import InputError, OutputsError, TruthError
from conjoin.outputs import Labels, Probabilities, Quantiles, Values
from conjoin.scores import SCORES, default_score, estimate, p_value, paired, score_of, user_score

CLASSES = ("a", "b", "c", "d")


def case(width: int, n: int = 300, seed: int = 0) -> tuple[Probabilities, Labels, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, width, n)
    logits = rng.normal(size=(n, width)) + 1.5 * (y[:, None] == np.arange(width))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p[: n // 4] = p[: n // 4].round(1)  # ties
    p /= p.sum(axis=1, keepdims=True)
    return Probabilities(p, CLASSES[:width]), Labels(y, CLASSES[:width]), rng.random(n) + 0.1


def numbers(n: int = 200) -> tuple[Values, Values, np.ndarray]:
    rng = np.random.default_rng(1)
    y = rng.gamma(2.0, size=n)
    return Values(y + rng.normal(size=n) * 0.3), Values(y), rng.random(n) + 0.1


def sklearn_value(name: str, p: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    said = p.argmax(axis=1)
    binary = p.shape[1] == 2
    known = {
        "log_loss": lambda: metrics.log_loss(y, np.maximum(p, 1e-15), sample_weight=w),
        "brier": lambda: metrics.brier_score_loss(y, p[:, 1] if binary else p, sample_weight=w),
        "auc": lambda: (
            metrics.roc_auc_score(y, p[:, 1], sample_weight=w)
            if binary
            else metrics.roc_auc_score(y, p, multi_class="ovr", sample_weight=w)
        ),
        "average_precision": lambda: metrics.average_precision_score(
            y, p[:, 1] if binary else p, sample_weight=w
        ),
        "accuracy": lambda: metrics.accuracy_score(y, said, sample_weight=w),
        "error": lambda: 1 - metrics.accuracy_score(y, said, sample_weight=w),
        "balanced_accuracy": lambda: metrics.balanced_accuracy_score(y, said, sample_weight=w),
        "f1": lambda: metrics.f1_score(y, said, sample_weight=w),
        "f1_macro": lambda: metrics.f1_score(y, said, average="macro", sample_weight=w),
        "f1_micro": lambda: metrics.f1_score(y, said, average="micro", sample_weight=w),
        "f1_weighted": lambda: metrics.f1_score(y, said, average="weighted", sample_weight=w),
        "mcc": lambda: metrics.matthews_corrcoef(y, said, sample_weight=w),
    }
    return float(known[name]())


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("name", [n for n, s in SCORES.items() if s.kind == "probabilities" and n != "ece"])
def test_class_scores_are_those_of_sklearn(name: str, width: int) -> None:
    p, y, w = case(width)
    if name == "f1" and width > 2:
        with pytest.raises(TruthError, match="f1_macro"):
            SCORES[name].value(p, y)
        return
    assert SCORES[name].value(p, y, w) == pytest.approx(sklearn_value(name, p.values, y.codes, w), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("rmse", metrics.root_mean_squared_error),
        ("mse", metrics.mean_squared_error),
        ("mae", metrics.mean_absolute_error),
        ("mape", metrics.mean_absolute_percentage_error),
        ("rmsle", metrics.root_mean_squared_log_error),
        ("r2", metrics.r2_score),
    ],
)
def test_number_scores_are_those_of_sklearn(name: str, peer) -> None:
    p, y, w = numbers()
    p = Values(np.maximum(p.values, 0))
    assert SCORES[name].value(p, y, w) == pytest.approx(peer(y.values, p.values, sample_weight=w))


def test_median_absolute_error() -> None:
    p, y, _ = numbers()
    assert SCORES["medae"].value(p, y) == pytest.approx(metrics.median_absolute_error(y.values, p.values))


def test_pinball_winkler_and_coverage() -> None:
    _, y, w = numbers()
    q = Quantiles(np.quantile(y.values, [0.1, 0.5, 0.9])[None].repeat(200, 0), [0.1, 0.5, 0.9])
    peers = [
        metrics.mean_pinball_loss(y.values, q.values[:, k], alpha=a, sample_weight=w)
        for k, a in enumerate(q.levels)
    ]
    assert SCORES["pinball"].value(q, y, w) == pytest.approx(np.mean(peers))
    assert SCORES["crps"].value(q, y, w) == pytest.approx(2 * np.mean(peers))
    assert SCORES["coverage"].value(q, y) == pytest.approx(0.0, abs=0.01)
    assert SCORES["winkler"].value(q, y) > float(np.diff(q.values[0, [0, 2]])[0])


def test_ece_of_honest_and_of_overconfident_answers() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20000)
    y = Labels((rng.random(20000) < p).astype(int), ("a", "b"))
    honest = SCORES["ece"].value(Probabilities(np.c_[1 - p, p], ("a", "b")), y)
    bold = SCORES["ece"].value(Probabilities(np.c_[p < 0.5, p >= 0.5].astype(float), ("a", "b")), y)
    assert honest < 0.02
    assert bold == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("name", [n for n, s in SCORES.items() if s.row_losses is not None])
@pytest.mark.parametrize("width", [2, 4])
def test_rows_have_the_loss_as_their_weighted_mean(name: str, width: int) -> None:
    score = SCORES[name]
    if score.kind == "probabilities":
        if name == "f1" and width > 2:
            width = 2
        p, y, w = case(width)
    else:
        p, y, w = numbers()
        if score.kind == "quantiles":
            p = Quantiles(np.c_[p.values - 0.3, p.values + 0.3], (0.2, 0.8))
    w[:10] = 0
    rows = score.rows(p, y, w)
    assert np.isnan(rows[:10]).all()
    assert np.average(rows[10:], weights=w[10:]) == pytest.approx(score.loss(p, y, w), abs=1e-10)


@pytest.mark.parametrize("name", ["auc", "f1_macro", "mcc", "balanced_accuracy", "rmse", "f1", "f1_weighted"])
def test_standard_errors_agree_with_the_spread_over_many_samples(name: str) -> None:
    score, values, errors = SCORES[name], [], []
    for seed in range(150):
        if score.kind == "values":
            rng = np.random.default_rng(seed)
            y = Values(np.zeros(200))
            p = Values(rng.normal(size=200))
        else:
            p, y, _ = case(2, n=200, seed=seed)
        e = estimate(score, p, y)
        values.append(e.value)
        errors.append(e.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.25)


def test_bootstrap_where_there_are_no_rows() -> None:
    p, y, _ = numbers()
    e = estimate(SCORES["medae"], p, y)
    assert e.low < e.value < e.high
    assert paired(SCORES["medae"], p, p, y).p_value == 1.0


def test_unanswered_rows_and_abstaining_truth_do_not_count() -> None:
    p = Probabilities([[0.9, 0.1], [np.nan, np.nan], [0.5, 0.5]], ("a", "b"), [True, False, True])
    y = Labels([0, 0, -1], ("a", "b"))
    assert SCORES["log_loss"].value(p, y) == pytest.approx(-math.log(0.9))
    assert np.isnan(SCORES["log_loss"].rows(p, y)).tolist() == [False, True, True]
    nobody = Probabilities([[np.nan, np.nan]], ("a", "b"), [False])
    assert math.isnan(SCORES["log_loss"].value(nobody, Labels([0], ("a", "b"))))


def test_classes_are_aligned_by_name_and_unknown_ones_get_zero() -> None:
    p = Probabilities([[0.2, 0.8], [0.7, 0.3]], ("b", "a"))
    assert SCORES["accuracy"].value(p, Labels([0, 1], ("a", "b"))) == 1.0
    assert SCORES["log_loss"].value(p, Labels([2, 2], ("a", "b", "c"))) == pytest.approx(-math.log(1e-15))


def test_labels_are_scored_by_decisions() -> None:
    y = Labels([0, 1, 1], ("a", "b"))
    assert SCORES["accuracy"].value(Labels([0, 1, 0], ("a", "b")), y) == pytest.approx(2 / 3)
    with pytest.raises(OutputsError, match="probabilities"):
        SCORES["log_loss"].value(Labels([0, 1, 0], ("a", "b")), y)


def test_one_class_has_no_auc() -> None:
    p, y = Probabilities([[0.5, 0.5]] * 3, ("a", "b")), Labels([0, 0, 0], ("a", "b"))
    assert math.isnan(SCORES["auc"].value(p, y))
    assert np.isnan(SCORES["auc"].rows(p, y)).all()


@pytest.mark.parametrize(
    ("answer", "truth", "weights", "words"),
    [
        (Values([1.0]), Values([1.0, 2.0]), None, "1 answers but 2 truths"),
        (Values([1.0, np.nan]), Values([1.0, 2.0]), None, "NaN in 1 rows"),
        (Values([1.0, 2.0]), Labels([0, 0], ("a",)), None, "needs a truth of values"),
        (Values([1.0, 2.0]), Values([1.0, 2.0]), [1.0, -1.0], "none negative"),
        (Labels([0, 0], ("a",)), Values([1.0, 2.0]), None, "not labels"),
    ],
)
def test_what_does_not_fit_is_refused(answer, truth, weights, words: str) -> None:
    with pytest.raises(OutputsError, match=words):
        SCORES["rmse"].value(answer, truth, weights)


def test_paired_sees_the_better_one() -> None:
    p, y, _ = case(2)
    blur = Probabilities(0.5 * p.values + 0.25, p.classes)
    d = paired(SCORES["log_loss"], p, blur, y)
    back = paired(SCORES["log_loss"], blur, p, y)
    assert d.mean == pytest.approx(-back.mean)
    assert d.p_value == pytest.approx(back.p_value)
    assert d.mean == pytest.approx(SCORES["log_loss"].loss(p, y) - SCORES["log_loss"].loss(blur, y))
    assert paired(SCORES["log_loss"], p, p, y).p_value == 1.0


def test_p_values_at_the_edges() -> None:
    assert p_value(0.0, 0.0, 10) == 1.0
    assert p_value(0.1, 0.0, 10) == 0.0
    assert p_value(float("nan"), 1.0, 10) == 1.0
    assert p_value(1.0, 1.0, 0) == 1.0


def test_user_scores_take_sklearn_metrics() -> None:
    p, y, w = case(4)
    own = user_score(metrics.balanced_accuracy_score, kind="probabilities", better="higher", decisions=True)
    assert own.value(p, y, w) == pytest.approx(SCORES["balanced_accuracy"].value(p, y, w))
    assert own.loss(p, y) == pytest.approx(-own.value(p, y))
    p2, y2, _ = case(2)
    area = user_score(metrics.roc_auc_score, kind="probabilities", better="higher", best=1.0)
    assert area.loss(p2, y2) == pytest.approx(SCORES["auc"].loss(p2, y2))


def test_names_have_aliases_and_near_names() -> None:
    assert score_of("nll") is SCORES["log_loss"]
    with pytest.raises(InputError, match="did you mean 'log_loss'"):
        score_of("logloss")
    assert default_score(Values([1.0])).name == "rmse"
    assert default_score(Labels([0], ("a",))).name == "accuracy"


def test_scores_of_zero_rows_are_nan() -> None:
    for name in ("log_loss", "auc", "f1_macro", "mcc"):
        nothing = Probabilities(np.zeros((0, 2)), ("a", "b"))
        assert math.isnan(SCORES[name].value(nothing, Labels(np.zeros(0, int), ("a", "b"))))
