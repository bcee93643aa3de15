"""What the metrics share: pairs of texts as one row of a group."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch

from conjoin.scores.sentence import Group
from mbrs.functional import expectation


def row(*texts):
    """One row with these texts."""
    return Group(texts, np.arange(len(texts)), np.array([0, len(texts)]))


class Metric(ABC):
    """pairs(group) -> flat D x D numbers; corpus: a name of conjoin's scores."""

    HIGHER_IS_BETTER = True

    @dataclass
    class Config:
        num_workers: int = 8

    def __init__(self, cfg):
        self.cfg = cfg

    @abstractmethod
    def pairs(self, group):
        """Flat D x D numbers of the group's texts."""

    def table(self, hypotheses, references):
        """(H, R) float64."""
        count = len(hypotheses) + len(references)
        found = self.pairs(row(*hypotheses, *references)).reshape(count, count)
        return found[: len(hypotheses), len(hypotheses) :]

    def score(self, hypothesis, reference, source=None):
        return float(self.table([hypothesis], [reference])[0, 0])

    def scores(self, hypotheses, references, sources=None):
        return torch.Tensor([self.score(h, r) for h, r in zip(hypotheses, references, strict=True)])

    def pairwise_scores(self, hypotheses, references, source=None):
        return torch.Tensor(self.table(hypotheses, references))

    def expected_scores(self, hypotheses, references, source=None, reference_lprobs=None):
        return expectation(self.pairwise_scores(hypotheses, references), lprobs=reference_lprobs)

    def corpus_score(self, hypotheses, references_lists, sources=None):
        from conjoin.outputs import Texts
        from conjoin.scores.texts import SCORES

        (references,) = references_lists
        return SCORES[self.name].value(Texts(hypotheses), Texts(references))


class Aggregating(Metric):
    """A metric that also compares with the bag of all references."""

    @abstractmethod
    def bag(self, group, mass):
        """(D,) of each text against all, weighed by mass."""

    def expected_scores_reference_aggregation(
        self, hypotheses, references, source=None, reference_lprobs=None
    ):
        lprobs = torch.zeros(len(references)) if reference_lprobs is None else reference_lprobs
        mass = np.concatenate([np.zeros(len(hypotheses)), lprobs.double().softmax(dim=-1).numpy()])
        return torch.Tensor(self.bag(row(*hypotheses, *references), mass)[: len(hypotheses)])
