"""Hostile checkpoints of PyTorch: archives and pickles that a careless reader would run or trust.

`HOSTILE` is name -> (what makes the file's bytes, a word of the refusal). `tests/transfer/checkpoints` writes
each as a `.bin` and must see it refused, quickly, with nothing done on the way.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

PROTOCOL = b"\x80\x02"


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, call: Any = os.system, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments or ("touch owned",)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


def archive(
    told: bytes, data: dict[str, bytes] | None = None, *, method: int = 0, pickle_name: str = "data.pkl"
) -> bytes:
    """A zip archive as PyTorch writes it, with this pickle and these storages."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        file.writestr(f"archive/{pickle_name}", told)
        file.writestr("archive/byteorder", "little")
        for name, raw in (data or {}).items():
            file.writestr(f"archive/data/{name}", raw)
        file.writestr("archive/version", "3\n")
    return out.getvalue()


def tensor(
    *,
    count: int = 4,
    start: int = 0,
    shape: tuple[int, ...] = (4,),
    strides: tuple[int, ...] = (1,),
    kind: str = "Float",
) -> bytes:
    """A pickle of {"w": tensor}, by hand."""

    def whole(number: int) -> bytes:
        return f"L{number}L\n".encode()

    def several(numbers: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(whole(n) for n in numbers) + b"t"

    storage = (
        b"(X\x07\x00\x00\x00storage"
        + f"ctorch\n{kind}Storage\n".encode()
        + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    )
    return (
        PROTOCOL
        + b"ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + whole(count)
        + b"tQ"
        + whole(start)
        + several(shape)
        + several(strides)
        + b"\x89ccollections\nOrderedDict\n)RtRu."
    )


SOUND = {"0": bytes(16)}


def sound() -> bytes:
    """The archive that the others are made of; it is read."""
    return archive(tensor(), SOUND)


def _payload() -> bytes:
    return archive(pickle.dumps({"w": Payload()}, 2), SOUND)


def _stacked() -> bytes:
    return archive(pickle.dumps({"w": Payload(eval, "__import__('os').system('touch owned')")}, 4), SOUND)


def _by_import() -> bytes:
    """A name of torch that loads a pickle from bytes."""
    return archive(PROTOCOL + b"ctorch.storage\n_load_from_bytes\n(C\x00tR.", SOUND)


def _nested_attribute() -> bytes:
    return archive(b"\x80\x04\x8c\x05torch\x8c\x10_utils.os.system\x93.", SOUND)


def _replaced(old: bytes, new: bytes) -> bytes:
    raw = sound()
    if raw.count(old) == 0:
        raise ValueError(old)
    return raw.replace(old, new)


def _sizes(size: int) -> bytes:
    """The directory says another size of the storage than there is."""
    raw = bytearray(sound())
    place = raw.rindex(b"archive/data/0") - 46
    raw[place + 20 : place + 28] = struct.pack("<II", size, size)
    return bytes(raw)


def _offset(target: int) -> bytes:
    """The directory says that the storage begins elsewhere."""
    raw = bytearray(sound())
    place = raw.rindex(b"archive/data/0") - 46
    raw[place + 42 : place + 46] = struct.pack("<I", target)
    return bytes(raw)


def _overlapping() -> bytes:
    """Two entries of the directory are the same bytes."""
    raw = archive(tensor(), SOUND | {"1": bytes(16)})
    out = bytearray(raw)
    first, second = out.rindex(b"archive/data/0") - 46, out.rindex(b"archive/data/1") - 46
    out[second + 42 : second + 46] = out[first + 42 : first + 46]
    own = out.index(b"archive/data/1")
    return bytes(out[:own] + b"archive/data/1" + out[own + 14 :])


def _twice() -> bytes:
    return archive(tensor(), SOUND | {"1": bytes(16)}).replace(b"archive/data/1", b"archive/data/0")


def _deep(count: int) -> bytes:
    return archive(PROTOCOL + b")" + b"\x85" * count + b".", SOUND)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "code": (_payload, "names '(posix|nt).system'"),
    "code by another opcode": (_stacked, "names 'builtins.eval'|names '__builtin__.eval'"),
    "a name of torch that loads pickles": (_by_import, "torch.storage._load_from_bytes"),
    "a name behind a name": (_nested_attribute, "torch._utils.os.system"),
    "an object that is made": (
        lambda: archive(b"\x80\x02ccollections\nOrderedDict\n)\x81.", SOUND),
        "NEWOBJ",
    ),
    "an instance": (lambda: archive(b"(S'touch owned'\nios\nsystem\n.", SOUND), "INST"),
    "an extension": (lambda: archive(PROTOCOL + b"\x82\x01.", SOUND), "EXT1"),
    "a cut pickle": (lambda: archive(tensor()[:-20], SOUND), "no sense"),
    "no pickle": (lambda: archive(b"hello", SOUND), "no sense"),
    "an empty pickle": (lambda: archive(b"", SOUND), "no sense"),
    "marks without end": (lambda: archive(PROTOCOL + b"(" * 50_000 + b".", SOUND), "no state dict"),
    "tuples in tuples": (lambda: _deep(80_000), "no state dict"),
    "steps without end": (lambda: archive(PROTOCOL + b"]" * 100_000 + b".", SOUND), "more steps"),
    "a list in itself": (lambda: archive(PROTOCOL + b"]q\x00h\x00a.", SOUND), "no state dict"),
    "a number of a million digits": (
        lambda: archive(PROTOCOL + b"L" + b"9" * 1_000_000 + b"L\n.", SOUND),
        "no sense",
    ),
    "a word longer than the file": (lambda: archive(PROTOCOL + b"X\xff\xff\xff\x7fa.", SOUND), "no sense"),
    "no tensors": (lambda: archive(pickle.dumps({"w": 3}, 2), SOUND), "more than tensors: w"),
    "a list of nothing": (lambda: archive(pickle.dumps([1], 2), SOUND), "no state dict"),
    "a tensor beyond its storage": (lambda: archive(tensor(start=1), SOUND), "beyond its 16 bytes"),
    "a storage that lies": (lambda: archive(tensor(count=400, shape=(400,)), SOUND), "beyond its 16 bytes"),
    "a shape of a terabyte": (lambda: archive(tensor(shape=(1 << 40,), strides=(1,)), SOUND), "beyond"),
    "a shape repeated by strides": (lambda: archive(tensor(shape=(1 << 40,), strides=(0,)), SOUND), "repeat"),
    "a shape beyond 64 bits": (lambda: archive(tensor(shape=(1 << 70,), strides=(0,)), SOUND), "no sense"),
    "a negative stride": (lambda: archive(tensor(strides=(-1,)), SOUND), "no sense"),
    "a negative start": (lambda: archive(tensor(start=-8), SOUND), "no sense"),
    "fewer strides than axes": (lambda: archive(tensor(shape=(2, 2)), SOUND), "no sense"),
    "a storage of no type": (lambda: archive(tensor(kind="Evil"), SOUND), "torch.EvilStorage"),
    "a storage that is not there": (lambda: archive(tensor()), "no entry data"),
    "compressed entries": (lambda: archive(tensor(), SOUND, method=zipfile.ZIP_DEFLATED), "compressed"),
    "a bomb": (lambda: archive(tensor(), {"0": bytes(1 << 24)}, method=zipfile.ZIP_DEFLATED), "compressed"),
    "no data.pkl": (lambda: archive(tensor(), SOUND, pickle_name="other.pkl"), "one data.pkl"),
    "two pickles": (lambda: _replaced(b"archive/version", b"archiv/data.pkl"), "has 2"),
    "a way out": (lambda: _replaced(b"archive/data/0", b"../../../etc/p"), "leads out"),
    "an absolute path": (lambda: _replaced(b"archive/data/0", b"/etc/shadow.00"), "leads out"),
    "an entry twice": (_twice, "twice"),
    "entries that overlap": (_overlapping, "overlaps|own header"),
    "a size that lies": (lambda: _sizes(1 << 30), "beyond the archive"),
    "a size over a neighbour": (lambda: _sizes(30), "overlaps"),
    "a place that lies": (lambda: _offset(1 << 30), "cut off"),
    "a place inside the data": (lambda: _offset(3), "own header|cut off"),
    "a cut archive": (lambda: sound()[:-40], "no archive|cut off"),
    "half an archive": (lambda: sound()[: len(sound()) // 2], "no archive"),
    "a directory too large": (
        lambda: sound()[:-12] + struct.pack("<HII", 0xFFFF, 0x7FFFFFFF, 0) + b"\0\0",
        "more than",
    ),
    "bytes in the other order": (lambda: _replaced(b"little", b"biggie"), "big-endian"),
    "a plain pickle": (lambda: pickle.dumps({"w": Payload()}, 2), "plain pickle"),
    "something else": (lambda: b"GIF89a", "no checkpoint"),
    "nothing": (lambda: b"", "no checkpoint"),
}
"""What each file is -> how it is made, and what the refusal says."""
