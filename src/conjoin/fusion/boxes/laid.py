"""Boxes of several members laid side by side: classes aligned by name, scores mended, what fits checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import numpy as np

from conjoin.errors import OutputsError, nearest
from conjoin.fusion.boxes.scales import calibrated
from conjoin.fusion.stack import Weights, named_weights
from conjoin.kernels import boxes as kernel
from conjoin.outputs import Array, Boxes, Output

ClassWeights: TypeAlias = "Mapping[str, Mapping[str, float]] | None"
Calibration: TypeAlias = "Mapping[str, Mapping[str, Any]] | None"
Bounds: TypeAlias = "Sequence[float] | None"
_HAIR = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """The regions of M members in n rows. names: of members with a weight, sorted. given: for the loops."""

    names: tuple[str, ...]
    classes: tuple[str, ...]
    given: kernel.Given

    @property
    def dims(self) -> tuple[int, ...]:
        """0 to D - 1."""
        return tuple(range(self.given.coords.shape[1] // 2))

    def clustered(
        self, iou_thr: float, rule: int, *, capped: bool = True, prior: float = 0.0, follow: bool = False
    ) -> tuple[Boxes, Array]:
        """One box of each cluster; and where `follow`, for each given region the box it went into, or -1."""
        made, work = self._made(follow), kernel.scratch(self.given)
        done = kernel.fuse(self.dims, self.given, work, made, 0, float(iou_thr), rule, capped, float(prior))
        return self._output(made, *done), made.assigned

    def suppressed(self, iou_thr: float, method: int, sigma: float = 1.0, least: float = 0.0) -> Boxes:
        """Boxes that stay when those that overlap a better one are suppressed."""
        made, work = self._made(False), kernel.scratch(self.given)
        done = kernel.suppress(
            self.dims, self.given, work, made, 0, float(iou_thr), method, float(sigma), float(least)
        )
        return self._output(made, *done)

    def _made(self, follow: bool) -> kernel.Made:
        t, C = self.given.coords.shape
        sizes = np.zeros(self.given.answered.shape[1], np.int64)
        assigned = np.full(t if follow else 0, -1, np.int64)
        return kernel.Made(np.empty((t, C)), np.empty(t), np.empty(t, np.int64), sizes, assigned)

    def _output(self, made: kernel.Made, done: int, wrong: int) -> Boxes:
        if wrong >= 0:
            raise OutputsError(_what_is_wrong(int(wrong), self.names, self.given))
        offsets = np.concatenate([[0], np.cumsum(made.sizes)])
        coords, scores, codes = (a[:done] for a in (made.coords, made.scores, made.codes))
        return Boxes(
            coords, scores, codes, offsets, self.classes, np.asarray(self.given.answered.any(axis=0))
        )


def lay_out(
    outputs: Mapping[str, Any],
    weights: Weights,
    *,
    class_weights: ClassWeights = None,
    calibration: Calibration = None,
    bounds: Bounds = None,
    skip_box_thr: float = 0.0,
) -> Laid:
    """Lay boxes side by side. Raises OutputsError where outputs, weights or regions do not fit."""
    members = checked_boxes(outputs)
    shares = {n: w for n, w in named_weights(outputs, weights).items() if w > 0}
    names = tuple(shares)
    parts = [members[n] for n in names]
    classes = tuple(dict.fromkeys(c for part in parts for c in part.classes))
    table = _class_table(shares, parts, classes, class_weights)
    scores = [_scores(n, p, calibration) for n, p in zip(names, parts, strict=True)]
    coords = np.concatenate([p.coords for p in parts])
    if bounds is not None:
        coords = clipped(coords, bounds)
    code_of = {c: k for k, c in enumerate(classes)}
    codes = np.concatenate([_recoded(p, code_of) for p in parts])
    bases = np.cumsum([0, *(len(p.scores) for p in parts[:-1])])
    offsets = np.stack([p.offsets + b for p, b in zip(parts, bases, strict=True)])
    answered = np.stack([p.answered for p in parts])
    given = kernel.Given(offsets, answered, coords, np.concatenate(scores), codes, table, float(skip_box_thr))
    return Laid(names, classes, given)


def checked_boxes(outputs: Mapping[str, Any]) -> dict[str, Boxes]:
    """The same outputs by sorted name. Raises OutputsError where kinds, rows or dimensions differ."""
    if not outputs:
        raise OutputsError("there are no outputs to fuse; give a mapping of member name to output")
    for name, output in outputs.items():
        if not isinstance(output, Boxes):
            kind = output.kind if isinstance(output, Output) else type(output).__name__
            raise OutputsError(f"member {name!r} answered with {kind}; this fuser takes boxes")
    lengths = {n: len(o) for n, o in sorted(outputs.items())}
    if len(set(lengths.values())) > 1:
        raise OutputsError(f"members must answer the same rows; rows answered: {lengths}")
    widths = {n: o.coords.shape[1] for n, o in sorted(outputs.items())}
    if len(set(widths.values())) > 1:
        raise OutputsError(f"members must answer regions of the same dimension; numbers a region: {widths}")
    return dict(sorted(outputs.items()))


def tidied(output: Boxes, *, bounds: Bounds = None) -> Boxes:
    """The boxes with corners swapped where the upper is below the lower, cut to `bounds`, empty ones and
    those with NaN or infinities (in corners or score) left out, scores above 1 or below 0 cut.

    bounds: lower corner, then upper corner of the space (0, 0, width, height); None cuts nothing.

    >>> boxes = Boxes([[0.5, 0, 0.2, 2]], [1.5], [0], [0, 1], ("cat",))
    >>> tidied(boxes, bounds=(0, 0, 1, 1)).coords
    array([[0.2, 0. , 0.5, 1. ]])
    """
    D = output.coords.shape[1] // 2
    lower, upper = output.coords[:, :D], output.coords[:, D:]
    coords = np.concatenate([np.minimum(lower, upper), np.maximum(lower, upper)], axis=1)
    if bounds is not None:
        coords = clipped(coords, bounds)
    kept = np.isfinite(coords).all(axis=1) & np.isfinite(output.scores)
    kept &= (coords[:, D:] > coords[:, :D]).all(axis=1)
    sums = np.concatenate([[0], np.cumsum(kept)])
    return replace(
        output,
        coords=coords[kept],
        scores=np.clip(output.scores[kept], 0.0, 1.0),
        codes=output.codes[kept],
        offsets=sums[output.offsets],
    )


def clipped(coords: Array, bounds: Sequence[float]) -> Array:
    """Regions (t, 2 D) cut to the space between two corners. Raises OutputsError on senseless bounds."""
    D = coords.shape[1] // 2
    try:
        edges = np.asarray(bounds, np.float64)
    except (TypeError, ValueError):
        edges = np.zeros(0)
    if edges.shape != (2 * D,) or not bool((edges[D:] > edges[:D]).all()):
        raise OutputsError(
            f"bounds must be {2 * D} numbers, the lower corner and then a higher upper corner, "
            f"not {bounds!r:.80}"
        )
    return np.clip(coords, np.tile(edges[:D], 2), np.tile(edges[D:], 2))


def _class_table(
    shares: Mapping[str, float], parts: Sequence[Boxes], classes: Sequence[str], class_weights: ClassWeights
) -> Array:
    """(M, K) weights; a member is absent in classes that it does not know."""
    table = np.zeros((len(shares), len(classes)))
    code_of = {c: k for k, c in enumerate(classes)}
    for m, (share, part) in enumerate(zip(shares.values(), parts, strict=True)):
        table[m, [code_of[c] for c in part.classes]] = share
    if class_weights and not _is_table(class_weights):
        raise OutputsError(f"class_weights must be {{member: {{class: factor}}}}, not {class_weights!r:.80}")
    for m, name in enumerate(shares):
        for c, w in (class_weights or {}).get(name, {}).items():
            if c not in code_of:
                hint = nearest(str(c), code_of)
                raise OutputsError(f"class_weights of {name!r}: no member knows the class {c!r}{hint}")
            if not (isinstance(w, int | float) and np.isfinite(w) and w >= 0):
                raise OutputsError(
                    f"class_weights of {name!r}: {c!r} has {w!r:.40}; weights are finite and >= 0"
                )
            table[m, code_of[c]] *= float(w)
    return table


def _is_table(given: object) -> bool:
    return isinstance(given, Mapping) and all(isinstance(v, Mapping) for v in given.values())


def _scores(name: str, part: Boxes, calibration: Calibration) -> Array:
    if calibration is not None and not isinstance(calibration, Mapping):
        raise OutputsError(f"calibration must be {{member: map}}, not {calibration!r:.80}")
    if calibration is not None and name in calibration:
        return calibrated(part, calibration[name], name)
    most = float(part.scores.max()) if len(part.scores) else 0.0
    if most <= 1.0 or most != most:
        return part.scores
    if most > 1.0 + _HAIR:
        at = int(np.argmax(part.scores))
        row = int(np.searchsorted(part.offsets, at, side="right")) - 1
        raise OutputsError(
            f"member {name!r}, row {row}: a box has the score {most:.6g}; scores must lie in 0 to 1. Scale "
            "them, cut them with `tidied`, or fit the fuser to a truth: that calibrates scores of any scale"
        )
    return np.minimum(part.scores, 1.0)


def _recoded(part: Boxes, code_of: Mapping[str, int]) -> Array:
    new = np.array([code_of[c] for c in part.classes], np.int64)
    if bool((new == np.arange(len(new))).all()):
        return part.codes
    return cast(Array, new[part.codes])


def _what_is_wrong(p: int, names: Sequence[str], given: kernel.Given) -> str:
    offsets = given.offsets
    m = int(np.flatnonzero((offsets[:, 0] <= p) & (p < offsets[:, -1]))[0])
    row = int(np.searchsorted(offsets[m], p, side="right")) - 1
    where = f"member {names[m]!r}, row {row}, box {p - int(offsets[m, row])}"
    box, score, D = given.coords[p], given.scores[p], given.coords.shape[1] // 2
    if not (np.isfinite(score) and score >= 0):
        what = f"the score is {score:.6g}; scores must be numbers of 0 to 1"
    elif not bool(np.isfinite(box).all()):
        what = f"the corners {box.tolist()} are not all finite numbers"
    else:
        what = f"the upper corner {box[D:].tolist()} is below the lower corner {box[:D].tolist()}"
    return f"{where}: {what}; `conjoin.fusion.boxes.tidied` swaps corners and leaves such boxes out"
