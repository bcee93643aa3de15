"""Metrics that need no model."""

from mbrs.metrics.bleu import MetricBLEU
from mbrs.metrics.chrf import MetricChrF
from mbrs.metrics.ter import MetricTER


class MetricCOMET:
    """A name that tests import; COMET needs a model."""


def get_metric(name):
    return {"bleu": MetricBLEU, "chrf": MetricChrF, "ter": MetricTER}[name]


__all__ = ["MetricBLEU", "MetricCOMET", "MetricChrF", "MetricTER", "get_metric"]
