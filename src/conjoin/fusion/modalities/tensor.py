"""Low-rank tensor fusion: products of the modalities' numbers, without the tensor of all of them."""

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

RANK, HIDDEN = 4, 16


@dataclass(frozen=True, slots=True, eq=False)
class LowRankFusion:
    """Low-rank multimodal fusion (Liu et al. 2018) of the tensor of all products (Zadeh et al. 2017).

        z_mr = [x_m, 1] F_mr                                  (H,)
        h = sum_r weight_r prod_m z_mr,  over the m that are there
        scores = [h, 1] head

    The answer is the softmax of the scores for classes, else the numbers. factors: M arrays (d_m + 1, R H).
    weight: (R,). head: (H + 1, width).
    """

    views: Views
    factors: tuple[Array, ...]
    weight: Array
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
        scores = _forward([*self.factors, self.weight, self.head], parts, there)[-1]
        return answer_of(scores, np.asarray(there.any(axis=1)), self.classes, self.shift, self.scale)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Weights and views."""
        arrays, views = self.views.pack()
        arrays |= {f"factor.{m}": F for m, F in enumerate(self.factors)}
        arrays |= {"weight": self.weight, "head": self.head, "shift": self.shift, "scale": self.scale}
        return arrays, {"views": views, "classes": list(self.classes)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        views, classes = Views.unpack(arrays, meta.get("views")), names_of(meta, "classes")
        shift, weight = ask(arrays, "shift", (0 if classes else None,)), ask(arrays, "weight", (None,))
        width = len(classes) or len(shift)
        if not width or not len(weight):
            raise BundleError("a packed fusion of modalities needs classes or numbers to answer, and a rank")
        head, scale = ask(arrays, "head", (None, width)), ask(arrays, "scale", (len(shift),))
        deep = len(weight) * (len(head) - 1)
        factors = tuple(
            ask(arrays, f"factor.{m}", (v.width + 1, deep)) for m, v in enumerate(views.views.values())
        )
        return cls(views, factors, weight, head, classes, shift, scale)


def _forward(p: list[Array], parts: list[Array], there: Array) -> tuple[list[Array], Array, Array, Array]:
    """Factors (n, R, H) of each modality, 1 where it is missing; their product; h (n, H); scores."""
    weight, head = p[-2:]
    shape = (len(there), len(weight), len(head) - 1)
    z = []
    for m, (x, F) in enumerate(zip(parts, p, strict=False)):
        own = (x @ F[:-1] + F[-1]).reshape(shape)
        z.append(np.where(there[:, m, None, None], own, 1.0))
    product = np.ones(shape)
    for own in z:
        product = product * own
    h = np.tensordot(product, weight, axes=(1, 0))
    return z, product, h, h @ head[:-1] + head[-1]


def _slopes(
    p: list[Array], parts: list[Array], there: Array, forward: tuple[Any, ...], out: Array
) -> list[Array]:
    """Derivatives of the loss to the parameters; out (n, width): to the scores."""
    weight, head = p[-2:]
    z, product, h, _ = forward
    back = out @ head[:-1].T
    each = back[:, None, :] * weight[None, :, None]
    found = []
    for m, x in enumerate(parts):
        dz = np.where(there[:, m, None, None], each, 0.0)
        for j, other in enumerate(z):
            if j != m:
                dz = dz * other
        flat = dz.reshape(len(x), len(weight) * back.shape[1])
        found.append(np.concatenate([x.T @ flat, flat.sum(axis=0, keepdims=True)]))
    dweight = (product * back[:, None, :]).sum(axis=(0, 2))
    dhead = np.concatenate([h.T @ out, out.sum(axis=0, keepdims=True)])
    return [*found, dweight, dhead]


def _start(rank: int, hidden: int) -> Any:
    def start(rng: np.random.Generator, widths: list[int], width: int) -> list[Array]:
        first = []
        for d in widths:
            F = rng.normal(size=(d + 1, rank * hidden)) * (0.3 / np.sqrt(d + 1))
            F[-1] = 1.0
            first.append(F)
        return [*first, np.full(rank, 1.0 / rank), rng.normal(size=(hidden + 1, width)) * 0.1]

    return start


def fit_low_rank(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    rank: int = RANK,
    hidden: int = HIDDEN,
) -> LowRankFusion | LateFusion:
    """Low-rank tensor fusion of modalities, trained as `fit_gated`. rank: R, hidden: H."""
    made = fit_mixture(Mixture(_start(rank, hidden), _forward, _slopes), outputs, truth, weights, seed)
    if made.late is not None:
        return made.late
    p, M, target = made.parameters, len(made.views.members), made.target
    return LowRankFusion(made.views, tuple(p[:M]), p[M], p[M + 1], target.classes, target.shift, target.scale)
