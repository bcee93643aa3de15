"""GLAD, MACE, the label model, KOS, M-MSR, votes: formulas, peers' numbers, recovery."""

from __future__ import annotations

import numpy as np
import pytest

from conjoin.errors import OutputsError
from conjoin.fusion.labels import (
    Triples,
    binary_relevance,
    dawid_skene,
    fit_glad_model,
    fit_label_model,
    fit_mace_model,
    glad,
    kos,
    label_model,
    m_msr,
    mace,
    majority_vote,
    wawa,
    weighted_vote,
    worker_skill,
    zero_based_skill,
)
from conjoin.fusion.labels.spectral import m_msr_skills
from conjoin.fusion.labels.triples import triples_of
from conjoin.fusion.labels.votes import agreement_with, shares
from conjoin.kernels import labels as kernels
from conjoin.outputs import Labels

YES_NO = ("no", "yes")
SAID = {
    "w1": ["no", "yes", "yes", "yes", "yes"],
    "w2": ["yes", "yes", "no", "yes", "no"],
    "w3": [None, "yes", "no", "yes", "no"],
    "w4": ["yes", "no", "yes", "yes", "no"],
    "w5": ["no", "no", "no", "yes", "no"],
}


def five() -> dict[str, Labels]:
    return {w: Labels.of(s, YES_NO) for w, s in SAID.items()}


def coins(n=500, skills=(0.9, 0.8, 0.7, 0.6, 0.55, 0.5), width=3, seed=0, silent=0.2):
    """Outputs of members who are right with these chances, and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, width, n)
    outputs = {}
    for i, s in enumerate(skills):
        wrong = (truth + rng.integers(1, width, n)) % width
        codes = np.where(rng.random(n) < s, truth, wrong)
        codes[rng.random(n) < silent] = -1
        outputs[f"w{i}"] = Labels(codes, tuple("abc"[:width]))
    return outputs, truth


def right(fused, truth) -> float:
    kept = fused.answered
    return float((fused.labels().codes == truth)[kept].mean())


@pytest.mark.parametrize("fuser", [glad, mace, label_model, m_msr, wawa, zero_based_skill])
def test_models_beat_the_majority(fuser) -> None:
    gains = []
    for seed in range(4):
        outputs, truth = coins(seed=seed)
        gains.append(right(fuser(outputs), truth) - right(majority_vote(outputs), truth))
    assert np.mean(gains) > 0.0
    assert min(gains) > -0.01


def test_kos_beats_the_majority_on_sparse_assignments() -> None:
    rng = np.random.default_rng(0)
    truth, skill = rng.integers(0, 2, 1000), np.where(np.arange(200) % 2, 0.95, 0.5)
    workers = np.concatenate([rng.choice(200, 7, replace=False) for _ in range(1000)])
    tasks = np.repeat(np.arange(1000), 7)
    labels = np.where(rng.random(7000) < skill[workers], truth[tasks], 1 - truth[tasks])
    triples = Triples(tasks, workers, labels, 1000, tuple(map(str, range(200))), YES_NO)
    assert right(kos(triples), truth) > right(majority_vote(triples), truth) + 0.02
    assert np.array_equal(kos(triples, seed=4).values, kos(triples, seed=4).values)


def test_glad_climbs_its_posterior_and_finds_difficulty() -> None:
    rng = np.random.default_rng(1)
    n, members = 1500, 30
    truth, ability = rng.integers(0, 2, n), rng.normal(1, 1, members)
    ease = np.exp(np.where(np.arange(n) % 2, 1.5, -1.5))
    tasks = np.repeat(np.arange(n), 8)
    workers = np.concatenate([rng.choice(members, 8, replace=False) for _ in range(n)])
    chance = 1 / (1 + np.exp(-ability[workers] * ease[tasks]))
    labels = np.where(rng.random(len(tasks)) < chance, truth[tasks], 1 - truth[tasks])
    triples = Triples(tasks, workers, labels, n, tuple(f"w{i:02d}" for i in range(members)), YES_NO)
    found = fit_glad_model(triples, tol=1e-9, n_iter=500)
    assert np.diff(found.history).min() > -1e-8
    assert np.corrcoef(found.alpha, ability)[0, 1] > 0.8
    assert found.beta[1::2].mean() > found.beta[::2].mean() + 0.3
    assert set(found.skill) == set(triples.members)
    later = found.model()({n: o.take(slice(0, 200)) for n, o in triples.outputs().items()})
    assert right(later, truth[:200]) > right(majority_vote(triples), truth) - 0.03


def test_glads_slopes_are_the_derivatives() -> None:
    outputs, _ = coins(n=40)
    triples, _ = triples_of(outputs)
    rng = np.random.default_rng(0)
    alpha, beta = rng.normal(1, 1, 6), rng.normal(1, 1, 40)
    prior, ones, unknown = np.full(3, 1 / 3), np.ones(6), np.full(40, -1)
    slope, curve, answers = np.empty(6), np.empty(6), np.zeros(len(triples))

    def value(a):
        return kernels.glad_pass(
            triples.offsets, triples.workers, triples.labels, prior, ones, unknown,
            a, beta.copy(), np.ones(2), 0, answers.copy(), slope, curve,
        )  # fmt: skip

    value(alpha)
    mine = slope.copy()
    for w in range(6):
        step = np.zeros(6)
        step[w] = 1e-5
        assert mine[w] == pytest.approx(
            (value(alpha + step) - value(alpha - step)) / 2e-5, rel=1e-5, abs=1e-6
        )


def test_glads_first_posterior_is_crowd_kits() -> None:
    """alpha = beta = 1: sigmoid(e) = 0.93812; three say a, one says b."""
    said = {f"w{i}": Labels.of([c], "ab") for i, c in enumerate("aaab")}
    odds = 2 * np.e
    assert glad(said, n_iter=0).values[0, 0] == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-9)
    shares_of = {"a": 0.2, "b": 0.8}
    told = glad(said, n_iter=0, labels_priors=shares_of).values[0, 0]
    assert told == pytest.approx(1 / (1 + 4 * np.exp(-odds)), abs=1e-9)
    with pytest.raises(OutputsError, match="one for each of a, b"):
        glad(said, labels_priors={"a": 1.0})


@pytest.mark.parametrize("method", ["vb", "em"])
def test_mace_finds_spammers(method: str) -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 4, 400)
    outputs = {f"good{i}": Labels(np.where(rng.random(400) < 0.8, truth, 0), tuple("abcd")) for i in range(4)}
    outputs |= {f"spam{i}": Labels(rng.integers(0, 4, 400), tuple("abcd")) for i in range(4)}
    found = fit_mace_model(outputs, method=method)
    skill = dict(zip(found.members, found.competence, strict=True))
    assert min(skill[f"good{i}"] for i in range(4)) > 0.6
    assert max(skill[f"spam{i}"] for i in range(4)) < 0.2
    assert right(found.probabilities, truth) > 0.95
    model = found.model()
    assert right(model({n: o.take(slice(0, 50)) for n, o in outputs.items()}), truth[:50]) > 0.9
    with pytest.raises(OutputsError, match="must be 'vb' or 'em'"):
        mace(outputs, method="gibbs")
    with pytest.raises(OutputsError, match="n_restarts >= 1"):
        mace(outputs, n_restarts=0)


def test_digamma() -> None:
    x = np.array([1e-3, 0.5, 1.0, 2.0, 10.0, 1e4])
    special = pytest.importorskip("scipy.special")
    assert kernels.digammas(x) == pytest.approx(special.digamma(x), rel=1e-12)


def test_the_label_model_finds_accuracies() -> None:
    outputs, truth = coins(n=20_000, skills=(0.85, 0.75, 0.65, 0.6), silent=0.5)
    model = fit_label_model(outputs, l2=1e-3)
    for skill, found in zip((0.85, 0.75, 0.65, 0.6), model.skill.values(), strict=True):
        assert found / 0.5 == pytest.approx(skill, abs=0.06)  # it answers half of the rows
    assert right(model(outputs), truth) >= right(majority_vote(outputs), truth)
    balanced = label_model(outputs, class_balance={"a": 0.98, "b": 0.01, "c": 0.01})
    assert (balanced.labels().codes == 0).mean() > 0.6
    with pytest.raises(OutputsError, match="0 < mu_eps"):
        label_model(outputs, mu_eps=0)


def test_m_msr_is_crowd_kits() -> None:
    """Skills of crowd-kit's own test (five workers, its random start)."""
    tasks, workers, labels = [], [], []
    for w, said in SAID.items():
        for i, label in enumerate(said):
            if label is not None:
                tasks.append(i)
                workers.append(w)
                labels.append(label)
    triples = Triples.of(tasks, workers, labels)
    start = np.random.RandomState(0).random_sample(5)
    wanted = [
        -0.9486439852160969,
        0.9764628672747041,
        1.2428113335479982,
        0.948643985216097,
        0.9764628672747041,
    ]
    assert m_msr_skills(triples, start=start) == pytest.approx(wanted, rel=1e-6)


def test_wawa_and_zero_based_skill_by_hand() -> None:
    triples = Triples.of(
        *zip(*[(i, w, s) for w, ss in SAID.items() for i, s in enumerate(ss) if s], strict=True)
    )
    vote = shares(triples, np.ones(5))
    assert vote[:, 0] == pytest.approx([0.5, 0.4, 0.6, 0.0, 0.8])
    assert agreement_with(triples, vote) == pytest.approx([0.6, 0.8, 1.0, 0.4, 0.8])
    weights = np.array([0.6, 0.8, 1.0, 0.4, 0.8])
    first = wawa(five()).values[0, 0]
    assert first == pytest.approx((weights[0] + weights[4]) / (weights.sum() - weights[2]))
    assert zero_based_skill(five(), n_iter=0).values == pytest.approx(majority_vote(five()).values)


def test_worker_skill_counts_what_the_reference_answers() -> None:
    reference = Labels.of([None, "yes", "no", "maybe", "no"])
    assert worker_skill(five(), reference) == pytest.approx(
        {"w1": 0.25, "w2": 0.75, "w3": 0.75, "w4": 0.25, "w5": 0.5}
    )
    none = Labels.of([None] * 5, YES_NO)
    assert all(np.isnan(s) for s in worker_skill(five(), none).values())
    with pytest.raises(OutputsError, match="1 rows, the workers answered 5"):
        worker_skill(five(), Labels.of(["no"]))


def test_sets_of_labels() -> None:
    said = {
        "w1": [{"house", "tree"}, {"car"}, None],
        "w2": [{"house"}, {"car", "human"}, None],
        "w3": [["house", "tree", "grass"], ["train"], None],
    }
    for fuser in (majority_vote, dawid_skene, wawa, glad):
        found = binary_relevance(said, fuser=fuser)
        assert list(found) == ["car", "grass", "house", "human", "train", "tree"]
        assert [n for n, p in found.items() if p[0] > 0.5] == ["house", "tree"]
        assert [n for n, p in found.items() if p[1] > 0.5] == ["car"]
        assert all(np.isnan(p[2]) for p in found.values())
    with pytest.raises(OutputsError, match="same rows"):
        binary_relevance({"a": [{"x"}], "b": []})
    with pytest.raises(OutputsError, match="no members"):
        binary_relevance({})
    assert binary_relevance({"a": [set()]}) == {}


def test_weighted_votes() -> None:
    weights = {"w1": 0.0, "w2": 1.0, "w3": 5.0, "w4": 1.0, "w5": 1.0}
    found = weighted_vote(five(), weights=weights)
    assert found.values[0] == pytest.approx([1 / 3, 2 / 3])
    assert found.values[1] == pytest.approx([2 / 8, 6 / 8])
