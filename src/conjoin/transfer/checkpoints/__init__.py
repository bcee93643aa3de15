"""Checkpoints: safetensors files and folders, read where they lie and written in place. They know no
formulas.
"""

from __future__ import annotations

from conjoin.transfer.checkpoints.checkpoint import Checkpoint, Place, Weights, open_checkpoint
from conjoin.transfer.checkpoints.header import Entry, Header, read_header, write_header

__all__ = [
    "Checkpoint",
    "Entry",
    "Header",
    "Place",
    "Weights",
    "open_checkpoint",
    "read_header",
    "write_header",
]
