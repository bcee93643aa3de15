"""crowd-kit's aggregators of labels, each a call of conjoin."""

from __future__ import annotations

import numpy as np
import pandas as pd

from conjoin.fusion.labels import (
    WorkerModel,
    fit_glad_model,
    fit_mace_model,
    kos,
    majority_vote,
    one_coin_dawid_skene,
)
from conjoin.fusion.labels.em import Options
from conjoin.fusion.labels.skene import fit_workers
from conjoin.fusion.labels.spectral import m_msr_skills
from conjoin.fusion.labels.votes import zero_based_skills

from .base import BaseClassificationAggregator, options
from .frames import Frame, accuracy


def skilled(data, skills, on_missing, default):
    """The answers of workers with a skill, and the skills, by crowd-kit's rules for those without one."""
    if default is not None and on_missing != "value":
        raise ValueError("default_skill goes with on_missing_skill='value'")
    missing = ~data["worker"].isin(skills.index)
    if on_missing == "error" and missing.any():
        raise ValueError("workers without a skill")
    if on_missing == "ignore":
        if set(data["task"]) - set(data["task"][~missing]):
            raise ValueError("tasks without a worker of known skill")
        data = data[~missing]
    if on_missing == "value":
        skills = pd.concat([skills, pd.Series(default, index=data["worker"][missing].unique())])
    return data, skills


class MajorityVote(BaseClassificationAggregator):
    defaults = options(default_skill=None, on_missing_skill="error")

    def fit(self, data, skills=None):
        data = data[["task", "worker", "label"]]
        if skills is not None:
            data, skills = skilled(data, skills, self.on_missing_skill, self.default_skill)
        frame = Frame(data)
        if not len(data):
            self.probas_, self.labels_ = frame.probas(np.zeros((0, 0))), frame.best(pd.DataFrame())
            self.skills_ = frame.by_worker([], "skill")
            return self
        weights = None if skills is None else frame.weights(skills)
        self.probas_ = frame.probas(majority_vote(frame.triples, weights=weights))
        self.labels_ = frame.best(self.probas_)
        self.skills_ = accuracy(data, self.labels_)
        return self


class _Weighted(BaseClassificationAggregator):
    """A fit finds skills; predict is a weighted vote."""

    def predict(self, data):
        return self._apply(data).labels_

    def predict_proba(self, data):
        return self._apply(data).probas_

    def fit_predict(self, data, **truth):
        return self.fit(data, **truth).predict(data)

    def fit_predict_proba(self, data, *truth):
        return self.fit(data, *truth).predict_proba(data)

    def _apply(self, data):
        vote = MajorityVote().fit(data, self.skills_)
        self.labels_, self.probas_ = vote.labels_, vote.probas_
        return self


class GoldMajorityVote(_Weighted):
    def fit(self, data, true_labels):
        self.skills_ = accuracy(data, true_labels)
        return self


class Wawa(_Weighted):
    def fit(self, data):
        self.skills_ = accuracy(data, MajorityVote().fit(data).labels_)
        return self


class ZeroBasedSkill(_Weighted):
    defaults = options(n_iter=100, lr_init=1.0, lr_steps_to_reduce=20, lr_reduce_factor=0.5, eps=1e-5)

    def fit(self, data):
        frame = Frame(data)
        steps = (self.n_iter, self.lr_init, self.lr_steps_to_reduce, self.lr_reduce_factor)
        ones = np.ones(len(frame.members))
        self.skills_ = frame.by_worker(zero_based_skills(frame.triples, ones, steps, self.eps), "skill")
        return self


class MMSR(BaseClassificationAggregator):
    defaults = options(n_iter=10000, tol=1e-10)

    def fit(self, data):
        frame = Frame(data)
        start = np.random.RandomState(0).random_sample(len(frame.members))  # crowd-kit's default
        skills = m_msr_skills(frame.triples, self.n_iter, self.tol, start)
        self.skills_ = frame.by_worker(skills, "skill")
        return self

    def predict(self, data):
        return self._apply(data).labels_

    def predict_score(self, data):
        return self._apply(data).scores_

    def fit_predict(self, data):
        return self.fit(data).predict(data)

    def fit_predict_score(self, data):
        return self.fit(data).predict_score(data)

    def _apply(self, data):
        frame = Frame(data)
        votes = frame.triples.counts(self.skills_.to_numpy())
        self.scores_ = frame.probas(votes / votes.sum(axis=1, keepdims=True))
        self.labels_ = frame.best(self.scores_)
        return self


class DawidSkene(BaseClassificationAggregator):
    defaults = options(n_iter=100, tol=1e-5, initial_error_strategy=None)
    variant = "full"

    def fit(self, data, true_labels=None, initial_error=None):
        data = data[["task", "worker", "label"]]
        self.loss_history_ = []
        if not len(data):
            self.probas_, self.errors_ = pd.DataFrame(), pd.DataFrame()
            self.priors_ = pd.Series(dtype=float, name="prior")
            self.labels_ = pd.Series(dtype=float, name="agg_label")
            return self
        frame, strategy = Frame(data), self.initial_error_strategy
        initial = None
        if strategy is not None and initial_error is not None:
            initial = _initial(frame, data, initial_error, strategy)
        chosen = Options(self.n_iter, self.tol, variant=self.variant, strategy=strategy or "assign")
        model, fused, history = fit_workers(
            frame.triples, known=frame.known(true_labels), initial=initial, options=chosen
        )
        if initial is not None and strategy == "addition" and not self.n_iter:
            model = _with_past(model, initial)
        self.probas_, self.loss_history_ = frame.probas(fused), list(history)
        self.labels_ = frame.best(self.probas_)
        self.priors_ = pd.Series(model.prior, index=frame.labels(), name="prior")
        self.errors_ = _errors(frame, data, model, initial_error)
        if self.variant == "one_coin":
            self.skills_ = frame.by_worker(model.skill, "skill")
        return self


class OneCoinDawidSkene(DawidSkene):
    variant = "one_coin"

    def fit_predict(self, data):
        frame = Frame(data)
        fused = one_coin_dawid_skene(frame.triples, n_iter=self.n_iter, tol=self.tol)
        return frame.best(frame.probas(fused))


def _initial(frame, data, initial_error, strategy):
    """A model whose confusions, or answers, are the frame's."""
    width = len(frame.classes)
    pairs = pd.MultiIndex.from_frame(data[["worker", "label"]].drop_duplicates())
    if strategy == "assign":
        if not pairs.isin(initial_error.index).all():
            raise ValueError("All the workers in data should be in initial_error")
        if (initial_error <= 1).all().all() and not np.allclose(initial_error.groupby("worker").sum(), 1.0):
            raise ValueError("The sum of each worker's error matrix in initial_error should be 1.0")
    every = pd.MultiIndex.from_product([frame.index["worker"], frame.index["label"]])
    cells = initial_error[list(frame.index["label"])].reindex(every, fill_value=0.0).to_numpy(dtype=float)
    counts = cells.reshape(len(frame.members), width, width).transpose(0, 2, 1)
    total = counts.sum(axis=2, keepdims=True)
    confusions = np.where(total > 0, counts / np.where(total > 0, total, 1.0), 1.0 / width)
    ones, shares = np.ones(len(frame.members)), np.full(width, 1 / width)
    return WorkerModel(frame.members, frame.classes, shares, confusions, counts, ones)


def _with_past(model, initial):
    """Without a step, crowd-kit shows the matrices with the history in them."""
    answers = model.answers + initial.answers
    confusions = answers / np.maximum(answers.sum(axis=2, keepdims=True), 1e-10)
    return WorkerModel(model.members, model.classes, model.prior, confusions, answers, model.weights)


def _errors(frame, data, model, like):
    """crowd-kit's frame of confusions: a row for each worker and label said, a column for each class."""
    rows = pd.MultiIndex.from_frame(data[["worker", "label"]].drop_duplicates())
    if like is not None and len(like) == len(rows):
        rows = like.index
    workers = pd.Index(frame.index["worker"]).get_indexer(rows.get_level_values("worker"))
    said = pd.Index(frame.index["label"]).get_indexer(rows.get_level_values("label"))
    columns = pd.Index(frame.index["label"])
    return pd.DataFrame(model.confusions[workers, :, said], index=rows, columns=columns)


class GLAD(BaseClassificationAggregator):
    defaults = options(n_iter=100, tol=1e-5, silent=True)

    def fit(self, data):
        frame = Frame(data)
        found = fit_glad_model(frame.triples, n_iter=self.n_iter, tol=self.tol)
        self.probas_ = frame.probas(found.probabilities)
        self.labels_ = frame.best(self.probas_)
        self.alphas_ = frame.by_worker(found.alpha, "alpha")
        self.betas_ = pd.Series(found.beta, index=frame.tasks(), name="beta")
        self.loss_history_ = list(found.history)
        return self

    def _init(self, data):
        self.alphas_, self.betas_, self.priors_ = (pd.Series(dtype=float) for _ in range(3))

    def _join_all(self, data, alphas, betas, priors):
        return data

    def _e_step(self, data):
        self.probas_ = type(self)(n_iter=0).fit(data).probas_
        return data


class MACE(BaseClassificationAggregator):
    defaults = options(n_restarts=10, n_iter=50, method="vb", random_state=0)

    def fit(self, data):
        frame = Frame(data)
        chosen = {name: getattr(self, name) for name in ("n_restarts", "n_iter", "method")}
        found = fit_mace_model(frame.triples, seed=self.random_state, **chosen)
        self.probas_ = frame.probas(found.probabilities)
        self.labels_ = frame.best(self.probas_)
        self.thetas_, self.spamming_ = found.guesses, 1 - found.competence
        return self


class KOS(BaseClassificationAggregator):
    defaults = options(n_iter=100, random_state=0)

    def fit(self, data):
        frame = Frame(data)
        if not len(data):
            self.labels_ = pd.Series([], dtype="O", name="agg_label")
            return self
        fused = kos(frame.triples, n_iter=self.n_iter, seed=self.random_state)
        self.labels_ = frame.best(frame.probas(fused))
        return self
