"""`ranx.normalization` over conjoin."""

import functools

from conjoin.fusion.ranking import normalise, pool, to_dict
from conjoin.fusion.ranking.norms import absent, normalised
from ranx import Run, laid, name_of


def one(norm, run):
    outputs, queries = laid([run])
    return Run(to_dict(normalise(outputs[name_of(0)], norm), queries), run.name)


max_norm = functools.partial(one, "max")
sum_norm = functools.partial(one, "sum")
zmuv_norm = functools.partial(one, "zscore")
rank_norm = functools.partial(one, "rank")


def min_max_norm(run, invert=False):
    if invert:
        run = Run({q: {d: -s for d, s in items.items()} for q, items in run.run.items()}, run.name)
    return one("min_max", run)


def borda_norm(runs):
    outputs, queries = laid(runs)
    found = pool(outputs)
    values = normalised(found, "borda")
    table = found.table(values, absent(found, values, "borda"))
    items, cuts = found.candidates.tolist(), zip(queries, found.starts[:-1], found.starts[1:], strict=True)
    places = [(query, slice(a, b)) for query, a, b in cuts]
    return [
        Run({q: dict(zip(items[at], table[at, m].tolist(), strict=True)) for q, at in places}, run.name)
        for m, run in enumerate(runs)
    ]


def norm_switch(name):
    return functools.partial(min_max_norm, invert=name in ("min_max_inverted", "min-max-inverted"))
