"""State dicts of PyTorch (`.bin`, `.pt`, `.pth`), read by a reader that cannot run code.

Such a file is a zip archive: a pickle that says which tensors there are, and their bytes, uncompressed. The
pickle is walked opcode by opcode, and only what a state dict is made of is understood: words, numbers, lists,
mappings, and the few names of `NAMES`. Nothing is imported or called; any other name is refused, and told.
Tensors are memory maps of the archive. Format: PyTorch, torch/serialization.py.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from conjoin.errors import FileError, listed
from conjoin.transfer.checkpoints.archive import Stored, read_archive
from conjoin.transfer.checkpoints.header import SIZES, Entry

ENDS = (".bin", ".pt", ".pth")
"""Ends of names of files that this reader is for."""
MOST_PICKLE, MOST_STEPS, MOST_AXES = 32_000_000, 2_000_000, 32
STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
ORDERED, TENSOR, TENSOR3, PARAMETER, UNTYPED = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "torch.storage UntypedStorage",
)
NAMES = frozenset(
    (ORDERED, TENSOR, TENSOR3, PARAMETER, UNTYPED, *(f"torch {n}" for n in (*STORAGES, *DTYPES)))
)
"""Every name that a pickle may hold, as "module name"."""
HOMES = ("state_dict", "model", "module", "model_state_dict")
"""Keys under which a training run keeps the state dict."""


@dataclass(frozen=True, slots=True)
class Lying:
    """A tensor of the archive: its entry, counted from the file's start, and strides in elements; () is in
    order.
    """

    entry: Entry
    strides: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that the pickle may hold; nothing is behind it."""

    text: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """Bytes of the archive. dtype: None is bytes whose type the tensor tells. count: of elements."""

    key: str
    dtype: str | None
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    dtype: str
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pickled(path: Path) -> dict[str, Lying]:
    """The tensors of a state dict, by name. Raises FileError: where the file is of another format or holds
    anything else than tensors, with the name that it should not hold; where a tensor does not fit its bytes.
    """
    _check_start(path)
    entries = read_archive(path)
    home, told = _told(path, entries)
    order = entries.get(f"{home}byteorder")
    if order is not None and _bytes(path, order, 16) != b"little":
        raise FileError(f"{path}: its bytes are in big-endian order, which is not read")
    tensors = _tensors(path, _Walk(path, _bytes(path, told, MOST_PICKLE)).answer())
    return {name: _lying(path, name, t, home, entries) for name, t in tensors.items()}


def _check_start(path: Path) -> None:
    try:
        with path.open("rb") as file:
            first = file.read(4)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    if first == b"PK\x03\x04":
        return
    if first[:1] == b"\x80":
        raise FileError(
            f"{path} is a plain pickle, or of the format before PyTorch 1.6; neither is read. Load it where "
            "you trust it, and save it as safetensors"
        )
    raise FileError(f"{path} is no checkpoint of PyTorch, or it is cut off")


def _told(path: Path, entries: Mapping[str, Stored]) -> tuple[str, Stored]:
    """The folder inside the archive, and its pickle."""
    homes = [n.removesuffix("data.pkl") for n in entries if n == "data.pkl" or n.endswith("/data.pkl")]
    if len(homes) != 1:
        raise FileError(f"{path}: a checkpoint of PyTorch has one data.pkl, this archive has {len(homes)}")
    if any(n.startswith(f"{homes[0]}code/") or n == f"{homes[0]}constants.pkl" for n in entries):
        raise FileError(f"{path} is a program (TorchScript), not weights; it is not read")
    return homes[0], entries[f"{homes[0]}data.pkl"]


def _bytes(path: Path, place: Stored, most: int) -> bytes:
    if place.size > most:
        raise FileError(f"{path}: an entry of {place.size} bytes is larger than any of its kind")
    with path.open("rb") as file:
        file.seek(place.start)
        return file.read(place.size)


def _tensors(path: Path, found: Any) -> dict[str, _Tensor]:
    """The tensors of what the pickle says; of a training run's file, those of its state dict."""
    if isinstance(found, dict) and not any(isinstance(v, _Tensor) for v in found.values()):
        found = next((found[k] for k in HOMES if isinstance(found.get(k), dict)), found)
    if not isinstance(found, dict):
        raise FileError(f"{path} holds no state dict, but {type(found).__name__}")
    other = [str(k)[:80] for k, v in found.items() if not isinstance(v, _Tensor) or not isinstance(k, str)]
    if other:
        raise FileError(f"{path} holds more than tensors: {listed(other, 4)}")
    return found


def _lying(path: Path, name: str, tensor: _Tensor, home: str, entries: Mapping[str, Stored]) -> Lying:
    where = f"{path}, tensor {name[:80]!r}"
    place = entries.get(f"{home}data/{tensor.storage.key}")
    if place is None:
        raise FileError(f"{where}: the archive has no entry data/{tensor.storage.key[:40]!r}")
    size, count = SIZES[tensor.dtype], math.prod(tensor.shape)
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    held = place.size // size
    own = tensor.storage.count * (size if tensor.storage.dtype else 1)
    if own > place.size or (count and tensor.start + last >= held):
        raise FileError(
            f"{where}: {tensor.dtype} of shape {list(tensor.shape)} reaches beyond its {place.size} bytes"
        )
    if not count:
        return Lying(Entry(name, tensor.dtype, tensor.shape, place.start, place.start))
    if count > last + 1:
        raise FileError(f"{where}: its strides repeat elements, which is not read")
    begin = place.start + tensor.start * size
    ordered = _in_order(tensor.shape, tensor.strides)
    stop = begin + (count if ordered else last + 1) * size
    return Lying(Entry(name, tensor.dtype, tensor.shape, begin, stop), () if ordered else tensor.strides)


def _in_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    step = 1
    for count, stride in zip(reversed(shape), reversed(strides), strict=True):
        if count != 1 and stride != step:
            return False
        step *= count
    return True


class _Mark:
    """Where a list of arguments begins on the stack."""


MARK = _Mark()


class _Walk:
    """Walks a pickle; what it makes are words, numbers, lists, mappings and the records of this file."""

    def __init__(self, path: Path, raw: bytes) -> None:
        self.path, self.raw = path, raw
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def refuse(self, message: str) -> NoReturn:
        raise FileError(f"{self.path}: {message}")

    def answer(self) -> Any:
        """What the pickle makes. Raises FileError."""
        try:
            for step, (code, argument, _) in enumerate(pickletools.genops(self.raw)):
                if step > MOST_STEPS:
                    self.refuse("its pickle has more steps than any state dict needs")
                if code.name == "STOP":
                    break
                self.one(code.name, argument)
            return self.stack.pop()
        except FileError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise FileError(f"{self.path}: its pickle makes no sense ({error!r:.80})") from error

    def one(self, code: str, argument: Any) -> None:
        if code in ("PROTO", "FRAME"):
            return
        if code in VALUES:
            self.stack.append(argument)
        elif code in CONSTANTS:
            self.stack.append(CONSTANTS[code]())
        elif code in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[int(argument)] = self.stack[-1]
        elif code == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif code in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[int(argument)])
        elif code in STEPS:
            getattr(self, STEPS[code])()
        elif code in SMALL:
            kept = self.stack[-SMALL[code] :]
            if len(kept) < SMALL[code]:
                self.refuse("its pickle takes more than there is")
            self.stack[-SMALL[code] :] = [tuple(kept)]
        elif code == "GLOBAL":
            self.name(*str(argument).split(" ", 1))
        else:
            self.refuse(f"its pickle holds {code}, which no state dict needs; nothing in it is run")

    def marked(self) -> list[Any]:
        """What lies above the last mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not MARK:
            place -= 1
            if place < 0:
                self.refuse("its pickle has no mark where one is needed")
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def to_tuple(self) -> None:
        self.stack.append(tuple(self.marked()))

    def to_list(self) -> None:
        self.stack.append(self.marked())

    def append(self) -> None:
        value = self.stack.pop()
        self.extend([value])

    def appends(self) -> None:
        self.extend(self.marked())

    def extend(self, values: Any) -> None:
        if not isinstance(self.stack[-1], list):
            self.refuse("its pickle appends to something that is no list")
        self.stack[-1].extend(values)

    def to_dict(self) -> None:
        values = self.marked()
        self.stack.append({})
        self.fill(values)

    def item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.fill([key, value])

    def items(self) -> None:
        self.fill(self.marked())

    def fill(self, values: Any) -> None:
        home = self.stack[-1]
        if not isinstance(home, dict) or len(values) % 2:
            self.refuse("its pickle fills something that is no mapping")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int | float | bytes | None):
                self.refuse("a key of its pickle is neither a word nor a number")
            home[key] = value

    def stacked_name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def name(self, module: Any, name: Any = "") -> None:
        text = f"{module} {name}"
        if text not in NAMES:
            self.refuse(
                f"its pickle names {f'{module}.{name}'[:120]!r}, which no state dict needs; "
                "it could run code, and is refused"
            )
        self.stack.append(_Name(text))

    def storage(self) -> None:
        """('storage', type, key, place, number of elements)."""
        found = self.stack.pop()
        if not isinstance(found, tuple) or len(found) < 5 or found[0] != "storage":
            self.refuse("its pickle points to something that is no storage")
        kind, key, count = found[1], found[2], found[4]
        if not isinstance(kind, _Name) or not isinstance(key, str) or not _count(count):
            self.refuse("a storage of its pickle makes no sense")
        plain = kind.text.removeprefix("torch ")
        if kind.text != UNTYPED and plain not in STORAGES:
            self.refuse(f"a storage of its pickle is of the type {plain[:40]!r}, which is not known")
        self.stack.append(_Storage(key, STORAGES.get(plain), count))

    def build(self) -> None:
        """What belongs to a mapping beside its items (the versions of modules) is left out."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            self.refuse("its pickle sets the state of something that is no mapping")

    def reduce(self) -> None:
        given, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name) or not isinstance(given, tuple):
            self.refuse("its pickle calls something that is no name")
        if name.text == ORDERED:
            self.stack.append({})
            for pair in given[0] if given else ():
                self.fill(list(pair))
        elif name.text == PARAMETER and given and isinstance(given[0], _Tensor):
            self.stack.append(given[0])
        elif name.text in (TENSOR, TENSOR3) and len(given) >= 6:
            self.tensor(given, given[6] if name.text == TENSOR3 else None)
        else:
            self.refuse(f"its pickle calls {name.text.replace(' ', '.')!r} with what does not fit")

    def tensor(self, given: Any, kind: Any) -> None:
        storage, start, shape, strides = given[:4]
        dtype = storage.dtype if isinstance(storage, _Storage) else None
        if isinstance(kind, _Name):
            dtype = DTYPES.get(kind.text.removeprefix("torch "))
        sound = isinstance(storage, _Storage) and _count(start) and _counts(shape) and _counts(strides)
        if not sound or dtype is None or len(shape) != len(strides) or len(shape) > MOST_AXES:
            self.refuse("a tensor of its pickle makes no sense")
        if storage.dtype not in (None, dtype):
            self.refuse("a tensor of its pickle is of another type than its storage")
        self.stack.append(_Tensor(storage, dtype, start, shape, strides))


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _counts(value: Any) -> bool:
    return isinstance(value, tuple) and all(_count(v) for v in value)


VALUES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "BINFLOAT", "FLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
)
"""Opcodes that hold a word or a number."""
CONSTANTS: Mapping[str, Any] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: MARK,
}
SMALL = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
STEPS = {
    "TUPLE": "to_tuple",
    "LIST": "to_list",
    "DICT": "to_dict",
    "APPEND": "append",
    "APPENDS": "appends",
    "SETITEM": "item",
    "SETITEMS": "items",
    "STACK_GLOBAL": "stacked_name",
    "BINPERSID": "storage",
    "BUILD": "build",
    "REDUCE": "reduce",
}
"""Opcode -> step of the walk."""
