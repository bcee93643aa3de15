"""`conjoin merge --evaluate` and `--search`: a graph with the merged weights, functions, what is refused."""

import json

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from conjoin.transfer.checkpoints import open_checkpoint, write_header

COLUMNS = 4
TRUE = np.array([[1.0, -2.0, 0.5, 3.0]], np.float32)


def folder(path, weight, bias=0.0):
    path.mkdir()
    tensors = {"fc.weight": np.asarray(weight, np.float32), "fc.bias": np.array([bias], np.float32)}
    raw = write_header([(n, "F32", a.shape) for n, a in tensors.items()], {})
    (path / "model.safetensors").write_bytes(raw + b"".join(a.tobytes() for a in tensors.values()))


def graph(path, *, turned=False, name="model.fc.weight"):
    """y = x W' + b with weights of 0: only those of a checkpoint make sense."""
    weight = np.zeros((COLUMNS, 1) if turned else (1, COLUMNS), np.float32)
    nodes = [helper.make_node("Gemm", ["x", name, "model.fc.bias"], ["y"], transB=0 if turned else 1)]
    held = [
        numpy_helper.from_array(weight, name),
        numpy_helper.from_array(np.zeros(1, np.float32), "model.fc.bias"),
    ]
    shape = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes,
        "g",
        [shape("x", TensorProto.FLOAT, ["n", COLUMNS])],
        [shape("y", TensorProto.FLOAT, ["n", 1])],
        held,
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def world(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((240, COLUMNS)).astype(np.float32)
    y = (x @ TRUE.T)[:, 0] + 0.5 * rng.standard_normal(240)
    rows = [",".join(f"{v:.6f}" for v in [*a, b]) for a, b in zip(x, y, strict=True)]
    (tmp_path / "held out.csv").write_text("x0,x1,x2,x3,y\n" + "\n".join(rows) + "\n")
    folder(tmp_path / "eins", TRUE + np.array([[1.0, 0, 0, 0]]))
    folder(tmp_path / "zwei ü", TRUE - np.array([[1.0, 0, 0, 0]]))
    folder(tmp_path / "base", np.zeros((1, COLUMNS)))
    graph(tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "linear", weight=[1, 1])
    return tmp_path


def write(place, method, base=None, weight=(1, 1), **shared):
    models = [
        {"model": n, "parameters": {"weight": w}} for n, w in zip(("eins", "zwei ü"), weight, strict=True)
    ]
    document = {"merge_method": method, "models": models, "parameters": shared}
    text = yaml.safe_dump(document | ({"base_model": base} if base else {}), allow_unicode=True)
    (place / "recipe.yml").write_text(text, encoding="utf-8")


BY = ("--evaluate", "net.onnx", "--data", "held out.csv", "-t", "y")


@pytest.mark.parametrize("turned", [False, True])
def test_a_merge_that_helps(command, world, turned):
    graph(world / "net.onnx", turned=turned)
    done = command("merge", "recipe.yml", "out", *BY)
    assert done.status == 0, done.err
    assert "merging helped" not in done.out  # the plain average is no better than itself
    assert "120 rows" in done.out
    write(world, "task_arithmetic", "base", (0.5, 0.5))
    done = command("merge", "recipe.yml", "out", *BY, "--force", "--score", "mae", "--json").json
    assert done["metric"] == "mae"
    assert [s["role"] for s in done["standings"]] == ["merged", "average", "model", "model", "base"]
    gains = {s["name"]: s["gain"] for s in done["standings"][1:]}
    assert gains["eins"]["low"] > 0
    assert gains["base"]["p_value"] < 1e-6
    assert json.loads((world / "out" / "evaluation.json").read_text())["chosen"] == done["chosen"]
    assert not list(world.glob(".*"))


def test_a_merge_that_harms_is_replaced(command, world):
    write(world, "task_arithmetic", "base", (1, 1))
    found = command("merge", "recipe.yml", "out", *BY, "--json").json
    assert (found["helped"], found["chosen"]) == (False, "plain average")
    np.testing.assert_allclose(open_checkpoint(world / "out").array("fc.weight"), TRUE)
    kept = command("merge", "recipe.yml", "kept", *BY, "--no-fallback", "--json").json
    assert kept["chosen"] == "task_arithmetic"
    np.testing.assert_allclose(open_checkpoint(world / "kept").array("fc.weight"), 2 * TRUE)


def test_the_best_model_alone(command, world):
    write(world, "linear", weight=(1, 1))
    folder(world / "drei", TRUE)
    (world / "recipe.yml").write_text(
        "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: eins}, {model: drei}]"
    )
    found = command("merge", "recipe.yml", "out", *BY, "--json").json
    assert (found["chosen"], found["role"]) == ("drei", "model")
    np.testing.assert_array_equal(open_checkpoint(world / "out").array("fc.weight"), TRUE)


def test_search_finds_numbers(command, world):
    pytest.importorskip("cma")
    write(world, "task_arithmetic", "base", (1, 1))
    done = command("merge", "recipe.yml", "out", *BY, "--search", "--budget", "60", "--json")
    assert done.status == 0, done.err
    first = done.json["standings"][0]
    assert (first["name"], done.json["evaluations"]) == ("found", 60)
    assert first["value"] < 0.6
    if done.json["chosen"] == "found":
        again = command("merge", "out/recipe.yml", "again")
        assert again.status == 0, again.err
        ours, theirs = (open_checkpoint(world / n).array("fc.weight") for n in ("out", "again"))
        np.testing.assert_array_equal(ours, theirs)
    other = command("merge", "recipe.yml", "other", *BY, "--search", "--budget", "60", "--json").json
    assert other["recipe"] == done.json["recipe"]


def test_a_function_of_the_user(command, world):
    (world / "judge.py").write_text(
        "import struct\n"
        "def good(folder):\n"
        "    raw = (folder / 'model.safetensors').read_bytes()\n"
        "    weights = struct.unpack('<4f', raw[-20:-4])\n"
        "    return {'first': -abs(weights[0] - 1), 'last': -abs(weights[3] - 3)}\n"
        "def bad(folder): return 'nothing'\n"
        "def raises(folder): return 1 / 0\n"
    )
    found = command("merge", "recipe.yml", "out", "--evaluate", "judge.py:good", "--json").json
    assert found["optimistic"]
    assert found["standings"][0]["numbers"] == {"first": 0.0, "last": 0.0}
    for name, told in (
        ("bad", "must give a number"),
        ("raises", "ZeroDivisionError"),
        ("god", "did you mean"),
    ):
        done = command("merge", "recipe.yml", "new", "--evaluate", f"judge.py:{name}")
        assert done.status == 2
        assert told in done.err
        assert not (world / "new").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--evaluate", "nowhere.conjoin", "--data", "held out.csv"), "neither there nor a function"),
        (("--evaluate", "net.onnx"), "--data FILE"),
        (("--evaluate", "net.onnx", "--data", "held out.csv"), "--target"),
        (("--evaluate", "net.onnx", "--data", "held out.csv", "-t", "z"), "no column 'z'"),
        (("--evaluate", "net.onnx", "--data", "nothing.csv", "-t", "y"), "nothing.csv"),
        ((*BY, "--score", "rmes"), "did you mean 'rmse'"),
        ((*BY, "--search", "--budget", "none"), "--budget must be"),
        (("--search",), "need --evaluate"),
    ],
)
def test_what_is_wrong_is_told(command, world, words, told):
    done = command("merge", "recipe.yml", "out", *words)
    assert done.status in (2, 3)
    assert told in " ".join(done.err.split())
    assert not (world / "out").exists()


def test_a_graph_of_another_model(command, world):
    graph(world / "net.onnx", name="model.head.weight")
    done = command("merge", "recipe.yml", "out", *BY)
    assert done.status == 2
    assert "no weights called fc.weight" in " ".join(done.err.split())
    folder(world / "wide", np.zeros((1, 6)))
    (world / "recipe.yml").write_text("merge_method: passthrough\nmodels: [{model: wide}]")
    graph(world / "net.onnx")
    done = command("merge", "recipe.yml", "out", *BY)
    assert "fc.weight has the shape [1, 6]" in " ".join(done.err.split())
