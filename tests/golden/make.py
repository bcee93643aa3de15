"""Makes the golden bundle of format 1 and its answers. Run once, for a new format; what it made is kept as
it is.

    python tests/golden/make.py tests/golden/bundle-1

Every kind of part is inside: trained members that share an encoder, an ONNX model, predictions, and
ensembles in one another with every fuser.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from conjoin import bundle, fit, fusion
from conjoin.compose import Ensemble
from conjoin.members import wrap
from conjoin.outputs import Labels

ROWS = 90
FUSERS = ("linear_pool", "log_pool", "stacking", "class_weights", "gate", "network")
CALIBRATORS = (fusion.fit_temperature, fusion.fit_platt, fusion.fit_isotonic, fusion.fit_vector_scaling)


def table() -> dict[str, np.ndarray]:
    """Rows with numbers, gaps, categories, dates and texts; three classes."""
    rng = np.random.default_rng(1)
    age = np.where(rng.random(ROWS) < 0.1, np.nan, rng.integers(18, 80, ROWS))
    job = rng.choice(np.array(["clerk", "cook", "pilot", None], dtype=object), ROWS)
    since = np.datetime64("2020-01-01") + rng.integers(0, 900, ROWS)
    words = np.array(["late once", "paid early", "paid", "late twice again", None], dtype=object)
    text = rng.choice(words, ROWS)
    late = np.array([0 if t is None else "late" in t for t in text])
    score = np.nan_to_num(age, nan=40.0) / 20 + (job == "pilot") - 2 * late + rng.normal(0, 0.7, ROWS)
    status = np.array(["bad", "fair", "good"], dtype=object)[np.digitize(score, [1, 2.5])]
    return {"age": age, "job": job, "since": since.astype("datetime64[s]"), "text": text, "status": status}


def onnx_model() -> bytes:
    """Three probabilities from age alone."""
    age = helper.make_tensor_value_info("age", TensorProto.FLOAT, ["n", 1])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])
    slope = helper.make_tensor("slope", TensorProto.FLOAT, [1, 3], [0.0, 0.01, 0.02])
    usual = helper.make_tensor("usual", TensorProto.FLOAT, [1], [40.0])
    nodes = [
        helper.make_node("IsNaN", ["age"], ["gone"]),
        helper.make_node("Where", ["gone", "usual", "age"], ["known"]),
        helper.make_node("MatMul", ["known", "slope"], ["z"]),
        helper.make_node("Softmax", ["z"], ["probabilities"]),
    ]
    graph = helper.make_graph(nodes, "by_age", [age], [out], [slope, usual])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


def member() -> Ensemble:
    """An ensemble of ensembles, one for each fuser, over members that they share."""
    batch = table()
    truth = Labels.of(batch["status"].tolist())
    inner = {}
    for name in ("lightgbm", "extra_trees", "linear", "neighbours"):
        fitted = fit(batch, target="status", members=[name], preset="fast", time_limit=60, folds=2, seed=0)
        inner[name] = next(iter(fitted.members.values())).named(name)
    inner["onnx"] = wrap(onnx_model(), name="onnx", classes=["bad", "fair", "good"])
    outputs = {n: m.predict(batch) for n, m in inner.items()}
    outer = {}
    for name in FUSERS:
        few = {n: outputs[n] for n in outputs if n != "neighbours"}
        fuser = fusion.FIT_FUSERS[name](few, truth, seed=0)
        outer[name] = Ensemble({n: inner[n] for n in few}, fuser, name=name)
    for calibrator in CALIBRATORS:
        fuser = fusion.Calibrated(
            fusion.Plain("mean", {}, "probabilities"), {}, calibrator(outputs["linear"], truth)
        )
        outer[calibrator.__name__] = Ensemble({n: inner[n] for n in ("linear", "neighbours")}, fuser)
    return Ensemble(
        outer, fusion.Plain("log_pool", dict.fromkeys(outer, 1.0), "probabilities"), name="golden"
    )


def plain(batch: dict[str, np.ndarray]) -> dict[str, list[object]]:
    """The first rows as JSON."""
    return {
        n: [None if v is None or v != v else str(v) if a.dtype.kind == "M" else v for v in a[:20].tolist()]
        for n, a in batch.items()
    }


def main(folder: Path) -> None:
    """Write the bundle and, beside it, rows with the answers of every ensemble to them."""
    made = member()
    bundle.save(made, folder)
    rows = plain(table())
    rows["since"] = [str(v) for v in table()["since"][:20]]
    batch = {n: np.array(v, dtype=object) for n, v in rows.items()}
    answers = {n: o.values.astype(float).tolist() for n, o in made.outputs(batch).items()}
    answers["golden"] = made.predict(batch).values.astype(float).tolist()
    text = json.dumps({"rows": rows, "answers": answers}, indent=None)
    folder.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
