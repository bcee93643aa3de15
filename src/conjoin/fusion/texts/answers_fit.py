"""Fitting a vote on answers: weights of systems by how often they are right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from conjoin.errors import TruthError
from conjoin.fusion.applied import Applied
from conjoin.fusion.single import guarded
from conjoin.fusion.texts.answers import canonical, extractor
from conjoin.fusion.texts.judging import Judged, judged
from conjoin.fusion.texts.laid import system_of
from conjoin.outputs import Array, Texts


def fit_answer_vote(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    extract: str | None = None,
    pattern: str | None = None,
    numeric: bool = True,
) -> Any:
    """`answer_vote` with the weight log(p (K - 1) / (1 - p)) for a system that is right with probability p.

    (Nitzan and Paroush 1982, for K answers.) p is shrunk to the mean of all systems by two rows; K - 1 is one
    over how often two different members that are wrong say the same. Systems with a negative weight get 0.
    The truth's answers are found in the same way; the fused text is the bare answer or the whole text,
    whichever scores better. weights: (n,) of rows. seed has no influence. Gives way to
    the best member where that scores better on the truth. Raises OutputsError and TruthError.
    """
    case = judged(outputs, truth, weights, score)
    find: Callable[[str], str | None] = extractor(extract, pattern)
    forms = {n: _forms(case.outputs[n], find, numeric=numeric) for n in case.names}
    right = _forms(case.truth, find, numeric=numeric)
    counted = np.array([f is not None for f in right]) & (case.mass > 0)
    if not counted.any():
        raise TruthError("no row's truth holds an answer that the rule finds")
    mass = np.where(counted, case.mass, 0.0)
    hit = np.array(
        [[a is not None and a == b for a, b in zip(forms[n], right, strict=True)] for n in case.names]
    )
    said = np.array([[a is not None for a in forms[n]] for n in case.names])
    systems = {s: [m for m, n in enumerate(case.names) if system_of(n) == s] for s in case.losses}
    mean = float((hit * mass).sum() / max((said * mass).sum(), 1e-300))
    odds = np.log(_wrong_answers(forms, hit, said & counted))
    found = dict.fromkeys(case.names, 0.0)
    for mine in systems.values():
        p = ((hit[mine] * mass).sum() + 2 * mean) / ((said[mine] * mass).sum() + 2)
        p = min(max(float(p), 1e-3), 1 - 1e-3)
        for m in mine:
            found[case.names[m]] = max(np.log(p / (1 - p)) + odds, 0.0) / len(mine)
    if not any(found.values()):
        found = dict.fromkeys(case.names, 1.0)
    given: dict[str, Any] = {"extract": extract, "pattern": pattern, "numeric": numeric}
    options = {k: v for k, v in given.items() if v is not None}
    ways = [Applied("texts", "answer_vote", found, {**options, "whole": whole}) for whole in (False, True)]
    fuser = min(ways, key=lambda way: _loss(way, case))
    return guarded(fuser, outputs, truth, case.score, weights)


def _loss(fuser: Applied, case: Judged) -> float:
    loss = float(case.score.loss(fuser(case.outputs), case.truth, case.mass))
    return math.inf if math.isnan(loss) else loss


def _forms(texts: Texts, find: Callable[[str], str | None], *, numeric: bool) -> list[str | None]:
    out: list[str | None] = []
    for text, answered in zip(texts.texts.tolist(), texts.answered.tolist(), strict=True):
        answer = find(text) if answered else None
        out.append(None if answer is None else canonical(answer, numeric=numeric))
    return out


def _wrong_answers(forms: Mapping[str, list[str | None]], hit: Array, said: Array) -> float:
    """How many wrong answers there are: one over the chance that two wrong members agree, 1 to 100."""
    wrong, names = said & ~hit, [*forms]
    pairs = same = 1.0
    for r in range(wrong.shape[1]):
        answers = [forms[names[m]][r] for m in np.flatnonzero(wrong[:, r])]
        counts = [answers.count(a) for a in set(answers)]
        pairs += len(answers) * (len(answers) - 1) / 2
        same += sum(c * (c - 1) / 2 for c in counts)
    return float(min(max(pairs / same, 1.0), 100.0))
