"""Hopeless hypotheses are given up."""

from dataclasses import dataclass, field

import numpy as np
import torch

from conjoin.fusion.texts.sampled import pruned
from mbrs.decoders.mbr import DecoderMBR


class DecoderPruningMBR(DecoderMBR):
    """conjoin's `pruned` on one row."""

    @dataclass
    class Config:
        alpha: float = 0.99
        sampling_scheduler: list = field(default_factory=lambda: [8, 16, 32, 64, 128, 256])
        num_bootstrap_samples: int = 500
        seed: int = 0
        nbest: int = 1

    def decode(self, hypotheses, references, source=None, nbest=1, reference_lprobs=None):
        self.nbest = min(nbest, len(hypotheses))
        return super().decode(hypotheses, references, source, nbest, reference_lprobs)

    def expected(self, hypotheses, references, lprobs):
        sign = 1 if self.metric.HIGHER_IS_BETTER else -1
        table = sign * self.metric.table(hypotheses, references)
        lprobs = torch.zeros(len(references)) if lprobs is None else lprobs
        found = pruned(
            lambda h, r: table[h, r],
            len(hypotheses),
            lprobs.double().softmax(-1).numpy(),
            np.random.default_rng(self.cfg.seed),
            schedule=self.cfg.sampling_scheduler,
            alpha=self.cfg.alpha,
            draws=self.cfg.num_bootstrap_samples,
            keep=self.nbest,
        )
        return sign * found
