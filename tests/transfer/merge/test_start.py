"""What a merge loads before it reads a weight."""

import subprocess
import sys

from tests.transfer.merge.world import model

CODE = """
import sys
from conjoin.cli import run
status = run(sys.argv[1:])
heavy = {"numba", "onnx", "scipy", "torch", "duckdb"}
print(status > 0, sorted({m.partition(".")[0] for m in sys.modules} & heavy))
"""


def test_a_plan_and_errors_need_no_compiler(tmp_path):
    for name in ("base", "one"):
        model(tmp_path / name, dtype="BF16")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("")
    given = (
        f"base_model: {tmp_path}/base\nmodels:\n  - model: {tmp_path}/one\n    parameters: {{weight: 1}}\n"
    )
    for method in ("ties", "tise"):
        recipe = tmp_path / "recipe.yml"
        recipe.write_text(f"merge_method: {method}\n{given}")
        done = subprocess.run(
            [sys.executable, "-c", CODE, "merge", recipe, tmp_path / "full"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "True []", done.stderr
        assert ("already there" if method == "ties" else "did you mean 'ties'") in done.stderr
