"""What teachers answer and what the truth says, as the tensors that a student is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.contracts import Member
from conjoin.errors import InputError, OutputsError, listed, need
from conjoin.fusion import log_pool, mean
from conjoin.outputs import Embeddings, Labels, Output, Probabilities, Values
from conjoin.transfer.distil.features import still

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array

FLOOR = 1e-6
"""The least probability that becomes a logit."""


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """x: (n, ...) float32, what modules read. classes: of the student, in the order of its outputs, or ().
    weights: of teachers by name.
    """

    x: Array
    truth: Output | None
    classes: tuple[str, ...]
    weights: Mapping[str, float] | None


def said(teachers: Mapping[str, Any], batch: Batch, ask: Ask) -> Output | None:
    """What the teachers answer, as one output; probabilities in the student's order of classes."""
    if not teachers:
        return None
    answers = {n: _answer(t, ask, batch) for n, t in teachers.items()}
    kinds = {o.kind for o in answers.values()}
    if len(kinds) > 1:
        raise OutputsError(f"teachers answer different kinds: {listed(sorted(kinds))}")
    first = next(iter(answers.values()))
    if not isinstance(first, Probabilities):
        if len(answers) > 1 and not isinstance(first, Values):
            raise OutputsError("several teachers of vectors have no common space; fuse them first")
        return first if len(answers) == 1 else mean(answers, weights=ask.weights)
    fused = first if len(answers) == 1 else cast(Probabilities, log_pool(answers, weights=ask.weights))
    names = ask.classes or fused.classes
    lost = [c for c in fused.classes if c not in names]
    if lost:
        raise InputError(f"the student cannot answer {listed(map(repr, lost))}, which its teacher knows")
    values = np.full((len(fused), len(names)), 0.0)
    values[:, [names.index(c) for c in fused.classes]] = np.where(fused.answered[:, None], fused.values, 0)
    return Probabilities(np.where(fused.answered[:, None], values, np.nan), names, fused.answered)


def _answer(teacher: Any, ask: Ask, batch: Batch) -> Any:
    """The output of a member, or of a module that answers logits (numbers where the truth is of numbers)."""
    torch = need("torch")
    if not isinstance(teacher, torch.nn.Module):
        if not isinstance(teacher, Member):
            raise InputError(f"a teacher is a member or a torch module, not a {type(teacher).__name__}")
        out = teacher.predict(batch)
        if not isinstance(out, Probabilities | Values | Embeddings):
            raise OutputsError(f"a module cannot learn {out.kind} from {teacher.card.name!r}")
        return out
    raw = _run(teacher, ask.x)
    if isinstance(ask.truth, Values | Embeddings):
        return type(ask.truth)(raw.reshape(ask.truth.values.shape))
    if raw.ndim == 1:
        raw = raw[:, None]
    if raw.shape[1] == 1:
        raw = np.concatenate([np.zeros_like(raw), raw], 1)
    shifted = np.exp(raw - raw.max(axis=1, keepdims=True))
    names = ask.classes or _truth_classes(ask.truth) or tuple(str(k) for k in range(raw.shape[1]))
    if len(names) != raw.shape[1]:
        raise InputError(f"the teacher answers {raw.shape[1]} classes, not {len(names)} ({listed(names)})")
    return Probabilities(shifted / shifted.sum(axis=1, keepdims=True), names)


def _truth_classes(truth: Output | None) -> tuple[str, ...]:
    return truth.classes if isinstance(truth, Labels | Probabilities) else ()


def _run(module: Any, x: Array, rows: int = 512) -> Array:
    """(n, ...) float64: the module's answers, in evaluation mode."""
    torch = need("torch")
    own = still(module)
    with torch.inference_mode():
        parts = [own(torch.from_numpy(x[k : k + rows])).double().numpy() for k in range(0, len(x), rows)]
    return np.concatenate(parts)


def targets(said: Any, ask: Ask) -> dict[str, Array]:
    """Arrays by name: soft, (n, K) centred logits or numbers; hard, (n,) codes or (n, D) numbers; known."""
    out: dict[str, Array] = {"hard_known": np.zeros(len(ask.x), dtype=bool)}
    names = ask.classes
    if isinstance(said, Probabilities):
        names = said.classes
        logits = np.log(np.maximum(np.nan_to_num(said.values), FLOOR))
        logits -= logits.mean(axis=1, keepdims=True)
        out |= {"soft": logits.astype(np.float32), "soft_known": said.answered}
    elif said is not None:
        flat = np.nan_to_num(said.values.reshape(len(said), -1)).astype(np.float32)
        out |= {"soft": flat, "soft_known": said.answered}
    if ask.truth is None:
        return out
    hard, known = _hard(ask.truth, names)
    return out | {"hard": hard, "hard_known": known}


def _hard(truth: Output, names: tuple[str, ...]) -> tuple[Array, Array]:
    if isinstance(truth, Probabilities):
        truth = truth.labels()
    if isinstance(truth, Labels):
        order = names or truth.classes
        lost = [c for c in truth.classes if c not in order]
        if lost:
            raise InputError(
                f"the truth has the class {listed(map(repr, lost))}, which the teacher does not know; name "
                "the student's classes (classes=[...])"
            )
        places = np.array([*(order.index(c) for c in truth.classes), -1], dtype=np.int64)
        known = truth.answered & (truth.codes >= 0)
        return places[np.where(known, truth.codes, -1)], known
    if not isinstance(truth, Values | Embeddings):
        raise InputError(f"a module learns classes or numbers, not {truth.kind}")
    flat = truth.values.reshape(len(truth), -1).astype(np.float32)
    return np.nan_to_num(flat), truth.answered & np.isfinite(flat).all(axis=1)
