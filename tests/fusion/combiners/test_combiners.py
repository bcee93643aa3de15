"""Combiners: formulas worked by hand, the laws, real outputs, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from conjoin.checks import FITTED_LAWS, FUSER_LAWS, FittedCase, FuserCase
from conjoin.errors import BundleError, OutputsError, TruthError
from conjoin.fusion.combiners import (
    FIT_FUSERS,
    Ballots,
    Templates,
    borda_classes,
    fit_bks,
    fit_decision_templates,
    fit_dempster_shafer,
    fit_naive_bayes,
    fit_pseudo_bma,
)
from conjoin.fusion.combiners.borda import points
from conjoin.fusion.single import Single
from conjoin.outputs import Labels, Probabilities, Values
from conjoin.scores import SCORES

NOT_ITSELF = {"decision_templates", "dempster_shafer", "naive_bayes", "bks"}


def world(n: int = 80) -> tuple[dict, Labels]:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, n)
    outputs = {}
    for name, skill in {"good": 2.5, "fair ü": 1.5, "poor": 0.7}.items():
        z = rng.normal(size=(n, 3)) + skill * np.eye(3)[codes]
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        outputs[name] = Probabilities(p, "xyz", rng.random(n) > 0.05)
    return outputs, Labels(codes, "xyz")


def test_borda_by_hand() -> None:
    assert points(np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [1, 0, 0]])).tolist() == [
        [0, 2, 1],
        [1.5, 1.5, 0],
        [2, 0.5, 0.5],
    ]
    assert points(np.zeros((0, 3))).shape == (0, 3)
    p = np.random.default_rng(0).integers(0, 4, (30, 6)).astype(float)
    slow = (p[:, :, None] > p[:, None, :]).sum(2) + ((p[:, :, None] == p[:, None, :]).sum(2) - 1) / 2
    assert (points(p) == slow).all()
    outputs, _ = world()
    for law in FUSER_LAWS:
        if law != "one member is that member":  # ranks are not probabilities
            FUSER_LAWS[law](FuserCase(borda_classes, outputs))


def test_templates_by_hand() -> None:
    a = Probabilities([[1, 0], [0.8, 0.2], [0, 1]], "xy")
    b = Probabilities([[0.6, 0.4], [0.6, 0.4], [0.4, 0.6]], "xy")
    truth = Labels([0, 0, 1], "xy")
    fuser = fit_decision_templates({"a": a, "b": b}, truth, guard=False)
    assert fuser.templates[0] == pytest.approx(np.array([[0.9, 0.1], [0.6, 0.4]]))
    asked = {"a": Probabilities([[0.9, 0.1]], "xy"), "b": Probabilities([[0.6, 0.4]], "xy")}
    far = ((np.array([0.9, 0.1]) - [0, 1]) ** 2).sum() + 2 * 0.2**2
    near = 1 - far / 4
    assert fuser(asked).values == pytest.approx(np.array([[1, near]]) / (1 + near))
    shafer = fit_dempster_shafer({"a": a, "b": b}, truth, guard=False)
    f = np.array([[1, 1 / (1 + 1.62)], [1, 1 / (1 + 0.08)]])  # members x classes
    f /= f.sum(axis=1, keepdims=True)
    belief = np.array([[x * (1 - y) / (1 - x * y) for x, y in ((p, q), (q, p))] for p, q in f])
    expected = belief.prod(axis=0)
    assert shafer(asked).values[0] == pytest.approx(expected / expected.sum())


def test_ballots_by_hand() -> None:
    a, b = Labels([0, 0, 1, 1], "xy"), Labels([0, 1, 1, 0], "xy")
    truth = Labels([0, 0, 1, 1], "xy")
    bayes = fit_naive_bayes({"a": a, "b": b}, truth, guard=False)
    assert bayes.confusion[0] == pytest.approx(np.array([[2.5, 0.5], [0.5, 2.5]]) / 3)
    assert bayes.confusion[1] == pytest.approx(np.full((2, 2), 0.5))
    one = bayes({"a": Labels([0], "xy"), "b": Labels([1], "xy")})
    assert one.values[0] == pytest.approx([2.5 / 3, 0.5 / 3])
    assert bayes({"a": Labels([0], "xy")}).values == pytest.approx(one.values)
    space = fit_bks({"a": a, "b": b}, truth, guard=False, strength=1.0)
    assert len(space.cells) == 4
    assert space({"a": Labels([0], "xy"), "b": Labels([1], "xy")}).values[0, 0] == pytest.approx(
        (1 + 2.5 / 3) / 2
    )


def test_pseudo_bma() -> None:
    outputs, truth = world(40)
    rows = np.logical_and.reduce([o.answered for o in outputs.values()])
    full = {n: o.take(rows) for n, o in outputs.items()}
    answer = truth.take(rows)
    flat = fit_pseudo_bma(full, answer, draws=0, guard=False)
    logs = {n: np.log(o.values[np.arange(rows.sum()), answer.codes]).sum() for n, o in full.items()}
    expected = {n: np.exp(v - max(logs.values())) for n, v in logs.items()}
    total = sum(expected.values())
    for n, w in flat.weights.items():
        assert w == pytest.approx(expected[n] / total)
    plus = fit_pseudo_bma(full, answer, guard=False)
    assert max(plus.weights.values()) <= max(flat.weights.values()) + 1e-9  # the bootstrap evens out
    assert fit_pseudo_bma(full, answer, guard=False).weights == plus.weights


@pytest.mark.parametrize("law", [*FUSER_LAWS, *FITTED_LAWS])
@pytest.mark.parametrize("name", FIT_FUSERS)
def test_laws(name: str, law: str) -> None:
    outputs, truth = world()
    if law in FITTED_LAWS:
        score = SCORES["log_loss"]
        FITTED_LAWS[law](FittedCase(FIT_FUSERS[name], outputs, truth, score))
        return
    fuser = FIT_FUSERS[name](outputs, truth, guard=False)
    if law != "one member is that member" or name not in NOT_ITSELF:  # they learn what a member means
        FUSER_LAWS[law](FuserCase(fuser, outputs))


@pytest.mark.parametrize("name", FIT_FUSERS)
def test_better_than_the_best_and_packed(name: str) -> None:
    outputs, truth = world(600)
    half, rest = slice(0, 300), slice(300, 600)
    fuser = FIT_FUSERS[name]({n: o.take(half) for n, o in outputs.items()}, truth.take(half), guard=False)
    asked, answer = {n: o.take(rest) for n, o in outputs.items()}, truth.take(rest)
    score = SCORES["accuracy"]
    alone = score.value(outputs["fair ü"].take(rest), answer)
    assert score.value(fuser(asked), answer) > alone
    again = type(fuser).unpack(*fuser.pack(), {})
    assert np.array_equal(again(asked).values, fuser(asked).values, equal_nan=True)


def test_a_class_without_rows_and_guards() -> None:
    outputs, truth = world()
    few = Labels(np.where(truth.codes == 2, 0, truth.codes), "xyz")
    for fit in FIT_FUSERS.values():
        fused = fit(outputs, few, guard=False)(outputs)
        assert np.isfinite(fused.values[fused.answered]).all()
    sure = {"a": Probabilities(np.eye(3)[truth.codes], "xyz"), "b": outputs["poor"]}
    assert isinstance(fit_decision_templates(sure, truth), Single)


def test_bad_input_is_told() -> None:
    outputs, truth = world()
    fuser = fit_naive_bayes(outputs, truth, guard=False)
    wide = {"a": Probabilities(np.full((2, 5000), 1 / 5000), range(5000))}
    for error, told, call in [
        (OutputsError, "takes probabilities", lambda: borda_classes({"a": Values([1.0])})),
        (OutputsError, "was not fitted to", lambda: fuser({"who": outputs["good"]})),
        (
            OutputsError,
            "numbers, more than",
            lambda: fit_decision_templates(wide, Labels([0, 1], range(5000))),
        ),
        (TruthError, "truth of labels", lambda: fit_bks(outputs, Values(np.ones(80)))),
        (OutputsError, "NaN", lambda: fuser({"good": Probabilities(np.full((2, 3), np.nan), "xyz")})),
    ]:
        with pytest.raises(error, match=told):
            call()
    arrays, meta = fuser.pack()
    for bad in ({"prior": np.zeros(3)}, {"confusion": np.ones((1, 3, 3))}, {"strength": np.array([-1.0])}):
        with pytest.raises(BundleError):
            Ballots.unpack({**arrays, **bad}, meta, {})
    with pytest.raises(BundleError):
        Templates.unpack({}, {"rule": "no", "members": ["a"], "classes": ["x"]}, {})
