"""One run: a system fits one table and answers its test part, each stage in a process of its own.

A run works in a folder of its own and becomes visible only when it is done: its answers (npz) and then its
record (JSON) are moved into place. What an interruption leaves is removed by the next call.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .environments import HERE, WORK, fingerprint, python_of
from .systems import System
from .tables import REPOSITORY, TARGET, Table

RESULTS = WORK / "results"
CORES = 2
FIT_SECONDS = 3600.0
ANSWER_SECONDS = 1200.0
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


@dataclass(frozen=True)
class Run:
    """What is run; `name` is the stem of its files."""

    table: Table
    system: System
    seed: int = 0

    @property
    def name(self) -> str:
        """`table.system`, with the limit and the seed where they matter."""
        limit = f".{self.system.limit:g}s" if self.system.limit else ""
        return f"{self.table.name}.{self.system.name}{limit}.seed{self.seed}"

    @property
    def record(self) -> Path:
        """Where the record lies once the run is done."""
        return RESULTS / f"{self.name}.json"

    @property
    def done(self) -> bool:
        """Whether there is a record, and it was made with the sources and pins of today."""
        if not self.record.exists():
            return False
        return bool(json.loads(self.record.read_text()).get("made_of") == made_of(self.system))

    @property
    def answers(self) -> Path:
        """Where the answers for the test part lie, if the run succeeded."""
        return RESULTS / f"{self.name}.npz"


def made_of(system: System) -> str:
    """Digest of what decides the outcome of a system: its module, its pins, and for conjoin all its sources.

    A benchmark that goes on after an edit does again what the edit touches, and keeps the rest.
    """
    digest = hashlib.sha256(fingerprint(system.environment).encode())
    sources = [HERE / "systems" / f"{system.module}.py"]
    if system.is_ours:
        sources += sorted((REPOSITORY / "src").rglob("*.py"))
    for path in sources:
        digest.update(path.relative_to(REPOSITORY).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def perform(run: Run, *, keep: bool = False) -> dict[str, Any]:
    """Do the run and write its record; with `keep` the bundle stays under `work/bundles`."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    scratch = WORK / "running" / run.name
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    record: dict[str, Any] = {
        "table": run.table.name,
        "task": run.table.task,
        "system": asdict(run.system),
        "seed": run.seed,
        "made_of": made_of(run.system),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    record |= _stage("fit", run, scratch, {}, FIT_SECONDS, threads=CORES)
    if "failed" not in record:
        order = {"bundle": record["bundle"], "answers": str(scratch / "answers.npz")}
        found = _stage("answer", run, scratch, order, ANSWER_SECONDS, threads=1)
        record["notes"] = record.pop("notes", {}) | found.pop("notes", {})
        record |= found
    _publish(run, record, scratch, keep=keep)
    return record


def _publish(run: Run, record: dict[str, Any], scratch: Path, *, keep: bool) -> None:
    """Move answers, log and then the record into place, and drop the rest."""
    bundle = record.pop("bundle", None)
    if "failed" not in record:
        os.replace(scratch / "answers.npz", run.answers)
    else:
        run.answers.unlink(missing_ok=True)
    os.replace(scratch / "log.txt", RESULTS / f"{run.name}.log")
    if keep and bundle:
        kept = WORK / "bundles" / run.name
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(exist_ok=True)
        shutil.move(bundle, kept)
    written = scratch / "record.json"
    written.write_text(json.dumps(record, indent=1, sort_keys=True))
    os.replace(written, run.record)
    shutil.rmtree(scratch)


def _stage(
    stage: str, run: Run, scratch: Path, extra: dict[str, str], seconds: float, *, threads: int
) -> dict[str, Any]:
    """Start the worker, watch its memory, and return what it found, with the costs seen from outside."""
    order = scratch / f"{stage}.json"
    found = scratch / f"{stage}-found.json"
    job = {
        "task": run.table.task,
        "target": TARGET,
        "limit": run.system.limit,
        "preset": run.system.preset,
        "seed": run.seed,
        "folder": str(scratch),
    }
    content = {"stage": stage, "module": run.system.module, "table": run.table.name, "job": job}
    order.write_text(json.dumps(content | {"found": str(found)} | extra))
    interpreter = python_of(run.system.environment)
    command = [str(interpreter), "-m", "benchmarks.quality.worker", str(order)]
    with (scratch / "log.txt").open("ab") as log:
        outside = _watch(command, log, seconds, threads)
    seen = {f"{stage}_{name}": value for name, value in outside.items() if name != "status"}
    if found.is_file():
        seen |= json.loads(found.read_text())
        return seen
    return seen | {"failed": f"{stage}: ended with status {outside['status']} and no word"}


def _watch(command: list[str], log: Any, seconds: float, threads: int) -> dict[str, Any]:
    """Run the command to its end in a process group of its own; whatever ends us ends the group."""
    environment = os.environ | {name: str(threads) for name in THREAD_VARIABLES}
    environment |= {"PYTHONHASHSEED": "0", "OMP_WAIT_POLICY": "PASSIVE"}
    before, busy, start = resource.getrusage(resource.RUSAGE_CHILDREN), _busy_seconds(), time.perf_counter()
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    _pin(process.pid)
    peak = PeakMemory(process.pid)
    peak.start()
    try:
        status: int | str = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        status = f"none after {seconds:g} s"
    finally:
        _end_group(process)
        peak.stop()
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "status": status,
        "process_wall": wall,
        "process_cpu": cpu,
        "peak_bytes": peak.bytes,
        "other_cores": max(0.0, (_busy_seconds() - busy - cpu) / wall),
    }


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the worker and what it started, by the group that we made for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _pin(pid: int) -> None:
    """Keep the worker on two cores, also on a larger machine."""
    os.sched_setaffinity(pid, sorted(os.sched_getaffinity(0))[:CORES])


def _busy_seconds() -> float:
    """CPU seconds that the whole machine has spent; it shows whether anything else ran beside a run."""
    fields = [int(one) for one in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _wait, irq, softirq, _steal = fields
    return float(user + nice + system + irq + softirq) / float(os.sysconf("SC_CLK_TCK"))


class PeakMemory(threading.Thread):
    """Largest resident memory of a process and all that it started, looked at five times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._session = pid
        self._done = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._done.wait(0.2):
            self.bytes = max(self.bytes, _session_bytes(self._session))

    def stop(self) -> None:
        """End the watch."""
        self._done.set()
        self.join()


def _session_bytes(session: int) -> int:
    """Resident bytes of every process of the session, which the worker leads."""
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total
