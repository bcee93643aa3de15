"""Everything in the tables keeps the laws, but for the exceptions below, which must be true ones."""

import numpy as np
import pytest

from conjoin import fusion
from conjoin.checks import (
    FITTED_LAWS,
    FUSER_LAWS,
    MEMBER_LAWS,
    OUTPUT_LAWS,
    FittedCase,
    FuserCase,
    LawBroken,
    MemberCase,
)
from conjoin.outputs import KINDS, Labels, Probabilities, Quantiles, Values
from conjoin.scores import default_score

WORLDS = ("binary", "multiclass", "values", "quantiles")
CLASSES = WORLDS[:2]
LEARNED = "what it learned of a member it also does to that member alone"
FIXED = "its weights do not come from this loss"
EXCEPTIONS = {
    ("vote", "one member is that member"): ("one member's shares of votes are 0 and 1", CLASSES),
    ("fit log_pool", "one member is that member"): (LEARNED, CLASSES),
    ("fit class_weights", "one member is that member"): (LEARNED, CLASSES),
    ("fit stacking", "one member is that member"): (LEARNED, WORLDS),
    ("fit nnls", "one member is that member"): (LEARNED, ("values",)),
    ("fit gate", "one member is that member"): (LEARNED, CLASSES),
    ("fit network", "one member is that member"): (LEARNED, WORLDS),
    ("fit equal_weights", "never worse than the best"): (FIXED, WORLDS),
    ("fit inverse_error", "never worse than the best"): (FIXED, ("binary", "multiclass", "quantiles")),
}
"""(thing, law) -> why it is not kept, and in which worlds. There it is run, and must be broken."""

NOT_FOR = {
    "vote": ("values", "quantiles"),
    "log_pool": ("values", "quantiles"),
    "product": ("values", "quantiles"),
    "nnls": ("quantiles",),
}
"""Kinds of worlds that a fuser refuses."""


def world(kind, n=120):
    """Outputs of four members of falling skill, and the truth."""
    rng = np.random.default_rng(1)
    skill = dict(zip("dbca", (2.0, 1.2, 0.7, 0.4), strict=True))
    if kind in ("binary", "multiclass"):
        classes = ("no", "yes") if kind == "binary" else ("x", "y", "z")
        truth = rng.integers(0, len(classes), n)
        outputs = {}
        for name, s in skill.items():
            z = 2 * rng.normal(size=(n, len(classes))) + s * 2 * np.eye(len(classes))[truth]
            outputs[name] = Probabilities(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), classes)
        return outputs, Labels(truth, classes)
    y = rng.normal(size=n)
    if kind == "values":
        return {m: Values(y + rng.normal(size=n) / s) for m, s in skill.items()}, Values(y)
    at = np.array([-1.28, 0, 1.28])
    made = {
        m: Quantiles(0.7 * y[:, None] + (rng.normal(size=(n, 1)) * 0.4 + at) / s, (0.1, 0.5, 0.9))
        for m, s in skill.items()
    }
    return made, Values(y)


def hold(name, kind, law, check, case):
    """The law holds, or is broken as EXCEPTIONS says."""
    if kind in EXCEPTIONS.get((name, law), ("", ()))[1]:
        with pytest.raises(LawBroken, match=f"'{law}'"):
            check(case)
    else:
        check(case)


def pairs(table):
    return [(n, w) for n in table for w in WORLDS if w not in NOT_FOR.get(n, ())]


@pytest.mark.parametrize("law", FUSER_LAWS)
@pytest.mark.parametrize(("name", "kind"), pairs(fusion.FUSERS))
def test_fusers(name, kind, law):
    hold(name, kind, law, FUSER_LAWS[law], FuserCase(fusion.FUSERS[name], world(kind)[0]))


@pytest.fixture(scope="module")
def fitted():
    """(name, kind) -> the case of a fit function, fitted once."""
    made = {}

    def case(name, kind):
        if (name, kind) not in made:
            outputs, truth = world(kind)
            score = default_score(outputs["a"])
            made[name, kind] = FittedCase(fusion.FIT_FUSERS[name], outputs, truth, score)
        return made[name, kind]

    return case


@pytest.mark.parametrize("law", [*FITTED_LAWS, *FUSER_LAWS])
@pytest.mark.parametrize(("name", "kind"), pairs(fusion.FIT_FUSERS))
def test_fitted_fusers(fitted, name, kind, law):
    case = fitted(name, kind)
    if law in FITTED_LAWS:
        hold(f"fit {name}", kind, law, FITTED_LAWS[law], case)
    else:
        hold(f"fit {name}", kind, law, FUSER_LAWS[law], FuserCase(case.fuser, case.outputs))
