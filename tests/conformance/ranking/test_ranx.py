"""ranx's own tests of fusion (25 files) and normalisation (6), over conjoin through a shim."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PEERS = Path(os.environ.get("CONJOIN_PEERS", HERE.parent / "work"))
FOLDER = PEERS / "ranx" / "tests" / "unit" / "ranx"
COMMIT = "2cae52f"  # of 2024; the tests are those of release 0.3.20 and 0.3.21


@pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason=f"ranx's tests are not at {FOLDER}: git clone https://github.com/AmenRa/ranx ({COMMIT}) there",
)
@pytest.mark.parametrize(("folder", "files"), [("fusion", 25), ("normalization", 6)])
def test_ranx_tests_pass_over_conjoin(folder, files, tmp_path):
    found = sorted((FOLDER / folder).glob("*_test.py"))
    assert len(found) == files
    path = os.pathsep.join([str(HERE / "shim"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "plain_lists", "-p", "no:cacheprovider"]
    command += ["--import-mode=importlib", "-c", os.devnull, f"--rootdir={tmp_path}", *map(str, found)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= files
