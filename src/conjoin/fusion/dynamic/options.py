"""`Options`: how a dynamic selection works, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from conjoin.errors import BundleError, InputError, listed, nearest

if TYPE_CHECKING:
    from conjoin.outputs import Json

RULES = ("knora_e", "knora_u", "des_p", "des_knn", "knop", "meta_des", "ola", "lca", "mla", "mcb", "rank")
_CHOICES = {
    "rule": RULES,
    "voting": ("soft", "hard"),
    "mode": ("selection", "weighting", "hybrid"),
    "selection": ("best", "all", "diff"),
    "metric": ("DF", "Q", "ratio"),
}
_RANGES: dict[str, tuple[float, float]] = {
    "ih_rate": (0.0, 0.5),
    "threshold": (0.5, 1.0),
    "hc": (0.5, 1.0),
    "diff_thresh": (0.0, 0.5),
    "similarity_threshold": (0.0, 1.0),
    "pct_accuracy": (0.0, 1.0),
    "pct_diversity": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class Options:
    """Parameters of dynamic selection, named as its field names them (DESlib), in lower case.

    rule: how competence is told. k: neighbours in the region of competence. dfp: dynamic frienemy pruning:
    where the region holds several classes, only members that are right in at least two of them take part
    (Oliveira et al. 2017). with_ih, safe_k, ih_rate: where among the first safe_k neighbours (k by default)
    less than the share ih_rate is of another class than their majority, the neighbours' classes are the
    answer. knne: the same number of neighbours of each class. voting: soft, the mean of the selected
    members' probabilities, or hard, the share of their votes. mode: selection, weighting by competence, or
    both (hybrid). selection, diff_thresh: of rules that select one member: the best, all the best, or the
    mean of all less than diff_thresh below the best. similarity_threshold: of mcb. kp, hc, threshold: of
    meta_des. pct_accuracy, pct_diversity, more_diverse, metric: of des_knn.
    Raises InputError.
    """

    rule: str
    k: int = 7
    dfp: bool = False
    with_ih: bool = False
    safe_k: int | None = None
    ih_rate: float = 0.3
    knne: bool = False
    voting: str = "soft"
    mode: str = "selection"
    selection: str = "best"
    diff_thresh: float = 0.1
    similarity_threshold: float = 0.7
    kp: int = 5
    hc: float = 1.0
    threshold: float = 0.5
    pct_accuracy: float = 0.5
    pct_diversity: float = 0.3
    more_diverse: bool = True
    metric: str = "DF"

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            given = getattr(self, name)
            if given not in allowed:
                hint = nearest(str(given), allowed)
                raise InputError(f"{name} must be one of {listed(allowed)}, not {given!r}{hint}")
        for name, (low, high) in _RANGES.items():
            given = getattr(self, name)
            if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given <= high:
                raise InputError(f"{name} must lie from {low:g} to {high:g}, not {given!r}")
        for name in ("k", "kp", "safe_k"):
            given = getattr(self, name)
            optional = name == "safe_k" and given is None
            if not optional and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
                raise InputError(f"{name} must be a whole number of neighbours, 1 or more, not {given!r}")
        if self.safe_k is not None and self.safe_k > self.k:
            raise InputError(f"safe_k must be at most k = {self.k}, not {self.safe_k}")
        for name in ("dfp", "with_ih", "knne", "more_diverse"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be True or False, not {getattr(self, name)!r}")

    def to_json(self) -> dict[str, Json]:
        """All of them as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """From keyword arguments. Raises InputError on an unknown one."""
        names = [f.name for f in fields(cls)]
        for name in given:
            if name not in names:
                hint = f"{nearest(name, names)}; it has {listed(names, 30)}"
                raise InputError(f"dynamic selection has no option {name!r}{hint}")
        return cls(**given)

    @classmethod
    def from_json(cls, given: object) -> Self:
        """The inverse of `to_json`. Raises BundleError."""
        if not isinstance(given, dict):
            raise BundleError(f"options of a packed dynamic selection are a mapping, not {given!r:.60}")
        try:
            return cls.of(given)
        except (InputError, TypeError) as error:
            raise BundleError(f"a packed dynamic selection does not make sense: {error}") from error
