"""Fitted fusers of values and quantiles in an ensemble, saved and loaded."""

import numpy as np
import pytest

import conjoin
from conjoin.fusion.series import (
    each_horizon,
    fit_bates_granger,
    fit_boa,
    fit_distribution_pool,
    fit_fforma,
    fit_lad,
    fit_quantile_averaging,
)

from .world import world


@pytest.mark.parametrize(
    ("fit", "kind", "width"),
    [
        (fit_bates_granger, "values", None),
        (fit_lad, "values", 3),
        (each_horizon(fit_bates_granger), "values", 3),
        (fit_boa, "values", None),
        (fit_boa, "quantiles", None),
        (fit_fforma, "values", 2),
        (fit_distribution_pool, "quantiles", None),
        (fit_quantile_averaging, "quantiles", None),
    ],
)
def test_ensembles_with_these_fusers_survive_a_bundle(fit, kind, width, tmp_path):
    outputs, truth = world(np.random.default_rng(0), 60, kind, width=width, skip=0.0)
    fuser = fit(outputs, truth)
    batch = {"id": np.arange(60)}
    members = {n: conjoin.wrap(outputs[n], key="id", keys=range(60), name=n) for n in fuser.members}
    ensemble = conjoin.Ensemble(members, fuser)
    conjoin.save(ensemble, tmp_path / "kept.conjoin")
    again = conjoin.load(tmp_path / "kept.conjoin").predict(batch)
    assert np.allclose(again.values, fuser({n: outputs[n] for n in fuser.members}).values, rtol=1e-6)
