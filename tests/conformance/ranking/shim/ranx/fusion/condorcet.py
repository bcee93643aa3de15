"""`ranx.fusion.condorcet`: its tests also ask for two steps inside, candidates and lists of each query."""

from conjoin.fusion.ranking import FUSERS, from_dicts, pool
from ranx import name_of
from ranx.fusion import fused


def condorcet(runs):
    return fused("condorcet", runs, FUSERS["condorcet"])


def get_candidates(runs):
    found = pool(from_dicts({name_of(i): run for i, run in enumerate(runs)}))
    return [found.candidates[a:b].tolist() for a, b in zip(found.starts[:-1], found.starts[1:], strict=True)]


def get_results(runs):
    return [[list(run[query]) for run in runs] for query in runs[0]]
