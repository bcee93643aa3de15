"""`ranx.fusion` over conjoin."""

from conjoin.fusion import ranking as fusers
from conjoin.fusion.ranking import positions
from conjoin.fusion.ranking.judged import judged
from ranx import Run, laid, name_of


def fused(name, runs, fuser, weights=None, **options):
    outputs, queries = laid(runs)
    if weights is not None:
        options["weights"] = {name_of(i): w for i, w in enumerate(weights)}
    return Run(fusers.to_dict(fuser(outputs, **options), queries), name)


def task(qrels, runs):
    outputs, queries = laid(runs)
    return judged(outputs, fusers.from_dict(qrels.run, queries))


def by_positions(method, runs, numbers, **options):
    return fused(
        method, runs, positions.Positions(method, {name_of(i): n for i, n in enumerate(numbers)}, **options)
    )


def comb_sum(runs):
    return fused("comb_sum", runs, fusers.comb_sum, norm=None)


def comb_mnz(runs):
    return fused("comb_mnz", runs, fusers.comb_mnz, norm=None)


def comb_gmnz(runs, gamma):
    return fused("comb_gmnz", runs, fusers.comb_gmnz, norm=None, gamma=gamma)


def comb_anz(runs):
    return fused("comb_anz", runs, fusers.comb_anz, norm=None)


def comb_max(runs):
    return fused("comb_max", runs, fusers.comb_max, norm=None)


def comb_min(runs):
    return fused("comb_min", runs, fusers.comb_min, norm=None)


def comb_med(runs):
    return fused("comb_med", runs, fusers.comb_med, norm=None)


def wsum(runs, weights):
    return fused("weighted_sum", runs, fusers.weighted_sum, weights, norm=None)


def wmnz(runs, weights):
    return fused("wmnz", runs, fusers.wmnz, weights, norm=None)


def mixed(runs, weights):
    return fused("mixed", runs, fusers.mixed, weights, norm=None)


def rrf(runs, k=60):
    return fused("rrf", runs, fusers.rrf, k=k)


def isr(runs):
    return fused("isr", runs, fusers.isr)


def log_isr(runs):
    return fused("log_isr", runs, fusers.FUSERS["log_isr"])


def logn_isr(runs, sigma=0.01):
    return fused("logn_isr", runs, fusers.FUSERS["logn_isr"], sigma=sigma)


def rbc(runs, phi):
    return fused("rbc", runs, fusers.rbc, phi=phi)


def bordafuse(runs):
    return fused("bordafuse", runs, fusers.borda)


def weighted_bordafuse(runs, weights):
    return fused("weighted_bordafuse", runs, fusers.borda, weights)


def weighted_condorcet(runs, weights):
    return fused("weighted_condorcet", runs, fusers.condorcet, weights)


def probfuse_train(qrels, runs, n_segments):
    return list(positions.in_equal_parts(task(qrels, runs), n_segments).values())


def probfuse(runs, probs):
    return by_positions("probfuse", runs, probs)


def segfuse_train(qrels, runs):
    return list(positions.in_doubling_parts(task(qrels, runs)).values())


def segfuse(runs, probs):
    return by_positions("segfuse", runs, probs, norm=None)


def posfuse_train(qrels, runs):
    return list(positions.by_position(task(qrels, runs)).values())


def posfuse(runs, probs):
    return by_positions("posfuse", runs, probs)


slidefuse_train = posfuse_train


def slidefuse(runs, probs, w):
    return by_positions("slidefuse", runs, probs, window=w)


def mapfuse_train(qrels, runs):
    return [float(p[0]) for p in positions.precisions(task(qrels, runs)).values()]


def mapfuse(runs, map_scores):
    return by_positions("mapfuse", runs, map_scores)


from ranx.fusion.bayesfuse import bayesfuse as bayesfuse  # noqa: E402
from ranx.fusion.condorcet import condorcet as condorcet  # noqa: E402
