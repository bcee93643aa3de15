"""chrF. `fastchrf` changes nothing but what mbrs refuses with it."""

from dataclasses import dataclass

from conjoin.scores.sentence import bag_chrf, chrf
from mbrs.metrics.base import Aggregating


class MetricChrF(Aggregating):
    """chrF, and chrF++ with word_order=2."""

    name = "chrf"

    @dataclass
    class Config(Aggregating.Config):
        char_order: int = 6
        word_order: int = 0
        beta: int = 2
        whitespace: bool = False
        eps_smoothing: bool = False
        fastchrf: bool = False

        def __post_init__(self):
            if self.fastchrf and self.word_order:
                raise ValueError("fastchrf has no word n-grams")

    def pairs(self, group):
        cfg = self.cfg
        return chrf(
            group,
            order=cfg.char_order,
            word_order=cfg.word_order,
            beta=cfg.beta,
            whitespace=cfg.whitespace,
            eps=cfg.eps_smoothing,
        )

    def bag(self, group, mass):
        return bag_chrf(group, mass, word_order=self.cfg.word_order)

    def expected_scores_reference_aggregation(
        self, hypotheses, references, source=None, reference_lprobs=None
    ):
        if self.cfg.fastchrf and reference_lprobs is not None:
            raise ValueError("fastchrf has no weights of references")
        return super().expected_scores_reference_aggregation(hypotheses, references, source, reference_lprobs)
