"""Features of series, and weights that are learned from them."""

import numpy as np
import pytest

from conjoin.errors import BundleError, InputError, OutputsError, TruthError
from conjoin.fusion.series import Fforma, fit_fforma, series_features
from conjoin.fusion.series.features import FEATURES
from conjoin.fusion.single import Single
from conjoin.outputs import Quantiles, Values

NAN = float("nan")


def collection(n=300, horizon=4, seed=0):
    """Half of the series have a trend, half a season of 12; one member is good at each."""
    rng = np.random.default_rng(seed)
    histories, y, line, last = [], [], [], []
    for i in range(n):
        length, size = int(rng.integers(40, 70)), 10.0 ** rng.uniform(0, 4)
        t = np.arange(length + horizon)
        shape = 0.1 * t if i % 2 else np.sin(2 * np.pi * t / 12)
        x = size * (shape + 5 + 0.3 * rng.normal(size=len(t)))
        past = x[:length]
        histories.append(past)
        y.append(x[length:])
        line.append(np.polyval(np.polyfit(t[:length], past, 1), t[length:]))
        last.append(past[length - 12 : length - 12 + horizon])
    return histories, {"line": Values(np.array(line)), "last": Values(np.array(last))}, Values(np.array(y))


def error(values, truth):
    return np.abs(values - truth.values).mean(axis=1) / np.abs(truth.values).mean(axis=1)


def test_weights_follow_the_features():
    histories, outputs, truth = collection()
    batch = series_features(histories, season=12)
    fit_at, test_at = np.arange(200), np.arange(200, 300)
    some = {c: v[fit_at] for c, v in batch.items()}
    rest = {c: v[test_at] for c, v in batch.items()}
    fuser = fit_fforma({n: o.take(fit_at) for n, o in outputs.items()}, truth.take(fit_at), batch=some)
    given, y = {n: o.take(test_at) for n, o in outputs.items()}, truth.take(test_at)
    mine = error(fuser(given, batch=rest).values, y).mean()
    assert mine < 0.8 * min(error(o.values, y).mean() for o in given.values())
    again = Fforma.unpack(*fuser.pack(), {})
    assert np.array_equal(again(given, batch=rest).values, fuser(given, batch=rest).values)
    parts = [
        fuser({n: o.take([i]) for n, o in given.items()}, batch={c: v[[i]] for c, v in rest.items()})
        for i in (0, 1)
    ]
    assert np.allclose(np.concatenate([p.values for p in parts]), fuser(given, batch=rest).values[:2])


def test_gaps_missing_members_and_missing_features():
    histories, outputs, truth = collection(60)
    batch = series_features(histories, season=12)
    batch["trend"][3] = NAN
    values = outputs["last"].values.copy()
    values[:, 2:] = NAN
    short = {"line": outputs["line"], "last": Values(values, np.arange(60) != 5)}
    fuser = fit_fforma(short, truth, batch=batch)
    fused = fuser(short, batch=batch)
    assert np.allclose(fused.values[:, 2:], outputs["line"].values[:, 2:])
    assert np.allclose(fused.values[5], outputs["line"].values[5])
    alone = fuser({"last": short["last"]}, batch=batch)
    assert alone.answered.tolist() == short["last"].answered.tolist()
    assert np.isnan(alone.values[:, 2:]).all()


def test_bad_input():
    histories, outputs, truth = collection(30)
    batch = series_features(histories)
    fuser = fit_fforma(outputs, truth, batch=batch)
    with pytest.raises(OutputsError, match="needs batch="):
        fuser(outputs)
    with pytest.raises(OutputsError, match="lacks the columns acf1"):
        fuser(outputs, batch={c: v for c, v in batch.items() if c != "acf1"})
    with pytest.raises(OutputsError, match="30 numbers"):
        fuser(outputs, batch={c: v[:5] for c, v in batch.items()})
    with pytest.raises(OutputsError, match="combines values"):
        fit_fforma({"a": Quantiles([[1.0]], (0.5,))}, truth.take([0]))
    with pytest.raises(OutputsError, match="penalty"):
        fit_fforma(outputs, truth, penalty=0)
    with pytest.raises(TruthError, match="numbers a row"):
        fit_fforma(outputs, Values(np.ones(30)))
    with pytest.raises(TruthError, match="nothing to fit"):
        fit_fforma(outputs, Values(np.full((30, 4), NAN)))
    with pytest.raises(OutputsError, match="infinities"):
        fit_fforma({"a": Values(np.full((30, 4), np.inf))}, truth)
    with pytest.raises(BundleError):
        Fforma.unpack({}, {"members": ["a"], "columns": []}, {})


def test_where_it_does_not_help_the_best_member_is_given():
    y = np.arange(20.0)
    outputs = {"exact": Values(y), "far": Values(y + 9)}
    assert isinstance(fit_fforma(outputs, Values(y)), Single)


def test_features_by_hand():
    t = np.arange(48.0)
    found = series_features(
        [t, np.sin(2 * np.pi * t / 12), np.ones(9), [1.0], [], [1.0, NAN, 3.0, 2.0]], season=12
    )
    assert list(found) == list(FEATURES)
    assert found["length"] == pytest.approx(np.log1p([48, 48, 9, 1, 0, 3]))
    assert found["trend"][0] == pytest.approx(1)
    assert found["seasonality"][1] == pytest.approx(1, abs=0.05)
    assert found["acf_season"][1] == pytest.approx(0.75, abs=0.01)
    assert found["entropy"][1] < 0.3
    assert not any(found[c][2:5].any() for c in FEATURES if c != "length")
    assert all(np.isfinite(v).all() for v in found.values())
    assert len(series_features([])["trend"]) == 0
    with pytest.raises(InputError, match="season"):
        series_features([t], season=0)
