"""Networks that conjoin trained itself, as torch modules and back: members of bundles can be fine-tuned, and
no code comes from anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.compose import Ensemble
from conjoin.contracts import Card
from conjoin.errors import InputError, listed, nearest, need
from conjoin.fusion.network_weights import NetworkWeights, Task
from conjoin.graph.average import Average
from conjoin.graph.builder import Graph
from conjoin.graph.session import Session
from conjoin.members.answers import as_batch
from conjoin.members.portable import Portable, portable
from conjoin.outputs import Labels, Probabilities, Values
from conjoin.tables import conform
from conjoin.transfer.finetune.heads import Head
from conjoin.transfer.finetune.tune import FineTuned, finetune

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Column
    from conjoin.outputs import Array, Output

FAR = 1e4


def finetune_member(
    member: Any, batch: Batch, truth: Output, *, of: str | None = None, **options: Any
) -> FineTuned:
    """Train a network inside a member further; the member that comes out reads the same columns.

    member: from `conjoin.fit` or a bundle. of: the name of the network in an ensemble, where it has several.
    options: those of `finetune`, but head, classes and columns, which are known; layers are called
    "layers.0", "layers.1" and so on, the last is the head. Raises InputError where there is no network, and
    what `finetune` raises.
    """
    found = network_in(member, of)
    parts = _parts(found)
    x = _inputs(found, as_batch(batch))
    known, width, shift, scale = _wanted(truth)
    module, carried = module_of(
        parts, found.card.classes, known, width=width, shift=shift, scale=scale, seed=options.get("seed", 0)
    )
    options.setdefault("decay", 0.0)
    options.setdefault("name", found.card.name)
    done = finetune(module, {"x": x}, truth, **options)
    task: Task = "classes" if known else "values"
    new = Average.of(weights_of(done.module, parts, task=task, shift=shift, scale=scale))
    told = {"learner": "network", "fine_tuned": {"from": found.card.name, "epochs": len(done.history)}}
    card = Card(done.member.card.name, done.kind, classes=done.classes, provenance=cast(Any, told))
    tuned = portable(card, found.encoder, new, view=found.view)
    before = parts[0].head.shape[2]
    same = known == found.card.classes and before == width
    head = Head(f"layers.{len(parts[0].bias)}", not same, before, width, carried)
    return replace(done, member=tuned, head=head)


def network_in(member: Any, name: str | None = None) -> Portable:
    """The network of a member: itself, or the one in an ensemble. Raises InputError."""
    inside = dict(member.members) if isinstance(member, Ensemble) else {member.card.name: member}
    networks = {n: m for n, m in inside.items() if isinstance(m, Portable) and _parts(m)}
    if not networks:
        raise InputError(
            f"{member.card.name!r} holds no network that could be trained further; it holds "
            f"{listed(inside)}. `conjoin fit ... --members network` trains one; a module of your own "
            "goes by FILE.py:FUNCTION"
        )
    if name is None and len(networks) > 1:
        raise InputError(f"there are several networks, {listed(networks)}; say which")
    chosen = name if name is not None else next(iter(networks))
    if chosen not in networks:
        raise InputError(f"no network {chosen!r}{nearest(chosen, networks)}; there is {listed(networks)}")
    return networks[chosen]


def _parts(member: Portable) -> tuple[NetworkWeights, ...]:
    """The networks (one a fold) of a member; empty where it is something else."""
    model: Any = member.model
    parts = model.parts if isinstance(model, Average) else (model,)
    alike = all(isinstance(p, NetworkWeights) and p.task != "quantiles" for p in parts)
    return parts if alike and len({len(p.bias) for p in parts}) == 1 else ()


def _inputs(member: Portable, batch: Batch) -> Array:
    """(n, d) float32: the features that the network reads."""
    columns: tuple[Column, ...] = member.encoder.columns
    feeds = conform(batch, columns)
    graph = Graph()
    x = member.encoder.emit(graph)
    if member.view is not None:
        x = member.view.emit(graph, x)
    graph.output("#" * (1 + max(len(c.name) for c in columns)), x, 1)
    return Session.of(graph).run(feeds)[0]


def _wanted(truth: Output) -> tuple[tuple[str, ...], int, Array, Array]:
    """Classes, number of outputs, and mean and spread of the truth."""
    if isinstance(truth, Labels | Probabilities):
        return truth.classes, len(truth.classes), np.zeros(len(truth.classes)), np.ones(len(truth.classes))
    if not isinstance(truth, Values):
        raise InputError(f"a network learns labels, probabilities or values, not {truth.kind}")
    known = truth.values[truth.answered].reshape(int(truth.answered.sum()), -1).astype(np.float64)
    known = known[np.isfinite(known).all(axis=1)]
    width = known.shape[1]
    if not len(known):
        return (), width, np.zeros(width), np.ones(width)
    spread = known.std(axis=0)
    return (), width, known.mean(axis=0), np.where(spread > 0, spread, 1.0)


def module_of(
    parts: Sequence[NetworkWeights],
    old: tuple[str, ...],
    new: tuple[str, ...],
    *,
    width: int,
    shift: Array,
    scale: Array,
    seed: int,
) -> tuple[Any, tuple[str, ...]]:
    """A torch module that answers as the mean of these networks, and the classes whose rows were carried.

    (n, d) float32 -> logits (n, K), the logarithm of the mean probability; or values (n, H). Where the task
    is another one it has a fresh head; rows of classes in both are carried.
    """
    torch = need("torch")
    nn = torch.nn
    carried = tuple(c for c in new if c in old)
    rng = np.random.default_rng([seed, 11])
    heads = [_head(p, old, new, width, rng, shift, scale) for p in parts]

    def parameters(arrays: Sequence[Array]) -> Any:
        return nn.ParameterList([nn.Parameter(torch.tensor(np.asarray(a, np.float32))) for a in arrays])

    def layer(**named: Sequence[Array]) -> Any:
        return nn.ModuleDict({name: parameters(arrays) for name, arrays in named.items()})

    layers = [
        layer(
            weight=[p.entry for p in parts],
            diversity=[p.diversity for p in parts],
            bias=[p.bias[0] for p in parts],
        )
    ]
    layers += [
        layer(weight=[p.inner[i] for p in parts], bias=[p.bias[i + 1] for p in parts])
        for i in range(len(parts[0].inner))
    ]
    layers.append(layer(weight=[w for w, _ in heads], bias=[b for _, b in heads]))
    return _module(parts, layers, classes=bool(new), shift=shift, scale=scale), carried


def _head(
    part: NetworkWeights,
    old: tuple[str, ...],
    new: tuple[str, ...],
    width: int,
    rng: np.random.Generator,
    shift: Array,
    scale: Array,
) -> tuple[Array, Array]:
    """Weights (k, H, K) and biases (k, 1, K) of a head for the task."""
    k, hidden, before = part.head.shape
    if not new and not old and before == width:  # the same numbers, in units of the new spread
        unit = part.scale / scale
        return part.head * unit, part.head_bias * unit + (part.shift - shift) / scale
    weight = rng.normal(size=(k, hidden, width)) / np.sqrt(hidden)
    bias = np.zeros((k, 1, width))
    for i, name in enumerate(new):
        if name in old:
            weight[..., i] = part.head[..., old.index(name)]
            bias[..., i] = part.head_bias[..., old.index(name)]
    return weight, bias


def _module(
    parts: Sequence[NetworkWeights], layers: list[Any], *, classes: bool, shift: Array, scale: Array
) -> Any:
    torch = need("torch")
    nn = torch.nn

    class Networks(nn.Module):  # type: ignore[misc, name-defined]
        """The formula of `NetworkWeights`, the mean over all networks last."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(layers)
            for j, part in enumerate(parts):
                for name in ("centre", "rate", "source", "edge", "slope"):
                    self.register_buffer(f"{name}{j}", torch.tensor(getattr(part, name)))
            self.register_buffer("shift", torch.tensor(np.asarray(shift, np.float32)))
            self.register_buffer("scale", torch.tensor(np.asarray(scale, np.float32)))

        def expanded(self, x: Any, j: int) -> Any:
            at = {n: getattr(self, f"{n}{j}") for n in ("centre", "rate", "source", "edge", "slope")}
            z = ((x - at["centre"]) * at["rate"]).clamp(-FAR, FAR)
            z = z / torch.sqrt(1 + (z / 3) ** 2)
            bins = ((z[:, at["source"]] - at["edge"]) * at["slope"]).clamp(0, 1)
            return torch.cat([z, bins], dim=1)

        def forward(self, x: Any) -> Any:
            answers = []
            first, *middle, last = self.layers
            for j in range(len(parts)):
                h = (self.expanded(x, j) @ first["weight"][j]) * first["diversity"][j] + first["bias"][j]
                h = nn.functional.silu(h)
                for layer in middle:
                    h = nn.functional.silu(h @ layer["weight"][j] + layer["bias"][j])
                o = (h @ last["weight"][j] + last["bias"][j]).float()
                answers.append(torch.log_softmax(o, dim=-1) if classes else o)
            every = torch.cat(answers)  # (networks of all folds, n, K)
            if classes:
                return torch.logsumexp(every, dim=0) - float(np.log(len(every)))
            return every.mean(dim=0) * self.scale + self.shift

    return Networks()


def weights_of(
    module: Any, parts: Sequence[NetworkWeights], *, task: Task, shift: Array, scale: Array
) -> list[NetworkWeights]:
    """The networks of a module that `module_of` made, after it was trained."""
    first, *middle, last = module.layers

    def array(parameter: Any) -> Array:
        return cast("Array", parameter.detach().cpu().numpy().copy())

    return [
        replace(
            part,
            task=task,
            entry=array(first["weight"][j]),
            diversity=array(first["diversity"][j]),
            inner=tuple(array(layer["weight"][j]) for layer in middle),
            bias=(array(first["bias"][j]), *(array(layer["bias"][j]) for layer in middle)),
            head=array(last["weight"][j]),
            head_bias=array(last["bias"][j]),
            scale=np.asarray(scale, np.float64),
            shift=np.asarray(shift, np.float64),
        )
        for j, part in enumerate(parts)
    ]
