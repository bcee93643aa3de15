"""Coefficients of a merge by CMA-ES, and a method where nobody names one.

Held-out rows are cut in three: one part is searched on, one decides between what was found, the merge as it
was given, the plain average and the best model alone, one is reported. Coefficients are the numbers of a
recipe: weights of models, lambda, density, t; a list from the first layer to the last is as many
coefficients as it has numbers.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conjoin.errors import InputError, need
from conjoin.transfer.merge.evidence import Evidence, HeldOut, Scoring, evidence_of, goodness, parts
from conjoin.transfer.merge.judging import (
    MERGED,
    Bench,
    Candidate,
    Judgement,
    bench,
    beside,
    check_place,
    decided,
    folders_of,
    written,
)
from conjoin.transfer.merge.states import named
from conjoin.transfer.merge.worlds import (
    Document,
    Memory,
    World,
    document_of,
    read_document,
    scratch_of,
    text_of,
)
from conjoin.transfer.weights import method_of

if TYPE_CHECKING:
    from conjoin.outputs import Array

FOUND, START = "found", "as given"
SHARES = (2, 1, 1)
"""Shares of the held-out rows: searched on, deciding, reported."""
LAMBDA, WEIGHT, DENSITY = "lambda", "weight", "density"
UNUSED = {"task_arithmetic": (DENSITY,)}
"""Parameters that a method takes from recipes of others and does not use."""
HIGHEST = 5.0
LOWEST_DENSITY = 0.02


@dataclass(frozen=True, slots=True)
class Step:
    """One evaluation of a search is done. best: the best value so far, larger is better. total: evaluations
    in all; None where time ends the search.
    """

    done: int
    total: int | None
    best: float
    seconds_left: float | None


Watch = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A number of a document: where it stands, its value there, and its bounds."""

    path: tuple[str | int, ...]
    start: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """The standard deviation of the first draws."""
        wide = self.high - self.low
        return min(0.3 * max(abs(self.start), 0.3), 0.25 * wide)


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to search: evaluations, seconds, or both; by default as the number of coefficients asks."""

    evaluations: int | None = None
    seconds: float | None = None

    def most(self, count: int) -> int | None:
        """Evaluations for so many coefficients; None where only time counts."""
        if self.evaluations is not None or self.seconds is not None:
            return self.evaluations
        return 20 + 15 * count if count > 1 else 20


def search(
    models: Mapping[str, Any] | Sequence[Any],
    method: str,
    score: Scoring | HeldOut,
    *,
    base: Any = None,
    parameters: Mapping[str, Any] | None = None,
    layers: int = 1,
    budget: Budget | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> Judgement:
    """Find the coefficients of a merge of models in memory, and judge what was found.

    models, method, base, parameters: as of `conjoin.merge`; parameters are where the search starts. score: as
    of `judge`. layers: numbers of each coefficient from the first layer to the last. The answer falls back to
    the merge as given, the plain average or the best model alone where what was found is not better.

    Same seed, same answer, but where seconds end the search. Raises InputError; MissingExtraError without
    `cma`.
    """
    if layers < 1:
        raise InputError(f"layers must be 1 or more, not {layers}")
    world = Memory(named(models), base, seed)
    found = method_of(method)
    found.check_models(len(world.names), base=base is not None)
    found.check_names(parameters or {})
    given = dict(parameters or {})
    if WEIGHT in found.parameters:
        relative = "normalize" not in found.parameters or found.parameters["normalize"].default
        given.setdefault(WEIGHT, 1.0 if relative else 1.0 / len(world.names))
    start = document_of(world, method, given, layers=layers)
    return searched(world, start, evidence_of(score), budget or Budget(), seed, watch)


def search_recipe(
    recipe: Path,
    out: Path,
    score: Scoring | HeldOut,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    force: bool = False,
    watch: Watch | None = None,
    **options: Any,
) -> Judgement:
    """`search` for the numbers of a recipe; the answer is the folder `out`, with the recipe that was found.

    options: of `merge_recipe`. Raises InputError, FileError.
    """
    check_place(out, force=force)
    document = read_document(recipe)[0]
    with scratch_of(out) as scratch:
        world = folders_of(recipe, scratch, {**options, "seed": seed})
        done = searched(world, document, evidence_of(score), budget or Budget(), seed, watch)
        return written(done, out, scratch)


def searched(
    world: World, start: Document, evidence: Evidence, budget: Budget, seed: int, watch: Watch | None
) -> Judgement:
    """The judgement of the best numbers for a document."""
    start = opened(start)
    numbers = list(coefficients(start))
    if not numbers:
        raise InputError(
            f"{start['merge_method']} has no number to search; choose a method with weights, lambda, "
            "density or t"
        )
    given = Candidate(START, MERGED, lambda: world.merged(start))
    others = bench(evidence, [given, *beside(world)])
    rows = parts(evidence, SHARES, seed=seed)
    run = _Run(world, start, numbers, evidence, rows[0], others.answers[0], watch, budget)
    best = run.best(seed)
    final = placed(start, numbers, best)
    found = Candidate(FOUND, MERGED, lambda: world.merged(final))
    every = bench(evidence, [found])
    whole = Bench(
        evidence, [found, *others.asked], [every.answers[0], *others.answers], (*others.notes, *run.notes)
    )
    done = decided(whole, seed=seed, fallback=True, rows=rows[1:])
    best_text = text_of(final if done.chosen == FOUND else start)
    return replace(done, recipe=best_text, evaluations=run.done)


def opened(document: Document) -> Document:
    """The document with every coefficient that is worth searching written out: a weight for each model, and
    lambda where weights alone do not set the size of the change.
    """
    found = copy.deepcopy(document)
    method = method_of(str(found["merge_method"]))
    specs = method.parameters
    shared = dict(found.get("parameters") or {})
    rows = found.get("models") or []
    if WEIGHT in specs and rows:
        weight = shared.pop(WEIGHT, 1.0)
        for row in rows:
            own = dict(row.get("parameters") or {})
            if row.get("model") != found.get("base_model"):
                own.setdefault(WEIGHT, copy.deepcopy(weight))
                row["parameters"] = own
    relative = specs.get("normalize") is None or bool(shared.get("normalize", specs["normalize"].default))
    if LAMBDA in specs and relative:
        shared.setdefault(LAMBDA, float(specs[LAMBDA].default))
    for name in ("t", DENSITY, "select_topk"):
        if name in specs and name not in UNUSED.get(method.name, ()) and rows:
            inner = any(name in (r.get("parameters") or {}) for r in rows)
            if not inner and specs[name].default is not None:
                shared.setdefault(name, float(specs[name].default))
    return found | ({"parameters": shared} if shared else {})


def coefficients(document: Document) -> Iterator[Coefficient]:
    """The numbers of a document's parameters, in the order in which they stand.

    >>> [c.path[-1] for c in coefficients({"merge_method": "slerp", "parameters": {"t": [0.5, 0.2]}})]
    [0, 1]
    """
    method = method_of(str(document["merge_method"]))
    skip = UNUSED.get(method.name, ())
    for path, settings in _settings(document, ()):
        for name, value in settings.items():
            spec = method.parameters.get(name)
            if spec is None or spec.kind is not float or name in skip or name.startswith(("eps", "tol")):
                continue
            low = max(spec.low, LOWEST_DENSITY) if name == DENSITY else max(spec.low, 0.0)
            high = min(spec.high, HIGHEST)
            for place, number in _leaves(value, (*path, name)):
                yield Coefficient(place, number, min(low, number), max(high, number))


def _settings(
    value: Any, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    """Every mapping of parameters in a document."""
    items: Any = (
        enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    )
    for key, inner in items:
        if key == "parameters" and isinstance(inner, dict):
            yield (*path, key), inner
        elif isinstance(inner, list | dict):
            yield from _settings(inner, (*path, key))


def _leaves(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], float]]:
    if isinstance(value, list):
        for i, one in enumerate(value):
            yield from _leaves(one, (*path, i))
    elif isinstance(value, dict):
        yield from _leaves(value.get("value"), (*path, "value"))
    elif isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            yield path, float(value)
        except ValueError:
            return


def placed(document: Document, numbers: Sequence[Coefficient], values: Sequence[float]) -> Document:
    """The document with other numbers, of six digits."""
    found = copy.deepcopy(document)
    for number, value in zip(numbers, values, strict=True):
        inner: Any = found
        for key in number.path[:-1]:
            inner = inner[key]
        inner[number.path[-1]] = float(f"{min(max(value, number.low), number.high):.6g}")
    return found


class _Run:
    """A search under way: what it looks at, and how far it is."""

    def __init__(
        self,
        world: World,
        start: Document,
        numbers: Sequence[Coefficient],
        evidence: Evidence,
        rows: Array | None,
        first: Any,
        watch: Watch | None,
        budget: Budget,
    ) -> None:
        self.world, self.start, self.numbers = world, start, numbers
        self.evidence, self.rows, self.watch = evidence, rows, watch
        self.most = budget.most(len(numbers))
        self.seconds, self.begun = budget.seconds, time.monotonic()
        self.done, self.notes = 0, list[str]()
        self.top: tuple[float, list[float]] = (goodness(evidence, first, rows), [n.start for n in numbers])

    def best(self, seed: int) -> list[float]:
        """The best numbers within the budget."""
        if len(self.numbers) == 1:
            self._line()
        else:
            self._evolve(seed)
        if not math.isfinite(self.top[0]):
            self.notes.append("no numbers gave a score; the search did not help")
        return self.top[1]

    def over(self) -> bool:
        late = self.seconds is not None and time.monotonic() - self.begun >= self.seconds
        return late or (self.most is not None and self.done >= self.most)

    def loss(self, values: Sequence[float]) -> float:
        """Minus the value of a merge with these numbers on the rows that are searched on."""
        document = placed(self.start, self.numbers, values)
        try:
            made = self.world.merged(document)
            good = goodness(self.evidence, self.evidence.ask(made, "a merge of the search"), self.rows)
            self.world.drop(made)
        except InputError as error:  # such as weights that sum to 0
            good = -math.inf
            if not self.notes:
                self.notes.append(f"some numbers cannot be merged: {error}")
        self.done += 1
        if good > self.top[0]:
            self.top = (good, list(values))
        if self.watch is not None:
            self.watch(Step(self.done, self.most, self.top[0], self._left()))
        return 1e30 if math.isinf(good) else -good

    def _left(self) -> float | None:
        spent = time.monotonic() - self.begun
        by_count = None if self.most is None else spent / self.done * (self.most - self.done)
        by_time = None if self.seconds is None else max(0.0, self.seconds - spent)
        known = [s for s in (by_count, by_time) if s is not None]
        return min(known) if known else None

    def _line(self) -> None:
        """One number: a grid over its range, then ever closer to the best."""
        one = self.numbers[0]
        high = min(one.high, max(1.0, 3 * abs(one.start)))
        width = (high - one.low) / 8
        points = [one.low + width * k for k in range(9)]
        while not self.over():
            for point in points:
                if self.over():
                    return
                self.loss([point])
            width /= 2
            centre = self.top[1][0]
            points = [p for p in (centre - width, centre + width) if one.low <= p <= high]
            if width < 1e-3 or not points:
                return

    def _evolve(self, seed: int) -> None:
        """CMA-ES (Hansen 2016, arXiv 1604.00772)."""
        cma = need("cma")
        spreads = [n.spread for n in self.numbers]
        options = {
            "bounds": [[n.low for n in self.numbers], [n.high for n in self.numbers]],
            "CMA_stds": spreads,
            "seed": seed + 1,
            "verbose": -9,
            "verb_log": 0,
            "maxfevals": math.inf,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            strategy = cma.CMAEvolutionStrategy([n.start for n in self.numbers], 1.0, options)
            while not self.over() and not strategy.stop():
                points = strategy.ask()
                losses = []
                for point in points:
                    if self.over():
                        return
                    losses.append(self.loss([float(v) for v in point]))
                strategy.tell(points, losses)
