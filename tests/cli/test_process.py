"""What only a process of its own shows: signals, pipes, what is imported, terminals."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

CONJOIN = [sys.executable, "-m", "conjoin"]


def start(*words, **options):
    environment = {**os.environ, "COLUMNS": "80", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*CONJOIN, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def test_help_is_quick_and_imports_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "-m", "conjoin", "--help"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    heavy = ("numpy", "duckdb", "onnx", "sklearn", "scipy", "narwhals", "conjoin.train")
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert loaded.isdisjoint(heavy)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    for verb in ("fit", "evaluate", "predict", "info", "fuse", "score", "export"):
        assert verb in done.stdout


def test_a_reader_that_goes_away_is_no_error(pair):
    with start("info", pair, "--json") as process:
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""


def test_a_terminal_that_lacks_signs(pair):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    done = subprocess.run([*CONJOIN, "info", pair], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"first" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_fit_leaves_a_bundle_and_can_go_on(make_loans, tmp_path, number):
    table = make_loans(tmp_path / "loans.csv", rows=400)
    bundle = tmp_path / "loans.conjoin"
    words = ("fit", table, "-t", "status", "-o", bundle, "--time-limit", "100", "--folds", "2")
    process = start(*words, "--members", "linear,neighbours,network")
    for line in process.stderr:
        if "linear fitted" in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "--resume goes on" in err
    assert (tmp_path / ".loans.conjoin.work" / "linear.json").exists()
    assert json.loads((bundle / "conjoin.json").read_text())["members"][0]["name"] == "linear"
    if number == signal.SIGTERM:
        return
    done = start(*words, "--members", "linear,neighbours,network", "--resume", "--json")
    out, err = done.communicate(timeout=200)
    assert done.returncode == 0, err
    assert "fitting linear" not in err
    assert {r["learner"] for r in json.loads(out)["scores"]} == {"linear", "neighbours", "network"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["loans.conjoin", "loans.csv"]


def test_a_fit_that_is_stopped_at_once_writes_nothing(make_loans, tmp_path):
    table = make_loans(tmp_path / "loans.csv", rows=400)
    process = start("fit", table, "-t", "status", "-o", tmp_path / "o", "--time-limit", "100")
    for line in process.stderr:
        if "encoding" in line:
            break
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        if process.poll() is not None:
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.count("error:") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["loans.csv"]
