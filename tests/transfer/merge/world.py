"""Small models as folders."""

from pathlib import Path

import numpy as np

from conjoin.transfer.checkpoints import open_checkpoint, write_header
from conjoin.transfer.checkpoints.dtypes import write_as

NAMES = (
    "model.embed_tokens.weight",
    *(f"model.layers.{i}.{part}.weight" for i in range(3) for part in ("self_attn.q_proj", "mlp.up_proj")),
    "model.norm.weight",
    "lm_head.weight",
)


def shape_of(name, rows=24):
    return (8,) if "norm" in name else (rows, 8) if "embed" in name or "head" in name else (8, 8)


def model(folder: Path, seed=0, dtype="F32", rows=24, names=NAMES, scale=1.0):
    """A folder with a model of random weights."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {n: scale * rng.standard_normal(shape_of(n, rows)).astype(np.float32) for n in names}
    header = write_header(((n, dtype, x.shape) for n, x in tensors.items()), {"format": "pt"})
    data = b"".join(np.ascontiguousarray(write_as(x, "F32", dtype)).tobytes() for x in tensors.values())
    (folder / "model.safetensors").write_bytes(header + data)
    (folder / "config.json").write_text('{"num_hidden_layers": 3, "vocab_size": %d}' % rows)  # noqa: UP031
    (folder / "tokenizer.json").write_text("{}")
    return folder


def arrays(folder):
    """Every tensor of a folder."""
    found = open_checkpoint(folder)
    return {n: np.array(found.array(n)) for n in found}


def every_byte(folder):
    """Name of file -> its bytes."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
