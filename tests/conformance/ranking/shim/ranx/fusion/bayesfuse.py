"""`ranx.fusion.bayesfuse`."""

from conjoin.fusion.ranking import from_dict
from conjoin.fusion.ranking.judged import judged
from conjoin.fusion.ranking.positions import CUTS, log_odds
from ranx.fusion import by_positions, task


def bayesfuse_train(qrels, runs):
    return list(log_odds(task(qrels, runs)).values())


def bayesfuse(runs, odds):
    return by_positions("bayesfuse", runs, odds)


def _estimate_log_odds(hit_lists, cut_offs):
    assert list(cut_offs) == CUTS.tolist()
    qrels, run = hit_lists
    return log_odds(judged({"run": from_dict(run)}, from_dict(qrels)))["run"]
