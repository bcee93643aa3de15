"""Every operator of values and quantiles keeps the laws, but for the exceptions of the world."""

import numpy as np
import pytest

from conjoin.checks import FITTED_LAWS, FUSER_LAWS, FittedCase, FuserCase, LawBroken
from conjoin.contracts import Storable
from conjoin.errors import BundleError, OutputsError
from conjoin.fusion import series
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
