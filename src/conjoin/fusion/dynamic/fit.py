"""Functions that fit a `DynamicSelection`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.dynamic import meta
from conjoin.fusion.dynamic.options import Options
from conjoin.fusion.dynamic.record import DynamicSelection, answers_of, votes_of, who
from conjoin.fusion.dynamic.region import space_of
from conjoin.fusion.single import Single, ranked
from conjoin.fusion.stack import class_truth, stack
from conjoin.fusion.threads import one_thread
from conjoin.outputs import Labels, Probabilities
from conjoin.scores import SCORES, checked_weights

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array
    from conjoin.scores import Score

Fitted = DynamicSelection | Single


def fit_dynamic(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    rule: str,
    batch: Batch | None = None,
    columns: Sequence[str] | None = None,
    neighbours: str | None = None,
    distances: str | None = None,
    standardise: bool = True,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    guard: bool = True,
    **options: Any,
) -> Fitted:
    """Select members row by row, by how they did on the nearest of these rows.

    outputs: probabilities or labels of the members for N rows that they did not learn from. truth: Labels.
    batch: columns of the same rows; rows lie near or far by its numbers, or by those in columns,
    standardised unless standardise is False. Without a batch they lie where the members' outputs put them.
    neighbours: instead, the name of a column of the batch, (n, k') whole numbers: for each row the nearest of
    the N rows, nearest first (-1 for none), from any index; distances: the column that holds how far they
    are. The fuser then looks for the same columns in the batch that it is called with.
    weights: (n,) of the rows; those of weight 0 are left out, else they count in the guard alone.
    score: of the guard, log-loss by default. guard: with each row kept out of its own region, the selection
    must not be worse than the best single member, which is given otherwise. options: see `Options`.
    seed has no influence: nothing is drawn.
    Raises OutputsError, TruthError, ColumnError, InputError on an option.

    >>> from conjoin.outputs import Labels, Probabilities
    >>> right, wrong = [0.9, 0.1], [0.2, 0.8]
    >>> a = Probabilities([right, right, right, wrong, wrong, wrong], "xy")
    >>> b = Probabilities([wrong, wrong, wrong, right, right, right], "xy")
    >>> x = np.array([1.0, 2, 3, 11, 12, 13])
    >>> fuser = fit_dynamic({"a": a, "b": b}, Labels([0] * 6, "xy"), rule="ola", batch={"x": x}, k=2)
    >>> asked = {"a": a.take([0, 5]), "b": b.take([0, 5])}
    >>> fuser(asked, batch={"x": np.array([0.0, 14])}).values.round(1)
    array([[0.9, 0.1],
           [0.9, 0.1]])
    """
    made = Options.of({"rule": rule, **options})
    laid = stack(outputs)
    if laid.kind != "probabilities":
        raise OutputsError(f"dynamic selection takes probabilities or labels, not {laid.kind}")
    labels = class_truth(truth, laid.rows)
    classes = tuple(dict.fromkeys([*laid.classes, *labels.classes]))
    laid = stack(outputs, classes=classes)
    space, points = space_of(
        *(batch, laid.rows),
        columns=columns,
        neighbours=neighbours,
        distances=distances,
        standardise=standardise,
    )
    mass = checked_weights(weights, laid.rows)
    codes = labels.align(classes).codes
    keep = np.flatnonzero((codes >= 0) & labels.answered & (mass > 0) & np.logical_or.reduce(laid.answered))
    losses = ranked(outputs, truth, score or SCORES["log_loss"], weights)
    if len(keep) < 2 or len(laid.names) < 2:
        return Single(tuple(losses))
    where = np.full(laid.rows, -1, dtype=np.int64)
    where[keep] = np.arange(len(keep))
    answers = answers_of(laid, laid.names)[keep]
    found = DynamicSelection(
        *(laid.names, classes, made, space, points[keep], codes[keep], answers, where), learned=np.zeros(0)
    )
    near = None if batch is None else {n: np.asarray(v)[keep] for n, v in batch.items()}
    with one_thread():
        if made.rule == "meta_des":
            found = replace(found, learned=_learned(found, near))
        if guard and not _no_worse(found, near, losses, score or SCORES["log_loss"], mass[keep]):
            return Single(tuple(losses))
    return found


def _learned(found: DynamicSelection, batch: Batch | None) -> Array:
    """META-DES' weights, from the rows fitted to, each kept out of its own region.

    Rows count where the share of members that are right is below hc or above 1 - hc.
    """
    present = who(found.answers)
    own = np.arange(len(found.codes))
    votes = votes_of(found.answers, present)
    around, alike = found.around(found.answers, votes, found.points, batch, own)
    right = votes == found.codes[:, None]
    share = (right & present).sum(axis=1) / present.sum(axis=1)
    hc = found.options.hc
    counted = present & ((share < hc) | (share > 1 - hc))[:, None]
    return meta.learn(found.meta_features(around, alike, found.answers), right, counted)


def _no_worse(
    found: DynamicSelection, batch: Batch | None, losses: Mapping[str, float], score: Score, mass: Array
) -> bool:
    """Than the best single member, with each row out of its own region, and as it would answer these rows."""
    present = who(found.answers)
    truth = Labels(found.codes, found.classes)
    best = next(iter(losses.values()))
    for apart in (np.arange(len(found.codes)), None):
        values = found.fused(found.answers, present, found.points, batch, apart)
        mine = score.loss(Probabilities(values, found.classes, np.asarray(present.any(axis=1))), truth, mass)
        if not (mine <= best + 1e-12 * max(1.0, abs(best)) or math.isnan(best)):
            return False
    return True


def fit_knora_e(outputs: Mapping[str, Any], truth: Any, **more: Any) -> Fitted:
    """k-nearest oracles eliminate: the members that are right on all k neighbours (Ko et al. 2008).

    Where none is, on all but the farthest, and so on; so those with the longest run of right answers from the
    nearest on. more: as of `fit_dynamic`, also in the functions below.
    """
    return fit_dynamic(outputs, truth, rule="knora_e", **more)


def fit_knora_u(outputs: Mapping[str, Any], truth: Any, **more: Any) -> Fitted:
    """k-nearest oracles union: all that are right on a neighbour, a vote for each (Ko et al. 2008).

    mode "weighting" by default: competence sum_j c_jm is the weight; with "selection" all count alike.
    """
    return fit_dynamic(outputs, truth, rule="knora_u", **{"mode": "weighting", **more})


def fit_des_p(outputs: Mapping[str, Any], truth: Any, **more: Any) -> Fitted:
    """The members that are right more often than chance, 1 / K, in the region (Woloszynski et al. 2012)."""
    return fit_dynamic(outputs, truth, rule="des_p", **more)


def fit_des_knn(outputs: Mapping[str, Any], truth: Any, **more: Any) -> Fitted:
    """The most diverse of the most accurate members of the region (Soares et al. 2006).

    pct_accuracy, pct_diversity: shares of the members; metric: "DF", "Q" or "ratio".
    """
    return fit_dynamic(outputs, truth, rule="des_knn", **more)


def fit_knop(outputs: Mapping[str, Any], truth: Any, **more: Any) -> Fitted:
    """KNORA-U in the space of the members' outputs (k-nearest output profiles, Cavalin et al. 2013)."""
    return fit_dynamic(outputs, truth, rule="knop", **{"mode": "weighting", **more})


def fit_meta_des(outputs: Mapping[str, Any], truth: Any, **more: Any) -> Fitted:
    """The members of which a learned model says that they will be right, see `meta` (Cruz et al. 2015).

    threshold: on that probability. kp: rows alike in the members' outputs. hc: see `Options`.
    """
    return fit_dynamic(outputs, truth, rule="meta_des", **more)


def fit_ola(outputs: Mapping[str, Any], truth: Any, **more: Any) -> Fitted:
    """Overall local accuracy: the member that is right most often in the region (Woods et al. 1997)."""
    return fit_dynamic(outputs, truth, rule="ola", **more)


def fit_lca(outputs: Mapping[str, Any], truth: Any, **more: Any) -> Fitted:
    """Local class accuracy: as OLA, of neighbours of the class that the member gives (Woods et al. 1997)."""
    return fit_dynamic(outputs, truth, rule="lca", **more)


def fit_mla(outputs: Mapping[str, Any], truth: Any, **more: Any) -> Fitted:
    """Modified local accuracy: as LCA, neighbours weighted by 1 / distance (Smits 2002)."""
    return fit_dynamic(outputs, truth, rule="mla", **more)


def fit_mcb(outputs: Mapping[str, Any], truth: Any, **more: Any) -> Fitted:
    """Multiple classifier behaviour: OLA of neighbours on which the members vote alike (Giacinto, Roli 2001).

    selection "diff" by default: the mean of all members less than diff_thresh below the best (where the field
    draws one of them).
    """
    return fit_dynamic(outputs, truth, rule="mcb", **{"selection": "diff", **more})


def fit_rank(outputs: Mapping[str, Any], truth: Any, **more: Any) -> Fitted:
    """The longest run of right answers from the nearest neighbour on (Sabourin et al. 1993)."""
    return fit_dynamic(outputs, truth, rule="rank", **more)
