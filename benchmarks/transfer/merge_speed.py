"""Merging of checkpoints: CPU seconds, memory and fidelity, beside mergekit.

Checkpoints have the shapes of a Llama model in bfloat16: a base and three fine-tunes of it, random numbers.
`MERGE_SPEED_SIZE=1.1b` in the environment takes TinyLlama's 22 layers (1.1 B parameters), else 4 of them are
taken (0.3 B, the same matrices). Each recipe is run by the two commands in turn, each a process of its own on
one thread; figures are CPU seconds of the whole process, user and system, the better of `MERGE_SPEED_TURNS`
(1). Compiled code is on disk already, and files are in the page cache. `least` is reading every input once
from the page cache into a buffer and writing the answer once, measured beside; `share` is that over
conjoin's time without the start. `same`: equal bytes, else the errors of conjoin and of the peer against the
formula in float64, on one tensor, in steps of bfloat16 (for numbers below 2^-10 the step there); for methods
that draw, the share of weights that left the base's value in the two answers. `MERGE_SPEED_METHODS` names
some of the methods only; `MERGE_SPEED_MODELS` is a folder with base, ft1, ft2 and ft3 that is there already.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WORK = Path(__file__).resolve().parent / "work"
HIDDEN, INTER, VOCABULARY, KEYS = 2048, 5632, 32000, 256
LAYERS = {"0.3b": 4, "1.1b": 22}
PEER = "mergekit 0.1.5"
LOOKED_AT = "model.layers.1.mlp.up_proj.weight"
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Case:
    """A recipe: its method, the models' parameters, those of all, how many models, what was asked for."""

    method: str
    asked: float
    each: str = ""
    shared: str = ""
    models: int = 3
    base: bool = True
    draws: bool = False


CASES = (
    Case("passthrough", 1, models=1, base=False),
    Case("linear", 4, "weight: 1.0", base=False),
    Case("task_arithmetic", 4, "weight: 0.4"),
    Case("slerp", 4, "", "t: 0.4", 1),
    Case("nearswap", 4, "", "t: 0.001", 1),
    Case("model_stock", 4),
    Case("ties", 30, "weight: 1.0, density: 0.5"),
    Case("breadcrumbs", 25, "weight: 0.4, density: 0.5, gamma: 0.05"),
    Case("della", 25, "weight: 1.0, density: 0.5, epsilon: 0.1", draws=True),
    Case("sce", 20, "", "select_topk: 0.5"),
    Case("dare_ties", 10, "weight: 1.0, density: 0.5", draws=True),
)


def run() -> list[dict[str, Any]]:
    """All rows; a row is printed as soon as it is there."""
    size = os.environ.get("MERGE_SPEED_SIZE", "0.3b")
    turns = int(os.environ.get("MERGE_SPEED_TURNS", "1"))
    wanted = os.environ.get("MERGE_SPEED_METHODS", "").split() or [c.method for c in CASES]
    models = checkpoints(size)
    rows = []
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        place = Path(folder)
        for row in [start(place, models, size), *memory(place, models, size)]:
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
        begin = rows[0]["conjoin"]
        for case in CASES:
            if case.method in wanted:
                rows.append(speed(case, place, models, size, turns, begin))
                print(rows[-1], file=sys.stderr, flush=True)
        for row in threads(place, models, size):
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    return rows


def checkpoints(size: str) -> list[Path]:
    """The base and three fine-tunes, made where they are not there yet."""
    from conjoin.transfer.checkpoints import write_header

    given = os.environ.get("MERGE_SPEED_MODELS")
    home = Path(given) if given else WORK / f"llama-{size}"
    models = [home / name for name in ("base", "ft1", "ft2", "ft3")]
    entries = [(name, "BF16", shape) for name, shape in shapes(LAYERS[size])]
    for number, folder in enumerate(models):
        if (folder / "config.json").is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "model.safetensors").open("wb") as file:
            file.write(write_header(entries, {"format": "pt"}))
            for place, (_, _, shape) in enumerate(entries):
                weights = np.float32(0.02) * np.random.default_rng([0, place]).standard_normal(
                    shape, np.float32
                )
                if number:
                    weights = as_numbers(as_bits(weights))
                    noise = np.random.default_rng([number, place]).standard_normal(shape, np.float32)
                    weights += np.float32(0.002) * noise
                file.write(as_bits(weights).tobytes())
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "bfloat16",
            "hidden_size": HIDDEN,
            "intermediate_size": INTER,
            "num_hidden_layers": LAYERS[size],
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "vocab_size": VOCABULARY,
        }
        (folder / "config.json").write_text(json.dumps(config))
    return models


def shapes(layers: int) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the tensors."""
    parts = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (KEYS, HIDDEN),
        "self_attn.v_proj": (KEYS, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INTER, HIDDEN),
        "mlp.up_proj": (INTER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTER),
        "input_layernorm": (HIDDEN,),
        "post_attention_layernorm": (HIDDEN,),
    }
    inside = [
        (f"model.layers.{layer}.{part}.weight", shape)
        for layer in range(layers)
        for part, shape in parts.items()
    ]
    ends = [("model.norm.weight", (HIDDEN,)), ("lm_head.weight", (VOCABULARY, HIDDEN))]
    return [("model.embed_tokens.weight", (VOCABULARY, HIDDEN)), *inside, *ends]


def recipe(case: Case, place: Path, models: Sequence[Path]) -> Path:
    """The recipe of a case as a file."""
    lines = [f"merge_method: {case.method}", "dtype: bfloat16"]
    if case.base:
        lines.append(f"base_model: {models[0]}")
    if case.shared:
        lines.append(f"parameters: {{{case.shared}}}")
    lines.append("models:")
    for model in ([models[0]] if case.method == "slerp" else []) + list(models[1 : 1 + case.models]):
        lines.append(f"  - model: {model}")
        if case.each:
            lines.append(f"    parameters: {{{case.each}}}")
    path = place / f"{case.method}.yml"
    path.write_text("\n".join(lines) + "\n")
    return path


def cpu(command: Sequence[str], *, fails: bool = False) -> tuple[float, float]:
    """CPU seconds and seconds of a command. Raises where it fails, or where it does not and should."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if (done.returncode != 0) != fails:
        raise RuntimeError(f"{command}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return used, time.perf_counter() - begin


def conjoin(yml: Path, out: Path, *more: str) -> list[str]:
    """The command of conjoin."""
    return [
        str(Path(sys.executable).with_name("conjoin")),
        "merge",
        str(yml),
        str(out),
        "--threads",
        "1",
        *more,
    ]


def mergekit(yml: Path, out: Path) -> list[str]:
    """The command of the peer, as lean as its options make it."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = shutil.which("mergekit-yaml", path=beside) or "mergekit-yaml"
    return [command, str(yml), str(out), "--lazy-unpickle", "--quiet"]


def best(turns: int, *commands: Callable[[], Sequence[str]], fails: bool = False) -> list[float]:
    """CPU seconds of each, the best of turns in turn."""
    found = [[cpu(command(), fails=fails)[0] for command in commands] for _ in range(turns)]
    return [min(times) for times in zip(*found, strict=True)]


def speed(
    case: Case, place: Path, models: Sequence[Path], size: str, turns: int, begin: float
) -> dict[str, Any]:
    """The row of a method."""
    yml, mine, theirs = recipe(case, place, models), place / "mine", place / "theirs"

    def fresh(folder: Path, command: Callable[[Path, Path], list[str]]) -> list[str]:
        shutil.rmtree(folder, ignore_errors=True)
        return command(yml, folder)

    cpu(fresh(mine, conjoin))  # compiled code and the page cache
    least = min(
        floor([models[0], *models[1:]][0 if case.base else 1 : 1 + case.models], mine, place)
        for _ in range(3)
    )
    own, peer = best(turns, lambda: fresh(mine, conjoin), lambda: fresh(theirs, mergekit))
    row = {
        "what": case.method,
        "workload": f"{size}, {'base + ' if case.base else ''}{case.models}, bf16",
        "peer": PEER,
        "conjoin": own,
        "peer s": peer,
        "ratio": peer / own,
        "asked": f"{case.asked:g}",
        "least": least,
        "share": least / max(own - begin, 1e-9),
        "same": same(case, mine, theirs, models),
    }
    shutil.rmtree(mine)
    shutil.rmtree(theirs)
    return row


def floor(inputs: Sequence[Path], answer: Path, place: Path) -> float:
    """CPU seconds of reading the weights of folders once and of writing an answer's bytes once."""
    buffer = mmap.mmap(-1, CHUNK)
    size = sum(p.stat().st_size for p in answer.glob("*.safetensors"))
    begin = time.process_time()
    for path in (p for folder in inputs for p in folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    with (place / "floor").open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, size)
        for _ in range(-(-size // CHUNK)):
            file.write(buffer)
    used = time.process_time() - begin
    (place / "floor").unlink()
    return used


def start(place: Path, models: Sequence[Path], size: str) -> dict[str, Any]:
    """Start, imports and checks: recipes that end before a weight is read."""
    good = recipe(next(c for c in CASES if c.method == "ties"), place, models)
    full = place / "full"
    full.mkdir(exist_ok=True)
    (full / "other").write_text("")
    wrong = place / "wrong.yml"
    wrong.write_text(good.read_text().replace("density: 0.5", "density: [oops"))
    own = best(3, lambda: conjoin(good, full), fails=True)[0]
    peer = best(2, lambda: mergekit(wrong, place / "never"), fails=True)[0]
    return {
        "what": "start, imports, checks",
        "workload": f"{size}, ties: an answer's folder that is full (the peer: a recipe that is no YAML)",
        "peer": PEER,
        "conjoin": own,
        "peer s": peer,
        "ratio": peer / own,
        "asked": "0.5 s",
    }


LIMIT = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (512 << 20, 512 << 20))
from conjoin.cli import run
status = run(sys.argv[1:])
lines = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print("anonymous kB", max(int(sys.modules["__main__"].seen[0]), int(lines["RssAnon"].split()[0])))
sys.exit(status)
"""
WATCH = """
import threading, time
seen = [0]
def watch():
    while True:
        for line in open("/proc/self/status"):
            if line.startswith("RssAnon"):
                seen[0] = max(seen[0], int(line.split()[1]))
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
"""


def memory(place: Path, models: Sequence[Path], size: str) -> list[dict[str, Any]]:
    """The largest anonymous memory of merges that may have 512 MB of data (RLIMIT_DATA), on two threads."""
    rows = []
    for method in ("ties", "della"):
        case = next(c for c in CASES if c.method == method)
        out = place / "limited"
        shutil.rmtree(out, ignore_errors=True)
        words = ["merge", str(recipe(case, place, models)), str(out), "--threads", "2"]
        done = subprocess.run(
            [sys.executable, "-c", WATCH + LIMIT, *words], capture_output=True, text=True, check=True
        )
        most = int(done.stdout.rpartition("anonymous kB")[2]) / 1000
        rows.append(
            {
                "what": "anonymous memory, MB",
                "workload": f"{size}, {method}, two threads, under a limit of 512 MB",
                "conjoin": most,
                "asked": "256",
            }
        )
        shutil.rmtree(out)
    return rows


def threads(place: Path, models: Sequence[Path], size: str) -> list[dict[str, Any]]:
    """Seconds of one thread over those of two: the best of three in turn."""
    rows = []
    for method in ("task_arithmetic", "ties"):
        yml, out = recipe(next(c for c in CASES if c.method == method), place, models), place / "threads"
        found: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(3):
            for count, times in found.items():
                shutil.rmtree(out, ignore_errors=True)
                times.append(cpu(conjoin(yml, out, "--threads", str(count)))[1])
        one, two = min(found[1]), min(found[2])
        rows.append(
            {
                "what": "two threads over one (seconds on the clock, shared machine)",
                "workload": f"{size}, {method}, the whole process",
                "conjoin": two,
                "peer": "conjoin, one thread",
                "peer s": one,
                "ratio": one / two,
                "asked": "1.8",
            }
        )
    return rows


def same(case: Case, mine: Path, theirs: Path, models: Sequence[Path]) -> str:
    """How the two answers compare."""
    if sorted(tensors(mine)) != sorted(tensors(theirs)):
        return "other tensors"
    own, peer = (tensors(folder)[LOOKED_AT]() for folder in (mine, theirs))
    base, *rest = (as_numbers(tensors(m)[LOOKED_AT]()).astype(np.float64) for m in models)
    if case.draws:
        moved = [float((as_numbers(x) != base).mean()) for x in (own, peer)]
        return f"moved {moved[0]:.5f} and {moved[1]:.5f}"
    left, right = tensors(mine), tensors(theirs)
    if all(np.array_equal(left[n](), right[n]()) for n in left):
        return "equal bytes"
    truth = formula(case.method, base, rest)
    if truth is None:
        return f"{np.mean(own == peer):.4f} of the weights equal"
    step = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(truth), 2.0**-10))) - 7)
    errors = [np.abs(as_numbers(x).astype(np.float64) - truth) / step for x in (own, peer)]
    return (
        f"mean error {errors[0].mean():.4f} and {errors[1].mean():.4f} steps, "
        f"{np.mean(errors[0] > 1):.2%} and {np.mean(errors[1] > 1):.2%} beyond one"
    )


def formula(method: str, base: Any, rest: Sequence[Any]) -> Any:
    """The answer in float64."""
    deltas = [x - base for x in rest]
    if method == "linear":
        return sum(rest) / len(rest)
    if method == "task_arithmetic":
        return base + 0.4 * sum(deltas)
    if method == "nearswap":
        return base + np.clip(0.001 / np.maximum(np.abs(deltas[0]), 1e-6), 0, 1) * deltas[0]
    if method == "slerp":
        angle = np.arccos((base * rest[0]).sum() / np.linalg.norm(base) / np.linalg.norm(rest[0]))
        if np.cos(angle) > 0.9995:
            return 0.6 * base + 0.4 * rest[0]
        return (np.sin(0.6 * angle) * base + np.sin(0.4 * angle) * rest[0]) / np.sin(angle)
    if method == "model_stock":
        norms = [np.linalg.norm(d) for d in deltas]
        pairs = [(i, j) for i in range(3) for j in range(i)]
        cosine = np.mean([(deltas[i] * deltas[j]).sum() / norms[i] / norms[j] for i, j in pairs])
        return base + 3 * cosine / (1 + 2 * cosine) * sum(deltas) / 3
    if method in ("ties", "breadcrumbs"):
        kept = [d * between(np.abs(d), *((0.5, 0.0) if method == "ties" else (0.5, 0.05))) for d in deltas]
        return base + (0.4 * sum(kept) if method == "breadcrumbs" else elected(kept, [1.0] * 3, 1.0))
    if method == "sce":
        spread = np.var(deltas, axis=0)
        chosen = between(spread, 0.5 * np.count_nonzero(spread) / spread.size, 0.0)
        kept = [d * chosen for d in deltas]
        weights = np.array([(d * d).mean() for d in kept])
        return base + elected(kept, (weights / weights.sum()).tolist(), 1e-6)
    return None


def between(values: Any, density: float, gamma: float) -> Any:
    """The mask of the `density` share below the `gamma` share of the largest; the first of equal ones."""
    n = values.size
    order = np.argsort(-values.reshape(-1), kind="stable")
    mask = np.zeros(n, bool)
    mask[order[int(gamma * n) : int(gamma * n) + int(density * n)]] = True
    return mask.reshape(values.shape)


def elected(kept: Sequence[Any], weights: Sequence[float], least: float) -> Any:
    """The weighted mean of the deltas with the elected sign."""
    total = sum(kept) if least < 1 else sum(w * d for w, d in zip(weights, kept, strict=True))
    sign = np.where(total >= 0, 1, -1)
    agree = [np.sign(d) == sign for d in kept]
    summed = sum(w * d * a for w, d, a in zip(weights, kept, agree, strict=True))
    mass = sum(w * a for w, a in zip(weights, agree, strict=True))
    return summed / np.maximum(mass, least)


def tensors(folder: Path) -> dict[str, Callable[[], Any]]:
    """Name -> reads the bits of a tensor."""
    from conjoin.transfer.checkpoints import open_checkpoint

    found = open_checkpoint(folder)
    return {name: (lambda name=name: np.asarray(found.array(name))) for name in found}


def as_bits(numbers: Any) -> Any:
    """float32 -> bfloat16 bits, to the nearest even."""
    bits = numbers.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(
        np.uint16
    )


def as_numbers(bits: Any) -> Any:
    """bfloat16 bits -> float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
