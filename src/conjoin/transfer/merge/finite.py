"""NaN and infinite numbers in a merge: seen in the parts of the answer before they are written, so that
nothing is read twice. Methods that leave numbers out may lose them; for these the models' tensors are looked
through, too, by the method as it reads them or when the tensor is merged. Only where there are some, it is
counted which model holds how many.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError, listed
from conjoin.transfer.checkpoints import Weights
from conjoin.transfer.merge.stream import Source, Task

if TYPE_CHECKING:
    from conjoin.outputs import Array

MARKED = "not-finite.txt"
"""In the working folder: tensors with such numbers; a merge that goes on knows them still."""
EXPONENTS = {
    "F64": 0x7FF0 << 48,
    "F32": 0x7F80_0000,
    "BF16": 0x7F80,
    "F16": 0x7C00,
    "F8_E5M2": 0x7C,
    "F8_E4M3": 0x7F,
}
"""Type -> bits that are all set in NaN and infinite numbers, and in no other."""
KEEPING = (
    *(None, "linear", "passthrough", "task_arithmetic", "slerp", "nuslerp", "multislerp", "karcher"),
    *("model_stock", "nearswap"),
)
"""Methods whose answer holds such numbers wherever a model does; None copies."""
LOOKING = (
    *("ties", "breadcrumbs", "breadcrumbs_ties", "dare_linear", "dare_ties", "della", "della_linear", "sce"),
)
"""Methods that look through the models' tensors themselves (`Given.tell`)."""
BLOCK, PART, MOST_TOLD = 1 << 20, 1 << 17, 5


@dataclass(frozen=True, slots=True)
class Finite:
    """Sees the parts of an answer. working: the folder in which it comes about. tasks: by name. inputs,
    models: of the plan. allow: such numbers are told, and do not stop the merge. begun: tensors of which a
    part was seen.
    """

    working: Path
    tasks: Mapping[str, Task]
    inputs: Sequence[Weights]
    models: Sequence[str]
    allow: bool = False
    begun: set[str] = field(default_factory=set)

    def __call__(self, name: str, stored: Array, dtype: str) -> None:
        """A part of a tensor, before it is written."""
        first, task = name not in self.begun, self.tasks[name]
        self.begun.add(name)
        look = has_any if task.method else copied_any
        found = dtype in EXPONENTS and look(stored, dtype)
        if not found and first and task.method not in (*KEEPING, *LOOKING):
            found = any(self._held(s) for s in _sources(task))
        if found:
            with (self.working / MARKED).open("a", encoding="utf-8") as file:
                file.write(json.dumps(name) + "\n")

    def _held(self, source: Source) -> bool:
        model = self.inputs[source.model]
        dtype = model[source.name].entry.dtype
        if dtype not in EXPONENTS:
            return False
        flat = model.array(source.name).reshape(-1)
        return any(has_any(flat[i : i + BLOCK], dtype) for i in range(0, len(flat), BLOCK))

    def end(self) -> tuple[str, ...]:
        """When every tensor is merged: notes of tensors that hold such numbers. Raises InputError, if they
        are not allowed, with the tensor, the model, and how many.
        """
        path = self.working / MARKED
        if not path.is_file():
            return ()
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        names = dict.fromkeys(json.loads(line) for line in lines)
        held = {n: self.tasks[n] for n in names if n in self.tasks}
        told = [f"{n} ({_where(t, self.inputs, self.models)})" for n, t in list(held.items())[:MOST_TOLD]]
        rest = f" and {len(held) - MOST_TOLD} more tensors" if len(held) > MOST_TOLD else ""
        message = f"NaN or infinite numbers in {'; '.join(told)}{rest}"
        if not self.allow:
            raise InputError(
                f"{message}. Nothing was written; take another model, or merge them as they are with "
                "allow_nan (--allow-nan)"
            )
        path.unlink()
        return (message,)


def has_any(stored: Array, dtype: str) -> bool:
    """Whether an array as a file holds it has a NaN or an infinite number.

    >>> has_any(np.array([1, np.inf], np.float32), "F32"), has_any(np.ones(3, np.float32), "F32")
    (True, False)
    """
    from conjoin.kernels.finite import any_full, masks

    bits = _bits(stored)
    whole = len(bits) * bits.itemsize // 8 * 8 // bits.itemsize
    words, size = bits[:whole].view(np.uint64), 8 * bits.itemsize
    return bool(any_full(words, *masks(EXPONENTS[dtype], size))) or bool(_count(bits[whole:], dtype))


def copied_any(stored: Array, dtype: str) -> bool:
    """As `has_any`, without the compiler, which nothing else needs where tensors are copied."""
    bits = _bits(stored)
    mask = bits.dtype.type(EXPONENTS[dtype])
    parts = (bits[i : i + PART] for i in range(0, len(bits), PART))
    return any(bool(np.bitwise_and(part, mask).max() == mask) for part in parts)


def count(array: Array, dtype: str) -> int:
    """How many numbers of an array are NaN or infinite."""
    flat = array.reshape(-1)
    return sum(_count(_bits(flat[i : i + BLOCK]), dtype) for i in range(0, len(flat), BLOCK))


def _bits(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")


def _count(bits: Array, dtype: str) -> int:
    from conjoin.kernels.finite import count_full

    return int(count_full(bits, bits.dtype.type(EXPONENTS[dtype])))


def _sources(task: Task) -> tuple[Source, ...]:
    return (*task.sources, *([task.base] if task.base else []))


def _where(task: Task, inputs: Sequence[Weights], models: Sequence[str]) -> str:
    """Which models hold such numbers in the tensors that a task is made of, and how many."""
    found = []
    for source in _sources(task):
        entry = inputs[source.model][source.name].entry
        many = count(inputs[source.model].array(source.name), entry.dtype) if entry.dtype in EXPONENTS else 0
        if many:
            found.append(f"{models[source.model]}: {many} of {entry.elements}")
    return (
        listed(found) or f"no model holds any: merging made them, or {task.dtype} cannot hold so large ones"
    )
