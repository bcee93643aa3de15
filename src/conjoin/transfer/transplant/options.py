"""How weights are to be carried over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from conjoin.errors import InputError, listed, nearest
from conjoin.transfer.transplant.pairing import MATCHES
from conjoin.transfer.weights.depth import DEPTHS

WIDTHS = ("even", "importance", "grow", "crop", "none")
CHANNELS = ("repeat", "mean", "first", "fresh")
POSITIONS = ("resample", "grid", "line", "crop", "fresh")
UNSEEN = ("pieces", "mean", "zero", "fresh")


@dataclass(frozen=True, slots=True)
class Options:
    """See `conjoin.transplant`, which has these as arguments. Raises InputError."""

    match: str = "auto"
    width: str = "even"
    depth: str = "even"
    channels: str = "repeat"
    positions: str = "resample"
    prefix: int | None = None
    unseen: str = "pieces"
    leave: Sequence[str] = ()
    align: float | None = None
    heads: int | None = None
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for what, known in (
            ("match", MATCHES),
            ("width", WIDTHS),
            ("depth", DEPTHS),
            ("channels", CHANNELS),
            ("positions", POSITIONS),
            ("unseen", UNSEEN),
        ):
            given = getattr(self, what)
            if given not in known:
                raise InputError(
                    f"no {what} {given!r}{nearest(str(given), known)}; there are {listed(known)}"
                )
        if self.align is not None and not 0 <= self.align <= 1:
            raise InputError(
                f"align, the source's share in the average, must be from 0 to 1, not {self.align}"
            )
        if not 0 <= self.noise < np.inf:
            raise InputError(f"noise must be 0 or more, not {self.noise}")
        if self.heads is not None and self.heads < 1:
            raise InputError(f"heads must be 1 or more, not {self.heads}")
        if self.prefix is not None and self.prefix < 0:
            raise InputError(f"prefix must be 0 or more, not {self.prefix}")
