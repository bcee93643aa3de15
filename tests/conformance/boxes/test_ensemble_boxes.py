"""ensemble-boxes' own tests, run over conjoin through a shim of its name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PEERS = Path(os.environ.get("CONJOIN_PEERS", HERE.parent / "work"))
FILE = PEERS / "Weighted-Boxes-Fusion" / "tests" / "test_bbox.py"
URL = "https://github.com/ZFTurbo/Weighted-Boxes-Fusion"
COMMIT = "96880f3"  # of 2026; six tests


@pytest.mark.skipif(
    not FILE.is_file(),
    reason=f"ensemble-boxes' tests are not at {FILE}: git clone {URL} there, commit {COMMIT}",
)
def test_ensemble_boxes_tests_pass_over_conjoin(tmp_path):
    path = os.pathsep.join([str(HERE / "shim"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
    done = subprocess.run(
        [*command, "-c", os.devnull, f"--rootdir={tmp_path}", str(FILE)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) == 6
