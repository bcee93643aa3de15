"""ROVER's parameters fitted to references: method, alpha, null confidence, weights, worth of confidences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import TruthError
from conjoin.fusion.applied import Applied
from conjoin.fusion.single import Single, guarded, ranked
from conjoin.fusion.texts import rover_words
from conjoin.fusion.texts.rover import candidate_scores, logits, rover
from conjoin.fusion.texts.rover_words import WordNetwork, default_of, lay_out
from conjoin.outputs import Texts

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.scores import FieldScore

ALPHAS = (1.0, 0.75, 0.5, 0.25, 0.0)
NULLS = (0.0, 0.2, 0.4, 0.6, 0.8)
FOLDS = 4
RIDGE = 1.0
BEYOND = 1.645
"""Standard errors by which a setting must win on parts held out: chance alone does so in 5 of 100 cases."""
SHORTLIST = 8
"""So many settings, those with the fewest wrong slots, are tried with the score itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """A word network with its truth.

    right (c,) bool: candidates that the truth says. slots (c,): the slot of each candidate. mass (S,): weight
    of each slot, 0 where the truth is among no candidates. texts (S,): the text of each slot.
    """

    net: WordNetwork
    right: Array
    slots: Array
    mass: Array
    texts: Array

    def wrong(self, scores: Array) -> Array:
        """(S,) weight of the slots whose best candidate is not what the truth says."""
        return np.where(self.right[self.net.winners(scores)], 0.0, self.mass)


def fit_rover(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: FieldScore | None = None,
    seed: int = 0,
    ridge: float = RIDGE,
) -> Any:
    """The setting of `rover` with the least loss on the truth.

    Systems are aligned best first. Tried are all methods, alphas and null confidences of a grid, with equal
    weights and with weights of 1 - error rate, and the log-odds of `method="logodds"`: a conditional logistic
    regression over slots with a ridge, which must win on texts held out (4 parts). The truth is aligned to
    the network as one more system; settings with the fewest wrong slots are then tried with `score` (by
    default word error rate for speech, else that of texts). weights: (n,) of rows. seed has no influence.
    Gives an `Applied`, or `Single` where the best system does better, on the rows fitted to or in slots held
    out. Raises OutputsError and TruthError.
    """
    score = score or default_of(outputs)
    if not isinstance(truth, Texts):
        raise TruthError(f"texts are fitted to a truth of texts, not {getattr(truth, 'kind', truth)}")
    losses = ranked(outputs, truth, score, weights)
    order = list(losses)
    mass = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)
    taught = align_truth(outputs, truth, order, mass * truth.answered)
    settings = [*_grid(taught, losses), *_log_odds(taught, ridge)]
    if not _holds(taught, settings):
        return Single(tuple(order))
    best = sorted(range(len(settings)), key=lambda k: (settings[k][0].sum(), k))[:SHORTLIST]
    tried = []
    for k in best:
        _, shares, options = settings[k]
        answer = rover(outputs, weights=shares, order=order, **options)
        tried.append((score.loss(answer, truth, weights), k))
    _, chosen = min(tried)
    _, shares, options = settings[chosen]
    fuser = Applied("texts", "rover", shares, {**options, "order": list[Any](order)})
    return guarded(fuser, outputs, truth, score, weights)


def align_truth(outputs: Mapping[str, Any], truth: Texts, order: Sequence[str], mass: Array) -> Taught:
    """The systems' network, and which of its candidates the truth says; mass (n,) of texts."""
    words = lay_out(outputs, order=order)
    M = len(words.names)
    both = rover_words.joined_words([*((n, outputs[n]) for n in words.names), ("", truth)])
    both = replace(both, ranks=np.vstack([words.ranks, np.full((1, words.texts), M)]))
    full = rover_words.network_of(both)
    texts = np.repeat(np.arange(words.texts), np.diff(full.offsets))
    kept = np.flatnonzero((full.net[:, :M] >= 0).any(axis=1))
    heard = rover_words.first_systems(both, words)
    turns = full.turns[kept]
    turns = np.take_along_axis(turns, np.argsort((turns == M) | (turns < 0), axis=1, kind="stable"), axis=1)
    turns = np.where(turns == M, -1, turns)[:, :M]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(texts[kept], minlength=words.texts))])
    net = rover_words.with_candidates(
        heard, np.ascontiguousarray(full.net[kept, :M]), np.ascontiguousarray(turns), offsets
    )
    said = full.net[kept, M]
    true = np.where(said >= 0, both.numbers[said], 0)
    slots = np.repeat(np.arange(len(kept)), np.diff(net.cuts))
    right = np.where(net.first >= 0, both.numbers[net.first], 0) == true[slots]
    known = np.bincount(slots, right, minlength=len(kept)) > 0
    return Taught(net, right, slots, mass[texts[kept]] * known, texts[kept])


Setting = tuple["Array", dict[str, float], dict[str, Any]]
"""Weight of wrong slots (S,), weights of systems, options of `rover`."""


def _holds(taught: Taught, settings: Sequence[Setting]) -> bool:
    """Whether the setting chosen on 3 of 4 parts beats the system chosen so, on the fourth, beyond chance.

    Taken over all 4 parts: wrong slots, by BEYOND standard errors of the difference over texts.
    """
    net = taught.net
    names = net.words.names
    blank = np.zeros(len(net.words.spelled))
    alone = []
    for m in range(len(names)):
        votes = net.tallies(blank, np.zeros(len(names)), np.arange(len(names)) == m)[0]
        alone.append(taught.wrong(votes))
    part = taught.texts % FOLDS
    gain = _held_out(np.array(alone), part) - _held_out(np.array([s[0] for s in settings]), part)
    of_text = np.bincount(taught.texts, gain, minlength=net.words.texts)
    error = float(np.std(of_text, ddof=1)) * len(of_text) ** 0.5 if len(of_text) > 1 else 0.0
    return float(of_text.sum()) > BEYOND * error


def _held_out(wrong: Array, part: Array) -> Array:
    """wrong (k, S): the weight of wrong slots; gives (S,), each part by what was best on the others."""
    out = np.zeros(wrong.shape[1])
    for fold in range(FOLDS):
        best = int(wrong[:, part != fold].sum(axis=1).argmin())
        out[part == fold] = wrong[best, part == fold]
    return out


def _grid(taught: Taught, losses: Mapping[str, float]) -> list[Setting]:
    names = taught.net.words.names
    equal = dict.fromkeys(names, 1.0)
    worst = max([1.0, *(v for v in losses.values() if np.isfinite(v))])
    by_rate = {n: max(0.01, 1.0 - losses[n] / worst) if np.isfinite(losses[n]) else 0.01 for n in names}
    found: list[Setting] = []
    for shares in (equal, by_rate):
        net = replace(
            taught.net, words=replace(taught.net.words, shares=np.array([shares[n] for n in names]))
        )
        for method in ("avgconf", "meth1", "maxconf"):
            for alpha in ALPHAS if method == "avgconf" else ALPHAS[1:]:
                for null in NULLS if alpha < 1 else NULLS[:1]:
                    wrong = taught.wrong(candidate_scores(net, method, alpha, null))
                    options = {"method": method, "alpha": alpha, "null_confidence": null}
                    found.append((wrong, shares, options))
    return found


def _log_odds(taught: Taught, ridge: float) -> list[Setting]:
    names = taught.net.words.names
    X = evidence_features(taught.net)
    if not taught.mass.any():
        return []
    part = taught.texts % FOLDS
    wrong = np.zeros(len(taught.mass))
    for fold in range(FOLDS):
        w = conditional_logit(X, taught.right, taught.slots, np.where(part == fold, 0.0, taught.mass), ridge)
        wrong = np.where(part == fold, taught.wrong(X @ w), wrong)
    w = conditional_logit(X, taught.right, taught.slots, taught.mass, ridge).reshape(3, -1)
    evidence = {name: w[:, m].tolist() for m, name in enumerate(names)}
    return [(wrong, dict.fromkeys(names, 1.0), {"method": "logodds", "evidence": evidence})]


def evidence_features(net: WordNetwork) -> Array:
    """(c, 3 M): for each system whether it says the candidate, with which logit, and whether that is silence.

    The score of `method="logodds"` is linear in them.
    """
    words = net.words
    M, c = len(words.names), len(net.first)
    sure = logits(words.confidences)
    out = np.zeros((c, 3, M))
    for m in range(M):
        at = net.cuts[:-1] + net.of[:, m]
        said, silent = net.net[:, m] >= 0, net.net[:, m] == -1
        out[at[said], 0, m] = 1.0
        out[at[said], 1, m] = sure[net.net[said, m]]
        out[at[silent], 2, m] = 1.0
    return out.reshape(c, 3 * M)


def conditional_logit(
    X: Array, right: Array, slots: Array, mass: Array, ridge: float, steps: int = 50
) -> Array:
    """Weights w (K,) of the likeliest choice: P(candidate) = softmax of X w over its slot (McFadden 1974).

    X (c, K); right (c,): the candidate chosen in each slot; slots (c,) rising; mass (S,) of slots. Minimises
    -sum mass log P + ridge |w|^2 / 2 by Newton's method.
    """
    kept = mass[slots] > 0
    X, right = X[kept], right[kept].astype(np.float64)
    w = np.zeros(X.shape[1])
    if not len(X):
        return w
    _, group = np.unique(slots[kept], return_inverse=True)
    starts = np.flatnonzero(np.r_[True, np.diff(group) > 0])
    share = mass[slots[kept]]
    right = right / np.bincount(group, right)[group]
    for _ in range(steps):
        z = X @ w
        odds = np.exp(z - np.maximum.reduceat(z, starts)[group])
        p = odds / np.bincount(group, odds)[group]
        mean = np.add.reduceat(X * p[:, None], starts)
        slope = X.T @ (share * (right - p)) - ridge * w
        bend = (X * (share * p)[:, None]).T @ X - (mean * share[starts][:, None]).T @ mean
        step = np.linalg.solve(bend + ridge * np.eye(len(w)), slope)
        size = float(np.abs(step).max())
        w = w + step * min(1.0, 5.0 / max(size, 1e-12))
        if size < 1e-9:
            break
    return w
