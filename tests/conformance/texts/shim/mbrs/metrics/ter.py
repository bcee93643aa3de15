"""TER."""

from conjoin.scores.sentence import translation_edit_rate
from mbrs.metrics.base import Metric


class MetricTER(Metric):
    """Translation edit rate."""

    name = "ter"
    HIGHER_IS_BETTER = False

    def pairs(self, group):
        return translation_edit_rate(group)
