"""Every hypothesis against every reference."""

import torch

from mbrs.selectors import SelectorNbest


class DecoderMBR:
    """`expected` gives (H,) scores."""

    class Config:
        """Nothing to set."""

    def __init__(self, cfg, metric, selector=None):
        self.cfg, self.metric, self.selector = cfg, metric, selector or SelectorNbest()

    def expected(self, hypotheses, references, lprobs):
        return self.metric.expected_scores(hypotheses, references, reference_lprobs=lprobs)

    def decode(self, hypotheses, references, source=None, nbest=1, reference_lprobs=None):
        scores = torch.as_tensor(self.expected(hypotheses, references, reference_lprobs))
        better = self.metric.HIGHER_IS_BETTER
        return self.selector.select(hypotheses, scores, nbest=nbest, maximize=better)
