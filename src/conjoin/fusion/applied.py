"""`Applied`: a plain operator of any kind with its weights and options, to be stored and called."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from conjoin.errors import BundleError, ConjoinError, OutputsError, listed, nearest
from conjoin.fusion.kinds import FAMILIES, family
from conjoin.fusion.packing import ask, members_of

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json, Output

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """`FUSERS[name]` of a kind's family, with these weights and options.

    weights: by member name; empty gives each member the operator's own default. options: JSON values, passed
    as keyword arguments. Members without a weight are refused where there are weights.
    Raises OutputsError on an unknown kind, operator, option or a bad weight.

    >>> Applied("ranking", "rrf", {"a": 2.0, "b": 1.0}, {"k": 60}).needs
    ('a', 'b')
    """

    kind: str
    name: str
    weights: Mapping[str, float]
    options: Mapping[str, Json]

    def __post_init__(self) -> None:
        fusers = family(self.kind).FUSERS
        if self.name not in fusers:
            raise OutputsError(
                f"no operator {self.name!r} for {self.kind}{nearest(self.name, fusers)}; "
                f"there are {listed(fusers, 40)}"
            )
        check_options(fusers[self.name], self.name, self.options)
        found = {str(n): float(w) for n, w in sorted(self.weights.items())}
        if any(not math.isfinite(w) for w in found.values()):
            raise OutputsError(f"weights must be finite, not {found}")
        object.__setattr__(self, "weights", found)
        object.__setattr__(self, "options", dict(sorted(self.options.items())))

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members it knows; empty where it takes any."""
        return tuple(self.weights)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members whose output matters; empty where it takes any."""
        return tuple(n for n, w in self.weights.items() if w != 0)

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Output:
        """Fuse. A member that is absent does not count. Raises OutputsError on one without a weight."""
        weights: Mapping[str, float] | None = None
        if self.weights:
            unknown = [n for n in outputs if n not in self.weights]
            if unknown:
                raise OutputsError(
                    f"no weight for {listed(unknown)}; this fuser knows {listed(self.weights)}"
                )
            weights = {n: self.weights[n] for n in outputs}
        fuser = family(self.kind).FUSERS[self.name]
        return cast("Output", fuser(outputs, weights=weights, **dict(self.options)))

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The weights, and everything else as JSON."""
        meta: dict[str, Json] = {
            "kind": self.kind,
            "name": self.name,
            "options": dict(self.options),
            "members": list(self.weights),
        }
        return {"weights": np.array(list(self.weights.values()), dtype=np.float64)}, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names, options, kind = members_of(meta), meta.get("options"), meta.get("kind")
        weights = ask(arrays, "weights", (len(names),))
        if not isinstance(options, dict) or not isinstance(kind, str) or kind not in FAMILIES:
            raise BundleError(f"a packed fuser of {kind!r:.40} does not make sense")
        try:
            return cls(kind, str(meta.get("name")), dict(zip(names, weights.tolist(), strict=True)), options)
        except ConjoinError as error:
            raise BundleError(f"a packed fuser does not make sense: {error}") from error


def check_options(fuser: Any, name: str, options: Mapping[str, Any]) -> None:
    """Raises OutputsError where the operator has no such option."""
    known = [
        n
        for n, p in inspect.signature(fuser).parameters.items()
        if p.kind is p.KEYWORD_ONLY and n not in ("weights", "batch")
    ]
    for option in options:
        if option not in known:
            raise OutputsError(
                f"{name} has no option {option!r}{nearest(option, known)}; it has {listed(known) or 'none'}"
            )
