"""The default choice: it takes what wins, does no harm, keeps limits, and tells what it did."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pytest

from conjoin.contracts import Cost
from conjoin.errors import InputError, OutputsError, TruthError
from conjoin.fusion import choose, fit_best_single, fit_log_pool
from conjoin.fusion.choose import MOST_MEMBERS, fit_choice
from conjoin.fusion.contest import CLASS_CONTENDERS, bar
from conjoin.fusion.decisions import fit_decided_log_pool
from conjoin.fusion.folds import fold_numbers
from conjoin.fusion.frugal import cost_shares, elimination_path
from conjoin.fusion.problems import problem
from conjoin.fusion.selected import Selected
from conjoin.outputs import Labels, Probabilities, Values
from conjoin.scores import SCORES, user_score

from .worlds import KINDS, numbers, through_onnx, world


@pytest.mark.parametrize("kind", KINDS)
def test_choice_is_told_stored_and_no_harm(kind: str) -> None:
    outputs, truth = world(kind, n=240)
    half, rest = np.arange(0, 240, 2), np.arange(1, 240, 2)
    given = {n: o.take(half) for n, o in outputs.items()}
    choice = choose(given, truth.take(half))
    told = json.loads(json.dumps(choice.to_json(), allow_nan=False))
    names = [c["name"] for c in told["candidates"]]
    assert {"best_single", "mean", "greedy_selection", "linear_pool"} <= set(names)
    assert [c["outcome"] for c in told["candidates"]].count("chosen") == 1
    assert choice.name in names
    assert set(choice.members) | set(choice.dropped) == set(outputs)
    assert told["front"]
    asked = {n: outputs[n].take(rest) for n in choice.members}
    fused = choice.fuser(asked)
    score = SCORES[choice.score]
    single = fit_best_single(given, truth.take(half))
    best = score.loss(single({n: o.take(rest) for n, o in outputs.items()}), truth.take(rest))
    assert score.loss(fused, truth.take(rest)) < 1.05 * best
    assert through_onnx(choice.fuser, asked).shape[0] == 120
    again = choose(dict(reversed(given.items())), truth.take(half))
    assert again.name == choice.name
    assert numbers(again.fuser(asked)) == pytest.approx(numbers(fused), abs=1e-9)


def test_one_good_member_among_noise_is_taken_alone() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    outputs = {f"noise{k}": Values(rng.normal(size=400) * 30) for k in range(4)}
    outputs["good"] = Values(y + 0.1 * rng.normal(size=400))
    choice = choose(outputs, Values(y))
    loss = SCORES["rmse"].loss(choice.fuser({n: outputs[n] for n in choice.members}), Values(y))
    assert loss < 1.02 * SCORES["rmse"].loss(outputs["good"], Values(y))
    told = {c.name: c for c in choice.candidates}
    assert told["mean"].outcome.startswith("not better")
    assert told["mean"].p < 0.01


def test_equal_members_are_averaged() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=120)
    outputs = {f"m{k}": Values(y + rng.normal(size=120)) for k in range(6)}
    choice = choose(outputs, Values(y))
    mean = np.mean([o.values for o in outputs.values()], axis=0)
    fused = choice.fuser({n: outputs[n] for n in choice.members}).values
    assert np.corrcoef(fused, mean)[0, 1] > 0.97


@pytest.mark.parametrize(
    ("kind", "name"),
    [("binary", "auc"), ("binary", "f1"), ("multiclass", "accuracy"), ("values", "mae"), ("values", "r2")],
)
def test_any_score(kind: str, name: str) -> None:
    outputs, truth = world(kind, n=160)
    choice = choose(outputs, truth, score=SCORES[name])
    row = next(c for c in choice.candidates if c.outcome == "chosen")
    assert choice.score == name
    assert row.score is not None
    assert (0 < row.score <= 1) or name == "mae"
    best = max(SCORES[name].turned(SCORES[name].loss(o, truth)) for o in outputs.values())
    assert row.score > best - 0.05 or name == "mae"


def test_decisions_are_fitted_for_scores_of_decisions() -> None:
    rng = np.random.default_rng(0)
    for width in (2, 3):
        y = rng.choice(width, 500, p=[0.85, 0.15] if width == 2 else [0.8, 0.1, 0.1])
        z = rng.normal(size=(500, width)) * 0.8 + 1.2 * (y[:, None] == np.arange(width))
        z[:, 0] += 2
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        bold = p**2 / (p**2).sum(axis=1, keepdims=True)
        outputs = {"a": Probabilities(p, "abc"[:width]), "b": Probabilities(bold, "abc"[:width])}
        truth = Labels(y, "abc"[:width])
        score = SCORES["balanced_accuracy"]
        plain = score.value(fit_log_pool(outputs, truth)(outputs), truth)
        fuser = fit_decided_log_pool(outputs, truth, score=score)
        assert score.value(fuser(outputs), truth) > plain + 0.1
        assert through_onnx(fuser, outputs) == pytest.approx(numbers(fuser(outputs)), abs=1e-6)
    choice = choose(outputs, truth, score=score)
    assert choice.name == "log_pool, decisions"
    assert "log_pool, decisions" not in [c.name for c in choose(outputs, truth).candidates]


def test_a_score_of_the_user() -> None:
    outputs, truth = world("values", n=100)
    worst = user_score(lambda truth, answer: float(np.abs(truth - answer).max()), name="worst")
    choice = choose(outputs, truth, score=worst)
    assert choice.score == "worst"
    assert all(c.score is None or c.score > 0 for c in choice.candidates)


def test_a_dear_member_that_gives_nothing_goes() -> None:
    outputs, truth = world("values", n=400)
    rng = np.random.default_rng(1)
    twin = Values(outputs["ash"].values + 1e-3 * rng.normal(size=400))
    costs = {n: Cost(1e-6, 1000) for n in outputs} | {"forest": Cost(1e-4, 1_000_000)}
    choice = choose({**outputs, "forest": twin}, truth, costs=costs)
    assert "forest" not in choice.members
    assert "forest" in choice.dropped
    assert any(s.bytes is not None and s.bytes < 1_000_000 for s in choice.front)
    plain = choose({**outputs, "forest": twin}, truth)
    assert len(plain.front) >= 1


def test_limits_are_kept() -> None:
    outputs, truth = world("binary", n=200)
    costs = {
        n: Cost(cpu_seconds_per_row=s, bytes=b)
        for n, s, b in zip(outputs, (5e-5, 1e-5, 1e-5, 1e-5), (900, 100, 100, 100), strict=True)
    }
    choice = choose(outputs, truth, costs=costs, max_latency=2.5e-5)
    assert sum(costs[n].cpu_seconds_per_row for n in choice.members) <= 2.5e-5
    assert choice.dropped["ash"] == "alone over the limit"
    small = choose(outputs, truth, costs=costs, max_size=150)
    assert len(small.members) == 1
    with pytest.raises(InputError, match="no member keeps the limits"):
        choose(outputs, truth, costs=costs, max_size=10)


def test_deadline_in_the_past_still_gives_a_choice() -> None:
    outputs, truth = world("multiclass", n=1200)
    start = time.process_time()
    choice = choose(outputs, truth, deadline=time.monotonic() - 1)
    assert time.process_time() - start < 3
    told = {c.name: c.outcome for c in choice.candidates}
    assert told["log_pool"] != "no time left"
    assert told["network"] == "no time left"
    assert told["log_pool, calibrated"] == "no time left"


def test_a_deadline_thins_the_rows_of_the_last_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[choose.__module__], "MOST_CELLS", 1)  # the search takes 1,000 rows
    outputs, truth = world("values", n=6000)
    assert choose(outputs, truth).every == 1
    late = choose(outputs, truth, deadline=time.monotonic() - 1)
    assert 1 <= late.every <= 6


def test_one_member_one_row_one_class() -> None:
    one = choose({"a": world("binary")[0]["ash"]}, world("binary")[1])
    assert one.members == ("a",)
    assert one.name == "best_single"
    outputs, truth = world("binary", n=2)
    assert choose(outputs, truth).fuser is not None
    single, answer = world("values", n=1)
    assert len(choose(single, answer).fuser(single)) == 1
    sure = {n: Probabilities(np.ones((30, 1)), ["only"]) for n in "ab"}
    certain = choose(sure, Labels(np.zeros(30, int), ["only"]))
    assert certain.fuser({n: sure[n] for n in certain.members}).values[0, 0] == 1.0


def test_many_members_are_cut_down_first() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    outputs = {f"m{k:02d}": Values(y + rng.normal(size=200) * (1 + k / 10)) for k in range(60)}
    choice = choose(outputs, Values(y))
    assert len(choice.members) <= MOST_MEMBERS
    assert set(choice.members) | set(choice.dropped) == set(outputs)


def test_groups_stay_together_and_skipped_rows_are_fine() -> None:
    outputs, truth = world("binary", n=120)
    groups = np.repeat(np.arange(12), 10)
    assert choose(outputs, truth, groups=groups).fuser is not None
    number = fold_numbers(120, 4, 0, groups=groups)
    assert all(len(set(number[groups == g])) == 1 for g in range(12))
    with pytest.raises(OutputsError, match="one group"):
        choose(outputs, truth, groups=np.zeros(120))
    with pytest.raises(OutputsError, match="cannot be spread"):
        fold_numbers(120, 20, 0, groups=groups)
    first = outputs["ash"]
    holes = {**outputs, "ash": Probabilities(first.values, first.classes, np.arange(120) > 10)}
    assert choose(holes, truth, weights=np.arange(120.0)).fuser is not None


def test_folds_are_stratified() -> None:
    codes = np.r_[np.zeros(95, int), np.ones(5, int)]
    number = fold_numbers(100, 5, 3, strata=codes)
    assert [int(codes[number == k].sum()) for k in range(5)] == [1] * 5
    assert (number == fold_numbers(100, 5, 3, strata=codes)).all()


def test_a_gate_on_the_batch_takes_part_where_there_is_one() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random(900), rng.normal(size=900)
    outputs = {
        "left": Values(y + np.where(x < 0.5, 0.1, 2.0) * rng.normal(size=900)),
        "right": Values(y + np.where(x < 0.5, 2.0, 0.1) * rng.normal(size=900)),
    }
    choice = choose(outputs, Values(y), batch={"x": x})
    assert choice.name == "gate on the batch"
    assert len(choice.fuser(outputs, batch={"x": x})) == 900


def test_dynamic_selection_takes_part_where_there_is_a_batch() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((1200, 2)), rng.integers(0, 2, 1200)
    left = ((x[:, 0] < 0.5) ^ (x[:, 1] < 0.5)).astype(float)  # no weights that are linear in x tell it
    outputs = {}
    for name, skill in {"on": left, "off": 1 - left}.items():
        z = rng.normal(size=(1200, 2)) + (4 * skill - 1)[:, None] * np.eye(2)[y]
        outputs[name] = Probabilities(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), "ab")
    batch = {"u": x[:, 0], "v": x[:, 1]}
    choice = choose(outputs, Labels(y, "ab"), batch=batch)
    assert choice.name in ("knora_u", "meta_des")
    assert len(choice.fuser(outputs, batch=batch)) == 1200
    assert {"knora_u", "meta_des"}.isdisjoint(c.name for c in choose(outputs, Labels(y, "ab")).candidates)


def test_misuse_is_refused() -> None:
    outputs, truth = world("binary", n=60)
    with pytest.raises(InputError, match="at least 2 folds"):
        choose(outputs, truth, folds=1)
    with pytest.raises(TruthError, match="truth has 3"):
        choose(outputs, truth.take([0, 1, 2]))


def test_as_a_fit_function_it_takes_all_members() -> None:
    outputs, truth = world("binary", n=150)
    p = np.random.default_rng(0).random((150, 1)).astype(np.float32)
    outputs["noise"] = Probabilities(np.concatenate([1 - p, p], axis=1), ("no", "yes"))
    fuser = fit_choice(outputs, truth)
    assert isinstance(fuser, Selected)
    assert set(fuser.members) == set(outputs)
    assert set(fuser.needs) < set(outputs)
    fused = numbers(fuser(outputs))
    assert through_onnx(fuser, outputs) == pytest.approx(fused, abs=1e-6)
    again = Selected.unpack(*fuser.pack(), fuser.children())
    assert (numbers(again(outputs)) == fused).all()
    with pytest.raises(OutputsError, match="none answered"):
        fuser({n: outputs[n] for n in fuser.ignored})


def test_paths_and_shares() -> None:
    outputs, truth = world("values", n=100)
    rows = problem(outputs, truth)
    path = elimination_path(rows, rows.stack.names, cost_shares(rows.stack.names, None))
    assert [len(p) for p in path] == [4, 3, 2, 1]
    assert path[-1] == ("ash",)
    shares = cost_shares(("a", "b"), {"a": Cost(1.0, 30), "b": Cost(3.0, 10)})
    assert shares == {"a": 0.5, "b": 0.5}
    assert cost_shares(("a", "b"), {"a": Cost(1.0)}) == {"a": 0.5, "b": 0.5}


def test_a_coarse_score_does_not_hold_a_pool_back() -> None:
    mean, greedy, log_pool = CLASS_CONTENDERS[1], CLASS_CONTENDERS[2], CLASS_CONTENDERS[4]
    assert bar(mean, "best_single", SCORES["accuracy"]) == -1.0
    assert bar(greedy, "mean", SCORES["accuracy"]) == greedy.needed
    assert bar(mean, "best_single", SCORES["log_loss"]) == mean.needed
    assert bar(log_pool, "best_single", SCORES["log_loss"]) == log_pool.needed
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 80)
    outputs = {}
    for k in range(6):  # alike in skill: by accuracy on 80 rows one of them seems best
        z = rng.normal(size=(80, 2)) * 1.5 + np.eye(2)[y] * 1.5
        outputs[f"m{k}"] = Probabilities(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), "ab")
    choice = choose(outputs, Labels(y, "ab"), score=SCORES["accuracy"])
    assert choice.name != "best_single"
