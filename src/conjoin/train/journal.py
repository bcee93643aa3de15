"""The journal of a run in a folder: each finished member, so that a killed run goes on where it was.

`journal.json` says which run it is; `NAME.json` and `NAME.safetensors` hold a member with its out-of-fold
answers. Files are written under another name and moved, so that what is there is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.errors import FileError, InputError
from conjoin.fusion.network_weights import NetworkWeights
from conjoin.graph.average import Average
from conjoin.graph.linear import Linear
from conjoin.graph.neighbours import Neighbours
from conjoin.graph.trees import Trees
from conjoin.outputs import Array
from conjoin.train.learners import LEARNERS, Fitted
from conjoin.train.portfolio import Entry
from conjoin.train.run import Tried

FORMAT = 1
PARTS: dict[str, Any] = {
    "trees": Trees,
    "linear": Linear,
    "neighbours": Neighbours,
    "network": NetworkWeights,
    "average": Average,
}
"""The parts that learners make, by the name under which they are stored."""


@dataclass(frozen=True, slots=True)
class Journal:
    """A folder and the fingerprint of the run that it belongs to."""

    folder: Path
    run: str

    @classmethod
    def open(cls, folder: str | os.PathLike[str], run: str, *, resume: bool) -> Journal:
        """Begin a journal, or go on with one.

        Raises InputError where the folder holds a journal and `resume` is False, or one of other data or
        settings; FileError where the folder cannot be used.
        """
        path = Path(folder)
        head = path / "journal.json"
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not head.exists():
                _write(head, json.dumps({"format": FORMAT, "run": run}).encode())
                return cls(path, run)
            found = json.loads(head.read_bytes())
        except (OSError, ValueError) as error:
            raise FileError(f"the work folder {str(folder)!r} cannot be used: {error}") from error
        if not resume:
            raise InputError(
                f"the work folder {str(folder)!r} holds a run already; resume=True goes on with it, "
                "another folder begins anew"
            )
        if found != {"format": FORMAT, "run": run}:
            raise InputError(
                f"the work folder {str(folder)!r} is of a run with other data or settings; "
                "give the same ones, or another folder"
            )
        return cls(path, run)

    def save(self, tried: Tried) -> None:
        """Store a member. Raises FileError."""
        from safetensors.numpy import save

        arrays: dict[str, Array] = {"answers": tried.fitted.answers}
        text = {
            "name": tried.entry.name,
            "learner": tried.entry.learner,
            "settings": dict(tried.entry.settings),
            "seed": tried.seed,
            "record": dict(tried.fitted.record),
            "loss": tried.loss,
            "seconds": tried.seconds,
            "model": _packed(tried.fitted.model, "model", arrays),
        }
        data = save({k: np.ascontiguousarray(v) for k, v in arrays.items()})
        text["sha256"] = hashlib.sha256(data).hexdigest()
        try:
            _write(self.folder / f"{tried.entry.name}.safetensors", data)
            _write(self.folder / f"{tried.entry.name}.json", json.dumps(text).encode())
        except OSError as error:
            raise FileError(f"the journal in {str(self.folder)!r} cannot be written: {error}") from error

    def load(self) -> dict[str, Tried]:
        """The members stored so far; one that is damaged is left out, and fitted again."""
        found = {}
        for path in sorted(self.folder.glob("*.json")):
            if path.name != "journal.json":
                try:
                    tried = _read(path)
                except (OSError, ValueError, KeyError, TypeError, InputError):
                    continue
                found[tried.entry.name] = tried
        return found


def _read(path: Path) -> Tried:
    from safetensors.numpy import load

    text = json.loads(path.read_bytes())
    data = path.with_suffix(".safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != text["sha256"] or text["learner"] not in LEARNERS:
        raise ValueError("damaged")
    arrays = load(data)
    entry = Entry(text["name"], text["learner"], text["settings"], 1.0, frozenset())
    fitted = Fitted(_unpacked(text["model"], "model", arrays), arrays["answers"], text["record"])
    return Tried(entry, int(text["seed"]), fitted, float(text["loss"]), float(text["seconds"]))


def _packed(part: Any, prefix: str, arrays: dict[str, Array]) -> dict[str, Any]:
    kind = next(name for name, made in PARTS.items() if type(part) is made)
    own, meta = part.pack()
    arrays |= {f"{prefix}/{k}": v for k, v in own.items()}
    children = {k: _packed(c, f"{prefix}/{k}", arrays) for k, c in part.children().items()}
    return {"part": kind, "meta": meta, "arrays": list(own), "children": children}


def _unpacked(json: Mapping[str, Any], prefix: str, arrays: Mapping[str, Array]) -> Any:
    children = {k: _unpacked(c, f"{prefix}/{k}", arrays) for k, c in json["children"].items()}
    own = {k: arrays[f"{prefix}/{k}"] for k in json["arrays"]}
    return PARTS[json["part"]].unpack(own, json["meta"], children)


def _write(path: Path, data: bytes) -> None:
    """The whole file or none of it."""
    fresh = path.with_name(path.name + ".new")
    with open(fresh, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
