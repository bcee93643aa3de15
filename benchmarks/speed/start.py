"""How long conjoin takes to start: `import conjoin` over numpy alone, and `conjoin --help`. Writes START.md.

Each command runs in a process of its own, all in turn; CPU seconds (user and system) of the whole
process are counted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

ROUNDS = 7
COMMANDS = {
    "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
    "python -c 'import numpy, conjoin'": [sys.executable, "-c", "import numpy, conjoin"],
    "conjoin --help": [sys.executable, "-m", "conjoin", "--help"],
    "conjoin fit --help": [sys.executable, "-m", "conjoin", "fit", "--help"],
}


def cpu_seconds(command: list[str]) -> float:
    """User and system seconds of one run of the command. Raises CalledProcessError where it fails."""
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system


def main() -> None:
    """Run all commands in turn, print and write the table."""
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            found[name].append(cpu_seconds(command))
    lines = ["| command | CPU seconds, median | least | most |", "|---|---|---|---|"]
    for name, times in found.items():
        row = (statistics.median(times), min(times), max(times))
        lines.append(f"| `{name}` | " + " | ".join(f"{t:.3f}" for t in row) + " |")
    text = "\n".join(lines)
    print(text)
    head = "# Starting\n\nMade by `python -m benchmarks.speed start`; "
    head += f"{ROUNDS} runs each, in turn, Python {sys.version.split()[0]}.\n\n"
    (Path(__file__).parent / "START.md").write_text(head + text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
