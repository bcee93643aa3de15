"""The n best: conjoin's choice of the best, again and again."""

from dataclasses import dataclass

import numpy as np

from conjoin.fusion.texts.laid import best_slots, lay
from conjoin.outputs import Texts


@dataclass
class Output:
    idx: list
    sentence: list
    score: list


class Selector:
    """Base class."""

    Output = Output

    class Config:
        """Nothing to set."""

    def __init__(self, cfg=None):
        self.cfg = cfg


class SelectorNbest(Selector):
    """Best first."""

    def select(self, hypotheses, expected_scores, nbest=1, source=None, maximize=True, **kwargs):
        values = expected_scores.double().numpy() * (1 if maximize else -1)
        # every hypothesis is a text of its own, whatever it says
        laid = lay({f"{k:09d}": Texts([str(k)]) for k in range(len(hypotheses))})
        found = []
        while len(found) < min(nbest, len(hypotheses)):
            best = int(best_slots(laid, values, np.ones(len(values)))[0])
            found.append(best)
            values[best] = np.nan
        return Output(found, [hypotheses[i] for i in found], [float(expected_scores[i]) for i in found])
