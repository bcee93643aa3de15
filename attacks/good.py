"""A small sound bundle, and how an attacker changes one: digests are made new, as an attacker would."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from conjoin import bundle
from conjoin.bundle.format import digest_of
from conjoin.contracts import Card, Column
from conjoin.graph.encoder import Category, Encoder
from conjoin.graph.linear import Linear
from conjoin.members.portable import Portable, portable

ARRAYS = "arrays.safetensors"


def member(name: str = "small") -> Portable:
    """Answers no or yes from the columns age and job; it has one long array, so that one is deflated."""
    jobs = tuple(f"job {i}" for i in range(300))
    rows = np.arange(300)
    table = np.linspace(-1, 1, 301, dtype=np.float32)[:, None]
    category = Category(Column("job", "category"), jobs, rows, table, ("job",), 0)
    encoder = Encoder((Column("age", "number"),), np.array([40.0]), np.array([0.1]), (category,))
    linear = Linear(np.array([[0.5], [2.0]], np.float32), np.array([0.1], np.float32), "sigmoid")
    return portable(Card(name, "probabilities", classes=("no", "yes")), encoder, linear)


def save(folder: Path) -> None:
    """A sound bundle at `folder`."""
    bundle.save(member(), folder)


def tamper(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change conjoin.json of the bundle at `folder`; lengths and digests are made to fit where they can."""
    path = folder / "conjoin.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for name, record in document["files"].items():
        file = folder / name
        if file.is_file() and file.stat().st_size < 2**24:
            raw = file.read_bytes()
            record |= {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    change(document)
    document["digest"] = digest_of(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def nothing(document: dict[str, Any]) -> None:
    """Change nothing but lengths and digests."""
