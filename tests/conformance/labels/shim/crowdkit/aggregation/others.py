"""crowd-kit's aggregators of comparisons, of sets of labels and of segmentations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from conjoin.fusion.labels import Comparisons, Triples, bradley_terry, majority_vote, noisy_bradley_terry

from .base import BaseClassificationAggregator, options
from .classification import MajorityVote, skilled


class BradleyTerry(BaseClassificationAggregator):
    defaults = options(n_iter=100, tol=1e-5)

    def fit(self, data):
        found = bradley_terry(comparisons(data)[0], n_iter=self.n_iter, tol=self.tol)
        if not found.items:
            self.scores_ = pd.Series([], dtype=np.float64, name="agg_score")
        else:
            self.scores_ = pd.Series(found.scores, index=comparisons(data)[1], name="agg_score")
        return self

    def fit_predict(self, data):
        return self.fit(data).scores_


class NoisyBradleyTerry(BradleyTerry):
    defaults = options(n_iter=100, tol=1e-5, regularization_ratio=1e-5, random_state=0)

    def fit(self, data):
        cases, items = comparisons(data)
        found = noisy_bradley_terry(cases, n_iter=self.n_iter, tol=self.tol)
        self.scores_ = pd.Series(found.scores, index=pd.Index(items, name="label"), name="agg_score")
        workers = pd.Index(found.members, name="worker")
        self.skills_ = pd.Series(found.skills, index=workers, name="skill")
        self.biases_ = pd.Series(found.biases, index=workers, name="bias")
        return self


def comparisons(data):
    """The comparisons of a frame, and the names of the items."""
    items = np.unique(data[["left", "right"]].to_numpy().ravel().astype(object))
    return Comparisons.of(data["left"], data["right"], data["label"], data["worker"]), items


class BinaryRelevance:
    def __init__(self, base_aggregator=None):
        self.base_aggregator = base_aggregator or MajorityVote()
        assert isinstance(self.base_aggregator, BaseClassificationAggregator)

    def fit_predict(self, data):
        data = data[["task", "worker", "label"]]
        found = {}
        for label in sorted({c for labels in data["label"] for c in labels}):
            said = data[["task", "worker"]].assign(label=[int(label in labels) for labels in data["label"]])
            for task, has in self.base_aggregator.clone().fit_predict(said).items():
                found.setdefault(task, []).extend([label] * int(has))
        if not found:
            return pd.Series(dtype=float, name="agg_label")
        return pd.Series(found, name="agg_label").rename_axis("task")


class SegmentationMajorityVote(BaseClassificationAggregator):
    """Each pixel is a task."""

    defaults = options(default_skill=None, on_missing_skill="error")

    def fit_predict(self, data, skills=None):
        if skills is None:
            skills = pd.Series(1.0, index=data["worker"].unique())
        data, skills = skilled(data, skills, self.on_missing_skill, self.default_skill)
        found = {task: self._one(part, skills) for task, part in data.groupby("task")}
        return pd.Series(found, name="agg_segmentation").rename_axis("task")

    def _one(self, part, skills):
        masks = np.array([np.asarray(m, dtype=int) for m in part["segmentation"]])
        n, size = len(masks), masks[0].size
        members = tuple(map(str, range(n)))
        triples = Triples(
            np.tile(np.arange(size), n),
            np.repeat(np.arange(n), size),
            masks.ravel(),
            size,
            members,
            ("0", "1"),
        )
        weights = skills.reindex(part["worker"]).to_numpy()
        fused = majority_vote(triples, weights=dict(zip(members, weights, strict=True)))
        return (fused.values[:, 1] >= 0.5).reshape(masks[0].shape)
