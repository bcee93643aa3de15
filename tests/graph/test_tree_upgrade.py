"""Old tree nodes, spliced into our graphs, answer as onnxruntime does on the old ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper

from conjoin.contracts import Column
from conjoin.errors import NotExportableError
from conjoin.graph.builder import Graph
from conjoin.graph.session import Session


def nodes(rng: np.random.Generator, mode: str, *, missing: bool) -> tuple[dict, list[int], list[int]]:
    """Attributes of three random trees of depth 3, and the tree and node ids of the leaves."""
    fields = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    given: dict[str, list] = {k: [] for k in (*fields, "missing_value_tracks_true")}
    for t, i in itertools.product(range(3), range(15)):
        inner = i < 7
        given["treeids"].append(t)
        given["nodeids"].append(i)
        given["featureids"].append(int(rng.integers(3)) if inner else 0)
        given["values"].append(float(rng.normal()) if inner else 0.0)
        given["modes"].append(mode if inner else "LEAF")
        given["truenodeids"].append(2 * i + 1 if inner else 0)
        given["falsenodeids"].append(2 * i + 2 if inner else 0)
        given["missing_value_tracks_true"].append(int(missing and inner and rng.random() < 0.5))
    attributes = {f"nodes_{k}": v for k, v in given.items()}
    return attributes, [t for t in range(3) for _ in range(8)], list(range(7, 15)) * 3


def model(op: str, outputs: list[tuple[str, int]], attributes: dict) -> object:
    node = helper.make_node(op, ["x"], [n for n, _ in outputs], domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph(
        [node],
        "old",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info(n, e, None) for n, e in outputs],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def both(old: object, outputs: list[tuple[str, int]], x: np.ndarray) -> tuple[list, list]:
    graph = Graph()
    found = graph.splice(old, {"x": graph.column(Column("x", "tensor", (3,)))})
    for name, element in outputs:
        graph.output(f"out:{name}", found[name], element)
    return (
        Session(old.SerializeToString()).run({"x": x}),  # type: ignore[attr-defined]
        Session(graph.build().SerializeToString()).run({"x": x}),
    )


def rows(rng: np.random.Generator, attributes: dict, *, missing: bool) -> np.ndarray:
    x = rng.normal(size=(80, 3)).astype(np.float32)
    x[::3, 0] = rng.choice(np.array(attributes["nodes_values"], np.float32), len(x[::3]))
    x[::7, 1] = np.nan if missing else 0.0
    return x


@pytest.mark.parametrize("mode", ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE"])
@pytest.mark.parametrize("missing", [False, True])
def test_regressor(mode: str, missing: bool) -> None:
    rng = np.random.default_rng(0)
    attributes, trees, ids = nodes(rng, mode, missing=missing)
    attributes |= {
        "target_treeids": trees + trees,
        "target_nodeids": ids + ids,
        "target_ids": [0] * 24 + [1] * 24,
        "target_weights": rng.normal(size=48).tolist(),
        "n_targets": 2,
        "base_values": [0.5, -1.0],
        "aggregate_function": "AVERAGE",
    }
    outputs = [("y", TensorProto.FLOAT)]
    old, new = both(
        model("TreeEnsembleRegressor", outputs, attributes), outputs, rows(rng, attributes, missing=missing)
    )
    np.testing.assert_allclose(new[0], old[0], atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("votes", ["all", "first", "second"])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("positive", [False, True])
def test_classifier(classes: int, votes: str, transform: str, positive: bool) -> None:
    rng = np.random.default_rng(1)
    attributes, trees, ids = nodes(rng, "BRANCH_LEQ", missing=False)
    several = classes if votes == "all" or classes > 2 else 1
    weights = rng.random(24 * several) / 3 if positive else rng.normal(size=24 * several)
    attributes |= {
        "class_treeids": trees * several,
        "class_nodeids": ids * several,
        "class_ids": np.repeat(np.arange(several), 24).tolist()
        if several > 1
        else [int(votes == "second")] * 24,
        "class_weights": weights.tolist(),
        "classlabels_strings": ["a", "b", "c"][:classes],
        "post_transform": transform,
    }
    outputs = [("label", TensorProto.STRING), ("scores", TensorProto.FLOAT)]
    old, new = both(
        model("TreeEnsembleClassifier", outputs, attributes), outputs, rows(rng, attributes, missing=False)
    )
    np.testing.assert_allclose(new[1], old[1], atol=1e-6)
    assert new[0].tolist() == old[0].tolist()


def test_what_has_no_new_form() -> None:
    rng = np.random.default_rng(2)
    attributes, trees, ids = nodes(rng, "BRANCH_EQ", missing=False)
    attributes |= {"target_treeids": trees, "target_nodeids": ids, "target_ids": [0] * 24, "n_targets": 1}
    attributes |= {"target_weights": [1.0] * 24}
    outputs = [("y", TensorProto.FLOAT)]
    with pytest.raises(NotExportableError, match="equality"):
        both(model("TreeEnsembleRegressor", outputs, attributes), outputs, np.zeros((1, 3), np.float32))
    attributes |= {"nodes_modes": nodes(rng, "BRANCH_LT", missing=False)[0]["nodes_modes"]}
    attributes |= {"aggregate_function": "MAX"}
    with pytest.raises(NotExportableError, match="MAX"):
        both(model("TreeEnsembleRegressor", outputs, attributes), outputs, np.zeros((1, 3), np.float32))
