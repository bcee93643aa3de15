"""From crowd-kit's frames to conjoin's triples, and back."""

from __future__ import annotations

import numpy as np
import pandas as pd

from conjoin.fusion.labels import Triples, worker_skill
from conjoin.outputs import Labels


class Frame:
    """A frame of task, worker, label as triples; names are kept in indexes, codes are sorted by name."""

    def __init__(self, data):
        data = data[["task", "worker", "label"]]
        codes = {}
        self.index = {}
        for name in data.columns:
            codes[name], self.index[name] = pd.factorize(data[name], sort=True)
        self.members = tuple(f"{i:09d}" for i in range(len(self.index["worker"])))
        self.classes = tuple(map(str, range(len(self.index["label"]))))
        self.triples = Triples(
            codes["task"],
            codes["worker"],
            codes["label"],
            len(self.index["task"]),
            self.members,
            self.classes,
        )

    def tasks(self):
        return pd.Index(self.index["task"], name="task")

    def labels(self):
        return pd.Index(self.index["label"], name="label")

    def probas(self, fused):
        values = getattr(fused, "values", fused)
        return pd.DataFrame(np.asarray(values), index=self.tasks(), columns=self.labels())

    def best(self, probas):
        if not probas.size:
            return pd.Series([], dtype="O", name="agg_label")
        at = probas.to_numpy().argmax(axis=1)
        return pd.Series(self.labels()[at], index=probas.index, name="agg_label")

    def by_worker(self, values, name):
        if isinstance(values, dict):
            values = [values[m] for m in self.members]
        return pd.Series(values, index=pd.Index(self.index["worker"], name="worker"), name=name, dtype=float)

    def weights(self, skills):
        return dict(zip(self.members, skills.reindex(self.index["worker"]).to_numpy(), strict=True))

    def known(self, true_labels):
        """`Labels` of the tasks from a series, or None."""
        if true_labels is None:
            return None
        found = true_labels.reindex(self.index["task"])
        codes = pd.Index(self.index["label"]).get_indexer(found)
        return Labels(codes, self.classes)


def accuracy(data, truth):
    """Each worker's share of right answers; of several truths of a task, one suffices."""
    data = data[["task", "worker", "label"]]
    pairs = set(zip(truth.index, truth, strict=True))
    told = data[data["task"].isin(truth.index)]
    right = [pair in pairs for pair in zip(told["task"], told["label"], strict=True)]
    workers = [str(w) for w in told["worker"]]
    triples = Triples.of(range(len(told)), workers, [["no", "yes"][r] for r in right], classes=("no", "yes"))
    skill = worker_skill(triples, Labels(np.ones(len(told), dtype=int), ("no", "yes")))
    index = pd.Index(sorted(told["worker"].unique()), name="worker")
    return pd.Series([skill[str(w)] for w in index], index=index, name="skill", dtype=float)
