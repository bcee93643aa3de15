"""mbrs' own tests of lexical metrics and of decoders, run over conjoin through a shim of its import name.

Version: naist-nlp/mbrs at 6a6dc0b8dbd91a27d08c3b459448e55135d86fe3 (2025-11-02, release 0.1.8).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PEERS = Path(os.environ.get("CONJOIN_PEERS", HERE.parent / "work"))
TESTS = PEERS / "mbrs" / "mbrs"
FILES = (
    "metrics/bleu_test.py",
    "metrics/chrf_test.py",
    "metrics/ter_test.py",
    "decoders/mbr_test.py",
    "decoders/aggregate_mbr_test.py",
    "decoders/pruning_mbr_test.py",
    "decoders/probabilistic_mbr_test.py",
    "selectors/nbest_test.py",
    "functional_test.py",
)
DIFFERENT = {"test_expected_scores_ja": "cuts Japanese into words with the dictionaries of MeCab"}
"""Tests that conjoin does not pass, and why."""
PASSED, SKIPPED = 57, 2
"""Two tests need COMET, a model that has to be downloaded."""


@pytest.mark.skipif(
    not TESTS.is_dir(),
    reason=f"no {TESTS}: git clone https://github.com/naist-nlp/mbrs {TESTS.parent}, or set CONJOIN_PEERS",
)
def test_mbrs_tests_pass(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    shutil.copytree(HERE / "shim", tmp_path / "shim")
    for name in FILES:
        shutil.copy(TESTS / name, tmp_path / "shim" / "mbrs" / name)
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=short", "-p", "no:cacheprovider"]
    command += ["-p", "mbrs_fixtures", "-c", os.devnull, f"--rootdir={tmp_path}"]
    done = subprocess.run(
        [*command, *(f"shim/mbrs/{name}" for name in FILES)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "shim"), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    failed = set(re.findall(r"^FAILED \S+::(\w+)", done.stdout, re.MULTILINE))
    assert failed == set(DIFFERENT), done.stdout[-6000:] + done.stderr[-2000:]
    assert f"{PASSED} passed, {SKIPPED} skipped" in done.stdout, done.stdout[-300:]
