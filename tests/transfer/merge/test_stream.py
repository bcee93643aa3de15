"""The stream: same bytes however it runs, goes on where it was stopped, tells of a full disk."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conjoin.errors import FileError, InputError
from conjoin.transfer.checkpoints import open_checkpoint, write_header
from conjoin.transfer.merge import Source, Task, run, stream

WORKING = ".out.merging"
DARE = {"normalize": False, "rescale": "true", "lambda": 1.0, "int8_mask": False}
EACH = {"weight": (0.5, 0.5), "density": (0.5, 0.5)}


def models(folder, rows=64, columns=32, count=12):
    rng = np.random.default_rng(0)
    for name in ("base", "one", "two"):
        header = write_header(((f"t{i}", "F32", (rows, columns)) for i in range(count)), {})
        folder.mkdir(exist_ok=True)
        with (folder / f"{name}.safetensors").open("wb") as file:
            file.write(header)
            for _ in range(count):
                file.write(rng.standard_normal((rows, columns), np.float32).tobytes())
    return [open_checkpoint(folder / f"{n}.safetensors") for n in ("base", "one", "two")]


def tasks(inputs, method="dare_linear", dtype="BF16"):
    out = []
    for name, place in inputs[0].items():
        sources = (Source(1, name), Source(2, name))
        out.append(Task(name, dtype, place.entry.shape, sources, method, Source(0, name), DARE, EACH))
    return out


def every_tensor(folder):
    found = open_checkpoint(folder)
    return {n: found.array(n).tobytes() for n in found}


def every_byte(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("dtype", ["BF16", "F32", "F16", "F8_E4M3"])
def test_bytes_depend_on_neither_threads_nor_shards(tmp_path, dtype):
    inputs = models(tmp_path / "in")
    wanted = None
    for threads, size in ((1, 10**9), (2, 10**9), (2, 9000), (1, 1)):
        out = tmp_path / f"{threads}-{size}"
        run(tasks(inputs, dtype=dtype), inputs, out, seed=3, threads=threads, shard_bytes=size)
        found = every_tensor(out)
        wanted = wanted or found
        assert found == wanted
    assert len(list((tmp_path / "1-1").glob("*.safetensors"))) == 12
    run(tasks(inputs, dtype=dtype), inputs, tmp_path / "other", seed=4)
    assert every_tensor(tmp_path / "other") != wanted


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("method", [None, "linear", "task_arithmetic", "passthrough"])
def test_ranges_of_a_tensor_are_the_same_as_the_whole(tmp_path, monkeypatch, method, dtype):
    inputs = models(tmp_path / "in", 300, 7, 3)
    shared = {"normalize": True, "lambda": 0.7}
    each = {"weight": (0.3, 0.5), "scale": (0.5,)}
    base = Source(0, "t0") if method == "task_arithmetic" else None
    sources = (
        (Source(1, "t0"), Source(2, "t0")) if method in ("linear", "task_arithmetic") else (Source(1, "t0"),)
    )
    task = Task("t0", dtype, (300, 7), sources, method, base, shared, each)
    run([task], inputs, tmp_path / "whole")
    seen = []
    monkeypatch.setattr(stream, "RANGE", 64)
    run([task], inputs, tmp_path / "ranges", threads=3, report=lambda p: seen.append(p.name))
    assert every_byte(tmp_path / "ranges") == every_byte(tmp_path / "whole")
    assert seen == ["t0"]


def test_every_part_is_seen_before_it_is_written(tmp_path):
    inputs = models(tmp_path / "in")
    seen = {}

    def check(name, numbers, dtype):
        assert dtype == "BF16"
        seen[name] = seen.get(name, b"") + numbers.tobytes()

    run(tasks(inputs), inputs, tmp_path / "out", check=check)
    assert seen == every_tensor(tmp_path / "out")


class Killed(BaseException):
    """Ends a run as a signal would."""


def test_a_stopped_run_goes_on_with_the_same_bytes(tmp_path):
    inputs = models(tmp_path / "in")
    run(tasks(inputs), inputs, tmp_path / "whole", shard_bytes=9000)
    seen = []

    def stop(progress):
        seen.append(progress.name)
        if len(seen) == 5:
            raise Killed

    for _ in range(2):  # stopped twice
        seen.clear()
        with pytest.raises(Killed):
            run(tasks(inputs), inputs, tmp_path / "out", shard_bytes=9000, report=stop)
        with (tmp_path / WORKING / stream.JOURNAL).open("a") as journal:
            journal.write('"t1')  # a line that was cut
    assert not (tmp_path / "out").exists()
    seen.clear()
    run(tasks(inputs), inputs, tmp_path / "out", shard_bytes=9000, report=lambda p: seen.append(p.name))
    assert len(seen) <= 2
    assert every_byte(tmp_path / "out") == every_byte(tmp_path / "whole")
    assert not (tmp_path / WORKING).exists()


KILL = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_stream import *
inputs = [open_checkpoint(Path({folder!r}) / f"{{n}}.safetensors") for n in ("base", "one", "two")]
seen = []
def report(progress):
    seen.append(1)
    if len(seen) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
run(tasks(inputs), inputs, Path({out!r}), report=report)
"""


def test_killed_and_run_again(tmp_path):
    inputs = models(tmp_path / "in")
    run(tasks(inputs), inputs, tmp_path / "whole")
    code = KILL.format(
        here=str(Path(__file__).parent), folder=str(tmp_path / "in"), out=str(tmp_path / "out")
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    seen = []
    run(tasks(inputs), inputs, tmp_path / "out", report=lambda p: seen.append(p.name))
    assert 0 < len(seen) < 12
    assert every_byte(tmp_path / "out") == every_byte(tmp_path / "whole")


def test_another_plan_begins_anew(tmp_path):
    inputs = models(tmp_path / "in")

    def stop(progress):
        raise Killed

    with pytest.raises(Killed):
        run(tasks(inputs), inputs, tmp_path / "out", seed=1, report=stop)
    run(tasks(inputs), inputs, tmp_path / "out", seed=2)
    run(tasks(inputs), inputs, tmp_path / "whole", seed=2)
    assert every_byte(tmp_path / "out") == every_byte(tmp_path / "whole")


def test_a_folder_with_another_model_is_left_alone(tmp_path):
    inputs = models(tmp_path / "in")
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"precious")
    with pytest.raises(InputError, match="already there"):
        run(tasks(inputs), inputs, out)
    assert every_byte(out) == {"model.safetensors": b"precious"}
    run(tasks(inputs), inputs, out, force=True)
    assert len(open_checkpoint(out)) == 12
    assert {p.name for p in tmp_path.iterdir()} == {"in", "out"}


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    inputs = models(tmp_path / "in")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(FileError, match="disk is full"):
            run(tasks(inputs), inputs, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    run(tasks(inputs), inputs, tmp_path / "out")  # once there is space


def test_copies_keep_every_bit(tmp_path):
    inputs = models(tmp_path / "in")
    copies = [Task(n, "F32", p.entry.shape, (Source(1, n),)) for n, p in inputs[1].items()]
    run(copies, inputs, tmp_path / "out", files={"config.json": b"{}"})
    assert every_tensor(tmp_path / "out") == {n: inputs[1].array(n).tobytes() for n in inputs[1]}
    assert (tmp_path / "out" / "config.json").read_bytes() == b"{}"


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_stream import *
inputs = [open_checkpoint(Path({folder!r}) / f"{{n}}.safetensors") for n in ("base", "one", "two")]
run(tasks(inputs[:], {method!r})[:1], inputs, Path({out!r} + "-warm"))
resource.setrlimit(resource.RLIMIT_DATA, (512 << 20, 512 << 20))
run(tasks(inputs, {method!r}), inputs, Path({out!r}))
lines = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
print(lines["RssAnon"].split()[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see the memory")
def test_memory_does_not_grow_with_the_model(tmp_path):
    models(tmp_path / "in", 2048, 4096, 6)  # 3 inputs of 201 MB
    code = LIMITED.format(
        here=str(Path(__file__).parent),
        folder=str(tmp_path / "in"),
        out=str(tmp_path / "out"),
        method="dare_linear",
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 256 * 1024
