"""The estimators: outputs of the pool become conjoin outputs, X becomes the batch."""

import sys
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import BaggingClassifier, BaseEnsemble
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from conjoin.fusion.dynamic import fit_dynamic
from conjoin.outputs import Labels, Probabilities

NAMES = {"DFP": "dfp", "with_IH": "with_ih", "IH_rate": "ih_rate", "Kp": "kp", "Hc": "hc"}
NAMES |= {"selection_threshold": "threshold", "selection_method": "selection"}
NOT_OURS = ("random_state", "knn_classifier", "knn_metric", "DSEL_perc", "n_jobs")
faiss_knn_wrapper = sys.modules[__name__]


def is_available():
    """faiss is not used."""
    return False


class _Dynamic(ClassifierMixin, BaseEstimator):
    rule = ""
    defaults: ClassVar[dict] = {}

    def __init__(self, pool_classifiers=None, **options):
        self.pool_classifiers, self.options = pool_classifiers, options

    def fit(self, X, y):
        pool, rng = self.pool_classifiers, check_random_state(self.options.get("random_state"))
        if pool is None:
            share = self.options.get("DSEL_perc", 0.5)
            X_train, X, y_train, y = train_test_split(X, y, test_size=share, random_state=rng)
            pool = BaggingClassifier(random_state=rng).fit(X_train, y_train)
        self.pool_ = pool
        self.classes_ = np.unique(y)
        encoded = isinstance(pool, BaseEnsemble) and not np.array_equal(pool.classes_, pool[0].classes_)
        self.base_classes_ = np.arange(len(self.classes_)) if encoded else self.classes_
        self.features_ = getattr(pool, "estimators_features_", [slice(None)] * len(pool))
        given = {NAMES.get(n, n): v for n, v in self.options.items() if n not in NOT_OURS}
        given = {"rule": self.rule, "voting": "hard", **self.defaults, **given}
        truth = Labels(np.searchsorted(self.classes_, y), self._names)
        fitted = {"batch": {"x": X}, "standardise": False, "guard": False}
        self.hard_ = fit_dynamic(self._votes(X), truth, **fitted, **given)
        self.soft_ = None
        if all(hasattr(c, "predict_proba") for c in pool):
            self.soft_ = fit_dynamic(self._probabilities(X), truth, **fitted, **given)
        self.needs_proba_ = given["voting"] == "soft" or self.rule in ("meta_des", "knop")
        return self

    @property
    def _names(self):
        return [str(c) for c in self.classes_]

    def _pool(self):
        return ((f"{m:04d}", c, self.features_[m]) for m, c in enumerate(self.pool_))

    def _votes(self, X):
        at = ((n, np.searchsorted(self.base_classes_, c.predict(X[:, f]))) for n, c, f in self._pool())
        return {n: Labels(codes, self._names) for n, codes in at}

    def _probabilities(self, X):
        return {n: Probabilities(c.predict_proba(X[:, f]), self._names) for n, c, f in self._pool()}

    def predict(self, X):
        if self.needs_proba_:
            return self.classes_[self.predict_proba(X).argmax(axis=1)]
        return self.classes_[self.hard_(self._votes(X), batch={"x": X}).values.argmax(axis=1)]

    def predict_proba(self, X):
        return self.soft_(self._probabilities(X), batch={"x": X}).values


def _estimator(name, rule, **defaults):
    return type(name, (_Dynamic,), {"rule": rule, "defaults": defaults})


KNORAE = _estimator("KNORAE", "knora_e")
KNORAU = _estimator("KNORAU", "knora_u", mode="weighting")
METADES = _estimator("METADES", "meta_des")
DESP = _estimator("DESP", "des_p")
DESKNN = _estimator("DESKNN", "des_knn")
KNOP = _estimator("KNOP", "knop", mode="weighting")
# rules that select one member answer with its probabilities
OLA = _estimator("OLA", "ola", voting="soft")
LCA = _estimator("LCA", "lca", voting="soft")
MLA = _estimator("MLA", "mla", voting="soft")
MCB = _estimator("MCB", "mcb", voting="soft", selection="diff")
Rank = _estimator("Rank", "rank", voting="soft")


class _Absent:
    """A rule that conjoin does not have; its tests are not run."""

    def __init__(self, *given, **options):
        raise TypeError("conjoin has no rule of this name")


APosteriori = APriori = DESClustering = RRC = MinimumDifference = DESKL = DESMI = _Absent
Oracle = SingleBest = StackedClassifier = StaticSelection = _Absent
