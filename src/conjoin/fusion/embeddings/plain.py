"""Concatenation and mean of normalised vectors; similarities of pairs fused to values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.fusion.embeddings.laid import lay
from conjoin.fusion.stack import Weights
from conjoin.outputs import Embeddings, Values

if TYPE_CHECKING:
    from conjoin.contracts import Batch


def concat(
    outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None
) -> Embeddings:
    """Normalised vectors one after another, scaled: [sqrt(w_m / sum w) x_m / |x_m|] (Yin and Schütze 2016).

    The cosine of two such vectors is the weighted mean of the members' cosines. Vectors (n, D_m) or
    (n, P, D_m) become (n, sum D_m) or (n, P, sum D_m), members in the order of their names. Where a member
    did not answer a row its part is 0, and the weights of the others count. Raises OutputsError.

    >>> from conjoin.outputs import Embeddings
    >>> concat({"a": Embeddings([[3.0, 4.0]]), "b": Embeddings([[2.0]])}, weights={"a": 1, "b": 3}).values
    array([[0.3      , 0.4      , 0.8660254]])
    """
    laid = lay(outputs, weights)
    shares = np.sqrt(laid.shares())
    parts = [p * s[:, None, None].astype(p.dtype) for p, s in zip(laid.parts, shares, strict=True)]
    return laid.output(np.concatenate(parts, axis=-1))


def mean(outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None) -> Embeddings:
    """Weighted mean of normalised vectors: sum_m w_m x_m / |x_m| / sum_m w_m (Coates and Bollegala 2018).

    Shorter vectors are filled up with zeros to the longest. The members' axes should mean the same, or be
    aligned: see `procrustes`. The answer is not normalised again: its length tells how much members agree.
    Raises OutputsError.

    >>> from conjoin.outputs import Embeddings
    >>> mean({"a": Embeddings([[2.0, 0.0]]), "b": Embeddings([[0.0, 5.0]])}).values
    array([[0.5, 0.5]])
    """
    laid = lay(outputs, weights)
    width = max(p.shape[-1] for p in laid.parts)
    out = np.zeros((*laid.parts[0].shape[:2], width), dtype=laid.parts[0].dtype)
    for part, share in zip(laid.parts, laid.shares(), strict=True):
        out[..., : part.shape[-1]] += part * share[:, None, None].astype(part.dtype)
    return laid.output(out)


def similarity(
    outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None
) -> Values:
    """Weighted mean of the members' cosines: sum_m w_m cos_m / sum_m w_m. Values (n,) from pairs (n, 2, D_m).

    A zero vector has cosine 0 with every other. Raises OutputsError.

    >>> from conjoin.outputs import Embeddings
    >>> same, square = Embeddings([[[1.0, 0], [1, 0]]]), Embeddings([[[1.0, 0], [0, 1]]])
    >>> similarity({"a": same, "b": square}).values
    array([0.5])
    """
    laid = lay(outputs, weights)
    found = np.nan_to_num(laid.cosines()) * laid.shares()
    return Values(found.sum(axis=0), laid.spoken)


def rank_mean(
    outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None
) -> Values:
    """Weighted mean of the ranks of the members' cosines, each in 0 to 1. Values (n,) from pairs (n, 2, D_m).

    A member's cosine counts (rows it exceeds + half the rows it equals) / rows. It learns from the rows that
    it is given, so chunks differ from the whole; `fit_rank_mean` keeps the rows. Raises OutputsError.

    >>> from conjoin.outputs import Embeddings
    >>> pairs = Embeddings([[[1.0, 0], [1, 0]], [[1, 0], [0, 1]]])
    >>> rank_mean({"a": pairs}).values
    array([0.75, 0.25])
    """
    from conjoin.fusion.embeddings.ranks import rank_mean_of

    fuser = rank_mean_of(lay(outputs, weights))
    return fuser({n: outputs[n] for n in fuser.members})
