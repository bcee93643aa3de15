"""Judging of merges in memory and of folders: who wins, on which rows, what is refused."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

from conjoin.errors import InputError, TruthError
from conjoin.outputs import Labels, Values
from conjoin.transfer.merge.evidence import HeldOut, evidence_of, parts
from conjoin.transfer.merge.judging import judge, judge_recipe

SPEC = importlib.util.spec_from_file_location("world_of_judging", Path(__file__).parent / "world.py")
world = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(world)

TRUE = np.array([1.0, 2.0, 3.0])
RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 3))
Y = X @ TRUE + RNG.standard_normal(200)
MODELS = {"a": {"w": TRUE + np.array([0.5, 0, 0])}, "b": {"w": TRUE - np.array([0.5, -0.1, 0])}}
HELD = HeldOut(lambda s: Values(X @ s["w"]), Values(Y), "mse")


def test_a_merge_beside_its_models():
    done = judge(MODELS, "karcher", HELD)
    assert [s.name for s in done.standings] == ["karcher", "plain average", "a", "b"]
    assert (done.rows, done.optimistic) == (100, False)
    alone = done.standings[2]
    assert alone.gain.low < alone.gain.mean < alone.gain.high
    assert alone.gain.mean == pytest.approx(alone.value.value - done.standings[0].value.value)
    assert done.record()["standings"][0]["name"] == "karcher"


def test_what_is_worse_is_replaced():
    base = {"w": np.zeros(3)}
    found = judge(MODELS, "task_arithmetic", HELD, base=base, parameters={"weight": 1.0})
    assert (found.chosen, found.helped) == ("plain average", False)
    np.testing.assert_allclose(found.model["w"], TRUE + np.array([0, 0.05, 0]))
    kept = judge(MODELS, "task_arithmetic", HELD, base=base, parameters={"weight": 1.0}, fallback=False)
    np.testing.assert_allclose(kept.model["w"], 2 * TRUE + np.array([0, 0.1, 0]))


def test_the_deciding_rows_are_not_reported():
    evidence = evidence_of(HeldOut(HELD.predict, Labels(np.arange(200) % 4, ("a", "b", "c", "d"))))
    first, second, third = parts(evidence, (2, 1, 1), seed=0)
    assert sorted([*first, *second, *third]) == list(range(200))
    assert (len(first), len(second)) == (100, 50)
    assert np.bincount(second % 4).min() >= 11
    again = parts(evidence, (2, 1, 1), seed=0)
    np.testing.assert_array_equal(first, again[0])


def test_few_rows_and_functions_are_told_to_be_optimistic():
    few = HeldOut(lambda s: Values(X[:9] @ s["w"]), Values(Y[:9]))
    done = judge(MODELS, "linear", few, parameters={"weight": 1})
    assert (done.optimistic, done.metric) == (True, "rmse")
    done = judge(MODELS, "linear", lambda s: -abs(s["w"][0] - 1), parameters={"weight": 1})
    assert done.optimistic
    assert math.isnan(done.standings[1].gain.p_value)
    assert done.record()["standings"][1]["gain"]["p_value"] is None


def test_a_function_of_rows_and_one_of_tasks():
    by_row = judge(MODELS, "linear", lambda s: -((X @ s["w"] - Y) ** 2), parameters={"weight": 1})
    assert by_row.rows == 100
    assert by_row.standings[2].gain.p_value < 1
    by_task = judge(MODELS, "linear", lambda s: {"x": s["w"][0], "y": 0}, parameters={"weight": 1})
    assert by_task.standings[0].numbers == {"x": 1.0, "y": 0.0}
    assert by_task.standings[0].value.value == 0.5
    assert by_task.chosen == "a"


@pytest.mark.parametrize(
    ("score", "told"),
    [
        ("accuracy", "must be a function"),
        (lambda s: "much", "must give a number"),
        (lambda s: {}, "the mapping is empty"),
        (lambda s: np.ones((2, 2)), r"shape \(2, 2\)"),
        (lambda s: 1 / 0, "fails on linear: ZeroDivisionError"),
        (lambda s: np.ones(int(s["w"][0] * 10)), "must answer every model alike"),
        (HeldOut(lambda s: Values([1.0]), Values(Y)), "answered 1 rows; the truth has 200"),
    ],
)
def test_scores_that_make_no_sense(score, told):
    if told == "must answer every model alike":
        found = judge(MODELS, "linear", score, parameters={"weight": 1})
        assert any(told in n for n in found.notes)
        return
    with pytest.raises(InputError, match=told):
        judge(MODELS, "linear", score, parameters={"weight": 1})


def test_no_truth_and_no_score():
    with pytest.raises(TruthError, match="no row with a truth"):
        judge(MODELS, "linear", HeldOut(HELD.predict, Values(np.zeros(0))), parameters={"weight": 1})
    done = judge(MODELS, "linear", lambda s: math.nan if s["w"][0] == 1 else 1.0, parameters={"weight": 1})
    assert done.chosen == "a"
    assert any("has no score" in n for n in done.notes)


def test_one_model():
    done = judge({"only": MODELS["a"]}, "linear", HELD, parameters={"weight": 1})
    assert [s.role for s in done.standings] == ["merged", "model"]
    assert not done.helped


def test_modules():
    torch = pytest.importorskip("torch")
    made = [torch.nn.Linear(3, 1, bias=False) for _ in range(2)]
    with torch.no_grad():
        for module, state in zip(made, MODELS.values(), strict=True):
            module.weight.copy_(torch.from_numpy(state["w"])[None])
    x = torch.from_numpy(X).float()
    held = HeldOut(lambda m: Values(m(x).detach().numpy()[:, 0].astype(float)), Values(Y))
    done = judge(made, "linear", held, parameters={"weight": 1})
    assert isinstance(done.model, torch.nn.Linear)


def test_folders_and_an_average_that_is_impossible(tmp_path):
    world.model(tmp_path / "one", 0)
    world.model(tmp_path / "two", 1, rows=25)
    (tmp_path / "recipe.yml").write_text("merge_method: passthrough\nmodels: [{model: one}]\n")
    seen = []

    def score(folder):
        seen.append(folder.name)
        return float(world.arrays(folder)["model.norm.weight"][0])

    done = judge_recipe(tmp_path / "recipe.yml", tmp_path / "out", score)
    assert seen == ["merged", "one"]
    assert done.model == tmp_path / "out"
    assert (tmp_path / "out" / "evaluation.json").is_file()
    with pytest.raises(InputError, match="already there"):
        judge_recipe(tmp_path / "recipe.yml", tmp_path / "out", score)
    (tmp_path / "recipe.yml").write_text(
        "merge_method: passthrough\nslices:\n- sources: [{model: one, layer_range: [0, 2]}]\n"
        "- sources: [{model: two, layer_range: [2, 3]}]\n"
    )
    done = judge_recipe(tmp_path / "recipe.yml", tmp_path / "out", score, force=True)
    assert any("plain average is not compared" in n for n in done.notes)
    assert not list(tmp_path.glob(".*"))
