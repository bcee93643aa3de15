"""`ranx.normalization` over conjoin."""

import functools

from conjoin.fusion.ranking import pool
from conjoin.fusion.ranking.norms import absent, normalised
from ranx import Run, laid


def tabulated(runs, norm):
    outputs, queries = laid(runs)
    found = pool(outputs)
    values = normalised(found, norm)
    table = found.table(values, absent(found, values, norm))
    items = found.candidates.tolist()
    cuts = list(zip(found.starts[:-1], found.starts[1:], strict=True))
    for m, run in enumerate(runs):
        kept = {}
        for query, (a, b) in zip(queries, cuts, strict=True):
            each = zip(items[a:b], table[a:b, m].tolist(), strict=True)
            kept[query] = {item: v for item, v in each if v == v}
        yield Run(kept, run.name)


def one(norm, run):
    return next(tabulated([run], norm))


max_norm = functools.partial(one, "max")
sum_norm = functools.partial(one, "sum")
zmuv_norm = functools.partial(one, "zscore")
rank_norm = functools.partial(one, "rank")


def min_max_norm(run, invert=False):
    if invert:
        run = Run({q: {d: -s for d, s in items.items()} for q, items in run.run.items()}, run.name)
    return one("min_max", run)


def borda_norm(runs):
    return list(tabulated(runs, "borda"))


def norm_switch(name):
    return functools.partial(min_max_norm, invert=name in ("min_max_inverted", "min-max-inverted"))
