"""Conformal intervals and sets: exact quantiles, coverage by binomial tests, MAPIE where it is installed."""

import math

import numpy as np
import pytest

from conjoin.errors import BundleError, InputError, OutputsError, TruthError
from conjoin.fusion import fit_linear_pool
from conjoin.fusion.series import (
    AdaptiveConformal,
    ClassSets,
    Conformal,
    ConformalSets,
    CrossConformal,
    conformal,
    conformal_quantile,
    conformal_sets,
    fit_bates_granger,
    fit_cross_conformal,
    majority_intervals,
    majority_sets,
    members_spread,
)
from conjoin.fusion.series.sets import scores_of
from conjoin.outputs import Labels, Probabilities, Quantiles, Values

from .world import world

NAN = float("nan")


def covers(inside, confidence, slack=0.0):
    """Is the share of hits as high as it should be, and not much higher? Three and a half standard errors."""
    inside = np.asarray(inside, dtype=float)
    error = 3.5 * math.sqrt(confidence * (1 - confidence) / len(inside))
    assert confidence - error <= inside.mean() <= confidence + error + slack


def hits(intervals, y):
    return (intervals.values[:, 0] <= y) & (y <= intervals.values[:, 1])


def noisy(n, seed=0):
    rng = np.random.default_rng(seed)
    hard = rng.uniform(0.2, 3, n)
    v = rng.normal(size=n) * 5
    return v, v + hard * rng.standard_t(5, size=n), hard


def test_the_quantile_is_the_exact_one_for_finite_samples():
    scores = np.arange(1.0, 11.0)
    for confidence in (0.1, 0.5, 0.8, 0.9):
        k = math.ceil(11 * confidence - 1e-9)
        assert conformal_quantile(scores, confidence) == k
    assert conformal_quantile(scores, 0.95) == math.inf
    assert conformal_quantile(np.array([]), 0.5) == math.inf
    assert conformal_quantile(np.array([1.0, NAN]), 0.5) == 1.0
    for bad in (0.0, 1.0, NAN, 2):
        with pytest.raises(InputError, match="confidence"):
            conformal_quantile(scores, bad)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
def test_coverage_over_many_small_calibrations(confidence):
    """With 39 calibration rows the coverage of one new row is ceil(40 c) / 40, exactly."""
    inside = []
    for seed in range(1500):
        rng = np.random.default_rng(seed)
        y = rng.exponential(size=40)
        made = conformal(Values(np.zeros(39)), Values(y[:39]), confidence=confidence)
        inside.append(hits(made(Values([0.0])), y[39:])[0])
    covers(inside, confidence, slack=1 / 40)


def test_absolute_normalised_and_cqr_cover():
    v, y, hard = noisy(8000)
    new, old = slice(0, 4000), slice(4000, None)
    plain = conformal(Values(v[old]), Values(y[old]))
    covers(hits(plain(Values(v[new])), y[new]), 0.9)
    scaled = conformal(Values(v[old]), Values(y[old]), scale=hard[old])
    found = scaled(Values(v[new]), scale=hard[new])
    covers(hits(found, y[new]), 0.9)
    easy = hard[new] < 0.5
    covers(hits(found, y[new])[easy], 0.9)
    assert hits(plain(Values(v[new])), y[new])[easy].mean() > 0.97
    narrow = Quantiles(v[:, None] + [-0.1, 0, 0.1], (0.05, 0.5, 0.95))
    widened = conformal(narrow.take(old), Values(y[old]))
    covers(hits(widened(narrow.take(new)), y[new]), 0.9)
    wide = Quantiles(v[:, None] + [-90, 90], (0.05, 0.95))
    narrowed = conformal(wide.take(old), Values(y[old]), confidence=0.8)
    assert narrowed.widths[0] < 0
    covers(hits(narrowed(wide.take(new)), y[new]), 0.8)


def test_several_horizons_have_widths_of_their_own():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(500, 3)) * [1, 2, 4]
    made = conformal(Values(np.zeros((500, 3))), Values(y))
    assert made.widths == pytest.approx(np.quantile(np.abs(y), 0.9, axis=0), rel=0.05)
    third = made(Values(np.zeros((2, 3))), target=2)
    assert third.values[0].tolist() == [-made.widths[2], made.widths[2]]
    with pytest.raises(OutputsError, match="no number 3"):
        made(Values(np.zeros((2, 3))), target=3)


def test_rows_that_do_not_count_and_too_few():
    v = Values([0.0, 0.0, 0.0, 0.0], [True, True, False, True])
    made = conformal(v, Values([1.0, NAN, 5.0, 2.0]), confidence=0.6)
    assert (made.rows, made.widths.tolist()) == (2, [2.0])
    few = conformal(v, Values([1.0, NAN, 5.0, 2.0]), confidence=0.9)
    ends = few(v).values
    assert ends[0].tolist() == [-math.inf, math.inf]
    assert np.isnan(ends[2]).all()
    again = Conformal.unpack(*few.pack(), {})
    assert again.widths.tolist() == [math.inf]
    with pytest.raises(BundleError):
        Conformal.unpack(few.pack()[0], {**few.pack()[1], "confidence": 2.0}, {})


def test_bad_intervals():
    v, y = Values(np.zeros(5)), Values(np.ones(5))
    with pytest.raises(InputError, match="score must be one of"):
        conformal(v, y, score="magic")
    with pytest.raises(InputError, match="need scale"):
        conformal(v, y, score="normalised")
    with pytest.raises(InputError, match="5 numbers above 0"):
        conformal(v, y, scale=np.zeros(5))
    with pytest.raises(InputError, match="scale is for normalised"):
        conformal(v, y, score="absolute", scale=np.ones(5))
    with pytest.raises(OutputsError, match="cqr"):
        conformal(v, y, score="cqr")
    with pytest.raises(OutputsError, match="around values"):
        conformal(Quantiles(np.zeros((5, 2)), (0.1, 0.9)), y, score="absolute")
    with pytest.raises(TruthError, match="nothing to calibrate"):
        conformal(v, Values(np.full(5, NAN)))
    with pytest.raises(TruthError):
        conformal(v, Values(np.ones(4)))


def test_spread_of_members():
    outputs = {"a": Values([0.0, 1.0]), "b": Values([2.0, 1.0], [True, False])}
    assert members_spread(outputs, floor=0.5).tolist() == [1.5, 0.5]
    with pytest.raises(InputError):
        members_spread(outputs, floor=0)
    with pytest.raises(OutputsError, match="one value a row"):
        members_spread({"a": Values(np.ones((2, 2)))})


@pytest.mark.parametrize("folds", [5, None])
def test_cv_plus_and_jackknife_plus_cover(folds):
    inside = []
    for seed in range(6 if folds else 3):
        outputs, truth = world(np.random.default_rng(seed), 340, skip=0.0)
        fit_at, test_at = np.arange(40), np.arange(40, 340)
        some = {n: o.take(fit_at) for n, o in outputs.items()}
        made = fit_cross_conformal(some, truth.take(fit_at), fit_bates_granger, folds=folds)
        assert len(made.fusers) == (folds or 40)
        found = made({n: o.take(test_at) for n, o in outputs.items()})
        inside.extend(hits(found, truth.values[test_at]).tolist())
    assert 0.84 <= np.mean(inside) <= 0.98
    again = CrossConformal.unpack(*made.pack(), made.children())
    assert np.array_equal(again(some).values, made(some).values)


def test_cross_conformal_is_the_formula():
    outputs, truth = world(np.random.default_rng(3), 30, skip=0.0)
    made = fit_cross_conformal(outputs, truth, fit_linear_pool, folds=3, confidence=0.8)
    answers = np.array([f(outputs).values for f in made.fusers])[made.folds]
    low = np.sort(answers - made.residuals[:, None], axis=0)[30 - math.ceil(31 * 0.8)]
    high = np.sort(answers + made.residuals[:, None], axis=0)[math.ceil(31 * 0.8) - 1]
    assert np.array_equal(made(outputs).values, np.stack([low, high], axis=1))


def test_cross_conformal_of_few_rows_and_bad_input():
    outputs, truth = world(np.random.default_rng(3), 4, skip=0.0)
    made = fit_cross_conformal(outputs, truth, fit_linear_pool, confidence=0.9)
    assert np.isinf(made(outputs).values).all()
    one = {n: o.take([0]) for n, o in outputs.items()}
    with pytest.raises(TruthError, match="two rows"):
        fit_cross_conformal(one, truth.take([0]), fit_linear_pool)
    with pytest.raises(InputError, match="folds"):
        fit_cross_conformal(outputs, truth, fit_linear_pool, folds=1)
    arrays, meta = made.pack()
    with pytest.raises(BundleError):
        CrossConformal.unpack({**arrays, "folds": np.full(4, 9)}, meta, made.children())


def test_adaptive_intervals_follow_a_series_that_changes():
    rng = np.random.default_rng(0)
    y = rng.normal(size=3000) * np.where(np.arange(3000) < 1500, 1.0, 5.0)
    intervals, after = AdaptiveConformal(rate=0.02, window=200).run(Values(np.zeros(3000)), Values(y))
    inside = hits(intervals, y)
    assert inside.mean() == pytest.approx(0.9, abs=0.01)
    assert inside[-500:].mean() == pytest.approx(0.9, abs=0.04)
    assert len(after.scores) == 200
    again = AdaptiveConformal.unpack(*after.pack(), {})
    assert again.width == after.width
    fixed = conformal(Values(np.zeros(1500)), Values(y[:1500]))
    assert hits(fixed(Values(np.zeros(1500))), y[1500:]).mean() < 0.5


def test_adaptive_steps():
    here = AdaptiveConformal(confidence=0.5, rate=0.1, window=3)
    assert math.isinf(here.width)
    for outcome in (1.0, 2.0, 3.0):
        here = here.update(0.0, outcome)
    assert here.scores == (1.0, 2.0, 3.0)
    assert here.update(NAN, 1.0) is here
    assert AdaptiveConformal(alpha=0.0, scores=(1.0,)).width == math.inf
    assert AdaptiveConformal(alpha=1.0).width == 0.0
    with pytest.raises(InputError):
        AdaptiveConformal(window=0)
    with pytest.raises(BundleError):
        AdaptiveConformal.unpack(
            {"scores": np.zeros(1)}, {"confidence": 0.9, "rate": 1, "window": 0, "alpha": 0.1}, {}
        )


def classes(n, seed=0, width=6):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(width, 0.4), n)
    codes = np.array([rng.choice(width, p=row) for row in p])
    names = tuple(f"c{k}" for k in range(width))
    rough = p**0.5 / (p**0.5).sum(axis=1, keepdims=True)
    return Probabilities(rough, names), Labels(codes, names)


@pytest.mark.parametrize("confidence", [0.7, 0.9])
@pytest.mark.parametrize(("score", "seed"), [("lac", None), ("aps", 0), ("raps", 0)])
def test_sets_cover(score, seed, confidence):
    p, truth = classes(8000)
    old, new = np.arange(4000), np.arange(4000, 8000)
    made = conformal_sets(
        p.take(old), truth.take(old), confidence=confidence, score=score, seed=seed, never_empty=False
    )
    sets = made(p.take(new))
    covers(sets.covered(truth.take(new)), confidence)
    again = ConformalSets.unpack(*made.pack(), {})
    assert np.array_equal(again(p.take(new)).inside, sets.inside)
    parts = np.concatenate([made(p.take(new[:100])).inside, made(p.take(new[100:])).inside])
    assert np.array_equal(parts, sets.inside)


def test_without_draws_sets_are_larger_and_never_empty():
    p, truth = classes(3000)
    sure = conformal_sets(p, truth, score="aps")(p)
    drawn = conformal_sets(p, truth, score="aps", seed=1, never_empty=False)(p)
    assert sure.sizes.min() >= 1
    assert drawn.sizes.mean() <= sure.sizes.mean()
    assert sure.covered(truth).mean() >= 0.9
    lac = conformal_sets(p, truth, score="lac")(p)
    assert lac.sizes.mean() <= sure.sizes.mean()


def test_scores_by_hand():
    p = np.array([[0.2, 0.5, 0.3]])
    assert scores_of(p, "lac", 0, 0, None)[0] == pytest.approx([0.8, 0.5, 0.7])
    assert scores_of(p, "aps", 0, 0, None)[0] == pytest.approx([1.0, 0.5, 0.8])
    assert scores_of(p, "aps", 0, 0, np.array([0.5]))[0] == pytest.approx([0.9, 0.25, 0.65])
    assert scores_of(p, "raps", 0.1, 1, None)[0] == pytest.approx([1.2, 0.5, 0.9])


def test_sets_of_unanswered_rows_and_unknown_classes():
    p, truth = classes(200)
    made = conformal_sets(p, truth)
    silent = Probabilities(p.values[:2], p.classes, [True, False])
    sets = made(silent)
    assert sets.sizes[1] == 0
    assert np.isnan(sets.covered(truth.take([0, 1]))[1])
    never = Labels.of(["c0", "zebra"], ["c0", "zebra"])
    assert sets.covered(never)[0] in (0.0, 1.0)
    seen = conformal_sets(p.take([0, 1]), never, confidence=0.5)
    assert "zebra" in seen.classes
    assert conformal_sets(p.take([0]), truth.take([0]), confidence=0.9)(p).sizes.min() == 6


def test_bad_sets():
    p, truth = classes(20)
    with pytest.raises(InputError, match="score must be one of"):
        conformal_sets(p, truth, score="magic")
    with pytest.raises(InputError, match="penalty"):
        conformal_sets(p, truth, score="raps", penalty=-1)
    with pytest.raises(OutputsError, match="made of probabilities"):
        conformal_sets(truth, truth)
    with pytest.raises(TruthError, match="nothing to calibrate"):
        conformal_sets(p, Labels([-1] * 20, p.classes))
    with pytest.raises(OutputsError):
        conformal_sets(p, truth)(Probabilities([[1.0]], ["other"]))
    arrays, meta = conformal_sets(p, truth).pack()
    with pytest.raises(BundleError):
        ConformalSets.unpack(arrays, {**meta, "score": "x"}, {})


def test_majority_of_sets():
    def one(*names, answered=True):
        inside = np.array([[c in names for c in "xyz"]])
        return ClassSets(inside & answered, ("x", "y", "z"), np.array([answered]))

    merged = majority_sets({"a": one("x", "y"), "b": one("x"), "c": one("z")})
    assert merged.names() == [("x",)]
    assert majority_sets({"a": one("x"), "b": one("y")}).names() == [()]
    assert majority_sets({"a": one("x"), "b": one("y")}, weights=[3, 1]).names() == [("x",)]
    assert majority_sets({"a": one("x"), "b": one(answered=False)}).names() == [("x",)]
    assert not majority_sets({"b": one("x", answered=False)}).answered.any()
    other = ClassSets(np.array([[True, True]]), ("z", "w"), np.array([True]))
    assert majority_sets({"a": one("z"), "b": other}).names() == [("z",)]
    with pytest.raises(OutputsError, match="no sets"):
        majority_sets({})
    with pytest.raises(OutputsError, match="threshold"):
        majority_sets({"a": one("x")}, threshold=1)
    with pytest.raises(OutputsError, match="same rows"):
        majority_sets({"a": one("x"), "b": ClassSets(np.ones((2, 1), bool), ("x",), np.ones(2, bool))})
    with pytest.raises(OutputsError, match="among"):
        one("x").align(("y", "z"))


def test_majority_vote_keeps_twice_the_error():
    inside = []
    for k in range(5):
        p, truth = classes(4000, seed=9)
        rng = np.random.default_rng(k)
        shaken = p.values * rng.uniform(0.5, 1.5, p.values.shape)
        q = Probabilities(shaken / shaken.sum(axis=1, keepdims=True), p.classes)
        old, new = np.arange(2000), np.arange(2000, 4000)
        made = conformal_sets(q.take(old), truth.take(old), never_empty=False)
        inside.append(made(q.take(new)))
    merged = majority_sets({str(k): s for k, s in enumerate(inside)})
    assert merged.covered(truth.take(new)).mean() > 0.8
    assert merged.sizes.mean() < 1.1 * np.mean([s.sizes.mean() for s in inside])


def test_majority_of_intervals():
    made = {
        c: Quantiles([v, v], (0.1, 0.9), [True, c != "b"])
        for c, v in zip("abc", ([0.0, 4], [1, 5], [2, 9]), strict=True)
    }
    assert majority_intervals(made).values.tolist() == [[1.0, 5.0], [2.0, 4.0]]
    apart = {c: Quantiles([v], (0.1, 0.9)) for c, v in zip("abc", ([0.0, 1], [2, 3], [4, 5]), strict=True)}
    assert majority_intervals(apart).values.tolist() == [[2.5, 2.5]]
    assert majority_intervals(apart, weights=[0, 0, 1]).values.tolist() == [[4.0, 5.0]]
    with pytest.raises(OutputsError, match="two levels"):
        majority_intervals({"a": Quantiles([[1.0]], (0.5,))})


def test_the_same_as_mapie():
    mapie = pytest.importorskip("mapie.regression", reason="pip install mapie, to compare with it")
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = X @ [1.0, 2.0] + rng.normal(size=300)
    model = linear.LinearRegression().fit(X[:100], y[:100])
    theirs = mapie.SplitConformalRegressor(model, confidence_level=0.9, prefit=True)
    theirs.conformalize(X[100:200], y[100:200])
    _, ends = theirs.predict_interval(X[200:])
    mine = conformal(Values(model.predict(X[100:200])), Values(y[100:200]), confidence=0.9)
    assert np.allclose(mine(Values(model.predict(X[200:]))).values, ends[:, :, 0])


def test_sets_are_the_same_as_mapie():
    mapie = pytest.importorskip("mapie.classification", reason="pip install mapie, to compare with it")
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 4))
    y = (X @ rng.normal(size=(4, 5)) + rng.gumbel(size=(900, 5))).argmax(axis=1)
    model = linear.LogisticRegression().fit(X[:300], y[:300])
    theirs = mapie.SplitConformalClassifier(model, confidence_level=0.9, prefit=True, conformity_score="lac")
    theirs.conformalize(X[300:600], y[300:600])
    names = [str(c) for c in model.classes_]
    old, new = (Probabilities(model.predict_proba(X[a : a + 300]), names) for a in (300, 600))
    mine = conformal_sets(old, Labels(y[300:600], names), never_empty=False)
    assert np.array_equal(mine(new).inside, theirs.predict_set(X[600:])[1][:, :, 0])
