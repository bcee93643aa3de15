"""`python -m benchmarks.transfer [NAME ...]`: how fast and how good transfer is, beside named peers.

A module of this folder with `run() -> list[dict]` is a benchmark; its docstring says the protocol. Each runs
on one thread, in an environment of its own under `work/` with this checkout and its extras `train` and
`torch`, and with the peers that `peers/NAME.txt` pins. What it finds is written to NAME.md.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = HERE / "work"
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


def environment(name: str) -> Path:
    """The interpreter of the benchmark's environment, made where it is not there yet."""
    pins = HERE / "peers" / f"{name}.txt"
    wanted = pins.read_text() if pins.is_file() else ""
    place = WORK / (name if wanted else "plain")
    mark = place / "ready"
    if not mark.is_file() or mark.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        install = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        own = ["-c", str(ROOT / "constraints.txt"), "-e", f"{ROOT}[train,torch]"]
        subprocess.run([*install, *own], check=True)
        if wanted:
            subprocess.run([*install, "-r", str(pins)], check=True)
        mark.write_text(wanted)
    return place / "bin" / "python"


def measure(name: str) -> list[dict[str, Any]]:
    """Run a benchmark in its environment."""
    code = f"import json; from benchmarks.transfer import {name} as b; print('\\n@' + json.dumps(b.run()))"
    done = subprocess.run(
        [str(environment(name)), "-c", code],
        cwd=ROOT,
        env={**os.environ, **ONE_THREAD},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout.rpartition("\n@")[2])
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown of the rows; a column for each key that any of them has."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(keys) + " |", "|---" * len(keys) + "|"]
    for row in rows:
        cells = [row.get(k, "") for k in keys]
        told = [f"{c:.4g}" if isinstance(c, float) else str(c).replace("|", "/") for c in cells]
        lines.append("| " + " | ".join(told) + " |")
    return lines


def write(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """NAME.md: what was asked, how it was measured, and what came out."""
    protocol = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or name
    title, _, rest = protocol.partition("\n")
    when = time.strftime("%Y-%m-%d", time.gmtime())
    told = f"Measured {when} on {os.cpu_count()} shared cores by `python -m benchmarks.transfer {name}`."
    lines = [f"# {title.rstrip('.')}", "", *rest.strip().splitlines(), "", told, "", *table(rows), ""]
    (HERE / f"{name.upper()}.md").write_text("\n".join(lines))


def main(names: Sequence[str]) -> int:
    """Measure these, or all; the number that failed."""
    known = sorted(
        p.stem for p in HERE.glob("*.py") if not p.stem.startswith("_") and "def run(" in p.read_text()
    )
    wrong = [n for n in names if n not in known]
    if wrong:
        sys.exit(f"no benchmark {', '.join(wrong)}; there are {', '.join(known)}")
    failed = 0
    for name in names or known:
        print(f"== {name}", flush=True)
        try:
            rows = measure(name)
        except subprocess.CalledProcessError as error:  # the others still run
            print(f"{name} failed: {error}", file=sys.stderr)
            failed += 1
            continue
        write(name, rows)
        print("\n".join(table(rows)), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
