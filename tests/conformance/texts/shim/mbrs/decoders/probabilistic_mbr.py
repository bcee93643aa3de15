"""Some comparisons, the others filled in."""

from dataclasses import dataclass

import numpy as np
import torch

from conjoin.fusion.texts.sampled import completed
from mbrs.decoders.mbr import DecoderMBR
from mbrs.functional import expectation


class DecoderProbabilisticMBR(DecoderMBR):
    """conjoin's `completed` on one row."""

    @dataclass
    class Config:
        reduction_factor: float = 8.0
        regularization_weight: float = 0.1
        rank: int = 8
        niter: int = 10
        seed: int = 0

    def expected(self, hypotheses, references, lprobs):
        table = self.metric.table(hypotheses, references)
        found = completed(
            lambda h, r: table[h, r],
            table.shape,
            np.random.default_rng(self.cfg.seed),
            reduction=self.cfg.reduction_factor,
            rank=self.cfg.rank,
            penalty=self.cfg.regularization_weight,
            steps=self.cfg.niter,
        )
        return expectation(torch.Tensor(found), lprobs=lprobs)
