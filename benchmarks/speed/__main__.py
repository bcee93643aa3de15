"""`python -m benchmarks.speed [NAME ...]`: run every speed benchmark of this folder, or those named."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    """The benchmarks of this folder: files with a function `main`."""
    return sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith("_"))


def run(chosen: list[str]) -> int:
    """Run them one after another; the number that failed."""
    failed = 0
    for name in chosen:
        module = importlib.import_module(f"benchmarks.speed.{name}")
        if not callable(getattr(module, "main", None)):
            continue
        print(f"== {name}", flush=True)
        try:
            module.main()
        except Exception as error:  # the others still run
            print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr)
            failed += 1
    return failed


if __name__ == "__main__":
    known = names()
    wanted = sys.argv[1:] or known
    wrong = [name for name in wanted if name not in known]
    if wrong:
        sys.exit(f"no {', '.join(wrong)}; there are {', '.join(known)}")
    sys.exit(1 if run(wanted) else 0)
