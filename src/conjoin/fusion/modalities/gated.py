"""Gated fusion: a hidden vector per modality, mixed with weights that the row and its gaps decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError
from conjoin.fusion.modalities.late import LateFusion
from conjoin.fusion.modalities.task import answer_of
from conjoin.fusion.modalities.training import Mixture, fit_mixture
from conjoin.fusion.modalities.views import Views
from conjoin.fusion.packing import ask, names_of

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json, Probabilities, Values
    from conjoin.scores import Score

HIDDEN = 24
_KEYS = ("gate", "offset", "gaps", "head")


@dataclass(frozen=True, slots=True, eq=False)
class GatedFusion:
    """Gated multimodal units (Arevalo et al. 2017), for any number of modalities, some of them missing.

        h_m = tanh([x_m, 1] W_m)                                        (H,)
        a_m = h_m . gate_m + offset_m + sum_j gaps_mj [j is missing]
        g   = softmax of a over the modalities that are there
        scores = [sum_m g_m h_m, 1] head

    The answer is the softmax of the scores for classes, else the numbers. hidden: M arrays (d_m + 1, H).
    gate: (M, H). offset: (M,). gaps: (M, M). head: (H + 1, width).
    """

    views: Views
    hidden: tuple[Array, ...]
    gate: Array
    offset: Array
    gaps: Array
    head: Array
    classes: tuple[str, ...]
    shift: Array
    scale: Array

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return self.views.members

    @property
    def needs(self) -> tuple[str, ...]:
        """All modalities."""
        return self.members

    def __call__(
        self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None
    ) -> Probabilities | Values:
        """Fuse. Raises OutputsError on a modality it was not fitted to, or of another shape."""
        parts, there = self.views.of(outputs)
        scores = _forward(self._parameters(), parts, there)[-1]
        return answer_of(scores, np.asarray(there.any(axis=1)), self.classes, self.shift, self.scale)

    def shares(self, outputs: Mapping[str, Any]) -> Array:
        """(n, M): how much each modality has to say in each row, in the order of `members`."""
        return _forward(self._parameters(), *self.views.of(outputs))[1]

    def _parameters(self) -> list[Array]:
        return [*self.hidden, self.gate, self.offset, self.gaps, self.head]

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Weights and views."""
        arrays, views = self.views.pack()
        arrays |= {f"hidden.{m}": W for m, W in enumerate(self.hidden)}
        arrays |= {n: getattr(self, n) for n in (*_KEYS, "shift", "scale")}
        return arrays, {"views": views, "classes": list(self.classes)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        views, classes = Views.unpack(arrays, meta.get("views")), names_of(meta, "classes")
        shift = ask(arrays, "shift", (0 if classes else None,))
        width, M = len(classes) or len(shift), len(views.members)
        gate = ask(arrays, "gate", (M, None))
        H = gate.shape[1]
        if not width or not H:
            raise BundleError("a packed fusion of modalities needs classes or numbers to answer")
        hidden = tuple(
            ask(arrays, f"hidden.{m}", (v.width + 1, H)) for m, v in enumerate(views.views.values())
        )
        offset, gaps = ask(arrays, "offset", (M,)), ask(arrays, "gaps", (M, M))
        head, scale = ask(arrays, "head", (H + 1, width)), ask(arrays, "scale", (len(shift),))
        return cls(views, hidden, gate, offset, gaps, head, classes, shift, scale)


def _forward(p: list[Array], parts: list[Array], there: Array) -> tuple[list[Array], Array, Array, Array]:
    """Hidden vectors, gates (n, M), their mixture (n, H), scores."""
    M = len(parts)
    gate, offset, gaps, head = p[M:]
    hidden = [np.tanh(x @ W[:-1] + W[-1]) for x, W in zip(parts, p, strict=False)]
    a = np.stack([h @ u for h, u in zip(hidden, gate, strict=True)], axis=1) + offset + ~there @ gaps.T
    a = np.where(there, a, -np.inf)
    top = a.max(axis=1, keepdims=True)
    g = np.where(there, np.exp(a - np.where(np.isfinite(top), top, 0.0)), 0.0)
    g /= np.maximum(g.sum(axis=1, keepdims=True), 1e-300)
    mixed = np.zeros_like(hidden[0])
    for m, h in enumerate(hidden):
        mixed += g[:, m, None] * h
    return hidden, g, mixed, mixed @ head[:-1] + head[-1]


def _slopes(
    p: list[Array],
    parts: list[Array],
    there: Array,
    forward: tuple[list[Array], Array, Array, Array],
    out: Array,
) -> list[Array]:
    """Derivatives of the loss to the parameters; out (n, width): to the scores."""
    M = len(parts)
    gate, _, _, head = p[M:]
    hidden, g, mixed, _ = forward
    back = out @ head[:-1].T
    to_gate = np.stack([(back * h).sum(axis=1) for h in hidden], axis=1)
    da = g * (to_gate - (g * to_gate).sum(axis=1, keepdims=True))
    found = []
    for m, (x, h) in enumerate(zip(parts, hidden, strict=True)):
        dh = (g[:, m, None] * back + da[:, m, None] * gate[m]) * (1.0 - h * h)
        found.append(np.concatenate([x.T @ dh, dh.sum(axis=0, keepdims=True)]))
    dgate = np.stack([da[:, m] @ h for m, h in enumerate(hidden)])
    dhead = np.concatenate([mixed.T @ out, out.sum(axis=0, keepdims=True)])
    return [*found, dgate, da.sum(axis=0), da.T @ (~there).astype(np.float64), dhead]


def _start(hidden: int) -> Any:
    def start(rng: np.random.Generator, widths: list[int], width: int) -> list[Array]:
        M = len(widths)
        first = [rng.normal(size=(d + 1, hidden)) * (0.5 / np.sqrt(d + 1)) for d in widths]
        first += [np.zeros((M, hidden)), np.zeros(M), np.zeros((M, M))]
        return [*first, rng.normal(size=(hidden + 1, width)) * 0.1]

    return start


def fit_gated(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    hidden: int = HIDDEN,
) -> GatedFusion | LateFusion:
    """Gated fusion of modalities, trained with modality dropout.

    As `fit_late`. hidden: H. The penalty is chosen on a fifth of the rows, held out; where a single
    modality's head has the lower loss there on the rows that it answered, late fusion is given. seed: of the
    first weights and the folds.
    """
    made = fit_mixture(Mixture(_start(hidden), _forward, _slopes), outputs, truth, weights, seed)
    if made.late is not None:
        return made.late
    p, M, target = made.parameters, len(made.views.members), made.target
    gate, offset, gaps, head = p[M:]
    mixing = tuple(p[:M]), gate, offset, gaps, head
    return GatedFusion(made.views, *mixing, target.classes, target.shift, target.scale)
