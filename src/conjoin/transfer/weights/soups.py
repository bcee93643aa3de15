"""Soups: means of the weights of fine-tunes, of all or of those that help (Wortsman et al. 2022, arXiv
2203.05482).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from conjoin.errors import InputError

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Soup(Generic[M]):
    """A soup and how it came about.

    model: the answer. taken: the numbers of the models in it, the best first. scores: of each model alone, in
    the order given. score: of the soup.
    """

    model: M
    taken: tuple[int, ...]
    scores: tuple[float, ...]
    score: float


def greedy(models: Sequence[M], mean: Callable[[Sequence[M]], M], score: Callable[[M], float]) -> Soup[M]:
    """Models are tried from the best to the worst; one is added where the score of the mean does not fall.

    mean: the plain average of models. score: of a model on held-out data, larger is better. So the answer is
    never worse on these data than the best single model. Of equal scores the earlier model goes first.
    Raises InputError without models, and on a score that is no number.

    >>> found = greedy([1.0, 5.0, 2.0], lambda m: sum(m) / len(m), lambda m: -abs(m - 1.4))
    >>> found.taken, found.model
    ((0, 2), 1.5)
    """
    if not models:
        raise InputError("there is no model to merge")
    scores = tuple(_checked(score(m), f"model {i}") for i, m in enumerate(models))
    order = sorted(range(len(models)), key=lambda i: -scores[i])
    taken, best = [order[0]], scores[order[0]]
    answer = models[order[0]]
    for i in order[1:]:
        tried = mean([models[j] for j in (*taken, i)])
        found = _checked(score(tried), "a mean of models")
        if found >= best:
            taken, best, answer = [*taken, i], found, tried
    return Soup(answer, tuple(taken), scores, best)


def _checked(value: float, what: str) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"the score of {what} must be a number, not {value!r:.60}") from error
    if math.isnan(found):
        raise InputError(f"the score of {what} is NaN")
    return found
