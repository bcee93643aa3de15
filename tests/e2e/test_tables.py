"""Real tables through the whole chain: fit, bundle, leaderboard, answers, one graph without conjoin."""

from __future__ import annotations

import csv
import json
import time
import zlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import conjoin
from conjoin.cli import run
from conjoin.tables import conform, read_table

TABLES = Path(__file__).parents[3] / "shared" / "data" / "tables"
LIMIT = 4


def split(name, folder):
    """The fixed split of the tables' own README: the test part has crc32(row) % 5 == 0."""
    with (TABLES / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        head, *rows = csv.reader(stream)
    for part in ("train", "test"):
        test = part == "test"
        with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as stream:
            chosen = (r for i, r in enumerate(rows) if (zlib.crc32(str(i).encode()) % 5 == 0) == test)
            csv.writer(stream).writerows([head, *chosen])
    return folder / "train.csv", folder / "test.csv"


def document(capsys, *words):
    capsys.readouterr()
    assert run([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.skipif(not TABLES.is_dir(), reason="the tables are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "metric", "worst"), [("titanic", "log_loss", 0.55), ("abalone", "rmse", 2.6)]
)
def test_a_table(name, metric, worst, tmp_path, capsys):
    train, test = split(name, tmp_path)
    bundle, answers, graph = tmp_path / "b.conjoin", tmp_path / "a.csv", tmp_path / "g.onnx"
    begin = time.monotonic()
    fitted = document(capsys, "fit", train, "-t", "target", "-o", bundle, "--time-limit", LIMIT)
    assert time.monotonic() - begin < 1.1 * LIMIT + 5
    assert fitted["members"]
    assert fitted["bytes"] < 20e6

    board = document(capsys, "evaluate", bundle, test)["leaderboard"]
    assert board[0]["value"] < worst
    singles = [r for r in board if r["role"] == "member"]
    best = min(singles, key=lambda r: r["value"])
    assert board[0]["value"] <= best["value"] + 2 * best["standard_error"]

    document(capsys, "predict", bundle, test, "-o", answers)
    document(capsys, "export", bundle, "-o", graph)
    member, batch = conjoin.load(bundle), read_table(test)
    wanted = np.asarray(member.predict(batch).values, dtype=np.float64)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run([member.card.kind], conform(batch, member.card.columns))[0]
    scale = np.maximum(1, np.abs(wanted))
    assert (np.abs(found.reshape(wanted.shape) - wanted) / scale).max() < 1e-5
    written = read_table(answers)
    first = "prediction" if member.card.kind == "values" else member.card.classes[0]
    column = wanted if wanted.ndim == 1 else wanted[:, 0]
    np.testing.assert_allclose(written[first], column, rtol=1e-6, atol=1e-7)
    assert metric == fitted["scores"][0]["score"]
