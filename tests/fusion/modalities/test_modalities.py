"""Fusion of modalities: slopes, laws, missing modalities on real data, bad input."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from conjoin.checks import FITTED_LAWS, FUSER_LAWS, FittedCase, FuserCase
from conjoin.errors import BundleError, OutputsError, TruthError
from conjoin.fusion.modalities import (
    FIT_FUSERS,
    EarlyFusion,
    GatedFusion,
    LateFusion,
    LowRankFusion,
    fit_gated,
    fit_late,
    gated,
    tensor,
)
from conjoin.fusion.modalities.dropout import DROP, dropped
from conjoin.fusion.modalities.late import features
from conjoin.fusion.modalities.task import Target
from conjoin.fusion.modalities.views import MOST_WIDE, Views
from conjoin.outputs import Embeddings, Labels, Probabilities, Texts, Values
from conjoin.scores import SCORES, paired

from .world import CLASSES, EXCEPT, world

TABLE = Path(__file__).resolve().parents[4] / "shared" / "data" / "tables" / "adult.csv"
LAWS = ["one answer per row", "order does not matter", "chunks are the whole", "unanswered stays unanswered"]


def halves(outputs: dict, truth: Labels, seed: int = 0) -> tuple[dict, Labels, dict, Labels]:
    order = np.random.default_rng(seed).permutation(len(truth))
    i, j = np.sort(order[::2]), np.sort(order[1::2])
    first, second = ({n: o.take(at) for n, o in outputs.items()} for at in (i, j))
    return first, truth.take(i), second, truth.take(j)


def digits() -> tuple[dict, Labels]:
    """The upper and the lower half of real images of digits, as two modalities."""
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_digits(return_X_y=True)
    X, y = X[::2], y[::2]
    parts = {"upper": Embeddings(X[:, :32]), "lower": Embeddings(X[:, 32:])}
    return parts, Labels(y, [str(k) for k in range(10)])


def incomes() -> tuple[dict, Labels]:
    """The numbers and the categories of real people, as two modalities: is the income high?"""
    pandas = pytest.importorskip("pandas")
    if not TABLE.is_file():
        pytest.skip(f"no real table at {TABLE}")
    frame = pandas.read_csv(TABLE, nrows=3000)
    codes, classes = pandas.factorize(frame.pop("target"), sort=True)
    numbers = frame.select_dtypes("number")
    categories = pandas.get_dummies(frame.drop(columns=numbers.columns)).to_numpy(float)
    parts = {"numbers": Values(numbers.to_numpy(float)), "categories": Embeddings(categories)}
    return parts, Labels(codes, [str(c) for c in classes])


@pytest.mark.parametrize(
    ("data", "names"), [(digits, ("late", "early", "gated")), (incomes, ("late", "early"))]
)
def test_real_modalities_together_and_apart(data, names: tuple[str, ...]) -> None:
    """All together beat the best alone; without one they are as good as the best of the rest.

    By held-out log-loss, the latter within a standard error (0.002 for a new temperature).
    """
    score = SCORES["log_loss"]
    outputs, labels = data()
    runs = [halves(outputs, labels)]
    alone = {m: [fit_late({m: g[m]}, t)({m: a[m]}) for g, t, a, _ in runs] for m in outputs}
    answers = [r[3] for r in runs]
    losses = {
        m: np.mean([score.loss(o, t) for o, t in zip(v, answers, strict=True)]) for m, v in alone.items()
    }
    for name in names:
        fusers = [FIT_FUSERS[name](g, t) for g, t, _, _ in runs]
        for missing in (None, *outputs):
            rest = [m for m in outputs if m != missing]
            best = min(rest, key=losses.__getitem__)
            gaps = []
            for k, (_, _, asked, answer) in enumerate(runs):
                fused = fusers[k]({m: asked[m] for m in rest})
                gaps.append(paired(score, fused, alone[best][k], answer))
            mean = np.mean([g.mean for g in gaps])
            error = np.mean([g.standard_error for g in gaps])
            assert mean < (0 if missing is None else error + 0.002), (name, missing)


@pytest.mark.parametrize("name", FIT_FUSERS)
def test_numbers(name: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(400, 1)) * 50 + 1000
    parts = {m: y / 50 + rng.normal(size=(400, 3)) for m in "ab"}
    outputs = {m: Embeddings(p, rng.random(400) > 0.1) for m, p in parts.items()}
    truth = Values(y[:, 0])
    fuser = FIT_FUSERS[name](outputs, truth)
    fused = fuser(outputs)
    rmse = SCORES["rmse"]
    assert fused.values.shape == (400,)
    alone = fit_late({"a": outputs["a"]}, truth)({"a": outputs["a"]})
    assert rmse.loss(fused, truth) < 0.9 * rmse.loss(alone, truth)
    part = fuser({"b": outputs["b"]})
    assert np.isfinite(part.values[part.answered]).all()


@pytest.mark.parametrize("law", [*LAWS, *FITTED_LAWS])
@pytest.mark.parametrize("name", FIT_FUSERS)
def test_laws(name: str, law: str) -> None:
    outputs, truth = world(np.random.default_rng(0))
    if law == "never worse than the best":
        outputs = {"text": outputs["text"], "more": outputs["text"]}
    if law in FITTED_LAWS:
        FITTED_LAWS[law](FittedCase(FIT_FUSERS[name], outputs, truth, SCORES["log_loss"]))
    else:
        FUSER_LAWS[law](FuserCase(FIT_FUSERS[name](outputs, truth), outputs))
    assert set(EXCEPT) == set(FIT_FUSERS)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("late", LateFusion), ("early", EarlyFusion), ("gated", GatedFusion), ("low_rank", LowRankFusion)],
)
def test_packed_and_in_other_orders(name: str, kind: type) -> None:
    outputs, truth = world(np.random.default_rng(2), 400)
    fuser = FIT_FUSERS[name](outputs, truth)
    assert isinstance(fuser, kind)
    assert fuser.classes == CLASSES if name != "early" else fuser.late.classes == CLASSES
    again = kind.unpack(*fuser.pack(), fuser.children())
    text = outputs["text"]
    turned = outputs | {"text": text.align(CLASSES)}
    a, b = fuser(outputs), again(turned)
    assert a.values[a.answered] == pytest.approx(b.values[b.answered])
    assert a.answered.tolist() == np.logical_or.reduce([o.answered for o in outputs.values()]).tolist()


@pytest.mark.parametrize("mixture", [gated, tensor])
def test_slopes(mixture: ModuleType) -> None:
    rng = np.random.default_rng(0)
    n, widths, H, K = 12, (3, 4, 2), 5, 3
    parts = [rng.normal(size=(n, d)) for d in widths]
    there = rng.random((n, 3)) > 0.3
    there[:, 0] |= ~there.any(axis=1)
    parts = [x * t[:, None] for x, t in zip(parts, there.T, strict=True)]
    if mixture is gated:
        shapes = [*((d + 1, H) for d in widths), (3, H), (3,), (3, 3), (H + 1, K)]
    else:
        shapes = [*((d + 1, 2 * H) for d in widths), (2,), (H + 1, K)]
    p = [rng.normal(size=s) for s in shapes]
    target = Target(np.arange(n), CLASSES, rng.integers(0, K, n), np.zeros(0), np.zeros(0), np.ones(n))

    def loss() -> float:
        return float(target.losses(mixture._forward(p, parts, there)[-1]).sum())

    forward = mixture._forward(p, parts, there)
    found = mixture._slopes(p, parts, there, forward, target.slope(forward[-1]))
    for array, slope in zip(p, found, strict=True):
        for at in [tuple(rng.integers(0, s) for s in array.shape) for _ in range(4)]:
            kept = array[at]
            array[at] = kept + 1e-6
            up = loss()
            array[at] = kept - 1e-6
            down = loss()
            array[at] = kept
            assert (up - down) / 2e-6 == pytest.approx(slope[at], rel=1e-4, abs=1e-6)


def test_shares_of_the_gate_and_dropout() -> None:
    outputs, truth = world(np.random.default_rng(2), 400)
    fuser = fit_gated(outputs, truth)
    assert isinstance(fuser, GatedFusion)
    shares = fuser.shares(outputs)
    there = np.stack([outputs[m].answered for m in fuser.members], axis=1)
    assert (shares[~there] == 0).all()
    assert shares[there.any(axis=1)].sum(axis=1) == pytest.approx(1)
    at, present, mass = dropped(np.ones((10, 3), bool), 0)
    assert len(at) == 10 * 7
    assert mass[10:].sum() == pytest.approx(10 * DROP)
    assert mass.sum() == pytest.approx(10)
    assert present.any(axis=1).all()
    at, present, _ = dropped(np.ones((10, 8), bool), 0)
    assert present.any(axis=1).all()
    assert len(dropped(np.ones((10, 1), bool), 0)[0]) == 10


def test_features_of_the_pool_by_hand() -> None:
    S = np.array([[[1.0, -1.0]], [[3.0, -3.0]]])
    both = features(S, np.array([[True, True]]))[:, 0, 0]
    assert both.tolist() == [2, 1, 3, 0, 0]  # mean, a, b, a without b, b without a
    assert features(S, np.array([[True, False]]))[:, 0, 0].tolist() == [1, 1, 0, 1, 0]


def test_wide_modalities_one_row_and_none() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, 60)
    wide = Embeddings(rng.normal(size=(60, 700)) + codes[:, None])
    flat = Embeddings(np.ones((60, 2)))
    fuser = fit_late({"wide": wide, "flat": flat}, Labels(codes, "ab"))
    assert fuser.views.views["wide"].width <= MOST_WIDE
    assert SCORES["accuracy"].value(fuser({"wide": wide}), Labels(codes, "ab")) > 0.9
    assert len(fuser({"wide": wide.take([0])})) == 1
    assert len(fuser({"wide": wide.take([])})) == 0
    for fit in FIT_FUSERS.values():
        tiny = fit({"flat": flat.take([0, 1])}, Labels(codes[:2], "ab"))
        assert np.isfinite(tiny({"flat": flat}).values).all()


def test_bad_input_is_told() -> None:
    outputs, truth = world(np.random.default_rng(0))
    fuser = fit_late(outputs, truth)
    n = len(truth)
    for error, told, call in [
        (OutputsError, "no modalities", lambda: fit_late({}, truth)),
        (OutputsError, "was not fitted to", lambda: fuser({"sound": outputs["table"]})),
        (
            OutputsError,
            "was fitted as embeddings of 8",
            lambda: fuser({"the image": Embeddings(np.ones((n, 3)))}),
        ),
        (OutputsError, "was fitted as values", lambda: fuser({"table": Embeddings(np.ones((n, 3)))})),
        (OutputsError, "the same rows", lambda: fuser({**outputs, "table": outputs["table"].take([0])})),
        (OutputsError, "embeddings, probabilities", lambda: fit_late({"t": Texts(["a"] * n)}, truth)),
        (
            OutputsError,
            "answered none",
            lambda: fit_late({**outputs, "x": Embeddings(np.ones((n, 1)), np.zeros(n, bool))}, truth),
        ),
        (OutputsError, "infinities", lambda: fit_late({"x": Embeddings(np.full((n, 1), np.inf))}, truth)),
        (TruthError, "nothing to fit", lambda: fit_late(outputs, Labels(np.full(n, -1), CLASSES))),
        (TruthError, "has 3", lambda: fit_late(outputs, truth.take([0, 1, 2]))),
        (TruthError, "infinities", lambda: fit_late(outputs, Values(np.full(n, np.inf)))),
    ]:
        with pytest.raises(error, match=told):
            call()


def test_damaged_files_are_refused() -> None:
    outputs, truth = world(np.random.default_rng(2), 300)
    for name, fit in FIT_FUSERS.items():
        fuser = fit(outputs, truth)
        arrays, meta = fuser.pack()
        for key in [k for k in arrays if k not in ("shift", "scale") or name == "late"]:
            with pytest.raises(BundleError):
                type(fuser).unpack({**arrays, key: np.full((1, 1, 1), np.nan)}, meta, fuser.children())
        if name != "early":
            for bad in ({"views": []}, {"views": None}, {"classes": []}, {"views": [{"name": 1}]}):
                with pytest.raises(BundleError):
                    type(fuser).unpack(arrays, {**meta, **bad}, fuser.children())
    with pytest.raises(BundleError):
        EarlyFusion.unpack({}, {}, {"late": Views})


def test_probabilities_and_labels_as_modalities() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, 300)
    votes = Labels(np.where(rng.random(300) < 0.8, codes, 1 - codes), ("b", "a"))
    p = np.clip(0.5 + 0.3 * (codes - 0.5) + 0.1 * rng.normal(size=300), 0, 1)
    outputs = {"votes": votes, "p": Probabilities(np.stack([1 - p, p], axis=1), ("x", "y"))}
    truth = Labels(codes, ("x", "y"))
    fused = fit_late(outputs, truth)(outputs)
    assert SCORES["accuracy"].value(fused, truth) >= SCORES["accuracy"].value(outputs["p"], truth)
