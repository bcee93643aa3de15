"""Every operator of values and quantiles keeps the laws, but for the exceptions of the world."""

import numpy as np
import pytest

from conjoin.checks import FITTED_LAWS, FUSER_LAWS, FittedCase, FuserCase, LawBroken
from conjoin.contracts import Storable
from conjoin.errors import BundleError, InputError, OutputsError
from conjoin.fusion import series
from conjoin.outputs import Labels, Quantiles, Values
from conjoin.scores import default_score

from .world import EXCEPT, world

PLAIN = [(n, k) for n in series.FUSERS for k in series.KINDS[n] if k != "probabilities"]
FITTED = [(n, k) for n in series.FIT_FUSERS for k in series.KINDS[n]]


def hold(name, law, check, case):
    if law in EXCEPT.get(name, {}):
        with pytest.raises((LawBroken, OutputsError)):
            check(case)
    else:
        check(case)


@pytest.mark.parametrize("law", FUSER_LAWS)
@pytest.mark.parametrize(("name", "kind"), PLAIN)
def test_plain(name, kind, law):
    outputs, _ = world(np.random.default_rng(0), 30, kind)
    hold(f"{name} of {kind}", law, FUSER_LAWS[law], FuserCase(series.FUSERS[name], outputs))


@pytest.fixture(scope="module")
def fitted():
    made = {}

    def case(name, kind):
        if (name, kind) not in made:
            outputs, truth = world(np.random.default_rng(1), 60, kind)
            score = default_score(next(iter(outputs.values())))
            made[name, kind] = FittedCase(series.FIT_FUSERS[name], outputs, truth, score)
        return made[name, kind]

    return case


@pytest.mark.parametrize("law", [*FITTED_LAWS, *FUSER_LAWS])
@pytest.mark.parametrize(("name", "kind"), FITTED)
def test_fitted(fitted, name, kind, law):
    case = fitted(name, kind)
    if law in FITTED_LAWS:
        hold(f"fit {name} of {kind}", law, FITTED_LAWS[law], case)
    else:
        hold(f"fit {name} of {kind}", law, FUSER_LAWS[law], FuserCase(case.fuser, case.outputs))


def test_tables_agree():
    assert set(series.KINDS) == {*series.FUSERS, *series.FIT_FUSERS}
    known = {*(f"{n} of {k}" for n, k in PLAIN), *(f"fit {n} of {k}" for n, k in FITTED)}
    assert set(EXCEPT) <= known
    assert series.TRUSTED in series.FUSERS
    assert {*series.CANDIDATES, *series.QUANTILE_CANDIDATES} <= {*series.FUSERS, *series.FIT_FUSERS}
    assert all(n in series.__all__ for n in series.PARTS)


@pytest.mark.parametrize("name", series.PARTS)
def test_parts_are_storable_and_refuse_nonsense(name):
    part = series.PARTS[name]
    assert {"children", "pack", "unpack"} <= set(dir(part))
    assert part.__name__ == name
    with pytest.raises((BundleError, OutputsError)):
        part.unpack({}, {}, {})
    with pytest.raises((BundleError, OutputsError)):
        part.unpack({"weights": np.full((2, 2), np.nan)}, {"members": ["a", "a"], "confidence": 7}, {})


def test_a_fitted_record_is_storable():
    outputs, truth = world(np.random.default_rng(1), 60)
    for name in ("bates_granger", "boa", "emos"):
        assert isinstance(series.FIT_FUSERS[name](outputs, truth), Storable)


NAN = float("nan")
HOSTILE = {
    "no outputs": ({}, Values([1.0])),
    "no rows": ({"a": Values([]), "b": Values([])}, Values([])),
    "infinity": ({"a": Values([np.inf, 1.0]), "b": Values([1.0, 2.0])}, Values([1.0, 2.0])),
    "widths that differ": ({"a": Values([1.0, 2.0]), "b": Values(np.ones((2, 2)))}, Values([1.0, 2.0])),
    "quantiles without levels": ({"a": Quantiles(np.zeros((2, 0)), ())}, Values([1.0, 2.0])),
    "quantiles with NaN": ({"a": Quantiles([[NAN, 1.0]], (0.1, 0.9))}, Values([1.0])),
    "labels": ({"a": Labels([0], ["x"])}, Labels([0], ["x"])),
}
ODD = {
    "integers": (
        {"a": Values(np.array([1, 2, 3])), "b": Values(np.array([3, 2, 1]))},
        Values([1.0, 2.0, 3.0]),
    ),
    "float32": ({"a": Values(np.arange(5, dtype=np.float32)), "b": Values(np.ones(5))}, Values(np.ones(5))),
    "tiny": ({"a": Values([1e-300, 2e-300]), "b": Values([3e-300, 1e-301])}, Values([1e-300, 1e-300])),
    "names": ({"名 前": Values([1.0, 2.0]), "": Values([2.0, 1.0])}, Values([1.0, 2.0])),
    "one level": ({c: Quantiles([[1.0], [2.0]], (0.5,)) for c in "ab"}, Values([1.0, 2.0])),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("name", series.FIT_FUSERS)
def test_hostile_outputs_are_refused(name, case):
    outputs, truth = HOSTILE[case]
    lazy = name in ("exponential_weights", "fixed_share", "boa", "ml_poly")
    if case == "no rows" and lazy:
        assert len(series.FIT_FUSERS[name](outputs, truth)(outputs)) == 0
    else:
        with pytest.raises(InputError):
            series.FIT_FUSERS[name](outputs, truth)


KIND_OF = {c: next(iter(o.values())).kind for c, (o, _) in ODD.items()}


@pytest.mark.parametrize(("name", "case"), [(n, c) for n, k in FITTED for c in ODD if KIND_OF[c] == k])
def test_odd_outputs_are_fused(name, case):
    outputs, truth = ODD[case]
    fused = series.FIT_FUSERS[name](outputs, truth)(outputs)
    assert np.isfinite(fused.values).all()
