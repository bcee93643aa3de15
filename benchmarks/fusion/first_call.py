"""How long the first call of an operator takes: ever on a machine, and in a later process.

`python -m benchmarks.fusion.first_call [KIND ...]` calls each plain operator of a kind in a process of its
own, first with an empty cache of compiled code, then with the cache that this left. Figures are CPU seconds:
of the call, and of importing the operator's package with numba beforehand. Outputs are those of the tests'
worlds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from conjoin.fusion.kinds import FAMILIES, family

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CALL = """
import importlib.util, json, sys, time
kind, name, path = sys.argv[1:]
import numpy as np
begin = time.process_time()
from conjoin.fusion.kinds import family
fuser = family(kind).FUSERS[name]
ready = time.process_time()
spec = importlib.util.spec_from_file_location("world", path)
world = importlib.util.module_from_spec(spec)
spec.loader.exec_module(world)
outputs, _ = world.world(np.random.default_rng(0), 12)
before = time.process_time()
try:
    fuser(outputs)
    why = ""
except ValueError as error:
    why = str(error)
print(json.dumps([ready - begin, time.process_time() - before, why]))
"""


def call(kind: str, name: str, cache: str) -> tuple[float, float, str]:
    """CPU seconds of import and of the call in a new process, and why it refused this world."""
    done = subprocess.run(
        [sys.executable, "-c", CALL, kind, name, str(ROOT / "tests" / "fusion" / kind / "world.py")],
        env={**os.environ, "NUMBA_CACHE_DIR": cache, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    ready, took, why = json.loads(done.stdout.splitlines()[-1])
    return ready, took, why


def main(kinds: Sequence[str]) -> None:
    """Print the table; write FIRST_CALL.md where all kinds were run."""
    lines = [
        "| kind | operator | call, first ever | call, later process | import, later process |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    worst = [0.0, 0.0, 0.0]
    for kind in kinds or FAMILIES:
        for name in family(kind).FUSERS:
            with tempfile.TemporaryDirectory() as cache:
                _, first, why = call(kind, name, cache)
                ready, later, _ = min(call(kind, name, cache) for _ in range(2))
            if why:
                continue  # an operator for two classes only, say
            worst = [max(a, b) for a, b in zip(worst, (first, later, ready), strict=True)]
            lines.append(f"| {kind} | {name} | {first:.2f} | {later:.2f} | {ready:.2f} |")
            print(lines[-1], flush=True)
    lines.append("| | **largest** | " + " | ".join(f"{w:.2f}" for w in worst) + " |")
    print(lines[-1])
    if not kinds:
        head = ["# First calls", "", *(__doc__ or "").splitlines()[2:], ""]
        (HERE / "FIRST_CALL.md").write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
