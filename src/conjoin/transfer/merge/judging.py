"""Whether a merge helped: the merged model, every model alone, their plain average and the base, compared on
held-out data.

Where the merge is worse than one of these, that one is the answer. Which one it is, is decided on one part of
the held-out rows and reported on the other; where rows are unknown or few there is one part, and what is
reported is too good by chance (`optimistic`).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conjoin.errors import InputError
from conjoin.scores import Estimate
from conjoin.transfer.merge.evidence import (
    Evidence,
    Gain,
    HeldOut,
    Scoring,
    evidence_of,
    goodness,
    parts,
)
from conjoin.transfer.merge.models import merge, merge_recipe
from conjoin.transfer.merge.recipe import read_recipes
from conjoin.transfer.merge.states import named
from conjoin.transfer.merge.stream import move
from conjoin.transfer.merge.worlds import Folders, Memory, World, read_document, scratch_of, text_of

if TYPE_CHECKING:
    from conjoin.outputs import Array

MERGED, MODEL, AVERAGE, BASE = "merged", "model", "average", "base"
EVALUATION, RECIPE = "evaluation.json", "recipe.yml"
PLAIN_AVERAGE = "plain average"


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A model that is compared: how it is called, what it is, and how it is made when it is its turn."""

    name: str
    role: str
    make: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """How good one of them is on the rows of the report. gain: of the merge over it, on the same rows.
    numbers: what a scoring function told, by name.
    """

    name: str
    role: str
    value: Estimate
    gain: Gain | None
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What is known of a merge.

    model: the answer: state dict, module or folder; the merge, or what it fell back to. chosen, role: which
    it is. helped: whether the merge beats the plain average and the best model alone. standings: of all, the
    merge first. rows: of the report, None where unknown. optimistic: one part decided and reported.
    parameters, recipe: what search found.
    """

    model: Any
    chosen: str
    role: str
    helped: bool
    metric: str
    better: str
    rows: int | None
    optimistic: bool
    standings: tuple[Standing, ...]
    notes: tuple[str, ...] = ()
    recipe: str | None = None
    evaluations: int = 0

    def record(self) -> dict[str, Any]:
        """All but the model, as JSON; numbers that are unknown are None."""
        rows = [
            {"name": s.name, "role": s.role, **_known(asdict(s.value))}
            | ({"gain": _known(asdict(s.gain))} if s.gain else {})
            | ({"numbers": _known(dict(s.numbers))} if s.numbers else {})
            for s in self.standings
        ]
        own = {n: getattr(self, n) for n in ("chosen", "role", "helped", "metric", "better", "rows")}
        found = own | {"optimistic": self.optimistic, "standings": rows, "notes": list(self.notes)}
        return found | ({"recipe": self.recipe, "evaluations": self.evaluations} if self.recipe else {})


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Answers of candidates, asked one after the other; the first is the merge. notes: of what cannot be
    scored.
    """

    evidence: Evidence
    asked: Sequence[Candidate]
    answers: Sequence[Any]
    notes: tuple[str, ...] = ()


def judge(
    models: Mapping[str, Any] | Sequence[Any],
    method: str,
    score: Scoring | HeldOut,
    *,
    base: Any = None,
    parameters: Mapping[str, Any] | None = None,
    fallback: bool = True,
    seed: int = 0,
    **options: Any,
) -> Judgement:
    """Merge models in memory, and compare the merge with each of them on held-out data.

    models, method, base, parameters, options: as of `conjoin.merge`; state dicts or torch modules. score: a
    function that is called with a model of the same kind and returns a number, a mapping of numbers, or (n,)
    a number for each held-out row; larger is better. Or `HeldOut`. fallback: the answer is the plain average,
    or the best model alone, where the merge is worse than it.

    Raises InputError, and what the scoring function raises of conjoin's errors.
    """
    world = Memory(named(models), base, seed)
    extra = {"data": None} | options

    def merged() -> Any:
        return merge(models, method, base=base, parameters=parameters, seed=seed, **extra)

    first = Candidate(method, MERGED, merged)
    found = bench(evidence_of(score), [first, *beside(world)])
    return decided(found, seed=seed, fallback=fallback)


def judge_recipe(
    recipe: Path,
    out: Path,
    score: Scoring | HeldOut,
    *,
    fallback: bool = True,
    seed: int = 0,
    force: bool = False,
    **options: Any,
) -> Judgement:
    """Merge as a recipe says into the folder `out`, and compare it with the models of the recipe.

    As `judge`, but the score is called with the folder of a model. `out` is written when all is known, with
    what was found in `evaluation.json`. options: of `merge_recipe`. Raises InputError, FileError.
    """
    check_place(out, force=force)
    with scratch_of(out) as scratch:
        world = folders_of(recipe, scratch, {**options, "seed": seed})

        def merged() -> Path:
            place = scratch / "merged"
            return place if place.exists() else merge_recipe(recipe, place, **world.options).path

        first = Candidate(_method(recipe), MERGED, merged)
        found = bench(evidence_of(score), [first, *beside(world)])
        done = decided(found, seed=seed, fallback=fallback)
        return written(done, out, scratch)


def check_place(out: Path, *, force: bool) -> None:
    """Raises InputError where something is at `out` already."""
    if Path(out).exists() and not force and (not Path(out).is_dir() or any(Path(out).iterdir())):
        raise InputError(
            f"{str(out)!r} is already there; choose another name, or replace it with force (--force)"
        )


def folders_of(recipe: Path, scratch: Path, options: Mapping[str, Any]) -> Folders:
    """The models of a recipe. Of several documents, those that are no documents themselves."""
    every = read_recipes(recipe)
    if len(every) == 1:
        found = read_document(recipe)[1]
        base, names = found.base, found.models
    else:
        made = {r.name for r in every}
        base = next((r.base for r in reversed(every) if r.base not in made), None)
        names = tuple(dict.fromkeys(n for r in every for n in r.models if n not in made))
        near = recipe.parent
        names = tuple(str(near / n) if not Path(n).exists() and (near / n).exists() else n for n in names)
    return Folders(tuple(n for n in names if n != base), base, scratch, options)


def _method(recipe: Path) -> str:
    return read_recipes(recipe)[-1].method.name


def beside(world: World) -> list[Candidate]:
    """The plain average, every model alone, and the base."""
    found = [Candidate(PLAIN_AVERAGE, AVERAGE, world.average)] if len(world.names) > 1 else []
    found += [Candidate(n, MODEL, lambda n=n: world.single(n)) for n in world.names]  # type: ignore[misc]
    base = world.base
    return found + ([Candidate(base, BASE, lambda: world.single(base))] if base is not None else [])


def bench(evidence: Evidence, candidates: Sequence[Candidate]) -> Bench:
    """Ask each candidate once. Others than the merge that cannot be made or scored become a note."""
    asked, answers, notes = [], [], []
    for candidate in candidates:
        try:
            answers.append(evidence.ask(candidate.make(), candidate.name))
            asked.append(candidate)
        except InputError as error:
            if candidate.role == MERGED:
                raise
            notes.append(f"{candidate.name} is not compared: {error}")
    return Bench(evidence, asked, answers, tuple(notes))


def decided(
    found: Bench, *, seed: int, fallback: bool, rows: Sequence[Array | None] | None = None
) -> Judgement:
    """Which candidate is the answer, decided on the first part of the rows and reported on the second.

    The first candidate is the merge; another takes its place where it is better.
    """
    evidence = found.evidence
    decide, report = rows or parts(evidence, (1, 1), seed=seed)
    good = [goodness(evidence, a, decide) for a in found.answers]
    best = max(range(len(good)), key=lambda i: (good[i], -i)) if fallback else 0
    standings = tuple(
        Standing(
            c.name,
            c.role,
            evidence.value(a, report),
            evidence.gain(found.answers[0], a, report) if i else None,
            evidence.numbers(a),
        )
        for i, (c, a) in enumerate(zip(found.asked, found.answers, strict=True))
    )
    chosen = found.asked[best]
    notes = list(found.notes)
    if best:
        notes.append(f"the merge by {found.asked[0].name} is worse than {chosen.name}, which is the answer")
    if not math.isfinite(good[0]):
        notes.append("the merge has no score: it answers no row, or what it answers is not a number")
    shown = evidence.rows if report is None else len(report)
    return Judgement(
        chosen.make(),
        chosen.name,
        chosen.role,
        _helped(evidence, found, good, report),
        evidence.metric,
        evidence.better,
        shown,
        decide is None or decide is report,
        standings,
        tuple(notes),
    )


def _helped(evidence: Evidence, found: Bench, good: Sequence[float], report: Array | None) -> bool:
    """Whether the merge beats the plain average, and the model alone that the deciding part holds best."""
    own = goodness(evidence, found.answers[0], report)
    rivals = [i for i, c in enumerate(found.asked) if c.role == AVERAGE]
    alone = [i for i, c in enumerate(found.asked) if c.role in (MODEL, BASE)]
    rivals += [max(alone, key=lambda i: good[i])] if alone else []
    merges_only_average = found.asked[0].name == PLAIN_AVERAGE
    return all(own > goodness(evidence, found.answers[i], report) for i in rivals) and not merges_only_average


def written(done: Judgement, out: Path, scratch: Path) -> Judgement:
    """The judgement with its folder moved to `out`, what was found beside the weights."""
    made = Path(done.model)
    if made.parent != scratch:
        text = text_of({"merge_method": "passthrough", "models": [{"model": str(made)}]})
        (scratch / "copy.yml").write_text(text, encoding="utf-8")
        made = merge_recipe(scratch / "copy.yml", scratch / "copy").path
    if done.recipe:
        (made / RECIPE).write_text(done.recipe, encoding="utf-8")
    told = json.dumps(done.record(), indent=1, ensure_ascii=False, allow_nan=False)
    (made / EVALUATION).write_text(told + "\n", encoding="utf-8")
    move(made, Path(os.path.realpath(out)))
    return replace(done, model=Path(out))


def _known(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {n: (v if math.isfinite(v) else None) for n, v in numbers.items()}
