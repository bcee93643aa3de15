"""`make demo`: real loans, models trained and fused, a leaderboard, one prediction, one ONNX graph."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from data import credit_table, split

FOLDER = Path("demo")


def conjoin(*words: str) -> None:
    """Run the command as a user would, and show it."""
    print("\n$ conjoin " + shlex.join(words), flush=True)
    subprocess.run([sys.executable, "-m", "conjoin", *words], check=True)


def main() -> None:
    train, test = split(credit_table(FOLDER), FOLDER)
    bundle, one = str(FOLDER / "loans.conjoin"), FOLDER / "one.csv"
    one.write_text("".join(test.read_text(encoding="utf-8").splitlines(keepends=True)[:2]), encoding="utf-8")
    conjoin("fit", str(train), "--target", "risk", "-o", bundle, "--time-limit", "30", "--force")
    conjoin("info", bundle)
    conjoin("evaluate", bundle, str(test))
    conjoin("predict", bundle, str(one), "-o", str(FOLDER / "answer.csv"), "--force")
    print((FOLDER / "answer.csv").read_text(encoding="utf-8"))
    conjoin("export", bundle, "-o", str(FOLDER / "loans.onnx"), "--force")


if __name__ == "__main__":
    main()
