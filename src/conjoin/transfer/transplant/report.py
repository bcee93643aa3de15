"""What became of every tensor of a transplant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from conjoin.transfer.weights.matching import Shape, blocks

Kind = Literal["carried", "adapted", "fresh"]
KINDS: tuple[Kind, ...] = ("carried", "adapted", "fresh")


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one tensor of the target.

    kind: "carried" as it is (types may differ), "adapted" (how), or "fresh": the target's own values stay
    (why). source: the tensor it came from, if any. before, after: shapes in the source and in the target.
    """

    name: str
    kind: Kind
    source: str | None
    how: str
    before: Shape | None
    after: Shape
    parameters: int

    def __str__(self) -> str:
        came = "" if self.source in (None, self.name) else f" from {self.source}"
        return f"{self.kind:8} {self.name}{came}{f': {self.how}' if self.how else ''}"


@dataclass(frozen=True, slots=True)
class Layer:
    """Tensors and parameters of a block of the target, by kind."""

    name: str
    tensors: Mapping[Kind, int]
    parameters: Mapping[Kind, int]
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Transplanted:
    """A transplant that is done.

    model: the target with the weights: a path, a state dict or a module, as the target was given. fates: of
    each of its tensors, in order. unused: tensors of the source that found no place, and their shapes.
    matched: the rule that paired them. notes: what else a user should know.
    """

    model: Any
    fates: tuple[Fate, ...]
    unused: Mapping[str, Shape]
    matched: str
    notes: tuple[str, ...]

    def parameters(self) -> dict[Kind, int]:
        """How many parameters were carried, adapted, left fresh."""
        return {k: sum(f.parameters for f in self.fates if f.kind == k) for k in KINDS}

    def tensors(self) -> dict[Kind, int]:
        """How many tensors were carried, adapted, left fresh."""
        return {k: sum(f.kind == k for f in self.fates) for k in KINDS}

    def layers(self) -> list[Layer]:
        """The fates by block of the target: see `matching.blocks`."""
        by_name = {f.name: f for f in self.fates}
        return [_layer([by_name[n] for n in block]) for block in blocks(list(by_name))]

    def document(self) -> dict[str, Any]:
        """All of it as JSON values, but the model."""
        return {
            "matched": self.matched,
            "tensors": self.tensors(),
            "parameters": self.parameters(),
            "fates": [
                {
                    "name": f.name,
                    "kind": f.kind,
                    "source": f.source,
                    "how": f.how,
                    "from": None if f.before is None else list(f.before),
                    "to": list(f.after),
                }
                for f in self.fates
            ],
            "unused": {n: list(s) for n, s in self.unused.items()},
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        counts, sizes = self.tensors(), self.parameters()
        head = ", ".join(f"{k} {counts[k]} ({sizes[k]:,} parameters)" for k in KINDS)
        unused = [f"unused   {name} {shape}" for name, shape in self.unused.items()]
        notes = [f"note     {n}" for n in self.notes]
        return "\n".join([f"matched by {self.matched}; {head}", *map(str, self.fates), *unused, *notes])


def _layer(fates: Sequence[Fate]) -> Layer:
    names = [f.name for f in fates]
    stem = names[0].rpartition(".")[0] or names[0]
    while len(names) > 1 and not all(n.startswith(f"{stem}.") for n in names) and "." in stem:
        stem = stem.rpartition(".")[0]
    told = dict.fromkeys(f.how for f in fates if f.how)
    return Layer(
        stem,
        {k: sum(f.kind == k for f in fates) for k in KINDS},
        {k: sum(f.parameters for f in fates if f.kind == k) for k in KINDS},
        tuple(told),
    )
