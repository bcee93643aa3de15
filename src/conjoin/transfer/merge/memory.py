"""Merging of models in memory, by every method: of weights alone, and those that need data or a score."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError, listed
from conjoin.transfer.merge.states import STATISTICS, Models, floats, is_module, models_of, restored
from conjoin.transfer.weights import NEEDING, Method, merge_tensors, resolved
from conjoin.transfer.weights.fisher import fisher
from conjoin.transfer.weights.soups import Soup, greedy

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.transfer.merge.learned import Forward

EXACT = ("linear", "uniform_soup", "passthrough")
"""Methods that running statistics may be merged by; the others move weights, which a variance is not."""


def merge_in_memory(
    given: Mapping[str, Any],
    method: Method,
    *,
    base: Any = None,
    parameters: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    statistics: Mapping[str, Mapping[str, Any]] | None = None,
    score: Callable[[Any], float] | None = None,
    forward: Forward | None = None,
    seed: int = 0,
) -> Any:
    """State dicts or torch modules, by name, become one of their kind. See conjoin.merge."""
    models = models_of(given, base)
    shared, each = resolved(method, parameters or {}, models.count)
    if method.name == "greedy_soup":
        return _soup(models, score).model
    for what, known in (("data", data), ("statistics", statistics)):
        if known is not None:
            _check_names(what, known, models)
    if method.name == "fisher":
        state = _fisher(models, shared, each, _statistics(models, method, data, statistics, forward, seed))
    elif method.name == "regmean":
        state = _regmean(models, shared, each, _statistics(models, method, data, statistics, forward, seed))
    elif method.name == "regmean++":
        state = _regmean_plus(models, shared, each, _needed(models, method, data), forward)
    elif method.name == "adamerging":
        state = _adamerging(models, shared, _needed(models, method, data), forward)
    else:
        state = _stored_only(models, method, parameters or {}, each, seed)
    answer = models.answer(state)
    if data is not None and models.modules:
        from conjoin.transfer.merge.learned import plainly, re_estimate

        re_estimate(answer, data, forward=forward or plainly)
    return answer


def greedy_soup(models: Mapping[str, Any] | Sequence[Any], score: Callable[[Any], float] | None) -> Soup[Any]:
    """The greedy soup of models, and which of them are in it (Wortsman et al. 2022, arXiv 2203.05482).

    models: state dicts or torch modules, by name or in order. score: of such a model on held-out data; larger
    is better. Raises InputError.

    >>> near = lambda m: -abs(float(m["w"][0]) - 1.4)
    >>> greedy_soup([{"w": np.ones(1)}, {"w": np.full(1, 5.0)}, {"w": np.full(1, 2.0)}], near).taken
    (0, 2)
    """
    from conjoin.transfer.merge.states import named

    return _soup(models_of(named(models)), score)


def _soup(models: Models, score: Callable[[Any], float] | None) -> Soup[Any]:
    if score is None:
        raise InputError("greedy_soup needs score=, a function of a model that is larger for a better one")

    def mean(some: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        return tuple(i for one in some for i in one)

    def made(numbers: tuple[int, ...]) -> Any:
        names, states = [models.names[i] for i in numbers], [models.states[i] for i in numbers]
        modules = tuple(models.modules[i] for i in numbers) if models.modules else ()
        part = Models(tuple(names), tuple(states), False, modules)
        return part.answer(part.merged(lambda name, t, _: _mean(name, t, None)))

    each: list[tuple[int, ...]] = [(i,) for i in range(models.count)]
    found = greedy(each, mean, lambda numbers: score(made(numbers)))
    return Soup(made(found.model), found.taken, found.scores, found.score)


def _stored_only(
    models: Models, method: Method, parameters: Mapping[str, Any], each: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    weights = each.get("weight")

    def one(name: str, tensors: list[Array], base: Array | None) -> Array:
        if name.endswith(STATISTICS) and method.name not in EXACT:
            some = [*tensors, base] if base is not None and method.most == 1 else tensors
            return _mean(name, some, weights if len(some) == len(tensors) else None)
        return merge_tensors(tensors, method.name, base=base, parameters=parameters, name=name, seed=seed)

    return models.merged(one)


def _mean(name: str, tensors: Sequence[Array], weights: Sequence[float] | None) -> Array:
    """The weighted mean; the plain one where weights are negative or all 0."""
    usable = weights is not None and min(weights) >= 0 and sum(weights) > 0
    given = list(weights or ()) if usable else 1.0
    return merge_tensors(tensors, "linear", parameters={"weight": given}, name=name)


def _check_names(what: str, known: Mapping[str, Any], models: Models) -> None:
    wanted = models.names[: models.count]
    if set(known) != set(wanted):
        raise InputError(
            f"{what} must hold the models' names, {listed(wanted)}, not {listed(known) or 'none'}"
        )


def _needed(models: Models, method: Method, data: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if data is None:
        more = " or statistics=" if method.name in ("fisher", "regmean") else ""
        raise InputError(f"{method.name} needs data={more}: batches of each model's own inputs, by its name")
    if not models.modules:
        raise InputError(f"{method.name} runs the models on data; give torch modules, not state dicts")
    return data


def _statistics(
    models: Models,
    method: Method,
    data: Mapping[str, Any] | None,
    statistics: Mapping[str, Mapping[str, Any]] | None,
    forward: Forward | None,
    seed: int,
) -> list[Mapping[str, Array]]:
    """What each model's inputs say, as given or from data."""
    names = models.names[: models.count]
    if statistics is not None:
        return [{k: np.asarray(v, np.float64) for k, v in statistics[n].items()} for n in names]
    from conjoin.transfer.merge.learned import fishers_of, grams_of, plainly

    known, call = _needed(models, method, data), forward or plainly
    pairs = list(zip(names, models.modules, strict=False))
    if method.name == "fisher":
        return [fishers_of(m, known[n], name=n, forward=call, seed=seed) for n, m in pairs]
    return [grams_of(m, known[n], name=n, forward=call) for n, m in pairs]


def _fisher(
    models: Models, shared: Mapping[str, Any], each: Mapping[str, Any], found: Sequence[Mapping[str, Array]]
) -> dict[str, Any]:
    """normalize: each model's Fishers are scaled to a root mean square of 1, so that a model that is sure of
    everything does not outweigh the others.
    """
    scales = [1 / _size(one) if shared["normalize"] else 1.0 for one in found]

    def one(name: str, tensors: list[Array], _: Array | None) -> Array:
        if name.endswith(STATISTICS) or not all(name in f for f in found):
            return _mean(name, tensors, each["weight"])
        fishers = [f[name] * s for f, s in zip(found, scales, strict=True)]
        with _told(name):
            return fisher(
                [floats(t) for t in tensors], fishers, weights=each["weight"], floor=shared["floor"]
            )

    return models.merged(one)


def _size(fishers: Mapping[str, Array]) -> float:
    """The root mean square of all entries; 1 where all are 0."""
    count = sum(f.size for f in fishers.values())
    total = sum(float(np.vdot(f, f)) for f in fishers.values())
    return float(np.sqrt(total / count)) if total > 0 else 1.0


def _regmean(
    models: Models, shared: Mapping[str, Any], each: Mapping[str, Any], found: Sequence[Mapping[str, Array]]
) -> dict[str, Any]:
    from conjoin.transfer.merge.learned import regmean_layer

    done: dict[str, Array] = {}
    for key in found[0]:
        if all(key in f for f in found) and key in models.states[0]:
            bias = key.removesuffix("weight") + "bias"
            names = [key, *([bias] if bias != key and bias in models.states[0] else [])]
            states = [{n: floats(a) for n, a in zip(names, row, strict=True)} for row in _rows(models, names)]
            with _told(key):
                done |= regmean_layer(
                    key, states, [f[key] for f in found], weights=each["weight"], alpha=shared["alpha"]
                )
    return models.merged(lambda name, t, _: done[name] if name in done else _mean(name, t, each["weight"]))


def _rows(models: Models, names: Sequence[str]) -> list[tuple[Array, ...]]:
    """The named tensors of each model."""
    return list(zip(*(models.arrays(n)[0] for n in names), strict=True))


def _regmean_plus(
    models: Models,
    shared: Mapping[str, Any],
    each: Mapping[str, Any],
    data: Mapping[str, Any],
    forward: Forward | None,
) -> dict[str, Any]:
    from conjoin.transfer.merge.learned import plainly, regmean_plus

    names = models.names[: models.count]
    module = models.answer(models.merged(lambda name, t, _: _mean(name, t, each["weight"])))
    keys = [n for n, _ in module.named_parameters()]
    states = [{n: floats(a) for n, a in zip(keys, row, strict=True)} for row in _rows(models, keys)]
    regmean_plus(
        module, names, states, data, forward=forward or plainly, weights=each["weight"], alpha=shared["alpha"]
    )
    return dict(module.state_dict())


def _adamerging(
    models: Models, shared: Mapping[str, Any], data: Mapping[str, Any], forward: Forward | None
) -> dict[str, Any]:
    from conjoin.transfer.merge.learned import adamerging, plainly

    count = models.count
    module = models.answer(models.merged(lambda name, t, _: _mean(name, t, None)))
    keys = [n for n, _ in module.named_parameters()]
    own = dict(module.named_parameters())
    base = {k: restored(models.arrays(k)[1], own[k]) for k in keys}  # type: ignore[arg-type]
    deltas = [{k: restored(models.arrays(k)[0][i], own[k]) - base[k] for k in keys} for i in range(count)]
    lambdas = adamerging(
        module,
        base,
        deltas,
        models.names[:count],
        data,
        forward=forward or plainly,
        layer_wise=shared["layer_wise"],
        steps=shared["steps"],
        rate=shared["rate"],
        start=shared["start"],
    )
    place = {k: j if shared["layer_wise"] else 0 for j, k in enumerate(keys)}

    def one(name: str, tensors: list[Array], start: Array | None) -> Array:
        if name not in place or start is None:
            return _mean(name, tensors, None)
        weights = {"weight": lambdas[:, place[name]].tolist()}
        return merge_tensors(tensors, "task_arithmetic", base=start, parameters=weights, name=name)

    return models.merged(one)


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Errors inside tell the tensor."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def method_for(name: str) -> Method:
    """A method by name, those that need data or a score among them. Raises InputError."""
    from conjoin.transfer.weights import method_of

    return NEEDING[name][0] if name in NEEDING else method_of(name)


__all__ = ["greedy_soup", "is_module", "merge_in_memory", "method_for"]
