"""Every verb does what its help says."""

from __future__ import annotations

import gzip
import inspect
import json
import re
import signal

import numpy as np
import onnxruntime
import pytest

import conjoin
from conjoin.cli import VERBS
from conjoin.cli.fuse import fuse
from conjoin.fusion import FIT_FUSERS, FUSERS
from conjoin.tables import read_table, write_table


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


def test_info_shows_what_is_inside(command, pair):
    done = command("info", pair)
    assert done.status == 0
    for text in ("probabilities of 2 classes: no, yes", "first", "second", "plain", "age", "job 0, job 1"):
        assert text in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_info_for_machines(command, pair):
    found = command("info", pair, "--json", "--check").json
    assert [m["name"] for m in found["members"]] == ["first", "second"]
    assert found["columns"][1]["categories_in_all"] == 300
    assert found["checked"] is True
    assert found["bytes"] == sum(p.stat().st_size for p in pair.iterdir() if p.name != "conjoin.json")


def test_predict_writes_labels_and_probabilities(command, pair, rows, tmp_path):
    done = command("predict", pair, rows, "-o", tmp_path / "a.csv", "--keep", "id,status")
    assert done.status == 0
    assert "6 rows" in done.out
    found = read_table(tmp_path / "a.csv")
    assert list(found) == ["id", "status", "label", "no", "yes"]
    wanted = conjoin.load(pair).predict(read_table(rows))
    np.testing.assert_allclose(np.stack([found["no"], found["yes"]], 1), wanted.values, atol=1e-7)
    assert found["label"].tolist() == wanted.labels().names().tolist()
    assert found["id"].tolist() == list(range(6))


@pytest.mark.parametrize("end", [".csv", ".csv.gz", ".jsonl", ".parquet", ".tsv"])
def test_predict_in_chunks_is_predict_whole(command, pair, rows, tmp_path, end):
    assert command("predict", pair, rows, "-o", tmp_path / f"a{end}", "--rows", "4").status == 0
    assert command("predict", pair, rows, "-o", tmp_path / f"b{end}").status == 0
    assert (tmp_path / f"a{end}").stat().st_size > 0
    a, b = read_table(tmp_path / f"a{end}"), read_table(tmp_path / f"b{end}")
    np.testing.assert_array_equal(a["yes"], b["yes"])


def test_predict_reads_a_onnx_file(command, pair, rows, tmp_path):
    assert command("export", pair, "-o", tmp_path / "pair.onnx").status == 0
    assert command("info", tmp_path / "pair.onnx").status == 0
    assert command("predict", tmp_path / "pair.onnx", rows, "-o", tmp_path / "a.csv").status == 0
    assert command("predict", pair, rows, "-o", tmp_path / "b.csv").status == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_export_runs_without_conjoin(command, pair, tmp_path):
    done = command("export", pair, "-o", tmp_path / "pair.onnx", "--json")
    assert done.json["bytes"] == (tmp_path / "pair.onnx").stat().st_size
    session = onnxruntime.InferenceSession(tmp_path / "pair.onnx", providers=["CPUExecutionProvider"])
    feeds = {"age": np.array([[30.0]]), "job": np.array([["job 3"]], dtype=object)}
    probabilities, label = session.run(["probabilities", "label"], feeds)
    wanted = conjoin.load(pair).predict({"age": 30.0, "job": "job 3"})
    np.testing.assert_allclose(probabilities, wanted.values, atol=1e-7)
    assert label.tolist() == wanted.labels().names().tolist()


def test_evaluate_shows_every_member_and_fusion(command, pair, rows):
    done = command("evaluate", pair, rows, "--target", "status")
    assert done.status == 0
    for text in ("ensemble", "first", "second", "mean", "log_pool", "log_loss", "6 rows"):
        assert text in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_evaluate_for_machines(command, pair, rows):
    record = command("evaluate", pair, rows, "-t", "status", "--metric", "auc", "--json").json
    first = record["leaderboard"][0]
    assert (record["metric"], record["better"], record["rows"]) == ("auc", "higher", 6)
    assert (first["name"], first["role"]) == ("ensemble", "fused")
    assert first["low"] <= first["value"] <= first["high"]
    members = {r["name"]: r for r in record["leaderboard"] if r["role"] == "member"}
    assert members.keys() == {"first", "second"}
    assert members["first"]["difference"]["mean"] == pytest.approx(0, abs=1e-6)


def test_fit_evaluate_predict_export(command, loans, make_loans, fast, tmp_path):
    bundle = tmp_path / "loans.conjoin"
    done = command("fit", loans, "--target", "status", "-o", bundle, *fast)
    assert done.status == 0, done.err
    assert "linear" in done.out
    assert "wrote" in done.out
    test = make_loans(tmp_path / "test.csv", seed=1)
    board = command("evaluate", bundle, test, "--json").json["leaderboard"]
    assert board[0]["value"] < 0.6
    assert command("predict", bundle, test, "-o", tmp_path / "a.csv").status == 0
    assert command("export", bundle, "-o", tmp_path / "loans.onnx").status == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["loans.csv", "test.csv", "loans.conjoin", "a.csv", "loans.onnx"]
    )


def test_fit_of_numbers_and_quantiles(command, loans, fast, tmp_path):
    done = command("fit", loans, "-t", "income", "-o", tmp_path / "a", *fast, "--metric", "mae", "--json")
    assert (done.json["kind"], done.json["scores"][0]["score"]) == ("values", "mae")
    options = ("--quantiles", "0.1,0.9", "--ignore", "status")
    done = command("fit", loans, "-t", "income", "-o", tmp_path / "b", *fast, *options, "--json")
    assert done.json["kind"] == "quantiles"
    command("predict", tmp_path / "b", loans, "-o", tmp_path / "b.csv")
    found = read_table(tmp_path / "b.csv")
    assert list(found) == ["0.1", "0.9"]
    assert (found["0.1"] <= found["0.9"]).all()


def test_a_plan_is_repeated_in_every_array(command, trained, tmp_path):
    again = tmp_path / "again.conjoin"
    table = trained.parent / "loans.csv"
    assert command("fit", table, "-t", "status", "-o", again, "--plan", trained).status == 0
    assert (again / "arrays.safetensors").read_bytes() == (trained / "arrays.safetensors").read_bytes()


def test_fuse_by_id_whatever_the_order(command, tmp_path):
    a = write(tmp_path / "a.csv", "id,no,yes\nx,0.9,0.1\ny,0.2,0.8\nz,0.6,0.4\n")
    b = write(tmp_path / "b.csv", "yes,id,no\n0.6,z,0.4\n0.3,x,0.7\n0.6,y,0.4\n")
    done = command("fuse", "probabilities", a, b, "-o", tmp_path / "f.csv")
    assert done.status == 0
    assert "matched by the column 'id'" in done.out
    found = read_table(tmp_path / "f.csv")
    assert found["id"].tolist() == ["x", "y", "z"]
    np.testing.assert_allclose(found["yes"], [0.2, 0.7, 0.5])
    assert found["label"].tolist() == ["no", "yes", "no"]


def test_fuse_with_given_weights(command, tmp_path):
    a, b = write(tmp_path / "a.csv", "prediction\n1\n2\n"), write(tmp_path / "b.csv", "prediction\n5\n6\n")
    words = ("fuse", "values", a, b, "-o", tmp_path / "f.csv", "--weights", "a=3,b=1", "--json")
    assert command(*words).json["weights"] == {"a": 3.0, "b": 1.0}
    np.testing.assert_allclose(read_table(tmp_path / "f.csv")["prediction"], [2, 3])


def test_fuse_learns_from_the_truth(command, tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    for name, noise in (("sharp", 0.1), ("blunt", 2.0)):
        p = 1 / (1 + np.exp(-(4 * y - 2 + noise * rng.normal(size=300))))
        write_table({"no": 1 - p, "yes": p}, tmp_path / f"{name}.csv")
    write_table({"y": np.where(y, "yes", "no").astype(object)}, tmp_path / "y.csv")
    files = (tmp_path / "sharp.csv", tmp_path / "blunt.csv")
    words = ("fuse", "probabilities", *files, "--truth", tmp_path / "y.csv", "-m", "linear_pool")
    record = command(*words, "-o", tmp_path / "f.csv", "--json").json
    assert record["weights"]["sharp"] > record["weights"]["blunt"]
    assert [r["name"] for r in record["leaderboard"]] == ["linear_pool", "sharp", "blunt"]
    assert record["cross_validated"] is True


def test_answers_of_predict_can_be_fused(command, pair, rows, tmp_path):
    for name in ("a", "b"):
        command("predict", pair, rows, "-o", tmp_path / f"{name}.csv", "--keep", "id")
    done = command("fuse", "probabilities", tmp_path / "a.csv", tmp_path / "b.csv", "-o", tmp_path / "f.csv")
    assert done.status == 0
    np.testing.assert_allclose(
        read_table(tmp_path / "f.csv")["yes"], read_table(tmp_path / "a.csv")["yes"], rtol=1e-12
    )


def test_version(command):
    done = command("--version")
    assert (done.status, done.out.split()[0]) == (0, "conjoin")


def test_a_file_of_another_kind_is_a_table_too(command, trained, tmp_path):
    text = (trained.parent / "loans.csv").read_text()
    with gzip.open(tmp_path / "z.csv.gz", "wt") as stream:
        stream.write(text)
    batch = read_table(trained.parent / "loans.csv")
    write_table(batch, tmp_path / "p.parquet")
    write(tmp_path / "u.csv", text, "utf-16")
    write(tmp_path / "s.csv", text.replace(",", ";"), "utf-8-sig")
    answers = []
    for name in ("z.csv.gz", "p.parquet", "u.csv", "s.csv"):
        done = command("predict", trained, tmp_path / name, "-o", tmp_path / "a.csv", "--force")
        assert done.status == 0, done.err
        answers.append((tmp_path / "a.csv").read_bytes())
    assert len(set(answers)) == 1


def test_a_command_line_in_json_is_one_document(command, pair, rows, tmp_path):
    for words in (
        ("info", pair),
        ("evaluate", pair, rows, "-t", "status"),
        ("predict", pair, rows, "-o", tmp_path / "a.csv"),
        ("export", pair, "-o", tmp_path / "a.onnx"),
    ):
        done = command(*words, "--json")
        assert isinstance(json.loads(done.out), dict)


def test_the_help_of_fuse_names_every_method():
    words = set(re.findall(r"\w+", fuse.__doc__))
    assert {*FUSERS, *FIT_FUSERS} - words == {"equal_weights"}  # that is the mean


@pytest.mark.parametrize("verb", VERBS)
def test_examples_of_the_help_fit_80_columns(verb):
    lines = inspect.getdoc(VERBS[verb]).splitlines()
    examples = [line for line in lines if line.strip().startswith("conjoin ")]
    assert examples
    assert all(len(line) < 78 and line.split()[1] == verb for line in examples)


def test_info_plots_loss_against_cost(command, trained, tmp_path):
    pytest.importorskip("altair")
    assert command("info", trained, "--plot", tmp_path / "p.json").status == 0
    assert "linear" in (tmp_path / "p.json").read_text()
    assert command("info", trained, "--plot", tmp_path / "p.json").status == 3


def test_a_verb_leaves_the_way_of_ctrl_c_as_it_found_it(command, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    assert command("info", tmp_path / "nothing here").status != 0
    assert signal.getsignal(signal.SIGINT) is before
