"""How the axes of a network's tensors hang together, from names and shapes: chains, transformers, sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from conjoin.errors import InputError
from conjoin.transfer.weights.matching import Shape, normalised
from conjoin.transfer.weights.permutations import Permutations

Kind = Literal["chain", "transformer", "traced", "sizes"]
WIDTH = "width "
"""Start of the names of groups that are only guessed by their size."""


@dataclass(frozen=True, slots=True)
class Wired:
    """Which axes share their units, and over which a layer sums.

    groups: axes that share an order; an axis without a group stays as it is: inputs of the network, classes,
    tokens, positions, kernels. inputs: tensor -> the axis that is summed over, where it has one: a unit
    that stands c times gives 1/c there. kind: "chain", "transformer" (by names), "traced" (by running a
    module's graph), or "sizes": not known, then axes of equal size are one group.
    """

    groups: Permutations
    inputs: Mapping[str, int]
    kind: Kind

    def group(self, name: str, axis: int) -> str | None:
        """The group of one axis, if any."""
        axes = self.groups.axes.get(name, ())
        return axes[axis] if axis < len(axes) else None

    def sure(self) -> Permutations:
        """The groups whose units may change places: without attention whose count of heads is not known."""

        def kept(group: str | None) -> str | None:
            unknown = group is not None and group.endswith(_HEADS_OF) and group not in self.groups.units
            return None if unknown else group

        axes = {n: tuple(map(kept, every)) for n, every in self.groups.axes.items()}
        return Permutations(axes, self.groups.units, self.groups.parts)


_HEADS_OF = " heads"
_END = r"\.?(weight|bias|kernel)?$"
_TABLE = re.compile(
    r"(^|[._])(wte|wpe|emb|embed\w*|tok_embed\w*|embeddings?|shared|positional_embedding)" + _END
)
_QKV = re.compile(
    r"(^|[._])(qkv|wqkv|query_key_value|in_proj|in_proj_weight|in_proj_bias|c_attn|qkv_proj)" + _END
)
_HEADS = re.compile(
    r"(^|[._])(q|k|v|wq|wk|wv|query|key|value|[qkv]_proj|[qkv]_lin|to_[qkv]|query_proj|key_proj|value_proj)"
    + _END
)
_JOIN = re.compile(
    r"(attn|attention|selfattention|self_attn|crossattention|encdecattention|mha|msa)\w*[._]"
    r"(o|wo|proj|o_proj|out_proj|out_lin|c_proj|dense|to_out|to_out\.0|output\.dense|out|projection)" + _END
)
_TWO = re.compile(r"(^|[._])(gate_up_proj|w12)" + _END)
_IN = re.compile(
    r"(^|[._])(up_proj|gate_proj|fc1|linear1|lin1|intermediate\.dense|c_fc|wi|wi_0|wi_1|w1|w3|fc_in|mlp\.0|"
    r"ffn\.0|feed_forward\.0|dense_h_to_4h|pwconv1)" + _END
)
_OUT = re.compile(
    r"(^|[._])(down_proj|fc2|linear2|lin2|output\.dense|mlp\.c_proj|wo|w2|fc_out|mlp\.[23]|ffn\.[23]|"
    r"feed_forward\.[23]|dense_4h_to_h|pwconv2)" + _END
)
_HEAD_NORM = re.compile(r"[._][qk]_?(norm|layernorm|ln)" + _END)
_HEAD = re.compile(r"(^|[._])(lm_head|score|classifier|head|fc|decoder|qa_outputs|output|embed_out)" + _END)


def is_table(name: str, shape: Shape) -> bool:
    """Whether it is a table of embeddings, rows by tokens or positions: by its name.

    >>> is_table("bert.embeddings.word_embeddings.weight", (9, 4)), is_table("embed.bias", (4,))
    (True, False)
    """
    plain = normalised(name)
    return len(shape) == 2 and bool(_TABLE.search(plain)) and not _IN.search(plain)


def wire(shapes: Mapping[str, Shape], heads: int | None = None) -> Wired:
    """The wiring of a network, from names and shapes in the order of the layers.

    heads: of attention, where known: whole heads then move. A transformer is known by the usual names of its
    projections; else a plain chain where the sizes of all layers fit one after the other; else by sizes.

    >>> wire({"a.weight": (4, 2), "a.bias": (4,), "b.weight": (3, 4)}).kind
    'chain'
    """
    named = _transformer(shapes, heads)
    if named is None:
        return _chain(shapes) or _by_size(shapes)
    return named if _sound(named, shapes) else _by_size(shapes)


def _sound(wired: Wired, shapes: Mapping[str, Shape]) -> bool:
    """Whether the sizes of every group go together: names alone may mislead, as where experts differ."""
    try:
        wired.groups.sizes({n: np.broadcast_to(0, s) for n, s in shapes.items()})
    except InputError:
        return False
    return True


def _chain(shapes: Mapping[str, Shape]) -> Wired | None:
    """As `permutations.chain`, or None where it is none."""
    layers = [n for n, s in shapes.items() if len(s) >= 2]
    if not layers or any(is_table(n, shapes[n]) for n in layers):
        return None
    modules = {n.rpartition(".")[0]: n for n in layers if "." in n}
    axes: dict[str, tuple[str | None, ...]] = {}
    now: str | None = None
    for name, shape in shapes.items():
        if len(shape) >= 2:
            if 0 in shape or (now and shape[1] % shapes[now][0]):
                return None
            if now and len(shape) > 2 and shape[1] != shapes[now][0]:
                return None
            axes[name] = (None if name == layers[-1] else name, now)
            now = name
        elif len(shape) == 1:
            layer = modules.get(name.rpartition(".")[0], now)
            if layer is None or shape[0] != shapes[layer][0]:
                return None
            axes[name] = (None if layer == layers[-1] else layer,)
    return Wired(Permutations(axes), dict.fromkeys(layers, 1), "chain")


def _by_size(shapes: Mapping[str, Shape]) -> Wired:
    layers = [n for n, s in shapes.items() if len(s) >= 2 and not is_table(n, s)]
    axes: dict[str, tuple[str | None, ...]] = {}
    for name, shape in shapes.items():
        found: list[str | None] = [f"{WIDTH}{size}" for size in shape[:2]]
        if is_table(name, shape):
            found[0] = None
        elif len(shape) >= 2:
            if name == layers[0] or (len(shape) > 2 and shape[1] == 1):
                found[1] = None  # inputs of the network; convolutions of one channel each
            if name == layers[-1]:
                found[0] = None
        elif layers and name.rpartition(".")[0] == layers[-1].rpartition(".")[0]:
            found[:1] = [None] * len(shape)
        axes[name] = tuple(found)
    summed = dict.fromkeys(layers, 1)
    return Wired(Permutations(axes), summed, "sizes")


def _transformer(shapes: Mapping[str, Shape], heads: int | None) -> Wired | None:
    plain = {n: normalised(n) for n in shapes}
    joins = [n for n, s in shapes.items() if len(s) == 2 and _JOIN.search(plain[n])]
    if not joins or not any(_QKV.search(p) or _HEADS.search(p) for p in plain.values()):
        return None
    turned = any(  # Conv1D of GPT-2 holds (inputs, units)
        "c_attn" in plain[n] and len(s) == 2 and s[1] == 3 * s[0] for n, s in shapes.items()
    )
    hidden = shapes[joins[0]][1 if turned else 0]
    axes: dict[str, tuple[str | None, ...]] = {}
    parts: dict[str, tuple[int, ...]] = {}
    inputs: dict[str, int] = {}
    pooled = any(re.search(r"(^|\.)pooler\.dense", p) for p in plain.values())
    for name, shape in shapes.items():
        units, inner, many = _roles(plain[name], name, shape, pooled)
        flip = turned and len(shape) == 2 and re.search(r"c_(attn|proj|fc)\.", plain[name])
        if len(shape) == 1:
            axes[name], parts[name] = (units,), (many,)
        elif is_table(name, shape) or inner == "table":
            axes[name] = (*[None] * (len(shape) - 1), "hidden")
        elif len(shape) >= 2:
            axes[name] = (inner, units) if flip else (units, inner)
            parts[name] = (1, many) if flip else (many, 1)
            inputs[name] = 0 if flip else 1
    for name, every in axes.items():  # what is called hidden and has another size is something else
        axes[name] = tuple(
            None if g == "hidden" and n != hidden else g for g, n in zip(every, shapes[name], strict=False)
        )
    counts = {g: heads for g in {a for x in axes.values() for a in x if a and a.endswith(_HEADS_OF)} if heads}
    groups = Permutations(axes, counts, {n: p for n, p in parts.items() if max(p) > 1})
    return Wired(groups, inputs, "transformer")


def _roles(plain: str, name: str, shape: Shape, pooled: bool) -> tuple[str | None, str | None, int]:
    """Group of the units, group of the inputs, and parts, of one tensor of a transformer."""
    block = _block(name)
    place = block or "net"
    if _HEAD_NORM.search(plain):
        return None, None, 1
    if _QKV.search(plain):
        return f"{place} heads", "hidden", 3
    if _JOIN.search(plain):
        return "hidden", f"{place} heads", 1
    if _HEADS.search(plain) and block is not None:
        return f"{place} heads", "hidden", 1
    if _TWO.search(plain):
        return f"{place} inner", "hidden", 2
    if block is not None and _OUT.search(plain):
        return "hidden", f"{place} inner", 1
    if block is not None and _IN.search(plain):
        return f"{place} inner", "hidden", 1
    if len(shape) == 1 and block is None and _HEAD.search(plain):
        return None, None, 1
    if re.search(r"(^|\.)pooler\.dense", plain):
        return "pooler", "hidden", 1
    if len(shape) == 2 and block is None and _HEAD.search(plain):
        return None, "pooler" if pooled and "lm_head" not in plain else "hidden", 1
    if len(shape) >= 4:
        return "hidden", None, 1
    if len(shape) == 3:
        return None, "table", 1
    return ("hidden", None, 1) if len(shape) == 1 else ("hidden", "hidden", 1)


def _block(name: str) -> str | None:
    """The name up to its first number, where there is one; attention in a block with a crossing one apart."""
    parts = re.split(r"[./]", name)
    at = next((i for i, p in enumerate(parts) if p.isdigit() and i < len(parts) - 1), None)
    if at is None:
        return None
    cross = next(
        (p for p in parts[at + 1 :] if re.search(r"cross|encdec|encoder_attn|multihead", p.lower())), ""
    )
    return ".".join(parts[: at + 1]) + (f" {cross}" if cross else "")
