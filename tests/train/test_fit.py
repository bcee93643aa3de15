import json
import os
import signal
import threading
import time

import numpy as np
import pytest

import conjoin.train.learners as learners
from conjoin.errors import InputError, StoppedError, TruthError
from conjoin.outputs import Labels, Probabilities, Quantiles, Values
from conjoin.scores import SCORES
from conjoin.train import fit

QUICK = ("lightgbm", "linear", "neighbours")


def table(n=400, seed=0, kind="binary"):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=n)
    b[rng.random(n) < 0.1] = np.nan
    colour = np.array(["red", "green", "blue"], dtype=object)[rng.integers(0, 3, n)]
    signal_ = a + np.nan_to_num(b) ** 2 + (colour == "red") + 0.3 * rng.normal(size=n)
    target = {
        "binary": np.where(signal_ > 1, "yes", "no").astype(object),
        "multiclass": np.digitize(signal_, [0.5, 1.5]).astype(np.int64),
        "regression": signal_ * 100,
    }[kind]
    return {"a": a, "b": b, "colour": colour, "target": target}


def packed(part):
    """Every array of a part and of the parts inside it, as bytes."""
    arrays, _ = part.pack()
    found = {k: (str(v.dtype), v.shape, v.tobytes()) for k, v in arrays.items()}
    for name, child in part.children().items():
        found |= {f"{name}/{k}": v for k, v in packed(child).items()}
    return found


@pytest.fixture(scope="module")
def whole():
    """Every learner, once."""
    events = []
    data = table()
    return data, fit(data, target="target", time_limit=40, seed=3, progress=events.append), events


def test_all_learners_are_tried_and_recorded(whole):
    _data, ensemble, events = whole
    record = ensemble.card.provenance
    assert {r["learner"] for r in record["scores"]} == set(learners.LEARNERS)
    assert {r["name"] for r in record["scores"] if r["kept"]} == set(ensemble.members)
    assert all(r["low"] < r["value"] < r["high"] for r in record["scores"])
    assert record["data"]["target"] == "target"
    assert record["data"]["columns"] == ["a", "b", "colour"]
    assert json.loads(json.dumps(dict(record))) == dict(record)
    assert next(e.stage for e in events) == "encode"
    assert events[-1].stage == "done"
    best = [e.best for e in events if e.best is not None]
    assert best == sorted(best, reverse=True)


def test_the_ensemble_answers_and_is_better_than_chance(whole):
    _data, ensemble, _ = whole
    new = table(seed=9)
    answer = ensemble.predict({k: v for k, v in new.items() if k != "target"})
    assert isinstance(answer, Probabilities)
    assert answer.classes == ("no", "yes")
    np.testing.assert_allclose(answer.values.sum(axis=1), 1, atol=1e-5)
    assert SCORES["log_loss"].loss(answer, Labels.of(new["target"])) < 0.35


def test_a_plan_repeats_the_run_byte_for_byte(whole):
    data, ensemble, _ = whole
    plan = json.loads(json.dumps(ensemble.card.provenance["plan"]))
    again = fit(data, target="target", plan=plan)
    first, second = packed(ensemble), packed(again)
    assert first.keys() == second.keys()
    assert [k for k in first if first[k] != second[k]] == []
    assert again.card.provenance["plan"] == ensemble.card.provenance["plan"]


@pytest.mark.parametrize("kind", ["regression", "multiclass"])
def test_numbers_and_several_classes(kind):
    data = table(300, kind=kind)
    ensemble = fit(data, target="target", time_limit=20, members=("lightgbm", "xgboost", "linear"))
    answer = ensemble.predict(data)
    if kind == "multiclass":
        assert answer.classes == ("0", "1", "2")
        assert (answer.labels().codes == data["target"]).mean() > 0.8
        assert ensemble.card.provenance["data"]["target_type"] == "integer"
    else:
        assert isinstance(answer, Values)
        assert np.corrcoef(answer.values, data["target"])[0, 1] > 0.9
        again = fit(data, target="target", plan=ensemble.card.provenance["plan"])
        assert packed(again) == packed(ensemble)


def test_quantiles_rise():
    data = table(300, kind="regression")
    members = ("lightgbm", "xgboost", "linear", "network_plain", "catboost")
    ensemble = fit(data, target="target", quantiles=(0.1, 0.5, 0.9), time_limit=30, members=members)
    answer = ensemble.predict(data)
    assert isinstance(answer, Quantiles)
    assert answer.levels == (0.1, 0.5, 0.9)
    assert (np.diff(answer.values, axis=1) >= 0).all()
    below = (data["target"][:, None] <= answer.values).mean(axis=0)
    assert (np.abs(below - [0.1, 0.5, 0.9]) < 0.15).all()
    assert {r["name"] for r in ensemble.card.provenance["scores"]} == set(members)


def test_a_class_of_one_row_is_learned():
    data = table(200)
    data["target"][7] = "rare"
    ensemble = fit(data, target="target", time_limit=10, members=QUICK)
    assert ensemble.card.classes == ("no", "rare", "yes")
    assert any("rare" in note for note in ensemble.card.provenance["notes"])
    assert np.isfinite(ensemble.predict(data).values).all()


def test_weights_groups_and_balance():
    data = table(300)
    data["site"] = np.arange(300) // 10
    data["mass"] = np.where(data["target"] == "yes", 5.0, 1.0)
    heavy = fit(data, target="target", time_limit=10, members=("lightgbm",), groups="site", weights="mass")
    plain = fit(data, target="target", time_limit=10, members=("lightgbm",), ignore=("site", "mass"))
    assert (
        {c.name for c in heavy.card.columns} == {c.name for c in plain.card.columns} == {"a", "b", "colour"}
    )
    assert heavy.predict(data).values[:, 1].mean() > plain.predict(data).values[:, 1].mean() + 0.02
    rare = {k: v[np.r_[np.flatnonzero(data["target"] == "no"), np.flatnonzero(data["target"] == "yes")[:15]]]
            for k, v in table(300).items()}  # fmt: skip
    even = fit(rare, target="target", time_limit=10, members=("linear",), balance=True)
    odd = fit(rare, target="target", time_limit=10, members=("linear",))
    assert even.predict(rare).values[:, 1].mean() > odd.predict(rare).values[:, 1].mean() + 0.1


def test_any_metric():
    for metric in ("auc", "balanced_accuracy"):
        ensemble = fit(
            table(200), target="target", metric=metric, time_limit=5, members=("lightgbm", "linear")
        )
        assert {r["score"] for r in ensemble.card.provenance["scores"]} == {metric}
    with pytest.raises(InputError, match="is for values"):
        fit(table(100), target="target", metric="rmse")


def test_the_time_limit_is_kept_and_there_is_a_member():
    rng = np.random.default_rng(0)
    data = {f"x{k}": rng.normal(size=60_000) for k in range(12)}
    data["target"] = np.where(data["x0"] * data["x1"] > 0, "a", "b").astype(object)
    begin = time.monotonic()
    ensemble = fit(data, target="target", time_limit=1)
    assert time.monotonic() - begin < 1.1 + 5
    assert len(ensemble.members) >= 1
    assert any("rows were drawn" in note for note in ensemble.card.provenance["notes"])


def test_ctrl_c_keeps_what_is_done_and_a_second_one_aborts():
    data = table(3000)
    events = []
    before = signal.getsignal(signal.SIGINT)

    def stop_after_the_first(event):
        events.append(event)
        if event.loss is not None and len([e for e in events if e.loss is not None]) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    begin = time.monotonic()
    ensemble = fit(data, target="target", time_limit=60, progress=stop_after_the_first)
    assert time.monotonic() - begin < 30
    assert {r["name"] for r in ensemble.card.provenance["scores"]} == {"lightgbm", "linear"}
    assert any("stopped" in note for note in ensemble.card.provenance["notes"])

    def stop_at_once(event):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises((StoppedError, KeyboardInterrupt)):
        fit(data, target="target", time_limit=60, progress=stop_at_once)
    assert signal.getsignal(signal.SIGINT) is before


def test_training_in_another_thread():
    found = []
    work = threading.Thread(
        target=lambda: found.append(fit(table(100), target="target", time_limit=3, members=("linear",)))
    )
    work.start()
    work.join()
    assert list(found[0].members) == ["linear"]


def test_a_journal_is_gone_on_with(tmp_path):
    data = table(200)
    asked = {"target": "target", "time_limit": 15, "members": (*QUICK, "extra_trees", "network_plain")}
    first = fit(data, **asked, work=tmp_path / "w")
    (tmp_path / "w" / "linear.json").unlink()
    (tmp_path / "w" / "neighbours.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="holds a run already"):
        fit(data, **asked, work=tmp_path / "w")
    seen = []
    again = fit(data, **asked, work=tmp_path / "w", resume=True, progress=lambda e: seen.append(e.message))
    assert sorted(m for m in seen if m.startswith("fitting")) == ["fitting linear", "fitting neighbours"]
    assert packed(again) == packed(first)
    with pytest.raises(InputError, match="other data or settings"):
        fit(table(200, seed=1), **asked, work=tmp_path / "w", resume=True)
    with pytest.raises(InputError, match="needs the work folder"):
        fit(data, target="target", resume=True)


def test_a_plan_of_other_data_is_told_of():
    first = fit(table(120), target="target", time_limit=3, members=("linear",))
    other = fit(table(120, seed=5), target="target", plan=first.card.provenance["plan"])
    assert "the plan was made on other data" in other.card.provenance["notes"]
    broken = dict(first.card.provenance["plan"]) | {"format": 99}
    with pytest.raises(InputError, match="format 99"):
        fit(table(120), target="target", plan=broken)
    with pytest.raises(InputError, match="does not make sense"):
        fit(table(120), target="target", plan={"format": 1})


def test_members_that_would_not_fit_into_memory_are_left_out():
    ensemble = fit(table(200), target="target", time_limit=5, members=("linear", "lightgbm"), memory_limit=1)
    assert len(ensemble.members) == 1
    assert any("the limit leaves 0 MB" in note for note in ensemble.card.provenance["notes"])


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"target": "tagret"}, TruthError, "did you mean 'target'"),
        ({"time_limit": 0}, InputError, "must be above 0"),
        ({"preset": "bets"}, InputError, "did you mean 'best'"),
        ({"members": ("lightgmb",)}, InputError, "did you mean 'lightgbm'"),
        ({"metric": "log_los"}, InputError, "log_loss"),
        ({"folds": 1}, InputError, "folds must lie between"),
        ({"weights": "mass"}, InputError, "no column 'mass' for weights"),
        ({"weights": np.full(100, -1.0)}, InputError, "none negative"),
        ({"groups": np.zeros(3)}, InputError, "one for each of 100 rows"),
        ({"ignore": ("targte",)}, InputError, "did you mean 'target'"),
        ({"ignore": ("target",)}, InputError, "is the target"),
        ({"threads": -1}, InputError, "threads"),
        ({"max_size": 0}, InputError, "max_size"),
    ],
)
def test_arguments_that_make_no_sense(arguments, error, said):
    with pytest.raises(error, match=said):
        fit(table(100), **{"target": "target", "time_limit": 2, **arguments})
