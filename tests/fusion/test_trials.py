"""The automatic choice for kinds that have a family."""

from __future__ import annotations

import time

import numpy as np
import pytest

from conjoin.errors import OutputsError, TruthError
from conjoin.fusion import choose
from conjoin.fusion.ranking import from_dicts
from conjoin.fusion.trials import choose_by_trial
from conjoin.outputs import Labels


def people(n, skills, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    outputs = {
        f"w{k}": Labels(np.where(rng.random(n) < s, truth, 1 - truth), ("no", "yes"))
        for k, s in enumerate(skills)
    }
    return outputs, Labels(truth, ("no", "yes"))


def test_many_voices_beat_the_best_one_and_the_choice_says_so():
    outputs, truth = people(400, [0.7] * 9)
    choice = choose(outputs, truth)
    assert choice.name != "best_single"
    scores = {c.name: c.score for c in choice.candidates}
    assert scores[choice.name] > scores["best_single"] + 0.05
    fresh, answer = people(400, [0.7] * 9, seed=1)
    right = choice.fuser({n: fresh[n] for n in choice.members}).labels().names() == answer.names()
    assert right.mean() > 0.8


def test_noise_does_not_displace_a_perfect_member():
    outputs, truth = people(300, [1.0, 0.5, 0.5])
    choice = choose(outputs, truth)
    fused = choice.fuser({n: outputs[n] for n in choice.members})
    assert (fused.labels().names() == truth.names()).all()


def test_same_input_same_choice_and_groups_stay_together():
    outputs, truth = people(120, [0.7, 0.65, 0.6])
    a, b = (choose_by_trial(outputs, truth, seed=3, groups=np.arange(120) // 10) for _ in range(2))
    assert a.to_json()["candidates"] != []
    assert [c.score for c in a.candidates] == [c.score for c in b.candidates]
    assert a.name == b.name


def test_rows_without_truth_do_not_count():
    outputs, truth = people(60, [0.8, 0.7, 0.6])
    half = Labels(np.where(np.arange(60) < 30, truth.codes, -1), truth.classes)
    a = choose_by_trial(outputs, half)
    b = choose_by_trial({n: o.take(slice(0, 30)) for n, o in outputs.items()}, truth.take(slice(0, 30)))
    assert [c.score for c in a.candidates] == [c.score for c in b.candidates]


def test_one_row_teaches_nothing():
    outputs, truth = people(1, [1.0, 1.0])
    outcomes = {c.name: c.outcome for c in choose_by_trial(outputs, truth).candidates}
    assert outcomes["naive_bayes"] == "needs 4 rows with a truth"


def test_no_time_leaves_the_best_single_member():
    outputs, truth = people(50, [0.9, 0.6])
    choice = choose_by_trial(outputs, truth, deadline=time.monotonic() - 1)
    assert choice.name == "best_single"
    assert {c.outcome for c in choice.candidates} == {"chosen", "no time left"}


def test_bad_calls():
    outputs, truth = people(10, [0.9, 0.6])
    with pytest.raises(OutputsError, match="nothing to fuse"):
        choose_by_trial({}, truth)
    with pytest.raises(OutputsError, match="differ in rows"):
        choose_by_trial(outputs, truth.take(slice(0, 4)))
    with pytest.raises(TruthError, match="no row has a truth"):
        choose_by_trial(outputs, Labels(np.full(10, -1), truth.classes))
    with pytest.raises(OutputsError, match="did you mean 'majority_vote'"):
        choose_by_trial(outputs, truth, candidates=["majority_vot"])
    runs = from_dicts({"a": {"q": {"d": 1.0}}, "b": {"q": {"e": 1.0}}})
    with pytest.raises(OutputsError, match="differ in rows"):
        choose(runs, truth)
