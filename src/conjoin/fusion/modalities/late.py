"""Late fusion: a head per modality, and a pool of their answers that knows who is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError
from conjoin.fusion import loglinear
from conjoin.fusion.modalities.dropout import dropped
from conjoin.fusion.modalities.heads import out_of_fold, scores_of
from conjoin.fusion.modalities.task import Target, answer_of, target_of
from conjoin.fusion.modalities.views import Views, fit_view
from conjoin.fusion.packing import ask, names_of
from conjoin.fusion.threads import one_thread

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json, Probabilities, Values
    from conjoin.scores import Score

PENALTY = 30.0
"""Times 1 / (2 n) the squared weights of the pool: how far it may go from the mean of those who are there."""


@dataclass(frozen=True, slots=True, eq=False)
class LateFusion:
    """sum of mean_m s_m, sum_m w_m s_m and sum_(m, j) v_mj s_m [j is missing], over the m that are there.

    s_m: the centred scores of the head of modality m, x_m W_m + b_m; the answer is their softmax for classes,
    else the numbers themselves. views: how modalities become x_m. heads: M arrays (d_m + 1, width).
    pool: (1 + M + M (M - 1),), the weight of the mean, then w, then v row by row without j = m.
    """

    views: Views
    heads: tuple[Array, ...]
    pool: Array
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
        answered = np.asarray(there.any(axis=1))
        return answer_of(self.scores(parts, there), answered, self.classes, self.shift, self.scale)

    def scores(self, parts: list[Array], there: Array) -> Array:
        """(n, width) of the modalities' matrices and who is there."""
        S = np.stack([centred(scores_of(x, W), self.classes) for x, W in zip(parts, self.heads, strict=True)])
        return np.asarray(np.tensordot(self.pool, features(S, there), axes=1))

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Heads, pool and views."""
        arrays, views = self.views.pack()
        arrays |= {f"head.{m}": W for m, W in enumerate(self.heads)}
        arrays |= {"pool": self.pool, "shift": self.shift, "scale": self.scale}
        return arrays, {"views": views, "classes": list(self.classes)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        views, classes = Views.unpack(arrays, meta.get("views")), names_of(meta, "classes")
        shift = ask(arrays, "shift", (0 if classes else None,))
        width, M = len(classes) or len(shift), len(views.members)
        if not width:
            raise BundleError("a packed fusion of modalities needs classes or numbers to answer")
        heads = tuple(
            ask(arrays, f"head.{m}", (view.width + 1, width)) for m, view in enumerate(views.views.values())
        )
        scale = ask(arrays, "scale", (len(shift),))
        return cls(views, heads, ask(arrays, "pool", (1 + M * M,)), classes, shift, scale)


def centred(scores: Array, classes: tuple[str, ...]) -> Array:
    """Scores of classes minus their mean; numbers as they are."""
    return scores - scores.mean(axis=1, keepdims=True) if classes else scores


def features(S: Array, there: Array) -> Array:
    """(1 + M M, n, width) of scores S (M, n, width): the mean, each, each where another is missing."""
    M = len(S)
    here = there.T[:, :, None].astype(np.float64)
    own = S * here
    mean = own.sum(axis=0) / np.maximum(here.sum(axis=0), 1.0)
    crossed = [own[m] * (1.0 - here[j]) for m in range(M) for j in range(M) if j != m]
    return np.stack([mean, *own, *crossed])


def fit_late(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    penalty: float = PENALTY,
) -> LateFusion:
    """Late fusion of modalities: logistic or ridge heads, stacked with weights that depend on who is missing.

    outputs: embeddings, values, labels or probabilities by name; each row needs one modality or more. truth:
    Labels or Values. Heads are fitted with penalties chosen by 5 folds; the pool is fitted to their held-out
    scores, on the rows as they are and with modalities taken away (modality dropout), by log-loss or squared
    error with a penalty towards the mean of the heads. weights: (n,) of the rows. seed: of the folds. score
    has no influence. Raises OutputsError, TruthError.

    >>> from conjoin.outputs import Embeddings, Labels
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> given = {"image": Embeddings(x), "text": Embeddings(np.sign(x))}
    >>> fuser = fit_late(given, Labels((x[:, 0] > 0).astype(int), ("no", "yes")))
    >>> fuser({"text": Embeddings([[1.0], [-1.0]])}).values.argmax(axis=1)
    array([1, 0])
    """
    target = target_of(outputs, truth, weights)
    views = Views({n: fit_view(n, outputs[n], target.at) for n in sorted(outputs)})
    with one_thread():
        return late_of(views, *rows_of(views, outputs, target), target, seed, penalty)[0]


def rows_of(views: Views, outputs: Mapping[str, Any], target: Target) -> tuple[list[Array], Array]:
    """The modalities' matrices and who is there, of the rows fitted to."""
    parts, there = views.of(outputs)
    return [x[target.at] for x in parts], there[target.at]


def late_of(
    views: Views, parts: list[Array], there: Array, target: Target, seed: int, penalty: float = PENALTY
) -> tuple[LateFusion, Array, Array]:
    """The fusion, held-out scores of the heads (M, n, width), and those of the pool on them (n, width)."""
    folds = target.folds(seed)
    heads, held = [], np.zeros((len(parts), len(target.at), target.width))
    for m, x in enumerate(parts):
        at = np.flatnonzero(there[:, m])
        W, held[m, at] = out_of_fold(x[at], target.rows(at), folds[at])
        heads.append(W)
        held[m] = centred(held[m], target.classes)
    pool = _pool(held, there, target, seed, penalty)
    fusion = LateFusion(views, tuple(heads), pool, target.classes, target.shift, target.scale)
    return fusion, held, np.tensordot(pool, features(held, there), axes=1)


def _pool(S: Array, there: Array, target: Target, seed: int, penalty: float) -> Array:
    M, n = len(S), len(target.at)
    centre = np.zeros(1 + M * M)
    centre[0] = 1.0
    if M == 1:
        return centre
    at, present, mass = dropped(there, seed)
    F = features(S[:, at], present)
    mass = mass * target.mass[at]
    ridge = np.full(len(centre), penalty / n)
    ridge[0] *= 0.1
    if target.classes:
        shares = mass / mass.sum()
        found = loglinear.fit(
            loglinear.relative(F, target.y[at], shares), centre=centre, penalty=ridge, signed=True
        )
        return found.theta
    root = np.sqrt(mass / mass.sum() / target.width)[:, None]
    D = (F * root).reshape(len(F), -1)
    r = ((target.y[at] - F[0]) * root).reshape(-1)
    H = D @ D.T + np.diag(ridge)
    return np.asarray(centre + np.linalg.solve(H, D @ r))
