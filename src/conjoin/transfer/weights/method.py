"""What a merging method is, what it is given, and the checks of its parameters."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from conjoin.errors import InputError, listed, nearest

if TYPE_CHECKING:
    from conjoin.outputs import Array

BLOCK = 1 << 16
"""Elements that are worked on at once: those of several models stay in a core's own cache."""
ANSWERS = 1 << 19
"""Elements of the answer that are written to a file at once."""
FULL = {2: 0x7F80, 4: 0x7F80_0000, 8: 0x7FF0 << 48}
"""Bytes of a stored weight -> the bits that are all set in NaN and infinite numbers alone."""
GROUPS, NEIGHBOURS = 1024, 64
"""A sample of a tensor: so many groups of so many neighbours."""


class Rescale(str):
    """`rescale` of a recipe: false, true (the L1 norm stays, as in mergekit) or paper (over the density)."""

    def __new__(cls, value: object) -> Rescale:
        """Raises ValueError on another word."""
        found = str(value).lower()
        if found not in ("true", "false", "paper"):
            raise ValueError(found)
        return super().__new__(cls, found)


TOLD = {float: "a number", int: "a whole number", bool: "true or false", Rescale: "true, false or paper"}
"""What a parameter of each type must be, for people."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a method. kind: of its value. per_model: each model has its own. default: None is
    required.

    low, high: bounds of a number, both allowed. optional: may be absent altogether.
    """

    kind: type
    default: Any = None
    per_model: bool = False
    low: float = -math.inf
    high: float = math.inf
    optional: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """Tensors of one name that are to become one.

    name: of the tensor. tensors: of the models, (shape) each, as stored: bfloat16 bits as uint16, float32 or
    float64, all of one type. base: the base model's, or None. shared: parameters of the tensor. each:
    parameters of the models, (M,). seed: of random methods. out: the array that the answer is written into,
    of the same shape; its type may be another one. write: takes the answer instead of `out`, flat, in order:
    (start, numbers of out's type), in formulas that use `parts`. tell: is called by formulas that look for
    NaN and infinite numbers in the tensors, where there are some.
    """

    name: str
    tensors: tuple[Array, ...]
    base: Array | None
    shared: Mapping[str, Any]
    each: Mapping[str, tuple[Any, ...]]
    seed: int
    out: Array
    write: Callable[[int, Array], None] | None = None
    tell: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(self.out.size)

    @property
    def work(self) -> type[np.floating[Any]]:
        """The type that sums are kept in: float32 for bfloat16, which has 8 bits, else float64."""
        return np.float32 if self.tensors[0].dtype == np.uint16 else np.float64

    @property
    def start(self) -> Array:
        """The base model's tensor. Raises InputError where there is none."""
        if self.base is None:
            raise InputError(f"{self.name}: the base model has no such tensor")
        return self.base

    def numbers(self, values: Iterable[float]) -> Array:
        """Coefficients in the type of the sums."""
        return np.array(list(values), dtype=self.work)

    def number(self, value: float) -> Any:
        """A coefficient in the type of the sums."""
        return self.work(value)

    def single(self, value: float) -> Any:
        """A float32."""
        return np.float32(value)

    def blocks(self, step: int = BLOCK) -> Iterator[slice]:
        """Slices of the flattened tensor."""
        for start in range(0, self.size, step):
            yield slice(start, min(start + step, self.size))

    def parts(self, step: int = BLOCK) -> Iterator[tuple[slice, Array]]:
        """`blocks`, each with the array that the block's answer is to be put into before the next one."""
        if self.write is None:
            out = self.flat(self.out)
            yield from ((block, out[block]) for block in self.blocks(step))
            return
        held, begin, end = np.empty(min(self.size, max(step, ANSWERS)), self.out.dtype), 0, 0
        for block in self.blocks(step):
            if block.stop - begin > len(held):
                self.write(begin, held[: end - begin])
                begin = block.start
            end = block.stop
            yield block, held[block.start - begin : end - begin]
        if end > begin:
            self.write(begin, held[: end - begin])

    def sampled(self) -> Given:
        """The same of some elements from all over, in groups of neighbours; of all where there are few."""
        groups = self.size // NEIGHBOURS
        step = max(1, groups // GROUPS)
        if step == 1:
            return self
        step = step * NEIGHBOURS - 1  # odd, so that groups begin at other columns of a matrix
        count = self.size // step

        def some(array: Array) -> Array:
            held = self.read(array)[: count * step].reshape(count, step)
            return np.ascontiguousarray(held[:, :NEIGHBOURS]).reshape(-1)

        tensors = tuple(some(t) for t in self.tensors)
        base = None if self.base is None else some(self.base)
        out = np.empty(count * NEIGHBOURS, self.out.dtype)
        return Given(self.name, tensors, base, self.shared, self.each, self.seed, out)

    def flat(self, array: Array) -> Array:
        """A tensor as (size,), without a copy where it lies in order."""
        return array.reshape(-1)

    def read(self, array: Array) -> Array:
        """A tensor of a model as (size,), for reading."""
        flat = array.reshape(-1)
        if isinstance(flat, np.ndarray):
            flat = flat.view(np.ndarray)
            flat.flags.writeable = False
        return flat

    def key(self, model: int) -> Any:
        """The key of a model's random draws for this tensor."""
        text = f"{self.seed}\0{self.name}\0{model}".encode()
        return np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))


class Stack:
    """Blocks of several tensors in the rows of one array, which is used again and again.

    given: of it, the base's elements come first where there is a base. step: elements of a block at most.
    look: whether to look for NaN and infinite numbers. full: whether there were some.
    """

    def __init__(self, given: Given, step: int = BLOCK, *, look: bool = False) -> None:
        tensors = given.tensors if given.base is None else (given.base, *given.tensors)
        self._flat = [given.read(t) for t in tensors]
        kind, count = self._flat[0].dtype, len(tensors) * min(step, given.size)
        held = np.zeros(-(-count // 4) * 4, kind)  # whole words
        self._rows, self._words = held[:count].reshape(len(tensors), -1), held.view(np.uint64)
        self._look = _looking(kind) if look else None
        self.full = False

    def __call__(self, block: slice) -> Array:
        """(tensors, step): the rows begin with the block's elements."""
        for row, tensor in zip(self._rows, self._flat, strict=True):
            np.copyto(row[: block.stop - block.start], tensor[block])
        if self._look is not None:  # what is left of earlier blocks was looked at then
            self.full = self._look(self._words) or self.full
        return self._rows


def _looking(kind: np.dtype[Any]) -> Callable[[Array], bool]:
    """Tells of words of stored weights whether there are NaN or infinite numbers."""
    from conjoin.kernels.finite import any_full, masks  # the compiler is loaded when it is needed

    parts = masks(FULL[kind.itemsize], 8 * kind.itemsize)
    return lambda words: bool(any_full(words, *parts))


@dataclass(frozen=True, slots=True)
class Method:
    """A way of merging. merge: fills `Given.out`. base: whether it takes a base model. least, most: models
    beside the base. random: whether it draws. paper: where it is from. elementwise: whether each number of
    the answer follows from those at its place alone.
    """

    name: str
    merge: Callable[[Given], None]
    base: Literal["none", "required", "optional"]
    parameters: Mapping[str, Parameter]
    least: int = 1
    most: int | None = None
    random: bool = False
    paper: str = ""
    elementwise: bool = False

    def check_models(self, count: int, *, base: bool) -> None:
        """Raises InputError where the method cannot take so many models, or needs a base, or takes none."""
        if base and self.base == "none":
            raise InputError(f"{self.name} takes no base model; leave base_model out")
        if not base and self.base == "required":
            raise InputError(f"{self.name} needs a base model (base_model)")
        if count < self.least or (self.most is not None and count > self.most):
            wanted = f"{self.least}" if self.most == self.least else f"{self.least} or more"
            beside = " beside the base" if self.base != "none" else ""
            raise InputError(f"{self.name} takes {wanted} models{beside}, not {count}")

    def check_names(self, names: Mapping[str, Any]) -> None:
        """Raises InputError on a parameter that the method does not have."""
        for name in names:
            if name not in self.parameters:
                known = listed(self.parameters) or "none"
                raise InputError(
                    f"{self.name} has no parameter {name!r}{nearest(name, self.parameters)}; it has {known}"
                )


def checked(method: Method, name: str, value: Any) -> Any:
    """A parameter's value in its type. Raises InputError.

    >>> checked(Method("m", print, "none", {"t": Parameter(float, low=0, high=1)}), "t", "5e-1")
    0.5
    """
    wanted = method.parameters[name]
    if value is None:
        if wanted.default is None and not wanted.optional:
            raise InputError(f"{method.name} needs the parameter {name!r}")
        return wanted.default
    try:
        found = _typed(wanted.kind, value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the parameter {name!r} of {method.name} must be {TOLD[wanted.kind]}, not {value!r:.60}"
        ) from error
    if wanted.kind in (float, int):
        if not math.isfinite(found):
            raise InputError(f"the parameter {name!r} of {method.name} must be finite, not {found}")
        if not wanted.low <= found <= wanted.high:
            raise InputError(
                f"the parameter {name!r} of {method.name} must lie in {wanted.low:g} to {wanted.high:g}, "
                f"not {found:g}"
            )
    return found


def _typed(kind: type, value: Any) -> Any:
    if kind is not bool:
        if kind is not Rescale and isinstance(value, bool):
            raise TypeError
        return kind(value)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise TypeError
    return bool(value)
