import dataclasses

import numpy as np
import pytest

from conjoin.train.learners import LEARNERS
from conjoin.train.portfolio import PORTFOLIO, PRESETS, entries, hurried, to_json
from conjoin.train.prepare import Request, prepare


def problem(n, classes):
    rng = np.random.default_rng(0)
    y = rng.normal(size=n) if not classes else rng.integers(0, classes, n).astype(str).astype(object)
    batch = {"x": rng.normal(size=n), "target": y}
    return prepare(batch, Request("target"), most_rows=10**9).problem


@pytest.mark.parametrize("n", [60, 4_000, 12_000])
@pytest.mark.parametrize("classes", [0, 2, 3, 20])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_problem_has_members_of_distinct_names(n, classes, preset):
    if n < 100 and classes == 20:
        return
    found = entries(problem(n, classes), preset, None)
    names = [e.name for e in found]
    assert len(set(names)) == len(names) >= 3
    assert "lightgbm" in names
    assert "linear" in names


def test_every_learner_is_in_the_portfolio_and_every_entry_is_json():
    assert {e.learner for e in PORTFOLIO} == set(LEARNERS)
    for e in PORTFOLIO:
        assert to_json(e)["settings"] == dict(e.settings)
        assert e.presets <= set(PRESETS)


def test_in_a_hurry_rounds_are_fewer_and_greater():
    entry = next(e for e in PORTFOLIO if e.name == "lightgbm")
    quick = hurried(entry, 4.0)
    assert quick.settings["rounds"] * 4 == pytest.approx(entry.settings["rounds"], rel=0.05)
    assert quick.settings["model"]["learning_rate"] == pytest.approx(0.3)
    assert quick.settings["patience"] < entry.settings["patience"]
    assert hurried(entry, 0.5) is entry
    forest = dataclasses.replace(entry, settings={"trees": 10, "model": {}})
    assert hurried(forest, 4.0) is forest


def test_a_member_that_fails_does_not_take_the_others_with_it():
    from conjoin.train.budget import Clock, Memory
    from conjoin.train.run import Course, run

    p = problem(300, 2)
    first, second = (e for e in entries(p, "fast", ("lightgbm", "linear")))
    broken = dataclasses.replace(first, settings={**first.settings, "model": {"num_leaves": 1}})
    said = []
    course = Course(p, Clock.seconds(20), Memory(), 0, said.append, {}, lambda tried: None)
    tried, notes = run(course, [broken, second])
    assert [t.entry.name for t in tried] == ["linear"]
    assert notes[0].startswith("lightgbm failed and was left out: LightGBMError")
    assert [e.best for e in said if e.loss is not None] == [tried[0].loss]


def test_what_takes_too_long_comes_last():
    from conjoin.train.budget import Clock, Memory
    from conjoin.train.run import Course, run

    p = problem(3_000, 2)
    network, linear = (next(e for e in entries(p, "balanced", (n,))) for n in ("network", "linear"))
    said = []
    course = Course(p, Clock.seconds(1.0), Memory(), 0, said.append, {}, lambda tried: None)
    tried, _ = run(course, [network, linear])
    assert tried[0].entry.name == "linear"
    assert next(e.member for e in said) == "linear"
