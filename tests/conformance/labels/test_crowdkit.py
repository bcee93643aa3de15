"""crowd-kit's own tests of aggregation, run over conjoin through a shim of its import name.

Version: Toloka/crowd-kit at 35f06615e6dcf3819cc1d1958ad940f0752a29cf (2025-01-14, release 1.4.1). With
pandas 3 and scikit-learn 1.9, crowd-kit 1.4.2 itself passes 121 of these 145.
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
TESTS = PEERS / "crowd-kit" / "tests"
FILES = (
    "binary_relevance_aggregation",
    "bt_aggregation",
    "classification_aggregation",
    "classification_aggregation_edge_cases",
    "ds_aggregation",
    "glad_aggregation",
    "kos_aggregation",
    "mace_aggregation",
    "majority_vote",
)
OVERFLOW = "asks for the RuntimeWarning of an overflow that conjoin does not have"
DIFFERENT = {
    "test_noisy_bradley_terry[10-0]": OVERFLOW,
    "test_noisy_bradley_terry[100500-1e-05]": OVERFLOW,
    "test_noisy_bradley_terry_equal": "three items that beat each other in turn, scored by the random start",
    "test_glad_derivative": "calls private methods of crowd-kit's class",
    "test_aggregate_mace_on_simple[em]": "asks for an accuracy of 0.9, where conjoin has 1.0: see the next",
    "test_thetas_on_simple": "the M step of crowd-kit mixes workers and labels up that do not come sorted",
}
"""Tests whose expected value is not that of the method, and why."""
PASSED = 139


@pytest.mark.skipif(
    not TESTS.is_dir(),
    reason=f"no {TESTS}: git clone https://github.com/Toloka/crowd-kit {TESTS.parent}, or set CONJOIN_PEERS",
)
def test_crowd_kits_tests_pass(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    shutil.copytree(TESTS, tmp_path / "tests")
    files = [f"tests/aggregation/test_{name}.py" for name in FILES]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", "-p", "no:cacheprovider", *files],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(HERE / "shim"), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    failed = set(re.findall(r"^FAILED \S+::(.*?)(?: - .*)?$", done.stdout, flags=re.MULTILINE))
    assert failed == set(DIFFERENT), done.stdout[-4000:]
    assert f"{PASSED} passed" in done.stdout
