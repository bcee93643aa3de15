"""Every operator of every kind keeps the laws, but for the true exceptions that its world names."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from conjoin.checks import FITTED_LAWS, FUSER_LAWS, FittedCase, FuserCase, LawBroken
from conjoin.errors import OutputsError
from conjoin.fusion.applied import Applied
from conjoin.fusion.kinds import FAMILIES, family
from conjoin.fusion.single import fit_single, guarded
from conjoin.fusion.trials import choose_by_trial
from conjoin.scores import DEFAULTS, default_score, score_of

HERE = Path(__file__).parent


def world_of(kind):
    """The module `world` of a kind: `world(rng, rows)` and EXCEPT."""
    path = HERE / kind / "world.py"
    spec = importlib.util.spec_from_file_location(f"world_of_{kind}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WORLDS = {kind: world_of(kind) for kind in FAMILIES}
PLAIN = [(k, n) for k in FAMILIES for n in family(k).FUSERS]
FITS = [(k, n) for k in FAMILIES for n in family(k).FIT_FUSERS]


@pytest.fixture(scope="module")
def made():
    """(kind, name of a fit) -> its case, fitted once; kind -> outputs and truth."""
    worlds, cases = {}, {}

    def case(kind, name=None):
        if kind not in worlds:
            worlds[kind] = WORLDS[kind].world(np.random.default_rng(0), 24)
        outputs, truth = worlds[kind]
        if name is None:
            return outputs, truth
        if (kind, name) not in cases:
            score = default_score(outputs[min(outputs)])
            cases[kind, name] = FittedCase(family(kind).FIT_FUSERS[name], outputs, truth, score)
        return cases[kind, name]

    return case


def hold(kind, name, law, check, case):
    if law in WORLDS[kind].EXCEPT.get(name, {}):
        with pytest.raises((LawBroken, OutputsError)):
            check(case)
    else:
        check(case)


@pytest.mark.parametrize("law", FUSER_LAWS)
@pytest.mark.parametrize(("kind", "name"), PLAIN)
def test_plain_operators(made, kind, name, law):
    hold(kind, name, law, FUSER_LAWS[law], FuserCase(family(kind).FUSERS[name], made(kind)[0]))


@pytest.mark.parametrize("law", [*FITTED_LAWS, *FUSER_LAWS])
@pytest.mark.parametrize(("kind", "name"), FITS)
def test_fitted_operators(made, kind, name, law):
    case = made(kind, name)
    if law in FITTED_LAWS:
        hold(kind, f"fit {name}", law, FITTED_LAWS[law], case)
    else:
        hold(kind, f"fit {name}", law, FUSER_LAWS[law], FuserCase(case.fuser, case.outputs))


@pytest.mark.parametrize("kind", FAMILIES)
def test_tables_fit_together(kind):
    found = family(kind)
    assert found.TRUSTED in found.FUSERS
    assert score_of(found.SCORE, kind).name == DEFAULTS[kind]
    assert set(found.CANDIDATES) <= {*found.FUSERS, *found.FIT_FUSERS, "best_single"}
    assert len(set(found.CANDIDATES)) == len(found.CANDIDATES)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_choice_is_never_worse_than_the_best_member(made, kind):
    outputs, truth = made(kind)
    choice = choose_by_trial(outputs, truth, candidates=[family(kind).TRUSTED])
    score = default_score(outputs[min(outputs)])
    best = fit_single(outputs, truth, score=score)
    mine = score.loss(choice.fuser({n: outputs[n] for n in choice.members}), truth)
    assert mine <= score.loss(best(outputs), truth) + 1e-9
    assert {c.name for c in choice.candidates} == {"best_single", family(kind).TRUSTED}
    assert any(c.outcome == "chosen" for c in choice.candidates)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_plain_operator_is_stored_and_made_again(made, kind):
    outputs, truth = made(kind)
    one = Applied(kind, family(kind).TRUSTED, {}, {})
    again = Applied.unpack(*one.pack(), {})
    assert (again.kind, again.name, again.options) == (one.kind, one.name, one.options)
    assert guarded(fit_single(outputs, truth), outputs, truth).members
    with pytest.raises(OutputsError, match="no option"):
        Applied(kind, family(kind).TRUSTED, {}, {"no such option": 1})
