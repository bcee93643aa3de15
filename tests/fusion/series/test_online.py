"""Online aggregation against the rules written out step by step, and what the papers promise."""

import numpy as np
import pytest

from conjoin.errors import BundleError, InputError, OutputsError, TruthError
from conjoin.fusion.series import FIT_FUSERS, Online, fit_online, online
from conjoin.fusion.series.online import RULES
from conjoin.outputs import Labels, Probabilities, Quantiles, Values

from .world import world

NAN = float("nan")


def series(n=200, seed=0, asleep=0.1):
    rng = np.random.default_rng(seed)
    y = np.sin(np.arange(n) / 9) * 5 + 20
    X = y[:, None] + rng.normal(size=(n, 3)) * [0.5, 1.0, 3.0] + [0, 0.5, 0]
    X[rng.random(X.shape) < asleep] = NAN
    return X, y


def outputs_of(X):
    return {c: Values(x, ~np.isnan(x)) for c, x in zip("abc", X.T, strict=True)}


def slow(rule, X, y, *, rate=None, share=0.02, gradient=True, loss="square"):
    """The rules for one target, one step after another, with vectors."""
    n, members = X.shape
    prior = np.full(members, 1 / members)
    R, V, B, total = np.zeros(members), np.zeros(members), 0.0, 0.0
    inverse = np.full(members, 1e-300)
    log_w = np.log(prior)
    weights, answers = [], []
    for t in range(n):
        awake = ~np.isnan(X[t])
        eta = rate or (np.sqrt(np.log(members) / total) if total else 0.0)
        if rule == "ewa":
            w = prior * np.exp(eta * (R - R[awake].max(initial=-np.inf)))
        elif rule == "fixed_share":
            w = np.exp(log_w)
        elif rule == "boa":
            w = prior.copy()
            some = awake & (V > 0)
            if some.any():
                rates = 1 / np.sqrt(2.2 * V[some])
                v = prior[some] * rates * np.exp(rates * R[some])
                w[some] = v / v.sum() * prior[some].sum()
        else:
            w = np.maximum(R, 0) / inverse
            w = w if (w * awake).any() else prior
        p = np.where(awake, w, 0)
        x = np.where(awake, X[t], 0.0)
        weights.append(p / p.sum() if awake.any() else p * 0)
        answers.append(weights[-1] @ x if awake.any() else NAN)
        if not awake.any() or np.isnan(y[t]):
            continue
        a = answers[-1]
        if gradient:
            slope = 2 * (a - y[t]) if loss == "square" else np.sign(a - y[t])
            r = slope * (a - x) * awake
        else:
            power = 2 if loss == "square" else 1
            r = (np.abs(a - y[t]) ** power - np.abs(x - y[t]) ** power) * awake
        if rule == "boa":
            V = V + r**2
            R = R + r - np.where(V > 0, r**2 / np.sqrt(np.where(V > 0, 2.2 * V, 1)), 0)
        elif rule == "ml_poly":
            R, grown = R + r, max(B, (r**2).max())
            inverse, B = inverse + r**2 + grown - B, grown
        else:
            total = (r**2).max() + total * (1 - share if rule == "fixed_share" else 1)
            R = R + r
            eta = rate or (np.sqrt(np.log(members) / total) if total else 0.0)
            v = np.exp(log_w + eta * r)
            log_w = np.log(share * prior + (1 - share) * v / v.sum())
    return np.array(weights), np.array(answers)


@pytest.mark.parametrize("loss", ["square", "absolute"])
@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("rate", [None, 0.01])
@pytest.mark.parametrize("rule", RULES)
def test_rules_are_those_of_the_papers(rule, rate, gradient, loss):
    X, y = series()
    y[::17] = NAN
    X[5] = NAN
    start = online(rule, outputs_of(X), rate=rate, gradient=gradient, loss=loss)
    weights, answers = slow(rule, X, y, rate=rate, gradient=gradient, loss=loss)
    fused, after = start.run(outputs_of(X), Values(y))
    assert np.allclose(fused.values, answers, equal_nan=True, rtol=1e-9)
    assert np.allclose(start.path(outputs_of(X), Values(y))[:, 0], weights, atol=1e-9)
    assert after.steps == 200
    assert not fused.answered[5]


@pytest.mark.parametrize("kind", ["values", "quantiles"])
@pytest.mark.parametrize("rule", RULES)
def test_step_by_step_is_all_at_once(rule, kind):
    outputs, truth = world(np.random.default_rng(0), 30, kind)
    start = online(rule, outputs)
    fused, after = start.run(outputs, truth)
    here = start
    for t in range(30):
        one = {n: o.take([t]) for n, o in outputs.items()}
        assert np.allclose(here(one).values, fused.values[t : t + 1], equal_nan=True)
        here = here.update(one, truth.take([t]))
    assert np.allclose(here.weights, after.weights)
    assert here.steps == after.steps == 30
    again = Online.unpack(*after.pack(), {})
    assert np.array_equal(again(outputs).values, after(outputs).values, equal_nan=True)
    assert start.steps == 0
    assert np.allclose(start.weights, 0.25)


def test_the_best_member_wins_and_changes_are_followed():
    rng = np.random.default_rng(0)
    y = rng.normal(size=2000) * 5
    good, bad = y + rng.normal(size=2000) * 0.5, y + 4 + rng.normal(size=2000)
    first = np.where(np.arange(2000) < 1000, good, bad)
    second = np.where(np.arange(2000) < 1000, bad, good)
    outputs, truth = {"first": Values(first), "second": Values(second)}, Values(y)
    for rule in RULES:
        half = online(rule, outputs).update(
            {n: o.take(np.arange(1000)) for n, o in outputs.items()}, truth.take(np.arange(1000))
        )
        assert half.weights[0, 0] > 0.7, rule
    after = online("fixed_share", outputs, gradient=False).update(outputs, truth)
    assert after.weights[0, 1] > 0.9


def test_regret_to_the_best_weights_is_small():
    rng = np.random.default_rng(0)
    y = rng.normal(size=3000)
    outputs = {
        "low": Values(y - 2 + rng.normal(size=3000) * 0.3),
        "high": Values(y + 2 + rng.normal(size=3000) * 0.3),
    }
    for rule in ("boa", "ml_poly", "ewa"):
        fused, _ = online(rule, outputs).run(outputs, Values(y))
        late = fused.values[1500:] - y[1500:]
        assert (late**2).mean() < 0.2, rule  # a member alone has 4.1, the best weights 0.045


def test_horizons_have_weights_of_their_own_or_share_them():
    outputs, truth = world(np.random.default_rng(0), 50, width=3)
    apart = fit_online(outputs, truth)
    together = fit_online(outputs, truth, shared=True)
    assert apart.weights.shape == (3, 4)
    assert not np.allclose(apart.weights[0], apart.weights[1])
    assert np.allclose(together.weights[0], together.weights[2])


def test_weights_of_steps_and_prior():
    outputs, truth = world(np.random.default_rng(0), 40)
    mass = (np.arange(40) < 20).astype(float)
    some = online("boa", outputs).update(outputs, truth, weights=mass)
    first = online("boa", outputs).update(
        {n: o.take(np.arange(20)) for n, o in outputs.items()}, truth.take(np.arange(20))
    )
    assert np.allclose(some.weights, first.weights)
    for rule in RULES:
        without = online(rule, outputs, prior={n: float(n != "naive") for n in outputs}).update(
            outputs, truth
        )
        assert "naive" not in without.needs
        rest = {n: o for n, o in outputs.items() if n != "naive"}
        assert np.allclose(without(outputs).values, without(rest).values, equal_nan=True)
        never = online(rule, rest).update(rest, truth)
        assert np.allclose(without(outputs).values, never(rest).values, equal_nan=True)
        alone = without({"naive": outputs["naive"]})
        assert not alone.answered.any()
        again = Online.unpack(*without.pack(), {})
        assert np.allclose(again.update(outputs, truth).weights, without.update(outputs, truth).weights)


def test_quantiles_rise_and_their_loss_is_the_pinball():
    outputs, truth = world(np.random.default_rng(0), 80, "quantiles")
    fused, after = online("boa", outputs).run(outputs, truth)
    assert (np.diff(fused.values[fused.answered], axis=1) >= 0).all()
    assert after.loss == "pinball"
    assert isinstance(fused, Quantiles)


def test_bad_input():
    outputs, _ = world(np.random.default_rng(0), 20)
    with pytest.raises(InputError, match="did you mean 'boa'"):
        online("boaa", outputs)
    for options in ({"loss": "pinball"}, {"rate": -1}, {"rate": NAN}, {"share": 2}):
        with pytest.raises(InputError):
            online("ewa", outputs, **options)
    with pytest.raises(OutputsError, match="values and quantiles"):
        online("ewa", {"a": Probabilities([[1.0]], "x")})
    start = online("ewa", outputs)
    with pytest.raises(OutputsError, match="not fitted to stranger"):
        start({"stranger": outputs["ets"]})
    with pytest.raises(TruthError):
        start.update(outputs, Labels([0] * 20, "x"))
    with pytest.raises(TruthError, match="infinities"):
        start.update(outputs, Values(np.full(20, np.inf)))
    with pytest.raises(OutputsError, match="infinities"):
        start({"ets": Values(np.full(20, np.inf))})
    with pytest.raises(OutputsError, match="knows 1 values"):
        start({"ets": Values(np.ones((20, 2)))})
    arrays, meta = start.pack()
    with pytest.raises(BundleError):
        Online.unpack(arrays, {**meta, "rule": "magic"}, {})
    with pytest.raises(BundleError):
        Online.unpack(arrays, {**meta, "levels": [0.5, 0.6]}, {})


def test_no_rows_and_all_asleep():
    outputs, truth = world(np.random.default_rng(0), 20)
    none = {n: o.take([]) for n, o in outputs.items()}
    for rule in RULES:
        start = online(rule, outputs)
        assert np.allclose(start.update(none, truth.take([])).weights, 0.25)
        assert len(start(none)) == 0
    silent = {n: Values(np.ones(3), np.zeros(3, dtype=bool)) for n in outputs}
    fused, after = online("boa", outputs).run(silent, Values(np.ones(3)))
    assert not fused.answered.any()
    assert np.allclose(after.weights, 0.25)


def test_names_of_the_rules():
    for name, rule in {
        "exponential_weights": "ewa",
        "fixed_share": "fixed_share",
        "boa": "boa",
        "ml_poly": "ml_poly",
    }.items():
        outputs, truth = world(np.random.default_rng(2), 60)
        fitted = FIT_FUSERS[name](outputs, truth)
        assert getattr(fitted, "rule", rule) == rule
        assert FIT_FUSERS[name].__name__.startswith("fit_")


def test_forecasts_with_gaps_are_guarded_number_by_number():
    outputs, truth = world(np.random.default_rng(0), 60, width=3, skip=0.0)
    values = outputs["ets"].values.copy()
    values[:, 2] = NAN
    short = {**outputs, "ets": Values(values)}
    fitted = fit_online(short, truth, weights=np.ones(60))
    fused = fitted(short)
    assert np.isfinite(fused.values).all()
    rows = np.abs(fused.values - truth.values).mean()
    assert rows <= min(np.abs(o.values - truth.values).mean() for o in outputs.values()) * 1.05


def test_quantiles_with_outcomes_that_are_not_known():
    outputs, truth = world(np.random.default_rng(0), 40, "quantiles")
    holes = Values(np.where(np.arange(40) % 4 == 0, NAN, truth.values))
    assert np.isfinite(fit_online(outputs, holes)(outputs).values[0]).all()
