"""The kinds of output. What a member answers is a frozen record of one of these kinds.

| kind          | one row's answer                    | arrays |
|---------------|-------------------------------------|--- |
| probabilities | a probability per class             | values (n, K) float |
| values        | a number, or H numbers              | values (n,) or (n, H) float |
| quantiles     | a value per quantile level          | values (n, Q) float |
| labels        | a class, or abstain                 | codes (n,) int, -1 abstains |
| embeddings    | a vector, or P vectors              | values (n, D) or (n, P, D) float |
| masks         | a label or probability per pixel    | values (n, *spatial), or (n, *spatial, K) |
| texts         | a string, with a score              | texts (n,) of str, scores (n,); of words, if known: |
|               |                                     | confidences, starts, ends (t,), offsets (n + 1,) |
| ranking       | items with scores, best first       | ids (t,), scores (t,), offsets (n + 1,) |
| boxes         | regions with class and score        | coords (t, 2 | 4 | 6), scores, codes (t,), offsets |
| spans         | stretches of text with class, score | starts (t,), ends (t,), scores, codes (t,), offsets |

Every kind has `answered (n,) bool`: False where the member skipped the row. `pack` gives named arrays plus
JSON, `unpack` is its inverse: the only codec, for disk, wire and cache alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from conjoin.errors import OutputsError, listed
from conjoin.outputs.base import Array, Json, Output
from conjoin.outputs.dense import Embeddings, Labels, Masks, Probabilities, Quantiles, Texts, Values
from conjoin.outputs.ragged import Boxes, Ranking, Spans

KINDS: dict[str, type[Output]] = {
    k.kind: k
    for k in (Probabilities, Values, Quantiles, Labels, Embeddings, Masks, Texts, Ranking, Boxes, Spans)
}


def unpack(arrays: Mapping[str, Array], meta: Mapping[str, Json]) -> Output:
    """An output of whatever kind the JSON names. Raises OutputsError on an unknown kind."""
    kind = meta.get("kind")
    if kind not in KINDS:
        raise OutputsError(f"unknown kind of output {kind!r}; known: {listed(KINDS)}")
    return KINDS[str(kind)].unpack(arrays, meta)


def concat(outputs: Sequence[Output]) -> Output:
    """One output with the rows of all, in order; all of one kind, with the same classes or levels."""
    if len(outputs) == 1:
        return outputs[0]
    first = outputs[0]
    meta = first.pack()[1]
    if any(type(o) is not type(first) or o.pack()[1] != meta for o in outputs[1:]):
        raise OutputsError("outputs of different kinds, classes or levels cannot be joined")
    if any(isinstance(o, Texts) and o.ragged for o in outputs):
        outputs = [o.marked() for o in outputs if isinstance(o, Texts)]
        first = outputs[0]
    changed: dict[str, Array] = {}
    for name in first.arrays():
        parts = [getattr(o, name) for o in outputs]
        if name == "offsets":
            base = np.cumsum([0, *(int(p[-1]) for p in parts[:-1])])
            parts = [parts[0], *(p[1:] + b for p, b in zip(parts[1:], base[1:], strict=True))]
        changed[name] = np.concatenate(parts)
    return replace(first, **changed)


def silenced(output: Any, rows: Any) -> Any:
    """The output with these rows ((n,) bool) not answered; ragged rows become empty."""
    rows = np.asarray(rows, dtype=bool)
    if isinstance(output, Labels):
        return replace(output, codes=np.where(rows, -1, output.codes), answered=output.answered & ~rows)
    if not output.ragged:
        return replace(output, answered=output.answered & ~rows)
    lengths = np.diff(output.offsets)
    kept = np.repeat(~rows, lengths)
    changed: dict[str, Any] = {n: getattr(output, n)[kept] for n in output.ragged}
    if isinstance(output, Texts):  # the words are those of the text
        changed["texts"] = np.where(rows, "", output.texts)
    offsets = np.concatenate([[0], np.cumsum(np.where(rows, 0, lengths))])
    return replace(output, **changed, offsets=offsets, answered=output.answered & ~rows)


__all__ = [
    "KINDS",
    "Array",
    "Boxes",
    "Embeddings",
    "Json",
    "Labels",
    "Masks",
    "Output",
    "Probabilities",
    "Quantiles",
    "Ranking",
    "Spans",
    "Texts",
    "Values",
    "concat",
    "silenced",
    "unpack",
]
