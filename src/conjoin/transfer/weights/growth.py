"""Layers that grow and compute the same: wider and deeper (Net2Net, Chen et al. 2016, arXiv 1511.05641)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from conjoin.errors import InputError

if TYPE_CHECKING:
    from conjoin.outputs import Array


@dataclass(frozen=True, slots=True)
class Norm:
    """A batch norm of a layer's units: scale (x - mean) / sqrt(variance + epsilon) + shift, each (units,)."""

    scale: Array
    shift: Array
    mean: Array
    variance: Array
    epsilon: float = 1e-5


@dataclass(frozen=True, slots=True)
class Layer:
    """A dense layer, weight (units, inputs), or a convolution, (units, inputs, height, width).

    Then comes the norm, where there is one, then the activation.
    """

    weight: Array
    bias: Array | None = None
    norm: Norm | None = None

    def __post_init__(self) -> None:
        units = len(self.weight) if self.weight.ndim else 0
        if self.weight.ndim not in (2, 4) or 0 in self.weight.shape or self.weight.dtype.kind != "f":
            raise InputError(f"a layer is dense (2 axes) or NCHW (4 axes) of floats, not {self.weight.shape}")
        for array in self._vectors():
            if array.shape != (units,):
                raise InputError(
                    f"a layer of {units} units cannot have a bias or norm of shape {array.shape}"
                )

    def _vectors(self) -> list[Array]:
        norm = self.norm
        kept = [] if norm is None else [norm.scale, norm.shift, norm.mean, norm.variance]
        return kept if self.bias is None else [self.bias, *kept]

    @property
    def units(self) -> int:
        """How many units, or channels, it answers."""
        return len(self.weight)

    def take(self, units: Array) -> Layer:
        """The layer with these of its units, in this order; a unit may stand more than once."""
        norm = self.norm and replace(
            self.norm,
            scale=self.norm.scale[units],
            shift=self.norm.shift[units],
            mean=self.norm.mean[units],
            variance=self.norm.variance[units],
        )
        return Layer(self.weight[units], None if self.bias is None else self.bias[units], norm)


def wider(
    layer: Layer, following: Layer, width: int, *, noise: float = 0.0, seed: int = 0
) -> tuple[Layer, Layer]:
    """The two layers with `width` units between them, computing the same (Net2Wider).

    g(j) = j for the old units, else drawn evenly. Unit j is unit g(j), and of c equal units each gives 1/c of
    what the one gave: W1[j] = W1[g(j)], W2[:, j] = W2[:, g(j)] / c. Between a convolution and a dense layer
    channels are flattened as (channels, height, width). Any activation that works unit by unit, pooling too.

    noise: normal noise on the outgoing weights of units that are copied, as a part of their standard
    deviation, so that equal units part in training; with noise the function is the same only nearly.
    Raises InputError.

    >>> first, second = wider(Layer(np.ones((1, 2))), Layer(np.ones((3, 1))), 2)
    >>> second.weight[0]
    array([0.5, 0.5])
    """
    old, inputs = layer.units, following.weight.shape[1]
    if width < old:
        raise InputError(f"a layer of {old} units cannot be widened to {width}")
    if inputs % old or (inputs != old and following.weight.ndim != 2):
        raise InputError(f"a layer of {old} units cannot come before one of {inputs} inputs")
    if not 0 <= noise < np.inf:
        raise InputError(f"noise must be 0 or more, not {noise}")
    rng = np.random.default_rng(seed)
    units = np.concatenate([np.arange(old), rng.integers(0, old, width - old)])
    counts = np.bincount(units, minlength=old)[units]
    spread = inputs // old
    columns = (units[:, None] * spread + np.arange(spread)).ravel()
    shared = np.repeat(counts, spread).reshape(-1, *[1] * (following.weight.ndim - 2))
    weight = np.take(following.weight, columns, axis=1) / shared
    if noise:
        drawn = rng.standard_normal(weight.shape) * (noise * float(weight.std()))
        weight = weight + np.where(shared > 1, drawn, 0.0)
    return layer.take(units), replace(following, weight=weight.astype(following.weight.dtype))


def deeper(
    layer: Layer, *, kernel: int = 3, activation: Literal["relu", "linear"] = "relu", norm: bool | None = None
) -> Layer:
    """A layer to put after `layer` and its activation, which answers what it is given (Net2Deeper).

    Dense: the unit matrix. Convolution: one in the middle of an odd kernel, channel by channel; for stride 1
    and padding kernel // 2. Bias 0, where `layer` has one. norm: with a batch norm that changes nothing (mean
    0, variance 1, scale sqrt(1 + epsilon)); as `layer` by default. The activation after it must give back
    what it gave: f(f(x)) = f(x), which relu and linear do. Raises InputError.

    >>> deeper(Layer(np.ones((2, 5)))).weight
    array([[1., 0.],
           [0., 1.]])
    """
    if activation not in ("relu", "linear"):
        raise InputError(f"only relu and linear give back what they gave, {activation!r} does not")
    units, dtype = layer.units, layer.weight.dtype
    weight = np.eye(units, dtype=dtype)
    if layer.weight.ndim == 4:
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"the kernel must be odd, so that it has a middle, not {kernel}")
        middle = np.zeros((kernel, kernel), dtype)
        middle[kernel // 2, kernel // 2] = 1
        weight = weight[:, :, None, None] * middle
    bias = None if layer.bias is None else np.zeros(units, layer.bias.dtype)
    wanted = layer.norm is not None if norm is None else norm
    return Layer(weight, bias, _neutral(units, layer) if wanted else None)


def _neutral(units: int, layer: Layer) -> Norm:
    epsilon = layer.norm.epsilon if layer.norm else 1e-5
    zero, one = np.zeros(units, layer.weight.dtype), np.ones(units, layer.weight.dtype)
    return Norm((one * np.sqrt(1 + epsilon)).astype(one.dtype), zero, zero.copy(), one, epsilon)
