"""`python -m benchmarks.fusion [KIND ...]`: speed of fusing, beside the peers of each kind.

A module of this folder with `run() -> list[dict]` and a list of pinned peers `peers/KIND.txt` is a benchmark.
Each runs in an environment of its own under `work/` with this checkout and the peers; both sides run in one
process, interleaved, on one thread, and the least CPU time of each counts. RESULTS.md is made from what was
last measured of each kind.
"""

from __future__ import annotations

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
FIELDS = ("operator", "workload", "peer", "conjoin_cpu", "peer_cpu", "ratio", "asked", "same")
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


def environment(kind: str) -> Path:
    """The interpreter of the kind's environment, made where it is not there yet."""
    wanted = HERE / "peers" / f"{kind}.txt"
    place = WORK / kind
    mark = place / "ready"
    if not mark.is_file() or mark.read_text() != wanted.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        install = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, "-c", str(ROOT / "constraints.txt"), "-e", str(ROOT)], check=True)
        subprocess.run([*install, "-r", str(wanted)], check=True)
        mark.write_text(wanted.read_text())
    return place / "bin" / "python"


def measure(kind: str) -> list[dict[str, Any]]:
    """Run a benchmark in its environment."""
    code = f"import json; from benchmarks.fusion import {kind} as b; print('\\n@' + json.dumps(b.run()))"
    done = subprocess.run(
        [str(environment(kind)), "-c", code],
        cwd=ROOT,
        env={**os.environ, **ONE_THREAD},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout.rpartition("\n@")[2])
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown of the rows."""
    head = [
        "operator",
        "workload",
        "peer",
        "conjoin, CPU s",
        "peer, CPU s",
        "times less",
        "asked",
        "same answers",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [row.get(f, "") for f in FIELDS]
        told = [f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells]
        lines.append("| " + " | ".join(told) + " |")
    return lines


def write_results() -> None:
    """RESULTS.md from the records of all kinds."""
    lines = ["# Speed of fusing, beside named peers", "", *(__doc__ or "").splitlines()[2:], ""]
    for record in sorted((HERE / "results").glob("*.json")):
        found = json.loads(record.read_text())
        lines += [
            f"## {record.stem}",
            "",
            f"Measured {found['when']} on {found['machine']}.",
            "",
            *table(found["rows"]),
            "",
        ]
    (HERE / "RESULTS.md").write_text("\n".join(lines))


def main(kinds: Sequence[str]) -> int:
    """Measure these kinds, or all; the number that failed."""
    known = sorted(p.stem for p in (HERE / "peers").glob("*.txt"))
    wrong = [k for k in kinds if k not in known]
    if wrong:
        sys.exit(f"no benchmark {', '.join(wrong)}; there are {', '.join(known)}")
    failed = 0
    (HERE / "results").mkdir(exist_ok=True)
    for kind in kinds or known:
        print(f"== {kind}", flush=True)
        try:
            rows = measure(kind)
        except subprocess.CalledProcessError as error:  # the others still run
            print(f"{kind} failed: {error}", file=sys.stderr)
            failed += 1
            continue
        when = time.strftime("%Y-%m-%d", time.gmtime())
        record = {"when": when, "machine": f"{os.cpu_count()} shared cores, one thread", "rows": rows}
        (HERE / "results" / f"{kind}.json").write_text(json.dumps(record, indent=1) + "\n")
        print("\n".join(table(rows)), flush=True)
    write_results()
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
