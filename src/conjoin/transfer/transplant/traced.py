"""How the units of a torch module hang together, found by tracing what its forward does (torch.fx)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conjoin.errors import InputError, need
from conjoin.transfer.weights.permutations import Permutations
from conjoin.transfer.weights.wiring import Wired

FROZEN = 0
_UNITWISE = [
    "relu",
    "relu_",
    "gelu",
    "silu",
    "tanh",
    "sigmoid",
    "elu",
    "selu",
    "leaky_relu",
    "hardswish",
    "hardsigmoid",
    "relu6",
    "mish",
    "softplus",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool2d",
    "interpolate",
    "clamp",
    "neg",
    "abs",
    "contiguous",
    "float",
    "to",
    "detach",
    "clone",
    "sqrt",
    "exp",
    "pow",
]
_TOGETHER = ["add", "add_", "iadd", "sub", "isub", "mul", "imul", "truediv", "maximum", "minimum"]
_MODULES = [
    "ReLU",
    "GELU",
    "SiLU",
    "Tanh",
    "Sigmoid",
    "ELU",
    "SELU",
    "LeakyReLU",
    "Hardswish",
    "Hardsigmoid",
    "ReLU6",
    "Mish",
    "Softplus",
    "Identity",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "AlphaDropout",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool2d",
    "Upsample",
    "ZeroPad2d",
]


@dataclass(frozen=True, slots=True)
class Units:
    """A value in the graph: the group of its features, and whether they stand before places (NCHW)."""

    group: int
    before: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What the walk has found so far. parent: of each group; group 0 is of those that must not move."""

    shapes: Mapping[str, tuple[int, ...]]
    parent: list[int] = field(default_factory=lambda: [FROZEN])
    axes: dict[str, list[int]] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    parts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    heads: dict[int, int] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def new(self) -> int:
        self.parent.append(len(self.parent))
        return len(self.parent) - 1

    def root(self, group: int) -> int:
        while self.parent[group] != group:
            group = self.parent[group]
        return group

    def join(self, *groups: int) -> int:
        roots = sorted({self.root(g) for g in groups})
        for other in roots[1:]:
            self.parent[other] = roots[0]
        return roots[0]

    def put(self, name: str, *groups: int) -> None:
        """The groups of the axes of a tensor, joined with those it had."""
        if name not in self.shapes:
            return
        every = [*groups, *[FROZEN] * (len(self.shapes[name]) - len(groups))]
        before = self.axes.setdefault(name, every)
        for a, b in zip(before, every, strict=True):
            self.join(a, b)

    def layer(self, name: str, units: int, inputs: int, *, turned: bool = False) -> None:
        """A layer's weight and bias."""
        self.put(f"{name}.weight", *((inputs, units) if turned else (units, inputs)))
        self.put(f"{name}.bias", units)
        self.inputs[f"{name}.weight"] = 0 if turned else 1

    def norm(self, name: str, units: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.put(f"{name}.{part}", units)


def traced(module: Any, ties: Mapping[str, str]) -> tuple[Wired, bool] | None:
    """The wiring of a module, and whether all of its forward is known; None where it cannot be traced.

    Known: dense layers, convolutions, batch, layer and instance norms, embeddings, attention and
    transformer layers of torch, functions that work unit by unit, pools, sums and products, flattening
    after convolutions. What is not known must not move, and with it all units that reach it.
    """
    fx = need("torch.fx")
    try:
        graph = fx.symbolic_trace(module).graph
    except Exception:  # whatever a forward does with what is no tensor
        return None
    parts = dict(module.named_modules())
    found = _Found({n: tuple(t.shape) for n, t in module.state_dict().items()})
    values: dict[Any, Units | None] = {}
    for node in graph.nodes:
        values[node] = _value(node, parts, module, found, values)
    for name, first in ties.items():
        if name in found.axes and first in found.axes:
            for a, b in zip(found.axes[name], found.axes[first], strict=True):
                found.join(a, b)
    wired = _wired(found)
    try:
        wired.groups.sizes({n: np.broadcast_to(0, s) for n, s in found.shapes.items()})
    except InputError:  # some value had its units elsewhere than it seemed
        return None
    return wired, not found.unknown


def _wired(found: _Found) -> Wired:
    groups: dict[int, str] = {}
    for name, axes in found.axes.items():
        for group in axes:
            if found.root(group) != found.root(FROZEN):
                groups.setdefault(found.root(group), name)
    named = {n: tuple(groups.get(found.root(g)) for g in every) for n, every in found.axes.items()}
    units = {groups[found.root(g)]: n for g, n in found.heads.items() if found.root(g) in groups}
    return Wired(Permutations(named, units, found.parts), found.inputs, "traced")


Values = Mapping[Any, Units | None]


def _value(node: Any, parts: Mapping[str, Any], module: Any, found: _Found, values: Values) -> Units | None:
    given = [values[n] for n in node.all_input_nodes]
    tensors = [v for v in given if v is not None]
    if node.op == "placeholder":
        return Units(FROZEN, before=True)
    if node.op == "get_attr":
        return _parameter(str(node.target), module, found)
    if node.op == "output":
        found.join(FROZEN, *(t.group for t in tensors))
        return None
    if node.op == "call_module":
        return _module(str(node.target), parts[node.target], node, found, tensors)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name in ("size", "dim", "getattr") or not tensors:
        return None
    if name in _UNITWISE:
        return tensors[0]
    if name in _TOGETHER and len({t.before for t in tensors if found.root(t.group) != FROZEN}) < 2:
        before = any(t.before for t in tensors if found.root(t.group) != FROZEN)
        return Units(found.join(*(t.group for t in tensors)), before=before)
    if (
        node.target is operator.getitem
        and isinstance(node.args[1], int)
        and _is_attention(node.args[0], parts)
    ):
        return tensors[0] if node.args[1] == 0 else _frozen(found, tensors)
    if name in ("flatten", "view", "reshape") and tensors[0].before and _keeps_units(name, node):
        return Units(tensors[0].group, before=False)
    if name == "mean" and _places(node):
        wanted = {2, 3, 4, -1, -2} if tensors[0].before else {1}
        if _places(node) <= wanted:
            return Units(tensors[0].group, before=tensors[0].before and bool(node.kwargs.get("keepdim")))
    return _frozen(found, tensors)


def _frozen(found: _Found, tensors: Sequence[Units]) -> Units:
    """Units of which it is not known what becomes of them."""
    if any(found.root(t.group) != FROZEN for t in tensors):
        found.unknown.append("")
    found.join(FROZEN, *(t.group for t in tensors))
    return Units(FROZEN, before=True)


def _is_attention(node: Any, parts: Mapping[str, Any]) -> bool:
    return node.op == "call_module" and type(parts[node.target]).__name__ == "MultiheadAttention"


def _keeps_units(name: str, node: Any) -> bool:
    """Whether all but the first axis become one."""
    rest = [*node.args[1:], *node.kwargs.values()]
    return rest == [1] if name == "flatten" else len(rest) == 2 and rest[1] == -1


def _places(node: Any) -> set[Any]:
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", ())
    return set(dims) if isinstance(dims, list | tuple) else {dims}


def _parameter(name: str, module: Any, found: _Found) -> Units:
    """A parameter used by itself, as a scale of units or a table of positions: one long axis, or the last."""
    shape = found.shapes.get(name, ())
    long = [i for i, n in enumerate(shape) if n > 1]
    if len(shape) == 3 and shape[0] == 1:
        long = [2]  # places by units
    if len(long) != 1:
        found.put(name)
        return Units(FROZEN, before=True)
    group = found.new()
    found.put(name, *(group if i in long else FROZEN for i in range(len(shape))))
    return Units(group, before=long[0] < len(shape) - 1)


def _module(name: str, part: Any, node: Any, found: _Found, given: list[Units]) -> Units:
    kind = type(part).__name__
    make = _LAYERS.get(kind)
    if kind in _MODULES and given:
        return given[0]
    if kind == "Flatten" and given and given[0].before and part.start_dim == 1 and part.end_dim == -1:
        return Units(given[0].group, before=False)
    if make is None or not given:
        if any(n.startswith(f"{name}.") for n in found.shapes):
            found.unknown.append(name)
        return _frozen(found, given)
    return make(name, part, found, given)


def _linear(name: str, part: Any, found: _Found, given: list[Units]) -> Units:
    units = found.new()
    if given[0].before:
        _frozen(found, given)
    found.layer(name, units, given[0].group)
    return Units(units, before=False)


def _convolution(name: str, part: Any, found: _Found, given: list[Units]) -> Units:
    turned = type(part).__name__.startswith("ConvTranspose")
    if not given[0].before:
        _frozen(found, given)
    if part.groups == 1:
        units = found.new()
        found.layer(name, units, given[0].group, turned=turned)
        return Units(units, before=True)
    if part.groups == part.in_channels == part.out_channels:
        found.put(f"{name}.weight", given[0].group)
        found.put(f"{name}.bias", given[0].group)
        return given[0]
    found.put(f"{name}.weight")
    return _frozen(found, given)


def _batch_norm(name: str, part: Any, found: _Found, given: list[Units]) -> Units:
    found.norm(name, given[0].group)
    return given[0]


def _layer_norm(name: str, part: Any, found: _Found, given: list[Units]) -> Units:
    if given[0].before and len(part.normalized_shape) == 1:
        _frozen(found, given)
    found.norm(name, given[0].group)
    return given[0]


def _group_norm(name: str, part: Any, found: _Found, given: list[Units]) -> Units:
    if part.num_groups not in (1, part.num_channels):
        _frozen(found, given)
    found.norm(name, given[0].group)
    return given[0]


def _embedding(name: str, part: Any, found: _Found, given: list[Units]) -> Units:
    units = found.new()
    found.put(f"{name}.weight", FROZEN, units)
    return Units(units, before=False)


def _attention(name: str, part: Any, found: _Found, given: list[Units]) -> Units:
    hidden, heads, units = found.join(*(g.group for g in given[:3])), found.new(), found.new()
    found.heads[heads] = part.num_heads
    if part.in_proj_weight is None or part.bias_k is not None:
        _frozen(found, given)
        return Units(FROZEN, before=False)
    found.put(f"{name}.in_proj_weight", heads, hidden)
    found.put(f"{name}.in_proj_bias", heads)
    found.parts[f"{name}.in_proj_weight"], found.parts[f"{name}.in_proj_bias"] = (3, 1), (3,)
    found.inputs[f"{name}.in_proj_weight"] = 1
    found.layer(f"{name}.out_proj", units, heads)
    return Units(units, before=False)


def _encoder_layer(name: str, part: Any, found: _Found, given: list[Units]) -> Units:
    back = _attention(f"{name}.self_attn", part.self_attn, found, given[:1])
    hidden, inner = found.join(back.group, given[0].group), found.new()
    found.layer(f"{name}.linear1", inner, hidden)
    found.layer(f"{name}.linear2", hidden, inner)
    found.norm(f"{name}.norm1", hidden)
    found.norm(f"{name}.norm2", hidden)
    return Units(hidden, before=False)


def _encoder(name: str, part: Any, found: _Found, given: list[Units]) -> Units:
    for i, layer in enumerate(part.layers):
        given = [_encoder_layer(f"{name}.layers.{i}", layer, found, given)]
    if part.norm is not None:
        found.norm(f"{name}.norm", given[0].group)
    return given[0]


_LAYERS: dict[str, Callable[[str, Any, _Found, list[Units]], Units]] = {
    "Linear": _linear,
    "Embedding": _embedding,
    "MultiheadAttention": _attention,
    "TransformerEncoderLayer": _encoder_layer,
    "TransformerEncoder": _encoder,
    "LayerNorm": _layer_norm,
    "RMSNorm": _layer_norm,
    "GroupNorm": _group_norm,
    **dict.fromkeys(
        ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"), _convolution
    ),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "InstanceNorm2d"), _batch_norm),
}
"""Layers of torch by the name of their class."""
