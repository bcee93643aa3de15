"""mergekit's own black-box tests of merging, tokenizers, chat templates and types, run over conjoin through a
shim of its import name.

Version: mergekit 0.1.5 (the sdist), with tests/common.py of arcee-ai/mergekit at
a6e402884ba9bc30da7f23e8304a35f19485de95, which the sdist leaves out.
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
TESTS = PEERS / "mergekit" / "tests"
RUNS = {
    "test_basic_merges.py": 33,
    "test_tokenizer.py": 13,
    "test_chat_template.py": 3,
    "test_merge_dtypes.py::test_yaml_mixed_checkpoint_precisions": 2,
    "test_embedding_truncation.py::test_tokenizer_alignment_takes_precedence": 2,
}
"""Tests -> how many there are. The rest of the last two files are of mergekit's internals, and of cutting
vocabularies to the smallest one, which conjoin never does.
"""


@pytest.mark.skipif(
    not (TESTS / "common.py").is_file(),
    reason=f"no {TESTS / 'common.py'}: pip download --no-deps --no-binary mergekit mergekit==0.1.5, unpack "
    f"it as {TESTS.parent}, put tests/common.py of github.com/arcee-ai/mergekit (v0.1.4) there; "
    "or set CONJOIN_PEERS",
)
def test_mergekit_tests_pass(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    shutil.copytree(HERE / "shim", tmp_path / "shim")
    shutil.copytree(TESTS, tmp_path / "tests")
    (tmp_path / "tests" / "__init__.py").touch()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-rf", "--tb=short", "-p", "no:cacheprovider"),
            *("-c", os.devnull, f"--rootdir={tmp_path}", *(f"tests/{name}" for name in RUNS)),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path / "shim"), os.environ.get("PYTHONPATH", "")]),
            "PYTEST_ADDOPTS": "",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    told = done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(rf"^{sum(RUNS.values())} passed", done.stdout, re.MULTILINE), told
