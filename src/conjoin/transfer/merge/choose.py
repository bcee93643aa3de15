"""A merge where nobody names a method: simple methods first, a richer one only where it is surely better.

`LADDER` goes from the plain average to methods that look at matrices. The best of each rung, on the first
part of the held-out rows, replaces what was chosen before where it is better by a paired test (5 %, two
sided); where rows are unknown, where it is better at all. A second part compares the choice with the plain
average and every model alone, a third is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from conjoin.errors import InputError
from conjoin.transfer.merge.evidence import Evidence, HeldOut, Scoring, evidence_of, goodness, parts
from conjoin.transfer.merge.judging import (
    MERGED,
    PLAIN_AVERAGE,
    Bench,
    Candidate,
    Judgement,
    Standing,
    bench,
    beside,
    decided,
)
from conjoin.transfer.merge.models import merge
from conjoin.transfer.merge.searching import SHARES
from conjoin.transfer.merge.states import named
from conjoin.transfer.merge.worlds import Memory

LADDER: tuple[tuple[tuple[str, Mapping[str, Any]], ...], ...] = (
    (
        ("task_arithmetic", {"weight": 0.3}),
        ("task_arithmetic", {"weight": 0.5}),
        ("ties", {"weight": 1.0, "density": 0.2}),
    ),
    (
        ("iso_c", {}),
        ("iso_c", {"lambda": 1.5}),
        ("tsv_m", {}),
        ("wudi", {"pull": 0.3}),
        ("wudi", {"pull": 1.0}),
    ),
)
"""Rungs above the plain average: methods and their parameters. They need a base model."""
SURE = 0.05
TRIED = "tried"


def choose(
    models: Mapping[str, Any] | Sequence[Any],
    score: Scoring | HeldOut,
    *,
    base: Any = None,
    seed: int = 0,
) -> Judgement:
    """The merge of models in memory that held-out data hold best, as a `Judgement`.

    models, base: as of `conjoin.merge`; without a base only the plain average and the models alone are
    compared. score: as of `judge`. Raises InputError.
    """
    world = Memory(named(models), base, seed)
    evidence = evidence_of(score)
    average = Candidate(PLAIN_AVERAGE, MERGED, world.average)
    asked, answers = [average], [evidence.ask(world.average(), PLAIN_AVERAGE)]
    rows = parts(evidence, SHARES, seed=seed)
    best, notes = 0, list[str]()
    for rung in LADDER if base is not None else ():
        first = len(asked)
        for method, parameters in rung:
            made = Candidate(told(method, parameters), MERGED, _maker(world, method, parameters))
            try:
                answers.append(evidence.ask(made.make(), made.name))
            except InputError as error:
                notes.append(f"{made.name} is not compared: {error}")
                continue
            asked.append(made)
        if len(asked) > first:
            own = max(range(first, len(asked)), key=lambda i: goodness(evidence, answers[i], rows[0]))
            best = own if _surely(evidence, answers[own], answers[best], rows[0]) else best
    return _judged(world, evidence, asked, answers, best, notes, rows[1:], seed)


def told(method: str, parameters: Mapping[str, Any]) -> str:
    """A method with its parameters, for people.

    >>> told("ties", {"density": 0.2})
    'ties(density=0.2)'
    """
    inside = ", ".join(f"{n}={v:g}" for n, v in parameters.items())
    return f"{method}({inside})" if inside else method


def _maker(world: Memory, method: str, parameters: Mapping[str, Any]) -> Any:
    return lambda: merge(world.models, method, base=world.origin, parameters=parameters, seed=world.seed)


def _surely(evidence: Evidence, new: Any, old: Any, rows: Any) -> bool:
    gain = evidence.gain(new, old, rows)
    return gain.mean > 0 and not gain.p_value > SURE  # an unknown p is NaN


def _judged(
    world: Memory,
    evidence: Evidence,
    asked: Sequence[Candidate],
    answers: Sequence[Any],
    best: int,
    notes: Sequence[str],
    rows: Sequence[Any],
    seed: int,
) -> Judgement:
    others = bench(evidence, beside(world)[1:] if best == 0 else beside(world))
    first, answer = asked[best], answers[best]
    whole = Bench(evidence, [first, *others.asked], [answer, *others.answers], (*notes, *others.notes))
    done = decided(whole, seed=seed, fallback=True, rows=rows)
    compared = tuple(
        Standing(c.name, TRIED, evidence.value(a, rows[1]), evidence.gain(answer, a, rows[1]), {})
        for i, (c, a) in enumerate(zip(asked, answers, strict=True))
        if i not in (0, best)
    )
    return replace(done, standings=done.standings + compared, evaluations=len(asked))
