"""BLEU."""

from dataclasses import dataclass

from conjoin.scores.sentence import bag_bleu, bleu
from mbrs.metrics.base import Aggregating


class MetricBLEU(Aggregating):
    """Of mbrs' tokenisers there is only 13a."""

    name = "bleu"

    @dataclass
    class Config(Aggregating.Config):
        tokenize: str | None = None
        smooth_method: str = "exp"
        smooth_value: float | None = None
        max_ngram_order: int = 4
        effective_order: bool = True

    def pairs(self, group):
        cfg = self.cfg
        return bleu(
            group,
            order=cfg.max_ngram_order,
            words=cfg.tokenize or "13a",
            smooth=cfg.smooth_method,
            smooth_value=cfg.smooth_value,
            effective_order=cfg.effective_order,
        )

    def bag(self, group, mass):
        return bag_bleu(group, mass, smooth=self.cfg.smooth_method, effective_order=self.cfg.effective_order)
